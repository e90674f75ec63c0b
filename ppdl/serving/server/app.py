"""The HTTP side of `ppdl serve`: paths, tokens, limits. docs/protocol.md is its specification, /openapi.json describes it to programs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from ppdl.serving import protocol
from ppdl.serving.addresses import client_address
from ppdl.serving.http import metrics as prometheus
from ppdl.serving.http import openapi
from ppdl.serving.http.bodies import read_body
from ppdl.serving.http.limits import Client, Rate, Room
from ppdl.serving.http.metrics import Metrics
from ppdl.serving.http.middleware import Observed
from ppdl.serving.http.openapi import BINARY, PUBLIC, content, refusals
from ppdl.serving.problems import RULES, ProblemError

if TYPE_CHECKING:
    from ppdl.serving.server.service import Service
    from ppdl.serving.server.tokens import Tokens

LARGEST_KEY_BODY = 1 << 16
MOST_BODIES = 64  # in memory at a time
KEY_REFUSALS = ("no-token", "not-json", "bad-key", "bad-proof", "too-many-keys", "too-large", "wrong-media-type", "too-slow")
NOT_OF_QUERIES = ("not-json", "too-many-keys", "bad-key", "bad-proof", "not-found", "method-not-allowed")
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

    bearer = Depends(HTTPBearer(auto_error=False, scheme_name="token") if tokens is not None else _nobody)

    async def client(request: Request, sent: HTTPAuthorizationCredentials | None = bearer) -> Client:
        """Return who asks, and count it."""
        owner = "" if tokens is None else tokens.owner(sent.credentials if sent else None)
        found = Client(owner or "", client_address(request.client.host if request.client else ""))
        rate.take(found.name)
        if owner is None:
            raise ProblemError("no-token", "send `Authorization: Bearer TOKEN` (ppdl: --token-file); the server's operator makes tokens")
        return found

    asks = Depends(client)

    @app.get(HEAD, response_model=openapi.StatedHead, responses=refusals("no-token", *PUBLIC), dependencies=[asks])
    async def head() -> JSONResponse:
        """Say what clients must know of the head; no weights."""
        return JSONResponse(service.statement.to_json())

    @app.post(
        KEYS,
        response_model=openapi.Registered,
        responses=refusals(*KEY_REFUSALS, *PUBLIC),
        openapi_extra={"requestBody": {"required": True} | content("application/json", openapi.KeyBody.model_json_schema())},
    )
    async def keys(request: Request, sender: Client = asks) -> JSONResponse:
        """Register a public key: the content of inference.json, and the proof."""
        with bodies.place(sender.name):
            body = await read_body(request, media_type="application/json", largest=LARGEST_KEY_BODY)
            return JSONResponse(await service.register(sender, body, request.scope["ppdl"]))

    @app.post(
        INFER,
        response_class=Response,
        responses=refusals(*(name for name in RULES if name not in NOT_OF_QUERIES)) | {200: content(protocol.MEDIA_TYPE, BINARY)},
        openapi_extra={"requestBody": {"required": True} | content(protocol.MEDIA_TYPE, BINARY)},
    )
    async def infer(request: Request, sender: Client = asks) -> Response:
        """Answer a query PPDLQ/1 with a reply PPDLR/1."""
        fields = request.scope["ppdl"]
        with bodies.place(sender.name):
            body = await read_body(request, media_type=protocol.MEDIA_TYPE, largest=max_body)
            answer = await service.infer(sender, body, fields)
        metrics.count_images(fields["mode"], fields["num_images"])
        return Response(answer, media_type=protocol.MEDIA_TYPE)

    @app.get(HEALTH, response_model=openapi.Health, responses=refusals("busy", "internal"))
    async def health() -> JSONResponse:
        """Tell whether the server can answer."""
        try:
            await asyncio.to_thread(service.store.check)
        except sqlite3.Error:
            raise ProblemError("busy", "the server's state cannot be read", retry_after_s=10) from None
        return JSONResponse({"status": "ok"})

    @app.get(METRICS, response_class=PlainTextResponse, responses=refusals("no-token", *PUBLIC), dependencies=[asks])
    async def show_metrics() -> PlainTextResponse:
        """Show counters for Prometheus."""
        return PlainTextResponse(metrics.text(computing=service.workers.room.used), media_type=prometheus.MEDIA_TYPE)

    app.openapi()["components"]["schemas"]["Problem"] = openapi.Problem.model_json_schema()
    return app


async def _nobody() -> None:
    """Stand for a token where none is asked for."""


async def _not_found(request: Request, error: Exception) -> Response:
    """Refuse paths and methods that do not exist, in the form of every refusal."""
    if not isinstance(error, HTTPException):
        raise error
    known = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    problem = ProblemError("method-not-allowed" if known else "not-found", "see docs/protocol.md for paths and methods")
    problem.headers |= error.headers or {}
    raise problem
