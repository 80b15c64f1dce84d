-- A decoder for Avro with the framing of a schema registry: a zero byte, four bytes of the schema's id, Avro binary.
--
--   psql -f examples/avro_decoder.sql
--   INSERT INTO avro.schemas VALUES (1, '{"type": "record", ...}');   -- from the registry: curl http://registry:8081/schemas/ids/1
--   SELECT profile_stream.create_stream('orders', topic => 'orders', decoder => 'avro.decode', format => 'custom', field_map => '...');
--
-- A message of a schema that is not in the table becomes a dead letter. Add the schema, then call retry_dead_letters().
-- It reads all types of Avro. Bytes and fixed become text of hex, logical types the number that carries them.

CREATE SCHEMA avro;

CREATE TABLE avro.schemas (
	schema_id bigint PRIMARY KEY,
	schema jsonb NOT NULL
);

-- Every named type within a schema, by its name.
CREATE FUNCTION avro.named(schema jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	found jsonb := '{}';
	part jsonb;
BEGIN
	IF jsonb_typeof(schema) = 'array' THEN
		FOR part IN SELECT jsonb_array_elements(schema) LOOP
			found := found || avro.named(part);
		END LOOP;
	ELSIF jsonb_typeof(schema) = 'object' THEN
		IF schema ? 'name' AND jsonb_typeof(schema -> 'type') = 'string' THEN
			found := jsonb_build_object(schema ->> 'name', schema);
			IF schema ? 'namespace' THEN
				found := found || jsonb_build_object((schema ->> 'namespace') || '.' || (schema ->> 'name'), schema);
			END IF;
		END IF;
		FOR part IN SELECT f -> 'type' FROM jsonb_array_elements(schema -> 'fields') f
			UNION ALL SELECT schema -> 'items' UNION ALL SELECT schema -> 'values' UNION ALL SELECT schema -> 'type' LOOP
			found := found || COALESCE(avro.named(part), '{}');
		END LOOP;
	END IF;
	RETURN found;
END $$;

-- An int or long: seven bits a byte, the least ones first, then zigzag.
CREATE FUNCTION avro.read_long(value bytea, INOUT at int, OUT result bigint) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	byte bigint;
	shift int := 0;
BEGIN
	result := 0;
	LOOP
		byte := get_byte(value, at);
		at := at + 1;
		result := result | ((byte & 127) << shift);
		EXIT WHEN byte < 128;
		shift := shift + 7;
		IF shift > 63 THEN
			RAISE 'Avro: a number of more than 64 bits';
		END IF;
	END LOOP;
	result := ((result >> 1) & 9223372036854775807) # -(result & 1);
END $$;

-- Bytes with their length before them.
CREATE FUNCTION avro.read_bytes(value bytea, INOUT at int, OUT result bytea) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	len bigint;
BEGIN
	SELECT r.at, r.result INTO at, len FROM avro.read_long(value, at) r;
	IF len < 0 OR len > length(value) - at THEN
		RAISE 'Avro: % bytes announced, of which % are there', len, length(value) - at;
	END IF;
	result := substr(value, at + 1, len::int);
	at := at + len::int;
END $$;

-- A number of IEEE 754 with so many bits of exponent and fraction.
CREATE FUNCTION avro.read_float(bits bigint, exponent_bits int, fraction_bits int) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	exponent int := (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
	fraction float8 := (bits & ((1::bigint << fraction_bits) - 1))::float8 / (1::bigint << fraction_bits);
	bias int := (1 << (exponent_bits - 1)) - 1;
	sign float8 := CASE WHEN (bits >> (exponent_bits + fraction_bits)) & 1 = 1 THEN -1 ELSE 1 END;
BEGIN
	IF exponent = 2 * bias + 1 THEN
		RETURN CASE WHEN fraction <> 0 THEN '"NaN"' WHEN sign > 0 THEN '"Infinity"' ELSE '"-Infinity"' END;
	ELSIF exponent = 0 THEN
		RETURN to_jsonb(sign * fraction * power(2::float8, 1 - bias));
	END IF;
	RETURN to_jsonb(sign * (1 + fraction) * power(2::float8, exponent - bias));
END $$;

-- A value of any type.
CREATE FUNCTION avro.read(schema jsonb, named jsonb, value bytea, INOUT at int, OUT result jsonb) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	kind text := CASE jsonb_typeof(schema) WHEN 'array' THEN 'union' WHEN 'string' THEN schema #>> '{}' ELSE schema ->> 'type' END;
	number bigint;
	bytes bytea;
	bits bigint := 0;
	item jsonb;
	field jsonb;
BEGIN
	IF jsonb_typeof(schema -> 'type') IN ('object', 'array') THEN
		SELECT r.at, r.result INTO at, result FROM avro.read(schema -> 'type', named, value, at) r;
		RETURN;
	END IF;
	CASE kind
		WHEN 'null' THEN
			result := 'null';
		WHEN 'boolean' THEN
			result := to_jsonb(get_byte(value, at) = 1);
			at := at + 1;
		WHEN 'int', 'long' THEN
			SELECT r.at, to_jsonb(r.result) INTO at, result FROM avro.read_long(value, at) r;
		WHEN 'float', 'double' THEN
			FOR i IN REVERSE CASE kind WHEN 'float' THEN 3 ELSE 7 END .. 0 LOOP
				bits := (bits << 8) | get_byte(value, at + i);
			END LOOP;
			at := at + CASE kind WHEN 'float' THEN 4 ELSE 8 END;
			result := CASE kind WHEN 'float' THEN avro.read_float(bits, 8, 23) ELSE avro.read_float(bits, 11, 52) END;
		WHEN 'string' THEN
			SELECT r.at, to_jsonb(convert_from(r.result, 'UTF8')) INTO at, result FROM avro.read_bytes(value, at) r;
		WHEN 'bytes' THEN
			SELECT r.at, to_jsonb(encode(r.result, 'hex')) INTO at, result FROM avro.read_bytes(value, at) r;
		WHEN 'fixed' THEN
			number := (schema ->> 'size')::int;
			IF number > length(value) - at THEN
				RAISE 'Avro: the value ends too early';
			END IF;
			result := to_jsonb(encode(substr(value, at + 1, number::int), 'hex'));
			at := at + number::int;
		WHEN 'enum' THEN
			SELECT r.at, r.result INTO at, number FROM avro.read_long(value, at) r;
			result := schema -> 'symbols' -> number::int;
		WHEN 'union' THEN
			SELECT r.at, r.result INTO at, number FROM avro.read_long(value, at) r;
			IF number NOT BETWEEN 0 AND jsonb_array_length(schema) - 1 THEN
				RAISE 'Avro: a union has no branch %', number;
			END IF;
			SELECT r.at, r.result INTO at, result FROM avro.read(schema -> number::int, named, value, at) r;
		WHEN 'record', 'error' THEN
			result := '{}';
			FOR field IN SELECT jsonb_array_elements(schema -> 'fields') LOOP
				SELECT r.at, r.result INTO at, item FROM avro.read(field -> 'type', named, value, at) r;
				result := result || jsonb_build_object(field ->> 'name', item);
			END LOOP;
		WHEN 'array', 'map' THEN
			result := CASE kind WHEN 'array' THEN '[]' ELSE '{}' END;
			LOOP
				SELECT r.at, r.result INTO at, number FROM avro.read_long(value, at) r;
				EXIT WHEN number = 0;
				IF number < 0 THEN	-- the bytes of the block follow, for readers that pass over it
					SELECT r.at INTO at FROM avro.read_long(value, at) r;
				END IF;
				FOR i IN 1 .. abs(number) LOOP
					IF kind = 'map' THEN
						SELECT r.at, r.result INTO at, bytes FROM avro.read_bytes(value, at) r;
						SELECT r.at, r.result INTO at, item FROM avro.read(schema -> 'values', named, value, at) r;
						result := result || jsonb_build_object(convert_from(bytes, 'UTF8'), item);
					ELSE
						SELECT r.at, r.result INTO at, item FROM avro.read(schema -> 'items', named, value, at) r;
						result := result || jsonb_build_array(item);
					END IF;
				END LOOP;
			END LOOP;
		ELSE
			IF named -> kind IS NULL THEN
				RAISE 'Avro: the schema has no type %', kind;
			END IF;
			SELECT r.at, r.result INTO at, result FROM avro.read(named -> kind, named, value, at) r;
	END CASE;
END $$;

-- The decoder.
CREATE FUNCTION avro.decode(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
	id bigint;
	wanted jsonb;
	result jsonb;
	at int;
BEGIN
	IF length(value) < 5 OR get_byte(value, 0) <> 0 THEN
		RAISE 'Avro: the message has no framing of a schema registry';
	END IF;
	id := (get_byte(value, 1)::bigint << 24) | (get_byte(value, 2) << 16) | (get_byte(value, 3) << 8) | get_byte(value, 4);
	SELECT s.schema INTO wanted FROM avro.schemas s WHERE s.schema_id = id;
	IF wanted IS NULL THEN
		RAISE 'Avro: schema % is not known', id USING HINT = 'Insert it into avro.schemas, then call retry_dead_letters().';
	END IF;
	SELECT r.at, r.result INTO at, result FROM avro.read(wanted, avro.named(wanted), value, 5) r;
	IF at <> length(value) THEN
		RAISE 'Avro: % bytes are left behind the value', length(value) - at;
	END IF;
	RETURN result;
END $$;
