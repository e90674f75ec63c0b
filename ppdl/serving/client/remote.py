"""`ppdl predict --server`: features here, logits there, and only ciphertexts in between."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdl.crypto.artifact.fields import quote
from ppdl.crypto.keys.keypair import PrivateKey, check_purpose
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.errors import CryptoError, DataError, ServerError
from ppdl.prediction.predict import FileAnswer, FileAnswers
from ppdl.prediction.steps import read_images
from ppdl.private_head.client import PrivateClient
from ppdl.private_head.head import BACKBONE_FILE, PublicHead
from ppdl.serving.protocol import BATCH, REQUEST_ID_BYTES, SINGLE, Query
from ppdl.serving.statement import Statement

if TYPE_CHECKING:
    from ppdl.serving.client.connection import Conversation

MOST_PX = 1 << 13
_SMALL_TABLE_BYTES, _MANY = 16 << 20, 4000  # few ciphertexts do not pay for large tables of obfuscators


@dataclass(frozen=True)
class Remote:
    """Classify features with a server that sees ciphertexts alone.

    Build it with `connect`.
    """

    server: Conversation
    statement: Statement
    client: PrivateClient

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the server's logits of integer features, uint8 (num_images, num_features): int64 (num_images, num_classes).

        Every query is sent and every reply received, then the conversation is closed, and only then is anything decrypted: nothing that the
        server can observe depends on what its answers decrypt to. So this can be called once.

        A batch sends a ciphertext for each feature, so it is used as soon as single images would take more of them.

        Raises:
            ServerError: the server cannot be reached or refuses, or the conversation is closed.
            CryptoError: answers decrypt to what no head gives; all of them were decrypted.
        """
        plan, num_classes = list(self.plan(len(features))), len(self.statement.head.class_names)
        replies = [self.server.infer(self.query(features[rows], mode), num_classes=num_classes) for rows, mode in plan]
        self.server.close()
        found, bad = np.zeros((len(features), num_classes), np.int64), list[str]()
        for (rows, mode), reply in zip(plan, replies, strict=True):
            try:
                if mode == SINGLE:
                    found[rows] = self.client.answer(reply.ciphertexts)
                else:
                    found[rows] = self.client.answer_batch(reply.ciphertexts, reply.num_images)
            except CryptoError as error:
                bad.append(f"that for images {rows.start + 1} to {rows.stop} ({error})")
        if bad:
            raise CryptoError(
                f"{len(bad)} of {len(plan)} answers decrypt to what no head gives, first {bad[0]}. The server does not know. Do not "
                "ask again under this key, which would tell it: see `What follows later is an answer too` in docs/protocol.md"
            )
        return found

    def plan(self, num_images: int) -> Iterator[tuple[slice, int]]:
        """Yield the rows and the mode of each query."""
        single, batch = self.client.packing, self.client.batch_packing
        first = 0
        while first < num_images:
            count = min(batch.capacity, num_images - first)
            if count * single.num_ciphertexts <= batch.num_ciphertexts:
                yield from ((slice(row, row + 1), SINGLE) for row in range(first, first + count))
            else:
                yield slice(first, first + count), BATCH
            first += count

    def query(self, features: np.ndarray, mode: int) -> Query:
        """Encrypt features, uint8 (num_images, num_features), into a query with a new request id."""
        client = self.client
        return Query(
            request_id=secrets.token_bytes(REQUEST_ID_BYTES),
            fingerprint=bytes.fromhex(client.public_key.fingerprint),
            head_sha256=self.statement.sha256,
            mode=mode,
            num_images=len(features),
            ciphertexts=client.request(features[0]) if mode == SINGLE else client.request_batch(features),
        )


def connect(server: Conversation, private_key: PrivateKey, *, num_images: int) -> Remote:
    """Read and check a server's statement, and register the public key there.

    Args:
        num_images: that will be sent, for the size of the tables.

    Raises:
        KeyStoreError: the key is for another purpose than inference; nothing was sent.
        ServerError: it cannot be reached, refuses, or does not take keys of this length.
    """
    check_purpose(private_key.public, INFERENCE)
    statement, key_bits = server.statement(), private_key.public.key_bits
    if key_bits not in statement.key_bits:
        lengths = ", ".join(map(str, statement.key_bits))
        raise ServerError(
            f"the server takes keys of {lengths} bits, and this one has {key_bits}: make one with `ppdl key make --purpose inference`"
        )
    packing = statement.packing(key_bits)
    num_ciphertexts = num_images * packing.num_features // statement.batch_packing(key_bits).capacity
    server.register(private_key)
    kind = "djn" if private_key.public.h is not None else "standard"
    tables = {} if num_ciphertexts > _MANY else {"table_bytes": _SMALL_TABLE_BYTES}
    return Remote(server, statement, PrivateClient(private_key, packing, obfuscator=kind, **tables))


def predict_remote(
    server: Conversation, private_key: PrivateKey, backbone_dir: Path, paths: Iterable[Path]
) -> tuple[Statement, FileAnswers]:
    """Classify image files with a server that sees neither them nor the answers.

    Args:
        backbone_dir: folder of backbone.keras; nothing is fetched from the server.

    Returns:
        What the server stated about its head, and the answers.

    Raises:
        PpdlError: the server cannot be used, its backbone is not here, or an answer is none.
    """
    paths = list(paths)
    remote = connect(server, private_key, num_images=len(paths))
    head = remote.statement.head
    prepared_px, input_px = _sizes(head)
    images, readable, bad = read_images(paths, prepared_px, input_px=input_px)
    if not readable:
        return remote.statement, FileAnswers([], bad, images)
    features = load_features(head, backbone_dir)(images)
    rows = [
        FileAnswer.of(path, head.class_names, p, head.temperature)
        for path, p in zip(readable, head.probabilities(remote.logits(features)), strict=True)
    ]
    return remote.statement, FileAnswers(rows, bad, images)


def load_features(head: PublicHead, backbone_dir: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Load the backbone that a server names, and return the function from images to integer features.

    It takes (num_images, input_px, input_px) uint8 and returns uint8 (num_images, num_features). From its second call on it is quick.

    Raises:
        DataError: the file is missing, or another one than the server's head was trained with.
    """
    from ppdl.training.networks.features import load_extractor

    sha256 = head.backbone.get("sha256")
    if not isinstance(sha256, str) or not sha256:
        raise DataError("the server names no SHA-256 of its backbone, so nobody can tell which features its head expects")
    extract = load_extractor(backbone_dir / BACKBONE_FILE, sha256=sha256)
    return lambda images: head.quantise(extract(images))


def _sizes(head: PublicHead) -> tuple[int, int]:
    """Return prepared_px and input_px that a server names. Raises: DataError when no image can have them."""
    prepared_px, input_px = (head.backbone.get(name) for name in ("prepared_px", "input_px"))
    if type(prepared_px) is not int or type(input_px) is not int or not 1 <= input_px <= prepared_px <= MOST_PX or prepared_px % input_px:
        raise DataError(
            f"the server's backbone must name input_px, and as prepared_px a multiple of it up to {MOST_PX}, got {quote(input_px)} and "
            f"{quote(prepared_px)}"
        )
    return prepared_px, input_px
