#!/usr/bin/env python3
"""Records the demo in a terminal of tmux, and writes what the terminal showed as an SVG that moves.

    scripts/demo_picture.py doc/images/demo.svg scripts/demo.sh [option...]
"""
import html
import re
import subprocess
import sys
import time

COLUMNS, ROWS = 90, 26
SECONDS = 3  # that a picture is shown; those of the live screen are twice as far apart
TMUX = ["tmux", "-L", "demo_picture", "-f", "/dev/null"]


def tmux(*args):
    return subprocess.run(TMUX + list(args), check=True, stdout=subprocess.PIPE, text=True).stdout


def screen():
    return tmux("capture-pane", "-e", "-p", "-t", "demo").rstrip("\n").split("\n")


def shows(lines, text):
    return any(text in line for line in lines)


def record(command):
    """The screens that the picture shows: the event that is followed, the live ones, the totals."""
    screens, last_live = [], 0
    tmux("new-session", "-d", "-s", "demo", "-x", str(COLUMNS), "-y", str(ROWS), *command)
    tmux("set-option", "-g", "remain-on-exit", "on")
    try:
        while not screens or not shows(screens[-1], "in the tables"):
            lines = screen()
            live = shows(lines, "live:") and time.monotonic() - last_live > 2 * SECONDS
            if live or shows(lines, "in the tables") or (shows(lines, "visible") and not screens):
                screens.append(lines)
                last_live = time.monotonic()
            if shows(lines, "Pane is dead"):
                sys.exit("the demo ended:\n" + "\n".join(lines))
            time.sleep(0.05)
    finally:
        tmux("send-keys", "-t", "demo", "C-c")
        time.sleep(5)
        tmux("kill-server")
    return screens


def text(number, line):
    spans, bold = [], False
    for part in re.split(r"(\x1b\[[\d;]*m)", line):
        if part.startswith("\x1b"):
            for code in part[2:-1].split(";"):
                bold = code == "1" or (bold and code not in ("", "0", "22"))
        elif part:
            spans.append(f'<tspan class="b">{html.escape(part)}</tspan>' if bold else html.escape(part))
    return f'<text x="12" y="{46 + 17 * number}">{"".join(spans)}</text>' if spans else ""


def picture(screens):
    width, height = 24 + 7.83 * COLUMNS, 50 + 17 * ROWS
    share = 100 / len(screens)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">'
    yield f"""<style>text {{ font: 13px monospace; white-space: pre; fill: #d8dee9 }} .b {{ font-weight: bold; fill: #fff }}
g {{ opacity: 0; animation: shown {len(screens) * SECONDS}s step-end infinite }} g.still {{ opacity: 1 }}
@keyframes shown {{ 0% {{ opacity: 1 }} {share:.3f}% {{ opacity: 0 }} }}</style>
<rect width="100%" height="100%" rx="8" fill="#1b2230"/>
<circle cx="18" cy="16" r="5" fill="#e06c75"/><circle cx="36" cy="16" r="5" fill="#e5c07b"/><circle cx="54" cy="16" r="5" fill="#98c379"/>"""
    for number, lines in enumerate(screens):
        # who shows no animation sees one screen, from the middle of the live ones
        still = ' class="still"' if number == len(screens) * 2 // 3 else ""
        body = "\n".join(filter(None, (text(i, line) for i, line in enumerate(lines))))
        yield f'<g{still} style="animation-delay: {(number - len(screens)) * SECONDS}s">\n{body}\n</g>'
    yield "</svg>"


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    target, command = sys.argv[1], sys.argv[2:]
    screens = record(command)
    with open(target, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in picture(screens))
    print(f"{target}: {len(screens)} screens")


main()
