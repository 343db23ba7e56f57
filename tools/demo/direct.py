#!/usr/bin/env python3
"""`make demo-direct`: two developers share a chart by Subversion, and deploy it without a chart
repository.

    python3 tools/demo/direct.py up [--yes]
    python3 tools/demo/direct.py down

On the engine, the node and the sandbox of `make demo`, which are started when they do not run. A
checks the example in and changes it; B brings the working copy up to date, looks at what would
change, deploys, and goes back. `make demo-down` removes all of it. Exit codes: those of the
command that fails; 7 this machine cannot.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import systems
from tools.demo import demo, repository
from tools.machine import Cannot, ends_with_exit_code, find_program, say, seconds_since
from tools.programs import programs

FOLDER = demo.DEMO / "direct"
NAMESPACE = "demo-team-a"
DEPLOYMENT = "hello-team-a"
DEPLOYMENTS = f"""\
deployments:
  {DEPLOYMENT}:
    chart: hello
    cluster: sandbox
    namespace: {{namespace}}
    release: hello
    values: [env/team-a.yaml]
"""


def up(*, yes: bool) -> int:
    """Run the demo; returns the exit code of the command that failed, 0 for none."""
    start = time.monotonic()
    has_engine = systems.own_engine()
    makes_cluster = has_engine and any(find_program(name) for name in demo.CLUSTER_MAKERS)
    demo.announce_and_install(
        has_engine=has_engine, makes_cluster=makes_cluster, yes=yes, more=("sources",)
    )
    variables = demo.machine(has_engine=has_engine)
    overlay = demo.sandbox(variables, makes_cluster=makes_cluster)
    variables |= {
        "PIPELINE_STEPS_CONFIG": str(overlay),
        "PIPELINE_STEPS_CHANNELS": "sandbox",
        **kubeconfig(),
    }
    kubectl(variables, "create", "namespace", NAMESPACE)
    working_copies(demo.ROOT / "examples/hello", FOLDER, NAMESPACE)
    code = story(FOLDER, variables)
    say(
        f"demo: {'done' if code == 0 else f'stopped with exit code {code}'} after {seconds_since(start)}"
    )
    if code == 0:
        farewell(overlay)
    return code


def story(folder: Path, variables: dict[str, str]) -> int:
    """What A and B type in their working copies; the exit code of the first command that fails."""
    change = "echo 'greeting: Hello again, team A' > env/team-a.yaml"
    for who, line in (
        ("b", "svn update -q"),
        ("b", f"pipeline-steps run direct --deployment {DEPLOYMENT}"),
        ("b", "pipeline-steps deploy --status"),
        ("a", f"{change} && svn commit -q -m 'Greet team A again'"),
        ("b", "svn update -q"),
        ("b", f"pipeline-steps deploy {DEPLOYMENT} --plan"),
        ("b", f"pipeline-steps deploy {DEPLOYMENT}"),
        ("a", f"pipeline-steps deploy {DEPLOYMENT} --undo"),
        ("b", "pipeline-steps deploy --status"),
    ):
        say(f"\n{who.upper()}: {line}")
        ran = subprocess.run(["sh", "-c", line], cwd=folder / who, env={**os.environ, **variables})
        if ran.returncode:
            return ran.returncode
    return 0


def working_copies(example: Path, folder: Path, namespace: str) -> None:
    """A's and B's working copies of a new Subversion repository, with the example checked in, which
    is deployed into a namespace of the cluster `sandbox`.
    """
    if (folder / "b").exists():
        say(f"repository: {folder} as it is")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    url = (folder / "repository").as_uri()
    run = repository.run
    run(["svnadmin", "create", str(folder / "repository")], folder)
    layout = [f"{url}/{name}" for name in ("trunk", "branches", "tags")]
    run(["svn", "mkdir", "-q", "-m", "Begin", *layout], folder)
    for who in ("a", "b"):
        run(["svn", "checkout", "-q", f"{url}/trunk", str(folder / who)], folder)
    own_checkout = folder / "a"
    shutil.copytree(
        example, own_checkout, symlinks=True, ignore=repository.IGNORED, dirs_exist_ok=True
    )
    run([str(own_checkout / "prepare")], own_checkout)
    with (own_checkout / "pipeline.yaml").open("a") as file:
        file.write(DEPLOYMENTS.format(namespace=namespace))
    (own_checkout / "env").mkdir()
    (own_checkout / "env/team-a.yaml").write_text("greeting: Hello, team A\n")
    run(["svn", "add", "-q", "--force", "--no-ignore", "."], own_checkout)
    run(["svn", "commit", "-q", "-m", "Add hello, a chart with an image of its own"], own_checkout)
    say(f"repository: {folder} made from {example.name}")


def kubeconfig() -> dict[str, str]:
    """The variable with the cluster's kubeconfig, as `demo.sandbox` wrote it down."""
    match = re.search(r"(?m)^export KUBECONFIG='([^']*)'$", demo.VARIABLES.read_text())
    if match is None:
        raise Cannot(f"{demo.VARIABLES} names no cluster: make demo-down, then again")
    return {"KUBECONFIG": match[1]}


def kubectl(variables: dict[str, str], *words: str) -> None:
    """Run kubectl; says what it answers, also that something exists already."""
    command = [str(programs.get("helm4") / "kubectl"), *words]
    ran = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )
    say((ran.stdout or ran.stderr).strip())


def down() -> int:
    """Remove the namespace, which may be on a node that others use, too; the rest is `demo`'s."""
    if FOLDER.exists() and demo.VARIABLES.exists():
        kubectl(kubeconfig(), "delete", "namespace", NAMESPACE, "--wait=false")
    return 0


def farewell(overlay: Path) -> None:
    say("")
    say("Now change something and look again:")
    say(f"  . {demo.VARIABLES.relative_to(demo.ROOT)}; cd {(FOLDER / 'b').relative_to(demo.ROOT)}")
    say(f"  export PIPELINE_STEPS_CONFIG={shlex.quote(str(overlay))}")
    say(
        f"  edit env/team-a.yaml, then: pipeline-steps deploy {DEPLOYMENT}   # refused: not checked in"
    )
    say(f"  pipeline-steps deploy {DEPLOYMENT} --modified; pipeline-steps deploy --status")
    say("make demo-down ends and removes everything but packages and the cache.")


def main(argv: list[str]) -> int:
    return demo.run_demo(
        argv, "Two developers, Subversion and Kubernetes, on this machine.", up, down
    )


if __name__ == "__main__":
    ends_with_exit_code(main)
