-- Streams of several topics: arguments, formats of single topics, and what views say of them. No Kafka is asked.
SET client_min_messages = error;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic => 'c');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,NULL}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topic_pattern => '(');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', changelog_topic => 'b');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '[]');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '{"a": 1}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '{"a": {"color": "red"}}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '{"a": {"format": 1}}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '{"a": {"format": "custom"}}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_formats => '{"a": {"timestamp_unit": "years"}}');
SELECT count(*) FROM profile_stream.streams;

BEGIN;
SELECT profile_stream.create_stream('one', bootstrap_servers => '127.0.0.1:1');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', topics => '{a,b}', topic_pattern => '^crm\.',
	topic_formats => '{"b": {"format": "cloudevents", "timestamp_unit": "seconds"}, "crm.x": {"timestamp_unit": "microseconds"}}');
SELECT name, topic, topics, topic_pattern, topic_formats FROM profile_stream.streams ORDER BY 1;
SELECT stream, topic FROM profile_stream.stat_streams ORDER BY 1;
-- a pattern alone takes no topic away; a topic takes all others away
SELECT profile_stream.alter_stream('one', topic_pattern => 'x');
SELECT name, topic, topics, topic_pattern FROM profile_stream.streams WHERE name = 'one';
SELECT profile_stream.alter_stream('one', topic => 'single');
SELECT name, topic, topics, topic_pattern FROM profile_stream.streams WHERE name = 'one';
SELECT profile_stream.alter_stream('one', topics => '{}');
SELECT name, topic, topics, topic_pattern FROM profile_stream.streams WHERE name = 'one';
SAVEPOINT nothing_left;
SELECT profile_stream.alter_stream('s', topics => '{}', topic_pattern => '');
ROLLBACK TO nothing_left;
SELECT profile_stream.alter_stream('s', topics => '{}');
SELECT profile_stream.alter_stream('s', topics => '{a,b}');

-- the state of each topic, with the reason and what to do; a topic that is read no more is left
INSERT INTO profile_stream_internal.stream_topics (stream_id, topic_no, topic, pattern, joined_at, state, error, since)
	SELECT s.stream_id, t.* FROM profile_stream.streams s, (VALUES (0, 'a', NULL, '2026-01-01Z'::timestamptz, 'running', NULL, '2026-01-01Z'::timestamptz),
		(1, 'b', NULL, '2026-01-01Z', 'missing', 'the topic does not exist', '2026-01-02Z'), (2, 'crm.x', '^crm\.', '2026-01-01Z', 'running', NULL, '2026-01-01Z'),
		(3, 'old.x', '^old\.', '2026-01-01Z', 'running', NULL, '2026-01-01Z')) t WHERE s.name = 's';
INSERT INTO profile_stream_internal.stream_offsets (stream_id, topic_no, partition, start_offset, next_offset, read_offset, end_offset, consumed, applied, error)
	SELECT s.stream_id, t.* FROM profile_stream.streams s, (VALUES (0, 0, 0, 5, 5, 6, 5, 4, NULL), (0, 1, 0, 2, 2, 2, 2, 2, NULL), (2, 0, 0, 1, 1, 1, 1, 1, 'broken')) t
	WHERE s.name = 's';
INSERT INTO profile_stream_internal.stream_gaps (stream_id, topic_no, partition, from_offset, to_offset, reason, recorded_at)
	SELECT stream_id, 2, 0, 0, 1, 'seek', '2026-01-02Z' FROM profile_stream.streams WHERE name = 's';
SELECT topic, state, since, error, hint, format, partitions, consumed, applied, lag FROM profile_stream.stat_topics WHERE stream = 's' ORDER BY 1;
SELECT topic, partition, next_offset, gaps IS NOT NULL AS has_gap, error FROM profile_stream.stat_partitions WHERE stream = 's' ORDER BY 1, 2;
SELECT topic, partition, consumed FROM profile_stream.reconcile('s') ORDER BY 1, 2;
UPDATE profile_stream_internal.stream_status SET state = 'running' WHERE stream_id = (SELECT stream_id FROM profile_stream.streams WHERE name = 's');
SELECT error FROM profile_stream.stat_streams WHERE stream = 's';

-- a topic that was left makes no lag, no error and no problem, whatever it still has
SAVEPOINT well;
UPDATE profile_stream_internal.stream_topics SET state = 'running', error = NULL WHERE topic = 'b';
INSERT INTO profile_stream_internal.stream_offsets (stream_id, topic_no, partition, start_offset, next_offset, read_offset, end_offset, consumed, applied, held, state, error)
	SELECT s.stream_id, t.* FROM profile_stream.streams s, (VALUES (3, 0, 0, 5, 7, 50, 7, 5, 2, 'running', NULL), (3, 1, 0, 5, 5, 60, 5, 5, 0, 'offset_lost', 'gone')) t WHERE s.name = 's';
SELECT lag, error FROM profile_stream.stat_streams WHERE stream = 's';
SELECT subject FROM profile_stream.health() WHERE subject ~ 'partition' ORDER BY 1;
SELECT profile_stream.alter_stream('s', topic_pattern => '^old\.');
SELECT lag, error FROM profile_stream.stat_streams WHERE stream = 's';
SELECT subject FROM profile_stream.health() WHERE subject ~ 'partition' ORDER BY 1;
ROLLBACK TO well;

-- a function that is about one topic asks for its name
SAVEPOINT several;
SELECT profile_stream.wait_for_offset('s', 0, 1);
ROLLBACK TO several;
SELECT profile_stream.wait_for_offset('s', 0, 1, topic => 'other');
ROLLBACK TO several;
SELECT profile_stream.wait_for_offset('s', 0, 4, topic => 'a');
SELECT profile_stream.wait_for_offset('s', 0, 0, topic => 'crm.x');
SELECT profile_stream.wait_for_offset('s', 0, 0, '0', 'crm.new');
ROLLBACK TO several;
SELECT profile_stream.pause_stream('s');

-- dead letters have the format of their topic, and are chosen by topic
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, epoch, partition, kafka_offset, value, kind, errors, dead_at)
	SELECT s.stream_id, s.name, t.topic, 0, 0, 0, convert_to(t.value, 'UTF8'), 'late', '{late}', now() FROM profile_stream.streams s,
		(VALUES ('a', '{"eventId": "1", "customerId": "c", "eventType": "seen", "timestamp": 1767225600000}'),
		('b', '{"specversion": "1.0", "id": "1", "source": "shop", "subject": "c", "type": "seen", "time": "2026-01-01T00:00:00Z"}'),
		('crm.x', '{"eventId": "3", "customerId": "c", "eventType": "seen", "timestamp": 1767225600000000}')) t(topic, value) WHERE s.name = 's';
SELECT topic, event FROM profile_stream.dead_letters WHERE stream = 's' ORDER BY 1;
SELECT profile_stream.discard_dead_letters('s', 'invalid', topic => 'a');
SELECT applied, failed FROM profile_stream.retry_dead_letters('s', topic => 'b');
SELECT applied, failed FROM profile_stream.retry_dead_letters('s', topic => 'crm.x');
SELECT profile_stream.discard_dead_letters('s', topic => 'a');
SELECT event_counts, updated_at FROM profile_stream.materialized_profiles WHERE customer_id = 'c';
ROLLBACK;
