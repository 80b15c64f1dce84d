#!/bin/bash
# What windowed values cost: all windowed columns of the view profiles beside a count of the table, both in parallel with the
# same processes and both reading every page of the table (index scans are off); and one value of customers with few and with
# many samples.
#
#   bench/windows.sh [profiles] [rounds] [most samples]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
profiles=${1:-1000000}
rounds=${2:-5}
most=${3:-1000000}

pg_config=${PG_CONFIG:-$(command -v pg_config)}
private_postgresql
build_copy
start_bench_server

# four samples of each customer, and customers with many samples of one metric
sql "CREATE EXTENSION profile_stream;
SELECT profile_stream.create_metric('visit_value_400d', 'visit', '400 days', '\$.value', 'sum');
CREATE PROCEDURE load(profiles int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR n0 IN 0 .. profiles - 1 BY 10000 LOOP
		PERFORM profile_stream.apply_events(ARRAY(
			SELECT jsonb_build_object('eventId', m, 'customerId', 'cust-' || lpad(n::text, 8, '0'),
				'eventType', ('{transaction.completed,session.started,support.ticket.created,transaction.completed}'::text[])[m],
				'timestamp', now() - (hashint4(n + m) & 63) * interval '1 day', 'payload', jsonb_build_object('amount', (n % 50000) / 100.0))
			FROM generate_series(n0, least(n0 + 10000, profiles) - 1) n, generate_series(1, 4) m));
		COMMIT;
	END LOOP;
END \$\$;
CREATE PROCEDURE load_one(customer text, samples int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR n0 IN 0 .. samples - 1 BY 10000 LOOP
		PERFORM profile_stream.apply_events(ARRAY(
			SELECT jsonb_build_object('eventId', n, 'customerId', customer, 'eventType', 'visit',
				'timestamp', now() - interval '390 days' + n * (interval '390 days' / samples), 'payload', jsonb_build_object('value', n % 1000))
			FROM generate_series(n0, least(n0 + 10000, samples) - 1) n));
		COMMIT;
	END LOOP;
END \$\$" >/dev/null
sql "CALL load($profiles)"
sql 'VACUUM (ANALYZE) profile_stream.materialized_profiles'
echo "$profiles profiles, $(sql "SELECT pg_size_pretty(pg_table_size('profile_stream.materialized_profiles'))")"

settings='SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET jit = off'
# a row that is only counted is not looked into; that of a column is read up to this column, as the windows' is
count='SELECT count(*) FROM profile_stream.materialized_profiles'
column='SELECT count(window_state) FROM profile_stream.materialized_profiles'
windows='SELECT sum(transaction_count_30d), sum(total_transaction_value_30d), sum(login_count_7d), sum(support_ticket_count_90d) FROM profile_stream.profiles'

# Runs a query in parallel on all pages of the table; prints its milliseconds and how many processes there were.
parallel()
{
	sql "$settings; SET max_parallel_workers_per_gather = 1; EXPLAIN (ANALYZE, TIMING off, COSTS off, FORMAT json) $1" | python3 -c '
import json, sys

def workers(node):
    return max([node.get("Workers Launched", 0)] + [workers(child) for child in node.get("Plans", [])])

top = json.loads(sys.stdin.read())[0]
print("%.1f %d" % (top["Execution Time"], workers(top["Plan"]) + 1))'
}

# The milliseconds of processor time that one process needs for a query: that of four runs, by four.
processor()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -U postgres -d postgres -c "$settings; SET max_parallel_workers_per_gather = 0" -c "$1" \
		-c "SELECT pg_read_file('/proc/self/stat', 0, 4096)" -c "$1" -c "$1" -c "$1" -c "$1" -c "SELECT pg_read_file('/proc/self/stat', 0, 4096)" |
		awk -v hz="$(getconf CLK_TCK)" '/\(postgres\)/ {t[n++] = $14 + $15} END {printf "%.1f\n", (t[1] - t[0]) * 1000 / hz / 4}'
}

# Prints median, least and greatest of the numbers that it reads.
median() { sort -n | awk '{r[NR] = $1} END {printf "%.2f (median of %d, %.2f to %.2f)\n", r[int((NR + 1) / 2)], NR, r[1], r[NR]}'; }

parallel "$count" >/dev/null
for _ in $(seq "$rounds"); do
	echo "$(parallel "$count") $(parallel "$column") $(parallel "$windows") $(processor "$count") $(processor "$column") $(processor "$windows")"
done >"$work/rounds"
awk '{printf "in parallel: count %.1f ms, %d processes; count of a column %.1f ms, %d; four windowed columns %.1f ms, %d.  ", $1, $2, $3, $4, $5, $6
	printf "processor time of one process: %.1f, %.1f, %.1f ms\n", $7, $8, $9}' "$work/rounds"
echo "windowed columns, in parallel: $(awk '{print $5 / $1}' "$work/rounds" | median) of a count"
echo "windowed columns, in parallel: $(awk '{print $5 / $3}' "$work/rounds" | median) of a count of a column"
echo "windowed columns, processor time: $(awk '{print $9 / $7}' "$work/rounds" | median) of a count"
echo "windowed columns, processor time: $(awk '{print $9 / $8}' "$work/rounds" | median) of a count of a column"

# one value: processor time, and pages that it touched
settings='SET jit = off'
for samples in 100 10000 "$most"; do
	sql "CALL load_one('with-$samples', $samples)"
	values=$((samples > 10000 ? 5000 : 20000))
	value="SELECT sum(profile_stream.metric_value('with-$samples', 'visit_value_400d', now() - n * interval '1 minute')) FROM generate_series(1, $values) n"
	pages=$(sql "SELECT 1 FROM (SELECT profile_stream.metric_value('with-$samples', 'visit_value_400d')) warm; EXPLAIN (ANALYZE, TIMING off, COSTS off, BUFFERS, FORMAT json) $value" |
		tail -n +2 | python3 -c 'import json, sys; plan = json.loads(sys.stdin.read())[0]["Plan"]; print(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])')
	processor "$value" | awk -v samples="$samples" -v values="$values" -v pages="$pages" '{
		printf "a value of %d samples: %.1f us of processor time, %d pages\n", samples, $1 * 1000 / values, pages / values}'
done
