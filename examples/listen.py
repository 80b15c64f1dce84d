#!/usr/bin/env python3
"""Follows profiles with psycopg 3: LISTEN, then what changed since the bookmark, then wait. Prints "version customer", and "by" the event if it was told.

    examples/listen.py bookmark-file     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

The file keeps the bookmark; without it every profile is told first.
"""
import json
import pathlib
import select
import sys
import time

import psycopg

CATCH_UP_EVERY = 600  # seconds: what was announced while the server's queue was full, too
CHANGES = "SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since(%s)"


class Follower:
    def __init__(self, connection, bookmark_file):
        self.connection = connection
        self.bookmark_file = bookmark_file
        self.catch_up_at = 0
        connection.add_notify_handler(self.notified)

    def changed(self, customer_id, version, last_event=None):
        print(version, customer_id, *(["by", last_event["eventId"]] if last_event else []), flush=True)

    def notified(self, notify):
        change = json.loads(notify.payload)
        if "customerId" in change:
            self.changed(change["customerId"], change["version"], change.get("lastEvent"))
        else:
            self.catch_up_at = 0  # many at once: a stream with notify => 'batch', or swap_rebuild()

    def catch_up(self):
        self.catch_up_at = time.monotonic() + CATCH_UP_EVERY
        bookmark = self.bookmark_file.read_text() if self.bookmark_file.exists() else None
        for customer_id, version, next_bookmark in self.connection.execute(CHANGES, [bookmark]):
            self.changed(customer_id, version)
            bookmark = next_bookmark
        if bookmark:  # only now: everything before it has been told
            new = self.bookmark_file.with_suffix(".new")
            new.write_text(bookmark)
            new.replace(self.bookmark_file)

    def follow(self):
        channel = self.connection.execute("SELECT quote_ident(profile_stream.notification_channel())").fetchone()[0]
        self.connection.execute("LISTEN " + channel)
        while True:
            wait = self.catch_up_at - time.monotonic()
            if wait <= 0:
                self.catch_up()
                continue
            select.select([self.connection.fileno()], [], [], wait)
            self.connection.execute("SELECT 1")  # hands what has come to notified()


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    while True:
        try:
            with psycopg.connect(autocommit=True) as connection:
                Follower(connection, pathlib.Path(sys.argv[1])).follow()
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            time.sleep(1)


main()
