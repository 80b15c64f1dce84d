-- Whoever mistypes a name, a word, a number or a time is told so, and is not given an empty result.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = notice;
BEGIN;
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "m", "eventType": "seen", "timestamp": "never"}');

-- dead letters are chosen by what there can be; what there is none of yet is no mistake
SAVEPOINT s;
SELECT profile_stream.retry_dead_letters(kind => 'typo');
ROLLBACK TO s;
SELECT profile_stream.discard_dead_letters(kind => 'Invalid');
ROLLBACK TO s;
SELECT profile_stream.retry_dead_letters(stream => 'typo');
ROLLBACK TO s;
SELECT profile_stream.discard_dead_letters(topic => 'typo');
ROLLBACK TO s;
SELECT profile_stream.retry_dead_letters(sqlstate => '2351');
ROLLBACK TO s;
SELECT profile_stream.retry_dead_letters(since => '2026-01-02', until => '2026-01-01');
ROLLBACK TO s;
\set VERBOSITY terse
SET client_min_messages = warning;	-- a server without preload tells that the stream will not start by itself
SELECT profile_stream.create_stream('mistaken', bootstrap_servers => '127.0.0.1:1', topic => 'm');
SET client_min_messages = notice;
SELECT profile_stream.discard_dead_letters('mistaken', 'late', 'seen', '23514', '2026-01-01', '2026-01-02', '{0}', 'm') AS discarded;
\set VERBOSITY default

-- a stream
SAVEPOINT s;
SELECT profile_stream.create_stream('none', bootstrap_servers => '127.0.0.1:1', topics => '{}');
ROLLBACK TO s;
SELECT profile_stream.create_stream('none', bootstrap_servers => '127.0.0.1:1', topic_pattern => '');
ROLLBACK TO s;
SELECT profile_stream.create_stream('none', bootstrap_servers => '127.0.0.1:1', start_from => 'earlyest');
ROLLBACK TO s;
SELECT profile_stream.create_stream('none', bootstrap_servers => '127.0.0.1:1', start_from => '2026-13-45');
ROLLBACK TO s;
SELECT profile_stream.create_stream('none', server => 'renamed');
ROLLBACK TO s;
SELECT profile_stream.alter_stream('mistaken', redis => 'renamed');
ROLLBACK TO s;
SELECT profile_stream.seek_stream('mistaken', 'lastest');
ROLLBACK TO s;
SELECT profile_stream.seek_stream('mistaken', '2026-01-01 25:00');
ROLLBACK TO s;
SELECT profile_stream.seek_stream('mistaken', 'infinity');
ROLLBACK TO s;

-- settings of scores
SELECT profile_stream.set_score_settings(new_days => 'NaN');
ROLLBACK TO s;
SELECT profile_stream.set_score_settings(champion_value => 'NaN');
ROLLBACK TO s;
SELECT profile_stream.set_score_settings(at_risk_churn => 'NaN');
ROLLBACK TO s;
SELECT profile_stream.set_score_settings(margin => 7);
ROLLBACK TO s;
\set VERBOSITY terse
DO $$
DECLARE
	setting text;
	wrong text;
	accepted text[] := '{}';
BEGIN
	FOREACH setting IN ARRAY (SELECT proargnames FROM pg_proc WHERE oid = 'profile_stream.set_score_settings'::regproc) LOOP
		FOREACH wrong IN ARRAY '{NaN,Infinity,-Infinity,-1}'::text[] LOOP
			BEGIN
				EXECUTE format('SELECT profile_stream.set_score_settings(%I => %L)', setting, wrong);
				accepted := accepted || format('%s => %s', setting, wrong);
			EXCEPTION WHEN invalid_parameter_value THEN
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE 'accepted: %', accepted;
END $$;
SELECT profile_stream.set_score_settings(0, 0, 0, 0, 0, 0, 0, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0), profile_stream.set_score_settings(at_risk_churn => 1, ticket_risk => 1, trend_risk => 1, margin => 1, monthly_discount => 1);
\set VERBOSITY default

-- code of users
SAVEPOINT s;
SELECT profile_stream.confirm_code('handlers');
ROLLBACK TO s;
SELECT profile_stream.confirm_code('segment', 'typo');
ROLLBACK TO s;
SELECT profile_stream.confirm_code(name => 'typo');
ROLLBACK TO s;
SELECT profile_stream.unregister_handler('seen', 'public.typo');
ROLLBACK TO s;
SELECT profile_stream.test_handler('order.plced', '{}') -> 'eventCounts' AS counted;
SELECT profile_stream.test_handler('session.started', '{}') -> 'eventCounts' AS counted;
ROLLBACK;

-- a table that a crash empties
BEGIN;
SET LOCAL client_min_messages = error;
CREATE FUNCTION pg_temp.unlogged() RETURNS TABLE (status text, subject text, problem text, action text) LANGUAGE sql AS
	$$ SELECT status, subject, problem, action FROM profile_stream.health() WHERE problem ~ 'logged' $$;
SELECT * FROM pg_temp.unlogged();
ALTER TABLE profile_stream.materialized_profiles SET UNLOGGED;
SELECT * FROM pg_temp.unlogged();
ALTER TABLE profile_stream.materialized_profiles SET LOGGED;
SELECT * FROM pg_temp.unlogged();
ROLLBACK;
