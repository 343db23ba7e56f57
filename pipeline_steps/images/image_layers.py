"""What is in an image: its configuration and the files of its layers taken together, from a tar or
a registry.

Layers lie in files; of each file in them only the digest is kept, its bytes are read when asked
for. Nothing is unpacked to disk. Source: OCI Image Specification 1.1, "Image Layer Filesystem
Changeset", and `docker save`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox.errors import EvidenceError, MachineError

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_BLOCK = 2**20


class Member(NamedTuple):
    """A file of an image. kind: "file", "folder", "link", "hard link" or "device". digest: of its
    bytes, or of the target of a link. layer: number of the layer it is from; mode: permission bits;
    owner: like "0:0"; time: seconds.
    """

    kind: str
    mode: int
    owner: str
    digest: str
    layer: int
    time: int


class Image(NamedTuple):
    """One platform of an image. digest: of its manifest, "" when it has none. layers: files, lowest
    first.
    """

    digest: str
    platform: str
    config: Mapping[str, Any]
    layers: tuple[Path, ...]

    def members(self) -> dict[str, Member]:
        """Every file by path, upper layers over lower ones, what they remove left out."""
        found: dict[str, Member] = {}
        for number, layer in enumerate(self.layers):
            here: dict[str, Member] = {}
            for name, member, stream in _entries(layer):
                folder, _, base = name.rpartition("/")
                if base == _OPAQUE:
                    _remove(found, folder, itself=False)
                elif base.startswith(_WHITEOUT):
                    _remove(
                        found, f"{folder}/{base.removeprefix(_WHITEOUT)}".lstrip("/"), itself=True
                    )
                elif name:
                    here[name] = _member(member, stream, number)
            found.update(here)
        return found

    def data(self, name: str, layer: int, most: int) -> bytes:
        """The first `most` bytes of a file, or the target of a link."""
        for path, member, stream in _entries(self.layers[layer]):
            if path == name:
                return stream.read(most) if stream else member.linkname.encode()
        return b""


def from_registry(reference: Reference, hosts: Mapping[str, Host], folder: Path) -> list[Image]:
    """Every platform of the image, by digest; layers are saved to `folder`. Raises EvidenceError
    when it is gone.
    """
    registry = connect(reference, hosts)
    manifest = registry.manifest(reference.path, reference.name)
    if manifest is None:
        raise EvidenceError("the recorded image is gone", where=str(reference))
    found = []
    for one in _platforms(registry, reference, manifest):
        described = one.content["config"]
        config = registry.blob(reference.path, described["digest"])
        if config is None:
            raise EvidenceError(
                f"the configuration {described['digest']} is gone", where=str(reference)
            )
        layers = tuple(
            _saved(registry, reference, layer["digest"], folder) for layer in one.content["layers"]
        )
        found.append(_image(one.digest, json.loads(config), layers))
    return found


def _platforms(registry: Registry, reference: Reference, manifest: Manifest) -> Iterator[Manifest]:
    if not manifest.is_index:
        yield manifest
        return
    for child in manifest.children:
        one = registry.manifest(reference.path, child.digest)
        if one is None:
            raise EvidenceError(
                f"a part of the recorded image is gone: {child.digest}", where=str(reference)
            )
        if "layers" in one.content and "in-toto" not in json.dumps(one.content["layers"]):
            yield one


def _saved(registry: Registry, reference: Reference, digest: str, folder: Path) -> Path:
    place = folder / digest.removeprefix("sha256:")
    if not place.exists():
        with place.open("w+b") as sink:  # it is read again, for its digest
            registry.save_blob(reference.path, digest, sink)
    return place


def from_tar(tar: Path, folder: Path) -> list[Image]:
    """Every platform of an OCI layout, or the images of a `docker save`, in a tar; layers are saved
    to `folder`.
    """
    with tarfile.open(tar) as opened:
        names = {member.name: member for member in opened if member.isfile()}

        def blob(name: str) -> bytes:
            stream = opened.extractfile(names[name])
            assert stream is not None, "only files are listed"
            return stream.read()

        def layer(name: str) -> Path:
            place = folder / hashlib.sha256(name.encode()).hexdigest()
            stream = opened.extractfile(names[name])
            assert stream is not None, "only files are listed"
            with place.open("wb") as sink:
                while block := stream.read(_BLOCK):
                    sink.write(block)
            return place

        if "index.json" in names:
            waiting = [str(one["digest"]) for one in json.loads(blob("index.json"))["manifests"]]
            found = []
            while waiting:
                digest = waiting.pop(0)
                content = json.loads(blob(_blob(digest)))
                waiting += [str(one["digest"]) for one in content.get("manifests", ())]
                if "layers" in content:
                    config = json.loads(blob(_blob(content["config"]["digest"])))
                    found.append(
                        _image(
                            digest,
                            config,
                            tuple(layer(_blob(one["digest"])) for one in content["layers"]),
                        )
                    )
            return found
        return [
            _image(
                "", json.loads(blob(one["Config"])), tuple(layer(name) for name in one["Layers"])
            )
            for one in json.loads(blob("manifest.json"))
        ]


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _image(digest: str, config: Mapping[str, Any], layers: tuple[Path, ...]) -> Image:
    return Image(digest, f"{config.get('os', '')}/{config.get('architecture', '')}", config, layers)


def _entries(layer: Path) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    try:
        with tarfile.open(layer, "r:*") as tar:
            for member in tar:
                name = re.sub(r"^(\./|/)+", "", member.name).rstrip("/")
                yield (
                    "" if name == "." else name,
                    member,
                    tar.extractfile(member) if member.isreg() else None,
                )
    except tarfile.ReadError as error:
        advice = "compressed in a way that this Python cannot read (zstd?)"
        raise MachineError(
            f"cannot read a layer: {error}", where=layer.name, advice=advice
        ) from error


def _member(member: tarfile.TarInfo, stream: IO[bytes] | None, layer: int) -> Member:
    kinds = (
        (member.isreg(), "file"),
        (member.isdir(), "folder"),
        (member.issym(), "link"),
        (member.islnk(), "hard link"),
    )
    kind = next((name for holds, name in kinds if holds), "device")
    digest = hashlib.sha256(member.linkname.encode())
    if stream is not None:
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
    owner = f"{member.uid}:{member.gid}"
    return Member(kind, member.mode & 0o7777, owner, digest.hexdigest(), layer, int(member.mtime))


def _remove(found: dict[str, Member], name: str, *, itself: bool) -> None:
    if itself:
        found.pop(name, None)
    below = f"{name}/" if name else ""
    for path in [path for path in found if path.startswith(below)]:
        del found[path]
