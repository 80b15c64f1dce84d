#!/bin/bash
# Starts Kafka Connect (standalone) with Debezium's JDBC sink, which lands each message in a table whose trigger keeps the
# profiles: start.sh FOLDER
set -euo pipefail
cat >"$SCRATCH/worker.properties" <<END
bootstrap.servers=$BROKERS
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename=$SCRATCH/offsets
plugin.path=$1
plugin.discovery=service_load
listeners=http://127.0.0.1:0
END
cat >"$SCRATCH/sink.properties" <<END
name=$GROUP
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
tasks.max=1
topics=$TOPIC
connection.url=$JDBC_URL&reWriteBatchedInserts=true
connection.username=$PGUSER
connection.password=none
collection.name.format=landing
schema.evolution=none
insert.mode=upsert
primary.key.mode=kafka
batch.size=1000
consumer.override.max.poll.records=1000
transforms=hoist
transforms.hoist.type=org.apache.kafka.connect.transforms.HoistField\$Value
transforms.hoist.field=event
END
exec java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$KAFKA_HOME/libs/*" \
	org.apache.kafka.connect.cli.ConnectStandalone "$SCRATCH/worker.properties" "$SCRATCH/sink.properties"
