#!/bin/bash
# Starts the article's service: start.sh FOLDER
NODE_PATH=$1/node_modules exec node "$(dirname "$0")/service.js"
