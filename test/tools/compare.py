#!/usr/bin/env python3
"""Compares what model expects with what the database holds.

Prints each difference and a line "N passed, M failed" over all compared
fields; exit status 1 when anything differs.
"""
import argparse
import json
import subprocess
import sys
from decimal import Decimal

PREFIXES = ("Processing error:", "Malformed JSON:")
SHOWN = 40
LONGEST = 400

PROFILES = """
SELECT customer_id, version, first_name, last_name, email, phone, total_balance::text, account_count,
	preferred_channel, segment, event_counts,
	(extract(epoch FROM updated_at) * 1000000)::bigint AS updated_at,
	(extract(epoch FROM watermark) * 1000000)::bigint AS watermark,
	(extract(epoch FROM last_transaction_at) * 1000000)::bigint AS last_transaction_at,
	(extract(epoch FROM last_login_at) * 1000000)::bigint AS last_login_at
	{metrics}
FROM profile_stream.materialized_profiles"""
METRICS = ("transaction_count_30d", "total_transaction_value_30d", "login_count_7d", "support_ticket_count_90d")
METRIC = """, profile_stream.metric_value(customer_id, '{name}',
		timestamptz 'epoch' + {at} * interval '1 microsecond')::text AS "{name}@{i}" """
DEAD_LETTERS = """
SELECT topic, partition, kafka_offset, kind, errors, encode(value, 'hex') AS value
FROM profile_stream.dead_letters WHERE stream = '{stream}'"""
PARTITIONS = """
SELECT topic, partition, next_offset, applied, duplicates, dead, late, late_applied, late_dropped, ignored, tombstones, other_key
FROM profile_stream.stat_partitions WHERE stream = '{stream}'"""
TIME = "(extract(epoch FROM (profile ->> '{member}')::timestamptz) * 1000000)::bigint"
MEMBERS = {"first_name": "firstName", "last_name": "lastName", "email": "email", "phone": "phone", "total_balance": "totalBalance",
           "account_count": "accountCount", "last_transaction_at": "lastTransactionDate", "last_login_at": "lastLoginDate",
           "preferred_channel": "preferredChannel"}
HISTORY = """
SELECT customer_id, {moment}::bigint AS moment, {columns}, profile -> 'currentMembers' ?| '{{{members}}}' AS is_current
FROM profile_stream.profiles_at(timestamptz 'epoch' + {moment} * interval '1 microsecond')"""
BOOKS = "SELECT topic, partition, held, difference, wrong_chunks FROM profile_stream.reconcile('{stream}')"
COUNT_EVENT_IDS = "SELECT count(*) AS count FROM profile_stream_internal.event_ids"
# ids are kept as hashes, whose key only the server has
EVENT_IDS = """SET client_min_messages = warning;
CREATE TEMP TABLE expected (customer_id text COLLATE "C", event_id text);
COPY expected FROM STDIN;
{rows}\\.
SELECT COALESCE(e.customer_id, f.customer_id), e.event_id FROM (SELECT x.customer_id, x.event_id,
	profile_stream_internal.event_id_hash(x.event_id, CASE s.event_id_scope WHEN 'stream' THEN s.stream_id ELSE 0 END) AS hash
	FROM expected x, profile_stream.streams s WHERE s.name = '{stream}') e
FULL JOIN profile_stream_internal.event_ids f ON f.customer_id = e.customer_id AND f.hash = e.hash
WHERE e.hash IS NULL OR f.hash IS NULL;
"""


class Comparison:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, equal, text):
        if equal:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= SHOWN:
            print(text if len(text) <= LONGEST else text[:LONGEST] + "...")

    def rows(self, what, expected, actual, key):
        """Compares two lists of rows by key, field by field."""
        wanted = {tuple(row[k] for k in key): row for row in expected}
        found = {}
        for row in actual:
            identity = tuple(row[k] for k in key)
            self.check(identity not in found, f"{what} {identity}: more than once")
            found[identity] = row
        for identity in wanted.keys() - found.keys():
            self.check(False, f"{what} {identity}: missing, expected {wanted[identity]}")
        for identity in found.keys() - wanted.keys():
            self.check(False, f"{what} {identity}: not expected, found {found[identity]}")
        for identity in sorted(wanted.keys() & found.keys()):
            for field, value in wanted[identity].items():
                other = found[identity].get(field)
                self.check(same(field, value, other),
                           f"{what} {identity} {field}: expected {value!r}, found {other!r}")


def is_decimal(field):
    return field == "total_balance" or "@" in field


def same(field, expected, actual):
    if is_decimal(field):
        return actual is not None and Decimal(expected) == Decimal(actual)
    if field == "errors":
        return len(expected) == len(actual or []) and all(
            have.startswith(want) if want in PREFIXES else have == want for want, have in zip(expected, actual))
    return expected == actual


def query(psql, sql):
    """The rows of a query as dictionaries."""
    command = f"COPY (SELECT row_to_json(r) FROM ({sql}) r) TO STDOUT (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')"
    output = subprocess.run(psql + ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", command], check=True,
                            stdout=subprocess.PIPE).stdout.decode()
    return [json.loads(line.strip("\x01")) for line in output.split("\n") if line]


def history_query(moment, columns):
    """Reads the columns of all customers as of a moment, from documents."""
    shown = []
    for column in columns:
        value = TIME.format(member=MEMBERS[column]) if column.endswith("_at") else f"profile ->> '{MEMBERS[column]}'"
        shown.append(f"({value})::bigint AS {column}" if column == "account_count" else f"{value} AS {column}")
    return HISTORY.format(moment=moment, columns=", ".join(shown), members=",".join(MEMBERS[column] for column in columns))


def copy_text(value):
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def wrong_event_ids(psql, stream, expected):
    """The event ids that only the model has, and the customers of those that only the server has."""
    rows = "".join(f"{copy_text(customer)}\t{copy_text(event_id)}\n" for customer, event_id in expected)
    return subprocess.run(psql + ["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"], check=True, stdout=subprocess.PIPE,
                          input=EVENT_IDS.format(rows=rows, stream=stream).encode()).stdout.decode().splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stream", required=True)
    parser.add_argument("--expected", required=True, help="output of model")
    parser.add_argument("--effects", action="store_true", help="only what events did, not how often they were read")
    parser.add_argument("--other-values", action="store_true", help="dead letters and event ids have other bytes than the model has")
    parser.add_argument("--psql", default="psql")
    parser.add_argument("connection", nargs="*", help="arguments for psql, after --")
    args = parser.parse_args()
    psql = [args.psql] + args.connection
    with open(args.expected, encoding="utf-8") as file:
        expected = json.load(file)

    if args.other_values:
        for row in expected["dead_letters"]:
            del row["value"]
    metrics = "".join(METRIC.format(name=name, i=i, at=at)
                      for i, at in enumerate(expected["as_of"]) for name in METRICS)
    # a model of several topics names them
    place = [k for k in ("topic", "partition") if k in expected["partitions"][0]]
    result = Comparison()
    result.rows("profile", expected["profiles"], query(psql, PROFILES.format(metrics=metrics)), ["customer_id"])
    result.rows("dead letter", expected["dead_letters"], query(psql, DEAD_LETTERS.format(stream=args.stream)),
                place + ["kafka_offset"])
    history = expected.get("history", {"moments": []})
    for moment in history["moments"]:
        wanted = [{**row, "is_current": False} for row in history["rows"] if row["moment"] == moment]
        result.rows("past profile", wanted, query(psql, history_query(moment, history["columns"])), ["customer_id", "moment"])
    if not args.effects:
        result.rows("partition", expected["partitions"], query(psql, PARTITIONS.format(stream=args.stream)),
                    place)
    # what was read again is counted again: then only the chunks can be compared
    books = {"held": 0, "wrong_chunks": 0} if args.effects else {"held": 0, "difference": 0, "wrong_chunks": 0}
    balanced = [{**{k: row[k] for k in place}, **books} for row in expected["partitions"]]
    result.rows("books of partition", balanced, query(psql, BOOKS.format(stream=args.stream)), place)
    # the ids of another format are made of more members, and so only counted
    if args.other_values:
        wrong = [(row["count"], len(expected["event_ids"])) for row in query(psql, COUNT_EVENT_IDS)]
        wrong = [(found, number) for found, number in wrong if found != number]
    else:
        wrong = wrong_event_ids(psql, args.stream, expected["event_ids"])
    result.check(not wrong, f"event ids: of {len(expected['event_ids'])}, {len(wrong)} differ: {wrong[:10]}")

    print(f"{result.passed} passed, {result.failed} failed")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
