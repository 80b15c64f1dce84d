# Handlers and upcasters that users wrote. Whatever they do costs their event and never the worker. Batches with failing
# events equal a model, whatever is killed meanwhile. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'acts', 1 ], [ 'sums', 4 ], [ 'versions', 1 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "profile_stream.handler_timeout = '300ms'");

sub is_row
{
	my ($sql, $expected, $name) = @_;
	is($node->safe_psql('postgres', $sql), $expected, $name);
}

# An event of a customer's own.
my $acts = 0;

sub act
{
	my ($does, $id) = @_;
	$id //= $does;
	$acts++;
	return [ 0, '', qq({"eventId":"$id","customerId":"$id","eventType":"act","timestamp":"2026-01-01T00:00:00Z","payload":{"do":"$does"}}) ];
}

# what a handler may come to do; ok follows each, and shows that nothing is left of it
$node->safe_psql('postgres', <<'END');
CREATE TABLE written (what text PRIMARY KEY, n int DEFAULT 0);
INSERT INTO written VALUES ('lock');
CREATE FUNCTION act(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	does text := event #>> '{payload,do}';
BEGIN
	CASE does
		WHEN 'raise' THEN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0042';
		WHEN 'loop' THEN LOOP NULL; END LOOP;
		WHEN 'sleep' THEN PERFORM pg_sleep(100);
		WHEN 'null' THEN RETURN NULL;
		WHEN 'wrong' THEN RETURN '[1]';
		WHEN 'terminate' THEN PERFORM pg_terminate_backend(pg_backend_pid());
		WHEN 'terminate and wait' THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(100);
		WHEN 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid());
		WHEN 'cancel and catch' THEN
			BEGIN
				PERFORM pg_cancel_backend(pg_backend_pid()), pg_sleep(100);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		WHEN 'identity' THEN RETURN profile || '{"customerId": "another"}';
		WHEN 'settings' THEN PERFORM set_config('search_path', 'elsewhere', false), set_config('synchronous_commit', 'remote_apply', false);
		WHEN 'role' THEN PERFORM set_config('role', 'pg_monitor', false);
		WHEN 'listen' THEN LISTEN act;
		WHEN 'notify' THEN NOTIFY act;
		WHEN 'commit' THEN COMMIT;
		WHEN 'apply' THEN PERFORM profile_stream.apply_event(event || '{"eventId": "nested"}');
		WHEN 'write' THEN INSERT INTO public.written VALUES ('kept');
		WHEN 'write and raise' THEN INSERT INTO public.written VALUES ('lost'); RAISE EXCEPTION 'after all';
		WHEN 'write twice' THEN INSERT INTO public.written VALUES ('kept');
		WHEN 'serialization' THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001';
		WHEN 'lock' THEN UPDATE public.written SET n = n + 1 WHERE what = 'lock';
		WHEN 'drop' THEN DROP FUNCTION public.act(jsonb, jsonb);
		ELSE NULL;
	END CASE;
	RETURN jsonb_build_object('attributes', jsonb_build_object('session', concat_ws('; ', current_user, current_setting('search_path'),
		current_setting('synchronous_commit'))));
END $$;
END
$node->create_stream('acts', $broker, 'acts');
$broker->produce('acts', act('before'));
ok($node->wait_taken('acts', 1), 'acts: it runs without a handler');
my $pid = $node->safe_psql('postgres', 'SELECT worker_pid FROM profile_stream.stat_streams');
$node->safe_psql('postgres', "SELECT profile_stream.register_handler('act', 'act(jsonb,jsonb)')");
$broker->produce('acts', map { act($_) } 'ok', 'raise', 'loop', 'ok 2', 'sleep', 'null', 'wrong', 'terminate', 'terminate and wait', 'cancel',
	'cancel and catch', 'identity', 'settings', 'ok 3', 'role', 'listen', 'notify', 'commit', 'apply', 'write', 'write and raise', 'write twice',
	'serialization', 'ok 4');
ok($node->wait_taken('acts', $acts), 'acts: every message is taken');
is_row(<<'SQL', <<'END' =~ s/\n\z//r, 'acts: each that fails is a dead letter');
SELECT event_id, sqlstate, regexp_replace(errors[1], 'Processing error: handler public.act.jsonb,jsonb.:? ', '')
FROM profile_stream.dead_letters WHERE kind = 'handler' ORDER BY kafka_offset
SQL
raise|P0042|not today
loop|57014|took longer than profile_stream.handler_timeout
sleep|57014|took longer than profile_stream.handler_timeout
wrong||returned no object
terminate|57014|cancelled or terminated its own process
terminate and wait|57014|cancelled or terminated its own process
cancel|57014|cancelled or terminated its own process
cancel and catch|57014|cancelled or terminated its own process
identity||changed customerId
role|42501|cannot set parameter "role" within security-definer function
listen|42501|cannot execute LISTEN within security-restricted operation
commit|2D000|invalid transaction termination
apply|0A000|apply_event() cannot be called by a handler or an upcaster
write and raise|P0001|after all
write twice|23505|duplicate key value violates unique constraint "written_pkey"
serialization|40001|again
END
is_row("SELECT customer_id, attributes ->> 'session' FROM profile_stream.materialized_profiles ORDER BY customer_id COLLATE \"C\"", <<'END' =~ s/\n\z//r,
before|
notify|postgres; pg_catalog, pg_temp; off
null|
ok|postgres; pg_catalog, pg_temp; off
ok 2|postgres; pg_catalog, pg_temp; off
ok 3|postgres; pg_catalog, pg_temp; off
ok 4|postgres; pg_catalog, pg_temp; off
settings|postgres; elsewhere; remote_apply
write|postgres; pg_catalog, pg_temp; off
END
	'acts: what is applied knows nothing of the others');
is_row('SELECT what FROM written ORDER BY 1', "kept\nlock", 'acts: what a handler writes stays or goes with its event');
is_row('SELECT worker_pid, state FROM profile_stream.stat_streams', "$pid|running", 'acts: by one worker');
is_row("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'transactionid'", '0', 'acts: which has nothing open');

# a signal that is not the handler's own: the transaction alone ends, or the worker, and then the event is applied
foreach my $signal (qw(cancel terminate))
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$node->safe_psql('postgres', "ALTER SYSTEM SET profile_stream.handler_timeout = 0; SELECT pg_reload_conf()");
	$session->query_safe("BEGIN; UPDATE written SET n = n + 1 WHERE what = 'lock'");
	$broker->produce('acts', act('lock', "other $signal"));
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'profile_stream worker' AND wait_event_type = 'Lock')),
		"$signal: the handler waits for a lock");
	$node->safe_psql('postgres', "SELECT pg_${signal}_backend(worker_pid) FROM profile_stream.stat_streams");
	$session->query_safe('COMMIT');
	$session->quit;
	ok($node->wait_taken('acts', $acts), "$signal: the event is taken");
}

# a lock that a session holds for longer than the worker waits: the handler has done nothing wrong, and its event is tried again
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; UPDATE written SET n = n + 1 WHERE what = 'lock'");
	$broker->produce('acts', act('lock', 'lock held for long'));
	ok($node->poll_query_until('postgres', "SELECT state IN ('waiting', 'retrying') AND error ~* 'lock' FROM profile_stream.stat_streams WHERE stream = 'acts'"),
		'lock held for long: the stream says so');
	$session->query_safe('COMMIT');
	$session->quit;
	ok($node->wait_taken('acts', $acts), 'lock held for long: the event is taken');
	is_row("SELECT count(*) FROM profile_stream.materialized_profiles WHERE customer_id = 'lock held for long'", '1', 'lock held for long: and applied');
}

# a deadlock with a session that wants the customer's lock
$node->safe_psql('postgres', "ALTER SYSTEM SET deadlock_timeout = '100ms'; SELECT pg_reload_conf()");
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("BEGIN; UPDATE written SET n = n + 1 WHERE what = 'lock'");
$broker->produce('acts', act('lock'));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'profile_stream worker' AND wait_event_type = 'Lock')),
	'deadlock: the handler waits for a lock');
$session->query("SELECT profile_stream.lock_customer('lock')");
$session->query('ROLLBACK');
$session->quit;
ok($node->wait_taken('acts', $acts), 'deadlock: the event is taken');
is_row(q(SELECT count(*) FROM profile_stream.dead_letters WHERE errors[1] ~ 'deadlock|cancel|terminat' AND event_id IN ('lock', 'other cancel', 'other terminate')), '0',
	'deadlock: neither that nor a signal makes a dead letter');
is_row(q(SELECT customer_id, version FROM profile_stream.materialized_profiles WHERE customer_id IN ('lock', 'other cancel', 'other terminate') ORDER BY 1),
	"lock|1\nother cancel|1\nother terminate|1", 'deadlock: each is applied, once');
$node->safe_psql('postgres', "ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()");

# a function that drops itself
$broker->produce('acts', act('drop'));
ok($node->wait_taken('acts', $acts), 'drop: the event is taken');
$broker->produce('acts', act('dropped'));
ok($node->wait_taken('acts', $acts), 'drop: and the next one');
is_row(q(SELECT event_id, sqlstate, errors[1] FROM profile_stream.dead_letters WHERE event_id ~ '^drop'),
	'dropped|42883|Processing error: handler public.act(jsonb,jsonb) does not exist', 'drop: which has no handler any more');
$node->safe_psql('postgres', "SELECT profile_stream.unregister_handler('act', 'public.act(jsonb,jsonb)')");
is_row("SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'acts', ids => (SELECT array_agg(dead_letter_id) FROM profile_stream.dead_letters WHERE event_id = 'dropped'))",
	'1|0', 'drop: without it the letter is applied');
$node->is_balanced('acts', 'acts');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('acts')");

# failures that depend on what was before, repeated ids of failed events, and deaths at every step: equal to a model
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $count = $ENV{PS_EVENTS} // 12_000;
note("seed $seed");
srand($seed);
my (%sum, %applied, %seen, @messages);
my %expected = (applied => 0, duplicates => 0, dead => 0);

for my $i (1 .. $count)
{
	my $customer = int(rand(200));
	my $id = rand() < 0.05 ? int(rand(20)) : "e$i";
	my $n = int(rand(1000));
	push @messages, [ $customer % 4, '', qq({"eventId":"$id","customerId":"$customer","eventType":"sum","timestamp":"2026-01-01T00:00:00Z","payload":{"n":$n}}) ];
	if ($seen{"$customer $id"}) { $expected{duplicates}++; next; }
	my $sum = ($sum{$customer} // 0) + $n;
	if ($sum % 100 == 7) { $expected{dead}++; next; }
	$seen{"$customer $id"} = 1;
	$sum{$customer} = $sum;
	$applied{$customer}++;
	$expected{applied}++;
}
$node->safe_psql('postgres', <<'END');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE TABLE summed (customer text, id text);
CREATE FUNCTION sum(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	total int := coalesce((profile #>> '{attributes,sum}')::int, 0) + (event #>> '{payload,n}')::int;
BEGIN
	INSERT INTO public.summed VALUES (event ->> 'customerId', event ->> 'eventId');
	IF total % 100 = 7 THEN RAISE EXCEPTION 'no'; END IF;
	RETURN jsonb_build_object('attributes', jsonb_build_object('sum', total));
END $$;
SELECT profile_stream.register_handler('sum', 'sum(jsonb,jsonb)');
END
my @parts = map { [ splice(@messages, 0, $count / 10) ] } 1 .. 10;
$node->create_stream('sums', $broker, 'sums', batch_size => 400);
foreach my $failpoint ($node->has_failpoints ? qw(after_lock:error after_fold:kill after_upsert:error after_dead_letters:kill before_commit:kill after_commit:kill) : ())
{
	my $from = -s $node->logfile;
	$node->set_failpoint($failpoint);
	$broker->produce('sums', @{ shift @parts });
	$node->wait_for_log($failpoint =~ /kill/ ? qr/was terminated by signal 9/ : qr/failpoint "\w+"/, $from);
	$node->set_failpoint('');
	$node->wait_alive;
}
$broker->produce('sums', @$_) foreach @parts;
ok($node->wait_taken('sums', $count), 'sums: every message is taken');
# a failpoint may have killed more than once before it was reset
my $deaths = () = slurp_file($node->logfile) =~ /was terminated by signal 9/g;
$node->expect_signals($deaths);
is_row('SELECT sum(applied), sum(duplicates), sum(dead) FROM profile_stream_internal.stream_offsets', "$expected{applied}|$expected{duplicates}|$expected{dead}",
	'sums: as many are applied, duplicates and dead as the model says');
is_row("SELECT customer_id, attributes -> 'sum', version FROM profile_stream.materialized_profiles ORDER BY customer_id::int",
	join("\n", map { "$_|$sum{$_}|$applied{$_}" } sort { $a <=> $b } keys %sum), 'sums: each profile is what the model says');
is_row('SELECT count(*), count(DISTINCT (customer, id)) FROM summed', "$expected{applied}|$expected{applied}", 'sums: so is what the handler wrote, once for each event');
is_row("SELECT count(*), count(*) FILTER (WHERE kind = 'handler' AND sqlstate = 'P0001') FROM profile_stream.dead_letters", "$expected{dead}|$expected{dead}",
	'sums: each failure is a dead letter');
$node->is_balanced('sums', 'sums');
$node->safe_psql('postgres', "SELECT profile_stream.rebuild('sums')");
ok($node->wait_rebuild('ready'), 'sums: a rebuild reads them again');
is_row("SELECT * FROM profile_stream.rebuild_diff('sums')", '', 'sums: and makes the same profiles');
$node->safe_psql('postgres', "SELECT profile_stream.cancel_rebuild('sums')");
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('sums')");

# upcasters, where a map says what the version is
sub version
{
	my ($n, $version, $body) = @_;
	return [ 0, '', qq({"n":"v$n","meta":{"v":$version},"body":$body}) ];
}
$node->safe_psql('postgres', <<'END');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE FUNCTION cents(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('cents', (event #>> '{payload,euros}')::numeric * 100) $$;
CREATE FUNCTION amount(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN jsonb_build_object('initialBalance', (event #>> '{payload,cents}')::numeric / 100.0, 'eventId', 'x'); END $$;
SELECT profile_stream.register_upcaster('account.opened', 2, 'amount(jsonb)');
END
$node->create_stream('versions', $broker, 'versions', dead_letter_pause_ratio => 1, format => "'custom'", field_map => <<'END');
'{"eventId": "$.n", "customerId": "constant:c", "eventType": "constant:account.opened", "timestamp": "constant:2026-01-01", "payload": "$.body", "schemaVersion": "$.meta.v"}'
END
$broker->produce('versions', version(1, 1, '{"euros":1}'), version(2, 2, '{"cents":200}'), version(3, 3, '{"initialBalance":4}'), version(4, 4, '{}'));
ok($node->wait_taken('versions', 4), 'versions: every message is taken');
is_row('SELECT round(total_balance, 2), account_count FROM profile_stream.materialized_profiles', '6.00|2', 'versions: those are applied that can be raised');
$node->safe_psql('postgres', "SELECT profile_stream.register_upcaster('account.opened', 1, 'cents(jsonb)')");
$broker->produce('versions', version(5, 1, '{"euros":8}'), version(6, 1, '{"euros":"many"}'), version(7, 3, '{"initialBalance":16}'));
ok($node->wait_taken('versions', 7), 'versions: with another upcaster, too');
is_row('SELECT round(total_balance, 2), account_count FROM profile_stream.materialized_profiles', '30.00|4', 'versions: which is called from the next batch on');
is_row("SELECT kafka_offset, kind, sqlstate, errors[1] FROM profile_stream.dead_letters ORDER BY 1", <<'END' =~ s/\n\z//r, 'versions: the others are dead letters');
0|invalid||Unsupported schemaVersion 1
3|invalid||Unsupported schemaVersion 4
5|handler|22P02|Processing error: upcaster public.cents(jsonb): invalid input syntax for type numeric: "many"
END
is_row("SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'versions')", '1|2', 'versions: what can be raised now is repaired');
is_row("SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'versions', patch => '{\"payload\": {\"euros\": 32}, \"schemaVersion\": 1}')", '2|0',
	'versions: so is what is patched');
is_row('SELECT round(total_balance, 2), account_count FROM profile_stream.materialized_profiles', '95.00|7', 'versions: and applied');
$node->is_balanced('versions', 'versions');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
