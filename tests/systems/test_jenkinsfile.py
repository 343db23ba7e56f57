"""Jenkinsfile.example and its shared library, executed: checkouts by git, every sh by /bin/sh."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import svns
from tests.support.ci_recorder import Recorder, hostile_refs, hostile_texts
from tests.support.examples import FULL
from tests.support.gits import Repo
from tests.support.jenkins_harness import (
    ROOT,
    JenkinsBuild,
    Login,
    change_merged,
    groovy,
    jenkins_variables,
    patch_set,
    ref_updated,
    run_jenkinsfile,
)

GERRIT = "https://gerrit.example.com"
SECRET = "canary-7be1f4"
CREDENTIALS = {
    "gerrit-reviews": Login("ci-reviews", f"{SECRET}-gerrit-reviews"),
    "gerrit-release": Login("ci-release", f"{SECRET}-gerrit-release"),
    "registry-reviews": Login("reviews", f"{SECRET}-reviews"),
    "registry-snapshots": Login("snapshots", f"{SECRET}-snapshots"),
    "registry-production": Login("production", f"{SECRET}-production"),
    "site-reviews": Path("/etc/reviews.yaml"),
    "site-mainline": Path("/etc/mainline.yaml"),
    "site-release": Path("/etc/release.yaml"),
    "cluster-reviews": Path("/etc/reviews.kubeconfig"),
    "cluster-mainline": Path("/etc/mainline.kubeconfig"),
}
#: The ids that the folder of each job has.
FOLDERS = {
    "reviews/charts": ("gerrit-reviews", "registry-reviews", "site-reviews", "cluster-reviews"),
    "mainline/charts": ("registry-snapshots", "site-mainline", "cluster-mainline"),
    "release/charts": (
        "gerrit-release",
        "registry-snapshots",
        "registry-production",
        "site-release",
        "cluster-mainline",
    ),
}


class Jenkins:
    """A repository, its bare copy that Jenkins fetches from, and a recorder on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repo(folder / "checkout", folder / "gitconfig")
        self.repository.put("charts/hello/Chart.yaml", "main\n")
        self.main = self.repository.commit("main")
        self.repository.git("checkout", "-q", "-b", "topic")
        self.repository.put("charts/hello/Chart.yaml", "patch set\n")
        self.patch_set = self.repository.commit("patch set")
        self.repository.git("update-ref", "refs/changes/34/1234/2", self.patch_set)
        self.repository.git("checkout", "-q", "main")
        self.recorder = Recorder(folder / "recorder")

    def run(
        self,
        job: str,
        event: Mapping[str, str],
        *,
        jenkinsfile: Path = ROOT / "Jenkinsfile.example",
        credentials: Mapping[str, Any] | None = None,
        svn: str = "",
    ) -> JenkinsBuild:
        environment = {
            "PATH": f"{self.recorder.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            **jenkins_variables(job),
            **event,
        }
        if credentials is None:
            credentials = {name: CREDENTIALS[name] for name in FOLDERS[job]}
        return run_jenkinsfile(
            jenkinsfile,
            self.folder / "jenkins",
            job=job,
            environment=environment,
            credentials=credentials,
            url=svn or f"file://{self.repository.root}",
            subversion=bool(svn),
        )

    def seen(self) -> list[str]:
        """What stood in the checkout of each call."""
        return [
            Path(call.folder, "charts/hello/Chart.yaml").read_text().strip()
            for call in self.recorder.calls
        ]


@pytest.fixture
def jenkins(tmp_path: Path) -> Jenkins:
    return Jenkins(tmp_path)


def review(jenkins: Jenkins, **more: str) -> dict[str, str]:
    return {**patch_set(1234, 2, jenkins.patch_set, url=GERRIT), **more}


def test_a_patch_set_is_tested_in_shards_with_the_accounts_of_reviews(jenkins: Jenkins) -> None:
    build = jenkins.run("reviews/charts", review(jenkins))
    assert build.result == "SUCCESS", build.log
    shards = ["integration_test --retry-infrastructure 2"] * 4
    before = ["report --started", "check", "build_image", "snapshot"]
    assert jenkins.recorder.lines == [*before, *shards, "report"]
    assert set(jenkins.seen()) == {"patch set"}, "not the branch that has the Jenkinsfile"
    environments = [call.environment for call in jenkins.recorder.calls]
    assert {each["REVIEW_PSW"] for each in environments} == {f"{SECRET}-reviews"}
    assert {each["PIPELINE_STEPS_SITE"] for each in environments} == {"/etc/reviews.yaml"}
    assert not any("PROD_PSW" in each for each in environments)
    assert logins_seen(jenkins, "GERRIT_PSW") == {"report --started", "report"}
    given = [each.get("PIPELINE_STEPS_SHARD") for each in environments]
    assert sorted(given[4:8], key=str) == ["1/4", "2/4", "3/4", "4/4"]
    assert len({call.folder for call in jenkins.recorder.calls[4:8]}) == 4, "an agent each"
    assert ".pipeline/junit/integration_test1-of-4.xml" in build.reports, "brought back from them"
    assert (build.archive / ".pipeline/junit/check.xml").exists()
    assert SECRET not in build.log
    [[trigger]] = build.calls("properties")  # and its vote is left to `report`
    for result in ("onSuccessful", "onFailed", "onUnstable", "onNotBuilt", "onAborted"):
        assert f"{result}:true" in trigger
    assert "patchsetCreated" in trigger
    assert "refUpdated" not in trigger


def logins_seen(jenkins: Jenkins, variable: str) -> set[str]:
    """The calls that had a variable."""
    return {" ".join(each.argv) for each in jenkins.recorder.calls if variable in each.environment}


def test_the_mainline_is_built_at_what_the_submit_made_of_it(jenkins: Jenkins) -> None:
    event = change_merged(1234, 2, jenkins.patch_set, jenkins.main, url=GERRIT)
    build = jenkins.run("mainline/charts", event)
    assert build.result == "SUCCESS", build.log
    assert jenkins.recorder.lines[:3] == ["check", "build_image", "snapshot"]
    assert set(jenkins.seen()) == {"main"}
    assert "GERRIT_PSW" not in jenkins.recorder.calls[0].environment


def test_the_mainline_in_subversion_is_told_its_own_revision(jenkins: Jenkins) -> None:
    repository = jenkins.folder / "svn"
    svns.svn("create", str(repository), program="svnadmin")
    trunk = f"{repository.as_uri()}/trunk"
    svns.svn("import", "-q", "-m", "charts", str(jenkins.repository.root / "charts"), trunk)
    build = jenkins.run("mainline/charts", {}, svn=trunk)
    assert build.result == "SUCCESS", build.log
    given = jenkins.recorder.calls[0].environment
    assert given["SVN_REVISION"] == "1"
    assert "GIT_COMMIT" not in given, "the text null would win over it"


def test_a_release_without_approvals_asks_for_none_where_the_file_says_so(jenkins: Jenkins) -> None:
    text = (ROOT / "Jenkinsfile.example").read_text()
    jenkinsfile = jenkins.folder / "Jenkinsfile"
    jenkinsfile.write_text(text.replace("  shards: 4,\n", "  approve: false,\n"))
    jenkins.repository.git("tag", "hello-1.4.0", jenkins.main)
    event = ref_updated("refs/tags/hello-1.4.0", jenkins.main)
    build = jenkins.run("release/charts", event, jenkinsfile=jenkinsfile)
    assert build.result == "SUCCESS", build.log
    steps = ["check", "build_image", "snapshot", "integration_test --retry-infrastructure 2"]
    assert jenkins.recorder.lines == [*steps, "promote", "report"]


def test_a_tag_is_approved_and_promoted_with_the_accounts_of_releases(jenkins: Jenkins) -> None:
    jenkins.repository.git("tag", "-a", "-m", "release", "hello-1.4.0", jenkins.main)
    tag_object = jenkins.repository.git("rev-parse", "refs/tags/hello-1.4.0")
    build = jenkins.run("release/charts", ref_updated("refs/tags/hello-1.4.0", tag_object))
    assert build.result == "SUCCESS", build.log
    steps = ["approval", "check", "build_image", "snapshot"]
    tests = ["integration_test --retry-infrastructure 2"] * 4
    assert jenkins.recorder.lines == [*steps, *tests, "approval", "promote", "report"]
    assert logins_seen(jenkins, "PROD_PSW") == {"approval", "promote"}
    assert logins_seen(jenkins, "GERRIT_PSW") == {"approval", "promote", "report"}
    promote = jenkins.recorder.calls[-2]
    assert promote.environment["PROD_PSW"] == f"{SECRET}-production"
    assert promote.environment["GIT_COMMIT"] == jenkins.main, "the commit, not the tag object"
    assert SECRET not in build.log


def test_a_failed_step_is_reported_and_nothing_is_released(tmp_path: Path) -> None:
    jenkins = Jenkins(tmp_path)
    jenkins.recorder = Recorder(tmp_path / "failing", {"integration_test": 8})
    jenkins.repository.git("tag", "hello-1.4.0", jenkins.main)
    build = jenkins.run("release/charts", ref_updated("refs/tags/hello-1.4.0", jenkins.main))
    assert build.result == "FAILURE"
    assert "promote" not in jenkins.recorder.lines
    assert jenkins.recorder.lines[-1] == "report"
    assert ".pipeline/junit/integration_test1-of-4.xml" in build.reports


def test_what_nobody_approved_runs_nothing_in_a_release(tmp_path: Path) -> None:
    jenkins = Jenkins(tmp_path)
    jenkins.recorder = Recorder(tmp_path / "refusing", {"approval": 6})
    jenkins.repository.git("tag", "hello-1.4.0", jenkins.main)
    build = jenkins.run("release/charts", ref_updated("refs/tags/hello-1.4.0", jenkins.main))
    assert build.result == "FAILURE"
    assert jenkins.recorder.lines == ["approval", "report"]


@pytest.mark.parametrize("code", [7, 75])
def test_a_report_that_cannot_be_sent_fails_the_build_and_loses_nothing(
    tmp_path: Path, code: int
) -> None:
    jenkins = Jenkins(tmp_path)
    jenkins.recorder = Recorder(tmp_path / "unsent", {"report": code})
    event = change_merged(1234, 2, jenkins.patch_set, jenkins.main, url=GERRIT)
    build = jenkins.run("mainline/charts", event)
    assert build.result == "FAILURE"
    assert ".pipeline/junit/check.xml" in build.reports
    assert (build.archive / ".pipeline/junit/report.xml").exists(), "what report wrote as well"


def test_a_deleted_tag_builds_nothing(jenkins: Jenkins) -> None:
    build = jenkins.run("release/charts", ref_updated("refs/tags/hello-1.4.0", "0" * 40))
    assert build.result == "SUCCESS"
    assert jenkins.recorder.lines == []


def test_a_job_that_is_not_named_gets_no_account(jenkins: Jenkins) -> None:
    build = jenkins.run("somewhere/else", review(jenkins), credentials=CREDENTIALS)
    assert build.result == "FAILURE"
    assert "jobs does not name somewhere/else: it has reviews/charts, " in build.error
    assert jenkins.recorder.lines == []


def test_production_accounts_are_not_to_be_had_in_the_folder_of_reviews(jenkins: Jenkins) -> None:
    """A Jenkinsfile that asks for them, as a patch set could write it, where jobs read it from."""
    text = (ROOT / "Jenkinsfile.example").read_text()
    stolen = jenkins.folder / "Jenkinsfile"
    stolen.write_text(text.replace("'registry-reviews'", "'registry-production'"))
    build = jenkins.run("reviews/charts", review(jenkins), jenkinsfile=stolen)
    assert build.result == "FAILURE"
    assert "Could not find credentials entry with ID 'registry-production'" in build.error
    assert jenkins.recorder.lines == []


@pytest.mark.parametrize("event", ["patchset-created", "ref-updated"])
def test_neither_a_patch_set_nor_a_branch_starts_a_release(jenkins: Jenkins, event: str) -> None:
    branch = ref_updated("refs/heads/main", jenkins.main)
    given = branch if event == "ref-updated" else review(jenkins)
    build = jenkins.run("release/charts", given)
    assert build.result == "FAILURE"
    assert f"the event {event} is none for a release job: correct its trigger" in build.error
    assert jenkins.recorder.lines == []


def test_a_release_job_needs_a_tag(jenkins: Jenkins) -> None:
    build = jenkins.run("release/charts", {})
    assert build.result == "FAILURE"
    assert "a release job needs a tag" in build.error
    assert build.calls("properties"), "the first start by hand writes the trigger"
    assert not build.calls("checkout")
    assert jenkins.recorder.lines == []


def test_pods_build_with_a_buildkit_elsewhere_and_multibranch_checks_out_itself(
    jenkins: Jenkins,
) -> None:
    """The page's settings for pods, with the variables of the plugin gerrit-code-review."""
    page = (ROOT / "docs/how-to/jenkins.md").read_text()
    [example] = re.findall(r"```groovy\n(@Library.*?podYaml.*?)```", page, re.DOTALL)
    jenkinsfile = jenkins.folder / "Jenkinsfile"
    jenkinsfile.write_text(example)
    docker = jenkins.recorder.bin / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {jenkins.folder}/docker\ntest "$2" = create\n')
    docker.chmod(0o755)
    event = {
        "GERRIT_API_URL": f"{GERRIT}/a/",
        "GERRIT_PROJECT": "charts",
        "GERRIT_CHANGE_NUMBER": "1234",
        "GERRIT_PATCHSET_REVISION": jenkins.patch_set,
        "GERRIT_REFNAME": "refs/changes/34/1234/2",
        "BRANCH_NAME": "34/1234/2",
    }
    build = jenkins.run(
        "reviews/charts/34%2F1234%2F2", event, jenkinsfile=jenkinsfile, credentials=CREDENTIALS
    )
    assert build.result == "SUCCESS", build.log
    assert "docker.image.inside" not in {each["step"] for each in build.steps}
    assert ["pipeline-steps"] in build.calls("container")
    created = (jenkins.folder / "docker").read_text().splitlines()
    assert created == [
        "buildx inspect",
        "buildx create --name pipeline-steps --driver remote tcp://buildkitd.ci:1234",
    ]
    assert jenkins.recorder.calls[0].environment["BUILDX_BUILDER"] == "pipeline-steps"


def test_no_name_that_others_choose_runs_anything(tmp_path: Path) -> None:
    """Tags, branches, topics, subjects, owners, file names: through the library, the declarative
    example, git and a real shell.
    """
    canary = tmp_path / "canary"
    jenkins = Jenkins(tmp_path)
    texts = hostile_texts(canary)
    for number, name in enumerate(hostile_refs(canary)[:: 1 if FULL else 5]):
        jenkins.repository.git("update-ref", f"refs/tags/{name}", jenkins.main)
        text = texts[number % len(texts)]
        event = ref_updated(f"refs/tags/{name}", jenkins.main)
        build = jenkins.run("release/charts", {**event, "GERRIT_EVENT_ACCOUNT_NAME": text})
        assert build.result == "SUCCESS", build.log
        assert jenkins.recorder.calls[-1].environment["GERRIT_REFNAME"] == f"refs/tags/{name}"
        assert not canary.exists(), name
    subject = {f"GERRIT_CHANGE_{part}": "".join(texts) for part in ("SUBJECT", "OWNER", "URL")}
    branch = hostile_refs(canary)[0]
    build = jenkins.run(
        "reviews/charts", review(jenkins, GERRIT_BRANCH=branch, GERRIT_TOPIC=branch, **subject)
    )
    assert build.result == "SUCCESS", build.log
    assert not canary.exists()
    for text in hostile_texts(Path("planted")):
        jenkins.repository.put(f"charts/{text.replace('/', '')}/Chart.yaml", "x")
    revision = jenkins.repository.commit("names")
    jenkins.repository.git("update-ref", f"refs/tags/{branch}", revision)
    event = {**ref_updated(f"refs/tags/{branch}", revision), **subject}
    build = jenkins.run("charts", event, jenkinsfile=DECLARATIVE, credentials=CREDENTIALS)
    assert build.result == "SUCCESS", build.log
    assert jenkins.recorder.lines[-2] == "promote"
    assert not canary.exists() and not [*tmp_path.rglob("planted")]


@pytest.fixture(scope="module")
def broken_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def write(body: str) -> Path:
        folder = tmp_path_factory.mktemp("library")
        (folder / "chartPipeline.groovy").write_text(
            f"def call(Map settings) {{ node('a') {{ {body} }} }}"
        )
        return folder

    return write


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('sh "echo ${env.GERRIT_BRANCH}"', "a value is interpolated into the shell"),
        ("shell 'true'", "No such DSL method 'shell'"),
        ("junit files: 'x'", "junit: no parameter files"),
    ],
)
def test_the_harness_refuses_what_jenkins_would_not_know_or_we_do_not_want(
    jenkins: Jenkins, broken_library: Callable[[str], Path], body: str, error: str
) -> None:
    build = run_jenkinsfile(
        ROOT / "Jenkinsfile.example",
        jenkins.folder / "jenkins",
        job="reviews/charts",
        environment={"PATH": os.environ["PATH"], "GERRIT_BRANCH": "main"},
        credentials={},
        url=f"file://{jenkins.repository.root}",
        library=broken_library(body),
    )
    assert build.result == "FAILURE"
    assert error in build.error


DECLARATIVE = ROOT / "examples/Jenkinsfile.declarative"


def test_the_declarative_example_runs_its_stages_and_releases_only_tags(jenkins: Jenkins) -> None:
    event = {**ref_updated("refs/heads/main", jenkins.main), "GIT_BRANCH": "origin/main"}
    build = jenkins.run("charts", event, jenkinsfile=DECLARATIVE, credentials=CREDENTIALS)
    assert build.result == "SUCCESS", build.log
    assert jenkins.recorder.lines[0] == "check"
    assert jenkins.recorder.lines[-2:] == ["integration_test --retry-infrastructure 2", "report"]
    assert jenkins.recorder.calls[0].environment["SNAP_USR"] == "snapshots"
    before = jenkins.recorder.lines
    tag = ref_updated("refs/tags/hello-1.4.0", jenkins.main)
    build = jenkins.run("charts", tag, jenkinsfile=DECLARATIVE, credentials=CREDENTIALS)
    steps = ["check", "build_image", "snapshot", "integration_test --retry-infrastructure 2"]
    assert jenkins.recorder.lines[len(before) :] == [
        "approval",
        *steps,
        "approval",
        "promote",
        "report",
    ]
    assert jenkins.recorder.calls[-2].environment["PROD_PSW"] == f"{SECRET}-production"
    assert logins_seen(jenkins, "PROD_PSW") == {"approval", "promote"}
    assert logins_seen(jenkins, "GERRIT_PSW") == {"approval", "promote", "report"}
    assert SECRET not in build.log


@pytest.mark.parametrize("of_a_review", [True, False])
def test_the_declarative_example_tells_a_review_that_tests_have_begun(
    jenkins: Jenkins, of_a_review: bool
) -> None:
    merged = change_merged(1234, 2, jenkins.patch_set, jenkins.main, url=GERRIT)
    event = review(jenkins) if of_a_review else merged
    build = jenkins.run("charts", event, jenkinsfile=DECLARATIVE, credentials=CREDENTIALS)
    assert build.result == "SUCCESS", build.log
    assert ("report --started" in jenkins.recorder.lines) == of_a_review
    assert jenkins.recorder.calls[-1].environment["GERRIT_USR"] == "ci-reviews"
    reports = {"report --started", "report"} if of_a_review else {"report"}
    assert logins_seen(jenkins, "GERRIT_PSW") == reports


def test_the_check_of_declarative_syntax_takes_the_example_and_names_what_is_wrong(
    tmp_path: Path,
) -> None:
    """Measured on the fixtures of the plugin itself: docs/decisions/0035."""
    text = DECLARATIVE.read_text()
    wrong = {
        "undefined section stagez of pipeline": ("stages {", "stagez {"),
        "there is no timeouts": ("timeout(", "timeouts("),
        "post: expected a block": ("post { always {", "post always {"),
        "undefined section alway of post": ("always {", "alway {"),
        "when: no condition expresion": ("expression {", "expresion {"),
        "duplicate stage name Check": ("stage('Build')", "stage('Check')"),
        "junit: invalid parameter allowEmpty": ("allowEmptyResults:", "allowEmpty:"),
        "agent docker: missing image": ("image 'registry.example.com/ci/pipeline-steps:0.1';", ""),
        "duplicate environment variable SNAP": ("CI_KUBECONFIG =", "SNAP ="),
    }
    for name, (right, other) in wrong.items():
        assert right in text
        (tmp_path / f"{name}.groovy").write_text(text.replace(right, other, 1))
    files = sorted(tmp_path.iterdir())
    code, output = groovy("declarative.groovy", DECLARATIVE, *files)
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == f"{DECLARATIVE}: accepted"
    for file, line in zip(files, lines[1:], strict=True):
        assert line.startswith(f"{file}: ")
        assert file.stem in line


def test_the_declarative_example_keeps_its_results_when_the_report_cannot_be_sent(
    tmp_path: Path,
) -> None:
    jenkins = Jenkins(tmp_path)
    jenkins.recorder = Recorder(tmp_path / "unsent", {"report": 75})
    event = ref_updated("refs/heads/main", jenkins.main)
    build = jenkins.run("charts", event, jenkinsfile=DECLARATIVE, credentials=CREDENTIALS)
    assert build.result == "FAILURE"
    assert ".pipeline/junit/check.xml" in build.reports
    assert (build.archive / ".pipeline/junit/report.xml").exists()
