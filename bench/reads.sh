#!/bin/bash
# Reads profiles, and prints each figure as a ratio to what was measured beside it: get_profile() to a SELECT of the row by its
# primary key, get_profiles() to that for each profile, metric_days() to a count of the table and to metric_trend() of each customer.
# Rounds alternate; of each figure the median is printed, with the least and the greatest.
#
#   bench/reads.sh [profiles] [rounds] [seconds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
profiles=${1:-100000}
rounds=${2:-5}
seconds=${3:-5}
at_once=100

private_postgresql
build_copy
start_bench_server
sql 'CREATE EXTENSION profile_stream'
"$bindir/psql" -X -q -h "$work" -U postgres -d postgres -f bench/profiles.sql
sql "CALL load($profiles)"
sql 'VACUUM ANALYZE'
sql 'CHECKPOINT'
echo "$profiles profiles, $(sql "SELECT pg_size_pretty(pg_table_size('profile_stream.materialized_profiles'))")"

# Prints the median of numbers, one a line, and how far they spread.
median() { sort -g | awk '{x[NR] = $1} END {printf "%.2f (%.2f to %.2f)", x[int((NR + 1) / 2)], x[1], x[NR]}'; }

# Runs a prepared statement in one session: a name of one of the files below. Prints how often it ran in a second, and the
# processor time of a run in microseconds: of the server's process, and of that and the client.
rate()
{
	local client server ticks=0 client_ticks=0 now name=$1-$RANDOM$RANDOM
	PGAPPNAME=$name "$bindir/pgbench" -n -M prepared -T "$seconds" -h "$work" -U postgres -f "$work/$1.pgbench" postgres >"$work/pgbench" 2>&1 &
	client=$!
	until server=$(sql "SELECT pid FROM pg_stat_activity WHERE application_name = '$name'") && [ -n "$server" ]; do :; done
	while kill -0 $client 2>/dev/null; do
		now=$(awk '{print $14 + $15}' "/proc/$server/stat" 2>/dev/null) || true
		ticks=${now:-$ticks}
		now=$(awk '{print $14 + $15}' "/proc/$client/stat" 2>/dev/null) || true
		client_ticks=${now:-$client_ticks}
		sleep 0.02
	done
	awk -v s="$ticks" -v c="$client_ticks" -v hz="$(getconf CLK_TCK)" '/actually processed/ {split($NF, n, "/")} /^tps/ {rate = $3}
		END {print rate, s / hz / n[1] * 1e6, (s + c) / hz / n[1] * 1e6}' "$work/pgbench"
}

for file in row get_profile get_profiles; do printf '\\set n random(0, %d)\n' $((profiles - 1)) >"$work/$file.pgbench"; done
echo "SELECT * FROM profile_stream.materialized_profiles WHERE customer_id = 'cust-' || :n;" >>"$work/row.pgbench"
echo "SELECT profile_stream.get_profile('cust-' || :n);" >>"$work/get_profile.pgbench"
cat >>"$work/get_profiles.pgbench" <<END
SELECT * FROM profile_stream.get_profiles(ARRAY(SELECT 'cust-' || (:n + hashint4(i) & 2147483647) % $profiles FROM generate_series(1, $at_once) i));
END

rate row >/dev/null
rate get_profile >/dev/null
for _ in $(seq "$rounds"); do
	echo "$(rate row) $(rate get_profile) $(rate get_profiles)"
done | awk -v n=$at_once '{print $4 / $1, $2 / $5, $7 * n / $4, $5 * n / $8, $6 * n / $9, $4, $5, $8 / n}' >"$work/rounds"
show() { printf '%-60s %s\n' "$1" "$(cut -d' ' -f"$2" "$work/rounds" | median)"; }
show 'get_profile / SELECT by primary key: rate' 1
show '  by processor time of the server' 2
show "get_profiles of $at_once / get_profile: rate of profiles" 3
show '  by processor time of the server' 4
show '  by processor time of server and client' 5
show 'get_profile: a second, one session' 6
show '  processor time, us' 7
show 'get_profiles: processor time of a profile, us' 8

# Prints milliseconds of a statement, and of it in a parallel plan: settings, statement.
time_of()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -U postgres -d postgres -c "$1" -c '\timing on' -c "$2" | awk '/^Time:/ {print $2}'
}
alone='SET max_parallel_workers_per_gather = 0'
days="profile_stream.metric_days('total_transaction_value_30d', current_date - 60, current_date + 1"
some=1000
for _ in $(seq "$rounds"); do
	count=$(time_of "$alone" 'SELECT count(*) FROM profile_stream.materialized_profiles')
	utc=$(time_of "$alone" "SELECT count(*), sum(d.sum) FROM $days) d")
	zone=$(time_of "$alone" "SELECT count(*), sum(d.sum) FROM $days, 'Europe/Vienna') d")
	parallel=$(time_of 'SET max_parallel_workers_per_gather = 2' "SELECT count(*), sum(d.sum) FROM $days) d")
	trend=$(time_of "$alone" "SELECT count(*), sum(d.sum) FROM (SELECT customer_id FROM profile_stream.materialized_profiles LIMIT $some) p,
		profile_stream.metric_trend(p.customer_id, 'total_transaction_value_30d', current_date - 60, current_date + 1) d")
	awk -v c="$count" -v u="$utc" -v z="$zone" -v p="$parallel" -v t="$trend" -v share="$(awk -v n="$profiles" -v s=$some 'BEGIN {print n / s}')" \
		'BEGIN {print u / 1000, z / u, p / u, u / c, t * share / u}'
done >"$work/rounds"
show 'metric_days, seconds' 1
show '  in Europe/Vienna / in UTC' 2
show '  in a parallel plan / alone' 3
show '  alone / count of the table' 4
show 'metric_trend of each customer / metric_days' 5
