# Handlers that catch their cancellation, drop the locks of their worker, or write what the worker is writing. Each costs
# its event and at most one restart of the worker, never the stream.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 1 ], [ 'slow', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "profile_stream.handler_timeout = '200ms'\nprofile_stream.worker_restart_limit = 1\n");
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'";

sub is_row { my ($sql, $expected, $name) = @_; is($node->sql($sql), $expected, $name); }

# A row with an event of a type, whose handler does what it says.
sub row
{
	my ($id, $type, $does) = @_;
	return [ 0, $id, event($id, $id, type => $type, payload => qq({"do":"$does"})) ];
}

$node->sql(<<'END');
CREATE FUNCTION caught() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
	END LOOP;
END $$;
CREATE FUNCTION act(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE event #>> '{payload,do}'
		WHEN 'catch' THEN PERFORM public.caught();
		WHEN 'unlock' THEN PERFORM pg_advisory_unlock_all();
		WHEN 'unlock and catch' THEN
			BEGIN PERFORM pg_advisory_unlock_all(); EXCEPTION WHEN OTHERS THEN NULL; END;
		WHEN 'lock' THEN PERFORM pg_advisory_lock(1);
		WHEN 'write' THEN UPDATE profile_stream.materialized_profiles SET phone = 'x';
		WHEN 'forget' THEN PERFORM profile_stream.forget_customer(event ->> 'customerId');
		WHEN 'offsets' THEN UPDATE profile_stream_internal.stream_offsets SET next_offset = 0;
		WHEN 'loop' THEN LOOP NULL; END LOOP;
		ELSE NULL;
	END CASE;
	RETURN '{"attributes": {"done": true}}';
END $$;
SELECT profile_stream.register_handler('act', 'act(jsonb,jsonb)');
END

# each between events that go well; catch comes three times, more often than a worker may come to nothing
my @acts = ('catch', 'unlock', 'unlock and catch', 'lock', 'catch', 'write', 'forget', 'offsets', 'catch');
my $n = 0;
$broker->produce('events', map { my $does = $_; $n++; (row("ok$n", 'act', 'ok'), row("act$n", 'act', $does)) } @acts);
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 2 * @acts), 'all are taken');
is_row('SELECT applied, dead, state FROM profile_stream.stat_streams', '10|8|running', 'and the stream runs');
is_row("SELECT event_id, errors[1] FROM profile_stream.dead_letters ORDER BY dead_letter_id",
	join("\n", map {
			my ($i, $message) = @$_;
			"act$i|Processing error: handler public.act(jsonb,jsonb)$message"
		  } [ 1, ' took longer than profile_stream.handler_timeout, and did not end when it was cancelled' ],
		[ 2, ': pg_advisory_unlock_all() cannot be called by code that profile_stream calls' ],
		[ 4, ': pg_advisory_lock() cannot be called by code that profile_stream calls' ],
		[ 5, ' took longer than profile_stream.handler_timeout, and did not end when it was cancelled' ],
		[ 6, ': table profile_stream.materialized_profiles cannot be written or locked by code that profile_stream calls' ],
		[ 7, ': table profile_stream_internal.event_id_chunks cannot be written or locked by code that profile_stream calls' ],
		[ 8, ': table profile_stream_internal.stream_offsets cannot be written or locked by code that profile_stream calls' ],
		[ 9, ' took longer than profile_stream.handler_timeout, and did not end when it was cancelled' ]),
	'what was refused or ended is named');
my @ended = slurp_file($node->logfile) =~ /LOG:  worker 0 of stream "crm" ends: handler public.act/g;
is(scalar @ended, 3, 'each caught end costs one restart, which the log explains');
is_row('SELECT profile_stream.start_streams()', '0', 'the worker has its leases');
is_row($workers, '1', 'and is the only one');

# a batch whose events all loop: the stream says so, and can be paused long before it is through
$node->sql("ALTER SYSTEM SET profile_stream.handler_timeout = '1s'; SELECT pg_reload_conf()");
$broker->produce('slow', map { row("slow$_", 'act', 'loop') } 1 .. 500);
$node->create_stream('slow', $broker, 'slow', dead_letter_pause_ratio => 1);
ok( $node->poll_query_until('postgres', "SELECT state = 'running' AND error ~ 'take too long' AND hint ~ 'unregister_handler' AND dead > 0"
		  . " FROM profile_stream.stat_streams WHERE stream = 'slow'"),
	'a stream of events that loop says so, and comes forward');
$node->sql("SELECT profile_stream.pause_stream('slow')");
ok($node->poll_query_until('postgres', "$workers", '1'), 'and can be paused');
ok($node->sql("SELECT dead FROM profile_stream.stat_streams WHERE stream = 'slow'") < 400, 'long before its end');
$node->sql("SELECT profile_stream.drop_stream('slow')");

# a session ends as well, and the scorer: what ends it comes last the next time
$node->sql("ALTER SYSTEM SET profile_stream.handler_timeout = '200ms'; ALTER SYSTEM SET profile_stream.segment_timeout = '200ms'; SELECT pg_reload_conf()");
my ($rc, $out, $err) = $node->psql('postgres', q(SELECT profile_stream.test_handler('act', '{"payload": {"do": "catch"}}')));
like($err, qr/FATAL/, 'a session whose call catches its end ends');
$node->sql(<<'END');
CREATE FUNCTION score(profile jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM public.caught(); RETURN '{}'; END $$;
SELECT profile_stream.set_score_function('score(jsonb)');
SELECT profile_stream.create_segment('a catches', 'public.caught()');
SELECT profile_stream.create_segment('b works', 'true');
ALTER SYSTEM SET profile_stream.score_interval = '1s';
SELECT pg_reload_conf();
END
ok( $node->poll_query_until('postgres', "SELECT string_agg(name || ' ' || (error IS NOT NULL), ', ' ORDER BY name) = 'a catches true, b works false'"
		  . ' AND bool_or(refreshed_at IS NOT NULL) FROM profile_stream_internal.segments'),
	'neither the score function nor a predicate keeps the other segments out');
ok($node->poll_query_until('postgres', "SELECT state = 'failed' AND error ~ 'did not end' FROM profile_stream.stat_score_refresh"), 'both say what happened');
$node->sql("SELECT profile_stream.drop_stream('crm')");
$node->stop;
done_testing();
