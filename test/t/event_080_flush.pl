# flush_stream() applies what a stream holds at once and in order: of one customer or of all, by several workers, from several
# sessions, after a kill and after an error. It says what is not done, and why. A rebuild is equal. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'flush', 4 ], [ 'events', 4 ], [ 'plain', 1 ] ]);
# what a kill would lose of an asynchronous commit is not the subject here
my $node = ProfileStream::Node->start_new('main', conf => 'profile_stream.synchronous_commit = on');
my $number = 0;

# A row with an event of a customer, so many seconds after a moment.
sub at
{
	my ($partition, $customer, $second) = @_;
	return [ $partition, $customer, event('e' . ++$number, $customer, timestamp => (1_767_225_600 + $second) * 1000,
			type => 'customer.profile.updated', payload => qq({"firstName":"$second"})) ];
}

sub flush
{
	my (@arguments) = @_;
	return $node->sql("SELECT profile_stream.flush_stream('flush'" . join('', map { ", $_" } @arguments) . ')');
}

sub name_of { return $node->sql("SELECT version, first_name FROM profile_stream.materialized_profiles WHERE customer_id = '$_[0]'"); }

sub held { return $node->sql("SELECT sum(held) FROM profile_stream.stat_partitions WHERE stream = 'flush'"); }

# Produces, and waits until so many are held.
sub hold
{
	my ($expected, @rows) = @_;
	$broker->produce('flush', @rows);
	ok($node->poll_query_until('postgres', "SELECT sum(held) = $expected FROM profile_stream.stat_partitions WHERE stream = 'flush'"), "$expected are held");
}

# wrong use
$node->fails_like("SELECT profile_stream.flush_stream('nothing')", qr/stream "nothing" does not exist/, 'no such stream');
$node->fails_like("SELECT profile_stream.flush_stream(NULL)", qr/name and timeout must not be null/, 'no name');
$node->fails_like("SELECT profile_stream.flush_stream('x', '')", qr/customer_id must have 1 to 512 bytes/, 'an empty customer');

# of one customer, then of all, by two workers and in small batches
$node->create_stream('flush', $broker, 'flush', reorder_wait => "'1 hour'", workers => 2, batch_size => 2);
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT worker_pid) = 2 FROM profile_stream.stat_partitions WHERE stream = 'flush'"), 'two workers read');
is(flush(), '0', 'nothing is held');
hold(11, (map { at(0, 'a', $_) } 30, 10, 50, 20, 40), (map { at(3, 'b', $_) } 3, 1, 2), map { at(1, 'c', $_) } 9, 7, 8);
is(flush("'a'"), '5', 'a customer: so many were released');
is(name_of('a'), '5|50', 'a customer: all is applied, in order');
is(held(), '6', 'a customer: others are held on');
is(flush("'nobody'"), '0', 'a customer of whom nothing is held');
is(flush(), '6', 'all: so many were released');
is(name_of($_), $_ eq 'b' ? '3|3' : '3|9', "all: $_ is applied in order") foreach qw(b c);
is(held(), '0', 'all: nothing is held');
$node->is_balanced('flush', 'all');
hold(1, at(0, 'a', 5));
is(flush(), '1', 'an older one that comes later');
is(name_of('a'), '6|5', 'an older one that comes later is applied then');

# more sessions at once than a worker's report has room for
hold(24, map { (at($_ % 4, "s$_", 20), at($_ % 4, "s$_", 10)) } 1 .. 12);
my @sessions = map { $node->background_psql('postgres', on_error_stop => 1) } 1 .. 12;
$sessions[ $_ - 1 ]->query_until(qr/start/, "\\echo start\nSELECT profile_stream.flush_stream('flush', 's$_');\n") foreach 1 .. 12;
$_->quit foreach @sessions;
is($node->sql("SELECT count(*) FROM profile_stream.materialized_profiles WHERE customer_id ~ '^s' AND version = 2 AND first_name = '20'"), '12',
	'sessions: each customer is applied');
is(held(), '0', 'sessions: nothing is held');

# a customer that is locked
hold(3, at(0, 'locked', 2), at(0, 'locked', 1), at(0, 'free', 1));
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe("BEGIN; SELECT profile_stream.lock_customer('locked')");
my ($rc, $out, $err) = $node->psql('postgres', "SELECT profile_stream.flush_stream('flush')");
is($out, '3', 'locked: released');
like($err, qr/NOTICE:  2 messages of stream "flush" are deferred/, 'locked: a notice says what is not applied');
is(name_of('free'), '1|1', 'locked: others are applied');
$session->query_safe('COMMIT');
ok($node->poll_query_until('postgres', "SELECT sum(held) = 0 FROM profile_stream.stat_partitions WHERE stream = 'flush'"), 'locked: applied once it is free');
is(name_of('locked'), '2|2', 'locked: in order');

# a stream that cannot apply
hold(2, at(0, 'd', 2), at(0, 'd', 1));
$session->query_safe('BEGIN; LOCK TABLE profile_stream.materialized_profiles');
($rc, $out, $err) = $node->psql('postgres', "SELECT profile_stream.flush_stream('flush', timeout => '3 s')");
like($err, qr/ERROR:  stream "flush" did not apply its held events in time\n.*DETAIL:  Its state is (?:waiting|retrying|running)/, 'timeout: says so, with the state');
$session->query_safe('COMMIT');
is(flush() <= 2, 1, 'timeout: again');
is(name_of('d'), '2|2', 'timeout: applied');

# what a worker has to read again first
hold(4, (map { at(1, 'k', $_) } 3, 1, 2), at(2, 'l', 1));
my @pids = split(/\n/, $node->sql("SELECT DISTINCT worker_pid FROM profile_stream.stat_partitions WHERE stream = 'flush'"));
$node->sql("SELECT pg_terminate_backend($_)") foreach @pids;
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT worker_pid) FILTER (WHERE worker_pid NOT IN (" . join(', ', @pids) . ")) > 0 FROM profile_stream.stat_partitions WHERE stream = 'flush'"), 'terminated: a new one');
flush();
is(held(), '0', 'terminated: nothing is held');
hold(4, (map { at(1, 'm', $_) } 3, 1, 2), at(2, 'n', 1));
$node->kill_process($node->stream_pid('flush')) or die 'could not kill the worker';
is(flush(), '4', 'killed: what is read again is released');
is(name_of('m'), '3|3', 'killed: in order');
is(held(), '0', 'killed: nothing is held');
hold(1, at(3, 'o', 1));
$node->restart;
is(flush(), '0', 'restarted: it was applied at the stop');
is(name_of('o'), '1|1', 'restarted: applied');

# an error on the way: it is done again
SKIP:
{
	skip 'built without failpoints', 2 unless $node->has_failpoints;
	hold(3, (map { at(0, 'p', $_) } 2, 1), at(2, 'q', 1));
	my $from = -s $node->logfile;
	$node->set_failpoint('before_commit:error');
	my $flusher = $node->background_psql('postgres', on_error_stop => 1);
	$flusher->query_until(qr/start/, "\\echo start\nSELECT profile_stream.flush_stream('flush', timeout => '60 s');\n");
	$node->wait_for_log(qr/failpoint/, $from);
	$node->set_failpoint('');
	$flusher->quit;
	is(name_of('p'), '2|2', 'error: applied in the end');
	is(held(), '0', 'error: nothing is held');
}

# another owner, and a stream that does not run
$node->sql('CREATE ROLE other IN ROLE profile_stream_operator');
$node->fails_like("SET ROLE other; SELECT profile_stream.flush_stream('flush')", qr/must be owner of stream "flush"/, 'another owner');
$node->sql("SELECT profile_stream.pause_stream('flush')");
$node->fails_like("SELECT profile_stream.flush_stream('flush')", qr/stream "flush" does not run\n.*DETAIL:  Its state is paus/, 'paused');
ok($node->wait_stopped('flush'), 'paused: it ends');
$node->sql("SELECT profile_stream.drop_stream('flush')");

# a stream that holds nothing
$node->create_stream('plain', $broker, 'plain');
is($node->sql("SELECT profile_stream.flush_stream('plain')"), '0', 'no reorder_wait: nothing to do');
$node->sql("SELECT profile_stream.drop_stream('plain')");

# generated events in disorder, held until all are read, equal the model that sorts
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(seed => $seed, events => 15_000, customers => 150, block => 15_000);
$node->sql('TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters');
$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('events', $broker, 'events', reorder_wait => "'1 hour'", reorder_buffer_size => 100_000, workers => 3);
ok($node->wait_read('events', $events->{events}), 'model: everything is read');
cmp_ok($node->sql("SELECT profile_stream.flush_stream('events', timeout => '120 s')"), '>', 14_000, 'model: released');
is($node->sql("SELECT sum(held) FROM profile_stream.stat_partitions WHERE stream = 'events'"), '0', 'model: nothing is held');
$node->equals_model('events', $events, "model, seed $seed", model => ['--sort']);

# a rebuild holds the same events; once it has applied them it is equal
$node->sql("SELECT profile_stream.rebuild('events')");
ok($node->wait_rebuild('ready'), 'rebuild: ready');
$node->sql("SELECT profile_stream.pause_rebuild('events')");
ok($node->wait_rebuild('paused'), 'rebuild: a pause applies what it holds');
$node->sql("SELECT profile_stream.resume_rebuild('events')");
ok($node->wait_rebuild('ready'), 'rebuild: ready again');
is($node->sql("SELECT profile_stream.swap_rebuild('events')"), '0', 'rebuild: it changes no profile');
$node->equals_model('events', $events, 'rebuild, swapped', model => ['--sort'], effects => 1);

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
