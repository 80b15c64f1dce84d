#!/bin/bash
# Shows the extension at work: installs missing packages, builds into a private copy of PostgreSQL, starts a throw-away
# server and a mock broker, streams four months of 200 customers and shows what became of them. Then it stops
# everything that it started; only the packages stay.
#
#   scripts/demo.sh          shows everything and ends; at a terminal with a live screen of a minute
#   scripts/demo.sh --keep   leaves the server up until Enter is pressed, for queries of your own
#   scripts/demo.sh --plain  for a log: seconds since the start in headings, lines in place of the live screen, ten seconds of it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
verbose=yes
keep=no
plain=no
[ -t 1 ] || plain=yes
for option in "$@"; do
	case $option in
	--keep) keep=yes ;;
	--plain) plain=yes ;;
	*)
		sed -n '2,/^set/s/^# \?//p' "$0" | sed '$d'
		exit 1
		;;
	esac
done

scripts/install-deps.sh --no-kafka

say()
{
	if [ "$plain" = yes ]; then printf '\n[%4d s] %s\n' "$SECONDS" "$1"; else printf '\n\033[1m%s\033[0m\n' "$1"; fi
}

# Shows a query and its result.
show()
{
	printf '\n%s\n' "$1"
	"${psql[@]}" -P footer=off -c "$1"
}

# The one value that a query returns.
value()
{
	"${psql[@]}" -At -c "$1"
}

say "Building for $("${PG_CONFIG:-pg_config}" --version)"
private_postgresql
build_copy with_llvm=no

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

say 'One call makes a stream. Maps and metrics need no code'
show 'CREATE EXTENSION profile_stream'
show "SELECT profile_stream.create_stream('bank', bootstrap_servers => '$brokers', topic => 'customer-events');
SELECT profile_stream.map_attribute('deposit.received', 'total_balance', '\$.amount', 'add');
SELECT profile_stream.map_attribute('transaction.completed', 'total_balance', '\$.amount', 'subtract');
SELECT profile_stream.create_metric('groceries_30d', 'transaction.completed', '30 days', '\$.amount', 'sum', '\$.category', 'groceries')" |
	grep -v '^[ -]*\(create_stream\|map_attribute\|create_metric\)\? *$'

say 'Producing four months of 200 customers, and killing the worker half-way (kill -9)'
scripts/demo_events.py >"$work/events"
half=$(($(wc -l <"$work/events") / 2))
produce=("$work/tree/test/tools/produce" -b "$brokers" -t customer-events -j)
head -n "$half" "$work/events" | "${produce[@]}"
worker=
until [ -n "$worker" ]; do worker=$(value 'SELECT worker_pid FROM profile_stream.stat_streams'); done
kill -9 "$worker"
tail -n "+$((half + 1))" "$work/events" | "${produce[@]}"
# PostgreSQL restarts its processes after a crash
for _ in $(seq 300); do
	[ "$(value "SELECT state FROM profile_stream.stat_streams WHERE worker_pid <> $worker" 2>/dev/null || true)" = running ] && break
	sleep 0.1
done
show "CALL profile_stream.await_stream('bank', '60 s')" >/dev/null
echo "produced $(wc -l <"$work/events") messages; nothing is lost, nothing counts twice:"
show "SELECT state, applied, dead, duplicates, applied + dead + duplicates AS all_messages, lag FROM profile_stream.stat_streams"

say 'Profiles, one row per customer'
show "SELECT customer_id, first_name, last_name, total_balance, transaction_count_30d AS payments_30d, total_transaction_value_30d AS spent_30d, login_count_7d AS logins_7d
FROM profile_stream.profiles ORDER BY spent_30d DESC LIMIT 5"

say 'Segments, churn risk and lifetime value, computed beside the stream'
show 'CALL profile_stream.refresh_scores()'
show "SELECT segment, count(*) AS customers, round(avg(churn_risk_score)::numeric, 2) AS churn_risk, round(avg(lifetime_value)) AS lifetime_value
FROM profile_stream.profiles GROUP BY segment ORDER BY customers DESC"

customer=$(value "SELECT customer_id FROM profile_stream.profiles ORDER BY total_transaction_value_30d DESC LIMIT 1")
show "SELECT jsonb_pretty(profile_stream.get_profile('$customer') - 'eventCounts' - 'attributes')"

# One look at the stream: rate and lag, a customer whose numbers move, segments that were entered, the newest dead letter.
look()
{
	"${psql[@]}" -At -v before="$1" <<'END'
SELECT format('%s events a second, lag %s; %s events applied, %s dead letters', s.applied - :before, s.lag, s.applied, s.dead) FROM profile_stream.stat_streams s;
SELECT format('%s %s (%s) spent %s in 30 days with %s payments, %s orders in the shop', p.first_name, p.last_name, p.email, p.total_transaction_value_30d,
	p.transaction_count_30d, COALESCE(p.attributes ->> 'orders', '0')) FROM profile_stream.profiles p WHERE p.customer_id = 'c-1001';
SELECT format('%s entered segment "%s" at %s', p.first_name || ' ' || p.last_name, c.to_segment, to_char(c.changed_at, 'HH24:MI:SS'))
FROM profile_stream.segment_changes c JOIN profile_stream.profiles p USING (customer_id) WHERE c.kind = 'rule' AND c.to_segment IS NOT NULL ORDER BY c.change_id DESC LIMIT 5;
SELECT format('refused: %s', left(d.errors[1], 70)) FROM profile_stream.dead_letters d ORDER BY d.dead_letter_id DESC LIMIT 1;
END
}

seconds=60
[ "$plain" = no ] || seconds=10
say "Live: $seconds seconds of payments, logins and orders of now"
show "SELECT profile_stream.map_attribute('order.placed', 'orders', operation => 'count');
SELECT profile_stream.create_segment('busy today', 'login_count_7d > 8 AND transaction_count_30d > 8')" | grep -v '^[ -]*\(create_segment\|map_attribute\)\? *$'
scripts/demo_events.py --live "$seconds" >"$work/live" &
live=$!
tail -n +1 -f --pid=$live "$work/live" 2>/dev/null | "${produce[@]}" >/dev/null 2>&1 &
pids+=($live $!)
for _ in $(seq "$seconds"); do
	before=$(value 'SELECT applied FROM profile_stream.stat_streams')
	sleep 1
	seen=$(look "$before")
	if [ "$plain" = yes ]; then head -2 <<<"$seen"; else printf '\033[H\033[J\033[1mprofile_stream, live\033[0m (Ctrl-C ends it)\n\n%s\n' "$seen"; fi
done
[ "$plain" = no ] || echo "$seen"

say 'From Kafka to a committed profile'
show "CALL profile_stream.await_stream('bank', '60 s')" >/dev/null
show "SELECT round(extract(epoch FROM min(committed_at - last_message_at)) * 1000) || ' ms' AS newest_event FROM profile_stream.stat_partitions WHERE committed_at > last_message_at"

say 'Metrics of any moment: they fall without a new event'
show "SELECT to_char(t, 'YYYY-MM-DD') AS as_of, profile_stream.metric_value('$customer', 'total_transaction_value_30d', t) AS spent_30d,
	profile_stream.metric_value('$customer', 'groceries_30d', t) AS groceries_30d
FROM generate_series(now(), now() + interval '28 days', interval '7 days') t"

say 'What could not be applied is kept, with the reason'
show "SELECT kind, errors[1] AS reason, count(*) AS messages FROM profile_stream.dead_letters
WHERE errors[1] NOT LIKE 'Malformed%' GROUP BY 1, 2
UNION ALL SELECT kind, 'Malformed JSON: …', count(*) FROM profile_stream.dead_letters
WHERE errors[1] LIKE 'Malformed%' GROUP BY 1 ORDER BY 3 DESC"

if [ "$keep" = yes ]; then
	say 'The server runs until you press Enter. In another terminal:'
	echo "${psql[0]} -h $work -U postgres"
	echo
	echo 'Programs to try, each in a terminal of its own (they need python3-psycopg):'
	echo "export PGHOST=$work PGUSER=postgres PGDATABASE=postgres"
	echo 'examples/dashboard.py                        # a page of one customer, at http://127.0.0.1:8080/'
	echo 'examples/recommender.py                      # prints what to suggest, as profiles change'
	echo 'examples/campaign.py champion /tmp/campaign  # prints who enters a segment'
	echo 'An event for them:'
	printf "psql -c \"SELECT profile_stream.apply_event(jsonb_build_object('eventId', gen_random_uuid(), 'customerId', '%s', 'eventType', 'transaction.completed', 'timestamp', now(), 'payload', jsonb_build_object('amount', 20)))\"\n" "$customer"
	read -r _ || true
fi
say 'Next: your own Kafka'
cat <<'END'
doc/install.md says how to install the extension, README.md how to make a stream, doc/tutorial.md how to add an event type.
END
