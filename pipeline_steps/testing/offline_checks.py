"""The single checks of `check`: each returns a JUnit case, and none raises for a bad chart."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.building import packaging
from pipeline_steps.charts.compare import random_places
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Helm, said
from pipeline_steps.config.language import Config
from pipeline_steps.sources.source import Tree
from pipeline_steps.testing import helm_arguments
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import ChartFailed, ConfigurationError
from pipeline_steps.toolbox.junit import Case
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout
from pipeline_steps.workspace.tags import chart_at_tag

log = logging.getLogger("pipeline_steps.check")

#: Default time limit for one of the configured commands, in seconds.
COMMAND_SECONDS = 600.0


class WrittenChart(NamedTuple):
    """A chart on disk as it would be packaged, with its dependencies.

    values: test values file → path on disk. args: arguments of tests.helm_args for helm.
    """

    chart: Path
    values: dict[str, Path]
    args: tuple[str, ...]

    def values_arguments(self, values: str) -> list[Path]:
        """The values files for helm: the test values file, nothing for ""."""
        return [self.values[values]] if values else []


def write_chart(
    checkout: Checkout, chart: Chart, values: Iterable[str], folder: Path
) -> WrittenChart:
    """Write the stored chart and its test values files below `folder`.

    The values files are written separately: .helmignore may leave them out of the package.
    """
    place = folder / chart.name
    for name, data in packaging.files_of(checkout, chart).items():
        _write(place / name, data)
    prefix = f"{chart.path}/" if chart.path else ""
    sources = {f"{prefix}{name}": name for name in values if name}
    read = checkout.tree.read(sources)
    written = {
        name: _write(folder / "values" / name, read[source]) for source, name in sources.items()
    }
    arguments = helm_arguments.chart_arguments(checkout.config, chart)
    return WrittenChart(
        place, written, helm_arguments.write_values_files(checkout, arguments, folder / "arguments")
    )


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lint(helm: Helm, chart: Chart, staged: WrittenChart, values: str) -> Case:
    """`helm lint --strict` with one values file ("" for the chart's own)."""
    linted = helm.lint(staged.chart, values=staged.values_arguments(values), args=staged.args)
    if linted.ok:
        return Case(f"lint {_values_text(values)}")
    errors = lint_errors(linted.stdout.decode(errors="replace"), chart.name, chart.path) or said(
        linted
    )
    return Case(f"lint {_values_text(values)}", outcome="failure", text=errors)


def lint_errors(output: str, name: str, path: str) -> str:
    """The errors and warnings in the output of `helm lint`, with paths as in the checkout.

    >>> print(lint_errors("==> Linting x\\n[INFO] Chart.yaml: icon is recommended\\n"
    ...       "[ERROR] templates/: web/templates/a.yaml:12:10\\n  nil pointer\\n\\n", "web", "charts/web"))
    charts/web/templates/a.yaml:12:10
      nil pointer
    """
    errors: list[str] = []
    keep = False
    for line in output.splitlines():
        match = re.match(r"\[(ERROR|WARNING|INFO)\] (?:templates/: )?(.*)", line)
        if match:
            keep = match[1] != "INFO"
            line = in_checkout(match[2], name, path)
        elif line.startswith("==>") or re.match(r"\d+ chart\(s\) linted", line):
            keep = False
        if keep and line.strip():
            errors.append(line)
    return "\n".join(dict.fromkeys(errors))


def in_checkout(text: str, name: str, path: str) -> str:
    """Replace file names relative to the chart by paths relative to pipeline.yaml.

    >>> in_checkout("parse error on web/templates/a.yaml: line 3", "web", "charts/web")
    'parse error on charts/web/templates/a.yaml: line 3'
    """
    prefix = f"{path}/" if path else ""
    files = rf"(?<![\w/.-])(?:{re.escape(name)}/)?(templates/\S|values\.yaml|Chart\.yaml|values\.schema\.json)"
    return re.sub(files, lambda match: f"{prefix}{match[1]}", text)


def render(helm: Helm, chart: Chart, staged: WrittenChart, values: str) -> Case:
    """Render with one values file ("" for the chart's own), twice: differences are random values.

    Random values are logged as a warning; they are no failure.
    """
    name = f"render {_values_text(values)}"
    try:
        first, again = (
            helm.template(
                staged.chart,
                values=staged.values_arguments(values),
                release=chart.name[:RELEASE_NAME_LIMIT],
                args=staged.args,
            )
            for _ in range(2)
        )
    except ChartFailed as error:
        text = in_checkout(error.what, chart.name, chart.path)
        return Case(name, outcome="failure", text=text)
    places = random_places(first, again)
    if places:
        log.warning(
            "%s: renders otherwise each time %s (randAlphaNum, genCA, now, …): every "
                "upgrade changes it; "
            "comparisons leave it out: %s",
            chart.name, _values_text(values), ", ".join(places[:10]),
        )  # fmt: skip
    return Case(name)


def version_notice(checkout: Checkout, chart: Chart) -> str:
    """A warning when the version is already tagged with other content, "" when it is not.

    No failure: snapshots get the next patch version (docs/reference/versions.md#snapshots), and
    only tag_release refuses.
    """
    tagged = chart_at_tag(checkout, chart.name)
    if tagged is None or tagged.has_content(chart.content):
        return ""
    at_tag = (
        f"version {chart.version} is released (tag {tagged.tag.name} at {tagged.tag.revision[:12]})"
    )
    advice = f"raise version in {chart.path or '.'}/Chart.yaml before the next release"
    if tagged.chart is None:
        return f"{at_tag}, and cannot be compared: {tagged.reason}; {advice}"
    tagged_tree = checkout.source.tree(tagged.tag.revision, checkout.folder)
    closures = {*chart.closure, *tagged.chart.closure}
    files = sorted(path for path in closures if _differs(tagged_tree, checkout.tree, path))
    listed = ", ".join(files[:10]) + (f" and {len(files) - 10} more" if len(files) > 10 else "")
    what = f"changed since: {listed}" if files else "its entries in pipeline.yaml changed since"
    return f"{at_tag} with other content; {what}; {advice}"


def _differs(tagged_tree: Tree, current_tree: Tree, path: str) -> bool:
    old_entry, new_entry = tagged_tree.entries().get(path), current_tree.entries().get(path)
    if old_entry is None or new_entry is None or old_entry.kind != new_entry.kind:
        return old_entry is not new_entry
    return tagged_tree.digests([path]) != current_tree.digests([path])


def command(config: Config, chart: Chart, line: str, timeout: float | None) -> Case:
    """Run one of the configured commands, without a shell; {chart} is the chart's folder."""
    try:
        argv = [part.replace("{chart}", chart.path or ".") for part in shlex.split(line)]
    except ValueError as error:
        raise ConfigurationError(f"{line!r}: {error}", where="check.commands") from error
    if not argv:
        raise ConfigurationError("a command is empty", where="check.commands")
    advice = f"check.commands of pipeline.yaml runs it: install {argv[0]}"
    completed = process.run(
        argv, cwd=config.root, timeout=timeout or COMMAND_SECONDS, advice=advice
    )
    if completed.ok:
        return Case(line)
    how = (
        "took too long and was stopped"
        if completed.code is None
        else f"ended with exit code {completed.code}"
    )
    return Case(line, outcome="failure", text=f"{how}\n{completed.tail(40)}".strip())


def _values_text(values: str) -> str:
    return f"with {values}" if values else "with its own values"
