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
cd "$(dirname "$0")/.." || exit 1

declare -A releases=([15]=bookworm [17]=trixie [18]=sid)
chroots=${PS_CHROOTS:-/var/cache/profile_stream/chroots}
KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME

# Makes the chroot for a version if it is not there yet.
make_chroot()
{
	local release=${releases[$1]} packages
	[ -d "$chroots/$release" ] && return
	if ! command -v debootstrap >/dev/null || ! [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
		apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >&2 || return
	fi
	packages=$(PS_PG=$1 scripts/install-deps.sh --list)
	mkdir -p "$chroots"
	rm -rf "$chroots/$release.part"
	debootstrap --variant=minbase --include="${packages// /,}" "$release" "$chroots/$release.part" >"$chroots/$release.log" &&
		mv "$chroots/$release.part" "$chroots/$release"
}

# Runs the tests of this tree in the chroot of a version; the mounts end with the process.
run_in_chroot()
{
	# shellcheck disable=SC2016
	PS_PG=$1 unshare --mount bash -c '
		set -e
		mkdir -p "$0/mnt/tree" "$0/mnt/kafka"
		mount -t proc proc "$0/proc"
		mount -t tmpfs tmpfs "$0/dev/shm"
		mount --bind . "$0/mnt/tree"
		mount --bind "$KAFKA_HOME" "$0/mnt/kafka"
		cp /etc/hosts /etc/resolv.conf "$0/etc/"
		# the release file of sid is valid for a week, and a mirror may be older; its signature is still checked
		echo "Acquire::Check-Valid-Until \"false\";" >"$0/etc/apt/apt.conf.d/99profile_stream"
		exec chroot "$0" env -u PG_CONFIG KAFKA_HOME=/mnt/kafka LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin \
			/mnt/tree/scripts/test.sh' "$chroots/${releases[$1]}"
}

# Runs the tests on a version: in its chroot, or on a build from source.
run()
{
	local build
	if [ -n "${releases[$1]:-}" ]; then
		make_chroot "$1" && run_in_chroot "$1"
	else
		build=$(scripts/build-postgres.sh "$1" "$chroots/postgres-$1") && env "$build" scripts/test.sh
	fi
}

[ $# != 0 ] || set -- 15 16 17 18
failed=0
for version; do
	echo "PostgreSQL $version${releases[$version]:+ on ${releases[$version]}}"
	run "$version" || failed=1
done
exit $failed
