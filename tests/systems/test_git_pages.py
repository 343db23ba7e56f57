"""Charts on a branch of a git repository, against the real git: commits, races, kills, logins, and
helm's own pull.
"""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pipeline_steps.auth.hosts import Host, IncompleteHost
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import git_branch
from pipeline_steps.repositories.git_pages import GitPagesRepository
from pipeline_steps.repositories.repository import ArchiveGone, Publication, Published
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    EvidenceError,
    Temporary,
    Unreachable,
)
from tests.support.charts import packed
from tests.support.git_server import Serving, https
from tests.support.gits import Repo, bare
from tests.support.helms import helm
from tests.support.registries import free_port

PASSWORD = "canary-94c1f7"


class Pages:
    """A bare repository on this machine, and what its branch gh-pages has."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = bare(folder, **settings)
        self.url = f"git+{folder.as_uri()}"

    def opened(self) -> GitPagesRepository:
        return GitPagesRepository(self.url, {})

    def git(self, *arguments: str) -> str:
        ran = subprocess.run(
            ["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    def commits(self) -> list[str]:
        """Subjects, newest first; none when there is no branch."""
        return (
            self.git("log", "--format=%s", "gh-pages").splitlines()
            if self.git("branch", "--list")
            else []
        )

    def names(self, revision: str = "gh-pages") -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", revision).splitlines()

    def hook(self, name: str, script: str) -> None:
        hook = self.folder / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\nset -e\n{script}\n")
        hook.chmod(0o755)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This account's git configuration: none."""
    file = tmp_path / "gitconfig"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    return file


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return Pages(tmp_path / "pages of ☺.git")


@pytest.fixture
def site(pages: Pages, tmp_path: Path) -> Repo:
    """A checkout of a branch that has more than charts."""
    repo = Repo(tmp_path / "site", tmp_path / "other")
    repo.put("README.md", "charts\n")
    repo.put("CNAME", "charts.example.com\n")
    repo.put(".nojekyll", "")
    repo.put("docs/a b.md", "more\n")
    repo.put("tool.sh", "x", executable=True)
    repo.commit("site")
    repo.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    return repo


def other() -> Archive:
    return packed(more="description: other\n")


@pytest.mark.parametrize(
    "url",
    [
        "git+https://h", "git+https://[h/x", "git+file://host/x", "git+file:///", "git+https://me:secret@h/x", "git+https://secret@h/x",
        "git+ssh://git:secret@h/x", "git+ssh://h/x?y",
        *(f"git+ssh://h/x#{name}" for name in "-x /a a..b a.lock a/.b a~1 @{-1} @".split()),
        "git+ssh://h/x#", "git+ssh://h/x#a b",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        GitPagesRepository(url, {})
    assert "secret" not in str(raised.value)


def test_urls_that_are_understood() -> None:
    opened = [
        GitPagesRepository(url, {})
        for url in ("git+ssh://git@h:22/x.git", "git+https://h/x/#release/v1.x")
    ]
    assert [repository.url for repository in opened] == [
        "git+ssh://git@h:22/x.git#gh-pages",
        "git+https://h/x/#release/v1.x",
    ]


def test_a_chart_is_one_commit_and_the_rest_stays(pages: Pages, site: Repo) -> None:
    before = pages.git("ls-tree", "-r", "gh-pages").splitlines()
    published = pages.opened().publish(packed(), b"signed", "2026-01-02T03:04:05Z")
    assert published.reference == f"{pages.url}#gh-pages/hello-1.0.0.tgz@{packed().digest}"
    assert pages.commits() == ["Publish hello 1.0.0", "site"]
    new = {"hello-1.0.0.tgz", "hello-1.0.0.tgz.prov", "index.yaml"}
    assert set(pages.git("diff", "--name-only", "gh-pages~", "gh-pages").split("\n")) == new
    after = pages.git("ls-tree", "-r", "gh-pages").splitlines()
    assert [line for line in after if line.split("\t")[1] not in new] == before
    index = pages.git("show", "gh-pages:index.yaml")
    assert 'created: "2026-01-02T03:04:05Z"' in index
    assert "- hello-1.0.0.tgz" in index


def test_commits_have_the_configured_author(pages: Pages, config: Path) -> None:
    repository = pages.opened()
    repository.publish(packed())
    assert (
        pages.git("log", "-1", "--format=%an <%ae> %cn <%ce>", "gh-pages")
        == f"{git_branch.NOBODY} {git_branch.NOBODY}"
    )
    config.write_text('[user]\nname = "Zoë <x> Tester"\nemail = zoe@example.com\n')
    pages.opened().publish(packed("web"))
    assert (
        pages.git("log", "-1", "--format=%an <%ae>", "gh-pages") == "Zoë x Tester <zoe@example.com>"
    )


def test_nothing_is_pushed_for_the_same_tar_or_a_conflict(pages: Pages) -> None:
    first = pages.opened().publish(packed(version="1.0.0+a"))
    tip = pages.git("rev-parse", "gh-pages")
    assert pages.opened().publish(packed(version="1.0.0+a"), b"signed later") == first
    for taken in (packed(version="1.0.0+b"), packed(version="1.0.0+a", more="home: x\n")):
        with pytest.raises(Conflict):
            pages.opened().publish(taken, b"signed")
    assert pages.git("rev-parse", "gh-pages") == tip
    assert pages.names() == ["hello-1.0.0+a.tgz", "index.yaml"]


def test_a_group_is_one_commit_with_what_can_be_published(pages: Pages) -> None:
    charts = [packed(version=version) for version in ("1.0.0", "1.0.1", "1.0.1+x")]
    outcomes = list(
        pages.opened().publish_all(Publication(chart) for chart in [*charts, other(), charts[0]])
    )
    assert [isinstance(outcome, Published) for outcome in outcomes] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert outcomes[4] == outcomes[0]
    assert pages.commits() == ["Publish 2 charts"]
    assert pages.git("log", "-1", "--format=%b", "gh-pages") == "hello 1.0.0\nhello 1.0.1"
    assert pages.opened().versions("hello") == ["1.0.1", "1.0.0"]


def test_a_branch_that_is_not_there_is_made_once(pages: Pages) -> None:
    """Two who make it at once: one is first, the other goes on on top."""
    pages.hook("pre-receive", "mkdir first 2>/dev/null && sleep 1; exit 0")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: pages.opened().publish(packed(name)), ["api", "web"]))
    assert sorted(pages.commits()) == ["Publish api 1.0.0", "Publish web 1.0.0"]
    assert len(pages.git("rev-list", "--max-parents=0", "gh-pages").splitlines()) == 1
    assert pages.opened().charts() == ["api", "web"]


def test_rejected_push_is_merged_and_pushed_again(
    pages: Pages, site: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one pushes while this push is under way: the server refuses it, and says so in more
    than one way.
    """
    pages.opened().publish(packed("web"))
    site.git("fetch", "-q", str(pages.folder), "gh-pages")
    site.git("reset", "-q", "--hard", "FETCH_HEAD")
    site.put("README.md", "changed meanwhile\n")
    theirs = site.commit("meanwhile")
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/aside")
    pages.hook("pre-receive", f"mkdir first 2>/dev/null || exit 0\nunset GIT_QUARANTINE_PATH\n"
                              f"git update-ref refs/heads/gh-pages {theirs}")  # fmt: skip
    with caplog.at_level("INFO"):
        pages.opened().publish(packed())
    assert pages.commits() == ["Publish hello 1.0.0", "meanwhile", "Publish web 1.0.0", "site"]
    assert pages.git("show", "gh-pages:README.md") == "changed meanwhile"
    assert pages.opened().charts() == ["hello", "web"]
    assert "the branch was changed meanwhile" in caplog.text
    assert "of 600 s left" in caplog.text


def test_a_try_that_took_long_is_repeated_after_a_pause_as_long(
    pages: Pages, site: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many publish from one busy machine, short pauses have all of them try at once, and all
    but one in vain, until no time is left.
    """
    branch = git_branch.GitBranch(pages.folder.as_uri(), "gh-pages", where=pages.url)
    commit = branch.commit(branch.tip(), {"a": b"a"}, "second")
    site.put("README.md", "first\n")
    site.commit("first")
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 100)
    with pytest.raises(Temporary, match="changed meanwhile") as caught:
        branch.push(commit)
    assert caught.value.spread >= 100


def test_an_index_is_replaced_only_as_it_was_read(pages: Pages) -> None:
    repository = pages.opened()
    repository.publish(packed())
    before = repository.index()
    assert before is not None
    repository.rewrite(before, before + b"# audited\n")
    assert pages.git("show", "gh-pages:index.yaml").endswith("# audited")
    repository.rewrite(before, before + b"# audited\n")  # as it is already
    assert pages.commits() == ["Rewrite index.yaml", "Publish hello 1.0.0"]
    with pytest.raises(Conflict, match="changed meanwhile"):
        repository.rewrite(before, b"")
    assert repository.files() == {"hello-1.0.0.tgz": len(packed().tgz)}
    pages.opened().publish(packed("web"))
    assert repository.read("web-1.0.0.tgz") is None, (
        "what was looked at agrees with the index that was asked"
    )
    repository.index()
    assert repository.read("web-1.0.0.tgz") == packed("web").tgz


def test_absent_is_not_the_same_as_out_of_reach(pages: Pages, tmp_path: Path) -> None:
    assert pages.opened().charts() == []
    assert pages.opened().index() is None
    with pytest.raises(Unreachable, match="does not appear to be a git repository"):
        GitPagesRepository(f"git+{(tmp_path / 'missing').as_uri()}", {}).charts()
    with pytest.raises(Unreachable):
        GitPagesRepository(f"git+https://127.0.0.1:{free_port()}/x#b", {}).charts()


def test_refused_push_is_not_retried(pages: Pages) -> None:
    pages.hook("pre-receive", "echo 'only bots may push here'; exit 1")
    with pytest.raises(AccessRefused, match="only bots may push here") as raised:
        pages.opened().publish(packed())
    assert raised.value.where == f"{pages.url}#gh-pages"
    assert pages.commits() == []


def test_only_what_is_read_is_fetched(tmp_path: Path) -> None:
    pages = Pages(tmp_path / "pages.git", uploadpack__allowFilter="true")
    pages.opened().publish(packed("web"))
    pages.opened().publish(packed("api"))
    repository = pages.opened()
    repository.publish(packed())
    root = repository._branch._root
    tip = repository._branch.tip()
    assert tip is not None

    def missing() -> set[str]:
        asked = ["git", "rev-list", "--objects", "--missing=print", tip.commit]
        listed = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout
        return {line[1:] for line in listed.splitlines() if line.startswith("?")}

    assert missing() == {tip.files["web-1.0.0.tgz"], tip.files["api-1.0.0.tgz"]}
    sizes = {f"{name}-1.0.0.tgz": len(packed(name).tgz) for name in ("api", "hello", "web")}
    assert repository.files() == sizes
    assert missing() == set()


def test_nothing_is_left_in_the_scratch_folder(
    pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    repository = pages.opened()
    repository.publish(packed())
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    del repository
    assert list((tmp_path / "tmp").iterdir()) == []


def test_archives_that_others_put_there_are_found(pages: Pages, site: Repo) -> None:
    """In a folder, by an absolute URL as pages are served; what is not on the branch is named."""
    chart = packed()
    site.put("charts/hello-1.0.0.tgz", chart.tgz)
    site.put("charts/hello-1.0.0.tgz.prov", b"signed")
    entry = "  - {{name: {0}, version: 1.0.0, digest: {1}, urls: ['https://{2}/{0}-1.0.0.tgz']}}\n"
    site.put(
        "index.yaml",
        "apiVersion: v1\nentries:\n  gone:\n"
        + entry.format("gone", "0" * 64, "example.com/releases")
        + "  hello:\n"
        + entry.format("hello", chart.digest[7:], "owner.example.com/pages/charts"),
    )
    site.commit()
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    repository = pages.opened()
    published = repository.find("hello", "1.0.0")
    assert published is not None
    assert published.reference == f"{repository.url}/charts/hello-1.0.0.tgz@{chart.digest}"
    assert (published.archive.tgz, repository.provenance(published)) == (chart.tgz, b"signed")
    assert repository.publish(chart) == published
    with pytest.raises(EvidenceError, match="no such file is on the branch"):
        repository.find("gone", "1.0.0")
    with pytest.raises(EvidenceError, match="no such file is on the branch"):
        repository.publish(packed("gone"))


@pytest.mark.parametrize(
    "url", ["charts/hello-1.0.0.tgz", "https://owner.example.com/pages/hello-1.0.0.tgz"]
)
def test_an_archive_that_is_gone_is_given_back_with_the_very_bytes(
    pages: Pages, site: Repo, url: str
) -> None:
    chart = packed()
    digest = chart.digest.removeprefix("sha256:")
    site.put(
        "index.yaml",
        "apiVersion: v1\nentries:\n  hello:\n"
        f"  - {{name: hello, version: 1.0.0, digest: {digest}, urls: ['{url}']}}\n",
    )
    site.commit()
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    repository = pages.opened()
    before = pages.git("show", "gh-pages:index.yaml")
    with pytest.raises(ArchiveGone, match="no such file is on the branch"):
        repository.publish(packed(more="description: of other bytes\n"))
    published = repository.publish(chart)
    assert repository.find("hello", "1.0.0") == published and published.archive.tgz == chart.tgz
    assert pages.git("show", "gh-pages:index.yaml") == before


def test_what_lies_there_without_an_entry_is_completed_or_refused(pages: Pages, site: Repo) -> None:
    site.put("hello-1.0.0.tgz", packed().tgz)
    site.put("web-1.0.0.tgz", packed().tgz)
    site.put("api-1.0.0.tgz.prov", b"of another archive")
    site.commit()
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    with pytest.raises(EvidenceError, match=r"there is no index\.yaml"):
        pages.opened().publish(packed())
    site.put("index.yaml", "apiVersion: v1\nentries: {}\n")
    site.commit()
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    assert pages.opened().publish(packed()).archive_digest == packed().digest
    assert pages.opened().provenance(pages.opened().publish(packed("api"))) is None
    with pytest.raises(Conflict, match="another content"):
        pages.opened().publish(packed("web"))


def test_a_damaged_branch_is_refused(pages: Pages, site: Repo) -> None:
    pages.opened().publish(packed())
    site.git("pull", "-q", "--no-rebase", str(pages.folder), "gh-pages")
    site.put("hello-1.0.0.tgz", other().tgz)
    site.commit()
    site.git("push", "-q", str(pages.folder), "HEAD:refs/heads/gh-pages")
    with pytest.raises(
        EvidenceError, match=r"hello-1\.0\.0\.tgz: the archive has the digest sha256:"
    ):
        pages.opened().find("hello", "1.0.0")


KILLED = """
import sys
from pipeline_steps.repositories.kinds import open_writable
from tests.support.charts import packed
print(open_writable(sys.argv[1], {}).publish(packed()).reference)
"""


def test_a_publisher_killed_after_its_push_has_published(pages: Pages, tmp_path: Path) -> None:
    """The hook kills it when the branch has moved, before anything was read back."""
    pages.hook("post-receive", f"kill -9 $(cat '{tmp_path}/pid')")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    publisher = subprocess.Popen(
        [sys.executable, "-c", f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())){KILLED}",
         pages.url], env=environment, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert publisher.communicate(timeout=60)[0] == b""
    assert publisher.returncode == -9
    (pages.folder / "hooks/post-receive").unlink()
    commit = pages.git("rev-parse", "gh-pages")
    again = subprocess.run(
        [sys.executable, "-c", KILLED, pages.url],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.strip() == f"{pages.url}#gh-pages/hello-1.0.0.tgz@{packed().digest}"
    assert pages.git("rev-parse", "gh-pages") == commit
    assert pages.names() == ["hello-1.0.0.tgz", "index.yaml"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("server")
    bare(folder / "pages.git")
    with https(folder, "ci", PASSWORD) as serving:
        yield serving


def command_lines(stop: threading.Event) -> Iterator[bytes]:
    """What every process on this machine was started with, looked at all the time."""
    while not stop.is_set():
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield place.read_bytes()
            except OSError:
                continue
        time.sleep(0.002)


def test_login_is_in_no_argument_and_no_file(
    server: Serving, config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config.write_text(f"[credential]\nhelper = store --file={tmp_path}/store\n")
    hosts = {
        f"{server.host}/pages.git": Host(
            username="ci", password=PASSWORD, ca_file=str(server.ca_file)
        )
    }
    repository = GitPagesRepository(f"git+https://{server.host}/pages.git#charts", hosts)
    stop, looked = threading.Event(), tmp_path / "looked"

    def look() -> list[bytes]:
        lines = []
        for line in command_lines(stop):
            if b"git" in line:
                lines.append(line)
            if b"remote-https" in line:
                looked.touch()
        return lines

    hook = server.ca_file.parents[1] / "pages.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nwhile [ ! -e '{looked}' ]; do sleep 0.02; done\n")
    hook.chmod(0o755)
    with ThreadPoolExecutor(1) as pool, caplog.at_level("DEBUG"):
        seen = pool.submit(look)
        try:
            published = repository.publish(packed())
        finally:
            stop.set()
            hook.unlink()
    assert repository.find("hello", "1.0.0") == published
    lines = b"\n".join(seen.result())
    assert b"remote-https" in lines, "the server waited for the look"
    assert PASSWORD.encode() not in lines
    assert PASSWORD not in caplog.text + (repository._branch._root / "config").read_text()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("login", [Host("ci", "canary-wrong"), Host()])
def test_wrong_login_is_refused_without_showing_it(login: Host, server: Serving) -> None:
    server.asked.clear()
    host = msgspec.structs.replace(login, ca_file=str(server.ca_file))
    repository = GitPagesRepository(
        f"git+https://{server.host}/pages.git#none", {server.host: host}
    )
    with pytest.raises(AccessRefused) as raised:
        repository.charts()
    assert any(server.asked) == bool(login.password), "it was tried"
    assert "canary" not in str(raised.value)


def test_a_login_without_its_variable_is_asked_for_only_where_the_server_wants_one(
    server: Serving, tmp_path: Path
) -> None:
    unset = ConfigurationError("PAGES_PSW is not set")

    def opened(serving: Serving) -> GitPagesRepository:
        host = IncompleteHost(
            username="ci", ca_file=str(serving.ca_file), unset={"password": unset}
        )
        url = f"git+https://{serving.host}/pages.git#gh-pages"
        return GitPagesRepository(url, {serving.host: host})

    with pytest.raises(ConfigurationError, match="PAGES_PSW is not set"):
        opened(server).charts()
    pages = Pages(tmp_path / "pages.git")
    published = pages.opened().publish(packed())
    with https(tmp_path, "ci", PASSWORD, public=True) as serving:
        found = opened(serving).find("hello", "1.0.0")
        assert found and found.archive == published.archive
        with pytest.raises(ConfigurationError, match="PAGES_PSW is not set"):
            opened(serving).publish(packed(version="1.0.1"))


@pytest.mark.parametrize("major", [3, 4])
def test_helm_pulls_from_what_the_branch_serves(major: int, pages: Pages, tmp_path: Path) -> None:
    pages.opened().publish(packed("plus", "1.0.0+b.1"))
    pages.opened().publish(packed())
    clone = Repo(tmp_path / "served", tmp_path / "other", str(pages.folder))
    clone.git("checkout", "-q", "gh-pages")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clone.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        try:
            for name, version in (("hello", "1.0.0"), ("plus", "1.0.0+b.1")):
                source = ["--repo", f"http://127.0.0.1:{web.server_port}", "--version", version]
                pull = [str(helm(major)), "pull", name, *source]
                environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
                ran = subprocess.run(
                    pull, cwd=tmp_path, env=environment, capture_output=True, text=True
                )
                assert ran.returncode == 0, ran.stderr
                assert (tmp_path / f"{name}-{version}.tgz").read_bytes() == packed(
                    name, version
                ).tgz
        finally:
            web.shutdown()
            thread.join()
