# A worker commits without waiting for the disk, and the server crashes right after a relay has delivered: what the
# relay delivered has survived, so no Redis and no topic is ahead of the profiles.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use ProfileStream::Topic;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $rounds = $ENV{PS_ROUNDS} // 5;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'updates', 1 ] ]);
# nobody else flushes in time
my $node = ProfileStream::Node->start_new('main', conf => "fsync = on\nwal_writer_delay = '10 s'\nwal_writer_flush_after = '1 GB'");
my $redis = ProfileStream::Redis->new;

$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->address . "'");
ok($node->wait_sink('crm', "state IN ('running', 'starting') AND relay_pid IS NOT NULL"), 'the relay runs');

foreach my $round (1 .. $rounds)
{
	my $event = sprintf('{"eventId":"e%d","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', $round);
	my $published = 0;

	$broker->produce('events', [ 0, 'c', $event ]);
	for (1 .. 60_000)
	{
		($published) = $redis->command('GET', 'profile:c') =~ /"version": (\d+)/;
		last if ($published // 0) == $round;
		usleep(1_000);
	}
	$node->stop('immediate');
	is($published, $round, "round $round: the new version is in Redis");
	$node->start;
	is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'c'"),
		$round, "round $round: and was not lost");
}

# likewise with the topic of updates; its transaction is committed before the crash
my $topic = ProfileStream::Topic->new($broker, 'updates');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', redis => '', updates_topic => 'updates')");
foreach my $round ($rounds + 1 .. $rounds + 3)
{
	my $published = 0;

	$broker->produce('events', [ 0, 'c', sprintf('{"eventId":"e%d","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', $round) ]);
	for (1 .. 300)
	{
		($published) = map { $_->[4] =~ /^profile-version=(\d+)$/ } reverse $topic->messages;
		last if ($published // 0) == $round;
	}
	$node->stop('immediate');
	is($published, $round, "round $round: the new version is in the topic");
	$node->start;
	is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'c'"),
		$round, "round $round: and was not lost");
}
ok($node->wait_taken('crm', $rounds + 3), 'everything is read');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
