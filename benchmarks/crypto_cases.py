"""What benchmarks.crypto measures for one key length: this project and phe on the same pixels, in turns."""

import os
import resource
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import phe

from ppdl.crypto.arithmetic.engine import GMPY2, VARIABLE, engine
from ppdl.crypto.arithmetic.linear import apply_linear, dct_filters, plan_linear
from ppdl.crypto.arithmetic.numbers import from_array
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking, smallest_slot_bits
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch, rerandomise
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair

STEM_STRIDE, STEM_FILTERS, STEM_WEIGHT_BITS = 4, 3, 7


@dataclass(frozen=True)
class Sizes:
    """How much of each is measured. Counts of ciphertexts are for 2048 bits and shrink with the cube of the key length."""

    repeats: int
    encryptions: int
    decryptions: int
    stem_groups: int
    phe_encryptions: int
    phe_stems: int
    worker_shards: int

    def at(self, key_bits: int) -> "Sizes":
        shrink = (2048 / key_bits) ** 3
        counts = {name: max(2, round(value * shrink)) for name, value in vars(self).items() if name not in ("repeats", "worker_shards")}
        return Sizes(repeats=self.repeats, worker_shards=self.worker_shards, **counts)


FULL = Sizes(repeats=9, encryptions=4096, decryptions=1024, stem_groups=512, phe_encryptions=24, phe_stems=16, worker_shards=16)
QUICK = Sizes(repeats=3, encryptions=1024, decryptions=256, stem_groups=128, phe_encryptions=10, phe_stems=6, worker_shards=6)


def user_seconds() -> float:
    """User CPU of this process, all threads."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def measure(
    cases: dict[str, tuple[Callable[[], object], float]], repeats: int, clock: Callable[[], float] = user_seconds
) -> dict[str, float]:
    """Run the cases in turns; return the median seconds for one of each case's units."""
    samples = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (run, units) in cases.items():
            start = clock()
            run()
            samples[name].append(max(clock() - start, 1e-6) / units)  # CPU time comes in ticks: a short case may take none
    return {name: statistics.median(times) for name, times in samples.items()}


class Bench:
    """Hold the key, the data and the tables for one key length."""

    def __init__(self, key_bits: int, sizes: Sizes, folder: Path, *, allow_insecure_key: bool = False):
        self.sizes, self.folder = sizes.at(key_bits), folder
        self.key: PrivateKey = generate_keypair(key_bits, allow_insecure_key=allow_insecure_key)
        self.public = self.key.public
        rng = np.random.default_rng(0)
        self.dense, self.slot20 = DensePacking(key_bits), SlotPacking(key_bits, 20)
        self.pixels = rng.integers(0, 256, self.sizes.encryptions * self.dense.values_per_plaintext, dtype=np.uint8)
        self.build_seconds, self.sources = {}, {}
        for name, key in (("public", self.public), ("owner", self.key)):
            start = user_seconds()
            self.sources[name] = build_obfuscators(key)
            self.build_seconds[name] = user_seconds() - start
        self.weights = dct_filters(STEM_STRIDE, STEM_FILTERS, STEM_WEIGHT_BITS)
        self.plan = plan_linear(self.weights)
        self.stem_packing = SlotPacking(key_bits, smallest_slot_bits(self.weights, 255))
        self.patches = rng.integers(
            0, 256, (STEM_STRIDE**2, self.sizes.stem_groups * self.stem_packing.values_per_plaintext), dtype=np.uint8
        )
        planes = [encrypt_batch(self.public, self.stem_packing.pack(p, self.public), self.sources["owner"]) for p in self.patches]
        self.planes = np.stack(planes)

    # ---- this project: from pixels to a file, and back

    def encrypt_dense(self, source: str) -> None:
        rows = encrypt_batch(self.public, self.dense.pack(self.pixels), self.sources[source])
        np.save(self.folder / "dense.npy", rows)

    def encrypt_slots(self) -> None:
        pixels = self.pixels[: self.sizes.encryptions // 4 * self.slot20.values_per_plaintext]
        np.save(self.folder / "slots.npy", encrypt_batch(self.public, self.slot20.pack(pixels, self.public), self.sources["public"]))

    def decrypt_dense(self) -> np.ndarray:
        rows = np.load(self.folder / "dense.npy", mmap_mode="r")[: self.sizes.decryptions]
        return self.dense.unpack(decrypt_batch(self.key, np.array(rows)), len(rows) * self.dense.values_per_plaintext)

    def run_stem(self) -> np.ndarray:
        return apply_linear(self.public, self.planes, self.plan)

    def rerandomise(self, engine_name: str, count: int) -> None:
        with forced(engine_name):
            rerandomise(self.public, self.rows[:count])

    # ---- phe

    def prepare_phe(self) -> None:
        self.phe_public, self.phe_private = self.public.phe, self.key.phe
        self.phe_pixels = self.pixels[: self.sizes.phe_encryptions].tolist()
        self.phe_encrypted = [self.phe_public.encrypt(pixel) for pixel in self.phe_pixels]
        self.phe_patches = [
            [phe.EncryptedNumber(self.phe_public, int(c)) for c in from_array(self.public, self.planes[:, group])]
            for group in range(self.sizes.phe_stems)
        ]

    def run_phe_stem(self) -> list[list[phe.EncryptedNumber]]:
        outputs = []
        for patch in self.phe_patches:
            for row in self.weights.tolist():
                total = patch[0] * row[0]
                for pixel, weight in zip(patch[1:], row[1:], strict=True):
                    total = total + pixel * weight
                outputs.append(total)
        return outputs

    def check(self) -> None:
        """Refuse to time what is wrong: pixels come back, and the stem gives the very numbers that phe gives."""
        pixels = self.decrypt_dense()
        assert (pixels == self.pixels[: len(pixels)]).all()
        ours = self.run_stem()[:, : self.sizes.phe_stems].swapaxes(0, 1).reshape(-1, self.public.ciphertext_bytes)
        assert from_array(self.public, ours) == [number.ciphertext(be_secure=False) for number in self.run_phe_stem()]

    def prepare(self) -> None:
        self.encrypt_dense("public")
        self.encrypt_slots()
        self.rows = np.load(self.folder / "dense.npy")
        self.prepare_phe()
        self.check()

    def seconds(self) -> dict[str, float]:
        """Return the median user CPU seconds of each case: a pixel, or a patch for the stems."""
        sizes, dense = self.sizes, self.dense.values_per_plaintext
        cases = {
            "phe_encrypt": (lambda: [self.phe_public.encrypt(p) for p in self.phe_pixels], sizes.phe_encryptions),
            "dense_encrypt_public": (lambda: self.encrypt_dense("public"), sizes.encryptions * dense),
            "dense_encrypt_owner": (lambda: self.encrypt_dense("owner"), sizes.encryptions * dense),
            "slots_encrypt_public": (self.encrypt_slots, sizes.encryptions // 4 * self.slot20.values_per_plaintext),
            "phe_decrypt": (lambda: [self.phe_private.decrypt(c) for c in self.phe_encrypted], sizes.phe_encryptions),
            "dense_decrypt": (self.decrypt_dense, sizes.decryptions * dense),
            "phe_stem": (self.run_phe_stem, sizes.phe_stems),
            "stem": (self.run_stem, sizes.stem_groups * self.stem_packing.values_per_plaintext),
            "rerandomise_gmpy2": (lambda: self.rerandomise(GMPY2, sizes.phe_encryptions), sizes.phe_encryptions),
            "rerandomise": (lambda: self.rerandomise(engine(), sizes.encryptions), sizes.encryptions),
            "rerandomise_one": (lambda: self.rerandomise(engine(), 1), 1),
        }
        return measure(cases, sizes.repeats)

    def figures(self, seconds: dict[str, float]) -> dict[str, float | str]:
        """Return what --json prints, but for two_workers_over_one."""
        slot_pixels = self.sizes.encryptions // 4 * self.slot20.values_per_plaintext
        return {
            "engine": engine(),
            "dense_encrypt_public_over_phe": seconds["phe_encrypt"] / seconds["dense_encrypt_public"],
            "dense_encrypt_owner_over_phe": seconds["phe_encrypt"] / seconds["dense_encrypt_owner"],
            "dense_decrypt_over_phe": seconds["phe_decrypt"] / seconds["dense_decrypt"],
            "stem_over_phe": seconds["phe_stem"] / seconds["stem"],
            "rerandomise_over_gmpy2": seconds["rerandomise_gmpy2"] / seconds["rerandomise"],
            "rerandomise_one_over_gmpy2": seconds["rerandomise_gmpy2"] / seconds["rerandomise_one"],
            "bytes_per_pixel_dense": (self.folder / "dense.npy").stat().st_size / len(self.pixels),
            "bytes_per_pixel_slot20": (self.folder / "slots.npy").stat().st_size / slot_pixels,
        }


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Compute with one engine."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})
