#!/usr/bin/env python3
"""`make demo-gerrit`: a chart goes through a review on a real Gerrit to a release.

    python3 tools/demo/gerrit.py up [--yes]
    python3 tools/demo/gerrit.py down

On the engine, the node and the sandbox of `make demo`, which are started when they do not run. A
pushes a change for review; a build, which Jenkins would start, checks, builds, tests and votes on
that patch set; B approves and submits; A tags; a build of the tag promotes. `make demo-down`
removes all of it. Exit codes: those of the command that fails; 7 this machine cannot.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import environment, systems
from tools.demo import demo, proof, repository
from tools.gerrit import server
from tools.gerrit.people import PEOPLE, Rest
from tools.machine import ends_with_exit_code, find_program, say, seconds_since

FOLDER = demo.DEMO / "gerrit"
#: Not in the clone: a run folder's path must be short.
_CLONE = hashlib.sha256(os.fsencode(demo.ROOT)).hexdigest()[:8]
SERVER = Path(tempfile.gettempdir()) / f"pipeline-steps-gerrit-{_CLONE}"
PROJECT = "charts"
VERSION = "0.2.0"
CONFIGURATION = """\
review: {{gerrit: {{url: "{url}"}}}}
hosts: {{"{host}": {{username: "${{GERRIT_USR}}", password: "${{GERRIT_PSW}}"}}}}
"""


def up(*, yes: bool) -> int:
    """Run the demo; returns the exit code of the command that failed, 0 for none."""
    start = time.monotonic()
    has_engine = systems.own_engine()
    makes_cluster = has_engine and any(find_program(name) for name in demo.CLUSTER_MAKERS)
    demo.announce_and_install(
        has_engine=has_engine, makes_cluster=makes_cluster, yes=yes, more=("gerrit", "sources")
    )
    variables = demo.machine(has_engine=has_engine)
    overlay = demo.sandbox(variables, makes_cluster=makes_cluster)
    if server.read(SERVER) is None or not (FOLDER / "ci").exists():
        server.down(SERVER)
        shutil.rmtree(FOLDER, ignore_errors=True)
    first = not FOLDER.exists()
    rest = Rest(server.up(SERVER)["url"])
    if first:
        rest.set_up()
        rest.create_project(PROJECT)
        clones(rest, FOLDER, PROJECT)
    configured = {**variables, "PIPELINE_STEPS_CONFIG": str(overlay)}
    code = story(rest, FOLDER, PROJECT, configured) if first else 0
    code = code or show(FOLDER, overlay, variables)
    if code == 0:
        farewell(rest, overlay)
    seconds = seconds_since(start)
    say(f"demo: {'done' if code == 0 else f'stopped with exit code {code}'} after {seconds}")
    return code


def clones(rest: Rest, folder: Path, project: str) -> None:
    """A's clone and the workspace of builds in `folder`, with the example on main."""
    example = folder / "example"
    repository.ensure(example, demo.ROOT / "examples/hello")
    git = repository.git
    for who, by in (("a", "alice"), ("ci", "ci")):
        git(folder, "clone", "--quiet", "-b", "main", rest.clone_url(project, by), who)
        git(folder / who, "config", "user.name", by.title())
        git(folder / who, "config", "user.email", f"{by}@example.com")
    own_checkout = folder / "a"
    shutil.rmtree(example / ".git")
    shutil.copytree(example, own_checkout, symlinks=True, dirs_exist_ok=True)
    pipeline = own_checkout / "pipeline.yaml"
    # The sandbox's cluster is the only one here.
    text = re.sub(r"(?m)^clusters:\n(?: .*\n)+", "", pipeline.read_text())
    pipeline.write_text(text + CONFIGURATION.format(url=rest.url, host=rest.host))
    git(own_checkout, "add", "--force", "--all")
    admin = ("-c", "user.name=Administrator", "-c", "user.email=admin@example.com")
    git(
        own_checkout,
        *admin,
        "commit",
        "--quiet",
        "--message",
        "Add hello, a chart with its own image",
    )
    git(own_checkout, "push", "--quiet", rest.clone_url(project, "admin"), "HEAD:refs/heads/main")
    git(own_checkout, "fetch", "--quiet")
    hook = own_checkout / ".git/hooks/commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_bytes(rest.read("/tools/hooks/commit-msg"))
    hook.chmod(0o755)


def story(rest: Rest, folder: Path, project: str, variables: dict[str, str]) -> int:
    """What people and builds type; the exit code of the first command that fails."""

    def type_all(*lines: tuple[str, str]) -> int:
        return typed(lines, folder, variables)

    tag = f"hello-{VERSION}"
    build = "check && pipeline-steps build_image && pipeline-steps snapshot"
    edit = (
        f"sed -i 's/^version: .*/version: {VERSION}/' charts/hello/Chart.yaml && "
        "sed -i 's/Hello/Good day/' charts/hello/values.yaml"
    )
    if code := type_all(
        ("a", f"{edit} && git commit -qam 'Greet politely'"),
        ("a", "git push -q origin HEAD:refs/for/main"),
    ):
        return code
    [change] = rest.do("GET", f"/changes/?q=project:{project}")
    number = change["_number"]
    reference = f"refs/changes/{number % 100:02}/{number}/1"
    if code := type_all(
        ("ci", f"git fetch -q origin {reference} && git switch -q --detach FETCH_HEAD"),
        ("ci", f"pipeline-steps {build} && pipeline-steps integration_test"),
        ("ci", "pipeline-steps report"),
    ):
        return code
    say("\nB, on the change's page: Code-Review+2, Submit")
    path = f"/changes/{project}~{number}"
    rest.do("POST", f"{path}/revisions/current/review", {"labels": {"Code-Review": 2}}, by="bob")
    rest.do("POST", f"{path}/revisions/current/submit", {}, by="bob")
    return type_all(
        ("a", "git pull -q --rebase --tags origin main && pipeline-steps tag_release"),
        ("ci", f"git fetch -q --tags origin && git switch -q --detach {tag}"),
        ("ci", f"pipeline-steps {build} && pipeline-steps integration_test"),
        ("ci", f"pipeline-steps promote --tag {tag}"),
    )


def typed(lines: tuple[tuple[str, str], ...], folder: Path, variables: dict[str, str]) -> int:
    """Run lines of shell, each in the folder of who types it; 0, or the first other exit code."""
    for who, line in lines:
        say(f"\n{who.upper()}: {line}")
        account = {"a": "alice", "ci": "ci"}[who]
        login = {"GERRIT_USR": account, "GERRIT_PSW": PEOPLE[account]}
        environment = {**os.environ, **variables, **login}
        ran = subprocess.run(["sh", "-c", line], cwd=folder / who, env=environment)
        if ran.returncode:
            return ran.returncode
    return 0


def show(folder: Path, overlay: Path, variables: dict[str, str]) -> int:
    """An ordinary helm pull of the release, compared with its record; 0 when they are equal."""
    program = environment.VENV / "bin/pipeline-steps"
    return proof.show(folder / "ci", overlay, {**os.environ, **variables}, program)


def farewell(rest: Rest, overlay: Path) -> None:
    say("")
    say(f"The change with its votes: {rest.url}/changes/{PROJECT}~1/detail")
    say("Now push another change and look again:")
    say(f"  . {demo.VARIABLES.relative_to(demo.ROOT)}; cd {(FOLDER / 'a').relative_to(demo.ROOT)}")
    say(f"  export PIPELINE_STEPS_CONFIG={shlex.quote(str(overlay))}")
    say(f"  export GERRIT_USR=alice GERRIT_PSW={PEOPLE['alice']}")
    say("  edit charts/hello, git commit -a, git push origin HEAD:refs/for/main")
    say("make demo-down ends and removes everything but packages and the cache.")


def down() -> int:
    """End Gerrit and remove its site; the rest is `demo`'s."""
    if SERVER.exists():
        server.down(SERVER)
    SERVER.with_name(f".{SERVER.name}.lock").unlink(missing_ok=True)
    return 0


def main(argv: list[str]) -> int:
    return demo.run_demo(argv, "A chart from a review on Gerrit to a release.", up, down)


if __name__ == "__main__":
    ends_with_exit_code(main)
