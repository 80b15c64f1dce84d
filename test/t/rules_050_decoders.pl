# Decoders of streams: Avro with the framing of a schema registry; many events of one message; what a decoder refuses; decoders
# that hang, write or are gone. No event is lost or counts twice, also when the worker is killed or a customer is locked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ map { [ $_, 1 ] } qw(avro lists hostile poison) ]);
my $node = ProfileStream::Node->start_new('main', conf => "profile_stream.handler_timeout = '300ms'\nprofile_stream.worker_restart_limit = 2\n");

sub is_row { my ($sql, $expected, $name) = @_; is($node->safe_psql('postgres', $sql), $expected, $name); }

# Avro, as Apache Avro 1.12 for Python wrote it
my $schema = '{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "id", "type": "string"}, {"name": "customer", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "total", "type": "double"}, {"name": "items", "type": "int"}, {"name": "voucher", "type": ["null", "string"], "default": null}, {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["APP", "WEB", "STORE"]}}, {"name": "second", "type": ["null", "Channel"], "default": null}, {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "prices", "type": {"type": "map", "values": "float"}}, {"name": "gift", "type": "boolean"}, {"name": "hash", "type": {"type": "fixed", "name": "Md4", "size": 4}}, {"name": "raw", "type": "bytes"}, {"name": "address", "type": ["null", {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "int"]}]}], "default": null}]}';
my @orders = map { pack('H*', $_) } qw(
	0000000001066f2d3106632d31f6d985aaf466000000000080344005000202040402610a6bc3b66c6e0004064555520000c03f06555344000080be000100ff1020040001020a4bc3b66c6e02d69706
	0000000001066f2d3206632d3280d885aaf46600000000000015c0feffffff0f020258000000000000ff10200000);
my $other = $orders[1] =~ s/^\0\0\0\0\x01/\0\0\0\0\x02/r =~ s/o-2/o-4/r;
$node->sql(slurp_file("$FindBin::RealBin/../../examples/avro_decoder.sql"));
$node->sql("INSERT INTO avro.schemas VALUES (1, \$s\$$schema\$s\$)");
$node->sql("SELECT profile_stream.map_attribute('order.placed', 'city', '\$.address.city')");
$node->sql("SELECT profile_stream.create_metric('spent', 'order.placed', '30 days', '\$.total', 'sum')");
$broker->produce('avro', [ 0, '', $orders[0] ], [ 0, '', $orders[1] ], [ 0, '', $other ], [ 0, 'k', '{"id": 1}' ], [ 0, 'k', undef ], [ 0, '', substr($orders[0], 0, 30) ]);
$node->create_stream('avro', $broker, 'avro', decoder => "'avro.decode'", format => "'custom'", dead_letter_pause_ratio => 1, field_map => <<'END');
'{"eventId": "$.id", "customerId": "$.customer", "eventType": "constant:order.placed", "timestamp": "$.at", "payload": "$"}'
END
ok($node->wait_taken('avro', 6), 'Avro: all are taken');
is_row("SELECT applied, dead, tombstones FROM profile_stream.stat_streams WHERE stream = 'avro'", '2|3|1', 'Avro: counted');
is_row("SELECT customer_id, attributes ->> 'city', profile_stream.metric_value(customer_id, 'spent', '2026-01-10'), event_counts FROM profile_stream.materialized_profiles ORDER BY 1",
	qq(c-1|K\xc3\xb6ln|20.5|{"order.placed": 1}\nc-2||) . "-5.25|" . qq({"order.placed": 1}), 'Avro: profiles have what the records say');
is_row('SELECT kafka_offset, kind, sqlstate, errors[1] FROM profile_stream.dead_letters ORDER BY 1', <<'END' =~ s/\n\z//r, 'Avro: what cannot be decoded is a dead letter');
2|malformed|P0001|Processing error: decoder avro.decode(bytea,bytea,jsonb): Avro: schema 2 is not known
3|malformed|P0001|Processing error: decoder avro.decode(bytea,bytea,jsonb): Avro: the message has no framing of a schema registry
5|malformed|2202E|Processing error: decoder avro.decode(bytea,bytea,jsonb): index 30 out of valid range, 0..29
END
$node->sql("INSERT INTO avro.schemas VALUES (2, \$s\$$schema\$s\$)");
is_row("SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'avro')", '1|2', 'Avro: once the schema is there, the letter is applied');
is_row("SELECT event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'c-2'", '{"order.placed": 2}', 'Avro: to its customer');

$node->sql("SELECT profile_stream.drop_stream('avro')");

# lists of events: "type:customer,customer ..."; each event has an id of its own
$node->sql(<<'END');
CREATE FUNCTION public.list(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql
	RETURN (SELECT jsonb_agg(jsonb_build_object('eventId', e || '/' || convert_from(value, 'UTF8'), 'customerId', split_part(e, ':', 1), 'eventType', split_part(e, ':', 2),
		'timestamp', '2026-01-01') ORDER BY n) FROM regexp_split_to_table(convert_from(value, 'UTF8'), ' ') WITH ORDINALITY AS t(e, n) WHERE e ~ ':');
END
my $locker = $node->background_psql('postgres');
$locker->query_safe(q(BEGIN; SELECT profile_stream.lock_customer('locked')));
$broker->produce('lists', map { [ 0, '', $_ ] } 'a:t b:t locked:t', 'nothing', 'a:t locked:u', 'locked:t: c:transaction.completed d:transaction.completed', 'locked:w');
$node->create_stream('lists', $broker, 'lists', decoder => "'public.list(bytea,bytea,jsonb)'", customer_lock_timeout => "'50ms'", dead_letter_pause_ratio => 1);
ok($node->wait_taken('lists', 6), 'lists: what is not locked is taken');
is_row("SELECT applied, dead, ignored, held FROM profile_stream.stat_streams WHERE stream = 'lists'", '3|2|1|4', 'lists: messages with a locked customer are held');
$node->is_balanced('lists', 'lists, held');
my $worker = $node->sql("SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = 'lists'");
kill('KILL', $worker);
$node->{expected_signals}++;
eval { $locker->quit };
ok($node->wait_taken('lists', 10), 'lists: after a crash, what waited is applied');
is_row("SELECT customer_id, event_counts FROM profile_stream.materialized_profiles WHERE customer_id !~ '-' ORDER BY 1",
	qq(a|{"t": 2}\nb|{"t": 1}\nlocked|{"t": 2, "u": 1, "w": 1}), 'lists: each event counts once');
is_row("SELECT kafka_offset, errors[1] FROM profile_stream.dead_letters WHERE stream = 'lists'", '3|Processing error: amount is missing', 'lists: one dead letter a message');
is_row("SELECT duplicates = replayed - held AND held = 0 OR duplicates >= 0 FROM profile_stream.stat_streams WHERE stream = 'lists'", 't', 'lists: what was applied before the crash is not applied again');
$node->is_balanced('lists', 'lists');
is_row("SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(stream => 'lists')", '0|1|2', 'lists: the letter stays while an event of it fails');
is_row("SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(stream => 'lists', patch => '{\"payload\": {\"amount\": 1}}')", '2|1|0', 'lists: and goes when none does');
is_row("SELECT count(*) FROM profile_stream.dead_letters WHERE stream = 'lists'", '0', 'lists: no letter is left');
$node->sql("SELECT profile_stream.rebuild('lists')");
ok($node->wait_rebuild('ready'), 'lists: a rebuild decodes, too');
is_row("SELECT customer_id FROM profile_stream.rebuild_diff('lists') WHERE customer_id IN ('a', 'b', 'locked')", '', 'lists: and has the same profiles');
$node->sql("SELECT profile_stream.cancel_rebuild('lists')");

# held for their order: the decoder is called once for each message
$node->sql("SELECT profile_stream.alter_stream('lists', reorder_wait => '1 hour', reorder_buffer_size => 1000)");
$broker->produce('lists', [ 0, '', 'e:t f:t' ], [ 0, '', 'e:u' ]);
ok($node->poll_query_until('postgres', "SELECT held = 2 FROM profile_stream.stat_streams WHERE stream = 'lists'"), 'lists: held');
$node->sql("SELECT profile_stream.map_attribute('t', 'x', operation => 'count')");	# what is held is decoded again by new rules
$node->sql("SELECT profile_stream.alter_stream('lists', reorder_wait => '0')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream.materialized_profiles WHERE customer_id IN ('e', 'f') AND attributes ->> 'x' = '1'"),
	'lists: and applied by the rules of then');
$node->is_balanced('lists', 'lists, in order');

# hostile decoders
$node->sql(<<'END');
CREATE FUNCTION public.act(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE convert_from(value, 'UTF8')
		WHEN 'catch' THEN
			LOOP
				BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
			END LOOP;
		WHEN 'slow' THEN PERFORM pg_sleep(1000);
		WHEN 'unlock' THEN PERFORM pg_advisory_unlock_all();
		WHEN 'write' THEN DELETE FROM profile_stream.materialized_profiles;
		WHEN 'notify' THEN NOTIFY x;
		WHEN 'system' THEN RAISE 'busy' USING ERRCODE = '40001';
		WHEN 'kill' THEN PERFORM pg_terminate_backend(pg_backend_pid());
		ELSE NULL;
	END CASE;
	RETURN jsonb_build_object('eventId', convert_from(key, 'UTF8'), 'customerId', 'h', 'eventType', 'acted', 'timestamp', '2026-01-01');
END $$;
END
my @acts = qw(ok slow unlock ok write catch ok notify system kill slow slow ok);
my $n = 0;
$broker->produce('hostile', map { $n++; [ 0, "k$n", $_ ] } @acts);
$node->create_stream('hostile', $broker, 'hostile', decoder => "'public.act'", dead_letter_pause_ratio => 1);
ok($node->wait_taken('hostile', scalar @acts), 'hostile: all are taken');
is_row("SELECT applied, dead, state FROM profile_stream.stat_streams WHERE stream = 'hostile'", '5|8|running', 'hostile: each costs its message');
is_row("SELECT kafka_offset, sqlstate, regexp_replace(errors[1], '.*jsonb\\)', '') FROM profile_stream.dead_letters WHERE stream = 'hostile' ORDER BY 1", <<'END' =~ s/\n\z//r, 'hostile: with a reason');
1|57014| took longer than profile_stream.handler_timeout
2|0A000|: pg_advisory_unlock_all() cannot be called by code that profile_stream calls
4|25006|: cannot execute DELETE in a read-only transaction
5|| took longer than profile_stream.handler_timeout, and did not end when it was cancelled
8|40001|: busy
9|57014| cancelled or terminated its own process
10|57014| took longer than profile_stream.handler_timeout
11|57014| took longer than profile_stream.handler_timeout
END
$node->is_balanced('hostile', 'hostile');

# several messages of a batch for which it always raises the system's errors: each has attempts of its own, and none begins anew for another
$node->sql(<<'END');
CREATE FUNCTION public.busy(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF value = 'busy' THEN
		RAISE 'busy' USING ERRCODE = '40001';
	ELSIF value = 'broken' THEN
		RAISE LOG 'broken % is tried', convert_from(key, 'UTF8');
		RAISE 'broken' USING ERRCODE = 'XX000';
	END IF;
	RETURN jsonb_build_object('eventId', convert_from(key, 'UTF8'), 'customerId', 'p', 'eventType', 'acted', 'timestamp', '2026-01-01');
END $$;
END
$broker->produce('poison', map { [ 0, "p$_", $_ % 256 == 0 ? 'busy' : 'ok' ] } 0 .. 256);
$node->create_stream('poison', $broker, 'poison', decoder => "'public.busy'", dead_letter_pause_ratio => 1);
ok($node->wait_taken('poison', 257), 'poison: all are taken');
is_row("SELECT string_agg(kafka_offset || ' ' || sqlstate, ', ' ORDER BY kafka_offset) FROM profile_stream.dead_letters WHERE stream = 'poison'", '0 40001, 256 40001', 'poison: each costs its message');
# an internal error that lasts: one message has attempts, the others cost no wait
my $from = -s $node->logfile;
$broker->produce('poison', map { [ 0, "b$_", 'broken' ] } 1 .. 10);
ok($node->wait_taken('poison', 267), 'poison: broken ones are taken');
is_row("SELECT count(*) FROM profile_stream.dead_letters WHERE stream = 'poison' AND sqlstate = 'XX000'", '10', 'poison: each is a dead letter');
my @tried = slurp_file($node->logfile, $from) =~ /LOG: .*broken \w+ is tried/g;
is(scalar @tried, 12, 'poison: the first one is tried three times, the others once');
$node->sql("SELECT profile_stream.discard_dead_letters('poison'), profile_stream.drop_stream('poison')");

# a stream whose decoder is gone makes dead letters; with another one they are repaired
$node->sql('ALTER FUNCTION public.act RENAME TO moved');
$broker->produce('hostile', [ 0, 'k20', 'ok' ]);
ok($node->wait_taken('hostile', @acts + 1), 'gone: taken');
is_row("SELECT state FROM profile_stream.stat_code WHERE name = 'hostile'", 'no_function', 'gone: stat_code says so');
$node->sql("SELECT profile_stream.alter_stream('hostile', decoder => 'public.moved')");
is_row("SELECT applied FROM profile_stream.retry_dead_letters(ids => ARRAY(SELECT dead_letter_id FROM profile_stream.dead_letters WHERE errors[1] ~ 'does not exist'))", '1', 'gone: repaired');

# a restored dump: the decoder waits for its confirmation
$broker->produce('hostile', [ 0, 'k21', 'ok' ]);
ok($node->wait_taken('hostile', @acts + 2), 'dump: taken');
my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dump: made');
$node->sql("SELECT profile_stream.drop_stream(name) FROM profile_stream.streams");
$node->sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('copy') ], 'dump: restored');
is($node->safe_psql('copy', "SELECT name, state FROM profile_stream.stat_code WHERE kind = 'decoder' ORDER BY 1"), "hostile|unconfirmed\nlists|unconfirmed",
	'dump: decoders are not confirmed');
$broker->produce('hostile', [ 0, 'k22', 'ok' ]);
$node->safe_psql('copy', "SELECT profile_stream.resume_stream('hostile')");
ok($node->poll_query_until('copy', "SELECT state = 'retrying' AND error ~ 'decoder public.moved.* is not confirmed' FROM profile_stream.stat_streams WHERE stream = 'hostile'"),
	'dump: the stream waits for it');
is($node->safe_psql('copy', "SELECT profile_stream.confirm_code('decoder', 'hostile')"), '1', 'dump: confirmed');
ok($node->poll_query_until('copy', "SELECT event_counts = '{\"acted\": 8}' FROM profile_stream.materialized_profiles WHERE customer_id = 'h'"), 'dump: and goes on');
$node->safe_psql('copy', 'SELECT profile_stream.drop_stream(name) FROM profile_stream.streams');
$node->is_clean('end');
$node->stop;
$broker->stop;
done_testing();
