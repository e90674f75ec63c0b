"""The HTTP side of `ppdl serve`: paths, tokens, limits. docs/protocol.md is its specification, /openapi.json describes it to programs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from ppdl.serving import problems, protocol
from ppdl.serving.addresses import client_address
from ppdl.serving.http import metrics as prometheus
from ppdl.serving.http import openapi
from ppdl.serving.http.bodies import read_body
from ppdl.serving.http.limits import Client, Rate, Room
from ppdl.serving.http.metrics import Metrics
from ppdl.serving.http.middleware import Observed
from ppdl.serving.problems import ProblemError

if TYPE_CHECKING:
    from ppdl.serving.server.service import Service
    from ppdl.serving.server.tokens import Tokens

LARGEST_KEY_BODY = 1 << 16
MOST_BODIES = 64  # in memory at a time
HEAD, KEYS, INFER, HEALTH, METRICS, OPENAPI = "/v1/head", "/v1/keys", "/v1/infer", "/health", "/metrics", "/openapi.json"


def build_app(service: Service, *, tokens: Tokens | None, per_s: float, max_body: int) -> FastAPI:
    """Build the application.

    Args:
        tokens: of those who may use it; None: everybody who reaches it.
        per_s: requests a second of one client, by the name of its token, without tokens by its address.
        max_body: bytes of a query at most.
    """
    metrics, rate, bodies = Metrics(), Rate(per_s), Room(MOST_BODIES, "bodies")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.workers.close)
        service.store.close()

    # FastAPI's own pages would load scripts from other hosts
    app = FastAPI(title="ppdl serve", docs_url=None, redoc_url=None, openapi_url=OPENAPI, lifespan=lifespan, redirect_slashes=False)
    routes = frozenset({HEAD, KEYS, INFER, HEALTH, METRICS, OPENAPI})
    app.add_middleware(Observed, metrics=metrics, routes=routes)
    app.add_exception_handler(HTTPException, _not_found)

    async def client(request: Request) -> Client:
        """Return who asks, and count it."""
        owner = "" if tokens is None else tokens.owner(_bearer(request))
        found = Client(owner or "", client_address(request.client.host if request.client else ""))
        rate.take(found.name)
        if owner is None:
            raise ProblemError("no-token", "send `Authorization: Bearer TOKEN`; the server's operator makes tokens (--new-token)")
        return found

    asks = Depends(client)

    @app.get(HEAD, **openapi.head(), dependencies=[asks])
    async def head() -> JSONResponse:
        return JSONResponse(service.statement.to_json())

    @app.post(KEYS, **openapi.keys())
    async def keys(request: Request, sender: Client = asks) -> JSONResponse:
        with bodies.place(sender.name):
            body = await read_body(request, media_type="application/json", largest=LARGEST_KEY_BODY)
            return JSONResponse(await service.register(sender, body, request.scope["ppdl"]))

    @app.post(INFER, **openapi.infer())
    async def infer(request: Request, sender: Client = asks) -> Response:
        fields = request.scope["ppdl"]
        with bodies.place(sender.name):
            body = await read_body(request, media_type=protocol.MEDIA_TYPE, largest=max_body)
            answer = await service.infer(sender, body, fields)
        metrics.count_images(fields["mode"], fields["num_images"])
        return Response(answer, media_type=protocol.MEDIA_TYPE)

    @app.get(HEALTH, **openapi.health())
    async def health() -> JSONResponse:
        try:
            await asyncio.to_thread(service.store.check)
        except sqlite3.Error:
            raise ProblemError("busy", "the server's state cannot be read", retry_after_s=10) from None
        return JSONResponse({"status": "ok"})

    @app.get(METRICS, **openapi.metrics(), dependencies=[asks])
    async def show_metrics() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(computing=service.workers.room.used), media_type=prometheus.MEDIA_TYPE)

    openapi.finish(app, with_tokens=tokens is not None)
    return app


async def _not_found(request: Request, error: Exception) -> JSONResponse:
    """Answer for paths and methods that do not exist, in the form of every refusal."""
    if not isinstance(error, HTTPException):
        raise error
    known = error.status_code == 405
    problem = ProblemError("method-not-allowed" if known else "not-found", "see docs/protocol.md for paths and methods")
    fields: dict[str, Any] = request.scope["ppdl"]
    fields["problem"] = problem.name
    headers = {**(error.headers or {}), **problem.headers()}
    return JSONResponse(problem.document(fields["id"]), problem.rule.status, headers, media_type=problems.MEDIA_TYPE)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
