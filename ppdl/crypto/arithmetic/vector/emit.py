"""Write the vector kernel as LLVM IR: eight residues mod m^2 side by side, one in each 64-bit lane of a 512-bit register.

A residue a is held as two digits in base m, a = a0 + a1 m (mod m^2), and each of these as k digits in base 2^52. In Montgomery form with
R = 2^(52 k) a product needs five products of k digits where plain arithmetic mod m^2 needs eight of the same length:

    c0 = (a0 b0 + q m) / R                      with q = -a0 b0 / m mod R, so that a0 b0 = c0 R - q m
    c1 = (a0 b1 + a1 b0 - q + q' m) / R         with q' likewise
    c0 + c1 m = a b / R  (mod m^2)

No final subtraction: R >= 256 m, so factors whose digits are below 8 m have a product whose digits are below 1.5 m, and a sum of up to five
products may be a factor again.

Accumulators are signed 64-bit lanes. A column collects at most 6 k words below 2^52 and a carry: less than 2^62 for k <= 80.

Products are taken in tiles of 10 x 10 digits: 20 accumulators, 10 digits of one factor and one of the other fill the 32 registers.

Source: P. Montgomery, "Modular multiplication without trial division", Mathematics of Computation 44, 1985; S. Gueron, V. Krasnov,
"Software implementation of modular exponentiation, using advanced vector instructions architectures", WAIFI 2012 (radix and lanes, without
carries in between); the instructions VPMADD52LUQ and VPMADD52HUQ: Intel, "Software Developer's Manual", volume 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

TILE = 10
LANES = 8
RADIX_BITS = 52

MULTIPLY, ADD, SELECT, LOOKUP, LOAD, STORE = range(6)
STEP_WORDS = 4  # operation, and three operands

_BYTE, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I64, LANES)
_VECTORS = _VECTOR.as_pointer()
_VOID = ir.VoidType()
_MASK = (1 << RADIX_BITS) - 1


def emit_kernel(num_digits: int) -> str:
    """Return the LLVM IR of `run` for residues of num_digits digits in each half, a multiple of 10.

    run(program, num_steps, registers, modulus, negative_inverse, num_entries, table, digits, digits_stride, row_words, inputs, outputs)

    program: int32 (num_steps, 4): operation, c, x, y. A register is 2 num_digits vectors. A row is the same of one lane, uint64
        (row_words,), of which the first 2 num_digits count; it begins at a multiple of 64 bytes.
        MULTIPLY   c = x y / R; a square where x is y
        ADD        c = x + y
        SELECT     c = register x + y, 0 <= y < num_entries; every one of the num_entries registers is read
        LOOKUP     lane l of c = row digits[x, 8 y + l] of window x of the table; the rows of y + 1 are fetched ahead
        LOAD       lane l of c = row x + l y of inputs
        STORE      row x + l y of outputs = lane l of c
    modulus: num_digits vectors, the digits of m in every lane; negative_inverse: -1 / m mod 2^52 in every lane.
    table: uint64 (num_windows, num_entries, row_words); digits: uint16 (num_windows, digits_stride).
    """
    module = ir.Module(name=f"ppdl_vector_{num_digits}")
    _Kernel(module, num_digits).run()
    return str(module)


class _Kernel:
    """Hold the function that is being written, and what all of them write."""

    builder: ir.IRBuilder
    function: ir.Function

    def __init__(self, module: ir.Module, num_digits: int) -> None:
        self.module, self.k, self.tiles = module, num_digits, num_digits // TILE
        product = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        self.low, self.high = (ir.Function(module, product, f"llvm.x86.avx512.vpmadd52{half}.uq.512") for half in "lh")
        self.zero, self.mask, self.radix = (_splat(x) for x in (0, _MASK, RADIX_BITS))

    # one function -------------------------------------------------------------------------------------------------------------------

    def start(self, name: str, *arguments: ir.Type) -> tuple[ir.Argument, ...]:
        self.function = ir.Function(self.module, ir.FunctionType(_VOID, arguments), name)
        if name != "run":
            self.function.linkage = "internal"
            self.function.attributes.add("noinline")
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        return self.function.args

    def finish(self) -> ir.Function:
        self.builder.ret_void()
        return self.function

    def variable(self, kind: ir.Type = _VECTOR, count: int | None = None) -> ir.Value:
        """Return a place in the function's frame; a single one becomes a register of the machine."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(kind, count)
            place.align = 64
        return place

    @contextmanager
    def loop(self, first: ir.Value, end: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        """Write a loop over first, first + step, ... below end; its body is what is written inside."""
        b, counter = self.builder, self.variable(_I64)
        b.store(first, counter)
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        i = b.load(counter)
        b.cbranch(b.icmp_signed("<", i, end), body, after)
        b.position_at_end(body)
        yield i
        b.store(b.add(i, _word(step)), counter)
        b.branch(head)
        b.position_at_end(after)

    def at(self, vectors: ir.Value, index: ir.Value | int) -> ir.Value:
        return self.builder.gep(vectors, [_word(index) if isinstance(index, int) else index])

    def get(self, vectors: ir.Value, index: ir.Value | int = 0) -> ir.Value:
        return self.builder.load(self.at(vectors, index), align=64)

    def put(self, vectors: ir.Value, index: ir.Value | int, value: ir.Value) -> None:
        self.builder.store(value, self.at(vectors, index), align=64)

    def collect(self, half: ir.Function, column: ir.Value, x: ir.Value, y: ir.Value) -> None:
        self.builder.store(self.builder.call(half, [self.builder.load(column), x, y]), column)

    def carry(self, column: ir.Value, into: ir.Value) -> None:
        """Add what a column holds above 52 bits to the next."""
        b = self.builder
        b.store(b.add(b.load(into), b.ashr(b.load(column), self.radix)), into)

    # products -----------------------------------------------------------------------------------------------------------------------

    def tile(self, columns: list[ir.Value], x: ir.Value, y: ir.Value) -> None:
        """Add the product of ten digits at x and ten at y to twenty columns."""
        ys = [self.get(y, j) for j in range(TILE)]
        for i in range(TILE):
            digit = self.get(x, i)
            for half, shift in ((self.low, 0), (self.high, 1)):
                for j in range(TILE):
                    self.collect(half, columns[i + j + shift], digit, ys[j])

    def upper_triangle(self, columns: list[ir.Value], x: ir.Value) -> None:
        """Add the products of two different ones of ten digits, each once."""
        xs = [self.get(x, j) for j in range(TILE)]
        for i in range(TILE):
            for half, shift in ((self.low, 0), (self.high, 1)):
                for j in range(i + 1, TILE):
                    self.collect(half, columns[i + j + shift], xs[i], xs[j])

    def diagonal(self, columns: list[ir.Value], x: ir.Value) -> None:
        for j in range(TILE):
            digit = self.get(x, j)
            self.collect(self.low, columns[2 * j], digit, digit)
            self.collect(self.high, columns[2 * j + 1], digit, digit)

    def reduce(
        self,
        out: ir.Value,
        quotient: ir.Value,
        factors: list[tuple[ir.Value, ir.Value]],
        modulus: ir.Value,
        negative_inverse: ir.Value,
        *,
        minus: ir.Value | None = None,
        square: bool = False,
        double: bool = False,
    ) -> None:
        """Write out = (sum of x y - minus + quotient m) / R, where quotient makes the division exact.

        Args:
            factors: pairs (x, y) of k digits; the only pair's x is squared where `square`.
            double: twice the sum.
        """
        b, ten = self.builder, _word(TILE)
        columns = [self.variable() for _ in range(2 * TILE)]
        over = self.variable(_VECTOR, TILE)  # what the last tiles left for the columns of these
        for j in range(TILE):
            self.put(over, j, self.zero)
        for upper in (False, True):
            with self.loop(_word(self.tiles if upper else 0), _word(self.tiles * (2 if upper else 1))) as s:
                place = b.mul(s, ten)
                first = b.mul(b.add(b.sub(s, _word(self.tiles)), _word(1)), ten) if upper else _word(0)
                end = _word(self.k) if upper else b.add(place, ten)
                for column in columns:
                    b.store(self.zero, column)
                if square:
                    x = factors[0][0]
                    middle = b.ashr(place, _word(1))
                    with self.loop(first, middle, TILE) as i:
                        self.tile(columns, self.at(x, i), self.at(x, b.sub(place, i)))
                    even = b.icmp_signed("==", b.and_(s, _word(1)), _word(0))
                    with b.if_then(even):
                        self.upper_triangle(columns, self.at(x, middle))
                else:
                    with self.loop(first, end, TILE) as i:
                        for x, y in factors:
                            self.tile(columns, self.at(x, i), self.at(y, b.sub(place, i)))
                if square or double:
                    for column in columns:
                        b.store(b.add(b.load(column), b.load(column)), column)
                if square:
                    with b.if_then(even):
                        self.diagonal(columns, self.at(x, middle))
                for j in range(TILE):
                    b.store(b.add(b.load(columns[j]), self.get(over, j)), columns[j])
                if minus is not None and not upper:
                    for j in range(TILE):
                        b.store(b.sub(b.load(columns[j]), self.get(self.at(minus, place), j)), columns[j])
                with self.loop(first, end if upper else place, TILE) as i:
                    self.tile(columns, self.at(quotient, i), self.at(modulus, b.sub(place, i)))
                if upper:
                    self.write_digits(self.at(out, b.sub(place, _word(self.k))), columns)
                else:
                    self.write_quotient(self.at(quotient, place), columns, modulus, negative_inverse)
                for j in range(TILE):
                    self.put(over, j, b.load(columns[TILE + j]))

    def write_quotient(self, quotient: ir.Value, columns: list[ir.Value], modulus: ir.Value, negative_inverse: ir.Value) -> None:
        """Write ten digits of the quotient, each of which makes one column divisible by 2^52."""
        b, lowest = self.builder, [self.get(modulus, j) for j in range(TILE)]
        for d in range(TILE):
            digit = b.call(self.low, [self.zero, b.load(columns[d]), negative_inverse])
            self.put(quotient, d, digit)
            for half, shift in ((self.low, 0), (self.high, 1)):
                for j in range(TILE):
                    self.collect(half, columns[d + j + shift], digit, lowest[j])
            self.carry(columns[d], columns[d + 1])

    def write_digits(self, out: ir.Value, columns: list[ir.Value]) -> None:
        for d in range(TILE):
            self.put(out, d, self.builder.and_(self.builder.load(columns[d]), self.mask))
            self.carry(columns[d], columns[d + 1])

    def product(self, name: str, *, square: bool) -> ir.Function:
        """Write c = x y / R; c may be x or y."""
        c, x, y, modulus, inverse = self.start(name, *[_VECTORS] * 5)
        k, negative_inverse = self.k, self.get(inverse)
        low, quotient, unused = (self.variable(_VECTOR, k) for _ in range(3))
        high_x, high_y = self.at(x, k), self.at(y, k)
        self.reduce(low, quotient, [(x, y)], modulus, negative_inverse, square=square)
        mixed = [(x, high_x)] if square else [(x, high_y), (high_x, y)]
        self.reduce(self.at(c, k), unused, mixed, modulus, negative_inverse, minus=quotient, double=square)
        with self.loop(_word(0), _word(k)) as i:
            self.put(c, i, self.get(low, i))
        return self.finish()

    # the other operations -----------------------------------------------------------------------------------------------------------

    def add(self) -> ir.Function:
        """Write c = x + y, digits carried; no carry leaves the lower half, for R >= 256 m."""
        c, x, y = self.start("add", *[_VECTORS] * 3)
        b, rest = self.builder, self.variable()
        b.store(self.zero, rest)
        with self.loop(_word(0), _word(2 * self.k)) as i:
            total = b.add(b.add(self.get(x, i), self.get(y, i)), b.load(rest))
            self.put(c, i, b.and_(total, self.mask))
            b.store(b.ashr(total, self.radix), rest)
        return self.finish()

    def select(self) -> ir.Function:
        """Write c = entry number `wanted`, reading all of them: which one it was does not show in the addresses."""
        c, entries, wanted, num_entries = self.start("select", _VECTORS, _VECTORS, _I64, _I64)
        b, width, found = self.builder, _word(2 * self.k), self.variable()
        with self.loop(_word(0), width) as j:
            b.store(self.zero, found)
            with self.loop(_word(0), num_entries) as i:
                keep = b.sext(b.icmp_signed("==", i, wanted), _I64)
                spread = b.shuffle_vector(
                    b.insert_element(self.zero, keep, _I32(0)), self.zero, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
                )
                b.store(b.or_(b.load(found), b.and_(spread, self.get(entries, b.add(b.mul(i, width), j)))), found)
            self.put(c, j, b.load(found))
        return self.finish()

    def lookup(self) -> ir.Function:
        """Write lane l of c = row rows[l] of a table: eight digits of eight rows at a time, transposed."""
        c, table, rows, row_words = self.start("lookup", _VECTORS, _I64.as_pointer(), _I16.as_pointer(), _I64)
        b = self.builder
        prefetch = self.prefetch()
        for lane in range(LANES):  # the next rows: tables are larger than the caches, and a product lasts as long as the memory takes
            row = b.bitcast(self.at(table, b.mul(b.zext(b.load(self.at(rows, LANES + lane)), _I64), row_words)), _BYTE.as_pointer())
            for line in range(0, 2 * self.k * 8, 64):
                b.call(prefetch, [self.at(row, line), _I32(0), _I32(2), _I32(1)])
        self.load_lanes(c, [self.at(table, b.mul(b.zext(b.load(self.at(rows, lane)), _I64), row_words)) for lane in range(LANES)])
        return self.finish()

    def load(self) -> ir.Function:
        """Write lane l of c = row l of eight, `stride` words apart."""
        c, rows, stride = self.start("load", _VECTORS, _I64.as_pointer(), _I64)
        self.load_lanes(c, [self.at(rows, self.builder.mul(_word(lane), stride)) for lane in range(LANES)])
        return self.finish()

    def load_lanes(self, c: ir.Value, rows: list[ir.Value]) -> None:
        """Write eight rows into the lanes of c. Rows are padded to whole cache lines; what a register has no place for is left out."""
        for first in range(0, 2 * self.k, LANES):
            words = [self.builder.load(self.as_vector(self.at(row, first)), align=64) for row in rows]
            for j, vector in enumerate(self.transposed(words)[: 2 * self.k - first]):
                self.put(c, first + j, vector)

    def store(self) -> ir.Function:
        """Write row l of eight, `stride` words apart, = lane l of c."""
        c, rows, stride = self.start("store", _VECTORS, _I64.as_pointer(), _I64)
        for first in range(0, 2 * self.k, LANES):
            vectors = [self.get(c, first + j) if first + j < 2 * self.k else self.zero for j in range(LANES)]
            for lane, words in enumerate(self.transposed(vectors)):
                row = self.at(rows, self.builder.add(self.builder.mul(_word(lane), stride), _word(first)))
                self.builder.store(words, self.as_vector(row), align=64)
        return self.finish()

    def as_vector(self, words: ir.Value) -> ir.Value:
        return self.builder.bitcast(words, _VECTORS)

    def prefetch(self) -> ir.Function:
        kind = ir.FunctionType(_VOID, [_BYTE.as_pointer(), _I32, _I32, _I32])
        return ir.Function(self.module, kind, "llvm.prefetch.p0")

    def transposed(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """Return eight vectors: lane l of vector j is lane j of vector l."""
        b = self.builder
        for size in (4, 2, 1):
            exchanged = list(vectors)
            for i in (i for i in range(LANES) if not i & size):
                first, second = vectors[i], vectors[i | size]
                for place, side in ((i, 0), (i | size, size)):
                    # lanes without the bit `size` come from the first vector, those with it from the second
                    lanes = [((lane & ~size) | side) + (LANES if lane & size else 0) for lane in range(LANES)]
                    exchanged[place] = b.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, LANES), lanes))
            vectors = exchanged
        return vectors

    def run(self) -> None:
        """Write the functions of all operations, and the one that steps through a program."""
        multiply, square = self.product("multiply", square=False), self.product("square", square=True)
        add, select, lookup, load, store = self.add(), self.select(), self.lookup(), self.load(), self.store()
        numbers, narrow = _I64.as_pointer(), _I16.as_pointer()
        arguments = self.start("run", _I32.as_pointer(), _I64, *[_VECTORS] * 3, _I64, numbers, narrow, _I64, _I64, numbers, numbers)
        program, num_steps, registers, modulus, inverse, num_entries, table, digits, digits_stride, row_words, inputs, outputs = arguments
        b, width = self.builder, _word(2 * self.k)
        with self.loop(_word(0), num_steps) as s:
            place = b.mul(s, _word(STEP_WORDS))
            operation, c, x, y = (b.sext(b.load(self.at(program, b.add(place, _word(j)))), _I64) for j in range(STEP_WORDS))
            to, left, right = (self.at(registers, b.mul(number, width)) for number in (c, x, y))
            after = self.function.append_basic_block()
            switch = b.switch(operation, after)

            @contextmanager
            def case(kind: int) -> Iterator[None]:
                block = self.function.append_basic_block()
                switch.add_case(_word(kind), block)
                b.position_at_end(block)
                yield
                b.branch(after)

            with case(MULTIPLY), b.if_else(b.icmp_signed("==", x, y)) as (same, different):
                with same:
                    b.call(square, [to, left, left, modulus, inverse])
                with different:
                    b.call(multiply, [to, left, right, modulus, inverse])
            with case(ADD):
                b.call(add, [to, left, right])
            with case(SELECT):
                b.call(select, [to, left, y, num_entries])
            with case(LOOKUP):
                window = self.at(table, b.mul(b.mul(x, num_entries), row_words))
                b.call(lookup, [to, window, self.at(digits, b.add(b.mul(x, digits_stride), b.mul(y, _word(LANES)))), row_words])
            for kind, function, rows in ((LOAD, load, inputs), (STORE, store, outputs)):
                with case(kind):
                    b.call(function, [to, self.at(rows, b.mul(x, row_words)), b.mul(y, row_words)])
            b.position_at_end(after)
        self.finish()


def _word(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)
