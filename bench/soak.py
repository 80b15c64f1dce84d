#!/usr/bin/env python3
"""Helper of soak.sh.

soak.py pace RATE            copies lines, so many a second
soak.py judge TSV SVG        draws the samples, and says what grows; exit status 1 when something does
"""
import sys
import time

SETTLED = 15        # seconds after a kill until the new worker has its memory
# column, name, unit, divisor, slack: what may be more in the last quarter than in the second one, besides a quarter of it
PANELS = [
    ("rss_kb", "worker, private memory", "MB", 1024, 8),
    ("fds", "worker, descriptors", "", 1, 5),
    ("postmaster_kb", "postmaster, private memory", "MB", 1024, 4),
    ("postmaster_fds", "postmaster, descriptors", "", 1, 5),
    ("profiles", "materialized_profiles", "MB", 1 << 20, 1),
    ("offsets", "stream_offsets, stream_status", "MB", 1 << 20, 1),
    ("history_per_event", "event_id_chunks, window_chunks", "bytes/event", 1, 10),
    ("lag", "lag", "messages", 1, None),
    ("wal", "WAL", "MB", 1 << 20, None),
]
OF_WORKER = {"rss_kb", "fds"}
WIDTH, HEIGHT, LEFT, GAP = 900, 90, 60, 40


def pace(rate):
    start = time.monotonic()
    for n, line in enumerate(sys.stdin.buffer):
        ahead = n / rate - (time.monotonic() - start)
        if ahead > 0.01:
            sys.stdout.buffer.flush()
            time.sleep(ahead)
        sys.stdout.buffer.write(line)


def read(path):
    with open(path, encoding="ascii") as file:
        names = file.readline().split()
        rows = [dict(zip(names, map(float, line.split()))) for line in file]
    for row in rows:
        row["history_per_event"] = row["history"] / max(row["taken"], 1)
    return rows


def points(rows, column, divisor):
    """(second, value) of a column, those of a worker once it has settled."""
    return [(row["second"], row[column] / divisor) for row in rows
            if row[column] > 0 and (column not in OF_WORKER or row["age"] >= SETTLED)
            or column == "lag"]


def largest(values, start, end):
    return max((value for at, value in values if start <= at <= end), default=0)


def draw(rows, path):
    last = rows[-1]["second"]
    with open(path, "w", encoding="utf-8") as file:
        height = len(PANELS) * (HEIGHT + GAP) + GAP
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * LEFT}" height="{height}"'
                   ' font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n')
        for i, (column, name, unit, divisor, _) in enumerate(PANELS):
            values = points(rows, column, divisor)
            top = GAP + i * (HEIGHT + GAP)
            most = max((value for _, value in values), default=0) or 1
            line = " ".join(f"{LEFT + at / last * WIDTH:.1f},{top + HEIGHT - value / most * HEIGHT:.1f}"
                            for at, value in values)
            file.write(f'<text x="{LEFT}" y="{top - 8}">{name}, at most {most:.1f} {unit}</text>\n'
                       f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>\n'
                       f'<polyline points="{line}" fill="none" stroke="#06c"/>\n')
        file.write(f'<text x="{LEFT}" y="{height - 8}">0 to {last / 60:.1f} minutes</text>\n</svg>\n')


def judge(samples, picture):
    rows = read(samples)
    if len(rows) < 12:
        print("too few samples to judge")
        return 1
    draw(rows, picture)
    last = rows[-1]["second"]
    grows = 0
    for column, name, unit, divisor, slack in PANELS:
        values = points(rows, column, divisor)
        before = largest(values, last / 4, last / 2)
        after = largest(values, last * 3 / 4, last)
        verdict = ""
        if slack is not None and after > before * 1.25 + slack:
            verdict = "GROWS"
            grows += 1
        print(f"{name:32s} second quarter {before:10.1f}  last quarter {after:10.1f} {unit} {verdict}".rstrip())
    return 1 if grows else 0


def main():
    if sys.argv[1:2] == ["pace"]:
        pace(float(sys.argv[2]))
        return 0
    return judge(sys.argv[2], sys.argv[3])


sys.exit(main())
