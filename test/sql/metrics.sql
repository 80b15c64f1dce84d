-- metrics of users: aggregates, windows, filters, sharing, sealed chunks, pruning, trends, rights, views
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- numbers of series are the same whatever ran before
ALTER SEQUENCE profile_stream_internal.metric_series_series_id_seq RESTART 1001;
CREATE FUNCTION pg_temp.send(id text, customer text, type text, payload jsonb, at timestamptz DEFAULT '2026-01-01Z') RETURNS text LANGUAGE sql
	RETURN profile_stream.apply_event(jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', payload));
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no complaint';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || COALESCE(' (' || NULLIF(hint, '') || ')', '');
END $$;
CREATE FUNCTION pg_temp.values(customer text, at timestamptz) RETURNS jsonb LANGUAGE sql
	RETURN profile_stream.get_profile(customer, at) -> 'metrics';
CREATE FUNCTION pg_temp.expected(aggregate text, "window" interval, at timestamptz) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	result numeric;
BEGIN
	EXECUTE format('SELECT %s FROM sent WHERE sent.at BETWEEN $1 - $2 AND $1',
		CASE aggregate WHEN 'count' THEN 'count(*)' WHEN 'distinct' THEN 'count(DISTINCT value)' WHEN 'sum' THEN 'COALESCE(sum(value), 0)'
			WHEN 'last' THEN '(array_agg(value ORDER BY sent.at DESC, n DESC))[1]' WHEN 'first' THEN '(array_agg(value ORDER BY sent.at, n))[1]'
			WHEN 'median' THEN 'percentile_cont(0.5) WITHIN GROUP (ORDER BY value::float8)::numeric' WHEN 'percentile' THEN 'percentile_cont(0.875) WITHIN GROUP (ORDER BY value::float8)::numeric'
			WHEN 'stddev' THEN 'round(stddev_samp(value), 12)' ELSE aggregate || '(value)' END) INTO result USING at, "window";
	RETURN result;
END $$;

-- every aggregate, from the next event on; two windows and six aggregates share a series
SELECT pg_temp.send('0', 'a', 'loan', '{"rate": 99}'), pg_temp.values('a', '2026-01-01Z');
SELECT profile_stream.create_metric('loans_1h', 'loan', '1 hour', aggregate => 'count');
SELECT profile_stream.create_metric('rate_' || a || '_1d', 'loan', '1 day', '$.rate', a) FROM unnest(ARRAY['count', 'sum', 'avg', 'min', 'max', 'last']) a;
SELECT profile_stream.create_metric('rate_' || a || '_2d', 'loan', '2 days', '$.rate', a) FROM unnest(ARRAY['sum', 'last']) a;
SELECT profile_stream.create_metric('branches_1d', 'loan', '1 day', '$.at.branch', 'distinct');
SELECT profile_stream.create_metric('big_rates_1d', 'loan', '1 day', '$.rate', 'count', '$.size', 'big');
SELECT profile_stream.create_metric('flagged_1d', 'loan', '1 day', filter_path => '$.flag', filter_value => 'true');
SELECT profile_stream.create_metric('fives_1d', 'loan', '1 day', filter_path => '$.at.floor', filter_value => '5');
SELECT m.name, m.series_id, m.aggregate, m."window", s.event_types, s.value_path, s.is_distinct, s.filter_path, s.filter_value
FROM profile_stream_internal.metrics m JOIN profile_stream_internal.metric_series s USING (series_id) ORDER BY m.name;
SELECT pg_temp.values('a', '2026-01-01Z');
SELECT pg_temp.values('nobody', '2026-01-01Z') IS NULL, profile_stream.metric_value('nobody', 'rate_sum_1d'), profile_stream.metric_value('nobody', 'rate_avg_1d');
SELECT pg_temp.send('1', 'a', 'loan', '{"rate": 4.5, "size": "big", "at": {"branch": "Rome", "floor": 5}, "flag": true}', '2026-01-01 00:00Z');
SELECT pg_temp.send('2', 'a', 'loan', '{"rate": "2.5", "size": "small", "at": {"branch": "Oslo", "floor": "5"}, "flag": "true"}', '2026-01-01 01:00Z');
SELECT pg_temp.send('3', 'a', 'loan', '{"rate": 3, "size": "big", "at": {"branch": "Rome", "floor": 5.0}, "flag": false}', '2026-01-01 01:00Z');
SELECT pg_temp.send('4', 'a', 'loan', '{"rate": null, "at": {"branch": 7}, "flag": ["true"]}', '2026-01-01 01:00Z');
SELECT pg_temp.send('5', 'a', 'loan', '{"at": "nowhere"}', '2026-01-01 01:00Z');
SELECT pg_temp.send('6', 'a', 'other', '{"rate": 1000}', '2026-01-01 01:00Z');
-- both ends belong to a window; it decays without events
SELECT at, jsonb_pretty(pg_temp.values('a', at)) FROM unnest(ARRAY['2025-12-31 23:59:59.999Z', '2026-01-01Z', '2026-01-01 01:00Z', '2026-01-01 02:00:00.001Z', '2026-01-02Z',
	'2026-01-02 00:00:00.001Z', '2026-01-02 01:00Z', '2026-01-02 01:00:00.001Z', '2026-01-03 01:00:00.001Z']::timestamptz[]) at ORDER BY 1;
-- what is no number, or no text, is a dead letter, and changes nothing; what a filter leaves out is not read
SELECT pg_temp.send('7', 'a', 'loan', '{"rate": "much"}'), pg_temp.send('8', 'a', 'loan', '{"at": {"branch": ["Rome"]}}');
SELECT event_id, kind, errors FROM profile_stream.dead_letters ORDER BY 1;
SELECT profile_stream.create_metric('strict_1d', 'filtered', '1 day', '$.n', 'sum', '$.k', 'v');
SELECT pg_temp.send('9', 'a', 'filtered', '{"n": "much", "k": "w"}'), pg_temp.send('10', 'a', 'filtered', '{"n": "much", "k": "v"}'), pg_temp.send('11', 'a', 'filtered', '{"n": 1, "k": "v"}');
SELECT profile_stream.metric_value('a', 'strict_1d', '2026-01-01Z');

-- many samples, out of order, sealed in chunks: every aggregate over every kind of window
SELECT profile_stream.create_metric('many_' || a || '_' || d || 'd', 'many', make_interval(days => d), '$.n', a)
FROM unnest(ARRAY['count', 'sum', 'avg', 'min', 'max', 'last', 'distinct', 'first', 'median', 'stddev']) a, unnest(ARRAY[1, 30, 400]) d;
SELECT profile_stream.create_metric('many_percentile_' || d || 'd', 'many', make_interval(days => d), '$.n', 'percentile', fraction => 0.875) FROM unnest(ARRAY[1, 30, 400]) d;
CREATE TEMP TABLE sent AS
SELECT n, '2026-03-01Z'::timestamptz + (n * 7919 % 1000) * interval '1 hour' AS at, trim_scale((n * 31 % 97 - 40) / 4.0) AS value FROM generate_series(1, 3000) n;
SELECT DISTINCT r FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'm' || n, 'customerId', 'many', 'eventType', 'many',
	'timestamp', at, 'payload', jsonb_build_object('n', value)) ORDER BY n) FROM sent))) r;
SELECT metric, count(*) > 20 AS many_chunks FROM profile_stream_internal.window_chunks WHERE customer_id = 'many' GROUP BY 1 ORDER BY 1;
SELECT m.aggregate, count(*) AS values,
	count(*) FILTER (WHERE CASE m.aggregate WHEN 'stddev' THEN round(profile_stream.metric_value('many', m.name, at), 12) ELSE profile_stream.metric_value('many', m.name, at) END
		IS DISTINCT FROM pg_temp.expected(m.aggregate, m."window", at)) AS differ
FROM profile_stream_internal.metrics m, generate_series('2026-02-28Z'::timestamptz, '2026-05-20Z', '17 hours') at
WHERE m.name LIKE 'many_%' AND m.aggregate <> 'distinct' GROUP BY 1 ORDER BY 1;
SELECT max(abs(profile_stream.metric_value('many', m.name, at) - pg_temp.expected('distinct', m."window", at))) <= 1 AS near
FROM profile_stream_internal.metrics m, generate_series('2026-02-28Z'::timestamptz, '2026-05-20Z', '17 hours') at WHERE m.name LIKE 'many_distinct_%';
-- a percentile of more samples than are sorted in memory goes to files, and stays exact
SET work_mem = '64kB';
SELECT temp_files AS before FROM pg_stat_database WHERE datname = current_database() \gset
SELECT m.aggregate, count(*) AS values, count(*) FILTER (WHERE profile_stream.metric_value('many', m.name, at) IS DISTINCT FROM pg_temp.expected(m.aggregate, m."window", at)) AS differ
FROM profile_stream_internal.metrics m, generate_series('2026-04-01Z'::timestamptz, '2026-05-20Z', '7 days') at
WHERE m.name LIKE 'many_%' AND m.aggregate IN ('median', 'percentile') GROUP BY 1 ORDER BY 1;
SELECT FROM pg_stat_force_next_flush();
SELECT temp_files > :before AS in_files FROM pg_stat_database WHERE datname = current_database();
RESET work_mem;
-- the error of a distinct count is about 0.8 %
SELECT profile_stream.create_metric('visitors', 'visit', '1 day', '$.who', 'distinct');
SELECT DISTINCT r FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'v' || n, 'customerId', 'visited', 'eventType', 'visit',
	'timestamp', '2026-01-01T00:00:00Z', 'payload', jsonb_build_object('who', 'visitor ' || n % 20000))) FROM generate_series(1, 30000) n))) r;
SELECT abs(profile_stream.metric_value('visited', 'visitors', '2026-01-01Z') / 20000 - 1) < 0.03 AS near;

-- percentiles are exact and between two values in proportion; of few samples, of one and of none
SELECT profile_stream.create_metric('p_' || replace(f::text, '.', '_'), 'p', '1 day', '$.n', 'percentile', fraction => f) FROM unnest(ARRAY[0, 0.1, 0.5, 0.95, 1]) f;
SELECT profile_stream.create_metric('p_' || a, 'p', '1 day', '$.n', a) FROM unnest(ARRAY['median', 'stddev', 'first']) a;
SELECT pg_temp.send('p1', 'p', 'p', '{"n": 4.50}'), pg_temp.values('p', '2025-12-31Z') - ARRAY(SELECT name FROM profile_stream.definitions WHERE event_type <> 'p') AS of_none;
SELECT pg_temp.values('p', '2026-01-01Z') - ARRAY(SELECT name FROM profile_stream.definitions WHERE event_type <> 'p') AS of_one;
SELECT pg_temp.send('p2', 'p', 'p', '{"n": -12345678901234567890.25}'), pg_temp.send('p3', 'p', 'p', '{"n": 1000}');
SELECT jsonb_pretty(pg_temp.values('p', '2026-01-01Z') - ARRAY(SELECT name FROM profile_stream.definitions WHERE event_type <> 'p')) AS of_three;

-- damaged bytes are refused or read as something else, and crash nothing
DO $$
DECLARE
	whole bytea := (SELECT window_state FROM profile_stream.materialized_profiles WHERE customer_id = 'a');
	state bytea;
	refused int := 0;
BEGIN
	FOR place IN 0 .. length(whole) - 1 LOOP
		FOREACH state IN ARRAY ARRAY[set_byte(whole, place, 0), set_byte(whole, place, 63), set_byte(whole, place, 255), substring(whole FOR place)] LOOP
			BEGIN
				PERFORM profile_stream_internal.metric_values('a', state, '2026-01-01 02:00Z');
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range OR feature_not_supported THEN
				refused := refused + 1;
			END;
			BEGIN
				PERFORM sum(value) FROM profile_stream_internal.window_state_samples(state);
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range THEN
				refused := refused + 1;
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE '%', CASE WHEN refused > 100 THEN 'many were refused' ELSE refused::text END;
END $$;

-- trends: of distinct values only how many samples
SELECT * FROM profile_stream.metric_trend('a', 'rate_avg_1d', '2025-12-01', '2026-12-31');
SELECT * FROM profile_stream.metric_trend('a', 'branches_1d', '2025-12-01', '2026-12-31');
CREATE TEMP TABLE before AS SELECT * FROM profile_stream.metric_trend('many', 'many_sum_1d', '2026-01-01', '2026-12-31');
SELECT count(*), sum(count), sum(sum) = (SELECT sum(value) FROM sent) AS same FROM before;

-- pruning keeps what the longest window of a series needs
SELECT profile_stream.prune_metrics('2026-06-01Z') > 0 AS folded, profile_stream.prune_metrics('2026-06-01Z') AS nothing_left;
SELECT metric, bool_or(samples IS NULL) AS folded FROM profile_stream_internal.window_chunks WHERE customer_id <> 'visited' GROUP BY 1 ORDER BY 1;
SELECT count(*) FILTER (WHERE CASE m.aggregate WHEN 'stddev' THEN round(profile_stream.metric_value('many', m.name, '2026-06-01Z'), 12) ELSE profile_stream.metric_value('many', m.name, '2026-06-01Z') END
	IS DISTINCT FROM pg_temp.expected(m.aggregate, m."window", '2026-06-01Z')) AS differ
FROM profile_stream_internal.metrics m WHERE m.name LIKE 'many_%' AND m.aggregate <> 'distinct';
SELECT profile_stream.prune_metrics('2027-07-01Z') > 0 AS folded;
SELECT count(*) AS differences FROM (SELECT * FROM before EXCEPT SELECT * FROM profile_stream.metric_trend('many', 'many_sum_1d', '2026-01-01', '2026-12-31')) d;
SELECT pg_temp.complaint($$SELECT profile_stream.metric_value('many', 'many_last_30d', '2026-04-01Z')$$);
SELECT pg_temp.complaint($$SELECT profile_stream.metric_value('many', 'many_distinct_1d', '2026-04-01Z')$$);
-- a longer window than the samples were kept for has a series of its own; a shorter one shares
SELECT profile_stream.create_metric('rate_sum_9d', 'loan', '9 days', '$.rate', 'sum');
SELECT profile_stream.create_metric('rate_sum_3h', 'loan', '3 hours', '$.rate', 'sum');
SELECT name, s.series_id = (SELECT min(series_id) FROM profile_stream_internal.metrics WHERE name = 'rate_sum_2d') AS shares_old
FROM profile_stream_internal.metrics m JOIN profile_stream_internal.metric_series s USING (series_id) WHERE name IN ('rate_sum_9d', 'rate_sum_3h') ORDER BY 1;

-- a dropped metric: its series goes with the last one, and what is left of it is pruned; its number does not come again
SELECT pg_temp.send('open', 'visited', 'visit', '{"who": "me"}', '2026-07-01Z');
SELECT count(*) > 0 AS open_samples FROM profile_stream.materialized_profiles, profile_stream_internal.window_state_samples(window_state) WHERE customer_id = 'visited';
SELECT profile_stream_internal.metric_series('visitors') AS visitors \gset
SELECT profile_stream.drop_metric('visitors');
SELECT pg_temp.complaint($$SELECT profile_stream.metric_value('visited', 'visitors')$$);
SELECT count(*) FROM profile_stream_internal.metric_series WHERE event_types = '{visit}';
SELECT profile_stream.create_metric('visitors', 'visit', '1 day', '$.who', 'distinct');
SELECT profile_stream_internal.metric_series('visitors') <> :'visitors' AS another, profile_stream.metric_value('visited', 'visitors', '2026-01-01Z');
SELECT pg_temp.send('v', 'visited', 'visit', '{"who": "me"}');
SELECT profile_stream.metric_value('visited', 'visitors', '2026-01-01Z');
SELECT count(*) > 0 AS left FROM profile_stream_internal.window_chunks WHERE metric = :'visitors';
SELECT count(*) > 0 AS left FROM profile_stream.materialized_profiles, profile_stream_internal.window_state_samples(window_state) WHERE series = :'visitors';
SELECT profile_stream_internal.window_expired(window_state, '2026-01-01Z') FROM profile_stream.materialized_profiles WHERE customer_id = 'visited';
SELECT profile_stream.prune_metrics('2026-01-01Z') >= 29900 AS removed, profile_stream.prune_metrics('2026-01-01Z') AS nothing_left;
SELECT count(*) FROM profile_stream_internal.window_chunks WHERE metric = :'visitors';
SELECT count(*) FROM profile_stream.materialized_profiles, profile_stream_internal.window_state_samples(window_state) WHERE series = :'visitors';
SELECT profile_stream.metric_value('visited', 'visitors', '2026-01-01Z');
SELECT profile_stream.drop_metric('rate_avg_1d');
SELECT pg_temp.send('l', 'a', 'loan', '{"rate": 8}', '2026-07-01Z');
SELECT profile_stream.metric_value('a', 'rate_sum_1d', '2026-07-01Z');

-- several event types, sources and comparisons: what does not pass is not read
CREATE FUNCTION pg_temp.send_from(id text, source text, type text, payload jsonb) RETURNS text LANGUAGE sql
	RETURN profile_stream.apply_event(jsonb_strip_nulls(jsonb_build_object('eventId', id, 'customerId', 'f', 'eventType', type, 'source', source, 'timestamp', '2026-01-01Z'::timestamptz, 'payload', payload)));
SELECT profile_stream.create_metric('f_both', "window" => '1 day', value_path => '$.n', aggregate => 'sum', event_types => '{f.two,f.one,f.two}');
SELECT profile_stream.create_metric('f_both_too', "window" => '2 days', value_path => '$.n', aggregate => 'max', event_types => '{f.one,f.two}');
SELECT profile_stream.create_metric('f_crm', 'f.one', '1 day', sources => '{crm}'), profile_stream.create_metric('f_crm_app', 'f.one', '1 day', sources => '{crm,app}');
SELECT profile_stream.create_metric('f_' || n, 'f.one', '1 day', filter_path => '$.n', filter_operator => op, filter_value => v)
FROM (VALUES ('eq', '=', '10'), ('ne', '<>', '10'), ('lt', '<', '10'), ('le', '<=', '10.0'), ('gt', '>', '10'), ('ge', '>=', '1e1'), ('in', 'in', '{9,"11",x}')) o(n, op, v);
SELECT profile_stream.create_metric('f_day_' || n, 'f.one', '1 day', filter_path => '$.day', filter_operator => op, filter_value => '2026-02-01') FROM (VALUES ('lt', '<'), ('ge', '>=')) o(n, op);
SELECT profile_stream.map_attribute('f.one', 'from_crm', '$.n', 'set', 'numeric', sources => '{crm}');
SELECT profile_stream.map_attribute(NULL, 'big', operation => 'count', filter_path => '$.n', filter_operator => '>', filter_value => '10', event_types => '{f.one,f.two}');
SELECT pg_temp.send_from('f' || i, s, t, p::jsonb) FROM (VALUES
	(1, 'crm', 'f.one', '{"n": 9, "day": "2026-01-31"}'), (2, 'app', 'f.one', '{"n": "10", "day": "2026-02-01"}'), (3, 'web', 'f.one', '{"n": 10.0, "day": 7}'),
	(4, NULL, 'f.one', '{"n": 11}'), (5, 'crm', 'f.two', '{"n": 100}'), (6, 'CRM', 'f.one', '{"n": null}'), (7, '', 'f.one', '{}'),
	(8, 'crm', 'f.three', '{"n": 1000}')) e(i, s, t, p) ORDER BY i;
SELECT name, series_id = min(series_id) OVER () AS first_series, profile_stream.metric_value('f', name, '2026-01-01Z')
FROM profile_stream_internal.metrics WHERE name LIKE 'f\_%' ORDER BY series_id, name;
SELECT attributes FROM profile_stream.materialized_profiles WHERE customer_id = 'f';
SELECT kind, event_type, name, definition FROM profile_stream.definitions WHERE name IN ('f_both', 'f_crm_app', 'f_in', 'from_crm', 'big') ORDER BY 1, 2, 3;
SELECT pg_temp.send_from('f9', 'crm', 'f.one', '{"n": "many"}'), pg_temp.send_from('f10', 'app', 'f.one', '{"n": {"a": 1}}');
SELECT event_id, errors FROM profile_stream.dead_letters WHERE customer_id = 'f' ORDER BY 1;
SELECT pg_temp.complaint(format('SELECT profile_stream.%s', call)) FROM (VALUES
	(1, $$create_metric('x', 'f', '1 day', event_types => '{f}')$$), (2, $$create_metric('x', "window" => '1 day', event_types => '{}')$$),
	(3, $$create_metric('x', "window" => '1 day', event_types => '{a,NULL}')$$), (4, $$create_metric('x', 'f', '1 day', sources => '{""}')$$),
	(5, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => 'like', filter_value => 'a')$$),
	(6, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => NULL, filter_value => 'a')$$),
	(7, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => '<')$$), (8, $$create_metric('x', 'f', '1 day', filter_operator => '<')$$),
	(9, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => 'in', filter_value => 'a')$$),
	(10, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => 'in', filter_value => '{}')$$),
	(11, $$create_metric('x', 'f', '1 day', filter_path => '$.n', filter_operator => 'in', filter_value => '{a,NULL}')$$),
	(12, format('create_metric(''x'', ''f'', ''1 day'', sources => %L)', (SELECT array_agg(i::text) FROM generate_series(1, 101) i))),
	(13, $$map_attribute('f.one', 'x', '$.n', filter_path => '$', filter_value => 'a')$$), (14, $$map_attribute(attribute => 'x', path => '$.n')$$),
	(15, $$map_attribute('f.one', NULL, '$.n')$$), (16, $$map_attribute(NULL, 'big', operation => 'count', event_types => '{f.four,f.one}')$$)) v(n, call) ORDER BY n;
SELECT profile_stream.unmap_attribute('f.one', 'from_crm'), profile_stream.unmap_attribute('f.one', 'big'), profile_stream.unmap_attribute('f.two', 'big');

-- a lifetime: totals instead of samples, of one size; true at every moment for which there is a value
SELECT profile_stream.create_metric('ever_' || a, 'ever', value_path => '$.n', aggregate => a, period => 'lifetime') FROM unnest(ARRAY['count', 'sum', 'avg', 'min', 'max', 'first', 'last']) a;
SELECT profile_stream.create_metric('ever_all', 'ever', period => 'lifetime'), profile_stream.create_metric('ever_1d', 'ever', '1 day', '$.n', 'sum');
SELECT a.name, profile_stream.metric_value('nobody', a.name, '2026-01-01Z') FROM profile_stream_internal.metrics a WHERE name LIKE 'ever%' ORDER BY 1;
CREATE TEMP TABLE ever AS SELECT n, '2020-03-01Z'::timestamptz + (n * 7919 % 1500) / 3 * interval '1 day' AS at, trim_scale((n * 31 % 97 - 40) / 4.0) AS value FROM generate_series(1, 1600) n;
CREATE FUNCTION pg_temp.send_ever(customer text, from_n int, to_n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'ever' || n, 'customerId', customer, 'eventType', 'ever', 'timestamp', at,
		'payload', jsonb_build_object('n', value)) ORDER BY n) FROM ever WHERE n BETWEEN from_n AND to_n))) r WHERE r = 'applied' $$;
CREATE FUNCTION pg_temp.ever(metric text, moment timestamptz, up_to int) RETURNS numeric LANGUAGE sql AS $$
	SELECT CASE metric WHEN 'ever_count' THEN count(*) WHEN 'ever_all' THEN count(*) WHEN 'ever_sum' THEN COALESCE(sum(value), 0) WHEN 'ever_avg' THEN avg(value) WHEN 'ever_min' THEN min(value) WHEN 'ever_max' THEN max(value)
		WHEN 'ever_first' THEN (array_agg(value ORDER BY at, n))[1] WHEN 'ever_last' THEN (array_agg(value ORDER BY at DESC, n DESC))[1] END FROM ever WHERE at <= moment AND n <= up_to $$;
CREATE FUNCTION pg_temp.compare_ever(up_to int) RETURNS TABLE (metric text, moments bigint, known bigint, differ bigint, unknown_at_end bigint) LANGUAGE sql AS $$
	SELECT m.name, count(*), count(v.found), count(*) FILTER (WHERE v.found IS NOT NULL AND v.found IS DISTINCT FROM pg_temp.ever(m.name, at, up_to) OR v.found IS NULL AND m.name = 'ever_first' AND pg_temp.ever(m.name, at, up_to) IS NOT NULL),
		count(*) FILTER (WHERE v.found IS NULL AND at >= '2021-07-14Z')
	FROM profile_stream_internal.metrics m, generate_series('2020-02-29Z'::timestamptz, '2021-08-14Z', '41 hours') at, LATERAL (SELECT profile_stream.metric_value('ever', m.name, at) AS found OFFSET 0) v
	WHERE m.period = 'lifetime' GROUP BY 1 ORDER BY 1 $$;
SELECT pg_temp.send_ever('ever', 1, 20), pg_temp.send_ever('ever', 10, 25);
SELECT metric, known = moments - (metric IN ('ever_avg', 'ever_min', 'ever_max', 'ever_first', 'ever_last'))::int * (SELECT count(*) FROM generate_series('2020-02-29Z'::timestamptz, '2021-08-14Z', '41 hours') at WHERE pg_temp.ever('ever_count', at, 25) = 0) AS all_known,
	differ, unknown_at_end FROM pg_temp.compare_ever(25);
SELECT pg_temp.send_ever('ever', 26, 300), (SELECT length(window_state) FROM profile_stream.materialized_profiles WHERE customer_id = 'ever') AS bytes \gset before_
SELECT * FROM pg_temp.compare_ever(300);
SELECT pg_temp.send_ever('ever', 301, 1600);
SELECT metric, moments, known > 2 AS some_known, differ, unknown_at_end FROM pg_temp.compare_ever(1600);
SELECT length(window_state) - :before_bytes BETWEEN -400 AND 400 AS same_size FROM profile_stream.materialized_profiles WHERE customer_id = 'ever';
SELECT count(*) AS chunks, count(*) FILTER (WHERE metric = profile_stream_internal.metric_series('ever_sum')) AS of_lifetime FROM profile_stream_internal.window_chunks WHERE customer_id = 'ever';
SELECT jsonb_pretty(pg_temp.values('ever', '2021-01-01Z') - ARRAY(SELECT name FROM profile_stream_internal.metrics WHERE period IS NULL)) AS then, jsonb_pretty(pg_temp.values('ever', '2026-01-01Z') - ARRAY(SELECT name FROM profile_stream_internal.metrics WHERE period IS NULL)) AS now;
-- pruning leaves it, and others of the customer are folded
SELECT profile_stream.prune_metrics('2036-01-01Z') > 0 AS folded, profile_stream.prune_metrics('2036-01-01Z') AS nothing_left;
SELECT * FROM pg_temp.compare_ever(1600) WHERE differ <> 0 OR unknown_at_end <> 0;
SELECT pg_temp.complaint($$SELECT profile_stream.metric_trend('ever', 'ever_sum', '2020-01-01', '2021-01-01')$$), pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('ever_all', '2020-01-01', '2021-01-01')$$);
SELECT t.series = profile_stream_internal.metric_series('ever_sum') AS of_values, t.count + (SELECT count(*) FROM profile_stream_internal.window_state_samples(p.window_state) s WHERE s.series = t.series) AS count, t.min, t.max, t.from_at, t.first
FROM profile_stream.materialized_profiles p, profile_stream_internal.window_state_totals(p.window_state) t WHERE customer_id = 'ever' ORDER BY 1;
SELECT jsonb_array_length(profile_stream.export_customer('ever') -> 'totals') AS totals;
-- numbers of many digits are folded early, so that the row stays small, and nothing is lost; of 1 and NULL values, too
SELECT count(*) FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'big' || n, 'customerId', 'big', 'eventType', 'ever', 'timestamp', '2026-01-01Z'::timestamptz + n * interval '1 hour',
	'payload', jsonb_build_object('n', (n || '2345678901234567.890123456789')::numeric))) FROM generate_series(1, 200) n))) r WHERE r = 'applied';
SELECT length(window_state) < 1600 AS small, profile_stream.metric_value('big', 'ever_sum') = (SELECT sum((n || '2345678901234567.890123456789')::numeric) FROM generate_series(1, 200) n) AS same,
	profile_stream.metric_value('big', 'ever_all'), profile_stream.metric_value('big', 'ever_last') FROM profile_stream.materialized_profiles WHERE customer_id = 'big';
-- events of the next hour are not in the value of now, but of all after them
SELECT count(*) FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'soon' || n, 'customerId', 'soon', 'eventType', 'ever', 'timestamp', now() + n * interval '1 minute',
	'payload', jsonb_build_object('n', n))) FROM generate_series(-100, 30) n))) r WHERE r = 'applied';
SELECT profile_stream.metric_value('soon', 'ever_count'), profile_stream.metric_value('soon', 'ever_last'), profile_stream.metric_value('soon', 'ever_count', now() + interval '1 hour');
-- damaged bytes
DO $$
DECLARE
	whole bytea := (SELECT window_state FROM profile_stream.materialized_profiles WHERE customer_id = 'ever');
	state bytea;
	refused int := 0;
BEGIN
	FOR place IN 0 .. length(whole) - 1 LOOP
		FOREACH state IN ARRAY ARRAY[set_byte(whole, place, 0), set_byte(whole, place, 63), set_byte(whole, place, 255), substring(whole FOR place)] LOOP
			BEGIN
				PERFORM profile_stream.window_value('ever', state, 'ever_sum', '2036-01-01Z'), profile_stream.window_value('ever', state, 'ever_all', '2036-01-01Z');
				PERFORM sum(sum) FROM profile_stream_internal.window_state_totals(state);
			EXCEPTION WHEN data_corrupted OR numeric_value_out_of_range OR feature_not_supported THEN
				refused := refused + 1;
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE '%', CASE WHEN refused > 100 THEN 'many were refused' ELSE refused::text END;
END $$;

-- days, weeks and months of a time zone begin with their first moment there, also where clocks are set back over midnight or a day is skipped
CREATE TEMP TABLE zones AS SELECT * FROM unnest(ARRAY['UTC', 'Europe/Berlin', 'America/Havana', 'America/Sao_Paulo', 'Asia/Kolkata', 'Pacific/Apia', 'Australia/Lord_Howe']) WITH ORDINALITY z(zone, n);
SELECT count(profile_stream.create_metric('cal_' || p || z.n, 'cal', value_path => '$.n', aggregate => 'sum', period => p, time_zone => z.zone)) FROM zones z, unnest(ARRAY['day', 'week', 'month']) p;
SELECT profile_stream.create_metric('cal_' || a, 'cal', value_path => '$.n', aggregate => a, period => 'week', time_zone => 'Europe/Berlin') FROM unnest(ARRAY['count', 'avg', 'min', 'max', 'first', 'last', 'median', 'stddev', 'distinct']) a;
SELECT profile_stream.create_metric('cal_utc', 'cal', period => 'day');
CREATE TEMP TABLE cal AS SELECT row_number() OVER () AS n, at FROM (SELECT generate_series('2011-12-20Z'::timestamptz, '2012-01-03Z', '45 minutes') AS at
	UNION ALL SELECT generate_series('2018-10-20 00:10Z'::timestamptz, '2018-11-14Z', '45 minutes')) s;
SELECT count(*) FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', 'cal' || n, 'customerId', 'cal', 'eventType', 'cal', 'timestamp', at, 'payload', jsonb_build_object('n', n)) ORDER BY n / 200, n % 7, n) FROM cal))) r WHERE r = 'applied';
CREATE TEMP TABLE moments AS SELECT at FROM generate_series('2011-12-29 00:00Z'::timestamptz, '2012-01-01 12:00Z', '5 hours 7 minutes') at
	UNION ALL SELECT generate_series('2018-10-27 21:00Z'::timestamptz, '2018-10-28 23:00Z', '83 minutes') UNION ALL SELECT generate_series('2018-11-03 21:00Z'::timestamptz, '2018-11-05 06:00Z', '61 minutes');
SELECT z.zone, p.period, count(*) AS moments, count(*) FILTER (WHERE profile_stream.metric_value('cal', 'cal_' || p.period || z.n, m.at) IS DISTINCT FROM
	(SELECT COALESCE(sum(c.n), 0) FROM cal c WHERE c.at <= m.at AND c.at > m.at - interval '33 days' AND date_trunc(p.period, c.at AT TIME ZONE z.zone) = date_trunc(p.period, m.at AT TIME ZONE z.zone))) AS differ
FROM zones z, unnest(ARRAY['day', 'week', 'month']) p(period), moments m GROUP BY z.zone, z.n, p.period ORDER BY z.n, p.period;
-- the longest and the shortest day, to the microsecond
SELECT pg_temp.send('dst' || i, 'dst', 'cal', '{"n": 1}', at::timestamptz) FROM unnest(ARRAY['2026-10-24 21:59:59.999999Z', '2026-10-24 22:00Z', '2026-10-25 22:59:59.999999Z', '2026-10-25 23:00Z', '2026-03-28 23:00Z', '2026-03-29 21:59:59.999999Z', '2026-03-29 22:00Z']) WITH ORDINALITY d(at, i);
SELECT at, profile_stream.metric_value('dst', 'cal_day2', at::timestamptz) FROM unnest(ARRAY['2026-10-24 21:59:59.999999Z', '2026-10-24 22:00Z', '2026-10-25 22:59:59.999999Z', '2026-10-25 23:00Z', '2026-03-29 21:59:59.999999Z', '2026-03-29 22:00Z']) at;
SET timezone = 'Pacific/Apia';
SELECT profile_stream.metric_value('dst', 'cal_day2', '2026-10-25 22:59:59.999999Z') AS in_another_session_zone;
SET timezone = 'UTC';
SELECT m.aggregate, count(*) FILTER (WHERE CASE m.aggregate WHEN 'stddev' THEN round(profile_stream.metric_value('cal', m.name, at), 12) ELSE profile_stream.metric_value('cal', m.name, at) END IS DISTINCT FROM
	(SELECT CASE m.aggregate WHEN 'count' THEN count(*) WHEN 'distinct' THEN count(*) WHEN 'avg' THEN avg(c.n) WHEN 'min' THEN min(c.n) WHEN 'max' THEN max(c.n) WHEN 'first' THEN min(c.n) WHEN 'last' THEN max(c.n)
		WHEN 'median' THEN (percentile_cont(0.5) WITHIN GROUP (ORDER BY c.n::float8))::numeric WHEN 'stddev' THEN round(stddev_samp(c.n), 12) END
	FROM cal c WHERE c.at <= m2.at AND c.at > m2.at - interval '33 days' AND date_trunc('week', c.at AT TIME ZONE 'Europe/Berlin') = date_trunc('week', m2.at AT TIME ZONE 'Europe/Berlin'))) AS differ
FROM profile_stream_internal.metrics m, moments m2 WHERE m.name IN ('cal_count', 'cal_avg', 'cal_min', 'cal_max', 'cal_first', 'cal_last', 'cal_median', 'cal_stddev', 'cal_distinct') GROUP BY 1 ORDER BY 1;
-- pruning keeps the whole month
CREATE TEMP TABLE month AS SELECT m.name, profile_stream.metric_value('cal', m.name, '2018-11-13Z') AS value FROM profile_stream_internal.metrics m WHERE m.name LIKE 'cal%';
SELECT profile_stream.prune_metrics('2018-11-13Z') > 0 AS folded, (SELECT count(*) FROM month WHERE profile_stream.metric_value('cal', name, '2018-11-13Z') IS DISTINCT FROM value) AS differ;
SELECT pg_temp.complaint($$SELECT profile_stream.metric_value('cal', 'cal_month2', '2011-12-31Z')$$);
SELECT name, definition - '{value_path,fraction,event_types,filter_path,filter_value,filter_operator,sources}'::text[] AS definition FROM profile_stream.definitions WHERE name IN ('ever_sum', 'cal_day2', 'cal_utc', 'ever_1d') ORDER BY 1;
SELECT pg_temp.complaint(format('SELECT profile_stream.create_metric(''x'', ''cal'', %s)', arguments)) FROM (VALUES
	(1, $$'1 day', period => 'day'$$), (2, $$NULL$$), (3, $$period => 'year'$$), (4, $$period => 'day', time_zone => 'Europe/Nowhere'$$), (5, $$period => 'day', time_zone => 'msk'$$),
	(6, $$'1 day', time_zone => 'UTC'$$), (7, $$period => 'lifetime', time_zone => 'UTC'$$), (8, $$value_path => '$.n', aggregate => 'median', period => 'lifetime'$$),
	(9, $$value_path => '$.n', aggregate => 'distinct', period => 'lifetime'$$), (10, $$value_path => '$.n', aggregate => 'stddev', period => 'lifetime'$$)) v(n, arguments) ORDER BY n;
SELECT pg_temp.complaint(format('SELECT profile_stream.metric_value(''cal'', %L, %L)', m, at)) FROM unnest(ARRAY['cal_day2', 'cal_month3', 'cal_week6', 'ever_sum']) m, unnest(ARRAY['4714-11-24 00:00:00Z BC', '294276-12-31 23:59:59Z']) at;
-- a zone that is gone stops no event
UPDATE profile_stream_internal.metrics SET time_zone = 'Europe/Gone' WHERE name = 'cal_utc';
SELECT pg_temp.send('gone', 'dst', 'cal', '{"n": 1}', '2026-10-26Z'), pg_temp.complaint($$SELECT profile_stream.metric_value('dst', 'cal_utc')$$);
SELECT count(profile_stream.drop_metric(name)) FROM profile_stream_internal.metrics WHERE name LIKE 'cal%' OR name LIKE 'ever%';
SELECT profile_stream.prune_metrics('2026-01-01Z') > 0 AS removed;

-- refused
SELECT pg_temp.complaint(format('SELECT profile_stream.create_metric(%s)', arguments)) FROM (VALUES
	(1, $$NULL, 'loan', '1 day'$$), (2, $$'x', NULL, '1 day'$$), (3, $$'x', 'loan', NULL$$), (4, $$'', 'loan', '1 day'$$), (5, $$'x', '', '1 day'$$),
	(6, $$'9lives', 'loan', '1 day'$$), (7, $$'a b', 'loan', '1 day'$$), (8, format('%L, ''loan'', ''1 day''', repeat('x', 64))),
	(9, $$'login_count_7d', 'loan', '1 day'$$), (10, $$'email', 'loan', '1 day'$$), (11, $$'rate_sum_1d', 'loan', '1 day'$$),
	(12, $$'x', 'loan', '59 seconds'$$), (13, $$'x', 'loan', '400 days 1 second'$$), (14, $$'x', 'loan', '1 month'$$), (15, $$'x', 'loan', '-1 day'$$),
	(16, $$'x', 'loan', '1 day', '$.n', 'mode'$$), (17, $$'x', 'loan', '1 day', '$.n', NULL$$), (18, $$'x', 'loan', '1 day', NULL, 'sum'$$),
	(19, $$'x', 'loan', '1 day', '$', 'sum'$$), (20, $$'x', 'loan', '1 day', '$.n[0]', 'sum'$$), (21, $$'x', 'loan', '1 day', '$.n', 'sum', '$.k'$$),
	(22, $$'x', 'loan', '1 day', '$.n', 'sum', NULL, 'v'$$), (23, $$'x', 'loan', '1 day', '$.n', 'sum', 'k', 'v'$$),
	(24, format('''x'', %L, ''1 day''', repeat('x', 513))), (25, $$'x', 'loan', '1 day', backfill => 'no stream'$$),
	(26, $$'x', 'loan', '1 day', '$.n', 'percentile'$$), (27, $$'x', 'loan', '1 day', '$.n', 'sum', fraction => 0.5$$)) v(n, arguments) ORDER BY n;
SELECT pg_temp.complaint($$SELECT profile_stream.drop_metric('x')$$), pg_temp.complaint($$SELECT profile_stream.drop_metric('login_count_7d')$$);
-- at most 250 series
BEGIN;
SELECT pg_temp.complaint($$SELECT profile_stream.create_metric('m' || i, 'type ' || i, '1 minute') FROM generate_series(1, 251) i$$);
ROLLBACK;

-- windows of one minute and of 400 days, to the microsecond
SELECT profile_stream.create_metric('shortest', 'tick', '1 minute'), profile_stream.create_metric('longest', 'tick', '400 days');
SELECT pg_temp.send('tick', 't', 'tick', '{}', '2026-01-01 00:00:00.000001Z');
SELECT profile_stream.metric_value('t', 'shortest', '2026-01-01 00:01:00.000001Z'), profile_stream.metric_value('t', 'shortest', '2026-01-01 00:01:00.000002Z'),
	profile_stream.metric_value('t', 'longest', '2026-01-01 00:00:00.000001Z'::timestamptz + interval '9600 hours'),
	profile_stream.metric_value('t', 'longest', '2026-01-01 00:00:00.000002Z'::timestamptz + interval '9600 hours');
-- a transaction sees its own definitions, and nobody those that were rolled back
BEGIN;
SELECT profile_stream.create_metric('gone', 'tick', '1 day');
SELECT pg_temp.send('tick 2', 't', 'tick', '{}'), profile_stream.metric_value('t', 'gone', '2026-01-01 00:00:01Z');
ROLLBACK;
SELECT pg_temp.values('t', '2026-01-01 00:00:01Z') ? 'gone', pg_temp.send('tick 2', 't', 'tick', '{}');
-- beside a built-in handler, and for text that is long
SELECT profile_stream.create_metric('spent_1d', 'transaction.completed', '1 day', '$.amount', 'sum'), profile_stream.create_metric('texts', 'long', '1 day', '$.text', 'distinct');
SELECT pg_temp.send('tx', 't', 'transaction.completed', '{"amount": 12.30}'), pg_temp.send('long', 't', 'long', jsonb_build_object('text', repeat('long ', 10000)));
SELECT profile_stream.metric_value('t', 'spent_1d', '2026-01-01Z'), profile_stream.metric_value('t', 'total_transaction_value_30d', '2026-01-01Z'), profile_stream.metric_value('t', 'texts', '2026-01-01Z');
SELECT profile_stream.export_customer('t') -> 'samples';

-- views: types, values, what is of another type, the columns of profiles, other columns later
SELECT profile_stream.map_attribute('loan', 'size', '$.size');
SELECT profile_stream.map_attribute('loan', 'top rate', '$.rate', 'max');
SELECT profile_stream.map_attribute('loan', 'flag', '$.flag', 'set', 'boolean');
SELECT profile_stream.map_attribute('loan', 'since', '$.since', 'min', 'timestamptz');
SELECT profile_stream.map_attribute('loan', 'sizes', '$.size', 'append_unique');
SELECT profile_stream.map_attribute('loan', 'email', '$.email');
SELECT profile_stream.create_profile_view('loans', '{size,"top rate",flag,since,sizes}', '{rate_sum_1d,rate_last_2d,loans_1h,branches_1d}');
SELECT pg_temp.send('w', 'w', 'loan', '{"rate": 5, "size": "huge", "flag": true, "since": 1767225600000, "at": {"branch": "Rome"}}', now());
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.loans'::regclass AND attnum > 0 ORDER BY attnum;
SELECT size, "top rate", flag, since, sizes, rate_sum_1d, rate_last_2d, loans_1h, branches_1d FROM public.loans WHERE customer_id = 'w';
SELECT count(*) AS differences FROM (SELECT * FROM profile_stream.profiles EXCEPT SELECT customer_id, version, updated_at, first_name, last_name, email, phone, total_balance,
	account_count, last_transaction_at, transaction_count_30d, total_transaction_value_30d, last_login_at, login_count_7d, preferred_channel, support_ticket_count_90d,
	segment, churn_risk_score, lifetime_value, attributes, event_counts, first_event_at, scored_at, changed_at FROM public.loans) d;
UPDATE profile_stream.materialized_profiles SET attributes = '{"size": [1], "top rate": "x", "flag": 1, "since": "x", "sizes": 1}' WHERE customer_id = 'w';
SELECT size, "top rate", flag, since, sizes FROM public.loans WHERE customer_id = 'w';
CREATE ROLE regress_viewer;
GRANT SELECT ON public.loans TO regress_viewer WITH GRANT OPTION;
SELECT profile_stream.create_profile_view('public.loans', '{flag}', '{rate_sum_1d,rate_sum_2d}');
SELECT attname FROM pg_attribute WHERE attrelid = 'public.loans'::regclass AND attnum > 19 ORDER BY attnum;
SELECT profile_stream.create_profile_view('loans', '{flag}', '{rate_sum_1d,rate_sum_2d,branches_1d}');
SELECT grantee::regrole, privilege_type, is_grantable FROM pg_class, aclexplode(relacl) WHERE oid = 'public.loans'::regclass AND grantee <> relowner;
SET quote_all_identifiers = on;
SELECT profile_stream.create_profile_view('"odd Name"');
RESET quote_all_identifiers;
SELECT (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = '"odd Name"'::regclass) - (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = 'profile_stream.profiles'::regclass) AS missing;
SELECT profile_stream.create_profile_view('set_by_handlers', '{"tier text","points numeric",flag,"more jsonb"}');
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'set_by_handlers'::regclass AND attname IN ('tier', 'points', 'flag', 'more') ORDER BY attnum;
DROP VIEW set_by_handlers;
SELECT count(*) FROM public."odd Name";
CREATE TABLE public.taken ();
CREATE VIEW public.taken_too AS SELECT 1;
SELECT pg_temp.complaint(format('SELECT profile_stream.create_profile_view(%s)', arguments)) FROM (VALUES
	(1, $$'a.b.c'$$), (2, $$'no schema here.x'$$), (3, $$'nowhere.x'$$), (4, $$'x', '{unknown}'$$), (5, $$'x', '{}', '{unknown}'$$), (6, $$'x', '{flag,flag}'$$),
	(7, $$'x', '{email}'$$), (8, $$'x', '{}', '{login_count_7d}'$$), (9, $$'taken'$$), (10, $$'taken_too'$$), (11, $$'x', '{NULL}'$$), (12, $$'x', '{"a'';--"}'$$)) v(n, arguments) ORDER BY n;

-- a view shows what its reader may read, so that row security holds; operators create metrics, others do not
SET ROLE regress_viewer;
SELECT pg_temp.complaint($$SELECT FROM profile_stream.definitions$$), pg_temp.complaint($$SELECT FROM profile_stream.materialized_profiles$$);
SELECT pg_temp.complaint($$SELECT profile_stream.create_metric('x', 'x', '1 day')$$), pg_temp.complaint($$SELECT profile_stream.drop_metric('shortest')$$),
	pg_temp.complaint($$SELECT profile_stream.create_profile_view('x')$$), pg_temp.complaint($$SELECT FROM public.loans$$);
RESET ROLE;
GRANT profile_stream_reader TO regress_viewer;
SET ROLE regress_viewer;
SELECT rate_sum_1d, rate_sum_2d, branches_1d, flag FROM public.loans WHERE customer_id = 'w';
SELECT pg_temp.complaint($$SELECT profile_stream.create_profile_view('x')$$), pg_temp.complaint($$SELECT profile_stream.create_metric('x', 'x', '1 day')$$);
RESET ROLE;
GRANT profile_stream_operator TO regress_viewer;
SET ROLE regress_viewer;
SELECT profile_stream.create_metric('by_operator', 'tick', '2 days');
SELECT profile_stream.drop_metric('by_operator'), profile_stream.create_metric('by_operator', 'another', '2 days'), profile_stream.drop_metric('by_operator');
RESET ROLE;
REVOKE profile_stream_operator FROM regress_viewer;
-- definitions are read as the owner of the tables, but not with operators of whoever asks first
CREATE SCHEMA regress_evil AUTHORIZATION regress_viewer;
SET ROLE regress_viewer;
CREATE FUNCTION regress_evil.multiply(numeric, int) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE OPERATOR regress_evil.* (LEFTARG = numeric, RIGHTARG = int, FUNCTION = regress_evil.multiply);
\connect -
SET ROLE regress_viewer;
SET search_path = regress_evil, pg_catalog, public;
SELECT rate_sum_1d FROM loans WHERE customer_id = 'w';
RESET ROLE;
DROP SCHEMA regress_evil CASCADE;
\connect -
-- a process that has not loaded the definitions: by a reader, and in a parallel query
SET timezone = 'UTC';
SET ROLE regress_viewer;
SELECT rate_sum_1d, rate_sum_2d, branches_1d, flag FROM public.loans WHERE customer_id = 'w';
RESET ROLE;
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT sum(rate_sum_1d) AS sum, count(branches_1d) FROM public.loans;
SELECT DISTINCT metric FROM profile_stream_internal.window_chunks c WHERE NOT EXISTS (SELECT FROM profile_stream_internal.metric_series s WHERE 'series_' || s.series_id = c.metric) ORDER BY 1;
DROP VIEW public.loans, public."odd Name", public.taken_too;
DROP TABLE public.taken;
DROP ROLE regress_viewer;
DELETE FROM profile_stream_internal.metrics;
DELETE FROM profile_stream_internal.metric_series;
DELETE FROM profile_stream_internal.attribute_maps;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
