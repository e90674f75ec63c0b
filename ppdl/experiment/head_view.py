"""What an attacker sees of private inference, and of a head that several hospitals trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppdl.audit.examination.base import Target
from ppdl.audit.pool.films import Films
from ppdl.audit.pool.published import PublishedHead
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.experiment.training.head_run import HeadRun
from ppdl.pooling.ridge import solve
from ppdl.pooling.sums import sums_of
from ppdl.private_head.head import BACKBONE_FILE, LARGEST_FEATURE, QuantisedHead, load_public_head, spread_floor
from ppdl.protections.schemes.opaque import as_squares, bytes_side


def server_view(run: HeadRun, public_key: PublicKey) -> Any:
    """Return what the server holds of images of anybody's choice, (num_images, px, px) uint8: a function to a Target.

    Requests for single images, as any client sends them: everybody who has the public key can.
    """
    from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
    from ppdl.crypto.inner_product.single import InnerPacking, encrypt_features
    from ppdl.training.networks.features import load_extractor

    head, source = load_public_head(run.trained), build_obfuscators(public_key)
    packing = InnerPacking(public_key.key_bits, head.num_features, mask_bits=run.node.inference.mask_bits)
    extract = load_extractor(run.trained / BACKBONE_FILE, sha256=head.backbone["sha256"])

    def see(images: np.ndarray) -> Target:
        distinct, places = np.unique(images, axis=0, return_inverse=True)
        features = head.quantise(extract(distinct))[places.ravel()]
        ciphertexts = np.stack([encrypt_features(public_key, row, packing, obfuscators=source) for row in features])
        side = bytes_side(ciphertexts[0].size)
        return Target(
            name=run.name,
            num_images=len(images),
            height=images.shape[1],
            width=images.shape[2],
            ciphertexts=ciphertexts,
            public_key=public_key,
            picture=as_squares(ciphertexts, side),
        )

    return see


def published_head(
    head: QuantisedHead, candidates: Films, *, num_films: int, strengths: Sequence[float], feature_bits: int
) -> PublishedHead:
    """Return what an attacker with candidates makes of a pooled head. The strength, which is not published, it guesses as the key holder
    chose it: by generalised cross-validation, on the candidates.

    Args:
        num_films: of all hospitals, as they declared them. strengths, feature_bits: in the terms of the run.
    """
    step = (2**feature_bits - 1) / LARGEST_FEATURE  # of a feature of the head, in those of the films
    total = sums_of(candidates.features, candidates.labels, num_classes=head.num_classes, feature_bits=feature_bits)
    spread, strength = candidates.features.std(axis=0), solve(total, strengths)[-1]
    return PublishedHead(
        weights=head.weights * (head.logit_scale / step),
        bias=head.bias * head.logit_scale,
        step=head.logit_scale / step,
        bias_step=head.logit_scale,
        penalty=strength * num_films * np.maximum(spread, spread_floor(spread)) ** 2,
        num_films=num_films,
    )
