#!/bin/bash
# What handlers of users cost a stream, in one run: processor time of the worker per event of a custom type, without a handler, with one in SQL
# that sets an attribute from the payload, with the same in PL/pgSQL, and with that failing for one event in a hundred.
# Each is measured several times, in turn; the least counts. Exit status 1 when the one in SQL adds more than 6 us.
#
#   bench/handler.sh [events] [customers] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-300000}
customers=${2:-100000}
rounds=${3:-3}

prepare_copy
start_kafka
python3 - "$events" "$customers" >"$work/events.json" <<'END'
import random, sys
random.seed(1)
for i in range(int(sys.argv[1])):
    customer = f"customer-{random.randrange(int(sys.argv[2]))}"
    print('%s\t{"eventId":"%d","customerId":"%s","eventType":"points.earned","timestamp":"2026-01-01T00:00:00Z","payload":{"points":%d,'
          '"shop":"Main Street","channel":"web"},"source":"shop","schemaVersion":1}' % (customer, i, customer, i))
END
produce_once_up -t events -p 4 -j "$work/events.json"
start_bench_server
sql 'CREATE EXTENSION profile_stream'
sql "CREATE FUNCTION in_sql(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS
	\$\$ SELECT jsonb_build_object('attributes', jsonb_build_object('points', event -> 'payload' -> 'points')) \$\$"
sql "CREATE FUNCTION in_plpgsql(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	\$\$ BEGIN RETURN jsonb_build_object('attributes', jsonb_build_object('points', event -> 'payload' -> 'points')); END \$\$"
sql "CREATE FUNCTION failing(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	\$\$ BEGIN ASSERT (event #>> '{payload,points}')::int % 100 > 0;
	RETURN jsonb_build_object('attributes', jsonb_build_object('points', event -> 'payload' -> 'points')); END \$\$"

# Reads all events with a handler, '' for none, and notes the microseconds of each.
measure()
{
	local pid
	sql "SELECT profile_stream.unregister_handler(event_type, function) FROM profile_stream_internal.event_handlers" >/dev/null
	if [ "$1" != without ]; then sql "SELECT profile_stream.register_handler('points.earned', '$1(jsonb,jsonb)')" >/dev/null; fi
	sql CHECKPOINT
	sql "SELECT profile_stream.create_stream('bench', bootstrap_servers => '127.0.0.1:$port', topic => 'events')" >/dev/null 2>&1
	until [ "$(sql "SELECT sum(applied + duplicates + dead + late + tombstones) >= $events FROM profile_stream_internal.stream_offsets")" = t ]; do sleep 0.2; done
	pid=$(sql 'SELECT worker_pid FROM profile_stream.stat_streams')
	awk -v n="$events" -v tick="$(getconf CLK_TCK)" '{print ($14 + $15) / tick / n * 1e6}' "/proc/$pid/stat" >>"$work/cpu.$1"
	end_stream bench
	empty_tables
	sql 'TRUNCATE profile_stream_internal.dead_letters'
}

for _ in $(seq "$rounds"); do
	for handler in without in_sql in_plpgsql failing; do measure "$handler"; done
done
least() { sort -n "$work/cpu.$1" | head -1; }
for handler in in_sql in_plpgsql failing; do
	awk -v name="$handler" -v with="$(least "$handler")" -v without="$(least without)" 'BEGIN {
		printf "%-10s %.1f us of the worker an event, %.1f without: adds %.1f us\n", name, with, without, with - without }'
done
awk -v with="$(least in_sql)" -v without="$(least without)" 'BEGIN { exit with - without > 6 }'
