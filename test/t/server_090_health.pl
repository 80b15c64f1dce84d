# health() tells of a stream that runs and does not come on: a worker or a relay that hangs, processes that end again and
# again, a customer that waits. What happened a moment ago is no problem yet: so the times of what hangs are set back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 1 ], [ 'updates', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "shared_preload_libraries = 'profile_stream'");
my $n = 1;

# What health() says of a subject, with the minutes since when.
sub says
{
	my ($subject, $columns) = @_;
	$columns //= "status, problem, date_trunc('minute', now() - since)";
	return $node->sql("SELECT $columns FROM profile_stream.health() WHERE subject = '$subject'");
}

sub freeze { kill('STOP', $_[0]) or die 'could not freeze a process'; }
sub thaw { kill('CONT', $_[0]) or die 'could not thaw a process'; }

$node->create_stream('crm', $broker, 'events', changelog_topic => "'updates'");
$broker->produce('events', events(\$n, 10));
ok($node->wait_taken('crm', 10), 'the stream runs');
ok($node->wait_sink('crm', "backlog = 0 AND delivered = 10"), 'and its sink');
is($node->sql("SELECT string_agg(subject, ',') FROM profile_stream.health() WHERE subject NOT IN ('librdkafka', 'profile_stream')"), '', 'nothing is wrong with them');

# a relay that hangs
my $relay = $node->sql('SELECT relay_pid FROM profile_stream.stat_sinks');
freeze($relay);
$broker->produce('events', events(\$n, 2));
ok($node->wait_taken('crm', 12), 'a relay hangs: the stream goes on');
is(says('sink "changelog" of stream "crm"'), '', 'a relay hangs: for a moment nothing is said');
$node->sql("UPDATE profile_stream_internal.outbox SET changed_at = now() - interval '2 minutes 10 seconds'");
is(says('sink "changelog" of stream "crm"'), '', 'a relay hangs: nor while it has just delivered');
$node->sql("UPDATE profile_stream_internal.sink_status SET delivered_at = now() - interval '3 minutes'");
is(says('sink "changelog" of stream "crm"'), 'error|has 2 to deliver, and delivers none|00:02:00', 'a relay hangs: since the oldest change');
like(says('sink "changelog" of stream "crm"', 'action'), qr/pg_terminate_backend/, 'a relay hangs: what to do');
$node->sql("UPDATE profile_stream_internal.sink_status SET delivered_at = now();
	UPDATE profile_stream_internal.outbox SET changed_at = now() - interval '6 minutes 10 seconds'");
is(says('sink "changelog" of stream "crm"'), 'warning|is behind: 2 wait|00:06:00', 'a sink that is slow is behind');
thaw($relay);
ok($node->wait_sink('crm', "backlog = 0 AND delivered = 12"), 'the relay goes on');
is(says('sink "changelog" of stream "crm"'), '', 'and health() is silent');

# a worker that hangs
my $worker = $node->stream_pid('crm');
freeze($worker);
my $offsets = 'UPDATE profile_stream_internal.stream_offsets SET end_offset = next_offset + 5';
$node->sql("$offsets, committed_at = now() - interval '10 minutes', last_message_at = now() - interval '30 seconds'");
is(says('stream "crm"'), '', 'a worker hangs: what has come just now may wait, however idle the stream was');
$node->sql("$offsets, committed_at = now() - interval '10 minutes 10 seconds', last_message_at = now() - interval '11 minutes'");
# the worker has reported that it saw the end of the partition, so the message waits since then
ok($node->poll_query_until('postgres', q{SELECT lag_seconds > 60 FROM profile_stream.stat_streams}), 'a worker hangs for a minute');
is(says('stream "crm"', "status, problem, now() - since > interval '10 minutes'"), 'error|has 5 messages to read, and applies none|t', 'a worker hangs');
$node->sql("$offsets, committed_at = now(), last_message_at = now() - interval '7 minutes 10 seconds'");
is(says('stream "crm"'), 'warning|is behind: 5 messages to read|00:07:00', 'a worker that is slow is behind');
$node->sql("$offsets - 5, committed_at = now()");
$node->sql("UPDATE profile_stream_internal.stream_status SET error = 'customer c1 is locked', error_at = now() - interval '30 seconds'");
is(says('stream "crm"'), '', 'a customer that waits for seconds is no problem');
$node->sql("UPDATE profile_stream_internal.stream_status SET error_at = now() - interval '4 minutes 10 seconds'");
is(says('stream "crm"'), 'warning|runs, but something of it does not go on|00:04:00', 'one that waits for minutes is');
$node->sql('UPDATE profile_stream_internal.stream_status SET error = NULL, error_at = NULL');
thaw($worker);

# processes that end again and again
foreach my $time (1 .. 3)
{
	is(says('processes of stream "crm"'), '', 'restart ' . ($time - 1) . ': nothing is said');
	$worker = $node->stream_pid('crm');
	$node->sql("SELECT pg_terminate_backend($worker)");
	ok($node->poll_query_until('postgres', "SELECT restarts = $time FROM profile_stream.stat_streams"), "restart $time");
}
is(says('processes of stream "crm"'), 'warning|3 restarts, less than ten minutes apart|00:00:00', 'three in a row are told');
$node->sql("UPDATE profile_stream_internal.process_counters SET restarted_at = now() - interval '11 minutes'");
is(says('processes of stream "crm"'), '', 'until ten minutes are over');
$worker = $node->stream_pid('crm');
$node->sql("SELECT pg_terminate_backend($worker)");
ok($node->poll_query_until('postgres', 'SELECT restarts = 4 FROM profile_stream.stat_streams'), 'another one, long after');
is($node->sql("SELECT restarts_in_row FROM profile_stream_internal.process_counters WHERE process = 'worker 0'"), '1', 'is the first of a row');
is(says('processes of stream "crm"'), '', 'and not told');
$node->sql("SELECT profile_stream.pause_stream('crm')");
ok($node->wait_stopped('crm'), 'paused');
$node->sql("SELECT profile_stream.resume_stream('crm')");
ok($node->wait_state('crm', 'running'), 'and resumed');
is($node->sql("SELECT restarts FROM profile_stream_internal.process_counters WHERE process = 'worker 0'"), '4', 'is no restart');

# room on the disk is measured, for storage_days_left() and health()
is($node->sql("SELECT count(*), bool_and(bytes > 0) FROM profile_stream_internal.storage_samples WHERE schema = 'file system' AND \"table\" = 'data'"), '1|t', 'the first worker measures the disk');

$broker->produce('events', events(\$n, 3));
ok($node->wait_taken('crm', 15), 'the stream goes on');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
