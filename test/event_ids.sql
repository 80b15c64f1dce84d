-- Functions of tests that change when event ids were applied, or forget them. They know how event_ids of a profile is
-- packed: first comes the second of the newest id, whose highest bit says that the first id has 10 bytes and others have 11; in
-- version 0.1.0 each had 12. At the end are 16 bytes about sealed chunks, if there are any.
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS testing;
RESET client_min_messages;

-- whether this machine has the least byte of a number first: second 1 is of the year 2000
CREATE OR REPLACE FUNCTION testing.least_first() RETURNS boolean LANGUAGE sql RETURN
	(SELECT o.applied_at < '2000-01-02' FROM profile_stream_internal.open_event_ids(decode('01000000' || repeat('00', 12), 'hex')) o);

CREATE OR REPLACE FUNCTION testing.less(bytes bytea, place int, by bigint) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	number bigint := -by;
BEGIN
	FOR i IN 0..3 LOOP
		number := number + (get_byte(bytes, place + CASE WHEN testing.least_first() THEN i ELSE 3 - i END)::bigint << 8 * i);
	END LOOP;
	FOR i IN 0..3 LOOP
		bytes := set_byte(bytes, place + CASE WHEN testing.least_first() THEN i ELSE 3 - i END, (number >> 8 * i & 255)::int);
	END LOOP;
	RETURN bytes;
END $$;

-- whether a row knows of sealed chunks
CREATE OR REPLACE FUNCTION testing.has_sealed(event_ids bytea) RETURNS boolean LANGUAGE sql RETURN
	CASE WHEN get_byte(event_ids, CASE WHEN testing.least_first() THEN 3 ELSE 0 END) < 128 THEN (length(event_ids) - 4) % 12 <> 0
		ELSE (length(event_ids) - 4) % 11 <> 10 END;

-- the same ids as version 0.1.0 packed them
CREATE OR REPLACE FUNCTION testing.as_of_0_1_0(event_ids bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	high int := CASE WHEN testing.least_first() THEN 3 ELSE 0 END;
	result bytea := set_byte(substr(event_ids, 1, 4), high, get_byte(event_ids, high) & 127);
	id record;
BEGIN
	FOR id IN SELECT hash, CASE WHEN pause <= 32767 THEN pause ELSE 32768 + LEAST(pause / 60, 32767) END AS age FROM
		(SELECT hash, COALESCE(extract(epoch FROM lag(applied_at) OVER (ORDER BY n) - applied_at)::int, 0) AS pause
		FROM profile_stream_internal.open_event_ids(event_ids) WITH ORDINALITY o(hash, applied_at, n)) p
	LOOP
		result := result || id.hash || CASE WHEN testing.least_first() THEN set_byte(set_byte('\x0000', 0, id.age & 255), 1, id.age >> 8)
			ELSE set_byte(set_byte('\x0000', 1, id.age & 255), 0, id.age >> 8) END;
	END LOOP;
	RETURN result || CASE WHEN testing.has_sealed(event_ids) THEN substr(event_ids, length(event_ids) - 15) ELSE '' END;
END $$;

CREATE OR REPLACE FUNCTION testing.aged(event_ids bytea, by interval) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	seconds bigint := extract(epoch FROM by);
BEGIN
	IF event_ids <> '' AND testing.has_sealed(event_ids) THEN
		event_ids := testing.less(event_ids, length(event_ids) - 12, seconds);
	END IF;
	RETURN CASE WHEN event_ids = '' THEN event_ids ELSE testing.less(event_ids, 0, seconds) END;
END $$;

-- Makes the ids of customers, whose ids are like a pattern, older.
CREATE OR REPLACE FUNCTION testing.age_event_ids(customers text, by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE profile_stream.materialized_profiles SET event_ids = testing.aged(event_ids, by) WHERE customer_id LIKE customers;
	UPDATE profile_stream_internal.event_id_chunks SET sealed_to = sealed_to - by WHERE customer_id LIKE customers;
$$;

CREATE OR REPLACE FUNCTION testing.forget_event_ids(customers text) RETURNS void LANGUAGE sql AS $$
	UPDATE profile_stream.materialized_profiles SET event_ids = '' WHERE customer_id LIKE customers;
	DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id LIKE customers;
$$;
