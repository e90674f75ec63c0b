import copy
import hashlib
import json
import pickle
import traceback
from pathlib import Path

import gmpy2
import pytest

from ppdl.crypto.keys.keypair import CrtConstants, PrivateKey, PublicKey, check_key_bits, generate_keypair
from ppdl.errors import ConfigError, CryptoError, KeyStoreError

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_keypair(256, allow_insecure_key=True)


def private_texts(key: PrivateKey) -> list[str]:
    """p and q in every notation that a leak may have."""
    return [text for prime in (key.p, key.q) for text in (str(prime), f"{prime:x}", f"{prime:X}")]


@pytest.mark.parametrize("key_bits", [64, 80, 128, 512, 1024, 2048])
def test_generated_keys_satisfy_djn(key_bits):
    for _ in range(20 if key_bits <= 128 else 1):
        key = generate_keypair(key_bits, allow_insecure_key=True)
        n, h, p, q = key.public.n, key.public.h, key.p, key.q
        assert n.bit_length() == key.public.key_bits == key_bits
        assert p * q == n and gmpy2.is_prime(p) and gmpy2.is_prime(q)
        assert p.bit_length() == q.bit_length() == key_bits // 2
        assert p % 4 == q % 4 == 3 and gmpy2.gcd(p - 1, q - 1) == 2
        assert abs(p - q) > 1 << max(key_bits // 2 - 100, 1)
        assert gmpy2.powmod(h, n, n * n) != 1
        # h is minus a square: -h is a quadratic residue modulo both primes
        assert gmpy2.legendre(n - h, p) == gmpy2.legendre(n - h, q) == 1


def test_generated_keys_differ():
    assert len({generate_keypair(64, allow_insecure_key=True).public.n for _ in range(50)}) == 50


@pytest.mark.parametrize("key_bits", [2048, 3072, 4096])
def test_secure_lengths_need_no_permission(key_bits):
    check_key_bits(key_bits, allow_insecure_key=False)


@pytest.mark.parametrize("key_bits", [64, 1024, 2047, 8192, 0, -2048, "2048", None, 2048.5])
def test_other_lengths_need_permission(key_bits):
    with pytest.raises(ConfigError, match=r"keygen\.key_bits must be one of 2048, 3072, 4096, got .*allow_insecure_key=true"):
        check_key_bits(key_bits, allow_insecure_key=False)


@pytest.mark.parametrize("key_bits", [0, 48, 72, 8192, "512", 512.0])
def test_permission_has_limits(key_bits):
    with pytest.raises(ConfigError, match="multiple of 16 between 64 and 4096"):
        generate_keypair(key_bits, allow_insecure_key=True)


def test_golden_vector_of_the_key():
    vector = json.loads((VECTORS / "paillier_djn.json").read_text())
    key = PrivateKey(PublicKey(int(vector["n"], 16), int(vector["h"], 16)), int(vector["p"], 16), int(vector["q"], 16))
    assert key.public.fingerprint == vector["fingerprint"]
    assert key.public.ciphertext_bytes == 64


def test_fingerprint_is_the_documented_encoding(key):
    parts = [b"ppdl paillier public key v1"] + [v.to_bytes((v.bit_length() + 7) // 8, "big") for v in (key.public.n, key.public.h)]
    text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert key.public.fingerprint == hashlib.sha256(text).hexdigest()


def test_fingerprint_covers_h(key):
    other = PublicKey(key.public.n, key.public.n - 4)  # -2^2
    assert len({key.public.fingerprint, other.fingerprint, PublicKey(key.public.n).fingerprint}) == 3


@pytest.mark.parametrize("key_bits, size", [(2048, 512), (3072, 768), (17, 5)])
def test_ciphertext_bytes(key_bits, size):
    assert PublicKey((1 << key_bits) - 1).ciphertext_bytes == size


@pytest.mark.parametrize(
    "n, text", [(0, "got 0"), (-15, "got -15"), (21, "got 21"), (1 << 63, f"got {1 << 63}"), (1 << 64, "got an even number of 65 bits")]
)
def test_impossible_n_is_refused(n, text):
    with pytest.raises(CryptoError, match=f"n must be odd and have at least 16 bits, {text}"):
        PublicKey(n)


def test_impossible_h_is_refused(key):
    n = key.public.n
    non_residue = next(h for h in range(2, 100) if gmpy2.jacobi(h, n) == -1)
    for h in (0, 1, n - 1, n, n + 5, -4, key.p, non_residue):
        with pytest.raises(CryptoError, match="h must be -x\\^2 mod n"):
            PublicKey(n, h)
    with pytest.raises(CryptoError, match="got an odd number of 256 bits that is not"):
        PublicKey(n, n)
    with pytest.raises(CryptoError, match=r"n = 1 \(mod 4\), got n = 3"):
        PublicKey(7 * 10009 + 7 * 4, 16)


def test_phe_classes_hold_the_same_numbers(key):
    assert key.phe.public_key == key.public.phe
    assert (key.phe.p, key.phe.q, key.public.phe.n) == (key.p, key.q, key.public.n)
    assert key.phe.raw_decrypt(key.public.phe.raw_encrypt(42)) == 42


def test_crt_constants_are_those_of_phe(key):
    assert (key.crt.h_p, key.crt.h_q, key.crt.p_inverse) == (key.phe.hp, key.phe.hq, key.phe.p_inverse)


def test_private_parts_must_belong_to_n(key):
    other = generate_keypair(256, allow_insecure_key=True)
    for p, q, rule in [
        (other.p, other.q, "p \\* q must be n"),
        (1, key.public.n, "p \\* q must be n"),
        (-key.p, -key.q, "p \\* q must be n"),
        (key.p, key.q + 2, "p \\* q must be n"),
    ]:
        with pytest.raises(KeyStoreError, match=f"private parts do not belong to the public key {key.public.fingerprint}: {rule}"):
            PrivateKey(key.public, p, q)


def test_composite_factors_are_refused(key):
    n = key.public.n * 10007
    with pytest.raises(KeyStoreError, match="p and q must be prime"):
        PrivateKey(PublicKey(n), key.p * 10007, key.q)


def test_factors_that_divide_each_others_order_are_refused():
    p = 10007
    q = next(k * p + 1 for k in range(2, 1000, 2) if gmpy2.is_prime(k * p + 1))
    with pytest.raises(KeyStoreError, match="no common factor"):
        PrivateKey(PublicKey(p * q), p, q)


def test_h_is_refused_for_primes_that_do_not_fit_it():
    p = next(p for p in range(2**20 + 1, 2**21, 4) if gmpy2.is_prime(p))  # 1 (mod 4)
    q = next(q for q in range(2**20 + 5, 2**21, 4) if gmpy2.is_prime(q) and q != p)
    with pytest.raises(KeyStoreError, match="its h needs p = q = 3"):
        PrivateKey(PublicKey(p * q, p * q - 4), p, q)


def test_private_parts_are_in_no_text(key):
    errors = []
    for action in (lambda: pickle.dumps(key), lambda: PrivateKey(key.public, key.p, key.q + 2)):
        with pytest.raises((TypeError, KeyStoreError)) as error:
            action()
        errors.append("".join(traceback.format_exception(error.value)))
    shown = " ".join([repr(key), str(key), f"{key}", repr(key.crt), repr([key]), repr(vars(key.public)), *errors])
    assert key.public.fingerprint[:16] in shown
    assert not [text for text in private_texts(key) if text in shown]


@pytest.mark.parametrize("action", [pickle.dumps, copy.copy, copy.deepcopy, lambda k: pickle.dumps({"key": k}, protocol=2)])
def test_private_key_cannot_be_pickled_or_copied(key, action):
    for holder in (key, key.crt):
        with pytest.raises(TypeError, match="holds private key material and cannot be pickled or copied"):
            action(holder)
    assert not hasattr(key, "__dict__") and isinstance(key.crt, CrtConstants)


def test_public_key_pickles(key):
    again = pickle.loads(pickle.dumps(key.public))  # noqa: S301 - made here
    assert again == key.public and again.fingerprint == key.public.fingerprint and hash(again) == hash(key.public)


def test_private_keys_compare_by_value(key):
    assert key == PrivateKey(key.public, key.q, key.p) and hash(key) == hash(PrivateKey(key.public, key.q, key.p))
    assert key != PrivateKey(PublicKey(key.public.n), key.p, key.q) and key != 5
