# A stream with all sinks, while server, workers, relays, Redis and Kafka are killed and frozen at random. In the end the
# changelog topic, Redis and get_profile() agree on every customer, every dead letter is in its topic, and no version went
# back in the log. A sink that is down delays neither the stream nor another sink. PS_SEED repeats a run, PS_EVENTS,
# PS_CUSTOMERS and PS_ROUNDS make it longer.

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

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $rounds = $ENV{PS_ROUNDS} // 12;
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 20_000,
	customers => $ENV{PS_CUSTOMERS} // 1_000,
	parts => $rounds + 2);
my @files = @{ $events->{files} };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'changelog', 4 ], [ 'dead', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my $updates = ProfileStream::Topic->new($broker, 'changelog');
my $taken = 0;
my %happened;

sub pause { $node->safe_psql('postgres', 'SELECT pg_sleep(1)'); }

sub next_file
{
	my $file = shift @files;
	$taken += () = slurp_file($file) =~ /\n/g;
	return $broker->start_producing('events', $file);
}

# Kills a sink's relay.
sub kill_relay
{
	my ($sink) = @_;
	my ($rc, $pid) = $node->psql('postgres', "SELECT relay_pid FROM profile_stream.stat_sinks WHERE sink = '$sink'");
	$node->kill_process($pid);
}

my %fault = (
	worker => sub { $node->kill_process($node->worker_pid) },
	relay_redis => sub { kill_relay('redis') },
	relay_updates => sub { kill_relay('changelog') },
	relay_dead => sub { kill_relay('dead_letters') },
	server => sub { $node->stop('immediate'); $node->start },
	redis => sub { $redis->restart },
	redis_frozen => sub { $redis->freeze; pause(); $redis->thaw },
	kafka_frozen => sub { $broker->freeze; pause(); kill_relay('changelog'); $broker->thaw },
	kafka => sub { $broker->kill9; $broker->start });

srand($seed);
my $begin = $node->safe_psql('postgres', 'SELECT now()');
$node->create_stream('crm', $broker, 'events', workers => 2, dead_letter_pause_ratio => 1, redis => "'" . $redis->socket . "'",
	redis_ttl => "'1 day'", changelog_topic => "'changelog'", dead_letter_topic => "'dead'");

# one sink after the other is down
$redis->freeze;
$broker->finish_producing(next_file());
ok($node->wait_taken('crm', $taken), 'Redis frozen: the stream goes on');
ok($node->wait_sink('crm', "state = 'retrying' AND backlog > 0", 'redis'), 'Redis frozen: its sink says so');
ok($node->wait_sink('crm', "state = 'running' AND backlog = 0 AND delivered > 0", $_), "Redis frozen: $_ is delivered") foreach ('changelog', 'dead_letters');
$redis->thaw;
ok($node->wait_sink('crm', "state = 'running' AND backlog = 0", 'redis'), 'Redis thawed');
$broker->delete_topic('changelog');
$broker->finish_producing(next_file());
ok($node->wait_taken('crm', $taken), 'updates away: the stream goes on');
ok($node->wait_sink('crm', "state = 'retrying' AND backlog > 0", 'changelog'), 'updates away: its sink says so');
ok($node->wait_sink('crm', "state = 'running' AND backlog = 0", $_), "updates away: $_ is delivered") foreach ('redis', 'dead_letters');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream_internal.sink_pending'),
	$node->safe_psql('postgres', 'SELECT count(DISTINCT customer_id) FROM profile_stream_internal.sink_pending'), 'updates away: a row per customer');
$broker->create_topic('changelog', 4);
ok($node->wait_sink('crm', "state = 'running' AND backlog = 0", 'changelog'), 'updates back');
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'changelog')");    # what was in the topic is gone
$updates->equals_profiles($node, 'crm', $begin, 'refilled');

# each fault once, then at random
my @kinds = sort keys %fault;
while (@files)
{
	my $kind = @kinds ? splice(@kinds, int(rand(@kinds)), 1) : (sort keys %fault)[ int(rand(keys %fault)) ];
	my $producer = next_file();
	$fault{$kind}->();
	$happened{$kind}++;
	$broker->finish_producing($producer);
}
note(join(', ', map { "$_ $happened{$_}" } sort keys %happened));
ok($node->wait_taken('crm', $events->{events}), 'every event is applied');
$updates->equals_profiles($node, 'crm', $begin, "seed $seed");
# what Redis lost when it was killed
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
$redis->equals_profiles($node, 'crm', $begin, "seed $seed");
ok($node->wait_sink('crm', "state = 'running' AND backlog = 0", 'dead_letters'), 'dead letters are delivered');
my %letters = map { $_->[4] =~ /profile_stream\.dead_letter_id=(\d+)$/ ? ($1 => 1) : (none => 1) } ProfileStream::Topic->new($broker, 'dead')->messages;
is(join(' ', sort { $a <=> $b } keys %letters), $node->safe_psql('postgres', "SELECT string_agg(dead_letter_id::text, ' ' ORDER BY dead_letter_id) FROM profile_stream.dead_letters"),
	'every dead letter is in its topic, and nothing else');
$node->equals_model('crm', $events, "seed $seed");
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
