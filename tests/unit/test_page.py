"""What is said about records: tries, chains, the graph, and a page from which nothing escapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline_steps.__main__ import main
from pipeline_steps.commands.run_summary import chain_rows
from pipeline_steps.config.config_file import load
from pipeline_steps.reporting import chains, state_text
from pipeline_steps.reporting.state_page import page
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import chart_files
from tests.support.records import HOSTILE, Story, digest, story


@pytest.fixture(autouse=True)
def talk() -> Iterator[None]:
    """A process sets up how the library talks; a test must not leave that behind."""
    logger = logging.getLogger("pipeline_steps")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def state(tmp_path: Path) -> State:
    return story(State(tmp_path / ".pipeline/state.jsonl"))


def test_chain_status_of_each_content(state: State) -> None:
    of_charts = chains.build_chains(chains.work_items(state.records()))
    assert [
        (chain.chart, chain.content, chain.status)
        for of_chart in of_charts.values()
        for chain in of_chart
    ] == [
        (HOSTILE, digest("third"), "failed"),
        ("hello", digest("second"), "released"),
        ("hello", digest("first"), "failed"),
        ("worker", digest("fourth"), "incomplete"),
    ]


@pytest.mark.parametrize(
    ("started", "finished"),
    [("t", "2026-01-31T10:00:00Z"), ("2026-01-31T10:00:00", "2026-01-31T10:00:01Z")],
    ids=["no time", "one without a zone"],
)
def test_invalid_times_are_no_duration(tmp_path: Path, started: str, finished: str) -> None:
    state = State(tmp_path / ".pipeline/state.jsonl")
    record = Story(state).add("check", "hello", "first", started=started, finished=finished)
    assert chains.duration_text(record) == ""


def test_every_try_counts_and_what_was_superseded_is_earlier(state: State) -> None:
    hello = chains.build_chains(chains.work_items(state.records()))["hello"]
    failed = next(chain for chain in hello if chain.content == digest("first"))
    tests = {str(test.record.parameters["values"]): test for test in failed.tests}
    tls = tests["ci/tls-values.yaml"]
    assert (tls.outcome, tls.attempts, len(tls.earlier)) == ("failed", 2, 1)


def test_a_contradiction_is_neither_passed_nor_hidden(tmp_path: Path) -> None:
    told = Story(State(tmp_path / ".pipeline/state.jsonl"))
    for result in ("failed", "passed"):
        told.add("check", "hello", "first", result)
    [chain] = chains.build_chains(chains.work_items(told.state.records()))["hello"]
    assert chain.checks[0].outcome == "contradictory" and chain.status == "failed"


@pytest.mark.parametrize("forwards", [True, False])
def test_of_unordered_records_the_page_shows_the_one_that_steps_take(
    tmp_path: Path, forwards: bool
) -> None:
    """A file's order said it: the page named a snapshot that no step used."""
    told = Story(
        State(tmp_path / ".pipeline/state.jsonl", channel_locations=["oci://here.example.com/x"])
    )
    for host in ("here", "there"):
        outputs = {"chart": f"oci://{host}.example.com/x/hello:1.0.0@{digest(host)}"}
        told.add("snapshot", "hello", "first", by=host, outputs=outputs)
        told.add("check", "hello", "first", outputs=outputs)
    records = told.state.records()[:: 1 if forwards else -1]
    works = chains.work_items(records, told.state.preferred)
    [chain] = chains.build_chains(works, None, told.state.preferred)["hello"]
    assert chain.snapshot
    for work in (chain.snapshot, *chain.checks):
        assert "here.example.com" in work.record.outputs["chart"], work


def test_the_page_shows_the_images_that_a_release_takes(tmp_path: Path) -> None:
    """The smallest id said it: a chart with tested images was shown as failed or not tested."""
    told = Story(State(tmp_path / ".pipeline/state.jsonl"))
    outcomes = {"again": "", "broken": "failed", "good": "passed", "untested": ""}
    builds = {name: told.add("build_image", "web", "first", by=name, outputs=image(name))
              for name in outcomes}  # fmt: skip
    told.add("build_image", "web", "first", supersedes=[builds["again"].id], outputs=image("new"))
    for name, outcome in outcomes.items():
        inputs = {"image:web": digest(name)}
        outputs = {f"image:{key}": text for key, text in {"web": image(name)["image"]}.items()}
        told.add("snapshot", "hello", "first", by=name, inputs=inputs, outputs=outputs,
                 uses=[builds[name].id])  # fmt: skip
        for result in [outcome] if outcome else ["passed"] if name == "again" else []:
            told.add("integration_test", "hello", "first", result, by=name, inputs=inputs)
    for records in (told.state.records(), told.state.records()[::-1]):
        [chain] = chains.build_chains(chains.work_items(records))["hello"]
        assert chain.snapshot
        assert chain.snapshot.record.inputs == {"image:web": digest("good")}
        assert (chain.status, [test.outcome for test in chain.tests]) == ("tested", ["passed"])
    rows = chain_rows(told.state, "hello", digest("first"))
    assert ("test", "passed  default values", "3.4 s") in rows, rows
    assert [link for link, *_ in rows].count("test") == 1


def image(name: str) -> dict[str, str]:
    return {"image": f"registry.example.com/web:k-1@{digest(name)}"}


def two_passed(folder: Path) -> tuple[State, dict[str, str]]:
    """A state with two passed checks of one key, and their ids by the host of their outputs; the
    smallest id is not `here`.
    """
    for number in range(64):
        state = State(folder / f"{number}/.pipeline/state.jsonl")
        told = Story(state)
        ids = {
            host: told.add(
                "snapshot", "hello", "first", run=str(number),
                outputs={"chart": f"oci://{host}.example.com/x/hello:1.0.0@{digest(host)}"},
            ).id
            for host in ("here", "there")
        }  # fmt: skip
        if ids["there"] < ids["here"]:
            return state, ids
    raise AssertionError("ids by chance never came in this order")


@pytest.mark.parametrize("words", [("show",), ("show", "--graph"), ("html",)], ids=" ".join)
def test_page_names_the_preferred_record_and_its_channels(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    state, ids = two_passed(tmp_path)
    configured = tmp_path / "configured"
    configured.mkdir()
    (configured / "pipeline.yaml").write_text(
        'charts: [{path: x}]\nchannels: {snapshot: {charts: "oci://here.example.com/x"}}\n'
    )
    for folder, counts, other in ((configured, "here", "there"), (tmp_path, "there", "here")):
        monkeypatch.chdir(folder)
        assert main(["state", *words, "--state", str(state.path)]) == 0
        shown = capsys.readouterr()
        if words == ("html",):
            text = (state.folder / "state.html").read_text()
            chain = text.partition("All records")[0]
            assert f"//{counts}.example" in chain and f"//{other}.example" not in chain
        else:
            text = shown.err
            [line] = [line for line in shown.out.splitlines() if ids[other][7:19] in line]
            assert f"not used: {ids[counts][7:19]} counts" in line
        warned = "no channels are configured here" in text
        assert warned is (folder == tmp_path), text


def test_contradicting_records_are_marked_in_the_list(tmp_path: Path) -> None:
    told = Story(State(tmp_path / ".pipeline/state.jsonl"))
    for result in ("failed", "passed"):
        told.add("check", "hello", "first", result)
    for text in (state_text.list_records, state_text.graph):
        lines = [line for line in text(told.state.records()) if line.startswith("check")]
        assert len(lines) == 2 and all("contradict" in line for line in lines), lines


def test_the_graph_shows_each_record_once_below_its_users(state: State) -> None:
    lines = list(state_text.graph(state.records()))
    [promote] = [
        number for number, line in enumerate(lines) if line.startswith("promote hello passed 3.4 s")
    ]
    assert lines[promote].endswith(" hello:1.4.1 @" + digest("secondproduction")[7:19])
    assert lines[promote + 1].startswith("├─ snapshot hello passed")
    assert lines[promote + 2].startswith("│  └─ build_image web passed")
    assert lines[promote + 3].startswith(
        "├─ integration_test hello install ci/default-values.yaml k131 passed"
    )
    assert "(above)" in lines[promote + 4], "the snapshot that both tests use"
    assert sum(line.endswith("(superseded)") for line in lines) == 2
    missing = Story(State(state.folder / "other/state.jsonl"))
    missing.add("snapshot", "hello", "x", uses=[digest("lost")], reason="rings a \a bell")
    assert (
        list(state_text.graph(missing.state.records()))[1]
        == f"└─ {digest('lost')[7:19]} is not here"
    )
    assert not any("\a" in line for line in state_text.graph(missing.state.records()))


class Tags(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_no_text_of_a_record_becomes_markup_or_a_link_elsewhere(tmp_path: Path) -> None:
    hostile = f"\"'>{HOSTILE}"
    told = Story(State(tmp_path / ".pipeline/state.jsonl"))
    told.add(
        hostile, hostile, hostile, "failed", reason=hostile, inputs={hostile: hostile}, outputs={hostile: hostile},
        uses=[hostile], revision=hostile, actor=hostile, run=hostile, tools={hostile: hostile}, finished=hostile,
        ci={"system": hostile, "url": "javascript:alert(1)"}, parameters={hostile: hostile, "scenario": hostile},
        evidence={"javascript:alert(1)//" + hostile: hostile},
    )  # fmt: skip
    tags = Tags(page(told.state.records(), hostile, files=True)).seen
    assert [tag for tag, _ in tags if tag in ("script", "img")] == ["script"]
    allowed = {
        "class",
        "id",
        "href",
        "title",
        "data-copy",
        "aria-label",
        "aria-hidden",
        "type",
        "data-name",
    }
    inside = tags[next(number for number, (tag, _) in enumerate(tags) if tag == "body") :]
    drawn = {
        "viewbox",
        "d",
        "fill",
        "stroke",
        "stroke-width",
        "cx",
        "cy",
        "r",
        "rx",
        "width",
        "height",
    }
    assert {name for _, attributes in inside for name in attributes} <= allowed | drawn | {
        "preserveaspectratio"
    }
    links = [attributes["href"] or "" for tag, attributes in inside if tag == "a"]
    assert links and all(link.startswith(("#r-", "./")) for link in links)


def test_html_output_elsewhere_links_no_evidence(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["state", "html", "--state", str(state.path)]) == 0
    beside = state.folder / "state.html"
    assert capsys.readouterr().out.strip() == str(beside)
    assert 'href="./junit/' in beside.read_text()
    away = tmp_path / "out/page.html"
    assert main(["state", "html", "--state", str(state.path), "--output", str(away)]) == 0
    assert 'href="./' not in away.read_text()
    away.unlink()
    (tmp_path / "full").write_text("")
    assert (
        main(
            [
                "state",
                "html",
                "--state",
                str(state.path),
                "--output",
                str(tmp_path / "full/page.html"),
            ]
        )
        == 7
    )


def test_what_is_checked_out_comes_before_newer_content_of_another_branch(state: State) -> None:
    Story(state).chain("hello", "branch")
    contents = {"hello": digest("second"), "worker": digest("edited")}
    works = chains.work_items(state.records())
    first = chains.build_chains(works)["hello"][0]
    assert first.content == digest("branch"), "the newest record"
    shown_contents = [chain.content for chain in chains.build_chains(works, contents)["hello"]]
    assert shown_contents == [digest("second"), digest("branch"), digest("first")]
    document = page(state.records(), "shop", checked_out=contents)
    assert document.count("as checked out") == 1
    assert (
        document.count(
            "nothing is recorded of what is checked out; content with the newest record first"
        )
        == 1
    )
    assert document.count("not a chart of this checkout") == 1, "the hostile one"
    assert "checked out" not in page(state.records(), "shop")


def test_html_asks_the_checkout_which_content_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    for name, text in chart_files().items():
        repo.put(f"charts/web/{name}", text)
    repo.put("pipeline.yaml", "charts: [{path: 'charts/*'}]\n")
    repo.commit()
    monkeypatch.chdir(repo.root)
    told = Story(State(repo.root / ".pipeline/state.jsonl"))
    content = Checkout(load((), environ={}, start=repo.root)).chart("web").content
    fields = {"step": "check", "subject": "web", "key": digest("main"), "content": content}
    told.state.add({**fields, "result": "passed", "started": f"{told.hour}:00:00.000Z"})
    told.add("check", "web", "a branch that is gone")
    document = repo.root / ".pipeline/state.html"
    assert main(["state", "html"]) == 0
    assert "as checked out" in document.read_text()
    repo.put("charts/web/Chart.yaml", "name: [")
    assert main(["state", "html"]) == 0, "records are looked at while a chart is being repaired"
    assert "the page cannot tell what is checked out" in capsys.readouterr().err
    assert "checked out" not in document.read_text()


def test_show_fits_the_terminal_and_keeps_names_and_reasons_whole(
    state: State, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = f"rings a \a bell\n\u202eacross lines\n{'a long reason ' * 9}has its end"
    Story(state).add("scan", "hello", "second", "failed", reason=reason)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["state", "show", "--state", str(state.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 and len(line.split()) > 1] == []
    place, tar = "oci://registry.example.com/charts/hello:1.4.1", digest("psecond")[:19]
    chart = f"{place}@{digest('secondproduction')[:19]}"
    [promote] = [number for number, line in enumerate(lines) if line.startswith("promote ")]
    assert lines[promote + 1 : promote + 3] == [f"    chart: {chart}", f"    tar: {tar}"]
    assert lines[-4:-2] == ["    rings a � bell", "    �across lines"]
    assert lines[-1].endswith("has its end")
    tries = [line for line in lines if line.endswith("2 attempts")]
    assert len(tries) == 4


def test_an_empty_state_makes_a_page_too(tmp_path: Path) -> None:
    assert "No records yet" in page([], "nothing")


def test_show_graph_is_plain_text(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["state", "show", "--graph", "--state", str(state.path)]) == 0
    assert "└─ build_image web passed 3.4 s" in capsys.readouterr().out
