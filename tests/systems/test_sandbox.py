"""The sandbox on this machine: real engine, real registry process, real leftovers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from pipeline_steps.config.config_file import load
from pipeline_steps.sandbox import ledger, processes, sandbox
from pipeline_steps.sandbox.sandbox import UpRequest
from pipeline_steps.toolbox import daemon
from tests.support import machine
from tools.machine import free_ports


class Ran(NamedTuple):
    code: int
    stdout: str
    stderr: str


def cli(folder: Path, *words: str, **environment: str) -> Ran:
    command = [sys.executable, "-m", "pipeline_steps", "sandbox", *words, "--folder", str(folder)]
    completed = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=600
    )
    return Ran(completed.returncode, completed.stdout, completed.stderr)


@pytest.fixture(autouse=True)
def engine(docker_engine: machine.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in docker_engine.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state" / "sandbox"
    sandbox.down(tmp_path / "state" / "sandbox")


def get(port: int, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_up_again_changes_nothing_and_down_leaves_nothing(folder: Path) -> None:
    first = cli(folder, "up", "--maker", "none")
    assert first.code == 0, first.stderr
    assert first.stdout.strip() == str(folder / "overlay.yaml")
    before = ledger.read(folder)
    (folder / "charts" / "index.yaml").write_text("entries: {}\n")

    assert cli(folder, "up", "--maker", "none").code == 0
    assert ledger.read(folder) == before
    assert sandbox.overlay(folder) == folder / "overlay.yaml"
    assert get(before.ports["web"], "/index.yaml") == (200, b"entries: {}\n")
    assert cli(folder, "status").code == 0

    assert cli(folder, "down").code == 0
    assert not any(daemon.alive(process_identity) for process_identity in before.daemons.values())
    assert not folder.exists() and not folder.parent.exists()
    assert sandbox.overlay(folder) is None
    assert cli(folder, "down").code == 0


def test_records_of_the_sandbox_lie_in_its_own_store(folder: Path, tmp_path: Path) -> None:
    overlay = sandbox.up(folder, UpRequest(maker="none"))
    (tmp_path / "pipeline.yaml").write_text(
        "charts: [{path: c}]\nevidence: file:///srv\nchannels: {production: {evidence: [file:///srv]}}\n"
    )
    config = load([overlay], environ={}, start=tmp_path)
    store = (folder / "evidence").as_uri()
    assert (config.evidence, config.channels.production.evidence) == (store, (store,))
    assert (folder / "evidence").is_dir()


def test_up_mends_what_a_killed_run_left(folder: Path) -> None:
    # Of ports that the system gives to others, too, one may be taken before it is used again.
    registry, web = free_ports(2)
    folder.mkdir(parents=True)
    ledger.write(folder, ledger.Ledger(ports={"registry": registry, "web": web}))
    sandbox.up(folder, UpRequest(maker="none"))
    before = ledger.read(folder)
    assert before.ports == {"registry": registry, "web": web}
    os.kill(before.daemons["registry"].pid, signal.SIGKILL)
    assert cli(folder, "status").code == 7
    assert sandbox.overlay(folder) is None

    sandbox.up(folder, UpRequest(maker="none"))
    after = ledger.read(folder)
    assert after.ports == before.ports, "a free port is kept"
    assert after.daemons["web"] == before.daemons["web"], "what lives is left as it is"
    assert after.daemons["registry"] != before.daemons["registry"]


def test_a_process_that_was_never_recorded_is_ended(folder: Path) -> None:
    sandbox.up(folder, UpRequest(maker="none"))
    recorded = ledger.read(folder)
    (folder / ledger.FILE).write_text('{"schema": 1, "ports"')  # a killed writer of another version

    sandbox.down(folder)
    assert not any(daemon.alive(process_identity) for process_identity in recorded.daemons.values())
    assert not folder.exists()


def test_reused_pid_is_not_our_process(folder: Path) -> None:
    sandbox.up(folder, UpRequest(maker="none"))
    recorded = ledger.read(folder)
    processes.end(folder, recorded, "web")
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        stale = daemon.Daemon(recorded.daemons["web"].argv, innocent.pid, 1)
        ledger.write(
            folder, ledger.Ledger(ports=recorded.ports, daemons={**recorded.daemons, "web": stale})
        )
        sandbox.down(folder)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_taken_port_is_given_up_for_another(folder: Path) -> None:
    """The ledger is given the other program's port: one that binds the registry's own port after
    its end would race with every other program of the machine.
    """
    sandbox.up(folder, UpRequest(maker="none"))
    ended = processes.end(folder, ledger.read(folder), "registry")
    with socket.socket() as other_program:
        other_program.bind(("127.0.0.1", 0))
        other_program.listen()
        taken = other_program.getsockname()[1]
        ledger.write(folder, replace(ended, ports={**ended.ports, "registry": taken}))
        sandbox.up(folder, UpRequest(maker="none"))
    after = ledger.read(folder)
    assert after.ports["registry"] != taken
    assert f"127.0.0.1:{after.ports['registry']}/snapshot" in (folder / "overlay.yaml").read_text()


def test_a_scripted_kind_is_called_and_its_nodes_get_a_read_only_registry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cluster starts here: kind's node image cannot be had everywhere. The calls are kind's own
    command line; real clusters are those of test_cluster and of the demo.
    """
    monkeypatch.setenv("PATH", f"{scripted_kind(folder.parent.parent)}:{os.environ['PATH']}")
    ran = cli(folder, "up", "--maker", "kind")
    assert ran.code == 0, ran.stderr
    port = ledger.read(folder).ports["registry"]
    assert get(port, "/v2/", "127.0.0.2")[0] == 200
    assert get(port, "/v2/x/blobs/uploads/", "127.0.0.1", "POST")[0] == 202
    assert get(port, "/v2/x/blobs/uploads/", "127.0.0.2", "POST")[0] == 405
    calls = (folder.parent.parent / "calls").read_text()
    cluster = ledger.read(folder).cluster
    assert cluster and cluster.name != "pipeline-steps", "the name is of the default folder's"
    assert f"kind create cluster --name {cluster.name} --kubeconfig" in calls
    assert f'docker: [host."http://127.0.0.2:{port}"]' in calls
    settings = json.loads((folder / "overlay.yaml").read_text().partition("\n{")[2].join(("{", "")))
    assert settings["clusters"]["sandbox"]["kubeconfig"] == str(folder / "kubeconfig")
    assert "pull_as" not in settings["hosts"][f"127.0.0.1:{port}"], (
        "kind's nodes are told the mirror instead"
    )

    other = cli(folder, "up", "--maker", "none")
    assert (other.code, "sandbox down" in other.stderr) == (2, True)
    sandbox.down(folder)
    assert (
        f"kind delete cluster --name {cluster.name}" in (folder.parent.parent / "calls").read_text()
    )


def scripted_kind(base: Path) -> Path:
    """Shell scripts in place of kind and docker, which note how they are called and start
    nothing.
    """
    programs = base / "programs"
    programs.mkdir()
    calls = base / "calls"
    (programs / "kind").write_text(f"""#!/bin/sh
echo "kind $*" >> {calls}
case "$*" in "get nodes"*) echo node-1 ;; esac
""")
    (programs / "docker").write_text(f"""#!/bin/sh
echo "docker $*" >> {calls}
case "$*" in network*) echo 'fc00::1 127.0.0.2 ' ;; *hosts.toml) sed 's/^/docker: /' >> {calls} ;; esac
""")
    for name in ("kind", "docker"):
        (programs / name).chmod(0o755)
    return programs


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["up", "--kubeconfig", "/nowhere/config"],
            2,
            "the kubeconfig /nowhere/config does not exist",
        ),
        (["up", "--maker", "magic"], 2, "use kind, k3d, minikube, or none"),
        (["up", "--maker", "kind"], 7, "kind is not installed"),
        (["up", "--maker", "kind", "--kubeconfig", "x"], 2, "exclude each other"),
        (["sideways"], 2, "write sandbox up, sandbox status or sandbox down"),
    ],
)
def test_sandbox_refuses_invalid_command_lines(
    folder: Path, words: list[str], code: int, message: str
) -> None:
    ran = cli(folder, *words)
    assert (ran.code, message in ran.stderr) == (code, True), ran.stderr


def test_sandbox_up_without_engine_ends_with_7(folder: Path, tmp_path: Path) -> None:
    ran = cli(folder, "up", "--maker", "none", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert (ran.code, "no docker engine answers" in ran.stderr) == (7, True), ran.stderr


def test_without_registry_program_it_names_the_package(folder: Path, tmp_path: Path) -> None:
    ran = cli(folder, "up", "--maker", "none", PATH=str(tmp_path))
    assert (ran.code, "apt-get install docker-registry" in ran.stderr) == (7, True), ran.stderr


def test_sandbox_up_with_an_unreachable_cluster_fails(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    ran = cli(folder, "up", "--kubeconfig", str(config))
    assert (ran.code, "the cluster's API server does not answer" in ran.stderr) == (7, True), (
        ran.stderr
    )
    config.write_text("apiVersion: v1\n")
    ran = cli(folder, "up", "--kubeconfig", str(config))
    assert (ran.code, "several contexts or none (none)" in ran.stderr) == (2, True), ran.stderr


def test_a_folder_of_somebody_else_is_never_filled_or_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for words in (["up", "--maker", "none"], ["down"]):
        ran = cli(tmp_path, *words)
        assert (ran.code, "it is not the folder of a sandbox" in ran.stderr) == (2, True), (
            ran.stderr
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
