"""`make demo` and `make demo-down` as a user types them, in a clone of this checkout: from nothing
but warm caches (packages, built programs, an installed environment) to a released chart that helm
pulls, and back to nothing.

Others may use the engine and the node of this machine meanwhile, as the lanes do. They stay then;
of this clone nothing does: no process, no container, no namespace, no address that answers, no
file, no note that it uses anything.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.clusters import kubeconfig
from pipeline_steps.clusters.kubernetes import Api
from tests.support import helms, machine
from tools import environment, users
from tools.demo import proof
from tools.engine import engine
from tools.kubernetes import node

ROOT = environment.ROOT
#: Of the lanes and of a CI: a user has none of them, and the demo has to find the engine itself.
OF_LANES = re.compile(
    r"DOCKER_|BUILD|KUBECONFIG|PIPELINE_STEPS_|CI$|GITHUB_|GITLAB_|JENKINS_|XDG_STATE"
)
ENTRY = """\
#!{python}
import sys
from pipeline_steps.__main__ import entry
sys.exit(entry())
"""


class Clone:
    """A clone of this checkout in `folder`, with an environment that has been installed before."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.scratch = folder / "tmp"
        self.scratch.mkdir()
        self.git("clone", "--quiet", str(ROOT), str(self.root), cwd=folder)
        self.install()
        kept = {name: text for name, text in os.environ.items() if not OF_LANES.match(name)}
        path = [part for part in kept["PATH"].split(":") if not part.startswith(str(ROOT))]
        self.variables = {**kept, "PATH": ":".join(path), "TMPDIR": str(self.scratch)}

    def git(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=cwd or self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def install(self) -> None:
        """What `tools/environment.py` makes, with the packages of this checkout's environment."""
        venv = self.root / ".venv"
        command = [str(environment.PYTHON.resolve()), "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(command, check=True)
        [packages] = venv.glob("lib/python*/site-packages")
        [installed] = environment.VENV.glob("lib/python*/site-packages")
        (packages / "installed.pth").write_text(f"{self.root}\n{installed}\n")
        program = venv / "bin/pipeline-steps"
        program.write_text(ENTRY.format(python=venv / "bin/python"))
        program.chmod(0o755)
        (venv / "made-from").write_text(environment.fingerprint())

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", target, f"PYTHON={sys.executable}"], cwd=self.root, env=self.variables,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def records(self) -> list[dict[str, object]]:
        state = self.root / ".demo/hello/.pipeline/state.jsonl"
        return [json.loads(line) for line in state.read_text().splitlines()]

    def processes(self) -> list[str]:
        """Command lines of all processes that name a path of this clone, or work in it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
                place = process.joinpath("cwd").readlink()
            except OSError:
                continue
            if str(self.root) in f"{line} {place}":
                found.append(line)
        return found

    def notes(self) -> list[str]:
        """Notes that this clone uses the engine or the node."""
        files = users.FOLDER.glob("*/*.json")
        return [str(file) for file in files if str(self.root) in file.read_text()]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone(tmp_path)
    try:
        yield made
    finally:
        if (made.root / ".demo").exists():
            made.make("demo-down")


def names_in(records: list[dict[str, object]], pattern: str) -> set[str]:
    return set(re.findall(pattern, json.dumps(records)))


def answers(host: str) -> bool:
    address, _, port = host.partition(":")
    try:
        socket.create_connection((address, int(port)), 2).close()
    except OSError:
        return False
    return True


def containers(running: machine.Engine) -> set[str]:
    command = [
        "docker",
        "ps",
        "--all",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Mounts}} {{.Command}}",
    ]
    done = subprocess.run(
        command,
        env={**os.environ, **running.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines())


def test_make_demo_releases_a_chart_and_make_demo_down_leaves_nothing(
    clone: Clone, docker_engine: machine.Engine, kubernetes_node: machine.Node, tmp_path: Path
) -> None:
    up = clone.make("demo")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "ok  chart pulled by helm has the recorded digest" in up.stderr, up.stderr
    overlay = clone.root / ".demo/sandbox/overlay.yaml"
    registry = proof.registry(overlay)
    namespaces = names_in(clone.records(), r"\bps-hello-[0-9a-f]{8}\b")
    assert namespaces and answers(registry) and clone.processes()
    pull(registry, tmp_path)

    down = clone.make("demo-down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert clone.processes() == [] and clone.notes() == []
    assert not answers(registry)
    assert not [line for line in containers(docker_engine) if str(clone.root) in line]
    assert not (clone.root / ".demo").exists()
    assert clone.git("status", "--porcelain") == ""
    others = clone.git("status", "--porcelain", "--ignored").splitlines()
    assert {
        line.removeprefix("!! ").split("/")[0] for line in others if "__pycache__" not in line
    } == {
        ".venv",
        ".venv.lock",
    }
    assert list(clone.scratch.rglob("*")) == []
    api = Api(kubeconfig.load(kubernetes_node.kubeconfig, kubernetes_node.context))
    assert gone(api, namespaces)
    assert engine.read(engine.DEFAULT_FOLDER) and node.live(), "this session uses both"


def pull(registry: str, folder: Path) -> None:
    """As the user of the chart does, who has nothing of this project."""
    command = [str(helms.helm(4)), "pull", f"oci://{registry}/charts/hello", "--version", "0.1.0"]
    done = subprocess.run(
        [*command, "--plain-http", "--destination", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_ISREG((folder / "hello-0.1.0.tgz").stat().st_mode)


def gone(api: Api, namespaces: set[str]) -> bool:
    """Whether the server has removed them all; it lets some seconds pass before it begins."""
    end = time.monotonic() + 60
    while any(api.ask(api.core.read_namespace, name) for name in namespaces):
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True
