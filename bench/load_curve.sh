#!/bin/bash
# Measures the processor time of an event along one load, or by batch_size, for bench/curves.sh.
#
#   bench/load_curve.sh history|batch FILE [events] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 2 'history|batch path number number' "$@"
file=$(realpath -m "$2")
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
curve=$1
events=${3:-200000}
rounds=${4:-3}
total=$events
if [ "$curve" = history ]; then total=$((events * 10)); fi

prepare_copy
start_kafka
python3 bench/events.py "$total" 100000 uniform 1 >"$work/events.tsv"
produce_once_up -t events -p 4 -j "$work/events.tsv"
start_bench_server
sql 'CREATE EXTENSION profile_stream'

# Prints the cost between each two samples: series, what x is ('' for the events until then, in steps), round. The first one warms up.
costs()
{
	awk -v series="$1" -v x="$2" -v round="$3" -v step="$events" -v OFS='\t' '
		NR > 2 {print series, x == "" ? int($1 / step) * step : x, round, ($4 - process) / ($1 - count) * 1e6} {process = $4; count = $1}'
}

for round in $(seq "$rounds"); do
	if [ "$curve" = history ]; then
		watch_stream events '' $((events / 5)) $(seq "$events" "$events" "$total") | costs 'one worker' '' "$round" >>"$work/curve.tsv"
		empty_tables
		continue
	fi
	for size in 100 1000 5000 20000; do
		watch_stream events ", batch_size => $size" $((events / 5)) "$events" | costs 'one worker' $size "$round" >>"$work/curve.tsv"
		empty_tables
	done
done
cp "$work/curve.tsv" "$file"
bench/summary.py --curve 'us of the worker an event' <"$file"
