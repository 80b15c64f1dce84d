-- Slices: profiles on several servers, here databases of one server that read each other through postgres_fdw.
\set VERBOSITY terse
SET client_min_messages = error;
-- what the partitioners of Java and of librdkafka choose
SELECT key, profile_stream.kafka_partition(key, 2147483647) AS murmur2, profile_stream.kafka_partition(key, 1000000, 'consistent') AS consistent
FROM unnest(ARRAY['21', 'foobar', 'a-little-bit-long-string', 'a-little-bit-longer-string', 'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', 'abc', '123456789', 'Zoë']) key;
-- and Citus, for a table of so many shards
SELECT n, bool_and(profile_stream.kafka_partition(key, n, 'citus') = LEAST((hashtext(key COLLATE "C")::bigint + 2147483648) / (4294967296 / n), n - 1)) AS as_citus,
	count(DISTINCT profile_stream.kafka_partition(key, n, 'citus')) AS used
FROM unnest(ARRAY[1, 2, 3, 32, 1000, 2147483647]) n, LATERAL (SELECT 'c' || i AS key FROM generate_series(1, 2000) i) k GROUP BY n ORDER BY n;
SELECT profile_stream.kafka_partition('a', 0);
SELECT profile_stream.kafka_partition('', 1);
SELECT profile_stream.kafka_partition('a', 1, 'random');

-- the slices: of 4 partitions, each takes two; customers by murmur2
SELECT current_database() AS reading \gset
CREATE DATABASE slice_a ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE slice_b ENCODING 'UTF8' TEMPLATE template0;
\c slice_a
SET client_min_messages = error;
CREATE EXTENSION profile_stream CASCADE;
SELECT profile_stream.create_metric('spent', 'buy', value_path => '$.total', aggregate => 'sum', period => 'lifetime');
BEGIN;
SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', topic => 'events', partitions => '{0,1}');
SELECT profile_stream.pause_stream('crm');
INSERT INTO profile_stream_internal.stream_topics (stream_id, topic_no, topic, joined_at, since, partitions) SELECT stream_id, 0, 'events', now(), now(), 4 FROM profile_stream.streams;
COMMIT;
CREATE FUNCTION send(customers text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(profile_stream.apply_event(jsonb_build_object('eventId', c, 'customerId', c, 'eventType', 'buy', 'payload', '{"total": 3}'::jsonb, 'timestamp', '2026-01-01T00:00:00Z'))) FROM unnest(customers) c
$$;
SELECT send(ARRAY(SELECT 'c' || i FROM generate_series(1, 12) i WHERE profile_stream.kafka_partition('c' || i, 4) IN (0, 1)));
\c slice_b
SET client_min_messages = error;
CREATE EXTENSION profile_stream CASCADE;
SELECT profile_stream.create_metric('spent', 'buy', value_path => '$.total', aggregate => 'sum', period => 'lifetime');
BEGIN;
SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', topic => 'events', partitions => '{2,3}');
SELECT profile_stream.pause_stream('crm');
INSERT INTO profile_stream_internal.stream_topics (stream_id, topic_no, topic, joined_at, since, partitions) SELECT stream_id, 0, 'events', now(), now(), 4 FROM profile_stream.streams;
COMMIT;
CREATE FUNCTION send(customers text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(profile_stream.apply_event(jsonb_build_object('eventId', c, 'customerId', c, 'eventType', 'buy', 'payload', '{"total": 4}'::jsonb, 'timestamp', '2026-01-01T00:00:00Z'))) FROM unnest(customers) c
$$;
SELECT send(ARRAY(SELECT 'c' || i FROM generate_series(1, 12) i WHERE profile_stream.kafka_partition('c' || i, 4) IN (2, 3)));

-- a server that reads both; one of them has a name that would break a statement
\c :reading
SET client_min_messages = error;
\set VERBOSITY default
SELECT profile_stream.create_cluster_view('{a}');
\set VERBOSITY terse
CREATE EXTENSION postgres_fdw;
\set VERBOSITY default
SELECT profile_stream.create_cluster_view('{a}');
\set VERBOSITY terse
\set ECHO none
SELECT format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)', name, :'HOST', :'PORT', dbname)
FROM (VALUES ('a', 'slice_a'), ('b''"; DROP SCHEMA x;', 'slice_b'), ('nobody', 'no_such_database')) s(name, dbname) \gexec
-- where the server under test asks for a password, it is in the environment
\set password ''
\getenv password PGPASSWORD
SELECT format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I OPTIONS (user %L%s)', srvname, current_user, ', password ' || quote_literal(NULLIF(:'password', ''))) FROM pg_foreign_server WHERE srvname IN ('a', 'b''"; DROP SCHEMA x;', 'nobody') \gexec
\set ECHO all
\set servers '''{a,"b''''\\"; DROP SCHEMA x;"}'''
SELECT :servers::name[];
SELECT profile_stream.create_cluster_view('{}');
SELECT profile_stream.create_cluster_view('{a,a}');
SELECT profile_stream.create_cluster_view('{a,NULL}');
SELECT profile_stream.create_cluster_view('{a}', local_server => 'a');
SELECT profile_stream.create_cluster_view('{a}', relations => '{pg_catalog.pg_class,profile_stream.profiles}');
SELECT profile_stream.create_cluster_view('{a}', relations => '{pg_catalog.pg_foreign_server,profile_stream.streams}');
SELECT profile_stream.create_cluster_view('{a}', schema_name => 'other', partitioner => 'random');
SELECT profile_stream.cluster_profile('c1');
SELECT * FROM profile_stream.cluster_check();
SELECT profile_stream.drop_cluster_view();

SELECT profile_stream.create_cluster_view(:servers, partitioner => 'murmur2');
SELECT server, partitioner, partitions, reads FROM cluster.cluster_servers ORDER BY server;
SELECT server, count(*), array_agg(customer_id ORDER BY customer_id) FROM cluster.profiles GROUP BY server ORDER BY server;
SELECT count(*), count(DISTINCT customer_id) FROM cluster.profiles;
SELECT server, stream, state FROM cluster.stat_streams ORDER BY server;
SELECT metric, sum(customers) AS customers, sum(sum) AS sum, min(min), max(max) FROM cluster.metric_totals WHERE metric = 'spent' GROUP BY metric;
SELECT server, value FROM cluster.profile_metrics WHERE customer_id = 'c1' AND metric = 'spent';
SELECT * FROM profile_stream.cluster_check();
-- one server is asked for one of its customers; conditions are computed there
EXPLAIN (VERBOSE, COSTS OFF) SELECT data FROM cluster.profile_documents WHERE server = 'a' AND customer_id = 'c1';
EXPLAIN (VERBOSE, COSTS OFF) SELECT value FROM cluster.profile_metrics WHERE customer_id = 'c1' AND metric = 'spent';
EXPLAIN (VERBOSE, COSTS OFF) SELECT metric, sum FROM cluster.metric_totals WHERE metric = 'spent';
SELECT bool_and(profile_stream.cluster_profile(customer_id) = data) AS same, count(*) FROM cluster.profile_documents;
SELECT profile_stream.cluster_profile('nobody'), profile_stream.cluster_profile(''), profile_stream.cluster_profile(NULL);

-- who moved is removed, with everything about them; others stay, and who holds them is named
SELECT profile_stream.prune_slice('{}', 4);
SELECT profile_stream.prune_slice('{0,4}', 4);
SELECT profile_stream.prune_slice('{NULL}', 4);
SELECT profile_stream.prune_slice('{0}', 4, 'random');
\c slice_b
SELECT send('{c200,c201,c202,c203}');
SELECT profile_stream.track_history('{total_balance}', '30 days');
SELECT count(profile_stream.seed_profile('c' || i, '{"totalBalance": 1}', '2026-01-02')) FROM generate_series(200, 230) i;
SELECT count(*) FROM profile_stream.materialized_profiles WHERE profile_stream.kafka_partition(customer_id, 4) IN (2, 3);
SELECT profile_stream.prune_slice('{2,3}', 4) = 31 - (SELECT count(*) FROM generate_series(200, 230) i WHERE profile_stream.kafka_partition('c' || i, 4) IN (2, 3)) AS removed;
SELECT bool_and(profile_stream.kafka_partition(customer_id, 4) IN (2, 3)) AS all_ours, count(*) FROM profile_stream.materialized_profiles;
SELECT count(*) FROM profile_stream_internal.seeds WHERE profile_stream.kafka_partition(customer_id, 4) IN (0, 1);
SELECT count(*) FROM profile_stream_internal.profile_history WHERE profile_stream.kafka_partition(customer_id, 4) IN (0, 1);
SELECT count(profile_stream.forget_customer('c' || i)) FROM generate_series(200, 230) i;
SELECT profile_stream.untrack_history();
BEGIN;
INSERT INTO profile_stream_internal.sink_pending (stream_id, sink, customer_id) VALUES (1, 'redis', 'c');
\set VERBOSITY default
SELECT profile_stream.prune_slice('{2,3}', 4);
\set VERBOSITY terse
ROLLBACK;
\c :reading
SET client_min_messages = error;

-- a partition that has moved is found all the same; the check tells it
\c slice_a
SELECT send('{c100,c101,c102,c103,c104,c105}');
\c :reading
SET client_min_messages = error;
SELECT * FROM profile_stream.cluster_check();
SELECT count(profile_stream.cluster_profile('c' || i)) FROM generate_series(100, 105) i;
-- a customer on both, partitions without a reader and with two, other definitions, another version, another number of partitions
\c slice_b
SELECT send('{c100,both}');
SELECT profile_stream.create_metric('other', 'buy', '1 day');
SELECT profile_stream.drop_metric('spent');
SELECT profile_stream.create_metric('spent', 'buy', value_path => '$.total', aggregate => 'max', period => 'lifetime');
SELECT profile_stream.create_segment('rich', 'total_balance > 1');
UPDATE profile_stream.streams SET partitions = '{1,2}';
UPDATE profile_stream_internal.stream_topics SET partitions = 5;
UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'profile_stream';
\c slice_a
SELECT send('{both}');
SELECT profile_stream.create_segment('rich', 'total_balance > 2');
\c :reading
SET client_min_messages = error;
SELECT servers, subject, CASE WHEN subject <> 'version' THEN problem END AS problem, action FROM profile_stream.cluster_check() ORDER BY subject COLLATE "C", servers, problem;
SELECT count(*) FROM profile_stream.cluster_check(customers => false) WHERE subject ~ 'customer';
-- a server that tells of partitions without an end
\c slice_b
UPDATE profile_stream_internal.stream_topics SET partitions = 2147483647;
\c :reading
SET client_min_messages = error;
SELECT problem FROM profile_stream.cluster_check(customers => false) WHERE subject = 'server';
\c slice_b
UPDATE pg_extension SET extversion = (SELECT profile_stream.version() ->> 'library') WHERE extname = 'profile_stream';
UPDATE profile_stream.streams SET partitions = '{2,3}';
UPDATE profile_stream_internal.stream_topics SET partitions = 4;
\c :reading
SET client_min_messages = error;
SELECT profile_stream.cluster_profile('c100') IS NOT NULL; -- the server that has its partition
SELECT profile_stream.create_cluster_view(:servers);
SELECT profile_stream.cluster_profile('c100');

-- a server that does not answer hides nothing of the others, and is left out by its name
SELECT profile_stream.create_cluster_view('{a,nobody}');
SELECT servers, subject, regexp_replace(problem, '".*:', '"…"') AS problem FROM profile_stream.cluster_check() ORDER BY subject, problem;
SELECT count(*) FROM cluster.profiles WHERE server <> 'nobody';
SELECT profile_stream.create_cluster_view('{a,nobody}', partitioner => 'murmur2');

-- made again: who could read can read, what depends on it stays, own relations come and go; this server may have a slice of its own
CREATE ROLE slices_reader;
CREATE ROLE slices_operator;
GRANT profile_stream_reader TO slices_reader;
GRANT profile_stream_operator TO slices_operator;
GRANT USAGE ON SCHEMA cluster TO slices_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA cluster TO slices_reader;
CREATE VIEW public.names AS SELECT server, customer_id FROM cluster.profiles;
CREATE VIEW public.totals AS SELECT count(*) AS n FROM profile_stream.materialized_profiles;
\c slice_a
CREATE VIEW public.totals AS SELECT count(*) AS n FROM profile_stream.materialized_profiles;
GRANT SELECT ON public.totals TO PUBLIC;
\c slice_b
CREATE VIEW public.totals AS SELECT count(*) AS n FROM profile_stream.materialized_profiles;
\c :reading
SET client_min_messages = error;
SELECT profile_stream.create_cluster_view(:servers, local_server => 'here', relations => '{public.totals}');
SELECT server, n FROM cluster.totals ORDER BY server;
SELECT profile_stream.create_cluster_view(:servers, local_server => 'here');
SELECT to_regclass('cluster.totals'), to_regclass('cluster.totals_a'), to_regclass('cluster.profiles_nobody');
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "local", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
SELECT server, count(*) FROM public.names GROUP BY server ORDER BY server;
SELECT profile_stream.cluster_profile('local') = profile_stream.get_profile('local') AS same;
SELECT profile_stream.forget_customer('local');
DROP VIEW public.names;
SELECT count(*) FROM pg_class c WHERE relnamespace = 'cluster'::regnamespace AND relkind IN ('v', 'f') AND NOT has_table_privilege('slices_reader', c.oid, 'SELECT');
-- a reader reads with the user mapping of its own
SET ROLE slices_reader;
\set VERBOSITY sqlstate
SELECT count(*) FROM cluster.profiles WHERE server = 'a';
\set VERBOSITY terse
SELECT profile_stream.create_cluster_view('{a}', 'mine');
SELECT * FROM profile_stream.cluster_check();
RESET ROLE;
CREATE USER MAPPING FOR slices_reader SERVER a OPTIONS (password_required 'false', user 'slices_reader');
ALTER ROLE slices_reader LOGIN;
\set ECHO none
SELECT format('ALTER ROLE slices_reader PASSWORD %L', :'password') WHERE :'password' <> '' \gexec
SELECT format('ALTER USER MAPPING FOR slices_reader SERVER a OPTIONS (ADD password %L)', :'password') WHERE :'password' <> '' \gexec
\set ECHO all
SET ROLE slices_reader;
SELECT count(*) FROM cluster.profiles WHERE server = 'a';
RESET ROLE;
SELECT profile_stream.create_cluster_view('{a}', partitioner => 'murmur2');
SET ROLE slices_reader;
SELECT profile_stream.cluster_profile('c2') ->> 'customerId' AS customer;
SELECT profile_stream.cluster_profile('c1', 'public');
RESET ROLE;
-- an operator needs the right to use the servers; a schema of others is refused, and one that only looks like a cluster view
\set ECHO none
SELECT format('GRANT CREATE ON DATABASE %I TO slices_operator', current_database()) \gexec
\set ECHO all
SET ROLE slices_operator;
SELECT profile_stream.create_cluster_view('{a}');
SELECT profile_stream.create_cluster_view('{a}', 'mine');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER a TO slices_operator;
SET ROLE slices_operator;
SELECT profile_stream.create_cluster_view('{a}', 'mine');
RESET ROLE;
SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'mine'::regnamespace;
SELECT profile_stream.drop_cluster_view('mine');
CREATE SCHEMA fake AUTHORIZATION slices_reader;
SET ROLE slices_reader;
CREATE TABLE fake.cluster_servers AS TABLE cluster.cluster_servers;
COMMENT ON TABLE fake.cluster_servers IS 'Of a cluster view; profile_stream.create_cluster_view() makes it again';
RESET ROLE;
SELECT * FROM profile_stream.cluster_check('fake');
SELECT profile_stream.cluster_profile('c1', 'fake');
SELECT profile_stream.create_cluster_view('{a}', 'fake');
-- a superuser runs nothing of an operator, and may become him
SET ROLE slices_operator;
CREATE SCHEMA trap;
CREATE FUNCTION trap.spring() RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE TABLE trap.cluster_servers (server name, is_local boolean, partitioner text, partitions int, reads int[]);
COMMENT ON TABLE trap.cluster_servers IS 'Of a cluster view; profile_stream.create_cluster_view() makes it again';
CREATE VIEW trap.profile_documents AS SELECT 'a'::name AS server, 'c1' AS customer_id, trap.spring() AS data;
RESET ROLE;
\set VERBOSITY default
SELECT profile_stream.cluster_profile('c1', 'trap');
\set VERBOSITY terse
SELECT * FROM profile_stream.cluster_check('trap');
SET ROLE slices_operator;
SELECT profile_stream.cluster_profile('c1', 'trap');
RESET ROLE;
SELECT profile_stream.drop_cluster_view('trap');
-- a role is known by its exact name
CREATE ROLE "slices_Op.1";
CREATE ROLE slices_op;
GRANT slices_operator TO "slices_Op.1";
SET ROLE "slices_Op.1";
SELECT profile_stream.create_cluster_view('{a}', 'mine');
SELECT profile_stream.create_cluster_view('{a}', 'mine');
SELECT profile_stream.drop_cluster_view('mine');
RESET ROLE;
ALTER ROLE "slices_Op.1" RENAME TO "slices_Op";
CREATE SCHEMA mine AUTHORIZATION slices_op;
SET ROLE "slices_Op";
SELECT profile_stream.create_cluster_view('{a}', 'mine');
RESET ROLE;
DROP SCHEMA mine;
DROP ROLE "slices_Op", slices_op;
CREATE SCHEMA taken CREATE TABLE profiles_a (n int);
SELECT profile_stream.create_cluster_view('{a}', 'taken');

-- what it made goes, and what else is there stays
SELECT profile_stream.create_cluster_view('{a}', E'odd "schema\'');
SELECT profile_stream.drop_cluster_view(E'odd "schema\'');
SELECT profile_stream.create_cluster_view('{a}', 'public');
-- a schema of one's own stays; a server that was renamed is read under its new name
CREATE SCHEMA own;
SELECT profile_stream.create_cluster_view('{a}', 'own');
ALTER SERVER nobody RENAME TO a2;
ALTER SERVER a RENAME TO nobody;
ALTER SERVER a2 RENAME TO a;
SELECT profile_stream.create_cluster_view('{nobody}', 'own');
SELECT server, count(*) FROM own.profiles GROUP BY server;
SELECT profile_stream.create_cluster_view('{a}', 'own');
SELECT count(*) FROM own.profiles;
SELECT profile_stream.drop_cluster_view('own');
SELECT nspname FROM pg_namespace WHERE nspname IN ('own', E'odd "schema\'', 'mine');
DROP SCHEMA own;
CREATE TABLE cluster.own (n int);
SELECT profile_stream.drop_cluster_view();
DROP TABLE cluster.own;
SELECT profile_stream.drop_cluster_view();
SELECT count(*) FROM pg_class WHERE relkind = 'f';
SELECT postgres_fdw_disconnect_all();
DROP SCHEMA fake, taken, trap CASCADE;
DROP VIEW public.totals;
DROP EXTENSION postgres_fdw CASCADE;
DROP DATABASE slice_a;
DROP DATABASE slice_b;
DROP OWNED BY slices_reader, slices_operator;
DROP ROLE slices_reader, slices_operator;
