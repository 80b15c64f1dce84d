# Sourced by the scripts that run a throw-away server: demo.sh, test.sh, the benchmarks.
#
#   $work     a folder that is removed at exit, after the server of $work/data has stopped
#   $bindir   programs of PostgreSQL; the caller sets it before it starts a server
#   $pids     processes that are ended at exit
#   $verbose  yes: a failure shows the end of the server's log
#   $superuser  whom initdb makes; $locale: its options for encoding and locale

work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
pids=()
verbose=
superuser=postgres
locale=(--encoding=UTF8 --no-locale)

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
	as_postgres "$bindir/initdb" -D "$work/data" -A trust -U "$superuser" "${locale[@]}" -N >/dev/null &&
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$work'" "timezone = 'UTC'" "$@" |
		as_postgres tee -a "$work/data/postgresql.conf" >/dev/null &&
		as_postgres "$bindir/pg_ctl" -D "$work/data" -l "$work/data/log" -w -s start
}

# Ends the server and removes it.
remove_server()
{
	as_postgres "$bindir/pg_ctl" -D "$work/data" -m immediate -s stop
	rm -rf "$work/data"
}

# A free port of this machine.
free_port()
{
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A copy of the tree without what was built from it: objects of any configuration, and what the Makefile would remove.
copy_tree()
{
	mkdir "$work/tree" &&
		tar -cf - --exclude=./.git --exclude=./tmp_check --exclude='*.o' --exclude='*.bc' . | tar -xf - -C "$work/tree" &&
		make -s -C "$work/tree" PG_CONFIG="${PG_CONFIG:-pg_config}" clean >/dev/null
}

# A copy of the installation, so that nothing of the machine's own changes; sets $bindir.
private_postgresql()
{
	local folder bin system_pg_config=${PG_CONFIG:-$(command -v pg_config)}
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

# Builds a copy of the tree, goes there, and installs it into the private PostgreSQL: arguments of make.
build_copy()
{
	copy_tree
	open_work -R
	cd "$work/tree" || return 1
	as_postgres make -s PG_CONFIG="$bindir/pg_config" "$@" all tools &&
		as_postgres make -s PG_CONFIG="$bindir/pg_config" "$@" install
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
