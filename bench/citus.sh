#!/bin/bash
# What two nodes of Citus take for an event, added up, beside one server that reads the same topic: processor time of the workers.
# Each node applies the messages of its customers. The first topic is read as it is; the second one by keys
# (message_key => 'customer'), so that nodes pass over messages of others without decoding them. Partitions of the third one are as
# the shards of the profiles (partitioner => 'citus'), so that nodes do not read them.
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
names=('as it is' 'by keys' 'by shards')
options=('' ", message_key => 'customer'" ", partitioner => 'citus'")

# Names the partition of each message of a file: that of the number of its customer's shard.
place_by_shard()
{
	PYTHONPATH=examples python3 -c 'import base64, partition, sys
for line in sys.stdin:
    key, value = line.rstrip("\n").split("\t")
    print(partition.partition_of(key, int(sys.argv[1])), key, base64.b64encode(value.encode()).decode(), sep="\t")' "$citus_shards" <"$1"
}

for i in 0 1 2; do
	python3 bench/events.py "$events" "$customers" uniform $i >"$work/events.tsv"
	if [ $i = 2 ]; then
		place_by_shard "$work/events.tsv" >"$work/placed.tsv"
		produce_once_up -t "events$i" -p "$citus_shards" "$work/placed.tsv"
	else
		produce_once_up -t "events$i" -p 4 -j "$work/events.tsv"
	fi
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
for i in 0 1 2; do
	load plain "events$i" '' plain
	plain=$cost
	load coordinator "events$i" "${options[i]}" one two
	awk -v what="${names[i]}" -v plain="$plain" -v nodes="$cost" \
		'BEGIN {printf "%-9s one server %.2f  two nodes together %.2f  ratio %.2f\n", what, plain, nodes, nodes / plain}'
done
