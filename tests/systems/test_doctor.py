"""`doctor` against real systems: what is there is ok, what is not is named with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps import snapshot
from pipeline_steps.commands import probes
from pipeline_steps.commands.steps import STEPS
from tests.support import helms, machine

CONFIG = """\
charts: [{{path: charts/*}}]
channels:
  snapshot: {{images: "{host}/snapshot", charts: "oci://{host}/snapshot-charts"}}
  production: {{images: "{host}/production", charts: ["oci://{host}/charts"]}}
hosts: {{"{host}": {{plain_http: true{login}}}}}
"""


class Ran(NamedTuple):
    code: int
    answers: dict[str, str]
    stderr: str


def doctor(folder: Path, *words: str, **environment: str) -> Ran:
    path = f"{helms.helm(4).parent}:{os.environ['PATH']}"
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "doctor", *words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PATH": path, **environment}, timeout=600,
    )  # fmt: skip
    lines = [line.split(maxsplit=1) for line in completed.stdout.splitlines()]
    answers = {}
    for mark, rest in lines:
        name = next(
            name for name in sorted(probes.PROBES, key=len, reverse=True) if rest.startswith(name)
        )
        answers[name] = f"{mark} {rest.removeprefix(name).strip()}"
    return Ran(completed.returncode, answers, completed.stderr)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "charts").mkdir()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def configure(checkout: Path, host: str, login: str = "") -> None:
    (checkout / "pipeline.yaml").write_text(CONFIG.format(host=host, login=login))


def test_doctor_with_everything_installed_ends_with_0(
    checkout: Path, docker_engine: machine.Engine
) -> None:
    with machine.registry() as registry:
        configure(checkout, registry.host)
        ran = doctor(checkout, "--for", "snapshot", **docker_engine.environment)
        assert ran.code == 0, ran
        assert set(ran.answers) == {*probes.NEEDED_BY_ALL_STEPS, *snapshot.STEP.doctor_needs}
        ran = doctor(checkout, "--for", "build_image", **docker_engine.environment)
        assert ran.code == 0, ran
        assert "BuildKit 0." in ran.answers["buildx"]


def test_buildx_is_asked_as_builds_call_it(tmp_path: Path, docker_engine: machine.Engine) -> None:
    """The plugin without a docker command; one that has no builder fails builds, one that is
    missing does not.
    """
    alone = {**docker_engine.environment, "PATH": str(helms.helm(4).parent)}
    assert doctor(tmp_path, **alone).answers["buildx"].startswith("ok")
    ran = doctor(tmp_path, **{**alone, "BUILDX_BUILDER": "nowhere"})
    assert "NOT builder nowhere" in ran.answers["buildx"] and ran.code == 7, ran
    ran = doctor(tmp_path, **{**docker_engine.environment, "DOCKER_CONFIG": str(tmp_path)})
    assert (
        ran.answers["buildx"].startswith("no docker's buildx plugin is not installed")
        and ran.code == 0
    ), ran


def test_doctor_reports_a_refused_login(checkout: Path) -> None:
    with machine.registry(user="ci", password="right-one") as registry:
        configure(checkout, registry.host, ', username: ci, password: "${PASSWORD}"')
        ran = doctor(checkout, "--for", "snapshot", PASSWORD="wrong-one")
        assert ran.code == 7, ran
        assert ran.answers["snapshot images"].startswith("NOT")
        assert "wrong-one" not in str(ran)
        ran = doctor(checkout, "--for", "build_image", PASSWORD="right-one")
        assert (
            "charts under test can read the login that pushes to" in ran.answers["snapshot images"]
        )
        assert doctor(checkout, "--for", "snapshot", PASSWORD="right-one").code == 0


@pytest.mark.parametrize(
    ("step", "need"),
    [
        ("approval", "review approvals"),
        ("merge", "review merge"),
        ("tag_release", "review release"),
        ("promote", "review system"),
    ],
)
def test_doctor_asks_the_review_system_for_steps_that_need_approvals(
    checkout: Path, step: str, need: str
) -> None:
    configure(checkout, "127.0.0.1:9")
    answer = doctor(checkout, "--for", step).answers[need]
    assert answer == "ok no review system is configured"
    with (checkout / "pipeline.yaml").open("a") as config:
        config.write('review: {gitea: {url: "http://127.0.0.1:9", repository: team/charts}}\n')
    ran = doctor(checkout, "--for", step)
    assert ran.answers[need].startswith("NOT"), ran
    assert ran.code == 7, ran


def test_doctor_lists_what_a_machine_lacks_and_ends_with_7(checkout: Path) -> None:
    configure(checkout, "127.0.0.1:9")
    ran = doctor(checkout, DOCKER_HOST="unix:///nowhere.sock", PATH=os.environ["PATH"])
    missing = {name for name, answer in ran.answers.items() if answer.startswith("NOT")}
    assert {
        "engine",
        "snapshot images",
        "snapshot charts",
        "production images",
        "production charts",
    } <= missing, ran
    assert ran.code == 7, "a cluster that is not configured (2) is less than a machine that cannot"
    assert "no docker engine answers" in ran.answers["engine"]


def test_outside_a_repository_only_the_machine_is_asked(
    tmp_path: Path, docker_engine: machine.Engine
) -> None:
    ran = doctor(tmp_path, **docker_engine.environment)
    assert ran.code == 0, ran
    assert set(ran.answers) == set(probes.WITHOUT_CONFIGURATION)
    assert "no pipeline.yaml here" in ran.stderr


def test_doctor_refuses_an_unknown_step(tmp_path: Path) -> None:
    ran = doctor(tmp_path, "--for", "snapshoot")
    assert (ran.code, "did you mean snapshot?" in ran.stderr) == (2, True), ran.stderr


def test_each_need_of_a_step_has_its_probe_and_each_probe_its_step() -> None:
    needs = {need for step, _function in STEPS.values() for need in step.doctor_needs}
    assert {*probes.NEEDED_BY_ALL_STEPS, *needs} == set(probes.PROBES)


def test_doctor_prints_answers_as_json(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "doctor", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert {json.loads(line)["name"] for line in completed.stdout.splitlines()} == set(
        probes.WITHOUT_CONFIGURATION
    )
