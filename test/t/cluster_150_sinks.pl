# Nodes of Citus deliver profiles to a Redis and to a changelog topic, and dead letters to another one, while events flow, shards move, and
# relays, nodes and the coordinator are killed. Afterwards both have the profiles, and the topic has each dead letter.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus. PS_FAULTS is how many faults it makes, PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node join_nodes produce_part equals_plain move_of_shard start_move);
use ProfileStream::Node;
use ProfileStream::Redis;
use ProfileStream::Topic;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my @kinds = qw(nothing relay node coordinator worker);
my $faults = $ENV{PS_FAULTS} // 2 * @kinds;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $parts = 2 + $faults;
my $events = ProfileStream::Node::generate(seed => $seed, events => 1_500 * $parts, customers => 600, partitions => 4, repeats => 0, parts => $parts);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'dead', 2 ], [ 'changelog', 2 ] ]);
my $redis = ProfileStream::Redis->new;
my $changelog = ProfileStream::Topic->new($broker, 'changelog');
my $letters = ProfileStream::Topic->new($broker, 'dead');
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my $cluster = { nodes => [ $coordinator, $one, $two ], plain => $plain, files => $events->{files}, produced => 0 };

join_nodes($cluster, 8);
$plain->create_stream('crm', $broker, 'events', dedupe_retention => "'0'", batch_size => 300);
$coordinator->create_stream('crm', $broker, 'events', dedupe_retention => "'0'", batch_size => 300, workers => 2, dead_letter_topic => "'dead'", changelog_topic => "'changelog'",
	redis => "'" . $redis->socket . "'", redis_ttl => "'1 day'");

sub sinks_equal
{
	my ($name) = @_;
	foreach my $sink ('redis', 'changelog', 'dead_letters')
	{
		ok($coordinator->poll_query_until('postgres', "SELECT COALESCE(bool_and(backlog = 0 AND state IN ('idle', 'running')), false) FROM profile_stream.node_sinks WHERE sink = '$sink' AND node_error IS NULL"),
			"$name: all nodes have delivered to $sink")
		  or diag($coordinator->sql('SELECT node, sink, state, backlog, error FROM profile_stream.node_sinks'));
	}
	my $documents = { map { split(/\|/, $_, 2) } split(/\n/, $coordinator->sql('SELECT customer_id, profile_stream.get_profile(customer_id) FROM profile_stream.materialized_profiles')) };
	cmp_ok(scalar(keys %$documents), '>', 100, "$name: there are profiles");
	is_deeply(ProfileStream::Topic::without_windows($redis->values_of('profile:')), ProfileStream::Topic::without_windows($documents), "$name: Redis has the profiles");
	$changelog->ends_with($documents, $name);
	my %found = map { join('/', $_->[4] =~ /__connect\.errors\.(?:partition|offset)=(\d+)/g) => 1 } $letters->messages;
	is(join(' ', sort keys %found), join(' ', sort(split(/\n/, $plain->sql("SELECT partition || '/' || kafka_offset FROM profile_stream.dead_letters")))), "$name: dead letters are there");
	return;
}

$broker->produce_file('events', produce_part($cluster));
equals_plain($cluster, 'at first');
sinks_equal('at first');
my @letters = $letters->messages;
is(scalar(@letters), $plain->sql('SELECT count(*) FROM profile_stream.dead_letters'), 'each dead letter once');

sub kill_relay
{
	my ($node) = @_;
	my ($pid) = $node->sql("SELECT relay_pid FROM profile_stream.stat_sinks WHERE relay_pid IS NOT NULL ORDER BY random() LIMIT 1");
	$node->kill_process($pid) if $pid;
	return;
}

my %kills = (
	nothing => sub { },
	relay => sub { kill_relay(rand() < 0.5 ? $one : $two) },
	worker => sub { my $node = rand() < 0.5 ? $one : $two; $node->kill_process($node->worker_pid) },
	node => sub { my $node = rand() < 0.5 ? $one : $two; $node->stop('immediate'); usleep(int(rand(500_000))); $node->start },
	coordinator => sub { $coordinator->stop('immediate'); usleep(int(rand(500_000))); $coordinator->start });

foreach my $fault (1 .. $faults)
{
	my $kind = $kinds[ $fault % @kinds ];
	my $name = "$fault, $kind, seed $seed";
	my $producer = $broker->start_producing('events', produce_part($cluster));
	my ($statement) = move_of_shard($cluster, rand() < 0.5 ? $one : $two, $fault % 2 ? 'force_logical' : 'block_writes');
	my $output = '';
	my $move = start_move($cluster, $statement, \$output);
	usleep(int(rand(1_500_000)));
	$kills{$kind}->();
	my $moved = $move->finish;
	note("$name: " . ($moved ? 'moved' : "not moved, $output"));
	ok($moved, "$name: the shard has moved") if $kind eq 'nothing';
	$broker->finish_producing($producer);
	$_->wait_alive foreach @{ $cluster->{nodes} };
	equals_plain($cluster, $name);
	sinks_equal($name);
}

# a shard is split while there is something to deliver
$redis->freeze;
my $producer = $broker->start_producing('events', produce_part($cluster));
my $middle = '(shardminvalue::bigint + shardmaxvalue::bigint) / 2';
usleep(500_000);
$coordinator->sql("SELECT citus_split_shard_by_split_points(shardid, ARRAY[($middle)::text], ARRAY[(SELECT nodeid FROM pg_dist_node WHERE groupid = 1), (SELECT nodeid FROM pg_dist_node WHERE groupid = 2)], 'block_writes')
	FROM pg_dist_shard WHERE logicalrelid = 'profile_stream.materialized_profiles'::regclass ORDER BY shardid LIMIT 1");
$broker->finish_producing($producer);
$redis->thaw;
ok($coordinator->poll_query_until('postgres', "SELECT bool_or(error ~ 'shard [0-9]+ of profiles was split') FROM profile_stream.node_sinks"), 'a split: a sink says so');
$coordinator->sql('SELECT profile_stream.distribute()');
equals_plain($cluster, 'a split');
sinks_equal('a split');

# a reader sees the sinks of each node
is($_->sql('SET ROLE profile_stream_reader', 'SELECT count(*) FROM profile_stream.stat_sinks'), '3', 'a reader sees the sinks of ' . $_->name) foreach $one, $two;

# who is forgotten is gone in both; and all of it comes again
my $customer = $coordinator->sql('SELECT customer_id FROM profile_stream.materialized_profiles WHERE customer_id ~ $$^[0-9]+$$ ORDER BY 1 LIMIT 1');
is($two->sql("SELECT profiles FROM profile_stream.forget_customer('$customer')"), '1', 'forget_customer()');
$redis->command('FLUSHALL');
is($one->sql("SELECT profile_stream.resync_sink('crm', 'redis')"), $coordinator->sql('SELECT count(*) FROM profile_stream.materialized_profiles'), 'resync_sink() on a node');
sinks_equal('resync_sink()');

# nothing is left of them on any node
$coordinator->sql("SELECT profile_stream.drop_stream('crm')");
is($coordinator->sql('SELECT count(*) FROM profile_stream_internal.outbox') + $coordinator->sql('SELECT count(*) FROM profile_stream_internal.sink_pending'), 0, 'drop_stream() leaves nothing to deliver');
$coordinator->sql('SELECT profile_stream.undistribute()');
is($coordinator->sql('SELECT count(*) > 100 FROM profile_stream.materialized_profiles'), 't', 'undistribute()');

$_->stop('immediate') foreach @{ $cluster->{nodes} };
$plain->stop('fast');
$broker->stop;
done_testing();
