#!/usr/bin/env python3
"""Puts customer events into other formats, from and to the line format of produce.

cloudevents: structured with and without its content type, and binary where an
event is valid, in turn. custom: members in a nested object, a header and the key
where an event is valid, else as it was. What is not a JSON object stays as it is.
"""
import base64
import datetime
import json
import sys

from generate import Raw, encode
from model import UTC, Malformed, parse_value, validate

ATTRIBUTES = {"eventId": "id", "customerId": "subject", "eventType": "type", "timestamp": "time", "payload": "data",
              "schemaVersion": "schemaversion"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}


def is_text(value):
    return isinstance(value, str)   # Raw, the text of a number, too


def structured(number, event, valid):
    """A document of all; the customer is the key of every other valid event."""
    members = tuple((ATTRIBUTES.get(name, name), value) for name, value in event)
    key = ""
    if valid and number % 2 == 0:
        key = str(dict(event)["customerId"])
        members = tuple(member for member in members if member[0] != "subject")
    headers = STRUCTURED if number % 3 == 0 else {}
    return key, encode((("specversion", "1.0"),) + members), headers


def binary(event):
    """Attributes as headers; no data is a null value."""
    members = dict(event)
    headers = {"ce_" + ATTRIBUTES.get(name, name): str(value) for name, value in members.items()
               if name != "payload" and is_text(value)}
    headers.update({"ce_specversion": "1.0", "content-type": "application/json"})
    data = members.get("payload")
    return str(members["customerId"]) + " is not the key", None if data is None else encode(data), headers


def custom(event):
    members = dict(event)
    body = {"meta": {"id": members["eventId"], "at": members["timestamp"], "v": members.get("schemaVersion")},
            "body": members.get("payload")}
    return str(members["customerId"]), encode(body), {"type": str(members["eventType"])}


def convert(number, form, value, now):
    """Key, value and headers of an event in another format."""
    try:
        valid = not validate(parse_value(value), now)[0]
        event = json.loads(value, object_pairs_hook=tuple, parse_int=Raw, parse_float=Raw)
    except Malformed:
        return "", value, {}
    # a time that is a header is never a number
    if form == "cloudevents" and valid and number % 3 == 2 and not isinstance(dict(event)["timestamp"], Raw):
        return binary(event)
    if form == "cloudevents":
        return structured(number, event, valid)
    return custom(event) if valid else ("", value, {})


def text64(value):
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def main():
    now = int(datetime.datetime.now(UTC).timestamp() * 1_000_000)
    for number, line in enumerate(sys.stdin):
        partition, key, text = line.rstrip("\n").split("\t")
        columns = [partition, key, text]
        if text != "-":
            key, value, headers = convert(number, sys.argv[1], base64.b64decode(text), now)
            columns = [partition, key, "-" if value is None else text64(value)]
            if headers:
                columns.append(",".join(f"{name}={text64(value)}" for name, value in headers.items()))
        print("\t".join(columns))


if __name__ == "__main__":
    main()
