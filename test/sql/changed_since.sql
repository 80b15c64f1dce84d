-- what changed since a bookmark; what notifications are made of
\set VERBOSITY terse
SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n, 'customerId', 'c' || n, 'eventType', 'noop', 'timestamp', '2026-01-01')))
	= array_fill('applied'::text, '{5}') AS applied FROM generate_series(1, 5) n;
-- what else is under way, as autovacuum, would make changes come twice
CREATE PROCEDURE pg_temp.settle() LANGUAGE plpgsql AS $$
DECLARE
	next xid8 := pg_snapshot_xmax(pg_current_snapshot());
BEGIN
	WHILE pg_snapshot_xmin(pg_current_snapshot()) < next LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$;
-- without a bookmark, all, and one bookmark for all
SELECT c.customer_id, c.version, c.updated_at AT TIME ZONE 'UTC' AS updated_at FROM profile_stream.profiles_changed_since() c ORDER BY 1;
SELECT count(DISTINCT next_bookmark), min(next_bookmark) ~ '^\d+-\d+-\d+-\d+$' FROM profile_stream.profiles_changed_since();
CALL pg_temp.settle();
SELECT min(next_bookmark) AS bookmark FROM profile_stream.profiles_changed_since() \gset
SELECT * FROM profile_stream.profiles_changed_since(:'bookmark');
-- by an event, by hand, and a new one
SELECT profile_stream.apply_event('{"eventId": "a", "customerId": "c2", "eventType": "noop", "timestamp": "2026-01-02"}');
UPDATE profile_stream.materialized_profiles SET segment = 'gold' WHERE customer_id = 'c4';
SELECT profile_stream.apply_event('{"eventId": "a", "customerId": "new", "eventType": "noop", "timestamp": "2026-01-02"}');
SELECT c.customer_id, c.version, p.segment FROM profile_stream.profiles_changed_since(:'bookmark') c JOIN profile_stream.profiles p USING (customer_id) ORDER BY 1;
-- what is rolled back or erased is not told; a subtransaction is
CALL pg_temp.settle();
SELECT profile_stream.profile_bookmark() AS bookmark \gset
BEGIN;
SELECT profile_stream.apply_event('{"eventId": "b", "customerId": "c1", "eventType": "noop", "timestamp": "2026-01-02"}');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT profile_stream.apply_event('{"eventId": "b", "customerId": "c3", "eventType": "noop", "timestamp": "2026-01-02"}');
RELEASE s;
-- one's own change, also when the snapshot is older than it
SELECT customer_id FROM profile_stream.profiles_changed_since(:'bookmark');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM profile_stream.profiles;
UPDATE profile_stream.materialized_profiles SET segment = 'silver' WHERE customer_id = 'c5';
SELECT customer_id FROM profile_stream.profiles_changed_since(:'bookmark') ORDER BY 1;
COMMIT;
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'new';
SELECT customer_id FROM profile_stream.profiles_changed_since(:'bookmark') ORDER BY 1;
-- rows that are frozen, or written anew by a rewrite of the table, keep their transaction
VACUUM (FREEZE) profile_stream.materialized_profiles;
SELECT customer_id FROM profile_stream.profiles_changed_since(:'bookmark') ORDER BY 1;
VACUUM FULL profile_stream.materialized_profiles;
SELECT customer_id FROM profile_stream.profiles_changed_since(:'bookmark') ORDER BY 1;
-- a bookmark of another system, timeline or database, or of the future: all
SELECT what, (SELECT count(*) FROM profile_stream.profiles_changed_since(b)) AS changed, profile_stream_internal.bookmark_horizon(b) IS NULL AS unknown
FROM regexp_split_to_array(:'bookmark', '-') AS f, LATERAL (VALUES
	('its own', array_to_string(f, '-')),
	('another system', concat_ws('-', f[1]::numeric - 1, f[2], f[3], f[4])),
	('another timeline', concat_ws('-', f[1], f[2]::int + 1, f[3], f[4])),
	('another database', concat_ws('-', f[1], f[2], f[3]::int + 1, f[4])),
	('the future', concat_ws('-', f[1], f[2], f[3], f[4]::int8 + 1000000000)),
	('the first transaction', concat_ws('-', f[1], f[2], f[3], 0)),
	('none', NULL)) AS v(what, b);
-- ids wrap around: newer is what is at most 2^31 further
SELECT profile_stream_internal.xid_at_or_after(x::text::xid, h::text::xid) FROM (VALUES (5, 5), (4, 5), (3, 4294967290), (4294967290, 3), (3, NULL)) AS v(x, h);
-- a row of a transaction that has not begun yet is one that was frozen, more than 2^31 transactions ago
SELECT bool_and(profile_stream_internal.xid_at_or_after(x.next, x.next)) AS of_now,
	bool_or(profile_stream_internal.xid_at_or_after(((x.next::text::bigint + ahead) % 4294967296)::text::xid, x.next)) AS of_long_ago
FROM (SELECT pg_current_xact_id()::xid) AS x(next), (VALUES (1000000), (2147483647)) AS a(ahead);
-- what is no bookmark
SELECT * FROM profile_stream.profiles_changed_since('');
SELECT * FROM profile_stream.profiles_changed_since('2026-01-01');
SELECT * FROM profile_stream.profiles_changed_since('1-2-3-4-5');
SELECT * FROM profile_stream.profiles_changed_since('1-2-3-99999999999999999999');
SELECT * FROM profile_stream.profiles_changed_since(' 1-2-3-4');
-- with the caller's rights, and what row security lets through
CREATE ROLE regress_nobody;
CREATE ROLE regress_reader IN ROLE profile_stream_reader;
GRANT USAGE ON SCHEMA profile_stream TO regress_nobody;
SET ROLE regress_nobody;
SELECT * FROM profile_stream.profiles_changed_since();
SET ROLE regress_reader;
SELECT count(*) FROM profile_stream.profiles_changed_since();
RESET ROLE;
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY gold ON profile_stream.materialized_profiles FOR SELECT TO regress_reader USING (segment = 'gold');
SET ROLE regress_reader;
SELECT customer_id FROM profile_stream.profiles_changed_since();
RESET ROLE;
DROP POLICY gold ON profile_stream.materialized_profiles;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;
-- channels of segments: any text, at most 63 bytes, and none that two would share
SELECT s.prefix, octet_length(profile_stream.segment_channel(s.prefix, s.segment)) AS bytes, profile_stream.segment_channel(s.prefix, s.segment) AS channel
FROM (VALUES ('p_', 'gold'), ('p_', ''), ('p_', 'Gold "x" \ €'), ('p_', repeat('a', 61)), ('p_', repeat('a', 62)), ('p_', repeat('a', 63)),
	('p_', repeat(chr(8364), 100)), (repeat('p', 47), 'seventeen bytes x'), (repeat('p', 47), 'sixteen bytes xy')) AS s(prefix, segment);
SELECT profile_stream.segment_channel('', 'gold');
SELECT profile_stream.segment_channel(repeat('p', 48), 'gold');
SET client_min_messages = warning;
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', segment_channel_prefix => repeat('p', 48));
ROLLBACK;
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', segment_channel_prefix => 'profiles_of_');
SELECT segment_channel_prefix FROM profile_stream.streams;
SELECT profile_stream.alter_stream('s', notify => 'customer');
SELECT segment_channel_prefix FROM profile_stream.streams;
SELECT profile_stream.alter_stream('s', segment_channel_prefix => '');
SELECT segment_channel_prefix FROM profile_stream.streams;
ROLLBACK;
-- clean up
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
REVOKE USAGE ON SCHEMA profile_stream FROM regress_nobody;
DROP ROLE regress_nobody, regress_reader;
