"""The node's program, built once and kept outside the checkout, and the image of its pause process."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import time
from pathlib import Path

from tools.machine import cache, installed_at_once, locked, say, seconds_since
from tools.programs.gobuild import Build, build

SOURCES = Path(__file__).resolve().parent
COMPONENTS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)
PAUSE_IMAGE = "localhost/pause:1"


def version() -> str:
    """The version of Kubernetes in go.mod, like v1.34.4."""
    match = re.search(
        r"^\s*k8s\.io/kubernetes (v\S+)$", (SOURCES / "go.mod").read_text(), re.MULTILINE
    )
    assert match is not None, "go.mod requires k8s.io/kubernetes"
    return match[1]


def folder() -> Path:
    """Where the built programs lie; another go.sum, another folder."""
    parts = [
        (SOURCES / name).read_bytes() for name in ("go.sum", "go.mod", "main.go", "pause/main.go")
    ]
    return cache() / "kubernetes" / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def built() -> Path:
    """Folder with `node` (all components) and `pause.tar`, built when it is not there: minutes the
    first time.
    """
    target = folder()
    if not target.exists():
        with locked(cache() / "kubernetes/.lock", "kubernetes"):
            if not target.exists():
                make(target)
    return target


def make(target: Path) -> None:
    start = time.monotonic()
    major, minor = re.findall(r"\d+", version())[:2]
    base = "k8s.io/component-base/version"
    variables = (
        f"{base}.gitVersion={version()}",
        f"{base}.gitMajor={major}",
        f"{base}.gitMinor={minor}",
    )
    with installed_at_once(target) as aside:
        build(Build(SOURCES, (".", "./pause"), variables), aside, "kubernetes")
        (aside / "kubernetes-node").rename(aside / "node")
        (aside / "pause.tar").write_bytes(image((aside / "pause").read_bytes(), PAUSE_IMAGE))
    say(f"kubernetes {version()}: ready in {seconds_since(start)}")


def image(program: bytes, name: str) -> bytes:
    """A docker archive of an image that has one file, /program, and runs it."""
    layer = archive({"program": program}, 0o755)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": architecture(program),
        "os": "linux",
        "config": {"Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps(config).encode(),
    }
    return archive({**files, "layer.tar": layer}, 0o644)


def architecture(program: bytes) -> str:
    """What images call the machine a program is for, from byte 18 of its ELF header."""
    return {0x3E: "amd64", 0xB7: "arm64"}[program[18]]


def archive(files: dict[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
