# Shards that are to move and do not, while events flow. A move waits for a worker that holds it up at the fence, with logical replication after
# it has copied the shard: then it is cancelled, its target, the coordinator or the node with the worker stops, or the worker ends and the move
# goes on. Another one is cancelled while it copies. Nothing is remembered of event ids, so that an event applied twice shows. Afterwards all
# nodes read once more from the offsets of their shards: a server that reads the whole topic is the measure.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node join_nodes produce_part equals_plain move_of_shard start_move);
use ProfileStream::Node;
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my @faults = ('cancelled', 'its target stops', 'the coordinator stops', 'the worker is killed', 'the worker ends');
my @modes = ('force_logical', 'block_writes');
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $parts = 2 + @faults * @modes;
my $events = ProfileStream::Node::generate(seed => $seed, events => 1_000 * $parts, customers => 1_500, partitions => 4, repeats => 0, parts => $parts);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my $cluster = { nodes => [ $coordinator, $one, $two ], plain => $plain, files => $events->{files}, produced => 0 };

join_nodes($cluster, 8);
$_->create_stream('crm', $broker, 'events', dedupe_retention => "'0'", workers => 2, batch_size => 300) foreach $coordinator, $plain;
$broker->produce_file('events', produce_part($cluster));
equals_plain($cluster, 'at first');

# Which shards a node has, as each node says.
sub placements
{
	return join("\n", map { $_->sql('SELECT string_agg(shardid || $$ $$ || groupid, $$, $$ ORDER BY shardid) FROM pg_dist_placement') } @{ $cluster->{nodes} });
}

# No shard has taken what is not there, and what it has not taken comes: workers begin anew at the offsets of the shards.
sub offsets_are_right
{
	my ($name) = @_;
	my $ends = $plain->sql('SELECT string_agg(format($$(%s,%s::bigint)$$, partition, next_offset), $$,$$) FROM profile_stream_internal.stream_offsets');
	is($coordinator->sql("SELECT s.slot, s.partition, s.next_offset, e.until FROM profile_stream_internal.shard_offsets s JOIN (VALUES $ends) AS e(partition, until) ON e.partition = s.partition
		WHERE s.stream_id > 0 AND s.next_offset > e.until"), '', "$name: no shard has taken more than there is");
	$coordinator->sql("SELECT profile_stream.pause_stream('crm')", "SELECT profile_stream.resume_stream('crm')");
	equals_plain($cluster, "$name, and read from the offsets of the shards");
	return;
}

foreach my $mode (@modes)
{
	foreach my $fault (@faults)
	{
		my $name = "$mode, $fault";
		my $target = rand() < 0.5 ? $one : $two;
		my ($statement, $source) = move_of_shard($cluster, $target, $mode);
		my $before = placements();
		my $from = -s $source->logfile;
		$source->set_failpoint('after_fence:wait');
		my $producer = $broker->start_producing('events', produce_part($cluster));
		$source->wait_for_log(qr/failpoint "after_fence:wait"/, $from);
		my ($output, $done) = ('');
		my $move = start_move($cluster, $statement, \$output);
		my $waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
		ok($source->poll_query_until('postgres', $waits), "$name: the move waits for the worker");
		if ($fault eq 'cancelled')
		{
			$coordinator->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'citus_move_shard_placement' AND pid <> pg_backend_pid()");
		}
		elsif ($fault =~ /stops/)
		{
			my $node = $fault =~ /target/ ? $target : $coordinator;
			$node->stop('immediate');
			$source->set_failpoint('');
			$done = $move->finish;
			$node->start;
		}
		elsif ($fault =~ /killed/)
		{
			$source->kill_process($source->worker_pid);
		}
		else
		{
			$source->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'");
		}
		my $moved = $fault eq 'the worker ends';
		$done //= $move->finish;
		is($done ? 'succeeded' : 'failed', $moved ? 'succeeded' : 'failed', "$name: whether the move succeeded");
		note($output);
		$source->set_failpoint('');
		$broker->finish_producing($producer);
		$moved ? isnt(placements(), $before, "$name: the shard is there") : is(placements(), $before, "$name: the shard is where it was");
		equals_plain($cluster, $name);
		offsets_are_right($name);
	}
}

# a move that is cancelled while it copies
my ($statement) = move_of_shard($cluster, $one, 'force_logical');
my $before = placements();
my $producer = $broker->start_producing('events', produce_part($cluster));
my $output = '';
my $move = start_move($cluster, $statement, \$output);
$one->poll_query_until('postgres', 'SELECT count(*) > 0 FROM pg_subscription');
$coordinator->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'citus_move_shard_placement' AND pid <> pg_backend_pid()");
my $is_moved = $move->finish;
note($is_moved ? 'it was over before it could be cancelled' : $output);
$broker->finish_producing($producer);
is(placements() eq $before ? 'stayed' : 'moved', $is_moved ? 'moved' : 'stayed', 'a move that is cancelled while it copies: the shard moves as a whole or not');
equals_plain($cluster, 'a move that is cancelled while it copies');
offsets_are_right('a move that is cancelled while it copies');
# and the same shard can move afterwards
$coordinator->sql($statement) unless $is_moved;
equals_plain($cluster, 'moved at last');

$_->stop('immediate') foreach @{ $cluster->{nodes} };
$plain->stop('fast');
$broker->stop;
done_testing();
