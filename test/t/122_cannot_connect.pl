# An owner who may not log in, or not connect: the worker and the relay say so, try again later each time, and go on by
# themselves when they can.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

sub sql { return $node->safe_psql('postgres', join(";\n", @_)); }

# How many lines of the log match, from a place on.
sub lines
{
	my ($pattern, $from) = @_;
	my $count = () = slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $count;
}

sql('CREATE ROLE crm LOGIN IN ROLE profile_stream_operator',
	"CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->bootstrap . "')",
	'GRANT USAGE ON FOREIGN SERVER bank TO crm', 'SET ROLE crm',
	"SELECT profile_stream.create_stream('crm', server => 'bank', topic => 'events', updates_topic => 'updates')");
ok($node->wait_state('crm', 'running'), 'the stream runs');

foreach my $case (
	[ 'no LOGIN', 'ALTER ROLE crm NOLOGIN', 'ALTER ROLE crm LOGIN', 'is not permitted to log in', 'LOGIN' ],
	[ 'no CONNECT', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', 'permission denied for database', 'CONNECT' ])
{
	my ($name, $take, $give, $error, $hint) = @$case;
	# a process of its own for each case
	sql("SELECT profile_stream.pause_stream('crm')");
	ok($node->wait_stopped('crm'), "$name: before");
	sql("SELECT profile_stream.resume_stream('crm')");
	ok($node->wait_state('crm', 'running'), "$name: it runs");
	my $from = -s $node->logfile;
	my $pid = $node->stream_pid('crm');
	my %states;
	my @waits;

	sql($take, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('profile_stream worker', 'profile_stream relay')");
	ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ '$error' AND hint ~ '$hint' AND since IS NOT NULL FROM profile_stream.stat_streams"),
		"$name: a state with the reason and a hint");
	ok($node->wait_sink('crm', "state = 'retrying' AND error ~ '$error'", 'updates'), "$name: of the relay too");
	for (1 .. 40)
	{
		my ($state, $wait) = split(/\|/, sql('SELECT state, extract(epoch FROM next_attempt_at - error_at) FROM profile_stream.stat_streams'));
		$states{$state} = 1;
		push(@waits, $wait) if !@waits || $wait != $waits[-1];
		usleep(100_000);
	}
	is(join(' ', keys %states), 'retrying', "$name: never not_running");
	cmp_ok($waits[-1], '>', $waits[0] + 0.5, "$name: the next attempt comes later each time");
	cmp_ok(lines(qr/FATAL: .*$error/, $from), '<=', 8, "$name: and is not made every second");
	is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream starter'"), 2, "$name: one process waits for each, however often it is started")
	  if sql('SELECT profile_stream.start_streams()') >= 0 && $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('profile_stream worker', 'profile_stream relay')");
	sql($give);
	ok($node->wait_stream_pid('crm', $pid), "$name: it goes on by itself");
	ok($node->wait_state('crm', 'running'), "$name: and says so");
	ok($node->wait_for_log(qr/stream "crm" is running again, after/, $from), "$name: in the log too");
}

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
