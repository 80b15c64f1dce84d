-- Functions that only tests call, of a library that was built with FAILPOINTS=yes: src/testing/test_functions.c.
CREATE SCHEMA IF NOT EXISTS testing;

CREATE OR REPLACE FUNCTION testing.decode_fuzz(seed int, iterations int, format text DEFAULT 'profile_event', field_map jsonb DEFAULT NULL) RETURNS bigint
	AS '$libdir/profile_stream', 'ps_decode_fuzz' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION testing.decode_fuzz IS 'Decodes damaged events and random bytes, checks every result, and counts the valid ones';

CREATE OR REPLACE FUNCTION testing.parser_fuzz(seed int, iterations int) RETURNS void
	AS '$libdir/profile_stream', 'ps_parser_fuzz' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION testing.parser_fuzz IS 'Gives damaged bytes to the parsers beside the decoder, and checks every answer';

CREATE OR REPLACE FUNCTION testing.notification(customer_id text, version bigint, updated_at timestamptz, event_types text[], event_id text, source text) RETURNS text
	AS '$libdir/profile_stream', 'ps_notification' LANGUAGE c STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION testing.notification IS 'Payload with which a change of a customer is announced';

CREATE OR REPLACE FUNCTION testing.redis_write(redis text, prefix text, ttl int, customer_ids text[], versions bigint[], documents text[]) RETURNS text[]
	AS '$libdir/profile_stream', 'ps_redis_write' LANGUAGE c STRICT;
COMMENT ON FUNCTION testing.redis_write IS 'Writes profiles to Redis as a relay does, or deletes those whose document is null; says of each key: written, newer or foreign';

CREATE OR REPLACE FUNCTION testing.try_id_filter(ids bigint) RETURNS void
	AS '$libdir/profile_stream', 'ps_try_id_filter' LANGUAGE c STRICT;
COMMENT ON FUNCTION testing.try_id_filter IS 'Gives this session a filter of sealed event ids, as workers have, which is emptied when it has so many ids';

CREATE OR REPLACE FUNCTION testing.filtered_ids() RETURNS bigint
	AS '$libdir/profile_stream', 'ps_filtered_ids' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION testing.filtered_ids IS 'How many ids are in the filter of this session';

CREATE OR REPLACE FUNCTION testing.take_segments() RETURNS int
	AS '$libdir/profile_stream', 'ps_take_segments' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION testing.take_segments IS 'Takes all segments of dynamic shared memory that are free, until the session ends; returns how many';

CREATE OR REPLACE FUNCTION testing.sweep_segments(max_customers int) RETURNS int
	AS '$libdir/profile_stream', 'ps_sweep_segments' LANGUAGE c STRICT VOLATILE;
COMMENT ON FUNCTION testing.sweep_segments IS 'Visits customers of whom a check is due, as the worker of a stream does; returns how many';
