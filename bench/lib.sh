# Sourced by the benchmarks, after scripts/lib.sh: builds the extension, starts a real Kafka and a server.

# Builds in a copy of the tree, for a private copy of PostgreSQL; goes there. Nothing is installed.
# With bench_build=folder the build stays there, and the next one compiles what has changed.
prepare_copy()
{
	build=${bench_build:-$work}
	mkdir -p "$build"
	KAFKA_HOME=$(scripts/install-deps.sh | tail -1)
	export KAFKA_HOME
	pg_config=${PG_CONFIG:-$(command -v pg_config)}
	private_postgresql
	build_copy with_llvm=no
}

# Starts Kafka; $port is where.
start_kafka()
{
	port=$(free_port)
	controller=$(free_port)
	cat >"$work/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/kafka
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
END
	java -cp "$KAFKA_HOME/libs/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qk -c "$work/server.properties" >/dev/null 2>&1
	java -Xmx1g -cp "$KAFKA_HOME/libs/*" kafka.Kafka "$work/server.properties" >"$work/kafka.log" 2>&1 &
	pids+=($!)
}

# Produces a file as soon as Kafka answers: arguments of test/tools/produce.
produce_once_up()
{
	for _ in $(seq 60); do
		if test/tools/produce -b "127.0.0.1:$port" "$@" 2>/dev/null; then break; fi
		sleep 1
	done
}

# With more settings.
start_bench_server()
{
	start_server 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'max_locks_per_transaction = 256' "$@"
}

declare -A ports	# of the servers that start_named_server started

# Starts one of several servers: name, more settings. It has a folder and a port of its own; all share the folder of sockets.
start_named_server()
{
	local main=$work work=$work/$1

	ports[$1]=$(free_port)
	as_postgres mkdir -p "$work"
	start_bench_server "port = ${ports[$1]}" "unix_socket_directories = '$main'" "${@:2}"
	trap 'end_named_servers; finish' EXIT
}

end_named_servers()
{
	local name
	for name in "${!ports[@]}"; do as_postgres "$bindir/pg_ctl" -D "$work/$name/data" -m immediate -s stop || true; done
}

# Runs SQL on one of them: its name, statements.
on() { "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p "${ports[$1]}" -U postgres -d postgres -c "$2"; }

# Ends the script unless PG_CONFIG names a PostgreSQL that has Citus.
expect_citus()
{
	[ -f "$("${PG_CONFIG:-pg_config}" --sharedir)/extension/citus.control" ] && return
	echo 'NOT RUN: PG_CONFIG names no PostgreSQL with Citus' >&2
	exit 1
}

citus_shards=32

# Starts one server called plain and, with Citus, one called coordinator and the nodes that are named, which share the profiles.
start_plain_and_citus()
{
	local name
	for name in plain coordinator "$@"; do
		start_named_server "$name" "listen_addresses = '127.0.0.1'" 'wal_level = logical' 'max_prepared_transactions = 64' 'max_worker_processes = 32' \
			"shared_preload_libraries = '$([ "$name" = plain ] || echo citus,)profile_stream'"
	done
	for name in coordinator "$@"; do on "$name" 'CREATE EXTENSION citus' 2>/dev/null; done
	on coordinator "SELECT citus_set_coordinator_host('127.0.0.1', ${ports[coordinator]})" >/dev/null
	for name; do on coordinator "SELECT citus_add_node('127.0.0.1', ${ports[$name]})" >/dev/null 2>&1; done
	on coordinator 'CREATE EXTENSION profile_stream' >/dev/null 2>&1
	on coordinator "SELECT profile_stream.distribute(shard_count => $citus_shards)" >/dev/null
	on plain 'CREATE EXTENSION profile_stream'
}

# The processor time that the worker of a stream has taken, in ticks: server, stream.
ticks_of() { awk '{print $14 + $15}' "/proc/$(on "$1" "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$2'")/stat"; }

# Ticks as microseconds an event: ticks, events.
ticks_an_event() { awk -v t="$1" -v hz="$(getconf CLK_TCK)" -v n="$2" 'BEGIN {printf "%.2f", t / hz / n * 1e6}'; }

# In $database, where it is set.
sql() { "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -U postgres -d "${database:-postgres}" -c "$1"; }

# Samples events, seconds and processor time of a load: arguments of bench/watch.py.
watch()
{
	PGHOST=$work PGUSER=postgres PGDATABASE=${database:-postgres} bench/watch.py --psql "$bindir/psql" \
		--server "$(head -1 "$work/data/postmaster.pid")" "$@"
}

# The same for a new stream, which then ends: topic, more arguments of create_stream(), marks. The last column is its worker.
watch_stream()
{
	local status=0 worker=''
	sql CHECKPOINT
	sql "SELECT profile_stream.create_stream('bench', bootstrap_servers => '127.0.0.1:$port', topic => '$1'$2)" >/dev/null 2>&1
	until [ -n "$worker" ]; do worker=$(sql "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = 'bench'"); done
	# not wait_for_stream(): its snapshot would keep every old row version for the whole load
	watch --process "$worker" --sql 'SELECT sum(applied + duplicates + dead + late + tombstones) FROM profile_stream_internal.stream_offsets' "${@:3}" || status=1
	end_stream bench
	return $status
}

# Drops a stream and waits until its processes are gone.
end_stream()
{
	sql "SELECT profile_stream.drop_stream('$1')" >/dev/null
	until [ "$(sql "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^profile_stream (worker|relay)'")" = 0 ]; do sleep 0.2; done
}

# Makes a profile of one event for each of so many customers of events.py.
fill_profiles()
{
	sql "CREATE PROCEDURE fill_profiles(number int) LANGUAGE plpgsql AS \$\$
		BEGIN
			FOR n0 IN 0 .. number - 1 BY 10000 LOOP
				PERFORM profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', n, 'customerId', 'cust-' || lpad(n::text, 8, '0'),
					'eventType', 'transaction.completed', 'timestamp', '2026-01-01T00:00:00Z', 'payload', jsonb_build_object('amount', 1))
					FROM generate_series(n0, least(n0 + 10000, number) - 1) n));
				COMMIT;
			END LOOP;
		END \$\$"
	sql "CALL fill_profiles($1)"
	sql VACUUM
}

empty_tables()
{
	sql 'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks'
}

# Bytes on disk of what de-duplication keeps: sealed chunks, and the part of the profiles that their open ones are.
dedupe_bytes()
{
	sql "SELECT pg_total_relation_size('profile_stream_internal.event_id_chunks')
		+ (SELECT COALESCE(sum(pg_column_size(event_ids))::float8 / sum(pg_column_size(p.*)) * pg_table_size('profile_stream.materialized_profiles'), 0)::int8
			FROM profile_stream.materialized_profiles p)"
}

# Builds what measures the latency, as $work/latency.
build_latency()
{
	# shellcheck disable=SC2046
	cc -O2 -Wall -Wextra -o "$work/latency" bench/latency.c -I"$("$pg_config" --includedir)" $(pkg-config --cflags --libs rdkafka) -lpq
}
