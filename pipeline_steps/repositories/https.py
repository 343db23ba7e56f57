"""Chart repositories behind a web server: index.yaml and archives, only read.

What an attacker in the middle, or on the server, may do with it is refused here or by whom compares digests: see
docs/how-to/repositories.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import Guarantees, Publication, Published
from pipeline_steps.repositories.web import Web
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError, UsageError
from pipeline_steps.toolbox.files import sha256


class HttpsRepository:
    """`url` is https://host/path (http:// for hosts with plain_http, and this machine), with an index.yaml below.

    timeout, budget: seconds of one read, and of all tries of a request.
    """

    guarantees = Guarantees(atomic=False, words="only read")

    def __init__(
        self, url: str, hosts: Mapping[str, Host], *, timeout: float = http.TIMEOUT, budget: float = http.BUDGET
    ) -> None:
        self._web = Web(url, hosts, timeout=timeout, budget=budget)
        self.url = self._web.url
        self._parsed: index.Index | None = None

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
        return self._web.place(entry.urls[0], f"{entry.name} {entry.version}")

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
        if (found.name, found.version) != (name, version):
            what = f"the archive holds the chart {found.name} {found.version}, the index says {name} {version}"
            raise EvidenceError(what, where=http.shown(self._place(entry)), advice="nothing of it was used")
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
        answer = self._web.get(place, archives.LARGEST)
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
        answer = self._web.get(f"{self.url}/index.yaml", index.LARGEST)
        if answer.status != 200:
            raise http.refusal(answer)
        return answer.body

    def files(self) -> None:
        """See Classic: a web server does not say which files it has."""

    def read(self, name: str) -> bytes | None:
        """See Classic."""
        answer = self._web.get(self._web.place(name, "what is read"), archives.LARGEST)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise http.refusal(answer)
        return answer.body

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Raises UsageError: such repositories are only read."""
        raise self._only_read()
