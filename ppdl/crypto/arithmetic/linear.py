"""Evaluate a public integer matrix on packed ciphertexts: out_j = product over i of in_i^(w_ji) mod n^2 holds sum over i of w_ji m_i.

The input is num_inputs planes of packed ciphertexts, the output num_outputs planes; one exponentiation acts on every slot of a packing at
once. For a stem of non-overlapping patches (kernel = stride), packed by phase, plane dy * stride + dx holds the pixels at one place inside
all patches (layout.py), so that a filter is a weighted sum of planes. The matrix is compiled once (linear_plan.py); the plan then runs over
many ciphertexts side by side.

Nothing is random: whoever has the inputs and the matrix can check the outputs bit by bit. So the matrix must be public; where it is not,
re-randomise the outputs (paillier.rerandomise). Slots overflow silently: packing.check_linear_bound must accept the matrix first.
"""

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.engine import VECTOR, engine
from ppdl.crypto.arithmetic.linear_plan import LinearPlan, plan_linear
from ppdl.crypto.arithmetic.numbers import check_range, from_array, to_array
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import CryptoError

__all__ = ["LinearPlan", "apply_linear", "dct_filters", "plan_linear"]

_GROUPS_AT_A_TIME = 64  # amortises the one inversion (8 multiplications' worth) and bounds the memory


def apply_linear(public_key: PublicKey, planes: np.ndarray, plan: LinearPlan) -> np.ndarray:
    """Evaluate a plan on ciphertexts: output j is the sum of the input planes, weighted by row j of the matrix, slot by slot.

    Args:
        planes: uint8 (num_inputs, num_groups, ciphertext_bytes): group g is planes[:, g], one ciphertext of each input plane.
    Returns: uint8 (num_outputs, num_groups, ciphertext_bytes), in the same slots.
    Raises: CryptoError when there are not num_inputs planes, or a ciphertext is not in (0, n^2).
    Cost: plan.num_multiplications a group, 5 us each at 2048 bits with gmpy2, 1.3 with the vector kernel; threads wait for each other.
    """
    size = public_key.ciphertext_bytes
    if planes.ndim != 3 or planes.shape[0] != plan.num_inputs or planes.shape[2] != size:
        raise CryptoError(f"planes must be ({plan.num_inputs}, num_groups, {size}) for this linear map and key, got {planes.shape}")
    result = np.empty((plan.num_outputs, planes.shape[1], size), np.uint8)
    if engine() == VECTOR:
        from ppdl.crypto.arithmetic.vector.linear import linear_program

        run = linear_program(public_key.n, plan).run
    else:

        def run(planes: np.ndarray) -> list[list[mpz]]:
            return plan.run([from_array(public_key, plane) for plane in planes], mpz(public_key.n_squared))

    for start in range(0, planes.shape[1], _GROUPS_AT_A_TIME):
        some = planes[:, start : start + _GROUPS_AT_A_TIME]
        for i, plane in enumerate(some):
            check_range(public_key, plane, f"input plane {i}, groups from {start}: ")
        for output, numbers in zip(result, run(some), strict=True):
            output[start : start + len(numbers)] = to_array(public_key, numbers)
    return result


def dct_filters(stride: int, num_filters: int, weight_bits: int) -> np.ndarray:
    """Build the num_filters lowest two-dimensional DCT-II components of a patch as small integers.

    Components are ordered by frequency (u + v, then u): mean, horizontal, vertical, then the rest. Each is scaled so
    that its largest weight is 2^(weight_bits - 1) - 1, rounded, and divided by its greatest common divisor (the mean
    becomes all ones).

    Returns: int64 (num_filters, stride^2), input dy * stride + dx.
    Raises: CryptoError when a patch has fewer components, or weight_bits is too small to show one.
    Source: N. Ahmed, T. Natarajan, K. Rao, "Discrete Cosine Transform", IEEE Transactions on Computers C-23, 1974.
    """
    if not 1 <= num_filters <= stride * stride:
        raise CryptoError(f"num_filters must be 1 to stride^2 = {stride * stride}, got {num_filters}")
    if not 2 <= weight_bits <= 16:
        raise CryptoError(f"weight_bits must be 2 to 16, got {weight_bits}")
    waves = np.cos(np.pi * np.outer(np.arange(stride), 2 * np.arange(stride) + 1) / (2 * stride))  # (frequency, place)
    order = sorted(np.ndindex(stride, stride), key=lambda uv: (sum(uv), uv[0]))[:num_filters]
    filters = np.stack([np.outer(waves[u], waves[v]).ravel() for u, v in order])
    scaled = filters / np.abs(filters).max(axis=1, keepdims=True) * (2 ** (weight_bits - 1) - 1)
    weights = np.rint(scaled).astype(np.int64)
    return weights // np.gcd.reduce(weights, axis=1)[:, None]
