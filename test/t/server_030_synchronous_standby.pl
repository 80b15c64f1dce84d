# A batch hangs at its commit because a synchronous standby is missing. The state says so, and the lag grows with what is
# produced. A change of the stream, its end or a stop of the server does not wait.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'hang', 2 ] ]);
my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 1 }, conf => "profile_stream.synchronous_commit = on\nsynchronous_commit = local\n");
my $produced = 0;
my $synchronous = 'SET synchronous_commit = on';

sub produce
{
	my ($n) = @_;
	$broker->produce('hang', map {
			[ $_ % 2, "c$_", sprintf('{"eventId":"%d","customerId":"c%d","eventType":"x","timestamp":"2026-01-01T00:00:00Z"}', ++$produced, $_) ]
	} 1 .. $n);
}

sub shows
{
	my ($condition, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT $condition FROM profile_stream.stat_streams"), $name)
	  or diag($node->sql('SELECT * FROM profile_stream.stat_streams', 'SELECT pid, wait_event, state, query FROM pg_stat_activity'));
}

sub set_standby
{
	my ($name) = @_;
	$node->sql("ALTER SYSTEM SET synchronous_standby_names = '$name'");
	$node->reload;
	$node->sql('CHECKPOINT');    # the checkpointer has read it before, and tells the others
}

# The standby is gone, and a batch hangs.
sub hangs
{
	my ($name) = @_;
	set_standby('gone');
	produce(10);
	shows("state = 'waiting' AND error ~ 'waits for a synchronous standby, since 20' AND hint IS NOT NULL AND worker_pid IS NOT NULL",
		"$name: the state says what the batch waits for");
}

# It is back, and everything is applied.
sub is_whole
{
	my ($name) = @_;
	set_standby('');
	shows("state = 'running' AND error IS NULL AND lag = 0 AND applied = $produced AND duplicates = 0", "$name: everything is applied, once");
	$node->is_balanced('hang', $name);
}

$node->create_stream('hang', $broker, 'hang');
produce(10);
is_whole('at first');

# what is seen by a reader while it hangs
hangs('seen');
my $committed = $node->sql('SELECT committed_at FROM profile_stream.stat_streams');
produce(1000);
shows('lag >= 1000', 'seen: the lag grows');
produce(1000);
shows('lag >= 2000', 'seen: and goes on');
is($node->sql("SET ROLE profile_stream_reader; SELECT state, committed_at = '$committed', error ~ 'synchronous standby', lag >= 2000 FROM profile_stream.stat_streams"),
	'waiting|t|t|t', 'seen: by readers as well, with when it came on last');
is($node->sql('SET ROLE profile_stream_reader; SELECT sum(lag) >= 2000, sum(end_offset) >= 2020 FROM profile_stream.stat_partitions'), 't|t', 'seen: in each partition');
is_whole('seen');

# paused, by a session that waits for standbys itself
hangs('paused');
$node->sql($synchronous, "SELECT profile_stream.pause_stream('hang')");
ok($node->wait_state('hang', 'paused'), 'paused: it is');
my $applied = $node->sql('SELECT applied FROM profile_stream.stat_streams');
produce(10);
is($node->sql('SELECT applied, worker_pid FROM profile_stream.stat_streams'), "$applied|", 'paused: nobody applies anything');
set_standby('');
$node->sql("SELECT profile_stream.resume_stream('hang')");
is_whole('resumed');

# altered
hangs('altered');
$node->sql($synchronous, "SELECT profile_stream.alter_stream('hang', batch_size => 100)");
is($node->sql("SELECT batch_size FROM profile_stream.streams"), '100', 'altered: it is');
is_whole('altered');

# its worker ended, and the server stopped
hangs('ended');
my $pid = $node->stream_pid('hang');
$node->sql("SELECT pg_terminate_backend($pid)");
ok($node->wait_stream_pid('hang', $pid), 'ended: another worker comes');
is_whole('ended');
hangs('stopped');
$node->stop('fast');
$node->start;
is_whole('stopped');

# dropped
hangs('dropped');
$node->sql($synchronous, "SELECT profile_stream.drop_stream('hang')");
is($node->sql('SELECT count(*) FROM profile_stream.stat_streams'), '0', 'dropped: it is');
ok($node->wait_worker(0), 'dropped: no worker is left');
set_standby('');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
