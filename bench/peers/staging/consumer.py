"""A consumer that stages: what it has read goes by COPY into a temporary table, and one statement of SQL applies it to the
profiles. Ids of events are kept, and the offsets are written in the same transaction: each event counts once, whatever
crashes. The bench starts it; the broker, the topic and the database are in the environment.
"""
import os
import pathlib

import confluent_kafka
import psycopg

BATCH = 5000
APPLY = (pathlib.Path(__file__).parent / "apply.sql").read_text(encoding="utf-8")


def open_consumer(connection):
    """Reads each partition from the offset that the database has."""
    topic = os.environ["TOPIC"]
    consumer = confluent_kafka.Consumer({"bootstrap.servers": os.environ["BROKERS"], "group.id": "staging", "enable.auto.commit": False,
                                         "auto.offset.reset": "earliest"})
    partitions = sorted(consumer.list_topics(topic).topics[topic].partitions)
    connection.cursor().executemany("INSERT INTO offsets VALUES (%s, 0) ON CONFLICT DO NOTHING", [(partition,) for partition in partitions])
    rows = connection.execute("SELECT partition, next_offset FROM offsets").fetchall()
    connection.execute("CREATE TEMP TABLE staging (kafka_offset bigint, event jsonb) ON COMMIT DELETE ROWS")
    connection.commit()
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset) for partition, offset in rows])
    return consumer


def apply(connection, messages):
    with connection.transaction():
        cursor = connection.cursor()
        with cursor.copy("COPY staging FROM STDIN") as copy:
            for message in messages:
                copy.write_row((message.offset(), message.value().decode()))
        cursor.execute("ANALYZE staging")
        cursor.execute(APPLY)
        ends = {message.partition(): message.offset() + 1 for message in messages}
        cursor.executemany("UPDATE offsets SET next_offset = %s WHERE partition = %s", [(end, partition) for partition, end in ends.items()])


def main():
    with psycopg.connect("") as connection:
        consumer = open_consumer(connection)
        while True:
            messages = consumer.consume(BATCH, 0.2)
            for message in messages:
                if message.error():
                    raise confluent_kafka.KafkaException(message.error())
            if messages:
                apply(connection, messages)


main()
