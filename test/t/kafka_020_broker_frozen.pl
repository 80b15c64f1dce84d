# While a broker is frozen the worker neither spins nor fills the log; afterwards it goes on. PS_FREEZE is the number of
# seconds: 90 is longer than every timeout of Kafka's. Without it the test makes the stream look for the broker more
# often, so that it notices within the default of 10 seconds.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use POSIX ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();
plan skip_all => 'needs /proc' unless -r '/proc/self/stat';

my $seconds = $ENV{PS_FREEZE} // 10;
my $events = ProfileStream::Node::generate(
	seed => $ENV{PS_SEED} // 9,
	events => $ENV{PS_EVENTS} // 50_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	parts => 3);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my @files = @{ $events->{files} };

# Seconds of processor time that a process used, its threads included.
sub cpu
{
	my ($process) = @_;
	my @fields = split ' ', slurp_file("/proc/$process/stat") =~ s/^.*\) //sr;
	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

$broker->produce_file('events', $files[0]);
$node->create_stream('freeze', $broker, 'events', $ENV{PS_FREEZE} ? () : (options => q('{"topic.metadata.refresh.interval.ms": 2000}')));
ok($node->wait_taken('freeze', int($events->{events} / 3)), 'the stream runs');

# it freezes while events come
my $producer = $broker->start_producing('events', $files[1]);
ok($node->wait_taken('freeze', int($events->{events} / 3) + 1), 'events come');
$broker->freeze;
ok($node->wait_state('freeze', 'retrying'), 'the stream says that it cannot read');
my $pid = $node->stream_pid('freeze');
my $from = -s $node->logfile;
my $used = cpu($pid);
my $start = time;
note("frozen for $seconds seconds");
$node->safe_psql('postgres', "SELECT pg_sleep($seconds)");
$used = cpu($pid) - $used;
my $share = 100 * $used / (time - $start);
note(sprintf('the worker used %.2f s, %.1f %% of a processor', $used, $share));
cmp_ok($share, '<', 5, 'the worker does not spin');
my $lines = () = slurp_file($node->logfile, $from) =~ /^\S+ \S+ \S+ \[$pid\]/mg;
cmp_ok($lines, '<=', 10, 'nor does it fill the log');
ok($node->wait_state('freeze', 'retrying'), 'the stream still says so');

$broker->thaw;
$start = time;
$broker->finish_producing($producer);
$broker->produce_file('events', $files[2]);
ok($node->wait_taken('freeze', $events->{events}), 'the stream goes on');
note(sprintf('everything applied %.1f s after the thaw', time - $start));
is($node->stream_pid('freeze'), $pid, 'with the same worker') if $seconds < 100;    # after two minutes another one tries
$node->equals_model('freeze', $events, "frozen for $seconds s");

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
