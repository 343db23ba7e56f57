"""What public repositories look like, and what the commands make of them: a table of cases, one row
each.

The input is made as small as it can be; every command is a process, as people start it.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories.index_rows import read_rows
from pipeline_steps.repositories.kinds import open_writable
from tests.support.charts import packed
from tests.support.gits import Repo, chart
from tests.support.helms import helm
from tests.support.registries import registry
from tests.support.scripted import Answer, Request, scripted

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {greeting: hello}\n"
RANGE = "dependencies: [{name: x, version: ^1, repository: 'https://example.invalid'}]\n"
#: A server that refuses every connection.
DEAD = "dependencies: [{name: x, version: 1.0.0, repository: 'http://127.0.0.1:9'}]\n"


class Field:
    """A git repository of charts, a folder for a chart repository, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.out = folder / "charts"
        self.ends = contextlib.ExitStack()

    def chart(self, name: str, version: str, *, folder: str = "charts", more: str = "") -> None:
        self.text(name, chart(name, version, more=more), folder=folder)

    def text(self, name: str, text: str, *, folder: str = "charts") -> None:
        self.repo.put(f"{folder}/{name}/Chart.yaml", text)
        self.repo.put(f"{folder}/{name}/templates/map.yaml", MAP)

    def tag(self, *names: str) -> None:
        self.repo.commit()
        for name in names:
            self.repo.git("tag", name)

    def regenerate(self, tags: str, *words: str, charts: str = "charts/*") -> list[str]:
        return ["regenerate", "--source", str(self.repo.root), "--charts", charts, "--tags", tags,
                "--to", self.out.as_uri(), *words]  # fmt: skip

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
        }
        return subprocess.run(
            [sys.executable, "-m", "pipeline_steps", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    def old(self, *charts: Archive, entries: str | None = None) -> str:
        """A chart repository in a folder, made by somebody else; returns its URL. entries: lines of
        the index, None: no index.
        """
        place = self.folder / "old"
        place.mkdir(exist_ok=True)
        for each in charts:
            (place / each.file_name).write_bytes(each.tgz)
        if entries is not None:
            (place / "index.yaml").write_text(f"apiVersion: v1\nentries:\n{entries}")
        return place.as_uri()

    def serve(self, folder: str) -> str:
        """The URL of a folder on a web server that ends with the test."""
        handler = functools.partial(_Quiet, directory=str(self.folder / folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.ends.callback(server.server_close)
        self.ends.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def copy(self, url: str, *words: str) -> list[str]:
        return ["regenerate", "--from", url, "--to", self.out.as_uri(), *words]

    def published(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.tgz"))


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    field = Field(tmp_path)
    with field.ends:
        yield field


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def entry(one: Archive, url: str = "", more: str = "") -> str:
    """The lines of an index about one version, without the chart's own."""
    return (
        f"  - apiVersion: v2\n    name: {one.name}\n    version: {one.version}\n{more}"
        f"    urls: ['{url or one.file_name}']\n    digest: {one.digest.removeprefix('sha256:')}\n"
    )


class Case(NamedTuple):
    """command: makes the input and returns the command line. code: of its exit. says: all of it is
    on standard error. published: archives that are there afterwards.
    """

    name: str
    command: Callable[[Field], Sequence[str]]
    code: int
    message: Sequence[str]
    published: Sequence[str] = ()


# -- regenerate: nothing vanishes -----------------------------------------------------------------


def version_not_raised(field: Field, tags: str, name: str) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag(f"{name}1.0.0")
    field.repo.put("README.md", "new")
    field.tag(f"{name}1.1.0")
    field.text("web", "name: web\nversion: 1.2.0\n")
    field.tag(f"{name}1.2.0")
    return field.regenerate(tags)


def odd_versions(field: Field) -> Sequence[str]:
    for name, version in (("a", "v1.0.0"), ("b", "2026.04.23"), ("c", "1.0.0-rc.01"), ("d", "1.2")):
        field.chart(name, version)
        field.tag(f"{name}-{version}")
    field.chart("good", "1.0.0")
    field.tag("good-1.0.0")
    return field.regenerate("{name}-{version}")


def versions_with_a_v(field: Field) -> Sequence[str]:
    field.chart("web", "v1.0.0")
    field.tag("v1.0.0")
    return field.regenerate("v{version}")


def tag_with_a_v(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag("web-v1.0.0", "web-1.0.0")
    return field.regenerate("{name}-{version}")


def chart_elsewhere(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.chart("web", "1.0.0", folder="stable")
    field.tag(tag.format("1.0.0"))
    field.repo.git("mv", "stable", "charts")
    field.chart("web", "2.0.0")
    field.tag(tag.format("2.0.0"))
    return field.regenerate(tags)


def linked_charts(field: Field, tags: str, *words: str) -> Sequence[str]:
    """A link to a chart that no pattern fits, one to a chart that a pattern fits, one to a folder
    of charts, and links that lead nowhere.
    """
    field.chart("web", "1.0.0")
    field.chart("far", "1.0.0", folder="elsewhere")
    field.chart("deep", "1.0.0", folder="more/of/them")
    for link, target in (
        ("charts/far", "../elsewhere/far"),
        ("charts/latest", "web"),
        ("stable", "more/./of"),
        ("charts/circle", "circle"),
        ("charts/outside", "../../.."),
        ("charts/etc", "/etc"),
        ("charts/gone", "../gone"),
        ("charts/README", "web/Chart.yaml"),
    ):
        field.repo.link(link, target)
    field.tag("v1.0.0")
    return [*field.regenerate(tags, "--charts", "stable/*/*"), *words]


def linked_files(field: Field, tags: str) -> Sequence[str]:
    """A Chart.yaml and a requirements.yaml that are symbolic links; helm follows them."""
    field.repo.put("common/Chart.yaml", chart("web", "1.0.0"))
    field.repo.put("common/requirements.yaml", NEEDS_DEP)
    field.repo.put("charts/web/templates/map.yaml", MAP)
    field.repo.link("charts/web/Chart.yaml", "../../common/Chart.yaml")
    for name in ("dep", "api", "good"):
        field.chart(name, "1.0.0")
    field.repo.link("charts/api/requirements.yaml", "../../common/requirements.yaml")
    field.repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}]\n"
        f"channels: {{snapshot: {{charts: '{field.out.as_uri()}'}}}}\n",
    )
    field.tag("web-1.0.0", "api-1.0.0", "dep-1.0.0", "good-1.0.0")
    if not tags:
        field.folder = field.repo.root
        return ["snapshot", "--all", "--plan"]
    return field.regenerate(tags)


def folder_of_another_name(field: Field) -> Sequence[str]:
    field.text("web", chart("frontend", "1.0.0"))
    field.tag("web-1.0.0", "frontend-1.0.0")
    return field.regenerate("{name}-{version}")


def chart_at_the_top_and_one_below(field: Field) -> Sequence[str]:
    field.repo.put("Chart.yaml", chart("app", "1.0.0"))
    field.chart("web", "1.0.0", folder="other")
    field.chart("sub", "1.0.0")
    field.tag("app-1.0.0", "web-1.0.0", "sub-1.0.0")
    return field.regenerate("{name}-{version}", charts=".")


def tags_before_the_first_chart(field: Field, tags: str) -> Sequence[str]:
    field.repo.put("main.go", "package main\n")
    field.tag("v0.1.0")
    field.chart("web", "1.0.0")
    field.tag("v1.0.0")
    return field.regenerate(tags)


def other_tags(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.tag("web-1.0.0", "nightly-build", "library-1.0.0", "web-2026", "web-latest")
    return field.regenerate("{name}-{version}")


def torn(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.text("web", "name: [\n")
    field.tag(tag)
    return field.regenerate(tags)


def one_chart(field: Field) -> None:
    field.chart("web", "1.0.0")
    field.tag("web-1.0.0")


def no_tag(field: Field) -> Sequence[str]:
    one_chart(field)
    return field.regenerate("release/{name}/{version}")


def no_tags_at_all(field: Field) -> Sequence[str]:
    field.chart("web", "1.0.0")
    field.repo.commit()
    return field.regenerate("{name}-{version}")


def no_folder(field: Field) -> Sequence[str]:
    one_chart(field)
    field.tag("v1.0.0")
    return field.regenerate("v*", charts="chart/*")


def damaged_source(field: Field, file: str) -> Sequence[str]:
    """A repository that has lost an object; it is fetched, as from a server."""
    one_chart(field)
    identity = field.repo.git("rev-parse", f"HEAD:{file}")
    (field.repo.root / f".git/objects/{identity[:2]}/{identity[2:]}").unlink()
    if not file:
        return ["audit", f"git+{field.repo.root.as_uri()}#main"]
    words = field.regenerate("{name}-{version}")
    return [word.replace(str(field.repo.root), field.repo.root.as_uri(), 1) for word in words]


def unknown_chart(field: Field) -> Sequence[str]:
    one_chart(field)
    return field.regenerate("{name}-{version}", "--chart", "wbe")


# -- regenerate: one bad thing stops only itself --------------------------------------------------


def bad_neighbour(field: Field, tags: str, tag: str) -> Sequence[str]:
    field.text("old", "name: old\nversion: 1.0.0\n")
    field.text("torn", "name: [\n")
    field.chart("web", "1.0.0")
    field.tag(tag, "old-1.0.0", "torn-1.0.0")
    return field.regenerate(tags, "--chart", "web")


def dead_host(field: Field) -> Sequence[str]:
    field.chart("dead", "1.0.0", more=DEAD)
    field.chart("range", "1.0.0", more=RANGE)
    field.chart("web", "1.0.0")
    field.tag("v1.0.0")
    return field.regenerate("v*")


def dead_host_of_archives(field: Field) -> Sequence[str]:
    """Dependencies of one repository, of which one has its archives on a host that is gone."""
    gone, there = packed("gone", "1.0.0"), packed("there", "1.0.0")
    field.old(there, entries=f"  gone:\n{entry(gone, 'http://127.0.0.1:9/gone-1.0.0.tgz')}"
              f"  there:\n{entry(there)}")  # fmt: skip
    url = field.serve("old")
    field.chart("api", "1.0.0", more=own_url("gone", url))
    field.chart("web", "1.0.0", more=own_url("there", url))
    field.tag("v1.0.0")
    field.chart("api", "1.1.0", more=own_url("gone", url))
    field.tag("v1.1.0")
    return field.regenerate("v*", "--jobs", "1")


def own_url(name: str, of: str = "http://127.0.0.1:9/charts/") -> str:
    return f"dependencies: [{{name: {name}, version: 1.0.0, repository: '{of}'}}]\n"


OWN_URL = "http://127.0.0.1:9/charts"


def own_dependencies(field: Field, *words: str) -> Sequence[str]:
    """Charts that depend on each other by a URL, which does not answer."""
    field.chart("base", "1.0.0")
    field.chart("app", "1.0.0", more=own_url("web"))
    field.chart("web", "1.0.0", more=own_url("base"))
    field.chart("lost", "1.0.0", more=own_url("elsewhere"))
    field.tag("v1.0.0")
    return field.regenerate("v*", *words)


def dependency_that_is_there(field: Field) -> Sequence[str]:
    """The dependency is in the repository already, and its tag is gone."""
    field.chart("base", "1.0.0")
    field.tag("base-1.0.0")
    field.run(field.regenerate("{name}-{version}"))
    field.repo.git("tag", "-d", "base-1.0.0")
    field.serve("charts")
    url = field.serve("source")
    field.chart("web", "1.0.0", more=own_url("base", url))
    field.tag("web-1.0.0")
    return field.regenerate("{name}-{version}", "--served-at", url)


# -- names that are mistyped ----------------------------------------------------------------------


def untested(field: Field, *words: str) -> Sequence[str]:
    """A checkout with a chart that needs no cluster, and a cluster."""
    field.chart("web", "1.0.0")
    field.repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*, tests: {none: a library}}]\nclusters: {here: {kubeconfig: k}}\n"
        f"channels: {{snapshot: {{charts: '{field.out.as_uri()}'}}}}\n",
    )
    field.repo.commit()
    field.folder = field.repo.root
    return words


# -- repositories that are not there, or have lost their index ------------------------------------


def not_mounted(field: Field, *words: str) -> Sequence[str]:
    return [*words, (field.folder / "not-mounted").as_uri()]


def no_branch(field: Field) -> Sequence[str]:
    one_chart(field)
    return ["audit", f"git+{field.repo.root.as_uri()}#mistyped"]


def archives_without_index(field: Field) -> Sequence[str]:
    field.old(packed("web", "1.0.0"), packed("web", "1.1.0"))
    new = packed("api", "1.0.0")
    (field.folder / "new").mkdir()
    (field.folder / "new/api-1.0.0.tgz").write_bytes(new.tgz)
    (field.folder / "new/index.yaml").write_text(f"apiVersion: v1\nentries:\n  api:\n{entry(new)}")
    return ["regenerate", "--from", (field.folder / "new").as_uri(), "--to",
            (field.folder / "old").as_uri()]  # fmt: skip


def lost_index_to_copy(field: Field) -> Sequence[str]:
    return field.copy(field.old(packed("web", "1.0.0")))


def copy_unknown_chart(field: Field) -> Sequence[str]:
    web = packed("web", "1.0.0")
    return field.copy(field.old(web, entries=f"  web:\n{entry(web)}"), "--chart", "wbe")


def audit_unknown_chart(field: Field) -> Sequence[str]:
    web = packed("web", "1.0.0")
    return ["audit", field.old(web, entries=f"  web:\n{entry(web)}"), "--chart", "wbe"]


# -- indexes as helm reads them -------------------------------------------------------------------

WEB, NEXT, API = packed("web", "1.0.0"), packed("web", "1.1.0"), packed("api", "1.0.0")
DEP = packed("dep", "1.0.0")


def bad_entries(field: Field) -> str:
    nameless = entry(NEXT).replace("    name: web\n", "")
    return field.old(WEB, NEXT, API, entries=f"  web:\n{entry(WEB)}{nameless}  - null\n"
                     f"  api:\n{entry(API)}")  # fmt: skip


def version_twice(field: Field) -> str:
    other = packed("web", "1.0.0", more="description: another\n")
    (field.folder / "old/second").mkdir(parents=True)
    (field.folder / "old/second/web-1.0.0.tgz").write_bytes(other.tgz)
    second = entry(other, "second/web-1.0.0.tgz")
    return field.old(WEB, NEXT, entries=f"  web:\n{entry(NEXT)}{entry(WEB)}{second}")


def dead_archives(field: Field) -> str:
    dead = packed("dead", "1.0.0")
    gone = packed("gone", "1.0.0")
    field.old(WEB, entries=f"  dead:\n{entry(dead, 'http://127.0.0.1:9/dead-1.0.0.tgz')}"
              f"  gone:\n{entry(gone)}  web:\n{entry(WEB)}")  # fmt: skip
    return field.serve("old")


def unquoted_number(field: Field) -> str:
    more = "    appVersion: 392065e2\n"
    web = packed("web", "1.0.0", more="appVersion: '392065e2'\n")
    return field.old(web, API, entries=f"  api:\n{entry(API)}  web:\n{entry(web, more=more)}")


def unknown_key(field: Field) -> str:
    web = entry(WEB, more="    mine: x\n")
    return field.old(WEB, API, entries=f"  api:\n{entry(API)}  web:\n{web}")


def top_keys(field: Field, line: str, name: str) -> Sequence[str]:
    url = field.old(WEB, API, entries=f"  api:\n{entry(API)}  web:\n{entry(WEB)}")
    index = field.folder / "old/index.yaml"
    index.write_text(index.read_text().replace("apiVersion: v1\n", f"apiVersion: v1\n{line}\n", 1))
    if name == "audit":
        return ["audit", url]
    return field.copy(url) if name == "copy" else publish_beside(field, url)


def no_list(field: Field, text: str, name: str, archives: Sequence[Archive] = ()) -> Sequence[str]:
    """An index that does not say which charts there are, and archives."""
    url = field.old(*archives)
    (field.folder / "old/index.yaml").write_text(text)
    if name == "audit":
        return ["audit", url]
    return field.copy(url) if name == "copy" else publish_beside(field, url)


def capitals(field: Field, *words: str) -> Sequence[str]:
    """Digests as other programs write them, and a chart without versions."""
    lines = "".join(
        entry(one).replace(digest, written)
        for one in (WEB, NEXT)
        if (digest := one.digest.removeprefix("sha256:"))
        for written in [digest.upper() if one is WEB else f"SHA256:{digest}"]
    )
    url = field.old(WEB, NEXT, entries=f"  gone:\n  lost: null\n  web:\n{lines}")
    return [*words, url] if words else field.copy(url)


def publish_beside(field: Field, url: str) -> Sequence[str]:
    field.chart("other", "1.0.0")
    field.tag("other-1.0.0")
    words = field.regenerate("{name}-{version}")
    return [*words[:-1], url]


def archives_of_releases(field: Field) -> Sequence[str]:
    """As chart-releaser leaves them: an index, and each archive on another host."""
    gone, dead, sound = packed("gone", "1.0.0"), packed("dead", "1.0.0"), packed("sound", "1.0.0")
    (field.folder / "releases").mkdir()
    (field.folder / "releases/sound-1.0.0.tgz").write_bytes(sound.tgz)
    host = field.serve("releases")
    return ["audit", field.old(
        entries=f"  dead:\n{entry(dead, 'http://127.0.0.1:9/dead-1.0.0.tgz')}"
        f"  gone:\n{entry(gone, f'{host}/gone-1.0.0.tgz')}"
        f"  name:\n{entry(packed('name', '1.0.0'), 'https://exämple.com/name-1.0.0.tgz')}"
        f"  port:\n{entry(packed('port', '1.0.0'), 'https://example.com:99999/port-1.0.0.tgz')}"
        f"  sound:\n{entry(sound, f'{host}/sound-1.0.0.tgz')}",
    )]  # fmt: skip


def archives_elsewhere(field: Field, kind: str) -> Sequence[str]:
    """An index of which each archive is on another host, or nowhere, to copy."""
    sound, prov, gone = (packed(name, "1.0.0") for name in ("sound", "signed", "gone"))
    other = packed("other", "1.0.0", more="description: another\n")
    releases = field.folder / "releases"
    releases.mkdir()
    for each in (sound, prov, other):
        (releases / each.file_name).write_bytes(each.tgz)
    (releases / "signed-1.0.0.tgz.prov").write_text("signed\n")
    host, refusing = field.serve("releases"), field.ends.enter_context(scripted(refused))
    entries = "".join(
        f"  {each.name}:\n{entry(each, f'{url}/{each.file_name}')}"
        for each, url in (
            (sound, host), (prov, host), (gone, host), (packed("other", "1.0.0"), host),
            (packed("secret", "1.0.0"), f"http://{refusing.host}"),
            (packed("dead", "1.0.0"), "http://127.0.0.1:9"),
        )
    )  # fmt: skip
    if kind == "folder":
        return field.copy(field.old(entries=entries))
    field.repo.put("index.yaml", f"apiVersion: v1\nentries:\n{entries}")
    field.repo.commit()
    return field.copy(
        f"git+{field.repo.root.as_uri()}#{field.repo.git('branch', '--show-current')}"
    )


def refused(_: Request) -> Answer:
    return 403, {}, b""


def packages_below(field: Field) -> Sequence[str]:
    (field.folder / "old/packages").mkdir(parents=True)
    (field.folder / "old/packages/web-1.0.0.tgz").write_bytes(WEB.tgz)
    url = "https://charts.example.com/x/packages/web-1.0.0.tgz"
    return ["audit", field.old(entries=f"  web:\n{entry(WEB, url)}")]


# -- archives that helm reads ---------------------------------------------------------------------


def mac_tar() -> bytes:
    """As macOS' tar writes it: an extended header with a key of its own."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("mac/Chart.yaml")
        data = chart("mac", "1.0.0").encode()
        info.size, info.pax_headers = len(data), {"LIBARCHIVE.creationtime": "1612345678.1"}
        tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def git_archive() -> bytes:
    """As `git archive` writes it: a global header with the commit."""
    stream = io.BytesIO()
    commit = {"comment": "0123456789abcdef0123456789abcdef01234567"}
    with tarfile.open(
        fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=commit
    ) as tar:
        info = tarfile.TarInfo("exported/Chart.yaml")
        data = chart("exported", "1.0.0").encode()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def packed_by_others(name: str, version: str, text: str, *more: tuple[str, str]) -> Archive:
    """An archive of a Chart.yaml that is not made here."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path, content in (("Chart.yaml", text), *more):
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size = len(content.encode())
            tar.addfile(info, io.BytesIO(content.encode()))
    return Archive(name, version, "", stream.getvalue())


SUBCHART = chart("sub", "1.0.0")
ODD = [
    Archive("mac", "1.0.0", "", mac_tar()),
    packed_by_others("old", "1.0.0", "name: old\nversion: 1.0.0\n"),
    packed_by_others("twice", "1.0.0", chart("twice", "1.0.0") + "icon: a\nicon: b\n"),
    packed_by_others("other", "1.0.0", "apiVersion: v1\nversion: 2.0.0\n" + chart("other", "1.0.0")),
    packed_by_others("with-v", "v1.0.0", chart("with-v", "v1.0.0")),
    packed_by_others("two", "1.2", chart("two", "'1.2'")),
    packed_by_others("one", "1", chart("one", "'1'")),
    packed_by_others("dated", "2026.04.23", chart("dated", "2026.04.23")),
    Archive("exported", "1.0.0", "", git_archive()),
    packed_by_others(
        "alias", "1.0.0",
        "apiVersion: v2\nname: &n alias\nversion: &v 1.0.0\nappVersion: *v\ndescription: *n\n",
    ),
    packed_by_others("Upper_x.y", "1.0.0", chart("Upper_x.y", "1.0.0")),
    packed_by_others("number", "1.0.0", chart("number", "1.0.0") + "appVersion: 1.10\n"),
    packed_by_others(
        "doubled", "1.0.0", chart("doubled", "1.0.0"), ("charts/sub/Chart.yaml", SUBCHART),
        ("charts/sub/values.yaml", "a: 1\n"), ("charts/sub/values.yaml", "a: 2\n"),
    ),
]  # fmt: skip


def odd_archives(field: Field) -> str:
    return field.old(*ODD, entries="".join(f"  {one.name}:\n{entry(one)}" for one in ODD))


#: Chart → a file of it, and whether both helms render the chart.
LOADED = {
    "lock": ("Chart.lock", "x: [\n", False),
    "list": ("Chart.lock", "dependencies: [a]\n", False),
    "old-lock": ("requirements.lock", "- a\n", False),
    "empty": ("Chart.lock", "# nothing\n", True),
    "values": ("values.yaml", "a: [\n", False),
    "twice": ("values.yaml", "a: 1\na: 2\n", True),
    "readme": ("charts/README.md", "a\n", False),
    "hidden": ("charts/_README.md", "a\n", True),
    "schema": ("values.schema.json", "{a", False),
    "number": ("values.schema.json", "1", False),
    "constant": ("values.schema.json", '{"default": NaN}', False),
    "truth": ("values.schema.json", "true", True),
}


def unloadable(field: Field) -> Sequence[str]:
    """Archives that helm reads the Chart.yaml of, and cannot always load."""
    archives = [
        packed_by_others(name, "1.0.0", chart(name, "1.0.0"), (file, text))
        for name, (file, text, _) in LOADED.items()
    ]
    return [
        "audit",
        field.old(*archives, entries="".join(f"  {one.name}:\n{entry(one)}" for one in archives)),
    ]


NEEDS_DEP = "dependencies: [{name: dep, version: 1.0.0, repository: 'file://../dep'}]\n"
DEP_IN_ENTRY = "    dependencies: [{name: dep, version: 1.0.0, repository: 'file://../dep'}]\n"


def requirements_beside(field: Field, version: str) -> Sequence[str]:
    """A chart that has its dependency, a folder, in requirements.yaml."""
    field.chart("dep", "1.0.0")
    field.text("web", f"apiVersion: {version}\nname: web\nversion: 1.0.0\n")
    field.repo.put("charts/web/requirements.yaml", NEEDS_DEP)
    field.tag("web-1.0.0")
    return field.regenerate("{name}-{version}")


def audit_requirements(field: Field, version: str, more: str) -> list[str]:
    text = f"apiVersion: {version}\nname: web\nversion: 1.0.0\n"
    inside = ("charts/dep/Chart.yaml", chart("dep", "1.0.0"))
    web = packed_by_others("web", "1.0.0", text, ("requirements.yaml", NEEDS_DEP), inside)
    listed = entry(web, more=more).replace("apiVersion: v2", f"apiVersion: {version}")
    return ["audit", field.old(web, entries=f"  web:\n{listed}")]


CASES = [
    *(
        Case(
            f"requirements.yaml beside apiVersion {version}",
            functools.partial(requirements_beside, version=version),
            0,
            ("1 published",),
            ["web-1.0.0.tgz"],
        )
        for version in ("v1", "v2")
    ),
    Case(
        "audit a true dependency from requirements.yaml",
        lambda field: audit_requirements(field, "v2", DEP_IN_ENTRY),
        0,
        ("nothing is wrong",),
    ),
    Case(
        "audit a true dependency from requirements.yaml, apiVersion v1",
        lambda field: audit_requirements(field, "v1", DEP_IN_ENTRY),
        0,
        ("nothing is wrong",),
    ),
    Case(
        "audit an entry that helm 2 made without the dependencies",
        lambda field: audit_requirements(field, "v1", ""),
        0,
        ("nothing is wrong",),
    ),
    Case(
        "audit another dependency than that of requirements.yaml",
        lambda field: audit_requirements(field, "v1", DEP_IN_ENTRY.replace("dep,", "other,")),
        4,
        ("dependencies",),
    ),
    Case(
        "copy archives that helm reads",
        lambda field: field.copy(odd_archives(field)),
        0,
        (f"{len(ODD)} published",),
        [one.file_name for one in ODD],
    ),
    Case(
        "audit archives that helm reads",
        lambda field: ["audit", odd_archives(field)],
        4,
        (
            "note: mac 1.0.0: an extended header sets LIBARCHIVE.creationtime",
            "note: exported 1.0.0: a global header has a comment",
            "note: old 1.0.0: apiVersion is missing",
            "note: twice 1.0.0: the key 'icon' occurs twice",
            "note: other 1.0.0: the key 'apiVersion' occurs twice",
            "note: doubled 1.0.0: charts/sub/values.yaml occurs twice",
            "non-SemVer version: two",
        ),
    ),
    Case(
        "audit of what is not there",
        lambda field: not_mounted(field, "audit"),
        7,
        ("there is no chart repository",),
    ),
    Case(
        "audit --report of what is not there",
        lambda field: [*not_mounted(field, "audit"), "--report", "table"],
        7,
        ("there is no chart repository",),
    ),
    Case(
        "copy of what is not there",
        lambda field: field.copy(not_mounted(field)[0]),
        7,
        ("there is no chart repository",),
    ),
    Case("audit of a branch that is not there", no_branch, 7, ("there is no chart repository",)),
    Case(
        "publish beside archives without an index",
        archives_without_index,
        4,
        ("there is no index.yaml that lists charts, and there are archives", "audit --fix"),
    ),
    Case("copy archives without an index", lost_index_to_copy, 4, ("audit --fix",)),
    Case("copy a chart that is not there", copy_unknown_chart, 8, ("has no version of it",)),
    Case(
        "audit --report of a chart that is not there",
        lambda field: [*audit_unknown_chart(field), "--report", "csv"],
        4,
        ("no repository here has a version of wbe",),
    ),
    *(
        Case(
            f"a cluster that is not configured and not needed, {words}",
            functools.partial(lambda field, words: untested(field, *words.split()), words=words),
            2,
            ("there is no cluster nope in the configuration (there are: here)",),
        )
        for words in (
            "integration_test --cluster nope",
            "run check --cluster nope --channels configured",
        )
    ),
    Case("run what does not exist", lambda field: ["run", "privat"], 2, ("privat is no workflow",)),
    Case("audit a chart that is not there", audit_unknown_chart, 4, ("missing file: wbe",)),
    Case(
        "copy an index with bad entries",
        lambda field: field.copy(bad_entries(field)),
        8,
        ("it is in the list of web and has the name None", "it is not a mapping"),
        ("api-1.0.0.tgz", "web-1.0.0.tgz"),
    ),
    Case(
        "copy an index with a version twice",
        lambda field: field.copy(version_twice(field)),
        8,
        ("web 1.0.0 is in the index twice; the first entry counts",),
        ("web-1.0.0.tgz", "web-1.1.0.tgz"),
    ),
    Case(
        "copy an index with dead archives",
        lambda field: field.copy(dead_archives(field)),
        8,
        (
            "dead 1.0.0: http://127.0.0.1:9/dead-1.0.0.tgz: the server does not answer",
            "gone 1.0.0: ",
        ),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "audit an index with dead archives",
        lambda field: ["audit", dead_archives(field)],
        4,
        ("cannot be reached: dead 1.0.0", "missing file: gone 1.0.0", "2 things are wrong"),
    ),
    Case(
        "audit an index that helm refuses",
        lambda field: ["audit", unquoted_number(field)],
        4,
        ("index.yaml:10", "appVersion: 392065e2 is read as the number 39206500"),
    ),
    Case(
        "audit --fix of an index that helm refuses",
        lambda field: ["audit", unquoted_number(field), "--fix"],
        0,
        ("write what its Chart.yaml says", "nothing is wrong"),
    ),
    Case(
        "audit an index with a key that helm does not know",
        lambda field: ["audit", unknown_key(field)],
        4,
        ("index refused: web 1.0.0", "index.yaml:10", "it does not know mine"),
    ),
    Case(
        "audit --fix of an index with a key that helm does not know",
        lambda field: ["audit", unknown_key(field), "--fix"],
        0,
        ("write what its Chart.yaml says", "nothing is wrong"),
    ),
    Case(
        "publish into an index with a key that helm does not know",
        lambda field: publish_beside(field, unknown_key(field)),
        4,
        ("helm refuses this whole index: it does not know mine", "index.yaml:10", "audit --fix"),
    ),
    Case(
        "publish into an index that helm refuses",
        lambda field: publish_beside(field, unquoted_number(field)),
        4,
        ("helm refuses this whole index: appVersion: 392065e2", "index.yaml:10", "audit --fix"),
    ),
    *(
        Case(
            f"{name} an index whose own keys helm refuses: {line}",
            functools.partial(top_keys, line=line, name=name),
            code,
            message if code else (),
            ("api-1.0.0.tgz", "web-1.0.0.tgz") if name == "copy" else (),
        )
        for line, *message in (
            ("generated: yesterday", "generated is not a time", "index.yaml:2"),
            ("mine: x  # my own", "it does not know mine", "index.yaml:2"),
        )
        for name, code in (("audit", 4), ("publish into", 4), ("copy", 0))
    ),
    *(
        Case(
            f"{name} an index that lists no chart: {text!r}",
            functools.partial(no_list, text=text, name=name),
            code,
            message,
        )
        for text in (
            "apiVersion: v1\nentries:\n",
            "apiVersion: v1\nentries: ~  # none\ngenerated: 2024-01-01T00:00:00Z\n",
            "---\napiVersion: v1\n...\n",
            '{"apiVersion": "v1", "entries": null}',
        )
        for name, code, *message in (
            ("audit", 0, "nothing is wrong"),
            ("copy", 7, "the repository lists no chart"),
            ("publish into", 0, "1 published"),
        )
    ),
    *(
        Case(
            f"{name} an index that lists no chart, and archives",
            functools.partial(
                no_list, text="apiVersion: v1\nentries:\n", name=name, archives=[WEB]
            ),
            4,
            message,
        )
        for name, *message in (
            ("audit", "orphan file: web 1.0.0"),
            ("copy", "there is no index.yaml that lists charts", "audit --fix"),
            ("publish into", "there is no index.yaml that lists charts", "audit --fix"),
        )
    ),
    Case("audit digests in capitals", lambda field: capitals(field, "audit"), 0, ("is wrong",)),
    Case(
        "copy digests in capitals",
        capitals,
        0,
        ("2 published",),
        ("web-1.0.0.tgz", "web-1.1.0.tgz"),
    ),
    Case(
        "audit archives that releases on another host have",
        archives_of_releases,
        4,
        (
            "cannot be reached: dead 1.0.0: http://127.0.0.1:9/dead",
            "missing file: gone 1.0.0: there is no file http",
            "cannot be reached: name 1.0.0: https://exämple.com/name-1.0.0.tgz: this is not a valid",
            "cannot be reached: port 1.0.0: https://example.com:99999/port-1.0.0.tgz: this is not a",
            "4 things are wrong",
        ),
    ),
    *(
        Case(
            f"copy archives that releases on another host have, from a {kind}",
            functools.partial(archives_elsewhere, kind=kind),
            8,
            (
                "2 published",
                "gone 1.0.0: http",
                "other 1.0.0: http",
                "the index says sha256:",
                "secret 1.0.0: http",
                "dead 1.0.0: http://127.0.0.1:9/dead-1.0.0.tgz: the server does not answer",
                "4 failed",
            ),
            ("signed-1.0.0.tgz", "sound-1.0.0.tgz"),
        )
        for kind in ("folder", "branch")
    ),
    Case("audit archives in a folder below", packages_below, 0, ("nothing is wrong",)),
    Case(
        "version not raised, tags of one chart",
        lambda field: version_not_raised(field, "v{version}", "v"),
        8,
        ("1.1.0 (v1.1.0): the version of web there is 1.0.0", "(v1.2.0)", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "version not raised, tags with a name",
        lambda field: version_not_raised(field, "{name}-{version}", "web-"),
        8,
        ("web 1.1.0 (web-1.1.0): the version of web there is 1.0.0", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "version not raised, tags over all charts",
        lambda field: version_not_raised(field, "v*", "v"),
        8,
        ("(v1.2.0)", "apiVersion is missing"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "versions that are none",
        odd_versions,
        8,
        ("a v1.0.0 (a-v1.0.0)", "b 2026.04.23 (b-2026.04.23)", "c 1.0.0-rc.01 (", "d 1.2 (d-1.2)"),
        ("good-1.0.0.tgz",),
    ),
    Case(
        "a tag with a v that the version does not have",
        tag_with_a_v,
        8,
        ("web v1.0.0 (web-v1.0.0): the version of web there is 1.0.0",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "versions with a v, and a v in the template",
        versions_with_a_v,
        8,
        ("v1.0.0 (v1.0.0): the version of web there is v1.0.0 (its tag would be vv1.0.0)",),
    ),
    Case(
        "a chart that moved, tags with a name",
        lambda field: chart_elsewhere(field, "{name}-{version}", "web-{}"),
        8,
        ("web 1.0.0 (web-1.0.0): stable/web/Chart.yaml is there, and no pattern of --charts",),
        ("web-2.0.0.tgz",),
    ),
    Case(
        "a chart that moved, tags of one chart",
        lambda field: chart_elsewhere(field, "v{version}", "v{}"),
        8,
        ("(v1.0.0): stable/web/Chart.yaml is there, and no pattern of --charts fits it",),
        ("web-2.0.0.tgz",),
    ),
    Case(
        "a folder that is called otherwise than its chart",
        folder_of_another_name,
        8,
        ("web 1.0.0 (web-1.0.0): the version of frontend there is 1.0.0",),
        ("frontend-1.0.0.tgz",),
    ),
    Case(
        "a chart at the top, and one in another folder that no pattern fits",
        chart_at_the_top_and_one_below,
        8,
        ("web 1.0.0 (web-1.0.0): other/web/Chart.yaml is there, and no pattern", "1 failed"),
        ("app-1.0.0.tgz",),
    ),
    *(
        Case(
            f"charts that are there by a link, {tags}",
            functools.partial(linked_charts, tags=tags),
            8,
            (
                "far 1.0.0 (v1.0.0): charts/far is a symbolic link, which --charts does not follow:"
                " the chart is elsewhere/far, give a pattern that fits it",
                "deep 1.0.0 (v1.0.0): stable/them/deep is a symbolic link",
                "1 published",
                "2 failed",
            ),
            ("web-1.0.0.tgz",),
        )
        for tags in ("v*", "v{version}")
    ),
    *(
        Case(
            f"Chart.yaml and requirements.yaml are links, {tags or 'snapshot'}",
            functools.partial(linked_files, tags=tags),
            8 if tags else 2,
            (
                "charts/web/Chart.yaml: the file is a symbolic link",
                "charts/api/requirements.yaml: the file is a symbolic link",
            ),
            ("dep-1.0.0.tgz", "good-1.0.0.tgz") if tags else (),
        )
        for tags in ("*", "{name}-{version}", "")
    ),
    Case(
        "another chart is there by a link",
        lambda field: linked_charts(field, "v*", "--chart", "web"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "two patterns of tags",
        lambda field: [*field.regenerate("v{version}"), "--tags", "{name}-{version}"],
        2,
        ("--tags is given twice: v{version} and {name}-{version}",),
    ),
    Case(
        "tags before the first chart",
        lambda field: tags_before_the_first_chart(field, "v{version}"),
        0,
        ("v0.1.0: there is no chart", "1 published", "1 tag without a chart"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "tags over all charts before the first chart",
        lambda field: tags_before_the_first_chart(field, "v*"),
        0,
        ("v0.1.0: there is no chart", "1 published", "1 tag without a chart"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "tags that are about something else",
        other_tags,
        0,
        ("nightly-build: ", "library-1.0.0: there is no chart library", "web-2026: the version of"),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "Chart.yaml that is no YAML, tags of one chart",
        lambda field: torn(field, "v{version}", "v1.0.0"),
        8,
        ("web (v1.0.0): charts/web/Chart.yaml",),
    ),
    Case(
        "Chart.yaml that is no YAML, tags with a name",
        lambda field: torn(field, "{name}-{version}", "web-1.0.0"),
        8,
        ("web (web-1.0.0): charts/web/Chart.yaml",),
    ),
    Case("no tag fits", no_tag, 2, ("no tag fits release/{name}/{version}", "like web-1.0.0")),
    Case("no tags at all", no_tags_at_all, 2, ("no tag fits", "the source has no tags")),
    Case(
        "no folder fits",
        no_folder,
        8,
        ("v1.0.0: there is no chart but charts/web", "no fitting tag of 1 stands for a chart"),
    ),
    *(
        Case(
            f"a server whose repository has lost {file or 'the top folder'}",
            functools.partial(damaged_source, file=file),
            7,
            ("source", " failed with exit code 128", "the repository is damaged, the server's"),
        )
        for file in ("charts/web/Chart.yaml", "")
    ),
    Case("a chart that nobody has", unknown_chart, 2, ("no tag fits", "with the chart wbe")),
    Case(
        "other charts are bad, tags with a name",
        lambda field: bad_neighbour(field, "{name}-{version}", "web-1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "other charts are bad, tags over all charts",
        lambda field: bad_neighbour(field, "v*", "v1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "other charts are bad, tags of one chart",
        lambda field: bad_neighbour(field, "v{version}", "v1.0.0"),
        0,
        ("1 published",),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "dependencies by the repository's own URL",
        lambda field: own_dependencies(field, "--served-at", OWN_URL),
        8,
        ("1 failed", "lost 1.0.0 (v1.0.0): http://127.0.0.1:9"),
        ("app-1.0.0.tgz", "base-1.0.0.tgz", "web-1.0.0.tgz"),
    ),
    Case(
        "a plan with dependencies by the repository's own URL",
        lambda field: own_dependencies(field, "--plan", "--served-at", OWN_URL),
        0,
        ("app-1.0.0.tgz", "would be published", "lost 1.0.0 (v1.0.0): http://127.0.0.1:9"),
    ),
    Case(
        "a dependency of another repository, of a name and version that is here",
        own_dependencies,
        8,
        (
            "web 1.0.0 (v1.0.0): http://127.0.0.1:9",
            f"has a chart of this name and version; where that is the same, give --served-at {OWN_URL}",
            "3 failed",
        ),
        ("base-1.0.0.tgz",),
    ),
    Case(
        "a dependency that the repository has",
        dependency_that_is_there,
        0,
        ("1 published",),
        ("base-1.0.0.tgz", "web-1.0.0.tgz"),
    ),
    Case(
        "a repository with archives on a dead host, which is asked once",
        dead_host_of_archives,
        8,
        (
            "api 1.0.0 (v1.0.0): http://127.0.0.1:9/gone-1.0.0.tgz: the server does not answer",
            "api 1.1.0 (v1.1.0): http://127.0.0.1:9/gone-1.0.0.tgz: the server does not answer: "
            "Connection refused (asked once, and not again in this run)",
            "2 failed",
        ),
        ("web-1.0.0.tgz",),
    ),
    Case(
        "a dead host",
        dead_host,
        8,
        ("dead 1.0.0 (v1.0.0)", "range 1.0.0 (v1.0.0)", "2 failed"),
        ("web-1.0.0.tgz",),
    ),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_case_of_the_field_ends_as_it_should(case: Case, field: Field) -> None:
    words = case.command(field)
    for _ in range(2 if "--tags" in words else 1):  # the second run says the same
        completed = field.run(words)
        assert completed.returncode == case.code, completed.stderr
        for text in case.message:
            assert text in completed.stderr.replace("1 there before", "1 published"), (
                completed.stderr
            )
        assert field.published() == sorted(case.published)


def test_a_second_run_asks_only_what_may_have_changed(field: Field) -> None:
    """Refusals that the sources alone decide are remembered; a host may be back, and is asked for
    the dependencies that it did not give, before anything is packaged again.
    """
    asked: list[str] = []
    entries = f"apiVersion: v1\nentries:\n  dep:\n{entry(DEP)}".encode()
    given: dict[str, bytes] = {}

    def answer(request: Request) -> Answer:
        asked.append(request.path)
        return (200, {}, given[request.path]) if given else (403, {}, b"")

    with scripted(answer) as server:
        needs = own_url("dep", f"http://{server.host}")
        field.chart("api", "1.0.0", more=needs)
        field.chart("range", "1.0.0", more=RANGE)
        field.tag("v1.0.0")
        field.chart("api", "1.1.0", more=needs)
        field.tag("v1.1.0")
        words = field.regenerate("v*", "--jobs", "1")
        first = field.run(words)
        assert first.returncode == 8 and "3 failed" in first.stderr, first.stderr
        asked.clear()
        template = field.repo.git("rev-parse", "HEAD:charts/api/templates/map.yaml")
        stored = field.repo.root / f".git/objects/{template[:2]}/{template[2:]}"
        stored.rename(field.folder / "template")  # who packages, fails for it
        second = field.run(words)
        (field.folder / "template").rename(stored)
        assert sorted(second.stderr.splitlines()) == sorted(first.stderr.splitlines())
        assert asked == ["/index.yaml"]
        given.update({"/index.yaml": entries, "/dep-1.0.0.tgz": DEP.tgz})
        last = field.run(words)
        assert last.returncode == 8 and "2 published" in last.stderr, last.stderr
        assert "1 failed" in last.stderr and "range 1.0.0 (v1.0.0)" in last.stderr
        assert field.published() == ["api-1.0.0.tgz", "api-1.1.0.tgz"]


@pytest.mark.parametrize("more", [RANGE, DEAD])
def test_what_is_remembered_of_a_tag_is_forgotten_with_it(more: str, field: Field) -> None:
    """The oldest tag of a version counts; without it the next one does."""
    field.chart("web", "1.0.0", more=more)
    field.tag("v1.0.0")
    field.chart("web", "1.0.0")
    field.tag("v1.1.0")
    assert field.run(field.regenerate("v*")).returncode == 8
    field.repo.git("tag", "-d", "v1.0.0")
    done = field.run(field.regenerate("v*"))
    assert done.returncode == 0 and "1 published" in done.stderr, done.stderr


def test_what_helm_takes_of_a_version_twice_is_copied(field: Field) -> None:
    url = version_twice(field)
    assert field.run(field.copy(url)).returncode == 8
    assert (field.out / "web-1.0.0.tgz").read_bytes() == WEB.tgz
    for major in (3, 4):
        pulled = field.folder / str(major)
        pulled.mkdir()
        words = [
            str(helm(major)),
            "pull",
            "web",
            "--version",
            "1.0.0",
            "--repo",
            field.serve("old"),
        ]
        environment = {"HOME": str(pulled), "PATH": os.environ["PATH"]}
        subprocess.run(words, cwd=pulled, env=environment, check=True, capture_output=True)
        assert (pulled / "web-1.0.0.tgz").read_bytes() == WEB.tgz


#: A line of an entry, and whether both helms take an index that has it.
TYPES = [
    ("appVersion: 1.0", False),
    ("appVersion: 392065e2", False),
    ("appVersion: 0x10", False),
    ("appVersion: 0o17", False),
    ("appVersion: 1_000", False),
    ("appVersion: y", False),
    ("appVersion: .inf", False),
    ("appVersion: [a]", False),
    ("appVersion: 1:30", True),
    ("appVersion: 2024-01-01", True),
    ("appVersion: ~", True),
    ("appVersion: !!str 1.0", True),
    ("description: 1", False),
    ("kubeVersion: 1.20", False),
    ('deprecated: "true"', False),
    ("deprecated: yes", True),
    ("removed: 1", False),
    ("keywords: a", False),
    ("keywords: [1]", False),
    ("sources: [true]", False),
    ("annotations: {a: 1}", False),
    ("annotations: {a: {b: c}}", False),
    ("annotations: {appVersion: 1}", True),
    ("maintainers: [{name: 1}]", False),
    ("maintainers: [{name: a, mine: b}]", False),
    ("dependencies: [{name: a, version: 1, repository: x}]", False),
    ("dependencies: [{name: a, enabled: 'true'}]", False),
    ("dependencies: [{name: a, import-values: [1]}]", True),
    ("created: 2024-01-01", False),
    ("created: 2024-01-01T00:00:00Z", True),
    ("engine: gotpl", True),
    ("mine: x", False),
    ("name: web", False),
]


def test_what_makes_helm_refuse_an_index_is_told(field: Field) -> None:
    """Asked of both helms: `helm pull` of another chart, whose archive is there, and of the rows."""
    folder = field.folder / "old"
    for number, (line, _) in enumerate(TYPES):
        (folder / str(number)).mkdir(parents=True)
        (folder / f"{number}/{API.file_name}").write_bytes(API.tgz)
        (folder / f"{number}/index.yaml").write_text(
            f"apiVersion: v1\nentries:\n  api:\n{entry(API)}  web:\n{entry(WEB)}    {line}\n"
        )
    url = field.serve("old")
    environment = {"HOME": str(field.folder), "PATH": os.environ["PATH"]}
    for number, (line, taken) in enumerate(TYPES):
        for major in (3, 4):
            words = [
                str(helm(major)),
                "pull",
                "api",
                "--repo",
                f"{url}/{number}",
                "-d",
                str(field.folder),
            ]
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            assert (done.returncode == 0) == taken, (line, major, done.stderr)
        rows = read_rows((folder / f"{number}/index.yaml").read_bytes(), "x")
        told = [row for row in rows if row.rejection or row.fault]
        assert bool(told) != taken and all(row.chart == "web" for row in told), line


def test_both_helms_read_the_archives_that_are_copied(field: Field) -> None:
    odd_archives(field)
    environment = {"HOME": str(field.folder), "PATH": os.environ["PATH"]}
    for one in ODD:
        for major in (3, 4):
            words = [str(helm(major)), "show", "chart", str(field.folder / "old" / one.file_name)]
            subprocess.run(words, env=environment, check=True, capture_output=True)
    assert field.run(field.copy((field.folder / "old").as_uri())).returncode == 0
    for one in ODD:
        assert (field.out / one.file_name).read_bytes() == one.tgz


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_both_helms_install_a_chart_with_requirements(version: str, field: Field) -> None:
    assert field.run(requirements_beside(field, version)).returncode == 0
    environment = {"HOME": str(field.folder), "PATH": os.environ["PATH"]}
    for major in (3, 4):
        words = [str(helm(major)), "template", "x", str(field.out / "web-1.0.0.tgz")]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        assert "web/templates/map.yaml" in done.stdout
        assert "web/charts/dep/templates/map.yaml" in done.stdout


def test_archives_that_helm_cannot_load_are_told(field: Field) -> None:
    done = field.run(unloadable(field))
    assert done.returncode == 4, done.stderr
    environment = {"HOME": str(field.folder), "PATH": os.environ["PATH"]}
    for name, (_, _, loads) in LOADED.items():
        for major in (3, 4):
            words = [str(helm(major)), "template", str(field.folder / f"old/{name}-1.0.0.tgz")]
            completed = subprocess.run(words, env=environment, capture_output=True, text=True)
            assert (completed.returncode == 0) == loads, (name, major, completed.stderr)
        told = f"archive refused: {name} 1.0.0: helm cannot load it: " in done.stderr
        assert told != loads, done.stderr


def refusing(host: str, *paths: str) -> Callable[[Request], Answer]:
    """A registry that refuses some of its repositories and tags."""

    def answer(request: Request) -> Answer:
        if any(path in request.path for path in paths):
            return 403, {}, b""
        asked = urllib.request.Request(f"http://{host}{request.path}", method=request.method)
        asked.add_header("Accept", request.headers.get("Accept", "*/*"))
        try:
            with urllib.request.urlopen(asked) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, {}, b""

    return answer


def test_what_a_registry_refuses_stops_nothing_else(field: Field) -> None:
    with registry(field.folder / "registry") as running:
        target = open_writable(f"oci://{running.host}/charts", {})
        for name, version in (("dead", "1.0.0"), ("web", "1.0.0"), ("web", "1.1.0")):
            target.publish(packed(name, version))
        with scripted(refusing(running.host, "/dead/", "/web/manifests/1.0.0")) as front:
            url = f"oci://{front.host}/charts"
            done = field.run(["audit", url])
            assert done.returncode == 4, done.stderr
            assert f"cannot be reached: dead: http://{front.host}" in done.stderr, done.stderr
            assert "cannot be reached: web 1.0.0: " in done.stderr and "1.1.0" not in done.stderr
            assert field.run(["audit", url, "--chart", "dead"]).returncode == 7
            both = field.run(["audit", f"{url}", "--chart", "dead", "--chart", "web"])
            assert both.returncode == 4 and "2 things are wrong" in both.stderr
            copied = field.run(field.copy(url))
            assert copied.returncode == 8 and "2 failed" in copied.stderr, copied.stderr
            assert field.published() == ["web-1.1.0.tgz"]
            assert field.run(field.copy(url, "--chart", "dead")).returncode == 7


@pytest.fixture
def shop(field: Field) -> Field:
    """A checkout with a pipeline.yaml, one good chart, and several that cannot be read."""
    field.chart("good", "1.0.0")
    field.text("bad", chart("bad", "'1.2'"))
    field.text("number", chart("number", "1.0.0") + "appVersion: 1.10\n")
    field.text("far", chart("far", "1.0.0", "elsewhere"))
    for name in ("ignore", "link", "image"):
        field.chart(name, "1.0.0")
    field.chart("linked", "1.0.0", folder="elsewhere")
    field.repo.link("charts/linked", "../elsewhere/linked")
    for name in ("twin-a", "twin-b"):
        field.text(name, chart("twin", "1.0.0"))
    field.repo.put("charts/ignore/.helmignore", "[a\n")
    field.repo.link("charts/link/passwd", "/etc/passwd")
    field.repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}, {path: charts/image, images: {app: {}}}]\n"
        "images: {app: {context: nowhere}}\n"
        f"channels: {{snapshot: {{charts: '{field.out.as_uri()}'}}}}\n",
    )
    field.repo.commit()
    field.folder = field.repo.root
    return field


def test_a_template_that_is_not_utf_8_fails_its_chart_alone(field: Field) -> None:
    for name in ("good", "odd"):
        field.chart(name, "1.0.0")
    field.repo.put("charts/odd/templates/map.yaml", MAP.encode("utf-16"))
    field.repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    field.repo.commit()
    field.folder = field.repo.root
    done = field.run(["check", "--all"])
    assert done.returncode == 8 and "good: passed" in done.stderr, done.stderr
    assert "in charts/odd/templates/map.yaml what is not UTF-8" in done.stderr, done.stderr


@pytest.mark.parametrize("words", ["snapshot --chart good", "check --chart good"])
def test_bad_charts_do_not_stop_the_one_that_is_asked_for(words: str, shop: Field) -> None:
    done = shop.run(words.split())
    assert done.returncode == 0, done.stderr
    assert "charts/bad" not in done.stderr


@pytest.mark.parametrize(
    "words", ["snapshot", "snapshot --all", "check --all", "check", "build_image --all"]
)
def test_all_bad_charts_are_named_at_once_and_the_good_one_is_done(words: str, shop: Field) -> None:
    done = shop.run(words.split())
    assert done.returncode == 2, done.stderr
    for text in (
        "bad: charts/bad/Chart.yaml:3: version '1.2'",
        "number: charts/number/Chart.yaml:4: appVersion: 1.10",
        "far: charts/far/Chart.yaml: the dependency elsewhere needs charts/elsewhere",
        "twin: charts/twin-a/Chart.yaml: the chart name twin stands for charts/twin-a and ",
        "charts/twin-b: charts/twin-b/Chart.yaml: the chart name twin",
        "charts/linked is a symbolic link, which `charts` does not follow: the chart is elsewhere/",
        "ignore: charts/ignore/.helmignore:1: '[a' is not a pattern",
        "link: charts/link/passwd: the symbolic link points outside",
        "pipeline.yaml:2: the image app has the context 'nowhere'",
    ):
        assert text in done.stderr, done.stderr
    if words.startswith("snapshot"):
        assert [name.startswith("good-1.0.0") for name in shop.published()] == [True]


def test_tags_that_are_older_than_the_configuration_are_compared(field: Field) -> None:
    for name in ("same", "changed", "moved"):
        field.chart(name, "1.0.0")
    field.tag("same-1.0.0", "changed-1.0.0", "moved-1.0.0")
    field.repo.git("mv", "charts/moved", "charts/elsewhere")
    field.repo.put("charts/changed/values.yaml", "a: 1\n")
    field.chart("new", "1.0.0")
    channels = f"{{snapshot: {{charts: '{field.out.as_uri()}'}}}}"
    field.repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}, {path: charts/new, tests: {parallel: 1}}]\n"
        f"channels: {channels}\n",
    )
    field.repo.commit()
    field.folder = field.repo.root
    done = field.run(["check", "--all"])
    assert done.returncode == 0, done.stderr
    assert "same: charts" not in done.stderr, done.stderr
    assert "changed since: charts/changed/values.yaml (the tag is older than pipe" in done.stderr
    assert "moved-1.0.0" not in done.stderr and "ignored?" not in done.stderr, done.stderr
    assert field.run(["snapshot"]).returncode == 0
    versions = {name[: name.index(".t")] for name in field.published()}
    assert "same-1.0.0-0.1" in versions and "changed-1.0.1-0.2" in versions, versions


READING = ("show", "html", "verify", "get web snapshot.chart", "join other.jsonl")


@pytest.mark.parametrize("words", READING)
def test_a_state_file_that_was_named_must_be_there(words: str, field: Field) -> None:
    done = field.run(["state", *words.split(), "--state", "missing.jsonl"])
    assert done.returncode == 2 and "there is no such state file" in done.stderr, done.stderr
