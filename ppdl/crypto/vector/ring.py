"""The integers mod m^2, eight residues side by side: how numbers get in and out, and programs of products that run on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys import refuse_pickle
from ppdl.crypto.vector.compiled import kernel
from ppdl.crypto.vector.digits import bytes_to_digits, from_digits, num_digits_for, to_digits
from ppdl.crypto.vector.emit import ADD, LANES, MULTIPLY, RADIX_BITS, STEP_WORDS

Step = tuple[int, int, int, int]  # operation of emit.py and its operands
_LINE_WORDS = 8  # of a cache line: rows of a table begin at one


class Ring:
    """Hold an odd m and what arithmetic mod m^2 in digits needs.

    A row is uint64 (width,), the digits of a0 and then those of a1, of a residue a0 + a1 m. In Montgomery form it stands for the residue
    times R. A ring mod p^2 is as secret as p: it is not printed and not pickled.
    """

    def __init__(self, m: int) -> None:
        self.m, self.square = mpz(m), mpz(m) ** 2
        self.num_digits = num_digits_for(self.m.bit_length())
        self.width = 2 * self.num_digits
        self._r = mpz(1) << (RADIX_BITS * self.num_digits)
        self._run = kernel(self.num_digits)
        self._modulus, self._inverse = registers(1, self.num_digits), registers(1, 1)
        self._modulus[0] = to_digits([self.m], self.num_digits)[0][:, None]
        self._inverse[:] = int(-gmpy2.invert(self.m, 1 << RADIX_BITS) % (1 << RADIX_BITS))
        self.unit = self.rows([self._r % self.square])[0]  # 1 in Montgomery form
        self.one = self.rows([mpz(1)])[0]  # a product with it leaves Montgomery form

    def rows(self, numbers: Sequence[mpz]) -> np.ndarray:
        """Write numbers in [0, m^2) as rows (num_numbers, width), not in Montgomery form."""
        pairs = [gmpy2.f_divmod(number, self.m) for number in numbers]
        return np.concatenate([to_digits([pair[i] for pair in pairs], self.num_digits) for i in (1, 0)], axis=1)

    def montgomery(self, numbers: Sequence[mpz]) -> np.ndarray:
        """Write numbers of any size as rows (num_numbers, width) in Montgomery form. For few: `split` is faster."""
        return self.rows([number * self._r % self.square for number in numbers])

    def split(self, array: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Write numbers, uint8 (num_numbers, num_bytes) big-endian, as rows (num_numbers, width) in Montgomery form, without a division.

        A number is cut into pieces of num_digits digits, and each piece multiplied by its place times R^2, mod m^2.
        """
        piece_bits = RADIX_BITS * self.num_digits
        num_pieces = -(-8 * array.shape[1] // piece_bits)
        pieces = bytes_to_digits(array, num_pieces * self.num_digits).reshape(len(array), num_pieces, self.num_digits)
        places = self.rows([self._r ** (i + 2) % self.square for i in range(num_pieces)])
        steps = [(MULTIPLY, i, i, num_pieces + i) for i in range(num_pieces)]
        program = as_program(steps + [(ADD, 0, 0, i) for i in range(1, num_pieces)])

        def prepare(held: np.ndarray) -> None:
            held[num_pieces : 2 * num_pieces] = places[:, :, None]

        def load(held: np.ndarray, rows: slice) -> None:
            held[:num_pieces, self.num_digits :] = 0
            fill(held[:num_pieces, : self.num_digits], pieces[rows].transpose(1, 2, 0))

        return self.each(program, len(array), num_registers=2 * num_pieces, result=0, prepare=prepare, load=load, num_threads=num_threads)

    def numbers(self, rows: np.ndarray) -> list[mpz]:
        """Read rows (num_rows, width), not in Montgomery form, as numbers in [0, m^2)."""
        return [(a0 + a1 * self.m) % self.square for a0, a1 in zip(*self.halves(rows), strict=True)]

    def halves(self, rows: np.ndarray) -> tuple[list[mpz], list[mpz]]:
        """Return a0 and a1 of rows (num_rows, width)."""
        return from_digits(rows[:, : self.num_digits]), from_digits(rows[:, self.num_digits :])

    def each(
        self,
        program: np.ndarray,
        num_rows: int,
        *,
        num_registers: int,
        result: int,
        prepare: Callable[[np.ndarray], None],
        load: Callable[[np.ndarray, slice], None],
        num_entries: int = 0,
        num_threads: int = 1,
    ) -> np.ndarray:
        """Run a program for every eight rows, and return what is in the register `result`: rows (num_rows, width).

        Args:
            prepare: writes constants into the registers (num_registers, width, 8) of a thread.
            load: writes the rows of a slice, eight or what is left, into registers.
        """
        out = np.empty((num_rows, self.width), np.uint64)

        def work(groups: range) -> None:
            held = registers(num_registers, self.width)
            prepare(held)
            for g in groups:
                rows = slice(g * LANES, min((g + 1) * LANES, num_rows))
                load(held, rows)
                self.run(program, held, num_entries=num_entries)
                out[rows] = held[result].T[: rows.stop - rows.start]

        in_threads(work, -(-num_rows // LANES), num_threads)
        return out

    def run(
        self,
        program: np.ndarray,
        held: np.ndarray,
        *,
        num_entries: int = 0,
        table: np.ndarray | None = None,
        digits: np.ndarray | None = None,
    ) -> None:
        """Run a program on registers (num_registers, width, 8), see emit.py. Releases the GIL.

        The kernel checks nothing: operands must be registers, entries, windows and rows that exist.

        Args:
            num_entries: of `SELECT` steps.
            table, digits: of `LOOKUP` steps: uint64 (num_windows, num_rows, row_words), and uint16 (num_windows, 8 more than are looked up).
        """
        self._run(
            program.ctypes.data,
            len(program),
            held.ctypes.data,
            self._modulus.ctypes.data,
            self._inverse.ctypes.data,
            num_entries if table is None else table.shape[1],
            None if table is None else table.ctypes.data,
            None if digits is None else digits.ctypes.data,
            0 if digits is None else digits.shape[1],
            0 if table is None else table.shape[2],
        )

    @property
    def row_words(self) -> int:
        """Words of a row of a table."""
        return -(-self.width // _LINE_WORDS) * _LINE_WORDS

    def __repr__(self) -> str:
        return f"Ring(num_digits={self.num_digits}, m not shown)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickle(self)


def registers(num_registers: int, width: int) -> np.ndarray:
    """Return zeroed uint64 (num_registers, width, 8)."""
    return aligned((num_registers, width, LANES))


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeroed uint64 of a shape, aligned to 64 bytes as the kernel needs it."""
    size = int(np.prod(shape))
    raw = np.zeros(size + _LINE_WORDS, np.uint64)
    first = -raw.ctypes.data % 64 // 8
    return raw[first : first + size].reshape(shape)


def fill(lanes: np.ndarray, values: np.ndarray) -> None:
    """Write values (..., num_values <= 8) into lanes (..., 8); lanes without a value keep what they hold: residues, of which nobody reads."""
    lanes[..., : values.shape[-1]] = values


def as_program(steps: Sequence[Step]) -> np.ndarray:
    """Return steps as the kernel reads them, int32 (num_steps, 4)."""
    return np.array(steps, np.int32).reshape(len(steps), STEP_WORDS)


def in_threads(work: Callable[[range], None], num_items: int, num_threads: int) -> None:
    """Call work on equal shares of range(num_items), each in a thread of its own."""
    share = max(-(-num_items // num_threads), 1)
    shares = [range(start, min(start + share, num_items)) for start in range(0, num_items, share)]
    if len(shares) == 1:
        work(shares[0])
        return
    with ThreadPoolExecutor(max(len(shares), 1)) as executor:
        list(executor.map(work, shares))
