"""A double of GitHub's REST API that keeps state: releases, their assets, contents, git objects,
rate limits. `github_reviews` adds pull requests.

It answers as GitHub's published description says (the OpenAPI document of version 2022-11-28; what
that leaves open is said where it stands) at the addresses of GitHub Enterprise: /api/v3,
/api/uploads, and pages for people below /. Bytes of assets come from a store of another origin,
which refuses whoever brings a login. Requests that GitHub would not understand are refused, and
noted in `wrong`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.support.github_description import NotAsDescribed, description, enterprise

WRITE, READ, APP = "token-that-may-write", "token-that-may-read", "token-of-an-app"
#: Told in `Authorization` and nowhere else; tests look for them in everything that is printed.
TOKENS: Mapping[str, Literal["write", "read"]] = {WRITE: "write", READ: "read", APP: "write"}
JSON_LIMIT = 2**20

#: drop: nothing is done, the connection breaks. lose: it is done, the connection breaks before the
#: answer. half: of an upload, an asset in the state "starter" stays and a 502 is answered.
Fault = Literal["drop", "lose", "half"]


class Request(NamedTuple):
    """number: counted from 1. path: without the query."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, **error: str) -> None:
        super().__init__(message)
        errors = {"errors": [error]} if error else {}
        self.answer = Answer(
            status, {"message": message, **errors, "documentation_url": "", "status": str(status)}
        )


class Repository:
    """What one repository holds. Tags and branches are `refs`; a release is its JSON without URLs
    and assets.
    """

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.releases: dict[int, dict[str, Any]] = {}
        self.assets: dict[int, dict[str, Any]] = {}
        self.reviews: Any = None  # PullRequests, where github_reviews made them
        self.data: dict[int, bytes] = {}
        self.latest = 0  # the id of a release
        self.blobs: dict[str, bytes] = {}
        self.trees: dict[str, dict[str, str]] = {}
        self.commits: dict[str, tuple[str, list[str]]] = {}
        self.refs: dict[str, str] = {
            "refs/heads/main": self.commit(self.tree({"README.md": b"hello"}), [], "begin")
        }

    def blob(self, data: bytes) -> str:
        return self._object("blob", data, self.blobs, data)

    def tree(self, files: Mapping[str, bytes], base: Mapping[str, str] | None = None) -> str:
        names = {**(base or {}), **{name: self.blob(data) for name, data in files.items()}}
        lines = (f"100644 {name}\0".encode() + bytes.fromhex(names[name]) for name in sorted(names))
        return self._object("tree", b"".join(lines), self.trees, names)

    def commit(self, tree: str, parents: list[str], message: str) -> str:
        head = "".join(
            f"{line}\n" for line in (f"tree {tree}", *(f"parent {parent}" for parent in parents))
        )
        return self._object("commit", f"{head}\n{message}".encode(), self.commits, (tree, parents))

    def _object(self, kind: str, data: bytes, store: dict[str, Any], value: Any) -> str:
        sha = hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()
        store[sha] = value
        return sha

    def files(self, branch: str) -> dict[str, bytes]:
        """The files on a branch now."""
        tree = self.trees[self.commits[self.refs[f"refs/heads/{branch}"]][0]]
        return {name: self.blobs[sha] for name, sha in tree.items()}

    def put(self, branch: str, name: str, data: bytes) -> None:
        """Commit a file, as somebody else would."""
        ref = f"refs/heads/{branch}"
        parents = [self.refs[ref]] if ref in self.refs else []
        base = self.trees[self.commits[parents[0]][0]] if parents else {}
        self.refs[ref] = self.commit(self.tree({name: data}, base), parents, f"put {name}")

    def published(self) -> dict[str, dict[str, bytes]]:
        """Tag → name → bytes of the whole files of every published release."""
        return {
            release["tag_name"]: {
                asset["name"]: self.data[asset["id"]]
                for asset in self.assets.values()
                if asset["release"] == release["id"] and asset["state"] == "uploaded"
            }
            for release in self.releases.values()
            if not release["draft"]
        }


Route = Callable[["Github", Repository, Request, "re.Match[str]"], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Answer requests to a path below the repository with this function."""

    def register(function: Route) -> Route:
        ROUTES.append((method, re.compile(path), function))
        return function

    return register


ServerRoute = Callable[["Github", Request, "re.Match[str]"], Answer]
#: Paths outside of repositories.
SERVER_ROUTES: list[tuple[str, re.Pattern[str], ServerRoute]] = []


class Github:
    """The servers. fault: asked before each request to the API is answered; an Answer takes the
    place of GitHub's, and is judged as such.

    plus: the letter that is stored for + in names of assets. digests: does it compute those of
    assets? Every request and every answer is judged by GitHub's published descriptions, which
    complete answers, too.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        self.fault: Callable[[Request], Fault | Answer | None] = lambda _: None
        self.plus = "+"
        self.digests = True
        self.ids = itertools.count(1)
        self._lock = threading.Lock()
        self._api = running_server(self._answer_api)
        self._store = running_server(self._answer_store)
        self.web = f"http://127.0.0.1:{self._api.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to publish here."""
        return {"GITHUB_API_URL": f"{self.web}/api/v3", "GITHUB_TOKEN": WRITE}

    def repository(self, name: str, *, private: bool = False) -> Repository:
        return self.repositories.setdefault(name, Repository(private=private))

    def close(self) -> None:
        for server in (self._api, self._store):
            server.shutdown()
            server.server_close()

    def _answer_api(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        with self._lock:
            parts = urlsplit(target)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            number = len(self.requests) + 1
            request = Request(number, method, unquote(parts.path), query, headers, body)
            self.requests.append(request)
            path = _described(request)
            if path and (problem := self._problem(request, path)):
                return problem
            fault = self.fault(request)
            if isinstance(fault, Answer):
                return self._completed(request, path, fault) if path else fault
            if fault == "drop":
                return None
            try:
                answer = self._answer(request, half=fault == "half")
            except Refused as refused:
                answer = refused.answer
            if path:
                answer = self._completed(request, path, answer)
            return None if fault == "lose" else answer

    def _problem(self, request: Request, path: str) -> Answer | None:
        """The answer to a request that is not as described, which is noted in `wrong`."""
        try:
            for judge in (description(), enterprise()):
                judge.check_request(
                    request.method, path, request.query, request.headers, request.body
                )
        except NotAsDescribed as error:
            return self._noted(error)
        return None

    def _completed(self, request: Request, path: str, answer: Answer) -> Answer:
        """The whole answer, or another one where it is not as described."""
        method = request.method
        try:
            body = description().complete(method, path, answer.status, answer.body)
        except NotAsDescribed as error:
            return self._noted(error)
        return answer._replace(body=body)

    def _noted(self, error: NotAsDescribed) -> Answer:
        self.wrong.append(str(error))
        return Answer(501, {"message": str(error)})

    def _answer(self, request: Request, *, half: bool) -> Answer:
        if found := re.fullmatch(r"/([^/]+/[^/]+)/releases/download/(.+)/([^/]+)", request.path):
            return self._page(found[1], found[2], found[3])
        if found := re.fullmatch(r"/pages/([^/]+/[^/]+)/(.+)", request.path):
            pages = self.repositories[found[1]]
            data = (
                pages.files("gh-pages").get(found[2])
                if "refs/heads/gh-pages" in pages.refs
                else None
            )
            return Answer(404) if data is None else Answer(200, data)
        for method, pattern, answer in SERVER_ROUTES:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                return answer(self, request, match)
        if not (
            found := re.fullmatch(r"/api/(?:v3|(uploads))/repos/([^/]+/[^/]+)(/.*)?", request.path)
        ):
            return Answer(404, {"message": "Not Found"})
        repository = self._visible(request, found[2])
        if found[1]:
            below = re.fullmatch(r"/releases/(\d+)/assets", found[3] or "")
            if request.method != "POST" or not below:
                raise self._not_understood(request, "nothing is uploaded there")
            return _upload(self, repository, request, below, half=half)
        for method, pattern, function in ROUTES:
            match = pattern.fullmatch(found[3] or "")
            if match and method == request.method:
                return function(self, repository, request, match)
        raise self._not_understood(request, "there is no such thing")

    def _visible(self, request: Request, name: str) -> Repository:
        """The repository, when this login may do that. What is hidden from it is 404."""
        authorization = request.headers.get("Authorization")
        right = TOKENS.get(authorization.removeprefix("Bearer ")) if authorization else None
        if authorization and right is None:
            raise Refused(401, "Bad credentials")
        repository = self.repositories.get(name)
        if repository is None or (repository.private and right is None):
            raise Refused(404, "Not Found")
        if request.method != "GET" and right is None:
            raise Refused(401, "Requires authentication")
        if request.method != "GET" and right != "write":
            raise Refused(403, "Resource not accessible by personal access token")
        return repository

    def _page(self, name: str, tag: str, file: str) -> Answer:
        """What browsers and helm get: assets of published releases of public repositories."""
        repository = self.repositories.get(name)
        if repository is None or repository.private:
            return Answer(404, {"message": "Not Found"})
        for asset in repository.assets.values():
            release = repository.releases[asset["release"]]
            if not release["draft"] and (release["tag_name"], asset["name"]) == (tag, file):
                return self.stored(name, asset)
        return Answer(404, {"message": "Not Found"})

    def stored(self, name: str, asset: Mapping[str, Any]) -> Answer:
        """Send somebody to the bytes of an asset."""
        place = f"http://127.0.0.1:{self._store.server_port}/{name}/{asset['id']}?signature=secret"
        return Answer(302, None, {"Location": place})

    def _answer_store(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        if "Authorization" in headers:
            self.wrong.append("a login was sent to the store")
            return Answer(400, {"message": "Only one auth mechanism allowed"})
        owner, name, number = urlsplit(target).path.strip("/").split("/")
        return Answer(200, self.repositories[f"{owner}/{name}"].data[int(number)])

    def _not_understood(self, request: Request, why: str) -> Refused:
        self.wrong.append(f"{request.method} {request.path}: {why}")
        return Refused(422 if request.method != "GET" else 404, f"Invalid request: {why}")

    def fields(
        self, request: Request, needed: Mapping[str, type], more: Mapping[str, type] | None = None
    ) -> Any:
        """The body, an object with these fields and, maybe, more."""
        try:
            body = json.loads(request.body)
            allowed = {**needed, **(more or {})}
            good = set(needed) <= set(body) and all(
                isinstance(body[name], allowed[name]) for name in body
            )
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_understood(
                request, f"its body is not as described: {error!r}"
            ) from error
        if not good:
            raise self._not_understood(request, f"its body is not as described: {sorted(body)}")
        return body

    def release(
        self, name: str, repository: Repository, release: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A release as the API tells it."""
        api, number = f"{self.web}/api/v3/repos/{name}", release["id"]
        assets = [asset for asset in repository.assets.values() if asset["release"] == number]
        return {
            **release,
            "url": f"{api}/releases/{number}",
            "html_url": f"{self.web}/{name}/releases/tag/{_tag_in_urls(release)}",
            "upload_url": f"{self.web}/api/uploads/repos/{name}/releases/{number}/assets{{?name,label}}",
            "assets": [self.asset(name, repository, asset) for asset in assets],
        }

    def asset(self, name: str, repository: Repository, asset: Mapping[str, Any]) -> dict[str, Any]:
        """An asset as the API tells it. The tag is quoted in its URL and the name is not
        (helm/chart-releaser#406).
        """
        release = repository.releases[asset["release"]]
        tag = _tag_in_urls(release)
        return {
            **{key: value for key, value in asset.items() if key != "release"},
            "url": f"{self.web}/api/v3/repos/{name}/releases/assets/{asset['id']}",
            "browser_download_url": f"{self.web}/{name}/releases/download/{tag}/{asset['name']}",
        }

    def name(self, repository: Repository) -> str:
        return next(
            name for name, repository_ in self.repositories.items() if repository_ is repository
        )

    def page(self, request: Request, items: list[Any]) -> Answer:
        """One page of a list, with a link to the next."""
        size, number = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        if size > 100:
            raise self._not_understood(request, "a page has at most 100 items")
        query = urlencode({**request.query, "per_page": size, "page": number + 1})
        following = f"{self.web}{quote(request.path)}?{query}"
        more = {"Link": f'<{following}>; rel="next"'} if len(items) > size * number else {}
        return Answer(200, items[size * (number - 1) : size * number], more)


def _described(request: Request) -> str:
    """The path as the description names it; "" for GraphQL, and what people and helm read."""
    found = re.fullmatch(r"/api/(?:v3|uploads)(/.*)", request.path)
    return found[1] if found else ""


def _tag_in_urls(release: Mapping[str, Any]) -> str:
    return f"untagged-{release['id']:020x}" if release["draft"] else quote(release["tag_name"])


@route("GET", "")
def _describe_repository(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    right = TOKENS.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
    settings = repository.reviews.settings if repository.reviews and right == "write" else {}
    release = {
        "full_name": hub.name(repository),
        "private": repository.private,
        "permissions": {
            "admin": False, "maintain": False, "push": right == "write", "triage": False,
            "pull": True,
        },
    }  # fmt: skip
    return Answer(200, {**release, **settings})


@route("GET", "/releases")
def _releases(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """Drafts are told to those who may write."""
    writes = TOKENS.get(request.headers.get("Authorization", "").removeprefix("Bearer ")) == "write"
    newest = sorted(repository.releases.values(), key=lambda release: -int(release["id"]))
    answers = [
        hub.release(hub.name(repository), repository, release)
        for release in newest
        if writes or not release["draft"]
    ]
    return hub.page(request, answers)


RELEASE = {
    "tag_name": str, "target_commitish": str, "name": str, "body": str, "draft": bool, "prerelease": bool,
    "make_latest": str,
}  # fmt: skip


@route("POST", "/releases")
def _new_release(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    fields = hub.fields(request, {"tag_name": str}, RELEASE)
    make_latest = fields.pop("make_latest", "true")
    app = request.headers.get("Authorization", "").removeprefix("Bearer ") == APP
    if app and re.fullmatch("[0-9a-f]{40}", fields.get("target_commitish", "")):
        # Of a commit that changes workflows, the tag there or not (cli/cli#9514).
        raise Refused(403, "Resource not accessible by integration")
    fresh = {
        "target_commitish": "main",
        "name": None,
        "draft": False,
        "prerelease": False,
        **fields,
    }
    _publishable(repository, fresh)
    release = repository.releases.setdefault(number := next(hub.ids), {"id": number, **fresh})
    _make_latest(repository, release, make_latest)
    return Answer(201, hub.release(hub.name(repository), repository, release))


@route("PATCH", r"/releases/(\d+)")
def _changed_release(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    fields = hub.fields(request, {}, RELEASE)
    if (make_latest := fields.pop("make_latest", "true")) not in ("true", "false", "legacy"):
        raise Refused(
            422, "Validation Failed", resource="Release", code="invalid", field="make_latest"
        )
    release = _release(repository, int(match[1]))
    if release["draft"]:  # seen on GitHub (tauri-apps/tauri-action#914)
        fields = {"tag_name": f"untagged-{release['id']:020x}", **fields}
    _publishable(repository, {**release, **fields})
    release.update(fields)
    _make_latest(repository, release, make_latest)
    return Answer(200, hub.release(hub.name(repository), repository, release))


def _make_latest(repository: Repository, release: Mapping[str, Any], choice: str) -> None:
    """ "legacy" goes by the date of the commit ("Get the latest release"): here each one is newer."""
    if choice != "false" and not release["draft"] and not release["prerelease"]:
        repository.latest = release["id"]


@route("GET", "/releases/latest")
def _latest_release(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    release = _release(repository, repository.latest)
    return Answer(200, hub.release(hub.name(repository), repository, release))


def _release(repository: Repository, number: int) -> dict[str, Any]:
    if number not in repository.releases:
        raise Refused(404, "Not Found")
    return repository.releases[number]


def _publishable(repository: Repository, release: Mapping[str, Any]) -> None:
    """Any number of drafts may have a tag, one published release. Its tag is made where there is
    none.
    """
    target = release["target_commitish"]
    pushed = repository.reviews and repository.reviews.git
    commit = pushed.tip(target) if pushed else repository.refs.get(f"refs/heads/{target}")
    commit = commit or target
    if commit not in repository.commits and not (pushed and pushed.has(commit)):
        raise Refused(
            422, "Validation Failed", resource="Release", code="invalid", field="target_commitish"
        )
    if release["draft"]:
        return
    for other in repository.releases.values():
        if (
            not other["draft"]
            and other["tag_name"] == release["tag_name"]
            and other["id"] != release.get("id")
        ):
            raise Refused(
                422,
                "Validation Failed",
                resource="Release",
                code="already_exists",
                field="tag_name",
            )
    tag = f"refs/tags/{release['tag_name']}"
    if not pushed:
        repository.refs.setdefault(tag, commit)
    elif not pushed.git("for-each-ref", tag):
        pushed.git("update-ref", tag, commit)


@route("GET", r"/releases/(\d+)")
def _one_release(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    return Answer(
        200, hub.release(hub.name(repository), repository, _release(repository, int(match[1])))
    )


@route("DELETE", r"/releases/(\d+)")
def _removed_release(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    number = _release(repository, int(match[1]))["id"]
    del repository.releases[number]
    for asset in [
        candidate for candidate in repository.assets.values() if candidate["release"] == number
    ]:
        del repository.assets[asset["id"]]
    return Answer(204)


@route("GET", "/releases/tags/(.+)")
def _release_of_tag(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    for release in repository.releases.values():
        if release["tag_name"] == match[1] and not release["draft"]:
            return Answer(200, hub.release(hub.name(repository), repository, release))
    raise Refused(404, "Not Found")


@route("GET", r"/releases/(\d+)/assets")
def _assets(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    number = _release(repository, int(match[1]))["id"]
    assets = [asset for asset in repository.assets.values() if asset["release"] == number]
    return hub.page(
        request, [hub.asset(hub.name(repository), repository, asset) for asset in assets]
    )


def _upload(
    hub: Github, repository: Repository, request: Request, match: re.Match[str], *, half: bool
) -> Answer:
    number = _release(repository, int(match[1]))["id"]
    if "name" not in request.query or "Content-Type" not in request.headers or not request.body:
        raise Refused(422, "Bad Size or missing name")
    name = re.sub(r"[^\w.+-]", ".", request.query["name"]).replace("+", hub.plus)
    if any(
        asset["release"] == number and asset["name"] == name for asset in repository.assets.values()
    ):
        raise Refused(
            422, "Validation Failed", resource="ReleaseAsset", code="already_exists", field="name"
        )
    asset = {
        "id": next(hub.ids),
        "release": number,
        "name": name,
        "label": "",
        "content_type": "",
        "size": 0,
    }
    repository.assets[asset["id"]] = asset
    if half:
        asset.update(state="starter", digest=None)
        return Answer(502, {"message": "Server Error"})
    digest = f"sha256:{hashlib.sha256(request.body).hexdigest()}" if hub.digests else None
    asset.update(state="uploaded", size=len(request.body), digest=digest)
    repository.data[asset["id"]] = request.body
    return Answer(201, hub.asset(hub.name(repository), repository, asset))


def _asset(repository: Repository, number: int) -> dict[str, Any]:
    if number not in repository.assets:
        raise Refused(404, "Not Found")
    return repository.assets[number]


@route("GET", r"/releases/assets/(\d+)")
def _one_asset(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    asset, name = _asset(repository, int(match[1])), hub.name(repository)
    if request.headers["Accept"] == "application/octet-stream":
        return hub.stored(name, asset)
    return Answer(200, hub.asset(name, repository, asset))


@route("DELETE", r"/releases/assets/(\d+)")
def _removed_asset(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    del repository.assets[_asset(repository, int(match[1]))["id"]]
    return Answer(204)


@route("GET", "/contents/([^/]+)")
def _content(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    branch = request.query.get("ref", "main")
    if f"refs/heads/{branch}" not in repository.refs:
        raise Refused(404, f"No commit found for the ref {branch}")
    data = repository.files(branch).get(match[1])
    if data is None:
        raise Refused(404, "Not Found")
    if request.headers["Accept"] == "application/vnd.github.raw+json":
        return Answer(200, data)
    small = len(data) <= JSON_LIMIT
    content = {
        "content": base64.encodebytes(data).decode() if small else "",
        "encoding": "base64" if small else "none",
    }
    return Answer(
        200, {"path": match[1], "sha": repository.blob(data), "size": len(data), **content}
    )


@route("PUT", "/contents/([^/]+)")
def _new_content(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    fields = hub.fields(request, {"message": str, "content": str}, {"sha": str, "branch": str})
    branch, name = fields.get("branch", "main"), match[1]
    if f"refs/heads/{branch}" not in repository.refs:
        raise Refused(404, f"Branch {branch} not found")
    current = repository.files(branch).get(name)
    if current is not None and "sha" not in fields:
        raise Refused(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    if "sha" in fields and (current is None or repository.blob(current) != fields["sha"]):
        raise Refused(409, f"{name} does not match {fields['sha']}")
    data = base64.b64decode(fields["content"], validate=True)
    repository.put(branch, name, data)
    sha = {"sha": repository.blob(data)}
    commit = {"sha": repository.refs[f"refs/heads/{branch}"]}
    return Answer(201 if current is None else 200, {"content": sha, "commit": commit})


@route("GET", "/git/ref/(.+)")
def _ref(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    ref = f"refs/{match[1]}"
    if repository.reviews and ref not in repository.refs:
        pushed = repository.reviews.git.git(
            "for-each-ref", "--format=%(objecttype) %(objectname)", ref
        )
        if pushed:
            kind, sha = pushed.split()
            return Answer(200, {"ref": ref, "object": {"type": kind, "sha": sha}})
    if ref not in repository.refs:
        raise Refused(404, "Not Found")
    return Answer(200, {"ref": ref, "object": {"type": "commit", "sha": repository.refs[ref]}})


@route("GET", "/git/tags/([0-9a-f]{40})")
def _tag(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    data = repository.reviews.git.git("cat-file", "tag", match[1])
    named = dict(line.split(" ", 1) for line in data.splitlines()[:2])
    return Answer(200, {"object": {"type": named["type"], "sha": named["object"]}})


@route("POST", "/git/refs")
def _new_ref(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    fields = hub.fields(request, {"ref": str, "sha": str})
    if fields["ref"] in repository.refs:
        raise Refused(422, "Reference already exists")
    if not fields["ref"].startswith("refs/") or fields["sha"] not in repository.commits:
        raise Refused(422, "Object does not exist")
    repository.refs[fields["ref"]] = fields["sha"]
    return Answer(201, {"ref": fields["ref"], "object": {"type": "commit", "sha": fields["sha"]}})


@route("POST", "/git/trees")
def _new_tree(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    fields = hub.fields(request, {"tree": list}, {"base_tree": str})
    files = {
        entry["path"]: entry["content"].encode()
        for entry in fields["tree"]
        if entry["mode"] == "100644"
    }
    return Answer(
        201, {"sha": repository.tree(files, repository.trees.get(fields.get("base_tree", "")))}
    )


@route("POST", "/git/commits")
def _new_commit(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    fields = hub.fields(request, {"message": str, "tree": str}, {"parents": list})
    if fields["tree"] not in repository.trees:
        raise Refused(422, "Tree SHA does not exist")
    return Answer(
        201,
        {"sha": repository.commit(fields["tree"], fields.get("parents", []), fields["message"])},
    )


Serve = Callable[[str, str, Mapping[str, str], bytes], Answer | None]


def running_server(serve: Serve) -> http.server.ThreadingHTTPServer:
    """A running server on a free port of this machine; where `serve` has no answer, the connection
    breaks.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = (
            -1
        )  # head and body in one packet: else each answer waits 40 ms for an acknowledgement

        def do(self) -> None:
            promised = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(promised)
            if len(body) < promised:  # whoever sent it was killed
                self.close_connection = True
                return
            answer = serve(self.command, self.path, dict(self.headers), body)
            if answer is None:
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()
                self.close_connection = True
                return
            data = (
                answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            )
            data = b"" if answer.body is None else data
            self.send_response_only(answer.status)
            for name, value in {"Date": formatdate(usegmt=True), **answer.headers}.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do

        def log_message(self, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a connection that was broken on purpose

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    return server


@contextlib.contextmanager
def github(*names: str, private: bool = False) -> Iterator[Github]:
    """A GitHub with these repositories, "owner/name"."""
    hub = Github()
    try:
        for name in names:
            hub.repository(name, private=private)
        yield hub
    finally:
        hub.close()
