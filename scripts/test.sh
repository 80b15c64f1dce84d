#!/bin/bash
# Runs every test on a copy of the tree, against a private copy of PostgreSQL:
# checks of .ci, regress, isolation, TAP. Needs no server and leaves nothing.
#
#   scripts/test.sh                                  everything
#   PROVE_TESTS='test/t/001*.pl' scripts/test.sh     TAP tests by pattern
#   PS_LOGS=/tmp/logs scripts/test.sh                keeps the logs of the TAP tests there
#
# The last line says how many tests passed and failed; exit status 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh

KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME
passed=0
failed=0

die()
{
	echo "$1" >&2
	exit 1
}

# Counts the result of a check: name, exit status.
count()
{
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "ok: $1"
	else
		failed=$((failed + 1))
		echo "FAILED: $1"
	fi
}

checks()
{
	local check
	for check in .ci/check-*; do
		"$check"
		count "$check" $?
	done
}

# Runs a kind of pg_regress tests: name, make arguments.
regress()
{
	local name=$1 ok bad status
	shift
	as_postgres env PGHOST="$work" PGPORT="$port" PGUSER="$superuser" \
		make -s PG_CONFIG="$bindir/pg_config" installcheck FAILPOINTS=yes TAP_TESTS= "$@" >"$work/$name.log" 2>&1
	status=$?
	grep -E '(\.\.\. |^ok |^not ok )' "$work/$name.log"
	ok=$(grep -cE '(\.\.\. ok|^ok )' "$work/$name.log")
	bad=$(grep -cE '(\.\.\. FAILED|^not ok )' "$work/$name.log")
	if [ "$status" != 0 ]; then
		if [ "$bad" = 0 ]; then bad=1; fi
		tail -5 "$work/$name.log"
		find . -name regression.diffs -exec cat {} + | head -2000
	fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	echo "$name: $ok passed, $bad failed"
}

# Runs regress and isolation on a server with these settings.
installcheck()
{
	start_server "port = $port" 'fsync = off' 'max_worker_processes = 16' 'max_prepared_transactions = 4' "$@" ||
		die 'the server did not start'
	regress regress ISOLATION=
	regress isolation REGRESS=
	remove_server
}

# Runs the TAP tests that match; without an argument those of $PROVE_TESTS, or all.
tap()
{
	local ok bad status log
	[ $# = 0 ] || local PROVE_TESTS=$1
	as_postgres make -s PG_CONFIG="$bindir/pg_config" installcheck REGRESS= ISOLATION= PROVE_FLAGS=-v \
		${PROVE_TESTS:+PROVE_TESTS="$PROVE_TESTS"} 2>&1 | tee "$work/tap.log" | grep -vE '^( *#|ok )'
	status=${PIPESTATUS[0]}
	ok=$(grep -cE '^ok ' "$work/tap.log")
	bad=$(grep -cE '^(not ok |.*Dubious|.*Bad plan)' "$work/tap.log")
	# a PostgreSQL that was built without TAP tests runs none and is content
	if [ "$ok$bad" = 00 ]; then status=1; fi
	if [ "$status" != 0 ]; then
		if [ "$bad" = 0 ]; then bad=1; fi
		for log in tmp_check/log/regress_log_*; do
			if grep -qE 'not ok|died|Died|Bail out| at .* line ' "$log"; then
				echo "--- $(basename "$log")"
				tail -40 "$log"
			fi
		done
		for log in tmp_check/log/*.log; do
			echo "--- $(basename "$log")"
			grep -E 'ERROR|FATAL|PANIC|signal' "$log" | grep -v 'failpoint' | tail -15
		done
	fi
	if [ -n "${PS_LOGS:-}" ]; then mkdir -p "$PS_LOGS" && cp tmp_check/log/* "$PS_LOGS"; fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	echo "tap: $ok passed, $bad failed"
}

private_postgresql
build_copy FAILPOINTS=yes WERROR=yes || die 'the build failed'
checks
port=$(free_port)
installcheck
# a packager's server: of another encoding, locale and superuser, preloaded; and without direct access
superuser=packager
locale=(--encoding=LATIN1 --locale=C --locale-provider=icu --icu-locale=de)
installcheck "shared_preload_libraries = 'profile_stream'" 'profile_stream.direct_access = off'
tap
PS_DIRECT_ACCESS=off tap 'test/t/002*.pl test/t/090*.pl test/t/091*.pl'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
