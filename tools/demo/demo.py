#!/usr/bin/env python3
"""`make demo`: a real chart with a real image goes from push to production, on this machine.

    python3 tools/demo/demo.py up [--yes]
    python3 tools/demo/demo.py down

Says first what it will install and where, and asks when a person is there. Then: docker engine,
Kubernetes node, sandbox, a git repository made once from examples/hello, `pipeline-steps run
private --release`, and an ordinary `helm pull` of the production chart whose digests are compared
with the record. `down` ends and removes all of it; packages and the cache of built programs stay.
Exit codes: those of `run`; 7 this machine cannot.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import environment, systems, users
from tools.demo import proof, repository
from tools.machine import Cannot, ends_with_exit_code, find_program, say, seconds_since
from tools.programs import debian, programs

ROOT = environment.ROOT
DEMO = ROOT / ".demo"
HELLO = DEMO / "hello"
STARTED = DEMO / "started.json"
#: Of this clone alone: `down` must never end the sandbox of another, nor one that a person uses.
SANDBOX = DEMO / "sandbox"
#: Programs that make a cluster of docker containers, as `pipeline-steps sandbox up` takes them.
CLUSTER_MAKERS = ("kind", "k3d", "minikube")
VARIABLES = DEMO / "environment"


def up(*, yes: bool) -> int:
    """Run the demo; returns the exit code of the pipeline, or 4 when the pulled chart is not the
    recorded one.
    """
    start = time.monotonic()
    has_engine = systems.own_engine()
    makes_cluster = has_engine and any(find_program(name) for name in CLUSTER_MAKERS)
    announce_and_install(has_engine=has_engine, makes_cluster=makes_cluster, yes=yes)
    variables = machine(has_engine=has_engine)
    overlay = sandbox(variables, makes_cluster=makes_cluster)
    repository.ensure(HELLO, ROOT / "examples/hello")
    code = pipeline(variables, overlay)
    if code == 0:
        code = proof.show(
            HELLO, overlay, {**os.environ, **variables}, environment.VENV / "bin/pipeline-steps"
        )
    say(
        f"demo: {'done' if code == 0 else f'stopped with exit code {code}'} after "
        f"{seconds_since(start)}"
    )
    if code == 0:
        farewell()
    return code


def announce_and_install(
    *, has_engine: bool, makes_cluster: bool, yes: bool, more: Sequence[str] = ()
) -> None:
    """Say what is missing and where it goes, ask, install; long builds run beside the rest. Raises
    Cannot.

    more: further purposes of Debian packages.
    """
    purposes = ["python", "registry", "example", *more]
    purposes += [] if has_engine else ["engine"]
    purposes += [] if makes_cluster else ["kubernetes"]
    names = ["helm4", *([] if has_engine else systems.ENGINE_PROGRAMS)]
    packages = systems.missing_packages(purposes)
    built = systems.missing_programs(names, kubernetes=not makes_cluster)
    systems.ask_to_install("make demo", packages, built, yes=yes)
    debian.install(purposes, yes=True)
    builds = [systems.get(names), *([] if makes_cluster else [systems.kubernetes])]
    builds += [systems.gerrit] if "gerrit" in more else []
    building = systems.Background(*builds)
    environment.ensure()
    building.wait()


def machine(*, has_engine: bool) -> dict[str, str]:
    """An engine up; the environment under which programs find it, helm and this clone's sandbox."""
    started = users.Started(STARTED)
    engine = {} if has_engine else systems.engine_up(started)["environment"]
    helm = find_program("helm")
    path = systems.path_with(environment.VENV / "bin", *([] if helm else [programs.get("helm4")]))
    return {**engine, "PATH": path, "PIPELINE_STEPS_FOLDER": str(SANDBOX)}


def sandbox(variables: dict[str, str], *, makes_cluster: bool) -> Path:
    """Sandbox up, its cluster told of its registry; returns the overlay. Raises Cannot.

    The cluster is one of docker containers where a program for that is installed, else the node.
    """
    started = users.Started(STARTED)
    command = [str(environment.VENV / "bin/pipeline-steps"), "sandbox", "up"]
    exported = {name: value for name, value in variables.items() if name != "PATH"}
    if makes_cluster:
        exported["KUBECONFIG"] = str(SANDBOX / "kubeconfig")
    else:
        exported["KUBECONFIG"] = systems.node_up(started, [])["kubeconfig"]
        command += ["--kubeconfig", exported["KUBECONFIG"]]
    started.note("sandbox", str(SANDBOX))
    completed = subprocess.run(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    )
    if completed.returncode:
        raise Cannot("pipeline-steps sandbox up failed; see above")
    overlay = Path(completed.stdout.strip())
    if not makes_cluster:
        systems.node_up(started, [proof.registry(overlay)])
    lines = [f"export {name}='{value}'" for name, value in exported.items()]
    lines += [
        f"export PATH='{variables['PATH'].removesuffix(os.environ.get('PATH', ''))}'\"$PATH\""
    ]
    VARIABLES.write_text("\n".join(lines) + "\n")
    return overlay


def pipeline(variables: dict[str, str], overlay: Path) -> int:
    """The private workflow, release included, as an engineer would type it."""
    say(f"demo: cd {HELLO.relative_to(ROOT)} && pipeline-steps run private --release")
    command = [
        str(environment.VENV / "bin/pipeline-steps"),
        "run",
        "private",
        "--release",
        "--config",
        str(overlay),
    ]
    # Within a CI job `run` would take the configured channels.
    sandbox_variables = {"PIPELINE_STEPS_CHANNELS": "sandbox"}
    return subprocess.run(
        command, cwd=HELLO, env={**os.environ, **variables, **sandbox_variables}
    ).returncode


def farewell() -> None:
    say("")
    say("Now change something and look again:")
    say(f"  . {VARIABLES.relative_to(ROOT)}; cd {HELLO.relative_to(ROOT)}")
    say(
        "  edit charts/hello/templates/ or app/www/cgi-bin/index.cgi, git commit -am 'Try it', then"
    )
    say("  pipeline-steps run private              # up to the release")
    say(
        "  raise the version in charts/hello/Chart.yaml, commit, then: pipeline-steps run "
        "private --release"
    )
    say("make demo-down ends and removes everything but packages and the cache.")


def down() -> int:
    """End and remove what `up` started: sandbox, node, engine, repository."""
    start = time.monotonic()
    started = users.Started(STARTED)
    if "sandbox" in started.names:
        if not environment.PYTHON.exists():
            raise Cannot(
                f"{environment.VENV} is gone and the sandbox is up: python3 "
                "tools/environment.py, then again"
            )
        command = [str(environment.PYTHON), "-m", "pipeline_steps", "sandbox", "down", "--folder"]
        if subprocess.run([*command, started.names["sandbox"]], cwd="/").returncode:
            raise Cannot("pipeline-steps sandbox down failed; see above")
        started.forget("sandbox")
    systems.down(started)
    if HELLO.exists():
        say(f"demo: removing {HELLO}")
    shutil.rmtree(DEMO, ignore_errors=True)
    say(f"demo: down, nothing of it is left, {seconds_since(start)}")
    return 0


def run_demo(
    argv: list[str],
    description: str,
    start: Callable[..., int],
    end: Callable[[], int] | None = None,
) -> int:
    """Do what the command line of a demonstration says; start: takes `yes`, for no questions."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("verb", choices=("up", "down") if end else ("up",))
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    return end() if end and arguments.verb == "down" else start(yes=arguments.yes)


def main(argv: list[str]) -> int:
    return run_demo(argv, "A chart from push to production, on this machine.", up, down)


if __name__ == "__main__":
    ends_with_exit_code(main)
