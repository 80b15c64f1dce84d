-- handlers and upcasters: functions of users that change profiles and payloads
\set VERBOSITY terse
SET search_path = public;
SET timezone = 'UTC';
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;

CREATE FUNCTION ev(id text, type text, payload jsonb DEFAULT '{}', customer text DEFAULT 'c', version int DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql AS $$ SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type,
		'timestamp', '2026-01-01T00:00:00Z', 'payload', payload, 'schemaVersion', version) $$;
CREATE FUNCTION letters() RETURNS SETOF text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM profile_stream_internal.dead_letters RETURNING *)
	SELECT concat_ws('|', event_id, kind, sqlstate, array_to_string(errors, '; ')) FROM gone ORDER BY dead_letter_id $$;
CREATE FUNCTION shown(customer text DEFAULT 'c') RETURNS jsonb LANGUAGE sql AS $$
	SELECT profile_stream.get_profile(customer) - '{metrics,segment,loginCount7d,lifetimeValue,churnRiskScore,transactionCount30d,totalTransactionValue30d,customerId}'::text[] $$;

-- what a handler is given
CREATE TABLE given (profile jsonb, event jsonb);
CREATE FUNCTION h_given(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.given VALUES (profile, event); RETURN NULL; END $$;
SELECT profile_stream.register_handler('account.opened', 'h_given(jsonb,jsonb)');
SELECT profile_stream.apply_event(ev('g1', 'account.opened', '{"initialBalance": 10.50}'));
SELECT profile_stream.apply_event(ev('g2', 'account.opened', '{"initialBalance": "1", "a": [1, {"b": null}], "t": true, "n": 1e3}') || '{"source": "s"}');
SELECT * FROM given;
SELECT profile_stream.unregister_handler('account.opened', 'public.h_given(jsonb, jsonb)');
SELECT profile_stream.apply_event(ev('g3', 'account.opened'));
SELECT count(*) FROM given;

-- what a handler may change, in any language, one after the other
CREATE FUNCTION h_all(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT profile || '{"firstName": "F", "lastName": "L", "email": "e@x", "phone": "1", "preferredChannel": "web", "totalBalance": 12.340,
		"accountCount": 7, "lastTransactionDate": "2025-05-05T05:05:05.5+01:00", "lastLoginDate": "2025-06-06",
		"attributes": {"a": 1, "b": {"c": [true, null, "x", 1.50]}, "d": "text"}}' $$;
CREATE FUNCTION h_second(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN jsonb_build_object('attributes', jsonb_build_object('a', (profile #>> '{attributes,a}')::int + 1, 'd', NULL, 'seen', profile -> 'accountCount'),
		'phone', NULL); END $$;
CREATE FUNCTION h_last(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_set(profile, '{attributes,a}', to_jsonb((profile #>> '{attributes,a}')::int * 10)) $$;
SELECT profile_stream.register_handler('all', 'h_last(jsonb,jsonb)', 5);
SELECT profile_stream.register_handler('all', 'h_all(jsonb,jsonb)');
SELECT profile_stream.register_handler('all', 'h_second(jsonb,jsonb)');
SELECT handler_id, event_type, function, owner = to_regrole(session_user) AS mine, priority FROM profile_stream_internal.event_handlers;
SELECT profile_stream.apply_event(ev('a1', 'all'));
SELECT shown();
SELECT profile_stream.apply_events(ARRAY[ev('a2', 'all', customer => 'new'), ev('a3', 'all', customer => 'new')]);
SELECT shown('new') -> 'attributes' AS attributes, shown('new') -> 'version' AS version;

-- what it may not
CREATE FUNCTION h_echo(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event #> '{payload,result}' $$;
SELECT profile_stream.register_handler('echo', 'h_echo(jsonb,jsonb)');
SELECT result, profile_stream.apply_event(ev('e' || n, 'echo', jsonb_build_object('result', result)))
FROM unnest('{"[]", "1", "null", "\"x\"", "{\"customerId\": \"z\"}", "{\"version\": 9}", "{\"lastUpdatedAt\": null}", "{\"eventCounts\": {}}", "{\"points\": 1}",
	"{\"firstName\": 1}", "{\"email\": {}}", "{\"totalBalance\": \"1\"}", "{\"totalBalance\": 1e40}", "{\"accountCount\": 1.5}", "{\"accountCount\": -1}",
	"{\"accountCount\": 1e20}", "{\"lastLoginDate\": \"soon\"}", "{\"lastLoginDate\": 1}", "{\"attributes\": [1]}", "{\"attributes\": null}", "{\"attributes\": {\"none\": null}}", "{}"}'::jsonb[])
	WITH ORDINALITY r (result, n);
SELECT letters();
-- a long name of an unknown member is cut between characters
SELECT profile_stream.apply_event(ev('cut', 'echo', jsonb_build_object('result', jsonb_build_object(repeat('a', 63) || 'é', 1))));
DELETE FROM profile_stream_internal.dead_letters WHERE event_id = 'cut' RETURNING convert_from(convert_to(errors[1], 'UTF8'), 'UTF8') ~ 'member a{63}; put' AS cut;
SELECT profile_stream.apply_event(ev('same', 'echo', jsonb_build_object('result', profile_stream.get_profile('c') - '{metrics,segment,loginCount7d,lifetimeValue,churnRiskScore,transactionCount30d,totalTransactionValue30d}'::text[])));
SELECT letters();

-- a jsonb of some bytes whose text would fill the memory
CREATE FUNCTION h_huge(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('attributes', jsonb_build_object('huge', jsonb_build_array(event #> '{payload,n}', to_jsonb(('1e' || (event #>> '{payload,e}'))::numeric)))) $$;
SELECT profile_stream.register_handler('huge', 'h_huge(jsonb,jsonb)');
SELECT profile_stream.apply_event(ev('huge' || e, 'huge', jsonb_build_object('e', e, 'n', 12e300), 'huge')) FROM unnest('{131000,-16000,300,-300}'::int[]) e;
SELECT letters();
SELECT length(shown('huge') #>> '{attributes,huge}');
CREATE FUNCTION u_huge(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE numbers jsonb := '[1e131000]'; BEGIN FOR i IN 1 .. 14 LOOP numbers := numbers || numbers; END LOOP; RETURN jsonb_build_object('all', numbers); END $$;
SELECT profile_stream.register_upcaster('raised', 1, 'u_huge(jsonb)');
SELECT profile_stream.apply_events(ARRAY[ev('r1', 'raised', '{}', 'huge'), ev('r2', 'other', '{}', 'huge')]);
SELECT letters();
SELECT profile_stream.unregister_upcaster('raised', 1), profile_stream.unregister_handler('huge', 'public.h_huge(jsonb,jsonb)');

-- failures: the event alone, and its id is free again
CREATE FUNCTION h_fail(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.given VALUES (NULL, event -> 'eventId');
	IF event #>> '{payload,do}' = 'raise' THEN RAISE EXCEPTION 'no %', event #> '{payload,n}' USING ERRCODE = 'P0042'; END IF;
	IF event #>> '{payload,do}' = 'divide' THEN RETURN to_jsonb(1 / 0); END IF;
	RETURN jsonb_build_object('attributes', jsonb_build_object('sum', COALESCE((profile #>> '{attributes,sum}')::int, 0) + (event #>> '{payload,n}')::int));
END $$;
SELECT profile_stream.register_handler('fail', 'h_fail(jsonb,jsonb)');
TRUNCATE given;
SELECT profile_stream.apply_events(ARRAY[
	ev('f1', 'fail', '{"n": 1}', 'f'), ev('f2', 'fail', '{"n": 2, "do": "raise"}', 'f'), ev('f2', 'fail', '{"n": 3}', 'f'),
	ev('f2', 'fail', '{"n": 4}', 'f'), ev('f3', 'fail', '{"n": 5, "do": "divide"}', 'f'), ev('f3', 'fail', '{"n": 6, "do": "raise"}', 'f'),
	ev('f3', 'fail', '{"n": 7}', 'f'), ev('f4', 'fail', '{"n": 8}', 'g'), ev('f5', 'fail', '{"n": "x"}', 'g'), ev('f6', 'other', customer => 'g')]);
SELECT letters();
SELECT shown('f') -> 'attributes' AS f, shown('f') -> 'version' AS version, shown('g') -> 'attributes' AS g, shown('g') -> 'version' AS version;
SELECT event FROM given ORDER BY 1;
SELECT profile_stream.apply_event(ev('f7', 'fail', '{"n": 9, "do": "raise"}', 'f'));
SELECT profile_stream.apply_events(ARRAY[ev('f7', 'fail', '{"n": 9, "do": "raise"}', 'f')]);
SELECT profile_stream.apply_event(ev('f7', 'fail', '{"n": 9}', 'f'));
SELECT profile_stream.apply_event(ev('f7', 'fail', '{"n": 9, "do": "raise"}', 'f'));
SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(event_type => 'fail');
SELECT letters();
SELECT shown('f') -> 'attributes' AS f;
SELECT profile_stream.apply_event(ev('f8', 'fail', '{"n": 10, "do": "raise"}', 'f'));
SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(event_type => 'fail');
SELECT applied, duplicates, failed FROM profile_stream.retry_dead_letters(event_type => 'fail', patch => '{"payload": {"do": null}}');
SELECT shown('f') -> 'attributes' AS f;
-- built-in effects of a refused event do not stay, either
SELECT profile_stream.register_handler('transaction.completed', 'h_fail(jsonb,jsonb)');
SELECT profile_stream.register_handler('account.opened', 'h_fail(jsonb,jsonb)');
SELECT profile_stream.apply_events(array_agg(ev('t' || i, CASE i % 2 WHEN 0 THEN 'transaction.completed' ELSE 'account.opened' END,
	jsonb_build_object('amount', i, 'initialBalance', i, 'n', i, 'do', CASE i % 3 WHEN 0 THEN 'raise' END), 't'))) = array_agg(CASE i % 3 WHEN 0 THEN 'dead' ELSE 'applied' END) AS as_expected
FROM generate_series(1, 300) i;
SELECT shown('t') -> 'attributes' AS attributes, (SELECT sum(i) FROM generate_series(1, 300) i WHERE i % 3 > 0) AS expected_sum,
	shown('t') -> 'totalBalance' AS balance, (SELECT sum(i) FROM generate_series(1, 300) i WHERE i % 3 > 0 AND i % 2 = 1) AS expected_balance,
	profile_stream.metric_value('t', 'total_transaction_value_30d', '2026-01-02') AS value, (SELECT sum(i) FROM generate_series(1, 300) i WHERE i % 3 > 0 AND i % 2 = 0) AS expected_value,
	shown('t') -> 'eventCounts' AS counts;
SELECT count(*) FROM letters();
SELECT profile_stream.unregister_handler('transaction.completed', 'public.h_fail(jsonb,jsonb)');
SELECT profile_stream.unregister_handler('account.opened', 'public.h_fail(jsonb,jsonb)');

-- whether one is refused depends on those before it, but not on the refused ones
CREATE FUNCTION h_three(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN ASSERT (profile ->> 'accountCount')::int <= 3; RETURN NULL; END $$;
SELECT profile_stream.register_handler('account.opened', 'h_three(jsonb,jsonb)');
SELECT profile_stream.apply_events(array_agg(ev('k' || i, CASE WHEN i IN (5, 8) THEN 'account.closed' ELSE 'account.opened' END, customer => 'k') ORDER BY i))
FROM generate_series(1, 9) i;
SELECT shown('k') -> 'accountCount' AS accounts, shown('k') -> 'version' AS version, count(*) FROM letters();
SELECT profile_stream.unregister_handler('account.opened', 'public.h_three(jsonb,jsonb)');

-- an event that fails may be repeated very often
CREATE SEQUENCE calls;
CREATE FUNCTION h_calls(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM nextval('public.calls'); ASSERT (event #>> '{payload,n}')::int IN (300, 301); RETURN NULL; END $$;
SELECT profile_stream.register_handler('calls', 'h_calls(jsonb,jsonb)');
SELECT outcome, count(*) FROM (SELECT profile_stream.apply_events(array_agg(ev('same', 'calls', jsonb_build_object('n', i), 'calls') ORDER BY i)) AS outcomes
	FROM generate_series(1, 302) i) a, unnest(outcomes) outcome GROUP BY 1 ORDER BY 1;
SELECT last_value < 1000 AS few_calls, shown('calls') -> 'version' AS version, count(*) AS letters FROM calls, letters() GROUP BY 1, 2;
SELECT profile_stream.unregister_handler('calls', 'public.h_calls(jsonb,jsonb)');

-- a trigger may apply an event while another one is applied
CREATE FUNCTION t_nested() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM profile_stream.apply_event(public.ev('n' || NEW.version, 'all', customer => 'inner')); RETURN NULL; END $$;
CREATE TRIGGER nested AFTER INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW WHEN (NEW.customer_id = 'outer') EXECUTE FUNCTION t_nested();
SELECT profile_stream.apply_events(ARRAY[ev('n1', 'all', customer => 'outer'), ev('n2', 'echo', '{"result": 1}', customer => 'outer'), ev('n3', 'all', customer => 'zzz')]);
DROP TRIGGER nested ON profile_stream.materialized_profiles;
SELECT customer, shown(customer) #> '{attributes,a}' AS a FROM unnest('{outer,inner,zzz}'::text[]) customer;
SELECT letters();

-- what a handler does elsewhere goes with its event; what it does to its session is undone
CREATE FUNCTION h_session(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE event #>> '{payload,do}'
		WHEN 'path' THEN PERFORM set_config('search_path', 'elsewhere', false), set_config('timezone', 'Asia/Tokyo', false);
		WHEN 'role' THEN PERFORM set_config('role', 'postgres', false);
		WHEN 'listen' THEN LISTEN x;
		WHEN 'notify' THEN NOTIFY x;
		WHEN 'commit' THEN COMMIT;
		WHEN 'apply' THEN PERFORM profile_stream.apply_event(event || '{"eventId": "nested"}');
		WHEN 'caught' THEN
			BEGIN
				PERFORM profile_stream.apply_event(event || '{"eventId": "nested"}');
			EXCEPTION WHEN feature_not_supported THEN
				RETURN '{"attributes": {"caught": true}}';
			END;
		WHEN 'test' THEN PERFORM profile_stream.test_handler('echo', '{}');
		WHEN 'register' THEN PERFORM profile_stream.register_handler('later', 'public.h_echo(jsonb,jsonb)');
		WHEN 'drop' THEN DROP FUNCTION public.h_session(jsonb, jsonb);
		ELSE NULL;
	END CASE;
	RETURN jsonb_build_object('attributes', jsonb_build_object(event ->> 'eventId',
		concat_ws('; ', current_user = session_user, current_setting('search_path'), current_setting('timezone'))));
END $$;
SELECT profile_stream.register_handler('session', 'h_session(jsonb,jsonb)');
CREATE ROLE handlers_operator IN ROLE profile_stream_operator;
SET ROLE handlers_operator;
SELECT does, profile_stream.apply_event(ev('s' || n, 'session', jsonb_build_object('do', does), 's'))
FROM unnest('{none,path,none,role,listen,notify,commit,apply,caught,test,register}'::text[]) WITH ORDINALITY d (does, n);
SELECT jsonb_pretty(shown('s') -> 'attributes') AS attributes;
SELECT current_user, current_setting('search_path') AS path, current_setting('timezone') AS zone;
SELECT event_type FROM profile_stream_internal.event_handlers WHERE event_type = 'later';
RESET ROLE;
SELECT letters();

-- settings of the session on which values depend are none of the handler's: a stream and a rebuild make the same of an event
CREATE FUNCTION h_values(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('attributes', jsonb_build_object('day', (event ->> 'timestamp')::timestamptz::date, 'text', (event ->> 'timestamp')::timestamptz::text,
		'took', (interval '90 s')::text, 'third', 1 / 3::float8, 'bytes', '\xff'::bytea::text, 'null', NULL = event, 'nulls', '{NULL}'::text[])) $$;
SELECT profile_stream.register_handler('values', 'h_values(jsonb,jsonb)');
SET timezone = 'America/Los_Angeles';
SET datestyle = 'German, DMY';
SET intervalstyle = 'iso_8601';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET transform_null_equals = on;
SET array_nulls = off;
SELECT profile_stream.apply_event(ev('v1', 'values', customer => 'v'));
SELECT shown('v') -> 'attributes' AS attributes;
SELECT '2026-01-01Z'::timestamptz;
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET transform_null_equals;
RESET array_nulls;
RESET extra_float_digits;
RESET bytea_output;
RESET intervalstyle;
RESET datestyle;
SET timezone = 'UTC';
SELECT profile_stream.unregister_handler('values', 'public.h_values(jsonb,jsonb)');

-- a function that is gone
SELECT profile_stream.apply_events(ARRAY[ev('d1', 'session', '{"do": "drop"}', 'd'), ev('d2', 'session', '{"do": "none"}', 'd'), ev('d3', 'other', customer => 'd')]);
SELECT profile_stream.apply_event(ev('d4', 'session', '{"do": "none"}', 'd'));
SELECT letters();
SELECT shown('d') -> 'version' AS version;
SELECT profile_stream.unregister_handler('session', 'public.h_session(jsonb,jsonb)');
SELECT profile_stream.apply_event(ev('d4', 'session', '{"do": "none"}', 'd'));
-- one that changes, or changes hands
CREATE OR REPLACE FUNCTION h_echo(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"attributes": {"replaced": 1}}'::jsonb $$;
SELECT profile_stream.apply_event(ev('r1', 'echo', customer => 'r'));
SELECT shown('r') -> 'attributes' AS attributes;
ALTER FUNCTION h_echo(jsonb, jsonb) OWNER TO handlers_operator;
SELECT profile_stream.apply_event(ev('r2', 'echo', customer => 'r'));
ALTER FUNCTION h_echo(jsonb, jsonb) OWNER TO CURRENT_USER;
SELECT profile_stream.apply_event(ev('r2', 'echo', customer => 'r'));
SELECT letters();

-- time
SET profile_stream.handler_timeout = '50ms';
CREATE FUNCTION h_loop(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF event #>> '{payload,do}' = 'catch' THEN
		BEGIN LOOP NULL; END LOOP; EXCEPTION WHEN query_canceled THEN RETURN '{"attributes": {"late": true}}'; END;
	ELSIF event #>> '{payload,do}' = 'loop' THEN
		LOOP NULL; END LOOP;
	END IF;
	RETURN '{"attributes": {"ok": true}}';
END $$;
SELECT profile_stream.register_handler('loop', 'h_loop(jsonb,jsonb)');
SELECT profile_stream.apply_events(ARRAY[ev('l1', 'loop', '{"do": "loop"}', 'l'), ev('l2', 'loop', customer => 'l'), ev('l3', 'loop', '{"do": "catch"}', 'l')]);
SELECT letters();
SELECT shown('l') -> 'attributes' AS attributes;
SELECT profile_stream.test_handler('loop', '{"payload": {"do": "loop"}}');
RESET profile_stream.handler_timeout;
SET profile_stream.handler_timeout = 0;
SET statement_timeout = '50ms';
SELECT profile_stream.apply_event(ev('l4', 'loop', '{"do": "loop"}', 'l'));
RESET statement_timeout;
RESET profile_stream.handler_timeout;

-- test_handler() shows and changes nothing
TRUNCATE given;
SELECT profile_stream.test_handler('all', '{}') - 'lastUpdatedAt' AS result;
SELECT profile_stream.test_handler('fail', '{"payload": {"n": 5}}', '{"attributes": {"sum": 10}}') -> 'attributes' AS result;
SELECT profile_stream.test_handler('fail', ev('x', 'fail', '{"n": 5}'), profile_stream.get_profile('f')) - '{email,phone,firstName,lastName}'::text[] AS result;
SELECT profile_stream.test_handler('fail', '{"payload": {"do": "divide"}}');
SELECT profile_stream.test_handler('echo', '{"eventType": "other"}');
SELECT profile_stream.test_handler('echo', '{"timestamp": "soon"}');
SELECT profile_stream.test_handler('transaction.completed', '{}');
SELECT profile_stream.test_handler('echo', '[]');
SELECT profile_stream.test_handler('echo', '{}', '{"version": "x"}');
SELECT count(*) FROM given;

-- who may register what
CREATE FUNCTION h_wrong(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION h_set(jsonb, jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION h_text(jsonb, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
SELECT profile_stream.register_handler('w', 'h_wrong(jsonb)');
SELECT profile_stream.register_handler('w', 'h_set(jsonb,jsonb)');
SELECT profile_stream.register_handler('w', 'h_text(jsonb,text)');
SELECT profile_stream.register_handler('w', NULL);
SELECT profile_stream.register_handler('', 'h_all(jsonb,jsonb)');
SELECT profile_stream.register_handler('all', 'h_all(jsonb,jsonb)');
SELECT profile_stream.unregister_handler('all', 'nothing(jsonb,jsonb)');
SET ROLE handlers_operator;
SELECT profile_stream.register_handler('w', 'h_all(jsonb,jsonb)');
SELECT profile_stream.unregister_handler('all', 'public.h_all(jsonb,jsonb)');
INSERT INTO profile_stream_internal.event_handlers (event_type, function, owner, priority) VALUES ('w', 'public.h_all(jsonb,jsonb)', 'handlers_operator', 0);
RESET ROLE;
GRANT CREATE ON SCHEMA public TO handlers_operator;
SET ROLE handlers_operator;
CREATE FUNCTION h_own(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('attributes', jsonb_build_object('user', current_user)) $$;
CREATE FUNCTION h_steal(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(count(*)) FROM public.given $$;
SELECT profile_stream.register_handler('own', 'h_own(jsonb,jsonb)');
SELECT profile_stream.register_handler('steal', 'h_steal(jsonb,jsonb)');
RESET ROLE;
SELECT profile_stream.apply_events(ARRAY[ev('o1', 'own', customer => 'o'), ev('o2', 'steal', customer => 'o')]);
SELECT shown('o') -> 'attributes' AS attributes;
SELECT letters();
-- whoever applies need not see the schema of a function, nor its owner's tables
CREATE SCHEMA handlers_hidden;
CREATE TABLE handlers_hidden.secret AS SELECT 42 AS n;
CREATE FUNCTION handlers_hidden.h(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('attributes', jsonb_build_object('n', n)) FROM handlers_hidden.secret $$;
SELECT profile_stream.register_handler('hidden', 'handlers_hidden.h(jsonb,jsonb)');
\c -
SET search_path = public;
SET ROLE handlers_operator;
SELECT profile_stream.apply_event(ev('h1', 'hidden', customer => 'h'));
SELECT shown('h') -> 'attributes' AS attributes;
RESET ROLE;
SELECT letters();
SELECT profile_stream.unregister_handler('hidden', 'handlers_hidden.h(jsonb,jsonb)');
DROP FUNCTION handlers_hidden.h;
DROP TABLE handlers_hidden.secret;
DROP SCHEMA handlers_hidden;
CREATE ROLE handlers_reader IN ROLE profile_stream_reader;
SET ROLE handlers_reader;
SELECT profile_stream.register_handler('w', 'h_all(jsonb,jsonb)');
RESET ROLE;

-- upcasters
CREATE FUNCTION u1(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event -> 'payload' || jsonb_build_object('amount', event #> '{payload,value}') $$;
CREATE FUNCTION u2(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('amount', (event #>> '{payload,amount}')::numeric / 100, 'from', event -> 'schemaVersion') $$;
SELECT profile_stream.register_upcaster('transaction.completed', 2, 'u2(jsonb)');
SELECT v, profile_stream.apply_event(ev('v' || v, 'transaction.completed', '{"amount": 500}', 'u', v)) FROM generate_series(1, 4) v;
SELECT letters();
SELECT profile_stream.register_upcaster('transaction.completed', 1, 'u1(jsonb)');
SELECT v, profile_stream.apply_event(ev('w' || v, 'transaction.completed', '{"amount": 700, "value": 900}', 'u', v)) FROM generate_series(1, 4) v;
SELECT profile_stream.apply_event(ev('w0', 'transaction.completed', '{"value": 100}', 'u'));
SELECT letters();
SELECT profile_stream.metric_value('u', 'total_transaction_value_30d', '2026-01-02');
-- handlers and maps see the new version; a failure is the event's alone
SELECT profile_stream.register_handler('transaction.completed', 'h_given(jsonb,jsonb)');
SELECT profile_stream.map_attribute('transaction.completed', 'raised_from', '$.from');
TRUNCATE given;
SELECT profile_stream.apply_events(ARRAY[ev('x1', 'transaction.completed', '{"value": 300}', 'u'), ev('x2', 'transaction.completed', '{"value": "no"}', 'u'),
	ev('x3', 'transaction.completed', '{}', 'u'), ev('x2', 'transaction.completed', '{"value": 400}', 'u'), ev('x4', 'transaction.completed', '{"amount": 1}', 'u', 3)]);
SELECT letters();
SELECT event FROM given;
SELECT shown('u') -> 'attributes' AS attributes, profile_stream.metric_value('u', 'total_transaction_value_30d', '2026-01-02');
CREATE OR REPLACE FUNCTION u1(event jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE WHEN event -> 'payload' ? 'large' THEN jsonb_build_object('amount', 10::numeric ^ 400) ELSE event #> '{payload,result}' END $$;
SELECT profile_stream.apply_event(ev('y0', 'transaction.completed', '{"large": true}', 'u'));
SELECT profile_stream.apply_events(array_agg(ev('y' || n, 'transaction.completed', jsonb_build_object('result', result), 'u') ORDER BY n))
FROM unnest('{"[]", "null", "1", "{\"amount\": 100}"}'::jsonb[]) WITH ORDINALITY r (result, n);
SELECT letters();
-- what decode_event() says, and the ids that no upcaster can change
SELECT version, schema_version, errors FROM jsonb_array_elements('[null,1,2,3,4,0,"1","03",2.0,20e-1,1.5,true,"x",99999999999]') version,
	profile_stream.decode_message(convert_to((ev('z', 'transaction.completed') || jsonb_build_object('schemaVersion', version))::text, 'UTF8'), as_of => '2026-02-01');
SELECT schema_version, errors FROM profile_stream.decode_message(convert_to(ev('z', 'other', version => 2)::text, 'UTF8'), as_of => '2026-02-01');
SELECT event_type, from_version, function, owner = to_regrole(session_user) AS mine FROM profile_stream_internal.event_upcasters;
SELECT profile_stream.register_upcaster('t', 0, 'u1(jsonb)');
SELECT profile_stream.register_upcaster('t', 10000, 'u1(jsonb)');
SELECT profile_stream.register_upcaster('t', 1, 'h_all(jsonb,jsonb)');
SELECT profile_stream.register_upcaster('transaction.completed', 1, 'u1(jsonb)');
SELECT profile_stream.unregister_upcaster('transaction.completed', 5);
SET ROLE handlers_operator;
SELECT profile_stream.register_upcaster('t', 1, 'u1(jsonb)');
SELECT profile_stream.unregister_upcaster('transaction.completed', 1);
RESET ROLE;
DROP FUNCTION u2(jsonb);
SELECT profile_stream.apply_event(ev('z2', 'transaction.completed', '{"amount": 1}', 'u', 2));
SET ROLE handlers_operator;
SELECT profile_stream.unregister_upcaster('transaction.completed', 2);
RESET ROLE;
SELECT profile_stream.unregister_upcaster('transaction.completed', 2);
RESET ROLE;
SELECT profile_stream.apply_event(ev('z2', 'transaction.completed', '{"amount": 1}', 'u', 2));
SELECT letters();

-- both are dumped
SELECT c.relname FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY t (oid, n) JOIN pg_class c USING (oid)
WHERE e.extname = 'profile_stream' AND c.relname ~ '^event_(handlers|upcasters)' ORDER BY 1;

-- the name of a function does not depend on settings of the session: nobody registers it twice
TRUNCATE given;
SET quote_all_identifiers = on;
SELECT profile_stream.register_handler('account.closed', 'h_given(jsonb,jsonb)');
RESET quote_all_identifiers;
SELECT profile_stream.register_handler('account.closed', 'h_given(jsonb,jsonb)');
SELECT profile_stream.apply_event(ev('c1', 'account.closed'));
SELECT count(*) FROM given;
SELECT profile_stream.unregister_handler('account.closed', 'public.h_given(jsonb,jsonb)');

SELECT count(profile_stream.unregister_handler(event_type, function)) FROM profile_stream_internal.event_handlers;
SELECT count(profile_stream.unregister_upcaster(event_type, from_version)) FROM profile_stream_internal.event_upcasters;
SELECT profile_stream.unmap_attribute('transaction.completed', 'raised_from');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
DROP TABLE given;
DROP SEQUENCE calls;
DROP FUNCTION h_given, h_all, h_second, h_last, h_echo, h_fail, h_three, h_calls, t_nested, h_loop, h_wrong, h_set, h_text, h_own, h_steal, u1, ev, letters, shown;
REVOKE CREATE ON SCHEMA public FROM handlers_operator;
DROP ROLE handlers_operator, handlers_reader;
