-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION profile_stream UPDATE TO '0.2.0'" to load this file. \quit

-- What sql/profile_stream.sql has since 0.1.0, in the same words. The regress test upgrade shows what is forgotten here.

DO $$
BEGIN
	IF pg_catalog.string_to_array(profile_stream.version() OPERATOR(pg_catalog.->>) 'library', '.')::int[] OPERATOR(pg_catalog.<) '{0,2,0}' THEN
		RAISE EXCEPTION 'the server still runs the library of profile_stream %', profile_stream.version() OPERATOR(pg_catalog.->>) 'library'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Restart the server. Then call ALTER EXTENSION profile_stream UPDATE again.';
	END IF;
END
$$;

-- Columns with a default of streams, materialized_profiles and dead_letters: PostgreSQL does not add them while a function
-- with an SQL body takes a row of the table. Meanwhile these functions have no body.
DO $$
DECLARE
	definition text;
	definitions text[];
BEGIN
	SELECT pg_catalog.array_agg(pg_catalog.pg_get_functiondef(f.oid)) INTO definitions FROM pg_catalog.unnest(ARRAY[
		'profile_stream.default_scores(profile_stream.materialized_profiles,timestamptz)',
		'profile_stream_internal.topic_format(profile_stream.streams,text)',
		'profile_stream_internal.dead_letter_matches(profile_stream_internal.dead_letters,text,text,text,text,timestamptz,timestamptz,bigint[],text)',
		'profile_stream_internal.dead_letter_relation(profile_stream_internal.dead_letters,text)']::pg_catalog.regprocedure[]) f (oid);
	FOREACH definition IN ARRAY definitions LOOP
		EXECUTE pg_catalog.regexp_replace(definition, '\n *(BEGIN ATOMIC|RETURN ).*$', E'\nAS \'\'');
	END LOOP;
	ALTER TABLE profile_stream.streams ADD COLUMN message_key text COLLATE "C" NOT NULL DEFAULT 'any' CHECK (message_key IN ('any', 'customer'));
	ALTER TABLE profile_stream.streams ADD COLUMN partitioner text COLLATE "C" NOT NULL DEFAULT 'any' CHECK (partitioner IN ('any', 'citus'));
	FOREACH definition IN ARRAY definitions LOOP
		EXECUTE definition;
	END LOOP;
END
$$;

COMMENT ON COLUMN streams.message_key IS 'What the key of a message is: any, or customer: the id of its customer, and an event with another key is a dead letter';
COMMENT ON COLUMN streams.partitioner IS 'How producers choose partitions: any way, or citus: as Citus chooses the shard of the customer, so that each node reads the partitions of its shards alone';

DROP FUNCTION create_stream(text, name, text, text, text, text, int, interval, interval, text, text, text, jsonb, interval, int, interval, text, text, text[], int, int[], double precision, interval, text, text, interval,
	text, text, text, text, jsonb, text, text, text, text[], text, text[], text, jsonb);
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
REVOKE ALL ON FUNCTION create_stream FROM PUBLIC;
GRANT EXECUTE ON FUNCTION create_stream TO profile_stream_operator;

DROP FUNCTION profile_stream_internal.retry_events(jsonb[], bigint, int, boolean);
CREATE FUNCTION profile_stream_internal.retry_events(events jsonb[], dedupe_retention_us bigint, scope int DEFAULT 0, accept boolean DEFAULT false, types text[] DEFAULT '{}',
	OUT ordinal int, OUT outcome text, OUT kind text, OUT errors text[], OUT sqlstate text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_retry_events' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.retry_events IS 'As apply_events(), for retry_dead_letters(): it returns errors and writes no dead letters; scope: stream_id of a stream whose event ids are its own, 0: of others; accept: as unknown_schema; types: as event_types, empty: all';
REVOKE ALL ON FUNCTION profile_stream_internal.retry_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profile_stream_internal.retry_events TO profile_stream_operator;
CREATE FUNCTION profile_stream_internal.node_of_event(event jsonb) RETURNS int
	AS 'MODULE_PATHNAME', 'ps_node_of_event' LANGUAGE c STRICT STABLE;
COMMENT ON FUNCTION profile_stream_internal.node_of_event(jsonb) IS 'A number of the node that has the customer of an event; NULL: this one, or the customer is not known';
REVOKE ALL ON FUNCTION profile_stream_internal.node_of_event FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profile_stream_internal.node_of_event TO profile_stream_operator;

CREATE OR REPLACE FUNCTION profile_stream_internal.make_history_part(from_day date, to_day date) RETURNS void
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

CREATE OR REPLACE FUNCTION profile_stream_internal.dead_letter_json(value bytea) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE STRICT COST 750 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN convert_from(CASE WHEN substring(value FROM 1 FOR 3) = decode('efbbbf', 'hex') THEN substring(value FROM 4) ELSE value END, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR untranslatable_character THEN
	RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION retry_dead_letters(stream text DEFAULT NULL, kind text DEFAULT NULL, event_type text DEFAULT NULL,
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

-- who only reads shall not see the query, and pg_stats shows samples of each column that one may read
ALTER TABLE profile_stream_internal.backfills ALTER COLUMN query SET STATISTICS 0;
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
	WHERE s.starelid OPERATOR(pg_catalog.=) 'profile_stream_internal.backfills'::pg_catalog.regclass AND a.attrelid OPERATOR(pg_catalog.=) s.starelid
		AND a.attnum OPERATOR(pg_catalog.=) s.staattnum AND a.attname OPERATOR(pg_catalog.=) 'query';

-- the defaults of scores are in score_parameters alone
ALTER TABLE profile_stream_internal.score_settings
	ALTER COLUMN new_days DROP DEFAULT, ALTER COLUMN active_days DROP DEFAULT, ALTER COLUMN dormant_days DROP DEFAULT, ALTER COLUMN loyal_transactions DROP DEFAULT,
	ALTER COLUMN champion_transactions DROP DEFAULT, ALTER COLUMN champion_value DROP DEFAULT, ALTER COLUMN at_risk_churn DROP DEFAULT, ALTER COLUMN half_gaps DROP DEFAULT,
	ALTER COLUMN least_gap_days DROP DEFAULT, ALTER COLUMN default_gap_days DROP DEFAULT, ALTER COLUMN ticket_risk DROP DEFAULT, ALTER COLUMN trend_risk DROP DEFAULT,
	ALTER COLUMN margin DROP DEFAULT, ALTER COLUMN monthly_retention DROP DEFAULT, ALTER COLUMN monthly_discount DROP DEFAULT;

CREATE OR REPLACE VIEW stat_code WITH (security_invoker = true) AS
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
COMMENT ON COLUMN stat_code.code IS 'The function, the condition of a segment, or the query of a backfill; NULL: a query, for who may not call backfill()';

-- rows became smaller, so that a page keeps room for them with less of it
ALTER TABLE materialized_profiles SET (fillfactor = 81);
ALTER TABLE profile_stream_rebuild.materialized_profiles SET (fillfactor = 81);

ALTER TABLE profile_stream_internal.outbox ADD COLUMN first_change bigint;
COMMENT ON COLUMN profile_stream_internal.outbox.first_change IS 'Number of the first of the segment_changes that the commit has written; NULL: this row does not tell of them';
ALTER TABLE profile_stream_internal.sink_pending ADD COLUMN first_change bigint;
COMMENT ON COLUMN profile_stream_internal.sink_pending.first_change IS 'The customer''s segment_changes from this number on are to be told; NULL: none';

-- A text that is not known is empty, also the channel, which documents show as app. Profiles that are there keep theirs.
ALTER TABLE materialized_profiles ALTER COLUMN preferred_channel SET DEFAULT '';
ALTER TABLE profile_stream_rebuild.materialized_profiles ALTER COLUMN preferred_channel SET DEFAULT '';
-- 0.1.0 had app where nothing had said which one
UPDATE materialized_profiles SET preferred_channel = '' WHERE preferred_channel OPERATOR(pg_catalog.=) 'app' AND NOT event_counts OPERATOR(pg_catalog.?|) '{session.started,profile.seeded}'
	AND NOT EXISTS (SELECT FROM profile_stream_internal.attribute_maps m WHERE m.attribute OPERATOR(pg_catalog.=) 'preferred_channel');
UPDATE profile_stream_rebuild.materialized_profiles SET preferred_channel = '' WHERE preferred_channel OPERATOR(pg_catalog.=) 'app' AND NOT event_counts OPERATOR(pg_catalog.?|) '{session.started,profile.seeded}'
	AND NOT EXISTS (SELECT FROM profile_stream_internal.attribute_maps m WHERE m.attribute OPERATOR(pg_catalog.=) 'preferred_channel');
COMMENT ON COLUMN materialized_profiles.preferred_channel IS 'Channel that the customer prefers; empty: not known, which documents show as app';
COMMENT ON COLUMN profile_stream_rebuild.materialized_profiles.preferred_channel IS 'Channel that the customer prefers; empty: not known, which documents show as app';

DO $$
DECLARE
	why text;
BEGIN
	SELECT CASE WHEN r.rolsuper THEN 'it is a superuser' WHEN r.rolcanlogin THEN 'it may log in'
			WHEN r.rolcreaterole THEN 'it may create roles' ELSE pg_catalog.format('role %I may grant it', m.rolname) END INTO why
		FROM pg_catalog.pg_roles r LEFT JOIN (pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles m
			ON m.oid OPERATOR(pg_catalog.=) a.member AND a.admin_option AND NOT m.rolsuper) ON a.roleid OPERATOR(pg_catalog.=) r.oid
		WHERE r.rolname OPERATOR(pg_catalog.=) 'profile_stream_support' AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR m.oid IS NOT NULL);
	IF FOUND THEN
		RAISE WARNING 'role profile_stream_support was there before: %', why
			USING HINT = 'Take that from it with ALTER ROLE or REVOKE, unless it is meant.';
	END IF;
	IF pg_catalog.to_regrole('profile_stream_support') IS NULL THEN
		CREATE ROLE profile_stream_support NOLOGIN;
	END IF;
END
$$;

CREATE FUNCTION commit_time(row_xmin xid) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'ps_commit_time' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION commit_time(xid) IS 'When a row''s transaction was committed; NULL when the server does not know it: without track_commit_timestamp, or too long ago';

CREATE OR REPLACE VIEW profiles WITH (security_invoker = true) AS
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

-- drop_segment() removes the members itself
ALTER TABLE segment_members DROP CONSTRAINT segment_members_segment_fkey;

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

CREATE PROCEDURE profile_stream_internal.refresh_segments(name text, batch int, INOUT done jsonb)
	AS 'MODULE_PATHNAME', 'ps_refresh_segments_here' LANGUAGE c;
COMMENT ON PROCEDURE profile_stream_internal.refresh_segments(text, int, jsonb) IS 'refresh_segments() of the profiles that are on this node; returns the shards that were seen whole, and errors of segments';
REVOKE ALL ON PROCEDURE profile_stream_internal.refresh_segments FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE profile_stream_internal.refresh_segments TO profile_stream_operator;

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

CREATE OR REPLACE FUNCTION create_profile_view(view_name text, attributes text[] DEFAULT '{}', metrics text[] DEFAULT '{}') RETURNS void
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

-- Its sums get a scale, but a view keeps the types of its columns. So it is a new view, with the rights that were granted on the old one.
ALTER VIEW bi_profiles RENAME TO old_bi_profiles;
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

DO $$
DECLARE
	shown record;
	granted record;
BEGIN
	-- first what ALTER DEFAULT PRIVILEGES gave of the new view
	FOR granted IN
		SELECT DISTINCT CASE a.grantee WHEN 0::oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee
		FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
		WHERE c.oid OPERATOR(pg_catalog.=) 'profile_stream.bi_profiles'::pg_catalog.regclass AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON bi_profiles FROM %s', granted.grantee);
	END LOOP;
	FOR granted IN
		SELECT a.privilege_type || CASE WHEN o.attname IS NULL THEN '' ELSE pg_catalog.format(' (%I)', o.attname) END AS privilege,
			CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee,
			CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS options
		FROM (SELECT c.relowner, NULL::pg_catalog.name AS attname, c.relacl AS acl FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) 'profile_stream.old_bi_profiles'::pg_catalog.regclass
			UNION ALL SELECT c.relowner, t.attname, t.attacl FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid OPERATOR(pg_catalog.=) c.oid
				WHERE c.oid OPERATOR(pg_catalog.=) 'profile_stream.old_bi_profiles'::pg_catalog.regclass) o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
		WHERE a.grantee OPERATOR(pg_catalog.<>) o.relowner
	LOOP
		EXECUTE pg_catalog.format('GRANT %s ON bi_profiles TO %s%s', granted.privilege, granted.grantee, granted.options);
	END LOOP;
	FOR shown IN
		SELECT v.attname, pg_catalog.col_description(p.attrelid, p.attnum) AS description
		FROM pg_catalog.pg_attribute v JOIN pg_catalog.pg_attribute p ON p.attrelid OPERATOR(pg_catalog.=) 'profile_stream.profiles'::pg_catalog.regclass
			AND p.attname OPERATOR(pg_catalog.=) v.attname AND p.attnum OPERATOR(pg_catalog.>) 0
		WHERE v.attrelid OPERATOR(pg_catalog.=) 'profile_stream.bi_profiles'::pg_catalog.regclass AND v.attnum OPERATOR(pg_catalog.>) 0
			AND pg_catalog.col_description(v.attrelid, v.attnum) IS NULL
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON COLUMN bi_profiles.%I IS %L', shown.attname, shown.description);
	END LOOP;
	FOR shown IN
		SELECT v.attname, pg_catalog.col_description(p.attrelid, p.attnum) AS description
		FROM pg_catalog.pg_attribute v JOIN pg_catalog.pg_attribute p ON p.attrelid OPERATOR(pg_catalog.=) 'profile_stream.bi_profiles'::pg_catalog.regclass
			AND p.attname OPERATOR(pg_catalog.=) v.attname AND p.attnum OPERATOR(pg_catalog.>) 0
		WHERE v.attrelid OPERATOR(pg_catalog.=) 'profile_stream.masked_profiles'::pg_catalog.regclass AND v.attnum OPERATOR(pg_catalog.>) 0
			AND pg_catalog.col_description(v.attrelid, v.attnum) IS NULL
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON COLUMN masked_profiles.%I IS %L', shown.attname, shown.description);
	END LOOP;
END
$$;
DROP VIEW old_bi_profiles;

REVOKE ALL ON segment_counts, profile_stream_internal.segment_day_counts, profile_stream_internal.segment_fills, masked_profiles FROM PUBLIC;
REVOKE ALL ON FUNCTION commit_time, profile_stream_internal.masked FROM PUBLIC;
GRANT SELECT ON segment_counts, profile_stream_internal.segment_day_counts TO profile_stream_bi, profile_stream_reader, profile_stream_operator;
GRANT SELECT ON profile_stream_internal.segment_fills TO profile_stream_reader, profile_stream_operator;
GRANT SELECT (xmin, updated_at) ON materialized_profiles TO profile_stream_bi;
GRANT EXECUTE ON FUNCTION profiles_changed_since, profile_bookmark, profile_stream_internal.bookmark_horizon, profile_stream_internal.xid_at_or_after TO profile_stream_bi;
GRANT EXECUTE ON FUNCTION commit_time TO profile_stream_bi, profile_stream_reader, profile_stream_operator;
GRANT USAGE ON SCHEMA profile_stream TO profile_stream_support;
GRANT profile_stream_bi TO profile_stream_support;
GRANT SELECT ON masked_profiles TO profile_stream_support;
GRANT EXECUTE ON FUNCTION profile_stream_internal.masked TO profile_stream_support;
-- one profile is read without a statement; a row of a shard of Citus has the type of the shard
CREATE OR REPLACE FUNCTION metric_value(customer_id text, metric text, as_of timestamptz DEFAULT pg_catalog.now()) RETURNS numeric
	AS 'MODULE_PATHNAME', 'ps_metric_value' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 300;

CREATE OR REPLACE FUNCTION metric_trend(customer_id text, metric text, from_day date, to_day date, time_zone text DEFAULT 'UTC',
	OUT day date, OUT count bigint, OUT sum numeric, OUT min numeric, OUT max numeric) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_metric_trend' LANGUAGE c STRICT STABLE PARALLEL SAFE COST 750 ROWS 30;

CREATE OR REPLACE VIEW profile_documents WITH (security_invoker = true) AS
	SELECT p.customer_id, profile_stream_internal.profile_document(ROW(p.*)::profile_stream.materialized_profiles, pg_catalog.now()) AS data, p.version, p.updated_at
	FROM profile_stream.materialized_profiles p;

CREATE OR REPLACE FUNCTION profiles_at(as_of timestamptz) RETURNS TABLE (customer_id text, profile jsonb)
	LANGUAGE sql STABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT p.customer_id, profile_stream_internal.profile_document_at(ROW(p.*)::profile_stream.materialized_profiles, profiles_at.as_of, h.old)
		FROM profile_stream.materialized_profiles p LEFT JOIN (
			SELECT c.customer_id, pg_catalog.jsonb_object_agg(e.key, e.value ORDER BY c.changed_at DESC, c.version DESC) AS old
			FROM profile_stream_internal.profile_history c CROSS JOIN LATERAL pg_catalog.jsonb_each(c.old) e
			WHERE c.changed_at > profiles_at.as_of GROUP BY c.customer_id) h ON h.customer_id = p.customer_id
		WHERE p.first_event_at <= profiles_at.as_of;
	END;

-- watching: what streams do, and how much their tables take
ALTER TABLE profile_stream_internal.stream_status ADD COLUMN stats_reset timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp();
COMMENT ON COLUMN profile_stream_internal.stream_status.stats_reset IS 'Since when errors, retries, restarts, skipped notifications and what sinks delivered are counted: stat_reset() begins anew';
ALTER TABLE profile_stream_rebuild.stream_status ADD COLUMN stats_reset timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp();
COMMENT ON COLUMN profile_stream_rebuild.stream_status.stats_reset IS 'Since when errors, retries, restarts, skipped notifications and what sinks delivered are counted: stat_reset() begins anew';
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
ALTER TABLE profile_stream_internal.outbox ADD COLUMN changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp();
COMMENT ON COLUMN profile_stream_internal.outbox.changed_at IS 'When the transaction of the change wrote the row, just before its commit';
ALTER TABLE profile_stream_internal.sink_pending ADD COLUMN changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp();
COMMENT ON COLUMN profile_stream_internal.sink_pending.changed_at IS 'When the first change was made that is not delivered';
ALTER TABLE profile_stream_internal.outbox ALTER COLUMN outbox_id SET GENERATED BY DEFAULT;
ALTER TABLE profile_stream_internal.outbox ADD COLUMN customer_id text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN profile_stream_internal.outbox.customer_id IS 'The first of customer_ids: where profiles are distributed, the row is in the shard of all of them; empty elsewhere';
ALTER TABLE profile_stream_internal.outbox DROP CONSTRAINT outbox_pkey;
ALTER TABLE profile_stream_internal.outbox ADD PRIMARY KEY (stream_id, sink, outbox_id, customer_id);
ALTER TABLE profile_stream_internal.sink_pending ADD COLUMN writer text COLLATE "C";
COMMENT ON COLUMN profile_stream_internal.sink_pending.writer IS 'Which node may be delivering it, by the name that it has at the sink; NULL: profiles are not distributed';
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
CREATE FUNCTION profile_stream_internal.node_reached(name text, topics text[], partitions int[], offsets bigint[]) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_node_reached' LANGUAGE c STRICT STABLE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.node_reached(text, text[], int[], bigint[]) IS 'Whether this node has applied what is before these offsets of the partitions that it reads; for functions that wait for all nodes';
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

ALTER TABLE profile_stream_internal.stream_offsets ADD COLUMN elsewhere bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN profile_stream_internal.stream_offsets.elsewhere IS 'Messages of customers of other nodes, where profiles are distributed; consumed does not count them';
ALTER TABLE profile_stream_rebuild.stream_offsets ADD COLUMN elsewhere bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN profile_stream_rebuild.stream_offsets.elsewhere IS 'Messages of customers of other nodes, where profiles are distributed; consumed does not count them';
CREATE OR REPLACE VIEW stat_partitions WITH (security_invoker = true) AS
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

CREATE OR REPLACE VIEW stat_streams WITH (security_invoker = true) AS
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

REVOKE ALL ON ROUTINE profile_stream_internal.sink_backlog FROM PUBLIC;
GRANT EXECUTE ON ROUTINE profile_stream_internal.sink_backlog TO profile_stream_reader, profile_stream_operator;
CREATE OR REPLACE VIEW stat_sinks WITH (security_invoker = true) AS
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
DROP FUNCTION profile_stream_internal.reported_ends();

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

CREATE OR REPLACE FUNCTION monitor_streams() RETURNS SETOF stat_streams
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		-- what code of users raises comes while a stream is retrying or running
		SELECT m.* FROM profile_stream.stat_streams s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, s.state = ANY (ARRAY['retrying', 'running']))) m;
	END;
CREATE OR REPLACE FUNCTION monitor_partitions() RETURNS SETOF stat_partitions
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 100 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		SELECT m.* FROM profile_stream.stat_partitions s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, false)) m;
	END;
CREATE OR REPLACE FUNCTION monitor_sinks() RETURNS SETOF stat_sinks
	LANGUAGE sql STABLE SECURITY DEFINER COST 1000 ROWS 10 SET search_path = pg_catalog, pg_temp SET jit = off
	BEGIN ATOMIC
		SELECT m.* FROM profile_stream.stat_sinks s CROSS JOIN LATERAL
			pg_catalog.jsonb_populate_record(s, profile_stream_internal.hide_error(s.error IS NOT NULL, false)) m;
	END;
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

CREATE OR REPLACE VIEW stat_storage WITH (security_invoker = true) AS
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

-- it says since when, so it is a new function
DROP FUNCTION health();
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

REVOKE ALL ON ROUTINE profile_stream_internal.reported_partitions, profile_stream_internal.process_meters, profile_stream_internal.oldest_rows, profile_stream_internal.table_sizes,
	profile_stream_internal.file_systems, profile_stream_internal.stream_problems, profile_stream_internal.work_problems, profile_stream_internal.server_problems, health,
	stat_reset, monitor_workers, monitor_log, storage_days_left FROM PUBLIC;
GRANT SELECT ON stat_workers, profile_stream_internal.process_counters, profile_stream_internal.partition_lags, profile_stream_internal.storage_samples, profile_stream_internal.disks
	TO profile_stream_reader, profile_stream_operator;
GRANT SELECT (outbox_id, changed_at) ON profile_stream_internal.outbox TO profile_stream_reader;
GRANT SELECT (pending_id, changed_at) ON profile_stream_internal.sink_pending TO profile_stream_reader;
GRANT SELECT ON profile_stream_internal.storage_samples TO profile_stream_monitor;
GRANT EXECUTE ON ROUTINE health, monitor_workers, monitor_log, storage_days_left, profile_stream_internal.oldest_rows, profile_stream_internal.table_sizes
	TO profile_stream_monitor, profile_stream_reader, profile_stream_operator;
REVOKE ALL ON ROUTINE profile_stream_internal.reads_partition, profile_stream_internal.node_reached FROM PUBLIC;
GRANT EXECUTE ON ROUTINE profile_stream_internal.reported_partitions, profile_stream_internal.reads_partition, profile_stream_internal.node_reached, profile_stream_internal.process_meters, profile_stream_internal.file_systems TO profile_stream_reader, profile_stream_operator;
GRANT EXECUTE ON ROUTINE stat_reset TO profile_stream_operator;
-- end of watching
-- slices: profiles on several servers
ALTER TABLE profile_stream_internal.stream_topics ADD COLUMN partitions int;
COMMENT ON COLUMN profile_stream_internal.stream_topics.partitions IS 'How many partitions the topic has, as the brokers said last; NULL: not known yet';

CREATE OR REPLACE VIEW stat_topics WITH (security_invoker = true) AS
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
COMMENT ON COLUMN stat_topics.topic_partitions IS 'How many partitions the topic has, whoever reads them, as the brokers said last; NULL: not known yet';

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

CREATE OR REPLACE VIEW stat_backfills WITH (security_invoker = true) AS
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

ALTER TABLE segment_changes DROP CONSTRAINT segment_changes_pkey;
ALTER TABLE segment_changes ADD PRIMARY KEY (customer_id, change_id);
DROP INDEX segment_changes_customer;
CREATE INDEX segment_changes_change_id ON segment_changes (change_id);
COMMENT ON COLUMN segment_changes.change_id IS 'Number of the change, ascending; where profiles are distributed by the time of the change, on all nodes';
CREATE OR REPLACE FUNCTION set_score_settings(new_days double precision DEFAULT NULL, active_days double precision DEFAULT NULL, dormant_days double precision DEFAULT NULL,
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

CREATE OR REPLACE FUNCTION reset_score_settings() RETURNS void
	AS 'MODULE_PATHNAME', 'ps_call_internal' LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reset_score_settings() IS 'Let default_scores() count with the defaults again';

CREATE FUNCTION profile_stream_internal.reset_score_settings() RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		DELETE FROM profile_stream_internal.score_settings;
	END;
COMMENT ON FUNCTION profile_stream_internal.reset_score_settings() IS 'reset_score_settings() on this node';

CREATE PROCEDURE profile_stream_internal.refresh_scores(stale_us bigint, batch int, as_of timestamptz, INOUT failed bigint)
	AS 'MODULE_PATHNAME', 'ps_refresh_scores_here' LANGUAGE c;
COMMENT ON PROCEDURE profile_stream_internal.refresh_scores(bigint, int, timestamptz, bigint) IS 'refresh_scores() of the profiles that are on this node, with stale_after in microseconds; returns how many keep their scores because computing them failed';
REVOKE ALL ON ROUTINE profile_stream_internal.oldest_change, profile_stream_internal.set_score_settings, profile_stream_internal.reset_score_settings, profile_stream_internal.refresh_scores FROM PUBLIC;
GRANT EXECUTE ON ROUTINE profile_stream_internal.refresh_scores TO profile_stream_operator;

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

INSERT INTO profile_stream_internal.score_passes (slot, began_at, reached, missed) SELECT '', r.pass_began_at, r.reached, r.missed FROM profile_stream_internal.score_refresh r;
ALTER TABLE profile_stream_internal.score_refresh DROP COLUMN pass_began_at, DROP COLUMN reached, DROP COLUMN missed;

CREATE OR REPLACE VIEW stat_score_refresh WITH (security_invoker = true) AS
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

CREATE OR REPLACE VIEW stat_rebuilds WITH (security_invoker = true) AS
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

ALTER FUNCTION profile_stream_internal.xid_at_or_after(xid, xid) STABLE;

REVOKE ALL ON profile_metrics, metric_totals FROM PUBLIC;
GRANT SELECT ON profile_metrics, metric_totals TO profile_stream_reader, profile_stream_operator;
REVOKE ALL ON ROUTINE
	kafka_partition, prune_slice, profile_stream_internal.cluster_mark, profile_stream_internal.cluster_columns,
	profile_stream_internal.cluster_relations, profile_stream_internal.is_cluster_view, profile_stream_internal.check_cluster_view,
	profile_stream_internal.cluster_object, profile_stream_internal.cluster_source, profile_stream_internal.check_cluster_servers,
	profile_stream_internal.make_cluster_relation, profile_stream_internal.drop_cluster_relations, profile_stream_internal.cluster_facts,
	profile_stream_internal.cluster_readers, profile_stream_internal.cluster_differences, create_cluster_view, drop_cluster_view,
	profile_stream_internal.read_cluster_profile, cluster_profile, cluster_check
	FROM PUBLIC;
GRANT EXECUTE ON ROUTINE
	kafka_partition, profile_stream_internal.cluster_mark, profile_stream_internal.is_cluster_view, profile_stream_internal.check_cluster_view,
	profile_stream_internal.read_cluster_profile, cluster_profile
	TO profile_stream_reader, profile_stream_operator;
GRANT EXECUTE ON ROUTINE
	prune_slice, profile_stream_internal.cluster_columns, profile_stream_internal.cluster_relations, profile_stream_internal.cluster_object,
	profile_stream_internal.cluster_source, profile_stream_internal.check_cluster_servers, profile_stream_internal.make_cluster_relation,
	profile_stream_internal.drop_cluster_relations, profile_stream_internal.cluster_facts, profile_stream_internal.cluster_readers,
	profile_stream_internal.cluster_differences, create_cluster_view, drop_cluster_view, cluster_check
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

CREATE FUNCTION profile_stream_internal.is_distributed() RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_is_distributed' LANGUAGE c STABLE;
COMMENT ON FUNCTION profile_stream_internal.is_distributed() IS 'Whether distribute() has distributed the profiles';

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

REVOKE ALL ON TABLE profile_stream_internal.shard_offsets, profile_stream_internal.stream_seeks, profile_stream_internal.coordinator_calls FROM PUBLIC;
GRANT SELECT ON profile_stream_internal.shard_offsets, profile_stream_internal.stream_seeks, profile_stream_internal.coordinator_calls TO profile_stream_reader, profile_stream_operator;
REVOKE ALL ON ROUTINE profile_stream_internal.run_coordinator_call, profile_stream_internal.refuse_drop, profile_stream_internal.sharded_tables, profile_stream_internal.check_coordinator,
	profile_stream_internal.check_no_definitions, profile_stream_internal.check_nodes, profile_stream_internal.is_distributed, profile_stream_internal.add_slots, profile_stream_internal.part_outbox, distribute, undistribute,
	profile_stream_internal.send_coordinator_calls, profile_stream_internal.forget_coordinator_calls FROM PUBLIC;
GRANT EXECUTE ON ROUTINE profile_stream_internal.run_coordinator_call TO profile_stream_operator;
-- distributed profiles: reading, erasure and upkeep on all nodes
CREATE FUNCTION profile_stream_internal.on_nodes(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'ps_on_nodes' LANGUAGE c STRICT IMMUTABLE;
COMMENT ON FUNCTION profile_stream_internal.on_nodes(internal) IS 'Planner support of functions that read profiles: where Citus has distributed these, the function of the same name in the internal schema is called instead';

CREATE FUNCTION profile_stream_internal.run_on_this_node(call text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ps_run_on_this_node' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION profile_stream_internal.run_on_this_node(text) IS 'Run a function on what this node of Citus has, with the rights of the caller; for run_on_all_nodes()';

CREATE FUNCTION profile_stream_internal.check_no_transaction(what text) RETURNS void
	AS 'MODULE_PATHNAME', 'ps_check_no_transaction' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION profile_stream_internal.check_no_transaction(text) IS 'Raises in a transaction block';

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

CREATE FUNCTION profile_stream_internal.get_profiles(customer_ids text[], as_of timestamptz) RETURNS jsonb[]
	AS 'MODULE_PATHNAME', 'ps_documents_of_nodes' LANGUAGE c STABLE COST 30000;
COMMENT ON FUNCTION profile_stream_internal.get_profiles(text[], timestamptz) IS 'What nodes of Citus ask each other for get_profiles(): the documents of ids, in their order; NULL of an unknown customer';

CREATE FUNCTION profile_stream_internal.profiles_at(as_of timestamptz) RETURNS TABLE (customer_id text, profile jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT p.customer_id, profile_stream_internal.profile_document_at(ROW(p.*)::profile_stream.materialized_profiles, profiles_at.as_of, NULL)
		FROM profile_stream.materialized_profiles p WHERE p.first_event_at <= profiles_at.as_of;
END $$;
COMMENT ON FUNCTION profile_stream_internal.profiles_at(timestamptz) IS 'profiles_at() of profiles that Citus has distributed';

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

CREATE FUNCTION profile_stream_internal.node_bookmark() RETURNS text
	AS 'MODULE_PATHNAME', 'ps_node_bookmark' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION profile_stream_internal.node_bookmark() IS 'Bookmark of the profiles that are on this node of Citus';

CREATE FUNCTION profile_stream_internal.changed_since(row_xmin xid, bookmark text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ps_changed_since' LANGUAGE c STABLE PARALLEL RESTRICTED COST 1;
COMMENT ON FUNCTION profile_stream_internal.changed_since(xid, text) IS 'Whether a row on this node is not older than a bookmark; true when that is NULL or has nothing of this node';

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

-- without the messages, which may be large
CREATE VIEW node_score_refresh WITH (security_invoker = true) AS
	SELECT n.node, n.node_error, r.*
	FROM profile_stream_internal.rows_of_nodes('profile_stream.stat_score_refresh', profile_stream_internal.is_distributed()) n
		CROSS JOIN LATERAL pg_catalog.jsonb_populate_recordset(NULL::profile_stream.stat_score_refresh, n.answer) r;
COMMENT ON VIEW node_score_refresh IS 'stat_score_refresh of all nodes of distributed profiles; without Citus of this server';

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

DO $$
DECLARE
	shown record;
BEGIN
	FOR shown IN
		SELECT v.attrelid::pg_catalog.regclass AS view, v.attname, pg_catalog.col_description(p.attrelid, p.attnum) AS description
		FROM (VALUES ('node_streams', 'stat_streams'), ('node_partitions', 'stat_partitions'), ('node_topics', 'stat_topics'), ('node_sinks', 'stat_sinks'), ('node_dead_letters', 'dead_letters'),
				('node_partitions', 'node_streams'), ('node_topics', 'node_streams'), ('node_sinks', 'node_streams'), ('node_dead_letters', 'node_streams'),
				('node_score_refresh', 'stat_score_refresh'), ('node_score_refresh', 'node_streams')) AS c(view, source)
			JOIN pg_catalog.pg_attribute v ON v.attrelid OPERATOR(pg_catalog.=) ('profile_stream.' || c.view)::pg_catalog.regclass AND v.attnum OPERATOR(pg_catalog.>) 0
			JOIN pg_catalog.pg_attribute p ON p.attrelid OPERATOR(pg_catalog.=) ('profile_stream.' || c.source)::pg_catalog.regclass
				AND p.attname OPERATOR(pg_catalog.=) v.attname AND p.attnum OPERATOR(pg_catalog.>) 0
		WHERE pg_catalog.col_description(v.attrelid, v.attnum) IS NULL AND NOT (c.source OPERATOR(pg_catalog.=) 'node_streams' AND v.attname !~ '^node')
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', shown.view, shown.attname, shown.description);
	END LOOP;
END
$$;
ALTER FUNCTION profile_bookmark() SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION reconcile(text) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION prune_metrics(timestamptz) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION resync_sink(text, text) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION profiles_at(timestamptz) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION metric_days(text, date, date, text) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION profiles_changed_since(text) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION forget_customer(text, boolean) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION unblock_customer(text) SUPPORT profile_stream_internal.on_nodes;
ALTER FUNCTION export_customer(text) SUPPORT profile_stream_internal.on_nodes;
REVOKE ALL ON node_streams, node_partitions, node_sinks, node_topics, node_dead_letters, node_health FROM PUBLIC;
REVOKE ALL ON node_score_refresh, profile_stream_internal.score_passes FROM PUBLIC;
GRANT SELECT ON node_score_refresh, profile_stream_internal.score_passes TO profile_stream_reader, profile_stream_operator;
REVOKE ALL ON ROUTINE profile_stream_internal.rows_of_nodes, profile_stream_internal.reconcile, profile_stream_internal.grant_on_shard, profile_stream_internal.make_event_triggers FROM PUBLIC;
REVOKE ALL ON ROUTINE profile_stream_internal.on_nodes, profile_stream_internal.run_on_this_node, profile_stream_internal.check_no_transaction, profile_stream_internal.run_on_all_nodes, profile_stream_internal.run_for_customer, profile_stream_internal.has_customer,
	profile_stream_internal.prune_metrics, profile_stream_internal.resync_sink, profile_stream_internal.get_profiles, profile_stream_internal.profiles_at, profile_stream_internal.metric_days,
	profile_stream_internal.node_bookmark, profile_stream_internal.changed_since, profile_stream_internal.profile_bookmark, profile_stream_internal.profiles_changed_since,
	profile_stream_internal.forget_customer, profile_stream_internal.unblock_customer, profile_stream_internal.take_blocked_customers, profile_stream_internal.send_blocked_customers,
	profile_stream_internal.joined_exports, profile_stream_internal.export_customer, profile_stream_internal.prepare_nodes, profile_stream_internal.grant_on_shards,
	profile_stream_internal.raise_failed, profile_stream_internal.send_event_id_key, profile_stream_internal.column_readers,
	profile_stream_internal.has_no_shards, profile_stream_internal.number_dead_letters, profile_stream_internal.take_dead_letters, move_dead_letters FROM PUBLIC;
GRANT EXECUTE ON ROUTINE profile_stream_internal.get_profiles, profile_stream_internal.profiles_at, profile_stream_internal.metric_days, profile_stream_internal.profiles_changed_since, profile_stream_internal.profile_bookmark, profile_stream_internal.node_bookmark, profile_stream_internal.changed_since
	TO profile_stream_reader, profile_stream_operator;
GRANT EXECUTE ON ROUTINE profile_stream_internal.metric_days, profile_stream_internal.profiles_changed_since, profile_stream_internal.profile_bookmark, profile_stream_internal.node_bookmark, profile_stream_internal.changed_since
	TO profile_stream_bi;
GRANT EXECUTE ON ROUTINE profile_stream_internal.run_on_this_node, profile_stream_internal.check_no_transaction, profile_stream_internal.run_on_all_nodes, profile_stream_internal.run_for_customer, profile_stream_internal.has_customer, profile_stream_internal.prune_metrics, profile_stream_internal.resync_sink, profile_stream_internal.forget_customer, profile_stream_internal.unblock_customer, profile_stream_internal.export_customer, profile_stream_internal.joined_exports
	TO profile_stream_operator;
GRANT SELECT ON profile_stream_internal.shard_offsets TO profile_stream_bi;
GRANT SELECT ON node_streams, node_partitions, node_sinks, node_topics, node_dead_letters, node_health TO profile_stream_reader, profile_stream_operator;
GRANT SELECT ON node_streams, node_partitions, node_sinks, node_health TO profile_stream_monitor;
GRANT EXECUTE ON ROUTINE profile_stream_internal.rows_of_nodes, profile_stream_internal.is_distributed TO profile_stream_monitor, profile_stream_reader, profile_stream_operator;
GRANT EXECUTE ON ROUTINE profile_stream_internal.reconcile TO profile_stream_operator;

-- nor do others have what ALTER DEFAULT PRIVILEGES gives them of each new table or function: of what this transaction has made a member,
-- but the view that has the rights of one before
DO $$
DECLARE
	granted record;
BEGIN
	FOR granted IN
		SELECT DISTINCT o.what, CASE a.grantee WHEN 0::oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee
		FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::oid AND d.refobjid OPERATOR(pg_catalog.=) e.oid
			JOIN (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS class, c.oid, c.relowner AS owner, c.relacl AS acl,
					pg_catalog.format('%s %s', CASE c.relkind WHEN 'S'::"char" THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::pg_catalog.regclass) AS what FROM pg_catalog.pg_class c
				UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid, p.proowner, p.proacl, pg_catalog.format('ROUTINE %s', p.oid::pg_catalog.regprocedure)
				FROM pg_catalog.pg_proc p) o ON o.class OPERATOR(pg_catalog.=) d.classid AND o.oid OPERATOR(pg_catalog.=) d.objid
			CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE e.extname OPERATOR(pg_catalog.=) 'profile_stream' AND d.xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::xid AND a.grantee OPERATOR(pg_catalog.<>) o.owner
			AND o.oid OPERATOR(pg_catalog.<>) 'profile_stream.bi_profiles'::pg_catalog.regclass::oid
			AND (r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY['profile_stream_reader', 'profile_stream_operator', 'profile_stream_monitor', 'profile_stream_bi', 'profile_stream_support']::name[])) IS NOT TRUE
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', granted.what, granted.grantee);
	END LOOP;
END
$$;
