# Sourced by the benchmarks, after scripts/lib.sh: builds and installs the extension, a real Kafka, a server.

prepare()
{
	KAFKA_HOME=$(scripts/install-deps.sh | tail -1)
	export KAFKA_HOME
	pg_config=${PG_CONFIG:-$(command -v pg_config)}
	bindir=$("$pg_config" --bindir)

	make -s PG_CONFIG="$pg_config" all tools
	make -s PG_CONFIG="$pg_config" install
	open_work
}

# The same in a copy of the tree, for a private copy of PostgreSQL; nothing is installed.
prepare_copy()
{
	KAFKA_HOME=$(scripts/install-deps.sh | tail -1)
	export KAFKA_HOME
	pg_config=${PG_CONFIG:-$(command -v pg_config)}
	private_postgresql
	build_copy
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

start_bench_server()
{
	start_server 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'max_locks_per_transaction = 256'
}

sql() { "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -U postgres -d postgres -c "$1"; }

# Builds what measures the latency, as $work/latency.
build_latency()
{
	# shellcheck disable=SC2046
	cc -O2 -Wall -Wextra -o "$work/latency" bench/latency.c -I"$("$pg_config" --includedir)" $(pkg-config --cflags --libs rdkafka) -lpq
}
