#!/bin/bash
# What live segments cost the worker's processor: the same events without them, with five and with ten on columns, and
# with ten, of which five read metrics or the time. Prints what the segments add. The aim for ten on columns is 1.5 µs.
#
#   bench/segments.sh [events] [customers] [rounds]
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

# Events of the last twenty days: transactions, logins, accounts and changes of names.
write_events()
{
	python3 - "$events" "$customers" <<'END'
import random
import sys
import time

count, customers = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(1)
begin = time.time() - 20 * 86400
for i in range(count):
    customer = f"cust-{rng.randrange(customers):08d}"
    kind, payload = rng.choice((
        ("transaction.completed", f'{{"amount":{rng.randrange(1, 100000) / 100}}}'),
        ("transaction.completed", f'{{"amount":{rng.randrange(1, 100000) / 100}}}'),
        ("session.started", f'{{"channel":"{rng.choice(("app", "web"))}"}}'),
        ("account.opened", f'{{"initialBalance":{rng.randrange(1000)}}}'),
        ("customer.profile.updated", f'{{"firstName":"{rng.choice(("Ann", "Bob", "Cleo"))}"}}')))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin + i * 19.9 * 86400 / count))
    print(f'{customer}\t{{"eventId":"{rng.getrandbits(128):032x}","customerId":"{customer}","eventType":"{kind}",'
          f'"payload":{payload},"timestamp":"{at}","source":"core-banking","schemaVersion":1}}')
END
}

# few enter one: a change costs its rows and a notification, and is no matter of the predicate
columns="('a', 'total_balance > 10000'), ('b', 'account_count >= 12'), ('c', 'first_name <> ''Dora'' AND preferred_channel = ''branch'''), ('d', 'version > 40'),
	('e', 'segment = ''champion'' OR churn_risk_score > 0.8')"
more_columns="('k', 'email LIKE ''%@example.com'''), ('l', 'lifetime_value > 100000'), ('m', 'phone <> '''' AND last_name = ''Smith'''),
	('n', 'total_balance < -100'), ('o', 'account_count = 0 AND version >= 30')"
metrics="('f', 'transaction_count_30d >= 20'), ('g', 'total_transaction_value_30d > 20000'), ('h', 'login_count_7d > 9'),
	('i', 'last_login_at < now() - interval ''30 days'''), ('j', 'now() - last_transaction_at > ''30 days''')"

# Processor time of a process so far, in seconds.
processor() { awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) / hz}' "/proc/$1/stat"; }

# Loads the topic into empty tables with one worker, while those segments exist; adds its processor time to $total.
measure()
{
	local name=$1 segments=$2 spent
	empty_tables
	sql "DELETE FROM profile_stream_internal.segments; TRUNCATE profile_stream.segment_members, profile_stream.segment_changes, profile_stream_internal.segment_checks" >/dev/null
	[ -z "$segments" ] || sql "SELECT profile_stream.create_segment(name, predicate, evaluate => 'live') FROM (VALUES $segments) s(name, predicate)" >/dev/null
	sql CHECKPOINT
	sql "SELECT profile_stream.create_stream('$name', bootstrap_servers => '127.0.0.1:$port', topic => 'events', group_id => '$name')" >/dev/null 2>&1
	until [ "$(sql "SELECT sum(applied) = $events FROM profile_stream.stat_streams WHERE stream = '$name'")" = t ]; do
		sleep 0.2
	done
	spent=$(processor "$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$name'")")
	changes=$(sql "SELECT count(*) FROM profile_stream.segment_changes")
	sql "SELECT profile_stream.drop_stream('$name')" >/dev/null
	total[$name]=$(awk -v a="${total[$name]:-0}" -v b="$spent" 'BEGIN {print a + b}')
	awk -v name="$name" -v s="$spent" -v n="$events" -v c="$changes" 'BEGIN {printf "%-8s %6.2f µs an event, %.2f changes of segments an event\n", name, s / n * 1e6, c / n}'
}

start_bench_server
sql 'CREATE EXTENSION profile_stream'
write_events >"$work/events"
produce_once_up -t events -p 4 -j "$work/events"

# forth and back, so that a machine that gets faster or slower favours none
for round in $(seq "$rounds"); do
	measure none ''
	measure five "$columns"
	measure ten "$columns, $more_columns"
	measure all "$columns, $metrics"
	measure all "$columns, $metrics"
	measure ten "$columns, $more_columns"
	measure five "$columns"
	measure none ''
done
echo "events $events, customers $customers, rounds $rounds"
awk -v none="${total[none]}" -v five="${total[five]}" -v ten="${total[ten]}" -v all="${total[all]}" -v n="$events" -v rounds="$rounds" 'BEGIN {
	n *= 2 * rounds / 1e6
	printf "live segments on columns: five %.2f, ten %.2f µs an event; ten, five of them on metrics and time: %.2f µs\n",
		(five - none) / n, (ten - none) / n, (all - none) / n}'
