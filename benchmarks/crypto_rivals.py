"""Encrypt the same pixels with other libraries, for benchmarks.crypto. They are no dependencies: rows say when one is not installed.

pypaillier: Paillier in Rust on GMP, with Damgard-Jurik-Nielsen obfuscators of the same exponent length. It is measured a pixel each, as its
users write, and fed with plaintexts that are packed here (it takes integers up to n / 2^21: two pixels fewer). It is constant-time in parts
where gmpy2 is not, which costs it time. User CPU adds up its threads.
lightphe: Paillier as textbooks have it, in pure Python: no CRT, no batches; obfuscators come from `random`, no source for cryptography.
TenSEAL: BFV on Microsoft SEAL. Another assumption (ring learning with errors), batches of 4,096 pixels, ciphertexts that can be multiplied.
"""

import statistics
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from gmpy2 import mpz


def rows(pixels: np.ndarray, key_bits: int, repeats: int, user_seconds: Callable[[], float]) -> list[tuple[str, str]]:
    """Return a row for each rival and use."""

    def median(run: Callable[[], object], units: int) -> float:
        times = []
        for _ in range(repeats):
            start = user_seconds()
            run()
            times.append((user_seconds() - start) / units)
        return statistics.median(times)

    result = []
    for package, module, run in (
        ("pypaillier", "paillier", _pypaillier),
        ("lightphe", "lightphe", _lightphe),
        ("tenseal", "tenseal", _tenseal),
    ):
        if find_spec(module) is None:
            result.append((package, "not installed (pip install 'ppdl[bench]')"))
        else:
            found = run(import_module(module), pixels, key_bits, median)
            result += [(f"{package} {version(package)}, {use}", text) for use, text in found]
    return result


def _pypaillier(paillier, pixels: np.ndarray, key_bits: int, median: Callable) -> list[tuple[str, str]]:
    public, private = paillier.generate_keypair(key_bits)
    per_plaintext = (public.plaintext_bound_bits - 1) // 8
    single, packed = pixels[:100].tolist(), []
    for start in range(0, 100 * per_plaintext, per_plaintext):
        packed.append(int(mpz.from_bytes(pixels[start : start + per_plaintext].tobytes(), "little")))
    found = []
    for use, values, pixels_each in (("a pixel each", single, 1), (f"{per_plaintext} packed pixels", packed, per_plaintext)):
        units = len(values) * pixels_each
        encrypt = median(lambda values=values: paillier.encrypt_integers(public, values), units)
        blobs = [bytes(blob) for blob in paillier.encrypt_integers(public, values)]
        decrypt = median(lambda blobs=blobs: paillier.decrypt_exact_many(private, blobs), units)
        assert [number for number, _ in paillier.decrypt_exact_many(private, blobs)] == values
        found.append((use, _text(encrypt, decrypt, sum(map(len, blobs)) / units) + f", {public.exponent_bits}-bit exponents"))
    return found


def _lightphe(lightphe, pixels: np.ndarray, key_bits: int, median: Callable) -> list[tuple[str, str]]:
    scheme, values = lightphe.LightPHE("Paillier", key_size=key_bits), pixels[:3].tolist()
    encrypt = median(lambda: [scheme.encrypt(value) for value in values], len(values))
    ciphertexts = [scheme.encrypt(value) for value in values]
    decrypt = median(lambda: [scheme.decrypt(ciphertext) for ciphertext in ciphertexts], len(values))
    assert [scheme.decrypt(ciphertext) for ciphertext in ciphertexts] == values
    return [("a pixel each", _text(encrypt, decrypt, key_bits / 4))]


def _tenseal(tenseal, pixels: np.ndarray, key_bits: int, median: Callable) -> list[tuple[str, str]]:
    degree, batches = 4096, 10
    context = tenseal.context(tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=degree, plain_modulus=1032193)
    vectors = [pixels[i * degree : (i + 1) * degree].tolist() for i in range(batches)]
    encrypt = median(lambda: [tenseal.bfv_vector(context, vector).serialize() for vector in vectors], degree * batches)
    ciphertexts = [tenseal.bfv_vector(context, vector) for vector in vectors]
    decrypt = median(lambda: [ciphertext.decrypt() for ciphertext in ciphertexts], degree * batches)
    assert [ciphertext.decrypt() for ciphertext in ciphertexts] == vectors
    size = sum(len(ciphertext.serialize()) for ciphertext in ciphertexts) / (degree * batches)
    return [(f"BFV, {degree} pixels a ciphertext", _text(encrypt, decrypt, size) + ", 128-bit security")]


def _text(encrypt_seconds: float, decrypt_seconds: float, size: float) -> str:
    return f"a pixel: encrypt {encrypt_seconds * 1e6:.3g} us, decrypt {decrypt_seconds * 1e6:.3g} us, {size:.4g} bytes"
