# Producers that let the order of a customer's events be lost are noticed: events whose key is not their customer, and
# customers whose events come from two partitions. Both are counted, and one WARNING says what to do. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'single', 1 ], map { [ $_, 4 ] } qw(events keys split held mapped workers first second) ]);
# what a kill would lose of an asynchronous commit is not the subject here
my $node = ProfileStream::Node->start_new('main', conf => 'profile_stream.synchronous_commit = on');
my $number = 0;

# A row with an event of a customer, in a partition and with a key; no key: the customer's.
sub row
{
	my ($partition, $customer, $key) = @_;
	return [ $partition, $key // $customer, event('e' . ++$number, $customer) ];
}

sub is_counted
{
	my ($stream, $taken, $expected, $name) = @_;
	ok($node->wait_taken($stream, $taken), "$name: everything is taken");
	is($node->sql("SELECT applied, other_key, other_partition FROM profile_stream.stat_streams WHERE stream = '$stream'"), $expected, $name);
	$node->is_balanced($stream, $name);
}

# How often the log warns of a stream.
sub warned
{
	my ($stream) = @_;
	return scalar(() = slurp_file($node->logfile) =~ /WARNING:  stream "$stream" may apply events of a customer in a wrong order/g);
}

# good keys, a key as JSON, and what is no event
$node->create_stream('keys', $broker, 'keys');
$broker->produce('keys', (map { row($_ % 4, "k$_") } 1 .. 40), row(1, 'k1', '"k1"'), [ 0, 'x', 'no event' ], [ 0, 'x', undef ]);
is_counted('keys', 43, '41|0|0', 'good keys');
is(warned('keys'), 0, 'good keys: no warning');

# another key, half a key, no key
$broker->produce('keys', row(1, 'k1', 'k'), row(1, 'k1', 'k1x'), row(1, 'k1', '"k1x'), row(1, 'k1', ''), row(1, 'k1', 'k2'));
is_counted('keys', 48, '46|5|0', 'other keys');
is($node->sql("SELECT string_agg(partition || ':' || other_key, ' ' ORDER BY partition) FROM profile_stream.stat_partitions WHERE stream = 'keys'"), '0:0 1:5 2:0 3:0',
	'other keys: by partition');
ok($node->wait_for_log(qr/WARNING:  stream "keys" may.*\n.*DETAIL:  The key of 5 events was not their customer, and 0 events came from another partition.*\n.*HINT:  Let producers send each event with its customer as the key/),
	'other keys: the log says what to do');
$node->sql("UPDATE profile_stream_internal.stream_status SET order_logged_at = NULL");
$broker->produce('keys', row(1, 'k1', 'k3'));
is_counted('keys', 49, '47|6|0', 'other keys again');
is(warned('keys'), 1, 'other keys again: they alone are not worth a line each minute');

# a customer in two partitions: each event that came from another one than that before
$node->create_stream('split', $broker, 'split');
foreach my $partition (0, 1, 1, 0, 0, 3)
{
	$broker->produce('split', row($partition, 's'), row($partition, "t$partition"));
	ok($node->wait_taken('split', $number - 46 - 1), "split: partition $partition");
}
is_counted('split', 12, '12|0|3', 'split');
ok($node->wait_for_log(qr/WARNING:  stream "split" may.*\n.*DETAIL:  The key of 0 events was not their customer, and 1 events came from another partition/),
	'split: the log says so');
is(warned('split'), 1, 'split: once a minute');

# one partition keeps the order, whatever the keys are
$node->create_stream('single', $broker, 'single');
$broker->produce('single', map { row(0, "o$_", '') } 1 .. 5);
is_counted('single', 5, '5|5|0', 'one partition: counted');

# held events are counted when they are applied, once, also after a kill
$node->create_stream('held', $broker, 'held', reorder_wait => "'1 hour'");
$broker->produce('held', row(0, 'h', 'y'), row(1, 'h', 'z'));
ok($node->poll_query_until('postgres', "SELECT held = 2 AND other_key = 0 FROM profile_stream.stat_streams WHERE stream = 'held'"), 'held: not counted yet');
my $pid = $node->stream_pid('held');
$node->kill_process($pid) or die 'could not kill the worker';
ok($node->wait_stream_pid('held', $pid), 'held: a worker comes back');
ok($node->poll_query_until('postgres', "SELECT held = 2 AND replayed = 2 FROM profile_stream.stat_streams WHERE stream = 'held'"), 'held: it reads them again');
$node->sql("SELECT profile_stream.pause_stream('held')");
is_counted('held', 2, '2|2|1', 'held');

# where the key is the customer by a map, there is no other one
$node->create_stream('mapped', $broker, 'mapped', format => "'custom'",
	field_map => q('{"eventId": "$.eventId", "customerId": "key", "eventType": "$.eventType", "timestamp": "$.timestamp"}'));
$broker->produce('mapped', row(0, 'no', 'm'));
is_counted('mapped', 1, '1|0|0', 'a map');

# each worker sees its own partitions
$node->create_stream('workers', $broker, 'workers', workers => 2);
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT worker_pid) = 2 FROM profile_stream.stat_partitions WHERE stream = 'workers'"), 'workers: two read');
my ($a, $b) = split(/\n/, $node->sql("SELECT array_to_string(array_agg(partition ORDER BY partition), ' ') FROM profile_stream.stat_partitions WHERE stream = 'workers' GROUP BY worker_pid ORDER BY 1"));
my ($first, $second) = split(/ /, $a);
my ($foreign) = split(/ /, $b);
$broker->produce('workers', row($first, 'w'));
ok($node->wait_taken('workers', 1), 'workers: one');
$broker->produce('workers', row($foreign, 'w'));
ok($node->wait_taken('workers', 2), 'workers: one from a partition of the other');
$broker->produce('workers', row($second, 'w'));
is_counted('workers', 3, '3|0|1', 'workers');

# topics have partitions of their own: a customer may be in one of each
$node->sql("SELECT profile_stream.create_stream('both', bootstrap_servers => '" . $broker->bootstrap . "', topics => '{first,second}')");
foreach my $round (1 .. 2)
{
	$broker->produce('first', row(0, 'both'));
	ok($node->wait_taken('both', 2 * $round - 1), "both, round $round: one topic");
	$broker->produce('second', row(1, 'both'));
	ok($node->wait_taken('both', 2 * $round), "both, round $round: the other one");
}
is_counted('both', 4, '4|0|0', 'both');
$broker->produce('second', row(2, 'both'));
is_counted('both', 5, '5|0|1', 'both, another partition');

# generated events, of which a tenth has no key: equal the model, and a rebuild
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(seed => $seed, events => 10_000, customers => 300);
$node->sql("SELECT profile_stream.drop_stream(name) FROM profile_stream.streams",
	'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters');
$broker->produce_file('events', $events->{files}[0]);
$node->create_stream('events', $broker, 'events');
ok($node->wait_taken('events', $events->{events}), 'model: everything is taken');
is($node->sql("SELECT other_key > 500, other_partition FROM profile_stream.stat_streams WHERE stream = 'events'"), 't|0', 'model: there are such keys');
$node->equals_model('events', $events, "model, seed $seed", model => ['--keys']);
$node->sql("SELECT profile_stream.rebuild('events')");
ok($node->wait_rebuild('ready'), 'model: a rebuild');
is($node->sql("SELECT profile_stream.swap_rebuild('events')"), '0', 'model: it changes nothing');
$node->equals_model('events', $events, "model, swapped", model => ['--keys']);
is(warned('events'), 1, 'model: a rebuild does not warn again');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
