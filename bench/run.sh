#!/bin/bash
# Loads events from a real Kafka into profiles with one worker, and beside it COPYs the same
# JSON lines into a one-column jsonb table. Prints rates, CPU, memory and WAL.
#
#   bench/run.sh [events] [customers] [uniform|zipf] [seed]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-1000000}
customers=${2:-100000}
shape=${3:-uniform}
seed=${4:-1}

prepare
start_kafka

python3 bench/events.py "$events" "$customers" "$shape" "$seed" >"$work/events.tsv"
cut -f2 "$work/events.tsv" >"$work/events.json"
chmod 644 "$work/events.json"
for _ in $(seq 60); do
	if test/tools/produce -b "127.0.0.1:$port" -t events -p 4 -j "$work/events.tsv" 2>/dev/null; then break; fi
	sleep 1
done

start_bench_server
now() { date +%s.%N; }
wal() { sql "SELECT pg_current_wal_insert_lsn() - '0/0'"; }

sql 'CREATE EXTENSION profile_stream; CREATE TABLE copied (event jsonb)'
sql CHECKPOINT
wal0=$(wal)
t0=$(now)
"$bindir/psql" -X -q -h "$work" -U postgres -d postgres -c "\copy copied FROM '$work/events.json' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')"
t1=$(now)
wal1=$(wal)
sql CHECKPOINT
wal2=$(wal)
t2=$(now)
sql "SELECT profile_stream.create_stream('bench', brokers => '127.0.0.1:$port', topic => 'events')" 2>/dev/null
# not wait_for_stream(): its snapshot would keep every old row version for the whole load
until [ "$(sql 'SELECT sum(applied + duplicates + dead + tombstones) >= '"$events"' FROM profile_stream.stream_offsets')" = t ]; do
	sleep 0.2
done
t3=$(now)
wal3=$(wal)
pid=$(sql "SELECT worker_pid FROM profile_stream.stat_streams")
cpu=$(awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) / hz}' "/proc/$pid/stat")
memory=$(awk '/^RssAnon/ {a = $2} /^VmHWM/ {h = $2} END {printf "%d MB private, %d MB peak with shared buffers", a / 1024, h / 1024}' "/proc/$pid/status")
applied=$(sql 'SELECT sum(applied) FROM profile_stream.stream_offsets')
profiles=$(sql 'SELECT count(*) FROM profile_stream.materialized_profiles')

echo "events $events, customers $customers ($shape, seed $seed); applied $applied into $profiles profiles"
awk -v n="$events" -v t0="$t0" -v t1="$t1" -v t2="$t2" -v t3="$t3" -v w0="$wal0" -v w1="$wal1" -v w2="$wal2" -v w3="$wal3" -v cpu="$cpu" 'BEGIN {
	printf "COPY          %8.0f events/s  %5.0f WAL bytes/event\n", n / (t1 - t0), (w1 - w0) / n
	printf "one worker    %8.0f events/s  %5.0f WAL bytes/event  %.1f CPU s in the worker\n", n / (t3 - t2), (w3 - w2) / n, cpu
	printf "ratio         %8.2f of COPY\n", (t1 - t0) / (t3 - t2) }'
echo "worker memory: $memory"
