"""Putting scrambled blocks together again."""

import numpy as np
import pytest

from ppdl.audit.attacks.jigsaw import Jigsaw
from ppdl.audit.attacks.jigsaw_solver import TURNS, Edges, assemble, turned
from ppdl.audit.examination.base import Target, Truth
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit import schemes

ATTACK = Jigsaw(num_images=60, num_scored=10, min_contrast=1.3, max_blocks=400)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 60)


@pytest.mark.parametrize("block_px", [8, 16])
@pytest.mark.parametrize("turn", [True, False], ids=["turned and inverted", "permuted"])
def test_one_key_for_all_images_is_undone(images, block_px, turn):
    protected = schemes.block_scrambling(images, np.random.default_rng(0), block_px=block_px, turn=turn)
    metrics = schemes.examine(ATTACK, protected, images).metrics
    assert metrics["block_px"] == block_px
    assert metrics["one_key"]
    assert metrics["ssim"] > 0.9


def test_a_key_for_each_image_is_undone_for_large_blocks(images):
    protected = schemes.block_scrambling(images, np.random.default_rng(0), block_px=16, turn=False, one_key=False)
    metrics = schemes.examine(ATTACK, protected, images).metrics
    assert metrics["block_px"] == 16
    assert not metrics["one_key"]
    assert metrics["ssim"] > 0.6


def test_identity_is_left_as_it_is(images):
    metrics = schemes.examine(ATTACK, images, images).metrics
    assert metrics["block_px"] is None
    assert metrics["ssim"] == 1.0


def test_nothing_is_found_in_noise(images):
    metrics = schemes.examine(ATTACK, schemes.noise(images, np.random.default_rng(0)), images).metrics
    assert metrics["block_px"] is None
    assert metrics["ssim"] < 0.1


def test_noise_in_blocks_is_not_rebuilt(images):
    rng = np.random.default_rng(0)
    blocky = rng.integers(0, 256, (len(images), 8, 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    metrics = schemes.examine(ATTACK, blocky, images).metrics
    assert metrics["block_px"] == 8
    assert metrics["ssim"] < 0.3


def test_what_is_left_over_beside_whole_blocks_stays():
    images = schemes.films(1, 30)[:, :60, :60]
    whole = schemes.block_scrambling(images[:, :56, :56], np.random.default_rng(0))
    protected = images.copy()
    protected[:, :56, :56] = whole
    target = Target("folder", *images.shape, picture=protected)
    metrics = ATTACK.examine(target, Truth(images), np.random.default_rng(0)).metrics
    assert metrics["block_px"] == 8


def test_does_not_apply_to_a_picture_of_another_size(images):
    target = Target("folder", *images.shape, picture=images[:, ::2, ::2])
    with pytest.raises(AttackDoesNotApply, match="another size"):
        ATTACK.examine(target, Truth(images), np.random.default_rng(0))


def test_turns_move_pixels_as_their_matrices_say():
    block = np.arange(9).reshape(3, 3)
    for number, matrix in enumerate(TURNS):
        moved = turned(block, number)
        for row in range(3):
            for column in range(3):
                r, c = matrix @ (row - 1, column - 1) + 1
                assert moved[r, c] == block[row, column]
    assert len({turned(block, number).tobytes() for number in range(8)}) == 8


def test_assembles_turned_and_inverted_blocks_up_to_a_turn_of_the_whole(images):
    protected = schemes.block_scrambling(images, np.random.default_rng(3), block_px=16)
    pieces = protected.reshape(60, 4, 16, 4, 16).transpose(0, 1, 3, 2, 4).reshape(60, 16, 16, 16)
    layout = assemble(Edges.of(pieces), 4, 4)
    assert sorted((row, column) for row, column, _, _ in layout) == [(r, c) for r in range(4) for c in range(4)]
    rebuilt = np.empty_like(images)
    for k, (row, column, turn, negative) in enumerate(layout):
        block = turned(pieces[:, k], turn)
        rebuilt[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 255 - block if negative else block
    candidates = [turned(rebuilt, turn) for turn in range(8)]
    assert any(np.array_equal(images, each) or np.array_equal(255 - images, each) for each in candidates)


@pytest.mark.parametrize("arguments", [{"num_images": 0}, {"num_scored": 0}, {"min_contrast": 1.0}, {"max_blocks": 0}])
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        construct(Jigsaw, {"num_images": 1, "num_scored": 1, "min_contrast": 1.3, "max_blocks": 4} | arguments, "attack")
