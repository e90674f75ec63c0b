"""Private inference as a branch of the pipeline: heads of the configuration, how they are trained, used and attacked.

The model owner trains a head on features of plain images. Clients compute features with the public backbone and encrypt them; the owner's
server evaluates the head on ciphertexts. See docs/private-head.md.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import PROJECT, Workspace, build, check_built_for, checkout, plain, read_built_for, write_built_for
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.evaluation.predictions.calibration import Calibration, calibrate
from ppdl.experiment.training.runs import PLAIN, Run, runs_of, spec_of
from ppdl.private_head.fit import FittedHead, fit_head
from ppdl.private_head.head import BACKBONE_FILE, PublicHead, QuantisedHead, load_head
from ppdl.private_head.inference import Answers, Inference

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PrivateKey

NOTE = (
    "The head was trained on **plain** features of the model owner's images. Confidential are the images that it classifies: its server "
    "sees their features encrypted, with a fresh obfuscator each. Clients learn the logits, and the backbone is public."
)


def head_run(cfg: DictConfig, name: str) -> Run:
    """Return the run of a head."""
    (run,) = runs_of(cfg, name)
    return run


def write_backbone(cfg: DictConfig, workspace: Workspace, name: str) -> tuple[Any, str]:
    """Build the backbone of a head, write it to models/NAME, and return the Keras model with the SHA-256 of its file."""
    from ppdl.training.networks.features import save_backbone

    (network,) = runs_of(cfg, PLAIN)
    backbone = build(cfg.heads[name].backbone, f"heads.{name}.backbone").build(workspace.inputs / network.folder / "model.keras")
    return backbone, save_backbone(backbone, workspace.outputs / head_run(cfg, name).folder / BACKBONE_FILE)


def features_of(backbone: Any, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Return the features of some prepared images: (num_images, num_features) float32, zero in all other rows."""
    from ppdl.training.networks.features import extract_features

    features = np.zeros((len(prepared.index), backbone.output_shape[-1]), np.float32)
    features[rows] = extract_features(backbone, Reduced(prepared.images, backbone.input_shape[1]), rows)
    return features


def train_head(
    cfg: DictConfig,
    workspace: Workspace,
    run: Run,
    prepared: Prepared,
    rows: dict[str, np.ndarray],
    features: np.ndarray,
    *,
    backbone_sha256: str,
    stage: str,
    keep_model: bool = True,
) -> FittedHead:
    """Train a head, track it as an MLflow run, and write it beside its backbone.

    Args:
        rows: row numbers of `train`, `validation` and `test`; of the last only the number is used.
        features: (num_images, num_features) of all prepared images, those of the test split not used.
        keep_model: False for one fold of many: nothing is written.
    """
    from ppdl.tracking import start_training_run

    spec = spec_of(
        cfg,
        workspace,
        run,
        prepared,
        rows,
        stage=stage,
        path="data/prepared",
        sha256=prepared.meta["images_sha256"],
        confidential=True,
        key_fingerprint=None,
        description=NOTE,
    )
    folder = workspace.outputs / run.folder
    with start_training_run(spec, store_root=checkout(), project=PROJECT, experiment=cfg.tracking.experiment) as tracked:
        start = time.perf_counter()
        fitted, calibration = _fit(cfg, run.branch, prepared, rows, features, backbone_sha256)
        seconds = time.perf_counter() - start
        tracked.log_epoch(1, {key: fitted.summary[key] for key in ("val_accuracy", "val_log_loss")})
        tracked.log_summary(fitted.summary | calibration.figures | {"seconds": seconds})
        if keep_model:
            fitted.head.save(folder)
            calibration.write(folder)
            write_built_for(folder, _built_for(cfg, run.branch))
            tracked.write_record(folder / "run.json")
    return fitted


def _fit(
    cfg: DictConfig, name: str, prepared: Prepared, rows: dict[str, np.ndarray], features: np.ndarray, backbone_sha256: str
) -> tuple[FittedHead, Calibration]:
    """Fit a head, and its temperature to the validation images."""
    labels, node = prepared.index["label"].to_numpy(), plain(cfg.heads[name].backbone)
    weights = node["weights"] if node["weights"] in (PLAIN, "imagenet") else Path(node["weights"]).name
    fitted = fit_head(
        features,
        labels,
        rows["train"],
        rows["validation"],
        settings=build(cfg.heads[name].fit, f"heads.{name}.fit"),
        class_names=prepared.class_names,
        backbone={key: value for key, value in node.items() if key != "_target_"}
        | {"weights": weights, "prepared_px": cfg.prepared_px, "sha256": backbone_sha256},
    )
    head, validation = fitted.head, rows["validation"]
    found = calibrate(labels[validation], head.logits(head.quantise(features[validation])) * head.logit_scale)
    return replace(fitted, head=replace(head, temperature=found.temperature)), found


def infer(cfg: DictConfig, name: str, head: QuantisedHead, features: np.ndarray, private_key: PrivateKey) -> Answers:
    """Classify integer features, uint8 (num_images, num_features), under encryption.

    Raises:
        CryptoError: a decrypted logit is not that of the integer head.
    """
    inference: Inference = build(cfg.heads[name].inference, f"heads.{name}.inference")
    return inference.run(head, features, private_key)


def open_head(cfg: DictConfig, workspace: Workspace, name: str) -> QuantisedHead:
    """Return the trained head of a branch.

    Raises:
        ConfigError: it was trained for other values than the configuration asks for.
    """
    folder = workspace.inputs / head_run(cfg, name).folder
    check_built_for(read_built_for(folder), _built_for(cfg, name), what=str(folder))
    return load_head(folder)


def integer_features(head: PublicHead, folder: Path, images: Any, rows: np.ndarray | None = None) -> np.ndarray:
    """Return what a client encrypts of images (num_images, input_px, input_px) uint8, or of some rows: uint8 (num_rows, num_features)."""
    from ppdl.training.networks.features import load_extractor

    return head.quantise(load_extractor(folder / BACKBONE_FILE, sha256=head.backbone["sha256"])(images, rows))


def _built_for(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Return what a trained head depends on."""
    return {"prepared_px": cfg.prepared_px, f"heads.{name}": {key: cfg.heads[name][key] for key in ("backbone", "fit")}}
