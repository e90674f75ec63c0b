"""Compare what `ppdl estimate` predicts with a real run: `python -m benchmarks.estimate [--images 400 --px 96 --bits 2048]`.

Prints predicted, actual and predicted / actual for wall time, core time and bytes of encryption and decryption, alternating dense and
slots. The promise is within 25 % on an idle machine; other load between the two measurements counts against it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ppdl.config.cost import core_seconds
from ppdl.crypto.artifact.fields import Protection
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
from ppdl.crypto.estimate.images import Job, estimate, plan_job
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.workers.parallel import Executor

PACKINGS = {"dense": {"stride": 1, "slot_bits": 8}, "slots": {"stride": 2, "slot_bits": 12}}


def main() -> None:
    """Parse arguments, measure each packing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--bits", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    key = generate_keypair(args.bits, allow_insecure_key=True)
    executor = Executor(args.workers, shard_mib=4, min_shards=16, table_mib=512)
    table = Table(title=f"{args.images} images of {args.px} px, {args.bits} bits, {executor.workers} workers")
    for name in ("kind", "step", "figure", "predicted", "actual", "predicted / actual"):
        table.add_column(name, justify="left" if name in ("kind", "step", "figure") else "right")
    for kind, packing in PACKINGS.items():
        job = plan_job(args.images, args.px, key, kind=kind, obfuscator="djn", executor=executor, **packing)
        for row in compare(job, key, packing):
            table.add_row(kind, *row)
    Console().print(table)


def compare(job: Job, key: PrivateKey, packing: dict[str, int]) -> list[tuple[str, ...]]:
    """Predict a job, run it, and give rows of the table."""
    steps = {step.name: step for step in estimate(job)}
    source = job.plan.source
    images = np.random.default_rng(1).integers(0, 256, (source.num_images, source.height, source.width), np.uint8)
    with tempfile.TemporaryDirectory(prefix="ppdl-benchmark-") as folder:
        out = Path(folder) / "artifact"

        def encrypt() -> None:
            write_ciphertext_artifact(
                out,
                kind=job.kind,
                images=images,
                public_key=key.public,
                obfuscator=job.obfuscator,
                protection=Protection("benchmark", {}),
                confidential=True,
                reason="a fresh obfuscator for each ciphertext",
                partial_dir=Path(folder) / "partial",
                executor=job.executor,
                **packing,
            )

        def decrypt() -> None:
            for first, block in decrypt_images(open_artifact(out), key, num_threads=job.executor.workers):
                if not np.array_equal(block, images[first : first + len(block)]):
                    raise RuntimeError(f"images from {first} on decrypt to other pixels")

        actual = {"encrypt": timed(encrypt), "decrypt": timed(decrypt)}
        size = sum(path.stat().st_size for path in out.glob("*.npy"))
    rows = []
    for name, (wall_s, core_s) in actual.items():
        for figure, predicted, found in (("wall s", steps[name].wall_s, wall_s), ("core s", steps[name].core_s, core_s)):
            rows.append((name, figure, f"{predicted:.2f}", f"{found:.2f}", f"{predicted / found:.3f}"))
    rows.append(("encrypt", "bytes", f"{steps['encrypt'].bytes}", f"{size}", f"{steps['encrypt'].bytes / size:.3f}"))
    return rows


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Measure wall and CPU seconds, worker processes included (they have ended by then)."""
    start, core_start = time.perf_counter(), core_seconds()
    function()
    return time.perf_counter() - start, core_seconds() - core_start


if __name__ == "__main__":
    main()
