-- what of a rebuild needs no broker: the shadow's tables, wrong use, privileges
\set VERBOSITY terse
SET client_min_messages = error;
-- the shadow has the columns, indexes and options of what it is the shadow of
CREATE VIEW shadow_columns AS SELECT c.relnamespace::regnamespace::text AS schema, c.relname, a.attnum, a.attname, a.atttypid, a.attcollation, a.attnotnull, a.attstorage
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped;
SELECT n.relname, n.attname FROM shadow_columns n WHERE schema = 'profile_stream_rebuild'
AND NOT EXISTS (SELECT FROM shadow_columns o WHERE o.schema IN ('profile_stream', 'profile_stream_internal') AND (o.relname, o.attnum, o.attname, o.atttypid, o.attcollation, o.attnotnull, o.attstorage)
	= (n.relname, n.attnum, n.attname, n.atttypid, n.attcollation, n.attnotnull, n.attstorage));
SELECT relname, count(*) FROM shadow_columns WHERE schema = 'profile_stream_rebuild' GROUP BY 1
EXCEPT SELECT relname, count(*) FROM shadow_columns WHERE schema IN ('profile_stream', 'profile_stream_internal') GROUP BY 1;
DROP VIEW shadow_columns;
SELECT c.relname, c.reloptions, c.relreplident FROM pg_class c WHERE c.relnamespace = 'profile_stream_rebuild'::regnamespace AND c.relkind = 'r' ORDER BY 1;
SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = 'profile_stream_rebuild' ORDER BY 1;
SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = 'profile_stream_rebuild'
AND NOT EXISTS (SELECT FROM pg_indexes o WHERE o.schemaname IN ('profile_stream', 'profile_stream_internal') AND o.indexname = i.indexname AND o.tablename = i.tablename
	AND substring(o.indexdef, ' USING .*') = substring(i.indexdef, ' USING .*'))
AND i.tablename <> 'profile_history'; -- there its partitions have the index
-- it is a member of the extension, and not dumped
SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.objid = 'profile_stream_rebuild'::regnamespace AND d.deptype = 'e';
SELECT c.oid::regclass FROM pg_extension e, unnest(e.extconfig) AS c(oid) JOIN pg_class r ON r.oid = c.oid
WHERE r.relnamespace = 'profile_stream_rebuild'::regnamespace OR r.relname = 'stream_rebuilds';
-- everything has a comment
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'profile_stream_rebuild'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'profile_stream_rebuild'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
-- wrong use
SELECT profile_stream.rebuild('nothing');
SELECT profile_stream.pause_rebuild('nothing');
SELECT profile_stream.resume_rebuild('nothing');
SELECT profile_stream.cancel_rebuild('nothing');
SELECT * FROM profile_stream.rebuild_diff('nothing');
SELECT profile_stream.swap_rebuild('nothing');
BEGIN READ ONLY;
SELECT profile_stream.rebuild('s');
ROLLBACK;
BEGIN READ ONLY;
SELECT profile_stream.swap_rebuild('s');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT profile_stream.swap_rebuild('s');
ROLLBACK;
-- a stream whose worker never starts, because its transaction does not commit
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
SAVEPOINT created;
SELECT profile_stream.pause_rebuild('s');
ROLLBACK TO created;
SELECT profile_stream.cancel_rebuild('s');
ROLLBACK TO created;
SELECT * FROM profile_stream.rebuild_diff('s');
ROLLBACK TO created;
SELECT profile_stream.swap_rebuild('s');
ROLLBACK TO created;
CREATE ROLE regress_other IN ROLE profile_stream_operator;
SET ROLE regress_other;
SELECT profile_stream.rebuild('s');
ROLLBACK TO created;
CREATE ROLE regress_nobody;
GRANT USAGE ON SCHEMA profile_stream TO regress_nobody;
SET ROLE regress_nobody;
SELECT profile_stream.rebuild('s');
ROLLBACK TO created;
-- one at a time
SELECT profile_stream.rebuild('s');
SAVEPOINT begun;
SELECT stream, state, events_done, events_total, error FROM profile_stream.stat_rebuilds;
SELECT profile_stream.rebuild('s');
ROLLBACK TO begun;
SELECT profile_stream.swap_rebuild('s');
ROLLBACK TO begun;
SELECT * FROM profile_stream.rebuild_diff('s', -1);
ROLLBACK TO begun;
SELECT * FROM profile_stream.rebuild_diff('s');
-- the difference, of rows as a rebuild would have made them
INSERT INTO profile_stream.materialized_profiles (customer_id, version, updated_at, watermark, first_event_at, email, segment)
VALUES ('changed', 2, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', 'old', 'gold'), ('equal', 1, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', '', 'gold'), ('missing', 1, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', '', 'gold');
INSERT INTO profile_stream_rebuild.materialized_profiles (customer_id, version, updated_at, watermark, first_event_at, email)
VALUES ('changed', 2, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', 'new'), ('equal', 1, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', ''), ('new', 1, '2026-01-01Z', '2026-01-01Z', '2026-01-01Z', '');
SELECT customer_id, what, CASE what WHEN 'changed' THEN fields END AS fields, fields -> 'version' AS version FROM profile_stream.rebuild_diff('s') ORDER BY 1;
SELECT count(*) FROM profile_stream.rebuild_diff('s', 2);
-- a chunk that is folded, or that ends elsewhere, is no difference; a wrong one is
INSERT INTO profile_stream_rebuild.window_chunks VALUES ('equal', 'transactions', '2024-01-02Z', 1, '2024-01-01Z', 2, 10, 5, 5, NULL, ARRAY[('2024-01-01', 2, 10, 5, 5)::profile_stream_internal.day_bucket]);
INSERT INTO profile_stream_internal.window_chunks VALUES ('equal', 'transactions', '2024-01-01Z', 1, '2024-01-01Z', 1, 4, 4, 4, NULL, ARRAY[('2024-01-01', 1, 4, 4, 4)::profile_stream_internal.day_bucket]),
	('equal', 'transactions', '2024-01-02Z', 2, '2024-01-02Z', 1, 6, 6, 6, NULL, ARRAY[('2024-01-02', 1, 6, 6, 6)::profile_stream_internal.day_bucket]);
SELECT count(*) FROM profile_stream.rebuild_diff('s') WHERE customer_id = 'equal';
UPDATE profile_stream_internal.window_chunks SET sum = 7 WHERE sum = 6;
SELECT * FROM profile_stream.rebuild_diff('s') WHERE customer_id = 'equal';
-- a database that was copied has no rebuild, and may begin one
SAVEPOINT copied;
UPDATE profile_stream_internal.stream_rebuilds SET database = 1;
SELECT count(*) FROM profile_stream.stat_rebuilds;
SELECT profile_stream.rebuild('s');
SELECT count(*) FROM profile_stream.stat_rebuilds;
SELECT count(*) FROM profile_stream_rebuild.materialized_profiles;
ROLLBACK TO copied;
-- paused, cancelled
SELECT profile_stream.pause_rebuild('s');
SELECT stream, state FROM profile_stream.stat_rebuilds;
SELECT profile_stream.cancel_rebuild('s');
SELECT count(*) FROM profile_stream.stat_rebuilds;
SELECT (SELECT count(*) FROM profile_stream_rebuild.materialized_profiles), (SELECT count(*) FROM profile_stream_rebuild.stream_status), (SELECT count(*) FROM profile_stream_internal.stream_rebuilds);
-- dropped with its stream
SELECT profile_stream.rebuild('s');
SELECT profile_stream.drop_stream('s');
SELECT (SELECT count(*) FROM profile_stream_rebuild.stream_status), (SELECT count(*) FROM profile_stream_internal.stream_rebuilds);
-- dropped with one of several streams: whose rebuild that ends, too, is said
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1'), profile_stream.create_stream('t', bootstrap_servers => '127.0.0.1:1');
SELECT profile_stream.rebuild('s');
SELECT stream FROM profile_stream.stat_rebuilds ORDER BY 1;
SET LOCAL client_min_messages = notice;
\set VERBOSITY default
SELECT profile_stream.drop_stream('s');
\set VERBOSITY terse
SET LOCAL client_min_messages = error;
SELECT stream, what, to_state, regexp_replace(reason, 'role "[^"]*"', 'role "…"') AS reason FROM profile_stream.stream_log ORDER BY log_id DESC LIMIT 3;
SELECT count(*) FROM profile_stream.stat_rebuilds;
ROLLBACK;
