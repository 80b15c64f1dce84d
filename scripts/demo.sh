#!/bin/bash
# Shows the extension at work: installs missing packages, builds into a private copy of PostgreSQL, starts a throw-away
# server, a mock broker and a Redis, streams four months of 1,000 customers, then a minute of now, and shows what became
# of them. In the middle it kills the worker. At the end it stops everything that it started; only the packages stay.
#
#   scripts/demo.sh             at a terminal with a live screen of a minute
#   scripts/demo.sh --keep      goes on at the end, with psql and a few events a second, until you leave psql
#   scripts/demo.sh --plain     for a log: seconds since the start in headings, ten seconds of lines for the live screen
#   scripts/demo.sh --no-build  takes what is built here and installed in the PostgreSQL of pg_config
set -euo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 0 '--keep|--plain|--no-build ...' "$@"
cd "$(dirname "$0")/.."
keep=no
plain=no
make=yes
if ! [ -t 1 ] || [ "${TERM:-dumb}" = dumb ]; then plain=yes; fi
for option; do
	case $option in
		--keep) keep=yes ;;
		--plain) plain=yes ;;
		--no-build) make=no ;;
	esac
done
. scripts/lib.sh
verbose=yes
screen_open=no
seconds=60
[ "$plain" = no ] || seconds=10

say()
{
	if [ "$plain" = yes ]; then printf '\n[%4d s] %s\n' "$SECONDS" "$1"; else printf '\n\033[1m%s\033[0m\n' "$1"; fi
}

# Runs a command without its output, unless it fails; at a terminal a clock shows that it goes on.
quietly()
{
	local text=$1 began=$SECONDS clock=
	shift
	printf '%s' "$text"
	if [ "$plain" = no ]; then
		while sleep 1; do printf '\r%s %s s' "$text" $((SECONDS - began)); done &
		clock=$!
		pids+=("$clock")
	fi
	"$@" >"$work/output" 2>&1 || { printf '\n'; cat "$work/output"; exit 1; }
	[ -z "$clock" ] || kill "$clock"
	[ "$plain" = yes ] || printf '\r%s' "$text"
	printf ' %s s\n' $((SECONDS - began))
}

# Shows a query and its result.
show()
{
	printf '\n%s\n' "$1"
	"${psql[@]}" -P footer=off -c "$1" | sed '$d'
}

# Shows statements that return nothing worth seeing.
call()
{
	printf '\n%s\n' "$1"
	"${psql[@]}" -c "$1" >/dev/null
}

# The one value that a query returns.
value()
{
	"${psql[@]}" -At -c "$1"
}

# Waits until a command succeeds, a minute at most: what it is waited for, the command.
await()
{
	local what=$1
	shift
	for _ in $(seq 600); do
		if "$@" 2>/dev/null; then return; fi
		sleep 0.1
	done
	echo "waited in vain for $what" >&2
	exit 1
}

build()
{
	private_postgresql && build_copy with_llvm=no
}

close_screen()
{
	[ "$screen_open" = no ] || printf '\033[?25h\033[?1049l'
	screen_open=no
}

# However the demo ends.
end_demo()
{
	local status=$?
	trap '' INT TERM HUP
	close_screen
	[ ! -S "$work/redis.sock" ] || redis-cli -s "$work/redis.sock" SHUTDOWN NOSAVE >/dev/null 2>&1 || true
	finish "$status"
}
trap end_demo EXIT

start_services()
{
	start_server "shared_preload_libraries = 'profile_stream'" || return
	psql=("$bindir/psql" -X -q -h "$work" -U postgres -d postgres -v ON_ERROR_STOP=1 -P pager=off)
	as_postgres redis-server --port 0 --unixsocket "$work/redis.sock" --save '' --dir "$work" --daemonize yes >/dev/null || return
	mkfifo "$work/hold" "$work/feed" "$work/sql"
	test/tools/mockbroker customer-events:4 <"$work/hold" >"$work/brokers" 2>/dev/null &
	pids+=($!)
	exec 3>"$work/hold"
	await 'the mock broker' test -s "$work/brokers"
	await Redis test -S "$work/redis.sock"
	brokers=$(cat "$work/brokers")
	produce=(test/tools/produce -b "$brokers" -t customer-events -j)
	redis=(redis-cli --raw -s "$work/redis.sock")
}

# Sends events of now, and keeps them in $work/live: for so many seconds, so many a second.
start_events()
{
	"${produce[@]}" <"$work/feed" 2>/dev/null &
	events=$!
	scripts/demo_events.py --live "$1" --rate "$2" --copy "$work/live" >"$work/feed" &
	pids+=("$events" $!)
}

# Sends one event through a producer that is connected, and prints when a reader saw what it did.
follow_one()
{
	local event
	"${produce[@]}" <"$work/feed" &
	pids+=($!)
	"${psql[@]}" -At <"$work/sql" >"$work/seen" &
	pids+=($!)
	exec 4>"$work/feed" 5>"$work/sql"
	# until both are connected
	echo 'SELECT 1 \g /dev/null' >&5
	printf 'c-1001\t{"eventId": "first", "customerId": "c-1001", "eventType": "session.started", "timestamp": "%s", "payload": {}}\n' "$(date -u +%FT%T.%3NZ)" >&4
	await 'the first event' follow_first
	cat >&5 <<'END'
DO $$BEGIN
  WHILE NOT EXISTS (SELECT FROM profile_stream.materialized_profiles WHERE customer_id = 'c-1001' AND attributes ? 'orders') LOOP
    PERFORM pg_sleep(0.001);
  END LOOP;
  PERFORM set_config('demo.visible', clock_timestamp()::text, false);
END$$;
END
	event=$(printf '{"eventId": "order-1", "customerId": "c-1001", "eventType": "order.placed",\n "timestamp": "%s", "payload": {"total": 59.90}}' "$(date -u +%FT%T.%3NZ)")
	printf 'c-1001\t%s\n' "${event//$'\n'/}" >&4
	echo "SELECT format('produced %s, visible %s: %s ms', to_char(at, 'HH24:MI:SS.MS'), to_char(seen, '.MS'), round(extract(epoch FROM seen - at) * 1000))
FROM (SELECT '${event//$'\n'/}'::jsonb ->> 'timestamp', current_setting('demo.visible')) t (a, s), LATERAL (SELECT a::timestamptz, s::timestamptz) x (at, seen);" >&5
	await 'the order' test -s "$work/seen"
	exec 4>&- 5>&-
	printf '\n%s\n\n%s\n' "$event" "$(cat "$work/seen")"
}

follow_first()
{
	[ "$(value "SELECT profile_stream.get_profile('c-1001') ->> 'loginCount7d' <> '$logins'")" = t ]
}

# What the live screen shows, after a line for the next look: events applied until now, and the time.
look()
{
	"${psql[@]}" -At -v applied="$1" -v at="$2" -v spent="$3" -v redis="$("${redis[@]}" GET profile:c-1001)" \
		-v ttl="$("${redis[@]}" TTL profile:c-1001)" -f scripts/demo_screen.sql
}

# Draws the screen in the terminal as it is now: its head, and lines that begin with a word of ten characters.
draw()
{
	local size columns line
	size=$(stty size </dev/tty 2>/dev/null) || size='24 80'
	columns=${size#* }
	printf '\033[H\033[1m%s\033[0m\033[K\n\033[K\n' "${1:0:columns}"
	head -n $((${size% *} - 3)) <<<"$2" | while IFS= read -r line; do
		line=${line:0:columns}
		printf '\033[1m%s\033[0m%s\033[K\n' "${line:0:10}" "${line:10}"
	done
	printf '\033[J'
}

# A minute of events of now. Half-way it kills the worker.
live()
{
	local seen='' worker='' next=(0 0) end=$((SECONDS + seconds)) note='' spent
	spent=$(value "SELECT total_transaction_value_30d FROM profile_stream.profiles WHERE customer_id = 'c-1001'")
	if [ "$plain" = no ]; then
		screen_open=yes
		printf '\033[?1049h\033[?25l\033[J'
	fi
	while [ $SECONDS -lt $end ]; do
		if [ -z "$worker" ] && [ $((end - SECONDS)) -le $((seconds / 2)) ]; then
			worker=$(value 'SELECT worker_pid FROM profile_stream.stat_streams')
			kill -9 "$worker"
			note="kill -9   $(date -u +%T) process $worker, the worker. The server restarted its processes"
		fi
		if seen=$(look "${next[@]}" "$spent" 2>/dev/null); then
			IFS='|' read -r -a next <<<"$seen"
			seen=$(tail -n +2 <<<"$seen")
		else
			seen='The server recovers.'
		fi
		if [ "$plain" = yes ]; then
			head -n 1 <<<"$seen"
		else
			draw "profile_stream, live: $((end - SECONDS)) s, Ctrl-C ends it" "$seen${note:+$'\n\n'$note}"
		fi
		sleep 1
	done
	# the last look is of a server that has recovered
	await 'the end of the recovery' value 'SELECT' >/dev/null
	if [ -n "$worker" ]; then seen=$(look "${next[@]}" "$spent" | tail -n +2); fi
	close_screen
	printf '\n%s\n\n%s\n' "$seen" "$note"
}

# Compares what was produced, by a program that knows nothing of the extension, with what is in the tables.
compare_totals()
{
	local produced stored
	produced=$(cat "$work/history" "$work/live" | scripts/demo_events.py --totals)
	stored=$(value "SELECT s.applied + s.dead - 2, s.dead, p.payments, p.balance FROM profile_stream.stat_streams s,
		(SELECT sum((event_counts ->> 'transaction.completed')::bigint) AS payments, sum(total_balance) AS balance FROM profile_stream.profiles) p")
	printf '\n %-15s | %8s | %4s | %8s | %s\n' '' messages bad payments 'sum of balances'
	echo '-----------------+----------+------+----------+-----------------'
	printf ' %-15s | %8s | %4s | %8s | %15s\n' 'in the messages' ${produced//|/ } 'in the tables' ${stored//|/ }
	[ "$produced" = "$stored" ] || { echo 'They differ. Please report this.' >&2; exit 1; }
}

say 'profile_stream: customer profiles from Kafka, in PostgreSQL'
echo 'This takes three minutes. Ctrl-C ends it and leaves nothing behind but packages.'
if [ $make = yes ]; then
	scripts/install-deps.sh --no-kafka
	quietly "Building for $("${PG_CONFIG:-pg_config}" --version | sed 's/ (.*//'), a minute or so ..." build
	cd "$build/tree"
else
	bindir=$("${PG_CONFIG:-pg_config}" --bindir)
	open_work
fi
quietly 'Starting a throw-away server, a mock broker and a Redis ...' start_services

say 'One call makes a stream. Maps and metrics need no code'
call 'CREATE EXTENSION profile_stream'
call "SELECT profile_stream.create_stream('bank', topic => 'customer-events',
  bootstrap_servers => '$brokers', options => '{\"fetch.wait.max.ms\": 10}',
  redis => '$work/redis.sock', redis_ttl => '1 minute');
SELECT profile_stream.map_attribute('deposit.received', 'total_balance', '\$.amount',
  'add');
SELECT profile_stream.map_attribute('transaction.completed', 'total_balance',
  '\$.amount', 'subtract');
SELECT profile_stream.create_metric('groceries_30d', 'transaction.completed',
  '30 days', '\$.amount', 'sum', '\$.category', 'groceries')"

say 'Four months of 1,000 customers'
scripts/demo_events.py >"$work/history"
"${produce[@]}" "$work/history"
call "CALL profile_stream.await_stream('bank', '60 s')"
say 'Profiles, one row for each customer'
show "SELECT customer_id AS id, first_name, last_name, total_balance AS balance,
  transaction_count_30d AS payments_30d, total_transaction_value_30d AS spent_30d
FROM profile_stream.profiles ORDER BY spent_30d DESC LIMIT 5"

say 'Scores and segments, computed beside the stream'
call 'CALL profile_stream.refresh_scores()'
show "SELECT segment, count(*) AS customers,
  round(avg(churn_risk_score)::numeric, 2) AS churn_risk,
  round(avg(lifetime_value)) AS lifetime_value
FROM profile_stream.profiles GROUP BY segment ORDER BY customers DESC"

say 'An event type of your own, and the time from Kafka to a reader'
call "SELECT profile_stream.map_attribute('order.placed', 'orders', operation => 'count');
SELECT profile_stream.create_metric('ordered_30d', 'order.placed', '30 days',
  '\$.total', 'sum')"
logins=$(value "SELECT profile_stream.get_profile('c-1001') ->> 'loginCount7d'")
follow_one
show "SELECT attributes ->> 'orders' AS orders,
  profile_stream.metric_value(customer_id, 'ordered_30d') AS ordered_30d
FROM profile_stream.profiles WHERE customer_id = 'c-1001'"

say "Live: $seconds seconds of payments, logins and orders, and a worker that dies"
call "SELECT profile_stream.create_segment('big shoppers',
  'profile_stream.metric_value(customer_id, ''ordered_30d'') > 300')"
[ "$plain" = yes ] || sleep 3
start_events "$seconds" 200
live
wait "$events"
call "CALL profile_stream.await_stream('bank', '60 s')"
say 'Nothing is lost, and nothing counts twice'
compare_totals

say 'The same customer in Redis, with a time to live'
for command in 'TTL profile:c-1001' 'GET profile:c-1001'; do
	echo "redis-cli $command"
	# shellcheck disable=SC2086
	"${redis[@]}" $command
done

say 'Metrics of any moment: they fall without a new event'
show "SELECT to_char(t, 'YYYY-MM-DD') AS as_of,
  profile_stream.metric_value('c-1001', 'total_transaction_value_30d', t) AS spent_30d,
  profile_stream.metric_value('c-1001', 'groceries_30d', t) AS groceries_30d
FROM generate_series(now(), now() + interval '28 days', interval '7 days') t"

say 'What could not be applied is kept, with the reason'
show "SELECT kind, regexp_replace(errors[1], 'Token .*', '...') AS reason, count(*) AS messages
FROM profile_stream.dead_letters GROUP BY 1, 2 ORDER BY 3 DESC"

if [ "$keep" = yes ]; then
	say 'Now it is yours. Events go on, five a second. In other terminals:'
	cat <<END
${psql[0]} -h $work -U postgres
redis-cli -s $work/redis.sock

Programs to try there (they need python3-psycopg):
export PGHOST=$work PGUSER=postgres PGDATABASE=postgres
examples/dashboard.py                        # a page of one customer, at http://127.0.0.1:8080/
examples/recommender.py                      # prints what to suggest, as profiles change
examples/campaign.py 'big shoppers' /tmp/c   # prints who enters a segment

To end everything, leave psql here with \q.
END
	start_events 604800 5
	if [ -t 0 ]; then "$bindir/psql" -X -h "$work" -U postgres || true; else wait "$events"; fi
fi
say 'Next: your own Kafka'
cat <<'END'
doc/install.md says how to install the extension, README.md how to make a stream, doc/tutorial.md how to add an event type.
END
