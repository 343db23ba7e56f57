"""The documentation is true: generated pages are current, links lead somewhere, commands and keys
exist.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from pipeline_steps.__main__ import main
from pipeline_steps.commands import command_names
from pipeline_steps.config import config_file
from pipeline_steps.config.config_file import load
from tests.support.docs import IDS, PAGES, ROOT, lines, scripts
from tests.support.gits import Repo, chart
from tools import reference

#: What stands between two commands of a line.
BETWEEN = ";&|()"


def test_the_reference_is_what_the_code_says() -> None:
    for name, text in reference.pages().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, (
            f"{name} is out of date: run make doc"
        )


def test_editors_refuse_unknown_keys_of_pipeline_yaml() -> None:
    definitions = reference.schema()["$defs"]
    assert {
        name for name, kind in definitions.items() if kind.get("additionalProperties") is not False
    } == set()
    assert "charts" in definitions["Language"]["required"]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{target} in {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_on_the_page_exist_with_their_options(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for script in scripts(page):
        calls = ours(script)
        assert len(calls) == len(re.findall(r"pipeline-steps [a-z]|-m pipeline_steps\b", script)), (
            f"not read: {script}"
        )
        for name, words in calls:
            assert unknown(name, words, capsys) == [], f"{script}: {name} {' '.join(words)}"


@pytest.mark.parametrize(
    "line, wrong",
    [
        ("pipeline-steps bake", ["bake"]),
        ("pipeline-steps sweep", ["sweep"]),
        ("pipeline-steps check --fast", ["--fast"]),
        ("pipeline-steps check --chart=hello --fast=1", ["--fast"]),
        ("pipeline-steps state show [--tree]", ["--tree"]),
        ("python -m pipeline_steps.check --fast", ["--fast"]),
        ("python3 -m pipeline_steps check --fast", ["--fast"]),
        ("SHARD=1 .venv/bin/pipeline-steps check --fast", ["--fast"]),
        ("pipeline-steps regenerate --charts 'charts/*' --fast", ["--fast"]),
        ('pipeline-steps check --chart "a; b" --fast', ["--fast"]),
        ('pipeline-steps check --config "$(pipeline-steps sandbox up --fast)"', ["--fast"]),
        ("pipeline-steps check --config `pipeline-steps sandbox up --fast`", ["--fast"]),
        (
            'pipeline-steps check; echo "$?" && cd x || (pipeline-steps list | pipeline-steps state --fast)',
            ["--fast"],
        ),
        ("pipeline-steps check --fix \\\n  --fast", ["--fast"]),
        ("pipeline-steps record --name scan --image x -- trivy image --output y", ["--image"]),
        ("pipeline-steps record --output x --name scan -- trivy image", ["--output"]),
        ("pipeline-steps check --fix  # it's not --fast; pipeline-steps bake", []),
    ],
)
def test_a_wrong_command_is_seen_wherever_it_stands(
    line: str, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = lines(line)
    assert [word for name, words in ours(script) for word in unknown(name, words, capsys)] == wrong


def ours(line: str) -> list[tuple[str, list[str]]]:
    """(name, words after it) of each command of ours in a line of shell, those within $(…) and `…`
    too.
    """
    if inner := re.search(r"\$\(([^()]*)\)|`([^`]*)`", line):
        around = f"{line[: inner.start()]}_{line[inner.end() :]}"
        return ours(around) + ours(inner[1] or inner[2])
    tokens = shlex.shlex(line, posix=True, punctuation_chars=BETWEEN)
    tokens.whitespace_split = True
    tokens.commenters = ""
    groups = [
        list(words)
        for between, words in itertools.groupby(tokens, lambda one: set(one) <= set(BETWEEN))
    ]
    return [call for words in groups if (call := one_of_ours(words))]


def one_of_ours(words: list[str]) -> tuple[str, list[str]] | None:
    """What a simple command calls, when that is `pipeline-steps` or a module of ours."""
    command = list(itertools.dropwhile(re.compile(r"\w+=").match, words))
    if not command:
        return None
    program, *rest = command
    rest = list(
        itertools.takewhile(lambda word: word != "--", rest)
    )  # what follows is another program's
    if Path(program).name == "pipeline-steps":
        return rest[0], rest[1:]
    if re.fullmatch(r"python[\d.]*", Path(program).name) and rest[:1] == ["-m"]:
        module, _, name = rest[1].partition(".")
        if module == "pipeline_steps":
            return (name, rest[2:]) if name else (rest[2], rest[3:])
    return None


def unknown(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command of ours does not know: its name, else options."""
    command = command_names.find(name)
    if command is None or not command.module:
        return [name]
    known: set[str] = set()
    if command.module != command_names.__name__:
        assert main([name, "--help"]) == 0
        options = capsys.readouterr().out.partition("\noptions:\n")[
            2
        ]  # examples above it name other programs' options
        known = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", options, re.MULTILINE))
        assert "--help" in known
    given = [word.strip("[]").partition("=")[0] for word in words]
    return [word for word in given if word.startswith("--") and word not in known]


def test_the_python_example_of_the_readme_publishes_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repo.config))
    published = (tmp_path / "published").as_uri()
    repo.put(
        "pipeline.yaml",
        f"charts: [{{path: charts/*}}]\nchannels: {{snapshot: {{charts: {published}}}}}\n",
    )
    repo.put("charts/hello/Chart.yaml", chart("hello"))
    repo.commit()
    monkeypatch.chdir(repo.root)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.startswith(f"{published}/hello-")


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


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_site_file_on_the_page_loads_without_a_variable_set(page: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("charts: [{path: charts/*}]\n")
    site = tmp_path / "site.yaml"
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        sections = yaml.safe_load(block)
        if isinstance(sections, dict) and sections.keys() <= set(config_file.TRUSTED_SECTIONS):
            site.write_text(block)
            load((), environ={config_file.SITE_VARIABLE: str(site)}, start=tmp_path)


def test_what_make_says_it_can_it_can() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z -]+):", makefile, re.MULTILINE))
    offered = set(re.findall(r"make ([a-z-]+)", makefile))
    assert offered <= {name for line in targets for name in line.split()}
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
