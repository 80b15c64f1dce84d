# The same events equal the model in three formats: profile_event, CloudEvents (both modes in one topic) and custom, by a
# map with headers and key; changes of rows of a database, as Debezium writes them. Bad messages become dead letters with reasons and can be repaired. A change of field_map
# loses no message.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ map({ [ $_, 4 ] } qw(plain cloud custom)), map { [ $_, 1 ] } qw(bad change rows) ]);
my $node = ProfileStream::Node->start_new('main');
my $events = ProfileStream::Node::generate(seed => $ENV{PS_SEED} // 90, events => $ENV{PS_EVENTS} // 20_000, customers => 300);
my $empty = 'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters';

sub is_row
{
	my ($sql, $expected, $name) = @_;
	is($node->safe_psql('postgres', $sql), $expected, $name);
}

# Produces the events in another format.
sub produce_as
{
	my ($topic, $form) = @_;
	my $file = "$events->{dir}/$form";
	IPC::Run::run([ ProfileStream::Broker::tool('envelope.py'), $form ], '<', $events->{files}[0], '>', $file)
	  or die 'could not convert the events';
	$broker->produce_file($topic, $file);
	return $file;
}

# Where the bad messages of a stream are, of those that match: partition and offset.
sub dead
{
	my ($condition) = @_;
	return $node->safe_psql('postgres', "SELECT partition, kafka_offset FROM profile_stream.dead_letters WHERE $condition ORDER BY 1, 2");
}

# as profile events, the measure of the others
$broker->produce_file('plain', $events->{files}[0]);
$node->create_stream('plain', $broker, 'plain');
ok($node->wait_taken('plain', $events->{events}), 'profile_event: every message is taken');
$node->equals_model('plain', $events, 'profile_event');
my @unhandled = split(/\n/, dead("kind = 'handler'"));
my ($undecoded) = split(/\|/, $node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.dead_letters WHERE kind <> 'handler'"));
my $tombstones = $node->safe_psql('postgres', 'SELECT sum(tombstones) FROM profile_stream_internal.stream_offsets');

# as CloudEvents, and rebuilt from them
my $cloud = produce_as('cloud', 'cloudevents');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('plain'); $empty");
$node->create_stream('cloud', $broker, 'cloud', format => "'cloudevents'",
	field_map => q('{"timestamp": "$.time", "schemaVersion": "$.schemaversion"}'));
ok($node->wait_taken('cloud', $events->{events}), 'cloudevents: every message is taken');
$node->equals_model('cloud', $events, 'cloudevents', other_values => 1);
my (%next, %binary_at);
foreach my $line (split(/\n/, slurp_file($cloud)))
{
	my ($partition) = $line =~ /^(\d+)\t/;
	my $offset = $next{$partition}++;
	$binary_at{"$partition|$offset"} = 1 if $line =~ /\bce_specversion=/;
}
is(dead(q(event_id IS NOT NULL AND kind = 'handler' AND headers @> '[{"name": "ce_specversion"}]')), join("\n", grep { $binary_at{$_} } @unhandled),
	'cloudevents: a binary one is a dead letter with its event id');
$node->safe_psql('postgres', "SELECT profile_stream.rebuild('cloud')");
ok($node->wait_rebuild('ready'), 'cloudevents: a rebuild reads the topic');
is_row("SELECT * FROM profile_stream.rebuild_diff('cloud')", '', 'cloudevents: the rebuild has the same profiles');
is_row("SELECT profile_stream.swap_rebuild('cloud')", '0', 'cloudevents: and changes none');

# by a map, held and ordered
produce_as('custom', 'custom');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('cloud'); $empty");
$node->create_stream('custom', $broker, 'custom', reorder_wait => "'1 hour'", reorder_buffer_size => 1_000_000, format => "'custom'", field_map => <<'END');
'{"eventId": ["$.meta.id", "$.eventId"], "customerId": ["$.customerId", "key"], "eventType": ["$.eventType", "header:type"],
"timestamp": ["$.meta.at", "$.timestamp"], "payload": ["$.body", "$.payload"], "schemaVersion": ["$.meta.v", "$.schemaVersion"]}'
END
ok($node->wait_read('custom', $events->{events}), 'custom: every message is read');
is($node->safe_psql('postgres', "SELECT held FROM profile_stream.stat_streams WHERE stream = 'custom'"), $events->{events} - $undecoded - $tombstones,
	'custom: all events are held');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('custom', reorder_wait => '0')");
ok($node->wait_taken('custom', $events->{events}), 'custom: every message is taken');
$node->equals_model('custom', $events, 'custom', other_values => 1, model => ['--sort']);

# bad ones, with the reasons of their format
my %binary = (ce_specversion => '1.0', ce_source => '/t', ce_type => 'account.opened');
my $structured = '"specversion":"1.0","source":"/t","type":"account.opened"';
my @bad = (
	[ 'b0', qq({$structured,"id":"0","data":{"initialBalance":1}}) ],
	[ 'b1', '{"initialBalance":2}', { %binary, ce_id => '1' } ],
	[ 'b2', undef, { %binary, ce_id => '2' } ],
	[ 'b3', undef ],
	[ '', qq({$structured,"id":"4"}) ],
	[ 'b5', qq([{$structured,"id":"5"}]), { 'content-type' => 'application/cloudevents-batch+json' } ],
	[ 'b6', qq({$structured,"id":"6"}), { 'content-type' => 'application/cloudevents+avro' } ],
	[ 'b7', '{}', { %binary, ce_id => '7', ce_specversion => '0.3' } ],
	[ 'b8', qq({$structured,"id":"8","data_base64":"AA=="}) ],
	[ 'b9', '<account/>', { %binary, ce_id => '9', 'content-type' => 'application/xml' } ],
	[ 'b10', '[1]', { %binary, ce_id => '10' } ],
	[ 'b11', '{}', { %binary, ce_id => '11', ce_time => 'never' } ],
	[ 'b12', '{"initialBalance":"much"}', { %binary, ce_id => '12' } ],
	[ 'b13', '{"eventId":"13","customerId":"b13","eventType":"account.opened","timestamp":"2025-01-01"}' ],
	[ 'b14', '<gone/>', { %binary, ce_id => '14', ce_subject => 'gone' } ],
	[ '', qq({$structured,"id":"15","subject":"gone","data":) ]);
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('custom'); $empty");
$node->create_stream('bad', $broker, 'bad', format => "'cloudevents'", dead_letter_pause_ratio => 1);
$node->safe_psql('postgres', q(SELECT profile_stream.forget_customer('gone', block => true)));
$broker->produce('bad', map { [ 0, @$_ ] } @bad);
ok($node->wait_taken('bad', scalar @bad), 'bad: every message is taken');
is_row("SELECT applied, dead, tombstones, blocked FROM profile_stream.stat_streams WHERE stream = 'bad'", '3|10|1|2',
	'bad: counted, those of a blocked customer too, whom attributes name');
is_row(<<'SQL', <<'END' =~ s/\n\z//r, 'bad: each is a dead letter');
SELECT kafka_offset, kind, CASE kind WHEN 'handler' THEN customer_id || ' ' || event_id || ' ' || event_type ELSE array_to_string(errors, '; ') END
FROM profile_stream.dead_letters ORDER BY 1
SQL
4|invalid|Missing customerId
5|malformed|CloudEvents batches are not supported
6|malformed|Unsupported CloudEvents format application/cloudevents+avro
7|invalid|Unsupported specversion 0.3
8|invalid|Invalid payload
9|malformed|Malformed JSON: Token "<" is invalid.
10|invalid|Invalid payload
11|invalid|Invalid timestamp
12|handler|b12 /t|12 account.opened
13|invalid|Missing specversion; Missing eventId; Missing eventType
END
is_row("SELECT event - 'timestamp' FROM profile_stream.dead_letters WHERE kafka_offset = 12",
	'{"source": "/t", "eventId": "/t|12", "payload": {"initialBalance": "much"}, "eventType": "account.opened", "customerId": "b12"}',
	'bad: shown as a profile event');
is_row(q(SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'bad')), '0|10', 'bad: unchanged they fail again');
is_row(q(SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'bad',
	patch => '{"customerId": "mended", "timestamp": "2025-01-01", "payload": {"initialBalance": 5}}')), '5|5', 'bad: patched as profile events');
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION public.mend(value text) RETURNS jsonb LANGUAGE sql RETURN
	jsonb_build_object('eventId', value, 'customerId', 'mended', 'eventType', 'account.opened', 'timestamp', '2025-01-01');
END
is_row(q(SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'bad', transform => 'public.mend(text)')), '5|0',
	'bad: what has no event is repaired from its text');
is_row('SELECT customer_id, account_count, total_balance FROM profile_stream.materialized_profiles ORDER BY 1',
	"b0|1|1\nb1|1|2\nb2|1|0\nmended|10|25", 'bad: all are applied in the end');
$node->is_balanced('bad', 'bad');

# another map while messages come: each goes to the customer of one map or the other, and to the new one's afterwards
my $changes = 4_000;
my $change_file = "$events->{dir}/change";
open(my $handle, '>', $change_file) or die $!;
print $handle ProfileStream::Broker::lines(map { [ 0, '', qq({"n":$_,"old":"old","new":"new"}) ] } 1 .. $changes + 1);
close($handle);
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('bad'); $empty");
my $map = q('{"eventId": "$.n", "customerId": "$.%s", "eventType": "constant:t", "timestamp": "kafka_timestamp"}');
$node->create_stream('change', $broker, 'change', batch_size => 50, format => "'custom'", field_map => sprintf($map, 'old'));
my $producer = $broker->start_producing('change', $change_file);
ok($node->wait_taken('change', 1), 'change: it has begun');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('change', field_map => " . sprintf($map, 'new') . ')');
$broker->finish_producing($producer);
ok($node->wait_taken('change', $changes + 1), 'change: every message is taken');
$broker->produce('change', [ 0, '', '{"n":"last","old":"old","new":"new"}' ]);
ok($node->wait_taken('change', $changes + 2), 'change: the last one, too');
is_row("SELECT applied, duplicates, dead FROM profile_stream.stat_streams WHERE stream = 'change'", $changes + 2 . '|0|0', 'change: each is applied');
is_row('SELECT sum(version) FROM profile_stream.materialized_profiles', $changes + 2, 'change: once');
is_row("SELECT count(*) FROM profile_stream_internal.event_ids WHERE customer_id = 'new' AND hash = profile_stream_internal.event_id_hash('last')", 1, 'change: by the new map');

# changes of rows: what a connector sends twice counts once, also where it has another offset; a key or a position that is not there
sub change
{
	my ($op, $id, $row, $source) = @_;
	my $image = defined $row ? qq({"id":$id,"customer_id":"r$id",$row}) : 'null';
	my ($before, $after) = $op eq 'd' ? ($image, 'null') : ('null', $image);
	return qq({"before":$before,"after":$after,"op":"$op","source":{"name":"bank","schema":"public","table":"people","ts_ms":1767960000000,$source}});
}
my @rows = (
	[ '{"id":1}', change('r', 1, '"email":"a@example.com","tier":"silver"', '"lsn":10') ],
	[ '{"id":2}', change('r', 2, '"email":"b@example.com","tier":"gold"', '"lsn":10') ],
	[ '{"schema":null,"payload":{"id":1}}', '{"schema":{"type":"struct"},"payload":' . change('u', 1, '"email":"__debezium_unavailable_value","tier":"gold"', '"lsn":11,"txId":5') . '}' ],
	[ '{"id":1}', change('u', 1, '"email":"__debezium_unavailable_value","tier":"gold"', '"lsn":11,"txId":5') ],
	[ '', change('c', 3, '"tier":"none"', '"lsn":12') ],
	[ '', change('c', 3, '"tier":"none"', '"lsn":12') ],
	[ '{"id":2}', change('d', 2, '"tier":"gold"', '"lsn":13') ],
	[ '{"id":2}', undef ],
	[ '{"id":4}', change('t', 4, undef, '"lsn":14') ],
	[ '{"id":5}', '{"op":"c","after":' ],
	[ '', change('c', 3, '"tier":"none"', '"lsn":12') =~ s/1767960000000/"never"/r ]);
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('change'); $empty");
$node->safe_psql('postgres', q(SELECT profile_stream.map_attribute('people.' || event, member, '$.' || member)
	FROM unnest('{read,created,updated}'::text[]) AS e(event), unnest('{tier,email}'::text[]) AS m(member)));
$broker->produce('rows', map { [ 0, @$_ ] } @rows);
$node->create_stream('rows', $broker, 'rows', format => "'debezium'", field_map => q('{"customerId": "$.row.customer_id"}'), dead_letter_pause_ratio => 1);
ok($node->wait_taken('rows', scalar @rows), 'debezium: every message is taken');
is_row("SELECT applied, duplicates, dead, tombstones FROM profile_stream.stat_streams WHERE stream = 'rows'", '6|1|3|1', 'debezium: counted');
is_row('SELECT customer_id, email, attributes ->> \'tier\', event_counts FROM profile_stream.materialized_profiles ORDER BY 1',
	qq(r1|a\@example.com|gold|{"people.read": 1, "people.updated": 1}\nr2|b\@example.com|gold|{"people.read": 1, "people.deleted": 1}\nr3||none|{"people.created": 2}),
	'debezium: a column that the log does not hold keeps its value; the key of the row tells rows of one position apart');
is_row('SELECT kafka_offset, errors[1] FROM profile_stream.dead_letters ORDER BY 1', "8|Unsupported op t\n9|Malformed JSON: The input string ended unexpectedly.\n10|Invalid timestamp",
	'debezium: what is no change of a row is a dead letter');
is_row("SELECT event ->> 'eventId' FROM profile_stream.dead_letters WHERE kafka_offset = 10", 'bank.public.people|c|kafka=0:10', 'debezium: a dead letter shows the id of its offset');
is_row(q(SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'rows', patch => '{"timestamp": "2026-01-01"}')), '1|2', 'debezium: and is repaired with it');
$node->safe_psql('postgres', "SELECT profile_stream.rebuild('rows')");
ok($node->wait_rebuild('ready'), 'debezium: a rebuild reads the topic');
is_row("SELECT customer_id FROM profile_stream.rebuild_diff('rows')", 'r3', 'debezium: the rebuild has the same profiles, but for the one that was repaired');
$node->safe_psql('postgres', "SELECT profile_stream.cancel_rebuild('rows')");
$node->safe_psql('postgres', q(SELECT profile_stream.alter_stream('rows', field_map => '{"customerId": "$.row.customer_id", "deletes": "tombstone"}')));
$broker->produce('rows', [ 0, '{"id":1}', change('d', 1, '"tier":"gold"', '"lsn":15') ]);
ok($node->wait_taken('rows', @rows + 1), 'debezium: deletes as tombstones');
is_row("SELECT applied, tombstones FROM profile_stream.stat_streams WHERE stream = 'rows'", '6|2', 'debezium: change nothing');
$node->is_balanced('rows', 'rows');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();
