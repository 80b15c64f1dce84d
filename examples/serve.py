#!/usr/bin/env python3
"""Reads profiles: from Redis, and what is not there by serve_profile(), which has the relay put it there. Never SETs a key.

    examples/serve.py 127.0.0.1:6379 < ids     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

Prints "redis" or "database" and the profile, or "unknown", a line for each id.
"""
import sys

import psycopg
import redis

PREFIX = "profile:"  # the stream's redis_prefix


class Profiles:
    def __init__(self, cache, connection):
        self.cache = cache
        self.connection = connection

    def get(self, customer_id):
        try:
            profile = self.cache.get(PREFIX + customer_id)
        except redis.RedisError as error:
            print(error, file=sys.stderr)  # without the cache it is slower, not wrong
            profile = None
        if profile is not None:
            return "redis", profile
        row = self.connection.execute("SELECT profile_stream.serve_profile(%s)::text", [customer_id]).fetchone()
        return "database", row[0]


def main():
    if len(sys.argv) != 2 or ":" not in sys.argv[1]:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    host, port = sys.argv[1].rsplit(":", 1)
    cache = redis.Redis(host, int(port), socket_timeout=1, socket_connect_timeout=1, decode_responses=True)
    with psycopg.connect(autocommit=True) as connection:
        profiles = Profiles(cache, connection)
        for line in sys.stdin:
            source, profile = profiles.get(line.rstrip("\n"))
            print(source, profile or "unknown", flush=True)


main()
