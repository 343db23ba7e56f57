"""The end of `run`: every link of the chain with its digest and its time, where things lie, and
what to type.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.commands import run_summary
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from tests.support.records import Story, digest

HOST = "registry.example.com:5000"
CHART = f"oci://{HOST}/charts/hello:1.4.1_b2@{digest('p')}"
PRODUCTION = {"tar": digest("tar"), "chart": CHART, "image:web": f"{HOST}/web@{digest('web')}"}


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """hello, tested twice in vain and once with success; its file lies deep, as in a CI's
    workspace.
    """
    state = State(
        tmp_path
        / "a-workspace-of-a-branch-whose-name-is-rather-long"
        / "agent"
        / ".pipeline"
        / "state.jsonl"
    )
    chain_lines = Story(state)
    chain_lines.chain("hello", "first")
    chain_lines.chain("hello", "second", fails=True)
    chain_lines.test("hello", "second", snapshot(state), "ci/tls-values.yaml", "interrupted")
    return chain_lines


def snapshot(state: State) -> Record:
    return state.find(step="snapshot", subject="hello")[-1]


def release(story: Story, content: str = "second", outputs: dict[str, str] = PRODUCTION) -> None:
    tag = {"tag": f"hello-1.4.1@{digest(content)[7:47]}"}
    story.add("tag_release", "hello", content, outputs=tag)
    story.add("promote", "hello", content, outputs=outputs, parameters={"version": "1.4.1+b2"})


def chain_lines(
    story: Story, capsys: pytest.CaptureFixture[str], content: str | None = None
) -> list[str]:
    """What a log gets, of a state that is read from its file."""
    config = Config(charts=(), root=Path("/elsewhere"), hosts={HOST: Host(plain_http=True)})
    capsys.readouterr()
    run_summary.print_chains(config, State(story.state.path), {"hello": content}, seconds=12.34)
    captured = capsys.readouterr()
    assert captured.out == "", "results go to stdout, and this is none"
    return captured.err.splitlines()


def test_chain_of_a_release_lists_every_link(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    release(story)
    folder = story.state.folder
    assert "logs of failures" not in "".join(chain_lines(story, capsys)), "there are none"
    (folder / "failures").mkdir(parents=True)
    snapshot_reference = f"oci://registry.example.com/snapshot-charts/hello:1.4.1-0.12.t06b78bbaa208@{digest('secondchart')}"
    assert chain_lines(story, capsys) == [
        f"hello  content            {digest('second')}",
        f"hello  image web          registry.example.com/snap/web:k-1@{digest('web')}  3.4 s",
        f"hello  snapshot chart     {snapshot_reference}  3.4 s",
        "hello  test               passed  install ci/default-values.yaml  3.4 s",
        "hello  test               failed  install ci/tls-values.yaml  3.4 s",
        f"hello  tag                hello-1.4.1@{digest('second')[7:47]}  3.4 s",
        f"hello  production chart   {CHART}",
        f"hello  production image:web {HOST}/web@{digest('web')}",
        f"hello  production tar     {digest('tar')}  3.4 s",
        f"state: {folder / 'state.jsonl'}",
        f"JUnit: {folder / 'junit'}",
        f"logs of failures: {folder / 'failures'}",
        f"helm pull oci://{HOST}/charts/hello --version 1.4.1+b2 --plain-http",
        f"helm install hello oci://{HOST}/charts/hello --version 1.4.1+b2 --plain-http",
        "12.3 s in all",
    ]


def test_what_is_not_released_gets_no_helm_commands_of_the_release_before(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    release(story, "first")
    lines = chain_lines(story, capsys, digest("second"))
    assert lines[0] == f"hello  content            {digest('second')}"
    assert not [
        line for line in lines if line.startswith(("helm", "hello  tag", "hello  production"))
    ]


def test_content_without_a_snapshot_shows_none(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    release(story)
    lines = chain_lines(story, capsys, digest("third"))
    assert lines[:3] == [
        f"hello  content            {digest('third')}",
        "hello  snapshot           none",
        f"state: {story.state.path}",
    ]
    assert not [line for line in lines if line.startswith("helm")]


def test_an_older_content_that_is_released_now_is_the_one_that_is_shown(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    release(story, "first")
    lines = chain_lines(story, capsys, digest("first"))
    assert lines[0] == f"hello  content            {digest('first')}"
    assert f"helm pull oci://{HOST}/charts/hello --version 1.4.1+b2 --plain-http" in lines


def test_a_test_of_former_images_is_no_link_of_the_chain_of_new_ones(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(story.state)
    inputs, uses = {"image:web": digest("rebuilt")}, list(before.uses)
    story.add(
        "snapshot",
        "hello",
        "second",
        outputs=before.outputs,
        inputs=inputs,
        uses=uses,
        supersedes=[before.id],
    )
    lines = chain_lines(story, capsys)
    assert lines[0] == f"hello  content            {digest('second')}"
    assert not [line for line in lines if line.startswith("hello  test")]


@pytest.mark.parametrize(
    "reference, commands",
    [
        (
            f"oci://other.example.com/charts/hello:1.4.1_b2@{digest('p')}",
            [
                "helm pull oci://other.example.com/charts/hello --version 1.4.1+b2",
                "helm install hello oci://other.example.com/charts/hello --version 1.4.1+b2",
            ],
        ),
        (
            f"{Path('/srv/a @2/hello-1.4.1+b2.tgz').as_uri()}@{digest('p')}",
            ["helm install hello '/srv/a @2/hello-1.4.1+b2.tgz'"],
        ),
        (f"pages+https://git.example.com/charts.git#hello-1.4.1.tgz@{digest('p')}", []),
    ],
)
def test_helm_commands_are_those_of_the_repository(
    story: Story, capsys: pytest.CaptureFixture[str], reference: str, commands: list[str]
) -> None:
    release(story, outputs={"chart": reference})
    assert [line for line in chain_lines(story, capsys) if line.startswith("helm")] == commands
