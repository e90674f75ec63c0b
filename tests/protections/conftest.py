"""One small set of images, taken through all three parties under an insecure key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdl.crypto.keys.keyfile import private_path, save_private
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.steps.reveal import Reveal
from ppdl.protections.steps.stem import FilterStep, Stem

ONE_WORKER = Executor(num_workers=1, shard_mib=1, min_shards=3, table_mib=4)
DCT = {"filters": "dct", "channels": 3, "weight_bits": 4}
MEAN = {"filters": "mean", "channels": 1, "weight_bits": 4}
SCHEME = Homomorphic(stride=2, weight_bits=4, obfuscator="djn")
STEM = Stem(**DCT)
REVEAL = Reveal(approved=(DCT, MEAN), check_fraction=1.0, clip=1.0, clip_detail=1.0, noise=0.0)


@dataclass(frozen=True)
class Chain:
    """Sources, compute side and key holder with a folder each; `replace` a step to see what another one makes of it."""

    root: Path
    images: np.ndarray
    private_key: PrivateKey
    input_px: int = 4
    scheme: Homomorphic = SCHEME
    stem: FilterStep = STEM
    reveal: Reveal = REVEAL
    executor: Executor = ONE_WORKER

    @property
    def private_dir(self) -> Path:
        return self.root / "private"

    def context(self, step: str, **options: Any) -> Context:
        """What the parties share; the last one holds the private key."""
        if step == "reveal":
            options = {"key_holder": KeyHolder(self.private_dir, self.root / "project")} | options
        options = {"public_key": self.private_key.public, "partial_dir": self.root / f"partial-{step}"} | options
        return Context(input_px=self.input_px, executor=self.executor, progress=False, **options)

    def encrypt(self, name: str = "encrypted") -> Path:
        self.scheme.encrypt(self.images, self.root / name, self.context("encrypt"))
        return self.root / name

    def filter(self, source: str = "encrypted", name: str = "stem", **options: Any) -> Path:
        self.stem.write(self.root / source, self.root / name, self.context("stem", **options))
        return self.root / name

    def decrypt(self, source: str = "encrypted", sums: str = "stem", name: str = "revealed", **options: Any) -> Path:
        context = self.context("reveal", **options)
        private_dir = context.key_holder.private_dir
        if not private_path(private_dir, self.private_key.public.fingerprint).exists():
            save_private(private_dir, self.private_key)
        self.reveal.write(self.root / source, self.root / sums, self.root / name, context)
        return self.root / name

    def another(self, **changes: Any) -> Chain:
        return replace(self, **changes)


@pytest.fixture(scope="session")
def small_key() -> PrivateKey:
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture
def chain(tmp_path, small_key) -> Chain:
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)
    images[0], images[1] = 0, 255
    return Chain(tmp_path, images, small_key)


def plain_outputs(images: np.ndarray, weights: np.ndarray, stride: int) -> np.ndarray:
    """The integer computation without encryption, written independently of the library: (num_images, channels, height, width) int64."""
    n, height, width = images.shape
    patches = images.astype(np.int64).reshape(n, height // stride, stride, width // stride, stride)
    return np.einsum("nyaxb,jab->njyx", patches, weights.reshape(-1, stride, stride))
