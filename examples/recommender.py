#!/usr/bin/env python3
"""A recommender: it listens to changes of profiles and prints what to suggest to the customer. Prints "customer: suggestion".

    examples/recommender.py     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

A suggestion is made once, and again when another one fits better.
"""
import json
import select
import sys
import time

import psycopg

# the first that fits counts; a profile is what get_profile() returns
SUGGESTIONS = [
    ("an appointment with your adviser", lambda p: p["totalBalance"] >= 10000),
    ("a savings account", lambda p: p["totalBalance"] >= 2000 and p["accountCount"] < 2),
    ("a card without a monthly fee", lambda p: p["transactionCount30d"] >= 10),
    ("the app, for payments on the way", lambda p: p["preferredChannel"] != "app"),
    ("a welcome bonus for your first payment", lambda p: p["transactionCount30d"] == 0),
]


class Recommender:
    def __init__(self, connection):
        self.connection = connection
        self.changed = set()
        self.made = {}
        connection.add_notify_handler(self.notified)

    def notified(self, notify):
        change = json.loads(notify.payload)
        if change.get("forgotten"):
            self.made.pop(change["customerId"], None)
        elif "customerId" in change:
            self.changed.add(change["customerId"])

    def recommend(self):
        # one query for all that changed meanwhile
        rows = self.connection.execute("SELECT customer_id, profile_stream.get_profile(customer_id) FROM unnest(%s::text[]) AS c(customer_id)", [list(self.changed)])
        self.changed = set()
        for customer_id, profile in rows:
            fitting = next((text for text, fits in SUGGESTIONS if profile and fits(profile)), None)
            if fitting and self.made.get(customer_id) != fitting:
                self.made[customer_id] = fitting
                print(f"{customer_id}: {profile['firstName'] or 'You'}, how about {fitting}?", flush=True)

    def run(self):
        self.connection.execute("LISTEN " + self.connection.execute("SELECT quote_ident(profile_stream.notification_channel())").fetchone()[0])
        print("listening", file=sys.stderr, flush=True)
        while True:
            select.select([self.connection.fileno()], [], [], 60)
            self.connection.execute("SELECT 1")  # hands what has come to notified()
            if self.changed:
                self.recommend()


def main():
    while True:
        try:
            with psycopg.connect(autocommit=True) as connection:
                Recommender(connection).run()
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            time.sleep(1)


main()
