"""From image files to network input, by the very functions of the stages: split, encrypt, stem, reveal."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.config import construct
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.keystore import require_private
from ppdl.crypto.workers.parallel import Executor
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.datasets.prepared.resize import area_mean, area_resize
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError, TrackingError
from ppdl.prediction.recipe import Recipe
from ppdl.protections.base import Protection
from ppdl.protections.branch import Branch
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.steps.noise import NOISE_FILE
from ppdl.protections.steps.reveal import Reveal
from ppdl.protections.steps.stem import FilterStep
from ppdl.protections.view import View, plain_view

KINDS: dict[str, type] = {"stem": FilterStep, "reveal": Reveal}  # of the steps after encryption
_MOST_ENLARGED = 8  # times: an image of fewer pixels shows no lung
_FEW_IMAGES = 8  # from here on starting worker processes costs less than it saves


def read_images(
    paths: Iterable[Any], prepared_px: int, read: Callable[[Any], np.ndarray] = read_gray, *, input_px: int | None = None
) -> tuple[np.ndarray, list[Any], dict[Any, str]]:
    """Read image files as stage `split` does: 8-bit gray, squashed to a square of `prepared_px` by area mean. Those that it would
    enlarge more than 8 times are not read.

    Args:
        paths: files, or what `read` takes.
        input_px: side that they are then shrunk to, which divides prepared_px; None: they are not.

    Returns:
        Images (num_readable, px, px) uint8, the paths that they are of, and why each of the other paths was not read.

    Raises:
        DataError: a file is DICOM and pydicom is missing.
    """
    images, readable, bad = [], [], {}
    for path in paths:
        try:
            gray = read(path)
            if min(gray.shape) * _MOST_ENLARGED < prepared_px:
                height, width = gray.shape
                raise BadImageError(f"too small: {width} x {height} px, and at least {-(-prepared_px // _MOST_ENLARGED)} a side are needed")
            images.append(area_resize(gray, prepared_px))
            readable.append(path)
        except BadImageError as error:
            bad[path] = str(error)
    prepared = np.stack(images) if images else np.empty((0, prepared_px, prepared_px), np.uint8)
    return area_mean(prepared, input_px or prepared_px), readable, bad


def protection_of(recipe: Recipe) -> Protection:
    """Construct the protection that a network was trained on."""
    scheme: Protection = _step(recipe, "scheme", Protection)
    return scheme


def _step(recipe: Recipe, name: str, kind: type) -> Any:
    """Construct a step of a recipe.

    A recipe comes with a model, which may come from anyone, and `_target_` can name any function of any module: nothing is imported
    here but a scheme's or a step's of ppdl.protections, and nothing called but a class of it that is a `kind`.

    Raises:
        TrackingError: the recipe names something else.
    """
    node = dict(recipe.branch.get(name) or {})
    target = str(node.pop("_target_", None))
    module, _, class_name = target.rpartition(".")
    found = None
    if re.fullmatch(r"ppdl\.protections\.(schemes|steps)\.[a-z_0-9]+", module):
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(module), class_name, None)
    if not isinstance(found, type) or found.__module__ != module or not issubclass(found, kind):
        raise TrackingError(
            f"the model's recipe names {target!r} as its {name}, which is no {kind.__name__} of ppdl.protections: nothing of it was run"
        )
    return construct(found, node, f"protections.{recipe.protection}.{name}")


def view_of(
    recipe: Recipe, images: np.ndarray, folder: Path, *, public_key: PublicKey | None, artifact_dir: Path | None, key_holder: KeyHolder
) -> View:
    """Take images through the steps that the network's own images took.

    Args:
        images: (num_images, prepared_px, prepared_px) uint8.
        folder: a new folder for ciphertexts and what is revealed of them; it must outlive the view.
        public_key: the recipe's; None for plain.
        artifact_dir: the artifact that the network was trained on, for a protection that needs it.
        key_holder: used by the step `reveal` alone.

    Returns:
        The view, row i of image i.

    Raises:
        ArtifactError: `artifact_dir` is missing where it is needed, or of another key or protection.
        ConfigError: the protection cannot encrypt further images for a trained network.
        KeyStoreError: `reveal` needs a private key or a noise secret that is not here.
    """
    if public_key is None:
        return plain_view(Reduced(images, recipe.input_px))
    scheme = protection_of(recipe)
    if scheme.needs_artifact and artifact_dir is None:
        raise ArtifactError(f"{recipe.protection}: this network reads new images only with the artifact that it was trained on, got None")
    branch = Branch(scheme, {name: _step(recipe, name, kind) for name, kind in KINDS.items() if recipe.steps})
    if "reveal" in branch.steps:
        _check_private_part(branch.steps["reveal"], public_key, key_holder)
    context = Context(
        public_key=public_key,
        input_px=recipe.input_px,
        partial_dir=folder / "partial",
        executor=Executor(num_workers=1 if len(images) < _FEW_IMAGES else None, shard_mib=4, min_shards=1, table_mib=256),
        like=artifact_dir,
        key_holder=key_holder,
        progress=False,
    )
    view = scheme.view(branch.protect(images, folder, context), recipe.view, np.arange(len(images)))
    if view.table is not None and not scheme.needs_artifact:
        raise ConfigError(
            f"protection {recipe.protection} draws new symbols for each artifact, which a network trained on another cannot read: "
            "have its `encrypt` keep to the symbols of `context.like`, and set `needs_artifact` (ppdl.protections.base.Protection)"
        )
    return view


def _check_private_part(reveal: Reveal, public_key: PublicKey, key_holder: KeyHolder) -> None:
    """Raise KeyStoreError unless what was revealed of the training images can be revealed of others in the same way."""
    if reveal.noise and not (key_holder.private_dir / NOISE_FILE).is_file():
        # Reveal would make a new secret. Images of the training set would then be out under two noises, whose mean is closer to them.
        raise KeyStoreError(
            f"{key_holder.private_dir / NOISE_FILE} is missing, and this model was trained on views with noise {reveal.noise}: restore the "
            "owner's secret that their noise was drawn with"
        )
    require_private(public_key, key_holder.private_dir)
