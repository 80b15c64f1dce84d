-- Run by costs.sh. Each expression is counted over so many rows; the least time of all rounds counts, less that of a column.
SET max_parallel_workers_per_gather = 0;
SET jit = off;
CREATE TEMP TABLE messages AS SELECT p.customer_id, convert_to(jsonb_build_object('eventId', p.customer_id, 'customerId', p.customer_id, 'eventType', 'transaction.completed',
	'timestamp', now(), 'payload', jsonb_build_object('amount', 5), 'source', 'bench', 'schemaVersion', 1)::text, 'UTF8') AS message, '2026-01-01T00:00:00Z'::text AS at
FROM profile_stream.materialized_profiles p;
ANALYZE messages;
CREATE TEMP TABLE expressions (n int GENERATED ALWAYS AS IDENTITY, function text, expression text, rows int DEFAULT 20000, source text DEFAULT 'profile_stream.materialized_profiles');
INSERT INTO expressions (function, expression) VALUES
	('a column', 'p.customer_id'),
	('16 comparisons', $$p.customer_id <> 'cust-a' AND p.customer_id <> 'cust-b' AND p.customer_id <> 'cust-c' AND p.customer_id <> 'cust-d' AND p.customer_id <> 'cust-e' AND p.customer_id <> 'cust-f' AND p.customer_id <> 'cust-g' AND p.customer_id <> 'cust-h' AND p.customer_id <> 'cust-i' AND p.customer_id <> 'cust-j' AND p.customer_id <> 'cust-k' AND p.customer_id <> 'cust-l' AND p.customer_id <> 'cust-m' AND p.customer_id <> 'cust-n' AND p.customer_id <> 'cust-o' AND p.customer_id <> 'cust-p'$$),
	('window_value', $$profile_stream.window_value(p.customer_id, p.window_state, 'transaction_count_30d', now())$$),
	('window_value', $$profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', now())$$),
	('window_value', $$profile_stream.window_value(p.customer_id, p.window_state, 'spent_9d', now())$$),
	('metric_values', $$profile_stream_internal.metric_values(p.customer_id, p.window_state, now())$$),
	('window_expired', $$profile_stream_internal.window_expired(p.window_state, now())$$),
	('window_samples', $$(SELECT count(*) FROM profile_stream_internal.window_samples(p.window_state, 'transaction_count_30d'))$$),
	('window_state_samples', $$(SELECT count(*) FROM profile_stream_internal.window_state_samples(p.window_state))$$),
	('profile_days', $$(SELECT count(*) FROM profile_stream_internal.profile_days(p.customer_id, p.window_state, 'transaction_count_30d', '2026-01-01', current_date, 'UTC'))$$),
	('check_days', $$profile_stream_internal.check_days('transaction_count_30d', 'Europe/Vienna')$$),
	('metric_series', $$profile_stream_internal.metric_series('transaction_count_30d')$$),
	('json_timestamp', $$profile_stream_internal.json_timestamp(p.updated_at)$$),
	('profile_document', $$profile_stream_internal.profile_document(p, now())$$),
	('get_profile', $$profile_stream.get_profile(p.customer_id)$$),
	('metric_value', $$profile_stream.metric_value(p.customer_id, 'transaction_count_30d')$$),
	('segment_channel', $$profile_stream.segment_channel('segment_', p.customer_id)$$),
	('event_key', $$profile_stream_internal.event_key(p.customer_id, p.first_name)$$),
	('xid_at_or_after', $$profile_stream_internal.xid_at_or_after(p.xmin, '7'::xid) OR NULL$$),
	('lease_holder', $$profile_stream_internal.lease_holder(p.version::oid)$$),
	('notification_channel', $$profile_stream.notification_channel()$$),
	('version', $$profile_stream.version()$$),
	('code_state', $$profile_stream_internal.code_state('profile_stream.version()', 10, true)$$);
INSERT INTO expressions (function, expression, rows) VALUES
	('metric_trend', $$(SELECT count(*) FROM profile_stream.metric_trend(p.customer_id, 'transaction_count_30d', '2026-01-01', current_date))$$, 1000),
	('default_scores', $$(SELECT d.segment FROM profile_stream.default_scores(p, now()) d)$$, 5000),
	('get_profiles', $$(SELECT count(*) FROM profile_stream.get_profiles(ARRAY(SELECT 'cust-' || i FROM generate_series(1, 99) i) || p.customer_id))$$, 200),
	('export_customer', $$profile_stream.export_customer(p.customer_id)$$, 50);
INSERT INTO expressions (function, expression, source) VALUES
	('a column', 'p.message', 'messages'),
	('decode_message', '(SELECT count(*) FROM profile_stream.decode_message(p.message))', 'messages'),
	('attribute_time', 'profile_stream.attribute_time(p.at)', 'messages'),
	('contains_id', 'profile_stream_internal.contains_id(p.message, p.customer_id, true)', 'messages'),
	('redact_id', 'profile_stream_internal.redact_id(p.message, p.customer_id, true)', 'messages'),
	('message_customer', 'profile_stream_internal.message_customer(p.message)', 'messages'),
	('dead_letter_json', 'profile_stream_internal.dead_letter_json(p.message)', 'messages'),
	('dead_letter_text', 'profile_stream_internal.dead_letter_text(p.message)', 'messages');
CREATE TEMP TABLE times (n int, ns float8);
SELECT set_config('bench.rounds', :'rounds', false), set_config('bench.profiles', :'profiles', false) \gset ignored_
DO $$
DECLARE
	e record;
	began timestamptz;
BEGIN
	FOR e IN SELECT * FROM generate_series(1, current_setting('bench.rounds')::int) round, expressions ORDER BY round, n LOOP
		began := clock_timestamp();
		EXECUTE format('SELECT count(%s) FROM %s p WHERE p.ctid < (SELECT l.ctid FROM %3$s l OFFSET %4$s - 1 LIMIT 1)', e.expression, e.source, e.source,
			least(e.rows, current_setting('bench.profiles')::int));
		INSERT INTO times VALUES (e.n, extract(epoch FROM clock_timestamp() - began) * 1e9 / least(e.rows, current_setting('bench.profiles')::int));
	END LOOP;
END $$;
WITH least AS (SELECT e.n, e.function, e.source, min(t.ns) AS ns FROM expressions e JOIN times t USING (n) GROUP BY 1, 2, 3),
	columns AS (SELECT source, min(ns) AS ns FROM least WHERE function = 'a column' GROUP BY 1),
	calls AS (SELECT l.n, l.function, greatest(l.ns - c.ns, 0) AS ns FROM least l JOIN columns c USING (source)),
	comparison AS (SELECT ns / 16 AS ns FROM calls WHERE function = '16 comparisons')
SELECT c.function, round(c.ns::numeric) AS ns, round((c.ns / b.ns)::numeric) AS comparisons, p.procost AS cost
FROM calls c CROSS JOIN comparison b
	LEFT JOIN pg_proc p ON p.proname = c.function AND p.pronamespace IN ('profile_stream'::regnamespace, 'profile_stream_internal'::regnamespace)
WHERE c.function <> 'a column' ORDER BY c.n;
