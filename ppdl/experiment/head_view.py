"""What an attacker sees of private inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppdl.audit.examination.base import Target
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.experiment.training.head_run import HeadRun
from ppdl.private_head.head import BACKBONE_FILE, load_public_head
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
