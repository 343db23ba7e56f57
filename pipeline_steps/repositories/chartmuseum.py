"""Charts in ChartMuseum, published by its API.

chartmuseum+https://host stands for https://host, chartmuseum+https://host/org/repo for one tenant of several
(`--depth`). index.yaml and charts/NAME-VERSION.tgz lie below that URL, the API below https://host/api[/org/repo], or
behind the server's `--context-path`.

Two answers are needed to know that a version is absent. The file server says 404 to whatever its storage says, a
failure too, and the index is a copy in memory, each replica's own, brought up to date now and then. So: what the
files have is there; what neither files nor index have is absent; what only the index has is an error. Only
ChartMuseum's own words count as 404, not those of a proxy, nor its "not found" for a path that it does not serve.
Nothing is ever overwritten: `?force` is not used, and an upload is read back.

`created` in the index is the time of the upload, which the server sets: ours is not used.

Source: ChartMuseum 0.16, pkg/chartmuseum/server/multitenant; chartmuseum/auth 0.6 for its tokens.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.token import Authorizer
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import (
    Guarantees,
    Publication,
    Published,
    conflict,
    one_by_one,
    twin_conflict,
)
from pipeline_steps.repositories.web import Web
from pipeline_steps.toolbox import http, retry
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError, Temporary, UsageError
from pipeline_steps.toolbox.files import sha256

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEME = "chartmuseum+"
_PROV = ".prov"
#: Lists and objects of an answer: each takes memory, and three bytes can make one.
_MOST = 500_000
#: Bytes of an error's body that are understood.
_WORDS = 64 * 1024
#: Seconds between two looks at an index that lags behind.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class _Entry(msgspec.Struct, frozen=True):
    """A version in the index. digest: 64 hex digits, of the .tgz."""

    name: str
    version: str
    digest: str = ""


class ChartmuseumRepository:
    """`url` is chartmuseum+https://host[/org/repo]; chartmuseum+http:// for hosts with plain_http, and this machine.

    timeout, budget: seconds of one read, and of all tries of a request or of looking for an upload in the index.
    """

    guarantees = Guarantees(
        atomic=False,
        words="ChartMuseum looks before it writes, without a lock or compare-and-swap: when two publish different "
        "content under one version at the same moment, the later one stays; each reads back and is told when another's "
        "stands there, but the earlier one may have succeeded before",
    )

    def __init__(
        self, url: str, hosts: Mapping[str, Host], *, timeout: float = http.TIMEOUT, budget: float = http.BUDGET
    ) -> None:
        self.url = url.rstrip("/")
        self._web = Web(self.url.removeprefix(SCHEME), hosts, timeout=timeout, budget=budget)
        parts = urlsplit(self._web.url)
        self._root, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._tokens = Authorizer(self._web.client, self._root, self._web.login)

    def standing(self, name: str, version: str) -> str | None:
        """See Repository: what the index says, and the archive's digest where it says nothing."""
        entry = self._entry(name, version)
        if entry and entry.digest:
            return self._reference(name, version, f"sha256:{entry.digest}")
        tgz = self._archive(name, version)
        return None if tgz is None else self._reference(name, version, sha256(tgz))

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        entry = self._entry(name, version)  # first: the archive of a version that it shows is written
        tgz = self._archive(name, version)
        if tgz is None:
            if entry:
                raise self._missing(name, version)
            return None
        found = self._published(name, version, tgz)
        if entry and not _fits(entry, found):
            what = f"the archive has the digest {found.archive_digest}, the index says sha256:{entry.digest}"
            raise EvidenceError(what, where=self._place(name, version), advice="the index may lag: look again")
        return found

    def fetch(self, published: Published) -> bytes:
        """See Repository."""
        place, _, digest = published.reference.removeprefix(SCHEME).rpartition("@")
        tgz = self.read(place)
        if tgz is None:
            raise EvidenceError("the chart is not there any more", where=place)
        if sha256(tgz) != digest:
            what = f"the archive has the digest {sha256(tgz)}, expected {digest}"
            raise EvidenceError(what, where=place, advice="nothing of it was used")
        return tgz

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return self.read(f"{published.reference.removeprefix(SCHEME).rpartition('@')[0]}{_PROV}")

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """See Repository: chart and .prov in one request, which the server holds whole before it stores either.

        created: not used, the server has its own. Raises Temporary when the index does not show the version in time.
        """
        known = self.versions(archive.name)
        there = self._archive(archive.name, archive.version) is not None
        if not there:
            if archive.version in known:
                raise self._missing(archive.name, archive.version)
            twin = versions_of.twin(archive.version, known)
            if twin:
                raise twin_conflict(archive, twin, self.url)
            self._upload(archive, provenance)
        published = self._settled(archive)
        if there:
            log.info("%s: already there", published.reference)
        if provenance is not None and published.archive_digest == archive.digest:
            self._completed(published, provenance)
        return published

    def _upload(self, archive: Archive, provenance: bytes | None) -> None:
        """Raises what refuses it; a 409 is none, for what stands there is looked at next."""
        fields = {"chart": (archive.file_name, archive.tgz)}
        if provenance is not None:
            fields["prov"] = (f"{archive.file_name}{_PROV}", provenance)
        answer = self._post(fields)
        if answer.status == 409 and self._left_alone(archive):
            answer = self._post({"chart": fields["chart"]})
        if answer.status not in (201, 409):
            raise self._refusal(answer)

    def _left_alone(self, archive: Archive) -> bool:
        """Is a .prov of this archive there without it? A server that dies between the two leaves one behind.

        Raises EvidenceError when it is of another archive: ChartMuseum neither replaces nor removes it.
        """
        if self._archive(archive.name, archive.version) is not None:
            return False
        place = f"{self._place(archive.name, archive.version)}{_PROV}"
        left = self.read(place)
        if left is not None and archive.digest.encode() not in left:
            advice = f"remove it from the server's storage: it does not name {archive.digest}"
            raise EvidenceError("a .prov of another archive is there, and no chart", where=place, advice=advice)
        return left is not None

    def _settled(self, archive: Archive) -> Published:
        """What stands there as soon as files and index agree on it; raises Conflict when that is another tar."""
        return retry.call(
            functools.partial(self._agreed, archive),
            on=(EvidenceError, Temporary),  # the former: half written by another publisher
            budget=self._web.budget,
            first=_FIRST_PAUSE,
            longest=_LONGEST_PAUSE,
        )

    def _agreed(self, archive: Archive) -> Published:
        tgz = self._archive(archive.name, archive.version)
        state = "was accepted, but is not there"
        if tgz is not None:
            found = self._published(archive.name, archive.version, tgz)
            if found.tar_digest != archive.tar_digest:
                raise conflict(archive, found.tar_digest, found.reference)
            entry = self._entry(archive.name, archive.version)
            if entry and _fits(entry, found):
                return found
            state = f"is there, the index says sha256:{entry.digest}" if entry else "is there, but not in the index"
        advice = "run it again; several replicas need a common cache or a short --cache-interval"
        raise Temporary(f"{archive.file_name} {state}", where=self.url, advice=advice)

    def _completed(self, published: Published, provenance: bytes) -> None:
        """See that the .prov is there; the one published first stays."""
        if self.provenance(published) is None:
            answer = self._call("POST", f"{self._api}/prov", body=provenance)
            if answer.status not in (201, 409):
                raise self._refusal(answer)
            if self.provenance(published) is None:
                what = "the .prov was accepted, but is not there: does it name another chart?"
                raise EvidenceError(what, where=published.reference)

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """See Repository."""
        return one_by_one(self, publications)

    def versions(self, name: str) -> list[str]:
        """See Repository: what the index has."""
        answer = self._call("GET", f"{self._api}/charts/{quote(name, safe='')}", cap=index.LARGEST)
        found = [] if _absent(answer) else self._decoded(answer, list[_Entry])
        return versions_of.newest_first(entry.version for entry in found)

    def charts(self) -> list[str]:
        """See Repository: what the index has."""
        answer = self._call("GET", f"{self._api}/charts", cap=index.LARGEST)
        return sorted(self._decoded(answer, dict[str, list[_Entry]]))

    def index(self) -> bytes:
        """See Classic: the index as the server has it in memory now."""
        answer = self._call("GET", f"{self._web.url}/index.yaml", cap=index.LARGEST)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.body

    def files(self) -> None:
        """See Classic: the server lists its index, not its storage."""

    def read(self, name: str) -> bytes | None:
        """See Classic."""
        answer = self._call("GET", self._web.place(name, "what is read"), cap=archives.LARGEST)
        if _absent(answer):
            return None
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.body

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Raises UsageError: the server makes its index itself."""
        advice = "change what is in its storage; it follows by itself, or start it with --always-regenerate-chart-index"
        raise UsageError("ChartMuseum makes its index from the charts it has", where=self.url, advice=advice)

    @functools.cached_property
    def _split(self) -> tuple[str, str]:
        """The path of the URL as `--context-path` and tenant. Where one ends only the server knows: it is asked."""
        parts = [f"/{part}" for part in self._path.split("/")[1:]]
        for cut in range(len(parts) + 1 if parts else 0):
            context, tenant = "".join(parts[:cut]), "".join(parts[cut:])
            answer = self._web.get(f"{self._root}{context}/api{tenant}/charts/-/0.0.0")
            if answer.status != 404 or _absent(answer):
                return context, tenant
        return "", self._path

    @property
    def _api(self) -> str:
        context, tenant = self._split
        return f"{self._root}{context}/api{tenant}"

    def _entry(self, name: str, version: str) -> _Entry | None:
        """A version in the index. ChartMuseum takes a version for a range: 1.0.0 may be answered with 1.0.0+a."""
        url = f"{self._api}/charts/{quote(name, safe='')}/{quote(version, safe='')}"
        answer = self._call("GET", url)
        if _absent(answer):
            return None
        entry = self._decoded(answer, _Entry)
        if not re.fullmatch(r"([0-9a-f]{64})?", entry.digest):
            raise EvidenceError(f"{name} {version} has the digest {entry.digest!r}, which is no sha256", where=url)
        return entry if (entry.name, entry.version) == (name, version) else None

    def _archive(self, name: str, version: str) -> bytes | None:
        return self.read(self._place(name, version))

    def _published(self, name: str, version: str, tgz: bytes) -> Published:
        place = self._place(name, version)
        found = archives.opened(tgz, place)
        if (found.name, found.version) != (name, version):
            raise EvidenceError(f"the archive holds the chart {found.name} {found.version}", where=place)
        reference = self._reference(name, version, sha256(tgz))
        return Published(name, version, reference, found.tar_digest, sha256(tgz))

    def _place(self, name: str, version: str) -> str:
        return f"{self._web.url}/charts/{quote(f'{name}-{version}.tgz', safe='+')}"

    def _reference(self, name: str, version: str, digest: str) -> str:
        return f"{SCHEME}{self._place(name, version)}@{digest}"

    def _missing(self, name: str, version: str) -> EvidenceError:
        what = "the index names this archive, which is missing"
        advice = "its storage may have failed: look again, or restore the archive"
        return EvidenceError(what, where=self._place(name, version), advice=advice)

    def _post(self, fields: Mapping[str, tuple[str, bytes]]) -> http.Response:
        """Repeated as a GET is: what an upload that seemed to fail has stored answers 409 to the next one."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data
            for field, (name, data) in fields.items()
        ]
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
        return self._call("POST", f"{self._api}/charts", headers=headers, body=body)

    def _call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        cap: int = http.CAP,
    ) -> http.Response:
        """The answer to a request with the login, or with a token when the server itself asks for one."""
        tenant = self._split[1].strip("/") or "repo"
        scopes = [f"artifact-repository:{tenant}:{'push' if method == 'POST' else 'pull'}"]

        def once(token: Mapping[str, str]) -> http.Response:
            both = {**(headers or {}), **token}
            return self._web.send(method, url, headers=both, body=body, cap=cap, idempotent=True)

        own = http.origin(url) == http.origin(self._web.url)
        used = self._tokens.header(scopes) if own else {}
        answer = once(used)
        wanted = answer.headers.get("www-authenticate", "")
        asked = answer.status == 401 and wanted.lower().startswith("bearer ")
        if asked and http.origin(answer.url) == http.origin(self._web.url):
            return once(self._tokens.challenged(wanted, scopes, used))
        return answer

    def _decoded(self, answer: http.Response, kind: type[T]) -> T:
        if answer.status != 200:
            raise self._refusal(answer)
        if answer.body.count(b"]") + answer.body.count(b"}") > _MOST:
            raise MachineError(f"more than {_MOST} lists and objects are not read", where=http.shown(answer.url))
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MachineError(f"the answer is not ChartMuseum's: {error}", where=http.shown(answer.url)) from error

    def _refusal(self, answer: http.Response) -> PipelineError:
        if answer.status == 404 and _words(answer) == "not found":
            advice = "is the path right (org/repo as its --depth says), is the API switched off?"
            return MachineError("ChartMuseum serves nothing there", where=http.shown(answer.url), advice=advice)
        return http.refusal(answer)


def _fits(entry: _Entry, found: Published) -> bool:
    return entry.digest in ("", found.archive_digest.removeprefix("sha256:"))


def _absent(answer: http.Response) -> bool:
    """Does ChartMuseum itself say that there is no such chart, version or file?"""
    return answer.status == 404 and _words(answer) not in ("", "not found")


def _words(answer: http.Response) -> str:
    """The error in a JSON body, "" when there is none."""
    try:
        found = json.loads(answer.body[:_WORDS])
    except (ValueError, RecursionError):
        return ""
    words = found.get("error") if isinstance(found, dict) else None
    return words if isinstance(words, str) else ""
