-- no value depends on a clock or a time zone but by the argument: the same events, applied and read in ten zones,
-- around changes of the clocks, a leap day and a leap second
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE TEMP TABLE zones AS SELECT * FROM unnest(ARRAY['UTC', 'Europe/Berlin', 'America/New_York', 'America/St_Johns', 'Asia/Kolkata',
	'Australia/Lord_Howe', 'Pacific/Apia', 'Pacific/Kiritimati', 'Etc/GMT+12', 'Asia/Gaza']) WITH ORDINALITY z(zone, n);
-- as they are written: with a zone, with another, without, at the hour that there is twice or not at all
CREATE TEMP TABLE moments AS SELECT * FROM unnest(ARRAY['2024-02-29T12:00:00', '2024-02-29', '2016-12-31T23:59:60Z', '2016-12-31T23:59:59.999Z',
	'2024-03-31T00:59:59Z', '2024-03-31T02:30:00', '2024-03-31T01:00:00Z', '2024-03-10T02:30:00', '2024-03-10T02:30:00-05:00', '2024-10-27T01:30:00',
	'2024-10-27T02:30:00+02:00', '2024-10-27T02:30:00+01:00', '2024-04-07T01:45:00', '2024-04-07T23:59:59.999+13:00', '2024-03-30T23:30:00Z',
	'2024-03-31T00:30:00+14:00']) WITH ORDINALITY m(at, n);
CREATE FUNCTION pg_temp.event(customer text, number bigint, at text, type text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('eventId', number || type, 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', jsonb_build_object('amount', number)) $$;
-- what a customer has, and what it had at many moments: text that shows any difference
CREATE FUNCTION pg_temp.seen(customer text) RETURNS text LANGUAGE sql AS $$
SELECT (SELECT string_agg(concat_ws(' ', m, extract(epoch FROM a.at), profile_stream.metric_value(customer, m, a.at)), E'\n' ORDER BY m, a.at)
	FROM unnest(ARRAY['transaction_count_30d', 'total_transaction_value_30d', 'login_count_7d', 'support_ticket_count_90d']) m,
		(SELECT DISTINCT at::timestamptz + i * interval '1 second' AS at FROM (SELECT at || CASE WHEN at ~ '(Z|[-+]\d\d:\d\d)$' THEN '' ELSE ' UTC' END FROM moments) u(at),
			unnest(ARRAY[-1, 0, 3600, 604799, 604800, 604801, 2591999, 2592000, 2592001, 7775999, 7776000, 7776001]) i) a)
	|| (SELECT string_agg((profile_stream.get_profile(customer, to_timestamp(s)) - 'customerId')::text, E'\n' ORDER BY s)
		FROM unnest(ARRAY[1711846799, 1711846800, 1711850400, 1714438800]) s)
	|| (SELECT string_agg(concat_ws(' ', day - DATE '2000-01-01', count, sum, min, max), E'\n' ORDER BY day)
		FROM profile_stream.metric_trend(customer, 'total_transaction_value_30d', '2016-01-01', '2024-12-31'))
$$;
-- the decoder: the same moments everywhere
CREATE TEMP TABLE decoded (zone text, n bigint, at numeric, errors text[]);
CREATE TEMP TABLE seen (written text, read text, seen text);
DO $$
DECLARE z record;
BEGIN
	FOR z IN SELECT zone FROM zones LOOP
		PERFORM set_config('timezone', z.zone, true);
		INSERT INTO decoded SELECT z.zone, m.n, extract(epoch FROM d.event_timestamp), d.errors
			FROM moments m, profile_stream.decode_message(convert_to(pg_temp.event('c', m.n, m.at, 't')::text, 'UTF8'), as_of => '2025-01-01Z') d;
		PERFORM profile_stream.apply_event(pg_temp.event(z.zone, m.n, m.at, t))
			FROM moments m, unnest(ARRAY['transaction.completed', 'session.started', 'support.ticket.created']) t ORDER BY m.n, t;
	END LOOP;
END $$;
SELECT m.at, min(d.at) AS epoch, count(DISTINCT d.at) AS moments, min(d.errors) AS errors FROM moments m JOIN decoded d USING (n) GROUP BY m.n, m.at ORDER BY m.n;
-- each customer, that was written in one zone, read in every zone
CREATE FUNCTION pg_temp.read_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE z record;
BEGIN
	FOR z IN SELECT zone FROM zones LOOP
		PERFORM set_config('timezone', z.zone, true);
		INSERT INTO seen SELECT w.zone, z.zone, pg_temp.seen(w.zone) FROM zones w;
	END LOOP;
END $$;
SELECT pg_temp.read_all();
SELECT count(*), count(DISTINCT seen), min(length(seen)) > 4000 AS says_much FROM seen;
-- folding, whatever the zone, makes the days of UTC
SET timezone = 'Pacific/Apia';
SELECT profile_stream.prune_metrics('2025-06-01Z') > 0 AS folded;
CREATE TEMP TABLE trend AS SELECT z.zone, d.* FROM zones z, profile_stream.metric_trend(z.zone, 'total_transaction_value_30d', '2016-01-01', '2024-12-31') d;
RESET timezone;
SET timezone = 'UTC';
SELECT day, count, sum, count(*) AS zones FROM trend GROUP BY day, count, sum ORDER BY day;
-- clean up
DELETE FROM profile_stream.materialized_profiles WHERE customer_id IN (SELECT zone FROM zones);
DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id IN (SELECT zone FROM zones);
DELETE FROM profile_stream_internal.window_chunks WHERE customer_id IN (SELECT zone FROM zones);
