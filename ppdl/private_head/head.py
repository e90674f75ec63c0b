"""The integer head that is evaluated on ciphertexts, what clients may know of it, and its files.

A folder holds `head.json`, the public part, and `head.npz`, the secret weights and biases. The public backbone lies beside them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import DataError
from ppdl.records.reading import read_arrays, read_object

FORMAT = "ppdl-head/1"
JSON_FILE, ARRAYS_FILE, BACKBONE_FILE = "head.json", "head.npz", "backbone.keras"
LARGEST_FEATURE = 255
_ADVICE = "fetch it with `dvc pull`, or train it with `dvc repro`"
_LARGEST_WEIGHT = 127
_LEAST_SPREAD = 0.5  # of the median spread: a feature that hardly varies must not get the weight that makes all steps coarse


@dataclass(frozen=True)
class PublicHead:
    """What a client knows of a head: how features become integers, and integer logits probabilities.

    Attributes:
        num_features: that the backbone gives.
        feature_scale: of one step of an integer feature.
        logit_scale: of one step of an integer logit.
        temperature: by which logits are divided before they become probabilities.
        class_names: of the logits, in their order.
        backbone: what makes the features: weights (plain, imagenet or a file's name), sha256 of backbone.keras, alpha, input_px, ...

    Raises: DataError when a part breaks its rule.
    """

    num_features: int
    feature_scale: float
    logit_scale: float
    temperature: float
    class_names: tuple[str, ...]
    backbone: Mapping[str, Any]

    def __post_init__(self) -> None:
        if type(self.num_features) is not int or self.num_features < 1:
            raise DataError(f"num_features must be an integer >= 1, got {self.num_features!r}")
        for name in ("feature_scale", "logit_scale", "temperature"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                raise DataError(f"{name} must be a finite number above 0, got {value!r}")
        if not self.class_names or not all(isinstance(name, str) and name for name in self.class_names):
            raise DataError(f"class_names must be names, got {self.class_names!r}")
        if not isinstance(self.backbone, Mapping):
            raise DataError(f"backbone must be a mapping, got {type(self.backbone).__name__}")

    def quantise(self, features: np.ndarray) -> np.ndarray:
        """Return features (n, num_features) as the nearest integers 0 to 255: uint8, in the same shape.

        Raises: DataError for another number of features, or for what is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise DataError(f"features must be (num_images, {self.num_features}), got {features.shape}")
        if not np.isfinite(features).all():
            raise DataError("features must be finite, and one is not: the backbone or the image is damaged")
        return quantised(features, self.feature_scale)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities of integer logits (n, num_classes), calibrated on the validation images: float64, rows that add up to 1."""
        scaled = np.asarray(logits, np.float64) * (self.logit_scale / self.temperature)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class QuantisedHead:
    """A linear head in integers. Its weights and biases are the owner's secret: they are never printed.

    Attributes:
        weights: int8 (num_classes, num_features).
        bias: int64 (num_classes,), at most 255 * 128 * num_features in size, which is what packings hold.
        feature_scale, logit_scale, temperature, class_names, backbone: see PublicHead.

    Raises: DataError when a part breaks its rule.
    """

    weights: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    feature_scale: float
    logit_scale: float
    class_names: tuple[str, ...]
    backbone: Mapping[str, Any]
    temperature: float

    def __post_init__(self) -> None:
        shape = (len(self.class_names), self.weights.shape[-1] if self.weights.ndim else 0)
        if self.weights.dtype != np.int8 or self.weights.shape != shape:
            raise DataError(f"weights must be int8 (num_classes, num_features) = {shape}, got {self.weights.dtype} {self.weights.shape}")
        if self.bias.dtype != np.int64 or self.bias.shape != shape[:1]:
            raise DataError(f"bias must be int64 ({shape[0]},), got {self.bias.dtype} {self.bias.shape}")
        if any(abs(int(b)) > LARGEST_FEATURE * 128 * shape[1] for b in self.bias):
            raise DataError(f"bias must be at most 255 * 128 * {shape[1]} in size, the largest sum of products, and one is not")
        self.public  # noqa: B018 - the rules of the other parts

    @property
    def num_classes(self) -> int:
        return len(self.weights)

    @property
    def num_features(self) -> int:
        return int(self.weights.shape[1])

    @property
    def public(self) -> PublicHead:
        """What clients are told."""
        return PublicHead(
            self.num_features, self.feature_scale, self.logit_scale, self.temperature, tuple(self.class_names), dict(self.backbone)
        )

    def quantise(self, features: np.ndarray) -> np.ndarray:
        """Return features (n, num_features) as uint8. See PublicHead."""
        return self.public.quantise(features)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the integer logits of integer features, uint8 (n, num_features): int64 (n, num_classes).

        What decrypted answers must equal, bit by bit.
        """
        if features.dtype != np.uint8 or features.ndim != 2 or features.shape[1] != self.num_features:
            raise DataError(f"features must be uint8 (num_images, {self.num_features}), got {features.dtype} {features.shape}")
        # below 2^53, so that floating point is exact, and a matrix product by BLAS
        products = features.astype(np.float64) @ self.weights.T.astype(np.float64)
        return products.astype(np.int64) + self.bias

    def save(self, path: Path) -> None:
        """Write the head into the folder `path`."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = folder / ARRAYS_FILE
        np.savez(arrays, weights=self.weights, bias=self.bias)
        content = {"format": FORMAT, "arrays_sha256": hash_file(arrays), **asdict(self.public)}
        (folder / JSON_FILE).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def backbone_facts(node: Mapping[str, Any], prepared_px: int, sha256: str) -> dict[str, Any]:
    """Return what a head says of a backbone, whose configuration is `node` and whose file has this SHA-256: no path."""
    facts = {key: value for key, value in node.items() if key != "_target_"}
    weights = facts["weights"] and Path(facts["weights"]).name  # of a file; other values have no folder
    return facts | {"weights": weights, "prepared_px": prepared_px, "sha256": sha256}


def quantised(features: np.ndarray, scale: float) -> np.ndarray:
    """Return non-negative features in steps of `scale`, at most 255 of them: uint8, of the same shape."""
    return np.clip(np.rint(features / scale), 0, LARGEST_FEATURE).astype(np.uint8)


def rounded_head(
    weights: np.ndarray, bias: np.ndarray, *, feature_scale: float, class_names: Sequence[str], backbone: Mapping[str, Any]
) -> QuantisedHead:
    """Round weights (num_classes, num_features) and biases (num_classes,) on integer features to one step, the smallest that int8 holds.

    The head's temperature is 1. For the other arguments see PublicHead.
    """
    most = _LARGEST_WEIGHT, LARGEST_FEATURE * (_LARGEST_WEIGHT + 1) * weights.shape[1]  # what a weight and a bias may be
    step = float(max(np.abs(weights).max() / most[0], np.abs(bias).max() / most[1])) or 1.0
    whole = np.rint(weights / step).astype(np.int8), np.rint(bias / step).astype(np.int64)
    return QuantisedHead(*whole, feature_scale, step, tuple(class_names), dict(backbone), 1.0)


def spread_floor(spread: np.ndarray) -> float:
    """Return the least spread that a feature is standardised by, given those of all, (num_features,)."""
    return float(_LEAST_SPREAD * np.median(spread[spread > 0])) if spread.any() else 1.0


def load_public_head(path: Path) -> PublicHead:
    """Read the public part of a head's folder.

    Raises: DataError when it is missing, no JSON, of another format, or breaks a rule.
    """
    return _public(Path(path) / JSON_FILE)[0]


def load_head(path: Path) -> QuantisedHead:
    """Read a head that QuantisedHead.save wrote.

    Raises: DataError when a file is missing, damaged or not of the other, or a part breaks its rule.
    """
    folder = Path(path)
    public, sha256 = _public(folder / JSON_FILE)
    arrays = folder / ARRAYS_FILE
    if arrays.is_file() and hash_file(arrays) != sha256:
        raise DataError(f"{arrays} does not have the SHA-256 that {JSON_FILE} names, {sha256!r}: damaged, or of another head; {_ADVICE}")
    weights, bias = read_arrays(arrays, DataError, names=("weights", "bias"), missing=_ADVICE, damaged=_ADVICE).values()
    if weights.shape != (len(public.class_names), public.num_features):
        raise DataError(f"{arrays} holds weights {weights.shape}, and {JSON_FILE} names {len(public.class_names)} x {public.num_features}")
    try:
        return QuantisedHead(
            weights, bias, public.feature_scale, public.logit_scale, public.class_names, public.backbone, public.temperature
        )
    except DataError as error:
        raise DataError(f"{arrays}: {error}") from None


def _public(path: Path) -> tuple[PublicHead, str]:
    content = read_object(path, DataError, missing=_ADVICE, damaged=_ADVICE, form=FORMAT)
    sha256 = content.pop("arrays_sha256", None)
    try:
        return PublicHead(**{**content, "class_names": tuple(content.get("class_names", ()))}), sha256
    except (TypeError, DataError) as error:
        raise DataError(f"{path}: {error}") from None
