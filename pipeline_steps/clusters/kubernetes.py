"""The Kubernetes API over HTTP, as little of it as tests need; paths and JSON as the API's reference has them.

    api = Api(kubeconfig.load(path, context))
    api.create("/api/v1/namespaces", {...}); api.get("/api/v1/namespaces/x/pods")

Not the `kubernetes` client: importing it takes longer than all our calls together. Foreign errors end here: no
answer at all is Unreachable as long as the server never answered, and Temporary once it did.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import urllib3
import urllib3.exceptions as foreign

from pipeline_steps.clusters import kubeconfig
from pipeline_steps.clusters.kubeconfig import ADVICE, Connection
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.errors import AccessRefused, Conflict, MachineError, PipelineError, Temporary, Unreachable

if TYPE_CHECKING:
    import ssl

    from urllib3 import BaseHTTPResponse, PoolManager

CONNECT_SECONDS = 5.0
#: An API server that needs longer for one small answer is in trouble.
READ_SECONDS = 20.0
#: Repeating these may succeed, and repeating a GET or DELETE does no harm.
PASSING = (429, 500, 502, 503, 504)
Object = dict[str, Any]


class Api:
    """One API server and the account of its connection. May be used by several threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._answered = False
        self._pool = _pool(connection)

    def get(self, path: str, **query: str) -> Object | None:
        """The object or list at `path`, or None when the server says that it does not exist."""
        return self._json("GET", path, query)

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Create an object in the collection `path`. Raises Conflict when the name is taken."""
        made = self._json("POST", path, {}, body)
        if made is None:
            raise MachineError(f"{self.connection.server} has no {path}")
        return made

    def patch(self, path: str, body: Mapping[str, Any]) -> Object | None:
        """Merge `body` into an object (RFC 7386); None when it does not exist."""
        return self._json("PATCH", path, {}, body)

    def delete(self, path: str, *, wait: float = READ_SECONDS, **query: str) -> bool:
        """Ask for deletion; False when it does not exist. wait: seconds for the answer, tried once when short."""
        return self._json("DELETE", path, query, seconds=wait) is not None

    def text(self, path: str, **query: str) -> str | None:
        """A text resource such as a log, None when it does not exist."""
        response = self._ask("GET", path, query)
        return None if response is None else response.data.decode(errors="replace")

    def lines(self, path: str, *, seconds: float, **query: str) -> Iterator[bytes]:
        """Lines as they come (watches, followed logs) until the server ends or nothing came for `seconds`."""
        response = self._ask("GET", path, query, seconds=seconds, stream=True)
        if response is None:
            return
        rest = b""
        try:
            with self._translated():
                for part in response.stream(amt=None):
                    *whole, rest = (rest + part).split(b"\n")
                    yield from whole
            if rest:
                yield rest
        finally:
            response.close()

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = READ_SECONDS,
    ) -> Object | None:
        response = self._ask(method, path, query, body, seconds=seconds)
        if response is None:
            return None
        try:
            answer = json.loads(response.data)
        except ValueError as error:
            raise MachineError(f"{self.connection.server} does not answer like Kubernetes", advice=ADVICE) from error
        return answer if isinstance(answer, dict) else {}

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = READ_SECONDS,
        stream: bool = False,
        renewed: bool = False,
    ) -> BaseHTTPResponse | None:
        headers = {"Accept": "application/json, */*"}
        if self.connection.token:
            headers["Authorization"] = f"Bearer {self.connection.token}"
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        tries = 0 if seconds < READ_SECONDS or method not in ("GET", "DELETE") else 3
        with self._translated():
            response = self._pool.request(
                method,
                f"{self.connection.server}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
                preload_content=not stream,
                redirect=False,
                retries=urllib3.Retry(
                    total=tries, connect=min(tries, 1), status_forcelist=PASSING, backoff_factor=0.2,
                    allowed_methods=None, raise_on_status=False, redirect=False,
                ),
            )  # fmt: skip
        self._answered = True
        if response.status < 300:
            return response
        message = _message(response.data if not stream else response.read(4096))
        if response.status == 404:
            return None
        if response.status == 401 and not renewed:
            # Credentials of plugins and token files run out during long tests.
            self.connection = kubeconfig.load(self.connection.kubeconfig, self.connection.context)
            self._pool = _pool(self.connection)
            return self._ask(method, path, query, body, seconds=seconds, stream=stream, renewed=True)
        raise self._refusal(response.status, f"{method} {path}: {message}")

    def _refusal(self, status: int, what: str) -> PipelineError:
        where = self.connection.server
        if status in (401, 403):
            return AccessRefused(
                f"{status}: {what}", where=where, advice=f"context {self.connection.context} needs this right"
            )
        if status == 409:
            return Conflict(what, where=where)
        if status in (408, *PASSING):
            return Temporary(f"{status}: {what}", where=where)
        return MachineError(f"{status}: {what}", where=where)

    def _translated(self) -> _Translated:
        return _Translated(self.connection, answered=self._answered)


class _Translated:
    """Turns what urllib3 raises into our words."""

    def __init__(self, connection: Connection, *, answered: bool) -> None:
        self._connection = connection
        self._answered = answered

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, foreign.HTTPError):
            return
        cause = getattr(error, "reason", None) or error
        where = f"{self._connection.server} (context {self._connection.context} of {self._connection.kubeconfig})"
        if isinstance(cause, foreign.SSLError):
            raise MachineError(f"its certificate is not trusted: {cause}", where=where, advice=ADVICE) from error
        if self._answered or isinstance(cause, foreign.ReadTimeoutError):
            raise Temporary(f"the cluster's API server does not answer any more: {_short(cause)}", where=where)
        raise Unreachable(f"no cluster: its API server does not answer: {_short(cause)}", where=where, advice=ADVICE)


def _short(cause: object) -> str:
    return str(cause).rpartition(": ")[2][:300]


def _message(data: bytes) -> str:
    """The words of a Status object, or the beginning of whatever came instead."""
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:300].decode(errors="replace")


def _pool(connection: Connection) -> PoolManager:
    given: dict[str, Any] = {"maxsize": 16, "block": False}
    if connection.server.startswith("https:"):
        given["ssl_context"] = _trust(connection)
        if connection.server_name:
            given.update(server_hostname=connection.server_name, assert_hostname=connection.server_name)
        if not connection.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    proxy = connection.proxy
    return urllib3.ProxyManager(proxy, **given) if proxy else urllib3.PoolManager(**given)


def _trust(connection: Connection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=connection.ca.decode() if connection.ca else None)
        if not connection.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if connection.certificate and connection.key:
            # OpenSSL takes client certificates from files only; this one is private and gone at once.
            with scratch.folder("certificate") as folder:
                (folder / "both.pem").write_bytes(connection.certificate + b"\n" + connection.key)
                context.load_cert_chain(folder / "both.pem")
    except (ssl.SSLError, ValueError) as error:
        raise MachineError(f"unusable certificate: {error}", where=str(connection.kubeconfig)) from error
    return context
