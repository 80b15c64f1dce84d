# A stream holds events for reordering while it is rebuilt. The rebuild holds them too, and the swap takes them over.
# PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $block = 4_200;
my $rounds = 6;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $block * $rounds,
	customers => $ENV{PS_CUSTOMERS} // 400,
	block => $block,
	parts => $rounds);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $profiles = 'profile_stream.materialized_profiles';
my $produced = 0;

sub produce_block
{
	$broker->produce_file('events', $events->{files}[ $produced++ ]);
	ok($node->wait_read('order', $block * $produced), "block $produced is read");
}

# Rebuilds while the stream holds events.
sub rebuilt
{
	my ($name) = @_;
	$node->sql("SELECT profile_stream.rebuild('order')");
	ok($node->wait_rebuild('ready'), "$name: a rebuild that holds events is ready");
	ok($node->poll_query_until('postgres', 'SELECT sum(held) > 0 FROM profile_stream_internal.stream_offsets'), "$name: the stream holds events");
	ok($node->poll_query_until('postgres', 'SELECT sum(held) > 0 FROM profile_stream_rebuild.stream_offsets'), "$name: and so does the rebuild");
}

# Lets the rebuild apply what it holds. A pause gives it less than a second for that, so a busy machine needs several.
sub release
{
	my ($name) = @_;
	my $held = 1;

	for (1 .. 100)
	{
		$node->sql("SELECT profile_stream.pause_rebuild('order')");
		$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'");
		$held = $node->sql('SELECT sum(held) FROM profile_stream_rebuild.stream_offsets');
		$node->sql("SELECT profile_stream.resume_rebuild('order')");
		$node->wait_rebuild('ready') or last;
		last if $held == 0;
	}
	is($held, '0', "$name: paused, it applied what it held");
	ok($node->wait_rebuild('ready'), "$name: ready");
}

$node->create_stream('order', $broker, 'events', reorder_wait => "'1 hour'", reorder_buffer_size => 30, dead_letter_pause_ratio => 1);
produce_block() foreach 1 .. 2;

# both are at one point: nothing differs, and the stream keeps what it holds
rebuilt('equal');
ok( $node->poll_query_until('postgres',
		'SELECT (SELECT sum(held) FROM profile_stream_internal.stream_offsets) = (SELECT sum(held) FROM profile_stream_rebuild.stream_offsets)'),
	'equal: as many');
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('order')"), '', 'equal: no difference');
my $replayed = $node->sql('SELECT sum(replayed) FROM profile_stream_internal.stream_offsets');
is($node->sql("SELECT profile_stream.swap_rebuild('order')"), '0', 'equal: swapped');
$node->is_balanced('order', 'equal');
produce_block();
is($node->sql('SELECT sum(replayed) FROM profile_stream_internal.stream_offsets'), $replayed, 'equal: the stream reads nothing again');

# the rebuild has applied what the stream holds: the stream takes that over
$node->sql("UPDATE $profiles SET account_count = 77 WHERE customer_id = (SELECT min(customer_id) FROM $profiles)");
rebuilt('ahead');
release('ahead');
my $differ = $node->sql("SELECT count(*) FROM profile_stream.rebuild_diff('order', 1000000)");
cmp_ok($differ, '>', 1, 'ahead: more differs than what was damaged');
is($node->sql("SELECT profile_stream.swap_rebuild('order')"), $differ, 'ahead: swapped');
is($node->sql('SELECT sum(held) FROM profile_stream_internal.stream_offsets'), '0', 'ahead: nothing is held any more');
$node->is_balanced('order', 'ahead');
produce_block();

# the stream has applied what the rebuild holds: the swap waits for it, and in vain
rebuilt('behind');
$node->sql("SELECT profile_stream.pause_stream('order')");
ok($node->wait_stopped('order'), 'behind: the stream is paused');
$node->fails_like("SELECT profile_stream.swap_rebuild('order', '500 ms')", qr/did not catch up in time.*messages behind/s, 'behind: the swap');
release('behind');
$node->sql("SELECT profile_stream.resume_stream('order')");
is($node->sql("SELECT profile_stream.swap_rebuild('order')"), '0', 'behind: swapped');
$node->is_balanced('order', 'behind');
produce_block();

# killed while it holds events
$node->sql("UPDATE $profiles SET account_count = 77 WHERE customer_id = (SELECT max(customer_id) FROM $profiles)");
rebuilt('killed');
$node->kill_process($node->rebuild_pid) or die 'could not kill the rebuild';
ok($node->wait_rebuild('ready'), 'killed: ready again');
ok($node->poll_query_until('postgres', 'SELECT sum(replayed) > 0 FROM profile_stream_rebuild.stream_offsets'), 'killed: it reads again what it held');
release('killed');
$differ = $node->sql("SELECT count(*) FROM profile_stream.rebuild_diff('order', 1000000)");
cmp_ok($differ, '>=', 1, 'killed: at least what was damaged differs');
is($node->sql("SELECT profile_stream.swap_rebuild('order')"), $differ, 'killed: swapped');
$node->is_balanced('order', 'killed');
produce_block();

$node->sql("SELECT profile_stream.pause_stream('order')");
ok($node->wait_stopped('order'), 'the pause applies what is held');
$node->equals_model('order', $events, "swaps while events are held, seed $seed", model => ['--sort']);
$node->is_clean('end');

$node->stop('fast');
$broker->stop;
done_testing();
