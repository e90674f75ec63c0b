"""Answers of a real server, every refusal by its name, and what is remembered, counted and logged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import socket
import sqlite3
import time
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
import requests

from ppdl.crypto.inner_product.batch import decrypt_logit_batch
from ppdl.crypto.inner_product.single import decrypt_logits
from ppdl.crypto.keys.jwk import encode_int, public_members
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ConfigError
from ppdl.serving import protocol
from ppdl.serving.addresses import client_address
from ppdl.serving.http.bodies import read_body
from ppdl.serving.http.limits import Client as Sender
from ppdl.serving.http.limits import Rate, Room
from ppdl.serving.problems import RULES, ProblemError
from ppdl.serving.protocol import BATCH, SINGLE, Query, Reply
from ppdl.serving.registration import registration
from ppdl.serving.server import compute
from ppdl.serving.server.app import build_app
from ppdl.serving.server.run import ServerSettings, _open_store
from ppdl.serving.server.store import State
from ppdl.serving.server.tokens import Tokens, add_token, load_tokens
from ppdl.serving.statement import Statement
from tests.serving.running import CLASS_NAMES, KEY_BITS, RunningServer, key_of, make_features, make_head, make_query, used

BINARY = {"content-type": "application/octet-stream"}
JSON = {"content-type": "application/json"}


def register(url: str, key) -> requests.Response:
    return requests.post(url + "/v1/keys", data=registration(key), headers=JSON, timeout=10)


def infer(url: str, query: Query) -> requests.Response:
    return requests.post(url + "/v1/infer", data=query.encode(), headers=BINARY, timeout=30)


@pytest.fixture(scope="module")
def stated(running) -> Statement:
    return Statement.from_json(requests.get(running.url + "/v1/head", timeout=10).json())


@pytest.fixture(scope="module")
def key(running):
    key = key_of(0)
    assert register(running.url, key).json()["fingerprint"] == key.public.fingerprint
    return key


def check_problem(response: requests.Response, name: str) -> None:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"], response.status_code) == (f"urn:ppdl:problem:{name}", *[RULES[name].status] * 2)
    assert ("retry-after" in response.headers) == RULES[name].retry
    assert set(problem) == {"type", "title", "status", "detail", "instance"}


def test_the_answer_for_one_image_is_the_heads(running, stated, key):
    features = make_features(1)
    response = infer(running.url, query := make_query(stated, key, features))
    reply = Reply.decode(response.content)
    assert reply.query_sha256 == protocol.sha256(query.encode())
    assert decrypt_logits(key, reply.ciphertexts, stated.packing(KEY_BITS)).tolist() == make_head().logits(features)[0].tolist()


def test_the_answer_for_a_batch_is_the_heads(running, stated, key):
    packing = stated.batch_packing(KEY_BITS)
    features = make_features(packing.capacity)
    reply = Reply.decode(infer(running.url, make_query(stated, key, features, BATCH)).content)
    assert np.array_equal(decrypt_logit_batch(key, reply.ciphertexts, packing, len(features)), make_head().logits(features))


@pytest.mark.parametrize("mode", [SINGLE, BATCH])
def test_a_retry_gets_the_same_bytes_and_another_query_other_masks(running, stated, key, mode):
    """Two answers to one query under two masks say more of the weights than one, and cost one image of the budget."""
    query = make_query(stated, key, make_features(1), mode)
    first, again = (infer(running.url, query).content for _ in range(2))
    assert first == again
    other = infer(
        running.url, replace(query, request_id=secrets.token_bytes(16))
    ).content  # the same ciphertexts, charged as a query of its own
    assert not (Reply.decode(first).ciphertexts == Reply.decode(other).ciphertexts).all(axis=1).any()


def test_a_retry_gets_the_same_bytes_from_a_server_that_was_started_again(tmp_path):
    key = key_of(0)
    with RunningServer(tmp_path, make_head()) as server:
        register(server.url, key)
        query = make_query(Statement.from_json(requests.get(server.url + "/v1/head", timeout=10).json()), key, make_features(1))
        first = infer(server.url, query)
        server.wait_for_route("/v1/infer")
        server.stop(signal.SIGKILL)
        server.start()
        again = infer(server.url, query)
        secret = sqlite3.connect(server.state).execute("SELECT value FROM secret").fetchone()[0]
    assert (first.status_code, again.content) == (200, first.content)
    lines = server.log()
    assert [line["new"] for line in lines if line.get("route") == "/v1/infer"] == [True, False]
    assert [line["event"] for line in lines].count("new secret") == 1
    assert not any(form in server.log_path.read_text() for form in (secret.hex(), repr(secret)[2:-1]))


def test_another_head_of_the_same_statement_answers_nothing_for_free(tmp_path):
    """Its answer to a query that was charged before would show the same partial sums under other masks."""
    head = make_head()
    with RunningServer(tmp_path, head) as server:
        register(server.url, key_of(0))
        query = make_query(Statement.from_json(requests.get(server.url + "/v1/head", timeout=10).json()), key_of(0), make_features(1))
        first = infer(server.url, query)
        replace(head, bias=head.bias + 1).save(tmp_path / "head")
        for process in psutil.Process(server.process.pid).children():
            process.kill()
        answers = [infer(server.url, query) for _ in range(10)]  # while it has no worker the server says that it is busy
        assert {answer.content for answer in answers if answer.status_code != 503} == {first.content}
        server.stop()
        server.start()
        check_problem(infer(server.url, query), "request-id-reused")
        assert infer(server.url, replace(query, request_id=bytes(16))).status_code == 200
    assert [line["new"] for line in server.log() if line.get("status") == 200 and "new" in line].count(True) == 2


def test_another_head_key_or_secret_gives_other_masks(tmp_path, statement, monkeypatch):
    """Or the same query, asked of a head before and after it was trained again, would show how their partial sums differ."""
    key, other_key = key_of(0).public, key_of(1).public
    query = make_query(statement, key_of(0), make_features(1)).encode()

    def drawn(public=key, body=query, secret=bytes(32), change=0) -> int:
        head = make_head()
        head.weights[0, 0] ^= change
        found = []
        evaluator = SimpleNamespace(head=head, evaluate=lambda key, ciphertexts, randbelow: found.append(randbelow(2**256)))
        monkeypatch.setattr(compute, "_worker", (evaluator, secret))
        compute.evaluate(public, body)
        return found[0]

    assert drawn() == drawn()
    changed = [drawn(other_key), drawn(body=query[:-1] + bytes([query[-1] ^ 1])), drawn(secret=bytes(31) + b"1"), drawn(change=1)]
    assert len({drawn(), *changed}) == 5


def with_ciphertext(query: Query, number: int) -> Query:
    ciphertexts = query.ciphertexts.copy()
    ciphertexts[3] = np.frombuffer(number.to_bytes(ciphertexts.shape[1], "big"), np.uint8)
    return replace(query, ciphertexts=ciphertexts)


QUERY_REFUSALS = {
    "number 0": ("bad-ciphertext", lambda q, key: with_ciphertext(q, 0)),
    "number n^2": ("bad-ciphertext", lambda q, key: with_ciphertext(q, key.public.n_squared)),
    "largest number": ("bad-ciphertext", lambda q, key: with_ciphertext(q, 2 ** (2 * KEY_BITS) - 1)),
    "number n": ("bad-ciphertext", lambda q, key: with_ciphertext(q, key.public.n)),
    "multiple of p": ("bad-ciphertext", lambda q, key: with_ciphertext(q, 12345 * key.p)),
    "one ciphertext too few": ("wrong-count", lambda q, key: replace(q, ciphertexts=q.ciphertexts[1:])),
    "one ciphertext too many": ("wrong-count", lambda q, key: replace(q, ciphertexts=np.concatenate([q.ciphertexts, q.ciphertexts[:1]]))),
    "other length": ("wrong-count", lambda q, key: replace(q, ciphertexts=q.ciphertexts[:, 1:])),
    "single as batch": ("wrong-count", lambda q, key: replace(q, mode=BATCH)),
    "unknown key": ("unknown-key", lambda q, key: replace(q, fingerprint=bytes(32))),
    "other head": ("other-head", lambda q, key: replace(q, head_sha256=bytes(32))),
    "other mode": ("malformed-header", lambda q, key: replace(q, mode=7)),
}


@pytest.mark.parametrize("case", QUERY_REFUSALS)
def test_a_query_that_breaks_a_rule_is_refused(running, stated, key, case):
    name, change = QUERY_REFUSALS[case]
    check_problem(infer(running.url, change(make_query(stated, key, make_features(1)), key)), name)


def test_a_batch_with_more_images_than_slots_is_refused(running, stated, key):
    query = make_query(stated, key, make_features(2), BATCH)
    check_problem(infer(running.url, replace(query, num_images=stated.batch_packing(KEY_BITS).capacity + 1)), "wrong-count")


def test_a_request_id_stands_for_one_query(running, stated, key):
    query, other = (make_query(stated, key, make_features(1, seed=seed)) for seed in (1, 2))
    assert infer(running.url, query).status_code == 200
    check_problem(infer(running.url, replace(other, request_id=query.request_id)), "request-id-reused")


def with_proof(proof: object) -> bytes:
    """Give the registration of a key that nobody has registered, with another proof."""
    return json.dumps(public_members(key_of(6).public) | {"modulus_proof": proof}).encode()


BARE = {"kty": "DAJ", "alg": "PAI-GN1"}
KEY_REFUSALS = {
    "no JSON": ("not-json", b"{"),
    "no object": ("not-json", b"[]"),
    "deep JSON": ("not-json", b"[" * 60_000),
    "no n": ("bad-key", json.dumps(BARE).encode()),
    "another kind": ("bad-key", json.dumps({"kty": "RSA", "n": "AQAB"}).encode()),
    "even n": ("bad-key", json.dumps(BARE | {"n": encode_int(2**511)}).encode()),
    "prime n of another length": ("bad-key", json.dumps({"kty": "DAJ", "alg": "PAI-GN1", "n": encode_int(2**521 - 1)}).encode()),
    "prime n": (
        "bad-key",
        json.dumps({"kty": "DAJ", "alg": "PAI-GN1", "n": encode_int(2**512 - 569), "modulus_proof": "A" * 939}).encode(),
    ),
    "short n": ("bad-key", json.dumps(public_members(key_of(0, 256).public)).encode()),
    "key for archives": ("bad-key", registration(generate_keypair(KEY_BITS, allow_insecure_key=True))),
    "wrong fingerprint": ("bad-key", json.dumps(public_members(key_of(0).public) | {"fingerprint": "0" * 64}).encode()),
    "too large": ("too-large", b" " * 70_000),
    "no proof": ("bad-proof", with_proof(None)),
    "proof that is no text": ("bad-proof", with_proof(7)),
    "proof that is no base64": ("bad-proof", with_proof("*" * 939)),
    "short proof": ("bad-proof", with_proof("AAAA")),
    "proof of zeros": ("bad-proof", with_proof("A" * 939)),
    "proof of another key": ("bad-proof", with_proof(json.loads(registration(key_of(7)))["modulus_proof"])),
}


@pytest.mark.parametrize("case", KEY_REFUSALS)
def test_a_key_that_breaks_a_rule_is_refused(running, case):
    name, body = KEY_REFUSALS[case]
    check_problem(requests.post(running.url + "/v1/keys", data=body, headers=JSON, timeout=10), name)


HTTP_REFUSALS = {
    "path": ("not-found", "GET", "/v2/head", {}, None),
    "method": ("method-not-allowed", "PUT", "/v1/keys", {}, None),
    "no media type": ("wrong-media-type", "POST", "/v1/infer", {}, b"x"),
    "media type": ("wrong-media-type", "POST", "/v1/infer", JSON, b"x"),
    "content-encoding": ("wrong-media-type", "POST", "/v1/infer", BINARY | {"content-encoding": "gzip"}, b"x"),
    "empty": ("not-a-query", "POST", "/v1/infer", BINARY, b""),
    "version": ("wrong-version", "POST", "/v1/infer", BINARY, b"PPDLQ/2\n"),
    "length": ("wrong-length", "POST", "/v1/infer", BINARY, b"PPDLQ/1\n"),
    "stated size": ("too-large", "POST", "/v1/infer", BINARY, b"x" * 20_001),
    "streamed size": ("too-large", "POST", "/v1/infer", BINARY, iter([b"x" * 9_000] * 3)),
}


@pytest.mark.parametrize("case", HTTP_REFUSALS)
def test_a_request_that_breaks_a_rule_is_refused(running, case):
    name, method, path, headers, body = HTTP_REFUSALS[case]
    check_problem(requests.request(method, running.url + path, headers=headers, data=body, timeout=10), name)


class Client:
    """Send requests to an application in this process. Its lifespan is not entered: the workers are for all tests."""

    def __init__(self, app) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **arguments) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://server") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(send())

    def get(self, path: str, **arguments) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments) -> httpx.Response:
        return self.request("POST", path, **arguments)


@pytest.fixture
def client(service):
    """The same application in this process, without tokens."""
    return Client(build_app(service, tokens=None, per_s=1000, max_body=20_000))


def send_key(client, number=0, **headers):
    return client.post("/v1/keys", content=registration(key_of(number)), headers=JSON | headers)


def send(client, query, **headers):
    return client.post("/v1/infer", content=query.encode(), headers=BINARY | headers)


def test_a_key_has_a_budget_and_retries_are_free(client, service):
    send_key(client)
    query = make_query(service.statement, key_of(0), make_features(4), BATCH)
    assert [send(client, query).status_code for _ in range(3)] == [200] * 3
    check_problem(send(client, make_query(service.statement, key_of(0), make_features(2), BATCH)), "budget-spent")  # 1 of 5 is left
    assert send(client, make_query(service.statement, key_of(0), make_features(1))).status_code == 200
    check_problem(send(client, make_query(service.statement, key_of(0), make_features(1))), "budget-spent")
    assert used(service.store, bytes.fromhex(key_of(0).public.fingerprint)) == 5


def test_a_refused_query_is_not_charged(client, service):
    send_key(client)
    query = make_query(service.statement, key_of(0), make_features(1))
    check_problem(send(client, with_ciphertext(query, 0)), "bad-ciphertext")
    assert used(service.store, query.fingerprint) == 0


def test_a_client_may_register_so_many_keys(client):
    assert [send_key(client, number).status_code for number in (0, 1, 0)] == [200] * 3
    check_problem(send_key(client, 2), "too-many-keys")


def test_tokens_let_in_and_keep_budgets_apart(service, tmp_path):
    tokens_path = tmp_path / "tokens"
    first, second = (add_token(tokens_path, name) for name in ("ward-7", "ward-8"))
    app = build_app(service, tokens=load_tokens(tokens_path), per_s=1000, max_body=20_000)
    client = Client(app)
    assert client.get("/health").status_code == 200
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {first}"}, {"authorization": f"Bearer {first}x"}):
        for path in ("/v1/head", "/metrics"):
            response = client.get(path, headers=headers)
            check_problem(response, "no-token")
            assert response.headers["www-authenticate"].startswith("Bearer")
    query = make_query(service.statement, key_of(0), make_features(5), BATCH)
    with_first, with_second = ({"authorization": f"Bearer {token}"} for token in (first, second))
    assert send_key(client, **with_first).status_code == 200
    check_problem(send(client, query, **with_second), "unknown-key")  # the key of another client
    assert send(client, query, **with_first).status_code == 200
    assert send_key(client, **with_second).status_code == 200
    assert send(client, query, **with_second).status_code == 200  # under a budget of its own, also with the first one's id
    assert client.get("/openapi.json").json()["paths"]["/v1/infer"]["post"]["security"] == [{"token": []}]


def test_a_client_that_asks_too_often_is_told_when_to_come_back(service):
    client = Client(build_app(service, tokens=None, per_s=0.5, max_body=20_000))
    assert client.get("/v1/head").status_code == 200
    response = client.get("/v1/head")
    check_problem(response, "too-fast")
    assert response.headers["retry-after"] in ("1", "2")


def test_a_full_queue_refuses_and_charges_nothing(client, service):
    send_key(client)
    query = make_query(service.statement, key_of(0), make_features(1))
    with contextlib.ExitStack() as others:
        for number in range(4):
            others.enter_context(service.workers.room.place(f"10.0.0.{number}"))
        check_problem(send(client, query), "busy")
    with service.workers.room.place("127.0.0.1"):  # its share of 4
        check_problem(send(client, query), "too-fast")
    assert used(service.store, query.fingerprint) == 0
    assert send(client, query).status_code == 200
    assert service.workers.room.used == 0


def test_a_dead_worker_is_replaced(client, service):
    send_key(client)
    query = make_query(service.statement, key_of(0), make_features(1))
    for process in list(service.workers._pool._processes.values()):
        process.kill()
        process.join()
    statuses = [send(client, query).status_code for _ in range(3)]
    assert statuses[-1] == 200 and set(statuses) <= {200, 503}
    assert used(service.store, query.fingerprint) == 1
    assert service.workers.room.used == 0


def test_what_nobody_expected_is_answered_with_an_id_alone(client, service, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("patient 17 of ward 7")

    monkeypatch.setattr(State, "key", fail)
    with caplog.at_level("INFO", "ppdl.serving"):
        response = send(client, make_query(service.statement, key_of(0), make_features(1)))
    check_problem(response, "internal")
    failed = next(record for record in caplog.records if record.getMessage() == "failed")
    assert response.json()["instance"].endswith(failed.fields["id"])
    assert "patient" not in response.text


def test_a_slow_body_is_given_up():
    class Slow:
        headers = BINARY

        async def stream(self):
            yield b"PPDL"
            await asyncio.sleep(10)

    with pytest.raises(ProblemError) as caught:
        asyncio.run(read_body(Slow(), media_type=protocol.MEDIA_TYPE, largest=100, slowest_s=0.05))
    assert caught.value.name == "too-slow"


def test_a_client_that_goes_away_in_the_middle_is_no_failure(running):
    before = len(running.log())
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = b"POST /v1/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\n"
        connection.sendall(head + b"PPDLQ/1\n")
    for _ in range(100):
        if lines := running.log()[before:]:
            break
        time.sleep(0.05)
    assert [(line["event"], line["problem"], line["bytes_in"]) for line in lines] == [("request", "wrong-length", 8)]
    assert requests.get(running.url + "/health", timeout=10).status_code == 200


def test_health_says_when_the_state_cannot_be_read(client, service, monkeypatch):
    assert client.get("/health").json() == {"status": "ok"}

    def fail(_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(State, "check", fail)
    check_problem(client.get("/health"), "busy")


def test_metrics_count_and_name_nobody(client, service):
    send_key(client)
    query = make_query(service.statement, key_of(0), make_features(3), BATCH)
    assert send(client, query).status_code == 200
    client.get("/made-up-by-a-client")
    send(client, with_ciphertext(query, 0))
    text = client.get("/metrics").text
    for line in (
        'ppdl_requests_total{route="/v1/infer",status="200"} 1',
        'ppdl_requests_total{route="other",status="404"} 1',
        'ppdl_problems_total{name="bad-ciphertext"} 1',
        'ppdl_images_total{mode="batch"} 3',
        'ppdl_request_seconds_bucket{route="/v1/infer",le="+Inf"} 2',
        'ppdl_request_seconds_count{route="/v1/infer"} 2',
        "ppdl_computing 0",
    ):
        assert line in text.splitlines()
    assert "made-up" not in text and key_of(0).public.fingerprint[:8] not in text
    counts = [int(line.split()[1]) for line in text.splitlines() if line.startswith('ppdl_request_seconds_bucket{route="/v1/keys"')]
    assert counts == sorted(counts) and counts[-1] == 1


def test_two_servers_share_one_budget(service, tmp_path):
    """Two processes on one file; here two connections, which sqlite treats alike."""
    path = tmp_path / "shared.sqlite"
    first, second = State(path), State(path)
    fingerprint = bytes.fromhex(key_of(0).public.fingerprint)
    first.register("", key_of(0).public, max_keys=1)
    assert second.key("", fingerprint) == key_of(0).public
    for number, store in enumerate((first, second, first)):
        store.charge("", fingerprint, bytes([number]), b"", 1, budget=3)
    with pytest.raises(ProblemError, match="0 of 3 images"):
        second.charge("", fingerprint, b"x", b"", 1, budget=3)
    first.close(), second.close()


def test_the_state_is_for_its_owner_and_of_one_version(tmp_path):
    path = tmp_path / "folder/state.sqlite"
    State(path).close()
    assert path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match="another program or version"):
        State(path)
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 9)
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(ConfigError, match="cannot hold the server's state"):
        State(tmp_path / "text")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="secret of the masks: chmod 600"):
        State(path)


def test_a_lost_secret_is_made_anew_and_no_second_answer_is_free(tmp_path):
    path, key = tmp_path / "state.sqlite", key_of(0).public
    charge = ("", bytes.fromhex(key.fingerprint), b"id", b"digest", 3)
    found = []
    for _ in range(3):
        store = State(path)
        store.register("", key, max_keys=1)
        found.append((store.secret(), store.is_new, store.charge(*charge, budget=9)))
        store.close()
        if len(found) == 2:
            with sqlite3.connect(path) as db:
                db.execute("DELETE FROM secret")
    assert found[0][0] == found[1][0] != found[2][0]
    assert [rest for _, *rest in found] == [[True, True], [False, False], [True, True]]


def test_the_state_stays_out_of_git(tmp_path):
    (tmp_path / ".git").mkdir()
    with pytest.raises(ConfigError, match=r"lies in the git work tree .* must stay out of it"):
        _open_store(tmp_path / "folder/state.sqlite")
    assert not (tmp_path / "folder").exists()


def test_rates_recover_and_are_each_clients_own():
    now = [0.0]
    rate = Rate(2, clock=lambda: now[0])
    for _ in range(4):  # the burst is 2 s worth of requests
        rate.take("a")
    with pytest.raises(ProblemError, match="2 requests a second"):
        rate.take("a")
    rate.take("b")
    now[0] = 0.5
    rate.take("a")
    with pytest.raises(ProblemError):
        rate.take("a")


def test_a_room_is_left_however_the_work_ends():
    room = Room(1, "things")
    with pytest.raises(ValueError, match="x"), room.place("a"):
        raise ValueError("x")
    assert room.used == 0


def test_no_client_fills_a_room():
    room = Room(8, "things")
    with contextlib.ExitStack() as places:
        for name in ("a", "a", "b", "b", "c", "c", "d"):
            places.enter_context(room.place(name))
        with pytest.raises(ProblemError, match="2 things of this client") as caught:
            places.enter_context(room.place("a"))
        assert caught.value.name == "too-fast"
        places.enter_context(room.place("e"))
        with pytest.raises(ProblemError, match="8 things are in work"):
            places.enter_context(room.place("f"))
    assert room.used == 0 and not room._used


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("", ""),
        ("x" * 999, "x" * 64),
    ],
)
def test_an_address_counts_with_those_that_one_subscriber_has(host, found):
    assert client_address(host) == found
    assert Sender("", found).name == found and Sender("ward-7", found).name == "ward-7"


@pytest.mark.parametrize(("text", "match"), [("", "holds no token"), ("ward-7\n", "line 1"), ("# x\nWard 00\n", "line 2")])
def test_a_token_file_that_breaks_a_rule_is_refused(tmp_path, text, match):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        load_tokens(path)


def test_tokens_are_hashed_at_rest_and_closed_to_others(tmp_path):
    path = tmp_path / "tokens"
    tokens = [add_token(path, name) for name in ("a", "a", "b")]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(token in path.read_text() for token in tokens)
    loaded = load_tokens(path)
    assert [loaded.owner(token) for token in (*tokens, "x", None)] == ["a", "a", "b", None, None]
    assert tokens[0] not in repr(loaded) and repr(loaded) == "Tokens()"
    path.chmod(0o622)
    with pytest.raises(ConfigError, match="others may write"):
        load_tokens(path)
    with pytest.raises(ConfigError, match="client's name"):
        add_token(path, "Ward 7")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokens(tmp_path / "missing")
    assert Tokens(()).owner("x") is None


def settings(**values) -> ServerSettings:
    paths = dict.fromkeys(("token_file", "tls_cert", "tls_key")) | {"trusted_proxies": ()}
    numbers = {"num_workers": 1, "max_queue": 1, "max_body": 1, "per_s": 1, "max_queries_per_key": 1, "max_keys": 1}
    flags = {"insecure_network": False, "allow_insecure_key": False}
    return ServerSettings(**{"host": "127.0.0.1", "port": 0, "head": None, "state": None} | paths | numbers | flags | values)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "hospital.example"])
@pytest.mark.parametrize("given", [(), ("token_file",), ("tls_cert", "tls_key")])
def test_other_machines_need_tls_and_tokens(host, given):
    with pytest.raises(ConfigError, match="--insecure-open-network"):
        settings(host=host, **dict.fromkeys(given, "x"))
    settings(host=host, insecure_network=True)
    settings(host=host, **dict.fromkeys(("token_file", "tls_cert", "tls_key"), "x"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_neither(host):
    settings(host=host)
    with pytest.raises(ConfigError, match="belong together"):
        settings(host=host, tls_cert="x")


def test_logs_hold_sizes_and_no_content(running, stated, key):
    query = make_query(stated, key, make_features(1))
    response = infer(running.url, query)
    infer(running.url, with_ciphertext(query, key.public.n))
    line = next(line for line in running.log() if line.get("id") == response.headers["x-request-id"])
    assert set(line) == {
        *("time", "level", "event", "id", "route", "status", "ms", "bytes_in", "bytes_out", "key", "mode", "num_images", "new")
    }
    assert (line["status"], line["bytes_in"], line["bytes_out"]) == (200, len(query.encode()), len(response.content))
    assert line["key"] == key.public.fingerprint[:16]
    text = running.log_path.read_text()
    assert not any(name in text for name in CLASS_NAMES)
    for row in (*query.ciphertexts, *Reply.decode(response.content).ciphertexts):
        number = int.from_bytes(row.tobytes(), "big")
        assert not any(form in text for form in (row.tobytes().hex()[8:40], str(number)[:30], str(number)[-30:], f"{number:x}"[-30:]))
    assert "Traceback" not in text


def test_every_refusal_has_a_test():
    tested = {name for cases in (QUERY_REFUSALS, KEY_REFUSALS, HTTP_REFUSALS) for name, *_ in cases.values()}
    tested |= {
        "no-token",
        "too-many-keys",
        "budget-spent",
        "too-slow",
        "request-id-reused",
        "too-fast",
        "internal",
        "busy",
    }
    assert tested == set(RULES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_server(tmp_path, number):
    with RunningServer(tmp_path, make_head()) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        status = server.stop(number)
    assert status == (0 if number == signal.SIGINT else -number)
    assert children and not psutil.wait_procs(children, timeout=10)[1]
