# A worker ends within two seconds when it is told to, whatever the broker does. DROP DATABASE of another database does not
# wait for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $limit = 2;
my $backlog = 150_000;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ] ], proxied => 1);
my $proxy = $broker->proxy;
my $brokers = $proxy->bootstrap;
my $node = ProfileStream::Node->start_new('main');
my $number = 0;
my %kind = (customers => 1_000, partitions => 2, type => 'session.started');

# Does something and says whether the worker is gone in time.
sub ends
{
	my ($name, $action) = @_;
	my $pid = $node->stream_pid('stop') or return fail("$name: there is no worker");
	my $start = time;

	$action->($pid);
	usleep(10_000) while kill(0, $pid) && time - $start < 60;
	my $took = time - $start;
	note(sprintf('%s: gone after %d ms', $name, 1000 * $took));
	cmp_ok($took, '<=', $limit, "$name: the worker is gone within $limit s");
}

sub terminate { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])"); }
sub pause { $node->safe_psql('postgres', "SELECT profile_stream.pause_stream('stop')"); }
sub resume { $node->safe_psql('postgres', "SELECT profile_stream.resume_stream('stop')"); }

sub create
{
	my ($owner) = @_;
	$node->safe_psql('postgres',
		"SET ROLE $owner; SELECT profile_stream.create_stream('stop', bootstrap_servers => '$brokers', topic => 'events')");
}

# What shall end a worker ends it, in a state of the broker; then something holds of the paused stream.
sub stops
{
	my ($state, $ready, $paused) = @_;

	$ready->();
	ends("$state, SIGTERM", \&terminate);
	ok($node->wait_stream_pid('stop'), "$state: a worker comes back");
	$ready->();
	# a worker that did not look up would keep this waiting until the broker is back
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	my $start = time;
	my ($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '5 s'; DROP DATABASE other");
	is($rc, 0, "$state: DROP DATABASE of another database does not wait") or diag($err);
	note(sprintf('%s: DROP DATABASE took %d ms', $state, 1000 * (time - $start)));
	$node->psql('postgres', 'DROP DATABASE IF EXISTS other');
	ends("$state, pause_stream()", \&pause);
	$paused->() if $paused;
	resume();
	ok($node->wait_stream_pid('stop'), "$state: a resumed stream has a worker");
}

$broker->produce('events', events(\$number, 10, %kind));
create('postgres');
ok($node->wait_taken('stop', 10), 'the stream runs');

stops('idle', sub { $node->wait_state('stop', 'running') });

# a backlog in small batches, so that batch follows batch until after the pause, also where the test is slow
pause();
ok($node->wait_worker(0), 'paused');
$broker->produce('events', events(\$number, $backlog, %kind));
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('stop', batch_size => 20)");
my $taken = 10;
resume();
stops(
	'busy',
	sub {
		$node->wait_taken('stop', $taken + 1);
		$taken = $node->taken('stop');
	},
	sub { cmp_ok($node->taken('stop'), '<', $number, 'busy: it did not get to the end before') });
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('stop', batch_size => 5000)");
ok($node->wait_taken('stop', $number), 'busy: everything is taken afterwards');

# the broker is gone; the stream says so before we go on
my $retries = sub { $node->wait_state('stop', 'retrying') };

$proxy->tell('refuse');
stops('refused', $retries);
$proxy->tell('pass');
ok($node->wait_state('stop', 'running'), 'refused: the stream runs again');

# frozen, soon after a batch: the report of its offset may be under way
$broker->produce('events', events(\$number, 10, %kind));
ok($node->wait_taken('stop', $number), 'frozen: the stream runs until then');
$broker->freeze;
stops('frozen', sub { });
ends('frozen, SIGTERM while it starts', \&terminate);
ok($node->wait_stream_pid('stop'), 'frozen: a worker comes back');
my $pid = $node->stream_pid('stop');
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION profile_stream; ROLLBACK');
ok($node->wait_state('stop', 'retrying'), 'frozen: the stream sees that it cannot read');
is($node->stream_pid('stop'), $pid, 'frozen: a DROP EXTENSION that is rolled back ends no worker');
$broker->thaw;
ok($node->wait_state('stop', 'running'), 'frozen: the stream runs again');

$proxy->tell('blackhole');
stops('blackholed', $retries);
$proxy->tell('pass');
$broker->produce('events', events(\$number, 10, %kind));
ok($node->wait_taken('stop', $number), 'blackholed: the stream goes on');
is($node->safe_psql('postgres', 'SELECT count(*), sum(version) FROM profile_stream.materialized_profiles'), "1000|$number",
	'nothing lost or twice');

# the extension goes while the broker is frozen
$broker->freeze;
ends('frozen, DROP EXTENSION', sub { $node->safe_psql('postgres', 'DROP EXTENSION profile_stream') });
$broker->thaw;

# the extension goes while a new worker has locked tables and opens another one next; in a new database it locks tables in
# the order in which they were made
SKIP:
{
	skip 'built without failpoints', 3 unless $node->has_failpoints;
	$node->safe_psql('postgres', 'CREATE DATABASE fresh');
	$node->safe_psql('fresh', 'CREATE EXTENSION profile_stream');
	$node->set_failpoint('after_lock:sleep=3000');
	$node->safe_psql('fresh', "SELECT profile_stream.create_stream('x', bootstrap_servers => '$brokers', topic => 'events')");
	ok( $node->poll_query_until(
			'fresh', "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
			  . " WHERE a.wait_event = 'Extension' AND l.relation = 'profile_stream_internal.event_id_chunks'::regclass"),
		'a worker has locked tables');
	# it looks for a deadlock soon after the worker went on
	my ($rc, $out, $err) = $node->psql('fresh', "SET deadlock_timeout = '2900ms'; DROP EXTENSION profile_stream");
	is($rc, 0, 'DROP EXTENSION gets into no deadlock with it') or diag($err);
	$node->set_failpoint('');
	ok($node->wait_worker(0), 'the worker is gone');
	$node->safe_psql('postgres', 'DROP DATABASE fresh');
}

# its owner's things go
$node->safe_psql('postgres', 'CREATE ROLE boss SUPERUSER LOGIN; SET ROLE boss; CREATE EXTENSION profile_stream');
create('boss');
ok($node->wait_taken('stop', 10), 'a stream of a role');
ends('DROP OWNED', sub { $node->safe_psql('postgres', 'DROP OWNED BY boss CASCADE') });
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'profile_stream'"), '0',
	'DROP OWNED: the extension is gone');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'"), '0',
	'no worker is left');

# the database goes while a worker starts and while it connects, the broker frozen
$broker->freeze;
foreach my $microseconds (0, 50_000, 200_000, 1_000_000)
{
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION profile_stream');
	$node->safe_psql('other', "SELECT profile_stream.create_stream('x', bootstrap_servers => '$brokers', topic => 'events')");
	usleep($microseconds);
	$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
	ok( $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'"),
		"DROP DATABASE WITH (FORCE) $microseconds microseconds after a start leaves no worker");
}

$node->is_clean('end');
unlike(slurp_file($node->logfile), qr/exited with exit code (?![01]\b)/, 'every worker exited on its own');
$node->stop('fast');
$broker->thaw;
$broker->stop;
done_testing();
