"""The reference of the configuration is true: every key has a meaning and an example that loads,
and the page about overlapping entries shows what is really taken.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from pipeline_steps.config import config_file
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import TEST_DEFAULTS, Language, merge_tests
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart
from tools import reference

ROOT = Path(__file__).resolve().parents[2]
KEYS = list(reference.keys(Language))
PAGE = ROOT / "docs/explanation/configuration.md"


@pytest.mark.parametrize("key", KEYS, ids=[key.path for key in KEYS])
def test_every_key_has_a_meaning_and_an_example_of_its_type(key: reference.Key) -> None:
    assert re.match(r"[A-Z`\"].*[.:]( |$)|.*\.$", key.meaning), key.meaning
    ((name, value),) = yaml.safe_load(key.example).items()
    assert name == re.split(r"[.\]]", key.path)[-1]
    msgspec.convert(value, key.kind)


def test_keys_without_effect_are_marked() -> None:
    without_effect = {".".join(path) for path in config_file._WITHOUT_EFFECT}
    for key in KEYS:
        plain = key.path.replace(".NAME", "").replace("[]", "")
        if any(plain == path or plain.startswith(f"{path}.") for path in without_effect):
            assert re.search("[Nn]o effect yet|Not yet|How long", key.meaning), key.path


def test_the_schema_for_editors_carries_the_words_of_the_reference() -> None:
    definitions = reference.schema()["$defs"]
    timeout = definitions["ChartTests"]["properties"]["timeout"]
    assert timeout["description"] == "How long one scenario may take."
    assert timeout["examples"] == ["20m"]
    for name, kind in definitions.items():
        for key, value in kind["properties"].items():
            assert value["description"], f"{name}.{key}"


def test_the_page_shows_which_entry_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repo.config))
    base, site, overlay = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    repo.put("pipeline.yaml", base)
    (tmp_path / "site.yaml").write_text(site)
    (tmp_path / "overlay.yaml").write_text(overlay)
    (_, *columns), *rows = table(PAGE.read_text())
    for name, *_ in rows:
        repo.put(f"charts/{name}/Chart.yaml", chart(name))
    repo.commit()
    environ = {config_file.SITE_VARIABLE: str(tmp_path / "site.yaml")}
    config = load((tmp_path / "overlay.yaml",), environ=environ, start=repo.root)
    checkout = Checkout(config)
    for name, *cells in rows:
        entry = checkout.chart(name).entry
        tests = merge_tests(TEST_DEFAULTS, config.tests, entry.tests)
        values = [getattr(tests, column) for column in columns]
        written = [", ".join(value) if isinstance(value, tuple) else str(value) for value in values]
        assert written == cells, name
    snapshots, releases = config.channels.snapshot.charts, config.channels.production.charts
    assert f"Snapshots go to `{snapshots}`, releases to `{releases}`." in PAGE.read_text()


def table(text: str) -> list[list[str]]:
    """The cells of the only table on a page, its head first."""
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows]
