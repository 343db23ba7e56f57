"""A folder on a web server: which URLs may be requested, and which requests carry the login.

The login goes only to the folder's own origin, never to another one that an index or redirect names
(CVE-2021-32690). Plain HTTP is used where the configuration allows it, and on this machine, but
never because something fetched by https says so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import Login, from_hosts
from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, MachineError


class Web:
    """A folder at `url`, http(s)://host/path.

    timeout: seconds of one read. budget: seconds for all tries of a request. Raises
    ConfigurationError for another URL, MachineError when plain HTTP is not allowed.
    """

    def __init__(
        self,
        url: str,
        hosts: Mapping[str, Host],
        *,
        timeout: float,
        budget: float,
    ) -> None:
        self.url = url.rstrip("/")
        self.budget = budget
        self._hosts = hosts
        if not _is_folder(self.url):
            advice = "write https://host/path in plain ASCII; put logins into `hosts`"
            # Errors end in logs of CI: without a login in front of the host, and without a token in
            # the query.
            place = url.rpartition("@")[2].partition("?")[0]
            raise ConfigurationError(
                "this is not the URL of a folder on a web server", where=repr(place), advice=advice
            )
        place = self.url.partition("://")[2]
        if not self.allowed(self.url):
            raise MachineError(
                "plain HTTP is not allowed", where=url, advice="write plain_http: true in `hosts`"
            )
        host, _, path = place.partition("/")
        self._login = functools.cache(lambda: from_hosts(host, path, hosts))
        # One client per repository: connections are reused for the index and all archives.
        self.client = http.Client(
            ca_file=table.entry_for(self._hosts, place)[1].ca_file, timeout=timeout
        )

    def allowed(self, url: str) -> bool:
        """Whether the URL may be requested: https always; plain HTTP as configured, and from
        localhost to localhost.
        """
        scheme, _, place = url.partition("://")
        _, host_settings = table.entry_for(self._hosts, place)
        return scheme == "https" or (
            scheme == "http"
            and (host_settings.plain_http or (_is_loopback(url) and _is_loopback(self.url)))
        )

    def place(self, url: str, label: str) -> str:
        """The absolute URL for a URL relative to this folder. label: names it in errors.

        Raises EvidenceError when it is neither https nor allowed.
        """
        try:
            place = urljoin(f"{self.url}/", url)
        except ValueError:
            place = ""
        if not http.is_valid_url(place):
            where = url.rpartition("@")[2].partition("?")[0]
            raise EvidenceError(
                f"{label} has the URL {where!a}, which is not https, or is not a valid URL",
                where=self.url,
                advice="have its publisher correct the entry: pipeline-steps audit --fix URL",
            )
        if not self.allowed(place):
            raise EvidenceError(
                f"{label} has the URL {http.safe_url(place)}, which is not https",
                where=self.url,
                advice="have the repository name https, or write plain_http: true for its host in `hosts`",
            )
        return place

    def login(self) -> Login | None:
        """The login for this folder in `hosts`."""
        return self._login()

    def get(self, url: str, cap: int = http.CAP) -> http.Response:
        """The answer to GET, with at most `cap` bytes."""
        return self.send("GET", url, cap=cap)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        cap: int = http.CAP,
        idempotent: bool | None = None,
    ) -> http.Response:
        """The answer to a request, with the login if it goes to the folder's origin. See
        http.Client.request.
        """
        # Archives may be on another host than the index, for example a CDN, which must not
        # get the login.
        login = self._login() if http.origin(url) == http.origin(self.url) else None
        authorization = (
            {"Authorization": http.basic(login.username, login.password)} if login else {}
        )
        return self.client.request(
            method, url, headers={**authorization, **(headers or {})}, body=body, cap=cap, budget=self.budget,
            idempotent=idempotent,
        )  # fmt: skip


def _is_folder(url: str) -> bool:
    """Whether the URL consists of an origin and a path only."""
    if not http.is_valid_url(url):
        return False
    parts = urlsplit(url)
    return "@" not in parts.netloc and not parts.query and not parts.fragment


def _is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]+){3}", host) is not None
