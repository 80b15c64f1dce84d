-- Decoding and validation of a message value (docs: DESIGN 1.1). as_of is always given, so that nothing depends on the clock.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- The errors of a value, or the word valid.
CREATE FUNCTION pg_temp.why(value text) RETURNS text LANGUAGE sql STRICT AS $$
	SELECT CASE WHEN errors IS NULL AND kind IS NULL THEN 'valid'
		ELSE kind || ': ' || array_to_string(errors, ' | ') END
	FROM profile_stream.decode_message(convert_to(value, 'UTF8'), as_of => '2026-01-01 00:00:00+00');
$$;
CREATE FUNCTION pg_temp.why(value bytea) RETURNS text LANGUAGE sql STRICT AS $$
	SELECT CASE WHEN errors IS NULL AND kind IS NULL THEN 'valid'
		ELSE kind || ': ' || array_to_string(errors, ' | ') END
	FROM profile_stream.decode_message(value, as_of => '2026-01-01 00:00:00+00');
$$;
-- A valid event with some members replaced.
CREATE FUNCTION pg_temp.event(changes text) RETURNS text LANGUAGE sql STRICT AS $$
	SELECT '{"eventId":"e1","customerId":"c1","eventType":"t","timestamp":"2025-01-01T00:00:00Z"'
		|| CASE changes WHEN '' THEN '' ELSE ',' || changes END || '}';
$$;
-- The time read from a JSON value, or the errors.
CREATE FUNCTION pg_temp.at(literal text) RETURNS text LANGUAGE sql STRICT AS $$
	SELECT coalesce(event_timestamp::text, array_to_string(errors, ' | '))
	FROM profile_stream.decode_message(convert_to(pg_temp.event('"timestamp":' || literal), 'UTF8'), as_of => 'infinity');
$$;

-- a whole event
\x on
SELECT * FROM profile_stream.decode_message(convert_to(
	'{"eventId":"evt-1","customerId":"cust-1","eventType":"transaction.completed","timestamp":"2025-06-01T12:30:45.123456+02:00",
	  "source":"core-banking","schemaVersion":1,"payload":{"amount":12.50,"tags":["a",{"b":[]}],"note":"\u00fc\ud83d\ude00\n\"","amount":13}}', 'UTF8'),
	as_of => '2026-01-01 00:00:00+00');
SELECT * FROM profile_stream.decode_message('{"eventId":"e","customerId":"c","eventType":"t","timestamp":"2025-01-01"}', as_of => '2026-01-01 00:00:00+00');
SELECT * FROM profile_stream.decode_message('{}', as_of => '2026-01-01 00:00:00+00');
\x off

-- each missing member: absent, null, empty, zero, false
SELECT pg_temp.why('{"customerId":"c","eventType":"t","timestamp":"2025-01-01"}');
SELECT pg_temp.why('{"eventId":"e","eventType":"t","timestamp":"2025-01-01"}');
SELECT pg_temp.why('{"eventId":"e","customerId":"c","timestamp":"2025-01-01"}');
SELECT pg_temp.why('{"eventId":"e","customerId":"c","eventType":"t"}');
SELECT member, value, pg_temp.why(pg_temp.event(format('"%s":%s', member, value)))
FROM unnest('{eventId,customerId,eventType,timestamp}'::text[]) WITH ORDINALITY m (member, i),
	unnest('{"null","\"\"",0,-0.0e5,false}'::text[]) WITH ORDINALITY v (value, j)
ORDER BY i, j;

-- true, an object and an array are no ids
SELECT member, value, pg_temp.why(pg_temp.event(format('"%s":%s', member, value)))
FROM unnest('{eventId,customerId,eventType,timestamp}'::text[]) WITH ORDINALITY m (member, i),
	unnest('{true,"{}","[]","{\"a\":[1]}","[[\"a\"]]"}'::text[]) WITH ORDINALITY v (value, j)
ORDER BY i, j;

-- a number as an id is its text; a string that looks like nothing is still a string
SELECT event_id, customer_id, event_type FROM profile_stream.decode_message(
	'{"eventId":12345678901234567890.50,"customerId":-7,"eventType":1E2,"timestamp":"2025-01-01"}', as_of => '2026-01-01 00:00:00+00');
SELECT event_id, customer_id, event_type FROM profile_stream.decode_message(
	'{"eventId":"0","customerId":"null","eventType":" ","timestamp":"2025-01-01"}', as_of => '2026-01-01 00:00:00+00');

-- payload
SELECT value, pg_temp.why(pg_temp.event('"payload":' || value))
FROM unnest(ARRAY['{}', 'null', '[]', '[{"a":1}]', '"text"', '""', '0', '1', 'true', 'false']) WITH ORDINALITY v (value, i) ORDER BY i;
SELECT payload IS NULL AS absent FROM profile_stream.decode_message(convert_to(pg_temp.event(''), 'UTF8'), as_of => '2026-01-01 00:00:00+00');

-- source: only a string counts
SELECT value, (SELECT source FROM profile_stream.decode_message(convert_to(pg_temp.event('"source":' || value), 'UTF8'), as_of => '2026-01-01 00:00:00+00'))
FROM unnest(ARRAY['"app"', '""', 'null', '1', '{}', '["app"]']) WITH ORDINALITY v (value, i) ORDER BY i;

-- schemaVersion
SELECT value, pg_temp.why(pg_temp.event('"schemaVersion":' || value))
FROM unnest(ARRAY['1', '1.0', '10e-1', '0.1e1', '"1"', 'null', '2', '0', '-1', '1.5', '11', '"2"', '"1.0"', '""', 'true', 'false', '{}', '{"a":1}', '[1]'])
	WITH ORDINALITY v (value, i) ORDER BY i;
SELECT pg_temp.why(pg_temp.event('"schemaVersion":"' || repeat('v', 70) || '"'));
SELECT pg_temp.why(pg_temp.event('"schemaVersion":"x' || repeat('ü', 70) || '"'));

-- lengths: 512 bytes are allowed, characters do not matter
SELECT pg_temp.why(pg_temp.event('"customerId":"' || repeat('c', 512) || '","eventId":"' || repeat('ü', 256) || '","eventType":"' || repeat('t', 512) || '"'));
SELECT pg_temp.why(pg_temp.event('"customerId":"' || repeat('c', 513) || '","eventId":"' || repeat('ü', 257) || '","eventType":"' || repeat('t', 513) || '"'));
SELECT pg_temp.why(pg_temp.event('"customerId":"' || repeat('c', 10240) || '"'));
SELECT pg_temp.why(pg_temp.event('"customerId":"' || repeat('\u00e4', 256) || '"'));
SELECT pg_temp.why(pg_temp.event('"customerId":"' || repeat('\u00e4', 257) || '"'));

-- several errors: all of them, in this order
SELECT pg_temp.why('{}');
SELECT pg_temp.why('{"schemaVersion":{},"payload":7,"timestamp":"soon","eventType":true,"customerId":[],"eventId":{}}');
SELECT pg_temp.why('{"eventId":"' || repeat('e', 513) || '","customerId":"' || repeat('c', 513) || '","eventType":"' || repeat('t', 513)
	|| '","timestamp":"2099-01-01","payload":[],"schemaVersion":"9"}');
SELECT pg_temp.why('{"eventId":"","customerId":true,"timestamp":"2025-02-30","schemaVersion":3}');

-- clock skew: one hour by default, the setting moves it
SELECT at, pg_temp.why(pg_temp.event('"timestamp":"' || at || '"'))
FROM unnest('{2026-01-01T01:00:00Z,2026-01-01T01:00:00.000001Z,2026-01-01T02:00:00+01:00,9999-12-31}'::text[]) WITH ORDINALITY v (at, i) ORDER BY i;
SET profile_stream.max_clock_skew = 0;
SELECT pg_temp.why(pg_temp.event('"timestamp":"2026-01-01"')), pg_temp.why(pg_temp.event('"timestamp":"2026-01-01T00:00:00.000001Z"'));
RESET profile_stream.max_clock_skew;
SELECT errors FROM profile_stream.decode_message(convert_to(pg_temp.event(''), 'UTF8'), as_of => '-infinity');

-- of repeated keys the last one counts
SELECT event_id, customer_id, event_type, event_timestamp, source, payload FROM profile_stream.decode_message(convert_to(
	'{"eventId":{"x":["y"]},"eventId":"a","eventId":"b","customerId":[1,2],"customerId":3,"eventType":true,"event\u0054ype":"t",
	  "timestamp":"never","timestamp":"2025-01-01","source":"s","source":null,"payload":[1],"payload":{"a":1},"payload":{"b":1,"b":{"c":2},"b":[3]}}', 'UTF8'),
	as_of => '2026-01-01 00:00:00+00');
SELECT pg_temp.why(pg_temp.event('"eventId":{}'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":1},"payload":[{"a":1}]'));
SELECT payload FROM profile_stream.decode_message(convert_to(pg_temp.event('"payload":{"a":1},"payload":null'), 'UTF8'), as_of => '2026-01-01 00:00:00+00');
SELECT pg_temp.why(pg_temp.event('"schemaVersion":9,"schemaVersion":1'));
-- the names of inner members do not matter
SELECT pg_temp.why('{"payload":{"eventId":"e","customerId":"c","eventType":"t","timestamp":"2025-01-01"},"x":[{"eventId":"e"}]}');
SELECT pg_temp.why(pg_temp.event('"payload":{"eventId":true,"payload":{"payload":[{"customerId":null}]},"schemaVersion":7}'));

-- timestamps: good ones
SELECT value, pg_temp.at(to_json(value)::text)
FROM unnest('{2025-06-01,2025-06-01T12:30,2025-06-01t12:30:45z,2025-06-01 12:30:45Z,2025-06-01T12:30:45.5,"2025-06-01T12:30:45,25Z",
	2025-06-01T12:30:45.1234564Z,2025-06-01T12:30:45.1234565Z,2025-06-01T23:59:59.9999999Z,2025-06-01T12:30:45.123456000000000000000000000Z,
	2025-06-01T12:30:45+02,2025-06-01T12:30:45-0330,2025-06-01T12:30:45+05:45,2025-06-01T00:00-23:59,2025-06-01T12:30-00:00,
	2024-02-29,2000-02-29,2016-12-31T23:59:60Z,2016-12-31T23:59:60.5Z,2017-01-01T00:59:60+01:00,
	0001-01-01,0001-01-01T00:00:00Z,9999-12-31T23:59:59.999999Z,1582-10-10,1969-12-31T23:59:59.999Z}'::text[]) WITH ORDINALITY v (value, i) ORDER BY i;

-- timestamps: bad ones
SELECT value, pg_temp.at(to_json(value)::text)
FROM unnest('{" ",now,infinity,epoch,yesterday,2025,2025-06,2025-6-1,20250601,2025-06-01T,"2025-06-01 ",2025-06-01Z,2025-06-01T12,2025-06-01T1230,
	2025-06-01T12:30:,2025-06-01T12:30:4,2025-06-01T12:30:45.,2025-06-01T12:30.5,2025-06-01T24:00:00Z,2025-06-01T25:00,2025-06-01T12:60,2025-06-01T12:30:61,
	2025-06-01T12:30:45+,2025-06-01T12:30:45+2,2025-06-01T12:30:45+024,2025-06-01T12:30:45+02:,2025-06-01T12:30:45+24,2025-06-01T12:30:45+02:60,
	2025-06-01T12:30:45ZZ,"2025-06-01T12:30:45 Z",2025-06-01T12:30:45Europe/Berlin,"2025-06-01T12:30:45Z[UTC]"," 2025-06-01","2025-06-01+",
	2025-02-29,1900-02-29,2025-04-31,2025-00-10,2025-13-01,2025-01-00,2025-01-32,0000-01-01,-001-01-01,+2025-01-01,10000-01-01,294277-01-01,294277-01-09T04:00:54.775807Z,
	0001-01-01T00:00:00+00:01,9999-12-31T23:59:60Z,9999-12-31T23:59:59.9999996Z,9999-12-31T23:59-00:01,2025-06-01T12:30:45−02:00,１２３４-01-01,1748781045123}'::text[])
	WITH ORDINALITY v (value, i) ORDER BY i;

-- timestamps: epoch milliseconds
SELECT value, pg_temp.at(value)
FROM unnest('{1748781045123,1748781045123.456,1748781045123.4565,1748781045123.4564999,1.748781045123e12,17487810451234560e-4,174878104512345678900e-8,1,-1,
	-0.0005,0.0005,0.0004,0.00049,1e-300,-62135596800000,-62135596800000.001,253402300799999.999,253402300799999.9995,253402300800000,9214646400000000,1e18,1e300,-1e15}'::text[])
	WITH ORDINALITY v (value, i) ORDER BY i;

-- timestamps against timestamptz: generated ISO strings, every one must agree
WITH generated AS (
	SELECT to_char(date '0001-01-02' + (i::bigint * 7919 % 3652000)::int, 'YYYY-MM-DD')
		|| (ARRAY['T', ' ', 't'])[1 + i % 3]
		|| to_char(i * 7 % 24, 'FM00') || ':' || to_char(i * 11 % 60, 'FM00')
		|| CASE WHEN i % 5 = 0 THEN '' ELSE ':' || to_char(i * 13 % 61, 'FM00')
			|| CASE WHEN i % 7 < 3 THEN '' ELSE '.' || left(lpad((i::bigint * 1000003 % 1000000)::text, 6, '0'), i % 7) END END
		|| CASE WHEN i % 4 = 0 THEN 'Z'
			ELSE (ARRAY['+', '-'])[1 + i % 2] || to_char(i * 17 % 15, 'FM00')
				|| CASE i % 3 WHEN 0 THEN '' WHEN 1 THEN to_char(i * 19 % 60, 'FM00') ELSE ':' || to_char(i * 23 % 60, 'FM00') END END AS iso
	FROM generate_series(1, 20000) i)
SELECT count(*), count(*) FILTER (WHERE d.event_timestamp IS DISTINCT FROM replace(iso, 't', 'T')::timestamptz) AS different,
	min(iso) FILTER (WHERE d.event_timestamp IS DISTINCT FROM replace(iso, 't', 'T')::timestamptz) AS first_different
FROM generated, profile_stream.decode_message(convert_to(pg_temp.event('"timestamp":"' || iso || '"'), 'UTF8'), as_of => 'infinity') d;
-- and every day of four centuries, and the days that are none
SELECT count(*), count(*) FILTER (WHERE pg_temp.at('"' || to_char(day, 'YYYY-MM-DD') || '"') <> day::timestamptz::text) AS different
FROM (SELECT date '1800-01-01' + i AS day FROM generate_series(0, 146096, 7) i) days;
SELECT count(*) FILTER (WHERE pg_temp.at(format('"%s-%s-%s"', y, to_char(m, 'FM00'), to_char(d, 'FM00'))) <> 'Invalid timestamp') AS valid
FROM unnest('{1900,2000,2023,2024}'::int[]) y, generate_series(0, 13) m, generate_series(0, 32) d;
-- epoch milliseconds against interval arithmetic
SELECT count(*), count(*) FILTER (WHERE d.event_timestamp IS DISTINCT FROM timestamptz 'epoch' + ms / 86400000 * interval '1 day' + ms % 86400000 * interval '1 millisecond') AS different
FROM (SELECT i::bigint * 12345678977 + 315532800000 AS ms FROM generate_series(1, 20000) i) generated,
	profile_stream.decode_message(convert_to(pg_temp.event('"timestamp":' || ms), 'UTF8'), as_of => 'infinity') d;

-- other units, and digits in a string
SELECT unit, value, COALESCE(d.event_timestamp::text, d.errors[1]) AS at
FROM unnest('{milliseconds,seconds,microseconds}'::text[]) WITH ORDINALITY u (unit, n),
	unnest('{1657855059,1657855059.25,"1657855059","1657855059.25",1657855059000,"1657855059000",1657855059000000,315532799,315532800,315532799999,315532800000,315532799999999,315532800000000,253402300799,253402300800,"12.","1.2.3",".5","-5","2016.5"}'::text[])
		WITH ORDINALITY v (value, i),
	profile_stream.decode_message(convert_to(pg_temp.event('"timestamp":' || CASE WHEN value ~ '^[0-9]+(\.[0-9]+)?$' AND i % 2 = 1 THEN value ELSE to_json(value)::text END), 'UTF8'), as_of => 'infinity', timestamp_unit => unit) d
ORDER BY n, i;
SELECT profile_stream.decode_message('{}', timestamp_unit => 'hours');
SELECT profile_stream.decode_message('{}', timestamp_unit => NULL);
-- a byte order mark, of which there is one at most
SELECT d.event_id, d.customer_id, d.payload, d.errors
FROM unnest('{\\xefbbbf,\\xefbbbfefbbbf,\\xefbb}'::bytea[]) bom, profile_stream.decode_message(bom || convert_to(pg_temp.event('"payload":{"a":1}'), 'UTF8')) d;
SELECT profile_stream_internal.dead_letter_json('\xefbbbf' || convert_to('{"a": 1}', 'UTF8'));
-- not JSON, or not an object
SELECT value, pg_temp.why(value)
FROM unnest(ARRAY['', ' ', 'x', 'NaN', '{', '}', '{}{}', '{"a"}', '{"a":}', '{"a":1,}', '{''a'':1}', '{a:1}', '{"a":NaN}', '{"a":Infinity}', '{"a":01}', '{"a":+1}', '{"a":.5}',
	'{"a":1.}', '{"a":0x10}', '{"a":"', '{"a":"\x"}', '{"a":"\u12"}', E'{"a":"\t"}', '{"a":1} x', '[]', '[{"eventId":"e"}]', '"text"', '17', 'true', 'null', '// c'])
	WITH ORDINALITY v (value, i) ORDER BY i;
SELECT replace(pg_temp.why(U&'\FEFF{}'), U&'\FEFF', '<BOM>') AS byte_order_mark;
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\u0000"}'));
SELECT pg_temp.why(pg_temp.event('"\u0000":1'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\ud800"}'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\ud800\ud800"}'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\ud800x"}'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\udc00"}'));
SELECT pg_temp.why(pg_temp.event('"payload":{"a":"\ud83d\ude00"}'));

-- bytes
SELECT value, pg_temp.why(value)
FROM unnest(ARRAY['\x', '\x00', '\x0000000001', '\x0000000001027b7d', '\x7b7d00', '\x7b007d', '\x7b22ff22', '\xff', '\xc3', '\xc080', '\xeda080', '\xf4908080', '\xefbbbf7b7d',
	'\x80040195', '\x1f8b0800', '\x5c', '\x22', '\x7b225c'::bytea]) WITH ORDINALITY v (value, i) ORDER BY i;
SELECT DISTINCT pg_temp.why(decode(string_agg(md5((1000 * i + j)::text), '' ORDER BY j), 'hex')) FROM generate_series(1, 200) i, generate_series(1, 20) j GROUP BY i ORDER BY 1;

-- nesting: the root and 63 more are allowed, brackets in strings do not count
SELECT n, pg_temp.why(pg_temp.event('"x":' || repeat('[', n) || repeat(']', n))) FROM unnest('{63,64,100000}'::int[]) n ORDER BY n;
SELECT n, pg_temp.why(pg_temp.event('"payload":' || repeat('{"a":', n) || '1' || repeat('}', n))) FROM unnest('{63,64,100000}'::int[]) n ORDER BY n;
SELECT pg_temp.why(repeat('[', 100000)), pg_temp.why(repeat('{"a":', 100000)), pg_temp.why(repeat(']', 100000) || repeat('[', 100000));
SELECT pg_temp.why(pg_temp.event('"x":"' || repeat('[{\"', 1000) || '"'));
SELECT pg_temp.why(pg_temp.event('"x":[' || repeat('[{}],', 1000) || '1]'));

-- numbers: bounded, so that what follows can hold them
SELECT value, pg_temp.why(pg_temp.event('"payload":{"a":[{"b":' || value || '}]}'))
FROM unnest('{1e308,9.9e308,1e309,10e308,0.1e309,1e400,-1e400,1e-308,1e-309,0.1e-308,0e309,0.0,1e99999999999999999999,1E+308}'::text[]) WITH ORDINALITY v (value, i) ORDER BY i;
SELECT pg_temp.why(pg_temp.event('"x":1e400'));
SELECT n, pg_temp.why(pg_temp.event('"x":0.' || repeat('1', n - 2))) FROM unnest('{400,401}'::int[]) n;
SELECT n, pg_temp.why(pg_temp.event('"x":' || repeat('1', n))) FROM unnest('{309,310,400,401}'::int[]) n;
SELECT pg_temp.why(pg_temp.event('"timestamp":1e400'));

-- sizes: the limit counts bytes, and comes before everything else
SELECT pg_temp.why(pg_temp.event('"x":"' || repeat('x', 1048576 - length(pg_temp.event('"x":""'))) || '"'));
SELECT pg_temp.why(pg_temp.event('"x":"' || repeat('x', 1048577 - length(pg_temp.event('"x":""'))) || '"'));
SELECT pg_temp.why(decode(repeat('00', 1048577), 'hex'));
SET profile_stream.max_event_bytes = 1024;
SELECT pg_temp.why(pg_temp.event('"x":"' || repeat('x', 1024) || '"'));
RESET profile_stream.max_event_bytes;
-- a long token is cut in the error, on a character boundary
SELECT length(why), octet_length(why), left(why, 40) FROM pg_temp.why('{"a":' || repeat('ü', 1000) || '}') why;
-- many members, repeated ones too: no quadratic time
SELECT errors, (SELECT count(*) FROM jsonb_object_keys(payload)) FROM profile_stream.decode_message(convert_to(pg_temp.event(
	'"payload":{' || (SELECT string_agg(format('"%s":%s', i % 40000, i), ',') FROM generate_series(1, 70000) i) || '}'), 'UTF8'), as_of => '2026-01-01 00:00:00+00');

-- privileges
SELECT has_function_privilege('profile_stream_reader', 'profile_stream.decode_message(bytea, bytea, jsonb, timestamptz, text, jsonb, timestamptz, text, text)', 'EXECUTE') AS decode_message;
