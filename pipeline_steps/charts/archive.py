"""Chart archives: the same files and version give the same tar everywhere; hostile archives are
refused.

The sha256 of the uncompressed tar is a chart's identity, because compression may differ. Nothing is
unpacked to disk. `collect` decides which files belong to a chart, `dependencies` what it depends
on.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import deflate
import msgspec

from pipeline_steps.charts import schema, tar, values
from pipeline_steps.charts.read import (
    LOCKS,
    REQUIREMENTS,
    Metadata,
    read_dependencies,
    read_metadata,
)
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, PipelineError

#: Limits against decompression bombs: bytes of the archive, and its unpacked size as a multiple of
#: that. The ratio counts only above _RATIO_FLOOR bytes.
LARGEST = 20 * 2**20
LARGEST_RATIO = 200
_RATIO_FLOOR = 2**20
#: Headers and padding come on top of the files' bytes.
_LARGEST_TAR = tar.LARGEST_TOTAL + tar.MOST_MEMBERS * 3 * tar.BLOCK
LEVEL = 6
#: Bytes that are decompressed at a time.
_CHUNK = 2**18
REFUSED_ADVICE = "have it packaged again, by helm package; nothing of it was used"


class Files(dict[str, bytes]):
    """The files of a chart: path in the chart → bytes. `executables` are the paths with the x
    bit; `notes` what is odd about the archive they were read from, though helm reads it.
    """

    def __init__(
        self, files: Mapping[str, bytes] | None = None, executables: Iterable[str] = ()
    ) -> None:
        super().__init__(files or {})
        self.executables = frozenset(executables)
        self.notes: tuple[str, ...] = ()


class Archive(msgspec.Struct, frozen=True, eq=False):
    """A packed chart. Two are equal when their bytes are, whoever has read their `fields`.

    tar_digest: of the uncompressed tar, the chart's identity. tgz: the bytes to publish. fields: its
    Chart.yaml (`Metadata.fields`), None where nobody has read it yet.
    """

    name: str
    version: str
    tar_digest: str
    tgz: bytes
    fields: Mapping[str, Any] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Archive) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, str, bytes]:
        return self.name, self.version, self.tar_digest, self.tgz

    @property
    def digest(self) -> str:
        """Digest of the compressed file."""
        return f"sha256:{hashlib.sha256(self.tgz).hexdigest()}"

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"


def pack(files: Mapping[str, bytes], executables: Iterable[str] = (), where: str = "") -> Archive:
    """Pack a chart. Name and version are those of its Chart.yaml.

    Args:
        files: path in the chart → bytes.
        executables: paths of the files with the x bit.
        where: path of the chart, for errors.

    Raises:
        ConfigurationError: a file that cannot be in a chart, or a chart that is too large.
    """
    metadata = metadata_of(files, where)
    for name in files:
        reason = tar.unsafe_reason(f"{metadata.name}/{name}")
        if reason:
            raise ConfigurationError(
                f"the file name {name!a} {reason}", where=where, advice="rename it"
            )
        if len(files[name]) > tar.LARGEST_FILE:
            problem = (
                f"the file has {len(files[name])} bytes, more than {tar.LARGEST_FILE}, which helm "
                "refuses"
            )
            raise ConfigurationError(
                problem, where=_join(where, name), advice="leave it out by .helmignore"
            )
    _check_helm_can_load(files, where)
    collision = tar.colliding_names(files)
    if collision:
        problem = f"{collision[0]!r} and {collision[1]!r} are the same name on some file systems"
        raise ConfigurationError(problem, where=where, advice="rename one of them")
    tar_bytes = tar.write(
        {f"{metadata.name}/{name}": data for name, data in files.items()},
        frozenset(f"{metadata.name}/{name}" for name in executables),
    )
    if len(files) > tar.MOST_MEMBERS or sum(map(len, files.values())) > tar.LARGEST_TOTAL:
        problem = (
            f"the chart has {len(files)} files of {sum(map(len, files.values()))} bytes, too much "
            "for a chart"
        )
        raise ConfigurationError(problem, where=where, advice="leave files out by .helmignore")
    tgz = compress(tar_bytes)
    if len(tgz) > LARGEST or len(tar_bytes) > _unpacked_limit(tgz):
        size = f"packs to {len(tgz)} bytes"
        problem = (
            f"more than {LARGEST}"
            if len(tgz) > LARGEST
            else f"and unpacks to more than {LARGEST_RATIO} times that"
        )
        raise ConfigurationError(
            f"the chart {size}, {problem}", where=where, advice="leave files out by .helmignore"
        )
    return Archive(metadata.name, metadata.version, _sha256(tar_bytes), tgz, metadata.fields)


def compress(stream: bytes) -> bytes:
    """The tar stream as a gzip file without name and time."""
    return bytes(deflate.gzip_compress(stream, LEVEL))


def metadata_of(
    files: Mapping[str, bytes],
    where: str = "",
    error: type[PipelineError] = ConfigurationError,
    *,
    strict: bool = True,
) -> Metadata:
    """The parsed Chart.yaml among `files`, with requirements.yaml. strict: see `read_metadata`.
    Raises `error`.
    """
    if "Chart.yaml" not in files:
        raise error("Chart.yaml is missing", where=where, advice="every chart needs one")
    return read_metadata(
        files["Chart.yaml"],
        _join(where, "Chart.yaml"),
        requirements=files.get(REQUIREMENTS),
        strict=strict,
        error=error,
    )


def unpack(tgz: bytes, where: str = "", error: type[PipelineError] = EvidenceError) -> Files:
    """The checked files of a packed chart.

    where: names the archive in errors. Raises `error`.
    """
    return unpack_with_digest(tgz, where, error)[1]


def open_archive(tgz: bytes, where: str = "") -> Archive:
    """A published archive, checked; its bytes are kept as they are. Raises EvidenceError."""
    digest, files = unpack_with_digest(tgz, where)
    metadata = metadata_of(files, where, EvidenceError, strict=False)
    return Archive(metadata.name, metadata.version, digest, tgz, metadata.fields)


def open_subchart(
    tgz: bytes, where: str = "", error: type[PipelineError] = EvidenceError
) -> Archive:
    """Like `open_archive`, for an archive that will be packed into another chart.

    Also checks that helm can load the chart and everything in its charts/ folder.
    """
    digest, files = unpack_with_digest(tgz, where, error)
    _check_nested_archives(
        files, where, error, tar.LARGEST_TOTAL - sum(map(len, files.values())), 1
    )
    metadata = metadata_of(files, where, error, strict=False)
    return Archive(metadata.name, metadata.version, digest, tgz, metadata.fields)


def _check_nested_archives(
    files: Mapping[str, bytes], where: str, error: type[PipelineError], bytes_left: int, depth: int
) -> int:
    """Check the archives in charts/, recursively.

    bytes_left: how many bytes they may unpack to in total. Returns what remains of that.
    """
    _check_helm_can_load(files, where, error)
    for name, data in files.items():
        folder, _, file_name = name.rpartition("/")
        if (
            not file_name.endswith(".tgz")
            or file_name[0] in "_."
            or folder.rpartition("/")[2] != "charts"
        ):
            continue
        inner = unpack(data, _join(where, name), error)
        bytes_left -= sum(map(len, inner.values())) + tar.BLOCK
        if bytes_left < 0 or depth > tar.DEEPEST:
            problem = "archives lie in archives, too many or too deep"
            raise error(f"this archive is refused: {problem}", where=where, advice=REFUSED_ADVICE)
        bytes_left = _check_nested_archives(inner, _join(where, name), error, bytes_left, depth + 1)
    return bytes_left


def tar_digest(tgz: bytes, where: str = "") -> str:
    """Digest of the uncompressed tar. Raises EvidenceError unless it is a complete gzip file within
    the limits.
    """
    digest = hashlib.sha256()
    for piece in decompress(tgz, where, EvidenceError):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def unpack_with_digest(
    tgz: bytes, where: str = "", error: type[PipelineError] = EvidenceError
) -> tuple[str, Files]:
    """The tar digest and the files of a packed chart, read as a stream.

    Raises `error` naming the member that is refused.
    """

    def refuse(reason: str) -> PipelineError:
        return error(f"this archive is refused: {reason}", where=where, advice=REFUSED_ADVICE)

    digest = hashlib.sha256()
    files: dict[str, bytes] = {}
    executables: list[str] = []
    folders: list[str] = []
    top: str | None = None
    notes: dict[str, None] = {}
    stream = _update_digest(decompress(tgz, where, error), digest)
    for member in tar.read(stream, refuse, notes.setdefault):
        top_of_member, _, rest = member.name.partition("/")
        top = top_of_member if top is None else top
        if top_of_member != top:
            raise refuse(f"it has two top folders, {top!r} and {top_of_member!r}")
        if member.data is None:
            folders.append(rest)
            continue
        if not rest:
            raise refuse(f"the file {member.name!r} is in no folder")
        if rest in files:
            if not rest.startswith("charts/"):
                raise refuse(f"{member.name!r} occurs twice")
            notes[f"{rest} occurs twice; the last counts"] = None
        files[rest] = member.data
        # Only the owner's x bit is kept; other modes depend on the umask of whoever packed.
        if member.mode & 0o100:
            executables.append(rest)
    _check_members(files, folders, top, where, refuse, error)
    found = Files(files, executables)
    found.notes = tuple(notes)
    return f"sha256:{digest.hexdigest()}", found


def _update_digest(pieces: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _check_members(
    files: dict[str, bytes],
    folders: list[str],
    top: str | None,
    where: str,
    refuse: tar.Refuse,
    error: type[PipelineError],
) -> None:
    """Check what concerns all members together: colliding names, one top folder, a Chart.yaml."""
    collision = tar.colliding_names(files)
    if collision:
        raise refuse(
            f"{collision[0]!r} and {collision[1]!r} are the same name on some file systems"
        )
    for folder in folders:
        if folder in files:
            raise refuse(f"{folder!r} is a file and a folder")
    if "Chart.yaml" not in files:
        raise refuse("it has no Chart.yaml")
    # The folder must be the chart's name, as helm expects it when it loads an archive.
    name = metadata_of(files, where, error, strict=False).name
    if name != top:
        raise refuse(f"its folder is {top!r}, its chart is called {name!r}")


def decompress(
    tgz: bytes, where: str = "", error: type[PipelineError] = EvidenceError
) -> Iterator[bytes]:
    """The tar stream in a gzip file of one member, in chunks and within the limits. Raises
    `error`.
    """

    def refuse(reason: str) -> PipelineError:
        return error(f"this archive is refused: {reason}", where=where, advice=REFUSED_ADVICE)

    if len(tgz) > LARGEST:
        raise refuse(f"it has {len(tgz)} bytes, more than {LARGEST}")
    # Magic number and method "deflate" (RFC 1952 §2.3.1).
    if tgz[:3] != b"\x1f\x8b\x08":
        raise refuse("it is not a gzip file")
    limit = bytes_left = _unpacked_limit(tgz)
    # 31 = 16 + 15: a gzip header and a window of 32 KiB.
    decompressor = zlib.decompressobj(31)
    try:
        for start in range(0, len(tgz), _CHUNK):
            pending = tgz[start : start + _CHUNK]
            while pending and not decompressor.eof:
                piece = decompressor.decompress(pending, _CHUNK)
                pending = decompressor.unconsumed_tail
                bytes_left -= len(piece)
                if bytes_left < 0:
                    ratio_reason = f"more than {LARGEST_RATIO} times its size"
                    explanation = (
                        "more than a chart may have" if limit == _LARGEST_TAR else ratio_reason
                    )
                    raise refuse(f"it unpacks to more than {limit} bytes, {explanation}")
                yield piece
            if decompressor.eof:
                # Readers disagree about a second gzip member: Go's reader continues
                # with it, zlib stops.
                trailing = len(decompressor.unused_data) + len(tgz[start + _CHUNK :])
                if trailing:
                    raise refuse(f"{trailing} bytes follow its end")
                return
    except zlib.error as failure:
        raise refuse(f"it is damaged: {failure}")
    raise refuse("it is cut off")


def _unpacked_limit(tgz: bytes) -> int:
    """How many bytes an archive may unpack to."""
    return min(_LARGEST_TAR, max(_RATIO_FLOOR, len(tgz) * LARGEST_RATIO))


def check_loadable(files: Mapping[str, bytes]) -> None:
    """Raises EvidenceError for a chart that helm reads the files of, and cannot load: invalid values,
    locks or schemas, or something in charts/ that is no chart. What schemas refer to is not asked:
    there helm allows more than is packed here.
    """
    for name in LOCKS:
        if name not in files:
            continue
        _, root = yaml_reader.parse(files[name], name, error=EvidenceError)
        locked = root.get("dependencies") if isinstance(root, yaml_reader.Mapping) else root
        if locked is not None and yaml_reader.plain_value(locked) is not None:
            read_dependencies(files[name], name, EvidenceError)
    _check_helm_can_load(files, "", EvidenceError, schemas=False)


def _check_helm_can_load(
    files: Mapping[str, bytes],
    where: str,
    error: type[PipelineError] = ConfigurationError,
    *,
    schemas: bool = True,
) -> None:
    """Refuse what helm cannot load: invalid values or schema, or something in charts/ that is no
    chart.
    """
    for name, data in files.items():
        folder, _, file_name = name.rpartition("/")
        if file_name == "values.yaml" and _is_chart(folder, files):
            values.check(data, _join(where, name), error)
        if file_name == "values.schema.json" and _is_chart(folder, files):
            (schema.check if schemas else schema.check_syntax)(data, _join(where, name), error)
        if name.startswith("charts/"):
            entry = name.split("/")[1]
            vendored = entry.endswith(".tgz") and name == f"charts/{entry}"
            skipped_by_helm = entry[0] in "_." or name.endswith(".prov")
            if not (vendored or skipped_by_helm or f"charts/{entry}/Chart.yaml" in files):
                advice = "only charts belong there: move it, or name it in .helmignore"
                raise error(
                    "it is in charts/ and no chart, which helm refuses",
                    where=_join(where, name),
                    advice=advice,
                )


def _is_chart(folder: str, files: Mapping[str, bytes]) -> bool:
    """Whether `folder` is the chart itself, or a chart in some charts/ folder."""
    parts = folder.split("/") if folder else []
    return (
        set(parts[::2]) <= {"charts"}
        and len(parts) % 2 == 0
        and _join(folder, "Chart.yaml") in files
    )


def _join(where: str, name: str) -> str:
    return f"{where}/{name}" if where else name


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
