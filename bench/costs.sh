#!/bin/bash
# What functions that stand in a SELECT over many rows take of a row, beside the COST that they are declared with. The unit of COST is
# cpu_operator_cost; here it is a comparison of two texts. Prints nanoseconds a call, how many comparisons that is, and the COST.
#
#   bench/costs.sh [profiles] [rounds]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number number' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh
profiles=${1:-20000}
rounds=${2:-5}

private_postgresql
build_copy
start_bench_server
sql 'CREATE EXTENSION profile_stream'
"$bindir/psql" -X -q -h "$work" -U postgres -d postgres -f bench/profiles.sql
sql "SELECT profile_stream.create_metric('spent_9d', 'transaction.completed', '9 days', '\$.amount', 'sum'), profile_stream.create_metric('last_9d', 'transaction.completed', '9 days', '\$.amount', 'last')" >/dev/null
sql "CALL load($profiles)"
sql 'VACUUM ANALYZE'
"$bindir/psql" -X -q -v ON_ERROR_STOP=1 -v rounds="$rounds" -v profiles="$profiles" -h "$work" -U postgres -d postgres -f bench/costs.sql
