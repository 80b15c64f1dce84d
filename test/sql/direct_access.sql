-- rows that are written beside the executor meet all that the executor would do: each table is tried both ways
SET timezone = 'UTC';
SET client_min_messages = warning;
-- applies events of two customers, one who is there and one who is new, and says what became of them
CREATE FUNCTION pg_temp.apply(direct text, change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		PERFORM set_config('profile_stream.direct_access', direct, true);
		PERFORM profile_stream.apply_event('{"eventId": "1", "customerId": "old", "eventType": "seen", "timestamp": 1767225600000}');
		-- so that the next id seals a chunk
		PERFORM profile_stream.apply_event(jsonb_build_object('eventId', 'more' || i, 'customerId', 'old', 'eventType', 'seen', 'timestamp', 1767225600000))
		FROM generate_series(1, 30) i;
		EXECUTE change;
		result := array_to_string(profile_stream.apply_events(ARRAY[
			'{"eventId": "2", "customerId": "old", "eventType": "transaction.completed", "payload": {"amount": 12.345}, "timestamp": 1767225600000}',
			'{"eventId": "1", "customerId": "new", "eventType": "account.opened", "payload": {"initialBalance": 1.005}, "timestamp": 1767225600000}']::jsonb[]), ' ');
		result := result || (SELECT string_agg(format('; %s %s %s %s', customer_id, version, total_balance, segment), '' ORDER BY customer_id)
			FROM profile_stream.materialized_profiles);
		result := result || (SELECT format('; %s ids', count(*)) FROM profile_stream_internal.event_ids)
			|| (SELECT format(', chunks of %s, %s', string_agg(length(hashes)::text, ' '), bool_and(sealed_to > now())) FROM profile_stream_internal.event_id_chunks);
	EXCEPTION WHEN OTHERS THEN
		result := SQLSTATE || ' ' || SQLERRM;
	END;
	-- all of it is undone
	RAISE EXCEPTION USING MESSAGE = result, ERRCODE = 'TT000';
EXCEPTION WHEN SQLSTATE 'TT000' THEN
	RETURN SQLERRM;
END $$;
CREATE FUNCTION pg_temp.both(change text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN d = s THEN d ELSE 'directly: ' || d || E'\nby SQL: ' || s END
	FROM (SELECT pg_temp.apply('on', change), pg_temp.apply('off', change)) r(d, s) $$;
SELECT pg_temp.both('SELECT 1');
-- constraints
SELECT pg_temp.both('TRUNCATE profile_stream.materialized_profiles; ALTER TABLE profile_stream.materialized_profiles ALTER last_login_at SET NOT NULL');
SELECT pg_temp.both('UPDATE profile_stream.materialized_profiles SET last_transaction_at = now(); ALTER TABLE profile_stream.materialized_profiles ALTER last_transaction_at SET NOT NULL');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT poor CHECK (total_balance < 1)');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT few CHECK (version < 32)');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT here CHECK (tableoid = ''profile_stream.materialized_profiles''::regclass)');
SELECT pg_temp.both('ALTER TABLE profile_stream_internal.event_id_chunks ADD CONSTRAINT short CHECK (length(hashes) < 320)');
SELECT pg_temp.both('ALTER TABLE profile_stream_internal.event_id_chunks ADD CONSTRAINT late CHECK (sealed_to > ''2100-01-01'') NOT VALID');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT one_phone UNIQUE (phone) DEFERRABLE INITIALLY DEFERRED');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT one_phone UNIQUE (phone) DEFERRABLE INITIALLY IMMEDIATE');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT one_phone UNIQUE (phone)');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT one_segment EXCLUDE (segment WITH =)');
SELECT pg_temp.both('CREATE TABLE public.tier (name text PRIMARY KEY); INSERT INTO public.tier VALUES ('''');
	ALTER TABLE profile_stream.materialized_profiles ADD FOREIGN KEY (last_name) REFERENCES public.tier');
SELECT pg_temp.both('CREATE TABLE public.tier (name text PRIMARY KEY); INSERT INTO public.tier VALUES (''unknown'');
	ALTER TABLE profile_stream.materialized_profiles ADD FOREIGN KEY (segment) REFERENCES public.tier NOT VALID; ALTER TABLE profile_stream.materialized_profiles ALTER segment SET DEFAULT ''nowhere''');
-- types, and what a type limits; ALTER TABLE refuses these, because views show the columns
SET allow_system_table_mods = on;
SELECT pg_temp.both('UPDATE pg_catalog.pg_attribute SET atttypmod = 655366 WHERE attrelid = ''profile_stream.materialized_profiles''::regclass AND attname = ''total_balance'''); -- numeric(10,2)
SELECT pg_temp.both('CREATE DOMAIN public.lately AS timestamptz CHECK (VALUE < ''2020-01-01''); UPDATE pg_catalog.pg_attribute SET atttypid = ''public.lately''::regtype
	WHERE attrelid = ''profile_stream.materialized_profiles''::regclass AND attname = ''updated_at''');
RESET allow_system_table_mods;
-- columns of one's own, with any default, and identities
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ADD note text; ALTER TABLE profile_stream.materialized_profiles ALTER note SET DEFAULT clock_timestamp()::text');
SELECT pg_temp.both('TRUNCATE profile_stream.materialized_profiles; ALTER TABLE profile_stream.materialized_profiles ADD note text;
	ALTER TABLE profile_stream.materialized_profiles ALTER note SET NOT NULL');
SELECT pg_temp.both('ALTER TABLE profile_stream_internal.event_id_chunks ADD upper text GENERATED ALWAYS AS (upper(customer_id)) STORED, ADD number int GENERATED ALWAYS AS IDENTITY');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ALTER version ADD GENERATED ALWAYS AS IDENTITY');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ALTER segment SET DEFAULT ''by default '' || current_setting(''block_size'')');
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles ALTER segment DROP DEFAULT');
-- triggers, rules and policies that keep a row back: that is told, and nothing is written without its event id
CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT pg_temp.both('CREATE TRIGGER skip BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.skip()');
SELECT pg_temp.both('CREATE TRIGGER skip BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.skip()');
SELECT pg_temp.both('CREATE TRIGGER skip BEFORE INSERT ON profile_stream_internal.event_id_chunks FOR EACH ROW WHEN (NEW.customer_id = ''old'') EXECUTE FUNCTION public.skip()');
SELECT pg_temp.both('CREATE RULE skip AS ON UPDATE TO profile_stream.materialized_profiles DO INSTEAD NOTHING');
SELECT pg_temp.both('CREATE RULE skip AS ON INSERT TO profile_stream_internal.event_id_chunks DO INSTEAD NOTHING');
SELECT pg_temp.both('SELECT 2');
SELECT pg_temp.both('CREATE TRIGGER skip BEFORE INSERT ON profile_stream_internal.dead_letters FOR EACH ROW EXECUTE FUNCTION public.skip();
	SELECT profile_stream.apply_event(''{}'')');
SELECT pg_temp.both('CREATE TRIGGER skip BEFORE INSERT ON profile_stream_internal.window_chunks FOR EACH ROW EXECUTE FUNCTION public.skip();
	SELECT profile_stream.apply_events(array_agg(jsonb_build_object(''eventId'', ''s'' || i, ''customerId'', ''old'', ''eventType'', ''session.started'',
		''timestamp'', 1767225600000 + i)))
	FROM generate_series(1, 200) i');
DROP FUNCTION public.skip();
-- publications: replica identity, row filters, column lists
SET client_min_messages = error;
SELECT pg_temp.both('ALTER TABLE profile_stream.materialized_profiles REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE profile_stream.materialized_profiles');
SELECT pg_temp.both('CREATE PUBLICATION p FOR TABLE profile_stream.materialized_profiles WHERE (total_balance < 100)');
SELECT pg_temp.both('CREATE PUBLICATION p FOR TABLE profile_stream.materialized_profiles (version, segment)');
SELECT pg_temp.both('CREATE PUBLICATION p FOR TABLE profile_stream.materialized_profiles WHERE (total_balance < 100) WITH (publish = ''insert'')');
-- not every minor release looks at updates before it looks at deletes
SELECT left(pg_temp.both('ALTER TABLE profile_stream_internal.event_id_chunks REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE profile_stream_internal.event_id_chunks'), 5);
SELECT pg_temp.both('CREATE PUBLICATION p FOR ALL TABLES');
RESET client_min_messages;
-- no table of ours keeps a publication of all tables from deletes or updates
SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'profile_stream'
WHERE c.relkind = 'r' AND c.relreplident <> 'f'
	AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END);
-- rows that leave their page: the primary key has an entry for each, and stays unique
BEGIN;
SELECT pg_stat_get_xact_tuples_updated(oid) AS updated, pg_stat_get_xact_tuples_hot_updated(oid) AS hot FROM pg_class WHERE oid = 'profile_stream.materialized_profiles'::regclass \gset
SELECT count(*) FROM generate_series(1, 6) n, LATERAL profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', n, 'customerId', 'moved' || i,
	'eventType', 'seen' || n, 'timestamp', 1767225600000) FROM generate_series(1, 100) i));
SELECT pg_stat_get_xact_tuples_updated(oid) - :updated AS updated, pg_stat_get_xact_tuples_hot_updated(oid) - :hot < 400 AS moved
FROM pg_class WHERE oid = 'profile_stream.materialized_profiles'::regclass;
CREATE EXTENSION amcheck;
SELECT bt_index_check('profile_stream.materialized_profiles_pkey', true);
INSERT INTO profile_stream.materialized_profiles SELECT * FROM profile_stream.materialized_profiles WHERE customer_id = 'moved50';
ROLLBACK;
-- who may not write, does not
CREATE ROLE regress_direct;
GRANT USAGE ON SCHEMA profile_stream TO regress_direct;
SET ROLE regress_direct;
SET profile_stream.direct_access = off;
RESET ROLE;
DROP OWNED BY regress_direct;
DROP ROLE regress_direct;
