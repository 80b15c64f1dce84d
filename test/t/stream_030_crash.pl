# Kills and errors at every step of a batch and at random moments: no event is lost or applied twice. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my @failpoints = qw(after_fetch after_decode after_lock after_fold after_upsert after_dead_letters after_notify
  after_offsets before_commit after_commit);
my @actions = qw(error fatal kill);
my $kills = 12;
my $steps = @failpoints * @actions;

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 200_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	parts => 1 + $steps + $kills);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my @files = @{ $events->{files} };
my $produced = 0;

# Produces the next file of events.
sub produce_next
{
	my $file = shift @files;
	my $lines = () = slurp_file($file) =~ /\n/g;
	$broker->produce_file('events', $file);
	return $produced += $lines;
}

produce_next();
$node->create_stream('crash', $broker, 'events');

# every step of a batch, with each way to fail
SKIP:
{
	skip 'built without failpoints', 1 unless $node->has_failpoints;
	foreach my $failpoint (@failpoints)
	{
		foreach my $action (@actions)
		{
			my $from = -s $node->logfile;
			$node->set_failpoint("$failpoint:$action");
			produce_next();
			$node->wait_for_log($action eq 'kill' ? qr/was terminated by signal 9/ : qr/failpoint "$failpoint"/, $from);
			if ($action eq 'error')
			{
				# it fails again and again, but where nothing is left to do, and in between it holds nothing
				ok($node->wait_state('crash', $failpoint eq 'after_commit' ? 'retrying|running' : 'retrying'), "retries after an error at $failpoint");
				ok($node->wait_idle, "holds nothing after an error at $failpoint");
			}
			$node->set_failpoint('');
			$node->wait_alive;
			ok($node->wait_idle, "holds nothing after $action at $failpoint") if $action ne 'error';
			ok($node->wait_taken('crash', $produced), "goes on after $action at $failpoint");
		}
	}
}
# a failpoint may have killed more than once before it was reset
my $deaths = () = slurp_file($node->logfile) =~ /was terminated by signal 9/g;
$node->expect_signals($deaths);
my $others = () = slurp_file($node->logfile) =~ /was terminated by signal (?!9)/g;
is($others, 0, 'no other signal ended a process');

# at random moments
foreach my $round (1 .. $kills)
{
	my $fault = (qw(worker backend immediate broker))[ rand 4 ];
	my $pause = int(rand(400_000));

	produce_next() if @files;
	note("round $round: $fault after $pause microseconds");
	usleep($pause);
	if ($fault eq 'worker')
	{
		$node->kill_process($node->worker_pid);
	}
	elsif ($fault eq 'backend')
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query('SELECT pg_backend_pid()');
		$node->kill_process($pid);
		eval { $session->quit };
	}
	elsif ($fault eq 'immediate')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		rand() < 0.5 ? $broker->stop : $broker->kill9;
		$broker->start;
	}
}
produce_next() while @files;

ok($node->wait_taken('crash', $events->{events}), 'every message is taken');
$node->equals_model('crash', $events, "after $kills faults and $steps steps, seed $seed");
$node->is_clean('end');
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crash')");
ok($node->wait_worker(0), 'the worker ends');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), '0', 'no lock is left');

$node->stop('fast');
$broker->stop;
done_testing();
