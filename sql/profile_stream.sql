-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION profile_stream" to load this file. \quit

-- roles: cluster-wide, so they may exist already

DO $$
DECLARE
	problem text;
	role record;
BEGIN
	-- who owns the schema decides what its names mean, and what is in it may be taken for what the script creates
	SELECT COALESCE(
			CASE WHEN r.oid OPERATOR(pg_catalog.<>) n.nspowner AND NOT o.rolsuper
				THEN pg_catalog.format('it belongs to role %I', o.rolname) END,
			(SELECT pg_catalog.format('%s may create objects in it', COALESCE('role ' || pg_catalog.quote_ident(g.rolname), 'everybody'))
				FROM pg_catalog.aclexplode(n.nspacl) a LEFT JOIN pg_catalog.pg_roles g ON g.oid OPERATOR(pg_catalog.=) a.grantee
				WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner LIMIT 1),
			(SELECT pg_catalog.format('it holds %s', pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))
				FROM pg_catalog.pg_depend d
				WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass::oid
					AND d.refobjid OPERATOR(pg_catalog.=) n.oid
					AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass::oid
				ORDER BY d.classid, d.objid LIMIT 1)) INTO problem
		FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
			JOIN pg_catalog.pg_roles r ON r.rolname OPERATOR(pg_catalog.=) current_user
		WHERE n.nspname OPERATOR(pg_catalog.=) 'profile_stream';
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION 'schema profile_stream cannot be that of the extension: %', problem
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'The extension makes its schema itself. Drop or rename the one that is there, or empty it and make yourself its owner.';
	END IF;
	IF pg_catalog.to_regnamespace('profile_stream_rebuild') IS NOT NULL THEN
		RAISE EXCEPTION 'schema profile_stream_rebuild exists already'
			USING ERRCODE = 'duplicate_schema', HINT = 'The extension makes it itself. Drop or rename the one that is there.';
	END IF;
	-- they are of the cluster: whoever may grant them decides who is an operator in each of its databases
	FOR role IN
		SELECT r.rolname, CASE WHEN r.rolsuper THEN 'it is a superuser' WHEN r.rolcanlogin THEN 'it may log in'
				WHEN r.rolcreaterole THEN 'it may create roles' ELSE pg_catalog.format('role %I may grant it', m.rolname) END AS why
			FROM pg_catalog.pg_roles r LEFT JOIN (pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles m
				ON m.oid OPERATOR(pg_catalog.=) a.member AND a.admin_option AND NOT m.rolsuper) ON a.roleid OPERATOR(pg_catalog.=) r.oid
			WHERE r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY['profile_stream_reader', 'profile_stream_operator']::name[])
				AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR m.oid IS NOT NULL)
	LOOP
		RAISE WARNING 'role % was there before: %', role.rolname, role.why
			USING HINT = 'Take that from it with ALTER ROLE or REVOKE, unless it is meant.';
	END LOOP;
	IF pg_catalog.pg_encoding_to_char((SELECT d.encoding FROM pg_catalog.pg_database d
			WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE EXCEPTION 'profile_stream requires a database with encoding UTF8'
			USING ERRCODE = 'feature_not_supported';
	END IF;
	IF pg_catalog.to_regrole('profile_stream_reader') IS NULL THEN
		CREATE ROLE profile_stream_reader NOLOGIN;
	END IF;
	IF pg_catalog.to_regrole('profile_stream_operator') IS NULL THEN
		CREATE ROLE profile_stream_operator NOLOGIN;
	END IF;
END
$$;

-- section: versions (api/version.c); pg_catalog has a function of that name, which comes first

CREATE FUNCTION profile_stream.version() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_version' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION profile_stream.version() IS 'Versions of the extension''s objects here, of its library, PostgreSQL, librdkafka (that runs, and built with) and hiredis; and what is known to be wrong with them';

CREATE FUNCTION library_warning(librdkafka text DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_library_warning' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION library_warning(text) IS 'What is known to be wrong with a version of librdkafka, by default the one that runs; NULL: nothing';

CREATE FUNCTION current_cluster() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_current_cluster' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION current_cluster() IS 'The cluster that this server is of: profile_stream.cluster, or cluster_name where that is empty';
-- section: secret of the database (store/secret.c)

-- Not dumped: a restored database has one of its own, with which its indexes are built. Nobody is granted anything.
CREATE TABLE database_secret (is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only), secret bytea NOT NULL);
INSERT INTO database_secret (secret)
	VALUES (pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid())));
COMMENT ON TABLE database_secret IS 'What stored hashes are keyed with and names of channels are made of: random, made with the extension, never changed';

CREATE FUNCTION keep_secret() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		RAISE EXCEPTION 'database_secret must not be emptied' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Indexes of profile_stream are made with it.';
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION keep_secret() IS 'Keeps database_secret as it is: rows that a subscription or a restore brings are passed over';
CREATE TRIGGER keep_secret BEFORE INSERT OR UPDATE OR DELETE ON database_secret
	FOR EACH ROW EXECUTE FUNCTION keep_secret();
CREATE TRIGGER keep_secret_whole BEFORE TRUNCATE ON database_secret
	FOR EACH STATEMENT EXECUTE FUNCTION keep_secret();
ALTER TABLE database_secret ENABLE ALWAYS TRIGGER keep_secret, ENABLE ALWAYS TRIGGER keep_secret_whole;

CREATE FUNCTION notification_channel(name text DEFAULT 'profile_updates') RETURNS text
	AS 'MODULE_PATHNAME', 'ps_notification_channel' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION notification_channel(text) IS 'Channel on which profile_updates or segment_changes of this database are announced: the name, and digits that nobody can guess';

-- section: definitions that make code of users run, or a stream (store/confirmed_code.c)

-- Not dumped: what came by a restore or a subscription is not here, and does not run.
CREATE TABLE confirmed_code (
	kind text COLLATE "C" NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['stream', 'handler', 'upcaster', 'score_function', 'segment'])),
	key text COLLATE "C" NOT NULL,
	confirmed_at timestamptz NOT NULL,
	PRIMARY KEY (kind, key)
);
COMMENT ON TABLE confirmed_code IS 'Streams, handlers, upcasters, segments and the score function that may run: created in this database, or confirmed after a restore';

CREATE FUNCTION guard_confirmed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ps_guard_confirmed' LANGUAGE c;
COMMENT ON FUNCTION guard_confirmed() IS 'Trigger of confirmed_code: refuses what no function of profile_stream writes';

CREATE FUNCTION definition_written() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ps_definition_written' LANGUAGE c;
COMMENT ON FUNCTION definition_written() IS 'Trigger of tables of definitions: what no function of profile_stream wrote is not confirmed. Arguments: kind, columns of the key';

-- also in a session that replicates, where triggers of statements do not fire
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON confirmed_code FOR EACH ROW EXECUTE FUNCTION guard_confirmed();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON confirmed_code FOR EACH STATEMENT EXECUTE FUNCTION guard_confirmed();
ALTER TABLE confirmed_code ENABLE ALWAYS TRIGGER guard;
ALTER TABLE confirmed_code ENABLE ALWAYS TRIGGER guard_truncate;

-- section: streams

CREATE TABLE streams (
	stream_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	name text COLLATE "C" NOT NULL UNIQUE,
	owner regrole NOT NULL,
	server name,
	bootstrap_servers text,
	topic text NOT NULL,
	group_id text NOT NULL,
	start_from text NOT NULL,
	batch_size int NOT NULL,
	batch_wait interval NOT NULL,
	dedupe_retention interval NOT NULL,
	on_offset_lost text COLLATE "C" NOT NULL CHECK (on_offset_lost IN ('stop', 'earliest', 'latest')),
	notify_channel text,
	notify text COLLATE "C" NOT NULL CHECK (notify IN ('customer', 'batch', 'off')),
	options jsonb NOT NULL,
	reorder_wait interval NOT NULL DEFAULT '0',
	reorder_buffer_size int NOT NULL DEFAULT 1000,
	late_tolerance interval,
	workers int NOT NULL DEFAULT 1 CHECK (workers BETWEEN 1 AND 64),
	partitions int[],
	dead_letter_pause_ratio double precision NOT NULL DEFAULT 1,
	customer_lock_timeout interval NOT NULL DEFAULT '1 s',
	redis text,
	redis_prefix text NOT NULL DEFAULT 'profile:',
	redis_ttl interval NOT NULL DEFAULT '5 minutes',
	changelog_topic text,
	dead_letter_topic text,
	segment_channel_prefix text,
	format text COLLATE "C" NOT NULL DEFAULT 'profile_event' CHECK (format IN ('profile_event', 'cloudevents', 'custom')),
	field_map jsonb,
	timestamp_unit text COLLATE "C" NOT NULL DEFAULT 'milliseconds' CHECK (timestamp_unit IN ('milliseconds', 'seconds', 'microseconds')),
	event_id_scope text COLLATE "C" NOT NULL DEFAULT 'customer' CHECK (event_id_scope IN ('customer', 'stream')),
	created_at timestamptz NOT NULL,
	CHECK ((server IS NULL) <> (bootstrap_servers IS NULL))
);
-- asked at each commit, by a statement that has no sequential scans
CREATE INDEX streams_with_outbox ON streams (stream_id) WHERE redis IS NOT NULL OR changelog_topic IS NOT NULL;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON streams
	FOR EACH ROW EXECUTE FUNCTION definition_written('stream', 'stream_id');
ALTER TABLE streams ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('streams', '');
SELECT pg_catalog.pg_extension_config_dump('streams_stream_id_seq', '');
COMMENT ON TABLE streams IS 'Streams as created: what is read from where, and how';

CREATE TABLE stream_offsets (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	partition int NOT NULL,
	epoch int NOT NULL DEFAULT 0,
	start_offset bigint NOT NULL,
	next_offset bigint NOT NULL,
	read_offset bigint NOT NULL,
	finished bytea NOT NULL DEFAULT '',
	commits bigint NOT NULL DEFAULT 0,
	check_offset bigint,
	check_timestamp timestamptz,
	check_hash bigint,
	end_offset bigint,
	consumed bigint NOT NULL DEFAULT 0,
	applied bigint NOT NULL DEFAULT 0,
	duplicates bigint NOT NULL DEFAULT 0,
	dead bigint NOT NULL DEFAULT 0,
	late bigint NOT NULL DEFAULT 0,
	tombstones bigint NOT NULL DEFAULT 0,
	blocked bigint NOT NULL DEFAULT 0,
	replayed bigint NOT NULL DEFAULT 0,
	held bigint NOT NULL DEFAULT 0,
	held_bytes bigint NOT NULL DEFAULT 0,
	last_message_at timestamptz,
	committed_at timestamptz,
	state text COLLATE "C" NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'offset_lost')),
	error text,
	PRIMARY KEY (stream_id, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
SELECT pg_catalog.pg_extension_config_dump('stream_offsets', '');
COMMENT ON TABLE stream_offsets IS 'Next offset of each partition, committed with the data it stands for; counters since the start';
COMMENT ON COLUMN stream_offsets.check_offset IS 'A message that was read; at another message there the topic is known to be another one';

-- Not dumped: what a restored database does not find here does not run by itself.
CREATE TABLE stream_status (
	stream_id int PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
	database oid NOT NULL,
	enabled boolean NOT NULL,
	state text COLLATE "C" NOT NULL CHECK (state IN ('starting', 'running', 'ready', 'retrying', 'waiting', 'offset_lost', 'quarantined', 'no_owner',
		'paused', 'disabled', 'no_worker_slot', 'incomplete', 'foreign_cluster')),
	error text,
	hint text,
	error_at timestamptz,
	next_attempt_at timestamptz,
	attempts int NOT NULL DEFAULT 0,
	notifications_skipped bigint NOT NULL DEFAULT 0,
	changed_at timestamptz NOT NULL,
	since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	cluster text
) WITH (fillfactor = 50);
COMMENT ON TABLE stream_status IS 'Whether a stream shall run in this database, and what its worker last said';
COMMENT ON COLUMN stream_status.since IS 'When the stream came into this state';
COMMENT ON COLUMN stream_status.cluster IS 'The cluster that the stream belongs to, as profile_stream.cluster or cluster_name said when it was created or resumed';

-- Not dumped: it tells of this server. The newest 10,000 rows stay.
CREATE TABLE stream_log (
	log_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	logged_at timestamptz NOT NULL,
	stream text COLLATE "C" NOT NULL,
	what text NOT NULL CHECK (what IN ('stream', 'rebuild', 'sink', 'partition')),
	part text,
	from_state text,
	to_state text NOT NULL,
	reason text,
	hint text,
	lasted interval
);
COMMENT ON TABLE stream_log IS 'Changes of state of streams, rebuilds, sinks and partitions, never one per attempt; the newest 10,000';
COMMENT ON COLUMN stream_log.part IS 'Which sink or partition of the stream';
COMMENT ON COLUMN stream_log.lasted IS 'How long the state before lasted';

CREATE TABLE stream_gaps (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	partition int NOT NULL,
	from_offset bigint NOT NULL,
	to_offset bigint NOT NULL,
	reason text NOT NULL,
	recorded_at timestamptz NOT NULL
);
ALTER TABLE stream_gaps REPLICA IDENTITY FULL;
SELECT pg_catalog.pg_extension_config_dump('stream_gaps', '');
COMMENT ON TABLE stream_gaps IS 'Offset ranges [from_offset, to_offset) that a stream went past without reading, and why';

-- Not dumped: what ended a worker elsewhere need not do so here.
CREATE TABLE poison_messages (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	partition int NOT NULL,
	epoch int NOT NULL,
	kafka_offset bigint NOT NULL,
	error text NOT NULL,
	ended_at timestamptz NOT NULL,
	PRIMARY KEY (stream_id, partition, epoch, kafka_offset)
);
COMMENT ON TABLE poison_messages IS 'Messages whose functions did not end when they were cancelled, which ended their worker: dead letters when they are read again';

-- Not dumped: a restored database begins with empty hands, and what Redis holds expires.
CREATE TABLE outbox (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL CHECK (sink IN ('redis', 'changelog')),
	outbox_id bigint GENERATED ALWAYS AS IDENTITY (CACHE 100),
	customer_ids text[] NOT NULL,
	customers int NOT NULL,
	event_types text[],
	PRIMARY KEY (stream_id, sink, outbox_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1);
ALTER TABLE outbox ALTER COLUMN customer_ids SET STORAGE EXTERNAL;
COMMENT ON COLUMN outbox.event_types IS 'For each customer the types of the events that were applied, as a JSON array; null where the sink does not tell them';
COMMENT ON TABLE outbox IS 'Customers that changed, one row per commit and sink, until the sink''s relay takes them';

CREATE TABLE sink_pending (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL CHECK (sink IN ('redis', 'changelog')),
	customer_id text COLLATE "C" NOT NULL,
	pending_id bigint GENERATED BY DEFAULT AS IDENTITY,
	event_types text[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (stream_id, sink, customer_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX sink_pending_order ON sink_pending (stream_id, sink, pending_id);
COMMENT ON TABLE sink_pending IS 'Customers whose profile a relay has to deliver, one row per customer and sink at most, oldest first by pending_id';

CREATE TABLE sink_status (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL CHECK (sink IN ('redis', 'changelog', 'dead_letters')),
	state text COLLATE "C" NOT NULL CHECK (state IN ('idle', 'running', 'retrying', 'waiting', 'no_worker_slot', 'no_owner')),
	error text,
	hint text,
	error_at timestamptz,
	next_attempt_at timestamptz,
	delivered bigint NOT NULL DEFAULT 0,
	refused bigint NOT NULL DEFAULT 0,
	delivered_at timestamptz,
	since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (stream_id, sink)
) WITH (fillfactor = 50);
COMMENT ON TABLE sink_status IS 'What a relay last said, and how much it has delivered';

CREATE VIEW stream_sinks WITH (security_invoker = true) AS
	SELECT s.stream_id, s.name AS stream, k.sink, k.target
	FROM profile_stream.streams s CROSS JOIN LATERAL (VALUES ('redis', s.redis), ('changelog', s.changelog_topic), ('dead_letters', s.dead_letter_topic)) AS k(sink, target)
	WHERE k.target IS NOT NULL;
COMMENT ON VIEW stream_sinks IS 'What each stream delivers to, and where that is';

-- section: profiles

CREATE TABLE materialized_profiles (
	customer_id text COLLATE "C" PRIMARY KEY,
	version bigint NOT NULL,
	updated_at timestamptz NOT NULL,
	watermark timestamptz NOT NULL,
	first_name text NOT NULL DEFAULT '',
	last_name text NOT NULL DEFAULT '',
	email text NOT NULL DEFAULT '',
	phone text NOT NULL DEFAULT '',
	total_balance numeric NOT NULL DEFAULT 0,
	account_count bigint NOT NULL DEFAULT 0,
	last_transaction_at timestamptz,
	last_login_at timestamptz,
	preferred_channel text NOT NULL DEFAULT 'app',
	event_counts jsonb NOT NULL DEFAULT '{}',
	window_state bytea NOT NULL DEFAULT '',
	attributes jsonb NOT NULL DEFAULT '{}',
	attribute_times jsonb,
	first_event_at timestamptz NOT NULL,
	segment text NOT NULL DEFAULT 'unknown',
	churn_risk_score double precision NOT NULL DEFAULT 0,
	lifetime_value numeric NOT NULL DEFAULT 0,
	scored_at timestamptz
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);
ALTER TABLE materialized_profiles ALTER COLUMN window_state SET STORAGE MAIN, ALTER COLUMN window_state SET STATISTICS 0,
	ALTER COLUMN event_counts SET STATISTICS 0, ALTER COLUMN attribute_times SET STATISTICS 0;
SELECT pg_catalog.pg_extension_config_dump('materialized_profiles', '');
COMMENT ON TABLE materialized_profiles IS 'One row per customer, kept current by the streams; read it through the view profiles';
COMMENT ON COLUMN materialized_profiles.attribute_times IS 'Event time of each attribute that a map with operation latest set, in microseconds since 1970';

CREATE TYPE day_bucket AS (day date, count bigint, sum numeric, min numeric, max numeric);
COMMENT ON TYPE day_bucket IS 'What remains of the samples of one UTC day once they are older than their window';

CREATE TABLE window_chunks (
	customer_id text COLLATE "C" NOT NULL,
	metric text COLLATE "C" NOT NULL,
	to_at timestamptz NOT NULL,
	chunk_no bigint NOT NULL,
	from_at timestamptz NOT NULL,
	count bigint NOT NULL,
	sum numeric NOT NULL,
	min numeric NOT NULL,
	max numeric NOT NULL,
	samples bytea,
	days day_bucket[],
	PRIMARY KEY (customer_id, metric, to_at, chunk_no),
	CHECK ((samples IS NULL) <> (days IS NULL))
) WITH (autovacuum_analyze_scale_factor = 1);
ALTER TABLE window_chunks ALTER COLUMN samples SET STORAGE MAIN, ALTER COLUMN samples SET STATISTICS 0, ALTER COLUMN days SET STATISTICS 0;
SELECT pg_catalog.pg_extension_config_dump('window_chunks', '');
COMMENT ON TABLE window_chunks IS 'Sealed chunks of window samples: exact while their window needs them, then one bucket per UTC day';

CREATE TABLE event_ids (
	customer_id text COLLATE "C" NOT NULL,
	event_id text COLLATE "C" NOT NULL,
	seen_at timestamptz NOT NULL
) WITH (autovacuum_analyze_threshold = 2147483647); -- no plan needs its statistics, and ANALYZE holds a snapshot
ALTER TABLE event_ids REPLICA IDENTITY FULL;
SELECT pg_catalog.pg_extension_config_dump('event_ids', '');
COMMENT ON TABLE event_ids IS 'Event ids already applied, for de-duplication within dedupe_retention';

CREATE FUNCTION event_key(customer_id text, event_id text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_event_key_sql' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION event_key(text, text) IS 'What event_ids is indexed by: 32 bits of keyed hash of the customer id, then 32 of the event id';

CREATE INDEX event_ids_key ON event_ids (event_key(customer_id, event_id));

CREATE TABLE dead_letters (
	dead_letter_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	stream_id int,
	stream text,
	topic text,
	epoch int,
	partition int,
	kafka_offset bigint,
	kafka_timestamp timestamptz,
	key bytea,
	value bytea,
	headers jsonb,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('malformed', 'invalid', 'handler', 'late')),
	errors text[] NOT NULL,
	sqlstate text,
	customer_id text,
	event_id text,
	event_type text,
	dead_at timestamptz NOT NULL,
	attempts int NOT NULL DEFAULT 1,
	failed_at timestamptz,
	value_size bigint,
	UNIQUE (stream_id, epoch, partition, kafka_offset)
);
COMMENT ON COLUMN dead_letters.value_size IS 'Bytes of the whole value, where only its begin is kept; null: it is whole';
SELECT pg_catalog.pg_extension_config_dump('dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('dead_letters_dead_letter_id_seq', '');
COMMENT ON TABLE dead_letters IS 'Messages that could not be applied, with the bytes as Kafka delivered them and every reason';

CREATE TABLE dead_letter_outbox (
	dead_letter_id bigint PRIMARY KEY,
	stream_id int NOT NULL
);
CREATE INDEX dead_letter_outbox_order ON dead_letter_outbox (stream_id, dead_letter_id);
COMMENT ON TABLE dead_letter_outbox IS 'Dead letters that are not delivered to their stream''s dead_letter_topic yet';

-- section: rules of event types (api/attribute_maps.c)

CREATE FUNCTION rules_changed() RETURNS trigger AS 'MODULE_PATHNAME', 'ps_rules_changed' LANGUAGE c;
COMMENT ON FUNCTION rules_changed() IS 'Tells every process that what is registered for event types has changed';

CREATE TABLE attribute_maps (
	map_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	event_type text COLLATE "C" NOT NULL,
	attribute text COLLATE "C" NOT NULL,
	path text,
	operation text COLLATE "C" NOT NULL CHECK (operation IN ('set', 'set_if_null', 'add', 'subtract', 'max', 'min', 'count', 'append_unique', 'latest')),
	type text COLLATE "C" NOT NULL CHECK (type IN ('text', 'numeric', 'boolean', 'timestamptz')),
	max_items int NOT NULL,
	UNIQUE (event_type, attribute)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON attribute_maps
	FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();
ALTER TABLE attribute_maps ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('attribute_maps', '');
SELECT pg_catalog.pg_extension_config_dump('attribute_maps_map_id_seq', '');
COMMENT ON TABLE attribute_maps IS 'What a value of each event of a type does to an attribute or column of the profile, in this order';

CREATE FUNCTION map_attribute(event_type text, attribute text, path text DEFAULT NULL, operation text DEFAULT 'set',
	type text DEFAULT NULL, max_items int DEFAULT 100) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_map_attribute' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION map_attribute IS 'Let a value of each event of a type change an attribute of the profile, from the next batch on';

CREATE FUNCTION unmap_attribute(event_type text, attribute text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unmap_attribute' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unmap_attribute(text, text) IS 'Remove a map; what it has set stays';

-- section: metrics of users (api/metrics.c)

-- numbers are never used again, so that samples that are left of a series mean nothing; 0 to 2 are built in
CREATE TABLE metric_series (
	series_id int GENERATED BY DEFAULT AS IDENTITY (START WITH 3) PRIMARY KEY CHECK (series_id >= 3),
	event_type text COLLATE "C" NOT NULL,
	value_path text,
	is_distinct boolean NOT NULL,
	filter_path text,
	filter_value text COLLATE "C"
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON metric_series
	FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();
ALTER TABLE metric_series ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('metric_series', '');
SELECT pg_catalog.pg_extension_config_dump('metric_series_series_id_seq', '');
COMMENT ON TABLE metric_series IS 'What samples are kept for metrics: of which events, and which value; metrics of the same values share a series';

CREATE TABLE metrics (
	name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
	series_id int NOT NULL REFERENCES metric_series,
	aggregate text COLLATE "C" NOT NULL CHECK (aggregate IN ('count', 'sum', 'avg', 'min', 'max', 'distinct', 'last')),
	"window" interval NOT NULL
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON metrics
	FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();
ALTER TABLE metrics ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('metrics', '');
COMMENT ON TABLE metrics IS 'Metrics that were created: an aggregate over a window of a series';

CREATE FUNCTION create_metric(name text, event_type text, "window" interval, value_path text DEFAULT NULL,
	aggregate text DEFAULT 'count', filter_path text DEFAULT NULL, filter_value text DEFAULT NULL, backfill text DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_create_metric' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_metric IS 'Create a metric: an aggregate of a value of each event of a type over a window, from the next batch on; backfill: a stream to rebuild for what came before';

CREATE FUNCTION drop_metric(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_metric' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_metric(text) IS 'Remove a metric; prune_metrics() removes samples that no other metric reads';

-- section: functions of users (api/user_handlers.c)

CREATE TABLE event_handlers (
	handler_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	event_type text COLLATE "C" NOT NULL,
	function text COLLATE "C" NOT NULL,
	owner regrole NOT NULL,
	priority int NOT NULL,
	UNIQUE (event_type, function)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON event_handlers
	FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();
ALTER TABLE event_handlers ENABLE ALWAYS TRIGGER rules_changed;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON event_handlers
	FOR EACH ROW EXECUTE FUNCTION definition_written('handler', 'handler_id');
ALTER TABLE event_handlers ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('event_handlers', '');
SELECT pg_catalog.pg_extension_config_dump('event_handlers_handler_id_seq', '');
COMMENT ON TABLE event_handlers IS 'Functions that change the profile at each event of a type, in the order of priority and handler_id';
COMMENT ON COLUMN event_handlers.function IS 'By schema, name and arguments';
COMMENT ON COLUMN event_handlers.owner IS 'Role that owned the function when it was registered, with whose rights it runs; when another one owns it, it does not';

CREATE FUNCTION register_handler(event_type text, function regprocedure, priority int DEFAULT 0) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_register_handler' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION register_handler IS 'Let a function(profile jsonb, event jsonb) RETURNS jsonb change the profile at each event of a type, from the next batch on';

CREATE FUNCTION unregister_handler(event_type text, function text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unregister_handler' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unregister_handler(text, text) IS 'Call a handler no more; the function may be gone already';

CREATE FUNCTION test_handler(event_type text, event jsonb, profile jsonb DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_test_handler' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_handler IS 'What an event makes of a profile, by upcasters, the built-in handler, maps and handlers, without any effect';

CREATE TABLE event_upcasters (
	event_type text COLLATE "C" NOT NULL,
	from_version int NOT NULL CHECK (from_version OPERATOR(pg_catalog.>=) 1 AND from_version OPERATOR(pg_catalog.<) 10000),
	function text COLLATE "C" NOT NULL,
	owner regrole NOT NULL,
	PRIMARY KEY (event_type, from_version)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON event_upcasters
	FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();
ALTER TABLE event_upcasters ENABLE ALWAYS TRIGGER rules_changed;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON event_upcasters
	FOR EACH ROW EXECUTE FUNCTION definition_written('upcaster', 'from_version', 'event_type');
ALTER TABLE event_upcasters ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('event_upcasters', '');
COMMENT ON TABLE event_upcasters IS 'Functions that raise the payload of an event from a schemaVersion to the next';
COMMENT ON COLUMN event_upcasters.function IS 'By schema, name and arguments';
COMMENT ON COLUMN event_upcasters.owner IS 'Role that owned the function when it was registered, with whose rights it runs; when another one owns it, it does not';

CREATE FUNCTION register_upcaster(event_type text, from_version int, function regprocedure) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_register_upcaster' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION register_upcaster IS 'Let a function(event jsonb) RETURNS jsonb make the payload of the next schemaVersion, from the next batch on';

CREATE FUNCTION unregister_upcaster(event_type text, from_version int) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unregister_upcaster' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unregister_upcaster(text, int) IS 'Raise events from a schemaVersion no more';

-- section: core as functions (api/events.c)

CREATE FUNCTION decode_event(value bytea, as_of timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (event_id text, customer_id text, event_type text, event_timestamp timestamptz,
		source text, schema_version int, payload jsonb, errors text[], kind text)
	LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 1
	AS 'MODULE_PATHNAME', 'ps_decode_event';
COMMENT ON FUNCTION decode_event(bytea, timestamptz) IS 'What a stream makes of a message value: the event, or every error it has; without any effect';

CREATE FUNCTION decode_message(value bytea, key bytea DEFAULT NULL, headers jsonb DEFAULT NULL, kafka_timestamp timestamptz DEFAULT NULL,
	format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL, as_of timestamptz DEFAULT pg_catalog.now(), timestamp_unit text DEFAULT 'milliseconds')
	RETURNS TABLE (event_id text, customer_id text, event_type text, event_timestamp timestamptz,
		source text, schema_version int, payload jsonb, errors text[], kind text)
	LANGUAGE c STABLE PARALLEL SAFE ROWS 1
	AS 'MODULE_PATHNAME', 'ps_decode_message';
COMMENT ON FUNCTION decode_message IS 'What a stream with a format and a field_map makes of a message: the event, or every error it has, or a tombstone; without any effect';

CREATE FUNCTION to_profile_event(value bytea, key bytea, headers jsonb, kafka_timestamp timestamptz, format text, field_map jsonb,
	timestamp_unit text DEFAULT 'milliseconds')
	RETURNS jsonb LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'ps_to_profile_event';
COMMENT ON FUNCTION to_profile_event IS 'A message of any format as a profile event, valid or not; NULL where nothing can be read';

CREATE FUNCTION decode_fuzz(seed int, iterations int, format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'ps_decode_fuzz';
CREATE FUNCTION parser_fuzz(seed int, iterations int) RETURNS void
	LANGUAGE c STRICT STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'ps_parser_fuzz';
COMMENT ON FUNCTION parser_fuzz(int, int) IS 'Gives damaged bytes to the parsers beside the decoder, and checks every answer; for tests';
COMMENT ON FUNCTION decode_fuzz IS 'Decodes damaged events and random bytes, checks every result, and counts the valid ones; for tests';

-- section: apply (api/apply_events.c)

CREATE FUNCTION apply_event(event jsonb) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_apply_event' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_event(jsonb) IS 'Apply one event in this transaction; says what became of it: applied, duplicate, dead or blocked';

CREATE FUNCTION apply_events(events jsonb[]) RETURNS text[]
	AS 'MODULE_PATHNAME', 'ps_apply_events' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_events(jsonb[]) IS 'Apply events in order in this transaction; says what became of each: applied, duplicate, dead, tombstone or blocked';

-- section: repair of dead letters (api/apply_events.c)

CREATE FUNCTION dead_letter_text(value bytea) RETURNS text
	LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN convert_from(value, 'UTF8');
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION dead_letter_text(bytea) IS 'Bytes as text, NULL where they are not UTF-8';

CREATE FUNCTION dead_letter_json(value bytea) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN convert_from(CASE WHEN substring(value FROM 1 FOR 3) = '\xefbbbf' THEN substring(value FROM 4) ELSE value END, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR untranslatable_character THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION dead_letter_json(bytea) IS 'Bytes as jsonb, NULL where they do not parse';

CREATE VIEW dead_letter_details WITH (security_invoker = true) AS
	SELECT d.*, profile_stream.dead_letter_text(d.key) AS key_text, profile_stream.dead_letter_text(d.value) AS value_text,
		CASE WHEN d.value_size IS NOT NULL THEN NULL
			WHEN s.format <> 'profile_event' OR s.timestamp_unit <> 'milliseconds'
			THEN profile_stream.to_profile_event(d.value, d.key, d.headers, d.kafka_timestamp, s.format, s.field_map, s.timestamp_unit)
			ELSE profile_stream.dead_letter_json(d.value) END AS event,
		COALESCE(d.failed_at, d.dead_at) AS last_error_at
	FROM profile_stream.dead_letters d LEFT JOIN profile_stream.streams s ON s.stream_id = d.stream_id;
COMMENT ON VIEW dead_letter_details IS 'Dead letters with key and value as text and the event as jsonb, where they are; of a stream of another format as a profile event';

CREATE VIEW dead_letter_summary WITH (security_invoker = true) AS
	SELECT d.stream, d.kind, d.errors[1] AS error, (d.dead_at AT TIME ZONE 'UTC')::date AS day, pg_catalog.count(*) AS letters,
		pg_catalog.min(d.dead_at) AS first_at, pg_catalog.max(d.dead_at) AS last_at, pg_catalog.min(d.dead_letter_id) AS example_id
	FROM profile_stream.dead_letters d GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW dead_letter_summary IS 'Dead letters by stream, kind, first error and UTC day';

CREATE FUNCTION retry_events(events jsonb[], dedupe_retention_us bigint, scope int DEFAULT 0,
	OUT ordinal int, OUT outcome text, OUT kind text, OUT errors text[], OUT sqlstate text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_retry_events' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION retry_events(jsonb[], bigint, int) IS 'What retry_dead_letters() applies with: as apply_events(), but what is dead is said and not written; scope: stream_id of a stream whose event ids are its own, 0 of others';

CREATE FUNCTION dead_letter_matches(letter dead_letters, stream text, kind text, event_type text, sqlstate text,
	since timestamptz, until timestamptz, ids bigint[]) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (dead_letter_matches.stream IS NULL OR (letter).stream = dead_letter_matches.stream)
			AND (dead_letter_matches.kind IS NULL OR (letter).kind = dead_letter_matches.kind)
			AND (dead_letter_matches.event_type IS NULL OR (letter).event_type = dead_letter_matches.event_type)
			AND (dead_letter_matches.sqlstate IS NULL OR (letter).sqlstate = dead_letter_matches.sqlstate)
			AND (dead_letter_matches.since IS NULL OR (letter).dead_at >= dead_letter_matches.since)
			AND (dead_letter_matches.until IS NULL OR (letter).dead_at < dead_letter_matches.until)
			AND (dead_letter_matches.ids IS NULL OR (letter).dead_letter_id = ANY (dead_letter_matches.ids));
COMMENT ON FUNCTION dead_letter_matches IS 'Whether the filters of retry_dead_letters() and discard_dead_letters() choose a letter; NULL chooses any';

CREATE FUNCTION lock_dead_letters(stream text, kind text, event_type text, sqlstate text, since timestamptz, until timestamptz, ids bigint[],
	after_id bigint, max_letters bigint) RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'ps_lock_dead_letters' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION lock_dead_letters IS 'What retry_dead_letters() begins with: takes the oldest letters that it chooses and nobody else has, and returns their numbers';

CREATE FUNCTION settle_dead_letters(ids bigint[], results jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_settle_dead_letters' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION settle_dead_letters(bigint[], jsonb) IS 'What retry_dead_letters() ends with: removes letters that were applied, and notes the new errors of the others';

CREATE FUNCTION retry_dead_letters(stream text DEFAULT NULL, kind text DEFAULT NULL, event_type text DEFAULT NULL,
	sqlstate text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, ids bigint[] DEFAULT NULL,
	patch jsonb DEFAULT NULL, transform regprocedure DEFAULT NULL, after_id bigint DEFAULT NULL, max_letters int DEFAULT 1000,
	OUT applied bigint, OUT duplicates bigint, OUT failed bigint, OUT kept bigint, OUT blocked bigint, OUT last_id bigint)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	takes oid;
	transformation text;
	locked bigint[];
	letter record;
	source record;
	fixed jsonb;
	all_ids bigint[] := '{}';
	all_events jsonb[] := '{}';
	retentions bigint[] := '{}';
	scopes int[] := '{}';
	results jsonb;
	message text;
	state text;
BEGIN
	applied := 0; duplicates := 0; failed := 0; kept := 0; blocked := 0;
	IF retry_dead_letters.max_letters IS NULL OR retry_dead_letters.max_letters < 1 THEN
		RAISE EXCEPTION 'max_letters must be at least 1' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is how many letters one call takes; call again with after_id => last_id for more.';
	END IF;
	IF jsonb_typeof(retry_dead_letters.patch) <> 'object' THEN
		RAISE EXCEPTION 'patch must be a JSON object' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is merged into each event, and its payload into the event''s payload.';
	END IF;
	IF retry_dead_letters.transform IS NOT NULL THEN
		SELECT p.proargtypes[0] INTO takes FROM pg_proc p
			WHERE p.oid = retry_dead_letters.transform AND p.pronargs = 1 AND p.prokind = 'f' AND NOT p.proretset
				AND p.prorettype = 'jsonb'::regtype
				AND p.proargtypes[0] IN ('jsonb'::regtype, 'text'::regtype, 'bytea'::regtype);
		IF NOT FOUND THEN
			RAISE EXCEPTION 'transform must be a function of one jsonb, text or bytea that returns jsonb'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'It takes the event, or the value as text or bytes, and returns the event as it should have been; NULL keeps the letter.';
		END IF;
		transformation := format('SELECT %s(%s)', retry_dead_letters.transform::oid::regproc,
			CASE takes WHEN 'jsonb'::regtype THEN '$1' WHEN 'text'::regtype THEN 'profile_stream.dead_letter_text($2)' ELSE '$2' END);
	END IF;
	locked := profile_stream.lock_dead_letters(retry_dead_letters.stream, retry_dead_letters.kind, retry_dead_letters.event_type,
		retry_dead_letters.sqlstate, retry_dead_letters.since, retry_dead_letters.until, retry_dead_letters.ids,
		retry_dead_letters.after_id, retry_dead_letters.max_letters);
	last_id := locked[cardinality(locked)];
	FOR letter IN
		SELECT d.dead_letter_id, d.value, d.value_size, d.key, d.headers, d.kafka_timestamp, s.format, s.field_map, s.timestamp_unit,
			CASE WHEN s.event_id_scope = 'stream' THEN s.stream_id ELSE 0 END AS scope,
			COALESCE((EXTRACT(epoch FROM s.dedupe_retention) * 1000000)::bigint, 604800000000) AS retention
		FROM profile_stream.dead_letters d LEFT JOIN profile_stream.streams s ON s.stream_id = d.stream_id
		WHERE d.dead_letter_id = ANY (locked) ORDER BY d.dead_letter_id
	LOOP
		-- the caller's code may raise: one subtransaction a letter, only here
		BEGIN
			fixed := CASE WHEN letter.value_size IS NOT NULL THEN NULL
				WHEN letter.format <> 'profile_event' OR letter.timestamp_unit <> 'milliseconds'
				THEN profile_stream.to_profile_event(letter.value, letter.key, letter.headers, letter.kafka_timestamp, letter.format, letter.field_map, letter.timestamp_unit)
				ELSE profile_stream.dead_letter_json(letter.value) END;
			IF fixed IS NULL AND COALESCE(takes, 'jsonb'::regtype) = 'jsonb'::regtype THEN
				-- nothing that could be applied: its error stands
				PERFORM profile_stream.settle_dead_letters(ARRAY[letter.dead_letter_id], '[{"ordinal": 1, "outcome": "dead"}]');
				failed := failed + 1;
				CONTINUE;
			ELSIF takes IS NOT NULL THEN
				EXECUTE transformation INTO fixed USING fixed, letter.value;
			END IF;
		EXCEPTION WHEN serialization_failure OR deadlock_detected THEN
			RAISE;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
			PERFORM profile_stream.settle_dead_letters(ARRAY[letter.dead_letter_id], jsonb_build_array(jsonb_build_object('ordinal', 1,
				'outcome', 'dead', 'errors', jsonb_build_array('Transform error: ' || left(message, 900)), 'sqlstate', state)));
			failed := failed + 1;
			CONTINUE;
		END;
		IF fixed IS NULL THEN
			kept := kept + 1;
			CONTINUE;
		END IF;
		IF retry_dead_letters.patch IS NOT NULL AND jsonb_typeof(fixed) = 'object' THEN
			fixed := fixed || retry_dead_letters.patch ||
				CASE WHEN jsonb_typeof(fixed -> 'payload') = 'object' AND jsonb_typeof(retry_dead_letters.patch -> 'payload') = 'object'
					THEN jsonb_build_object('payload', (fixed -> 'payload') || (retry_dead_letters.patch -> 'payload'))
					ELSE '{}' END;
		END IF;
		all_ids := all_ids || letter.dead_letter_id;
		all_events := array_append(all_events, fixed);
		retentions := retentions || letter.retention;
		scopes := scopes || letter.scope;
	END LOOP;
	FOR source IN
		SELECT u.retention, u.scope, array_agg(u.id ORDER BY u.id) AS ids, array_agg(u.event ORDER BY u.id) AS events
		FROM unnest(all_ids, all_events, retentions, scopes) AS u(id, event, retention, scope) GROUP BY u.retention, u.scope
	LOOP
		BEGIN
			SELECT jsonb_agg(to_jsonb(r) ORDER BY r.ordinal) INTO results FROM profile_stream.retry_events(source.events, source.retention, source.scope) r;
		EXCEPTION WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_privilege
			OR insufficient_resources OR operator_intervention THEN
			RAISE;
		WHEN OTHERS THEN
			-- a trigger or constraint refuses one of them: find out which
			results := '[]';
			FOR i IN 1 .. cardinality(source.ids) LOOP
				BEGIN
					results := results || (SELECT jsonb_agg(to_jsonb(r) || jsonb_build_object('ordinal', i))
						FROM profile_stream.retry_events(ARRAY[source.events[i]], source.retention, source.scope) r);
				EXCEPTION WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_privilege
					OR insufficient_resources OR operator_intervention THEN
					RAISE;
				WHEN OTHERS THEN
					GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
					results := results || jsonb_build_object('ordinal', i, 'outcome', 'dead', 'kind', 'handler',
						'errors', jsonb_build_array('Processing error: ' || left(message, 900)), 'sqlstate', state);
				END;
			END LOOP;
		END;
		PERFORM profile_stream.settle_dead_letters(source.ids, results);
		SELECT applied + count(*) FILTER (WHERE r.outcome = 'applied'), duplicates + count(*) FILTER (WHERE r.outcome = 'duplicate'),
			failed + count(*) FILTER (WHERE r.outcome NOT IN ('applied', 'duplicate', 'blocked')), blocked + count(*) FILTER (WHERE r.outcome = 'blocked')
			INTO applied, duplicates, failed, blocked FROM jsonb_to_recordset(results) AS r(outcome text);
	END LOOP;
END $$;
COMMENT ON FUNCTION retry_dead_letters IS 'Apply dead letters again, changed by transform and patch, late ones too; those that fail stay with their new error, those of blocked customers go';

CREATE FUNCTION discard_dead_letters(stream text DEFAULT NULL, kind text DEFAULT NULL, event_type text DEFAULT NULL,
	sqlstate text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, ids bigint[] DEFAULT NULL)
	RETURNS bigint AS 'MODULE_PATHNAME', 'ps_discard_dead_letters' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION discard_dead_letters IS 'Remove dead letters; returns how many';

CREATE FUNCTION prune_metrics(as_of timestamptz DEFAULT pg_catalog.now()) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_prune_metrics' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION prune_metrics(timestamptz) IS 'Fold samples older than their window into daily buckets, and remove those that no metric reads any more; returns how many samples, 0 when there is nothing left to do';

-- section: customer locks (api/customer_lock.c)

CREATE FUNCTION lock_customer(customer_id text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_lock_customer' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION lock_customer(text) IS 'Take the lock under which a customer''s events are applied, until the transaction ends; waits for whoever has it';

CREATE FUNCTION try_lock_customer(customer_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_try_lock_customer' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION try_lock_customer(text) IS 'Take the lock under which a customer''s events are applied, until the transaction ends, when nobody else has it; whether it is taken';

-- section: reading profiles (api/profiles.c)

CREATE INDEX window_chunks_unfolded ON window_chunks (metric, to_at) WHERE samples IS NOT NULL;

CREATE FUNCTION window_value(customer_id text, window_state bytea, metric text, as_of timestamptz) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_window_value' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_value(text, bytea, text, timestamptz) IS 'Value of a metric over its window up to as_of, both ends included; NULL for an average, least, greatest or last value of nothing';

CREATE FUNCTION metric_values(customer_id text, window_state bytea, as_of timestamptz) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_metric_values' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION metric_values(text, bytea, timestamptz) IS 'Values of all metrics that were created, by name, each over its window up to as_of';

CREATE FUNCTION window_samples(window_state bytea, metric text, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_window_samples' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_samples(bytea, text) IS 'Samples of the series that a metric reads, as far as they are in the profile row';

CREATE FUNCTION window_state_samples(window_state bytea, OUT series text, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_window_state_samples' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_state_samples(bytea) IS 'All samples that are in a profile row, with the names of their series as in window_chunks.metric';

CREATE FUNCTION chunk_samples(samples bytea, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_chunk_samples' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION chunk_samples(bytea) IS 'Samples of a sealed chunk';

CREATE FUNCTION metric_series(metric text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_metric_series' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION metric_series(text) IS 'Name of the series that a metric reads: window_chunks.metric';

CREATE FUNCTION metric_aggregate(metric text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_metric_aggregate' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION metric_aggregate(text) IS 'What a metric makes of the samples in its window: count, sum, avg, min, max, distinct or last';

CREATE FUNCTION window_expired(window_state bytea, as_of timestamptz) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_window_expired' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_expired(bytea, timestamptz) IS 'Whether prune_metrics() finds samples to fold or to remove in a profile row';

CREATE FUNCTION json_timestamp(at timestamptz) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_json_timestamp' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION json_timestamp(timestamptz) IS 'Timestamp as profile documents write it: ISO 8601, UTC';

CREATE VIEW profiles WITH (security_invoker = true) AS
	SELECT p.customer_id, p.version, p.updated_at,
		p.first_name, p.last_name, p.email, p.phone,
		p.total_balance, p.account_count, p.last_transaction_at,
		profile_stream.window_value(p.customer_id, p.window_state, 'transaction_count_30d', pg_catalog.now())::bigint AS transaction_count_30d,
		profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', pg_catalog.now()) AS total_transaction_value_30d,
		p.last_login_at,
		profile_stream.window_value(p.customer_id, p.window_state, 'login_count_7d', pg_catalog.now())::bigint AS login_count_7d,
		p.preferred_channel,
		profile_stream.window_value(p.customer_id, p.window_state, 'support_ticket_count_90d', pg_catalog.now())::bigint AS support_ticket_count_90d,
		p.segment, p.churn_risk_score, p.lifetime_value
	FROM profile_stream.materialized_profiles p;
COMMENT ON VIEW profiles IS 'Profiles with typed columns, windowed metrics as of now()';

-- without a search_path of its own it can be inlined; its names are bound when it is created
CREATE FUNCTION profile_document(profile materialized_profiles, as_of timestamptz) RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN pg_catalog.jsonb_build_object(
		'customerId', (profile).customer_id,
		'version', (profile).version,
		'lastUpdatedAt', profile_stream.json_timestamp((profile).updated_at),
		'firstName', (profile).first_name,
		'lastName', (profile).last_name,
		'email', (profile).email,
		'phone', (profile).phone,
		'totalBalance', (profile).total_balance,
		'accountCount', (profile).account_count,
		'lastTransactionDate', profile_stream.json_timestamp((profile).last_transaction_at),
		'transactionCount30d', profile_stream.window_value((profile).customer_id, (profile).window_state, 'transaction_count_30d', as_of),
		'totalTransactionValue30d', profile_stream.window_value((profile).customer_id, (profile).window_state, 'total_transaction_value_30d', as_of),
		'lastLoginDate', profile_stream.json_timestamp((profile).last_login_at),
		'loginCount7d', profile_stream.window_value((profile).customer_id, (profile).window_state, 'login_count_7d', as_of),
		'preferredChannel', (profile).preferred_channel,
		'segment', (profile).segment,
		'churnRiskScore', (profile).churn_risk_score,
		'lifetimeValue', (profile).lifetime_value,
		'eventCounts', (profile).event_counts,
		'attributes', (profile).attributes,
		'metrics', profile_stream.metric_values((profile).customer_id, (profile).window_state, as_of));
COMMENT ON FUNCTION profile_document(materialized_profiles, timestamptz) IS 'A profile row as a MaterializedProfile document, windowed metrics as of a moment';

CREATE VIEW profile_documents WITH (security_invoker = true) AS
	SELECT p.customer_id, profile_stream.profile_document(p, pg_catalog.now()) AS data, p.version, p.updated_at
	FROM profile_stream.materialized_profiles p;
COMMENT ON VIEW profile_documents IS 'Profiles as MaterializedProfile documents, windowed metrics as of now()';

CREATE FUNCTION get_profile(customer_id text, as_of timestamptz DEFAULT pg_catalog.now()) RETURNS jsonb
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT profile_stream.profile_document(p, get_profile.as_of)
		FROM profile_stream.materialized_profiles p WHERE p.customer_id = get_profile.customer_id;
	END;
COMMENT ON FUNCTION get_profile(text, timestamptz) IS 'One profile as a MaterializedProfile document, windowed metrics as of a moment; NULL for an unknown customer';

CREATE FUNCTION metric_value(customer_id text, metric text, as_of timestamptz DEFAULT pg_catalog.now()) RETURNS numeric
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT COALESCE(
			(SELECT profile_stream.window_value(p.customer_id, p.window_state, metric_value.metric, metric_value.as_of)
			 FROM profile_stream.materialized_profiles p WHERE p.customer_id = metric_value.customer_id),
			profile_stream.window_value('', '', metric_value.metric, metric_value.as_of));
	END;
COMMENT ON FUNCTION metric_value(text, text, timestamptz) IS 'Value of a metric over its window up to as_of, exact but for distinct; for an unknown customer as for one without events';

CREATE FUNCTION metric_trend(customer_id text, metric text, from_day date, to_day date,
	OUT day date, OUT count bigint, OUT sum numeric, OUT min numeric, OUT max numeric) RETURNS SETOF record
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		WITH samples AS (
			SELECT s.at, s.value
			FROM profile_stream.materialized_profiles p,
				profile_stream.window_samples(p.window_state, metric_trend.metric) s
			WHERE p.customer_id = metric_trend.customer_id
			UNION ALL
			SELECT s.at, s.value
			FROM profile_stream.window_chunks c, profile_stream.chunk_samples(c.samples) s
			WHERE c.customer_id = metric_trend.customer_id
				AND c.metric = profile_stream.metric_series(metric_trend.metric)
				AND c.to_at >= metric_trend.from_day::timestamp AT TIME ZONE 'UTC'
				AND c.samples IS NOT NULL
				AND EXISTS (SELECT FROM profile_stream.materialized_profiles p WHERE p.customer_id = metric_trend.customer_id)
		), buckets AS (
			SELECT (s.at AT TIME ZONE 'UTC')::date AS day, pg_catalog.count(*) AS count,
				pg_catalog.sum(s.value) AS sum, pg_catalog.min(s.value) AS min, pg_catalog.max(s.value) AS max
			FROM samples s GROUP BY 1
			UNION ALL
			SELECT d.day, d.count, d.sum, d.min, d.max
			FROM profile_stream.window_chunks c, pg_catalog.unnest(c.days) d
			WHERE c.customer_id = metric_trend.customer_id
				AND c.metric = profile_stream.metric_series(metric_trend.metric)
				AND c.to_at >= metric_trend.from_day::timestamp AT TIME ZONE 'UTC'
				AND EXISTS (SELECT FROM profile_stream.materialized_profiles p WHERE p.customer_id = metric_trend.customer_id)
		)
		SELECT b.day, pg_catalog.sum(b.count)::bigint, pg_catalog.sum(b.sum) FILTER (WHERE v.is_value),
			pg_catalog.min(b.min) FILTER (WHERE v.is_value), pg_catalog.max(b.max) FILTER (WHERE v.is_value)
		FROM buckets b, (SELECT profile_stream.metric_aggregate(metric_trend.metric) <> 'distinct' OFFSET 0) v(is_value)
		WHERE b.day BETWEEN metric_trend.from_day AND metric_trend.to_day
		GROUP BY b.day ORDER BY b.day;
	END;
COMMENT ON FUNCTION metric_trend(text, text, date, date) IS 'Count, sum, min and max of a metric''s series per UTC day, from history of any age; days without samples have no row, and metrics of distinct values only a count';

-- section: views for BI

CREATE FUNCTION attribute_time(value text) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_attribute_time' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION attribute_time(text) IS 'Attribute of type timestamptz as a timestamp; NULL for what is none';

CREATE FUNCTION create_profile_view(view_name text, attributes text[] DEFAULT '{}', metrics text[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	mark CONSTANT text := 'Profiles with attributes and metrics; profile_stream.create_profile_view() makes it again';
	parts text[] := parse_ident(create_profile_view.view_name);
	target text;
	existing record;
	kinds text[] := '{}';
	names text[] := '{}';
	wanted text;
	kind text;
	columns text;
	statement text;
	privilege record;
BEGIN
	IF cardinality(parts) > 2 THEN
		RAISE EXCEPTION 'view_name must be a name, or a schema and a name' USING ERRCODE = 'invalid_name',
			HINT = 'Without a schema the view is made in schema public.';
	END IF;
	target := CASE cardinality(parts) WHEN 1 THEN format('public.%I', parts[1]) ELSE format('%I.%I', parts[1], parts[2]) END;
	SELECT c.oid, c.relkind, c.relacl, c.relowner, obj_description(c.oid, 'pg_class') AS comment INTO existing
		FROM pg_class c WHERE c.oid = to_regclass(target);
	IF FOUND AND (existing.relkind <> 'v' OR existing.comment IS DISTINCT FROM mark) THEN
		RAISE EXCEPTION '% exists and is not a view of create_profile_view()', target USING ERRCODE = 'duplicate_table',
			HINT = 'Give the view another name.';
	END IF;
	FOREACH wanted IN ARRAY create_profile_view.attributes LOOP
		SELECT CASE WHEN m.operation = 'append_unique' THEN 'jsonb' ELSE m.type END INTO kind
			FROM profile_stream.attribute_maps m WHERE m.attribute = wanted LIMIT 1;
		IF NOT FOUND THEN
			kind := substring(wanted FROM '. (text|numeric|boolean|timestamptz|jsonb)$');
			IF kind IS NULL THEN
				RAISE EXCEPTION 'attribute "%" is not mapped', wanted USING ERRCODE = 'undefined_object',
					HINT = 'The table attribute_maps lists those that are. What handlers set is named with its type: "tier text".';
			END IF;
			wanted := left(wanted, -length(kind) - 1);
		END IF;
		-- what the table says does not become part of a statement
		IF kind <> ALL (ARRAY['text', 'numeric', 'boolean', 'timestamptz', 'jsonb']) THEN
			RAISE EXCEPTION 'attribute "%" has the unknown type "%"', wanted, kind USING ERRCODE = 'data_corrupted',
				HINT = 'Somebody has written the table attribute_maps: unmap_attribute() and map_attribute() mend it.';
		END IF;
		names := names || wanted;
		kinds := kinds || kind;
	END LOOP;
	names := names || create_profile_view.metrics;
	SELECT n INTO wanted FROM unnest(names) n
		WHERE n IN (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'profile_stream.profiles'::regclass AND a.attnum > 0)
			OR (SELECT count(*) FROM unnest(names) m WHERE m = n) > 1 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the view would have two columns "%"', wanted USING ERRCODE = 'duplicate_column',
			HINT = 'It has all columns of the view profiles; attributes and metrics are beside them.';
	END IF;

	-- a column of profiles is one of the table, or a built-in metric
	SELECT string_agg(CASE WHEN t.attname IS NOT NULL THEN format('p.%I', a.attname)
			ELSE format('profile_stream.window_value(p.customer_id, p.window_state, %L, pg_catalog.now())::%s AS %I',
				a.attname, format_type(a.atttypid, a.atttypmod), a.attname) END, ', ' ORDER BY a.attnum) INTO columns
		FROM pg_attribute a LEFT JOIN pg_attribute t
			ON t.attrelid = 'profile_stream.materialized_profiles'::regclass AND t.attname = a.attname AND NOT t.attisdropped
		WHERE a.attrelid = 'profile_stream.profiles'::regclass AND a.attnum > 0;
	-- a value that is not of the type is null
	FOR i IN 1 .. cardinality(kinds) LOOP
		columns := columns || ', ' || format(CASE kinds[i]
			WHEN 'jsonb' THEN 'p.attributes -> %1$L'
			WHEN 'text' THEN 'p.attributes ->> %1$L'
			WHEN 'timestamptz' THEN 'profile_stream.attribute_time(p.attributes ->> %1$L)'
			WHEN 'numeric' THEN 'CASE WHEN pg_catalog.jsonb_typeof(p.attributes -> %1$L) = ''number'' THEN (p.attributes -> %1$L)::pg_catalog.numeric END'
			WHEN 'boolean' THEN 'CASE WHEN pg_catalog.jsonb_typeof(p.attributes -> %1$L) = ''boolean'' THEN (p.attributes -> %1$L)::pg_catalog.bool END'
			END || ' AS %2$I', names[i], names[i]);
	END LOOP;
	FOREACH wanted IN ARRAY create_profile_view.metrics LOOP
		SELECT m.aggregate INTO kind FROM profile_stream.metrics m WHERE m.name = wanted;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'metric "%" does not exist', wanted USING ERRCODE = 'undefined_object',
				HINT = 'create_metric() makes one; the table metrics lists those there are.';
		END IF;
		columns := columns || ', ' || format('profile_stream.window_value(p.customer_id, p.window_state, %L, pg_catalog.now())%s AS %I',
			wanted, CASE WHEN kind IN ('count', 'distinct') THEN '::bigint' ELSE '' END, wanted);
	END LOOP;

	statement := format('VIEW %s WITH (security_invoker = true) AS SELECT %s FROM profile_stream.materialized_profiles p', target, columns);
	BEGIN
		EXECUTE 'CREATE OR REPLACE ' || statement;
	EXCEPTION WHEN invalid_table_definition THEN
		-- other columns than before: a new view, with the rights of the old one
		EXECUTE format('DROP VIEW %s', target);
		EXECUTE 'CREATE ' || statement;
		FOR privilege IN SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee,
				CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS options
			FROM aclexplode(existing.relacl) a WHERE a.grantee <> existing.relowner LOOP
			EXECUTE format('GRANT %s ON %s TO %s%s', privilege.privilege_type, target, privilege.grantee, privilege.options);
		END LOOP;
		IF pg_get_userbyid(existing.relowner) <> current_user THEN
			EXECUTE format('ALTER VIEW %s OWNER TO %I', target, pg_get_userbyid(existing.relowner));
		END IF;
	END;
	EXECUTE format('COMMENT ON VIEW %s IS %L', target, mark);
END $$;
COMMENT ON FUNCTION create_profile_view(text, text[], text[]) IS 'Make a view of profiles, or make it anew: the columns of the view profiles and typed ones for attributes and metrics, as of now()';

-- section: what changed since a bookmark (api/bookmark.c)

CREATE FUNCTION profile_bookmark() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_profile_bookmark' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION profile_bookmark() IS 'Bookmark for profiles_changed_since(): everything that this statement can see has been seen';

CREATE FUNCTION bookmark_horizon(bookmark text) RETURNS xid
	AS 'MODULE_PATHNAME', 'ps_bookmark_horizon' LANGUAGE c STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION bookmark_horizon(text) IS 'Oldest transaction that a bookmark has not seen; NULL when that cannot be told: another server, timeline or database, or too long ago';

CREATE FUNCTION xid_at_or_after(row_xmin xid, horizon xid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_xid_at_or_after' LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION xid_at_or_after(xid, xid) IS 'Whether a row''s transaction is not older than a horizon; true when that is NULL';

CREATE FUNCTION profiles_changed_since(bookmark text DEFAULT NULL)
	RETURNS TABLE (customer_id text, version bigint, updated_at timestamptz, next_bookmark text)
	LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1000
	BEGIN ATOMIC
		SELECT p.customer_id, p.version, p.updated_at, (SELECT profile_stream.profile_bookmark())
		FROM profile_stream.materialized_profiles p
		WHERE profile_stream.xid_at_or_after(p.xmin, (SELECT profile_stream.bookmark_horizon(profiles_changed_since.bookmark)));
	END;
COMMENT ON FUNCTION profiles_changed_since(text) IS 'Profiles that changed since a bookmark, and the bookmark for the next call; without one, all. One change may come twice, none is missed';

CREATE FUNCTION segment_channel(prefix text, segment text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_segment_channel_sql' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION segment_channel(text, text) IS 'Channel of a segment in a stream with that segment_channel_prefix: the two, or a hash in place of a segment that is too long';

CREATE FUNCTION notification(customer_id text, version bigint, updated_at timestamptz, event_types text[]) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_notification' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION notification(text, bigint, timestamptz, text[]) IS 'Payload with which a change of a customer is announced; for tests';

-- section: Kafka options (api/server_options.c)

CREATE FUNCTION kafka_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_kafka_validator' LANGUAGE c STRICT;
COMMENT ON FUNCTION kafka_validator(text[], oid) IS 'Checks the options of servers and user mappings of profile_stream_kafka';

CREATE FOREIGN DATA WRAPPER profile_stream_kafka NO HANDLER VALIDATOR kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER profile_stream_kafka IS 'Kafka clusters as servers: addresses in the server, secrets in user mappings';

-- section: Redis (api/server_options.c, api/redis.c)

CREATE FUNCTION redis_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_redis_validator' LANGUAGE c STRICT;
COMMENT ON FUNCTION redis_validator(text[], oid) IS 'Checks the options of servers and user mappings of profile_stream_redis';

CREATE FOREIGN DATA WRAPPER profile_stream_redis NO HANDLER VALIDATOR redis_validator;
COMMENT ON FOREIGN DATA WRAPPER profile_stream_redis IS 'Redis servers: addresses in the server, username and password in user mappings';

CREATE FUNCTION test_redis(redis text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_test_redis' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_redis(text) IS 'Try whether a Redis can be reached and written as a stream would: host:port, the path of a socket, or a server of profile_stream_redis';

CREATE FUNCTION redis_write(redis text, prefix text, ttl int, customer_ids text[], versions bigint[], documents text[]) RETURNS text[]
	AS 'MODULE_PATHNAME', 'ps_redis_write' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION redis_write(text, text, int, text[], bigint[], text[]) IS 'Write profiles to Redis as a relay does, or delete those whose document is null; says of each key: written, newer or foreign; for tests';

-- section: streams (api/streams.c)

CREATE FUNCTION create_stream(name text, server name DEFAULT NULL, bootstrap_servers text DEFAULT NULL,
	topic text DEFAULT 'customer-events', group_id text DEFAULT 'profile-materializer',
	start_from text DEFAULT 'earliest', batch_size int DEFAULT 5000, batch_wait interval DEFAULT '200 ms',
	dedupe_retention interval DEFAULT '7 days', on_offset_lost text DEFAULT 'stop',
	notify_channel text DEFAULT NULL, notify text DEFAULT 'customer', options jsonb DEFAULT '{}',
	reorder_wait interval DEFAULT '0', reorder_buffer_size int DEFAULT 1000, late_tolerance interval DEFAULT NULL,
	workers int DEFAULT 1, partitions int[] DEFAULT NULL, dead_letter_pause_ratio double precision DEFAULT 1,
	customer_lock_timeout interval DEFAULT '1 s', redis text DEFAULT NULL, redis_prefix text DEFAULT 'profile:',
	redis_ttl interval DEFAULT '5 minutes', changelog_topic text DEFAULT NULL, dead_letter_topic text DEFAULT NULL,
	segment_channel_prefix text DEFAULT NULL,
	format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL,
	timestamp_unit text DEFAULT 'milliseconds', event_id_scope text DEFAULT 'customer')
	RETURNS void AS 'MODULE_PATHNAME', 'ps_create_stream' LANGUAGE c
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_stream IS 'Create a stream from a Kafka topic into profiles; its workers start when the transaction commits';

CREATE FUNCTION alter_stream(name text, server name DEFAULT NULL, bootstrap_servers text DEFAULT NULL, group_id text DEFAULT NULL,
	batch_size int DEFAULT NULL, batch_wait interval DEFAULT NULL, dedupe_retention interval DEFAULT NULL,
	on_offset_lost text DEFAULT NULL, notify_channel text DEFAULT NULL, notify text DEFAULT NULL, options jsonb DEFAULT NULL,
	reorder_wait interval DEFAULT NULL, reorder_buffer_size int DEFAULT NULL, late_tolerance interval DEFAULT NULL,
	workers int DEFAULT NULL, partitions int[] DEFAULT NULL, dead_letter_pause_ratio double precision DEFAULT NULL,
	customer_lock_timeout interval DEFAULT NULL, redis text DEFAULT NULL, redis_prefix text DEFAULT NULL, redis_ttl interval DEFAULT NULL,
	changelog_topic text DEFAULT NULL, dead_letter_topic text DEFAULT NULL, segment_channel_prefix text DEFAULT NULL,
	format text DEFAULT NULL, field_map jsonb DEFAULT NULL, timestamp_unit text DEFAULT NULL, owner name DEFAULT NULL)
	RETURNS void AS 'MODULE_PATHNAME', 'ps_alter_stream' LANGUAGE c
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION alter_stream IS 'Change settings of a stream while it runs; what is null stays as it is';

CREATE FUNCTION seek_stream(name text, "to" text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_seek_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION seek_stream IS 'Move a paused stream to earliest, latest, a time, or {"partition": offset, ...}; recorded in stream_gaps';

CREATE FUNCTION pause_stream(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_pause_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pause_stream(text) IS 'Stop a stream''s worker within a second of the commit';

CREATE FUNCTION resume_stream(name text, anyway boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_resume_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resume_stream(text, boolean) IS 'Start a paused or restored stream, or one of another cluster, from its stored offsets; anyway: also where the data that they stand for was not restored';

CREATE FUNCTION drop_stream(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_stream(text) IS 'Stop a stream and remove it with its offsets; profiles and dead letters stay';

CREATE FUNCTION start_streams() RETURNS int
	AS 'MODULE_PATHNAME', 'ps_start_streams' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION start_streams() IS 'Start the workers of enabled streams that do not run; returns how many';

CREATE FUNCTION resync_sink(name text, sink text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_resync_sink' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resync_sink(text, text) IS 'Have a stream''s relay deliver everything to a sink again, as after FLUSHALL; returns how many';

CREATE FUNCTION wait_for_offset(name text, partition int, kafka_offset bigint, timeout interval DEFAULT '30 s') RETURNS void
	AS 'MODULE_PATHNAME', 'ps_wait_for_offset' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION wait_for_offset(text, int, bigint, interval) IS 'Wait until the message at an offset is visible';

CREATE FUNCTION wait_for_stream(name text, timeout interval DEFAULT '30 s') RETURNS void
	AS 'MODULE_PATHNAME', 'ps_wait_for_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION wait_for_stream(text, interval) IS 'Wait until everything that was in the topic at the call is visible; for the stream''s owner';

CREATE FUNCTION test_connection(server name, topic text, OUT partition int, OUT low_offset bigint, OUT end_offset bigint)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'ps_test_connection' LANGUAGE c STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_connection(name, text) IS 'Ask a server''s brokers for the partitions of a topic and their offsets';

CREATE FUNCTION reconcile(name text, OUT partition int, OUT consumed bigint, OUT applied bigint, OUT duplicates bigint,
	OUT dead bigint, OUT late bigint, OUT tombstones bigint, OUT blocked bigint, OUT replayed bigint, OUT held bigint,
	OUT difference bigint, OUT chunks bigint, OUT wrong_chunks bigint)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'ps_reconcile' LANGUAGE c STRICT STABLE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reconcile(text) IS 'Balance a stream''s books: per partition what was consumed, what became of it and the difference, which is 0; and how many sealed chunks differ from their samples or day buckets';

CREATE VIEW stream_leases WITH (security_invoker = true) AS
	SELECT l.classid::bigint AS stream_id, l.pid,
		CASE WHEN l.objid::bigint >= 4294967232 THEN 4294967295 - l.objid::bigint END AS worker,
		CASE WHEN l.objid::bigint <= 2147483647 THEN l.objid::bigint END AS partition,
		CASE l.objid::bigint WHEN 4294967231 THEN 'redis' WHEN 4294967230 THEN 'changelog' WHEN 4294967229 THEN 'dead_letters' END AS relay
	FROM pg_catalog.pg_locks l
	WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.classid <> 0::oid AND l.mode = 'ExclusiveLock' AND l.granted
		AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stream_leases IS 'Workers that run, by their number from 0, the partitions that each reads, and relays, by their sink';

-- what is true of a process also while its transaction hangs (api/process_waits.c)

CREATE FUNCTION process_waits(OUT pid int, OUT waits_for text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_process_waits' LANGUAGE c STRICT VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION process_waits() IS 'What workers, relays and refreshes of this database wait for: for what, which process has it, since when';

CREATE FUNCTION reported_ends(OUT stream_id int, OUT partition int, OUT end_offset bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_reported_ends' LANGUAGE c STRICT VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reported_ends() IS 'End offsets that workers which hang have asked Kafka for meanwhile';

CREATE VIEW stat_partitions WITH (security_invoker = true) AS
	SELECT s.name AS stream, s.topic, o.partition, o.state, o.start_offset, o.next_offset, GREATEST(o.end_offset, e.end_offset) AS end_offset,
		GREATEST(o.end_offset - o.next_offset, e.end_offset - o.next_offset, 0) AS lag,
		o.consumed, o.applied, o.duplicates, o.dead, o.late, o.tombstones, o.blocked, o.replayed, o.held, o.held_bytes,
		o.last_message_at, o.committed_at, o.error, l.pid AS worker_pid
	FROM profile_stream.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id
		LEFT JOIN profile_stream.stream_leases l ON l.stream_id = o.stream_id AND l.partition = o.partition
		LEFT JOIN profile_stream.reported_ends() e ON e.stream_id = o.stream_id AND e.partition = o.partition;
COMMENT ON VIEW stat_partitions IS 'Progress and counters of each partition';

CREATE VIEW stat_streams WITH (security_invoker = true) AS
	WITH running AS (
		SELECT l.stream_id, pg_catalog.count(*)::int AS workers, (pg_catalog.array_agg(l.pid ORDER BY l.worker))[1] AS pid
		FROM profile_stream.stream_leases l WHERE l.worker IS NOT NULL GROUP BY l.stream_id
	), totals AS (
		SELECT o.stream_id, pg_catalog.count(*) AS partitions, pg_catalog.sum(o.applied)::bigint AS applied,
			pg_catalog.sum(o.duplicates)::bigint AS duplicates, pg_catalog.sum(o.dead)::bigint AS dead,
			pg_catalog.sum(o.late)::bigint AS late, pg_catalog.sum(o.tombstones)::bigint AS tombstones,
			pg_catalog.sum(o.blocked)::bigint AS blocked, pg_catalog.sum(o.replayed)::bigint AS replayed, pg_catalog.sum(o.held)::bigint AS held,
			pg_catalog.sum(o.held_bytes)::bigint AS held_bytes,
			pg_catalog.sum(GREATEST(o.end_offset - o.next_offset, e.end_offset - o.next_offset, 0))::bigint AS lag,
			pg_catalog.max(o.last_message_at) AS last_message_at, pg_catalog.max(o.committed_at) AS committed_at,
			pg_catalog.count(*) FILTER (WHERE o.state = 'offset_lost') AS lost,
			pg_catalog.count(*) FILTER (WHERE o.error IS NOT NULL) AS failing,
			pg_catalog.min(pg_catalog.format('partition %s: %s', o.partition, o.error)) FILTER (WHERE o.error IS NOT NULL) AS error
		FROM profile_stream.stream_offsets o
			LEFT JOIN profile_stream.reported_ends() e ON e.stream_id = o.stream_id AND e.partition = o.partition
		GROUP BY o.stream_id
	), waiting AS (
		SELECT l.stream_id, pg_catalog.min(w.waits_for) AS waits_for
		FROM profile_stream.process_waits() w JOIN profile_stream.stream_leases l ON l.pid = w.pid AND l.worker IS NOT NULL
		GROUP BY l.stream_id
	), here AS (
		SELECT t.*, COALESCE(t.cluster <> profile_stream.current_cluster(), false) AS is_foreign,
			-- a worker that cannot connect is tried again by a starter
			t.state IN ('disabled', 'no_worker_slot', 'quarantined', 'no_owner')
				OR t.state = 'retrying' AND COALESCE(t.next_attempt_at > pg_catalog.clock_timestamp() - '10 s'::interval, false) AS is_known
		FROM profile_stream.stream_status t
		WHERE t.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			AND EXISTS (SELECT FROM profile_stream.confirmed_code c WHERE c.kind = 'stream' AND c.key = t.stream_id::text)
	)
	SELECT s.name AS stream,
		CASE WHEN h.stream_id IS NULL THEN 'restored'
			WHEN NOT h.enabled AND r.pid IS NOT NULL THEN 'pausing'
			WHEN NOT h.enabled THEN 'paused'
			WHEN h.is_foreign THEN 'foreign_cluster'
			WHEN r.pid IS NULL AND NOT h.is_known THEN 'not_running'
			WHEN w.waits_for IS NOT NULL THEN 'waiting'
			WHEN h.state = 'running' AND t.lost > 0 THEN 'offset_lost'
			ELSE h.state END AS state,
		s.topic, pg_catalog.pg_get_userbyid(s.owner) AS owner, r.pid AS worker_pid, COALESCE(r.workers, 0) AS workers, t.partitions, t.applied, t.duplicates, t.dead, t.late, t.tombstones,
		t.blocked, t.replayed, t.held, t.held_bytes, t.lag,
		t.last_message_at, t.committed_at,
		CASE WHEN h.is_foreign THEN pg_catalog.format('the stream belongs to cluster "%s", and this server is of cluster "%s"', h.cluster, profile_stream.current_cluster())
			WHEN w.waits_for IS NOT NULL THEN w.waits_for
			WHEN h.state = 'running' AND t.failing > 0 THEN COALESCE(h.error, t.error)
			ELSE h.error END AS error,
		CASE WHEN h.stream_id IS NULL THEN 'It came by a restore or a subscription; resume_stream() confirms it and goes on from the stored offsets.'
			WHEN h.enabled AND h.is_foreign THEN 'Where this is a copy, leave it so. Where it is the cluster itself, under another name, resume_stream() makes the stream its own.'
			WHEN h.enabled AND r.pid IS NULL AND h.hint IS NULL THEN 'start_streams() starts it; shared_preload_libraries starts it with the server.'
			WHEN w.waits_for IS NOT NULL THEN 'End what it waits for, or wait: the stream goes on by itself.'
			WHEN h.state = 'running' AND t.lost > 0 THEN 'See the error of each partition in stat_partitions.'
			WHEN h.state = 'running' AND t.failing > 0 THEN 'Another broker or setting may read it. To go past it: pause_stream(), seek_stream(name, ''{"partition": offset + 1}''), resume_stream().'
			ELSE COALESCE(h.hint, profile_stream.library_warning()) END AS hint,
		h.error_at, h.next_attempt_at, h.notifications_skipped, h.since
	FROM profile_stream.streams s
		LEFT JOIN here h ON h.stream_id = s.stream_id
		LEFT JOIN running r ON r.stream_id = s.stream_id
		LEFT JOIN waiting w ON w.stream_id = s.stream_id
		LEFT JOIN totals t ON t.stream_id = s.stream_id;
COMMENT ON VIEW stat_streams IS 'State, counters, lag and last error of each stream';

CREATE VIEW stat_sinks WITH (security_invoker = true) AS
	SELECT k.stream, k.sink,
		CASE WHEN h.cluster <> profile_stream.current_cluster() THEN 'foreign_cluster'
			WHEN r.pid IS NULL AND h.enabled AND COALESCE(t.state = 'retrying' AND t.next_attempt_at > pg_catalog.clock_timestamp() - '10 s'::interval, false)
				THEN 'retrying'
			WHEN r.pid IS NULL AND t.state IN ('no_worker_slot', 'no_owner') THEN t.state
			WHEN r.pid IS NULL THEN 'not_running'
			WHEN w.waits_for IS NOT NULL THEN 'waiting'
			WHEN t.state IN ('no_worker_slot', 'no_owner') THEN 'starting' ELSE COALESCE(t.state, 'starting') END AS state,
		r.pid AS relay_pid, COALESCE(t.delivered, 0) AS delivered, COALESCE(t.refused, 0) AS refused,
		(SELECT pg_catalog.count(*) FROM profile_stream.sink_pending p WHERE p.stream_id = k.stream_id AND p.sink = k.sink)
		+ (SELECT COALESCE(pg_catalog.sum(o.customers), 0)::bigint FROM profile_stream.outbox o WHERE o.stream_id = k.stream_id AND o.sink = k.sink)
		+ (SELECT pg_catalog.count(*) FROM profile_stream.dead_letter_outbox d WHERE d.stream_id = k.stream_id AND k.sink = 'dead_letters') AS backlog,
		t.delivered_at, COALESCE(w.waits_for, t.error) AS error, t.hint, t.error_at, t.next_attempt_at, t.since
	FROM profile_stream.stream_sinks k
		LEFT JOIN profile_stream.stream_leases r ON r.stream_id = k.stream_id AND r.relay = k.sink
		LEFT JOIN profile_stream.process_waits() w ON w.pid = r.pid
		LEFT JOIN profile_stream.sink_status t ON t.stream_id = k.stream_id AND t.sink = k.sink
		LEFT JOIN profile_stream.stream_status h ON h.stream_id = k.stream_id AND h.enabled
			AND h.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stat_sinks IS 'State, backlog, counters and last error of what each stream delivers to';

-- section: rebuilds (api/rebuild.c)

CREATE TABLE stream_rebuilds (
	stream_id int PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
	database oid NOT NULL,
	allow_missing boolean NOT NULL,
	started_at timestamptz NOT NULL,
	resumed_at timestamptz,
	resumed_done bigint
);
CREATE UNIQUE INDEX stream_rebuilds_one ON stream_rebuilds ((true));
COMMENT ON TABLE stream_rebuilds IS 'The rebuild that is under way in this database, if any; resumed_at and resumed_done are what its rate counts from';

-- Not dumped: what a rebuild has done so far is read again from Kafka.
CREATE SCHEMA profile_stream_rebuild;
COMMENT ON SCHEMA profile_stream_rebuild IS 'The shadow: second copies of the tables that a stream fills, empty while no rebuild is under way';

DO $$
DECLARE
	original record;
	index record;
BEGIN
	FOR original IN
		SELECT c.oid, c.relname, c.relreplident, COALESCE(' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', '') AS options
		FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'profile_stream'::pg_catalog.regnamespace
			AND c.relname OPERATOR(pg_catalog.=) ANY (ARRAY['stream_offsets', 'stream_status', 'stream_gaps',
				'materialized_profiles', 'window_chunks', 'event_ids', 'dead_letters']::name[])
	LOOP
		EXECUTE pg_catalog.format('CREATE TABLE profile_stream_rebuild.%1$I (LIKE profile_stream.%1$I INCLUDING ALL)%2$s',
			original.relname, original.options);
		IF original.relreplident OPERATOR(pg_catalog.=) 'f' THEN
			EXECUTE pg_catalog.format('ALTER TABLE profile_stream_rebuild.%I REPLICA IDENTITY FULL', original.relname);
		END IF;
		EXECUTE pg_catalog.format('COMMENT ON TABLE profile_stream_rebuild.%1$I IS %2$L', original.relname,
			pg_catalog.concat('Shadow of profile_stream.', original.relname, ', for a rebuild'));
		-- indexes have the names that they have there: they are looked up by name
		FOR index IN
			SELECT a.relname AS wanted, b.relname AS found
			FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class a ON a.oid OPERATOR(pg_catalog.=) x.indexrelid,
				pg_catalog.pg_index y JOIN pg_catalog.pg_class b ON b.oid OPERATOR(pg_catalog.=) y.indexrelid
			WHERE x.indrelid OPERATOR(pg_catalog.=) original.oid
				AND y.indrelid OPERATOR(pg_catalog.=) pg_catalog.format('profile_stream_rebuild.%I', original.relname)::pg_catalog.regclass
				AND pg_catalog.substring(pg_catalog.pg_get_indexdef(x.indexrelid), ' USING .*')
					OPERATOR(pg_catalog.=) pg_catalog.substring(pg_catalog.pg_get_indexdef(y.indexrelid), ' USING .*')
				AND a.relname OPERATOR(pg_catalog.<>) b.relname
		LOOP
			EXECUTE pg_catalog.format('ALTER INDEX profile_stream_rebuild.%I RENAME TO %I', index.found, index.wanted);
		END LOOP;
	END LOOP;
END
$$;

CREATE FUNCTION profile_stream_rebuild.window_value(customer_id text, window_state bytea, metric text, as_of timestamptz) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_shadow_window_value' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION profile_stream_rebuild.window_value(text, bytea, text, timestamptz) IS 'profile_stream.window_value() of a profile of the shadow';

CREATE FUNCTION profile_stream_rebuild.metric_values(customer_id text, window_state bytea, as_of timestamptz) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_shadow_metric_values' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION profile_stream_rebuild.metric_values(text, bytea, timestamptz) IS 'profile_stream.metric_values() of a profile of the shadow';

CREATE FUNCTION rebuild(name text, allow_missing boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_start' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rebuild(text, boolean) IS 'Replay a stream''s topic into a shadow copy, beside the profiles that are served; allow_missing: also when the topic has lost its beginning';

CREATE FUNCTION pause_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_pause' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pause_rebuild(text) IS 'Stop a rebuild''s worker within a second of the commit; what it has done stays';

CREATE FUNCTION resume_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_resume' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resume_rebuild(text) IS 'Start a paused rebuild where it was';

CREATE FUNCTION cancel_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_cancel' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cancel_rebuild(text) IS 'End a rebuild and empty the shadow; the profiles stay as they are';

CREATE FUNCTION rebuild_diff(name text, max_rows int DEFAULT 100, OUT customer_id text, OUT what text, OUT fields jsonb)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'ps_rebuild_diff' LANGUAGE c STRICT STABLE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rebuild_diff(text, int) IS 'Profiles that swap_rebuild() would change: missing or new in the rebuild, or changed, with each field as [now, rebuilt]';

CREATE FUNCTION swap_rebuild(name text, timeout interval DEFAULT '60 s') RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_rebuild_swap' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION swap_rebuild(text, interval) IS 'Bring the profiles to what the rebuild says, in this transaction, and end it; returns how many profiles changed';

CREATE VIEW stat_rebuilds WITH (security_invoker = true) AS
	WITH progress AS (
		SELECT o.stream_id, pg_catalog.sum(o.next_offset - o.start_offset)::bigint AS done,
			pg_catalog.sum(GREATEST(o.end_offset, o.next_offset) - o.start_offset)::bigint AS total,
			pg_catalog.max(o.committed_at) AS committed_at,
			pg_catalog.min(o.error) FILTER (WHERE o.state = 'offset_lost') AS lost, pg_catalog.min(o.error) FILTER (WHERE o.state = 'running') AS refused
		FROM profile_stream_rebuild.stream_offsets o GROUP BY o.stream_id
	), running AS (
		SELECT l.stream_id - 2147483648 AS stream_id, l.pid FROM profile_stream.stream_leases l WHERE l.worker = 0
	), speed AS (
		SELECT b.stream_id, (p.done - b.resumed_done)::numeric
			/ NULLIF(EXTRACT(epoch FROM p.committed_at - b.resumed_at), 0::numeric) AS rate
		FROM profile_stream.stream_rebuilds b JOIN progress p ON p.stream_id = b.stream_id
		WHERE p.committed_at > b.resumed_at
	)
	SELECT s.name AS stream,
		CASE WHEN NOT t.enabled AND r.pid IS NOT NULL THEN 'pausing'
			WHEN NOT t.enabled THEN 'paused'
			WHEN p.lost IS NOT NULL THEN 'incomplete'
			WHEN r.pid IS NULL AND t.state NOT IN ('disabled', 'no_worker_slot', 'quarantined', 'incomplete', 'no_owner', 'foreign_cluster')
				AND NOT (t.state = 'starting' AND t.changed_at > pg_catalog.now() - '10 s'::interval) THEN 'not_running'
			WHEN w.waits_for IS NOT NULL AND t.state <> 'ready' THEN 'waiting'
			ELSE t.state END AS state,
		COALESCE(p.done, 0) AS events_done, p.total AS events_total, pg_catalog.round(v.rate, 1) AS events_per_second,
		CASE WHEN t.state = 'running' AND v.rate > 0::numeric AND r.pid IS NOT NULL
			THEN pg_catalog.now() + ((p.total - p.done)::numeric / v.rate)::float8 * '1 s'::interval END AS estimated_end,
		b.started_at, b.allow_missing, r.pid AS worker_pid, COALESCE(w.waits_for, t.error, p.lost, p.refused) AS error,
		CASE WHEN p.lost IS NOT NULL THEN 'cancel_rebuild(), then rebuild(name, allow_missing => true) goes on from what is left.'
			WHEN t.enabled AND r.pid IS NULL AND t.hint IS NULL THEN 'start_streams() starts it; shared_preload_libraries starts it with the server.'
			ELSE t.hint END AS hint
	FROM profile_stream.stream_rebuilds b
		JOIN profile_stream.streams s ON s.stream_id = b.stream_id
		JOIN profile_stream_rebuild.stream_status t ON t.stream_id = b.stream_id
		LEFT JOIN progress p ON p.stream_id = b.stream_id
		LEFT JOIN speed v ON v.stream_id = b.stream_id
		LEFT JOIN running r ON r.stream_id = b.stream_id
		LEFT JOIN profile_stream.process_waits() w ON w.pid = r.pid
	WHERE b.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stat_rebuilds IS 'The rebuild under way: state, progress, rate and estimated end';

-- section: scores and segments (api/scores.c, api/segments.c)

-- no row: the defaults. A row that the script made would collide with the one that a dump restores.
CREATE TABLE score_settings (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	new_days double precision NOT NULL DEFAULT 30 CHECK (new_days >= 0::float8),
	active_days double precision NOT NULL DEFAULT 30 CHECK (active_days >= 0::float8),
	dormant_days double precision NOT NULL DEFAULT 90 CHECK (dormant_days >= 0::float8),
	loyal_transactions double precision NOT NULL DEFAULT 4,
	champion_transactions double precision NOT NULL DEFAULT 8,
	champion_value numeric NOT NULL DEFAULT 1000,
	at_risk_churn double precision NOT NULL DEFAULT 0.7,
	half_gaps double precision NOT NULL DEFAULT 4 CHECK (half_gaps > 0::float8),
	least_gap_days double precision NOT NULL DEFAULT 1 CHECK (least_gap_days > 0::float8),
	default_gap_days double precision NOT NULL DEFAULT 30 CHECK (default_gap_days > 0::float8),
	ticket_risk double precision NOT NULL DEFAULT 0.1 CHECK (ticket_risk BETWEEN 0::float8 AND 1::float8),
	trend_risk double precision NOT NULL DEFAULT 0.3 CHECK (trend_risk BETWEEN 0::float8 AND 1::float8),
	margin double precision NOT NULL DEFAULT 0.2 CHECK (margin BETWEEN 0::float8 AND 1::float8),
	monthly_retention double precision NOT NULL DEFAULT 0.95 CHECK (monthly_retention >= 0::float8 AND monthly_retention < 1::float8),
	monthly_discount double precision NOT NULL DEFAULT 0.01 CHECK (monthly_discount BETWEEN 0::float8 AND 1::float8)
);
SELECT pg_catalog.pg_extension_config_dump('score_settings', '');
COMMENT ON TABLE score_settings IS 'What default_scores() counts with, where it is not to be the defaults: one row at most';

CREATE VIEW score_parameters WITH (security_invoker = true) AS
	SELECT s.new_days, s.active_days, s.dormant_days, s.loyal_transactions, s.champion_transactions, s.champion_value, s.at_risk_churn,
		s.half_gaps, s.least_gap_days, s.default_gap_days, s.ticket_risk, s.trend_risk, s.margin, s.monthly_retention, s.monthly_discount
	FROM profile_stream.score_settings s
	UNION ALL
	SELECT 30, 30, 90, 4, 8, 1000, 0.7, 4, 1, 30, 0.1, 0.3, 0.2, 0.95, 0.01
	WHERE NOT EXISTS (SELECT FROM profile_stream.score_settings);
COMMENT ON VIEW score_parameters IS 'What default_scores() counts with: the row of score_settings, or the defaults';

CREATE FUNCTION set_score_settings(new_days double precision DEFAULT NULL, active_days double precision DEFAULT NULL, dormant_days double precision DEFAULT NULL,
	loyal_transactions double precision DEFAULT NULL, champion_transactions double precision DEFAULT NULL, champion_value numeric DEFAULT NULL,
	at_risk_churn double precision DEFAULT NULL, half_gaps double precision DEFAULT NULL, least_gap_days double precision DEFAULT NULL,
	default_gap_days double precision DEFAULT NULL, ticket_risk double precision DEFAULT NULL, trend_risk double precision DEFAULT NULL,
	margin double precision DEFAULT NULL, monthly_retention double precision DEFAULT NULL, monthly_discount double precision DEFAULT NULL) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		INSERT INTO profile_stream.score_settings (
				new_days, active_days, dormant_days, loyal_transactions, champion_transactions, champion_value, at_risk_churn, half_gaps,
				least_gap_days, default_gap_days, ticket_risk, trend_risk, margin, monthly_retention, monthly_discount)
			SELECT COALESCE(set_score_settings.new_days, p.new_days), COALESCE(set_score_settings.active_days, p.active_days),
				COALESCE(set_score_settings.dormant_days, p.dormant_days), COALESCE(set_score_settings.loyal_transactions, p.loyal_transactions),
				COALESCE(set_score_settings.champion_transactions, p.champion_transactions),
				COALESCE(set_score_settings.champion_value, p.champion_value), COALESCE(set_score_settings.at_risk_churn, p.at_risk_churn),
				COALESCE(set_score_settings.half_gaps, p.half_gaps), COALESCE(set_score_settings.least_gap_days, p.least_gap_days),
				COALESCE(set_score_settings.default_gap_days, p.default_gap_days), COALESCE(set_score_settings.ticket_risk, p.ticket_risk),
				COALESCE(set_score_settings.trend_risk, p.trend_risk), COALESCE(set_score_settings.margin, p.margin),
				COALESCE(set_score_settings.monthly_retention, p.monthly_retention), COALESCE(set_score_settings.monthly_discount, p.monthly_discount)
			FROM profile_stream.score_parameters p
			ON CONFLICT (is_only) DO UPDATE SET (
				new_days, active_days, dormant_days, loyal_transactions, champion_transactions, champion_value, at_risk_churn, half_gaps,
				least_gap_days, default_gap_days, ticket_risk, trend_risk, margin, monthly_retention, monthly_discount)
				= (excluded.new_days, excluded.active_days, excluded.dormant_days, excluded.loyal_transactions, excluded.champion_transactions,
				excluded.champion_value, excluded.at_risk_churn, excluded.half_gaps, excluded.least_gap_days, excluded.default_gap_days,
				excluded.ticket_risk, excluded.trend_risk, excluded.margin, excluded.monthly_retention, excluded.monthly_discount);
	END;
COMMENT ON FUNCTION set_score_settings IS 'Set what default_scores() counts with, from the next refresh on; what is null stays as it is';

CREATE FUNCTION reset_score_settings() RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		DELETE FROM profile_stream.score_settings;
	END;
COMMENT ON FUNCTION reset_score_settings() IS 'Let default_scores() count with the defaults again';

-- OFFSET 0: what a step has computed is not computed again for each use in the next one
CREATE FUNCTION default_scores(profile materialized_profiles, as_of timestamptz,
	OUT segment text, OUT churn_risk_score double precision, OUT lifetime_value numeric) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
	BEGIN ATOMIC
		SELECT CASE
				WHEN c.silent_days > s.dormant_days THEN 'dormant'
				WHEN c.age_days <= s.new_days THEN 'new'
				WHEN c.silent_days > s.active_days OR c.churn >= s.at_risk_churn THEN 'at_risk'
				WHEN c.transactions >= s.champion_transactions AND c.monetary >= s.champion_value THEN 'champion'
				WHEN c.transactions >= s.loyal_transactions THEN 'loyal'
				ELSE 'regular' END,
			c.churn,
			pg_catalog.round(GREATEST(c.monetary, 0) * (s.margin * (1::float8 - c.churn)
				* s.monthly_retention / (1::float8 + s.monthly_discount - s.monthly_retention))::numeric, 2)
		FROM profile_stream.score_parameters s
			CROSS JOIN LATERAL (
				SELECT GREATEST(pg_catalog.date_part('epoch', default_scores.as_of - (profile).watermark) / 86400::float8, 0) AS silent_days,
					GREATEST(pg_catalog.date_part('epoch', default_scores.as_of - (profile).first_event_at) / 86400::float8, 0) AS age_days,
					CASE WHEN (profile).version >= 3
						THEN GREATEST(pg_catalog.date_part('epoch', (profile).watermark - (profile).first_event_at) / 86400::float8
							/ ((profile).version - 1)::float8, s.least_gap_days)
						ELSE s.default_gap_days END AS gap_days,
					profile_stream.window_value((profile).customer_id, (profile).window_state, 'transaction_count_30d', default_scores.as_of)
						::double precision AS transactions,
					profile_stream.window_value((profile).customer_id, (profile).window_state, 'total_transaction_value_30d', default_scores.as_of)
						AS monetary,
					profile_stream.window_value((profile).customer_id, (profile).window_state, 'support_ticket_count_90d', default_scores.as_of)
						::double precision AS tickets,
					COALESCE(((profile).event_counts ->> 'transaction.completed'::text)::double precision, 0) AS all_transactions
				OFFSET 0) m
			CROSS JOIN LATERAL (
				SELECT m.silent_days, m.age_days, m.transactions, m.monetary, pg_catalog.round((1::float8
					- pg_catalog.power(0.5, LEAST(m.silent_days / (s.half_gaps * m.gap_days), 50))
					* pg_catalog.power(1::float8 - s.ticket_risk, LEAST(m.tickets, 50))
					* (1::float8 - s.trend_risk * CASE WHEN m.age_days >= 60::float8 AND m.all_transactions > m.transactions
						THEN GREATEST(1::float8 - (m.transactions / 30::float8) / ((m.all_transactions - m.transactions) / (m.age_days - 30::float8)), 0)
						ELSE 0 END))::numeric, 2)::double precision AS churn
				OFFSET 0) c;
	END;
COMMENT ON FUNCTION default_scores(materialized_profiles, timestamptz) IS 'Segment, churn risk and lifetime value of a profile as of a moment, as refresh_scores() computes them without a function of yours';

CREATE TABLE score_function (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	function text NOT NULL,
	owner regrole NOT NULL,
	set_at timestamptz NOT NULL
);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON score_function
	FOR EACH ROW EXECUTE FUNCTION definition_written('score_function', 'is_only');
ALTER TABLE score_function ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('score_function', '');
COMMENT ON TABLE score_function IS 'The function that set_score_function() set, and with whose rights it runs; no row: default_scores() alone';

CREATE FUNCTION set_score_function(function regprocedure) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_set_score_function' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION set_score_function(regprocedure) IS 'Let a function(profile jsonb) of jsonb say segment, churnRiskScore and lifetimeValue, with the rights of the caller of this; NULL: the defaults again';

-- Not dumped: the next refresh goes on from scored_at.
CREATE TABLE score_refresh (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	state text COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'failed')),
	started_at timestamptz NOT NULL,
	finished_at timestamptz,
	pid int NOT NULL,
	profiles_total bigint NOT NULL,
	profiles_done bigint NOT NULL DEFAULT 0,
	profiles_changed bigint NOT NULL DEFAULT 0,
	segment_changes bigint NOT NULL DEFAULT 0,
	profiles_failed bigint NOT NULL DEFAULT 0,
	profiles_skipped bigint NOT NULL DEFAULT 0,
	notifications_skipped bigint NOT NULL DEFAULT 0,
	batch_ms double precision,
	lock_ms double precision NOT NULL DEFAULT 0,
	committed_at timestamptz NOT NULL,
	error text,
	error_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE score_refresh IS 'How far the last refresh of scores has come';

CREATE VIEW stat_score_refresh WITH (security_invoker = true) AS
	SELECT CASE WHEN r.state = 'running' AND l.pid IS NULL THEN 'interrupted'
			WHEN r.state = 'running' AND w.waits_for IS NOT NULL THEN 'waiting' ELSE r.state END AS state,
		r.started_at, r.finished_at, CASE WHEN r.state = 'running' THEN l.pid END AS pid,
		r.profiles_total, r.profiles_done, r.profiles_changed, r.segment_changes, r.profiles_failed, r.profiles_skipped, r.notifications_skipped,
		pg_catalog.round((r.profiles_done::float8 / NULLIF(pg_catalog.date_part('epoch', r.committed_at - r.started_at), 0::float8))::numeric, 1) AS profiles_per_second,
		r.batch_ms * '1 ms'::interval AS last_batch, r.lock_ms * '1 ms'::interval AS longest_lock,
		CASE WHEN r.state = 'running' THEN COALESCE(w.waits_for, r.error) ELSE r.error END AS error, r.error_at
	FROM profile_stream.score_refresh r LEFT JOIN pg_catalog.pg_locks l
		ON l.locktype = 'advisory' AND l.objsubid = 3 AND l.classid = 0::oid AND l.objid = 1::oid AND l.mode = 'ExclusiveLock' AND l.granted
		AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		LEFT JOIN profile_stream.process_waits() w ON w.pid = l.pid;
COMMENT ON VIEW stat_score_refresh IS 'State and progress of the refresh of scores that runs, or ran last';

CREATE PROCEDURE refresh_scores(stale_after interval DEFAULT '1 day', batch int DEFAULT 1000, as_of timestamptz DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'ps_refresh_scores' LANGUAGE c;
COMMENT ON PROCEDURE refresh_scores(interval, int, timestamptz) IS 'Compute segment, churn risk and lifetime value of profiles that were not scored since, a batch a transaction';

CREATE VIEW segment_profiles WITH (security_invoker = true) AS
	SELECT p.*, m.attributes, m.event_counts, m.first_event_at, m.scored_at
	FROM profile_stream.profiles p JOIN profile_stream.materialized_profiles m ON m.customer_id = p.customer_id;
COMMENT ON VIEW segment_profiles IS 'What predicates of segments are conditions on: profiles, with attributes and counts of events';

CREATE TABLE segments (
	name text COLLATE "C" PRIMARY KEY,
	predicate text NOT NULL,
	owner regrole NOT NULL,
	created_at timestamptz NOT NULL,
	refreshed_at timestamptz,
	error text,
	error_at timestamptz,
	failing_since timestamptz
);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OF name, predicate, owner OR DELETE ON segments
	FOR EACH ROW EXECUTE FUNCTION definition_written('segment', 'name');
ALTER TABLE segments ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('segments', '');
COMMENT ON TABLE segments IS 'Segments by rule: the predicate, and with whose rights it is evaluated; when that was last done, and what went wrong';

CREATE TABLE segment_members (
	segment text COLLATE "C" NOT NULL REFERENCES segments ON DELETE CASCADE,
	customer_id text COLLATE "C" NOT NULL,
	entered_at timestamptz NOT NULL,
	PRIMARY KEY (segment, customer_id)
);
CREATE INDEX segment_members_customer ON segment_members (customer_id);
SELECT pg_catalog.pg_extension_config_dump('segment_members', '');
COMMENT ON TABLE segment_members IS 'Who is in a segment by rule, as of its last refresh';

CREATE TABLE segment_changes (
	change_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('score', 'rule')),
	from_segment text,
	to_segment text,
	changed_at timestamptz NOT NULL
);
CREATE INDEX segment_changes_customer ON segment_changes (customer_id);
CREATE INDEX segment_changes_changed_at ON segment_changes (changed_at);
SELECT pg_catalog.pg_extension_config_dump('segment_changes', '');
SELECT pg_catalog.pg_extension_config_dump('segment_changes_change_id_seq', '');
COMMENT ON TABLE segment_changes IS 'Changes of segments: of the scored one (kind score), or that a customer entered (from null) or left (to null) one by rule (kind rule)';

CREATE FUNCTION create_segment(name text, predicate text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_create_segment' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_segment(text, text) IS 'Create a segment of the customers for whom a condition on the view segment_profiles is true; it is evaluated with the caller''s rights';

CREATE FUNCTION drop_segment(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_segment' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_segment(text) IS 'Remove a segment by rule and its members, without announcing that they left';

CREATE FUNCTION alter_segment(name text, owner name) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_alter_segment' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION alter_segment(text, name) IS 'Give a segment by rule to another role, with whose rights its predicate is evaluated from then on';

CREATE PROCEDURE refresh_segments(name text DEFAULT NULL, batch int DEFAULT 1000)
	AS 'MODULE_PATHNAME', 'ps_refresh_segments' LANGUAGE c;
COMMENT ON PROCEDURE refresh_segments(text, int) IS 'Evaluate segments by rule, one or all, a batch of profiles a transaction, and announce who entered and left';

-- section: code of users (api/confirm.c)

CREATE FUNCTION code_state(function text, owner oid, confirmed boolean) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_code_state' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION code_state(text, oid, boolean) IS 'Whether code of a user can run: ok, unconfirmed, no_owner, no_function or other_owner; function null: an expression';

CREATE VIEW code_definitions WITH (security_invoker = true) AS
	SELECT 'handler' AS kind, h.handler_id::text AS key, h.event_type AS name, h.function AS function, NULL AS predicate, h.owner::oid AS owner,
		EXISTS (SELECT FROM profile_stream.confirmed_code c WHERE c.kind = 'handler' AND c.key = h.handler_id::text) AS confirmed
	FROM profile_stream.event_handlers h
	UNION ALL
	SELECT 'upcaster', u.from_version::text || ':' || u.event_type, u.event_type, u.function, NULL, u.owner::oid,
		EXISTS (SELECT FROM profile_stream.confirmed_code c WHERE c.kind = 'upcaster' AND c.key = u.from_version::text || ':' || u.event_type)
	FROM profile_stream.event_upcasters u
	UNION ALL
	SELECT 'score_function', 't', f.function, f.function, NULL, f.owner::oid,
		EXISTS (SELECT FROM profile_stream.confirmed_code c WHERE c.kind = 'score_function')
	FROM profile_stream.score_function f
	UNION ALL
	SELECT 'segment', s.name, s.name, NULL, s.predicate, s.owner::oid,
		EXISTS (SELECT FROM profile_stream.confirmed_code c WHERE c.kind = 'segment' AND c.key = s.name)
	FROM profile_stream.segments s;
COMMENT ON VIEW code_definitions IS 'What stat_code shows, with the keys of confirmed_code';

CREATE VIEW stat_code WITH (security_invoker = true) AS
	SELECT d.kind, d.name, COALESCE(d.function, d.predicate) AS code, pg_catalog.pg_get_userbyid(d.owner) AS owner, c.state,
		CASE c.state
			WHEN 'unconfirmed' THEN 'It came by a restore, a subscription or a statement. Read it; its owner or a superuser lets it run with confirm_code().'
			WHEN 'no_owner' THEN CASE d.kind
				WHEN 'segment' THEN 'Its role is gone. A superuser gives it another one with alter_segment().'
				WHEN 'score_function' THEN 'Its role is gone. A superuser sets it anew with set_score_function().'
				ELSE 'Its role is gone. The owner of the function registers it again.' END
			WHEN 'other_owner' THEN 'The function belongs to another role now, which registers it again.'
			WHEN 'no_function' THEN 'Create the function again, or take the entry away.' END AS hint
	FROM profile_stream.code_definitions d
		CROSS JOIN LATERAL (SELECT profile_stream.code_state(CASE WHEN d.kind <> 'score_function' THEN d.function END, d.owner, d.confirmed) AS state OFFSET 0) c;
COMMENT ON VIEW stat_code IS 'Code of users that runs here: handlers, upcasters, the score function and segments; with whose rights, and why not';

CREATE FUNCTION confirm_code(kind text DEFAULT NULL, name text DEFAULT NULL) RETURNS int
	AS 'MODULE_PATHNAME', 'ps_confirm_code' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION confirm_code(text, text) IS 'Let code run that came by a restore or a subscription, as far as the caller has its owner''s rights: all, or of a kind and a name as in stat_code; returns how many';

-- section: erasure and export (api/erasure.c)

-- one row at most, with an index for a statement that has no sequential scans
CREATE TABLE blocking_salt (is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only), salt bytea NOT NULL);
SELECT pg_catalog.pg_extension_config_dump('blocking_salt', '');
COMMENT ON TABLE blocking_salt IS 'What the ids of blocked customers are hashed with: random, made when the first one is blocked';

CREATE TABLE blocked_customers (customer_hash bytea PRIMARY KEY, blocked_at timestamptz NOT NULL);
SELECT pg_catalog.pg_extension_config_dump('blocked_customers', '');
COMMENT ON TABLE blocked_customers IS 'Forgotten customers of whom nothing is taken any more: sha256(salt || id)';

CREATE FUNCTION contains_id(message bytea, customer_id text, in_strings boolean) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_contains_id' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION contains_id(bytea, text, boolean) IS 'Whether bytes name a customer, as a whole word, also in JSON escapes; in_strings: in strings of JSON only';

CREATE FUNCTION redact_id(message bytea, customer_id text, in_strings boolean) RETURNS bytea
	AS 'MODULE_PATHNAME', 'ps_redact_id' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION redact_id(bytea, text, boolean) IS 'Bytes with [erased] wherever contains_id() finds a customer';

CREATE FUNCTION message_customer(value bytea) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_message_customer' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION message_customer(bytea) IS 'Whose event a message value is, valid or not, as far as that can be told';

CREATE FUNCTION dead_letter_relation(letter dead_letters, customer_id text) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN CASE
		WHEN (letter).customer_id = dead_letter_relation.customer_id
			OR (letter).key = pg_catalog.convert_to(dead_letter_relation.customer_id, 'UTF8') THEN 'own'
		WHEN (profile_stream.contains_id((letter).value, dead_letter_relation.customer_id, false)
			OR profile_stream.contains_id((letter).key, dead_letter_relation.customer_id, false)
			OR profile_stream.contains_id(pg_catalog.convert_to(pg_catalog.concat_ws(' ', (letter).headers, (letter).errors, (letter).event_id,
				(letter).event_type), 'UTF8'), dead_letter_relation.customer_id, false)
			OR pg_catalog.strpos((letter).headers::text,
				pg_catalog.encode(pg_catalog.convert_to(dead_letter_relation.customer_id, 'UTF8'), 'hex')) > 0) IS NOT TRUE THEN NULL
		WHEN COALESCE((letter).customer_id, (SELECT profile_stream.to_profile_event((letter).value, (letter).key, (letter).headers,
				(letter).kafka_timestamp, s.format, s.field_map, s.timestamp_unit) ->> 'customerId'::text FROM profile_stream.streams s
				WHERE s.stream_id = (letter).stream_id AND s.format <> 'profile_event'),
			profile_stream.message_customer((letter).value), dead_letter_relation.customer_id)
			= dead_letter_relation.customer_id THEN 'own'
		ELSE 'mentions' END;
COMMENT ON FUNCTION dead_letter_relation(dead_letters, text) IS 'What a dead letter has to do with a customer: own (its own, or nobody''s that names it), mentions (another''s that names it), or NULL';

CREATE FUNCTION forget_customer(customer_id text, block boolean DEFAULT false, OUT profiles bigint, OUT chunks bigint,
	OUT event_ids bigint, OUT dead_letters bigint, OUT redacted bigint, OUT blocked boolean)
	AS 'MODULE_PATHNAME', 'ps_forget_customer' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION forget_customer(text, boolean) IS 'Remove everything about a customer in this transaction, and announce that on every sink; block: take nothing of the customer any more';

CREATE FUNCTION unblock_customer(customer_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_unblock_customer' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unblock_customer(text) IS 'Take events of a customer again; whether it was blocked';

CREATE FUNCTION export_customer(customer_id text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_export_customer' LANGUAGE c STRICT STABLE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION export_customer(text) IS 'Everything that is held about a customer';

-- section: privileges

-- Everybody begins with nothing; what is not named below is for superusers. test/sql/rights.sql holds the same lists.
REVOKE ALL ON ALL TABLES IN SCHEMA profile_stream, profile_stream_rebuild FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA profile_stream, profile_stream_rebuild FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA profile_stream, profile_stream_rebuild FROM PUBLIC;
GRANT USAGE ON SCHEMA profile_stream TO profile_stream_reader, profile_stream_operator;
GRANT USAGE ON SCHEMA profile_stream_rebuild TO profile_stream_operator;

-- Both read. Tables are written by functions alone, with the rights of the tables' owner.
GRANT SELECT ON ALL TABLES IN SCHEMA profile_stream TO profile_stream_reader, profile_stream_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA profile_stream_rebuild TO profile_stream_operator;
-- a rebuild's state is in the shadow, which is emptied when nobody reads it
REVOKE SELECT ON database_secret FROM profile_stream_reader, profile_stream_operator;
REVOKE SELECT ON blocking_salt, blocked_customers, stream_rebuilds, stat_rebuilds, outbox, sink_pending FROM profile_stream_reader;
-- what stat_sinks counts
GRANT SELECT (stream_id, sink, customers) ON outbox TO profile_stream_reader;
GRANT SELECT (stream_id, sink) ON sink_pending TO profile_stream_reader;

GRANT EXECUTE ON ROUTINE
	decode_event, decode_message, to_profile_event, dead_letter_text, dead_letter_json, process_waits, reported_ends,
	window_value, metric_values, window_samples, window_state_samples, chunk_samples, metric_series, metric_aggregate, json_timestamp,
	profile_document, get_profile, metric_value, metric_trend, attribute_time, create_profile_view,
	profile_bookmark, bookmark_horizon, xid_at_or_after, profiles_changed_since, segment_channel, notification_channel, default_scores, wait_for_offset, code_state,
	profile_stream.version, library_warning, current_cluster
	TO profile_stream_reader, profile_stream_operator;

GRANT EXECUTE ON ROUTINE
	map_attribute, unmap_attribute, create_metric, drop_metric, prune_metrics, window_expired,
	register_handler, unregister_handler, test_handler, register_upcaster, unregister_upcaster,
	apply_event, apply_events, retry_events, lock_dead_letters, settle_dead_letters, dead_letter_matches, retry_dead_letters, discard_dead_letters,
	test_redis, test_connection, create_stream, alter_stream, seek_stream, pause_stream, resume_stream, drop_stream, start_streams,
	resync_sink, wait_for_stream, reconcile, lock_customer, try_lock_customer,
	rebuild, pause_rebuild, resume_rebuild, cancel_rebuild, rebuild_diff, swap_rebuild,
	profile_stream_rebuild.window_value, profile_stream_rebuild.metric_values,
	set_score_settings, reset_score_settings, set_score_function, refresh_scores, create_segment, drop_segment, alter_segment, refresh_segments, confirm_code,
	event_key, contains_id, redact_id, message_customer, dead_letter_relation, forget_customer, unblock_customer, export_customer
	TO profile_stream_operator;
