#!/bin/bash
# Fuzzes the decoder with libFuzzer, guided by coverage, under the address and undefined-behaviour
# sanitizers (fault 24). Installs clang's runtime; ends with libFuzzer's figures, status 0 without a finding.
#
#   bench/fuzz.sh [seconds] [seed]
set -euo pipefail
. "$(dirname "$0")/../scripts/arguments.sh"
expect_arguments 0 'number count' "$@"
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=${1:-600}
seed=${2:-1}
clang=$(ls /usr/bin/clang-[0-9]* | sort -V | tail -1)
version=${clang##*-}
dpkg-query -W -f '${Status}' "libclang-rt-$version-dev" 2>/dev/null | grep -q 'ok installed' ||
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "libclang-rt-$version-dev" >&2

"$clang" -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DPS_LIBFUZZER \
	-w -I src -I "$(pg_config --includedir-server)" -o "$work/fuzz" \
	test/tools/fuzz_event.c src/core/event.c src/core/format.c src/core/cloudevents.c src/core/format_read.c src/core/format_compile.c src/core/path.c src/core/json.c src/core/timestamp.c src/testing/fuzz.c \
	src/core/text.c src/core/event_rules.c src/testing/fuzz_parsers.c src/core/keyed_hash.c src/core/redact.c src/message.c src/core/offset_set.c \
	-Wl,--allow-multiple-definition "$(pg_config --pkglibdir)/libpgcommon.a" "$(pg_config --pkglibdir)/libpgport.a" -lm
mkdir "$work/corpus"
cat >"$work/corpus/event" <<'END'
x{"eventId":"e-1","customerId":42,"eventType":"transaction.completed","timestamp":"2025-06-01T12:30:45.123456+02:00","source":"core","schemaVersion":1,"payload":{"amount":-12.5e-3,"tags":[1,null,{"a":true}],"name":"\u00fc\ud83d\ude00"}}
END
cd "$work"
"$work/fuzz" -max_total_time="$seconds" -seed="$seed" -max_len=2048 -use_value_profile=1 -print_final_stats=1 \
	"$work/corpus" 2>&1 | grep -E 'stat::|ERROR|SUMMARY|Test unit|DONE|cov:' | tail -12
