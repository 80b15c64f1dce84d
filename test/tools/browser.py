#!/usr/bin/env python3
"""A headless browser for tests, by the DevTools protocol over a pipe. Reads commands, one a line, and prints one line of JSON for each:

    open URL         loads a page
    wait SECONDS JS  evaluates until the result is true, at most so long; prints whether it became true
    eval JS          prints the result
    shot FILE        writes a picture, PNG
"""
import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


class Browser:
    def __init__(self):
        program = next((path for path in map(shutil.which, NAMES) if path), None)
        if program is None:
            sys.exit("no browser: scripts/install-deps.sh installs one")
        self.profile = tempfile.TemporaryDirectory()
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()
        to_read, to_write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_read, to_write))

        def place():
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--window-size=1100,720", f"--user-data-dir={self.profile.name}", "about:blank"],
            preexec_fn=place, pass_fds=(3, 4), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session = None
        target = self.call("Target.createTarget", url="about:blank", width=1100, height=720)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def read(self):
        while b"\0" not in self.buffer:
            data = os.read(self.from_browser, 1 << 20)
            if not data:
                sys.exit("the browser has ended")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return result["result"].get("value", result.get("exceptionDetails", {}).get("text"))

    def wait(self, seconds, script):
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            if self.evaluate(script) is True:
                return True
            time.sleep(0.1)
        return False

    def shot(self, file):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(file, "wb") as handle:
            handle.write(base64.b64decode(data))
        return True

    def run(self, line):
        command, _, rest = line.partition(" ")
        if command == "open":
            return "errorText" not in self.call("Page.navigate", url=rest)
        if command == "wait":
            return self.wait(*rest.split(" ", 1))
        if command == "eval":
            return self.evaluate(rest)
        return self.shot(rest)


def main():
    browser = Browser()
    try:
        for line in sys.stdin:
            print(json.dumps(browser.run(line.rstrip("\n"))), flush=True)
    finally:
        browser.process.kill()
        browser.process.wait()


main()
