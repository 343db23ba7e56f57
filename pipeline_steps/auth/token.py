"""Authorise requests to a registry: HTTP Basic, or Bearer tokens from its token server.

Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication"; RFC
7235 for the challenge.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from pipeline_steps.auth.credentials import Login
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import AccessRefused, MachineError
from pipeline_steps.toolbox.proxy import is_loopback
from pipeline_steps.toolbox.redact import beginning, register

_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
CLIENT = "pipeline-steps"
#: Bytes of a token server's answer.
CAP = 2**20


class Challenge(NamedTuple):
    """What a 401 demands. scheme: "basic" or "bearer". realm: URL of the token server."""

    scheme: str
    realm: str
    service: str

    @classmethod
    def parse(cls, header: str) -> Challenge:
        """
        >>> Challenge.parse('Bearer realm="https://auth.example.com/token",service="registry"')
        Challenge(scheme='bearer', realm='https://auth.example.com/token', service='registry')
        """
        scheme, _, rest = header.strip().partition(" ")
        parameters = {
            name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)
        }
        return cls(scheme.lower(), parameters.get("realm", ""), parameters.get("service", ""))


class Authorizer:
    """Authorization headers for one registry. A token is fetched once for each set of scopes.

    login: called only when the registry demands a login, because credential helpers are slow
    programs.
    """

    def __init__(self, client: http.Client, base: str, login: Callable[[], Login | None]) -> None:
        self._client = client
        self._base = base
        self._login = login
        self._challenge: Challenge | None = None
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Iterable[str]) -> dict[str, str]:
        """The headers known to be needed: none before the first challenge."""
        if self._challenge is None:
            return {}
        if self._challenge.scheme == "basic":
            return self._basic()
        scope = " ".join(scopes)
        with self._lock:  # threads that need the same token wait for the one that fetches it
            if scope not in self._tokens:
                self._tokens[scope] = register(self._fetch(self._challenge, scope))
            return {"Authorization": f"Bearer {self._tokens[scope]}"}

    def header_after(
        self, header: str, scopes: Iterable[str], used: Mapping[str, str]
    ) -> dict[str, str]:
        """The headers after a 401 to `used`. A token in `used` is discarded and fetched again."""
        self._challenge = Challenge.parse(header)
        scope = " ".join(scopes)
        with self._lock:
            if used.get("Authorization") == f"Bearer {self._tokens.get(scope)}":
                del self._tokens[scope]
        if self._challenge.scheme not in ("basic", "bearer"):
            raise AccessRefused(
                f"the registry wants an unknown authentication scheme: {beginning(header, 200)!r}",
                where=self._base,
                advice="only Basic and Bearer are supported: look at what answers there, a proxy perhaps",
            )
        return self.header(scopes)

    def _basic(self) -> dict[str, str]:
        login = self._login()
        if login is None:
            raise AccessRefused(
                "the registry wants a login",
                where=self._base,
                advice="configure `hosts`, or run docker login",
            )
        if not login.username:
            raise AccessRefused(
                "the registry wants a username and password, but only an identity token is stored",
                where=self._base,
                advice="log in again with a password: docker login HOST",
            )
        return {"Authorization": http.basic(login.username, login.password)}

    def _ask(self, realm: str, service: str, scopes: str, login: Login | None) -> http.Response:
        """The token server's answer: to an identity token by OAuth2, else by docker's specification."""
        if login is not None and login.identity_token:
            form = [
                ("service", service),
                ("scope", scopes),
                ("client_id", CLIENT),
                ("grant_type", "refresh_token"),
                ("refresh_token", login.identity_token),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            return self._client.request(
                "POST", realm, headers=headers, body=body, cap=CAP, idempotent=True
            )
        joint = "&" if "?" in realm else "?"
        fields = [("service", service), *(("scope", scope) for scope in scopes.split())]
        headers = {"Authorization": http.basic(login.username, login.password)} if login else {}
        url = f"{realm}{joint}{urlencode([*fields, ('client_id', CLIENT)])}"
        return self._client.request("GET", url, headers=headers, cap=CAP)

    def _realm(self, challenge: Challenge) -> str:
        """The URL of the token server. Raises AccessRefused for plain HTTP after https."""
        try:
            realm = urljoin(f"{self._base}/", challenge.realm)
        except ValueError as error:
            place = beginning(challenge.realm, 200)
            what = f"the registry names an invalid URL of its token server: {place!a}"
            advice = "correct the registry's setting auth.token.realm"
            raise AccessRefused(what, where=self._base, advice=advice) from error
        if self._base.startswith("https:") and not realm.startswith("https:"):
            raise AccessRefused(
                f"the registry names the token server {http.safe_url(realm)}, which is not https",
                where=self._base,
                advice="have the registry name its token server with https (its setting auth.token.realm)",
            )
        return realm

    def _is_own_host(self, url: str) -> bool:
        """Whether a URL leads to the registry's own host, on any port, or stays on this machine."""
        hosts = {urlsplit(each).hostname for each in (self._base, url)}
        return len(hosts) == 1 or all(host and is_loopback(host) for host in hosts)

    def _fetch(self, challenge: Challenge, scopes: str) -> str:
        realm = self._realm(challenge)
        login = self._login()
        if login is not None and realm.startswith("http:") and not self._is_own_host(realm):
            raise AccessRefused(
                f"the registry asks for the login in plain HTTP on another host, {http.safe_url(realm)}",
                where=self._base,
                advice="serve the tokens by https, or remove the login of this registry",
            )
        answer = self._ask(realm, challenge.service, scopes, login)
        # Token servers use any of these statuses for a wrong password.
        if answer.status in (400, 401, 403):
            who = login.username or "the identity token" if login else "an anonymous visitor"
            raise AccessRefused(
                f"the registry's token server {http.safe_url(realm)} answered {answer.status} to {who} for "
                f"{scopes}",
                where=self._base,
                advice="check the login in `hosts`, or run docker login",
            )
        if answer.status != 200:
            raise http.error_for_status(answer)
        fields = answer.json()
        token = (
            # Both names are in use: "token" by docker's specification, "access_token"
            # by OAuth2.
            fields.get("token") or fields.get("access_token") if isinstance(fields, dict) else None
        )
        if not isinstance(token, str):
            raise MachineError(
                "the token server's answer has no token",
                where=http.safe_url(realm),
                advice="check that this is the token server of the registry, and its log",
            )
        return token
