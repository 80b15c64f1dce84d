# Many good and bad events on four partitions: the tables equal an independent model. PS_EVENTS, PS_CUSTOMERS, PS_SEED and
# PS_UNTIL change the run.

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
	seed => $ENV{PS_SEED} // 20260101,
	events => $ENV{PS_EVENTS} // 200_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	seeded => 0.02,
	parts => 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');

# the first half waits in Kafka, the second comes while the stream runs
$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('model', $broker, 'events');
$broker->produce_file('events', $events->{files}[1]);
ok($node->wait_taken('model', $events->{events}), 'every message is taken');
$node->equals_model('model', $events, 'a run without faults');
$node->is_clean('end');

# reading everything again changes nothing
my $before = $node->safe_psql('postgres', 'SELECT sum(version), sum(hashtextextended(p::text, 0)) FROM profile_stream.materialized_profiles p');
$node->create_stream('again', $broker, 'events');
ok($node->wait_taken('again', $events->{events}), 'a second stream reads the same topic');
is($node->safe_psql('postgres', 'SELECT sum(version), sum(hashtextextended(p::text, 0)) FROM profile_stream.materialized_profiles p'),
	$before, 'it changes no profile');
is($node->safe_psql('postgres', "SELECT sum(o.applied) FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams USING (stream_id) WHERE name = 'again'"),
	'0', 'all its events are duplicates');

$node->stop('fast');
$broker->stop;
done_testing();
