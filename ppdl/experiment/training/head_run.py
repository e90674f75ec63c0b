"""Private inference as a branch of the pipeline: heads of the configuration, how they are trained, used and attacked.

A model owner trains a head on features of plain images, or several hospitals do on encrypted sums (`ppdl.pooling`). Clients compute
features with the public backbone and encrypt them; the owner's server evaluates the head on ciphertexts. See docs/private-head.md.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import build, check_built_for, plain, read_built_for, write_built_for
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import DataError
from ppdl.evaluation.predictions.calibration import Calibration, calibrate
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.experiment.experiment import PREPARED, Experiment
from ppdl.experiment.training.run import PIXELS, PLAIN, Origin, Run
from ppdl.private_head.fit import FittedHead, fit_head
from ppdl.private_head.head import BACKBONE_FILE, PublicHead, QuantisedHead, backbone_facts, load_head, load_public_head
from ppdl.private_head.inference import Answers, Inference
from ppdl.records.reading import read_arrays

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PrivateKey

NOTE = (
    "The head was trained on **plain** features of the model owner's images. Confidential are the images that it classifies: its server "
    "sees their features encrypted, with a fresh obfuscator each. Clients learn the logits, and the backbone is public."
)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the prepared images, (num_images, num_features) float32, and the SHA-256 of the backbone's file that gave them."""

    array: np.ndarray
    backbone_sha256: str


class HeadRun(Run):
    """A linear head on features of images, which classifies ciphertexts; its branch is a key of `heads`."""

    is_control = False
    key_purpose = INFERENCE
    draws = False

    @property
    def folder(self) -> Path:
        return Path("models") / self.branch

    @property
    def node(self) -> DictConfig:
        """The node of the configuration: backbone, fit or pooling, inference."""
        return self.experiment.cfg.heads[self.branch]

    @property
    def input_px(self) -> int:
        return int(self.node.backbone.input_px)

    @property
    def is_fitted(self) -> bool:
        """Whether its owner trains it; else hospitals do, on encrypted sums."""
        return "fit" in self.node

    def write_features(self, rows: np.ndarray) -> Features:
        """Build the backbone, write it to models/NAME, and return the features of some prepared images; all others are zero."""
        from ppdl.training.networks.features import extract_features, save_backbone

        images = self.experiment.prepared.images
        network = self.experiment.workspace.inputs / "models" / PLAIN / PIXELS / "model.keras"
        backbone = build(self.node.backbone, f"heads.{self.branch}.backbone").build(network)
        sha256 = save_backbone(backbone, self.out_dir / BACKBONE_FILE)
        features = np.zeros((len(images), backbone.output_shape[-1]), np.float32)
        features[rows] = extract_features(backbone, Reduced(images, backbone.input_shape[1]), rows)
        return Features(features, sha256)

    def train(self, features: Features, *, stage: str, keep_model: bool = True) -> FittedHead:
        """Train a head, track it as an MLflow run, and write it beside its backbone.

        Args:
            features: of all prepared images, those of the test split not used.
            stage: module that trains, for the run's tags.
            keep_model: False for one fold of many: nothing is written.
        """
        sha256 = self.experiment.prepared.meta["images_sha256"]
        with self.tracked(Origin(PREPARED, sha256, confidential=True, key_fingerprint=None, note=NOTE), stage) as tracked:
            start = time.perf_counter()
            fitted, calibration = self._fit(features)
            seconds = time.perf_counter() - start
            tracked.log_epoch(1, {key: fitted.summary[key] for key in ("val_accuracy", "val_log_loss")})
            tracked.log_summary(fitted.summary | calibration.figures | {"seconds": seconds})
            if keep_model:
                fitted.head.save(self.out_dir)
                calibration.write(self.out_dir)
                write_built_for(self.out_dir, self._built_for())
                tracked.write_record(self.out_dir / "run.json")
        return fitted

    def _fit(self, features: Features) -> tuple[FittedHead, Calibration]:
        """Fit a head, and its temperature to the validation images."""
        prepared = self.experiment.prepared
        labels, validation = prepared.index["label"].to_numpy(), prepared.rows("validation")
        fitted = fit_head(
            features.array,
            labels,
            prepared.rows("train"),
            validation,
            settings=build(self.node.fit, f"heads.{self.branch}.fit"),
            class_names=prepared.class_names,
            backbone=self.backbone_facts(features.backbone_sha256),
        )
        head = fitted.head
        found = calibrate(labels[validation], head.logits(head.quantise(features.array[validation])) * head.logit_scale, self.validated_on)
        return replace(fitted, head=replace(head, temperature=found.temperature)), found

    def keep_opened(self, answer: Path, backbone: Path, origin: Origin, summary: Mapping[str, float], *, stage: str) -> None:
        """Track a head that came of hospitals' sums as an MLflow run, and write it beside its backbone, as `train` does.

        Args:
            answer: folder of the head, as the key holder keeps it.
            backbone: file of the public backbone.
            origin: the sums.
        """
        head = load_head(answer)
        unfitted = Calibration(head.temperature, 0, None, None, None, None)
        with self.tracked(origin, stage) as tracked:
            tracked.log_summary({**summary, **unfitted.figures})
            head.save(self.out_dir)
            shutil.copyfile(backbone, self.out_dir / BACKBONE_FILE)
            unfitted.write(self.out_dir)
            write_built_for(self.out_dir, self._built_for())
            tracked.write_record(self.out_dir / "run.json")

    def backbone_facts(self, sha256: str) -> dict[str, Any]:
        """Return what a head says of its backbone, whose file has this SHA-256."""
        return backbone_facts(plain(self.node.backbone), self.experiment.cfg.prepared_px, sha256)

    def open(self) -> QuantisedHead:
        """Return the trained head.

        Raises:
            ConfigError: it was trained for other values than the configuration asks for.
        """
        check_built_for(read_built_for(self.trained), self._built_for(), what=str(self.trained))
        return load_head(self.trained)

    def infer(self, head: QuantisedHead, features: np.ndarray, private_key: PrivateKey) -> Answers:
        """Classify integer features, uint8 (num_images, num_features), under encryption.

        Raises:
            CryptoError: a decrypted logit is not that of the integer head.
        """
        inference: Inference = build(self.node.inference, f"heads.{self.branch}.inference")
        return inference.run(head, features, private_key)

    @property
    def logits_path(self) -> Path:
        """Where private inference leaves the logits of the test images, relative to a workspace's root."""
        external = self.experiment.external
        return Path("data/private") / self.branch / (f"external/{external}.npz" if external else "logits.npz")

    def predict(self) -> Predictions:
        """Return what private inference said of the test images.

        Raises:
            DataError: stage private_inference was run for other images, or not at all.
        """
        path, head = self.experiment.workspace.inputs / self.logits_path, load_public_head(self.trained)
        rows = self.experiment.prepared.rows("test")
        logits, found = read_arrays(
            path, DataError, names=("logits", "rows"), missing="run `dvc repro`", damaged="run `dvc repro`"
        ).values()
        if not np.array_equal(found, rows) or logits.shape != (len(rows), len(head.class_names)):
            raise DataError(f"{path} holds logits {logits.shape} of other test images than were prepared ({len(rows)}): run `dvc repro`")
        return self.predictions(logits, head.logit_scale)

    def predictions(self, logits: np.ndarray, scale: float) -> Predictions:
        """Return integer logits of the test images as predictions, 0 for the largest logit of each: rounding to float32 cannot change
        which it is."""
        prepared = self.experiment.prepared
        return predictions_of(prepared, prepared.rows("test"), (logits - logits.max(axis=1, keepdims=True)) * scale)

    def _built_for(self) -> dict[str, Any]:
        """Return what a trained head depends on."""
        chosen = {key: node for key, node in self.node.items() if key != "inference"}
        return {"prepared_px": self.experiment.cfg.prepared_px, f"heads.{self.branch}": chosen}


def head_run(experiment: Experiment, name: str) -> HeadRun:
    """Return the run of a head."""
    return HeadRun(experiment, name, name, "features")


def head_runs(experiment: Experiment) -> list[HeadRun]:
    """List the heads of the configuration."""
    return [head_run(experiment, name) for name in experiment.cfg.get("heads") or {}]


def integer_features(head: PublicHead, folder: Path, images: Any, rows: np.ndarray | None = None) -> np.ndarray:
    """Return what a client encrypts of images (num_images, input_px, input_px) uint8, or of some rows: uint8 (num_rows, num_features)."""
    from ppdl.training.networks.features import load_extractor

    return head.quantise(load_extractor(folder / BACKBONE_FILE, sha256=head.backbone["sha256"])(images, rows))
