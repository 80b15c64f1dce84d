-- What somebody has written into a table, or a dump that was restored, is refused: no process ends of it.
-- In a database of its own, because numbers of streams and series are not rolled back.
SET client_min_messages = warning;
SELECT current_database() AS home \gset
CREATE DATABASE regress_damaged TEMPLATE template0 ENCODING 'UTF8';
\c regress_damaged
SET client_min_messages = warning;
CREATE EXTENSION profile_stream;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY terse
CREATE FUNCTION pg_temp.send(customer text, n int, type text, payload jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT r, ',') FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', type || i, 'customerId', customer,
		'eventType', type, 'timestamp', '2026-01-01Z'::timestamptz + i * interval '1 hour', 'payload', payload)) FROM generate_series(1, n) i))) r $$;
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN COALESCE(answer, 'null');
EXCEPTION WHEN data_corrupted THEN
	RETURN SQLERRM;
END $$;
SELECT profile_stream.create_metric('whole', 'whole', '60 days', '$.n', 'sum'), profile_stream.create_metric('ever', 'ever', value_path => '$.n', aggregate => 'sum', period => 'lifetime');
SELECT pg_temp.send('damaged', 1500, 'whole', '{"n": 2}'), pg_temp.send('damaged', 400, 'ever', '{"n": 3}');
SELECT count(*) >= 16 AS has_tile, count(tile_sum) > 0 AS is_made FROM profile_stream_internal.window_chunks WHERE customer_id = 'damaged';

-- sums of a day: no constraint holds the fields of a composite value
CREATE FUNCTION pg_temp.damaged_day(bucket profile_stream_internal.day_bucket, direct text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
	PERFORM set_config('profile_stream.direct_access', direct, true);
	UPDATE profile_stream_internal.window_chunks SET samples = NULL, days = ARRAY[bucket] WHERE customer_id = 'damaged';
	answer := pg_temp.complaint($q$SELECT count(*) FROM profile_stream.metric_days('whole', '2026-01-01', '2026-02-01')$q$);
	RAISE EXCEPTION '%', answer USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN answer;
END $$;
SELECT direct, pg_temp.damaged_day(bucket, direct) FROM unnest('{on,off}'::text[]) direct,
	(VALUES (1, ROW('2026-01-01', 5, 1, 1, 1)::profile_stream_internal.day_bucket), (2, ROW('2026-01-01', 5, NULL, 1, 1)::profile_stream_internal.day_bucket), (3, ROW('2026-01-01', 5, 1, 1, NULL)::profile_stream_internal.day_bucket), (4, ROW(NULL, NULL, NULL, NULL, NULL)::profile_stream_internal.day_bucket)) b(n, bucket) ORDER BY direct DESC, n;

-- a tile of which a column is null
CREATE FUNCTION pg_temp.damaged_tile(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
	EXECUTE format('UPDATE profile_stream_internal.window_chunks SET %I = NULL WHERE customer_id = ''damaged'' AND tile_from_at IS NOT NULL', name);
	answer := pg_temp.complaint($q$SELECT profile_stream.metric_value('damaged', 'whole', '2026-03-02Z')$q$);
	RAISE EXCEPTION '%', answer USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN answer;
END $$;
SELECT name, pg_temp.damaged_tile(name) FROM unnest('{tile_from_at,tile_to_at,tile_count,tile_sum,tile_min,tile_max}'::text[]) name;

-- an aggregate that needs samples, of a series that has totals
SELECT aggregate, pg_temp.complaint(format($q$WITH w AS (UPDATE profile_stream_internal.metrics SET aggregate = %L, fraction = %L WHERE name = 'ever') SELECT NULL$q$, aggregate, fraction)) AS written,
	pg_temp.complaint($q$SELECT profile_stream.metric_value('damaged', 'ever')$q$) FROM (VALUES ('distinct', NULL), ('median', NULL), ('stddev', NULL), ('percentile', '0.5')) a(aggregate, fraction);
UPDATE profile_stream_internal.metrics SET aggregate = 'sum', fraction = NULL WHERE name = 'ever';

-- totals whose sum is of many more digits than what is stored of a number may have
UPDATE profile_stream.materialized_profiles SET window_state = decode(to_hex(s.series_id / 16) || to_hex(s.series_id % 16) || '80010000' || '19' || '01' || '0000000000000000'
	|| '0b06' || '0000401f0100' || '00' || '0000' || '0000' || '0000' || '00', 'hex')
FROM profile_stream_internal.metrics s WHERE s.name = 'ever' AND customer_id = 'damaged';
SELECT length(profile_stream.metric_value('damaged', 'ever')::text) AS digits;
SELECT pg_temp.complaint($q$SELECT pg_temp.send('damaged', 900, 'ever', '{"n": 3}')$q$);

CREATE FUNCTION pg_temp.varint(number int8) RETURNS bytea LANGUAGE sql AS $$
	SELECT decode(string_agg(lpad(to_hex((number >> 7 * i) & 127 | CASE WHEN number >> 7 * (i + 1) > 0 THEN 128 ELSE 0 END), 2, '0'), '' ORDER BY i), 'hex')
	FROM generate_series(0, 8) i WHERE i = 0 OR number >> 7 * i > 0 $$;
-- a state that has more samples of login_count_7d than it tells, for a segment that counts them
CREATE FUNCTION pg_temp.state(at timestamptz, samples int, told int) RETURNS bytea LANGUAGE sql AS $$
	SELECT '\x01'::bytea || pg_temp.varint(told) || pg_temp.varint(8 + 2 * samples - 1) || '\x00'
		|| decode((SELECT string_agg(lpad(to_hex(((extract(epoch FROM at) - 946684800)::int8 * 1000000 >> 8 * i) & 255), 2, '0'), '' ORDER BY i) FROM generate_series(0, 7) i), 'hex')
		|| decode(repeat('0000', samples - 1) || '00', 'hex') $$;
SELECT profile_stream.create_segment('seen', 'login_count_7d >= 2', evaluate => 'live');
SELECT pg_temp.send('more', 1, 'whole', '{"n": 2}');
UPDATE profile_stream.materialized_profiles SET window_state = pg_temp.state(now() - interval '1 minute', 500000, 1) WHERE customer_id = 'more';
SELECT profile_stream.apply_event('{"eventId": "o", "customerId": "more", "eventType": "other", "timestamp": "2026-01-01T00:00:00Z"}');
SELECT segment FROM profile_stream.segment_members WHERE customer_id = 'more';
-- one that takes long to read can be cancelled while it is read
CREATE TEMP TABLE long AS SELECT pg_temp.state(now() - interval '1 minute', 20000000, 1) AS state;
CREATE TEMP SEQUENCE finished;
SET statement_timeout = '20 ms';
SELECT profile_stream.window_value('c', state, 'login_count_7d', now()), nextval('finished') FROM long;
RESET statement_timeout;
SELECT is_called FROM finished;
-- and so can one that returns many rows: it does not go on until the disk has no room for them
TRUNCATE long;
INSERT INTO long SELECT decode(repeat('00', 30000000), 'hex');
SET statement_timeout = '20 ms';
SET temp_file_limit = '20MB';
SELECT count(*) FROM long, profile_stream_internal.sealed_event_ids(state);
RESET temp_file_limit;
RESET statement_timeout;
DROP TABLE long;
SELECT profile_stream.drop_segment('seen');
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'more';

-- the place of a backfill of which a part is null
SELECT profile_stream.create_stream('damaged', bootstrap_servers => '127.0.0.1:1', topic => 'damaged');
INSERT INTO profile_stream_internal.backfills (stream_id, name, owner, query, state, last_event_time, last_event_id, started_at)
SELECT stream_id, 'half', owner, 'SELECT 1', 'failed', now(), 'e', now() FROM profile_stream.streams WHERE name = 'damaged';
SELECT profile_stream.drop_backfill('damaged', 'half');

-- a name that is null among those that a stream watches
UPDATE profile_stream.streams SET watch = '{NULL,segment,NULL}';
SELECT pg_temp.send('watched', 1, 'whole', '{"n": 2}');
SELECT profile_stream.alter_stream('damaged', batch_size => 1);
UPDATE profile_stream.streams SET watch = NULL;

-- a trigger that keeps out a row whose number is asked for
CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE INSERT ON profile_stream.streams FOR EACH ROW EXECUTE FUNCTION public.skip();
CREATE TRIGGER skip BEFORE INSERT ON profile_stream_internal.metric_series FOR EACH ROW EXECUTE FUNCTION public.skip();
CREATE TRIGGER skip BEFORE INSERT ON profile_stream_internal.backfills FOR EACH ROW EXECUTE FUNCTION public.skip();
SELECT profile_stream.create_stream('skipped', bootstrap_servers => '127.0.0.1:1', topic => 'skipped');
SELECT profile_stream.create_metric('skipped', 'skipped', '1 day', '$.n');
CALL profile_stream.backfill('damaged', 'SELECT NULL::jsonb AS event WHERE false');
DROP FUNCTION public.skip CASCADE;
SELECT profile_stream.drop_stream('damaged');

\c :home
DROP DATABASE regress_damaged WITH (FORCE);
