"""The workflow for private charts, its 13 arrows, on real systems: Gerrit, a docker engine, two
registries with logins, Kubernetes, and Jenkinsfile.example run by the harness of jenkins_harness.

Developer A is alice, developer B bob, the accounts of the Jenkins jobs are those of its folders.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import helms, machine
from tests.support.gerrits import PEOPLE, Change, Gerrit, Project, new_change_id
from tests.support.jenkins_harness import (
    ROOT,
    JenkinsBuild,
    Login,
    change_merged,
    jenkins_variables,
    patch_set,
    ref_updated,
    run_jenkinsfile,
)
from tests.support.registries import Running
from tools.demo import gerrit as demo_gerrit
from tools.demo import repository

PAGE = "app/www/cgi-bin/index.cgi"
CHART = "charts/hello/Chart.yaml"
SNAPSHOTS = Login("snapshots", "pw-51ce-snap")
PRODUCTION = Login("production", "pw-27fa-prod")
SITE = """\
review: {{gerrit: {{url: "{gerrit}"}}}}
channels:
  snapshot: {{images: "{snapshots}/{area}", charts: "oci://{snapshots}/{area}/charts"}}
  production:
    images: {production}/images
    charts: ["oci://{production}/charts"]
    requires: [check, integration_test, approval.code]
approvals: {{code: {{gerrit: "label:Code-Review=MAX"}}}}
evidence: oci://{snapshots}/{area}/evidence
hosts:
  "{snapshots}":
    username: "${{{login}_USR}}"
    password: "${{{login}_PSW}}"
    pull: {{username: "${{{login}_USR}}", password: "${{{login}_PSW}}"}}
  "{production}": {{username: "${{PROD_USR}}", password: "${{PROD_PSW}}"}}
  "{gerrit_host}": {{username: "${{GERRIT_USR}}", password: "${{GERRIT_PSW}}"}}
clusters: {{ci: {{kubeconfig: "${{CI_KUBECONFIG}}"}}}}
"""


class World:
    """The company's systems. environment: of an agent's account, without any login."""

    def __init__(
        self, folder: Path, gerrit: Gerrit, hosts: tuple[str, str], environment: dict[str, str],
        kubeconfig: Path,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.gerrit = gerrit
        self.snapshots, self.production = hosts
        self.environment = {**environment, "HOME": str(folder)}
        self.kubeconfig = kubeconfig
        self.project = gerrit.project(folder / "alice")
        self.builds = 0

    def site(self, area: str) -> Path:
        """A site file whose snapshots and records go to an area of the registry."""
        path = self.folder / f"site-{area}.yaml"
        path.write_text(
            SITE.format(
                gerrit=self.gerrit.url,
                gerrit_host=self.gerrit.host,
                snapshots=self.snapshots,
                production=self.production,
                area=area,
                login="REVIEW" if area == "reviews" else "SNAP",
            )
        )
        return path

    def jenkins(self, job: str, event: Mapping[str, str]) -> JenkinsBuild:
        """The build that an event starts, with the credentials that the job's folder has."""
        area = "reviews" if job.startswith("reviews") else "mainline"
        folders: dict[str, dict[str, Login | Path]] = {
            "reviews/charts": {"registry-reviews": SNAPSHOTS, "site-reviews": self.site(area)},
            "mainline/charts": {"registry-snapshots": SNAPSHOTS, "site-mainline": self.site(area)},
            "release/charts": {
                "registry-snapshots": SNAPSHOTS,
                "registry-production": PRODUCTION,
                "site-release": self.site(area),
            },
        }
        account = "gerrit-release" if job.startswith("release") else "gerrit-reviews"
        self.builds += 1
        return run_jenkinsfile(
            ROOT / "Jenkinsfile.example",
            self.folder / f"build-{self.builds}",
            job=job,
            environment={
                **self.environment,
                **jenkins_variables(job, self.builds),
                **event,
                "GERRIT_PROJECT": self.project.name,
            },
            credentials={
                account: Login("ci", PEOPLE["ci"]),
                **folders[job],
                f"cluster-{area}": self.kubeconfig,
            },
            url=f"{self.gerrit.url}/a/{self.project.name}",
            login=account,
        )

    def alice(self, *words: str, code: int = 0) -> str:
        """What `pipeline-steps …` says in alice's clone, with her own logins."""
        logins = {
            "GERRIT_USR": "alice",
            "GERRIT_PSW": PEOPLE["alice"],
            "SNAP_USR": SNAPSHOTS.username,
            "SNAP_PSW": SNAPSHOTS.password,
            # To look whether the version is free. htpasswd knows no account that only reads.
            "PROD_USR": PRODUCTION.username,
            "PROD_PSW": PRODUCTION.password,
        }
        completed = subprocess.run(
            ["pipeline-steps", *words],
            cwd=self.project.repo.root,
            env={
                **self.environment,
                **logins,
                "PIPELINE_STEPS_SITE": str(self.site("mainline")),
                "GIT_CONFIG_GLOBAL": str(self.project.repo.config),
            },
            capture_output=True,
            text=True,
        )
        assert completed.returncode == code, completed.stderr
        return completed.stdout + completed.stderr

    def paths(self, host: str, login: Login) -> list[str]:
        """What lies in a registry, as its own catalogue says."""
        completed = subprocess.run(
            ["curl", "--silent", "--fail", "--config", "-", f"http://{host}/v2/_catalog"],
            input=f'user = "{login.username}:{login.password}"',
            capture_output=True,
            text=True,
        )
        return list(json.loads(completed.stdout)["repositories"]) if completed.stdout else []


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, gerrit: Gerrit, docker_engine: machine.Engine
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("private")
    environment = {
        **docker_engine.environment,
        "PATH": f"{Path(sys.executable).parent}:{helms.helm(4).parent}:{os.environ['PATH']}",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    with (
        machine.registry(user=SNAPSHOTS.username, password=SNAPSHOTS.password) as snapshots,
        machine.registry(user=PRODUCTION.username, password=PRODUCTION.password) as production,
        machine.kubernetes_node(snapshots.host) as node,
    ):
        hosts = snapshots.host, production.host
        world = World(folder, gerrit, hosts, environment, node.kubeconfig)
        first_commit(world.project, folder)
        yield world


def first_commit(project: Project, folder: Path) -> None:
    """The example on main, reviewed like everything that comes later."""
    repository.ensure(folder / "hello", ROOT / "examples/hello")
    shutil.rmtree(folder / "hello/.git")
    shutil.copytree(folder / "hello", project.repo.root, dirs_exist_ok=True, symlinks=True)
    project.repo.git("add", "--force", "--all")
    project.repo.git("commit", "-q", "-m", f"Add hello\n\nChange-Id: {new_change_id()}")
    project.push_commit("HEAD")
    [found] = project.gerrit.do("GET", f"/changes/?q=project:{project.name}&o=CURRENT_REVISION")
    change = Change(found["_number"], 1, found["current_revision"], found["change_id"])
    project.vote(change, "ci", Verified=1)
    submit(project, change)


def submit(project: Project, change: Change) -> None:
    """What B does on the change's page."""
    project.vote(change, "bob", Code_Review=2)
    path = f"{project.path(change)}/revisions/{change.revision}/submit"
    project.gerrit.do("POST", path, {}, by="bob")


def changed(project: Project, version: str, greeting: str) -> dict[str, str]:
    """The files of a change to the chart's page, with the next version."""
    page = (project.repo.root / PAGE).read_text()
    chart = (project.repo.root / CHART).read_text()
    return {
        PAGE: page.replace("<body>", f"<body><!-- {greeting} -->") + f"# {greeting}\n",
        CHART: re.sub(r"(?m)^version: .*", f"version: {version}", chart),
    }


def records(build: JenkinsBuild, step: str) -> list[dict[str, Any]]:
    """The outcomes of a step that a build archived."""
    files = (build.archive / ".pipeline").glob("state*.jsonl")  # one for each shard
    lines = {line: None for file in files for line in file.read_text().splitlines()}
    found = [record for record in map(json.loads, lines) if record["step"] == step]
    return [record for record in found if record["result"] != "started"]


def test_a_change_becomes_a_release_that_helm_pulls(world: World) -> None:
    project, gerrit = world.project, world.gerrit
    # 1 A pushes for review; 2 Gerrit starts the job of patch sets.
    change = project.push(changed(project, "0.2.0", "good day"), subject="Greet politely")
    event = patch_set(change.number, change.patch_set, change.revision, url=gerrit.url)
    build = world.jenkins("reviews/charts", event)
    assert build.result == "SUCCESS", build.log
    # 3 check and build, 4 the image, 5 the snapshot, 6 the test.
    stored = world.paths(world.snapshots, SNAPSHOTS)
    assert {"reviews/hello", "reviews/charts/hello"} <= set(stored)
    assert any(path.startswith("reviews/evidence/") for path in stored)
    tested = {each["result"] for each in records(build, "integration_test")}
    # A busy cluster is asked again, and both attempts are on record.
    assert tested - {"infrastructure"} == {"passed"}
    [made] = records(build, "build_image")
    # 7 the verdict on exactly that patch set.
    assert project.votes(change) == {"ci": 1}
    [message] = [
        each["message"] for each in project.messages(change) if "Verified" in each["message"]
    ]
    assert message.startswith("Patch Set 1: Verified+1\n")
    assert made["outputs"]["image"].partition("@")[2][:19] in message
    # 8 B approves and submits; the job of the mainline builds it into the store that counts.
    asked = world.alice("approval", "--chart", "hello", "--review", str(change.number), code=6)
    assert "has no approval code: 1 more person must approve" in asked
    submit(project, change)
    merged = project.tip()
    event = change_merged(change.number, change.patch_set, change.revision, merged, url=gerrit.url)
    build = world.jenkins("mainline/charts", event)
    assert build.result == "SUCCESS", build.log
    # 9 A tags what is merged; 10 Gerrit starts the job of tags.
    project.repo.git("checkout", "-q", "-B", "main", "origin/main")
    world.alice("tag_release", "--chart", "hello")
    tag = project.repo.git("ls-remote", "origin", "refs/tags/hello-0.2.0").split()[0]
    build = world.jenkins("release/charts", ref_updated("refs/tags/hello-0.2.0", tag))
    assert build.result == "SUCCESS", build.log
    # 11 what is tested already is proven; 12 image and chart go to production.
    assert records(build, "integration_test") == [], "proven by the mainline's records"
    [promoted] = records(build, "promote")
    assert promoted["result"] == "passed"
    approvals = records(build, "approval")
    assert approvals, "promote asked again"
    assert "bob" in json.dumps(approvals)
    assert {"images/hello", "charts/hello"} <= {*world.paths(world.production, PRODUCTION)}
    # 13 somebody pulls it.
    pulled = pull(world, "0.2.0")
    assert pulled["version"] == "0.2.0"
    secrets = [SNAPSHOTS.password, PRODUCTION.password, PEOPLE["ci"]]
    assert not [secret for secret in secrets if secret in build.log]


def test_make_demo_gerrit_tells_a_story_that_ends_with_a_release(
    gerrit: Gerrit, registry: Running, world: World, tmp_path: Path
) -> None:
    """Its commands and its proof, on the systems of the tests; `make demo` starts its own."""
    project = f"demo-{registry.host.rpartition(':')[2]}"
    gerrit.create_project(project)
    channel = {"charts": f"oci://{registry.host}/charts", "images": f"{registry.host}/images"}
    snapshots = {name: f"{place}/snapshots" for name, place in channel.items()}
    evidence = (tmp_path / "evidence").as_uri()
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        json.dumps(
            {
                "hosts": {registry.host: {"plain_http": True}},
                "channels": {"snapshot": snapshots, "production": channel},
                "evidence": evidence,
                "clusters": {"tests": {"kubeconfig": str(world.kubeconfig)}},
            }
        )
    )
    with machine.kubernetes_node(registry.host) as node:
        assert node.kubeconfig == world.kubeconfig
        demo_gerrit.clones(gerrit, tmp_path, project)
        variables = {**world.environment, "PIPELINE_STEPS_CONFIG": str(overlay)}
        assert demo_gerrit.story(gerrit, tmp_path, project, variables) == 0
        assert demo_gerrit.show(tmp_path, overlay, variables) == 0


def pull(world: World, version: str) -> dict[str, Any]:
    """What helm, logged in to production, shows of a chart."""
    environment = {**world.environment, "HELM_REGISTRY_CONFIG": f"{world.folder}/internal.json"}

    def helm(*words: str, stdin: str = "") -> str:
        completed = subprocess.run(
            ["helm", *words], env=environment, input=stdin, capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    login = ("--username", PRODUCTION.username, "--password-stdin", "--plain-http")
    helm("registry", "login", world.production, *login, stdin=PRODUCTION.password)
    place = f"oci://{world.production}/charts/hello"
    chart = helm("show", "chart", place, "--version", version, "--plain-http")
    return dict(line.split(": ", 1) for line in chart.splitlines() if ": " in line)
