-- get_profile() and get_profiles(): the same documents by the direct way and by a statement, order, duplicates, nulls, rights
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE FUNCTION pg_temp.send(id text, customer text, type text, payload jsonb, at timestamptz DEFAULT '2026-01-01Z') RETURNS text LANGUAGE sql
	RETURN profile_stream.apply_event(jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', payload));
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	rows bigint;
BEGIN
	EXECUTE 'SELECT count(to_jsonb(s)) FROM (' || statement || ') s' INTO rows;
	RETURN rows || ' rows';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT profile_stream.create_metric('spent_2d', 'transaction.completed', '2 days', '$.amount', 'sum');
SELECT profile_stream.create_metric('last_1d', 'transaction.completed', '1 day', '$.amount', 'last');
SELECT DISTINCT unnest(profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n || t, 'customerId', c, 'eventType', t,
	'timestamp', '2026-01-01Z'::timestamptz + n * interval '1 hour', 'payload', jsonb_build_object('amount', n / 4.0, 'firstName', 'Zoë "Z" ' || c, 'channel', 'web'))
	ORDER BY n)))
FROM unnest('{b,a,Á,_}'::text[]) c, generate_series(1, 100) n,
	unnest('{transaction.completed,session.started,customer.profile.updated}'::text[]) t;
SELECT count(*) > 0 AS sealed FROM profile_stream_internal.window_chunks WHERE customer_id = 'a';

-- what a document is, member by member
SELECT jsonb_pretty(profile_stream.get_profile('a', '2026-01-03Z'));
SELECT d.data = profile_stream.get_profile('a') AS same, d.data || jsonb_build_object('asOf', profile_stream_internal.json_timestamp(now()), 'currentMembers', '[]'::jsonb) = profile_stream.get_profile('a', now()) AS same_named
FROM profile_stream.profile_documents d WHERE d.customer_id = 'a';
-- a moment that was named: what is newer is said; of events and of scores apart; metrics never are
UPDATE profile_stream.materialized_profiles SET scored_at = '2026-02-01Z' WHERE customer_id = 'a';
SELECT at, p ->> 'asOf' AS as_of, p -> 'currentMembers' AS current, p -> 'transactionCount30d' AS metric
FROM unnest('{2025-12-01Z,2026-01-05 03:59:59.999Z,2026-01-05 04:00Z,2026-01-31 23:59Z,2026-02-01Z}'::timestamptz[]) at, profile_stream.get_profile('a', at) p ORDER BY at;
UPDATE profile_stream.materialized_profiles SET scored_at = NULL WHERE customer_id = 'a';
-- numbers that JSON does not have, more digits than a float has, and what is null
UPDATE profile_stream.materialized_profiles SET total_balance = 'NaN', churn_risk_score = 'Infinity', lifetime_value = '-Infinity' WHERE customer_id = 'b';
UPDATE profile_stream.materialized_profiles SET total_balance = 1.50, churn_risk_score = 0.123456789, lifetime_value = 12345678901234567890.123, segment = 'à la', last_login_at = NULL WHERE customer_id = '_';
SELECT customer_id, jsonb_path_query_array(profile, '$.*.type()') AS types,
	(SELECT jsonb_object_agg(m, profile -> m) FROM unnest('{totalBalance,churnRiskScore,lifetimeValue,segment,lastLoginDate}'::text[]) m) AS members
FROM profile_stream.get_profiles('{_,b}', '2026-01-03Z');
-- stored as PostgreSQL stores what it reads of their text; also with values that are no objects, and long ones
UPDATE profile_stream.materialized_profiles SET first_name = repeat('long', 5000) WHERE customer_id = 'Á';
UPDATE profile_stream.materialized_profiles SET event_counts = '"text"', attributes = '[1, {"a": [true, null]}]' WHERE customer_id = 'a';
SELECT customer_id, profile = profile::text::jsonb AS same, pg_column_size(profile) = pg_column_size(profile::text::jsonb) AS same_size, profile -> 'eventCounts' AS counts, profile -> 'attributes' AS attributes,
	(SELECT count(*) FROM jsonb_object_keys(profile)) AS members
FROM profile_stream.get_profiles('{a,b,Á,_}', '2026-01-03Z');
SET extra_float_digits = -10;
SELECT profile_stream.get_profile('_', '2026-01-03Z') -> 'churnRiskScore' AS fewer_digits;
RESET extra_float_digits;
UPDATE profile_stream.materialized_profiles SET updated_at = 'infinity' WHERE customer_id = 'b';
SELECT pg_temp.complaint($$SELECT profile_stream.get_profile('b') AS profile$$) AS no_time;
UPDATE profile_stream.materialized_profiles SET updated_at = '2026-01-02Z', total_balance = 0, churn_risk_score = 0, lifetime_value = 0 WHERE customer_id = 'b';

-- by bytes of the ids, each once; an unknown customer and a null have no row
SELECT customer_id, profile ->> 'customerId' AS id, profile = profile_stream.get_profile(customer_id, '2026-01-03Z') AS same
FROM profile_stream.get_profiles(ARRAY['a', 'nobody', 'Á', NULL, 'b', 'a', '', '_', 'a'], '2026-01-03Z');
SELECT customer_id FROM profile_stream.get_profiles('{{b,a},{nobody,_}}', '2026-01-03Z');
SELECT count(*) FROM profile_stream.get_profiles('{}');
SELECT count(*) FROM profile_stream.get_profiles(ARRAY[NULL, 'nobody']);
SELECT count(*) FROM profile_stream.get_profiles(NULL);
SELECT count(*) FROM profile_stream.get_profiles('{a}', NULL);
SELECT profile_stream.get_profile(NULL) IS NULL AS nothing, profile_stream.get_profile('a', NULL) IS NULL AS no_moment;
SELECT asked, profile IS NOT NULL AS is_known FROM unnest('{nobody,b}'::text[]) WITH ORDINALITY w(asked, n)
	LEFT JOIN profile_stream.get_profiles('{nobody,b}') ON customer_id = asked ORDER BY n;
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.get_profiles('{a}', 'infinity')$$);
SELECT pg_temp.complaint($$SELECT * FROM profile_stream.get_profiles('{nobody}', 'infinity')$$);
SELECT pg_temp.complaint($$SELECT profile_stream.get_profile('a', '-infinity') AS profile$$);
-- a statement sees what its snapshot sees: not what it writes itself
WITH written AS (UPDATE profile_stream.materialized_profiles SET segment = 'new' WHERE customer_id = 'a' RETURNING customer_id)
SELECT w.customer_id, profile_stream.get_profile(w.customer_id) ->> 'segment' AS segment FROM written w;
SELECT profile ->> 'segment' AS segment FROM profile_stream.get_profiles('{a}');

-- the same without direct access, and with a child table, whose rows come too
CREATE TEMP TABLE direct AS SELECT * FROM profile_stream.get_profiles('{a,b,Á,_,nobody}', '2026-01-03Z');
SET profile_stream.direct_access = off;
SELECT count(*), count(*) FILTER (WHERE s.profile IS DISTINCT FROM d.profile) AS differ, count(*) FILTER (WHERE profile_stream.get_profile(customer_id, '2026-01-03Z') <> d.profile) AS differ_alone
FROM direct d FULL JOIN profile_stream.get_profiles(ARRAY['a', 'b', 'Á', '_', NULL, 'a', 'nobody'], '2026-01-03Z') s USING (customer_id);
SELECT array_agg(customer_id) AS same_order FROM profile_stream.get_profiles(ARRAY['b', 'Á', '_', 'a']);
RESET profile_stream.direct_access;
BEGIN;
CREATE TABLE public.regress_child () INHERITS (profile_stream.materialized_profiles);
INSERT INTO public.regress_child SELECT (jsonb_populate_record(p, '{"customer_id": "child"}')).* FROM profile_stream.materialized_profiles p WHERE customer_id = 'a';
SELECT profile_stream.get_profile('child') ->> 'customerId' AS child, (SELECT count(*) FROM profile_stream.get_profiles('{child,a}')) AS both;
ROLLBACK;
SELECT pg_temp.complaint($$SELECT profile_stream_internal.profile_document(NULL, now()) AS profile$$) AS of_no_row;

-- the caller's rights: to all columns, to some, to none; row security
CREATE ROLE regress_operates IN ROLE profile_stream_operator;
CREATE ROLE regress_reads IN ROLE profile_stream_reader;
CREATE ROLE regress_columns;
CREATE ROLE regress_nobody;
GRANT USAGE ON SCHEMA profile_stream TO regress_columns, regress_nobody;
GRANT EXECUTE ON FUNCTION profile_stream.get_profile, profile_stream.get_profiles, profile_stream_internal.profile_document TO regress_columns, regress_nobody;
DO $$
BEGIN
	EXECUTE (SELECT format('GRANT SELECT (%s) ON profile_stream.materialized_profiles TO regress_columns', string_agg(attname, ', '))
		FROM pg_attribute WHERE attrelid = 'profile_stream.materialized_profiles'::regclass AND attnum > 0 AND NOT attisdropped);
END $$;
CREATE TEMP TABLE asked AS SELECT * FROM (VALUES (1, $$SELECT profile_stream.get_profile('a', '2026-03-01Z') AS profile$$), (2, $$SELECT * FROM profile_stream.get_profiles('{a,b}', '2026-03-01Z')$$)) a (n, statement);
GRANT SELECT ON asked TO PUBLIC;
SET ROLE regress_reads;
SELECT pg_temp.complaint(statement) AS reader FROM asked ORDER BY n;
SELECT profile -> 'metrics' AS reader_of_chunks FROM profile_stream.get_profiles('{a}', '2026-01-03Z');
SET ROLE regress_columns;
SELECT pg_temp.complaint(statement) AS all_columns FROM asked ORDER BY n;
RESET ROLE;
REVOKE SELECT (phone) ON profile_stream.materialized_profiles FROM regress_columns;
SET ROLE regress_columns;
SELECT pg_temp.complaint(statement) AS one_column_less FROM asked ORDER BY n;
SET ROLE regress_nobody;
SELECT pg_temp.complaint(statement) AS nothing FROM asked ORDER BY n;
RESET ROLE;
BEGIN;
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY regress_some ON profile_stream.materialized_profiles USING (customer_id <> 'a');
SET LOCAL ROLE regress_reads;
SELECT profile_stream.get_profile('a') IS NULL AS hidden, profile_stream.get_profile('b') IS NOT NULL AS shown;
SELECT customer_id FROM profile_stream.get_profiles('{a,b,Á}');
RESET ROLE;
SELECT customer_id FROM profile_stream.get_profiles('{a,b,Á}');
ROLLBACK;
SET ROLE regress_reads;
SELECT customer_id FROM profile_stream.get_profiles('{a,b,Á}');
RESET ROLE;

-- a row that nobody stored
SET ROLE regress_operates;
SELECT profile_stream_internal.profile_document(jsonb_populate_record(NULL::profile_stream.materialized_profiles, '{}'), now());
SELECT profile_stream_internal.profile_document_at(jsonb_populate_record(NULL::profile_stream.materialized_profiles, '{"customer_id": "x"}'), now(), '[1]');
SELECT profile_stream_internal.profile_document(jsonb_populate_record(p, jsonb_build_object(c, NULL)), now()) IS NULL AS refused
FROM profile_stream.materialized_profiles p, unnest('{first_event_at,first_name,total_balance,segment,scored_at}'::text[]) c WHERE p.customer_id = 'b';
RESET ROLE;

-- clean up
DROP OWNED BY regress_reads, regress_columns, regress_nobody;
DROP ROLE regress_reads, regress_columns, regress_nobody, regress_operates;
SELECT profile_stream.drop_metric('spent_2d'), profile_stream.drop_metric('last_1d');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks;
