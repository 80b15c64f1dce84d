#!/bin/bash
# Builds a PostgreSQL with assertions and TAP tests from source, to run the tests on.
#
#   scripts/build-postgres.sh 16 /tmp/pg16                 assertions
#   scripts/build-postgres.sh --sanitize 16 /tmp/pg16san   and the address and undefined-behaviour sanitizers
#   PG_CONFIG=/tmp/pg16/bin/pg_config scripts/test.sh      the tests on it, also with -q
#
# The source is the newest release of that major version: from PostgreSQL's repository at GitHub where git
# reaches it, else from the source package of the distribution. A folder where that is built already stays as it
# is. PS_SOURCE=FOLDER takes a source tree that is there.
set -euo pipefail
. "$(dirname "$0")/arguments.sh"

sanitize=
if [ "${1:-}" = --sanitize ]; then
	sanitize=yes
	shift
fi
expect_arguments 2 'number path' "$@"
version=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/profile_stream.XXXXXX")
trap 'rm -rf "$work"' EXIT
repository=https://github.com/postgres/postgres

die()
{
	echo "$1" >&2
	exit 1
}

# The newest release of the version in PostgreSQL's repository.
from_git()
{
	local tag
	command -v git >/dev/null || return
	tag=$(timeout 60 git ls-remote --refs --tags "$repository" "REL_${version}_*" 2>/dev/null |
		sed -n 's,.*/\(REL_[0-9]*_[0-9]*\)$,\1,p' | sort -V | tail -1)
	[ -n "$tag" ] || return
	git clone -q --depth 1 --branch "$tag" "$repository" "$work/source" 2>/dev/null
}

# The distribution's source package, the newest that can be downloaded; the configuration of apt stays as it is.
from_apt()
{
	local file apt package=postgresql-$version release
	mkdir -p "$work/sources" "$work/lists/partial" "$work/apt"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -f "$file" ] || sed -n 's/^deb /deb-src /p' "$file" >"$work/sources/$(basename "$file" .list).list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")"
	done
	apt=(-qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists")
	apt-get "${apt[@]}" update >&2 || return
	for release in $(apt-cache "${apt[@]}" showsrc --only-source "$package" | sed -n 's/^Version: //p' | sort -rVu); do
		(cd "$work/apt" && apt-get "${apt[@]}" source --download-only "$package=$release" >&2) && break
	done
	[ -f "$work"/apt/*.orig.tar.* ] || return
	mkdir "$work/source"
	tar -xf "$work"/apt/*.orig.tar.* -C "$work/source" --strip-components=1
}

if [ ! -e "$folder/complete" ]; then
	if [ -z "${PS_SOURCE:-}" ]; then
		from_git || from_apt || die "there is no source of PostgreSQL $version: neither git nor apt-get source has it"
		PS_SOURCE=$work/source
	fi
	missing=
	for package in bison flex libicu-dev libreadline-dev zlib1g-dev libipc-run-perl; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
	done
	if [ -n "$missing" ]; then
		sudo=
		[ "$(id -u)" = 0 ] || sudo=sudo
		$sudo apt-get update -qq >&2
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >&2
	fi
	flags='-O1 -g -fno-omit-frame-pointer'
	link=
	if [ "$sanitize" = yes ]; then
		link='-fsanitize=address,undefined -fno-sanitize-recover=undefined'
		flags="$flags $link"
	fi
	# what was built and is called while more is built leaks, which does not matter
	export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0
	mkdir "$work/build"
	cd "$work/build"
	"$PS_SOURCE/configure" -q --prefix="$folder" --enable-cassert --enable-debug --enable-tap-tests --with-icu \
		CFLAGS="$flags" LDFLAGS="$link" >&2
	make -s -j "$(nproc)" world-bin >&2
	make -s install-world-bin >&2
	touch "$folder/complete"
fi
echo "PG_CONFIG=$folder/bin/pg_config"
