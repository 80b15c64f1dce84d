-- what of a rebuild needs no broker: the shadow's tables
\set VERBOSITY terse
SET client_min_messages = warning;
-- the shadow has the columns, indexes and options of what it is the shadow of
CREATE VIEW shadow_columns AS SELECT c.relnamespace::regnamespace::text AS schema, c.relname, a.attnum, a.attname, a.atttypid, a.attcollation, a.attnotnull, a.attstorage
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped;
SELECT n.relname, n.attname FROM shadow_columns n WHERE schema = 'profile_stream_rebuild'
AND NOT EXISTS (SELECT FROM shadow_columns o WHERE o.schema = 'profile_stream' AND (o.relname, o.attnum, o.attname, o.atttypid, o.attcollation, o.attnotnull, o.attstorage)
	= (n.relname, n.attnum, n.attname, n.atttypid, n.attcollation, n.attnotnull, n.attstorage));
SELECT relname, count(*) FROM shadow_columns WHERE schema = 'profile_stream_rebuild' GROUP BY 1
EXCEPT SELECT relname, count(*) FROM shadow_columns WHERE schema = 'profile_stream' GROUP BY 1;
DROP VIEW shadow_columns;
SELECT c.relname, c.reloptions, c.relreplident FROM pg_class c WHERE c.relnamespace = 'profile_stream_rebuild'::regnamespace AND c.relkind = 'r' ORDER BY 1;
SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = 'profile_stream_rebuild' ORDER BY 1;
SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = 'profile_stream_rebuild'
AND NOT EXISTS (SELECT FROM pg_indexes o WHERE o.schemaname = 'profile_stream' AND o.indexname = i.indexname AND o.tablename = i.tablename
	AND substring(o.indexdef, ' USING .*') = substring(i.indexdef, ' USING .*'));
-- it is a member of the extension, and not dumped
SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.objid = 'profile_stream_rebuild'::regnamespace AND d.deptype = 'e';
SELECT c.oid::regclass FROM pg_extension e, unnest(e.extconfig) AS c(oid) JOIN pg_class r ON r.oid = c.oid
WHERE r.relnamespace = 'profile_stream_rebuild'::regnamespace;
-- everything has a comment
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'profile_stream_rebuild'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'profile_stream_rebuild'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
