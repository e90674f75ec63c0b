"""What uvicorn leaves open: time limits for connections that say nothing, and room for those that will.

uvicorn limits the idle time after an answer alone, which the first byte ends, and counts silent connections among those that are at work.
Here each connection has HEAD_S for the head of a request, from its first or from the last answer on, however many bytes of it came, and
WRITE_S to read an answer. When there are more connections than allowed, one is closed of the address that has most of them, the oldest of
those that the server waits for, else the oldest: who opens many takes the place of his own, whatever he does with them. A body has a limit
of its own (bodies.py).
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from ppdl.serving.addresses import client_address

HEAD_S, WRITE_S = 10.0, 30.0


class Connection(H11Protocol):
    """Speak HTTP as uvicorn does, with limits. One server a process."""

    most: ClassVar[int] = 1000
    _open: ClassVar[dict[str, dict[Connection, None]]] = {}  # by address, the oldest first; who is waited for begins anew
    _limit: asyncio.TimerHandle | None = None  # of a client that the server waits for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._address = client_address(self.client[0] if self.client else "")
        self._wait(HEAD_S)
        if len(self.connections) > self.most:
            crowd = max(self._open.values(), key=len)
            next((one for one in crowd if one._limit is not None), next(iter(crowd)))._abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.flow.write_paused:  # else the next request is here, or the answer still is
            self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        self._forget()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(WRITE_S)  # who asks shall read the answer

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting()
        if self.cycle.response_complete:
            self._wait(HEAD_S)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._forget()
        self._open.setdefault(self._address, {})[self] = None
        self._limit = self.loop.call_later(seconds, self._abort)

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _forget(self) -> None:
        crowd = self._open.get(self._address, {})
        crowd.pop(self, None)
        if not crowd:
            self._open.pop(self._address, None)

    def _abort(self) -> None:
        self._stop_waiting()
        self._forget()
        self.transport.abort()


class Loop(asyncio.SelectorEventLoop):
    """Give TLS handshakes the time of a head: until they are done there is no Connection that could count it."""

    async def create_server(self, *args: Any, ssl: Any = None, **options: Any) -> asyncio.Server:
        if ssl is not None:
            options["ssl_handshake_timeout"] = HEAD_S
        return await super().create_server(*args, ssl=ssl, **options)
