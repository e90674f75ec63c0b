"""The yardsticks find what they should find, and nothing else."""

import numpy as np
import pytest

from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.measures import baselines
from ppdl.evaluation.measures.baselines import border_baseline, chance

PX = 48
TRAIN, TEST = np.arange(0, 200), np.arange(200, 300)
LABELS = np.arange(300) % 3


def images(*, border: bool = False, centre: bool = False, px: int = PX) -> np.ndarray:
    """Return noise, with the class written as brightness into the outer rows or into the centre."""
    rng = np.random.default_rng(0)
    stack = rng.integers(90, 110, size=(300, px, px))
    if border:
        stack[:, : px // 12] += 20 * LABELS[:, None, None]
    if centre:
        stack[:, px // 4 : -px // 4, px // 4 : -px // 4] += 40 * LABELS[:, None, None]
    return stack.astype(np.uint8)


def accuracy(stack: np.ndarray, labels: np.ndarray = LABELS) -> float:
    return float((border_baseline(stack, labels, TRAIN, TEST).argmax(axis=1) == labels[TEST]).mean())


def test_chance_of_a_constant_answer_and_of_an_even_guess():
    found = chance(np.array([0, 0, 0, 1]), 3)
    assert found == {"accuracy": 0.75, "uniform_accuracy": pytest.approx(1 / 3), "balanced_accuracy": 0.5}


def test_the_border_tells_classes_apart_that_are_written_there():
    assert accuracy(images(border=True)) > 0.95


def test_the_border_does_not_see_the_centre():
    assert 0.2 < accuracy(images(centre=True)) < 0.47


def test_large_images_are_read_at_a_smaller_size():
    """At 192 px the ring is read as at 48 px: bright outer rows are found, and memory holds 860 numbers an image."""
    assert accuracy(images(border=True, px=192)) > 0.95
    assert baselines._reduced_px(192) == 48
    assert baselines._reduced_px(160) == 40
    assert baselines._reduced_px(32) == 32


def test_two_classes_have_two_logits():
    labels = LABELS % 2
    logits = border_baseline(images(border=True), labels, TRAIN, TEST)
    assert logits.shape == (100, 2)
    assert (logits.argmax(axis=1) == (logits[:, 1] > 0)).all()


def test_it_is_reproducible_and_reads_memory_maps(tmp_path):
    np.save(tmp_path / "images.npy", images(border=True))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(border_baseline(mapped, LABELS, TRAIN, TEST), border_baseline(images(border=True), LABELS, TRAIN, TEST))


def test_rows_may_come_in_any_order():
    logits = border_baseline(images(border=True), LABELS, TRAIN, TEST)
    np.testing.assert_allclose(border_baseline(images(border=True), LABELS, TRAIN, TEST[::-1]), logits[::-1])


def test_a_probe_that_did_not_converge_is_said_to_be_understated(monkeypatch, caplog):
    monkeypatch.setattr(baselines, "MAX_ITERATIONS", 1)
    accuracy(images(border=True))
    assert "did not converge in 1 steps: it may be better than reported" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train_rows": TRAIN[LABELS[TRAIN] != 1]}, DataError, "training image of every class, got none of label 1"),
        ({"images": images(px=97)}, ConfigError, "a divisor from 8 to 48, got 97 px; choose another prepared_px"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    good = {"images": images(), "labels": LABELS, "train_rows": TRAIN, "test_rows": TEST}
    with pytest.raises(error, match=message):
        border_baseline(**good | change)
