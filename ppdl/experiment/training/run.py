"""One training of an experiment: where its model lies, and what MLflow is told of it before it begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from omegaconf import DictConfig

from ppdl.config import PROJECT, checkout, plain
from ppdl.datasets.prepared.splitting import SPLITS
from ppdl.experiment.experiment import Experiment
from ppdl.tracking.runs.record import DatasetRecord

if TYPE_CHECKING:
    from ppdl.evaluation.predictions.predictions import Predictions
    from ppdl.tracking import TrainingRun

PLAIN, PIXELS = "plain", "pixels"


@dataclass(frozen=True)
class Origin:
    """Say what a run is trained on.

    Attributes:
        path: relative to a workspace's root, as dvc.yaml writes it. sha256: of it.
        confidential: what the protection says of itself.
        key_fingerprint: of the public key; None without encryption.
        note: what the trainer sees, in words.
    """

    path: str
    sha256: str
    confidential: bool
    key_fingerprint: str | None
    note: str


@dataclass(frozen=True, eq=False)
class Run(ABC):
    """One training of an experiment: a network (`NetworkRun`), or a head for private inference (`HeadRun`).

    Attributes:
        name: key in reports and name in MLflow.
        branch: "plain", a key of `protections` or of `heads`.
        view: what is trained on.
    """

    experiment: Experiment
    name: str
    branch: str
    view: str

    verdict: ClassVar[Mapping[str, Any]] = {"best_ssim": 1.0, "level": "in the clear", "sentence": "the trainer sees the images"}
    # of a run that no audit is for

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Folder of the model, relative to a workspace's root."""

    @property
    @abstractmethod
    def key_purpose(self) -> str | None:
        """Purpose of the key pair that the run needs; None: it needs none."""

    @property
    @abstractmethod
    def is_control(self) -> bool:
        """Whether the run must stay at chance."""

    @property
    @abstractmethod
    def input_px(self) -> int | None:
        """Side of the images that the network sees; None: it is chosen by training."""

    @property
    @abstractmethod
    def draws(self) -> bool:
        """Whether its training depends on the seed."""

    @abstractmethod
    def predict(self) -> Predictions:
        """Return what the trained run says of the test images."""

    def at(self, there: Experiment) -> Self:
        """Return the same trained run, asked about the test images of another experiment."""
        return replace(self, experiment=there)

    @property
    def trained(self) -> Path:
        """Folder that the trained model is read from."""
        return self.experiment.workspace.inputs / self.folder

    @property
    def out_dir(self) -> Path:
        """Folder that a training writes its model to."""
        return self.experiment.workspace.outputs / self.folder

    @property
    def validated_on(self) -> str:
        """The set that calibration and thresholds come of, in words and without a path."""
        prepared = self.experiment.prepared
        name, sha256 = dataset_name(self.experiment.cfg), prepared.meta["images_sha256"]
        drawn = ", which a program drew" if name == "phantom" else ""
        return f"{len(prepared.rows('validation'))} validation images of {name}{drawn} (SHA-256 {sha256[:12]})"

    def tracked(self, origin: Origin, stage: str) -> AbstractContextManager[TrainingRun]:
        """Start the MLflow run of a training on `origin`, which ends with the block; `stage` is the module that trains."""
        from ppdl.tracking import RunSpec, start_training_run

        cfg, workspace, prepared = self.experiment.cfg, self.experiment.workspace, self.experiment.prepared
        num_images = {name: len(prepared.rows(name)) for name in SPLITS}
        spec = RunSpec(
            name=self.name,
            stage=stage,
            config=plain(cfg),
            protection=self.branch,
            view=self.view,
            confidential=origin.confidential,
            key_fingerprint=origin.key_fingerprint,
            dataset=DatasetRecord(dataset_name(cfg), origin.sha256, origin.path, num_images),
            inputs=("data/prepared/index.csv", origin.path),
            data_sha256=prepared.sha256,
            sweep=workspace.sweep,
            job=workspace.job,
            overrides=workspace.overrides,
            description=origin.note,
        )
        return start_training_run(spec, store_root=checkout(), project=PROJECT, experiment=cfg.tracking.experiment)


def dataset_name(cfg: DictConfig) -> str:
    """Return the name of the dataset's configuration, such as "phantom"."""
    return str(cfg.dataset["_target_"]).rsplit(".", 1)[-1].lower()
