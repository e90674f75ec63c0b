"""The table of schemes, with the verdict that an audit should give, by the literature or by plain reasoning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from tests.audit.schemes import classical, learnable, lossy, pads, standard
from tests.audit.schemes.films import noise

BROKEN, LEAKY, UNBROKEN = "broken", "leaky", "unbroken"


class Scheme(NamedTuple):
    """A published scheme: `protect(images, rng)`, where rng draws the key, and what is to be expected.

    Attributes:
        alone: verdict with public images of other people only.
        known: verdict with 20 known images.
        reason: for these.
        decrypts: whether `protect(..., decrypt=True)` with the same key gives the images back.
    """

    protect: Callable[..., np.ndarray]
    alone: str
    known: str
    reason: str
    decrypts: bool = True


def _lossy(protect: Callable[..., np.ndarray], alone: str, known: str, reason: str) -> Scheme:
    return Scheme(protect, alone, known, reason, decrypts=False)


_XOR_PAD = "a two-time pad: Mason et al. 2006 recover the plaintexts from ciphertexts of one keystream; one known image gives the pad"
_ADDED_PAD = "a two-time pad: differences of images; what all images share at a place is one with the pad. One known image gives it"
_ONE_TIME = "Shannon 1949: perfect"
_STANDARD = "indistinguishable from random bits, as far as anybody knows"

SCHEMES: dict[str, Scheme] = {
    # sound
    "noise": _lossy(noise, UNBROKEN, UNBROKEN, "holds nothing"),
    "xor_fresh": Scheme(partial(pads.xor_pad, fresh=True), UNBROKEN, UNBROKEN, _ONE_TIME),
    "added_fresh": Scheme(partial(pads.added_pad, fresh=True), UNBROKEN, UNBROKEN, _ONE_TIME),
    "aes_cbc_fresh": Scheme(partial(standard.blocks_encrypted, mode="CBC"), UNBROKEN, UNBROKEN, _STANDARD),
    "aes_ctr_fresh": Scheme(partial(standard.blocks_encrypted, mode="CTR"), UNBROKEN, UNBROKEN, _STANDARD),
    "aes_gcm_fresh": Scheme(partial(standard.blocks_encrypted, mode="GCM"), UNBROKEN, UNBROKEN, _STANDARD),
    "paillier_fresh": _lossy(partial(standard.paillier, obfuscators="fresh"), UNBROKEN, UNBROKEN, "Paillier 1999: IND-CPA"),
    # one keystream for all images
    "xor_one_pad": Scheme(partial(pads.xor_pad, fresh=False), BROKEN, BROKEN, _XOR_PAD),
    "added_one_pad": Scheme(partial(pads.added_pad, fresh=False), LEAKY, BROKEN, _ADDED_PAD),
    "added_257_one_pad": Scheme(partial(pads.added_pad, fresh=False, modulus=257), LEAKY, BROKEN, _ADDED_PAD),
    "xor_short_key": Scheme(pads.short_key, BROKEN, BROKEN, "Kasiski 1863, Friedman 1922: read from ciphertexts alone"),
    "aes_ctr_one_nonce": Scheme(partial(standard.blocks_encrypted, mode="CTR", fresh=False), BROKEN, BROKEN, _XOR_PAD),
    "aes_gcm_one_nonce": Scheme(partial(standard.blocks_encrypted, mode="GCM", fresh=False), BROKEN, BROKEN, _XOR_PAD),
    "logistic_one_key": Scheme(partial(pads.logistic_xor, fresh=False), BROKEN, BROKEN, _XOR_PAD),
    "lorenz_feedback": Scheme(pads.lorenz_feedback, LEAKY, BROKEN, "Wang et al. 2005: undone by XOR with the pixel before, then as a pad"),
    "henon_shuffle_xor": Scheme(pads.henon_shuffle_xor, LEAKY, BROKEN, "pixels that vary together; Li et al. 2008 for known images"),
    "dna_addition": Scheme(classical.dna_addition, LEAKY, BROKEN, "bit pairs are substituted place by place; Hermassi et al. 2014"),
    # a keystream that is not uniform
    "logistic_leading_fresh": Scheme(
        partial(pads.logistic_xor, fresh=True, leading=True),
        LEAKY,
        LEAKY,
        "Alvarez and Li 2006: 8 % of the bytes are 0 or 255, the image shows",
    ),
    # equal blocks
    "aes_ecb": Scheme(partial(standard.blocks_encrypted, mode="ECB"), LEAKY, LEAKY, "SP 800-38A: equal blocks; here those of the border"),
    "3des_ecb": Scheme(partial(standard.blocks_encrypted, mode="ECB", cipher="3DES"), LEAKY, LEAKY, "as AES, 8 pixels a block"),
    "aes_cbc_one_iv": Scheme(
        partial(standard.blocks_encrypted, mode="CBC", fresh=False), LEAKY, LEAKY, "SP 800-38A: equal beginnings; here the borders above"
    ),
    # substitution and linear maps
    "substituted": Scheme(partial(classical.substituted, fresh=False), BROKEN, BROKEN, "seriation; known images are a dictionary"),
    "substituted_fresh": Scheme(partial(classical.substituted, fresh=True), BROKEN, BROKEN, "seriation of one image alone"),
    "hill": Scheme(classical.hill, LEAKY, BROKEN, "Stinson 1995: linear; equal blocks stay equal"),
    # permutation
    "permuted": Scheme(
        partial(classical.permuted, fresh=False), BROKEN, BROKEN, "neighbours vary together; Li et al. 2008 for known images"
    ),
    "permuted_fresh": Scheme(partial(classical.permuted, fresh=True), LEAKY, LEAKY, "the histogram stays"),
    "arnold": Scheme(classical.arnold, BROKEN, BROKEN, "Dyson and Falk 1992: few keys; and as any permutation"),
    # learnable, and encryption before compression
    "block_scrambling": _lossy(learnable.block_scrambling, BROKEN, BROKEN, "Chuman et al. 2018: jigsaw, over all images at once"),
    "block_scrambling_fresh": _lossy(
        partial(learnable.block_scrambling, one_key=False),
        LEAKY,
        LEAKY,
        "Chuman et al. 2018: put together in part; blocks are in the clear",
    ),
    "learnable": Scheme(learnable.learnable, LEAKY, BROKEN, "coarse structure is kept, so that networks learn; Chang and Case 2020"),
    "negative_positive": Scheme(learnable.negative_positive, BROKEN, BROKEN, "Chang and Case 2020; signs of neighbours vary together"),
    "negative_positive_colour": _lossy(learnable.negative_positive_colour, BROKEN, BROKEN, "as negative_positive"),
    "negative_positive_fresh": Scheme(
        partial(learnable.negative_positive, one_key=False), LEAKY, LEAKY, "the distance from middle gray is in the clear"
    ),
    # a part in the clear
    "msb_only": Scheme(partial(learnable.bit_planes, mask=0x80), LEAKY, LEAKY, "Podesser et al. 2002: seven planes are in the clear"),
    "four_planes": Scheme(
        partial(learnable.bit_planes, mask=0xF0), LEAKY, LEAKY, "four planes are in the clear, and black borders in them"
    ),
    "low_planes": Scheme(partial(learnable.bit_planes, mask=0x0F), BROKEN, BROKEN, "the picture is in the upper planes"),
    "dct_signs": Scheme(
        partial(learnable.dct_signs, fresh=False), LEAKY, BROKEN, "sizes are in the clear, Said 2005; known images give signs"
    ),
    "dct_signs_fresh": Scheme(partial(learnable.dct_signs, fresh=True), LEAKY, LEAKY, "sizes are in the clear, Said 2005"),
    # lossy
    "instahide": _lossy(lossy.instahide, LEAKY, LEAKY, "Carlini et al. 2021; a mean of images under signs"),
    "downscaled_2": _lossy(partial(lossy.downscaled, factor=2), BROKEN, BROKEN, "the image at half the size"),
    "downscaled_8": _lossy(partial(lossy.downscaled, factor=8), LEAKY, LEAKY, "its outlines"),
    "noisy_8": _lossy(partial(lossy.noisy, sigma=8), BROKEN, BROKEN, "the image with a little noise"),
    "noisy_32": _lossy(partial(lossy.noisy, sigma=32), LEAKY, LEAKY, "shows; a filter takes noise off"),
    "noisy_128": _lossy(partial(lossy.noisy, sigma=128), LEAKY, LEAKY, "means over 8 x 8 pixels have noise of 16"),
    "noisy_8192": _lossy(partial(lossy.noisy, sigma=8192), UNBROKEN, UNBROKEN, "64 x 64 px of contrast 65 are half a standard deviation"),
    # Paillier
    "paillier_one": _lossy(partial(standard.paillier, obfuscators="one"), BROKEN, BROKEN, "c = 1 + m n; a substitution to the rest"),
    "paillier_shared": _lossy(partial(standard.paillier, obfuscators="shared"), BROKEN, BROKEN, "equal pixels are equal: a substitution"),
    "paillier_scaled": _lossy(
        lambda images, rng: standard.paillier_without_randomness(images), BROKEN, BROKEN, "c = 1 + m n, scaled: the image itself"
    ),
}
