#!/bin/bash
# Follows profiles with psql: LISTEN, then what changed since the bookmark, then wait. Prints a line "version customer", and "by" the event if it was told.
#
#   examples/listen.sh bookmark-file     connects as psql does: PGHOST, PGUSER, PGDATABASE, …
#
# The file keeps the bookmark; without it every profile is told first. psql looks for notifications when a command ends,
# so one that does nothing is sent each second.
set -uo pipefail
[ $# = 1 ] || { echo 'usage: examples/listen.sh bookmark-file' >&2 && exit 2; }
bookmark_file=$1
catch_up_every=600    # seconds: what was announced while the server's queue was full, too

commands()
{
	local seconds=0
	echo "SELECT format('LISTEN %I', profile_stream.notification_channel()) \\gexec"
	while :; do
		if [ $((seconds++ % catch_up_every)) = 0 ]; then
			printf '\\set bookmark `cat %q 2>/dev/null`\n' "$bookmark_file"
			echo "SELECT 'changed', version, next_bookmark, customer_id FROM profile_stream.profiles_changed_since(NULLIF(:'bookmark', ''));"
			echo "SELECT 'caught up';"
		fi
		echo 'SELECT WHERE false;' || return
		sleep 1
	done
}

answers()
{
	local line what version next customer bookmark=
	while IFS= read -r line; do
		case $line in
			'changed|'*)
				IFS='|' read -r what version next customer <<<"$line"
				echo "$version $customer"
				bookmark=$next
				;;
			'caught up')
				# only now: everything before it has been told
				if [ -n "$bookmark" ]; then echo "$bookmark" >"$bookmark_file.new" && mv "$bookmark_file.new" "$bookmark_file"; fi
				;;
			'Asynchronous notification '*)
				sed -n -e 's/.*"{"customerId":"\(.*\)","version":\([0-9]*\),.*"lastEvent":{"eventId":"\(.*\)","timestamp":.*/\2 \1 by \3/p; t' \
					-e 's/.*"{"customerId":"\(.*\)","version":\([0-9]*\),.*/\2 \1/p' <<<"$line"
				;;
		esac
	done
}

# psql ends when the connection does
while :; do
	commands | psql -X -A -t -q -v ON_ERROR_STOP=1 | answers
	sleep 1
done
