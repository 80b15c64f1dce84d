-- Values of options are tried at the call, not in the worker: for the clients that read and for those that write.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE FUNCTION pg_temp.refused(options jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	told text;
	cause text;
BEGIN
	PERFORM profile_stream.create_stream('o', bootstrap_servers => '127.0.0.1:1', options => options);
	RETURN 'taken';
EXCEPTION WHEN fdw_invalid_attribute_value THEN
	GET STACKED DIAGNOSTICS told = MESSAGE_TEXT, cause = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', told, CASE WHEN told ~ 'conflict' THEN cause END); -- librdkafka's own words change
END $$;
SELECT o, pg_temp.refused(o::jsonb) FROM unnest(ARRAY[
	'{"fetch.wait.max.ms": "abc"}', '{"fetch.min.bytes": -1}', '{"security.protocol": "TLS"}', '{"compression.codec": "bogus"}', '{"linger.ms": "soon"}', '{"socket.keepalive.enable": "perhaps"}',
	'{"fetch.max.bytes": 100, "message.max.bytes": 1000000}', '{"receive.message.max.bytes": 2000}', '{"reconnect.backoff.ms": 9000, "reconnect.backoff.max.ms": 1000}', '{"linger.ms": 60000}']) AS o;

-- what goes together is taken; then alter_stream() tries it as create_stream() does
BEGIN;
SELECT profile_stream.create_stream('o', bootstrap_servers => '127.0.0.1:1',
	options => '{"fetch.max.bytes": 2000000, "receive.message.max.bytes": 2000512, "compression.codec": "lz4", "linger.ms": 20, "reconnect.backoff.max.ms": 1000}');
SAVEPOINT created;
SELECT profile_stream.alter_stream('o', options => '{"fetch.max.bytes": "many"}');
ROLLBACK TO created;
SELECT profile_stream.alter_stream('o', options => '{"receive.message.max.bytes": 2000}');
ROLLBACK;

-- servers and user mappings; of a secret nothing is repeated
CREATE SERVER options_bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k1:9092', "security.protocol" 'TLS');
CREATE SERVER options_bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k1:9092', "fetch.max.bytes" '100');
CREATE SERVER options_bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k1:9092');
ALTER SERVER options_bank OPTIONS (ADD "linger.ms" 'soon');
CREATE USER MAPPING FOR CURRENT_USER SERVER options_bank OPTIONS ("fetch.wait.max.ms" 'abc');
CREATE USER MAPPING FOR CURRENT_USER SERVER options_bank OPTIONS ("sasl.username" 'teller', "sasl.password" 'x');
ALTER USER MAPPING FOR CURRENT_USER SERVER options_bank OPTIONS (ADD "socket.timeout.ms" 'x');
DROP SERVER options_bank CASCADE;

-- a user of a server does not change how the secrets of its files are sent
SELECT current_setting('data_directory') || '/PG_VERSION' AS file \gset
CREATE SERVER options_files FOREIGN DATA WRAPPER profile_stream_kafka
	OPTIONS (bootstrap_servers 'k1:9092', "security.protocol" 'SASL_SSL', "sasl.mechanism" 'PLAIN', "sasl.password_file" :'file');
CREATE ROLE options_operator IN ROLE profile_stream_operator;
GRANT USAGE ON FOREIGN SERVER options_files TO options_operator;
SET ROLE options_operator;
CREATE USER MAPPING FOR CURRENT_USER SERVER options_files OPTIONS ("sasl.username" 'teller', "client.id" 'c');
BEGIN;
SELECT profile_stream.create_stream('o', server => 'options_files');
ROLLBACK;
ALTER USER MAPPING FOR CURRENT_USER SERVER options_files OPTIONS (ADD "security.protocol" 'SASL_PLAINTEXT');
SELECT profile_stream.create_stream('o', server => 'options_files');
ALTER USER MAPPING FOR CURRENT_USER SERVER options_files OPTIONS (DROP "security.protocol", ADD "sasl.mechanism" 'PLAIN');
SELECT profile_stream.create_stream('o', server => 'options_files');
ALTER USER MAPPING FOR CURRENT_USER SERVER options_files OPTIONS (DROP "sasl.mechanism", ADD "ssl.ca.pem" 'x');
SELECT profile_stream.create_stream('o', server => 'options_files');
RESET ROLE;
DROP SERVER options_files CASCADE;
DROP ROLE options_operator;
