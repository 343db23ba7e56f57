"""build_image with the real engine's classic builder and a real registry."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from pipeline_steps.build_image import build_image
from pipeline_steps.images import builders
from pipeline_steps.images.builder import BuildRequest, BuildResult
from pipeline_steps.images.docker import Docker, engine_version
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ChartFailed,
    ConfigurationError,
    EvidenceError,
    MachineError,
    ToolMissing,
    Unreachable,
)
from pipeline_steps.toolbox.files import sha256
from tests.support import images, machine
from tests.support.images import checkout, opened, single_record, write
from tests.support.registries import Running
from tests.support.scripted import Answer, Request, scripted

ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture(autouse=True)
def classic(docker_engine: machine.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine without any buildx plugin."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    monkeypatch.setattr(builders, "SYSTEM_PLUGIN_FOLDERS", ())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def folder(tmp_path: Path, registry: Running) -> Path:
    return checkout(
        tmp_path / "work", f"{registry.host}/{tmp_path.name.replace('_', '-').strip('-')}"
    )


def api(reference: str) -> tuple[Registry, str, str]:
    from pipeline_steps.auth.reference import Reference

    parsed = Reference.parse(reference)
    assert parsed.digest
    return connect(parsed, {}), parsed.path, parsed.digest


def build(folder: Path, *, again: bool = False) -> str:
    config, state = opened(folder)
    record = single_record(build_image("app", config=config, state=state, again=again))
    return record.outputs["image"]


def test_an_image_is_built_once_and_named_by_its_key(folder: Path) -> None:
    write(folder, "app/secret.cache", "ignored by the source: the image is made of what is stored")
    write(folder, "app/.pipeline/state.jsonl", "never in an image")
    (folder / "app/run").write_text("#!/bin/sh\n")
    (folder / "app/run").chmod(0o755)
    config, state = opened(folder)
    record = single_record(build_image("app", config=config, state=state))
    client, path, digest = api(record.outputs["image"])
    assert (
        f"snap/app:k-{record.parameters['key'].removeprefix('sha256:')[:12]}@sha256:"
        in record.outputs["image"]
    )
    members = images.members(client, path, digest)
    assert sorted(members) == ["app/Dockerfile", "app/hello", "app/run"]
    assert (members["app/run"].mode & 0o777, members["app/hello"].mode & 0o777) == (0o755, 0o644)
    assert record.parameters["left_out"] == ["secret.cache"]
    assert (record.parameters["builder"], record.parameters["reproducible"]) == ("docker", False)
    assert record.tools["docker"] and record.result == "passed" and record.subject == "app"
    state.refresh()
    assert single_record(build_image("app", config=config, state=state)) == record, "already done"
    assert [each.result for each in state.find(step="build_image", result=None)] == [
        "started",
        "passed",
    ]


def test_generated_files_go_in_by_digest_and_are_resolved_once_for_their_sources(
    folder: Path, registry: Running
) -> None:
    entry = "{context: app, generated: {'*.cache': [hello]}}"
    text = (folder / "pipeline.yaml").read_text()
    write(folder, "pipeline.yaml", text.replace("{context: app}", entry))
    config, state = opened(folder)
    with pytest.raises(ConfigurationError, match=r"pipeline\.yaml:\d+: no file fits '\*\.cache'"):
        build_image("app", config=config, state=state)
    write(folder, "app/app.cache", "made by an earlier stage")
    config, state = opened(folder)
    first = single_record(build_image("app", config=config, state=state))
    client, path, digest = api(first.outputs["image"])
    members = images.members(client, path, digest)
    assert members["app/app.cache"].mode & 0o777 == 0o755 and first.parameters["left_out"] == []
    assert first.inputs == {"generated:app.cache": sha256(b"made by an earlier stage")}
    write(folder, "app/app.cache", "made again, with another date in it")
    config, state = opened(folder)
    assert single_record(build_image("app", config=config, state=state)) == first, (
        "its sources are the same"
    )
    assert (
        single_record(build_image("app", config=config, state=state, pull=True)).outputs
        != first.outputs
    )
    write(folder, "app/hello", "another source\n")
    config, state = opened(folder)
    another = single_record(build_image("app", config=config, state=state))
    assert another.content != first.content
    # Named again without a build, and so without the generated files: they were asked for.
    (folder / "app/app.cache").unlink()
    tag = another.outputs["image"].partition("@")[0].rpartition(":")[2]
    stored = registry.folder / f"data/docker/registry/v2/repositories/{path}"
    shutil.rmtree(stored / f"_manifests/tags/{tag}")
    config, state = opened(folder)
    again = single_record(build_image("app", config=config, state=state))
    assert again.outputs == another.outputs and again.parameters["taken"]


def test_a_line_end_filter_of_the_checkout_does_not_reach_the_image(folder: Path) -> None:
    write(folder, "app/.gitattributes", "hello text eol=crlf\n")
    write(folder, "app/hello", "one\r\ntwo\r\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "add", "-A"], check=True, capture_output=True)
    subprocess.run([*git, "commit", "-qm", "crlf in checkouts"], check=True, capture_output=True)
    config, state = opened(folder)
    client, path, digest = api(
        single_record(build_image("app", config=config, state=state)).outputs["image"]
    )
    assert images.members(client, path, digest)["app/hello"].size == len(b"one\ntwo\n")


def test_another_checkout_builds_beside_a_tag_that_is_no_proof(folder: Path) -> None:
    """An image that was planted under the key's tag was taken, and stood in every record and
    release after that.
    """
    first = build(folder)
    client, path, _ = api(first)
    key_tag = first.partition("@")[0].rpartition(":")[2]
    (folder / ".pipeline/state.jsonl").unlink()
    planted = images.push_base(client, path, key_tag, b"planted")
    own_image = build(folder)
    digest = own_image.rpartition("@")[2]
    assert digest != planted and client.head(path, digest)
    assert own_image.rpartition("@")[0].endswith(f":{key_tag}-{digest[7:15]}")
    descriptor = client.head(path, key_tag)
    assert descriptor and descriptor.digest == planted, "a tag is never moved"
    assert build(folder) == own_image, "already done"


def test_an_image_that_lost_a_layer_is_built_again(folder: Path, registry: Running) -> None:
    """The manifest was there: `already done`, and no node could pull it."""
    first = build(folder)
    client, path, digest = api(first)
    manifest = client.manifest(path, digest)
    assert manifest and missing_digests(client, path, digest) == []
    lost = manifest.content["layers"][0]["digest"]
    for link in registry.folder.glob(
        f"data/docker/registry/v2/repositories/{path}/_layers/sha256/{lost[7:]}"
    ):
        shutil.rmtree(link)
    assert missing_digests(client, path, digest) == [lost]
    again = build(folder)
    client, path, digest = api(again)
    assert missing_digests(client, path, digest) == []


def test_a_tag_that_is_gone_is_given_back_without_a_build(
    folder: Path, registry: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(folder)
    client, path, digest = api(first)
    tag = first.partition("@")[0].rpartition(":")[2]
    shutil.rmtree(
        registry.folder / f"data/docker/registry/v2/repositories/{path}/_manifests/tags/{tag}"
    )
    monkeypatch.setenv(
        "DOCKER_HOST", f"unix://{tmp_path}/no-engine"
    )  # nothing is built, so none is needed
    assert build(folder) == first
    descriptor = client.head(path, tag)
    assert descriptor and descriptor.digest == digest


def test_of_two_builds_of_one_key_at_once_one_gets_the_tag(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two agents that share nothing but the registry. Each saw that the other wants the tag, too,
    and left it to the other.
    """
    address = f"{registry.host}/{tmp_path.name.replace('_', '-').strip('-')}"
    folders = [checkout(tmp_path / agent, address) for agent in ("one", "two")]
    both_built, classic_build = threading.Barrier(2), Docker.build

    def build_and_wait(self: Docker, request: BuildRequest) -> BuildResult:
        built = classic_build(self, request)
        both_built.wait(60)
        return built

    monkeypatch.setattr(Docker, "build", build_and_wait)
    with ThreadPoolExecutor(2) as pool:
        # `again`: without the engine's cache, which gives both the image of the faster one. They
        # get the same one also where the engine has named the second before the first is pushed.
        outputs = list(pool.map(functools.partial(build, again=True), folders))
    client, path, _ = api(outputs[0])
    digests = [output.rpartition("@")[2] for output in outputs]
    tags = [output.rpartition("@")[0].rpartition(":")[2] for output in outputs]
    key_tag = tags[0][: len("k-") + 12]
    tagged = client.head(path, key_tag)
    assert tagged and tagged.digest in digests
    for tag, digest in zip(tags, digests, strict=True):
        assert tag == (key_tag if digest == tagged.digest else f"{key_tag}-{digest[7:15]}")
        named = client.head(path, tag)
        assert named and named.digest == digest


def test_a_release_takes_no_image_that_no_record_names(
    folder: Path, tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare tag in the channel may be anybody's."""
    first = build(folder)
    monkeypatch.setenv("JENKINS_URL", "https://ci.example.com/")
    monkeypatch.setenv("TAG_NAME", "hello-0.1.0")
    assert build(folder) == first, "this one has a record"

    (folder / ".pipeline/state.jsonl").rename(tmp_path / "state-of-a-review.jsonl")
    client, path, digest = api(first)
    assert build(folder) == first, "built again: the same digest confirms the tag"
    (folder / ".pipeline/state.jsonl").unlink()
    planted = images.push_base(
        client, path, first.partition("@")[0].rpartition(":")[2], b"anybody's"
    )
    own_image = build(folder)
    assert own_image == f"{first.partition('@')[0]}-{digest[7:15]}@{digest}", (
        "beside the other's tag"
    )
    descriptor = client.head(path, first.partition("@")[0].rpartition(":")[2])
    assert descriptor and descriptor.digest == planted
    assert build(folder) == own_image, "already done"


def test_build_image_plan_writes_nothing(
    folder: Path, registry: Running, caplog: pytest.LogCaptureFixture
) -> None:
    config, state = opened(folder)
    with caplog.at_level("INFO", "pipeline_steps"):
        assert build_image("app", config=config, state=state, plan=True) == ()
    assert f"would build and push {registry.host}/" in caplog.text and ":k-" in caplog.text
    assert state.records() == [] and not (folder / ".pipeline").exists()


def test_bases_are_resolved_once_and_again_with_pull(folder: Path, registry: Running) -> None:
    client = Registry(registry.host, plain_http=True)
    name = f"bases/{folder.parent.name.lower().replace('_', '-').strip('-')}"
    old = images.push_base(client, name, "1", b"old")
    write(folder, "app/Dockerfile", f"ARG TAG=0\nFROM {registry.host}/{name}:$TAG\nCOPY hello /\n")
    write(
        folder,
        "pipeline.yaml",
        (folder / "pipeline.yaml").read_text().replace("app}", "app, args: {TAG: '1'}}"),
    )
    config, state = opened(folder)
    first = single_record(build_image("app", config=config, state=state))
    assert first.inputs == {f"{registry.host}/{name}:1": old}
    new = images.push_base(client, name, "1", b"new")
    assert single_record(build_image("app", config=config, state=state)) == first, (
        "a moved base tag changes nothing"
    )
    again = single_record(build_image("app", config=config, state=state, again=True))
    reader, path, digest = api(again.outputs["image"])
    assert again.inputs == first.inputs and sorted(images.members(reader, path, digest)) == [
        "base",
        "hello",
    ]
    pulled = single_record(build_image("app", config=config, state=state, pull=True))
    assert pulled.inputs == {f"{registry.host}/{name}:1": new} and again.id in pulled.supersedes
    assert pulled.outputs["image"] != first.outputs["image"] and pulled.content == first.content
    assert single_record(build_image("app", config=config, state=state)) == pulled


def test_a_broken_build_fails_with_its_last_lines(folder: Path) -> None:
    write(folder, "app/Dockerfile", "FROM scratch\nCOPY hello /\nCOPY no-such-file /\n")
    config, state = opened(folder)
    with pytest.raises(ChartFailed, match="no-such-file") as caught:
        build_image("app", config=config, state=state)
    assert caught.value.exit_code == 8 and "Step 2/3 : COPY hello /" in str(caught.value)
    assert str(caught.value).startswith("app/Dockerfile: the build failed: ")
    (record,) = state.find(step="build_image", result="failed")
    assert "no-such-file" in str(record.reason) and record.uses
    write(folder, "app/Dockerfile", "FROM scratch\nNONSENSE\n")
    config, state = opened(folder)
    with pytest.raises(ChartFailed, match="NONSENSE"):
        build_image("app", config=config, state=state)


def test_the_command_ends_with_8_and_shows_the_last_lines_of_a_broken_build(folder: Path) -> None:
    """Of which none shows a secret that the engine says."""
    dockerfile = "FROM scratch\nCOPY hello /\nCOPY no-such-file-canary-61f0 /\n"
    write(folder, "app/Dockerfile", dockerfile)
    with (folder / "pipeline.yaml").open("a") as file:
        file.write('hosts: {git.example.com: {username: ci, password: "${CANARY}"}}\n')
    program = "import runpy; from pipeline_steps.images import builders; builders.SYSTEM_PLUGIN_FOLDERS = ()\n"
    program += "runpy.run_module('pipeline_steps', run_name='__main__')"
    command = [sys.executable, "-c", program, "build_image"]
    completed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ROOT, "CANARY": "canary-61f0"},
    )  # fmt: skip
    assert completed.returncode == 8, completed.stderr
    assert (
        "app/Dockerfile: the build failed: " in completed.stderr
        and "Traceback" not in completed.stderr
    )
    assert "Step 2/3 : COPY hello /" in completed.stderr
    assert "no-such-file-[redacted]" in completed.stderr
    written = [path for path in (folder / ".pipeline").rglob("*") if path.is_file()]
    assert written and not [path for path in written if b"canary-61f0" in path.read_bytes()]
    assert "canary-61f0" not in completed.stdout + completed.stderr


@pytest.mark.parametrize(
    ("entry", "dockerfile", "wrong"),
    [
        ("{context: app}", "FROM scratch\nCOPY --link . /\n", r"line 2: COPY --link.*buildx"),
        (
            "{context: app, platforms: [linux/arm64]}",
            "FROM scratch\n",
            r"platforms \(linux/arm64\) need BuildKit",
        ),
        ("{context: app, secrets: [npmrc]}", "FROM scratch\n", r"secrets \(npmrc\) need BuildKit"),
    ],
)
def test_what_only_buildkit_can_is_refused(
    tmp_path: Path, registry: Running, entry: str, dockerfile: str, wrong: str
) -> None:
    folder = checkout(tmp_path / "w", registry.host, entry)
    write(folder, "app/Dockerfile", dockerfile)
    config, state = opened(folder)
    with pytest.raises(ToolMissing, match=wrong):
        build_image("app", config=config, state=state)


def test_no_engine_says_where_and_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    config, state = opened(folder)
    with pytest.raises(MachineError, match=r"no docker engine answers.*start it") as caught:
        build_image("app", config=config, state=state)
    assert (
        f"DOCKER_HOST=unix://{tmp_path}/none.sock: " in str(caught.value)
        and caught.value.exit_code == 7
    )
    assert [
        record.result for record in state.find(step="build_image", result="infrastructure")
    ] == ["infrastructure"]


def test_an_engine_of_this_machine_is_never_asked_through_a_proxy(
    docker_engine: machine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docker's own programs; the SDK's HTTP library would ask the proxy for localhost, too."""

    def answer(_request: Request) -> Answer:
        with contextlib.closing(docker.APIClient(docker_engine.host)) as real:
            return 200, {}, json.dumps(real.version(api_version=False)).encode()

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with scripted(answer) as server, scripted(answer) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{server.host}")
        assert engine_version() and server.requests and not proxy.requests
        monkeypatch.setenv("DOCKER_HOST", "tcp://engine.invalid:2375")
        assert engine_version() and proxy.requests
        monkeypatch.setenv("NO_PROXY", "*.invalid:2375")
        with pytest.raises(MachineError, match="no docker engine answers"):
            engine_version()


def test_a_closed_socket_says_who_may_use_it() -> None:
    """As another account: root may open any socket."""
    code = (
        "import os, docker, requests, pipeline_steps.images.docker as it\n"
        "from pipeline_steps.toolbox.errors import MachineError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n with it.engine(): pass\nexcept MachineError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as closed:
        Path(name).chmod(0o755)
        closed.bind(f"{name}/docker.sock")
        closed.listen()
        Path(f"{name}/docker.sock").chmod(0o600)
        environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{name}/docker.sock",
            "HOME": name,
            "DOCKER_CONFIG": name,
        }
        completed = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
    assert "this account may not use the docker engine (add it to the group" in completed.stdout, (
        completed.stderr
    )


def test_build_image_with_a_refusing_or_missing_registry_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.registry(user="ci", password="hunter2-of-ci") as closed:
        folder = checkout(tmp_path / "a", closed.host)
        config, state = opened(folder)
        with pytest.raises(AccessRefused, match="wants a login"):
            build_image("app", config=config, state=state)
        monkeypatch.setenv("HUNTER", "hunter2-of-ci")
        folder = checkout(
            tmp_path / "b",
            closed.host,
            hosts=f'{{"{closed.host}": {{username: ci, password: "${{HUNTER}}"}}}}',
        )
        config, state = opened(folder)
        record = single_record(build_image("app", config=config, state=state))
        assert "hunter2" not in state.path.read_text() and record.passed
    with pytest.raises(Unreachable, match="does not answer"):
        build_image("app", config=config, state=state)


def test_a_build_that_is_stopped_goes_at_once_and_says_so(folder: Path) -> None:
    images.slow(folder)
    code, seconds, output = images.stopped_while_building(folder, "Step 3/3")
    assert code == 143 and seconds < machine.SECONDS_AFTER_SIGNAL, output
    _, state = opened(folder)
    assert [record.result for record in state.find(step="build_image", result=None)] == [
        "started",
        "interrupted",
    ]


class TestExisting:
    def test_a_reference_is_resolved_once_and_again_with_pull(
        self, tmp_path: Path, registry: Running
    ) -> None:
        client = Registry(registry.host, plain_http=True)
        old = images.push_base(client, "ext/one", "1", b"old")
        folder = checkout(
            tmp_path / "w", registry.host, f"{{existing: '{registry.host}/ext/one:1'}}"
        )
        config, state = opened(folder)
        first = single_record(build_image("app", config=config, state=state))
        assert first.outputs == {"image": f"{registry.host}/ext/one:1@{old}"}
        assert first.parameters["builder"] == "existing"
        new = images.push_base(client, "ext/one", "1", b"new")
        assert single_record(build_image("app", config=config, state=state)) == first
        pulled = single_record(build_image("app", config=config, state=state, pull=True))
        assert pulled.outputs["image"].endswith(new) and first.id in pulled.supersedes

    @pytest.mark.parametrize("entry", ["{{existing: '{0}/ext/two'}}", "{{}}"])
    def test_an_existing_image_is_read_from_the_charts_values(
        self, tmp_path: Path, registry: Running, entry: str
    ) -> None:
        digest = images.push_base(
            Registry(registry.host, plain_http=True), "ext/two", "2.0", b"two"
        )
        folder = checkout(tmp_path / "w", registry.host, entry.format(registry.host))
        values = f"image:\n  repository: {registry.host}/ext/two\n  tag: '2.0'\n"
        write(folder, "charts/hello/values.yaml", values)
        config, state = opened(folder)
        record = single_record(build_image("app", config=config, state=state))
        assert record.outputs["image"] == f"{registry.host}/ext/two:2.0@{digest}"
        write(folder, "charts/hello/values.yaml", values.replace("2.0", ""))
        config, state = opened(folder)
        with pytest.raises(
            (ConfigurationError, EvidenceError), match=r"values\.yaml|does not exist"
        ):
            build_image("app", config=config, state=state)

    def test_a_missing_existing_image_is_refused(self, tmp_path: Path, registry: Running) -> None:
        folder = checkout(
            tmp_path / "w", registry.host, f"{{existing: '{registry.host}/ext/none:1'}}"
        )
        config, state = opened(folder)
        with pytest.raises(EvidenceError, match="ext/none:1 does not exist") as caught:
            build_image("app", config=config, state=state)
        assert "pipeline.yaml:" in str(caught.value)
