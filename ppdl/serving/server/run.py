"""Bind the address, start the workers, serve until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ppdl.crypto.keys.keypair import SECURE_KEY_BITS
from ppdl.errors import ConfigError
from ppdl.private_head.head import load_head
from ppdl.serving.addresses import is_loopback
from ppdl.serving.http import log
from ppdl.serving.server.compute import Workers
from ppdl.serving.server.service import Service
from ppdl.serving.server.store import State
from ppdl.serving.server.tokens import load_tokens
from ppdl.serving.statement import Statement

if TYPE_CHECKING:
    import uvicorn

MASK_BITS = 40
INSECURE_KEY_BITS = (512,)  # for tests
_DESCRIPTORS, _RESERVED, _FEWEST = 4096, 256, 64  # open files: to ask for, for other things than connections, for connections at least
_STOP_S = 10


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Describe a server; see the options of `ppdl serve`.

    Raises:
        ConfigError: it would send tokens or queries in the clear, or let everybody in, beyond this machine; or an address is none.
    """

    host: str
    port: int
    head: Path
    state: Path
    token_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    trusted_proxies: tuple[str, ...]
    insecure_network: bool
    num_workers: int
    max_queue: int
    max_body: int
    per_s: float
    allow_insecure_key: bool
    max_queries_per_key: int
    max_keys: int

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key belong together: give both or neither")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ConfigError(f"--trusted-proxy must be an IP address or network such as 10.0.0.0/24, got {proxy!r}") from None
        if is_loopback(self.host) or self.insecure_network:
            return
        if missing := [name for name, value in (("--tls-cert", self.tls_cert), ("--token-file", self.token_file)) if value is None]:
            raise ConfigError(
                f"--host {self.host} can be reached from other machines, which needs TLS and tokens, and {' and '.join(missing)} "
                "is missing; --insecure-open-network serves without, for a network where nobody listens or lies"
            )


def serve(settings: ServerSettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        PpdlError: a file cannot be used, or the address is taken.
    """
    import uvicorn

    from ppdl.serving.http.connections import Connection, Loop
    from ppdl.serving.server.app import build_app

    log.set_up()
    Connection.most = max(_FEWEST, min(Connection.most, _raise_descriptors() - _RESERVED))
    tokens = None if settings.token_file is None else load_tokens(settings.token_file)
    service = build_service(settings)
    app = build_app(service, tokens=tokens, per_s=settings.per_s, max_body=settings.max_body)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),  # anybody else's word on an address would undo the limits
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=_STOP_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    _load_tls(config, settings)
    listener = _bind(settings)
    service.workers.wait_until_ready()
    scheme = "http" if settings.tls_cert is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{scheme}://{host}:{listener.getsockname()[1]}"
    log.event("listening", fields={"url": url, "statement": service.statement.sha256.hex()[:16]})
    # uvicorn has stopped in order when it raises KeyboardInterrupt once more
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


def build_service(settings: ServerSettings) -> Service:
    """Load the head, open the state, start the workers. Raises: PpdlError."""
    head = load_head(settings.head)
    lengths = (*INSECURE_KEY_BITS, *SECURE_KEY_BITS) if settings.allow_insecure_key else SECURE_KEY_BITS
    statement = Statement(head.public, MASK_BITS, lengths, settings.max_queries_per_key)
    store = _open_store(settings.state)
    workers = Workers(head, mask_bits=MASK_BITS, secret=store.secret(), num_workers=settings.num_workers, max_queue=settings.max_queue)
    return Service(statement, store, workers, settings.max_keys)


def default_state() -> Path:
    """Return $XDG_STATE_HOME/ppdl/serve.sqlite, else ~/.local/state/ppdl/serve.sqlite."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local/state") / "ppdl/serve.sqlite"


def _open_store(path: Path) -> State:
    """Open the state, outside of git: it holds the secret of the masks. Say it when that is new."""
    if trees := [tree for tree in path.resolve().parents if (tree / ".git").exists()]:
        raise ConfigError(
            f"--state {path} lies in the git work tree {trees[0]}, and holds a secret that must stay out of it: choose another"
        )
    store = State(path)
    if store.is_new:
        log.event(
            "new secret",
            level=logging.WARNING,
            fields={
                "state": str(path),
                "meaning": "as at a first start. Where an older state was lost, so are its budgets: clients may ask for more in all",
            },
        )
    return store


def _raise_descriptors() -> int:
    """Let this process open as many files as it may, up to what it needs; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _DESCRIPTORS
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def _load_tls(config: uvicorn.Config, settings: ServerSettings) -> None:
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} cannot be used ({error})") from None


def _bind(settings: ServerSettings) -> socket.socket:
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
