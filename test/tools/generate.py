#!/usr/bin/env python3
"""Generates customer events, good and bad, in the line format of produce.

Same arguments, same output. A customer always has the same partition, so the
order of the lines of a partition is the order in which events must apply.
"""
import argparse
import base64
import datetime
import json
import random
import sys
import zlib

UTC = datetime.timezone.utc
DAY = 86_400_000_000
HANDLED = ["transaction.completed", "session.started", "customer.profile.updated",
           "account.opened", "account.closed", "support.ticket.created"]
WEIGHTS = [45, 25, 10, 6, 4, 6]
UNKNOWN = ["page.viewed", "loan.requested", "ünbekannt \"x\"\\y", "a", "card.blocked"]
ODD_CUSTOMERS = ["日本-客", "o'brien \"x\"", "back\\slash", " space ", "%s", "x" * 512, "NULL", "{1,2}"]
NAMES = ["Ada", "Zoë", "O'Neil", "李", "Max \"M\"", "back\\slash", "tab\there", "line\nbreak", "😀"]
DEAD_RATE = 0.02


def parse_time(text):
    """Microseconds since 1970 of an ISO 8601 time; UTC when it has no zone."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // datetime.timedelta(microseconds=1)


class Raw(str):
    """Text that goes into the JSON as it is."""


def encode(value):
    """JSON text; Raw texts unquoted, pairs as objects whose keys may repeat."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        value = list(value.items())
        return "{" + ",".join(json.dumps(k) + ":" + encode(v) for k, v in value) + "}"
    if isinstance(value, tuple):
        return "{" + ",".join(json.dumps(k) + ":" + encode(v) for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(encode(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Generator:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.until = parse_time(args.until)
        self.customers = ODD_CUSTOMERS[:max(0, args.customers - 1)]
        self.customers += [str(1000 + i) if i % 50 == 0 else f"cust-{i:06d}"
                           for i in range(args.customers - len(self.customers))]
        self.recent = []
        self.number = 0

    def chance(self, probability):
        return self.random.random() < probability

    def partition(self, customer):
        return zlib.crc32(customer.encode()) % self.args.partitions

    def customer(self):
        """Some customers are hot, so that their window chunks fill."""
        if self.chance(0.15):
            return self.customers[self.random.randrange(min(20, len(self.customers)))]
        return self.random.choice(self.customers)

    def moment(self):
        """Most events lie in the 40 days before --until; up to 2 minutes out of order."""
        if self.args.block:
            return self.moment_in_block()
        if self.chance(0.002):
            edge = self.random.choice([7, 30, 90, 0]) * DAY
            return self.until - edge + self.random.choice([0, 0, -1, 1, -1000, 1000])
        progress = self.number / max(1, self.args.events)
        days = 100 - progress / 0.2 * 60 if progress < 0.2 else 40 - (progress - 0.2) / 0.8 * 40
        return self.until - int(days * DAY) - self.random.randrange(120_000_000)

    def moment_in_block(self):
        """Half an hour for a block, an hour apart from the next; 2 minutes out of order, whole seconds for ties."""
        block, place = divmod(self.number - 1, self.args.block)
        hours = (self.args.events - 1) // self.args.block - block + 1
        second = place * 1800 // self.args.block - self.random.randrange(120)
        return (self.until // 1_000_000 - hours * 3600 + second) * 1_000_000

    def timestamp(self, micros):
        """The same moment in one of the forms that are allowed."""
        moment = datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(microseconds=micros)
        form = self.random.randrange(10)
        if form == 0 and micros % 1000 == 0:
            return micros // 1000
        if form == 1:
            return moment.replace(tzinfo=None).isoformat()
        if form == 2:
            zone = datetime.timezone(datetime.timedelta(minutes=self.random.choice([120, -300, 330])))
            return moment.astimezone(zone).isoformat()
        return moment.isoformat().replace("+00:00", "Z")

    def amount(self):
        kind = self.random.randrange(20)
        if kind == 0:
            text = str(self.random.randrange(10 ** 29, 10 ** 30)) + "." + f"{self.random.randrange(10 ** 8):08d}"
        elif kind == 1:
            text = f"-{self.random.randrange(1, 1000)}.{self.random.randrange(100):02d}"
        elif kind == 2:
            text = self.random.choice(["0", "0.00", "1e3", "1.5E-4", "2.50e+2", "100", "1" * 38])
        else:
            digits = self.random.randrange(2, 9)
            text = f"{self.random.randrange(100_000)}.{self.random.randrange(10 ** digits):0{digits}d}"
        return text if self.chance(0.2) else Raw(text)

    def payload(self, event_type):
        choose = self.random.choice
        if event_type == "transaction.completed":
            if self.chance(0.01):
                return (("amount", Raw("1")), ("amount", self.amount()))
            return {"amount": self.amount(), "currency": "EUR", "note": {"a": [1, None, True]}}
        if event_type == "session.started":
            return choose([{}, {"channel": choose(["web", "app", "branch"])}, {"channel": None},
                           {"channel": ""}, {"channel": Raw("7")}])
        if event_type == "customer.profile.updated":
            fields = {"firstName": choose(NAMES), "lastName": choose(NAMES + ["", None]),
                      "email": choose(["a@example.org", "", None, Raw("12.50")]), "phone": choose(["+49 1", Raw("491")])}
            return {k: v for k, v in fields.items() if self.chance(0.6)}
        if event_type == "account.opened":
            return choose([{}, {"initialBalance": self.amount()}, {"initialBalance": None}, {"initialBalance": ""}])
        return choose([{}, {"reason": "x"}, None])

    def seed(self, customer):
        """The document of a profile of another system, or of a part of it; some are refused."""
        choose = self.random.choice
        transactions = choose([None, 0, 1, 7, 64, 300])
        document = {
            "customerId": customer, "version": self.random.randrange(100), "lastUpdatedAt": "2026-01-01T00:00:00Z",
            "firstName": choose(NAMES + ["", None]), "lastName": choose(NAMES), "email": choose(["seed@example.org", None]), "phone": choose(["", Raw("491")]),
            "totalBalance": choose([self.amount(), None]), "accountCount": choose([0, 3, "4", None]),
            "lastTransactionDate": choose([None, "2026-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]), "lastLoginDate": choose([None, Raw("1767225600000")]),
            "transactionCount30d": transactions, "totalTransactionValue30d": self.amount() if transactions else choose([None, 0]),
            "loginCount7d": choose([None, 2, 100]), "preferredChannel": choose(["web", None, ""]),
            "eventCounts": choose([None, {}, {"transaction.completed": 40, "page.viewed": 1}])}
        document = {k: v for k, v in document.items() if self.chance(0.7) or k in ("transactionCount30d", "totalTransactionValue30d")}
        if self.chance(0.1):
            document.update([choose([("firstname", "x"), ("accountCount", -1), ("accountCount", 1.5), ("totalBalance", "much"), ("email", ["x"]),
                                     ("lastLoginDate", "yesterday"), ("loginCount7d", 10001), ("customerId", "another"), ("eventCounts", [1]),
                                     ("eventCounts", {"a": "many"})])])
        return document

    def bad_payload(self):
        """An event type and a payload that its handler refuses."""
        return self.random.choice([
            ("transaction.completed", {}),
            ("transaction.completed", {"amount": None}),
            ("transaction.completed", {"amount": "twelve"}),
            ("transaction.completed", {"amount": "+5"}),
            ("transaction.completed", {"amount": True}),
            ("transaction.completed", {"amount": [1]}),
            ("transaction.completed", {"amount": Raw("9" * 45)}),
            ("account.opened", {"initialBalance": {"a": 1}}),
            ("account.opened", {"initialBalance": Raw("1e60")}),
            ("session.started", {"channel": False}),
            ("customer.profile.updated", {"firstName": ["x"]}),
            ("customer.profile.updated", {"email": {"a": "b"}, "phone": "1"}),
        ])

    def invalid(self, event):
        """Breaks one to three members of an event."""
        breaks = [
            ("eventId", [None, "", Raw("0"), False, True, {}, ["x"], "e" * 513]),
            ("customerId", [None, "", Raw("0"), False, True, {"a": 1}, [], "c" * 513]),
            ("eventType", [None, "", Raw("0"), False, True, {}, [], "t" * 513]),
            ("timestamp", [None, "", Raw("0"), False, True, {}, "yesterdayish", "2026-13-45T00:00:00Z",
                           "2026-02-30T00:00:00Z", "2099-01-01T00:00:00Z", Raw("4070908800000")]),
            ("payload", ["text", [1], Raw("5"), True]),
            ("schemaVersion", [Raw("2"), Raw("99")]),
        ]
        for name, values in self.random.sample(breaks, self.random.choice([1, 1, 1, 2, 3])):
            if self.chance(0.2) and name in ("eventId", "customerId", "eventType", "timestamp"):
                event.pop(name, None)
            else:
                event[name] = self.random.choice(values)

    def malformed(self, text):
        """Bytes that are not an acceptable JSON object."""
        value = text.encode()
        return self.random.choice([
            value[:-1], value + b"x", b"", b"not json", b"[1,2]", b"42", b'"text"', b"null", value[:-1] + b",}",
            b"\x00\x00\x00\x00\x05" + value, value.replace(b":", b"=", 1),
            value[:-1] + b',"x":"\xff\xfe"}', value[:-1] + b',"x":"\xc3\x28"}',
            value[:-1] + b',"x":"\\u0000"}', value[:-1] + b',"x":"\\ud800"}', value[:-1] + b',"x":"\\udc00x"}',
            value[:-1] + b',"x":NaN}', value[:-1] + b',"x":01}', value[:-1] + b",'x':1}",
            value[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
            value[:-1] + b',"x":"line\nbreak"}',
        ])

    def good(self):
        event_type = (self.random.choice(UNKNOWN) if self.chance(0.04)
                      else self.random.choices(HANDLED, WEIGHTS)[0])
        event_id = f"evt-{self.args.seed}-{self.number}"
        event = {"eventId": event_id, "customerId": self.customer(), "eventType": event_type,
                 "payload": self.payload(event_type), "timestamp": self.timestamp(self.moment())}
        if self.args.seeded and self.chance(self.args.seeded):
            event["eventType"], event["payload"] = "profile.seeded", self.seed(event["customerId"])
        if event["payload"] is None and self.chance(0.5):
            del event["payload"]
        if self.chance(0.3):
            event["source"] = self.random.choice(["web", "core", None, Raw("5")])
        if self.chance(0.3):
            event["schemaVersion"] = Raw("1")
        if self.chance(0.05):
            event["unknownMember"] = {"eventId": "inner", "list": [1, {"x": "ü"}]}
        if self.chance(0.01):
            event["eventId"] = Raw(str(10_000_000 + self.number))
        if event["customerId"].isdigit() and self.chance(0.3):
            event["customerId"] = Raw(event["customerId"])
        return event

    def line(self, partition, key, value):
        text = "-" if value is None else base64.b64encode(value).decode()
        return f"{partition}\t{key}\t{text}\n"

    def next_line(self):
        self.number += 1
        if self.args.block and self.number % self.args.block == 1:
            self.recent = []
        event = self.good()
        customer = str(event["customerId"])
        partition = self.partition(customer)
        key = customer if self.chance(0.9) else ""
        dice = self.random.random()
        if dice < 0.005:
            return self.line(partition, key, None)
        if dice < 0.005 + DEAD_RATE / 3:
            return self.line(partition, key, self.malformed(encode(event)))
        if dice < 0.005 + 2 * DEAD_RATE / 3:
            self.invalid(event)
        elif dice < 0.005 + DEAD_RATE:
            event["eventType"], event["payload"] = self.bad_payload()
            self.recent.append((partition, key, event, True))
        elif dice < 0.005 + DEAD_RATE + self.args.repeats and self.recent:
            return self.repeat()
        elif self.chance(0.05):
            self.recent.append((partition, key, event, False))
            if len(self.recent) > 500:
                self.recent.pop(self.random.randrange(500))
        if self.chance(0.005):
            return self.line(partition, key, encode((("eventId", "first"),) + tuple(event.items())).encode())
        return self.line(partition, key, encode(event).encode())

    def repeat(self):
        """An event again: the same bytes, other content, or its id for another customer."""
        partition, key, event, refused = self.random.choice(self.recent)
        event = dict(event)
        kind = self.random.randrange(4)
        if kind == 0:
            event["eventType"], event["payload"] = "transaction.completed", {"amount": Raw("1.25")}
        elif kind == 1:
            event["customerId"] = self.customer()
            partition = key = None
        # no more out of order than others, where the order decides what becomes of it
        if (kind <= 1 or refused) and self.args.block:
            event["timestamp"] = self.timestamp(self.moment())
        if partition is None:
            partition, key = self.partition(event["customerId"]), event["customerId"]
        return self.line(partition, key, encode(event).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--repeats", type=float, default=0.035,
                        help="share of events that repeat one; three of four are duplicates")
    parser.add_argument("--seeded", type=float, default=0, help="share of events that are documents of profiles")
    parser.add_argument("--block", type=int, default=0,
                        help="events of a block, whose timestamps are disordered within it and after those before it")
    parser.add_argument("--until", required=True, help="the newest timestamp, ISO 8601")
    args = parser.parse_args()
    generator = Generator(args)
    for _ in range(args.events):
        sys.stdout.write(generator.next_line())


if __name__ == "__main__":
    main()
