-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION profile_stream" to load this file. \quit

-- The objects of profile_stream, by subject. Names without a schema are in profile_stream: what users call and read.
-- profile_stream_internal has what only the extension itself uses. profile_stream_rebuild has the second copy of
-- the tables that a rebuild fills. Names within statements and functions are written in full.
--
--   1  Before anything is made: the schemas and roles
--   2  The server and the database: versions, the secret of the database
--   3  Confirmation of what runs as somebody
--   4  Streams and sinks: tables
--   5  Profiles: tables
--   6  Dead letters: tables
--   7  Attribute maps and metrics
--   8  Handlers and upcasters
--   9  Kafka and Redis servers
--  10  Streams and sinks: functions
--  11  Streams and sinks: monitoring
--  12  Events: decoding and applying; profiles and events of other systems
--  13  Dead letters: reading and repair
--  14  Profiles: reading
--  15  Changes of profiles
--  16  Rebuilds
--  17  Scores
--  18  Segments
--  19  Code of users and other definitions
--  20  Views for BI
--  21  Erasure and export
--  22  What a monitor sees, and what all nodes have
--  23  Slices: profiles on several servers
--  24  Distributed profiles: on several servers by Citus
--  25  Privileges

-- =====================================================================================================================
-- 1. Before anything is made: the schemas and roles
-- =====================================================================================================================

-- Roles are of the cluster, so they may exist already.
DO $$
DECLARE
	problem text;
	made text;
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
	FOREACH made IN ARRAY ARRAY['profile_stream_internal', 'profile_stream_rebuild'] LOOP
		IF pg_catalog.to_regnamespace(made) IS NOT NULL THEN
			RAISE EXCEPTION 'schema % already exists', made
				USING ERRCODE = 'duplicate_schema', HINT = 'The extension makes it itself. Drop or rename the one that is there.';
		END IF;
	END LOOP;
	-- they are of the cluster: whoever may grant them decides who is an operator in each of its databases
	FOR role IN
		SELECT r.rolname, CASE WHEN r.rolsuper THEN 'it is a superuser' WHEN r.rolcanlogin THEN 'it may log in'
				WHEN r.rolcreaterole THEN 'it may create roles' ELSE pg_catalog.format('role %I may grant it', m.rolname) END AS why
			FROM pg_catalog.pg_roles r LEFT JOIN (pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles m
				ON m.oid OPERATOR(pg_catalog.=) a.member AND a.admin_option AND NOT m.rolsuper) ON a.roleid OPERATOR(pg_catalog.=) r.oid
			WHERE r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY['profile_stream_reader', 'profile_stream_operator', 'profile_stream_monitor', 'profile_stream_bi', 'profile_stream_support']::name[])
				AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR m.oid IS NOT NULL)
	LOOP
		RAISE WARNING 'role % was there before: %', role.rolname, role.why
			USING HINT = 'Take that from it with ALTER ROLE or REVOKE, unless it is meant.';
	END LOOP;
	IF pg_catalog.pg_encoding_to_char((SELECT d.encoding FROM pg_catalog.pg_database d
			WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE EXCEPTION 'profile_stream requires a database with encoding UTF8'
			USING ERRCODE = 'feature_not_supported', HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0 makes one.';
	END IF;
	FOREACH made IN ARRAY ARRAY['profile_stream_reader', 'profile_stream_operator', 'profile_stream_monitor', 'profile_stream_bi', 'profile_stream_support'] LOOP
		IF pg_catalog.to_regrole(made) IS NULL THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', made);
		END IF;
	END LOOP;
END
$$;

CREATE SCHEMA profile_stream_internal;
COMMENT ON SCHEMA profile_stream_internal IS 'Parts of profile_stream: tables and functions that only the extension itself uses';

-- =====================================================================================================================
-- 2. The server and the database: versions, the secret of the database (api/version.c, store/secret.c)
-- =====================================================================================================================

-- Written in full, because pg_catalog has a function of that name.
CREATE FUNCTION profile_stream.version() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_version' LANGUAGE c STABLE PARALLEL SAFE COST 500;
COMMENT ON FUNCTION profile_stream.version() IS 'Versions of the extension''s objects here, of its library, PostgreSQL, librdkafka (that runs, and built with) and hiredis; and what is known to be wrong with them';

CREATE FUNCTION profile_stream_internal.library_warning(librdkafka text DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_library_warning' LANGUAGE c STABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION profile_stream_internal.library_warning(text) IS 'What is known to be wrong with a version of librdkafka, by default the one that runs; NULL: nothing';

CREATE FUNCTION profile_stream_internal.current_cluster() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_current_cluster' LANGUAGE c STABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION profile_stream_internal.current_cluster() IS 'The cluster that this server is of: profile_stream.cluster, or cluster_name where that is empty';
-- section: secret of the database (store/secret.c)

-- Not dumped: a restored database has one of its own. Nobody is granted anything.
CREATE TABLE profile_stream_internal.database_secret (
	made_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	key bytea NOT NULL CHECK (pg_catalog.length(key) OPERATOR(pg_catalog.=) 16)
);
ALTER TABLE profile_stream_internal.database_secret REPLICA IDENTITY FULL;
COMMENT ON TABLE profile_stream_internal.database_secret IS 'What names of channels are made of: one row, made with the extension, never changed';
COMMENT ON COLUMN profile_stream_internal.database_secret.made_at IS 'When the extension was created';
COMMENT ON COLUMN profile_stream_internal.database_secret.key IS '16 random bytes';

-- Dumped, because stored hashes are worth nothing without their key. What a restore or a subscription brings replaces the
-- key that the extension was created with.
CREATE TABLE profile_stream_internal.event_id_keys (LIKE profile_stream_internal.database_secret INCLUDING CONSTRAINTS INCLUDING DEFAULTS);
ALTER TABLE profile_stream_internal.event_id_keys REPLICA IDENTITY FULL;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.event_id_keys', '');
COMMENT ON TABLE profile_stream_internal.event_id_keys IS 'What hashes of event ids are keyed with: one row, made with the extension, or brought by a restore with its event ids';
COMMENT ON COLUMN profile_stream_internal.event_id_keys.made_at IS 'When the extension was created, in the database where the key is from';
COMMENT ON COLUMN profile_stream_internal.event_id_keys.key IS '16 random bytes';

WITH r AS (SELECT pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid())) AS bytes),
	s AS (INSERT INTO profile_stream_internal.database_secret (key) SELECT pg_catalog.substr(r.bytes, 1, 16) FROM r)
INSERT INTO profile_stream_internal.event_id_keys (key) SELECT pg_catalog.substr(r.bytes, 17, 16) FROM r;

CREATE FUNCTION profile_stream_internal.replace_event_id_key() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM profile_stream_internal.event_id_keys;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION profile_stream_internal.replace_event_id_key() IS 'Keeps one row in event_id_keys: the one that came last';
CREATE TRIGGER replace_event_id_key BEFORE INSERT ON profile_stream_internal.event_id_keys
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.replace_event_id_key();
ALTER TABLE profile_stream_internal.event_id_keys ENABLE ALWAYS TRIGGER replace_event_id_key;

CREATE FUNCTION profile_stream_internal.keep_secret() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		RAISE EXCEPTION 'database_secret must not be emptied' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Names of channels are made with it.';
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION profile_stream_internal.keep_secret() IS 'Keeps database_secret as it is: rows that a subscription or a restore brings are passed over';
CREATE TRIGGER keep_secret BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.database_secret
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.keep_secret();
CREATE TRIGGER keep_secret_whole BEFORE TRUNCATE ON profile_stream_internal.database_secret
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.keep_secret();
ALTER TABLE profile_stream_internal.database_secret ENABLE ALWAYS TRIGGER keep_secret, ENABLE ALWAYS TRIGGER keep_secret_whole;

CREATE FUNCTION notification_channel(name text DEFAULT 'profile_updates') RETURNS text
	AS 'MODULE_PATHNAME', 'ps_notification_channel' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION notification_channel(text) IS 'Channel on which profile_updates or segment_changes of this database are announced: the name, and digits that nobody can guess';

-- =====================================================================================================================
-- 3. Confirmation of what runs as somebody (store/confirmed_code.c)
-- =====================================================================================================================

-- Not dumped: what came by a restore or a subscription is not here, and does not run.
CREATE TABLE profile_stream_internal.confirmed_code (
	kind text COLLATE "C" NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['stream', 'handler', 'upcaster', 'decoder', 'score_function', 'segment', 'backfill'])),
	key text COLLATE "C" NOT NULL,
	confirmed_at timestamptz NOT NULL,
	PRIMARY KEY (kind, key)
);
COMMENT ON TABLE profile_stream_internal.confirmed_code IS 'Streams, handlers, upcasters, decoders, segments, backfills and the score function that may run: created in this database, or confirmed after a restore';
COMMENT ON COLUMN profile_stream_internal.confirmed_code.kind IS 'What was confirmed: stream, handler, upcaster, decoder, score_function, segment or backfill';
COMMENT ON COLUMN profile_stream_internal.confirmed_code.key IS 'Which one: stream_id of a stream or a decoder, handler_id, from_version:event_type, t for the score function, the name of the segment, or backfill_id';
COMMENT ON COLUMN profile_stream_internal.confirmed_code.confirmed_at IS 'When it was created here or confirmed';

CREATE FUNCTION profile_stream_internal.guard_confirmed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ps_guard_confirmed' LANGUAGE c;
COMMENT ON FUNCTION profile_stream_internal.guard_confirmed() IS 'Trigger of confirmed_code: refuses what no function of profile_stream writes';

CREATE FUNCTION profile_stream_internal.definition_written() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ps_definition_written' LANGUAGE c;
COMMENT ON FUNCTION profile_stream_internal.definition_written() IS 'Trigger of tables of definitions: what no function of profile_stream wrote is not confirmed. Arguments: kind, columns of the key';

-- also in a session that replicates, where triggers of statements do not fire
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.confirmed_code FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.guard_confirmed();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON profile_stream_internal.confirmed_code FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.guard_confirmed();
ALTER TABLE profile_stream_internal.confirmed_code ENABLE ALWAYS TRIGGER guard;
ALTER TABLE profile_stream_internal.confirmed_code ENABLE ALWAYS TRIGGER guard_truncate;

-- =====================================================================================================================
-- 4. Streams and sinks: tables
-- =====================================================================================================================

CREATE TABLE streams (
	stream_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	name text COLLATE "C" NOT NULL UNIQUE,
	owner regrole NOT NULL,
	server name,
	bootstrap_servers text,
	topic text,
	topics text[],
	topic_pattern text,
	topic_formats jsonb,
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
	late_policy text COLLATE "C" NOT NULL DEFAULT 'dead_letter' CHECK (late_policy IN ('dead_letter', 'apply', 'drop')),
	unknown_schema text COLLATE "C" NOT NULL DEFAULT 'dead_letter' CHECK (unknown_schema IN ('dead_letter', 'accept')),
	event_types text[],
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
	format text COLLATE "C" NOT NULL DEFAULT 'profile_event',
	field_map jsonb,
	timestamp_unit text COLLATE "C" NOT NULL DEFAULT 'milliseconds' CHECK (timestamp_unit IN ('milliseconds', 'seconds', 'microseconds')),
	event_id_scope text COLLATE "C" NOT NULL DEFAULT 'customer' CHECK (event_id_scope IN ('customer', 'stream')),
	watch text[],
	created_at timestamptz NOT NULL,
	message_key text COLLATE "C" NOT NULL DEFAULT 'any' CHECK (message_key IN ('any', 'customer')),
	partitioner text COLLATE "C" NOT NULL DEFAULT 'any' CHECK (partitioner IN ('any', 'citus')),
	CHECK ((server IS NULL) <> (bootstrap_servers IS NULL)),
	CHECK ((topic IS NULL) <> (topics IS NULL AND topic_pattern IS NULL))
);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON streams
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('stream', 'stream_id');
ALTER TABLE streams ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('streams', '');
SELECT pg_catalog.pg_extension_config_dump('streams_stream_id_seq', '');
COMMENT ON TABLE streams IS 'Streams as created: what is read from where, and how';
COMMENT ON COLUMN streams.stream_id IS 'Number of the stream, never used again';
COMMENT ON COLUMN streams.name IS 'Name of the stream';
COMMENT ON COLUMN streams.owner IS 'Role with whose rights the stream runs';
COMMENT ON COLUMN streams.server IS 'Server of profile_stream_kafka that the stream reads from; NULL when brokers is given';
COMMENT ON COLUMN streams.bootstrap_servers IS 'Addresses of Kafka brokers, host:port separated by commas; NULL when server is given';
COMMENT ON COLUMN streams.topic IS 'Kafka topic that the stream reads; NULL: topics and topic_pattern say which';
COMMENT ON COLUMN streams.topics IS 'Kafka topics that the stream reads; NULL: none by name';
COMMENT ON COLUMN streams.topic_pattern IS 'Regular expression: the stream also reads each topic whose name it matches; NULL: none';
COMMENT ON COLUMN streams.topic_formats IS 'Format, field_map and timestamp_unit of single topics, an object by topic; NULL: all are as those of the stream';
COMMENT ON COLUMN streams.group_id IS 'Kafka consumer group to which the stream commits its offsets, for monitoring only';
COMMENT ON COLUMN streams.start_from IS 'Where a partition begins that has no offset yet: earliest, latest, or a timestamp';
COMMENT ON COLUMN streams.batch_size IS 'Most messages that one transaction applies';
COMMENT ON COLUMN streams.batch_wait IS 'Longest time that a batch waits for more messages';
COMMENT ON COLUMN streams.dedupe_retention IS 'How long the id of an applied event is remembered; a repeated id is a duplicate for so long';
COMMENT ON COLUMN streams.on_offset_lost IS 'What to do when Kafka no longer has the next offset: stop, earliest or latest';
COMMENT ON COLUMN streams.notify_channel IS 'Channel of NOTIFY on which the stream announces changes of profiles; NULL: the channel of the database, notification_channel()';
COMMENT ON COLUMN streams.notify IS 'What is announced: one notification per customer, one per batch, or none (off)';
COMMENT ON COLUMN streams.options IS 'Further properties for librdkafka, as an object of strings';
COMMENT ON COLUMN streams.reorder_wait IS 'How long events are held so that earlier ones can overtake them; 0: events apply in the order in which they are read';
COMMENT ON COLUMN streams.reorder_buffer_size IS 'Most events of one customer that are held for reorder_wait';
COMMENT ON COLUMN streams.late_tolerance IS 'How far behind the customer''s newest event an event may be before it is late; NULL: any distance';
COMMENT ON COLUMN streams.late_policy IS 'What becomes of late events: dead_letter, apply or drop';
COMMENT ON COLUMN streams.unknown_schema IS 'What becomes of an event whose schemaVersion no upcaster takes: dead_letter, or accept, which applies it as it is';
COMMENT ON COLUMN streams.event_types IS 'Event types that the stream takes, it ignores others; NULL: all';
COMMENT ON COLUMN streams.workers IS 'Number of processes that share the partitions';
COMMENT ON COLUMN streams.partitions IS 'Partitions that the stream reads; NULL: all';
COMMENT ON COLUMN streams.dead_letter_pause_ratio IS 'Share of dead letters among recent messages above which the stream pauses itself, 0 to 1; 1: never';
COMMENT ON COLUMN streams.customer_lock_timeout IS 'How long a batch waits for locks of customers that other sessions hold, before it goes on with the others';
COMMENT ON COLUMN streams.redis IS 'Redis that the stream delivers profiles to: host:port, path of a socket, or a server of profile_stream_redis; NULL: none';
COMMENT ON COLUMN streams.redis_prefix IS 'What the Redis keys of profiles begin with';
COMMENT ON COLUMN streams.redis_ttl IS 'Time after which a key in Redis expires';
COMMENT ON COLUMN streams.changelog_topic IS 'Kafka topic that changed profiles are delivered to; NULL: none';
COMMENT ON COLUMN streams.dead_letter_topic IS 'Kafka topic that dead letters are delivered to; NULL: none';
COMMENT ON COLUMN streams.segment_channel_prefix IS 'What the names of the channels of segments begin with; NULL: changes are not announced by segment';
COMMENT ON COLUMN streams.format IS 'Format of the messages: profile_event, cloudevents, custom or debezium';
COMMENT ON COLUMN streams.field_map IS 'Where the members of an event are found in a message, as an object; NULL: where the format has them';
COMMENT ON COLUMN streams.timestamp_unit IS 'Unit of timestamps that are numbers: milliseconds, seconds or microseconds';
COMMENT ON COLUMN streams.event_id_scope IS 'Within what an event id is unique: customer, or stream';
COMMENT ON COLUMN streams.watch IS 'Columns and attributes of profiles: changes of others are not told to the updates topic and listeners of the stream; NULL: all changes are';
COMMENT ON COLUMN streams.created_at IS 'When the stream was created';
COMMENT ON COLUMN streams.message_key IS 'What the key of a message is: any, or customer: the id of its customer, and an event with another key is a dead letter';
COMMENT ON COLUMN streams.partitioner IS 'How producers choose partitions: any way, or citus: as Citus chooses the shard of the customer, so that each node reads the partitions of its shards alone';

CREATE TABLE profile_stream_internal.stream_topics (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	topic_no int NOT NULL,
	topic text COLLATE "C" NOT NULL,
	pattern text COLLATE "C",
	is_new boolean NOT NULL DEFAULT false,
	joined_at timestamptz NOT NULL,
	state text COLLATE "C" NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'missing', 'retrying')),
	error text,
	since timestamptz NOT NULL,
	partitions int,
	PRIMARY KEY (stream_id, topic_no),
	UNIQUE (stream_id, topic)
);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.stream_topics', '');
COMMENT ON TABLE profile_stream_internal.stream_topics IS 'Topics that a stream reads or has read; each keeps its number, which its partitions have in the other tables';
COMMENT ON COLUMN profile_stream_internal.stream_topics.stream_id IS 'Stream that reads the topic';
COMMENT ON COLUMN profile_stream_internal.stream_topics.topic_no IS 'Number of the topic in the stream, from 0';
COMMENT ON COLUMN profile_stream_internal.stream_topics.topic IS 'Name of the topic';
COMMENT ON COLUMN profile_stream_internal.stream_topics.pattern IS 'topic_pattern that it matched last; NULL: it is named in topic or topics';
COMMENT ON COLUMN profile_stream_internal.stream_topics.is_new IS 'Whether it came while the stream looked for topics: then it is read from its beginning, whatever start_from says';
COMMENT ON COLUMN profile_stream_internal.stream_topics.joined_at IS 'When the stream took it up';
COMMENT ON COLUMN profile_stream_internal.stream_topics.state IS 'running; missing: the brokers do not have it; or retrying: they do not answer for it';
COMMENT ON COLUMN profile_stream_internal.stream_topics.error IS 'Why it is not read; NULL: it is';
COMMENT ON COLUMN profile_stream_internal.stream_topics.since IS 'When its state began';
COMMENT ON COLUMN profile_stream_internal.stream_topics.partitions IS 'How many partitions the topic has, as the brokers said last; NULL: not known yet';

CREATE FUNCTION profile_stream_internal.topic_format(stream streams, topic text) RETURNS TABLE (format text, field_map jsonb, timestamp_unit text)
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
	BEGIN ATOMIC
		SELECT COALESCE((topic_format.stream).topic_formats -> topic_format.topic ->> 'format'::text, (topic_format.stream).format),
			CASE WHEN (topic_format.stream).topic_formats -> topic_format.topic ? 'field_map'::text THEN (topic_format.stream).topic_formats -> topic_format.topic -> 'field_map'::text
				WHEN (topic_format.stream).topic_formats -> topic_format.topic ? 'format'::text THEN NULL
				ELSE (topic_format.stream).field_map END,
			COALESCE((topic_format.stream).topic_formats -> topic_format.topic ->> 'timestamp_unit'::text, (topic_format.stream).timestamp_unit);
	END;
COMMENT ON FUNCTION profile_stream_internal.topic_format(streams, text) IS 'How a stream reads the messages of a topic: as topic_formats says, or else as for its other topics';

CREATE FUNCTION profile_stream_internal.partition_name(stream_id int, topic_no int, partition int) RETURNS text
	LANGUAGE sql STABLE
	RETURN CASE WHEN (SELECT pg_catalog.count(*) FROM profile_stream_internal.stream_topics t WHERE t.stream_id = partition_name.stream_id) > 1
		THEN (SELECT t.topic || ' ' || partition_name.partition::text FROM profile_stream_internal.stream_topics t
			WHERE t.stream_id = partition_name.stream_id AND t.topic_no = partition_name.topic_no)
		ELSE partition_name.partition::text END;
COMMENT ON FUNCTION profile_stream_internal.partition_name(int, int, int) IS 'What a partition is called: its number, with the name of the topic before it where the stream has read several';

CREATE TABLE profile_stream_internal.stream_offsets (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	topic_no int NOT NULL DEFAULT 0,
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
	late_dropped bigint NOT NULL DEFAULT 0,
	ignored bigint NOT NULL DEFAULT 0,
	tombstones bigint NOT NULL DEFAULT 0,
	blocked bigint NOT NULL DEFAULT 0,
	replayed bigint NOT NULL DEFAULT 0,
	late_applied bigint NOT NULL DEFAULT 0,
	other_key bigint NOT NULL DEFAULT 0,
	other_partition bigint NOT NULL DEFAULT 0,
	held bigint NOT NULL DEFAULT 0,
	held_bytes bigint NOT NULL DEFAULT 0,
	sources bytea NOT NULL DEFAULT '',
	last_message_at timestamptz,
	committed_at timestamptz,
	state text COLLATE "C" NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'offset_lost')),
	error text,
	elsewhere bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (stream_id, topic_no, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.stream_offsets', '');
COMMENT ON TABLE profile_stream_internal.stream_offsets IS 'Next offset of each partition, committed with the data it stands for; counters since the start';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.stream_id IS 'Stream that reads the partition';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.topic_no IS 'Topic of the partition, as in stream_topics';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.partition IS 'Number of the partition';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.epoch IS 'Counts how often the topic was created anew; an offset means another message in each';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.start_offset IS 'Offset from which the stream began to read';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.next_offset IS 'Offset of the first message that is not applied yet';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.read_offset IS 'Offset up to which every message was read once; at least next_offset';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.finished IS 'Which offsets from next_offset on are applied already, as marks of core/offset_set.c; empty: none';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.commits IS 'Number of transactions that moved the offset; a worker with an older number is refused';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.check_offset IS 'Offset of the last message whose fingerprint is kept: another message there means that the topic was created anew; NULL: none is kept';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.check_timestamp IS 'Kafka timestamp of the message at check_offset; NULL when it has none';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.check_hash IS 'Hash of the message at check_offset; NULL when none is kept';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.end_offset IS 'Offset at the end of the partition, as last seen; NULL: not seen yet';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.consumed IS 'Messages that were read';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.applied IS 'Events that were applied';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.duplicates IS 'Events whose id was applied before';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.dead IS 'Messages that became dead letters, but for late ones';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.late IS 'Events that became dead letters because they were later than late_tolerance allows';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.late_dropped IS 'Late events that were dropped, as late_policy says';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.ignored IS 'Events of types that are not in event_types, which were skipped';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.tombstones IS 'Messages without a value';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.blocked IS 'Messages of blocked customers, which were skipped';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.replayed IS 'Messages that were read again after their partition was assigned anew, as at a restart';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.late_applied IS 'Late events that were applied, as late_policy says; applied counts them, too';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.other_key IS 'Events whose key is not their customer';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.other_partition IS 'Events whose customer had its event before in another partition of the topic, as far as one worker remembers';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.held IS 'Messages that were read and are not applied yet';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.held_bytes IS 'Bytes of the held messages that are in memory';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.sources IS 'Counts of applied events by source, packed; stat_sources shows them';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.last_message_at IS 'Kafka timestamp of the last message; NULL: none came yet';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.committed_at IS 'When the offset moved last; NULL: never';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.state IS 'running, or offset_lost when Kafka no longer has next_offset';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.error IS 'Why the partition does not go on; NULL: it does';
COMMENT ON COLUMN profile_stream_internal.stream_offsets.elsewhere IS 'Messages of customers of other nodes, where profiles are distributed; consumed does not count them';

-- Not dumped: what a restored database does not find here does not run by itself.
CREATE TABLE profile_stream_internal.stream_status (
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
	cluster text,
	order_logged_at timestamptz,
	stats_reset timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE profile_stream_internal.stream_status IS 'Whether a stream shall run in this database, and what its worker last said';
COMMENT ON COLUMN profile_stream_internal.stream_status.stream_id IS 'Stream of which this is the status';
COMMENT ON COLUMN profile_stream_internal.stream_status.database IS 'OID of the database in which the stream was created or resumed; elsewhere the row does not count';
COMMENT ON COLUMN profile_stream_internal.stream_status.enabled IS 'Whether the stream shall run';
COMMENT ON COLUMN profile_stream_internal.stream_status.state IS 'What the worker last said of itself';
COMMENT ON COLUMN profile_stream_internal.stream_status.error IS 'Last error, while the state is due to one; NULL: none';
COMMENT ON COLUMN profile_stream_internal.stream_status.hint IS 'What to do about the error; NULL: nothing is known';
COMMENT ON COLUMN profile_stream_internal.stream_status.error_at IS 'When the error came; NULL: there is none';
COMMENT ON COLUMN profile_stream_internal.stream_status.next_attempt_at IS 'When the worker tries again; NULL: no attempt is planned';
COMMENT ON COLUMN profile_stream_internal.stream_status.attempts IS 'How often in a row workers ended without progress';
COMMENT ON COLUMN profile_stream_internal.stream_status.notifications_skipped IS 'Notifications that were not sent because the queue of the server was full';
COMMENT ON COLUMN profile_stream_internal.stream_status.changed_at IS 'When the row was written last';
COMMENT ON COLUMN profile_stream_internal.stream_status.since IS 'When the stream came into this state';
COMMENT ON COLUMN profile_stream_internal.stream_status.cluster IS 'The cluster that the stream belongs to, as profile_stream.cluster or cluster_name said when it was created or resumed; NULL: the server had no such name';
COMMENT ON COLUMN profile_stream_internal.stream_status.order_logged_at IS 'When the log was last told of events out of order; NULL: never';
COMMENT ON COLUMN profile_stream_internal.stream_status.stats_reset IS 'Since when errors, retries, restarts, skipped notifications and what sinks delivered are counted: stat_reset() begins anew';

-- Not dumped: it tells of processes of this server.
CREATE TABLE profile_stream_internal.process_counters (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	process text COLLATE "C" NOT NULL,
	registration bigint NOT NULL,
	errors bigint NOT NULL DEFAULT 0,
	retries bigint NOT NULL DEFAULT 0,
	restarts bigint NOT NULL DEFAULT 0,
	restarts_in_row int NOT NULL DEFAULT 0,
	restarting_since timestamptz,
	restarted_at timestamptz,
	PRIMARY KEY (stream_id, process)
) WITH (fillfactor = 50);
COMMENT ON TABLE profile_stream_internal.process_counters IS 'What workers and relays count of themselves beside messages';
COMMENT ON COLUMN profile_stream_internal.process_counters.stream_id IS 'Stream that the process works for';
COMMENT ON COLUMN profile_stream_internal.process_counters.process IS 'worker and its number, from 0; of a relay its sink';
COMMENT ON COLUMN profile_stream_internal.process_counters.registration IS 'Random number of its registration with the server, which a process that is started again has too';
COMMENT ON COLUMN profile_stream_internal.process_counters.errors IS 'Reasons not to go on; each counts once until the process is well again';
COMMENT ON COLUMN profile_stream_internal.process_counters.retries IS 'Attempts that failed and were tried again';
COMMENT ON COLUMN profile_stream_internal.process_counters.restarts IS 'Starts after the process had ended without being told to, or for changed options';
COMMENT ON COLUMN profile_stream_internal.process_counters.restarts_in_row IS 'How many of them came one after the other, less than ten minutes apart';
COMMENT ON COLUMN profile_stream_internal.process_counters.restarting_since IS 'When the first of these came; NULL: never';
COMMENT ON COLUMN profile_stream_internal.process_counters.restarted_at IS 'When the last one came; NULL: never';

-- Not dumped: it tells of this server. The newest 10,000 rows stay.
CREATE TABLE stream_log (
	log_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	logged_at timestamptz NOT NULL,
	stream text COLLATE "C" NOT NULL,
	what text NOT NULL CHECK (what IN ('stream', 'rebuild', 'sink', 'partition', 'topic')),
	part text,
	from_state text,
	to_state text NOT NULL,
	reason text,
	hint text,
	lasted interval
);
COMMENT ON TABLE stream_log IS 'Changes of state of streams, rebuilds, sinks, partitions and topics, never one per attempt, and what users did; the newest 10,000';
COMMENT ON COLUMN stream_log.log_id IS 'Number of the entry, ascending';
COMMENT ON COLUMN stream_log.logged_at IS 'When the state changed';
COMMENT ON COLUMN stream_log.stream IS 'Name of the stream';
COMMENT ON COLUMN stream_log.what IS 'What changed its state: stream, rebuild, sink, partition or topic';
COMMENT ON COLUMN stream_log.part IS 'Which sink, partition or topic of the stream; NULL for a stream or a rebuild';
COMMENT ON COLUMN stream_log.from_state IS 'State before; NULL: the first one, or to_state is an action';
COMMENT ON COLUMN stream_log.to_state IS 'State since; or what somebody did: created, altered, moved or dropped a stream; started, paused, resumed, swapped or cancelled a rebuild';
COMMENT ON COLUMN stream_log.reason IS 'Error or other reason, of an action the role; NULL: none was given';
COMMENT ON COLUMN stream_log.hint IS 'What to do about it; NULL: nothing is known';
COMMENT ON COLUMN stream_log.lasted IS 'How long the state before lasted; NULL for the first state';

CREATE TABLE profile_stream_internal.stream_gaps (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	topic_no int NOT NULL DEFAULT 0,
	partition int NOT NULL,
	from_offset bigint NOT NULL,
	to_offset bigint NOT NULL,
	reason text NOT NULL,
	recorded_at timestamptz NOT NULL
);
ALTER TABLE profile_stream_internal.stream_gaps REPLICA IDENTITY FULL;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.stream_gaps', '');
COMMENT ON TABLE profile_stream_internal.stream_gaps IS 'Offset ranges [from_offset, to_offset) that a stream went past without reading, and why';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.stream_id IS 'Stream that went past the range';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.topic_no IS 'Topic of the partition, as in stream_topics';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.partition IS 'Number of the partition';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.from_offset IS 'First offset that was passed';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.to_offset IS 'Offset behind the last one that was passed';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.reason IS 'Why: the offset was lost, a seek, a rebuild that began later, or a message that cannot be read';
COMMENT ON COLUMN profile_stream_internal.stream_gaps.recorded_at IS 'When the stream went past it';

-- Not dumped: what ended a worker elsewhere need not do so here.
CREATE TABLE profile_stream_internal.poison_messages (
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	topic_no int NOT NULL DEFAULT 0,
	partition int NOT NULL,
	epoch int NOT NULL,
	kafka_offset bigint NOT NULL,
	error text NOT NULL,
	ended_at timestamptz NOT NULL,
	PRIMARY KEY (stream_id, topic_no, partition, epoch, kafka_offset)
);
COMMENT ON TABLE profile_stream_internal.poison_messages IS 'Messages whose functions did not end when they were cancelled, which ended their worker: dead letters when they are read again';
COMMENT ON COLUMN profile_stream_internal.poison_messages.stream_id IS 'Stream whose worker ended';
COMMENT ON COLUMN profile_stream_internal.poison_messages.topic_no IS 'Topic of the message, as in stream_topics';
COMMENT ON COLUMN profile_stream_internal.poison_messages.partition IS 'Partition of the message';
COMMENT ON COLUMN profile_stream_internal.poison_messages.epoch IS 'Epoch of the partition, as in stream_offsets';
COMMENT ON COLUMN profile_stream_internal.poison_messages.kafka_offset IS 'Offset of the message';
COMMENT ON COLUMN profile_stream_internal.poison_messages.error IS 'Which function did not end, and by what limit';
COMMENT ON COLUMN profile_stream_internal.poison_messages.ended_at IS 'When the worker ended';

-- Not dumped: a restored database has nothing to deliver yet, and what Redis holds expires.
CREATE TABLE profile_stream_internal.outbox (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL,
	outbox_id bigint GENERATED BY DEFAULT AS IDENTITY,
	customer_ids text[] NOT NULL,
	customers int NOT NULL,
	event_types text[],
	last_events text[],
	first_change bigint,
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	customer_id text COLLATE "C" NOT NULL DEFAULT '',
	PRIMARY KEY (stream_id, sink, outbox_id, customer_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1);
ALTER TABLE profile_stream_internal.outbox ALTER COLUMN customer_ids SET STORAGE EXTERNAL;
COMMENT ON TABLE profile_stream_internal.outbox IS 'Customers that changed, one row per commit and sink, until the sink''s relay takes them';
COMMENT ON COLUMN profile_stream_internal.outbox.stream_id IS 'Stream that changed the profiles';
COMMENT ON COLUMN profile_stream_internal.outbox.sink IS 'Sink that is to be told: redis or updates';
COMMENT ON COLUMN profile_stream_internal.outbox.outbox_id IS 'Number of the row; of a customer''s rows a later one has a higher number';
COMMENT ON COLUMN profile_stream_internal.outbox.customer_ids IS 'Customers whose profiles changed';
COMMENT ON COLUMN profile_stream_internal.outbox.customers IS 'Number of customer_ids';
COMMENT ON COLUMN profile_stream_internal.outbox.event_types IS 'For each customer the types of the events that were applied, as a JSON array; NULL where the sink does not tell them';
COMMENT ON COLUMN profile_stream_internal.outbox.last_events IS 'For each customer the event that was applied last, as a JSON object; null: none was; NULL where the sink does not tell it';
COMMENT ON COLUMN profile_stream_internal.outbox.first_change IS 'Number of the first of the segment_changes that the commit has written; NULL: this row does not tell of them';
COMMENT ON COLUMN profile_stream_internal.outbox.changed_at IS 'When the transaction of the change wrote the row, just before its commit';
COMMENT ON COLUMN profile_stream_internal.outbox.customer_id IS 'The first of customer_ids: where profiles are distributed, the row is in the shard of all of them; empty elsewhere';

CREATE TABLE profile_stream_internal.sink_pending (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL,
	customer_id text COLLATE "C" NOT NULL,
	pending_id bigint GENERATED BY DEFAULT AS IDENTITY,
	event_types text[] NOT NULL DEFAULT '{}',
	last_event text,
	first_change bigint,
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	writer text COLLATE "C",
	PRIMARY KEY (stream_id, sink, customer_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX sink_pending_order ON profile_stream_internal.sink_pending (stream_id, sink, pending_id);
COMMENT ON TABLE profile_stream_internal.sink_pending IS 'Customers whose profile a relay has to deliver, one row per customer and sink at most, oldest first by pending_id';
COMMENT ON COLUMN profile_stream_internal.sink_pending.stream_id IS 'Stream that changed the profile';
COMMENT ON COLUMN profile_stream_internal.sink_pending.sink IS 'Sink that is to be told: redis or updates';
COMMENT ON COLUMN profile_stream_internal.sink_pending.customer_id IS 'Customer whose profile is to be delivered';
COMMENT ON COLUMN profile_stream_internal.sink_pending.pending_id IS 'Order of delivery, oldest first; a change after the relay has begun gets a new number';
COMMENT ON COLUMN profile_stream_internal.sink_pending.event_types IS 'Types of the events that were applied since the last delivery, JSON arrays; empty where the sink does not tell them';
COMMENT ON COLUMN profile_stream_internal.sink_pending.last_event IS 'Event that was applied last since the last delivery, as a JSON object; NULL: none was, or the sink does not tell it';
COMMENT ON COLUMN profile_stream_internal.sink_pending.first_change IS 'The customer''s segment_changes from this number on are to be told; NULL: none';
COMMENT ON COLUMN profile_stream_internal.sink_pending.changed_at IS 'When the first change was made that is not delivered';
COMMENT ON COLUMN profile_stream_internal.sink_pending.writer IS 'Which node may be delivering it, by the name that it has at the sink; NULL: profiles are not distributed';

CREATE TABLE profile_stream_internal.sink_status (
	stream_id int NOT NULL,
	sink text COLLATE "C" NOT NULL,
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
COMMENT ON TABLE profile_stream_internal.sink_status IS 'What a relay last said, and how much it has delivered';
COMMENT ON COLUMN profile_stream_internal.sink_status.stream_id IS 'Stream that the relay works for';
COMMENT ON COLUMN profile_stream_internal.sink_status.sink IS 'Sink that the relay delivers to';
COMMENT ON COLUMN profile_stream_internal.sink_status.state IS 'What the relay last said of itself';
COMMENT ON COLUMN profile_stream_internal.sink_status.error IS 'Last error, while the state is due to one; NULL: none';
COMMENT ON COLUMN profile_stream_internal.sink_status.hint IS 'What to do about the error; NULL: nothing is known';
COMMENT ON COLUMN profile_stream_internal.sink_status.error_at IS 'When the error came; NULL: there is none';
COMMENT ON COLUMN profile_stream_internal.sink_status.next_attempt_at IS 'When the relay tries again; NULL: no attempt is planned';
COMMENT ON COLUMN profile_stream_internal.sink_status.delivered IS 'Profiles or dead letters that were delivered';
COMMENT ON COLUMN profile_stream_internal.sink_status.refused IS 'Profiles or dead letters that the sink does not take';
COMMENT ON COLUMN profile_stream_internal.sink_status.delivered_at IS 'When something was delivered last; NULL: never';
COMMENT ON COLUMN profile_stream_internal.sink_status.since IS 'When the relay came into this state';

-- the list of sinks, as PS_SINKS in store/stream.h has it
CREATE VIEW profile_stream_internal.stream_sinks WITH (security_invoker = true) AS
	SELECT s.stream_id, s.name AS stream, k.sink, k.target, k.content
	FROM profile_stream.streams s CROSS JOIN LATERAL (VALUES
		('redis', s.redis, 'profiles'),
		('changelog', s.changelog_topic, 'changes'),
		('dead_letters', s.dead_letter_topic, 'dead_letters')) AS k(sink, target, content)
	WHERE k.target IS NOT NULL;
COMMENT ON VIEW profile_stream_internal.stream_sinks IS 'What each stream delivers to, and where that is';
COMMENT ON COLUMN profile_stream_internal.stream_sinks.stream_id IS 'Number of the stream';
COMMENT ON COLUMN profile_stream_internal.stream_sinks.stream IS 'Name of the stream';
COMMENT ON COLUMN profile_stream_internal.stream_sinks.sink IS 'Sink of the stream';
COMMENT ON COLUMN profile_stream_internal.stream_sinks.target IS 'Redis server or Kafka topic that the sink delivers to';
COMMENT ON COLUMN profile_stream_internal.stream_sinks.content IS 'What the sink delivers: profiles, changes (profiles with the types of the events that changed them) or dead_letters';

-- =====================================================================================================================
-- 5. Profiles: tables
-- =====================================================================================================================

CREATE TABLE materialized_profiles (
	customer_id text COLLATE "C" PRIMARY KEY,
	event_counts jsonb NOT NULL DEFAULT '{}',
	version bigint NOT NULL,
	updated_at timestamptz NOT NULL,
	watermark timestamptz NOT NULL,
	last_transaction_at timestamptz,
	last_login_at timestamptz,
	total_balance numeric NOT NULL DEFAULT 0,
	event_ids bytea NOT NULL DEFAULT '',
	window_state bytea NOT NULL DEFAULT '',
	first_name text NOT NULL DEFAULT '',
	last_name text NOT NULL DEFAULT '',
	email text NOT NULL DEFAULT '',
	phone text NOT NULL DEFAULT '',
	preferred_channel text NOT NULL DEFAULT '',
	attributes jsonb NOT NULL DEFAULT '{}',
	attribute_times jsonb,
	account_count bigint NOT NULL DEFAULT 0,
	first_event_at timestamptz NOT NULL,
	segment_state bytea,
	segment text NOT NULL DEFAULT 'unknown',
	churn_risk_score double precision NOT NULL DEFAULT 0,
	lifetime_value numeric NOT NULL DEFAULT 0,
	scored_at timestamptz
) WITH (fillfactor = 81, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);
ALTER TABLE materialized_profiles ALTER COLUMN window_state SET STORAGE MAIN, ALTER COLUMN window_state SET STATISTICS 0,
	ALTER COLUMN event_ids SET STORAGE MAIN, ALTER COLUMN event_ids SET STATISTICS 0,
	ALTER COLUMN event_counts SET STATISTICS 0, ALTER COLUMN attribute_times SET STATISTICS 0,
	ALTER COLUMN segment_state SET STORAGE MAIN, ALTER COLUMN segment_state SET STATISTICS 0;
SELECT pg_catalog.pg_extension_config_dump('materialized_profiles', '');
COMMENT ON TABLE materialized_profiles IS 'One row per customer, kept current by the streams; read it through the view profiles';
COMMENT ON COLUMN materialized_profiles.customer_id IS 'Id of the customer';
COMMENT ON COLUMN materialized_profiles.version IS 'Number of events that were applied to the profile';
COMMENT ON COLUMN materialized_profiles.updated_at IS 'Timestamp of the event that was applied last';
COMMENT ON COLUMN materialized_profiles.watermark IS 'Timestamp of the customer''s newest event';
COMMENT ON COLUMN materialized_profiles.first_name IS 'First name; empty: not known';
COMMENT ON COLUMN materialized_profiles.last_name IS 'Last name; empty: not known';
COMMENT ON COLUMN materialized_profiles.email IS 'Email address; empty: not known';
COMMENT ON COLUMN materialized_profiles.phone IS 'Telephone number; empty: not known';
COMMENT ON COLUMN materialized_profiles.total_balance IS 'Sum of the initial balances of accounts, with what maps and handlers make of it; completed transactions do not change it';
COMMENT ON COLUMN materialized_profiles.account_count IS 'Number of accounts';
COMMENT ON COLUMN materialized_profiles.last_transaction_at IS 'Greatest timestamp of a completed transaction; NULL: none yet';
COMMENT ON COLUMN materialized_profiles.last_login_at IS 'Greatest timestamp of a login; NULL: none yet';
COMMENT ON COLUMN materialized_profiles.preferred_channel IS 'Channel that the customer prefers; empty: not known, which documents show as app';
COMMENT ON COLUMN materialized_profiles.event_counts IS 'Number of applied events by event type, as an object';
COMMENT ON COLUMN materialized_profiles.event_ids IS 'Newest ids of applied events, as hashes, for de-duplication within dedupe_retention';
COMMENT ON COLUMN materialized_profiles.window_state IS 'Newest samples of windowed metrics, packed; window_value() reads them';
COMMENT ON COLUMN materialized_profiles.attributes IS 'Attributes that maps and handlers set, as an object';
COMMENT ON COLUMN materialized_profiles.attribute_times IS 'Event time of each attribute that a map with operation latest set, in microseconds since 1970; NULL: there are none';
COMMENT ON COLUMN materialized_profiles.first_event_at IS 'Timestamp of the customer''s oldest event';
COMMENT ON COLUMN materialized_profiles.segment_state IS 'Of which live segments the customer is a member, and when one can change without an event, packed; NULL: nothing is known';
COMMENT ON COLUMN materialized_profiles.segment IS 'Segment that the last refresh of scores gave; unknown: not scored yet';
COMMENT ON COLUMN materialized_profiles.churn_risk_score IS 'Risk that the customer leaves, 0 to 1, of the last refresh of scores';
COMMENT ON COLUMN materialized_profiles.lifetime_value IS 'Expected value of the customer, of the last refresh of scores, in the unit of transactions';
COMMENT ON COLUMN materialized_profiles.scored_at IS 'When a refresh of scores last changed one of them; NULL: not scored yet';

CREATE TYPE profile_stream_internal.day_bucket AS (day date, count bigint, sum numeric, min numeric, max numeric);
COMMENT ON TYPE profile_stream_internal.day_bucket IS 'What remains of the samples of one UTC day once they are older than their window';
COMMENT ON COLUMN profile_stream_internal.day_bucket.day IS 'Day in UTC';
COMMENT ON COLUMN profile_stream_internal.day_bucket.count IS 'Number of samples of the day';
COMMENT ON COLUMN profile_stream_internal.day_bucket.sum IS 'Sum of their values';
COMMENT ON COLUMN profile_stream_internal.day_bucket.min IS 'Least value';
COMMENT ON COLUMN profile_stream_internal.day_bucket.max IS 'Greatest value';

CREATE TABLE profile_stream_internal.window_chunks (
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
	days profile_stream_internal.day_bucket[],
	tile_chunks bigint,
	tile_from_at timestamptz,
	tile_to_at timestamptz,
	tile_count bigint,
	tile_sum numeric,
	tile_min numeric,
	tile_max numeric,
	PRIMARY KEY (customer_id, metric, chunk_no, to_at),
	CHECK ((samples IS NULL) <> (days IS NULL))
) WITH (autovacuum_analyze_scale_factor = 1);
ALTER TABLE profile_stream_internal.window_chunks ALTER COLUMN samples SET STORAGE MAIN, ALTER COLUMN samples SET STATISTICS 0, ALTER COLUMN days SET STATISTICS 0;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.window_chunks', '');
COMMENT ON TABLE profile_stream_internal.window_chunks IS 'Sealed chunks of window samples: exact while their window needs them, then one bucket per UTC day';
COMMENT ON COLUMN profile_stream_internal.window_chunks.customer_id IS 'Customer whose samples these are';
COMMENT ON COLUMN profile_stream_internal.window_chunks.metric IS 'Series of the samples: the name of a built-in one, or series_ and series_id';
COMMENT ON COLUMN profile_stream_internal.window_chunks.to_at IS 'Timestamp of the newest sample';
COMMENT ON COLUMN profile_stream_internal.window_chunks.chunk_no IS 'Number of the chunk among those of the customer and the series';
COMMENT ON COLUMN profile_stream_internal.window_chunks.from_at IS 'Timestamp of the oldest sample';
COMMENT ON COLUMN profile_stream_internal.window_chunks.count IS 'Number of samples';
COMMENT ON COLUMN profile_stream_internal.window_chunks.sum IS 'Sum of the samples'' values';
COMMENT ON COLUMN profile_stream_internal.window_chunks.min IS 'Least value';
COMMENT ON COLUMN profile_stream_internal.window_chunks.max IS 'Greatest value';
COMMENT ON COLUMN profile_stream_internal.window_chunks.samples IS 'The samples, packed; NULL once they are folded into days';
COMMENT ON COLUMN profile_stream_internal.window_chunks.days IS 'One bucket per UTC day; NULL while the samples are kept';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_chunks IS 'How many chunks, up to this one, the tile covers: 16, 256 and so on, by which chunk_no can be divided; NULL: it has no tile';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_from_at IS 'Timestamp of the oldest sample of the tile';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_to_at IS 'Timestamp of the newest sample of the tile';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_count IS 'Number of samples of the tile';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_sum IS 'Sum of their values';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_min IS 'Least of their values';
COMMENT ON COLUMN profile_stream_internal.window_chunks.tile_max IS 'Greatest of their values';

CREATE INDEX window_chunks_unfolded ON profile_stream_internal.window_chunks (metric, to_at) WHERE samples IS NOT NULL;

CREATE TABLE profile_stream_internal.event_id_chunks (
	customer_id text COLLATE "C" NOT NULL,
	chunk_no bigint NOT NULL,
	sealed_to timestamptz NOT NULL,
	hashes bytea NOT NULL,
	PRIMARY KEY (customer_id, chunk_no)
) WITH (autovacuum_analyze_threshold = 2147483647); -- no plan needs its statistics, and ANALYZE holds a snapshot
ALTER TABLE profile_stream_internal.event_id_chunks ALTER COLUMN hashes SET STORAGE MAIN;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.event_id_chunks', '');
COMMENT ON TABLE profile_stream_internal.event_id_chunks IS 'Sealed chunks of hashes of applied event ids, for de-duplication within dedupe_retention; newer ones are in the profiles';
COMMENT ON COLUMN profile_stream_internal.event_id_chunks.customer_id IS 'Customer of the events';
COMMENT ON COLUMN profile_stream_internal.event_id_chunks.chunk_no IS 'Number of the chunk among those of the customer';
COMMENT ON COLUMN profile_stream_internal.event_id_chunks.sealed_to IS 'When the newest of the events was applied, rounded up to a second';
COMMENT ON COLUMN profile_stream_internal.event_id_chunks.hashes IS 'Hashes of their ids, 10 bytes each, sorted';

-- The extension has the parent alone: partitions come and go, and a dump has them as tables of their own. So the parent has no
-- index. On attaching the partitions of a dump it would make indexes that the dump makes again.
CREATE TABLE profile_stream_internal.profile_history (
	customer_id text COLLATE "C" NOT NULL,
	changed_at timestamptz NOT NULL,
	version bigint NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('event', 'score')),
	old jsonb NOT NULL
) PARTITION BY RANGE (changed_at);
COMMENT ON TABLE profile_stream_internal.profile_history IS 'Old values of what is tracked, one row per change: the value at a moment is that of the first row after it, or else the stored one';
COMMENT ON COLUMN profile_stream_internal.profile_history.customer_id IS 'Customer whose profile changed';
COMMENT ON COLUMN profile_stream_internal.profile_history.changed_at IS 'Moment until which the old values held: the watermark with the event, or the time of the refresh of scores';
COMMENT ON COLUMN profile_stream_internal.profile_history.version IS 'Version of the profile with the event, or while it was scored';
COMMENT ON COLUMN profile_stream_internal.profile_history.kind IS 'What changed it: event, or score for a refresh of scores';
COMMENT ON COLUMN profile_stream_internal.profile_history.old IS 'Old value of each column that changed; of attributes with the prefix attributes., null: there was none';

CREATE FUNCTION profile_stream_internal.make_history_part(from_day date, to_day date) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text := pg_catalog.concat('profile_history_', pg_catalog.to_char(from_day, 'YYYYMMDD'));
	other text;
BEGIN
	EXECUTE pg_catalog.format('CREATE TABLE profile_stream_internal.%I (LIKE profile_stream_internal.profile_history INCLUDING ALL,'
		' PRIMARY KEY (customer_id, changed_at, version, kind))', name);
	-- others do not have what ALTER DEFAULT PRIVILEGES gives them of each new table; who may read profile_history reads its parts
	FOR other IN SELECT DISTINCT CASE a.grantee WHEN 0::oid THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
			FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = to_regclass(format('profile_stream_internal.%I', name))::oid AND a.grantee <> c.relowner LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON TABLE profile_stream_internal.%I FROM %s', name, other);
	END LOOP;
	EXECUTE pg_catalog.format('COMMENT ON TABLE profile_stream_internal.%I IS %L', name, pg_catalog.concat('Part of profile_history, from ', from_day));
	EXECUTE pg_catalog.format('ALTER TABLE profile_stream_internal.profile_history ATTACH PARTITION profile_stream_internal.%I FOR VALUES FROM (%L) TO (%L)',
		name, pg_catalog.to_char(from_day, 'YYYY-MM-DD 00:00:00+00'), pg_catalog.to_char(to_day, 'YYYY-MM-DD 00:00:00+00'));
END $$;
COMMENT ON FUNCTION profile_stream_internal.make_history_part(date, date) IS 'Make the partition of profile_history for days in UTC, the second one excluded';

CREATE FUNCTION profile_stream_internal.event_id_hash(event_id text, scope int DEFAULT 0) RETURNS bytea
	AS 'MODULE_PATHNAME', 'ps_event_id_hash_sql' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_internal.event_id_hash(text, int) IS 'Hash by which an event id is remembered; with event_id_scope stream, the scope is the stream_id';

CREATE FUNCTION profile_stream_internal.open_event_ids(event_ids bytea) RETURNS TABLE(hash bytea, applied_at timestamptz)
	AS 'MODULE_PATHNAME', 'ps_open_event_ids' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 100 ROWS 16;
COMMENT ON FUNCTION profile_stream_internal.open_event_ids(bytea) IS 'The hashes in event_ids of a profile, and the latest moment at which each was applied';

CREATE FUNCTION profile_stream_internal.sealed_event_ids(hashes bytea) RETURNS SETOF bytea
	AS 'MODULE_PATHNAME', 'ps_sealed_event_ids' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 100 ROWS 32;
COMMENT ON FUNCTION profile_stream_internal.sealed_event_ids(bytea) IS 'The hashes of a sealed chunk, one a row';

CREATE FUNCTION profile_stream_internal.event_ids_sealed_to(event_ids bytea) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_event_ids_sealed_to_sql' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_internal.event_ids_sealed_to(bytea) IS 'When the newest id in a sealed chunk of the profile was applied, rounded up to a second; NULL: none is sealed';

CREATE FUNCTION profile_stream_internal.same_event_ids(a bytea, b bytea) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_same_event_ids' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_internal.same_event_ids(bytea, bytea) IS 'Whether two profiles have the same event ids, whenever these were applied';

CREATE VIEW profile_stream_internal.event_ids WITH (security_invoker) AS
	SELECT p.customer_id, o.hash, o.applied_at FROM profile_stream.materialized_profiles p
		CROSS JOIN LATERAL profile_stream_internal.open_event_ids(p.event_ids) o
	UNION ALL SELECT c.customer_id, h.hash, c.sealed_to FROM profile_stream_internal.event_id_chunks c
		CROSS JOIN LATERAL profile_stream_internal.sealed_event_ids(c.hashes) h(hash);
COMMENT ON VIEW profile_stream_internal.event_ids IS 'Every remembered event id, as a hash';
COMMENT ON COLUMN profile_stream_internal.event_ids.customer_id IS 'Customer of the event';
COMMENT ON COLUMN profile_stream_internal.event_ids.hash IS 'Hash of the event id, see event_id_hash()';
COMMENT ON COLUMN profile_stream_internal.event_ids.applied_at IS 'When the event was applied at the latest; in a sealed chunk the moment of its newest one';

-- =====================================================================================================================
-- 6. Dead letters: tables
-- =====================================================================================================================

CREATE TABLE profile_stream_internal.dead_letters (
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
	UNIQUE (stream_id, topic, epoch, partition, kafka_offset)
);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.dead_letters_dead_letter_id_seq', '');
COMMENT ON TABLE profile_stream_internal.dead_letters IS 'Messages that could not be applied, with the bytes as Kafka delivered them and every reason';
COMMENT ON COLUMN profile_stream_internal.dead_letters.dead_letter_id IS 'Number of the dead letter';
COMMENT ON COLUMN profile_stream_internal.dead_letters.stream_id IS 'Stream that read the message, or of the backfill; NULL: it came by apply_event()';
COMMENT ON COLUMN profile_stream_internal.dead_letters.stream IS 'Name of that stream, or of the backfill; NULL: it came by apply_event()';
COMMENT ON COLUMN profile_stream_internal.dead_letters.topic IS 'Kafka topic of the message; NULL: it came by apply_event() or a backfill';
COMMENT ON COLUMN profile_stream_internal.dead_letters.epoch IS 'Epoch of the partition, as in stream_offsets; NULL: it came by apply_event() or a backfill';
COMMENT ON COLUMN profile_stream_internal.dead_letters.partition IS 'Partition of the message; NULL: it came by apply_event() or a backfill';
COMMENT ON COLUMN profile_stream_internal.dead_letters.kafka_offset IS 'Offset of the message; NULL: it came by apply_event() or a backfill';
COMMENT ON COLUMN profile_stream_internal.dead_letters.kafka_timestamp IS 'Kafka timestamp of the message; NULL: it has none';
COMMENT ON COLUMN profile_stream_internal.dead_letters.key IS 'Key of the message as bytes; NULL: it has none';
COMMENT ON COLUMN profile_stream_internal.dead_letters.value IS 'Value of the message as bytes; NULL: it has none';
COMMENT ON COLUMN profile_stream_internal.dead_letters.headers IS 'Headers of the message, an array of objects with name and value or hex; NULL: it has none';
COMMENT ON COLUMN profile_stream_internal.dead_letters.kind IS 'Why it is dead: malformed, invalid, handler or late';
COMMENT ON COLUMN profile_stream_internal.dead_letters.errors IS 'Every reason for which the message was not applied';
COMMENT ON COLUMN profile_stream_internal.dead_letters.sqlstate IS 'SQLSTATE of the error that a handler raised; NULL: none did';
COMMENT ON COLUMN profile_stream_internal.dead_letters.customer_id IS 'Customer of the event; NULL where it cannot be read';
COMMENT ON COLUMN profile_stream_internal.dead_letters.event_id IS 'Id of the event; NULL where it cannot be read';
COMMENT ON COLUMN profile_stream_internal.dead_letters.event_type IS 'Type of the event; NULL where it cannot be read';
COMMENT ON COLUMN profile_stream_internal.dead_letters.dead_at IS 'When the message became a dead letter';
COMMENT ON COLUMN profile_stream_internal.dead_letters.attempts IS 'How often applying it was tried';
COMMENT ON COLUMN profile_stream_internal.dead_letters.failed_at IS 'When retry_dead_letters() last failed on it; NULL: never';
COMMENT ON COLUMN profile_stream_internal.dead_letters.value_size IS 'Bytes of the whole value, where only its begin is kept; NULL: it is whole';

CREATE TABLE profile_stream_internal.dead_letter_outbox (
	dead_letter_id bigint PRIMARY KEY,
	stream_id int NOT NULL
);
CREATE INDEX dead_letter_outbox_order ON profile_stream_internal.dead_letter_outbox (stream_id, dead_letter_id);
COMMENT ON TABLE profile_stream_internal.dead_letter_outbox IS 'Dead letters that are not delivered to their stream''s dead_letter_topic yet';
COMMENT ON COLUMN profile_stream_internal.dead_letter_outbox.dead_letter_id IS 'Dead letter that is to be delivered';
COMMENT ON COLUMN profile_stream_internal.dead_letter_outbox.stream_id IS 'Stream whose dead_letter_topic it is delivered to';

-- =====================================================================================================================
-- 7. Attribute maps and metrics (api/attribute_maps.c, api/metrics.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.rules_changed() RETURNS trigger AS 'MODULE_PATHNAME', 'ps_rules_changed' LANGUAGE c;
COMMENT ON FUNCTION profile_stream_internal.rules_changed() IS 'Tells every process that what is registered for event types has changed';

CREATE TABLE profile_stream_internal.attribute_maps (
	map_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	event_type text COLLATE "C" NOT NULL,
	attribute text COLLATE "C" NOT NULL,
	path text,
	operation text COLLATE "C" NOT NULL CHECK (operation IN ('set', 'set_if_null', 'add', 'subtract', 'max', 'min', 'count', 'append_unique', 'latest')),
	type text COLLATE "C" NOT NULL CHECK (type IN ('text', 'numeric', 'boolean', 'timestamptz', 'jsonb')),
	max_items int NOT NULL,
	filter_path text,
	filter_value text COLLATE "C",
	filter_operator text COLLATE "C" NOT NULL DEFAULT '=' CHECK (filter_operator IN ('=', '<>', '<', '<=', '>', '>=', 'in')),
	sources text[] COLLATE "C",
	UNIQUE (event_type, attribute)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.attribute_maps
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.attribute_maps ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.attribute_maps', '');
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.attribute_maps_map_id_seq', '');
COMMENT ON TABLE profile_stream_internal.attribute_maps IS 'What a value of each event of a type does to an attribute or column of the profile, in this order';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.map_id IS 'Number of the map; maps of an event type apply in this order';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.event_type IS 'Event type that the map is for';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.attribute IS 'Attribute or column of the profile that the map changes';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.path IS 'Path from the payload to the value, as $.address.city; NULL: the map counts events';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.operation IS 'What the value does to the attribute: set, set_if_null, add, subtract, max, min, count, append_unique or latest';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.type IS 'Type of the attribute: text, numeric, boolean or timestamptz';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.max_items IS 'Most elements that append_unique keeps';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.filter_path IS 'Path to the value that is compared with filter_value; NULL: all events count';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.filter_value IS 'What the value at filter_path is compared with, for in an array; NULL: all events count';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.filter_operator IS 'How they are compared: =, <>, <, <=, >, >= or in';
COMMENT ON COLUMN profile_stream_internal.attribute_maps.sources IS 'Sources whose events count; NULL: all';


CREATE FUNCTION map_attribute(event_type text DEFAULT NULL, attribute text DEFAULT NULL, path text DEFAULT NULL, operation text DEFAULT 'set',
	type text DEFAULT NULL, max_items int DEFAULT 100, filter_path text DEFAULT NULL, filter_value text DEFAULT NULL, filter_operator text DEFAULT '=',
	sources text[] DEFAULT NULL, event_types text[] DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_map_attribute' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION map_attribute IS 'Let a value of each event of a type change an attribute of the profile, from the next batch on';

CREATE FUNCTION unmap_attribute(event_type text, attribute text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unmap_attribute' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unmap_attribute(text, text) IS 'Remove a map; what it has set stays';

-- numbers are never used again, so that samples that are left of a series mean nothing; 0 to 2 are built in
CREATE TABLE profile_stream_internal.history_settings (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	retention interval NOT NULL
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.history_settings
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.history_settings ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.history_settings', '');
COMMENT ON TABLE profile_stream_internal.history_settings IS 'How long the history of profiles is kept: one row at most';
COMMENT ON COLUMN profile_stream_internal.history_settings.is_only IS 'Always true: the table has one row at most';
COMMENT ON COLUMN profile_stream_internal.history_settings.retention IS 'How long a change is kept';

CREATE TABLE profile_stream_internal.history_columns (
	name text COLLATE "C" PRIMARY KEY,
	source text COLLATE "C" NOT NULL CHECK (source IN ('event', 'score')),
	tracked_at timestamptz NOT NULL,
	since timestamptz NOT NULL
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.history_columns
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.history_columns ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.history_columns', '');
COMMENT ON TABLE profile_stream_internal.history_columns IS 'Columns, attributes and scores whose changes are kept in profile_history';
COMMENT ON COLUMN profile_stream_internal.history_columns.name IS 'Column of materialized_profiles, or name of an attribute';
COMMENT ON COLUMN profile_stream_internal.history_columns.source IS 'What changes it: event, or score for a refresh of scores';
COMMENT ON COLUMN profile_stream_internal.history_columns.tracked_at IS 'When track_history() was called';
COMMENT ON COLUMN profile_stream_internal.history_columns.since IS 'Moment from which the history is whole';

CREATE FUNCTION track_history(columns text[], retention interval) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_track_history' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION track_history(text[], interval) IS 'Keep a row of history for each change of columns, attributes or scores from now on, and all history for so long';

CREATE FUNCTION untrack_history(columns text[] DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_untrack_history' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION untrack_history(text[]) IS 'Keep the history of these columns no more, and remove what there is of it; NULL: of all';

CREATE TABLE profile_stream_internal.metric_series (
	series_id int GENERATED BY DEFAULT AS IDENTITY (START WITH 3) PRIMARY KEY CHECK (series_id >= 3),
	event_types text[] COLLATE "C" NOT NULL,
	value_path text,
	is_distinct boolean NOT NULL,
	filter_path text,
	filter_value text COLLATE "C",
	filter_operator text COLLATE "C" NOT NULL DEFAULT '=' CHECK (filter_operator IN ('=', '<>', '<', '<=', '>', '>=', 'in')),
	sources text[] COLLATE "C",
	is_lifetime boolean NOT NULL DEFAULT false
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.metric_series
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.metric_series ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.metric_series', '');
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.metric_series_series_id_seq', '');
COMMENT ON TABLE profile_stream_internal.metric_series IS 'What samples are kept for metrics: of which events, and which value; metrics of the same values share a series';
COMMENT ON COLUMN profile_stream_internal.metric_series.series_id IS 'Number of the series, never used again; 0 to 2 are built in';
COMMENT ON COLUMN profile_stream_internal.metric_series.event_types IS 'Event types whose events are samples';
COMMENT ON COLUMN profile_stream_internal.metric_series.value_path IS 'Path from the payload to the value of a sample; NULL: events are counted';
COMMENT ON COLUMN profile_stream_internal.metric_series.is_distinct IS 'Whether different texts are counted instead of numbers summed';
COMMENT ON COLUMN profile_stream_internal.metric_series.filter_path IS 'Path to the value that is compared with filter_value; NULL: all events count';
COMMENT ON COLUMN profile_stream_internal.metric_series.filter_value IS 'What the value at filter_path is compared with, for in an array; NULL: all events count';
COMMENT ON COLUMN profile_stream_internal.metric_series.filter_operator IS 'How they are compared: =, <>, <, <=, >, >= or in';
COMMENT ON COLUMN profile_stream_internal.metric_series.sources IS 'Sources whose events count; NULL: all';
COMMENT ON COLUMN profile_stream_internal.metric_series.is_lifetime IS 'Whether totals are kept instead of samples, for metrics of a lifetime';

CREATE TABLE profile_stream_internal.metrics (
	name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
	series_id int NOT NULL REFERENCES profile_stream_internal.metric_series,
	aggregate text COLLATE "C" NOT NULL
		CHECK (aggregate IN ('count', 'sum', 'avg', 'min', 'max', 'distinct', 'first', 'last', 'percentile', 'median', 'stddev')),
	"window" interval NOT NULL,
	fraction numeric CHECK (fraction BETWEEN 0.0 AND 1.0),
	period text COLLATE "C" CHECK (period IN ('day', 'week', 'month', 'lifetime')),
	time_zone text,
	CHECK ((aggregate = 'percentile') = (fraction IS NOT NULL)),
	CHECK ((time_zone IS NOT NULL) = (period IS NOT NULL AND period <> 'lifetime'))
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.metrics
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.metrics ENABLE ALWAYS TRIGGER rules_changed;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.metrics', '');
COMMENT ON TABLE profile_stream_internal.metrics IS 'Metrics that were created: an aggregate over a window of a series';
COMMENT ON COLUMN profile_stream_internal.metrics.name IS 'Name of the metric';
COMMENT ON COLUMN profile_stream_internal.metrics.series_id IS 'Series whose samples the metric reads';
COMMENT ON COLUMN profile_stream_internal.metrics.aggregate IS 'What the metric makes of the samples, as create_metric() takes it';
COMMENT ON COLUMN profile_stream_internal.metrics.fraction IS 'Which percentile: 0 is the least value, 0.5 the median, 1 the greatest one; NULL for other aggregates';
COMMENT ON COLUMN profile_stream_internal.metrics."window" IS 'How far back from the moment of the question samples count; of a period the longest it can be, of a lifetime 0';
COMMENT ON COLUMN profile_stream_internal.metrics.period IS 'The window begins with this day, week or month, or is the lifetime; NULL: it has a fixed length';
COMMENT ON COLUMN profile_stream_internal.metrics.time_zone IS 'Time zone of the day, week or month; NULL for others';

CREATE FUNCTION create_metric(name text, event_type text DEFAULT NULL, "window" interval DEFAULT NULL, value_path text DEFAULT NULL,
	aggregate text DEFAULT 'count', filter_path text DEFAULT NULL, filter_value text DEFAULT NULL, backfill text DEFAULT NULL,
	fraction numeric DEFAULT NULL, filter_operator text DEFAULT '=', sources text[] DEFAULT NULL, event_types text[] DEFAULT NULL,
	period text DEFAULT NULL, time_zone text DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_create_metric' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_metric IS 'Create a metric: an aggregate of a value of each event of a type over a window, from the next batch on; backfill: a stream to rebuild for what came before';

CREATE FUNCTION drop_metric(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_metric' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_metric(text) IS 'Remove a metric; prune_metrics() removes samples that no other metric reads';

-- =====================================================================================================================
-- 8. Handlers and upcasters (api/user_handlers.c)
-- =====================================================================================================================

CREATE TABLE profile_stream_internal.event_handlers (
	handler_id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	event_type text COLLATE "C" NOT NULL,
	function text COLLATE "C" NOT NULL,
	owner regrole NOT NULL,
	priority int NOT NULL,
	UNIQUE (event_type, function)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.event_handlers
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.event_handlers ENABLE ALWAYS TRIGGER rules_changed;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.event_handlers
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('handler', 'handler_id');
ALTER TABLE profile_stream_internal.event_handlers ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.event_handlers', '');
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.event_handlers_handler_id_seq', '');
COMMENT ON TABLE profile_stream_internal.event_handlers IS 'Functions that change the profile at each event of a type, in the order of priority and handler_id';
COMMENT ON COLUMN profile_stream_internal.event_handlers.handler_id IS 'Number of the handler; handlers of equal priority run in this order';
COMMENT ON COLUMN profile_stream_internal.event_handlers.event_type IS 'Event type at which the function is called';
COMMENT ON COLUMN profile_stream_internal.event_handlers.function IS 'The function by schema, name and argument types';
COMMENT ON COLUMN profile_stream_internal.event_handlers.owner IS 'Role that owned the function when it was registered, with whose rights it runs; when another one owns it, it does not';
COMMENT ON COLUMN profile_stream_internal.event_handlers.priority IS 'Handlers of a type run in ascending order of priority';

CREATE FUNCTION register_handler(event_type text, function regprocedure, priority int DEFAULT 0) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_register_handler' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION register_handler IS 'Let a function(profile jsonb, event jsonb) RETURNS jsonb change the profile at each event of a type, from the next batch on';

CREATE FUNCTION unregister_handler(event_type text, function text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unregister_handler' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unregister_handler(text, text) IS 'Call a handler no more; the function may be gone already';

CREATE FUNCTION test_handler(event_type text, event jsonb, profile jsonb DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_test_handler' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_handler IS 'What an event makes of a profile, by upcasters, the built-in handler, maps and handlers, without any effect';

CREATE TABLE profile_stream_internal.event_upcasters (
	event_type text COLLATE "C" NOT NULL,
	from_version int NOT NULL CHECK (from_version OPERATOR(pg_catalog.>=) 1 AND from_version OPERATOR(pg_catalog.<) 10000),
	function text COLLATE "C" NOT NULL,
	owner regrole NOT NULL,
	PRIMARY KEY (event_type, from_version)
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.event_upcasters
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.event_upcasters ENABLE ALWAYS TRIGGER rules_changed;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.event_upcasters
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('upcaster', 'from_version', 'event_type');
ALTER TABLE profile_stream_internal.event_upcasters ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.event_upcasters', '');
COMMENT ON TABLE profile_stream_internal.event_upcasters IS 'Functions that raise the payload of an event from a schemaVersion to the next';
COMMENT ON COLUMN profile_stream_internal.event_upcasters.event_type IS 'Event type whose payloads are raised';
COMMENT ON COLUMN profile_stream_internal.event_upcasters.from_version IS 'schemaVersion that the function raises to the next one';
COMMENT ON COLUMN profile_stream_internal.event_upcasters.function IS 'The function by schema, name and argument types';
COMMENT ON COLUMN profile_stream_internal.event_upcasters.owner IS 'Role that owned the function when it was registered, with whose rights it runs; when another one owns it, it does not';

CREATE FUNCTION register_upcaster(event_type text, from_version int, function regprocedure) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_register_upcaster' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION register_upcaster IS 'Let a function(event jsonb) RETURNS jsonb make the payload of the next schemaVersion, from the next batch on';

CREATE FUNCTION unregister_upcaster(event_type text, from_version int) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_unregister_upcaster' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unregister_upcaster(text, int) IS 'Raise events from a schemaVersion no more';

CREATE TABLE profile_stream_internal.stream_decoders (
	stream_id int PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
	function text COLLATE "C" NOT NULL,
	owner regrole NOT NULL
);
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profile_stream_internal.stream_decoders
	FOR EACH STATEMENT EXECUTE FUNCTION profile_stream_internal.rules_changed();
ALTER TABLE profile_stream_internal.stream_decoders ENABLE ALWAYS TRIGGER rules_changed;
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.stream_decoders
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('decoder', 'stream_id');
ALTER TABLE profile_stream_internal.stream_decoders ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.stream_decoders', '');
COMMENT ON TABLE profile_stream_internal.stream_decoders IS 'Functions that make events of the messages of a stream: the argument decoder of create_stream() and alter_stream()';
COMMENT ON COLUMN profile_stream_internal.stream_decoders.stream_id IS 'Stream whose messages are decoded';
COMMENT ON COLUMN profile_stream_internal.stream_decoders.function IS 'The function by schema, name and argument types';
COMMENT ON COLUMN profile_stream_internal.stream_decoders.owner IS 'Role that owned the function when it was set, with whose rights it runs; when another one owns it, it does not';

-- =====================================================================================================================
-- 9. Kafka and Redis servers (api/server_options.c, api/redis.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.kafka_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_kafka_validator' LANGUAGE c STRICT;
COMMENT ON FUNCTION profile_stream_internal.kafka_validator(text[], oid) IS 'Checks the options of servers and user mappings of profile_stream_kafka';

CREATE FOREIGN DATA WRAPPER profile_stream_kafka NO HANDLER VALIDATOR profile_stream_internal.kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER profile_stream_kafka IS 'Kafka clusters as servers: addresses in the server, secrets in user mappings';

CREATE FUNCTION test_connection(server name, topic text, OUT partition int, OUT low_offset bigint, OUT end_offset bigint)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'ps_test_connection' LANGUAGE c STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_connection(name, text) IS 'Ask a server''s brokers for the partitions of a topic and their offsets';

CREATE FUNCTION profile_stream_internal.redis_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_redis_validator' LANGUAGE c STRICT;
COMMENT ON FUNCTION profile_stream_internal.redis_validator(text[], oid) IS 'Checks the options of servers and user mappings of profile_stream_redis';

CREATE FOREIGN DATA WRAPPER profile_stream_redis NO HANDLER VALIDATOR profile_stream_internal.redis_validator;
COMMENT ON FOREIGN DATA WRAPPER profile_stream_redis IS 'Redis servers: addresses in the server, username and password in user mappings';

CREATE FUNCTION test_redis(redis text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_test_redis' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION test_redis(text) IS 'Try whether a Redis can be reached and written as a stream would: host:port, the path of a socket, or a server of profile_stream_redis';

-- =====================================================================================================================
-- 10. Streams and sinks: functions (api/streams.c)
-- =====================================================================================================================

CREATE FUNCTION create_stream(name text, server name DEFAULT NULL, bootstrap_servers text DEFAULT NULL,
	topic text DEFAULT NULL, group_id text DEFAULT 'profile-materializer',
	start_from text DEFAULT 'earliest', batch_size int DEFAULT 5000, batch_wait interval DEFAULT '200 ms',
	dedupe_retention interval DEFAULT '7 days', on_offset_lost text DEFAULT 'stop',
	notify_channel text DEFAULT NULL, notify text DEFAULT 'customer', options jsonb DEFAULT '{}',
	reorder_wait interval DEFAULT NULL, reorder_buffer_size int DEFAULT NULL, late_tolerance interval DEFAULT NULL,
	late_policy text DEFAULT NULL, unknown_schema text DEFAULT 'dead_letter', event_types text[] DEFAULT NULL,
	workers int DEFAULT 1, partitions int[] DEFAULT NULL, dead_letter_pause_ratio double precision DEFAULT 1,
	customer_lock_timeout interval DEFAULT '1 s', redis text DEFAULT NULL, redis_prefix text DEFAULT 'profile:',
	redis_ttl interval DEFAULT '5 minutes', changelog_topic text DEFAULT NULL, dead_letter_topic text DEFAULT NULL,
	segment_channel_prefix text DEFAULT NULL,
	format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL,
	timestamp_unit text DEFAULT 'milliseconds', event_id_scope text DEFAULT 'customer', "order" text DEFAULT 'arrival', watch text[] DEFAULT NULL,
	decoder text DEFAULT NULL,
	topics text[] DEFAULT NULL, topic_pattern text DEFAULT NULL, topic_formats jsonb DEFAULT NULL, message_key text DEFAULT 'any',
	partitioner text DEFAULT 'any')
	RETURNS void AS 'MODULE_PATHNAME', 'ps_create_stream' LANGUAGE c
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_stream IS 'Create a stream from Kafka topics into profiles; its workers start when the transaction commits';

CREATE FUNCTION alter_stream(name text, server name DEFAULT NULL, bootstrap_servers text DEFAULT NULL, group_id text DEFAULT NULL,
	batch_size int DEFAULT NULL, batch_wait interval DEFAULT NULL, dedupe_retention interval DEFAULT NULL,
	on_offset_lost text DEFAULT NULL, notify_channel text DEFAULT NULL, notify text DEFAULT NULL, options jsonb DEFAULT NULL,
	reorder_wait interval DEFAULT NULL, reorder_buffer_size int DEFAULT NULL, late_tolerance interval DEFAULT NULL,
	late_policy text DEFAULT NULL, unknown_schema text DEFAULT NULL, event_types text[] DEFAULT NULL,
	workers int DEFAULT NULL, partitions int[] DEFAULT NULL, dead_letter_pause_ratio double precision DEFAULT NULL,
	customer_lock_timeout interval DEFAULT NULL, redis text DEFAULT NULL, redis_prefix text DEFAULT NULL, redis_ttl interval DEFAULT NULL,
	changelog_topic text DEFAULT NULL, dead_letter_topic text DEFAULT NULL, segment_channel_prefix text DEFAULT NULL,
	format text DEFAULT NULL, field_map jsonb DEFAULT NULL, timestamp_unit text DEFAULT NULL, owner name DEFAULT NULL, "order" text DEFAULT NULL, watch text[] DEFAULT NULL,
	decoder text DEFAULT NULL,
	topic text DEFAULT NULL, topics text[] DEFAULT NULL, topic_pattern text DEFAULT NULL, topic_formats jsonb DEFAULT NULL)
	RETURNS void AS 'MODULE_PATHNAME', 'ps_alter_stream' LANGUAGE c
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION alter_stream IS 'Change settings of a stream while it runs; what is null stays as it is';

CREATE FUNCTION seek_stream(name text, "to" text, topic text DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_seek_stream' LANGUAGE c SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION seek_stream IS 'Move a paused stream to earliest, latest, a time, or {"partition": offset, ...}, of one topic or of all; what it goes past is in stat_partitions.gaps';

CREATE FUNCTION pause_stream(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_pause_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pause_stream(text) IS 'Stop a stream''s worker within a second of the commit';

CREATE FUNCTION resume_stream(name text, anyway boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_resume_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resume_stream(text, boolean) IS 'Start a paused or restored stream, or one of another cluster, from its stored offsets; anyway: also where the data that they stand for was not restored';

CREATE FUNCTION flush_stream(name text, customer_id text DEFAULT NULL, timeout interval DEFAULT '30 s') RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_flush_stream' LANGUAGE c SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION flush_stream(text, text, interval) IS 'Have a stream apply now what it holds for reorder_wait, of one customer or of all, in order; returns how many messages it released';

CREATE FUNCTION drop_stream(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_stream(text) IS 'Stop a stream and remove it with its offsets; profiles and dead letters stay';

CREATE FUNCTION start_streams() RETURNS int
	AS 'MODULE_PATHNAME', 'ps_start_streams' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION start_streams() IS 'Start the workers of enabled streams that do not run; returns how many';

CREATE FUNCTION wait_for_offset(name text, partition int, kafka_offset bigint, timeout interval DEFAULT '30 s', topic text DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_wait_for_offset' LANGUAGE c SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION wait_for_offset(text, int, bigint, interval, text) IS 'Wait until the message at an offset is visible';

CREATE FUNCTION profile_stream_internal.node_reached(name text, topics text[], partitions int[], offsets bigint[]) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_node_reached' LANGUAGE c STRICT STABLE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.node_reached(text, text[], int[], bigint[]) IS 'Whether this node has applied what is before these offsets of the partitions that it reads; for functions that wait for all nodes';

CREATE FUNCTION wait_for_stream(name text, timeout interval DEFAULT '30 s') RETURNS void
	AS 'MODULE_PATHNAME', 'ps_wait_for_stream' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION wait_for_stream(text, interval) IS 'Wait until everything that was in the topics at the call is visible; for the stream''s owner';

CREATE PROCEDURE await_offset(name text, partition int, kafka_offset bigint, timeout interval DEFAULT '30 s', topic text DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'ps_await_offset' LANGUAGE c;
COMMENT ON PROCEDURE await_offset(text, int, bigint, interval, text) IS 'Wait as wait_for_offset() does, and hold no snapshot meanwhile';

CREATE PROCEDURE await_stream(name text, timeout interval DEFAULT '30 s')
	AS 'MODULE_PATHNAME', 'ps_await_stream' LANGUAGE c;
COMMENT ON PROCEDURE await_stream(text, interval) IS 'Wait as wait_for_stream() does, and hold no snapshot meanwhile; for the stream''s owner';

CREATE FUNCTION profile_stream_internal.on_nodes(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'ps_on_nodes' LANGUAGE c STRICT IMMUTABLE;
COMMENT ON FUNCTION profile_stream_internal.on_nodes(internal) IS 'Planner support of functions that read profiles: where Citus has distributed these, the function of the same name in the internal schema is called instead';

CREATE FUNCTION resync_sink(name text, sink text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_resync_sink' LANGUAGE c STRICT SUPPORT profile_stream_internal.on_nodes SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resync_sink(text, text) IS 'Have a stream''s relay deliver everything to a sink again, as after FLUSHALL; returns how many';

CREATE FUNCTION reconcile(name text, OUT partition int, OUT consumed bigint, OUT applied bigint, OUT duplicates bigint,
	OUT dead bigint, OUT late bigint, OUT late_dropped bigint, OUT ignored bigint, OUT tombstones bigint, OUT blocked bigint,
	OUT replayed bigint, OUT held bigint, OUT difference bigint, OUT chunks bigint, OUT wrong_chunks bigint, OUT topic text)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'ps_reconcile' LANGUAGE c STRICT STABLE SUPPORT profile_stream_internal.on_nodes
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reconcile(text) IS 'Compare the counters of a stream: per partition how many messages were read, what became of them, and the difference, which is 0; and how many sealed chunks differ from their samples, day buckets or parts';

CREATE FUNCTION profile_stream_internal.reconcile(name text, OUT partition int, OUT consumed bigint, OUT applied bigint, OUT duplicates bigint,
	OUT dead bigint, OUT late bigint, OUT late_dropped bigint, OUT ignored bigint, OUT tombstones bigint, OUT blocked bigint,
	OUT replayed bigint, OUT held bigint, OUT difference bigint, OUT chunks bigint, OUT wrong_chunks bigint, OUT topic text) RETURNS SETOF record
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT x.partition, sum(x.consumed)::bigint, sum(x.applied)::bigint, sum(x.duplicates)::bigint, sum(x.dead)::bigint, sum(x.late)::bigint, sum(x.late_dropped)::bigint,
			sum(x.ignored)::bigint, sum(x.tombstones)::bigint, sum(x.blocked)::bigint, sum(x.replayed)::bigint, sum(x.held)::bigint, sum(x.difference)::bigint, sum(x.chunks)::bigint,
			sum(x.wrong_chunks)::bigint, x.topic
		FROM profile_stream_internal.run_on_all_nodes(format('(SELECT jsonb_agg(to_jsonb(o)) AS rows FROM profile_stream.reconcile(%L) o)', reconcile.name)) r(answer),
			jsonb_to_recordset(r.answer -> 'rows') x(partition int, consumed bigint, applied bigint, duplicates bigint, dead bigint, late bigint, late_dropped bigint, ignored bigint,
				tombstones bigint, blocked bigint, replayed bigint, held bigint, difference bigint, chunks bigint, wrong_chunks bigint, topic text)
		GROUP BY x.topic, x.partition ORDER BY x.topic, x.partition;
END $$;
COMMENT ON FUNCTION profile_stream_internal.reconcile(text) IS 'reconcile() of profiles that Citus has distributed: what all nodes counted, added up';

-- =====================================================================================================================
-- 11. Streams and sinks: monitoring (api/process_waits.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.lease_holder(objid oid, OUT worker int, OUT partition bigint, OUT relay text)
	AS 'MODULE_PATHNAME', 'ps_lease_holder' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 25;
COMMENT ON FUNCTION profile_stream_internal.lease_holder(oid) IS 'Returns which worker, partition or relay of a stream an advisory lock with this objid stands for';

CREATE VIEW profile_stream_internal.stream_leases WITH (security_invoker = true) AS
	SELECT l.classid::bigint AS stream_id, l.pid, h.worker, h.partition, h.relay
	FROM pg_catalog.pg_locks l CROSS JOIN LATERAL profile_stream_internal.lease_holder(l.objid) AS h
	WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.classid <> 0::oid AND l.mode = 'ExclusiveLock' AND l.granted
		AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW profile_stream_internal.stream_leases IS 'Workers that run, by their number from 0, the partitions that each reads, and relays, by their sink';
COMMENT ON COLUMN profile_stream_internal.stream_leases.stream_id IS 'Stream that the process works for; of a rebuild 2147483648 more';
COMMENT ON COLUMN profile_stream_internal.stream_leases.pid IS 'Process';
COMMENT ON COLUMN profile_stream_internal.stream_leases.worker IS 'Number of the worker, from 0; NULL for a partition or a relay';
COMMENT ON COLUMN profile_stream_internal.stream_leases.partition IS 'Partition that the process reads; NULL for a worker or a relay';
COMMENT ON COLUMN profile_stream_internal.stream_leases.relay IS 'Sink that the process delivers to; NULL for a worker or a partition';

-- What is true of a process also while its transaction hangs.
CREATE FUNCTION profile_stream_internal.process_waits(OUT pid int, OUT waits_for text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_process_waits' LANGUAGE c STRICT VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.process_waits() IS 'What workers, relays and refreshes of this database wait for: for what, which process has it, since when';

CREATE FUNCTION profile_stream_internal.reported_partitions(OUT stream_id bigint, OUT topic_no int, OUT partition int, OUT since timestamptz, OUT end_offset bigint,
	OUT oldest_at timestamptz, OUT broker_away boolean, OUT messages_per_second double precision, OUT applied_per_second double precision) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_reported_partitions' LANGUAGE c STRICT VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.reported_partitions() IS 'What workers report of the partitions that they read: end offsets that were asked for meanwhile, since when the oldest message waits, and rates of the last minute';

CREATE FUNCTION profile_stream_internal.process_meters(merged boolean, OUT stream_id bigint, OUT relay text, OUT worker int, OUT pid int, OUT measured_since timestamptz,
	OUT memory_bytes bigint, OUT items_per_second double precision, OUT done_per_second double precision,
	OUT latency_p50 double precision, OUT latency_p95 double precision, OUT latency_p99 double precision,
	OUT batch_size_avg double precision, OUT batch_size_max bigint, OUT batch_time_avg double precision, OUT batch_time_max double precision,
	OUT dead_last_minute jsonb) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_process_meters' LANGUAGE c STRICT VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.process_meters(boolean) IS 'What processes of streams that run measured over the last minute: of each, or merged for all workers of a stream, and for each relay';

CREATE FUNCTION profile_stream_internal.reads_partition(partitioner text, partition int) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_reads_partition' LANGUAGE c STRICT STABLE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.reads_partition(text, int) IS 'Whether this node reads a partition of a stream with this partitioner: where profiles are distributed, a node without shards reads none, and with citus only those whose shard is here';

CREATE VIEW profile_stream_internal.partition_lags WITH (security_invoker = true) AS
	SELECT o.stream_id, o.topic_no, o.partition, GREATEST(o.end_offset, r.end_offset) AS end_offset, l.lag,
		-- no process that reports, or a broker that is away, may hide messages that nobody has seen
		CASE WHEN l.lag > 0 THEN GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - COALESCE(r.oldest_at, o.last_message_at)), 0::numeric)::double precision
			WHEN NOT r.broker_away AND (o.end_offset IS NOT NULL OR r.oldest_at IS NOT NULL) THEN 0::double precision END AS lag_seconds,
		r.messages_per_second, r.applied_per_second
	FROM profile_stream_internal.stream_offsets o
		-- a worker may still report a partition that another one has taken over
		LEFT JOIN (SELECT DISTINCT ON (p.stream_id, p.topic_no, p.partition) p.*
			FROM profile_stream_internal.reported_partitions() p ORDER BY p.stream_id, p.topic_no, p.partition, p.since DESC) r
			ON r.stream_id = o.stream_id AND r.topic_no = o.topic_no AND r.partition = o.partition
		CROSS JOIN LATERAL (SELECT GREATEST(o.end_offset - o.next_offset, r.end_offset - o.next_offset, 0) AS lag) l
	WHERE (SELECT profile_stream_internal.reads_partition(s.partitioner, o.partition) FROM profile_stream.streams s WHERE s.stream_id = o.stream_id);
COMMENT ON VIEW profile_stream_internal.partition_lags IS 'How far each partition that is read here is behind, and what is read of it';
COMMENT ON COLUMN profile_stream_internal.partition_lags.stream_id IS 'Stream that reads the partition';
COMMENT ON COLUMN profile_stream_internal.partition_lags.topic_no IS 'Topic of the partition, as in stream_topics';
COMMENT ON COLUMN profile_stream_internal.partition_lags.partition IS 'Number of the partition';
COMMENT ON COLUMN profile_stream_internal.partition_lags.end_offset IS 'Offset at the end of the partition, as last seen; NULL: not seen yet';
COMMENT ON COLUMN profile_stream_internal.partition_lags.lag IS 'Messages from the next offset to the end';
COMMENT ON COLUMN profile_stream_internal.partition_lags.lag_seconds IS 'How long the oldest of them waits; NULL: not known';
COMMENT ON COLUMN profile_stream_internal.partition_lags.messages_per_second IS 'Messages read, a second; NULL: no worker reads it';
COMMENT ON COLUMN profile_stream_internal.partition_lags.applied_per_second IS 'Events applied, a second; NULL: no worker reads it';

CREATE VIEW stat_partitions WITH (security_invoker = true) AS
	SELECT s.name AS stream, COALESCE(k.topic, s.topic) AS topic, o.partition, CASE WHEN e.stream_id IS NULL THEN 'elsewhere' ELSE o.state END AS state, o.start_offset, o.next_offset, e.end_offset, e.lag,
		o.consumed, o.applied, o.duplicates, o.dead, o.late, o.late_applied, o.late_dropped, o.ignored, o.tombstones, o.blocked, o.replayed, o.other_key, o.other_partition, o.held, o.held_bytes,
		o.last_message_at, o.committed_at, CASE WHEN e.stream_id IS NOT NULL THEN o.error END AS error, l.pid AS worker_pid,
		(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('from_offset', g.from_offset, 'to_offset', g.to_offset, 'reason', g.reason,
				'recorded_at', g.recorded_at) ORDER BY g.recorded_at, g.from_offset)
			FROM profile_stream_internal.stream_gaps g WHERE g.stream_id = o.stream_id AND g.topic_no = o.topic_no AND g.partition = o.partition) AS gaps,
		e.lag_seconds, e.messages_per_second, e.applied_per_second, o.elsewhere
	FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id
		LEFT JOIN profile_stream_internal.stream_topics k ON k.stream_id = o.stream_id AND k.topic_no = o.topic_no
		LEFT JOIN profile_stream_internal.stream_leases l ON l.stream_id = o.stream_id AND l.partition = o.partition
		LEFT JOIN profile_stream_internal.partition_lags e ON e.stream_id = o.stream_id AND e.topic_no = o.topic_no AND e.partition = o.partition;
COMMENT ON VIEW stat_partitions IS 'Progress and counters of each partition';
COMMENT ON COLUMN stat_partitions.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_partitions.topic IS 'Kafka topic of the partition';
COMMENT ON COLUMN stat_partitions.state IS 'running; offset_lost when Kafka no longer has next_offset; elsewhere when other nodes alone read the partition, because no shard that has messages in it is here';
COMMENT ON COLUMN stat_partitions.lag IS 'Messages from next_offset to the end of the partition; NULL or 0 until the end was seen';
COMMENT ON COLUMN stat_partitions.error IS 'Why the partition does not go on; NULL: it does';
COMMENT ON COLUMN stat_partitions.worker_pid IS 'Process that reads the partition; NULL: none does';
COMMENT ON COLUMN stat_partitions.gaps IS 'Offset ranges that the stream went past without reading, an array of objects with from_offset, to_offset (not included), reason and recorded_at; NULL: none';
COMMENT ON COLUMN stat_partitions.end_offset IS 'Offset at the end of the partition, as last seen; NULL: not seen yet';
COMMENT ON COLUMN stat_partitions.lag_seconds IS 'How long the oldest message that is not applied waits, at most; 0 when there is none; NULL: not known, because no worker or no broker tells';
COMMENT ON COLUMN stat_partitions.messages_per_second IS 'Messages that were read, a second over the last minute; NULL: no worker reads it';
COMMENT ON COLUMN stat_partitions.applied_per_second IS 'Events that were applied, a second over the last minute; NULL: no worker reads it';
COMMENT ON COLUMN stat_partitions.elsewhere IS 'Messages of customers of other nodes, where profiles are distributed; consumed does not count them';

CREATE FUNCTION profile_stream_internal.add_sources(stored bytea, more bytea) RETURNS bytea
	AS 'MODULE_PATHNAME', 'ps_add_sources' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 50;
COMMENT ON FUNCTION profile_stream_internal.add_sources(bytea, bytea) IS 'Adds packed counts by source to others';

CREATE FUNCTION profile_stream_internal.source_counts(sources bytea, OUT source text, OUT applied bigint, OUT last_event_at timestamptz) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_source_counts' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 100 ROWS 5;
COMMENT ON FUNCTION profile_stream_internal.source_counts(bytea) IS 'Counts by source of a partition as rows';

CREATE VIEW stat_sources WITH (security_invoker = true) AS
	SELECT s.name AS stream, c.source, pg_catalog.sum(c.applied)::bigint AS applied, pg_catalog.max(c.last_event_at) AS last_event_at
	FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id
		CROSS JOIN LATERAL profile_stream_internal.source_counts(o.sources) c
	GROUP BY s.name, c.source;
COMMENT ON VIEW stat_sources IS 'Applied events of each stream by the source that they name';
COMMENT ON COLUMN stat_sources.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_sources.source IS 'Source of the events; NULL: they name none; (other): all that are not told apart';
COMMENT ON COLUMN stat_sources.applied IS 'Events that were applied';
COMMENT ON COLUMN stat_sources.last_event_at IS 'Greatest timestamp of one of these events';

CREATE VIEW stat_topics WITH (security_invoker = true) AS
	SELECT s.name AS stream, t.topic,
		CASE WHEN w.is_read THEN t.state ELSE 'left' END AS state, t.since, CASE WHEN w.is_read THEN t.error END AS error,
		CASE WHEN NOT w.is_read THEN NULL
			WHEN t.state = 'missing' THEN 'Create the topic: the stream finds it by itself. To read it no more, call alter_stream() with other topics or another topic_pattern.'
			WHEN t.state = 'retrying' THEN 'See the brokers; the stream asks again every 2 seconds.' END AS hint,
		f.format, t.joined_at, pg_catalog.count(o.partition) AS partitions, COALESCE(pg_catalog.sum(o.consumed), 0)::bigint AS consumed,
		COALESCE(pg_catalog.sum(o.applied), 0)::bigint AS applied, COALESCE(pg_catalog.sum(o.duplicates), 0)::bigint AS duplicates,
		COALESCE(pg_catalog.sum(o.dead), 0)::bigint AS dead, COALESCE(pg_catalog.sum(o.late), 0)::bigint AS late,
		COALESCE(pg_catalog.sum(o.held), 0)::bigint AS held, COALESCE(pg_catalog.sum(GREATEST(o.end_offset - o.next_offset, 0)) FILTER (WHERE profile_stream_internal.reads_partition(s.partitioner, o.partition)), 0)::bigint AS lag,
		pg_catalog.max(o.last_message_at) AS last_message_at, t.partitions AS topic_partitions
	FROM profile_stream_internal.stream_topics t JOIN profile_stream.streams s ON s.stream_id = t.stream_id
		CROSS JOIN LATERAL (SELECT (s.topic = t.topic OR t.topic = ANY (s.topics) OR t.pattern = s.topic_pattern) IS TRUE AS is_read) w
		CROSS JOIN LATERAL profile_stream_internal.topic_format(s, t.topic) f
		LEFT JOIN profile_stream_internal.stream_offsets o ON o.stream_id = t.stream_id AND o.topic_no = t.topic_no
	GROUP BY s.name, t.stream_id, t.topic_no, t.topic, w.is_read, t.state, t.since, t.error, f.format, t.joined_at, t.partitions;
COMMENT ON VIEW stat_topics IS 'Topics of each stream: which are read, which are missing and since when, and counters';
COMMENT ON COLUMN stat_topics.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_topics.topic IS 'Name of the topic';
COMMENT ON COLUMN stat_topics.state IS 'running; missing: the brokers do not have it; retrying: they do not answer for it; left: the stream reads it no more';
COMMENT ON COLUMN stat_topics.hint IS 'What to do about the error; NULL: nothing';
COMMENT ON COLUMN stat_topics.format IS 'Format of its messages, as topic_formats or the stream says';
COMMENT ON COLUMN stat_topics.partitions IS 'Number of its partitions that have an offset';
COMMENT ON COLUMN stat_topics.lag IS 'Messages from the next offsets to the ends of the partitions, as far as those were seen';
COMMENT ON COLUMN stat_topics.last_message_at IS 'Kafka timestamp of the last message; NULL: none came yet';
COMMENT ON COLUMN stat_topics.topic_partitions IS 'How many partitions the topic has, whoever reads them, as the brokers said last; NULL: not known yet';
COMMENT ON COLUMN stat_topics.consumed IS 'Messages that were read';
COMMENT ON COLUMN stat_topics.applied IS 'Events that were applied';
COMMENT ON COLUMN stat_topics.duplicates IS 'Events whose id was applied before';
COMMENT ON COLUMN stat_topics.dead IS 'Messages that became dead letters, but for late ones';
COMMENT ON COLUMN stat_topics.late IS 'Events that became dead letters because they were later than late_tolerance allows';
COMMENT ON COLUMN stat_topics.held IS 'Messages that were read and are not applied yet';

CREATE VIEW stat_streams WITH (security_invoker = true) AS
	WITH running AS (
		SELECT l.stream_id, pg_catalog.count(*)::int AS workers, (pg_catalog.array_agg(l.pid ORDER BY l.worker))[1] AS pid
		FROM profile_stream_internal.stream_leases l WHERE l.worker IS NOT NULL GROUP BY l.stream_id
	), totals AS (
		SELECT o.stream_id, pg_catalog.count(*) AS partitions, pg_catalog.sum(o.applied)::bigint AS applied,
			pg_catalog.sum(o.duplicates)::bigint AS duplicates, pg_catalog.sum(o.dead)::bigint AS dead,
			pg_catalog.sum(o.late)::bigint AS late, pg_catalog.sum(o.late_applied)::bigint AS late_applied,
			pg_catalog.sum(o.late_dropped)::bigint AS late_dropped, pg_catalog.sum(o.ignored)::bigint AS ignored, pg_catalog.sum(o.tombstones)::bigint AS tombstones,
			pg_catalog.sum(o.blocked)::bigint AS blocked, pg_catalog.sum(o.replayed)::bigint AS replayed,
			pg_catalog.sum(o.other_key)::bigint AS other_key, pg_catalog.sum(o.other_partition)::bigint AS other_partition, pg_catalog.sum(o.held)::bigint AS held,
			pg_catalog.sum(o.held_bytes)::bigint AS held_bytes,
			COALESCE(pg_catalog.sum(e.lag) FILTER (WHERE k.is_read), 0)::bigint AS lag,
			pg_catalog.max(e.lag_seconds) FILTER (WHERE k.is_read AND e.lag_seconds > 0::double precision) AS behind,
			pg_catalog.count(*) FILTER (WHERE k.is_read AND e.lag_seconds IS NULL) AS unknown,
			pg_catalog.max(o.last_message_at) AS last_message_at, pg_catalog.max(o.committed_at) AS committed_at,
			pg_catalog.count(*) FILTER (WHERE k.is_read AND o.state = 'offset_lost') AS lost,
			pg_catalog.count(*) FILTER (WHERE k.is_read AND o.error IS NOT NULL) AS failing,
			pg_catalog.min(pg_catalog.format('partition %s: %s', profile_stream_internal.partition_name(o.stream_id, o.topic_no, o.partition), o.error)) FILTER (WHERE k.is_read AND o.error IS NOT NULL) AS error
		FROM profile_stream_internal.stream_offsets o
			LEFT JOIN profile_stream_internal.partition_lags e ON e.stream_id = o.stream_id AND e.topic_no = o.topic_no AND e.partition = o.partition
			-- what a topic that was left still has is neither lag nor an error, nor is what another node reads
			CROSS JOIN LATERAL (SELECT e.stream_id IS NOT NULL AND NOT EXISTS (SELECT FROM profile_stream_internal.stream_topics t JOIN profile_stream.streams s ON s.stream_id = t.stream_id
				WHERE t.stream_id = o.stream_id AND t.topic_no = o.topic_no
				AND (s.topic = t.topic OR t.topic = ANY (s.topics) OR t.pattern = s.topic_pattern) IS NOT TRUE) AS is_read) k
		GROUP BY o.stream_id
	), counters AS (
		SELECT c.stream_id, pg_catalog.sum(c.errors)::bigint AS errors, pg_catalog.sum(c.retries)::bigint AS retries, pg_catalog.sum(c.restarts)::bigint AS restarts
		FROM profile_stream_internal.process_counters c WHERE c.process LIKE 'worker %' GROUP BY c.stream_id
	), waiting AS (
		SELECT l.stream_id, pg_catalog.min(w.waits_for) AS waits_for
		FROM profile_stream_internal.process_waits() w JOIN profile_stream_internal.stream_leases l ON l.pid = w.pid AND l.worker IS NOT NULL
		GROUP BY l.stream_id
	), topics AS (
		SELECT k.stream_id, pg_catalog.min(pg_catalog.format('topic "%s": %s', k.topic, k.error)) AS error
		FROM profile_stream_internal.stream_topics k JOIN profile_stream.streams s ON s.stream_id = k.stream_id
		WHERE k.error IS NOT NULL AND (s.topic = k.topic OR k.topic = ANY (s.topics) OR k.pattern = s.topic_pattern)
		GROUP BY k.stream_id
	), here AS (
		SELECT t.*, COALESCE(t.cluster <> profile_stream_internal.current_cluster(), false) AS is_foreign,
			-- a worker that cannot connect is tried again by a starter
			t.state IN ('disabled', 'no_worker_slot', 'quarantined', 'no_owner')
				OR t.state = 'retrying' AND COALESCE(t.next_attempt_at > pg_catalog.clock_timestamp() - '10 s'::interval, false) AS is_known
		FROM profile_stream_internal.stream_status t
		WHERE t.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			AND EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'stream' AND c.key = t.stream_id::text)
	)
	SELECT s.name AS stream,
		CASE WHEN h.stream_id IS NULL THEN 'restored'
			WHEN NOT h.enabled AND r.pid IS NOT NULL THEN 'pausing'
			WHEN NOT h.enabled THEN 'paused'
			WHEN h.is_foreign THEN 'foreign_cluster'
			WHEN pg_catalog.pg_is_in_recovery() THEN 'standby'
			WHEN r.pid IS NULL AND NOT h.is_known THEN 'not_running'
			WHEN w.waits_for IS NOT NULL THEN 'waiting'
			WHEN h.state = 'running' AND t.lost > 0 THEN 'offset_lost'
			ELSE h.state END AS state,
		COALESCE(s.topic, pg_catalog.concat_ws(', ', pg_catalog.array_to_string(s.topics, ', '), s.topic_pattern)) AS topic,
		pg_catalog.pg_get_userbyid(s.owner) AS owner, r.pid AS worker_pid, COALESCE(r.workers, 0) AS workers, t.partitions, t.applied, t.duplicates, t.dead, t.late, t.late_applied, t.late_dropped, t.ignored, t.tombstones,
		t.blocked, t.replayed, t.other_key, t.other_partition, t.held, t.held_bytes, t.lag,
		t.last_message_at, t.committed_at,
		CASE WHEN h.is_foreign THEN pg_catalog.format('the stream belongs to cluster "%s", and this server is of cluster "%s"', h.cluster, profile_stream_internal.current_cluster())
			WHEN w.waits_for IS NOT NULL THEN w.waits_for
			WHEN h.state = 'running' AND t.failing > 0 THEN COALESCE(h.error, t.error)
			WHEN h.state = 'running' AND k.error IS NOT NULL THEN COALESCE(h.error, k.error)
			ELSE h.error END AS error,
		CASE WHEN h.stream_id IS NULL THEN 'It came by a restore or a subscription; resume_stream() confirms it and goes on from the stored offsets, and so do its sinks: in a copy take them away first by alter_stream().'
			WHEN h.enabled AND h.is_foreign THEN 'Where this is a copy, leave it so. Where it is the cluster itself, under another name, resume_stream() makes the stream its own.'
			WHEN h.enabled AND pg_catalog.pg_is_in_recovery() THEN 'Its primary runs it. Once this server is promoted, it goes on here by itself.'
			WHEN h.enabled AND r.pid IS NULL AND (h.hint IS NULL OR NOT h.is_known) THEN 'start_streams() starts it; shared_preload_libraries starts it with the server.'
			WHEN w.waits_for IS NOT NULL THEN 'End what it waits for, or wait: the stream goes on by itself.'
			WHEN h.state = 'running' AND t.lost > 0 THEN 'See the error of each partition in stat_partitions.'
			WHEN h.state = 'running' AND COALESCE(t.failing, 0::bigint) = 0 AND h.error IS NULL AND k.error IS NOT NULL THEN 'The other topics are read on. See stat_topics.'
			WHEN h.state = 'running' AND t.failing > 0 THEN 'Another broker or setting may read it. To go past it: pause_stream(), seek_stream(name, ''{"partition": offset + 1}''), resume_stream().'
			ELSE COALESCE(h.hint, profile_stream_internal.library_warning()) END AS hint,
		h.error_at, h.next_attempt_at, h.notifications_skipped, h.since,
		-- 0 only when that is known of all partitions
		CASE WHEN t.behind IS NOT NULL OR t.unknown > 0 THEN t.behind WHEN t.partitions > 0 THEN 0::double precision END AS lag_seconds,
		m.items_per_second AS messages_per_second, m.done_per_second AS applied_per_second, m.latency_p50, m.latency_p95, m.latency_p99,
		m.batch_size_avg, m.batch_size_max, m.batch_time_avg, m.batch_time_max, m.dead_last_minute, m.memory_bytes,
		COALESCE(c.errors, 0::bigint) AS errors, COALESCE(c.retries, 0::bigint) AS retries, COALESCE(c.restarts, 0::bigint) AS restarts, h.stats_reset
	FROM profile_stream.streams s
		LEFT JOIN here h ON h.stream_id = s.stream_id
		LEFT JOIN running r ON r.stream_id = s.stream_id
		LEFT JOIN waiting w ON w.stream_id = s.stream_id
		LEFT JOIN totals t ON t.stream_id = s.stream_id
		LEFT JOIN topics k ON k.stream_id = s.stream_id
		LEFT JOIN counters c ON c.stream_id = s.stream_id
		LEFT JOIN profile_stream_internal.process_meters(true) m ON m.stream_id = s.stream_id AND m.relay IS NULL;
COMMENT ON VIEW stat_streams IS 'State, counters, lag and last error of each stream';
COMMENT ON COLUMN stat_streams.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_streams.state IS 'What the stream does: see the states of a stream in the reference';
COMMENT ON COLUMN stat_streams.topic IS 'Kafka topic that the stream reads, or its topics and topic_pattern';
COMMENT ON COLUMN stat_streams.owner IS 'Role with whose rights the stream runs';
COMMENT ON COLUMN stat_streams.worker_pid IS 'Process of the first worker that runs; NULL: none runs';
COMMENT ON COLUMN stat_streams.workers IS 'Number of workers that run';
COMMENT ON COLUMN stat_streams.partitions IS 'Number of partitions that have an offset; NULL: none has';
COMMENT ON COLUMN stat_streams.applied IS 'Events that were applied; NULL before the first partition';
COMMENT ON COLUMN stat_streams.duplicates IS 'Events whose id was applied before; NULL before the first partition';
COMMENT ON COLUMN stat_streams.dead IS 'Messages that became dead letters, but for late ones; NULL before the first partition';
COMMENT ON COLUMN stat_streams.late IS 'Events that became dead letters because they were later than late_tolerance allows; NULL before the first partition';
COMMENT ON COLUMN stat_streams.late_applied IS 'Late events that were applied, as late_policy says; applied counts them, too; NULL before the first partition';
COMMENT ON COLUMN stat_streams.late_dropped IS 'Late events that were dropped, as late_policy says; NULL before the first partition';
COMMENT ON COLUMN stat_streams.ignored IS 'Events of types that are not in event_types, which were skipped; NULL before the first partition';
COMMENT ON COLUMN stat_streams.tombstones IS 'Messages without a value; NULL before the first partition';
COMMENT ON COLUMN stat_streams.blocked IS 'Messages of blocked customers, which were skipped; NULL before the first partition';
COMMENT ON COLUMN stat_streams.replayed IS 'Messages that were read again after their partition was assigned anew, as at a restart; NULL before the first partition';
COMMENT ON COLUMN stat_streams.other_key IS 'Events whose key is not their customer; NULL before the first partition';
COMMENT ON COLUMN stat_streams.other_partition IS 'Events whose customer had its event before in another partition of the topic, as far as one worker remembers; NULL before the first partition';
COMMENT ON COLUMN stat_streams.held IS 'Messages that were read and are not applied yet; NULL before the first partition';
COMMENT ON COLUMN stat_streams.held_bytes IS 'Bytes of the held messages that are in memory; NULL before the first partition';
COMMENT ON COLUMN stat_streams.lag IS 'Messages from the next offsets to the ends of the partitions; NULL before the first partition';
COMMENT ON COLUMN stat_streams.last_message_at IS 'Kafka timestamp of the last message; NULL: none came yet';
COMMENT ON COLUMN stat_streams.committed_at IS 'When an offset moved last; NULL: never';
COMMENT ON COLUMN stat_streams.error IS 'Why the stream does not go on as it should; NULL: it does';
COMMENT ON COLUMN stat_streams.since IS 'When the stream came into the state that its worker last said; NULL: restored';
COMMENT ON COLUMN stat_streams.lag_seconds IS 'How long the oldest message that is not applied waits, at most; 0 when there is none; NULL: not known, because no worker or no broker tells';
COMMENT ON COLUMN stat_streams.messages_per_second IS 'Messages that were read, a second over the last minute; NULL: no worker runs';
COMMENT ON COLUMN stat_streams.applied_per_second IS 'Events that were applied, a second over the last minute; NULL: no worker runs';
COMMENT ON COLUMN stat_streams.latency_p50 IS 'Seconds from the Kafka timestamp of an event to its commit that half of the last minute''s events did not exceed; up to 12.5 % too much; NULL: there were none';
COMMENT ON COLUMN stat_streams.latency_p95 IS 'The same for 95 % of the events';
COMMENT ON COLUMN stat_streams.latency_p99 IS 'The same for 99 % of the events';
COMMENT ON COLUMN stat_streams.batch_size_avg IS 'Messages of a transaction, on average over the last minute; NULL: there were none';
COMMENT ON COLUMN stat_streams.batch_size_max IS 'Messages of the largest transaction of the last minute';
COMMENT ON COLUMN stat_streams.batch_time_avg IS 'Seconds that a transaction took, on average over the last minute';
COMMENT ON COLUMN stat_streams.batch_time_max IS 'Seconds that the longest transaction of the last minute took';
COMMENT ON COLUMN stat_streams.dead_last_minute IS 'Messages that became dead letters in the last minute, by kind, as an object; NULL: no worker runs';
COMMENT ON COLUMN stat_streams.memory_bytes IS 'Memory of PostgreSQL that the workers have allocated; what librdkafka has fetched comes on top; NULL: none runs';
COMMENT ON COLUMN stat_streams.errors IS 'Reasons for which workers could not go on; each counts once until the stream is well again';
COMMENT ON COLUMN stat_streams.retries IS 'Attempts of workers that failed and were tried again';
COMMENT ON COLUMN stat_streams.restarts IS 'Starts of workers after one had ended without being told to, or for changed options';
COMMENT ON COLUMN stat_streams.stats_reset IS 'Since when errors, retries, restarts and notifications_skipped are counted; NULL: restored';

CREATE FUNCTION profile_stream_internal.sink_backlog(stream_id int, sink text, OUT customers bigint, OUT changed_at timestamptz) RETURNS record
	AS 'MODULE_PATHNAME', 'ps_sink_backlog' LANGUAGE c STRICT STABLE COST 1000;
COMMENT ON FUNCTION profile_stream_internal.sink_backlog(int, text) IS 'How many customers a sink still has to be told of, and since when the oldest waits; of distributed profiles those of the shards of this node';

CREATE VIEW stat_sinks WITH (security_invoker = true) AS
	SELECT k.stream, k.sink,
		CASE WHEN h.cluster <> profile_stream_internal.current_cluster() THEN 'foreign_cluster'
			WHEN h.enabled AND pg_catalog.pg_is_in_recovery() THEN 'standby'
			WHEN r.pid IS NULL AND h.enabled AND COALESCE(t.state = 'retrying' AND t.next_attempt_at > pg_catalog.clock_timestamp() - '10 s'::interval, false)
				THEN 'retrying'
			WHEN r.pid IS NULL AND t.state IN ('no_worker_slot', 'no_owner') THEN t.state
			WHEN r.pid IS NULL THEN 'not_running'
			WHEN w.waits_for IS NOT NULL THEN 'waiting'
			WHEN t.state IN ('no_worker_slot', 'no_owner') THEN 'starting' ELSE COALESCE(t.state, 'starting') END AS state,
		r.pid AS relay_pid, COALESCE(t.delivered, 0) AS delivered, COALESCE(t.refused, 0) AS refused,
		q.customers + (SELECT pg_catalog.count(*) FROM profile_stream_internal.dead_letter_outbox d WHERE d.stream_id = k.stream_id AND k.content = 'dead_letters') AS backlog,
		t.delivered_at, COALESCE(w.waits_for, t.error) AS error,
		-- what the last relay said is no reason why none runs
		CASE WHEN r.pid IS NOT NULL OR t.state IN ('no_worker_slot', 'no_owner') OR pg_catalog.pg_is_in_recovery() OR h.cluster <> profile_stream_internal.current_cluster()
				OR COALESCE(t.state = 'retrying' AND t.next_attempt_at > pg_catalog.clock_timestamp() - '10 s'::interval, false) THEN t.hint
			WHEN h.enabled THEN 'start_streams() starts it; shared_preload_libraries starts it with the server.'
			ELSE 'resume_stream() starts it with its stream.' END AS hint,
		t.error_at, t.next_attempt_at, t.since,
		COALESCE(GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - LEAST(
			q.changed_at,
			(SELECT l.dead_at FROM profile_stream_internal.dead_letter_outbox d JOIN profile_stream_internal.dead_letters l ON l.dead_letter_id = d.dead_letter_id
				WHERE d.stream_id = k.stream_id AND k.content = 'dead_letters' ORDER BY d.dead_letter_id LIMIT 1))), 0::numeric), 0::numeric)::double precision AS lag_seconds,
		m.done_per_second AS delivered_per_second, m.latency_p50, m.latency_p95, m.latency_p99,
		m.batch_size_avg, m.batch_size_max, m.batch_time_avg, m.batch_time_max, m.memory_bytes,
		COALESCE(c.errors, 0::bigint) AS errors, COALESCE(c.retries, 0::bigint) AS retries, COALESCE(c.restarts, 0::bigint) AS restarts,
		(SELECT b.stats_reset FROM profile_stream_internal.stream_status b WHERE b.stream_id = k.stream_id) AS stats_reset
	FROM profile_stream_internal.stream_sinks k
		CROSS JOIN LATERAL profile_stream_internal.sink_backlog(k.stream_id, k.sink) q
		LEFT JOIN profile_stream_internal.stream_leases r ON r.stream_id = k.stream_id AND r.relay = k.sink
		LEFT JOIN profile_stream_internal.process_waits() w ON w.pid = r.pid
		LEFT JOIN profile_stream_internal.sink_status t ON t.stream_id = k.stream_id AND t.sink = k.sink
		LEFT JOIN profile_stream_internal.process_counters c ON c.stream_id = k.stream_id AND c.process = k.sink
		LEFT JOIN profile_stream_internal.process_meters(true) m ON m.stream_id = k.stream_id AND m.relay = k.sink
		LEFT JOIN profile_stream_internal.stream_status h ON h.stream_id = k.stream_id AND h.enabled
			AND h.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stat_sinks IS 'State, backlog, counters and last error of what each stream delivers to';
COMMENT ON COLUMN stat_sinks.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_sinks.sink IS 'Sink of the stream: redis, changelog or dead_letters';
COMMENT ON COLUMN stat_sinks.state IS 'What the relay does: see the states of a sink in the reference';
COMMENT ON COLUMN stat_sinks.relay_pid IS 'Process that delivers; NULL: none runs';
COMMENT ON COLUMN stat_sinks.backlog IS 'Profiles or dead letters that wait for delivery';
COMMENT ON COLUMN stat_sinks.error IS 'Why the relay does not deliver; NULL: it does';
COMMENT ON COLUMN stat_sinks.since IS 'When the relay came into the state that it last said; NULL: it never ran';
COMMENT ON COLUMN stat_sinks.lag_seconds IS 'How long the oldest change that is not delivered waits since its commit; 0 when there is none';
COMMENT ON COLUMN stat_sinks.delivered_per_second IS 'Profiles or dead letters that were delivered, a second over the last minute; NULL: no relay runs';
COMMENT ON COLUMN stat_sinks.latency_p50 IS 'Seconds from the commit of a change to its delivery that half of the last minute''s did not exceed; up to 12.5 % too much; NULL: there were none';
COMMENT ON COLUMN stat_sinks.latency_p95 IS 'The same for 95 % of the deliveries';
COMMENT ON COLUMN stat_sinks.latency_p99 IS 'The same for 99 % of the deliveries';
COMMENT ON COLUMN stat_sinks.batch_size_avg IS 'Profiles or dead letters of a delivery, on average over the last minute; NULL: there were none';
COMMENT ON COLUMN stat_sinks.batch_size_max IS 'Profiles or dead letters of the largest delivery of the last minute';
COMMENT ON COLUMN stat_sinks.batch_time_avg IS 'Seconds that a delivery took, reading included, on average over the last minute';
COMMENT ON COLUMN stat_sinks.batch_time_max IS 'Seconds that the longest delivery of the last minute took';
COMMENT ON COLUMN stat_sinks.memory_bytes IS 'Memory of PostgreSQL that the relay has allocated; NULL: none runs';
COMMENT ON COLUMN stat_sinks.errors IS 'Reasons for which the relay could not deliver; each counts once until it delivers again';
COMMENT ON COLUMN stat_sinks.retries IS 'Attempts of the relay that failed and were tried again';
COMMENT ON COLUMN stat_sinks.restarts IS 'Starts of the relay after it had ended without being told to, or for changed options';
COMMENT ON COLUMN stat_sinks.stats_reset IS 'Since when delivered, refused, errors, retries and restarts are counted; NULL: restored';

CREATE VIEW stat_workers WITH (security_invoker = true) AS
	SELECT s.name AS stream, CASE WHEN m.stream_id <> s.stream_id THEN 'rebuild' ELSE COALESCE(m.relay, 'worker') END AS does, m.worker, m.pid, m.measured_since, m.memory_bytes,
		m.items_per_second, m.done_per_second, m.latency_p50, m.latency_p95, m.latency_p99, m.batch_size_avg, m.batch_size_max, m.batch_time_avg, m.batch_time_max
	FROM profile_stream_internal.process_meters(false) m JOIN profile_stream.streams s ON s.stream_id = m.stream_id & 2147483647::bigint;
COMMENT ON VIEW stat_workers IS 'What each process of a stream that runs did in the last minute, and its memory';
COMMENT ON COLUMN stat_workers.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_workers.does IS 'worker, rebuild, or the sink that a relay delivers to';
COMMENT ON COLUMN stat_workers.worker IS 'Number of the worker, from 0; NULL: a relay';
COMMENT ON COLUMN stat_workers.pid IS 'Process';
COMMENT ON COLUMN stat_workers.measured_since IS 'When the process began';
COMMENT ON COLUMN stat_workers.memory_bytes IS 'Memory of PostgreSQL that it has allocated; what librdkafka has fetched comes on top';
COMMENT ON COLUMN stat_workers.items_per_second IS 'Messages that were read, or what a relay took, a second';
COMMENT ON COLUMN stat_workers.done_per_second IS 'Events that were applied, or what a relay delivered, a second';
COMMENT ON COLUMN stat_workers.latency_p50 IS 'Seconds from Kafka''s timestamp to the commit, of a relay from the commit to the delivery, that half did not exceed; up to 12.5 % too much';
COMMENT ON COLUMN stat_workers.latency_p95 IS 'The same for 95 %';
COMMENT ON COLUMN stat_workers.latency_p99 IS 'The same for 99 %';
COMMENT ON COLUMN stat_workers.batch_size_avg IS 'Messages of a transaction, or items of a delivery, on average';
COMMENT ON COLUMN stat_workers.batch_size_max IS 'The same of the largest one';
COMMENT ON COLUMN stat_workers.batch_time_avg IS 'Seconds that one took, on average';
COMMENT ON COLUMN stat_workers.batch_time_max IS 'Seconds that the longest one took';

CREATE FUNCTION stat_reset(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_stat_reset' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION stat_reset(text) IS 'Count errors, retries, restarts, skipped notifications and what sinks delivered anew; counts of messages stay, which reconcile() compares';

-- =====================================================================================================================
-- 12. Events: decoding and applying; profiles and events of other systems
-- (api/events.c, api/apply_events.c, api/customer_lock.c, api/seed_profile.c, api/backfill.c)
-- =====================================================================================================================

CREATE FUNCTION decode_message(value bytea, key bytea DEFAULT NULL, headers jsonb DEFAULT NULL, kafka_timestamp timestamptz DEFAULT NULL,
	format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL, as_of timestamptz DEFAULT pg_catalog.now(), timestamp_unit text DEFAULT 'milliseconds',
	decoder text DEFAULT NULL)
	RETURNS TABLE (event_id text, customer_id text, event_type text, event_timestamp timestamptz,
		source text, schema_version int, payload jsonb, errors text[], kind text)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000
	AS 'MODULE_PATHNAME', 'ps_decode_message';
COMMENT ON FUNCTION decode_message IS 'What a stream with a format, a field_map and a decoder makes of a message: the event, or every error it has, or a tombstone; without any effect';

CREATE FUNCTION profile_stream_internal.to_profile_event(value bytea, key bytea, headers jsonb, kafka_timestamp timestamptz, format text, field_map jsonb,
	timestamp_unit text DEFAULT 'milliseconds', partition int DEFAULT 0, kafka_offset bigint DEFAULT 0, epoch int DEFAULT 0,
	topic_no int DEFAULT 0)
	RETURNS jsonb LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'ps_to_profile_event';
COMMENT ON FUNCTION profile_stream_internal.to_profile_event IS 'A message of any format as a profile event, valid or not; NULL where nothing can be read';

CREATE FUNCTION profile_stream_internal.decoded_values(stream_id int, value bytea, key bytea, headers jsonb) RETURNS bytea[]
	AS 'MODULE_PATHNAME', 'ps_decoded_values' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.decoded_values IS 'What the decoder of a stream makes of a message: values in its format; without a decoder the value itself';

CREATE FUNCTION apply_event(event jsonb) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_apply_event' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_event(jsonb) IS 'Apply one event in this transaction; says what became of it: applied, duplicate, dead or blocked';

CREATE FUNCTION apply_event_returning(event jsonb, OUT outcome text, OUT version bigint, OUT metrics jsonb)
	AS 'MODULE_PATHNAME', 'ps_apply_event_returning' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_event_returning(jsonb) IS 'Apply one event as apply_event() does; returns the outcome, the version of the profile, and the values of the metrics that the event moves';

CREATE FUNCTION apply_events(events jsonb[]) RETURNS text[]
	AS 'MODULE_PATHNAME', 'ps_apply_events' LANGUAGE c STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_events(jsonb[]) IS 'Apply events in order in this transaction; says what became of each: applied, duplicate, dead, tombstone or blocked';

CREATE FUNCTION lock_customer(customer_id text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_lock_customer' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION lock_customer(text) IS 'Take the lock under which a customer''s events are applied, until the transaction ends; waits for whoever has it';

CREATE FUNCTION try_lock_customer(customer_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_try_lock_customer' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION try_lock_customer(text) IS 'Take the lock under which a customer''s events are applied, until the transaction ends, when nobody else has it; whether it is taken';

-- section: profiles and events of other systems (store/backfill_catalog.c, store/backfill_rows.c)

-- Backfills and seeds have their numbers from one sequence: a rebuild applies them in this order, before the topic.
CREATE SEQUENCE profile_stream_internal.bootstrap_seq;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.bootstrap_seq', '');

-- A seed came by a call, so that nothing but this table has it.
CREATE TABLE profile_stream_internal.seeds (
	seed_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('profile_stream_internal.bootstrap_seq'),
	customer_id text COLLATE "C" NOT NULL,
	event jsonb NOT NULL,
	seeded_at timestamptz NOT NULL
);
CREATE INDEX seeds_customer ON profile_stream_internal.seeds (customer_id);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.seeds', '');
COMMENT ON TABLE profile_stream_internal.seeds IS 'Events of seed_profile() that were applied, for rebuilds';
COMMENT ON COLUMN profile_stream_internal.seeds.seed_id IS 'Number of the seed; backfills have numbers of the same sequence';
COMMENT ON COLUMN profile_stream_internal.seeds.customer_id IS 'Customer of the event';
COMMENT ON COLUMN profile_stream_internal.seeds.event IS 'The event, of type profile.seeded';
COMMENT ON COLUMN profile_stream_internal.seeds.seeded_at IS 'When it was applied';

CREATE TABLE profile_stream_internal.backfills (
	backfill_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('profile_stream_internal.bootstrap_seq'),
	stream_id int NOT NULL REFERENCES streams ON DELETE CASCADE,
	name text COLLATE "C" NOT NULL,
	owner regrole NOT NULL,
	query text NOT NULL,
	state text COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'failed')),
	last_event_time timestamptz,
	last_event_id text COLLATE "C",
	last_customer_id text COLLATE "C",
	last_rows bigint NOT NULL DEFAULT 0,
	rows_done bigint NOT NULL DEFAULT 0,
	applied bigint NOT NULL DEFAULT 0,
	duplicates bigint NOT NULL DEFAULT 0,
	dead bigint NOT NULL DEFAULT 0,
	skipped bigint NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL,
	committed_at timestamptz,
	finished_at timestamptz,
	error text,
	error_at timestamptz,
	UNIQUE (stream_id, name)
) WITH (fillfactor = 50);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OF backfill_id, owner, query OR DELETE ON profile_stream_internal.backfills
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('backfill', 'backfill_id');
ALTER TABLE profile_stream_internal.backfills ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.backfills', '');
-- who only reads shall not see the query, and pg_stats shows samples of each column that one may read
ALTER TABLE profile_stream_internal.backfills ALTER COLUMN query SET STATISTICS 0;
COMMENT ON TABLE profile_stream_internal.backfills IS 'Backfills: the query, with whose rights it runs, and up to which row its events are applied';
COMMENT ON COLUMN profile_stream_internal.backfills.backfill_id IS 'Number of the backfill; seeds have numbers of the same sequence';
COMMENT ON COLUMN profile_stream_internal.backfills.stream_id IS 'Stream with whose settings the events are applied';
COMMENT ON COLUMN profile_stream_internal.backfills.name IS 'Name of the backfill, one of its stream';
COMMENT ON COLUMN profile_stream_internal.backfills.owner IS 'Role with whose rights the query runs';
COMMENT ON COLUMN profile_stream_internal.backfills.query IS 'The query whose rows are events';
COMMENT ON COLUMN profile_stream_internal.backfills.state IS 'running, done or failed';
COMMENT ON COLUMN profile_stream_internal.backfills.last_event_time IS 'Timestamp of the last row that is done; NULL: none is';
COMMENT ON COLUMN profile_stream_internal.backfills.last_event_id IS 'Event id of that row, empty where it has none; NULL: no row is done';
COMMENT ON COLUMN profile_stream_internal.backfills.last_customer_id IS 'Customer of that row, empty where it has none; NULL: no row is done';
COMMENT ON COLUMN profile_stream_internal.backfills.last_rows IS 'How many rows with this timestamp, event id and customer are done';
COMMENT ON COLUMN profile_stream_internal.backfills.rows_done IS 'Rows that are done';
COMMENT ON COLUMN profile_stream_internal.backfills.applied IS 'Events that were applied';
COMMENT ON COLUMN profile_stream_internal.backfills.duplicates IS 'Events whose id was applied before';
COMMENT ON COLUMN profile_stream_internal.backfills.dead IS 'Rows that became dead letters';
COMMENT ON COLUMN profile_stream_internal.backfills.skipped IS 'Rows of blocked customers, of event types that the stream does not take, and without an event';
COMMENT ON COLUMN profile_stream_internal.backfills.started_at IS 'When the last call of backfill() began';
COMMENT ON COLUMN profile_stream_internal.backfills.committed_at IS 'When a batch was last committed; NULL: none was';
COMMENT ON COLUMN profile_stream_internal.backfills.finished_at IS 'When the last row was done; NULL: there are more';
COMMENT ON COLUMN profile_stream_internal.backfills.error IS 'Why the last call failed; NULL: it did not';
COMMENT ON COLUMN profile_stream_internal.backfills.error_at IS 'When it failed; NULL: it did not';

CREATE FUNCTION profile_stream_internal.event_time(event jsonb) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_event_time' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 30;
COMMENT ON FUNCTION profile_stream_internal.event_time(jsonb) IS 'Timestamp of an event; NULL where it has none that is valid';

CREATE FUNCTION seed_profile(customer_id text, document jsonb, event_time timestamptz DEFAULT NULL, event_id text DEFAULT NULL, source text DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_seed_profile' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION seed_profile IS 'Make a profile what the document of another system says, by an event profile.seeded that rebuilds apply too; says what became of it: applied, duplicate or blocked';

CREATE PROCEDURE backfill(stream text, query text, batch int DEFAULT 10000, name text DEFAULT 'default')
	AS 'MODULE_PATHNAME', 'ps_backfill' LANGUAGE c;
COMMENT ON PROCEDURE backfill(text, text, int, text) IS 'Apply the events that a query returns, a batch a transaction, with the settings of a stream; called again it goes on, and rebuilds apply them before the topic';

CREATE FUNCTION drop_backfill(stream text, name text DEFAULT 'default') RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_backfill' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_backfill(text, text) IS 'Forget a backfill, so that rebuilds do not apply it and its name is free; what it has applied stays';

CREATE VIEW stat_backfills WITH (security_invoker = true) AS
	SELECT s.name AS stream, b.name,
		CASE WHEN b.state = 'running' AND l.pid IS NULL AND NOT pg_catalog.pg_is_in_recovery() THEN 'interrupted' ELSE b.state END AS state,
		b.rows_done, b.applied, b.duplicates, b.dead, b.skipped, b.last_event_time AS position,
		b.started_at, b.committed_at, b.finished_at,
		pg_catalog.pg_get_userbyid(b.owner) AS owner, CASE WHEN b.state = 'running' THEN l.pid END AS pid, b.error, b.error_at,
		CASE WHEN b.state = 'failed' THEN 'Remove the reason, and call backfill() again with the same query: it goes on. drop_backfill() forgets it.'
			WHEN b.state = 'running' AND l.pid IS NULL THEN 'Its session ended. Call backfill() again with the same query: it goes on.' END AS hint
	FROM profile_stream_internal.backfills b JOIN profile_stream.streams s ON s.stream_id = b.stream_id
		LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 3 AND l.classid = 0::oid
			AND l.objid = ((b.backfill_id & 2147483647) + 2147483648)::oid AND l.mode = 'ExclusiveLock' AND l.granted
			AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stat_backfills IS 'State, progress and last error of each backfill';
COMMENT ON COLUMN stat_backfills.stream IS 'Name of the stream';
COMMENT ON COLUMN stat_backfills.state IS 'running, done, failed, or interrupted when its session ended before';
COMMENT ON COLUMN stat_backfills.position IS 'Timestamp of the last row that is done, in the order of timestamps; NULL: none is';
COMMENT ON COLUMN stat_backfills.pid IS 'Process that runs it; NULL: none does';
COMMENT ON COLUMN stat_backfills.hint IS 'What to do about the state; NULL: nothing';

-- =====================================================================================================================
-- 13. Dead letters: reading and repair (api/repair.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.dead_letter_text(value bytea) RETURNS text
	LANGUAGE plpgsql IMMUTABLE STRICT COST 450 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN convert_from(value, 'UTF8');
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION profile_stream_internal.dead_letter_text(bytea) IS 'Bytes as text, NULL where they are not UTF-8';

CREATE FUNCTION profile_stream_internal.dead_letter_json(value bytea) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE STRICT COST 750 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN convert_from(CASE WHEN substring(value FROM 1 FOR 3) = decode('efbbbf', 'hex') THEN substring(value FROM 4) ELSE value END, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR untranslatable_character THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION profile_stream_internal.dead_letter_json(bytea) IS 'Bytes as jsonb, NULL where they do not parse';

CREATE VIEW dead_letters WITH (security_invoker = true) AS
	SELECT d.*, profile_stream_internal.dead_letter_text(d.key) AS key_text, profile_stream_internal.dead_letter_text(d.value) AS value_text,
		CASE WHEN d.value_size IS NOT NULL THEN NULL
			WHEN d.topic IS NOT NULL AND (f.format <> 'profile_event' OR f.timestamp_unit <> 'milliseconds')
			THEN profile_stream_internal.to_profile_event(d.value, d.key, d.headers, d.kafka_timestamp, f.format, f.field_map, f.timestamp_unit, d.partition, d.kafka_offset, d.epoch, k.topic_no)
			ELSE profile_stream_internal.dead_letter_json(d.value) END AS event,
		COALESCE(d.failed_at, d.dead_at) AS last_error_at
	FROM profile_stream_internal.dead_letters d LEFT JOIN profile_stream.streams s ON s.stream_id = d.stream_id
		LEFT JOIN LATERAL profile_stream_internal.topic_format(s, d.topic) f ON true
		LEFT JOIN profile_stream_internal.stream_topics k ON k.stream_id = d.stream_id AND k.topic = d.topic;
COMMENT ON VIEW dead_letters IS 'Dead letters with key and value as text and the event as jsonb, where they are; of a stream of another format as a profile event';
COMMENT ON COLUMN dead_letters.key_text IS 'Key as text; NULL where it is not UTF-8';
COMMENT ON COLUMN dead_letters.value_text IS 'Value as text; NULL where it is not UTF-8';
COMMENT ON COLUMN dead_letters.event IS 'The event as jsonb, of a stream of another format as a profile event; NULL where it cannot be read';
COMMENT ON COLUMN dead_letters.last_error_at IS 'When the newest of the errors came';

CREATE FUNCTION profile_stream_internal.retry_events(events jsonb[], dedupe_retention_us bigint, scope int DEFAULT 0, accept boolean DEFAULT false, types text[] DEFAULT '{}',
	OUT ordinal int, OUT outcome text, OUT kind text, OUT errors text[], OUT sqlstate text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_retry_events' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.retry_events IS 'As apply_events(), for retry_dead_letters(): it returns errors and writes no dead letters; scope: stream_id of a stream whose event ids are its own, 0: of others; accept: as unknown_schema; types: as event_types, empty: all';

CREATE FUNCTION profile_stream_internal.node_of_event(event jsonb) RETURNS int
	AS 'MODULE_PATHNAME', 'ps_node_of_event' LANGUAGE c STRICT STABLE;
COMMENT ON FUNCTION profile_stream_internal.node_of_event(jsonb) IS 'A number of the node that has the customer of an event; NULL: this one, or the customer is not known';

CREATE FUNCTION profile_stream_internal.dead_letter_matches(letter profile_stream_internal.dead_letters, stream text, kind text, event_type text, sqlstate text,
	since timestamptz, until timestamptz, ids bigint[], topic text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (dead_letter_matches.stream IS NULL OR (letter).stream = dead_letter_matches.stream)
			AND (dead_letter_matches.kind IS NULL OR (letter).kind = dead_letter_matches.kind)
			AND (dead_letter_matches.event_type IS NULL OR (letter).event_type = dead_letter_matches.event_type)
			AND (dead_letter_matches.sqlstate IS NULL OR (letter).sqlstate = dead_letter_matches.sqlstate)
			AND (dead_letter_matches.since IS NULL OR (letter).dead_at >= dead_letter_matches.since)
			AND (dead_letter_matches.until IS NULL OR (letter).dead_at < dead_letter_matches.until)
			AND (dead_letter_matches.ids IS NULL OR (letter).dead_letter_id = ANY (dead_letter_matches.ids))
			AND (dead_letter_matches.topic IS NULL OR (letter).topic = dead_letter_matches.topic);
COMMENT ON FUNCTION profile_stream_internal.dead_letter_matches IS 'Whether the filters of retry_dead_letters() and discard_dead_letters() choose a letter; NULL chooses any';

CREATE FUNCTION profile_stream_internal.lock_dead_letters(stream text, kind text, event_type text, sqlstate text, since timestamptz, until timestamptz, ids bigint[],
	topic text, after_id bigint, max_letters bigint) RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'ps_lock_dead_letters' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.lock_dead_letters IS 'What retry_dead_letters() begins with: takes the oldest letters that it chooses and nobody else has, and returns their numbers';

CREATE FUNCTION profile_stream_internal.settle_dead_letters(ids bigint[], results jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_settle_dead_letters' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.settle_dead_letters(bigint[], jsonb) IS 'What retry_dead_letters() ends with: removes letters that were applied, and notes the new errors of the others';

CREATE FUNCTION retry_dead_letters(stream text DEFAULT NULL, kind text DEFAULT NULL, event_type text DEFAULT NULL,
	sqlstate text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, ids bigint[] DEFAULT NULL,
	patch jsonb DEFAULT NULL, transform regprocedure DEFAULT NULL, after_id bigint DEFAULT NULL, max_letters int DEFAULT 1000, topic text DEFAULT NULL,
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
	parts jsonb[];
	part bytea;
	step text;
	undone bigint[];
	all_ids bigint[] := '{}';
	all_events jsonb[] := '{}';
	all_streams int[] := '{}';
	of_source jsonb;
	results jsonb := '[]';
	message text;
	state text;
BEGIN
	applied := 0; duplicates := 0; failed := 0; kept := 0; blocked := 0;
	IF retry_dead_letters.max_letters IS NULL OR retry_dead_letters.max_letters < 1 THEN
		RAISE EXCEPTION 'max_letters must be at least 1' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is how many dead letters one call takes; call again with after_id => last_id for more.';
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
			CASE takes WHEN 'jsonb'::regtype THEN '$1' WHEN 'text'::regtype THEN 'profile_stream_internal.dead_letter_text($2)' ELSE '$2' END);
	END IF;
	locked := profile_stream_internal.lock_dead_letters(retry_dead_letters.stream, retry_dead_letters.kind, retry_dead_letters.event_type,
		retry_dead_letters.sqlstate, retry_dead_letters.since, retry_dead_letters.until, retry_dead_letters.ids,
		retry_dead_letters.topic, retry_dead_letters.after_id, retry_dead_letters.max_letters);
	last_id := locked[cardinality(locked)];
	FOR letter IN
		SELECT d.dead_letter_id, d.stream_id, d.value, d.value_size, d.key, d.headers, d.kafka_timestamp, d.topic, d.partition, d.kafka_offset, d.epoch, k.topic_no, f.format, f.field_map, f.timestamp_unit
		FROM profile_stream_internal.dead_letters d LEFT JOIN profile_stream.streams s ON s.stream_id = d.stream_id
			LEFT JOIN LATERAL profile_stream_internal.topic_format(s, d.topic) f ON true
			LEFT JOIN profile_stream_internal.stream_topics k ON k.stream_id = d.stream_id AND k.topic = d.topic
		WHERE d.dead_letter_id = ANY (locked) ORDER BY d.dead_letter_id
	LOOP
		-- the caller's code may raise: one subtransaction a letter, only here
		BEGIN
			parts := '{}';
			step := 'Processing error: ';
			IF letter.value_size IS NULL AND COALESCE(takes, 'jsonb'::regtype) = 'jsonb'::regtype THEN
				FOREACH part IN ARRAY profile_stream_internal.decoded_values(CASE WHEN letter.topic IS NOT NULL THEN letter.stream_id END, letter.value, letter.key, letter.headers) LOOP
					parts := array_append(parts, CASE
						WHEN letter.topic IS NOT NULL AND (letter.format <> 'profile_event' OR letter.timestamp_unit <> 'milliseconds')
						THEN profile_stream_internal.to_profile_event(part, letter.key, letter.headers, letter.kafka_timestamp, letter.format, letter.field_map, letter.timestamp_unit,
							letter.partition, letter.kafka_offset, letter.epoch, letter.topic_no)
						ELSE profile_stream_internal.dead_letter_json(part) END);
				END LOOP;
			ELSE
				parts := ARRAY[NULL::jsonb];
			END IF;
			step := 'Transform error: ';
			IF array_position(parts, NULL) IS NOT NULL AND COALESCE(takes, 'jsonb'::regtype) = 'jsonb'::regtype THEN
				-- nothing that could be applied: its error stands
				PERFORM profile_stream_internal.settle_dead_letters(ARRAY[letter.dead_letter_id], '[{"ordinal": 1, "outcome": "dead"}]');
				failed := failed + 1;
				CONTINUE;
			ELSIF takes IS NOT NULL THEN
				FOR i IN 1 .. cardinality(parts) LOOP
					EXECUTE transformation INTO fixed USING parts[i], letter.value;
					parts[i] := fixed;
				END LOOP;
			END IF;
		EXCEPTION WHEN serialization_failure OR deadlock_detected THEN
			RAISE;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
			PERFORM profile_stream_internal.settle_dead_letters(ARRAY[letter.dead_letter_id], jsonb_build_array(jsonb_build_object('ordinal', 1,
				'outcome', 'dead', 'errors', jsonb_build_array(step || left(message, 900)), 'sqlstate', state)));
			failed := failed + 1;
			CONTINUE;
		END;
		-- a decoder or a transform without a result keeps the letter
		IF cardinality(parts) = 0 OR array_position(parts, NULL) IS NOT NULL THEN
			kept := kept + 1;
			CONTINUE;
		END IF;
		FOREACH fixed IN ARRAY parts LOOP
			IF retry_dead_letters.patch IS NOT NULL AND jsonb_typeof(fixed) = 'object' THEN
				fixed := fixed || retry_dead_letters.patch ||
					CASE WHEN jsonb_typeof(fixed -> 'payload') = 'object' AND jsonb_typeof(retry_dead_letters.patch -> 'payload') = 'object'
						THEN jsonb_build_object('payload', (fixed -> 'payload') || (retry_dead_letters.patch -> 'payload'))
						ELSE '{}' END;
			END IF;
			all_ids := all_ids || letter.dead_letter_id;
			all_events := array_append(all_events, fixed);
			all_streams := all_streams || letter.stream_id;
		END LOOP;
	END LOOP;
	-- other nodes first: what this one applies keeps shards from moving, and a node may wait for a move
	FOR source IN
		SELECT o.retention, o.scope, o.accept, o.types, e.node, array_agg(u.n::int ORDER BY u.n) AS places, array_agg(u.event ORDER BY u.n) AS events
		FROM unnest(all_events, all_streams) WITH ORDINALITY AS u(event, stream_id, n)
			LEFT JOIN profile_stream.streams s ON s.stream_id = u.stream_id
			CROSS JOIN LATERAL (SELECT profile_stream_internal.node_of_event(u.event) AS node) e
			-- on nodes an event is remembered for a week at least: its letter stays when this transaction fails after another node has committed, and comes again when moving it has failed
			CROSS JOIN LATERAL (SELECT GREATEST(COALESCE((EXTRACT(epoch FROM s.dedupe_retention) * 1000000)::bigint, 604800000000), CASE WHEN profile_stream_internal.is_distributed() THEN 604800000000 END) AS retention,
				CASE WHEN s.event_id_scope = 'stream' THEN s.stream_id ELSE 0 END AS scope,
				COALESCE(s.unknown_schema = 'accept', false) AS accept, COALESCE(s.event_types, '{}') AS types) o
		GROUP BY o.retention, o.scope, o.accept, o.types, e.node ORDER BY e.node NULLS LAST
	LOOP
		IF source.node IS NOT NULL THEN
			PERFORM profile_stream_internal.check_no_transaction('retry_dead_letters() of customers of other nodes');
		END IF;
		BEGIN
			SELECT jsonb_agg(to_jsonb(r) || jsonb_build_object('ordinal', source.places[r.ordinal]) ORDER BY r.ordinal) INTO of_source
				FROM profile_stream_internal.retry_events(source.events, source.retention, source.scope, source.accept, source.types) r;
		EXCEPTION WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_privilege
			OR insufficient_resources OR operator_intervention OR connection_exception THEN
			RAISE;
		WHEN OTHERS THEN
			-- a trigger or constraint refuses one of them: find out which
			of_source := '[]';
			FOR i IN 1 .. cardinality(source.places) LOOP
				BEGIN
					of_source := of_source || (SELECT jsonb_agg(to_jsonb(r) || jsonb_build_object('ordinal', source.places[i]))
						FROM profile_stream_internal.retry_events(ARRAY[source.events[i]], source.retention, source.scope, source.accept, source.types) r);
				EXCEPTION WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_privilege
					OR insufficient_resources OR operator_intervention OR connection_exception THEN
					RAISE;
				WHEN OTHERS THEN
					GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
					of_source := of_source || jsonb_build_object('ordinal', source.places[i], 'outcome', 'dead', 'kind', 'handler',
						'errors', jsonb_build_array('Processing error: ' || left(message, 900)), 'sqlstate', state);
				END;
			END LOOP;
		END;
		results := results || of_source;
	END LOOP;
	-- a letter is removed when all of its events are done; it stays if all of them are of types that the stream does not take
	undone := ARRAY(SELECT all_ids[r.ordinal] FROM jsonb_to_recordset(results) AS r(ordinal int, outcome text)
		WHERE r.outcome NOT IN ('applied', 'duplicate', 'blocked', 'ignored'));
	PERFORM profile_stream_internal.settle_dead_letters(all_ids, COALESCE((SELECT jsonb_agg(r.result) FROM jsonb_array_elements(results) AS r(result)
		WHERE r.result ->> 'outcome' NOT IN ('applied', 'duplicate', 'blocked', 'ignored')
			OR r.result ->> 'outcome' <> 'ignored' AND all_ids[(r.result ->> 'ordinal')::int] <> ALL (undone)), '[]'));
	kept := kept + (SELECT count(*) FROM (SELECT FROM jsonb_to_recordset(results) AS r(ordinal int, outcome text)
		GROUP BY all_ids[r.ordinal] HAVING bool_and(r.outcome = 'ignored')) k);
	SELECT count(*) FILTER (WHERE r.outcome = 'applied'), count(*) FILTER (WHERE r.outcome = 'duplicate'),
		failed + count(*) FILTER (WHERE r.outcome NOT IN ('applied', 'duplicate', 'blocked', 'ignored')), count(*) FILTER (WHERE r.outcome = 'blocked')
		INTO applied, duplicates, failed, blocked FROM jsonb_to_recordset(results) AS r(outcome text);
END $$;
COMMENT ON FUNCTION retry_dead_letters IS 'Apply dead letters again, changed by transform and patch, late ones too; those that fail stay with their new error, those of blocked customers go';

CREATE FUNCTION discard_dead_letters(stream text DEFAULT NULL, kind text DEFAULT NULL, event_type text DEFAULT NULL,
	sqlstate text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, ids bigint[] DEFAULT NULL, topic text DEFAULT NULL)
	RETURNS bigint AS 'MODULE_PATHNAME', 'ps_discard_dead_letters' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION discard_dead_letters IS 'Remove dead letters; returns how many';

-- =====================================================================================================================
-- 14. Profiles: reading (api/profiles.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.run_on_this_node(call text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_run_on_this_node' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION profile_stream_internal.run_on_this_node(text) IS 'Run a function on what this node of Citus has, with the rights of the caller; for run_on_all_nodes()';

CREATE FUNCTION profile_stream_internal.check_no_transaction(what text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_check_no_transaction' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION profile_stream_internal.check_no_transaction(text) IS 'Raises in a transaction block';

-- Each node runs the call in a transaction of its own.
CREATE FUNCTION profile_stream_internal.run_on_all_nodes(call text) RETURNS SETOF jsonb
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answers jsonb[];
	failed text;
BEGIN
	SELECT array_agg(r.result::jsonb) FILTER (WHERE r.success), string_agg(r.result, '; ') FILTER (WHERE NOT r.success) INTO answers, failed
		FROM run_command_on_all_nodes(format('SELECT profile_stream_internal.run_on_this_node(%L)', call)) r;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'the call did not run on all nodes' USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
			HINT = 'Call it again when all nodes run. What others have done is done.';
	END IF;
	RETURN QUERY SELECT unnest(answers);
END $$;
COMMENT ON FUNCTION profile_stream_internal.run_on_all_nodes(text) IS 'Run a function on all nodes of Citus, each on what it has; returns what each returned, and keeps nothing';

CREATE FUNCTION profile_stream_internal.has_customer(customer_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_has_customer' LANGUAGE c STRICT STABLE;
COMMENT ON FUNCTION profile_stream_internal.has_customer(text) IS 'Whether the shard of a customer is on this node of Citus; for run_for_customer()';

-- A shard that moves meanwhile may be on none of the nodes when they are asked.
CREATE FUNCTION profile_stream_internal.run_for_customer(customer_id text, call text) RETURNS SETOF jsonb
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answers jsonb[] := ARRAY(SELECT r.answer FROM profile_stream_internal.run_on_all_nodes(
		format('(SELECT profile_stream_internal.has_customer(%L) AS here, to_jsonb(f) AS answer FROM %s f)', customer_id, call)) r(answer));
BEGIN
	IF NOT EXISTS (SELECT FROM unnest(answers) a WHERE (a ->> 'here')::boolean) THEN
		RAISE EXCEPTION 'the customer was on none of the nodes: the shard moved meanwhile' USING ERRCODE = 'serialization_failure', HINT = 'Call it again.';
	END IF;
	RETURN QUERY SELECT a -> 'answer' FROM unnest(answers) a;
END $$;
COMMENT ON FUNCTION profile_stream_internal.run_for_customer(text, text) IS 'run_on_all_nodes() with a function of one customer; raises when his shard was on none of the nodes while they ran it';

CREATE FUNCTION window_value(customer_id text, window_state bytea, metric text, as_of timestamptz) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_window_value' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION window_value(text, bytea, text, timestamptz) IS 'Value of a metric over its window up to as_of, both ends included; NULL of nothing, but 0 for a count or a sum';

CREATE FUNCTION profile_stream_internal.window_count(customer_id text, window_state bytea, metric text, as_of timestamptz) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_window_count' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_internal.window_count(text, bytea, text, timestamptz) IS 'window_value() of a metric that counts, as an integer: what views show';

CREATE FUNCTION profile_stream_internal.metric_values(customer_id text, window_state bytea, as_of timestamptz) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_metric_values' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION profile_stream_internal.metric_values(text, bytea, timestamptz) IS 'Values of all metrics that were created, by name, each over its window up to as_of';

CREATE FUNCTION profile_stream_internal.window_samples(window_state bytea, metric text, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_window_samples' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 350 ROWS 10;
COMMENT ON FUNCTION profile_stream_internal.window_samples(bytea, text) IS 'Samples of the series that a metric reads, as far as they are in the profile row';

CREATE FUNCTION profile_stream_internal.window_state_samples(window_state bytea, OUT series text, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_window_state_samples' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 400 ROWS 20;
COMMENT ON FUNCTION profile_stream_internal.window_state_samples(bytea) IS 'All samples that are in a profile row, with the names of their series as in window_chunks.metric';

CREATE FUNCTION profile_stream_internal.window_state_totals(window_state bytea, OUT series text, OUT count bigint, OUT from_at timestamptz, OUT to_at timestamptz,
	OUT sum numeric, OUT min numeric, OUT max numeric, OUT first numeric, OUT last numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_window_state_totals' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 400 ROWS 5;
COMMENT ON FUNCTION profile_stream_internal.window_state_totals(bytea) IS 'What a profile row has of the samples of lifetime metrics that are folded into totals';

CREATE FUNCTION profile_stream_internal.chunk_samples(samples bytea, OUT at timestamptz, OUT value numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_chunk_samples' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 500 ROWS 64;
COMMENT ON FUNCTION profile_stream_internal.chunk_samples(bytea) IS 'Samples of a sealed chunk';

CREATE FUNCTION profile_stream_internal.metric_series(metric text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_metric_series' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_internal.metric_series(text) IS 'Name of the series that a metric reads: window_chunks.metric';

CREATE FUNCTION profile_stream_internal.window_expired(window_state bytea, as_of timestamptz) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_window_expired' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 50;
COMMENT ON FUNCTION profile_stream_internal.window_expired(bytea, timestamptz) IS 'Whether prune_metrics() finds samples to fold or to remove in a profile row';

CREATE FUNCTION prune_metrics(as_of timestamptz DEFAULT pg_catalog.now()) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_prune_metrics' LANGUAGE c STRICT VOLATILE SUPPORT profile_stream_internal.on_nodes
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION prune_metrics(timestamptz) IS 'Fold samples older than their window into daily buckets, and remove those that no metric reads any more; returns how many samples, 0 when there is nothing left to do';

CREATE FUNCTION profile_stream_internal.prune_metrics(as_of timestamptz) RETURNS bigint
	LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT pg_catalog.sum(r.answer::bigint)::bigint
		FROM profile_stream_internal.run_on_all_nodes(pg_catalog.format('profile_stream.prune_metrics(%L)', prune_metrics.as_of)) r(answer);
	END;
COMMENT ON FUNCTION profile_stream_internal.prune_metrics(timestamptz) IS 'prune_metrics() of profiles that Citus has distributed';

CREATE FUNCTION profile_stream_internal.resync_sink(name text, sink text) RETURNS bigint
	LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT pg_catalog.sum(r.answer::bigint)::bigint
		FROM profile_stream_internal.run_on_all_nodes(pg_catalog.format('profile_stream.resync_sink(%L, %L)', resync_sink.name, resync_sink.sink)) r(answer);
	END;
COMMENT ON FUNCTION profile_stream_internal.resync_sink(text, text) IS 'resync_sink() of profiles that Citus has distributed';

CREATE FUNCTION profile_stream_internal.json_timestamp(at timestamptz) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_json_timestamp' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION profile_stream_internal.json_timestamp(timestamptz) IS 'Timestamp as profile documents write it: ISO 8601, UTC';

CREATE FUNCTION commit_time(row_xmin xid) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_commit_time' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION commit_time(xid) IS 'When a row''s transaction was committed; NULL when the server does not know it: without track_commit_timestamp, or too long ago';

CREATE VIEW profiles WITH (security_invoker = true) AS
	SELECT p.customer_id, p.version, p.updated_at,
		NULLIF(p.first_name, '') AS first_name, NULLIF(p.last_name, '') AS last_name, NULLIF(p.email, '') AS email, NULLIF(p.phone, '') AS phone,
		p.total_balance, p.account_count, p.last_transaction_at,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'transaction_count_30d', pg_catalog.now()) AS transaction_count_30d,
		profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', pg_catalog.now()) AS total_transaction_value_30d,
		p.last_login_at,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'login_count_7d', pg_catalog.now()) AS login_count_7d,
		NULLIF(p.preferred_channel, '') AS preferred_channel,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'support_ticket_count_90d', pg_catalog.now()) AS support_ticket_count_90d,
		-- before the first refresh only a seed can have said another value than the default
		CASE WHEN p.scored_at IS NOT NULL OR p.segment <> 'unknown' THEN p.segment END AS segment,
		CASE WHEN p.scored_at IS NOT NULL OR p.churn_risk_score <> 0::float8 THEN p.churn_risk_score END AS churn_risk_score,
		CASE WHEN p.scored_at IS NOT NULL OR p.lifetime_value <> 0::numeric THEN p.lifetime_value END AS lifetime_value,
		p.attributes, p.event_counts, p.first_event_at, p.scored_at, profile_stream.commit_time(p.xmin) AS changed_at
	FROM profile_stream.materialized_profiles p;
COMMENT ON VIEW profiles IS 'Profiles with typed columns, NULL for what is not known, windowed metrics as of now(); predicates of segments are conditions on it';
COMMENT ON COLUMN profiles.first_name IS 'First name; NULL: not known';
COMMENT ON COLUMN profiles.last_name IS 'Last name; NULL: not known';
COMMENT ON COLUMN profiles.email IS 'Email address; NULL: not known';
COMMENT ON COLUMN profiles.phone IS 'Telephone number; NULL: not known';
COMMENT ON COLUMN profiles.preferred_channel IS 'Channel that the customer prefers; NULL: not known';
COMMENT ON COLUMN profiles.segment IS 'Segment that the last refresh of scores, or a seed, gave; NULL: not scored yet';
COMMENT ON COLUMN profiles.churn_risk_score IS 'Risk that the customer leaves, 0 to 1, of the last refresh of scores; NULL: not scored yet';
COMMENT ON COLUMN profiles.lifetime_value IS 'Expected value of the customer, of the last refresh of scores, in the unit of transactions; NULL: not scored yet';
COMMENT ON COLUMN profiles.changed_at IS 'When the last change of the row was committed; NULL: before the server had track_commit_timestamp on, or too long ago';
COMMENT ON COLUMN profiles.transaction_count_30d IS 'Number of completed transactions in the last 30 days';
COMMENT ON COLUMN profiles.total_transaction_value_30d IS 'Sum of completed transactions in the last 30 days';
COMMENT ON COLUMN profiles.login_count_7d IS 'Number of logins in the last 7 days';
COMMENT ON COLUMN profiles.support_ticket_count_90d IS 'Number of support tickets in the last 90 days';

CREATE FUNCTION profile_stream_internal.profile_document(profile materialized_profiles, as_of timestamptz) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_profile_document' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 400;
COMMENT ON FUNCTION profile_stream_internal.profile_document(materialized_profiles, timestamptz) IS 'A profile row as a MaterializedProfile document, windowed metrics as of a moment';

CREATE VIEW profile_documents WITH (security_invoker = true) AS
	SELECT p.customer_id, profile_stream_internal.profile_document(ROW(p.*)::profile_stream.materialized_profiles, pg_catalog.now()) AS data, p.version, p.updated_at
	FROM profile_stream.materialized_profiles p;
COMMENT ON VIEW profile_documents IS 'Profiles as MaterializedProfile documents, windowed metrics as of now()';
COMMENT ON COLUMN profile_documents.data IS 'The profile as a document, with the names of JSON (customerId); as get_profile() returns it';

CREATE VIEW profile_metrics WITH (security_invoker = true) AS
	SELECT p.customer_id, m.name AS metric, profile_stream.window_value(p.customer_id, p.window_state, m.name, pg_catalog.now()) AS value
	FROM profile_stream.materialized_profiles p CROSS JOIN profile_stream_internal.metrics m;
COMMENT ON VIEW profile_metrics IS 'Value of each metric for each customer as of now(), as metric_value() returns it';
COMMENT ON COLUMN profile_metrics.customer_id IS 'Id of the customer';
COMMENT ON COLUMN profile_metrics.metric IS 'Name of the metric';
COMMENT ON COLUMN profile_metrics.value IS 'Its value over its window; NULL where metric_value() is NULL';

CREATE VIEW metric_totals WITH (security_invoker = true) AS
	SELECT v.metric, pg_catalog.count(v.value) AS customers, pg_catalog.sum(v.value) AS sum, pg_catalog.min(v.value) AS min, pg_catalog.max(v.value) AS max
	FROM profile_stream.profile_metrics v GROUP BY v.metric;
COMMENT ON VIEW metric_totals IS 'Values of each metric over all customers as of now()';
COMMENT ON COLUMN metric_totals.metric IS 'Name of the metric';
COMMENT ON COLUMN metric_totals.customers IS 'How many customers have a value; a count is 0, which is one, for those without events';
COMMENT ON COLUMN metric_totals.sum IS 'Sum of the values';
COMMENT ON COLUMN metric_totals.min IS 'Least value';
COMMENT ON COLUMN metric_totals.max IS 'Greatest value';

CREATE FUNCTION profile_stream_internal.profile_document_at(profile materialized_profiles, as_of timestamptz, old jsonb) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_profile_document_at' LANGUAGE c STABLE PARALLEL SAFE COST 400;
COMMENT ON FUNCTION profile_stream_internal.profile_document_at(materialized_profiles, timestamptz, jsonb) IS 'A profile row as a document of a moment, with the old values of what has changed since';

CREATE FUNCTION get_profile(customer_id text, as_of timestamptz DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_get_profile' LANGUAGE c STABLE PARALLEL SAFE COST 500;
COMMENT ON FUNCTION get_profile(text, timestamptz) IS 'One profile as a MaterializedProfile document, as of now or of a moment; NULL for an unknown customer';

CREATE FUNCTION serve_profile(customer_id text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_serve_profile' LANGUAGE c STRICT VOLATILE COST 600;
COMMENT ON FUNCTION serve_profile(text) IS 'What get_profile() returns, and have the relays write it to every Redis of the streams, unless they did lately';

CREATE FUNCTION get_profiles(customer_ids text[], as_of timestamptz DEFAULT NULL, OUT customer_id text, OUT profile jsonb) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_get_profiles' LANGUAGE c STABLE PARALLEL SAFE COST 30000 ROWS 100;
COMMENT ON FUNCTION get_profiles(text[], timestamptz) IS 'Profiles of many customers as get_profile() returns them, in the order of their ids, each once; an unknown customer has no row';

CREATE FUNCTION profile_stream_internal.get_profiles(customer_ids text[], as_of timestamptz) RETURNS jsonb[]
	AS 'MODULE_PATHNAME', 'ps_documents_of_nodes' LANGUAGE c STABLE COST 30000;
COMMENT ON FUNCTION profile_stream_internal.get_profiles(text[], timestamptz) IS 'What nodes of Citus ask each other for get_profiles(): the documents of ids, in their order; NULL of an unknown customer';

-- without a search_path of its own it can be inlined, so that conditions on customers come first; its names are bound when it is created
CREATE FUNCTION profiles_at(as_of timestamptz) RETURNS TABLE (customer_id text, profile jsonb)
	LANGUAGE sql STABLE PARALLEL SAFE SUPPORT profile_stream_internal.on_nodes
	BEGIN ATOMIC
		SELECT p.customer_id, profile_stream_internal.profile_document_at(ROW(p.*)::profile_stream.materialized_profiles, profiles_at.as_of, h.old)
		FROM profile_stream.materialized_profiles p LEFT JOIN (
			SELECT c.customer_id, pg_catalog.jsonb_object_agg(e.key, e.value ORDER BY c.changed_at DESC, c.version DESC) AS old
			FROM profile_stream_internal.profile_history c CROSS JOIN LATERAL pg_catalog.jsonb_each(c.old) e
			WHERE c.changed_at > profiles_at.as_of GROUP BY c.customer_id) h ON h.customer_id = p.customer_id
		WHERE p.first_event_at <= profiles_at.as_of;
	END;
COMMENT ON FUNCTION profiles_at(timestamptz) IS 'Profiles of all customers who had an event by a moment, as get_profile() returns them as of it';

-- nobody keeps a history of profiles that are distributed
CREATE FUNCTION profile_stream_internal.profiles_at(as_of timestamptz) RETURNS TABLE (customer_id text, profile jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT p.customer_id, profile_stream_internal.profile_document_at(ROW(p.*)::profile_stream.materialized_profiles, profiles_at.as_of, NULL)
		FROM profile_stream.materialized_profiles p WHERE p.first_event_at <= profiles_at.as_of;
END $$;
COMMENT ON FUNCTION profile_stream_internal.profiles_at(timestamptz) IS 'profiles_at() of profiles that Citus has distributed';

CREATE FUNCTION training_set(query text, metrics text[] DEFAULT NULL, OUT customer_id text, OUT as_of timestamptz, OUT metric_values jsonb, OUT tracked jsonb) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_training_set' LANGUAGE c STABLE COST 100000 ROWS 1000;
COMMENT ON FUNCTION training_set(text, text[]) IS 'Metrics and tracked columns of customers, each as of a moment; the query returns pairs of both, with the caller''s rights';

CREATE FUNCTION metric_value(customer_id text, metric text, as_of timestamptz DEFAULT pg_catalog.now()) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_metric_value' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 300;
COMMENT ON FUNCTION metric_value(text, text, timestamptz) IS 'Value of a metric over its window up to as_of, exact but for distinct; for an unknown customer as for one without events';

CREATE FUNCTION profile_stream_internal.check_days(metric text, time_zone text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_check_days' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION profile_stream_internal.check_days(text, text) IS 'True; raises when there is no such metric or time zone';

CREATE FUNCTION profile_stream_internal.profile_days(customer_id text, window_state bytea, metric text, from_day date, to_day date, time_zone text)
	RETURNS SETOF profile_stream_internal.day_bucket
	AS 'MODULE_PATHNAME', 'ps_profile_days' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 200 ROWS 5;
COMMENT ON FUNCTION profile_stream_internal.profile_days(text, bytea, text, date, date, text) IS 'Count, sum, min and max of a metric''s series in one profile per day of a time zone';

-- without a search_path of its own it can be inlined, so that conditions on customers come first; its names are bound when it is created
CREATE FUNCTION metric_days(metric text, from_day date, to_day date, time_zone text DEFAULT 'UTC')
	RETURNS TABLE (customer_id text, day date, count bigint, sum numeric, min numeric, max numeric)
	LANGUAGE sql STABLE PARALLEL SAFE SUPPORT profile_stream_internal.on_nodes
	BEGIN ATOMIC
		SELECT d.customer_id, (d.bucket).day, (d.bucket).count, (d.bucket).sum, (d.bucket).min, (d.bucket).max
		FROM (SELECT p.customer_id, profile_stream_internal.profile_days(p.customer_id, p.window_state, metric_days.metric,
				metric_days.from_day, metric_days.to_day, metric_days.time_zone) AS bucket
			FROM profile_stream.materialized_profiles p
			WHERE profile_stream_internal.check_days(metric_days.metric, metric_days.time_zone)) d;
	END;
COMMENT ON FUNCTION metric_days(text, date, date, text) IS 'What metric_trend() returns, for all customers at once';

CREATE FUNCTION profile_stream_internal.metric_days(metric text, from_day date, to_day date, time_zone text)
	RETURNS TABLE (customer_id text, day date, count bigint, sum numeric, min numeric, max numeric)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM profile_stream_internal.check_days(metric_days.metric, metric_days.time_zone);
	RETURN QUERY SELECT d.customer_id, (d.bucket).day, (d.bucket).count, (d.bucket).sum, (d.bucket).min, (d.bucket).max
		FROM (SELECT p.customer_id, profile_stream_internal.profile_days(p.customer_id, p.window_state, metric_days.metric,
				metric_days.from_day, metric_days.to_day, metric_days.time_zone) AS bucket
			FROM profile_stream.materialized_profiles p) d;
END $$;
COMMENT ON FUNCTION profile_stream_internal.metric_days(text, date, date, text) IS 'metric_days() of profiles that Citus has distributed';

CREATE FUNCTION metric_trend(customer_id text, metric text, from_day date, to_day date, time_zone text DEFAULT 'UTC',
	OUT day date, OUT count bigint, OUT sum numeric, OUT min numeric, OUT max numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_metric_trend' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 750 ROWS 30;
COMMENT ON FUNCTION metric_trend(text, text, date, date, text) IS 'Count, sum, min and max of a metric''s series per day of a time zone, from history of any age; days without samples have no row, and metrics of distinct values only a count';

-- =====================================================================================================================
-- 15. Changes of profiles (api/bookmark.c, api/segment_channel.c)
-- =====================================================================================================================

CREATE FUNCTION profile_bookmark() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_profile_bookmark' LANGUAGE c STABLE PARALLEL RESTRICTED SUPPORT profile_stream_internal.on_nodes;
COMMENT ON FUNCTION profile_bookmark() IS 'Bookmark for profiles_changed_since(): everything that this statement can see has been seen';

CREATE FUNCTION profile_stream_internal.bookmark_horizon(bookmark text) RETURNS xid
	AS 'MODULE_PATHNAME', 'ps_bookmark_horizon' LANGUAGE c STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION profile_stream_internal.bookmark_horizon(text) IS 'Oldest transaction that a bookmark has not seen; NULL when that cannot be told: another server, timeline or database, or too long ago';

CREATE FUNCTION profile_stream_internal.xid_at_or_after(row_xmin xid, horizon xid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_xid_at_or_after' LANGUAGE c STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION profile_stream_internal.xid_at_or_after(xid, xid) IS 'Whether a row''s transaction is not older than a horizon; true when that is NULL';

CREATE FUNCTION profiles_changed_since(bookmark text DEFAULT NULL)
	RETURNS TABLE (customer_id text, version bigint, updated_at timestamptz, next_bookmark text)
	LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1000 SUPPORT profile_stream_internal.on_nodes
	BEGIN ATOMIC
		SELECT p.customer_id, p.version, p.updated_at, (SELECT profile_stream.profile_bookmark())
		FROM profile_stream.materialized_profiles p
		WHERE profile_stream_internal.xid_at_or_after(p.xmin, (SELECT profile_stream_internal.bookmark_horizon(profiles_changed_since.bookmark)));
	END;
COMMENT ON FUNCTION profiles_changed_since(text) IS 'Profiles that changed since a bookmark, and the bookmark for the next call; without one, all. One change may come twice, none is missed';

CREATE FUNCTION profile_stream_internal.node_bookmark() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_node_bookmark' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION profile_stream_internal.node_bookmark() IS 'Bookmark of the profiles that are on this node of Citus';

CREATE FUNCTION profile_stream_internal.changed_since(row_xmin xid, bookmark text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_changed_since' LANGUAGE c STABLE PARALLEL RESTRICTED COST 1;
COMMENT ON FUNCTION profile_stream_internal.changed_since(xid, text) IS 'Whether a row on this node is not older than a bookmark; true when that is NULL or has nothing of this node';

-- The rows of other nodes are read after their bookmarks were made. Those of this node are read with the snapshot of its bookmark.
CREATE FUNCTION profile_stream_internal.profile_bookmark() RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own CONSTANT text := profile_stream_internal.node_bookmark();
	others text;
	problem text;
BEGIN
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'there are no bookmarks of distributed profiles in a % transaction', current_setting('transaction_isolation') USING ERRCODE = 'feature_not_supported',
			DETAIL = 'It sees nodes as they were when it first read them, and a bookmark is made later.', HINT = 'Call the function in a READ COMMITTED transaction.';
	END IF;
	SELECT string_agg(r.result, ',') FILTER (WHERE r.success AND split_part(r.result, '@', 2) <> split_part(own, '@', 2)),
			min(r.result) FILTER (WHERE NOT r.success)
		INTO others, problem FROM run_command_on_all_nodes('SELECT profile_stream_internal.node_bookmark()') r;
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION 'a node of the cluster has no bookmark: %', problem USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'All nodes must run, and have the same version of profile_stream.';
	END IF;
	RETURN concat_ws(',', own, others);
END $$;
COMMENT ON FUNCTION profile_stream_internal.profile_bookmark() IS 'Bookmarks of all nodes of Citus';

CREATE FUNCTION profile_stream_internal.profiles_changed_since(bookmark text)
	RETURNS TABLE (customer_id text, version bigint, updated_at timestamptz, next_bookmark text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	next CONSTANT text := profile_stream_internal.profile_bookmark();
BEGIN
	RETURN QUERY SELECT p.customer_id, p.version, p.updated_at, next
		FROM profile_stream.materialized_profiles p WHERE profile_stream_internal.changed_since(p.xmin, profiles_changed_since.bookmark);
END $$;
COMMENT ON FUNCTION profile_stream_internal.profiles_changed_since(text) IS 'profiles_changed_since() of profiles that Citus has distributed';

CREATE FUNCTION segment_channel(prefix text, segment text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_segment_channel_sql' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION segment_channel(text, text) IS 'Channel of a segment in a stream with that segment_channel_prefix: the two, or a hash in place of a segment that is too long';

-- =====================================================================================================================
-- 16. Rebuilds (api/rebuild.c)
-- =====================================================================================================================

CREATE TABLE profile_stream_internal.stream_rebuilds (
	stream_id int PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
	database oid NOT NULL,
	allow_missing boolean NOT NULL,
	started_at timestamptz NOT NULL,
	resumed_at timestamptz,
	resumed_done bigint,
	bootstrap_done boolean NOT NULL DEFAULT false,
	bootstrap_rows bigint NOT NULL DEFAULT 0,
	bootstrap_id bigint NOT NULL DEFAULT 0,
	in_backfill boolean NOT NULL DEFAULT false,
	last_event_time timestamptz,
	last_event_id text,
	last_customer_id text,
	last_rows bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE profile_stream_internal.stream_rebuilds IS 'The streams of the rebuild that is under way in this database, if any; resumed_at and resumed_done are what its rate counts from';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.stream_id IS 'Stream that is rebuilt';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.database IS 'OID of the database in which the rebuild was started; elsewhere the row does not count';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.allow_missing IS 'Whether the rebuild goes on although the topic has lost its beginning';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.started_at IS 'When rebuild() started it';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.resumed_at IS 'When its worker last started; NULL: not yet';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.resumed_done IS 'Messages that were done then, from which the rate counts; NULL: not started yet';

-- Not dumped: what a rebuild has done so far is read again from Kafka.
CREATE SCHEMA profile_stream_rebuild;
COMMENT ON SCHEMA profile_stream_rebuild IS 'Rebuild schema: second copies of the tables that a stream fills, empty while no rebuild is under way';

DO $$
DECLARE
	original record;
	index record;
BEGIN
	FOR original IN
		SELECT c.oid, n.nspname, c.relname, c.relreplident, COALESCE(' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', '') AS options
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
		WHERE n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['profile_stream', 'profile_stream_internal']::name[]) AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::"char"[])
			AND c.relname OPERATOR(pg_catalog.=) ANY (ARRAY['stream_offsets', 'stream_status', 'stream_gaps',
				'materialized_profiles', 'window_chunks', 'event_id_chunks', 'dead_letters', 'profile_history']::name[])
	LOOP
		EXECUTE pg_catalog.format('CREATE TABLE profile_stream_rebuild.%1$I (LIKE %3$I.%1$I INCLUDING ALL)%2$s',
			original.relname, original.options, original.nspname);
		IF original.relreplident OPERATOR(pg_catalog.=) 'f' THEN
			EXECUTE pg_catalog.format('ALTER TABLE profile_stream_rebuild.%I REPLICA IDENTITY FULL', original.relname);
		END IF;
		EXECUTE pg_catalog.format('COMMENT ON TABLE profile_stream_rebuild.%1$I IS %2$L', original.relname,
			pg_catalog.concat('Copy of ', original.nspname, '.', original.relname, ', for a rebuild'));
		-- indexes get the names of those of the tables that are copied, because they are looked up by name
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

-- it has no partitions, so it has their index itself
ALTER TABLE profile_stream_rebuild.profile_history ADD PRIMARY KEY (customer_id, changed_at, version, kind);

CREATE FUNCTION profile_stream_rebuild.window_value(customer_id text, window_state bytea, metric text, as_of timestamptz) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_rebuild_window_value' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION profile_stream_rebuild.window_value(text, bytea, text, timestamptz) IS 'profile_stream.window_value() of a profile in the rebuild schema';

CREATE FUNCTION profile_stream_rebuild.metric_values(customer_id text, window_state bytea, as_of timestamptz) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_rebuild_metric_values' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION profile_stream_rebuild.metric_values(text, bytea, timestamptz) IS 'profile_stream_internal.metric_values() of a profile in the rebuild schema';

COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.bootstrap_done IS 'Whether seeds and backfills are applied, so that the topic is next';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.bootstrap_rows IS 'Events of seeds and backfills that are done';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.bootstrap_id IS 'Seed or backfill that is done, or the backfill that is begun';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.in_backfill IS 'Whether bootstrap_id is a backfill that is begun and not done';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.last_event_time IS 'Timestamp of the last row of the backfill that is done; NULL: none is';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.last_event_id IS 'Event id of that row; NULL: no row is done';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.last_customer_id IS 'Customer of that row; NULL: no row is done';
COMMENT ON COLUMN profile_stream_internal.stream_rebuilds.last_rows IS 'How many rows with this timestamp, event id and customer are done';

CREATE FUNCTION rebuild(name text, allow_missing boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_start' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rebuild(text, boolean) IS 'Replay the topics of a stream, and of all others of the database, into a second copy of the tables, beside the profiles that are served; allow_missing: also when a topic has lost its beginning';

CREATE FUNCTION pause_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_pause' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pause_rebuild(text) IS 'Stop a rebuild''s worker within a second of the commit; what it has done stays';

CREATE FUNCTION resume_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_resume' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION resume_rebuild(text) IS 'Start a paused rebuild where it was';

CREATE FUNCTION cancel_rebuild(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_rebuild_cancel' LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cancel_rebuild(text) IS 'End a rebuild and empty its copy of the tables; the profiles stay as they are';

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
		SELECT l.stream_id - 2147483648 AS stream_id, l.pid FROM profile_stream_internal.stream_leases l WHERE l.worker = 0
	), speed AS (
		SELECT b.stream_id, (p.done - b.resumed_done)::numeric
			/ NULLIF(EXTRACT(epoch FROM p.committed_at - b.resumed_at), 0::numeric) AS rate
		FROM profile_stream_internal.stream_rebuilds b JOIN progress p ON p.stream_id = b.stream_id
		WHERE p.committed_at > b.resumed_at
	)
	SELECT s.name AS stream,
		CASE WHEN NOT t.enabled AND r.pid IS NOT NULL THEN 'pausing'
			WHEN NOT t.enabled THEN 'paused'
			WHEN p.lost IS NOT NULL THEN 'incomplete'
			WHEN pg_catalog.pg_is_in_recovery() AND t.state <> ALL (ARRAY['incomplete', 'foreign_cluster']) THEN 'standby'
			WHEN r.pid IS NULL AND t.state NOT IN ('disabled', 'no_worker_slot', 'quarantined', 'incomplete', 'no_owner', 'foreign_cluster')
				AND NOT (t.state = 'starting' AND t.changed_at > pg_catalog.now() - '10 s'::interval) THEN 'not_running'
			WHEN w.waits_for IS NOT NULL AND t.state <> 'ready' THEN 'waiting'
			ELSE t.state END AS state,
		COALESCE(p.done, 0) AS events_done, p.total AS events_total, pg_catalog.round(v.rate, 1) AS events_per_second,
		CASE WHEN t.state = 'running' AND v.rate > 0::numeric AND r.pid IS NOT NULL
			THEN pg_catalog.now() + ((p.total - p.done)::numeric / v.rate)::float8 * '1 s'::interval END AS estimated_end,
		b.started_at, b.allow_missing, b.bootstrap_rows, r.pid AS worker_pid, COALESCE(w.waits_for, t.error, p.lost, p.refused) AS error,
		CASE WHEN p.lost IS NOT NULL THEN 'cancel_rebuild(), then rebuild(name, allow_missing => true) goes on from what is left.'
			WHEN t.enabled AND pg_catalog.pg_is_in_recovery() THEN 'Its primary runs it. Once this server is promoted, it goes on here by itself.'
			WHEN t.enabled AND r.pid IS NULL AND (t.hint IS NULL OR t.state NOT IN ('disabled', 'no_worker_slot', 'quarantined', 'incomplete', 'no_owner', 'foreign_cluster'))
				THEN 'start_streams() starts it; shared_preload_libraries starts it with the server.'
			ELSE t.hint END AS hint
	FROM profile_stream_internal.stream_rebuilds b
		JOIN profile_stream.streams s ON s.stream_id = b.stream_id
		JOIN profile_stream_rebuild.stream_status t ON t.stream_id = b.stream_id
		LEFT JOIN progress p ON p.stream_id = b.stream_id
		LEFT JOIN speed v ON v.stream_id = b.stream_id
		LEFT JOIN running r ON r.stream_id = b.stream_id
		LEFT JOIN profile_stream_internal.process_waits() w ON w.pid = r.pid
	WHERE b.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW stat_rebuilds IS 'The rebuild under way, of each stream: state, progress, rate and estimated end';
COMMENT ON COLUMN stat_rebuilds.stream IS 'Name of the stream that is rebuilt';
COMMENT ON COLUMN stat_rebuilds.state IS 'What the rebuild does: see the states of a rebuild in the reference';
COMMENT ON COLUMN stat_rebuilds.events_done IS 'Offsets that are done, from where the stream began';
COMMENT ON COLUMN stat_rebuilds.events_total IS 'Offsets from where the stream began to the end of the topic; NULL: not known yet';
COMMENT ON COLUMN stat_rebuilds.events_per_second IS 'Rate since its worker last started; NULL: nothing was done since';
COMMENT ON COLUMN stat_rebuilds.estimated_end IS 'When it will have reached the end of the topic at that rate; NULL while it is not running';
COMMENT ON COLUMN stat_rebuilds.started_at IS 'When rebuild() started it';
COMMENT ON COLUMN stat_rebuilds.allow_missing IS 'Whether it goes on although the topic has lost its beginning';
COMMENT ON COLUMN stat_rebuilds.bootstrap_rows IS 'Events of seed_profile() and backfill() that are done, which come before the topic';
COMMENT ON COLUMN stat_rebuilds.worker_pid IS 'Process that rebuilds; NULL: none runs';
COMMENT ON COLUMN stat_rebuilds.error IS 'Why it does not go on; NULL: it does';
COMMENT ON COLUMN stat_rebuilds.hint IS 'What to do about the error; NULL: nothing is known';

-- =====================================================================================================================
-- 17. Scores (api/scores.c)
-- =====================================================================================================================

-- no row: the defaults. A row that the script made would collide with the one that a dump restores.
CREATE TABLE profile_stream_internal.score_settings (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	new_days double precision NOT NULL CHECK (new_days >= 0::float8),
	active_days double precision NOT NULL CHECK (active_days >= 0::float8),
	dormant_days double precision NOT NULL CHECK (dormant_days >= 0::float8),
	loyal_transactions double precision NOT NULL,
	champion_transactions double precision NOT NULL,
	champion_value numeric NOT NULL,
	at_risk_churn double precision NOT NULL,
	half_gaps double precision NOT NULL CHECK (half_gaps > 0::float8),
	least_gap_days double precision NOT NULL CHECK (least_gap_days > 0::float8),
	default_gap_days double precision NOT NULL CHECK (default_gap_days > 0::float8),
	ticket_risk double precision NOT NULL CHECK (ticket_risk BETWEEN 0::float8 AND 1::float8),
	trend_risk double precision NOT NULL CHECK (trend_risk BETWEEN 0::float8 AND 1::float8),
	margin double precision NOT NULL CHECK (margin BETWEEN 0::float8 AND 1::float8),
	monthly_retention double precision NOT NULL CHECK (monthly_retention >= 0::float8 AND monthly_retention < 1::float8),
	monthly_discount double precision NOT NULL CHECK (monthly_discount BETWEEN 0::float8 AND 1::float8)
);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.score_settings', '');
COMMENT ON TABLE profile_stream_internal.score_settings IS 'What default_scores() counts with, where it is not to be the defaults: one row at most';
COMMENT ON COLUMN profile_stream_internal.score_settings.is_only IS 'Always true: the table has one row at most';
COMMENT ON COLUMN profile_stream_internal.score_settings.new_days IS 'A customer whose first event is at most so many days ago is in segment new';
COMMENT ON COLUMN profile_stream_internal.score_settings.active_days IS 'A customer without events for more than so many days is at_risk';
COMMENT ON COLUMN profile_stream_internal.score_settings.dormant_days IS 'A customer without events for more than so many days is dormant';
COMMENT ON COLUMN profile_stream_internal.score_settings.loyal_transactions IS 'A customer with so many transactions in 30 days is loyal';
COMMENT ON COLUMN profile_stream_internal.score_settings.champion_transactions IS 'A champion has at least so many transactions in 30 days';
COMMENT ON COLUMN profile_stream_internal.score_settings.champion_value IS 'A champion''s transactions in 30 days are worth at least so much';
COMMENT ON COLUMN profile_stream_internal.score_settings.at_risk_churn IS 'From this churn risk on, 0 to 1, a customer is at_risk';
COMMENT ON COLUMN profile_stream_internal.score_settings.half_gaps IS 'After a silence of so many of the customer''s usual gaps between events the risk of churn is one half';
COMMENT ON COLUMN profile_stream_internal.score_settings.least_gap_days IS 'Shortest gap between events that counts, in days';
COMMENT ON COLUMN profile_stream_internal.score_settings.default_gap_days IS 'Gap that counts for customers with less than 3 events, in days';
COMMENT ON COLUMN profile_stream_internal.score_settings.ticket_risk IS 'Risk that each support ticket of the last 90 days adds, 0 to 1';
COMMENT ON COLUMN profile_stream_internal.score_settings.trend_risk IS 'Risk when transactions have ceased, 0 to 1; in part when they have become fewer';
COMMENT ON COLUMN profile_stream_internal.score_settings.margin IS 'Share of the transactions'' value that is profit, 0 to 1';
COMMENT ON COLUMN profile_stream_internal.score_settings.monthly_retention IS 'Share of customers who stay from one month to the next, 0 to below 1';
COMMENT ON COLUMN profile_stream_internal.score_settings.monthly_discount IS 'By how much money is worth less a month later, 0 to 1';

CREATE VIEW profile_stream_internal.score_parameters WITH (security_invoker = true) AS
	SELECT s.new_days, s.active_days, s.dormant_days, s.loyal_transactions, s.champion_transactions, s.champion_value, s.at_risk_churn,
		s.half_gaps, s.least_gap_days, s.default_gap_days, s.ticket_risk, s.trend_risk, s.margin, s.monthly_retention, s.monthly_discount
	FROM profile_stream_internal.score_settings s
	UNION ALL
	SELECT 30, 30, 90, 4, 8, 1000, 0.7, 4, 1, 30, 0.1, 0.3, 0.2, 0.95, 0.01
	WHERE NOT EXISTS (SELECT FROM profile_stream_internal.score_settings);
COMMENT ON VIEW profile_stream_internal.score_parameters IS 'What default_scores() counts with: the row of score_settings, or the defaults';

CREATE FUNCTION set_score_settings(new_days double precision DEFAULT NULL, active_days double precision DEFAULT NULL, dormant_days double precision DEFAULT NULL,
	loyal_transactions double precision DEFAULT NULL, champion_transactions double precision DEFAULT NULL, champion_value numeric DEFAULT NULL,
	at_risk_churn double precision DEFAULT NULL, half_gaps double precision DEFAULT NULL, least_gap_days double precision DEFAULT NULL,
	default_gap_days double precision DEFAULT NULL, ticket_risk double precision DEFAULT NULL, trend_risk double precision DEFAULT NULL,
	margin double precision DEFAULT NULL, monthly_retention double precision DEFAULT NULL, monthly_discount double precision DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_call_internal' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION set_score_settings IS 'Set what default_scores() counts with, from the next refresh on; what is null stays as it is';

CREATE FUNCTION profile_stream_internal.set_score_settings(new_days double precision, active_days double precision, dormant_days double precision,
	loyal_transactions double precision, champion_transactions double precision, champion_value numeric,
	at_risk_churn double precision, half_gaps double precision, least_gap_days double precision,
	default_gap_days double precision, ticket_risk double precision, trend_risk double precision,
	margin double precision, monthly_retention double precision, monthly_discount double precision) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	wrong text;
BEGIN
	-- NaN is greater than any number, so that an upper bound refuses it
	SELECT format('%s must be %s', s.name, s.must) INTO wrong
		FROM (VALUES ('new_days', set_score_settings.new_days >= 0 AND set_score_settings.new_days < 'infinity', 'a number of days, 0 or more'),
			('active_days', set_score_settings.active_days >= 0 AND set_score_settings.active_days < 'infinity', 'a number of days, 0 or more'),
			('dormant_days', set_score_settings.dormant_days >= 0 AND set_score_settings.dormant_days < 'infinity', 'a number of days, 0 or more'),
			('loyal_transactions', set_score_settings.loyal_transactions >= 0 AND set_score_settings.loyal_transactions < 'infinity', 'a number, 0 or more'),
			('champion_transactions', set_score_settings.champion_transactions >= 0 AND set_score_settings.champion_transactions < 'infinity', 'a number, 0 or more'),
			('champion_value', set_score_settings.champion_value >= 0 AND set_score_settings.champion_value < 'infinity', 'a number, 0 or more'),
			('at_risk_churn', set_score_settings.at_risk_churn >= 0 AND set_score_settings.at_risk_churn <= 1, 'from 0 to 1'),
			('half_gaps', set_score_settings.half_gaps > 0 AND set_score_settings.half_gaps < 'infinity', 'a number above 0'),
			('least_gap_days', set_score_settings.least_gap_days > 0 AND set_score_settings.least_gap_days < 'infinity', 'a number of days above 0'),
			('default_gap_days', set_score_settings.default_gap_days > 0 AND set_score_settings.default_gap_days < 'infinity', 'a number of days above 0'),
			('ticket_risk', set_score_settings.ticket_risk >= 0 AND set_score_settings.ticket_risk <= 1, 'from 0 to 1'),
			('trend_risk', set_score_settings.trend_risk >= 0 AND set_score_settings.trend_risk <= 1, 'from 0 to 1'),
			('margin', set_score_settings.margin >= 0 AND set_score_settings.margin <= 1, 'from 0 to 1'),
			('monthly_retention', set_score_settings.monthly_retention >= 0 AND set_score_settings.monthly_retention < 1, 'from 0 to below 1'),
			('monthly_discount', set_score_settings.monthly_discount >= 0 AND set_score_settings.monthly_discount <= 1, 'from 0 to 1')) s(name, fits, must)
		WHERE NOT s.fits LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', wrong USING ERRCODE = 'invalid_parameter_value', HINT = 'default_scores() in the reference says what each setting is for.';
	END IF;
	INSERT INTO profile_stream_internal.score_settings (
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
		FROM profile_stream_internal.score_parameters p
		ON CONFLICT (is_only) DO UPDATE SET (
			new_days, active_days, dormant_days, loyal_transactions, champion_transactions, champion_value, at_risk_churn, half_gaps,
			least_gap_days, default_gap_days, ticket_risk, trend_risk, margin, monthly_retention, monthly_discount)
			= (excluded.new_days, excluded.active_days, excluded.dormant_days, excluded.loyal_transactions, excluded.champion_transactions,
			excluded.champion_value, excluded.at_risk_churn, excluded.half_gaps, excluded.least_gap_days, excluded.default_gap_days,
			excluded.ticket_risk, excluded.trend_risk, excluded.margin, excluded.monthly_retention, excluded.monthly_discount);
END $$;
COMMENT ON FUNCTION profile_stream_internal.set_score_settings IS 'set_score_settings() on this node';

CREATE FUNCTION reset_score_settings() RETURNS void
	AS 'MODULE_PATHNAME', 'ps_call_internal' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reset_score_settings() IS 'Let default_scores() count with the defaults again';

CREATE FUNCTION profile_stream_internal.reset_score_settings() RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		DELETE FROM profile_stream_internal.score_settings;
	END;
COMMENT ON FUNCTION profile_stream_internal.reset_score_settings() IS 'reset_score_settings() on this node';

-- OFFSET 0: what a step has computed is not computed again for each use in the next one
CREATE FUNCTION default_scores(profile materialized_profiles, as_of timestamptz,
	OUT segment text, OUT churn_risk_score double precision, OUT lifetime_value numeric) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE COST 1000
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
		FROM profile_stream_internal.score_parameters s
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

CREATE TABLE profile_stream_internal.score_function (
	is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
	function text NOT NULL,
	owner regrole NOT NULL,
	set_at timestamptz NOT NULL
);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OR DELETE ON profile_stream_internal.score_function
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('score_function', 'is_only');
ALTER TABLE profile_stream_internal.score_function ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.score_function', '');
COMMENT ON TABLE profile_stream_internal.score_function IS 'The function that set_score_function() set, and with whose rights it runs; no row: default_scores() alone';
COMMENT ON COLUMN profile_stream_internal.score_function.is_only IS 'Always true: the table has one row at most';
COMMENT ON COLUMN profile_stream_internal.score_function.function IS 'The function by schema, name and argument types';
COMMENT ON COLUMN profile_stream_internal.score_function.owner IS 'Role that called set_score_function(), with whose rights the function runs';
COMMENT ON COLUMN profile_stream_internal.score_function.set_at IS 'When it was set';

CREATE FUNCTION set_score_function(function regprocedure) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_set_score_function' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION set_score_function(regprocedure) IS 'Let a function(profile jsonb) of jsonb say segment, churnRiskScore and lifetimeValue, with the rights of the caller of this; NULL: the defaults again';

-- Not dumped: a restored database has its scores computed anew, and writes those that differ.
CREATE TABLE profile_stream_internal.score_refresh (
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
COMMENT ON TABLE profile_stream_internal.score_refresh IS 'How far the last refresh of scores has come';
COMMENT ON COLUMN profile_stream_internal.score_refresh.is_only IS 'Always true: the table has one row at most';
COMMENT ON COLUMN profile_stream_internal.score_refresh.state IS 'running, done or failed';
COMMENT ON COLUMN profile_stream_internal.score_refresh.started_at IS 'When the refresh began';
COMMENT ON COLUMN profile_stream_internal.score_refresh.finished_at IS 'When it ended; NULL: it has not';
COMMENT ON COLUMN profile_stream_internal.score_refresh.pid IS 'Process that runs or ran it';
COMMENT ON COLUMN profile_stream_internal.score_refresh.profiles_total IS 'Number of profiles, as the planner estimates it';
COMMENT ON COLUMN profile_stream_internal.score_refresh.profiles_done IS 'Profiles that are done';
COMMENT ON COLUMN profile_stream_internal.score_refresh.profiles_changed IS 'Profiles of which a score changed';
COMMENT ON COLUMN profile_stream_internal.score_refresh.segment_changes IS 'Profiles whose segment changed';
COMMENT ON COLUMN profile_stream_internal.score_refresh.profiles_failed IS 'Profiles whose scores could not be computed or written';
COMMENT ON COLUMN profile_stream_internal.score_refresh.profiles_skipped IS 'Profiles that other sessions locked or changed meanwhile; the next refresh takes them';
COMMENT ON COLUMN profile_stream_internal.score_refresh.notifications_skipped IS 'Notifications that were not sent because the queue of the server was full';
COMMENT ON COLUMN profile_stream_internal.score_refresh.batch_ms IS 'How long the last batch took, in milliseconds; NULL: none yet';
COMMENT ON COLUMN profile_stream_internal.score_refresh.lock_ms IS 'Longest time that a batch held locks of customers, in milliseconds';
COMMENT ON COLUMN profile_stream_internal.score_refresh.committed_at IS 'When the last batch was committed';
COMMENT ON COLUMN profile_stream_internal.score_refresh.error IS 'Last error; NULL: none';
COMMENT ON COLUMN profile_stream_internal.score_refresh.error_at IS 'When it came; NULL: none did';

-- Not dumped, as score_refresh.
CREATE TABLE profile_stream_internal.score_passes (
	slot text COLLATE "C" PRIMARY KEY,
	began_at timestamptz,
	reached text COLLATE "C",
	missed boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
COMMENT ON TABLE profile_stream_internal.score_passes IS 'How far passes over the profiles have come, which an interrupted refresh of scores leaves to the next one; each row is in its shard';
COMMENT ON COLUMN profile_stream_internal.score_passes.slot IS 'A text whose hash belongs to the shard; the empty string where profiles are not distributed';
COMMENT ON COLUMN profile_stream_internal.score_passes.began_at IS 'When the last pass began; NULL: the next refresh begins one';
COMMENT ON COLUMN profile_stream_internal.score_passes.reached IS 'Customer up to whom it has come; NULL: it is complete';
COMMENT ON COLUMN profile_stream_internal.score_passes.missed IS 'Whether some before him have older scores';

CREATE VIEW stat_score_refresh WITH (security_invoker = true) AS
	SELECT CASE WHEN r.state = 'running' AND l.pid IS NULL AND NOT pg_catalog.pg_is_in_recovery() THEN 'interrupted'
			WHEN r.state = 'running' AND w.waits_for IS NOT NULL THEN 'waiting' ELSE r.state END AS state,
		r.started_at, r.finished_at, CASE WHEN r.state = 'running' THEN l.pid END AS pid,
		r.profiles_total, r.profiles_done, r.profiles_changed, r.segment_changes, r.profiles_failed, r.profiles_skipped, r.notifications_skipped,
		pg_catalog.round((r.profiles_done::float8 / NULLIF(pg_catalog.date_part('epoch', r.committed_at - r.started_at), 0::float8))::numeric, 1) AS profiles_per_second,
		r.batch_ms * '1 ms'::interval AS last_batch, r.lock_ms * '1 ms'::interval AS longest_lock,
		CASE WHEN r.state = 'running' THEN COALESCE(w.waits_for, r.error) ELSE r.error END AS error, r.error_at
	FROM profile_stream_internal.score_refresh r LEFT JOIN pg_catalog.pg_locks l
		ON l.locktype = 'advisory' AND l.objsubid = 3 AND l.classid = 0::oid AND l.objid = 1::oid AND l.mode = 'ExclusiveLock' AND l.granted
		AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		LEFT JOIN profile_stream_internal.process_waits() w ON w.pid = l.pid;
COMMENT ON VIEW stat_score_refresh IS 'State and progress of the refresh of scores that runs, or ran last';
COMMENT ON COLUMN stat_score_refresh.state IS 'running, waiting, done, failed, or interrupted when its process is gone';
COMMENT ON COLUMN stat_score_refresh.pid IS 'Process that runs it; NULL: none does';
COMMENT ON COLUMN stat_score_refresh.profiles_per_second IS 'Profiles done per second, until the last commit; NULL before the first one';
COMMENT ON COLUMN stat_score_refresh.last_batch IS 'How long the last batch took; NULL: none yet';
COMMENT ON COLUMN stat_score_refresh.longest_lock IS 'Longest time that a batch held locks of customers';
COMMENT ON COLUMN stat_score_refresh.error IS 'What the refresh waits for, or the last error; NULL: nothing';
COMMENT ON COLUMN stat_score_refresh.error_at IS 'When the last error came; NULL: none did';

CREATE PROCEDURE refresh_scores(stale_after interval DEFAULT '1 day', batch int DEFAULT 1000, as_of timestamptz DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'ps_refresh_scores' LANGUAGE c;
COMMENT ON PROCEDURE refresh_scores(interval, int, timestamptz) IS 'Compute segment, churn risk and lifetime value of profiles that were not scored since, and write those that change, a batch a transaction';

CREATE PROCEDURE profile_stream_internal.refresh_scores(stale_us bigint, batch int, as_of timestamptz, INOUT failed bigint)
	AS 'MODULE_PATHNAME', 'ps_refresh_scores_here' LANGUAGE c;
COMMENT ON PROCEDURE profile_stream_internal.refresh_scores(bigint, int, timestamptz, bigint) IS 'refresh_scores() of the profiles that are on this node, with stale_after in microseconds; returns how many keep their scores because computing them failed';

-- =====================================================================================================================
-- 18. Segments (api/segments.c)
-- =====================================================================================================================

CREATE TABLE profile_stream_internal.segments (
	name text COLLATE "C" PRIMARY KEY,
	predicate text NOT NULL,
	owner regrole NOT NULL,
	created_at timestamptz NOT NULL,
	refreshed_at timestamptz,
	error text,
	error_at timestamptz,
	failing_since timestamptz,
	segment_id int GENERATED BY DEFAULT AS IDENTITY,
	evaluate text COLLATE "C" NOT NULL DEFAULT 'batch' CHECK (evaluate IN ('live', 'batch')),
	quiet_period interval NOT NULL DEFAULT '1 day' CHECK (quiet_period >= '0'::interval),
	filled_to text COLLATE "C",
	blocked_at timestamptz
);
CREATE TRIGGER written BEFORE INSERT OR UPDATE OF name, predicate, owner OR DELETE ON profile_stream_internal.segments
	FOR EACH ROW EXECUTE FUNCTION profile_stream_internal.definition_written('segment', 'name');
ALTER TABLE profile_stream_internal.segments ENABLE ALWAYS TRIGGER written;
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.segments', '');
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.segments_segment_id_seq', '');
COMMENT ON TABLE profile_stream_internal.segments IS 'Segments by rule: the predicate, and with whose rights it is evaluated; when that was last done, and what went wrong';
COMMENT ON COLUMN profile_stream_internal.segments.name IS 'Name of the segment';
COMMENT ON COLUMN profile_stream_internal.segments.predicate IS 'Condition on the view profiles that members fulfil';
COMMENT ON COLUMN profile_stream_internal.segments.owner IS 'Role with whose rights the condition is evaluated';
COMMENT ON COLUMN profile_stream_internal.segments.created_at IS 'When the segment was created';
COMMENT ON COLUMN profile_stream_internal.segments.refreshed_at IS 'When its members were last brought up to date; NULL: not yet';
COMMENT ON COLUMN profile_stream_internal.segments.error IS 'Why the last refresh of the segment failed; NULL: it did not';
COMMENT ON COLUMN profile_stream_internal.segments.error_at IS 'When that failed; NULL: it did not';
COMMENT ON COLUMN profile_stream_internal.segments.failing_since IS 'When the first of the failures in a row came; NULL: the last refresh succeeded';
COMMENT ON COLUMN profile_stream_internal.segments.segment_id IS 'Number of the segment in segment_state of profiles; a new one each time that all customers have to be looked at anew';
COMMENT ON COLUMN profile_stream_internal.segments.evaluate IS 'live: when events are applied, scores change and time passes; batch: by refresh_segments() alone';
COMMENT ON COLUMN profile_stream_internal.segments.quiet_period IS 'How long after a customer entered it is not announced that he enters again';
COMMENT ON COLUMN profile_stream_internal.segments.filled_to IS 'Up to which customer a live segment was evaluated first; NULL: for all, or it is not live';
COMMENT ON COLUMN profile_stream_internal.segments.blocked_at IS 'When the predicate of a live segment failed, so that it is not evaluated; NULL: it is';

CREATE TABLE segment_members (
	segment text COLLATE "C" NOT NULL,
	customer_id text COLLATE "C" NOT NULL,
	entered_at timestamptz NOT NULL,
	PRIMARY KEY (segment, customer_id)
);
CREATE INDEX segment_members_customer ON segment_members (customer_id);
SELECT pg_catalog.pg_extension_config_dump('segment_members', '');
COMMENT ON TABLE segment_members IS 'Who is in a segment by rule: in a live one now, in another one as of its last refresh';
COMMENT ON COLUMN segment_members.segment IS 'Name of the segment';
COMMENT ON COLUMN segment_members.customer_id IS 'Customer who is in it';
COMMENT ON COLUMN segment_members.entered_at IS 'When the customer was found in it first';

CREATE TABLE segment_changes (
	change_id bigint GENERATED BY DEFAULT AS IDENTITY,
	customer_id text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('score', 'rule')),
	from_segment text,
	to_segment text,
	changed_at timestamptz NOT NULL,
	quiet boolean NOT NULL DEFAULT false,
	event_id text,
	event_at timestamptz,
	PRIMARY KEY (customer_id, change_id)
);
CREATE INDEX segment_changes_change_id ON segment_changes (change_id);
CREATE INDEX segment_changes_changed_at ON segment_changes (changed_at);
SELECT pg_catalog.pg_extension_config_dump('segment_changes', '');
SELECT pg_catalog.pg_extension_config_dump('segment_changes_change_id_seq', '');
COMMENT ON TABLE segment_changes IS 'Changes of segments: of the scored one (kind score), or that a customer entered (from null) or left (to null) one by rule (kind rule)';
COMMENT ON COLUMN segment_changes.change_id IS 'Number of the change, ascending; where profiles are distributed by the time of the change, on all nodes';
COMMENT ON COLUMN segment_changes.customer_id IS 'Customer whose segment changed';
COMMENT ON COLUMN segment_changes.kind IS 'score: the segment of the profile; rule: a segment of create_segment()';
COMMENT ON COLUMN segment_changes.from_segment IS 'Segment that the customer left; NULL: entered one by rule';
COMMENT ON COLUMN segment_changes.to_segment IS 'Segment that the customer entered; NULL: left one by rule';
COMMENT ON COLUMN segment_changes.changed_at IS 'When it was found';
COMMENT ON COLUMN segment_changes.quiet IS 'Whether it was not announced, because the customer entered within the quiet_period before';
COMMENT ON COLUMN segment_changes.event_id IS 'Id of the last event that was applied before, of a live segment; NULL: time, a refresh or a rebuild caused it';
COMMENT ON COLUMN segment_changes.event_at IS 'Timestamp of that event; NULL: there is none';

CREATE TABLE profile_stream_internal.segment_day_counts (
	slot text COLLATE "C" NOT NULL,
	day date NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('all', 'unscored', 'score', 'rule')),
	segment text COLLATE "C" NOT NULL,
	customers bigint NOT NULL,
	counted_at timestamptz NOT NULL,
	shards int NOT NULL,
	PRIMARY KEY (slot, day, kind, segment)
);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.segment_day_counts', '');
COMMENT ON TABLE profile_stream_internal.segment_day_counts IS 'What segment_counts adds up: how many customers of a shard each segment had, by day';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.slot IS 'A text whose hash belongs to the shard; the empty string where profiles are not distributed';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.day IS 'Day in UTC';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.kind IS 'all: all customers; unscored: those without a segment yet; score: a segment of the scores; rule: a segment of create_segment()';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.segment IS 'Name of the segment; all or unscored of these kinds';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.customers IS 'Number of customers of the shard who were in it';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.counted_at IS 'When they were counted';
COMMENT ON COLUMN profile_stream_internal.segment_day_counts.shards IS 'How many shards there were; 1 where profiles are not distributed';

-- A day is there once all shards have counted it, and a segment by rule once all of them had it.
CREATE VIEW segment_counts WITH (security_invoker = true) AS
	SELECT c.day, c.kind, c.segment, pg_catalog.sum(c.customers)::bigint AS customers, pg_catalog.min(c.counted_at) AS counted_at
	FROM profile_stream_internal.segment_day_counts c
		JOIN (SELECT a.day FROM profile_stream_internal.segment_day_counts a WHERE a.kind = 'all'
			GROUP BY a.day HAVING pg_catalog.count(*) = pg_catalog.max(a.shards)) d ON d.day = c.day
	GROUP BY c.day, c.kind, c.segment HAVING c.kind <> 'rule' OR pg_catalog.count(*) = pg_catalog.max(c.shards);
COMMENT ON VIEW segment_counts IS 'How many customers each segment had, a row for each day and segment: as of the last refresh of the day, or of its begin';
COMMENT ON COLUMN segment_counts.day IS 'Day in UTC';
COMMENT ON COLUMN segment_counts.kind IS 'all: all customers; unscored: those without a segment yet; score: a segment of the scores; rule: a segment of create_segment()';
COMMENT ON COLUMN segment_counts.segment IS 'Name of the segment; all or unscored of these kinds';
COMMENT ON COLUMN segment_counts.customers IS 'Number of customers who were in it';
COMMENT ON COLUMN segment_counts.counted_at IS 'When they were counted; of distributed profiles when the first shard was';

-- Not dumped: live segments of a restored database are confirmed first, and then all customers are looked at anew.
CREATE TABLE profile_stream_internal.segment_checks (
	due_at timestamptz NOT NULL,
	customer_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (due_at, customer_id)
);
CREATE INDEX segment_checks_customer ON profile_stream_internal.segment_checks (customer_id);
COMMENT ON TABLE profile_stream_internal.segment_checks IS 'When which customer is looked at again, because a live segment can change with time alone';
COMMENT ON COLUMN profile_stream_internal.segment_checks.due_at IS 'When that is';
COMMENT ON COLUMN profile_stream_internal.segment_checks.customer_id IS 'Customer who is looked at';

CREATE TABLE profile_stream_internal.segment_fills (
	slot text COLLATE "C" PRIMARY KEY,
	node int NOT NULL,
	segment_id int NOT NULL,
	filled_to text COLLATE "C"
);
COMMENT ON TABLE profile_stream_internal.segment_fills IS 'Which live segments have seen the customers of the shards of distributed profiles; each row is in its shard';
COMMENT ON COLUMN profile_stream_internal.segment_fills.slot IS 'A text whose hash belongs to the shard';
COMMENT ON COLUMN profile_stream_internal.segment_fills.node IS 'Node that has seen them, and that numbers its segments by itself; after a move another one sees them anew';
COMMENT ON COLUMN profile_stream_internal.segment_fills.segment_id IS 'Greatest number of the segments that see them, or have';
COMMENT ON COLUMN profile_stream_internal.segment_fills.filled_to IS 'Up to which customer they have; NULL: all';

CREATE FUNCTION create_segment(name text, predicate text, evaluate text DEFAULT NULL, quiet_period interval DEFAULT '1 day') RETURNS void
	AS 'MODULE_PATHNAME', 'ps_create_segment' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION create_segment(text, text, text, interval) IS 'Create a segment of the customers for whom a condition on the view profiles is true; it is evaluated with the caller''s rights, live where that is possible';

CREATE FUNCTION drop_segment(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_drop_segment' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_segment(text) IS 'Remove a segment by rule and its members, without announcing that they left';

CREATE FUNCTION alter_segment(name text, owner name DEFAULT NULL, predicate text DEFAULT NULL, evaluate text DEFAULT NULL, quiet_period interval DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_alter_segment' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION alter_segment(text, name, text, text, interval) IS 'Change a segment by rule: its owner, with whose rights its predicate is evaluated, its predicate, and how it is evaluated; a blocked one begins again';

CREATE PROCEDURE refresh_segments(name text DEFAULT NULL, batch int DEFAULT 1000)
	AS 'MODULE_PATHNAME', 'ps_refresh_segments' LANGUAGE c;
COMMENT ON PROCEDURE refresh_segments(text, int) IS 'Evaluate segments by rule, one or all, a batch of profiles a transaction, and announce who entered and left';

CREATE PROCEDURE profile_stream_internal.refresh_segments(name text, batch int, INOUT done jsonb)
	AS 'MODULE_PATHNAME', 'ps_refresh_segments_here' LANGUAGE c;
COMMENT ON PROCEDURE profile_stream_internal.refresh_segments(text, int, jsonb) IS 'refresh_segments() of the profiles that are on this node; returns the shards that were seen whole, and errors of segments';

-- =====================================================================================================================
-- 19. Code of users and other definitions (api/confirm.c)
-- =====================================================================================================================

CREATE FUNCTION profile_stream_internal.code_state(function text, owner oid, confirmed boolean) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_code_state' LANGUAGE c VOLATILE COST 200 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.code_state(text, oid, boolean) IS 'Whether code of a user can run: ok, unconfirmed, no_owner, no_function or other_owner; function null: an expression';

CREATE VIEW profile_stream_internal.code_definitions WITH (security_invoker = true) AS
	SELECT 'handler' AS kind, h.handler_id::text AS key, h.event_type AS name, h.function AS function, NULL AS predicate, h.owner::oid AS owner,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'handler' AND c.key = h.handler_id::text) AS confirmed
	FROM profile_stream_internal.event_handlers h
	UNION ALL
	SELECT 'upcaster', u.from_version::text || ':' || u.event_type, u.event_type, u.function, NULL, u.owner::oid,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'upcaster' AND c.key = u.from_version::text || ':' || u.event_type)
	FROM profile_stream_internal.event_upcasters u
	UNION ALL
	SELECT 'decoder', d.stream_id::text, s.name, d.function, NULL, d.owner::oid,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'decoder' AND c.key = d.stream_id::text)
	FROM profile_stream_internal.stream_decoders d JOIN profile_stream.streams s ON s.stream_id = d.stream_id
	UNION ALL
	SELECT 'score_function', 't', f.function, f.function, NULL, f.owner::oid,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'score_function')
	FROM profile_stream_internal.score_function f
	UNION ALL
	SELECT 'segment', s.name, s.name, NULL, s.predicate, s.owner::oid,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'segment' AND c.key = s.name)
	FROM profile_stream_internal.segments s
	UNION ALL
	SELECT 'backfill', b.backfill_id::text, b.name, NULL, b.query, b.owner::oid,
		EXISTS (SELECT FROM profile_stream_internal.confirmed_code c WHERE c.kind = 'backfill' AND c.key = b.backfill_id::text)
	FROM profile_stream_internal.backfills b;
COMMENT ON VIEW profile_stream_internal.code_definitions IS 'What stat_code shows, with the keys of confirmed_code';
COMMENT ON COLUMN profile_stream_internal.code_definitions.kind IS 'handler, upcaster, decoder, score_function, segment or backfill';
COMMENT ON COLUMN profile_stream_internal.code_definitions.key IS 'Key of it in confirmed_code';
COMMENT ON COLUMN profile_stream_internal.code_definitions.name IS 'Event type, stream, function, segment or backfill';
COMMENT ON COLUMN profile_stream_internal.code_definitions.function IS 'The function by schema, name and argument types; NULL for a segment or a backfill';
COMMENT ON COLUMN profile_stream_internal.code_definitions.predicate IS 'Condition of a segment, or query of a backfill; NULL for others';
COMMENT ON COLUMN profile_stream_internal.code_definitions.owner IS 'OID of the role with whose rights it runs';
COMMENT ON COLUMN profile_stream_internal.code_definitions.confirmed IS 'Whether it is confirmed, so that it may run';

CREATE VIEW stat_code WITH (security_invoker = true) AS
	SELECT d.kind, d.name,
		-- a query may have a password in it
		CASE WHEN d.kind <> 'backfill' OR pg_catalog.has_function_privilege('profile_stream.backfill(text,text,int,text)', 'EXECUTE') THEN COALESCE(d.function, d.predicate) END AS code,
		pg_catalog.pg_get_userbyid(d.owner) AS owner, c.state,
		CASE c.state
			WHEN 'unconfirmed' THEN 'It came by a restore, a subscription or a statement. Read it; its owner or a superuser lets it run with confirm_code().'
			WHEN 'no_owner' THEN CASE d.kind
				WHEN 'segment' THEN 'Its role is gone. A superuser gives it another one with alter_segment().'
				WHEN 'score_function' THEN 'Its role is gone. A superuser sets it anew with set_score_function().'
				WHEN 'backfill' THEN 'Its role is gone. drop_backfill() forgets it, and backfill() runs it again with the rights of its caller.'
				WHEN 'decoder' THEN 'Its role is gone. The owner of the function gives it to alter_stream() again.'
				ELSE 'Its role is gone. The owner of the function registers it again.' END
			WHEN 'other_owner' THEN 'The function belongs to another role now, which registers it again.'
			WHEN 'no_function' THEN pg_catalog.format('Create the function again, or call %s.',
				CASE d.kind WHEN 'decoder' THEN 'alter_stream() with decoder => ''''' ELSE 'unregister_' || d.kind || '()' END)
			WHEN 'blocked' THEN 'Its predicate failed, and its members stay. refresh_segments() and alter_segment() let it begin again.' END AS hint,
		s.created_at, s.refreshed_at, s.error, s.error_at, s.failing_since, s.evaluate, s.quiet_period
	FROM profile_stream_internal.code_definitions d
		LEFT JOIN profile_stream_internal.segments s ON d.kind = 'segment' AND s.name = d.key
		CROSS JOIN LATERAL (SELECT profile_stream_internal.code_state(CASE WHEN d.kind <> 'score_function' THEN d.function END, d.owner, d.confirmed) AS state OFFSET 0) x
		CROSS JOIN LATERAL (SELECT CASE WHEN x.state = 'ok' AND s.blocked_at IS NOT NULL THEN 'blocked' ELSE x.state END AS state OFFSET 0) c;
COMMENT ON VIEW stat_code IS 'Code of users that runs here: handlers, upcasters, decoders, the score function, segments and queries of backfills; with whose rights, and why not; and how the last refresh of each segment ended';
COMMENT ON COLUMN stat_code.kind IS 'handler, upcaster, decoder, score_function, segment or backfill';
COMMENT ON COLUMN stat_code.name IS 'Event type, stream, function, segment or backfill';
COMMENT ON COLUMN stat_code.code IS 'The function, the condition of a segment, or the query of a backfill; NULL: a query, for who may not call backfill()';
COMMENT ON COLUMN stat_code.owner IS 'Role with whose rights it runs';
COMMENT ON COLUMN stat_code.state IS 'ok, unconfirmed, no_owner, other_owner, no_function, or blocked for a live segment whose predicate failed; only what is ok runs';
COMMENT ON COLUMN stat_code.hint IS 'What to do about the state; NULL: it is ok';
COMMENT ON COLUMN stat_code.created_at IS 'When a segment was created; NULL for others';
COMMENT ON COLUMN stat_code.refreshed_at IS 'When the members of a segment were last brought up to date; NULL: not yet, or no segment';
COMMENT ON COLUMN stat_code.error IS 'Why the last refresh of a segment failed; NULL: it did not, or no segment';
COMMENT ON COLUMN stat_code.error_at IS 'When that failed; NULL: it did not, or no segment';
COMMENT ON COLUMN stat_code.failing_since IS 'When the first of a segment''s failures in a row came; NULL: the last refresh succeeded, or no segment';
COMMENT ON COLUMN stat_code.evaluate IS 'live or batch, of a segment; NULL for others';
COMMENT ON COLUMN stat_code.quiet_period IS 'How long after a customer entered a segment it is not announced that he enters again; NULL for others';

CREATE FUNCTION confirm_code(kind text DEFAULT NULL, name text DEFAULT NULL) RETURNS int
	AS 'MODULE_PATHNAME', 'ps_confirm_code' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION confirm_code(text, text) IS 'Let code run that came by a restore or a subscription, as far as the caller has its owner''s rights: all, or of a kind and a name as in stat_code; returns how many';

CREATE VIEW definitions WITH (security_invoker = true) AS
	SELECT 'attribute' AS kind, m.event_type, m.attribute AS name,
		pg_catalog.jsonb_build_object('path', m.path, 'operation', m.operation, 'type', m.type, 'max_items', m.max_items)
			|| pg_catalog.jsonb_build_object('filter_path', m.filter_path, 'filter_operator', CASE WHEN m.filter_path IS NOT NULL THEN m.filter_operator END,
				'filter_value', m.filter_value, 'sources', m.sources) AS definition
	FROM profile_stream_internal.attribute_maps m
	UNION ALL
	SELECT 'metric', CASE WHEN pg_catalog.cardinality(s.event_types) = 1 THEN s.event_types[1] END, m.name,
		pg_catalog.jsonb_build_object('window', CASE WHEN m.period IS NULL THEN m."window" END, 'period', m.period, 'time_zone', m.time_zone, 'value_path', s.value_path, 'aggregate', m.aggregate, 'fraction', m.fraction,
			'event_types', CASE WHEN pg_catalog.cardinality(s.event_types) > 1 THEN s.event_types END)
			|| pg_catalog.jsonb_build_object('filter_path', s.filter_path, 'filter_operator', CASE WHEN s.filter_path IS NOT NULL THEN s.filter_operator END,
				'filter_value', s.filter_value, 'sources', s.sources)
	FROM profile_stream_internal.metrics m JOIN profile_stream_internal.metric_series s ON s.series_id = m.series_id
	UNION ALL
	SELECT 'handler', h.event_type, h.function, pg_catalog.jsonb_build_object('priority', h.priority, 'owner', h.owner)
	FROM profile_stream_internal.event_handlers h
	UNION ALL
	SELECT 'upcaster', u.event_type, u.function, pg_catalog.jsonb_build_object('from_version', u.from_version, 'owner', u.owner)
	FROM profile_stream_internal.event_upcasters u
	UNION ALL
	SELECT 'decoder', NULL, d.function, pg_catalog.jsonb_build_object('stream', s.name, 'owner', d.owner)
	FROM profile_stream_internal.stream_decoders d JOIN profile_stream.streams s ON s.stream_id = d.stream_id
	UNION ALL
	SELECT 'history', NULL, c.name, pg_catalog.jsonb_build_object('retention', s.retention, 'since', c.since)
	FROM profile_stream_internal.history_columns c CROSS JOIN profile_stream_internal.history_settings s
	UNION ALL
	SELECT 'score_settings', NULL, NULL, pg_catalog.to_jsonb(p) FROM profile_stream_internal.score_parameters p;
COMMENT ON VIEW definitions IS 'What users registered: attribute maps, metrics, handlers and upcasters of event types, decoders of streams, what has a history, and the settings of scores that are in force';
COMMENT ON COLUMN definitions.kind IS 'What it is: attribute, metric, handler, upcaster, decoder, history, or score_settings';
COMMENT ON COLUMN definitions.event_type IS 'Event type that it is for; NULL for decoder, history and score_settings, and for a metric of several types, whose definition has them';
COMMENT ON COLUMN definitions.name IS 'Name of the attribute, metric or column, or the function; NULL for score_settings';
COMMENT ON COLUMN definitions.definition IS 'The arguments with which it was registered, as an object; for score_settings the settings in force';

-- =====================================================================================================================
-- 20. Views for BI
-- =====================================================================================================================

CREATE FUNCTION attribute_time(value text) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_attribute_time' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 30;
COMMENT ON FUNCTION attribute_time(text) IS 'Attribute of type timestamptz as a timestamp; NULL for what is none';

CREATE FUNCTION create_profile_view(view_name text, attributes text[] DEFAULT '{}', metrics text[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off SET standard_conforming_strings = on AS $$
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
	described record;
	all_attributes CONSTANT text[] := COALESCE(create_profile_view.attributes, ARRAY(SELECT DISTINCT d.name FROM profile_stream.definitions d
		WHERE d.kind = 'attribute' AND d.name NOT IN (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'profile_stream.materialized_profiles'::regclass) ORDER BY d.name));
	all_metrics CONSTANT text[] := COALESCE(create_profile_view.metrics, ARRAY(SELECT d.name FROM profile_stream.definitions d WHERE d.kind = 'metric' ORDER BY d.name));
BEGIN
	IF (cardinality(parts) > 2) IS NOT FALSE THEN
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
	FOREACH wanted IN ARRAY all_attributes LOOP
		SELECT CASE WHEN m.operation = 'append_unique' THEN 'jsonb' ELSE m.type END INTO kind
			FROM profile_stream.definitions d, jsonb_to_record(d.definition) AS m(type text, operation text)
			WHERE d.kind = 'attribute' AND d.name = wanted LIMIT 1;
		IF NOT FOUND THEN
			kind := substring(wanted FROM '. (text|numeric|boolean|timestamptz|jsonb)$');
			IF kind IS NULL THEN
				RAISE EXCEPTION 'attribute "%" is not mapped', wanted USING ERRCODE = 'undefined_object',
					HINT = 'The view definitions lists those that are. What handlers set is named with its type: "tier text".';
			END IF;
			wanted := left(wanted, -length(kind) - 1);
		END IF;
		-- what the table says does not become part of a statement
		IF kind <> ALL (ARRAY['text', 'numeric', 'boolean', 'timestamptz', 'jsonb']) THEN
			RAISE EXCEPTION 'attribute "%" has the unknown type "%"', wanted, kind USING ERRCODE = 'data_corrupted',
				HINT = 'Somebody has written the table profile_stream_internal.attribute_maps: unmap_attribute() and map_attribute() mend it.';
		END IF;
		names := names || wanted;
		kinds := kinds || kind;
	END LOOP;
	names := names || all_metrics;
	SELECT n INTO wanted FROM unnest(names) n
		WHERE n IN (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'profile_stream.profiles'::regclass AND a.attnum > 0)
			OR (SELECT count(*) FROM unnest(names) m WHERE m = n) > 1 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the view would have two columns "%"', wanted USING ERRCODE = 'duplicate_column',
			HINT = 'It has all columns of the view profiles; attributes and metrics are beside them.';
	END IF;

	-- The columns are those of the view profiles, word for word, up to FROM. Only window_count() is replaced: readers may not use its schema.
	columns := regexp_replace(substring(pg_get_viewdef('profile_stream.profiles'::regclass) FROM '^\s*SELECT (.*)\s+FROM profile_stream\.materialized_profiles p;$'),
		'profile_stream_internal\.window_count(\([^()]*now\(\)\))', 'profile_stream.window_value\1::pg_catalog.int8', 'g');
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
	FOREACH wanted IN ARRAY all_metrics LOOP
		SELECT d.definition ->> 'aggregate' INTO kind FROM profile_stream.definitions d WHERE d.kind = 'metric' AND d.name = wanted;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'metric "%" does not exist', wanted USING ERRCODE = 'undefined_object',
				HINT = 'create_metric() makes one; the view definitions lists those there are.';
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
	FOR described IN
		SELECT a.attname, COALESCE(col_description(p.attrelid, p.attnum), CASE WHEN a.attname = ANY (all_metrics)
			THEN format('Value of the metric %s, as of now()', a.attname) ELSE format('Attribute %s; NULL: no event has set it, or it has another type', a.attname) END) AS description
		FROM pg_attribute a LEFT JOIN pg_attribute p ON p.attrelid = 'profile_stream.profiles'::regclass AND p.attname = a.attname
		WHERE a.attrelid = to_regclass(target) AND a.attnum > 0
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', target, described.attname, described.description);
	END LOOP;
END $$;
COMMENT ON FUNCTION create_profile_view(text, text[], text[]) IS 'Make a view of profiles, or make it anew: the columns of the view profiles and typed ones for attributes and metrics, as of now()';

-- =====================================================================================================================
-- 21. Erasure and export (api/erasure.c)
-- =====================================================================================================================

-- The key lets statements that may not scan tables find its row.
CREATE TABLE profile_stream_internal.blocking_salt (is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only), salt bytea NOT NULL);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.blocking_salt', '');
COMMENT ON TABLE profile_stream_internal.blocking_salt IS 'What the ids of blocked customers are hashed with: random, made when the first one is blocked';
COMMENT ON COLUMN profile_stream_internal.blocking_salt.is_only IS 'Always true: the table has one row at most';
COMMENT ON COLUMN profile_stream_internal.blocking_salt.salt IS 'Random bytes that ids of blocked customers are hashed with';

CREATE TABLE profile_stream_internal.blocked_customers (customer_hash bytea PRIMARY KEY, blocked_at timestamptz NOT NULL);
SELECT pg_catalog.pg_extension_config_dump('profile_stream_internal.blocked_customers', '');
COMMENT ON TABLE profile_stream_internal.blocked_customers IS 'Forgotten customers of whom nothing is taken any more: sha256(salt || id)';
COMMENT ON COLUMN profile_stream_internal.blocked_customers.customer_hash IS 'sha256 of the salt and the customer''s id';
COMMENT ON COLUMN profile_stream_internal.blocked_customers.blocked_at IS 'When the customer was blocked';

CREATE FUNCTION profile_stream_internal.contains_id(message bytea, customer_id text, in_strings boolean) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_contains_id' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 75;
COMMENT ON FUNCTION profile_stream_internal.contains_id(bytea, text, boolean) IS 'Whether bytes name a customer, as a whole word, also in JSON escapes; in_strings: in strings of JSON only';

CREATE FUNCTION profile_stream_internal.redact_id(message bytea, customer_id text, in_strings boolean) RETURNS bytea
	AS 'MODULE_PATHNAME', 'ps_redact_id' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION profile_stream_internal.redact_id(bytea, text, boolean) IS 'Bytes with [erased] wherever contains_id() finds a customer';

CREATE FUNCTION profile_stream_internal.message_customer(value bytea) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_message_customer' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 300;
COMMENT ON FUNCTION profile_stream_internal.message_customer(bytea) IS 'Whose event a message value is, valid or not, as far as that can be told';

CREATE FUNCTION profile_stream_internal.dead_letter_relation(letter profile_stream_internal.dead_letters, customer_id text) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE COST 300
	RETURN CASE
		WHEN (letter).customer_id = dead_letter_relation.customer_id
			OR (letter).key = pg_catalog.convert_to(dead_letter_relation.customer_id, 'UTF8') THEN 'own'
		WHEN (profile_stream_internal.contains_id((letter).value, dead_letter_relation.customer_id, false)
			OR profile_stream_internal.contains_id((letter).key, dead_letter_relation.customer_id, false)
			OR profile_stream_internal.contains_id(pg_catalog.convert_to(pg_catalog.concat_ws(' ', (letter).headers, (letter).errors, (letter).event_id,
				(letter).event_type), 'UTF8'), dead_letter_relation.customer_id, false)
			OR pg_catalog.strpos((letter).headers::text,
				pg_catalog.encode(pg_catalog.convert_to(dead_letter_relation.customer_id, 'UTF8'), 'hex')) > 0) IS NOT TRUE THEN NULL
		WHEN COALESCE((letter).customer_id, (SELECT profile_stream_internal.to_profile_event((letter).value, (letter).key, (letter).headers,
				(letter).kafka_timestamp, f.format, f.field_map, f.timestamp_unit) ->> 'customerId'::text
				FROM profile_stream.streams s CROSS JOIN LATERAL profile_stream_internal.topic_format(s, (letter).topic) f
				WHERE s.stream_id = (letter).stream_id AND (letter).topic IS NOT NULL AND f.format <> 'profile_event'),
			profile_stream_internal.message_customer((letter).value), dead_letter_relation.customer_id)
			= dead_letter_relation.customer_id THEN 'own'
		ELSE 'mentions' END;
COMMENT ON FUNCTION profile_stream_internal.dead_letter_relation(profile_stream_internal.dead_letters, text) IS 'What a dead letter has to do with a customer: own (its own, or nobody''s that names it), mentions (another''s that names it), or NULL';

CREATE FUNCTION forget_customer(customer_id text, block boolean DEFAULT false, OUT profiles bigint, OUT chunks bigint,
	OUT event_ids bigint, OUT dead_letters bigint, OUT redacted bigint, OUT blocked boolean)
	AS 'MODULE_PATHNAME', 'ps_forget_customer' LANGUAGE c STRICT VOLATILE SUPPORT profile_stream_internal.on_nodes SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION forget_customer(text, boolean) IS 'Remove everything about a customer in this transaction, and announce that on every sink; block: take nothing of the customer any more';

CREATE FUNCTION unblock_customer(customer_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_unblock_customer' LANGUAGE c STRICT VOLATILE SUPPORT profile_stream_internal.on_nodes SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION unblock_customer(text) IS 'Take events of a customer again; whether it was blocked';

CREATE FUNCTION export_customer(customer_id text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_export_customer' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 200000 SUPPORT profile_stream_internal.on_nodes SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION export_customer(text) IS 'Everything that is held about a customer';

-- Where profiles are distributed, each node may have dead letters that name a customer, and each blocks customers by a table of its own.
CREATE FUNCTION profile_stream_internal.forget_customer(customer_id text, block boolean, OUT profiles bigint, OUT chunks bigint,
	OUT event_ids bigint, OUT dead_letters bigint, OUT redacted bigint, OUT blocked boolean)
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.check_no_transaction('forget_customer()');
	SELECT sum((r.answer ->> 'profiles')::bigint), sum((r.answer ->> 'chunks')::bigint), sum((r.answer ->> 'event_ids')::bigint),
			sum((r.answer ->> 'dead_letters')::bigint), sum((r.answer ->> 'redacted')::bigint), bool_and((r.answer ->> 'blocked')::boolean)
		INTO profiles, chunks, event_ids, dead_letters, redacted, blocked
		FROM profile_stream_internal.run_for_customer(customer_id, format('profile_stream.forget_customer(%L, %L)', customer_id, block)) r(answer);
END $$;
COMMENT ON FUNCTION profile_stream_internal.forget_customer(text, boolean) IS 'forget_customer() of profiles that Citus has distributed';

CREATE FUNCTION profile_stream_internal.unblock_customer(customer_id text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.check_no_transaction('unblock_customer()');
	RETURN (SELECT bool_or(r.answer::boolean) FROM profile_stream_internal.run_on_all_nodes(format('profile_stream.unblock_customer(%L)', customer_id)) r(answer));
END $$;
COMMENT ON FUNCTION profile_stream_internal.unblock_customer(text) IS 'unblock_customer() of profiles that Citus has distributed';

-- A node hashes with the salt of the coordinator. So a node that is added can take over the hashes that the coordinator has.
CREATE FUNCTION profile_stream_internal.take_blocked_customers(salt bytea, hashes bytea[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM profile_stream_internal.blocking_salt s WHERE s.salt <> take_blocked_customers.salt AND NOT EXISTS (SELECT FROM profile_stream_internal.blocked_customers);
	INSERT INTO profile_stream_internal.blocking_salt (salt) VALUES (take_blocked_customers.salt) ON CONFLICT DO NOTHING;
	IF (SELECT s.salt FROM profile_stream_internal.blocking_salt s) <> take_blocked_customers.salt THEN
		RAISE EXCEPTION 'this node has blocked customers of its own' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Unblock them before the node is added.';
	END IF;
	INSERT INTO profile_stream_internal.blocked_customers (customer_hash, blocked_at) SELECT h.hash, now() FROM unnest(hashes) h(hash) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION profile_stream_internal.take_blocked_customers(bytea, bytea[]) IS 'Take the blocked customers of the coordinator over';

CREATE FUNCTION profile_stream_internal.send_blocked_customers() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO profile_stream_internal.blocking_salt (salt)
		VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))) ON CONFLICT DO NOTHING;
	PERFORM profile_stream_internal.raise_failed('not all nodes have taken the blocked customers', (SELECT string_agg(r.result, '; ') FILTER (WHERE NOT r.success)
		FROM run_command_on_workers((SELECT format('SELECT profile_stream_internal.take_blocked_customers(%L, %L)', s.salt,
			(SELECT COALESCE(array_agg(b.customer_hash), '{}') FROM profile_stream_internal.blocked_customers b)) FROM profile_stream_internal.blocking_salt s)) r));
END $$;
COMMENT ON FUNCTION profile_stream_internal.send_blocked_customers() IS 'Have all nodes take over the blocked customers of the coordinator';

CREATE FUNCTION profile_stream_internal.export_customer(customer_id text) RETURNS jsonb
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answer jsonb;
	result jsonb;
BEGIN
	FOR answer IN SELECT r.answer FROM profile_stream_internal.run_for_customer(customer_id, format('profile_stream.export_customer(%L)', customer_id)) r(answer) LOOP
		result := profile_stream_internal.joined_exports(result, answer);
	END LOOP;
	RETURN result;
END $$;
COMMENT ON FUNCTION profile_stream_internal.export_customer(text) IS 'export_customer() of profiles that Citus has distributed';

CREATE FUNCTION profile_stream_internal.joined_exports(one jsonb, other jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN COALESCE(one, 'null') = 'null' THEN other WHEN COALESCE(other, 'null') = 'null' THEN one
		WHEN jsonb_typeof(one) = 'array' THEN one || other
		WHEN jsonb_typeof(one) = 'number' THEN to_jsonb(one::numeric + other::numeric)
		WHEN jsonb_typeof(one) = 'boolean' THEN to_jsonb(one::boolean OR other::boolean)
		WHEN jsonb_typeof(one) = 'object' THEN (SELECT jsonb_object_agg(key, profile_stream_internal.joined_exports(one -> key, other -> key))
			FROM (SELECT jsonb_object_keys(one) AS key UNION SELECT jsonb_object_keys(other)) k)
		ELSE one END;
END $$;
COMMENT ON FUNCTION profile_stream_internal.joined_exports(jsonb, jsonb) IS 'What two nodes have about a customer, as one document; the profile is on one of them';

-- =====================================================================================================================
-- 22. What a monitor sees, and what all nodes have
-- =====================================================================================================================

-- An error may quote what an event says. So a monitor reads no table and no view: these functions have the rights of their owner, and hide errors.
CREATE FUNCTION profile_stream_internal.hide_error(has_error boolean, hides_hint boolean) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 10
	RETURN CASE WHEN has_error THEN '{"error": "hidden, because it may quote an event; members of profile_stream_reader see it"}'::jsonb ELSE '{}'::jsonb END
		|| CASE WHEN has_error AND hides_hint THEN '{"hint": null}'::jsonb ELSE '{}'::jsonb END;
COMMENT ON FUNCTION profile_stream_internal.hide_error(boolean, boolean) IS 'What a monitor sees in the place of an error, and of a hint that may be of code of users, as members of a row';

CREATE FUNCTION monitor_streams() RETURNS SETOF stat_streams
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		-- what code of users raises comes while a stream is retrying or running
		SELECT m.* FROM profile_stream.stat_streams s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, s.state = ANY (ARRAY['retrying', 'running']))) m;
	END;
COMMENT ON FUNCTION monitor_streams() IS 'The rows of stat_streams for who may see no personal data: errors are hidden';

CREATE FUNCTION monitor_partitions() RETURNS SETOF stat_partitions
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 100 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		SELECT m.* FROM profile_stream.stat_partitions s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, false)) m;
	END;
COMMENT ON FUNCTION monitor_partitions() IS 'The rows of stat_partitions for who may see no personal data: errors are hidden';

CREATE FUNCTION monitor_sinks() RETURNS SETOF stat_sinks
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		SELECT m.* FROM profile_stream.stat_sinks s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, false)) m;
	END;
COMMENT ON FUNCTION monitor_sinks() IS 'The rows of stat_sinks for who may see no personal data: errors are hidden';

CREATE FUNCTION monitor_workers() RETURNS SETOF stat_workers
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT * FROM profile_stream.stat_workers;
	END;
COMMENT ON FUNCTION monitor_workers() IS 'The rows of stat_workers for who may see no personal data';

CREATE FUNCTION monitor_log() RETURNS SETOF stream_log
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 1000 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT m.* FROM profile_stream.stream_log l CROSS JOIN LATERAL pg_catalog.jsonb_populate_record(l,
			CASE WHEN l.reason IS NOT NULL THEN '{"reason": "hidden, because it may quote an event; members of profile_stream_reader see it", "hint": null}'::jsonb ELSE '{}'::jsonb END) m;
	END;
COMMENT ON FUNCTION monitor_log() IS 'The rows of stream_log for who may see no personal data: reasons are hidden';

-- Not dumped: it tells of this server. The first worker of a stream writes it, see ingest/retention.c.
CREATE TABLE profile_stream_internal.storage_samples (
	schema name NOT NULL,
	"table" name NOT NULL,
	sampled_at timestamptz NOT NULL,
	bytes bigint NOT NULL,
	PRIMARY KEY (schema, "table", sampled_at)
);
COMMENT ON TABLE profile_stream_internal.storage_samples IS 'Sizes of the tables, and what is used of file systems, each hour of the last week while a stream runs';
COMMENT ON COLUMN profile_stream_internal.storage_samples.schema IS 'Schema of the table, or file system';
COMMENT ON COLUMN profile_stream_internal.storage_samples."table" IS 'Name of the table; of a file system data or WAL';
COMMENT ON COLUMN profile_stream_internal.storage_samples.sampled_at IS 'When the size was taken';
COMMENT ON COLUMN profile_stream_internal.storage_samples.bytes IS 'Bytes of the table and its indexes then, or used of the file system';

-- by an index, or for large tables as the last ANALYZE saw it
-- The planner of Citus would ask all nodes, also for a statement that does not run: this one is planned when it does.
CREATE FUNCTION profile_stream_internal.oldest_change() RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN NOT profile_stream_internal.is_distributed() THEN (SELECT c.changed_at FROM profile_stream.segment_changes c ORDER BY c.changed_at LIMIT 1) END;
END $$;
COMMENT ON FUNCTION profile_stream_internal.oldest_change() IS 'When the oldest row of segment_changes is of; NULL where Citus has distributed it';

CREATE FUNCTION profile_stream_internal.oldest_rows(OUT schema name, OUT "table" name, OUT oldest_at timestamptz) RETURNS SETOF record
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp SET datestyle = ISO
	BEGIN ATOMIC
		SELECT 'profile_stream_internal'::name, 'dead_letters'::name, (SELECT d.dead_at FROM profile_stream_internal.dead_letters d ORDER BY d.dead_letter_id LIMIT 1)
		UNION ALL SELECT 'profile_stream', 'stream_log', (SELECT l.logged_at FROM profile_stream.stream_log l ORDER BY l.log_id LIMIT 1)
		UNION ALL SELECT 'profile_stream', 'segment_changes', profile_stream_internal.oldest_change()
		UNION ALL SELECT p.schemaname, p.tablename, ((p.histogram_bounds::text)::timestamptz[])[1] FROM pg_catalog.pg_stats p
		WHERE p.schemaname = ANY (ARRAY['profile_stream', 'profile_stream_internal', 'profile_stream_rebuild']::name[]) AND NOT p.inherited
			AND (p.tablename = 'materialized_profiles' AND p.attname = 'first_event_at' OR p.tablename = 'window_chunks' AND p.attname = 'from_at'
				OR p.tablename LIKE 'profile_history%' AND p.attname = 'changed_at');
	END;
COMMENT ON FUNCTION profile_stream_internal.oldest_rows() IS 'When the oldest row of tables is of, as far as that can be told without reading them';

CREATE FUNCTION profile_stream_internal.table_sizes(relation oid, OUT table_bytes bigint, OUT index_bytes bigint, OUT rows bigint, OUT old_versions bigint, OUT autovacuumed_at timestamptz)
	AS 'MODULE_PATHNAME', 'ps_table_sizes' LANGUAGE c STRICT STABLE COST 1000;
COMMENT ON FUNCTION profile_stream_internal.table_sizes(oid) IS 'Sizes of a table; where Citus has distributed it, of its shards that are on this node';

CREATE VIEW stat_storage WITH (security_invoker = true) AS
	SELECT c.relname AS "table", n.nspname AS schema, pg_catalog.obj_description(c.oid, 'pg_class') AS holds,
		z.table_bytes, z.index_bytes, z.rows, z.old_versions, z.autovacuumed_at, o.oldest_at,
		((z.table_bytes + z.index_bytes - g.bytes)::numeric
			/ (EXTRACT(epoch FROM pg_catalog.now() - g.sampled_at) / 86400::numeric))::bigint AS growth_bytes_per_day
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL profile_stream_internal.table_sizes(c.oid) z
		LEFT JOIN profile_stream_internal.oldest_rows() o ON o.schema = n.nspname AND o."table" = c.relname
		LEFT JOIN LATERAL (SELECT x.bytes, x.sampled_at FROM profile_stream_internal.storage_samples x WHERE x.schema = n.nspname AND x."table" = c.relname
			AND x.sampled_at BETWEEN pg_catalog.now() - '7 days'::interval AND pg_catalog.now() - '1 hour'::interval
			ORDER BY x.sampled_at LIMIT 1) g ON true
	WHERE n.nspname = ANY (ARRAY['profile_stream', 'profile_stream_internal', 'profile_stream_rebuild']::name[]) AND c.relkind = ANY (ARRAY['r', 'p']::"char"[]);
COMMENT ON VIEW stat_storage IS 'Size of each table of the extension';
COMMENT ON COLUMN stat_storage."table" IS 'Name of the table';
COMMENT ON COLUMN stat_storage.schema IS 'Schema of the table; profile_stream_rebuild has the second copies of a rebuild';
COMMENT ON COLUMN stat_storage.holds IS 'What the table holds';
COMMENT ON COLUMN stat_storage.table_bytes IS 'Bytes of the table, with its long values';
COMMENT ON COLUMN stat_storage.index_bytes IS 'Bytes of its indexes';
COMMENT ON COLUMN stat_storage.rows IS 'Number of rows, as the last VACUUM or ANALYZE counted them; NULL: none has yet';
COMMENT ON COLUMN stat_storage.old_versions IS 'Old versions of rows that the next VACUUM removes, about';
COMMENT ON COLUMN stat_storage.autovacuumed_at IS 'When autovacuum last came; NULL: never';
COMMENT ON COLUMN stat_storage.oldest_at IS 'Time of the oldest row, as an index tells it, or for large tables as the last ANALYZE saw it; NULL: neither tells it';
COMMENT ON COLUMN stat_storage.growth_bytes_per_day IS 'How fast the table and its indexes grow, by hourly samples of at most the last week; NULL: none is an hour old yet';

CREATE FUNCTION profile_stream_internal.file_systems(OUT holds name, OUT bytes bigint, OUT free_bytes bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_file_systems' LANGUAGE c STRICT VOLATILE COST 1000 ROWS 2 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.file_systems() IS 'The file system of the data of this database, and that of WAL if it is another one: its size, and what is free of it';

CREATE VIEW profile_stream_internal.disks WITH (security_invoker = true) AS
	SELECT f.holds, f.bytes, f.free_bytes, g.sampled_at AS measured_since, x.growth_bytes_per_day,
		pg_catalog.round(f.free_bytes::numeric / NULLIF(GREATEST(x.growth_bytes_per_day, 0::bigint), 0::bigint)::numeric, 1)::double precision AS days_left
	FROM profile_stream_internal.file_systems() f
		LEFT JOIN LATERAL (SELECT y.bytes, y.sampled_at FROM profile_stream_internal.storage_samples y WHERE y.schema = 'file system'::name AND y."table" = f.holds
			AND y.sampled_at BETWEEN pg_catalog.now() - '7 days'::interval AND pg_catalog.now() - '1 hour'::interval
			ORDER BY y.sampled_at LIMIT 1) g ON true
		CROSS JOIN LATERAL (SELECT ((f.bytes - f.free_bytes - g.bytes)::numeric
			/ (EXTRACT(epoch FROM pg_catalog.now() - g.sampled_at) / 86400::numeric))::bigint AS growth_bytes_per_day) x;
COMMENT ON VIEW profile_stream_internal.disks IS 'How much is free of the file systems that this database grows on, and when they are full';
COMMENT ON COLUMN profile_stream_internal.disks.holds IS 'data, or WAL where it has a file system of its own';
COMMENT ON COLUMN profile_stream_internal.disks.bytes IS 'Bytes of the file system';
COMMENT ON COLUMN profile_stream_internal.disks.free_bytes IS 'Bytes that the server may still take of it';
COMMENT ON COLUMN profile_stream_internal.disks.measured_since IS 'Since when its growth is measured; NULL: not for an hour yet';
COMMENT ON COLUMN profile_stream_internal.disks.growth_bytes_per_day IS 'How much more of it is used a day, whoever uses it; NULL: not known yet';
COMMENT ON COLUMN profile_stream_internal.disks.days_left IS 'In how many days it is full, if that goes on; NULL: it does not grow, or that is not known yet';

CREATE FUNCTION storage_days_left(bytes bigint DEFAULT NULL) RETURNS double precision
	LANGUAGE sql STABLE SECURITY DEFINER COST 10000 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT CASE WHEN storage_days_left.bytes IS NULL THEN (SELECT pg_catalog.min(d.days_left) FROM profile_stream_internal.disks d)
			ELSE (SELECT pg_catalog.round((GREATEST(storage_days_left.bytes - pg_catalog.pg_database_size(pg_catalog.current_database()), 0::bigint)::numeric
				/ NULLIF(GREATEST(pg_catalog.sum(s.growth_bytes_per_day), 0::numeric), 0::numeric)), 1)::double precision FROM profile_stream.stat_storage s) END;
	END;
COMMENT ON FUNCTION storage_days_left(bigint) IS 'Days until the disk of the server is full, at its pace of now; with bytes: until this database has so many, at the pace of the extension''s tables; NULL: nothing grows, or it is not known yet';

-- Citus is asked by a statement of its own, because it need not be installed.
CREATE FUNCTION profile_stream_internal.has_no_shards() RETURNS boolean
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	result boolean := false;
BEGIN
	IF profile_stream_internal.is_distributed() THEN
		EXECUTE $sql$SELECT g.groupid <> 0 AND NOT EXISTS (SELECT FROM pg_dist_placement p JOIN pg_dist_shard s ON s.shardid = p.shardid
			WHERE p.groupid = g.groupid AND s.logicalrelid = 'profile_stream.materialized_profiles'::regclass) FROM pg_dist_local_group g$sql$ INTO result;
	END IF;
	RETURN result;
END $$;
COMMENT ON FUNCTION profile_stream_internal.has_no_shards() IS 'Whether this is a node of distributed profiles, not the coordinator, that has no shard of them: one that was drained';

-- What health() is made of: each row a problem. Compiling it would take seconds, so it runs without jit.
CREATE FUNCTION profile_stream_internal.stream_problems(OUT status text, OUT subject text, OUT problem text, OUT since timestamptz, OUT action text) RETURNS SETOF record
	LANGUAGE sql STABLE COST 10000 ROWS 2 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		WITH shown AS MATERIALIZED (SELECT * FROM profile_stream.stat_streams)
		SELECT CASE WHEN s.state = 'paused' THEN 'warning' ELSE 'error' END, pg_catalog.format('stream "%s"', s.stream),
			pg_catalog.format('is %s', s.state), s.since,
			COALESCE(CASE WHEN s.state <> 'retrying' THEN s.hint END, 'Read the columns error and hint of stat_streams.')
		FROM shown s
		WHERE s.state <> ALL (ARRAY['running', 'standby']) AND (s.state <> 'paused' OR s.error IS NOT NULL) AND COALESCE(s.since < pg_catalog.now() - '1 minute'::interval, true)
		UNION ALL
		-- a message that has just come to an idle stream is no problem
		SELECT 'error', pg_catalog.format('stream "%s"', s.stream), pg_catalog.format('has %s messages to read, and applies none', s.lag), s.committed_at,
			'Read the columns state and error of stat_partitions.'
		FROM shown s
		WHERE s.state = 'running' AND s.lag > 0 AND s.committed_at < pg_catalog.now() - '1 minute'::interval AND COALESCE(s.lag_seconds > 60::double precision, true)
		UNION ALL
		SELECT 'warning', pg_catalog.format('stream "%s"', s.stream), pg_catalog.format('is behind: %s messages to read', s.lag), s.last_message_at,
			'Wait; where this lasts, give it more workers with alter_stream().'
		FROM shown s WHERE s.state = 'running' AND s.lag > 0 AND s.committed_at >= pg_catalog.now() - '1 minute'::interval
			AND s.last_message_at < pg_catalog.now() - '5 minutes'::interval
		UNION ALL
		SELECT 'warning', pg_catalog.format('stream "%s"', s.stream), 'runs, but something of it does not go on', s.error_at, 'Read the columns error and hint of stat_streams.'
		FROM shown s WHERE s.state = 'running' AND s.error IS NOT NULL AND s.error_at < pg_catalog.now() - '1 minute'::interval
		UNION ALL
		SELECT 'error', pg_catalog.format('stream "%s", partition %s of topic "%s"', p.stream, p.partition, p.topic),
			CASE WHEN p.state <> 'running' THEN pg_catalog.format('is %s', p.state) ELSE 'does not go on' END, p.committed_at,
			'Read the column error of stat_partitions, and seek_stream() in the reference.'
		FROM profile_stream.stat_partitions p WHERE (p.state <> ALL (ARRAY['running', 'elsewhere']) OR p.error IS NOT NULL)
			AND NOT EXISTS (SELECT FROM profile_stream.stat_topics t WHERE t.stream = p.stream AND t.topic = p.topic AND t.state = 'left')
		UNION ALL
		SELECT 'warning', pg_catalog.format('topic "%s" of stream "%s"', t.topic, t.stream), pg_catalog.format('is %s', t.state), t.since, t.hint
		FROM profile_stream.stat_topics t JOIN shown s ON s.stream = t.stream
		WHERE s.state = 'running' AND t.error IS NOT NULL AND t.since < pg_catalog.now() - '1 minute'::interval
		UNION ALL
		SELECT 'warning', pg_catalog.format('order of stream "%s"', s.name), 'events of a customer may be applied in a wrong order: they come from several partitions', h.order_logged_at,
			'Have producers use the customer as key: see Keys and partitions in the reference.'
		FROM profile_stream_internal.stream_status h JOIN profile_stream.streams s ON s.stream_id = h.stream_id
		WHERE h.order_logged_at > pg_catalog.now() - '10 minutes'::interval
		UNION ALL
		SELECT 'warning', pg_catalog.format('processes of stream "%s"', s.name), pg_catalog.format('%s restarts, less than ten minutes apart', pg_catalog.sum(c.restarts_in_row)), pg_catalog.min(c.restarting_since),
			'Read in the log of the server why they end. A change of options restarts them, too.'
		FROM profile_stream_internal.process_counters c JOIN profile_stream.streams s ON s.stream_id = c.stream_id
		WHERE c.restarted_at > pg_catalog.now() - '10 minutes'::interval GROUP BY s.name HAVING pg_catalog.max(c.restarts_in_row) >= 3
		UNION ALL
		SELECT 'warning', CASE l.what WHEN 'sink' THEN pg_catalog.format('sink "%s" of stream "%s"', l.part, l.stream) ELSE pg_catalog.format('stream "%s"', l.stream) END,
			pg_catalog.format('began to retry %s times within an hour', pg_catalog.count(*)), pg_catalog.min(l.logged_at), 'Read the reasons in stream_log.'
		FROM (SELECT x.* FROM profile_stream.stream_log x ORDER BY x.log_id DESC LIMIT 1000) l
		WHERE l.logged_at > pg_catalog.now() - '1 hour'::interval AND l.what = ANY (ARRAY['stream', 'sink']) AND l.to_state = 'retrying' AND l.from_state = ANY (ARRAY['running', 'idle'])
		GROUP BY l.what, l.part, l.stream HAVING pg_catalog.count(*) >= 5
		UNION ALL
		SELECT 'warning', pg_catalog.format('dead letters of stream "%s"', d.stream), pg_catalog.format('%s%s in the last ten minutes', pg_catalog.count(*), CASE WHEN pg_catalog.count(*) >= 1000 THEN ' or more' END),
			pg_catalog.min(d.dead_at), 'Read the columns kind and errors of dead_letters; retry_dead_letters() once the reason is gone.'
		FROM (SELECT l.stream, l.dead_at FROM profile_stream_internal.dead_letters l ORDER BY l.dead_letter_id DESC LIMIT 1000) d
		WHERE d.dead_at > pg_catalog.now() - '10 minutes'::interval GROUP BY d.stream HAVING pg_catalog.count(*) >= 10
		UNION ALL
		SELECT 'warning', 'dead letters', pg_catalog.format('%s are on this node, which has no shards: they are gone with it when it is removed', pg_catalog.count(*)), pg_catalog.min(l.dead_at),
			'Call move_dead_letters() here before citus_remove_node().'
		FROM profile_stream_internal.dead_letters l WHERE profile_stream_internal.has_no_shards() HAVING pg_catalog.count(*) > 0;
	END;
COMMENT ON FUNCTION profile_stream_internal.stream_problems() IS 'What health() says of streams, their partitions, topics, processes and dead letters';

CREATE FUNCTION profile_stream_internal.work_problems(OUT status text, OUT subject text, OUT problem text, OUT since timestamptz, OUT action text) RETURNS SETOF record
	LANGUAGE sql STABLE COST 10000 ROWS 2 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		WITH shown AS MATERIALIZED (SELECT x.*, COALESCE(x.delivered_at < pg_catalog.now() - '1 minute'::interval, true) AS stalled FROM profile_stream.stat_sinks x)
		SELECT 'error', pg_catalog.format('sink "%s" of stream "%s"', k.sink, k.stream), pg_catalog.format('is %s; %s wait', k.state, k.backlog), k.since,
			COALESCE(k.hint, 'Read the column error of stat_sinks.')
		FROM shown k JOIN profile_stream.stat_streams s ON s.stream = k.stream
		WHERE s.state = 'running' AND k.state <> ALL (ARRAY['running', 'idle']) AND COALESCE(k.since < pg_catalog.now() - '1 minute'::interval, true)
		UNION ALL
		SELECT CASE WHEN k.stalled THEN 'error' ELSE 'warning' END, pg_catalog.format('sink "%s" of stream "%s"', k.sink, k.stream),
			pg_catalog.format(CASE WHEN k.stalled THEN 'has %s to deliver, and delivers none' ELSE 'is behind: %s wait' END, k.backlog),
			pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => k.lag_seconds),
			CASE WHEN k.stalled THEN 'Look what its relay_pid does, and end that with pg_terminate_backend(): another one begins.' ELSE 'Wait; where this lasts, see how fast the sink takes what it gets.' END
		FROM shown k
		WHERE k.state = ANY (ARRAY['running', 'idle']) AND k.backlog > 0 AND k.lag_seconds > CASE WHEN k.stalled THEN 60 ELSE 300 END::double precision
		UNION ALL
		SELECT 'warning', pg_catalog.format('sink "%s" of stream "%s"', k.sink, k.stream), pg_catalog.format('did not take %s', k.refused), k.stats_reset,
			'A message is too large for the topic, or a key of Redis holds something else. Once that is mended, resync_sink() delivers it and stat_reset() counts anew.'
		FROM shown k WHERE k.refused > 0
		UNION ALL
		SELECT 'warning', pg_catalog.format('backfill "%s" of stream "%s"', b.name, b.stream), pg_catalog.format('is %s', b.state), b.started_at,
			COALESCE(b.hint, 'Read the column error of stat_backfills.')
		FROM profile_stream.stat_backfills b WHERE b.state = ANY (ARRAY['failed', 'interrupted'])
		UNION ALL
		SELECT 'warning', pg_catalog.format('%s "%s"', c.kind, c.name), CASE WHEN c.state <> 'ok' THEN pg_catalog.format('does not run: %s', c.state) ELSE 'fails' END, c.failing_since,
			COALESCE(c.hint, 'Read the column error of stat_code.')
		FROM profile_stream.stat_code c WHERE c.state <> 'ok' OR c.failing_since IS NOT NULL
		UNION ALL
		SELECT 'warning', 'refresh of scores', CASE WHEN r.state = ANY (ARRAY['failed', 'interrupted']) THEN r.state ELSE pg_catalog.format('could not score %s profiles', r.profiles_failed) END, r.started_at,
			'Read the column error of stat_score_refresh, and call refresh_scores().'
		FROM profile_stream.stat_score_refresh r WHERE r.state = ANY (ARRAY['failed', 'interrupted']) OR r.profiles_failed > 0
		UNION ALL
		SELECT 'warning', pg_catalog.format('rebuild of stream "%s"', r.stream), pg_catalog.format('is %s', r.state), NULL, 'Read the columns error and hint of stat_rebuilds.'
		FROM profile_stream.stat_rebuilds r WHERE r.error IS NOT NULL;
	END;
COMMENT ON FUNCTION profile_stream_internal.work_problems() IS 'What health() says of sinks, backfills, code of users, scores and rebuilds';

CREATE FUNCTION profile_stream_internal.server_problems(OUT status text, OUT subject text, OUT problem text, OUT since timestamptz, OUT action text) RETURNS SETOF record
	LANGUAGE sql STABLE COST 10000 ROWS 1 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT 'warning', pg_catalog.format('process %s', a.pid), 'holds a snapshot, so that tables grow', a.xact_start,
			'End it with pg_terminate_backend(), or run long reports on a standby.'
		FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() AND a.backend_xmin IS NOT NULL AND a.xact_start < pg_catalog.now() - '15 minutes'::interval
		UNION ALL
		-- an hour may be that of a backup, but nobody should wait a day where the disk is full by then
		SELECT CASE WHEN d.days_left < 1::double precision THEN 'error' ELSE 'warning' END, pg_catalog.format('disk of %s', d.holds),
			pg_catalog.format('is full in %s days: %s are free, and %s more are used a day', d.days_left, pg_catalog.pg_size_pretty(d.free_bytes), pg_catalog.pg_size_pretty(d.growth_bytes_per_day)),
			d.measured_since, 'Make room, or keep less: growth_bytes_per_day of stat_storage says which tables grow, and Sizing in the documents what bounds them.'
		FROM profile_stream_internal.disks d
		WHERE d.days_left < CASE WHEN d.measured_since < pg_catalog.now() - '23 hours'::interval THEN 14 ELSE 1 END::double precision
		UNION ALL
		SELECT 'error', 'profile_stream', pg_catalog.format('its objects here are of version %s, and the library of the server is of %s', v.extension, v.library), NULL,
			CASE WHEN pg_catalog.string_to_array(v.extension, '.')::int[] OPERATOR(pg_catalog.<) pg_catalog.string_to_array(v.library, '.')::int[] THEN 'Call ALTER EXTENSION profile_stream UPDATE.' ELSE 'Restart the server, so that it loads the new library.' END
		FROM (SELECT x.v ->> 'extension'::text AS extension, x.v ->> 'library'::text AS library FROM (SELECT profile_stream.version() AS v OFFSET 0) x) v
		WHERE v.extension <> v.library
		UNION ALL
		SELECT 'error', pg_catalog.format('table %s.%s', n.nspname, c.relname), 'is not logged: a crash of the server empties it, and a standby does not have it', NULL,
			pg_catalog.format('Call ALTER TABLE %I.%I SET LOGGED.', n.nspname, c.relname)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = ANY (ARRAY['profile_stream', 'profile_stream_internal', 'profile_stream_rebuild']::name[]) AND c.relkind = 'r'::"char" AND c.relpersistence = 'u'::"char"
		UNION ALL
		SELECT 'warning', 'server', 'does not start streams by itself', pg_catalog.pg_postmaster_start_time(), 'Add profile_stream to shared_preload_libraries, and restart the server.'
		WHERE EXISTS (SELECT FROM profile_stream.streams) AND pg_catalog.current_setting('shared_preload_libraries') !~ E'\\mprofile_stream\\M'
		UNION ALL
		SELECT 'warning', 'librdkafka', profile_stream_internal.library_warning(), pg_catalog.pg_postmaster_start_time(), 'Read Installation in the documents.'
		WHERE profile_stream_internal.library_warning() IS NOT NULL;
	END;
COMMENT ON FUNCTION profile_stream_internal.server_problems() IS 'What health() says of the server: old snapshots, disks, versions, tables that are not logged, libraries';

CREATE FUNCTION health(OUT status text, OUT subject text, OUT problem text, OUT since timestamptz, OUT action text) RETURNS SETOF record
	LANGUAGE sql STABLE SECURITY DEFINER COST 10000 ROWS 5 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		WITH found AS (
			SELECT * FROM profile_stream_internal.stream_problems()
			UNION ALL SELECT * FROM profile_stream_internal.work_problems()
			UNION ALL SELECT * FROM profile_stream_internal.server_problems()
		)
		SELECT f.status, f.subject, f.problem, f.since, f.action FROM (
			SELECT 1 AS rank, f.* FROM found f WHERE f.status = 'error'
			UNION ALL SELECT 2, f.* FROM found f WHERE f.status <> 'error'
			UNION ALL SELECT 3, 'ok', 'profile_stream', 'nothing is wrong', NULL, NULL WHERE NOT EXISTS (SELECT FROM found)) f
		ORDER BY f.rank, f.subject, f.problem;
	END;
COMMENT ON FUNCTION health() IS 'What is wrong here, since when, and what to do, errors before warnings, without personal data; one row with the status ok when nothing is wrong';

-- What an analyst may see: nothing by which a person is reached or named. Sums have a type that every tool takes: four decimals are enough for each currency,
-- and a sum that is too long for it is shown as the greatest one instead of failing.
CREATE VIEW bi_profiles WITH (security_invoker = true) AS
	SELECT p.customer_id, p.version AS events, p.first_event_at, p.watermark AS last_event_at,
		LEAST(GREATEST(p.total_balance, -9999999999999999999999999999999999.9999), 9999999999999999999999999999999999.9999)::numeric(38,4) AS total_balance,
		p.account_count, p.last_transaction_at,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'transaction_count_30d', pg_catalog.now()) AS transaction_count_30d,
		LEAST(GREATEST(profile_stream.window_value(p.customer_id, p.window_state, 'total_transaction_value_30d', pg_catalog.now()),
			-9999999999999999999999999999999999.9999), 9999999999999999999999999999999999.9999)::numeric(38,4) AS total_transaction_value_30d,
		p.last_login_at,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'login_count_7d', pg_catalog.now()) AS login_count_7d,
		NULLIF(p.preferred_channel, '') AS preferred_channel,
		profile_stream_internal.window_count(p.customer_id, p.window_state, 'support_ticket_count_90d', pg_catalog.now()) AS support_ticket_count_90d,
		CASE WHEN p.scored_at IS NOT NULL OR p.segment <> 'unknown' THEN p.segment END AS segment,
		CASE WHEN p.scored_at IS NOT NULL OR p.churn_risk_score <> 0::float8 THEN p.churn_risk_score END AS churn_risk_score,
		(CASE WHEN p.scored_at IS NOT NULL OR p.lifetime_value <> 0::numeric
			THEN LEAST(GREATEST(p.lifetime_value, -9999999999999999999999999999999999.9999), 9999999999999999999999999999999999.9999) END)::numeric(38,4) AS lifetime_value,
		p.scored_at, p.event_counts, profile_stream.commit_time(p.xmin) AS changed_at
	FROM profile_stream.materialized_profiles p;
COMMENT ON VIEW bi_profiles IS 'Profiles for analysts: no names, addresses or attributes, NULL for what is not known, and sums with four decimals';
COMMENT ON COLUMN bi_profiles.events IS 'Number of events that were applied to the profile';
COMMENT ON COLUMN bi_profiles.last_event_at IS 'Timestamp of the customer''s newest event';
COMMENT ON COLUMN bi_profiles.total_balance IS 'Sum of the initial balances of accounts, with what maps and handlers make of it, to four decimals and at most 34 digits before them';
COMMENT ON COLUMN bi_profiles.transaction_count_30d IS 'Number of completed transactions in the last 30 days';
COMMENT ON COLUMN bi_profiles.total_transaction_value_30d IS 'Sum of completed transactions in the last 30 days, to four decimals and at most 34 digits before them';
COMMENT ON COLUMN bi_profiles.login_count_7d IS 'Number of logins in the last 7 days';
COMMENT ON COLUMN bi_profiles.support_ticket_count_90d IS 'Number of support tickets in the last 90 days';
COMMENT ON COLUMN bi_profiles.lifetime_value IS 'Expected value of the customer, of the last refresh of scores, to four decimals and at most 34 digits before them; NULL: not scored yet';

-- It has the rights of its owner, so that who may see the masked text needs no right on the whole one. Which customers the view shows is up to its reader.
CREATE FUNCTION profile_stream_internal.masked(customer_id text, contact text) RETURNS text
	AS 'MODULE_PATHNAME', 'ps_masked' LANGUAGE c STABLE STRICT PARALLEL SAFE SECURITY DEFINER COST 1000 SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.masked(text, text) IS 'The column of a customer by which a person is named or reached, as a***: what masked_profiles shows';

CREATE VIEW masked_profiles WITH (security_invoker = true) AS
	SELECT p.customer_id, profile_stream_internal.masked(p.customer_id, 'first_name') AS first_name, profile_stream_internal.masked(p.customer_id, 'last_name') AS last_name,
		profile_stream_internal.masked(p.customer_id, 'email') AS email, profile_stream_internal.masked(p.customer_id, 'phone') AS phone,
		p.events, p.first_event_at, p.last_event_at, p.total_balance, p.account_count, p.last_transaction_at, p.transaction_count_30d, p.total_transaction_value_30d,
		p.last_login_at, p.login_count_7d, p.preferred_channel, p.support_ticket_count_90d, p.segment, p.churn_risk_score, p.lifetime_value, p.scored_at, p.event_counts, p.changed_at
	FROM profile_stream.bi_profiles p;
COMMENT ON VIEW masked_profiles IS 'bi_profiles with names, address and telephone number masked: enough to recognise a customer, not to reach him';
COMMENT ON COLUMN masked_profiles.first_name IS 'First letter of the first name, and ***; NULL: not known';
COMMENT ON COLUMN masked_profiles.last_name IS 'First letter of the last name, and ***; NULL: not known';
COMMENT ON COLUMN masked_profiles.email IS 'Email address as a***@example.com; NULL: not known';
COMMENT ON COLUMN masked_profiles.phone IS '*** and the last two characters of the telephone number, if it has more than five; NULL: not known';

CREATE FUNCTION profile_stream_internal.is_distributed() RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_is_distributed' LANGUAGE c STABLE;
COMMENT ON FUNCTION profile_stream_internal.is_distributed() IS 'Whether distribute() has distributed the profiles';

-- Views over all nodes of Citus. Each node answers with the rights of who asks; one that does not answer is a row that says so.
CREATE FUNCTION profile_stream_internal.rows_of_nodes(source text, everywhere boolean, OUT node text, OUT node_error text, OUT answer jsonb) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE STRICT COST 10000 ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	question CONSTANT text := format('SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(r)), ''[]'') FROM %s r', source);
BEGIN
	-- a monitor may not use schema profile_stream_internal, so nothing of that is named here
	IF NOT everywhere THEN
		EXECUTE question INTO answer;
		RETURN NEXT;
		RETURN;
	END IF;
	RETURN QUERY EXECUTE $sql$
		SELECT COALESCE(n.nodename || ':' || n.nodeport, 'coordinator'), CASE WHEN NOT r.success THEN r.result END, CASE WHEN r.success THEN r.result::jsonb ELSE '[{}]' END
		FROM run_command_on_all_nodes($1) r LEFT JOIN pg_dist_node n ON n.nodeid = r.nodeid ORDER BY 1$sql$ USING question;
END $$;
COMMENT ON FUNCTION profile_stream_internal.rows_of_nodes(text, boolean) IS 'Rows of a view or function as a JSON array, of this node or of each node of Citus; of a node that does not answer one empty row, and why';

-- A right on the view is one to see errors, which quote events. Others see the rows without them.
CREATE VIEW node_streams WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes(CASE WHEN pg_catalog.has_table_privilege('profile_stream.stat_streams', 'SELECT')
			THEN 'profile_stream.stat_streams' ELSE 'profile_stream.monitor_streams()' END, profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_streams, n.answer) r;
COMMENT ON VIEW node_streams IS 'stat_streams of all nodes of distributed profiles; without Citus of this server';
COMMENT ON COLUMN node_streams.node IS 'Host and port of the node; NULL: the profiles are not distributed';
COMMENT ON COLUMN node_streams.node_error IS 'Why the node does not answer, the only column of its row beside node; NULL: it does';

CREATE VIEW node_partitions WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes(CASE WHEN pg_catalog.has_table_privilege('profile_stream.stat_partitions', 'SELECT')
			THEN 'profile_stream.stat_partitions' ELSE 'profile_stream.monitor_partitions()' END, profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_partitions, n.answer) r;
COMMENT ON VIEW node_partitions IS 'stat_partitions of all nodes of distributed profiles; without Citus of this server';

CREATE VIEW node_sinks WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes(CASE WHEN pg_catalog.has_table_privilege('profile_stream.stat_sinks', 'SELECT')
			THEN 'profile_stream.stat_sinks' ELSE 'profile_stream.monitor_sinks()' END, profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_sinks, n.answer) r;
COMMENT ON VIEW node_sinks IS 'stat_sinks of all nodes of distributed profiles; without Citus of this server';

CREATE VIEW node_topics WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes('profile_stream.stat_topics', profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_topics, n.answer) r;
COMMENT ON VIEW node_topics IS 'stat_topics of all nodes of distributed profiles; without Citus of this server';

CREATE VIEW node_score_refresh WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes('profile_stream.stat_score_refresh', profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_score_refresh, n.answer) r;
COMMENT ON VIEW node_score_refresh IS 'stat_score_refresh of all nodes of distributed profiles; without Citus of this server';

-- without the messages, which may be large
CREATE VIEW node_dead_letters WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.dead_letter_id, r.stream, r.topic, r.partition, r.kafka_offset, r.kafka_timestamp, r.kind, r.errors, r.sqlstate, r.customer_id, r.event_id,
		r.event_type, r.dead_at, r.attempts, r.last_error_at
	FROM profile_stream_internal.rows_of_nodes('(SELECT d.dead_letter_id, d.stream, d.topic, d.partition, d.kafka_offset, d.kafka_timestamp, d.kind, d.errors, d.sqlstate, d.customer_id,'
			' d.event_id, d.event_type, d.dead_at, d.attempts, d.last_error_at FROM profile_stream.dead_letters d ORDER BY d.dead_letter_id DESC LIMIT 10000)',
			profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.dead_letters, n.answer) r;
COMMENT ON VIEW node_dead_letters IS 'The newest 10,000 dead letters of each node of distributed profiles, without their messages; without Citus of this server';

CREATE VIEW node_health WITH (security_invoker = true) AS
	SELECT n.node, COALESCE(r.status, 'error') AS status, COALESCE(r.subject, 'node') AS subject, COALESCE(r.problem, n.node_error) AS problem, r.since,
		CASE WHEN n.node_error IS NULL THEN r.action ELSE 'See that the node runs and lets this one in. Its customers stand still meanwhile, the others go on.' END AS action
	FROM profile_stream_internal.rows_of_nodes('profile_stream.health()', profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(n.answer) r(status text, subject text, problem text, since timestamptz, action text);
COMMENT ON VIEW node_health IS 'health() of all nodes of distributed profiles; without Citus of this server';
COMMENT ON COLUMN node_health.node IS 'Host and port of the node; NULL: the profiles are not distributed';
COMMENT ON COLUMN node_health.status IS 'error, warning or ok; error also of a node that does not answer';
COMMENT ON COLUMN node_health.subject IS 'What it is about, as health() has it; node: the node does not answer';
COMMENT ON COLUMN node_health.problem IS 'What is wrong with it';
COMMENT ON COLUMN node_health.since IS 'Since when; NULL: that is not known';
COMMENT ON COLUMN node_health.action IS 'What to do; NULL: nothing';

-- A column of a view without a COMMENT gets that of the column of the same name in the table or view that it shows.
DO $$
DECLARE
	pair record;
	shown record;
BEGIN
	FOR pair IN
		SELECT c.view::pg_catalog.regclass, c.source::pg_catalog.regclass
		FROM (VALUES
			(1, 'profile_stream.dead_letters', 'profile_stream_internal.dead_letters'),
			(2, 'profile_stream.profiles', 'profile_stream.materialized_profiles'),
			(3, 'profile_stream.profile_documents', 'profile_stream.materialized_profiles'),
			(4, 'profile_stream.bi_profiles', 'profile_stream.profiles'),
			(5, 'profile_stream.masked_profiles', 'profile_stream.bi_profiles'),
			(6, 'profile_stream.stat_partitions', 'profile_stream_internal.stream_offsets'),
			(7, 'profile_stream.stat_topics', 'profile_stream_internal.stream_topics'),
			(8, 'profile_stream_internal.score_parameters', 'profile_stream_internal.score_settings'),
			(9, 'profile_stream.stat_score_refresh', 'profile_stream_internal.score_refresh'),
			(10, 'profile_stream.stat_streams', 'profile_stream_internal.stream_status'),
			(11, 'profile_stream.stat_sinks', 'profile_stream_internal.sink_status'),
			(12, 'profile_stream.stat_backfills', 'profile_stream_internal.backfills'),
			(13, 'profile_stream.node_streams', 'profile_stream.stat_streams'),
			(14, 'profile_stream.node_partitions', 'profile_stream.stat_partitions'),
			(15, 'profile_stream.node_topics', 'profile_stream.stat_topics'),
			(16, 'profile_stream.node_dead_letters', 'profile_stream.dead_letters'),
			(17, 'profile_stream.node_partitions', 'profile_stream.node_streams'),
			(18, 'profile_stream.node_topics', 'profile_stream.node_streams'),
			(19, 'profile_stream.node_dead_letters', 'profile_stream.node_streams'),
			(20, 'profile_stream.node_sinks', 'profile_stream.stat_sinks'),
			(21, 'profile_stream.node_sinks', 'profile_stream.node_streams'),
			(22, 'profile_stream.node_score_refresh', 'profile_stream.stat_score_refresh'),
			(23, 'profile_stream.node_score_refresh', 'profile_stream.node_streams')) AS c(n, view, source)
		ORDER BY c.n USING OPERATOR(pg_catalog.<)
	LOOP
		FOR shown IN
			SELECT a.attname, pg_catalog.col_description(b.attrelid, b.attnum) AS description
			FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) pair.source
				AND b.attname OPERATOR(pg_catalog.=) a.attname AND b.attnum OPERATOR(pg_catalog.>) 0
			WHERE a.attrelid OPERATOR(pg_catalog.=) pair.view AND a.attnum OPERATOR(pg_catalog.>) 0 AND pg_catalog.col_description(a.attrelid, a.attnum) IS NULL
		LOOP
			EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', pair.view, shown.attname, shown.description);
		END LOOP;
	END LOOP;
END
$$;

-- =====================================================================================================================
-- 23. Slices: profiles on several servers (api/slices.c)
-- =====================================================================================================================

CREATE FUNCTION kafka_partition(key text, partitions int, partitioner text DEFAULT 'murmur2') RETURNS int
	AS 'MODULE_PATHNAME', 'ps_kafka_partition' LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION kafka_partition(text, int, text) IS 'Partition that a producer chooses for a key: murmur2, as Java''s producers do, or consistent, as librdkafka''s do by default';

CREATE FUNCTION prune_slice(keep int[], partitions int, partitioner text DEFAULT 'murmur2') RETURNS bigint
	AS 'MODULE_PATHNAME', 'ps_prune_slice' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION prune_slice(int[], int, text) IS 'Remove the customers whose key leads to none of the partitions to keep, after another server took them: no sink and no client is told; returns how many profiles';

CREATE FUNCTION profile_stream_internal.cluster_mark() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN 'Of a cluster view; profile_stream.create_cluster_view() makes it again';
COMMENT ON FUNCTION profile_stream_internal.cluster_mark() IS 'Comment on everything that create_cluster_view() makes, by which it is known again';

-- a foreign table has the columns but those whose values name objects of their own server
CREATE FUNCTION profile_stream_internal.cluster_columns(relation oid, OUT definitions text, OUT names text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT pg_catalog.string_agg(pg_catalog.format('%I %s%s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
				CASE WHEN c.oid <> t.typcollation THEN pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) END), ', ' ORDER BY a.attnum),
			pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			LEFT JOIN (pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace) ON c.oid = a.attcollation
		WHERE a.attrelid = cluster_columns.relation AND a.attnum > 0 AND NOT a.attisdropped AND t.typname !~ '^_?reg';
	END;
COMMENT ON FUNCTION profile_stream_internal.cluster_columns(oid) IS 'Columns of a relation as a foreign table has them, and their names';

CREATE FUNCTION profile_stream_internal.cluster_relations(own regclass[], OUT source regclass, OUT name name, OUT united boolean, OUT definitions text, OUT names text)
	RETURNS SETOF record LANGUAGE sql STABLE ROWS 15 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT r.source, c.relname, r.united, x.definitions, x.names
		FROM (SELECT u.source, true AS united FROM pg_catalog.unnest(ARRAY['profile_stream.profiles', 'profile_stream.profile_documents', 'profile_stream.bi_profiles',
					'profile_stream.profile_metrics', 'profile_stream.metric_totals', 'profile_stream.segment_members', 'profile_stream.stat_streams',
					'profile_stream.stat_partitions', 'profile_stream.stat_topics']::regclass[] || cluster_relations.own) u(source)
				UNION ALL SELECT k.source, false FROM pg_catalog.unnest(ARRAY['profile_stream.streams', 'profile_stream.definitions', 'profile_stream.stat_code',
					'pg_catalog.pg_extension']::regclass[]) k(source)) r
			JOIN pg_catalog.pg_class c ON c.oid = r.source::oid CROSS JOIN LATERAL profile_stream_internal.cluster_columns(r.source) x;
	END;
COMMENT ON FUNCTION profile_stream_internal.cluster_relations(regclass[]) IS 'Relations that are read on every server, with the user''s own: those that become views, and those that cluster_check() compares';

-- Its owner is asked for, because reading the views of a schema that somebody else has prepared would run what he wants. A superuser
-- thus reads only what superusers have made.
CREATE FUNCTION profile_stream_internal.is_cluster_view(schema_name name, to_read boolean) RETURNS boolean
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspowner = c.relowner
			WHERE n.nspname = is_cluster_view.schema_name AND c.relname = 'cluster_servers'
				AND pg_catalog.obj_description(c.oid, 'pg_class') = profile_stream_internal.cluster_mark()
				AND pg_catalog.pg_has_role(c.relowner, 'profile_stream_operator', 'USAGE')
				AND (NOT is_cluster_view.to_read OR EXISTS (SELECT FROM pg_catalog.pg_roles o JOIN pg_catalog.pg_roles r ON o.rolsuper OR NOT r.rolsuper WHERE o.oid = c.relowner AND r.rolname = current_user)));
	END;
COMMENT ON FUNCTION profile_stream_internal.is_cluster_view(name, boolean) IS 'Whether a schema has a cluster view that belongs to an operator; to_read: and, for a superuser, to a superuser';

CREATE FUNCTION profile_stream_internal.check_cluster_view(schema_name name, is_cluster_view boolean) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT is_cluster_view THEN
		RAISE EXCEPTION 'schema "%" has no cluster view', schema_name USING ERRCODE = 'undefined_object',
			HINT = 'An operator makes one with create_cluster_view(). A superuser reads only those that superusers have made, or becomes another role with SET ROLE.';
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.check_cluster_view(name, boolean) IS 'Raises unless a schema has a cluster view';

-- The relation of that name in the schema, or NULL; raises when it is none of ours.
CREATE FUNCTION profile_stream_internal.cluster_object(schema_name name, name text, kind "char") RETURNS oid
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found record;
BEGIN
	SELECT c.oid, c.relkind = cluster_object.kind AND c.relowner = to_regrole(quote_ident(current_user)) AND obj_description(c.oid, 'pg_class') = profile_stream_internal.cluster_mark() AS is_ours INTO found
		FROM pg_class c WHERE c.oid = to_regclass(format('%I.%I', cluster_object.schema_name, cluster_object.name));
	IF found.oid IS NOT NULL AND found.is_ours IS NOT TRUE THEN
		RAISE EXCEPTION '%.% exists and is not of a cluster view of yours', quote_ident(cluster_object.schema_name), quote_ident(cluster_object.name)
			USING ERRCODE = 'duplicate_table', HINT = 'Give another schema_name, or rename what is there.';
	END IF;
	RETURN found.oid;
END $$;
COMMENT ON FUNCTION profile_stream_internal.cluster_object(name, text, "char") IS 'A relation that create_cluster_view() made, or NULL; raises when something else has the name';

-- Where a relation of a server is read: here for the local one, else through its foreign table.
CREATE FUNCTION profile_stream_internal.cluster_source(schema_name name, source regclass, name name, server name, is_local boolean) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	RETURN CASE WHEN cluster_source.is_local THEN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = cluster_source.source::oid)
		ELSE pg_catalog.format('%I.%I', cluster_source.schema_name, cluster_source.name::text || '_' || cluster_source.server::text) END;
COMMENT ON FUNCTION profile_stream_internal.cluster_source(name, regclass, name, name, boolean) IS 'Text by which a statement names a relation of a server';

CREATE FUNCTION profile_stream_internal.check_cluster_servers(servers name[], local_server name, relations regclass[]) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wrong text;
BEGIN
	IF cardinality(servers) > 0 IS NOT TRUE OR array_position(servers, NULL) IS NOT NULL OR local_server = ANY (servers)
			OR (SELECT count(DISTINCT s) < cardinality(servers) FROM unnest(servers) s) THEN
		RAISE EXCEPTION 'servers must name one foreign server or more, each once' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The server where the view is made is not among them: local_server gives it a name when it has a slice, too.';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'postgres_fdw') THEN
		RAISE EXCEPTION 'extension postgres_fdw does not exist in this database' USING ERRCODE = 'undefined_object',
			HINT = 'CREATE EXTENSION postgres_fdw; it comes with PostgreSQL''s contrib modules.';
	END IF;
	SELECT s INTO wrong FROM unnest(servers) s WHERE NOT EXISTS (SELECT FROM pg_foreign_server f JOIN pg_foreign_data_wrapper w ON w.oid = f.srvfdw
		JOIN pg_proc p ON p.oid = w.fdwhandler WHERE f.srvname = s AND p.proname = 'postgres_fdw_handler') LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'server "%" of postgres_fdw does not exist', wrong USING ERRCODE = 'undefined_object',
			HINT = 'CREATE SERVER ... FOREIGN DATA WRAPPER postgres_fdw, and a user mapping for who reads.';
	END IF;
	SELECT r.name || '_' || s INTO wrong FROM profile_stream_internal.cluster_relations(relations) r, unnest(servers) s WHERE octet_length(r.name || '_' || s) > 63 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the name "%" would have more than 63 bytes', wrong USING ERRCODE = 'name_too_long', HINT = 'Give the server a shorter name.';
	END IF;
	SELECT r.source::text INTO wrong FROM profile_stream_internal.cluster_relations(relations) r
		WHERE r.name = 'cluster_servers' OR (SELECT count(*) FROM profile_stream_internal.cluster_relations(relations) o WHERE o.name = r.name) > 1
			OR r.united AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.source AND a.attname = 'server' AND a.attnum > 0) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'relation % cannot be in the cluster view', wrong USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Its name must be one that no other relation there has, and none of its columns may be called server.';
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.check_cluster_servers(name[], name, regclass[]) IS 'Raises unless create_cluster_view() can make views of these servers and relations';

-- Makes the foreign tables and the view of one relation. Who could read the relation before can read it afterwards, on the new servers, too.
CREATE FUNCTION profile_stream_internal.make_cluster_relation(schema_name name, servers name[], local_server name, source regclass, name name, united boolean, definitions text, names text)
	RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	mark CONSTANT text := profile_stream_internal.cluster_mark();
	existing oid := CASE WHEN united THEN profile_stream_internal.cluster_object(schema_name, name, 'v') END;
	readers CONSTANT aclitem[] := (SELECT c.relacl FROM pg_class c WHERE c.oid = COALESCE(existing, to_regclass(format('%I.cluster_servers', schema_name))));
	origin CONSTANT record := (SELECT ROW(n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source);
	made text[] := '{}';
	server name;
	foreign_table oid;
	target text;
	privilege record;
BEGIN
	-- other columns than before, as after an update of the extension, or a server that was renamed: both anew
	IF EXISTS (SELECT FROM unnest(servers) s, LATERAL profile_stream_internal.cluster_object(schema_name, name || '_' || s, 'f') o
				JOIN pg_foreign_table f ON f.ftrelid = o JOIN pg_foreign_server r ON r.oid = f.ftserver
			WHERE r.srvname <> s OR (SELECT x.definitions FROM profile_stream_internal.cluster_columns(o) x) IS DISTINCT FROM make_cluster_relation.definitions) THEN
		IF existing IS NOT NULL THEN
			EXECUTE format('DROP VIEW %I.%I', schema_name, name);
		END IF;
		FOR target IN SELECT format('%I.%I', schema_name, name || '_' || s) FROM unnest(servers) s
				WHERE profile_stream_internal.cluster_object(schema_name, name || '_' || s, 'f') IS NOT NULL LOOP
			EXECUTE 'DROP FOREIGN TABLE ' || target;
		END LOOP;
	END IF;
	FOREACH server IN ARRAY servers LOOP
		foreign_table := profile_stream_internal.cluster_object(schema_name, name || '_' || server, 'f');
		target := format('%I.%I', schema_name, name || '_' || server);
		IF foreign_table IS NULL THEN
			EXECUTE format('CREATE FOREIGN TABLE %s (%s) SERVER %I OPTIONS (schema_name %L, table_name %L, async_capable ''true'', fetch_size ''1000'')',
				target, definitions, server, origin.f1, origin.f2);
			EXECUTE format('COMMENT ON FOREIGN TABLE %s IS %L', target, mark);
		END IF;
		made := made || target;
	END LOOP;
	IF united THEN
		target := format('%I.%I', schema_name, name);
		EXECUTE format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS %s', target,
			(SELECT string_agg(format('SELECT %L::pg_catalog.name AS server, %s FROM %s', s, names,
				profile_stream_internal.cluster_source(schema_name, source, name, s, s = local_server IS TRUE)), ' UNION ALL ' ORDER BY place)
			FROM unnest(servers || CASE WHEN local_server IS NOT NULL THEN ARRAY[local_server] END) WITH ORDINALITY u(s, place)));
		EXECUTE format('COMMENT ON VIEW %s IS %L', target, mark);
		made := made || target;
	END IF;
	FOR privilege IN SELECT m, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
			FROM aclexplode(readers) a, unnest(made) m WHERE a.privilege_type = 'SELECT' AND a.grantee <> to_regrole(quote_ident(current_user)) LOOP
		EXECUTE format('GRANT SELECT ON %s TO %s', privilege.m, privilege.grantee);
	END LOOP;
END $$;
COMMENT ON FUNCTION profile_stream_internal.make_cluster_relation(name, name[], name, regclass, name, boolean, text, text) IS 'Makes what create_cluster_view() needs for one relation';

-- Drops what is marked as of a cluster view in the schema, but the names to keep: views first, because they need the foreign tables.
CREATE FUNCTION profile_stream_internal.drop_cluster_relations(schema_name name, keep text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	statement text;
BEGIN
	FOR statement IN SELECT format('DROP %s %I.%I', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = drop_cluster_relations.schema_name AND c.relkind = ANY (ARRAY['v', 'f', 'r']::"char"[]) AND c.relname <> ALL (keep)
				AND obj_description(c.oid, 'pg_class') = profile_stream_internal.cluster_mark()
			ORDER BY c.relkind = 'v' DESC, c.relkind = 'f' DESC, c.relname LOOP
		EXECUTE statement;
	END LOOP;
END $$;
COMMENT ON FUNCTION profile_stream_internal.drop_cluster_relations(name, text[]) IS 'Drops relations of a cluster view';

-- What cluster_check() compares of one server. Raises when the server does not answer.
CREATE FUNCTION profile_stream_internal.cluster_facts(schema_name name, server name, is_local boolean) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	sources CONSTANT jsonb := (SELECT jsonb_object_agg(r.name, profile_stream_internal.cluster_source(schema_name, r.source, r.name, cluster_facts.server, is_local))
		FROM profile_stream_internal.cluster_relations('{}') r);
	facts jsonb;
BEGIN
	EXECUTE format($sql$
		SELECT jsonb_build_object(
			'version', (SELECT e.extversion FROM %s e WHERE e.extname = 'profile_stream'),
			'definitions', (SELECT jsonb_object_agg(x.name, x.definition) FROM (
				SELECT concat_ws(' ', d.kind, d.event_type, d.name, d.definition ->> 'from_version', d.definition ->> 'stream') AS name, d.definition - '{owner,since}'::text[] AS definition FROM %s d
				UNION ALL
				SELECT concat_ws(' ', c.kind, c.name), jsonb_build_object('code', c.code, 'evaluate', c.evaluate, 'quiet_period', c.quiet_period) FROM %s c WHERE c.kind IN ('segment', 'score_function')) x),
			'topics', (SELECT jsonb_agg(jsonb_build_object('stream', t.stream, 'topic', t.topic, 'partitions', t.topic_partitions, 'reads', s.partitions))
				FROM %s t JOIN %s s ON s.name = t.stream WHERE t.state <> 'left'))$sql$,
		sources ->> 'pg_extension', sources ->> 'definitions', sources ->> 'stat_code', sources ->> 'stat_topics', sources ->> 'streams') INTO facts;
	-- each becomes a row, and a server may say what it likes
	IF (SELECT sum((t ->> 'partitions')::bigint) FROM jsonb_array_elements(COALESCE(NULLIF(facts -> 'topics', 'null'), '[]')) t) > 1000000 THEN
		RAISE EXCEPTION 'server "%" tells of more than 1000000 partitions', cluster_facts.server USING ERRCODE = 'program_limit_exceeded',
			HINT = 'See partitions in stream_topics of that server.';
	END IF;
	RETURN facts;
END $$;
COMMENT ON FUNCTION profile_stream_internal.cluster_facts(name, name, boolean) IS 'Version, definitions and topics of one server, with the partitions that it reads';

CREATE FUNCTION profile_stream_internal.cluster_readers(facts jsonb, OUT topic text, OUT partition int, OUT servers name[])
	RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		WITH topics AS (
			SELECT f.key::name AS server, t.stream, t.topic, t.partitions, t.reads
			FROM pg_catalog.jsonb_each(cluster_readers.facts) f
				CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(CASE WHEN pg_catalog.jsonb_typeof(f.value -> 'topics'::text) = 'array' THEN f.value -> 'topics'::text ELSE '[]'::jsonb END)
					AS t(stream text, topic text, partitions int, reads int[])
		), numbers AS (
			SELECT m.topic, pg_catalog.generate_series(0, m.partitions - 1) AS partition FROM (SELECT t.topic, pg_catalog.max(t.partitions) AS partitions FROM topics t GROUP BY t.topic) m
		)
		SELECT n.topic, n.partition, (SELECT pg_catalog.array_agg(t.server ORDER BY t.server) FROM topics t WHERE t.topic = n.topic AND (t.reads IS NULL OR n.partition = ANY (t.reads)))
		FROM numbers n ORDER BY n.topic, n.partition;
	END;
COMMENT ON FUNCTION profile_stream_internal.cluster_readers(jsonb) IS 'Which servers read each partition of each topic, one entry for each stream; NULL: none does';

CREATE FUNCTION profile_stream_internal.cluster_differences(facts jsonb, silent name[], OUT servers name[], OUT subject text, OUT problem text, OUT action text)
	RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		WITH answers AS (
			SELECT f.key::name AS server, f.value ->> 'version'::text AS version, COALESCE(f.value -> 'definitions'::text, '{}'::jsonb) AS definitions, f.value -> 'topics'::text AS topics
			FROM pg_catalog.jsonb_each(cluster_differences.facts) f
		), versions AS (
			SELECT a.version, pg_catalog.array_agg(a.server ORDER BY a.server) AS servers FROM answers a GROUP BY a.version
		), definitions AS (
			SELECT k.name, a.definitions -> k.name AS definition, pg_catalog.array_agg(a.server ORDER BY a.server) AS servers
			FROM (SELECT DISTINCT pg_catalog.jsonb_object_keys(x.definitions) AS name FROM answers x) k CROSS JOIN answers a
			GROUP BY k.name, a.definitions -> k.name
		), counts AS (
			SELECT t.topic, t.partitions, pg_catalog.array_agg(a.server ORDER BY a.server) AS servers
			FROM answers a CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(CASE WHEN pg_catalog.jsonb_typeof(a.topics) = 'array' THEN a.topics ELSE '[]'::jsonb END) AS t(topic text, partitions int)
			GROUP BY t.topic, t.partitions
		), readers AS (
			SELECT r.topic, r.partition, r.servers FROM profile_stream_internal.cluster_readers(cluster_differences.facts) r
		)
		SELECT v.servers, 'version', pg_catalog.format('has version %s of the extension', COALESCE(v.version, '(none)')), 'Bring all servers to one version.'
		FROM versions v WHERE (SELECT pg_catalog.count(*) FROM versions) > 1
		UNION ALL
		SELECT d.servers, d.name, CASE WHEN d.definition IS NULL THEN 'is not defined' ELSE pg_catalog.format('is defined as %s', pg_catalog.jsonb_strip_nulls(d.definition)) END,
			'Define it alike on all servers.'
		FROM definitions d WHERE (SELECT pg_catalog.count(*) FROM definitions o WHERE o.name = d.name) > 1
		UNION ALL
		SELECT a.servers, pg_catalog.format('topic "%s"', a.topic), CASE WHEN a.partitions IS NULL THEN 'number of its partitions is not known yet' ELSE pg_catalog.format('has %s partitions', a.partitions) END,
			'Wait until the streams run and have looked for new partitions; see that they read the same Kafka.'
		FROM counts a WHERE a.partitions IS NULL OR (SELECT pg_catalog.count(*) FROM counts o WHERE o.topic = a.topic) > 1
		UNION ALL
		SELECT a.servers, 'topics', 'reads no topic', 'Create a stream there, or leave the server out of the cluster view.'
		FROM (SELECT ARRAY[x.server] AS servers FROM answers x WHERE pg_catalog.jsonb_typeof(x.topics) IS DISTINCT FROM 'array') a
		UNION ALL
		SELECT r.servers, pg_catalog.format('partition %s of topic "%s"', r.partition, r.topic),
			CASE WHEN r.servers IS NOT NULL THEN 'is read by several streams'
				WHEN pg_catalog.cardinality(cluster_differences.silent) > 0 THEN 'is read by no server that answers' ELSE 'is read by no server' END,
			'Give each partition to one stream with alter_stream(partitions => ...).'
		FROM readers r WHERE r.servers IS NULL OR pg_catalog.cardinality(r.servers) > 1;
	END;
COMMENT ON FUNCTION profile_stream_internal.cluster_differences(jsonb, name[]) IS 'What is wrong with what cluster_facts() says of the servers that answer; silent are those that do not';

CREATE FUNCTION create_cluster_view(servers name[], schema_name name DEFAULT 'cluster', local_server name DEFAULT NULL, partitioner text DEFAULT NULL, relations regclass[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	mark CONSTANT text := profile_stream_internal.cluster_mark();
	keep text[] := '{cluster_servers}';
	facts jsonb := '{}';
	counts int[];
	relation record;
	member record;
BEGIN
	PERFORM profile_stream_internal.check_cluster_servers(servers, local_server, relations);
	IF to_regnamespace(quote_ident(schema_name)) IS NULL THEN
		EXECUTE format('CREATE SCHEMA %I', schema_name);
		EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema_name, mark);
	ELSIF (SELECT n.nspowner <> to_regrole(quote_ident(current_user)) FROM pg_namespace n WHERE n.nspname = create_cluster_view.schema_name) THEN
		RAISE EXCEPTION 'must be owner of schema %', quote_ident(schema_name) USING ERRCODE = 'insufficient_privilege',
			HINT = 'Name a schema that does not exist yet, or one that belongs to the current user.';
	END IF;
	IF profile_stream_internal.cluster_object(schema_name, 'cluster_servers', 'r') IS NULL THEN
		EXECUTE format('CREATE TABLE %I.cluster_servers (server name PRIMARY KEY, is_local boolean NOT NULL, partitioner text, partitions int, reads int[])', schema_name);
		EXECUTE format('COMMENT ON TABLE %I.cluster_servers IS %L', schema_name, mark);
	END IF;
	FOR relation IN SELECT * FROM profile_stream_internal.cluster_relations(relations) LOOP
		PERFORM profile_stream_internal.make_cluster_relation(schema_name, servers, local_server, relation.source, relation.name, relation.united, relation.definitions, relation.names);
		keep := keep || relation.name::text || (SELECT array_agg(relation.name || '_' || s) FROM unnest(servers) s);
	END LOOP;
	PERFORM profile_stream_internal.drop_cluster_relations(schema_name, keep);
	EXECUTE format('DELETE FROM %I.cluster_servers', schema_name);
	EXECUTE format('INSERT INTO %I.cluster_servers (server, is_local) SELECT s, false FROM unnest($1) s UNION ALL SELECT $2, true WHERE $2 IS NOT NULL', schema_name)
		USING servers, local_server;
	IF partitioner IS NULL THEN
		RETURN;
	END IF;
	PERFORM profile_stream.kafka_partition('k', 1, partitioner);
	FOR member IN EXECUTE format('SELECT server, is_local FROM %I.cluster_servers', schema_name) LOOP
		facts := facts || jsonb_build_object(member.server, profile_stream_internal.cluster_facts(schema_name, member.server, member.is_local));
	END LOOP;
	counts := ARRAY(SELECT max(r.partition) + 1 FROM profile_stream_internal.cluster_readers(facts) r GROUP BY r.topic);
	IF (SELECT count(DISTINCT c) FROM unnest(counts) c) <> 1 THEN
		RAISE EXCEPTION 'the topics of the servers have % partitions', COALESCE(NULLIF(array_to_string(counts, ' and '), ''), 'an unknown number of') USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Where all topics have one number of partitions, and the streams have found them, it is known which server has a customer. Leave partitioner out.';
	END IF;
	EXECUTE format('UPDATE %I.cluster_servers s SET partitioner = $1, partitions = $2, reads = ARRAY(SELECT DISTINCT r.partition FROM profile_stream_internal.cluster_readers($3) r WHERE s.server = ANY (r.servers) ORDER BY 1)', schema_name)
		USING partitioner, counts[1], facts;
END $$;
COMMENT ON FUNCTION create_cluster_view(name[], name, name, text, regclass[]) IS 'Make views over the profiles of several servers of postgres_fdw, or make them anew, in a schema of their own';

CREATE FUNCTION drop_cluster_view(schema_name name DEFAULT 'cluster') RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.check_cluster_view(schema_name, profile_stream_internal.is_cluster_view(schema_name, false));
	PERFORM profile_stream_internal.drop_cluster_relations(schema_name, '{}');
	IF obj_description(to_regnamespace(quote_ident(schema_name))::oid, 'pg_namespace') = profile_stream_internal.cluster_mark() THEN
		EXECUTE format('DROP SCHEMA %I', schema_name);
	END IF;
END $$;
COMMENT ON FUNCTION drop_cluster_view(name) IS 'Drop what create_cluster_view() made, and the schema if it made that, too';

-- Readers call it through cluster_profile(). They may not use schema profile_stream_internal, so nothing of that is named here.
CREATE FUNCTION profile_stream_internal.read_cluster_profile(customer_id text, schema_name name) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	owner name;
	servers name[];
	found jsonb;
BEGIN
	IF customer_id <> '' THEN
		EXECUTE format('SELECT s.server FROM %I.cluster_servers s WHERE profile_stream.kafka_partition($1, s.partitions, s.partitioner) = ANY (s.reads) LIMIT 1', schema_name)
			INTO owner USING customer_id;
	END IF;
	-- as a constant in the statement, the name leaves all other servers out of the plan
	IF owner IS NOT NULL THEN
		EXECUTE format('SELECT d.data FROM %I.profile_documents d WHERE d.server = %L AND d.customer_id = $1', schema_name, owner) INTO found USING customer_id;
	END IF;
	-- where the partition has moved since, another server has the customer
	IF found IS NULL THEN
		EXECUTE format('SELECT array_agg(d.server ORDER BY d.server), (array_agg(d.data))[1] FROM %I.profile_documents d WHERE d.customer_id = $1', schema_name)
			INTO servers, found USING customer_id;
	END IF;
	IF cardinality(servers) > 1 THEN
		RAISE EXCEPTION 'customer "%" is on servers %', customer_id, array_to_string(servers, ', ') USING ERRCODE = 'cardinality_violation',
			HINT = 'No one of them has the whole profile. cluster_check() lists such customers.';
	END IF;
	RETURN found;
END $$;
COMMENT ON FUNCTION profile_stream_internal.read_cluster_profile(text, name) IS 'What cluster_profile() returns';

CREATE FUNCTION cluster_profile(customer_id text, schema_name name DEFAULT 'cluster') RETURNS jsonb
	LANGUAGE sql STABLE COST 10000 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT profile_stream_internal.read_cluster_profile(cluster_profile.customer_id, cluster_profile.schema_name)
		FROM profile_stream_internal.check_cluster_view(cluster_profile.schema_name, profile_stream_internal.is_cluster_view(cluster_profile.schema_name, true));
	END;
COMMENT ON FUNCTION cluster_profile(text, name) IS 'Profile of a customer as get_profile() returns it, from the server that has it; NULL when none has';

-- without jit: of JSON the planner expects far more rows than there are, and compiling would take seconds
CREATE FUNCTION cluster_check(schema_name name DEFAULT 'cluster', customers boolean DEFAULT true, OUT servers name[], OUT subject text, OUT problem text, OUT action text) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE STRICT COST 100000 ROWS 5 SET search_path = pg_catalog, pg_temp SET jit = off SET standard_conforming_strings = on AS $$
DECLARE
	facts jsonb := '{}';
	silent name[] := '{}';
	member record;
	sources text;
	detail text;
BEGIN
	PERFORM profile_stream_internal.check_cluster_view(schema_name, profile_stream_internal.is_cluster_view(schema_name, true));
	FOR member IN EXECUTE format('SELECT server, is_local FROM %I.cluster_servers ORDER BY server', schema_name) LOOP
		BEGIN
			facts := facts || jsonb_build_object(member.server, profile_stream_internal.cluster_facts(schema_name, member.server, member.is_local));
			sources := concat_ws(' UNION ALL ', sources, format('SELECT %L::name AS server, p.customer_id FROM %s p', member.server,
				profile_stream_internal.cluster_source(schema_name, 'profile_stream.profiles', 'profiles', member.server, member.is_local)));
		EXCEPTION WHEN OTHERS THEN
			silent := silent || member.server;
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
			SELECT ARRAY[member.server], 'server', regexp_replace(concat_ws(': ', SQLERRM, NULLIF(detail, '')), '\s+', ' ', 'g'),
				'See that the server runs, has the extension, and that the role of your user mapping may read there.' INTO servers, subject, problem, action;
			RETURN NEXT;
		END;
	END LOOP;
	RETURN QUERY SELECT * FROM profile_stream_internal.cluster_differences(facts, silent);
	IF NOT customers OR sources IS NULL THEN
		RETURN;
	END IF;
	BEGIN
		RETURN QUERY EXECUTE format($sql$
			SELECT array_agg(p.server ORDER BY p.server), format('customer "%%s"', p.customer_id), CASE WHEN count(*) > 1 THEN 'is on several servers' ELSE 'is not on the server that reads its partition' END,
				CASE WHEN count(*) > 1 THEN 'Its messages have other keys, or its partition has moved: see Slices in the documents.'
					ELSE 'Its partition has moved, or the messages have other keys. Where the cluster view is older than the move, call create_cluster_view() again.' END
			FROM (%s) p LEFT JOIN %I.cluster_servers s ON s.server = p.server
			GROUP BY p.customer_id
			HAVING count(*) > 1 OR NOT bool_and(profile_stream.kafka_partition(NULLIF(p.customer_id, ''), s.partitions, s.partitioner) = ANY (s.reads))
			ORDER BY p.customer_id LIMIT 100$sql$, sources, schema_name);
	EXCEPTION WHEN OTHERS THEN
		SELECT NULL, 'customers', regexp_replace(SQLERRM, '\s+', ' ', 'g'), 'Call cluster_check() again.' INTO servers, subject, problem, action;
		RETURN NEXT;
	END;
END $$;
COMMENT ON FUNCTION cluster_check(name, boolean) IS 'What is wrong with the slices of a cluster view: servers, versions, definitions, partitions without one reader, and customers on several servers (100 at most); no row: nothing';

-- =====================================================================================================================
-- 24. Distributed profiles: on several servers by Citus (store/shards.c, store/distributed_gate.c)
-- =====================================================================================================================

CREATE TABLE profile_stream_internal.shard_offsets (
	slot text COLLATE "C" NOT NULL,
	stream_id int NOT NULL,
	topic text COLLATE "C" NOT NULL,
	partition int NOT NULL,
	next_offset bigint NOT NULL,
	seek_no bigint NOT NULL DEFAULT 0,
	check_offset bigint,
	check_timestamp timestamptz,
	check_hash bigint,
	PRIMARY KEY (slot, stream_id, topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE profile_stream_internal.shard_offsets IS 'Which messages the shards of distributed profiles have taken; each row is in its shard';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.slot IS 'A text whose hash belongs to the shard';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.stream_id IS 'Stream that reads the partition; 0: the row only says of which hashes the offsets are';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.topic IS 'Topic of the partition; for stream 0 the least and the greatest hash, with a colon between them';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.partition IS 'Number of the partition';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.next_offset IS 'Offset of the first message that the shard has not taken; for stream 0 0';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.seek_no IS 'Number in stream_seeks by which the offset was moved last; 0: never';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.check_offset IS 'Offset of a message that was read and whose fingerprint is kept: another message there means that the topic was created anew; NULL: none is kept';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.check_timestamp IS 'Kafka timestamp of the message at check_offset; NULL when it has none';
COMMENT ON COLUMN profile_stream_internal.shard_offsets.check_hash IS 'Hash of the message at check_offset; NULL when none is kept';

-- A node moves its shards when it reads them next, and those that come to it later.
CREATE TABLE profile_stream_internal.stream_seeks (
	stream_id int NOT NULL REFERENCES profile_stream.streams ON DELETE CASCADE,
	topic text COLLATE "C" NOT NULL,
	partition int NOT NULL,
	seek_no bigint NOT NULL,
	next_offset bigint NOT NULL,
	PRIMARY KEY (stream_id, topic, partition)
);
COMMENT ON TABLE profile_stream_internal.stream_seeks IS 'Where seek_stream() has moved the partitions of distributed profiles last: each shard goes there once';
COMMENT ON COLUMN profile_stream_internal.stream_seeks.stream_id IS 'Stream that reads the partition';
COMMENT ON COLUMN profile_stream_internal.stream_seeks.topic IS 'Topic of the partition';
COMMENT ON COLUMN profile_stream_internal.stream_seeks.partition IS 'Number of the partition';
COMMENT ON COLUMN profile_stream_internal.stream_seeks.seek_no IS 'Number of the call in coordinator_calls; a shard with a lower one has not been moved yet';
COMMENT ON COLUMN profile_stream_internal.stream_seeks.next_offset IS 'Offset from which the shards read';

CREATE TABLE profile_stream_internal.coordinator_calls (
	call_no bigint PRIMARY KEY,
	called_by name NOT NULL,
	function name NOT NULL,
	arguments text[] NOT NULL,
	ids bigint[] NOT NULL,
	called_at timestamptz NOT NULL
);
COMMENT ON TABLE profile_stream_internal.coordinator_calls IS 'Calls that this node has run because the coordinator runs them on all nodes of distributed profiles';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.call_no IS 'Number of the call, in the order of the coordinator';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.called_by IS 'The role with whose rights it runs on each node';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.function IS 'The function, in schema profile_stream';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.arguments IS 'All of its arguments, in their order';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.ids IS 'Numbers that a stream, a series of metrics and an attribute map got next';
COMMENT ON COLUMN profile_stream_internal.coordinator_calls.called_at IS 'When it ran here';

CREATE FUNCTION profile_stream_internal.run_coordinator_call(call_no bigint, called_by name, function name, arguments text[], ids bigint[]) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_run_coordinator_call' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.run_coordinator_call(bigint, name, name, text[], bigint[]) IS 'Run a call of coordinator_calls on this node, with the rights of who made it';

CREATE FUNCTION profile_stream_internal.refuse_drop() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'ps_refuse_drop' LANGUAGE c;
COMMENT ON FUNCTION profile_stream_internal.refuse_drop() IS 'Refuses to drop the extension while its profiles are distributed: shards would stay on the nodes';

CREATE FUNCTION profile_stream_internal.sharded_tables() RETURNS regclass[]
	LANGUAGE sql STABLE
	-- names that are looked up by each call, so that the function depends on no table
	RETURN ARRAY['profile_stream.materialized_profiles'::text::regclass, 'profile_stream_internal.window_chunks'::text::regclass,
		'profile_stream_internal.event_id_chunks'::text::regclass, 'profile_stream_internal.shard_offsets'::text::regclass,
		'profile_stream.segment_changes'::text::regclass, 'profile_stream_internal.score_passes'::text::regclass,
		'profile_stream.segment_members'::text::regclass, 'profile_stream_internal.segment_checks'::text::regclass,
		'profile_stream_internal.segment_fills'::text::regclass, 'profile_stream_internal.segment_day_counts'::text::regclass,
		'profile_stream_internal.outbox'::text::regclass, 'profile_stream_internal.sink_pending'::text::regclass];
COMMENT ON FUNCTION profile_stream_internal.sharded_tables() IS 'The tables that distribute() distributes: by the column customer_id, or slot where there is none';

-- Citus is called by name, because it need not be installed.
CREATE FUNCTION profile_stream_internal.check_coordinator() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	group_id int;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'citus') THEN
		RAISE EXCEPTION 'this database has no extension citus' USING ERRCODE = 'feature_not_supported',
			HINT = 'Several servers without Citus can each read a part of the topic: see Slices in the documents.';
	END IF;
	EXECUTE 'SELECT groupid FROM pg_dist_local_group' INTO group_id;
	IF group_id <> 0 THEN
		RAISE EXCEPTION 'this server is not the coordinator' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call the function there.';
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.check_coordinator() IS 'Raises unless this server is the coordinator of Citus';

-- What a node has that is not sent to the others: there must be none of it when profiles are distributed. Raises.
CREATE FUNCTION profile_stream_internal.check_no_definitions(profiles_too boolean) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found text;
BEGIN
	SELECT string_agg(f.what, ', ') INTO found FROM (VALUES
		('profiles', profiles_too AND EXISTS (SELECT FROM profile_stream.materialized_profiles)),
		('dead letters', profiles_too AND EXISTS (SELECT FROM profile_stream_internal.dead_letters)),
		('streams', EXISTS (SELECT FROM profile_stream.streams)),
		('attribute maps', EXISTS (SELECT FROM profile_stream_internal.attribute_maps)),
		('metrics', EXISTS (SELECT FROM profile_stream_internal.metrics)),
		('handlers', EXISTS (SELECT FROM profile_stream_internal.event_handlers)),
		('upcasters', EXISTS (SELECT FROM profile_stream_internal.event_upcasters)),
		('decoders', EXISTS (SELECT FROM profile_stream_internal.stream_decoders)),
		('segments', EXISTS (SELECT FROM profile_stream_internal.segments)),
		('score settings', EXISTS (SELECT FROM profile_stream_internal.score_settings)),
		('a score function', EXISTS (SELECT FROM profile_stream_internal.score_function)),
		('tracked history', EXISTS (SELECT FROM profile_stream_internal.history_columns)),
		('blocked customers', profiles_too AND EXISTS (SELECT FROM profile_stream_internal.blocked_customers))) AS f(what, is_there) WHERE f.is_there;
	IF found IS NOT NULL THEN
		RAISE EXCEPTION 'profiles cannot be distributed while there are %', found USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Drop them. Streams, metrics, attribute maps, handlers, upcasters and what scores are computed with can be created again afterwards, and are then on all nodes.';
	END IF;
	RETURN (profile_stream.version() - 'warning'::text)::text;
END $$;
COMMENT ON FUNCTION profile_stream_internal.check_no_definitions(boolean) IS 'Versions of this node, to be compared with those of others; raises when it has streams or definitions, or profiles';

CREATE FUNCTION profile_stream_internal.check_nodes(statement text) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answers text[];
	failed text;
BEGIN
	EXECUTE $sql$SELECT array_agg(DISTINCT a.result) FILTER (WHERE a.success), string_agg(format('%s:%s: %s', a.nodename, a.nodeport, a.result), '; ') FILTER (WHERE NOT a.success)
		FROM run_command_on_workers($1) a$sql$ INTO answers, failed USING statement;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'not all nodes can take distributed profiles' USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
			HINT = 'All nodes must run, have extension profile_stream, and no streams or definitions of their own.';
	END IF;
	IF answers <> ARRAY[(profile_stream.version() - 'warning'::text)::text] THEN
		RAISE EXCEPTION 'the nodes have different versions' USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('This one has %s, others have %s.', (profile_stream.version() - 'warning'::text)::text, array_to_string(answers, ', ')),
			HINT = 'Install the same packages on all nodes, restart them, and run ALTER EXTENSION profile_stream UPDATE.';
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.check_nodes(text) IS 'Runs a statement on all other nodes that returns their versions; raises when it fails on one, or one has other versions than this';

-- After a split a row of the outbox is in the part of its first customer, and the others are perhaps of another part.
CREATE FUNCTION profile_stream_internal.part_outbox() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CREATE TEMP TABLE profile_stream_outbox ON COMMIT DROP AS SELECT * FROM profile_stream_internal.outbox o WHERE o.customers > 1;
	DELETE FROM profile_stream_internal.outbox o WHERE o.outbox_id = ANY (ARRAY(SELECT k.outbox_id FROM pg_temp.profile_stream_outbox k));
	INSERT INTO profile_stream_internal.outbox (stream_id, sink, outbox_id, customer_ids, customers, event_types, last_events, first_change, changed_at, customer_id)
		SELECT k.stream_id, k.sink, k.outbox_id, ARRAY[c.customer_id], 1, CASE WHEN k.event_types IS NOT NULL THEN ARRAY[c.event_types] END,
			CASE WHEN k.last_events IS NOT NULL THEN ARRAY[c.last_event] END, k.first_change, k.changed_at, c.customer_id
		FROM pg_temp.profile_stream_outbox k CROSS JOIN LATERAL ROWS FROM (unnest(k.customer_ids), unnest(k.event_types), unnest(k.last_events)) AS c(customer_id, event_types, last_event);
END $$;
COMMENT ON FUNCTION profile_stream_internal.part_outbox() IS 'Makes a row for each customer of what shards have to be delivered, so that it is in the shard of the customer';

-- The slot of a shard is the first of the texts 1, 2, … that belongs to it, as store/shards.c finds them. Parts of a shard that Citus has split
-- get the offsets of the whole: none of them has gone on since.
CREATE FUNCTION profile_stream_internal.add_slots() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	whole jsonb := (SELECT jsonb_agg(jsonb_build_object('slot', o.slot, 'from', split_part(o.topic, ':', 1)::bigint, 'to', split_part(o.topic, ':', 2)::bigint))
		FROM profile_stream_internal.shard_offsets o WHERE o.stream_id = 0);
	number int := 0;
	missing bigint[];
	shard record;
	source text;
BEGIN
	EXECUTE $sql$SELECT array_agg(s.shardid) FROM pg_dist_shard s WHERE s.logicalrelid = 'profile_stream_internal.shard_offsets'::regclass
		AND NOT EXISTS (SELECT FROM jsonb_to_recordset($1) w("from" bigint, "to" bigint) WHERE w."from" = s.shardminvalue::bigint AND w."to" = s.shardmaxvalue::bigint)$sql$ INTO missing USING whole;
	IF EXISTS (SELECT FROM unnest(missing) m(shardid), pg_dist_shard s WHERE s.shardid = m.shardid AND s.shardmaxvalue::bigint - s.shardminvalue::bigint < 65535) THEN
		RAISE EXCEPTION 'a shard of profiles has less than 65536 hashes of customers' USING ERRCODE = 'feature_not_supported',
			HINT = 'Isolated tenants are not supported: drop the streams, and call undistribute() and distribute().';
	END IF;
	IF whole IS NOT NULL AND cardinality(missing) > 0 THEN
		PERFORM profile_stream_internal.part_outbox();
	END IF;
	WHILE cardinality(missing) > 0 LOOP
		number := number + 1;
		EXECUTE $sql$SELECT s.shardid AS id, s.shardminvalue::bigint AS "from", s.shardmaxvalue::bigint AS "to" FROM pg_dist_shard s
			WHERE s.shardid = get_shard_id_for_distribution_column('profile_stream_internal.shard_offsets'::regclass, $1)$sql$ INTO STRICT shard USING number::text;
		CONTINUE WHEN shard.id <> ALL (missing);
		missing := array_remove(missing, shard.id);
		source := (SELECT w.slot FROM jsonb_to_recordset(whole) w(slot text, "from" bigint, "to" bigint) WHERE w."from" <= shard."from" AND w."to" >= shard."to");
		IF whole IS NOT NULL AND source IS NULL THEN
			RAISE EXCEPTION 'the offsets of shard % of profiles are not known', shard.id USING ERRCODE = 'object_not_in_prerequisite_state';
		END IF;
		INSERT INTO profile_stream_internal.shard_offsets (slot, stream_id, topic, partition, next_offset, seek_no, check_offset, check_timestamp, check_hash)
			SELECT number::text, o.stream_id, o.topic, o.partition, o.next_offset, o.seek_no, o.check_offset, o.check_timestamp, o.check_hash FROM profile_stream_internal.shard_offsets o WHERE o.slot = source AND o.slot <> number::text AND o.stream_id > 0;
		DELETE FROM profile_stream_internal.shard_offsets o WHERE o.slot = number::text AND o.stream_id = 0;
		INSERT INTO profile_stream_internal.shard_offsets (slot, stream_id, topic, partition, next_offset) VALUES (number::text, 0, format('%s:%s', shard."from", shard."to"), -1, 0);
	END LOOP;
END $$;
COMMENT ON FUNCTION profile_stream_internal.add_slots() IS 'Adds to each shard the row that says of which hashes its offsets are, and to a part of a shard that was split the offsets of the whole';

CREATE FUNCTION profile_stream_internal.make_event_triggers() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_event_trigger t WHERE t.evtname = 'profile_stream_refuse_drop') THEN
		CREATE EVENT TRIGGER profile_stream_refuse_drop ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
			EXECUTE FUNCTION profile_stream_internal.refuse_drop();
	END IF;
	IF NOT EXISTS (SELECT FROM pg_event_trigger t WHERE t.evtname = 'profile_stream_grant_on_shard') THEN
		CREATE EVENT TRIGGER profile_stream_grant_on_shard ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
			EXECUTE FUNCTION profile_stream_internal.grant_on_shard();
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.make_event_triggers() IS 'Makes the event triggers that distributed profiles need on this node';

-- failed has the errors of the nodes or shards on which a statement has failed; NULL: there are none.
CREATE FUNCTION profile_stream_internal.raise_failed(problem text, failed text) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION '%', problem USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
			HINT = 'Call distribute() again when all nodes run.';
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.raise_failed(text, text) IS 'Raise a problem if a statement has failed on a node or shard of Citus';

-- Hashes of event ids move with their shards, so all nodes need the same key for them.
CREATE FUNCTION profile_stream_internal.send_event_id_key() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.raise_failed('not all nodes have taken the key of event ids', (SELECT string_agg(r.result, '; ') FILTER (WHERE NOT r.success)
		FROM run_command_on_workers((SELECT format('INSERT INTO profile_stream_internal.event_id_keys (made_at, key) VALUES (%L, %L)', k.made_at, k.key)
			FROM profile_stream_internal.event_id_keys k ORDER BY k.made_at LIMIT 1)) r));
END $$;
COMMENT ON FUNCTION profile_stream_internal.send_event_id_key() IS 'Have all nodes take over the key with which the coordinator hashes event ids';

-- A letter that moves to another node keeps its number. Numbers there grow past it, because the greatest are the newest.
CREATE FUNCTION profile_stream_internal.number_dead_letters(past bigint DEFAULT 0) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes CONSTANT int := 10000;
	group_id int;
	reached bigint;
BEGIN
	EXECUTE 'SELECT groupid FROM pg_dist_local_group' INTO group_id;
	IF (SELECT s.seqincrement FROM pg_sequence s WHERE s.seqrelid = 'profile_stream_internal.dead_letters_dead_letter_id_seq'::regclass) <> nodes THEN
		EXECUTE format('ALTER SEQUENCE profile_stream_internal.dead_letters_dead_letter_id_seq INCREMENT BY %s', nodes);
	END IF;
	SELECT GREATEST(s.last_value, past) INTO reached FROM profile_stream_internal.dead_letters_dead_letter_id_seq s;
	IF reached % nodes <> group_id OR reached = past THEN
		PERFORM setval('profile_stream_internal.dead_letters_dead_letter_id_seq', reached / nodes * nodes + nodes + group_id);
	END IF;
END $$;
COMMENT ON FUNCTION profile_stream_internal.number_dead_letters(bigint) IS 'Has this node of Citus number its dead letters in steps of 10,000 past a number, so that no two nodes give the same';

-- A query on shards names tables of profile_stream_internal on the nodes, and its reader looks them up there.
CREATE FUNCTION profile_stream_internal.prepare_nodes() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.raise_failed('not all nodes let readers in', (SELECT string_agg(r.result, '; ') FILTER (WHERE NOT r.success)
		FROM unnest(ARRAY['GRANT USAGE ON SCHEMA profile_stream_internal TO profile_stream_reader, profile_stream_bi, profile_stream_support',
			'SELECT profile_stream_internal.make_event_triggers()', 'SELECT profile_stream_internal.number_dead_letters()']) s(statement), run_command_on_all_nodes(s.statement) r));
END $$;
COMMENT ON FUNCTION profile_stream_internal.prepare_nodes() IS 'Give readers the schema of the tables on all nodes, make the event triggers there, and have each number its dead letters';

-- Citus gives a shard the rights on its table, but not those on columns, as analysts have.
CREATE FUNCTION profile_stream_internal.column_readers(OUT relation regclass, OUT grantee text, OUT columns text) RETURNS SETOF record
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT a.attrelid::pg_catalog.regclass, CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE g.grantee::pg_catalog.regrole::text END,
				pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
			FROM pg_catalog.pg_attribute a CROSS JOIN pg_catalog.aclexplode(a.attacl) g
			WHERE a.attrelid OPERATOR(pg_catalog.=) ANY (profile_stream_internal.sharded_tables()) AND g.privilege_type OPERATOR(pg_catalog.=) 'SELECT' GROUP BY 1, 2;
	END;
COMMENT ON FUNCTION profile_stream_internal.column_readers() IS 'Who may read which columns of the tables that distribute() distributes, by rights on the columns';

-- It runs with the rights of its owner, because whoever creates a table has perhaps none on the extension.
CREATE FUNCTION profile_stream_internal.grant_on_shard() RETURNS event_trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shard record;
BEGIN
	FOR shard IN
		SELECT n.object_identity AS name, r.columns, r.grantee
		FROM pg_event_trigger_ddl_commands() n JOIN profile_stream_internal.column_readers() r ON n.object_identity ~ ('^' || r.relation::text || '_[0-9]+$')
	LOOP
		EXECUTE format('GRANT SELECT (%s) ON %s TO %s', shard.columns, shard.name, shard.grantee);
	END LOOP;
END $$;
COMMENT ON FUNCTION profile_stream_internal.grant_on_shard() IS 'Gives a shard that is created here the rights on columns of its table';

CREATE FUNCTION profile_stream_internal.grant_on_shards() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profile_stream_internal.raise_failed('not all shards have the rights of their table', (SELECT string_agg(s.result, '; ') FILTER (WHERE NOT s.success)
		FROM profile_stream_internal.column_readers() r,
			run_command_on_shards(r.relation, format('GRANT SELECT (%s) ON %%s TO %s', r.columns, r.grantee)) s));
END $$;
COMMENT ON FUNCTION profile_stream_internal.grant_on_shards() IS 'Gives all shards the rights on columns of their table, also those that were granted after the shards were made';

CREATE FUNCTION distribute(shard_count int DEFAULT 32) RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	tables CONSTANT regclass[] := profile_stream_internal.sharded_tables();
BEGIN
	PERFORM profile_stream_internal.check_coordinator();
	IF profile_stream_internal.is_distributed() THEN
		PERFORM profile_stream_internal.check_nodes('SELECT (profile_stream.version() - ''warning''::text)::text');
		PERFORM profile_stream_internal.send_coordinator_calls();
		PERFORM profile_stream_internal.send_event_id_key();
		PERFORM profile_stream_internal.send_blocked_customers();
		PERFORM profile_stream_internal.prepare_nodes();
		PERFORM profile_stream_internal.grant_on_shards();
		PERFORM profile_stream_internal.add_slots();
		RETURN;
	END IF;
	IF shard_count NOT BETWEEN 1 AND 1024 THEN
		RAISE EXCEPTION 'shard_count must be between 1 and 1024' USING ERRCODE = 'invalid_parameter_value', HINT = 'Take a few times as many as there will ever be nodes.';
	END IF;
	PERFORM profile_stream_internal.check_no_definitions(false);
	PERFORM profile_stream_internal.check_nodes('SELECT profile_stream_internal.check_no_definitions(true)');
	-- it is committed on each node, and so before shards are made
	PERFORM profile_stream_internal.prepare_nodes();
	DELETE FROM profile_stream_internal.shard_offsets;
	FOR i IN 1 .. cardinality(tables) LOOP
		EXECUTE format('SELECT create_distributed_table($1, (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname IN (''customer_id'', ''slot'')), ''hash'', %s)',
			CASE WHEN i = 1 THEN format('colocate_with => ''none'', shard_count => %s', shard_count) ELSE 'colocate_with => $2' END) USING tables[i], tables[1]::text;
		-- otherwise rows of before would come again by undistribute()
		EXECUTE 'SELECT truncate_local_data_after_distributing_table($1)' USING tables[i];
	END LOOP;
	PERFORM profile_stream_internal.add_slots();
	PERFORM profile_stream_internal.send_event_id_key();
	PERFORM profile_stream_internal.send_blocked_customers();
END $$;
COMMENT ON FUNCTION distribute(int) IS 'Distribute the profiles over the nodes of Citus, by their customers; called again, bring nodes that were added or down up to date';

CREATE FUNCTION undistribute() RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	tables CONSTANT regclass[] := profile_stream_internal.sharded_tables();
	member record;
	drop_triggers text;
BEGIN
	PERFORM profile_stream_internal.check_coordinator();
	IF NOT profile_stream_internal.is_distributed() THEN
		RAISE EXCEPTION 'the profiles are not distributed' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'distribute() distributes them.';
	END IF;
	IF EXISTS (SELECT FROM profile_stream.streams) THEN
		RAISE EXCEPTION 'profiles cannot be brought to one server while there are streams' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Drop the streams.';
	END IF;
	PERFORM profile_stream_internal.check_nodes('SELECT profile_stream_internal.forget_coordinator_calls()');
	DROP EVENT TRIGGER IF EXISTS profile_stream_refuse_drop;
	DROP EVENT TRIGGER IF EXISTS profile_stream_grant_on_shard;
	FOR i IN 1 .. cardinality(tables) LOOP
		EXECUTE format('CREATE TEMP TABLE profile_stream_kept_%s ON COMMIT DROP AS SELECT * FROM %s', i, tables[i]);
	END LOOP;
	-- each node has numbered the segments by itself
	UPDATE pg_temp.profile_stream_kept_1 SET segment_state = NULL WHERE segment_state IS NOT NULL;
	UPDATE profile_stream_internal.segments SET filled_to = '' WHERE evaluate = 'live' AND blocked_at IS NULL;
	FOR i IN 1 .. cardinality(tables) LOOP
		SELECT n.nspname::text AS schema, c.relname::text AS name INTO STRICT member FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = tables[i];
		EXECUTE 'SELECT master_remove_distributed_table_metadata_from_workers($1, $2, $3)' USING tables[i], member.schema, member.name;
		EXECUTE 'SELECT citus_drop_all_shards($1, $2, $3)' USING tables[i], member.schema, member.name;
		EXECUTE 'SELECT master_remove_partition_metadata($1, $2, $3)' USING tables[i], member.schema, member.name;
		SELECT string_agg(format('DROP TRIGGER %I ON %s', t.tgname, tables[i]), '; ') INTO drop_triggers FROM pg_trigger t
			WHERE t.tgrelid = tables[i] AND t.tgname LIKE 'truncate_trigger_%';
		IF drop_triggers IS NOT NULL THEN
			EXECUTE drop_triggers;
		END IF;
		EXECUTE format('INSERT INTO %s SELECT * FROM pg_temp.profile_stream_kept_%s', tables[i], i);
	END LOOP;
	-- nodes have numbered changes by time, and the sequence goes on behind those
	PERFORM setval('profile_stream.segment_changes_change_id_seq', max(c.change_id)) FROM profile_stream.segment_changes c
		HAVING max(c.change_id) > (SELECT s.last_value FROM profile_stream.segment_changes_change_id_seq s);
	DELETE FROM profile_stream_internal.shard_offsets;
	DELETE FROM profile_stream_internal.score_passes;
	DELETE FROM profile_stream_internal.segment_fills;
	DELETE FROM profile_stream_internal.coordinator_calls;
END $$;
COMMENT ON FUNCTION undistribute() IS 'Bring distributed profiles back to the coordinator';

CREATE FUNCTION profile_stream_internal.send_coordinator_calls() RETURNS void
	AS 'MODULE_PATHNAME', 'ps_send_coordinator_calls' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.send_coordinator_calls() IS 'Run the calls of coordinator_calls on those nodes that have not run them';

CREATE FUNCTION profile_stream_internal.forget_coordinator_calls() RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	left_over text;
BEGIN
	DROP EVENT TRIGGER IF EXISTS profile_stream_refuse_drop;
	DROP EVENT TRIGGER IF EXISTS profile_stream_grant_on_shard;
	PERFORM profile_stream.move_dead_letters();
	-- Citus drops a shard that has moved some time later, and hides it until then
	PERFORM set_config('citus.override_table_visibility', 'off', true), set_config('citus.enable_manual_changes_to_shards', 'on', true);
	FOR left_over IN EXECUTE $sql$SELECT c.oid::regclass::text FROM pg_class c JOIN unnest(profile_stream_internal.sharded_tables()) t ON c.relname ~ (format('^%s_[0-9]+$', (SELECT o.relname FROM pg_class o WHERE o.oid = t)))
			WHERE c.relkind = 'r' AND c.relnamespace = (SELECT o.relnamespace FROM pg_class o WHERE o.oid = t)
				AND NOT EXISTS (SELECT FROM pg_dist_placement p JOIN pg_dist_local_group g ON g.groupid = p.groupid WHERE p.shardid::text = substring(c.relname FROM '[0-9]+$'))$sql$ LOOP
		EXECUTE 'DROP TABLE ' || left_over;
	END LOOP;
	DELETE FROM profile_stream_internal.attribute_maps;
	DELETE FROM profile_stream_internal.metrics;
	DELETE FROM profile_stream_internal.metric_series;
	DELETE FROM profile_stream_internal.event_handlers;
	DELETE FROM profile_stream_internal.event_upcasters;
	DELETE FROM profile_stream_internal.score_settings;
	DELETE FROM profile_stream_internal.score_function;
	DELETE FROM profile_stream_internal.score_refresh;
	DELETE FROM profile_stream_internal.segments;
	DELETE FROM profile_stream_internal.coordinator_calls;
	-- the coordinator has the same
	DELETE FROM profile_stream_internal.blocked_customers;
	DELETE FROM profile_stream_internal.blocking_salt;
	RETURN (profile_stream.version() - 'warning'::text)::text;
END $$;
COMMENT ON FUNCTION profile_stream_internal.forget_coordinator_calls() IS 'Removes what calls of coordinator_calls have defined on this node, and shards that have moved away, and moves its dead letters; returns its versions';

-- A letter is on one of both nodes at any time, and on both where this fails in between: taken again, it is there once.
CREATE FUNCTION profile_stream_internal.take_dead_letters(letters jsonb, undelivered bigint[]) RETURNS bigint
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	WITH taken AS (
		INSERT INTO profile_stream_internal.dead_letters SELECT l.* FROM jsonb_populate_recordset(NULL::profile_stream_internal.dead_letters, letters) l
			ON CONFLICT (dead_letter_id) DO NOTHING RETURNING dead_letter_id, stream_id)
	INSERT INTO profile_stream_internal.dead_letter_outbox (dead_letter_id, stream_id) SELECT t.dead_letter_id, t.stream_id FROM taken t WHERE t.dead_letter_id = ANY (undelivered);
	PERFORM profile_stream_internal.number_dead_letters((SELECT max((l ->> 'dead_letter_id')::bigint) FROM jsonb_array_elements(letters) l));
	RETURN (SELECT count(*) FROM jsonb_populate_recordset(NULL::profile_stream_internal.dead_letters, letters) l
		JOIN profile_stream_internal.dead_letters d ON d.dead_letter_id = l.dead_letter_id AND d.dead_at = l.dead_at);
END $$;
COMMENT ON FUNCTION profile_stream_internal.take_dead_letters(jsonb, bigint[]) IS 'Takes dead letters of another node, those that are not here yet; returns how many of them are here now';

CREATE FUNCTION move_dead_letters() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	group_id int;
	batch record;
	answer record;
	after bigint := -1;
	total bigint := 0;
BEGIN
	IF profile_stream_internal.is_distributed() THEN
		EXECUTE 'SELECT groupid FROM pg_dist_local_group' INTO group_id;
	END IF;
	IF COALESCE(group_id, 0) = 0 THEN
		RAISE EXCEPTION 'this server is no worker node of distributed profiles' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Call the function on a node whose dead letters shall go to the coordinator.';
	END IF;
	PERFORM profile_stream_internal.check_no_transaction('move_dead_letters()');
	-- nobody adds one, delivers one or applies one meanwhile
	LOCK TABLE profile_stream_internal.dead_letters, profile_stream_internal.dead_letter_outbox IN EXCLUSIVE MODE;
	LOOP
		SELECT count(*) AS n, max(b.dead_letter_id) AS last_id, jsonb_agg(to_jsonb(b)) AS letters,
			COALESCE(array_agg(b.dead_letter_id) FILTER (WHERE EXISTS (SELECT FROM profile_stream_internal.dead_letter_outbox o WHERE o.dead_letter_id = b.dead_letter_id)), '{}') AS undelivered
			INTO STRICT batch FROM (SELECT l.*, sum(COALESCE(octet_length(l.value), 0) + COALESCE(octet_length(l.key), 0) + COALESCE(pg_column_size(l.headers), 0)) OVER (ORDER BY l.dead_letter_id
					ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes
				FROM (SELECT d.* FROM profile_stream_internal.dead_letters d WHERE d.dead_letter_id > after ORDER BY d.dead_letter_id LIMIT 1000) l) b
			WHERE COALESCE(b.bytes, 0) < 4000000;
		EXIT WHEN batch.n = 0;
		EXECUTE 'SELECT r.success, r.result FROM run_command_on_coordinator($1) r' INTO STRICT answer
			USING format('SELECT profile_stream_internal.take_dead_letters(%L, %L)', batch.letters, batch.undelivered);
		IF NOT answer.success OR answer.result <> batch.n::text THEN
			RAISE EXCEPTION 'the coordinator has not taken the dead letters' USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = CASE WHEN answer.success THEN format('It has %s of %s.', answer.result, batch.n) ELSE answer.result END,
				HINT = 'They stay here. Call the function again when the coordinator runs.';
		END IF;
		after := batch.last_id;
		total := total + batch.n;
	END LOOP;
	DELETE FROM profile_stream_internal.dead_letter_outbox;
	DELETE FROM profile_stream_internal.dead_letters;
	RETURN total;
END $$;
COMMENT ON FUNCTION move_dead_letters() IS 'Move the dead letters of this node to the coordinator, all or none; returns how many. A node that is removed takes along what it still has';

-- =====================================================================================================================
-- 25. Privileges
-- =====================================================================================================================

-- Everybody begins with nothing; what is not named below is for superusers. test/sql/rights.sql holds the same lists.
REVOKE ALL ON ALL TABLES IN SCHEMA profile_stream, profile_stream_internal, profile_stream_rebuild FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA profile_stream, profile_stream_internal, profile_stream_rebuild FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA profile_stream, profile_stream_internal, profile_stream_rebuild FROM PUBLIC;
-- nor do others have what ALTER DEFAULT PRIVILEGES gives them of each new table or function
DO $$
DECLARE
	other text;
	what text;
BEGIN
	FOR other IN
		SELECT DISTINCT pg_catalog.quote_ident(r.rolname) FROM (
				SELECT c.relnamespace AS namespace, c.relowner AS owner, c.relacl AS acl FROM pg_catalog.pg_class c
				UNION ALL SELECT p.pronamespace, p.proowner, p.proacl FROM pg_catalog.pg_proc p
				UNION ALL SELECT t.typnamespace, t.typowner, t.typacl FROM pg_catalog.pg_type t
				UNION ALL SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.<>) 'profile_stream') o
			JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.namespace
			CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
			JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['profile_stream', 'profile_stream_internal', 'profile_stream_rebuild']::name[])
			AND a.grantee OPERATOR(pg_catalog.<>) o.owner
	LOOP
		FOREACH what IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'ROUTINES'] LOOP
			EXECUTE pg_catalog.format('REVOKE ALL ON ALL %s IN SCHEMA profile_stream, profile_stream_internal, profile_stream_rebuild FROM %s', what, other);
		END LOOP;
		EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA profile_stream_internal, profile_stream_rebuild FROM %s', other);
		EXECUTE pg_catalog.format('REVOKE ALL ON TYPE profile_stream_internal.day_bucket FROM %s', other);
	END LOOP;
END
$$;
GRANT USAGE ON SCHEMA profile_stream TO profile_stream_reader, profile_stream_operator;
-- A reader names no part. The right to read one that is granted below counts where a view or a function of the public schema reads it.
GRANT USAGE ON SCHEMA profile_stream_internal, profile_stream_rebuild TO profile_stream_operator;

-- Both read. Tables are written by functions alone, with the rights of the tables' owner.
GRANT SELECT ON ALL TABLES IN SCHEMA profile_stream, profile_stream_internal TO profile_stream_reader, profile_stream_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA profile_stream_rebuild TO profile_stream_operator;
REVOKE SELECT ON profile_stream_internal.database_secret, profile_stream_internal.event_id_keys FROM profile_stream_reader, profile_stream_operator;
-- a rebuild's state is in the rebuild schema, which is emptied when nobody reads it
REVOKE SELECT ON stat_rebuilds, profile_stream_internal.blocking_salt, profile_stream_internal.blocked_customers, profile_stream_internal.stream_rebuilds,
	profile_stream_internal.outbox, profile_stream_internal.sink_pending, profile_stream_internal.seeds FROM profile_stream_reader;
-- what stat_sinks counts
GRANT SELECT (stream_id, sink, outbox_id, customers, changed_at) ON profile_stream_internal.outbox TO profile_stream_reader;
GRANT SELECT (stream_id, sink, pending_id, changed_at) ON profile_stream_internal.sink_pending TO profile_stream_reader;

-- who watches, and who analyses: nothing that names a person or quotes an event
GRANT USAGE ON SCHEMA profile_stream TO profile_stream_monitor, profile_stream_bi, profile_stream_support;
GRANT SELECT ON stat_storage, profile_stream_internal.storage_samples, node_streams, node_partitions, node_sinks, node_health TO profile_stream_monitor;
GRANT EXECUTE ON ROUTINE profile_stream.version, health, monitor_streams, monitor_partitions, monitor_sinks, monitor_workers, monitor_log, storage_days_left,
	profile_stream_internal.oldest_rows, profile_stream_internal.table_sizes, profile_stream_internal.rows_of_nodes, profile_stream_internal.is_distributed
	TO profile_stream_monitor, profile_stream_reader, profile_stream_operator;
GRANT profile_stream_monitor TO pg_monitor;
GRANT SELECT ON bi_profiles, segment_changes, segment_counts, profile_stream_internal.segment_day_counts, profile_stream_internal.shard_offsets, profile_stream_internal.metrics, profile_stream_internal.metric_series, profile_stream_internal.window_chunks TO profile_stream_bi;
GRANT SELECT (customer_id, version, updated_at, first_event_at, watermark, total_balance, account_count, last_transaction_at, last_login_at, preferred_channel,
	segment, churn_risk_score, lifetime_value, scored_at, event_counts, window_state, xmin) ON materialized_profiles TO profile_stream_bi;
GRANT EXECUTE ON ROUTINE window_value, metric_value, metric_trend, metric_days, commit_time, profiles_changed_since, profile_bookmark,
	profile_stream_internal.bookmark_horizon, profile_stream_internal.xid_at_or_after, profile_stream_internal.window_count, profile_stream_internal.metric_values,
	profile_stream_internal.window_samples, profile_stream_internal.window_state_samples, profile_stream_internal.window_state_totals, profile_stream_internal.chunk_samples,
	profile_stream_internal.metric_series, profile_stream_internal.check_days, profile_stream_internal.profile_days,
	profile_stream_internal.metric_days, profile_stream_internal.profiles_changed_since, profile_stream_internal.profile_bookmark,
	profile_stream_internal.node_bookmark, profile_stream_internal.changed_since
	TO profile_stream_bi;

-- Support sees what an analyst does, and masked contacts. Readers and operators see the contacts themselves, and need no function that passes by row security.
GRANT profile_stream_bi TO profile_stream_support;
REVOKE SELECT ON masked_profiles FROM profile_stream_reader, profile_stream_operator;
GRANT SELECT ON masked_profiles TO profile_stream_support;
GRANT EXECUTE ON ROUTINE profile_stream_internal.masked TO profile_stream_support;

-- functions that users call
GRANT EXECUTE ON ROUTINE
	profile_stream.version, decode_message, window_value, get_profile, get_profiles, serve_profile, profiles_at, training_set, metric_value, metric_trend, metric_days, attribute_time, create_profile_view,
	kafka_partition, cluster_profile,
	profile_bookmark, profiles_changed_since, commit_time, segment_channel, notification_channel, default_scores, wait_for_offset, await_offset
	TO profile_stream_reader, profile_stream_operator;

GRANT EXECUTE ON ROUTINE
	map_attribute, unmap_attribute, track_history, untrack_history, create_metric, drop_metric, prune_metrics,
	register_handler, unregister_handler, test_handler, register_upcaster, unregister_upcaster,
	apply_event, apply_event_returning, apply_events, seed_profile, backfill, drop_backfill, retry_dead_letters, discard_dead_letters,
	test_redis, test_connection, create_stream, alter_stream, seek_stream, pause_stream, resume_stream, drop_stream, start_streams,
	resync_sink, flush_stream, stat_reset, wait_for_stream, await_stream, reconcile, lock_customer, try_lock_customer,
	rebuild, pause_rebuild, resume_rebuild, cancel_rebuild, rebuild_diff, swap_rebuild,
	set_score_settings, reset_score_settings, set_score_function, refresh_scores, create_segment, drop_segment, alter_segment, refresh_segments, confirm_code,
	forget_customer, unblock_customer, export_customer, create_cluster_view, drop_cluster_view, cluster_check, prune_slice
	TO profile_stream_operator;

-- internal functions that those and the views call with the rights of whoever called
GRANT EXECUTE ON ROUTINE
	profile_stream_internal.to_profile_event, profile_stream_internal.dead_letter_text, profile_stream_internal.dead_letter_json,
	profile_stream_internal.partition_name, profile_stream_internal.topic_format, profile_stream_internal.lease_holder, profile_stream_internal.source_counts, profile_stream_internal.process_waits, profile_stream_internal.sink_backlog,
	profile_stream_internal.reported_partitions, profile_stream_internal.reads_partition, profile_stream_internal.node_reached, profile_stream_internal.process_meters, profile_stream_internal.metric_values, profile_stream_internal.window_count,
	profile_stream_internal.open_event_ids, profile_stream_internal.sealed_event_ids,
	profile_stream_internal.window_samples, profile_stream_internal.window_state_samples, profile_stream_internal.window_state_totals, profile_stream_internal.chunk_samples,
	profile_stream_internal.metric_series, profile_stream_internal.check_days,
	profile_stream_internal.profile_days, profile_stream_internal.json_timestamp,
	profile_stream_internal.profile_document, profile_stream_internal.profile_document_at, profile_stream_internal.bookmark_horizon, profile_stream_internal.xid_at_or_after,
	profile_stream_internal.get_profiles, profile_stream_internal.profiles_at, profile_stream_internal.metric_days, profile_stream_internal.profiles_changed_since, profile_stream_internal.profile_bookmark,
	profile_stream_internal.node_bookmark, profile_stream_internal.changed_since,
	profile_stream_internal.code_state, profile_stream_internal.library_warning, profile_stream_internal.current_cluster, profile_stream_internal.file_systems,
	profile_stream_internal.cluster_mark, profile_stream_internal.is_cluster_view, profile_stream_internal.check_cluster_view, profile_stream_internal.read_cluster_profile
	TO profile_stream_reader, profile_stream_operator;

GRANT EXECUTE ON ROUTINE
	profile_stream_internal.run_on_this_node, profile_stream_internal.check_no_transaction, profile_stream_internal.run_on_all_nodes, profile_stream_internal.run_for_customer, profile_stream_internal.has_customer, profile_stream_internal.prune_metrics, profile_stream_internal.resync_sink, profile_stream_internal.reconcile,
	profile_stream_internal.forget_customer, profile_stream_internal.unblock_customer, profile_stream_internal.export_customer, profile_stream_internal.joined_exports,
	profile_stream_internal.event_time, profile_stream_internal.window_expired, profile_stream_internal.retry_events, profile_stream_internal.node_of_event, profile_stream_internal.lock_dead_letters,
	profile_stream_internal.settle_dead_letters, profile_stream_internal.dead_letter_matches, profile_stream_internal.decoded_values,
	profile_stream_internal.contains_id, profile_stream_internal.redact_id, profile_stream_internal.message_customer,
	profile_stream_internal.dead_letter_relation,
	profile_stream_internal.cluster_columns, profile_stream_internal.cluster_relations, profile_stream_internal.cluster_object, profile_stream_internal.cluster_source,
	profile_stream_internal.check_cluster_servers, profile_stream_internal.make_cluster_relation, profile_stream_internal.drop_cluster_relations,
	profile_stream_internal.cluster_facts, profile_stream_internal.cluster_readers, profile_stream_internal.cluster_differences, profile_stream_internal.run_coordinator_call, profile_stream_internal.refresh_scores, profile_stream_internal.refresh_segments,
	profile_stream_rebuild.window_value, profile_stream_rebuild.metric_values
	TO profile_stream_operator;

-- pg_restore loads the tables in any order when it runs several jobs. So what refers to another table is not checked when
-- it is written; the statements that write lock what they refer to. What is deleted still takes its parts with it.
DO $$
DECLARE
	child regclass;
	check_name name;
BEGIN
	FOR child, check_name IN
		SELECT t.tgrelid::regclass, t.tgname
		FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint c ON c.oid = t.tgconstraint
			JOIN pg_catalog.pg_extension e ON c.conrelid = ANY (e.extconfig)
		WHERE e.extname = 'profile_stream' AND c.contype = 'f' AND t.tgrelid = c.conrelid
	LOOP
		EXECUTE pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I', child, check_name);
	END LOOP;
END $$;
