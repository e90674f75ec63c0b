"""Heads, keys, queries, and a real `ppdl serve` in a process of its own, for the tests of this folder."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.inner_product.batch import BatchPacking, encrypt_feature_batch
from ppdl.crypto.inner_product.single import InnerPacking, encrypt_features
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.private_head.head import QuantisedHead
from ppdl.serving.protocol import BATCH, SINGLE, Query
from ppdl.serving.server.store import State
from ppdl.serving.statement import Statement

KEY_BITS, NUM_FEATURES, CLASS_NAMES = 512, 64, ("covid-19-like", "normal-like", "pneumonia-like")
START_S = 60


def make_head(num_features: int = NUM_FEATURES, seed: int = 0, **backbone: object) -> QuantisedHead:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (len(CLASS_NAMES), num_features), dtype=np.int8)
    bias = rng.integers(-(10**5), 10**5, len(CLASS_NAMES))
    return QuantisedHead(weights, bias, 0.02, 1e-5, CLASS_NAMES, {"alpha": 0.35, "input_px": 32, "sha256": "0" * 64} | backbone, 1.5)


def make_features(num_images: int, num_features: int = NUM_FEATURES, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, num_features), dtype=np.uint8)


@cache
def key_of(number: int, key_bits: int = KEY_BITS) -> PrivateKey:
    """Generate a key for the tests of this process."""
    return generate_keypair(key_bits, purpose=INFERENCE, allow_insecure_key=True)


def make_query(statement: Statement, key: PrivateKey, features: np.ndarray, mode: int = SINGLE) -> Query:
    """Encrypt features (num_images, num_features) into a query with a new request id."""
    public, head = key.public, statement.head
    source = build_obfuscators(key, table_bytes=4 << 20)
    if mode == SINGLE:
        ciphertexts = encrypt_features(public, features[0], InnerPacking(public.key_bits, head.num_features), obfuscators=source)
    else:
        assert mode == BATCH
        ciphertexts = encrypt_feature_batch(public, features, BatchPacking(public.key_bits, head.num_features), obfuscators=source)
    return Query(secrets.token_bytes(16), bytes.fromhex(public.fingerprint), statement.sha256, mode, len(features), ciphertexts)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class RunningServer:
    """Run `ppdl serve` on 127.0.0.1, on one port however often it starts. A context manager."""

    def __init__(self, folder: Path, head: QuantisedHead, *options: str, scheme: str = "http") -> None:
        self.folder, self.port = folder, free_port()
        head.save(folder / "head")
        self.state, self.log_path = folder / "state.sqlite", folder / "serve.log"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        files = ("--head", str(folder / "head"), "--state", str(self.state), "--port", str(self.port))
        self._command = [
            sys.executable,
            "-m",
            "ppdl",
            "serve",
            *files,
            "--workers",
            "1",
            "--allow-insecure-key",
            "--rate",
            "100000",
            *options,
        ]

    def __enter__(self) -> RunningServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        before = len(self.log())
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(self._command, stderr=log, stdout=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        for _ in range(START_S * 20):
            if any(line["event"] == "listening" for line in self.log()[before:]):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the server did not start: {self.log_path.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the server, wait for its end, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(START_S)

    def wait_for_route(self, route: str) -> None:
        """Wait until the log has a request of a route: its line is written after its answer."""
        for _ in range(START_S * 20):
            if any(line.get("route") == route for line in self.log()):
                return
            time.sleep(0.05)
        raise RuntimeError(f"no request of {route} was logged: {self.log_path.read_text()}")

    def log(self) -> list[dict]:
        """Return the lines of the log; what is written at this moment may be cut."""
        text = self.log_path.read_text() if self.log_path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def used(store: State, fingerprint: bytes) -> int:
    """Return how many images were charged to a key that a client without a name registered."""
    with store._transaction() as db:
        return db.execute("SELECT num_images FROM keys WHERE (owner, fingerprint) = ('', ?)", (fingerprint,)).fetchone()[0]
