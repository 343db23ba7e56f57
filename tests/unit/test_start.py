"""A start that was made short answers as a plain one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = r"""
import re, sys
if sys.argv[1] == "short":
    from pipeline_steps.core import start
    start.prepare("snapshot")
import msgspec, yaml
import typing_extensions
text = open("kinds.yaml").read()
for loader in (yaml.SafeLoader, yaml.CSafeLoader):
    print(yaml.load(text, loader))
    for bad in ("a: \x01", "a: [", "a: 2001-13-45"):
        try:
            print(yaml.load(bad, loader))
        except (yaml.YAMLError, ValueError) as error:
            print(type(error).__name__, str(error).splitlines()[0])
class Kinds(msgspec.Struct):
    a: "int | None" = None
    b: "tuple[str, ...]" = ()
import argparse, gettext, json, locale, logging, platform, string, textwrap, tokenize, urllib.parse
print(json.loads('{"a": [1.5e3, "\\u263a \\n", null]}'))
print(json.dumps({"\u263a": "\n"}), json.dumps("\u263a", ensure_ascii=False))
parser = argparse.ArgumentParser(prog="x", description="words " * 40)
parser.add_argument("--number", type=int, help="a number %(default)s", default=-1)
print(parser.format_help(), parser.parse_args(["--number", "-2"]))
print(string.Template("$a ${b} $$").substitute(a=1, b=2))
print(textwrap.fill("one two-three  four " * 9), textwrap.dedent("  a\n  b"))
for style, form in (("%", "%(message)s %(levelno)03d"), ("{", "{message:>9} {levelno}"), ("$", "$message")):
    print(logging.Formatter(form, style=style).format(logging.makeLogRecord({"msg": "m", "levelno": 7})))
print(platform.python_version_tuple(), platform.python_implementation(), platform.libc_ver())
print(gettext.c2py("n != 1 ? 2 : 0")(3), locale.format_string("%d %s", (1, "x")), urllib.parse.unquote("a%20%E2%98%BA"))
print([token.string for token in tokenize.tokenize(iter([b"# coding: utf-8\n", b"a = 1\n"]).__next__)])
print(msgspec.json.decode(b'{"a": 1, "b": ["x"]}', type=Kinds), msgspec.yaml.decode("a: 2", type=Kinds))
assert type(re.compile("x")) is re.Pattern and typing_extensions.TypedDict
"""
KINDS = """\
text: [plain, "double", 'single', yes please, 1.2.3]
bool: [true, False, yes, NO, on, Off]
number: [1, -2, 0x1f, 0b11, 017, 1_000, 190:20:30, 1.5, -.5e3, .inf, .NaN]
none: [null, ~, ]
time: [2001-12-14, 2001-12-14t21:59:43.10-05:00, 2001-12-14 21:59:43]
merge: {<<: {a: 1}, b: 2}
unicode: "\u263a"
binary: !!binary aGFsbG8=
"""


def test_whatever_was_loaded_early_does_what_it_does_in_a_plain_start(tmp_path: Path) -> None:
    (tmp_path / "kinds.yaml").write_text(KINDS)
    said = {}
    for kind in ("plain", "short"):
        command = [sys.executable, "-c", PROGRAM, kind]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said[kind] = done.stdout
    assert said["short"] == said["plain"] and said["plain"].count("Error") == 6
