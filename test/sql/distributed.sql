-- Tables that Citus has distributed: whatever would write or read them refuses. Its catalogue is as on every node, but nothing of Citus is here.
\set VERBOSITY terse
SET client_min_messages = error;
SET allow_system_table_mods = on;
SELECT jsonb_build_object('eventId', 'e1', 'customerId', 'c', 'eventType', 't', 'timestamp', '2026-01-01T00:00:00Z') AS event \gset

CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL);
-- as Citus does it: a row of the catalogue, and an invalidation of the table
CREATE FUNCTION public.distribute(relation regclass) RETURNS void LANGUAGE sql AS $$
	INSERT INTO pg_catalog.pg_dist_partition VALUES ($1, 'h');
	UPDATE pg_class SET relname = relname WHERE oid = $1;
$$;
CREATE FUNCTION public.undistribute() RETURNS void LANGUAGE sql AS $$
	UPDATE pg_class SET relname = relname WHERE oid IN (SELECT logicalrelid FROM pg_catalog.pg_dist_partition);
	DELETE FROM pg_catalog.pg_dist_partition;
$$;
-- whether a statement is refused because a table is distributed; else what happens
CREATE FUNCTION public.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'it ran: ' || statement;
EXCEPTION
	WHEN feature_not_supported THEN RETURN CASE WHEN SQLERRM ~ '^table profile_stream\S* is distributed by Citus$' THEN 'refused' ELSE SQLERRM END;
	WHEN OTHERS THEN RETURN SQLERRM || ': ' || statement;
END $$;
CREATE FUNCTION public.handle(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT ''{}''::jsonb';
CREATE FUNCTION public.upcast(event jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT event';

-- tables of others are none of our business
SELECT public.distribute('pg_class');
SELECT profile_stream.apply_event(:'event');
SELECT public.undistribute();

-- each table of the extension counts, and one that is distributed while a session works is noticed
SELECT count(*) > 30 AS many, string_agg(DISTINCT r.outcome, ', ') FROM pg_class c,
	public.refused(format('SELECT public.distribute(%L); SELECT profile_stream.apply_event(%L)', c.oid::regclass, :'event')) r(outcome)
WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text ~ '^profile_stream';
SELECT profile_stream.apply_event(:'event');

SELECT public.distribute('profile_stream.materialized_profiles');
\set VERBOSITY default
SELECT profile_stream.apply_event(:'event');
\set VERBOSITY terse

-- what writes, with valid arguments
CREATE TABLE public.calls (call text);
INSERT INTO public.calls VALUES
	('apply_event($e${"eventId": "e2", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}$e$)'),
	('apply_event_returning($e${"eventId": "e2", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}$e$)'),
	($$apply_events(ARRAY['{"eventId": "e2", "customerId": "d", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}']::jsonb[])$$),
	($$seed_profile('c', '{"firstName": "a"}', '2026-01-01')$$),
	($$drop_backfill('s')$$),
	($$prune_slice('{0}', 2)$$), ('retry_dead_letters()'), ('discard_dead_letters()'), ('prune_metrics()'), ('prune_metrics(''2027-01-01'')'),
	($$forget_customer('c')$$), ($$forget_customer('c', block => true)$$), ($$unblock_customer('c')$$),
	($$create_stream('s', bootstrap_servers => '127.0.0.1:1')$$), ($$alter_stream('s', batch_size => 1)$$), ($$pause_stream('s')$$), ($$resume_stream('s')$$),
	($$drop_stream('s')$$), ($$seek_stream('s', 'earliest')$$), ($$flush_stream('s')$$), ($$resync_sink('s', 'redis')$$), ($$stat_reset('s')$$), ('start_streams()'),
	($$wait_for_stream('s')$$), ($$wait_for_offset('s', 0, 0)$$), ($$reconcile('s')$$), ($$stat_reset('s')$$),
	($$rebuild('s')$$), ($$pause_rebuild('s')$$), ($$resume_rebuild('s')$$), ($$cancel_rebuild('s')$$), ($$swap_rebuild('s')$$), ($$rebuild_diff('s')$$),
	($$map_attribute('t', 'a', '$.a')$$), ($$unmap_attribute('t', 'a')$$), ($$create_metric('m', 't', '1 day')$$), ($$drop_metric('m')$$),
	($$register_handler('t', 'public.handle(jsonb,jsonb)')$$), ($$unregister_handler('t', 'public.handle(jsonb,jsonb)')$$),
	($$register_upcaster('t', 2, 'public.upcast(jsonb)')$$), ($$unregister_upcaster('t', 2)$$), ('confirm_code()'),
	($$track_history('{total_balance}', '30 days')$$), ('untrack_history()'),
	($$create_segment('vip', 'total_balance > 1')$$), ($$alter_segment('vip', predicate => 'total_balance > 2')$$), ($$drop_segment('vip')$$),
	('set_score_function(NULL)'), ($$serve_profile('c')$$);
SELECT call, outcome FROM (SELECT call, public.refused('SELECT profile_stream.' || call) AS outcome FROM public.calls) c WHERE outcome <> 'refused';
-- what reads through the store
SELECT call, public.refused('SELECT profile_stream.' || call) FROM unnest(ARRAY['get_profile(''c'')', 'get_profiles(''{c}'')', 'export_customer(''c'')', 'profile_bookmark()',
	'profiles_changed_since(''1-1-1-1'')', 'training_set(''SELECT customer_id, now() AS as_of FROM profile_stream.materialized_profiles'')']) call;
-- every function that may write is above, or is one of these that write no table of the extension
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'profile_stream'::regnamespace AND provolatile = 'v' AND prokind = 'f'
	AND NOT EXISTS (SELECT FROM public.calls WHERE starts_with(call, proname || '('))
	AND proname NOT IN ('version', 'test_connection', 'test_redis', 'test_handler', 'lock_customer', 'try_lock_customer', 'create_profile_view', 'create_cluster_view', 'drop_cluster_view', 'cluster_check', 'set_score_settings', 'reset_score_settings', 'distribute', 'undistribute', 'move_dead_letters')
ORDER BY 1;
-- procedures, which commit
CALL profile_stream.backfill('s', 'SELECT 1');
CALL profile_stream.refresh_scores();
CALL profile_stream.refresh_segments();
CALL profile_stream.await_stream('s');
CALL profile_stream.await_offset('s', 0, 0);
SELECT count(*) FROM pg_proc WHERE pronamespace = 'profile_stream'::regnamespace AND prokind = 'p';

-- nothing was written, and all goes on once it is local again
SELECT customer_id, version FROM profile_stream.materialized_profiles;
SELECT public.undistribute();
SELECT profile_stream.apply_event('{"eventId": "e2", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}');
SELECT version FROM profile_stream.materialized_profiles;

DROP TABLE pg_catalog.pg_dist_partition;
SELECT profile_stream.forget_customer('c');
DROP FUNCTION public.distribute, public.undistribute, public.refused, public.handle, public.upcast;
DROP TABLE public.calls;
