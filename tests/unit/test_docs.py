"""The documentation is true: generated pages are current, links lead somewhere, commands and keys exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline_steps.__main__ import main
from pipeline_steps.commands import table
from pipeline_steps.core.config_file import load
from tools import reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def test_the_reference_is_what_the_code_says() -> None:
    for name, text in reference.pages().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, f"{name} is out of date: run make doc"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{target} in {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_on_the_page_exist_with_their_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in (line for block in blocks for line in block.splitlines()):
        for call in re.findall(r"pipeline-steps ([a-z_]+[^;&|\"#)]*)", line):
            words = shlex.split(call.partition(" -- ")[0])  # what follows is another program's
            command = table.find(words[0])
            assert command is not None and command.module, f"{line}: there is no {words[0]}"
            if command.module == table.__name__:
                continue
            assert main([*words[:1], "--help"]) == 0
            known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
            assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_is_typed_works_as_it_stands(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"pip install pipeline.steps", text), "it is on no package index"
    for line in re.findall(r"^pipeline-steps integration_test .*sandbox up.*$", text, re.MULTILINE):
        assert "--cluster sandbox" in line, "pipeline.yaml's own clusters are not the sandbox's"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_configuration_on_the_page_loads(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```yaml\n(charts:.*?)```", page.read_text(), re.DOTALL):
        (tmp_path / "pipeline.yaml").write_text(block)
        assert load((), environ={}, start=tmp_path).charts


def test_what_make_says_it_can_it_can() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z -]+):", makefile, re.MULTILINE))
    offered = set(re.findall(r"make ([a-z-]+)", makefile))
    assert offered <= {name for line in targets for name in line.split()}
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
