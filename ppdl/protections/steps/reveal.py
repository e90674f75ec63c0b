"""The key holder: check what the compute side computed, decrypt it, and write what the trainer may see.

`Reveal.write` must not become a decryption oracle, so it decrypts nothing before all of this holds:

1. The filters are on the key holder's own list. The artifact only says which of them it claims; the weights come from the list.
   All that is on the list and all that was ever revealed under the key leave pixels open, and the ledger says so
   (ppdl.protections.steps.ledger).
2. The outputs claim to be computed from the source's artifact that lies here: its header's digest, key, canary, sizes and packing.
3. Fingerprint and canary fit the private key.
4. A random sample of the outputs (all of them by default), computed again from the source's ciphertexts, has the same bytes.

After decryption, outputs that pixels cannot give are refused as well: the source's plaintexts were no pixels. Clipping and noise come
before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ppdl.crypto.artifact.reading import Artifact, open_artifact
from ppdl.crypto.decrypt import decrypt_planes
from ppdl.crypto.keys.keystore import require_private
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.protections.steps.disclosure import Disclosure
from ppdl.protections.steps.filters import (
    APPROVED_FILE,
    Filters,
    approved_filters,
    claimed_filters,
    filters_sha256,
    load_approved,
    parse_approved,
)
from ppdl.protections.steps.ledger import open_ledger, outputs_on
from ppdl.protections.steps.noise import NoiseSecret, load_noise_secret
from ppdl.protections.steps.recheck import Recheck, check_fraction, check_origin, check_outputs, recheck
from ppdl.protections.steps.release import SCALE, Release, check_release
from ppdl.protections.steps.revealed import RevealedHeader, RevealedWriter
from ppdl.protections.steps.stem import header_sha256, stride_of

if TYPE_CHECKING:
    from ppdl.protections.context import Context

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reveal:
    """Reveal the outputs of approved filters.

    Args:
        approved: what the key holder approves, a list of `filters`, `channels`, `weight_bits` each. A file `approved.json`
            beside the private keys takes its place, so that a change of the project cannot change it. Once it was there for a key,
            or roles were apart, this list never counts for that key again (ppdl.protections.steps.ledger).
        check_fraction: fraction of the outputs that is computed again, (0, 1].
        clip, clip_detail, noise: see `Release`.

    Raises:
        ConfigError: a value breaks its rule.
    """

    approved: Sequence[Mapping[str, Any]]
    check_fraction: float
    clip: float
    clip_detail: float
    noise: float

    def __post_init__(self) -> None:
        if not parse_approved(self.approved):
            raise ConfigError("approved must list the filters whose outputs may be decrypted, got none")
        check_fraction(self.check_fraction)
        check_release(self.clip, self.clip_detail, self.noise)

    def write(self, source_dir: Path, sums_dir: Path, out_dir: Path, context: Context) -> tuple[RevealedHeader, Disclosure]:
        """Check, decrypt, clip, add noise, write; an interrupted run goes on where it stopped, after checking again.

        Args:
            source_dir: the artifact of the sources, from them and not from the compute side.
            sums_dir: what the compute side made of it.
            out_dir: a new or empty folder, for the trainer.
            context: says where the private key lies. Workers of its executor check in processes, without that key; this process decrypts,
                in threads.

        Returns:
            The header of the view, and what all outputs that were revealed or approved under the key tell together.

        Raises:
            ArtifactError: outputs that are not what the approved filters gave on the source's artifact, another key, damage.
            ConfigError: filters that may not be approved, or values that do not fit.
            KeyStoreError: private key, the owner's list, ledger or secret are not here or cannot be used.

        Cost: decrypting one ciphertext for each filter and (key_bits - 8) // slot_bits patches, 2.6 ms at 2048 bits and 8 ms at
            3072 on one core; checking all outputs adds 0.4 %, 2 % and 7 % at stride 2, 4 and 8 (3072 bits, three filters).
        """
        if (holder := context.key_holder) is None:
            raise KeyStoreError("to reveal takes the private key, and the context of this step names no key holder")
        private_dir, project = holder.private_dir, holder.project
        private_key = require_private(context.public_key, private_dir)
        source, sums = open_artifact(source_dir), open_artifact(sums_dir)
        with open_ledger(private_dir, private_key.public.fingerprint, project=project) as ledger:
            if (Path(private_dir) / APPROVED_FILE).exists():
                ledger.require_own_list()
            approved = load_approved(private_dir) if ledger.own_list else parse_approved(self.approved)
            weights = _approved_weights(sums, stride_of(source), approved)
            check_origin(source, sums, weights, private_key)
            size = source.header.source
            revealed = outputs_on(size.height, size.width, source.header.stride, weights)
            disclosed = ledger.admit(revealed, approved)
        check = recheck(
            source,
            sums,
            weights,
            public_key=private_key.public,
            fraction=self.check_fraction,
            executor=context.executor,
            progress=context.progress,
        )
        logger.debug("%s: %s", sums.path, check)
        release = Release(weights, self.clip, self.clip_detail, self.noise)
        secret = load_noise_secret(private_dir, project=project) if self.noise else None
        header = self._header(source, sums, release, check, secret)
        with RevealedWriter(context.partial_dir, out_dir, header) as writer:
            bar = tqdm(total=sums.header.num_ciphertexts, desc="reveal", unit="ciphertext", disable=not context.progress)
            with bar:
                for shard in sums.header.data_shards:
                    if shard.first_image in writer.done:
                        bar.update(shard.shape[0])
                        continue
                    outputs = decrypt_planes(sums, private_key, shard, num_threads=context.executor.threads, on_ciphertexts=bar.update)
                    check_outputs(sums.path / shard.file, outputs, weights)
                    writer.add(shard.first_image, release.reveal(outputs, secret))
            return writer.finish(), disclosed

    def _header(self, source: Artifact, sums: Artifact, release: Release, check: Recheck, secret: NoiseSecret | None) -> RevealedHeader:
        """Say what will be revealed; the digest of the view comes when it is written."""
        params = source.header.protection.params | {"stem": sums.header.protection.params["stem"], "reveal": self._params()}
        images, packing = source.header.source, sums.header.packed_as
        return RevealedHeader(
            protection=source.header.protection.name,
            params=params,
            key_fingerprint=source.header.key.fingerprint,
            key_bits=source.header.key.key_bits,
            source_sha256=header_sha256(source),
            sums_sha256=header_sha256(sums),
            num_ciphertexts=source.header.num_ciphertexts,
            source_bytes=source.header.total_bytes,
            sums_bytes=sums.header.total_bytes,
            source_pixels=images.num_images * images.height * images.width,
            filters=release.weights.tolist(),
            centre=release.centre.tolist(),
            limit=release.limit.tolist(),
            sigma=release.sigma.tolist(),
            noise_secret=secret.identifier if secret else None,
            num_columns=check.num_columns,
            num_checked=check.num_checked,
            shape=[images.num_images, packing.plane_height, packing.plane_width, packing.planes],
            scale=SCALE,
            offset=0.0,
            view_sha256="",
        )

    def _params(self) -> dict[str, Any]:
        return asdict(self) | {"approved": [filters.spec() for filters in parse_approved(self.approved)]}


def _approved_weights(sums: Artifact, stride: int, approved: Sequence[Filters]) -> np.ndarray:
    """Return the weights of the filters that `sums` claims, from the key holder's list."""
    weights = approved_filters(approved, stride)
    params = sums.header.protection.params
    claimed = claimed_filters(params, sums.path)
    digest = params.get("filters_sha256")
    if digest not in weights:
        raise ArtifactError(
            f"{sums.path}: computed with the filters {claimed.spec()}, which the key holder has not approved at stride {stride}. "
            "Nothing was decrypted. Run the stem with approved filters; only the key holder adds to the list"
        )
    if filters_sha256(claimed.matrix(stride)) != digest:
        raise ArtifactError(f"{sums.path}: the header names other filters than its digest does: it was edited; run the stem again")
    return weights[digest]
