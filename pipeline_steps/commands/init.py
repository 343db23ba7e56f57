"""`pipeline-steps init`: writes a first pipeline.yaml for the charts found here.

    cd my-repository && pipeline-steps init

Looks for Chart.yaml and Dockerfile below this folder, and writes what it can tell from them, with
comments for the rest. Never overwrites: exits with 5 when there is a pipeline.yaml already, with 2
when there is no chart.
"""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_steps.cli.command import Command, run_command
from pipeline_steps.cli.options import QUIET, VERBOSE, Option
from pipeline_steps.config.config_file import NAME
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import Conflict, UsageError

COMMAND = Command(
    "init", __doc__, (Option("plan", "flag", "print it to stdout; write nothing"), QUIET, VERBOSE)
)
SKIPPED = frozenset({"node_modules", "vendor", "templates", "__pycache__"})
KEYS = ("repository", "tag", "digest")
WORDS = ("true", "false", "yes", "no", "on", "off", "null")
#: How deep below this folder charts are looked for.
DEPTH = 5
log = logging.getLogger("pipeline_steps.commands.init")  # __name__ is __main__ under -m


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 2 when there is no chart, 5 when there is a pipeline.yaml."""
    return run_command(COMMAND, init, argv)


def init(arguments: Namespace) -> int:
    """Write or print the file. Raises UsageError, Conflict."""
    text = first_configuration(Path.cwd())
    if arguments.plan:
        print(text, end="")
        return 0
    target = Path.cwd() / NAME
    if target.exists() or target.is_symlink():
        raise Conflict(
            f"there is a {NAME} already", where=str(target), advice="init --plan only prints"
        )
    files.write(target, text.encode(), mode=0o644)
    log.info("%s written: set the channels, commit it, then: pipeline-steps doctor", NAME)
    return 0


def first_configuration(root: Path) -> str:
    """The text of a first pipeline.yaml for the charts below `root`. Raises UsageError when there
    is none.
    """
    paths = sorted(find_files(root, 0))
    charts = [folder for folder, name in paths if name == "Chart.yaml"]
    dockerfiles = [folder for folder, name in paths if name == "Dockerfile"]
    if not charts:
        raise UsageError(
            f"no Chart.yaml in {root} or below", advice="go to the folder that holds your charts"
        )
    images = {image_name(root, folder): _relative(root, folder) for folder in dockerfiles}
    lines = ["# What pipeline_steps needs to know about this repository.", "charts:"]
    for path in chart_paths(root, charts):
        lines.append(f"  - path: {_scalar(path)}")
        targets = {key for folder in charts if folder.match(path) for key in reference_keys(folder)}
        lines += image_mapping(targets, list(images))
    if images:
        lines += [
            "images:",
            *(f"  {_scalar(name)}: {{context: {_scalar(path)}}}" for name, path in images.items()),
        ]
    return "\n".join([*lines, *CHANNELS.splitlines()]) + "\n"


CHANNELS = """\
# Where artifacts go: snapshots of every build, and releases. Put your own registry here, or into the environment.
channels:
  snapshot:
    images: "${SNAPSHOT_REGISTRY:-registry.example.com/snapshot}"
    charts: "oci://${SNAPSHOT_REGISTRY:-registry.example.com/snapshot}/charts"
  production:
    images: "${PRODUCTION_REGISTRY:-registry.example.com/production}"
    charts: ["oci://${PRODUCTION_REGISTRY:-registry.example.com/production}/charts"]
# The clusters that integration_test may use; `pipeline-steps sandbox up` gives you one on your machine.
clusters:
  ci: {kubeconfig: "${CI_KUBECONFIG:-kubeconfig}"}
"""


def find_files(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """(folder, file name) of every Chart.yaml and Dockerfile; a chart's own subcharts are not
    looked for.
    """
    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    for name in ("Chart.yaml", "Dockerfile"):
        if name in names:
            yield folder, name
    if "Chart.yaml" in names or depth == DEPTH:
        return
    for entry in folder.iterdir():
        if (
            entry.is_dir()
            and not entry.is_symlink()
            and not entry.name.startswith(".")
            and entry.name not in SKIPPED
        ):
            yield from find_files(entry, depth + 1)


def chart_paths(root: Path, charts: Sequence[Path]) -> list[str]:
    """Paths for `charts`, a glob where several charts lie side by side."""
    parents: dict[str, list[str]] = {}
    for chart in charts:
        path = _relative(root, chart)
        parents.setdefault(path.rpartition("/")[0], []).append(path)
    several = {
        parent
        for parent, paths in parents.items()
        if parent and (len(paths) > 1 or parent.endswith("charts"))
    }
    return [
        path
        for parent, paths in parents.items()
        for path in ([f"{parent}/*"] if parent in several else paths)
    ]


def reference_keys(chart: Path) -> Iterator[str]:
    """The values keys of a chart that look like an image reference: image.repository and its
    neighbours.
    """
    try:
        values: Any = yaml.safe_load((chart / "values.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return
    image = values.get("image") if isinstance(values, dict) else None
    if isinstance(image, dict) and "repository" in image:
        yield from (f"image.{key}" for key in KEYS if key in image)


def image_mapping(targets: set[str], images: Sequence[str]) -> list[str]:
    """The lines that say which values carry an image's reference: as they are when it is clear,
    else as a comment.
    """
    if not targets:
        return []
    keys = ", ".join(f'image.{key}: "{{{key}}}"' for key in KEYS if f"image.{key}" in targets)
    if len(images) == 1:
        return ["    images:", f"      {_scalar(images[0])}: {{{keys}}}"]
    return [
        "    # the image that goes into these values, by its name below `images`:",
        f"    # images: {{NAME: {{{keys}}}}}",
    ]


def image_name(root: Path, folder: Path) -> str:
    """A name for the image built in `folder`: the folder's, or its parent's when it only says that
    it is an app.
    """
    names = [
        name
        for name in (folder.name, folder.parent.name)
        if name not in ("app", "docker", "image", "src")
    ]
    return (names or [root.name])[0].lower()


def _relative(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _scalar(value: str) -> str:
    """A YAML scalar: plain where that is safe."""
    plain = value and value[0].isalpha() and all(char.isalnum() or char in "-_./" for char in value)
    return value if plain and value.lower() not in WORDS else json.dumps(value)


if __name__ == "__main__":
    raise SystemExit(main())
