"""Features of images: a public backbone without its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import plain_view
from ppdl.records.typecheck import Count, Positive, Text
from ppdl.training.networks.model import LEAST_PX, MobileNetV2, as_images
from ppdl.training.networks.predict import load_model, predict_logits, save_model

if TYPE_CHECKING:
    import keras

PLAIN, FILTERS = "plain", "filters"
RANGE = 8  # standard deviations of the public films' features on either side of their mean; what lies beyond is cut
_GRID = 4  # cells a side that outputs of filters are averaged over
_LEAST_SPREAD = 0.5  # of the median: a value that public films hardly vary in must not fill its range with films that do
_LEAST_VALUE = 1e-5  # of the largest singular value: below it a component is rounding
BACKBONE = "backbone"  # the layer of ppdl.training.networks.model that is MobileNetV2


@dataclass(frozen=True)
class Backbone:
    """Make features of an image: the outputs of some layers of MobileNetV2, averaged over the image. Clients get it; it is not secret.

    Args:
        weights: "plain": the network that stage train_plain trained, without its head; "imagenet": Keras downloads them; else the path of
            a file without the top. With `plain`, what was learned from the training images is published but for the head.
        alpha: Width of the network; with `plain` that of the trained one.
        input_px: Side of the images that it is shown; with `plain` that of the trained one.
        layers: Names of ReLU layers, whose features stand side by side; None: the last, 1,280 features at alpha 1.0 and below. What
            ImageNet taught the middle layers helps X-rays more than what it taught the last.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    weights: Text
    alpha: Positive
    input_px: Annotated[int, Ge(LEAST_PX)]
    layers: Sequence[str] | None

    def __post_init__(self) -> None:
        if self.layers is not None and (not self.layers or len(set(self.layers)) < len(self.layers)):
            raise ConfigError(f"layers must list different layers, or be null (the last), got {self.layers!r}")
        self._network()

    def build(self, plain_model: Path) -> keras.Model:
        """Build the backbone: model from (batch, input_px, input_px) uint8 to (batch, num_features) float32.

        Args:
            plain_model: file of the network that `plain` means.

        Raises:
            ConfigError: the weights are missing or of another alpha, the plain network takes images of another size, or a layer is not
                there.
            DataError: the plain network is missing or damaged.
        """
        import keras

        if self.weights == PLAIN:
            model = load_model(plain_model)
            if model.input_shape[1:3] != (self.input_px, self.input_px):
                found = "x".join(map(str, model.input_shape[1:3]))
                raise ConfigError(f"input_px must be that of the trained network with weights plain, {found} px, got {self.input_px}")
            network = model.get_layer(BACKBONE)
        else:
            network = self._network().backbone((self.input_px, self.input_px))
        inputs = keras.Input((self.input_px, self.input_px), dtype="uint8", name="image")
        images = as_images(inputs, plain_view(np.zeros((1, self.input_px, self.input_px), np.uint8)))
        maps = self._up_to_layers(network)(images)
        pooled = [keras.layers.GlobalAveragePooling2D(name=f"pool_{i}")(one) for i, one in enumerate(maps)]
        return keras.Model(inputs, pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="pool")(pooled), name="features")

    def _up_to_layers(self, network: keras.Model) -> keras.Model:
        """Return the network with a list of outputs, the chosen layers' or its own."""
        import keras

        names = [layer.name for layer in network.layers if isinstance(layer, keras.layers.ReLU)]
        if unknown := [name for name in self.layers or () if name not in names]:
            raise ConfigError(f"layers must be null or some of {', '.join(names)}, got {unknown[0]!r}")
        outputs = [network.get_layer(name).output for name in self.layers] if self.layers else [network.output]
        return keras.Model(network.input, outputs, name=BACKBONE)

    def _network(self) -> MobileNetV2:
        weights = None if self.weights == PLAIN else self.weights
        return MobileNetV2(alpha=self.alpha, weights=weights, dropout=0.0, fine_tune_depth=None, batchnorm_momentum=None)


@dataclass(frozen=True)
class PublicBackbone:
    """Make features in [0, 1] of an image, of public images alone: nothing of it depends on the hospitals' films.

    Values of an image, fixed or learned from other images, are projected on the principal components of public films (phantoms), and each
    component is scaled so that 8 standard deviations on either side of the mean fill [0, 1].

    Args:
        weights: "filters": nothing is learned, see `filter_bank`; "imagenet": outputs of MobileNetV2, whose weights Keras downloads; else
            the path of a file of its weights without the top. Not "plain": that network has seen the hospitals' films.
        alpha: Width of MobileNetV2; None with `filters`.
        input_px: Side of the images that it is shown.
        layers: Names of ReLU layers of MobileNetV2, whose features stand side by side; None: the last.
        num_features: Components that are kept; as many as there are values: none are formed, the values are only scaled. None: one for
            each 16 films of the hospitals, at most 128.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    weights: Text
    alpha: Positive | None
    input_px: Annotated[int, Ge(LEAST_PX)]
    layers: Sequence[str] | None
    num_features: Count | None

    def __post_init__(self) -> None:
        if self.weights == PLAIN:
            raise ConfigError(
                f"weights must be {FILTERS}, imagenet or the path of a file of public weights, got {PLAIN}: models/plain has seen the "
                "hospitals' films, and whoever has the backbone could test who is in it"
            )
        if (self.weights == FILTERS) != (self.alpha is None) or (self.weights == FILTERS and self.layers is not None):
            raise ConfigError(
                f"alpha and layers are of MobileNetV2: both must be null with weights {FILTERS}, and alpha a number with others; "
                f"got alpha {self.alpha} and layers {self.layers} with weights {self.weights}"
            )
        if self.weights != FILTERS:
            self._network  # noqa: B018 - its rules

    @property
    def _network(self) -> Backbone:
        return Backbone(**{field.name: getattr(self, field.name) for field in fields(Backbone)})

    def build(self, films: np.ndarray, num_features: int) -> keras.Model:
        """Build the backbone: model from (batch, input_px, input_px) uint8 to (batch, num_features) float32 in [0, 1].

        Args:
            films: public, (num_films, input_px, input_px) uint8.

        Raises:
            ConfigError: the weights do not fit, a layer is not there, or there are fewer components than num_features.
        """
        import keras

        model = filter_bank(self.input_px) if self.weights == FILTERS else self._network.build(Path())
        layer = keras.layers.Dense(num_features, name="components")
        scaled = keras.layers.ReLU(max_value=1.0, name="range")(layer(model.output))
        layer.set_weights(public_layer(extract_features(model, films), num_features))
        return keras.Model(model.input, scaled, name="features")


def filter_bank(px: int) -> keras.Model:
    """Build the model from images (batch, px, px) uint8 to averages of fixed filters' outputs, (batch, 192) float32.

    Of the gray values, Gaussian derivatives at two scales (standard deviations of 1 and 2 px in an image of 64): along rows, along columns,
    and the Laplacian. Positive and negative parts are averaged apart, over 4 x 4 cells. No filter reaches beyond the image, so its outer
    tenth has a small part in it.

    Source: J. Koenderink, A. van Doorn, "Representation of local geometry in the visual system", Biological Cybernetics 55, 1987;
        scale-normalised as in T. Lindeberg, "Feature detection with automatic scale selection", IJCV 30, 1998.
    """
    import keras

    kernels = _derivatives(px)
    inputs = keras.Input((px, px), dtype="uint8", name="image")
    gray = keras.layers.Reshape((px, px, 1), name="channel")(keras.layers.Rescaling(1 / 255, name="scale")(inputs))
    filters = keras.layers.Conv2D(kernels.shape[-1], kernels.shape[0], use_bias=False, activation="relu", name="filters")
    maps = filters(gray)
    filters.set_weights([kernels])
    side, rest = divmod(px - kernels.shape[0] + 1, _GRID)
    cells = keras.layers.AveragePooling2D(side, name="cells")(keras.layers.Cropping2D(((0, rest), (0, rest)), name="whole")(maps))
    return keras.Model(inputs, keras.layers.Flatten(name="values")(cells), name="filter_bank")


def _derivatives(px: int) -> np.ndarray:
    """Return the kernels of `filter_bank`, (side, side, 1, 12) float32, of both signs."""
    radius, kernels = -(-6 * px // 64), list[np.ndarray]()
    x = np.arange(-radius, radius + 1)
    for sigma in (px / 64, px / 32):
        smooth = np.exp(-(x**2) / (2 * sigma**2))
        smooth /= smooth.sum()
        first, second = -x / sigma * smooth, (x**2 / sigma**2 - 1) * smooth  # times sigma and its square
        second -= second.sum() * smooth  # cut off at three sigma it would answer to gray levels
        kernels += [np.outer(smooth, first), np.outer(first, smooth), np.outer(smooth, second) + np.outer(second, smooth)]
    both = np.concatenate([np.stack(kernels), -np.stack(kernels)])
    return both.transpose(1, 2, 0)[:, :, None].astype(np.float32)


def public_layer(features: np.ndarray, num_features: int) -> list[np.ndarray]:
    """Return weights (num_values, num_features) and biases (num_features,) of the map from a layer's values to components in [0, 1].

    Args:
        features: of public films, (num_films, num_values) float32.

    Raises:
        ConfigError: there are fewer than num_features components that differ between these films.

    Source: principal components: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed., section 14.5.
    """
    mean, num_values = features.mean(axis=0, dtype=np.float64), features.shape[1]
    if num_features == num_values:
        spread, components = features.std(axis=0, dtype=np.float64), np.eye(num_values)
        spread = np.maximum(spread, _LEAST_SPREAD * np.median(spread[spread > 0]) if spread.any() else 1.0)
    else:
        _, values, vectors = np.linalg.svd(features - mean, full_matrices=False)
        spread = values / np.sqrt(len(features))
        if (most := int((spread > _LEAST_VALUE * spread[0]).sum())) < num_features:
            raise ConfigError(
                f"backbone.num_features must be at most {most}, the components of {num_values} values of {len(features)} public films, "
                f"or {num_values}, for all values without projection; got {num_features}"
            )
        spread, components = spread[:num_features], vectors[:num_features].T
    weights = components / (2 * RANGE * spread)
    return [weights.astype(np.float32), (0.5 - mean @ weights).astype(np.float32)]


def save_backbone(backbone: keras.Model, path: Path) -> str:
    """Write a backbone, whole or not at all, and return the SHA-256 of the file in hex."""
    save_model(backbone, path)
    return hash_file(path)


def load_backbone(path: Path, *, sha256: str | None = None) -> keras.Model:
    """Read a backbone that `save_backbone` wrote.

    Args:
        sha256: that the file must have; None: any.

    Raises:
        DataError: the file is missing, damaged, another one, or no backbone.
    """
    path = Path(path)
    if sha256 is not None and path.is_file() and hash_file(path) != sha256:
        raise DataError(f"backbone {path} is not the one that the head was trained with (its SHA-256 is not {sha256}): get it again")
    model = load_model(path)
    if len(model.input_shape) != 3 or len(model.output_shape) != 2:
        rule = "from (batch, height, width) to (batch, num_features)"
        raise DataError(f"backbone {path} must be a model {rule}, got {model.input_shape} to {model.output_shape}")
    return model


def extract_features(backbone: keras.Model, images: Any, rows: np.ndarray | None = None, *, batch_size: int = 64) -> np.ndarray:
    """Return the features of images, or of some rows of them: (num_rows, num_features) float32. Memory does not grow with the images.

    Args:
        images: (num_images, height, width) uint8, as large as the backbone wants them; anything with `shape`, `dtype` and rows by number.

    Raises:
        ConfigError: images of another size.
    """
    return _extractor(backbone, batch_size)(images, rows)


def load_extractor(path: Path, *, sha256: str) -> Callable[..., np.ndarray]:
    """Read a backbone, and return the function (images, rows=None) to features that `extract_features` is; its first call is the slow one.

    Raises:
        DataError: see `load_backbone`.
    """
    return _extractor(load_backbone(path, sha256=sha256))


def _extractor(backbone: keras.Model, batch_size: int = 64) -> Callable[..., np.ndarray]:
    from ppdl.training.networks.fused import fused

    network = fused(backbone)

    def extract(images: Any, rows: np.ndarray | None = None) -> np.ndarray:
        return predict_logits(network, plain_view(images), np.arange(len(images)) if rows is None else rows, batch_size)

    return extract
