"""How well images that are no chest films of the set are told, in features of a frozen MobileNetV2.

python -m benchmarks.unlike --root /data/xrays --classes COVID Normal 'Viral Pneumonia' --weights mobilenet_v2_1.0_no_top.h5

The distance and threshold are those of `ppdl.evaluation.predictions.likeness`; beside them stand the two published measures that they were
chosen against, and how well each measure, computed from what it stores, tells training films from test films. Films of other folders of
the root, such as those of a class that was not trained on, are a kind of their own.

Photographs come with scikit-image and scikit-learn:

- public domain or CC0: astronaut (NASA), camera (L. Varshney), chelsea (S. van der Walt), coffee (R. Michetti), rocket (SpaceX), Hubble
  deep field (NASA), brick and gravel (CC0Textures), grass (linolafett);
- CC BY 2.0: china (danielbuechele), flower (vultilion).

Crops of them are drawn at random. Untested for want of pictures with a licence: lateral chest films, films of other parts of the body.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ppdl.datasets.images.image_io import read_gray
from ppdl.datasets.phantoms.wrong import KINDS
from ppdl.datasets.prepared.resize import area_resize
from ppdl.datasets.prepared.splitting import Split, assign_splits
from ppdl.datasets.preparing.duplicates import join_groups, near_pairs, perceptual_hash
from ppdl.datasets.sources.folder import find_images
from ppdl.evaluation.predictions.likeness import FALSE_ALARMS, conformal_threshold, fit_likeness
from ppdl.training.networks.features import Backbone, extract_features

LAYERS = ["block_6_expand_relu", "block_10_expand_relu", "block_13_expand_relu"]
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "hubble_deep_field", "brick", "gravel", "grass")
NEIGHBOUR = 10
Distances = Callable[[np.ndarray], np.ndarray]


def photographs(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many square crops of photographs, in gray, at the films' size."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    pictures = [getattr(skimage.data, name)() for name in PHOTOGRAPHS] + list(load_sample_images().images)
    grays = [np.asarray(Image.fromarray(picture).convert("L")) for picture in pictures]
    return np.stack([_crop(grays[rng.integers(len(grays))], films.shape[1], rng) for _ in films])


def _crop(gray: np.ndarray, px: int, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(min(px, *gray.shape), min(gray.shape) + 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in gray.shape)
    return area_resize(gray[top : top + side, left : left + side].copy(), px)


def mahalanobis(features: np.ndarray, labels: np.ndarray) -> Distances:
    """Return Lee et al.'s distance in all dimensions, the covariance shrunk (Ledoit and Wolf), for there are fewer films than features."""
    means = np.stack([features[labels == c].mean(axis=0) for c in np.unique(labels)])
    precision = LedoitWolf(assume_centered=True).fit(features - means[labels]).get_precision()

    def distances(x: np.ndarray) -> np.ndarray:
        away = x[:, None] - means
        return np.sqrt(np.einsum("ncd,de,nce->nc", away, precision, away, optimize=True).min(axis=1))

    return distances


def neighbours(features: np.ndarray, labels: np.ndarray) -> Distances:
    """Return Sun et al.'s distance: to the k-th nearest of the training films, features of length 1."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    found = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(unit(features))
    return lambda x: found.kneighbors(unit(x))[0][:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--px", type=int, default=192)
    parser.add_argument("--seeds", type=int, default=3, help="splits of the films")
    args = parser.parse_args()
    found = {name: _read(paths, args.px) for name, paths in find_images(Path(args.root), None).items()}
    films, labels = (
        np.concatenate(parts) for parts in zip(*((found[c], np.full(len(found[c]), i)) for i, c in enumerate(args.classes)), strict=True)
    )
    backbone, rng = Backbone(args.weights, 1.0, args.px, LAYERS).build(Path()), np.random.default_rng(0)
    features = extract_features(backbone, films).astype(np.float64)
    others = {f"films of {name}": extract_features(backbone, found[name]).astype(np.float64) for name in found if name not in args.classes}
    sample = films[rng.permutation(len(films))[:200]]
    for kind, make in {**KINDS, "photographs": photographs}.items():
        others[kind] = extract_features(backbone, make(sample, rng)).astype(np.float64)
    groups = join_groups(len(films), near_pairs(np.stack([perceptual_hash(film) for film in films]), 26), [])
    rows = [_of_seed(seed, features, labels, groups, others) for seed in range(args.seeds)]
    print(f"{len(films)} films of {len(args.classes)} classes, {args.seeds} splits, {len(features[0])} features: mean [least, largest]")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"| {name} | " + " | ".join(f"{np.mean(v):.3f} [{np.min(v):.3f}, {np.max(v):.3f}]" for v in zip(*values, strict=True)) + " |")


def _of_seed(
    seed: int, features: np.ndarray, labels: np.ndarray, groups: np.ndarray, others: dict[str, np.ndarray]
) -> dict[str, list[float]]:
    """Return for each kind the AUROC of three measures, and in the same order their false alarms and what they tell of membership."""
    split = Split(test_fraction=0.2, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=26, seed=seed)
    _, names = assign_splits(labels, groups, split)
    train, validation, test = (np.flatnonzero(names == part) for part in ("train", "validation", "test"))
    ours = fit_likeness(features[train], labels[train], features[validation], groups[validation])
    measures = [ours.distances, mahalanobis(features[train], labels[train]), neighbours(features[train], labels[train])]
    first = validation[np.unique(groups[validation], return_index=True)[1]]
    found: dict[str, list[float]] = {}
    for measure in measures:
        own, threshold = measure(features[test]), conformal_threshold(measure(features[first]))
        found.setdefault(f"false alarms on test films, at most {FALSE_ALARMS} stated", []).append(float((own > threshold).mean()))
        for kind, wrong in others.items():
            away = measure(wrong)
            truth = np.repeat([0, 1], [len(own), len(away)])
            found.setdefault(f"{kind} ({len(away)}): AUROC", []).append(float(roc_auc_score(truth, np.concatenate([own, away]))))
            found.setdefault(f"{kind}: called unlike", []).append(float((away > threshold).mean()))
        member = np.repeat([0, 1], [len(own), len(train)])
        found.setdefault("training films told from test films: AUROC", []).append(
            float(roc_auc_score(member, -np.concatenate([own, measure(features[train])])))
        )
    return found


def _read(paths: list[Path], px: int) -> np.ndarray:
    return np.stack([area_resize(read_gray(path), px) for path in paths])


if __name__ == "__main__":
    main()
