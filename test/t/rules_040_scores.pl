# Scores and segments beside a running stream. No change is lost and nobody waits. Only one refresh runs at a time, and a
# cancelled one is continued. Also: busy customers, the process of score_interval, notifications, what sinks get, and counts of days.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $events = ProfileStream::Node::generate(seed => $ENV{PS_SEED} // 20260101, events => 30_000, customers => 600, parts => 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'changelog', 4 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "profile_stream.handler_timeout = '10min'");    # the score function waits for a lock here
my $redis = ProfileStream::Redis->new;
my $topic = ProfileStream::Topic->new($broker, 'changelog');
my $profiles = 'profile_stream.materialized_profiles';
my $produced = $events->{events};
my $begin = $node->safe_psql('postgres', 'SELECT now()');

sub progress { return $node->sql("SELECT $_[0] FROM profile_stream.stat_score_refresh"); }

sub set
{
	my ($name, $value) = @_;
	$node->sql("ALTER SYSTEM SET profile_stream.$name = '$value'");
	$node->reload;
}

# A session that runs a statement until it is done or cancelled.
sub start
{
	my ($statement) = @_;
	my ($out, $err) = ('', '');
	my $session = { out => \$out, err => \$err };
	$session->{run} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres'), '-c', $statement ], '>', \$out, '2>', \$err);
	return $session;
}

sub finish
{
	my ($session) = @_;
	$session->{run}->finish;
	return ${ $session->{out} } . ${ $session->{err} };
}

# refreshes without end beside the second half of the events
$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('crm', $broker, 'events', batch_size => 50, redis => "'" . $redis->address . "'", changelog_topic => "'changelog'");
ok($node->wait_taken('crm', $events->{events} / 2), 'one half is applied');
$broker->produce_file('events', $events->{files}[1]);
my $refreshes = 0;
my ($changed, $skipped) = (0, 0);
# the first refresh gives each of them a segment, but for those that the stream is applying
my $unscored = $node->sql("SELECT count(*) FROM $profiles");
do
{
	# another moment each time, so that scores change
	$node->sql("CALL profile_stream.refresh_scores('0', batch => 50, as_of => now() + interval '" . 20 * ($refreshes % 6) . " days')");
	$refreshes++;
	$changed += progress('profiles_changed');
	$skipped += progress('profiles_skipped');
} until ($node->taken('crm') >= $events->{events});
note("$refreshes refreshes, $changed changes of scores, the longest lock " . progress('longest_lock'));
cmp_ok($changed + $skipped, '>=', $unscored, 'scores changed beside the stream');
is($node->stream_state('crm'), 'running', 'the stream runs');
$node->is_balanced('crm', 'refreshes beside a stream');
$node->sql("UPDATE $profiles SET segment = 'unknown'");
$node->equals_model('crm', $events, 'refreshes beside a stream');
$node->sql("CALL profile_stream.refresh_scores('0')");
is(progress('state, profiles_failed, profiles_skipped'), 'done|0|0', 'a refresh at rest skips nobody');
is(progress('profiles_done'), $node->sql("SELECT count(*) FROM $profiles"), 'it scores all');
is($node->sql("SELECT count(*) FROM $profiles p, profile_stream.default_scores(p, (SELECT started_at FROM profile_stream.stat_score_refresh)) d"
	  . " WHERE (p.segment, p.lifetime_value) IS DISTINCT FROM (d.segment, d.lifetime_value) AND abs(p.churn_risk_score - d.churn_risk_score) > 0.011"),
	'0', 'as the formulas say');

# sinks: a segment of its own for everybody, with the version that they have
$node->sql(<<'END');
CREATE FUNCTION scores(profile jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF profile ->> 'customerId' >= (SELECT customer_id FROM public.stop) THEN
		PERFORM pg_advisory_xact_lock_shared(42);
	END IF;
	RETURN jsonb_build_object('segment', 'version ' || (profile ->> 'version'));
END $$;
CREATE TABLE stop (customer_id text COLLATE "C");
SELECT profile_stream.set_score_function('public.scores(jsonb)');
END
ok($node->wait_sink('crm', 'backlog = 0', $_), "$_: the events are delivered") foreach 'redis', 'changelog';
my $versions = $node->sql("SELECT sum(version) FROM $profiles");
$node->sql("CALL profile_stream.refresh_scores('0')");
is($node->sql("SELECT count(*) FROM $profiles WHERE segment = 'version ' || version"), progress('profiles_done'), 'a function scores all');
is($node->sql("SELECT sum(version) FROM $profiles"), $versions, 'no version changes');
$redis->equals_profiles($node, 'crm', $begin, 'redis has the new segments');
$topic->equals_profiles($node, 'crm', $begin, 'so has the topic');

# a refresh that waits in the function, at a profile in the middle; it finds 192 at once
my ($middle) = $node->sql("SELECT customer_id FROM $profiles ORDER BY 1 OFFSET (SELECT count(*) / 2 FROM $profiles) LIMIT 1");
my $total = $node->sql("SELECT count(*) FROM $profiles");
$node->sql("INSERT INTO stop VALUES ('$middle')");
$node->sql("UPDATE $profiles SET scored_at = NULL");
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(42)');
my $waiting = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted";
my $first = start('CALL profile_stream.refresh_scores(batch => 6)');
ok($node->poll_query_until('postgres', $waiting), 'a refresh waits in its function');
# by now it may say that it waits
is(progress("state IN ('running', 'waiting'), pid IS NOT NULL, profiles_done BETWEEN 192 AND 350"), 't|t|t', 'it is running, and half done');
$node->fails_like("CALL profile_stream.$_", qr/refresh of scores or segments is already running.*stat_score_refresh/s, $_)
  foreach 'refresh_scores()', 'refresh_segments()';
# its customers are free
$broker->produce('events', [ 0, $middle, qq({"eventId":"m1","customerId":"$middle","eventType":"seen","timestamp":"2020-01-01T00:00:00Z"}) ]);
ok($node->wait_taken('crm', ++$produced), 'the stream applies an event of a customer that is being scored');
# cancelled
my $done = progress('profiles_done');
$node->sql("SELECT pg_cancel_backend(pid) FROM profile_stream.stat_score_refresh");
like(finish($first), qr/canceling statement due to user request/, 'it is cancelled');
is(progress('state, pid'), 'interrupted|', 'and shows that');
is($node->sql("SELECT count(*) FROM $profiles WHERE scored_at IS NOT NULL"), $done, 'what it has done stays');
# the next one goes on, and does not write what is older than the profile
$first = start('CALL profile_stream.refresh_scores(batch => 6)');
ok($node->poll_query_until('postgres', $waiting), 'the next one comes to the same profile');
$broker->produce('events', [ 0, $middle, qq({"eventId":"m2","customerId":"$middle","eventType":"seen","timestamp":"2020-01-01T00:00:00Z"}) ]);
ok($node->wait_taken('crm', ++$produced), 'the stream applies another event of it');
$holder->query_safe('SELECT pg_advisory_unlock(42)');
is(finish($first), '', 'the next one ends');
is(progress('state, profiles_skipped, profiles_done'), 'done|0|' . ($total - $done), 'it has gone on where the first one was');
is($node->sql("SELECT count(*) FROM $profiles WHERE segment IS DISTINCT FROM 'version ' || version OR scored_at IS NULL"), '0', 'every score is of the profile as it is');
# the process is killed
$holder->query_safe('SELECT pg_advisory_lock(42)');
$first = start("CALL profile_stream.refresh_scores('0', batch => 50)");
ok($node->poll_query_until('postgres', $waiting), 'a refresh waits again');
$node->sql("SELECT pg_terminate_backend(pid) FROM profile_stream.stat_score_refresh");
finish($first);
ok($node->poll_query_until('postgres', "SELECT state = 'interrupted' FROM profile_stream.stat_score_refresh"), 'a process that is gone is told');
$holder->query_safe('SELECT pg_advisory_unlock(42)');
$node->sql('TRUNCATE stop');

# a customer whose lock somebody keeps
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer('$middle')");
$node->sql("UPDATE $profiles SET scored_at = NULL, segment = '?'");
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_skipped, profiles_done'), 'done|1|' . ($total - 1), 'a locked customer is passed over');
is($node->sql("SELECT string_agg(customer_id, ' ') FROM $profiles WHERE scored_at IS NULL"), $middle, 'that one');
$holder->query_safe('COMMIT');
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_skipped, profiles_done'), 'done|0|1', 'and is scored by the next refresh');
# as one with older scores; then the next refresh is a whole one
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer('$middle')");
$node->sql("UPDATE $profiles SET segment = '?' WHERE customer_id = '$middle'");
$node->sql("CALL profile_stream.refresh_scores('0')");
is(progress('state, profiles_skipped, profiles_done'), 'done|1|' . ($total - 1), 'a locked customer with older scores is passed over');
$holder->query_safe('COMMIT');
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_skipped, profiles_done, profiles_changed'), "done|0|$total|1", 'the next refresh scores all again');
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_done'), 'done|0', 'the one after it none');
# one that is let go while the refresh works elsewhere comes in the same one
$node->sql("UPDATE $profiles SET segment = '?'");
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer(min(customer_id)) FROM $profiles");
my $stopper = $node->background_psql('postgres');
$stopper->query_safe('SELECT pg_advisory_lock(42)');
$node->sql("INSERT INTO stop VALUES ('$middle')");
$first = start("CALL profile_stream.refresh_scores('0', batch => 50)");
ok($node->poll_query_until('postgres', $waiting), 'the refresh is past a locked customer');
$holder->query_safe('COMMIT');
$stopper->query_safe('SELECT pg_advisory_unlock(42)');
is(finish($first), '', 'it ends');
is(progress('state, profiles_skipped, profiles_done'), "done|0|$total", 'and has come again to who was locked');
$node->sql('TRUNCATE stop');

# a cancelled pass over scores that are not fresh; the next refresh goes on behind the customer up to whom it has come
$stopper->query_safe('SELECT pg_advisory_lock(42)');
$node->sql("INSERT INTO stop VALUES ('$middle'); UPDATE $profiles SET segment = '?'");
$first = start("CALL profile_stream.refresh_scores('0', batch => 6)");
ok($node->poll_query_until('postgres', $waiting), 'a pass waits in the middle');
$node->sql("SELECT pg_cancel_backend(pid) FROM profile_stream.stat_score_refresh");
finish($first);
$stopper->query_safe('SELECT pg_advisory_unlock(42)');
$done = progress('profiles_done');
is($node->sql("SELECT count(*) FROM $profiles WHERE segment <> '?'"), $done, 'what it has done stays');
my $reached = $node->sql("SELECT count(*) FROM $profiles WHERE customer_id <= (SELECT reached FROM profile_stream_internal.score_passes)");
ok($reached > 0 && $reached <= $done, "it has come up to profile $reached of $done that are done");
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_skipped, profiles_done'), 'done|0|' . ($total - $reached), 'the next refresh goes on there');
is($node->sql("SELECT count(*) FROM $profiles WHERE segment = '?'"), '0', 'and everybody is scored');
$node->sql('CALL profile_stream.refresh_scores()');
is(progress('state, profiles_done'), 'done|0', 'then the pass is complete');
$node->sql('TRUNCATE stop');
$_->quit foreach $holder, $stopper;

# rows that do not change are not written; the room of old versions is used again
my $rows = "SELECT md5(string_agg((customer_id, xmin, ctid)::text, ',' ORDER BY customer_id)) FROM $profiles";
my $before = $node->sql($rows);
$node->sql("CALL profile_stream.refresh_scores('0')");
is(progress('profiles_done, profiles_changed'), "$total|0", 'a refresh that changes nothing');
is($node->sql($rows), $before, 'it writes no row');
$node->sql("ALTER TABLE $profiles SET (autovacuum_enabled = off)");
$node->sql("SELECT count(profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', 'many', 'customerId', 'many-' || lpad(n::text, 5, '0'),"
	  . " 'eventType', 'seen', 'timestamp', now()) FROM generate_series(1, 5000) n)))");
$node->sql("VACUUM $profiles");
my $size = $node->sql("SELECT pg_table_size('$profiles')");
$node->sql('CALL profile_stream.refresh_scores(batch => 500)');
is(progress('profiles_done, profiles_changed'), '5000|5000', 'a first refresh writes each row');
my $grown = $node->sql("SELECT pg_table_size('$profiles')") / $size;
cmp_ok($grown, '<', 1.1, "the table has $grown of its size");
$node->sql("DELETE FROM $profiles WHERE customer_id ~ '^many-'; ALTER TABLE $profiles RESET (autovacuum_enabled)");

# a slow function makes smaller batches, so that none holds a snapshot for long: 350, 175, and the rest
$node->sql("CREATE FUNCTION slow(profile jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(0.004); RETURN ''{\"segment\": \"slow\"}''; END';"
	  . " SELECT profile_stream.set_score_function('public.slow(jsonb)')");
$node->sql("CALL profile_stream.refresh_scores('0', batch => 350)");
is(progress('profiles_done'), $total, 'all are scored by a slow function');
cmp_ok($node->sql("SELECT count(DISTINCT xmin::text) FROM $profiles"), '>=', 3, 'a batch after one that took long is smaller');
$node->sql("SELECT profile_stream.set_score_function('public.scores(jsonb)'); DROP FUNCTION slow(jsonb); CALL profile_stream.refresh_scores('0')");

# announcements, also of ids that escape to many bytes
my $long = '"' x 500;
$node->sql("SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'l', 'customerId', '$long', 'eventType', 'seen', 'timestamp', now()))");
$node->sql("UPDATE $profiles SET segment = '?' || repeat(chr(1), 2000) WHERE customer_id = '$long'; UPDATE $profiles SET segment = '?' WHERE customer_id = '$middle'");
my $channel = $node->channel('segment_changes');
my $heard = $node->sql("LISTEN $channel; CALL profile_stream.refresh_scores('0')");
my @payloads = $heard =~ /"$channel" with payload "(\{.*\})" received/g;
is(scalar @payloads, 2, 'a notification for each change');
like($heard, qr/payload "\{"customerId":"$middle","from":"\?","to":"version \d+","kind":"score","at":"[-0-9T:.]+Z"\}"/, 'what it says');
is(scalar(grep { length > 7999 || $_ !~ /"to":"version 1"/ } grep { /\\"\\"/ } @payloads), 0, 'and never too much');
# no room: while somebody does not listen, and at the commit
$holder = $node->background_psql('postgres');
$holder->query_safe("LISTEN $channel");
$holder->query_safe('BEGIN');
set('notify_queue_limit', 0);
$node->sql("SELECT count(pg_notify('other', rpad(n::text, 7900, 'x'))) FROM generate_series(1, 8) n");
$node->sql("UPDATE $profiles SET segment = '?'");
unlike($node->sql("LISTEN $channel; CALL profile_stream.refresh_scores('0')"), qr/with payload/, 'the queue is in use: no notification');
$total++;
is(progress('state, profiles_done, segment_changes, notifications_skipped'), "done|$total|$total|$total", 'the refresh goes on and counts');
$holder->quit;
$node->sql('ALTER SYSTEM RESET profile_stream.notify_queue_limit');
$node->reload;
SKIP:
{
	skip 'built without failpoints', 3 unless $node->has_failpoints;
	$node->sql("UPDATE $profiles SET segment = '?'");
	my ($rc, $out, $err) = $node->psql('postgres', "SET profile_stream.failpoint = 'refresh_notifies:queue_full'; LISTEN $channel; CALL profile_stream.refresh_scores('0', batch => 100)");
	is("$rc$out", '0', 'the queue is full at a commit: the batch is done again');
	like($err, qr/WARNING:  notifications are skipped/, 'it says so');
	is(progress('state, profiles_done, segment_changes, notifications_skipped'), "done|$total|$total|$total", 'nothing else is missing or twice');
}

# the process of score_interval; changes that are too old
$node->sql("SELECT profile_stream.set_score_function(NULL), profile_stream.create_segment('active', 'version > 10', evaluate => 'batch')");
$node->sql("INSERT INTO profile_stream.segment_changes (customer_id, kind, to_segment, changed_at) VALUES ('old', 'rule', 'x', now() - interval '31 days'), ('old', 'rule', 'y', now() - interval '29 days')");
set('score_interval', '1s');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 AND count(*) = (SELECT count(*) FROM $profiles WHERE version > 10) FROM profile_stream.segment_members"),
	'the segments are refreshed by themselves');
is($node->sql("SELECT count(*) FROM $profiles WHERE segment ~ '^version'"), '0', 'so are scores');
my $runs = $node->sql('SELECT started_at FROM profile_stream_internal.score_refresh');
ok($node->poll_query_until('postgres', "SELECT started_at > '$runs' FROM profile_stream_internal.score_refresh"), 'again and again');
is($node->sql("SELECT string_agg(to_segment, '') FROM profile_stream.segment_changes WHERE customer_id = 'old'"), 'y', 'old changes are removed');
$node->sql("SELECT profile_stream.set_score_function('public.scores(jsonb)'); DROP FUNCTION public.scores(jsonb)");
ok($node->poll_query_until('postgres', "SELECT state = 'failed' AND error ~ 'scores.* does not exist' FROM profile_stream.stat_score_refresh"),
	'an error that ends it is shown');
$node->sql('SELECT profile_stream.set_score_function(NULL)');
ok($node->poll_query_until('postgres', "SELECT state = 'done' AND error IS NULL FROM profile_stream.stat_score_refresh"), 'and it comes again');
set('score_interval', 0);
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream scorer'"), 'until it is told not to');

# a day on which nobody refreshes is counted when it begins
$runs = $node->sql('SELECT started_at FROM profile_stream_internal.score_refresh');
$node->sql('UPDATE profile_stream_internal.segment_day_counts SET day = day - 1');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM profile_stream.segment_counts WHERE kind = 'all' AND day = (now() AT TIME ZONE 'UTC')::date"), 'a new day is counted');
is($node->sql(<<'END'), '0', 'as it is');
WITH counted AS (SELECT kind, segment, customers FROM profile_stream.segment_counts WHERE day = (SELECT max(day) FROM profile_stream.segment_counts)), there AS (
	SELECT 'all' AS kind, 'all' AS segment, count(*) AS customers FROM profile_stream.profiles
	UNION ALL SELECT CASE WHEN segment IS NULL THEN 'unscored' ELSE 'score' END, COALESCE(segment, 'unscored'), count(*) FROM profile_stream.profiles GROUP BY 1, 2
	UNION ALL SELECT 'rule', s.name, (SELECT count(*) FROM profile_stream.segment_members m WHERE m.segment = s.name) FROM profile_stream.stat_code s WHERE s.kind = 'segment')
SELECT count(*) FROM counted c FULL JOIN there t USING (kind, segment) WHERE c.customers IS DISTINCT FROM t.customers
END
is($node->sql('SELECT count(DISTINCT day) FROM profile_stream.segment_counts'), '2', 'beside that of the day before');
is($node->sql('SELECT started_at FROM profile_stream_internal.score_refresh'), $runs, 'and no score was refreshed');

$node->is_balanced('crm', 'the end');
$node->is_clean('the end');
$node->stop('fast');
$broker->stop;
done_testing();
