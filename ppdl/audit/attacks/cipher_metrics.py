"""The figures that papers on image encryption report, with their ideal values, and what they do not prove."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.attacks.as_is import at_size, gray_rows, likeness
from ppdl.audit.examination import base
from ppdl.records.typecheck import Count

# Of two independent images of uniform bytes: 255/256 of pixels differ, by (256 + 1) / (3 * 256) of the range 0..255 on the average.
IDEAL_NPCR, IDEAL_UACI = 100 * 255 / 256, 100 * 257 / 768
CHI_SQUARE_5_PERCENT = 293.2478  # point of the chi-square distribution with 255 degrees of freedom that noise exceeds in 5 % of images
NOTE = (
    "These figures say how like noise a picture looks, not whether it can be read: an image XORed with one fixed random mask for the whole "
    "set has ideal entropy and correlation, and two such images give their difference away; one pixel changed changes a single pixel "
    "under any substitution of pixels, and under secure encryption everything, even with no change at all. No verdict is derived from them."
)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Hold figures of the picture, the rows measured, and what stands for each of their pixels (None: nothing does)."""

    figures: dict[str, Any]
    rows: np.ndarray
    symbols: np.ndarray | None
    rng: np.random.Generator


@dataclass(frozen=True)
class CipherMetrics(base.Attack):
    """Measure the picture of the ciphertexts; no attack, and never a success.

    Of each image, then averaged: `entropy` of its histogram in bits (ideal for its number of pixels: 8 less the bias of a finite sample),
    `correlation_h`, `_v`, `_d` of neighbours, `chi_square` of its histogram against a uniform one (noise: 255, above 293.25 in 5 %).

    `npcr`, `uaci`: percentage of the picture's pixels that change, and by how much of the range, when one pixel of the image changes by
    one gray level. Both images are protected in one call, as two images of one set are: two calls would draw a new obfuscator each, and
    the change of that would be taken for diffusion. Under randomised encryption both figures are ideal for that reason alone.

    `key_sensitivity`: NPCR between the picture of one image under two keys, where the target can change its key.

    `mutual_information`: bits that what stands at a pixel's place says about the pixel, where something does. Estimated by counting, so it
    is above 0 for independent ones too: `mutual_information_shuffled` is the same after the pixels changed places.

    Attributes:
        num_scored: images measured.

    Source: NPCR, UACI: Y. Wu, J. P. Noonan and S. Agaian, "NPCR and UACI randomness tests for image encryption", JSAT 1(2), 2011. What
    they are worth: M. Preishuber et al., "Depreciating motivation and empirical security analysis of chaos-based image and video
    encryption", IEEE TIFS 13(9), 2018.
    """

    num_scored: Count

    name: ClassVar[str] = "cipher_metrics"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    wants: ClassVar[frozenset[str]] = frozenset({base.ENCRYPT, base.REKEY, base.SYMBOLS, base.PRIOR})
    knowledge: ClassVar[str] = "the protected images as pictures"
    source: ClassVar[str] = "Y. Wu, J. P. Noonan and S. Agaian, NPCR and UACI randomness tests for image encryption, 2011"

    def run(self, target: base.Target, rng: np.random.Generator) -> _Measured:
        """Measure all that needs no original."""
        rows = base.scored_rows(target.num_images, self.num_scored)
        images = gray_rows(target.picture, rows)
        figures = _of_pictures(images)
        chosen = _chosen_image(target, rng)
        if target.encrypt is not None:
            changed = chosen.copy()
            changed[target.height // 2, target.width // 2] ^= 1
            one, other = gray_rows(target.encrypt(np.stack([chosen, changed])).picture, np.arange(2))
            figures |= {"npcr": npcr(one, other), "uaci": uaci(one, other)}
        if target.rekey is not None:
            one, other = (gray_rows(target.rekey(chosen[None]).picture, np.arange(1))[0] for _ in range(2))
            figures |= {"key_sensitivity": npcr(one, other)}
        symbols = None
        if target.symbols is not None:
            symbols = np.asarray(target.symbols.array[rows])
        elif images.shape[1:] == (target.height, target.width):
            symbols = images
        return _Measured(figures, rows, symbols, rng)

    def score(self, guess: _Measured, truth: base.Truth) -> base.Finding:
        """Add what needs the truth, the ideal values and the note."""
        figures = guess.figures
        if guess.symbols is not None:
            figures = figures | information(np.asarray(truth.images[guess.rows]), guess.symbols, guess.rng)
        return base.Finding({**figures, "num_scored": len(guess.rows), "note": NOTE})


def npcr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the number of pixels change rate of two uint8 images, in percent (Wu et al. 2011)."""
    return float(100 * np.mean(one != other))


def uaci(one: np.ndarray, other: np.ndarray) -> float:
    """Return the unified averaged changed intensity of two uint8 images, in percent (Wu et al. 2011)."""
    return float(100 * np.mean(np.abs(one.astype(np.int16) - other)) / 255)


def information(pixels: np.ndarray, symbols: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the mutual information in bits of pixels and what stands at their places, and the same for shuffled pixels."""
    _, codes = np.unique(symbols, return_inverse=True)
    pixels, codes = pixels.ravel().astype(np.int64), codes.ravel().astype(np.int64)
    alone = entropy(np.bincount(pixels)) + entropy(np.bincount(codes))

    def shared(these: np.ndarray) -> float:
        return max(alone - entropy(np.unique(codes * 256 + these, return_counts=True)[1]), 0.0)

    return {"mutual_information": shared(pixels), "mutual_information_shuffled": shared(rng.permutation(pixels))}


def _of_pictures(images: np.ndarray) -> dict[str, Any]:
    counts = np.stack([np.bincount(image.ravel(), minlength=256) for image in images])
    size = images[0].size
    values = images.astype(np.float64)
    return {
        "entropy": float(np.mean([entropy(row) for row in counts])),
        "correlation_h": float(np.mean([likeness(v[:, :-1], v[:, 1:]) for v in values])),
        "correlation_v": float(np.mean([likeness(v[:-1], v[1:]) for v in values])),
        "correlation_d": float(np.mean([likeness(v[:-1, :-1], v[1:, 1:]) for v in values])),
        "chi_square": float(((counts - size / 256) ** 2 / (size / 256)).sum(1).mean()),
        "ideal": {
            "entropy": 8 - 255 / (2 * size * np.log(2)),  # first-order bias of a sample's entropy, Miller 1955
            "correlation": 0.0,
            "chi_square": 255.0,
            "chi_square_5_percent": CHI_SQUARE_5_PERCENT,
            "npcr": IDEAL_NPCR,
            "uaci": IDEAL_UACI,
            "mutual_information": 0.0,
            "key_sensitivity": IDEAL_NPCR,
        },
    }


def entropy(counts: np.ndarray) -> float:
    """Return the entropy of a histogram in bits."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _chosen_image(target: base.Target, rng: np.random.Generator) -> np.ndarray:
    """Return an image to encrypt: a public one, or one of random pixels."""
    if target.prior is None:
        return rng.integers(0, 256, (target.height, target.width), dtype=np.uint8)
    return at_size(target.prior[:1], target.height, target.width)[0].copy()
