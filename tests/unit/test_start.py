"""A start that was made short answers as a plain one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import re, sys
if sys.argv[1] == "short":
    from pipeline_steps.core import start
    start.prepare("snapshot")
import msgspec, yaml
import typing_extensions
text = open("kinds.yaml").read()
for loader in (yaml.SafeLoader, yaml.CSafeLoader):
    print(yaml.load(text, loader))
    for bad in ("a: \\x01", "a: [", "a: 2001-13-45"):
        try:
            print(yaml.load(bad, loader))
        except (yaml.YAMLError, ValueError) as error:
            print(type(error).__name__, str(error).splitlines()[0])
class Kinds(msgspec.Struct):
    a: "int | None" = None
    b: "tuple[str, ...]" = ()
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


def test_yaml_and_types_are_read_as_in_a_plain_start(tmp_path: Path) -> None:
    (tmp_path / "kinds.yaml").write_text(KINDS)
    said = {}
    for kind in ("plain", "short"):
        command = [sys.executable, "-c", PROGRAM, kind]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said[kind] = done.stdout
    assert said["short"] == said["plain"] and said["plain"].count("Error") == 6
