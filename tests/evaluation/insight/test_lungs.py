"""Lungs are cut from every view that is a picture, and only from those; shares and sentences are what they say."""

import numpy as np
import pytest

from ppdl.evaluation.insight.lungs import blanked, fill_of, is_picture, lungs, masked_rows, mass_inside, mean_with_ends
from ppdl.evaluation.report.insight import shortcut_sentence
from ppdl.protections.view import View, plain_view

RNG = np.random.default_rng(0)
SIDE, PX = 32, 16
ROWS = np.arange(6)
RAMP = np.linspace(40, 200, SIDE).astype(np.uint8)
IMAGES = (RAMP[None, :, None] // 2 + RAMP[None, None, :] // 2 + RNG.integers(0, 9, (6, SIDE, SIDE))).astype(np.uint8)
SMALL = IMAGES.reshape(6, PX, 2, PX, 2).mean(axis=(2, 4)).astype(np.uint8)
MASKS = np.zeros((6, SIDE, SIDE), np.uint8)
MASKS[:, 8:16, 8:20] = 255
INSIDE = np.zeros((PX, PX), bool)
INSIDE[3:9, 3:11] = True  # half the size, grown by a pixel
TABLE = RNG.permutation(np.linspace(-1, 1, 256, dtype=np.float32))[:, None]  # symbols in no order
SYMBOL_OF = TABLE[:, 0].argsort()  # of each gray value


def views() -> dict[str, View]:
    three = np.stack([SMALL, 255 - SMALL, SMALL // 3], axis=3).astype(np.int32) * 7
    return {
        "pixels": plain_view(SMALL),
        "revealed": View("revealed", three, None, False, 1e-3, 0.0),
        "symbols": View("symbols", SYMBOL_OF[SMALL].astype(np.uint8), TABLE, True, 1.0, 0.0),
    }


@pytest.mark.parametrize("name", views())
def test_one_part_stays_and_the_other_gets_one_value(name):
    view = views()[name]
    fill = fill_of(view, ROWS)
    for part, gone in (("without_lungs", INSIDE), ("only_lungs", ~INSIDE)):
        left = blanked(view, MASKS, ROWS, part)
        found = left.array[np.array([4, 1])]
        assert left.array.shape == view.array.shape and found.dtype == view.array.dtype and left.table is view.table
        assert (found[:, gone] == fill).all()
        assert np.array_equal(found[:, ~gone], view.array[[4, 1]][:, ~gone])
        assert np.array_equal(np.asarray(left.array)[[4, 1]], found)


def test_what_is_blanked_looks_like_the_mean():
    found = views()
    assert fill_of(found["pixels"], ROWS[:3]) == round(SMALL[:3].mean())
    assert fill_of(found["revealed"], ROWS).tolist() == np.rint(found["revealed"].array.mean(axis=(0, 1, 2))).tolist()
    assert abs(np.flatnonzero(fill_of(found["symbols"], ROWS) == SYMBOL_OF)[0] - SMALL.mean()) < 2


def test_the_lungs_are_grown_by_a_share_of_the_side():
    one = np.zeros((1, 200, 200), np.uint8)
    one[0, 100, 100] = 255
    assert lungs(one, 200, np.array([0])).sum() == 81  # 4 pixels each way
    assert lungs(one, 50, np.array([0])).sum() == 9  # at least one


def test_what_is_a_picture_is_seen_from_the_numbers():
    assert all(is_picture(view, IMAGES, ROWS) for view in views().values())
    noise = plain_view(RNG.integers(0, 256, (6, PX, PX)).astype(np.uint8))
    random_looks = View("bytes", SMALL, RNG.uniform(-1, 1, (256, 3)).astype(np.float32), False, 1.0, 0.0)
    constant = plain_view(np.full((6, PX, PX), 7, np.uint8))
    other_size = plain_view(np.zeros((6, 15, 15), np.uint8))
    oblong = plain_view(np.zeros((6, PX, 2 * PX), np.uint8))
    for view in (noise, random_looks, constant, other_size, oblong):
        assert not is_picture(view, IMAGES, ROWS)


def test_images_without_a_mask_are_left_out():
    masks = MASKS.copy()
    masks[[0, 3]] = 0
    assert masked_rows(masks, np.array([0, 1, 3, 5])).tolist() == [1, 5]
    assert masked_rows(masks, ROWS[:0]).tolist() == []


def test_shares_of_mass_and_area():
    maps = np.zeros((3, PX, PX), np.float32)
    maps[0, 5, 5], maps[0, 0, 0] = 3, 1
    maps[1] = 1
    shares, areas = mass_inside(maps, MASKS[:3])
    assert shares[0] == 0.75 and shares[1] == pytest.approx(areas[1]) and np.isnan(shares[2])
    assert areas == pytest.approx([8 * 12 / SIDE**2] * 3)


def test_a_mean_is_resampled_by_group():
    values = RNG.normal(0.5, 0.1, 400)
    alone = mean_with_ends("m", values, np.arange(400))
    assert alone["m"] == pytest.approx(values.mean()) and alone["m_low"] < alone["m"] < alone["m_high"]
    assert alone["m_high"] - alone["m_low"] == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    below = mean_with_ends("m", values - 1, np.arange(400), least=-1)
    assert below == pytest.approx({name: value - 1 for name, value in alone.items()})
    twins = mean_with_ends("m", values.repeat(4), np.arange(400).repeat(4))
    assert twins["m_high"] - twins["m_low"] == pytest.approx(alone["m_high"] - alone["m_low"], rel=0.2)


def test_the_interval_of_a_share_of_a_map_stays_among_shares():
    assert mean_with_ends("m", np.array([0.0, 0, 0, 0, 0, 1]), np.arange(6))["m_low"] == 0
    few = mean_with_ends("m", np.array([0.4, 0.5, 0.6]), np.arange(3))
    assert (few["m_low"], few["m_high"]) == (0, 1)


def test_a_shortcut_is_named_only_above_chance():
    found = {"without_lungs_accuracy": 0.8, "without_lungs_accuracy_low": 0.7, "without_lungs_accuracy_high": 0.9, "lungs_chance": 0.5}
    found |= {"whole_accuracy_low": 0.8}
    sentence = shortcut_sentence("plain", found)
    assert "80.0\N{NO-BREAK SPACE}% [70.0, 90.0], above chance (50.0\N{NO-BREAK SPACE}%)" in sentence and "a shortcut." in sentence
    low = shortcut_sentence("plain", found | {"without_lungs_accuracy_low": 0.5})
    nothing = shortcut_sentence("plain", found | {"without_lungs_accuracy_low": 0.4, "whole_accuracy_low": 0.5})
    assert "Nor is it on whole images: it has learned nothing" in nothing and "no sign" not in nothing
    assert "not above chance" in low and "no sign of a shortcut" in low and "no proof" in low
