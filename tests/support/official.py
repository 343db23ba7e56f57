"""The official workflow (issue "Reviews"): a repository on a real Gitea, its CI, its pages, its people.

CI is act, which runs the workflow files of examples/ on this machine; Gitea's own runner cannot be
had here. It gets what Gitea Actions gives: a checkout with the job's login in the remote, the event,
the variables.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.act import ROOT, WorkflowRun, on_path, run_workflow, stand_ins
from tests.support.giteas import Forge
from tests.support.gits import Repo, bare

EXAMPLE = ROOT / "examples/hello"
ACTION = "example/pipeline-steps@0.1"
#: What the target branch says: policy, which no pull request can change for itself.
PIPELINE = """\
charts:
  - path: charts/*
    images:
      hello: {{image.repository: "{{repository}}", image.tag: "{{tag}}", image.digest: "{{digest}}"}}
images:
  hello: {{context: app}}
tests: {{timeout: 2m}}
channels:
  snapshot: {{images: {registry}/snapshot, charts: "oci://{registry}/snapshot/charts"}}
  production:
    images: {registry}/production
    charts: ["git+file://{pages}"]
    requires: [check, integration_test, approval.code, approval.release]
review: {{gitea: {{url: "{forge}"}}}}
approvals:
  code: {{by: [core]}}
  release: {{by: [chief]}}
evidence: oci://{registry}/evidence
"""
#: What each environment of the workflow files adds: its own accounts.
SITE = """\
hosts:
  {registry}: {{plain_http: true}}
  {forge}: {{plain_http: true, username: ci, password: "${{{password}}}"}}
clusters: {{ci: {{kubeconfig: "${{CI_KUBECONFIG}}"}}}}
channels:
  snapshot: {{images: {registry}/{area}, charts: "oci://{registry}/{area}/charts"}}
  production:
    images: {registry}/production
    charts: ["git+file://{pages}"]
    requires: [check, integration_test, approval.code, approval.release]
evidence: oci://{registry}/{area}/evidence
"""


class Systems(NamedTuple):
    """What runs. registry: host:port; environment: of the docker engine."""

    forge: Forge
    registry: str
    kubeconfig: Path
    environment: dict[str, str]


class Official:
    """A repository with nothing but its policy, and the branch of its pages."""

    def __init__(self, systems: Systems, folder: Path, programs: Path | None = None) -> None:
        """programs: the folder with pipeline-steps; default: that of this Python."""
        self.systems, self.folder = systems, folder
        self.programs = programs or Path(sys.executable).parent
        self.pages = bare(folder / "pages.git")
        if "chief" not in systems.forge.tokens:
            systems.forge.add_person("chief")
        self.repository = systems.forge.repository(folder / "member")
        path = "/collaborators/chief"
        self.repository.call("PUT", path, "core", {"permission": "write"})
        pipeline = PIPELINE.format(
            registry=systems.registry, pages=self.pages, forge=systems.forge.url
        )
        self.repository.commit("main", {"pipeline.yaml": pipeline}, "Say where charts go")
        self.repository.push("main")
        self.repository.protect(
            required_approvals=1, enable_status_check=True,
            status_check_contexts=["pipeline-steps"], enable_push=False,
        )  # fmt: skip
        self._runs = itertools.count(1)

    def write_chart(self) -> None:
        """The chart and its app, as the member has written them; not yet committed."""
        checkout = self.repository.checkout.root
        shutil.copytree(
            EXAMPLE, checkout, symlinks=True, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("pipeline.yaml", "README.md", ".gitignore", ".pipeline"),
        )  # fmt: skip
        subprocess.run([str(checkout / "prepare")], cwd=checkout, check=True)

    def pull_request_build(self, number: int) -> WorkflowRun:
        """What CI does for a pull request: examples/github-pull-request.yml."""
        pull = self.repository.pull(number)
        clone = self._clone(f"refs/pull/{number}/head")
        return self._run(
            "github-pull-request.yml",
            "pull_request",
            clone,
            {"number": number, "pull_request": pull},
            {"GITHUB_REF": f"refs/pull/{number}/head", "GITHUB_BASE_REF": pull["base"]["ref"]},
            {"REVIEW_PASSWORD": self.systems.forge.tokens["ci"]},
            {"REVIEW_USER": "ci", "SITE": self._site("reviews", "REVIEW_PSW")},
        )

    def asked(self, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        """What a person gets for `pipeline-steps WORDS` in a clone of a pull request."""
        clone = self._clone(f"refs/pull/{number}/head")
        site = clone.root.parent / "site.yaml"
        site.write_text(self._site("reviews", "REVIEW_PSW"))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(clone.root.parent),
            "GIT_CONFIG_GLOBAL": str(clone.config),
            "PIPELINE_STEPS_SITE": str(site),
            "REVIEW_PSW": self.systems.forge.tokens["ci"],
        }
        return subprocess.run(
            [str(self.programs / "pipeline-steps"), *words], cwd=clone.root, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip

    def release_build(self, chart: str) -> WorkflowRun:
        """What CI does when somebody starts a release: examples/github-release.yml."""
        return self._run(
            "github-release.yml",
            "workflow_dispatch",
            self._clone("refs/heads/main", login=False),
            {"inputs": {"chart": chart}},
            {"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"},
            {"PRODUCTION_PASSWORD": self.systems.forge.tokens["ci"], "SNAPSHOT_PASSWORD": "none"},
            {"PRODUCTION_USER": "ci", "SITE": self._site("release", "PROD_PSW")},
            inputs={"chart": chart},
        )

    def _clone(self, ref: str, *, login: bool = True) -> Repo:
        """A checkout as actions/checkout leaves it: all history, detached, with the job's login
        or without (`persist-credentials: false`).
        """
        place = self.folder / f"run-{next(self._runs)}"
        place.mkdir()
        clone = Repo(place / "charts", place / "gitconfig", self.repository.clone_url("ci"))
        clone.git("fetch", "-q", "origin", ref)
        clone.git("checkout", "-q", "--detach", "FETCH_HEAD")
        if not login:
            address = f"{self.systems.forge.url}/{self.repository.name}.git"
            clone.git("remote", "set-url", "origin", address)
        return clone

    def _site(self, area: str, password: str) -> str:
        return SITE.format(
            registry=self.systems.registry, forge=self.systems.forge.host,
            pages=self.pages, area=area, password=password,
        )  # fmt: skip

    def _run(
        self,
        workflow: str,
        event: str,
        clone: Repo,
        payload: dict[str, Any],
        environment: dict[str, str],
        secrets: dict[str, str],
        variables: dict[str, str],
        **more: Any,
    ) -> WorkflowRun:
        folder = clone.root.parent / "act"
        forge = self.systems.forge
        actions = {
            ACTION: on_path(folder / "actions/pipeline-steps", self.programs),
            **stand_ins(folder / "actions", folder / "artifacts"),
        }
        values = {
            "GITEA_ACTIONS": "true",
            "GITHUB_SERVER_URL": forge.url,
            "GITHUB_API_URL": f"{forge.url}/api/v1",
            "GITHUB_REPOSITORY": self.repository.name,
            "GITHUB_SHA": clone.git("rev-parse", "HEAD"),
            "GITHUB_RUN_ID": clone.root.parent.name.removeprefix("run-"),
            "GITHUB_RUN_NUMBER": clone.root.parent.name.removeprefix("run-"),
            "GIT_CONFIG_GLOBAL": str(clone.config),
        }
        return run_workflow(
            ROOT / "examples" / workflow,
            clone.root,
            folder,
            event=event,
            payload=json.loads(json.dumps(payload)),
            actions=actions,
            secrets={
                **secrets,
                "KUBECONFIG": self.systems.kubeconfig.read_text(),
                "GITHUB_TOKEN": forge.tokens["ci"],
            },
            variables=variables,
            environment={**values, **self.systems.environment, **environment},
            **more,
        )
