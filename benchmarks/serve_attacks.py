"""Measure how fast `ppdl serve` answers /health while somebody tries to stop it: python -m benchmarks.serve --attacks.

silent: 1,005 connections that say nothing. keys: 32 senders of public keys, in turn of 11,213 bits and with a prime n of 4096, 20 a second
each. bodies: 64 queries of which one byte a second comes. What is closed is opened again after a second. Each from one address (that of the
one who asks for /health), from 100 (127.0.0.2 and up), and from 100 behind a reverse proxy that the server trusts, which then also passes
on what asks for /health. Attackers and proxy are processes of their own on the same machine, so they slow down what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import multiprocessing
import re
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np

NUM_SILENT, NUM_SENDERS, NUM_BODIES, NUM_ADDRESSES = 1005, 32, 64, 100
PAUSE_S, HEALTH_EVERY_S = 1.0, 0.05
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def silent(streams: Streams) -> None:
    """Wait until the server closes the connection."""
    await streams[0].read()


async def send_keys(streams: Streams) -> None:
    """Send keys that are too long, or prime, as fast as 20 a second."""
    from ppdl.crypto.keys.jwk import encode_int

    reader, writer = streams
    for n in (2**11213 - 1, int(gmpy2.next_prime(2**4095))) * 100:
        members = {"kty": "DAJ", "alg": "PAI-GN1", "n": encode_int(n), "modulus_proof": "A" * ((11 * 512 * 4 + 2) // 3)}
        body = json.dumps(members).encode()
        writer.write(_head("/v1/keys", "application/json", len(body)) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", answer)[1]))
        await asyncio.sleep(0.05)


async def send_slowly(streams: Streams) -> None:
    """Send a query's body a byte a second."""
    reader, writer = streams
    writer.write(_head("/v1/infer", "application/octet-stream", 44_136))
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        writer.write(b"P")
        await writer.drain()
        await asyncio.sleep(1)


ATTACKS: dict[str, tuple[Callable[[Streams], Awaitable[None]], int]] = {
    "silent": (silent, NUM_SILENT),
    "keys": (send_keys, NUM_SENDERS),
    "bodies": (send_slowly, NUM_BODIES),
}


def attack(name: str, port: int, addresses: list[str], seconds: float) -> None:
    """Attack 127.0.0.1 from addresses for some seconds. A process of its own."""
    one, number = ATTACKS[name]

    async def again(address: str) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                streams = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                try:
                    await one(streams)
                finally:
                    streams[1].close()
            await asyncio.sleep(PAUSE_S)

    async def everybody() -> None:
        tasks = [asyncio.create_task(again(addresses[i % len(addresses)])) for i in range(number)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()

    _raise_descriptors()
    asyncio.run(everybody())


def proxy(port: int, upstream: int, ready: Any) -> None:
    """Pass connections on, and say in the first head of each where it came from. A process of its own, ended by its starter."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")[0]
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
            down = asyncio.create_task(copy(up_reader, writer))
            if line := await reader.readline():
                up_writer.write(line + f"x-forwarded-for: {address}\r\n".encode())
            await copy(reader, up_writer)
            await down
        writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=2048)
        ready.set()
        await server.serve_forever()

    _raise_descriptors()
    asyncio.run(forever())


@contextlib.contextmanager
def running(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run a function in a process, and end it with the block."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def ask(port: int, seconds: float) -> dict[str, Any]:
    """Ask for /health, each time over a new connection; return quantiles in ms and what was answered."""
    times, answers, end = [], Counter[str](), time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health")
            answers[str(connection.getresponse().status)] += 1
            connection.close()
        except OSError as error:
            answers[type(error).__name__] += 1
        times.append(1000 * (time.perf_counter() - started))
        time.sleep(max(0.0, HEALTH_EVERY_S - times[-1] / 1000))
    p50, p95 = np.quantile(times, (0.5, 0.95))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "max_ms": max(times), "answers": dict(answers)}


def measure(start: Callable[..., tuple[Any, str]], folder: Path, num_workers: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what /health took under each attack from each place, each on a server of its own; first under none."""
    many = [f"127.0.0.{2 + i}" for i in range(NUM_ADDRESSES)]
    places = {"one address": (["127.0.0.1"], False), "100 addresses": (many, False), "100 behind a proxy": (many, True)}
    for name in ("none", *ATTACKS):
        for place, (addresses, behind) in places.items() if name != "none" else [("", ([], False))]:
            options = ["--trusted-proxy", "127.0.0.1"] if behind else []
            process, url = start(folder, num_workers, *options)
            port = int(url.rpartition(":")[2])
            try:
                with contextlib.ExitStack() as stack:
                    if behind:
                        ready = multiprocessing.get_context("spawn").Event()
                        upstream, port = port, port + 1
                        stack.enter_context(running(proxy, port, upstream, ready))
                        ready.wait(30)
                    if name != "none":
                        stack.enter_context(running(attack, name, port, addresses, seconds + 30))
                        time.sleep(5)  # all connections are made
                    yield {"attack": name, "from": place} | ask(port, seconds)
            finally:
                process.terminate()
                process.wait()


@functools.cache
def _head(path: str, media_type: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n".encode()


def _raise_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
