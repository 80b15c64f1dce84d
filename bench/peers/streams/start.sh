#!/bin/bash
# Starts Kafka Streams with its JDBC writer: start.sh FOLDER
exec java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$1/classes:$1/jars/*" Profiles
