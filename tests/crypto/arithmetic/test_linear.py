import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ppdl.crypto.arithmetic import linear, linear_plan
from ppdl.crypto.arithmetic.linear import apply_linear, dct_filters, plan_linear
from ppdl.crypto.arithmetic.linear_plan import signed_digits
from ppdl.crypto.arithmetic.numbers import from_array
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import SlotPacking, check_linear_bound, smallest_slot_bits
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import CryptoError

KEY = generate_keypair(256, allow_insecure_key=True)
PUBLIC, N = KEY.public, KEY.public.n
SOURCE = build_obfuscators(KEY, table_bytes=2**19)
RNG = np.random.default_rng(0)


def matrices(largest: int, rows: int = 4, columns: int = 9):
    weights = st.integers(-largest, largest)
    shape = st.tuples(st.integers(1, rows), st.integers(1, columns))
    return npst.arrays(np.int64, shape, elements=weights).filter(lambda m: m.any(axis=1).all())


def reference(images: np.ndarray, weights: np.ndarray, stride: int) -> np.ndarray:
    """The stem in plain integers: (num_images, height / stride, width / stride, num_filters)."""
    num_images, height, width = images.shape
    out = np.zeros((num_images, height // stride, width // stride, len(weights)), np.int64)
    for y in range(height // stride):
        for x in range(width // stride):
            patch = images[:, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride].astype(np.int64)
            out[:, y, x] = patch.reshape(num_images, -1) @ weights.T
    return out


def stem(images: np.ndarray, weights: np.ndarray, stride: int, slot_bits: int) -> np.ndarray:
    check_linear_bound(weights, 255, slot_bits)
    packing = SlotPacking(PUBLIC.key_bits, slot_bits)
    num_images, height, width = images.shape
    shape = num_images, height // stride, width // stride
    phases = [images[:, dy::stride, dx::stride].reshape(-1) for dy in range(stride) for dx in range(stride)]
    planes = np.stack([encrypt_batch(PUBLIC, packing.pack(phase, PUBLIC), SOURCE) for phase in phases])
    outputs = apply_linear(PUBLIC, planes, plan_linear(weights))
    maps = [packing.unpack(decrypt_batch(KEY, plane), int(np.prod(shape)), PUBLIC).reshape(shape) for plane in outputs]
    return np.stack(maps, axis=-1)


def encrypt_planes(messages, num_inputs: int) -> np.ndarray:
    """Encrypt numbers that are counted plane by plane."""
    return encrypt_batch(PUBLIC, messages, SOURCE).reshape(num_inputs, -1, PUBLIC.ciphertext_bytes)


def decrypt_planes(planes: np.ndarray) -> list[list[int]]:
    return [decrypt_batch(KEY, plane) for plane in planes]


# ---- the map on numbers


@settings(max_examples=60, deadline=None)
@given(matrices(300), st.data())
def test_map_is_the_integer_matrix_mod_n(weights, data):
    num_groups, num_inputs = data.draw(st.integers(1, 3)), weights.shape[1]
    value = st.one_of(st.integers(0, N - 1), st.sampled_from([0, 1, N - 1, N // 2]))
    messages = data.draw(st.lists(value, min_size=num_groups * num_inputs, max_size=num_groups * num_inputs))
    outputs = decrypt_planes(apply_linear(PUBLIC, encrypt_planes(messages, num_inputs), plan_linear(weights)))
    groups = [messages[g::num_groups] for g in range(num_groups)]
    assert outputs == [[sum(int(w) * m for w, m in zip(row, group, strict=True)) % N for group in groups] for row in weights]


@settings(max_examples=40, deadline=None)
@given(matrices(300), st.data())
def test_ciphertexts_are_the_products_of_powers(weights, data):
    """Bit by bit, so that anyone can check an output: no plan may change the result."""
    num_inputs = weights.shape[1]
    planes = encrypt_planes(data.draw(st.lists(st.integers(0, 99), min_size=num_inputs, max_size=num_inputs)), num_inputs)
    numbers, modulus = from_array(PUBLIC, planes[:, 0]), mpz(PUBLIC.n_squared)
    expected = []
    for row in weights:
        product = mpz(1)
        for w, c in zip(row.tolist(), numbers, strict=True):
            product = product * pow(c, w, modulus) % modulus
        expected.append(product)
    assert from_array(PUBLIC, apply_linear(PUBLIC, planes, plan_linear(weights))[:, 0]) == expected


@pytest.mark.parametrize("weight", [1, -1, 2, -2, 255, -255, 256, -32768, 12345, 2**40 + 1, -(2**63) + 1])
def test_single_weights(weight):
    planes = encrypt_planes([3, 4], 2)
    for row, expected in ([weight, 0], 3 * weight), ([0, weight], 4 * weight), ([weight, -weight], -weight), ([weight, weight], 7 * weight):
        assert decrypt_planes(apply_linear(PUBLIC, planes, plan_linear(np.array([row])))) == [[expected % N]]


def test_nothing_is_random_and_inputs_stay():
    planes = encrypt_planes(range(18), 9)
    before, plan = planes.copy(), plan_linear(RNG.integers(-9, 10, (4, 9)))
    assert (apply_linear(PUBLIC, planes, plan) == apply_linear(PUBLIC, planes, plan)).all()
    assert (planes == before).all()


def test_many_groups_cross_the_batch_size(monkeypatch):
    weights = RNG.integers(-9, 10, (3, 4))
    planes, plan = encrypt_planes(range(4 * 23), 4), plan_linear(weights)
    expected = apply_linear(PUBLIC, planes, plan)
    monkeypatch.setattr(linear, "_GROUPS_AT_A_TIME", 5)
    assert (apply_linear(PUBLIC, planes, plan) == expected).all() and expected.shape == (3, 23, 64)
    assert apply_linear(PUBLIC, planes[:, :0], plan).shape == (3, 0, 64)


# ---- plans


@given(st.integers(-(2**40), 2**40), st.integers(1, 8), st.booleans())
def test_digits_add_up(weight, window_bits, signed):
    digits = signed_digits(weight, window_bits, signed)
    assert sum(digit << (window_bits * i) for i, digit in enumerate(digits)) == weight
    largest = (1 << window_bits) // 2 if signed and window_bits > 1 else (1 << window_bits) - 1
    assert all(abs(digit) <= largest for digit in digits)
    assert signed or all(digit * weight >= 0 for digit in digits)


def test_plans_are_as_short_as_they_should_be():
    def cost(weights):
        return plan_linear(np.array(weights)).num_multiplications

    assert cost([[1]]) == 0
    assert cost([[1, 1, 1, 1]]) == 3
    assert cost([[7, 7, 7, 7]]) <= 3 + 4
    assert cost([[1, -1]]) == 3 + 1  # one inversion, one product
    assert cost([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]]) <= 13  # the sums of rows and columns are shared
    assert cost(dct_filters(4, 3, 7)) <= 67
    # one of each window is the cheapest there: of 1 to 6 bits
    assert [cost([[-12, -11]]), cost([[15]]), cost([[27]])] == [13, 5, 6]
    assert cost([[-31, 48, 116], [39, 87, 48], [52, -29, 96]]) == 46
    assert [cost([[91], [26]]), cost([[8], [-37], [44]])] == [13, 17]
    # shared tables: the 32nd filter costs less than the first
    weights = RNG.integers(-63, 64, (32, 9))
    assert cost(weights) < 16 * cost(weights[:1])


def test_plan_counts_what_it_runs(monkeypatch):
    """num_multiplications, on which estimates rest, is what happens."""
    monkeypatch.setenv("PPDL_ENGINE", "gmpy2")
    weights = RNG.integers(-63, 64, (3, 9))
    plan = plan_linear(weights)
    counted = []
    monkeypatch.setattr(
        linear_plan,
        "_multiply",
        lambda steps, registers, modulus, real=linear_plan._multiply: (counted.append(len(steps)), real(steps, registers, modulus)),
    )
    monkeypatch.setattr(
        linear_plan,
        "invert_batch",
        lambda numbers, modulus, real=linear_plan.invert_batch: (counted.append(3 * len(numbers)), real(numbers, modulus))[1],
    )
    apply_linear(PUBLIC, encrypt_planes(range(9), 9), plan)
    assert sum(counted) == plan.num_multiplications


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.zeros((2, 3)), r"weights must be integers \(num_outputs, num_inputs\), got float64 \(2, 3\)"),
        (np.ones(3, int), r"weights must be integers \(num_outputs, num_inputs\), got int64 \(3,\)"),
        (np.zeros((0, 3), int), r"got int64 \(0, 3\)"),
        (np.array([[1, 2], [0, 0]]), "row 1 of the weights is zero: its output would be 1"),
    ],
)
def test_matrices_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(CryptoError, match=message):
        plan_linear(weights)


def test_other_shapes_and_impossible_ciphertexts_are_refused():
    plan, planes = plan_linear(np.array([[1, -2, 3]])), encrypt_planes(range(6), 3)
    for wrong in (planes[:2], planes[0], planes[..., :63]):
        with pytest.raises(CryptoError, match=r"planes must be \(3, num_groups, 64\) for this linear map and key, got \("):
            apply_linear(PUBLIC, wrong, plan)
    planes[2, 1] = 255
    with pytest.raises(CryptoError, match=r"input plane 2, groups from 0: ciphertext 1 is not in \(0, n\^2\)"):
        apply_linear(PUBLIC, planes, plan)


# ---- the stem on images


@pytest.mark.parametrize("stride, num_filters", [(1, 1), (2, 3), (2, 4), (3, 3), (4, 3), (4, 16), (8, 3)])
def test_stem_is_the_integer_reference(stride, num_filters):
    weights = dct_filters(stride, num_filters, 7)
    images = RNG.integers(0, 256, (2, 3 * stride, 5 * stride), dtype=np.uint8)
    assert (stem(images, weights, stride, smallest_slot_bits(weights, 255)) == reference(images, weights, stride)).all()


@pytest.mark.parametrize("stride", [2, 4])
def test_stem_at_its_extreme_values(stride):
    """Patches that reach the bound of each filter, in every slot, with the fewest slot bits."""
    weights = np.vstack([dct_filters(stride, 3, 7), -dct_filters(stride, 1, 7), RNG.integers(-63, 64, (2, stride * stride))])
    patches = [255 * (sign * row > 0) for row in weights for sign in (1, -1)] + [np.zeros(stride * stride), np.full(stride * stride, 255)]
    images = np.concatenate([p.reshape(1, stride, stride) for p in patches] * 3, axis=2).astype(np.uint8)
    slot_bits = smallest_slot_bits(weights, 255)
    got = stem(images, weights, stride, slot_bits)
    assert (got == reference(images, weights, stride)).all()
    assert np.abs(got).max() >= (np.abs(weights).sum(axis=1) * 255).max() // 2


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.data())
def test_any_small_stem_is_the_integer_reference(stride, data):
    weights = data.draw(matrices(63, rows=3, columns=1).map(lambda m: m[:, :1]))
    weights = data.draw(
        npst.arrays(np.int64, (len(weights), stride * stride), elements=st.integers(-63, 63)).filter(lambda m: m.any(1).all())
    )
    images = data.draw(npst.arrays(np.uint8, (2, 2 * stride, 3 * stride), elements=st.sampled_from([0, 1, 128, 254, 255])))
    assert (stem(images, weights, stride, smallest_slot_bits(weights, 255)) == reference(images, weights, stride)).all()


# ---- filters


def test_default_filters():
    assert dct_filters(2, 3, 7).tolist() == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]]
    mean, horizontal, vertical = dct_filters(4, 3, 7).reshape(3, 4, 4)
    assert (mean == 1).all() and (horizontal == [63, 26, -26, -63]).all() and (vertical == horizontal.T).all()
    assert smallest_slot_bits(dct_filters(2, 3, 7), 255) == 11


@pytest.mark.parametrize("stride", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("weight_bits", [7, 12])
def test_filters_are_near_the_dct(stride, weight_bits):
    from scipy.fft import idctn

    weights = dct_filters(stride, stride * stride, weight_bits)
    assert np.abs(weights).max() < 2 ** (weight_bits - 1) and (np.gcd.reduce(weights, axis=1) == 1).all()
    for row, (u, v) in zip(weights, sorted(np.ndindex(stride, stride), key=lambda uv: (sum(uv), uv[0])), strict=True):
        unit = np.zeros((stride, stride))
        unit[u, v] = 1
        exact = idctn(unit, norm="ortho").ravel()
        cosine = row @ exact / np.linalg.norm(row)
        assert cosine > 1 - 0.5 / 2 ** (weight_bits - 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((2, 5, 7), "num_filters must be 1 to stride\\^2 = 4, got 5"),
        ((2, 0, 7), "num_filters must be 1 to stride\\^2 = 4, got 0"),
        ((2, 3, 1), "weight_bits must be 2 to 16, got 1"),
        ((2, 3, 17), "weight_bits must be 2 to 16, got 17"),
    ],
)
def test_impossible_filters_are_refused(arguments, message):
    with pytest.raises(CryptoError, match=message):
        dct_filters(*arguments)
