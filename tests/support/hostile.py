"""Archives that must be refused, each made here by a few lines."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator

CHART = b"apiVersion: v2\nname: a\nversion: 1.0.0\n"


def tar(*members: tuple[str, bytes], with_chart: bool = True, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar stream of files, a good Chart.yaml first."""
    buffer = io.BytesIO()
    every = [("a/Chart.yaml", CHART), *members] if with_chart else list(members)
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in every:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(kind: bytes, name: str = "a/x", link: str = "", **more: object) -> bytes:
    """A tar stream with one member of a special kind behind a good Chart.yaml."""
    buffer = io.BytesIO(tar()[:1024])
    buffer.seek(0, io.SEEK_END)
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in more.items():
        setattr(info, key, value)
    return buffer.getvalue() + info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def header(name: str = "a/x", *, size: bytes | None = None, mode: bytes | None = None, wrong: bool = False) -> bytes:
    """A tar stream with one header forged behind a good Chart.yaml."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    if size is not None:
        block[124:136] = size
    if mode is not None:
        block[100:108] = mode
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) + wrong)
    return tar()[:1024] + bytes(block) + bytes(1024)


def pax(records: bytes) -> bytes:
    """A tar stream with an extended header made of `records`."""
    info = tarfile.TarInfo("a/header")
    info.type, info.size = b"x", len(records)
    body = info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    return tar()[:1024] + body + tarfile.TarInfo("a/x").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def archives() -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes and what the refusal must say."""
    zipped = gzip.compress
    for name, why in {
        "a/../x": "contains ..", "/a/x": "is absolute", "a/c:/x": "is a drive", "c:/x": "is a drive",
        "a/b\\..\\c": "contains a backslash", "a//x": "has an empty part", "a/./x": "has an empty part",
        "../x": "contains ..", "..": "contains ..", "a/x\x1b[31m": "control characters",
        "a/\u202egpj.exe": "control characters", "a/" + "d/" * 30 + "x": "is deeper", "a/" + "n" * 300: "is too long",
    }.items():  # fmt: skip
        yield f"name {ascii(name)[:30]}", zipped(tar((name, b""))), why
    yield "other encoding", zipped(header("a/\udcff")), "is not UTF-8"
    yield "empty name", zipped(header("")), "no name"
    yield "second top folder", zipped(tar(("b/x", b""))), "two top folders"
    yield "file without folder", zipped(tar(("x", b""))), "two top folders"
    yield "Chart.yaml at the root", zipped(tar(("Chart.yaml", CHART), with_chart=False)), "is in no folder"
    yield "two Chart.yaml", zipped(tar(("a/Chart.yaml", CHART))), "is there twice"
    yield "case twins", zipped(tar(("a/x", b""), ("a/X", b""))), "one name on some file systems"
    yield "chart.yaml beside Chart.yaml", zipped(tar(("a/chart.yaml", b""))), "one name on some file systems"
    yield "Unicode twins", zipped(tar(("a/\u00e9", b""), ("a/e\u0301", b""))), "one name on some file systems"
    yield "file and folder", zipped(tar(("a/x", b""), ("a/x/y", b""))), "one name on some file systems"
    yield "no Chart.yaml", zipped(tar(("a/x", b""), with_chart=False)), "it has no Chart.yaml"
    yield "other chart name", zipped(tar(("b/Chart.yaml", CHART), with_chart=False)), "its chart is called 'a'"
    yield "duplicate key", zipped(tar(("a/Chart.yaml", CHART + b"name: b\n"), with_chart=False)), "is there twice"
    yield "loose version", zipped(tar(("a/Chart.yaml", CHART.replace(b"1.0.0", b'"1.0"')), with_chart=False)), "SemVer"
    for kind, what in {
        tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file",
        tarfile.CONTTYPE: "of the unknown kind '7'", b"Z": "of the unknown kind 'Z'",
    }.items():  # fmt: skip
        yield f"kind {what} {kind!r}", zipped(special(kind, link="/etc/passwd")), what
    yield "GNU long name", zipped(tar(("a/" + "n" * 120, b""), format=tarfile.GNU_FORMAT)), "a GNU long name"
    yield "global header", zipped(special(b"g")), "a global header"
    yield "setuid", zipped(special(tarfile.REGTYPE, mode=0o4755)), "setuid"
    yield (
        "size of a folder",
        zipped(header("a/d/", size=b"00000000001\0")[: 156 + 1024] + b"5" + header()[1181:]),
        "damaged",
    )
    yield "negative size", zipped(header(size=b"\xff" * 12)), "is not an octal number"
    yield "huge size", zipped(header(size=b"77777777777\0")), "more than 5242880"
    yield "size beyond the end", zipped(header(size=b"00000100000\0")), "it is cut off in 'a/x'"
    yield "wrong checksum", zipped(header(wrong=True)), "its checksum is wrong"
    yield "pax name of an ordinary file", zipped(pax(b"12 path=a/y\n")), "readers would disagree"
    yield "pax size", zipped(pax(b"10 size=9\n")), "sets 'size'"
    yield "pax link", zipped(pax(b"14 linkpath=/\n")), "sets 'linkpath'"
    yield "pax sparse", zipped(pax(b"22 GNU.sparse.major=1\n")), "sets 'GNU.sparse.major'"
    yield "pax damaged", zipped(pax(b"99 path=a/y\n")), "is damaged"
    yield "large file", zipped(tar(("a/x", bytes(5 * 2**20 + 1)))), "unpacks to more than"
    yield "bomb", zipped(bytes(300 * 2**20), 9), "unpacks to more than"
    yield "many members", zipped(tar(*((f"a/{number}", b"") for number in range(10_000)))), "more than 10000 members"
    yield "trailing garbage", zipped(tar()) + b"x", "1 bytes follow its end"
    yield "two gzip members", zipped(tar()) + zipped(tar()), "bytes follow its end"
    yield "garbage behind the tar", zipped(tar() + b"x" * 512), "something follows the end"
    yield "second tar behind the tar", zipped(tar() + tar()), "something follows the end"
    yield "no end", zipped(tar()[:1024]), "it is cut off"
    yield "half an end", zipped(tar()[:1536]), "it is cut off"
    yield "not gzip", tar(), "not a gzip file"
    yield "zstd", b"\x28\xb5\x2f\xfd" + bytes(20), "not a gzip file"
    yield "zip", b"PK\x03\x04" + bytes(30), "not a gzip file"
    yield "raw deflate", zlib.compress(tar()), "not a gzip file"
    yield "damaged", zipped(tar())[:60] + b"\0\0\0\0" + zipped(tar())[64:], "it is damaged"
    yield "empty", b"", "not a gzip file"
    yield "empty tar", zipped(bytes(1024)), "it has no Chart.yaml"
