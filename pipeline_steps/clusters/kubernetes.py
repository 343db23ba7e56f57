"""A cluster's API through the classes of the `kubernetes` package; what they raise becomes our
errors here.

    api = Api(kubeconfig.load(path, context))
    api.ask(api.core.read_namespace, name)     # the object, None when it does not exist

Answers are taken as the API's own JSON (`_preload_content=False`), not as the package's models:
what is judged and kept is what `kubectl -o json` shows, fields that this version of the package
does not know included, and a log that happens to be JSON stays as it is. No answer at all is
Unreachable as long as the server never answered, and Temporary once it did.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ReadTimeoutError, SSLError

from pipeline_steps.clusters import kubeconfig
from pipeline_steps.clusters.kubeconfig import Connection
from pipeline_steps.toolbox import http, json_reader, retry, scratch
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.late_imports import LATE_IMPORT
from pipeline_steps.toolbox.redact import beginning

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException
    from kubernetes.watch import Watch

CONNECT_SECONDS = 5.0
#: An API server that needs longer for one small answer is in trouble.
READ_SECONDS = 20.0
#: Statuses after which the same call may well succeed later.
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
#: Seconds for repeating a call that does no harm twice: fewer than a process has that is told to
#: end.
REPEAT_SECONDS = 3.0
#: Objects of a list that are in memory at once.
PAGE = 250
Object = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


class NotFound(MachineError):
    """The API server says that there is no such object."""


class Expired(Temporary):
    """The resourceVersion to go on from is too old for the server (410 Gone): list again."""


class Api:
    """One API server and the account of its connection. May be used by several threads."""

    def __init__(self, connection: Connection) -> None:
        with LATE_IMPORT:  # everything of the package that is used afterwards
            from kubernetes import client, watch  # noqa: F401

        self.connection = connection
        self.client = _client(connection)
        self.core = client.CoreV1Api(self.client)
        self._answered = False

    def ask(self, call: Callable[P, Any], *args: P.args, **options: P.kwargs) -> Object | None:
        """The answer to a `call` that does no harm twice (read, list, delete); None when the object
        does not exist.

        Repeated while the server has passing trouble. Raises AccessRefused, Unreachable, Temporary,
        MachineError.
        """
        return self._repeated(lambda: self.once(call, *args, **options))

    def text(self, call: Callable[P, Any], *args: P.args, **options: P.kwargs) -> str | None:
        """As `ask`, for a text such as a log."""
        data = self._repeated(lambda: b"".join(self.stream(call, *args, **options)))
        return None if data is None else data.decode(errors="replace")

    def once(self, call: Callable[P, Any], *args: P.args, **options: P.kwargs) -> Object:
        """The answer to a `call` that is never repeated (create, patch). Raises Conflict when the
        name is taken.
        """
        data = b"".join(self.stream(call, *args, **options))
        try:
            answer = json_reader.decode(data)
        except ValueError as error:
            raise self._foreign() from error
        return answer if isinstance(answer, dict) else {}

    def items(self, call: Callable[P, Any], *args: P.args, **options: P.kwargs) -> Iterator[Object]:
        """The objects of a list, which is asked for page by page."""
        page = functools.partial(call, *args, **options)
        continue_token = None
        while True:
            answer = self.ask(page, limit=PAGE, _continue=continue_token) or {}
            yield from answer.get("items") or ()
            continue_token = (answer.get("metadata") or {}).get("continue")
            if not continue_token:
                return

    def stream(self, call: Callable[P, Any], *args: P.args, **options: P.kwargs) -> Iterator[bytes]:
        """The bytes of an answer as they come. The option `_request_timeout` is (seconds to
        connect, for each read).
        """
        with self._translated():
            response = self._response(functools.partial(call, *args, **options))
            try:
                yield from response.stream()
            finally:
                response.close()

    def events(
        self, watch: Watch, call: Callable[P, Any], *args: P.args, **options: P.kwargs
    ) -> Iterator[Object]:
        """The events of `watch` on a list `call`, {"type": …, "raw_object": …}. Also raises Expired."""

        @functools.wraps(call)  # `watch` reads the kind of the objects from its signature
        def begun(*args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
            return self._response(functools.partial(call, *args, **options))

        with self._translated():
            yield from watch.stream(begun, *args, **options)  # type: ignore[no-untyped-call]

    def version(self) -> str:
        """The cluster's version, like v1.34.4."""
        from kubernetes import client

        answer = self.ask(client.VersionApi(self.client).get_code) or {}
        return str(answer.get("gitVersion") or "of an unknown version")

    def _repeated(self, once: Callable[[], T]) -> T | None:
        try:
            return retry.call(once, budget=REPEAT_SECONDS, first=0.2)
        except NotFound:
            return None

    def _response(self, call: functools.partial[Any]) -> urllib3.BaseHTTPResponse:
        """The answer of the server, not yet read; with credentials issued anew when it refuses
        those there are.
        """
        from kubernetes.client import ApiException

        limits = {
            "_request_timeout": (CONNECT_SECONDS, READ_SECONDS),
            **call.keywords,
            "_preload_content": False,
        }
        response: urllib3.BaseHTTPResponse
        try:
            response = call(**limits)
        except ApiException as error:
            if error.status != 401:
                raise
            # Credentials of plugins and token files run out during long tests.
            self.connection = kubeconfig.load(self.connection.kubeconfig, self.connection.context)
            renewed = _client(self.connection)
            self.client.configuration, self.client.rest_client = (
                renewed.configuration,
                renewed.rest_client,
            )
            response = call(**limits)
        self._answered = True
        return response

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what the package and urllib3 raise into our words."""
        from kubernetes.client import ApiException

        try:
            yield
        except ApiException as error:
            self._answered = True
            raise self._refusal(error) from error
        except HTTPError as error:
            raise self._trouble(error) from error
        except UnicodeDecodeError as error:  # of an error's page, which version 36 takes for UTF-8
            raise self._foreign() from error

    def _foreign(self) -> MachineError:
        return MachineError(
            "the server does not answer like a Kubernetes API server",
            where=self.connection.server,
            advice="correct the server's address in the kubeconfig: something else answers there",
        )

    def _refusal(self, error: ApiException) -> PipelineError:
        where, status = self.connection.server, error.status or 0
        message = f"the cluster's API server answered {status}: {_status_message(error)}"
        if status in (401, 403):
            advice = f"give the account of context {self.connection.context} this right"
            return AccessRefused(message, where=where, advice=advice)
        if status in RETRIED_STATUSES:
            return Temporary(
                message,
                where=where,
                retry_after=http.retry_after(urllib3.HTTPHeaderDict(error.headers or {})),
            )
        kinds: Mapping[int, type[PipelineError]] = {404: NotFound, 409: Conflict, 410: Expired}
        advice = "correct what the answer names, or ask whoever runs the cluster"
        return kinds.get(status, MachineError)(message, where=where, advice=advice)

    def _trouble(self, error: HTTPError) -> PipelineError:
        cause = getattr(error, "reason", None) or error
        where = (
            f"{self.connection.server} (context {self.connection.context} of "
            f"{self.connection.kubeconfig})"
        )
        if isinstance(cause, SSLError):
            return MachineError(
                f"the certificate of the API server is not trusted: {cause}",
                where=where,
                advice="name the authority that signed it in the kubeconfig",
            )
        # urllib3 puts the pool's and the connection's repr in front of what the system said.
        reason = beginning(str(cause).rpartition(": ")[2], 300)
        if self._answered or isinstance(cause, ReadTimeoutError):
            return Temporary(
                f"the cluster's API server does not answer any more: {reason}", where=where
            )
        return Unreachable(
            f"the cluster's API server does not answer: {reason}",
            where=where,
            advice="check the address in the kubeconfig, and that this machine reaches it",
        )


def _status_message(error: ApiException) -> str:
    """The words of a Status object, or the beginning of whatever came instead."""
    try:
        return str(json_reader.decode((error.body or "").encode())["message"])
    except (ValueError, KeyError, TypeError):
        return beginning(error.body or str(error.reason), 300)


def _client(connection: Connection) -> ApiClient:
    """The package's client for a connection. It never repeats or redirects by itself."""
    from kubernetes import client

    settings = client.Configuration()
    settings.host = connection.server
    settings.verify_ssl = connection.verify
    settings.tls_server_name = connection.server_name
    # Repeats are ours (`ask`): urllib3 would repeat what is not idempotent, and send the token
    # along with a redirect.
    settings.retries = urllib3.Retry(0, redirect=False)
    settings.connection_pool_maxsize = 16
    settings.proxy = connection.proxy
    # The package would take it from the environment; only the kubeconfig says how a cluster is
    # reached.
    settings.no_proxy = None
    if connection.token:
        settings.api_key["BearerToken"] = f"Bearer {connection.token}"
    api_client = client.ApiClient(settings)
    if connection.server.startswith("https:"):
        # The configuration takes certificates and keys as files that have to stay.
        api_client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = _ssl_context(
            connection
        )
        if not connection.verify:
            urllib3.disable_warnings(InsecureRequestWarning)
    return api_client


def _ssl_context(connection: Connection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cadata=connection.ca.decode() if connection.ca else None
        )
        if not connection.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if connection.certificate and connection.key:
            # OpenSSL takes client certificates from files only; this one is private and gone at
            # once.
            with scratch.folder("certificate") as folder:
                (folder / "both.pem").write_bytes(connection.certificate + b"\n" + connection.key)
                context.load_cert_chain(folder / "both.pem")
    except (ssl.SSLError, ValueError) as error:
        raise MachineError(
            f"unusable certificate: {error}",
            where=str(connection.kubeconfig),
            advice="renew the certificates of this context in the kubeconfig",
        ) from error
    return context
