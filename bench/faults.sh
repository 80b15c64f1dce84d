#!/bin/bash
# The fault matrix in a long form: the TAP tests of each fault with more events, those that take a seed once for each of
# several. Prints a line a fault and a summary. Nothing of the machine's own PostgreSQL changes.
#
#   bench/faults.sh [events] [seed ...]
#   PS_FAULTS='1 5 19' bench/faults.sh …   only these rows of doc/internals/reliability.md
#   PS_OUT=folder bench/faults.sh …        keeps what the tests printed there
set -uo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number count ...' "$@"
cd "$(dirname "$0")/.." || exit 1
. scripts/lib.sh
events=${1:-200000}
shift
seeds=("${@:-1}")

KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME
private_postgresql
build_copy FAILPOINTS=yes WERROR=yes || exit 1
mkdir "$work/runs"

# Runs a test and keeps its log, and how it ended: file, seed.
run()
{
	local log
	log=$work/runs/$(basename "$1" .pl).$2
	as_postgres env PS_EVENTS="$events" PS_SEED="$2" PS_FREEZE=90 make -s PG_CONFIG="$bindir/pg_config" installcheck \
		REGRESS= ISOLATION= PROVE_TESTS="$1" >"$work/prove.log" 2>&1 ||
		echo "FAILED: $1, seed $2" >&2
	cp "tmp_check/log/regress_log_$(basename "$1" .pl)" "$log"
	grep '^Result' "$work/prove.log" >>"$log"
}

for test in $(bench/faults.py tests ${PS_FAULTS:+"$PS_FAULTS"}); do
	for seed in "${seeds[@]}"; do
		run "$test" "$seed"
		# the others do the same whatever the seed
		if ! grep -q PS_SEED "$test"; then break; fi
	done
done
if [ -n "${PS_OUT:-}" ]; then mkdir -p "$PS_OUT" && cp "$work/runs"/* "$PS_OUT"; fi
bench/faults.py report "$work/runs" ${PS_FAULTS:+"$PS_FAULTS"}
