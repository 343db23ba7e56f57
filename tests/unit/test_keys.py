"""No key of pipeline.yaml loads without a word and without an effect: each one is read by the code,
or said to be "not yet".
"""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pipeline_steps.auth.hosts import Host, Pull
from pipeline_steps.config import config_file, language
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.release import derivation
from pipeline_steps.report import report
from pipeline_steps.state.state import State
from pipeline_steps.testing import settings
from pipeline_steps.toolbox.errors import NotYet
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart
from tools import reference

PACKAGE = Path(language.__file__).parents[1]
#: What the code calls a value of each type, where it reads a key of it.
NAMES: dict[type[msgspec.Struct], set[str]] = {
    language.Language: {"config", "configured"},
    language.ChartTests: {"tests", "test_settings", "settings", "configured"},
    language.ChartEntry: {"entry", "chart", "closure"},
    language.ImageEntry: {"entry", "image_entry", "definition"},
    language.Channels: {"channels"},
    language.SnapshotChannel: {"channel", "snapshot", "_settings"},
    language.ProductionChannel: {"channel", "production", "_settings"},
    language.Cluster: {"entry", "connection"},
    language.Check: {"check"},
    language.Review: {"review"},
    language.GerritReview: {"settings", "_settings"},
    language.GiteaReview: {"settings", "_settings"},
    language.GithubReview: {"settings", "_settings"},
    language.GitlabReview: {"settings", "_settings"},
    language.LaunchpadReview: {"settings", "_settings"},
    language.Release: {"release"},
    language.Approval: {"approval", "rule"},
    language.Deployment: {"deployment"},
    Host: {"entry", "host", "host_settings"},
    Pull: {"pull"},
}
#: Keys, with all below them, that nothing reads: a warning where they are loaded …
TOLD = {"approvals.github", "channels.snapshot.keep"}
#: … or "not yet" by what would need them; each with an example.
REFUSED: dict[str, dict[str, Any]] = {
    "tests.prepare": {"tests": {"prepare": ["ci/before.yaml"]}},
    "tests.upgrade_from": {"tests": {"upgrade_from": ["published"]}},
    "tests.breaking": {"tests": {"breaking": "skip"}},
    "release.sign": {"release": {"sign": {"key": "releases"}}},
}


def _read_attributes() -> set[tuple[str, str]]:
    """(what a value is called, attribute) wherever one is read outside of the configuration."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add((ast.unparse(node.value).rpartition(".")[2], node.attr))
    return found


def test_every_key_has_an_effect_or_is_told() -> None:
    read = _read_attributes()
    without: list[str] = []

    def walk(kind: type[msgspec.Struct], above: str) -> None:
        hints = {key.path: key.kind for key in reference.keys(kind)}
        for field in msgspec.structs.fields(kind):
            path = f"{above}.{field.name}".removeprefix(".")
            if path in TOLD or path in REFUSED:
                continue
            if not any((name, field.name) in read for name in NAMES[kind]):
                without.append(path)
            for inner, _addition in reference.structs(hints[field.name]):
                if not (inner is language.ChartTests and above):
                    walk(inner, path)

    walk(language.Language, "")
    assert without == []


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("charts/web/Chart.yaml", chart("web"))
    return repo


def configured(repo: Repo, more: dict[str, Any]) -> Config:
    charts = {"charts": [{"path": "charts/*"}]}
    repo.put("pipeline.yaml", yaml.safe_dump({**charts, **more}))
    repo.commit()
    return load((), environ={}, start=repo.root)


@pytest.mark.parametrize("key", REFUSED)
def test_keys_of_later_versions_are_refused_where_they_would_matter(repo: Repo, key: str) -> None:
    config = configured(repo, REFUSED[key])
    checkout = Checkout(config)
    with pytest.raises(NotYet, match=key.rpartition(".")[2]):
        if key.startswith("tests."):
            settings.settings(checkout, checkout.chart("web"))
        elif key.startswith("review."):
            report(config=config, state=State(repo.root / ".pipeline/state.jsonl"), charts=())
        else:
            derivation._refuse_unreleasable(checkout.chart("web"), config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels.snapshot.keep", {"channels": {"snapshot": {"keep": {"abandoned": "3d"}}}}),
    ],
)
def test_keys_without_effect_are_told_where_they_are_loaded(
    repo: Repo, caplog: pytest.LogCaptureFixture, key: str, value: dict[str, Any]
) -> None:
    config_file._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "pipeline_steps"):
        configured(repo, value)
    assert f"{key} has no effect yet" in caplog.text
