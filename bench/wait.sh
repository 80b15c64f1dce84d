#!/bin/bash
# Loads events from a real Kafka with one worker beside a session that waits for the stream: none, one that waits with the
# function wait_for_stream(), and one that waits with the procedure await_stream(). Prints the processor time of the worker and
# the size of the table of profiles, as ratios of what they are without a session. Medians of several rounds.
#
#   bench/wait.sh [events] [customers] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-1000000}
customers=${2:-100000}
rounds=${3:-3}

prepare_copy
start_kafka
python3 bench/events.py "$events" "$customers" uniform 1 0 >"$work/events.tsv"
produce_once_up -t events -p 4 -j "$work/events.tsv"
start_bench_server
now() { date +%s.%N; }

# Loads everything into new tables, beside a session that runs a statement; notes processor time an event, events/s and megabytes.
load()
{
	local name=$1 statement=$2 start pid waiter= totals="FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = '$1'"
	sql 'SET client_min_messages = warning; DROP EXTENSION IF EXISTS profile_stream CASCADE; CREATE EXTENSION profile_stream;
		ALTER TABLE profile_stream.materialized_profiles SET (autovacuum_enabled = off)'
	sql CHECKPOINT
	start=$(now)
	sql "SELECT profile_stream.create_stream('$name', bootstrap_servers => '127.0.0.1:$port', topic => 'events')" >/dev/null 2>&1
	if [ -n "$statement" ]; then
		sql "$statement" >/dev/null &
		waiter=$!
	fi
	until [ "$(sql "SELECT sum(applied + duplicates) >= $events $totals")" = t ]; do sleep 0.2; done
	[ -z "$waiter" ] || wait "$waiter"
	pid=$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$name'")
	awk -v n="$events" -v tick="$(getconf CLK_TCK)" -v s="$start" -v e="$(now)" -v size="$(sql "SELECT pg_table_size('profile_stream.materialized_profiles')")" \
		'{print ($14 + $15) / tick / n * 1e6, n / (e - s), size / 1048576}' "/proc/$pid/stat" >>"$work/$name"
	printf '%-9s %6.2f us of the worker an event, %8.0f events/s, %7.1f MB of profiles\n' "$name" $(tail -1 "$work/$name")
	end_stream "$name"
}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
for _ in $(seq "$rounds"); do
	load alone ''
	load function "SELECT profile_stream.wait_for_stream('function', '1 hour')"
	load procedure "CALL profile_stream.await_stream('procedure', '1 hour')"
done
echo "events $events, customers $customers, rounds $rounds"
for name in function procedure; do
	for column in 1 2 3; do
		awk -v c=$column '{print $c}' "$work/$name" | median
		awk -v c=$column '{print $c}' "$work/alone" | median
	done | paste -sd ' ' | awk -v name=$name '{
		printf "a session that waits with the %s: speed by processor time %.2f, events/s %.2f, size of the table %.2f of without\n", name, $2 / $1, $3 / $4, $5 / $6}'
done
