#!/bin/bash
# What an event costs the worker's processor by a built-in handler, and by what users register for a type of
# their own that does comparable work: attribute maps and a metric. Prints the ratio.
#
#   bench/rules.sh [events] [customers] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-400000}
customers=${2:-40000}
rounds=${3:-2}
declare -A total

prepare_copy
start_kafka

# The events of a type, the same but for its name.
write_events()
{
	python3 - "$events" "$customers" "$1" <<'END'
import random
import sys

count, customers, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(1)
for i in range(count):
    customer = f"cust-{rng.randrange(customers):08d}"
    minute = i * 60 * 24 * 20 // count
    print(f'{customer}\t{{"eventId":"{rng.getrandbits(128):032x}","customerId":"{customer}","eventType":"{kind}",'
          f'"payload":{{"amount":{rng.randrange(1, 100000) / 100},"currency":"{rng.choice(("EUR", "USD", "CHF"))}"}},'
          f'"timestamp":"2026-01-{minute // 1440 + 1:02d}T{minute // 60 % 24:02d}:{minute % 60:02d}:00Z","source":"core-banking","schemaVersion":1}}')
END
}

# Processor time of a process so far, in seconds.
processor() { awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) / hz}' "/proc/$1/stat"; }

# Loads a topic into empty tables with one worker; adds its processor time to $total.
measure()
{
	local name=$1 spent
	empty_tables
	sql CHECKPOINT
	sql "SELECT profile_stream.create_stream('$name', bootstrap_servers => '127.0.0.1:$port', topic => '$name', group_id => '$name')" >/dev/null 2>&1
	until [ "$(sql "SELECT sum(applied) = $events FROM profile_stream.stat_streams WHERE stream = '$name'")" = t ]; do
		sleep 0.2
	done
	spent=$(processor "$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$name'")")
	sql "SELECT profile_stream.drop_stream('$name')" >/dev/null
	total[$name]=$(awk -v a="${total[$name]:-0}" -v b="$spent" 'BEGIN {print a + b}')
	awk -v name="$name" -v s="$spent" -v n="$events" 'BEGIN {printf "%-10s %6.2f µs an event\n", name, s / n * 1e6}'
}

start_bench_server
sql 'CREATE EXTENSION profile_stream'
write_events transaction.completed >"$work/builtin"
write_events order.completed >"$work/mapped"
for name in builtin mapped; do
	produce_once_up -t "$name" -p 4 -j "$work/$name"
done
sql "SELECT profile_stream.map_attribute('order.completed', 'currency', '\$.currency'),
	profile_stream.map_attribute('order.completed', 'largest', '\$.amount', 'max'),
	profile_stream.create_metric('spent_1d', 'order.completed', '1 day', '\$.amount', 'sum')" >/dev/null

# each first and last in turn, so that a machine that gets faster or slower favours neither
for round in $(seq "$rounds"); do
	if [ $((round % 2)) = 1 ]; then measure builtin && measure mapped; else measure mapped && measure builtin; fi
done
echo "events $events, customers $customers, rounds $rounds"
awk -v a="${total[builtin]}" -v b="${total[mapped]}" 'BEGIN {printf "two maps and a metric: %.2f of the built-in handler\n", b / a}'
