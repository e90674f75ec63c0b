"""A dictionary is read off known images; noise gives none."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.audit.attacks.known_plaintext import KnownPlaintext, learn
from ppdl.audit.examination.base import Finding, KnownImages, Rebuilt, Symbols, Target, Truth, score_rebuilt, scored_rows
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit.schemes import films

KNOWN_ROWS = np.array([7, 3, 11, 13, 17, 2])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return films(0, 20)


def attack(symbols: np.ndarray, images: np.ndarray, rows: np.ndarray = KNOWN_ROWS, num_known: tuple[int, ...] = (1, 2, 5, 10)) -> Finding:
    known = KnownImages(rows, images[rows])
    target = Target("t", *images.shape, symbols=Symbols(symbols, 256, None), known=known)
    return KnownPlaintext(num_known, 6).examine(target, Truth(images), np.random.default_rng(0))


@pytest.mark.parametrize("table", [np.arange(256), np.random.default_rng(1).permutation(256)], ids=["identity", "permutation"])
def test_a_few_known_images_open_the_others(images, table):
    finding = attack(table.astype(np.uint8)[images], images)
    by_count = finding.metrics["by_count"]
    assert list(by_count) == ["1", "2", "5"] and finding.metrics["headline_known"] == 5
    complete = [figures["dictionary_complete"] for figures in by_count.values()]
    assert complete == sorted(complete) and 0.4 < complete[0] < complete[-1] == 1
    assert by_count["1"]["ssim"] > 0.8 and finding.metrics["ssim"] > 0.98
    assert complete[1] < 1 and 2 < finding.metrics["complete_after"] <= 5  # so that five known images tell every symbol
    assert not set(finding.rebuilt.rows) & set(KNOWN_ROWS)


def test_the_number_that_completes_the_dictionary_counts_images_in_the_order_given():
    images = np.stack([np.full((8, 8), 1), np.full((8, 8), 2), np.full((8, 8), 1), np.full((8, 8), 2)]).astype(np.uint8)
    images[:, 0, 0] = 3
    assert attack(images, images, np.array([0, 2, 1])).metrics["complete_after"] == 3
    finding = attack(images, images, np.array([1, 0]))
    assert finding.metrics["complete_after"] == 2
    assert finding.metrics["by_count"]["2"] == {"psnr": 100.0, "ssim": 1.0, "dictionary_complete": 1.0}
    assert finding.metrics["by_count"]["1"]["dictionary_complete"] == pytest.approx(2 / 3)


def test_a_symbol_that_was_not_seen_takes_the_mean_of_its_neighbours_outwards():
    pairs = np.zeros((5, 5))
    for a, b, count in ((0, 2, 1), (1, 2, 3), (2, 3, 4)):
        pairs[a, b] = pairs[b, a] = count
    table, known = learn(np.array([[[0, 1]]]), np.array([[[10, 50]]]), pairs)
    assert list(known) == [True, True, False, False, False]
    assert list(table) == [10, 50, 40, 40, 128]  # symbol 4 stands beside nothing


def test_noise_teaches_nothing(images):
    noise = np.random.default_rng(2).integers(0, 256, images.shape, dtype=np.uint8)
    metrics = attack(noise, images).metrics
    flat = Rebuilt(scored_rows(20, 6), np.full((6, 64, 64), images.mean(), np.uint8))
    assert metrics["ssim"] < score_rebuilt(flat, Truth(images))["ssim"] + 0.05  # no better than one gray for all
    assert metrics["dictionary_complete"] < 0.01 and metrics["complete_after"] is None


def test_it_needs_known_images_and_others(images):
    symbols = Symbols(images, 256, None)
    with pytest.raises(AttackDoesNotApply, match="no image is known"):
        KnownPlaintext((1,), 6).examine(Target("t", *images.shape, symbols=symbols), Truth(images), np.random.default_rng(0))
    with pytest.raises(AttackDoesNotApply, match="20 of 20 images are known"):
        attack(images, images, np.arange(20))
    with pytest.raises(AttackDoesNotApply, match="0 of 20 images are known"):
        attack(images, images, np.array([], int))


def test_where_all_the_usual_rows_are_known_others_are_rebuilt(images):
    rows = np.array([0, 3, 7, 11, 15, 19])  # the rows that six evenly spaced ones are
    finding = attack(images, images, rows)
    assert len(finding.rebuilt.rows) == 6 and not set(finding.rebuilt.rows) & set(rows)


@pytest.mark.parametrize("arguments", [((), 6), ((0,), 6), ((1,), 0)])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match="known_plaintext"):
        construct(KnownPlaintext, dict(zip(("num_known", "num_scored"), arguments, strict=True)), "known_plaintext")
