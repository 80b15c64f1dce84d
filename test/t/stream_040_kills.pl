# A worker is killed twenty times and the server restarted once, while three in ten events come twice. Each time the stream
# goes on, and the counts are exact. PS_SEED repeats a run.

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

my $kills = 20;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 60_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	repeats => 0.45,
	parts => 2 * ($kills + 1));
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my @files = @{ $events->{files} };
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @files;
my $produced = 0;
my @recoveries;

# A round: events flow, the fault hits after a random time, and events that come later are applied.
sub round
{
	my ($name, $fault) = @_;
	my $pause = int(rand(500_000));
	my $producer = $broker->start_producing('events', shift @files);

	usleep($pause);
	my $start = time;
	$fault->();
	$broker->finish_producing($producer);
	$produced += shift @sizes;
	$broker->produce_file('events', shift @files);
	$produced += shift @sizes;
	$node->wait_alive;
	ok($node->wait_taken('kills', $produced), "$name: goes on");
	push @recoveries, time - $start;
	note(sprintf('%s after %d ms: everything applied %.1f s later', $name, $pause / 1000, $recoveries[-1]));
}

$node->create_stream('kills', $broker, 'events');
ok($node->wait_state('kills', 'running'), 'the stream runs');

foreach my $kill (1 .. $kills)
{
	ok($node->wait_stream_pid('kills'), "kill $kill: there is a worker");
	round("kill $kill", sub {
		$node->kill_process($node->stream_pid('kills')) or die 'could not kill the worker';
	});
	round('restart of the server', sub { $node->restart }) if $kill == $kills / 2;
}

note(sprintf('longest recovery %.1f s', max(@recoveries)));
is($produced, $events->{events}, 'every event was produced');
$node->equals_model('kills', $events, "$kills kills, seed $seed");
cmp_ok($node->safe_psql('postgres', 'SELECT sum(duplicates)::float8 / sum(applied + duplicates + dead + late + tombstones) FROM profile_stream_internal.stream_offsets'),
	'>', 0.3, 'three in ten were duplicates, and were counted');
$node->is_clean('end');

$node->stop('fast');
$broker->stop;
done_testing();
