"""Check outputs of filters before and after decryption, so that the key holder reveals nothing but what the approved filters gave.

Outputs are a deterministic function of the source's ciphertexts, so they can be computed again and compared byte by byte. That goes column
by column: a column of outputs is one ciphertext of every filter, computed from one ciphertext of every place in the patches. The columns of
a sample are drawn without replacement by the operating system's randomness, after the outputs are fixed: nobody can know which.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ppdl.crypto.arithmetic.linear import LinearPlan, plan_linear
from ppdl.crypto.arithmetic.packing import check_linear_bound
from ppdl.crypto.artifact.fields import Shard
from ppdl.crypto.artifact.reading import Artifact
from ppdl.crypto.artifact.shards import read_shard
from ppdl.crypto.encryption.canary import open_canary
from ppdl.errors import ArtifactError, ConfigError, CryptoError
from ppdl.protections.steps.filters import LARGEST_PIXEL, output_range
from ppdl.protections.steps.stem import SUMS_KIND, columns, filter_planes, header_sha256

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
    from ppdl.crypto.workers.parallel import Executor


@dataclass(frozen=True)
class Recheck:
    """Say how many columns of outputs there are and how many were computed again, all equal."""

    num_columns: int
    num_checked: int

    def detection(self, num_substituted: int) -> float:
        """Return the probability that a check of this size finds at least one of `num_substituted` wrong columns.

        One minus the hypergeometric probability of drawing none: 1 - C(N - m, k) / C(N, k).
        """
        missed = 1.0
        for i in range(num_substituted):
            missed *= max(self.num_columns - self.num_checked - i, 0) / (self.num_columns - i)
        return 1 - missed

    def __str__(self) -> str:
        percent = -(-self.num_columns // 100)
        return (
            f"{self.num_checked} of {self.num_columns} columns of outputs computed again, all equal; a check of this size finds a single "
            f"substituted column with probability {self.detection(1):.4f}, {percent} (1 %) with {self.detection(percent):.6f}"
        )


def check_fraction(fraction: float) -> None:
    """Raise ConfigError unless `fraction` is a fraction of the outputs that can be checked."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 < fraction <= 1:
        raise ConfigError(f"check_fraction must be above 0 and at most 1 (all outputs), got {fraction!r}")


def recheck(
    source: Artifact,
    sums: Artifact,
    weights: np.ndarray,
    *,
    public_key: PublicKey,
    fraction: float,
    executor: Executor,
    progress: bool = True,
) -> Recheck:
    """Compute a random sample of `sums` again from `source`.

    Args:
        source, sums: artifacts whose shards hold the same images.
        weights: the approved filters, (num_filters, stride * stride).
        fraction: of the columns; 1 checks all.

    Raises:
        ArtifactError: an output is not what the filters give. Nothing has been decrypted then.

    Cost: that of the stem, times `fraction`, and reading both artifacts once.
    """
    counts = [shard.shape[0] // source.header.packed_as.planes for shard in source.header.data_shards]
    check = Recheck(sum(counts), min(int(np.ceil(fraction * sum(counts))), sum(counts)))
    chosen = np.sort(secrets.SystemRandom().sample(range(check.num_columns), check.num_checked))
    tasks = _tasks(source, sums, chosen, counts, plan_linear(weights), public_key)
    with tqdm(total=check.num_checked, desc="recheck", unit="column", disable=not progress) as bar:
        for file, column, count in executor.map_unordered(first_difference, tasks):
            if column is not None:
                raise ArtifactError(
                    f"{sums.path / file}: column {column} is not what the approved filters give on {source.path}: the outputs were "
                    "substituted or damaged. Nothing was decrypted; take them from another compute side, or run the stem again"
                )
            bar.update(count)
    return check


@dataclass(frozen=True)
class RecheckTask:
    """Hold what a worker needs to check columns of one shard: paths and public values. Not the headers, which grow with the shards."""

    source_dir: Path
    sums_dir: Path
    source_shard: Shard
    sums_shard: Shard
    planes: tuple[int, int]
    columns: np.ndarray
    plan: LinearPlan
    public_key: PublicKey


def _tasks(
    source: Artifact, sums: Artifact, chosen: np.ndarray, counts: list[int], plan: LinearPlan, public_key: PublicKey
) -> Iterator[RecheckTask]:
    begin, planes = 0, (source.header.packed_as.planes, sums.header.packed_as.planes)
    for inputs, outputs, count in zip(source.header.data_shards, sums.header.data_shards, counts, strict=True):
        here = chosen[np.searchsorted(chosen, begin) : np.searchsorted(chosen, begin + count)] - begin
        if len(here):
            yield RecheckTask(source.path, sums.path, inputs, outputs, planes, here, plan, public_key)
        begin += count


def first_difference(task: RecheckTask) -> tuple[str, int | None, int]:
    """Return the file, its first wrong column if any, and how many were checked (in a worker)."""
    path = task.source_dir / task.source_shard.file
    inputs = columns(read_shard(path, task.source_shard), task.planes[0])[:, task.columns]
    found = columns(read_shard(task.sums_dir / task.sums_shard.file, task.sums_shard), task.planes[1])[:, task.columns]
    expected = filter_planes(path, inputs, task.plan, task.public_key)
    wrong = np.flatnonzero((expected != found).any(axis=(0, 2)))
    return task.sums_shard.file, int(task.columns[wrong[0]]) if len(wrong) else None, len(task.columns)


def check_origin(source: Artifact, sums: Artifact, weights: np.ndarray, private_key: PrivateKey) -> None:
    """Check everything about outputs that needs no recomputation: that they claim this source, and fit it and the private key.

    Raises:
        ArtifactError: another source, an older artifact, another key, or a header that contradicts itself.
    """
    found, expected = sums.header, source.header
    if found.kind != SUMS_KIND:
        raise ArtifactError(f"{sums.path}: outputs of a stem are an artifact of kind {SUMS_KIND!r}, found {found.kind!r}; run the stem")
    source.check_key(private_key.public)
    sums.check_key(private_key.public)
    claimed, digest = found.protection.params.get("source_header_sha256"), header_sha256(source)
    if claimed != digest:
        raise ArtifactError(
            f"{sums.path}: computed from the artifact with header {claimed}, and {source.path} has {digest}: the outputs of another or of "
            "an older artifact. Nothing was decrypted; run the stem again on this one"
        )
    same = {
        "canary": (found.canary, expected.canary),
        "source": (found.source, expected.source),
        "key": (found.key, expected.key),
        "packing": (found.packing, replace(expected.packed_as, planes=len(weights))),
        "images of the shards": (_images(sums), _images(source)),
    }
    if wrong := [name for name, (ours, theirs) in same.items() if ours != theirs]:
        raise ArtifactError(f"{sums.path}: {', '.join(wrong)} must be as in {source.path}, found others: the header was edited")
    try:
        open_canary(private_key, expected)
        check_linear_bound(weights, LARGEST_PIXEL, expected.packed_as.slot_bits)
    except (ArtifactError, CryptoError) as error:
        raise ArtifactError(f"{source.path}: {error}") from None


def _images(artifact: Artifact) -> list[tuple[int, int]]:
    return [(shard.first_image, shard.num_images) for shard in artifact.header.data_shards]


def check_outputs(path: Path, outputs: np.ndarray, weights: np.ndarray) -> None:
    """Raise ArtifactError when decrypted outputs (num_images, channels, height, width) are none that pixels 0..255 can give."""
    low, high = output_range(weights)
    outside = (outputs < low[:, None, None]) | (outputs > high[:, None, None])
    if outside.any():
        raise ArtifactError(
            f"{path}: {int(outside.sum())} outputs lie outside what the filters can give on pixels 0..255: the source encrypted no "
            "pixels, or its ciphertexts were changed; nothing was revealed"
        )
