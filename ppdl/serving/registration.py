"""What a client sends to register its public key: the key file's members, and the proof that n is well formed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ppdl.crypto.keys.jwk import decode_bytes, encode_bytes, public_members
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.crypto.keys.modulus_proof import NUM_ROOTS, prove_modulus
from ppdl.errors import KeyStoreError
from ppdl.serving.problems import ProblemError

PROOF_MEMBER = "modulus_proof"


def registration(private_key: PrivateKey) -> bytes:
    """Return the body for POST /v1/keys. It holds the public key and the proof, and nothing that tells of p and q."""
    proof = encode_bytes(prove_modulus(private_key).tobytes())
    return json.dumps(public_members(private_key.public) | {PROOF_MEMBER: proof}).encode()


def decode_proof(members: dict[str, Any], key: PublicKey) -> np.ndarray:
    """Return the roots of a proof, uint8 (NUM_ROOTS, key_bytes), unchecked. Raises: ProblemError `bad-proof`."""
    size = (key.key_bits + 7) // 8
    try:
        data = decode_bytes(members, PROOF_MEMBER, "the registration")
    except KeyStoreError:
        data = b""
    if len(data) != NUM_ROOTS * size:
        raise ProblemError(
            "bad-proof",
            f"{PROOF_MEMBER} must be {NUM_ROOTS} numbers of {size} bytes each, together in base64url; "
            f"ppdl.crypto.keys.modulus_proof makes it",
        )
    return np.frombuffer(data, np.uint8).reshape(NUM_ROOTS, size)
