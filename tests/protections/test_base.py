"""A view describes itself rightly or not at all, and a protection says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from ppdl.errors import ConfigError
from ppdl.protections.base import Protection
from ppdl.protections.view import View, plain_view

SYMBOLS = np.zeros((4, 6, 5), np.uint8)
TABLE = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]


def view(**changes) -> View:
    values = {"name": "v", "array": SYMBOLS, "table": None, "trainable": False, "scale": 0.5, "offset": -1.0}
    return View(**(values | changes))


def test_plain_images_are_scaled_to_minus_one_and_one():
    pixels = plain_view(np.array([[[0, 255]]], np.uint8))
    np.testing.assert_allclose(pixels.array * pixels.scale + pixels.offset, [[[-1, 1]]], atol=1e-12)
    assert (pixels.name, pixels.table, pixels.trainable) == ("pixels", None, False)


def test_plain_images_must_be_bytes():
    with pytest.raises(ConfigError, match=r"images must be uint8, .* got uint16"):
        plain_view(SYMBOLS.astype(np.uint16))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32"])
def test_integers_that_int32_holds_are_taken(dtype):
    assert view(array=SYMBOLS.astype(dtype)).array.dtype == dtype


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_tables_of_one_and_three_are_taken(channels):
    view(array=np.zeros((2, 4, 4, channels), np.uint8))
    view(table=np.zeros((7, channels), np.float32), trainable=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "a view needs a name"),
        ({"array": SYMBOLS.astype(np.float32)}, "integers that int32 can hold, got float32"),
        ({"array": SYMBOLS.astype(np.uint32)}, "integers that int32 can hold, got uint32"),
        ({"array": SYMBOLS.astype(bool)}, "integers that int32 can hold, got bool"),
        ({"array": SYMBOLS[0]}, r"array must be \(num_images, height, width\) .* got \(6, 5\)"),
        ({"array": np.zeros((2, 4, 4, 2), np.uint8)}, r"1 or 3\), got \(2, 4, 4, 2\)"),
        ({"array": SYMBOLS[:0]}, r"must not be empty, got \(0, 6, 5\)"),
        ({"trainable": True}, "trainable needs a table"),
        ({"scale": 0.0}, "scale not 0, got scale 0.0"),
        ({"scale": float("nan")}, "must be finite"),
        ({"offset": float("inf")}, "must be finite"),
        ({"table": TABLE, "array": SYMBOLS[..., None]}, r"symbols must be \(num_images, height, width\), got \(4, 6, 5, 1\)"),
        ({"table": TABLE.astype(np.float64)}, r"float32, got \(256, 1\) float64"),
        ({"table": TABLE[:, 0]}, r"\(num_symbols, 1 or 3\) float32, got \(256,\)"),
        ({"table": np.zeros((4, 2), np.float32)}, r"got \(4, 2\)"),
        ({"table": TABLE[:0]}, r"got \(0, 1\)"),
        ({"table": TABLE * 1.5}, r"table must lie in \[-1, 1\], got -1.5 to 1.5"),
        ({"table": np.full((4, 1), np.nan, np.float32)}, r"table must lie in \[-1, 1\]"),
    ],
)
def test_a_view_that_breaks_a_rule_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        view(**changes)


def declare(**attributes) -> type[Protection]:
    return type("Toy", (Protection,), attributes)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": "../up"}, "must be an identifier, for it names folders; got '../up'"),
        ({"views": ()}, r"views must be a tuple of different names, got \(\)"),
        ({"views": ("a", "a")}, "different names"),
        ({"views": "abc"}, "must be a tuple"),
        ({"reason": ""}, "must say why"),
    ],
)
def test_a_protection_with_a_bad_declaration_is_refused(attributes, message):
    with pytest.raises(ConfigError, match=message):
        declare(**attributes)


def test_a_protection_must_encrypt_and_show():
    with pytest.raises(TypeError, match="abstract"):
        declare(name="toy", views=("a",), confidential=False, reason="a test")()


def test_the_parameters_of_a_protection_are_its_fields_and_the_input_size():
    @dataclass(frozen=True)
    class Toy(Protection):
        stride: int
        name: ClassVar[str] = "toy"
        views: ClassVar[tuple[str, ...]] = ("only",)
        confidential: ClassVar[bool] = False
        reason: ClassVar[str] = "a test"

        def encrypt(self, images, out_dir, context): ...

        def read(self, folder, view_name, train_rows): ...

    toy = Toy(stride=2)
    assert toy.params(64) == {"input_px": 64, "stride": 2}
    assert toy.image_px(64) == 64
