-- formats and field maps: decode_message() tries them without a stream. as_of is always given, so that nothing depends on the clock.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- what a message is, in short
CREATE FUNCTION public.decoded(value text, key text DEFAULT NULL, headers jsonb DEFAULT NULL, kafka_timestamp timestamptz DEFAULT NULL,
	format text DEFAULT 'cloudevents', field_map jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN d.kind = 'tombstone' THEN d.kind WHEN d.kind IS NOT NULL THEN d.kind || ': ' || array_to_string(d.errors, '; ')
		ELSE concat_ws(' ', d.event_id, d.customer_id, d.event_type, d.event_timestamp, COALESCE(d.source, '-'), d.schema_version, d.payload) END
	FROM profile_stream.decode_message(convert_to(value, 'UTF8'), convert_to(key, 'UTF8'), headers, kafka_timestamp, format, field_map, '2026-01-01Z') d;
$$;

-- profile_event: as decode_event(), whatever is beside the value
SELECT public.decoded('{"eventId": 1, "customerId": "c", "eventType": "x", "timestamp": "2025-01-01", "payload": {"a": 1}}',
	key => 'k', headers => '{"ce_id": "9"}', format => 'profile_event');
SELECT public.decoded(NULL, format => 'profile_event', headers => '{"ce_id": "9"}');
SELECT d.* FROM profile_stream.decode_message('{}', as_of => '2026-01-01Z') d;

-- CloudEvents, structured mode: what headers say or do not say
\set ce '{"specversion": "1.0", "id": "e1", "source": "/core", "type": "account.opened", "subject": "c1", "time": "2025-06-01T12:00:00.5Z", "datacontenttype": "application/json", "data": {"initialBalance": 12.50}}'
SELECT public.decoded(:'ce');
SELECT public.decoded(:'ce', headers => '{"Content-Type": "application/CloudEvents+json; charset=UTF-8", "ce_id": "other"}');
SELECT public.decoded(:'ce', headers => '{"content-type": "application/cloudevents"}');
SELECT public.decoded(:'ce', headers => '{"content-type": "application/json"}');
-- a subject and a time may be missing, data too; an extension is nobody's
SELECT public.decoded('{"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "extension": {"a": [1]}}', key => 'k1', kafka_timestamp => '2025-06-01 12:00:00.123Z');
SELECT public.decoded('{"specversion": "1.1", "id": "e1", "type": "t", "subject": "", "time": null, "data": null}', key => 'k1', kafka_timestamp => '2025-06-01 12:00Z');
SELECT public.decoded('{"specversion": "1.0", "id": "e1", "type": "t"}');
-- of a repeated key the last counts
SELECT public.decoded('{"specversion": "0.3", "id": "e0", "data": {"a": 1, "b": 2}, "id": "e1", "type": "t", "subject": "c", "time": "2025-01-01", "data": {"a": 3, "a": 4}, "specversion": "1.0"}');
SELECT public.decoded('{"specversion": "1.0", "id": "e1", "data": {"a": 1}, "type": "t", "subject": "c", "time": "2025-01-01", "data": null}');
-- what is no object is no payload
SELECT public.decoded('{"specversion": "1.0", "id": "e1", "type": "t", "subject": "c", "time": "2025-01-01", "data_base64": "e30="}');
SELECT public.decoded(format('{"specversion": "1.0", "id": "e1", "type": "t", "subject": "c", "time": "2025-01-01", "data": %s}', data))
	FROM unnest(ARRAY['""', '0', 'false', '[]', '"text"', '{}']) data;
-- versions, formats, batches
SELECT public.decoded(replace(:'ce', '"1.0"', version)) FROM unnest(ARRAY['"0.3"', '"2.0"', '"1"', 'null', 'true', '{"a": 1}', '1.0', '"1.0.3"']) version;
SELECT public.decoded(:'ce', headers => jsonb_build_object('content-type', 'application/cloudevents' || type))
	FROM unnest(ARRAY['-batch+json', '-batch', '+avro', '+jsonx', '+json ;a=b', 's', ';a=b']) type;
SELECT public.decoded('[' || :'ce' || ']', headers => '{"content-type": "application/cloudevents-batch+json; charset=utf-8"}');
SELECT public.decoded(value) FROM unnest(ARRAY['[]', '', '{', '{"id": 1e999}', 'null', NULL]) value;
SELECT (profile_stream.decode_message('\x0000000001', format => 'cloudevents')).errors;

-- binary mode: attributes from headers, data from the value
\set ceh '{"ce_specversion": "1.0", "ce_id": "e2", "ce_source": "/core", "ce_type": "t", "ce_subject": "c2", "ce_time": "2025-06-01T12:00:00Z", "content-type": "application/json"}'
SELECT public.decoded(' {"id": "not me", "data": {"a": 1}, "a": 1} ', headers => :'ceh');
SELECT public.decoded('{}', key => 'k2', kafka_timestamp => '2025-06-01 12:00Z', headers => :'ceh'::jsonb - 'ce_subject' - 'ce_time' - 'ce_source' - 'content-type');
-- without data the value is null: an event all the same; with the other content type it is a tombstone
SELECT public.decoded(NULL, headers => :'ceh');
SELECT public.decoded(NULL, headers => '{"content-type": "application/json"}');
SELECT public.decoded(NULL, headers => :'ceh'::jsonb || '{"content-type": "application/cloudevents+json"}');
SELECT public.decoded(value, headers => :'ceh') FROM unnest(ARRAY['[1]', '"text"', ' null ', '7', 'true', '', '<xml/>', '{"a": 1']) value;
SELECT public.decoded('{}', headers => :'ceh'::jsonb - 'ce_specversion');
SELECT public.decoded('{}', headers => :'ceh'::jsonb || '{"ce_specversion": "0.3"}');
SELECT public.decoded('{}', headers => '{"ce_specversion": "1.0"}');
-- headers repeat: the last counts; a header without a value is absent; one that is no text is not taken for one
SELECT public.decoded('{}', headers => '[{"name": "ce_specversion", "value": "1.0"}, {"name": "ce_id", "value": "1"}, {"name": "ce_id", "hex": "6532"}, {"name": "ce_type", "value": "t"},
	{"name": "ce_time", "value": "2025-06-01"}, {"name": "ce_subject", "value": null}]', key => 'k');
SELECT public.decoded('{}', headers => '[{"name": "ce_specversion", "value": "1.0"}, {"name": "ce_id", "hex": "ff"}, {"name": "ce_type", "hex": "610062"},
	{"name": "ce_time", "hex": "ff"}, {"name": "ce_subject", "value": "c"}]');
SELECT d.kind, d.errors FROM profile_stream.decode_message('{"specversion": "1.0", "id": "1", "type": "t", "time": "2025-01-01"}', '\xff', format => 'cloudevents', as_of => '2026-01-01Z') d;
-- single members of one's own
SELECT public.decoded(:'ce', field_map => '{"customerId": "$.data.owner.id", "schemaVersion": "constant:1", "source": "header:origin"}', headers => '{"origin": "here"}');
SELECT public.decoded(replace(:'ce', '12.50', '12.50, "owner": {"id": 77, "id": 78}'), field_map => '{"customerId": "$.data.owner.id", "payload": "$.data.owner"}');
SELECT public.decoded('{"owner": {"id": 77}}', headers => :'ceh', field_map => '{"customerId": "$.data.owner.id", "eventType": ["$.kind.x", "$.dataschema", "$.type"]}');

-- custom: everything by the map
\set map '{"eventId": "$.meta.id", "customerId": ["$.meta.customer.id", "key"], "eventType": ["header:type", "$.meta.type", "constant:unknown"], "timestamp": ["$.at", "header:at", "kafka_timestamp"], "payload": "$.body", "source": "constant:legacy", "schemaVersion": "$.v"}'
SELECT public.decoded('{"meta": {"id": 5, "customer": {"id": 6}, "type": "t"}, "at": 1748781045123, "body": {"a": {"b": [1, 2]}}, "v": "1"}', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": {"id": "e", "customer": {"id": ""}, "type": 0}, "at": false}', key => 'k', kafka_timestamp => '2025-06-01 12:00Z', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": {"id": "e", "customer": "flat"}, "v": 2}', key => 'k', headers => '{"type": "h", "at": "1748781045123"}', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": [{"id": "e"}], "body": [], "at": "never"}', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": {"id": {"x": 1}, "customer": {"id": []}}, "at": "2025-01-01"}', headers => '{"at": "2024-01-01"}', format => 'custom', field_map => :'map');
SELECT public.decoded(NULL, key => 'k', format => 'custom', field_map => :'map', headers => '{"ce_id": "1"}');
SELECT public.decoded('[]', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": {"id": "\u0000"}}', format => 'custom', field_map => :'map');
-- a repeated key on the way: the last counts, also when it is a dead end
SELECT public.decoded('{"meta": {"id": 1}, "meta": {"customer": {"id": 1}, "customer": {"id": 2}, "id": 3}, "at": "2025-01-01", "body": {"a": 1}, "body": {"b": 1, "b": 2}}', format => 'custom', field_map => :'map');
SELECT public.decoded('{"meta": {"id": 1, "customer": {"id": 2}}, "meta": 7, "at": "2025-01-01"}', format => 'custom', field_map => :'map');
-- the payload is a node that other paths go through, the whole value, or the first that there is
SELECT public.decoded('{"data": {"c": "x", "n": {"e": 1}}, "at": "2025-01-01"}', format => 'custom',
	field_map => '{"eventId": "$.data.n.e", "customerId": "$.data.c", "eventType": "constant:t", "timestamp": "$.at", "payload": "$.data"}');
SELECT public.decoded(' {"e": 1, "c": 2, "at": "2025-01-01", "e": 3} ', format => 'custom',
	field_map => '{"eventId": "$.e", "customerId": "$.c", "eventType": "constant:t", "timestamp": "$.at", "payload": "$"}');
SELECT public.decoded(value, key => 'c', headers => '{"id": "7"}', kafka_timestamp => '2025-06-01Z', format => 'custom',
	field_map => '{"eventId": "header:id", "customerId": "key", "eventType": "constant:t", "timestamp": "kafka_timestamp", "payload": ["$.after.row", "$.after", "$.before", "$"]}')
	FROM unnest(ARRAY['{"after": {"row": {"r": 1}}}', '{"after": {"row": null}}', '{"after": null, "before": {"b": 1}}', '{"x": 1}', '{"after": 5, "before": {}}', 'x']) value;
-- a map without paths does not look at the value
SELECT public.decoded('<xml/>', key => 'c', headers => '{"id": "7"}', kafka_timestamp => '2025-06-01Z', format => 'custom',
	field_map => '{"eventId": "header:id", "customerId": "key", "eventType": "constant:t", "timestamp": "kafka_timestamp"}');
-- odd keys, and as deep as they may be
SELECT public.decoded('{"odd key": {"a.\"b\\": 1}, "ä_1": 2, "": {"": "t"}, "a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": "2025-01-01"}}}}}}}}', format => 'custom',
	field_map => '{"eventId": "$.\"odd key\".\"a.\\\"b\\\\\"", "customerId": "$.ä_1", "eventType": "$.\"\".\"\"", "timestamp": "$.a.b.c.d.e.f.g.\"h\""}');

-- what is wrong with a map is said when it is given
\set VERBOSITY sqlstate
SELECT public.decoded('{}', format => 'avro');
\set VERBOSITY default
SELECT public.decoded('{}', format => NULL);
SELECT public.decoded('{}', format => 'custom');
SELECT public.decoded('{}', format => 'profile_event', field_map => '{"eventId": "key"}');
SELECT public.decoded('{}', field_map => '[]');
SELECT public.decoded('{}', field_map => '"key"');
\set VERBOSITY terse
SELECT public.decoded('{}', format => 'custom', field_map => '{}');
SELECT public.decoded('{}', format => 'custom', field_map => '{"eventId": "$.a", "customerId": "$.b", "eventType": "$.c"}');
SELECT public.decoded('{}', field_map => '{"eventid": "key"}');
SELECT public.decoded('{}', field_map => '{"eventId": 1}');
SELECT public.decoded('{}', field_map => '{"eventId": {"path": "$.a"}}');
SELECT public.decoded('{}', field_map => '{"eventId": []}');
SELECT public.decoded('{}', field_map => '{"eventId": ["key", null]}');
SELECT public.decoded('{}', field_map => '{"eventId": ["key", ["key"]]}');
SELECT public.decoded('{}', field_map => '{"eventId": ["key","key","key","key","key","key","key","key","key"]}');
SELECT public.decoded('{}', field_map => '{"eventId": "$.a.b.c.d.e.f.g.h.i"}');
DO $$
DECLARE
	source text;
BEGIN
	FOREACH source IN ARRAY ARRAY['', 'id', 'Key', '$a', '$.', '$..a', '$.a.', '$.a[0]', '$.*', '$.a-b', '$.1a', '$."a', '$."a"b', '$."\n"', '$.a ', 'header:', 'constant:', 'header', '$'] LOOP
		BEGIN
			PERFORM public.decoded('{}', field_map => jsonb_build_object('eventId', source));
			RAISE WARNING '% is taken', source;
		EXCEPTION WHEN invalid_parameter_value THEN
			RAISE WARNING '%', SQLERRM;
		END;
	END LOOP;
END $$;
SELECT public.decoded('{}', field_map => '{"payload": "header:a"}');
SELECT public.decoded('{}', field_map => '{"payload": "$"}');
SELECT public.decoded('{}', headers => '"a"');
SELECT public.decoded('{}', headers => '{"a": 1}');
SELECT public.decoded('{}', headers => '["a"]');
SELECT public.decoded('{}', headers => '[{"value": "a"}]');
SELECT public.decoded('{}', headers => '[{"name": "a", "hex": "0"}]');
SELECT profile_stream.create_stream('bad', format => 'json');
SELECT profile_stream.create_stream('bad', format => NULL);
SELECT profile_stream.create_stream('bad', format => 'custom');
SELECT profile_stream.create_stream('bad', format => 'cloudevents', field_map => '{"eventId": "$.a[0]"}');
SELECT profile_stream.create_stream('bad', field_map => '{"eventId": "key"}');

-- a stream has a format and a map; another format forgets the map, an empty one is none
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', format => 'custom', field_map => :'map');
SELECT profile_stream.pause_stream('s');
CREATE VIEW public.format AS SELECT format, field_map FROM profile_stream.streams WHERE name = 's';
TABLE public.format;
SELECT profile_stream.alter_stream('s', batch_size => 100), profile_stream.alter_stream('s', format => 'custom');
SELECT field_map = :'map' FROM public.format;
SELECT profile_stream.alter_stream('s', field_map => '{"eventId": "$.a[0]"}');
SELECT profile_stream.alter_stream('s', field_map => '{}');
SELECT profile_stream.alter_stream('s', format => 'cloudevents');
TABLE public.format;
SELECT profile_stream.alter_stream('s', field_map => '{"customerId": "key"}');
TABLE public.format;
SELECT profile_stream.alter_stream('s', field_map => '{}');
TABLE public.format;
SELECT profile_stream.alter_stream('s', format => 'custom');
SELECT profile_stream.alter_stream('s', format => 'profile_event', field_map => :'map');
SELECT profile_stream.alter_stream('s', format => 'profile_event');
TABLE public.format;

-- dead letters of a stream are repaired as profile events
SELECT profile_stream.alter_stream('s', format => 'cloudevents');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, kafka_timestamp, key, value, headers, kind, errors, dead_at)
SELECT stream_id, 's', topic, '2025-06-01Z', l.key::bytea, convert_to(l.value, 'UTF8'), l.headers, 'invalid', '{as it was}', now()
FROM profile_stream.streams, (VALUES
	('k1', '{"specversion": "1.0", "id": "l1", "type": "account.opened", "data": {"initialBalance": 5}, "extension": 1}', NULL::jsonb),
	('k2', '[1]', '[{"name": "ce_specversion", "value": "1.0"}, {"name": "ce_id", "value": "l2"}, {"name": "ce_type", "value": "account.opened"}]'),
	(NULL, '{"specversion": "1.0", "id": "l3", "type": "account.opened"}', NULL),
	('k4', NULL, '[{"name": "ce_specversion", "value": "1.0"}, {"name": "ce_id", "value": "l4"}, {"name": "ce_type", "value": "account.opened"}]'),
	('k5', '{"specversion": "0.3", "id": "l5", "type": "account.opened"}', NULL),
	('k6', '{', NULL)) l(key, value, headers);
SELECT key_text, value_text, event FROM profile_stream.dead_letters ORDER BY dead_letter_id;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters();
SELECT key_text, kind, errors, attempts FROM profile_stream.dead_letters ORDER BY dead_letter_id;
CREATE FUNCTION public.mend(event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_set(event, '{customerId}', COALESCE(event -> 'customerId', '"k3"'));
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.mend(jsonb)', patch => '{"payload": {"initialBalance": 7}}');
-- what cannot be read, or is of another version, has no event: a transform of text
CREATE FUNCTION public.parse(value text) RETURNS jsonb LANGUAGE sql RETURN
	jsonb_build_object('eventId', value, 'customerId', 'k5', 'eventType', 'account.opened', 'timestamp', '2025-01-01');
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.parse(text)');
SELECT customer_id, account_count, total_balance FROM profile_stream.materialized_profiles ORDER BY 1;
-- whose a letter is, the erasure asks by the format as well
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, value, kind, errors, dead_at)
SELECT stream_id, 's', topic, '{"specversion": "1.0", "id": "l7", "type": "t", "subject": "anna", "time": "never", "data": {"friend": "bert"}}', 'invalid', '{Invalid timestamp}', now()
FROM profile_stream.streams;
SELECT c AS customer, profile_stream_internal.dead_letter_relation(d, c) FROM profile_stream_internal.dead_letters d, unnest(ARRAY['anna', 'bert', 'cleo']) c;
SELECT profile_stream.forget_customer('bert');
SELECT event -> 'payload' AS payload FROM profile_stream.dead_letters;
DELETE FROM profile_stream_internal.dead_letters;
-- a map that was corrected counts for the letters that the wrong one made
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, value, kind, errors, dead_at)
SELECT stream_id, 's', topic, '{"n": 9, "who": "k9", "when": "2025-01-01"}', 'invalid', '{as it was}', now() FROM profile_stream.streams;
SELECT profile_stream.alter_stream('s', format => 'custom', field_map => '{"eventId": "$.n", "customerId": "$.who", "eventType": "constant:t", "timestamp": "$.when", "payload": "$"}');
SELECT event FROM profile_stream.dead_letters;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters();
SELECT customer_id, event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'k9';
SELECT profile_stream.drop_stream('s');

-- damaged messages of all formats: every answer is checked, and the profile event made of each has the same outcome
-- ids that are joined: no two lists of parts make one id, and none is an id alone
SELECT public.decoded(jsonb_set(jsonb_set(:'ce'::jsonb, '{source}', to_jsonb(source)), '{id}', to_jsonb(id))::text)
FROM (VALUES ('/billing', '1'), ('/billing|1', ''), ('/billing', '|1'), ('/billing|', '1'), ('/billing\', '|1'), ('', '/billing|1'), ('/billing', NULL)) v (source, id);
SELECT public.decoded((:'ce'::jsonb - 'source')::text), public.decoded((:'ce'::jsonb || '{"source": [1]}')::text), public.decoded(:'ce', field_map => '{"eventId": "$.id"}');
SELECT public.decoded('{"a": "x", "b": 2, "t": true}', key => 'k', headers => '{"h": "y|z"}', kafka_timestamp => '2025-06-01Z', format => 'custom',
	field_map => format('{"eventId": %s, "customerId": "key", "eventType": {"join": ["constant:T", "$.b"]}, "timestamp": "kafka_timestamp"}', source)::jsonb)
FROM unnest(ARRAY['{"join": ["$.a"]}', '{"join": ["$.a", "$.b", "key", "header:h"]}', '[{"join": ["$.a", "$.none"]}, "$.a"]', '{"join": ["$.a", "$.t"]}', '{"join": ["kafka_timestamp", "constant:\\"]}']) source;
SELECT public.decoded('{}', field_map => '{"eventId": {"join": []}}');
SELECT public.decoded('{}', field_map => '{"eventId": {"join": ["$.a", "$.b", "$.c", "$.d", "$.e"]}}');
SELECT public.decoded('{}', field_map => '{"eventId": {"join": "$.a"}}');
SELECT public.decoded('{}', field_map => '{"eventId": {"join": ["$.a"], "by": "-"}}');
SELECT public.decoded('{}', field_map => '{"eventId": {"join": ["$.a", {"join": ["$.b"]}]}}');
SELECT public.decoded('{}', field_map => '{"timestamp": {"join": ["$.a", "$.b"]}}');
SELECT public.decoded('{}', field_map => '{"payload": {"join": ["$.a", "$.b"]}}');
-- more keys than an envelope has room for
SELECT public.decoded('{}', field_map => jsonb_object_agg(member, ids))
FROM unnest('{eventId,customerId,eventType}'::text[]) member, LATERAL (SELECT jsonb_agg(jsonb_build_object('join', (SELECT jsonb_agg(format('$.%s%s_%s.b.c.d.e.f.g.h', member, i, j)) FROM generate_series(1, 4) j))) AS ids FROM generate_series(1, 8) i) many;
-- in the stream's unit, but for Kafka's time
SELECT d.event_timestamp, d.errors FROM unnest(ARRAY['1657855059', 'null']) at, profile_stream.decode_message(convert_to(format('{"at": %s}', at), 'UTF8'), key => 'k', kafka_timestamp => '2025-06-01Z', format => 'custom',
	field_map => '{"eventId": "key", "customerId": "key", "eventType": "constant:t", "timestamp": ["$.at", "kafka_timestamp"]}', timestamp_unit => 'seconds') d;
SELECT profile_stream_internal.to_profile_event(convert_to(format('{"eventId": "1", "timestamp": %s}', at), 'UTF8'), NULL, NULL, NULL, 'profile_event', NULL, 'seconds')
FROM unnest(ARRAY['1657855059.5', '"1657855059"', '"2025-06-01"', '0', 'null', '[]', '1e300']) at;
DROP VIEW public.format;
DROP FUNCTION public.decoded, public.mend, public.parse;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
