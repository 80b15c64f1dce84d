# The owner of a stream is a role and not a name: without LOGIN, renamed, without rights, or dropped. Streams and code that
# come with a dump do nothing until they are confirmed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "profile_stream.score_interval = 0\n");
my $state = 'SELECT state, owner, error, hint FROM profile_stream.stat_streams';
my $sent = 0;

sub is_row { my ($sql, $expected, $name) = @_; is($node->sql($sql), $expected, $name); }

sub send_event
{
	my ($type) = @_;
	$sent++;
	$broker->produce('events', [ 0, "c$sent", qq({"eventId":"$sent","customerId":"c$sent","eventType":"$type","timestamp":"2026-01-01T00:00:00Z"}) ]);
}

# Whether the stream takes one more event.
sub goes_on
{
	my ($name) = @_;
	send_event('seen');
	ok($node->wait_taken('crm', $sent), $name);
}

# A group that cannot log in, may not connect and has no connection left owns a stream.
my $bootstrap = $broker->bootstrap;
$node->sql(<<"END");
CREATE ROLE ops NOLOGIN CONNECTION LIMIT 0 IN ROLE profile_stream_operator;
CREATE ROLE others NOLOGIN IN ROLE profile_stream_operator;
CREATE SERVER kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$bootstrap');
GRANT USAGE ON FOREIGN SERVER kafka TO ops;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
SET ROLE ops;
SELECT profile_stream.create_stream('crm', server => 'kafka', topic => 'events');
END
goes_on('a stream whose owner has no LOGIN, no CONNECT and no connection');
is_row("SELECT usename FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'", 'ops', 'its worker is its owner\'s');

# renamed, and the name used again
$node->sql('ALTER ROLE ops RENAME TO team; CREATE ROLE ops SUPERUSER');
goes_on('after the owner was renamed');
$node->kill_process($node->worker_pid, 'TERM');
goes_on('and the worker started again');
is_row("SELECT owner FROM profile_stream.stat_streams", 'team', 'it is that role still');
$node->sql('DROP ROLE ops');

# without a right it stops, says why, and goes on by itself when it has the right again
foreach my $right ([ 'REVOKE profile_stream_operator FROM team', 'GRANT profile_stream_operator TO team', 'profile_stream_operator' ],
	[ 'REVOKE USAGE ON FOREIGN SERVER kafka FROM team', 'GRANT USAGE ON FOREIGN SERVER kafka TO team', 'permission denied for foreign server' ])
{
	my ($revoke, $grant, $says) = @$right;
	$node->sql($revoke);
	ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND concat_ws(' ', error, hint) ~ '$says' FROM profile_stream.stat_streams"),
		"without the right: $revoke");
	send_event('seen');
	$node->sql($grant);
	ok($node->wait_taken('crm', $sent), "and again: $grant");
}

# dropped
$node->sql('DROP OWNED BY team; DROP ROLE team; CREATE ROLE team SUPERUSER');
ok($node->poll_query_until('postgres', "SELECT state = 'no_owner' AND worker_pid IS NULL AND hint ~ 'alter_stream' FROM profile_stream.stat_streams"),
	'a stream whose owner is gone stops and says so');
send_event('seen');
$node->restart;
ok($node->poll_query_until('postgres', "SELECT state = 'no_owner' FROM profile_stream.stat_streams"), 'also after a restart');
is_row('SELECT profile_stream.start_streams()', '0', 'nobody starts it as somebody else');
$node->fails_like("SELECT profile_stream.alter_stream('crm', owner => 'others')", qr/permission denied for foreign server/, 'the new owner needs rights, too');
$node->sql("GRANT USAGE ON FOREIGN SERVER kafka TO others; SELECT profile_stream.alter_stream('crm', owner => 'others')");
ok($node->wait_taken('crm', $sent), 'given to another role it goes on from its offsets');
$node->sql("SELECT profile_stream.alter_stream('crm', owner => 'postgres')");
goes_on('and once more while it runs');
is_row('SELECT owner, applied FROM profile_stream.stat_streams', "postgres|$sent", 'with nothing lost and nothing twice');
is_row("SELECT usename FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'", 'postgres', 'its worker is the new owner\'s');

# code of a dump, in a database of its own
$node->sql(<<'END');
CREATE FUNCTION public.h(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"attributes": {"called": true}}'::jsonb $$;
SELECT profile_stream.register_handler('called', 'public.h(jsonb,jsonb)');
SELECT profile_stream.create_segment('all', 'true');
SELECT profile_stream.pause_stream('crm');
CREATE DATABASE copy;
END
my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $node->host, '-p', $node->port, 'postgres' ], 'pg_dump');
$node->command_ok([ 'pg_restore', '-e', '-d', 'copy', '-h', $node->host, '-p', $node->port, $dump ], 'pg_restore');
is($node->safe_psql('copy', 'SELECT kind, name, owner, state FROM profile_stream.stat_code ORDER BY 1'),
	"handler|called|postgres|unconfirmed\nsegment|all|postgres|unconfirmed", 'what came by a restore is not confirmed');
is($node->safe_psql('copy', 'SELECT state, owner FROM profile_stream.stat_streams'), 'restored|postgres', 'nor is the stream');
send_event('called');
$node->safe_psql('copy', "SELECT profile_stream.resume_stream('crm')");
ok( $node->poll_query_until('copy', "SELECT state = 'retrying' AND error ~ 'handler public.h.* is not confirmed' AND hint ~ 'confirm_code' FROM profile_stream.stat_streams"),
	'a stream that meets such code waits for it');
is($node->safe_psql('copy', 'SELECT count(*) FROM profile_stream.dead_letters'), '0', 'and makes no dead letters');
is($node->safe_psql('copy', 'SELECT profile_stream.confirm_code()'), '2', 'confirmed');
ok($node->poll_query_until('copy', "SELECT attributes ? 'called' FROM profile_stream.materialized_profiles WHERE customer_id = 'c$sent'"), 'it goes on');
$node->safe_psql($_, "SELECT profile_stream.drop_stream('crm')") foreach 'copy', 'postgres';
$node->stop;
done_testing();
