# Sinks connect when their relay starts. Before there is anything to deliver they say that they are idle, or why they
# cannot connect.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'changelog', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my $nowhere = '127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();

# How many lines of the log match, from a place on.
sub lines
{
	my ($pattern, $from) = @_;
	my $count = () = slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $count;
}

sub changes
{
	my ($part) = @_;
	return $node->sql("SELECT string_agg(coalesce(from_state, '-') || '>' || to_state, ' ' ORDER BY log_id) FROM profile_stream.stream_log WHERE what = 'sink' AND part = '$part'");
}

$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->address . "'", changelog_topic => "'changelog'");
foreach my $sink ('redis', 'changelog')
{
	ok($node->wait_sink('crm', "state = 'idle' AND error IS NULL AND delivered = 0", $sink), "$sink: connected, with nothing to deliver");
	is(changes($sink), '', "$sink: which is no change worth a row");
}

# a Redis that is not there
my $from = -s $node->logfile;
$node->sql("SELECT profile_stream.alter_stream('crm', redis => '$nowhere')");
ok($node->wait_sink('crm', "state = 'retrying' AND error ~ 'could not connect' AND hint IS NOT NULL AND next_attempt_at IS NOT NULL AND since IS NOT NULL", 'redis'),
	'a Redis that is not there: the sink says so before the first message');
ok($node->wait_sink('crm', "next_attempt_at - error_at > interval '2 s'", 'redis'), 'and tries again later each time');
is(lines(qr/LOG: .*cannot deliver to its sink "redis"/, $from), 1, 'one line of the log');
is(changes('redis'), 'idle>retrying', 'one row');
$node->sql("SELECT profile_stream.alter_stream('crm', redis => '" . $redis->address . "')");
ok($node->wait_sink('crm', "state = 'idle' AND error IS NULL", 'redis'), 'a Redis that is there: idle');
is(lines(qr/LOG: .*delivers to its sink "redis" again, after/, $from), 1, 'the log says that it is well again, and after how long');
is(changes('redis'), 'idle>retrying retrying>idle', 'and so does stream_log');

# brokers that are not there, of another stream
$node->sql("SELECT profile_stream.create_stream('away', bootstrap_servers => '$nowhere', topic => 'events', changelog_topic => 'changelog')");
ok($node->wait_sink('away', "state = 'retrying' AND error IS NOT NULL", 'changelog'), 'brokers that are not there: the sink says so');
$node->sql("SELECT profile_stream.drop_stream('away')");

# taken from the stream and given back before its relay looks
$node->sql('BEGIN', "SELECT profile_stream.alter_stream('crm', changelog_topic => '')", "SELECT profile_stream.alter_stream('crm', changelog_topic => 'changelog')", 'COMMIT');
ok($node->wait_sink('crm', "state = 'idle'", 'changelog'), 'a sink that comes back at once: idle');

# then they deliver
$broker->produce('events', [ 0, 'c', '{"eventId":"e1","customerId":"c1","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}' ]);
ok($node->wait_sink('crm', "state = 'running' AND delivered = 1", $_), "$_: delivers") foreach ('redis', 'changelog');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
