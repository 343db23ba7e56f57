"""Workflow B: a public chart repository on Launchpad (a double), with real branches of git and of
Bazaar.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from pipeline_steps.reviews.review import Verdict
from pipeline_steps.sources.source import short_revision
from tests.support import docs
from tests.support.helms import helm
from tests.support.launchpads import Call, Project, Proposal
from tests.support.lp_projects import PASSWORD, SYSTEMS, LpProject

HOW_TO = docs.ROOT / "docs/how-to/launchpad.md"
CHART = "apiVersion: v2\nname: {name}\ndescription: says hello\nversion: {version}\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {word: hello}\n'


class Public(NamedTuple):
    """The maintainer's checkout of `trunk` in `root`; published charts are in `repository`."""

    project: LpProject
    root: Path
    repository: Path

    def run(self, line: str, code: int = 0, person: str = "boss") -> str:
        """What a line of shell says, as its maintainer types it, who is this person there."""
        programs = f"{Path(sys.executable).parent}:{helm(4).parent}:/usr/bin:{os.environ['PATH']}"
        ran = subprocess.run(
            ["sh", "-c", line],
            cwd=self.root,
            env={
                "PATH": programs,
                "HOME": str(self.project.folder),
                "LP_CREDENTIALS_FILE": self.project.settings(person)["token_file"],
                **self.project.environment(),
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        said = ran.stdout + ran.stderr
        assert ran.returncode == code, f"{line}: {ran.returncode}\n{said}"
        for secret in (PASSWORD, f"secret-of-{person}"):
            assert secret not in said
        return said

    def propose(self, files: dict[str, str | None], message: str = "") -> tuple[str, Proposal]:
        """dev pushes a branch, and proposes it: how people write it, and the proposal."""
        name = self.project.next_branch()
        self.project.commit(name, files, message or "change")
        return self.project.identity(name), self.project.propose(name, message=message)

    def update(self) -> None:
        self.run(
            "git pull -q --tags"
            if self.project.system == "git"
            else "PATH=/usr/bin:$PATH brz pull -q"
        )


def chart(name: str, version: str, word: str = "hello") -> dict[str, str | None]:
    return {
        f"charts/{name}/Chart.yaml": CHART.format(name=name, version=version),
        f"charts/{name}/templates/map.yaml": MAP.replace("hello", word),
    }


@pytest.fixture(params=SYSTEMS)
def public(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Public]:
    with SYSTEMS[request.param](tmp_path / "launchpad") as project:
        repository = tmp_path / "published"
        settings = {key: each for key, each in project.settings("boss").items() if "url" in key}
        config = {
            "charts": [{"path": "charts/*", "tests": {"none": "rendered only"}}],
            "channels": {
                "snapshot": {"charts": f"file://{tmp_path}/snapshots"},
                "production": {"charts": f"file://{repository}"},
            },
            "evidence": f"file://{tmp_path}/evidence",
            "check": {"version": "required"},
            "review": {"launchpad": settings},
            "approvals": {"code": {"by": "group:owners"}},
        }
        files = {**chart("web", "1.0.0"), **chart("api", "2.0.0")}
        project.commit("trunk", {"pipeline.yaml": yaml.safe_dump(config), **files})
        yield Public(project, project.check_out(tmp_path / "trunk"), repository)


def test_exactly_what_was_reviewed_is_merged(public: Public) -> None:
    project = public.project
    branch, proposal = public.propose(chart("web", "1.1.0", "better"), "Say better")
    reviewed, before = proposal.source.tip(), project.tip("trunk")
    merge = f"pipeline-steps merge --review {branch}"
    assert "has no approval code: 1 more person must approve" in public.run(merge, 6)
    project.as_person("dev", proposal).createComment(content="mine", vote="Approve")
    assert "dev: Launchpad does not say of which revision" in public.run(merge, 6)
    project.approve(proposal)
    assert f"would be merged into {project.target_name}" in public.run(f"{merge} --plan")
    assert project.tip("trunk") == before and proposal.status == "Approved"
    assert "merge: passed" in public.run(merge)
    merged = project.tip("trunk")
    assert project.parents(merged) == [before, reviewed]
    assert "better" in project.read("charts/web/templates/map.yaml")
    assert (proposal.status, proposal.merged) == ("Merged", merged)
    assert "is merged already" in public.run(merge)
    assert project.tip("trunk") == merged
    public.update()
    assert "1.1.0" in (public.root / "charts/web/Chart.yaml").read_text()


def test_a_branch_that_moved_after_its_approval(public: Public) -> None:
    project = public.project
    branch, proposal = public.propose(chart("web", "1.1.0", "better"))
    reviewed, before = proposal.source.tip(), project.tip("trunk")
    project.approve(proposal)
    project.commit(branch.rpartition("/")[2].rpartition(":")[2], {"README": "sneaked in"})
    # The chart is as it was approved, and a release may have it; a merge brings README, too.
    public.run(f"pipeline-steps run public --proposal {branch} --channels configured")
    ask = f"pipeline-steps approval --chart web --review {branch}"
    said = public.run(f"cd .pipeline/proposals/* && {ask}")
    assert "by boss, given" in said and f"on {short_revision(reviewed)}" in said
    merge = f"pipeline-steps merge --review {branch}"
    assert f"given on {short_revision(reviewed)}, which has other changes" in public.run(merge, 6)
    assert "have the newest revision reviewed" in public.run(f"{merge} --revision {reviewed}", 5)
    project.hub.scans = False  # Launchpad has not noticed yet
    project.commit(branch.rpartition("/")[2].rpartition(":")[2], {"README": "again"})
    project.approve(proposal)
    assert "not at the reviewed" in public.run(merge, 5)
    assert project.tip("trunk") == before and proposal.status == "Approved"


def test_a_version_that_the_target_has_taken(public: Public) -> None:
    project = public.project
    branches = [public.propose(chart("web", "1.1.0", word)) for word in ("one", "two")]
    for _, proposal in branches:
        project.approve(proposal)
    public.run(f"pipeline-steps merge --review {branches[0][0]}")
    before = project.tip("trunk")
    said = public.run(f"pipeline-steps merge --review {branches[1][0]}", 5)
    assert f"version 1.1.0 is not above 1.1.0 of {project.target_name}" in said
    assert project.tip("trunk") == before and branches[1][1].status == "Approved"


def test_what_conflicts_or_goes_wrong_leaves_nothing_half_done(public: Public) -> None:
    project = public.project
    branch, proposal = public.propose(chart("web", "1.1.0", "better"))
    project.approve(proposal)
    project.commit("trunk", chart("web", "1.0.1", "other"))
    before = project.tip("trunk")
    merge = f"pipeline-steps merge --review {branch}"
    assert "conflicts with" in public.run(merge, 5)
    assert project.tip("trunk") == before and proposal.status == "Approved"

    branch, proposal = public.propose(chart("new", "0.1.0"))
    project.approve(proposal)
    merge = f"pipeline-steps merge --review {branch}"

    def gone(call: Call) -> tuple[int, str] | None:
        return (500, "OOPS") if call.operation == "setStatus" else None

    project.hub.fault = gone
    assert "OOPS" in public.run(merge, 75)
    pushed = project.tip("trunk")
    assert pushed != before and proposal.status == "Approved"
    project.hub.fault = lambda _: None
    later = project.commit("trunk", {"README": "somebody was faster"})
    public.run(merge)  # the second run goes on, and merges nothing again
    assert project.tip("trunk") == later
    assert (proposal.status, proposal.merged) == ("Merged", pushed)


def test_what_ci_says_no_to_is_not_merged(public: Public) -> None:
    """Launchpad guards no target; the verdict is of another account than who merges."""
    project = public.project
    branch, proposal = public.propose(chart("web", "1.1.0", "better"))
    project.approve(proposal)
    before, reviews = project.tip("trunk"), project.reviews("ci")
    review = reviews.review(proposal.path)
    verdict = Verdict(review.head, "negative", "failed", "failed")
    reviews.deliver(review, verdict)
    merge = f"pipeline-steps merge --review {branch}"
    assert f"the verdict on {review.head} is negative, says ci" in public.run(merge, 6)
    assert project.tip("trunk") == before
    reviews.deliver(review, verdict._replace(word="positive"))
    public.run(merge)
    assert proposal.status == "Merged"


def test_who_may_not(public: Public) -> None:
    project = public.project
    branch, proposal = public.propose(chart("web", "1.1.0", "better"))
    project.approve(proposal)
    before = project.tip("trunk")
    line = f"chmod 644 $LP_CREDENTIALS_FILE; pipeline-steps merge --review {branch}"
    assert "other accounts may read this token" in public.run(line, 7)
    line = f"unset LP_CREDENTIALS_FILE; pipeline-steps merge --review {branch}"
    assert "no token for Launchpad" in public.run(line, 7)
    assert project.tip("trunk") == before and proposal.status == "Approved"


def test_the_how_to_does_what_it_says(public: Public) -> None:
    branch, proposal = public.propose(chart("web", "1.1.0", "better"))
    public.project.approve(proposal)
    for line in docs.scripts(HOW_TO):
        if line == "pipeline-steps run public --channels configured":
            public.update()
        public.run(line.replace("lp:~dev/charts/fix", branch))
    assert proposal.status == "Merged" and public.project.tags("trunk") == ["2026.11"]
    assert len(list(public.repository.glob("*.tgz"))) == 2


def test_a_proposal_is_checked_and_tested_as_a_ci_would(public: Public) -> None:
    """The policy is the target's, and nothing leaves this machine but snapshots and evidence."""
    project = public.project
    policy = yaml.safe_load((public.root / "pipeline.yaml").read_text())
    policy["channels"]["production"]["charts"] = f"file://{project.folder}/stolen"
    files = {**chart("web", "1.1.0", "better"), "pipeline.yaml": yaml.safe_dump(policy)}
    branch, proposal = public.propose(files, "Say better")
    before = {path.name for path in public.root.iterdir()} - {".pipeline"}
    said = public.run(f"pipeline-steps run public --proposal {branch} --channels configured")
    assert "this review changes channels; that takes effect after the merge" in said
    for step in ("check", "snapshot", "integration_test", "report"):
        assert f"✓ {step}" in said
    assert "web" in said and "api: passed" not in said  # only what the proposal changes
    command = f"pipeline-steps merge --review '{branch}' --revision {proposal.source.tip()}"
    assert f"tested; merge it with: {command}" in said
    assert {path.name for path in public.root.iterdir()} - {".pipeline"} == before
    assert not proposal.comments and not public.repository.exists()
    project.approve(proposal)
    public.run(command)
    assert proposal.status == "Merged"
    public.update()
    said = public.run("pipeline-steps run public --channels configured")
    assert "stopped before tag_release; go on with" in said and "regenerate" not in said


def test_a_bad_proposal_is_told_and_not_offered_for_merging(public: Public) -> None:
    branch, _ = public.propose({"charts/web/templates/map.yaml": "{{ .Values.none.at.all }}\n"})
    line = f"pipeline-steps run public --proposal {branch} --channels configured"
    said = public.run(line, 8)
    assert "✗ check" in said and "merge it with" not in said
    assert "releases nothing" in public.run(f"{line} --release", 2)
    assert "releases nothing" in public.run(line.replace("public", "private"), 2)


def release_notes(project: LpProject) -> list[str]:
    """The notes of each release on Launchpad."""
    charts = project.hub.entries["charts"]
    assert isinstance(charts, Project)
    return [str(each.release and each.release.notes) for each in charts.milestones]


def test_one_tag_over_all_charts_and_every_version_again(public: Public) -> None:
    project = public.project
    release = "pipeline-steps tag_release --global 2026.10"
    assert "no record of check" in public.run(release, 4)  # nothing is tested yet
    assert not project.tags("trunk")
    public.run("pipeline-steps run public --channels configured")
    assert "tag 2026.10 at" in public.run(f"{release} --plan") and not project.tags("trunk")
    public.run(release)
    public.run(release)  # again changes nothing
    assert project.tags("trunk") == ["2026.10"]
    [first] = release_notes(project)
    assert "web 1.0.0" in first and "api 2.0.0" in first
    again = "pipeline-steps regenerate --tags '20*'"
    assert "2 published" in public.run(again)
    assert "published" in public.run(again)

    branch, proposal = public.propose(chart("web", "1.1.0", "better"), "Say better")
    project.approve(proposal)
    public.run(f"pipeline-steps run public --proposal {branch} --channels configured")
    public.run(f"pipeline-steps merge --review {branch}")
    public.update()
    public.run("pipeline-steps tag_release --global 2026.11")
    _, second = release_notes(project)
    assert "web 1.1.0" in second and "api 2.0.0 (unchanged)" in second
    assert "Changes since 2026.10:" in second and "- Say better" in second
    assert "1 published" in public.run(again)  # only what changed
    names = sorted(path.name for path in public.repository.glob("*.tgz"))
    assert names == ["api-2.0.0.tgz", "web-1.0.0.tgz", "web-1.1.0.tgz"]
    public.run(f"helm template x {public.repository}/web-1.1.0.tgz")


def test_make_demo_public_tells_a_story_that_ends_with_charts(tmp_path: Path) -> None:
    """Its commands, each of which must end as the story says; with Bazaar."""
    story = [sys.executable, "-m", "tools.demo.public_story", str(tmp_path)]
    path = f"{Path(sys.executable).parent}:{helm(4).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path)}
    told = subprocess.run(story, cwd=docs.ROOT, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    charts = sorted(each.name for each in (tmp_path / "published").glob("*.tgz"))
    assert charts == ["api-2.0.0.tgz", "web-1.1.0.tgz"]
