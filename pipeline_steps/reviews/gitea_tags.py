"""The release of a tag on Gitea, with files."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline_steps.reviews.review import REMOVED, require_same_commit
from pipeline_steps.services.gitea import Gitea, decode
from pipeline_steps.services.rest import segment
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import AccessRefused, Conflict, MachineError, UsageError


class _Rights(msgspec.Struct):
    """Of the account."""

    permissions: dict[str, bool] = {}


class _Commit(msgspec.Struct):
    sha: str


class _Tag(msgspec.Struct):
    """commit: what an annotated tag names, too."""

    commit: _Commit


class _Asset(msgspec.Struct):
    name: str
    size: int
    uuid: str


class _Release(msgspec.Struct):
    id: int
    html_url: str
    assets: tuple[_Asset, ...] = ()


class TagReleases:
    """The releases of one repository's tags. page: of the repository."""

    def __init__(self, gitea: Gitea, page: str) -> None:
        self._gitea, self._page = gitea, page

    def require_access(self) -> None:
        """Raise AccessRefused where the account may make no release."""
        rights = decode(self._gitea.call("GET", ""), _Rights)
        if not rights.permissions.get("push"):
            raise AccessRefused(
                "the account may not make releases",
                where=self._page,
                advice="give it write access, and the token the scope write:repository",
            )

    def publish(self, tag: Tag, title: str, text: str, files: Mapping[str, bytes]) -> str:
        """Make the release of a tag that is there, with these files (name → bytes); its page.

        What is there already stays: only files that are missing are added.

        Raises:
            UsageError: the server does not have the tag. Gitea would make one at another revision.
            Conflict: the tag names another commit there, or the release has a file of this name
                with other bytes.
        """
        answer = self._gitea.call("GET", f"/tags/{segment(tag.name)}", allowed=(404,))
        if answer.status == 404:
            self._gitea.require_visible()
            raise UsageError(
                f"there is no tag {tag.name}", where=self._page, advice="push the tag first"
            )
        require_same_commit(tag, decode(answer, _Tag).commit.sha, self._page)
        release = self._release(tag.name)
        if release is None:
            fields = {"tag_name": tag.name, "name": title, "body": text}
            # 409: another build was first; then it is there
            self._gitea.call("POST", "/releases", body=fields, allowed=(409,), idempotent=True)
            release = self._release(tag.name)
        if release is None:
            raise MachineError(
                "Gitea took the release and does not show it", where=self._page, advice=REMOVED
            )
        for name, data in files.items():
            self._put_asset(release, name, data)
        return release.html_url

    def _release(self, tag: str) -> _Release | None:
        answer = self._gitea.call("GET", f"/releases/tags/{segment(tag)}", allowed=(404,))
        return None if answer.status == 404 else decode(answer, _Release)

    def _put_asset(self, release: _Release, name: str, data: bytes) -> None:
        stored = [asset for asset in release.assets if asset.name == name]
        if not stored:
            path = f"/releases/{release.id}/assets?name={segment(name)}"
            answer = self._gitea.call("POST", path, body=data, kind="application/octet-stream")
            stored = [decode(answer, _Asset)]
        for asset in stored:
            url = f"{self._gitea.url}/attachments/{segment(asset.uuid)}"
            if self._gitea.call("GET", url).body != data:
                raise Conflict(
                    f"the release has {name} with other bytes",
                    where=release.html_url,
                    advice="raise the version: what was released is never replaced",
                )
