"""Bind the address, start the workers, serve until a signal."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ppdl.crypto.keys import SECURE_KEY_BITS
from ppdl.errors import ConfigError
from ppdl.private_head.head import load_head
from ppdl.serving import log
from ppdl.serving.addresses import is_loopback
from ppdl.serving.compute import Workers
from ppdl.serving.service import Limits, Service
from ppdl.serving.statement import Statement
from ppdl.serving.store import Store
from ppdl.serving.tokens import load_tokens

if TYPE_CHECKING:
    import uvicorn

MASK_BITS = 40
INSECURE_KEY_BITS = (512,)  # for tests
MOST_CONNECTIONS = 1000  # beyond it uvicorn answers 503 without looking at the request
_STOP_S = 10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Describe a server; see the options of `ppdl serve`.

    Raises:
        ConfigError: it would send tokens or queries in the clear, or let everybody in, beyond this machine.
    """

    host: str
    port: int
    head: Path
    state: Path
    token_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    insecure_network: bool
    num_workers: int
    max_queue: int
    max_body: int
    per_s: float
    allow_insecure_key: bool
    limits: Limits

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key belong together: give both or neither")
        if is_loopback(self.host) or self.insecure_network:
            return
        if missing := [name for name, value in (("--tls-cert", self.tls_cert), ("--token-file", self.token_file)) if value is None]:
            raise ConfigError(
                f"--host {self.host} can be reached from other machines, which needs TLS and tokens, and {' and '.join(missing)} "
                "is missing; --insecure-open-network serves without, for a network where nobody listens or lies"
            )


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        PpdlError: a file cannot be used, or the address is taken.
    """
    import uvicorn

    from ppdl.serving.server import build_app

    tokens = None if settings.token_file is None else load_tokens(settings.token_file)
    service = build_service(settings)
    app = build_app(service, tokens=tokens, per_s=settings.per_s, max_body=settings.max_body)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client's word on its address would undo the rate limit
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    _load_tls(config, settings)
    log.set_up()
    listener = _bind(settings)
    service.workers.wait_until_ready()
    scheme = "http" if settings.tls_cert is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{scheme}://{host}:{listener.getsockname()[1]}"
    log.event("listening", fields={"url": url, "statement": service.statement.sha256.hex()[:16]})
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped in order, and raises it once more
        uvicorn.Server(config).run(sockets=[listener])


def build_service(settings: Settings) -> Service:
    """Load the head, open the state, start the workers. Raises: PpdlError."""
    head = load_head(settings.head).public
    lengths = (*INSECURE_KEY_BITS, *SECURE_KEY_BITS) if settings.allow_insecure_key else SECURE_KEY_BITS
    statement = Statement(head, MASK_BITS, lengths, settings.limits.max_queries_per_key)
    store = Store(settings.state)
    workers = Workers(settings.head, mask_bits=MASK_BITS, num_workers=settings.num_workers, max_queue=settings.max_queue)
    return Service(statement, store, workers, settings.limits)


def default_state() -> Path:
    """Return $XDG_STATE_HOME/ppdl/serve.sqlite, else ~/.local/state/ppdl/serve.sqlite."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local/state") / "ppdl/serve.sqlite"


def _load_tls(config: uvicorn.Config, settings: Settings) -> None:
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} cannot be used ({error})") from None


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen()  # from here on connections wait instead of being refused
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"cannot listen on {settings.host}, port {settings.port} ({error}): choose another with --host or --port"
        ) from None
    return bound
