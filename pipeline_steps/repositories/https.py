"""Chart repositories behind a web server: index.yaml and archives, only read.

Logins go to the repository's own origin, never to another that its index names (CVE-2021-32690).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urljoin

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.core.errors import EvidenceError, MachineError, PipelineError, UsageError
from pipeline_steps.oci import hosts as table
from pipeline_steps.oci.credentials import from_hosts
from pipeline_steps.oci.hosts import Host
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import Guarantees, Publication, Published
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.files import sha256


class HttpsRepository:
    """`url` is https://host/path (http:// for hosts with plain_http, and this machine), with an index.yaml below."""

    guarantees = Guarantees(atomic=False, words="only read")

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        self.url = url.rstrip("/")
        place = self.url.partition("://")[2]
        _, entry = table.of(dict(hosts), place)
        self._hosts = hosts
        if not self._allowed(self.url):
            raise MachineError("plain HTTP is not allowed", where=url, advice="write plain_http: true in `hosts`")
        host, _, path = place.partition("/")
        self._login = functools.cache(lambda: from_hosts(host, path, hosts))
        self._client = http.Client(ca_file=entry.ca_file)
        self._parsed: index.Index | None = None

    def _allowed(self, url: str) -> bool:
        """https anywhere; plain HTTP where the configuration says so, and on this machine."""
        scheme, _, place = url.partition("://")
        _, entry = table.of(dict(self._hosts), place)
        local = place.startswith(("localhost:", "localhost/", "127.", "[::1]"))
        return scheme == "https" or (scheme == "http" and (entry.plain_http or local))

    def _get(self, url: str, cap: int) -> http.Response:
        login = self._login() if http.origin(url) == http.origin(self.url) else None
        headers = {"Authorization": http.basic(login.username, login.password)} if login else {}
        return self._client.request("GET", url, headers=headers, cap=cap)

    def _known(self) -> index.Index:
        if self._parsed is None:
            self._parsed = index.Index(self.index(), http.shown(f"{self.url}/index.yaml"))
        return self._parsed

    def _entries(self, name: str) -> list[index.Entry]:
        return self._known().versions(name)

    def _entry(self, name: str, version: str) -> index.Entry | None:
        return next((one for one in self._entries(name) if one.version == version and not one.removed), None)

    def _reference(self, entry: index.Entry, digest: str) -> str:
        return f"{self._place(entry)}@{digest}"

    def _place(self, entry: index.Entry) -> str:
        if not entry.urls:
            raise EvidenceError(f"{entry.name} {entry.version} has no URL in the index", where=self.url)
        place = urljoin(f"{self.url}/", entry.urls[0])
        if not self._allowed(place):
            what = f"{entry.name} {entry.version} has the URL {http.shown(place)}, which is not https"
            raise EvidenceError(what, where=self.url)
        return place

    def standing(self, name: str, version: str) -> str | None:
        """See Repository: what the index says, or the archive's digest where it says none."""
        entry = self._entry(name, version)
        if entry is None:
            return None
        return self._reference(entry, entry.digest or sha256(self._bytes(self._place(entry))))

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        entry = self._entry(name, version)
        if entry is None:
            return None
        tgz = self._bytes(self._place(entry))
        if entry.digest and sha256(tgz) != entry.digest:
            what = f"the archive has the digest {sha256(tgz)}, the index says {entry.digest}"
            raise EvidenceError(what, where=http.shown(self._place(entry)), advice="nothing of it was used")
        found = archives.opened(tgz, http.shown(self._place(entry)))
        reference = self._reference(entry, sha256(tgz))
        return Published(found.name, found.version, reference, found.tar_digest, sha256(tgz))

    def fetch(self, published: Published) -> bytes:
        """See Repository."""
        place, _, digest = published.reference.rpartition("@")
        tgz = self._bytes(place)
        if sha256(tgz) != digest:
            what = f"the archive has the digest {sha256(tgz)}, expected {digest}"
            raise EvidenceError(what, where=http.shown(place), advice="nothing of it was used")
        return tgz

    def _bytes(self, place: str) -> bytes:
        answer = self._get(place, archives.LARGEST)
        if answer.status == 404:
            raise EvidenceError("the index names this archive, which is missing", where=http.shown(place))
        if answer.status != 200:
            raise http.refusal(answer)
        return answer.body

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return self.read(f"{published.reference.rpartition('@')[0]}.prov")

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """Raises UsageError: such repositories are only read."""
        raise self._only_read()

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """Raises UsageError: such repositories are only read."""
        raise self._only_read()

    def _only_read(self) -> UsageError:
        return UsageError("this repository is only read", where=self.url, advice="publish to oci:// or file://")

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return versions_of.newest_first(entry.version for entry in self._entries(name))

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._known().entries())

    def index(self) -> bytes:
        """See Classic; a repository without index is no repository: 404 does not mean absent."""
        answer = self._get(f"{self.url}/index.yaml", index.LARGEST)
        if answer.status != 200:
            raise http.refusal(answer)
        return answer.body

    def files(self) -> None:
        """See Classic: a web server does not say which files it has."""

    def read(self, name: str) -> bytes | None:
        """See Classic."""
        place = urljoin(f"{self.url}/", name)
        if not self._allowed(place):
            raise EvidenceError(f"the URL {http.shown(place)} is not https", where=self.url)
        answer = self._get(place, archives.LARGEST)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise http.refusal(answer)
        return answer.body

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Raises UsageError: such repositories are only read."""
        raise self._only_read()
