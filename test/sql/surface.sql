-- What users see: how much it is, every name of it, and that everything says what it is. A name that is added is a line of the expected output.
SELECT count(*) FILTER (WHERE p.prokind IN ('f', 'p')) <= 110 AS few_routines, count(*) FILTER (WHERE p.prokind NOT IN ('f', 'p')) AS others
FROM pg_proc p WHERE p.pronamespace = 'profile_stream'::regnamespace;
SELECT count(*) <= 40 AS few_relations FROM pg_class c WHERE c.relnamespace = 'profile_stream'::regnamespace AND c.relkind NOT IN ('i', 'S');
SELECT p.proname AS routine FROM pg_proc p WHERE p.pronamespace = 'profile_stream'::regnamespace ORDER BY p.proname COLLATE "C";
SELECT c.relname AS relation, c.relkind AS kind FROM pg_class c WHERE c.relnamespace = 'profile_stream'::regnamespace AND c.relkind NOT IN ('i', 'S') ORDER BY c.relname COLLATE "C";
SELECT t.typname AS type FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'profile_stream'::regnamespace AND t.typelem = 0 AND (c.relkind IS NULL OR c.relkind = 'c') ORDER BY 1;

-- every routine, relation, type and column has a comment, which is more than its name; parts too
CREATE TEMP VIEW described AS
	SELECT p.oid::regprocedure::text AS object, obj_description(p.oid, 'pg_proc') AS comment FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream'
	UNION ALL SELECT c.oid::regclass::text, obj_description(c.oid, 'pg_class') FROM pg_class c
		WHERE c.relnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind NOT IN ('i', 'S', 'c')
	UNION ALL SELECT t.oid::regtype::text, obj_description(t.oid, 'pg_type') FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
		WHERE t.typnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind = 'c'
	UNION ALL SELECT format('%s.%I', c.oid::regclass, a.attname), col_description(c.oid, a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind NOT IN ('i', 'S');
SELECT count(*) > 500 AS many FROM described;
SELECT object AS without_comment FROM described WHERE COALESCE(length(comment), 0) < 5 ORDER BY 1;
-- the same column of a table and of a view of it is described alike, but where the table has a default for what is not known
SELECT t.attname, col_description(t.attrelid, t.attnum) AS in_table, col_description(v.attrelid, v.attnum) AS in_view
FROM (VALUES ('materialized_profiles', 'profiles'), ('profile_stream_internal.dead_letters', 'dead_letters')) p (t, v)
	JOIN pg_attribute t ON t.attrelid = to_regclass(CASE WHEN p.t ~ '\.' THEN p.t ELSE 'profile_stream.' || p.t END) AND t.attnum > 0
	JOIN pg_attribute v ON v.attrelid = to_regclass('profile_stream.' || p.v) AND v.attname = t.attname
WHERE col_description(t.attrelid, t.attnum) IS DISTINCT FROM col_description(v.attrelid, v.attnum) AND NOT col_description(v.attrelid, v.attnum) ~ 'NULL: not (known|scored yet)$';

-- a part is named by nobody else than the owner and operators, and no index, sequence or operator of the public schema is left over
SELECT has_schema_privilege('profile_stream_reader', 'profile_stream_internal', 'USAGE') AS reader, has_schema_privilege('profile_stream_operator', 'profile_stream_internal', 'USAGE') AS operator;
SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.objid = 'profile_stream_internal'::regnamespace AND d.deptype = 'e';
-- functions of tests are not in the extension
SELECT p.proname FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND (p.proname ~ 'fuzz' OR obj_description(p.oid, 'pg_proc') ~ 'for tests');

-- no setting of the caller changes what a backslash means
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND l.lanname = 'plpgsql'
	AND p.prosrc ~ '\\' AND NOT COALESCE(p.proconfig @> '{standard_conforming_strings=on}', false);

-- what the tables of parts hold that users need is in views, for readers too
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE ROLE regress_surface IN ROLE profile_stream_reader;
BEGIN;
CREATE FUNCTION public.surface_handler(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql RETURN '{}'::jsonb;
CREATE FUNCTION public.surface_upcaster(event jsonb) RETURNS jsonb LANGUAGE sql RETURN event;
SELECT profile_stream.map_attribute('order', 'tier', '$.tier'), profile_stream.create_metric('surface_spent', 'order', '1 day', '$.total', 'sum', '$.kind', 'gold'),
	profile_stream.register_handler('order', 'public.surface_handler(jsonb,jsonb)', 7), profile_stream.register_upcaster('order', 1, 'public.surface_upcaster(jsonb)'),
	profile_stream.set_score_settings(margin => 0.5), profile_stream.create_segment('surface', 'version > 0');
UPDATE profile_stream_internal.segments SET error = 'why', error_at = '2026-01-01', failing_since = '2026-01-01' WHERE name = 'surface';
INSERT INTO profile_stream.streams (stream_id, name, owner, bootstrap_servers, topic, group_id, start_from, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify, options, created_at)
	VALUES (99999, 'surface', current_user::regrole, 'none', 't', 'g', 'earliest', 1, '0', '0', 'stop', 'off', '{}', now());
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset) VALUES (99999, 0, 0, 30, 30), (99999, 1, 0, 5, 5);
INSERT INTO profile_stream_internal.stream_gaps (stream_id, partition, from_offset, to_offset, reason, recorded_at) VALUES
	(99999, 0, 20, 30, 'seek', '2026-01-02Z'), (99999, 0, 3, 7, 'retention', '2026-01-01Z');
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, value, kind, errors, dead_at) VALUES (99999, 'surface', '{"eventId": "e"}', 'invalid', '{Missing customerId}', '2026-01-01Z');
SET LOCAL ROLE regress_surface;
SELECT kind, event_type, name, definition - 'owner' AS definition FROM profile_stream.definitions ORDER BY kind COLLATE "C";
SELECT DISTINCT definition ->> 'owner' = session_user AS owner FROM profile_stream.definitions WHERE kind IN ('handler', 'upcaster');
SELECT partition, jsonb_pretty(gaps) AS gaps FROM profile_stream.stat_partitions WHERE stream = 'surface' ORDER BY 1;
SELECT kind, name, code, state, created_at IS NOT NULL AS created, refreshed_at, error, error_at, failing_since FROM profile_stream.stat_code ORDER BY kind COLLATE "C";
SELECT value_text, event, errors FROM profile_stream.dead_letters WHERE stream = 'surface';
RESET ROLE;
SELECT event FROM (SELECT profile_stream_internal.dead_letter_json('\xefbbbf7b7d') AS event) f;
ROLLBACK;
DROP ROLE regress_surface;
