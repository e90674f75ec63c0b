"""The negative control: fresh obfuscators, bytes laid out as documented, nothing to tell images apart by."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.errors import ArtifactError, ConfigError
from ppdl.protections.context import Context
from ppdl.protections.schemes.opaque import Opaque, bytes_side

TRAIN = np.arange(3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
IMAGES[1] = IMAGES[0]  # equal images must not look equal


@pytest.fixture
def artifact_dir(tmp_path, small_key, chain):
    encrypt(Opaque("djn"), tmp_path / "opaque", small_key, chain)
    return tmp_path / "opaque"


def encrypt(protection, out_dir, key, chain):
    protection.encrypt(IMAGES, out_dir, Context(key.public, 16, out_dir.with_name("partial"), chain.executor))


def test_each_image_has_ciphertexts_of_its_own_that_decrypt_to_it(artifact_dir, small_key):
    artifact = open_artifact(artifact_dir)
    assert (artifact.header.kind, artifact.header.packing.images_per_group) == ("dense", 1)
    np.testing.assert_array_equal(np.concatenate([block for _, block in decrypt_images(artifact, small_key)]), IMAGES)


def test_the_header_says_that_it_is_confidential_and_under_which_assumption(artifact_dir, tmp_path, small_key, chain):
    header = open_artifact(artifact_dir).header
    assert header.confidential is True and "half-length exponents" in header.reason
    assert header.protection.params == {"input_px": 16, "obfuscator": "djn"}
    encrypt(Opaque("standard"), tmp_path / "standard", small_key, chain)
    reason = open_artifact(tmp_path / "standard").header.reason
    assert "residuosity is hard" in reason and "half-length" not in reason


def test_no_ciphertext_occurs_twice(artifact_dir):
    rows = np.asarray(open_artifact(artifact_dir).ciphertexts)
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_two_encryptions_of_the_same_images_share_nothing(artifact_dir, tmp_path, small_key, chain):
    encrypt(Opaque("djn"), tmp_path / "again", small_key, chain)
    first, second = (np.asarray(open_artifact(path).ciphertexts) for path in (artifact_dir, tmp_path / "again"))
    assert not {row.tobytes() for row in first} & {row.tobytes() for row in second}


def test_the_ratio_attack_that_reads_deterministic_ciphertexts_fails(artifact_dir, small_key):
    """c_i / c_j = 1 + (m_i - m_j) n (mod n^2) holds under a shared obfuscator alone."""
    key = small_key.public
    c = [int.from_bytes(row.tobytes(), "big") for row in open_artifact(artifact_dir).ciphertexts[:20]]
    assert all((a * pow(b, -1, key.n_squared) - 1) % key.n for i, a in enumerate(c) for b in c[:i])


def test_the_bytes_are_laid_out_row_by_row_with_zeros_at_the_end(artifact_dir):
    artifact = open_artifact(artifact_dir)
    view = Opaque("djn").view(artifact_dir, "bytes", TRAIN)
    ciphertexts = artifact.ciphertexts_by_image
    content = ciphertexts.shape[1] * ciphertexts.shape[2]
    side = view.array.shape[1]
    assert view.array.shape == (6, side, side) and side**2 >= content > (side - 1) ** 2
    for image in range(6):
        flat = view.array[image].reshape(-1)
        assert flat[:content].tobytes() == ciphertexts[image].tobytes()
        assert not flat[content:].any()
    assert (view.table, view.trainable, view.scale, view.offset) == (None, False, 1 / 127.5, -1.0)


def test_rows_are_picked_as_from_an_array(artifact_dir):
    array = Opaque("djn").view(artifact_dir, "bytes", TRAIN).array
    whole = np.asarray(array)
    assert (len(array), array.ndim, array.dtype, array.nbytes) == (6, 3, whole.dtype, whole.nbytes)
    for rows in (2, -1, slice(1, 5, 2), np.array([5, 0, 0]), np.arange(6) < 2, (slice(None), 0), (3, 1, 2)):
        np.testing.assert_array_equal(array[rows], whole[rows])


@pytest.mark.parametrize(("num_bytes", "side"), [(1, 1), (4, 2), (5, 3), (8448, 92), (8464, 92), (8465, 93)])
def test_the_square_is_the_smallest_that_holds_them(num_bytes, side):
    assert bytes_side(num_bytes) == side


def test_it_is_a_control():
    assert Opaque.learnable is False and Opaque.confidential is True


def test_mistakes_are_named(artifact_dir, monkeypatch):
    with pytest.raises(ConfigError, match="obfuscator must be one of djn, standard, got 'none'"):
        Opaque("none")
    with pytest.raises(ConfigError, match="views of opaque are bytes, got 'pixels'"):
        Opaque("djn").view(artifact_dir, "pixels", TRAIN)
    monkeypatch.setattr(Opaque, "name", "other")
    with pytest.raises(ArtifactError, match="must hold protection 'other', found 'opaque'"):
        Opaque("djn").view(artifact_dir, "bytes", TRAIN)
