"""Features of images: a public backbone without its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import plain_view
from ppdl.records.typecheck import Positive, Text
from ppdl.training.networks.model import LEAST_PX, MobileNetV2, as_images
from ppdl.training.networks.predict import fused_logits, load_model, save_model

if TYPE_CHECKING:
    import keras

PLAIN = "plain"
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
        return fused_logits(network, plain_view(images), np.arange(len(images)) if rows is None else rows, batch_size)

    return extract
