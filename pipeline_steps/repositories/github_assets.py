"""GitHub releases as storage for charts: one release per version, with archive and .prov as assets.

A release is created as a draft and published when complete. A release that a killed publisher or
another program left incomplete is completed; published files stay. Source: GitHub documentation,
"Releases" and "Release assets".
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Container, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

import msgspec

from pipeline_steps.charts import archive as archives
from pipeline_steps.services.github import BYTES, Github, decode, error_for
from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.errors import MachineError, PipelineError, Temporary, Unreachable
from pipeline_steps.toolbox.files import sha256

log = logging.getLogger(__name__)

#: Name of our drafts until they are published; drafts of people have other names and stay.
_DRAFT = "{tag} (being published)"


class Asset(msgspec.Struct, frozen=True):
    """A file of a release. digest: "sha256:" + hex; None for files older than this field. size: in
    bytes.
    """

    id: int
    name: str
    state: str
    size: int
    browser_download_url: str
    digest: str | None = None

    @property
    def is_complete(self) -> bool:
        return self.state == "uploaded"

    def is_stored_as(self, name: str) -> bool:
        """Whether it was uploaded as `name`; GitHub replaces some special characters, like +."""
        # Any character: which one GitHub takes instead is not documented.
        return bool(re.fullmatch(re.escape(name).replace(r"\+", "."), self.name))


class Release(msgspec.Struct, frozen=True):
    """A release or a draft. upload_url: an RFC 6570 template. html_url: its page."""

    id: int
    tag_name: str
    draft: bool
    upload_url: str
    html_url: str
    name: str | None = None
    assets: tuple[Asset, ...] = ()

    def asset(self, name: str) -> Asset | None:
        """The completely uploaded file with this name."""
        return next(
            (asset for asset in self.assets if asset.is_stored_as(name) and asset.is_complete), None
        )


class ReleaseRequest(NamedTuple):
    """A release to create. chart: its name. target: the branch for a missing tag, "" where the tag is
    there. name, tgz: of the archive.
    """

    chart: str
    tag: str
    target: str
    prerelease: bool
    name: str
    tgz: bytes
    provenance: bytes | None

    @property
    def files(self) -> list[tuple[str, bytes]]:
        """Names and bytes in the order of upload."""
        signature = [] if self.provenance is None else [(f"{self.name}.prov", self.provenance)]
        return [*signature, (self.name, self.tgz)]


class Releases:
    """The releases of one repository. downloads: prefix of the URLs of their assets."""

    def __init__(self, github: Github) -> None:
        self._github = github
        self.downloads = f"{github.web}/{github.repository}/releases/download/"

    def find(self, tag: str) -> Release | None:
        """The published release of a tag; GitHub does not find drafts by tag."""
        answer = self._github.call("GET", f"/releases/tags/{quote(tag)}", allowed={404})
        if answer.status == 404:
            # 404 also means that this login may not see a private repository: that must not look
            # like absence.
            self._github.require_visible()
            return None
        return decode(answer, Release)

    def all(self) -> Iterator[Release]:
        """All releases, and the drafts that this login may see."""
        return self._github.pages("/releases", Release)

    def asset(self, place: str) -> Asset | None:
        """The asset at TAG/FILE, escaped as in its URL; None when absent."""
        tag, _, name = unquote(place).rpartition("/")
        release = self.find(tag)
        return release.asset(name) if release else None

    def download(self, place: str) -> bytes | None:
        """The bytes of an asset from its public URL, else through the API, for private
        repositories; None when absent.
        """
        # First without the API: its rate limit counts each request, downloads do not.
        answer = self._github.get_anonymously(f"{self.downloads}{place}", cap=archives.LARGEST)
        if answer.status == 200:
            return answer.body
        if answer.status != 404:
            raise error_for(answer)
        asset = self.asset(place)
        return self.read(asset) if asset else None

    def read(self, asset: Asset) -> bytes:
        """The bytes of an asset through the API. GitHub redirects to a store, which gets no
        token.
        """
        path = f"/releases/assets/{asset.id}"
        return self._github.call("GET", path, accept=BYTES, cap=archives.LARGEST).body

    def digest(self, asset: Asset) -> str:
        """The asset's digest: GitHub's, else computed from its bytes."""
        return asset.digest or sha256(self.read(asset))

    def ensure_published(self, request: ReleaseRequest) -> Release:
        """The published release of the tag: created, completed, or as it is, with whatever archive
        it has.
        """
        release = self.find(request.tag) or self._create(request)
        # Nobody here leaves such a release, other programs do.
        if release.asset(request.name) is None:
            log.info("%s: its release has no archive, which is uploaded now", request.tag)
            self._upload(release, request)
            release = self._reload(release)
        return self._with_provenance(release, request)

    def _with_provenance(self, release: Release, request: ReleaseRequest) -> Release:
        """The release, with our .prov instead of one of another archive, if its archive is ours."""
        asset, current = release.asset(request.name), release.asset(f"{request.name}.prov")
        digest = sha256(request.tgz)
        if asset is None or self.digest(asset) != digest:
            return release
        if current is None and request.provenance is None:
            return release
        if current is not None:
            is_ours = request.provenance is not None and self.digest(current) == sha256(
                request.provenance
            )
            # A .prov names the archive that it is of.
            if is_ours or digest.encode() in self.read(current):
                return release
            self._remove(current)
        self._upload(release, request)
        return self._reload(release)

    def _create(self, request: ReleaseRequest) -> Release:
        """Publish a new release with its files; or return the one of a publisher who came first."""
        # A draft has no tag and no visitor: nobody sees a release without its archive.
        name = _DRAFT.format(tag=request.tag)
        fields = {**_release_fields(request), "name": name, "draft": True}
        draft = decode(
            self._github.call("POST", "/releases", body=fields, idempotent=True), Release
        )
        try:
            return self._publish(draft, request)
        except Unreachable:
            raise
        except MachineError:
            # Refused for good: every further run would leave another draft.
            with contextlib.suppress(PipelineError):
                self._discard(draft)
            raise

    def _publish(self, draft: Release, request: ReleaseRequest) -> Release:
        self._upload(draft, request)
        # All of it again: an update that does not name a draft's tag takes that from it.
        final = {
            **_release_fields(request),
            "name": request.tag,
            "draft": False,
            "make_latest": self._make_latest(request),
        }
        path = f"/releases/{draft.id}"
        answer = self._github.call("PATCH", path, body=final, allowed={404, 422}, idempotent=True)
        if answer.status == 200:
            return self._reload(draft)  # the URLs of its files have changed
        published = self.find(request.tag)
        if published is None:
            raise error_for(answer)
        log.info("%s: another publisher was first", request.tag)
        # Ours is the draft that lost; left there it would look like a release to come.
        self._discard(draft)
        return published

    def _make_latest(self, request: ReleaseRequest) -> str:
        """ "false" where the latest release has a higher version of the chart, whose place a fix of an
        older one must not take. Else "legacy", with which GitHub decides by date and version.
        """
        answer = self._github.call("GET", "/releases/latest", allowed={404})
        if answer.status == 404:
            return "legacy"
        chart, own = request.chart, _version_core(request.chart, request.name)
        latest = [_version_core(chart, asset.name) for asset in decode(answer, Release).assets]
        return "false" if any(core > own for core in latest) else "legacy"

    def _discard(self, draft: Release) -> None:
        """Remove our draft, unless it was published: by a request of ours whose answer got lost."""
        path = f"/releases/{draft.id}"
        answer = self._github.call("GET", path, allowed={404})
        if answer.status == 200 and decode(answer, Release).draft:
            self._github.call("DELETE", path, allowed={404})

    def _reload(self, release: Release) -> Release:
        return decode(self._github.call("GET", f"/releases/{release.id}"), Release)

    def _remove(self, asset: Asset) -> None:
        self._github.call("DELETE", f"/releases/assets/{asset.id}", allowed={404})

    def _upload(self, release: Release, request: ReleaseRequest) -> None:
        """Upload the missing files. When the draft is gone, publishing it fails later and tells."""
        for name, data in request.files:
            retry.call(
                functools.partial(self._upload_file, release, name, data),
                budget=self._github.budget,
            )

    def _upload_file(self, release: Release, name: str, data: bytes) -> None:
        """Upload a file. Raises Temporary when it is incomplete: a 502 of GitHub may leave a part
        ("starter").
        """
        url = f"{release.upload_url.partition('{')[0]}?{urlencode({'name': name})}"
        answer = self._github.call("POST", url, body=data, allowed={404, 422}, idempotent=True)
        if answer.status == 404:
            return
        if answer.status == 201:
            asset = decode(answer, Asset)
            is_intact = asset.is_complete and self.digest(asset) == sha256(data)
        else:
            stored = [
                candidate
                for candidate in self._github.pages(f"/releases/{release.id}/assets", Asset)
                if candidate.is_stored_as(name)
            ]
            if not stored:
                raise error_for(answer)
            # A previous try uploaded it, completely or in part.
            asset = stored[0]
            is_intact = asset.is_complete
        if not is_intact:
            self._remove(asset)
            raise Temporary(
                f"GitHub stored {name} incomplete or changed", where=release.tag_name, retry_after=0
            )

    def sweep(self, tags: Container[str]) -> None:
        """Remove the drafts that killed publishers left for releases that are published by now."""
        for release in self.all():
            if (
                release.draft
                and release.tag_name in tags
                and release.name == _DRAFT.format(tag=release.tag_name)
            ):
                self._discard(release)


def _release_fields(request: ReleaseRequest) -> dict[str, Any]:
    """What a draft and the release have in common."""
    fields = {"tag_name": request.tag, "prerelease": request.prerelease}
    # A commit that changes workflows needs a right that the token of Actions cannot have.
    return {**fields, "target_commitish": request.target} if request.target else fields


def _version_core(chart: str, name: str) -> tuple[int, ...]:
    """Major, minor and patch of the version that an archive of a chart is called after, which is all
    that GitHub leaves of some names; () for another file.

    >>> _version_core("hello", "hello-1.12.0+b.tgz"), _version_core("hello", "hello-world-1.12.0.tgz")
    ((1, 12, 0), ())
    """
    match = re.match(
        rf"{re.escape(chart)}-(\d{{1,18}})\.(\d{{1,18}})\.(\d{{1,18}})\b", name, re.ASCII
    )
    return tuple(map(int, match.groups())) if match else ()
