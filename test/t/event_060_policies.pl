# What a stream does with events that it need not apply: late ones become dead letters, are applied or dropped, and the log
# says so once a minute; an unknown schemaVersion is accepted or not; other types than event_types are ignored. Late and
# ignored events never pause a stream. All of it equals the model, and a rebuild. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'shared', 2 ], map { [ $_, 1 ] } qw(letter apply drop article ratio version held types share) ]);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;

# A row with an event of a customer, so many seconds after a moment; partition => its partition.
sub at
{
	my ($customer, $second, %more) = @_;
	my $partition = delete $more{partition} // 0;
	return [ $partition, $customer, event('e' . ++$number, $customer, timestamp => (1_767_225_600 + $second) * 1000,
			type => 'customer.profile.updated', payload => qq({"firstName":"$second"}), %more) ];
}

sub is_row
{
	my ($sql, $expected, $name) = @_;
	is($node->sql($sql), $expected, $name);
}

# What the stream has counted, once it has taken so many messages.
sub is_counted
{
	my ($stream, $taken, $columns, $expected, $name) = @_;
	ok($node->wait_taken($stream, $taken), "$name: everything is taken");
	is_row("SELECT $columns FROM profile_stream.stat_streams WHERE stream = '$stream'", $expected, $name);
	$node->is_balanced($stream, $name);
}

# How often the log says that a stream had late events.
sub told
{
	my ($stream) = @_;
	return scalar(() = slurp_file($node->logfile) =~ /LOG:  late events of stream "$stream":/g);
}

my $late = 'applied, late, late_applied, late_dropped, dead';
my $name_of = 'SELECT version, first_name, to_char(updated_at, \'SS\'), to_char(watermark, \'SS\') FROM profile_stream.materialized_profiles WHERE customer_id =';

# the second event of each customer is late, the third is not
foreach my $case ([ 'letter', 'dead_letter', '2|1|0|0|0', '2|45|45|50' ], [ 'apply', 'apply', '3|0|1|0|0', '3|45|45|50' ], [ 'drop', 'drop', '2|0|0|1|0', '2|45|45|50' ])
{
	my ($stream, $policy, $counts, $profile) = @$case;
	my (undef, $letters, $applied, $dropped) = split(/\|/, $counts);
	$broker->produce($stream, at($stream, 50), at($stream, 10), at($stream, 45));
	$node->create_stream($stream, $broker, $stream, late_tolerance => "'10 s'", late_policy => "'$policy'");
	is_counted($stream, 3, $late, $counts, $policy);
	is_row("$name_of '$stream'", $profile, "$policy: the profile");
	is_row("SELECT count(*) FROM profile_stream.dead_letters WHERE stream = '$stream'", $policy eq 'dead_letter' ? 1 : 0, "$policy: dead letters");
	ok($node->wait_for_log(qr/LOG:  late events of stream "$stream": dead letters $letters, applied $applied, dropped $dropped\n.*DETAIL:  The first of them is event "e\d+" of customer "$stream", 40000 ms before the newest of its customer\.\n.*HINT:  late_tolerance and late_policy/),
		"$policy: the log says which");
	$broker->produce($stream, map { at($stream, $_) } 10 .. 19);
	ok($node->wait_taken($stream, 13), "$policy: more come late");
}
is(told('drop'), 1, 'drop: the log is told once a minute');
$node->sql("UPDATE profile_stream_internal.stream_status SET order_logged_at = order_logged_at - interval '1 minute'");
$node->restart;
$broker->produce('drop', at('drop', 20));
ok($node->wait_taken('drop', 14), 'drop: one more, after a restart');
ok($node->wait_for_log(qr/(?s:late events of stream "drop".*)late events of stream "drop": dead letters 0, applied 0, dropped 1\n/),
	'drop: the log is told again');
$node->sql("SELECT profile_stream.alter_stream('drop', late_policy => 'apply')");
$broker->produce('drop', at('drop', 21));
ok($node->poll_query_until('postgres', "SELECT late_applied = 1 FROM profile_stream.stat_streams WHERE stream = 'drop'"), 'drop: altered, it applies them');

# two workers of a stream share the minute
$node->create_stream('shared', $broker, 'shared', late_tolerance => "'10 s'", workers => 2);
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT worker_pid) = 2 FROM profile_stream.stat_partitions WHERE stream = 'shared'"), 'shared: two workers read');
$broker->produce('shared', map { (at("s$_", 50, partition => $_), at("s$_", 10, partition => $_)) } 0 .. 1);
is_counted('shared', 4, 'applied, late', '2|2', 'shared');
ok($node->wait_for_log(qr/late events of stream "shared"/), 'shared: the log is told');
$broker->produce('shared', map { at("s$_", 11, partition => $_) } 0 .. 1);
is_counted('shared', 6, 'applied, late', '2|4', 'shared, more');
is(told('shared'), 1, 'shared: once for both');

# the order of the article: sorted, and what comes too late is dropped and logged
$node->create_stream('article', $broker, 'article', '"order"' => "'article'", reorder_wait => "'1 hour'", reorder_buffer_size => 3);
$broker->produce('article', map { at('article', $_) } 7205, 7201, 7203, 1, 7202, 7204);
ok($node->poll_query_until('postgres', "SELECT applied + held + late_dropped = 6 AND held = 2 FROM profile_stream.stat_streams WHERE stream = 'article'"), 'article: the buffer is full');
$broker->produce('article', map { at('article', $_) } 2, 7206);
ok($node->poll_query_until('postgres', "SELECT late_dropped = 2 AND late = 0 FROM profile_stream.stat_streams WHERE stream = 'article'"), 'article: a late one is dropped');
ok($node->wait_for_log(qr/late events of stream "article": dead letters 0, applied 0, dropped 1\n/), 'article: and logged');
$node->sql("SELECT profile_stream.pause_stream('article')");
ok($node->wait_stopped('article'), 'article: paused');
is_row("SELECT version, first_name FROM profile_stream.materialized_profiles WHERE customer_id = 'article'", '6|7206', 'article: sorted');

# late and ignored events are no part of the ratio that pauses a stream
$broker->produce('ratio', at('r', 50), map { at('r', $_ % 10) } 1 .. 300);
$node->create_stream('ratio', $broker, 'ratio', late_tolerance => "'10 s'", dead_letter_pause_ratio => 0.1);
is_counted('ratio', 301, $late, '1|300|0|0|0', 'ratio');
is($node->stream_state('ratio'), 'running', 'ratio: late events do not pause it');
$broker->produce('share', map { [ 0, 'k', $_ % 10 == 0 ? 'bad' : $_ % 10 > 3 ? event("i$_", 'share', type => 'other') : event("t$_", 'share', type => 'taken') ] } 1 .. 1_000);
$node->create_stream('share', $broker, 'share', event_types => "'{taken}'", dead_letter_pause_ratio => 0.2, batch_size => 200);
ok($node->wait_state('share', 'paused'), 'share: of what it takes a quarter is dead, so it pauses');

# a version without an upcaster
my $seven = ',"schemaVersion":7';
$broker->produce('version', at('v', 1, more => $seven), at('v', 2));
$node->create_stream('version', $broker, 'version');
is_counted('version', 2, 'applied, dead', '1|1', 'version: a dead letter');
$node->sql("SELECT profile_stream.alter_stream('version', unknown_schema => 'accept')");
$broker->produce('version', at('v', 3, more => $seven), at('v', 4, more => ',"schemaVersion":"8"'), map { at('v', 5, more => ",\"schemaVersion\":$_") } '0', '"v2"', '10001', '{}');
is_counted('version', 8, 'applied, dead', '3|5', 'version: accepted, but for what is no version');
is_row('SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => \'version\')', '1|4', 'version: the dead letter applies now');
is_row("SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'v'", '4', 'version: all of it');
# upcasters convert what they can, and what is newer than they know is accepted
$node->sql('CREATE FUNCTION public.up(event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object(\'firstName\', \'up\')',
	'SELECT profile_stream.register_upcaster(\'customer.profile.updated\', 1, \'public.up(jsonb)\')');
$broker->produce('version', at('u', 1));
is_counted('version', 9, 'applied, dead', '4|5', 'version: with an upcaster');
is_row("SELECT first_name FROM profile_stream.materialized_profiles WHERE customer_id = 'u'", 'up', 'version: the upcaster converts');
$broker->produce('version', at('u', 9, more => $seven));
is_counted('version', 10, 'applied, dead', '5|5', 'version: newer than the upcaster');
is_row("SELECT first_name FROM profile_stream.materialized_profiles WHERE customer_id = 'u'", '9', 'version: applied as it is');
$node->sql('SELECT profile_stream.unregister_upcaster(\'customer.profile.updated\', 1)');

# what is held is decoded as the stream reads it when it is due
$node->create_stream('held', $broker, 'held', reorder_wait => "'1 hour'", unknown_schema => "'accept'");
$broker->produce('held', at('h', 2, more => $seven), at('h', 1), at('h', 3, type => 'odd'));
ok($node->poll_query_until('postgres', "SELECT held = 3 FROM profile_stream.stat_streams WHERE stream = 'held'"), 'held: three are held');
$node->sql("SELECT profile_stream.alter_stream('held', unknown_schema => 'dead_letter', event_types => '{customer.profile.updated}')", "SELECT profile_stream.pause_stream('held')");
is_counted('held', 3, 'applied, dead, ignored, held', '1|1|1|0', 'held: altered');

# other types leave no trace, whatever is in them; what has no type is no event
$broker->produce('types',
	[ 0, 'x1', event('t1', 'x1', type => 'taken') ],
	[ 0, 'x2', event('t2', 'x2', type => 'other') ],
	[ 0, 'x3', event('t3', 'x3', type => 'other', timestamp => 'no time', payload => '7', more => $seven) ],
	[ 0, 'x4', '{"eventType":"other"}' ],
	[ 0, 'x5', '{"eventType":12}' ],
	[ 0, 'x6', '{"eventType":13}' ],
	[ 0, 'x7', '{"eventId":"t7"}' ],
	[ 0, 'x8', '{"eventType":"other"' ],
	[ 0, 'x9', undef ],
	[ 0, 'x1', event('t1', 'x1', type => 'other') ]);
$node->create_stream('types', $broker, 'types', event_types => "'{taken,12}'");
is_counted('types', 10, 'applied, ignored, dead, tombstones, duplicates', '1|5|3|1|0', 'types');
is_row("SELECT string_agg(customer_id, ',') FROM profile_stream.materialized_profiles WHERE customer_id LIKE 'x%'", 'x1', 'types: no row of others');
$node->sql("SELECT profile_stream.alter_stream('types', event_types => '{}')");
$broker->produce('types', [ 0, 'x2', event('t2', 'x2', type => 'other') ]);
is_counted('types', 11, 'applied, ignored', '2|5', 'types: all are taken again');

# in the format custom the type may be a header
my $map = q('{"eventId": "$.id", "customerId": "key", "eventType": "header:type", "timestamp": "kafka_timestamp"}');
$node->sql("SELECT profile_stream.alter_stream('types', format => 'custom', field_map => $map, event_types => '{taken}')");
$broker->produce('types', map { [ 0, "y$_", qq({"id":"y$_"}), { type => $_ } ] } qw(taken other));
is_counted('types', 13, 'applied, ignored', '3|6', 'types: of a header');

# all together equals the model, and a rebuild
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(seed => $seed, events => 20_000, customers => 200, block => 2_000);
my $taken = "'{transaction.completed,session.started,page.viewed}'";
my @model = ('--accept-unknown', map { ('--event-type', $_) } qw(transaction.completed session.started page.viewed));
$node->sql("SELECT profile_stream.drop_stream(name) FROM profile_stream.streams");
$broker->produce_file('events', $events->{files}[0]);
foreach my $policy (qw(apply drop))
{
	$node->sql('TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters');
	$node->create_stream("all_$policy", $broker, 'events', late_tolerance => "'20 s'", late_policy => "'$policy'", unknown_schema => "'accept'", event_types => $taken);
	ok($node->wait_taken("all_$policy", $events->{events}), "model, $policy: everything is taken");
	is_row("SELECT late = 0, late_applied > 10, late_dropped > 10, ignored > 1000 FROM profile_stream.stat_streams WHERE stream = 'all_$policy'",
		$policy eq 'apply' ? 't|t|f|t' : 't|f|t|t', "model, $policy: there are such events");
	$node->equals_model("all_$policy", $events, "model, $policy, seed $seed", model => [ '--late-tolerance', 20, '--late-policy', $policy, @model ]);
	$node->sql("SELECT profile_stream.rebuild('all_$policy')");
	ok($node->wait_rebuild('ready'), "model, $policy: a rebuild");
	is_row("SELECT * FROM profile_stream.rebuild_diff('all_$policy')", '', "model, $policy: the rebuild is equal");
	is_row("SELECT profile_stream.swap_rebuild('all_$policy')", '0', "model, $policy: and changes nothing");
	$node->equals_model("all_$policy", $events, "model, $policy, swapped", model => [ '--late-tolerance', 20, '--late-policy', $policy, @model ]);
	$node->sql("SELECT profile_stream.drop_stream('all_$policy')");
}

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
