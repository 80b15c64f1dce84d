#!/usr/bin/env python3
"""Measures C sources, for the table in doc/internals: scripts/measure.py name=folder ...

Sources are read as pgindent writes them: a function begins with its name in the first column and ends with } there."""
import collections
import pathlib
import re
import statistics
import sys

START = re.compile(r"^(?!(?:if|for|while|switch|return|PG_FUNCTION_INFO_V1|StaticAssertDecl)\b)(\w+)\(", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'')


class Function:
    def __init__(self, name, lines, parameters):
        self.name, self.lines, self.parameters = name, lines, parameters


def read_functions(text):
    for match in START.finditer(text):
        end = text.find("\n}", match.start())
        head = text[match.start():text.find("\n{", match.start())]
        if "\n{" not in text[match.start():] or end < 0 or ";" in COMMENT.sub("", head):
            continue
        inside = head[head.find("(") + 1:head.rfind(")")]
        parameters = 0 if inside.strip() in ("", "void") else COMMENT.sub("", inside).count(",") + 1
        yield Function(match.group(1), text.count("\n", match.start(), end) + 2, parameters)


def count_comment_lines(text):
    return sum(match.group(0).count("\n") + 1 for match in COMMENT.finditer(STRING.sub('""', text)))


def widths(text):
    return [len(line.expandtabs(4)) for line in text.splitlines()]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def repeated(names_of_files):
    files = collections.defaultdict(set)
    for file, names in names_of_files.items():
        for name in names:
            files[name].add(file)
    return {name: where for name, where in files.items() if len(where) > 1}


def measure(folder):
    sources = sorted(path for path in folder.rglob("*.[ch]") if not {"test", "bench", "build"} & set(path.parts))
    texts = {path: path.read_text(errors="replace") for path in sources}
    code = [path for path in sources if path.suffix == ".c"]
    functions = {path: list(read_functions(texts[path])) for path in code}
    every = [function for found in functions.values() for function in found]
    lines = [function.lines for function in every]
    width = [number for text in texts.values() for number in widths(text)]
    total = sum(text.count("\n") for text in texts.values())
    blank = sum(1 for text in texts.values() for line in text.splitlines() if not line.strip())
    sizes = [texts[path].count("\n") for path in code]
    versions = {path: len(re.findall(r"^#\s*(?:el)?if[^\n]*PG_VERSION_NUM", text, re.MULTILINE)) for path, text in texts.items()}
    same = repeated({path: {function.name for function in found} for path, found in functions.items()})
    stems = collections.Counter(path.stem for path in code)
    readme = (folder / "README.md").read_text() if (folder / "README.md").exists() else ""
    yield ".c / .h files, lines", f"{len(code)} / {len(sources) - len(code)}, {total:,}"
    yield "functions; median / p90 / max lines", \
        f"{len(every):,}; {statistics.median(lines):.0f} / {percentile(lines, 0.9)} / {max(lines)}"
    yield "functions > 60 / > 80 / > 100 lines", " / ".join(str(sum(n > limit for n in lines)) for limit in (60, 80, 100))
    yield ".c file median / max", f"{statistics.median(sizes):.0f} / {max(sizes):,}"
    yield "functions with > 6 parameters (most)", \
        f"{sum(f.parameters > 6 for f in every)} ({max(f.parameters for f in every)})"
    yield "lines with a comment / lines that are not blank", \
        f"{sum(map(count_comment_lines, texts.values())) / (total - blank):.0%}"
    yield "lines > 80 / > 120 columns; longest", \
        f"{sum(n > 80 for n in width) / len(width):.1%} / {sum(n > 120 for n in width)}; {max(width)}"
    yield "version #ifs (files)", f"{sum(versions.values())} ({sum(n > 0 for n in versions.values())})"
    yield "function names defined in > 1 file", str(len(same))
    yield "one-word function names of at most 8 letters", \
        str(len({f.name for f in every if re.fullmatch(r"[a-z]{1,8}", f.name)}))
    yield "base names of more than one .c", str(sum(n > 1 for n in stems.values()))
    yield "README lines / words", f"{readme.count(chr(10)):,} / {len(readme.split()):,}"
    yield "workflows", str(len(list((folder / ".github/workflows").glob("*.y*ml"))))


def main():
    names = [argument.split("=", 1) for argument in sys.argv[1:]] or [["profile_stream", "."]]
    columns = [dict(measure(pathlib.Path(folder))) for _, folder in names]
    print("| | " + " | ".join(name for name, _ in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(column[row] for column in columns) + " |")


if __name__ == "__main__":
    main()
