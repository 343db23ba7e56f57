"""The parts that regenerate is made of: tags and their texts, git's objects, workers, what is
remembered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.config import config_file
from pipeline_steps.config.language import Config
from pipeline_steps.regeneration.approved import refuse_unapproved
from pipeline_steps.regeneration.charts import Charts
from pipeline_steps.regeneration.dependency_repositories import without_repeated_failures
from pipeline_steps.regeneration.ledger import KeptVersion, Ledger
from pipeline_steps.regeneration.repository_contents import VersionFilter
from pipeline_steps.regeneration.tag_versions import Version
from pipeline_steps.sources.git_objects import Objects
from pipeline_steps.sources.kinds import is_url
from pipeline_steps.sources.source import Tag
from pipeline_steps.sources.tree import StoredTree, node_at
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.workspace.tags import TaggedRelease, TagPattern, read_trailers, write_trailers
from tests.support.gits import Repo, chart


@pytest.mark.parametrize(
    ("template", "tag", "reading"),
    [
        ("{name}-{version}", "web-1.0.0", ("web", "1.0.0")),
        ("{name}-{version}", "a-2-1.0.0-rc.1+b.2", ("a-2", "1.0.0-rc.1+b.2")),
        ("{name}-{version}", "web-1.0", None),
        ("{name}-{version}", "web-v1.0.0", None),
        ("{name}-{version}", "web-1.01.0", None),
        ("charts/{name}/v{version}", "charts/web/v1.0.0", ("web", "1.0.0")),
        ("v{version}", "v1.0.0", ("", "1.0.0")),
        ("v{version}", "w1.0.0", None),
        ("v{version}.x", "v1.0.0.x", ("", "1.0.0")),
        ("{version}/{name}-{version}", "1.0.0/web-1.0.0", ("web", "1.0.0")),
        ("{version}/{name}-{version}", "1.0.0/web-1.0.1", None),
    ],
)
def test_tag_template_parses_name_and_version(
    template: str, tag: str, reading: tuple[str, str] | None
) -> None:
    names = TagPattern(template)
    assert (
        names.names_one_chart
        and names.parse(tag) == reading
        and names.matches(tag) == (reading is not None)
    )


def test_a_shell_pattern_is_no_template() -> None:
    assert (
        not TagPattern("v*").names_one_chart
        and TagPattern("v*").glob == "v*"
        and TagPattern("v*").matches("v2026")
    )
    assert TagPattern("{name}-{version}").glob == "*-*"


def test_trailers_without_a_digest_are_ignored() -> None:
    digest = f"sha256:{'0' * 64}"
    text = (
        f"Release\n\nPipeline-Content: web 1.0.0 {digest}\nPipeline-Image: web app {digest}\n"
        f"Pipeline-Image: web side sha256:short\nPipeline-Content: api 2.0.0 {digest}\n"
    )
    releases = read_trailers(tag(text))
    assert list(releases) == ["web", "api"]
    assert releases["web"].images == {"app": digest}, "what is no digest is not one"
    assert read_trailers(tag("Pipeline-Content of web")) == {} == read_trailers(tag(""))


def test_written_trailers_are_read_back() -> None:
    digest = f"sha256:{'0' * 64}"
    released = {
        "web": TaggedRelease("1.0.0", digest, {"app": digest}),
        "api": TaggedRelease("2.0.0+a", digest, {}),
    }
    text = "Release\n\n" + "\n".join(write_trailers(name, each) for name, each in released.items())
    assert read_trailers(tag(text)) == released
    of_format_1 = {name: each._replace(format=1) for name, each in released.items()}
    text = "Release\n\n" + "\n".join(
        write_trailers(name, each) for name, each in of_format_1.items()
    )
    assert "Pipeline-Format" not in text and read_trailers(tag(text)) == of_format_1
    assert read_trailers(tag(f"{text}\nPipeline-Format: 1")) == of_format_1


@pytest.mark.parametrize("number", ["3", "1.1", "", "x"])
def test_a_tag_of_an_unknown_format_is_refused(number: str) -> None:
    text = f"Release\n\nPipeline-Format: {number}\nPipeline-Content: web 1.0.0 sha256:ab\n"
    with pytest.raises(
        EvidenceError,
        match=r"tag web-1\.0\.0: the tag's text has Pipeline-Format: .*this version knows 1 and 2",
    ):
        read_trailers(tag(text))


def tag(message: str) -> Tag:
    return Tag("web-1.0.0", "c1", message, "2026-01-01T00:00:00Z")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put("charts/web/Chart.yaml", chart("web"))
    repo.put("charts/web/run.sh", "#!/bin/sh\n", executable=True)
    repo.put("charts/web/ü ñ.txt", "x")
    repo.put("old/stable/api/Chart.yaml", chart("api"))
    repo.put("charts/none/README.md", "no chart")
    (repo.root / "charts/web/link").symlink_to("run.sh")
    repo.put(".pipeline/state.jsonl", "ours")
    repo.commit()
    return repo


@pytest.fixture
def objects(repo: Repo) -> Iterator[Objects]:
    with Objects(repo.root) as objects:
        yield objects


@pytest.mark.parametrize("folder", ["", "charts", "charts/web"])
def test_stored_tree_equals_git_ls_tree(repo: Repo, objects: Objects, folder: str) -> None:
    commit = repo.git("rev-parse", "HEAD")
    tree = StoredTree(objects, commit, folder)
    lines = repo.git("ls-tree", "-r", "-z", f"{commit}:{folder}").split("\0")[:-1]
    listed = {path: facts.split(" ") for facts, path in (line.split("\t") for line in lines)}
    listed.pop(".pipeline/state.jsonl", None)
    assert [(e.path, e.id) for e in tree.entries().values()] == [
        (path, each[2]) for path, each in listed.items()
    ]
    kinds = {"100644": "file", "100755": "executable", "120000": "link"}
    assert {e.path: e.kind for e in tree.entries().values()} == {
        path: kinds[e[0]] for path, e in listed.items()
    }
    read = tree.read(listed)
    assert {path: repo.git("cat-file", "-p", each[2]) for path, each in listed.items()} == {
        path: data.decode().strip() for path, data in read.items()
    }
    assert tree.digests(listed) == {path: files.sha256(data) for path, data in read.items()}
    with pytest.raises(ConfigurationError, match=r"gone is not stored in git"):
        tree.read(["gone"])


def test_missing_object_is_an_error_and_the_next_is_read(repo: Repo, objects: Objects) -> None:
    with pytest.raises(MachineError, match="is not here"):
        objects.read(["0" * 40, repo.git("rev-parse", "HEAD:charts/web/run.sh")])
    blob = repo.git("rev-parse", "HEAD:charts/web/Chart.yaml")
    assert objects.read([blob]) == {blob: chart("web").encode()}
    assert node_at(objects, repo.git("rev-parse", "HEAD^{tree}"), "charts/web/run.sh/x") is None


@pytest.mark.parametrize(
    ("patterns", "folders"),
    [
        (("charts/*",), ["charts/web"]),
        (("charts/*", "old/{stable,incubator}/*"), ["charts/web", "old/stable/api"]),
        (("**",), ["charts/web", "old/stable/api"]),
        (("charts/web",), ["charts/web"]),
        ((".",), []),
    ],
)
def test_charts_are_found_by_patterns(
    objects: Objects, repo: Repo, patterns: tuple[str, ...], folders: list[str]
) -> None:
    tree = repo.git("rev-parse", "HEAD^{tree}")
    places = Charts(objects, patterns).places(tree)
    assert list(places) == folders
    assert [Charts(objects, patterns).metadata(place).name for place in places.values()] == [
        folder.rpartition("/")[2] for folder in folders
    ]


def test_shards_together_hold_every_version_once() -> None:
    versions = [("web", f"1.{n}.0") for n in range(50)]
    parts = [
        [
            each_version
            for each_version in versions
            if VersionFilter(frozenset(), (), (n, 4)).includes(*each_version)
        ]
        for n in (1, 2, 3, 4)
    ]
    assert sorted(each_version for part in parts for each_version in part) == sorted(
        versions
    ) and all(parts)


def test_versions_are_withdrawn_by_version_or_chart_and_version() -> None:
    version_filter = VersionFilter(frozenset({"1.0.0", "web-2.0.0"}), ("web", "api"))
    assert (
        version_filter.is_withdrawn("api", "1.0.0")
        and version_filter.is_withdrawn("web", "2.0.0")
        and not version_filter.is_withdrawn("api", "2.0.0")
    )
    assert version_filter.includes("web", "1.0.0") and not version_filter.includes("other", "1.0.0")


def test_ledger_forgets_a_moved_tag_and_a_changed_index(tmp_path: Path) -> None:
    tag = Tag("web-1.0.0", "c1", "Release", "2026-01-01T00:00:00Z")
    kept = KeptVersion("web", "1.0.0", "sha256:1", "sha256:1", "sha256:2")
    ledger = Ledger(tmp_path, ["x"])
    ledger.add(tag, (kept,))
    ledger.keep_index(b"index")
    with ledger.path.open("ab") as file:
        file.write(b'["web-2.0.0","c2","",[["web"')
    again = Ledger(tmp_path, ["x"])
    done = again.of(tag)
    assert done is not None and done.versions == (kept,)
    assert (
        again.of(tag._replace(revision="c2")) is None
        and again.of(tag._replace(message="other")) is None
    )
    assert again.versions_if_unchanged(b"index") == {"web": {"1.0.0": "sha256:2"}}
    assert (
        again.versions_if_unchanged(b"other") is None and again.versions_if_unchanged(None) is None
    )
    assert Ledger(tmp_path, ["y"]).of(tag) is None, "made by other rules"
    again.add(tag._replace(name="web-2.0.0"), ())
    again.write()
    assert Ledger(tmp_path, ["x"]).of(tag._replace(name="web-2.0.0")) is not None, (
        "the torn line is gone"
    )


@pytest.mark.parametrize(
    "text",
    ["https://example.com/x.git", "git@example.com:team/charts.git", "file:///srv/x", "lp:x"],
)
def test_is_url_accepts_urls_of_repositories(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize(
    "text", [".", "charts", "/srv/charts.git", "a@b", "ext::sh -c x", "-x@y:z"]
)
def test_is_url_rejects_paths(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize("error", [Unreachable, Temporary])
def test_a_host_that_does_not_answer_is_asked_once_and_the_others_still(
    error: type[PipelineError],
) -> None:
    asked: list[str] = []

    def fetch(dependency: MissingArchive) -> bytes:
        asked.append(dependency.repository)
        if "dead" in dependency.repository:
            raise error("does not answer", where=dependency.repository)
        return b"archive"

    fetch_once = without_repeated_failures(fetch)
    for url in ("https://dead.example/a", "https://dead.example/b", "https://good.example/a"):
        for version in ("1.0.0", "1.1.0"):
            with contextlib.suppress(error):
                fetch_once(MissingArchive("", "web", version, url))
    assert asked == ["https://dead.example/a", *["https://good.example/a"] * 2]


def test_a_chart_that_a_registry_refuses_is_no_other_chart() -> None:
    """What fails again names the chart that is meant, not the one that was asked for before."""

    def fetch(dependency: MissingArchive) -> bytes:
        if dependency.name == "secret":
            raise AccessRefused("denied", where=f"https://r.example/v2/c/{dependency.name}")
        if "dead" in dependency.repository:
            raise Unreachable("does not answer", where=f"https://dead.example/{dependency.name}")
        return b"archive"

    fetch_once = without_repeated_failures(fetch)
    for _ in range(2):
        with pytest.raises(AccessRefused, match="secret"):
            fetch_once(MissingArchive("", "secret", "1.0.0", "oci://r.example/c"))
        assert fetch_once(MissingArchive("", "web", "1.0.0", "oci://r.example/c")) == b"archive"
    for name in ("web", "api"):
        with pytest.raises(Unreachable) as caught:
            fetch_once(MissingArchive("", name, "1.0.0", "oci://dead.example/c"))
        assert name in str(caught.value)


def config_with_approvals(folder: Path, charts: str, more: str) -> tuple[Repo, Config]:
    """A checkout whose production requires approvals. charts: its URL. more: of pipeline.yaml."""
    repo = Repo(folder / "checkout", folder / "gitconfig")
    repo.put("charts/hello/Chart.yaml", chart("hello"))
    production = f"{{charts: '{charts}', requires: [approval.code]}}"
    repo.put(
        "pipeline.yaml",
        f"charts: [{{path: charts/hello}}]\nchannels: {{production: {production}}}\n"
        f"approvals: {{code: {{}}}}\n{more}",
    )
    repo.commit()
    return repo, config_file.load(environ={}, start=repo.root)


@pytest.mark.parametrize(
    ("configured", "filled"),
    [
        ("file:///srv/charts", "file://localhost/srv//charts/"),
        ("github-releases:owner/repo", "github-releases:Owner/Repo"),
        ("oci://registry.example.com/charts", "oci://Registry.example.com:443/charts"),
        ("git+https://example.com/o/r", "git+https://example.com/o/r.git#gh-pages"),
        ("chartmuseum+http://127.0.0.1/c", "chartmuseum+http://127.0.0.1:80/c/"),
    ],
)
def test_where_nothing_can_be_approved_production_is_not_filled_however_its_url_is_written(
    tmp_path: Path, configured: str, filled: str
) -> None:
    _, config = config_with_approvals(tmp_path, configured, "")
    state = State(tmp_path / "state.jsonl")
    with pytest.raises(ConfigurationError, match="no review system is configured"):
        refuse_unapproved([filled], config, state, source=None, plan=True)
    other = f"{configured}2"
    assert refuse_unapproved([other], config, state, source=None, plan=True) is None


def test_approvals_of_one_chart_release_no_other_of_its_name(tmp_path: Path) -> None:
    """The tag's own pipeline.yaml lists another folder than the patterns of today find."""
    production = f"file://{tmp_path}/production"
    review = "review: {gerrit: {url: 'http://127.0.0.1:9', project: charts}}\n"
    repo, config = config_with_approvals(tmp_path, production, review)
    repo.put("charts/evil/Chart.yaml", chart("hello", "2.0.0"))
    revision = repo.commit()
    refuse = refuse_unapproved(
        [production], config, State(tmp_path / "state.jsonl"), source=None, plan=True
    )
    assert refuse is not None
    evil = Version(
        "hello",
        "2.0.0",
        Tag("hello-2.0.0", revision, "", "2026-01-01T00:00:00Z"),
        "charts/evil",
        (),
    )
    for version in (evil, evil._replace(version="1.0.0"), evil._replace(folder="charts/hello")):
        assert f"{version} of {version.folder} would be packaged" in refuse(version)
