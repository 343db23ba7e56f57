"""Charts as assets of GitHub releases, listed in an index.yaml on the branch of GitHub Pages.

A version's release is published first, its index entry last. Requests are sent one after the other,
as GitHub demands ("Best practices for using the REST API").
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import index, index_rows, indexed
from pipeline_steps.repositories.github_assets import Asset, Release, ReleaseRequest, Releases
from pipeline_steps.repositories.github_branch import BRANCH, Branch
from pipeline_steps.repositories.indexed import IndexedArchive, IndexWriter
from pipeline_steps.repositories.repository import (
    ArchiveGone,
    Publication,
    Published,
    content_conflict,
)
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

log = logging.getLogger(__name__)

SCHEME = "github-releases:"
#: Size of a group: files in releases that the index does not have yet, and seconds until a group is
#: complete.
GROUP, _SECONDS = 50, 10.0
#: First and longest pause in seconds after another publisher's commit; longer, and the others
#: would always come first.
FIRST, LONGEST = 0.2, 8.0
_PLACE = re.compile(r"[\w-]+/(?!\.+$)[\w.-]+", re.ASCII)


class _ReleasedChart(NamedTuple):
    """A version with a published release. entry: to add to the index; None when the index has
    it.
    """

    published: Published
    entry: dict[str, Any] | None = None


class GithubReleasesRepository(IndexWriter):
    """`url` is github-releases:owner/repo. Reading a public one needs no token.

    Of two contents for one version, the first whose release is published wins; the index is
    replaced only as it was read (GitHub compares its blob's sha).
    """

    def __init__(
        self, url: str, hosts: Mapping[str, Host], *, budget: float = retry.BUDGET
    ) -> None:
        place = url.removeprefix(SCHEME)
        if not _PLACE.fullmatch(place):
            raise ConfigurationError(
                "this is not a GitHub repository", where=url, advice=f"write {SCHEME}owner/repo"
            )
        self.url = url
        github = Github(place, hosts, budget=budget)
        self._releases, self._branch, self._budget = Releases(github), Branch(github, url), budget

    def resolve(self, name: str, version: str) -> str | None:
        """See Repository: from the index and GitHub's digest of the archive."""
        stored = self._stored(name, version)
        if stored is None:
            return None
        asset = self._releases.asset(self._asset_path(stored.place))
        if asset is None:
            raise stored.missing()
        return stored.reference(self._releases.digest(asset))

    def _index(self) -> index.Index:
        return index.Index(self.index(), self._branch.where)

    def _stored(self, name: str, version: str, *, first: bool = False) -> IndexedArchive | None:
        return self._archive_of(index_rows.find_readable(self._index(), name, version, first=first))

    def _archive_of(self, entry: index.Entry | None) -> IndexedArchive | None:
        if entry is None:
            return None
        name, version = entry.name, entry.version
        path = self._asset_path_of_url(entry.urls[0] if entry.urls else "", f"{name} {version}")
        place = f"{self.url}/{path}"
        return IndexedArchive(entry, place, place, functools.partial(self._releases.download, path))

    def _asset_path(self, place: str) -> str:
        """TAG/FILE of an asset, from its reference without digest."""
        return place.removeprefix(f"{self.url}/")

    def _asset_path_of_url(self, url: str, label: str) -> str:
        """TAG/FILE of an asset of this repository, from its URL."""
        if not url.lower().startswith(self._releases.downloads.lower()):
            problem = (
                f"{label} has the URL {url!r}, which is no asset of this repository's releases"
            )
            raise EvidenceError(
                problem, where=self._branch.where, advice="regenerate rebuilds the index"
            )
        return url[len(self._releases.downloads) :]

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return self._releases.download(f"{self._asset_path(published.place)}.prov")

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """See Writable: one release after the other, then the index once per group."""
        for group in indexed.group_publications(publications, seconds=_SECONDS, files=GROUP):
            yield from self._publish(group)

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        data = self.index()
        if data is None:
            assets = list(self._chart_assets())
            # Asked again after the archives: another publisher makes the index before its first.
            data = self.index()
            if data is None:
                indexed.refuse_lost_index(assets, group, self.url)
                self._branch.create(index.Index(None, "").data)
                data = self.index()
        current_index = index.Index(data, self._branch.where)
        if current_index.is_cut:
            indexed.refuse_lost_index(self._chart_assets(), group, self.url)
        self._refuse_rejected_index(current_index)
        outcomes: list[_ReleasedChart | PipelineError] = []
        for publication in group:
            try:
                outcomes.append(self._ensure_release(publication, current_index))
            except (Conflict, ConfigurationError, EvidenceError) as error:
                outcomes.append(error)
        new_charts = [
            outcome for outcome in outcomes if isinstance(outcome, _ReleasedChart) and outcome.entry
        ]
        # Last: helm downloads as soon as the index names a version.
        refused = self._update_index(new_charts) if new_charts else {}
        return [
            refused.get(outcome.published.reference, outcome.published)
            if isinstance(outcome, _ReleasedChart)
            else outcome
            for outcome in outcomes
        ]

    def _ensure_release(
        self, publication: Publication, current_index: index.Index
    ) -> _ReleasedChart:
        """Ensure that the release of a version is published."""
        archive = publication.archive
        stored = self._archive_of(current_index.find(archive.name, archive.version))
        try:
            existing = self._check_version_free(
                archive, stored.published() if stored else None, current_index
            )
        except ArchiveGone as error:
            if error.digest != archive.digest:
                raise
            log.warning("%s: was lost, published again", error.where)
            existing = None  # the very archive: its release gets it again, the index has it
        if existing:
            log.info("%s: already there", existing.reference)
            return _ReleasedChart(existing)
        request = ReleaseRequest(
            chart=archive.name,
            tag=_tag(archive),
            # no workflows are on that branch: a new tag could start them, with extra rights
            target=BRANCH,
            prerelease=versions_of.parse_strict(archive.version).pre != (),
            name=archive.file_name,
            tgz=archive.tgz,
            provenance=publication.provenance,
        )
        return self._released_chart(self._releases.ensure_published(request), publication)

    def _released_chart(self, release: Release, publication: Publication) -> _ReleasedChart:
        """The index entry for the stored archive, which may be another .tgz of the same tar."""
        archive = publication.archive
        asset = release.asset(archive.file_name)
        if asset is None:
            where = f"{self.url}/{release.tag_name}"
            raise MachineError(
                "the archive is not in the release after its upload",
                where=where,
                advice="run it again; look at the release on GitHub if it stays",
            )
        path = self._asset_path_of_url(asset.browser_download_url, archive.file_name)
        stored = self._uploaded_archive(asset, archive, f"{self.url}/{path}")
        entry = indexed.new_entry(stored.tgz, path, asset.browser_download_url, publication.created)
        return _ReleasedChart(Published(f"{self.url}/{path}@{stored.digest}", stored), entry)

    def _uploaded_archive(self, asset: Asset, archive: Archive, where: str) -> Archive:
        if asset.digest == archive.digest:
            return archive
        stored = archives.open_archive(self._releases.read(asset), where)
        if stored.tar_digest != archive.tar_digest:
            raise content_conflict(archive, stored.tar_digest, where)
        return stored

    def _update_index(self, new_charts: Sequence[_ReleasedChart]) -> dict[str, Conflict]:
        """Add entries to the index. Returns reference → reason for those that are refused."""
        # After publishing: what another publisher works on is a draft of the same name until then.
        self._releases.sweep({_tag(chart.published) for chart in new_charts})

        def commit_entries() -> dict[str, Conflict]:
            before = self.index()
            after, refused = _add_entries(before, new_charts, self._branch.where)
            if after is None or after == before:
                return refused
            try:
                self._branch.replace(
                    before, after, indexed.commit_message(chart.published for chart in new_charts)
                )
            except Conflict as error:
                raise Temporary(error.what, where=error.where) from error
            return refused

        return retry.call(commit_entries, budget=self._budget, first=FIRST, longest=LONGEST)

    def index(self) -> bytes | None:
        """See Indexed."""
        return self._branch.read()

    def files(self) -> Mapping[str, int]:
        """See Indexed: archives and .prov files of all releases, by URL."""
        assets = (
            asset
            for release in self._releases.all()
            if not release.draft
            for asset in release.assets
            if asset.is_complete
        )
        return {
            asset.browser_download_url: asset.size
            for asset in assets
            if asset.name.endswith((".tgz", ".prov"))
        }

    def _chart_assets(self) -> list[str]:
        """The archives in releases that are called like them, as publishers of charts do it."""
        return [
            asset.name
            for release in self._releases.all()
            for asset in release.assets
            if not release.draft and asset.name == f"{release.tag_name}.tgz"
        ]

    def read(self, name: str) -> bytes | None:
        """See Indexed."""
        return self._releases.download(self._asset_path_of_url(name, "a file"))

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Rewritable."""
        if before is not None or not self._branch.create(after):
            self._branch.replace(before, after, "Rewrite the index")


def _tag(chart: Archive | Published) -> str:
    """The tag of a version's release, as chart-releaser names it; the default of `release.tag`."""
    return f"{chart.name}-{chart.version}"


def _add_entries(
    data: bytes | None, new_charts: Sequence[_ReleasedChart], where: str
) -> tuple[bytes | None, dict[str, Conflict]]:
    """The index with new entries, and those refused because it has their version with other
    content.
    """
    current_index = index.Index(data, where)
    entries: dict[str, dict[str, Any]] = {}
    refused: dict[str, Conflict] = {}
    for published, entry in new_charts:
        existing = current_index.find(published.name, published.version)
        same_precedence = versions_of.other_build_metadata(
            published.version,
            (indexed.version for indexed in current_index.versions(published.name)),
        )
        # Looked at again in the index that is replaced now: the one at the beginning may be old.
        if same_precedence or (existing and existing.digest not in ("", published.archive_digest)):
            problem = (
                f"the index has {published.name} {same_precedence or published.version} with "
                "another content by now"
            )
            refused[published.reference] = Conflict(
                problem, where=where, advice="raise the version"
            )
        elif entry and not existing:
            entries[published.reference] = entry
    return current_index.with_entries(entries.values()) if entries else data, refused
