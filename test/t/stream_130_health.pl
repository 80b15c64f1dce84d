# A stream with too many dead letters is paused. A stream whose workers die again and again is quarantined. What has expired
# is removed, a little at a time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'bad', 1 ], [ 'mixed', 1 ], [ 'few', 1 ], [ 'dies', 1 ], [ 'events', 1 ], [ 'idle', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

# So many messages, every so many-th of which is bad.
sub messages
{
	my ($name, $n, $every) = @_;
	return map { [ 0, 'k', $every && $_ % $every == 0 ? "bad $_"
			: qq({"eventId":"$name$_","customerId":"c$_","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ] } 1 .. $n;
}

sub call { return $node->safe_psql('postgres', "SELECT profile_stream.$_[0]"); }
sub shown { return $node->safe_psql('postgres', "SELECT $_[1] FROM profile_stream.stat_streams WHERE stream = '$_[0]'"); }

# too many dead letters
$broker->produce('bad', messages('bad', 500, 3));
$node->create_stream('bad', $broker, 'bad', batch_size => 100, dead_letter_pause_ratio => 0.2);
ok($node->wait_state('bad', 'paused'), 'a third of dead letters: paused');
ok($node->wait_stopped('bad'), 'a third of dead letters: the worker ends');
my ($dead, $all) = shown('bad', 'error') =~ /^(\d+) of (\d+) messages of this minute became dead letters$/;
cmp_ok($dead // 0, '>=', 30, 'a third of dead letters: the reason is shown');
cmp_ok($all // 1000, '<', 500, 'a third of dead letters: before all were read');
like(shown('bad', 'hint'), qr/resume_stream.*dead_letter_pause_ratio/, 'a third of dead letters: with a hint');
is($node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.dead_letters WHERE stream = 'bad'"), $dead,
	'a third of dead letters: each is a row');
call("alter_stream('bad', dead_letter_pause_ratio => 1)");
is(shown('bad', 'state'), 'paused', 'altered: it stays paused');
call("resume_stream('bad')");
ok($node->wait_taken('bad', 500), 'resumed: it goes on to the end');
is(shown('bad', 'applied, dead'), '334|166', 'resumed: nothing lost or twice');
is(shown('bad', 'error IS NULL'), 't', 'resumed: the reason is gone');

# not so many, or too few to tell
$broker->produce('mixed', messages('mixed', 1_000, 6));
$node->create_stream('mixed', $broker, 'mixed', batch_size => 100);
ok($node->wait_taken('mixed', 1_000), 'a sixth of dead letters: not paused');
$broker->produce('few', messages('few', 50, 2));
$node->create_stream('few', $broker, 'few');
ok($node->wait_taken('few', 50), 'half of fifty messages: not paused');

# workers that come to nothing
call("drop_stream('$_')") foreach qw(bad mixed few);
ok($node->wait_worker(0), 'the others are gone');

$node->create_stream('idle', $broker, 'idle');
ok($node->wait_state('idle', 'running'), 'a stream without messages runs');
SKIP:
{
	skip 'built without failpoints', 1 unless $node->has_failpoints;
	foreach my $action ('fatal', 'kill')
	{
		my $from = -s $node->logfile;
		my $before = $node->taken('dies') || 0;

		$node->safe_psql('postgres', 'ALTER SYSTEM SET profile_stream.worker_restart_limit = 3');
		$node->reload;
		$node->set_failpoint("after_lock:$action");
		$broker->produce('dies', messages("dies $action ", 10));
		# the server may go down before the call is answered
		$before ? $node->psql('postgres', "SELECT profile_stream.resume_stream('dies')") : $node->create_stream('dies', $broker, 'dies');
		ok($node->wait_state('dies', 'quarantined'), "$action: quarantined");
		ok($node->wait_state('idle', 'running'), "$action: another stream is not");
		$node->wait_alive;
		ok($node->wait_stopped('dies'), "$action: nothing runs");
		like(shown('dies', 'error'), qr/^the last \d+ attempts of workers failed$/, "$action: the view says why");
		like(shown('dies', 'hint'), qr/log.*resume_stream/, "$action: and what to do");
		$node->set_failpoint('');
		$node->restart;
		ok($node->wait_state('dies', 'quarantined'), "$action: quarantined still after a restart");
		my $deaths = () = slurp_file($node->logfile, $from) =~ /was terminated by signal 9/g;
		$node->expect_signals($deaths);
		cmp_ok($deaths, '<=', 6, "$action: the server went down a few times only");
		call("resume_stream('dies')");
		ok($node->wait_taken('dies', $before + 10), "$action: resumed, it goes on");
		call("pause_stream('dies')");
		ok($node->wait_stopped('dies'), "$action: paused");
	}
	is(shown('dies', 'applied, duplicates'), '20|0', 'nothing lost or twice');
}

# what has expired goes; a worker begins with it when it starts
$broker->produce('events', messages('events', 100));
$node->create_stream('events', $broker, 'events');
ok($node->wait_taken('events', 100), 'the stream runs');
$node->safe_psql('postgres', <<'END');
INSERT INTO profile_stream_internal.event_id_chunks SELECT 'old' || i, 1, now() - interval '7 days 1 minute', '0123456789' FROM generate_series(1, 30000) i;
INSERT INTO profile_stream_internal.event_id_chunks SELECT 'new' || i, 1, now() - interval '6 days 23 hours', '0123456789' FROM generate_series(1, 30000) i;
SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', i, 'customerId', 'sampled', 'eventType', 'transaction.completed',
	'payload', jsonb_build_object('amount', i), 'timestamp', timestamptz '2025-01-01Z' + i * interval '1 hour'))) FROM generate_series(1, 200) i;
UPDATE profile_stream_internal.dead_letters SET dead_at = now() - interval '2 days' WHERE stream = 'bad' AND dead_letter_id % 2 = 0;
END
my $old_letters = $node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.dead_letters WHERE dead_at < now() - interval '1 day'");
my $letters = $node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.dead_letters');
my $trend = "SELECT md5(string_agg(t::text, ',' ORDER BY day)) FROM profile_stream.metric_trend('sampled', 'total_transaction_value_30d', '2025-01-01', '2025-02-01') t";
my $before = $node->safe_psql('postgres', $trend);
cmp_ok($old_letters, '>', 10, 'there are dead letters to discard');
is($node->safe_psql('postgres', 'SELECT count(*) > 2 AND bool_and(samples IS NOT NULL) FROM profile_stream_internal.window_chunks'), 't',
	'there are samples to fold');
$node->safe_psql('postgres', 'ALTER SYSTEM SET profile_stream.dead_letter_retention = \'1 d\'');
$node->reload;
call("pause_stream('events')");
ok($node->wait_stopped('events'), 'paused');
call("resume_stream('events')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM profile_stream_internal.event_id_chunks WHERE customer_id LIKE 'old%'"),
	'expired event ids go');
is($node->safe_psql('postgres', "SELECT count(*) FROM profile_stream_internal.event_id_chunks WHERE customer_id LIKE 'new%'"), '30000', 'others stay');
ok($node->poll_query_until('postgres', 'SELECT count(*) = ' . ($letters - $old_letters) . ' FROM profile_stream.dead_letters'),
	'expired dead letters go, others stay');
ok($node->poll_query_until('postgres', 'SELECT bool_and(samples IS NULL) FROM profile_stream_internal.window_chunks'), 'expired samples become days');
is($node->safe_psql('postgres', $trend), $before, 'and the trend is what it was');
$broker->produce('events', messages('more', 10));
ok($node->wait_taken('events', 110), 'the stream goes on');

# every connection taken: streams go on, also a worker that starts meanwhile
my @sessions;
my $max = $node->safe_psql('postgres', 'SHOW max_connections');
my $pid = $node->stream_pid('events');
my $session = $node->background_psql('postgres');
push @sessions, $session;
foreach (2 .. $max)
{
	my ($rc) = $node->psql('postgres', 'SELECT 1');
	last if $rc != 0;
	push @sessions, $node->background_psql('postgres');
}
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT 1');
like($err, qr/too many clients|remaining connection slots/, 'connections are exhausted');
$session->query_safe("SELECT pg_terminate_backend($pid)");
$broker->produce('events', messages('crowd', 20));
my $taken = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$taken = $session->query_safe("SELECT applied FROM profile_stream.stat_streams WHERE stream = 'events'");
	last if $taken >= 130;
	select(undef, undef, undef, 0.1);
}
is($taken, '130', 'connections are exhausted: a new worker applies');
$_->quit foreach @sessions;

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
