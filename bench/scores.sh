#!/bin/bash
# Scores profiles, first alone and then beside a stream that applies a backlog from a real Kafka to the same profiles. Prints how
# long a whole refresh takes, the longest time for which a batch held its customers' locks, by how much the table grows without
# autovacuum, and what the refresh costs the stream: ratios of throughput and of its worker's processor time against the same
# backlog (other ids) without one.
#
#   bench/scores.sh [profiles] [events]
#   events 0: no stream, and no Kafka is started
#   order=scattered bench/scores.sh …   rows do not lie in the order of their ids, and an event of each customer comes after one of all others
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number count' "$@"
expect_arguments 0 'sorted|scattered' ${order:-}
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
profiles=${1:-1000000}
events=${2:-500000}
order=${order:-sorted}

prepare_copy
if [ "$events" != 0 ]; then
	start_kafka
	for topic in without with; do
		python3 bench/events.py "$events" "$profiles" uniform ${#topic} 0 >"$work/$topic.tsv"
		produce_once_up -t "$topic" -p 4 -j "$work/$topic.tsv"
	done
fi
start_bench_server
as_of="as_of => '2026-01-25Z'"
refresh() { sql "CALL profile_stream.refresh_scores('0', $as_of)"; }
table_size() { sql "SELECT pg_table_size('profile_stream.materialized_profiles')"; }

# The same, prints the processor time of the session in seconds.
refresh_cpu()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -U postgres -d postgres -c "CALL profile_stream.refresh_scores('0', $as_of)" \
		-c "SELECT pg_read_file('/proc/self/stat', 0, 4096)" | awk -v hz="$(getconf CLK_TCK)" 'NF {print ($14 + $15) / hz}'
}
now() { date +%s.%N; }

# three events of each customer, applied as a stream does; a time that is later by so many events, in an order that a step makes
sql "CREATE EXTENSION profile_stream;
CREATE PROCEDURE load(profiles int, first int, last int, step bigint) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR n0 IN 0 .. profiles - 1 BY 10000 LOOP
		PERFORM profile_stream.apply_events(ARRAY(
			SELECT jsonb_build_object('eventId', m, 'customerId', 'cust-' || lpad(((n * step) % profiles)::text, 8, '0'),
				'eventType', ('{transaction.completed,session.started,support.ticket.created}'::text[])[m],
				'timestamp', timestamptz '2025-10-01Z' + (hashint4(n + m) & 127) * interval '1 day', 'payload', jsonb_build_object('amount', n % 500))
			FROM generate_series(n0, least(n0 + 10000, profiles) - 1) n, generate_series(first, last) m));
		COMMIT;
	END LOOP;
END \$\$"
if [ "$order" = scattered ]; then
	for event in 1 2 3; do sql "CALL load($profiles, $event, $event, 7368787)"; done # a prime number
else
	sql "CALL load($profiles, 1, 3, 1)"
fi
sql 'ALTER TABLE profile_stream.materialized_profiles SET (autovacuum_enabled = off)'
sql 'VACUUM ANALYZE'
loaded=$(table_size)
echo "$profiles profiles, $order, $(sql "SELECT pg_size_pretty($loaded::bigint)")"

# the last one as of a day later: few scores change
for what in first again later; do
	sql CHECKPOINT
	if [ $what = later ]; then as_of="as_of => '2026-01-26Z'"; fi
	start=$(now)
	wal=$(sql "SELECT pg_current_wal_insert_lsn() - '0/0'")
	cpu=$(refresh_cpu)
	awk -v what="$what" -v n="$profiles" -v s="$start" -v e="$(now)" -v cpu="$cpu" -v wal="$(sql "SELECT pg_current_wal_insert_lsn() - '0/0' - $wal")" 'BEGIN {
		printf "refresh, %-6s %6.1f s, %.1f s of its processor time, %.1f us and %d WAL bytes a profile; ", what, e - s, cpu, cpu / n * 1e6, wal / n}'
	sql "SELECT format('%s done, %s changed, a batch held locks for %s ms at most; the table has %s, %s of what it was loaded with', profiles_done, profiles_changed,
		round(extract(epoch FROM longest_lock) * 1000, 1), pg_size_pretty($(table_size)::bigint), round($(table_size) / $loaded.0, 3))
		FROM profile_stream.stat_score_refresh"
done
sql 'ALTER TABLE profile_stream.materialized_profiles RESET (autovacuum_enabled)'
if [ "$events" = 0 ]; then exit 0; fi

# Applies the backlog of a topic; notes rate and processor time of the worker.
apply()
{
	local start pid totals="FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = '$1'"
	sql CHECKPOINT
	start=$(now)
	sql "SELECT profile_stream.create_stream('$1', bootstrap_servers => '127.0.0.1:$port', topic => '$1')" >/dev/null 2>&1
	until [ "$(sql "SELECT sum(applied) >= $events $totals")" = t ]; do sleep 0.2; done
	awk -v n="$events" -v s="$start" -v e="$(now)" 'BEGIN {print n / (e - s)}' >"$work/rate.$1"
	pid=$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$1'")
	awk -v n="$events" -v tick="$(getconf CLK_TCK)" '{print ($14 + $15) / tick / n * 1e6}' "/proc/$pid/stat" >"$work/cpu.$1"
	printf '%-8s %8.0f events/s, %.1f us of the worker each\n' "$1" "$(cat "$work/rate.$1")" "$(cat "$work/cpu.$1")"
	sql "SELECT profile_stream.drop_stream('$1')" >/dev/null
}

apply without
touch "$work/on"
while [ -e "$work/on" ] && refresh 2>/dev/null; do
	sql "SELECT format('refresh beside %s done, %s skipped, %s profiles/s, a batch held locks for %s ms at most', profiles_done, profiles_skipped,
		profiles_per_second, round(extract(epoch FROM longest_lock) * 1000, 1)) FROM profile_stream.stat_score_refresh"
done >"$work/beside" &
apply with
rm "$work/on"
sql "SELECT pg_cancel_backend(pid) FROM profile_stream.stat_score_refresh" >/dev/null
wait $! 2>/dev/null || true
cat "$work/beside"
sql "SELECT format('the last one: %s done, %s skipped, %s profiles/s, a batch held locks for %s ms at most', profiles_done, profiles_skipped,
	profiles_per_second, round(extract(epoch FROM longest_lock) * 1000, 1)) FROM profile_stream.stat_score_refresh"
awk -v rate="$(cat "$work/rate.with")" -v without="$(cat "$work/rate.without")" -v cpu="$(cat "$work/cpu.with")" -v least="$(cat "$work/cpu.without")" 'BEGIN {
	printf "the stream beside a refresh: throughput %.2f, processor time of the worker %.2f of without\n", rate / without, cpu / least }'
