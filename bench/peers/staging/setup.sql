\ir ../profiles.sql
CREATE TABLE event_ids (
	customer_id text COLLATE "C",
	event_id text COLLATE "C",
	PRIMARY KEY (customer_id, event_id)
);
CREATE TABLE offsets (
	partition int PRIMARY KEY,
	next_offset bigint NOT NULL
) WITH (fillfactor = 50);

-- What counts of event types become when others are added.
CREATE FUNCTION add_counts(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
	SELECT jsonb_object_agg(key, total) FROM (
		SELECT key, sum(value::bigint) AS total FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) both_sides
		GROUP BY key) added
$$;
