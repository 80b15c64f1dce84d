#!/usr/bin/env python3
"""Prints compile_commands.json: compile-commands.py FILE... -- COMPILER FLAG...  The Makefile calls it."""
import json
import os
import sys

end = sys.argv.index("--")
command = [word for word in sys.argv[end + 1:] if word not in ("-MMD", "-MP")]
print(json.dumps([{"directory": os.getcwd(), "file": path, "arguments": [*command, "-c", path]} for path in sys.argv[1:end]], indent=1))
