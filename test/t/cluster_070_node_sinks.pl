# Two servers with a catalogue as Citus has it, which are copies of one, deliver what a stream has for sinks: each what it has itself.
# Each dead letter comes once, whatever ends the relays of both.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use ProfileStream::Shards qw(make_shards run_call);
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'dead', 2 ] ]);
my $letters = ProfileStream::Topic->new($broker, 'dead');
# copies have the same system identifier, and the same number of the database
my $one = ProfileStream::Node->start_new('one', init => { allows_streaming => 1 });
$one->backup('copy');
my $two = ProfileStream::Node->new('two');
$two->{expected_signals} = 0;
$two->init_from_backup($one, 'copy');
$two->start;
my @nodes = ($one, $two);
make_shards(@nodes);
my $produced = 0;
my $broken = 0;

# Events of customers of both nodes, and messages that become dead letters.
sub produce
{
	my @rows = map { my $customer = 'c' . int(rand(50)); $produced++; rand() < 0.2 ? [ $_ % 2, "k$produced", 'broken ' . $broken++ ] : [ $_ % 2, $customer, event("e$produced", $customer) ] } 1 .. 100;
	$broker->produce('events', @rows);
	foreach my $node (@nodes)
	{
		$node->poll_query_until('postgres', "SELECT COALESCE(sum(next_offset), 0) = $produced FROM profile_stream_internal.stream_offsets")
		  or diag($node->name . ': ' . $node->sql('SELECT * FROM profile_stream_internal.stream_offsets', 'SELECT state, error FROM profile_stream.stat_streams'));
	}
	return;
}

sub wait_delivered { return is(scalar(grep { $_->wait_sink('crm', "backlog = 0 AND state IN ('idle', 'running')", $_[0]) } @nodes), 2, "$_[1]: both nodes have delivered"); }

# How many of the topic's dead letters are there more than once, and how many are not there.
sub letters_equal
{
	my ($name, $times) = @_;
	wait_delivered('dead_letters', $name);
	my (%found, %numbers);
	foreach my $message ($letters->messages)
	{
		$found{ $message->[3] }++;
		$numbers{ join(' ', $message->[4] =~ /profile_stream\.(?:dead_letter_id|node)=\d+/g) } = 1;
	}
	is(scalar(keys %numbers), $broken, "$name: each by its number and node");
	is(scalar(keys %found), $broken, "$name: all dead letters");
	is(join(' ', grep { $found{$_} != $times } sort keys %found), '', "$name: each $times times");
	return;
}

my $options = '"name": "crm", "bootstrap_servers": "' . $broker->bootstrap . '", "topic": "events", "dead_letter_topic": "dead", "dead_letter_pause_ratio": 1';
run_call($_, 1, "{$options}", '{1,3,1}') foreach @nodes;
produce();
letters_equal('two nodes', 1);
cmp_ok($_->sql('SELECT count(*) FROM profile_stream.dead_letters'), '>', 0, $_->name . ' has some of them') foreach @nodes;
is($_->sql('SELECT count(*) FROM profile_stream.stream_log WHERE reason ~ \'FENCED\''), '0', $_->name . ' was not shut out by the other one') foreach @nodes;
is($one->sql("SELECT count(DISTINCT node), count(*), sum(delivered), max(node_error) FROM profile_stream.node_sinks"), "2|2|$broken|", 'node_sinks has both');

# the relays end at each step
foreach my $step ('relay_before_send', 'relay_before_commit')
{
	foreach my $node (@nodes)
	{
		my $from = -s $node->logfile;
		$node->set_failpoint("$step:kill");
		$broker->produce('events', [ 0, 'k', 'broken ' . $broken++ ], [ 0, 'k', 'broken ' . $broken++ ], [ 0, 'k', 'broken ' . $broken++ ], [ 1, 'k', 'broken ' . $broken++ ]);
		$produced += 4;
		$node->expect_signals(1) if eval { local $PostgreSQL::Test::Utils::timeout_default = 20; $node->wait_for_log(qr/was terminated by signal 9/, $from); 1 };
		$node->set_failpoint('');
		$node->wait_alive;
	}
	produce();
	letters_equal($step, 1);
}

# again, by all nodes; one that is down is not passed over
is($two->sql("SELECT profile_stream.resync_sink('crm', 'dead_letters')"), $broken, 'resync_sink() counts those of all nodes');
letters_equal('resync_sink()', 2);
$one->stop('fast');
$two->fails_like("SELECT profile_stream.resync_sink('crm', 'dead_letters')", qr/did not run on all nodes/, 'resync_sink() while a node is down');
is($two->sql('SELECT count(*), count(node_error) FROM profile_stream.node_sinks'), '2|1', 'node_sinks says so');
$one->start;

$_->stop('immediate') foreach @nodes;
$broker->stop;
done_testing();
