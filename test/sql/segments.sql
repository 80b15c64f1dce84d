-- live segments: who enters and leaves while events are applied, scores change and time passes; what cannot be live; errors; the same
-- as an evaluation of the view at every moment
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/functions.sql'
SET client_min_messages = warning;
\i :functions
\set ECHO all
SET timezone = 'UTC';
SET client_min_messages = warning;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream.segment_changes;
CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS
$$ SELECT set_config('profile_stream.failpoint_clock', (extract(epoch FROM t - '2000-01-01Z') * 1000000)::bigint::text, false) $$;
CREATE SEQUENCE pg_temp.event_number;
CREATE FUNCTION pg_temp.event(customer text, type text, at timestamptz, payload jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS
$$ SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'e' || nextval('pg_temp.event_number'), 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', payload)) $$;
CREATE VIEW pg_temp.changes AS SELECT customer_id, from_segment, to_segment, changed_at, quiet, event_id, event_at FROM profile_stream.segment_changes ORDER BY change_id;

-- by events
SELECT pg_temp.at('2024-01-01 12:00Z');
SELECT profile_stream.create_segment('rich', 'total_balance > 1000', quiet_period => '0');
SELECT profile_stream.create_segment('busy', 'transaction_count_30d >= 2 AND first_name <> ''''');
SELECT kind, name, state, evaluate, quiet_period FROM profile_stream.stat_code ORDER BY 2;
SELECT pg_temp.event('a', 'account.opened', '2024-01-01 10:00Z', '{"initialBalance": 1500}');
SELECT pg_temp.event('b', 'account.opened', '2024-01-01 10:00Z', '{"initialBalance": 15}');
SELECT pg_temp.event('a', 'transaction.completed', '2024-01-01 10:00Z', '{"amount": 15}');
SELECT pg_temp.event('a', 'transaction.completed', '2024-01-01 11:00Z', '{"amount": 15}');
SELECT segment, customer_id, entered_at FROM profile_stream.segment_members;
SELECT pg_temp.event('a', 'customer.profile.updated', '2024-01-01 11:30Z', '{"firstName": "Ann"}');
SELECT * FROM pg_temp.changes;
SELECT * FROM profile_stream_internal.segment_checks;
-- with time
SELECT pg_temp.at('2024-01-31 10:00Z'), testing.sweep_segments(10);
SELECT pg_temp.at('2024-01-31 10:00:00.000001Z'), testing.sweep_segments(10), testing.sweep_segments(10);
SELECT * FROM pg_temp.changes OFFSET 2;
SELECT * FROM profile_stream_internal.segment_checks;
-- a segment sees the customers that were there before
SELECT profile_stream.create_segment('all', 'true');
SELECT testing.sweep_segments(1), testing.sweep_segments(10), testing.sweep_segments(10);
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'all' ORDER BY 1;
SELECT name, filled_to, refreshed_at IS NOT NULL AS refreshed FROM profile_stream_internal.segments ORDER BY 1;
-- quiet: within the period entering is no news, but the membership is true
SELECT profile_stream.create_segment('named', 'first_name = ''Bob''', quiet_period => '1 hour');
CREATE FUNCTION pg_temp.name(n text, t timestamptz) RETURNS text LANGUAGE sql AS
$$ SELECT pg_temp.at(t); SELECT pg_temp.event('b', 'customer.profile.updated', t, jsonb_build_object('firstName', n)) $$;
SELECT pg_temp.name('Bob', '2024-02-01 10:00Z'), pg_temp.name('Rob', '2024-02-01 10:10Z'), pg_temp.name('Bob', '2024-02-01 10:20Z'), pg_temp.name('Rob', '2024-02-01 10:30Z'),
	pg_temp.name('Bob', '2024-02-01 11:00Z'), pg_temp.name('Rob', '2024-02-01 11:10Z'), pg_temp.name('Bob', '2024-02-01 11:20Z');
SELECT from_segment, to_segment, changed_at, quiet FROM pg_temp.changes WHERE 'named' IN (from_segment, to_segment);
-- scores
SELECT profile_stream.create_segment('scored', 'segment <> ''unknown''');
CALL profile_stream.refresh_scores('0', as_of => '2024-02-02Z');
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'scored' ORDER BY 1;

-- what cannot be live, and why
SET client_min_messages = notice;
CREATE FUNCTION public.lookup(text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
CREATE FUNCTION public.pure(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > ''a''';
CREATE DOMAIN public.positive AS numeric CHECK (value > 0);
CREATE FUNCTION pg_temp.why(predicate text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM profile_stream.create_segment('why', predicate, evaluate => 'live');
	PERFORM profile_stream.drop_segment('why');
	RETURN 'live';
EXCEPTION WHEN OTHERS THEN
	RETURN regexp_replace(SQLERRM, '.*cannot be evaluated live: ', '');
END $$;
SELECT p AS predicate, pg_temp.why(p) FROM unnest(ARRAY[
	'EXISTS (SELECT FROM pg_class)', 'public.lookup(customer_id)', 'public.pure(customer_id)', 'random() < 0.5', 'clock_timestamp() > last_login_at', 'to_jsonb(profiles) ? ''x''',
	'total_balance::public.positive > 0', 'concat(''{'', version, ''}'')::public.positive[] IS NOT NULL', 'concat(''{'', version, ''}'')::numeric[] = ''{1}''', 'string_to_array(email, ''@'')::text LIKE ''{a,%''',
	'current_setting(''work_mem'') = ''x''', 'session_user = ''x''', 'current_user = ''x''', 'current_time > ''12:00''',
	'last_login_at < now() - interval ''30 days''', 'now() - last_login_at > ''30 days''', 'last_login_at + ''1 month'' < now()', 'last_login_at < now() - interval ''1 month''', 'current_date = last_login_at::date',
	'current_date - last_login_at::date > 7', 'date_trunc(''month'', now()) > last_login_at', 'date_trunc(''month'', now()) = last_login_at', 'extract(hour FROM now()) = 3', 'age(last_login_at) > ''1 year''',
	'(now() > last_login_at) = (now() > updated_at)', 'last_login_at IS NULL OR now() IS NULL', 'profile_stream.metric_value(customer_id, ''none'') > 1', 'profile_stream.metric_value(''b'', ''login_count_7d'') > 1',
	'profile_stream.metric_value(customer_id, ''login_count_7d'') > 1', 'profile_stream.metric_value(customer_id, ''login_count_7d'', now() - ''1 day''::interval) > 1', 'login_count_7d + transaction_count_30d > 4',
	'(attributes ->> ''until'')::timestamptz > now()', 'profile_stream.attribute_time(attributes ->> ''until'') > now()', 'upper(first_name) LIKE ''A%'' AND email ~ ''@'' AND event_counts ? ''x''', 'to_char(updated_at, ''MM'') = ''02''',
	'concat(first_name, last_name) = ''x''', 'updated_at > now() OR first_event_at > localtimestamp', 'churn_risk_score > 0.5 AND lifetime_value > 10 AND scored_at < now()']) p;
SELECT profile_stream.create_segment('x', 'EXISTS (SELECT FROM pg_class)');
SELECT profile_stream.create_segment('y', 'true', evaluate => 'batch');
SELECT profile_stream.create_segment('z', 'true', evaluate => 'now');
SELECT profile_stream.create_segment('z', 'true', quiet_period => '-1 day');
SELECT profile_stream.create_segment('z', 'true', quiet_period => '1 month');
SELECT profile_stream.create_segment('z', 'true', quiet_period => '367 days');
SELECT profile_stream.create_segment('z', 'true', quiet_period => '100000000 days');
SELECT profile_stream.alter_segment('x', quiet_period => '366 days 1 us');
SELECT profile_stream.create_segment('z', NULL);
SELECT name, evaluate FROM profile_stream_internal.segments WHERE name IN ('x', 'y') ORDER BY 1;
SELECT pg_temp.event('b', 'session.started', '2024-02-02 10:00Z');
SELECT count(*) FROM profile_stream.segment_members WHERE segment IN ('x', 'y');
SELECT profile_stream.alter_segment('y', evaluate => 'live');
SELECT profile_stream.alter_segment('x', predicate => 'version > 100', evaluate => 'live', quiet_period => '2 days');
SELECT pg_temp.event('b', 'session.started', '2024-02-02 10:00Z');
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('x', 'y');
SELECT profile_stream.alter_segment('y', predicate => 'customer_id > ''b'''), profile_stream.alter_segment('x', predicate => 'version > 0', evaluate => 'batch');
SELECT name, evaluate, quiet_period, predicate, filled_to FROM profile_stream_internal.segments WHERE name IN ('x', 'y') ORDER BY 1;
CALL profile_stream.refresh_segments();
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('x', 'y') ORDER BY 1, 2;
SELECT profile_stream.drop_segment('x'), profile_stream.drop_segment('y');

-- an error blocks the segment, and nothing else
SELECT profile_stream.create_segment('bad', '100 / (event_counts ->> ''session.started'')::int > 30');
SELECT profile_stream.create_segment('wide', '(attributes ->> ''size'')::int > 3');
SELECT profile_stream.map_attribute('session.started', 'size', '$.size', type => 'text');
CALL profile_stream.refresh_segments();
SELECT pg_temp.event('b', 'session.started', '2024-02-03 10:00Z', '{"size": "large"}');
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('bad', 'wide') ORDER BY 1, 2;
SELECT name, state, hint, error, error_at IS NOT NULL AS dated, failing_since IS NOT NULL AS since FROM profile_stream.stat_code WHERE name IN ('bad', 'wide') ORDER BY 1;
SELECT pg_temp.event('b', 'session.started', '2024-02-03 10:00Z', '{"size": "5"}');
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('bad', 'wide') ORDER BY 1, 2;
CALL profile_stream.refresh_segments('wide');
SELECT name, state, error FROM profile_stream.stat_code WHERE name IN ('bad', 'wide') ORDER BY 1;
SELECT pg_temp.event('b', 'session.started', '2024-02-03 10:00Z', '{"size": "1"}');
SELECT testing.sweep_segments(100) > 0 AS seen;
SELECT segment, customer_id FROM profile_stream.segment_members WHERE segment IN ('bad', 'wide') ORDER BY 1, 2;
-- so does a function that goes on for too long, a metric that is dropped, or a right that is lost
CREATE FUNCTION public.slow(n bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF n > 1 THEN LOOP END LOOP; END IF; RETURN true; END $$;
SELECT profile_stream.create_metric('sizes', 'session.started', '1 day');
SELECT profile_stream.create_segment('slow', 'public.slow(version)'), profile_stream.create_segment('sized', 'profile_stream.metric_value(customer_id, ''sizes'') > 0');
SET profile_stream.handler_timeout = '50ms';
SELECT pg_temp.event('c', 'session.started', '2024-02-03 10:00Z'), pg_temp.event('c', 'session.started', '2024-02-03 10:00Z');
RESET profile_stream.handler_timeout;
SELECT profile_stream.drop_metric('sizes');
SELECT pg_temp.event('c', 'session.started', '2024-02-03 10:00Z');
SELECT name, state, error FROM profile_stream.stat_code WHERE state <> 'ok' ORDER BY 1;
SELECT segment FROM profile_stream.segment_members WHERE customer_id = 'c' ORDER BY 1;
SELECT profile_stream.drop_segment('slow'), profile_stream.drop_segment('sized'), profile_stream.drop_segment('bad'), profile_stream.drop_segment('wide');

-- an error of the system passes, and blocks only when it comes again and again soon after each other
CREATE FUNCTION public.deadlocks(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF current_setting('regress.deadlocks', true) = 'on' THEN RAISE EXCEPTION 'unlucky' USING ERRCODE = 'deadlock_detected'; END IF; RETURN true; END $$;
SELECT profile_stream.create_segment('unlucky', 'public.deadlocks(first_name)');
CREATE FUNCTION pg_temp.deadlock(moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.at(moment), set_config('regress.deadlocks', 'on', false);
	BEGIN
		PERFORM pg_temp.event('c', 'session.started', moment);
	EXCEPTION WHEN deadlock_detected THEN
	END;
	PERFORM set_config('regress.deadlocks', 'off', false), pg_temp.event('c', 'session.started', moment);
	RETURN (SELECT state FROM profile_stream.stat_code WHERE name = 'unlucky');
END $$;
SELECT n, pg_temp.deadlock('2024-02-03 11:00Z'::timestamptz + n * interval '1 hour') FROM generate_series(1, 5) n;
SELECT n, pg_temp.deadlock('2024-02-03 17:00Z'::timestamptz + n * interval '1 minute') FROM generate_series(1, 3) n;
SELECT pg_temp.at('2024-02-03 12:00Z'), profile_stream.drop_segment('unlucky');

-- with the rights of its owner
CREATE ROLE regress_ann IN ROLE profile_stream_operator;
SET ROLE regress_ann;
SELECT profile_stream.create_segment('as ann', 'current_user = ''regress_ann''');
RESET ROLE;
SELECT pg_temp.event('c', 'session.started', '2024-02-03 10:00Z');
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'as ann';
REVOKE profile_stream_operator FROM regress_ann;
SELECT pg_temp.event('d', 'session.started', '2024-02-03 10:00Z');
SELECT state, error FROM profile_stream.stat_code WHERE name = 'as ann';
GRANT profile_stream_operator TO regress_ann;
CALL profile_stream.refresh_segments('as ann');
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'as ann' ORDER BY 1;
-- what a statement wrote does not run
UPDATE profile_stream_internal.segments SET predicate = 'false' WHERE name = 'as ann';
SELECT pg_temp.event('e', 'session.started', '2024-02-03 10:00Z');
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'as ann' ORDER BY 1;
SELECT profile_stream.alter_segment('as ann', quiet_period => '1 hour');
SELECT profile_stream.confirm_code('segment', 'as ann');
SELECT testing.sweep_segments(100) > 0 AS seen;
SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'as ann' ORDER BY 1;
SELECT profile_stream.drop_segment('as ann');
DROP ROLE regress_ann;

-- a moment that comes nearer takes the place of the one that was further away
SELECT profile_stream.map_attribute('customer.profile.updated', 'until', '$.until');
SELECT profile_stream.create_segment('nearing', '(attributes ->> ''until'')::timestamptz > now()');
SELECT count(pg_temp.event('nearer', 'customer.profile.updated', '2024-02-03 11:00Z', jsonb_build_object('until', '9000-01-01Z'::timestamptz - n * interval '1 day'))) FROM generate_series(1, 20) n;
SELECT * FROM profile_stream_internal.segment_checks WHERE customer_id = 'nearer';
SELECT profile_stream.drop_segment('nearing'), profile_stream.unmap_attribute('customer.profile.updated', 'until');

-- nothing is left of who is forgotten
SELECT profile_stream.create_segment('soon', 'last_login_at > now() - interval ''1 hour''');
SELECT pg_temp.at('2024-02-04 10:00Z'), pg_temp.event('b', 'session.started', '2024-02-04 10:00Z');
SELECT e -> 'segmentChecks' AS checks, (e #> '{segmentChanges,1}') - 'at' AS change, e #> '{profile,segment_state}' AS state FROM profile_stream.export_customer('b') e;
SELECT profile_stream.forget_customer('b');
SELECT count(*) FROM profile_stream_internal.segment_checks WHERE customer_id = 'b';
SELECT testing.sweep_segments(100) >= 0 AS swept;
SELECT count(*) FROM profile_stream.segment_members WHERE customer_id = 'b';
-- a profile that a statement removed leaves at the next refresh
DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'c';
CALL profile_stream.refresh_segments();
SELECT count(*) FROM profile_stream.segment_members WHERE customer_id = 'c';
DELETE FROM profile_stream_internal.segments;
DELETE FROM profile_stream.segment_members;

-- the same as an evaluation of the view at every moment: random events and random jumps of time, also to just before the next check
SET client_min_messages = warning;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream.segment_changes, profile_stream_internal.segment_checks;
SELECT profile_stream.create_metric('spent', 'transaction.completed', '2 hours', value_path => '$.amount', aggregate => 'sum'), profile_stream.create_metric('last', 'transaction.completed', '1 day', value_path => '$.amount', aggregate => 'last'),
	profile_stream.create_metric('shops', 'transaction.completed', '3 days', value_path => '$.amount', aggregate => 'distinct'), profile_stream.create_metric('highest', 'transaction.completed', '5 hours', value_path => '$.amount', aggregate => 'max');
SELECT profile_stream.create_metric('today', 'transaction.completed', "period" => 'day', time_zone => 'America/New_York'), profile_stream.create_metric('in_month', 'transaction.completed', "period" => 'month', time_zone => 'UTC', value_path => '$.amount', aggregate => 'sum'),
	profile_stream.create_metric('ever', 'transaction.completed', "period" => 'lifetime', value_path => '$.amount', aggregate => 'max');
CREATE TEMP TABLE predicates AS SELECT 's' || n AS name, p AS predicate FROM unnest(ARRAY[
	'transaction_count_30d >= 4', 'transaction_count_30d = 3', '5 > transaction_count_30d AND version > 2', 'login_count_7d > 1.5', 'total_transaction_value_30d > 120', 'support_ticket_count_90d <> 1',
	'last_login_at < now() - interval ''3 days''', 'now() - last_transaction_at BETWEEN ''1 day'' AND ''2 days 3 hours''', 'last_login_at + interval ''1 month'' < now()', 'last_transaction_at > now() - interval ''1 month'' OR login_count_7d = 0',
	'current_date = last_login_at::date', 'current_date - last_transaction_at::date >= 2', 'date_trunc(''week'', now()) > last_login_at', 'login_count_7d + transaction_count_30d > 6',
	'profile_stream.metric_value(customer_id, ''spent'') > 60', 'profile_stream.metric_value(customer_id, ''spent'') < 0', 'profile_stream.metric_value(customer_id, ''last'') > 20', 'profile_stream.metric_value(customer_id, ''shops'') >= 3',
	'profile_stream.metric_value(customer_id, ''highest'') IS NULL', 'CASE WHEN total_balance > 50 THEN login_count_7d > 0 ELSE last_transaction_at > now() - interval ''12 hours'' END',
	'profile_stream.metric_value(customer_id, ''today'') >= 1', 'profile_stream.metric_value(customer_id, ''in_month'') > 50', 'profile_stream.metric_value(customer_id, ''ever'') > 45',
	'(attributes ->> ''until'')::timestamptz > now()', 'first_name = ''n1'' AND (event_counts ->> ''session.started'')::int > 2']) WITH ORDINALITY u(p, n);
SELECT profile_stream.map_attribute('customer.profile.updated', 'until', '$.until');
SELECT count(profile_stream.create_segment(name, predicate, evaluate => 'live')::text) AS live FROM predicates;
CREATE FUNCTION pg_temp.wrong(moment timestamptz, of text[] DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	t text := quote_literal(moment) || '::timestamptz';
	p record;
BEGIN
	FOR p IN SELECT * FROM predicates LOOP
		RETURN QUERY EXECUTE 'WITH x AS (SELECT customer_id FROM (SELECT p.*, '
			|| (SELECT string_agg(format('profile_stream.window_value(customer_id, window_state, %L, %s) AS %I', m, t, m), ', ')
				FROM unnest(ARRAY['transaction_count_30d', 'login_count_7d', 'support_ticket_count_90d', 'total_transaction_value_30d']) m)
			|| ' FROM profile_stream.materialized_profiles p) profiles WHERE '
			|| replace(replace(regexp_replace(p.predicate, '(metric_value\(customer_id, ''\w+'')', '\1, ' || t, 'g'), 'now()', t), 'current_date', '(' || t || ')::date') || '),'
			|| ' m AS (SELECT customer_id FROM profile_stream.segment_members WHERE segment = $1)'
			|| ' SELECT $1 || '' '' || COALESCE(x.customer_id || '' is not in'', m.customer_id || '' is in'') || '' at '' || $2 FROM x FULL JOIN m ON m.customer_id = x.customer_id'
			|| ' WHERE (x.customer_id IS NULL OR m.customer_id IS NULL) AND ($3 IS NULL OR COALESCE(x.customer_id, m.customer_id) = ANY ($3))'
			USING p.name, moment, of;
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.simulate(seed float8, steps int) RETURNS TABLE (problem text) LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz := '2024-03-01Z';
	due timestamptz;
	touched text[];
	n int;
BEGIN
	TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream.segment_members, profile_stream_internal.segment_checks;
	PERFORM setseed(seed);
	FOR step IN 1 .. steps LOOP
		SELECT min(due_at) INTO due FROM profile_stream_internal.segment_checks;
		-- up to the next check nothing may change
		IF random() < 0.5 AND due > t + interval '2 microseconds' THEN
			t := due - interval '1 microsecond';
			PERFORM pg_temp.at(t);
			RETURN QUERY SELECT 'too late: ' || w FROM pg_temp.wrong(t) w;
			t := due;
		ELSE
			t := t + random() ^ 4 * interval '4 days' + interval '1 second';
		END IF;
		PERFORM pg_temp.at(t);
		IF random() < 0.6 THEN
			n := CASE WHEN random() < 0.1 THEN 40 ELSE 1 + random() * 3 END;
			SELECT array_agg(e ->> 'customerId'), array_length(profile_stream.apply_events(array_agg(e)), 1) INTO touched, n FROM (
				SELECT jsonb_build_object('eventId', step || '-' || i, 'customerId', 'c' || CASE WHEN n = 40 THEN 1 ELSE floor(random() * 6) END,
					'eventType', (ARRAY['transaction.completed', 'session.started', 'account.opened', 'support.ticket.created', 'customer.profile.updated', 'transaction.completed'])[CASE WHEN n = 40 THEN 1 ELSE 1 + floor(random() * 6) END],
					'timestamp', t - random() ^ 3 * interval '3 days' + CASE WHEN random() < 0.1 THEN interval '30 minutes' ELSE '0' END,
					'payload', jsonb_build_object('amount', floor(random() * 60) - 10, 'initialBalance', floor(random() * 40), 'firstName', 'n' || floor(random() * 3), 'until', t + random() * interval '2 days')) AS e
				FROM generate_series(1, n) i) x;
			RETURN QUERY SELECT 'event: ' || w FROM pg_temp.wrong(t, touched) w;
		END IF;
		-- in small steps, as a worker does
		WHILE testing.sweep_segments(2) > 0 LOOP END LOOP;
		RETURN QUERY SELECT 'sweep: ' || w FROM pg_temp.wrong(t) w;
		IF random() < 0.03 THEN
			PERFORM profile_stream.prune_metrics(t);
		END IF;
	END LOOP;
END $$;
SELECT * FROM pg_temp.simulate(0.1, 150) LIMIT 5;
-- also where statements read and write the rows
SET profile_stream.direct_access = off;
SELECT * FROM pg_temp.simulate(0.2, 40) LIMIT 5;
RESET profile_stream.direct_access;
SELECT count(*) > 300 AS many_changes, count(*) FILTER (WHERE event_id IS NULL) > 50 AS with_time, count(DISTINCT COALESCE(from_segment, to_segment)) AS segments FROM profile_stream.segment_changes;
-- nobody is visited often for nothing
SELECT count(*) < 60 AS few FROM profile_stream_internal.segment_checks;

SELECT profile_stream.drop_metric(m) FROM unnest('{spent,last,shops,highest,today,in_month,ever}'::text[]) m;
SELECT profile_stream.unmap_attribute('customer.profile.updated', 'until'), profile_stream.unmap_attribute('session.started', 'size');
DELETE FROM profile_stream_internal.segments;
DELETE FROM profile_stream.segment_members;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream.segment_changes, profile_stream_internal.segment_checks, profile_stream_internal.score_refresh, profile_stream_internal.score_passes;
RESET profile_stream.failpoint_clock;
DROP FUNCTION public.lookup, public.pure, public.slow, public.deadlocks;
DROP DOMAIN public.positive;
