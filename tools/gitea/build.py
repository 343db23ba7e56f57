"""Gitea's program and the files it reads, built once and kept outside the checkout."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from pathlib import Path

from tools.machine import Cannot, cache, find_program, installed_at_once, locked, say, seconds_since
from tools.programs.gobuild import Build, build, build_environment, go_for

SOURCES = Path(__file__).resolve().parent
MODULE = "code.gitea.io/gitea"
#: SQLite, so that no database server is needed. It is written in C.
TAGS = ("sqlite", "sqlite_unlock_notify")
#: Folders of the module that the server reads while it runs; its pages' JavaScript is not there.
STATIC = ("options", "public", "templates")


def version() -> str:
    """The version of Gitea in go.mod, like 1.26.0."""
    pattern = rf"^require {re.escape(MODULE)} v(\S+)$"
    match = re.search(pattern, (SOURCES / "go.mod").read_text(), re.MULTILINE)
    assert match is not None, f"go.mod requires {MODULE}"
    return match[1]


def folder() -> Path:
    """Where the built program lies; another go.sum, another folder."""
    parts = [(SOURCES / name).read_bytes() for name in ("go.sum", "go.mod", "main.go")]
    return cache() / "gitea" / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def built() -> Path:
    """Folder with the program `gitea` and the folder `static`, built when it is not there: minutes
    the first time. Raises Cannot.
    """
    target = folder()
    if not target.exists():
        with locked(cache() / "gitea/.lock", "gitea"):
            if not target.exists():
                make(target)
    return target


def make(target: Path) -> None:
    if find_program("gcc") is None:
        raise Cannot("gitea needs a C compiler: python3 tools/programs/programs.py packages gitea")
    start = time.monotonic()
    with installed_at_once(target) as aside:
        build(
            Build(SOURCES, (".",), (f"main.version={version()}",), TAGS, cgo=True), aside, "gitea"
        )
        (aside / "gitea-server").rename(aside / "gitea")
        module = module_folder()
        for name in STATIC:
            shutil.copytree(module / name, aside / "static" / name)
        for path in (aside / "static").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    say(f"gitea {version()}: ready in {seconds_since(start)}")


def module_folder() -> Path:
    """Where go keeps the files of Gitea's module, which the build has just downloaded."""
    completed = subprocess.run(
        [go_for(SOURCES), "list", "-m", "-f", "{{.Dir}}", MODULE],
        cwd=SOURCES, env=build_environment(), capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        raise Cannot(f"go does not find {MODULE}: {completed.stderr.strip()}")
    return Path(completed.stdout.strip())
