# Offsets of streams that Citus' nodes read together: seek_stream() on the coordinator, to every kind of target, also while a shard moves and a node is
# down; what a stream would apply again is refused by the offsets of all shards; lost offsets; streams that are dropped. A server that reads the same topic, and
# is moved in the same way, is the measure. It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node join_nodes counters wait_counters produce_part equals_plain move_of_shard);
use ProfileStream::Node;
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(seed => $seed, events => 7_500, customers => 300, partitions => 2, repeats => 0, parts => 5);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ] ]);
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my @nodes = ($coordinator, $one, $two);
my $cluster = { nodes => \@nodes, plain => $plain, files => $events->{files}, produced => 0 };

join_nodes($cluster, 8);
$_->create_stream('crm', $broker, 'events', dedupe_retention => "'1 day'", workers => 2, batch_size => 300) foreach $coordinator, $plain;
$broker->produce_file('events', produce_part($cluster));
equals_plain($cluster, 'at first');

sub everywhere
{
	my ($call) = @_;
	$_->sql("SELECT profile_stream.$call") foreach $coordinator, $plain;
	return;
}

sub pause
{
	everywhere("pause_stream('crm')");
	ok($_->wait_stopped('crm'), $_->name . ' is paused') foreach $plain, @nodes;
	return;
}

# Moves both to a target, with something to do in between, and goes on.
sub seek_to
{
	my ($name, $to, $do, $topic) = @_;
	my $call = "seek_stream('crm', '$to'" . ($topic // '') . ')';
	pause();
	$plain->sql("SELECT profile_stream.$call");
	$do ? $do->($call) : $coordinator->sql("SELECT profile_stream.$call");
	everywhere("resume_stream('crm')");
	equals_plain($cluster, $name);
	return;
}

$coordinator->fails_like("SELECT profile_stream.seek_stream('crm', 'earliest')", qr/stream "crm" is running/, 'a stream that runs');
$one->fails_like("SELECT profile_stream.seek_stream('crm', 'earliest')", qr/is called on the coordinator/, 'on a worker node');
seek_to('earliest', 'earliest');
cmp_ok((counters(@nodes))[1], '>', 1_000, 'what was read again are duplicates');
seek_to('offsets', '{"0": 100, "1": 200}');
seek_to('offsets of a topic', '{"0": 150}', undef, ", 'events'");
seek_to('offsets by topic', '{"events": {"1": 300}}');
seek_to('a time', '2020-01-01 00:00:00+00');
# what is read again on another node is a dead letter of both, so that there must be none before
$_->sql('DELETE FROM profile_stream_internal.dead_letters') foreach $plain, @nodes;
seek_to('a shard moves before the stream goes on', 'earliest', sub {
	$coordinator->sql("SELECT profile_stream.$_[0]");
	$coordinator->sql((move_of_shard($cluster, $one, 'block_writes'))[0]);
});
pause();
$coordinator->fails_like("SELECT profile_stream.seek_stream('crm', '$$_[0]')", $$_[1], "seek_stream() to $$_[0]")
  foreach [ 'lastest', qr/"to" must be earliest, latest/ ], [ '{"9": 1}', qr/partition 9 does not exist/ ], [ '{"0": 1000000}', qr/partition 0 has no offset 1000000/ ], [ '{"others": {"0": 1}}', qr/names topic "others"/ ];
is($_->sql("SELECT count(*) FROM profile_stream_internal.coordinator_calls WHERE function = 'seek_stream'"), 6, 'those were not sent to ' . $_->name) foreach @nodes;

# a node that is down holds the seek up before any node has run it
$two->stop('immediate');
$coordinator->fails_like("SELECT profile_stream.seek_stream('crm', 'latest')", qr/connection|did not run on all nodes/, 'seek_stream() while a node is down');
$two->start;
is($one->sql("SELECT count(*) FROM profile_stream_internal.coordinator_calls WHERE function = 'seek_stream'"), 6, 'the other one has not run it');

# the end is found once, whatever is produced before the last node has run the call
$broker->produce_file('events', produce_part($cluster));
my $session = $two->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE profile_stream_internal.stream_seeks');
my ($status, $output, $error) = $coordinator->psql('postgres', "SELECT profile_stream.seek_stream('crm', 'latest')");
$session->quit;
like($error, qr/did not run on all nodes/, 'seek_stream() while a node cannot run it');
my ($again) = $error =~ /HINT: +Call (seek_stream\(.*\)) when all nodes run/;
like($again, qr/"events": \{"0": \d+, "1": \d+\}/, 'its hint has the offsets') or diag($error);
$broker->produce_file('events', produce_part($cluster));
$coordinator->fails_like("SELECT profile_stream.seek_stream('crm', 'latest')", qr/another one did not run on all of them.*it has run seek_stream\(crm/s, 'the new end is another call');
$_->sql("SELECT profile_stream.$again") foreach $plain, $coordinator;
everywhere("resume_stream('crm')");
equals_plain($cluster, 'to the end that was found first');

# what would be applied again is refused by what all shards have taken, also where the coordinator has read nothing
everywhere("alter_stream('crm', dedupe_retention => '0')");
pause();
$_->fails_like("SELECT profile_stream.seek_stream('crm', 'earliest')", qr/may be older than dedupe_retention/, $_->name . ' refuses to apply messages again') foreach $coordinator, $plain;

# lost offsets
$broker->produce_file('events', produce_part($cluster));
$broker->delete_records('events', $_, $plain->sql("SELECT next_offset + 50 FROM profile_stream_internal.stream_offsets WHERE partition = $_")) foreach 0, 1;
everywhere("resume_stream('crm')");
ok($_->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream_internal.stream_offsets WHERE state = 'offset_lost'"), 'the offsets are lost on ' . $_->name) foreach $plain, $one, $two;
is($coordinator->sql("SELECT count(DISTINCT node) FROM profile_stream.node_health WHERE status = 'error'"), '2', 'node_health says so');
everywhere("alter_stream('crm', on_offset_lost => 'earliest')");
equals_plain($cluster, 'lost offsets');
is($coordinator->sql("SELECT sum(difference) FROM profile_stream.reconcile('crm')"), '0', 'the counters are balanced');
is($_->sql("SELECT count(*) FROM profile_stream_internal.stream_gaps WHERE reason = 'offset_lost'"), '2', $_->name . ' has recorded them once') foreach $plain, $one, $two;

# what one node has run the others must run, too, also where the broker no longer has the offset
pause();
$broker->produce_file('events', produce_part($cluster));
my $next = $plain->sql('SELECT next_offset FROM profile_stream_internal.stream_offsets WHERE partition = 0');
my $call = sprintf('seek_stream(%s, %s)', "'crm'", sprintf(q('{"0": %d}'), $next + 20));
$plain->sql("SELECT profile_stream.$call");
$session = $two->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE profile_stream_internal.stream_seeks');
($status, $output, $error) = $coordinator->psql('postgres', "SELECT profile_stream.$call");
$session->quit;
($again) = $error =~ /HINT: +Call (seek_stream\(.*\)) when all nodes run/;
$broker->delete_records('events', 0, $next + 30);
$coordinator->fails_like("SELECT profile_stream.$call", qr/partition 0 has no offset/, 'the offset is not there any more');
is($coordinator->sql("SELECT profile_stream.$again"), '', 'but the call can be made again');
everywhere("resume_stream('crm')");
equals_plain($cluster, 'a call that was made again');

# a stream that is dropped leaves nothing, also where a node was down
cmp_ok($coordinator->sql('SELECT count(*) FROM profile_stream_internal.shard_offsets WHERE stream_id > 0'), '>', 0, 'shards have offsets of the stream');
$two->stop('immediate');
$coordinator->fails_like("SELECT profile_stream.drop_stream('crm')", qr/did not run on all nodes|connection/, 'drop_stream() while a node is down');
$two->start;
$coordinator->sql("SELECT profile_stream.drop_stream('crm')");
is($coordinator->sql('SELECT count(*) FROM profile_stream_internal.shard_offsets WHERE stream_id > 0'), '0', 'shards have nothing of a stream that was dropped');

$_->stop('immediate') foreach @nodes;
$plain->stop('fast');
$broker->stop;
done_testing();
