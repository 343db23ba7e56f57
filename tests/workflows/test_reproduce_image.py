"""`reproduce` of images with the real engine: equal where BuildKit can, the differing file named
where it cannot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_steps.auth.reference import Reference
from pipeline_steps.build_image import build_image
from pipeline_steps.oci.registry import Registry
from pipeline_steps.state.record import Record
from tests.support.images import BUSYBOX, checkout, opened, single_record, write
from tests.support.registries import Running

pytestmark = pytest.mark.usefixtures("buildkit")


def built(folder: Path) -> Record:
    config, state = opened(folder)
    return single_record(build_image("app", config=config, state=state))


def reproduce(folder: Path, record: str = "build_image/app") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline_steps", "reproduce", record]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def dated(folder: Path) -> None:
    """An image that says when it was built."""
    shutil.copy(BUSYBOX, folder / "app/busybox")
    command = '"/bin/busybox", "sh", "-c", "/bin/busybox date -Ins > /stamp; /bin/busybox chmod 640 /stamp"'
    write(folder, "app/Dockerfile", f"FROM scratch\nCOPY busybox /bin/\nRUN [{command}]\n")


def test_reproduce_builds_an_image_with_the_recorded_digest(
    tmp_path: Path, registry: Running
) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/same")
    record = built(folder)
    digest = str(Reference.parse(record.outputs["image"]).digest)
    (folder / "app/hello").write_text("moved on\n")
    client = Registry(registry.host, plain_http=True)
    before = client.tags("same/snap/app")
    completed = reproduce(folder)
    assert completed.returncode == 0 and f"equal: manifest {digest}" in completed.stdout, (
        completed.stderr
    )
    assert client.tags("same/snap/app") == before, "nothing was pushed"


def test_reproduce_names_the_byte_of_a_build_date(tmp_path: Path, registry: Running) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/dated")
    dated(folder)
    built(folder)
    time.sleep(1.1)  # busybox tells whole seconds
    completed = reproduce(folder)
    output = completed.stdout
    assert completed.returncode == 4 and "differs: manifest: recorded sha256:" in output
    [line] = [line for line in output.splitlines() if line.startswith("differs: stamp at byte ")]
    assert "likely cause: the time of the build is written into it" in line


def test_reproduce_refuses_missing_generated_files(tmp_path: Path, registry: Running) -> None:
    folder = checkout(
        tmp_path / "w",
        f"{registry.host}/gone",
        image="{context: app, generated: {made.cache: [hello]}}",
    )
    write(folder, "app/made.cache", "ignored by git, made by an earlier stage\n")
    record = built(folder)
    assert list(record.inputs) == ["generated:made.cache"]
    assert reproduce(folder).returncode == 0, "while it lies here"
    (folder / "app/made.cache").unlink()
    completed = reproduce(folder)
    assert (
        completed.returncode == 4
        and "app/made.cache: the generated file is not there" in completed.stderr
    )


@pytest.mark.parametrize("kind", ["the engine's BuildKit", "the classic builder"])
def test_other_builders_are_compared_by_files_modes_and_configuration(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """They promise no digest. What differs is planted: the record names the image of another
    content.
    """
    monkeypatch.setenv("BUILDX_BUILDER", "default")
    if kind == "the classic builder":
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))  # without the plugin
    folder = checkout(tmp_path / "w", f"{registry.host}/{len(kind)}")
    record = built(folder)
    assert record.parameters["reproducible"] is False
    completed = reproduce(folder)
    assert (
        completed.returncode == 0
        and "files, their modes and owners, and the configuration" in completed.stdout
    ), completed.stderr
    write(folder, "app/hello", "hallo\n")
    other = built(folder)
    fields = json.loads((folder / ".pipeline/state.jsonl").read_text().splitlines()[1])
    assert fields.pop("id") == record.id and fields.pop("schema") == 1
    planted = opened(folder)[1].add({**fields, "outputs": other.outputs})
    completed = reproduce(folder, planted.id.removeprefix("sha256:")[:12])
    assert completed.returncode == 4, completed.stderr
    assert (
        "differs: app/hello at byte 1: recorded b'hallo\\n', here b'hello\\n'; likely cause: "
        in completed.stdout
    )


def test_reproduce_names_a_differing_tool_version(tmp_path: Path, registry: Running) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/tools")
    built(folder)
    path = folder / ".pipeline/state.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    _, state = opened(folder)
    state.add(
        {
            **{k: v for k, v in records[-1].items() if k not in ("id", "schema")},
            "tools": {"buildkit": "0.1.0"},
        }
    )
    completed = reproduce(folder)
    assert completed.returncode == 0 and "recorded 0.1.0" in completed.stderr, completed.stderr
