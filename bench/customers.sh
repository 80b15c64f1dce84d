#!/bin/bash
# What an event costs the worker's processor by how many customers there are: each has a profile already, and the events are of
# customers at random. The sizes are measured in turn. Prints medians with their spread, and the ratio of the last to the first.
#
#   bench/customers.sh [events] [rounds] [customers ...]     the default is 200000 3 10000 3000000
#   out=file bench/customers.sh …                            keeps the samples, from which bench/plot.py draws
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number ...' "$@"
out=${out:+$(realpath -m "$out")}
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-200000}
rounds=${2:-3}
sizes=("${@:3}")
[ $# -gt 2 ] || sizes=(10000 3000000)

prepare_copy
start_kafka
start_bench_server
for size in "${sizes[@]}"; do
	for round in $(seq "$rounds"); do
		python3 bench/events.py "$events" "$size" uniform $((round * 7919 + size)) >"$work/events.tsv"
		produce_once_up -t "by-$size-$round" -p 4 -j "$work/events.tsv"
	done
	database=postgres sql "CREATE DATABASE by_$size"
	database=by_$size sql 'CREATE EXTENSION profile_stream'
	database=by_$size fill_profiles "$size"
done
for round in $(seq "$rounds"); do
	for size in "${sizes[@]}"; do
		# the first fifth warms up
		database=by_$size watch_stream "by-$size-$round" '' $((events / 5)) "$events" | tail -2 |
			awk -v size="$size" -v round="$round" -v OFS='\t' '{cost = ($4 - process) / ($1 - count) * 1e6; process = $4; count = $1}
				END {print "one worker", size, round, cost}' >>"$work/customers.tsv"
	done
done
if [ -n "$out" ]; then cp "$work/customers.tsv" "$out"; fi
bench/summary.py --curve 'us of the worker an event' <"$work/customers.tsv"
