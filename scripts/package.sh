#!/bin/bash
# Builds Debian packages of this tree, one for each PostgreSQL from 15 on that the release has, and runs the tests
# that need no Kafka against what is in them. Needs root, or the packages of Build-Depends in debian/control.in.
#
#   scripts/package.sh FOLDER             leaves the packages there
#   scripts/package.sh --install FOLDER   also installs them, and runs the tests against the installed ones
set -euo pipefail
. "$(dirname "$0")/arguments.sh"
install=
if [ "${1:-}" = --install ]; then install=yes && shift; fi
expect_arguments 1 path "$@"
mkdir -p "$1"
folder=$(realpath "$1")
cd "$(dirname "$0")/.."
. scripts/lib.sh

needed='build-essential debhelper fakeroot dpkg-dev libhiredis-dev libssl-dev librdkafka-dev pkg-config postgresql-all'
# shellcheck disable=SC2086
if [ "$(id -u)" = 0 ]; then
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $needed; } >"$work/apt" 2>&1 || { cat "$work/apt" >&2 && exit 1; }
fi

build=$work/build
mkdir "$build"
copy_tree
open_work "$build"
cd "$build/tree"
as_postgres pg_buildext updatecontrol
if ! as_postgres dpkg-buildpackage --build=binary --no-sign >"$work/log" 2>&1; then
	cat "$work/log"
	exit 1
fi
grep -E '^(test .*\.\.\. |ok |not ok )' "$work/log"
cp "$build"/*.deb "$folder"

if [ -n "$install" ]; then
	apt-get -qq install -y "$folder"/postgresql-*-profile-stream_*.deb >"$work/apt" 2>&1 || { cat "$work/apt" >&2 && exit 1; }
	as_postgres debian/tests/installcheck >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
	grep -E '^(test .*\.\.\. |ok |not ok )' "$work/log"
fi
ls "$folder"
