"""What the private key finds: wrong keys, and ciphertexts that are valid but not those that were written."""

import hashlib

import numpy as np
import pytest

from ppdl.crypto import decrypt
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.crypto.artifact.header import CANARY_TAG
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.canary import encrypt_canary, open_canary
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ArtifactError
from tests.attacks.build import change_array, read, set_field
from tests.crypto.artifacts import decrypted, random_images, write

KINDS = ("codebook", "dense", "slots")
IMAGES = random_images()


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture(scope="module")
def other():
    return generate_keypair(256, allow_insecure_key=True)


def encrypt(key, plaintexts):
    return encrypt_batch(key.public, plaintexts, build_obfuscators(key.public, "standard"))


def first_row(row):
    """Replace the first ciphertext of the first shard, with digests that fit."""

    def change(rows):
        rows[0] = row
        return rows

    return change_array(0, change)


@pytest.mark.parametrize("kind", KINDS)
def test_another_private_key_is_refused_before_anything_is_decrypted(key, other, tmp_path, kind):
    artifact = write(tmp_path, kind, IMAGES, key.public)
    counted = []
    message = (
        f"artifact: encrypted under the key {key.public.fingerprint}, got the private key of {other.public.fingerprint}; use the private"
    )
    with pytest.raises(ArtifactError, match=message):
        decrypted(artifact, other, on_ciphertexts=counted.append)
    assert counted == []


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_threads_decrypt_as_are_asked_for(key, tmp_path, monkeypatch, kind):
    threads, original = [], decrypt.decrypt_batch
    monkeypatch.setattr(
        decrypt,
        "decrypt_batch",
        lambda *arguments, num_threads: threads.append(num_threads) or original(*arguments, num_threads=num_threads),
    )
    artifact = write(tmp_path, kind, IMAGES, key.public)
    assert np.array_equal(decrypted(artifact, key, num_threads=3), IMAGES) and set(threads) == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_claims_another_key_is_caught_by_the_canary(key, other, tmp_path, kind):
    write(tmp_path, kind, IMAGES, key.public)
    set_field("key.fingerprint", other.public.fingerprint)(tmp_path / "artifact")
    counted = []
    with pytest.raises(ArtifactError, match=r"the canary does not decrypt to its tag, although the fingerprint .* nothing was decrypted"):
        decrypted(open_artifact(tmp_path / "artifact"), other, on_ciphertexts=counted.append)
    assert counted == []


def test_a_canary_of_another_key_is_caught(key, other, tmp_path):
    write(tmp_path, "dense", IMAGES, key.public)
    set_field("canary", list(encrypt_canary(other.public, bytes(32))))(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="the canary does not decrypt to its tag"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


@pytest.mark.parametrize("canary", ["00" * 64, "ff" * 64])
def test_a_canary_that_is_no_ciphertext_is_caught(key, tmp_path, canary):
    write(tmp_path, "dense", IMAGES, key.public)
    set_field("canary", [canary] * 2)(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="the canary does not decrypt to its tag"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


def test_the_canary_is_what_the_specification_says(key, tmp_path):
    """Read with phe alone: a tag of 16 bytes and the SHA-256 of the pixels, 31 bytes a plaintext at 256 bits."""
    write(tmp_path, "dense", IMAGES, key.public)
    plain = [key.phe.raw_decrypt(int(text, 16)) for text in read(tmp_path / "artifact")["canary"]]
    content = b"".join(m.to_bytes(31, "little") for m in plain)
    assert content[:16] == b"PPDL/1 canary\0\0\0" == CANARY_TAG
    assert content[16:48] == hashlib.sha256(IMAGES).digest()
    assert content[48:] == bytes(14)


def test_the_canary_fits_one_ciphertext_of_a_real_key(tmp_path):
    key = generate_keypair(400, allow_insecure_key=True)
    artifact = write(tmp_path, "dense", IMAGES, key.public)
    assert len(artifact.header.canary) == 1
    assert open_canary(key, artifact.header) == hashlib.sha256(IMAGES).digest()


def test_each_canary_is_encrypted_anew(key):
    assert not set(encrypt_canary(key.public, bytes(32))) & set(encrypt_canary(key.public, bytes(32)))


def test_exchanged_pixels_are_found_at_the_end(key, tmp_path):
    """Valid ciphertexts, valid digests: only the encrypted SHA-256 of all pixels tells."""
    write(tmp_path, "dense", IMAGES, key.public)
    first_row(encrypt(key, DensePacking(256).pack(np.full(31, 7, np.uint8)))[0])(tmp_path / "artifact")
    artifact = open_artifact(tmp_path / "artifact")
    artifact.verify(key.public)
    with pytest.raises(ArtifactError, match="every ciphertext decrypts, but to other images than were encrypted"):
        decrypted(artifact, key)


def test_changed_indices_are_found_at_the_end(key, tmp_path):
    write(tmp_path, "codebook", IMAGES, key.public)
    change_array(1, lambda indices: indices[::-1].copy())(tmp_path / "artifact")
    artifact = open_artifact(tmp_path / "artifact")
    artifact.verify(key.public)
    with pytest.raises(ArtifactError, match="every ciphertext decrypts, but to other images than were encrypted"):
        decrypted(artifact, key)


def test_a_plaintext_that_exceeds_the_packing_is_refused(key, tmp_path):
    write(tmp_path, "dense", IMAGES, key.public)
    first_row(encrypt(key, [key.public.n - 1])[0])(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=r"ciphertexts-00000\.npy: plaintext 0 exceeds the packing"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


@pytest.mark.parametrize(("value", "found"), [(300, "0 to 300|1 to 300|2 to 300"), (-5, "-5 to 25")])
def test_slots_that_are_no_pixels_are_refused(key, tmp_path, value, found):
    write(tmp_path, "slots", IMAGES, key.public)
    values = np.full(20, 3)
    values[4] = value
    first_row(encrypt(key, SlotPacking(256, 12).pack(values, key.public))[0])(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=rf"ciphertexts-00000\.npy: pixels must decrypt to 0\.\.255, found ({found})"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


def test_padding_that_is_not_zero_is_refused(key, tmp_path):
    write(tmp_path, "dense", IMAGES, key.public)

    def change(rows):
        rows[-1] = encrypt(key, DensePacking(256).pack(np.ones(31, np.uint8)))[0]
        return rows

    change_array(0, change)(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=r"ciphertexts-00000\.npy: padding slots must decrypt to 0, found other values"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


@pytest.mark.parametrize(("kind", "row", "named"), [("dense", 0, "ciphertexts-00000"), ("codebook", 255, "codebook")])
def test_a_number_that_is_no_ciphertext_is_refused(key, tmp_path, kind, row, named):
    write(tmp_path, kind, IMAGES, key.public)

    def change(rows):
        rows[row] = 255
        return rows

    change_array(0, change)(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=rf"artifact/{named}\.npy: ciphertext {row} "):
        decrypted(open_artifact(tmp_path / "artifact"), key)


def test_all_kinds_hold_images_but_sums(key, tmp_path):
    for kind in KINDS:
        assert np.array_equal(decrypted(write(tmp_path / kind, kind, IMAGES, key.public), key), IMAGES)
    write(tmp_path, "slots", IMAGES, key.public)
    set_field("kind", "sums")(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="kind 'sums' holds no images, but sums of pixels: stage reveal decrypts it"):
        decrypted(open_artifact(tmp_path / "artifact"), key)
