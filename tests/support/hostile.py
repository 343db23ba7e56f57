"""Archives that must be refused, each made here by a few lines."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import string
import tarfile
import zlib
from collections.abc import Iterator

CHART = b"apiVersion: v2\nname: a\nversion: 1.0.0\n"


def tar(
    *members: tuple[str, bytes], with_chart: bool = True, format: int = tarfile.PAX_FORMAT
) -> bytes:
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


def header(
    name: str = "a/x", *, size: bytes | None = None, mode: bytes | None = None, wrong: bool = False
) -> bytes:
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


def repeated(block: bytes, times: int) -> bytes:
    """The gzip file of `block` many times over, made without ever holding what it unpacks to."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = machine.compress(block) + machine.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    trailer = checksum.to_bytes(4, "little") + (len(block) * times % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + piece * times + end + trailer


def metadata() -> Iterator[tuple[str, bytes, str]]:
    """Chart.yaml that no reader may take: name, bytes and what the refusal must say."""
    named = CHART.replace(b"name: a", b"name: %s").__mod__
    version = CHART.replace(b"1.0.0", b"%s").__mod__
    for name, data, why in [
        ("version with a "
            "path", version(b"1.0.0+../../x"), "SemVer"), ("version like "
                "1e3", version(b"1e3"), "SemVer"),
        ("version with a line end", version(b'"1.0.0\\n"'), "SemVer"),
        ("version with a sign of terminals", version(b'"1.0.0\\e[31m"'), "control characters"),
        ("version as a "
            "list", version(b"[1.0.0]"), "version is not a "
                "text"), ("no version", version(b""), "is missing"),
        ("name with a path", named(b"../a"), "is not allowed"),
        ("name with a line end", named(b'"a\\nb"'), "is not allowed"),
        ("name that is an option", named(b"-rf"), "is not allowed"),
        ("name that a shell runs", named(b"$(id)"), "is not allowed"),
        ("name .", named(b"."), "is not allowed"), ("name ..", named(b".."), "is not allowed"),
        ("name with an emoji", named("\U0001f600".encode()), "is not allowed"),
        ("name of 300 letters", named(b"a" * 300), "is not allowed"),
        ("name that is null", named(b"null"), "is missing"),
        ("null maintainer", CHART + b"maintainers: [null]\n", "maintainers is not a mapping"),
        ("list for a map", CHART + b"annotations: [a]\n", "annotations is not a mapping"),
        ("map for a list", CHART + b"dependencies: {a: b}\n", "dependencies is not a list"),
        ("null "
            "dependency", CHART + b"dependencies: [null]\n", "an entry of dependencies is not a mapping"),
        ("alias with a line "
            "end", CHART + b'dependencies: [{name: x, alias: "a\\nb"}]\n', "is not allowed"),
        ("two dependencies of one "
            "name", CHART + b"dependencies: [{name: x}, {name: x}]\n", "are called 'x'"),
        ("description with a sign of "
            "terminals", CHART + b'description: "\\e[31m"\n', "control characters"),
        ("duplicate key that renames", CHART + b"name: b\n", "its folder is 'a'"),
        ("two documents", CHART + b"---\na: b\n", "a second YAML document"),
        ("alias "
            "bomb", CHART + b"a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "the alias *a is not read"),
        ("merge bomb", CHART + b"a: &a {x: y}\nb: {<<: [*a, *a]}\n", "the alias *a is not read"),
        ("Python object", CHART + b"home: !!python/object/apply:os.system [id]\n", "is not read"),
        ("deep nesting", CHART + b"a: " + b"[" * 10_000 + b"]" * 10_000, "nested deeper"),
        ("large scalar", CHART + b"a: " + b"x" * (5 * 2**20 - 100), "unpacks to more than"),
        ("UTF-16", CHART.decode().encode("utf-16"), "not "
            "UTF-8"), ("tab", CHART + b"a:\n\tb: c\n", "not YAML"),
        ("not "
            "UTF-8", CHART + b"home: \xff\n", "not "
                "UTF-8"), ("NUL", CHART + b"home: \0\n", "not YAML"),
        ("empty "
            "file", b"", "is not a "
                "mapping"), ("unknown apiVersion", CHART.replace(b"v2", b"v9"), "is not v1 or v2"),
        ("unknown type", CHART + b"type: job\n", "neither application"),
    ]:  # fmt: skip
        yield f"Chart.yaml: {name}", data, why


def odd() -> Iterator[tuple[str, bytes]]:
    """Archives that are taken, and must do nothing but be the chart a 1.0.0."""
    plain = gzip.compress(tar(), mtime=0)
    header_texts = b"\x05\0evil\0" + b"../evil\0" + b"../../evil\0"  # extra field, name and comment
    yield (
        "gzip header with extra, name and comment",
        plain[:3] + b"\x1c" + plain[4:10] + header_texts + plain[10:],
    )
    keys = map("".join, itertools.islice(itertools.product(string.ascii_letters, repeat=4), 10**6))
    yield (
        "values.yaml of 1,000,000 keys",
        gzip.compress(tar(("a/values.yaml", f"{{{','.join(keys)}}}".encode()))),
    )


def unloadable() -> Iterator[tuple[str, bytes, str]]:
    """Archives that are well made and that helm cannot load: name, bytes and what the refusal must
    say.
    """
    zipped = gzip.compress
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{after}: &{after} [{','.join(['*' + before] * 9)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for name, data, why in [
        ("a list", b"- a\n", "a mapping of keys"), ("no YAML", b"a: [", "not YAML"),
        ("alias bomb", bomb.encode(), "repeat too much"),
        ("UTF-16", "a: "
            "b\n".encode("utf-16"), "not "
                "UTF-8"), ("deep nesting", b"a: " + b"[" * 20_000, "nested deeper"),
    ]:  # fmt: skip
        yield f"values.yaml: {name}", zipped(tar(("a/values.yaml", data))), why
    yield "schema that is not JSON", zipped(tar(("a/values.schema.json", b"{"))), "not JSON"
    for description, reference, why in (
        ("a "
            "device", b"/dev/null", "it refers to "
                "'/dev/null'"), ("a file", b"file:///etc/hostname", "refers to 'file:"),
        ("a web "
            "server", b"http://127.0.0.1:1/x", "refers to "
                "'http:"), ("itself", b"#", "to itself in a circle"),
    ):  # fmt: skip
        referring = b'{"$ref": "%s"}' % reference
        yield (
            f"schema that refers to {description}",
            zipped(tar(("a/values.schema.json", referring))),
            why,
        )
    yield "deep schema", zipped(tar(("a/values.schema.json", b"[" * 100_000))), "not JSON"
    yield "file in charts", zipped(tar(("a/charts/README.md", b""))), "in charts/ and no chart"
    yield (
        "folder in charts that is no chart",
        zipped(tar(("a/charts/x/values.yaml", b""))),
        "in charts/ and no chart",
    )
    yield "broken archive in charts", zipped(tar(("a/charts/x.tgz", b"x"))), "not a gzip file"
    yield (
        "bomb in charts",
        zipped(tar(("a/charts/x.tgz", repeated(bytes(2**20), 300)))),
        "unpacks to more than",
    )
    nested = zipped(tar())
    for _ in range(30):
        nested = zipped(tar(("a/charts/a.tgz", nested)))
    yield "thirty archives in each other", nested, "too many or too deep"
    almost = (
        (f"a/{n}", hashlib.shake_128(bytes([n])).digest(2**19) + bytes(4 * 2**20))
        for n in range(22)
    )
    yield (
        "almost 100 MiB, then a name with .. inside",
        gzip.compress(tar(*almost, ("a/x/../y", b"")), 1),
        "contains ..",
    )
    large = zipped(
        tar(
            *(
                (f"a/{n}", hashlib.shake_128(bytes([n])).digest(2**18) + bytes(3 * 2**20))
                for n in range(4)
            )
        )
    )
    yield (
        "archives that are large together",
        zipped(tar(*((f"a/charts/{n}.tgz", large) for n in range(12)))),
        "too many",
    )


def archives() -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes and what the refusal must say."""
    zipped = gzip.compress
    for name, data, why in metadata():
        yield name, zipped(tar(("a/Chart.yaml", data), with_chart=False)), why
    for called, name, why in [
        ("..", "a/../x", "contains "
            ".."), (".. first", "../x", "contains .."), (".. alone", "..", "contains .."),
        (". alone", ".", "has an empty part"), (". inside", "a/./x", "has an empty part"),
        ("//", "a//x", "has an empty part"),
        ("/ "
            "first", "/a/x", "is "
                "absolute"), ("c: "
                    "first", "c:/x", "is a drive"), ("c: inside", "a/c:/x", "is a drive"),
        ("\\", "a/b\\..\\c", "contains a "
            "backslash"), ("signs of terminals", "a/x\x1b[31m", "control characters"),
        ("letters that run backwards", "a/\u202egpj.exe", "control characters"),
        ("30 "
            "folders", "a/" + "d/" * 30 + "x", "is "
                "deeper"), ("2048 folders", "a/" + "n/" * 2048 + "x", "is deeper"),
        ("300 letters", "a/" + "n" * 300, "is too long"),
    ]:  # fmt: skip
        yield f"name of a file with {called}", zipped(tar((name, b""))), why
    yield "name of a file that is not UTF-8", zipped(header("a/\udcff")), "is not UTF-8"
    yield "member without a name", zipped(header("")), "no name"
    yield "second top folder", zipped(tar(("b/x", b""))), "two top folders"
    yield "file without folder", zipped(tar(("x", b""))), "two top folders"
    yield (
        "Chart.yaml at the root",
        zipped(tar(("Chart.yaml", CHART), with_chart=False)),
        "is in no folder",
    )
    yield "two Chart.yaml", zipped(tar(("a/Chart.yaml", CHART))), "occurs twice"
    yield (
        "case twins",
        zipped(tar(("a/x", b""), ("a/X", b""))),
        "the same name on some file systems",
    )
    yield (
        "chart.yaml beside Chart.yaml",
        zipped(tar(("a/chart.yaml", b""))),
        "the same name on some file systems",
    )
    yield (
        "Unicode twins",
        zipped(tar(("a/\u00e9", b""), ("a/e\u0301", b""))),
        "the same name on some file systems",
    )
    yield (
        "file and folder",
        zipped(tar(("a/x", b""), ("a/x/y", b""))),
        "the same name on some file systems",
    )
    yield "no Chart.yaml", zipped(tar(("a/x", b""), with_chart=False)), "it has no Chart.yaml"
    yield (
        "folder with another name than the chart",
        zipped(tar(("b/Chart.yaml", CHART), with_chart=False)),
        "its chart is called 'a'",
    )
    for kind, case in {
        tarfile.SYMTYPE: "a symbolic "
            "link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a "
            "device", tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file",
        tarfile.CONTTYPE: "of the unknown kind '7'", b"Z": "of the unknown kind 'Z'",
    }.items():  # fmt: skip
        yield (
            f"member that is {case} (kind {kind.decode()})",
            zipped(special(kind, link="/etc/passwd")),
            case,
        )
    yield (
        "Chart.lock as a link",
        zipped(special(tarfile.SYMTYPE, "a/Chart.lock", "/etc/passwd")),
        "a symbolic link",
    )
    through = special(tarfile.SYMTYPE, "a/x", "/tmp")[:-1024] + tar(
        ("a/x/y", b""), with_chart=False
    )
    yield "a link and a file through it", zipped(through), "a symbolic link"
    yield "NUL in a pax name", zipped(pax(b"14 path=a/y\0z\n")), "readers would disagree"
    yield (
        "GNU long name",
        zipped(tar(("a/" + "n" * 120, b""), format=tarfile.GNU_FORMAT)),
        "a GNU long name",
    )
    yield "global header", zipped(special(b"g")), "a global header"
    yield "setuid bit", zipped(special(tarfile.REGTYPE, mode=0o4755)), "setuid"
    yield (
        "size of a folder",
        zipped(special(tarfile.DIRTYPE, "a/d", size=1)),
        "the folder 'a/d/' has a size",
    )
    yield "negative size", zipped(header(size=b"\xff" * 12)), "is not an octal number"
    yield "huge size", zipped(header(size=b"77777777777\0")), "more than 5242880"
    yield "size beyond the end", zipped(header(size=b"00000100000\0")), "it is cut off in 'a/x'"
    yield "wrong checksum", zipped(header(wrong=True)), "its checksum is wrong"
    yield "pax name of an ordinary file", zipped(pax(b"12 path=a/y\n")), "readers would disagree"
    yield "pax size", zipped(pax(b"10 size=9\n")), "sets 'size'"
    yield "pax link", zipped(pax(b"14 linkpath=/\n")), "sets 'linkpath'"
    yield "pax sparse", zipped(pax(b"22 GNU.sparse.major=1\n")), "sets 'GNU.sparse.major'"
    long = b"%d comment=%s\n" % (6 * 2**20, b"x" * (6 * 2**20 - 17))
    yield "long pax header", zipped(pax(long)), "has 6291456 bytes, more than 5242880"
    yield "pax damaged", zipped(pax(b"99 path=a/y\n")), "is damaged"
    yield (
        "file above 5 MiB",
        zipped(tar(("a/x", bytes(5 * 2**20 + 1)))),
        "has 5242881 bytes, more than 5242880",
    )
    yield "bomb of 300 MiB", repeated(bytes(2**20), 300), "unpacks to more than"
    folder = tarfile.TarInfo("a/x")
    folder.type = tarfile.DIRTYPE
    yield (
        "a million members",
        repeated(folder.tobuf(tarfile.USTAR_FORMAT) * 2048, 489),
        "more than 10000 members",
    )
    yield (
        "many members",
        zipped(tar(*((f"a/{number}", b"") for number in range(10_000)))),
        "more than 10000 members",
    )
    yield "trailing garbage", zipped(tar()) + b"x", "1 bytes follow its end"
    yield "two gzip members", zipped(tar()) + zipped(tar()), "bytes follow its end"
    yield "garbage behind the tar", zipped(tar() + b"x" * 512), "data follows the end"
    yield "second tar behind the tar", zipped(tar() + tar()), "data follows the end"
    yield "no end of the tar", zipped(tar()[:1024]), "it is cut off"
    yield "half an end of the tar", zipped(tar()[:1536]), "it is cut off"
    yield "not gzip", tar(), "not a gzip file"
    yield "zstd", b"\x28\xb5\x2f\xfd" + bytes(20), "not a gzip file"
    yield "zip", b"PK\x03\x04" + bytes(30), "not a gzip file"
    yield "raw deflate", zlib.compress(tar()), "not a gzip file"
    yield (
        "damaged gzip file",
        zipped(tar())[:60] + b"\0\0\0\0" + zipped(tar())[64:],
        "it is damaged",
    )
    yield "empty file", b"", "not a gzip file"
    yield "empty tar", zipped(bytes(1024)), "it has no Chart.yaml"
