# Streams go on after a restart of the server, with and without preloading the library, and after a dump was restored
# elsewhere.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $events = ProfileStream::Node::generate(
	seed => $ENV{PS_SEED} // 4,
	events => 8_000,
	customers => 500,
	parts => 4);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');

# preloaded: streams start with the server
$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 2_000), 'the stream runs');
$node->stop('fast');
$broker->produce_file('events', $events->{files}[1]);
$node->start;
ok($node->wait_taken('crm', 4_000), 'preloaded, the stream goes on by itself after a restart');

# not preloaded: the view says that nothing runs, one call starts
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
ok($node->wait_state('crm', 'not_running'), 'not preloaded, the stream says that it does not run');
$broker->produce_file('events', $events->{files}[2]);
$node->safe_psql('postgres', 'SELECT profile_stream.start_streams()');
ok($node->wait_taken('crm', 6_000), 'start_streams() starts it');

# a dump, restored to another database while the first one is paused
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'the worker ends');
$node->sql("SELECT profile_stream.create_metric('noops', 'noop', interval '7 days')", "SELECT profile_stream.create_segment('all', 'true')", 'CALL profile_stream.refresh_segments()');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $node->host, '-p', $node->port, 'postgres' ], 'pg_dump');
$node->command_ok([ 'pg_restore', '-e', '-d', 'copy', '-h', $node->host, '-p', $node->port, $dump ], 'pg_restore');
# the tables in the opposite order, as several jobs may load them
$node->safe_psql('postgres', 'CREATE DATABASE reversed');
$node->command_ok([ 'pg_restore', '-l', '-f', "$dump.list", $dump ], 'the list of the dump');
my @entries = split(/\n/, slurp_file("$dump.list"));
my @tables = grep { / TABLE DATA / } @entries;
cmp_ok(scalar(@tables), '>', 20, 'it has the tables');
append_to_file("$dump.reversed", join("\n", map { / TABLE DATA / ? pop @tables : $_ } @entries) . "\n");
$node->command_ok([ 'pg_restore', '-e', '-L', "$dump.reversed", '-d', 'reversed', '-h', $node->host, '-p', $node->port, $dump ], 'pg_restore in the opposite order');
is($node->safe_psql('reversed', $_), $node->safe_psql('postgres', $_), "it is the same: $_")
  foreach 'SELECT sum(version) FROM profile_stream.profiles', 'SELECT sum(next_offset) FROM profile_stream_internal.stream_offsets',
  'SELECT count(*) FROM profile_stream_internal.metrics', 'SELECT count(*) FROM profile_stream.segment_members', 'SELECT count(*) FROM profile_stream_internal.stream_topics';
$node->safe_psql('reversed', "SELECT profile_stream.drop_stream('crm')");
is($node->safe_psql('reversed', 'SELECT count(*) FROM profile_stream_internal.stream_offsets'), 0, 'a stream that is dropped there takes its offsets with it');
$node->safe_psql('postgres', 'DROP DATABASE reversed');

is($node->safe_psql('copy', "SELECT state FROM profile_stream.stat_streams WHERE stream = 'crm'"), 'restored',
	'a restored stream says so and does not run by itself');
$broker->produce_file('events', $events->{files}[3]);
$node->safe_psql('copy', "SELECT profile_stream.resume_stream('crm')");
$node->poll_query_until('copy',
	'SELECT sum(applied + duplicates + dead + late + tombstones) = 8000 FROM profile_stream_internal.stream_offsets')
  or diag('the restored stream did not go on');
$node->equals_model('crm', $events, 'the restored database', dbname => 'copy');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok($node->wait_taken('crm', 8_000), 'the first database goes on as well');
$node->equals_model('crm', $events, 'the first database');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
