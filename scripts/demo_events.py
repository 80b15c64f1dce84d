#!/usr/bin/env python3
"""Makes up the demo's events: four months of 1,000 customers of a bank, by habits that differ.

Prints lines key<TAB>JSON in the order of time, as `produce -j` reads them. One line in a hundred is
no event, or one that its handler refuses. Same --seed and --now, same output.
With --totals it prints what files of such lines come to: messages, bad ones, payments, and the sum of the balances.
"""
import argparse
import datetime
import decimal
import json
import random
import sys
import time

FIRST = ("Ada Ben Carla David Elena Farid Grace Hugo Ines Jonas Klara Liam Maya Noah Olga Pablo Quinn Rosa Samir Tara "
         "Umar Vera Wim Xenia Yara Zoe").split()
LAST = ("Adler Berg Costa Dubois Evans Fischer Garcia Hansen Ivanov Jansen Kaya Lopez Meyer Novak Okafor Petit Rossi "
        "Silva Tanaka Urban Vogel Weber").split()
SHOPS = ["groceries", "travel", "books", "electronics", "restaurant", "pharmacy"]
# share of customers, first day, last day (days ago), days between payments, usual amount
HABITS = [(0.15, 120, 0, 2, 90),    # pays nearly daily
          (0.25, 120, 0, 5, 45),    # weekly
          (0.20, 120, 0, 12, 60),   # now and then
          (0.15, 120, 45, 6, 50),   # stopped six weeks ago
          (0.10, 120, 95, 8, 40),   # stopped three months ago
          (0.15, 20, 0, 4, 35)]     # came this month


class Bank:
    def __init__(self, seed, now):
        self.random = random.Random(seed)
        self.now = now
        self.events = []

    def add(self, customer, days_ago, event_type, payload):
        at = self.now - datetime.timedelta(days=max(days_ago, 0.001) - self.random.random() / 2000)
        self.events.append((at, customer, event_type, payload))

    def add_customer(self, number, habit):
        _, first, last, gap, amount = habit
        customer = f"c-{1000 + number}"
        name, surname = self.random.choice(FIRST), self.random.choice(LAST)
        begin = first - self.random.random() * first / 10
        salary = self.random.randrange(1800, 4200, 50)
        self.add(customer, begin, "customer.profile.updated", {
            "firstName": name, "lastName": surname, "email": f"{name}.{surname}{number}@example.com".lower(),
            "phone": f"+49 30 555{number:04d}"})
        self.add(customer, begin - 0.01, "account.opened", {"initialBalance": self.random.randrange(500, 9000, 100)})
        day = begin - 0.1
        while day > last:
            channel = self.random.choice(["app", "app", "web", "branch"])
            self.add(customer, day, "session.started", {"channel": channel})
            spent = round(amount * self.random.uniform(0.3, 2), 2)
            self.add(customer, day - 0.01, "transaction.completed", {"amount": spent, "category": self.random.choice(SHOPS)})
            if self.random.random() < 0.03:
                self.add(customer, day - 0.02, "support.ticket.created", {"topic": "card"})
            day -= gap * self.random.uniform(0.5, 1.5)
        for month in range(1, int(begin / 30) + 1):
            if begin - 30 * month > last:
                self.add(customer, begin - 30 * month, "deposit.received", {"amount": salary})

    def lines(self):
        for number, (at, customer, event_type, payload) in enumerate(sorted(self.events, key=lambda e: (e[0], e[1]))):
            event = {"eventId": f"e-{number}", "customerId": customer, "eventType": event_type, "payload": payload,
                     "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "source": "core-banking"}
            yield customer, json.dumps(event)
            if self.random.random() < 0.01:
                yield customer, self.spoil(dict(event, eventId=f"bad-{number}"))

    def live(self, seconds, rate, customers):
        """Events of now: payments and logins at the bank, orders in its shop; c-1001 has one each second."""
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            number += 1
            customer = "c-1001" if number % rate == 0 else f"c-{1000 + self.random.randrange(customers)}"
            event_type, payload, source = self.random.choice([
                ("transaction.completed", {"amount": round(self.random.uniform(5, 120), 2), "category": self.random.choice(SHOPS)}, "core-banking"),
                ("session.started", {"channel": self.random.choice(["app", "web"])}, "app"),
                ("order.placed", {"total": round(self.random.uniform(10, 90), 2)}, "shop")])
            event = {"eventId": f"live-{number}", "customerId": customer, "eventType": event_type, "payload": payload,
                     "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"), "source": source}
            if number % 150 == 0:
                yield customer, self.spoil(dict(event, eventId=f"bad-live-{number}"))
            yield customer, json.dumps(event)
            time.sleep(1 / rate)

    def spoil(self, event):
        """What a careless producer sends."""
        kind = self.random.randrange(4)
        if kind == 0:
            return json.dumps(event)[:-25]
        if kind == 1:
            del event["customerId"]
        elif kind == 2:
            event["timestamp"] = "yesterday"
        else:
            event.update(eventType="transaction.completed", payload={"amount": "twelve euros"})
        return json.dumps(event)


def totals(lines):
    """What the events of these lines come to, computed without profile_stream."""
    bad = payments = 0
    balance = decimal.Decimal(0)
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line.split("\t")[1], parse_float=decimal.Decimal)
            datetime.datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
            event["customerId"]
            payload = event["payload"]
            if event["eventType"] == "transaction.completed":
                balance -= payload["amount"]
                payments += 1
            elif event["eventType"] in ("deposit.received", "account.opened"):
                balance += payload["amount" if "amount" in payload else "initialBalance"]
        except (ValueError, KeyError, TypeError):
            bad += 1
    return number, bad, payments, balance


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--now", type=datetime.datetime.fromisoformat, default=datetime.datetime.now(datetime.timezone.utc))
    parser.add_argument("--live", type=float, help="so many seconds of events of now, in place of the months before")
    parser.add_argument("--rate", type=int, default=200, help="events a second of --live")
    parser.add_argument("--copy", default="/dev/null", help="a file that gets the lines of --live, too")
    parser.add_argument("--totals", action="store_true", help="only print the totals of lines that come by the standard input")
    args = parser.parse_args()
    if args.totals:
        print("|".join(map(str, totals(sys.stdin))))
        return
    bank = Bank(args.seed, args.now)
    if args.live is not None:
        with open(args.copy, "a", encoding="utf-8") as copy:
            for customer, value in bank.live(args.live, args.rate, args.customers):
                for file in (copy, sys.stdout):
                    print(f"{customer}\t{value}", file=file, flush=True)
        return
    number = 0
    for habit in HABITS:
        for _ in range(round(habit[0] * args.customers)):
            bank.add_customer(number, habit)
            number += 1
    for customer, value in bank.lines():
        print(f"{customer}\t{value}")


main()
