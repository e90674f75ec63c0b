"""What one image costs under `homomorphic`, against `ppdl estimate` and phe: `python -m benchmarks.homomorphic [--images 64 --px 192]`.

Sources, compute side and key holder run for real on random images, once for each key length; phe does the same on a few patches, one
EncryptedNumber a pixel, and is scaled up by pixels and patches. Core time, all workers added up. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import phe
from rich.console import Console
from rich.table import Table

from benchmarks.estimate import timed
from ppdl.config.cost import folder_bytes
from ppdl.crypto.estimate.images import estimate, plan_job
from ppdl.crypto.estimate.stem import reveal_steps, stem_step
from ppdl.crypto.keys.keyfile import save_private
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.steps.reveal import Reveal
from ppdl.protections.steps.stem import Stem

FILTERS = {"filters": "dct", "channels": 3, "weight_bits": 4}
STEPS = ("encrypt", "stem", "reveal")


def main() -> None:
    """Parse arguments, measure each key length, print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--px", type=int, default=192)
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--bits", type=int, nargs="+", default=[2048, 3072])
    parser.add_argument("--phe-patches", type=int, default=4)
    args = parser.parse_args()
    executor = Executor(None, shard_mib=4, min_shards=16, table_mib=512)
    for bits in args.bits:
        key = generate_keypair(bits, allow_insecure_key=True)
        predicted = predict(args.images, args.px, args.stride, key, executor)
        found = measure(args.images, args.px, args.stride, key, executor)
        rival = measure_phe(args.px, args.stride, key, args.phe_patches)
        title = f"{bits} bits, stride {args.stride}: an image of {args.px} px, mean of {args.images}, {executor.workers} workers"
        table = Table(title=title, title_justify="left")
        for name in ("step", "wall ms", "core ms", "predicted", "kB", "phe core s", "times faster"):
            table.add_column(name, justify="left" if name == "step" else "right")
        for step in STEPS:
            wall_s, core_s, size = (value / args.images for value in found[step])
            ratio = predicted[step] / args.images / core_s
            table.add_row(
                step,
                f"{wall_s * 1e3:.1f}",
                f"{core_s * 1e3:.1f}",
                f"{ratio:.2f} x",
                f"{size / 1e3:.1f}",
                f"{rival[step]:.1f}",
                f"{rival[step] / core_s:,.0f}",
            )
        Console().print(table)


def predict(num_images: int, px: int, stride: int, key: PrivateKey, executor: Executor) -> dict[str, float]:
    """Return the core seconds that `ppdl estimate` predicts for all images, by step."""
    scheme, weights = Homomorphic(stride, FILTERS["weight_bits"], "djn"), Stem(**FILTERS).matrix(stride)
    job = plan_job(num_images, px, key, kind="slots", stride=stride, slot_bits=scheme.slot_bits, obfuscator="djn", executor=executor)
    encrypt_step = next(step for step in estimate(job) if step.name == "encrypt")
    reveal = sum(step.core_s for step in reveal_steps(job, weights, check_fraction=1.0))
    return {"encrypt": encrypt_step.core_s, "stem": stem_step(job, weights).core_s, "reveal": reveal}


def measure(num_images: int, px: int, stride: int, key: PrivateKey, executor: Executor) -> dict[str, tuple[float, float, int]]:
    """Run the three parties; return wall seconds, core seconds and bytes written, by step."""
    images = np.random.default_rng(0).integers(0, 256, (num_images, px, px), np.uint8)
    scheme, stem = Homomorphic(stride, FILTERS["weight_bits"], "djn"), Stem(**FILTERS)
    reveal = Reveal(approved=(FILTERS,), check_fraction=1.0, clip=1.0, clip_detail=0.25, noise=0.0)
    with tempfile.TemporaryDirectory(prefix="ppdl-benchmark-") as folder:
        root = Path(folder)
        save_private(root / "private", key)
        context = Context(key.public, px // stride, root / "partial", executor, key_holder=KeyHolder(root / "private", root / "project"))
        folders = [root / name for name in STEPS]
        found = {
            "encrypt": timed(lambda: scheme.encrypt(images, folders[0], context)),
            "stem": timed(lambda: stem.write(*folders[:2], context)),
            "reveal": timed(lambda: reveal.write(*folders, context)),
        }
        return {name: (*found[name], folder_bytes(root / name)) for name in STEPS}


def measure_phe(px: int, stride: int, key: PrivateKey, num_patches: int) -> dict[str, float]:
    """Return the core seconds that phe needs for one image, from a few patches, by step."""
    public, private, weights = key.public.phe, key.phe, Stem(**FILTERS).matrix(stride).tolist()
    pixels = np.random.default_rng(1).integers(0, 256, (num_patches, stride * stride)).tolist()
    encrypted: list[list[phe.EncryptedNumber]] = []
    sums: list[phe.EncryptedNumber] = []
    _, encrypt_s = timed(lambda: encrypted.extend([public.encrypt(pixel) for pixel in patch] for patch in pixels))
    _, stem_s = timed(lambda: sums.extend(_phe_filter(patch, row) for patch in encrypted for row in weights))
    _, reveal_s = timed(lambda: [private.decrypt(number) for number in sums])
    patches = (px // stride) ** 2 / num_patches
    return {"encrypt": encrypt_s * patches, "stem": stem_s * patches, "reveal": reveal_s * patches}


def _phe_filter(patch: list[phe.EncryptedNumber], weights: list[int]) -> phe.EncryptedNumber:
    total = patch[0] * weights[0]
    for pixel, weight in zip(patch[1:], weights[1:], strict=True):
        total = total + pixel * weight
    return total


if __name__ == "__main__":
    main()
