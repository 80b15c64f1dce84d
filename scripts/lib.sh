# Sourced by the scripts that run a throw-away server: demo.sh, test.sh, bench/run.sh.
#
#   $work     a folder that is removed at exit, after the server of $work/data has stopped
#   $bindir   programs of PostgreSQL; the caller sets it before it starts a server
#   $pids     processes that are ended at exit
#   $verbose  yes: a failure shows the end of the server's log

work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
pids=()
verbose=

# PostgreSQL does not run as root.
as_postgres()
{
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env HOME="$work" "$@"
	else
		"$@"
	fi
}

# Lets the server's user into $work; with -R everything in it becomes that user's.
open_work()
{
	if [ "$(id -u)" = 0 ]; then chown "$@" postgres "$work"; fi
	chmod 755 "$work"
}

# Makes a server in $work/data with these settings and starts it; its socket is in $work.
start_server()
{
	as_postgres "$bindir/initdb" -D "$work/data" -A trust -U postgres -E UTF8 --no-locale -N >/dev/null &&
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$work'" "timezone = 'UTC'" "$@" |
		as_postgres tee -a "$work/data/postgresql.conf" >/dev/null &&
		as_postgres "$bindir/pg_ctl" -D "$work/data" -l "$work/data/log" -w -s start
}

# A free port of this machine.
free_port()
{
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A copy of the tree without what was built from it.
copy_tree()
{
	mkdir "$work/tree" &&
		tar -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=./tmp_check \
			--exclude=./results --exclude=./test/tools/mockbroker --exclude=./test/tools/produce --exclude=./test/tools/topic . |
		tar -xf - -C "$work/tree"
}

finish()
{
	local status=$?
	if [ -d "$work/data" ]; then
		as_postgres "$bindir/pg_ctl" -D "$work/data" -m immediate -s stop || true
		if [ "$verbose" = yes ] && [ $status != 0 ]; then tail -20 "$work/data/log" || true; fi
	fi
	if [ ${#pids[@]} != 0 ]; then
		kill "${pids[@]}" 2>/dev/null || true
		wait "${pids[@]}" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap finish EXIT
