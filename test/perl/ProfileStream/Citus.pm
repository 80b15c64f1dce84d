
=pod

=head1 NAME

ProfileStream::Citus - nodes of distributed profiles, for tests

=head1 DESCRIPTION

A server that has the extension citus: tests that start one run where PS_CITUS names
the pg_config of a PostgreSQL with Citus. And counters of several nodes, with or
without Citus.

A cluster is a hash: nodes, the coordinator as the first one; plain, a server that reads
the same topic; files with events, which are yet to be produced; and how many were.

=cut

package ProfileStream::Citus;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT_OK = qw(start_node address counters wait_counters join_nodes nodes_with_shards produce_part equals_plain move_of_shard start_move);

my @counters = qw(applied duplicates dead late ignored tombstones);

# A server with Citus. $prepare changes its data before the start.
sub start_node
{
	my ($name, $prepare) = @_;
	my $node = ProfileStream::Node->init_new($name, preload => 0, conf => <<'END');
listen_addresses = '127.0.0.1'
shared_preload_libraries = 'citus,profile_stream'
wal_level = logical
max_wal_senders = 10
max_replication_slots = 20
max_prepared_transactions = 64
max_worker_processes = 64
max_connections = 200
citus.enable_statistics_collection = off
citus.log_distributed_deadlock_detection = off
END
	$prepare->($node) if $prepare;
	$node->start;
	$node->sql('CREATE EXTENSION citus');
	$node->{expected_signals} = 0;
	return $node;
}

# The arguments by which functions of Citus know a node.
sub address
{
	my ($node) = @_;
	return sprintf("'127.0.0.1', %d", $node->port);
}

# What servers have counted of their partitions, added up; the last number is of all messages, each once.
sub counters
{
	my @nodes = @_;
	my $sums = join(', ', map { "COALESCE(sum($_), 0)" } @counters, 'consumed - replayed');
	my @total = (0) x (@counters + 1);
	foreach my $node (@nodes)
	{
		my @row = split(/\|/, $node->sql("SELECT $sums FROM profile_stream_internal.stream_offsets"));
		$total[$_] += $row[$_] foreach 0 .. $#total;
	}
	return @total;
}

# The counters of nodes, once they have counted as many messages as a server that reads all of them. A shard that has come
# after its node was at the end of the topic is read from where it was.
sub wait_counters
{
	my ($plain, @nodes) = @_;
	my $messages = (counters($plain))[-1];
	my @total;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		@total = counters(@nodes);
		last if $total[-1] >= $messages;
		usleep(100_000);
	}
	return @total;
}

# Makes the servers a cluster, and distributes the profiles.
sub join_nodes
{
	my ($cluster, $shards) = @_;
	my ($coordinator, @others) = @{ $cluster->{nodes} };
	$coordinator->sql('CREATE EXTENSION IF NOT EXISTS profile_stream', "SELECT citus_set_coordinator_host(@{[address($coordinator)]})",
		map({ "SELECT citus_add_node(@{[address($_)]})" } @others), "SELECT profile_stream.distribute($shards)");
	return;
}

# The nodes that have shards at the moment.
sub nodes_with_shards
{
	my ($cluster) = @_;
	my %ports = map { $_ => 1 } split(/\n/, $cluster->{nodes}[0]->sql('SELECT DISTINCT nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid)'));
	return grep { $ports{ $_->port } } @{ $cluster->{nodes} };
}

# The next file of events, which is counted as produced.
sub produce_part
{
	my ($cluster) = @_;
	my $file = shift @{ $cluster->{files} };
	$cluster->{produced} += () = slurp_file($file) =~ /\n/g;
	return $file;
}

# Profiles, chunks of samples and dead letters, whichever server has them.
my $profiles = q{SELECT md5(string_agg(x::text, E'\n' ORDER BY x.customer_id COLLATE "C")), count(*), sum(x.version) FROM
	(SELECT customer_id, version, updated_at, first_event_at, watermark, total_balance, account_count, attributes, event_counts, window_state FROM profile_stream.materialized_profiles) x};
my $chunks = q{SELECT md5(string_agg(x::text, E'\n' ORDER BY x.customer_id COLLATE "C", x.metric COLLATE "C", x.chunk_no)), count(*) FROM
	(SELECT customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples FROM profile_stream_internal.window_chunks) x};
my $letters = q{SELECT partition, kafka_offset, kind, customer_id FROM profile_stream.dead_letters};

# Two passed tests when a server has the profiles and chunks of the plain one.
sub has_profiles_of_plain
{
	my ($cluster, $node, $name) = @_;
	is($node->sql($profiles), $cluster->{plain}->sql($profiles), "$name: the profiles are those of one server");
	is($node->sql($chunks), $cluster->{plain}->sql($chunks), "$name: so are the chunks of samples");
	return;
}

# Waits until all nodes have read everything, and compares with the plain server: what was counted, and what is stored.
sub equals_plain
{
	my ($cluster, $name) = @_;
	my $plain = $cluster->{plain};
	foreach my $node ($plain, nodes_with_shards($cluster))
	{
		$node->poll_query_until('postgres', "SELECT COALESCE(sum(next_offset), 0) = $cluster->{produced} FROM profile_stream_internal.stream_offsets") or
		  diag($node->name . ': ' . $node->sql('SELECT partition, next_offset, state, error FROM profile_stream_internal.stream_offsets', 'SELECT state, error FROM profile_stream.stat_streams'));
	}
	is(join(' ', wait_counters($plain, @{ $cluster->{nodes} })), join(' ', counters($plain)), "$name: each event counts once");
	has_profiles_of_plain($cluster, $cluster->{nodes}[0], $name);
	is(join("\n", sort map { split(/\n/, $_->sql($letters)) } @{ $cluster->{nodes} }), join("\n", sort(split(/\n/, $plain->sql($letters)))), "$name: and the dead letters");
	is($_->sql('SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0'), '0', "$name: no row outside of the shards of " . $_->name) foreach @{ $cluster->{nodes} };
	return;
}

# A statement that moves a shard to a node, and the node that has it now.
sub move_of_shard
{
	my ($cluster, $to, $mode) = @_;
	my ($shard, $port) = split(/\|/, $cluster->{nodes}[0]->sql("SELECT s.shardid, n.nodeport FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid) JOIN pg_dist_node n USING (groupid)
		WHERE s.logicalrelid = 'profile_stream.materialized_profiles'::regclass AND n.nodeport <> @{[$to->port]} ORDER BY random() LIMIT 1"));
	my ($from) = grep { $_->port == $port } @{ $cluster->{nodes} };
	return ("SELECT citus_move_shard_placement($shard, @{[address($from)]}, @{[address($to)]}, '$mode')", $from);
}

# Runs a statement on the coordinator meanwhile; finish() of what is returned says whether it succeeded.
sub start_move
{
	my ($cluster, $statement, $output) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $cluster->{nodes}[0]->connstr('postgres'), '-c', $statement ], '>', $output, '2>&1');
}

1;
