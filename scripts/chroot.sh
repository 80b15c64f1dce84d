# Sourced by the scripts that try this tree in a chroot of another release of Debian: fresh.sh, pg_upgrade.sh and versions.sh.
# Needs root.

if [ "$(id -u)" != 0 ]; then
	echo "$0 needs root, for a chroot" >&2
	exit 2
fi
# the release that has a version of PostgreSQL
declare -A releases=([15]=bookworm [17]=trixie [18]=sid)
chroots=${PS_CHROOTS:-/var/cache/profile_stream/chroots}

# Makes a chroot with the smallest Debian and these packages: folder, release, packages. apt installs them, because debootstrap
# takes a wrong version of what a package needs where the release has two, as sid often has.
make_chroot()
{
	local folder=$1 release=$2
	shift 2
	if ! command -v debootstrap >/dev/null || ! [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
		apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >&2 || return
	fi
	rm -rf "$folder.part"
	mkdir -p "$(dirname "$folder")"
	debootstrap --variant=minbase "$release" "$folder.part" >"$folder.log" || return
	# the release file of sid is valid for a week, and a mirror may be older; its signature is still checked
	echo 'Acquire::Check-Valid-Until "false";' >"$folder.part/etc/apt/apt.conf.d/99profile_stream"
	# a package that is installed starts no server
	printf '#!/bin/sh\nexit 101\n' >"$folder.part/usr/sbin/policy-rc.d"
	chmod 755 "$folder.part/usr/sbin/policy-rc.d"
	in_chroot "$folder.part" -- env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"' sh "$@" >>"$folder.log" 2>&1 || return
	mv "$folder.part" "$folder"
}

# Makes the chroot for a version of PostgreSQL, if it is not there yet, and sets $chroot to its folder.
chroot_of()
{
	chroot=$chroots/${releases[$1]}
	# shellcheck disable=SC2046
	[ -d "$chroot" ] || make_chroot "$chroot" "${releases[$1]}" $(PS_PG=$1 scripts/install-deps.sh --list)
}

# Runs a command in a chroot, with folders of this machine in it; the mounts end with the process. Arguments: chroot,
# source:target of each folder, --, command.
in_chroot()
{
	# shellcheck disable=SC2016
	unshare --mount bash -ec '
		chroot=$1
		shift
		mount -t proc proc "$chroot/proc"
		mount -t tmpfs tmpfs "$chroot/dev/shm"
		while [ "$1" != -- ]; do
			mkdir -p "$chroot${1#*:}"
			mount --bind "${1%%:*}" "$chroot${1#*:}"
			shift
		done
		shift
		cp /etc/hosts /etc/resolv.conf "$chroot/etc/"
		exec chroot "$chroot" "$@"' bash "$@"
}
