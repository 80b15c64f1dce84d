# Retention has removed the stored offset, or the topic was created again. By its on_offset_lost the stream stops and says
# so, or jumps and records the gap.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'stops', 1 ], [ 'jumps', 1 ], [ 'slow', 1 ], [ 'again', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

foreach my $case ([ 'stops', 'stop' ], [ 'jumps', 'earliest' ])
{
	my ($name, $action) = @$case;

	$broker->produce($name, events(0, 100, customer => 'c'));
	$node->create_stream($name, $broker, $name, on_offset_lost => "'$action'");
	ok($node->wait_taken($name, 100), "$name: runs");
	$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('$name')");
	ok($node->wait_worker(0), "$name: paused");
	$broker->produce($name, events(100, 100, customer => 'c'));
	$broker->delete_records($name, 0, 150);
	$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('$name')");

	if ($action eq 'stop')
	{
		ok($node->poll_query_until('postgres', "SELECT state = 'offset_lost' FROM profile_stream_internal.stream_offsets"),
			'stops: the partition says that its offset is lost');
		is($node->taken($name), '100', 'stops: nothing was skipped');
		is($node->safe_psql('postgres', 'SELECT next_offset FROM profile_stream_internal.stream_offsets'), '100',
			'stops: the offset stays');
		$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('$name')");
		ok($node->wait_worker(0), 'stops: dropped');
		$node->forget_event_ids;
	}
	else
	{
		ok($node->wait_taken($name, 150), 'jumps: goes on at the earliest record');
		is($node->safe_psql('postgres', 'SELECT partition, from_offset, to_offset FROM profile_stream_internal.stream_gaps'),
			'0|100|150', 'jumps: the gap is a row');
	}
}

# Retention passes a worker that runs, but slowly: what it had fetched is applied, and not a message is jumped silently.
my $padding = 'x' x 500_000;
my $big = 160;
my $low = 150;
$node->create_stream('slow', $broker, 'slow', group_id => "'slow'");
ok($node->wait_state('slow', 'running'), 'slow: runs');
my $pid = $node->stream_pid('slow');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE profile_stream_internal.event_id_chunks');
$broker->produce('slow', map {
		[ 0, 's', qq({"eventId":"s$_","customerId":"s","eventType":"seen","timestamp":"2026-01-01T00:00:00Z","payload":{"padding":"$padding"}}) ]
	} 0 .. $big - 1);
ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'slow: the worker waits');
$broker->delete_records('slow', 0, $low);
$session->query_safe('COMMIT');
$session->quit;
my $row = "FROM profile_stream.stat_partitions WHERE stream = 'slow'";
ok($node->poll_query_until('postgres', "SELECT state = 'offset_lost' $row"), 'slow: the partition says that its offset is lost');
my ($next, $consumed, $error) = split(/\|/, $node->safe_psql('postgres', "SELECT next_offset, consumed, error $row"));
note("slow: fetched $next messages");
cmp_ok($next, '<', $low, 'slow: where retention passed it');
is($consumed, $next, 'slow: nothing was skipped');
is($error, "offset $next is not in the topic, which has $low to $big", 'slow: it says which offset');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('slow', on_offset_lost => 'earliest')");
ok($node->poll_query_until('postgres', "SELECT next_offset = $big $row"), 'slow: goes on when it is told to');
is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 's'"), $next + $big - $low,
	'slow: each event that was left, once');
is($node->safe_psql('postgres', "SELECT from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps JOIN profile_stream.streams USING (stream_id) WHERE name = 'slow'"),
	"$next|$low|offset_lost", 'slow: the gap is a row');
is($node->safe_psql('postgres', "SELECT string_agg(from_state || '>' || to_state, ' ' ORDER BY log_id) FROM profile_stream.stream_log WHERE what = 'partition' AND stream = 'slow'"),
	'running>offset_lost offset_lost>running', 'slow: and both are rows of stream_log');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('slow')");
$node->forget_event_ids;

# A topic that was created anew: offsets count from 0 again, and mean other messages.
$broker->produce('again', [ 0, 'c', 'the first bad one' ], events(1000, 50, customer => 'c'));
$node->create_stream('again', $broker, 'again', on_offset_lost => "'earliest'");
ok($node->wait_taken('again', 51), 'again: runs');
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('again')");
ok($node->wait_stopped('again'), 'again: paused');
$broker->delete_topic('again');
$broker->create_topic('again', 1);
$broker->produce('again', [ 0, 'c', 'the second bad one' ], events(1050, 10, customer => 'c'));
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('again')");
ok($node->wait_taken('again', 62), 'again: reads the new topic from its start');
is($node->safe_psql('postgres', "SELECT epoch, kafka_offset, encode(value, 'escape') FROM profile_stream.dead_letters WHERE stream = 'again' ORDER BY 1"),
	"0|0|the first bad one\n1|0|the second bad one", 'again: both dead letters of offset 0 are kept');
is($node->safe_psql('postgres', "SELECT epoch, next_offset, applied, dead FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = 'again'"),
	'1|11|60|2', 'again: the next epoch');
is($node->safe_psql('postgres', "SELECT from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps WHERE reason <> 'offset_lost'"),
	'51|0|topic_recreated', 'again: recorded');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
