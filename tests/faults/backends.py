"""The kinds of repositories that many publish to at once, and what readers see of each, read
without our code.

A new kind of repository is one line of BACKENDS: every test of `publishers` is then made on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import urlsplit

import yaml

from pipeline_steps.toolbox.files import sha256
from tests.faults.figures import Settings
from tests.support.chartmuseum import chartmuseum
from tests.support.github import github
from tests.support.gits import bare
from tests.support.registries import registry

#: Publishers of distinct versions, and rounds in which many want one, where a backend says nothing
#: else.
PUBLISHERS, ROUNDS = 200, 100
#: Publishers who all want the same version.
RIVALS = 50


class Backend(NamedTuple):
    """One kind of repository. opened: (an empty folder) → its URL, for as long as the context is
    open.

    read: (URL) → what a reader asks for first, like the index, None when it is not there, without
    our code. versions: (URL, what was read) → versions of hello that it names; it raises when that,
    or an archive, is half. winners: how many of those who want the same version may be told that
    they published it. publishers: how many begin together, full: in the full size; rounds: how
    often one version is competed for in the full size.
    """

    opened: Callable[[Path], contextlib.AbstractContextManager[str]]
    read: Callable[[str], bytes | None]
    versions: Callable[[str, bytes], set[str]]
    winners: range
    publishers: int = PUBLISHERS
    full: int = PUBLISHERS
    rounds: int = ROUNDS

    def crowd(self, settings: Settings) -> int:
        """How many begin together."""
        return self.full if settings.full else self.publishers

    def seen(self, url: str) -> set[str]:
        """The versions that a reader sees now."""
        index_bytes = self.read(url)
        return set() if index_bytes is None else self.versions(url, index_bytes)


@contextlib.contextmanager
def _folder(place: Path) -> Iterator[str]:
    yield (place / "charts").as_uri()


@contextlib.contextmanager
def in_registry(place: Path) -> Iterator[str]:
    with registry(place) as running:
        yield f"oci://{running.host}/team/charts"


@contextlib.contextmanager
def _pages(place: Path) -> Iterator[str]:
    yield f"git+{bare(place / 'pages.git').as_uri()}"


def _index_in_folder(url: str) -> bytes | None:
    try:
        return (Path(urlsplit(url).path) / "index.yaml").read_bytes()
    except FileNotFoundError:
        return None


def _in_folder(url: str, index: bytes) -> set[str]:
    """The versions in the index, each with its archive."""
    folder, entries = Path(urlsplit(url).path), _entries(index)
    for entry in entries:
        assert sha256((folder / entry["urls"][0]).read_bytes()) == f"sha256:{entry['digest']}", (
            entry["version"]
        )
    return {entry["version"] for entry in entries}


def _entries(index: bytes) -> list[Any]:
    """The entries of hello in an index."""
    return list((yaml.load(index, Loader=yaml.CSafeLoader)["entries"] or {}).get("hello", []))


def _tags(url: str) -> bytes | None:
    host, _, path = url.removeprefix("oci://").partition("/")
    return _answer(f"http://{host}/v2/{path}/hello/tags/list")


def _answer(url: str) -> bytes | None:
    """What a web server answers, None for 404."""
    try:
        with urllib.request.urlopen(url) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def _in_registry(url: str, tags: bytes) -> set[str]:
    """The versions that are tags."""
    return {tag for tag in json.loads(tags)["tags"] or [] if not tag.startswith("claim-")}


def _git(url: str, *words: str, stdin: bytes = b"") -> bytes:
    folder = urlsplit(url.removeprefix("git+")).path
    return subprocess.run(
        ["git", *words], cwd=folder, input=stdin, capture_output=True, check=True
    ).stdout


def _commit(url: str) -> bytes | None:
    """The id of the newest commit, which names all that is in it."""
    return (
        _git(url, "for-each-ref", "--format=%(objectname)", "refs/heads/gh-pages").strip() or None
    )


def _on_branch(url: str, commit: bytes) -> set[str]:
    """The versions in the index of a commit, each with its archive."""
    entries = _entries(_git(url, "cat-file", "blob", f"{commit.decode()}:index.yaml"))
    asked = "".join(f"{commit.decode()}:{entry['urls'][0]}\n" for entry in entries)
    archives = _git(url, "cat-file", "--batch", stdin=asked.encode())
    for entry in entries:
        head, _, rest = archives.partition(b"\n")
        size = int(head.split()[2])
        assert sha256(rest[:size]) == f"sha256:{entry['digest']}", entry["version"]
        archives = rest[size + 1 :]
    return {entry["version"] for entry in entries}


@contextlib.contextmanager
def _releases(place: Path) -> Iterator[str]:
    with github("team/charts") as hub, mock.patch.dict(os.environ, hub.environment):
        yield "github-releases:team/charts"
        assert hub.wrong == []


def _page(url: str) -> bytes | None:
    """The index that the pages serve."""
    return _answer(os.environ["GITHUB_API_URL"].replace("/api/v3", "/pages/team/charts/index.yaml"))


def _on_github(url: str, index: bytes) -> set[str]:
    """The versions in the index, each with its archive."""
    entries = _entries(index)
    for entry in entries:
        with urllib.request.urlopen(entry["urls"][0]) as answer:
            assert sha256(answer.read()) == f"sha256:{entry['digest']}", entry["version"]
    return {entry["version"] for entry in entries}


@contextlib.contextmanager
def _museum(_place: Path) -> Iterator[str]:
    with chartmuseum(depth=1) as museum:
        yield f"{museum.url}/team"


def _index_of_museum(url: str) -> bytes | None:
    return _answer(f"{url.removeprefix('chartmuseum+')}/index.yaml")


def _in_museum(url: str, index: bytes) -> set[str]:
    """The versions in the index, each with its archive."""
    entries = _entries(index)
    for entry in entries:
        archive = _answer(f"{url.removeprefix('chartmuseum+')}/{entry['urls'][0]}")
        assert archive is not None, f"{entry['version']}: no archive"
        assert sha256(archive) == f"sha256:{entry['digest']}", entry["version"]
    return {entry["version"] for entry in entries}


#: Exactly one; at most one; several, where a server has no lock and says so (`ChartmuseumRepository`).
ONE, AT_MOST_ONE, SOME = range(1, 2), range(2), range(1, RIVALS + 1)
BACKENDS = {
    "file": Backend(_folder, _index_in_folder, _in_folder, ONE),
    "oci": Backend(in_registry, _tags, _in_registry, AT_MOST_ONE),
    "git": Backend(_pages, _commit, _on_branch, ONE, publishers=20, rounds=10),
    "github": Backend(_releases, _page, _on_github, ONE, publishers=20, full=20, rounds=10),
    "chartmuseum": Backend(
        _museum, _index_of_museum, _in_museum, SOME, publishers=20, full=100, rounds=10
    ),
}
