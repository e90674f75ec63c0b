"""Encryption needs no private key, so none of its bytes may be in anything that it writes, logs or sends to workers."""

import base64
import gzip
import logging
import pickle
import sqlite3
import zipfile

import gmpy2
import numpy as np
import pytest

from ppdl.crypto.encryption import ciphertexts
from ppdl.crypto.keys.keyfile import save_private
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.purpose import PUBLIC_PATHS
from ppdl.crypto.workers.parallel import Executor
from tests.crypto.artifacts import decrypted, random_images, write
from tests.secrets_search import find_in_bytes, find_private_key, private_keys


@pytest.fixture(scope="module")
def key():
    return generate_keypair(512, allow_insecure_key=True)


class Recording(Executor):
    """Keep what would be pickled for workers."""

    def map_unordered(self, function, tasks):
        for task in tasks:
            sent.append(pickle.dumps((function, task)))
            result = function(pickle.loads(sent[-1])[1])  # noqa: S301 - our own bytes
            sent.append(pickle.dumps(result))
            yield result


sent: list[bytes] = []


@pytest.mark.parametrize("kind", ["codebook", "dense", "slots"])
def test_nothing_written_sent_or_logged_holds_the_private_key(key, tmp_path, kind, caplog, monkeypatch):
    sent.clear()
    options = {} if kind == "codebook" else {"executor": Recording(1, 8, 4, 4)}
    interrupted = _interrupt(monkeypatch) if kind != "codebook" else None
    with caplog.at_level(logging.DEBUG):
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path, kind, random_images(), key.public, **options)
            assert find_private_key(key, [tmp_path / "partial"]) == []
            interrupted()
        artifact = write(tmp_path, kind, random_images(), key.public, **options)
        decrypted(artifact, key)
    (tmp_path / "log").write_text(caplog.text)
    assert find_private_key(key, [tmp_path]) == []
    assert find_in_bytes(key, b"".join(sent)) == []
    assert bool(sent) == (kind != "codebook")


def _interrupt(monkeypatch):
    original, calls = ciphertexts.encrypt_shard, []

    def failing(task):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(task)

    monkeypatch.setattr(ciphertexts, "encrypt_shard", failing)
    # pickled by name, so that the recorder can send it
    failing.__module__, failing.__qualname__ = ciphertexts.__name__, "encrypt_shard"
    return monkeypatch.undo


def sqlite(path, value):
    with sqlite3.connect(path) as connection:
        connection.execute("create table params (value text)")
        connection.execute("insert into params values (?)", (value,))
    connection.close()


def zipped(path, value):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", value)


def gzipped(path, value):
    with gzip.open(path, "wt") as file:
        file.write(value)


PLANTS = {
    "decimal": lambda path, key: path.write_text(f'{{"p": {key.p}}}'),
    "hexadecimal": lambda path, key: path.write_text(hex(key.q)),
    "upper hexadecimal": lambda path, key: path.write_text(f"{key.q:X}"),
    "base64url": lambda path, key: path.write_text(base64.urlsafe_b64encode(key.p.to_bytes(32, "big")).decode()),
    "base64 of a text around it": lambda path, key: path.write_bytes(base64.b64encode(b"x" + key.p.to_bytes(32, "big") + b"yy")),
    "base64url of a text around it": lambda path, key: path.write_bytes(base64.urlsafe_b64encode(b"xx" + key.q.to_bytes(32, "big"))),
    "raw": lambda path, key: path.write_bytes(b"abc" + key.p.to_bytes(32, "big")),
    "raw little-endian": lambda path, key: path.write_bytes(b"abc" + key.p.to_bytes(32, "little")),
    "pickled int": lambda path, key: path.write_bytes(pickle.dumps(int(key.q))),
    "pickled mpz": lambda path, key: path.write_bytes(pickle.dumps(gmpy2.mpz(key.q))),
    "npy": lambda path, key: np.save(path, np.frombuffer(key.p.to_bytes(32, "big"), np.uint8)),
    "lambda": lambda path, key: path.write_text(str(int(gmpy2.lcm(key.p - 1, key.q - 1)))),
    "phi": lambda path, key: path.write_text(hex((key.p - 1) * (key.q - 1))),
    "cut": lambda path, key: path.write_text(f"p = {str(key.p)[:40]}..."),
    "sqlite": lambda path, key: sqlite(path, str(key.p)),
    "zip": lambda path, key: zipped(path, str(key.p)),
    "gzip": lambda path, key: gzipped(path, str(key.p)),
    "key file": lambda path, key: path.write_text(_jwk(key)),
}


def _jwk(key):
    import json

    from ppdl.crypto.keys.jwk import private_members

    return json.dumps(private_members(key, passphrase=None, project=None))


@pytest.mark.parametrize("purpose", PUBLIC_PATHS)
def test_the_search_takes_every_key_of_a_folder(tmp_path, purpose):
    keys = {name: generate_keypair(512, purpose=name, allow_insecure_key=True) for name in PUBLIC_PATHS}
    for planted in keys.values():
        save_private(tmp_path / "keys", planted)
    (tmp_path / "keys/noise_secret.json").write_text("no Paillier key")
    (tmp_path / "leak").write_bytes(keys[purpose].q.to_bytes(32, "big"))
    found = [key for key in private_keys(tmp_path / "keys") if find_private_key(key, [tmp_path / "leak"])]
    assert found == [keys[purpose]] and len(private_keys(tmp_path / "keys")) == 3


@pytest.mark.parametrize("form", PLANTS)
def test_the_search_finds_what_is_there(key, tmp_path, form):
    (tmp_path / "deep/er").mkdir(parents=True)
    PLANTS[form](tmp_path / "deep/er/x.npy", key)
    finds = find_private_key(key, [tmp_path])
    assert {find.path.split(":")[0] for find in finds} == {str(tmp_path / "deep/er/x.npy")}
    text = repr(finds)
    assert str(key.p) not in text and str(key.q) not in text


def test_the_search_finds_what_lies_across_blocks(key, tmp_path, monkeypatch):
    from tests import secrets_search

    monkeypatch.setattr(secrets_search, "CHUNK_BYTES", 64)
    for shift in range(64):
        (tmp_path / "x").write_bytes(bytes(shift) + str(key.p).encode() + bytes(100))
        assert find_private_key(key, [tmp_path])


def test_the_search_finds_nothing_in_another_keys_files(key, tmp_path):
    other = generate_keypair(512, allow_insecure_key=True)
    for form, plant in PLANTS.items():
        plant(tmp_path / f"{form}.npy", other)
    assert find_private_key(key, [tmp_path]) == []


@pytest.mark.parametrize(
    "bytes_like", [b"x" * 50 + b"PK\x05\x06" + b"x" * 40, b"\x1f\x8b\x08\x00" + b"x" * 90, b"\x1f\x8b"], ids=["zip", "gzip", "cut"]
)
def test_random_bytes_that_look_like_an_archive_are_searched_as_bytes(key, tmp_path, bytes_like):
    (tmp_path / "x").write_bytes(bytes_like)
    assert find_private_key(key, [tmp_path]) == []
    (tmp_path / "x").write_bytes(bytes_like + str(key.p).encode())
    assert find_private_key(key, [tmp_path])


def test_a_missing_path_is_an_error(key, tmp_path):
    with pytest.raises(FileNotFoundError):
        find_private_key(key, [tmp_path / "missing"])


def test_the_public_key_is_no_find(key, tmp_path):
    (tmp_path / "x").write_text(f"{key.public.n} {key.public.h} {key.public.fingerprint}")
    assert find_private_key(key, [tmp_path]) == []
