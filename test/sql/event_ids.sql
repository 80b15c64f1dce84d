-- which events were applied: open and sealed chunks of hashes, their retention, what becomes of them, what they cost
SET timezone = 'UTC';
\set VERBOSITY terse
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/event_ids.sql'
\i :functions
\set ECHO all
CREATE FUNCTION pg_temp.ev(id text, customer text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', 'seen', 'timestamp', '2026-01-01') $$;
-- applies events of the numbers, each in a call of its own or all in one
CREATE FUNCTION pg_temp.each(customer text, first int, last int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(n || ' ' || outcome, ', ' ORDER BY outcome) FROM
		(SELECT outcome, count(*) AS n FROM generate_series(first, last) i, profile_stream.apply_event(pg_temp.ev('e' || i, customer)) outcome GROUP BY 1) t $$;
CREATE FUNCTION pg_temp.together(customer text, VARIADIC numbers int[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(n || ' ' || outcome, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n
		FROM unnest(profile_stream.apply_events(ARRAY(SELECT pg_temp.ev('e' || i, customer) FROM unnest(numbers) WITH ORDINALITY u(i, n) ORDER BY n))) outcome GROUP BY 1) t $$;
CREATE VIEW pg_temp.kept AS SELECT customer_id, (SELECT count(*) FROM profile_stream_internal.open_event_ids(p.event_ids)) AS open,
	(SELECT string_agg(chunk_no || ': ' || length(hashes) / 10, ', ' ORDER BY chunk_no) FROM profile_stream_internal.event_id_chunks c WHERE c.customer_id = p.customer_id) AS chunks, version
FROM profile_stream.materialized_profiles p ORDER BY 1;

-- duplicates of open and of sealed ids, in every way of applying
SELECT pg_temp.each('each', 1, 100), pg_temp.each('each', 1, 101);
SELECT pg_temp.together('together', VARIADIC ARRAY(SELECT i FROM generate_series(1, 100) i)) AS first,
	pg_temp.together('together', VARIADIC ARRAY(SELECT i FROM generate_series(1, 101) i)) AS again;
-- sealed by the transaction itself, and by the statement
SELECT pg_temp.together('twice', VARIADIC ARRAY(SELECT i % 100 FROM generate_series(0, 299) i));
SET profile_stream.direct_access = off;
SELECT pg_temp.each('statements', 1, 100), pg_temp.each('statements', 1, 101), pg_temp.each('each', 1, 101);
SELECT pg_temp.together('statements twice', VARIADIC ARRAY(SELECT i % 100 FROM generate_series(0, 299) i));
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
RESET profile_stream.direct_access;
CREATE TRIGGER nothing BEFORE INSERT ON profile_stream_internal.event_id_chunks FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT pg_temp.together('trigger', VARIADIC ARRAY(SELECT i % 100 FROM generate_series(0, 299) i));
DROP TRIGGER nothing ON profile_stream_internal.event_id_chunks;
SELECT * FROM pg_temp.kept;
-- the view has them all, and no other
SELECT count(*), count(DISTINCT e.hash), count(*) FILTER (WHERE i IS NULL) AS others FROM profile_stream_internal.event_ids e
LEFT JOIN generate_series(1, 101) i ON e.hash = profile_stream_internal.event_id_hash('e' || i) WHERE customer_id = 'each';
-- many customers in one call
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT pg_temp.ev('e' || i % 50, 'many' || i % 7) FROM generate_series(1, 700) i))) outcome GROUP BY 1 ORDER BY 1;
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT pg_temp.ev('e' || i % 50, 'many' || i % 7) FROM generate_series(1, 700) i))) outcome GROUP BY 1;

-- rolled back with what sealed them
BEGIN;
SELECT pg_temp.each('back', 1, 40);
SAVEPOINT s;
SELECT pg_temp.each('back', 41, 80);
ROLLBACK TO s;
SELECT pg_temp.each('back', 30, 70), pg_temp.each('back', 1, 70);
ROLLBACK;
SELECT pg_temp.each('back', 1, 40), pg_temp.each('back', 1, 40);

-- a function that fails: its event is not remembered, those around it are, also where a chunk is sealed
CREATE FUNCTION public.third(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF substr(event ->> 'eventId', 2)::int % 3 = 0 AND current_setting('test.fails', true) = 'yes' THEN RAISE 'third'; END IF;
	RETURN NULL;
END $$;
SELECT last_value AS number, is_called AS called FROM profile_stream_internal.event_handlers_handler_id_seq \gset
SELECT profile_stream.register_handler('seen', 'public.third(jsonb,jsonb)');
SET test.fails = 'yes';
SELECT pg_temp.together('fails', VARIADIC ARRAY(SELECT i % 60 FROM generate_series(0, 119) i));
SELECT customer_id, open, chunks, version FROM pg_temp.kept WHERE customer_id = 'fails';
SET test.fails = 'no';
SELECT pg_temp.together('fails', VARIADIC ARRAY(SELECT i % 60 FROM generate_series(0, 119) i));
SELECT profile_stream.unregister_handler('seen', 'public.third(jsonb,jsonb)');
DROP FUNCTION public.third;
-- other tests show numbers of handlers
SELECT setval('profile_stream_internal.event_handlers_handler_id_seq', :number, :'called') AS number \gset

-- ids of a stream of its own
SELECT outcome, count(*) FROM (VALUES (0), (7), (0), (7), (8)) s(scope), LATERAL profile_stream_internal.retry_events(ARRAY[pg_temp.ev('e1', 'scope')], 604800000000, scope) GROUP BY 1 ORDER BY 1;

-- an id is remembered to the end of the second in which it was applied, and not a microsecond longer
CREATE FUNCTION pg_temp.outcome(customer text, id text, age interval, later interval) RETURNS text LANGUAGE sql AS $$
	SELECT outcome FROM (SELECT max(applied_at) AS at FROM profile_stream_internal.event_ids WHERE customer_id = customer AND hash = profile_stream_internal.event_id_hash(id)) e,
		LATERAL profile_stream_internal.retry_events(ARRAY[pg_temp.ev(id, customer)], (extract(epoch FROM clock_timestamp() - at + later) * 1000000)::bigint) $$;
CREATE TEMP TABLE began AS SELECT clock_timestamp() AS at;
SELECT pg_temp.each('exact', 1, 40);
SELECT count(*) FILTER (WHERE applied_at > began.at) AS not_earlier, count(*) FILTER (WHERE applied_at <= clock_timestamp() + '1 s') AS a_second_later
FROM profile_stream_internal.event_ids, began WHERE customer_id = 'exact';
SELECT testing.age_event_ids('exact', '3 days');
SELECT pg_temp.outcome('exact', 'e40', '3 days', '30 s') AS open, pg_temp.outcome('exact', 'e1', '3 days', '30 s') AS sealed;
SELECT pg_temp.outcome('exact', 'e39', '3 days', '0') AS open, pg_temp.outcome('exact', 'e2', '3 days', '0') AS sealed;
-- a pause is kept with three binary digits, rounded down: an id seems younger by less than an eighth of it
SELECT pg_temp.each('pause', 1, 1), testing.age_event_ids('pause', '3 days 10 s');
SELECT pg_temp.each('pause', 2, 2), testing.age_event_ids('pause', '20 days');
SELECT pg_temp.each('pause', 3, 3);
CREATE VIEW pg_temp.pauses AS SELECT n, age > pauses * 7 / 8 AND age <= pauses + interval '1 minute' AS right FROM
	(SELECT row_number() OVER (ORDER BY applied_at DESC) AS n, clock_timestamp() + '1 s' - applied_at AS age FROM profile_stream_internal.event_ids WHERE customer_id = 'pause') i
	JOIN (VALUES (1, interval '0'), (2, interval '20 days'), (3, interval '23 days 10 s')) e(n, pauses) USING (n);
SELECT * FROM pg_temp.pauses ORDER BY n;
-- rows of version 0.1.0 are read, and get the new form with their next id
UPDATE profile_stream.materialized_profiles SET event_ids = testing.as_of_0_1_0(event_ids) WHERE customer_id = 'pause' RETURNING length(event_ids);
SELECT * FROM pg_temp.pauses ORDER BY n;
SELECT pg_temp.each('older', 1, 40);
UPDATE profile_stream.materialized_profiles SET event_ids = testing.as_of_0_1_0(event_ids) WHERE customer_id = 'older' RETURNING length(event_ids);
SELECT pg_temp.each('older', 1, 40), pg_temp.each('older', 1, 41), pg_temp.each('pause', 1, 4);
SELECT customer_id, length(event_ids) FROM profile_stream.materialized_profiles WHERE customer_id IN ('older', 'pause') ORDER BY 1;
SELECT pg_temp.each('older', 1, 41);
-- one retention for a stream, another one for the next: a sealed id is known to the one that looks back far enough
SELECT pg_temp.each('two', 1, 40), testing.age_event_ids('two', '10 days');
SELECT days, outcome FROM (VALUES (20), (9)) r(days), LATERAL profile_stream_internal.retry_events(ARRAY[pg_temp.ev('e1', 'two'), pg_temp.ev('e40', 'two')], days * 86400000000) ORDER BY 1 DESC;
-- a clock that was set back makes no id older
SELECT pg_temp.each('clock', 1, 3), testing.age_event_ids('clock', '-3 days');
SELECT pg_temp.each('clock', 4, 6);
SELECT count(*) FROM profile_stream_internal.event_ids WHERE customer_id = 'clock' AND applied_at > now() + '2 days';

-- each chunk that is sealed removes two that have expired, without a stream
SELECT pg_temp.each('old', 1, 32 * 6), testing.age_event_ids('old', '8 days');
SELECT pg_temp.each('old', 201, 232);
SELECT * FROM pg_temp.kept WHERE customer_id = 'old';
SELECT pg_temp.each('old', 233, 264);
SELECT * FROM pg_temp.kept WHERE customer_id = 'old';
-- as long as the longest retention of a stream needs them
BEGIN;
SET LOCAL client_min_messages = error;
SELECT profile_stream.create_stream('long', bootstrap_servers => '127.0.0.1:1', dedupe_retention => '9 days');
SELECT pg_temp.each('old', 265, 296);
SELECT * FROM pg_temp.kept WHERE customer_id = 'old';
ROLLBACK;
SELECT pg_temp.each('old', 265, 296);
SELECT * FROM pg_temp.kept WHERE customer_id = 'old';

-- forgotten with the customer; a profile that was deleted by hand begins anew, whatever is left of its chunks
SELECT profiles, event_ids FROM profile_stream.forget_customer('each');
SELECT count(*) FROM profile_stream_internal.event_ids WHERE customer_id = 'each';
SELECT pg_temp.each('each', 1, 40);
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'each';
SELECT pg_temp.each('each', 1, 40), pg_temp.each('each', 1, 70);
SELECT * FROM pg_temp.kept WHERE customer_id = 'each';

-- rows compare by their ids, whenever these were applied
SELECT pg_temp.each('same1', 1, 70), pg_temp.each('same2', 1, 70), testing.age_event_ids('same2', '1 day'), pg_temp.each('same3', 1, 69), pg_temp.together('same4', VARIADIC ARRAY(SELECT i FROM generate_series(70, 1, -1) i));
SELECT a.customer_id, b.customer_id, profile_stream_internal.same_event_ids(a.event_ids, b.event_ids)
FROM profile_stream.materialized_profiles a, profile_stream.materialized_profiles b WHERE a.customer_id = 'same1' AND b.customer_id LIKE 'same%' ORDER BY 2;
SELECT profile_stream_internal.event_ids_sealed_to(event_ids) IS NOT NULL FROM profile_stream.materialized_profiles WHERE customer_id IN ('same1', 'scope') ORDER BY customer_id;

-- damaged bytes are refused or read as something else, and crash nothing
DO $$
DECLARE
	whole bytea := (SELECT event_ids FROM profile_stream.materialized_profiles WHERE customer_id = 'same1');
	bytes bytea;
	refused int := 0;
	applied int := 0;
BEGIN
	FOR place IN 0 .. length(whole) - 1 LOOP
		FOREACH bytes IN ARRAY ARRAY[set_byte(whole, place, 0), set_byte(whole, place, 255), substring(whole FOR place), whole || substring(whole FOR place)] LOOP
			BEGIN
				PERFORM * FROM profile_stream_internal.open_event_ids(bytes);
				PERFORM profile_stream_internal.event_ids_sealed_to(bytes), profile_stream_internal.same_event_ids(bytes, whole);
			EXCEPTION WHEN data_corrupted THEN
				refused := refused + 1;
			END;
			CONTINUE WHEN place % 5 <> 0 OR place > 4 AND place > length(whole) - 16; -- chunks that are not there would be looked for
			UPDATE profile_stream.materialized_profiles SET event_ids = bytes WHERE customer_id = 'same2';
			BEGIN
				PERFORM profile_stream.apply_event(pg_temp.ev('d' || place || '-' || length(bytes), 'same2'));
				applied := applied + 1;
			EXCEPTION WHEN data_corrupted THEN
				refused := refused + 1;
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE '%, %', CASE WHEN refused > 100 THEN 'many were refused' ELSE refused::text END, CASE WHEN applied > 20 THEN 'some were applied' ELSE applied::text END;
END $$;
UPDATE profile_stream.materialized_profiles SET event_ids = '\x0011' WHERE customer_id = 'same2';
SELECT pg_temp.each('same2', 1, 1);
UPDATE profile_stream_internal.event_id_chunks SET hashes = '\x0011' WHERE customer_id = 'same1' AND chunk_no = 1;
SELECT pg_temp.each('same1', 71, 71);
SELECT count(*) FROM profile_stream_internal.event_ids WHERE customer_id = 'same1';

-- what they cost: bytes an event of customers with 100 to 1,000 events, in the chunks with their index and in the profiles
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
SELECT count(*), sum(cardinality(outcomes)) FROM (SELECT profile_stream.apply_events(ARRAY(SELECT pg_temp.ev('e' || i, 'cost' || c) FROM generate_series(1, 100 + c % 10 * 100) i)) AS outcomes FROM generate_series(1, 200) c) a;
SELECT (pg_total_relation_size('profile_stream_internal.event_id_chunks') + (SELECT sum(pg_column_size(event_ids)) FROM profile_stream.materialized_profiles))
	/ (SELECT sum(version) FROM profile_stream.materialized_profiles) BETWEEN 10 AND 16 AS small;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
