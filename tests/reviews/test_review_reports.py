"""The step `report` against real review systems: a build of a review checks a chart and tells it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from pipeline_steps.reporting import review_text
from tests.support import gerrits, giteas
from tests.support.github import Answer, running_server
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.relays import Relay
from tests.support.review_pages import HOSTILE, hostile_about, hostile_page
from tests.support.review_systems import SYSTEMS, GerritWorld, GiteaWorld, Proposed, World

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "BOT_PASSWORD"
BROKEN = "{{ .Values.nothing.at.all }}\n"


class Build(NamedTuple):
    """What a test needs of a system beside `World`.

    repo: a clone with the remote. review, hosts: sections of pipeline.yaml. secret: of the bot.
    variables: of a CI build of a review. push_main: brings a commit to main.
    """

    repo: Repo
    review: Mapping[str, Any]
    hosts: Mapping[str, Any]
    secret: str
    variables: Callable[[Proposed], Mapping[str, str]]
    push_main: Callable[[str], None]


def gerrit_build(world: World) -> Build:
    assert isinstance(world, GerritWorld)
    project = world.project

    def variables(proposed: Proposed) -> Mapping[str, str]:
        return {
            "JENKINS_URL": "https://ci.example.com/",
            "BUILD_TAG": "jenkins-charts-7",
            "BUILD_URL": "https://ci.example.com/job/charts/7/",
            "GERRIT_EVENT_TYPE": "patchset-created",
            "GERRIT_CHANGE_NUMBER": proposed.id,
            "GERRIT_PATCHSET_REVISION": proposed.revision,
            "GERRIT_BRANCH": "main",
            "GERRIT_PROJECT": project.name,
        }

    def push_main(revision: str) -> None:
        project.repo.git("push", "-q", project.url("admin"), f"{revision}:refs/heads/main")

    return Build(
        project.repo,
        {"gerrit": {"url": world.gerrit.url}},
        {world.gerrit.host: {"username": world.bot, "password": f"${{{PASSWORD}}}"}},
        gerrits.PEOPLE[world.bot],
        variables,
        push_main,
    )


def gitea_build(world: World) -> Build:
    assert isinstance(world, GiteaWorld)
    repository, forge = world.repository, world.repository.forge

    def variables(proposed: Proposed) -> Mapping[str, str]:
        event = repository.checkout.root.parent / f"event-{proposed.revision}.json"
        head, base = {"sha": proposed.revision}, {"sha": world.tip()}
        pull_request = {"number": int(proposed.id), "head": head, "base": base}
        event.write_text(json.dumps({"pull_request": pull_request}))
        return {
            "GITHUB_ACTIONS": "true",
            "GITEA_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_SERVER_URL": forge.url,
            "GITHUB_REPOSITORY": repository.name,
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_NUMBER": "7",
            "GITHUB_SHA": proposed.revision,
            "GITHUB_REF": f"refs/pull/{proposed.id}/head",
            "GITHUB_BASE_REF": "main",
        }

    def push_main(revision: str) -> None:
        with contextlib.suppress(giteas.Refused):  # not protected any more
            repository.call("DELETE", "/branch_protections/main", "core")
        url = repository.clone_url("core")
        repository.checkout.git("push", "-q", url, f"{revision}:refs/heads/main")

    return Build(
        repository.checkout,
        {"gitea": {"url": forge.url}},
        {forge.host: {"username": world.bot, "password": f"${{{PASSWORD}}}"}},
        forge.tokens[world.bot],
        variables,
        push_main,
    )


BUILDS = {"gerrit": gerrit_build, "gitea": gitea_build}


class Agent:
    """A clone in which CI builds reviews; main has a chart and pipeline.yaml."""

    def __init__(self, world: World, build: Build, folder: Path) -> None:
        self.world, self.build, self.repo, self.folder = world, build, build.repo, folder
        (folder / "tmp").mkdir()
        self.configure()
        self.repo.git("checkout", "-q", "--detach", "origin/main")
        for name, text in self.files.items():
            self.repo.put(name, text)
        self.repo.commit("begin")
        build.push_main("HEAD")
        self.repo.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")

    def configure(self, **more: object) -> None:
        """The files of main, with other sections in pipeline.yaml."""
        charts = {f"charts/web/{name}": text for name, text in chart_files().items()}
        sections = {
            "charts": [{"path": "charts/*"}],
            "review": {**self.build.review, "requires": ["check"]},
            "hosts": self.build.hosts,
            **more,
        }
        self.files = {**charts, "pipeline.yaml": json.dumps(sections)}

    def propose(self, text: str = "image: other\n", **more: Any) -> Proposed:
        """A review that changes the chart's values."""
        return self.world.propose({"charts/web/values.yaml": text}, **more)

    def checked(self, proposed: Proposed) -> None:
        """Check out a review and check its chart."""
        self.repo.git("checkout", "-q", "--detach", proposed.revision)
        self.run(proposed, "check")

    def run(
        self, proposed: Proposed, *words: str, before: Sequence[str] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        """The command line. before: the program that runs it."""
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
            "PYTHONPATH": str(ROOT),
            PASSWORD: self.build.secret,
            **self.build.variables(proposed),
            **more,
        }
        command = [*before, sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def report(
        self,
        proposed: Proposed,
        *words: str,
        code: int = 0,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """What `report` says; it must end with `code` and nothing may show the password."""
        completed = self.run(proposed, "report", *words, **variables)
        assert completed.returncode == code, completed.stderr
        assert self.build.secret not in completed.stdout + completed.stderr
        return completed.stderr

    @property
    def last(self) -> Any:
        """The newest record."""
        lines = (self.repo.root / ".pipeline/state.jsonl").read_bytes().splitlines()
        return json.loads(lines[-1])

    @property
    def unsent(self) -> list[Path]:
        return [*(self.repo.root / ".pipeline/unsent").glob("*.json")]


@pytest.fixture(params=BUILDS)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    world = SYSTEMS[request.param](request, tmp_path)
    folder = tmp_path / "agent"
    folder.mkdir()
    agent = Agent(world, BUILDS[request.param](world), folder)
    yield agent
    written = [path for path in (agent.repo.root / ".pipeline").rglob("*") if path.is_file()]
    assert not [path for path in written if agent.build.secret.encode() in path.read_bytes()]


#: Of what does not depend on the system: on one of them.
once = pytest.mark.parametrize("agent", ["gitea"], indirect=True)


def test_a_verdict_comes_to_the_review_and_again_changes_nothing(agent: Agent) -> None:
    proposed = agent.propose()
    agent.repo.git("checkout", "-q", "--detach", proposed.revision)
    agent.report(proposed, "--started")
    assert agent.world.shown(proposed) is None
    assert any("tests have begun" in text for text in agent.world.texts(proposed))
    agent.report(proposed)
    assert agent.world.shown(proposed) is None, "nothing is checked yet: that is no vote"
    assert any("**incomplete" in text for text in agent.world.texts(proposed))

    agent.checked(proposed)
    assert "the verdict is set" in agent.report(proposed)
    assert agent.world.shown(proposed) == "positive"
    texts = agent.world.texts(proposed)
    [text] = [text for text in texts if "**passed" in text]
    assert f"Tested: `{proposed.revision}`, the revision of this review." in text
    assert "--chart web" in text and f"git switch --detach {proposed.revision}" in text
    outputs = agent.last["outputs"]
    assert (outputs["verdict"], outputs["delivery"]) == ("positive", "set")
    assert outputs["review"].startswith("http")
    assert agent.last["parameters"]["review"]["revision"] == proposed.revision

    assert "the verdict is there already" in agent.report(proposed)
    assert agent.world.texts(proposed) == texts
    assert agent.last["outputs"]["delivery"] == "unchanged"


@once
def test_the_command_in_the_text_checks_out_what_was_tested(agent: Agent) -> None:
    proposed = agent.propose()
    agent.checked(proposed)
    agent.report(proposed)
    [text] = [text for text in agent.world.texts(proposed) if "**passed" in text]
    command = re.search(r"^git fetch .*$", text, re.MULTILINE)
    assert command
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    subprocess.run(["sh", "-c", command[0]], cwd=agent.repo.root, check=True, capture_output=True)
    assert agent.repo.git("rev-parse", "HEAD") == proposed.revision


def test_a_failure_is_a_vote_against_it_with_its_line(agent: Agent) -> None:
    proposed = agent.world.propose({"charts/web/templates/broken.yaml": f"a: 1\nb: {BROKEN}"})
    agent.checked(proposed)
    said = agent.report(proposed)
    assert agent.world.shown(proposed) == "negative"
    in_actions = "GITHUB_ACTIONS" in agent.build.variables(proposed)
    shown = "::error file=charts/web/templates/broken.yaml,line=2::" in said
    assert shown == in_actions, "the log of Actions shows it at its line, too"
    assert agent.last["outputs"]["verdict"] == "negative"
    told = [text for text in agent.world.texts(proposed) if "**failed" in text]
    assert "nil pointer" in told[-1]
    comments = agent.world.line_comments(proposed)
    if comments is not None:
        path, line, message = comments[0]
        assert (path, line) == ("charts/web/templates/broken.yaml", 2)
        assert "nil pointer" in message


def test_a_push_in_the_middle_of_the_test_leaves_the_newer_revision_alone(agent: Agent) -> None:
    first = agent.propose()
    agent.checked(first)
    second = agent.propose("image: newer\n", earlier=first)
    agent.repo.git("checkout", "-q", "--detach", first.revision)
    said = agent.report(first)
    assert "no verdict is set: the review has a newer revision" in said
    assert agent.world.shown(second) is None
    assert not any("**passed" in text for text in agent.world.texts(second))
    assert agent.last["outputs"]["delivery"] == "superseded"


def test_a_review_that_changes_no_chart_passes(agent: Agent) -> None:
    proposed = agent.world.propose({"README": "words"})
    agent.repo.git("checkout", "-q", "--detach", proposed.revision)
    agent.report(proposed)
    assert agent.world.shown(proposed) == "positive"
    assert any("no chart affected" in text for text in agent.world.texts(proposed))


@once
def test_a_part_of_what_the_review_changes_does_not_pass(agent: Agent) -> None:
    other = {f"charts/api/{name}": text for name, text in chart_files(name="api").items()}
    proposed = agent.world.propose({**other, "charts/web/values.yaml": "image: other\n"})
    agent.checked(proposed)
    agent.report(proposed, "--chart", "web")
    assert agent.world.shown(proposed) is None
    assert agent.last["outputs"]["verdict"] == "incomplete"
    assert "the review also changes api" in agent.world.texts(proposed)[-1]
    agent.report(proposed)
    assert agent.world.shown(proposed) == "positive"


@once
def test_a_chart_that_was_changed_here_does_not_pass(agent: Agent) -> None:
    proposed = agent.propose()
    agent.repo.git("checkout", "-q", "--detach", proposed.revision)
    agent.repo.put("charts/web/values.yaml", "image: of nobody\n")
    agent.run(proposed, "check")
    agent.report(proposed)
    assert agent.world.shown(proposed) is None
    assert "local modifications: charts/web/values.yaml" in agent.world.texts(proposed)[-1]


@once
def test_what_is_not_the_reviews_own_is_refused(agent: Agent) -> None:
    proposed = agent.propose()
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    agent.repo.put("charts/web/values.yaml", "image: of nobody\n")
    agent.repo.commit("not proposed")
    said = agent.report(proposed, code=4)
    assert "which is neither a revision of review" in said
    assert agent.world.shown(proposed) is None
    assert (agent.repo.root / ".pipeline/report/report.md").exists()


def test_an_approval_that_the_verdict_needs_is_waited_for(agent: Agent) -> None:
    agent.configure(
        review={**agent.build.review, "requires": ["check", "approval.code"]},
        approvals={"code": {"by": [agent.world.approver]}},
    )
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    agent.repo.put("pipeline.yaml", agent.files["pipeline.yaml"])
    agent.build.push_main(agent.repo.commit("ask for an approval"))
    agent.repo.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
    proposed = agent.propose()
    agent.checked(proposed)
    assert agent.run(proposed, "approval").returncode == 6
    agent.report(proposed)
    assert agent.world.shown(proposed) is None
    assert "approval.code` **missing**" in agent.world.texts(proposed)[-1]
    agent.world.approve(proposed, agent.world.approver)
    completed = agent.run(proposed, "approval")
    assert completed.returncode == 0, completed.stderr
    agent.report(proposed)
    assert agent.world.shown(proposed) == "positive"


def test_a_closed_review_is_left_alone(agent: Agent) -> None:
    proposed = agent.propose()
    agent.checked(proposed)
    agent.world.close(proposed)
    before = agent.world.texts(proposed)
    assert "no verdict is set: the review is closed" in agent.report(proposed)
    assert agent.world.texts(proposed) == before


def test_a_draft_gets_a_message_and_its_verdict_when_it_is_ready(agent: Agent) -> None:
    proposed = agent.propose(draft=True)
    agent.checked(proposed)
    agent.report(proposed)
    assert any("**passed" in text for text in agent.world.texts(proposed))
    agent.world.make_ready(proposed)
    agent.report(proposed)
    assert agent.world.shown(proposed) == "positive"


def test_in_a_shell_the_review_of_what_is_checked_out_is_told(agent: Agent) -> None:
    proposed = agent.propose()
    agent.checked(proposed)
    shell = dict.fromkeys(agent.build.variables(proposed), "")
    agent.report(proposed, variables=shell)
    assert agent.world.shown(proposed) == "positive"
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    assert "no open review on" in agent.report(proposed, variables=shell)
    assert agent.last["outputs"]["delivery"] == "files"


@once
def test_a_verdict_that_cannot_be_sent_is_sent_by_the_next_run(agent: Agent) -> None:
    proposed, other = agent.propose(), agent.propose("image: another\n")
    agent.checked(proposed)
    # As if the server were down: nothing listens there.
    config = agent.folder / "down.yaml"
    config.write_text(json.dumps(unreachable(agent.build.review)))
    said = agent.report(proposed, "--config", str(config), code=7)
    assert "kept in" in said and len(agent.unsent) == 1
    assert agent.last["result"] == "infrastructure"
    assert (agent.repo.root / ".pipeline/report/report.md").read_text().startswith("# passed")

    agent.checked(other)
    said = agent.report(other)
    assert said.count("the verdict is set") == 2
    assert agent.world.shown(proposed) == agent.world.shown(other) == "positive"
    assert agent.unsent == []


def through(agent: Agent, relay: Relay | SimpleNamespace) -> tuple[str, str]:
    """The option for a configuration that reaches the review system through a relay."""
    (name, settings), *_ = agent.build.review.items()
    ((_, login),) = agent.build.hosts.items()
    sections = {
        "review": {name: {**settings, "url": relay.url}, "requires": ["check"]},
        "hosts": {relay.host: login},
    }
    config = agent.folder / "relay.yaml"
    config.write_text(json.dumps(sections))
    return "--config", str(config)


@once
def test_a_server_that_stops_in_the_middle_has_the_verdict_after_the_next_run(
    agent: Agent,
) -> None:
    """At the first request, and at each that writes, which the server then has done or not. Gerrit
    is waited for where it has answered once (test_gerrit.py).
    """
    (_, settings), *_ = agent.build.review.items()
    other = agent.propose()
    agent.checked(other)
    with Relay(settings["url"]) as relay:
        agent.report(other, *through(agent, relay))
    writes = [
        number for number, method in enumerate(relay.methods, 1) if method not in ("GET", "HEAD")
    ]
    assert writes
    for number, lost in [(1, False), *((each, lost) for each in writes for lost in (False, True))]:
        proposed = agent.propose(f"image: v{number}{lost}\n")
        agent.checked(proposed)
        with Relay(settings["url"], stops_at=number, lost=lost) as relay:
            done = agent.run(proposed, "report", *through(agent, relay))
        assert done.returncode in (7, 75), (number, lost, done.stderr)
        assert "kept in" in done.stderr and len(agent.unsent) == 1
        agent.repo.git("checkout", "-q", "--detach", other.revision)
        agent.report(other)
        assert agent.unsent == []
        assert agent.world.shown(proposed) == "positive", (number, lost)
        texts = [text for text in agent.world.texts(proposed) if "**passed" in text]
        assert len(texts) == 1, (number, lost, texts)


@once
def test_a_kept_verdict_on_a_revision_that_was_replaced_is_not_sent(agent: Agent) -> None:
    first = agent.propose()
    agent.checked(first)
    config = agent.folder / "down.yaml"
    config.write_text(json.dumps(unreachable(agent.build.review)))
    agent.report(first, "--config", str(config), code=7)
    second = agent.propose("image: newer\n", earlier=first)
    agent.checked(second)
    assert "no verdict is set: the review has a newer revision" in agent.report(second)
    assert agent.world.shown(second) == "positive" and agent.unsent == []


@once
def test_a_kept_verdict_does_not_replace_one_that_was_set_since(agent: Agent) -> None:
    proposed, other = agent.propose(), agent.propose("image: another\n")
    agent.checked(proposed)
    config = agent.folder / "down.yaml"
    config.write_text(json.dumps(unreachable(agent.build.review)))
    agent.report(proposed, "--config", str(config), code=7)
    [kept] = agent.unsent
    words = kept.read_text().replace('"positive"', '"negative"')
    agent.report(proposed)
    assert agent.unsent == [], "the same verdict was delivered"
    kept.write_text(words)  # as on another agent, whose test had failed before
    agent.checked(other)
    assert "the verdict is there already: it got a verdict since" in agent.report(other)
    assert agent.world.shown(proposed) == "positive" and agent.unsent == []


@pytest.mark.parametrize("agent", ["gerrit"], indirect=True)
def test_a_kept_positive_verdict_does_not_stand_over_a_newer_incomplete_one(agent: Agent) -> None:
    """It was kept under the number that CI gives, as nobody could be asked for the review's id."""
    proposed, other = agent.propose(), agent.propose("image: another\n")
    agent.checked(proposed)
    config = agent.folder / "down.yaml"
    config.write_text(json.dumps(unreachable(agent.build.review)))
    agent.report(proposed, "--config", str(config), code=7)
    [kept] = agent.unsent
    words = kept.read_text()
    agent.repo.put("charts/web/values.yaml", "image: edited here\n")
    agent.report(proposed)
    assert agent.last["outputs"]["verdict"] == "incomplete" and agent.unsent == []
    kept.write_text(words)  # as on another agent, which had kept it before
    agent.repo.git("checkout", "-q", "--force", "--detach", other.revision)
    assert "the verdict is there already: it got a verdict since" in agent.report(other)
    assert agent.world.shown(proposed) is None and agent.unsent == []


@once
def test_what_is_no_verdict_is_not_kept(agent: Agent) -> None:
    proposed = agent.propose()
    agent.checked(proposed)
    config = agent.folder / "down.yaml"
    config.write_text(json.dumps(unreachable(agent.build.review)))
    agent.report(proposed, "--started", "--config", str(config), code=7)
    said = agent.report(proposed, code=7, variables={PASSWORD: "wrong-password"})
    assert "wrong-password" not in said and agent.unsent == []
    assert agent.last["result"] == "infrastructure"
    assert (agent.repo.root / ".pipeline/report/report.md").exists()
    assert agent.world.shown(proposed) is None


@once
def test_a_kept_verdict_that_the_review_brings_is_not_sent(agent: Agent) -> None:
    first = agent.propose("image: {\n")
    agent.repo.git("checkout", "-q", "--detach", first.revision)
    planted = {"system": next(iter(agent.build.review)), "review": first.id, "text": "planted",
               "revision": first.revision, "word": "positive", "summary": "passed"}  # fmt: skip
    second = agent.world.propose({".pipeline/unsent/a.json": json.dumps(planted)})
    agent.repo.git("checkout", "-q", "--detach", second.revision)
    said = agent.report(second)
    assert "is tracked by the source" in said
    assert agent.world.shown(first) is None
    assert not any("planted" in text for text in agent.world.texts(first))


def unreachable(review: Mapping[str, Any]) -> dict[str, Any]:
    """The section `review` with a port where nothing listens."""
    (name, settings), *_ = review.items()
    return {"review": {name: {**settings, "url": "http://127.0.0.1:9"}, "requires": ["check"]}}


#: A program of the review, which takes what CI gave the step and says it in several forms.
LEAK = f"""\
import base64, os, urllib.parse
given = open(f"/proc/{{os.getppid()}}/environ", "rb").read().split(b"\\0")
[secret] = [each[{len(PASSWORD) + 1}:] for each in given if each.startswith(b"{PASSWORD}=")]
print("as it is:", secret.decode())
print("in a URL: https://ci:" + urllib.parse.quote(secret) + "@git.example.com/")
print("in base64:", base64.b64encode(b"ci:" + secret).decode())
raise SystemExit(1)
"""


@once
def test_what_a_program_a_chart_and_a_server_say_of_a_secret_is_shown_nowhere(agent: Agent) -> None:
    """Programs that a review runs can read what CI gave the step. Looked for in what is printed and
    kept, in the arguments of every program, and in the review.
    """
    secret = agent.build.secret
    configured = json.loads(agent.files["pipeline.yaml"])
    configured["check"] = {"commands": [f"{sys.executable} -I leak.py"]}
    fails = f'{{{{ fail "the password is {secret}" }}}}\n'
    proposed = agent.world.propose(
        {
            "leak.py": LEAK,
            "pipeline.yaml": json.dumps(configured),
            "charts/web/templates/map.yaml": fails,
        }
    )
    agent.repo.git("checkout", "-q", "--detach", proposed.revision)
    traced = agent.folder / "calls"
    strace = ("strace", "-f", "-qq", "-s", "65536", "-e", "trace=execve", "-o", str(traced))
    said = ""
    for words in (["check"], ["report"]):
        done = agent.run(proposed, *words, before=strace)
        said += done.stdout + done.stderr + traced.read_text()
    assert "as it is: [redacted]" in said and "the password is [redacted]" in said, said
    texts = agent.world.texts(proposed)
    assert "as it is: [redacted]" in texts[-1] and agent.world.shown(proposed) == "negative"

    def echo(*_: object) -> Answer:
        return Answer(403, {"message": f"the token {secret} is not good enough"})

    server = running_server(echo)
    relay = SimpleNamespace(host=f"127.0.0.1:{server.server_port}")
    relay.url = f"http://{relay.host}"
    done = agent.run(proposed, "report", *through(agent, relay))
    server.shutdown()
    server.server_close()
    assert done.returncode == 7 and "the token [redacted] is not good enough" in done.stderr
    encoded = base64.b64encode(f"ci:{secret}".encode()).decode()
    pages = [path.read_text() for path in (agent.repo.root / ".pipeline/report").iterdir()]
    for form in (secret, encoded, encoded[4:-4]):
        assert form not in said + done.stderr + "".join([*texts, *pages]), form


def test_a_patch_to_the_policy_changes_nothing_for_its_own_build(agent: Agent) -> None:
    """It names a server of its own for the login, a repository of its own, and asks for less."""
    with socket.create_server(("127.0.0.1", 0)) as evil:
        host = f"127.0.0.1:{evil.getsockname()[1]}"
        (name, settings), *_ = agent.build.review.items()
        (login, *_) = agent.build.hosts.values()
        agent.configure(
            review={name: {**settings, "url": f"http://{host}"}, "requires": []},
            hosts={host: {**login, "plain_http": True}},
            approvals={"code": {"by": [agent.world.author], "not_by": []}},
            clusters={"mine": {"kubeconfig": "ci/kubeconfig"}},
            channels={
                "snapshot": {"charts": f"file://{agent.folder}/evil"},
                "production": {"charts": f"file://{agent.folder}/evil", "requires": []},
            },
            evidence=f"file://{agent.folder}/evil-evidence",
        )
        broken = {"charts/web/templates/broken.yaml": BROKEN}
        proposed = agent.world.propose({**agent.files, **broken})
        agent.checked(proposed)
        said = agent.report(proposed)
        evil.setblocking(False)
        with pytest.raises(BlockingIOError):
            evil.accept()
    changed = "this review changes channels, hosts, clusters, review, approvals, evidence"
    assert changed in said
    assert agent.world.shown(proposed) == "negative", "check is required, as on main"
    snapshot = agent.run(proposed, "snapshot")
    assert snapshot.returncode == 2 and "snapshot.charts is missing" in snapshot.stderr
    assert not [*agent.folder.glob("evil*")]


#: A merge that CI made for the test: by GitHub and Gitea Actions, which name the head, and by a job
#: of Jenkins, which does not.
MERGING = {
    "actions": {"GITHUB_SHA": "MERGE"},
    "jenkins": {
        "GITHUB_ACTIONS": "",
        "GITEA_ACTIONS": "",
        "JENKINS_URL": "https://ci.example.com/",
        "CHANGE_TARGET": "main",
        "CHANGE_ID": "NUMBER",
        "GIT_COMMIT": "MERGE",
    },
}


@once
@pytest.mark.parametrize("ci", MERGING)
def test_a_merge_that_ci_tests_is_told_apart_from_the_reviews_revision(
    agent: Agent, ci: str
) -> None:
    proposed = agent.propose()
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    agent.repo.put("README", "main has gone on")
    agent.build.push_main(agent.repo.commit("go on"))
    agent.repo.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
    agent.repo.git("merge", "-q", "--no-edit", proposed.revision)
    merge = agent.repo.git("rev-parse", "HEAD")
    words = {"MERGE": merge, "NUMBER": proposed.id}
    variables = {name: words.get(value, value) for name, value in MERGING[ci].items()}
    agent.run(proposed, "check", **variables)
    agent.report(proposed, variables=variables)
    assert agent.world.shown(proposed) == "positive", "the head gets it"
    [text] = agent.world.texts(proposed)
    assert f"Tested: `{merge}`, in which CI merged `{proposed.revision}` of this review" in text
    assert "The verdict is about that merge." in text
    about = agent.last["parameters"]["review"]
    assert (about["revision"], about["tested"]) == (proposed.revision, merge)
    newer = agent.propose("image: newer\n", earlier=proposed)
    agent.repo.git("checkout", "-q", "--detach", merge)
    assert "the review has a newer revision" in agent.report(proposed, variables=variables)
    assert agent.world.shown(newer) is None


def test_what_a_chart_says_is_plain_text_where_gitea_renders_it(forge: giteas.Forge) -> None:
    for text in HOSTILE:
        shown = review_text.text(hostile_page(text), hostile_about(text), 60_000)
        rendered = forge.rendered(shown)
        assert not re.findall(r"<(?:a|img|script|iframe|h1|table)\b[^>]*>", rendered), rendered


@once
def test_what_a_fork_hands_over_is_told_and_counts_for_nothing(agent: Agent) -> None:
    """A second workflow, on the default branch: the artifact claims success and tries more."""
    proposed = agent.propose()
    agent.repo.git("checkout", "-q", "--detach", "origin/main")
    handed_over = agent.folder / "handed-over"
    handed_over.mkdir()
    claim = {
        "step": "report",
        "finished": "2026-01-02T00:00:00Z",
        "outputs": {"verdict": "positive"},
        "parameters": {"charts": {"web": "sha256:0", "x](https://evil.example.com) @all": "1"}},
    }
    lines = ["{not json", json.dumps(claim), "[" * 100_000, json.dumps({"step": "report"})]
    (handed_over / "state.jsonl").write_text("\n".join(lines))
    secret = agent.folder / "secret"
    secret.write_text(json.dumps({**claim, "finished": "9", "outputs": {"verdict": "negative"}}))
    (handed_over / "state.2-of-2.jsonl").symlink_to(secret)
    os.mkfifo(handed_over / "state.1-of-2.jsonl")
    event = agent.folder / "event.json"
    run = {"event": "pull_request", "head_sha": proposed.revision, "pull_requests": []}
    event.write_text(json.dumps({"workflow_run": run}))
    variables = {
        "GITHUB_EVENT_NAME": "workflow_run",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_SHA": agent.world.tip(),
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_BASE_REF": "",
    }
    agent.report(proposed, "--unbelieved", str(handed_over), variables=variables)
    assert agent.world.shown(proposed) is None, "no state that a required check takes for success"
    [text] = [text for text in agent.world.texts(proposed) if "not believed" in text]
    assert "the build of a fork says positive** for `web`" in text
    assert "evil" not in text
    assert agent.last["outputs"]["verdict"] == "incomplete"
    said = agent.report(proposed, "--unbelieved", str(handed_over), code=2)
    assert "run it in a workflow of the event workflow_run" in said
