"""What public repositories look like, and what the commands make of them: a table of cases, one row
each.

The input is made as small as it can be; every command is a process, as people start it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.gits import Repo, chart

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {greeting: hello}\n"
RANGE = "dependencies: [{name: x, version: ^1, repository: 'https://example.invalid'}]\n"
#: A server that refuses every connection.
DEAD = "dependencies: [{name: x, version: 1.0.0, repository: 'http://127.0.0.1:9'}]\n"


class Field:
    """A git repository of charts, a folder for a chart repository, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.out = folder / "charts"

    def chart(self, name: str, version: str, *, folder: str = "charts", more: str = "") -> None:
        self.text(name, chart(name, version, more=more), folder=folder)

    def text(self, name: str, text: str, *, folder: str = "charts") -> None:
        self.repo.put(f"{folder}/{name}/Chart.yaml", text)
        self.repo.put(f"{folder}/{name}/templates/map.yaml", MAP)

    def tag(self, *names: str) -> None:
        self.repo.commit()
        for name in names:
            self.repo.git("tag", name)

    def regenerate(self, tags: str, *words: str, charts: str = "charts/*") -> list[str]:
        return ["regenerate", "--source", str(self.repo.root), "--charts", charts, "--tags", tags,
                "--to", self.out.as_uri(), *words]  # fmt: skip

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
        }
        return subprocess.run(
            [sys.executable, "-m", "pipeline_steps", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    def published(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.tgz"))


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


class Case(NamedTuple):
    """command: makes the input and returns the command line. code: of its exit. says: all of it is
    on standard error. published: archives that are there afterwards.
    """

    name: str
    command: Callable[[Field], Sequence[str]]
    code: int
    message: Sequence[str]
    published: Sequence[str] = ()


# -- regenerate: nothing vanishes -----------------------------------------------------------------


def version_not_raised(field: Field, tags: str, name: str) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag(f"{name}1.0.0")
    field.repo.put("README.md", "new")
    field.tag(f"{name}1.1.0")
    field.text("web", "name: web\nversion: 1.2.0\n")
    field.tag(f"{name}1.2.0")
    return field.regenerate(tags)


def odd_versions(field: Field) -> Sequence[str]:
    for name, version in (("a", "v1.0.0"), ("b", "2026.04.23"), ("c", "1.0.0-rc.01"), ("d", "1.2")):
        field.chart(name, version)
        field.tag(f"{name}-{version}")
    field.chart("good", "1.0.0")
    field.tag("good-1.0.0")
    return field.regenerate("{name}-{version}")


def tag_with_a_v(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag("web-v1.0.0", "web-1.0.0")
    return field.regenerate("{name}-{version}")


def chart_elsewhere(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.chart("web", "1.0.0", folder="stable")
    field.tag(tag.format("1.0.0"))
    field.repo.git("mv", "stable", "charts")
    field.chart("web", "2.0.0")
    field.tag(tag.format("2.0.0"))
    return field.regenerate(tags)


def folder_of_another_name(field: Field) -> Sequence[str]:
    field.text("web", chart("frontend", "1.0.0"))
    field.tag("web-1.0.0", "frontend-1.0.0")
    return field.regenerate("{name}-{version}")


def tags_before_the_first_chart(field: Field, tags: str) -> Sequence[str]:
    field.repo.put("main.go", "package main\n")
    field.tag("v0.1.0")
    field.chart("web", "1.0.0")
    field.tag("v1.0.0")
    return field.regenerate(tags)


def other_tags(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag("web-1.0.0", "nightly-build", "library-1.0.0", "web-2026", "web-latest")
    return field.regenerate("{name}-{version}")


def torn(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.text("web", "name: [\n")
    field.tag(tag)
    return field.regenerate(tags)


def one_chart(field: Field) -> None:
    field.chart("web", "1.0.0")
    field.tag("web-1.0.0")


def no_tag(field: Field) -> Sequence[str]:
    one_chart(field)
    return field.regenerate("release/{name}/{version}")


def no_tags_at_all(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.repo.commit()
    return field.regenerate("{name}-{version}")


def no_folder(field: Field) -> Sequence[str]:
    one_chart(field)
    field.tag("v1.0.0")
    return field.regenerate("v*", charts="chart/*")


def unknown_chart(field: Field) -> Sequence[str]:
    one_chart(field)
    return field.regenerate("{name}-{version}", "--chart", "wbe")


# -- regenerate: one bad thing stops only itself --------------------------------------------------


def bad_neighbour(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.text("old", "name: old\nversion: 1.0.0\n")
    field.text("torn", "name: [\n")
    field.chart("web", "1.0.0")
    field.tag(tag, "old-1.0.0", "torn-1.0.0")
    return field.regenerate(tags, "--chart", "web")


def dead_host(field: Field) -> Sequence[str]:
    field.chart("dead", "1.0.0", more=DEAD)
    field.chart("range", "1.0.0", more=RANGE)
    field.chart("web", "1.0.0")
    field.tag("v1.0.0")
    return field.regenerate("v*")


CASES = [
    Case(
        "version not raised, tags of one chart",
        lambda field: version_not_raised(field, "v{version}", "v"),
        8,
        ("1.1.0 (v1.1.0): the version of web there is 1.0.0", "(v1.2.0)", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "version not raised, tags with a name",
        lambda field: version_not_raised(field, "{name}-{version}", "web-"),
        8,
        ("web 1.1.0 (web-1.1.0): the version of web there is 1.0.0", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "version not raised, tags over all charts",
        lambda field: version_not_raised(field, "v*", "v"),
        8,
        ("(v1.2.0)", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "versions that are none",
        odd_versions,
        8,
        ("a v1.0.0 (a-v1.0.0)", "b 2026.04.23 (b-2026.04.23)", "c 1.0.0-rc.01 (", "d 1.2 (d-1.2)"),
        ("good-1.0.0.tgz",),
    ),
    Case(
        "a tag with a v that the version does not have",
        tag_with_a_v,
        8,
        ("web v1.0.0 (web-v1.0.0): the version of web there is 1.0.0",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "a chart that moved, tags with a name",
        lambda field: chart_elsewhere(field, "{name}-{version}", "web-{}"),
        8,
        ("web 1.0.0 (web-1.0.0): stable/web/Chart.yaml is there, and no pattern of --charts",),
        ("web-2.0.0.tgz",),
    ),
    Case(
        "a chart that moved, tags of one chart",
        lambda field: chart_elsewhere(field, "v{version}", "v{}"),
        8,
        ("(v1.0.0): stable/web/Chart.yaml is there, and no pattern of --charts fits it",),
        ("web-2.0.0.tgz",),
    ),
    Case(
        "a folder that is called otherwise than its chart",
        folder_of_another_name,
        8,
        ("web 1.0.0 (web-1.0.0): the version of frontend there is 1.0.0",),
        ("frontend-1.0.0.tgz",),
    ),
    Case(
        "tags before the first chart",
        lambda field: tags_before_the_first_chart(field, "v{version}"),
        0,
        ("v0.1.0: there is no chart", "1 published", "1 tags without a chart"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "tags over all charts before the first chart",
        lambda field: tags_before_the_first_chart(field, "v*"),
        0,
        ("v0.1.0: there is no chart", "1 published", "1 tags without a chart"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "tags that are about something else",
        other_tags,
        0,
        ("nightly-build: ", "library-1.0.0: there is no chart library", "web-2026: the version of"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "Chart.yaml that is no YAML, tags of one chart",
        lambda field: torn(field, "v{version}", "v1.0.0"),
        8,
        ("web (v1.0.0): charts/web/Chart.yaml",),
    ),
    Case(
        "Chart.yaml that is no YAML, tags with a name",
        lambda field: torn(field, "{name}-{version}", "web-1.0.0"),
        8,
        ("web (web-1.0.0): charts/web/Chart.yaml",),
    ),
    Case("no tag fits", no_tag, 2, ("no tag fits release/{name}/{version}", "like web-1.0.0")),
    Case("no tags at all", no_tags_at_all, 2, ("no tag fits", "the source has no tags")),
    Case(
        "no folder fits",
        no_folder,
        8,
        ("v1.0.0: there is no chart but charts/web", "none of 1 fitting tags stands for a chart"),
    ),
    Case("a chart that nobody has", unknown_chart, 2, ("no tag fits", "with the chart wbe")),
    Case(
        "other charts are bad, tags with a name",
        lambda field: bad_neighbour(field, "{name}-{version}", "web-1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "other charts are bad, tags over all charts",
        lambda field: bad_neighbour(field, "v*", "v1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "other charts are bad, tags of one chart",
        lambda field: bad_neighbour(field, "v{version}", "v1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "a dead host",
        dead_host,
        8,
        ("dead 1.0.0 (v1.0.0)", "range 1.0.0 (v1.0.0)", "2 versions could not be made"),
        ("web-1.0.0.tgz",),
    ),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_case_of_the_field_ends_as_it_should(case: Case, field: Field) -> None:
    words = case.command(field)
    for _ in range(2 if words[0] == "regenerate" else 1):  # the second run says the same
        completed = field.run(words)
        assert completed.returncode == case.code, completed.stderr
        for text in case.message:
            assert text in completed.stderr.replace("1 there before", "1 published"), (
                completed.stderr
            )
        assert field.published() == sorted(case.published)


def test_a_second_run_asks_only_what_may_have_changed(field: Field) -> None:
    """Refusals that the sources alone decide are remembered; a host may be back."""
    words = dead_host(field)
    first = field.run(words)
    (ledger,) = (field.folder / ".pipeline").glob("regenerated-*.jsonl")
    assert b'"v1.0.0"' not in ledger.read_bytes(), "the dead host is asked again"
    field.repo.git("rm", "-rq", "charts/dead")
    field.tag("v1.1.0")
    assert field.run(words).returncode == 8
    assert b'"v1.1.0"' in ledger.read_bytes()
    assert field.run(words).stderr.count("range 1.0.0") == first.stderr.count("range 1.0.0") == 1
