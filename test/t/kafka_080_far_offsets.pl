# A broker names an offset that is very far behind the one before, as after compaction, or out of spite. The worker marks
# nothing of what is between: both messages are applied, and its memory stays small. A row of offsets that cannot be,
# as a restored dump may have it, stops the stream with a reason.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $leap = 2**33;    # marked, it would take 1 GB
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'plain', 1 ] ], proxied => 1);
my $node = ProfileStream::Node->start_new('main');

# both are in one answer of the broker, each in a batch of its own
$broker->produce('events', [ 0, 'k', event('e1', 'near') ]);
$broker->produce('events', [ 0, 'k', event('e2', 'far') ]);
$broker->proxy->tell('leap', "far:$leap");
$node->safe_psql('postgres',
	"SELECT profile_stream.create_stream('leaps', bootstrap_servers => '" . $broker->proxy->bootstrap . "', topic => 'events')");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM profile_stream.profiles'), 'both messages are applied');
my $status = slurp_file('/proc/' . $node->stream_pid('leaps') . '/status');
my ($most) = $status =~ /^VmHWM:\s+(\d+) kB/m;
cmp_ok($most, '<', 500_000, 'the worker has not marked the offsets between');
# Kafka itself knows nothing of that offset
ok($node->poll_query_until('postgres', "SELECT state = 'offset_lost' AND next_offset = 1 + 1 + $leap FROM profile_stream_internal.stream_offsets"),
	'the offset behind it is not in the topic, which stops the partition');
is($node->safe_psql('postgres', 'SELECT string_agg(customer_id, $$ $$ ORDER BY customer_id) FROM profile_stream.profiles'), 'far near', 'nobody is lost');

$broker->produce('plain', [ 0, 'k', event('e3', 'plain') ]);
$node->create_stream('plain', $broker, 'plain');
ok($node->wait_taken('plain', 1), 'another stream runs');
$node->safe_psql('postgres', q{
	INSERT INTO profile_stream_internal.stream_offsets (stream_id, topic_no, partition, start_offset, next_offset, read_offset)
	SELECT stream_id, topic_no, (-2147483648)::int, 0, 0, 0 FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = 'plain';
	SELECT profile_stream.pause_stream('plain'), profile_stream.resume_stream('plain')});
ok($node->poll_query_until('postgres',
		"SELECT error LIKE '%partition -2147483648%' FROM profile_stream.stat_streams WHERE stream = 'plain'"),
	'a partition with a negative number is an error');
$node->safe_psql('postgres', 'DELETE FROM profile_stream_internal.stream_offsets WHERE partition < 0');
$broker->produce('plain', [ 0, 'k', event('e4', 'plain') ]);
ok($node->wait_taken('plain', 2), 'without it the stream goes on');

$node->stop;
done_testing();
