#!/usr/bin/env python3
"""Helper of faults.sh: which tests prove which fault, and what they printed.

faults.py tests [rows]           the tests, each once
faults.py report FOLDER [rows]   a line a fault, a summary; exit status 1 when a test failed
"""
import pathlib
import re
import sys

# rows of doc/reliability.md, the fault, its tests
FAULTS = [
    ("1", "SIGKILL of the worker", "009_kills 003_crash"),
    ("2", "SIGKILL at each step of a batch", "003_crash"),
    ("3", "ERROR and FATAL at each step", "003_crash"),
    ("4", "SIGTERM in five states of the broker", "010_stop"),
    ("5", "immediate stop of the server", "003_crash"),
    ("6", "SIGKILL of the postmaster", "008_lifecycle"),
    ("7", "workers killed, added and removed", "040_workers"),
    ("8", "broker restarted and killed", "011_network 003_crash"),
    ("9", "broker frozen for 90 s", "012_freeze"),
    ("10", "network holds, resets, cuts, refuses", "011_network"),
    ("11", "64 kbit/s and broken connections", "034_slow"),
    ("12", "tables and rights gone, disk full", "031_refused 006_poison 014_context"),
    ("13", "deadlock, lock, serialization", "031_refused"),
    ("14", "lock table full", "031_refused"),
    ("15", "poison among good events", "013_poison 006_poison 015_corpus"),
    ("16", "nothing but bad messages", "032_topics"),
    ("17", "an offset comes twice", "032_topics 043_topic"),
    ("18", "retention passed the offset", "005_offset_lost"),
    ("19", "topic created anew", "043_topic 005_offset_lost"),
    ("20", "partitions 4 to 12 while running", "032_topics"),
    ("21", "transactions aborted, open, hung", "032_topics"),
    ("22", "compaction, tombstones", "032_topics"),
    ("23", "hostile messages", "015_corpus"),
    ("24", "fuzzing of the decoder", "017_fuzz"),
    ("25", "repeated events over restarts", "009_kills 040_workers"),
    ("26", "disorder, crash while events are held", "016_reorder"),
    ("27", "two workers on one partition", "046_zombie 008_lifecycle"),
    ("28", "standby promoted", "033_servers 008_lifecycle"),
    ("29", "recovery to the middle of a stream", "033_servers"),
    ("30", "DROP DATABASE, broker frozen", "010_stop 007_broker"),
    ("31", "DROP EXTENSION, OWNED, DATABASE", "008_lifecycle 010_stop"),
    ("32", "dump and restore, pg_upgrade", "004_restart 033_servers"),
    ("33", "restart with and without preload", "004_restart"),
    ("34", "notification queue held", "086_queue"),
    ("35", "Redis killed, frozen, flushed", "066_redis_relay 067_redis_kills 065_redis"),
    ("37", "crash between publishing and flushing WAL", "064_relay_wal"),
    ("38", "clock a day back and forth", "047_clock"),
    ("40", "malicious options", "030_options"),
]
RECOVERY = re.compile(r"everything (?:was )?applied (?:after )?([\d.]+) s|([\d.]+) s after its end everything"
                      r"|longest recovery ([\d.]+) s")
EVENTS = re.compile(r"# (?:seed \d+, )?(\d+) (?:events until|bad messages)")
COMPARED = re.compile(r"# (\d+) passed, (\d+) failed")


def chosen(rows):
    return [fault for fault in FAULTS if not rows or fault[0] in rows]


class Run:
    def __init__(self, path):
        text = path.read_text(encoding="utf-8", errors="replace")
        self.test = path.name.rsplit(".", 1)[0]
        checks = set(re.findall(r"^(?:\[[^\]]*\]\([^)]*\) )?((?:not )?ok \d+) ", text, re.MULTILINE))
        self.checks = sum(1 for check in checks if check.startswith("ok"))
        self.bad = sum(1 for check in checks if check.startswith("not"))
        if not re.search(r"^Result: PASS", text, re.MULTILINE):
            self.bad = max(self.bad, 1)
        self.events = sum(int(n) for n in EVENTS.findall(text))
        compared = COMPARED.findall(text)
        self.compared = sum(int(good) + int(bad) for good, bad in compared)
        self.differ = sum(int(bad) for _, bad in compared)
        self.recovery = max((float("".join(found)) for found in RECOVERY.findall(text)), default=0)


def report(folder, rows):
    runs = [Run(path) for path in sorted(pathlib.Path(folder).iterdir())]
    for number, fault, tests in chosen(rows):
        mine = [run for run in runs if run.test in tests.split()]
        bad = sum(run.bad for run in mine)
        longest = max((run.recovery for run in mine), default=0)
        print(f"{number:>3s} {fault:40s} {len(mine):3d} runs {sum(run.events for run in mine):9d} events "
              f"{sum(run.checks for run in mine):5d} checks "
              + (f"longest recovery {longest:.1f} s " if longest else "") + ("NOT RUN" if not mine else f"{bad} FAILED" if bad else "ok"))
    bad = sum(run.bad for run in runs)
    print(f"{len(chosen(rows))} faults, {len(runs)} runs, {sum(run.events for run in runs)} generated events; "
          f"{sum(run.compared for run in runs)} fields compared with the model, {sum(run.differ for run in runs)} differ "
          f"(what was lost or came twice); longest recovery {max((run.recovery for run in runs), default=0):.1f} s; "
          f"{sum(run.checks for run in runs)} checks passed, {bad} failed")
    return 1 if bad else 0


def main():
    rows = set(sys.argv[-1].split()) if len(sys.argv) > (2 if sys.argv[1] == "tests" else 3) else set()
    if sys.argv[1] == "tests":
        names = dict.fromkeys(name for _, _, tests in chosen(rows) for name in tests.split())
        print("\n".join(f"test/t/{name}.pl" for name in names))
        return 0
    return report(sys.argv[2], rows)


sys.exit(main())
