"""The integers mod m^2, eight residues side by side: how numbers get in and out, and programs of products that run on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.vector.compiled import kernel
from ppdl.crypto.arithmetic.vector.digits import bytes_to_digits, from_digits, num_digits_for, to_digits
from ppdl.crypto.arithmetic.vector.emit import ADD, LANES, LOAD, MULTIPLY, RADIX_BITS, STEP_WORDS, STORE
from ppdl.crypto.keys.keypair import Secret

Step = tuple[int, int, int, int]  # operation of emit.py and its operands
_LINE_WORDS = 8  # of a cache line: rows of a table begin at one


class Ring(Secret):
    """Hold an odd m and what arithmetic mod m^2 in digits needs.

    A row is uint64 (row_words,): the digits of a0, those of a1, and padding, of a residue a0 + a1 m. In Montgomery form it stands for the
    residue times R. A ring mod p^2 is as secret as p: it is not printed and not pickled.
    """

    def __init__(self, m: int) -> None:
        self.m, self.square = mpz(m), mpz(m) ** 2
        self.num_digits = num_digits_for(self.m.bit_length())
        self.width = 2 * self.num_digits
        self.r = mpz(1) << (RADIX_BITS * self.num_digits)
        self._run = kernel(self.num_digits)
        self._modulus, self._inverse = aligned((self.num_digits, LANES)), aligned((1, LANES))
        self._modulus[:] = to_digits([self.m], self.num_digits)[0][:, None]
        self._inverse[:] = int(-gmpy2.invert(self.m, 1 << RADIX_BITS) % (1 << RADIX_BITS))
        self._piece_bytes = self.m.bit_length() // 8
        # 1 in Montgomery form; a product with `one` leaves it, one with `into` enters it
        self.unit, self.one, self.into = self.rows([self.r % self.square, mpz(1), self.r**2 % self.square])

    def rows(self, numbers: Sequence[mpz]) -> np.ndarray:
        """Write numbers in [0, m^2) as rows (num_numbers, row_words), not in Montgomery form."""
        pairs = [gmpy2.f_divmod(number, self.m) for number in numbers]
        rows = aligned((len(numbers), self.row_words))
        for half, place in ((1, 0), (0, self.num_digits)):
            rows[:, place : place + self.num_digits] = to_digits([pair[half] for pair in pairs], self.num_digits)
        return rows

    def montgomery(self, numbers: Sequence[mpz]) -> np.ndarray:
        """Write numbers of any size as rows (num_numbers, row_words) in Montgomery form. For few: each is divided."""
        return self.rows([number * self.r % self.square for number in numbers])

    def split(self, array: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Write numbers, uint8 (num_numbers, num_bytes) big-endian, as rows with digits below 7 m, without a division: see `join`."""
        num_pieces = self.num_pieces(array.shape[1])
        pieces = aligned((padded(len(array)), num_pieces, self.row_words))
        self.cut(array, pieces[: len(array)])
        number, scratch = num_pieces, num_pieces + 1
        program = as_program([*join(number, scratch, 0, num_pieces, 0), (STORE, number, 0, 1)])
        places = self.places(num_pieces)
        return self.each(program, pieces, len(array), constants=places, num_registers=num_pieces + 2, num_threads=num_threads)

    def cut(self, array: np.ndarray, pieces: np.ndarray) -> None:
        """Cut numbers, uint8 (num_numbers, num_bytes) big-endian, into pieces below 2 m, the lowest first.

        Args:
            pieces: rows (num_numbers, num_pieces, row_words), whose lower digits are written; the others must be zero.
        """
        num_numbers, num_pieces, _ = pieces.shape
        whole = np.zeros((num_numbers, num_pieces * self._piece_bytes), np.uint8)
        whole[:, whole.shape[1] - array.shape[1] :] = array
        digits = bytes_to_digits(whole.reshape(-1, self._piece_bytes), self.num_digits)
        pieces[:, :, : self.num_digits] = digits.reshape(num_numbers, num_pieces, self.num_digits)[:, ::-1]

    def num_pieces(self, num_bytes: int) -> int:
        return -(-num_bytes // self._piece_bytes)

    def places(self, num_pieces: int) -> np.ndarray:
        """Return the places of a number's pieces, as rows in Montgomery form; the first is 1."""
        return self.montgomery([mpz(1) << 8 * self._piece_bytes * i for i in range(num_pieces)])

    def numbers(self, rows: np.ndarray) -> list[mpz]:
        """Read rows whose digits are below 1.5 m, not in Montgomery form, as numbers in [0, m^2)."""
        found = [a0 + a1 * self.m for a0, a1 in zip(*self.halves(rows), strict=True)]
        return [number - self.square if number >= self.square else number for number in found]

    def halves(self, rows: np.ndarray) -> tuple[list[mpz], list[mpz]]:
        """Return a0 and a1 of rows."""
        return from_digits(rows[:, : self.num_digits]), from_digits(rows[:, self.num_digits : self.width])

    def each(
        self,
        program: np.ndarray,
        inputs: np.ndarray,
        num_rows: int,
        *,
        constants: np.ndarray,
        num_registers: int,
        num_entries: int = 0,
        num_threads: int = 1,
    ) -> np.ndarray:
        """Run a program for every eight rows, and return what it stores: rows (num_rows, row_words).

        Args:
            inputs: what the program loads, (padded(num_rows), ..., row_words); it sees those of its eight rows as rows 0, 1, ...
            constants: rows that are in every lane of the first registers.
        """
        outputs = aligned((padded(num_rows), self.row_words))

        def work(groups: range) -> None:
            held = self.registers(num_registers, constants)
            for g in groups:
                rows = slice(g * LANES, (g + 1) * LANES)
                self.run(program, held, num_entries=num_entries, inputs=inputs[rows], outputs=outputs[rows])

        in_threads(work, -(-num_rows // LANES), num_threads)
        return outputs[:num_rows]

    def registers(self, num_registers: int, constants: np.ndarray) -> np.ndarray:
        """Return registers, uint64 (num_registers, width, 8), the first of which hold rows of constants in every lane."""
        held = aligned((num_registers, self.width, LANES))
        held[: len(constants)] = constants[:, : self.width, None]
        return held

    def run(
        self,
        program: np.ndarray,
        held: np.ndarray,
        *,
        num_entries: int = 0,
        table: np.ndarray | None = None,
        digits: np.ndarray | None = None,
        inputs: np.ndarray | None = None,
        outputs: np.ndarray | None = None,
    ) -> None:
        """Run a program on registers, see emit.py. Releases the GIL.

        The kernel checks nothing: operands must be registers, entries, windows and rows that exist.

        Args:
            num_entries: of `SELECT` steps.
            table, digits: of `LOOKUP` steps: uint64 (num_windows, num_rows, row_words), and uint16 (num_windows, 8 more than are read).
            inputs, outputs: rows of `LOAD` and `STORE` steps.
        Raises: ValueError for an array that is not aligned, which the processor would refuse by ending the process, or not in one piece.
        """
        for array in (held, table, inputs, outputs):
            if array is not None and (array.ctypes.data % 64 or array.dtype != np.uint64 or not array.flags.c_contiguous):
                raise ValueError("registers, tables and rows must be uint64, contiguous, and aligned to 64 bytes: see `aligned`")
        self._run(
            program.ctypes.data,
            len(program),
            held.ctypes.data,
            self._modulus.ctypes.data,
            self._inverse.ctypes.data,
            num_entries if table is None else table.shape[1],
            None if table is None else table.ctypes.data,
            None if digits is None else digits.ctypes.data,
            0 if digits is None else digits.strides[0] // digits.itemsize,
            self.row_words,
            None if inputs is None else inputs.ctypes.data,
            None if outputs is None else outputs.ctypes.data,
        )

    @property
    def row_words(self) -> int:
        """Words of a row of a table."""
        return -(-self.width // _LINE_WORDS) * _LINE_WORDS


def join(number: int, scratch: int, row: int, num_pieces: int, places: int) -> list[Step]:
    """Write a number into a register: the sum of its pieces, rows `row` and following, each times its place.

    Args:
        places: the first register of `Ring.places`.
    """
    steps: list[Step] = [(LOAD, number, row, num_pieces)]
    for i in range(1, num_pieces):
        steps += [(LOAD, scratch, row + i, num_pieces), (MULTIPLY, scratch, scratch, places + i), (ADD, number, number, scratch)]
    return steps


def padded(num_rows: int) -> int:
    """Return how many rows full groups of eight have."""
    return -(-num_rows // LANES) * LANES


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeroed uint64 of a shape, aligned to 64 bytes as the kernel needs it."""
    size = int(np.prod(shape))
    raw = np.zeros(size + _LINE_WORDS, np.uint64)
    first = -raw.ctypes.data % 64 // 8
    return raw[first : first + size].reshape(shape)


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
