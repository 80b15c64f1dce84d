# Sourced by the scripts that run a throw-away server: demo.sh, test.sh, the benchmarks.
#
#   $work     a folder that is removed at exit, after the server of $work/data has stopped
#   $build    a folder for the copies of PostgreSQL and of the tree: $work, or one that stays (keep_build)
#   $bindir   programs of PostgreSQL; the caller sets it before it starts a server
#   $pids     processes that are ended at exit
#   $verbose  yes: a failure shows the end of the server's log
#   $superuser  whom initdb makes; $locale: its options for encoding and locale

# For a PostgreSQL that is built with sanitizers: its programs leak, a finding ends the process, a test preloads a library.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:verify_asan_link_order=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:abort_on_error=1}

work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
build=$work
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

# Lets the server's user into $work; with more names, what is called so becomes that user's as well.
open_work()
{
	if [ "$(id -u)" = 0 ]; then chown -R postgres "$work" "$@"; fi
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

# Sets $build to a folder that stays for the next run: one for each tree, user and PostgreSQL. What is there of another
# build of PostgreSQL goes. A folder of that name that is not ours alone is refused.
keep_build()
{
	local pg_config=${PG_CONFIG:-$(command -v pg_config)} inputs
	inputs=$("$pg_config"; stat -L -c '%s %Y' "$("$pg_config" --bindir)/postgres")
	build=${TMPDIR:-/tmp}/profile_stream-$(id -un)-$(echo "$PWD $("$pg_config" --bindir)" | sha256sum | cut -c1-12)
	mkdir -m 755 "$build" 2>/dev/null
	if ! [ -O "$build" ] || [ -L "$build" ] || [ -n "$(find "$build" -maxdepth 0 -perm /022)" ]; then
		echo "$build belongs to somebody else; set TMPDIR to another folder" >&2
		return 1
	fi
	exec 9>"$build/lock"
	if ! flock -n 9; then
		echo "another run uses $build" >&2
		return 1
	fi
	if [ "$inputs" != "$(cat "$build/inputs" 2>/dev/null)" ]; then
		rm -rf "${build:?}"/*
		echo "$inputs" >"$build/inputs"
	fi
}

# A copy of the tree without what was built from it; a kept one takes only what has changed.
copy_tree()
{
	scripts/copy-tree.py . "$build/tree"
}

# A copy of the installation, so that nothing of the machine's own changes; sets $bindir.
private_postgresql()
{
	local folder bin system_pg_config=${PG_CONFIG:-$(command -v pg_config)}
	bin=$("$system_pg_config" --bindir)
	bindir=$build/pg$bin
	[ ! -e "$build/pg/complete" ] || return 0
	for folder in $("$system_pg_config" --bindir) $("$system_pg_config" --pkglibdir) $("$system_pg_config" --sharedir); do
		mkdir -p "$build/pg$(dirname "$folder")"
		cp -a "$folder" "$build/pg$(dirname "$folder")/"
	done
	folder=$("$system_pg_config" --includedir-server)
	mkdir -p "$build/pg$(dirname "$folder")"
	ln -s "$folder" "$build/pg$folder"
	# the libraries for programs are there where PostgreSQL was built from source
	folder=$("$system_pg_config" --libdir)
	if [ -f "$folder/libpgcommon.a" ]; then
		mkdir -p "$build/pg$folder"
		cp -an "$folder"/libpgcommon.a "$folder"/libpgport.a "$build/pg$folder/"
	fi
	touch "$build/pg/complete"
}

# Builds the copy of the tree, goes there, and installs it into the private PostgreSQL: arguments of make.
build_copy()
{
	copy_tree
	mkdir -p "$build/cache"
	open_work "$build/pg" "$build/tree" "$build/cache"
	cd "$build/tree" || return 1
	as_postgres make -s -j "$(nproc)" PG_CONFIG="$bindir/pg_config" all tools "$@" &&
		as_postgres make -s PG_CONFIG="$bindir/pg_config" install "$@"
}

finish()
{
	local status=${1:-$?}
	trap '' INT TERM HUP
	if [ ${#pids[@]} != 0 ]; then
		kill "${pids[@]}" 2>/dev/null || true
		wait "${pids[@]}" 2>/dev/null || true
	fi
	if [ -d "$work/data" ]; then
		as_postgres "$bindir/pg_ctl" -D "$work/data" -m immediate -s stop || true
		if [ "$verbose" = yes ] && [ $status != 0 ]; then tail -20 "$work/data/log" || true; fi
	fi
	rm -rf "$work"
}
trap finish EXIT
