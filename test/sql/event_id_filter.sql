-- The filter of sealed event ids that a worker has: it spares the look at the table for new ids, and forgets none.
SET timezone = 'UTC';
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/functions.sql'
\set aging :srcdir '/event_ids.sql'
SET client_min_messages = warning;
\i :functions
\i :aging
RESET client_min_messages;
\set ECHO all
CREATE FUNCTION pg_temp.each(customer text, first int, last int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(n || ' ' || outcome, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM generate_series(first, last) i,
		profile_stream.apply_event(jsonb_build_object('eventId', 'e' || i, 'customerId', customer, 'eventType', 'seen', 'timestamp', '2026-01-01')) outcome GROUP BY 1) t $$;
-- how often this session has looked at the table since a moment of the same transaction
CREATE FUNCTION pg_temp.looks() RETURNS bigint LANGUAGE sql AS $$
	SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'event_id_chunks' AND schemaname = 'profile_stream_internal' $$;
-- a session has none
SELECT pg_temp.each('none', 1, 40), testing.filtered_ids();
BEGIN;
SELECT pg_temp.looks() AS looks \gset
SELECT pg_temp.each('none', 41, 50);
SELECT pg_temp.looks() - :looks AS looks;
COMMIT;

-- what it seals is in it at once
SELECT testing.try_id_filter(100000);
SELECT pg_temp.each('c', 1, 3200), testing.filtered_ids();
BEGIN;
SELECT pg_temp.looks() AS looks \gset
SELECT pg_temp.each('c', 3201, 3210);
SELECT pg_temp.looks() - :looks AS looks;
SELECT pg_temp.each('c', 1, 1);
SELECT pg_temp.looks() - :looks AS looks;
COMMIT;
-- what others sealed is read once
SELECT testing.try_id_filter(100000);
BEGIN;
SELECT pg_temp.looks() AS looks \gset
SELECT pg_temp.each('c', 3211, 3213);
SELECT pg_temp.looks() - :looks AS looks;
SELECT pg_temp.each('c', 2, 2), pg_temp.each('c', 3200, 3200);
COMMIT;
SELECT testing.filtered_ids();

-- a chunk that was sealed and rolled back, and then sealed with other ids
BEGIN;
SELECT pg_temp.each('c', 3220, 3250);
SAVEPOINT s;
SELECT pg_temp.each('c', 3251, 3300);
ROLLBACK TO s;
SELECT pg_temp.each('c', 3240, 3260);
ROLLBACK;
SELECT pg_temp.each('c', 3300, 3340), pg_temp.each('c', 3220, 3260), pg_temp.each('c', 3220, 3340), pg_temp.each('c', 1, 100);
-- the same ones again
BEGIN;
SELECT pg_temp.each('c', 3341, 3400);
ROLLBACK;
SELECT pg_temp.each('c', 3341, 3400), pg_temp.each('c', 3341, 3400);

-- what has expired is in it, and not remembered
SELECT pg_temp.each('o', 1, 40), testing.age_event_ids('o', '8 days'), pg_temp.each('o', 41, 41);
SELECT pg_temp.each('o', 1, 5), pg_temp.each('o', 1, 5);
-- forgotten and applied anew, with the same chunks
SELECT pg_temp.each('f', 1, 64);
SELECT event_ids FROM profile_stream.forget_customer('f');
SELECT pg_temp.each('f', 1, 64), pg_temp.each('f', 1, 64);

-- when it is full it is emptied; who has too many ids for it is always looked up
SELECT testing.try_id_filter(2000);
SELECT pg_temp.each('d' || d, 1, 330) FROM generate_series(1, 9) d;
SELECT testing.filtered_ids() <= 2000 AS bounded, testing.filtered_ids() > 0 AS used;
SELECT pg_temp.each('d' || d, 1, 331) FROM generate_series(1, 9) d;
SELECT pg_temp.each('c', 1, 50), testing.filtered_ids() <= 2000 AS bounded;
-- many customers in one call, more than fit
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', 'e' || i, 'customerId', 'd' || d, 'eventType', 'seen', 'timestamp', '2026-01-01')
	FROM generate_series(300, 340) i, generate_series(1, 9) d))) outcome GROUP BY 1 ORDER BY 1;
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', 'e' || i, 'customerId', 'd' || d, 'eventType', 'seen', 'timestamp', '2026-01-01')
	FROM generate_series(1, 340) i, generate_series(1, 9) d))) outcome GROUP BY 1 ORDER BY 1;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
