"""build_image with the real buildx plugin: a BuildKit of its own, the engine's, and what both
cannot do.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.build_image import build_image
from pipeline_steps.images import dockerfile, image_layers
from pipeline_steps.images.builder import BuildRequest
from pipeline_steps.images.builders import find_buildx_plugin
from pipeline_steps.images.buildx import Buildx, CurrentBuilder
from pipeline_steps.oci.registry import Registry
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ChartFailed,
    MachineError,
    Temporary,
    Unreachable,
)
from tests.support import busybox, images, machine
from tests.support.contexts import context_of
from tests.support.images import checkout, opened, single_record, write
from tests.support.registries import Running, free_port
from tests.support.scripted import Answer, Request, forwarded, scripted

ROOT = str(Path(__file__).resolve().parents[2])
pytestmark = pytest.mark.usefixtures("buildkit")


@pytest.fixture
def client(registry: Running) -> Registry:
    return Registry(registry.host, plain_http=True)


def test_the_same_inputs_give_the_same_digest_anywhere(
    tmp_path: Path, registry: Running, client: Registry
) -> None:
    """Other folder, other umask, other times, other registry path, no cache: `reproduce` may demand
    the digest.
    """
    digests = []
    for number, mask in enumerate((0o022, 0o077)):
        former = os.umask(mask)
        try:
            folder = checkout(tmp_path / f"w{number}", f"{registry.host}/same{number}")
            write(folder, "app/bin/run", "#!/bin/sh\n")
            (folder / "app/bin/run").chmod(0o755 & ~mask)
            (folder / "app/link").symlink_to("hello")
        finally:
            os.umask(former)
        os.utime(folder / "app/hello", (number + 1, 10**9 * (number + 1)))
        config, state = opened(folder)
        record = single_record(build_image("app", config=config, state=state, again=True))
        assert (
            record.parameters["reproducible"] is True and record.parameters["builder"] == "buildx"
        )
        assert record.tools["buildkit"].startswith("0.") and record.tools["buildx"].startswith("0.")
        digests.append(Reference.parse(record.outputs["image"]).digest)
    assert digests[0] == digests[1]
    members = images.members(client, "same1/snap/app", str(digests[1]))
    assert {member.mtime for member in members.values()} == {315532800}
    assert (members["app/bin/run"].mode & 0o777, members["app/hello"].mode & 0o777) == (
        0o755,
        0o644,
    )


def test_a_push_whose_blobs_the_registry_lost_is_made_again(
    tmp_path: Path, registry: Running, client: Registry
) -> None:
    """distribution 2.8 answers so when the same blobs are pushed twice at a time."""
    errors = [
        {"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"},
        {"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"},
    ]
    refusals = [json.dumps({"errors": errors}).encode()]
    ask = forwarded(registry.host)

    def answer(request: Request) -> Answer:
        if refusals and request.method == "PUT" and "/manifests/" in request.path:
            return 400, {"Content-Type": "application/json"}, refusals.pop()
        return ask(request)

    with scripted(answer) as proxy:
        config, state = opened(checkout(tmp_path / "w", f"{proxy.host}/lost"))
        record = single_record(build_image("app", config=config, state=state))
    digest = Reference.parse(record.outputs["image"]).digest
    assert not refusals
    assert digest and client.head("lost/snap/app", digest)


def test_names_of_bases_are_read_as_buildkit_reads_them(
    tmp_path: Path, registry: Running, client: Registry
) -> None:
    """Each tag is there under the name that we read: BuildKit must come to the same one."""
    base = f"{registry.host}/bases/app"
    expressions = {
        "one": '"$B:one"',
        "two": '${B}:${NONE:-"two"}',
        "3.1-x": "$B:${V%-*}",
        "alpine": "$B:${V##*-}",
        "4": "'" + base + ":4'",
        "5.6": "$B:${W/v/}",
        "7": "${B}:${W:+7}",
    }
    lines = [f'ARG B="{base}" V=3.1-x-alpine', "ARG W=v5.6"]
    for number, (tag, written) in enumerate(expressions.items()):
        busybox.push(registry.host, "bases/app", tag, label=tag)
        lines.append(f"FROM {written} AS s{number}")
    lines += ["FROM scratch"]
    lines += [f"COPY --from=s{number} /bin/busybox /{number}" for number in range(len(expressions))]
    folder = checkout(tmp_path / "w", f"{registry.host}/quoted")
    write(folder, "app/Dockerfile", "\n".join(lines) + "\n")
    config, state = opened(folder)
    record = single_record(build_image("app", config=config, state=state))
    assert set(record.inputs) >= {f"{base}:{tag}" for tag in expressions}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "only tagged"])
def test_the_tag_is_given_last_and_the_image_that_another_agent_recorded_is_taken(
    tmp_path: Path,
    registry: Running,
    client: Registry,
    monkeypatch: pytest.MonkeyPatch,
    recorded: bool,
) -> None:
    """Another image is under the tag when ours is built: with a record it is taken, without one it
    proves nothing.
    """
    path = f"first{recorded}/snap/app".lower()
    folder = checkout(tmp_path / "w", f"{registry.host}/{path.partition('/')[0]}")
    config, state = opened(folder)
    theirs: list[str] = []
    build = Buildx.build

    def another_is_faster(self: Buildx, request: BuildRequest) -> object:
        built = build(self, request)
        assert client.tags(path) == [], "pushed by digest only"
        tag = str(request.destination.tag).replace("pushed-", "k-")
        theirs.append(images.push_base(client, path, tag, b"theirs"))
        if recorded:
            intent = state.find(step="build_image", result="started")[-1]
            fields = {
                name: getattr(intent, name)
                for name in ("step", "subject", "key", "content", "started")
            }
            output = f"{registry.host}/{path}:{tag}@{theirs[0]}"
            State(folder / ".pipeline/state.other.jsonl").add(
                {**fields, "result": "passed", "outputs": {"image": output}}
            )
        return built

    monkeypatch.setattr(Buildx, "build", another_is_faster)
    record = single_record(build_image("app", config=config, state=state))
    assert (
        record.outputs["image"].endswith(f"@{theirs[0]}") is recorded
        and record.parameters["taken"] is recorded
    )
    digest = record.outputs["image"].rpartition("@")[2]
    suffix = "" if recorded else f"-{digest[7:15]}"
    assert re.search(rf":k-[0-9a-f]{{12}}{suffix}@", record.outputs["image"])


def test_bases_are_pinned_args_target_and_secrets_arrive(
    tmp_path: Path, registry: Running, client: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = images.push_base(client, "bases/x", "1", b"old")
    folder = checkout(
        tmp_path / "w", f"{registry.host}/args",
        "{context: app, dockerfile: docker/App, target: run, args: {WHO: 'a b'}, secrets: [token]}",
    )  # fmt: skip
    write(
        folder, "app/docker/App",
        f"FROM {registry.host}/bases/x:1 AS base\nFROM scratch AS run\nARG WHO\nLABEL who=$WHO\n"
        "COPY --from=base /base /base\nCOPY --link hello /hello\nFROM scratch AS not-built\nCOPY nothing /\n",
    )  # fmt: skip
    write(folder, "app/docker/App.dockerignore", "docker\n")
    config, state = opened(folder)
    monkeypatch.setenv("TOKEN", "hunter2-of-build")
    record = single_record(build_image("app", config=config, state=state))
    digest = str(Reference.parse(record.outputs["image"]).digest)
    assert record.inputs == {f"{registry.host}/bases/x:1": old}
    assert sorted(images.members(client, "args/snap/app", digest)) == ["base", "hello"]
    assert images.config_of(client, "args/snap/app", digest)["config"]["Labels"] == {"who": "a b"}
    images.push_base(client, "bases/x", "1", b"new")
    again = single_record(build_image("app", config=config, state=state, again=True))
    assert again.outputs == record.outputs, "a moved tag does not reach a build"
    assert "hunter2" not in state.path.read_text()


def test_a_build_for_several_platforms_gives_an_index(
    tmp_path: Path, registry: Running, client: Registry
) -> None:
    folder = checkout(
        tmp_path / "w",
        f"{registry.host}/multi",
        "{context: app, platforms: [linux/amd64, linux/arm64]}",
    )
    config, state = opened(folder)
    record = single_record(build_image("app", config=config, state=state))
    manifest = client.manifest(
        "multi/snap/app", str(Reference.parse(record.outputs["image"]).digest)
    )
    assert manifest and manifest.is_index and len(manifest.children) == 2


def test_the_engines_own_buildkit_builds_without_the_claim(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDX_BUILDER", "default")
    folder = checkout(tmp_path / "w", f"{registry.host}/own")
    config, state = opened(folder)
    record = single_record(build_image("app", config=config, state=state))
    assert record.parameters["reproducible"] is False and record.parameters["builder"] == "buildx"
    state.refresh()
    assert single_record(build_image("app", config=config, state=state)) == record


def test_a_broken_build_fails_with_its_last_lines(tmp_path: Path, registry: Running) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/broken")
    write(folder, "app/Dockerfile", "FROM scratch\nCOPY hello /\nCOPY no-such-file /\n")
    config, state = opened(folder)
    with pytest.raises(ChartFailed, match="no-such-file") as caught:
        build_image("app", config=config, state=state)
    assert caught.value.exit_code == 8 and str(caught.value).startswith(
        "app/Dockerfile: the build failed: "
    )
    assert "COPY no-such-file /" in str(caught.value) and len(str(caught.value).splitlines()) <= 25
    command = [sys.executable, "-m", "pipeline_steps", "build_image"]
    completed = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True
    )
    assert completed.returncode == 8, completed.stderr
    assert (
        "app/Dockerfile: the build failed: " in completed.stderr
        and "Traceback" not in completed.stderr
    )
    last = completed.stderr.partition("the build failed: ")[2]  # behind the progress
    assert "COPY no-such-file /" in last and len(last.splitlines()) <= 25


#: A build step that says a secret in several forms, one of them in lines of 76 characters.
LEAKING = """\
FROM {base}
RUN --mount=type=secret,id=token set -e; secret=$(busybox cat /run/secrets/token); \\
    echo "as it is: $secret"; echo "in a URL: https://ci:$secret@git.example.com/"; \\
    busybox printf "ci:$secret" | busybox base64; false
"""


def test_what_a_build_step_prints_of_a_secret_is_shown_nowhere(
    tmp_path: Path, registry: Running
) -> None:
    busybox.push(registry.host, "bases/leaking", "1")
    folder = checkout(
        tmp_path / "w", f"{registry.host}/leaking", "{context: app, secrets: [token]}"
    )
    base = f"{registry.host}/bases/leaking:1"
    write(folder, "app/Dockerfile", LEAKING.format(base=base))
    secret = "canary-of-a-build-" + "7c20e9" * 15
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "build_image", "--verbose"],
        cwd=folder, env={**os.environ, "PYTHONPATH": ROOT, "TOKEN": secret},
        capture_output=True, text=True,
    )  # fmt: skip
    said = completed.stdout + completed.stderr
    assert completed.returncode == 8, said
    assert "as it is: [redacted]" in completed.stderr.partition("the build failed: ")[2]
    kept = [path.read_text() for path in (folder / ".pipeline").rglob("*") if path.is_file()]
    assert any("as it is: [redacted]" in text for text in kept)
    encoded = base64.b64encode(f"ci:{secret}".encode()).decode()
    # No twenty characters of it in a row: lines of base64 are prefixed by BuildKit.
    parts = {form[at : at + 20] for form in (secret, encoded[4:-4]) for at in range(len(form) - 19)}
    assert not [part for part in parts for text in (said, *kept) if part in text]


def test_no_builder_says_which_and_what_to_do(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/none")
    for name, value in (
        ("BUILDX_BUILDER", "default"),
        ("DOCKER_HOST", f"unix://{tmp_path}/none.sock"),
    ):
        monkeypatch.setenv(name, value)
    config, state = opened(folder)
    with pytest.raises(
        MachineError, match=r"buildx cannot use its builder.*docker buildx ls"
    ) as caught:
        build_image("app", config=config, state=state)
    assert (
        f"engine unix://{tmp_path}/none.sock" in str(caught.value) and caught.value.exit_code == 7
    )


def test_a_build_that_is_stopped_goes_at_once_and_leaves_nothing(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout(tmp_path / "w", f"{registry.host}/slow")
    images.slow(folder)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    code, seconds, output = images.stopped_while_building(folder, '"sleep", "61"')
    assert code == 143 and seconds < machine.SECONDS_AFTER_SIGNAL, output
    _, state = opened(folder)
    assert [record.result for record in state.find(step="build_image", result=None)] == [
        "started",
        "interrupted",
    ]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_build_that_is_killed_leaves_no_login_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 in the middle: the login lies there until the next command of any kind."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PASSWORD", "hunter2-of-ci")
    with machine.registry(user="ci", password="hunter2-of-ci") as closed:
        login = f'{{"{closed.host}": {{username: ci, password: "${{PASSWORD}}"}}}}'
        folder = checkout(tmp_path / "w", f"{closed.host}/slow", hosts=login)
        images.slow(folder)
        code, _seconds, output = images.stopped_while_building(
            folder, '"sleep", "61"', signal.SIGKILL
        )
        assert code == -signal.SIGKILL, output
    assert list((tmp_path / "tmp").glob("*/config.json")), "the login was there"
    command = [sys.executable, "-m", "pipeline_steps", "state", "show"]
    subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": ROOT}, check=True, capture_output=True
    )
    assert list((tmp_path / "tmp").iterdir()) == []


def request_to(host: str, folder: Path, hosts: dict[str, Host], **more: object) -> BuildRequest:
    text = b"FROM scratch\nCOPY . /\n"
    context = context_of(folder)
    instructions = dockerfile.parse(text, "Dockerfile", args={})
    return BuildRequest(Reference(host, "a/b", "t"), context, instructions, {}, hosts, **more)  # type: ignore[arg-type]


class TestPushing:
    """What the builder meets on its way to the registry, whatever our own client saw before."""

    @pytest.fixture
    def buildx(self) -> Buildx:
        plugin = find_buildx_plugin(os.environ)
        assert plugin, "the engine's environment brings the plugin"
        return Buildx(plugin)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write(tmp_path / "c", "hello", "hello")
        return tmp_path / "c"

    def test_with_the_configurations_login_and_none_left_behind(
        self, buildx: Buildx, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        with machine.registry(user="ci", password="hunter2-of-ci") as closed:
            login = {closed.host: Host("ci", "hunter2-of-ci")}
            built = buildx.build(request_to(closed.host, folder, login))
            assert built.digest.startswith("sha256:")
            with pytest.raises(AccessRefused, match="refuses the builder"):
                buildx.build(request_to(closed.host, folder, {}))
            with pytest.raises(AccessRefused, match="refuses the builder") as caught:
                buildx.build(
                    request_to(closed.host, folder, {closed.host: Host("ci", "wrong-password")})
                )
            assert "wrong-password" not in str(caught.value)
        assert [
            path.name
            for path in (tmp_path / "tmp").iterdir()
            if path.name.startswith("pipeline-steps")
        ] == []

    def test_a_push_without_registry_is_unreachable(self, buildx: Buildx, folder: Path) -> None:
        with pytest.raises(Unreachable, match="registry does not answer the builder"):
            buildx.build(request_to(f"127.0.0.1:{free_port()}", folder, {}))

    def test_a_build_longer_than_its_timeout_is_stopped(
        self, buildx: Buildx, folder: Path, registry: Running
    ) -> None:
        with pytest.raises(Temporary, match="did not finish within 0 s"):
            buildx.build(request_to(registry.host, folder, {}, timeout=0.001))


@pytest.mark.parametrize(
    ("driver", "version", "claim"),
    [
        ("remote", "v0.34.2", True),
        ("docker-container", "v0.13.0", True),
        ("docker-container", "v0.12.5", False),
        ("kubernetes", "v1.0.0", True),
        ("docker", "v0.29.0", False),
        ("remote", "v0.8+unknown", False),
    ],
)
def test_only_known_buildkit_versions_claim_reproducibility(
    driver: str, version: str, claim: bool
) -> None:
    assert CurrentBuilder(driver, version).reproducible is claim


IGNORES = [
    "", "*.log", "**/*.log", "**/*.log\n!src/deep/*", "/docs/\n!docs/keep.md", "docs\n!docs/keep.md\ndocs/k*",
    "*/?.log", "src/[a-b]*", "src/**", "# x\n ./a.log ", "*\n!src", "*\n!src/**/c.log", "**\n!docs", "s*/d??p",
    "src/\n!src/deep/c.log\n", "!a.log\n*.log", "a.lo[!g]\n[!s]*.log", "**/deep/../*.log", "\\*.log\na\\.log",
]  # fmt: skip


@pytest.mark.parametrize("ignore", IGNORES)
def test_the_inputs_are_what_docker_itself_sends(tmp_path: Path, ignore: str) -> None:
    """The real builder is the oracle for .dockerignore."""
    for name in (
        "a.log",
        "src/b.log",
        "src/deep/c.log",
        "src/main.py",
        "docs/x.md",
        "docs/keep.md",
        "z",
    ):
        write(tmp_path / "c", name, name)
    write(tmp_path / "c", ".dockerignore", ignore)
    write(tmp_path / "d", "Dockerfile", "FROM scratch\nCOPY . /\n")
    subprocess.run(
        [str(find_buildx_plugin(os.environ)), "build", f"--file={tmp_path}/d/Dockerfile",
         f"--output=type=tar,dest={tmp_path}/tar", str(tmp_path / "c")], check=True, capture_output=True,
    )  # fmt: skip
    with tarfile.open(tmp_path / "tar") as tar:
        sent = sorted(member.name.removeprefix("./") for member in tar if not member.isdir())
    ours = context_of(tmp_path / "c", tmp_path / "d" / "Dockerfile")
    assert [each.path for each in ours.inputs] == sent, json.dumps(ignore)


@pytest.mark.parametrize("name", ["", "default"], ids=["BuildKit of its own", "the engine's"])
def test_a_change_that_keeps_the_size_arrives(
    tmp_path: Path, registry: Running, client: Registry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """BuildKit asks only for files whose size or time is another; ours have one time."""
    if name:
        monkeypatch.setenv("BUILDX_BUILDER", name)
    folder = checkout(tmp_path / "w", f"{registry.host}/size{name}")
    for text in ("hello\n", "hallo\n"):
        write(folder, "app/hello", text)
        config, state = opened(folder)
        record = single_record(build_image("app", config=config, state=state))
        found = image_layers.from_registry(
            Reference.parse(record.outputs["image"]), config.hosts, tmp_path
        )[0]
        assert found.read("app/hello", found.members()["app/hello"].layer, 100) == text.encode()
