-- Format debezium: changes of rows as Debezium writes them, with and without the wrapper, of several databases; deletes as events or tombstones.
SET timezone = 'UTC';
\set map '{"customerId": "$.row.customer_id"}'
CREATE FUNCTION pg_temp.change(op text, before text, after text, source text DEFAULT '"lsn": 24023128, "txId": 555') RETURNS text LANGUAGE sql RETURN
	format('{"before": %s, "after": %s, "source": {"version": "3.0.0.Final", "connector": "postgresql", "name": "bank", "ts_ms": 1767960000123, "snapshot": "false", "db": "crm", "schema": "public", "table": "customers", %s}, "transaction": null, "op": "%s", "ts_ms": 1767960000500}',
		before, after, source, op);
CREATE FUNCTION pg_temp.show(value text, key text DEFAULT '{"id": 7}', field_map jsonb DEFAULT '{"customerId": "$.row.customer_id"}', OUT id text, OUT customer text, OUT type text, OUT at timestamptz, OUT payload jsonb, OUT errors text[], OUT kind text)
	LANGUAGE sql RETURN (SELECT ROW(d.event_id, d.customer_id, d.event_type, d.event_timestamp, d.payload, d.errors, d.kind)
	FROM profile_stream.decode_message(convert_to(value, 'UTF8'), key => convert_to(key, 'UTF8'), format => 'debezium', field_map => show.field_map, as_of => '2026-01-10') d);

-- the operations
SELECT s.* FROM (VALUES ('c', 'null', '{"id": 7, "customer_id": "c-1", "email": "a@example.com"}'),
	('r', 'null', '{"id": 7, "customer_id": "c-1"}'), ('u', '{"id": 7, "customer_id": "c-0"}', '{"id": 7, "customer_id": "c-1"}'),
	('d', '{"id": 7, "customer_id": "c-1"}', 'null'), ('d', 'null', 'null'), ('u', '{"customer_id": "c-1"}', 'null'), ('t', 'null', 'null'), ('m', 'null', 'null'))
	AS v(op, before, after), pg_temp.show(pg_temp.change(op, before, after)) s;
SELECT s.* FROM pg_temp.show('{"after": {"customer_id": 1}}') s;
SELECT s.source FROM profile_stream.decode_message(convert_to(pg_temp.change('c', 'null', '{"customer_id": "c-1"}'), 'UTF8'), format => 'debezium', field_map => :'map', as_of => '2026-01-10') s;

-- wrapped: value, key, and both
SELECT s.* FROM (SELECT '{"schema": {"type": "struct", "fields": [{"field": "op"}], "name": "x"}, "payload": ' || pg_temp.change('c', 'null', '{"id": 7, "customer_id": "c-1"}') || '}') AS v(value),
	(VALUES ('{"schema": {"type": "struct"}, "payload": {"id": 7}}'), ('{"id": 7}'), ('plain'), (NULL)) AS k(key), pg_temp.show(value, key) s;

-- positions: each database has its own; without one, or without a key, the position in the topic counts
SELECT source, key, s.id FROM (VALUES ('"lsn": 1, "txId": 2', '1'), ('"lsn": 1, "txId": null', '1'), ('"file": "mysql-bin.000003", "pos": 484, "row": 0', '1'),
	('"commit_lsn": "00000027:00000d10:0002", "change_lsn": "00000027:00000d10:0003", "event_serial_no": 1', '1'), ('"scn": "1513734", "rs_id": " 0x00002f.0001 ", "ssn": 0', '1'),
	('"ord": 3', '1'), ('"txId": 2', '1'), ('"lsn": 1', NULL), ('"lsn": 1', ''), ('"lsn": [1]', '1'), ('"lsn": 1', 'a|b\c')) AS v(source, key),
	pg_temp.show(pg_temp.change('c', 'null', '{"customer_id": "c-1"}', source), key) s;
SELECT count(DISTINCT s.id) AS ids, max(length(s.id)) AS longest, bool_and(s.errors IS NULL) AS valid
FROM generate_series(1, 100) i, pg_temp.show(pg_temp.change('c', 'null', '{"customer_id": "c-1"}'), repeat('k', 1000) || i) s;
-- MongoDB: rows are strings, tables collections
SELECT s.* FROM pg_temp.show('{"op": "c", "after": "{\"_id\": 7, \"customer_id\": \"c-1\"}", "source": {"name": "m", "db": "crm", "collection": "customers", "ord": 1, "ts_ms": 1767960000000}}') s;
SELECT s.* FROM pg_temp.show('{"op": "c", "after": "no JSON", "source": {"name": "m", "db": "crm", "collection": "customers", "ord": 1, "ts_ms": 1767960000000}}') s;

-- columns that the log does not hold are not part of the row
SELECT s.payload FROM pg_temp.show(pg_temp.change('u', 'null', '{"customer_id": "c-1", "note": "__debezium_unavailable_value", "a\"\\\n": "x\"\\\n", "n": 1.50, "o": {"b": [1]}, "z": null, "t": true}')) s;
SELECT s.payload FROM pg_temp.show(pg_temp.change('u', 'null', '{"note": "__debezium_unavailable_value"}'), field_map => '{"customerId": "constant:c"}') s;

-- members that the envelope has under the names of the format's own have no effect
SELECT s.* FROM pg_temp.show('{"row": {"customer_id": "evil", "x": 1}, "change": "evil", "position": "evil", ' || substr(pg_temp.change('c', 'null', '{"customer_id": "c-1"}'), 2)) s;
SELECT s.* FROM pg_temp.show('{"row": {"customer_id": "evil"}, ' || substr(pg_temp.change('c', 'null', '{"id": 1}'), 2)) s;

-- times: of the change, of the connector, of the message; milliseconds whatever the unit of other sources is
SELECT d.event_timestamp, d.errors FROM (VALUES ('{"op": "c", "after": {}, "source": {"table": "t", "ts_ms": 1767960000123}, "ts_ms": 1767960000500}'),
	('{"op": "c", "after": {}, "source": {"table": "t"}, "ts_ms": 1767960000500}'), ('{"op": "c", "after": {}, "source": {"table": "t", "ts_ms": 0}}')) AS v(value),
	profile_stream.decode_message(convert_to(value, 'UTF8'), kafka_timestamp => '2026-01-09 13:00', format => 'debezium', field_map => '{"customerId": "constant:c"}', as_of => '2026-01-10') d;
SELECT unit, d.event_timestamp FROM unnest('{milliseconds,microseconds}'::text[]) unit, (VALUES ('{"at": 1767960000123456}'), ('{"x": 1}')) AS v(after),
	profile_stream.decode_message(convert_to(pg_temp.change('c', 'null', after), 'UTF8'), format => 'debezium', as_of => '2026-01-10', timestamp_unit => unit,
		field_map => '{"customerId": "constant:c", "timestamp": ["$.row.at", "$.source.ts_ms"]}') d;

-- deletes as tombstones; tombstones
SELECT op, s.kind, s.type FROM unnest('{d,u}'::text[]) op,
	pg_temp.show(pg_temp.change(op, '{"customer_id": "c-1"}', CASE op WHEN 'd' THEN 'null' ELSE '{"customer_id": "c-1"}' END), field_map => '{"customerId": "$.row.customer_id", "deletes": "tombstone"}') s;
SELECT s.kind FROM pg_temp.show(pg_temp.change('d', 'null', 'null'), field_map => '{"customerId": "$.row.customer_id", "deletes": "tombstone"}') s;
SELECT d.kind FROM profile_stream.decode_message(NULL, key => '7', format => 'debezium', field_map => :'map') d;
SELECT profile_stream_internal.to_profile_event(convert_to(pg_temp.change('d', '{"customer_id": "c-1"}', 'null'), 'UTF8'), NULL, NULL, NULL, 'debezium', '{"customerId": "$.row.customer_id", "deletes": "tombstone"}');

-- a map of one's own: every member, and the whole envelope as the payload
SELECT d.event_id, d.customer_id, d.event_type, d.source, d.payload -> 'before' AS before, d.payload ->> 'op' AS op
FROM profile_stream.decode_message(convert_to(pg_temp.change('u', '{"tier": "old"}', '{"tier": "new", "owner": {"id": 5}}'), 'UTF8'), format => 'debezium', as_of => '2026-01-10', field_map =>
	'{"eventId": {"join": ["constant:x", "kafka_position"]}, "customerId": "$.row.owner.id", "eventType": {"join": ["$.source.table", "$.op"]}, "source": "$.source.db", "payload": "$"}') d;

-- errors of maps
SELECT profile_stream.decode_message('{}', format => 'debezium');
SELECT profile_stream.decode_message('{}', format => 'debezium', field_map => '{"customerId": "key", "deletes": "never"}');
SELECT profile_stream.decode_message('{}', format => 'debezium', field_map => '{"customerId": "key", "deletes": ["event"]}');
SELECT profile_stream.decode_message('{}', format => 'cloudevents', field_map => '{"deletes": "event"}');

-- hostile bytes
SELECT value, s.errors FROM unnest(ARRAY['', '[]', 'null', '"x"', '{', '{}', '{"op": 1}', '{"op": {}}', '{"op": "c"}', '{"payload": 1}', '{"payload": {}}', '{"payload": {"payload": {"op": "c"}}}',
	'{"op": "c", "after": []}', '{"op": "c", "after": {"customer_id": {}}, "source": {"table": "t", "lsn": 1}}', '{"op": "c", "after": {"customer_id": "c"}, "source": {"table": {}, "lsn": 1}}',
	'{"op": "c", "after": {"customer_id": "c"}, "source": []}', '{"op": "c", "after": {"customer_id": "c"}, "source": {"table": "t", "ts_ms": "never"}}', '{"op": "d", "before": "{\"a\":"}',
	'{"op": "c", "after": {"customer_id": "__debezium_unavailable_value"}, "source": {"table": "t", "ts_ms": 1767960000123}}']) WITH ORDINALITY v(value, i), pg_temp.show(value) s ORDER BY i;
