"""Packing is the same everywhere; what could hurt is refused by name; helm's own packages are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.charts import archive, tar
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from tests.support import hostile

CHART = b"apiVersion: v2\nname: hello\nversion: 1.2.3\n"
FILES = {
    "values.yaml": b"a: 1\n",
    "Chart.yaml": CHART,
    "templates/a.yaml": b"",
    "run.sh": b"#!/bin/sh\n",
    ".helmignore": b"*.bak\n",
    "deep/" * 18 + "x": b"deep",
    "l" * 120 + ".txt": b"long",
    "größe/☃.txt": b"snow",
}


def test_pack_writes_a_tar_that_tarfile_reads() -> None:
    packed = archive.pack(FILES, {"run.sh"})
    assert (packed.name, packed.version, packed.file_name) == ("hello", "1.2.3", "hello-1.2.3.tgz")
    with tarfile.open(fileobj=io.BytesIO(packed.tgz)) as read:
        members = read.getmembers()
        contents = {member.name: read.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert contents == {f"hello/{name}": data for name, data in FILES.items()}
    assert [m.name for m in members] == sorted((f"hello/{name}" for name in FILES), key=str.encode)
    assert {m.mtime for m in members} == {tar.EPOCH}
    assert {(m.uid, m.gid, m.uname, m.gname, m.type) for m in members} == {
        (0, 0, "", "", tarfile.REGTYPE)
    }
    assert {m.name: m.mode for m in members}["hello/run.sh"] == 0o755
    assert {m.mode for m in members if m.name != "hello/run.sh"} == {0o644}
    assert packed.tgz[3:8] == bytes(5), "the gzip header has neither name nor time"
    assert gzip.decompress(packed.tgz)[-1024:] == bytes(1024)


def test_pack_gives_the_recorded_tar_digest() -> None:
    """The identity of released charts: a change of these bytes is a change of every chart's digest."""
    digest = "sha256:862bd96970010e9f1d1422bb0588026c3b76a3ff185a1dbaf24142c603051fc7"
    assert archive.pack(FILES, {"run.sh"}).tar_digest == digest
    assert archive.pack(dict(reversed(list(FILES.items()))), ["run.sh"]).tar_digest == digest


def test_pack_gives_the_same_tar_whatever_locale_and_time() -> None:
    program = (
        "import tests.unit.test_charts_archive as t; from pipeline_steps.charts import archive;"
        "print(archive.pack(t.FILES, {'run.sh'}).tar_digest)"
    )
    expected = archive.pack(FILES, {"run.sh"}).tar_digest
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    for seed, zone, locale in (("1", "Asia/Tokyo", "C"), ("2", "America/New_York", "C.UTF-8")):
        environment = {"PYTHONPATH": path, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        found = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert found.stdout.strip() == expected, found.stderr


part = st.text("aB.-é ", min_size=1, max_size=40).filter(lambda text: text not in (".", ".."))
names = st.lists(part, min_size=1, max_size=5).map("/".join)


@given(st.dictionaries(names, st.binary(max_size=1500), max_size=6), st.data())
def test_unpack_returns_the_packed_files(files: dict[str, bytes], data: st.DataObject) -> None:
    files = {**files, "Chart.yaml": CHART}
    executables = data.draw(st.sets(st.sampled_from(sorted(files))))
    if tar.colliding_names(files):
        return
    packed = archive.pack(files, executables)
    read = archive.unpack(packed.tgz)
    assert read == files
    assert read.executables == executables
    again = archive.pack(read, read.executables)
    assert again == packed
    assert archive.open_archive(packed.tgz) == packed
    assert archive.tar_digest(gzip.compress(gzip.decompress(packed.tgz), 1)) == packed.tar_digest


@pytest.mark.parametrize(
    ("data", "why"), [pytest.param(data, why, id=name) for name, data, why in hostile.archives()]
)
def test_hostile_archives_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        archive.unpack(data, "x.tgz")
    assert why in str(raised.value)
    assert str(raised.value).startswith("x.tgz")


def test_every_truncation_is_refused() -> None:
    whole = archive.pack(FILES).tgz
    for length in range(0, len(whole), 16):
        with pytest.raises(EvidenceError):
            archive.unpack(whole[:length])
    stream = gzip.decompress(whole)
    for length in range(0, len(stream) - 512, 512):
        with pytest.raises(EvidenceError):
            archive.unpack(gzip.compress(stream[:length], 1))


@given(st.binary(max_size=600), st.integers(0, 3000))
def test_damaged_archives_raise_no_other_error(junk: bytes, place: int) -> None:
    stream = bytearray(gzip.decompress(archive.pack(FILES).tgz))
    stream[place : place + len(junk)] = junk
    with contextlib.suppress(EvidenceError):
        archive.unpack(gzip.compress(bytes(stream), 1))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Chart.yaml": b""}, "c/Chart.yaml: Chart.yaml is not a mapping"),
        ({"x\\y": b""}, "c: the file name 'x\\\\y' contains a backslash (rename it)"),
        ({"VALUES.yaml": b""}, "are the same name on some file systems (rename one of them)"),
        ({"big": bytes(6 * 2**20)}, "c/big: the file has 6291456 bytes"),
        ({"values.schema.json": b"{"}, "c/values.schema.json: not JSON: "),
        (
            {"charts/README.md": b""},
            "c/charts/README.md: it is in charts/ and no chart, which helm refuses",
        ),
        ({"charts/sub/x": b""}, "c/charts/sub/x: it is in charts/ and no chart"),
    ],
)
def test_pack_refuses_what_helm_refuses(more: dict[str, bytes], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        archive.pack({**FILES, **more}, where="c")
    assert message in str(raised.value)


def test_a_missing_chart_yaml_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"c: Chart\.yaml is missing"):
        archive.pack({}, where="c")


def test_packing_is_fast(tmp_path: Path) -> None:
    """`helm package` takes 67 ms for such a chart; the demand is a tenth of it."""
    import time

    files = {**FILES, **{f"templates/{n}.yaml": os.urandom(1000).hex().encode() for n in range(30)}}
    times = []
    for _ in range(10):
        start = time.process_time()  # not that of other lanes on the same cores
        archive.pack(files)
        times.append(time.process_time() - start)
    assert min(times) < 0.0067
