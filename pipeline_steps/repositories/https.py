"""Chart repositories on a web server, read only: index.yaml and archives.

Attacks from the network or the server are refused here, or by code that compares digests: see
docs/how-to/repositories.md.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import archive as archives
from pipeline_steps.repositories import index, index_rows
from pipeline_steps.repositories.indexed import INDEX, IndexedArchive, IndexReader
from pipeline_steps.repositories.repository import Published
from pipeline_steps.repositories.web import Web
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import EvidenceError

_ARCHIVE_ADVICE = "have its publisher correct archive or index; nothing of it was used"


class HttpsRepository(IndexReader):
    """`url` is https://host/path with an index.yaml (http:// for hosts with plain_http and this
    machine).

    timeout: seconds of one read. budget: seconds for all tries of a request.
    """

    def __init__(
        self,
        url: str,
        hosts: Mapping[str, Host],
        *,
        timeout: float = http.TIMEOUT,
        budget: float = http.BUDGET,
    ) -> None:
        self._web = Web(url, hosts, timeout=timeout, budget=budget)
        self.url = self._web.url
        self._parsed: index.Index | None = None

    def _index(self) -> index.Index:
        """The index as it was at the first request."""
        if self._parsed is None:
            self._parsed = index.Index(self.index(), http.safe_url(f"{self.url}/{INDEX}"))
        return self._parsed

    def _stored(self, name: str, version: str, *, first: bool = False) -> IndexedArchive | None:
        entry = index_rows.find_readable(self._index(), name, version, first=first)
        # helm does not hide a removed version; nobody should build on it all the same.
        if entry is None or entry.removed:
            return None
        if not entry.urls:
            raise EvidenceError(
                f"{name} {version} has no URL in the index",
                where=self.url,
                advice="have its publisher correct the entry: pipeline-steps audit --fix URL",
            )
        place = self._web.place(entry.urls[0], f"{name} {version}")
        read_archive = functools.partial(self._get, place)
        return IndexedArchive(
            entry, place, http.safe_url(place), read_archive, advice=_ARCHIVE_ADVICE
        )

    def _get(self, url: str) -> bytes | None:
        answer = self._web.get(url, archives.LARGEST)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise http.error_for_status(answer)
        return answer.body

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return self.read(f"{published.place}.prov")

    def index(self) -> bytes:
        """See Indexed. A repository needs an index, so 404 is an error, not absence."""
        answer = self._web.get(f"{self.url}/{INDEX}", index.LARGEST)
        if answer.status != 200:
            raise http.error_for_status(answer)
        return answer.body

    def files(self) -> None:
        """See Indexed: a web server does not list its files."""

    def read(self, name: str) -> bytes | None:
        """See Indexed."""
        return self._get(self._web.place(name, "what is read"))
