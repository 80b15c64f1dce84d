# The life of a stream in SQL: create, run, pause, resume, drop. Wrong uses are errors.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

# Logic only, nothing is timed: the mock broker serves when there is no Kafka.
my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 2 ], [ 'others', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

my $number = 0;
my %kind = (customers => 10, partitions => 2, type => 'session.started', payload => '{"channel":"web"}');

# create and run
$broker->produce('events', events(\$number, 100, %kind));
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 100), 'a new stream runs at once');
is($node->safe_psql('postgres', 'SELECT count(*), sum(version) FROM profile_stream.materialized_profiles'),
	'10|100', 'every event is applied');
ok($node->wait_state('crm', 'running'), 'the stream says that it runs');
$node->safe_psql('postgres', "SELECT profile_stream.wait_for_stream('crm', '30 s')");
is($node->safe_psql('postgres', "SELECT profile_stream.get_profile('c3') ->> 'preferredChannel'"), 'web',
	'a profile is read as a document');

# having read to the end is not an error
ok( $node->poll_query_until('postgres', "SELECT state = 'running' AND error IS NULL AND lag = 0 FROM profile_stream.stat_streams"),
	'at the end of the topic the stream still runs');
unlike($node->safe_psql('postgres', "SELECT error FROM profile_stream.stat_streams"), qr/end of partition/,
	'the end of a partition is not an error');

# bad messages stop nothing
$broker->produce('events', [ 0, 'c0', '{' ], [ 0, 'c0', undef ], [ 1, 'c1', '{"eventId":"x"}' ], events(\$number, 10, %kind));
ok($node->wait_taken('crm', 113), 'bad messages do not stop the stream');
is($node->safe_psql('postgres', 'SELECT partition, kafka_offset, kind FROM profile_stream.dead_letters ORDER BY 1'),
	"0|50|malformed\n1|50|invalid", 'each is a dead letter');
is($node->safe_psql('postgres', 'SELECT sum(tombstones) FROM profile_stream_internal.stream_offsets'), '1',
	'a tombstone is counted');

# pause and resume
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'a paused stream has no worker');
ok($node->wait_state('crm', 'paused'), 'a paused stream says so');
$broker->produce('events', events(\$number, 20, %kind));
is($node->taken('crm'), '113', 'a paused stream takes nothing');
$node->is_clean('paused');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok($node->wait_taken('crm', 133), 'a resumed stream goes on where it was');
is($node->safe_psql('postgres', 'SELECT sum(version) FROM profile_stream.materialized_profiles'), '130',
	'nothing is lost or applied twice');

# wrong uses
my $brokers = $broker->bootstrap;
$node->fails_like("SELECT profile_stream.create_stream('crm', bootstrap_servers => '$brokers', topic => 'events')",
	qr/already exists/, 'a name twice');
$node->fails_like("SELECT profile_stream.create_stream('', bootstrap_servers => '$brokers', topic => 'events')",
	qr/ERROR/, 'an empty name');
$node->fails_like("SELECT profile_stream.create_stream('x', topic => 'events', on_offset_lost => 'panic', bootstrap_servers => '$brokers')",
	qr/on_offset_lost/, 'a wrong on_offset_lost');
$node->fails_like("SELECT profile_stream.create_stream('x', topic => 'events', bootstrap_servers => '$brokers', options => '{\"plugin.library.paths\": \"x\"}')",
	qr/plugin\.library\.paths/, 'an option that runs code');
$node->fails_like("SELECT profile_stream.$_('nobody')", qr/does not exist/, "$_ of an unknown stream")
  foreach qw(pause_stream resume_stream drop_stream);
$node->fails_like("SELECT profile_stream.wait_for_stream('nobody', '1 s')", qr/does not exist/,
	'waiting for an unknown stream');
$node->safe_psql('postgres', 'CREATE ROLE somebody; GRANT USAGE ON SCHEMA profile_stream TO somebody');
$node->fails_like("SET ROLE somebody; SELECT profile_stream.create_stream('x', bootstrap_servers => '$brokers', topic => 'events')",
	qr/permission denied|must be superuser|superuser/, 'brokers by a plain role');
$node->safe_psql('postgres', "BEGIN; SELECT profile_stream.create_stream('x', bootstrap_servers => '$brokers', topic => 'others'); ROLLBACK");
is($node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.streams WHERE name = 'x'"), '0',
	'a creation rolled back leaves nothing');

# two streams, one dropped
$node->create_stream('second', $broker, 'others');
$broker->produce('others', [ 0, 'z', '{"eventId":"1","customerId":"z","eventType":"a","timestamp":"2026-01-01T00:00:00Z"}' ]);
ok($node->wait_taken('second', 1), 'a second stream runs beside the first');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('crm')");
ok($node->wait_worker(1), 'a dropped stream has no worker, the other keeps its own');
is($node->safe_psql('postgres', 'SELECT name FROM profile_stream.streams'), 'second', 'a dropped stream is gone');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.materialized_profiles'), '11', 'its profiles stay');

# everything off and on again by one setting
$node->safe_psql('postgres', 'ALTER SYSTEM SET profile_stream.enabled = off');
$node->reload;
ok($node->wait_worker(0), 'enabled = off ends every worker');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET profile_stream.enabled');
$node->reload;
ok($node->wait_worker(1), 'enabled = on starts them');

$node->is_clean('end');
$node->safe_psql('postgres', 'DROP EXTENSION profile_stream CASCADE');
ok($node->wait_worker(0), 'DROP EXTENSION ends the workers');
$node->stop('fast');
$broker->stop;
done_testing();
