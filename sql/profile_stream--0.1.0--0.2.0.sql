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
	-- here: ALTER TABLE … ADD COLUMN … DEFAULT …;
	FOREACH definition IN ARRAY definitions LOOP
		EXECUTE definition;
	END LOOP;
END
$$;

DROP FUNCTION profile_stream_internal.retry_events(jsonb[], bigint, int, boolean);
CREATE FUNCTION profile_stream_internal.retry_events(events jsonb[], dedupe_retention_us bigint, scope int DEFAULT 0, accept boolean DEFAULT false, types text[] DEFAULT '{}',
	OUT ordinal int, OUT outcome text, OUT kind text, OUT errors text[], OUT sqlstate text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ps_retry_events' LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION profile_stream_internal.retry_events IS 'What retry_dead_letters() applies with: as apply_events(), but what is dead is said and not written; scope: stream_id of a stream whose event ids are its own, 0 of others; accept: as unknown_schema; types: as event_types, empty for all';
REVOKE ALL ON FUNCTION profile_stream_internal.retry_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profile_stream_internal.retry_events TO profile_stream_operator;

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
	results jsonb;
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
	FOR source IN
		SELECT o.retention, o.scope, o.accept, o.types, array_agg(u.id ORDER BY u.n) AS ids, array_agg(u.event ORDER BY u.n) AS events
		FROM unnest(all_ids, all_events, all_streams) WITH ORDINALITY AS u(id, event, stream_id, n)
			LEFT JOIN profile_stream.streams s ON s.stream_id = u.stream_id
			CROSS JOIN LATERAL (SELECT COALESCE((EXTRACT(epoch FROM s.dedupe_retention) * 1000000)::bigint, 604800000000) AS retention,
				CASE WHEN s.event_id_scope = 'stream' THEN s.stream_id ELSE 0 END AS scope,
				COALESCE(s.unknown_schema = 'accept', false) AS accept, COALESCE(s.event_types, '{}') AS types) o
		GROUP BY o.retention, o.scope, o.accept, o.types
	LOOP
		BEGIN
			SELECT jsonb_agg(to_jsonb(r) ORDER BY r.ordinal) INTO results FROM profile_stream_internal.retry_events(source.events, source.retention, source.scope, source.accept, source.types) r;
		EXCEPTION WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_privilege
			OR insufficient_resources OR operator_intervention THEN
			RAISE;
		WHEN OTHERS THEN
			-- a trigger or constraint refuses one of them: find out which
			results := '[]';
			FOR i IN 1 .. cardinality(source.ids) LOOP
				BEGIN
					results := results || (SELECT jsonb_agg(to_jsonb(r) || jsonb_build_object('ordinal', i))
						FROM profile_stream_internal.retry_events(ARRAY[source.events[i]], source.retention, source.scope, source.accept, source.types) r);
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
		-- a letter goes when all of its events are done; one whose events are all of types that the stream does not take is kept as it is
		undone := ARRAY(SELECT source.ids[r.ordinal] FROM jsonb_to_recordset(results) AS r(ordinal int, outcome text)
			WHERE r.outcome NOT IN ('applied', 'duplicate', 'blocked', 'ignored'));
		PERFORM profile_stream_internal.settle_dead_letters(source.ids, COALESCE((SELECT jsonb_agg(r.result) FROM jsonb_array_elements(results) AS r(result)
			WHERE r.result ->> 'outcome' NOT IN ('applied', 'duplicate', 'blocked', 'ignored')
				OR r.result ->> 'outcome' <> 'ignored' AND source.ids[(r.result ->> 'ordinal')::int] <> ALL (undone)), '[]'));
		kept := kept + (SELECT count(*) FROM (SELECT FROM jsonb_to_recordset(results) AS r(ordinal int, outcome text)
			GROUP BY source.ids[r.ordinal] HAVING bool_and(r.outcome = 'ignored')) k);
		SELECT applied + count(*) FILTER (WHERE r.outcome = 'applied'), duplicates + count(*) FILTER (WHERE r.outcome = 'duplicate'),
			failed + count(*) FILTER (WHERE r.outcome NOT IN ('applied', 'duplicate', 'blocked', 'ignored')), blocked + count(*) FILTER (WHERE r.outcome = 'blocked')
			INTO applied, duplicates, failed, blocked FROM jsonb_to_recordset(results) AS r(outcome text);
	END LOOP;
END $$;

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
			WHEN 'no_function' THEN 'Create the function again, or take the entry away.'
			WHEN 'blocked' THEN 'Its predicate failed, and its members stay. refresh_segments() and alter_segment() let it begin again.' END AS hint,
		s.created_at, s.refreshed_at, s.error, s.error_at, s.failing_since, s.evaluate, s.quiet_period
	FROM profile_stream_internal.code_definitions d
		LEFT JOIN profile_stream_internal.segments s ON d.kind = 'segment' AND s.name = d.key
		CROSS JOIN LATERAL (SELECT profile_stream_internal.code_state(CASE WHEN d.kind <> 'score_function' THEN d.function END, d.owner, d.confirmed) AS state OFFSET 0) x
		CROSS JOIN LATERAL (SELECT CASE WHEN x.state = 'ok' AND s.blocked_at IS NOT NULL THEN 'blocked' ELSE x.state END AS state OFFSET 0) c;
COMMENT ON COLUMN stat_code.code IS 'The function, the condition of a segment, or the query of a backfill; NULL: a query, for who may not call backfill()';

ALTER TABLE profile_stream_internal.outbox ADD COLUMN first_change bigint;
COMMENT ON COLUMN profile_stream_internal.outbox.first_change IS 'Number of the first of the segment_changes that the commit has written; NULL: this row does not tell of them';
ALTER TABLE profile_stream_internal.sink_pending ADD COLUMN first_change bigint;
COMMENT ON COLUMN profile_stream_internal.sink_pending.first_change IS 'The customer''s segment_changes from this number on are to be told; NULL: none';
-- A text that is not known is empty, also the channel, which documents show as app. Profiles that are there keep theirs.
ALTER TABLE materialized_profiles ALTER COLUMN preferred_channel SET DEFAULT '';
ALTER TABLE profile_stream_rebuild.materialized_profiles ALTER COLUMN preferred_channel SET DEFAULT '';
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

CREATE TABLE segment_counts (
	day date NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('all', 'unscored', 'score', 'rule')),
	segment text COLLATE "C" NOT NULL,
	customers bigint NOT NULL,
	counted_at timestamptz NOT NULL,
	PRIMARY KEY (day, kind, segment)
);
SELECT pg_catalog.pg_extension_config_dump('segment_counts', '');
COMMENT ON TABLE segment_counts IS 'How many customers each segment had, a row for each day and segment: as of the last refresh of the day, or of its begin';
COMMENT ON COLUMN segment_counts.day IS 'Day in UTC';
COMMENT ON COLUMN segment_counts.kind IS 'all: all customers; unscored: those without a segment yet; score: a segment of the scores; rule: a segment of create_segment()';
COMMENT ON COLUMN segment_counts.segment IS 'Name of the segment; all or unscored of these kinds';
COMMENT ON COLUMN segment_counts.customers IS 'Number of customers who were in it';
COMMENT ON COLUMN segment_counts.counted_at IS 'When they were counted';

CREATE OR REPLACE FUNCTION create_profile_view(view_name text, attributes text[] DEFAULT '{}', metrics text[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
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

	-- The columns are those of the view profiles, word for word, up to FROM. But their part that counts is named by no reader.
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
		CASE WHEN p.scored_at IS NOT NULL OR p.lifetime_value <> 0::numeric
			THEN LEAST(GREATEST(p.lifetime_value, -9999999999999999999999999999999999.9999), 9999999999999999999999999999999999.9999)::numeric(38,4) END AS lifetime_value,
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
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER COST 1000 SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		SELECT CASE masked.contact
				WHEN 'first_name' THEN pg_catalog.left(NULLIF(p.first_name, ''), 1) || '***'
				WHEN 'last_name' THEN pg_catalog.left(NULLIF(p.last_name, ''), 1) || '***'
				WHEN 'email' THEN pg_catalog.left(NULLIF(p.email, ''), 1) || '***' || COALESCE(pg_catalog.substring(p.email, '.(@[^@]+)$'), '')
				WHEN 'phone' THEN CASE WHEN pg_catalog.length(p.phone) > 5 THEN '***' || pg_catalog.right(p.phone, 2) WHEN p.phone <> '' THEN '***' END
			END
		FROM profile_stream.materialized_profiles p WHERE p.customer_id = masked.customer_id;
	END;
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
	FOR granted IN
		SELECT a.privilege_type, CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee,
			CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS options
		FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
		WHERE c.oid OPERATOR(pg_catalog.=) 'profile_stream.old_bi_profiles'::pg_catalog.regclass AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
	LOOP
		EXECUTE pg_catalog.format('GRANT %s ON bi_profiles TO %s%s', granted.privilege_type, granted.grantee, granted.options);
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

REVOKE ALL ON segment_counts, masked_profiles FROM PUBLIC;
REVOKE ALL ON FUNCTION commit_time, profile_stream_internal.masked FROM PUBLIC;
GRANT SELECT ON segment_counts TO profile_stream_bi, profile_stream_reader, profile_stream_operator;
GRANT SELECT (xmin, updated_at) ON materialized_profiles TO profile_stream_bi;
GRANT EXECUTE ON FUNCTION profiles_changed_since, profile_bookmark, profile_stream_internal.bookmark_horizon, profile_stream_internal.xid_at_or_after TO profile_stream_bi;
GRANT EXECUTE ON FUNCTION commit_time TO profile_stream_bi, profile_stream_reader, profile_stream_operator;
GRANT USAGE ON SCHEMA profile_stream TO profile_stream_support;
GRANT profile_stream_bi TO profile_stream_support;
GRANT SELECT ON masked_profiles TO profile_stream_support;
GRANT EXECUTE ON FUNCTION profile_stream_internal.masked TO profile_stream_support;
