-- values of customers with many samples: tiles of chunks, exact at both edges, also with late samples, after pruning and without tiles
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET jit = off;
SELECT count(profile_stream.create_metric('tiled_' || a || '_' || d || 'd', 'tiled', make_interval(days => d), '$.n', a))
FROM unnest(ARRAY['count', 'sum', 'avg', 'min', 'max', 'first', 'last']) a, unnest(ARRAY[1, 30, 380]) d;
SELECT profile_stream.create_metric('tiled_distinct_1d', 'tiled', '1 day', '$.n', 'distinct');
SELECT count(profile_stream.create_metric('tiled_' || a || '_30d', 'tiled', '30 days', '$.n', a)) FROM unnest('{median,stddev}'::text[]) a;
-- in a year: each sample late by up to an hour, and one in 64 by up to 34 hours or 40 days
CREATE TEMP TABLE sent AS
SELECT c.customer, n, c.samples, date_trunc('milliseconds', '2024-01-01Z'::timestamptz + n * (interval '1 year' / c.samples)
		- (hashint4(n) & 1023) * interval '3.5 s' - CASE WHEN hashint4(n + 7) & 63 = 0 THEN (hashint4(n + 13) & 1023) * CASE c.customer WHEN 'many' THEN interval '2 min' ELSE '56 min' END ELSE '0' END) AS at,
	((hashint4(n + 1) & 65535) - 20000) / 100.0 AS value
FROM (VALUES ('few', 100), ('some', 10000), ('many', 300000)) c(customer, samples), generate_series(1, c.samples) n;
CREATE PROCEDURE pg_temp.load(of_customer text, batches int[]) LANGUAGE plpgsql AS $$
DECLARE
	done int := 0;
	turn int := 0;
BEGIN
	LOOP
		PERFORM profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n, 'customerId', customer, 'eventType', 'tiled', 'timestamp', at,
			'payload', jsonb_build_object('n', value)) ORDER BY n)) FROM sent WHERE customer = of_customer AND n > done AND n <= done + batches[turn % cardinality(batches) + 1];
		done := done + batches[turn % cardinality(batches) + 1];
		turn := turn + 1;
		EXIT WHEN done >= (SELECT max(n) FROM sent WHERE customer = of_customer);
	END LOOP;
END $$;
CREATE INDEX ON sent (customer, n);
CREATE INDEX ON sent (customer, at, n);
-- transactions of other sizes: tiles of chunks that are all stored, all new, or some of each
CALL pg_temp.load('few', '{7}');
CALL pg_temp.load('some', '{63, 64, 65, 1, 1024, 3000}');
CALL pg_temp.load('many', '{20000, 1000, 5000, 30000}');
SELECT customer_id, tile_chunks, count(*) > 0 AS chunks FROM profile_stream_internal.window_chunks
WHERE metric = profile_stream_internal.metric_series('tiled_sum_30d') GROUP BY 1, 2 ORDER BY 1, 2;
CREATE VIEW pg_temp.wrong_tiles AS
SELECT c.customer_id, c.metric, c.chunk_no FROM profile_stream_internal.window_chunks c
WHERE (c.tile_chunks IS NULL) <> (c.chunk_no % 16 <> 0) OR (c.tile_chunks IS NOT NULL AND ROW(c.tile_from_at, c.tile_to_at, c.tile_count, c.tile_sum, c.tile_min, c.tile_max)
	IS DISTINCT FROM (SELECT ROW(min(x.from_at), max(x.to_at), sum(x.count)::bigint, sum(x.sum), min(x.min), max(x.max)) FROM profile_stream_internal.window_chunks x
		WHERE x.customer_id = c.customer_id AND x.metric = c.metric AND x.chunk_no > c.chunk_no - c.tile_chunks AND x.chunk_no <= c.chunk_no));
SELECT count(*) AS wrong FROM pg_temp.wrong_tiles;

-- values at many moments, those of samples too, against sums of all samples
CREATE TEMP TABLE moments AS
SELECT customer, '2024-01-01Z'::timestamptz + (hashint4(i) & 1048575) * interval '36 s' AS at FROM generate_series(1, 5) i, unnest('{few,some,many}'::text[]) customer
UNION ALL SELECT customer, at + CASE WHEN hashint4(n + 99) & 1 = 0 THEN '0' ELSE interval '720 hours' END FROM sent WHERE hashint4(n + 17) & 65535 = 1
UNION ALL SELECT customer, max(at) FROM sent GROUP BY 1;
CREATE VIEW pg_temp.wanted AS
SELECT o.customer, o.at, d.days, a.aggregate, a.value
FROM moments o, unnest('{1,30,380}'::int[]) d(days), LATERAL (
	SELECT count(*), COALESCE(sum(s.value), 0) AS sum, avg(s.value), min(s.value), max(s.value), CASE WHEN d.days = 1 THEN count(DISTINCT s.value) END AS distinct,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY s.value::float8) AS median, round(stddev_samp(s.value), 10) AS stddev
	FROM sent s WHERE s.customer = o.customer AND s.at BETWEEN o.at - d.days * interval '24 hours' AND o.at) e,
	LATERAL (VALUES ('count', e.count), ('sum', e.sum), ('avg', e.avg), ('min', e.min), ('max', e.max), ('distinct', e.distinct), ('median', round(e.median::numeric, 10)), ('stddev', e.stddev),
		('first', (SELECT s.value FROM sent s WHERE s.customer = o.customer AND s.at BETWEEN o.at - d.days * interval '24 hours' AND o.at ORDER BY s.at, s.n LIMIT 1)),
		('last', (SELECT s.value FROM sent s WHERE s.customer = o.customer AND s.at BETWEEN o.at - d.days * interval '24 hours' AND o.at ORDER BY s.at DESC, s.n DESC LIMIT 1)))
		a(aggregate, value)
WHERE CASE WHEN a.aggregate = 'distinct' THEN d.days = 1 AND e.count <= 1024 -- more are estimated
	WHEN a.aggregate IN ('median', 'stddev') THEN d.days = 30 ELSE true END;
CREATE TEMP TABLE expected AS TABLE pg_temp.wanted;
CREATE VIEW pg_temp.differences AS
SELECT e.* FROM expected e WHERE profile_stream.metric_value(e.customer, format('tiled_%s_%sd', e.aggregate, e.days), e.at) IS DISTINCT FROM e.value
	AND (e.aggregate NOT IN ('median', 'stddev') OR round(profile_stream.metric_value(e.customer, format('tiled_%s_%sd', e.aggregate, e.days), e.at), 10) IS DISTINCT FROM e.value);
SELECT customer, count(*) > 100 AS values, count(DISTINCT value) > 40 AS others FROM expected GROUP BY 1 ORDER BY 1;
SELECT * FROM pg_temp.differences ORDER BY 1, 2, 3, 4;

-- the rows that a value reads: as many for each digit of the number of samples
CREATE FUNCTION pg_temp.rows_read(customer text, metric text, at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before bigint := (SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE relid = 'profile_stream_internal.window_chunks'::regclass);
BEGIN
	PERFORM profile_stream.metric_value(customer, metric, at);
	RETURN (SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE relid = 'profile_stream_internal.window_chunks'::regclass) - before;
END $$;
SELECT customer, count(*) > 4000 AS many_chunks FROM unnest('{some,many}'::text[]) customer JOIN profile_stream_internal.window_chunks ON customer_id = customer
WHERE metric = profile_stream_internal.metric_series('tiled_sum_380d') GROUP BY 1 ORDER BY 2;
SELECT name, at, pg_temp.rows_read('some', name, at) BETWEEN 1 AND 250 AS some, pg_temp.rows_read('many', name, at) BETWEEN 1 AND 250 AS many
FROM (VALUES ('tiled_count_380d', timestamptz '2025-01-10Z'), ('tiled_sum_380d', '2025-06-01Z'), ('tiled_avg_380d', '2025-08-01Z'), ('tiled_max_380d', '2025-03-01Z'),
	('tiled_sum_30d', '2024-09-01Z'), ('tiled_last_380d', '2025-01-10Z'), ('tiled_first_380d', '2025-01-10Z'), ('tiled_first_30d', '2024-06-01Z'), ('tiled_last_30d', '2024-06-01Z')) v(name, at);

-- none where the profile row says that all sealed samples are older than the window
SELECT pg_temp.rows_read('many', 'tiled_sum_1d', '2025-01-10Z') AS older, pg_temp.rows_read('few', 'tiled_sum_30d', '2025-06-01Z') AS older_too;

-- tiles that are missing, or of which a part is missing, are done without
UPDATE profile_stream_internal.window_chunks SET tile_chunks = NULL, tile_from_at = NULL, tile_to_at = NULL, tile_count = NULL, tile_sum = NULL, tile_min = NULL, tile_max = NULL
WHERE chunk_no % 48 = 0 OR (customer_id, metric, chunk_no) IN (SELECT customer_id, metric, max(chunk_no) FROM profile_stream_internal.window_chunks
	WHERE tile_chunks IS NOT NULL GROUP BY customer_id, metric, tile_chunks);
CREATE TEMP TABLE loaded AS SELECT customer_id, metric, max(chunk_no) AS chunk_no FROM profile_stream_internal.window_chunks GROUP BY 1, 2;
SELECT * FROM pg_temp.differences ORDER BY 1, 2, 3, 4;
INSERT INTO sent SELECT customer, samples + i, samples, max_at + i * interval '1 s', i FROM (SELECT customer, samples, max(at) AS max_at FROM sent WHERE customer <> 'few' GROUP BY 1, 2) s, generate_series(1, 20000) i;
DO $$
BEGIN
	PERFORM profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n, 'customerId', customer, 'eventType', 'tiled', 'timestamp', at,
		'payload', jsonb_build_object('n', value)) ORDER BY customer, n)) FROM sent WHERE n > samples;
END $$;
SELECT c.customer_id, c.chunk_no % 256 = 0 AS misses_parts, (array_agg(c.tile_chunks IS NOT NULL ORDER BY c.chunk_no))[1] AS first_has_tile
FROM profile_stream_internal.window_chunks c JOIN loaded l ON l.customer_id = c.customer_id AND l.metric = c.metric AND c.chunk_no > l.chunk_no
WHERE c.chunk_no % 16 = 0 AND c.metric = profile_stream_internal.metric_series('tiled_sum_30d') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) AS wrong FROM pg_temp.wrong_tiles WHERE (customer_id, metric, chunk_no) IN (SELECT customer_id, metric, chunk_no FROM profile_stream_internal.window_chunks WHERE tile_chunks IS NOT NULL);
TRUNCATE moments, expected;
INSERT INTO moments SELECT customer, max(at) + i * interval '100 days' FROM sent, generate_series(0, 1) i GROUP BY customer, i;
INSERT INTO expected TABLE pg_temp.wanted;
SELECT * FROM pg_temp.differences ORDER BY 1, 2, 3, 4;

-- sums of chunks whose samples were folded count; a moment whose edge needs their samples is refused
SELECT profile_stream.prune_metrics('2025-03-20Z') > 0 AS folded;
DELETE FROM expected WHERE at < '2025-04-01Z';
SELECT customer, count(*), min(at) < '2025-05-01Z' AS early FROM expected GROUP BY 1 ORDER BY 1;
SELECT * FROM pg_temp.differences ORDER BY 1, 2, 3, 4;
SELECT profile_stream.metric_value('many', 'tiled_sum_30d', '2024-02-01Z');
-- what is forgotten or dropped takes its tiles along
SELECT chunks > 4000 AS chunks FROM profile_stream.forget_customer('many');
SELECT count(*) FROM profile_stream_internal.window_chunks WHERE customer_id = 'many';
SELECT count(profile_stream.drop_metric(name)) FROM (SELECT name FROM profile_stream_internal.metrics WHERE name LIKE 'tiled_%' ORDER BY 1) m;
SELECT profile_stream.prune_metrics('2025-12-01Z') > 0 AS removed;
SELECT count(*) FROM profile_stream_internal.window_chunks;
DELETE FROM profile_stream_internal.metric_series;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
