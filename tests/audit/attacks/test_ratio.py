"""Division reads differences of plaintexts exactly wherever an obfuscator is shared, and finds nothing where none is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ppdl.audit.attacks.obfuscators import Obfuscators
from ppdl.audit.attacks.ratio import Ratio, by_obfuscator, differences
from ppdl.audit.examination.base import Finding, Symbols, Target, Truth
from ppdl.config.components import construct
from ppdl.crypto.encryption.codebook import draw_codebook
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit.schemes import films


@pytest.fixture(scope="module")
def key():
    return generate_keypair(512, allow_insecure_key=True).public


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return films(0, 8)


def encrypt(key, plaintext: int, randomness: int) -> int:
    """Paillier as in the paper, written independently of the library."""
    return pow(key.n + 1, plaintext % key.n, key.n**2) * pow(randomness, key.n, key.n**2) % key.n**2


def as_rows(key, ciphertexts: list[int]) -> np.ndarray:
    return np.stack([np.frombuffer(c.to_bytes(key.ciphertext_bytes, "big"), np.uint8) for c in ciphertexts])


def examine(target: Target, images: np.ndarray, num_ciphertexts: int | None = None, largest_r: int = 1) -> Finding:
    attack = Ratio(num_ciphertexts, 5) if largest_r == 1 else Obfuscators(num_ciphertexts, 5, largest_r)
    return attack.examine(target, Truth(images), np.random.default_rng(0))


def codebook_target(key, images: np.ndarray, codebook: np.ndarray, table: np.ndarray, **more) -> Target:
    return Target("t", *images.shape, symbols=Symbols(table[images], len(codebook), codebook), public_key=key, **more)


def packed_target(key, ciphertexts: list[list[int]], images: np.ndarray, **more) -> Target:
    return Target("t", *images.shape, ciphertexts=np.stack([as_rows(key, row) for row in ciphertexts]), public_key=key, **more)


def without_words(finding: Finding) -> dict[str, object]:
    return {key: value for key, value in finding.metrics.items() if key not in ("leak", "unseen")}


def test_a_codebook_of_one_obfuscator_is_read_exactly(key, images):
    codebook, table = draw_codebook(key)
    finding = examine(codebook_target(key, images, codebook, np.frombuffer(table, np.uint8)), images)
    assert without_words(finding) == {
        "num_ciphertexts": 256,
        "shared_obfuscators": 1.0,
        "plaintext_differences_known": 256 * 255 // 2,
        "small_obfuscators": 0.0,
        "below_n": 0.0,
        "exact_up_to_offset": True,
        "num_offsets": 1,  # 256 values leave no room
        "psnr": 100.0,
        "ssim": 1.0,
    }


def test_an_encryption_without_randomness_is_read_too(key, images):
    codebook = as_rows(key, [encrypt(key, value, 1) for value in range(256)])
    assert examine(codebook_target(key, images, codebook, np.arange(256)), images).metrics["psnr"] == 100.0


def test_the_offset_is_bounded_by_the_range_and_guessed_within(key, images):
    dark = (images // 2).astype(np.uint8)
    lowest, highest = int(dark.min()), int(dark.max())
    codebook = as_rows(key, [encrypt(key, value, 77) for value in range(lowest, highest + 1)])
    target = codebook_target(key, dark - lowest, codebook, np.arange(highest - lowest + 1))
    blind = examine(target, dark).metrics
    assert blind["exact_up_to_offset"] and blind["num_offsets"] == 256 - (highest - lowest)
    error = np.asarray(dark[:1]).astype(int) - examine(target, dark).rebuilt.images[:1]
    assert np.ptp(error) == 0  # the same for each pixel
    guided = examine(replace(target, prior=(films(99, 30) // 2).astype(np.uint8)), dark).metrics
    assert guided["psnr"] > blind["psnr"] and guided["psnr"] > 20


def test_plaintexts_wider_than_a_pixel_are_stretched_over_the_range(key, images):
    huge = (key.n // 3) // 255  # differences beyond any float
    codebook = as_rows(key, [encrypt(key, value * huge, 5) for value in range(256)])
    metrics = examine(codebook_target(key, images, codebook, np.arange(256)), images).metrics
    assert metrics["psnr"] == 100.0 and metrics["num_offsets"] is None and not metrics["exact_up_to_offset"]


def test_fresh_obfuscators_give_nothing(key, images):
    rng = np.random.default_rng(1)
    ciphertexts = [[encrypt(key, int(rng.integers(256)), int(rng.integers(2, 2**62))) for _ in range(4)] for _ in range(8)]
    finding = examine(packed_target(key, ciphertexts, images), images)
    counts = {"num_ciphertexts": 32, "shared_obfuscators": 0.0, "plaintext_differences_known": 0}
    assert without_words(finding) == counts | {"small_obfuscators": 0.0, "below_n": 0.0}
    assert finding.metrics["leak"] is None and finding.metrics["unseen"] == "two equal obfuscators among 32 ciphertexts, or one of r = 1"
    noise = packed_target(key, ciphertexts, images).ciphertexts.copy()
    noise[:] = rng.integers(0, 256, noise.shape)
    assert examine(Target("t", *images.shape, ciphertexts=noise, public_key=key), images).metrics["shared_obfuscators"] == 0.0


def test_a_codebook_of_fresh_obfuscators_rebuilds_no_image(key, images):
    codebook = as_rows(key, [encrypt(key, value, 1000 + value) for value in range(256)])
    finding = examine(codebook_target(key, images, codebook, np.arange(256)), images)
    assert finding.metrics["shared_obfuscators"] == 0.0 and finding.rebuilt is None


def test_reused_randomness_is_found_and_counted(key, images):
    ciphertexts = [[encrypt(key, 10 * i + j, 500 + 10 * i + j) for j in range(4)] for i in range(8)]
    ciphertexts[2][1] = encrypt(key, 999, 500)  # with 0, 0
    ciphertexts[7][3] = encrypt(key, 5, 500)
    target = packed_target(key, ciphertexts, images)
    metrics = examine(target, images).metrics
    assert metrics["shared_obfuscators"] == 3 / 32 and metrics["plaintext_differences_known"] == 3
    assert metrics["leak"] == "9.4% of the obfuscators occur again, which gives differences of plaintexts exactly"
    assert examine(target, images, num_ciphertexts=9).metrics["num_ciphertexts"] == 8  # two whole images
    groups = by_obfuscator([c for row in ciphertexts for c in row], key)
    assert [members for members in groups.values() if len(members) > 1] == [[0, 9, 31]]


def test_differences_are_exact_and_signed(key):
    large = key.n // 3
    for a, b in ((255, 0), (0, 255), (7, 7), (large, 1), (1, large)):
        assert differences([encrypt(key, a, 12345), encrypt(key, b, 12345)], encrypt(key, b, 12345), key) == [a - b, 0]


def pixelwise(key, images: np.ndarray, randomness: list[int]) -> Target:
    """Encrypt each pixel, under these obfuscators one after another."""
    masks = [pow(r, key.n, key.n**2) for r in randomness]
    ciphertexts = [(1 + int(m) * key.n) * masks[i % len(masks)] % key.n**2 for i, m in enumerate(images.ravel())]
    return packed_target(key, np.array(ciphertexts, object).reshape(len(images), -1).tolist(), images)


@pytest.mark.parametrize(
    ("randomness", "largest_r", "known"),
    [([1], 1, 1.0), ([7], 6, 0.0), ([7], 7, 1.0), ([3, 5, 12, 4099, 8191], 8191, 1.0), ([1 << 61, 9], 9, 0.5)],
    ids=["no randomness", "one above the bound", "one at the bound", "several, two by the second search", "every second"],
)
def test_small_obfuscators_give_plaintexts_exactly(key, images, randomness, largest_r, known):
    small = images[:2, ::4, ::4]
    finding = examine(pixelwise(key, small, randomness), small, largest_r=largest_r)
    assert finding.metrics["small_obfuscators"] == known and finding.metrics["shared_obfuscators"] == 1.0
    assert ("gives plaintexts exactly" in finding.metrics["leak"]) == (known > 0)
    assert (finding.metrics["psnr"] == 100.0) == (known == 1)
    if known == 0.5:
        np.testing.assert_array_equal(finding.rebuilt.images.ravel()[1::2], small.ravel()[1::2])


def test_a_prime_above_the_first_is_searched_where_another_small_one_is_found(key, images):
    small = images[:1, ::4, ::4]
    assert examine(pixelwise(key, small, [4099]), small, largest_r=4100).metrics["small_obfuscators"] == 0.0
    assert examine(pixelwise(key, small, [4099, 6]), small, largest_r=4100).metrics["small_obfuscators"] == 1.0


def test_images_under_obfuscators_of_their_own_are_rebuilt_each(key, images):
    masks = [pow(1000 + i, key.n, key.n**2) for i in range(2)]
    ciphertexts = [[(1 + int(m) * key.n) * mask % key.n**2 for m in image.ravel()] for image, mask in zip(images[:2], masks, strict=True)]
    finding = examine(packed_target(key, ciphertexts, images[:2]), images[:2], num_ciphertexts=2)
    assert finding.metrics["num_ciphertexts"] == 2 * images[0].size and not finding.metrics["exact_up_to_offset"]
    error = images[:2].astype(int) - finding.rebuilt.images
    assert np.ptp(error, axis=(1, 2)).tolist() == [0, 0]


def test_numbers_that_were_never_encrypted_are_named(key, images):
    target = packed_target(key, np.maximum(images[:1, ::4, ::4], 1).reshape(1, -1).tolist(), images[:1, ::4, ::4])
    finding = examine(target, np.maximum(images[:1, ::4, ::4], 1))
    assert finding.metrics["below_n"] > 0.9 and "never encrypted under this key" in finding.metrics["leak"]
    assert finding.metrics["psnr"] > 40


def test_without_a_public_key_or_ciphertexts_it_does_not_apply(key, images):
    with pytest.raises(AttackDoesNotApply, match="no public key"):
        examine(Target("t", *images.shape, symbols=Symbols(images, 256, as_rows(key, [5] * 256))), images)
    with pytest.raises(AttackDoesNotApply, match="no Paillier ciphertexts"):
        examine(Target("t", *images.shape, symbols=Symbols(images, 256, None), public_key=key), images)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1, 5, 1), r"num_ciphertexts: must be >= 2, got 1"),
        ((None, 5, 0), "largest_r: must be >= 1, got 0"),
        ((None, 0, 1), "num_scored: must be >= 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, name):
    with pytest.raises(ConfigError, match=name):
        construct(Obfuscators, dict(zip(("num_ciphertexts", "num_scored", "largest_r"), arguments, strict=True)), "attack")
