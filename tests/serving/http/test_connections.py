"""Connections that say nothing, too slowly or too much: who opens them loses them, and everybody else is answered. Nothing is timed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import threading
from collections.abc import Iterator

import gmpy2
import pytest
import requests
import uvicorn

from ppdl.crypto.keys.jwk import encode_int, public_members
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.errors import ConfigError
from ppdl.serving.http import connections
from ppdl.serving.http.connections import Connection, Loop
from ppdl.serving.http.limits import Client
from ppdl.serving.problems import ProblemError
from ppdl.serving.registration import registration
from ppdl.serving.server.app import MOST_BODIES
from ppdl.serving.server.run import _raise_descriptors
from tests.serving.running import RunningServer, free_port, key_of, make_head
from tests.serving.server.test_app import settings

BODY_HEAD = b"POST /v1/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 10000\r\n\r\n"
ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
NUM_SILENT = 1005


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(address, 0))


def is_closed(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection, without waiting."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def health(port: int, address: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(address, 0))
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> None:
    """Let this process have the connections of a whole attack."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Iterator[RunningServer]:
    """Serve on a server of its own: the log of the others' says that nobody was refused for lack of room."""
    with RunningServer(tmp_path_factory.mktemp("attacked"), make_head()) as server:
        yield server


@pytest.mark.parametrize("num_addresses", [1, 100])
def test_silent_connections_keep_nobody_from_being_answered(attacked, num_addresses):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(attacked.port, f"127.0.0.{2 + i % num_addresses}")) for i in range(NUM_SILENT)]
        assert [health(attacked.port) for _ in range(5)] == [200] * 5
        assert [health(attacked.port, "127.0.0.2") for _ in range(5)] == [200] * 5
        assert sum(map(is_closed, silent)) >= NUM_SILENT + 1 - Connection.most


def test_slow_bodies_of_some_keep_nobody_else_from_asking(attacked):
    before = len(attacked.log())
    with contextlib.ExitStack() as stack:

        def begin(address: str) -> socket.socket:
            connection = stack.enter_context(connect(attacked.port, address))
            connection.sendall(BODY_HEAD + b"P")
            return connection

        def answer(connection: socket.socket) -> bytes:
            return connection.recv(1 << 16).partition(b"\r\n")[0]

        for _ in range(MOST_BODIES // 4):
            begin("127.0.0.2")
        assert b" 429 " in answer(begin("127.0.0.2"))  # it has its share
        assert health(attacked.port, "127.0.0.2") == 200
        registered = requests.post(
            attacked.url + "/v1/keys", data=registration(key_of(0)), headers={"content-type": "application/json"}, timeout=30
        )
        assert registered.status_code == 200
        for number in range(MOST_BODIES * 3 // 4):
            begin(f"127.0.0.{3 + number % 3}")
        assert b" 503 " in answer(begin("127.0.0.9"))  # all places are taken, by four
        assert health(attacked.port) == 200
    for _ in range(200):  # until the server has seen that they are gone
        lines = [line for line in attacked.log()[before:] if line.get("problem") in ("wrong-length", "too-slow")]
        if len(lines) == MOST_BODIES:
            break
        threading.Event().wait(0.05)
    assert len(lines) == MOST_BODIES


def test_the_length_of_a_key_is_looked_at_before_anything_else(service, monkeypatch):
    """n = 2^11213 - 1 is prime, which takes 2 s to see; a key of a right length is tested by a worker, and in a place of the room."""

    def here(*_: object) -> bool:
        raise AssertionError("a primality test in the process that answers everybody")

    monkeypatch.setattr(gmpy2, "is_prime", here)
    long = {"kty": "DAJ", "alg": "PAI-GN1", "n": encode_int(2**11213 - 1)}
    with pytest.raises(ProblemError, match="takes keys of 512, 2048 bits, got one of 11213") as caught:
        asyncio.run(service.register(Client("", "a"), json.dumps(long).encode(), {}))
    assert caught.value.name == "bad-key"
    prime = public_members(PublicKey(2**512 - 569, purpose=INFERENCE)) | {"modulus_proof": "A" * 939}
    with pytest.raises(ProblemError, match="product of two different primes"):
        asyncio.run(service.register(Client("", "a"), json.dumps(prime).encode(), {}))
    with service.workers.room.place("a"), pytest.raises(ProblemError, match="of this client are in work"):
        asyncio.run(service.register(Client("", "a"), json.dumps(prime).encode(), {}))
    found = asyncio.run(service.register(Client("", "a"), registration(key_of(0)), {}))
    assert found["fingerprint"] == key_of(0).public.fingerprint


def test_a_client_with_all_its_keys_costs_no_proof(service, monkeypatch):
    for number in (0, 1):
        asyncio.run(service.register(Client("", "a"), registration(key_of(number)), {}))
    monkeypatch.setattr(type(service.workers), "run", None)
    with pytest.raises(ProblemError) as caught:
        asyncio.run(service.register(Client("", "a"), registration(key_of(2)), {}))
    assert caught.value.name == "too-many-keys"


def test_only_a_trusted_proxy_says_who_asks(tmp_path):
    """With two requests at a time and one more a second: who is believed has more clients than one."""
    with RunningServer(tmp_path, make_head(), "--rate", "0.01", "--trusted-proxy", "127.0.0.2") as server:

        def ask(proxy: str, client: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(proxy, 0))
            with contextlib.closing(connection):
                connection.request("GET", "/v1/head", headers={"x-forwarded-for": client})
                return connection.getresponse().status

        assert [ask("127.0.0.1", f"192.0.2.{i}") for i in range(3)] == [200, 429, 429]
        assert [ask("127.0.0.2", f"192.0.2.{i}") for i in range(3)] == [200, 200, 200]
        assert ask("127.0.0.2", "192.0.2.0") == 429
        assert ask("127.0.0.2", "192.0.2.9, 192.0.2.1") == 429  # the client wrote the first, the proxy the last
        assert ask("127.0.0.2", "2001:db8::1") == 200
        assert ask("127.0.0.2", "2001:db8::2") == 429


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8"])
def test_a_trusted_proxy_is_an_address(proxy):
    settings(trusted_proxies=("10.0.0.1", "10.0.0.0/8", "::1"))
    with pytest.raises(ConfigError, match="--trusted-proxy must be an IP address or network"):
        settings(trusted_proxies=(proxy,))


def set_limits(monkeypatch, **seconds: float) -> None:
    for name, value in seconds.items():
        monkeypatch.setattr(connections, name, value)


@pytest.fixture
def small(monkeypatch) -> Iterator[int]:
    """Run a server of long answers in a thread, for 10 connections, and with time limits that no test reaches; return its port."""
    set_limits(monkeypatch, HEAD_S=600, WRITE_S=600)
    monkeypatch.setattr(Connection, "most", 10)

    async def answer(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4000000")]})
        await send({"type": "http.response.body", "body": bytes(4_000_000)})

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(answer, port=port, http=Connection, lifespan="off", log_config=None, timeout_keep_alive=60))

    def run() -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(server._serve())

    thread = threading.Thread(target=run)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield port
    server.should_exit = True
    thread.join()
    assert not Connection._open


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(1 << 20)):
        data += more
    return data


TAKES = {
    "nothing": lambda connection: None,
    "half a head": lambda connection: connection.sendall(ASK[:-2]),
    "one request and no more": lambda connection: (connection.sendall(ASK), read(connection, 4_000_000)),
    "one request and half a head": lambda connection: (connection.sendall(ASK), read(connection, 4_000_000), connection.sendall(b"GET")),
}


@pytest.mark.parametrize("case", TAKES)
def test_who_lets_the_server_wait_is_closed(small, monkeypatch, case):
    """Where the server does not close, the socket's own limit of 30 s fails the test."""
    set_limits(monkeypatch, HEAD_S=0.2)
    with connect(small) as connection, contextlib.suppress(ConnectionError):
        TAKES[case](connection)
        while connection.recv(1 << 20):
            pass


def test_who_does_not_read_the_answer_is_closed(small, monkeypatch):
    set_limits(monkeypatch, WRITE_S=0.2)
    with connect(small) as connection, pytest.raises(ConnectionError):
        for _ in range(600):
            connection.sendall(ASK)
            threading.Event().wait(0.05)


def test_the_oldest_silent_connection_of_whom_has_most_is_closed(small):
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(connect(small, "127.0.0.2"))
        many = [stack.enter_context(connect(small)) for _ in range(30)]
        last = stack.enter_context(connect(small, "127.0.0.3"))
        last.sendall(ASK)
        assert len(read(last, 4_000_000)) >= 4_000_000
        assert [is_closed(connection) for connection in many] == [True] * 22 + [False] * 8  # with the two others there are 10
        assert not is_closed(other)


@pytest.mark.parametrize("num_asked", [1, 20])
def test_whoever_has_most_connections_gives_way_whatever_he_does_with_them(small, num_asked):
    """None of his is silent: he has asked, and reads nothing."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(small)) for _ in range(10)]
        for connection in many:
            connection.sendall(ASK * num_asked)
            connection.recv(1)
        for number in range(3):
            other = stack.enter_context(connect(small, f"127.0.0.{2 + number}"))
            other.sendall(ASK)
            assert len(read(other, 4_000_000)) >= 4_000_000


def test_whole_requests_one_after_the_other_keep_a_connection(small):
    with connect(small) as connection:
        for _ in range(3):
            connection.sendall(ASK + ASK)  # the second is there before the first is answered
            assert len(read(connection, 8_000_000)) > 8_000_000


def test_a_handshake_that_never_comes_ends(monkeypatch):
    import ssl

    seen = {}

    async def create_server(self, *args, **options):
        seen.update(options)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "create_server", create_server)
    loop = Loop()
    loop.run_until_complete(loop.create_server(None, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
    assert seen["ssl_handshake_timeout"] == connections.HEAD_S
    seen.clear()
    loop.run_until_complete(loop.create_server(None, ssl=None))
    assert "ssl_handshake_timeout" not in seen
    loop.close()


UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "found", "asked"),
    [
        (256, 1024, 1024, [(1024, 1024)]),
        (1024, 1 << 20, 4096, [(4096, 1 << 20)]),
        (256, UNLIMITED, 4096, [(4096, UNLIMITED)]),
        (1 << 20, 1 << 20, 1 << 20, []),
        (UNLIMITED, UNLIMITED, 4096, []),
    ],
)
def test_a_server_asks_for_the_descriptors_that_it_may_have(monkeypatch, soft, hard, found, asked):
    seen = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: seen.append(limits))
    assert (_raise_descriptors(), seen) == (found, asked)
