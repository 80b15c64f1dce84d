# The launcher visits every database as a superuser. It does not read tables that another role put in the place of the
# extension's. A role that existed before the extension is not silently taken for one of its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;

my $node = ProfileStream::Node->start_new('main');

# Lets the launcher visit all databases, and waits until it has been here.
sub scan
{
	my ($pattern) = @_;
	my $offset = -s $node->logfile;

	$node->reload;
	return $node->wait_for_log($pattern, $offset);
}

# what owns the schema decides what its names mean
$node->sql('CREATE ROLE mallory LOGIN', 'GRANT CREATE ON DATABASE postgres TO mallory');
$node->sql('ALTER SCHEMA profile_stream OWNER TO mallory', 'ALTER SCHEMA profile_stream_internal OWNER TO mallory');
$node->safe_psql('postgres', <<'END', extra_params => [ '-U', 'mallory' ]);
ALTER SCHEMA profile_stream RENAME TO away;
ALTER SCHEMA profile_stream_internal RENAME TO away_internal;
CREATE SCHEMA profile_stream;
CREATE SCHEMA profile_stream_internal;
CREATE FUNCTION profile_stream.evil() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'ALTER ROLE mallory SUPERUSER';
	RETURN true;
END $$;
CREATE VIEW profile_stream.streams AS SELECT s.*, profile_stream.evil() AS evil FROM (VALUES (1, 'x'::text)) s (stream_id, name) WHERE profile_stream.evil();
CREATE VIEW profile_stream_internal.stream_status AS SELECT 1 AS stream_id, d.oid AS database, profile_stream.evil() AS enabled, 'x'::text AS state FROM pg_database d;
END
ok(scan(qr/schema profile_stream is not the extension's own/), 'the scanner says that the schema is not the extension\'s');
is($node->sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'and has run nothing of it');

# the same for an ordinary table with a trigger, in the extension's own schema
$node->safe_psql('postgres', 'DROP SCHEMA profile_stream, profile_stream_internal CASCADE; ALTER SCHEMA away RENAME TO profile_stream; ALTER SCHEMA away_internal RENAME TO profile_stream_internal', extra_params => [ '-U', 'mallory' ]);
$node->sql('ALTER SCHEMA profile_stream OWNER TO CURRENT_USER', 'ALTER SCHEMA profile_stream_internal OWNER TO CURRENT_USER', 'ALTER TABLE profile_stream_internal.stream_status OWNER TO mallory',
	'GRANT USAGE ON SCHEMA profile_stream, profile_stream_internal TO mallory');
ok(scan(qr/table stream_status is not the extension's own|table profile_stream_internal\.stream_status is not the extension's own/), 'nor is a table of another role read');
$node->sql('ALTER TABLE profile_stream_internal.stream_status OWNER TO CURRENT_USER', 'REVOKE USAGE ON SCHEMA profile_stream, profile_stream_internal FROM mallory');
is($node->sql('SELECT profile_stream.start_streams()'), '0', 'given back, all is well');

# what a scan met when the server started is looked at again, without a reload
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', topic => 'events')", 'ALTER TABLE profile_stream_internal.stream_status OWNER TO mallory');
my $from = -s $node->logfile;
$node->restart;
ok($node->wait_for_log(qr/stream_status is not the extension's own/, $from), 'a stream does not start');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'"), '0', 'nobody runs it');
$node->sql('ALTER TABLE profile_stream_internal.stream_status OWNER TO CURRENT_USER');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'"), 'once the reason is gone it starts by itself');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream scanner'"), 'and nobody waits any more');
$node->sql("SELECT profile_stream.drop_stream('crm')");

# roles that were there before
$node->sql('DROP EXTENSION profile_stream', 'DROP SCHEMA profile_stream');
$node->sql('DROP ROLE profile_stream_reader, profile_stream_operator', 'CREATE ROLE profile_stream_reader LOGIN', 'CREATE ROLE profile_stream_operator',
	'GRANT profile_stream_operator TO mallory WITH ADMIN OPTION');
my ($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION profile_stream');
is($status, 0, 'roles of these names may be there');
like($err, qr/WARNING:  role profile_stream_reader was there before: it may log in/, 'one that may log in is told');
like($err, qr/WARNING:  role profile_stream_operator was there before: role mallory may grant it/, 'and who may make operators');
$node->sql('ALTER ROLE profile_stream_reader NOLOGIN', 'REVOKE profile_stream_operator FROM mallory', 'DROP EXTENSION profile_stream', 'DROP SCHEMA profile_stream');
($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION profile_stream');
is($err, '', 'others are not');
$node->stop('fast');
done_testing();
