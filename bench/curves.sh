#!/bin/bash
# Measures what the processor time of an event depends on, and how soon events are visible; writes tables from which
# bench/plot.py draws, and draws them.
#
#   bench/curves.sh FOLDER [events] [rounds] [curve ...]    the default is 200000 3 customers history batch latency
#
#   customers   10,000, 100,000 and 1,000,000 customers, each with a profile
#   history     one load of ten times the events of 100,000 customers: the n-th tenth of it
#   batch       batch_size 100, 1000, 5000, 20000
#   latency     1,000 events a second
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 1 'path number number customers|history|batch|latency ...' "$@"
folder=$(realpath -m "$1")
cd "$(dirname "$0")/.."
events=${2:-200000}
rounds=${3:-3}
curves=("${@:4}")
[ $# -gt 3 ] || curves=(customers history batch latency)
mkdir -p "$folder"
if [ -z "${bench_build:-}" ]; then
	bench_build=$(mktemp -d)
	trap 'rm -rf "$bench_build"' EXIT
	chmod 755 "$bench_build"
fi
export bench_build
for curve in "${curves[@]}"; do
	case $curve in
		customers) out=$folder/customers.tsv bench/customers.sh "$events" "$rounds" 10000 100000 1000000 ;;
		latency) bench/latency.sh 1000 20 "$folder/latency.tsv" ;;
		history | batch) bench/load_curve.sh "$curve" "$folder/$curve.tsv" "$events" "$rounds" ;;
	esac
done
bench/plot.py "$folder"
