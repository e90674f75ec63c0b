"""The network is what the configuration says, and wrong weights are refused with a reason."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from ppdl.errors import ConfigError
from ppdl.protections.view import View, plain_view
from ppdl.training.networks.model import MobileNetV2

RNG = np.random.default_rng(0)
PIXELS = plain_view(RNG.integers(0, 256, (3, 32, 32)).astype(np.uint8))


def config(**changes) -> MobileNetV2:
    values = {"alpha": 0.35, "weights": None, "dropout": 0.2, "fine_tune_depth": None, "batchnorm_momentum": None}
    return MobileNetV2(**(values | changes))


def fed_to_backbone(model: keras.Model, view: View) -> np.ndarray:
    """Return the float images that the model makes of a view's integers."""
    names = [layer.name for layer in model.layers]
    images = model.layers[names.index("backbone") - 1].output
    return keras.ops.convert_to_numpy(keras.Model(model.inputs[0], images)(np.asarray(view.array)))


@pytest.fixture(scope="module")
def plain_model() -> keras.Model:
    return config().build(PIXELS, 3)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Weights of alpha 0.35 without the top, as Keras writes them."""
    path = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None)
    backbone.save_weights(path)
    return path, backbone.get_weights()


def test_takes_the_views_integers_and_gives_logits(plain_model):
    (taken,), (given,) = plain_model.inputs, plain_model.outputs
    assert (taken.shape, taken.dtype, given.shape) == ((None, 32, 32), "uint8", (None, 3))
    assert plain_model.layers[-1].activation is keras.activations.linear
    assert plain_model(PIXELS.array).shape == (3, 3)


def test_pixels_become_three_equal_channels(plain_model):
    expected = np.repeat(PIXELS.array[..., None] / 127.5 - 1, 3, axis=3)
    np.testing.assert_allclose(fed_to_backbone(plain_model, PIXELS), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_values_with_channels(channels):
    view = View("v", RNG.integers(0, 900, (2, 32, 40, channels)).astype(np.uint16), None, False, 0.01, -2.0)
    model = config().build(view, 2)
    assert model.inputs[0].dtype == "int32"
    np.testing.assert_allclose(fed_to_backbone(model, view), np.broadcast_to(view.array * 0.01 - 2.0, (2, 32, 40, 3)), atol=1e-5)


@pytest.mark.parametrize(("channels", "trainable"), [(1, True), (3, False)])
def test_the_table_is_a_layer_of_the_model(channels, trainable):
    table = RNG.uniform(-1, 1, (9, channels)).astype(np.float32)
    view = View("v", RNG.integers(0, 9, (2, 32, 32)).astype(np.uint8), table, trainable, 1.0, 0.0)
    model = config().build(view, 2)
    np.testing.assert_allclose(fed_to_backbone(model, view), np.broadcast_to(table[view.array], (2, 32, 32, 3)), atol=1e-6)
    assert [v.name for v in model.trainable_variables].count("embeddings") == int(trainable)


def test_saved_models_need_nothing_of_ours(plain_model):
    modules = set()

    def collect(node):
        if isinstance(node, dict):
            modules.update({node["module"]} if isinstance(node.get("module"), str) else set())
            node = list(node.values())
        for item in node if isinstance(node, list) else []:
            collect(item)

    collect(json.loads(plain_model.to_json()))
    assert modules and all(m.split(".")[0] in ("keras", "builtins") for m in modules)


def momenta(model: keras.Model) -> set[float]:
    return {layer.momentum for layer in model.get_layer("backbone").layers if isinstance(layer, keras.layers.BatchNormalization)}


def test_batchnorm_momentum(plain_model, weights_file):
    path = str(weights_file[0])
    assert momenta(plain_model) == {0.9}
    assert momenta(config(weights=path).build(PIXELS, 2)) == {0.999}
    assert momenta(config(weights=path, batchnorm_momentum=0.95).build(PIXELS, 2)) == {0.95}


def test_weights_of_a_file_are_used(weights_file):
    path, expected = weights_file
    model = config(weights=str(path)).build(plain_view(np.zeros((1, 64, 48), np.uint8)), 2)
    for found, wanted in zip(model.get_layer("backbone").get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("depth", [0, 5])
def test_only_the_last_layers_learn(weights_file, depth):
    model = config(weights=str(weights_file[0]), fine_tune_depth=depth).build(PIXELS, 2)
    layers = model.get_layer("backbone").layers
    assert [layer.trainable for layer in layers] == [False] * (len(layers) - depth) + [True] * depth
    in_backbone = [v for v in model.trainable_variables if "logits" not in v.path]
    assert bool(in_backbone) is bool(depth)


def test_more_layers_than_there_are_is_refused(weights_file):
    with pytest.raises(ConfigError, match=r"fine_tune_depth must be at most 154, the number of layers, got 400"):
        config(weights=str(weights_file[0]), fine_tune_depth=400).build(PIXELS, 2)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ConfigError, match="at least 32 x 32 pixels, got 40x31: raise input_px"):
        config().build(plain_view(np.zeros((1, 40, 31), np.uint8)), 2)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file '.*none.h5'"):
        config(weights=str(tmp_path / "none.h5")).build(PIXELS, 2)


def test_weights_of_another_width_are_refused(weights_file):
    with pytest.raises(ConfigError, match=r"MobileNetV2 with alpha 0.5 and without its top; '.*' does not fit \("):
        config(alpha=0.5, weights=str(weights_file[0])).build(PIXELS, 2)


def test_weights_of_a_part_of_the_network_are_refused(tmp_path):
    # Keras itself would warn and leave the other layers random.
    path = tmp_path / "part.weights.h5"
    whole = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None, include_top=False)
    keras.Model(whole.input, whole.layers[9].output).save_weights(path)
    with pytest.raises(ConfigError, match=r"without its top; .* does not fit"):
        config(weights=str(path)).build(PIXELS, 2)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("not weights")
    with pytest.raises(ConfigError, match="must be a Keras weights file"):
        config(weights=str(path)).build(PIXELS, 2)


def test_a_download_that_was_cut_short_is_named_as_such(tmp_path, monkeypatch, weights_file):
    (tmp_path / "models").mkdir()
    half = tmp_path / "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    half.write_bytes(weights_file[0].read_bytes()[:5000])
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"not whole in Keras' folder of downloads .*truncated.* delete mobilenet_v2_"):
        config(weights="imagenet").build(PIXELS, 2)


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    with pytest.raises(ConfigError, match=r"could not be downloaded \(no route to host\): set weights to the path of a local file"):
        config(weights="imagenet").build(PIXELS, 2)
