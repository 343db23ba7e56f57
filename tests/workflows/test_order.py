"""Of several records that nothing orders all steps take the same one: no step advises what another
calls done.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_steps.check import check
from pipeline_steps.config.config_file import load
from pipeline_steps.evidence.trust import open_state
from pipeline_steps.integration_test import integration_test
from pipeline_steps.promote import promote
from pipeline_steps.snapshot import snapshot
from pipeline_steps.state.record import Record
from pipeline_steps.tag_release import tag_release
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.one_chart import CHART, MAP

PLACES = ("one", "two")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.setenv("PATH", str(helm(4).parent), prepend=":")
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", 'charts: [{path: charts/*, tests: {none: "a library"}}]\n')
    repo.put("charts/common/Chart.yaml", CHART)
    repo.put("charts/common/templates/map.yaml", MAP)
    repo.commit()
    for place in PLACES:
        channels = {"snapshot": {"charts": (tmp_path / place).as_uri()}}
        channels |= {"production": {"charts": (tmp_path / f"{place}-production").as_uri()}}
        (tmp_path / f"{place}.yaml").write_text(json.dumps({"channels": channels}))
        (tmp_path / place).mkdir()
        (tmp_path / f"{place}-production").mkdir()
    return repo


@pytest.mark.parametrize("joined", [PLACES, PLACES[::-1]])
@pytest.mark.parametrize("place", PLACES)
def test_two_clones_with_different_channels_do_not_block_each_other(
    repo: Repo, tmp_path: Path, place: str, joined: tuple[str, str]
) -> None:
    """Seen: snapshot answered `already done` by one record; integration_test took the other, and
    advised snapshot.
    """
    lines = {}
    for clone in PLACES:
        config = load((tmp_path / f"{clone}.yaml",), environ={}, start=repo.root)
        path = tmp_path / f"state of {clone}" / "state.jsonl"
        state = open_state(config, path=path)
        snapshot("common", config=config, state=state)
        lines[clone] = path.read_bytes()
    both = repo.root / ".pipeline/state.jsonl"
    both.parent.mkdir()
    both.write_bytes(b"".join(lines[clone] for clone in joined))

    config = load((tmp_path / f"{place}.yaml",), environ={}, start=repo.root)
    state = open_state(config)
    before = len(state.records())
    record = snapshot("common", config=config, state=state)
    assert isinstance(record, Record)
    assert len(state.records()) == before, "already done"
    (tested,) = integration_test("common", config=config, state=state)
    assert record.id in tested.uses and record.outputs["chart"].startswith(
        (tmp_path / place).as_uri()
    )
    check("common", config=config, state=state)
    tag_release("common", config=config, state=state, local=True)
    released = promote("common", config=config, state=state)
    assert isinstance(released, Record)
    assert (
        record.id in released.uses and (tmp_path / f"{place}-production/common-1.0.0.tgz").is_file()
    )
