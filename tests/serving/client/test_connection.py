"""The client against a real server: answers, TLS and tokens, retries, servers that lie, and what leaves the client."""

from __future__ import annotations

import datetime
import ipaddress
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image
from requests import Session

from ppdl.cli import main
from ppdl.crypto.inner_product.batch import BatchPacking
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.crypto.keys.keystore import default_private_dir, save_private, save_public
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, CryptoError, DataError, ServerError
from ppdl.experiment.training.head_run import integer_features
from ppdl.private_head.client import PrivateClient
from ppdl.serving.client.connection import Conversation
from ppdl.serving.client.remote import connect, load_features, predict_remote
from ppdl.serving.protocol import BATCH, SINGLE, Query, Reply, sha256
from tests.secrets_search import find_in_bytes, find_private_key
from tests.serving.running import CLASS_NAMES, KEY_BITS, NUM_FEATURES, RunningServer, key_of, make_features, make_head, make_query


@pytest.fixture
def sent(monkeypatch) -> list[bytes]:
    """Everything that requests sends: URL, headers, body."""
    found, send = [], Session.send

    def recorded(self, request, **kwargs):
        found.append("\n".join([request.url, *map(str, request.headers.items())]).encode() + b"\n" + (request.body or b""))
        return send(self, request, **kwargs)

    monkeypatch.setattr(Session, "send", recorded)
    return found


@pytest.mark.parametrize("num_images", [1, 3, 20])
def test_logits_are_those_of_the_head(running, num_images):
    features = make_features(num_images, seed=num_images)
    with Conversation(running.url) as server:
        found = connect(server, key_of(1), num_images=num_images).logits(features)
    assert np.array_equal(found, make_head().logits(features))


def test_images_go_in_whichever_way_takes_fewer_ciphertexts(running):
    with Conversation(running.url) as server:
        remote = connect(server, key_of(1), num_images=1)
    single, batch = remote.client.packing.num_ciphertexts, remote.client.batch_packing
    for num_images in range(1, 2 * batch.capacity + 2):
        plan = list(remote.plan(num_images))
        assert [row for rows, _ in plan for row in range(num_images)[rows]] == list(range(num_images))
        for rows, mode in plan:
            count = rows.stop - rows.start
            assert count <= batch.capacity
            assert mode == BATCH or count == 1
            assert mode == SINGLE or count * single > batch.num_ciphertexts
    assert {mode for _, mode in remote.plan(2)} == {SINGLE} and {mode for _, mode in remote.plan(batch.capacity)} == {BATCH}


def test_the_private_key_stays_here(running, sent):
    key = key_of(2)
    for num_images in (1, 30):
        with Conversation(running.url) as server:
            connect(server, key, num_images=num_images).logits(make_features(num_images))
    assert len(sent) == 7  # twice head and key; a single image, and 30 images in two batches
    everything = b"".join(sent)
    assert len(everything) > 20_000
    assert find_in_bytes(key, everything) == []
    assert find_private_key(key, [running.folder]) == []
    assert find_in_bytes(key, everything + key.p.to_bytes(KEY_BITS // 16, "big"))  # the search finds it where it is


def test_equal_images_are_sent_as_different_ciphertexts(running, sent):
    for _ in range(2):
        with Conversation(running.url) as server:
            connect(server, key_of(2), num_images=1).logits(make_features(1))
    first, again = sent[2], sent[5]
    size = key_of(2).public.ciphertext_bytes
    rows = [{body[-size * (i + 1) : len(body) - size * i] for i in range(16)} for body in (first, again)]
    assert len(rows[0] | rows[1]) == 32


def test_a_key_of_another_length_is_refused_before_anything_is_sent(running, sent):
    with Conversation(running.url) as server, pytest.raises(ServerError, match="keys of 512, 2048, 3072, 4096 bits"):
        connect(server, key_of(0, 256), num_images=1)
    assert len(sent) == 1


def test_refusals_are_shown_with_their_name(running):
    with Conversation(running.url) as server:
        remote = connect(server, key_of(1), num_images=1)
        wrong = replace(remote, statement=replace(remote.statement, mask_bits=41))
        with pytest.raises(ServerError, match=r"other-head, HTTP status 409"):
            wrong.logits(make_features(1))


def test_a_key_without_h_works_with_standard_obfuscators(running):
    key = key_of(3)
    foreign = PrivateKey(PublicKey(key.public.n, None, INFERENCE), key.p, key.q)
    with Conversation(running.url) as server:
        remote = connect(server, foreign, num_images=1)
        assert remote.client.obfuscator == "standard"
        assert np.array_equal(remote.logits(make_features(1)), make_head().logits(make_features(1)))


def test_a_real_key_and_a_head_of_imagenet_size(tmp_path):
    head, features = make_head(1280), make_features(2, 1280)
    with RunningServer(tmp_path, head) as running, Conversation(running.url) as server:
        remote = connect(server, key_of(0, 2048), num_images=1)
        assert remote.client.batch_packing.capacity >= 64
        query = make_query(remote.statement, remote.client.private_key, features, BATCH)
        reply = server.infer(query, num_classes=3)
        assert np.array_equal(remote.logits(features[:1]), head.logits(features[:1]))
        line = running.log()[-1]
        assert line["bytes_in"] < 50_000 and line["bytes_out"] < 2_000
    assert np.array_equal(remote.client.answer_batch(reply.ciphertexts, 2), head.logits(features))


def certificate(folder):
    """Write a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ppdl test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_path.write_bytes(key.private_bytes(*forms))
    return cert_path, key_path


def test_tls_and_tokens(tmp_path):
    cert, cert_key = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other_cert, _ = certificate(tmp_path / "other")
    tokens = tmp_path / "tokens"
    made = CliRunner().invoke(main, ["serve", "--token-file", str(tokens), "--new-token", "ward-7"])
    token = made.stdout.strip()
    assert made.exit_code == 0 and len(token) == 43
    options = ("--tls-cert", str(cert), "--tls-key", str(cert_key), "--token-file", str(tokens))
    with RunningServer(tmp_path, make_head(), *options, scheme="https") as running:
        with Conversation(running.url, token=token, ca_file=cert) as server:
            assert np.array_equal(connect(server, key_of(1), num_images=1).logits(make_features(1)), make_head().logits(make_features(1)))
        for wrong in (None, "x", token[:-1]):
            with (
                Conversation(running.url, token=wrong, ca_file=cert) as server,
                pytest.raises(ServerError, match="no-token, HTTP status 401"),
            ):
                server.statement()
        for ca_file in (None, other_cert):
            with (
                Conversation(running.url, token=token, ca_file=ca_file, retries=0) as server,
                pytest.raises(ServerError, match="certificate"),
            ):
                server.statement()
    assert token not in running.log_path.read_text()
    for path in tmp_path.glob("state.sqlite*"):
        assert token.encode() not in path.read_bytes()


@pytest.mark.parametrize("url", ["ftp://x", "localhost:1", "http://", "https://h/path", "https://me:word@h", "https://h?x=1", ""])
def test_what_is_no_server_is_refused(url):
    with pytest.raises(ConfigError, match="must be a URL"):
        Conversation(url)


def test_plain_http_is_for_this_machine():
    with pytest.raises(ConfigError, match="use https"):
        Conversation("http://hospital.example")
    Conversation("http://hospital.example", insecure_http=True)
    Conversation("http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="is missing"):
        Conversation("https://h", ca_file=Path("/no/such/file"))


def test_netrc_and_proxies_of_the_environment_are_not_followed(running, tmp_path, monkeypatch, sent):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with Conversation(running.url, token="mine", retries=0) as server:
        server.statement()
    assert b"Bearer mine" in sent[0] and b"Basic" not in sent[0]


@contextmanager
def scripted(*answers: tuple[int, dict, bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Serve scripted answers, the last one for ever; give the URL and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
            status, headers, body = answers[min(len(bodies), len(answers)) - 1]
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", bodies
        finally:
            httpd.shutdown()
            thread.join()


def test_a_busy_server_is_asked_again_with_the_same_bytes(statement):
    query = make_query(statement, key_of(1), make_features(1))
    reply = Reply(sha256(query.encode()), SINGLE, 1, np.zeros((3, query.ciphertexts.shape[1]), np.uint8)).encode()
    started = time.monotonic()
    with scripted((503, {"retry-after": "1"}, b""), (429, {}, b""), (200, {}, reply)) as (url, bodies), Conversation(url) as server:
        assert server.infer(query, num_classes=3).encode() == reply
    assert bodies == [query.encode()] * 3
    assert time.monotonic() - started >= 1


def test_an_answer_that_breaks_off_is_asked_for_again(statement):
    query = make_query(statement, key_of(1), make_features(1))
    reply = Reply(sha256(query.encode()), SINGLE, 1, np.zeros((3, query.ciphertexts.shape[1]), np.uint8)).encode()
    cut = (200, {"content-length": str(len(reply)), "connection": "close"}, reply[:-1])
    with scripted(cut, cut, (200, {}, reply)) as (url, bodies), Conversation(url) as server:
        assert server.infer(query, num_classes=3).encode() == reply
    assert bodies == [query.encode()] * 3
    with scripted(cut) as (url, bodies), Conversation(url, retries=2) as server, pytest.raises(ServerError, match="cannot be reached"):
        server.infer(query, num_classes=3)
    assert len(bodies) == 3


def test_a_refusal_is_not_repeated(statement):
    problem = json.dumps({"type": "urn:ppdl:problem:budget-spent", "detail": "0 of 5 images\x1b[2J are left"}).encode()
    with scripted((403, {}, problem)) as (url, bodies), Conversation(url) as server:
        match = r"0 of 5 images\[2J are left \(budget-spent, HTTP status 403\)"  # no control character
        with pytest.raises(ServerError, match=match):
            server.infer(make_query(statement, key_of(1), make_features(1)), num_classes=3)
    assert len(bodies) == 1


def test_a_server_that_is_away_is_named(statement):
    with (
        Conversation("http://127.0.0.1:9", retries=1) as server,
        pytest.raises(ServerError, match=r"127\.0\.0\.1:9 cannot be reached.*refused"),
    ):
        server.statement()


def lies(query: Query) -> dict[str, tuple[Reply | bytes, str]]:
    size = query.ciphertexts.shape[1]
    good = Reply(sha256(query.encode()), SINGLE, 1, np.ones((3, size), np.uint8))
    return {
        "another query": (replace(good, query_sha256=bytes(32)), "another query"),
        "another mode": (replace(good, mode=BATCH), "another query"),
        "fewer classes": (replace(good, ciphertexts=good.ciphertexts[:2]), "another query"),
        "shorter ciphertexts": (replace(good, ciphertexts=good.ciphertexts[:, 1:]), "another query"),
        "more classes": (replace(good, ciphertexts=np.ones((5000, size), np.uint8)), "more than"),
        "nothing": (b"", "did not answer with a reply"),
        "a page": (b"<html>", "did not answer with a reply"),
    }


@pytest.mark.parametrize(
    "case", ["another query", "another mode", "fewer classes", "shorter ciphertexts", "more classes", "nothing", "a page"]
)
def test_a_reply_that_is_not_of_the_query_is_refused(statement, case):
    query = make_query(statement, key_of(1), make_features(1))
    answer, match = lies(query)[case]
    body = answer if isinstance(answer, bytes) else answer.encode()
    with scripted((200, {}, body)) as (url, _), Conversation(url) as server, pytest.raises(ServerError, match=match):
        server.infer(query, num_classes=3)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"[" * 100_000, b"{}", b'{"protocol": "' + b"x" * (2 << 20)])
def test_a_statement_that_is_none_is_refused(body):
    with scripted((200, {}, body)) as (url, _), Conversation(url) as server, pytest.raises(ServerError):
        server.statement()


def test_redirects_are_not_followed():
    with scripted((302, {"location": "https://elsewhere.example/v1/head"}, b"")) as (url, bodies):
        server = Conversation(url, token="t")
        with pytest.raises(ServerError, match="HTTP status 302"):
            server.statement()
    assert len(bodies) == 1


def test_another_key_than_was_sent_is_noticed():
    with (
        scripted((200, {}, b'{"fingerprint": "00"}')) as (url, _),
        Conversation(url) as server,
        pytest.raises(ServerError, match="registered"),
    ):
        server.register(key_of(1))


class Listener:
    """A server that passes requests on, exchanges some replies for ciphertexts of n - 1, and notes what it can see of its client."""

    def __init__(self, url: str, public: PublicKey, bad: tuple[int, ...]) -> None:
        self.events, self.closed = list[str](), threading.Event()
        wrong = np.frombuffer((1 + (public.n - 1) * public.n).to_bytes(public.ciphertext_bytes, "big"), np.uint8)
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                listener.events.append("open")
                super().setup()

            def finish(self):
                super().finish()
                listener.events.append("close")
                listener.closed.set()

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                listener.events.append(f"{self.command} {self.path} {len(body)}")
                request = urllib.request.Request(url + self.path, body or None, {"content-type": self.headers.get("content-type", "")})
                with urllib.request.urlopen(request) as answer:
                    reply = answer.read()
                if self.path == "/v1/infer" and sum("infer" in event for event in listener.events) in bad:
                    reply = replace(Reply.decode(reply), ciphertexts=np.stack([wrong] * len(CLASS_NAMES))).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"
        self._thread = threading.Thread(target=self._httpd.serve_forever)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()


def overheard(running: RunningServer, monkeypatch, num_images: int, bad: tuple[int, ...]) -> list[str]:
    """Return what a server sees of a client that asks about some images, and when the client decrypts, in order."""
    key, features = key_of(1), make_features(num_images)
    with Listener(running.url, key.public, bad) as listener, monkeypatch.context() as patch:

        def noted(decrypt):
            def decrypt_later(*arguments):
                listener.closed.wait(5)  # the server hears of the end in a thread of its own
                listener.events.append("decrypt")
                return decrypt(*arguments)

            return decrypt_later

        for way in ("answer", "answer_batch"):
            patch.setattr(PrivateClient, way, noted(getattr(PrivateClient, way)))
        with Conversation(listener.url, retries=0) as server:
            remote = connect(server, key, num_images=num_images)
            if bad:
                with pytest.raises(CryptoError, match=rf"{len(bad)} of 3 answers decrypt to what no head gives.*Do not ask again"):
                    remote.logits(features)
            else:
                assert np.array_equal(remote.logits(features), make_head().logits(features))
    return listener.events


@pytest.mark.parametrize("mode", [SINGLE, BATCH])
def test_a_server_cannot_see_what_its_answers_decrypt_to(running, monkeypatch, mode):
    """Every query is out and the connection closed before the first answer is decrypted, and all are, whatever they hold."""
    capacity = BatchPacking(KEY_BITS, NUM_FEATURES).capacity
    num_images = 3 if mode == SINGLE else 3 * capacity
    good = overheard(running, monkeypatch, num_images, ())
    assert [event.split()[0] for event in good] == ["open", "GET", *["POST"] * 4, "close", *["decrypt"] * 3]
    assert len({event for event in good if "infer" in event}) == 1  # three queries of one length
    for bad in [(1,), (2,), (3,), (1, 2, 3)]:
        assert overheard(running, monkeypatch, num_images, bad) == good


def test_nothing_is_sent_once_answers_may_have_been_decrypted(running, sent):
    with Conversation(running.url) as server:
        remote = connect(server, key_of(1), num_images=1)
        remote.logits(make_features(1))
        for again in (remote.logits, lambda _: server.statement(), lambda _: server.register(key_of(1))):
            with pytest.raises(ServerError, match="is over, and answers may have been decrypted: nothing more is sent"):
                again(make_features(1))
    assert len(sent) == 3  # head, key, query


@pytest.fixture(scope="module")
def with_backbone(tmp_path_factory):
    """A server whose head wants the features of a small network, the folder of that network, and two image files."""
    import keras

    from ppdl.training.networks.features import save_backbone

    folder = tmp_path_factory.mktemp("backbone")
    layers = [keras.Input((32, 32), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    network = keras.Sequential([*layers, keras.layers.Dense(NUM_FEATURES, activation="relu")])
    sha256 = save_backbone(network, folder / "backbone.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    head = make_head(sha256=sha256, prepared_px=64, input_px=32)
    with RunningServer(folder, head) as running:
        yield running, head, images


def predict(folder, *arguments):
    found = CliRunner().invoke(main, ["predict", *map(str, arguments), "--backbone", str(folder)])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found


def test_predict_prints_the_probabilities_of_the_head(with_backbone, tmp_path):
    running, head, images = with_backbone
    folder, key_path = running.folder, save_private(tmp_path, key_of(5))
    (tmp_path / "text.png").write_text("no image")
    files = [folder / "0.png", folder / "1.png", tmp_path / "text.png"]
    found = predict(folder, *files, "--server", running.url, "--private-key", key_path, "--json")
    assert found.exit_code == 1 and "not a medical device" in found.stderr  # one file is no image
    tree = json.loads(found.stdout)
    features = integer_features(head.public, folder, np.asarray(Reduced(images, 32)[np.arange(2)]))  # as the pipeline's own evaluation
    expected = head.public.probabilities(head.logits(features))
    assert [list(row["probabilities"].values()) for row in tree["predictions"]] == expected.tolist()
    assert [row["class"] for row in tree["predictions"]] == [CLASS_NAMES[i] for i in expected.argmax(axis=1)]
    assert [row["file"] for row in tree["failed"]] == [str(files[2])]
    assert (tree["key_fingerprint"], tree["temperature"]) == (key_of(5).public.fingerprint, 1.5)
    shown = predict(folder, files[0], "--server", running.url, "--private-key", key_path)
    assert shown.exit_code == 0 and f"{expected[0].max():.3f}" in shown.stdout


def test_predict_finds_the_key_of_the_checkout(with_backbone, tmp_path, monkeypatch):
    running, *_ = with_backbone
    monkeypatch.chdir(tmp_path)
    arguments = (running.folder / "0.png", "--server", running.url)
    assert "keys/inference.json is missing: make a pair with `ppdl key make" in predict(running.folder, *arguments).output
    save_public(Path("keys/inference.json"), key_of(5).public)
    assert "cannot read this key file" in predict(running.folder, *arguments).output
    save_private(default_private_dir(), key_of(5))
    assert predict(running.folder, *arguments).exit_code == 0


def test_predict_refuses_another_backbone(with_backbone, tmp_path):
    running, head, _ = with_backbone
    key_path = save_private(tmp_path / "keys", key_of(5))
    arguments = (running.folder / "0.png", "--server", running.url, "--private-key", key_path)
    (tmp_path / "backbone.keras").write_bytes(b"another")
    assert "not the one that the head was trained with" in predict(tmp_path, *arguments).output
    assert "missing" in predict(tmp_path / "nothing", *arguments).output
    for nothing in (None, "", 7):
        with pytest.raises(DataError, match="names no SHA-256"):
            load_features(replace(head.public, backbone={"sha256": nothing}), running.folder)


def test_predict_refuses_options_that_do_not_fit(with_backbone, tmp_path):
    running, *_ = with_backbone
    image, key_path = running.folder / "0.png", save_private(tmp_path, key_of(5))
    assert "is for networks on this machine" in predict(tmp_path, image, "--server", running.url, "--model", "x").output
    remote = (image, "--server", running.url, "--private-key", key_path)
    assert "cannot be read" in predict(running.folder, *remote, "--token-file", tmp_path / "none").output
    (tmp_path / "empty").write_text("\n")
    assert "must hold one token" in predict(running.folder, *remote, "--token-file", tmp_path / "empty").output
    (tmp_path / "token").write_text("anything\n")
    assert predict(running.folder, *remote, "--token-file", tmp_path / "token").exit_code == 0


@pytest.mark.parametrize("sizes", [(None, 32), (64, None), (64, 48), (32, 64), (0, 0), (1 << 20, 32), (64.0, 32), ("64", 32)])
def test_sizes_that_no_image_has_are_refused(statement, sizes, tmp_path, monkeypatch):
    head = replace(statement.head, backbone=dict(zip(("prepared_px", "input_px"), sizes, strict=True)) | {"sha256": "0" * 64})
    with scripted((200, {}, json.dumps(replace(statement, head=head).to_json()).encode())) as (url, _), Conversation(url) as server:
        monkeypatch.setattr(server, "register", lambda key: None)
        with pytest.raises(DataError, match="must name input_px"):
            predict_remote(server, key_of(1), tmp_path, [tmp_path / "x.png"])
