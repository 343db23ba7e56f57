"""The API of one registry: manifests, blobs, tags.

Content is compared with its digest after reading, and read back after writing. Only the registry's
own error codes MANIFEST_UNKNOWN, NAME_UNKNOWN, BLOB_UNKNOWN and NOT_FOUND mean "absent" (None);
everything else is an error. Source: OCI distribution specification 1.1, Docker Registry HTTP API
V2.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode, urljoin

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import Login, login_for
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import DOCKER_HUB, Reference
from pipeline_steps.auth.token import Authorizer
from pipeline_steps.oci.manifest import MANIFESTS, OCI_INDEX, Descriptor, Manifest
from pipeline_steps.toolbox import http, json_reader, retry
from pipeline_steps.toolbox.errors import Conflict, MachineError, PipelineError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.redact import beginning

log = logging.getLogger(__name__)

#: Bytes a manifest may have (the specification's advice: registries limit them to 4 MiB).
MANIFEST_CAP = 4 * 2**20
BLOB_CAP = 32 * 2**20
LAYER_CAP = 64 * 2**30
#: Seconds one read may take when a registry assembles an upload of gigabytes.
TIMEOUT = 120.0
#: How many bytes of an error body are parsed: JSON of three bytes can become a value that takes a
#: hundred bytes of memory.
_WORDS = 64 * 1024
#: Names in a list, and pages of it, that are read: both are as many as the registry likes.
_MOST_NAMES, _MOST_PAGES = 500_000, 10_000
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"})
_MISSING_BLOBS = frozenset(
    {"DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}
)
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')


def error_codes(body: bytes) -> set[str]:
    """The error codes in a registry's answer."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        # Proxies answer with HTML or JSON of their own: whatever does not fit has no code.
        return {str(error.get("code")) for error in json_reader.decode(body[:_WORDS])["errors"]}
    return set()


def error_message(body: bytes) -> str:
    """The registry's error codes and messages, or the first words of a body without them.

    >>> error_message(b'{"errors": [{"code": "DENIED", "message": "not yours"}]}')
    'DENIED: not yours'
    """
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        errors = json_reader.decode(body[:_WORDS])["errors"]
        messages = (
            f"{error['code']}: {error.get('message') or error.get('detail')}" for error in errors
        )
        return beginning("; ".join(messages), 500)
    return http.excerpt(body)


@functools.cache
def _client(ca_file: str | None) -> http.Client:
    retryable_error = functools.partial(http.temporary_error, error_message=error_message)
    return http.Client(ca_file=ca_file, timeout=TIMEOUT, retryable_error=retryable_error)


def connect(reference: Reference | str, hosts: Mapping[str, Host]) -> Registry:
    """The registry of `reference`, with trust and login from the configuration, else docker's
    login.
    """
    if isinstance(reference, str):
        reference = Reference.parse(reference)
    _, host_settings = table.entry_for(hosts, reference.repository)
    return Registry(
        reference.host,
        login=lambda: login_for(reference.host, reference.path, hosts),
        plain_http=speaks_http(reference.host, host_settings),
        ca_file=host_settings.ca_file,
    )


def speaks_http(host: str, entry: Host) -> bool:
    """Whether to use plain HTTP: as configured; for localhost unless it has a ca_file, as docker
    does.

    >>> speaks_http("localhost:5000", Host()), speaks_http("registry.example.com", Host())
    (True, False)
    """
    # An IPv6 address has colons, too: only digits after the last one are a port.
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    loopback = name in ("localhost", "[::1]") or name.startswith("127.")
    return entry.plain_http or (loopback and entry.ca_file is None)


class Registry:
    """A client for one registry host.

    Paths are those below the host; digests are "sha256:" and 64 hex digits.
    """

    def __init__(
        self,
        host: str,
        *,
        login: Callable[[], Login | None] = lambda: None,
        plain_http: bool = False,
        ca_file: str | None = None,
        budget: float = http.BUDGET,
    ) -> None:
        # Docker Hub's API has another host name than its references.
        api = "registry-1.docker.io" if host == DOCKER_HUB else host
        self.host = host
        self.base = f"{'http' if plain_http else 'https'}://{api}"
        self._client = _client(ca_file)
        self._budget = budget
        self._authorizer = Authorizer(self._client, self.base, functools.cache(login))

    def head(self, path: str, name: str) -> Descriptor | None:
        """The descriptor of a tag or digest, None when the registry says that it does not exist."""
        url = self._url(path, f"manifests/{name}")
        answer = self._call("HEAD", url, _pull(path), headers=_accept_header())
        digest = answer.headers.get("docker-content-digest", "")
        # Docker-Content-Digest is optional; without it only the body tells the digest.
        if answer.status == 200 and digest:
            if name.startswith("sha256:") and name != digest:
                raise _digest_mismatch(url, name, digest)
            media_type = answer.headers.get("content-type", "").partition(";")[0]
            return Descriptor(
                media_type, digest, http.number(answer.headers, "content-length") or 0
            )
        # The answer to HEAD has no body: only GET tells "no such manifest" from "no registry
        # here".
        manifest = self.manifest(path, name)
        return (
            Descriptor(manifest.media_type, manifest.digest, len(manifest.body))
            if manifest
            else None
        )

    def manifest(self, path: str, name: str) -> Manifest | None:
        """The verified manifest of a tag or digest, None when the registry says that it does not
        exist.
        """
        url = self._url(path, f"manifests/{name}")
        answer = self._call("GET", url, _pull(path), headers=_accept_header(), cap=MANIFEST_CAP)
        if _absent(answer):
            return None
        if answer.status != 200:
            raise http.error_for_status(answer, error_message)
        digest = sha256(answer.body)
        # The header is a proxy's as well as the registry's word, the body alone is hashed.
        expected = (
            name
            if name.startswith("sha256:")
            else answer.headers.get("docker-content-digest", digest)
        )
        if expected != digest:
            raise _digest_mismatch(url, expected, digest)
        return Manifest(
            answer.body, answer.headers.get("content-type", "").partition(";")[0].strip(), digest
        )

    def put_manifest(
        self,
        path: str,
        name: str,
        body: bytes,
        media_type: str,
        refill: Callable[[str], None] | None = None,
    ) -> str:
        """Store a manifest under a tag or its digest, and read it back.

        Args:
            name: tag or digest.
            refill: uploads a blob again. Called when the registry has lost a blob that it had
                acknowledged: it answers 400 with MANIFEST_BLOB_UNKNOWN after parallel pushes of the
                same blob. This is the only 400 that is tried again.

        Returns:
            the digest.

        Raises:
            Conflict: the tag names another digest right afterwards: there is another writer.
        """
        url = self._url(path, f"manifests/{name}")
        digest = sha256(body)
        headers = {"Content-Type": media_type}
        # Three times: refilled blobs may be lost again by the pushes that run beside this one.
        for is_last_try in (False, False, True):
            answer = self._call("PUT", url, _push(path), headers=headers, body=body)
            if answer.status in (200, 201, 202):
                break
            blobs_missing = (
                answer.status == 400
                and bool(error_codes(answer.body))
                and error_codes(answer.body) <= _MISSING_BLOBS
            )
            if is_last_try or not blobs_missing:
                raise http.error_for_status(answer, error_message)
            log.info(
                "%s: %s; checking its blobs and trying again",
                http.safe_url(url),
                error_message(answer.body),
            )
            self._check_blobs(path, Manifest(body, media_type, digest), refill)
        stored = answer.headers.get("docker-content-digest", digest)
        if stored != digest:
            raise _digest_mismatch(url, digest, stored)
        # A replica, or a cache in front of the registry, may not have what was acknowledged.
        self._read_back(path, name, digest)
        return digest

    def _read_back(self, path: str, name: str, digest: str) -> None:
        stored = self.head(path, name)
        where = f"{self.host}/{path}:{name}"
        if stored is None:
            raise MachineError(
                "the registry acknowledged the manifest, but does not have it",
                where=where,
                advice="run it again; if it stays, the registry loses what is pushed",
            )
        if stored.digest != digest:
            raise Conflict(
                f"the tag names {stored.digest} just after it was set to {digest}: there is another writer",
                where=where,
                advice="run it again when nobody else writes this tag",
            )

    def _check_blobs(
        self, path: str, manifest: Manifest, refill: Callable[[str], None] | None
    ) -> None:
        lost = [blob.digest for blob in manifest.blobs if not self.has_blob(path, blob.digest)]
        if lost and refill is None:
            raise MachineError(
                f"the registry has lost the blobs {', '.join(lost)}",
                where=f"{self.host}/{path}",
                advice="push them again: run the step with --again",
            )
        for digest in lost:
            if refill is not None:
                refill(digest)

    def has_blob(self, path: str, digest: str) -> bool:
        """Whether the repository has the blob."""
        answer = self._call("HEAD", self._url(path, f"blobs/{digest}"), _pull(path))
        if answer.status not in (200, 404):
            raise http.error_for_status(answer, error_message)
        return answer.status == 200

    def blob(self, path: str, digest: str, cap: int = BLOB_CAP) -> bytes | None:
        """The verified bytes of a small blob, None when the registry says that it does not
        exist.
        """
        url = self._url(path, f"blobs/{digest}")
        answer = self._call("GET", url, _pull(path), cap=cap)
        if _absent(answer):
            return None
        if answer.status != 200:
            raise http.error_for_status(answer, error_message)
        if sha256(answer.body) != digest:
            raise _digest_mismatch(url, digest, sha256(answer.body))
        return answer.body

    def save_blob(self, path: str, digest: str, sink: IO[bytes]) -> None:
        """Stream a blob into a file opened for reading and writing, and verify it.

        Raises MachineError when the blob does not exist.
        """
        url = self._url(path, f"blobs/{digest}")
        answer = self._call("GET", url, _pull(path), sink=sink, cap=LAYER_CAP)
        if answer.status != 200:
            raise http.error_for_status(answer, error_message)
        sink.flush()
        # Read again instead of hashed on the way: a retry of the download begins the file anew.
        sink.seek(0)
        hasher = hashlib.sha256()
        while block := sink.read(2**20):
            hasher.update(block)
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise _digest_mismatch(url, digest, f"sha256:{hasher.hexdigest()}")

    def push_blob(self, path: str, data: bytes | Path, digest: str, *, new: bool = False) -> None:
        """Upload a blob in one request and check that it is there.

        Args:
            data: bytes, or the path of a file that is streamed.
            new: skip the check for an existing blob; nobody can have pushed it yet.
        """
        if not new and self.has_blob(path, digest):
            return

        def once() -> None:
            start = self._call(
                # Without repeats of its own: a failed PUT leaves the upload unusable, so both are
                # done again.
                "POST",
                self._url(path, "blobs/uploads/"),
                _push(path),
                body=b"",
                budget=0,
            )
            if start.status != 202:
                raise http.error_for_status(start, error_message)
            self._finish_upload(start, path, data, digest)

        retry.call(once, budget=self._budget)
        if not self.has_blob(path, digest):
            raise MachineError(
                f"the registry acknowledged blob {digest}, but does not have it",
                where=f"{self.host}/{path}",
                advice="run it again; if it stays, the registry loses what is pushed",
            )

    def _finish_upload(
        self, start: http.Response, path: str, data: bytes | Path, digest: str
    ) -> None:
        location = urljoin(start.url, start.headers.get("location", ""))
        # The location is opaque: registries keep the state of an upload in its query.
        separator = "&" if "?" in location else "?"
        url = f"{location}{separator}{urlencode({'digest': digest})}"
        # An upload URL on another host carries its own signature; our login must not go there.
        scopes = _push(path) if http.origin(location) == http.origin(self.base) else None
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._call("PUT", url, scopes, headers=headers, body=data, budget=0)
        if answer.status not in (200, 201, 204):
            raise http.error_for_status(answer, error_message)

    def mount(self, path: str, digest: str, from_path: str) -> bool:
        """Mount a blob of another repository into `path`; False when the registry refuses."""
        query = urlencode({"mount": digest, "from": from_path})
        url = self._url(path, f"blobs/uploads/?{query}")
        answer = self._call(
            "POST", url, (*_push(path), *_pull(from_path)), body=b"", idempotent=True
        )
        if answer.status == 201:
            return True
        if answer.status == 202:  # it began an ordinary upload instead: give that up
            location = urljoin(answer.url, answer.headers.get("location", ""))
            if http.origin(location) == http.origin(self.base):
                self._call("DELETE", location, _push(path))
            return False
        # Not every registry mounts from repositories that the login may only read; upload
        # then.
        if answer.status in (401, 403, 404, 405):
            return False
        raise http.error_for_status(answer, error_message)

    def tags(self, path: str) -> list[str]:
        """All tags of a repository, over all pages; empty when it does not exist."""
        return self._read_pages(self._url(path, "tags/list?n=1000"), "tags", _pull(path))

    def catalog(self) -> list[str]:
        """The paths of all repositories that the registry lists. Raises MachineError: many refuse
        it.
        """
        return self._read_pages(
            f"{self.base}/v2/_catalog?n=1000", "repositories", ("registry:catalog:*",)
        )

    def _read_pages(self, url: str, key: str, scopes: tuple[str, ...]) -> list[str]:
        """The values at `key` on all pages of a list."""
        names: list[str] = []
        visited: set[str] = set()
        # A page that leads back to itself, or to one before, ends the list.
        while url not in visited:
            visited.add(url)
            answer = self._call("GET", url, scopes)
            if _absent(answer):
                return names
            if answer.status != 200:
                raise http.error_for_status(answer, error_message)
            if len(names) + answer.body.count(b",") > _MOST_NAMES or len(visited) > _MOST_PAGES:
                problem = (
                    f"more than {_MOST_NAMES} {key} or {_MOST_PAGES} pages of them are not read"
                )
                advice = "name a narrower path, or have the registry list fewer"
                raise MachineError(problem, where=http.safe_url(url), advice=advice)
            names.extend(_names(answer, key))
            next_link = _NEXT.search(answer.headers.get("link", ""))
            if not next_link:
                return names
            url = urljoin(url, next_link[1])
            if http.origin(url) != http.origin(self.base):
                raise MachineError(
                    f"the registry says that its next page of {key} is on another host: {http.safe_url(url)}",
                    where=self.base,
                    advice="correct the address that the registry gives for itself (its setting http.host)",
                )
        return names

    def referrers(self, path: str, digest: str) -> Manifest | None:
        """The index of a manifest's referrers; None where the registry has no referrers API."""
        answer = self._call("GET", self._url(path, f"referrers/{digest}"), _pull(path))
        # Registries before version 1.1 of the specification answer one of these.
        if answer.status in (404, 400, 405):
            return None
        if answer.status != 200:
            raise http.error_for_status(answer, error_message)
        # Not stored under this digest: a registry computes the index at each request.
        return Manifest(answer.body, OCI_INDEX, sha256(answer.body))

    def _url(self, path: str, endpoint: str) -> str:
        return f"{self.base}/v2/{quote(path)}/{endpoint}"

    def _call(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...] | None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        sink: IO[bytes] | None = None,
        cap: int = BLOB_CAP,
        budget: float | None = None,
        idempotent: bool | None = None,
    ) -> http.Response:
        """Send a request, authorised when the registry demands it. An expired token is fetched
        again once.
        """
        seconds = self._budget if budget is None else budget

        def send(authorization: Mapping[str, str]) -> http.Response:
            all_headers = {**(headers or {}), **authorization}
            return self._client.request(
                method,
                url,
                headers=all_headers,
                body=body,
                sink=sink,
                cap=cap,
                budget=seconds,
                idempotent=idempotent,
            )

        if scopes is None:
            return send({})
        sent_header = self._authorizer.header(scopes)
        answer = send(sent_header)
        challenge = answer.headers.get("www-authenticate")
        # Not by a storage that it sent us to.
        asked_by_registry = http.origin(answer.url) == http.origin(url)
        if answer.status == 401 and challenge and asked_by_registry:
            # Tokens live for minutes, copying layers takes longer.
            answer = send(self._authorizer.header_after(challenge, scopes, sent_header))
        # A POST may be refused only for mounting; its caller then uploads.
        if answer.status in (401, 403) and method != "POST":
            raise http.error_for_status(answer, error_message)
        return answer


def _names(answer: http.Response, key: str) -> list[str]:
    """The values at `key` on one page of a list. Raises MachineError."""
    page = answer.json()
    names = (page.get(key) or []) if isinstance(page, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise MachineError(
            f"the registry's answer is not a list of {key}",
            where=http.safe_url(answer.url),
            advice="check that this is the URL of a registry, and what a proxy in front of it answers",
        )
    return names


def _pull(path: str) -> tuple[str, ...]:
    return (f"repository:{path}:pull",)


def _push(path: str) -> tuple[str, ...]:
    return (f"repository:{path}:pull,push",)


def _accept_header() -> dict[str, str]:
    return {"Accept": ", ".join(sorted(MANIFESTS))}


def _absent(answer: http.Response) -> bool:
    return answer.status == 404 and bool(error_codes(answer.body) & _ABSENT)


def _digest_mismatch(url: str, expected: str, actual: str) -> PipelineError:
    return MachineError(
        f"the registry's answer has digest {actual}, expected {expected}",
        where=http.safe_url(url),
        advice="run it again; if it stays, see what on the way to the registry changes content: nothing "
        "of it was used",
    )
