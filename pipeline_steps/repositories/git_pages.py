"""A chart repository on a branch of a git repository, as GitHub and GitLab serve it: archives and index.yaml.

A chart is one commit (its archive, its .prov and its entry in the index), pushed without force onto the newest one:
nobody sees half of it, and of two publishers the second reads again what the first one did. Everything else on the
branch (README, CNAME, .nojekyll) stays.
"""

from __future__ import annotations

import functools
import logging
import posixpath
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import from_hosts
from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.repositories import index
from pipeline_steps.repositories.git_branch import GitBranch, Tip, object_id
from pipeline_steps.repositories.repository import (
    Guarantees,
    Publication,
    Published,
    conflict,
    twin_conflict,
)
from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, MachineError, PipelineError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.redact import redact

log = logging.getLogger(__name__)

INDEX = "index.yaml"
BRANCH = "gh-pages"
#: Seconds that all tries of one push may take together; a push takes a server about a second.
BUDGET = 300.0
#: Seconds of the longest pause before a try: who waits longer is overtaken for ever, who waits less pushes in vain.
LONGEST = 8.0
#: What one commit may publish: charts, bytes of their archives, seconds until they are complete (what a kill loses).
_CHARTS, _BYTES, _SECONDS = 200, 64 * 2**20, 10.0
#: Names of branches, as `git check-ref-format` allows them.
_WRONG = re.compile(r"^[-/]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|(\.lock|\.|/)(/|$)|^@?$")


class GitPagesRepository:
    """`url` is git+ssh://, git+https:// or git+file:// of a repository, #branch behind it (gh-pages without one)."""

    guarantees = Guarantees(
        atomic=True,
        words="archive, .prov and index entry are one commit, pushed without force: a publisher who comes second "
        "merges into what the first one pushed, and tries again",
    )

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        remote, mark, branch = url.removeprefix("git+").rstrip("/").partition("#")
        branch = branch if mark else BRANCH
        if _WRONG.search(branch):
            raise ConfigurationError(f"{branch!r} cannot be the name of a branch", where=redact(url))
        self.url = f"git+{remote}#{branch}"
        self._branch = _branch(remote, branch, hosts, self.url)
        self._lock = threading.Lock()
        self._parsed: tuple[str | None, index.Index] | None = None
        self._asked: Tip | None = None

    def standing(self, name: str, version: str) -> str | None:
        """See Repository: what the index says, or the archive's digest where it says none."""
        tip, entry = self._entry(name, version)
        if tip is None or entry is None:
            return None
        path = self._path(tip, entry)
        return self._reference(path, entry.digest or sha256(self._bytes(tip, path)))

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        tip, entry = self._entry(name, version)
        return self._published(tip, entry) if tip and entry else None

    def _entry(self, name: str, version: str) -> tuple[Tip | None, index.Entry | None]:
        tip = self._tip()
        return tip, self._index(tip).find(name, version)

    def _tip(self) -> Tip | None:
        return retry.call(self._branch.tip)

    def _index(self, tip: Tip | None) -> index.Index:
        commit = tip.commit if tip else None
        parsed = self._parsed
        if parsed is None or parsed[0] != commit:
            earlier = parsed[1] if parsed else None
            parsed = self._parsed = commit, index.Index(self._index_bytes(tip), f"{self.url}/{INDEX}", earlier)
        return parsed[1]

    def _index_bytes(self, tip: Tip | None) -> bytes | None:
        return self._read(tip, INDEX, index.LARGEST) if tip and INDEX in tip.files else None

    def _path(self, tip: Tip, entry: index.Entry) -> str:
        path = _placed(tip, entry.urls[0] if entry.urls else "")
        if path is None:
            what = f"{entry.name} {entry.version} has the URL {entry.urls[:1]}, and no such file is on the branch"
            raise EvidenceError(what, where=f"{self.url}/{INDEX}", advice="regenerate")
        return path

    def _bytes(self, tip: Tip, path: str) -> bytes:
        return self._read(tip, path, archives.LARGEST)

    def _read(self, tip: Tip, path: str, cap: int) -> bytes:
        """A file of the branch, which git may have to fetch now."""
        return retry.call(functools.partial(self._branch.read, tip.files[path], cap))

    def _reference(self, path: str, digest: str) -> str:
        return f"{self.url}/{path}@{digest}"

    def _published(self, tip: Tip, entry: index.Entry) -> Published:
        path = self._path(tip, entry)
        tgz = self._bytes(tip, path)
        reference = self._reference(path, sha256(tgz))
        if entry.digest and sha256(tgz) != entry.digest:
            what = f"the archive has the digest {sha256(tgz)}, the index says {entry.digest}"
            raise EvidenceError(what, where=reference, advice="restore the archive")
        found = archives.opened(tgz, reference)
        if (found.name, found.version) != (entry.name, entry.version):
            what = f"the archive holds the chart {found.name} {found.version}, the index says {entry.version}"
            raise EvidenceError(what, where=reference, advice="regenerate rebuilds the index")
        return Published(entry.name, entry.version, reference, found.tar_digest, sha256(tgz))

    def fetch(self, published: Published) -> bytes:
        """See Repository."""
        path, _, digest = published.reference.removeprefix(f"{self.url}/").rpartition("@")
        tip = self._tip()
        if tip is None or path not in tip.files:
            raise EvidenceError("the chart is not there any more", where=published.reference)
        tgz = self._bytes(tip, path)
        if sha256(tgz) != digest:
            raise EvidenceError(f"the archive has the digest {sha256(tgz)}, expected {digest}", where=self.url)
        return tgz

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        path = published.reference.removeprefix(f"{self.url}/").rpartition("@")[0]
        tip = self._tip()
        return self._bytes(tip, f"{path}.prov") if tip and f"{path}.prov" in tip.files else None

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """See Repository."""
        (outcome,) = self.publish_all([Publication(archive, provenance, created)])
        if isinstance(outcome, PipelineError):
            raise outcome
        return outcome

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """See Repository: a commit for each group."""
        for group in _groups(publications):
            with self._lock:
                outcomes = retry.call(functools.partial(self._publish, group), budget=BUDGET, longest=LONGEST)
            yield from outcomes

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        """One try, from the newest commit on: what an earlier one pushed is found there."""
        tip = self._branch.tip()
        draft = _Draft(self, tip, self._index(tip))
        outcomes = [draft.outcome(publication) for publication in group]
        if draft.made:
            commit = self._branch.commit(tip, draft.files(), _message(list(draft.made)))
            self._branch.push(commit)
            self._read_back(commit, draft)
        return outcomes

    def _read_back(self, commit: str, draft: _Draft) -> None:
        """What was pushed is there, whatever others pushed on top of it meanwhile."""
        tip = self._branch.tip()
        if tip is None or tip.commit != commit:
            there, known = tip.files if tip else {}, self._index(tip)
            meant = {path: None if data is None else object_id(data) for path, data in draft.added.items()}
            wrong = [path for path, identity in meant.items() if there.get(path) != identity]
            wrong += [f"the entry of {' '.join(one)}" for one in draft.made if known.find(*one) is None]
            if wrong:
                raise MachineError(f"pushed, but it is not there: {', '.join(wrong[:5])}", where=self.url)

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return versions_of.newest_first(entry.version for entry in self._index(self._tip()).versions(name))

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._index(self._tip()).names())

    def index(self) -> bytes | None:
        """See Classic."""
        self._asked = self._tip()
        return self._index_bytes(self._asked)

    def files(self) -> Mapping[str, int]:
        """See Classic: of the commit whose index was asked last, so that both agree. All its files are fetched."""
        tip = self._asked or self._tip()
        sizes = self._branch.sizes(tip) if tip else {}
        return {path: size for path, size in sizes.items() if path != INDEX}

    def read(self, name: str) -> bytes | None:
        """See Classic: of the commit whose index was asked last."""
        tip = self._asked or self._tip()
        path = _placed(tip, name) if tip else None
        return self._bytes(tip, path) if tip and path else None

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Classic."""
        with self._lock:
            retry.call(functools.partial(self._rewrite, before, after), budget=BUDGET, longest=LONGEST)

    def _rewrite(self, before: bytes | None, after: bytes) -> None:
        tip = self._branch.tip()
        there = self._index_bytes(tip)
        if there == after:  # also what a push did whose answer was lost
            return
        if there != before:
            raise Conflict("the index was changed meanwhile", where=f"{self.url}/{INDEX}", advice="start again")
        self._branch.push(self._branch.commit(tip, {INDEX: after}, f"Rewrite {INDEX}"))


class _Draft:
    """One commit to be, on top of `tip`: each publication is checked against what is there and what it adds itself.

    added: path → bytes of archives and .prov files, None for one that goes. made: (name, version) → what is new.
    """

    def __init__(self, repository: GitPagesRepository, tip: Tip | None, known: index.Index) -> None:
        self.added: dict[str, bytes | None] = {}
        self.made: dict[tuple[str, str], Published] = {}
        self._entries: list[dict[str, Any]] = []
        self._repository = repository
        self._tip = tip
        self._known = known

    def outcome(self, publication: Publication) -> Published | PipelineError:
        try:
            return self._outcome(publication.archive, publication.provenance, publication.created)
        except (Conflict, ConfigurationError, EvidenceError) as error:
            return error

    def _outcome(self, archive: Archive, provenance: bytes | None, created: str) -> Published:
        there = self._there(archive)
        if there:
            if there.tar_digest != archive.tar_digest:
                raise conflict(archive, there.tar_digest, there.reference)
            log.info("%s: already there", there.reference)
            return there
        known = [one.version for one in self._known.versions(archive.name)]
        known += [version for name, version in self.made if name == archive.name]
        bare = archive.version.partition("+")[0]
        twin = versions_of.twin(archive.version, (one for one in known if one.partition("+")[0] == bare))
        if twin:
            raise twin_conflict(archive, twin, self._repository.url)
        tgz = self._bytes(archive, provenance)
        path, digest = archive.file_name, sha256(tgz)
        fields = read_metadata(archives.unpack(tgz, path)["Chart.yaml"], path, strict=False).fields
        self._entries.append(index.entry(fields, digest, path, created))
        self.added[path] = tgz
        beside, before = f"{path}.prov", self._tip.files if self._tip else {}
        if provenance is not None or (beside in before and path not in before):  # one that was left is of other bytes
            self.added[beside] = provenance
        reference = self._repository._reference(path, digest)
        made = Published(archive.name, archive.version, reference, archive.tar_digest, digest)
        self.made[archive.name, archive.version] = made
        return made

    def _there(self, archive: Archive) -> Published | None:
        made = self.made.get((archive.name, archive.version))
        entry = self._known.find(archive.name, archive.version)
        if made or entry is None or self._tip is None:
            return made
        path = self._repository._path(self._tip, entry)
        if self._tip.files[path] == object_id(archive.tgz) and entry.digest == archive.digest:  # no need to fetch it
            reference = self._repository._reference(path, archive.digest)
            return Published(archive.name, archive.version, reference, archive.tar_digest, archive.digest)
        return self._repository._published(self._tip, entry)

    def _bytes(self, archive: Archive, provenance: bytes | None) -> bytes:
        """What to publish: an archive of the same tar that lies there without an entry, unless a .prov is of ours."""
        left = self._tip.files.get(archive.file_name) if self._tip else None
        if self._tip is None or left is None or left == object_id(archive.tgz):
            return archive.tgz
        tgz = self._repository._bytes(self._tip, archive.file_name)
        where = f"{self._repository.url}/{archive.file_name}"
        theirs = archives.tar_digest(tgz, where)
        if theirs != archive.tar_digest:
            raise conflict(archive, theirs, where)
        return tgz if provenance is None else archive.tgz

    def files(self) -> dict[str, bytes | None]:
        """Everything to commit, path → bytes."""
        return {**self.added, INDEX: self._known.with_entries(self._entries)}


def _branch(remote: str, branch: str, hosts: Mapping[str, Host], where: str) -> GitBranch:
    """Raises ConfigurationError for what is no URL of a repository, or has a login in it."""
    try:
        parts = urlsplit(remote)
        local = parts.scheme == "file" and parts.netloc in ("", "localhost")
        named = parts.scheme != "file" and bool(parts.hostname)
        if not (local or named) or not parts.path.strip("/") or parts.query:
            raise ValueError
    except ValueError:
        advice = "write git+https://host/path#branch, git+ssh://git@host/path#branch or git+file:///path#branch"
        raise ConfigurationError("not the URL of a git repository", where=redact(where), advice=advice)
    if parts.password or (parts.username and parts.scheme != "ssh"):
        advice = "write it into `hosts`, or leave it to git's own credential store"
        raise ConfigurationError("a login does not belong into a URL", where=redact(where), advice=advice)
    if parts.scheme != "https":
        return GitBranch(remote, branch, where=where)
    host, path = parts.netloc, parts.path.strip("/")
    _, entry = table.of(dict(hosts), f"{host}/{path}")
    return GitBranch(remote, branch, where=where, login=from_hosts(host, path, hosts), ca_file=entry.ca_file)


def _placed(tip: Tip, url: str) -> str | None:
    """The file of the branch that a URL in the index means, None without one.

    Relative ones are paths. Absolute ones end with the path, behind what the pages are served as.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = posixpath.normpath(unquote(parts.path)).lstrip("/")
    names = path.split("/")
    tails = ["/".join(names[start:]) for start in range(len(names))] if parts.netloc else [path]
    return next((tail for tail in tails if tail in tip.files), None)


def _groups(publications: Iterable[Publication]) -> Iterator[list[Publication]]:
    """What is published by one commit each."""
    group: list[Publication] = []
    size, deadline = 0, Deadline(None)
    for publication in publications:
        if not group:
            size, deadline = 0, Deadline(_SECONDS)
        group.append(publication)
        size += len(publication.archive.tgz)
        if len(group) == _CHARTS or size >= _BYTES or deadline.over:
            yield group
            group = []
    if group:
        yield group


def _message(made: Sequence[tuple[str, str]]) -> str:
    r"""The message of a commit.

    >>> _message([("hello", "1.0.0")]), _message([("hello", "1.0.0"), ("web", "2.0.0")])
    ('Publish hello 1.0.0', 'Publish 2 charts\n\nhello 1.0.0\nweb 2.0.0\n')
    """
    lines = [f"{name} {version}" for name, version in made]
    return f"Publish {lines[0]}" if len(lines) == 1 else "\n".join((f"Publish {len(lines)} charts", "", *lines, ""))
