"""Find pictures that occur twice, exactly or nearly, and join what must stay together in a split."""

import hashlib
from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image
from scipy import sparse

HASH_SIZE = 16
_BLOCK_PAIRS = 2**22  # of the distance matrix at a time
_CANDIDATE_COST = 8  # to look one pair up costs as much as to compare so many in a row


def pixel_hash(gray: np.ndarray) -> bytes:
    """Hash size and pixels of a gray image, so that copies in other file formats count as the same picture.

    Args:
        gray: (height, width) uint8.
    """
    digest = hashlib.sha256(repr(gray.shape).encode())
    digest.update(np.ascontiguousarray(gray).data)
    return digest.digest()


def perceptual_hash(gray: np.ndarray) -> np.ndarray:
    """Hash what a picture looks like: copies that were resized, recompressed or brightened differ in few bits.

    A mirrored, rotated or cropped copy is not recognised.

    Args:
        gray: (height, width) uint8.

    Returns:
        (HASH_SIZE^2 / 8,) uint8, the packed signs of the lowest DCT coefficients against their median (`imagehash.phash`).

    Cost: about 1 ms.
    """
    return np.packbits(imagehash.phash(Image.fromarray(gray), hash_size=HASH_SIZE).hash)


def near_pairs(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """Find all pairs of hashes within a Hamming distance.

    Cut into max_distance + 1 bands of bits, two such hashes agree in one band at least: pairs that share a band are compared, or, where
    bands are so narrow that most pairs share one, all pairs are.

    Args:
        hashes: (num_images, num_bytes) uint8, num_bytes a multiple of 8.
        max_distance: Greatest number of bits in which a pair may differ.

    Returns:
        (num_pairs, 2) int64, each row i < j, sorted.

    Source: multi-index hashing, M. Norouzi, A. Punjani, D. J. Fleet, CVPR 2012.
    Cost: sorting each band, so it grows as num_images log(num_images) for distances up to about 10 of 256 bits, and with the square of
        num_images for large ones; memory for the bands, 8 bytes an image and band, and for the pairs.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)  # (num_images, num_bytes / 8)
    num_bits = 8 * hashes.shape[1]
    if max_distance >= num_bits or len(words) < 2:
        return _compare_all(words, max_distance)
    # Neighbouring coefficients of a picture are alike: mixed, the bits of a band tell more apart.
    bands = np.array_split(np.random.default_rng(0).permutation(num_bits), max_distance + 1)
    keys = [_key(hashes, band[:64]) for band in bands]
    counts = (np.unique(key, return_counts=True)[1] for key in keys)
    num_candidates = sum(int((count * (count - 1) // 2).sum()) for count in counts)
    if num_candidates > len(words) ** 2 // 2 // _CANDIDATE_COST:
        return _compare_all(words, max_distance)
    found = [np.empty(0, np.int64)]
    for key in keys:
        for i, j in _sharing(key):
            near = np.bitwise_count(words[i] ^ words[j]).sum(axis=1, dtype=np.uint16) <= max_distance
            found.append(np.minimum(i, j)[near] * len(words) + np.maximum(i, j)[near])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), len(words)), axis=1)


def _key(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Gather at most 64 bits of each hash: (num_images,) uint64."""
    key = np.zeros(len(hashes), np.uint64)
    for bit in bits:
        key = key << np.uint64(1) | (hashes[:, bit // 8] >> np.uint8(bit % 8) & np.uint8(1)).astype(np.uint64)
    return key


def _sharing(key: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of images with equal keys, as arrays of first and second ones, in blocks of at most num_images."""
    order = np.argsort(key, kind="stable")
    ordered, places = key[order], np.arange(len(key))
    for offset in range(1, len(key)):  # in sorted order, whoever has another key than the one `offset` further on has done
        places = places[: np.searchsorted(places, len(key) - offset)]
        places = places[ordered[places] == ordered[places + offset]]
        if not len(places):
            return
        yield order[places], order[places + offset]


def _compare_all(words: np.ndarray, max_distance: int) -> np.ndarray:
    """Compare each hash with all later ones. Cost: num_images^2 / 2 comparisons of about 6 ns, in blocks of 70 MB."""
    found = [np.empty((0, 2), np.int64)]
    num_rows = max(_BLOCK_PAIRS // max(len(words), 1), 1)
    for start in range(0, len(words), num_rows):
        rows = words[start : start + num_rows]
        distances = np.zeros((len(rows), len(words) - start), np.uint16)
        for word in range(words.shape[1]):
            distances += np.bitwise_count(rows[:, None, word] ^ words[None, start:, word])
        i, j = np.nonzero(distances <= max_distance)
        later = j > i
        found.append(np.stack([i[later], j[later]], axis=1) + start)
    return np.concatenate(found)


def join_groups(num_images: int, pairs: np.ndarray, patients: list[tuple[int, str]]) -> np.ndarray:
    """Join images into groups: whatever a pair or a common patient connects, over any number of steps.

    Args:
        num_images: Images 0 to num_images - 1.
        pairs: (num_pairs, 2) image numbers.
        patients: (image number, patient) of whichever images have a patient; an image may have several.

    Returns:
        (num_images,) int64 group numbers, in the order of each group's first image.
    """
    names = {name: num_images + i for i, name in enumerate(dict.fromkeys(name for _, name in patients))}
    by_patient = np.array([(image, names[name]) for image, name in patients], np.int64).reshape(-1, 2)
    edges = np.concatenate([np.asarray(pairs, np.int64).reshape(-1, 2), by_patient])
    size = num_images + len(names)
    graph = sparse.coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    _, first, group = np.unique(component[:num_images], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]
