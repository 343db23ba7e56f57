"""The reference and the explanations are the project's own and true: whatever is cited exists, and
what pages say of records, exit codes and versions is what the code does.
"""

from __future__ import annotations

import ast
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline_steps.charts import version as versions
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox import errors
from pipeline_steps.workspace import tags
from tools import error_table, reference

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pipeline_steps", "tests", "tools", "benchmarks", "docs", "examples", "vars", ".ci")
KINDS = {".py", ".md", ".yaml", ".yml", ".json", ".cfg", ".toml", ".html", ".go", ""}
#: Of what a checkout has beside the source.
SKIPPED = {"__pycache__", ".pipeline"}
PAGE = re.compile(
    r"\b(docs/(?:(?:reference|explanation|how-to|decisions)/[\w.-]*\w|tutorial|glossary|architecture)"
    r"\.(?:md|json))(?:#([\w-]+))?"
)
ANOTHER_PAPER = re.compile(r"\bdesign\.md\b")


def texts() -> Iterator[tuple[Path, str]]:
    """Every text of the source, but this file."""
    below = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")]
    for file in [*ROOT.glob("*"), *below]:
        wanted = file.suffix in KINDS and file.is_file() and not SKIPPED & {*file.parts}
        if wanted and file != Path(__file__).resolve():
            yield file, file.read_text(errors="replace")


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub and GitLab make anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_cited_pages_and_headings_exist() -> None:
    wrong = []
    for file, text in texts():
        name = file.relative_to(ROOT)
        wrong += [f"{name}: {found[0]}" for found in ANOTHER_PAPER.finditer(text)]
        for page, heading in PAGE.findall(text):
            if not (ROOT / page).exists():
                wrong.append(f"{name}: {page}")
            elif heading and heading not in anchors(ROOT / page):
                wrong.append(f"{name}: {page}#{heading}")
    assert wrong == []


def test_headings_in_links_exist() -> None:
    wrong = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            linked = (page.parent / target) if target else page
            if heading not in anchors(linked):
                wrong.append(f"{page.relative_to(ROOT)}: {target}#{heading}")
    assert wrong == []


def test_every_field_of_a_record_has_a_meaning_and_an_example_of_its_type() -> None:
    docs, hints = reference.field_docs(Record), typing.get_type_hints(Record)
    assert list(docs) == list(Record.__struct_fields__)
    for name, (meaning, example) in docs.items():
        assert meaning.endswith((".", ":")), name
        msgspec.convert(json.loads(example), hints[name])


def test_every_result_and_exit_code_is_explained() -> None:
    assert set(reference.RESULTS) == set(typing.get_args(errors.Result))
    classes: list[type[errors.PipelineError]] = [errors.PipelineError]
    for kind in classes:
        classes += kind.__subclasses__()
    codes = {kind.exit_code for kind in classes[1:] if kind is not errors.Interrupted}
    assert {int(code) for code in reference.CODES if code.isdigit()} == {0, 3, *codes}
    assert set(errors.ORDER) < {0, 3, *codes}


def test_an_error_is_listed_with_the_text_of_the_branch_that_it_is_raised_in() -> None:
    code = """
ADVICE = "run it again"
def read(file):
    if file.missing:
        problem = f"{file.name} is missing"
        raise UsageError(problem, advice="write it")
    elif file.large:
        problem = "too large"
    else:
        problem = f"{file.name} is " + ("empty" if file.empty else "broken")
    raise UsageError(problem, advice=ADVICE)
"""
    texts = [
        (
            error_table.template(call.args[0], names),
            error_table.template(call.keywords[0].value, names),
        )
        for call, names in error_table.calls(ast.parse(code).body, {})
    ]
    assert texts == [
        ("{file.name} is missing", "write it"),
        ("too large / {file.name} is empty / broken", "run it again"),
    ]


@pytest.mark.parametrize(
    "row",
    re.findall(
        r"^\| (\S+) \| (yes|no) \| (\d+) \| (yes|no) \| `(\S+)` \|$",
        (ROOT / "docs/reference/versions.md").read_text(),
        re.MULTILINE,
    ),
)
def test_snapshot_versions_on_the_page_are_what_is_made(row: tuple[str, ...]) -> None:
    chart, released, count, modified, expected = row
    made = versions.snapshot(
        versions.parse_strict(chart),
        released=released == "yes",
        count=int(count),
        fingerprint="sha256:0123456789abcdef",
        dirty=modified == "yes",
    )
    assert made == expected


def test_the_tag_text_on_the_page_is_what_tag_release_writes() -> None:
    page = (ROOT / "docs/reference/versions.md").read_text()
    (text,) = re.findall(r"```text\n(Release .*?)```", page, re.DOTALL)
    content = re.findall(r"Content: hello 1.4.0 (\S+)", text)[0]
    image = re.findall(r"Image: hello backend (\S+)", text)[0]
    written = tags.write_trailers("hello", tags.TaggedRelease("1.4.0", content, {"backend": image}))
    assert text == f"Release hello 1.4.0\n\n{written}\n"


def test_every_word_of_the_glossary_says_where_it_is_used() -> None:
    """Where the link leads, the word stands: in a page, or in the module."""
    page = ROOT / "docs/glossary.md"
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \| \[[^]]+\]\((\S+)\) \|$", page.read_text(), re.M)
    words = [word for word, _meaning, _target in rows if word != "word"]
    assert len(words) == page.read_text().count("\n| ") - 1, "a row without a link"
    assert words == sorted(set(words)), "one row for one word, in order"
    absent = []
    for word, _meaning, target in rows:
        text = (page.parent / target.partition("#")[0]).read_text().lower()
        if re.sub("[ _]", "", word.removesuffix("ed")) not in re.sub("[ _]", "", text):
            absent.append(f"{word}: not in {target}")
    assert absent == []
