#!/bin/bash
# Writes what doc/reference/ takes from the catalog: synopses, tables of arguments, columns and settings. It builds a
# copy of the tree and starts a server of its own for that. test/t/doc_020_reference.pl fails when it was not run.
#
#   scripts/reference.sh           writes the pages
#   scripts/reference.sh --check   writes nothing, and says what is out of date
set -uo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 0 --check "$@"
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh

root=$PWD
private_postgresql
build_copy with_llvm=no || exit 1
port=$(free_port)
start_server "port = $port" 'fsync = off' || exit 1
export PGHOST=$work PGPORT=$port PGUSER=$superuser PGDATABASE=template1
"$bindir/psql" -Xq -c 'CREATE EXTENSION profile_stream' || exit 1
PATH=$bindir:$PATH "$root/scripts/reference.py" "$@"
