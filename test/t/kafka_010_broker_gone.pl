# A broker freezes, goes away or was never there. The server stays usable, and the stream says why it waits and comes back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $event = '{"eventId":"%s","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}';

$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 1 .. 10);
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 10), 'the stream runs');

# a frozen broker keeps nobody waiting
$broker->freeze;
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $start = time;
$node->safe_psql('postgres', 'DROP DATABASE other');
cmp_ok(time - $start, '<', 5, 'DROP DATABASE does not wait for a frozen broker');
my $pid = $node->worker_pid;
$start = time;
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'a worker of a frozen broker ends');
cmp_ok(time - $start, '<', 5, 'and soon');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok($node->wait_worker(1), 'a worker starts though the broker is frozen');
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 10, 'the server stops though the broker is frozen');
$node->start;
$broker->thaw;
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 11 .. 20);
ok($node->wait_taken('crm', 20), 'the stream goes on when the broker thaws');

# a broker that goes away and comes back
$broker->stop;
$broker->start;
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 21 .. 30);
ok($node->wait_taken('crm', 30), 'the stream goes on when the broker is back');

# a broker that never was, a topic that is not there
my $port = PostgreSQL::Test::Cluster::get_free_port();
$node->safe_psql('postgres',
	"SELECT profile_stream.create_stream('nowhere', bootstrap_servers => '127.0.0.1:$port', topic => 'events', group_id => 'g1')");
$node->create_stream('nothing', $broker, 'later', group_id => "'g2'");
ok($node->poll_query_until('postgres', "SELECT error IS NOT NULL FROM profile_stream.stat_streams WHERE stream = 'nowhere'"),
	'an unreachable broker is an error in the view');
ok($node->poll_query_until('postgres', "SELECT error IS NOT NULL FROM profile_stream.stat_streams WHERE stream = 'nothing'"),
	'a missing topic is an error in the view');
$broker->create_topic('later', 1);
$broker->produce('later', [ 0, 'd', sprintf($event, 'later') ]);
ok($node->wait_taken('nothing', 1), 'a topic that appears is read');

is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'c'"), '31',
	'nothing lost or twice');
$node->is_clean('end');
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 10, 'the server stops though a broker is unreachable');
$broker->stop;
done_testing();
