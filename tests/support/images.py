"""A checkout with one chart and one image, and the engine of this session, for tests that really
build.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from pipeline_steps.config import config_file
from pipeline_steps.config.language import Config
from pipeline_steps.oci.registry import Registry
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State

BUSYBOX = Path("/bin/busybox")
CHART = "apiVersion: v2\nname: hello\nversion: 0.1.0\n"


def checkout(folder: Path, registry: str, image: str = "{context: app}", hosts: str = "") -> Path:
    """A git checkout with pipeline.yaml, charts/hello and app/; committed."""
    write(folder, "charts/hello/Chart.yaml", CHART)
    write(folder, "charts/hello/values.yaml", "image: {repository: x, tag: ''}\n")
    write(folder, "app/Dockerfile", "FROM scratch\nCOPY . /app/\n")
    write(folder, "app/hello", "hello\n")
    entry = (
        '{path: "charts/*", images: {app: {image.repository: "{repository}", image.tag: "{tag}"}}}'
    )
    pipeline = (
        f"charts: [{entry}]\nimages: {{app: {image}}}\nchannels: {{snapshot: {{images: "
        f"{registry}/snap}}}}\n"
    )
    write(folder, "pipeline.yaml", pipeline + (f"hosts: {hosts}\n" if hosts else ""))
    write(folder, ".gitignore", "*.cache\n.pipeline\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "begin"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def opened(folder: Path) -> tuple[Config, State]:
    config = config_file.load([folder / "pipeline.yaml"], environ=os.environ, start=folder)
    return config, State(folder / ".pipeline" / "state.jsonl")


def single_record(result: Record | tuple[Record, ...]) -> Record:
    assert isinstance(result, Record)
    return result


def config_of(client: Registry, path: str, digest: str) -> dict[str, Any]:
    """The image's configuration."""
    manifest = client.manifest(path, digest)
    assert manifest is not None
    data = client.blob(path, manifest.content["config"]["digest"])
    assert data is not None
    document = json.loads(data)
    assert isinstance(document, dict)
    return document


def members(client: Registry, path: str, digest: str) -> dict[str, tarfile.TarInfo]:
    """Every member of the image's layers by name."""
    manifest = client.manifest(path, digest)
    assert manifest is not None
    members_by_name: dict[str, tarfile.TarInfo] = {}
    for layer in manifest.content["layers"]:
        data = client.blob(path, layer["digest"])
        assert data is not None
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members_by_name.update(
                {member.name.strip("/"): member for member in tar if not member.isdir()}
            )
    return members_by_name


def push_base(client: Registry, path: str, tag: str, content: bytes) -> str:
    """An image with one file /base, made by hand."""
    from pipeline_steps.oci.manifest import OCI_MANIFEST
    from pipeline_steps.toolbox.files import sha256

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("base")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    layer = stream.getvalue()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
    }).encode()  # fmt: skip
    kind = "application/vnd.oci.image"
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": f"{kind}.config.v1+json", "digest": sha256(config), "size": len(config)},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": sha256(layer), "size": len(layer)}],
    }).encode()  # fmt: skip
    for blob in (config, layer):
        client.push_blob(path, blob, sha256(blob))
    return client.put_manifest(path, tag, manifest, OCI_MANIFEST)


def slow(folder: Path) -> None:
    """Make the checkout's image one whose build sleeps for a minute."""
    shutil.copy(BUSYBOX, folder / "app/busybox")
    write(
        folder,
        "app/Dockerfile",
        'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "sleep", "61"]\n',
    )


def stopped_while_building(
    folder: Path, sign: str, number: signal.Signals = signal.SIGTERM
) -> tuple[int, float, str]:
    """Run build_image as a process, signal it when `sign` is said; exit code, seconds it took to
    go, what it said.
    """
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline_steps", "build_image", "--all"],
            cwd=folder, stderr=stderr, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        try:
            end = time.monotonic() + 120
            while sign not in _so_far(stderr):
                assert process.poll() is None and time.monotonic() < end, _so_far(stderr)
                time.sleep(0.02)
            began = time.monotonic()
            process.send_signal(number)
            code = process.wait(60)
            return code, time.monotonic() - began, _so_far(stderr)
        finally:
            process.kill()
            process.wait()


def _so_far(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
