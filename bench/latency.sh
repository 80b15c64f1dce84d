#!/bin/bash
# Measures event to visible: from producing to Kafka until the commit is announced to a LISTENing client.
#
#   bench/latency.sh [events per second] [seconds] [file]
#
# The file gets the percentiles, from which bench/plot.py draws.
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number path' "$@"
file=${3:+$(realpath -m "$3")}
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
rate=${1:-1000}
seconds=${2:-30}

prepare_copy
start_kafka
produce_once_up -t events -p 4 -j /dev/null
start_bench_server
build_latency

sql 'CREATE EXTENSION profile_stream'
sql "SELECT profile_stream.create_stream('bench', bootstrap_servers => '127.0.0.1:$port', topic => 'events')" 2>/dev/null
until [ "$(sql "SELECT state FROM profile_stream.stat_streams")" = running ]; do sleep 0.2; done
"$work/latency" "127.0.0.1:$port" events "host=$work user=postgres dbname=postgres" "$rate" "$seconds" ${file:+"$file"}
