#!/bin/bash
# Starts the consumer that stages: start.sh FOLDER
exec "$1/venv/bin/python" "$(dirname "$0")/consumer.py"
