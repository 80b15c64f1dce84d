#!/bin/bash
# Reads profiles: from Redis, and what is not there by serve_profile(), which has the relay put it there. Never SETs a key.
#
#   examples/serve.sh 127.0.0.1:6379 <ids     connects as psql does: PGHOST, PGUSER, PGDATABASE, …
#
# Prints "redis" or "database" and the profile, or "unknown", a line for each id.
set -uo pipefail
[ $# = 1 ] || { echo 'usage: examples/serve.sh 127.0.0.1:6379 <ids' >&2 && exit 2; }
address=$1
host=${address%:*} port=${address##*:}
prefix=profile:    # the stream's redis_prefix

while IFS= read -r customer; do
	# without the cache it is slower, not wrong: an answer that is no profile counts as none
	profile=$(redis-cli -h "$host" -p "$port" --raw GET "$prefix$customer" </dev/null 2>/dev/null)
	case $profile in
		'{'*) echo "redis $profile" ;;
		*)
			profile=$(psql -X -A -t -q -v ON_ERROR_STOP=1 -v customer="$customer" <<<"SELECT profile_stream.serve_profile(:'customer')") || exit
			echo "database ${profile:-unknown}"
			;;
	esac
done
