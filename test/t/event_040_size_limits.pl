# Limits on what a producer may cost. A record that is too large, also after decompression, becomes a dead letter that
# keeps its beginning. What librdkafka refuses to read is reported until somebody seeks past it. The bytes of all dead
# letters together are bounded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $node = ProfileStream::Node->start_new('main');
my $broker = ProfileStream::Broker->new(topics => [ [ 'large', 1 ], [ 'many', 1 ], [ 'refused', 2 ], [ 'letters', 1 ], [ 'ids', 1 ] ]);

# A row with an event of customer c: its id, more members, its partition.
sub row
{
	my ($id, $more, $partition) = @_;
	return [ $partition // 0, 'k', event($id, 'c', more => $more) ];
}

# Produces a record of so many bytes, or of so many bytes of headers.
sub bomb
{
	my ($topic, @arguments) = @_;
	my ($out, $err);
	IPC::Run::run([ ProfileStream::Broker::tool('bomb.py'), $broker->bootstrap, $topic, @arguments ], '>', \$out, '2>', \$err);
	is($out, "0\n", "@arguments: Kafka takes it") or diag($err);
}

# More than may be copied, by any codec; and around the limit.
my $limit = 100_000;
$node->sql("ALTER SYSTEM SET profile_stream.max_event_bytes = '${limit}B'");
$node->reload;
$broker->produce('large', row('before'));
bomb('large', 200_000_000, 'gzip');
bomb('large', 200_000_000, 'zstd');
bomb('large', 300_000, 'gzip', 300);
bomb('large', 2_000_000, 'gzip', 200_000);
my $just = row('just', ',"payload":{"x":""}');
$just->[2] =~ s/"x":""/'"x":"' . 'x' x ($limit - length($just->[2])) . '"'/e;
my $over = row('over', ',"payload":{"x":""}');
$over->[2] =~ s/"x":""/'"x":"' . 'x' x ($limit + 1 - length($over->[2])) . '"'/e;
my $whole = row('key')->[2];
my $size = length($whole);
$broker->produce('large', $just, $over, [ 0, 'k' x 20_000, $whole ], row('after'));
$node->create_stream('large', $broker, 'large');
ok($node->wait_taken('large', 9), 'everything is read');
is($node->sql('SELECT applied, dead FROM profile_stream.stat_streams'), '3|6', 'what comes before, between and behind is applied');
is($node->sql("SELECT kafka_offset, length(value), value_size, length(key), coalesce(jsonb_array_length(headers), 0), errors[1] FROM profile_stream.dead_letters ORDER BY 1"), <<"END" =~ s/\n$//r, 'the begin is kept, with what it was');
1|65536|200000000|1|0|Event too large: 200000000 bytes (the limit is $limit), of which the first 65536 are kept
2|65536|200000000|1|0|Event too large: 200000000 bytes (the limit is $limit), of which the first 65536 are kept
3|2||1|65|Too many or too large headers: 300, of which the first 65 are kept
4|2||1|0|Headers that cannot be read
6|65536|100001|1|0|Event too large: 100001 bytes (the limit is $limit), of which the first 65536 are kept
7|$size||16384|0|Key too large: 20000 bytes, of which the first 16384 are kept
END
is($node->sql('SELECT count(value::text) FROM profile_stream.dead_letters'), 6, 'and can be read');
is($node->sql("SELECT applied, failed FROM profile_stream.retry_dead_letters()"), '1|5', 'a retry applies what is whole but for its key');

# its identity is what it was when the limit has changed
$node->sql("ALTER SYSTEM SET profile_stream.max_event_bytes = '1MB'");
$node->reload;
$node->restart;
$broker->produce('large', row('later'));
ok($node->wait_taken('large', 10), 'after a restart with another limit it goes on');
is($node->sql("SELECT state, error FROM profile_stream.stat_partitions"), 'running|', 'and takes the topic for the same');
$node->sql("SELECT profile_stream.drop_stream('large')");

# Several in a row are in memory one after the other.
$broker->produce('many', row('many1'));
bomb('many', 100_000_000, 'gzip') foreach 1 .. 6;
$broker->produce('many', row('many2'));
$node->create_stream('many', $broker, 'many');
ok($node->wait_taken('many', 8), 'many: everything is read');
my ($peak) = slurp_file('/proc/' . $node->stream_pid('many') . '/status') =~ /^VmHWM:\s+(\d+) kB/m;
cmp_ok($peak, '<', 400_000, 'many: the worker never held more than few of them');
$node->sql("SELECT profile_stream.drop_stream('many')");

# What librdkafka refuses: shown as the partition's error, past everything that comes before, and can be gone past.
$node->sql('TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks');
$broker->produce('refused', row('r1'), row('r2'));
bomb('refused', 20_000_000, 'zstd');
$broker->produce('refused', row('r3'), row('r4'), row('r5', '', 1));
$node->create_stream('refused', $broker, 'refused', options => q('{"receive.message.max.bytes": "3000000"}'));
ok($node->poll_query_until('postgres', 'SELECT error IS NOT NULL FROM profile_stream.stat_partitions WHERE partition = 0'), 'refused: an error');
ok($node->wait_taken('refused', 3), 'refused: what comes before, and other partitions, are applied');
like($node->sql('SELECT error FROM profile_stream.stat_partitions WHERE partition = 0'), qr/^the batch of messages at offset 2 cannot be read: .*compress/, 'refused: which, and why');
is($node->sql('SELECT error FROM profile_stream.stat_partitions WHERE partition = 1'), '', 'refused: not of the other partition');
like($node->sql('SELECT error, hint FROM profile_stream.stat_streams'), qr/^partition 0: the batch.*\|.*seek_stream/, 'refused: the stream says so, with a hint');
# the look-ups that find all well do not wipe it: the client asks again, and so is refused again
$broker->produce('refused', row('r6', '', 1));
ok($node->wait_taken('refused', 4), 'refused: the other partition goes on');
is($node->sql('SELECT state, applied, lag, error IS NOT NULL FROM profile_stream.stat_streams'), 'running|4|3|t', 'refused: it stays');
$node->sql("SELECT profile_stream.pause_stream('refused')");
ok($node->wait_stopped('refused'), 'refused: paused');
$node->sql("SELECT profile_stream.seek_stream('refused', '{\"0\": 3}')");
$node->sql("SELECT profile_stream.resume_stream('refused')");
ok($node->wait_taken('refused', 6), 'refused: gone past');
is($node->sql('SELECT applied, dead, lag, error FROM profile_stream.stat_streams'), '6|0|0|', 'refused: nothing else is missing, and no error is left');
is($node->sql('SELECT partition, from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps'), '0|2|3|seek', 'refused: the gap is recorded');
# a rebuild goes past it too
$node->sql("SELECT profile_stream.rebuild('refused')");
ok($node->wait_rebuild('ready'), 'refused: a rebuild goes past it, too') or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
is($node->sql("SELECT count(*) FROM profile_stream.rebuild_diff('refused')"), 0, 'refused: and comes to the same');
$node->sql("SELECT profile_stream.cancel_rebuild('refused')");
$node->sql("SELECT profile_stream.drop_stream('refused')");

# Bad messages neither pause a stream nor fill the disk.
$node->sql('TRUNCATE profile_stream_internal.dead_letters');
$node->sql("ALTER SYSTEM SET profile_stream.dead_letter_bytes = '2MB'");
$node->reload;
my @bad = map { [ 0, 'k', join('', map { chr(33 + int(rand(90))) } 1 .. 100_000) ] } 1 .. 50;
$broker->produce('letters', (map { row("l$_") } 1 .. 10), @bad, (map { [ 0, 'k', 'bad' ] } 1 .. 300), row('l11'));
$node->sql("SELECT profile_stream.apply_event('{\"eventId\": \"none\"}')");
$node->create_stream('letters', $broker, 'letters');
ok($node->wait_taken('letters', 361), 'letters: everything is read');
ok($node->poll_query_until('postgres', "SELECT sum(pg_column_size(value)) < 2 * 1024 * 1024 FROM profile_stream.dead_letters WHERE stream = 'letters'"), 'letters: bounded');
is($node->sql('SELECT state, applied, dead FROM profile_stream.stat_streams'), 'running|11|350', 'letters: the stream goes on');
cmp_ok($node->sql("SELECT count(*) FROM profile_stream.dead_letters WHERE stream = 'letters'"), '>', 300, 'letters: the newest stay');
is($node->sql('SELECT count(*) FROM profile_stream.dead_letters WHERE stream IS NULL'), 1, 'letters: others do not go');
like(slurp_file($node->logfile), qr/WARNING:  dead letters of stream "letters" take more than/, 'letters: the log says so');
$node->sql("SELECT profile_stream.drop_stream('letters')");

# Who an event is: ids of two streams, seconds.
$broker->produce('ids', map { [ 0, 'k', qq({"eventId": "$_", "customerId": "ids", "eventType": "seen", "timestamp": 1767225600}) ] } 1, 2, 1);
foreach my $stream ([ 'shared', 'customer' ], [ 'shared_too', 'customer' ], [ 'own', 'stream' ], [ 'own_too', 'stream' ])
{
	$node->create_stream($stream->[0], $broker, 'ids', event_id_scope => "'$stream->[1]'", timestamp_unit => "'seconds'", group_id => "'$stream->[0]'");
	ok($node->wait_taken($stream->[0], 3), "$stream->[0]: everything is read");
}
is($node->sql("SELECT string_agg(concat_ws(' ', stream, applied, duplicates), ', ' ORDER BY stream) FROM profile_stream.stat_streams"),
	'own 2 1, own_too 2 1, shared 2 1, shared_too 0 3', 'ids are shared, or a stream\'s own');
is($node->sql("SELECT version, updated_at AT TIME ZONE 'UTC' FROM profile_stream.materialized_profiles WHERE customer_id = 'ids'"), '6|2026-01-01 00:00:00', 'seconds are seconds');
is($node->sql("SELECT outcome FROM profile_stream_internal.retry_events(ARRAY['{\"eventId\": \"1\", \"customerId\": \"ids\", \"eventType\": \"seen\", \"timestamp\": \"2026-01-01\"}'::jsonb],
	604800000000, (SELECT stream_id FROM profile_stream.streams WHERE name = 'own'))"), 'duplicate', 'a repair knows them');

$node->is_clean('end');
$node->stop;
$broker->stop;
done_testing();
