#!/usr/bin/env python3
"""Follows profiles with asyncpg: LISTEN, then what changed since the bookmark, then wait. Prints "version customer", and "by" the event if it was told.

    examples/listen_async.py bookmark-file     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

The file keeps the bookmark; without it every profile is told first.
"""
import asyncio
import json
import pathlib
import sys
import time

import asyncpg

CATCH_UP_EVERY = 600  # seconds: what was announced while the server's queue was full, too
CHANGES = "SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since($1)"


class Follower:
    def __init__(self, connection, bookmark_file):
        self.connection = connection
        self.bookmark_file = bookmark_file
        self.payloads = asyncio.Queue()
        self.catch_up_at = 0

    def changed(self, customer_id, version, last_event=None):
        print(version, customer_id, *(["by", last_event["eventId"]] if last_event else []), flush=True)

    def notified(self, payload):
        change = json.loads(payload)
        if "customerId" in change:
            self.changed(change["customerId"], change["version"], change.get("lastEvent"))
        else:
            self.catch_up_at = 0  # many at once: a stream with notify => 'batch', or swap_rebuild()

    async def catch_up(self):
        self.catch_up_at = time.monotonic() + CATCH_UP_EVERY
        bookmark = self.bookmark_file.read_text() if self.bookmark_file.exists() else None
        for customer_id, version, next_bookmark in await self.connection.fetch(CHANGES, bookmark):
            self.changed(customer_id, version)
            bookmark = next_bookmark
        if bookmark:  # only now: everything before it has been told
            new = self.bookmark_file.with_suffix(".new")
            new.write_text(bookmark)
            new.replace(self.bookmark_file)

    async def follow(self):
        # asyncpg quotes the name; None says that the connection is gone
        channel = await self.connection.fetchval("SELECT profile_stream.notification_channel()")
        self.connection.add_termination_listener(lambda connection: self.payloads.put_nowait(None))
        await self.connection.add_listener(channel, lambda connection, pid, name, payload: self.payloads.put_nowait(payload))
        while True:
            wait = self.catch_up_at - time.monotonic()
            if wait <= 0:
                await self.catch_up()
                continue
            try:
                payload = await asyncio.wait_for(self.payloads.get(), wait)
            except asyncio.TimeoutError:
                continue
            if payload is None:
                raise ConnectionError("the connection is gone")
            self.notified(payload)


async def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    while True:
        connection = None
        try:
            connection = await asyncpg.connect()
            await Follower(connection, pathlib.Path(sys.argv[1])).follow()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            print(error, file=sys.stderr)
            await asyncio.sleep(1)
        finally:
            if connection is not None:
                connection.terminate()


asyncio.run(main())
