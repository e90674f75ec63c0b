"""Measure the peak resident memory of encrypting an artifact, worker processes included, for benchmarks.crypto."""

import contextlib
import multiprocessing
import time
from pathlib import Path

import numpy as np
import psutil

from ppdl.crypto.keys.keypair import PublicKey, generate_keypair

IMAGE_PX = 48


def rows(key_bits: int, num_images: list[int], folder: Path) -> list[tuple[str, str]]:
    """Return a row for each number of images: peak memory, wall time, bytes a pixel on disk."""
    public_key = generate_keypair(key_bits).public
    found, peaks = [], []
    for count in num_images:
        images_path, out_dir = folder / f"images-{count}.npy", folder / f"artifact-{count}"
        images = np.lib.format.open_memmap(images_path, mode="w+", dtype=np.uint8, shape=(count, IMAGE_PX, IMAGE_PX))
        for start in range(0, count, 1000):
            images[start : start + 1000] = np.random.default_rng(start).integers(0, 256, images[start : start + 1000].shape, np.uint8)
        images.flush()
        del images
        peak, anonymous, seconds = _peak(public_key, images_path, out_dir)
        size = sum(path.stat().st_size for path in out_dir.rglob("*") if path.is_file()) / (count * IMAGE_PX**2)
        peaks.append(peak)
        speed = f"{count * IMAGE_PX**2 / 1e6 / seconds:.2f} Mpx/s wall, {size:.4f} bytes a pixel"
        text = f"peak {peak / 2**20:.0f} MiB ({anonymous / 2**20:.0f} without mapped files), {speed}"
        found.append((f"encrypt {count} images of {IMAGE_PX} px", text))
    found.append(("peak memory, last over first", f"{peaks[-1] / peaks[0]:.3f}"))
    return found


def _peak(public_key: PublicKey, images_path: Path, out_dir: Path) -> tuple[int, int, float]:
    """Return the peaks of resident memory and of its part that no file backs, in bytes, and wall seconds."""
    process = multiprocessing.get_context("spawn").Process(target=encrypt, args=(public_key, images_path, out_dir))
    start, peak, anonymous = time.perf_counter(), 0, 0
    process.start()
    watched = psutil.Process(process.pid)
    while process.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = [p.memory_info() for p in (watched, *watched.children(recursive=True))]
            peak = max(peak, sum(m.rss for m in memory))
            anonymous = max(anonymous, sum(m.rss - getattr(m, "shared", 0) for m in memory))
        process.join(0.05)
    if process.exitcode:
        raise RuntimeError(f"encrypting {images_path} failed with exit code {process.exitcode}")
    return peak, anonymous, time.perf_counter() - start


def encrypt(public_key: PublicKey, images_path: Path, out_dir: Path) -> None:
    """Write a dense artifact with two workers (in a process of its own)."""
    from ppdl.crypto.artifact.header import Protection
    from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
    from ppdl.crypto.workers.parallel import Executor

    write_ciphertext_artifact(
        out_dir,
        kind="dense",
        images=np.load(images_path, mmap_mode="r"),
        public_key=public_key,
        obfuscator="djn",
        protection=Protection("benchmark", {}),
        confidential=True,
        reason="a fresh obfuscator for each ciphertext",
        partial_dir=out_dir.with_name(out_dir.name + "-partial"),
        executor=Executor(num_workers=2, shard_mib=4, min_shards=16, table_mib=512),
        progress=False,
    )
