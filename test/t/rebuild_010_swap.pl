# A rebuild beside the served profiles: the differences that it finds, what its swap changes and what it leaves, and how a
# rebuild ends without a swap.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $events = ProfileStream::Node::generate(
	seed => $ENV{PS_SEED} // 20260101,
	events => $ENV{PS_EVENTS} // 30_000,
	customers => $ENV{PS_CUSTOMERS} // 1_000,
	parts => 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $profiles = 'profile_stream.materialized_profiles';
my $content = "SELECT count(*), sum(hashtextextended(p::text, 0)) FROM $profiles p";
my $written = "SELECT sum(p.xmin::text::bigint) FROM $profiles p";

# Whether nothing of a rebuild is left.
sub nothing_left
{
	my ($name) = @_;
	ok($node->wait_rebuild(''), "$name: no rebuild is under way");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"),
		"$name: its worker is gone");
	is( $node->sql("SELECT sum(n) FROM (" . join(' UNION ALL ', map { "SELECT count(*) AS n FROM profile_stream_rebuild.$_" }
				  qw(materialized_profiles window_chunks event_id_chunks dead_letters stream_offsets stream_gaps stream_status)) . ') t'),
		'0', "$name: the rebuild schema is empty");
}

$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('crm', $broker, 'events', batch_size => 1000);
ok($node->wait_taken('crm', $events->{events} / 2), 'the stream has applied one half');

# not ready: no swap, and no second rebuild
$node->sql("BEGIN; SELECT profile_stream.rebuild('crm'); SELECT profile_stream.pause_rebuild('crm'); COMMIT");
ok($node->wait_rebuild('paused'), 'a rebuild is paused before it has begun');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm')", qr/is not ready.*state is paused/s, 'a swap of a paused rebuild');
$node->fails_like("SELECT profile_stream.rebuild('crm')", qr/rebuild of stream "crm" is under way.*cancel_rebuild/s, 'a second rebuild');
$node->fails_like("CREATE ROLE nobody LOGIN IN ROLE profile_stream_operator; SET ROLE nobody; SELECT profile_stream.cancel_rebuild('crm')",
	qr/must be owner/, 'cancelling what is another\'s');
is($node->rebuild_pid, '', 'a paused rebuild has no worker');

# of an untouched stream: no difference, and a swap that writes nothing
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer(customer_id) FROM $profiles LIMIT 1");
$node->sql("SELECT profile_stream.resume_rebuild('crm')");
ok($node->wait_rebuild('ready'), 'resumed, it gets ready, whoever holds a customer\'s lock');
$holder->quit;
is($node->sql('SELECT count(*) > 0 FROM profile_stream_rebuild.materialized_profiles'), 't', 'the rebuild schema has profiles');
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('crm')"), '', 'rebuilt profiles of an untouched stream are equal');
is($node->sql('SELECT events_done, events_total, events_per_second > 0, error IS NULL FROM profile_stream.stat_rebuilds'),
	$events->{events} / 2 . '|' . $events->{events} / 2 . '|t|t', 'everything is done, and how fast it was');
is($node->sql("SELECT classid::bigint FROM pg_locks WHERE locktype = 'advisory' AND pid = " . $node->rebuild_pid . " AND classid::bigint < 1000000"),
	'', 'the rebuild holds no lease of the stream');
my $before = $node->sql("$content; $written");
my $stream_pid = $node->stream_pid('crm');
my $channel = $node->channel;
my ($rc, $out, $err) = $node->psql('postgres', "LISTEN $channel; SELECT 'swapped ' || profile_stream.swap_rebuild('crm')");
like($out, qr/swapped 0/, 'the swap changes no profile');
like($out, qr/notification "$channel" with payload "\{"stream":"crm","rebuilt":0\}"/, 'and is announced');
is($node->sql("$content; $written"), $before, 'it writes no row');
nothing_left('swapped');

# the stream goes on exactly, in the same process
$broker->produce_file('events', $events->{files}[1]);
ok($node->wait_taken('crm', $events->{events}), 'the stream goes on after the swap');
$node->equals_model('crm', $events, 'after a swap without changes');
is($node->stream_pid('crm'), $stream_pid, 'the worker is the same');

# profiles that somebody damaged
my ($balance, $mail, $missing, $chunk) = split(/\n/, $node->sql(<<"END"));
SELECT customer_id FROM (SELECT customer_id, row_number() OVER (ORDER BY customer_id) AS n FROM $profiles
	WHERE customer_id LIKE 'cust-%') p WHERE n IN (5, 50, 100)
UNION ALL (SELECT customer_id FROM profile_stream_internal.window_chunks WHERE customer_id LIKE 'cust-%' AND metric = 'logins' ORDER BY 1 DESC LIMIT 1)
END
my $old_balance = $node->sql("SELECT total_balance FROM $profiles WHERE customer_id = '$balance'");
my $wrong_chunks = "FROM profile_stream_internal.window_chunks WHERE customer_id = '$chunk' AND metric = 'logins' AND chunk_no = (SELECT min(chunk_no) FROM profile_stream_internal.window_chunks WHERE customer_id = '$chunk' AND metric = 'logins')";
$node->sql(<<"END");
UPDATE $profiles SET segment = 'gold', churn_risk_score = 0.5, lifetime_value = 7, scored_at = '2026-01-01Z';
UPDATE $profiles SET total_balance = total_balance + 1000, attributes = '{"a": 1}' WHERE customer_id = '$balance';
UPDATE $profiles SET email = 'wrong\@example.org', version = version + 5 WHERE customer_id = '$mail';
DELETE FROM $profiles WHERE customer_id = '$missing';
DELETE $wrong_chunks;
INSERT INTO $profiles (customer_id, version, updated_at, watermark, first_event_at) VALUES ('ghost', 1, now(), now(), now());
UPDATE $profiles SET event_ids = '' WHERE customer_id = '$mail';
DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id = '$mail';
INSERT INTO profile_stream_internal.event_id_chunks VALUES ('ghost', 1, now(), profile_stream_internal.event_id_hash('seen'));
UPDATE $profiles SET event_ids = substr(event_ids, 1, 4) || profile_stream_internal.event_id_hash('never') || '\\x0000' || substr(event_ids, 17) WHERE customer_id = '$balance';
DELETE FROM profile_stream_internal.dead_letters WHERE dead_letter_id = (SELECT min(dead_letter_id) FROM profile_stream.dead_letters);
UPDATE profile_stream_internal.stream_offsets SET applied = applied - 3 WHERE partition = 1;
END
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'a rebuild over damaged profiles gets ready');
is($node->sql("SELECT customer_id, what FROM profile_stream.rebuild_diff('crm') ORDER BY customer_id"),
	join("\n", sort("$balance|changed", "$mail|changed", "$missing|new", "$chunk|changed", 'ghost|missing')), 'exactly these differ');
is($node->sql("SELECT fields = jsonb_build_object('total_balance', jsonb_build_array($old_balance + 1000, $old_balance), 'attributes', '[{\"a\": 1}, {}]'::jsonb) FROM profile_stream.rebuild_diff('crm') WHERE customer_id = '$balance'"),
	't', 'the difference has the old and the new value');
is($node->sql("SELECT string_agg(k, ' ' ORDER BY k) FROM profile_stream.rebuild_diff('crm'), jsonb_object_keys(fields) k WHERE customer_id = '$mail'"),
	'email version', 'and each field that differs');
like($node->sql("SELECT fields FROM profile_stream.rebuild_diff('crm') WHERE customer_id = '$chunk'"), qr/login_history/, 'and history that is gone');
is($node->sql("SELECT count(*) FROM profile_stream.rebuild_diff('crm', 2)"), '2', 'as many rows as asked for');

# whoever applies holds the swap up, and a swap that did not come to it changed nothing
my $applier = $node->background_psql('postgres');
$applier->query_safe('BEGIN; SELECT profile_stream.apply_event(\'{"eventId": "open", "customerId": "open", "eventType": "a", "timestamp": "2026-01-01"}\')');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm', '200 ms')", qr/waited too long for a lock.*held by process/s, 'a swap while somebody applies');
$applier->query_safe('ROLLBACK');
$applier->quit;

# the views answer until the swap commits
my $reader = "SELECT total_balance FROM profile_stream.profiles WHERE customer_id = '$balance'";
my $swapper = $node->background_psql('postgres');
$swapper->query_safe('BEGIN');
is($swapper->query_safe("SELECT profile_stream.swap_rebuild('crm')"), '4', 'the swap says how many profiles it changed');
is($swapper->query_safe($reader), $old_balance, 'whoever swaps sees the new profiles');
is($node->sql("SET statement_timeout = '10 s'; $reader"), $old_balance + 1000, 'everybody else the old ones, without waiting');
is($node->sql("SELECT count(*) FROM profile_stream.profiles WHERE customer_id = 'ghost'"), '1', 'all of them');
$swapper->query_safe('COMMIT');
$swapper->quit;
is($node->sql($reader), $old_balance, 'and after the commit the new ones');
is($node->sql("SELECT DISTINCT segment, churn_risk_score, lifetime_value, attributes, scored_at = '2026-01-01Z' FROM $profiles WHERE customer_id <> '$missing'"),
	'gold|0.5|7|{}|t', 'what is computed in batch stays');
$node->sql("UPDATE $profiles SET segment = 'unknown'");
$node->equals_model('crm', $events, 'after the swap of damaged profiles');
nothing_left('repaired');

# a swap that is rolled back leaves the rebuild as it was, and following
$node->sql("UPDATE $profiles SET email = 'wrong' WHERE customer_id = '$balance'; SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'another rebuild');
is($node->sql("BEGIN; SELECT profile_stream.swap_rebuild('crm'); ROLLBACK"), '1', 'a swap is rolled back');
is($node->sql("SELECT fields FROM profile_stream.rebuild_diff('crm')") =~ /wrong/, 1, 'the difference is still there');

# enabled = off
$node->sql('ALTER SYSTEM SET profile_stream.enabled = off');
$node->reload;
ok($node->wait_rebuild('disabled'), 'enabled = off stops a rebuild');
is($node->rebuild_pid, '', 'it has no worker');
$node->sql('ALTER SYSTEM RESET profile_stream.enabled');
$node->reload;
ok($node->wait_rebuild('ready'), 'enabled = on starts it where it was');

# a worker that is terminated comes back
my $pid = $node->rebuild_pid;
$node->sql("SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT worker_pid <> $pid AND state = 'ready' FROM profile_stream.stat_rebuilds"), 'a terminated one comes back');

# cancelled
$node->sql("SELECT profile_stream.cancel_rebuild('crm')");
nothing_left('cancelled');
is($node->sql("SELECT email FROM $profiles WHERE customer_id = '$balance'"), 'wrong', 'a cancelled rebuild changes nothing');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm')", qr/no rebuild of stream "crm" is under way/, 'a swap after that');
ok($node->wait_state('crm', 'running'), 'the stream runs');
$node->is_clean('cancelled');

# it ends with its stream, and with the extension
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'one more');
$node->sql("SELECT profile_stream.drop_stream('crm')");
nothing_left('dropped');
$node->create_stream('crm', $broker, 'events');
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'and another');
$node->sql('DROP EXTENSION profile_stream');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ '^profile_stream (worker|rebuild)'"),
	'DROP EXTENSION ends its worker');
is($node->sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'profile_stream_rebuild'"), '0', 'and drops the rebuild schema');

$node->stop('fast');
$broker->stop;
done_testing();
