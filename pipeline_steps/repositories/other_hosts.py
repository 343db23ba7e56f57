"""Archives that the index of a folder or branch names on another host, as chart-releaser writes it:
the index is on a branch, each archive belongs to a release.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from pipeline_steps.auth.hosts import Host, entry_for
from pipeline_steps.repositories.https import HttpsRepository
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError, Temporary, Unreachable
from pipeline_steps.toolbox.http import is_valid_url, safe_url


class OtherHosts:
    """Reads by URL. A host that does not answer is asked once, not for each of its archives.

    local: the index is a file of this machine. An index from elsewhere must not make us ask by
    plain HTTP what listens here.
    """

    def __init__(self, hosts: Mapping[str, Host], *, local: bool) -> None:
        self._hosts = hosts
        self._local = local
        self._lock = threading.Lock()
        self._opened: dict[str, HttpsRepository] = {}
        self._failures: dict[str, PipelineError] = {}

    def read(self, url: str) -> bytes | None:
        """The file at an http(s) URL, None when there is none. Raises EvidenceError for a URL that
        must not or cannot be asked, MachineError or Temporary when the host cannot give it.
        """
        if not is_valid_url(url):
            advice = "have its publisher write the URL in ASCII, with a port below 65536"
            raise EvidenceError("this is not a valid URL", where=safe_url(url), advice=advice)
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        plain = parts.scheme == "http"
        if plain and not self._local and not entry_for(self._hosts, parts.netloc)[1].plain_http:
            advice = "it must be https, or have plain_http: true in `hosts`"
            raise EvidenceError("plain HTTP is not allowed", where=safe_url(url), advice=advice)
        with self._lock:
            if origin in self._failures:
                failure = self._failures[origin].fresh()
                failure.where = safe_url(url)
                raise failure
            if origin not in self._opened:
                self._opened[origin] = HttpsRepository(origin, self._hosts)
        try:
            return self._opened[origin].read(url)
        except (Unreachable, Temporary) as error:  # it took its whole time-out already
            with self._lock:
                self._failures[origin] = error.fresh()
            raise


def is_absolute(url: str) -> bool:
    """Whether a URL of an index names a host that can be asked."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
