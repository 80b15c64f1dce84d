# What ends a worker: DROP EXTENSION, DROP DATABASE, a dead postmaster, no free slot, a standby. Nothing is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $event = '{"eventId":"%s","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}';
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'";

$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 1 .. 9);
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 9), 'the stream runs');

# while it waits, the worker holds nothing
ok( $node->poll_query_until('postgres',
		"SELECT bool_and(state = 'idle' AND xact_start IS NULL AND backend_xmin IS NULL) FROM pg_stat_activity"
		  . " WHERE backend_type = 'profile_stream worker'"),
	'an idle worker has no transaction and no snapshot');

# whoever locks tables one after the other, as DROP does, meets no worker in a deadlock
my $session = $node->background_psql('postgres');
$session->query_safe("SET deadlock_timeout = '10 ms'; BEGIN; LOCK TABLE profile_stream_internal.stream_offsets");
$broker->produce('events', [ 0, 'c', sprintf($event, 'locked') ]);
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'profile_stream worker' AND wait_event_type = 'Lock'"),
	'the worker waits for a table');
ok(eval { $session->query_safe('LOCK TABLE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks,'
			  . ' profile_stream_internal.dead_letters, profile_stream_internal.window_chunks, profile_stream_internal.stream_status, profile_stream.streams'); 1 },
	'and holds no other meanwhile');
$session->query_safe('COMMIT');
$session->quit;
ok($node->wait_taken('crm', 10), 'and goes on afterwards');

# SIGTERM is not the end of a stream
my $pid = $node->worker_pid;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok( $node->poll_query_until('postgres',
		"SELECT worker_pid <> $pid FROM profile_stream.stat_streams WHERE stream = 'crm'"),
	'a terminated worker comes back');

# DROP EXTENSION: rolled back, the worker stays; committed, it is gone
$pid = $node->worker_pid;
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION profile_stream; ROLLBACK');
$broker->produce('events', [ 0, 'c', sprintf($event, 11) ]);
ok($node->wait_taken('crm', 11), 'the stream goes on after a DROP EXTENSION that was rolled back');
is($node->worker_pid, $pid, 'with the same worker');
$node->safe_psql('postgres', 'DROP EXTENSION profile_stream');
ok($node->poll_query_until('postgres', $workers, '0'), 'DROP EXTENSION ends the worker');
$node->safe_psql('postgres', 'CREATE EXTENSION profile_stream');
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 11), 'a new extension reads from the start');

# ALTER EXTENSION UPDATE while the stream runs, to a version that this test makes
my $version = $node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'");
my $upgrade = $node->config_data('--sharedir') . "/extension/profile_stream--$version--test.sql";
append_to_file($upgrade, "COMMENT ON SCHEMA profile_stream IS 'updated';\n");
$pid = $node->worker_pid;
$node->safe_psql('postgres', "ALTER EXTENSION profile_stream UPDATE TO 'test'");
$broker->produce('events', [ 0, 'c', sprintf($event, 'updated') ]);
ok($node->wait_taken('crm', 12), 'the stream goes on after ALTER EXTENSION UPDATE');
is($node->worker_pid, $pid, 'with the same worker');
is($node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'"), 'test', 'of the new version');
$node->fails_like("SELECT profile_stream.pause_stream('crm')", qr/is of version test in this database, and its library of version \Q$version\E/,
	'the old library with the new objects');
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'profile_stream'");
unlink($upgrade);

# DROP DATABASE with a running worker, and while workers start
for my $round (1 .. 5)
{
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION profile_stream');
	my $brokers = $broker->bootstrap;
	$node->safe_psql('other', "SELECT profile_stream.create_stream('x', bootstrap_servers => '$brokers', topic => 'events', group_id => 'x')");
	$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
}
ok($node->poll_query_until('postgres', $workers, '1'), 'DROP DATABASE leaves no worker behind');
ok( $node->poll_query_until('postgres',
		"SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'profile_stream%') = 2"),
	'and nothing tries to come back');
unlike(slurp_file($node->logfile), qr/(?:database \d+ does not exist.*){11}/s, 'a worker of a dropped database tries once at most');

# a stale worker is fenced: somebody else moved the offset
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'paused');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok($node->wait_worker(1), 'resumed');
ok($node->wait_state('crm', 'running'), 'running');
$node->safe_psql('postgres', 'UPDATE profile_stream_internal.stream_offsets SET next_offset = next_offset - 1 WHERE partition = 1');
$broker->produce('events', [ 1, 'c', sprintf($event, 12) ]);
ok( $node->poll_query_until('postgres', "SELECT sum(duplicates) = 1 AND sum(applied) = 13 FROM profile_stream_internal.stream_offsets"),
	'a worker whose offset was moved aborts its batch and reads again from the stored one');
is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles"), '13', 'nothing twice');

# no free slot
my $brokers = $broker->bootstrap;
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
my ($result, $stdout, $stderr) = $node->psql('postgres', join(';', map {
	"SELECT profile_stream.create_stream('n$_', bootstrap_servers => '$brokers', topic => 'events', group_id => 'n$_')" } 1 .. 3));
is($result, 0, 'creating a stream does not fail for want of a slot');
like($stderr, qr/no background worker slot is free.*max_worker_processes/s, 'but warns, with a hint');
is($node->sql("SELECT string_agg(stream, ' ' ORDER BY stream) FROM profile_stream.stat_streams WHERE state = 'no_worker_slot'"), 'n1 n2 n3',
	'and the view says so');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('n$_')") foreach 1 .. 2;
($result, $stdout, $stderr) = $node->psql('postgres',
	"SELECT profile_stream.alter_stream('n3', workers => 3, changelog_topic => 'gone', dead_letter_topic => 'lost')");
like($stderr, qr/is free for $_ of stream "n3"/, "each that is missing is named: $_") foreach 'worker 3 of 3', 'the relay of sink "changelog"', 'the relay of sink "dead_letters"';
is($node->safe_psql('postgres', "SELECT sink, state, hint IS NOT NULL FROM profile_stream.stat_sinks ORDER BY 1"),
	"changelog|no_worker_slot|t\ndead_letters|no_worker_slot|t", 'and so say the views');
is($node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.stat_streams WHERE stream = 'n3' AND error ~ 'of 3 workers'"), '1', 'of the stream, too');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('n3')");
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->restart;
ok($node->wait_state('crm', 'running'), 'the launcher starts the stream with the server');

# profile_stream.enabled
$node->safe_psql('postgres', 'ALTER SYSTEM SET profile_stream.enabled = off');
$node->reload;
ok($node->poll_query_until('postgres', $workers, '0'), 'enabled = off stops every worker');
ok($node->wait_state('crm', 'disabled'), 'and the view says so');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET profile_stream.enabled');
$node->reload;
ok($node->wait_state('crm', 'running'), 'on again, the launcher starts them');

# the postmaster dies
$pid = $node->worker_pid;
$node->kill9;
ok(wait_gone($pid), 'the worker dies with the postmaster');
$node->start;
$broker->produce('events', [ 1, 'c', sprintf($event, 13) ]);
ok( $node->poll_query_until('postgres', 'SELECT version = 14 FROM profile_stream.materialized_profiles'),
	'and the stream goes on in the next server');

# a standby runs nothing and says why
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4");
$node->restart;
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
($result, $stdout, $stderr) = $standby->psql('postgres', "SELECT profile_stream.create_stream('y', bootstrap_servers => '$brokers')");
like($stderr, qr/create_stream\(\).*(recovery|read-only)/, 'a standby refuses a new stream');
($result, $stdout, $stderr) = $standby->psql('postgres', 'SELECT profile_stream.start_streams()');
like($stderr, qr/start_streams\(\).*(recovery|read-only)/, 'and to start streams');
is($standby->safe_psql('postgres', $workers), '0', 'nothing runs on a standby');
is($standby->safe_psql('postgres', "SELECT profile_stream.get_profile('c') ->> 'version'"), '14', 'but profiles can be read there');

# promoted, it goes on where the replicated offsets are
$node->stop('immediate');
$standby->promote;
$broker->produce('events', [ 0, 'c', sprintf($event, 14) ]);
ok( $standby->poll_query_until('postgres', 'SELECT version = 15 FROM profile_stream.materialized_profiles'),
	'a promoted standby goes on by itself');
$standby->stop;
$broker->stop;
done_testing();

# Waits until a process is gone.
sub wait_gone
{
	my ($process) = @_;
	for (1 .. 200)
	{
		return 1 unless kill 0, $process;
		select(undef, undef, undef, 0.05);
	}
	return 0;
}
