"""What an internal user does at the end: an ordinary `helm pull`, here with its digests compared
with the record.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tools.machine import Cannot, say


def settings(overlay: Path) -> dict[str, Any]:
    """The overlay's values: its YAML is JSON below lines of comment."""
    lines = [line for line in overlay.read_text().splitlines() if not line.startswith("#")]
    document: dict[str, Any] = json.loads("\n".join(lines))
    return document


def registry(overlay: Path) -> str:
    """host:port of the sandbox's registry."""
    host: str = next(iter(settings(overlay)["hosts"]))
    return host


def show(checkout: Path, overlay: Path, environment: dict[str, str], program: Path) -> int:
    """Pull the production chart with helm and compare; 0, or 4 when anything differs. Raises
    Cannot.
    """

    def get(name: str) -> str:
        command = [program, "state", "get", "hello", name, "--config", overlay]
        return run([str(word) for word in command], checkout, environment)[0].strip()

    recorded = get("promote.chart")
    reference, _, digest = recorded.partition("@")
    name, _, version = reference.rpartition(":")
    image = get("promote.image:hello")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "helm",
            "pull",
            name,
            "--version",
            version,
            "--plain-http",
            "--destination",
            folder,
        ]
        say(f"demo: {' '.join(command[:-2])}")
        output = "".join(run(command, checkout, environment))
        archive = next(Path(folder).glob("*.tgz"))
        match = re.search(r"Digest:\s*(sha256:[0-9a-f]{64})", output)
        values = member(archive, "hello/values.yaml")
        size = (
            f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}, "
            f"{archive.stat().st_size} bytes"
        )
    checks = {
        f"chart pulled by helm has the recorded digest {digest}": match is not None
        and match[1] == digest,
        f"its values name the tested image {image.partition('@')[2]}": image.partition("@")[2]
        in values,
    }
    say(f"demo: pulled {archive.name}, {size}")
    for words, holds in checks.items():
        say(f"  {'ok ' if holds else 'NOT'} {words}")
    return 0 if all(checks.values()) else 4


def member(archive: Path, name: str) -> str:
    """A text file of a chart archive."""
    with tarfile.open(archive) as chart:
        file = chart.extractfile(name)
        assert file is not None, "a chart has values"
        return file.read().decode()


def run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[str, str]:
    """Run a program that must succeed; both outputs. Raises Cannot."""
    completed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if completed.returncode:
        raise Cannot(
            f"{' '.join(command[:3])} failed with {completed.returncode}: "
            f"{completed.stderr.strip()}"
        )
    return completed.stdout, completed.stderr
