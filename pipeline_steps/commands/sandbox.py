"""`pipeline-steps sandbox up|status|down`: registry, chart repository and cluster on this machine.

    pipeline-steps sandbox up                                       # a cluster by kind, k3d or minikube
    pipeline-steps sandbox up --kubeconfig FILE [--context NAME]    # a cluster that is there
    pipeline-steps sandbox status
    pipeline-steps sandbox down

`up` prints the path of a configuration overlay for --config. It uses the docker engine that runs
and brings up an OCI registry, a chart repository, an evidence store and, where none is given, a
cluster. Run again it mends what is gone. `down` removes all that `up` made and nothing else.
`status` ends with 7 when something is missing.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from pipeline_steps.cli.command import Command, run_command
from pipeline_steps.cli.options import QUIET, VERBOSE, Option
from pipeline_steps.sandbox import sandbox
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.toolbox.redact import printable

VERBS = ("up", "status", "down")
COMMAND = Command(
    "sandbox",
    __doc__,
    (
        Option("kubeconfig", "path", "up: use the cluster of this file"),
        Option("context", "text", "up: the context in it; default: its current one"),
        Option(
            "maker",
            "text",
            "up: make a cluster with kind, k3d or minikube, or none; default: the first installed",
        ),
        Option(
            "pull-from", "text", "up: this machine's address as the cluster of --kubeconfig sees it"
        ),
        Option(
            "folder",
            "path",
            "where the sandbox keeps everything; default: below XDG_STATE_HOME",
            value="FOLDER",
        ),
        QUIET,
        VERBOSE,
    ),
    words="|".join(VERBS),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 2 for a wrong command line, 7 when this machine cannot."""
    return run_command(COMMAND, perform, argv)


def perform(arguments: Namespace) -> int:
    """Run the verb; the path of up's overlay and the lines of status are printed to stdout."""
    verb = " ".join(arguments.words)
    if verb not in VERBS:
        raise UsageError(
            f"sandbox cannot {verb}" if verb else "sandbox needs to know what to do",
            advice="write sandbox up, sandbox status or sandbox down",
        )
    folder = arguments.folder or sandbox.default_folder()
    if verb == "up":
        if arguments.kubeconfig and arguments.maker:
            raise UsageError(
                "--kubeconfig and --maker exclude each other", advice="give one of them"
            )
        settings = sandbox.UpRequest(
            arguments.kubeconfig, arguments.context, arguments.maker, arguments.pull_from
        )
        print(sandbox.up(folder, settings))
        return 0
    if verb == "down":
        sandbox.down(folder)
        return 0
    lines = sandbox.status(folder)
    for line in lines:
        print(printable(f"{line.name:<19} {'lives' if line.alive else 'GONE':<6} {line.detail}"))
    if not lines:
        print(f"no sandbox in {folder}")
    return 0 if all(line.alive for line in lines) else 7


if __name__ == "__main__":
    raise SystemExit(main())
