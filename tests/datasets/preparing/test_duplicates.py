"""Near duplicates by brute force, and groups by flood fill."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ppdl.datasets.preparing import duplicates
from ppdl.datasets.preparing.duplicates import join_groups, near_pairs, perceptual_hash, pixel_hash


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return bin(int.from_bytes(a.tobytes(), "big") ^ int.from_bytes(b.tobytes(), "big")).count("1")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20), st.integers(0, 256), st.integers(0, 2**32 - 1))
def test_near_pairs_are_all_pairs_within_the_distance(num_images, max_distance, seed):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (num_images, 32), dtype=np.uint8)
    hashes[num_images // 2 :] = hashes[: num_images - num_images // 2] ^ (rng.random((num_images - num_images // 2, 32)) < 0.2)
    expected = [(i, j) for i in range(num_images) for j in range(i + 1, num_images) if distance(hashes[i], hashes[j]) <= max_distance]
    assert near_pairs(hashes, max_distance).tolist() == [list(pair) for pair in expected]


def test_near_pairs_do_not_depend_on_the_blocks_or_on_the_way(monkeypatch):
    hashes = np.random.default_rng(0).integers(0, 2, (50, 32), dtype=np.uint8)
    monkeypatch.setattr(duplicates, "_CANDIDATE_COST", 0.01)  # always by bands
    whole = near_pairs(hashes, 16)
    monkeypatch.setattr(duplicates, "_CANDIDATE_COST", 10**9)  # never
    assert len(whole) and np.array_equal(near_pairs(hashes, 16), whole)
    monkeypatch.setattr(duplicates, "_BLOCK_PAIRS", 350)
    assert np.array_equal(near_pairs(hashes, 16), whole)


def test_few_of_many_pairs_are_compared(monkeypatch):
    """The number of comparisons grows with the images, not with their square."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (20000, 32), dtype=np.uint8)
    bits = np.unpackbits(hashes[:500], axis=1)
    for row in bits:
        row[rng.choice(256, 10, replace=False)] ^= 1
    hashes[-500:] = np.packbits(bits, axis=1)  # 500 pairs exactly 10 apart
    compared = []
    original = duplicates._sharing

    def counted(key):
        for i, j in original(key):
            compared.append(len(i))
            yield i, j

    monkeypatch.setattr(duplicates, "_sharing", counted)
    assert near_pairs(hashes, 10).tolist() == [[i, 19500 + i] for i in range(500)]
    assert sum(compared) < 5000  # of 200 million pairs
    assert len(near_pairs(hashes, 9)) == 0


def test_hashes_that_differ_in_every_bit_are_256_apart():
    hashes = np.stack([np.zeros(32, np.uint8), np.full(32, 255, np.uint8)])  # a count in 8 bits would wrap to 0
    assert len(near_pairs(hashes, 255)) == 0
    assert len(near_pairs(hashes, 256)) == 1


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.int64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(0, 9)),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"))),
)
def test_groups_are_the_connected_parts(pairs, patients):
    group = np.arange(10)
    for _ in range(10):
        for i, j in pairs.tolist() + [(i, j) for i, a in patients for j, b in patients if a == b]:
            group[group == max(group[i], group[j])] = min(group[i], group[j])
    expected = np.unique(group, return_inverse=True)[1]
    assert join_groups(10, pairs, patients).tolist() == expected.tolist()


def test_a_patient_and_a_near_duplicate_join_three_images():
    assert join_groups(4, np.array([[0, 2]]), [(2, "a"), (3, "a")]).tolist() == [0, 1, 0, 0]


def test_the_pixel_hash_tells_sizes_and_pixels_apart(picture):
    image = picture(0)
    other = image.copy()
    other[0, 0] ^= 1
    assert pixel_hash(image) == pixel_hash(image.copy(order="F"))
    assert len({pixel_hash(image), pixel_hash(other), pixel_hash(image.reshape(48, 40))}) == 3


def test_the_perceptual_hash_sees_through_recompression_size_and_brightness(picture):
    for seed in range(10):
        image = picture(seed, (128, 128))
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=60)
        copies = [
            np.asarray(Image.open(buffer)),
            np.asarray(Image.fromarray(image).resize((80, 80), Image.Resampling.BICUBIC)),
            np.clip(image * 0.9 + 10, 0, 255).astype(np.uint8),
        ]
        assert max(distance(perceptual_hash(image), perceptual_hash(copy)) for copy in copies) <= 26
        assert distance(perceptual_hash(image), perceptual_hash(picture(seed + 100, (128, 128)))) > 64
