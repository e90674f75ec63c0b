"""How pixels fill slots: the law of docs/format.md, section 5."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.crypto.artifact.fields import Source
from ppdl.crypto.artifact.layout import Packing, from_planes, to_planes
from ppdl.crypto.encryption.plan import plan_packing
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ArtifactError, ConfigError, CryptoError


@st.composite
def packed(draw):
    """Draw a packing, its stride and images."""
    stride, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    packing = Packing(9, draw(st.integers(1, 30)), stride**2, height, width, draw(st.integers(1, 5)))
    images = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (draw(st.integers(1, 11)), height * stride, width * stride))
    return packing, stride, images


@given(packed())
def test_slots_round_trip(case):
    packing, stride, images = case
    slots = packing.to_slots(to_planes(images, stride))
    assert slots.shape == (packing.rows(len(images)), packing.slots)
    assert slots.dtype == packing.from_slots(slots, len(images)).dtype == images.dtype
    assert np.array_equal(from_planes(packing.from_slots(slots, len(images)), stride), images)


@given(packed())
def test_each_pixel_is_where_the_specification_says(case):
    packing, s, images = case
    slots = packing.to_slots(to_planes(images, s))
    full = packing.stream_rows(packing.images_per_group)
    for i, y, x in np.ndindex(images.shape):
        g, j = divmod(i, packing.images_per_group)
        p = j * packing.plane_height * packing.plane_width + (y // s) * packing.plane_width + x // s
        row = packing.planes * (g * full + p // packing.slots) + (y % s) * s + x % s
        assert slots[row, p % packing.slots] == images[i, y, x]


@given(packed())
def test_only_the_end_of_a_stream_is_padded(case):
    packing, stride, images = case
    slots = packing.to_slots(to_planes(images + 1, stride))
    assert np.count_nonzero(slots) == images.size
    sizes = [min(packing.images_per_group, len(images) - i) for i in range(0, len(images), packing.images_per_group)]
    waste = sum(packing.planes * (packing.stream_rows(n) * packing.slots - n * packing.plane_height * packing.plane_width) for n in sizes)
    assert slots.size - images.size == waste < packing.slots * packing.planes * len(sizes)


@given(packed())
def test_every_run_of_rows_is_one_input_of_the_stem(case):
    """Rows (columns, planes): column t of plane f holds the t-th plaintext of that plane's stream, so one weight fits a whole plane."""
    packing, stride, images = case
    columns = packing.to_slots(to_planes(images, stride)).reshape(-1, packing.planes, packing.slots)
    doubled = columns * np.arange(1, packing.planes + 1)[None, :, None]
    weighted = from_planes(packing.from_slots(doubled.reshape(-1, packing.slots), len(images)), stride)
    weights = np.arange(1, stride**2 + 1).reshape(stride, stride)
    assert np.array_equal(weighted, images * np.tile(weights, (packing.plane_height, packing.plane_width)))


def test_padding_that_is_not_zero_is_refused():
    packing = Packing(9, 5, 1, 2, 2, 1)
    slots = packing.to_slots(np.ones((2, 1, 2, 2), np.int64))
    slots[1, 4] = 3
    with pytest.raises(CryptoError, match="padding slots must decrypt to 0"):
        packing.from_slots(slots, 2)


@pytest.mark.parametrize("field", ["slot_bits", "slots", "planes", "plane_height", "plane_width", "images_per_group"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, 2**41])
def test_a_packing_checks_its_fields(field, value):
    good = {"slot_bits": 9, "slots": 5, "planes": 1, "plane_height": 2, "plane_width": 2, "images_per_group": 1}
    with pytest.raises(ArtifactError, match=rf"packing\.{field} must be an integer from \d+ to \d+, got "):
        Packing(**good | {field: value})


def plan(num_images=100, px=8, kind="dense", key_bits=2048, stride=1, slot_bits=8, images_per_group=None, shard_mib=8.0, min_shards=4):
    executor = Executor(1, shard_mib, min_shards, 4)
    source = Source(num_images, px, px)
    options = {"kind": kind, "key_bits": key_bits, "stride": stride, "slot_bits": slot_bits, "images_per_group": images_per_group}
    return plan_packing(source, executor=executor, **options)


def test_shards_respect_both_bounds():
    assert plan().images_per_shard == 25  # min_shards
    small = plan(num_images=10**6, px=96, shard_mib=1)
    rows = small.packing.rows(small.images_per_shard)
    assert 0.9 * 2**20 < rows * 512 < 1.01 * 2**20
    assert plan(num_images=3, px=96, shard_mib=0.001).images_per_shard == 1
    assert plan(images_per_group=40).images_per_shard == 40
    assert plan(images_per_group=7).images_per_shard == 21


def test_a_plan_of_images_that_are_not_square():
    """At 2048 bits 255 pixels are 512 bytes, so 1 MiB holds 2^20 / (50 * 64 / 255 * 512) = 163.2 images; the last shard has 158."""
    source = Source(10**6, 50, 64)
    options = {"kind": "dense", "key_bits": 2048, "stride": 1, "slot_bits": 8, "images_per_group": None}
    found = plan_packing(source, executor=Executor(1, 1, 4, 4), **options)
    assert (found.images_per_shard, found.num_shards) == (163, 6135)
    assert found.num_ciphertexts == 6134 * -(-163 * 3200 // 255) + -(-158 * 3200 // 255)
    assert found.total_bytes == found.num_ciphertexts * 512 + 6135 * 128


def test_a_dense_pixel_costs_two_bytes():
    """The figure that is promised: 255 pixels a plaintext at 2048 bits."""
    big = plan(num_images=10_000, px=96)
    assert big.total_bytes / (10_000 * 96 * 96) <= 2.01


def test_twenty_bit_slots_cost_five_bytes():
    big = plan(num_images=10_000, px=96, kind="slots", stride=4, slot_bits=20)
    assert big.total_bytes / (10_000 * 96 * 96) <= 5.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "codebook"}, "kind must be dense or slots, got 'codebook'"),
        ({"stride": 2}, "kind dense must have stride 1 and slot_bits 8, got 2 and 8"),
        ({"kind": "slots"}, "slot_bits must be 9 .* to 32, got 8"),
        ({"kind": "slots", "slot_bits": 33}, "slot_bits must be 9 .* to 32, got 33"),
        ({"kind": "slots", "slot_bits": 12, "stride": 3}, "stride must divide the images' 8 x 8 px, got 3"),
        ({"kind": "slots", "slot_bits": 12, "stride": 0}, "stride must divide the images' 8 x 8 px, got 0"),
        ({"images_per_group": 0}, "images_per_group must be null .* or >= 1, got 0"),
        ({"kind": "slots", "slot_bits": 30, "key_bits": 32}, "slot_bits must be at most 24 at 32 bits, got 30"),
    ],
)
def test_a_plan_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        plan(**changes)
