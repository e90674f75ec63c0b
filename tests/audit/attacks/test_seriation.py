"""Symbols are put in order and read as gray values without any key, from one image; where there is nothing to read, nothing is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ppdl.audit.attacks import ordering
from ppdl.audit.attacks.histogram import symbol_counts, values_in_order
from ppdl.audit.attacks.ordering import geodesic_orders, likeliest_order, log_likelihood, refine
from ppdl.audit.attacks.seriation import Seriation, gray_table
from ppdl.audit.examination.base import Finding, Symbols, Target, Truth, scored_rows
from ppdl.audit.examination.quality import image_ssim
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from ppdl.protections.schemes.seriation import co_occurrence
from tests.audit.schemes import films

PRIOR_SEED = 99


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return films(0, 100)


@pytest.fixture(scope="module")
def prior() -> np.ndarray:
    return films(PRIOR_SEED, 60)


def attack(symbols: np.ndarray, images: np.ndarray, prior: np.ndarray, *, seed: int = 0, **changes) -> Finding:
    options = {"num_images": (1, 10, 100, None), "num_repeats": 3, "num_scored": 6} | changes
    target = Target("t", *images.shape, symbols=Symbols(symbols, 256, None), prior=prior)
    return Seriation(**options).examine(target, Truth(images), np.random.default_rng(seed))


def substituted(images: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).permutation(256).astype(np.uint8)[images]


def test_phantoms_are_rebuilt_without_a_key_from_a_single_image_and_better_from_a_hundred(images, prior):
    finding = attack(substituted(images), images, prior)
    by_count = finding.metrics["by_count"]
    assert by_count["1"]["ssim"] > 0.9 and by_count["10"]["ssim"] > 0.98
    assert finding.metrics["ssim"] == by_count["100"]["ssim"] > 0.99 and finding.metrics["psnr"] > 40
    assert finding.metrics["rank_correlation"] > 0.999
    assert (finding.metrics["headline_images"], finding.metrics["images_needed"]) == (100, 1)
    np.testing.assert_array_equal(finding.rebuilt.rows, scored_rows(100, 6))


def test_an_encryption_that_changes_nothing_and_one_that_inverts_are_rebuilt_alike(images, prior):
    for symbols in (images, 255 - images):
        assert attack(symbols, images, prior, num_images=(10,)).metrics["ssim"] > 0.98


def test_the_names_of_the_symbols_do_not_matter(images, prior):
    first, second = np.random.default_rng(1).permutation(256), np.random.default_rng(2).permutation(256)
    tables = [gray_table(names[images[:4]], np.arange(4), 256, prior)[names].astype(int) for names in (first, second)]
    seen = np.unique(images[:4])
    assert np.abs(tables[0][seen] - tables[1][seen]).max() <= 4  # ties in the order are broken by name


def test_symbols_that_are_noise_rebuild_nothing(images, prior):
    noise = np.random.default_rng(3).integers(0, 256, images.shape, dtype=np.uint8)
    metrics = attack(noise, images, prior).metrics
    assert metrics["ssim"] < 0.1 and abs(metrics["rank_correlation"]) < 0.3 and metrics["images_needed"] is None


def test_images_that_are_noise_are_not_rebuilt_from_their_symbols(prior):
    noise = np.random.default_rng(4).integers(0, 256, (100, 64, 64), dtype=np.uint8)
    metrics = attack(substituted(noise), noise, prior).metrics
    assert abs(metrics["ssim"]) < 0.3 and abs(metrics["rank_correlation"]) < 0.3 and metrics["images_needed"] is None


def test_a_noisy_image_is_rebuilt_too(images, prior):
    noisy = np.clip(images[:3] + np.random.default_rng(5).normal(0, 15, images[:3].shape), 0, 255).astype(np.uint8)
    assert attack(substituted(noisy), noisy, prior, num_images=(1,)).metrics["ssim"] > 0.85


def test_few_gray_values_are_told_apart(images, prior):
    coarse = (images // 32 * 32 + 16).astype(np.uint8)
    assert attack(substituted(coarse), coarse, prior, num_images=(None,)).metrics["ssim"] > 0.9


def test_symbols_beside_none_of_the_others_get_what_people_show_at_their_positions(prior):
    image = np.full((1, 64, 64), 7, np.uint8)  # one symbol: no pairs at all
    table = gray_table(image, np.array([0]), 256, prior)
    assert abs(float(table[7]) - prior.mean()) < 1.5 and (np.delete(table, 7) == 128).all()
    islands = np.kron(np.array([[1, 2], [3, 4]]), np.ones((32, 32), int))[None]
    islands[0, :, 31:33] = 9  # 1 3 9 2 4 are one component; then a corner of its own
    islands[0, 60:, 60:] = 5
    assert gray_table(islands, np.array([0]), 256, prior)[[1, 2, 3, 4, 5, 9]].min() > 0


def test_sizes_beyond_the_set_are_left_out_and_the_largest_is_the_headline(images, prior):
    metrics = attack(substituted(images[:12]), images[:12], prior).metrics
    assert list(metrics["by_count"]) == ["1", "10", "all"] and metrics["headline_images"] == 12
    with pytest.raises(AttackDoesNotApply, match="more than the 12 images"):
        attack(substituted(images[:12]), images[:12], prior, num_images=(100,))


@pytest.mark.parametrize("changes", [{"num_images": ()}, {"num_images": (0,)}, {"num_repeats": 0}, {"num_scored": 0}])
def test_impossible_arguments_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        construct(Seriation, {"num_images": (1,), "num_repeats": 1, "num_scored": 1} | changes, "attack")


def test_a_chain_is_ordered_whatever_its_names():
    names = np.random.default_rng(3).permutation(40)
    pairs = np.zeros((40, 40))
    for a, b in pairwise(names):
        pairs[a, b] = pairs[b, a] = 50
    order = list(likeliest_order(pairs))
    assert order in (list(names), list(names[::-1]))


def test_more_symbols_than_gray_values_are_ordered_too(images, prior):
    finer = images[:20].astype(np.int64) * 2 + np.random.default_rng(8).integers(0, 2, images[:20].shape)  # 512 symbols
    names = np.random.default_rng(9).permutation(512)
    table = gray_table(names[finer], np.arange(20), 512, prior)[names]
    seen = np.unique(finer)
    assert np.corrcoef(table[seen], seen)[0, 1] > 0.9


def test_refinement_mends_an_order_and_its_likelihood_says_so(images):
    seen = np.unique(images[:5])
    pairs = co_occurrence(images, np.arange(5), 256)[np.ix_(seen, seen)]
    true = np.arange(len(seen))
    shuffled = np.argsort(true + np.random.default_rng(6).normal(0, 10, len(seen)))
    mended = refine(shuffled, pairs)
    assert np.abs(mended - true).mean() < np.abs(shuffled - true).mean() / 3
    assert log_likelihood(mended, pairs) > log_likelihood(shuffled, pairs)


def test_an_order_is_sought_where_neighbours_tell_of_one(images, monkeypatch):
    sought = []
    monkeypatch.setattr(ordering, "geodesic_orders", lambda pairs: sought.append(len(pairs)) or [])
    noise = np.random.default_rng(3).integers(0, 256, (5, 64, 64))
    assert len(likeliest_order(co_occurrence(noise, np.arange(5), 256))) == 256 and not sought
    likeliest_order(co_occurrence(np.random.default_rng(4).permutation(256)[images], np.arange(1), 256))
    assert sought


def test_the_geodesic_order_unrolls_a_chain_with_islands():
    distance = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    pairs = np.where((distance > 0) & (distance <= 3), 100.0, 0.0)
    assert all((np.abs(np.diff(order)) <= 3).all() for order in geodesic_orders(pairs))
    split = pairs.copy()
    split[:30, 30:] = split[30:, :30] = 0
    assert all(sorted(order) == list(range(60)) for order in geodesic_orders(split))


def test_values_are_ascending_within_range_and_exact_where_all_256_occur(prior):
    counts = np.ones(256, int)
    np.testing.assert_allclose(values_in_order(counts, prior, 100), np.arange(256), atol=1e-6)
    some = values_in_order(counts[:200], prior, 1)
    assert (np.diff(some) > 0).all() and some[0] >= 0 and some[-1] <= 255
    assert list(values_in_order(np.ones(511), prior, 1)[[0, 255, 510]]) == [0.0, 127.5, 255.0]


def test_values_beat_histogram_equalisation_on_an_image_whose_order_is_known(images, prior):
    image = images[0]
    counts = np.bincount(image.ravel(), minlength=256)
    seen = np.flatnonzero(counts)
    table = np.zeros(256, np.uint8)
    table[seen] = np.rint(values_in_order(counts[seen], prior, 1))
    matched = np.zeros(256, np.uint8)
    matched[seen] = np.quantile(prior, (np.cumsum(counts[seen]) - counts[seen] / 2) / image.size)
    assert image_ssim(image, table[image]) > max(0.95, image_ssim(image, matched[image]))


def test_symbols_are_counted_block_by_block():
    symbols = np.random.default_rng(7).integers(0, 300, (5, 1100, 1000))
    np.testing.assert_array_equal(symbol_counts(symbols, 300), np.bincount(symbols.ravel(), minlength=300))
