"""Train a linear head on features, and round it to integers."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, MinLen

from ppdl.errors import DataError
from ppdl.private_head.head import LARGEST_FEATURE, QuantisedHead, quantised, rounded_head, spread_floor

_CLIPPED = 1e-4  # share of feature values above 255 steps: a few large ones must not make all steps coarse
_MOST_ITERATIONS = 200


@dataclass(frozen=True)
class HeadFit:
    """Say how to train a head: logistic regression on integer features, in which a class weighs by the inverse of its number of images.

    Args:
        strengths: Inverse strengths of L2 regularisation to choose from, by the log loss of the validation images alone.

    Cost: about a second for each strength, 1,000 images and 1,280 features.
    """

    strengths: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Hold a head and what training it showed: strength, accuracy and log loss on validation before and after rounding."""

    head: QuantisedHead
    summary: dict[str, float]


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    *,
    settings: HeadFit,
    class_names: Sequence[str],
    backbone: Mapping[str, Any],
) -> FittedHead:
    """Train on `train_rows`, choose the regularisation on `validation_rows`, round to int8 weights.

    Features are rounded first, so that the head learns from what it will see. They are standardised for training, which is folded into
    weights and bias afterwards. The head's temperature is 1.

    Args:
        features: (num_images, num_features) of at least 0.
        labels: (num_images,) integers below len(class_names).
        backbone: what made the features, see PublicHead.

    Raises:
        DataError: features are negative, not finite or all zero, or a class has no training image.
    """
    if not np.isfinite(features).all() or features.min() < 0:
        raise DataError("features must be finite and not negative, and one is not; take them after a ReLU")
    present = set(np.unique(labels[train_rows]).tolist())
    if missing := [name for i, name in enumerate(class_names) if i not in present]:
        raise DataError(f"the training split has no image of class {', '.join(missing)}")
    scale = float(np.quantile(features[train_rows], 1 - _CLIPPED) or features[train_rows].max()) / LARGEST_FEATURE
    if scale == 0:
        raise DataError("all features of the training images are zero: the backbone is damaged")
    values = quantised(features, scale).astype(np.float64)
    train, validation = values[train_rows], values[validation_rows]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.maximum(spread, spread_floor(spread)) * np.sqrt(train.shape[1])
    strength, model = _best(settings, (train - mean) / spread, labels[train_rows], (validation - mean) / spread, labels[validation_rows])
    weights, bias = _all_rows(model.coef_ / spread, model.intercept_ - model.coef_ @ (mean / spread))
    head = rounded_head(weights, bias, feature_scale=scale, class_names=class_names, backbone=backbone)
    before, after = validation @ weights.T + bias, head.logits(validation.astype(np.uint8)) * head.logit_scale
    truth = labels[validation_rows]
    summary = {
        "strength": strength,
        "val_accuracy": float((after.argmax(1) == truth).mean()),
        "val_log_loss": _log_loss(after, truth),
        "val_accuracy_unrounded": float((before.argmax(1) == truth).mean()),
        "val_log_loss_unrounded": _log_loss(before, truth),
    }
    return FittedHead(head, summary)


def _best(settings: HeadFit, train: np.ndarray, train_labels: np.ndarray, validation: np.ndarray, labels: np.ndarray) -> tuple[float, Any]:
    """Return the strength with the lowest log loss on the validation images, and its model."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = []
    for strength in settings.strengths:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=_MOST_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges the model wherever it stopped
            model.fit(train, train_labels)
        found.append((_log_loss(_all_logits(model, validation), labels), strength, model))
    return min(found, key=lambda entry: entry[0])[1:]


def _all_rows(weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one row a class; of two classes scikit-learn keeps the difference only."""
    if len(weights) > 1:
        return weights, bias
    return np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2


def _all_logits(model: Any, features: np.ndarray) -> np.ndarray:
    weights, bias = _all_rows(model.coef_, model.intercept_)
    return features @ weights.T + bias


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())
