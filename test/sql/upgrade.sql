-- An upgraded database equals a new one: each released version is installed and upgraded, and whatever differs is printed.
-- Something printed? sql/profile_stream--OLD--NEW.sql lacks what sql/profile_stream.sql has, or has it in other words.
\set ECHO none
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SELECT current_database() AS home \gset
CREATE DATABASE regress_upgrade TEMPLATE template0 ENCODING 'UTF8';
\c regress_upgrade
\getenv srcdir PG_ABS_SRCDIR
\set catalogue :srcdir '/upgrade/catalogue.sql'
SET client_min_messages = warning;
\i :catalogue
CREATE EXTENSION profile_stream;
CREATE TABLE testing.fresh AS TABLE testing.catalogue;
\set ECHO all
-- the description is complete
SELECT object FROM testing.fresh WHERE value IS NULL;
SELECT object, part, count(*) FROM testing.fresh GROUP BY 1, 2 HAVING count(*) > 1;
SELECT DISTINCT split_part(object, ' ', 1) AS kind FROM testing.fresh ORDER BY 1;

-- each released version; that there is one
SELECT count(*) > 0 FROM pg_available_extension_versions WHERE name = 'profile_stream' AND version = '0.1.0';
\set ECHO errors
SELECT format('DROP EXTENSION profile_stream; DROP TABLE IF EXISTS testing.upgraded; CREATE EXTENSION profile_stream VERSION %L; ALTER EXTENSION profile_stream UPDATE;
	CREATE TABLE testing.upgraded AS TABLE testing.catalogue; SELECT %L || differences FROM testing.differences(''testing.fresh'', ''testing.upgraded'') AS differences',
	v.version, v.version || ': ')
FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name)
WHERE v.name = 'profile_stream' AND v.version ~ '^\d+\.\d+\.\d+$' AND v.version <> e.default_version ORDER BY v.version \gexec
\set ECHO all

-- rights on what is replaced stay, of any role
CREATE ROLE "regress'""Auditor";
BEGIN;
DROP EXTENSION profile_stream;
CREATE EXTENSION profile_stream VERSION '0.1.0';
GRANT SELECT (customer_id, "events") ON profile_stream.bi_profiles TO "regress'""Auditor" WITH GRANT OPTION;
GRANT SELECT ON profile_stream.bi_profiles TO PUBLIC;
ALTER EXTENSION profile_stream UPDATE;
SELECT attname, rolname, privilege_type, is_grantable FROM pg_attribute, aclexplode(attacl) JOIN pg_roles r ON r.oid = grantee WHERE attrelid = 'profile_stream.bi_profiles'::regclass ORDER BY attname;
SELECT privilege_type FROM pg_class, aclexplode(relacl) WHERE oid = 'profile_stream.bi_profiles'::regclass AND grantee = 0;
ROLLBACK;
DROP ROLE "regress'""Auditor";

-- what default privileges give others of what is new is taken back
CREATE ROLE regress_stranger;
BEGIN;
DROP EXTENSION profile_stream;
CREATE EXTENSION profile_stream VERSION '0.1.0';
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_stranger;
ALTER EXTENSION profile_stream UPDATE;
SELECT what, count(*) FROM (SELECT 'table', relacl FROM pg_class UNION ALL SELECT 'function', proacl FROM pg_proc) o(what, acl) CROSS JOIN LATERAL aclexplode(o.acl) a
	WHERE a.grantee = 'regress_stranger'::regrole GROUP BY 1;
ROLLBACK;
DROP ROLE regress_stranger;

-- settings of the session do not change what is made
BEGIN;
DROP EXTENSION profile_stream;
SET LOCAL escape_string_warning = off;
SET LOCAL standard_conforming_strings = off;
SET LOCAL quote_all_identifiers = on;
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL timezone = 'Asia/Manila';
SET LOCAL transform_null_equals = on;
CREATE EXTENSION profile_stream;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;
SET LOCAL datestyle = 'ISO, MDY';
SET LOCAL timezone = 'UTC';
CREATE TABLE testing.odd AS TABLE testing.catalogue;
SELECT testing.differences('testing.fresh', 'testing.odd');
ROLLBACK;

-- what somebody forgets is seen
SET client_min_messages = warning;
BEGIN;
ALTER TABLE profile_stream.streams ALTER topic SET STATISTICS 0, DISABLE TRIGGER written;
ALTER TABLE profile_stream.streams ALTER late_tolerance SET DEFAULT '1 s';
ALTER TABLE profile_stream_internal.stream_gaps ADD forgotten int;
ALTER FUNCTION profile_stream.version() COST 7;
ALTER EXTENSION profile_stream DROP FUNCTION profile_stream.profile_bookmark();
COMMENT ON SCHEMA profile_stream_internal IS 'another one';
REVOKE EXECUTE ON FUNCTION profile_stream.health() FROM profile_stream_monitor;
GRANT SELECT (key) ON profile_stream_internal.database_secret TO PUBLIC;
UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'profile_stream';
CREATE TABLE testing.wrong AS TABLE testing.catalogue;
SELECT testing.differences('testing.fresh', 'testing.wrong');
ROLLBACK;
\c :home
DROP DATABASE regress_upgrade WITH (FORCE);
