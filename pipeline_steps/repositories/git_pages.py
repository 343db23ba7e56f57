"""A chart repository on a git branch, as GitHub and GitLab Pages serve it: archives and index.yaml.

Each group of charts is one commit (archives, .prov files, index entries), pushed without force onto
the newest commit: readers never see a part of it, and a publisher whose push comes second merges
and tries again. All other files on the branch stay (README, CNAME, .nojekyll).
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import from_hosts, login_problem
from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import index, index_rows, indexed
from pipeline_steps.repositories.git_branch import GitBranch, Tip, object_id
from pipeline_steps.repositories.indexed import INDEX, IndexedArchive, IndexWriter
from pipeline_steps.repositories.repository import (
    ArchiveGone,
    Publication,
    Published,
    archive_gone_error,
)
from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
)
from pipeline_steps.toolbox.redact import redact

log = logging.getLogger(__name__)

BRANCH = "gh-pages"
#: Seconds that all tries of one push may take together; a push takes a server about a second.
BUDGET = 600.0
#: Longest pause in seconds before a try: longer, and other publishers always come first; shorter,
#: and most pushes are rejected. Tries that take long are spread further (`GitBranch.push`).
LONGEST = 8.0
#: Seconds until a commit is complete, which is what a kill loses.
_SECONDS = 10.0
#: Names of branches, as `git check-ref-format` allows them.
_INVALID_BRANCH = re.compile(
    r"^[-/]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|(\.lock|\.|/)(/|$)|^@?$"
)


class GitPagesRepository(IndexWriter):
    """`url` is git+ssh://, git+https:// or git+file:// of a repository, with #branch (default
    gh-pages).

    Archive, .prov and index entry are one commit, pushed without force: a publisher who comes
    second merges into what the first one pushed, and tries again.
    """

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        remote, mark, branch = url.removeprefix("git+").rstrip("/").partition("#")
        branch = branch if mark else BRANCH
        if _INVALID_BRANCH.search(branch):
            raise ConfigurationError(
                f"{branch!r} cannot be the name of a branch",
                where=redact(url),
                advice="correct what follows the # of the URL",
            )
        self.url = f"git+{remote}#{branch}"
        self._branch = _open_branch(remote, branch, hosts, self.url)
        self._lock = threading.Lock()
        self._parsed: tuple[str | None, index.Index] | None = None
        self._index_tip: Tip | None = None

    def _tip(self) -> Tip | None:
        return retry.call(self._branch.tip)

    def _index(self) -> index.Index:
        return self._index_at(self._tip())

    def _index_at(self, tip: Tip | None) -> index.Index:
        """The index of a commit. Entries of the previous one that did not change are not parsed
        again.
        """
        commit = tip.commit if tip else None
        parsed = self._parsed
        if parsed is None or parsed[0] != commit:
            earlier = parsed[1] if parsed else None
            parsed = self._parsed = (
                commit,
                index.Index(self._index_bytes(tip), f"{self.url}/{INDEX}", earlier),
            )
        return parsed[1]

    def _index_bytes(self, tip: Tip | None) -> bytes | None:
        return self._read(tip, INDEX, index.LARGEST) if tip and INDEX in tip.files else None

    def _stored(self, name: str, version: str, *, first: bool = False) -> IndexedArchive | None:
        tip = self._tip()
        return self._archive_of(
            tip, index_rows.find_readable(self._index_at(tip), name, version, first=first)
        )

    def _archive_of(self, tip: Tip | None, entry: index.Entry | None) -> IndexedArchive | None:
        if tip is None or entry is None:
            return None
        name, version = entry.name, entry.version
        url = entry.urls[0] if entry.urls else ""
        path = indexed.find_file(url, tip.files)
        if path is None:
            problem = f"{name} {version} has the URL {url!r}, and no such file is on the branch"
            where, advice = f"{self.url}/{INDEX}", "restore the archive, or regenerate"
            if "://" in url:
                advice += (
                    "; archives on other hosts are read by the https:// URL of the repository, and "
                    "by regenerate --from"
                )
            raise archive_gone_error(entry.digest, problem, where=where, advice=advice)
        place = f"{self.url}/{path}"
        return IndexedArchive(
            entry, place, place, functools.partial(self._read, tip, path, archives.LARGEST)
        )

    def _read(self, tip: Tip, path: str, cap: int = archives.LARGEST) -> bytes:
        """A file of the branch; git may have to fetch it."""
        return retry.call(functools.partial(self._branch.read, tip.files[path], cap))

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        path = f"{published.place.removeprefix(f'{self.url}/')}.prov"
        tip = self._tip()
        return self._read(tip, path) if tip and path in tip.files else None

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """See Writable: one commit per group."""
        for group in indexed.group_publications(publications, seconds=_SECONDS):
            with self._lock:
                outcomes = retry.call(
                    functools.partial(self._publish, group), budget=BUDGET, longest=LONGEST
                )
            yield from outcomes

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        """One try, based on the newest commit; it also finds what a previous try has pushed."""
        tip = self._branch.tip()
        if tip and (INDEX not in tip.files or self._index_at(tip).is_cut):
            indexed.refuse_lost_index(tip.files, group, self.url)
        self._refuse_rejected_index(self._index_at(tip))
        draft = _Draft(self, tip)
        outcomes = [draft.outcome(publication) for publication in group]
        if draft.new:
            commit = self._branch.commit(tip, draft.files(), indexed.commit_message(draft.new))
            self._branch.push(commit)
            self._read_back(commit, draft)
        return outcomes

    def _read_back(self, commit: str, draft: _Draft) -> None:
        """Check that the pushed files are there, also when others pushed on top of them."""
        tip = self._branch.tip()
        # Another publisher pushed on top of ours, or rewrote the branch.
        if tip is None or tip.commit != commit:
            branch_files, current_index = tip.files if tip else {}, self._index_at(tip)
            expected_ids = {
                path: None if data is None else object_id(data)
                for path, data in draft.added.items()
            }
            wrong = [
                path
                for path, identity in expected_ids.items()
                if branch_files.get(path) != identity
            ]
            lost = [
                published
                for published in draft.new
                if current_index.find(published.name, published.version) is None
            ]
            wrong += [f"the entry of {published.name} {published.version}" for published in lost]
            if wrong:
                raise MachineError(
                    f"the push succeeded, but the branch does not have {', '.join(wrong[:5])}",
                    where=self.url,
                    advice="run it again; a hook or a rule of the server may change what is pushed",
                )

    def index(self) -> bytes | None:
        """See Indexed."""
        self._index_tip = self._tip()
        return self._index_bytes(self._index_tip)

    def files(self) -> Mapping[str, int]:
        """See Indexed: of the commit whose index was read last, so that both agree. Fetches all
        files.
        """
        tip = self._index_tip or self._tip()
        sizes = self._branch.sizes(tip) if tip else {}
        return {path: size for path, size in sizes.items() if path != INDEX}

    def read(self, name: str) -> bytes | None:
        """See Indexed: of the commit whose index was read last."""
        tip = self._index_tip or self._tip()
        path = indexed.find_file(name, tip.files) if tip else None
        return self._read(tip, path) if tip and path else None

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Rewritable."""
        with self._lock:
            retry.call(
                functools.partial(self._rewrite, before, after), budget=BUDGET, longest=LONGEST
            )

    def _rewrite(self, before: bytes | None, after: bytes) -> None:
        tip = self._branch.tip()
        current = self._index_bytes(tip)
        if current == after:  # also when a previous push succeeded and its answer was lost
            return
        if current != before:
            raise Conflict(
                "the index was changed meanwhile",
                where=f"{self.url}/{INDEX}",
                advice="run it again",
            )
        self._branch.push(self._branch.commit(tip, {INDEX: after}, f"Rewrite {INDEX}"))


class _Draft:
    """The next commit on top of `tip`, with a group of different versions.

    added: path → bytes of archives and .prov files, None to delete. new: the versions that it adds.
    """

    def __init__(self, repository: GitPagesRepository, tip: Tip | None) -> None:
        self.added: dict[str, bytes | None] = {}
        self.new: list[Published] = []
        self._entries: list[dict[str, Any]] = []
        self._repository = repository
        self._tip = tip
        self._files = tip.files if tip else {}
        self._index = repository._index_at(tip)

    def outcome(self, publication: Publication) -> Published | PipelineError:
        archive = publication.archive
        try:
            existing = self._repository._check_version_free(
                archive, self._existing(archive), self._index
            )
            if existing is None:
                return self._add(publication)
        except ArchiveGone as error:
            return self._restore_archive(archive) if error.digest == archive.digest else error
        except (Conflict, ConfigurationError, EvidenceError) as error:
            return error
        log.info("%s: already there", existing.reference)
        return existing

    def _existing(self, archive: Archive) -> Published | None:
        entry = self._index.find(archive.name, archive.version)
        stored = self._repository._archive_of(self._tip, entry)
        if stored is None:
            return None
        path = stored.place.removeprefix(f"{self._repository.url}/")
        # The listing of the branch has the ids: equal ids are equal bytes.
        if self._files[path] == object_id(archive.tgz) and stored.entry.digest == archive.digest:
            # The same bytes: no need to fetch them.
            return Published(stored.reference(archive.digest), archive)
        return stored.published()

    def _restore_archive(self, archive: Archive) -> Published:
        """Put the very archive again that the index names, where its URL says."""
        entry = self._index.find(archive.name, archive.version)
        path = indexed.path_of(entry.urls[0]) if entry and entry.urls else archive.file_name
        self.added[path] = archive.tgz
        log.warning("%s/%s: was lost, published again", self._repository.url, path)
        self.new.append(Published(f"{self._repository.url}/{path}@{archive.digest}", archive))
        return self.new[-1]

    def _add(self, publication: Publication) -> Published:
        archive, path = publication.archive, publication.archive.file_name
        place, provenance_path = f"{self._repository.url}/{path}", f"{path}.prov"
        leftover = archive.tgz if self._files.get(path) == object_id(archive.tgz) else None
        if leftover is None and path in self._files and self._tip:
            leftover = self._repository._read(self._tip, path)
        tgz = indexed.bytes_to_publish(publication, leftover, place)
        self._entries.append(
            indexed.new_entry(tgz, path, path, publication.created, archive.fields)
        )
        self.added[path] = tgz
        # A .prov without its archive signs other bytes.
        if publication.provenance is not None or (
            provenance_path in self._files and path not in self._files
        ):
            self.added[provenance_path] = publication.provenance
        stored = Archive(archive.name, archive.version, archive.tar_digest, tgz)
        self.new.append(Published(f"{place}@{stored.digest}", stored))
        return self.new[-1]

    def files(self) -> dict[str, bytes | None]:
        """All changes to commit, path → bytes."""
        return {**self.added, INDEX: self._index.with_entries(self._entries)}


def _open_branch(remote: str, branch: str, hosts: Mapping[str, Host], where: str) -> GitBranch:
    """The branch at a URL. Raises ConfigurationError for an invalid URL, or one with a login
    in it.
    """
    try:
        parts = urlsplit(remote)
        local = parts.scheme == "file" and parts.netloc in ("", "localhost")
        has_host = parts.scheme != "file" and bool(parts.hostname)
        if not (local or has_host) or not parts.path.strip("/") or parts.query:
            raise ValueError
    except ValueError:
        advice = (
            "write git+https://host/path#branch, git+ssh://git@host/path#branch or "
            "git+file:///path#branch"
        )
        raise ConfigurationError(
            "this is not the URL of a git repository", where=redact(where), advice=advice
        )
    # A user name alone belongs to ssh URLs (git@host) and may be a token in others.
    if parts.password or (parts.username and parts.scheme != "ssh"):
        advice = "write it into `hosts`, or leave it to git's own credential store"
        raise ConfigurationError("the URL has a login in it", where=redact(where), advice=advice)
    if parts.scheme != "https":
        return GitBranch(remote, branch, where=where)
    host, path = parts.netloc, parts.path.strip("/")
    _, entry = table.entry_for(hosts, f"{host}/{path}")
    login_error = login_problem(host, path, hosts)
    return GitBranch(
        remote,
        branch,
        where=where,
        login=None if login_error else from_hosts(host, path, hosts),
        login_error=login_error,
        ca_file=entry.ca_file,
    )
