# A worker commits without waiting for the disk, and the server crashes right after a relay has delivered. What the relay
# delivered has survived, so no Redis and no topic is ahead of the profiles.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use ProfileStream::Topic;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $rounds = $ENV{PS_ROUNDS} // 3;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'changelog', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "fsync = on\nautovacuum = off\nbgwriter_lru_maxpages = 0");
my $redis = ProfileStream::Redis->new;
my $topic = ProfileStream::Topic->new($broker, 'changelog');
my $version = 0;

my %published = (
	redis => sub { $redis->command('GET', 'profile:c') =~ /"version": (\d+)/ ? $1 : 0 },
	changelog => sub { my ($last) = reverse $topic->messages; defined $last && $last->[4] =~ /^profile-version=(\d+)$/ ? $1 : 0 });

# Produces the next event, and waits until a sink has what became of it.
sub publish
{
	my ($sink, $name) = @_;
	my $found = 0;

	$version++;
	$broker->produce('events', [ 0, 'c', sprintf('{"eventId":"e%d","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', $version) ]);
	for (1 .. 60_000)
	{
		last if ($found = $published{$sink}->()) == $version;
		usleep(1_000);
	}
	is($found, $version, "$name is published");
}

# Stops the server without letting the stopped WAL writer do anything but end, for which the server waits 5 s.
sub stop_at_once
{
	my ($writer) = @_;
	my $asked = 0;

	kill('QUIT', slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/) or die 'could not stop the server';
	for (1 .. 60_000)
	{
		last if $asked = slurp_file("/proc/$writer/status") =~ /^ShdPnd:.*[4-7c-f]$/m;    # SIGQUIT waits for it
		usleep(1_000);
	}
	ok($asked, 'the WAL writer is asked to quit');
	kill('CONT', $writer);
	$node->stop('immediate', fail_ok => 1);    # it may have ended by now
}

$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->address . "'");
ok($node->wait_sink('crm', "state IN ('running', 'idle', 'starting') AND relay_pid IS NOT NULL"), 'the relay runs');
foreach my $sink ('redis', 'changelog')
{
	$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', redis => '', changelog_topic => 'changelog')") if $sink eq 'changelog';
	foreach my $round (1 .. $rounds)
	{
		# a worker flushes what it writes after its first batch; then nobody but the relay does, as the WAL writer is stopped
		publish($sink, "$sink, round $round: the first version");
		my $writer = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
		kill('STOP', $writer) or die 'could not stop the WAL writer';
		publish($sink, "$sink, round $round: the second version");
		$broker->freeze;    # what was lost could be read again
		stop_at_once($writer);
		$node->start;
		is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'c'"),
			$version, "$sink, round $round: and was not lost");
		$broker->thaw;
	}
}
ok($node->wait_taken('crm', $version), 'everything is read');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
