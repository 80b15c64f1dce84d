#!/usr/bin/env python3
"""A campaign: it starts for each customer who enters a segment. Prints "customer entered segment".

    examples/campaign.py segment bookmark-file     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

The table segment_changes says who entered; the notification only that there is something to read. So nobody is missed while the
program does not run, and nobody is told twice. The file keeps how far it was read; without it the program begins with what comes.
"""
import pathlib
import select
import sys
import time

import psycopg

ENTERED = """SELECT change_id, customer_id, to_segment FROM profile_stream.segment_changes
WHERE change_id > %s AND NOT quiet ORDER BY change_id"""


class Campaign:
    def __init__(self, connection, segment, bookmark_file):
        self.connection = connection
        self.segment = segment
        self.bookmark_file = bookmark_file

    def start(self, customer_id):
        """What the campaign does: send a mail, open a ticket, call another system."""
        print(f"{customer_id} entered {self.segment}", flush=True)

    def keep(self, bookmark):
        new = self.bookmark_file.with_suffix(".new")
        new.write_text(str(bookmark))
        new.replace(self.bookmark_file)

    def catch_up(self):
        if not self.bookmark_file.exists():
            self.keep(self.connection.execute("SELECT COALESCE(max(change_id), 0) FROM profile_stream.segment_changes").fetchone()[0])
        for change_id, customer_id, segment in self.connection.execute(ENTERED, [int(self.bookmark_file.read_text())]).fetchall():
            if segment == self.segment:
                self.start(customer_id)
            self.keep(change_id)  # after each one: a crash repeats one customer at most

    def run(self):
        channel = self.connection.execute("SELECT quote_ident(profile_stream.notification_channel('segment_changes'))").fetchone()[0]
        self.connection.execute("LISTEN " + channel)
        while True:
            self.catch_up()
            print("waiting", file=sys.stderr, flush=True)
            select.select([self.connection.fileno()], [], [], 600)
            self.connection.execute("SELECT 1")


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    while True:
        try:
            with psycopg.connect(autocommit=True) as connection:
                Campaign(connection, sys.argv[1], pathlib.Path(sys.argv[2])).run()
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            time.sleep(1)


main()
