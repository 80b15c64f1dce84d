#!/bin/bash
# Goes the ways of a newcomer on a Debian that has nothing but git: clone, demo, one test; then doc/install.md, into the server
# of the system. Prints how long each took.
# Needs root and the packages of the release from the network.
#
#   scripts/fresh.sh bookworm    on Debian 12; trixie is 13, sid what comes after
#
# The Debian is a chroot that debootstrap makes, which is removed at the end. What is cloned is the newest commit of this tree.
set -uo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 1 name "$@"
cd "$(dirname "$0")/.." || exit 1
. scripts/chroot.sh
release=$1
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Does a step in the chroot and says how long it took; if it fails, shows all that it printed. Arguments: what to show of it, command.
step()
{
	local shown=$1 start=$SECONDS
	shift
	printf '$ %s\n' "$*"
	if ! in_chroot "$work/debian" "$work/origin:/mnt" -- env -i HOME=/root PATH="$path" sh -c "cd /root; [ ! -d profile_stream ] || cd profile_stream; $*" >"$work/log" 2>&1; then
		cat "$work/log"
		exit 1
	fi
	[ -z "$shown" ] || grep -E "$shown" "$work/log"
	echo "$((SECONDS - start)) s"
}

mkdir "$work/origin"
git -c safe.directory="$PWD" bundle create -q "$work/origin/profile_stream.bundle" HEAD || exit 1
make_chroot "$work/debian" "$release" git ca-certificates || { tail "$work/debian.log" && exit 1; }
echo "Debian $(cat "$work/debian/etc/debian_version"), commit $(git -c safe.directory="$PWD" rev-parse --short HEAD), $(date -u '+%F %R')"
SECONDS=0
step '' git clone -q /mnt/profile_stream.bundle profile_stream
cloned=$SECONDS
step '^(\[|installing)|\.\.\. [0-9]+ s$' scripts/demo.sh --plain
profile=$(sed -n 's/^\[ *\([0-9]*\) s\] Profiles,.*/\1/p' "$work/log")
step 'passed' scripts/test.sh -q handlers
step '^ c-1001' "$(cat <<'END'
make -s -j "$(nproc)" && make -s install || exit
pg_lsclusters -h | {
	read -r version name _ && pg_ctlcluster "$version" "$name" start || exit
	runuser -u postgres -- createdb -T template0 -E UTF8 -l C.UTF-8 shop && runuser -u postgres -- psql -X -d shop -v ON_ERROR_STOP=1 <<'SQL'
CREATE EXTENSION profile_stream;
SELECT profile_stream.apply_event('{"eventId": "e-1", "customerId": "c-1001", "eventType": "account.opened", "timestamp": "2026-01-10T12:00:00Z"}');
SELECT customer_id, account_count FROM profile_stream.profiles;
SQL
	status=$?
	pg_ctlcluster "$version" "$name" stop && exit $status
}
END
)"
echo "from clone to the first profile: $((cloned + profile)) s"
