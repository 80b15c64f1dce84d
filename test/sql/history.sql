-- history of profiles: values as of a moment, what is tracked from when, scores, retention, erasure, rebuild copies, training sets
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
CREATE FUNCTION pg_temp.send(customer text, type text, at timestamptz, payload jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS
$$ SELECT profile_stream.apply_event(jsonb_build_object('eventId', gen_random_uuid(), 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', payload)) $$;
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
-- members of a document
CREATE FUNCTION pg_temp.at(customer text, at timestamptz, VARIADIC names text[]) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_object_agg(n, p -> n) FROM profile_stream.get_profile(customer, at) p, unnest(names) n $$;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
CREATE VIEW pg_temp.history AS SELECT customer_id, changed_at, version, kind, old FROM profile_stream_internal.profile_history ORDER BY customer_id, changed_at, version;

-- what can be tracked
SELECT pg_temp.complaint(format('SELECT profile_stream.track_history(%L, %L)', c, r)) FROM (VALUES ('{version}', '90 days'), ('{event_counts}', '90 days'), ('{login_count_7d}', '90 days'),
	('{customer_id}', '90 days'), ('{window_state}', '90 days'), (ARRAY[NULL]::text, '90 days'), ('{""}', '90 days'), ('{NULL}', '90 days'), ('{email}', '1 month'), ('{email}', '1 second'),
	('{email}', '4000 days'), ('{email}', '-1 day')) v(c, r);
SELECT profile_stream.untrack_history();
SELECT pg_temp.complaint($$SELECT profile_stream.untrack_history('{email}')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.complaint($$SELECT profile_stream.track_history('{email}', '90 days')$$);
ROLLBACK;

-- without profiles the history is whole from the begin
SELECT profile_stream.map_attribute('moved', 'city', '$.city'), profile_stream.map_attribute('moved', 'tier', '$.tier'), profile_stream.map_attribute('moved', 'stores', '$.store', 'append_unique');
SELECT profile_stream.track_history('{email,total_balance,last_login_at,account_count,tier}', '3650 days');
SELECT name, definition FROM profile_stream.definitions WHERE kind = 'history' ORDER BY name;
SELECT DISTINCT pg_temp.send('ada', t, at, payload) FROM (VALUES (1, 'customer.profile.updated', '2026-01-01 10:00Z'::timestamptz, '{"email": "a@x", "firstName": "Ada"}'::jsonb),
	(2, 'moved', '2026-01-02 10:00Z', '{"city": "Rome", "tier": "gold", "store": "a"}'), (3, 'account.opened', '2026-01-03 10:00Z', '{"initialBalance": 10.50}'),
	(4, 'session.started', '2026-01-04 10:00Z', '{}')) v(n, t, at, payload);
SELECT DISTINCT pg_temp.send('ada', t, at, payload) FROM (VALUES (5, 'moved', '2026-01-05 10:00Z'::timestamptz, '{"city": "Oslo", "tier": "silver", "store": "b"}'::jsonb), (6, 'customer.profile.updated', '2026-01-06 10:00Z', '{"email": "b@x"}'),
	(7, 'account.closed', '2026-01-07 10:00Z', '{}'), (8, 'customer.profile.updated', '2026-01-08 10:00Z', '{"email": "b@x"}')) v(n, t, at, payload);
SELECT changed_at, version, kind, old FROM pg_temp.history;
SELECT at, pg_temp.at('ada', at, 'email', 'totalBalance', 'accountCount', 'lastLoginDate', 'attributes') AS then, pg_temp.at('ada', at, 'currentMembers') -> 'currentMembers' AS current
FROM generate_series('2026-01-01Z'::timestamptz, '2026-01-09Z', '1 day') at ORDER BY at;
-- at the moment of an event its effect counts
SELECT pg_temp.at('ada', at, 'email') FROM unnest('{2026-01-06 09:59:59.999999Z,2026-01-06 10:00Z}'::timestamptz[]) at;
-- the same in get_profiles(), in profiles_at() and by statements; who had no event by then is not there
SELECT pg_temp.send('bob', 'customer.profile.updated', '2026-01-04Z', '{"email": "bob@x"}');
SELECT at, count(*) AS profiles, count(*) FILTER (WHERE a.profile = profile_stream.get_profile(a.customer_id, at)) AS same,
	(SELECT count(*) FROM profile_stream.get_profiles('{ada,bob}', at) g JOIN profile_stream.profiles_at(at) b USING (customer_id, profile)) AS same_of_many
FROM generate_series('2025-12-31Z'::timestamptz, '2026-01-09Z', '3 days') at LEFT JOIN LATERAL profile_stream.profiles_at(at) a ON true WHERE a.customer_id IS NOT NULL GROUP BY at ORDER BY at;
CREATE TEMP TABLE direct AS SELECT at, p.customer_id, p.profile FROM generate_series('2025-12-31Z'::timestamptz, '2026-01-09Z', '1 day') at, profile_stream.get_profiles('{ada,bob}', at) p;
SET profile_stream.direct_access = off;
SELECT count(*), count(*) FILTER (WHERE profile = profile_stream.get_profile(customer_id, at)) AS same,
	count(*) FILTER (WHERE EXISTS (SELECT FROM profile_stream.get_profiles(ARRAY[d.customer_id], at) g WHERE g.profile = d.profile)) AS same_of_many FROM direct d;
RESET profile_stream.direct_access;
SELECT customer_id FROM profile_stream.profiles_at('2026-01-02Z');
SELECT count(*) FROM profile_stream.profiles_at(NULL);

-- a late event counts from when it became known: it does not change what was known before
SELECT pg_temp.send('ada', 'customer.profile.updated', '2026-01-02Z', '{"email": "late@x"}');
SELECT at, pg_temp.at('ada', at, 'email') FROM unnest('{2026-01-03Z,2026-01-08 09:59Z,2026-01-08 10:00Z}'::timestamptz[]) at;
-- several events of one moment: the last one counts there
SELECT unnest(profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', n, 'customerId', 'tie', 'eventType', 'customer.profile.updated', 'timestamp', '2026-01-05Z'::timestamptz, 'payload', jsonb_build_object('email', n || '@x'))
	FROM generate_series(1, 3) n)));
SELECT pg_temp.send('tie', 'customer.profile.updated', '2026-01-05Z', '{"email": "4@x"}');
SELECT changed_at, version, old FROM pg_temp.history WHERE customer_id = 'tie';
SELECT at, pg_temp.at('tie', at, 'email') FROM unnest('{2026-01-04Z,2026-01-05Z}'::timestamptz[]) at;

-- all attributes; what is gone since, and what was not there
CREATE FUNCTION public.history_handler(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('attributes', event #> '{payload,set}', 'phone', COALESCE(event #>> '{payload,phone}', profile ->> 'phone'));
SELECT profile_stream.register_handler('set', 'public.history_handler(jsonb,jsonb)');
SELECT profile_stream.track_history('{phone}', '3650 days');
SELECT profile_stream.untrack_history('{tier,last_login_at}');
SELECT DISTINCT key FROM pg_temp.history, jsonb_object_keys(old) key ORDER BY 1;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
SELECT profile_stream.untrack_history();
SELECT count(*) AS partitions FROM pg_inherits WHERE inhparent = 'profile_stream_internal.profile_history'::regclass;
SELECT profile_stream.track_history('{attributes,phone}', '3650 days');
SELECT DISTINCT pg_temp.send('eve', 'set', at, payload) FROM (VALUES (1, '2026-02-01Z'::timestamptz, '{"set": {"a": 1, "b": {"c": [1, 2]}}, "phone": "1"}'::jsonb), (2, '2026-02-02Z', '{"set": {"a": 1, "b": null, "d": true}}'),
	(3, '2026-02-03Z', '{"set": {"a": null, "d": false, "b": {"c": [3]}}, "phone": "2"}'), (4, '2026-02-04Z', '{"set": {}}')) v(n, at, payload);
SELECT changed_at, version, old FROM pg_temp.history;
SELECT at, pg_temp.at('eve', at, 'attributes', 'phone') AS then, profile_stream.get_profile('eve', at) -> 'currentMembers' AS current FROM generate_series('2026-01-31 12:00Z'::timestamptz, '2026-02-04 12:00Z', '1 day') at;
-- a handler that fails leaves nothing; events beside it do
CREATE OR REPLACE FUNCTION public.history_handler(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF event #>> '{payload,phone}' = 'bad' THEN
		RAISE 'bad';
	END IF;
	RETURN jsonb_build_object('phone', event #>> '{payload,phone}', 'attributes', jsonb_build_object('a', event #> '{payload,phone}'));
END $$;
SELECT profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', 'f' || n, 'customerId', 'fail', 'eventType', 'set', 'timestamp', '2026-02-01Z'::timestamptz + n * interval '1 day', 'payload', jsonb_build_object('phone', CASE n % 2 WHEN 0 THEN n::text ELSE 'bad' END))
	FROM generate_series(1, 6) n));
SELECT changed_at, version, old FROM pg_temp.history WHERE customer_id = 'fail';
SELECT profile_stream.unregister_handler('set', 'public.history_handler(jsonb,jsonb)');
DROP FUNCTION public.history_handler;

-- with profiles there, moments before are not claimed; max_clock_skew, because events may have been ahead
SELECT profile_stream.track_history('{email}', '3650 days');
SELECT name, definition ->> 'since' = '-infinity' AS from_begin, (definition ->> 'since')::timestamptz BETWEEN now() + interval '59 minutes' AND now() + interval '61 minutes' AS from_now FROM profile_stream.definitions WHERE kind = 'history' ORDER BY name;
SELECT p -> 'currentMembers' ? 'email' AS email, p -> 'currentMembers' ? 'phone' AS phone FROM profile_stream.get_profile('eve', '2026-02-02Z') p;
-- a shorter retention hides older moments, and a longer one does not bring them back
SELECT profile_stream.track_history('{}', '10 days');
SELECT p -> 'currentMembers' ? 'phone' AS phone FROM profile_stream.get_profile('eve', '2026-02-02Z') p;
SELECT profile_stream.track_history('{}', '3650 days');
SELECT p -> 'currentMembers' ? 'phone' AS phone FROM profile_stream.get_profile('eve', '2026-02-02Z') p;
-- changes older than the retention are not kept at all, and old partitions go
SELECT profile_stream.track_history('{}', '20 days');
SELECT pg_temp.send('old', 'customer.profile.updated', now() - interval '21 days', '{"phone": "1"}'), pg_temp.send('old', 'customer.profile.updated', now() - interval '19 days', '{"phone": "2"}');
SELECT old FROM pg_temp.history WHERE customer_id = 'old';
SELECT count(*) > 1 AS many FROM pg_inherits WHERE inhparent = 'profile_stream_internal.profile_history'::regclass;
SELECT profile_stream.prune_metrics() IS NOT NULL AS pruned;
SELECT count(*) AS left FROM pg_inherits WHERE inhparent = 'profile_stream_internal.profile_history'::regclass;
SELECT old FROM pg_temp.history;

-- training sets: pairs of customers and moments, with metrics and what is tracked as of each
SELECT profile_stream.untrack_history();
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
SELECT profile_stream.track_history('{email,total_balance,tier,segment,last_login_at}', '3650 days');
SELECT profile_stream.create_metric('history_spent', 'transaction.completed', '2 days', '$.amount', 'sum');
SELECT DISTINCT pg_temp.send(c, t, at, payload) FROM unnest('{ada,bob}'::text[]) c, (VALUES (1, 'customer.profile.updated', '2026-01-01 10:00Z'::timestamptz, '{"email": "a@x"}'::jsonb),
	(2, 'moved', '2026-01-02 10:00Z', '{"city": "Rome", "tier": "gold"}'), (3, 'transaction.completed', '2026-01-03 10:00Z', '{"amount": 5}'), (4, 'account.opened', '2026-01-04 10:00Z', '{"initialBalance": 7}'),
	(5, 'session.started', '2026-01-05 10:00Z', '{}')) v(n, t, at, payload);
SELECT pg_temp.send('ada', 'customer.profile.updated', '2026-01-06 10:00Z', '{"email": "b@x"}'), pg_temp.send('ada', 'moved', '2026-01-06 10:00Z', '{"tier": "silver"}');
SELECT * FROM profile_stream.training_set($$VALUES ('ada', '2026-01-04Z'::timestamptz), ('ada', '2026-01-09Z'), ('bob', '2026-01-01Z'), ('nobody', '2026-01-04Z'), ('ada', '2026-01-04Z'), ('bob', '2026-01-06Z')$$, '{history_spent,login_count_7d}');
SELECT customer_id, jsonb_object_keys(metric_values) AS metric FROM profile_stream.training_set($$SELECT 'ada'::varchar, '2026-01-04Z'::timestamptz$$);
-- many pairs at once, as one by one
SELECT count(*), count(*) FILTER (WHERE t.metric_values ->> 'history_spent' = profile_stream.metric_value(t.customer_id, 'history_spent', t.as_of)::text) AS same_metric,
	count(*) FILTER (WHERE t.as_of < '2026-01-01 10:00Z' AND t.tracked IS NULL) AS before, count(*) FILTER (WHERE t.tracked = (SELECT jsonb_build_object('email', p -> 'email', 'total_balance', p -> 'totalBalance', 'tier', p #> '{attributes,tier}', 'segment', p -> 'segment', 'last_login_at', p -> 'lastLoginDate')
		|| jsonb_build_object('tier', COALESCE(p #> '{attributes,tier}', 'null')) FROM profile_stream.get_profile(t.customer_id, t.as_of) p)) AS same_tracked
FROM profile_stream.training_set($$SELECT c, at FROM unnest('{ada,bob}'::text[]) c, generate_series('2025-12-31Z'::timestamptz, '2026-01-07Z', '5 minutes') at$$, '{history_spent}') t;
-- that something is missing depends on the moment, and not on what came later
SELECT profile_stream.track_history('{phone}', '3650 days');
SELECT DISTINCT t.tracked ? 'phone' AS phone, t.tracked ? 'email' AS email FROM profile_stream.training_set($$SELECT c, at FROM unnest('{ada,bob}'::text[]) c, generate_series('2026-01-02Z'::timestamptz, '2026-01-09Z', '1 day') at$$, '{}') t;
-- what is no query of pairs, or writes
CREATE FUNCTION public.history_writes() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE public.history_written (a int); RETURN now(); END $$;
SELECT q, pg_temp.complaint(format('SELECT * FROM profile_stream.training_set(%L)', q)) FROM unnest(ARRAY['SELECT 1', 'SELECT 1, now()', 'SELECT ''a'', ''2026-01-01''::date', 'SELECT ''a''::text, now(); SELECT 1',
	'DELETE FROM profile_stream.materialized_profiles RETURNING customer_id, watermark', 'CREATE TABLE t ()', '', 'nonsense', 'SELECT NULL::text, now()', 'SELECT ''a''::text, ''infinity''::timestamptz',
	'SELECT ''a''::text, public.history_writes()', 'SELECT ''a''::text, now()) q; SELECT (1']) q;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.training_set('SELECT ''a''::text, now()', '{nothing}')$$);
SELECT count(*) FROM profile_stream.training_set(NULL);
-- afterwards the transaction writes again; and with the caller's rights
CREATE TEMP TABLE kept AS SELECT * FROM profile_stream.training_set($$SELECT 'ada'::text, now()$$, '{}');
CREATE ROLE regress_trainer IN ROLE profile_stream_reader;
CREATE TABLE public.history_pairs AS SELECT 'ada'::text AS customer_id, now() AS at;
SET ROLE regress_trainer;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.training_set('SELECT customer_id, at FROM public.history_pairs', '{}')$$);
SELECT customer_id, tracked -> 'email' AS email FROM profile_stream.training_set($$SELECT 'ada'::text, '2026-01-05Z'::timestamptz$$, '{}');
RESET ROLE;
DROP ROLE regress_trainer;
DROP TABLE public.history_pairs;
DROP FUNCTION public.history_writes;
SELECT profile_stream.drop_metric('history_spent');
SELECT profile_stream.untrack_history();
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
SELECT profile_stream.track_history('{phone}', '20 days');
SELECT pg_temp.send('old', 'customer.profile.updated', now() - interval '19 days', '{"phone": "1"}'), pg_temp.send('old', 'customer.profile.updated', now() - interval '18 days', '{"phone": "2"}'),
	pg_temp.send('other', 'customer.profile.updated', now() - interval '18 days', '{"phone": "3"}');

-- scores: what a refresh changes
SELECT profile_stream.track_history('{segment,churn_risk_score}', '20 days');
CALL profile_stream.refresh_scores('0');
SELECT customer_id, kind, version, old, changed_at = (SELECT scored_at FROM profile_stream.materialized_profiles p WHERE p.customer_id = h.customer_id) AS at_refresh FROM pg_temp.history h WHERE kind = 'score';
SELECT p -> 'segment' AS segment, p -> 'churnRiskScore' AS churn, p -> 'currentMembers' AS current
FROM profile_stream.get_profile('old', (SELECT scored_at FROM profile_stream.materialized_profiles WHERE customer_id = 'old') - interval '1 microsecond') p;

-- an event that brings scores, too, and attributes and columns; as if scores had been tracked from the begin
UPDATE profile_stream_internal.history_columns SET since = '-infinity' WHERE source = 'score';
SELECT profile_stream.seed_profile('seeded', '{"segment": "gold", "churnRiskScore": 0.5, "phone": "7", "attributes": {"a": 1}}', now() - interval '3 days');
SELECT profile_stream.seed_profile('seeded', '{"segment": "silver", "lifetimeValue": 5, "phone": "8"}', now() - interval '1 day');
SELECT n, p -> 'segment' AS segment, p -> 'churnRiskScore' AS churn, p -> 'phone' AS phone, p -> 'currentMembers' ?| '{segment,churnRiskScore,phone}' AS is_current, p -> 'currentMembers' ? 'lifetimeValue' AS other_is_current
FROM unnest('{4 days,2 days,1 hour}'::interval[]) n, profile_stream.get_profile('seeded', now() - n) p ORDER BY n DESC;
SELECT kind, old FROM pg_temp.history WHERE customer_id = 'seeded' ORDER BY changed_at, kind;

-- erasure and export
SELECT jsonb_agg(h - 'changed_at' - 'version') FROM jsonb_array_elements(profile_stream.export_customer('old') -> 'history') h;
INSERT INTO profile_stream_rebuild.profile_history SELECT * FROM profile_stream_internal.profile_history;
SELECT profiles FROM profile_stream.forget_customer('old');
SELECT count(*) FILTER (WHERE customer_id = 'old') AS of_old, count(*) > 0 AS others FROM (SELECT customer_id FROM profile_stream_internal.profile_history UNION ALL SELECT customer_id FROM profile_stream_rebuild.profile_history) h;
TRUNCATE profile_stream_rebuild.profile_history;

-- clean up
SELECT profile_stream.untrack_history();
SELECT count(*) AS partitions FROM pg_inherits WHERE inhparent = 'profile_stream_internal.profile_history'::regclass;
SELECT profile_stream.unmap_attribute('moved', 'city'), profile_stream.unmap_attribute('moved', 'tier'), profile_stream.unmap_attribute('moved', 'stores');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream.segment_changes;
