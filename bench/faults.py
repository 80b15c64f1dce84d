#!/usr/bin/env python3
"""Helper of faults.sh: which tests prove which fault of doc/internals/reliability.md, and what they printed.

faults.py tests [rows]           the tests, each once
faults.py report FOLDER [rows]   a line a fault, a summary; exit status 1 when a test failed
"""
import pathlib
import re
import sys

# a row of the table: its number, the fault, its tests
ROW = re.compile(r"^\| (\d+) \| ([^|]*) \| ([^|]*) \|", re.MULTILINE)
TAP_TEST = re.compile(r"`([a-z]+_\d{3}_\w+)\.pl`")
RECOVERY = re.compile(r"everything (?:was )?applied (?:after )?([\d.]+) s|([\d.]+) s after its end everything"
                      r"|longest recovery ([\d.]+) s")
EVENTS = re.compile(r"# (?:seed \d+, )?(\d+) (?:events until|bad messages)")
COMPARED = re.compile(r"# (\d+) passed, (\d+) failed")


def chosen(rows):
    """The rows of doc/internals/reliability.md that have a TAP test: number, fault, tests."""
    table = (pathlib.Path(__file__).parent.parent / "doc/internals/reliability.md").read_text(encoding="utf-8")
    faults = [(number, fault, TAP_TEST.findall(tests)) for number, fault, tests in ROW.findall(table)]
    return [fault for fault in faults if fault[2] and (not rows or fault[0] in rows)]


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
        mine = [run for run in runs if run.test in tests]
        bad = sum(run.bad for run in mine)
        longest = max((run.recovery for run in mine), default=0)
        print(f"{number:>3s} {fault[:48]:48s} {len(mine):3d} runs {sum(run.events for run in mine):9d} events "
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
        names = dict.fromkeys(name for _, _, tests in chosen(rows) for name in tests)
        print("\n".join(f"test/t/{name}.pl" for name in names))
        return 0
    return report(sys.argv[2], rows)


sys.exit(main())
