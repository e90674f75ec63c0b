"""What uvicorn leaves open: time limits for connections that say nothing, and room for those that will.

uvicorn limits the idle time after an answer alone, which the first byte ends, and counts silent connections among those that are at work.
Here each connection has HEAD_S for the head of a request, from its first or from the last answer on, however many bytes of it came. When
there are more connections than allowed, the oldest silent one is closed, of the address that has most of them: who opens many takes the
place of his own. A body has a limit of its own (bodies.py).
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
    _silent: ClassVar[dict[str, dict[Connection, None]]] = {}  # by address, the oldest first
    _head_limit: asyncio.TimerHandle | None = None
    _write_limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._address = client_address(self.client[0] if self.client else "")
        self._await_head()
        if len(self.connections) > self.most:
            crowded = max(self._silent, key=lambda address: len(self._silent[address]))
            oldest = next(iter(self._silent[crowded]))
            oldest._stop_waiting()
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.flow.write_paused:  # else the next request is here, or the answer still is
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        self._stop_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_limit = self.loop.call_later(WRITE_S, self.transport.abort)  # who asks shall read the answer

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_writing()
        if self.cycle.response_complete:
            self._await_head()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._silent.setdefault(self._address, {})[self] = None
        self._head_limit = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_limit is None:
            return
        self._head_limit.cancel()
        self._head_limit = None
        del self._silent[self._address][self]
        if not self._silent[self._address]:
            del self._silent[self._address]

    def _stop_writing(self) -> None:
        if self._write_limit is not None:
            self._write_limit.cancel()
            self._write_limit = None


class Loop(asyncio.SelectorEventLoop):
    """Give TLS handshakes the time of a head: until they are done there is no Connection that could count it."""

    async def create_server(self, *args: Any, ssl: Any = None, **options: Any) -> asyncio.Server:
        if ssl is not None:
            options["ssl_handshake_timeout"] = HEAD_S
        return await super().create_server(*args, ssl=ssl, **options)
