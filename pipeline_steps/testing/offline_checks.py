"""The checks of `check` with helm and commands: each returns a JUnit case, and none raises for a bad
chart.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.building import packaging
from pipeline_steps.charts import edit, image_references
from pipeline_steps.charts.compare import random_places
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Helm, error_text
from pipeline_steps.config.language import Check, Config
from pipeline_steps.testing import helm_arguments
from pipeline_steps.toolbox import process, scratch, yaml_reader
from pipeline_steps.toolbox.errors import ChartFailed, ConfigurationError
from pipeline_steps.toolbox.junit import Case
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

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


def run_all(
    helm: Helm,
    checkout: Checkout,
    chart: Chart,
    values: tuple[str, ...],
    *,
    jobs: int,
    timeout: float | None,
) -> list[Case]:
    """Lint and render the chart with each test values file and Kubernetes version, and run the
    configured commands; `jobs` at once.
    """
    with scratch.folder("check") as folder, ThreadPoolExecutor(jobs) as pool:
        staged = write_chart(checkout, chart, values, folder)
        settings = checkout.config.check
        runs = [(file, version) for version in settings.kube_versions or ("",) for file in values]
        cases = [
            pool.submit(lint, helm, chart, staged, file, version, settings)
            for file, version in runs
        ]
        if chart.type != "library":  # helm renders no library
            cases += [
                pool.submit(render, helm, chart, staged, file, version, settings)
                for file, version in runs
            ]
        cases += [
            pool.submit(command, checkout.config, chart, line, timeout)
            for line in checkout.config.check.commands
        ]
        return [case.result() for case in cases]


def write_chart(
    checkout: Checkout, chart: Chart, values: Iterable[str], folder: Path
) -> WrittenChart:
    """Write the stored chart and its test values files below `folder`.

    The values files are written separately: .helmignore may leave them out of the package.
    """
    place = folder / chart.name
    for name, data in packaging.package_files(checkout, chart).items():
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


def lint(
    helm: Helm, chart: Chart, staged: WrittenChart, values: str, kube_version: str, check: Check
) -> Case:
    """`helm lint --strict` with one values file and for one Kubernetes version.

    values: "" for the chart's own. kube_version: "" for the one that helm assumes.
    """
    name = f"lint {_subject(values, kube_version)}"
    options = ("--with-subcharts",) if check.with_subcharts else ()
    linted = helm.lint(
        staged.chart,
        values=staged.values_arguments(values),
        kube_version=kube_version,
        args=(*staged.args, *options),
    )
    if linted.ok:
        return Case(name)
    findings = lint_findings(linted.stdout.decode(errors="replace"), staged.chart, chart.path)
    errors = [text for text in findings if not _is_notice(text, check)]
    for text in findings:
        if text not in errors:
            log.warning("%s: %s: %s", chart.name, name, text)
    if findings and not errors:
        return Case(name)
    text = "\n".join(errors) or in_checkout(error_text(linted), staged.chart, chart.path)
    return Case(name, outcome="failure", text=text)


#: Warnings of helm 4 about charts that helm 3 and every release of them before took.
_NEW_IN_HELM_4 = re.compile(
    r"failed to strictly parse chart metadata file|templates/: directory does not exist"
)
#: What helm advises about an option that nobody gives here.
_DEBUG_HINT = re.compile(r"\n+Use --debug flag to render out invalid YAML")
_OTHER_KUBERNETES = re.compile(r"chart requires kubeVersion: .* incompatible with Kubernetes")
#: How lint begins what a template says; `helm lint` cannot be told API versions.
_OF_TEMPLATES = re.compile(r"\S*templates/\S*:\d+:\d+|\S*templates/: ")


def _is_notice(finding: str, check: Check) -> bool:
    """Whether a lint finding is no failure: only helm 4 has it, or rendering decides about it."""
    if _NEW_IN_HELM_4.search(finding):
        return True
    return bool(check.api_versions) and _OF_TEMPLATES.match(finding) is not None


def lint_findings(output: str, folder: Path, path: str) -> list[str]:
    """The errors and warnings in the output of `helm lint`, with paths as in the checkout.

    folder: what was linted. path: of the chart in the checkout.

    >>> lint_findings("==> Linting /tmp/x/web\\n[INFO] Chart.yaml: icon is recommended\\n"
    ...     "[ERROR] templates/: web/templates/a.yaml:12:10\\n  nil pointer\\n\\n"
    ...     "==> Linting /tmp/x/web/charts/sub\\n[WARNING] templates/: directory does not exist\\n",
    ...     Path("/tmp/x/web"), "charts/web")
    ['charts/web/templates/a.yaml:12:10\\n  nil pointer', 'charts/web/charts/sub/templates/: directory does not exist']
    """
    findings: list[list[str]] = []
    keep, subchart = False, ""
    for line in output.splitlines():
        if linting := re.match(r"==> Linting (.*)", line):
            keep, subchart = False, _subchart(linting[1], folder)
        elif message := re.match(r"\[(ERROR|WARNING|INFO)\] (.*)", line):
            keep = message[1] != "INFO"
            if keep:
                # `templates/: ` before a file that is named anyway says nothing.
                text = re.sub(r"^templates/: (?=\S+/templates/)", "", message[2])
                findings.append([f"{subchart}{text}"])
        elif re.match(r"\d+ chart\(s\) linted", line):
            keep = False
        elif keep and line.strip():
            findings[-1].append(line)
    texts = (in_checkout("\n".join(lines), folder, path) for lines in findings)
    return list(dict.fromkeys(texts))


def _subchart(linted: str, folder: Path) -> str:
    """The folder of the subchart that helm lints, below the chart's; "" for the chart itself."""
    below = linted.partition(f"{folder.name}/")[2] if linted != str(folder) else ""
    inner = linted.removeprefix(f"{folder}/") if linted.startswith(f"{folder}/") else below
    return f"{inner}/" if inner else ""


def in_checkout(text: str, folder: Path, path: str) -> str:
    """Replace file names relative to the chart by paths relative to pipeline.yaml.

    folder: where helm found the chart. path: of the chart in the checkout.

    >>> in_checkout("parse error on web/templates/a.yaml: line 3", Path("/tmp/x/web"), "charts/web")
    'parse error on charts/web/templates/a.yaml: line 3'
    >>> in_checkout("/tmp/x/web: no name in /tmp/x/values/ci/a.yaml", Path("/tmp/x/web"), "charts/web")
    'charts/web: no name in charts/web/ci/a.yaml'
    """
    prefix = f"{path}/" if path else ""
    text = text.replace(f"{folder.parent}/values/", prefix)
    text = re.sub(rf"{re.escape(str(folder))}/?(?=[\w.])", prefix, text)
    text = text.replace(str(folder), path or ".").replace(f"{folder.parent}/", "")
    name = re.escape(folder.name)
    chart_files = r"templates/|crds/|values\.yaml|Chart\.yaml|values\.schema\.json"
    files = rf"(?<![\w/.-])(?:{name}/)?((?:charts/[\w.-]+/)*(?:{chart_files}))"
    return re.sub(files, lambda match: f"{prefix}{match[1]}", text)


def render(
    helm: Helm, chart: Chart, staged: WrittenChart, values: str, kube_version: str, check: Check
) -> Case:
    """All templates with one values file ("" for the chart's own), for one Kubernetes version.

    Twice: what differs is random. That is logged as a warning and is no failure.
    """
    name = f"render {_subject(values, kube_version)}"
    try:
        first, again = (
            helm.template(
                staged.chart,
                values=staged.values_arguments(values),
                release=chart.name[:RELEASE_NAME_LIMIT],
                kube_version=kube_version,
                args=(*staged.args, *helm_arguments.api_arguments(check)),
            )
            for _ in range(2)
        )
    except ChartFailed as error:
        # A person looks for the line in the checkout, not in a folder that is gone.
        text = _DEBUG_HINT.sub("", in_checkout(error.what, staged.chart, chart.path))
        if _OTHER_KUBERNETES.search(text):
            text += "\n(check.kube_versions says which versions the chart is rendered for)"
        return Case(name, outcome="failure", text=text)
    places = random_places(first, again)
    if places:
        log.warning(
            "%s: renders otherwise each time %s (randAlphaNum, genCA, now, …): every upgrade "
            "changes it; comparisons leave it out: %s",
            chart.name,
            _subject(values, ""),
            ", ".join(places[:10]),
        )
    return Case(name)


def image_keys(checkout: Checkout, chart: Chart, values: Iterable[str]) -> Iterator[Case]:
    """A failure for each test values file that sets a key of one of the chart's images.

    The test would run another image than the one that was built and will be released.
    """
    templates = checkout.image_values(chart.path)
    key_of = {
        tuple(edit.segments(key)): (key, image)
        for image, keys in templates.items()
        for key in keys
        if key not in image_references.CHART_KEYS
    }
    for file in filter(None, values):
        path = f"{chart.path}/{file}".lstrip("/")
        root = yaml_reader.parse(checkout.tree.read([path])[path], path, duplicates=True)[1]
        findings = [
            f"{path}:{scalar.line + 1}: sets {written}, which the image {image} sets ({key}); "
            "remove it here, so that the tests run the image that is released"
            for written, scalar in edit.scalars(root)
            for parts, (key, image) in key_of.items()
            if _is_prefix(tuple(edit.segments(written)), parts)
        ]
        if findings:
            yield Case(f"image keys in {file}", outcome="failure", text="\n".join(findings))


def _is_prefix(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one of two keys is the other, or above it."""
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def command(config: Config, chart: Chart, line: str, timeout: float | None) -> Case:
    """Run one of the configured commands, without a shell; {chart} is the chart's folder."""
    try:
        # Split before {chart} is put in: a folder with a space stays one argument.
        argv = [part.replace("{chart}", chart.path or ".") for part in shlex.split(line)]
    except ValueError as error:
        raise ConfigurationError(
            f"the command {line!r} cannot be split into words: {error}",
            where=config.where("check.commands"),
            advice="close its quotes",
        ) from error
    if not argv:
        raise ConfigurationError(
            "a command is empty",
            where=config.where("check.commands"),
            advice="write a program with its arguments, or remove the entry",
        )
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


def _subject(values: str, kube_version: str) -> str:
    text = f"with {values}" if values else "with its own values"
    return f"{text} for Kubernetes {kube_version}" if kube_version else text
