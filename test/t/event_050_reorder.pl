# Events that come out of order are applied by timestamp. They wait for a time, a number of events or an amount of memory.
# Held events survive kills, stops and pauses, late events become dead letters, and the counters add up. PS_SEED repeats
# a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my @topics = qw(time number lost late memory altered stop);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'lateness', 4 ], map { [ $_, 1 ] } @topics ]);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;

# A row with an event of a customer, so many seconds after a moment.
sub at
{
	my ($customer, $second, %more) = @_;
	my $id = delete $more{id} // 'e' . ++$number;
	return [ 0, $customer, event($id, $customer, timestamp => (1_767_225_600 + $second) * 1000,
			type => 'customer.profile.updated', payload => qq({"firstName":"$second"}), %more) ];
}

sub is_row
{
	my ($sql, $expected, $name) = @_;
	is($node->safe_psql('postgres', $sql), $expected, $name);
}

# Waits until a stream's counters are these.
sub wait_counts
{
	my ($stream, $condition, $name) = @_;
	ok( $node->poll_query_until('postgres',
			"SELECT coalesce(bool_or($condition), false) FROM profile_stream.stat_partitions WHERE stream = '$stream'"), $name)
	  or diag($node->safe_psql('postgres', "SELECT * FROM profile_stream.stat_partitions WHERE stream = '$stream'"));
	$node->is_balanced($stream, $name);
}

sub pause
{
	my ($stream) = @_;
	$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('$stream')");
	ok($node->wait_stopped($stream), "$stream: paused");
}

my $empty = 'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks';
my $profile = 'SELECT version, first_name, extract(epoch FROM updated_at)::bigint - 1767225600 FROM profile_stream.materialized_profiles WHERE customer_id =';

# after the time that they are held, with nothing else to wake the worker; of one timestamp the last to come is the last
$node->create_stream('time', $broker, 'time', reorder_wait => "'1 s'");
$broker->produce('time', at('t', 50), at('t', 30), at('t', 40), at('t', 50, payload => '{"firstName":"tie"}'),
	at('t', 10), at('u', 7), at('u', 6));
wait_counts('time', 'applied = 7 AND held = 0 AND next_offset = 7', 'time: applied when the wait is over');
is_row("$profile 't'", '5|tie|50', 'time: by timestamp, and of one timestamp in their order');
is_row("$profile 'u'", '2|7|7', 'time: each customer for itself');
is_row("SELECT replayed, duplicates FROM profile_stream.stat_streams WHERE stream = 'time'", '0|0', 'time: read once');

# marks of what is finished that belong to another offset, which somebody moved by hand, skip nothing
pause('time');
$node->safe_psql('postgres', "UPDATE profile_stream_internal.stream_offsets SET finished = '\\x00000000000f0000ffff'");
$broker->produce('time', at('t', 60), at('t', 55));
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('time')");
wait_counts('time', 'applied = 9 AND held = 0 AND next_offset = 9 AND replayed = 0', 'time: foreign marks skip nothing');

# by number: three of a customer are one too many, the stored offset stays before what is held
$node->create_stream('number', $broker, 'number', reorder_wait => "'1 hour'", reorder_buffer_size => 3);
my @five = map { at('n', $_) } 90, 10, 20, 80, 30;
my $bytes = sum(map { length($_->[1]) + length($_->[2]) } @five[ 0, 3 ]);
$broker->produce('number', @five);
wait_counts('number', 'applied = 3 AND held = 2 AND next_offset = 0 AND consumed = 5', 'number: the oldest three are applied');
is_row("$profile 'n'", '3|30|30', 'number: in order');
is_row("SELECT held, held_bytes, lag FROM profile_stream.stat_streams WHERE stream = 'number'", "2|$bytes|5", 'number: the stream says so');
$node->fails_like("SELECT profile_stream.wait_for_offset('number', 0, 4, '10 ms')", qr/did not reach offset \d+ of partition 0 in time/,
	'number: what is held is not visible');

# killed, the worker reads all five again and applies none of the three
my $pid = $node->stream_pid('number');
$node->kill_process($pid) or die 'could not kill the worker';
ok($node->wait_stream_pid('number', $pid), 'number: a worker comes back');
wait_counts('number', 'consumed = 10 AND replayed = 5 AND applied = 3 AND duplicates = 0 AND held = 2 AND held_bytes = ' . $bytes,
	'number: killed, it reads again what is held');
$node->forget_event_ids('n');
pause('number');
wait_counts('number', 'applied = 5 AND held = 0 AND held_bytes = 0 AND next_offset = 5', 'number: a pause applies what is held');
is_row("$profile 'n'", '5|90|90', 'number: nothing twice, though nobody knows the ids');

# retention takes the first of two held events: the other one and what is applied stay known
$node->create_stream('lost', $broker, 'lost', reorder_wait => "'1 hour'", reorder_buffer_size => 3, on_offset_lost => "'earliest'");
$broker->produce('lost', at('o', 90), at('o', 80), map { at('o', $_) } 10 .. 17);
wait_counts('lost', 'applied = 8 AND held = 2 AND next_offset = 0', 'lost: two are held');
$node->stop('immediate');
$broker->delete_records('lost', 0, 1);
$node->start;
wait_counts('lost', 'next_offset = 1 AND consumed = 18 AND replayed = 9 AND applied = 8 AND held = 1',
	'lost: one is read again, and the other one was not consumed');
is_row("SELECT from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps", '0|1|offset_lost', 'lost: the gap is a row');
$node->forget_event_ids('o');
pause('lost');
wait_counts('lost', 'applied = 9 AND held = 0 AND next_offset = 10', 'lost: a pause applies the one that is left');
is_row("$profile 'o'", '9|80|80', 'lost: nothing twice');

# late: older than the newest applied less the tolerance; a duplicate is not late and makes nothing late
$node->create_stream('late', $broker, 'late', late_tolerance => "'10 s'");
$broker->produce('late', at('l', 100, id => 'l0'), at('l', 90, id => 'l1'), at('l', 89, id => 'l2'),
	at('m', 5, id => 'l3'), at('l', 50, id => 'l0'), at('l', 500, id => 'l1'), at('l', 91, id => 'l5'),
	at('l', 300, id => 'l6', type => 'transaction.completed'), at('l', 92, id => 'l7'), at('l', 120, id => 'l8'),
	at('l', 109, id => 'l9'), at('l', 110, id => 'l10'), at('l', 109, id => 'l9'),
	at('l', 100, id => 'l11', type => 'transaction.completed'));
$node->safe_psql('postgres', "SELECT profile_stream.wait_for_stream('late')");
wait_counts('late', 'applied = 7 AND duplicates = 2 AND dead = 1 AND late = 4 AND held = 0', 'late: counted');
is_row(<<'END', "2|late|l|{\"Late event: 11000 ms before the newest of its customer\"}\n7|handler|l|{\"Processing error\"}\n10|late|l|{\"Late event: 11000 ms before the newest of its customer\"}\n12|late|l|{\"Late event: 11000 ms before the newest of its customer\"}\n13|late|l|{\"Late event: 20000 ms before the newest of its customer\"}", 'late: each is a dead letter');
SELECT kafka_offset, kind, customer_id, CASE kind WHEN 'late' THEN errors ELSE ARRAY[left(errors[1], 16)] END
FROM profile_stream.dead_letters WHERE stream = 'late' ORDER BY 1
END
is_row("$profile 'l'", '6|110|110', 'late: the others are applied');

# memory: 64 kB hold a few hundred, however long the wait
$node->append_conf('postgresql.conf', "profile_stream.reorder_memory = '64kB'");
$node->reload;
$node->create_stream('memory', $broker, 'memory', reorder_wait => "'1 hour'");
$broker->produce('memory', map { at('m' . $_ % 1_000, 10_000 - $_) } 1 .. 5_000);
ok($node->wait_read('memory', 5_000), 'memory: everything is read');
wait_counts('memory', 'held BETWEEN 1 AND 400 AND held_bytes BETWEEN 1 AND 65536 AND applied + held = 5000', 'memory: no more is held than fits');
pause('memory');
wait_counts('memory', 'applied = 5000 AND held = 0 AND held_bytes = 0', 'memory: a pause applies the rest');
$node->append_conf('postgresql.conf', "profile_stream.reorder_memory = '64MB'");
$node->reload;

# an event is decoded when it comes, and again only if its stream decodes otherwise by then
my $map = q('{"eventId": "$.eventId", "customerId": "$.customerId", "eventType": "$.eventType", "timestamp": "$.timestamp", "payload": "$.%s"}');
$node->create_stream('altered', $broker, 'altered', reorder_wait => "'1 hour'", format => "'custom'", field_map => sprintf($map, 'payload'));
$broker->produce('altered', at('d', 20, payload => '{"firstName":"20"},"other":{"firstName":"other"}'));
wait_counts('altered', 'held = 1', 'altered: an event is held');
$node->safe_psql('postgres', sprintf("SELECT profile_stream.alter_stream('altered', field_map => $map)", 'other'));
$node->safe_psql('postgres', "SELECT profile_stream.flush_stream('altered')");
is_row("$profile 'd'", '1|other|20', 'altered: it is applied as the stream reads it now');

# a stop: held events are applied first, and what cannot be applied then stays held
$node->create_stream('stop', $broker, 'stop', reorder_wait => "'1 hour'");
$broker->produce('stop', at('s', 20), at('s', 10));
wait_counts('stop', 'held = 2', 'stop: two are held');
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe("BEGIN; SELECT profile_stream.lock_customer('s')");
$pid = $node->stream_pid('stop');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->wait_stream_pid('stop', $pid), 'stop: terminated, a worker ends though the customer is locked');
wait_counts('stop', 'held = 2 AND replayed = 2 AND applied = 0', 'stop: and the next one holds the events');
$session->quit;
$node->restart;
wait_counts('stop', 'held = 0 AND replayed = 2 AND applied = 2', 'stop: a server that stops applies them');
is_row("$profile 's'", '2|20|20', 'stop: in order');
$broker->produce('stop', at('s', 40), at('s', 30));
wait_counts('stop', 'held = 2', 'stop: two more are held');
$pid = $node->stream_pid('stop');
# as the postmaster does, which signals a process and its group
foreach (1 .. 5)
{
	kill('TERM', $pid);
	usleep(500);
}
ok($node->wait_stream_pid('stop', $pid), 'stop: a worker that is told twice ends');
wait_counts('stop', 'held = 0 AND applied = 4', 'stop: and has applied them');

# disorder of two minutes, while worker and server end in every way: equals the model, which sorts
my $rounds = 15;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => 4_200 * $rounds,
	customers => $ENV{PS_CUSTOMERS} // 400,
	block => 4_200,
	parts => $rounds);
my $produced = 0;
my %faults = (
	kill => sub { $node->kill_process($node->stream_pid('order')); },
	immediate => sub { $node->stop('immediate'); $node->start; },
	terminate => sub {
		my $worker = $node->stream_pid('order');
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
		ok($node->wait_stream_pid('order', $worker), 'terminated, a worker comes back');
	},
	restart => sub { $node->restart; });

$node->safe_psql('postgres', $empty);
$node->create_stream('order', $broker, 'events', reorder_wait => "'1 hour'", reorder_buffer_size => 30);
foreach my $round (0 .. $rounds - 1)
{
	# in the last round nothing ends: once its events are read, so is again what the worker before has left
	my $fault = $round == $rounds - 1 ? 'none' : (qw(kill immediate before_commit terminate kill after_commit restart))[ $round % 7 ];
	my $pause = int(rand(700_000));
	my $from = -s $node->logfile;
	my $failpoint = $fault =~ /commit/ && $node->has_failpoints;
	$node->set_failpoint("$fault:kill") if $failpoint;
	my $producer = $broker->start_producing('events', $events->{files}[$round]);

	# what a clean stop applies must be complete: only then has it an order; the others may come at any moment
	if ($fault eq 'kill' || $fault eq 'immediate')
	{
		usleep($pause);
		$faults{$fault}->();
	}
	if ($failpoint)
	{
		$node->wait_for_log(qr/was terminated by signal 9/, $from);
		$node->set_failpoint('');
		$node->wait_alive;
	}
	$broker->finish_producing($producer);
	$produced += 4_200;
	ok($node->wait_read('order', $produced), "round $round, $fault: everything is read");
	if ($failpoint)
	{
		# it may have been hit more than once before it was reset
		my $deaths = () = slurp_file($node->logfile, $from) =~ /was terminated by signal 9/g;
		$node->expect_signals($deaths);
	}
	cmp_ok($node->safe_psql('postgres', "SELECT held FROM profile_stream.stat_streams WHERE stream = 'order'"),
		'>', 0, "round $round, $fault: events are held");
	$node->is_balanced('order', "round $round, $fault");
	$faults{$fault}->() if $fault eq 'terminate' || $fault eq 'restart';
}
# a pause has no time for so many on a slow machine
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('order', reorder_wait => '0')");
wait_counts('order', 'held = 0', 'without a wait what is held is applied');
pause('order');
cmp_ok($node->safe_psql('postgres', "SELECT replayed FROM profile_stream.stat_streams WHERE stream = 'order'"), '>', 0,
	'messages were read again, and not counted as duplicates');
$node->equals_model('order', $events, "disorder, seed $seed", model => ['--sort']);

# as they come, with a tolerance: late ones are those of the model
$node->safe_psql('postgres', $empty);
$broker->produce_file('lateness', $_) foreach @{ $events->{files} };
$node->create_stream('lateness', $broker, 'lateness', late_tolerance => "'20 s'");
ok($node->wait_taken('lateness', $events->{events}), 'lateness: everything is taken');
cmp_ok($node->safe_psql('postgres', "SELECT late FROM profile_stream.stat_streams WHERE stream = 'lateness'"), '>', 100,
	'lateness: some are late');
$node->equals_model('lateness', $events, 'lateness', model => [ '--late-tolerance', 20 ]);

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
