"""A small Debian as one compressed tar file, made by debootstrap: a base for images where no registry
of images can be reached.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.machine import Cannot, find_program, need_root

#: What certificates this machine trusts, for package registries that its own network stands before.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def debian(suite: str, packages: Sequence[str]) -> Callable[[Path], None]:
    """Put rootfs.tar.gz of a Debian with some more packages into a folder; needs root."""

    def put(folder: Path) -> None:
        need_root("debootstrap")
        debootstrap = find_program("debootstrap")
        if debootstrap is None:
            raise Cannot("no debootstrap: python3 tools/programs/programs.py packages image")
        # Not below the cache: a file system for users may be mounted without devices.
        with tempfile.TemporaryDirectory(prefix="debootstrap-") as root:
            options = ["--variant=minbase", f"--include={','.join(packages)}"]
            run([debootstrap, *options, suite, root])
            if CERTIFICATES.exists():
                (Path(root) / CERTIFICATES.relative_to("/")).write_bytes(CERTIFICATES.read_bytes())
            excluded = [
                f"--exclude=./{path}" for path in ("var/cache/apt/*", "var/lib/apt/lists/*")
            ]
            what = ["--numeric-owner", "--sort=name", *excluded, "--directory", root, "."]
            run(["tar", "--create", "--gzip", "--file", str(folder / "rootfs.tar.gz"), *what])

    return put


def run(command: list[str]) -> None:
    completed = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if completed.returncode:
        output = f"{completed.stdout[-800:]}{completed.stderr[-800:]}"
        raise Cannot(f"{command[0]} ended with {completed.returncode}:\n{output.rstrip()}")
