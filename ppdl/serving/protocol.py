"""The two binary messages of private inference, PPDLQ/1 (query) and PPDLR/1 (reply). docs/protocol.md is their specification.

Numbers are unsigned and big-endian. A header of fixed size, then num_ciphertexts ciphertexts of ciphertext_bytes each, and nothing else.
Nothing is negotiated: another version has another magic.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ppdl.serving.problems import ProblemError

MEDIA_TYPE = "application/octet-stream"
QUERY_MAGIC, REPLY_MAGIC = b"PPDLQ/1\n", b"PPDLR/1\n"
SINGLE, BATCH = 1, 2
MODES = {SINGLE: "single", BATCH: "batch"}
REQUEST_ID_BYTES = 16
_TAIL = "IIII"  # mode, num_images, num_ciphertexts, ciphertext_bytes
_QUERY = struct.Struct(f">8s{REQUEST_ID_BYTES}s32s32s{_TAIL}")
_REPLY = struct.Struct(f">8s32s{_TAIL}")
QUERY_HEADER_BYTES, REPLY_HEADER_BYTES = _QUERY.size, _REPLY.size


@dataclass(frozen=True, eq=False)
class Query:
    """Ask for the logits of one image (SINGLE) or of several (BATCH).

    Attributes:
        request_id: 16 random bytes; a retry has the same.
        fingerprint: SHA-256 of the registered public key (32 bytes).
        head_sha256: of the server's statement about its head, which decides the packing (32 bytes).
        ciphertexts: uint8 (num_ciphertexts, ciphertext_bytes), each row big-endian.
    """

    request_id: bytes
    fingerprint: bytes
    head_sha256: bytes
    mode: int
    num_images: int
    ciphertexts: np.ndarray

    def encode(self) -> bytes:
        shape = self.ciphertexts.shape
        header = _QUERY.pack(QUERY_MAGIC, self.request_id, self.fingerprint, self.head_sha256, self.mode, self.num_images, *shape)
        return header + self.ciphertexts.tobytes()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a query. Its ciphertexts are numbers of any value: the library that uses them checks them.

        Raises: ProblemError `not-a-query`, `wrong-version`, `wrong-length` or `malformed-header`.
        """
        _, request_id, fingerprint, head_sha256, mode, num_images, *shape = _read(_QUERY, QUERY_MAGIC, body)
        return cls(request_id, fingerprint, head_sha256, mode, num_images, _ciphertexts(body, _QUERY.size, shape))


@dataclass(frozen=True, eq=False)
class Reply:
    """Answer a query with one ciphertext a class.

    Attributes:
        query_sha256: of the query's bytes, so that answers cannot be mixed up (32 bytes). It is no proof of origin: TLS is.
        ciphertexts: uint8 (num_classes, ciphertext_bytes), each row big-endian.
    """

    query_sha256: bytes
    mode: int
    num_images: int
    ciphertexts: np.ndarray

    def encode(self) -> bytes:
        shape = self.ciphertexts.shape
        return _REPLY.pack(REPLY_MAGIC, self.query_sha256, self.mode, self.num_images, *shape) + self.ciphertexts.tobytes()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a reply. Raises: ProblemError as Query.decode."""
        _, query_sha256, mode, num_images, *shape = _read(_REPLY, REPLY_MAGIC, body)
        return cls(query_sha256, mode, num_images, _ciphertexts(body, _REPLY.size, shape))


def sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _read(header: struct.Struct, magic: bytes, body: bytes) -> tuple[Any, ...]:
    """Unpack a header whose last fields are mode, num_images, num_ciphertexts and ciphertext_bytes."""
    name = magic.decode().strip()
    if body[: len(magic)] != magic:
        stem = magic[:6]  # PPDLQ/ or PPDLR/
        if body[: len(stem)] == stem:
            raise ProblemError("wrong-version", f"this side speaks {name} alone")
        raise ProblemError("not-a-query", f"a message begins with the {len(magic)} bytes {magic!r}")
    if len(body) < header.size:
        raise ProblemError("wrong-length", f"{name} has a header of {header.size} bytes, got {len(body)} in all")
    fields = header.unpack_from(body)
    mode, num_images, num_ciphertexts, ciphertext_bytes = fields[-4:]
    if mode not in MODES:
        raise ProblemError("malformed-header", f"mode must be {SINGLE} (single) or {BATCH} (batch), got {mode}")
    if num_images < 1 or (mode == SINGLE and num_images != 1):
        raise ProblemError("malformed-header", f"num_images must be 1, or at least 1 in a batch, got {num_images}")
    if num_ciphertexts < 1 or ciphertext_bytes < 1:
        raise ProblemError("malformed-header", f"a message has ciphertexts, got {num_ciphertexts} of {ciphertext_bytes} bytes")
    if len(body) != (size := header.size + num_ciphertexts * ciphertext_bytes):
        raise ProblemError("wrong-length", f"{num_ciphertexts} ciphertexts of {ciphertext_bytes} bytes make {size} bytes, got {len(body)}")
    return fields


def _ciphertexts(body: bytes, start: int, shape: list[int]) -> np.ndarray:
    return np.frombuffer(body, np.uint8, offset=start).reshape(shape)
