"""The index.yaml on the branch of GitHub Pages: read, and replaced only if it did not change
meanwhile.

GitHub compares the sha of the blob that is replaced. Source: GitHub documentation, "Repository
contents", "Git database".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline_steps.repositories import index
from pipeline_steps.repositories.git_branch import object_id
from pipeline_steps.repositories.indexed import INDEX
from pipeline_steps.services.github import RAW, Github, decode, error_for, error_message
from pipeline_steps.toolbox.errors import Conflict, MachineError

BRANCH = "gh-pages"


class _Object(msgspec.Struct, frozen=True):
    """GitHub's answer about a git object."""

    sha: str


class _Stored(msgspec.Struct, frozen=True):
    """GitHub's answer about a committed file."""

    content: _Object


class Branch:
    """The index on the pages branch of one repository. where: names it in errors."""

    def __init__(self, github: Github, where: str) -> None:
        self._github = github
        self.where = f"{where}#{BRANCH}/{INDEX}"

    def read(self) -> bytes | None:
        """The current index; None when there is none."""
        path = f"/contents/{INDEX}?ref={BRANCH}"
        answer = self._github.call("GET", path, accept=RAW, allowed={404}, cap=index.LARGEST)
        if answer.status == 404:
            self._github.require_visible()
            return None
        return answer.body

    def replace(self, before: bytes | None, after: bytes, message: str) -> None:
        """Commit the index, if it is still `before`. Raises Conflict."""
        body = {"message": message, "content": base64.b64encode(after).decode(), "branch": BRANCH}
        if before is not None:
            # Compare-and-swap: GitHub refuses the commit when the blob is another one
            # by now.
            body["sha"] = object_id(before)
        answer = self._github.call("PUT", f"/contents/{INDEX}", body=body, allowed={409, 422})
        words = error_message(answer.body)
        # 409 may also mean that branch rules forbid the commit. 422 with "sha" means that the file
        # exists, while there was none when we read.
        if (answer.status == 409 and "violation" not in words) or (
            answer.status == 422 and '"sha"' in words
        ):
            raise Conflict(
                "the index was changed meanwhile", where=self.where, advice="run it again"
            )
        if answer.status in (409, 422):
            raise error_for(answer)
        if decode(answer, _Stored).content.sha != object_id(after):
            raise MachineError(
                "GitHub stored another index than the one that was sent",
                where=self.where,
                advice="run it again; somebody else may have written it meanwhile",
            )

    def create(self, data: bytes) -> bool:
        """Create the branch with the index as its only file; False when the branch exists."""
        if self._github.call("GET", f"/git/ref/heads/{BRANCH}", allowed={404}).status == 200:
            return False
        # Through the git API: the contents API cannot make a commit without a parent, and a branch
        # from the default one would publish all its files as pages.
        file = {"path": INDEX, "mode": "100644", "type": "blob", "content": data.decode()}
        tree = self._make("trees", {"tree": [file]})
        commit = self._make("commits", {"message": f"Begin {INDEX}", "tree": tree, "parents": []})
        new = {"ref": f"refs/heads/{BRANCH}", "sha": commit}
        answer = self._github.call("POST", "/git/refs", body=new, allowed={422}, idempotent=True)
        if answer.status == 422 and "exists" not in error_message(answer.body):
            raise error_for(answer)
        return answer.status == 201

    def _make(self, kind: str, fields: Mapping[str, Any]) -> str:
        return decode(
            self._github.call("POST", f"/git/{kind}", body=fields, idempotent=True), _Object
        ).sha
