"""Batches are a function of seed, epoch and number, and memory does not grow with the data set."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ppdl.errors import DataError
from ppdl.protections.view import View, plain_view
from ppdl.training.networks.augment import Augmentation
from ppdl.training.networks.data import Batches, check_symbols

# Image i is full of the number i, so that a batch shows which rows it holds.
VIEW = plain_view(np.repeat(np.arange(50, dtype=np.uint8), 4 * 4).reshape(50, 4, 4))
ROWS = np.arange(10, 33)
TARGETS = np.eye(50, dtype=np.float32)[ROWS]


def rows_of(batches: Batches) -> list[int]:
    return np.concatenate([batches[i][0][:, 0, 0] for i in range(len(batches))]).tolist()


def test_in_order_the_last_batch_is_what_is_left():
    batches = Batches(VIEW, ROWS, TARGETS, batch_size=8)
    assert [len(batches[i][0]) for i in range(len(batches))] == [8, 8, 7]
    assert rows_of(batches) == ROWS.tolist()
    images, targets = batches[2]
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(targets.argmax(1), images[:, 0, 0])


def test_shuffled_every_image_comes_once_and_the_last_batch_is_filled_with_the_first():
    batches = Batches(VIEW, ROWS, TARGETS, batch_size=8, seed=1)
    order = rows_of(batches)
    assert sorted(order[:23]) == ROWS.tolist() and order[:23] != ROWS.tolist()
    assert order[23:] == order[:1]


def test_fewer_images_than_a_batch_are_one_batch():
    batches = Batches(VIEW, ROWS[:5], TARGETS[:5], batch_size=8, seed=1)
    assert len(batches) == 1 and sorted(rows_of(batches)) == ROWS[:5].tolist()


def test_targets_and_weights_follow_their_image():
    weights = ROWS.astype(np.float32)
    images, targets, weight = Batches(VIEW, ROWS, TARGETS, batch_size=8, seed=3, sample_weights=weights)[1]
    np.testing.assert_array_equal(targets.argmax(1), images[:, 0, 0])
    np.testing.assert_array_equal(weight, images[:, 0, 0])


def test_order_and_augmentation_depend_on_seed_epoch_and_batch_alone():
    noise = plain_view(np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8))

    def epoch(number: int, seed: int = 1, read=lambda n: range(n)) -> bytes:
        batches = Batches(noise, ROWS, batch_size=8, seed=seed, augmentation=Augmentation(flip=True, shift=0.3))
        batches.set_epoch(number)
        images = {i: batches[i][0] for i in read(len(batches))}
        return b"".join(images[i].tobytes() for i in sorted(images))

    assert epoch(2) == epoch(2) == epoch(2, read=lambda n: reversed(range(n)))
    assert len({epoch(2), epoch(3), epoch(2, seed=4)}) == 3


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", np.uint8), ("uint16", np.int32), ("int16", np.int32)])
def test_bytes_stay_bytes_and_all_else_is_int32(dtype, expected):
    view = View("v", VIEW.array.astype(dtype), None, False, 1.0, 0.0)
    assert Batches(view, ROWS, batch_size=4)[0][0].dtype == expected


def symbols(array: np.ndarray, num_symbols: int) -> View:
    return View("symbols", array, np.zeros((num_symbols, 1), np.float32), False, 1.0, 0.0)


def test_a_symbol_without_a_row_in_the_table_is_found_in_the_rows_in_use():
    array = np.zeros((600, 2, 2), np.uint16)
    array[555, 1, 0] = 7
    check_symbols(symbols(array, 8), np.arange(600))
    check_symbols(symbols(array, 7), np.arange(555))
    with pytest.raises(DataError, match=r"view 'symbols': symbols must lie in \[0, 7\), row 555 holds 7"):
        check_symbols(symbols(array, 7), np.arange(600))
    array = array.astype(np.int16)
    array[3, 0, 0] = -1
    with pytest.raises(DataError, match="row 3 holds -1"):
        check_symbols(symbols(array, 8), np.arange(600))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_does_not_grow_with_the_data_set(tmp_path):
    def own_mib() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    num_images, px = 20_000, 128  # 328 MB of an 8-bit array, sparse on the disk
    array = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(num_images, px, px))
    view, rows = plain_view(np.load(tmp_path / "images.npy", mmap_mode="r")), np.arange(num_images)
    del array
    batches = Batches(view, rows, batch_size=32, seed=0)
    batches[0]
    before = own_mib()
    peak = max(own_mib() for i in range(0, len(batches)) if len(batches[i][0]) == 32)
    assert peak - before < 20
