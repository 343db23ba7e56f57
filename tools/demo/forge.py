#!/usr/bin/env python3
"""`make demo-forge`: a chart goes from a pull request on a real forge to an installation.

    python3 tools/demo/forge.py up [--yes]

On the engine, the node and the sandbox's registry of `make demo`, which are started when they do
not run, and a Gitea of its own, which ends with this command. CI is act, with the workflow files of
examples/ as they are. A member proposes a chart, CI tests it and tells the pull request, two people
approve it, it is merged, released to a pages branch, and installed from there. `make demo-down`
removes the rest. Exit codes: 0; 8 a step of the story failed; 7 this machine cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: let `tools` and `tests` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

# What a test proves, the demo shows: the same repository, people and CI.
from tests.support.act import WorkflowRun
from tests.support.giteas import Forge, PullRequest
from tests.support.gits import Repo
from tests.support.official import Official, Systems
from tests.support.pages import served
from tools import environment, systems
from tools.demo import demo, direct, proof
from tools.gitea import gitea
from tools.machine import ends_with_exit_code, find_program, say, seconds_since
from tools.programs import programs

FOLDER = demo.DEMO / "forge"
NAMESPACE = "demo-member"
NOT_APPROVED = 6
#: What a job needs to find the engine, and gets from us alone.
ENGINE = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "BUILDX_CONFIG", "BUILDX_BUILDER")


def up(*, yes: bool) -> int:
    """Run the demo; 0, or 8 when something of the story failed."""
    start = time.monotonic()
    has_engine = systems.own_engine()
    makes_cluster = has_engine and any(find_program(name) for name in demo.CLUSTER_MAKERS)
    demo.announce_and_install(
        has_engine=has_engine, makes_cluster=makes_cluster, yes=yes, more=("sources", "gitea")
    )
    systems.gitea()
    programs.get("act")
    variables = demo.machine(has_engine=has_engine)
    overlay = demo.sandbox(variables, makes_cluster=makes_cluster)
    kubeconfig = direct.kubeconfig()["KUBECONFIG"]
    os.environ.update(variables)  # for what the CI's jobs and the people run
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    engine = {name: os.environ[name] for name in ENGINE if name in os.environ}
    with gitea.serve() as server:
        shared = Systems(Forge(server), proof.registry(overlay), Path(kubeconfig), engine)
        official = Official(shared, FOLDER, environment.VENV / "bin")
        try:
            pull = story(official)
            command, image = install(official, NAMESPACE)
        except Failed as failure:
            say(f"demo: {failure}\ndemo: stopped after {seconds_since(start)}")
            return 8
        say(f"8 member: {command}\n  which runs {image}")
        say(f"demo: done after {seconds_since(start)}")
        look_around(official, pull)
    return 0


class Failed(Exception):
    """Something of the story did not work: what, with its output."""


def story(official: Official) -> PullRequest:
    """The official workflow, arrow by arrow, but for the installation. Raises Failed."""
    repository = official.repository
    page = f"{repository.forge.url}/{repository.name}"
    official.write_chart()
    pull = repository.propose("hello", {}, "Add hello, a chart with an image of its own")
    say(f"\n1 member: proposes a chart, {page}/pulls/{pull.number}")
    say("2 CI: check, build_image, snapshot, integration_test, report (github-pull-request.yml)")
    passed(official.pull_request_build(pull.number))
    status = repository.status(pull.head)
    say(f"3 CI: tells the pull request: {status['status']}, {status['description']}")
    say(f"4 core, member: talk about it below {repository.comments(pull.number)[0]['html_url']}")
    number = str(pull.number)
    repository.review(pull.number, "core", commit=pull.head)
    early = official.asked(pull.number, "merge", "--review", number)
    say(f"5 core: approves the code; merge is refused ({early.returncode}): chief has not approved")
    repository.review(pull.number, "chief", commit=pull.head)
    merged = official.asked(pull.number, "merge", "--review", number)
    if merged.returncode or early.returncode != NOT_APPROVED:
        raise Failed(f"merge did not what it should: {early.stderr}{merged.stderr}")
    say("  chief: approves the release; merged at exactly this commit")
    say("6, 7 CI: tag_release and promote, which ask for the approvals again (github-release.yml)")
    passed(official.release_build("hello"))
    return pull


def passed(run: WorkflowRun) -> None:
    if run.code:
        raise Failed(f"the workflow failed:\n{run.log}")


def install(official: Official, namespace: str) -> tuple[str, str]:
    """`helm install` from the pages, as the member types it, and the image that runs then; the
    namespace is removed again. Raises Failed.
    """
    helm = programs.get("helm4")
    variables = {
        **os.environ,
        "KUBECONFIG": str(official.systems.kubeconfig),
        "HELM_NAMESPACE": namespace,
    }

    def run(program: str, words: str) -> str:
        done = subprocess.run(
            [str(helm / program), *words.split()], env=variables, capture_output=True, text=True
        )
        if done.returncode:
            raise Failed(f"{program} {words} failed: {done.stderr.strip()}")
        return done.stdout

    clone = Repo(official.folder / "pages", official.folder / "gitconfig", str(official.pages))
    clone.git("checkout", "-q", "gh-pages")
    with served(clone.root) as url:
        words = f"install hello hello --repo {url} --version 0.1.0 --create-namespace --wait"
        try:
            run("helm", f"{words} --timeout 2m")
            image = "--output=jsonpath={.items[*].spec.containers[*].image}"
            return f"helm {words}", run("kubectl", f"get pods --namespace {namespace} {image}")
        finally:
            run("kubectl", f"delete namespace {namespace} --wait=false --ignore-not-found")


def look_around(official: Official, pull: PullRequest) -> None:
    """Let a person at the terminal look at the forge before it ends."""
    page = f"{official.repository.forge.url}/{official.repository.name}/pulls/{pull.number}"
    if sys.stdin.isatty():
        say(f"Look at {page} (user core, password password-of-core). Return ends the forge.")
        sys.stdin.readline()
    say("make demo-down ends and removes everything but packages and the cache.")


def main(argv: list[str]) -> int:
    return demo.run_demo(argv, "From a pull request to an installation, on this machine.", up)


if __name__ == "__main__":
    ends_with_exit_code(main)
