#!/bin/bash
# Installs what building and testing need on Debian or Ubuntu, and skips what is there.
#
#   scripts/install-deps.sh            packages and Kafka's jars; prints the folder for KAFKA_HOME
#   scripts/install-deps.sh --no-kafka packages for building and for the demo only
#   scripts/install-deps.sh --build    packages for building only
#   scripts/install-deps.sh --list     only prints the names of the packages
#
# The PostgreSQL is that of pg_config ($PG_CONFIG, or the one in the path); without one, the newest that apt offers.
# PS_PG chooses another version, PS_CACHE where the jars are kept.
set -euo pipefail
. "$(dirname "$0")/arguments.sh"
expect_arguments 0 '--no-kafka|--build|--list ...' "$@"

kafka_version=4.3.1
kafka=yes
redis=yes
list=
for option; do
	case $option in
		--no-kafka) kafka=no ;;
		--build) kafka=no redis=no ;;
		--list) list=yes ;;
	esac
done
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

# Runs apt-get without a word, unless it fails. While another program has apt's lock it tries again, for five minutes.
apt_get()
{
	local log end=$((SECONDS + 300))
	log=$(mktemp)
	until DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq "$@" >"$log" 2>&1 </dev/null; do
		if [ $SECONDS -gt $end ] || ! grep -q 'Could not get lock\|Unable to acquire\|Unable to lock' "$log"; then
			cat "$log" >&2
			rm -f "$log"
			return 1
		fi
		sleep 2
	done
	rm -f "$log"
}

# The newest PostgreSQL from 15 on that apt has headers of; nothing when its lists are empty.
newest()
{
	apt-cache pkgnames postgresql-server-dev- | sed -n 's/^postgresql-server-dev-\([0-9]*\)$/\1/p' |
		awk '$1 >= 15' | sort -n | tail -1
}

pg=${PS_PG:-}
pg_config=${PG_CONFIG:-$(command -v pg_config || true)}
server=
if [ -z "$pg" ] && [ -n "$pg_config" ]; then
	pg=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	# libpq's package has a pg_config too, but neither of these
	if [ -x "$("$pg_config" --bindir)/initdb" ] && [ -e "$("$pg_config" --includedir-server)/postgres.h" ]; then server=there; fi
fi
if ! command -v apt-get >/dev/null; then
	if [ $kafka = no ] && [ -n "$server" ] && pkg-config --exists rdkafka; then exit 0; fi
	cat >&2 <<'END'
There is no apt here, so install by hand: PostgreSQL 15 or later with its server headers, librdkafka 2.0.2 or later, hiredis, OpenSSL,
pkg-config, gcc, make and python3. On Fedora: postgresql-server postgresql-server-devel librdkafka-devel hiredis-devel openssl-devel pkgconf
gcc make python3. Then doc/install.md says how to build, and scripts/demo.sh works too.
END
	exit 1
fi
[ -n "$pg" ] || pg=$(newest)
if [ -z "$pg" ]; then
	# the lists of packages are empty, as in most images of containers
	if [ -z "$sudo" ] || command -v sudo >/dev/null; then apt_get update; fi
	pg=$(newest)
fi
if [ -z "$pg" ]; then
	echo 'apt offers no PostgreSQL from 15 on: let root run apt-get update, add the repository of apt.postgresql.org, or set PG_CONFIG' >&2
	exit 1
fi

packages="librdkafka-dev libhiredis-dev libssl-dev pkg-config gcc libc6-dev make python3"
[ $redis = no ] || packages="$packages redis-server"
[ -n "$server" ] || packages="postgresql-$pg postgresql-server-dev-$pg $packages"
if [ $kafka = yes ]; then
	packages="$packages libipc-run-perl krb5-kdc krb5-admin-server libsasl2-modules-gssapi-mit"
	# what examples/ run with
	packages="$packages python3-psycopg python3-asyncpg python3-confluent-kafka php-cli php-pgsql python3-venv node-pg node-redis libpostgresql-jdbc-java golang-go golang-github-lib-pq-dev python3-redis golang-github-gomodule-redigo-dev"
	# for the page of examples/; Ubuntu's chromium is a snap, and its runners have another browser
	browser=
	for name in chromium-headless-shell chromium chromium-browser google-chrome; do
		if command -v "$name" >/dev/null; then browser=there; fi
	done
	[ -n "$browser" ] || packages="$packages chromium-headless-shell"
	# from 16 on it is among PostgreSQL's own programs
	[ "$pg" -ge 16 ] || packages="$packages pg-bsd-indent"
fi
# jars that are there need no maven
home=${KAFKA_HOME:-}
if [ $kafka = yes ] && [ -z "$home" ]; then
	cache=${PS_CACHE:-}
	if [ -z "$cache" ]; then
		# as root the tests run as postgres, who seldom can read root's home
		if [ "$(id -u)" = 0 ]; then cache=/var/cache/profile_stream; else cache=$HOME/.cache/profile_stream; fi
	fi
	home=$cache/kafka
fi
have_jars() { ls "$home"/libs/kafka_2.13-*.jar "$home"/libs/slf4j-simple-*.jar >/dev/null 2>&1; }
if [ $kafka = yes ]; then
	packages="$packages default-jdk-headless"
	have_jars || packages="$packages maven"
fi
if [ -n "$list" ]; then
	echo "$packages"
	exit 0
fi

missing=
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue
	# a java or an indent from elsewhere is as good
	case $package in
		default-jdk-*) command -v javac >/dev/null && continue ;;
		golang-go) command -v go >/dev/null && continue ;;
		# Debian's does not go with a node from elsewhere, which brings npm
		node-pg | node-redis) command -v npm >/dev/null && continue ;;
		maven) command -v mvn >/dev/null && continue ;;
		redis-server) command -v redis-server >/dev/null && continue ;;
		pg-bsd-indent) command -v pg_bsd_indent >/dev/null && continue ;;
	esac
	missing="$missing $package"
done
if [ -n "$missing" ]; then
	if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
		printf 'neither root nor sudo is here to install packages; root can do it:\napt-get update && apt-get install -y --no-install-recommends%s\n' "$missing" >&2
		exit 1
	fi
	echo "installing$missing: a minute or two" >&2
	apt_get update
	# shellcheck disable=SC2086
	apt_get install -y --no-install-recommends $missing
fi

[ $kafka = yes ] || exit 0
for module in pg@8 redis@4; do
	name=${module%@*}
	if command -v npm >/dev/null && ! [ -d "$(npm root -g)/$name" ] && ! [ -d "/usr/share/nodejs/$name" ]; then
		echo "installing $name for node" >&2
		$sudo npm install -g --silent "$module" >&2
	fi
done
if ! have_jars; then
	echo "downloading Kafka $kafka_version" >&2
	pom=$(mktemp -d)
	trap 'rm -rf "$pom"' EXIT
	cat >"$pom/pom.xml" <<END
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>profile_stream</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
END
	mkdir -p "$home/libs"
	(cd "$pom" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$home/libs") >&2
	chmod -R a+rX "$home"
fi
# What monitoring/ is tested with. The packages are unpacked and not installed, because installed they would start servers.
if ! [ -x "$home/exporters/usr/bin/promtool" ]; then
	echo 'downloading Prometheus and two exporters' >&2
	debs=$(mktemp -d)
	chmod 755 "$debs"
	fetch() { (cd "$debs" && apt_get download prometheus prometheus-postgres-exporter prometheus-sql-exporter); }
	fetch 2>/dev/null || { apt_get update && fetch; }
	for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$home/exporters"; done
	rm -rf "$debs"
	chmod -R a+rX "$home/exporters"
fi
# The project of bi/dbt is tested with it. Its releases follow those of Python, so it may be missing for a new one. A chroot has
# another Python than this machine, and shares the folder.
dbt=$home/dbt/$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! [ -x "$dbt/bin/dbt" ]; then
	echo 'downloading dbt' >&2
	if ! { /usr/bin/python3 -m venv "$dbt" && "$dbt/bin/pip" install -q 'dbt-core==1.10.*' 'dbt-postgres==1.10.*' && chmod -R a+rX "$dbt"; } >&2; then
		rm -rf "$dbt"
	fi
fi
echo "$home"
