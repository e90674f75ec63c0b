"""What a server says of its head: everything a client needs to make features, pack them, and read logits. Never a weight.

Its SHA-256 goes into every query, so that no query is answered for another statement, or under another packing, than it was made for.
Heads that differ in weights and biases alone share a statement: what was charged for one is not answered by the other (service.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Self

from ppdl.crypto.inner_product.batch import BatchPacking
from ppdl.crypto.inner_product.single import InnerPacking
from ppdl.errors import CryptoError, DataError
from ppdl.private_head.head import PublicHead

PROTOCOL = "PPDL private inference 1"
FEATURE_BITS, WEIGHT_BITS = 8, 8  # of what ppdl.private_head quantises
LARGEST_BYTES = 1 << 20
MOST_FEATURES, MOST_CLASSES, LONGEST_NAME = 1 << 16, 1000, 100


@dataclass(frozen=True)
class Statement:
    """Describe a head and its packing.

    Attributes:
        head: class names, scales, temperature, backbone.
        mask_bits: see InnerPacking.
        key_bits: lengths of n that the server takes. Not part of the digest.
        budget: images that it answers for each key. Not part of the digest.

    Raises:
        DataError: the packing breaks a rule.
    """

    head: PublicHead
    mask_bits: int
    key_bits: tuple[int, ...]
    budget: int

    def __post_init__(self) -> None:
        if self.head.num_features > MOST_FEATURES or not 2 <= len(self.head.class_names) <= MOST_CLASSES:
            found = f"{self.head.num_features} and {len(self.head.class_names)}"
            raise DataError(f"a head has at most {MOST_FEATURES} features and 2 to {MOST_CLASSES} classes, got {found}")
        if not all(name.isprintable() and len(name) <= LONGEST_NAME for name in self.head.class_names):  # they reach a terminal
            raise DataError(f"class names must be printable, and at most {LONGEST_NAME} characters long")
        if not self.key_bits:
            raise DataError("key_bits must name a length")
        try:
            for key_bits in self.key_bits:
                self.packing(key_bits), self.batch_packing(key_bits)
        except CryptoError as error:
            raise DataError(str(error)) from None

    def packing(self, key_bits: int) -> InnerPacking:
        """Return how one image is packed. Raises: CryptoError when the key is too short."""
        return InnerPacking(key_bits, self.head.num_features, FEATURE_BITS, WEIGHT_BITS, self.mask_bits)

    def batch_packing(self, key_bits: int) -> BatchPacking:
        """Return how a batch is packed. Raises: CryptoError when the key is too short."""
        return BatchPacking(key_bits, self.head.num_features, FEATURE_BITS, WEIGHT_BITS)

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the canonical JSON (sorted keys, no spaces, ASCII) of `head` and `packing`."""
        text = json.dumps({name: self._tree[name] for name in ("head", "packing")}, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).digest()

    def to_json(self) -> dict[str, Any]:
        """Return what GET /v1/head answers."""
        return self._tree | {"statement_sha256": self.sha256.hex()}

    @property
    def _tree(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "head": asdict(self.head) | {"class_names": list(self.head.class_names)},
            "packing": {"feature_bits": FEATURE_BITS, "weight_bits": WEIGHT_BITS, "mask_bits": self.mask_bits},
            "key_bits": list(self.key_bits),
            "max_queries_per_key": self.budget,
        }

    @classmethod
    def from_json(cls, tree: Any) -> Self:
        """Read what another side stated, which may be anything.

        Raises:
            DataError: it is of another version, incomplete, has sizes that this client does not encrypt for, or its digest is wrong.
        """
        if not isinstance(tree, Mapping) or tree.get("protocol") != PROTOCOL:
            raise DataError(f"the server must speak {PROTOCOL!r}, got {tree.get('protocol') if isinstance(tree, Mapping) else tree!r:.100}")
        try:
            head, packing = tree["head"], tree["packing"]
            mask_bits, key_bits, budget, sha256 = (
                packing["mask_bits"],
                tree["key_bits"],
                tree["max_queries_per_key"],
                bytes.fromhex(tree["statement_sha256"]),
            )
            found = (packing["feature_bits"], packing["weight_bits"])
            if found != (FEATURE_BITS, WEIGHT_BITS) or any(type(value) is not int for value in (*found, mask_bits, budget, *key_bits)):
                raise ValueError(f"features and weights must have {FEATURE_BITS} and {WEIGHT_BITS} bits, and lengths be integers")
            if set(head) != {item.name for item in fields(PublicHead)}:
                raise ValueError("head has other fields than expected")
            statement = cls(PublicHead(**{**head, "class_names": tuple(head["class_names"])}), mask_bits, tuple(key_bits), budget)
            if statement.sha256 != sha256:
                raise ValueError("it does not have the SHA-256 that it names")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the server's statement about its head is malformed ({error}): damaged, or of another version") from None
        return statement
