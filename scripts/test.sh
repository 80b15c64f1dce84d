#!/bin/bash
# Tests the extension, against a private copy of PostgreSQL. It needs no server and changes none.
#
#   scripts/test.sh                       everything: checks of .ci, regress, isolation, TAP
#   scripts/test.sh -q handlers sink_030  only these, on a build that is kept: for the loop of edit and test
#   scripts/test.sh -h                    prints this
#
# -q takes names of tests: a regress test (test/sql), an isolation spec (test/specs), a TAP file (test/t), with
# or without folder and suffix. Where no test has just this name, it is a part of names or a shell pattern:
# redis, 'rebuild_*', 030. Without a name, -q runs all tests of the three kinds. It compiles what has changed.
# The kept build is a folder profile_stream-USER-… in $TMPDIR or /tmp; it may be removed at any time.
#
#   PG_CONFIG=/opt/pg/bin/pg_config   the PostgreSQL to copy; the default is that of the PATH
#   PROVE_TESTS='test/t/sink_*.pl'    without -q: only these TAP files, after all else
#   PS_JOBS=1                         so many TAP files at once; the default is one for each processor and one more
#   PS_LOGS=/tmp/logs                 keeps the logs of the TAP files there
#
# The last line says how many tests passed and failed. The exit status is 1 if any failed.
set -uo pipefail
. "$(dirname "$0")/arguments.sh"
quick=
if [ "${1:-}" = -q ]; then quick=yes && shift; fi
expect_arguments 0 'name ...' "$@"
[ -n "$quick" ] || [ $# = 0 ] || refuse 'names of tests go with -q'
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh

jobs=${PS_JOBS:-$(($(nproc) + 1))}
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

# Starts a server for regress and isolation with these settings.
start_regress_server()
{
	start_server "port = $port" 'fsync = off' 'max_worker_processes = 64' 'max_prepared_transactions = 4' "$@" ||
		die 'the server did not start'
}

# Runs regress and isolation on a server with these settings.
installcheck()
{
	start_regress_server "$@"
	regress regress ISOLATION=
	regress isolation REGRESS=
	remove_server
}

# Runs regress and isolation on two servers, one after the other, and writes the counts to a file.
installchecks()
{
	installcheck
	# a packager's server: of another encoding, locale and superuser, preloaded; and without direct access
	superuser=packager
	locale=(--encoding=LATIN1 --locale=C --locale-provider=icu --icu-locale=de)
	installcheck "shared_preload_libraries = 'profile_stream'" 'profile_stream.direct_access = off'
	echo "$passed $failed" >"$work/installchecks"
}

# Runs TAP files; without an argument those of $PROVE_TESTS, or all.
tap()
{
	local ok=0 bad=1 kafka
	[ $# = 0 ] || local PROVE_TESTS=$1
	kafka=$(find "$KAFKA_HOME/libs" | sort | sha256sum | cut -c1-12)
	as_postgres env PS_TEST_CACHE="$build/cache/$kafka" make -s PG_CONFIG="$bindir/pg_config" installcheck REGRESS= ISOLATION= \
		PROVE="$PWD/scripts/prove.pl" PROVE_FLAGS="-j $jobs" ${PROVE_TESTS:+PROVE_TESTS="$PROVE_TESTS"} |
		tee "$work/tap.log" | grep --line-buffered -vE '^([0-9]+ passed, [0-9]+ failed$|\+\+\+)'
	# a PostgreSQL that was built without TAP tests runs none, which counts as a failure
	read -r ok bad < <(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/tap.log") || bad=1
	if [ "$ok$bad" = 00 ]; then bad=1; fi
	if [ -n "${PS_LOGS:-}" ]; then mkdir -p "$PS_LOGS" && cp tmp_check/log/* "$PS_LOGS"; fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	echo "tap: $ok passed, $bad failed"
}

# The tests of a name go to $sql, $specs and $perl.
choose()
{
	local name=${1##*/} file found=
	name=${name%.*}
	for file in test/sql/$name.sql test/specs/$name.spec test/t/$name.pl; do
		[ ! -f "$file" ] || found="$found $file"
	done
	[ -n "$found" ] || found=$(find test/sql test/specs test/t -name "*$name*.sql" -o -name "*$name*.spec" -o -name "*$name*.pl" | sort)
	[ -n "$found" ] || { echo "no test is called $1" >&2 && exit 2; }
	for file in $found; do
		name=${file##*/}
		case $file in
			*.sql) sql="$sql ${name%.*}" ;;
			*.spec) specs="$specs ${name%.*}" ;;
			*) perl="$perl $file" ;;
		esac
	done
}

# The programs of test/tools that TAP files or what they load call.
tools_of()
{
	local file
	for file in test/tools/*.c; do
		file=${file%.c}
		# shellcheck disable=SC2068
		if grep -qw "${file##*/}" $@ test/perl/ProfileStream/*; then echo "$file"; fi
	done
}

# Runs tests by name on a kept build.
quick()
{
	local sql='' specs='' perl='' tools='' name
	for name in "${@:-*}"; do choose "$name"; done
	if [ -n "$perl" ]; then
		KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
		export KAFKA_HOME
		tools=$(tools_of "$perl")
	else
		scripts/install-deps.sh --build || exit 1
	fi
	keep_build || exit 1
	private_postgresql
	build_copy FAILPOINTS=yes WERROR=yes with_llvm=no TOOLS="$(echo $tools)" || die 'the build failed'
	if [ -n "$sql$specs" ]; then
		port=$(free_port)
		start_regress_server
		# one after the other in one database: in the order in which all of them run
		if [ -n "$sql" ]; then regress regress ISOLATION= REGRESS="$(printf '%s\n' $sql | sort -u | xargs)"; fi
		if [ -n "$specs" ]; then regress isolation REGRESS= ISOLATION="$specs"; fi
		remove_server
	fi
	if [ -n "$perl" ]; then tap "$perl"; fi
	echo "what they printed is in $PWD"
}

everything()
{
	local ok=0 bad=1 job
	KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
	export KAFKA_HOME
	private_postgresql
	build_copy FAILPOINTS=yes WERROR=yes || die 'the build failed'
	checks
	port=$(free_port)
	(passed=0 failed=0 && installchecks) >"$work/installchecks.log" 2>&1 &
	job=$!
	pids+=("$job")
	tap
	wait "$job"
	cat "$work/installchecks.log"
	read -r ok bad <"$work/installchecks" || bad=1
	passed=$((passed + ok))
	failed=$((failed + bad))
	# the rows of profiles written by statements, which a server without direct access does
	export PS_DIRECT_ACCESS=off
	tap 'test/t/stream_020*.pl test/t/event_030*.pl test/t/rules_010*.pl'
}

if [ "$quick" = yes ]; then quick "$@"; else everything; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
