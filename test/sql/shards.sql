-- Distributed profiles, on one node of three: the catalogue is as Citus has it on every node, but nothing of Citus is here.
\set VERBOSITY terse
SET client_min_messages = error;
SET allow_system_table_mods = on;
SET timezone = 'UTC';

-- pages that other tests left would look like rows in the tables themselves
DO $$
BEGIN
	EXECUTE (SELECT 'TRUNCATE ' || string_agg(t::text, ', ') FROM unnest(profile_stream_internal.sharded_tables()) t);
END $$;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL);
CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass NOT NULL, shardid bigint NOT NULL, shardminvalue text, shardmaxvalue text);
CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint NOT NULL, groupid int NOT NULL);
CREATE TABLE pg_catalog.pg_dist_local_group (groupid int NOT NULL);
CREATE TABLE pg_catalog.pg_dist_node (groupid int NOT NULL, nodename text NOT NULL, nodeport int NOT NULL, nodeid int GENERATED ALWAYS AS (groupid) STORED);
-- four shards of each table, of which 0 and 2 are here, on node 1; the numbers are those of the table and the shard
INSERT INTO pg_dist_local_group VALUES (1);
INSERT INTO pg_dist_node VALUES (0, 'coordinator', 5432), (1, 'one', 5432), (2, 'two', 5432);
INSERT INTO pg_dist_shard SELECT t, 100 * n + s, (-2147483648 + s * 1073741824)::text, (-2147483648 + (s + 1) * 1073741824 - 1)::text
	FROM unnest(profile_stream_internal.sharded_tables()) WITH ORDINALITY AS u(t, n), generate_series(0::bigint, 3) s;
INSERT INTO pg_dist_placement SELECT shardid, 1 + shardid % 2 FROM pg_dist_shard;
DO $$
DECLARE
	shard record;
BEGIN
	FOR shard IN SELECT s.shardid, n.nspname, c.relname, c.oid FROM pg_dist_shard s JOIN pg_class c ON c.oid = s.logicalrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE s.shardid % 2 = 0 LOOP
		EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL EXCLUDING IDENTITY)', shard.nspname, shard.relname || '_' || shard.shardid, shard.nspname, shard.relname);
		EXECUTE format('ALTER INDEX %I.%I RENAME TO %I', shard.nspname, shard.relname || '_' || shard.shardid || '_pkey', shard.relname || '_pkey_' || shard.shardid);
	END LOOP;
END $$;
CREATE TABLE public.locked (mode int, shards bigint[]);
CREATE FUNCTION pg_catalog.lock_shard_metadata(mode int, shards bigint[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.locked VALUES (mode, shards); END';
-- as Citus does it: rows of the catalogue, and an invalidation of the table
CREATE FUNCTION public.invalidate() RETURNS void LANGUAGE sql AS 'UPDATE pg_class SET relname = relname WHERE oid = ANY (profile_stream_internal.sharded_tables())';
CREATE FUNCTION public.shard_of(customer text) RETURNS int LANGUAGE sql AS 'SELECT (hashtext(customer COLLATE "C")::bigint + 2147483648) / 1073741824';
CREATE FUNCTION public.seen(customer text, id text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', 'transaction.completed', 'timestamp', '2026-01-01T00:00:00Z', 'payload', '{"amount": 1}'::jsonb)
$$;
-- what the shards that are here have
CREATE VIEW public.here AS
	SELECT 0 AS shard, customer_id, version, total_balance FROM profile_stream.materialized_profiles_100 UNION ALL SELECT 2, customer_id, version, total_balance FROM profile_stream.materialized_profiles_102;

SELECT profile_stream_internal.is_distributed();
INSERT INTO pg_dist_partition SELECT t, 'h' FROM unnest(profile_stream_internal.sharded_tables()) t;
SELECT public.invalidate();
SELECT profile_stream_internal.is_distributed();

-- each customer is applied in the own shard, or not here
SELECT string_agg(DISTINCT public.shard_of('c' || i)::text, ' ') FROM generate_series(1, 8) i;
CREATE FUNCTION public.apply(customer text, id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN profile_stream.apply_event(public.seen(customer, id));
EXCEPTION WHEN active_sql_transaction OR object_not_in_prerequisite_state THEN
	DECLARE hint text;
	BEGIN
		GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
		RETURN SQLSTATE || ' ' || regexp_replace(hint, '\..*', '');
	END;
END $$;
SELECT public.shard_of('c' || i) AS shard, public.apply('c' || i, 'e') FROM generate_series(1, 8) i GROUP BY 1, 2 ORDER BY 1;
SELECT string_agg(DISTINCT mode || ' ' || shards::text, ', ') FROM public.locked;
SELECT count(*), bool_and(shard = public.shard_of(customer_id)) AS right_shard FROM public.here;
-- again by statements, and all of a batch or nothing
SET profile_stream.direct_access = off;
SELECT string_agg(DISTINCT profile_stream.apply_event(public.seen(customer_id, 'e2')), ' ') FROM public.here;
RESET profile_stream.direct_access;
SELECT profile_stream.apply_events(array_agg(public.seen('c' || i, 'e3') ORDER BY i)) FROM generate_series(1, 8) i;
SELECT string_agg(r, ' ') FROM unnest((SELECT profile_stream.apply_events(array_agg(public.seen(customer_id, id) ORDER BY id, customer_id) || '{}'::jsonb) FROM public.here, unnest('{e2,e3}'::text[]) id)) r;
SELECT DISTINCT version, total_balance FROM public.here;
-- the node of a customer is asked in a statement of its own only, and by the one that was called first; this one has nothing of Citus to ask it with
SELECT 'c' || min(i) AS foreign FROM generate_series(1, 8) i WHERE public.shard_of('c' || i) % 2 = 1 \gset
SELECT profile_stream.apply_event(public.seen(:'foreign', 'f1'));
BEGIN;
SELECT profile_stream.apply_event(public.seen(:'foreign', 'f1'));
ROLLBACK;
WITH written AS (INSERT INTO public.locked VALUES (0) RETURNING mode) SELECT profile_stream.apply_event(public.seen(:'foreign', 'f1')) FROM written;
CREATE FUNCTION public.on_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM profile_stream.apply_event(public.seen(NEW.event_id, ''f1'')); RETURN NEW; END';
CREATE TABLE public.orders (event_id text);
CREATE TRIGGER apply BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.on_write();
INSERT INTO public.orders VALUES (:'foreign');
DROP TABLE public.orders;
DROP FUNCTION public.on_write();
SELECT profile_stream.lock_customer(:'foreign');
SELECT profile_stream.try_lock_customer(:'foreign');
SELECT profile_stream.try_lock_customer(min(customer_id)) FROM public.here;
SET application_name = 'citus_internal gpid=1';
SELECT profile_stream.apply_event(public.seen(:'foreign', 'f1'));
RESET application_name;
SELECT count(*) FROM public.here WHERE customer_id = :'foreign';
SELECT outcome, version > 3 AS newer, metrics -> 'total_transaction_value_30d' AS sum FROM profile_stream.apply_event_returning(public.seen((SELECT min(customer_id) FROM public.here), 'f2') || jsonb_build_object('timestamp', now()));
-- a dead letter whose customer is on another node is applied there, and stays where that cannot be; never in a transaction that goes on
SELECT profile_stream.apply_event('{}');
SELECT profile_stream_internal.node_of_event(public.seen(:'foreign', 'f3')) IS NULL AS is_here, profile_stream_internal.node_of_event('{}') IS NULL AS is_unknown;
BEGIN;
SELECT profile_stream.retry_dead_letters(patch => public.seen(:'foreign', 'f3'));
ROLLBACK;
SELECT applied, failed FROM profile_stream.retry_dead_letters(patch => public.seen(:'foreign', 'f3'));
SELECT errors FROM profile_stream.dead_letters;
BEGIN;
SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(patch => public.seen((SELECT min(customer_id) FROM public.here), 'f3'));
COMMIT;
SELECT count(*) FROM profile_stream.dead_letters;
-- chunks of samples and ids go to the shard, too
SELECT customer_id AS c FROM public.here WHERE shard = 0 LIMIT 1 \gset
SELECT DISTINCT r FROM unnest(profile_stream.apply_events((SELECT array_agg(public.seen(:'c', 'many' || i)) FROM generate_series(1, 2000) i))) r;
SELECT (SELECT count(*) > 0 FROM profile_stream_internal.window_chunks_200 WHERE customer_id = :'c') AS samples, (SELECT count(*) > 0 FROM profile_stream_internal.event_id_chunks_300 WHERE customer_id = :'c') AS ids,
	profile_stream.apply_event(public.seen(:'c', 'many1'));
SELECT count(*) AS wrong FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0;

-- a shard comes and another one leaves; a session that has read the catalogue before sees it, also without an invalidation
UPDATE pg_dist_placement SET groupid = 2 WHERE shardid % 100 = 0;
SELECT public.apply(:'c', 'e9');
UPDATE pg_dist_placement SET groupid = 1 WHERE shardid % 100 = 0;
SELECT public.apply(:'c', 'e9');

-- an error within one shard leaves the process in none
SELECT profile_stream.apply_events(ARRAY[public.seen(:'c', 'bad') || '{"payload": {"amount": "many"}}']);
ALTER TABLE profile_stream.materialized_profiles_100 ADD CONSTRAINT never CHECK (version < 0) NOT VALID;
SELECT profile_stream.apply_event(public.seen(:'c', 'e10'));
ALTER TABLE profile_stream.materialized_profiles_100 DROP CONSTRAINT never;
SELECT profile_stream.get_profile(:'c') ->> 'customerId' = :'c' AS found;
SELECT profile_stream.apply_event(public.seen(:'c', 'e10'));
-- a trigger of a stranger on a shard does not run
CREATE ROLE regress_stranger;
CREATE FUNCTION public.steal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
ALTER FUNCTION public.steal() OWNER TO regress_stranger;
CREATE TRIGGER steal BEFORE UPDATE ON profile_stream.materialized_profiles_100 FOR EACH ROW EXECUTE FUNCTION public.steal();
SELECT profile_stream.apply_event(public.seen(:'c', 'e11'));
DROP TRIGGER steal ON profile_stream.materialized_profiles_100;
DROP FUNCTION public.steal();
DROP ROLE regress_stranger;

-- a customer is read in the shard, also with sealed chunks; one of another node by a statement of Citus, which is not here
SELECT string_agg('c' || i, ',') FILTER (WHERE public.shard_of('c' || i) % 2 = 1) AS elsewhere FROM generate_series(1, 8) i \gset
SELECT profile_stream.metric_value(:'c', 'total_transaction_value_30d', '2026-01-01'), (SELECT sum(count) FROM profile_stream.metric_trend(:'c', 'total_transaction_value_30d', '2026-01-01', '2026-01-02')) AS days;
SELECT profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', '2026-01-01'),
	profile_stream_internal.profile_document(ROW(p.*)::profile_stream.materialized_profiles, '2026-01-01') -> 'totalTransactionValue30d' AS in_document,
	(SELECT sum((d).count) FROM profile_stream_internal.profile_days(p.customer_id, p.window_state, 'total_transaction_value_30d', '2026-01-01', '2026-01-02', 'UTC') d) AS days
FROM profile_stream.materialized_profiles_100 p WHERE customer_id = :'c';
SET profile_stream.direct_access = off;
SELECT profile_stream.metric_value(:'c', 'total_transaction_value_30d', '2026-01-01');
RESET profile_stream.direct_access;
SELECT profile_stream.metric_value(:'c', 'none');
SELECT count(*) FROM unnest(string_to_array(:'elsewhere', ',')) e;
SELECT profile_stream.get_profile(split_part(:'elsewhere', ',', 1));
SELECT * FROM profile_stream.metric_trend(split_part(:'elsewhere', ',', 1), 'login_count_7d', '2026-01-01', '2026-01-02');
SELECT profile_stream.get_profile(NULL);
-- a bookmark has a part for each node, by its group
SELECT profile_stream_internal.node_bookmark() AS bookmark \gset
SELECT :'bookmark' ~ '^\d+-\d+-\d+-\d+@1$' AS has_group;
SELECT what, profile_stream_internal.changed_since(x.id, b) FROM (SELECT ((split_part(split_part(:'bookmark', '@', 1), '-', 4)::int8 - 1) % 4294967296)::text::xid) x(id), (VALUES ('this node', :'bookmark'), ('another node', regexp_replace(:'bookmark', '@1', '@2')),
	('both', regexp_replace(:'bookmark', '@1', '@2') || ',' || :'bookmark'), ('a server', regexp_replace(:'bookmark', '@1', '')), ('none', NULL)) AS v(what, b);
SELECT profile_stream_internal.changed_since('3', '1-2-3-4@1,');
SELECT profile_stream_internal.changed_since('3', '1-2-3-4@1@');
-- what reads all profiles is another function of that name, which Citus can plan
EXPLAIN (COSTS off, VERBOSE) SELECT customer_id FROM profile_stream.metric_days('login_count_7d', '2026-01-01', '2026-01-02');
EXPLAIN (COSTS off, VERBOSE) SELECT customer_id FROM profile_stream.profiles_changed_since();
-- what all nodes do, as far as this one can
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text) RETURNS TABLE (nodeid int, success boolean, result text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command INTO result;
	nodeid := 1;
	success := true;
	RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
	nodeid := 1;
	success := false;
	result := SQLERRM;
	RETURN NEXT;
END $$;
INSERT INTO profile_stream.segment_changes_500 (change_id, customer_id, kind, to_segment, changed_at) VALUES (1, :'c', 'score', 'loyal', now());
SELECT jsonb_array_length(e -> 'segmentChanges') AS changes, jsonb_array_length(e -> 'chunks') AS chunks, jsonb_array_length(e -> 'eventIds') AS ids, e #>> '{profile,customer_id}' = :'c' AS has_profile FROM profile_stream.export_customer(:'c') e;
SELECT profile_stream.export_customer(split_part(:'elsewhere', ',', 1)) -> 'profile';
SELECT profile_stream_internal.joined_exports('{"a": [1], "b": null, "c": 1, "d": false, "e": {"f": [], "g": "x"}}', '{"a": [2], "b": {"p": 1}, "c": 2, "d": true, "e": {"f": [3], "g": "y"}}');
SELECT profile_stream.prune_metrics('2026-06-01') > 1900 AS many, profile_stream.prune_metrics('2026-06-01');
SELECT count(*) FILTER (WHERE samples IS NULL) > 0 AS folded, count(*) FILTER (WHERE samples IS NOT NULL) AS exact FROM profile_stream_internal.window_chunks_200;
BEGIN;
SELECT * FROM profile_stream.forget_customer(:'c');
ROLLBACK;
SELECT profiles, chunks > 0 AS chunks, event_ids > 1900 AS ids, blocked FROM profile_stream.forget_customer(:'c', block => true);
SELECT count(*) FROM public.here WHERE customer_id = :'c';
SELECT count(*) FROM profile_stream.segment_changes_500;
SELECT profile_stream.apply_event(public.seen(:'c', 'e11'));
-- a customer of another node is blocked here, too; but somebody must have him
SELECT profile_stream.forget_customer(split_part(:'elsewhere', ',', 1));
SELECT profile_stream_internal.run_on_this_node(format('profile_stream.forget_customer(%L, true)', split_part(:'elsewhere', ',', 1)));
SELECT profile_stream.unblock_customer(:'c'), profile_stream.unblock_customer(:'c');
SELECT profile_stream.unblock_customer(split_part(:'elsewhere', ',', 1));
SELECT profile_stream.apply_event(public.seen(:'c', 'e11'));
SELECT * FROM profile_stream.forget_customer('');
-- blocks of the coordinator
SELECT profile_stream_internal.take_blocked_customers('\x01', ARRAY[sha256('\x01' || convert_to(:'c', 'UTF8'))]);
SELECT profile_stream.apply_event(public.seen(:'c', 'e12'));
SELECT profile_stream_internal.take_blocked_customers('\x02', '{}');
SELECT profile_stream.unblock_customer(:'c');
-- a bookmark of all nodes: by itself, and not by an older snapshot
SELECT profile_stream.profile_bookmark() ~ '^\d+-\d+-\d+-\d+@1$' AS has_group, split_part(profile_stream.profile_bookmark(), '@', 2) AS next;
CREATE TEMP TABLE kept (bookmark text);
INSERT INTO kept SELECT profile_stream.profile_bookmark();
SELECT profile_stream.profile_bookmark(), p.customer_id FROM profile_stream.profiles p;
SELECT customer_id FROM profile_stream.materialized_profiles WHERE (SELECT profile_stream.profile_bookmark()) <> '';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT profile_stream.profile_bookmark();
ROLLBACK;
-- masked contacts are read in the shard
UPDATE profile_stream.materialized_profiles_100 SET email = 'ada@example.com', phone = '' WHERE customer_id = :'c';
SELECT profile_stream_internal.masked(:'c', 'email'), profile_stream_internal.masked(:'c', 'phone'), profile_stream_internal.masked(:'c', 'none');
SELECT profile_stream.reconcile('none');
-- sizes are those of the shards that are here
SELECT "table", table_bytes >= pg_table_size('profile_stream.materialized_profiles_100') + pg_table_size('profile_stream.materialized_profiles_102') AS all_shards, index_bytes > 16384 AS indexes
FROM profile_stream.stat_storage WHERE schema = 'profile_stream' AND "table" = 'materialized_profiles';
-- a statement on it would ask all nodes
INSERT INTO profile_stream.segment_changes (customer_id, kind, changed_at) VALUES ('c', 'score', now());
SELECT oldest_at FROM profile_stream.stat_storage WHERE "table" = 'segment_changes';
TRUNCATE profile_stream.segment_changes;
-- views of all nodes; a node that does not answer is a row
SELECT node, bool_or(subject = 'node') AS is_missing FROM profile_stream.node_health GROUP BY node;
SELECT count(*) FROM profile_stream.node_streams;
CREATE OR REPLACE FUNCTION pg_catalog.run_command_on_all_nodes(command text) RETURNS TABLE (nodeid int, success boolean, result text) LANGUAGE sql
	AS $$SELECT 2, false, 'connection refused'$$;
SELECT node, status, subject, problem FROM profile_stream.node_health;
SELECT node, node_error, stream, state FROM profile_stream.node_streams;
SELECT node, node_error, partition FROM profile_stream.node_partitions UNION ALL SELECT node, node_error, partitions FROM profile_stream.node_topics UNION ALL SELECT node, node_error, partition FROM profile_stream.node_dead_letters
	UNION ALL SELECT node, node_error, backlog::int FROM profile_stream.node_sinks UNION ALL SELECT node, node_error, pid FROM profile_stream.node_score_refresh;
DROP FUNCTION pg_catalog.run_command_on_all_nodes(text);

-- what needs all rows, and what changes definitions, is refused; each function that may write is decided on
CREATE TABLE public.calls (call text);
INSERT INTO public.calls VALUES ($$seed_profile('c', '{"firstName": "a"}', '2026-01-01')$$), ($$prune_slice('{0}', 2)$$),
	($$rebuild('s')$$),
	($$track_history('{total_balance}', '30 days')$$), ($$serve_profile('c')$$);
CREATE FUNCTION public.handle(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
	AS 'SELECT jsonb_build_object(''attributes'', jsonb_build_object(''n'', COALESCE((profile #>> ''{attributes,n}'')::int, 0) + (event #>> ''{payload,n}'')::int))';
CREATE FUNCTION public.raise_event(event jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT jsonb_build_object(''n'', event #> ''{payload,old}'')';
CREATE FUNCTION public.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'it ran';
EXCEPTION WHEN OTHERS THEN
	RETURN regexp_replace(SQLERRM, '^\w+\(\) ', '');
END $$;
SELECT public.outcome('SELECT profile_stream.' || call), string_agg(split_part(call, '(', 1), ' ') FROM public.calls GROUP BY 1;
SELECT public.outcome('SELECT profile_stream.' || call), string_agg(split_part(call, '(', 1), ' ') FROM unnest(ARRAY[$$create_stream('s', bootstrap_servers => 'x:1', topic => 't')$$, $$alter_stream('s', workers => 2)$$,
	$$pause_stream('s')$$, $$resume_stream('s')$$, $$seek_stream('s', 'earliest')$$, $$drop_stream('s')$$, $$map_attribute('t', 'a', '$.a')$$, $$unmap_attribute('t', 'a')$$, $$create_metric('m', 't', '1 day')$$, $$drop_metric('m')$$,
	$$register_handler('t', 'public.handle(jsonb,jsonb)')$$, $$unregister_handler('t', 'public.handle(jsonb,jsonb)')$$, $$register_upcaster('t', 1, 'public.raise_event(jsonb)')$$, $$unregister_upcaster('t', 1)$$,
	$$create_segment('s', 'true')$$, $$alter_segment('s')$$, $$drop_segment('s')$$, 'confirm_code()']) call GROUP BY 1;

-- calls of the coordinator: in order, once, and with the coordinator's numbers
CREATE FUNCTION public.run_call(call_no bigint, function name, arguments text[], ids bigint[], called_by name DEFAULT current_user) RETURNS void LANGUAGE sql
	AS 'SELECT profile_stream_internal.run_coordinator_call(call_no, called_by, function, arguments, ids)';
CREATE FUNCTION public.arguments(function regproc, given jsonb) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	result text[];
	value text;
BEGIN
	FOR i IN 1 .. (SELECT pronargs FROM pg_proc WHERE oid = function) LOOP
		EXECUTE format('SELECT (%s)::text', COALESCE(pg_get_function_arg_default(function, i), 'NULL')) INTO value;
		result := result || COALESCE(given ->> (SELECT proargnames[i] FROM pg_proc WHERE oid = function), value);
	END LOOP;
	RETURN result;
END $$;
SELECT public.arguments('profile_stream.map_attribute', '{"event_type": "t", "attribute": "a", "path": "$.a"}') AS map \gset
SELECT public.run_call(2, 'create_metric', public.arguments('profile_stream.create_metric', '{"name": "later", "event_type": "t", "window": "1 day"}'), '{5,7,9}');
SELECT public.run_call(1, 'create_metric', public.arguments('profile_stream.create_metric', '{"name": "m", "event_type": "t", "window": "1 day"}'), '{5,7,9}');
SELECT public.run_call(1, 'create_metric', public.arguments('profile_stream.create_metric', '{"name": "m", "event_type": "t", "window": "1 day"}'), '{5,7,9}');
SELECT public.run_call(1, 'drop_metric', '{m}', '{5,8,9}');
-- one with the rights of somebody else, who must be able to call it; and for nobody with more rights than the own ones
CREATE ROLE regress_operator;
CREATE ROLE regress_nobody;
GRANT profile_stream_operator TO regress_operator;
SELECT public.run_call(2, 'map_attribute', :'map', '{5,8,9}', 'regress_nobody');
SELECT public.run_call(2, 'map_attribute', :'map', '{5,8,9}', 'regress_missing');
SET ROLE regress_operator;
SELECT public.run_call(2, 'map_attribute', :'map', '{5,8,9}', 'regress_nobody');
RESET ROLE;
SELECT public.run_call(2, 'map_attribute', :'map', '{5,8,9}', 'regress_operator');
SELECT public.run_call(2, 'map_attribute', :'map', '{5,8,9}');
SELECT name, series_id FROM profile_stream_internal.metrics;
SELECT map_id FROM profile_stream_internal.attribute_maps;
-- a stream belongs to who created it on the coordinator
CREATE SERVER regress_kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'localhost:1');
GRANT USAGE ON FOREIGN SERVER regress_kafka TO regress_operator;
SELECT public.run_call(3, 'create_stream', public.arguments('profile_stream.create_stream', '{"name": "s", "server": "regress_kafka", "topic": "t", "batch_wait": "00:00:01.5"}'), '{5,8,10}', 'regress_operator');
SELECT stream_id, owner, batch_wait FROM profile_stream.streams;
-- what restricts the caller restricts the call: here a materialized view
CREATE FUNCTION public.make_temporary() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE made ();
	RETURN NULL;
END $$;
CREATE TRIGGER make_temporary AFTER DELETE ON profile_stream_internal.metrics FOR EACH ROW EXECUTE FUNCTION public.make_temporary();
CREATE MATERIALIZED VIEW public.calling AS SELECT public.run_call(4, 'drop_metric', '{m}', '{6,8,10}')::text;
DROP TRIGGER make_temporary ON profile_stream_internal.metrics;
DROP FUNCTION public.make_temporary();
-- one that fails can be sent again
SELECT public.run_call(4, 'drop_metric', '{none}', '{6,8,10}');
SELECT public.run_call(4, 'drop_metric', '{NULL}', '{6,8,10}');
SELECT public.run_call(4, 'drop_metric', '{m}', '{6,8,10}');
SELECT public.run_call(5, 'drop_stream', '{s}', '{6,8,10}', 'regress_operator');
-- functions of users run in the shard of their customer
SELECT public.run_call(6, 'register_handler', '{t,"public.handle(jsonb,jsonb)",0}', '{6,8,10}'), public.run_call(7, 'register_upcaster', '{t,1,public.raise_event(jsonb)}', '{6,8,10}');
SELECT profile_stream.apply_events(array_agg(public.seen(:'c', 'h' || n) || jsonb_build_object('eventType', 't', 'schemaVersion', CASE WHEN n = 1 THEN 1 ELSE 2 END, 'payload', jsonb_build_object(CASE WHEN n = 1 THEN 'old' ELSE 'n' END, n)))) FROM generate_series(1, 3) n;
SELECT attributes FROM profile_stream.materialized_profiles_100 WHERE customer_id = :'c';
SELECT profile_stream.test_handler('t', public.seen(:'c', 'h4') || '{"eventType": "t", "schemaVersion": 2, "payload": {"n": 5}}') -> 'attributes' AS attributes;
SELECT public.run_call(8, 'unregister_handler', '{t,"public.handle(jsonb,jsonb)"}', '{6,8,10}'), public.run_call(9, 'unregister_upcaster', '{t,1}', '{6,8,10}');
SELECT (SELECT count(*) FROM profile_stream_internal.event_handlers) AS handlers, (SELECT count(*) FROM profile_stream_internal.event_upcasters) AS upcasters;
-- nothing else runs
SELECT public.run_call(10, 'forget_customer', '{c,f}', '{6,8,10}');
SELECT public.run_call(10, 'drop_metric', '{a,b}', '{6,8,10}');
SELECT public.run_call(10, 'drop_metric', '{{a}}', '{6,8,10}');
SELECT public.run_call(10, 'drop_metric', '{a}', '{6,8}');
UPDATE pg_dist_local_group SET groupid = 0;
SELECT public.invalidate();
SELECT public.run_call(10, 'drop_metric', '{a}', '{6,8,10}');
UPDATE pg_dist_local_group SET groupid = 1;
SELECT public.invalidate();
SELECT call_no, called_by = current_user AS by_me, function, arguments[1] FROM profile_stream_internal.coordinator_calls ORDER BY 1;
-- what a node runs for the others is one function: an operator gets no other value as its result
SET ROLE regress_operator;
SELECT profile_stream_internal.run_on_this_node('pg_catalog.upper(''a'')'), profile_stream_internal.run_on_this_node('pg_catalog.lower(NULL)') IS NULL AS is_null;
SELECT profile_stream_internal.run_on_this_node('pg_catalog.now() AS f; SELECT 1 --');
SELECT profile_stream_internal.run_on_this_node('pg_catalog.now() AS f; SELECT --');
SELECT profile_stream_internal.run_on_this_node('pg_catalog.generate_series(1, 2)');
RESET ROLE;
DROP SERVER regress_kafka;
DROP ROLE regress_operator, regress_nobody;
SELECT profile_stream_internal.forget_coordinator_calls() IS NOT NULL;

-- dead letters of a node go to the coordinator, some at a time; in its place a table keeps what it was told. Both are this server, so that the letters come back
SELECT profile_stream.discard_dead_letters() >= 0;
SELECT last_value AS last_number FROM profile_stream_internal.dead_letters_dead_letter_id_seq \gset
-- each node gives numbers that no other one gives, and greater ones than those that it has taken
SELECT setval('profile_stream_internal.dead_letters_dead_letter_id_seq', 17);
SELECT profile_stream_internal.number_dead_letters(), profile_stream_internal.number_dead_letters();
SELECT nextval('profile_stream_internal.dead_letters_dead_letter_id_seq'), nextval('profile_stream_internal.dead_letters_dead_letter_id_seq');
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, epoch, partition, kafka_offset, kafka_timestamp, key, value, headers, kind, errors, sqlstate, customer_id, event_id, event_type, dead_at, attempts, failed_at, value_size)
	VALUES (7, 's', 't', 0, 1, 2, '2026-01-01 00:00:00.000001+00', '\x00ff5c', decode(repeat('5c00', 2500000), 'hex'), '[{"name": "a", "hex": "00"}]', 'invalid', ARRAY['it''s', 'a "b\", c', NULL], '22023', 'c', 'e', 'x', '2026-01-02', 3, '2026-01-03', 9000000);
INSERT INTO profile_stream_internal.dead_letters (kind, errors, dead_at) SELECT 'malformed', '{}', '2026-01-01'::timestamptz + make_interval(secs => i) FROM generate_series(1, 1500) i;
INSERT INTO profile_stream_internal.dead_letter_outbox SELECT dead_letter_id, stream_id FROM profile_stream_internal.dead_letters WHERE stream_id = 7;
CREATE TABLE public.letters AS SELECT * FROM profile_stream_internal.dead_letters;
SELECT min(dead_letter_id), max(dead_letter_id) FROM public.letters;
CREATE TABLE public.told (command text);
CREATE FUNCTION pg_catalog.run_command_on_coordinator(command text, OUT success boolean, OUT result text) RETURNS record LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.told VALUES (command);
	success := current_setting('test.answer') <> 'no';
	result := CASE WHEN current_setting('test.answer') = 'yes' THEN (SELECT count(*)::text FROM regexp_matches(command, '"dead_at"', 'g')) ELSE '0' END;
END $$;
SELECT set_config('test.answer', 'no', false);
SELECT profile_stream.move_dead_letters();
SELECT set_config('test.answer', 'other', false);
SELECT profile_stream.move_dead_letters();
SELECT count(*) FROM profile_stream.dead_letters;
SELECT set_config('test.answer', 'yes', false);
BEGIN;
SELECT profile_stream.move_dead_letters();
ROLLBACK;
SELECT profile_stream.move_dead_letters();
SELECT (SELECT count(*) FROM profile_stream.dead_letters) AS letters, (SELECT count(*) FROM profile_stream_internal.dead_letter_outbox) AS outbox, (SELECT count(*) FROM public.told) AS told;
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN SELECT t.command FROM public.told t UNION ALL SELECT t.command FROM public.told t LOOP
		EXECUTE command;
	END LOOP;
END $$;
SELECT (SELECT count(*) FROM (TABLE public.letters EXCEPT TABLE profile_stream_internal.dead_letters) l) AS missing, (SELECT count(*) FROM profile_stream_internal.dead_letters) AS letters,
	(SELECT string_agg(stream_id::text, ' ') FROM profile_stream_internal.dead_letter_outbox) AS outbox;
SELECT nextval('profile_stream_internal.dead_letters_dead_letter_id_seq') - max(dead_letter_id) FROM profile_stream.dead_letters;
-- another one has the number
SELECT profile_stream_internal.take_dead_letters(jsonb_build_array(to_jsonb(l) || '{"dead_at": "2026-01-05"}', to_jsonb(l)), '{}') FROM profile_stream_internal.dead_letters l ORDER BY dead_letter_id DESC LIMIT 1;
-- of a node without shards health() says what would be gone with it
SELECT subject, problem, since, action FROM profile_stream.health() WHERE subject = 'dead letters';
UPDATE pg_dist_placement SET groupid = 2;
SELECT subject, problem, since, action FROM profile_stream.health() WHERE subject = 'dead letters';
UPDATE pg_dist_local_group SET groupid = 0;
SELECT subject, problem, since, action FROM profile_stream.health() WHERE subject = 'dead letters';
SELECT profile_stream.move_dead_letters();
UPDATE pg_dist_local_group SET groupid = 1;
UPDATE pg_dist_placement SET groupid = 1 + shardid % 2;
SELECT profile_stream.discard_dead_letters();
ALTER SEQUENCE profile_stream_internal.dead_letters_dead_letter_id_seq INCREMENT BY 1;
SELECT setval('profile_stream_internal.dead_letters_dead_letter_id_seq', :last_number) = :last_number;
TRUNCATE profile_stream_internal.dead_letter_outbox;
DROP FUNCTION pg_catalog.run_command_on_coordinator(text);
DROP TABLE public.letters, public.told;

-- the extension stays while its profiles are distributed
SELECT profile_stream_internal.make_event_triggers(), profile_stream_internal.make_event_triggers();
DROP EXTENSION profile_stream CASCADE;
DROP EXTENSION plpgsql CASCADE;
DROP OWNED BY CURRENT_USER CASCADE;
CREATE ROLE regress_owner;
DROP OWNED BY regress_owner;
DROP ROLE regress_owner;
DROP SCHEMA profile_stream_internal CASCADE;
CREATE SCHEMA other;
DROP SCHEMA other;
-- a shard that is created has the rights on columns of its table, no other table has
CREATE TABLE profile_stream.materialized_profiles_999 (LIKE profile_stream.materialized_profiles);
CREATE TABLE profile_stream.materialized_profiles_x9 (LIKE profile_stream.materialized_profiles);
SELECT c.relname, has_column_privilege('profile_stream_bi', c.oid, 'customer_id', 'SELECT') AS customer_id, has_column_privilege('profile_stream_bi', c.oid, 'email', 'SELECT') AS email,
	has_table_privilege('profile_stream_bi', c.oid, 'SELECT') AS whole FROM pg_class c WHERE c.relname IN ('materialized_profiles_999', 'materialized_profiles_x9') ORDER BY 1;
DROP TABLE profile_stream.materialized_profiles_999, profile_stream.materialized_profiles_x9;
SELECT relation, columns FROM profile_stream_internal.column_readers() WHERE grantee = 'profile_stream_bi' ORDER BY 1;
-- what distribute() has nodes and shards do. In the place of Citus the same functions say that all have done it, or none
BEGIN;
CREATE FUNCTION pg_catalog.run_command_on_workers(command text, OUT success boolean, OUT result text) LANGUAGE sql AS 'SELECT current_setting(''test.done'')::boolean, command';
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text, OUT success boolean, OUT result text) LANGUAGE sql AS 'SELECT * FROM run_command_on_workers(command)';
CREATE FUNCTION pg_catalog.run_command_on_shards(relation regclass, command text, OUT success boolean, OUT result text) LANGUAGE sql AS 'SELECT * FROM run_command_on_workers(command)';
SELECT set_config('test.done', done, true) AS done, step, public.outcome(format('SELECT profile_stream_internal.%s()', step))
	FROM unnest('{yes,no}'::text[]) done, unnest('{prepare_nodes,grant_on_shards,send_event_id_key,send_blocked_customers}'::text[]) step;
ROLLBACK;
-- who has no right on the extension goes on as before: creates, drops
CREATE ROLE stranger;
GRANT CREATE ON SCHEMA public TO stranger;
SET ROLE stranger;
CREATE TABLE public.mine (a int);
CREATE TEMP TABLE mine_too (a int);
DROP TABLE mine_too;
DROP OWNED BY stranger;
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM stranger;
DROP ROLE stranger;

-- shards that are not alike, or none
UPDATE pg_dist_shard SET shardmaxvalue = '0' WHERE shardid = 202;
SELECT public.invalidate();
SELECT profile_stream.apply_event(public.seen(:'c', 'e12'));
UPDATE pg_dist_shard SET shardmaxvalue = '1073741823' WHERE shardid = 202;
SELECT public.invalidate();
SELECT profile_stream.apply_event(public.seen(:'c', 'e12'));
-- one table more or less than distribute() takes
INSERT INTO pg_dist_partition VALUES ('profile_stream.streams', 'n');
UPDATE pg_class SET relname = relname WHERE relname = 'streams';
SELECT profile_stream.apply_event(public.seen(:'c', 'e13'));
DELETE FROM pg_dist_partition WHERE logicalrelid IN ('profile_stream.streams'::regclass, 'profile_stream_internal.window_chunks'::regclass);
UPDATE pg_class SET relname = relname WHERE relname = 'streams';
SELECT profile_stream_internal.is_distributed(), public.outcome(format('SELECT profile_stream.apply_event(%L)', public.seen(:'c', 'e13')));

DROP EVENT TRIGGER profile_stream_refuse_drop;
DROP EVENT TRIGGER profile_stream_grant_on_shard;
DROP VIEW public.here;
DROP FUNCTION public.invalidate, public.shard_of, public.seen, public.apply, public.handle, public.raise_event, public.outcome, public.run_call, public.arguments;
DROP TABLE public.locked, public.calls;
DO $$
DECLARE
	shard text;
BEGIN
	FOR shard IN SELECT format('%I.%I', n.nspname, c.relname || '_' || s.shardid) FROM pg_dist_shard s JOIN pg_class c ON c.oid = s.logicalrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE s.shardid % 2 = 0 LOOP
		EXECUTE 'DROP TABLE ' || shard;
	END LOOP;
END $$;
DROP FUNCTION pg_catalog.lock_shard_metadata(int, bigint[]);
DROP TABLE pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_local_group, pg_catalog.pg_dist_node;
SELECT profile_stream_internal.is_distributed();
