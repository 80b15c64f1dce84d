#!/bin/bash
# Shows the extension at work: installs what is missing, builds and installs, starts a
# throw-away server and a mock broker, streams about 3,000 events and shows what became
# of them. Stops everything it started; only the installed extension stays.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
verbose=yes

scripts/install-deps.sh --no-kafka
pg_config=${PG_CONFIG:-$(command -v pg_config)}
bindir=$("$pg_config" --bindir)
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

say()
{
	printf '\n\033[1m%s\033[0m\n' "$1"
}

# Shows a query and its result.
show()
{
	printf '\n%s\n' "$1"
	"${psql[@]}" -c "$1"
}

say 'Building and installing'
copy_tree
make -s -C "$work/tree" PG_CONFIG="$pg_config" all tools
$sudo make -s -C "$work/tree" PG_CONFIG="$pg_config" install
open_work

say 'Starting a throw-away server and a mock broker'
start_server "shared_preload_libraries = 'profile_stream'"
psql=("$bindir/psql" -X -q -h "$work" -U postgres -d postgres -v ON_ERROR_STOP=1 -P pager=off)
mkfifo "$work/hold"
"$work/tree/test/tools/mockbroker" customer-events:4 <"$work/hold" >"$work/brokers" 2>/dev/null &
pids+=($!)
exec 3>"$work/hold"
for _ in $(seq 100); do
	[ -s "$work/brokers" ] && break
	sleep 0.1
done
brokers=$(cat "$work/brokers")
"${psql[@]}" -c 'CREATE EXTENSION profile_stream CASCADE'

say 'One call makes a stream; it runs at once'
show "SELECT profile_stream.create_stream('demo', bootstrap_servers => '$brokers', topic => 'customer-events')"

# psql prints notifications whenever it finishes a query
{
	echo "SELECT format('LISTEN %I', profile_stream.notification_channel()) \\gexec"
	while sleep 0.3; do echo 'SELECT 1 \g /dev/null'; done
} | "${psql[@]}" -At >"$work/notifications" 2>/dev/null &
pids+=($!)

say 'Producing 3,000 events of 200 customers in three waves, some of them bad'
"$work/tree/test/tools/generate.py" --seed 7 --events 3000 --customers 200 \
	--until "$(date -u -d '1 minute ago' +%Y-%m-%dT%H:%M:%SZ)" >"$work/events"
split -l 1000 "$work/events" "$work/events."
for wave in "$work"/events.*; do
	"$work/tree/test/tools/produce" -b "$brokers" -t customer-events "$wave"
	sleep 1
done
"${psql[@]}" -At -c "SELECT profile_stream.wait_for_stream('demo', '60 s')" >/dev/null

show "SELECT * FROM profile_stream.stat_streams"
show "SELECT partition, next_offset, applied, duplicates, dead, tombstones FROM profile_stream_internal.stream_offsets ORDER BY partition"

say 'Profiles, kept current'
show "SELECT customer_id, version, first_name, total_balance, transaction_count_30d, login_count_7d, preferred_channel
FROM profile_stream.profiles WHERE customer_id LIKE 'cust-%' ORDER BY version DESC LIMIT 5"
customer=$("${psql[@]}" -At -c "SELECT customer_id FROM profile_stream.profiles WHERE customer_id LIKE 'cust-%' ORDER BY version DESC, 1 LIMIT 1")
show "SELECT jsonb_pretty(profile_stream.get_profile('$customer'))"

say 'Windowed metrics of any moment: they decay without new events'
show "SELECT to_char(t, 'YYYY-MM-DD') AS as_of, profile_stream.metric_value('$customer', 'transaction_count_30d', t) AS transactions_30d,
	profile_stream.metric_value('$customer', 'login_count_7d', t) AS logins_7d
FROM generate_series(now(), now() + interval '35 days', interval '7 days') t"

say 'Nothing is dropped: what was refused, and why'
show "SELECT kind, errors[1] AS first_error, count(*), min(partition || ':' || kafka_offset) AS example
FROM profile_stream.dead_letters GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 12"

say 'What a session that listens on notification_channel() has received'
for _ in $(seq 50); do
	[ -s "$work/notifications" ] && break
	sleep 0.1
done
tail -3 "$work/notifications"
echo "($(wc -l <"$work/notifications") notifications)"

say 'Now with your own Kafka'
cat <<'END'
1. In postgresql.conf: shared_preload_libraries = 'profile_stream' (then streams start with the server), restart.
2. In your database:
     CREATE EXTENSION profile_stream CASCADE;
     SELECT profile_stream.create_stream('crm', bootstrap_servers => 'localhost:9092', topic => 'customer-events');
     SELECT * FROM profile_stream.profiles;
END
