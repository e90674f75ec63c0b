"""python-paillier reads what is written here, and the reverse: numbers, key classes, and key files through its command `pheutil`."""

import json
import random

import numpy as np
import phe
import pytest
from click.testing import CliRunner
from phe.command_line import cli as pheutil

from ppdl.crypto.arithmetic.linear import apply_linear, plan_linear
from ppdl.crypto.arithmetic.numbers import from_array, to_array
from ppdl.crypto.arithmetic.obfuscators import KINDS, build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch, rerandomise
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.crypto.keys.keystore import load_private, load_public, save_private, save_public
from ppdl.errors import CryptoError

RANDOM = random.Random(0)


@pytest.fixture(scope="module", params=[512, 1024])
def key(request) -> PrivateKey:
    return generate_keypair(request.param, allow_insecure_key=True)


@pytest.fixture(scope="module")
def large_key() -> PrivateKey:
    return generate_keypair(2048)


def random_plaintexts(n: int, number: int) -> list[int]:
    """Of every size, with phe's guard in the middle third of [0, n) and the ends of the range."""
    edges = [0, 1, n - 1, n - 2, n // 3, n // 2, 2 * n // 3, n - n // 3]
    return (edges + [RANDOM.randrange(n) >> RANDOM.choice([0, 1, 8, 64, n.bit_length() - 9]) for _ in range(number)])[:number]


@pytest.mark.parametrize("kind", KINDS)
def test_phe_decrypts_a_thousand_ciphertexts_of_ours(key, kind):
    number = 1000 if kind == "djn" or key.public.key_bits == 512 else 50  # standard costs a modular power each
    messages = random_plaintexts(key.public.n, number)
    for source in (build_obfuscators(key, kind, num_ciphertexts=number), build_obfuscators(key.public, kind, num_ciphertexts=number)):
        numbers = from_array(key.public, encrypt_batch(key.public, messages, source))
        assert len(set(numbers)) == number
        assert [key.phe.raw_decrypt(int(c)) for c in numbers] == messages


def test_we_decrypt_a_thousand_ciphertexts_of_phe(key):
    messages = random_plaintexts(key.public.n, 1000)
    numbers = [key.public.phe.raw_encrypt(m) for m in messages]
    assert decrypt_batch(key, to_array(key.public, numbers)) == messages


@pytest.mark.parametrize("kind", KINDS)
def test_full_size_both_ways(large_key, kind):
    messages = random_plaintexts(large_key.public.n, 12)
    for key in (large_key, large_key.public):
        array = encrypt_batch(large_key.public, messages, build_obfuscators(key, kind, num_ciphertexts=12))
        assert [large_key.phe.raw_decrypt(int(c)) for c in from_array(large_key.public, array)] == messages
    ours = to_array(large_key.public, [large_key.public.phe.raw_encrypt(m) for m in messages])
    assert decrypt_batch(large_key, ours, num_threads=2) == messages


def test_keys_of_phe_work_with_standard_obfuscators_only():
    public, private = phe.generate_paillier_keypair(n_length=512)
    key = PrivateKey(PublicKey(public.n), private.p, private.q)
    array = encrypt_batch(key.public, [0, 7, public.n - 1], build_obfuscators(key.public, "standard"))
    assert [private.raw_decrypt(int(c)) for c in from_array(key.public, array)] == [0, 7, public.n - 1]
    with pytest.raises(CryptoError, match="has no h"):
        build_obfuscators(key.public, "djn")


def test_packed_pixels_survive_phe(key):
    pixels = np.random.default_rng(0).integers(0, 256, 300, dtype=np.uint8)
    dense = DensePacking(key.public.key_bits)
    array = encrypt_batch(key.public, dense.pack(pixels), build_obfuscators(key, num_ciphertexts=10))
    plaintexts = [key.phe.raw_decrypt(int(c)) for c in from_array(key.public, array)]
    assert (dense.unpack(plaintexts, 300) == pixels).all()


def test_operations_agree_with_encrypted_number(key):
    """The same sums with phe's own class: equal plaintexts, and for the linear map the equal number."""
    messages, weights = [3, 500, 10**6], [7, -3, 1]
    array = encrypt_batch(key.public, messages, build_obfuscators(key, num_ciphertexts=3))
    encrypted = [phe.EncryptedNumber(key.public.phe, int(c)) for c in from_array(key.public, array)]
    total = encrypted[0] * weights[0] + encrypted[1] * weights[1] + encrypted[2] * weights[2]
    (ours,) = from_array(key.public, apply_linear(key.public, array[:, None], plan_linear(np.array([weights])))[0])
    assert ours == total.ciphertext(be_secure=False) and key.phe.decrypt(total) == 21 - 1500 + 10**6
    fresh = from_array(key.public, rerandomise(key.public, array))
    assert [key.phe.raw_decrypt(int(c)) for c in fresh] == messages


# ---- key files


def run(*arguments: str) -> str:
    result = CliRunner().invoke(pheutil, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_we_read_the_keys_that_pheutil_writes(tmp_path):
    private_path, public_path = tmp_path / "private.json", tmp_path / "public.json"
    run("genpkey", "--keysize", "512", private_path)
    run("extract", private_path, public_path)
    private_path.chmod(0o600)
    key, public = load_private(private_path), load_public(public_path)
    assert public == key.public and public.key_bits == 512 and public.h is None
    members = json.loads(private_path.read_text())
    assert {phe.util.base64_to_int(members[name]) for name in "pq"} == {key.p, key.q}
    # and what pheutil encrypts under them
    run("encrypt", "--output", tmp_path / "c.json", public_path, "2.5")
    encrypted = json.loads((tmp_path / "c.json").read_text())
    (plaintext,) = decrypt_batch(key, to_array(public, [int(encrypted["v"])]))
    assert phe.EncodedNumber(public.phe, int(plaintext), encrypted["e"]).decode() == 2.5


@pytest.mark.parametrize("with_h", [True, False])
def test_pheutil_works_with_the_keys_that_we_write(tmp_path, with_h):
    key = generate_keypair(512, allow_insecure_key=True)
    if not with_h:
        key = PrivateKey(PublicKey(key.public.n), key.p, key.q)
    private_path, public_path = save_private(tmp_path / "keys", key), tmp_path / "public.json"
    save_public(public_path, key.public)
    for source, text in ((public_path, "20.5"), (private_path, None)):
        if text is None:
            run("extract", source, tmp_path / "extracted.json")
            source, text = tmp_path / "extracted.json", "-3"
        run("encrypt", "--output", tmp_path / "c.json", source, "--", text)
        assert float(run("decrypt", private_path, tmp_path / "c.json")) == float(text)
    # extracting keeps h, so that the public part stays usable with djn
    assert load_public(tmp_path / "extracted.json") == key.public


def test_pheutil_adds_to_a_ciphertext_of_ours(tmp_path):
    key = generate_keypair(512, allow_insecure_key=True)
    private_path = save_private(tmp_path / "keys", key)
    save_public(tmp_path / "public.json", key.public)
    (number,) = from_array(key.public, encrypt_batch(key.public, [40], build_obfuscators(key, num_ciphertexts=1)))
    (tmp_path / "c.json").write_text(json.dumps({"v": str(number), "e": 0}))
    run("add", "--output", tmp_path / "sum.json", tmp_path / "public.json", tmp_path / "c.json", "2")
    assert float(run("decrypt", private_path, tmp_path / "sum.json")) == 42
