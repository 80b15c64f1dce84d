# Profiles that Citus distributes over two nodes, and then three: each node applies the customers of its own shards. Workers,
# nodes and the coordinator are killed, shards move while events flow, a node is added and one is drained. Nothing is
# remembered of event ids, so that an event applied twice shows: a server that reads the whole topic is the measure.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node address join_nodes nodes_with_shards produce_part equals_plain move_of_shard);
use ProfileStream::Node qw(event);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $faults = $ENV{PS_FAULTS} // 30;
my $moves = 6;
my $parts = 7 + $faults + $moves;
my $events = ProfileStream::Node::generate(seed => $seed, events => 1_000 * $parts, customers => 1_500, partitions => 4, repeats => 0, parts => $parts);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my @nodes = ($coordinator, $one, $two);
my $cluster = { nodes => \@nodes, plain => $plain, files => $events->{files}, produced => 0 };

# setting up: what cannot be distributed, and where
$coordinator->fails_like('CREATE EXTENSION profile_stream; SELECT profile_stream.undistribute()', qr/the profiles are not distributed/, 'undistribute() before distribute()');
$plain->fails_like('SELECT profile_stream.distribute()', qr/this database has no extension citus/, 'a server without Citus');
$coordinator->sql("SELECT citus_set_coordinator_host(@{[address($coordinator)]})", map { "SELECT citus_add_node(@{[address($_)]})" } $one, $two);
$one->fails_like('SELECT profile_stream.distribute()', qr/this server is not the coordinator/, 'a worker node');
$two->sql("SELECT profile_stream.map_attribute('seen', 'x', '\$.x')");
$coordinator->fails_like('SELECT profile_stream.distribute()', qr/not all nodes can take distributed profiles.*cannot be distributed while there are attribute maps/s, 'a node with definitions');
$two->sql("SELECT profile_stream.unmap_attribute('seen', 'x')");
$coordinator->sql(q{SELECT profile_stream.apply_event('{"eventId": "before", "customerId": "early", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}')});
$plain->sql(q{SELECT profile_stream.apply_event('{"eventId": "before", "customerId": "early", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}')});
$coordinator->sql('SELECT profile_stream.distribute(8)');
is($coordinator->sql("SELECT customer_id, version FROM profile_stream.materialized_profiles"), 'early|1', 'profiles that were there are distributed');
$coordinator->fails_like('DROP EXTENSION profile_stream CASCADE', qr/cannot be dropped while its profiles are distributed/, 'DROP EXTENSION');

# what works on all nodes, on one, and not at all
my $metric = "profile_stream.create_metric('spent', 'transaction.completed', '30 days', '\$.amount', 'sum')";
$_->sql("SELECT $metric") foreach $coordinator, $plain;
is($_->sql('SELECT name, series_id FROM profile_stream_internal.metrics'), 'spent|3', 'a metric is on each node, under one number') foreach @nodes;
$one->fails_like("SELECT profile_stream.drop_metric('spent')", qr/is called on the coordinator/, 'a definition on a worker node');
$coordinator->fails_like("BEGIN; SELECT profile_stream.drop_metric('spent'); COMMIT", qr/cannot run inside a transaction block/, 'a definition in a transaction');
$coordinator->fails_like("SELECT profile_stream.$_", qr/does not work on distributed profiles/, $_)
  foreach "rebuild('crm')", "track_history('{total_balance}', '30 days')", "prune_slice('{0}', 4)";
$coordinator->fails_like("SELECT profile_stream.create_stream('crm', bootstrap_servers => '@{[$broker->bootstrap]}', topic => 'events', reorder_wait => '1 s')",
	qr/options of stream "crm" do not work on distributed profiles: reorder_wait/, 'an option');
$coordinator->fails_like("SELECT profile_stream.create_stream('crm', bootstrap_servers => '@{[$broker->bootstrap]}', topic_pattern => '^ev', format => 'custom', field_map => '{\"customerId\": \"\$.c\", \"eventType\": \"constant:x\", \"timestamp\": \"kafka_timestamp\", \"eventId\": {\"join\": [\"constant:x\", \"kafka_position\"]}}')",
	qr/options of stream "crm" do not work on distributed profiles: kafka_position with topic_pattern/, 'ids by a number that nodes give');
my %options = (dedupe_retention => "'0'", workers => 2, batch_size => 300);
$_->create_stream('crm', $broker, 'events', %options) foreach $coordinator, $plain;
is($_->sql('SELECT stream_id, name FROM profile_stream.streams'), $coordinator->sql('SELECT stream_id, name FROM profile_stream.streams'), 'the stream is on each node') foreach $one, $two;

$broker->produce_file('events', produce_part($cluster));
equals_plain($cluster, 'two nodes');
cmp_ok($one->sql('SELECT sum(elsewhere) FROM profile_stream.stat_partitions'), '>', 0, 'a node passes over what is elsewhere');
my ($here, $there) = map { $coordinator->sql("SELECT customer_id FROM profile_stream.materialized_profiles WHERE get_shard_id_for_distribution_column('profile_stream.materialized_profiles', customer_id)
	IN (SELECT shardid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE nodeport = @{[$_->port]}) AND customer_id LIKE 'cust-%' LIMIT 1") } $one, $two;
my $apply = sub { my ($customer, $id) = @_; return "SELECT profile_stream.apply_event('" . event($id, $customer) . "')" };
is($one->sql($apply->($there, 's1')), 'applied', 'apply_event() of another node');
is($plain->sql($apply->($there, 's1')), 'applied', 'and on the measure');
is($one->sql($apply->($here, 's1')), 'applied', 'apply_event() on the node of the customer');
is($plain->sql($apply->($here, 's1')), 'applied', 'and on the measure');

# one node down: its customers alone stand still
$two->stop('immediate');
$broker->produce_file('events', produce_part($cluster));
$one->poll_query_until('postgres', "SELECT sum(next_offset) = $cluster->{produced} FROM profile_stream_internal.stream_offsets");
$coordinator->fails_like("SELECT profile_stream.pause_stream('crm')", qr/did not run on all nodes|connection/, 'a call while a node is down');
$two->start;
$coordinator->sql("SELECT profile_stream.pause_stream('crm')");
ok($_->wait_stopped('crm'), 'the stream is paused on each node') foreach $one, $two;
$coordinator->sql("SELECT profile_stream.resume_stream('crm')");
equals_plain($cluster, 'a node was down');

# faults while events flow
my @steps = qw(after_fence after_lock after_fold after_upsert after_dead_letters after_offsets before_commit after_commit);
my @fault = (
	sub { my $node = (nodes_with_shards($cluster))[ int(rand(2)) ]; my $pid = $node->stream_pid('crm'); $node->kill_process($pid) if $pid; return 'worker of ' . $node->name },
	sub { my $node = (nodes_with_shards($cluster))[ int(rand(2)) ]; $node->stop('immediate'); $node->start; return $node->name },
	sub { $coordinator->stop('immediate'); $coordinator->start; return 'coordinator' });

# A worker dies at a step: it is told so before the events come, which it therefore meets.
sub die_at_step
{
	my $node = (nodes_with_shards($cluster))[ int(rand(2)) ];
	my $step = $steps[ int(rand(@steps)) ];
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	my $producer = $broker->start_producing('events', produce_part($cluster));
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "a worker dies: $step on " . $node->name);
	$node->expect_signals(1);
	$node->set_failpoint('');
	$broker->finish_producing($producer);
	$node->wait_alive;
}

foreach my $number (1 .. $faults)
{
	if ($number % 4 == 3)
	{
		die_at_step();
		next;
	}
	my $producer = $broker->start_producing('events', produce_part($cluster));
	usleep(int(rand(300_000)));
	note("fault $number: " . $fault[ $number % 4 ]->());
	$broker->finish_producing($producer);
}
equals_plain($cluster, "$faults kills, seed $seed");

# shards move while events flow
foreach my $number (1 .. $moves)
{
	my $producer = $broker->start_producing('events', produce_part($cluster));
	$coordinator->sql((move_of_shard($cluster, $number % 2 ? $one : $two, $number % 3 ? 'force_logical' : 'block_writes'))[0]);
	$broker->finish_producing($producer);
	equals_plain($cluster, "move $number");
}

# shards are split while events flow: their parts stand still until they get the offsets of the whole
foreach my $node ($coordinator, $one, $two)
{
	my $trusted = $node->sql("SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'");
	$node->sql("ALTER SYSTEM SET output_plugin_libraries = $trusted, citus", 'SELECT pg_reload_conf()') if $trusted;
}
my $table = 'profile_stream.materialized_profiles';
my $middle = '(shardminvalue::bigint + shardmaxvalue::bigint) / 2';
foreach my $split ("citus_split_shard_by_split_points(shardid, ARRAY[($middle)::text], ARRAY[(SELECT nodeid FROM pg_dist_node WHERE groupid = 1), (SELECT nodeid FROM pg_dist_node WHERE groupid = 2)], 'force_logical')",
	"citus_split_shard_by_split_points(shardid, ARRAY[($middle)::text], ARRAY[(SELECT nodeid FROM pg_dist_node WHERE groupid = 2), (SELECT nodeid FROM pg_dist_node WHERE groupid = 1)], 'block_writes')")
{
	my $producer = $broker->start_producing('events', produce_part($cluster));
	$coordinator->sql("SELECT $split FROM pg_dist_shard WHERE logicalrelid = '$table'::regclass ORDER BY shardmaxvalue::bigint - shardminvalue::bigint DESC, random() LIMIT 1");
	$broker->finish_producing($producer);
	ok($coordinator->poll_query_until('postgres', "SELECT bool_or(error ~ 'shard [0-9]+ of profiles was split') FROM profile_stream.node_streams"), 'a split: a node says so');
	$coordinator->sql('SELECT profile_stream.distribute()');
	equals_plain($cluster, "a split: $split");
}
is($coordinator->sql("SELECT count(*), count(DISTINCT slot) FROM profile_stream_internal.shard_offsets WHERE stream_id = 0"), '10|10', 'each part has offsets of its own');

# a node is added and takes shards, another one is drained
my $three = start_node('three');
push @nodes, $three;
$coordinator->sql("SELECT citus_add_node(@{[address($three)]})", 'SELECT profile_stream.distribute()');
is($three->sql('SELECT name, series_id FROM profile_stream_internal.metrics'), 'spent|3', 'a new node gets the definitions');
my $producer = $broker->start_producing('events', produce_part($cluster));
$coordinator->sql("SELECT rebalance_table_shards(shard_transfer_mode => 'force_logical')");
$broker->finish_producing($producer);
equals_plain($cluster, 'a new node');
$producer = $broker->start_producing('events', produce_part($cluster));
$coordinator->sql("SELECT citus_drain_node(@{[address($one)]}, shard_transfer_mode => 'force_logical')");
$broker->finish_producing($producer);
equals_plain($cluster, 'a drained node');
is(join(' ', map { $_->name } nodes_with_shards($cluster)), 'two three', 'the drained node has no shard');

# its dead letters go to the coordinator before it is removed
my $there_are = 'SELECT count(*) FROM profile_stream.dead_letters';
my $letters = $one->sql($there_are);
cmp_ok($letters, '>', 0, 'the drained node has dead letters');
like($coordinator->sql("SELECT problem, action FROM profile_stream.node_health WHERE node = '127.0.0.1:@{[$one->port]}' AND subject = 'dead letters'"),
	qr/^$letters are on this node, which has no shards.*move_dead_letters/, 'which all nodes say');
$one->fails_like('BEGIN; SELECT profile_stream.move_dead_letters(); COMMIT', qr/cannot run inside a transaction block/, 'moving them in a transaction');
$coordinator->fails_like('SELECT profile_stream.move_dead_letters()', qr/this server is no worker node/, 'moving those of the coordinator');
$coordinator->stop('immediate');
$one->fails_like('SELECT profile_stream.move_dead_letters()', qr/the coordinator has not taken the dead letters/, 'moving them while the coordinator is down');
is($one->sql($there_are), $letters, 'and they stay');
$coordinator->start;
is($one->sql('SELECT profile_stream.move_dead_letters()', 'SELECT profile_stream.move_dead_letters()', $there_are), "$letters\n0\n0", 'they are moved once');
equals_plain($cluster, 'moved dead letters');
$coordinator->sql("SELECT citus_remove_node(@{[address($one)]})");

# an isolated customer has no shard that goes on, and nothing waits for that
$coordinator->sql("SELECT isolate_tenant_to_new_shard('$table', '$here', 'CASCADE', shard_transfer_mode => 'block_writes')");
$coordinator->fails_like('SELECT profile_stream.distribute()', qr/a shard of profiles has less than 65536 hashes.*Isolated tenants are not supported/s, 'an isolated customer');
ok($coordinator->poll_query_until('postgres', "SELECT bool_or(error ~ 'shard [0-9]+ of profiles (has only 1 hashes|was split)') FROM profile_stream.node_streams"), 'which the node says');

# and back
$coordinator->fails_like('SELECT profile_stream.undistribute()', qr/while there are streams/, 'undistribute() with a stream');
$coordinator->sql("SELECT profile_stream.drop_stream('crm')", 'SELECT profile_stream.undistribute()');
ProfileStream::Citus::has_profiles_of_plain($cluster, $coordinator, 'undistribute()');
is($coordinator->sql($there_are), $plain->sql($there_are), 'so are the dead letters, which are all on the coordinator');
is($_->sql($there_are), '0', 'and not on ' . $_->name) foreach $one, $two, $three;
is($_->sql('SET citus.override_table_visibility = off', q{SELECT count(*) FROM pg_class WHERE relname ~ '^(materialized_profiles|window_chunks|event_id_chunks|shard_offsets|score_passes|segment_[a-z_]+)_\d+$'}), '0', $_->name . ' has no shard') foreach @nodes;
is($coordinator->sql(q{SELECT profile_stream.apply_event('{"eventId": "after", "customerId": "early", "eventType": "seen", "timestamp": "2026-01-02T00:00:00Z"}')}), 'applied', 'the coordinator applies events again');
$coordinator->sql('DROP EXTENSION profile_stream');

$_->stop('immediate') foreach @nodes;
$plain->stop('fast');
$broker->stop;
done_testing();
