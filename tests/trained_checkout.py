"""A checkout after `dvc repro`, in miniature: phantoms, an insecure key, all three protections, an untrained network for each.

Networks with random weights do for the laws of prediction: what they say must be the same on every way to them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf

from ppdl.config import PARAMS, Workspace, build, plain
from ppdl.config.components import STEPS
from ppdl.crypto.keys.keystore import ensure_keypair
from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare
from ppdl.evaluation.predictions.calibration import Calibration
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import NetworkRun, network_runs
from ppdl.experiment.training.source import protection_of
from ppdl.protections.branch import Branch
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.view import View
from ppdl.tracking import DatasetRecord, RunSpec, start_training_run
from ppdl.training.networks.predict import save_model

TEMPERATURE = 1.7
SMALL = {
    "dataset": {"num_images": 24, "size_px": 48, "images_per_patient": 1},
    "prepared_px": 32,
    "input_px": 16,
    "keygen": {"key_bits": 512, "allow_insecure_key": True},
    "executor": {"num_workers": 1, "min_shards": 1, "table_mib": 16},
    "split": {"near_duplicate_bits": 0},
}


@dataclass(frozen=True)
class Trained:
    """A finished checkout: its folder, configuration, key folder and prepared images."""

    root: Path
    private_dir: Path
    cfg: DictConfig
    prepared: Prepared

    @property
    def config(self) -> dict[str, Any]:
        return plain(self.cfg)

    @property
    def experiment(self) -> Experiment:
        return Experiment(self.cfg, Workspace(self.root, self.root), self.prepared)

    def run(self, branch: str) -> NetworkRun:
        return network_runs(self.experiment, branch)[0]

    def raw_test_images(self) -> list[Path]:
        """The files of the test split, in the order of its rows."""
        return [self.root / "data/raw" / path for path in self.prepared.index.iloc[self.prepared.rows("test")]["path"]]

    def test_logits(self, branch: str) -> np.ndarray:
        """What stage evaluate computes."""
        return self.run(branch).predict().logits


def build_checkout(root: Path, private_dir: Path, branches: tuple[str, ...] = ("deterministic", "opaque", "homomorphic")) -> Trained:
    """Run every stage up to training, with the stages' own functions."""
    cfg = OmegaConf.merge(OmegaConf.load(PARAMS), SMALL)
    cfg.protections = {name: cfg.protections[name] for name in branches}
    cfg.heads, cfg.fitted, cfg.pooled = {}, [], []
    cfg.keygen.private_dir = str(private_dir)
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(plain(cfg)))
    build(cfg.dataset, "dataset").write_raw(root / "data/raw")
    params = plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")})
    split = Split(**plain(cfg.split))
    prepare(root / "data/raw", root / "data/prepared", root / "reports", split=split, prepared_px=32, on_bad_image="raise", params=params)
    trained = Trained(root, private_dir, cfg, load_prepared(root / "data/prepared"))
    key = ensure_keypair(root / "keys/public.json", private_dir, key_bits=512, allow_insecure_key=True, project=root)
    for name in cfg.protections:
        _protect(trained, name, key.public_key)
    for number, run in enumerate(network_runs(trained.experiment)):
        add_run(trained, run, seed=number, log_loss=1.0)
    return trained


def _protect(trained: Trained, name: str, public_key: Any) -> None:
    """Protect the images as the stages do, each step in its folder below data/."""
    root, cfg, node = trained.root, trained.cfg, trained.cfg.protections[name]
    branch = Branch(protection_of(cfg, name), {step: build(node[step], step) for step in STEPS if step in node})
    executor, holder = build(cfg.executor, "executor"), KeyHolder(trained.private_dir, root)
    context = Context(public_key, cfg.input_px, root / "partial", executor, key_holder=holder, progress=False)
    branch.protect(trained.prepared.images, root / "protected", context)
    for folder in (root / "protected").iterdir():
        (root / "data" / folder.name).mkdir(exist_ok=True)
        folder.rename(root / "data" / folder.name / name)


def network(view: View, num_classes: int, seed: int) -> Any:
    """Return a small network with random weights for any view."""
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input(view.array.shape[1:], dtype="uint8" if view.array.dtype == np.uint8 else "int32", name="view")
    if view.table is None:
        x = keras.layers.Rescaling(view.scale, view.offset)(inputs)
        x = x if len(x.shape) == 4 else keras.layers.Reshape((*x.shape[1:], 1))(x)
    else:
        table = keras.layers.Embedding(*view.table.shape)
        x = table(inputs)
        table.set_weights([view.table])
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=4))(x))


def add_run(trained: Trained, run: NetworkRun, *, seed: int, log_loss: float, folder: Path | None = None) -> Path:
    """Track a network as a finished run of the checkout's store, as training does; return its model folder."""
    cfg, prepared = trained.cfg, trained.prepared
    folder = folder or trained.root / run.folder
    source = run.source
    spec = RunSpec(
        name=run.name,
        stage="tests",
        config=plain(cfg),
        protection=run.branch,
        view=run.view,
        confidential=source.confidential,
        key_fingerprint=source.key_fingerprint,
        dataset=DatasetRecord("phantom", source.sha256, source.path, {"train": 16, "validation": 4, "test": 4}),
        inputs=(),
        data_sha256=prepared.sha256,
    )
    model = network(source.view, len(prepared.class_names), seed)
    calibration = Calibration(TEMPERATURE, 4, 1.0, 0.9, 0.2, 0.1)
    with start_training_run(spec, store_root=trained.root, project=trained.root, experiment=cfg.tracking.experiment) as tracked:
        save_model(model, folder / "model.keras")
        calibration.write(folder)
        tracked.log_summary({"best_val_log_loss": log_loss})
        tracked.log_model(
            folder / "model.keras",
            model,
            num_symbols=256,
            step=0,
            class_names=prepared.class_names,
            calibration=asdict(calibration),
        )
        tracked.write_record(folder / "run.json")
    return folder
