#!/usr/bin/env python3
"""Makes TARGET a copy of the tree SOURCE: copy-tree.py SOURCE TARGET

What .gitignore names is neither copied nor removed. A file that is the same in both keeps its time in TARGET, and a
changed one gets the present time: make then builds in TARGET what has changed and nothing else.
"""
import filecmp
import fnmatch
import os
import pathlib
import shutil
import sys


def rules(source):
    lines = (source / ".gitignore").read_text(encoding="utf-8").split()
    return [(line.lstrip("!").rstrip("/"), line.endswith("/"), not line.startswith("!")) for line in lines]


def files(top, patterns):
    """Paths of the files below a folder, but for what is ignored; the last pattern that matches decides, as in git."""
    def ignored(path, is_folder):
        verdict = path.name == ".git"
        for pattern, for_folders, answer in patterns:
            if (is_folder or not for_folders) and fnmatch.fnmatchcase(str(path) if "/" in pattern else path.name, pattern):
                verdict = answer
        return verdict

    for folder, folders, names in os.walk(top):
        here = pathlib.Path(folder).relative_to(top)
        folders[:] = [name for name in folders if not ignored(here / name, True)]
        yield from (here / name for name in names if not ignored(here / name, False))


source, target = map(pathlib.Path, sys.argv[1:3])
target.mkdir(exist_ok=True)
patterns = rules(source)
wanted = set(files(source, patterns))
for path in set(files(target, patterns)) - wanted:
    (target / path).unlink()
for path in wanted:
    if not (target / path).is_file() or not filecmp.cmp(source / path, target / path, shallow=False):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
    shutil.copymode(source / path, target / path)
