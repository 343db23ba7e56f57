"""The engine of tools/engine: builds of both kinds, and nothing left of it, however it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tools import processes
from tools.engine import engine

ENGINE = Path(engine.__file__)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(command),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def tool(verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, str(ENGINE), verb, "--folder", str(folder))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("e") / "engine"  # a short path: sockets lie in it
    yield place
    engine.down(place)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context with one step that runs a program."""
    (tmp_path / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "busybox").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "mkdir", "/made"]\n'
    )
    return tmp_path


def rules() -> str:
    """The rules of iptables, without those that pods of other tests have while they run."""
    saved = run("iptables-save").stdout
    lines = [line for line in saved.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in lines if "CNI-" not in line and "KUBE-" not in line)


def test_the_classic_builder_builds_and_pushes(
    docker_engine: machine.Engine, context: Path
) -> None:
    rules_before, links = rules(), run("ip", "-br", "link").stdout
    with machine.registry() as registry:
        name = f"{registry.host}/classic:1"
        built = run(
            "docker",
            "build",
            "-q",
            "-t",
            name,
            str(context),
            **docker_engine.environment,
            DOCKER_BUILDKIT="0",
        )
        assert built.returncode == 0, built.stderr
        pushed = run("docker", "push", "-q", name, **docker_engine.environment)
        assert pushed.returncode == 0, pushed.stderr
        with urllib.request.urlopen(f"http://{registry.host}/v2/classic/tags/list") as answer:
            assert json.load(answer)["tags"] == ["1"]
    run("docker", "rmi", name, **docker_engine.environment)
    assert "docker0" not in links
    assert rules() == rules_before


def test_buildx_gives_the_same_digest_whenever_it_builds(
    docker_engine: machine.Engine, context: Path
) -> None:
    digests = []
    with machine.registry() as registry:
        output = f"type=image,name={registry.host}/buildx:1,push=true,rewrite-timestamp=true"
        for second in (1_000_000_000, 1_500_000_000):
            for path in context.iterdir():
                os.utime(path, (second, second))
            facts = context.parent / f"{context.name}-facts.json"
            built = run(
                "docker", "buildx", "build", "--no-cache", "--provenance=false", "--metadata-file", str(facts),
                "--output", output, str(context), **docker_engine.environment, SOURCE_DATE_EPOCH="315532800",
            )  # fmt: skip
            assert built.returncode == 0, built.stderr
            digests.append(json.loads(facts.read_text())["containerimage.digest"])
        request = urllib.request.Request(
            f"http://{registry.host}/v2/buildx/manifests/{digests[0]}", method="HEAD"
        )
        request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Docker-Content-Digest"] == digests[0]
    assert digests[0] == digests[1]


def test_up_again_finds_it_and_down_leaves_nothing(folder: Path) -> None:
    first = tool("up", folder)
    assert first.returncode == 0, first.stderr
    assert json.loads(tool("up", folder).stdout) == json.loads(first.stdout)
    assert json.loads((folder / "engine.json").read_text()) == json.loads(first.stdout)
    assert tool("down", folder).returncode == 0
    assert not folder.exists()
    assert processes.of_folder(folder) == []
    assert processes.mounts_below(folder) == []
    status = tool("status", folder)
    assert (status.returncode, status.stderr) == (7, f"engine.py: no engine runs in {folder}\n")


def test_a_killed_engine_with_a_running_container_is_replaced(folder: Path, context: Path) -> None:
    environment = json.loads(tool("up", folder).stdout)["environment"]
    assert (
        run(
            "docker", "build", "-t", "x", str(context), **environment, DOCKER_BUILDKIT="0"
        ).returncode
        == 0
    )
    assert (
        run("docker", "run", "-d", "x", "/bin/busybox", "sleep", "600", **environment).returncode
        == 0
    )
    left = processes.of_folder(folder)
    assert len(left) >= 5  # dockerd, containerd, buildkitd, a shim, the container
    identities = [processes.identity(pid) for pid in left]
    for pid in left[:-1]:
        with contextlib.suppress(ProcessLookupError):  # containerd ends with dockerd
            os.kill(pid, signal.SIGKILL)
    assert tool("status", folder).returncode == 7
    again = tool("up", folder)
    assert again.returncode == 0, again.stderr
    assert run("docker", "ps", "-aq", **environment).stdout == ""
    assert not [identity for identity in identities if processes.alive(identity)]


def test_a_folder_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    refused = tool("up", tmp_path)
    assert refused.returncode == 2
    assert f"{tmp_path} is not empty and not a run folder of this engine" in refused.stderr
    assert tool("down", tmp_path).returncode == 0
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_daemon_that_dies_at_start_is_told_with_its_log(folder: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    dying = programs / "dockerd"
    dying.write_text(
        '#!/bin/sh\ncase $1 in --version) echo "Docker version 20.10.24";; *) echo no such luck; exit 3;; esac\n'
    )
    dying.chmod(0o755)
    completed = run(
        sys.executable,
        str(ENGINE),
        "up",
        "--folder",
        str(folder),
        PATH=f"{programs}:{os.environ['PATH']}",
    )
    assert completed.returncode == 7
    assert "dockerd ended with 3 at start" in completed.stderr
    assert "no such luck" in completed.stderr
    assert not folder.exists()
