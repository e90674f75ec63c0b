"""Around every request: an id, a time, a log line, a count, and an answer for what nobody expected."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

from ppdl.serving.http import log
from ppdl.serving.problems import MEDIA_TYPE, ProblemError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ppdl.serving.http.metrics import Metrics

OF_EVERY_ANSWER = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))  # kept by no cache, a page for no browser
OTHER_ROUTE = "other"  # what clients make up is neither logged nor counted by name


class Observed:
    """Answer each request or refuse it, and write one log line for it. ASGI middleware.

    Handlers find their request's record in `scope["ppdl"]`, and add what the log may hold: `key` and `num_images`.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        seen = {"status": 0, "bytes_in": 0, "bytes_out": 0}
        scope["ppdl"] = fields = {"id": secrets.token_hex(8)}

        async def counted_receive() -> Message:
            message = await receive()
            seen["bytes_in"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", fields["id"].encode()), *OF_EVERY_ANSWER]
            seen["bytes_out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        except ProblemError as problem:
            await refuse(problem, fields, counted_send)
        except Exception as error:
            log.event("failed", level=logging.ERROR, exc_info=error, fields={"id": fields["id"]})
            if seen["status"]:  # half an answer is sent: break the connection, so that nobody takes it for whole
                raise
            await refuse(ProblemError("internal", "nothing more is said here; the server's log has the id"), fields, counted_send)
        finally:
            self._write(scope["path"], started, seen, fields)

    def _write(self, path: str, started: float, seen: dict[str, int], fields: dict[str, Any]) -> None:
        seconds = time.perf_counter() - started
        route = path if path in self._routes else OTHER_ROUTE
        self._metrics.count_request(route, seen["status"], seconds, seen["bytes_in"], seen["bytes_out"])
        if "problem" in fields:
            self._metrics.count_problem(fields["problem"])
        log.event("request", fields={"route": route, "ms": round(1000 * seconds, 1)} | seen | fields)


async def refuse(problem: ProblemError, fields: dict[str, Any], send: Send) -> None:
    """Send a problem document."""
    fields["problem"] = problem.name
    body = json.dumps(problem.document(fields["id"])).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.rule.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
