#!/bin/bash
# What two nodes of Citus take for an event, added up, beside one server that reads the same topic: processor time of the workers.
# Each node reads all messages and applies those of its customers. The first topic is read as it is; the second one by keys
# (message_key => 'customer'), so that nodes pass over messages of others without decoding them.
#
#   PG_CONFIG=… bench/citus.sh [events] [customers]   PG_CONFIG is that of a PostgreSQL that has Citus
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-400000}
customers=${2:-50000}

expect_citus
prepare_copy
start_kafka
for seed in 1 2; do
	python3 bench/events.py "$events" "$customers" uniform $seed >"$work/events.tsv"
	produce_once_up -t "events$seed" -p 4 -j "$work/events.tsv"
done

start_plain_and_citus one two

# Reads a topic: where the stream is made, topic, more arguments, servers whose workers count. Sets $cost, in us an event.
load()
{
	local name number ticks=0 taken=0
	on "$1" "SELECT profile_stream.create_stream('$2', bootstrap_servers => '127.0.0.1:$port', topic => '$2'$3)" >/dev/null 2>&1
	until [ "$taken" -ge "$events" ]; do
		sleep 0.2
		taken=0
		for name in "${@:4}"; do
			number=$(on "$name" "SELECT COALESCE(sum(applied), 0) FROM profile_stream.stat_streams WHERE stream = '$2'")
			taken=$((taken + number))
		done
	done
	for name in "${@:4}"; do
		ticks=$((ticks + $(ticks_of "$name" "$2")))
	done
	cost=$(ticks_an_event $ticks "$events")
	on "$1" "SELECT profile_stream.drop_stream('$2')" >/dev/null
}

echo "events $events, customers $customers; processor time of the workers for an event, us"
for seed in 1 2; do
	load plain "events$seed" '' plain
	plain=$cost
	load coordinator "events$seed" "$([ $seed = 1 ] || echo ", message_key => 'customer'")" one two
	awk -v what="$([ $seed = 1 ] && echo 'as it is' || echo 'by keys')" -v plain="$plain" -v nodes="$cost" \
		'BEGIN {printf "%-9s one server %.2f  two nodes together %.2f  ratio %.2f\n", what, plain, nodes, nodes / plain}'
done
