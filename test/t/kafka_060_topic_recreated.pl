# A topic is deleted and created again under its name: shorter, as long, or longer. Meanwhile its stream is paused, runs, is
# frozen, is cut off or dies. The stream notices each time and does what on_offset_lost says. It never takes messages of
# one topic for those of the other.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'gone', 1 ] ], proxied => 1);
my $node = ProfileStream::Node->start_new('main');
my $old = 100;
my $number = 0;

# So many messages of a topic, the first of them bad; each event is of a customer of the topic's.
sub messages
{
	my ($topic, $name, $n) = @_;
	return (
		[ 0, $topic, "the $name bad one" ],
		map {
			$number++;
			[ 0, $topic, qq({"eventId":"e$number","customerId":"$topic","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ]
		} 2 .. $n);
}

# A stream that has read the old topic.
sub start
{
	my ($name, $action, $brokers) = @_;
	$broker->create_topic($name, 1);
	$broker->produce($name, messages($name, 'old', $old));
	$node->sql("SELECT profile_stream.create_stream('$name', bootstrap_servers => '" . ($brokers // $broker->bootstrap)
		  . "', topic => '$name', group_id => '$name', on_offset_lost => '$action')");
	ok($node->wait_taken($name, $old), "$name: the old topic is read");
}

sub recreate
{
	my ($name, $n) = @_;
	$broker->delete_topic($name);
	$broker->create_topic($name, 1);
	$broker->produce($name, messages($name, 'new', $n));
}

# One value of the row of a stream's partition.
sub row { return $node->sql("SELECT $_[1] FROM profile_stream_internal.stream_offsets JOIN profile_stream.streams USING (stream_id) WHERE name = '$_[0]'"); }

# Waits until the row of a stream's partition is like that.
sub wait_row
{
	my ($name, $condition) = @_;
	return $node->poll_query_until('postgres',
		"SELECT o.$condition FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams USING (stream_id) WHERE name = '$name'")
	  || diag(row($name, 'stream_offsets'));
}

sub call { $node->sql("SELECT profile_stream.$_[0]"); }

# Waits until a worker has reached a failpoint, and stays there until the failpoint is another one.
sub wait_at
{
	my ($failpoint, $do) = @_;
	my $from = -s $node->logfile;
	$node->set_failpoint("$failpoint:wait");
	$do->() if $do;
	$node->wait_for_log(qr/failpoint "$failpoint:wait"/, $from);
}

# Gives a stream messages, which its worker then has in its hands.
sub hold
{
	my ($name, @messages) = @_;
	wait_at('after_lock', sub { $broker->produce($name, @messages) });
}

# What must hold once a stream has read so many messages of the new topic, to its end.
sub is_read
{
	my ($name, $read, $end, $gap) = @_;
	ok(wait_row($name, "next_offset = $end AND o.epoch = 1"), "$name: goes on, in the next epoch");
	is(row($name, 'consumed, applied, duplicates, dead'), join('|', $old + $read, $old + $read - 2, 0, 2), "$name: each message once");
	is($node->sql("SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = '$name'"), $old + $read - 2, "$name: and its effect");
	is($node->sql("SELECT string_agg(epoch || ' ' || encode(value, 'escape'), ', ' ORDER BY epoch) FROM profile_stream.dead_letters WHERE stream = '$name'"),
		'0 the old bad one, 1 the new bad one', "$name: the dead letters of both topics are kept");
	is($node->sql("SELECT from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps JOIN profile_stream.streams USING (stream_id) WHERE name = '$name'"),
		$gap, "$name: recorded");
	$node->is_balanced($name, $name);
	call("drop_stream('$name')");
}

# What must hold once a stream has noticed that its topic has so many other messages now.
sub is_noticed
{
	my ($name, $action, $n) = @_;

	if ($action eq 'stop')
	{
		ok(wait_row($name, "state = 'offset_lost'"), "$name: the partition stops");
		is(row($name, 'consumed, next_offset, epoch'), "$old|$old|1", "$name: where it stood");
		like(row($name, 'error'), $n < $old ? qr/^offset 100 is not in the topic, which has 0 to / : qr/^the topic was created anew: the message of offset 99 is not/,
			"$name: and says why");
		like(slurp_file($node->logfile), qr/"$name" stops reading partition 0: .*\n.*HINT:.*on_offset_lost.*seek_stream/, "$name: with a hint");
		if ($n < $old)
		{
			call("pause_stream('$name')");
			call("seek_stream('$name', 'earliest')");
			call("resume_stream('$name')");
			is_read($name, $n, $n, "$old|0|seek");
		}
		else
		{
			call("alter_stream('$name', on_offset_lost => 'earliest')");
			is_read($name, $n, $n, "$old|0|topic_recreated");
		}
	}
	elsif ($action eq 'earliest')
	{
		is_read($name, $n, $n, "$old|0|topic_recreated");
	}
	else
	{
		ok(wait_row($name, "next_offset = $n AND o.epoch = 1"), "$name: goes on at the end of the new topic");
		$broker->produce($name, messages($name, 'new', 10));
		is_read($name, 10, $n + 10, "$old|$n|topic_recreated");
	}
}

# while paused
foreach my $case ([ 'stop', 40 ], [ 'stop', 160 ], [ 'earliest', 100 ], [ 'earliest', 160 ], [ 'latest', 100 ], [ 'latest', 160 ])
{
	my ($action, $n) = @$case;
	my $name = "paused_${action}_$n";

	start($name, $action);
	call("pause_stream('$name')");
	ok($node->wait_stopped($name), "$name: paused");
	recreate($name, $n);
	call("resume_stream('$name')");
	is_noticed($name, $action, $n);
}

# while running: it waits at the end of the topic
foreach my $n (40, 160)
{
	my $name = "waits_$n";

	start($name, 'earliest');
	recreate($name, $n);
	is_noticed($name, 'earliest', $n);
}

# while running and at work; or killed there
foreach my $case ([ 'stop', 160 ], [ 'earliest', 160 ], [ 'latest', 160 ], [ 'earliest', 160, 'killed' ])
{
	my ($action, $n, $killed) = @$case;
	my $name = $killed ? 'killed' : "works_${action}_$n";

	start($name, $action);
	my $pid = $node->stream_pid($name);
	hold($name, [ 0, $name, undef ]);
	recreate($name, $n);
	if ($killed)
	{
		ok($node->kill_process($pid), "$name: the server is back");
		$node->set_failpoint('');
		is_noticed($name, $action, $n);
		next;
	}
	$node->set_failpoint('');
	# the tombstone was the old topic's last message
	ok(wait_row($name, "tombstones = 1"), "$name: what was read of the old topic is applied");
	ok(wait_row($name, $action eq 'stop' ? "state = 'offset_lost'" : 'epoch = 1'), "$name: the new topic is noticed");
	is(row($name, 'consumed - applied - dead'), '1', "$name: nothing was mixed up") if $action ne 'earliest';
	call("alter_stream('$name', on_offset_lost => 'earliest')") if $action eq 'stop';
	ok(wait_row($name, "next_offset = $n"), "$name: goes on");
	is(row($name, 'consumed, duplicates, epoch'), join('|', $old + 1 + ($action eq 'latest' ? 0 : $n), 0, 1), "$name: each message once");
	call("drop_stream('$name')");
}

# what librdkafka does not tell: its process slept, its queue was full, or nobody could be reached, while the topic
# was another one
start('frozen', 'earliest');
my $pid = $node->stream_pid('frozen');
kill('STOP', $pid) == 1 or die 'could not freeze the worker';
recreate('frozen', 160);
usleep(1_500_000);
kill('CONT', $pid);
is_noticed('frozen', 'earliest', 160);

my $big = 120;
my $padding = 'x' x 500_000;
sub big_messages
{
	my ($topic) = @_;
	return map { [ 0, $topic, qq({"eventId":"$topic$_","customerId":"$topic","eventType":"seen","timestamp":"2026-01-01T00:00:00Z","payload":{"padding":"$padding"}}) ] } 1 .. $big;
}

start('full', 'stop');
hold('full', big_messages('full'));
usleep(5_500_000);
recreate('full', $old + 2 * $big);
$node->set_failpoint('');
ok(wait_row('full', "state = 'offset_lost'"), 'full: the new topic is noticed');
my ($next, $consumed) = split(/\|/, row('full', 'next_offset, consumed'));
note("full: stopped at $next");
cmp_ok($next, '<', $old + $big, 'full: before the old one was read to its end');
is($consumed, $next, 'full: and nothing of the new one was taken');
is($node->sql("SELECT count(*) FROM profile_stream_internal.event_ids WHERE customer_id = 'full' AND hash NOT IN (SELECT profile_stream_internal.event_id_hash('full' || i) FROM generate_series(1, $big) i)"), $old - 1, 'full: only events of the old one');
call("drop_stream('full')");

# what is queued of a topic that is gone, and that librdkafka has forgotten meanwhile
start('vanished', 'earliest');
hold('vanished', big_messages('vanished'));
$broker->delete_topic('vanished');
wait_at('unassigned');
usleep(2_000_000);
$node->set_failpoint('');
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'does not exist' FROM profile_stream.stat_streams WHERE stream = 'vanished'"),
	'vanished: the stream says that there is no topic');
$broker->create_topic('vanished', 1);
$broker->produce('vanished', messages('vanished', 'new', 160));
ok(wait_row('vanished', 'next_offset = 160 AND o.epoch = 1'), 'vanished: goes on with the new one');
call("drop_stream('vanished')");

start('cut_off', 'earliest', $broker->proxy->bootstrap);
$broker->proxy->tell('refuse');
recreate('cut_off', 160);
$broker->proxy->tell('pass');
is_noticed('cut_off', 'earliest', 160);

# no false alarm: the message that is looked for is gone by retention
start('gone', 'stop');
call("pause_stream('gone')");
ok($node->wait_stopped('gone'), 'gone: paused');
$broker->delete_records('gone', 0, $old);
call("resume_stream('gone')");
$broker->produce('gone', messages('gone', 'other', 10));
ok(wait_row('gone', "next_offset = $old + 10"), 'gone: goes on');
is(row('gone', 'state, epoch, consumed, duplicates'), 'running|0|' . ($old + 10) . '|0', 'gone: no alarm');
call("drop_stream('gone')");

# or by compaction
start('compact', 'stop');
call("pause_stream('compact')");
ok($node->wait_stopped('compact'), 'compact: paused');
my $last = $number;
$broker->set_settings('compact', 'cleanup.policy' => 'compact', 'segment.ms' => 1, 'min.cleanable.dirty.ratio' => 0.01);
my $produced = 0;
my $compacted = 0;
for (1 .. $PostgreSQL::Test::Utils::timeout_default)
{
	$broker->produce('compact', (messages('compact', 'x', 2))[1]);
	$produced++;
	last if $compacted = !grep { slurp_file($_) =~ /"eventId":"e$last"/ } glob("$broker->{dir}/data/compact-0/*.log");
	usleep(500_000);
}
ok($compacted, 'compact: the last message that was read is gone');
$broker->set_settings('compact', 'cleanup.policy' => 'delete');
call("resume_stream('compact')");
ok(wait_row('compact', "next_offset = $old + $produced"), 'compact: goes on');
is(row('compact', 'state, epoch, duplicates'), 'running|0|0', 'compact: no alarm');

# what is read again for the sake of the check counts nowhere
my $before = row('compact', 'consumed, applied, replayed, duplicates, dead, tombstones, next_offset');
my $commits = row('compact', 'commits');
call("pause_stream('compact')");
ok($node->wait_stopped('compact'), 'again: paused');
call("resume_stream('compact')");
ok($node->wait_state('compact', 'running'), 'again: runs');
$broker->produce('compact', [ 0, 'c', undef ]);
ok(wait_row('compact', "commits > $commits"), 'again: goes on');
my @expected = split /\|/, $before;
$expected[$_]++ foreach (0, 5, 6);
is(row('compact', 'consumed, applied, replayed, duplicates, dead, tombstones, next_offset'), join('|', @expected),
	'again: one message more, and not the one before it');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
