#!/bin/bash
# What sinks cost a stream, in one run: throughput of a backlog and latency at a steady rate, without sinks, with a Redis,
# with a Redis that is frozen (SIGSTOP) all the time, with the topic of updates, and with all sinks. Prints the ratios.
#
#   bench/sinks.sh [events] [customers] [events per second] [seconds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-500000}
customers=${2:-100000}
rate=${3:-1000}
seconds=${4:-60}

prepare_copy
start_kafka
python3 bench/events.py "$events" "$customers" uniform 1 0 >"$work/events.tsv"
produce_once_up -t events -p 4 -j "$work/events.tsv"
for topic in steady updates dead; do test/tools/produce -b "127.0.0.1:$port" -t "$topic" -p 4 -j /dev/null; done
start_bench_server
build_latency
redis_port=$(free_port)
redis-server --bind 127.0.0.1 --port "$redis_port" --save '' --appendonly no --dir "$work" >"$work/redis.log" 2>&1 &
redis=$!
pids+=("$redis")
sql 'CREATE EXTENSION profile_stream'

now() { date +%s.%N; }

# Creates a stream: name, topic, more arguments.
create() { sql "SELECT profile_stream.create_stream('$1', bootstrap_servers => '127.0.0.1:$port', topic => '$2'$3)" >/dev/null 2>&1; }

drop()
{
	end_stream "$1"
	empty_tables
}

# Loads the backlog, prints the rate; then measures the latency: name, more arguments.
measure()
{
	local start end pid
	sql CHECKPOINT
	start=$(now)
	create "$1" events "$2"
	until [ "$(sql "SELECT sum(applied + duplicates + dead + late + tombstones) >= $events FROM profile_stream_internal.stream_offsets")" = t ]; do
		sleep 0.2
	done
	end=$(now)
	awk -v n="$events" -v s="$start" -v e="$end" 'BEGIN {print n / (e - s)}' >"$work/rate.$1"
	# what others on the machine do changes the rate, and this much less
	pid=$(sql 'SELECT worker_pid FROM profile_stream.stat_streams')
	awk -v n="$events" -v tick="$(getconf CLK_TCK)" '{print ($14 + $15) / tick / n * 1e6}' "/proc/$pid/stat" >"$work/cpu.$1"
	sql "SELECT '  ' || sink || ': ' || concat_ws(', ', state, 'delivered ' || delivered, 'backlog ' || backlog, error) FROM profile_stream.stat_sinks"
	drop "$1"
	create "$1" steady "$2, start_from => 'latest'"
	until [ "$(sql "SELECT state FROM profile_stream.stat_streams")" = running ]; do sleep 0.2; done
	"$work/latency" "127.0.0.1:$port" steady "host=$work user=postgres dbname=postgres" "$rate" "$seconds" >"$work/latency.$1"
	printf '%-8s %8.0f events/s, %.1f us of the worker each; ' "$1" "$(cat "$work/rate.$1")" "$(cat "$work/cpu.$1")"
	cat "$work/latency.$1"
	drop "$1"
}

measure without ''
measure redis ", redis => '127.0.0.1:$redis_port'"
kill -STOP "$redis"
measure frozen ", redis => '127.0.0.1:$redis_port'"
kill -CONT "$redis"
measure updates ", changelog_topic => 'changelog'"
measure all ", redis => '127.0.0.1:$redis_port', changelog_topic => 'changelog', dead_letter_topic => 'dead'"
for with in redis frozen updates all; do
	awk -v with="$with" -v rate="$(cat "$work/rate.$with")" -v without="$(cat "$work/rate.without")" \
		-v cpu="$(cat "$work/cpu.$with")" -v least="$(cat "$work/cpu.without")" 'BEGIN {
		printf "with %s: throughput %.2f, processor time of the worker %.2f of without\n", with, rate / without, cpu / least }'
done
