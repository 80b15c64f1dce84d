#!/usr/bin/env python3
"""Attribute maps and metrics of users: definitions, and an independent model of them.

    rules_model.py define first|second    SQL that creates, or changes, the definitions
    rules_model.py check --definitions first|second --as-of TIME --file EVENTS -- …
                                          compares a database with the model of these definitions

The second definitions are the first ones with some dropped and others added: what a rebuild makes of them
must be what they would have made from the start. What the model says shares no code with the extension.
"""
import argparse
import base64
import collections
import datetime
import decimal
import json
import sys
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import compare
import model

decimal.getcontext().prec = 400
HOUR = 3_600_000_000
FEW = 1024  # samples of which the different values are counted exactly
Map = collections.namedtuple("Map", "event_type attribute path operation type max_items filter_path filter_value filter_operator sources",
                             defaults=(100, None, None, "=", None))
# event_type is a text or, for several, a tuple of texts
Metric = collections.namedtuple("Metric", "name event_type hours path aggregate filter_path filter_value fraction filter_operator sources period time_zone",
                                defaults=(None, "count", None, None, None, "=", None, None, None))

FIRST_MAPS = [
    Map("order.placed", "tier", "$.customer.tier", "set", "text"),
    Map("order.placed", "first_tier", "$.customer.tier", "set_if_null", "text"),
    Map("order.placed", "points", "$.points", "add", "numeric"),
    Map("order.returned", "points", "$.points", "subtract", "numeric"),
    Map("order.placed", "best", "$.total", "max", "numeric"),
    Map("order.placed", "worst", "$.total", "min", "numeric"),
    Map("order.placed", "orders", None, "count", "numeric"),
    Map("order.returned", "reasons", "$.\"the reason\"", "count", "numeric"),
    Map("order.placed", "shops", "$.shop.city", "append_unique", "text", 5),
    Map("order.placed", "shop", "$.shop.city", "latest", "text"),
    Map("order.returned", "seen", "$.seen", "max", "timestamptz"),
    Map("order.returned", "consent", "$.consent", "latest", "boolean"),
    Map("order.returned", "email", "$.email", "set", "text"),
    Map("session.started", "total_balance", "$.credit", "add", "numeric"),
    Map("session.started", "devices", "$.device", "append_unique", "numeric", 3),
    Map("order.placed", "crm_tier", "$.customer.tier", "set", "text", sources=("crm",)),
    Map("order.placed", "big_orders", None, "count", "numeric", filter_path="$.total", filter_value="100", filter_operator=">="),
]
SECOND_MAPS = [m for m in FIRST_MAPS if m.attribute not in ("first_tier", "best", "total_balance")] + [
    Map("order.returned", "last_reason", "$.\"the reason\"", "set", "text"),
    Map("order.placed", "lowest_tier", "$.customer.tier", "min", "text"),
]
FIRST_METRICS = [
    Metric("orders_1h", "order.placed", 1),
    Metric("orders_400d", "order.placed", 400 * 24),
    Metric("spent_1d", "order.placed", 24, "$.total", "sum"),
    Metric("spent_60d", "order.placed", 60 * 24, "$.total", "sum"),
    Metric("spent_avg_7d", "order.placed", 7 * 24, "$.total", "avg"),
    Metric("spent_avg_60d", "order.placed", 60 * 24, "$.total", "avg"),
    Metric("spent_min_7d", "order.placed", 7 * 24, "$.total", "min"),
    Metric("spent_max_60d", "order.placed", 60 * 24, "$.total", "max"),
    Metric("spent_last_60d", "order.placed", 60 * 24, "$.total", "last"),
    Metric("spent_first_7d", "order.placed", 7 * 24, "$.total", "first"),
    Metric("spent_median_60d", "order.placed", 60 * 24, "$.total", "median"),
    Metric("spent_p95_60d", "order.placed", 60 * 24, "$.total", "percentile", fraction=Decimal("0.95")),
    Metric("spent_stddev_60d", "order.placed", 60 * 24, "$.total", "stddev"),
    Metric("cities_60d", "order.placed", 60 * 24, "$.shop.city", "distinct"),
    Metric("baskets_400d", "order.placed", 400 * 24, "$.basket", "distinct"),
    Metric("gold_spent_30d", "order.placed", 30 * 24, "$.total", "sum", "$.customer.tier", "gold"),
    Metric("agreed_30d", "order.returned", 30 * 24, None, "count", "$.consent", "true"),
    Metric("amounts_max_30d", "transaction.completed", 30 * 24, "$.amount", "max"),
    Metric("logins_2d", "session.started", 48),
    Metric("moved_60d", ("order.placed", "order.returned"), 60 * 24, "$.points", "sum"),
    Metric("moved_median_60d", ("order.placed", "order.returned"), 60 * 24, "$.points", "median", sources=("crm", "app")),
    Metric("metals_60d", "order.placed", 60 * 24, None, "count", "$.customer.tier", "{gold,silver,7}", filter_operator="in"),
    Metric("others_60d", "order.placed", 60 * 24, None, "count", "$.customer.tier", "tin", filter_operator="<>"),
    Metric("cheap_60d", ("order.placed", "page.viewed"), 60 * 24, "$.total", "max", "$.total", "150", filter_operator="<", sources=("web", "app")),
    Metric("spent_today", "order.placed", None, "$.total", "sum", period="day", time_zone="Europe/Berlin"),
    Metric("spent_week_median", "order.placed", None, "$.total", "median", period="week", time_zone="America/New_York"),
    Metric("orders_month", "order.placed", None, period="month", time_zone="Asia/Kolkata"),
    *(Metric(f"ever_{a}", "order.placed", None, "$.total", a, period="lifetime") for a in ("count", "sum", "avg", "min", "max", "first", "last")),
    Metric("ever_moved", ("order.placed", "order.returned"), None, "$.points", "sum", "$.points", "0", None, ">", period="lifetime"),
    Metric("before_p_60d", "order.placed", 60 * 24, None, "count", "$.customer.tier", "p", filter_operator="<="),
]
SECOND_METRICS = [m for m in FIRST_METRICS if m.name not in ("spent_1d", "cities_60d", "agreed_30d", "logins_2d")] + [
    Metric("spent_last_400d", "order.placed", 400 * 24, "$.total", "last"),
    Metric("silver_30d", "order.placed", 30 * 24, None, "count", "$.customer.tier", "silver"),
    Metric("points_avg_90d", "order.returned", 90 * 24, "$.points", "avg"),
    Metric("devices_400d", "session.started", 400 * 24, "$.device", "distinct"),
    Metric("points_ever", "order.returned", None, "$.points", "avg", period="lifetime"),
    Metric("views_ever", "page.viewed", None, period="lifetime"),
    Metric("returned_week", "order.returned", None, "$.points", "last", period="week"),
    Metric("dear_30d", "order.placed", 30 * 24, "$.total", "avg", "$.total", "150", filter_operator=">"),
]
DEFINITIONS = {"first": (FIRST_MAPS, FIRST_METRICS), "second": (SECOND_MAPS, SECOND_METRICS)}
# the column that a map has instead of an attribute
COLUMNS = ("email", "total_balance")


def event_types(metric):
    return (metric.event_type,) if isinstance(metric.event_type, str) else metric.event_type


def literal(value):
    if isinstance(value, tuple):
        return "ARRAY[" + ", ".join(literal(x) for x in value) + "]"
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def definitions_sql(name):
    """Creates the first definitions, or makes the second ones of the first."""
    old_maps, old_metrics = ([], []) if name == "first" else DEFINITIONS["first"]
    maps, metrics = DEFINITIONS[name]
    for old in old_maps:
        if old not in maps:
            yield f"SELECT profile_stream.unmap_attribute({literal(old.event_type)}, {literal(old.attribute)});"
    for old in old_metrics:
        if old not in metrics:
            yield f"SELECT profile_stream.drop_metric({literal(old.name)});"
    for new in maps:
        if new not in old_maps:
            arguments = ", ".join(literal(x) for x in new[:5])
            rest = ", ".join(literal(x) for x in new[6:])
            yield f"SELECT profile_stream.map_attribute({arguments}, {new.max_items}, {rest});"
    for new in metrics:
        if new not in old_metrics:
            types = f"event_type => {literal(new.event_type)}" if isinstance(new.event_type, str) else f"event_types => {literal(new.event_type)}"
            window = "NULL" if new.hours is None else f"'{new.hours} hours'"
            names = ("value_path", "aggregate", "filter_path", "filter_value")
            arguments = ", ".join(f"{n} => {literal(x)}" for n, x in zip(names, new[3:7]))
            rest = "".join(f", {n} => {literal(getattr(new, n))}" for n in ("fraction", "filter_operator", "sources", "period", "time_zone") if getattr(new, n) is not None)
            yield f"SELECT profile_stream.create_metric('{new.name}', {types}, \"window\" => {window}, {arguments}{rest});"


def find(payload, path):
    value = payload
    for key in path[2:].split("."):
        value = value.get(key.strip('"')) if isinstance(value, dict) else None
    return value


def is_absent(value):
    return value is None or (value == "" and not isinstance(value, model.Number))


def read(payload, path, kind):
    """The value at a path, None when there is none; raises HandlerError when it is not of its kind."""
    value = find(payload, path)
    if is_absent(value):
        return None
    if kind == "numeric":
        return model.read_number({"n": value}, "n")
    if kind == "text":
        return model.read_text({"t": value}, "t")
    if kind == "boolean":
        if value in (True, "true") and not isinstance(value, model.Number):
            return True
        if value in (False, "false") and not isinstance(value, model.Number):
            return False
        raise model.HandlerError(path)
    at = model.parse_timestamp(value) if isinstance(value, str) else None
    if at is None:
        raise model.HandlerError(path)
    return at


def as_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def period_of(metric, at):
    """The first day of the day, week or month of the metric's zone in which a moment lies."""
    day = datetime.datetime.fromtimestamp(at // 1_000_000, zoneinfo.ZoneInfo(metric.time_zone or "UTC")).date()
    if metric.period == "week":
        return day - datetime.timedelta(days=day.weekday())
    return day.replace(day=1) if metric.period == "month" else day


def is_number(text):
    try:
        return model.read_number({"n": text}, "n") is not None
    except model.HandlerError:
        return False


def compares(rule, value):
    """Whether a value of the payload compares with that of the filter as its operator says."""
    text, operator, other = as_text(value), rule.filter_operator, rule.filter_value
    if text is None or operator == "in":
        return text is not None and text in other.strip("{}").split(",")
    if operator in ("=", "<>"):
        return (text == other) == (operator == "=")
    if is_number(other):
        if isinstance(value, bool) or not is_number(value):
            return False
        left, right = Decimal(text), Decimal(other)
    elif isinstance(value, bool) or isinstance(value, model.Number):
        return False
    else:
        left, right = text.encode(), other.encode()
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def passes(rule, source, payload):
    if rule.sources and source not in rule.sources:
        return False
    return rule.filter_path is None or compares(rule, find(payload, rule.filter_path))


class Profile:
    def __init__(self, definitions):
        self.maps, self.metrics = definitions
        self.base = model.Profile()
        self.attributes = {}
        self.times = {}
        self.samples = {metric.name: [] for metric in self.metrics}

    def apply(self, event_type, source, payload, at):
        """Applies an event; raises HandlerError before anything has changed."""
        changes = []
        for rule in (m for m in self.maps if m.event_type == event_type and passes(m, source, payload)):
            if rule.operation == "count":
                changes.append((rule, rule.path is None or not is_absent(find(payload, rule.path)) or None))
            else:
                changes.append((rule, read(payload, rule.path, rule.type)))
        samples = []
        for metric in (m for m in self.metrics if event_type in event_types(m) and passes(m, source, payload)):
            value = Decimal(1) if metric.path is None else read(payload, metric.path, "text" if metric.aggregate == "distinct" else "numeric")
            if value is not None:
                samples.append((metric.name, value))
        self.base.apply(event_type, payload, at)
        for rule, value in changes:
            if value is not None:
                self.change(rule, value, at)
        for name, value in samples:
            self.samples[name].append((at, value))

    def change(self, rule, value, at):
        place = self.base.row if rule.attribute in COLUMNS else self.attributes
        old = place.get(rule.attribute)
        if rule.operation == "set_if_null" and old is not None:
            return
        if rule.operation in ("add", "subtract", "count"):
            value = (old or Decimal(0)) + {"add": 1, "subtract": -1, "count": 1}[rule.operation] * (1 if rule.operation == "count" else value)
        elif rule.operation in ("max", "min") and old is not None:
            order = (lambda x: x.encode()) if rule.type == "text" else (lambda x: x)
            value = max(old, value, key=order) if rule.operation == "max" else min(old, value, key=order)
        elif rule.operation == "append_unique":
            value = old if old and value in old else ((old or []) + [value])[-rule.max_items:]
        elif rule.operation == "latest":
            if at < self.times.get(rule.attribute, at):
                return
            self.times[rule.attribute] = at
        place[rule.attribute] = value

    def inside(self, metric, as_of):
        if metric.period == "lifetime":
            return [(at, value) for at, value in self.samples[metric.name] if at <= as_of]
        if metric.period:
            begin = period_of(metric, as_of)
            return [(at, value) for at, value in self.samples[metric.name] if at <= as_of and period_of(metric, at) == begin]
        return [(at, value) for at, value in self.samples[metric.name] if as_of - metric.hours * HOUR <= at <= as_of]

    def value(self, metric, as_of):
        inside = self.inside(metric, as_of)
        values = [value for _, value in inside]
        if metric.aggregate == "count":
            return Decimal(len(values))
        if metric.aggregate == "distinct":
            return Decimal(len(set(values)))
        if metric.aggregate == "sum":
            return sum(values, Decimal(0))
        if not values:
            return None
        if metric.aggregate == "avg":
            return Fraction(sum(values)) / len(values)
        if metric.aggregate == "last":
            return max(enumerate(inside), key=lambda item: (item[1][0], item[0]))[1][1]
        if metric.aggregate == "first":
            return min(enumerate(inside), key=lambda item: (item[1][0], item[0]))[1][1]
        if metric.aggregate in ("percentile", "median"):
            place = Fraction(metric.fraction or Decimal("0.5")) * (len(values) - 1)
            before, ordered = int(place), [Fraction(value) for value in sorted(values)]
            return ordered[before] + (place - before) * (ordered[min(before + 1, len(values) - 1)] - ordered[before])
        if metric.aggregate == "stddev":
            mean = Fraction(sum(values)) / len(values)
            if len(values) < 2:
                return None
            variance = sum((Fraction(value) - mean) ** 2 for value in values) / (len(values) - 1)
            return (Decimal(variance.numerator) / variance.denominator).sqrt()
        return max(values) if metric.aggregate == "max" else min(values)


def same_value(metric, samples, expected, found):
    if expected is None or found is None:
        return expected is None and found is None
    if metric.aggregate == "distinct" and samples > FEW:
        # four standard errors of 0.8 %, and of few values two that collide
        return abs(found - expected) <= 2 + expected * Decimal("0.033")
    if metric.aggregate in ("percentile", "median"):
        return Fraction(found) == expected
    if metric.aggregate == "stddev":
        return abs(found - expected) <= Decimal("1e-12") * max(1, abs(expected))
    if metric.aggregate == "avg":
        scale = Fraction(10) ** -found.as_tuple().exponent
        sign = -1 if expected < 0 else 1
        rounded = sign * ((abs(expected) * scale * 2 + 1) // 2)
        return Fraction(found) * scale == rounded
    return expected == found


def same_attribute(rules, expected, found):
    if expected is None or found is None:
        return expected is None and found is None
    if rules.type == "timestamptz":
        return model.parse_timestamp(found) == expected
    return expected == found


def count_source(counts, source, at):
    """Counts an applied event of a partition, which tells 32 sources apart."""
    name = source if isinstance(source, str) and not isinstance(source, model.Number) else ""
    if len(name.encode()) > 100 or (name not in counts and len(counts) >= 32):
        name = "(other)"
    number, newest = counts.get(name, (0, at))
    counts[name] = (number + 1, max(newest, at))


def expected_sources(partitions):
    total = {}
    for counts in partitions.values():
        for name, (number, newest) in counts.items():
            before = total.get(name, (0, newest))
            total[name] = (before[0] + number, max(before[1], newest))
    return total


def run_model(definitions, files):
    profiles = {}
    seen = set()
    dead = set()
    sources = {}
    offsets = collections.Counter()
    for name in files:
        with open(name, encoding="utf-8") as lines:
            for line in lines:
                partition, _, text = line.rstrip("\n").split("\t")
                event = model.parse_value(base64.b64decode(text))
                customer = event["customerId"]
                place = (int(partition), offsets[partition])
                offsets[partition] += 1
                if (customer, event["eventId"]) in seen:
                    continue
                profile = profiles.get(customer) or Profile(definitions)
                try:
                    profile.apply(event["eventType"], event.get("source"), event["payload"], model.parse_timestamp(event["timestamp"]))
                except model.HandlerError:
                    dead.add(place)
                    continue
                profiles[customer] = profile
                seen.add((customer, event["eventId"]))
                count_source(sources.setdefault(partition, {}), event.get("source"), model.parse_timestamp(event["timestamp"]))
    return profiles, dead, sources


ROWS = """
SELECT p.customer_id, p.version, p.email, p.total_balance::text, p.attributes::text AS attributes,
	(SELECT json_agg((profile_stream.get_profile(p.customer_id, timestamptz 'epoch' + t.at * interval '1 microsecond') -> 'metrics')::text ORDER BY t.n)
	 FROM unnest('{{{moments}}}'::bigint[]) WITH ORDINALITY t(at, n)) AS metrics
FROM profile_stream.materialized_profiles p"""


def decimals(text):
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def check_profile(result, customer, profile, row, moments):
    base = profile.base.row
    result.check(row["version"] == base["version"], f"{customer} version: expected {base['version']}, found {row['version']}")
    result.check(row["email"] == base["email"], f"{customer} email: expected {base['email']}, found {row['email']}")
    result.check(Decimal(row["total_balance"]) == base["total_balance"], f"{customer} balance: expected {base['total_balance']}, found {row['total_balance']}")
    attributes = decimals(row["attributes"])
    rules = {rule.attribute: rule for rule in profile.maps if rule.attribute not in COLUMNS}
    result.check(attributes.keys() == profile.attributes.keys(), f"{customer} attributes {sorted(attributes)}, expected {sorted(profile.attributes)}")
    for name, rule in rules.items():
        expected, found = profile.attributes.get(name), attributes.get(name)
        result.check(same_attribute(rule, expected, found), f"{customer} {name}: expected {expected!r}, found {found!r}")
    for moment, text in zip(moments, row["metrics"]):
        values = decimals(text)
        values.pop("late_1d", None)  # is beside the definitions
        result.check(values.keys() == profile.samples.keys(), f"{customer} metrics {sorted(values)}")
        for metric in profile.metrics:
            expected, found = profile.value(metric, moment), values.get(metric.name)
            if metric.period == "lifetime" and found is None and any(at > moment for at, _ in profile.samples[metric.name]):
                result.unknown += 1  # newer samples are in the totals
                continue
            result.check(same_value(metric, len(profile.inside(metric, moment)), expected, found), f"{customer} {metric.name} at {moment}: expected {expected}, found {found}")


def check(args):
    psql = ["psql"] + args.connection
    moments = [model.parse_timestamp(text) for text in args.as_of]
    profiles, dead, sources = run_model(DEFINITIONS[args.definitions], args.file)
    rows = {row["customer_id"]: row for row in compare.query(psql, ROWS.format(moments=",".join(map(str, moments))))}
    letters = {(row["partition"], row["kafka_offset"]) for row in compare.query(
        psql, "SELECT partition, kafka_offset FROM profile_stream.dead_letters WHERE errors[1] LIKE 'Processing error: $.%' OR errors[1] LIKE 'Processing error: channel%'")}
    result = compare.Comparison()
    result.unknown = 0
    result.check(rows.keys() == profiles.keys(), f"customers: expected {len(profiles)}, found {len(rows)}")
    counted = {row["source"] or "": (row["applied"], row["last_us"]) for row in compare.query(
        psql, "SELECT source, applied, (extract(epoch FROM last_event_at) * 1000000)::bigint AS last_us FROM profile_stream.stat_sources")}
    result.check(counted == expected_sources(sources), f"sources: {set(counted.items()) ^ set(expected_sources(sources).items())}")
    result.check(letters == dead, f"dead letters: expected {len(dead)}, found {len(letters)}; {sorted(letters ^ dead)[:5]}")
    for customer in sorted(rows.keys() & profiles.keys()):
        check_profile(result, customer, profiles[customer], rows[customer], moments)
    most = max((len(s) for p in profiles.values() for s in p.samples.values()), default=0)
    print(f"{len(profiles)} profiles, {len(dead)} dead letters, at most {most} samples of a metric and customer, {result.unknown} values of lifetimes unknown")
    print(f"{result.passed} passed, {result.failed} failed")
    return 1 if result.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    define = commands.add_parser("define")
    define.add_argument("definitions", choices=DEFINITIONS)
    checker = commands.add_parser("check")
    checker.add_argument("--definitions", choices=DEFINITIONS, required=True)
    checker.add_argument("--as-of", action="append", required=True)
    checker.add_argument("--file", action="append", required=True, help="events as rules_events.py makes them; repeatable")
    checker.add_argument("connection", nargs="*")
    args = parser.parse_args()
    if args.command == "define":
        print("\n".join(definitions_sql(args.definitions)))
        return 0
    return check(args)


if __name__ == "__main__":
    sys.exit(main())
