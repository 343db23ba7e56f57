"""A double of ChartMuseum: its paths, statuses and words, charts in memory.

The real one is in none of the package sources the tests may use. Source of what it answers:
ChartMuseum 0.16, pkg/chartmuseum/server/multitenant and router/match.go. Like the real one it looks
before it writes without a lock, and answers index questions from what it has in memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tests.support.scripted import Answer, Request, scripted

_JSON = {"Content-Type": "application/json; charset=utf-8"}


class Museum:
    """One server, a repository for each tenant of `depth` path segments.

    files: path below the tenant's storage → bytes. index: the same path of a .tgz → its entry,
    which appears only when the index was asked `lag` times after an upload. login: (user, password)
    for basic authentication; realm: the URL of a token server, whose tokens are the scopes they
    stand for. context: what `--context-path` says. fault: asked first, answers instead.
    """

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.context = ""
        self.host = ""
        self.requests: list[Request] = []
        self.files: dict[str, bytes] = {}
        self.index: dict[str, dict[str, Any]] = {}
        self.lag = 0
        self.login: tuple[str, str] | None = None
        self.realm = ""
        self.fault: Callable[[Request], Answer | None] = lambda request: None
        self._hidden = 0

    @property
    def url(self) -> str:
        return f"chartmuseum+http://{self.host}"

    def answer(self, request: Request) -> Answer:
        return self.fault(request) or self._route(request)

    def _route(self, request: Request) -> Answer:
        path = unquote(urlsplit(request.path).path)
        parts = (
            path.removeprefix(self.context).split("/")[1:]
            if path.startswith(self.context)
            else [""]
        )
        api = parts[0] == "api"
        start = 1 if api else 0
        tenant = "".join(f"{part}/" for part in parts[start : start + self.depth])
        tail = tuple(parts[start + self.depth :])
        post = request.method == "POST"
        handlers: dict[tuple[bool, bool, str, int], Callable[[], Answer]] = {
            (False, False, "index.yaml", 1): lambda: (
                200,
                {"Content-Type": "application/x-yaml"},
                self._yaml(tenant),
            ),
            (False, False, "charts", 2): lambda: self._file(tenant, tail[1]),
            (True, False, "charts", 1): lambda: _json(200, self._charts(tenant)),
            (True, False, "charts", 2): lambda: self._chart(tenant, tail[1]),
            (True, False, "charts", 3): lambda: self._version(tenant, tail[1], tail[2]),
            (True, True, "charts", 1): lambda: self._upload(tenant, request),
            (True, True, "prov", 1): lambda: self._provenance(tenant, request.body),
        }
        handler = handlers.get((api, post, tail[0] if tail else "", len(tail)))
        if handler is None or request.method not in ("GET", "POST"):
            return _json(404, {"error": "not found"})
        return self._unauthorized(request, tenant, "push" if post else "pull") or handler()

    def _unauthorized(self, request: Request, tenant: str, action: str) -> Answer | None:
        authorization = request.headers.get("Authorization", "")
        if self.realm:
            scope = f"artifact-repository:{tenant.rstrip('/') or 'repo'}:{action}"
            expected, challenge = (
                f"Bearer {scope}",
                f'Bearer realm="{self.realm}",service="museum",scope="{scope}"',
            )
        elif self.login:
            expected = f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}"
            challenge = 'Basic realm="ChartMuseum"'
        else:
            return None
        status, headers, body = _json(401, {"error": "unauthorized"})
        return (
            None
            if authorization == expected
            else (status, {**headers, "WWW-Authenticate": challenge}, body)
        )

    def _charts(self, tenant: str) -> dict[str, list[dict[str, Any]]]:
        """The index as it is shown now, each chart's versions newest first."""
        shown = list(self.index.items())
        if self._hidden:
            self._hidden -= 1
            shown = shown[:-1]
        by_name: dict[str, list[dict[str, Any]]] = {}
        for path, entry in shown:
            if path.rpartition("/")[0] == tenant.rstrip("/"):
                by_name.setdefault(entry["name"], []).append(entry)
        return {
            name: sorted(by_name[name], key=lambda entry: _order(entry["version"]), reverse=True)
            for name in by_name
        }

    def _yaml(self, tenant: str) -> bytes:
        index = {
            "apiVersion": "v1",
            "entries": self._charts(tenant),
            "generated": "2026-01-02T03:04:05Z",
        }
        return yaml.safe_dump({**index, "serverInfo": {}}).encode()

    def _chart(self, tenant: str, name: str) -> Answer:
        entries = self._charts(tenant).get(name)
        return _json(200, entries) if entries else _json(404, {"error": "chart not found"})

    def _version(self, tenant: str, name: str, version: str) -> Answer:
        """Helm's own search: the version itself, else the first in its range, which build metadata
        does not leave.
        """
        entries = self._charts(tenant).get(name)
        if entries is None:
            return _json(404, {"error": "no chart name found"})
        same = [entry for entry in entries if entry["version"] == version]
        alike = [
            entry
            for entry in entries
            if entry["version"].partition("+")[0] == version.partition("+")[0]
        ]
        if not (same or alike):
            return _json(404, {"error": f"no chart version found for {name}-{version}"})
        return _json(200, (same or alike)[0])

    def _file(self, tenant: str, name: str) -> Answer:
        if not name.endswith((".tgz", ".tgz.prov")):
            return _json(500, {"error": "unsupported file extension"})
        data = self.files.get(f"{tenant}{name}")
        if data is None:
            return _json(404, {"error": "object not found"})
        return 200, {"Content-Type": "application/x-tar"}, data

    def _upload(self, tenant: str, request: Request) -> Answer:
        fields = _multipart(request)
        try:
            by_name = {_chart_name(fields["chart"]): fields["chart"]} if "chart" in fields else {}
            if "prov" in fields:
                by_name[_prov_name(fields["prov"])] = fields["prov"]
        except ValueError as error:
            return _json(400, {"error": str(error)})
        if not by_name:
            words = "no package or provenance file found in form fields chart and prov"
            return _json(400, {"error": words})
        if any(f"{tenant}{name}" in self.files for name in by_name):
            return _json(409, {"error": "chart already exists"})
        for name, data in by_name.items():
            self.files[f"{tenant}{name}"] = data
            if name.endswith(".tgz"):
                self.index[f"{tenant}{name}"] = _entry(name, data)
                self._hidden = self.lag
        return _json(201, {"saved": True})

    def _provenance(self, tenant: str, body: bytes) -> Answer:
        try:
            name = _prov_name(body)
        except ValueError as error:
            return _json(500, {"error": str(error)})
        if f"{tenant}{name}" in self.files:
            return _json(409, {"error": "file already exists"})
        self.files[f"{tenant}{name}"] = body
        return _json(201, {"saved": True})


@contextlib.contextmanager
def chartmuseum(depth: int = 0) -> Iterator[Museum]:
    museum = Museum(depth)
    with scripted(museum.answer) as server:
        museum.host, museum.requests = server.host, server.requests
        yield museum


def _json(status: int, value: Any) -> Answer:
    return status, dict(_JSON), json.dumps(value).encode()


def _multipart(request: Request) -> dict[str, bytes]:
    boundary = re.search(r"boundary=(\S+)", request.headers.get("Content-Type", ""))
    if boundary is None:
        return {}
    fields = {}
    for part in request.body.split(f"--{boundary[1]}".encode())[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        name = re.search(rb'; name="([^"]*)"; filename="', head)
        if name:
            fields[name[1].decode()] = data.removesuffix(b"\r\n")
    return fields


def _metadata(tgz: bytes) -> dict[str, Any]:
    try:
        with tarfile.open(fileobj=io.BytesIO(tgz)) as tar:
            for member in tar:
                if member.name.count("/") == 1 and member.name.endswith("/Chart.yaml"):
                    file = tar.extractfile(member)
                    assert file is not None
                    return dict(yaml.safe_load(file))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"unexpected EOF: {error}") from error
    raise ValueError("Chart.yaml file is missing")


def _chart_name(tgz: bytes) -> str:
    metadata = _metadata(tgz)
    return f"{metadata['name']}-{metadata['version']}.tgz"


def _prov_name(prov: bytes) -> str:
    text = prov.decode(errors="replace")
    name, version = re.search("\nname:[ *](.+)", text), re.search("\nversion:[ *](.+)", text)
    if not text.startswith("-----BEGIN PGP SIGNED MESSAGE-----") or not name or not version:
        raise ValueError("invalid provenance file")
    return f"{name[1]}-{version[1]}.tgz.prov"


def _entry(name: str, tgz: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(tgz).hexdigest()
    return {
        **_metadata(tgz),
        "urls": [f"charts/{name}"],
        "created": "2026-01-02T03:04:05.678Z",
        "digest": digest,
    }


def _order(version: str) -> tuple[Any, ...]:
    core, _, pre = version.partition("+")[0].partition("-")
    return *(int(number) for number in core.split(".")), not pre, pre
