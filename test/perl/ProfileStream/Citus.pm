
=pod

=head1 NAME

ProfileStream::Citus - nodes of distributed profiles, for tests

=head1 DESCRIPTION

A server that has the extension citus: tests that start one run where PS_CITUS names
the pg_config of a PostgreSQL with Citus. And counters of several nodes, with or
without Citus.

=cut

package ProfileStream::Citus;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Time::HiRes qw(usleep);

our @EXPORT_OK = qw(start_node address counters wait_counters);

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

1;
