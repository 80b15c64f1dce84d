#!/usr/bin/env python3
"""Writes benchmark events, one JSON object of about 240 bytes a line, as key<TAB>value.
"""
import argparse
import bisect
import itertools
import random
import sys

TYPES = ["transaction.completed", "session.started", "transaction.completed", "page.viewed", "customer.profile.updated"]


def numbers(count, disorder, seed):
    """The events' numbers, by which they have their timestamps, in the order in which they come."""
    if disorder == 0:
        return range(count)
    rng = random.Random(seed)
    return sorted(range(count), key=lambda i: i + rng.random() * disorder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("customers", type=int)
    parser.add_argument("shape", choices=("uniform", "zipf"))
    parser.add_argument("seed", type=int)
    parser.add_argument("disorder", type=int, nargs="?", default=0, help="an event comes up to so many events later than its timestamp has it")
    args = parser.parse_args()
    count, customers, shape, seed, disorder = args.count, args.customers, args.shape, args.seed, args.disorder
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, customers + 1))) if shape == "zipf" else None
    for i in numbers(count, disorder, seed):
        customer = bisect.bisect(weights, rng.random() * weights[-1]) if weights else rng.randrange(customers)
        kind = TYPES[i % len(TYPES)]
        if kind == "transaction.completed":
            payload = f'{{"amount":{rng.randrange(1, 100000) / 100},"currency":"EUR"}}'
        elif kind == "customer.profile.updated":
            payload = f'{{"firstName":"First{i % 977}","email":"c{customer}@example.org"}}'
        else:
            payload = '{"channel":"app","page":"/accounts"}'
        seconds = i * 2_000_000 // count
        day, rest = divmod(seconds, 86400)
        sys.stdout.write(
            f'cust-{customer:08d}\t{{"eventId":"{rng.getrandbits(128):032x}","customerId":"cust-{customer:08d}",'
            f'"eventType":"{kind}","payload":{payload},'
            f'"timestamp":"2026-01-{day + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z",'
            f'"source":"core-banking","schemaVersion":1}}\n')


main()
