# A worker and a relay cannot connect to their database. They say so, try again later each time, and go on by themselves
# when they can, also where no worker slot is left for the process that waits.

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

# How many lines of the log match, from a place on.
sub lines
{
	my ($pattern, $from) = @_;
	my $count = () = slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $count;
}

$node->sql('CREATE ROLE crm LOGIN IN ROLE profile_stream_operator',
	"CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->bootstrap . "')",
	'GRANT USAGE ON FOREIGN SERVER bank TO crm', 'SET ROLE crm',
	"SELECT profile_stream.create_stream('crm', server => 'bank', topic => 'events', changelog_topic => 'changelog')");
ok($node->wait_state('crm', 'running'), 'the stream runs');

my $from = -s $node->logfile;
my $pid = $node->stream_pid('crm');
my %states;
my @waits;

$node->set_failpoint('connect:fatal');
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('profile_stream worker', 'profile_stream relay')");
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'connect' AND hint <> '' AND since IS NOT NULL FROM profile_stream.stat_streams"),
	'a state with the reason and a hint');
ok($node->wait_sink('crm', "state = 'retrying' AND error ~ 'connect'", 'changelog'), 'of the relay too');
for my $try (1 .. 600)
{
	my ($state, $wait) = split(/\|/, $node->sql('SELECT state, extract(epoch FROM next_attempt_at - error_at) FROM profile_stream.stat_streams'));
	$states{$state} = 1;
	push(@waits, $wait) if !@waits || $wait != $waits[-1];
	last if $try >= 40 && @waits > 1;    # a busy machine needs longer for the second attempt
	usleep(100_000);
}
is(join(' ', keys %states), 'retrying', 'never not_running');
cmp_ok($waits[-1], '>', $waits[0] + 0.5, 'the next attempt comes later each time');
cmp_ok(lines(qr/FATAL: .*failpoint/, $from), '<=', 8, 'and is not made every second');
$node->sql('SELECT profile_stream.start_streams()');
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 AND count(*) FILTER (WHERE backend_type <> 'profile_stream starter') = 0"
		  . " FROM pg_stat_activity WHERE backend_type ~ 'profile_stream (worker|relay|starter)'"),
	'one process waits for each, however often it is started');
$node->set_failpoint('');
ok($node->wait_stream_pid('crm', $pid), 'it goes on by itself');
ok($node->wait_state('crm', 'running'), 'and says so');
ok($node->wait_for_log(qr/stream "crm" is running again, after/, $from), 'in the log too');

ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream starter'"),
	'nobody waits for what has come about');

# a database that nobody can connect to, as one whose disk is not there: not even who would say so
$node->sql('CREATE DATABASE doomed');
$node->safe_psql('doomed', "CREATE EXTENSION profile_stream; SELECT profile_stream.create_stream('doomed', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'events')");
my $runs = "SELECT state = 'running' FROM profile_stream.stat_streams";
ok($node->poll_query_until('doomed', $runs), 'a stream of another database runs');
my $file = $node->data_dir . '/base/' . $node->sql("SELECT oid FROM pg_database WHERE datname = 'doomed'") . '/PG_VERSION';
$from = -s $node->logfile;
rename($file, "$file.away") or die;
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'doomed'");
ok($node->wait_for_log(qr/(FATAL: .*is not a valid data directory.*){2}/s, $from), 'neither its worker can connect nor the starter');
rename("$file.away", $file) or die;
ok($node->poll_query_until('doomed', $runs), 'it goes on by itself');

# a database whose DROP DATABASE was interrupted can only be dropped: its streams are not tried again
$from = -s $node->logfile;
$node->sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'doomed'", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'doomed'");
ok($node->wait_for_log(qr/FATAL: .*cannot connect to invalid database "doomed"/, $from), 'its worker finds the database invalid');
for (1 .. 2)
{
	$pid = $node->stream_pid('crm');
	$node->sql("SELECT pg_terminate_backend($pid)");
	ok($node->wait_stream_pid('crm', $pid), 'while another worker is started again');
}
is(lines(qr/FATAL: .*cannot connect to invalid database/, $from), 1, 'it is not');
$node->sql('DROP DATABASE doomed');

# without a slot for who would wait: the slots are of the launcher, of logical replication and of the worker
$node->sql("SELECT profile_stream.alter_stream('crm', changelog_topic => '')");
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
ok($node->poll_query_until('postgres', "SELECT profile_stream.start_streams() IS NOT NULL AND EXISTS (SELECT FROM profile_stream.stat_streams WHERE state = 'running')"),
	'the stream takes the last slot');
$from = -s $node->logfile;
$node->set_failpoint('connect:fatal');
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'");
ok($node->wait_for_log(qr/FATAL: .*failpoint/, $from), 'the worker cannot connect, and nobody can wait for it');
$node->set_failpoint('');
ok($node->wait_state('crm', 'running'), 'it goes on all the same');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
