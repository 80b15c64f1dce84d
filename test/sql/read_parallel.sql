-- what planner and executor may do with each function: its volatility and PARALLEL mark; and that a parallel plan computes the same
SELECT CASE p.pronamespace WHEN 'profile_stream'::regnamespace THEN '' ELSE substr(p.pronamespace::regnamespace::text, 16) || '.' END || p.proname AS function,
	CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
	CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel
FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND p.prokind = 'f' ORDER BY p.pronamespace::regnamespace::text COLLATE "C", p.proname COLLATE "C";
-- what runs for rows of a scan says what it costs; procedures and what changes something is called once
SELECT p.proname AS without_cost FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND p.prokind = 'f' AND p.proparallel = 's' AND l.lanname = 'c' AND p.procost = 1 ORDER BY 1;
-- what writes, locks or waits is not safe
SELECT p.proname AS wrong FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND p.provolatile = 'v' AND p.proparallel <> 'u' ORDER BY 1;

SET timezone = 'UTC';
SELECT profile_stream.create_metric('parallel_sum', 'transaction.completed', '20 days', '$.amount', 'sum'),
	profile_stream.create_metric('parallel_last', 'transaction.completed', '20 days', '$.amount', 'last');
SELECT DISTINCT unnest(profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n, 'customerId', 'parallel-' || c, 'eventType', 'transaction.completed',
	'timestamp', '2026-01-01Z'::timestamptz + n * interval '3 hours', 'payload', jsonb_build_object('amount', n + c)) ORDER BY c, n)))
FROM generate_series(1, 300) c, generate_series(1, 1 + 99 * (c % 10 = 0)::int) n;
SELECT count(*) >= 30 AS sealed FROM profile_stream_internal.window_chunks;
ANALYZE profile_stream.materialized_profiles;
CREATE TEMP TABLE queries AS SELECT * FROM (VALUES
	(1, 'window_value()', $$SELECT sum(profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', '2026-01-20Z')) FROM profile_stream.materialized_profiles p$$),
	(2, 'of users', $$SELECT sum(profile_stream.window_value(p.customer_id, p.window_state, 'parallel_sum', '2026-01-14Z') + profile_stream.window_value(p.customer_id, p.window_state, 'parallel_last', '2026-01-10Z')) FROM profile_stream.materialized_profiles p$$),
	(3, 'profiles', $$SELECT sum(p.version) + sum(p.transaction_count_30d) + sum(p.total_transaction_value_30d) FROM profile_stream.profiles p$$),
	(4, 'profile_documents', $$SELECT sum(hashtext((p.data - 'a')::text)) FROM profile_stream.profile_documents p$$),
	(5, 'get_profile()', $$SELECT sum(hashtext(profile_stream.get_profile(p.customer_id, '2026-01-20Z')::text)) FROM profile_stream.materialized_profiles p$$),
	(6, 'get_profiles()', $$SELECT sum(hashtext(d.profile::text)) FROM profile_stream.materialized_profiles p, profile_stream.get_profiles(ARRAY[p.customer_id, 'parallel-10'], '2026-01-20Z') d$$),
	(7, 'metric_value()', $$SELECT sum(profile_stream.metric_value(p.customer_id, 'parallel_sum', '2026-01-20Z')) FROM profile_stream.materialized_profiles p$$),
	(8, 'metric_trend()', $$SELECT sum(t.sum) FROM profile_stream.materialized_profiles p, profile_stream.metric_trend(p.customer_id, 'parallel_sum', '2026-01-02', '2026-01-20') t$$),
	(9, 'metric_days()', $$SELECT sum(d.sum) FROM profile_stream.metric_days('parallel_sum', '2026-01-02', '2026-01-20', 'Asia/Kolkata') d$$)) q (n, what, query);
GRANT SELECT ON queries TO PUBLIC;
-- whether the plan has workers and they were started; with the leader apart, all rows are computed by them
CREATE FUNCTION pg_temp.workers(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	result text := 'no Gather';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		IF line ~ 'Workers Launched' THEN
			result := CASE WHEN line ~ ': [1-9]' THEN 'started' ELSE 'none started' END;
		END IF;
	END LOOP;
	RETURN result;
END $$;
CREATE FUNCTION pg_temp.result(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE query INTO result;
	RETURN result;
END $$;
SET max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE alone AS SELECT n, what, pg_temp.workers(query) AS workers, pg_temp.result(query) AS result FROM queries;
GRANT SELECT ON alone TO PUBLIC;
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET parallel_leader_participation = off;
SELECT what, alone.workers AS workers_alone, alone.result IS NOT NULL AS has_result, pg_temp.workers(query) AS workers, pg_temp.result(query) = alone.result AS same FROM queries JOIN alone USING (n, what) ORDER BY n;
-- with the rights of a reader, and by statements
CREATE ROLE regress_parallel IN ROLE profile_stream_reader;
SET ROLE regress_parallel;
SELECT what, pg_temp.workers(query) AS workers, pg_temp.result(query) = alone.result AS same FROM queries JOIN alone USING (n, what) ORDER BY n;
RESET ROLE;
SET profile_stream.direct_access = off;
SELECT what, pg_temp.workers(query) AS workers, pg_temp.result(query) = alone.result AS same FROM queries JOIN alone USING (n, what) ORDER BY n;
RESET profile_stream.direct_access;

-- clean up
DROP ROLE regress_parallel;
SELECT profile_stream.drop_metric('parallel_sum'), profile_stream.drop_metric('parallel_last');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
