"""Charts in ChartMuseum, published by its API.

chartmuseum+https://host stands for https://host, chartmuseum+https://host/org/repo for one tenant
of several (`--depth`). index.yaml and charts/NAME-VERSION.tgz lie below that URL, the API below
https://host/api[/org/repo], or behind the server's `--context-path`.

Two answers are needed to know that a version is absent. The file server says 404 to whatever its
storage says, a failure too, and the index is a copy in memory, each replica's own, brought up to
date now and then. So: what the files have is there; what neither files nor index have is absent;
what only the index has is an error. Only ChartMuseum's own words count as 404, not those of a
proxy, nor its "not found" for a path that it does not serve. Nothing is ever overwritten: `?force`
is not used, and an upload is read back.

`created` in the index is the time of the upload, which the server sets: ours is not used.

Source: ChartMuseum 0.16, pkg/chartmuseum/server/multitenant; chartmuseum/auth 0.6 for its tokens.
"""

from __future__ import annotations

import functools
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
from pipeline_steps.repositories.index import Entry
from pipeline_steps.repositories.indexed import INDEX, IndexedArchive
from pipeline_steps.repositories.repository import (
    Indexed,
    Publication,
    Published,
    Writable,
    check_version_free,
    publish_one,
)
from pipeline_steps.repositories.web import Web
from pipeline_steps.toolbox import http, json_reader, retry
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError, Temporary

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEME = "chartmuseum+"
_PROV = ".prov"
#: Lists and objects in an answer: each takes memory, however few bytes of JSON it has.
_MOST = 500_000
#: How many bytes of an error body are parsed.
_WORDS = 64 * 1024
#: Seconds between two requests for an index that lags behind.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class _Version(msgspec.Struct, frozen=True):
    """A version in the index, as the API says it. digest: 64 hex digits, of the .tgz."""

    name: str
    version: str
    digest: str = ""


class ChartmuseumRepository(Writable, Indexed):
    """`url` is chartmuseum+https://host[/org/repo]; chartmuseum+http:// for hosts with plain_http
    and this machine.

    ChartMuseum looks before it writes, without a lock or compare-and-swap: when two publish
    different content under one version at the same moment, the later one stays. Each reads back
    what is stored and fails when it is the other's, but the earlier one may have succeeded before.

    timeout: seconds of one read. budget: seconds for all tries of a request, and for an upload to
    appear in the index.
    """

    def __init__(
        self,
        url: str,
        hosts: Mapping[str, Host],
        *,
        timeout: float = http.TIMEOUT,
        budget: float = http.BUDGET,
    ) -> None:
        self.url = url.rstrip("/")
        self._web = Web(self.url.removeprefix(SCHEME), hosts, timeout=timeout, budget=budget)
        parts = urlsplit(self._web.url)
        self._root, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._tokens = Authorizer(self._web.client, self._root, self._web.login)

    def resolve(self, name: str, version: str) -> str | None:
        """See Repository: from the index, or the archive's digest when the index has none."""
        entry = self._entry(name, version)
        if entry and entry.digest:
            return self._stored(entry, None).reference(entry.digest)
        published = self._published(name, version, self._archive(name, version))
        return published.reference if published else None

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        # First: the archive of a version that it shows is written.
        entry = self._entry(name, version)
        tgz = self._archive(name, version)
        return (
            self._stored(entry, tgz).published() if entry else self._published(name, version, tgz)
        )

    def _published(self, name: str, version: str, tgz: bytes | None) -> Published | None:
        """The version as it is in the storage, whatever the index has."""
        if tgz is None:
            return None
        return self._stored(Entry(name, version, "", (), removed=False), tgz).published()

    def _stored(self, entry: Entry, tgz: bytes | None) -> IndexedArchive:
        place = self._place(entry.name, entry.version)
        advice = (
            "its index may lag, its storage may have failed: look again, or restore the archive"
        )
        return IndexedArchive(entry, f"{SCHEME}{place}", place, lambda: tgz, advice)

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return self.read(f"{published.place.removeprefix(SCHEME)}{_PROV}")

    def publish(
        self, archive: Archive, provenance: bytes | None = None, created: str = CREATED
    ) -> Published:
        """See Writable: chart and .prov in one request; the server receives all of it before it
        stores any.

        created: unused, the server sets its own. Raises Temporary when the index does not show the
        version in time.
        """
        versions = self.versions(archive.name)
        # The storage is asked as well: the index of this replica may not have it yet.
        is_stored = self._archive(archive.name, archive.version) is not None
        if not is_stored:
            if archive.version in versions:
                # Listed and not answered for one by one: build metadata, which it reads as a range.
                entry = self._entry(archive.name, archive.version) or Entry(
                    archive.name, archive.version, "", (), removed=False
                )
                stored = self._stored(entry, None)
                if entry.digest != archive.digest:
                    raise stored.missing()
                log.warning("%s: was lost, published again", stored.where)
            else:
                check_version_free(archive, None, lambda: versions, self.url)
            self._upload(archive, provenance)
        published = self._wait_for_index(archive)
        if is_stored:
            log.info("%s: already there", published.reference)
        if provenance is not None and published.archive_digest == archive.digest:
            self._ensure_provenance(published, provenance)
        return published

    def _upload(self, archive: Archive, provenance: bytes | None) -> None:
        """Upload chart and .prov. A 409 is no error here: the caller then compares what is
        stored.
        """
        fields = {"chart": (archive.file_name, archive.tgz)}
        if provenance is not None:
            fields["prov"] = (f"{archive.file_name}{_PROV}", provenance)
        answer = self._post(fields)
        # ChartMuseum answers 409 for a .prov that exists, too.
        if answer.status == 409 and self._is_provenance_alone(archive):
            answer = self._post({"chart": fields["chart"]})
        if answer.status not in (201, 409):
            raise self._refusal(answer)

    def _is_provenance_alone(self, archive: Archive) -> bool:
        """Whether a .prov of this archive is stored without the chart, as after a server crash in
        between.

        Raises EvidenceError when it belongs to another archive: ChartMuseum neither replaces nor
        removes it.
        """
        if self._archive(archive.name, archive.version) is not None:
            return False
        place = f"{self._place(archive.name, archive.version)}{_PROV}"
        provenance = self.read(place)
        if provenance is not None and archive.digest.encode() not in provenance:
            advice = f"remove it from the server's storage: it does not name {archive.digest}"
            raise EvidenceError(
                "a .prov of another archive is there, and no chart", where=place, advice=advice
            )
        return provenance is not None

    def _wait_for_index(self, archive: Archive) -> Published:
        """The stored version, once storage and index agree on it. Raises Conflict when it has
        another tar.
        """
        return retry.call(
            functools.partial(self._stored_and_indexed, archive),
            on=(EvidenceError, Temporary),  # the former: half written by another publisher
            budget=self._web.budget,
            first=_FIRST_PAUSE,
            longest=_LONGEST_PAUSE,
        )

    def _stored_and_indexed(self, archive: Archive) -> Published:
        name, version = archive.name, archive.version
        published = self._published(name, version, self._archive(name, version))
        state = "was accepted by ChartMuseum, but is not in its storage"
        if published is not None:
            check_version_free(archive, published, tuple, self.url)
            entry = self._entry(name, version)
            if entry and entry.digest in ("", published.archive_digest):
                return published
            state = (
                f"is there, the index says {entry.digest}"
                if entry
                else "is there, but not in the index"
            )
        advice = "run it again; several replicas need a common cache or a short --cache-interval"
        raise Temporary(f"{archive.file_name} {state}", where=self.url, advice=advice)

    def _ensure_provenance(self, published: Published, provenance: bytes) -> None:
        """Ensure that there is a .prov; an existing one stays."""
        if self.provenance(published) is None:
            answer = self._call("POST", f"{self._api}/prov", body=provenance)
            if answer.status not in (201, 409):
                raise self._refusal(answer)
            if self.provenance(published) is None:
                raise EvidenceError(
                    "ChartMuseum accepted the .prov, but does not have it",
                    where=published.reference,
                    advice="sign this archive again: the .prov may name another chart",
                )

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """See Writable."""
        return (publish_one(self, publication) for publication in publications)

    def versions(self, name: str) -> list[str]:
        """See Repository: from the index."""
        answer = self._call("GET", f"{self._api}/charts/{quote(name, safe='')}", cap=index.LARGEST)
        entries = [] if _absent(answer) else self._decode(answer, list[_Version])
        return versions_of.newest_first(entry.version for entry in entries)

    def charts(self) -> list[str]:
        """See Repository: from the index."""
        answer = self._call("GET", f"{self._api}/charts", cap=index.LARGEST)
        return sorted(self._decode(answer, dict[str, list[_Version]]))

    def index(self) -> bytes:
        """See Indexed: the index in the server's memory."""
        answer = self._call("GET", f"{self._web.url}/{INDEX}", cap=index.LARGEST)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.body

    def files(self) -> None:
        """See Indexed: the server lists its index, not its storage."""

    def read(self, name: str) -> bytes | None:
        """See Indexed."""
        answer = self._call("GET", self._web.place(name, "what is read"), cap=archives.LARGEST)
        if _absent(answer):
            return None
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.body

    @functools.cached_property
    def _context_and_tenant(self) -> tuple[str, str]:
        """The path of the URL, split into `--context-path` and tenant. Only the server knows where;
        ask it.
        """
        parts = [f"/{part}" for part in self._path.split("/")[1:]]
        # From the shortest context: without one, which is the rule, the first request hits.
        for cut in range(len(parts) + 1 if parts else 0):
            context, tenant = "".join(parts[:cut]), "".join(parts[cut:])
            answer = self._web.get(f"{self._root}{context}/api{tenant}/charts/-/0.0.0")
            if answer.status != 404 or _absent(answer):
                return context, tenant
        return "", self._path

    @property
    def _api(self) -> str:
        context, tenant = self._context_and_tenant
        return f"{self._root}{context}/api{tenant}"

    def _entry(self, name: str, version: str) -> Entry | None:
        """The index entry of a version. ChartMuseum reads it as a range: 1.0.0 may return
        1.0.0+a.
        """
        url = f"{self._api}/charts/{quote(name, safe='')}/{quote(version, safe='')}"
        answer = self._call("GET", url)
        if _absent(answer):
            return None
        entry = self._decode(answer, _Version)
        # Before it becomes part of a reference, whose digest everybody believes.
        if not re.fullmatch(r"([0-9a-f]{64})?", entry.digest):
            raise EvidenceError(
                f"{name} {version} has the digest {entry.digest!r}, which is no sha256",
                where=url,
                advice="let ChartMuseum write its index anew: delete index-cache.yaml and restart it",
            )
        if (entry.name, entry.version) != (name, version):
            return None
        digest = f"sha256:{entry.digest}" if entry.digest else ""
        return Entry(name, version, digest, (), removed=False)

    def _archive(self, name: str, version: str) -> bytes | None:
        return self.read(self._place(name, version))

    def _place(self, name: str, version: str) -> str:
        return f"{self._web.url}/charts/{quote(f'{name}-{version}.tgz', safe='+')}"

    def _post(self, fields: Mapping[str, tuple[str, bytes]]) -> http.Response:
        """POST a form. May be repeated like a GET: when the first request was stored, the next one
        gets 409.
        """
        # RFC 2046 §5.1.1: the boundary must not occur in the archive.
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
            + data
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
        """The answer to a request with the login, or with a token when the server demands one."""
        tenant = self._context_and_tenant[1].strip("/") or "repo"
        scopes = [f"artifact-repository:{tenant}:{'push' if method == 'POST' else 'pull'}"]

        def send(token: Mapping[str, str]) -> http.Response:
            all_headers = {**(headers or {}), **token}
            return self._web.send(
                method, url, headers=all_headers, body=body, cap=cap, idempotent=True
            )

        is_own_origin = http.origin(url) == http.origin(self._web.url)
        authorization = self._tokens.header(scopes) if is_own_origin else {}
        answer = send(authorization)
        challenge = answer.headers.get("www-authenticate", "")
        wants_token = answer.status == 401 and challenge.lower().startswith("bearer ")
        # After a redirect the challenge is that of another host, which must not get a token.
        if wants_token and http.origin(answer.url) == http.origin(self._web.url):
            return send(self._tokens.header_after(challenge, scopes, authorization))
        return answer

    def _decode(self, answer: http.Response, kind: type[T]) -> T:
        if answer.status != 200:
            raise self._refusal(answer)
        if answer.body.count(b"]") + answer.body.count(b"}") > _MOST:
            raise MachineError(
                f"more than {_MOST} lists and objects are not read",
                where=http.safe_url(answer.url),
                advice="copy charts one by one: --chart NAME",
            )
        try:
            return json_reader.decode_as(kind, answer.body)
        except ValueError as error:
            raise MachineError(
                f"the answer is not ChartMuseum's: {error}",
                where=http.safe_url(answer.url),
                advice="correct the URL; https:// without chartmuseum+ reads any repository",
            ) from error

    def _refusal(self, answer: http.Response) -> PipelineError:
        if answer.status == 404 and _error_text(answer) == "not found":
            advice = "correct the path (org/repo as its --depth says), or switch its API on"
            return MachineError(
                "ChartMuseum serves nothing there", where=http.safe_url(answer.url), advice=advice
            )
        return http.error_for_status(answer)


def _absent(answer: http.Response) -> bool:
    """Whether ChartMuseum itself (not a proxy) says that the chart, version or file does not
    exist.
    """
    return answer.status == 404 and _error_text(answer) not in ("", "not found")


def _error_text(answer: http.Response) -> str:
    """The error message in a JSON body, "" when there is none."""
    try:
        content = json_reader.decode(answer.body[:_WORDS])
    except ValueError:
        return ""
    message = content.get("error") if isinstance(content, dict) else None
    return message if isinstance(message, str) else ""
