# A stream of several topics: one order over all of them, as an independent model has it, also after kill -9; formats by
# topic; a topic that is missing, vanishes or joins by pattern; seeks, waits and rebuilds that know topics. PS_SEED
# repeats a run.

use strict;
use warnings;

use FindBin;
use MIME::Base64 ();
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event events);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $broker = ProfileStream::Broker->new(topics => [ [ 'orders', 4 ], [ 'visits', 4 ], [ 'a', 2 ], [ 'b', 2 ], [ 'crm.one', 1 ], [ 'crm.changes', 1 ], [ 'other', 1 ], [ 'left', 1 ], [ 'right', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $fast = q('{"topic.metadata.refresh.interval.ms": 500}');
my $empty = 'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters';

sub wait_for
{
	my ($sql, $name) = @_;
	ok($node->poll_query_until('postgres', $sql), $name) or diag($node->sql('SELECT * FROM profile_stream.stat_topics', 'SELECT * FROM profile_stream.stat_partitions', 'SELECT stream, state, error FROM profile_stream.stat_streams'));
}

sub applied_of
{
	my ($stream, $topic, $n, $name) = @_;
	wait_for("SELECT applied = $n FROM profile_stream.stat_topics WHERE stream = '$stream' AND topic = '$topic'", $name);
}

sub drop
{
	my ($stream) = @_;
	$node->sql("SELECT profile_stream.drop_stream('$stream')");
	ok($node->wait_worker(0), "$stream: dropped");
	$node->sql($empty);
}

# Events of a customer are in both topics, and out of order in each. Their order is that of their timestamps.
my $events = ProfileStream::Node::generate(seed => $seed, events => $ENV{PS_EVENTS} // 20_000, customers => 500);
my %of = map { $_ => "$events->{dir}/$_" } qw(orders visits);
my %handles = map { open(my $handle, '>', $of{$_}) or die $!; ($_ => $handle) } keys %of;
open(my $all, '<', $events->{files}[0]) or die $!;
while (my $line = <$all>)
{
	# events of one id may differ, and then the first one counts: they come in one topic
	my ($id) = MIME::Base64::decode_base64((split(/\t/, $line))[2]) =~ /"eventId": ?"([^"]*)"/;
	print { $handles{ unpack('%32C*', $id // $line) % 10 < 3 ? 'orders' : 'visits' } } $line;
}
close($_) or die $! foreach values %handles;
$broker->produce_file($_, $of{$_}) foreach sort keys %of;
my $sorted = { %$events, files => [ map { "$_=$of{$_}" } sort keys %of ] };

$node->create_stream('model', $broker, [qw(orders visits)], reorder_wait => q('4 s'), reorder_buffer_size => 100_000);
wait_for("SELECT sum(consumed) > 0 FROM profile_stream.stat_topics", 'the stream reads');
ok($node->kill_process($node->worker_pid), 'its worker is killed');
ok($node->wait_taken('model', $events->{events}), 'every message is taken');
$node->equals_model('model', $sorted, 'two topics, after kill -9', model => ['--sort'], effects => 1);
is($node->sql("SELECT string_agg(topic || ':' || partitions, ' ' ORDER BY topic) FROM profile_stream.stat_topics WHERE stream = 'model'"),
	'orders:4 visits:4', 'both topics have their partitions');
is($node->sql("SELECT count(*) FROM (SELECT partition FROM profile_stream.stat_partitions WHERE stream = 'model' GROUP BY partition HAVING count(DISTINCT worker_pid) > 1) p"),
	'0', 'partitions of one number are read by one worker');

# a rebuild reads all topics, and comes to the same
my $profiles = "SELECT count(*), sum(hashtextextended(concat_ws('|', customer_id, version, first_name, last_name, email, phone, total_balance, account_count, event_counts, last_login_at, last_transaction_at, preferred_channel), 0)) FROM profile_stream.materialized_profiles";
my $live = $node->sql($profiles);
$node->sql("SELECT profile_stream.rebuild('model')");
ok($node->wait_rebuild('ready'), 'the rebuild is ready');
$node->sql("SELECT profile_stream.pause_rebuild('model')");
wait_for(q(SELECT state = 'paused' FROM profile_stream.stat_rebuilds), 'the rebuild is paused, and has applied what it held');
$node->sql("SELECT profile_stream.resume_rebuild('model')");
ok($node->wait_rebuild('ready'), 'the rebuild is ready again');
$node->sql("SELECT profile_stream.swap_rebuild('model')");
is($node->sql($profiles), $live, 'the rebuilt profiles are those of the stream');
drop('model');

# What piled up is read side by side: an event that came after another one in Kafka is not applied before it. The topics
# would come one after the other otherwise, and with no tolerance nearly all events of one would be late.
my $second = 0;
foreach my $round (1 .. 15)
{
	foreach my $topic (qw(left right))
	{
		$broker->produce($topic, map { $second++; [ 0, 'c', event("s$second", 'c', timestamp => (1_767_225_600 + $second) * 1000) ] } 1 .. 200);
	}
}
$node->create_stream('beside', $broker, [qw(left right)], late_tolerance => q('0'));
ok($node->wait_taken('beside', $second), 'all that piled up is taken');
is($node->sql("SELECT sum(applied), sum(late) FROM profile_stream.stat_topics"), "$second|0", 'in the order in which it came');
drop('beside');

# each topic has its format; offsets, waits and seeks are by topic
my $number = 0;
$broker->produce('a', events(\$number, 10, customer => 'c'));
$broker->produce('b', map { [ 0, 'c', qq({"id":"b$_","who":"c","what":"order","at":1767225600,"data":{"n":$_}}) ] } 1 .. 5);
$node->create_stream('formats', $broker, [qw(a b)], options => $fast,
	topic_formats => q('{"b": {"format": "custom", "timestamp_unit": "seconds", "field_map": {"eventId": "$.id", "customerId": "$.who", "eventType": "$.what", "timestamp": "$.at", "payload": "$.data"}}}'));
$node->sql("SELECT profile_stream.wait_for_offset('formats', 0, 4, topic => 'b')");
$node->sql("SELECT profile_stream.wait_for_stream('formats')");
is($node->sql("SELECT event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'c'"), '{"seen": 10, "order": 5}', 'both formats are read');
is($node->sql("SELECT format FROM profile_stream.stat_topics WHERE stream = 'formats' ORDER BY topic"), "profile_event\ncustom", 'stat_topics says which');
$node->sql("SELECT profile_stream.pause_stream('formats')");
ok($node->wait_stopped('formats'), 'paused');
$node->fails_like("SELECT profile_stream.seek_stream('formats', '{\"0\": 2}')", qr/several topics/, 'offsets are of one topic');
$node->sql("SELECT profile_stream.seek_stream('formats', '{\"0\": 2}', topic => 'b')");
is($node->sql("SELECT topic, next_offset FROM profile_stream.stat_partitions WHERE stream = 'formats' AND partition = 0 ORDER BY 1"), "a|10\nb|2", 'only that topic moves');
is($node->sql("SELECT topic FROM profile_stream.stat_partitions WHERE stream = 'formats' AND gaps IS NOT NULL"), 'b', 'the gap is of that topic');
$node->sql("SELECT profile_stream.seek_stream('formats', 'latest')", "SELECT profile_stream.resume_stream('formats')");
$node->sql("SELECT profile_stream.wait_for_stream('formats')");
is($node->sql("SELECT topic, next_offset FROM profile_stream.stat_partitions WHERE stream = 'formats' AND partition = 0 ORDER BY 1"), "a|10\nb|5", 'a word moves all topics');

# a topic that is taken up later begins as start_from says, one that is left keeps its offsets
$broker->produce('other', events(\$number, 3, customer => 'c'));
$node->sql("SELECT profile_stream.alter_stream('formats', topics => '{a,other}')");
applied_of('formats', 'other', 3, 'a topic that alter_stream() adds is read from its beginning');
is($node->sql("SELECT topic, state FROM profile_stream.stat_topics WHERE stream = 'formats' ORDER BY 1"), "a|running\nb|left\nother|running", 'the other one is left');
$broker->produce('b', [ 0, 'c', qq({"id":"b6","who":"c","what":"order","at":1767225600,"data":{}}) ]);
$broker->produce('a', events(\$number, 1, customer => 'c'));
applied_of('formats', 'a', 11, 'the first topic is read on');
applied_of('formats', 'b', 5, 'the one that is left is not read');

# what came from a topic that is left cannot be rebuilt, unless that is allowed
$node->sql("SELECT profile_stream.rebuild('formats')");
wait_for(q(SELECT state = 'incomplete' AND error = 'the stream does not read topic "b" any more' FROM profile_stream.stat_rebuilds), 'a rebuild says which topic is left');
$node->sql("SELECT profile_stream.cancel_rebuild('formats')", "SELECT profile_stream.rebuild('formats', allow_missing => true)");
ok($node->wait_rebuild('ready'), 'a rebuild without it is ready');
is($node->sql("SELECT profile_stream.swap_rebuild('formats', '20 s')"), '1', 'and is swapped in');
is($node->sql("SELECT event_counts FROM profile_stream.materialized_profiles"), '{"seen": 14}', 'the profile has no events of that topic');
$node->sql("SELECT profile_stream.alter_stream('formats', topics => '{a,b,other}')");
applied_of('formats', 'b', 6, 'it goes on where it was');
drop('formats');

# what is held of a topic that is left waits for the topic, and nobody waits for it
$node->create_stream('leaving', $broker, [qw(a visits)], options => $fast, reorder_wait => q('5 minutes'), reorder_buffer_size => 100_000);
wait_for("SELECT count(*) = 2 FROM profile_stream.stat_partitions WHERE topic = 'visits' AND partition > 1 AND held > 0", 'events are held');
$node->sql("SELECT profile_stream.alter_stream('leaving', topics => '{a}')");
wait_for("SELECT state = 'left' FROM profile_stream.stat_topics WHERE topic = 'visits'", 'their topic is left');
wait_for("SELECT count(*) = 0 FROM profile_stream.stat_partitions WHERE topic = 'visits' AND partition > 1 AND worker_pid IS NOT NULL", 'nobody reads its partitions');
wait_for("SELECT held = 11 FROM profile_stream.stat_topics WHERE topic = 'a'", 'the other topic is read again');
$node->sql("SELECT profile_stream.flush_stream('leaving', timeout => '20 s')");
applied_of('leaving', 'a', 11, 'flush_stream() applies what is held of the other topic');
drop('leaving');

# to leave a topic is a way out of one whose events the database refuses
$node->sql(q(CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.customer_id = 'refused' THEN RAISE insufficient_privilege; END IF; RETURN NEW; END $$),
	'CREATE TRIGGER refuse BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION refuse()');
$broker->create_topic('refused', 1);
$broker->produce('refused', [ 0, 'refused', event('r1', 'refused') ]);
$node->create_stream('suspect', $broker, [qw(a refused)], options => $fast);
ok($node->wait_state('suspect', 'retrying'), 'a message cannot be applied');
$node->sql("SELECT profile_stream.alter_stream('suspect', topics => '{a}')");
applied_of('suspect', 'a', 11, 'without its topic the other one is read');
ok($node->wait_state('suspect', 'running'), 'and the stream is well');
$node->sql('DROP FUNCTION refuse CASCADE');
drop('suspect');

# a topic that does not exist stops no other, and is said
$node->create_stream('missing', $broker, [qw(a later)], options => $fast);
applied_of('missing', 'a', 11, 'the topic that exists is read');
wait_for("SELECT state = 'missing' AND error = 'the topic does not exist' AND since IS NOT NULL AND hint ~ 'Create' FROM profile_stream.stat_topics WHERE topic = 'later'", 'the other one is missing');
is($node->sql("SELECT state, error, hint FROM profile_stream.stat_streams"), 'running|topic "later": the topic does not exist|The other topics are read on. See stat_topics.', 'the stream runs, and says it');
$node->sql("UPDATE profile_stream_internal.stream_topics SET since = since - interval '2 minutes' WHERE topic = 'later'");
is($node->sql("SELECT status, subject, action ~ 'Create the topic' FROM profile_stream.health() WHERE subject ~ 'topic'"), 'warning|topic "later" of stream "missing"|t', 'and health() says it');
$broker->create_topic('later', 1);
$broker->produce('later', events(\$number, 4, customer => 'd'));
applied_of('missing', 'later', 4, 'it is found when it comes');
is($node->sql("SELECT from_state, to_state FROM profile_stream.stream_log WHERE what = 'topic' AND part = 'later' ORDER BY log_id"), "running|missing\nmissing|running", 'the log has both');

# one that vanishes stops no other either, and is read from its new beginning when it comes back
$broker->delete_topic('later');
$broker->produce('a', events(\$number, 2, customer => 'c'));
applied_of('missing', 'a', 13, 'the other topic is read on while one vanishes');
wait_for("SELECT state = 'missing' FROM profile_stream.stat_topics WHERE topic = 'later'", 'it is missing');
$broker->produce('a', events(\$number, 2, customer => 'c'));
applied_of('missing', 'a', 15, 'and after it vanished');
drop('missing');

# topics join by themselves, from their beginning; what the stream writes does not
$broker->produce('crm.one', events(\$number, 2, customer => 'c'));
$node->create_stream('pattern', $broker, undef, topic_pattern => q('^crm\\.'), start_from => q('latest'), changelog_topic => q('crm.changes'), options => $fast);
wait_for("SELECT count(*) = 1 FROM profile_stream.stat_partitions WHERE stream = 'pattern'", 'the topic that there is, is found');
$broker->produce('crm.one', events(\$number, 3, customer => 'c'));
applied_of('pattern', 'crm.one', 3, 'it is read as start_from says');
$broker->create_topic('crm.two', 2);
$broker->produce('crm.two', events(\$number, 5, customer => 'c', partitions => 2));
applied_of('pattern', 'crm.two', 5, 'a new topic is read from its beginning');
ok($node->wait_sink('pattern', "backlog = 0 AND state <> 'retrying'", 'changelog'), 'the changelog is written');
$node->sql("SELECT profile_stream.pause_stream('pattern')");
ok($node->wait_stopped('pattern'), 'paused');
$broker->create_topic('crm.three', 1);
$broker->produce('crm.three', events(\$number, 4, customer => 'c'));
$node->sql("SELECT profile_stream.resume_stream('pattern')");
applied_of('pattern', 'crm.three', 4, 'so is one that came while the stream was paused');
is($node->sql("SELECT string_agg(topic, ' ' ORDER BY topic) FROM profile_stream.stat_topics WHERE stream = 'pattern'"), 'crm.one crm.three crm.two', 'no other topic joined');
drop('pattern');

$node->stop('fast');
$broker->stop;
done_testing();
