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
