#!/usr/bin/env python3
"""Watches a load: how many seconds and how much processor time it took until so many events were in.

watch.py --server PID [--process PID]... (--sql TEXT | --file NAME) [--patience SECONDS] MARK...
watch.py --server PID --events COUNT -- COMMAND...

Prints a line "events seconds server process" at the start and at each mark, tab-separated. `server` is the processor
time of all processes of the PostgreSQL whose postmaster is PID, without the session that asks for the SQL; `process`
that of the other processes. The SQL answers with the number of events; in a file it is the last line "progress N".
Connections are those of PGHOST and the like. A process that ends before the last mark is an error.
"""
import argparse
import os
import pathlib
import resource
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")
INTERVAL = 0.05


def read_stat(pid):
    """The fields of /proc/PID/stat from the state on, or None when the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def processor_time(fields, with_children=False):
    """Seconds of a process; with those of its children that have ended."""
    return sum(map(int, fields[11:15 if with_children else 13])) / TICK


def server_time(postmaster):
    """Seconds of all processes of a server, also of those that have ended."""
    total = 0.0
    for folder in pathlib.Path("/proc").iterdir():
        fields = read_stat(folder.name) if folder.name.isdigit() else None
        if fields and int(fields[1]) == postmaster:
            total += processor_time(fields)
    return total + processor_time(read_stat(postmaster), True)


class Session:
    """A psql that stays, so that asking is cheap; what its backend uses does not count."""

    def __init__(self, psql, sql):
        self.sql = sql
        self.psql = subprocess.Popen([psql, "-XAtq", "-v", "ON_ERROR_STOP=1"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, bufsize=1)
        self.backend = int(self.ask("SELECT pg_backend_pid()"))

    def ask(self, sql):
        self.psql.stdin.write(sql + ";\n")
        self.psql.stdin.flush()
        line = self.psql.stdout.readline()
        if not line:
            sys.exit("watch.py: psql ended")
        return line.strip()

    def count(self):
        return int(self.ask(self.sql) or 0)

    def own_time(self):
        return processor_time(read_stat(self.backend))


class File:
    """What a consumer prints."""

    def __init__(self, name):
        self.name = pathlib.Path(name)

    def count(self):
        lines = [line for line in self.name.read_text().splitlines(True) if line.startswith("progress ") and line.endswith("\n")]
        return int(lines[-1].split()[1]) if lines else 0

    def own_time(self):
        return 0.0


def show(events, start, server, process):
    print(f"{events}\t{time.monotonic() - start:.4f}\t{server:.2f}\t{process:.2f}", flush=True)


def watch_marks(args, source):
    start = time.monotonic()
    marks = sorted(args.marks)
    newest, newest_at = 0, start
    stats = list(map(read_stat, args.process))

    def sample(events):
        show(events, start, server_time(args.server) - source.own_time(), sum(map(processor_time, stats)))

    sample(0)
    while marks:
        events = source.count()
        stats = list(map(read_stat, args.process))
        if None in stats or any(fields[0] == "Z" for fields in stats):
            sys.exit(f"a process ended after {events} events")
        if events > newest:
            newest, newest_at = events, time.monotonic()
        if time.monotonic() - newest_at > args.patience:
            sys.exit(f"no more than {events} events in {args.patience:.0f} s")
        if events >= marks[0]:
            sample(events)
            marks = [mark for mark in marks if mark > events]
        else:
            time.sleep(INTERVAL)


def watch_command(args):
    start = time.monotonic()
    show(0, start, server_time(args.server), 0)
    code = subprocess.run(args.marks, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    show(args.events, start, server_time(args.server), used.ru_utime + used.ru_stime)
    if code:
        sys.exit(f"{args.marks[0]} ended with {code}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", type=int, required=True)
    parser.add_argument("--process", type=int, action="append", default=[])
    parser.add_argument("--sql")
    parser.add_argument("--file")
    parser.add_argument("--events", type=int)
    parser.add_argument("--patience", type=float, default=180, help="seconds without a new event after which it has failed")
    parser.add_argument("--psql", default="psql")
    parser.add_argument("marks", nargs="+")
    args = parser.parse_args()
    if args.sql is None and args.file is None:
        watch_command(args)
        return
    args.marks = list(map(int, args.marks))
    watch_marks(args, Session(args.psql, args.sql) if args.sql else File(args.file))


main()
