-- metric_days(): for each customer and day what metric_trend() says, in UTC and in zones that change their clocks
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	rows bigint;
	hint text;
BEGIN
	EXECUTE 'SELECT count(to_jsonb(s)) FROM (' || statement || ') s' INTO rows;
	RETURN rows || ' rows';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || COALESCE(' (' || NULLIF(hint, '') || ')', '');
END $$;
SELECT profile_stream.create_metric('days_' || a, 'many', '400 days', '$.n', a) FROM unnest('{sum,avg,last,distinct}'::text[]) a;
SELECT profile_stream.create_metric('days_other', 'other', '30 days', '$.n', 'max');
-- the first customer has few samples, which are all open; the last has many chunks; between hours, days and years, on both sides of changes of the clocks
CREATE TEMP TABLE sent AS
SELECT 'days-' || c AS customer, c * 10000 + n AS id,
	'2024-03-28 22:00Z'::timestamptz + ((n * 7919 % (c * 97)) * interval '37 minutes') + (n % 7 = 0)::int * interval '214 days' - (n % 31 = 0)::int * interval '40 years' AS at,
	trim_scale((n * 31 % 97 - 40) / 4.0) AS value
FROM generate_series(1, 6) c, LATERAL generate_series(1, 5 * (3 ^ c)::int) n;
INSERT INTO sent SELECT 'days-edge', 900000 + n, at, n FROM unnest(ARRAY['2024-03-30 22:59:59.999999Z', '2024-03-30 23:00Z', '2024-03-31 00:59:59.999999Z', '2024-03-31 01:00Z',
	'2024-03-31 21:59:59.999999Z', '2024-03-31 22:00Z', '2024-10-26 21:59:59.999999Z', '2024-10-26 22:00Z', '2024-10-27 22:59:59.999999Z', '2024-10-27 23:00Z', '2011-12-30 09:59:59.999999Z', '2011-12-30 10:00Z',
	'2006-10-29 02:30:30Z', '2006-10-29 02:31:30Z', '2006-10-29 03:29:59Z', '2006-10-29 03:30:00Z', '1999-12-31 23:59:59.999999Z', '1890-01-01 00:00Z']::timestamptz[]) WITH ORDINALITY e(at, n);
INSERT INTO sent SELECT 'days-late', 910000 + n, '2025-06-01Z'::timestamptz + n * interval '3 hours', n FROM generate_series(1, 70) n;
SELECT count(*) > 5000 AS many, count(DISTINCT r) AS results, min(r) AS result FROM unnest(profile_stream.apply_events((SELECT array_agg(jsonb_build_object('eventId', id, 'customerId', customer,
	'eventType', 'many', 'timestamp', at, 'payload', jsonb_build_object('n', value)) ORDER BY id) FROM sent))) r;
SELECT customer_id, count(*) FROM profile_stream_internal.window_chunks WHERE metric = profile_stream_internal.metric_series('days_sum') GROUP BY 1 ORDER BY 1;

-- the same rows as metric_trend() has, for every metric of a series and several ranges
CREATE TEMP TABLE ranges AS SELECT * FROM (VALUES (1, '2024-03-30'::date, '2024-10-31'::date), (2, '-infinity', 'infinity'), (3, '2024-03-31', '2024-03-31'), (4, '2024-04-01', '2024-03-31'),
	(5, '1900-01-01', '2024-03-29'), (6, '2030-01-01', 'infinity')) r (n, from_day, to_day);
CREATE FUNCTION pg_temp.days(metric text, from_day date, to_day date) RETURNS TABLE (customer_id text, day date, count bigint, sum text, min numeric, max numeric) LANGUAGE sql AS $$
	SELECT d.customer_id, d.day, d.count, d.sum::text, d.min, d.max FROM profile_stream.metric_days(metric, from_day, to_day) d $$;
CREATE FUNCTION pg_temp.trends(metric text, from_day date, to_day date) RETURNS TABLE (customer_id text, day date, count bigint, sum text, min numeric, max numeric) LANGUAGE sql AS $$
	SELECT p.customer_id, t.day, t.count, t.sum::text, t.min, t.max FROM profile_stream.materialized_profiles p, profile_stream.metric_trend(p.customer_id, metric, from_day, to_day) t $$;
CREATE FUNCTION pg_temp.compare() RETURNS TABLE (range int, metric text, rows bigint, customers bigint, differ bigint) LANGUAGE sql AS $$
	SELECT r.n, m.name, c.*, (SELECT count(*) FROM ((SELECT * FROM pg_temp.days(m.name, r.from_day, r.to_day) EXCEPT ALL SELECT * FROM pg_temp.trends(m.name, r.from_day, r.to_day))
			UNION ALL (SELECT * FROM pg_temp.trends(m.name, r.from_day, r.to_day) EXCEPT ALL SELECT * FROM pg_temp.days(m.name, r.from_day, r.to_day))) d)
	FROM ranges r CROSS JOIN unnest('{days_sum,days_last,days_distinct,days_other}'::text[]) m(name)
		CROSS JOIN LATERAL (SELECT count(*), count(DISTINCT customer_id) FROM pg_temp.days(m.name, r.from_day, r.to_day)) c
	ORDER BY r.n, m.name $$;
SELECT * FROM pg_temp.compare();
SELECT * FROM profile_stream.metric_days('days_sum', '2024-03-30', '2024-04-01') WHERE customer_id IN ('days-1', 'days-edge') ORDER BY customer_id COLLATE "C", day;
SELECT count(*) AS with_default_zone FROM profile_stream.metric_days('days_distinct', '-infinity', 'infinity') WHERE sum IS NULL AND min IS NULL AND max IS NULL;

-- in other zones: against the sum of what was sent by its local date
CREATE TEMP TABLE zones AS SELECT * FROM unnest(ARRAY['UTC', 'Europe/Vienna', 'America/New_York', 'America/St_Johns', 'Asia/Kolkata', 'Australia/Lord_Howe', 'Pacific/Apia', 'Pacific/Kiritimati',
	'Etc/GMT+12', 'America/Havana', 'UTC+100', 'CET', 'cest', 'MST7MDT,M3.2.0,M11.1.0', 'Z']) WITH ORDINALITY z(zone, n);
CREATE FUNCTION pg_temp.differences(zone text, from_day date, to_day date) RETURNS bigint LANGUAGE sql AS $$
	WITH days AS (SELECT * FROM profile_stream.metric_days('days_sum', from_day, to_day, zone)),
		expected AS (SELECT s.customer, (s.at AT TIME ZONE zone)::date AS day, count(*) AS count, sum(s.value) AS sum, min(s.value) AS min, max(s.value) AS max FROM sent s
			WHERE (s.at AT TIME ZONE zone)::date BETWEEN from_day AND to_day GROUP BY 1, 2)
	SELECT count(*) FROM ((TABLE days EXCEPT ALL TABLE expected) UNION ALL (TABLE expected EXCEPT ALL TABLE days)) d $$;
SELECT z.zone, sum(pg_temp.differences(z.zone, r.from_day, r.to_day)) AS differ, (SELECT count(*) FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', z.zone)) AS rows
FROM zones z, ranges r GROUP BY z.zone, z.n ORDER BY z.n;
SELECT z.zone, string_agg(format('%s: %s', to_char(d.day, 'YYMMDD'), d.count), ', ' ORDER BY d.day) AS edges
FROM zones z, profile_stream.metric_days('days_sum', '-infinity', 'infinity', z.zone) d WHERE d.customer_id = 'days-edge' GROUP BY z.zone, z.n ORDER BY z.n;
-- metric_trend() has the same days of one customer
SELECT z.zone, c.customer, sum((SELECT count(*) FROM (SELECT * FROM profile_stream.metric_trend(c.customer, 'days_sum', r.from_day, r.to_day, z.zone)
	EXCEPT SELECT d.day, d.count, d.sum, d.min, d.max FROM profile_stream.metric_days('days_sum', r.from_day, r.to_day, z.zone) d WHERE d.customer_id = c.customer) d)) AS differ,
	sum((SELECT count(*) FROM profile_stream.metric_trend(c.customer, 'days_sum', r.from_day, r.to_day, z.zone))) AS rows
FROM unnest('{Europe/Vienna,Asia/Kolkata,America/Havana}'::text[]) z(zone), ranges r, unnest('{days-2,days-edge,days-nobody}'::text[]) c(customer) GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM profile_stream.metric_trend('days-edge', 'days_sum', '2024-03-30', '2024-10-27', 'Europe/Vienna');
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_trend('days-edge', 'days_sum', '2024-01-01', '2024-12-31', 'Europe/Nowhere')$$);
-- the time zone of the session has no part in it
SET timezone = 'Pacific/Apia';
SELECT sum(pg_temp.differences('Europe/Vienna', r.from_day, r.to_day)) AS differ FROM ranges r;
SET timezone = 'UTC';

-- wrong arguments, also when there is nobody; nulls
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('nonsense', '2024-01-01', '2024-12-31')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31', 'Europe/Nowhere')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31', '')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31', 'msk')$$);
SELECT count(*) FROM profile_stream.metric_days(NULL, '2024-01-01', '2024-12-31');
SELECT count(*) FROM profile_stream.metric_days('days_sum', NULL, '2024-12-31');
SELECT count(*) FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31', NULL);
-- the last days that there are
SELECT pg_temp.complaint(format('SELECT * FROM profile_stream.metric_days(''days_sum'', %L, %L)', f, t)) FROM (VALUES ('5874897-12-31', '5874897-12-31'), ('4714-11-24 BC', '4714-11-24 BC'), ('294276-12-31', '294276-12-31')) r (f, t);

-- a query that takes a few of the days, and one that begins again, read nothing wrong
SELECT count(*) FROM (SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity') LIMIT 3) d;
SELECT c.n, d.days FROM generate_series(1, 3) c(n), LATERAL (SELECT count(*) AS days FROM (SELECT * FROM profile_stream.metric_days('days_sum', '2024-03-30', date '2024-03-30' + 4 * c.n) OFFSET 0) d WHERE d.customer_id = 'days-6') d ORDER BY n;
SELECT c.n, d.day FROM generate_series(1, 3) c(n), LATERAL (SELECT min(d.day) AS day FROM (SELECT day FROM profile_stream.metric_days('days_sum', '2024-04-01', date '2024-04-01' + c.n) d WHERE d.customer_id = 'days-6' LIMIT 2 OFFSET c.n - 1) d) d ORDER BY n;
SELECT profile_stream_internal.profile_days(p.customer_id, p.window_state, m, '2024-03-31', '2024-03-31', z) FROM profile_stream.materialized_profiles p,
	unnest('{days_sum,days_distinct}'::text[]) m, unnest('{UTC,Europe/Vienna}'::text[]) z WHERE p.customer_id = 'days-edge' ORDER BY m, z;

-- rights and row security as metric_trend() has them: of profiles and of chunks
CREATE ROLE regress_days IN ROLE profile_stream_reader;
CREATE TEMP TABLE days AS SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', 'Europe/Vienna');
GRANT SELECT ON days TO PUBLIC;
SET ROLE regress_days;
SELECT count(*) AS differ FROM (SELECT * FROM days EXCEPT SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', 'Europe/Vienna')) d;
RESET ROLE;
BEGIN;
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY regress_some ON profile_stream.materialized_profiles USING (customer_id <> 'days-6');
SET LOCAL ROLE regress_days;
SELECT d.customer_id AS hidden, count(*) FROM (SELECT * FROM days EXCEPT SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', 'Europe/Vienna')) d GROUP BY 1;
RESET ROLE;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;
ALTER TABLE profile_stream_internal.window_chunks ENABLE ROW LEVEL SECURITY;
CREATE POLICY regress_some ON profile_stream_internal.window_chunks USING (customer_id <> 'days-6');
SET LOCAL ROLE regress_days;
SELECT d.customer_id AS chunks_hidden, sum(d.count) > 64 AS many FROM (SELECT * FROM days EXCEPT SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', 'Europe/Vienna')) d GROUP BY 1;
ROLLBACK;
REVOKE SELECT ON profile_stream_internal.window_chunks FROM profile_stream_reader;
SET ROLE regress_days;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_trend('days-6', 'days_sum', '2024-01-01', '2024-12-31')$$);
RESET ROLE;
GRANT SELECT ON profile_stream_internal.window_chunks TO profile_stream_reader;
SET profile_stream.direct_access = off;
SELECT count(*) AS differ FROM (SELECT * FROM days EXCEPT SELECT * FROM profile_stream.metric_days('days_sum', '-infinity', 'infinity', 'Europe/Vienna')) d;
RESET profile_stream.direct_access;

-- folded: the days of UTC stay the same; days of another zone are refused where a folded day is asked for, unless that zone has UTC then
SELECT profile_stream.prune_metrics('2026-07-01Z') > 0 AS folded, count(*) FILTER (WHERE samples IS NOT NULL) > 0 AS some_left FROM profile_stream_internal.window_chunks;
SELECT * FROM pg_temp.compare() WHERE metric IN ('days_sum', 'days_distinct');
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-03-01', '2024-12-31', 'Europe/Vienna')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-03-01', '2024-12-31', 'Europe/London')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2025-06-01', '2025-06-30', 'Europe/Vienna')$$) AS later_days, pg_temp.differences('Europe/Vienna', '2025-06-01', '2025-06-30') AS differ,
	pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '1984-03-28', '1984-03-31', 'Africa/Abidjan')$$) AS zone_of_utc, pg_temp.differences('Africa/Abidjan', '1984-03-28', '1984-03-31') AS differ,
	pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '1984-03-28', '1984-03-31', 'Europe/London')$$) AS summer_of_london;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2030-01-01', 'infinity', 'Europe/Vienna')$$);
SELECT profile_stream.prune_metrics('2030-01-01Z') > 0 AS folded;
SELECT * FROM pg_temp.compare() WHERE metric IN ('days_sum', 'days_distinct') AND range IN (1, 2, 3);

-- a dropped metric; a metric that reads the same series still has the days
SELECT profile_stream.drop_metric('days_sum');
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('days_sum', '2024-01-01', '2024-12-31')$$);
SELECT count(*) > 100 AS many FROM profile_stream.metric_days('days_avg', '-infinity', 'infinity');

-- clean up
SELECT profile_stream.drop_metric('days_' || a) FROM unnest('{avg,last,distinct,other}'::text[]) a;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('nonsense', '2024-01-01', '2024-12-31')$$) AS of_nobody,
	pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('login_count_7d', '2024-01-01', '2024-12-31', 'Europe/Nowhere')$$) AS zone_of_nobody,
	pg_temp.complaint($$SELECT * FROM profile_stream.metric_days('login_count_7d', '2024-01-01', '2024-12-31')$$) AS nobody;
DROP ROLE regress_days;
