#!/usr/bin/env python3
"""What a stream must make of a file of events: an independent model.

Reads the line format of produce, partition by partition in order, and writes
the expected state as JSON for compare. With --sort each customer's events apply
by timestamp instead. A file TOPIC=NAME has the messages of one topic of several:
events of all topics are those of one stream, and partitions are of their topics.
It shares no code with the extension.
"""
import argparse
import base64
import datetime
import decimal
import json
import re
import sys
from decimal import Decimal

decimal.getcontext().prec = 400
UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
METRICS = {"transaction_count_30d": ("transactions", 30, "count"),
           "total_transaction_value_30d": ("transactions", 30, "sum"),
           "login_count_7d": ("logins", 7, "count"),
           "support_ticket_count_90d": ("tickets", 90, "count")}
TRACKED = ("first_name", "last_name", "email", "phone", "total_balance", "account_count", "last_transaction_at",
           "last_login_at", "preferred_channel")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?"
                  r"(Z|[+-]\d\d(?::?\d\d)?)?\Z", re.ASCII)
DIGITS = re.compile(r"\d+(\.\d+)?\Z", re.ASCII)
FIRST_COUNTED = 315_532_800_000_000  # 1980
MAX_DEPTH = 64
MAX_DIGITS = 38
MAX_ID_BYTES = 512
HOUR = 3_600_000_000


class Number(str):
    """The literal text of a JSON number."""


class Malformed(Exception):
    pass


def latest(before, at):
    """The later of two times, of which the first may be None."""
    return at if before is None else max(before, at)


class HandlerError(Exception):
    pass


def refuse_constant(text):
    raise Malformed(text)


def check_texts(value, depth=1):
    """Refuses what PostgreSQL cannot hold: zero characters, lone surrogates, deep nesting."""
    if isinstance(value, str):
        if "\0" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            raise Malformed("character")
    elif isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise Malformed("nesting")
        for item in (list(value) + list(value.values()) if isinstance(value, dict) else value):
            check_texts(item, depth + 1)


def parse_value(value):
    try:
        root = json.loads(value.decode("utf-8"), parse_int=Number, parse_float=Number,
                          parse_constant=refuse_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    check_texts(root)
    if not isinstance(root, dict):
        raise Malformed("not an object")
    return root


def is_missing(value):
    if isinstance(value, Number):
        return Decimal(value) == 0
    return value is None or value is False or value == ""


def parse_timestamp(value):
    """Microseconds since 1970, or None when the value is not a time. Milliseconds are not those of the first ten years."""
    if isinstance(value, Number) or (isinstance(value, str) and DIGITS.match(value)):
        micros = int(Decimal(value) * 1000)
        return micros if micros >= FIRST_COUNTED else None
    match = TIME.match(value) if isinstance(value, str) else None
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0),
                                   int((fraction or "0").ljust(6, "0")), UTC)
    except ValueError:
        return None
    offset = 0
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return (moment - EPOCH) // datetime.timedelta(microseconds=1) - offset * 60_000_000


def is_version(value):
    return isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,4}", value, re.ASCII) and int(value) <= 10_000


def validate(event, now, accept_unknown=False):
    """All errors of an event, in the order of the contract, and its timestamp."""
    ids = ("eventId", "customerId", "eventType")
    errors = [f"Missing {name}" for name in ids + ("timestamp",) if is_missing(event.get(name))]
    bad_ids = [name for name in ids if not is_missing(event.get(name)) and not isinstance(event[name], str)]
    errors += [f"Invalid {name}" for name in bad_ids]
    timestamp = None
    if not is_missing(event.get("timestamp")):
        timestamp = parse_timestamp(event["timestamp"])
        if timestamp is None:
            counted = isinstance(event["timestamp"], Number) or (isinstance(event["timestamp"], str) and DIGITS.match(event["timestamp"]))
            errors.append("Invalid timestamp" + ": as milliseconds it is before 1980 (see timestamp_unit)" * bool(counted))
    payload = event.get("payload")
    if payload is not None and not isinstance(payload, dict):
        errors.append("Invalid payload")
    if timestamp is not None and timestamp > now + HOUR:
        errors.append("Timestamp too far in the future")
    version = event.get("schemaVersion")
    if version is not None and version != "1" and not (accept_unknown and is_version(version)):
        errors.append(f"Unsupported schemaVersion {version}")
    for name in ("customerId", "eventId", "eventType"):
        if isinstance(event.get(name), str) and len(event[name].encode()) > MAX_ID_BYTES:
            errors.append(f"{name} too long")
    return errors, timestamp


def read_number(payload, name):
    value = payload.get(name)
    if value is None or (value == "" and not isinstance(value, Number)):
        return None
    if not isinstance(value, str) or not NUMBER.match(value):
        raise HandlerError(name)
    number = Decimal(value)
    _, digits, exponent = number.normalize().as_tuple()
    if number and (len(digits) > MAX_DIGITS or len(digits) + exponent > MAX_DIGITS or exponent < -MAX_DIGITS):
        raise HandlerError(name)
    return number


def read_text(payload, name):
    value = payload.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise HandlerError(name)
    return str(value)


def read_whole(value, name, most=10 ** 18 - 1):
    """A whole number from 0 on."""
    if not isinstance(value, str) or not NUMBER.match(value):
        raise HandlerError(name)
    number = Decimal(value)
    if number != int(number) or number < 0 or value[0] == "-" or number > most:
        raise HandlerError(name)
    return int(number)


def read_time(value, name):
    at = parse_timestamp(value)
    if at is None:
        raise HandlerError(name)
    return at


def read_any_text(value, name):
    if not isinstance(value, str):
        raise HandlerError(name)
    return str(value)


def read_known_number(value, name):
    number = read_number({name: value}, name)
    if number is None:
        raise HandlerError(name)
    return number


def spread(number, total, days, until):
    """So many samples over a window that ends there, the total in equal parts but for the last one."""
    scale = max(0, -total.as_tuple().exponent)
    units = int(total.scaleb(scale))
    share = (abs(units) // number * (1 if units >= 0 else -1))
    step = days * DAY // number
    return [(until - step * (number - i), Decimal(share if i < number else units - share * (number - 1)).scaleb(-scale))
            for i in range(1, number + 1)]


SEEDED = {"firstName": ("first_name", read_any_text, ""), "lastName": ("last_name", read_any_text, ""), "email": ("email", read_any_text, ""),
          "phone": ("phone", read_any_text, ""), "preferredChannel": ("preferred_channel", read_any_text, ""),
          "totalBalance": ("total_balance", read_known_number, Decimal(0)), "accountCount": ("account_count", read_whole, 0)}


class Profile:
    def __init__(self):
        self.row = {"version": 0, "first_name": "", "last_name": "", "email": "", "phone": "",
                    "total_balance": Decimal(0), "account_count": 0, "last_transaction_at": None,
                    "last_login_at": None, "preferred_channel": "", "event_counts": {},
                    "segment": "unknown", "updated_at": None, "watermark": None}
        self.series = {"transactions": [], "logins": [], "tickets": []}
        self.first_at = None
        self.past = [(None, self.tracked())]  # watermark and tracked columns after each event

    def tracked(self):
        # as documents show them, for which a channel is the app until one is known
        return {column: self.row[column] or ("app" if column == "preferred_channel" else self.row[column]) for column in TRACKED}

    def at(self, moment):
        """The tracked columns after a replay up to a moment, and whether the customer is known by then."""
        then = [state for watermark, state in self.past if watermark is None or watermark <= moment]
        return then[-1], self.first_at <= moment

    def seed(self, document, at, customer):
        """Becomes what a document says; raises HandlerError before anything has changed."""
        columns, times, numbers, counts = {}, {}, {}, {}
        for name, value in document.items():
            if name in SEEDED:
                column, read, initial = SEEDED[name]
                columns[column] = initial if value is None else read(value, name)
            elif name in ("lastTransactionDate", "lastLoginDate", "lastUpdatedAt"):
                times[name] = None if value is None else read_time(value, name)
            elif name in ("transactionCount30d", "loginCount7d"):
                numbers[name] = 0 if value is None else read_whole(value, name, 10000)
            elif name == "totalTransactionValue30d":
                numbers[name] = None if value is None else read_known_number(value, name)
            elif name == "version":
                if value is not None:
                    read_whole(value, name)
            elif name == "customerId":
                if value != customer:
                    raise HandlerError(name)
            elif name == "eventCounts" and (value is None or isinstance(value, dict)):
                counts = {key: read_whole(count, name) for key, count in (value or {}).items()}
            else:
                raise HandlerError(name)
        transactions, total = numbers.get("transactionCount30d", 0), numbers.get("totalTransactionValue30d")
        if total and not transactions:
            raise HandlerError("totalTransactionValue30d")
        self.row.update(columns)
        self.row["event_counts"].update(counts)
        for name, column in (("lastTransactionDate", "last_transaction_at"), ("lastLoginDate", "last_login_at")):
            if times.get(name) is not None:
                self.row[column] = latest(self.row[column], times[name])
        if transactions and not self.series["transactions"]:
            self.series["transactions"] += spread(transactions, total or Decimal(0), 30, at)
        logins = numbers.get("loginCount7d", 0)
        if logins and not self.series["logins"]:
            self.series["logins"] += [(moment, Decimal(1)) for moment, _ in spread(logins, Decimal(0), 7, at)]

    def apply(self, event_type, payload, at, customer=None):
        """Applies an event; raises HandlerError before anything has changed."""
        row = self.row
        if event_type == "customer.profile.updated":
            names = {"first_name": "firstName", "last_name": "lastName", "email": "email", "phone": "phone"}
            values = {column: read_text(payload, member) for column, member in names.items()}
            row.update({column: value for column, value in values.items() if value is not None})
        elif event_type == "transaction.completed":
            amount = read_number(payload, "amount")
            if amount is None:
                raise HandlerError("amount")
            row["last_transaction_at"] = latest(row["last_transaction_at"], at)
            self.series["transactions"].append((at, amount))
        elif event_type == "account.opened":
            row["total_balance"] += read_number(payload, "initialBalance") or 0
            row["account_count"] += 1
        elif event_type == "account.closed":
            row["account_count"] = max(0, row["account_count"] - 1)
        elif event_type == "session.started":
            channel = read_text(payload, "channel")
            row["preferred_channel"] = channel or row["preferred_channel"]
            row["last_login_at"] = latest(row["last_login_at"], at)
            self.series["logins"].append((at, Decimal(1)))
        elif event_type == "support.ticket.created":
            self.series["tickets"].append((at, Decimal(1)))
        elif event_type == "profile.seeded":
            self.seed(payload, at, customer)
        row["version"] += 1
        row["updated_at"] = at
        row["watermark"] = latest(row["watermark"], at)
        row["event_counts"][event_type] = row["event_counts"].get(event_type, 0) + 1
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.past.append((row["watermark"], self.tracked()))

    def metrics(self, as_of):
        values = {}
        for name, (series, days, aggregate) in METRICS.items():
            inside = [value for at, value in self.series[series] if as_of - days * DAY <= at <= as_of]
            values[name] = Decimal(len(inside)) if aggregate == "count" else sum(inside, Decimal(0))
        return values


def place(partition):
    """What tells a partition from others: its number, or its topic and number."""
    if isinstance(partition, tuple):
        return {"topic": partition[0], "partition": partition[1]}
    return {"partition": partition}


class Model:
    def __init__(self, now, late_tolerance=None, late_policy="dead_letter", accept_unknown=False, event_types=None):
        self.now = now
        self.late_tolerance = late_tolerance
        self.late_policy = late_policy
        self.accept_unknown = accept_unknown
        self.event_types = event_types
        self.profiles = {}
        self.seen = set()
        self.dead_letters = []
        self.partitions = {}

    def take(self, partition, value):
        """Takes the next message of a partition."""
        self.settle(*self.read(partition, value))

    def check_key(self, partition, key, value):
        """Counts an event whose key is not its customer, after all are taken."""
        counts = self.partitions[partition]
        counts.setdefault("other_key", 0)
        before = dict(counts)
        event = self.read(partition, value)[2]
        counts.update(before)
        if event is not None:
            customer = str(event[0]["customerId"])
            counts["other_key"] += key not in (customer, f'"{customer}"')

    def take_sorted(self, messages):
        """Takes messages, each customer's events by timestamp and those of one timestamp as they come."""
        events = []
        for partition, value in messages:
            message = self.read(partition, value)
            if message[2] is None:
                self.settle(*message)
            else:
                events.append(message)
        for message in sorted(events, key=lambda message: message[2][1]):
            self.settle(*message)

    def read(self, partition, value):
        """A message as partition, offset, event with its timestamp or None, kind and errors, value."""
        counts = self.partitions.setdefault(partition, {"next_offset": 0, "applied": 0, "duplicates": 0, "dead": 0,
                                                        "late": 0, "late_applied": 0, "late_dropped": 0, "ignored": 0,
                                                        "tombstones": 0})
        offset = counts["next_offset"]
        counts["next_offset"] += 1
        if value is None:
            return partition, offset, None, "tombstones", None, value
        if value[:1] == b"\0":
            return partition, offset, None, "malformed", ["Schema registry framing is not supported by this format"], value
        try:
            event = parse_value(value)
        except Malformed:
            return partition, offset, None, "malformed", ["Malformed JSON:"], value
        event_type = event.get("eventType")
        if self.event_types is not None and isinstance(event_type, str) and not is_missing(event_type) and event_type not in self.event_types:
            return partition, offset, None, "ignored", None, value
        errors, at = validate(event, self.now, self.accept_unknown)
        if errors:
            return partition, offset, None, "invalid", errors, value
        return partition, offset, (event, at), None, None, value

    def settle(self, partition, offset, event, kind, errors, value):
        """Applies an event, and counts what became of a message."""
        if event is not None:
            late = self.is_late(*event)
            kind, errors = self.outcome(*event, late)
            self.partitions[partition]["late_applied"] += late and kind == "applied"
        self.partitions[partition]["late" if kind == "late" else "dead" if errors else kind] += 1
        if errors:
            self.dead_letters.append({**place(partition), "kafka_offset": offset, "kind": kind,
                                      "errors": errors, "value": value.hex()})

    def is_late(self, event, at):
        profile = self.profiles.get(str(event["customerId"]))
        return profile is not None and self.late_tolerance is not None and at < profile.row["watermark"] - self.late_tolerance

    def outcome(self, event, at, late):
        """What becomes of an event: applied, duplicates, late_dropped, or a dead letter's kind and errors."""
        customer = str(event["customerId"])
        identity = (customer, str(event["eventId"]))
        if identity in self.seen:
            return "duplicates", None
        profile = self.profiles.get(customer) or Profile()
        if late and self.late_policy == "drop":
            return "late_dropped", None
        if late and self.late_policy == "dead_letter":
            return "late", [f"Late event: {(profile.row['watermark'] - at) // 1000} ms before the newest of its customer"]
        try:
            profile.apply(str(event["eventType"]), event.get("payload") or {}, at, customer)
        except HandlerError:
            return "handler", ["Processing error:"]
        self.profiles[customer] = profile
        self.seen.add(identity)
        return "applied", None

    def history(self, moments, columns):
        """Whom there was at each moment, with the columns of then."""
        rows = []
        for moment in moments:
            for customer, profile in self.profiles.items():
                state, known = profile.at(moment)
                if known:
                    rows.append({"customer_id": customer, "moment": moment, **{column: state[column] for column in columns}})
        return {"moments": moments, "columns": columns, "rows": rows}

    def expected(self, as_of):
        profiles = []
        for customer, profile in self.profiles.items():
            row = {"customer_id": customer, **profile.row}
            for i, moment in enumerate(as_of):
                row.update({f"{name}@{i}": value for name, value in profile.metrics(moment).items()})
            profiles.append(row)
        return {"profiles": profiles, "dead_letters": self.dead_letters, "as_of": as_of,
                "event_ids": sorted(self.seen),
                "partitions": [{**place(p), **counts} for p, counts in self.partitions.items()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--as-of", action="append", required=True, help="time of the windows, ISO 8601; repeatable")
    parser.add_argument("--history-at", default="", help="moments of the history, ISO 8601, separated by commas")
    parser.add_argument("--history-without", default="", help="a tracked column that the history does not have")
    parser.add_argument("--sort", action="store_true", help="each customer's events apply by timestamp")
    parser.add_argument("--late-tolerance", type=float, help="seconds; an older event is late")
    parser.add_argument("--late-policy", choices=("dead_letter", "apply", "drop"), default="dead_letter")
    parser.add_argument("--keys", action="store_true", help="count events whose key is not their customer")
    parser.add_argument("--accept-unknown", action="store_true", help="any schemaVersion is applied as it is")
    parser.add_argument("--event-type", action="append", help="only these types are taken; repeatable")
    parser.add_argument("files", nargs="+", help="files of events, in the order in which they were produced")
    args = parser.parse_args()

    tolerance = None if args.late_tolerance is None else int(args.late_tolerance * 1_000_000)
    model = Model(int(datetime.datetime.now(UTC).timestamp() * 1_000_000), tolerance, args.late_policy, args.accept_unknown, args.event_type)
    messages = []
    keys = []
    for name in args.files:
        topic, _, path = name.rpartition("=")
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                partition, key, text = line.rstrip("\n").split("\t")
                number = (topic, int(partition)) if topic else int(partition)
                messages.append((number, None if text == "-" else base64.b64decode(text)))
                keys.append(key)
    if args.sort:
        model.take_sorted(messages)
    else:
        for message in messages:
            model.take(*message)
    if args.keys:
        for key, message in zip(keys, messages):
            model.check_key(message[0], key, message[1])
    expected = model.expected([parse_timestamp(text) for text in args.as_of])
    moments = [parse_timestamp(text) for text in args.history_at.split(",") if text]
    expected["history"] = model.history(moments, [column for column in TRACKED if column != args.history_without])
    json.dump(expected, sys.stdout, default=str)


if __name__ == "__main__":
    main()
