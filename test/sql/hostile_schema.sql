-- What the script creates means pg_catalog and the extension, whatever else has those names: operators and functions of
-- other types than pg_catalog has would be taken where an argument is cast to them.
SET client_min_messages = warning;
SELECT current_database() AS home \gset
CREATE DATABASE regress_hostile TEMPLATE template0 ENCODING 'UTF8';
CREATE ROLE regress_dbowner;
ALTER DATABASE regress_hostile OWNER TO regress_dbowner;
\c regress_hostile
SET client_min_messages = warning;
\set VERBOSITY terse

-- a schema that somebody else has made, or filled, or may fill
SET ROLE regress_dbowner;
CREATE SCHEMA profile_stream;
RESET ROLE;
CREATE EXTENSION profile_stream;
ALTER SCHEMA profile_stream OWNER TO CURRENT_USER;
GRANT CREATE ON SCHEMA profile_stream TO regress_dbowner;
CREATE EXTENSION profile_stream;
REVOKE CREATE ON SCHEMA profile_stream FROM regress_dbowner;
GRANT CREATE ON SCHEMA profile_stream TO PUBLIC;
CREATE EXTENSION profile_stream;
REVOKE CREATE ON SCHEMA profile_stream FROM PUBLIC;
CREATE FUNCTION regress_ne(oid, int8) RETURNS bool LANGUAGE sql RETURN true;
CREATE FUNCTION refused(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text;
BEGIN
	EXECUTE 'CREATE ' || what;
	BEGIN
		CREATE EXTENSION profile_stream;
		message := 'taken';
		DROP EXTENSION profile_stream;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	END;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = message;
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN substring(SQLERRM FROM ': (.*)') ;
END $$;
SELECT what, refused(what) FROM unnest(ARRAY['TABLE profile_stream.t ()', 'VIEW profile_stream.v AS SELECT 1', 'SEQUENCE profile_stream.s',
	'FUNCTION profile_stream.f() RETURNS int LANGUAGE sql RETURN 1', 'TYPE profile_stream.e AS ENUM ()', 'DOMAIN profile_stream.d AS int',
	'OPERATOR profile_stream.<> (leftarg = oid, rightarg = int8, function = regress_ne)',
	'OPERATOR FAMILY profile_stream.o USING btree', 'COLLATION profile_stream.c FROM "C"', 'CONVERSION profile_stream.c FOR ''LATIN1'' TO ''UTF8'' FROM iso8859_1_to_utf8',
	'TEXT SEARCH CONFIGURATION profile_stream.c (PARSER = pg_catalog.default)', 'TEXT SEARCH DICTIONARY profile_stream.d (TEMPLATE = simple)']) what;
-- an empty one of one's own, or of a superuser, is as good as none: DROP EXTENSION leaves it, and a dump restores it
CREATE EXTENSION profile_stream;
DROP EXTENSION profile_stream;
CREATE SCHEMA profile_stream_rebuild;
CREATE EXTENSION profile_stream;
DROP SCHEMA profile_stream_rebuild;
CREATE SCHEMA profile_stream_internal;
CREATE EXTENSION profile_stream;
DROP SCHEMA profile_stream_internal;

-- what default privileges give others of new objects is taken back
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_dbowner;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_dbowner;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_dbowner WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_dbowner;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_dbowner;
CREATE EXTENSION profile_stream;
SELECT count(*) AS granted FROM (SELECT relacl FROM pg_class UNION ALL SELECT proacl FROM pg_proc UNION ALL SELECT typacl FROM pg_type
	UNION ALL SELECT nspacl FROM pg_namespace WHERE nspname <> 'profile_stream') o(acl) CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.grantee = 'regress_dbowner'::regrole;
DROP EXTENSION profile_stream;
DROP SCHEMA profile_stream;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_dbowner;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_dbowner;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_dbowner;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM regress_dbowner;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_dbowner;

-- a schema that changes hands later is not read any more
CREATE EXTENSION profile_stream;
ALTER SCHEMA profile_stream OWNER TO regress_dbowner;
SELECT profile_stream.start_streams();
SELECT profile_stream.apply_event('{}');
ALTER SCHEMA profile_stream OWNER TO CURRENT_USER;
ALTER SCHEMA profile_stream_internal OWNER TO regress_dbowner;
SELECT profile_stream.start_streams();
ALTER SCHEMA profile_stream_internal OWNER TO CURRENT_USER;
ALTER FUNCTION profile_stream_internal.json_timestamp OWNER TO regress_dbowner;
SELECT profile_stream.start_streams();
ALTER FUNCTION profile_stream_internal.json_timestamp OWNER TO CURRENT_USER;
ALTER TABLE profile_stream_internal.event_id_chunks OWNER TO regress_dbowner;
SELECT profile_stream.apply_event('{}');
ALTER TABLE profile_stream_internal.event_id_chunks OWNER TO CURRENT_USER;
-- nor is a trigger run whose function somebody else can replace
GRANT USAGE ON SCHEMA profile_stream TO regress_dbowner;
GRANT TRIGGER ON profile_stream.materialized_profiles, profile_stream_internal.stream_status TO regress_dbowner;
GRANT CREATE ON SCHEMA public TO regress_dbowner;
SET ROLE regress_dbowner;
CREATE FUNCTION public.theirs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE TRIGGER note BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.theirs();
RESET ROLE;
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
DROP TRIGGER note ON profile_stream.materialized_profiles;
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
-- on a table that has had a trigger already, and whose function changes hands
CREATE FUNCTION public.ours() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.ours();
SELECT profile_stream.apply_event('{"eventId": "2", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
SET ROLE regress_dbowner;
CREATE TRIGGER two BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.theirs();
RESET ROLE;
SELECT profile_stream.apply_event('{"eventId": "3", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
DROP TRIGGER two ON profile_stream.materialized_profiles;
ALTER FUNCTION public.ours OWNER TO regress_dbowner;
SELECT profile_stream.apply_event('{"eventId": "3", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
-- or whose condition somebody else can replace, or have run what he likes
CREATE FUNCTION pg_temp.condition(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text;
BEGIN
	SET LOCAL ROLE regress_dbowner;
	EXECUTE format('CREATE TRIGGER conditional BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW WHEN (%s) EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()', what);
	RESET ROLE;
	message := profile_stream.apply_event('{"eventId": "4", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
	RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = message;
EXCEPTION WHEN SQLSTATE 'ZZ000' OR object_not_in_prerequisite_state THEN
	RETURN SQLERRM;
END $$;
DROP TRIGGER note ON profile_stream.materialized_profiles;
SET ROLE regress_dbowner;
CREATE FUNCTION public.theirs(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE OPERATOR public.=~= (leftarg = text, rightarg = text, function = pg_catalog.texteq);
CREATE FUNCTION public.theirs(text, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE OPERATOR public.~=~ (leftarg = text, rightarg = text, function = public.theirs);
CREATE DOMAIN public.theirs AS text CHECK (public.theirs(value));
RESET ROLE;
SELECT what, pg_temp.condition(what) FROM unnest(ARRAY['OLD.* IS DISTINCT FROM NEW.*', 'OLD.customer_id OPERATOR(public.=~=) NEW.customer_id', 'public.theirs(NEW.customer_id)', 'NEW.customer_id OPERATOR(public.~=~) ''c''',
	'NEW.customer_id::public.theirs IS NOT NULL', 'NOT (ARRAY[NEW.customer_id]::public.theirs[] IS NULL AND NEW.version < 0)', 'query_to_xml(''SELECT public.theirs(null)'', true, true, '''') IS NOT NULL']) what;
DROP OPERATOR public.=~= (text, text), public.~=~ (text, text);
DROP DOMAIN public.theirs;
DROP FUNCTION public.theirs(text), public.theirs(text, text);
-- a partition that is made later gives others nothing, whatever default privileges say
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_dbowner, PUBLIC;
SELECT profile_stream_internal.make_history_part('2020-02-01', '2020-02-02');
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_dbowner, PUBLIC;
SELECT count(*) AS granted FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = 'profile_stream_internal.profile_history_20200201'::regclass AND a.grantee <> c.relowner;
-- on a partition, or a table that inherits
SELECT profile_stream_internal.make_history_part('2020-01-01', '2020-01-02');
GRANT USAGE ON SCHEMA profile_stream_internal TO regress_dbowner;
GRANT TRIGGER ON ALL TABLES IN SCHEMA profile_stream_internal TO regress_dbowner;
SET ROLE regress_dbowner;
CREATE TRIGGER inherited BEFORE INSERT ON profile_stream_internal.profile_history_20200101 FOR EACH ROW EXECUTE FUNCTION public.theirs();
RESET ROLE;
SELECT profile_stream.apply_event('{"eventId": "4", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
DROP TRIGGER inherited ON profile_stream_internal.profile_history_20200101;
SELECT profile_stream.apply_event('{"eventId": "4", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
CREATE TABLE public.child () INHERITS (profile_stream_internal.stream_status);
ALTER TABLE public.child OWNER TO regress_dbowner;
SELECT profile_stream.start_streams();
DROP TABLE public.child;
DROP FUNCTION public.ours, public.theirs CASCADE;
SELECT profile_stream.apply_event('{"eventId": "3", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
REVOKE CREATE ON SCHEMA public FROM regress_dbowner;
ALTER SCHEMA profile_stream RENAME TO away;
CREATE SCHEMA profile_stream;
SELECT away.start_streams();
DROP SCHEMA profile_stream;
ALTER SCHEMA away RENAME TO profile_stream;
SELECT profile_stream.start_streams();
ALTER EXTENSION profile_stream DROP TABLE profile_stream.streams;
\c -
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT profile_stream.start_streams();
ALTER EXTENSION profile_stream ADD TABLE profile_stream.streams;
DROP EXTENSION profile_stream;
DROP SCHEMA profile_stream;

-- the script, without what only an extension's may do and without its look at the schema; the client reads it, wherever the server has its copy
\set script `cat "$PG_ABS_SRCDIR/../sql/profile_stream.sql"`
SELECT regexp_replace(regexp_replace(replace(regexp_replace(:'script', '^.*?\n\$\$;\n', ''), 'MODULE_PATHNAME', '$libdir/profile_stream'),
	'SELECT pg_catalog.pg_extension_config_dump[^;]*;', '', 'g'), '\r', '', 'g') AS script \gset
SELECT length(:'script') > 50000 AS read;

-- functions of pg_catalog are called by its name, but where a path is set
SELECT DISTINCT m[1] AS unqualified
FROM regexp_matches(regexp_replace(regexp_replace(:'script', '\$\$.*?\$\$|''[^'']*''', '', 'g'), '--[^\n]*', '', 'g'), '[^.\w]([a-z_0-9]+)\(', 'g') m
	JOIN pg_proc p ON p.proname = m[1] AND p.pronamespace = 'pg_catalog'::regnamespace ORDER BY 1;

-- every operator between types of which pg_catalog has none
CREATE SCHEMA profile_stream;
DO $$
DECLARE
	op record;
	wanted record;
BEGIN
	FOR op IN SELECT * FROM (VALUES ('eq', ARRAY['=', '<>', '<', '<=', '>', '>=', '~'], 'bool'), ('plus', ARRAY['+', '-', '*', '/'], NULL), ('cat', ARRAY['||', '->>'], 'text'), ('get', ARRAY['->'], 'jsonb')) o (name, signs, result)
	LOOP
		FOR wanted IN
			SELECT l.t AS l, r.t AS r, array_agg(s) AS signs FROM unnest('{bool,name,int2,int4,int8,float8,numeric,text,oid,regclass,xid,date,timestamp,timestamptz,interval,jsonb,bytea,_text,_int4,_int8,_name}'::regtype[]) l (t),
				unnest('{bool,name,int2,int4,int8,float8,numeric,text,oid,regclass,xid,date,timestamp,timestamptz,interval,jsonb,bytea,_text,_int4,_int8,_name}'::regtype[]) r (t), unnest(op.signs) s
			WHERE NOT EXISTS (SELECT FROM pg_operator o WHERE o.oprname = s AND o.oprleft = l.t AND o.oprright = r.t)
			GROUP BY 1, 2
		LOOP
			EXECUTE format('CREATE FUNCTION profile_stream.hostile_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN RAISE ''''an operator of theirs runs''''; END''', op.name, wanted.l, wanted.r, COALESCE(op.result, wanted.l::text));
			FOR i IN 1 .. cardinality(wanted.signs) LOOP
				EXECUTE format('CREATE OPERATOR profile_stream.%s (leftarg = %s, rightarg = %s, function = profile_stream.hostile_%s)', wanted.signs[i], wanted.l, wanted.r, op.name);
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
SELECT count(*) > 2000 AS many FROM pg_operator WHERE oprnamespace = 'profile_stream'::regnamespace;
SET search_path = profile_stream, pg_temp;
\set ECHO none
SELECT :'script' \gexec
\set ECHO all
-- one operator of theirs is taken: here
CREATE VIEW public.control AS SELECT oid <> 0 AS differs FROM pg_catalog.pg_class;
RESET search_path;
SELECT count(*) > 30 AS made FROM pg_class WHERE relnamespace::regnamespace::text ~ '^profile_stream' AND relkind IN ('r', 'v');
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, pg_describe_object(d.refclassid, d.refobjid, 0) AS takes
FROM pg_depend d JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid AND o.oprnamespace = 'profile_stream'::regnamespace
ORDER BY 1, 2;

\c :home
DROP DATABASE regress_hostile WITH (FORCE);
DROP ROLE regress_dbowner;
