"""1,000 queries of 8 clients, while the server is killed and started again: no wrong answer, no lost and no double charge."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from ppdl.crypto.inner_product.single import decrypt_logits
from ppdl.errors import ServerError
from ppdl.serving.client.connection import Conversation
from ppdl.serving.client.remote import connect
from tests.serving.running import RunningServer, key_of, make_features, make_head, make_query

NUM_CLIENTS, NUM_QUERIES, NUM_DIFFERENT = 8, 125, 5  # queries of each client; the ciphertexts of a few are sent under many ids


class LoadingClient(threading.Thread):
    """Send queries one after the other, and note each answer that is not the head's."""

    def __init__(self, number: int, url: str) -> None:
        super().__init__()
        self.url, self.key, self.answered, self.wrong, self.error = url, key_of(number), 0, 0, None
        self.features = make_features(NUM_DIFFERENT, seed=number)

    def run(self) -> None:
        try:
            expected = make_head().logits(self.features)
            with Conversation(self.url, retries=30) as server:
                remote = connect(server, self.key, num_images=1)
                queries = [make_query(remote.statement, self.key, row[None]) for row in self.features]
                for number in range(NUM_QUERIES):
                    query = replace(queries[number % NUM_DIFFERENT], request_id=secrets.token_bytes(16))
                    reply = server.infer(query, num_classes=3)
                    found = decrypt_logits(self.key, reply.ciphertexts, remote.client.packing)
                    self.wrong += not np.array_equal(found, expected[number % NUM_DIFFERENT])
                    self.answered += 1
        except BaseException as error:
            self.error = error


def wait_for(clients: list[LoadingClient], count: int) -> int:
    """Wait until so many queries are answered; return how many were."""
    while (answered := sum(client.answered for client in clients)) < count and any(client.is_alive() for client in clients):
        time.sleep(0.01)
    return answered


def test_no_answer_is_wrong_and_no_charge_is_lost_when_the_server_is_killed(tmp_path):
    for number in range(NUM_CLIENTS):
        key_of(number)
    total = NUM_CLIENTS * NUM_QUERIES
    with RunningServer(tmp_path, make_head(), "--max-queries-per-key", str(NUM_QUERIES), "--max-keys", "8") as running:
        clients = [LoadingClient(number, running.url) for number in range(NUM_CLIENTS)]
        for client in clients:
            client.start()
        killed_at = []
        for count in (total // 4, total // 2):
            killed_at.append(wait_for(clients, count))
            running.stop(signal.SIGKILL)
            running.start()
        for client in clients:
            client.join()
        assert [client.error for client in clients] == [None] * NUM_CLIENTS
        assert killed_at[0] < killed_at[1] < total
        assert (sum(client.answered for client in clients), sum(client.wrong for client in clients)) == (total, 0)
        with sqlite3.connect(running.state) as db:
            charged = db.execute("SELECT num_images FROM keys").fetchall()
            assert charged == [(NUM_QUERIES,)] * NUM_CLIENTS
            assert db.execute("SELECT count(*) FROM queries").fetchone() == (total,)
        with Conversation(running.url) as server, pytest.raises(ServerError, match="budget-spent"):
            server.infer(make_query(server.statement(), key_of(0), make_features(1)), num_classes=3)
