#!/bin/bash
# What get_profile() takes where Citus has distributed the profiles, beside one server: of a customer of the node that is asked, and of another
# node; and beside a SELECT by the key from a distributed table of the same documents, which is what a look at another node takes at least.
# get_profiles() reads 100 customers at once. Rounds alternate, and the median of each figure is printed.
#
#   PG_CONFIG=… bench/citus_reads.sh [profiles] [rounds] [seconds]   PG_CONFIG is that of a PostgreSQL that has Citus
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
profiles=${1:-10000}
rounds=${2:-5}
seconds=${3:-3}

expect_citus
prepare_copy
start_plain_and_citus one
# node one has all shards: it reads its own customers, and the coordinator those of another node
for name in plain one; do
	on $name "SELECT count(*) FROM (SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', format('%s-%s', c, e), 'customerId', c, 'eventType', 'transaction.completed',
		'timestamp', now() - e * interval '1 hour', 'payload', jsonb_build_object('amount', e)))) FROM generate_series(0, $profiles - 1) c, generate_series(1, 10) e GROUP BY c % 100) a" >/dev/null
done
on coordinator 'CREATE TABLE public.documents (customer_id text COLLATE "C" PRIMARY KEY, data jsonb)'
on coordinator "SELECT create_distributed_table('public.documents', 'customer_id')" >/dev/null
on coordinator 'INSERT INTO public.documents SELECT customer_id, data FROM profile_stream.profile_documents'
for name in plain coordinator one; do on $name VACUUM; done

printf '\\set n random(0, %d)\n' $((profiles - 1)) | tee "$work/by_key.pgbench" "$work/get_profile.pgbench" >"$work/get_profiles.pgbench"
echo 'SELECT data FROM public.documents WHERE customer_id = :n::text;' >>"$work/by_key.pgbench"
echo 'SELECT profile_stream.get_profile(:n::text);' >>"$work/get_profile.pgbench"
echo "SELECT * FROM profile_stream.get_profiles(ARRAY(SELECT ((:n + i * 97) % $profiles)::text FROM generate_series(1, 100) i));" >>"$work/get_profiles.pgbench"

# Milliseconds of a statement: a server, one of the files.
latency()
{
	"$bindir/pgbench" -n -M prepared -c 1 -T "$seconds" -h "$work" -p "${ports[$1]}" -U postgres -f "$work/$2.pgbench" postgres 2>"$work/pgbench.err" |
		awk '/latency average/ {print $4}'
}

for _ in $(seq "$rounds"); do
	echo "$(latency plain get_profile) $(latency one get_profile) $(latency coordinator get_profile) $(latency coordinator by_key)" \
		"$(latency plain get_profiles) $(latency one get_profiles) $(latency coordinator get_profiles)"
done >"$work/rounds"
show() { printf '%-52s %s ms\n' "$1" "$(cut -d' ' -f"$2" "$work/rounds" | sort -g | awk '{x[NR] = $1} END {print x[int((NR + 1) / 2)]}')"; }
echo "$profiles profiles, median of $rounds rounds"
show 'get_profile(), one server' 1
show 'get_profile(), a customer of the node' 2
show 'get_profile(), a customer of another node' 3
show 'SELECT by key of a distributed table, another node' 4
show 'get_profiles() of 100, one server' 5
show 'get_profiles() of 100, the node has all' 6
show 'get_profiles() of 100, another node has all' 7
