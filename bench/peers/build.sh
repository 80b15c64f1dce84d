#!/bin/bash
# Installs the packages of a peer into a folder that stays; what is there in these versions is left alone. Needs
# KAFKA_HOME. The last line on standard error says why it failed.
#
#   bench/peers/build.sh staging|streams|connect|node FOLDER
set -euo pipefail
. "$(dirname "$0")/../../scripts/arguments.sh"
expect_arguments 2 'staging|streams|connect|node path' "$@"
name=$1
folder=$(realpath -m "$2")/$name
cd "$(dirname "$0")"

# every version of every peer; Kafka's is that of scripts/install-deps.sh
confluent_kafka=2.16.1
psycopg=3.3.9
typing_extensions=4.16.0
jdbc=42.7.8
debezium=3.4.0.Final
kafkajs=2.2.4
pg=8.23.1
ioredis=5.9.3

die()
{
	echo "$1" >&2
	exit 1
}

need()
{
	local program
	for program; do command -v "$program" >/dev/null || die "no $program"; done
}

# Copies the jars of Maven coordinates, with what they depend on: folder, group that is left out, group:artifact:version ...
jars()
{
	local pom coordinate group artifact version
	need mvn
	pom=$(mktemp -d)
	{
		echo '<project><modelVersion>4.0.0</modelVersion><groupId>bench</groupId><artifactId>peer</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
		for coordinate in "${@:3}"; do
			IFS=: read -r group artifact version <<<"$coordinate"
			echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
		done
		echo '</dependencies></project>'
	} >"$pom/pom.xml"
	(cd "$pom" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DexcludeGroupIds="$2" -DoutputDirectory="$1") >&2 || die 'maven failed'
	rm -rf "$pom"
}

kafka=$(basename "$(ls "$KAFKA_HOME"/libs/kafka-clients-*.jar)" .jar)
kafka=${kafka#kafka-clients-}
case $name in
	staging) wanted="confluent-kafka==$confluent_kafka psycopg==$psycopg psycopg-binary==$psycopg typing-extensions==$typing_extensions" ;;
	streams) wanted="org.apache.kafka:kafka-streams:$kafka org.postgresql:postgresql:$jdbc org.slf4j:slf4j-simple:1.7.36" ;;
	connect) wanted="io.debezium:debezium-connector-jdbc:$debezium" ;;
	node) wanted="kafkajs@$kafkajs pg@$pg ioredis@$ioredis" ;;
esac
# what must be there also where the packages are
case $name in
	staging) need python3 ;;
	streams) need java javac ;;
	connect) need java ;;
	node) need node redis-server ;;
esac

if [ "$(cat "$folder/wanted" 2>/dev/null)" != "$wanted" ]; then
	rm -rf "$folder"
	mkdir -p "$folder"
	# shellcheck disable=SC2086
	case $name in
		staging) { python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install -q $wanted; } >&2 || die 'pip failed' ;;
		streams) jars "$folder/jars" '' $wanted ;;
		# with a Jackson of its own it finds modules of that of Connect, and fails
		connect) jars "$folder/jars" com.fasterxml.jackson.core $wanted ;;
		node)
			need npm
			npm install --silent --no-audit --no-fund --save-exact --prefix "$folder" $wanted >&2 || die 'npm failed'
			;;
	esac
	echo "$wanted" >"$folder/wanted"
fi
if [ "$name" = streams ]; then
	javac -Xlint:all -Xlint:-classfile -Xlint:-processing -cp "$folder/jars/*" -d "$folder/classes" streams/Profiles.java >&2 || die 'javac failed'
fi
echo "$wanted"
