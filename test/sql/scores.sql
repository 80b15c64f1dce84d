-- refresh_scores(), set_score_function(), and segments by rule: formulas, errors, rights, what is left behind
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
SET timezone = 'UTC';
-- one event each of these days before 2024-07-01
CREATE FUNCTION public.live(customer text, type text, amount numeric, VARIADIC days int[]) RETURNS bigint LANGUAGE sql
	RETURN (SELECT count(*) FROM unnest(profile_stream.apply_events(ARRAY(
		SELECT jsonb_build_object('eventId', type || d, 'customerId', customer, 'eventType', type, 'payload', jsonb_build_object('amount', amount),
			'timestamp', timestamptz '2024-07-01Z' - d * interval '1 day') FROM unnest(days) d))) o WHERE o = 'applied');
CREATE VIEW public.scores AS SELECT customer_id, segment, churn_risk_score AS churn, lifetime_value AS value
	FROM profile_stream.materialized_profiles ORDER BY customer_id;
CREATE VIEW public.progress AS SELECT state, profiles_done AS done, profiles_changed AS changed, segment_changes AS moved, profiles_failed AS failed, profiles_skipped AS skipped, error
	FROM profile_stream.stat_score_refresh;

-- What comes out, worked out by hand. A lifetime is worth 0.2 * 0.95 / (1 + 0.01 - 0.95) = 19/6 of a month's value.
-- once: one event, so a gap of 30 days: 1 - 0.5^(10 / (4 * 30)) = 0.0561; 100 * 19/6 * 0.94 = 297.67
SELECT public.live('once', 'transaction.completed', 100, 10);
-- loyal: mean gap 85/6 = 14.17: 1 - 0.5^(5 / 56.67) = 0.0593; 4 of 30 days are more than 3 of 60; 200 * 19/6 * 0.94 = 595.33
SELECT public.live('loyal', 'transaction.completed', 50, 90, 70, 50, 20, 15, 10, 5);
-- tickets: as loyal, with 3 tickets: the gap is 85/9: 0.5^(5 / 37.78) * 0.9^3 = 0.6651; 200 * 19/6 * 0.67 (rounded 0.33) = 424.33
SELECT public.live('tickets', 'transaction.completed', 50, 90, 70, 50, 20, 15, 10, 5), public.live('tickets', 'support.ticket.created', 0, 60, 40, 30);
-- champion: 8 in 30 days and 1600; the gap is 75/8, 0.5^(1 / 37.5) = 0.9817, 1600 * 19/6 * 0.98 = 4965.33
SELECT public.live('champion', 'transaction.completed', 200, 76, 22, 19, 16, 13, 10, 7, 4, 1);
-- falling: 1 in 30 days, before it 9 in 60; gap 80/9: 0.5^(10 / 35.56) * (1 - 0.3 * (1 - (1/30) / (9/60))) = 0.8229 * 0.7667; 100 * 19/6 * 0.63
SELECT public.live('falling', 'transaction.completed', 100, 90, 85, 80, 75, 70, 65, 60, 55, 50, 10);
-- silent: gap 30 days, 40 days ago: 1 - 0.5^(40/120) = 0.2063, but no event for more than 30 days; nothing in 30 days, before it 3 in 70 of 100:
-- 0.7937 * 0.7 = 0.5556
SELECT public.live('silent', 'transaction.completed', 100, 100, 70, 40);
-- gone: more than 90 days
SELECT public.live('gone', 'transaction.completed', 100, 120, 110, 100);
-- busy: two a day and then nothing for 12: the least gap is one day: 1 - 0.5^(12/4) = 0.875
SELECT public.live('busy', 'session.started', 0, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12);
SELECT p.customer_id, d.* FROM profile_stream.materialized_profiles p, profile_stream.default_scores(p, '2024-07-01Z') d ORDER BY 1;

-- a refresh writes just that, in batches, and says so
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z', batch => 3);
SELECT * FROM public.scores;
SELECT * FROM public.progress;
SELECT pid IS NULL AS ended, finished_at >= started_at AS finished, profiles_per_second > 0 AS rate, longest_lock > '0' AS locked, last_batch > '0' AS lasted
FROM profile_stream.stat_score_refresh;
SELECT customer_id, kind, from_segment, to_segment FROM profile_stream.segment_changes ORDER BY customer_id;
SELECT count(*) FILTER (WHERE version = (event_counts ->> 'transaction.completed')::int) AS versions, count(scored_at) AS scored FROM profile_stream.materialized_profiles;
-- what was scored is not stale; and what is scored again is neither changed nor written
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT * FROM public.progress;
CREATE TEMP TABLE unwritten AS SELECT customer_id, p.xmin AS row_xmin, p.ctid AS row_ctid, scored_at FROM profile_stream.materialized_profiles p;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT * FROM public.progress;
SELECT customer_id, p.xmin, p.ctid, scored_at FROM profile_stream.materialized_profiles p EXCEPT TABLE unwritten;
-- a pass that was interrupted goes on, with who was never scored
UPDATE profile_stream_internal.score_passes SET reached = 'gone';
UPDATE profile_stream.materialized_profiles SET scored_at = NULL WHERE customer_id = 'busy';
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT * FROM public.progress;
SELECT customer_id FROM profile_stream.materialized_profiles p WHERE scored_at IS DISTINCT FROM (SELECT u.scored_at FROM unwritten u WHERE u.customer_id = p.customer_id);
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT done FROM public.progress;
-- but not when it began before stale_after, nor when it had missed somebody
UPDATE profile_stream_internal.score_passes SET reached = 'gone', began_at = began_at - interval '2 days';
CALL profile_stream.refresh_scores('1 day', as_of => '2024-07-01Z');
SELECT done FROM public.progress;
UPDATE profile_stream_internal.score_passes SET reached = 'gone', missed = true;
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT done FROM public.progress;
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT done FROM public.progress;
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT done FROM public.progress;
-- an event neither scores nor forgets a score
SELECT public.live('once', 'transaction.completed', 100, 9);
SELECT * FROM public.scores WHERE customer_id = 'once';
-- clients are told, and sinks
SELECT profile_stream.profile_bookmark() AS bookmark \gset
INSERT INTO profile_stream.streams (name, owner, bootstrap_servers, topic, group_id, start_from, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify_channel, notify, options, redis, created_at)
	VALUES ('sinks', to_regrole(current_user), 'none', 't', 'g', 'earliest', 1, '0', '0', 'stop', 'c', 'off', '{}', 'none', now());
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT customer_ids FROM profile_stream_internal.outbox;
SELECT count(*) > 0 AS told FROM profile_stream.profiles_changed_since(:'bookmark') WHERE customer_id = 'once';
TRUNCATE profile_stream_internal.outbox;
-- other settings
INSERT INTO profile_stream_internal.score_settings SELECT true, p.* FROM profile_stream_internal.score_parameters p;
TABLE profile_stream_internal.score_parameters EXCEPT SELECT 30, 30, 90, 4, 8, 1000, 0.7, 4, 1, 30, 0.1, 0.3, 0.2, 0.95, 0.01;
UPDATE profile_stream_internal.score_settings SET margin = 0.4, champion_transactions = 4, champion_value = 200, half_gaps = 1;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT * FROM public.scores WHERE customer_id IN ('loyal', 'champion');
UPDATE profile_stream_internal.score_settings SET monthly_retention = 1;
DELETE FROM profile_stream_internal.score_settings;

-- wrong use
CALL profile_stream.refresh_scores(batch => 0);
CALL profile_stream.refresh_scores('-1 s');
CALL profile_stream.refresh_scores(NULL);
CALL profile_stream.refresh_scores(as_of => 'infinity');
BEGIN;
CALL profile_stream.refresh_scores();
ROLLBACK;
DO $$ BEGIN CALL profile_stream.refresh_scores('0'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END $$;
SET default_transaction_isolation = 'repeatable read';
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
RESET default_transaction_isolation;
SELECT * FROM public.progress;

-- a row that cannot be read does not stop the others
UPDATE profile_stream.materialized_profiles SET window_state = '\x01' WHERE customer_id = 'loyal';
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT * FROM public.progress;
-- it has missed one, so the next refresh begins anew
CALL profile_stream.refresh_scores(as_of => '2024-07-01Z');
SELECT done, failed FROM public.progress;
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'loyal';
-- nor does a trigger that refuses one
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', NEW.customer_id; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW WHEN (NEW.customer_id = 'busy') EXECUTE FUNCTION public.refuse();
CALL profile_stream.refresh_scores('0', as_of => '2024-07-02Z');
SELECT * FROM public.progress;
DROP FUNCTION public.refuse() CASCADE;

-- a function of one's own: what it does not say stays the default
CREATE FUNCTION public.my_scores(profile jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN CASE profile ->> 'customerId'
		WHEN 'once' THEN jsonb_build_object('segment', 'seen ' || (profile ->> 'version'), 'churnRiskScore', 0.125, 'lifetimeValue', 12345678901234567890.5)
		WHEN 'gone' THEN '{"segment": null, "churnRiskScore": 1}'
		WHEN 'falling' THEN NULL
		WHEN 'silent' THEN jsonb_build_object('segment', 1 / (profile ->> 'accountCount')::int)
		ELSE '{"segment": "mine"}' END;
END $$;
SELECT profile_stream.set_score_function('public.my_scores(jsonb)');
SELECT function, owner = to_regrole(current_user) AS mine FROM profile_stream_internal.score_function;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT * FROM public.scores;
SELECT * FROM public.progress;
SELECT customer_id, from_segment, to_segment FROM profile_stream.segment_changes WHERE customer_id = 'once' ORDER BY change_id DESC LIMIT 1;
-- what it must not return
CREATE OR REPLACE FUNCTION public.my_scores(profile jsonb) RETURNS jsonb LANGUAGE sql STABLE RETURN
	CASE profile ->> 'customerId' WHEN 'once' THEN '{"segment": ""}' WHEN 'gone' THEN '{"churnRiskScore": 1.01}' WHEN 'falling' THEN '[]'
		WHEN 'silent' THEN '{"lifetimeValue": "1"}' WHEN 'champion' THEN jsonb_build_object('segment', repeat('x', 64)) WHEN 'busy' THEN '{"lifetimeValue": 1e1000}' ELSE '{"segment": "ok"}' END::jsonb;
CREATE TEMP TABLE before AS SELECT * FROM public.scores;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT done, failed FROM public.progress;
SELECT * FROM public.scores EXCEPT SELECT * FROM before;
-- settings of who refreshes are none of the function's
CREATE OR REPLACE FUNCTION public.my_scores(profile jsonb) RETURNS jsonb LANGUAGE sql STABLE RETURN jsonb_build_object('segment', '2026-01-01 00:00Z'::timestamptz::date::text);
SET timezone = 'America/Los_Angeles';
SET datestyle = 'German, DMY';
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
RESET datestyle;
SET timezone = 'UTC';
SELECT DISTINCT segment FROM profile_stream.materialized_profiles;
-- a function that writes, or may write, or is none
CREATE FUNCTION public.writes(profile jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN DELETE FROM profile_stream_internal.event_id_chunks; RETURN NULL; END $$;
SELECT profile_stream.set_score_function('public.writes(jsonb)');
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT done, failed, error ~ 'DELETE is not allowed in a non-volatile function' AS refused FROM public.progress;
ALTER FUNCTION public.writes(jsonb) VOLATILE;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT state FROM public.progress;
SELECT profile_stream.set_score_function('public.writes(jsonb)');
SELECT profile_stream.set_score_function('pg_catalog.to_jsonb(anyelement)');
SELECT profile_stream.set_score_function('pg_catalog.jsonb_array_elements(jsonb)');
DROP FUNCTION public.writes(jsonb);
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT profile_stream.set_score_function(NULL);
SELECT count(*) FROM profile_stream_internal.score_function;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT state, done, failed FROM public.progress;

-- segments by rule
SELECT profile_stream.create_segment('worth much', 'lifetime_value > 300 -- and so on');
SELECT profile_stream.create_segment('regulars', 'segment IN (''regular'', ''champion'') OR (event_counts ->> ''session.started'')::int > 5 OR attributes ? ''vip''');
CALL profile_stream.refresh_segments(batch => 2);
SELECT segment, customer_id FROM profile_stream.segment_members ORDER BY 1, 2;
SELECT customer_id, kind, from_segment, to_segment FROM profile_stream.segment_changes WHERE kind = 'rule' ORDER BY to_segment, customer_id;
SELECT name, refreshed_at IS NOT NULL AS refreshed, error FROM profile_stream_internal.segments ORDER BY 1;
TRUNCATE profile_stream.segment_changes;
-- who leaves and who enters
CALL profile_stream.refresh_scores('0', as_of => '2024-08-05Z');
CALL profile_stream.refresh_segments('worth much');
CALL profile_stream.refresh_segments();
SELECT customer_id, from_segment, to_segment FROM profile_stream.segment_changes WHERE kind = 'rule' ORDER BY 2, 3, 1;
-- whose profile is gone
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'busy';
CALL profile_stream.refresh_segments();
SELECT segment, customer_id FROM profile_stream.segment_members ORDER BY 1, 2;
-- what is no condition
SELECT profile_stream.create_segment('x', p) FROM unnest(ARRAY['true) OR (true']) p;
SELECT profile_stream.create_segment('x', 'true) UNION SELECT (''{once}''::text[]');
SELECT profile_stream.create_segment('x', 'true, true');
SELECT profile_stream.create_segment('x', 'true FROM pg_class');
SELECT profile_stream.create_segment('x', 'true; DROP TABLE profile_stream_internal.segments');
SELECT profile_stream.create_segment('x', 'true LIMIT 1');
SELECT profile_stream.create_segment('x', 'true INTO public.t');
SELECT profile_stream.create_segment('x', 'true AS t');
SELECT profile_stream.create_segment('x', 'true UNION SELECT true');
SELECT profile_stream.create_segment('x', 'true ORDER BY 1');
SELECT profile_stream.create_segment('x', '*');
SELECT profile_stream.create_segment('x', ' -- nothing');
SELECT profile_stream.create_segment('x', 'true /* ');
SELECT profile_stream.create_segment('x', $$ '\' OR segment = ') OR true -- ' $$);
SELECT profile_stream.create_segment('x', '1');
SELECT profile_stream.create_segment('x', 'no_column > 1');
SELECT profile_stream.create_segment('x', 'count(*) > 1');
SELECT profile_stream.create_segment('', 'true');
SELECT profile_stream.create_segment(repeat('x', 64), 'true');
SELECT profile_stream.create_segment('regulars', 'true');
SELECT profile_stream.drop_segment('x');
CALL profile_stream.refresh_segments('x');
BEGIN;
CALL profile_stream.refresh_segments();
ROLLBACK;
SELECT name FROM profile_stream_internal.segments ORDER BY 1;

-- rights: code runs as who gave it, whoever refreshes, and gets nothing from that
CREATE ROLE regress_ann IN ROLE profile_stream_operator;
CREATE ROLE regress_bob IN ROLE profile_stream_operator;
CREATE ROLE regress_reader IN ROLE profile_stream_reader;
GRANT CREATE ON SCHEMA public TO regress_ann;
CREATE TABLE public.secret AS SELECT 'of the superuser' AS word;
CREATE TABLE public.stolen (word text);
GRANT INSERT, SELECT ON public.stolen TO PUBLIC;
SET ROLE regress_ann;
CREATE FUNCTION public.ann(profile jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF profile ->> 'customerId' = 'once' THEN
		RETURN (SELECT jsonb_build_object('segment', word) FROM public.secret);
	ELSIF profile ->> 'customerId' = 'gone' THEN
		RESET ROLE;
	ELSIF profile ->> 'customerId' = 'silent' THEN
		SET SESSION AUTHORIZATION DEFAULT;
	END IF;
	RETURN jsonb_build_object('segment', current_user);
END $$;
CREATE FUNCTION public.grab() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.stolen SELECT word FROM public.secret; RETURN true; END $$;
SELECT profile_stream.set_score_function('public.ann(jsonb)');
SELECT profile_stream.create_segment('ann', 'customer_id = ''once'' AND public.grab()');
SELECT profile_stream.create_segment('as ann', 'current_user = ''regress_ann'' AND customer_id < ''f''');
SELECT profile_stream.create_segment('stolen', 'EXISTS (SELECT FROM public.secret)');
UPDATE profile_stream_internal.score_function SET owner = to_regrole(session_user);
INSERT INTO profile_stream_internal.segments VALUES ('s', 'true', to_regrole(session_user), now());
UPDATE profile_stream_internal.segments SET owner = to_regrole(session_user);
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
RESET ROLE;
CALL profile_stream.refresh_scores('0', as_of => '2024-07-01Z');
SELECT customer_id, segment FROM public.scores;
SELECT state, done, failed FROM public.progress;
CALL profile_stream.refresh_segments();
SELECT name, error FROM profile_stream_internal.segments WHERE owner::text = 'regress_ann' ORDER BY 1;
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('ann', 'as ann') ORDER BY 1, 2;
SELECT * FROM public.stolen;
SET ROLE regress_bob;
SELECT profile_stream.drop_segment('ann');
SELECT profile_stream.set_score_function('public.ann(jsonb)');
RESET ROLE;
SELECT profile_stream.set_score_function(NULL);
REVOKE EXECUTE ON FUNCTION public.ann(jsonb) FROM PUBLIC;
SET ROLE regress_bob;
SELECT profile_stream.set_score_function('public.ann(jsonb)');
SET ROLE regress_reader;
SELECT profile_stream.create_segment('r', 'true');
CALL profile_stream.refresh_scores();
SELECT count(*) > 0 AS reads FROM profile_stream.segment_members;
RESET ROLE;
-- an owner who is gone
SELECT profile_stream.drop_segment('as ann');
DROP OWNED BY regress_ann;
DROP ROLE regress_ann;
CALL profile_stream.refresh_segments();
SELECT name, error FROM profile_stream_internal.segments WHERE name = 'ann';
SELECT profile_stream.drop_segment('ann');

-- nothing is left of who is forgotten
UPDATE profile_stream_internal.score_refresh SET error = 'customer "once": of once';
UPDATE profile_stream_internal.score_passes SET reached = 'once';
UPDATE profile_stream_internal.segments SET error = 'once more' WHERE name = 'regulars';
INSERT INTO profile_stream.segment_members VALUES ('regulars', 'once', now());
SELECT (SELECT array_agg(s ->> 'segment') FROM jsonb_array_elements(e -> 'segments') s) AS segments, jsonb_array_length(e -> 'segmentChanges') > 0 AS changes,
	e -> 'segmentChanges' -> 0 ? 'at' AS dated FROM profile_stream.export_customer('once') e;
SELECT * FROM profile_stream.forget_customer('once');
SELECT e -> 'segments' AS segments, e -> 'segmentChanges' AS changes FROM profile_stream.export_customer('once') e;
SELECT t FROM (SELECT to_jsonb(m)::text FROM profile_stream.segment_members m UNION ALL SELECT to_jsonb(c)::text FROM profile_stream.segment_changes c
	UNION ALL SELECT to_jsonb(r)::text FROM profile_stream_internal.score_refresh r UNION ALL SELECT to_jsonb(p)::text FROM profile_stream_internal.score_passes p UNION ALL SELECT to_jsonb(s)::text FROM profile_stream_internal.segments s) x (t) WHERE t ~ '\monce\M';

DELETE FROM profile_stream_internal.segments;
DELETE FROM profile_stream.segment_members;
DELETE FROM profile_stream.streams WHERE name = 'sinks';
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks, profile_stream_internal.outbox,
	profile_stream.segment_changes, profile_stream_internal.score_refresh, profile_stream_internal.score_passes;
DROP VIEW public.scores, public.progress;
DROP FUNCTION public.live, public.my_scores;
DROP TABLE public.secret, public.stolen;
DROP ROLE regress_bob, regress_reader;
