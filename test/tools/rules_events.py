#!/usr/bin/env python3
"""Random events for rules_model.py, good and bad, in the line format of produce.

    rules_events.py SEED EVENTS CUSTOMERS UNTIL
"""
import argparse
import base64
import datetime
import json
import random
import sys
import zlib

import model

PARTITIONS = 4


class Raw(str):
    """A JSON literal."""


def encode(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{encode(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


class Generator:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.until = model.parse_timestamp(args.until)
        self.recent = []

    def number(self):
        """A number in one of the forms that count as one, seldom none."""
        dice = self.random.random()
        if dice < 0.01:
            return self.random.choice(["much", True, [1], {"n": 1}, "1,5"])
        if dice < 0.1:
            return self.random.choice([None, "", "3.50", "-7", Raw("1e3"), Raw("-0.0"), Raw("12345678901234567890.123456789")])
        return Raw(f"{self.random.randrange(-2000, 20000) / 100}")

    def text(self, choices):
        dice = self.random.random()
        if dice < 0.01:
            return self.random.choice([True, ["x"], {"a": "b"}])
        if dice < 0.08:
            return self.random.choice([None, "", Raw("7"), Raw("7.0"), "7", "ünï\"'\\"])
        return self.random.choice(choices)

    def payload(self, event_type):
        rng = self.random
        if event_type == "transaction.completed":
            return {"amount": Raw(str(rng.randrange(1, 9999) / 100))}
        if event_type == "session.started":
            return {"device": self.number() if rng.random() < 0.5 else Raw(str(rng.randrange(6))), "credit": Raw(str(rng.randrange(-50, 50)))}
        payload = {"points": self.number()}
        if event_type == "order.placed":
            payload.update({"total": self.number(), "basket": f"b{rng.randrange(2_000_000)}",
                            "customer": {"tier": self.text(["gold", "silver", "tin"])},
                            "shop": {"city": self.text([f"city {i}" for i in range(30)])}})
        else:
            payload.update({"the reason": self.text(["late", "broken", "wrong"]), "email": self.text(["a@example.org", "b@example.org"]),
                            "consent": rng.choice([True, False, "true", "false", None, ""] * 20 + ["yes"]),
                            "seen": rng.choice(["2026-01-05T10:00:00Z", "2026-01-05T12:30:00.25+02:00", Raw("1767000000123"), None] * 20 + ["soon"])})
        for key in list(payload):
            if rng.random() < 0.1:
                del payload[key]
        return payload

    def line(self, number):
        rng = self.random
        if self.recent and rng.random() < 0.02:
            return rng.choice(self.recent)
        customer = f"c{int(rng.random() ** 2 * self.args.customers)}"
        event_type = rng.choices(["order.placed", "order.returned", "transaction.completed", "session.started", "page.viewed"], [8, 3, 1, 2, 1])[0]
        # mostly recent ones, of some moments several
        age = int(rng.random() ** 3 * 450 * 24 * 60) * 60_000_000
        at = datetime.datetime.fromtimestamp((self.until - age) // 1_000_000, datetime.timezone.utc)
        event = {"eventId": f"e{number}", "customerId": customer, "eventType": event_type,
                 "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "payload": self.payload(event_type)}
        source = rng.choice(["crm", "app", "web", "", None, 7] * 5 + [f"rare {rng.randrange(200)}", f"ünï {rng.randrange(3)}", "long" * 26])
        if source is not None:
            event["source"] = source
        value = base64.b64encode(encode(event).encode()).decode()
        line = f"{zlib.crc32(customer.encode()) % PARTITIONS}\t{customer}\t{value}\n"
        self.recent.append(line)
        del self.recent[:-500]
        return line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("events", type=int)
    parser.add_argument("customers", type=int)
    parser.add_argument("until", help="the newest timestamp, ISO 8601")
    args = parser.parse_args()
    generator = Generator(args)
    for number in range(args.events):
        sys.stdout.write(generator.line(number))


if __name__ == "__main__":
    main()
