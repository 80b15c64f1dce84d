#!/bin/bash
# Slices: two servers that each read half of a topic's partitions, beside one that reads all of them.
#
# First how much processor time an event takes on all servers together. Then what reading both through a cluster view takes, beside
# the same on the server that has everything: rows that come here against values that each server has computed, and one customer
# with and without a partitioner. Rounds alternate; of each figure the median is printed, with the least and the greatest.
#
#   bench/slices.sh [events] [customers] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-400000}
customers=${2:-50000}
rounds=${3:-5}
lookups=200
names=(whole east west)

prepare_copy
start_kafka
python3 bench/events.py "$events" "$customers" uniform 1 >"$work/events.tsv"
produce_once_up -t events -p 4 -j "$work/events.tsv"

for name in "${names[@]}"; do start_named_server "$name" "shared_preload_libraries = 'profile_stream'"; done

# Reads the topic with the streams of some servers, and prints the processor time of their workers for each event.
load()
{
	local name ticks=0
	for name in "$@"; do
		on "$name" "SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:$port', topic => 'events'${partitions[$name]})" >/dev/null 2>&1
	done
	for name in "$@"; do
		until [ "$(on "$name" "SELECT COALESCE(bool_and(lag = 0 AND end_offset > 0), false) AND count(*) > 0 FROM profile_stream.stat_partitions")" = t ]; do sleep 0.2; done
		ticks=$((ticks + $(ticks_of "$name" crm)))
	done
	echo "$(ticks_an_event $ticks "$events") us of the workers an event"
}

declare -A partitions=([whole]='' [east]=", partitions => '{0,1}'" [west]=", partitions => '{2,3}'")
for name in "${names[@]}"; do
	on "$name" 'CREATE EXTENSION profile_stream'
	on "$name" 'CREATE VIEW totals AS SELECT segment, count(*) AS customers, sum(total_balance) AS balance FROM profile_stream.profiles GROUP BY segment'
done
printf '%-12s' 'one server'
load whole
printf '%-12s' 'two servers'
load east west
for name in "${names[@]}"; do on "$name" 'VACUUM ANALYZE'; done

on east 'CREATE EXTENSION postgres_fdw'
on east "CREATE SERVER west FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$work', port '${ports[west]}', dbname 'postgres')"
on east "CREATE USER MAPPING FOR CURRENT_USER SERVER west OPTIONS (user 'postgres')"
# the slices read each other, and one of them is read through its own socket, too: as a server without a slice would do
on east "CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$work', port '${ports[east]}', dbname 'postgres')"
on east "CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user 'postgres')"
for schema in hashed asked; do
	on east "SELECT profile_stream.create_cluster_view('{here,west}', '$schema'$([ $schema = asked ] || echo ", partitioner => 'murmur2'"), relations => '{totals}')"
done
echo "$(on east 'SELECT count(*) FROM hashed.profiles') profiles; the check finds $(on east "SELECT count(*) FROM profile_stream.cluster_check('hashed')") problems"

# Prints milliseconds of the second of two runs in one session: server, statement.
time_of()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p "${ports[$1]}" -U postgres -d postgres -c "$2" -c '\timing on' -c "$2" | awk '/^Time:/ {print $2}'
}
profile() { echo "SELECT count($1) FROM generate_series(1, $lookups) i, LATERAL (SELECT 'cust-' || lpad((i * 37 % $customers)::text, 8, '0')) c(id)"; }
for _ in $(seq "$rounds"); do
	echo "$(time_of whole 'SELECT segment, sum(total_balance) FROM profile_stream.profiles GROUP BY 1')" \
		"$(time_of east 'SELECT segment, sum(total_balance) FROM hashed.profiles GROUP BY 1')" \
		"$(time_of east 'SELECT segment, sum(balance) FROM hashed.totals GROUP BY 1')" \
		"$(time_of whole "SELECT sum(value) FROM profile_stream.profile_metrics WHERE metric = 'total_transaction_value_30d'")" \
		"$(time_of east "SELECT sum(value) FROM hashed.profile_metrics WHERE metric = 'total_transaction_value_30d'")" \
		"$(time_of east "SELECT sum(sum) FROM hashed.metric_totals WHERE metric = 'total_transaction_value_30d'")" \
		"$(time_of whole "$(profile 'profile_stream.get_profile(c.id)')")" \
		"$(time_of east "$(profile "profile_stream.cluster_profile(c.id, 'hashed')")")" \
		"$(time_of east "$(profile "profile_stream.cluster_profile(c.id, 'asked')")")" \
		"$(time_of east "SELECT count(*) FROM profile_stream.cluster_check('hashed')")"
done >"$work/rounds"
show()
{
	printf '%-70s %s\n' "$1" "$(awk -v n="$2" -v by="${3:-1}" '{print $n / by}' "$work/rounds" | sort -g | awk '{x[NR] = $1} END {printf "%.2f (%.2f to %.2f)", x[int((NR + 1) / 2)], x[1], x[NR]}')"
}
show 'sum by segment, ms: one server' 1
show '  two servers, all rows come here' 2
show '  two servers, each computes its sums' 3
show 'sum of a metric, ms: one server' 4
show '  two servers, each customer'"'"'s value comes here' 5
show '  two servers, each computes its sum' 6
show 'one profile, ms: get_profile() on one server' 7 $lookups
show '  cluster_profile() with a partitioner' 8 $lookups
show '  cluster_profile() without one' 9 $lookups
show 'cluster_check(), ms' 10
