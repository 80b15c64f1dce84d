#!/bin/bash
# Runs scripts/test.sh on each version of PostgreSQL: in a chroot of the Debian release that has it, which
# debootstrap makes and the next run uses again. No release of Debian has 16, which is built from source
# (scripts/build-postgres.sh) and tested on this machine. Needs root.
#
#   scripts/versions.sh                                         everything, on 15 to 18
#   PROVE_TESTS='test/t/stream_*.pl' scripts/versions.sh 18     TAP files by pattern, on 18
#
# PS_CHROOTS is where the chroots are kept, about 2 GB each.
set -uo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 0 '15|16|17|18 ...' "$@"
[ $# != 0 ] || set -- 15 16 17 18
cd "$(dirname "$0")/.." || exit 1
. scripts/chroot.sh
KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME

# Runs the tests of this tree in the chroot of a version.
run_in_chroot()
{
	chroot_of "$1" && in_chroot "$chroot" .:/mnt/tree "$KAFKA_HOME:$KAFKA_HOME" -- \
		env -u PG_CONFIG -u TMPDIR PS_PG="$1" KAFKA_HOME="$KAFKA_HOME" LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin /mnt/tree/scripts/test.sh
}

# Runs the tests on a version: in its chroot, or on a build from source.
run()
{
	local build
	if [ -n "${releases[$1]:-}" ]; then
		run_in_chroot "$1"
	else
		build=$(scripts/build-postgres.sh "$1" "$chroots/postgres-$1") && env "$build" scripts/test.sh
	fi
}

failed=0
for version; do
	echo "PostgreSQL $version${releases[$version]:+ on ${releases[$version]}}"
	run "$version" || failed=1
done
exit $failed
