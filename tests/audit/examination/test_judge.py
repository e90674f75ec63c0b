"""What counts as an image where nobody has the originals."""

import numpy as np
import pytest

from ppdl.audit.examination.chance import FALSE_ALARM, rates
from ppdl.audit.examination.judge import MARGIN, compare
from tests.audit import schemes
from tests.audit.schemes import SCHEMES


def judged(images, partial=False):
    rng = np.random.default_rng(3)
    null = rng.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)
    return compare(images, null, partial=partial, num_tests=10)


def shown(name):
    return np.clip(SCHEMES[name].protect(schemes.films(1, 20), np.random.default_rng(0)), 0, 255).astype(np.uint8)


def test_images_have_the_structure_of_images_and_a_part_of_them_shows():
    images = schemes.films(1, 20)
    assert judged(images).rebuilt
    assert judged(shown("downscaled_2")).rebuilt
    part = judged(images, partial=True)
    assert part.found and not part.rebuilt


@pytest.mark.parametrize("name", ["noisy_32", "noisy_128", "downscaled_8", "block_scrambling_fresh"])
def test_noise_on_top_and_blocks_show_images_and_are_none(name):
    structure = judged(shown(name))
    assert structure.found and not structure.rebuilt


@pytest.mark.parametrize("count", [1, 2, 20])
def test_on_noise_the_difference_has_the_law_that_the_rule_goes_by(count):
    rng = np.random.default_rng(4)
    found = [compare(*rng.integers(0, 256, (2, count, 32, 32), dtype=np.uint8), partial=False, num_tests=1) for _ in range(150)]
    scores = np.array([(each.structure - each.structure_null) / each.structure_error for each in found])
    assert scores.std() < 1.15 and np.abs(scores).max() < 4  # 150 normal ones exceed 4 once in 100 times
    assert not any(each.found for each in found) and all(each.structure_counts_from >= MARGIN for each in found)


def test_the_least_share_of_hits_is_what_chance_reaches_once_in_a_million():
    from scipy.stats import binom

    least, found = rates(50, 0.01)
    assert binom.sf(50 * least - 1, 50, 0.01) <= FALSE_ALARM < binom.sf(50 * least - 2, 50, 0.01)
    assert binom.sf(50 * least - 1, 50, found) == pytest.approx(0.8)
    assert rates(1, 0.5)[0] > 1
