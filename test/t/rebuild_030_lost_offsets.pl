# Where a rebuild begins to read. When the topic no longer has those messages, the rebuild stops and says so, or takes what
# is left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'kept', 2 ], [ 'late', 1 ], [ 'other', 1 ], [ 'anew', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $profiles = 'profile_stream.materialized_profiles';

# A topic that has lost its beginning.
$broker->produce('kept', [ 0, 'c0', 'bad' ], events(0, 200, customers => 2, partitions => 2, type => 'session.started'));
$node->create_stream('crm', $broker, 'kept');
ok($node->wait_taken('crm', 201), 'the stream has read everything');
$broker->delete_records('kept', 0, 51);
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('incomplete'), 'a rebuild of a topic without its beginning stops');
like($node->sql('SELECT error, hint FROM profile_stream.stat_rebuilds'), qr/partition 0 has offsets 51 to 101, the stream began at 0.*allow_missing/,
	'and says why, and what to do');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"),
	'it has no worker');
is($node->sql('SELECT profile_stream.start_streams()'), '0', 'and nothing starts it again');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm')", qr/not ready.*incomplete: partition 0/s, 'a swap of it');
is($node->sql("SELECT customer_id, version FROM $profiles ORDER BY 1"), "c0|100\nc1|100", 'the profiles are as they were');
$node->sql("SELECT profile_stream.cancel_rebuild('crm')");

# what is left is enough
$node->sql("SELECT profile_stream.rebuild('crm', allow_missing => true)");
ok($node->wait_rebuild('ready'), 'allow_missing goes on from what is left');
is($node->sql("SELECT customer_id, fields ->> 'version', fields -> 'login_history' FROM profile_stream.rebuild_diff('crm')"),
	'c0|[100, 50]|[{"sum": 100, "count": 100}, {"sum": 50, "count": 50}]', 'the difference shows what would be lost');
is($node->sql("SELECT profile_stream.swap_rebuild('crm')"), '1', 'swapped all the same');
is($node->sql("SELECT customer_id, version FROM $profiles ORDER BY 1"), "c0|50\nc1|100", 'the profiles are those of what is left');
is($node->sql('SELECT partition, start_offset, next_offset, applied FROM profile_stream_internal.stream_offsets ORDER BY 1'), "0|51|101|50\n1|0|100|100",
	'the stream counts from there');
is($node->sql("SELECT partition, from_offset, to_offset FROM profile_stream_internal.stream_gaps WHERE reason = 'rebuild'"), '0|0|51', 'and the gap is a row');
is($node->sql('SELECT kafka_offset FROM profile_stream.dead_letters'), '0', 'a dead letter of what is gone stays');
$broker->produce('kept', events(200, 20, customers => 2, partitions => 2, type => 'session.started'));
ok($node->wait_taken('crm', 170), 'the stream goes on');
is($node->sql("SELECT customer_id, version FROM $profiles ORDER BY 1"), "c0|60\nc1|110", 'exactly');

# retention that overtakes a rebuild
$node->sql("BEGIN; SELECT profile_stream.rebuild('crm'), profile_stream.pause_rebuild('crm'); COMMIT");
$node->sql("SELECT profile_stream.resume_rebuild('crm')");
ok($node->wait_rebuild('ready'), 'a rebuild of what is left is complete');
$node->sql("SELECT profile_stream.pause_rebuild('crm')");
ok($node->wait_rebuild('paused'), 'paused');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"),
	'its worker ends');
$broker->produce('kept', events(220, 20, customers => 2, partitions => 2, type => 'session.started'));
ok($node->wait_taken('crm', 190), 'the stream goes on meanwhile');
$broker->delete_records('kept', 1, 115);
$node->sql("SELECT profile_stream.resume_rebuild('crm')");
ok($node->wait_rebuild('incomplete'), 'what was deleted meanwhile stops it');
like($node->sql('SELECT error FROM profile_stream.stat_rebuilds'), qr/offset 110 is not in the topic/, 'and says what');
ok($node->wait_state('crm', 'running'), 'the stream itself runs');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm')", qr/not ready/, 'a swap of it');
$node->sql("SELECT profile_stream.cancel_rebuild('crm')");

# other streams fill the profiles too
$node->create_stream('second', $broker, 'other');
$node->sql("SELECT profile_stream.drop_stream('second')");
$node->sql("SELECT profile_stream.rebuild('crm', true)");
ok($node->wait_rebuild('ready'), 'without it');
$node->create_stream('second', $broker, 'other');
$node->fails_like("SELECT profile_stream.swap_rebuild('crm')", qr/fed by stream "second" too/, 'a swap beside a new stream');
$node->sql("SELECT profile_stream.drop_stream('second'), profile_stream.drop_stream('crm')");

# a stream that began at the end of a topic begins there again
$node->sql("TRUNCATE $profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks");
$broker->produce('late', events(1000, 30, customers => 1, partitions => 1, type => 'session.started'));
$node->create_stream('late', $broker, 'late', start_from => "'latest'");
ok($node->poll_query_until('postgres', 'SELECT start_offset = 30 FROM profile_stream_internal.stream_offsets'), 'late: begins at the end');
$broker->produce('late', events(1030, 12, customers => 1, partitions => 1, type => 'session.started'));
ok($node->wait_taken('late', 12), 'late: runs');
$node->sql("SELECT profile_stream.rebuild('late')");
ok($node->wait_rebuild('ready'), 'late: rebuilt');
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('late')"), '', 'late: from where the stream began');
is($node->sql('SELECT events_done, events_total FROM profile_stream.stat_rebuilds'), '12|12', 'late: counted from there');
$node->sql("SELECT profile_stream.drop_stream('late')");

# a topic that was created anew has lost its beginning too
$node->sql("TRUNCATE $profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks");
$broker->produce('anew', events(2000, 20, customers => 1, partitions => 1, type => 'session.started'));
$node->create_stream('anew', $broker, 'anew', on_offset_lost => "'earliest'");
ok($node->wait_taken('anew', 20), 'anew: runs');
$node->sql("SELECT profile_stream.pause_stream('anew')");
ok($node->wait_stopped('anew'), 'anew: paused');
$broker->delete_topic('anew');
$broker->create_topic('anew', 1);
$broker->produce('anew', events(2020, 5, customers => 1, partitions => 1, type => 'session.started'));
$node->sql("SELECT profile_stream.resume_stream('anew')");
ok($node->wait_taken('anew', 25), 'anew: reads the new topic');
$node->sql("SELECT profile_stream.rebuild('anew')");
ok($node->wait_rebuild('incomplete'), 'anew: a rebuild stops');
like($node->sql('SELECT error FROM profile_stream.stat_rebuilds'), qr/created anew/, 'anew: and says why');
$node->sql("SELECT profile_stream.cancel_rebuild('anew')");
$node->sql("SELECT profile_stream.rebuild('anew', true)");
ok($node->wait_rebuild('ready'), 'anew: allow_missing reads what there is');
is($node->sql("SELECT profile_stream.swap_rebuild('anew')"), '1', 'anew: swapped');
$broker->produce('anew', events(2025, 5, customers => 1, partitions => 1, type => 'session.started'));
ok($node->wait_taken('anew', 10), 'anew: goes on in the same epoch');
is($node->sql("SELECT version FROM $profiles"), '10', 'anew: exactly');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
