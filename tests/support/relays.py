"""A server seen through a relay, which stops answering in the middle of what a step asks."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import urllib3

from tests.support.github import Answer, running_server

#: Headers of one connection, not of the message.
HOPS = {"connection", "content-length", "date", "host", "transfer-encoding"}


class Relay:
    """Passes requests on to `url` until it stops; from then on nothing listens.

    stops_at: number of the request, from 1, that gets no answer; 0 for none. lost: the server does
    what that request asks; else it never comes there. methods: of the requests so far.
    """

    def __init__(self, url: str, *, stops_at: int = 0, lost: bool = False) -> None:
        self.methods: list[str] = []
        self._target, self._stops_at, self._lost = url, stops_at, lost
        self._pool = urllib3.PoolManager(retries=False)
        self._server = running_server(self._answer)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        self.methods.append(method)
        stops = len(self.methods) == self._stops_at
        if stops:
            self._server.shutdown()
            self._server.server_close()
        if stops and not self._lost:
            return None
        sent = {name: text for name, text in headers.items() if name.lower() not in HOPS}
        answer = self._pool.request(method, self._target + target, headers=sent, body=body)
        kept = {name: text for name, text in answer.headers.items() if name.lower() not in HOPS}
        return None if stops else Answer(answer.status, answer.data, kept)
