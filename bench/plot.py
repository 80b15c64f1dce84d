#!/usr/bin/env python3
"""Draws what compare.sh and curves.sh have measured: plot.py FOLDER

For each NAME.tsv in the folder that it knows it writes NAME.svg: compare, customers, history, batch, latency. Lines and dots are
medians over the rounds, whiskers go from the least to the greatest. The colours do on a light and on a dark ground.
"""
import html
import math
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
import summary  # noqa: E402

INK = "#808080"
COLOURS = ["#3b82f6", "#e0813a", "#2fa36b", "#b45fcf", "#c8a415", "#d1495b", "#4aa8a0"]
NAMES = {"copy": "COPY", "one": "one worker", "two": "two workers", "staging": "staging COPY, SQL", "streams": "Kafka Streams, JDBC",
         "connect": "Connect JDBC sink, trigger", "node": "Node service"}
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 70, 30, 50, 50


class Scale:
    """Where a value is between two pixels; on a logarithmic scale where `log`."""

    def __init__(self, values, pixels, log):
        self.log, self.pixels = log, pixels
        low, high = min(values), max(values)
        if log:
            self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.high += self.high == self.low
        else:
            step = 10 ** math.floor(math.log10(high or 1))
            self.low, self.high = 0, math.ceil((high or 1) / step * 2) / 2 * step

    def place(self, value):
        at = ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)
        return self.pixels[0] + at * (self.pixels[1] - self.pixels[0])

    def ticks(self):
        if self.log:
            return [10 ** exponent for exponent in range(self.low, self.high + 1)]
        return [self.high * i / 5 for i in range(6)]


def number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


class Picture:
    def __init__(self, title, height):
        self.height = height
        self.parts = [f"<title>{html.escape(title)}</title>"]
        self.text(LEFT, 24, title, size=15)

    def line(self, points, colour=INK, width=1.0, opacity=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start", size=12, colour=INK):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{html.escape(text)}</text>')

    def write(self, path):
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" font-family="sans-serif">\n'
                        + "\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")


def draw_lines(title, x_label, y_label, series, log_x):
    """Lines of series, {name: {x: values}}; a list of one value has no whisker."""
    height = 400
    picture = Picture(title, height)
    across = Scale([x for points in series.values() for x in points], (LEFT, WIDTH - RIGHT), log_x)
    up = Scale([y for points in series.values() for values in points.values() for y in values], (height - BOTTOM, TOP), False)
    for tick in across.ticks():
        picture.text(across.place(tick), height - BOTTOM + 18, number(tick), "middle")
    for tick in up.ticks():
        picture.line([(LEFT, up.place(tick)), (WIDTH - RIGHT, up.place(tick))], opacity=0.35)
        picture.text(LEFT - 8, up.place(tick) + 4, number(tick), "end")
    picture.text((LEFT + WIDTH - RIGHT) / 2, height - 10, x_label, "middle")
    picture.text(LEFT, TOP - 8, y_label)
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        medians = [(across.place(x), up.place(statistics.median(values))) for x, values in sorted(points.items())]
        picture.line(medians, colour, 2)
        for x, values in points.items():
            if len(values) > 1:
                picture.line([(across.place(x), up.place(min(values))), (across.place(x), up.place(max(values)))], colour)
        if len(medians) < 30:
            for x, y in medians:
                picture.dot(x, y, colour)
        picture.text(WIDTH - RIGHT, 24 + 18 * i, name, "end", colour=colour)
    return picture


def draw_dots(title, panels):
    """Panels side by side on logarithmic scales, [(label, {name: values})], of the same names."""
    names = list(panels[0][1])
    height = TOP + BOTTOM + 34 * len(names)
    picture = Picture(title, height)
    width = (WIDTH - 190 - RIGHT) / len(panels)
    for row, name in enumerate(names):
        picture.text(180, TOP + 34 * row + 21, NAMES.get(name, name), "end")
    for i, (label, rows) in enumerate(panels):
        across = Scale([value for values in rows.values() for value in values], (200 + i * width, 160 + (i + 1) * width), True)
        for tick in across.ticks():
            picture.line([(across.place(tick), TOP), (across.place(tick), height - BOTTOM)], opacity=0.35)
            picture.text(across.place(tick), height - BOTTOM + 16, number(tick), "middle", 10)
        picture.text(180 + (i + 0.5) * width, height - 12, label, "middle")
        for row, (name, values) in enumerate(rows.items()):
            y, colour = TOP + 34 * row + 17, COLOURS[row % len(COLOURS)]
            middle, least, greatest = summary.spread(values)
            picture.line([(across.place(least), y), (across.place(greatest), y)], colour, 2)
            picture.dot(across.place(middle), y, colour)
            picture.text(across.place(middle), y - 8, number(middle), "middle", 10, colour)
    return picture


def draw_compare(path):
    with path.open(encoding="utf-8") as lines:
        ways = summary.read_runs(lines)
    good = {way: [run for run in runs if run.round > 0] for way, runs in ways.items() if all(run.verdict == "ok" for run in runs)}
    good = {way: runs for way, runs in good.items() if runs}
    if not good:
        return None
    return draw_dots("Profiles from one topic, ways side by side",
                     [("events/s", {way: [run.rate for run in runs] for way, runs in good.items()}),
                      ("µs of processor an event", {way: [run.cost for run in runs] for way, runs in good.items()})])


def draw_curve(title, x_label, log_x):
    def draw(path):
        with path.open(encoding="utf-8") as lines:
            return draw_lines(title, x_label, "µs of the worker an event", summary.read_curve(lines), log_x)
    return draw


def draw_latency(path):
    with path.open(encoding="utf-8") as lines:
        series = summary.read_curve(lines)
    turned = {name: {values[0]: [percentile] for percentile, values in points.items()} for name, points in series.items()}
    return draw_lines("From producing an event to seeing it", "milliseconds", "% of events", turned, True)


DRAWN = {"compare": draw_compare,
         "customers": draw_curve("Processor time by the number of customers", "customers", True),
         "history": draw_curve("Processor time along one load", "events of 100,000 customers before", False),
         "batch": draw_curve("Processor time by batch_size", "batch_size", True),
         "latency": draw_latency}


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    folder = pathlib.Path(sys.argv[1])
    drawn = 0
    for name, draw in DRAWN.items():
        path = folder / f"{name}.tsv"
        picture = draw(path) if path.exists() else None
        if picture:
            picture.write(path.with_suffix(".svg"))
            print(path.with_suffix(".svg"))
            drawn += 1
    if not drawn:
        sys.exit(f"plot.py: nothing to draw in {folder}")


if __name__ == "__main__":
    main()
