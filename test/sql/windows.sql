-- windowed metrics: edges, decay, sealed chunks, trends, prune
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE FUNCTION pg_temp.ev(id text, customer text, type text, at timestamptz, payload jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'payload', payload, 'timestamp', at) $$;
-- the edges of [t - window, t], to the millisecond
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('t', 'edge', 'transaction.completed', '2026-01-01 00:00:00.500Z', '{"amount": 10.01}'),
	pg_temp.ev('l', 'edge', 'session.started', '2026-01-01 00:00:00.500Z'),
	pg_temp.ev('s', 'edge', 'support.ticket.created', '2026-01-01 00:00:00.500Z')]);
SELECT d.label, profile_stream.metric_value('edge', 'transaction_count_30d', '2026-01-01 00:00:00.500Z'::timestamptz + i30) AS tx,
	profile_stream.metric_value('edge', 'total_transaction_value_30d', '2026-01-01 00:00:00.500Z'::timestamptz + i30) AS value,
	profile_stream.metric_value('edge', 'login_count_7d', '2026-01-01 00:00:00.500Z'::timestamptz + i7) AS logins,
	profile_stream.metric_value('edge', 'support_ticket_count_90d', '2026-01-01 00:00:00.500Z'::timestamptz + i90) AS tickets
FROM (VALUES ('1 before', -interval '1 ms', -interval '1 ms', -interval '1 ms'),
	('2 at', interval '0', interval '0', interval '0'),
	('3 last', interval '30 days', interval '7 days', interval '90 days'),
	('4 gone', interval '30 days 1 ms', interval '7 days 1 ms', interval '90 days 1 ms')) d(label, i30, i7, i90)
ORDER BY 1;
-- a document and the view decay without a new event
SELECT p->'transactionCount30d', p->'totalTransactionValue30d', p->'loginCount7d'
FROM unnest(ARRAY['2026-01-05Z', '2026-01-20Z', '2026-02-20Z']::timestamptz[]) WITH ORDINALITY t(at, n),
	profile_stream.get_profile('edge', t.at) p ORDER BY n;
-- the view and the document take the clock of the statement
SELECT profile_stream.apply_event(pg_temp.ev('now', 'clock', 'session.started', now() - interval '6 days'));
SELECT profile_stream.apply_event(pg_temp.ev('old', 'clock', 'session.started', now() - interval '8 days'));
SELECT login_count_7d, transaction_count_30d, support_ticket_count_90d FROM profile_stream.profiles WHERE customer_id = 'clock';
SELECT data->'loginCount7d' FROM profile_stream.profile_documents WHERE customer_id = 'clock';
-- sums of all windowed columns run in parallel; what they show as integers is no other value
CREATE FUNCTION pg_temp.is_parallel(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
	result boolean := false;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		result := result OR line ~ 'Parallel Seq Scan on materialized_profiles';
	END LOOP;
	RETURN result;
END $$;
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SELECT pg_temp.is_parallel('SELECT sum(transaction_count_30d), sum(total_transaction_value_30d), sum(login_count_7d), sum(support_ticket_count_90d) FROM profile_stream.profiles'),
	pg_temp.is_parallel($$SELECT count(*) FROM profile_stream.materialized_profiles WHERE profile_stream.metric_value(customer_id, 'login_count_7d') > 0$$);
SELECT sum(login_count_7d) FROM profile_stream.profiles;
COMMIT;
SELECT count(*) AS differ FROM profile_stream.profiles v JOIN profile_stream.materialized_profiles p USING (customer_id)
WHERE v.transaction_count_30d <> profile_stream.window_value(p.customer_id, p.window_state, 'transaction_count_30d', now())
	OR v.login_count_7d <> profile_stream.window_value(p.customer_id, p.window_state, 'login_count_7d', now())
	OR v.support_ticket_count_90d <> profile_stream.window_value(p.customer_id, p.window_state, 'support_ticket_count_90d', now());
SELECT profile_stream_internal.window_count('clock', '', 'total_transaction_value_30d', now());
-- one customer with 100,000 samples, out of order, in one window
SELECT DISTINCT unnest(profile_stream.apply_events(array_agg(
	pg_temp.ev('h' || i, 'hot', 'transaction.completed', '2026-03-01Z'::timestamptz + (i * 7919 % 100000) * interval '20 seconds',
		jsonb_build_object('amount', i * 0.01)))))
FROM generate_series(1, 100000) i;
SELECT count(*), sum(count) FROM profile_stream_internal.window_chunks WHERE customer_id = 'hot';
SELECT length(window_state) < 1400 AS small_row FROM profile_stream.materialized_profiles WHERE customer_id = 'hot';
SELECT at, profile_stream.metric_value('hot', 'transaction_count_30d', at) AS count, x.count AS expected,
	profile_stream.metric_value('hot', 'total_transaction_value_30d', at) = x.sum AS same_sum
FROM unnest(ARRAY['2026-02-28Z', '2026-03-10 11:22:33Z', '2026-03-30Z', '2026-04-01 05:00Z', '2026-04-20 00:00:20Z', '2026-06-01Z']::timestamptz[]) at,
	LATERAL (SELECT count(*), coalesce(sum(i * 0.01), 0) AS sum FROM generate_series(1, 100000) i
		WHERE '2026-03-01Z'::timestamptz + (i * 7919 % 100000) * interval '20 seconds' BETWEEN at - interval '720 hours' AND at) x
ORDER BY at;
-- trends, before and after folding
CREATE TEMP TABLE before AS SELECT * FROM profile_stream.metric_trend('hot', 'transaction_count_30d', '2026-01-01', '2026-12-31');
SELECT count(*), sum(count), sum(sum) FROM before;
SELECT * FROM before ORDER BY day LIMIT 2;
SELECT profile_stream.prune_metrics('2026-04-20Z') > 0 AS folded;
SELECT profile_stream.prune_metrics('2026-04-20Z') AS nothing_left;
SELECT profile_stream.prune_metrics('2026-09-01Z') > 0 AS folded;
SELECT count(*) FILTER (WHERE samples IS NOT NULL) AS exact, count(*) FILTER (WHERE days IS NOT NULL) > 0 AS folded
FROM profile_stream_internal.window_chunks WHERE customer_id = 'hot';
SELECT count(*) AS differences FROM (
	SELECT day, count, sum, min, max FROM before EXCEPT
	SELECT day, count, sum, min, max FROM profile_stream.metric_trend('hot', 'transaction_count_30d', '2026-01-01', '2026-12-31')) d;
SELECT profile_stream.metric_value('hot', 'transaction_count_30d', '2026-09-02Z');
-- a moment that needs folded samples is refused, never guessed
SELECT profile_stream.metric_value('hot', 'transaction_count_30d', '2026-03-10 11:22:33Z');
-- new events go on after a prune
SELECT profile_stream.apply_event(pg_temp.ev('again', 'hot', 'transaction.completed', '2026-09-02Z', '{"amount": 5}'));
SELECT profile_stream.metric_value('hot', 'total_transaction_value_30d', '2026-09-02Z');
-- damaged bytes are refused or read as something else, and crash nothing
SELECT profile_stream.apply_event(pg_temp.ev('damage' || i, 'damage', 'transaction.completed', '2026-09-02Z', jsonb_build_object('amount', i * 12345.678)))
FROM generate_series(1, 3) i;
DO $$
DECLARE
	whole bytea := (SELECT window_state FROM profile_stream.materialized_profiles WHERE customer_id = 'damage');
	state bytea;
	refused int := 0;
BEGIN
	FOR place IN 0 .. length(whole) - 1 LOOP
		FOREACH state IN ARRAY ARRAY[set_byte(whole, place, 0), set_byte(whole, place, 1), set_byte(whole, place, 63), set_byte(whole, place, 127),
			set_byte(whole, place, 255), substring(whole FOR place)] LOOP
			BEGIN
				PERFORM profile_stream_internal.window_expired(state, '2026-12-01Z');
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range THEN
				refused := refused + 1;
			END;
			BEGIN
				PERFORM sum(value) FROM profile_stream_internal.window_samples(state, 'transaction_count_30d');
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range THEN
				refused := refused + 1;
			END;
			BEGIN
				PERFORM sum(value) FROM profile_stream_internal.chunk_samples(substring(state FROM 5));
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range THEN
				refused := refused + 1;
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE '%', CASE WHEN refused > 100 THEN 'many were refused' ELSE refused::text END;
END $$;
-- no sample is NaN or infinite
SELECT profile_stream.apply_event('{"eventId": "nan", "customerId": "nan", "eventType": "transaction.completed", "payload": {"amount": 12345678901234567890.5}, "timestamp": "2026-01-01"}');
SELECT DISTINCT value FROM profile_stream.materialized_profiles p, profile_stream_internal.window_samples(p.window_state, 'total_transaction_value_30d') WHERE customer_id = 'nan';
SELECT profile_stream_internal.window_samples(overlay(window_state PLACING '\x00c0' FROM position('\x8480d204' IN window_state)), 'total_transaction_value_30d')
FROM profile_stream.materialized_profiles WHERE customer_id = 'nan' AND position('\x8480d204' IN window_state) > 0;
-- wrong use
SELECT profile_stream.metric_value('edge', 'nothing');
SELECT profile_stream.metric_value('edge', 'login_count_7d', 'infinity');
SELECT profile_stream.metric_value('unknown', 'login_count_7d');
SELECT * FROM profile_stream.metric_trend('unknown', 'login_count_7d', '2026-01-01', '2026-01-02');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
