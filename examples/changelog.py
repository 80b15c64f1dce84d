#!/usr/bin/env python3
"""Keeps a copy of all profiles from the changelog topic of a stream, without PostgreSQL. Prints "version customer" for each change, and "erased customer".

    examples/changelog.py 127.0.0.1:9092 profile-updates

It reads the topic from its beginning at each start, so that it stores no offsets. The topic has "cleanup.policy=compact": then that is one message for each
customer, and a few more. A copy that stays, as a table, stores the offsets with its rows, and begins there.
"""
import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition


class Copy:
    def __init__(self):
        self.profiles = {}  # customer: (version, document)

    def take(self, message):
        customer_id = message.key().decode()
        if message.value() is None:
            self.profiles.pop(customer_id, None)  # who comes back begins with version 1
            print("erased", customer_id, flush=True)
            return
        version = int(dict(message.headers())["profile-version"])
        if version < self.profiles.get(customer_id, (0,))[0]:
            return  # delivered again. The same version may have other scores
        self.profiles[customer_id] = version, json.loads(message.value())["profile"]
        print(version, customer_id, flush=True)


def follow(brokers, topic):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "changelog-example",  # the client wants one; nothing is stored for it
            "enable.auto.commit": False,
            "isolation.level": "read_committed",  # the relay writes in transactions
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in found.partitions])
        copy = Copy()
        while True:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is None:
                copy.take(message)
            else:
                print(message.error(), file=sys.stderr)  # the client connects again by itself
    finally:
        consumer.close()


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    while True:
        try:
            follow(*sys.argv[1:])
        except KafkaException as error:
            print(error, file=sys.stderr)
            time.sleep(1)


main()
