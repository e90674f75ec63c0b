"""Kinds dense and slots: packed, randomised, readable by phe."""

import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ppdl.crypto.artifact.header import Header
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import PublicKey, generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ArtifactError, ConfigError, CryptoError
from tests.crypto.artifacts import PACKINGS, decrypted, random_images, write

CASES = [
    ("dense", {}),
    ("dense", {"images_per_group": 1}),
    ("dense", {"images_per_group": 2}),
    ("dense", {"obfuscator": "standard"}),
    ("slots", {"stride": 1, "slot_bits": 9}),
    ("slots", {"stride": 2, "slot_bits": 12}),
    ("slots", {"stride": 4, "slot_bits": 20, "images_per_group": 1}),
]


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_it_decrypts_to_the_same_images(key, tmp_path, kind, options):
    images = random_images(11)
    artifact = write(tmp_path, kind, images, key.public, **options)
    artifact.verify(key.public)
    counted = []
    assert np.array_equal(decrypted(artifact, key, num_threads=2, on_ciphertexts=counted.append), images)
    assert sum(counted) == artifact.header.num_ciphertexts == len(artifact.ciphertexts)
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize("kind", PACKINGS)
def test_two_workers_write_what_one_writes(key, tmp_path, kind):
    images = random_images(11)
    artifact = write(tmp_path, kind, images, key.public, executor=Executor(2, 8, 4, 4))
    artifact.verify(key.public)
    assert np.array_equal(decrypted(artifact, key), images)


def test_the_program_in_the_specification_reads_it(key, tmp_path, monkeypatch):
    """With phe and numpy alone."""
    text = (Path(__file__).parents[3] / "docs/format.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "ppdl" not in program
    images = random_images(11)
    write(tmp_path, "dense", images, key.public, images_per_group=2)
    monkeypatch.chdir(tmp_path)
    names = {"private_key": key.phe}
    exec(program, names)
    assert np.array_equal(names["images"], images)


@pytest.mark.parametrize("kind", PACKINGS)
def test_equal_pixels_have_different_ciphertexts(key, tmp_path, kind):
    rows = write(tmp_path, kind, np.full((10, 8, 12), 7, np.uint8), key.public).ciphertexts[:]
    assert len({row.tobytes() for row in rows}) == len(rows)
    n, n_squared = key.public.n, key.public.n_squared
    values = [int.from_bytes(row.tobytes(), "big") for row in rows]
    ratios = [a * pow(b, -1, n_squared) % n for a, b in pairwise(values)]
    assert 1 not in ratios  # no two share an obfuscator


def test_images_of_their_own(key, tmp_path):
    images = random_images(11)
    artifact = write(tmp_path, "dense", images, key.public, images_per_group=1)
    own = artifact.ciphertexts_by_image
    assert own.shape == (11, 4, 64)  # 96 pixels, 31 a plaintext
    for i in (0, 5, 10):
        stream = b"".join(key.phe.raw_decrypt(int.from_bytes(row.tobytes(), "big")).to_bytes(31, "little") for row in own[i])
        assert stream == images[i].tobytes().ljust(4 * 31, b"\0")


def test_streams_that_span_images_cost_fewer_ciphertexts(key, tmp_path):
    images = random_images(40)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    together = write(tmp_path / "a", "dense", images, key.public).header.num_ciphertexts
    apart = write(tmp_path / "b", "dense", images, key.public, images_per_group=1).header.num_ciphertexts
    assert together == 4 * -(-10 * 96 // 31) < apart == 40 * 4


def test_images_may_be_computed_as_they_are_read(key, tmp_path):
    class Lazy:
        shape, ndim, dtype, size = (11, 8, 12), 3, np.dtype(np.uint8), 11 * 96

        def __len__(self):
            return 11

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return random_images(11)[rows]

    for kind in ("codebook", *PACKINGS):
        (tmp_path / kind).mkdir()
        assert np.array_equal(decrypted(write(tmp_path / kind, kind, Lazy(), key.public), key), random_images(11))


def test_djn_needs_a_key_made_for_it(key, tmp_path):
    with pytest.raises(CryptoError, match="djn needs a key that was made for it"):
        write(tmp_path, "dense", random_images(), PublicKey(key.public.n))
    assert not (tmp_path / "partial").exists()
    foreign = write(tmp_path, "dense", random_images(), PublicKey(key.public.n), obfuscator="standard")
    assert foreign.header.key.obfuscator == "standard"


def test_parameters_are_checked_before_anything_is_written(key, tmp_path):
    with pytest.raises(ConfigError, match="stride must divide the images' 8 x 12 px, got 3"):
        write(tmp_path, "slots", random_images(), key.public, stride=3)
    with pytest.raises(ArtifactError, match=r"key\.obfuscator must be 'djn' or 'standard', got 'none'"):
        write(tmp_path, "dense", random_images(), key.public, obfuscator="none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["codebook", *PACKINGS])
def test_progress_is_told_in_pixels(key, tmp_path, capsys, kind):
    write(tmp_path, kind, random_images(7), key.public, progress=True)
    shown = capsys.readouterr().err
    assert re.search(r"test: +0%.* 0\.00/672 ", shown) and re.search(r"test: 100%.* 672/672 ", shown)
    (tmp_path / "quiet").mkdir()
    write(tmp_path / "quiet", kind, random_images(7), key.public)
    assert capsys.readouterr().err == ""


def test_rows_are_read_lazily(key, tmp_path):
    artifact = write(tmp_path, "dense", random_images(11), key.public)
    (tmp_path / "artifact/ciphertexts-00003.npy").write_bytes((tmp_path / "artifact/ciphertexts-00003.npy").read_bytes()[:-1] + b"!")
    reopened = open_artifact(tmp_path / "artifact")
    assert isinstance(reopened.ciphertexts[2:5], np.memmap)
    assert np.array_equal(reopened.ciphertexts[:5], artifact.ciphertexts[:5])
    with pytest.raises(ArtifactError, match="damaged"):
        reopened.ciphertexts[-1]


@pytest.mark.parametrize("kind", ["codebook", *PACKINGS])
def test_the_counts_of_a_header_follow_from_its_shards(key, tmp_path, kind):
    header = write(tmp_path, kind, random_images(), key.public).header
    given = {field.name: getattr(header, field.name) for field in fields(header)}
    for name in ("num_ciphertexts", "ciphertext_bytes", "shards"):
        del given[name]
    assert Header.of_shards(header.shards, **given) == header
