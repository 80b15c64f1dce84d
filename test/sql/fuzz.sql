-- What needs functions of tests, of a build with FAILPOINTS=yes: damaged bytes for decoder and parsers, payloads of notifications.
SET timezone = 'UTC';
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/functions.sql'
SET client_min_messages = warning;
\i :functions
RESET client_min_messages;
\set ECHO all

-- damaged events and random bytes: decode_fuzz checks every answer
SELECT testing.decode_fuzz(42, 0) AS none, testing.decode_fuzz(42, 100000) AS valid;
SELECT testing.decode_fuzz(seed, 5000) BETWEEN 500 AND 4500 AS plausible FROM generate_series(-2, 2) seed;

-- the same of other formats
SELECT testing.decode_fuzz(42, 50000, 'cloudevents') AS cloudevents,
	testing.decode_fuzz(43, 50000, 'custom', '{"eventId": ["$.id", "$.data.meta.id", "header:ce_id"], "customerId": ["$.data.meta.who", "key"],
		"eventType": ["$.type", "$.data.\"odd key\".t", "constant:x"], "timestamp": ["$.time", "header:x", "kafka_timestamp"], "payload": ["$.data", "$"]}') AS custom,
	testing.decode_fuzz(44, 50000, 'cloudevents', '{"customerId": ["$.data.meta.who", "key"], "payload": ["$.data.meta", "$.data"]}') AS overridden,
	testing.decode_fuzz(45, 50000, 'debezium', '{"customerId": "$.row.who"}') AS debezium,
	testing.decode_fuzz(46, 50000, 'debezium', '{"customerId": ["$.row.who", "$.before.who"], "payload": ["$", "$.row"], "deletes": "tombstone"}') AS tombstones;

-- the parsers beside the decoder
SELECT testing.parser_fuzz(seed, 500) FROM generate_series(1, 3) seed;

-- a payload is JSON and below 8,000 bytes, whatever the ids
SELECT name, octet_length(n) < 8000 AS fits, n::jsonb ->> 'customerId' = c AS same, n::jsonb #>> '{lastEvent,eventId}' = c AS same_event,
	octet_length(n::jsonb #>> '{lastEvent,source}') AS source,
	(SELECT count(*) FROM jsonb_array_elements_text(n::jsonb -> 'eventTypes') WITH ORDINALITY AS u(e, i) WHERE e = t[i]) AS types, octet_length(n)
FROM (VALUES ('control characters', repeat(chr(1), 512), array_fill(repeat(chr(2), 512), '{30}')),
	('quotes', repeat('"\', 256), array_fill(repeat('"', 512), '{30}')),
	('four bytes each', repeat(chr(128512), 128), array_fill(repeat(chr(65536), 128), '{30}')),
	('line ends', repeat(E'\n\r', 256), ARRAY[repeat(E'\t', 512)]),
	('none', '', '{}')) AS v(name, c, t),
	testing.notification(c, 9223372036854775807, '9999-12-31 23:59:59.999999Z', t, c, c || c) AS n;
