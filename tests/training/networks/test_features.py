"""The public backbone: features that a client computes are those that the head was trained on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ppdl.config import construct
from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import plain_view
from ppdl.training.networks.features import (
    Backbone,
    PublicBackbone,
    extract_features,
    filter_bank,
    load_backbone,
    public_layer,
    save_backbone,
)
from ppdl.training.networks.model import MobileNetV2
from ppdl.training.networks.predict import save_model

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 32, 32)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return MobileNetV2(alpha=0.35, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None).build(plain_view(IMAGES), 3)


@pytest.fixture(scope="module")
def plain_model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "model.keras"
    save_model(network, path)
    return path


def test_features_of_plain_are_what_its_own_head_sees(network, plain_model, tmp_path):
    backbone = Backbone("plain", 0.35, 32, None).build(plain_model)
    sha256 = save_backbone(backbone, tmp_path / "backbone.keras")
    features = extract_features(load_backbone(tmp_path / "backbone.keras", sha256=sha256), IMAGES, batch_size=2)
    assert features.shape == (5, 1280) and features.dtype == np.float32 and features.min() >= 0
    kernel, bias = network.get_layer("logits").get_weights()
    expected = keras.ops.convert_to_numpy(network(IMAGES, training=False))
    np.testing.assert_allclose(features @ kernel + bias, expected, rtol=1e-3, atol=1e-4)


def test_a_file_of_weights_gives_the_same_features(network, plain_model, tmp_path):
    network.get_layer("backbone").save_weights(tmp_path / "no_top.weights.h5")
    own = Backbone(str(tmp_path / "no_top.weights.h5"), 0.35, 32, None).build(plain_model.with_name("not needed"))
    again = Backbone("plain", 0.35, 32, None).build(plain_model)
    np.testing.assert_allclose(extract_features(own, IMAGES), extract_features(again, IMAGES), rtol=1e-4, atol=1e-6)


def test_features_of_several_layers_stand_side_by_side(network, plain_model, tmp_path):
    names = ("block_6_expand_relu", "block_13_expand_relu")
    save_backbone(Backbone("plain", 0.35, 32, names).build(plain_model), tmp_path / "backbone.keras")
    features = extract_features(load_backbone(tmp_path / "backbone.keras"), IMAGES)
    inner = network.get_layer("backbone")
    images = np.repeat(IMAGES[..., None], 3, -1) / 127.5 - 1
    for name, part in zip(names, np.split(features, [96], axis=1), strict=True):
        maps = keras.Model(inner.input, inner.get_layer(name).output)(images, training=False)
        np.testing.assert_allclose(part, np.mean(maps, axis=(1, 2)), rtol=1e-3, atol=1e-5)
    assert features.shape == (5, 96 + 192) and features.min() >= 0


def test_what_cannot_be_built_is_refused(plain_model, tmp_path):
    with pytest.raises(ConfigError, match="input_px must be that of the trained network with weights plain, 32x32 px, got 64"):
        Backbone("plain", 0.35, 64, None).build(plain_model)
    with pytest.raises(ConfigError, match=r"layers must be null or some of .*block_13_expand_relu.*, got 'block_13_project'"):
        Backbone("plain", 0.35, 32, ("out_relu", "block_13_project")).build(plain_model)
    with pytest.raises(DataError, match="is missing"):
        Backbone("plain", 0.35, 32, None).build(tmp_path / "no.keras")
    with pytest.raises(ConfigError, match="there is no file"):
        Backbone(str(tmp_path / "no.h5"), 0.35, 32, None).build(plain_model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 0.35, 32, None), "weights: .*at least 1 character"),
        (("plain", 0.35, 16, None), "input_px: must be >= 32"),
        (("plain", 0, 32, None), "alpha: must be > 0"),
        (("imagenet", 0.4, 32, None), "alpha must be one of"),
        (("plain", 0.35, 32, "out_relu"), "layers must list different layers"),
        (("plain", 0.35, 32, ()), "layers must list different layers"),
        (("plain", 0.35, 32, ("out_relu", "out_relu")), "layers must list different layers"),
    ],
)
def test_arguments_that_break_a_rule_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        construct(Backbone, dict(zip(("weights", "alpha", "input_px", "layers"), arguments, strict=True)), "backbone")


def test_another_backbone_than_the_heads_is_refused(network, plain_model):
    with pytest.raises(DataError, match="is not the one that the head was trained with"):
        load_backbone(plain_model, sha256="0" * 64)
    with pytest.raises(ConfigError, match="must have the shape"):
        extract_features(Backbone("plain", 0.35, 32, None).build(plain_model), np.zeros((1, 64, 64), np.uint8))


def test_a_file_that_is_no_backbone_is_refused(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(DataError, match="must be a model from"):
        load_backbone(tmp_path / "other.keras")


def test_components_of_public_films_fill_a_sixteenth_of_their_range_and_are_uncorrelated():
    rng = np.random.default_rng(2)
    films = np.float32(rng.normal(3, 1, (200, 12)) @ rng.normal(0, 1, (12, 30)))
    weights, bias = public_layer(films, 5)
    found = films @ weights + bias
    np.testing.assert_allclose(found.mean(axis=0), 0.5, atol=1e-4)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(5) / 16**2, atol=1e-5)
    largest = np.linalg.eigvalsh(np.cov(films.T, bias=True))[::-1][:5]  # they are those of the largest variance
    np.testing.assert_allclose(1 / (16 * np.linalg.norm(weights, axis=0)) ** 2, largest, rtol=1e-3)


def test_all_values_are_scaled_without_projection():
    films = np.float32(np.random.default_rng(2).normal([3, 5, 5], [1, 2, 0.001], (500, 3)))
    weights, bias = public_layer(films, 3)
    assert (weights[~np.eye(3, dtype=bool)] == 0).all()
    np.testing.assert_allclose((films @ weights + bias).std(axis=0)[:2], 1 / 16, rtol=1e-3)
    assert np.diagonal(weights)[2] < 1 / (16 * 0.4)  # what hardly varies does not get a range to itself
    assert np.isfinite(public_layer(np.ones((4, 3), np.float32), 3)[0]).all()


@pytest.mark.parametrize("px", [32, 64, 96])
def test_filters_see_edges_and_spots_where_they_are_and_no_gray_level(px):
    flat = np.full((1, px, px), 90, np.uint8)
    edge, spot = flat.copy(), flat.copy()
    edge[:, :, px // 2 :] = 180
    spot[:, px // 2 + px // 8, px // 2 + px // 8] = 180
    values = extract_features(filter_bank(px), np.concatenate([flat, edge, spot])).reshape(3, 4, 4, 12)
    along_row, along_column, laplacian = (values[..., k] + values[..., k + 6] for k in (0, 1, 2))
    np.testing.assert_allclose(values[0], 0, atol=1e-4)  # the same everywhere is nothing
    assert along_row[1].sum() > 50 * along_column[1].sum()  # the edge goes down the image
    assert np.unravel_index(laplacian[2].argmax(), (4, 4)) == (2, 2)


def test_the_filters_are_gaussian_derivatives():
    """scipy's, normalised by scale, are the reference; both signs are averaged apart."""
    from scipy import ndimage

    image = np.random.default_rng(4).integers(0, 256, (64, 64)).astype(np.uint8)
    found = extract_features(filter_bank(64), image[None]).reshape(4, 4, 12)
    expected = []
    for sigma in (1.0, 2.0):
        gray, more = image / 255 - 0.5, {"sigma": sigma, "radius": 6}
        parts = [sigma * ndimage.gaussian_filter(gray, order=order, **more) for order in ((0, 1), (1, 0))]
        laplacian = sigma**2 * sum(ndimage.gaussian_filter(gray, order=order, **more) for order in ((0, 2), (2, 0)))
        expected += [*parts, laplacian]
    expected = np.stack([*expected, *np.negative(expected)], axis=-1)[6:-6, 6:-6]
    cells = np.maximum(expected, 0).reshape(4, 13, 4, 13, 12).mean(axis=(1, 3))
    both = lambda array: array[..., :6] + array[..., 6:]  # noqa: E731 - scipy correlates, so signs of odd filters may differ
    np.testing.assert_allclose(both(found), both(cells), rtol=0.05, atol=2e-3)


def test_a_public_backbone_answers_in_range_and_is_read_back(tmp_path):
    public = PublicBackbone("filters", None, 32, None, 3)
    model = public.build(IMAGES, 3)
    found = extract_features(model, IMAGES)
    raw = extract_features(filter_bank(32), IMAGES)
    weights, bias = public_layer(raw, 3)
    np.testing.assert_allclose(found, np.clip(raw @ weights + bias, 0, 1), atol=1e-4)
    sha256 = save_backbone(model, tmp_path / "public.keras")
    np.testing.assert_allclose(extract_features(load_backbone(tmp_path / "public.keras", sha256=sha256), IMAGES), found, atol=1e-6)
    kernel, bias = model.get_layer("components").get_weights()
    model.get_layer("components").set_weights([kernel * 100, bias])
    extreme = extract_features(model, IMAGES)
    assert extreme.min() == 0 and extreme.max() == 1  # what lies beyond 8 standard deviations is cut


def test_a_public_backbone_of_mobilenet_is_that_network_and_the_public_layer(network, plain_model, tmp_path):
    path = tmp_path / "no_top.weights.h5"
    network.get_layer("backbone").save_weights(path)
    found = extract_features(PublicBackbone(str(path), 0.35, 32, ("block_3_expand_relu",), 3).build(IMAGES, 3), IMAGES)
    raw = extract_features(Backbone("plain", 0.35, 32, ("block_3_expand_relu",)).build(plain_model), IMAGES)
    weights, bias = public_layer(raw, 3)
    np.testing.assert_allclose(found, np.clip(raw @ weights + bias, 0, 1), atol=1e-3)


def test_more_components_than_public_films_give_are_refused():
    with pytest.raises(ConfigError, match=r"backbone.num_features must be at most 4, .* of 5 public films, or 192, .*; got 5"):
        PublicBackbone("filters", None, 32, None, 5).build(IMAGES, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "plain"}, r"weights must be filters, imagenet .*, got plain: models/plain has seen the hospitals' films"),
        ({"alpha": 0.35}, "both must be null with weights filters"),
        ({"layers": ("block_3_expand_relu",)}, "both must be null with weights filters"),
        ({"weights": "imagenet"}, "and alpha a number with others; got alpha None"),
        ({"weights": "imagenet", "alpha": 0.4}, "alpha must be one of"),
    ],
)
def test_public_backbones_that_are_none_are_refused_by_name(change, message):
    values = {"weights": "filters", "alpha": None, "input_px": 32, "layers": None, "num_features": None}
    assert construct(PublicBackbone, values, "backbone").num_features is None
    with pytest.raises(ConfigError, match=message):
        construct(PublicBackbone, values | change, "backbone")
