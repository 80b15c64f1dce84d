# A rebuild whose topics or companions are not there: a topic that does not answer is not taken for one that is gone; a
# topic that the stream left meanwhile is named at once; an error names the stream that has it; rebuilds of two
# streams that cannot see each other say so; and to drop one of them ends both.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $refused = 29;    # the error of Kafka that a topic may not be read
my $broker = ProfileStream::Broker->new(mock => 1, topics => [ map { [ $_, 1 ] } qw(a b other) ]);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;
my $fast = q('{"topic.metadata.refresh.interval.ms": 200}');

sub produce { my ($topic, $n) = @_; $broker->produce($topic, events(\$number, $n, customer => "of $topic")); }

sub rebuild_states
{
	my ($states, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT string_agg(stream || ':' || state, ' ' ORDER BY stream) = '$states' FROM profile_stream.stat_rebuilds"), $name)
	  or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
}

$node->sql(slurp_file("$FindBin::RealBin/../functions.sql"));
produce($_, 3) foreach qw(a b other);
$node->create_stream('two', $broker, [qw(a b)], options => $fast);
ok($node->wait_taken('two', 6), 'the stream has read both topics');

# a topic that does not answer
$broker->set_topic_error('b', $refused);
$node->sql("SELECT profile_stream.rebuild('two')");
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'topic \"b\" does not answer: .*authorization failed' AND hint ~ 'ACLs' FROM profile_stream.stat_rebuilds"), 'a rebuild waits for a topic that does not answer, and says so')
  or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
$broker->set_topic_error('b', 0);
rebuild_states('two:ready', 'it gets ready when the topic answers');
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('two')"), '', 'with all of both topics');

# the stream leaves a topic of which the rebuild has not all
$node->sql("SELECT profile_stream.pause_rebuild('two')");
rebuild_states('two:paused', 'paused');
produce('b', 2);
ok($node->wait_taken('two', 8), 'the stream goes on');
$node->sql("SELECT profile_stream.alter_stream('two', topics => '{a}')", "SELECT profile_stream.resume_rebuild('two')");
rebuild_states('two:ready', 'ready without the topic that was left');
$node->fails_like("SELECT profile_stream.swap_rebuild('two')", qr/lacks messages of partition 0 of topic "b", which the stream does not read any more.*cancel_rebuild/s, 'a swap says at once what is missing');
$node->sql("SELECT profile_stream.alter_stream('two', topics => '{a,b}')");
is($node->sql("SELECT profile_stream.swap_rebuild('two')"), '0', 'it can be swapped in once the topic is read again');

# an error names the stream that has it
$node->create_stream('one', $broker, 'other', options => $fast);
ok($node->wait_taken('one', 3), 'another stream');
$broker->set_topic_error('b', $refused);
$node->sql("SELECT profile_stream.rebuild('one')");
rebuild_states('one:running two:retrying', 'one of two does not get on');
$node->fails_like("SELECT profile_stream.swap_rebuild('one')", qr/the rebuild of stream "two" is not ready.*does not answer/s, 'a swap names the other one');
$broker->set_topic_error('b', 0);
rebuild_states('one:ready two:ready', 'both are ready');
$node->sql("SELECT profile_stream.cancel_rebuild('one')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"), 'cancelled');

# no shared memory by which they could see each other
my $taker = $node->background_psql('postgres');
cmp_ok($taker->query_safe('SELECT testing.take_segments()'), '>', 0, 'shared memory is taken');
$node->sql("SELECT profile_stream.rebuild('one')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream.stat_rebuilds WHERE state = 'retrying' AND error ~ 'no shared memory segment is free'"), 'both say what is missing')
  or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
$taker->quit;
rebuild_states('one:ready two:ready', 'and go on when there is some');
is($node->sql("SELECT profile_stream.swap_rebuild('two')"), '0', 'the rebuilt profiles are those of the streams');

# a stream that is dropped ends the rebuild, although that of another stream hangs in the query of a backfill
$node->sql('CREATE TABLE public.naps AS SELECT 0 AS seconds',
	q(CALL profile_stream.backfill('two', 'SELECT ''o1'' AS event_id, ''old'' AS customer_id, ''seen'' AS event_type, ''2026-01-01Z''::timestamptz AS event_time FROM public.naps n, pg_catalog.pg_sleep(n.seconds)')),
	'UPDATE public.naps SET seconds = 3600', "SELECT profile_stream.rebuild('one')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild' AND wait_event = 'PgSleep'"), 'the rebuild of one stream hangs');
$node->sql("SELECT profile_stream.drop_stream('one')");
is($node->sql('SELECT count(*) FROM profile_stream.stat_rebuilds'), '0', 'the other one is dropped, and the rebuild is over');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"), 'and its processes');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
