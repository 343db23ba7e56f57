"""A git repository with many tagged chart versions, of sizes like real ones, made by one `git
fast-import`.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_WORDS = "image service port replicas resources limits ingress labels annotations volume mount probe config".split()


def make(folder: Path, charts: int, versions: int, *, tiny: bool = False) -> None:
    """A bare repository with the tags chart-NN-1.M.0; each version changes Chart.yaml and two other
    files.

    tiny: charts of three small files instead of 15 to 40 with 20 to 60 kB.
    """
    subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True)
    command = ["git", "fast-import", "--quiet", "--done"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        _write(process.stdin, charts, versions, tiny=tiny)
        process.stdin.close()
    if process.returncode:
        raise SystemExit("git fast-import failed")


def _write(stream: IO[bytes], charts: int, versions: int, *, tiny: bool) -> None:
    chance = random.Random(1)
    names = {f"chart-{number:03}": _paths(chance, tiny) for number in range(charts)}
    clock, mark = 1_600_000_000, 0
    for version in range(versions):
        for name, paths in names.items():
            clock, mark = clock + 60, mark + 1
            changed = (
                paths
                if version == 0
                else [paths[0], *chance.sample(paths[1:], min(2, len(paths) - 1))]
            )
            stream.write(
                b"commit refs/heads/main\nmark :%d\ncommitter B <b@example.com> %d +0000\ndata 1\nx\n"
                % (mark, clock)
            )
            for path in changed:
                data = _content(chance, name, version, path, tiny)
                stream.write(b"M 100644 inline charts/%s/%s\n" % (name.encode(), path.encode()))
                stream.write(b"data %d\n%s\n" % (len(data), data))
            stream.write(
                b"reset refs/tags/%s-1.%d.0\nfrom :%d\n\n" % (name.encode(), version, mark)
            )
    stream.write(b"done\n")


def _paths(chance: random.Random, tiny: bool) -> list[str]:
    templates = 1 if tiny else chance.randint(11, 36)
    more = [] if tiny else ["README.md", "templates/_helpers.tpl"]
    return [
        "Chart.yaml",
        "values.yaml",
        *more,
        *(f"templates/part-{number}.yaml" for number in range(templates)),
    ]


def _content(chance: random.Random, name: str, version: int, path: str, tiny: bool) -> bytes:
    if path == "Chart.yaml":
        return (
            f"apiVersion: v2\nname: {name}\ndescription: Chart {name} of the "
            "benchmark\ntype: application\n"
            f'version: 1.{version}.0\nappVersion: "{version}"\nhome: https://example.com/{name}\n'
            f"keywords: [{', '.join(chance.sample(_WORDS, 3))}]\nsources:\n  - "
            f"https://example.com/source/{name}\n"
            "maintainers:\n  - name: somebody\n    email: somebody@example.com\n"
        ).encode()
    size = 80 if tiny else chance.choice((400, 800, 1500, 3000)) * (4 if path == "README.md" else 1)
    return _text(chance, name, path, size)


def _text(chance: random.Random, name: str, path: str, size: int) -> bytes:
    lines = (
        [f"# {path} of {name}"]
        if not path.startswith("templates/part")
        else [_KIND.format(n=path[15:-5])]
    )
    length = 0
    for line in _lines(chance):
        lines.append(line)
        length += len(line)
        if length > size:
            return ("\n".join(lines) + "\n").encode()
    raise AssertionError("lines never end")


def _lines(chance: random.Random) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield (
            f"  {chance.choice(_WORDS)}{number}: {chance.choice(_WORDS)}-{chance.randint(0, 10**6)}"
        )


_KIND = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: part-{n}\ndata:"
