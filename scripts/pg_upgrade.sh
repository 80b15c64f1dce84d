#!/bin/bash
# Tests pg_upgrade with the extension and a running stream: test/upgrade/pg_upgrade.pl. It runs in the chroot of
# scripts/versions.sh for the newer version; the older PostgreSQL comes from the Debian release that has it. What is
# installed and built there is gone afterwards. Needs root.
#
#   scripts/pg_upgrade.sh 15 17    from 15 to 17
#   scripts/pg_upgrade.sh          from 15 to 17, then from 17 to 18
#
# PS_CHROOTS is where the chroots are kept.
set -uo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 0 '15|17|18 ...' "$@"
[ $# != 0 ] || set -- 15 17 17 18
[ $(($# % 2)) = 0 ] || refuse 'versions come in pairs, the old and the new one'
cd "$(dirname "$0")/.." || exit 1
. scripts/chroot.sh
. scripts/lib.sh
KAFKA_HOME=$(scripts/install-deps.sh | tail -1) || exit 1
export KAFKA_HOME

# In the chroot: installs the older PostgreSQL, builds the extension for both, and runs the test. Arguments: old version,
# new version, release of the old one.
# shellcheck disable=SC2016
inside='
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
sed "s/^\(deb [^ ]* \)[^ ]*/\1$3/" /etc/apt/sources.list >/etc/apt/sources.list.d/older.list
printf "Package: *\nPin: release n=%s\nPin-Priority: 100\n" "$3" >/etc/apt/preferences.d/older
mkdir -p /etc/postgresql-common
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
apt-get -qq update
apt-get -qq install -y --no-install-recommends "postgresql-$1" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log && exit 1; }
# without the compiler for JIT that its package depends on
(cd /tmp && apt-get -qq download "postgresql-server-dev-$1" 2>/tmp/apt.log && dpkg -x postgresql-server-dev-"$1"_*.deb /)
/mnt/tree/scripts/copy-tree.py /mnt/tree /tmp/tree
cd /tmp/tree
for version in "$1" "$2"; do
	options="PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config with_llvm=no"
	make -s $options clean
	make -s -j "$(nproc)" $options all tools
	make -s $options install
done
chown -R postgres /tmp/tree
runuser -u postgres -- env HOME=/tmp KAFKA_HOME=/mnt/kafka PS_OLD_BINDIR="/usr/lib/postgresql/$1/bin" \
	make -s $options installcheck REGRESS= ISOLATION= PROVE_TESTS=test/upgrade/pg_upgrade.pl PROVE_FLAGS="-I test/perl --verbose" || { tail -n 50 tmp_check/log/*; exit 1; }'

# Runs the test from one version to another, in a copy of the chroot that takes what changes.
upgrade()
{
	chroot_of "$2" || return
	rm -rf "$work/changes" "$work/scratch"
	mkdir -p "$work/changes" "$work/scratch" "$work/root"
	mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$work/changes,workdir=$work/scratch" "$work/root" || return
	in_chroot "$work/root" .:/mnt/tree "$KAFKA_HOME:/mnt/kafka" -- \
		env -u PG_CONFIG -u TMPDIR PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "$inside" upgrade "$1" "$2" "${releases[$1]}"
	set -- $?
	umount "$work/root"
	return "$1"
}

failed=0
while [ $# -ge 2 ]; do
	echo "pg_upgrade from PostgreSQL $1 to $2"
	upgrade "$1" "$2" || failed=1
	shift 2
done
exit $failed
