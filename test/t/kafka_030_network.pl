# A broker restarts, and a network holds, resets, cuts or swallows packets while events are produced. The stream goes on by
# itself and equals the model.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use List::Util qw(max);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $limit = 20;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ], proxied => 1);
my $proxy = $broker->proxy;

# name, fault, end of the fault, seconds that it lasts, whether nothing can be read meanwhile
my @faults = (
	[ 'restart of the broker', sub { $broker->stop }, sub { $broker->start }, 0 ],
	[ 'kill -9 of the broker', sub { $broker->kill9 }, sub { $broker->start }, 0 ],
	[ 'hold', sub { $proxy->tell('hold') }, sub { $proxy->tell('pass') }, 5, 1 ],
	[ 'reset', sub { $proxy->tell('rst') }, sub { $proxy->tell('rst') }, 1 ],
	[ 'cut after 1 byte', sub { $proxy->tell('cut', 1) }, sub { $proxy->tell('pass') }, 3, 1 ],
	[ 'cut after 1,000 bytes', sub { $proxy->tell('cut', 1_000) }, sub { $proxy->tell('pass') }, 3 ],
	[ 'cut after 100,000 bytes', sub { $proxy->tell('cut', 100_000) }, sub { $proxy->tell('pass') }, 3 ],
	[ 'blackhole', sub { $proxy->tell('blackhole') }, sub { $proxy->tell('pass') }, 5, 1 ],
	[ 'refused connections', sub { $proxy->tell('refuse') }, sub { $proxy->tell('pass') }, 3, 1 ],
	[ 'late by 50 ms', sub { $proxy->tell('delay', 0.05) }, sub { $proxy->tell('pass') }, 1 ]);

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 60_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	parts => 3 * @faults);
my $node = ProfileStream::Node->start_new('main');
my @files = @{ $events->{files} };
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @files;
my $produced = 0;
my @recoveries;

$node->safe_psql('postgres',
	"SELECT profile_stream.create_stream('net', bootstrap_servers => '" . $proxy->bootstrap . "', topic => 'events')");
ok($node->wait_state('net', 'running'), 'the stream runs');
my $pid = $node->stream_pid('net');

# The next file of events.
sub next_file
{
	$produced += shift @sizes;
	return shift @files;
}

# Events flow before, through and after each fault. Of the network's, the producer notices nothing; of the
# broker's, it waits. One producer at a time keeps the order.
foreach my $fault (@faults)
{
	my ($name, $begin, $end, $lasts, $silent) = @$fault;
	my $producer = $broker->start_producing('events', next_file());

	usleep(int(rand(300_000)));
	$begin->();
	if ($lasts)
	{
		$broker->finish_producing($producer);
		$broker->produce_file('events', next_file());
		usleep($lasts * 1_000_000);
		cmp_ok($node->taken('net'), '<', $produced, "$name: nothing comes through") if $silent;
	}
	$end->();
	my $start = time;
	$broker->finish_producing($producer) unless $lasts;
	$broker->produce_file('events', next_file());
	$broker->produce_file('events', next_file()) unless $lasts;
	ok($node->wait_taken('net', $produced), "$name: everything is taken");
	push @recoveries, time - $start;
	note(sprintf('%s: %.1f s after its end everything was applied', $name, $recoveries[-1]));
	cmp_ok($recoveries[-1], '<=', $limit, "$name: within $limit s of its end");
}

note(sprintf('longest recovery %.1f s', max(@recoveries)));
is($produced, $events->{events}, 'every event was produced');
is($node->stream_pid('net'), $pid, 'the worker lived through all of it');
$node->equals_model('net', $events, scalar(@faults) . " faults, seed $seed");
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
