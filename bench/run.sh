#!/bin/bash
# Loads events from a real Kafka into profiles with one worker and with two, and beside it COPYs the same
# JSON lines into a one-column jsonb table. Prints rates, CPU, memory, WAL and the bytes of de-duplication.
#
#   bench/run.sh [events] [customers] [uniform|zipf] [seed]
#   reorder=1 bench/run.sh …   a second stream reads them too, holding events for so many seconds; they come
#                              out of order by as many as a worker takes in that time (rate=60000 a second)
#   notify=batch bench/run.sh …   the streams announce their changes so, or not at all with off
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number uniform|zipf count' "$@"
expect_arguments 0 'count number' "${reorder:-0}" "${rate:-60000}"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
events=${1:-1000000}
customers=${2:-100000}
shape=${3:-uniform}
seed=${4:-1}
reorder=${reorder:-0}
rate=${rate:-60000}
notify=${notify:-customer}

prepare_copy
start_kafka

python3 bench/events.py "$events" "$customers" "$shape" "$seed" $((reorder * rate)) >"$work/events.tsv"
cut -f2 "$work/events.tsv" >"$work/events.json"
chmod 644 "$work/events.json"
produce_once_up -t events -p 4 -j "$work/events.tsv"

start_bench_server
now() { date +%s.%N; }
wal() { sql "SELECT pg_current_wal_insert_lsn() - '0/0'"; }

sql 'CREATE EXTENSION profile_stream; CREATE TABLE copied (event jsonb)'
sql CHECKPOINT
wal0=$(wal)
t0=$(now)
copy_cpu=$("$bindir/psql" -X -q -A -t -h "$work" -U postgres -d postgres -c "\copy copied FROM '$work/events.json' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')" \
	-c "SELECT pg_read_file('/proc/self/stat', 0, 4096)" | awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) / hz}')
t1=$(now)
wal1=$(wal)

# Loads everything: name, more arguments of create_stream(). Sets $wal2, $wal3, $t2, $t3, $cpu of all workers, $memory of one, $applied.
load()
{
	local totals="FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = '$1'"
	local pid workers
	sql CHECKPOINT
	wal2=$(wal)
	t2=$(now)
	sql "SELECT profile_stream.create_stream('$1', bootstrap_servers => '127.0.0.1:$port', topic => 'events', notify => '$notify'$2)" >/dev/null 2>&1
	# not wait_for_stream(): its snapshot would keep every old row version for the whole load
	until [ "$(sql "SELECT sum(applied + duplicates + dead + late + tombstones) >= $events $totals")" = t ]; do
		sleep 0.2
	done
	t3=$(now)
	wal3=$(wal)
	pid=$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$1'")
	workers=$(sql "SELECT '/proc/' || pid || '/stat' FROM profile_stream_internal.stream_leases WHERE worker IS NOT NULL")
	# shellcheck disable=SC2086
	cpu=$(cat $workers | awk -v hz="$(getconf CLK_TCK)" '{cpu += ($14 + $15) / hz} END {print cpu}')
	memory=$(awk '/^RssAnon/ {a = $2} /^VmHWM/ {h = $2} END {printf "%d MB private, %d MB peak with shared buffers", a / 1024, h / 1024}' "/proc/$pid/status")
	applied=$(sql "SELECT sum(applied) $totals")
}

load bench ''
dedupe=$(dedupe_bytes)
profiles=$(sql 'SELECT count(*) FROM profile_stream.materialized_profiles')

echo "events $events, customers $customers ($shape, seed $seed); applied $applied into $profiles profiles"
awk -v n="$events" -v t0="$t0" -v t1="$t1" -v t2="$t2" -v t3="$t3" -v w0="$wal0" -v w1="$wal1" -v w2="$wal2" -v w3="$wal3" -v cpu="$cpu" -v copy_cpu="$copy_cpu" 'BEGIN {
	printf "COPY          %8.0f events/s  %5.0f WAL bytes/event  %.2f CPU s in the backend\n", n / (t1 - t0), (w1 - w0) / n, copy_cpu
	printf "one worker    %8.0f events/s  %5.0f WAL bytes/event  %.2f CPU s in the worker\n", n / (t3 - t2), (w3 - w2) / n, cpu
	printf "ratio         %8.2f of COPY; processor time %.2f times that of COPY\n", (t1 - t0) / (t3 - t2), cpu / copy_cpu }'
awk -v n="$events" -v bytes="$dedupe" 'BEGIN {printf "de-duplication %7.1f bytes on disk/event\n", bytes / n}'
echo "worker memory: $memory"

off=$(awk -v t2="$t2" -v t3="$t3" 'BEGIN {print t3 - t2}')
cpu_off=$cpu
end_stream bench
empty_tables
load pair ', workers => 2'
awk -v n="$events" -v t2="$t2" -v t3="$t3" -v cpu="$cpu" -v off="$off" -v cpu_off="$cpu_off" 'BEGIN {
	printf "two workers   %8.0f events/s  %.2f CPU s in the workers\n", n / (t3 - t2), cpu
	printf "ratio         %8.2f of one worker; %.2f by processor time, as if each had a core and the broker another\n", off / (t3 - t2), 2 * cpu_off / cpu }'
if [ "$reorder" = 0 ]; then exit 0; fi

end_stream pair
empty_tables
load reordered ", reorder_wait => '$reorder s', reorder_buffer_size => 1000, late_tolerance => NULL"
awk -v n="$events" -v t2="$t2" -v t3="$t3" -v w2="$wal2" -v w3="$wal3" -v cpu="$cpu" -v off="$off" -v wait="$reorder" -v applied="$applied" -v cpu_off="$cpu_off" 'BEGIN {
	printf "reordering    %8.0f events/s  %5.0f WAL bytes/event  %.2f CPU s in the worker; applied %d\n", n / (t3 - t2), (w3 - w2) / n, cpu, applied
	printf "ratio         %8.2f of one worker without, %.2f when the last wait of %d s does not count, %.2f by CPU time\n",
		off / (t3 - t2), off / (t3 - t2 - wait), wait, cpu_off / cpu }'
echo "worker memory: $memory"
