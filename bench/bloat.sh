#!/bin/bash
# Many updates of few profiles, with autovacuum as it comes: how large the tables become, beside the same rows written
# afresh. Fails when materialized_profiles is 3 times that, or larger. Nothing of the machine's own PostgreSQL changes.
#
#   bench/bloat.sh [updates] [customers] [events per transaction] [sessions]
set -uo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number number' "$@"
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh
. bench/lib.sh
updates=${1:-2000000}
customers=${2:-10000}
batch=${3:-500}
sessions=${4:-2}

die()
{
	echo "$1" >&2
	exit 1
}

size() { sql "SELECT pg_total_relation_size('$1')"; }
mb() { awk -v bytes="$1" 'BEGIN {printf "%.1f MB", bytes / 1048576}'; }

private_postgresql
build_copy WERROR=yes || die 'the build failed'
start_server 'shared_buffers = 256MB' 'max_wal_size = 4GB' 'synchronous_commit = off' 'max_locks_per_transaction = 256' ||
	die 'the server did not start'
sql 'CREATE EXTENSION profile_stream'
# an event each, of the kinds that keep samples and that do not
cat >"$work/load.sql" <<END
SELECT count(profile_stream.apply_events(e)) FROM (SELECT array_agg(jsonb_build_object('eventId', gen_random_uuid(), 'customerId', 'c' || c,
	'eventType', 'transaction.completed', 'payload', jsonb_build_object('amount', c), 'timestamp', '2026-01-01T00:00:00Z')) AS e
	FROM generate_series(1, $customers) c GROUP BY c / 1000) b
END
cat >"$work/update.sql" <<END
\set hour random(0, 500)
SELECT count(profile_stream.apply_events(e)) FROM (SELECT array_agg(jsonb_build_object('eventId', gen_random_uuid(),
	'customerId', 'c' || 1 + floor(random() * $customers)::int, 'eventType', (ARRAY['transaction.completed', 'session.started', 'page.viewed'])[1 + n % 3],
	'payload', jsonb_build_object('amount', n, 'channel', 'app'), 'timestamp', timestamptz '2026-01-02' + :hour * interval '1 hour')) AS e
	FROM generate_series(1, $batch) n) b
END
run() { "$bindir/pgbench" -n -h "$work" -U postgres -d postgres "$@" >"$work/pgbench.log" 2>&1 || die "$(tail -3 "$work/pgbench.log")"; }
run -t 1 -f "$work/load.sql"
sql 'VACUUM FULL profile_stream.materialized_profiles'
loaded=$(size profile_stream.materialized_profiles)
begun=$(date +%s)
run -c "$sessions" -j "$sessions" -t $((updates / batch / sessions)) -f "$work/update.sql"
seconds=$(($(date +%s) - begun))
used=$(size profile_stream.materialized_profiles)
until [ "$(sql "SELECT coalesce(sum(n_tup_upd), 0) > 0 FROM pg_stat_user_tables WHERE relid = 'profile_stream.materialized_profiles'::regclass")" = t ]; do sleep 0.2; done
statistics=$(sql "SELECT format('%s row versions written (%s %% HOT), %s autovacuums', n_tup_upd, round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1), autovacuum_count)
	FROM pg_stat_user_tables WHERE relid = 'profile_stream.materialized_profiles'::regclass")
rows=$(sql 'SELECT count(*) FROM profile_stream.materialized_profiles')
history=$(($(dedupe_bytes) + $(size profile_stream_internal.window_chunks)))
sql 'VACUUM FULL profile_stream.materialized_profiles'
fresh=$(size profile_stream.materialized_profiles)

echo "$updates updates of $customers profiles, $batch a transaction, $sessions sessions, ${seconds} s: $statistics"
echo "materialized_profiles: $(mb "$loaded") with an event each; $(mb "$used") after the updates; $(mb "$fresh") with the same $rows rows written afresh"
echo "de-duplication and window_chunks: $(mb "$history")"
awk -v used="$used" -v fresh="$fresh" 'BEGIN {printf "ratio %.2f of the rows written afresh; at most 3\n", used / fresh; exit used >= 3 * fresh}'
