# A network of 64 kbit/s whose connections break: events come through, and each is applied once. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $rate = 8_000;    # bytes per second
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 50_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	parts => 3);
my @files = @{ $events->{files} };
my $first = () = slurp_file($files[0]) =~ /\n/g;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ], proxied => 1);
my $proxy = $broker->proxy;
my $node = ProfileStream::Node->start_new('main');

# Kilobytes of memory that a process has now.
sub memory
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0;
}

# small fetches of small batches, or none would pass at this rate before its time is over: also of the first file, whose
# last message is read again at each assignment
my $brokers = $proxy->bootstrap;
$node->safe_psql('postgres', <<"END");
SELECT profile_stream.create_stream('slow', bootstrap_servers => '$brokers', topic => 'events',
	options => '{"fetch.message.max.bytes": 4000, "socket.timeout.ms": 10000}');
END
$broker->produce_file('events', $files[0], batch => 20);
ok($node->wait_taken('slow', $first), 'the stream runs');
my $pid = $node->stream_pid('slow');
my $memory = memory($pid);

$proxy->tell('rate', $rate);
$broker->produce_file('events', $files[1], batch => 20);
my $taken = $first;
foreach my $round (1 .. 3)
{
	ok($node->wait_taken('slow', $taken + 1), "slow: events come through, round $round");
	$taken = $node->taken('slow');
	# what was half read is read again
	$proxy->tell('rst');
}
ok($node->wait_taken('slow', $taken + 1), 'slow: and after the last break');
cmp_ok($node->taken('slow'), '<', 2 * $first, 'slow: but not all, as it is slow');

$proxy->tell('pass');
$broker->produce_file('events', $files[2]);
ok($node->wait_taken('slow', $events->{events}), 'fast again: everything is taken');
$node->equals_model('slow', $events, "64 kbit/s, seed $seed");
is($node->stream_pid('slow'), $pid, 'the worker lived through all of it');
SKIP:
{
	skip 'needs /proc', 1 unless $memory;
	note(sprintf('memory of the worker: %d kB before, %d kB after', $memory, memory($pid)));
	cmp_ok(memory($pid) - $memory, '<', 65_536, 'its memory did not grow by what was waiting');
}
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
