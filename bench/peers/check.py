#!/usr/bin/env python3
"""Checks the profiles that a way has made against the independent model of test/tools.

check.py model EVENTS.tsv >EXPECTED.json            what must come of lines key<TAB>event
check.py result EXPECTED.json RESULT.sql -- PSQL…   compares what the query says; exit status 1 when anything differs
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "test/tools"))
sys.dont_write_bytecode = True
import compare  # noqa: E402
import model  # noqa: E402

# no event of the benchmark is older than 30 days then, so the window is the sum of all
AS_OF = "2026-01-25T00:00:00Z"
# what only ours keeps
OWN = {"segment", "watermark", "total_balance@0", "transaction_count_30d@0", "login_count_7d@0", "support_ticket_count_90d@0"}


def write_model(events):
    as_of = model.parse_timestamp(AS_OF)
    profiles = model.Model(as_of)
    with open(events, "rb") as lines:
        for line in lines:
            profiles.take(0, line.rstrip(b"\n").split(b"\t", 1)[1])
    rows = profiles.expected([as_of])["profiles"]
    for row in rows:  # what documents show of a channel that is not known is what the others keep
        row["preferred_channel"] = row["preferred_channel"] or "app"
    json.dump([{name: value for name, value in row.items() if name not in OWN} for row in rows], sys.stdout, default=str)


def check_result(expected, sql, psql):
    rows = json.loads(pathlib.Path(expected).read_text(encoding="utf-8"))
    compare.SHOWN = 3
    result = compare.Comparison()
    result.rows("profile", rows, compare.query(psql, pathlib.Path(sql).read_text(encoding="utf-8")), ["customer_id"])
    print(f"{result.passed} fields as in the model, {result.failed} not")
    return 1 if result.failed or not rows else 0


if sys.argv[1] == "model":
    write_model(sys.argv[2])
else:
    sys.exit(check_result(sys.argv[2], sys.argv[3], sys.argv[5:]))
