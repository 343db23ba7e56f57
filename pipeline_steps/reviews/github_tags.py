"""The release of a tag on GitHub, which has the chart as its asset.

Source: GitHub documentation, "Releases" and "Release assets", version 2022-11-28.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories.github_assets import Asset, Release, ReleaseRequest, Releases
from pipeline_steps.reviews.review import require_same_commit
from pipeline_steps.services.github import Github, decode
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import AccessRefused, Conflict, MachineError, UsageError

#: What GitHub calls the right to make releases, of a fine-grained token or an app.
RIGHT = "contents, write"


class _Rights(msgspec.Struct):
    """Of the account; an app's are not told."""

    permissions: dict[str, bool] = {}


class _Object(msgspec.Struct):
    """Of git: a commit, or a tag, which names another object."""

    type: str
    sha: str


class _Reference(msgspec.Struct):
    """A tag by name, or the object of an annotated one."""

    object: _Object


class TagReleases:
    """The releases of one repository's tags. page: of the repository."""

    def __init__(self, github: Github, page: str) -> None:
        self._github, self._page = github, page
        self._releases = Releases(github)

    def require_access(self) -> None:
        """Raise AccessRefused where there is no token, or its account may not push. An app learns
        it when it is refused.
        """
        self._github.require_token()
        permissions = decode(self._github.call("GET", ""), _Rights).permissions
        # False is an account's; of an app all of them are.
        if permissions.get("pull") and not permissions.get("push"):
            raise AccessRefused(
                "the token may not make releases",
                where=self._page,
                advice=f"the token needs the right: {RIGHT}",
            )

    def publish(self, tag: Tag, archive: Archive) -> str:
        """The page of the tag's release, made or completed with the chart as its asset.

        The release is a draft until its asset is there; what killed runs left of it is removed.

        Raises:
            UsageError: GitHub does not have the tag. It would make one.
            Conflict: the tag names another commit there, or the release has another chart of this
                name.
        """
        self._require_tag(tag)
        request = ReleaseRequest(
            chart=archive.name,
            tag=tag.name,
            target="",
            prerelease=versions.parse_strict(archive.version).pre != (),
            name=archive.file_name,
            tgz=archive.tgz,
            provenance=None,
        )
        release = self._releases.ensure_published(request)
        self._releases.sweep({tag.name})
        # Where the tag was removed meanwhile, GitHub has made another one.
        self._require_tag(tag)
        self._require_archive(release, archive)
        return release.html_url

    def _require_tag(self, tag: Tag) -> None:
        """Raise UsageError where GitHub does not have the tag, Conflict where it is another one."""
        answer = self._github.call("GET", f"/git/ref/tags/{quote(tag.name)}", allowed=(404,))
        if answer.status == 404:
            self._github.require_visible()
            raise UsageError(
                f"there is no tag {tag.name}", where=self._page, advice="push the tag first"
            )
        tagged = decode(answer, _Reference).object
        while tagged.type == "tag":
            tagged = self._github.get(f"/git/tags/{tagged.sha}", _Reference).object
        require_same_commit(tag, tagged.sha, self._page)

    def _require_archive(self, release: Release, archive: Archive) -> None:
        asset = release.asset(archive.file_name)
        if asset is None:
            raise MachineError(
                f"GitHub took {archive.file_name} and does not show it",
                where=release.html_url,
                advice="run it again; look at the release on GitHub if it stays",
            )
        if not self._has_tar(asset, archive, release.html_url):
            raise Conflict(
                f"the release has {archive.file_name} with another content",
                where=release.html_url,
                advice="raise the version: what was released is never replaced",
            )

    def _has_tar(self, asset: Asset, archive: Archive, where: str) -> bool:
        """Whether the asset is this chart; its .tgz may be another one of the same tar."""
        if asset.digest == archive.digest:
            return True
        stored = archives.open_archive(self._releases.read(asset), where)
        return stored.tar_digest == archive.tar_digest
