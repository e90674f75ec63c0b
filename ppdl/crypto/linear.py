"""Evaluate a public integer matrix on packed ciphertexts: out_j = product over i of in_i^(w_ji) mod n^2 holds sum over i of w_ji m_i.

Each group of num_inputs ciphertexts gives num_outputs ciphertexts; one exponentiation acts on every slot of a packing at once. The matrix
is compiled once (linear_plan.py); the plan then runs over many groups side by side.

Nothing is random: whoever has the inputs and the matrix can check the outputs bit by bit. So the matrix must be public; where it is not,
re-randomise the outputs (paillier.rerandomise). Slots overflow silently: packing.check_linear_bound must accept the matrix first.
"""

from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys import PublicKey
from ppdl.crypto.linear_plan import LinearPlan, Step, plan_linear
from ppdl.crypto.numbers import check_range, from_array, invert_batch, to_array
from ppdl.errors import CryptoError

__all__ = ["LinearPlan", "apply_linear", "plan_linear"]

_GROUPS_AT_A_TIME = 64  # amortises the one inversion (8 multiplications' worth) and bounds the memory


def apply_linear(public_key: PublicKey, ciphertexts: np.ndarray, plan: LinearPlan) -> np.ndarray:
    """Evaluate a plan on groups of ciphertexts.

    Args:
        ciphertexts: uint8 (num_groups * num_inputs, ciphertext_bytes), the inputs of a group side by side.
    Returns: uint8 (num_groups * num_outputs, ciphertext_bytes), the outputs of a group side by side.
    Raises: CryptoError when the rows are not whole groups, or not in (0, n^2).
    Cost: plan.num_multiplications a group, 5 us each at 2048 bits; holds the GIL, so run groups in several processes.
    """
    size = plan.num_inputs
    if len(ciphertexts) % size:
        raise CryptoError(f"ciphertexts must come in groups of {size}, the inputs of the linear map, got {len(ciphertexts)}")
    num_groups, modulus = len(ciphertexts) // size, mpz(public_key.n_squared)
    result = np.empty((num_groups * plan.num_outputs, public_key.ciphertext_bytes), np.uint8)
    for start in range(0, num_groups, _GROUPS_AT_A_TIME):
        stop = min(start + _GROUPS_AT_A_TIME, num_groups)
        numbers = from_array(public_key, ciphertexts[start * size : stop * size])
        check_range(public_key, numbers)
        outputs = _run(plan, [numbers[i::size] for i in range(size)], modulus)
        rows = [output[g] for g in range(stop - start) for output in outputs]
        result[start * plan.num_outputs : stop * plan.num_outputs] = to_array(public_key, rows)
    return result


def _run(plan: LinearPlan, inputs: Sequence[list[mpz]], modulus: mpz) -> list[list[mpz]]:
    """Run a plan on registers that hold one number a group: inputs (num_inputs, num_groups) to outputs (num_outputs, num_groups)."""
    registers = dict(enumerate(inputs))
    _multiply(plan.before, registers, modulus)
    num_groups = len(inputs[0])
    inverses = invert_batch([c for _, source in plan.inversions for c in registers[source]], modulus)
    for i, (register, _) in enumerate(plan.inversions):
        registers[register] = inverses[i * num_groups : (i + 1) * num_groups]
    _multiply(plan.after, registers, modulus)
    return [registers[register] for register in plan.outputs]


def _multiply(steps: Sequence[Step], registers: dict[int, list[mpz]], modulus: mpz) -> None:
    for register, left, right in steps:
        registers[register] = [a * b % modulus for a, b in zip(registers[left], registers[right], strict=True)]
