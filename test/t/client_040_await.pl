# A session that waits for a stream. The procedures hold no snapshot meanwhile, so that old row versions go; the functions do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IO::Socket::INET;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => 'autovacuum = off', init => { allows_streaming => 1 });
my $number = 0;

# A session that runs statements one by one.
sub start
{
	my (@statements) = @_;
	my ($out, $err) = ('', '');
	my $session = { out => \$out, err => \$err };
	$session->{run} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @statements ],
		'>', \$out, '2>', \$err);
	return $session;
}

sub finish
{
	my ($session) = @_;
	$session->{run}->finish;
	return ${ $session->{out} } . ${ $session->{err} };
}

# Whether a session comes to wait with such a statement, and a condition holds for it.
sub waits
{
	my ($call, $condition) = @_;
	return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^(CALL|SELECT) profile_stream.$call'"
		  . " AND state = 'active' AND wait_event_type = 'Extension' AND $condition");
}

# Updates each profile, and returns how many old row versions VACUUM cannot remove.
sub not_removable
{
	$node->sql('UPDATE profile_stream.materialized_profiles SET phone = phone');
	my ($rc, $out, $err) = $node->psql('postgres', 'VACUUM (VERBOSE) profile_stream.materialized_profiles');
	my ($n) = $err =~ /(\d+) are dead but not yet removable/ or die $err;
	return $n;
}

$broker->produce('events', events(\$number, 100, customers => 10, partitions => 2));
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 100), 'events are applied');
is($node->sql("CALL profile_stream.await_stream('crm')"), '', 'what is reached is not waited for');
is($node->sql("CALL profile_stream.await_offset('crm', partition => 0, kafka_offset => 49)"), '', 'nor is an offset');
$node->sql("SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'the stream is paused');
$broker->produce('events', events(\$number, 20, customers => 10, partitions => 2));

my %function = (await_stream => 'wait_for_stream', await_offset => 'wait_for_offset');
my %arguments = (await_stream => "'crm', '5 min'", await_offset => "'crm', 0, 59, '5 min'");
foreach my $name (sort keys %function)
{
	# the function, which shows that the test can see a snapshot
	my $session = start("SELECT profile_stream.$function{$name}($arguments{$name})");
	ok(waits($function{$name}, 'backend_xmin IS NOT NULL'), "$function{$name}() waits and has a snapshot");
	is(not_removable(), '10', 'old row versions stay');
	$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT profile_stream.$function{$name}'");
	like(finish($session), qr/canceling statement due to user request/, 'it can be cancelled');

	$session = start("CALL profile_stream.$name($arguments{$name})");
	ok(waits($name, 'backend_xmin IS NULL AND backend_xid IS NULL'), "$name() waits without one");
	# a look at the offsets takes a moment
	my $left;
	for (1 .. 20) { last if ($left = not_removable()) == 0; }
	is($left, '0', 'old row versions go');
	is($node->sql("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE query ~ '^CALL profile_stream.$name' AND locktype = 'relation'"
		  . ' AND relation::regclass::text ~ $$^profile_stream$$ AND mode <> $$AccessShareLock$$'), '0', 'nothing is locked');
	$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^CALL profile_stream.$name'");
	like(finish($session), qr/canceling statement due to user request/, 'it can be cancelled');
}

# each ends when the stream is there, and the next statement sees what it waited for
my $total = 'SELECT sum(version) FROM profile_stream.materialized_profiles';
my @sessions = map { start("CALL profile_stream.$_($arguments{$_})", $total) } sort keys %function;
ok(waits($_, 'backend_xmin IS NULL'), "$_() waits") foreach sort keys %function;
$node->sql("SELECT profile_stream.resume_stream('crm')");
like(finish($sessions[0]), qr/^1[12]0\n$/, 'the offset of one partition is reached');
is(finish($sessions[1]), "120\n", 'all events are visible');

# a broker that takes connections and does not answer
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "cannot listen: $!";
$node->sql("SELECT profile_stream.create_stream('silent', bootstrap_servers => '127.0.0.1:" . $silent->sockport . "', topic => 'events')");
my $session = start("CALL profile_stream.await_stream('silent', '5 min')");
ok(waits('await_stream', 'backend_xmin IS NULL'), 'it waits for a broker without a snapshot');
$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^CALL profile_stream.await_stream'");
like(finish($session), qr/canceling statement due to user request/, 'it can be cancelled');
$node->sql("SELECT profile_stream.drop_stream('silent')");

# an address where nobody listens
my $port = PostgreSQL::Test::Cluster::get_free_port();
$node->sql("SELECT profile_stream.create_stream('away', bootstrap_servers => '127.0.0.1:$port', topic => 'events')");
$node->fails_like("CALL profile_stream.await_stream('away', '100 ms')", qr/did not answer in time|could not reach the broker/, 'or says that there is no answer');
$node->fails_like("CALL profile_stream.await_stream('away', '1 h')", qr/could not reach the broker: .*Connection refused/, 'and why, without waiting on, when all brokers refuse the connection');
$node->sql("SELECT profile_stream.drop_stream('away')");

# rights
$node->sql('CREATE ROLE reader LOGIN IN ROLE profile_stream_reader; CREATE ROLE operator LOGIN IN ROLE profile_stream_operator');
is($node->sql("SET ROLE reader; CALL profile_stream.await_offset('crm', 0, 59)"), '', 'readers wait for an offset');
$node->fails_like("SET ROLE reader; CALL profile_stream.await_stream('crm')", qr/permission denied for procedure/, 'but not for a stream');
$node->fails_like("SET ROLE operator; CALL profile_stream.await_stream('crm')", qr/must be owner of stream/, 'for which one must own it');

# our processes hold none either while they wait for work
ok($node->poll_query_until('postgres', "SELECT count(*) FILTER (WHERE backend_type = 'profile_stream worker') > 0 AND bool_and(backend_xmin IS NULL AND xact_start IS NULL)"
	  . " FROM pg_stat_activity WHERE backend_type ~ '^profile_stream'"), 'processes at rest have no snapshot');

# on a standby
$node->backup('copy');
my $standby = ProfileStream::Node->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$broker->produce('events', events(\$number, 20, customers => 10, partitions => 2));
is($standby->sql((map { "CALL profile_stream.await_offset('crm', $_, 69)" } 0, 1), $total), '140', 'a standby has the messages up to an offset');
$standby->fails_like("CALL profile_stream.await_offset('crm', 0, 70, '100 ms')", qr/did not reach offset \d+ of partition 0 in time/, 'or says that it does not have it yet');
$standby->stop('fast');

$node->is_clean('the end');
$node->stop('fast');
$broker->stop;
done_testing();
