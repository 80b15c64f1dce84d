#!/usr/bin/env python3
"""Sums up what has been measured: medians, with the least and the greatest in brackets.

summary.py [--to WAY] <compare.tsv     ways side by side
summary.py --curve UNIT <curve.tsv     a line for each x

Lines of compare.tsv are way, round, events, seconds, processor seconds of the database, of the consumer, and "ok" or what is
wrong, with tabs between. Round 0 warms up. A ratio to another way is the median of those of each round. The exit status is 1
when a result was wrong, or a way did not run. Lines of a curve are series, x, round and value.
"""
import argparse
import collections
import statistics
import sys

FIELDS = "way round events seconds server consumer verdict".split()


class Run:
    def __init__(self, line):
        values = dict(zip(FIELDS, line.rstrip("\n").split("\t")))
        self.way, self.round, self.verdict = values["way"], int(values["round"]), values["verdict"]
        self.events = int(values["events"])
        if self.events:
            self.rate = self.events / float(values["seconds"])
            self.server, self.consumer = (float(values[name]) * 1e6 / self.events for name in ("server", "consumer"))
            self.cost = self.server + self.consumer


def spread(values):
    """A median with the least and the greatest."""
    return statistics.median(values), min(values), max(values)


def ratios(runs, other, name):
    """Ratios of a measurement to another way's in the same round."""
    base = {run.round: getattr(run, name) for run in other}
    return [getattr(run, name) / base[run.round] for run in runs if base.get(run.round)]


def read_runs(lines):
    ways = collections.defaultdict(list)
    for line in lines:
        run = Run(line)
        ways[run.way].append(run)
    return ways


def sum_up(ways, to):
    """Rows of the table, and how many ways are not all right."""
    counted = {way: [run for run in runs if run.round > 0 and run.verdict == "ok"] for way, runs in ways.items()}
    bad = 0
    for way, runs in ways.items():
        wrong = next((run.verdict for run in runs if run.verdict != "ok"), None)
        if wrong or not counted[way]:
            bad += 1
            yield [way, wrong or "not measured"]
            continue
        row = [way, "%.0f" % statistics.median(run.events for run in counted[way]), "%.0f (%.0f-%.0f)" % spread([run.rate for run in counted[way]])]
        row.append("%.1f (%.1f-%.1f)" % spread([run.cost for run in counted[way]]))
        row += ["%.1f" % statistics.median(getattr(run, name) for run in counted[way]) for name in ("server", "consumer")]
        for name in ("rate", "cost"):
            values = ratios(counted[way], counted.get(to, []), name)
            # a slow way has ratios far below one
            digits = 4 if values and statistics.median(values) < 0.1 else 2
            row.append("{0:.{3}f} ({1:.{3}f}-{2:.{3}f})".format(*spread(values), digits) if values else "")
        yield row
    yield bad


def read_curve(lines):
    """The values of each x of each series."""
    series = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        name, x, _, value = line.rstrip("\n").split("\t")
        series[name][float(x)].append(float(value))
    return series


def show_curve(series, unit):
    for name, points in series.items():
        for x, values in points.items():
            print("%-12s %10.0f  %.1f (%.1f-%.1f) %s" % (name, x, *spread(values), unit))
        first, *_, last = points if len(points) > 1 else (None, None)
        if first is not None:
            rounds = [b / a for a, b in zip(points[first], points[last])]
            print("%-12s %.0f / %.0f: ratio %.2f (%.2f-%.2f)" % (name, last, first, *spread(rounds)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", default="copy", help="the way that ratios are to")
    parser.add_argument("--curve", metavar="UNIT", help="the lines are those of a curve")
    args = parser.parse_args()
    if args.curve:
        show_curve(read_curve(sys.stdin), args.curve)
        return 0
    *rows, bad = sum_up(read_runs(sys.stdin), args.to)
    head = ["way", "events", "events/s", "us of processor", "database", "consumer", f"rate / {args.to}", f"us / {args.to}"]
    table = [head] + [row for row in rows if len(row) > 2]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))))
    for row in rows:
        if len(row) == 2:
            print(f"{row[0]}: {row[1]}")
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
