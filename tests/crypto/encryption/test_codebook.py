"""Kind codebook: the paper's scheme, dictionary-encoded."""

import hashlib
import logging
import tracemalloc

import numpy as np
import pytest

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch, encrypt_batch_deterministic
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.canary import open_canary
from ppdl.crypto.encryption.codebook import draw_codebook, solve_codebook
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ArtifactError, CryptoError, DataError
from tests.crypto.artifacts import decrypted, random_images, write


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


def integers(rows):
    return [int.from_bytes(row.tobytes(), "big") for row in rows]


def test_phe_decrypts_every_pixel(key, tmp_path):
    images = random_images()
    artifact = write(tmp_path, "codebook", images, key.public)
    table = np.array([key.phe.raw_decrypt(c) for c in integers(artifact.codebook)], np.uint8)
    assert np.array_equal(table[artifact.indices[:]], images)


@pytest.mark.parametrize("shard_bytes", [1, 200, 300, 10**6])
def test_it_decrypts_to_the_same_images(key, tmp_path, shard_bytes):
    images = random_images(11)
    artifact = write(tmp_path, "codebook", images, key.public, shard_bytes=shard_bytes)
    artifact.verify(key.public)
    assert len(artifact.header.data_shards) == {1: 11, 200: 6, 300: 4, 10**6: 1}[shard_bytes]
    assert np.array_equal(decrypted(artifact, key, num_threads=2), images)


def test_rows_ascend_and_share_one_obfuscator(key):
    rows, table = draw_codebook(key.public)
    values = integers(rows)
    assert values == sorted(values)
    assert sorted(table) == list(range(256))
    n, n_squared = key.public.n, key.public.n_squared
    obfuscators = {values[row] * pow(1 + pixel * n, -1, n_squared) % n_squared for pixel, row in enumerate(table)}
    assert len(obfuscators) == 1
    assert pow(obfuscators.pop(), (key.p - 1) * (key.q - 1), n_squared) == 1  # an n-th residue


def test_another_run_has_another_obfuscator(key):
    (first, _), (second, _) = draw_codebook(key.public), draw_codebook(key.public)
    assert not set(integers(first)) & set(integers(second))


def test_the_header_says_what_it_is(key, tmp_path):
    header = write(tmp_path, "codebook", random_images(), key.public).header
    assert (header.kind, header.confidential, header.reason, header.packing) == ("codebook", False, "a test", None)
    assert (header.num_ciphertexts, header.ciphertext_bytes, header.key.obfuscator) == (256, 64, "standard")
    assert header.key.fingerprint == key.public.fingerprint


def test_the_header_holds_no_hash_of_the_images(key, tmp_path):
    """It would tell a guess of the images from the truth."""
    images = random_images()
    write(tmp_path, "codebook", images, key.public)
    for path in (tmp_path / "artifact").iterdir():
        data = path.read_bytes()
        assert hashlib.sha256(images).hexdigest().encode() not in data
        assert hashlib.sha256(images).digest() not in data


def test_the_canary_holds_it_encrypted_under_an_obfuscator_of_its_own(key, tmp_path):
    images = random_images()
    artifact = write(tmp_path, "codebook", images, key.public)
    assert open_canary(key, artifact.header) == hashlib.sha256(images).digest()
    n, n_squared = key.public.n, key.public.n_squared
    shared = integers(artifact.codebook)[0]
    for c in (int(text, 16) for text in artifact.header.canary):
        ratio = c * pow(shared, -1, n_squared) % n_squared
        assert ratio % n != 1  # two ciphertexts under one obfuscator have a ratio of 1 (mod n)


def test_an_interrupted_run_starts_over_and_leaves_no_table(key, tmp_path, caplog):
    class Interrupted(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, slice) and (rows.start or 0) > 0:
                raise KeyboardInterrupt
            return super().__getitem__(rows)

    images = random_images()
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "codebook", images.view(Interrupted), key.public, shard_bytes=300)
    first = np.load(tmp_path / "partial/artifact/codebook.npy")
    assert not (tmp_path / "artifact").exists()
    with caplog.at_level(logging.WARNING):
        artifact = write(tmp_path, "codebook", images, key.public, shard_bytes=300)
    assert not set(integers(first)) & set(integers(artifact.codebook))
    assert "starts over, since the run before had another run" in caplog.text
    assert not (tmp_path / "partial").exists()


def test_memory_does_not_grow_with_the_number_of_images(key, tmp_path):
    peaks = []
    for num_images in (500, 5000):
        images = np.lib.format.open_memmap(tmp_path / f"{num_images}.npy", "w+", np.uint8, (num_images, 64, 64))
        folder = tmp_path / str(num_images)
        folder.mkdir()
        tracemalloc.start()
        write(folder, "codebook", images, key.public, shard_bytes=2**20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 5000 * 64 * 64 / 1.5  # far from holding all images


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.float32), np.zeros((0, 3, 4), np.uint8), np.zeros((2, 3, 4, 1), np.uint8)],
)
@pytest.mark.parametrize("kind", ["codebook", "dense"])
def test_other_arrays_are_refused(key, tmp_path, kind, images):
    with pytest.raises(DataError, match=r"images must be a non-empty uint8 array \(num_images, height, width\), got "):
        write(tmp_path, kind, images, key.public)


def test_a_table_that_decrypts_to_other_values_is_refused(key, tmp_path):
    """The codebook of another artifact under the same key, with one value twice."""
    from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
    from ppdl.crypto.arithmetic.paillier import encrypt_batch
    from tests.attacks.build import change_array

    write(tmp_path, "codebook", random_images(), key.public)
    rows = encrypt_batch(key.public, [0, *range(255)], build_obfuscators(key.public, "standard"))
    rows = rows[np.lexsort(rows.T[::-1])]
    change_array(0, lambda _: rows)(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=r"codebook\.npy: rows must decrypt to each of 0\.\.255 once; this is another codebook"):
        decrypted(open_artifact(tmp_path / "artifact"), key)


def test_the_public_key_alone_tells_which_row_stands_for_each_pixel_value(key):
    rows, table = draw_codebook(key.public)
    assert solve_codebook(key.public, rows) == table


def test_a_codebook_that_is_none_is_not_solved(key):
    obfuscators = build_obfuscators(key.public, "standard")
    with pytest.raises(ArtifactError, match="share one obfuscator"):
        solve_codebook(key.public, encrypt_batch(key.public, range(256), obfuscators))
    with pytest.raises(ArtifactError, match=r"each of 0\.\.255 once"):
        solve_codebook(key.public, encrypt_batch_deterministic(key.public, range(0, 512, 2), obfuscators))
    rows, _ = draw_codebook(key.public)
    with pytest.raises(ArtifactError, match=r"each of 0\.\.255 once"):
        solve_codebook(key.public, rows[:1])
    rows[0] = 0
    with pytest.raises(CryptoError):
        solve_codebook(key.public, rows)


def test_a_codebook_of_another_key_is_not_solved(key):
    rows, _ = draw_codebook(generate_keypair(256, allow_insecure_key=True).public)
    with pytest.raises((ArtifactError, CryptoError)):
        solve_codebook(key.public, rows)
