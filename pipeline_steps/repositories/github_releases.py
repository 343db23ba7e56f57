"""Charts as assets of GitHub releases, listed in an index.yaml on the branch that GitHub Pages serves.

A version's release comes first, its entry in the index last. Requests go one after the other, as GitHub asks ("Best
practices for using the REST API").
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.repositories import index
from pipeline_steps.repositories.github_assets import Asset, Release, Releases, Wanted
from pipeline_steps.repositories.github_branch import BRANCH, Branch
from pipeline_steps.repositories.repository import Guarantees, Publication, Published, conflict, twin_conflict
from pipeline_steps.services.github import Github
from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.files import sha256

log = logging.getLogger(__name__)

SCHEME = "github-releases:"
#: Versions that get their releases before the index names them.
GROUP = 50
#: Seconds of the first and the longest pause after another publisher's commit: who waits longer is overtaken again
#: and again.
FIRST, LONGEST = 0.2, 8.0
_PLACE = re.compile(r"[\w-]+/(?!\.+$)[\w.-]+", re.ASCII)


class _Ready(NamedTuple):
    """A version whose release stands. entry: for the index, None when that has it already."""

    published: Published
    entry: dict[str, Any] | None = None


class GithubReleasesRepository:
    """`url` is github-releases:owner/repo. Reading a public one needs no token."""

    guarantees = Guarantees(
        atomic=True,
        words="of two contents for one version, the first whose release is published wins; the index is replaced "
        "only as it was read (GitHub compares its blob's sha)",
    )

    def __init__(self, url: str, hosts: Mapping[str, Host], *, budget: float = retry.BUDGET) -> None:
        place = url.removeprefix(SCHEME)
        if not _PLACE.fullmatch(place):
            raise ConfigurationError("not a GitHub repository", where=url, advice=f"write {SCHEME}owner/repo")
        self.url = url
        github = Github(place, hosts, budget=budget)
        self._releases, self._branch, self._budget = Releases(github), Branch(github, url), budget

    def standing(self, name: str, version: str) -> str | None:
        """See Repository: the index, and the digest that GitHub computed of the archive."""
        entry = self._index().find(name, version)
        if entry is None:
            return None
        place = self._place(entry)
        asset = self._releases.asset(place)
        return self._reference(entry, self._releases.digest(asset) if asset else None)

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        entry = self._index().find(name, version)
        return self._published(entry) if entry else None

    def _published(self, entry: index.Entry) -> Published:
        tgz = self._releases.download(self._place(entry))
        reference = self._reference(entry, None if tgz is None else sha256(tgz))
        found = archives.opened(tgz or b"", reference)
        if (found.name, found.version) != (entry.name, entry.version):
            what = f"the archive holds the chart {found.name} {found.version}, the index says {entry.version}"
            raise EvidenceError(what, where=reference, advice="regenerate rebuilds the index")
        return Published(entry.name, entry.version, reference, found.tar_digest, found.digest)

    def _reference(self, entry: index.Entry, digest: str | None) -> str:
        """How an archive of this digest is called (None: there is none). Raises EvidenceError against the index."""
        where = f"{self.url}/{self._place(entry)}"
        if digest is None:
            raise EvidenceError("the index names this archive, which is missing", where=where, advice="regenerate")
        if entry.digest not in ("", digest):
            what = f"the archive has the digest {digest}, the index says {entry.digest}"
            raise EvidenceError(what, where=where, advice="restore the archive")
        return f"{where}@{digest}"

    def _index(self) -> index.Index:
        return index.Index(self.index(), self._branch.where)

    def _place(self, entry: index.Entry) -> str:
        return self._below(entry.urls[0] if entry.urls else "", f"{entry.name} {entry.version}")

    def _below(self, url: str, what: str) -> str:
        """TAG/FILE of an asset of this repository, as its URL writes them."""
        if not url.lower().startswith(self._releases.downloads.lower()):
            message = f"{what} has the URL {url!r}, which is no asset of this repository's releases"
            raise EvidenceError(message, where=self._branch.where, advice="regenerate rebuilds the index")
        return url[len(self._releases.downloads) :]

    def fetch(self, published: Published) -> bytes:
        """See Repository."""
        place, _, digest = published.reference.removeprefix(f"{self.url}/").rpartition("@")
        data = self._releases.download(place)
        if data is None:
            raise EvidenceError("the chart is not there any more", where=published.reference)
        if sha256(data) != digest:
            raise EvidenceError(f"the archive has the digest {sha256(data)}", where=published.reference)
        return data

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        place = published.reference.removeprefix(f"{self.url}/").rpartition("@")[0]
        return self._releases.download(f"{place}.prov")

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """See Repository."""
        (outcome,) = self.publish_all([Publication(archive, provenance, created)])
        if isinstance(outcome, PipelineError):
            raise outcome
        return outcome

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """See Repository: releases one by one, the index once for each group of them."""
        rest = iter(publications)
        while group := list(itertools.islice(rest, GROUP)):
            yield from self._publish(group)

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        data = self.index()
        if data is None:
            self._branch.begin(index.Index(None, "").data)
            data = self.index()
        known = index.Index(data, self._branch.where)
        outcomes: list[_Ready | PipelineError] = []
        for publication in group:
            before = [one.published for one in outcomes if isinstance(one, _Ready)]
            try:
                outcomes.append(self._ready(publication, known, before))
            except (Conflict, ConfigurationError, EvidenceError) as error:
                outcomes.append(error)
        new = [one for one in outcomes if isinstance(one, _Ready) and one.entry]
        refused = self._name(new) if new else {}
        return [
            refused.get(one.published.reference, one.published) if isinstance(one, _Ready) else one for one in outcomes
        ]

    def _ready(self, publication: Publication, known: index.Index, before: Sequence[Published]) -> _Ready:
        """Have the release of a version. known: the index; before: what is on its way into it."""
        archive = publication.archive
        entry = known.find(archive.name, archive.version)
        if entry:
            there = self._published(entry)
            if there.tar_digest != archive.tar_digest:
                raise conflict(archive, there.tar_digest, there.reference)
            log.info("%s: already there", there.reference)
            return _Ready(there)
        others = [one.version for one in known.versions(archive.name)]
        others += [one.version for one in before if one.name == archive.name]
        twin = versions_of.twin(archive.version, others)
        if twin:
            raise twin_conflict(archive, twin, self.url)
        wanted = Wanted(
            tag=_tag(archive),
            target=BRANCH,  # no workflow is there that a new tag could start, and GitHub asks for no right to such
            prerelease=versions_of.strict(archive.version).pre != (),
            name=archive.file_name,
            tgz=archive.tgz,
            provenance=publication.provenance,
        )
        return self._checked(self._releases.have(wanted), publication)

    def _checked(self, release: Release, publication: Publication) -> _Ready:
        """What the index is to say of a release: of the archive as it is stored, maybe another .tgz of the same tar."""
        archive = publication.archive
        asset = release.asset(archive.file_name)
        if asset is None:
            where = f"{self.url}/{release.tag_name}"
            raise MachineError("the archive is not in the release after its upload", where=where)
        place = self._below(asset.browser_download_url, archive.file_name)
        stored = self._stored(asset, archive, f"{self.url}/{place}")
        fields = read_metadata(archives.unpack(stored.tgz, place)["Chart.yaml"], place, strict=False).fields
        entry = index.entry(fields, stored.digest, asset.browser_download_url, publication.created)
        reference = f"{self.url}/{place}@{stored.digest}"
        return _Ready(Published(archive.name, archive.version, reference, stored.tar_digest, stored.digest), entry)

    def _stored(self, asset: Asset, archive: Archive, where: str) -> Archive:
        if asset.digest == archive.digest:
            return archive
        stored = archives.opened(self._releases.read(asset), where)
        if stored.tar_digest != archive.tar_digest:
            raise conflict(archive, stored.tar_digest, where)
        return stored

    def _name(self, new: Sequence[_Ready]) -> dict[str, Conflict]:
        """Put entries into the index, after what others put there meanwhile; reference → why it was refused."""
        self._releases.sweep({_tag(one.published) for one in new})

        def once() -> dict[str, Conflict]:
            before = self.index()
            after, refused = _named(before, new, self._branch.where)
            if after is None or after == before:
                return refused
            try:
                self._branch.replace(before, after, _message([one.published for one in new]))
            except Conflict as error:
                raise Temporary(error.what, where=error.where) from error
            return refused

        return retry.call(once, budget=self._budget, first=FIRST, longest=LONGEST)

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return versions_of.newest_first(entry.version for entry in self._index().versions(name))

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._index().names())

    def index(self) -> bytes | None:
        """See Classic."""
        return self._branch.read()

    def files(self) -> Mapping[str, int]:
        """See Classic: the archives and .prov files of all releases, by their URLs."""
        assets = (one for release in self._releases.all() if not release.draft for one in release.assets if one.whole)
        return {one.browser_download_url: one.size for one in assets if one.name.endswith((".tgz", ".prov"))}

    def read(self, name: str) -> bytes | None:
        """See Classic."""
        return self._releases.download(self._below(name, "a file"))

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Classic."""
        if before is not None or not self._branch.begin(after):
            self._branch.replace(before, after, "Rewrite the index")


def _tag(chart: Archive | Published) -> str:
    """The tag of a version's release: chart-releaser's, and the default of `release.tag`."""
    return f"{chart.name}-{chart.version}"


def _named(data: bytes | None, new: Sequence[_Ready], where: str) -> tuple[bytes | None, dict[str, Conflict]]:
    """The index with entries more, and, by reference, those refused: it has their versions with another content."""
    known = index.Index(data, where)
    entries: dict[str, dict[str, Any]] = {}
    refused: dict[str, Conflict] = {}
    for published, entry in new:
        there = known.find(published.name, published.version)
        twin = versions_of.twin(published.version, (one.version for one in known.versions(published.name)))
        if twin or (there and there.digest not in ("", published.archive_digest)):
            what = f"the index has {published.name} {twin or published.version} with another content by now"
            refused[published.reference] = Conflict(what, where=where, advice="raise the version")
        elif entry and not there:
            entries[published.reference] = entry
    return known.with_entries(entries.values()) if entries else data, refused


def _message(published: Sequence[Published]) -> str:
    """What a commit of the index says.

    >>> _message([Published("web", "1.0.0", "", "", "")] * 3)
    'Publish web 1.0.0 and 2 more'
    """
    first = f"Publish {published[0].name} {published[0].version}"
    return first if len(published) == 1 else f"{first} and {len(published) - 1} more"
