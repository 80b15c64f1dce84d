# examples/changelog.py runs: it has every profile from the changelog topic, then each change and each erasure. It waits for a
# topic that is not there yet and for a broker that is away, and has everything again after its own restart.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use POSIX ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $dir = PostgreSQL::Test::Utils::tempdir('changelog');
my $n = 0;
my $pid;

# Applies an event of each customer.
sub apply
{
	foreach my $customer (@_)
	{
		$n++;
		$node->sql(qq(SELECT profile_stream.apply_event('{"eventId": "$n", "customerId": "$customer", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}')));
	}
}

sub start
{
	$pid = fork() // die $!;
	return if $pid != 0;
	open(STDIN, '<', '/dev/null') or POSIX::_exit(127);
	open(STDOUT, '>', "$dir/out") or POSIX::_exit(127);
	open(STDERR, '>>', "$dir/err") or POSIX::_exit(127);
	exec('/usr/bin/python3', "$FindBin::RealBin/../../examples/changelog.py", $broker->bootstrap, 'updates') or POSIX::_exit(127);
}

sub stop
{
	return unless $pid;
	kill('KILL', $pid);
	waitpid($pid, 0);
	undef $pid;
}

END { local $?; stop(); }

# Waits until a file has a line.
sub has
{
	my ($file, $line) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if -e "$dir/$file" && slurp_file("$dir/$file") =~ /$line/m;
		usleep(100_000);
	}
	return 0;
}

# The last that it said of each customer.
sub copy
{
	my %last = map { reverse(split(/ /, $_, 2)) } split(/\n/, slurp_file("$dir/out"));
	return join(', ', map { "$_ $last{$_}" } sort keys %last);
}

start();
ok(has('err', 'UNKNOWN_TOPIC_OR_PART'), 'without the topic it says so');
$broker->create_topic('updates', 3);
$node->create_stream('crm', $broker, 'events', changelog_topic => "'updates'");
apply(map { "c$_" } 1 .. 5);
ok(has('out', "^1 c$_\$"), "c$_: its profile comes") foreach 1 .. 5;
apply('c1', 'new one');
ok(has('out', '^2 c1$') && has('out', '^1 new one$'), 'so do changes');
$node->sql("SELECT profile_stream.forget_customer('c4')");
ok(has('out', '^erased c4$'), 'and an erasure');
apply('c4');
ok(has('out', '^erased c4\n(.*\n)*1 c4$'), 'who comes back is there again');

# a broker that is away
$broker->stop;
apply('c2');
ok(has('err', 'Connection refused'), 'without the broker it says so');
$broker->start;
ok(has('out', '^2 c2$'), 'and then goes on');

# its own end
stop();
apply('c3');
start();
ok(has('out', '^2 c3$') && has('out', '^2 c2$') && has('out', '^2 c1$') && has('out', '^erased c4\n(.*\n)*1 c4$') && has('out', '^1 new one$') && has('out', '^1 c5$'),
	'after a restart it has everything');
is(copy(), 'c1 2, c2 2, c3 2, c4 1, c5 1, new one 1', 'as it is in the database');
stop();
note(slurp_file("$dir/err"));

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
