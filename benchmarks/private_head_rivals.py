"""The same head with phe and, where it is installed, with CKKS, for benchmarks.private_head."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import phe

from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.private_head.head import QuantisedHead


def measure_phe(key: PrivateKey, head: QuantisedHead, features: np.ndarray, num_features: int) -> dict[str, float]:
    """Return core milliseconds of one image, from its first `num_features` features: EncryptedNumbers, as phe's users write them."""
    public, private = key.public.phe, key.phe
    weights, values = head.weights[:, :num_features].tolist(), features[:num_features].tolist()
    encrypted: list[phe.EncryptedNumber] = []
    encrypt_ms = _core_ms(lambda: encrypted.extend(public.encrypt(value) for value in values))
    sums: list[phe.EncryptedNumber] = []
    evaluate_ms = _core_ms(lambda: sums.extend(_weighted_sum(encrypted, row) for row in weights))
    found: list[int] = []
    decrypt_ms = _core_ms(lambda: found.extend(private.decrypt(total) for total in sums))
    expected = [sum(w * v for w, v in zip(row, values, strict=True)) for row in weights]
    if found != expected:
        raise AssertionError("phe's logits are not those of the integer head")
    scale = head.num_features / num_features
    return {"encrypt_ms": encrypt_ms * scale, "evaluate_ms": evaluate_ms * scale, "decrypt_ms": decrypt_ms}


def _weighted_sum(encrypted: list[phe.EncryptedNumber], weights: list[int]) -> phe.EncryptedNumber:
    total = encrypted[0] * weights[0]
    for number, weight in zip(encrypted[1:], weights[1:], strict=True):
        total = total + number * weight
    return total


def measure_ckks(head: QuantisedHead, features: np.ndarray, repeats: int) -> dict[str, float]:
    """Return core milliseconds and kB of one image under CKKS at 128-bit security, and the largest error over the logits' spread.

    One ciphertext an image and one a class; the weights are plaintexts of the server. Features and weights are those before rounding.
    """
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 60])
    context.generate_galois_keys()
    context.global_scale = 2**40
    public = context.copy()
    public.make_context_public()
    values = (features * head.feature_scale).tolist()
    weights, bias = head.weights * (head.logit_scale / head.feature_scale), head.bias * head.logit_scale

    def encrypt() -> bytes:
        return ts.ckks_vector(context, values).serialize()

    def evaluate() -> list[bytes]:
        vector = ts.ckks_vector_from(public, sent)
        return [vector.dot(row).add([b]).serialize() for row, b in zip(weights.tolist(), bias.tolist(), strict=True)]

    def decrypt() -> list[float]:
        return [ts.ckks_vector_from(context, answer).decrypt()[0] for answer in answers]

    sent = encrypt()
    answers = evaluate()
    exact = head.logits(features[None])[0] * head.logit_scale
    return {
        "encrypt_ms": _median_ms(encrypt, repeats),
        "evaluate_ms": _median_ms(evaluate, repeats),
        "decrypt_ms": _median_ms(decrypt, repeats),
        "up_kb": len(sent) / 1e3,
        "down_kb": sum(map(len, answers)) / 1e3,
        "keys_kb": len(public.serialize()) / 1e3,
        "error": float(np.abs(np.array(decrypt()) - exact).max() / np.ptp(exact)),
    }


def _core_ms(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def _median_ms(run: Callable[[], object], repeats: int) -> float:
    return statistics.median(_core_ms(run) for _ in range(repeats))
