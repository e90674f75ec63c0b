"""The data of a registered model: all that `open_network` needs, and no image of the data set."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ppdl.crypto.artifact.header_file import HEADER_FILE
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keystore import save_public
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import TrackingError
from ppdl.evaluation.predictions.calibration import CALIBRATION_NAME
from ppdl.evaluation.predictions.likeness import LIKENESS_NAME
from ppdl.prediction.network import ARTIFACT_DIR, MODEL_FILE, PUBLIC_FILE, SEEN_FILE, in_checkout
from ppdl.prediction.pyfunc import COLUMN
from ppdl.prediction.recipe import PLAIN, RECIPE_FILE, Recipe
from ppdl.prediction.steps import protection_of
from ppdl.protections.context import Context

_ONE_WORKER = Executor(num_workers=1, shard_mib=4, min_shards=1, table_mib=64)


def source_sha256(root: Path, config: Mapping[str, Any], protection: str, images_sha256: str) -> str | None:
    """Return the digest of what the trainer of a protection reads in a checkout, as a run records it; None when it is not there."""
    if protection == PLAIN:
        return images_sha256
    path = root / "data" / config["protections"][protection]["train_on"] / protection / HEADER_FILE
    return hash_file(path) if path.is_file() else None


def write_package(out_dir: Path, recipe: Recipe, model_file: Path, *, calibration: Mapping[str, Any] | None, root: Path) -> str:
    """Write the data of a registered model.

    A protection that needs its training artifact gets one of a ramp of gray values under the same codebook: what stands for a gray value
    is kept, the images are not.

    Args:
        model_file: .keras file, copied byte for byte, with what its training images are like, where that lies beside it.
        calibration: the content of calibration.json.
        root: the checkout that the network was trained in.

    Returns:
        SHA-256 over model, recipe, calibration and likeness: equal for equal models, though a ramp is encrypted anew each time.

    Raises:
        PpdlError: the checkout holds another key or another artifact than the network was trained on, or the run has no calibration.
    """
    if calibration is None:
        raise TrackingError("the run was tracked without a calibration, so its model gives no calibrated probabilities: train again")
    out_dir.mkdir(parents=True)
    shutil.copyfile(model_file, out_dir / MODEL_FILE)
    if (likeness := model_file.with_name(LIKENESS_NAME)).is_file():
        shutil.copyfile(likeness, out_dir / LIKENESS_NAME)
    recipe.write(out_dir)
    (out_dir / CALIBRATION_NAME).write_text(json.dumps(calibration, indent=1) + "\n")
    _add_key(out_dir, recipe, root)
    names = [name for name in (MODEL_FILE, RECIPE_FILE, CALIBRATION_NAME, LIKENESS_NAME) if (out_dir / name).is_file()]
    parts = ((out_dir / name).read_bytes() for name in names)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _add_key(out_dir: Path, recipe: Recipe, root: Path) -> None:
    """Add the public key where there is one and, where it is needed, what stands for each gray value."""
    there = in_checkout(recipe, out_dir, root)
    there.check()
    if (public_key := there.public_key) is None:
        return
    save_public(out_dir / PUBLIC_FILE, public_key)
    if there.artifact_dir is None:
        return
    protection = protection_of(recipe)
    np.save(out_dir / SEEN_FILE, there.seen)
    px = protection.image_px(recipe.input_px)
    context = Context(public_key, recipe.input_px, out_dir / "partial", _ONE_WORKER, like=there.artifact_dir)
    protection.encrypt(ramp(px)[None], out_dir / ARTIFACT_DIR, context)


def ramp(px: int) -> np.ndarray:
    """Return gray values that run from 0 to 255 over and over, (px, px) uint8: an image that is of no patient."""
    return (np.arange(px * px) % 256).astype(np.uint8).reshape(px, px)


def input_example(px: int) -> pd.DataFrame:
    """Return what a request for a registered model looks like: one row, column `image`, a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(ramp(px)).save(file, "PNG")
    return pd.DataFrame({COLUMN: [base64.b64encode(file.getvalue()).decode("ascii")]})
