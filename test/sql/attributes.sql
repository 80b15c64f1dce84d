-- attribute maps: every operation and type, what is refused, and when it takes effect
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.send(id text, customer text, type text, payload jsonb, at timestamptz DEFAULT '2026-01-01Z') RETURNS text LANGUAGE sql
	RETURN profile_stream.apply_event(jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'timestamp', at, 'payload', payload));
CREATE FUNCTION pg_temp.attributes(customer text) RETURNS jsonb LANGUAGE sql
	RETURN (SELECT attributes FROM profile_stream.materialized_profiles WHERE customer_id = customer);
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no complaint';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- an event before a map, the map, and an event after it, in one transaction too
SELECT pg_temp.send('0', 'a', 'loyalty', '{"tier": "bronze"}'), pg_temp.attributes('a');
BEGIN;
SELECT profile_stream.map_attribute('loyalty', 'tier', '$.tier');
SELECT pg_temp.send('rolled back', 'a', 'loyalty', '{"tier": "lead"}');
SELECT pg_temp.attributes('a');
ROLLBACK;
SELECT pg_temp.send('1', 'a', 'loyalty', '{"tier": "tin"}');
SELECT pg_temp.attributes('a');

SELECT profile_stream.map_attribute('loyalty', 'tier', '$.tier');
SELECT profile_stream.map_attribute('loyalty', 'first_tier', '$.tier', 'set_if_null');
SELECT profile_stream.map_attribute('loyalty', 'points', '$.points.earned', 'add');
SELECT profile_stream.map_attribute('redeemed', 'points', '$."points used"', 'subtract');
SELECT profile_stream.map_attribute('loyalty', 'best', '$.points.earned', 'max');
SELECT profile_stream.map_attribute('loyalty', 'worst', '$.points.earned', 'min');
SELECT profile_stream.map_attribute('loyalty', 'events', operation => 'count');
SELECT profile_stream.map_attribute('loyalty', 'scored', '$.points', 'count');
SELECT profile_stream.map_attribute('loyalty', 'shops', '$.shop', 'append_unique', max_items => 3);
SELECT profile_stream.map_attribute('loyalty', 'shop', '$.shop', 'latest');
SELECT profile_stream.map_attribute('loyalty', 'consent', '$.consent', 'set', 'boolean');
SELECT profile_stream.map_attribute('loyalty', 'joined', '$.joined', 'min', 'timestamptz');
SELECT profile_stream.map_attribute('loyalty', 'name', '$.name', 'max', 'text');
SELECT profile_stream.map_attribute('redeemed', 'amounts', '$."points used"', 'append_unique', 'numeric');
SELECT pg_temp.send('2', 'a', 'loyalty', '{"tier": "gold", "points": {"earned": 10.50}, "shop": "Rome", "consent": true, "joined": "2026-01-05T00:00:00Z", "name": "b"}', '2026-01-02Z');
SELECT pg_temp.attributes('a');
-- an older event: latest stays; min of times; numbers as strings
SELECT pg_temp.send('3', 'a', 'loyalty', '{"tier": "silver", "points": {"earned": "-3"}, "shop": "Oslo", "consent": "false", "joined": 1767225600000, "name": "a"}', '2026-01-01Z');
SELECT pg_temp.attributes('a'), attribute_times FROM profile_stream.materialized_profiles WHERE customer_id = 'a';
-- absent, null and empty change nothing but counters
SELECT pg_temp.send('4', 'a', 'loyalty', '{"tier": null, "points": {}, "shop": ""}', '2026-01-03Z'), pg_temp.send('5', 'a', 'loyalty', NULL, '2026-01-03Z');
SELECT pg_temp.attributes('a');
-- the oldest shop goes, one that is there does not move
SELECT pg_temp.send(s, 'a', 'loyalty', jsonb_build_object('shop', s), '2026-01-04Z') FROM unnest('{Paris,Oslo,Lima,Rome}'::text[]) s;
SELECT pg_temp.attributes('a') -> 'shops' AS shops, pg_temp.attributes('a') -> 'shop' AS shop;
SELECT pg_temp.send('6', 'a', 'redeemed', '{"points used": 100}'), pg_temp.send('7', 'a', 'redeemed', '{"points used": 1e2}'), pg_temp.send('8', 'a', 'redeemed', '{"points used": 0.1}');
SELECT pg_temp.attributes('a') -> 'points' AS points, pg_temp.attributes('a') -> 'amounts' AS amounts;
-- what is not of its type is a dead letter, and changes nothing
SELECT pg_temp.send('9', 'a', 'loyalty', '{"tier": {"a": 1}, "points": {"earned": 1}}');
SELECT pg_temp.send('10', 'a', 'loyalty', '{"points": {"earned": "many"}}');
SELECT pg_temp.send('11', 'a', 'loyalty', '{"consent": "perhaps"}');
SELECT pg_temp.send('12', 'a', 'loyalty', '{"joined": "then"}');
SELECT pg_temp.send('13', 'a', 'loyalty', '{"points": 7}');
SELECT pg_temp.send('14', 'a', 'loyalty', '{"points": {"earned": 1e40}}');
SELECT event_id, kind, errors FROM profile_stream.dead_letters ORDER BY dead_letter_id;
SELECT pg_temp.attributes('a') - 'shops' AS attributes, version FROM profile_stream.materialized_profiles WHERE customer_id = 'a';
-- many events of one customer in a batch, and of a new one
SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', 'n' || i, 'customerId', 'b', 'eventType', 'loyalty', 'timestamp', '2026-01-01Z'::timestamptz + i * '1 s'::interval,
	'payload', jsonb_build_object('points', jsonb_build_object('earned', i), 'shop', 's' || i % 5)) ORDER BY i)) = array_fill('applied'::text, ARRAY[100]) AS applied
FROM generate_series(1, 100) i;
SELECT pg_temp.attributes('b');

-- columns
SELECT profile_stream.map_attribute('moved', 'phone', '$.phone'), profile_stream.map_attribute('moved', 'email', '$.mail', 'set_if_null'),
	profile_stream.map_attribute('moved', 'total_balance', '$.fee', 'subtract'), profile_stream.map_attribute('moved', 'account_count', '$.accounts', 'add'),
	profile_stream.map_attribute('moved', 'last_login_at', '$.seen', 'max'), profile_stream.map_attribute('moved', 'preferred_channel', '$.channel', 'latest');
SELECT pg_temp.send('m1', 'm', 'moved', '{"phone": 112, "mail": "m@example.org", "fee": 1.25, "accounts": 2, "seen": "2026-01-01T01:00:00+01:00", "channel": "web"}', '2026-01-02Z'),
	pg_temp.send('m2', 'm', 'moved', '{"phone": "113", "mail": "n@example.org", "fee": 1, "accounts": -1, "seen": "2025-01-01", "channel": "branch"}', '2026-01-01Z');
SELECT phone, email, total_balance, account_count, last_login_at, preferred_channel, attributes, attribute_times FROM profile_stream.materialized_profiles WHERE customer_id = 'm';
-- data errors of the profile itself
SELECT pg_temp.complaint($$SELECT pg_temp.send('m3', 'm', 'moved', '{"accounts": 0.5}')$$);
SELECT pg_temp.complaint($$SELECT pg_temp.send('m4', 'm', 'moved', '{"accounts": 9223372036854775807}')$$);
UPDATE profile_stream.materialized_profiles SET attributes = '{"points": "none", "shops": 1}' WHERE customer_id = 'm';
SELECT pg_temp.complaint($$SELECT pg_temp.send('m5', 'm', 'loyalty', '{"points": {"earned": 1}}')$$);
SELECT pg_temp.complaint($$SELECT pg_temp.send('m6', 'm', 'loyalty', '{"shop": "x"}')$$);

-- what cannot be mapped
SELECT c.call, pg_temp.complaint('SELECT profile_stream.map_attribute(' || c.call || ')') FROM (VALUES
	($$'loyalty', 'tier', '$.tier'$$), ($$'other', 'tier', '$.x', 'add'$$), ($$'other', 'shops', '$.x'$$), ($$'other', 'new', 'x'$$), ($$'other', 'new', '$'$$),
	($$'other', 'new', '$.a[0]'$$), ($$'other', 'new', '$.a.b.c.d.e.f.g.h.i'$$), ($$'other', 'new'$$), ($$'other', 'new', NULL, 'count', 'text'$$),
	($$'other', 'new', '$.x', 'multiply'$$), ($$'other', 'new', '$.x', 'set', 'int'$$), ($$'other', 'new', '$.x', 'add', 'text'$$),
	($$'other', 'new', '$.x', 'max', 'boolean'$$), ($$'other', 'email', '$.x', 'set', 'numeric'$$), ($$'other', 'email', '$.x', 'append_unique'$$),
	($$'other', 'new', '$.x', 'append_unique', NULL, 0$$), ($$'other', 'new', '$.x', 'append_unique', NULL, NULL$$),
	($$'other', 'segment', '$.x'$$), ($$'other', repeat('n', 64), '$.x'$$), ($$'', 'new', '$.x'$$), ($$NULL, 'new', '$.x'$$), ($$'other', NULL, '$.x'$$)) c(call);
SELECT pg_temp.complaint($$SELECT profile_stream.unmap_attribute('loyalty', 'nothing')$$);
CREATE ROLE attributes_nobody;
GRANT USAGE ON SCHEMA profile_stream TO attributes_nobody;
SET ROLE attributes_nobody;
SELECT pg_temp.complaint($$SELECT profile_stream.map_attribute('other', 'new', '$.x')$$), pg_temp.complaint($$SELECT profile_stream.unmap_attribute('loyalty', 'tier')$$);
RESET ROLE;
REVOKE USAGE ON SCHEMA profile_stream FROM attributes_nobody;
DROP ROLE attributes_nobody;

-- without its map an attribute stays
SELECT profile_stream.unmap_attribute('loyalty', 'tier');
SELECT pg_temp.send('15', 'a', 'loyalty', '{"tier": "diamond"}'), profile_stream.get_profile('a') #> '{attributes,tier}' AS tier;
-- a table that is not plain is written by statements
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT pg_temp.send('16', 'a', 'loyalty', '{"points": {"earned": 1000}, "shop": "Bonn"}', '2026-01-05Z'), pg_temp.send('17', 'c', 'loyalty', '{"shop": "Bonn"}', '2026-01-05Z');
DROP TRIGGER nothing ON profile_stream.materialized_profiles;
SELECT customer_id, attributes, attribute_times, first_event_at FROM profile_stream.materialized_profiles WHERE customer_id IN ('a', 'c') ORDER BY 1;
SELECT count(profile_stream.unmap_attribute(event_type, attribute)) FROM profile_stream_internal.attribute_maps;
-- jsonb: a value as a whole, replaced as a whole; other values of scalars
SELECT profile_stream.map_attribute('moved', 'address', '$.address', 'set', 'jsonb'), profile_stream.map_attribute('moved', 'first_address', '$.address', 'set_if_null', 'jsonb'),
	profile_stream.map_attribute('moved', 'newest_address', '$.address', 'latest', 'jsonb');
SELECT pg_temp.send('m1', 'mover', 'moved', '{"address": {"city": "Rome", "lines": ["Via A", 7, null, true, {"floor": 1e2}]}}', '2026-01-02Z');
SELECT pg_temp.attributes('mover');
-- an older one with fewer members; what is equal, null or absent changes nothing
SELECT pg_temp.send('m2', 'mover', 'moved', '{"address": {"city": "Oslo"}}', '2026-01-01Z'), pg_temp.send('m3', 'mover', 'moved', '{"address": {"city": "Oslo"}}', '2026-01-01Z'),
	pg_temp.send('m4', 'mover', 'moved', '{"address": null}', '2026-01-01Z'), pg_temp.send('m5', 'mover', 'moved', '{"address": ""}', '2026-01-01Z'), pg_temp.send('m6', 'mover', 'moved', '{}', '2026-01-01Z');
SELECT pg_temp.attributes('mover');
SELECT pg_temp.send('m7', 'mover', 'moved', '{"address": ["a"]}'), pg_temp.attributes('mover') -> 'address' AS address;
SELECT pg_temp.send('m8', 'mover', 'moved', '{"address": 1.50}'), pg_temp.attributes('mover') -> 'address' AS address;
SELECT pg_temp.send('m9', 'mover', 'moved', '{"address": "here"}'), pg_temp.attributes('mover') -> 'address' AS address;
SELECT pg_temp.send('m10', 'mover', 'moved', '{"address": false}'), pg_temp.attributes('mover') -> 'address' AS address;
-- too long, and a number with too many digits; nothing of these events is kept
SELECT pg_temp.send('m11', 'mover', 'moved', jsonb_build_object('address', jsonb_build_object('street', repeat('x', 16384)))),
	pg_temp.send('m12', 'mover', 'moved', '{"address": 1e40}'), pg_temp.attributes('mover') -> 'address' AS address;
SELECT event_id, errors FROM profile_stream.dead_letters WHERE event_id IN ('m11', 'm12') ORDER BY dead_letter_id;
SELECT pg_temp.complaint(format($$SELECT profile_stream.map_attribute('moved', 'other', '$.a', %L, 'jsonb')$$, o))
	FROM unnest('{add,subtract,max,min,count,append_unique}'::text[]) o;
SELECT pg_temp.complaint($$SELECT profile_stream.map_attribute('moved', 'email', '$.a', 'set', 'jsonb')$$);
SELECT profile_stream.create_profile_view('movers', attributes => '{address,first_address}');
SELECT pg_typeof(address), address, first_address ->> 'city' AS first_city FROM public.movers WHERE customer_id = 'mover';
DROP VIEW public.movers;
SELECT count(profile_stream.unmap_attribute('moved', a)) FROM unnest('{address,first_address,newest_address}'::text[]) a;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
