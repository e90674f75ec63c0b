"""The paper's scheme: real ciphertexts, one obfuscator, and three ways to read them."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ArtifactError, ConfigError
from ppdl.protections.context import Context
from ppdl.protections.schemes.deterministic import Deterministic

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
TRAIN = np.arange(3)


@pytest.fixture(scope="module")
def private_key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture(scope="module")
def artifact_dir(private_key, tmp_path_factory):
    root = tmp_path_factory.mktemp("deterministic")
    Deterministic().encrypt(IMAGES, root / "artifact", Context(private_key.public, 16, root / "partial", None))
    return root / "artifact"


def test_the_artifact_says_that_it_is_not_confidential_and_why(artifact_dir):
    header = open_artifact(artifact_dir).header
    assert header.confidential is False
    assert "equal pixels have equal ciphertexts" in header.reason
    assert header.protection.name == "deterministic"
    assert header.protection.params == {"input_px": 16}


def test_phe_decrypts_every_row_of_the_codebook(artifact_dir, private_key):
    rows = open_artifact(artifact_dir).codebook
    values = sorted(private_key.phe.raw_decrypt(int.from_bytes(row.tobytes(), "big")) for row in rows)
    assert values == list(range(256))


def test_all_rows_share_one_obfuscator(artifact_dir, private_key):
    """c_i / c_j = 1 + (m_i - m_j) n (mod n^2): the reason why this is not confidential, tested as a law."""
    key = private_key.public
    c = [int.from_bytes(row.tobytes(), "big") for row in open_artifact(artifact_dir).codebook]
    for other in c[1:]:
        ratio = c[0] * pow(other, -1, key.n_squared) % key.n_squared
        assert (ratio - 1) % key.n == 0
        difference = (ratio - 1) // key.n
        assert min(difference, key.n - difference) <= 255


def test_it_decrypts_to_the_same_images(artifact_dir, private_key):
    blocks = [block for _, block in decrypt_images(open_artifact(artifact_dir), private_key)]
    np.testing.assert_array_equal(np.concatenate(blocks), IMAGES)


@pytest.mark.parametrize(("name", "channels", "trainable"), [("spectral", 1, True), ("bytes", 3, False), ("embedding", 3, True)])
def test_views_read_the_same_symbols(artifact_dir, name, channels, trainable):
    view = Deterministic().view(artifact_dir, name, TRAIN)
    assert view.name == name and view.trainable is trainable
    assert view.table.shape == (256, channels)
    symbols = np.asarray(view.array[:])
    for value in (0, 17, 255):  # equal pixels, equal symbols, and no other
        assert len(np.unique(symbols[value == IMAGES])) <= 1
    assert len(np.unique(symbols)) == len(np.unique(IMAGES))


def test_the_bytes_are_the_leading_ones(artifact_dir):
    view, codebook = Deterministic().view(artifact_dir, "bytes", TRAIN), open_artifact(artifact_dir).codebook
    np.testing.assert_allclose((view.table + 1) * 127.5, codebook[:, :3], atol=1e-4)


def test_an_unknown_view_is_named_with_the_known_ones(artifact_dir):
    with pytest.raises(ConfigError, match="views of deterministic are spectral, bytes, embedding, got 'pixels'"):
        Deterministic().view(artifact_dir, "pixels", TRAIN)


def test_an_artifact_of_another_protection_is_refused(artifact_dir, monkeypatch):
    monkeypatch.setattr(Deterministic, "name", "other")
    with pytest.raises(ArtifactError, match="must hold protection 'other', found 'deterministic'"):
        Deterministic().view(artifact_dir, "spectral", TRAIN)


def encrypt_like(images, root, like, public_key):
    Deterministic().encrypt(images, root / "more", Context(public_key, 16, root / "partial", None, like=like))
    return open_artifact(root / "more")


def test_further_images_get_the_symbols_of_the_first_without_a_private_key(artifact_dir, private_key, tmp_path):
    more = encrypt_like(IMAGES[2:4], tmp_path, artifact_dir, private_key.public)
    first = open_artifact(artifact_dir)
    np.testing.assert_array_equal(more.indices[:], first.indices[2:4])
    np.testing.assert_array_equal(more.codebook, first.codebook)
    ((_, decrypted),) = decrypt_images(more, private_key)
    np.testing.assert_array_equal(decrypted, IMAGES[2:4])


def test_further_images_under_another_key_are_refused(artifact_dir, tmp_path):
    with pytest.raises(ArtifactError, match="encrypted under the 256-bit key"):
        encrypt_like(IMAGES[:1], tmp_path, artifact_dir, generate_keypair(256, allow_insecure_key=True).public)
