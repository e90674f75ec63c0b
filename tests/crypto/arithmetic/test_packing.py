import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ppdl.crypto.arithmetic import packing
from ppdl.crypto.arithmetic.linear import apply_linear, plan_linear
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking, WidePacking, check_linear_bound, linear_bound, smallest_slot_bits
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import CryptoError

KEY = generate_keypair(256, allow_insecure_key=True)
PUBLIC, N = KEY.public, KEY.public.n
SOURCE = build_obfuscators(KEY, table_bytes=2**19)


def test_values_per_plaintext():
    assert [DensePacking(bits).values_per_plaintext for bits in (2048, 3072, 4096, 17, 16)] == [255, 383, 511, 1, 1]
    assert [SlotPacking(bits, 20).values_per_plaintext for bits in (2048, 3072)] == [102, 153]
    assert SlotPacking(2048, 12).values_per_plaintext == 170


# ---- dense


@given(npst.arrays(np.uint8, st.integers(0, 200)))
def test_dense_round_trip(pixels):
    dense = DensePacking(256)
    plaintexts = dense.pack(pixels)
    assert len(plaintexts) == dense.num_plaintexts(len(pixels)) == -(-len(pixels) // 31)
    assert all(0 <= m < N for m in plaintexts)
    assert dense.unpack(plaintexts, len(pixels)).tolist() == pixels.tolist()


def test_dense_layout():
    pixels = np.arange(40, dtype=np.uint8)
    first, second = DensePacking(256).pack(pixels)
    assert first == sum(i << (8 * i) for i in range(31))
    assert second == sum((31 + i) << (8 * i) for i in range(9))


def test_dense_takes_pixels_alone():
    for values in (np.zeros(3, np.int64), np.zeros((3, 3), np.uint8)):
        with pytest.raises(CryptoError, match=r"dense packing takes uint8 \(num_values,\), got"):
            DensePacking(256).pack(values)


def test_keys_without_room_are_refused():
    with pytest.raises(CryptoError, match="key_bits must be at least 16 to pack a pixel, got 15"):
        DensePacking(15)
    with pytest.raises(CryptoError, match="key_bits must be at least slot_bits \\+ 8 = 40, got 39"):
        SlotPacking(39, 32)


# ---- slots


@given(st.integers(2, 32), st.data())
def test_slot_round_trip(slot_bits, data):
    slots = SlotPacking(256, slot_bits)
    value = st.one_of(st.integers(slots.smallest, slots.largest), st.sampled_from([slots.smallest, slots.largest, 0, -1]))
    values = np.array(data.draw(st.lists(value, max_size=150)), np.int64)
    plaintexts = slots.pack(values, PUBLIC)
    assert len(plaintexts) == slots.num_plaintexts(len(values)) and all(0 <= m < N for m in plaintexts)
    assert slots.unpack(plaintexts, len(values), PUBLIC).tolist() == values.tolist()


@pytest.mark.parametrize("slot_bits", [2, 7, 8, 12, 20, 31, 32])
def test_slot_layout_is_the_sum_of_shifted_values(slot_bits):
    slots = SlotPacking(256, slot_bits)
    values = np.random.default_rng(slot_bits).integers(slots.smallest, slots.largest + 1, slots.values_per_plaintext + 3)
    size = slots.values_per_plaintext
    parts = [values[:size].tolist(), values[size:].tolist()]
    expected = [sum(v << (slot_bits * i) for i, v in enumerate(part)) % N for part in parts]
    assert slots.pack(values, PUBLIC) == expected


@pytest.mark.parametrize("slot_bits", [2, 13, 32])
def test_extreme_slots(slot_bits):
    slots = SlotPacking(256, slot_bits)
    for value in (slots.smallest, slots.largest, -1, 0, 1):
        values = np.full(3 * slots.values_per_plaintext - 1, value)
        assert (slots.unpack(slots.pack(values, PUBLIC), len(values), PUBLIC) == values).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.int64])
def test_slots_take_every_integer_type(dtype):
    values = np.arange(100).astype(dtype)
    slots = SlotPacking(256, 9)
    assert (slots.unpack(slots.pack(values, PUBLIC), 100, PUBLIC) == values).all()


def test_small_chunks_give_the_same(monkeypatch):
    slots, values = SlotPacking(256, 13), np.arange(-2000, 2000)
    expected = slots.pack(values, PUBLIC)
    monkeypatch.setattr(packing, "_CHUNK_VALUES", 50)
    assert slots.pack(values, PUBLIC) == expected and (slots.unpack(expected, 4000, PUBLIC) == values).all()


@pytest.mark.parametrize("value", [128, -129, 2**40, 2**63])
def test_values_that_do_not_fit_are_refused_without_quoting_them(value):
    values = np.array([0, 5, value], np.uint64 if value >= 2**63 else np.int64)
    with pytest.raises(CryptoError, match=r"value 2 does not fit a signed slot of 8 bits \(-128 to 127\)"):
        SlotPacking(256, 8).pack(values, PUBLIC)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 2), np.int64), np.zeros(2, bool), np.array(["1"])])
def test_slots_take_integers_alone(values):
    with pytest.raises(CryptoError, match=r"slot packing takes integers \(num_values,\), got"):
        SlotPacking(256, 8).pack(values, PUBLIC)


@pytest.mark.parametrize("slot_bits", [1, 0, -5, 33])
def test_slot_bits_have_a_range(slot_bits):
    with pytest.raises(CryptoError, match=f"slot_bits must be 2 to 32, got {slot_bits}"):
        SlotPacking(256, slot_bits)


def test_packing_of_another_key_length_is_refused():
    for action in (lambda: SlotPacking(512, 8).pack(np.zeros(3, int), PUBLIC), lambda: SlotPacking(512, 8).unpack([mpz(0)], 3, PUBLIC)):
        with pytest.raises(CryptoError, match="the packing is for a 512-bit key, got one of 256 bits"):
            action()


# ---- damage and overflow


def test_a_wrong_number_of_plaintexts_is_refused():
    with pytest.raises(CryptoError, match="40 values are packed in 2 plaintexts, got 1"):
        DensePacking(256).unpack([mpz(0)], 40)
    with pytest.raises(CryptoError, match="40 values are packed in 2 plaintexts, got 3"):
        SlotPacking(256, 8).unpack([mpz(0)] * 3, 40, PUBLIC)


@pytest.mark.parametrize("number", [mpz(1) << 248, mpz(N - 1), mpz(N // 2)])
def test_plaintexts_that_exceed_a_packing_are_refused(number):
    with pytest.raises(CryptoError, match=r"plaintext 1 exceeds the packing \(248 bits\): wrong private key, damage or an overflow"):
        DensePacking(256).unpack([mpz(0), number], 62)
    if number != N - 1:  # that is -1 in slots
        with pytest.raises(CryptoError, match=r"plaintext 1 exceeds the packing \(240 bits\)"):
            SlotPacking(256, 20).unpack([mpz(0), number], 24, PUBLIC)


def test_decryption_with_another_key_is_noticed():
    other = generate_keypair(256, allow_insecure_key=True)
    array = encrypt_batch(PUBLIC, DensePacking(256).pack(np.zeros(31 * 20, np.uint8)), SOURCE)
    small = np.array([row for row in array if int.from_bytes(bytes(row), "big") < other.public.n_squared])
    if len(small) >= 10:  # 2^-80 that all of ten random plaintexts fit by chance
        with pytest.raises(CryptoError, match="exceeds the packing"):
            DensePacking(256).unpack(decrypt_batch(other, small), 31 * len(small))


@given(st.integers(2, 32), st.data())
def test_slots_compute_under_encryption(slot_bits, data):
    slots = SlotPacking(256, slot_bits)
    half = st.integers(-(slots.largest // 2), slots.largest // 2)
    size = data.draw(st.integers(1, 20))
    a, b = (np.array(data.draw(st.lists(half, min_size=size, max_size=size)), np.int64) for _ in range(2))
    scalar = data.draw(st.sampled_from([1, -1, 2]))
    ciphertexts = np.stack([encrypt_batch(PUBLIC, slots.pack(values, PUBLIC), SOURCE) for values in (a, b)])
    total, scaled = apply_linear(PUBLIC, ciphertexts, plan_linear(np.array([[1, 1], [scalar, 0]])))
    assert slots.unpack(decrypt_batch(KEY, total), size, PUBLIC).tolist() == (a + b).tolist()
    assert slots.unpack(decrypt_batch(KEY, scaled), size, PUBLIC).tolist() == (a * scalar).tolist()


# ---- bounds


def test_linear_bound_is_reached_and_not_passed():
    weights = np.array([[3, -5, 7], [1, 1, 1]])
    assert linear_bound(weights, 255) == 15 * 255
    assert abs(weights[0] @ (255 * np.sign(weights[0]))) == 15 * 255


@given(npst.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-1000, 1000)), st.integers(1, 300))
def test_smallest_slot_bits_is_the_smallest(weights, max_value):
    bits = smallest_slot_bits(weights, max_value)
    check_linear_bound(weights, max_value, bits)
    bound = linear_bound(weights, max_value)
    assert bound < 1 << (bits - 1)
    if bits > 2:
        with pytest.raises(CryptoError, match=f"reaches {bound}: a slot would overflow silently; use slot_bits >= {bits} or smaller"):
            check_linear_bound(weights, max_value, bits - 1)


def test_bound_holds_for_weights_that_numpy_would_overflow():
    weights = np.full((1, 4), 2**62)
    assert linear_bound(weights, 255) == 4 * 2**62 * 255


# ---- wide


@given(st.integers(2, 63).flatmap(lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1), max_size=60))))
def test_wide_round_trip(drawn):
    bits, values = drawn
    wide = WidePacking(256, bits)
    plaintexts = wide.pack(np.array(values, np.int64))
    assert len(plaintexts) == wide.num_plaintexts(len(values))
    assert [int(m) >> bits * i & 2**bits - 1 for m in plaintexts for i in range(wide.values_per_plaintext)][: len(values)] == values
    assert wide.unpack(plaintexts, len(values)).tolist() == values


@given(st.lists(st.lists(st.integers(0, 2**40 - 1), min_size=9, max_size=9), min_size=1, max_size=8))
def test_sums_of_wide_plaintexts_are_sums_of_slots(parties):
    wide = WidePacking(256, 43)  # 8 parties add 3 bits
    packed = [wide.pack(np.array(values)) for values in parties]
    total = [sum(column) for column in zip(*packed, strict=True)]
    assert wide.unpack(total, 9).tolist() == np.sum(parties, axis=0).tolist()


def test_wide_slots_hold_what_they_say_and_no_more():
    assert WidePacking(2048, 35).values_per_plaintext == 58
    for value in (-1, 2**35):
        with pytest.raises(CryptoError, match=r"value 1 does not fit an unsigned slot of 35 bits$"):
            WidePacking(256, 35).pack(np.array([0, value]))
    for bits in (1, 64):
        with pytest.raises(CryptoError, match=f"slot_bits must be 2 to 63, got {bits}"):
            WidePacking(2048, bits)
    with pytest.raises(CryptoError, match=r"wide packing takes integers \(num_values,\), got float64 \(2,\)"):
        WidePacking(256, 35).pack(np.zeros(2))


def test_a_wide_slot_beyond_the_values_must_be_empty():
    wide = WidePacking(256, 35)
    (plaintext,) = wide.pack(np.array([1, 2, 3]))
    with pytest.raises(CryptoError, match="a slot beyond the values is not 0"):
        wide.unpack([plaintext + (mpz(1) << 3 * 35)], 3)
    with pytest.raises(CryptoError, match="plaintext 0 exceeds the packing"):
        wide.unpack([plaintext + (mpz(1) << 7 * 35)], 3)
