#!/usr/bin/env python3
"""Tells a producer the partition of a customer, for a stream of distributed profiles with partitioner => 'citus'.

partition.py PARTITIONS     reads customers, one a line, and prints the partition of each

Citus divides the hashes of PostgreSQL into ranges of one size, a shard each. A topic with as many partitions has the customers
of one shard in each of them. A producer names the partition itself, as confluent_kafka does it:

    producer.produce(topic, value, key=customer, partition=partition_of(customer, 32))

The hash is lookup3 by Bob Jenkins (https://burtleburtle.net/bob/c/lookup3.c), as PostgreSQL begins it.
profile_stream.kafka_partition(customer, 32, 'citus') says the same.
"""
import sys

WORD = 0xFFFFFFFF


def rotate(word, bits):
    return (word << bits | word >> (32 - bits)) & WORD


def mix(a, b, c):
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c & WORD) ^ rotate(c, bits)
        c = c + b & WORD
        a, b, c = b, c, a
    return a, b, c


def finish(a, b, c):
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - rotate(b, bits) & WORD
        a, b, c = b, c, a
    return b


def hash_of(data):
    a = b = c = 0x9E3779B9 + len(data) + 3923095 & WORD
    whole = len(data) // 12 * 12
    for at in range(0, whole, 12):
        words = [int.from_bytes(data[at + i:at + i + 4], "little") for i in (0, 4, 8)]
        a, b, c = mix(a + words[0] & WORD, b + words[1] & WORD, c + words[2] & WORD)
    rest = data[whole:]
    # the lowest byte of the last word stands for the length
    a = a + int.from_bytes(rest[:4], "little") & WORD
    b = b + int.from_bytes(rest[4:8], "little") & WORD
    c = c + (int.from_bytes(rest[8:], "little") << 8) & WORD
    return finish(a, b, c)


def partition_of(customer, partitions):
    signed_from_least = hash_of(customer.encode()) + 2**31 & WORD
    return min(signed_from_least // (2**32 // partitions), partitions - 1)


def main():
    partitions = int(sys.argv[1])
    for line in sys.stdin:
        print(partition_of(line.rstrip("\n"), partitions))


if __name__ == "__main__":
    main()
