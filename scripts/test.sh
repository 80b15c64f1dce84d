#!/bin/bash
# Runs every test on a copy of the tree, against a private copy of PostgreSQL:
# checks of .ci, regress, isolation, TAP. Needs no server and leaves nothing.
#
#   scripts/test.sh                                  everything
#   PROVE_TESTS='test/t/001*.pl' scripts/test.sh     TAP tests by pattern
#
# The last line says how many tests passed and failed; exit status 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.."

KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME
system_pg_config=${PG_CONFIG:-$(command -v pg_config)}
work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
passed=0
failed=0

# PostgreSQL does not run as root
as_postgres()
{
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env HOME="$work" "$@"
	else
		"$@"
	fi
}

finish()
{
	if [ -d "$work/data" ]; then as_postgres "$bindir/pg_ctl" -D "$work/data" -m immediate -s stop; fi
	rm -rf "$work"
}
trap finish EXIT

die()
{
	echo "$1" >&2
	exit 1
}

# A copy of the installation, so that nothing of the machine's own changes.
private_postgresql()
{
	local folder bin
	bin=$("$system_pg_config" --bindir)
	for folder in $("$system_pg_config" --bindir) $("$system_pg_config" --pkglibdir) $("$system_pg_config" --sharedir); do
		mkdir -p "$work/pg$(dirname "$folder")"
		cp -a "$folder" "$work/pg$(dirname "$folder")/"
	done
	folder=$("$system_pg_config" --includedir-server)
	mkdir -p "$work/pg$(dirname "$folder")"
	ln -s "$folder" "$work/pg$folder"
	bindir=$work/pg$bin
}

# A free port of this machine.
free_port()
{
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

build()
{
	mkdir -p "$work/tree"
	tar -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=./tmp_check \
		--exclude=./results --exclude=./test/tools/mockbroker --exclude=./test/tools/produce . | tar -xf - -C "$work/tree"
	if [ "$(id -u)" = 0 ]; then chown -R postgres "$work"; fi
	chmod 755 "$work"
	cd "$work/tree" || exit 1
	rm -f sql/profile_stream--[0-9].[0-9].[0-9].sql
	as_postgres make -s PG_CONFIG="$bindir/pg_config" FAILPOINTS=yes WERROR=yes all tools &&
		as_postgres make -s PG_CONFIG="$bindir/pg_config" FAILPOINTS=yes WERROR=yes install
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

start_server()
{
	port=$(free_port)
	as_postgres "$bindir/initdb" -D "$work/data" -A trust -U postgres -E UTF8 --no-locale -N >/dev/null &&
		printf '%s\n' "port = $port" "listen_addresses = ''" "unix_socket_directories = '$work'" \
			'fsync = off' 'max_worker_processes = 16' 'max_prepared_transactions = 4' \
			"timezone = 'UTC'" |
		as_postgres tee -a "$work/data/postgresql.conf" >/dev/null &&
		as_postgres "$bindir/pg_ctl" -D "$work/data" -l "$work/data/log" -w -s start
}

# Runs a kind of pg_regress tests: name, make arguments.
regress()
{
	local name=$1 ok bad status
	shift
	as_postgres env PGHOST="$work" PGPORT="$port" PGUSER=postgres \
		make -s PG_CONFIG="$bindir/pg_config" installcheck TAP_TESTS= "$@" >"$work/$name.log" 2>&1
	status=$?
	grep -E '(\.\.\. |^ok |^not ok )' "$work/$name.log"
	ok=$(grep -cE '(\.\.\. ok|^ok )' "$work/$name.log")
	bad=$(grep -cE '(\.\.\. FAILED|^not ok )' "$work/$name.log")
	if [ "$status" != 0 ]; then
		if [ "$bad" = 0 ]; then bad=1; fi
		tail -5 "$work/$name.log"
		find . -name regression.diffs -exec cat {} + | head -300
	fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	echo "$name: $ok passed, $bad failed"
}

tap()
{
	local ok bad status log
	as_postgres make -s PG_CONFIG="$bindir/pg_config" installcheck REGRESS= ISOLATION= PROVE_FLAGS=-v \
		${PROVE_TESTS:+PROVE_TESTS="$PROVE_TESTS"} 2>&1 | tee "$work/tap.log" | grep -vE '^( *#|ok )'
	status=${PIPESTATUS[0]}
	ok=$(grep -cE '^ok ' "$work/tap.log")
	bad=$(grep -cE '^(not ok |.*Dubious|.*Bad plan)' "$work/tap.log")
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
	passed=$((passed + ok))
	failed=$((failed + bad))
	echo "tap: $ok passed, $bad failed"
}

private_postgresql
build || die 'the build failed'
checks
start_server || die 'the server did not start'
if ls test/sql/*.sql >/dev/null 2>&1; then regress regress ISOLATION=; fi
if ls test/specs/*.spec >/dev/null 2>&1; then regress isolation REGRESS=; fi
tap
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
