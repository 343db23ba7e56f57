"""Jars from Maven Central, fetched by mvn and checked by sha256."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools.machine import Cannot, find_program


def fetch_jar(artifact: str, sha256: str) -> Callable[[Path], None]:
    """Put the jar of `artifact` (group:name:version) into a folder, without its dependencies."""

    def put(folder: Path) -> None:
        mvn = find_program("mvn")
        if mvn is None:
            raise Cannot("no mvn: python3 tools/programs/programs.py packages definitions")
        where = [f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        completed = subprocess.run(
            [mvn, "--quiet", "--batch-mode", "dependency:copy", *where],
            cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if completed.returncode:
            raise Cannot(f"mvn cannot get {artifact}: {completed.stdout.strip()[-1500:]}")
        for jar in folder.glob("*.jar"):
            if hashlib.sha256(jar.read_bytes()).hexdigest() != sha256:
                raise Cannot(
                    f"{artifact} from Maven Central has other bytes than those pinned here"
                )

    return put
