-- Who may use what: every object and setting of the extension with the decision about it, and each role trying what it may not.
-- An object that is added shows as undecided below until a line here names it.
SET client_min_messages = warning;
SET search_path = public;
SELECT current_database() AS home \gset
CREATE ROLE regress_nobody;
CREATE ROLE regress_reader IN ROLE profile_stream_reader;
CREATE ROLE regress_operator IN ROLE profile_stream_operator;
CREATE ROLE regress_rival IN ROLE profile_stream_operator;
CREATE ROLE regress_monitor IN ROLE profile_stream_monitor;
CREATE ROLE regress_bi IN ROLE profile_stream_bi;
CREATE ROLE regress_support IN ROLE profile_stream_support;
CREATE ROLE regress_app;
CREATE ROLE regress_dbowner;
SELECT datdba::regrole AS dba FROM pg_database WHERE datname = current_database() \gset
ALTER DATABASE :"home" OWNER TO regress_dbowner;
SELECT profile_stream.prune_metrics() IS NOT NULL AS loaded;

CREATE TEMP TABLE roles AS SELECT 'regress_' || r AS role FROM unnest('{nobody,reader,operator,dbowner,monitor,bi,support}'::text[]) r;
CREATE TEMP TABLE decisions (kind text, schema text, who text, names text);
INSERT INTO decisions VALUES
-- nobody else than functions writes a table; who reads it, and views:
('relation', 'profile_stream', 'reader', 'dead_letters definitions materialized_profiles metric_totals node_dead_letters node_health node_partitions node_score_refresh node_sinks node_streams node_topics profile_documents profile_metrics profiles segment_changes segment_counts segment_members stat_backfills stat_code stat_partitions
	stat_score_refresh stat_sinks stat_sources stat_streams stat_topics stat_workers stream_log streams'),
('relation', 'profile_stream', 'operator', 'stat_rebuilds'),
-- who watches and who analyses
('relation', 'profile_stream', 'reader', 'bi_profiles stat_storage'),
('relation', 'profile_stream', 'support', 'masked_profiles'),
('routine', 'profile_stream_internal', 'support', 'masked'),
('definer', 'profile_stream_internal', 'support', 'masked'),
-- an event trigger runs for whoever creates a table
('definer', 'profile_stream_internal', 'superuser', 'grant_on_shard'),
-- they are called by functions of the same name, whose rights count
('definer', 'profile_stream_internal', 'superuser', 'reset_score_settings set_score_settings'),
('routine', 'profile_stream_internal', 'superuser', 'reset_score_settings set_score_settings'),
('routine', 'profile_stream_internal', 'operator', 'refresh_scores refresh_segments'),
('routine', 'profile_stream', 'reader', 'health monitor_log monitor_partitions monitor_sinks monitor_streams monitor_workers storage_days_left'),
('routine', 'profile_stream', 'superuser', 'distribute undistribute move_dead_letters'),
('routine', 'profile_stream_internal', 'superuser', 'hide_error server_problems stream_problems work_problems'),
('definer', 'profile_stream', 'reader', 'health monitor_log monitor_partitions monitor_sinks monitor_streams monitor_workers storage_days_left'),
('definer', 'profile_stream_internal', 'reader', 'oldest_rows'),
('columns', 'profile_stream', 'reader', 'materialized_profiles.customer_id materialized_profiles.version materialized_profiles.updated_at materialized_profiles.first_event_at materialized_profiles.watermark
	materialized_profiles.total_balance materialized_profiles.account_count materialized_profiles.last_transaction_at materialized_profiles.last_login_at
	materialized_profiles.preferred_channel materialized_profiles.segment materialized_profiles.churn_risk_score materialized_profiles.lifetime_value
	materialized_profiles.scored_at materialized_profiles.event_counts materialized_profiles.window_state materialized_profiles.xmin'),
-- parts, of which readers see what views and functions show
('relation', 'profile_stream_internal', 'reader', 'attribute_maps backfills coordinator_calls code_definitions confirmed_code dead_letter_outbox dead_letters event_handlers event_id_chunks event_ids event_upcasters history_columns history_settings profile_history metric_series metrics disks partition_lags process_counters
	score_function score_parameters score_passes score_refresh score_settings segment_checks segment_day_counts segment_fills segments shard_offsets sink_status storage_samples poison_messages stream_decoders stream_gaps stream_leases stream_offsets stream_seeks stream_sinks stream_status stream_topics window_chunks'),
('relation', 'profile_stream_internal', 'operator', 'blocked_customers blocking_salt outbox seeds sink_pending stream_rebuilds'),
('relation', 'profile_stream_rebuild', 'operator', 'dead_letters event_id_chunks materialized_profiles profile_history stream_gaps stream_offsets stream_status window_chunks'),
-- some columns of what only operators read
('columns', 'profile_stream_internal', 'reader', 'outbox.stream_id outbox.sink outbox.outbox_id outbox.customers outbox.changed_at sink_pending.stream_id sink_pending.sink sink_pending.pending_id sink_pending.changed_at'),
('relation', 'profile_stream_internal', 'superuser', 'database_secret event_id_keys'),
('sequence', 'profile_stream', 'superuser', 'segment_changes_change_id_seq stream_log_log_id_seq streams_stream_id_seq'),
('sequence', 'profile_stream_internal', 'superuser', 'attribute_maps_map_id_seq dead_letters_dead_letter_id_seq event_handlers_handler_id_seq bootstrap_seq metric_series_series_id_seq
	outbox_outbox_id_seq segments_segment_id_seq sink_pending_pending_id_seq'),
('sequence', 'profile_stream_rebuild', 'superuser', 'dead_letters_dead_letter_id_seq'),
('routine', 'profile_stream', 'reader', 'attribute_time await_offset cluster_profile commit_time create_profile_view kafka_partition decode_message default_scores get_profile get_profiles profiles_at training_set metric_days metric_trend metric_value notification_channel profile_bookmark
	profiles_changed_since segment_channel serve_profile version wait_for_offset window_value'),
('routine', 'profile_stream', 'operator', 'alter_segment alter_stream cluster_check create_cluster_view drop_cluster_view apply_event apply_event_returning apply_events await_stream backfill cancel_rebuild confirm_code create_metric create_segment create_stream
	discard_dead_letters drop_backfill drop_metric drop_segment drop_stream export_customer forget_customer lock_customer map_attribute
	pause_rebuild pause_stream prune_metrics prune_slice rebuild rebuild_diff reconcile resync_sink refresh_scores refresh_segments
	register_handler register_upcaster reset_score_settings resume_rebuild resume_stream retry_dead_letters seed_profile seek_stream set_score_function
	set_score_settings start_streams swap_rebuild track_history untrack_history test_connection test_handler test_redis try_lock_customer unblock_customer unmap_attribute
	unregister_handler unregister_upcaster flush_stream stat_reset wait_for_stream'),
('routine', 'profile_stream_internal', 'reader', 'changed_since get_profiles metric_days node_bookmark profile_bookmark profiles_at profiles_changed_since bookmark_horizon check_cluster_view cluster_mark is_cluster_view read_cluster_profile to_profile_event check_days chunk_samples code_state current_cluster dead_letter_json dead_letter_text xid_at_or_after json_timestamp
	sink_backlog lease_holder is_distributed rows_of_nodes table_sizes library_warning metric_series metric_values open_event_ids partition_name topic_format oldest_rows file_systems process_meters process_waits profile_days profile_document profile_document_at reads_partition node_reached reported_partitions sealed_event_ids source_counts window_count window_state_samples window_state_totals window_samples'),
('routine', 'profile_stream_internal', 'operator', 'has_customer run_for_customer run_on_all_nodes reconcile resync_sink check_no_transaction export_customer forget_customer joined_exports prune_metrics run_on_this_node unblock_customer check_cluster_servers run_coordinator_call cluster_columns cluster_differences cluster_facts cluster_object cluster_readers cluster_relations cluster_source drop_cluster_relations make_cluster_relation
	dead_letter_relation dead_letter_matches decoded_values lock_dead_letters contains_id message_customer event_time retry_events node_of_event settle_dead_letters
	window_expired redact_id'),
('routine', 'profile_stream_internal', 'superuser', 'has_no_shards number_dead_letters take_dead_letters oldest_change on_nodes grant_on_shard make_event_triggers grant_on_shards prepare_nodes raise_failed send_event_id_key column_readers send_blocked_customers take_blocked_customers add_sources add_slots part_outbox check_coordinator check_nodes check_no_definitions forget_coordinator_calls refuse_drop send_coordinator_calls sharded_tables definition_written event_id_hash event_ids_sealed_to guard_confirmed kafka_validator keep_secret make_history_part redis_validator replace_event_id_key rules_changed same_event_ids'),
('routine', 'profile_stream_rebuild', 'operator', 'metric_values window_value'),
('type', 'profile_stream_internal', 'public', 'day_bucket'),
('wrapper', '', 'superuser', 'profile_stream_kafka profile_stream_redis'),
('schema', '', 'reader', 'profile_stream'),
('schema', '', 'operator', 'profile_stream_internal profile_stream_rebuild'),
-- in postgresql.conf alone, or by SET of superusers too
('setting', '', 'superuser', 'profile_stream.batch_customers profile_stream.cluster profile_stream.dead_letter_bytes profile_stream.dead_letter_retention profile_stream.direct_access profile_stream.enabled
	profile_stream.handler_timeout profile_stream.max_clock_skew profile_stream.max_event_bytes profile_stream.max_workers profile_stream.notify_queue_limit
	profile_stream.reorder_memory profile_stream.sample_retention profile_stream.score_interval profile_stream.segment_change_retention profile_stream.segment_count_retention profile_stream.segment_timeout
	profile_stream.synchronous_commit profile_stream.worker_restart_limit');
CREATE TEMP VIEW decided AS SELECT kind, schema, who, n AS name FROM decisions, regexp_split_to_table(names, '\s+') n;
-- what is decided for readers, and these may use as well
CREATE TEMP TABLE shared (kind text, schema text, who text, names text);
INSERT INTO shared VALUES
('relation', 'profile_stream', 'monitor', 'stat_storage node_health node_partitions node_sinks node_streams'),
('relation', 'profile_stream_internal', 'monitor', 'storage_samples'),
('routine', 'profile_stream_internal', 'monitor', 'is_distributed oldest_rows rows_of_nodes table_sizes'),
('definer', 'profile_stream_internal', 'monitor', 'oldest_rows'),
('routine', 'profile_stream', 'monitor', 'health monitor_log monitor_partitions monitor_sinks monitor_streams monitor_workers storage_days_left version'),
('definer', 'profile_stream', 'monitor', 'health monitor_log monitor_partitions monitor_sinks monitor_streams monitor_workers storage_days_left'),
('schema', '', 'monitor', 'profile_stream'),
('relation', 'profile_stream', 'bi', 'bi_profiles segment_changes segment_counts'),
('columns', 'profile_stream', 'bi', (SELECT names FROM decisions WHERE kind = 'columns' AND schema = 'profile_stream')),
('relation', 'profile_stream_internal', 'bi', 'metrics metric_series segment_day_counts shard_offsets window_chunks'),
('routine', 'profile_stream', 'bi', 'commit_time metric_days metric_trend metric_value profile_bookmark profiles_changed_since window_value'),
('routine', 'profile_stream_internal', 'bi', 'bookmark_horizon changed_since metric_days node_bookmark profile_bookmark profiles_changed_since check_days chunk_samples metric_series metric_values profile_days window_count window_samples window_state_samples window_state_totals xid_at_or_after'),
('schema', '', 'bi', 'profile_stream');
-- support has what analysts have
INSERT INTO shared SELECT kind, schema, 'support', names FROM shared WHERE who = 'bi';
CREATE TEMP VIEW expected AS
	SELECT d.kind, d.schema, d.name, d.who, r.role, CASE
			WHEN d.who = 'public' OR r.role = 'regress_' || d.who THEN true
			WHEN d.who = 'reader' AND r.role = 'regress_operator' THEN true
			ELSE EXISTS (SELECT FROM shared s, regexp_split_to_table(s.names, '\s+') n WHERE (s.kind, s.schema, n, 'regress_' || s.who) = (d.kind, d.schema, d.name, r.role)) END AS has
	FROM decided d, roles r;

-- what there is, and who has the right that counts
CREATE TEMP VIEW rights AS
	SELECT 'relation' AS kind, n.nspname::text AS schema, c.relname::text AS name, r.role, has_table_privilege(r.role, c.oid, 'SELECT') AS has
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, roles r WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname ~ '^profile_stream'
	UNION ALL SELECT 'columns', n.nspname, c.relname || '.' || a.attname, r.role, has_column_privilege(r.role, c.oid, a.attnum, 'SELECT')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid, roles r WHERE n.nspname ~ '^profile_stream' AND a.attacl IS NOT NULL
	UNION ALL SELECT 'sequence', n.nspname, c.relname, r.role, has_sequence_privilege(r.role, c.oid, 'USAGE, SELECT, UPDATE')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, roles r WHERE c.relkind = 'S' AND n.nspname ~ '^profile_stream'
	UNION ALL SELECT 'routine', n.nspname, p.proname, r.role, has_function_privilege(r.role, p.oid, 'EXECUTE')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, roles r WHERE n.nspname ~ '^profile_stream'
	UNION ALL SELECT 'type', n.nspname, t.typname, r.role, has_type_privilege(r.role, t.oid, 'USAGE')
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid, roles r
		WHERE n.nspname ~ '^profile_stream' AND t.typelem = 0 AND (c.relkind IS NULL OR c.relkind = 'c')
	UNION ALL SELECT 'wrapper', '', w.fdwname, r.role, has_foreign_data_wrapper_privilege(r.role, w.oid, 'USAGE') FROM pg_foreign_data_wrapper w, roles r WHERE w.fdwname ~ '^profile_stream'
	UNION ALL SELECT 'schema', '', n.nspname, r.role, has_schema_privilege(r.role, n.oid, 'USAGE') FROM pg_namespace n, roles r WHERE n.nspname ~ '^profile_stream'
	UNION ALL SELECT 'setting', '', s.name, r.role, s.context NOT IN ('superuser', 'sighup', 'postmaster', 'internal') FROM pg_settings s, roles r WHERE s.name ~ '^profile_stream\.' AND s.name !~ 'failpoint' -- of a build for tests
	UNION ALL SELECT 'definer', n.nspname, p.proname, r.role, has_function_privilege(r.role, p.oid, 'EXECUTE')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, roles r WHERE n.nspname ~ '^profile_stream' AND p.prosecdef;

SELECT DISTINCT kind, schema, name AS undecided FROM rights r WHERE NOT EXISTS (SELECT FROM decided d WHERE (d.kind, d.schema, d.name) = (r.kind, r.schema, r.name)) ORDER BY 1, 2, 3;
SELECT kind, schema, name AS missing FROM decided d WHERE NOT EXISTS (SELECT FROM rights r WHERE (d.kind, d.schema, d.name) = (r.kind, r.schema, r.name)) ORDER BY 1, 2, 3;
SELECT e.kind, e.schema, e.name, e.who AS decided, r.role, r.has FROM expected e JOIN rights r USING (kind, schema, name, role) WHERE r.has <> e.has ORDER BY 1, 2, 3, 5;
SELECT * FROM shared s, regexp_split_to_table(s.names, '\s+') n WHERE NOT EXISTS (SELECT FROM decided d WHERE (d.kind, d.schema, d.name) = (s.kind, s.schema, n));
-- a decision is about a name: no other function has it
SELECT n.nspname, p.proname AS overloaded FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname ~ '^profile_stream' GROUP BY 1, 2 HAVING count(*) > 1;
-- the kinds of objects that the extension has, all of which are above
SELECT DISTINCT classid::regclass::text AS kinds FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'profile_stream') ORDER BY 1;
-- rights to write, on a column too
SELECT c.oid::regclass AS relation, r.role, p.right FROM pg_class c, roles r, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p ("right")
WHERE c.relnamespace IN ('profile_stream'::regnamespace, 'profile_stream_internal'::regnamespace, 'profile_stream_rebuild'::regnamespace) AND c.relkind IN ('r', 'v')
	AND (has_table_privilege(r.role, c.oid, p.right) OR (p.right IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r.role, c.oid, p.right)));
-- views show what their reader may see; what runs with its owner's rights has a path of its own
SELECT c.oid::regclass AS with_rights_of_its_owner FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace::regnamespace::text ~ '^profile_stream'
	AND 'security_invoker=true' <> ALL (COALESCE(c.reloptions, '{}'));
SELECT p.oid::regproc AS without_path FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND p.prosecdef
	AND 'search_path=pg_catalog, pg_temp' <> ALL (COALESCE(p.proconfig, '{}'));

-- a statement as a role, and taken back: 'done' or the SQLSTATE
CREATE FUNCTION pg_temp.try(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE statement;
	RAISE SQLSTATE 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN 'done';
WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT pg_temp.try('regress_reader', 'SELECT FROM profile_stream.profiles') AS may, pg_temp.try('regress_nobody', 'SELECT FROM profile_stream.profiles') AS may_not;

CREATE TEMP TABLE tables AS SELECT c.oid::regclass::text AS name, c.relkind AS kind, n.nspname::text AS schema, c.relname::text AS relname, quote_ident(a.attname) AS col
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
	WHERE n.nspname ~ '^profile_stream' AND c.relkind IN ('r', 'v');
CREATE TEMP TABLE tried AS
	SELECT t.name, r.role, s.statement, pg_temp.try(r.role, format(s.statement, t.name, t.col)) AS ended
	FROM tables t, roles r, unnest(ARRAY['INSERT INTO %s DEFAULT VALUES', 'UPDATE %s SET %s = NULL', 'DELETE FROM %s', 'TRUNCATE %s', 'LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE',
		'SELECT FROM %s FOR UPDATE', 'ALTER TABLE %s RENAME TO mine', 'COMMENT ON COLUMN %s.%s IS NULL', 'CREATE INDEX ON %s (%s)',
		'ALTER TABLE %s ENABLE ROW LEVEL SECURITY', 'CREATE POLICY mine ON %s', 'CREATE PUBLICATION mine FOR TABLE %s', 'CREATE RULE mine AS ON INSERT TO %s DO NOTHING',
		'CREATE TRIGGER mine AFTER INSERT ON %s EXECUTE FUNCTION suppress_redundant_updates_trigger()']) s (statement)
	WHERE t.kind = 'r' OR s.statement ~ 'INSERT INTO|UPDATE|DELETE|RENAME';
SELECT count(*) > 1000 AS many, count(*) FILTER (WHERE ended = 'done') AS done FROM tried;
-- a view that cannot be written says so first
SELECT name, role, statement, ended FROM tried JOIN tables USING (name) WHERE ended <> '42501' AND NOT (kind = 'v' AND ended IN ('55000', '0A000')) ORDER BY 1, 2, 3;
SELECT t.name, r.role, pg_temp.try(r.role, 'SELECT * FROM ' || t.name) AS reading
FROM tables t JOIN expected r ON r.kind = 'relation' AND (r.schema, r.name) = (t.schema, t.relname)
WHERE (pg_temp.try(r.role, 'SELECT * FROM ' || t.name) = 'done') <> (r.has AND (t.schema = 'profile_stream' OR r.role = 'regress_operator')) ORDER BY 1, 2;
SELECT c.oid::regclass AS sequence, r.role FROM pg_class c, roles r WHERE c.relkind = 'S' AND c.relnamespace::regnamespace::text ~ '^profile_stream'
	AND pg_temp.try(r.role, format('SELECT setval(%L, 1)', c.oid::regclass)) <> '42501';
-- functions of whom they are not for, with arguments that nobody knows while it plans
CREATE TEMP TABLE called AS
	SELECT p.oid::regprocedure AS routine, r.role, pg_temp.try(r.role, CASE p.prokind WHEN 'p' THEN format('CALL %s(%s)', p.oid::regproc, c.nulls)
		ELSE format('SELECT %s(%s) FROM (SELECT %s OFFSET 0) a', p.oid::regproc, c.names, c.nulls) END) AS ended
	FROM pg_proc p JOIN decided d ON d.kind = 'routine' AND d.name = p.proname AND d.schema = p.pronamespace::regnamespace::text
		CROSS JOIN LATERAL (SELECT string_agg('a' || n, ', ' ORDER BY n) AS names, string_agg(format(CASE p.prokind WHEN 'p' THEN 'NULL::%s' ELSE 'NULL::%s AS a%s' END, t::regtype, n), ', ' ORDER BY n) AS nulls
			FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)) c
		JOIN expected r ON (r.kind, r.schema, r.name) = (d.kind, d.schema, d.name)
	WHERE (NOT r.has OR (r.schema <> 'profile_stream' AND r.role <> 'regress_operator')) AND 'internal'::regtype <> ALL (p.proargtypes);
SELECT count(*) > 200 AS many, count(*) FILTER (WHERE ended = '42501') > 200 AS refused FROM called;
SELECT * FROM called WHERE ended <> '42501' ORDER BY 1, 2;
SELECT r.role, p.oid::regprocedure AS taken FROM pg_proc p, roles r WHERE p.pronamespace::regnamespace::text ~ '^profile_stream'
	AND pg_temp.try(r.role, format('ALTER ROUTINE %s RENAME TO mine', p.oid::regprocedure)) <> '42501';
-- settings
SELECT s.name, r.role, pg_temp.try(r.role, format('SET %s = %L', s.name, s.setting)) AS ended FROM pg_settings s, roles r
WHERE s.name ~ '^profile_stream\.' AND pg_temp.try(r.role, format('SET %s = %L', s.name, s.setting)) NOT IN ('42501', '55P02');
-- whose database it is has the database, not the extension
SELECT s.statement, pg_temp.try('regress_dbowner', s.statement) FROM unnest(ARRAY[
	'CREATE SCHEMA profile_stream_mine', 'DROP EXTENSION profile_stream', 'ALTER EXTENSION profile_stream UPDATE', 'ALTER EXTENSION profile_stream DROP TABLE profile_stream.streams',
	'ALTER SCHEMA profile_stream RENAME TO mine', 'ALTER SCHEMA profile_stream_rebuild RENAME TO mine', 'DROP SCHEMA profile_stream CASCADE', 'ALTER SCHEMA profile_stream OWNER TO regress_dbowner',
	'CREATE FUNCTION profile_stream.f() RETURNS int LANGUAGE sql RETURN 1', 'CREATE TABLE profile_stream_rebuild.t ()', 'CREATE OPERATOR profile_stream.<> (leftarg = oid, rightarg = int4, function = int4eq)',
	'CREATE OR REPLACE VIEW profile_stream.profiles AS SELECT 1', 'CREATE SERVER mine FOREIGN DATA WRAPPER profile_stream_kafka', 'ALTER FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (a $$b$$)',
	'CREATE PUBLICATION mine FOR ALL TABLES', 'CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'ALTER DATABASE ' || :'home' || ' SET profile_stream.max_event_bytes = $$1MB$$', 'GRANT profile_stream_operator TO regress_dbowner',
	'ALTER TYPE profile_stream_internal.day_bucket ADD ATTRIBUTE a int', 'COMMENT ON EXTENSION profile_stream IS NULL']) WITH ORDINALITY s (statement, n) ORDER BY n;

-- row security: what is hidden is hidden on every way to a profile, once the tables beside it have the policy that the manual gives
CREATE FUNCTION public.ev(id text, customer text, type text DEFAULT 'transaction.completed') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'timestamp', now() - interval '1 hour', 'payload', '{"amount": 5, "tier": "gold"}'::jsonb) $$;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
SELECT profile_stream.map_attribute('transaction.completed', 'tier', '$.tier');
SELECT profile_stream.track_history('{tier}', '30 days');
SELECT profile_stream.create_metric('regress_spent', 'transaction.completed', '1 day', '$.amount', 'sum');
SELECT DISTINCT profile_stream.apply_event(public.ev(n || c, c)) FROM unnest('{mine,theirs}'::text[]) c, generate_series(1, 300) n;
SELECT customer_id, count(*) > 0 AS chunks FROM profile_stream_internal.window_chunks GROUP BY 1 ORDER BY 1;
SELECT profile_stream.apply_event(jsonb_set(public.ev('dead', c), '{timestamp}', '"never"')) FROM unnest('{mine,theirs}'::text[]) c;
UPDATE profile_stream_internal.dead_letters SET customer_id = profile_stream_internal.dead_letter_json(value) ->> 'customerId';
INSERT INTO profile_stream_rebuild.materialized_profiles SELECT * FROM profile_stream.materialized_profiles;
SELECT profile_stream.create_profile_view('public.regress_view', '{tier}', '{regress_spent}');
GRANT SELECT ON public.regress_view TO regress_reader, regress_operator;
SELECT profile_stream.create_segment('regress_all', 'true');
CALL profile_stream.refresh_segments();
CREATE TEMP TABLE ways AS SELECT * FROM (VALUES (1, 'materialized_profiles', 'SELECT FROM profile_stream.materialized_profiles'), (2, 'profiles', 'SELECT FROM profile_stream.profiles'),
	(3, 'profile_documents', 'SELECT FROM profile_stream.profile_documents'),
	(5, 'create_profile_view()', 'SELECT FROM public.regress_view'), (6, 'profiles_changed_since()', 'SELECT FROM profile_stream.profiles_changed_since()'),
	(7, 'get_profile()', 'SELECT FROM unnest(''{mine,theirs}''::text[]) c WHERE profile_stream.get_profile(c) IS NOT NULL'),
	(8, 'metric_value()', 'SELECT FROM unnest(''{mine,theirs}''::text[]) c WHERE profile_stream.metric_value(c, ''transaction_count_30d'') > 0'),
	(9, 'metric_trend()', 'SELECT FROM unnest(''{mine,theirs}''::text[]) c, profile_stream.metric_trend(c, ''transaction_count_30d'', current_date - 2, current_date + 1) LIMIT 2'),
	(10, 'window_value()', 'SELECT FROM unnest(''{mine,theirs}''::text[]) c WHERE profile_stream.window_value(c, (SELECT window_state FROM profile_stream.materialized_profiles ORDER BY customer_id LIMIT 1), ''transaction_count_30d'', now()) > 299'),
	(11, 'window_chunks', 'SELECT DISTINCT customer_id FROM profile_stream_internal.window_chunks'), (12, 'event_ids', 'SELECT DISTINCT customer_id FROM profile_stream_internal.event_ids'),
	(13, 'dead_letters', 'SELECT FROM profile_stream.dead_letters'),
	(14, 'get_profiles()', 'SELECT FROM profile_stream.get_profiles(''{mine,theirs}'')'),
	(15, 'metric_days()', 'SELECT DISTINCT customer_id FROM profile_stream.metric_days(''transaction_count_30d'', current_date - 2, current_date + 1)'),
	(16, 'segment_members', 'SELECT FROM profile_stream.segment_members'), (17, 'segment_changes', 'SELECT FROM profile_stream.segment_changes'),
	(22, 'profiles_at()', 'SELECT FROM profile_stream.profiles_at(now())'), (23, 'profile_history', 'SELECT FROM profile_stream_internal.profile_history'),
	(18, 'the shadow', 'SELECT FROM profile_stream_rebuild.materialized_profiles'), (19, 'outbox', 'SELECT customer_ids FROM profile_stream_internal.outbox'), (20, 'sink_pending', 'SELECT customer_id FROM profile_stream_internal.sink_pending'),
	(21, 'export_customer()', 'SELECT FROM unnest(''{mine,theirs}''::text[]) c WHERE profile_stream.export_customer(c) ->> ''profile'' IS NOT NULL')) w (n, way, query);
CREATE FUNCTION pg_temp.shown(role text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE format('SELECT count(*) FROM (%s) q', query) INTO result;
	RAISE SQLSTATE 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN result;
WHEN insufficient_privilege THEN
	RETURN 'denied';
END $$;
CREATE TEMP TABLE before AS SELECT n, way, pg_temp.shown('regress_reader', query) AS reader, pg_temp.shown('regress_operator', query) AS operator FROM ways;
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON profile_stream.materialized_profiles TO PUBLIC USING (customer_id LIKE 'mine%');
CREATE TEMP TABLE profiles_hidden AS SELECT n, pg_temp.shown('regress_reader', query) AS reader, pg_temp.shown('regress_operator', query) AS operator FROM ways;
DO $$
DECLARE name text;
BEGIN
	FOREACH name IN ARRAY '{profile_stream_internal.window_chunks,profile_stream_internal.event_id_chunks,profile_stream_internal.dead_letters,profile_stream_internal.profile_history,profile_stream.segment_members,profile_stream.segment_changes}'::text[] LOOP
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY as_profiles ON %1$s USING (EXISTS (SELECT FROM profile_stream.materialized_profiles p WHERE p.customer_id = %1$s.customer_id))', name);
	END LOOP;
END $$;
SELECT b.way, b.reader AS reader_without, h.reader AS reader_profiles_only, pg_temp.shown('regress_reader', w.query) AS reader_all,
	b.operator AS operator_without, h.operator AS operator_profiles_only, pg_temp.shown('regress_operator', w.query) AS operator_all
FROM ways w JOIN before b USING (n) JOIN profiles_hidden h USING (n) ORDER BY n;
-- a reader names no part, and yet reads it through functions: also when a statement is analysed anew, and with a reader's rights
SET ROLE regress_reader;
SELECT profile_stream.metric_value('mine', 'transaction_count_30d') AS mine, profile_stream.metric_value('theirs', 'transaction_count_30d') AS hidden;
RESET ROLE;
ALTER TABLE profile_stream_internal.window_chunks ALTER samples SET STATISTICS 1;
SET ROLE regress_reader;
SELECT profile_stream.metric_value('mine', 'transaction_count_30d') AS mine, profile_stream.metric_value('theirs', 'transaction_count_30d') AS hidden;
RESET ROLE;
REVOKE SELECT ON profile_stream_internal.window_chunks FROM profile_stream_reader;
SET ROLE regress_reader;
\set VERBOSITY terse
SELECT profile_stream.metric_value('mine', 'transaction_count_30d');
\set VERBOSITY default
SELECT current_user;
RESET ROLE;
GRANT SELECT ON profile_stream_internal.window_chunks TO profile_stream_reader;
ALTER TABLE profile_stream_internal.window_chunks ALTER samples SET STATISTICS 0;

-- applying writes as the owner of the tables, whatever the policies
SET ROLE regress_operator;
SELECT profile_stream.apply_event(public.ev('more', c)) FROM unnest('{mine,theirs}'::text[]) c;
-- an operator repairs the letters that it sees, and no other
SELECT applied, failed FROM profile_stream.retry_dead_letters(patch => '{"timestamp": "2026-01-01T00:00:00Z"}');
SELECT profile_stream_internal.settle_dead_letters(ARRAY(SELECT generate_series(1, 10000)::bigint), (SELECT jsonb_agg(jsonb_build_object('ordinal', n, 'outcome', 'applied')) FROM generate_series(1, 10000) n));
SELECT profile_stream.discard_dead_letters();
RESET ROLE;
SELECT customer_id, attempts FROM profile_stream.dead_letters;
SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'theirs';
DROP POLICY mine ON profile_stream.materialized_profiles;
DO $$
DECLARE name text;
BEGIN
	FOREACH name IN ARRAY '{profile_stream_internal.window_chunks,profile_stream_internal.event_id_chunks,profile_stream_internal.dead_letters,profile_stream_internal.profile_history,profile_stream.segment_members,profile_stream.segment_changes}'::text[] LOOP
		EXECUTE format('DROP POLICY as_profiles ON %s', name);
		EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', name);
	END LOOP;
END $$;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;
SELECT profile_stream.untrack_history();

-- an application that may apply and nothing else; a trigger of the table's owner runs as its owner, deferred ones too
GRANT USAGE ON SCHEMA profile_stream TO regress_app;
GRANT EXECUTE ON FUNCTION profile_stream.apply_event, profile_stream.apply_events TO regress_app;
CREATE TABLE public.regress_seen (by name);
CREATE FUNCTION public.regress_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.regress_seen VALUES (current_user); RETURN NULL; END $$;
CREATE FUNCTION public.regress_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.regress_note();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON profile_stream.materialized_profiles DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.regress_nothing();
SET ROLE regress_app;
SELECT profile_stream.apply_event(public.ev('app', 'mine')), profile_stream.apply_events(ARRAY[public.ev('app2', 'app'), public.ev('app2', 'app')]);
SELECT FROM profile_stream.materialized_profiles;
RESET ROLE;
SELECT by = c.relowner::regrole::name AS by_owner FROM public.regress_seen, pg_class c WHERE c.oid = 'profile_stream.materialized_profiles'::regclass;
DROP FUNCTION public.regress_note CASCADE;
DROP FUNCTION public.regress_nothing CASCADE;
DROP TABLE public.regress_seen;
REVOKE ALL ON FUNCTION profile_stream.apply_event, profile_stream.apply_events FROM regress_app;
REVOKE USAGE ON SCHEMA profile_stream FROM regress_app;

-- what a table says does not become a statement: first a check refuses it, then the function that reads it
\set VERBOSITY terse
UPDATE profile_stream_internal.attribute_maps SET type = 'numeric END AS tier FROM profile_stream.materialized_profiles p; SELECT 1/0; --' WHERE attribute = 'tier';
UPDATE profile_stream_internal.attribute_maps SET operation = 'run' WHERE attribute = 'tier';
UPDATE profile_stream_internal.metrics SET aggregate = 'count(*)' WHERE name = 'regress_spent';
UPDATE profile_stream_internal.metrics SET name = 'a"version"' WHERE name = 'regress_spent';
BEGIN;
ALTER TABLE profile_stream_internal.attribute_maps DROP CONSTRAINT attribute_maps_type_check;
UPDATE profile_stream_internal.attribute_maps SET type = 'numeric END AS tier FROM profile_stream.materialized_profiles p; SELECT 1/0; --' WHERE attribute = 'tier';
SELECT profile_stream.create_profile_view('public.regress_view', '{tier}');
ROLLBACK;

UPDATE profile_stream_internal.segments SET predicate = 'false) OR (current_user <> $$$$' WHERE name = 'regress_all';
SELECT profile_stream.confirm_code('segment', 'regress_all');
CALL profile_stream.refresh_segments('regress_all');
SELECT error FROM profile_stream_internal.segments WHERE name = 'regress_all';

-- an operator's streams are its own: the same functions refuse another operator
INSERT INTO profile_stream.streams (name, owner, bootstrap_servers, topic, group_id, start_from, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify_channel, notify, options, redis, created_at)
	VALUES ('regress_own', 'regress_rival', 'none', 't', 'g', 'earliest', 1, '0', '0', 'stop', 'c', 'off', '{}', 'none', now());
SELECT call, pg_temp.try('regress_operator', 'SELECT profile_stream.' || call) FROM unnest(ARRAY['pause_stream(''regress_own'')', 'resume_stream(''regress_own'')', 'drop_stream(''regress_own'')',
	'alter_stream(''regress_own'', batch_size => 2)', 'seek_stream(''regress_own'', ''earliest'')', 'resync_sink(''regress_own'', ''redis'')', 'wait_for_stream(''regress_own'')', 'flush_stream(''regress_own'')',
	'rebuild(''regress_own'')', 'pause_rebuild(''regress_own'')', 'resume_rebuild(''regress_own'')', 'cancel_rebuild(''regress_own'')', 'rebuild_diff(''regress_own'')', 'swap_rebuild(''regress_own'')',
	'create_metric(''regress_m'', ''t'', ''1 day'', backfill => ''regress_own'')']) WITH ORDINALITY c (call, n) ORDER BY n;
SELECT profile_stream.drop_stream('regress_own');
-- who may call create_stream() but is no operator has no stream
GRANT USAGE ON SCHEMA profile_stream TO regress_nobody;
GRANT EXECUTE ON FUNCTION profile_stream.create_stream TO regress_nobody;
SET ROLE regress_nobody;
SELECT profile_stream.create_stream('regress_own');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION profile_stream.create_stream FROM regress_nobody;
REVOKE USAGE ON SCHEMA profile_stream FROM regress_nobody;

-- settings of scores are an operator's, by functions
SET ROLE regress_operator;
SELECT profile_stream.set_score_settings(margin => 0.4), profile_stream.set_score_settings(champion_value => 200, half_gaps => 1);
SELECT margin, champion_value, half_gaps, new_days FROM profile_stream_internal.score_parameters;
SELECT profile_stream.set_score_settings(monthly_retention => 1);
SELECT profile_stream.reset_score_settings();
SELECT count(*) FROM profile_stream_internal.score_settings;
RESET ROLE;

SELECT profile_stream.drop_segment('regress_all'), profile_stream.drop_metric('regress_spent'), profile_stream.unmap_attribute('transaction.completed', 'tier');
DROP VIEW public.regress_view;
DROP FUNCTION public.ev;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_rebuild.materialized_profiles, profile_stream.segment_changes;
ALTER DATABASE :"home" OWNER TO :"dba";
DROP OWNED BY regress_nobody, regress_reader, regress_operator, regress_rival, regress_app, regress_dbowner, regress_monitor, regress_bi, regress_support;
DROP ROLE regress_nobody, regress_reader, regress_operator, regress_rival, regress_app, regress_dbowner, regress_monitor, regress_bi, regress_support;
