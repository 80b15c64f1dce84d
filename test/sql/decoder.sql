-- Decoders: functions of users that make JSON of bytes. The example for Avro reads what Apache Avro 1.12 for Python wrote.
SET timezone = 'UTC';
-- a busy machine may need more than a second for what is large
SET profile_stream.handler_timeout = 0;
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set example :srcdir '/../examples/avro_decoder.sql'
\i :example
\set ECHO all
INSERT INTO avro.schemas VALUES (1, '{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "id", "type": "string"}, {"name": "customer", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "total", "type": "double"}, {"name": "items", "type": "int"}, {"name": "voucher", "type": ["null", "string"], "default": null}, {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["APP", "WEB", "STORE"]}}, {"name": "second", "type": ["null", "Channel"], "default": null}, {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "prices", "type": {"type": "map", "values": "float"}}, {"name": "gift", "type": "boolean"}, {"name": "hash", "type": {"type": "fixed", "name": "Md4", "size": 4}}, {"name": "raw", "type": "bytes"}, {"name": "address", "type": ["null", {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "int"]}]}], "default": null}]}');
\set o1 '\\x0000000001066f2d3106632d31f6d985aaf466000000000080344005000202040402610a6bc3b66c6e0004064555520000c03f06555344000080be000100ff1020040001020a4bc3b66c6e02d69706'
\set o2 '\\x0000000001066f2d3206632d3280d885aaf46600000000000015c0feffffff0f020258000000000000ff10200000'
\set o3 '\\x0000000001066f2d3306632d31f6d985aaf466ffffffffffffef7fffffffff0f0002020484020278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278027802780278000202619ec97f7f000100ff1020040001020000'
\set map '{"eventId": "$.id", "customerId": ["$.customer", "key"], "eventType": "constant:order.placed", "timestamp": "$.at", "payload": "$"}'
SELECT jsonb_pretty(avro.decode(:'o1', NULL, '[]'));
SELECT r - 'tags' AS result, jsonb_array_length(r -> 'tags') AS tags FROM (SELECT avro.decode(v, NULL, '[]') AS r FROM unnest(ARRAY[:'o2', :'o3']::bytea[]) v) AS d;
SELECT event_id, customer_id, event_type, event_timestamp, payload -> 'address' AS address, errors
FROM profile_stream.decode_message(:'o1', format => 'custom', field_map => :'map', decoder => 'avro.decode', as_of => '2026-01-10');
-- damaged bytes, in every place
SELECT count(*) AS events, count(errors) AS errors, count(*) FILTER (WHERE errors[1] ~ '^Processing error: decoder avro.decode\(bytea,bytea,jsonb\): ') AS of_the_decoder
FROM generate_series(0, length(:'o1'::bytea) - 1) n, LATERAL (VALUES (substr(:'o1'::bytea, 1, n)), (set_byte(:'o1', n, 255)), (substr(:'o1'::bytea, 1, n) || substr(:'o1'::bytea, n + 2))) AS v(value),
	profile_stream.decode_message(value, format => 'custom', field_map => :'map', decoder => 'avro.decode', as_of => '2026-01-10') d;
SELECT errors, kind FROM profile_stream.decode_message('\x0000000002aa', decoder => 'avro.decode');

-- what a decoder may return: an event, an array of them, none
CREATE FUNCTION public.by_value(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE convert_from(value, 'UTF8')
		WHEN 'null' THEN RETURN NULL;
		WHEN 'none' THEN RETURN '[]';
		WHEN 'jsonb null' THEN RETURN 'null';
		WHEN 'number' THEN RETURN '1';
		WHEN 'two' THEN RETURN '[{"eventId": "1", "customerId": "a", "eventType": "t", "timestamp": "2026-01-01"}, {"eventId": "2", "customerId": "b", "timestamp": "2026-01-01"}]';
		WHEN 'odd' THEN RETURN '[1, [], null]';
		WHEN 'many' THEN RETURN (SELECT jsonb_agg(i) FROM generate_series(1, 1001) i);
		WHEN 'large' THEN RETURN jsonb_build_object('x', repeat('x', 2000000));
		WHEN 'digits' THEN RETURN (SELECT jsonb_agg(jsonb_build_array(1e131071)) FROM generate_series(1, 900));
		WHEN 'write' THEN CREATE TABLE public.written (i int); RETURN '{}';
		WHEN 'insert' THEN INSERT INTO avro.schemas VALUES (9, '{}'); RETURN '{}';
		WHEN 'read write' THEN SET transaction_read_only = off; RETURN '{}';
		WHEN 'role' THEN RETURN jsonb_build_object('eventId', CASE current_user WHEN pg_get_userbyid(10) THEN 'owner' ELSE current_user::text END, 'customerId', 'c', 'eventType', current_setting('search_path'), 'timestamp', '2026-01-01');
		WHEN 'nested' THEN PERFORM profile_stream.decode_message(value, decoder => 'public.by_value'); RETURN '{}';
		WHEN 'apply' THEN PERFORM profile_stream.apply_event('{}'); RETURN '{}';
		WHEN 'arguments' THEN RETURN jsonb_build_object('eventId', COALESCE(encode(key, 'hex'), 'none'), 'customerId', 'c', 'eventType', headers::text, 'timestamp', '2026-01-01');
		ELSE RAISE 'no' USING ERRCODE = 'P0042';
	END CASE;
END $$;
SELECT value, event_id, customer_id, event_type, left(errors::text, 150) AS errors, kind
FROM unnest('{null,none,"jsonb null",number,two,odd,many,large,digits,write,insert,"read write",role,nested,apply,arguments,other}'::text[]) WITH ORDINALITY v(value, i),
	profile_stream.decode_message(convert_to(value, 'UTF8'), decoder => 'public.by_value(bytea,bytea,jsonb)', as_of => '2026-01-10') ORDER BY i;
SELECT event_id, event_type FROM profile_stream.decode_message('arguments', key => '\x00ff', headers => '{"a": "b"}', decoder => 'public.by_value', as_of => '2026-01-10');
SELECT kind FROM profile_stream.decode_message(NULL, decoder => 'public.by_value');
-- what a message may become: a number of eight bytes has a text of 131,072
CREATE FUNCTION public.as_json(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql RETURN convert_from(value, 'UTF8')::jsonb;
SELECT event_id, left(errors::text, 200) AS errors FROM unnest('{0,99}'::int[]) n,
	profile_stream.decode_message(convert_to(concat('{"eventId": "e", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01", "payload": {"n": [1e300', repeat(',1e300', n), ']}}'), 'UTF8'),
		decoder => 'public.as_json', as_of => '2026-01-10');
SELECT errors FROM profile_stream.decode_message(convert_to(concat('{"n": [1e131071', repeat(',1e131071', 8999), ']}'), 'UTF8'), decoder => 'public.as_json');
-- its time is limited
CREATE FUNCTION public.slow(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(100); RETURN '{}'; END $$;
SET profile_stream.handler_timeout = '50ms';
SELECT errors FROM profile_stream.decode_message('x', decoder => 'public.slow');
RESET profile_stream.handler_timeout;

-- who may name which function
SELECT profile_stream.decode_message('x', decoder => 'public.nothing');
SELECT profile_stream.decode_message('x', decoder => 'by_value');
CREATE FUNCTION public.strict(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql STRICT RETURN '{}'::jsonb;
SELECT profile_stream.decode_message('x', decoder => 'public.strict');
SELECT profile_stream.decode_message('x', decoder => 'pg_catalog.jsonb_set(jsonb,text[],jsonb,boolean)');
CREATE ROLE decoder_operator IN ROLE profile_stream_operator;
GRANT CREATE ON SCHEMA public TO decoder_operator;
SET ROLE decoder_operator;
SELECT profile_stream.decode_message('x', decoder => 'public.by_value');
CREATE FUNCTION public.own(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql
	RETURN jsonb_build_object('eventId', 1, 'customerId', current_user, 'eventType', 't', 'timestamp', '2026-01-01');
RESET ROLE;
SELECT customer_id FROM profile_stream.decode_message('x', decoder => 'public.own', as_of => '2026-01-10');

-- of a stream
SET client_min_messages = error;
SELECT profile_stream.create_stream('a', bootstrap_servers => 'localhost:1', decoder => 'public.own');
SELECT profile_stream.create_stream('b', bootstrap_servers => 'localhost:1', decoder => 'public.nothing');
SELECT profile_stream.create_stream('b', bootstrap_servers => 'localhost:1');
SELECT kind, name, code, owner, state FROM profile_stream.stat_code WHERE kind = 'decoder';
SELECT kind, event_type, name, definition FROM profile_stream.definitions WHERE kind = 'decoder';
SELECT profile_stream.alter_stream('b', decoder => 'public.by_value');
SELECT profile_stream.alter_stream('a', batch_size => 10);
SELECT name, code, state FROM profile_stream.stat_code WHERE kind = 'decoder' ORDER BY 1;
SELECT profile_stream.alter_stream('b', decoder => '');
-- what another statement writes does not run until it is confirmed
UPDATE profile_stream_internal.stream_decoders SET function = 'public.by_value(bytea,bytea,jsonb)';
SELECT name, code, state FROM profile_stream.stat_code WHERE kind = 'decoder' ORDER BY 1;
SELECT profile_stream_internal.decoded_values(stream_id, 'two', NULL, NULL) FROM profile_stream.streams WHERE name = 'a';
ALTER FUNCTION public.by_value OWNER TO decoder_operator;
SELECT profile_stream.confirm_code('decoder');
SELECT array_length(profile_stream_internal.decoded_values(stream_id, 'two', NULL, NULL), 1), profile_stream_internal.decoded_values(stream_id, 'null', NULL, NULL) FROM profile_stream.streams WHERE name = 'a';
SELECT profile_stream_internal.decoded_values(stream_id, 'other', NULL, NULL) FROM profile_stream.streams WHERE name = 'a';
SELECT convert_from((profile_stream_internal.decoded_values(stream_id, 'two', NULL, NULL))[1], 'UTF8') FROM profile_stream.streams WHERE name = 'b';
SELECT profile_stream.drop_stream(name) FROM profile_stream.streams ORDER BY name;
SELECT count(*) FROM profile_stream_internal.stream_decoders;
SELECT count(*) FROM profile_stream_internal.confirmed_code WHERE kind = 'decoder';
DROP FUNCTION public.by_value, public.as_json, public.slow, public.strict, public.own;
REVOKE CREATE ON SCHEMA public FROM decoder_operator;
DROP ROLE decoder_operator;
DROP SCHEMA avro CASCADE;
