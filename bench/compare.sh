#!/bin/bash
# Compares ways to keep profiles from a topic, in turn on one machine: COPY of the same lines into a table of one jsonb column,
# this extension with one and two workers, and four peers (bench/peers). What each made is compared with the independent model
# before its time counts. Prints medians over the rounds with their spread. Nothing of the machine's own PostgreSQL changes.
#
#   bench/compare.sh [events] [customers] [rounds] [folder]
#   ways='copy one staging' bench/compare.sh …   only these; the default is copy one two staging streams connect node
#   share=20 bench/compare.sh …                  node, which is slow, gets so much less of the events
#
# The folder gets compare.tsv, from which bench/plot.py draws. One round more than these warms up and does not count; in each
# round, neither does the first fifth of the events, while which processes start. Processor time is that of the whole PostgreSQL
# server, and of the consumer (and its Redis). The status is 1 when a way did not run, or made what the model does not.
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number path' "$@"
# shellcheck disable=SC2086
expect_arguments 0 'copy|one|two|staging|streams|connect|node ...' ${ways:-}
expect_arguments 0 number ${share:-}
folder=${4:+$(realpath -m "$4")}
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-200000}
customers=${2:-100000}
rounds=${3:-5}
ways=${ways:-copy one two staging streams connect node}
share=${share:-20}
database=bench

prepare_copy
declare -A reasons folders
for way in $ways; do
	case $way in
		copy | one | two) ;;
		*)
			folders[$way]=$(dirname "$KAFKA_HOME")/peers
			if nice bench/peers/build.sh "$way" "${folders[$way]}" >"$work/versions.$way" 2>"$work/build.$way"; then
				echo "$way: $(cat "$work/versions.$way")"
			else
				reasons[$way]="not run: $(tail -1 "$work/build.$way")"
			fi
			;;
	esac
done
start_kafka
python3 bench/events.py "$events" "$customers" uniform 1 >"$work/events.tsv"
head -n $((events / share)) "$work/events.tsv" >"$work/part.tsv"
cut -f2 "$work/events.tsv" >"$work/events.json"
for topic in events part; do
	produce_once_up -t $topic -p 4 -j "$work/$topic.tsv"
	nice bench/peers/check.py model "$work/$topic.tsv" >"$work/$topic.expected"
done
PGPORT=$(free_port)
REDIS_PORT=$(free_port)
export PGPORT REDIS_PORT KAFKA_HOME BROKERS=127.0.0.1:$port
start_bench_server "listen_addresses = '127.0.0.1'" "port = $PGPORT"

# Makes the database anew.
fresh_database()
{
	PGOPTIONS='-c client_min_messages=warning' database=postgres sql 'DROP DATABASE IF EXISTS bench WITH (FORCE)'
	database=postgres sql 'CREATE DATABASE bench'
	database=postgres sql CHECKPOINT
}

# Compares the profiles of a way with the model; prints what is wrong: expected profiles, the query that shows the profiles.
check_result()
{
	nice bench/peers/check.py result "$1" "$2" -- "$bindir/psql" -h "$work" -U postgres -d bench
}

run_copy()
{
	sql 'CREATE TABLE copied (event jsonb)'
	watch --events "$events" -- "$bindir/psql" -XAtq -h "$work" -U postgres -d bench \
		-c "\\copy copied FROM '$work/events.json' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')" >"$work/samples"
	[ "$(sql 'SELECT count(*) FROM copied')" = "$events" ]
}

# With so many workers.
run_own()
{
	sql 'CREATE EXTENSION profile_stream'
	# its worker is a process of the server, which counts as a whole
	watch_stream events ", workers => $1" $((events / 5)) "$events" | awk -v OFS='\t' '{print $1, $2, $3, 0}' >"$work/samples" && check_result "$work/events.expected" bench/peers/own.sql
}

# Runs a peer: name, topic, how many events are in it.
run_peer()
{
	local name=$1 topic=$2 count=$3 source=(--file "$work/peer.out") redis='' peer processes status=0
	local run=(env TOPIC="$topic" GROUP="$name-$round" SCRATCH="$work/scratch" PGHOST=127.0.0.1 PGUSER=postgres PGDATABASE=bench
		JDBC_URL="jdbc:postgresql://127.0.0.1:$PGPORT/bench?user=postgres")
	"$bindir/psql" -Xq -v ON_ERROR_STOP=1 -h "$work" -U postgres -d bench -f "bench/peers/$name/setup.sql"
	if [ -e "bench/peers/$name/progress.sql" ]; then source=(--sql "$(grep -v '^--' "bench/peers/$name/progress.sql")"); fi
	mkdir "$work/scratch"
	if [ "$name" = node ]; then
		redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --save '' --appendonly no --dir "$work/scratch" >/dev/null &
		redis=$!
		pids+=("$redis")
	fi
	"${run[@]}" "bench/peers/$name/start.sh" "${folders[$name]}/$name" >"$work/peer.out" 2>"$work/peer.err" &
	peer=$!
	pids+=("$peer")
	processes=(--process "$peer" ${redis:+--process "$redis"})
	watch "${source[@]}" "${processes[@]}" $((count / 5)) "$count" >"$work/samples" || status=1
	kill "$peer" $redis 2>/dev/null || true
	wait "$peer" $redis 2>/dev/null || true
	rm -rf "$work/scratch"
	if [ $status != 0 ]; then
		tail -3 "$work/peer.err"
		return 1
	fi
	if [ -e "bench/peers/$name/result.sql" ]; then check_result "$work/$topic.expected" "bench/peers/$name/result.sql"
	else check_result "$work/$topic.expected" bench/peers/result.sql; fi
}

# Runs a way once, and notes what it took between the last two samples.
run_way()
{
	local verdict=ok
	fresh_database
	: >"$work/samples"
	case $1 in
		copy) run_copy ;;
		one) run_own 1 ;;
		two) run_own 2 ;;
		node) run_peer "$1" part $((events / share)) ;;
		*) run_peer "$1" events "$events" ;;
	esac >"$work/said" 2>&1 || verdict="failed: $(grep -v '^$' "$work/said" | tr '\t\n' '  ' | cut -c1-400)"
	awk -F '\t' -v OFS='\t' -v way="$1" -v round="$round" -v verdict="$verdict" '
		{ for (i = 1; i <= 4; i++) { difference[i] = $i - last[i]; last[i] = $i } }
		END { print way, round, difference[1] + 0, difference[2] + 0, difference[3] + 0, difference[4] + 0, verdict }' "$work/samples" >>"$work/compare.tsv"
}

for round in $(seq 0 "$rounds"); do
	for way in $ways; do
		if [ -n "${reasons[$way]:-}" ]; then
			[ "$round" != 0 ] || printf '%s\t0\t0\t0\t0\t0\t%s\n' "$way" "${reasons[$way]}" >>"$work/compare.tsv"
		else
			run_way "$way"
			tail -1 "$work/compare.tsv" | awk -F '\t' '{ printf "round %d: %-8s %6.1f s  %s\n", $2, $1, $4, $7 }' >&2
		fi
	done
done
if [ -n "$folder" ]; then mkdir -p "$folder" && cp "$work/compare.tsv" "$folder/"; fi
echo "$events events of $customers customers, $rounds rounds; node has $((events / share)) of them"
bench/summary.py <"$work/compare.tsv"
