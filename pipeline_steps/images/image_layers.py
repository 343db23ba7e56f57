"""What is in an image: its configuration and the files of its layers taken together, from a tar or
a registry.

Layers lie in files; of each file in them only the digest is kept, its bytes are read when asked
for. Nothing is unpacked to disk. Source: OCI Image Specification 1.1, "Image Layer Filesystem
Changeset", and `docker save`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import DIGEST, Reference
from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import EvidenceError, MachineError

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_BLOCK = 2**20
#: What tarfile and its decompressors raise for damaged bytes.
_DAMAGE = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)
#: What reading JSON raises that has not what it must have.
_NOT_AS_SPECIFIED: tuple[type[Exception], ...] = (LookupError, TypeError, AttributeError)
_ADVICE = "build or push the image again"


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
        """Every file by path, upper layers over lower ones, what they remove left out.

        Raises MachineError for a layer that cannot be read.
        """
        members: dict[str, Member] = {}
        for number, layer in enumerate(self.layers):
            layer_members: dict[str, Member] = {}
            for name, member, stream in _tar_entries(layer):
                folder, _, base = name.rpartition("/")
                if base == _OPAQUE:
                    _remove_members(members, folder, itself=False)
                elif base.startswith(_WHITEOUT):
                    _remove_members(
                        members, f"{folder}/{base.removeprefix(_WHITEOUT)}".lstrip("/"), itself=True
                    )
                elif name:
                    with _refusing_damage(layer.name):
                        layer_members[name] = _member(member, stream, number)
            # Afterwards: a whiteout is about lower layers, never about files of its own (image
            # specification).
            members.update(layer_members)
        return members

    def read(self, name: str, layer: int, max_bytes: int) -> bytes:
        """The first `max_bytes` bytes of a file, or the target of a link."""
        for path, member, stream in _tar_entries(self.layers[layer]):
            if path == name:
                return stream.read(max_bytes) if stream else member.linkname.encode()
        return b""


def from_registry(reference: Reference, hosts: Mapping[str, Host], folder: Path) -> list[Image]:
    """Every platform of the image, by digest; layers are saved to `folder`.

    Raises EvidenceError when it is gone, MachineError for one that is malformed.
    """
    registry = connect(reference, hosts)
    manifest = registry.manifest(reference.path, reference.name)
    if manifest is None:
        raise EvidenceError(
            "the registry no longer has the recorded image",
            where=str(reference),
            advice="restore it in the registry, or build it again: build_image --again",
        )
    images = []
    for image_manifest in _platforms(registry, reference, manifest):
        digest = image_manifest.config.digest
        data = registry.blob(reference.path, digest)
        if data is None:
            raise EvidenceError(
                f"the registry no longer has the image's configuration {digest}",
                where=str(reference),
                advice="restore it in the registry, or build the image again: build_image --again",
            )
        config = read_config(data, f"{reference}: configuration {digest}")
        layers = tuple(
            _save_layer(registry, reference, layer.digest, folder)
            for layer in image_manifest.layers
        )
        images.append(_image(image_manifest.digest, config, layers))
    return images


def read_config(data: bytes, where: str) -> dict[str, Any]:
    """The configuration of an image. Raises MachineError when it is no JSON object."""
    try:
        config = json_reader.decode(data)
    except ValueError as error:
        raise MachineError(
            f"the image's configuration is not JSON: {error}", where=where, advice=_ADVICE
        ) from error
    if not isinstance(config, dict):
        raise MachineError(
            "the image's configuration is not a JSON object", where=where, advice=_ADVICE
        )
    return config


def _platforms(registry: Registry, reference: Reference, manifest: Manifest) -> Iterator[Manifest]:
    if not manifest.is_index:
        yield manifest
        return
    for child in manifest.children:
        child_manifest = registry.manifest(reference.path, child.digest)
        if child_manifest is None:
            raise EvidenceError(
                f"the registry no longer has a part of the recorded image: {child.digest}",
                where=str(reference),
                advice="restore it in the registry, or build the image again: build_image --again",
            )
        # BuildKit puts attestations into an index as if they were images of a platform "unknown".
        if "layers" in child_manifest.content and "in-toto" not in json.dumps(
            child_manifest.content["layers"]
        ):
            yield child_manifest


def _save_layer(registry: Registry, reference: Reference, digest: str, folder: Path) -> Path:
    if not DIGEST.fullmatch(digest):  # it becomes the name of a file
        raise MachineError(
            f"the image has a layer {digest!r}, which is no sha256",
            where=str(reference),
            advice=_ADVICE,
        )
    path = folder / digest.removeprefix("sha256:")
    if not path.exists():
        with path.open("w+b") as sink:  # it is read again, for its digest
            registry.save_blob(reference.path, digest, sink)
    return path


def from_tar(tar: Path, folder: Path) -> list[Image]:
    """Every platform of an OCI layout, or the images of a `docker save`, in a tar; layers are saved
    to `folder`. Raises MachineError for another tar.
    """
    with _refusing_damage(tar.name, _NOT_AS_SPECIFIED), tarfile.open(tar) as archive:
        members = _Members(archive, folder)
        if "index.json" in members.names:
            return _from_layout(members)
        return [
            _image(
                "",
                read_config(members.blob(descriptor["Config"]), str(descriptor["Config"])),
                tuple(members.saved(name) for name in descriptor["Layers"]),
            )
            for descriptor in json_reader.decode(members.blob("manifest.json"))
        ]


class _Members:
    """The files of a tar by their names. folder: where large ones are saved."""

    def __init__(self, archive: tarfile.TarFile, folder: Path) -> None:
        self._archive, self._folder = archive, folder
        self.names = {member.name: member for member in archive if member.isfile()}

    def _open(self, name: str) -> IO[bytes]:
        stream = self._archive.extractfile(self.names[name])
        assert stream is not None, "only files are listed"
        return stream

    def blob(self, name: str) -> bytes:
        return self._open(name).read()

    def saved(self, name: str) -> Path:
        path = self._folder / hashlib.sha256(name.encode()).hexdigest()
        stream = self._open(name)
        with path.open("wb") as sink:
            while block := stream.read(_BLOCK):
                sink.write(block)
        return path


def _from_layout(members: _Members) -> list[Image]:
    """The images of an OCI layout, of its indexes within indexes, too."""
    digests = [
        str(descriptor["digest"])
        for descriptor in json_reader.decode(members.blob("index.json"))["manifests"]
    ]
    images = []
    known = set(digests)
    while digests:
        digest = digests.pop(0)
        content = json_reader.decode(members.blob(_blob(digest)))
        children = [str(descriptor["digest"]) for descriptor in content.get("manifests", ())]
        digests += [child for child in children if child not in known]
        known.update(children)
        if "layers" in content:
            config_digest = str(content["config"]["digest"])
            config = read_config(members.blob(_blob(config_digest)), config_digest)
            layers = [members.saved(_blob(layer["digest"])) for layer in content["layers"]]
            images.append(_image(digest, config, tuple(layers)))
    return images


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _image(digest: str, config: Mapping[str, Any], layers: tuple[Path, ...]) -> Image:
    return Image(digest, f"{config.get('os', '')}/{config.get('architecture', '')}", config, layers)


def _tar_entries(layer: Path) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    with _refusing_damage(layer.name), tarfile.open(layer, "r:*") as tar:
        for member in tar:
            name = re.sub(r"^(\./|/)+", "", member.name).rstrip("/")
            yield (
                "" if name == "." else name,
                member,
                tar.extractfile(member) if member.isreg() else None,
            )


@contextlib.contextmanager
def _refusing_damage(where: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise MachineError instead of what reading a damaged tar raises. also: further errors."""
    damage = _DAMAGE + also
    try:
        yield
    except damage as error:
        raise MachineError(
            f"the layer cannot be read as a tar: {error}",
            where=where,
            advice="build or push the image again, with layers of gzip: this one is damaged, or has a "
            "compression that this Python cannot read (zstd?)",
        ) from error


def _member(member: tarfile.TarInfo, stream: IO[bytes] | None, layer: int) -> Member:
    kinds = (
        (member.isreg(), "file"),
        (member.isdir(), "folder"),
        (member.issym(), "link"),
        (member.islnk(), "hard link"),
    )
    kind = next((name for holds, name in kinds if holds), "device")
    digest = hashlib.sha256(_link_target(member))
    if stream is not None:
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
    owner = f"{member.uid}:{member.gid}"
    return Member(kind, member.mode & 0o7777, owner, digest.hexdigest(), layer, int(member.mtime))


def _link_target(member: tarfile.TarInfo) -> bytes:
    return member.linkname.encode(errors="surrogateescape")


def _remove_members(members: dict[str, Member], name: str, *, itself: bool) -> None:
    if itself:
        members.pop(name, None)
    below = f"{name}/" if name else ""
    for path in [path for path in members if path.startswith(below)]:
        del members[path]
