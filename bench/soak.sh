#!/bin/bash
# Events at a fixed rate, and a SIGKILL of the worker every 30 seconds, for a long time: memory, descriptors and tables
# must not grow, and in the end every profile equals the model. Nothing of the machine's own PostgreSQL changes.
#
#   bench/soak.sh [minutes] [events per second] [customers] [seed]     10 minutes at least
#   PS_OUT=folder bench/soak.sh …   keeps soak.tsv, a sample every 5 seconds, and soak.svg, its picture, there (/tmp)
set -uo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number number count' "$@"
# what grows is told from quarters of the time, and tables and memory grow in the first minutes anyhow
[ "${1:-60}" -ge 10 ] || refuse "$1 minutes are too short to tell what grows: at least 10"
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh
. bench/lib.sh
minutes=${1:-60}
rate=${2:-1000}
customers=${3:-1000}
seed=${4:-1}
out=${PS_OUT:-/tmp}
kill_every=30
sample_every=5
events=$((minutes * 60 * rate))
until=$(date -u -d '-2 minutes' +%Y-%m-%dT%H:%M:00Z)

die()
{
	echo "$1" >&2
	exit 1
}

# A process's private memory in kB and its descriptors, "0 0" when it is gone.
footprint()
{
	local memory
	memory=$(awk '/^RssAnon/ {print $2}' "/proc/$1/status" 2>/dev/null)
	echo "${memory:-0} $(find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l)"
}

# One line of the samples; nothing while the server recovers.
sample()
{
	local row pid
	row=$(try_sql "SELECT concat_ws(' ', (SELECT coalesce(sum(applied + duplicates + dead + late + tombstones), 0) FROM profile_stream_internal.stream_offsets),
		(SELECT coalesce(lag, 0) FROM profile_stream.stat_streams), pg_total_relation_size('profile_stream.materialized_profiles'),
		pg_total_relation_size('profile_stream_internal.stream_offsets') + pg_total_relation_size('profile_stream_internal.stream_status'),
		pg_total_relation_size('profile_stream_internal.event_id_chunks') + pg_total_relation_size('profile_stream_internal.window_chunks'),
		pg_current_wal_insert_lsn() - '0/0', (SELECT coalesce(worker_pid, 0) FROM profile_stream.stat_streams))") || return
	pid=${row##* }
	if [ -z "$row" ] || [ "$pid" = 0 ]; then return; fi
	echo "$(($(date +%s) - begun)) $(($(date +%s) - killed)) $(footprint "$pid") $(footprint "$(head -1 "$work/data/postmaster.pid")") ${row% *}" |
		tr ' ' '\t' >>"$work/soak.tsv"
}

try_sql() { sql "$1" 2>/dev/null; }
taken() { try_sql 'SELECT sum(applied + duplicates + dead + late + tombstones) FROM profile_stream_internal.stream_offsets'; }

# Kills the worker; one that came up quarantined is told to go on.
kill_worker()
{
	local pid
	try_sql "SELECT profile_stream.resume_stream(stream) FROM profile_stream.stat_streams WHERE state = 'quarantined'" >/dev/null
	pid=$(try_sql "SELECT worker_pid FROM profile_stream.stat_streams")
	if [ -n "$pid" ] && kill -KILL "$pid"; then kills=$((kills + 1)); fi
	killed=$(date +%s)
}

KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
private_postgresql
build_copy WERROR=yes || die 'the build failed'
start_kafka
test/tools/generate.py --seed "$seed" --events "$events" --customers "$customers" --partitions 4 --until "$until" >"$work/events.tsv" ||
	die 'could not generate events'
produce_once_up -t events -p 4 /dev/null
start_server 'shared_buffers = 256MB' 'max_wal_size = 2GB' "shared_preload_libraries = 'profile_stream'" 'restart_after_crash = on' ||
	die 'the server did not start'
sql 'CREATE EXTENSION profile_stream'
sql "SELECT profile_stream.create_stream('soak', bootstrap_servers => '127.0.0.1:$port', topic => 'events')" >/dev/null
printf 'second\tage\trss_kb\tfds\tpostmaster_kb\tpostmaster_fds\ttaken\tlag\tprofiles\toffsets\thistory\twal\n' >"$work/soak.tsv"
echo "$events events of $customers customers at $rate/s for $minutes min, seed $seed; the worker is killed every $kill_every s"

begun=$(date +%s)
killed=$begun
kills=0
bench/soak.py pace "$rate" <"$work/events.tsv" | test/tools/produce -b "127.0.0.1:$port" -t events -n 1000 &
feeder=$!
pids+=("$feeder")
while kill -0 "$feeder" 2>/dev/null; do
	sleep "$sample_every"
	sample
	if [ $(($(date +%s) - killed)) -ge "$kill_every" ]; then kill_worker; fi
done
wait "$feeder" || die 'the producer failed'
for _ in $(seq 600); do
	if [ "$(taken)" = "$events" ]; then break; fi
	try_sql "SELECT profile_stream.resume_stream(stream) FROM profile_stream.stat_streams WHERE state = 'quarantined'" >/dev/null
	sleep 0.5
done
mkdir -p "$out"
cp "$work/soak.tsv" "$out/soak.tsv"
bench/soak.py judge "$work/soak.tsv" "$out/soak.svg"
flat=$?
test/tools/model.py --as-of "$until" "$work/events.tsv" >"$work/expected.json" &&
	test/tools/compare.py --stream soak --expected "$work/expected.json" --psql "$bindir/psql" -- -h "$work" -U postgres -d postgres
equal=$?
deaths=$(grep -c 'was terminated by signal' "$work/data/log")
echo "$kills kills, $deaths processes died by a signal, $(taken) of $events events taken"
[ $flat = 0 ] && [ $equal = 0 ] && [ "$deaths" = "$kills" ]
