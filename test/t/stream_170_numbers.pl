# The numbers of the monitoring views: rates, how long messages wait, latencies, sizes and times of batches, memory, errors,
# retries and restarts. They are true while events flow, while a customer is locked, while the broker is away, while a
# stream is paused, after a restart and on a standby: what nobody knows is NULL.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use ProfileStream::Redis;
use Test::More;

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 2 ], [ 'quiet', 1 ], [ 'old', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 1 });
my $redis = ProfileStream::Redis->new;

# A number of a stream, or a condition.
sub number
{
	my ($what) = @_;
	return $node->sql("SELECT $what FROM profile_stream.stat_streams WHERE stream = 'crm'");
}

# Waits until a condition holds for the stream crm.
sub comes
{
	my ($condition, $what) = @_;
	return ok($node->poll_query_until('postgres', "SELECT coalesce($condition, false) FROM profile_stream.stat_streams WHERE stream = 'crm'"), $what)
	  || diag($node->sql("SELECT to_jsonb(s) FROM profile_stream.stat_streams s WHERE stream = 'crm'"));
}

$node->create_stream('crm', $broker, 'events', workers => 2, redis => "'" . $redis->address . "'");
$node->create_stream('calm', $broker, 'quiet');
ok($node->is_balanced('crm', 1, 1), 'each worker reads a partition');
comes('lag_seconds = 0 AND messages_per_second = 0 AND applied_per_second = 0 AND latency_p50 IS NULL AND batch_size_max IS NULL',
	'before the first message nothing waits and nothing is read');

# events flow
$broker->produce('events', events(1, 200, partitions => 2), map { [ 0, 'x', $_ ] } 'no event', '{"eventId": "e"}');
ok($node->wait_taken('crm', 202), 'events and dead letters');
comes('lag_seconds = 0', 'nothing waits');
is(number('messages_per_second > 0 AND applied_per_second BETWEEN 0.1 AND messages_per_second'), 't', 'rates');
is(number("dead_last_minute"), '{"late": 0, "handler": 0, "invalid": 1, "malformed": 1}', 'dead letters by kind');
is(number('latency_p50 > 0 AND latency_p50 <= latency_p95 AND latency_p95 <= latency_p99 AND latency_p99 < 60'), 't', 'latencies');
is(number('batch_size_max BETWEEN batch_size_avg AND 202 AND batch_time_max >= batch_time_avg AND batch_time_avg > 0'), 't', 'batches');
is(number('memory_bytes BETWEEN 1000000 AND 1000000000'), 't', 'memory');
is(number('errors + retries + restarts'), 0, 'no error yet');
is($node->sql("SELECT count(*) FROM profile_stream.stat_partitions WHERE stream = 'crm' AND lag_seconds = 0 AND messages_per_second > 0"), 2, 'of each partition');
is($node->sql("SELECT string_agg(does || ' ' || coalesce(worker, -1), ', ' ORDER BY does, worker) FROM profile_stream.stat_workers WHERE stream = 'crm' AND done_per_second > 0 AND memory_bytes > 0"),
	'redis -1, worker 0, worker 1', 'and of each process');
ok($node->wait_sink('crm', 'backlog = 0 AND lag_seconds = 0 AND delivered > 0 AND delivered_per_second > 0 AND batch_size_max > 0'
		. ' AND latency_p50 > 0 AND latency_p50 <= latency_p99 AND batch_time_max > 0 AND memory_bytes > 0 AND errors = 0', 'redis'), 'and of the sink');
is($node->sql("SELECT string_agg(application_name, ', ' ORDER BY application_name) FROM pg_stat_activity WHERE backend_type LIKE 'profile_stream%' AND query <> ''"),
	'profile_stream launcher, profile_stream redis: crm, profile_stream: calm, profile_stream: crm, profile_stream: crm', 'processes are named, and say what they do');
my $names = $node->sql("SELECT DISTINCT wait_event FROM pg_stat_activity WHERE backend_type = 'profile_stream worker' AND wait_event_type = 'Extension'");
like($names, $node->pg_version >= 17 ? qr/^ProfileStreamMessages$/ : qr/^Extension$/, 'and what they wait for');

# a customer is locked after a quiet time: the message waits since it came, and not since the one before it
my $quiet = $node->sql("SELECT clock_timestamp() - last_message_at FROM profile_stream.stat_streams WHERE stream = 'crm'");
my $locker = $node->background_psql('postgres');
$locker->query_safe("BEGIN; SELECT profile_stream.lock_customer('late-1')");
my $before = $node->sql('SELECT clock_timestamp()');
$broker->produce('events', [ 0, 'late-1', '{"eventId":"l1","customerId":"late-1","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}' ]);
my $after = $node->sql('SELECT clock_timestamp()');
comes("lag = 1 AND lag_seconds > 2 AND lag_seconds <= extract(epoch FROM clock_timestamp() - '$before'::timestamptz) + 1", 'a message that waits says how long, within a second');
is(number("lag_seconds >= extract(epoch FROM clock_timestamp() - '$after'::timestamptz) - 1"), 't', 'and no less');
comes('errors + retries = 0', 'others go on: that is no error');
$locker->query_safe('COMMIT');
$locker->quit;
comes('lag = 0 AND lag_seconds = 0', 'it is applied');

# a new stream, of which the first message is an hour old
{
	local $ENV{PRODUCE_TIMESTAMP} = (time() - 3600) * 1000;
	$broker->produce('old', [ 0, 'o', '{"eventId":"o1","customerId":"late-1","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}' ]);
}
my $from = -s $node->logfile;
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer('late-1')");
$node->create_stream('past', $broker, 'old');
ok($node->poll_query_until('postgres', "SELECT lag_seconds BETWEEN 3590 AND 3700 FROM profile_stream.stat_streams WHERE stream = 'past'"), 'a message that was produced an hour ago has waited for an hour');
$holder->query_safe('COMMIT');
$holder->quit;
ok($node->poll_query_until('postgres', "SELECT lag_seconds = 0 AND latency_p50 > 3590 FROM profile_stream.stat_streams WHERE stream = 'past'"), 'and has taken so long');
ok($node->wait_for_log(qr/LOG:  stream "past" has caught up: worker 0 has applied everything, after /, $from), 'the log says that it has caught up');

# what somebody did
$from = -s $node->logfile;
$node->sql("SELECT profile_stream.alter_stream('past', batch_size => 77, options => '{}')");
$node->sql("SELECT profile_stream.pause_stream('past')");
ok($node->wait_stopped('past'), 'paused');
$node->sql("SELECT profile_stream.seek_stream('past', 'latest')");
$node->sql("SELECT profile_stream.drop_stream('past')");
is($node->sql("SELECT string_agg(concat_ws(' ', to_state, reason), ', ' ORDER BY log_id) FROM profile_stream.stream_log WHERE stream = 'past' AND to_state IN ('created', 'altered', 'paused', 'moved', 'dropped')"),
	'created by role "postgres", altered by role "postgres": batch_size, options, paused by role "postgres", moved by role "postgres": to latest, dropped by role "postgres"', 'stream_log has what somebody did, and no value');
ok($node->wait_for_log(qr/LOG:  stream "past" is \Q$_\E\n/, $from), "the server's log too: $_") foreach 'altered by role "postgres": batch_size, options', 'paused by role "postgres"', 'moved by role "postgres": to latest', 'dropped by role "postgres"';
$node->sql("SELECT profile_stream.rebuild('crm')");
$node->sql("SELECT profile_stream.pause_rebuild('crm')", "SELECT profile_stream.resume_rebuild('crm')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(state = 'ready') FROM profile_stream.stat_rebuilds"), 'a rebuild');
is($node->sql("SELECT count(*) FROM profile_stream.stat_workers WHERE does = 'rebuild' AND memory_bytes > 0"), 2, 'whose processes are measured, too');
$node->sql("SELECT profile_stream.swap_rebuild('crm')");
$node->sql("SELECT profile_stream.rebuild('crm')");
$node->sql("SELECT profile_stream.cancel_rebuild('crm')");
is($node->sql("SELECT string_agg(to_state, ' ' ORDER BY log_id) FROM profile_stream.stream_log WHERE stream = 'crm' AND what = 'rebuild' AND reason LIKE 'by role%'"),
	'started paused resumed swapped started cancelled', 'and what was done to rebuilds');
ok($node->wait_for_log(qr/LOG:  rebuild of stream "crm" is $_ by role "postgres"\n/, $from), "and the server's log: $_") foreach qw(started paused resumed swapped cancelled);
like($node->sql("SELECT string_agg(to_state, ' ') FROM profile_stream.stream_log WHERE stream = 'crm' AND what = 'rebuild'"), qr/ready/, 'and that it was ready');
comes('lag = 0 AND lag_seconds = 0', 'the stream goes on');
$from = -s $node->logfile;
$node->sql("SELECT profile_stream.forget_customer('late-1')");
ok($node->wait_for_log(qr/LOG:  role "postgres" forgets a customer: 1 profiles and 0 dead letters are removed/, $from), 'the log says that a customer is forgotten');
unlike(slurp_file($node->logfile, $from), qr/(STATEMENT|CONTEXT):.*late-1/, 'and not which: nor do the lines with it');

# a worker that ends is started again
$node->sql("SELECT pg_terminate_backend(pid) FROM profile_stream.stat_workers WHERE stream = 'crm' AND worker = 1");
comes('restarts = 1 AND workers = 2', 'a worker that ended was restarted');
my $relay = $node->sql("SELECT relay_pid FROM profile_stream.stat_sinks");
$node->sql("SELECT pg_terminate_backend($relay)");
ok($node->wait_sink('crm', "restarts = 1 AND relay_pid <> $relay", 'redis'), 'and so does a relay');

# a sink that does not deliver
$redis->kill9;
$broker->produce('events', events(201, 10, partitions => 2));
ok($node->wait_taken('crm', 213), 'more events, without Redis');
ok($node->wait_sink('crm', "errors >= 1 AND retries >= 2 AND backlog > 0 AND lag_seconds > 1 AND state = 'retrying'", 'redis'), 'a sink counts its errors and attempts, and how long changes wait');
$redis->restart;
ok($node->wait_sink('crm', "backlog = 0 AND lag_seconds = 0 AND latency_p99 > 1", 'redis'), 'after that, latencies tell of it');

# who resets
$node->sql('CREATE ROLE stranger', 'GRANT profile_stream_operator TO stranger');
$node->fails_like("SET ROLE stranger; SELECT profile_stream.stat_reset('crm')", qr/must be owner|permission denied|belongs to/, 'only the owner may reset');
is(number('restarts'), 1, 'nothing was reset');
my $reset = number('stats_reset');
$node->sql("SELECT profile_stream.stat_reset('crm')");
is(number("errors + retries + restarts || ' ' || applied || ' ' || (stats_reset > '$reset')"), '0 211 true', 'counters begin anew, but for messages');
is($node->sql("SELECT delivered + refused + errors + retries + restarts = 0 AND stats_reset > '$reset' FROM profile_stream.stat_sinks"), 't', 'and those of the sink');
is($node->sql("SELECT sum(difference) FROM profile_stream.reconcile('crm')"), 0, 'and messages add up');

# a standby runs nothing
$node->backup('b');
my $standby = ProfileStream::Node->new('standby');
$standby->{expected_signals} = 0;
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
is($standby->sql("SELECT count(*), bool_or((messages_per_second, applied_per_second, latency_p50, lag_seconds, batch_size_avg, memory_bytes) IS DISTINCT FROM (NULL, NULL, NULL, NULL, NULL, NULL)) FROM profile_stream.stat_streams"),
	'2|f', 'a standby knows none of it');
is($standby->sql('SELECT count(*) FROM profile_stream.stat_workers'), 0, 'and has no process');
$standby->stop;

# the broker is away
$broker->stop;
comes("errors >= 1 AND retries >= 2 AND lag = 0 AND lag_seconds IS NULL AND state = 'retrying'", 'a broker that is away: nobody knows whether something waits');
$broker->start;
comes("state = 'running' AND lag_seconds = 0 AND errors >= 1", 'it is back');

# a paused stream
$node->sql("SELECT profile_stream.pause_stream('crm')");
ok($node->wait_stopped('crm'), 'paused');
is(number('(messages_per_second, applied_per_second, latency_p50, lag_seconds, batch_size_avg, memory_bytes, dead_last_minute) IS NOT DISTINCT FROM (NULL, NULL, NULL, NULL, NULL, NULL, NULL)'),
	't', 'it measures nothing');
is($node->sql("SELECT count(*) FROM profile_stream.stat_partitions WHERE stream = 'crm' AND (messages_per_second IS NOT NULL OR lag_seconds IS NOT NULL)"), 0, 'nor do its partitions');
$node->sql("SELECT profile_stream.resume_stream('crm')");
$node->restart;
comes('workers = 2 AND lag_seconds = 0', 'after a restart of the server it measures again');
is(number('restarts'), 0, 'and was not restarted: the server was');
done_testing();
