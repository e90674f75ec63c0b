"""Answers for image files: which model, what it says of each file, and where it looked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.datasets.images.image_io import shows_colour
from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.calibration import MOST
from ppdl.evaluation.predictions.likeness import FALSE_ALARMS
from ppdl.prediction.network import Network, NetworkAnswers, open_network
from ppdl.prediction.recipe import PLAIN
from ppdl.prediction.steps import protection_of, read_images
from ppdl.protections.context import KeyHolder

DISCLAIMER = "ppdl is research software and not a medical device: do not use its answers for diagnosis."
TIE = 1e-6  # between the largest and the least probability: float32 logits that are equal


@dataclass(frozen=True)
class FileAnswer:
    """What the network says of one file.

    Attributes:
        class_name: the most probable class; None where the network does not know: its calibration is at its bound, so validation showed it
            no better than even probabilities, all classes tie, or it is a negative control.
        probabilities: of each class name, calibrated.
        unseen: share of pixels with a symbol that no training image held; None where the network is fed values.
        unlike: whether the image is unlike the training set, to the network; None where that is not known.
    """

    path: Path
    class_name: str | None
    probabilities: Mapping[str, float]
    unseen: float | None
    unlike: bool | None

    @cached_property
    def coloured(self) -> bool:
        """Whether the file is a coloured picture, of which the network saw the brightness alone."""
        return shows_colour(self.path)

    @property
    def tree(self) -> dict[str, Any]:
        """The answer as JSON values, but for what only a network on this machine can say."""
        answer = {"file": str(self.path), "class": self.class_name, "probabilities": dict(self.probabilities)}
        return answer | {"coloured": self.coloured}

    @classmethod
    def of(
        cls,
        path: Path,
        class_names: Sequence[str],
        found: np.ndarray,
        temperature: float,
        unseen: float | None = None,
        unlike: bool | None = None,
        *,
        learned: bool = True,
    ) -> FileAnswer:
        """Say what calibrated probabilities, (num_classes,), mean at the temperature that calibrated them, if it learned at all."""
        best = class_names[int(found.argmax())] if learned and temperature < MOST and np.ptp(found) > TIE else None
        return cls(path, best, dict(zip(class_names, found.tolist(), strict=True)), unseen, unlike)


@dataclass(frozen=True, eq=False)
class FileAnswers:
    """What the network says of some files.

    Attributes:
        bad: why each of the other files was not read.
        images, answers: of `rows`, prepared images and what the network said of them; None without any readable file.
        remark: what to think of the answers, where that is not plain from the figures.
    """

    rows: list[FileAnswer]
    bad: Mapping[Path, str]
    images: np.ndarray
    answers: NetworkAnswers | None = None
    remark: str | None = None


def find_network(model: str | None, protection: str | None, *, root: Path, config: Mapping[str, Any], folder: Path) -> Network:
    """Open the network that the user names.

    Args:
        model: models:/NAME@ALIAS, a folder such as models/plain/pixels, or None for that of `protection` (plain) as `dvc repro` built it.
        protection: what the model must have been trained on.
        config: the checkout's configuration: names the first view of a protection, and the MLflow experiment.
        folder: where a registered model is downloaded to.

    Raises:
        PpdlError: no such model, or one that was trained on another protection, key or artifact.
    """
    if model is not None and model.startswith("models:/"):
        from ppdl.tracking import open_store
        from ppdl.tracking.registry.models import fetch_registered

        found = fetch_registered(open_store(root, config["tracking"]["experiment"]), model, folder)
    else:
        found = Path(model) if model is not None else root / "models" / _default(protection or PLAIN, config)
    network = open_network(found)
    network.recipe.refuse_others(protection)
    return network


def _default(protection: str, config: Mapping[str, Any]) -> Path:
    """Return the place of the first view of a protection below models/."""
    if protection == PLAIN:
        return Path(PLAIN) / "pixels"
    if protection not in config["protections"]:
        names = ", ".join([PLAIN, *config["protections"]])
        raise ConfigError(f"--protection must be one of {names}, got {protection!r}")
    return Path(protection) / config["protections"][protection]["views"][0]


def predict_files(network: Network, paths: Iterable[Path], key_holder: KeyHolder) -> FileAnswers:
    """Ask a network about image files; those that cannot be read are named beside the answers for the others.

    Raises:
        PpdlError: see `Network.answer`.
    """
    recipe = network.recipe
    images, readable, bad = read_images(paths, recipe.prepared_px)
    remark, learned = None, recipe.protection == PLAIN or protection_of(recipe).learnable
    if not learned:
        remark = f"{recipe.protection} is a negative control: its ciphertexts tell a network nothing, so these answers are chance."
    if not readable:
        return FileAnswers([], bad, images, None, remark)
    answers = network.answer(images, key_holder)
    unseen, unlike = ([None] * len(readable) if found is None else found.tolist() for found in (answers.unseen, answers.unlike))
    rows = [
        FileAnswer.of(path, recipe.class_names, p, network.temperature, share, odd, learned=learned)
        for path, p, share, odd in zip(readable, answers.probabilities, unseen, unlike, strict=True)
    ]
    return FileAnswers(rows, bad, images, answers, remark)


def as_json(network: Network, found: FileAnswers) -> dict[str, Any]:
    """Return predictions as JSON values."""
    recipe = network.recipe
    return {
        "protection": recipe.protection,
        "view": recipe.view,
        "key_fingerprint": recipe.key_fingerprint,
        "temperature": network.temperature,
        "calibrated_on": network.calibration.set_by,
        "unlike_false_alarms": FALSE_ALARMS if network.likeness else None,
        "disclaimer": DISCLAIMER,
        "remark": found.remark,
        "predictions": [row.tree | {"unseen_share": row.unseen, "unlike_training_set": row.unlike} for row in found.rows],
        "failed": [{"file": str(path), "reason": reason} for path, reason in found.bad.items()],
    }


def refuse_overlays(network: Network, out_dir: Path) -> None:
    """Refuse what `write_overlays` could not write, before anything is answered.

    Raises:
        ConfigError: the view is no image of the patient, so a place in it is no place in the patient; or `out_dir` holds files.
    """
    recipe = network.recipe
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise ConfigError(f"--gradcam {out_dir}: must be a new or an empty folder, so that no picture is replaced")
    if recipe.protection != PLAIN and not protection_of(recipe).learnable:
        raise ConfigError(
            f"--gradcam shows where in an image a network looked, and view {recipe.view!r} of {recipe.protection} is no image: its pixels "
            "are bytes of ciphertexts. Leave the option out, or take another protection"
        )


def write_overlays(network: Network, found: FileAnswers, out_dir: Path) -> list[Path]:
    """Write for each answer where the network looked (Grad-CAM of the class that it names), over the image, as PNG."""
    from ppdl.evaluation.insight.gradcam import grad_cam
    from ppdl.evaluation.insight.overlay import write_overlay

    if found.answers is None:
        return []
    paths = []
    for number, (row, image, heat) in enumerate(zip(found.rows, found.images, grad_cam(network.model, found.answers.inputs), strict=True)):
        paths.append(out_dir / f"{number:03d}-{row.path.stem}-{row.class_name or 'unknown'}.png".replace("/", "_"))
        write_overlay(paths[-1], image, heat)
    return paths
