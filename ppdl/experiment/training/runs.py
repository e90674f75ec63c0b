"""Which runs the configuration asks for, and what MLflow is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, check_built_for, plain
from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.errors import ConfigError
from ppdl.tracking.runs.record import DatasetRecord

if TYPE_CHECKING:
    from ppdl.tracking import RunSpec

PLAIN = "plain"


@dataclass(frozen=True)
class Run:
    """One training: one view of one branch.

    Attributes:
        name: key in reports and name in MLflow: the branch, with the view appended unless it is the branch's first.
        branch: "plain" or a key of `protections`.
        view: what the network is fed.
        private: a head for private inference, see `ppdl.experiment.training.head_run`; its branch is a key of `heads`.
    """

    name: str
    branch: str
    view: str
    private: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the model, relative to a workspace's root."""
        return Path("models") / self.branch / ("" if self.private else self.view)


def runs_of(cfg: DictConfig, branch: str | None = None) -> list[Run]:
    """List the runs of the configuration, or of one branch, in the order of the reports: plain first."""
    runs = [Run(PLAIN, PLAIN, "pixels")]
    for key, node in cfg.protections.items():
        if not node.views:
            raise ConfigError(f"protections.{key}.views must name at least one view, got []")
        runs += [Run(key if i == 0 else f"{key}-{view}", key, view) for i, view in enumerate(node.views)]
    runs += [Run(key, key, "features", private=True) for key in cfg.get("heads") or {}]
    return [run for run in runs if branch in (None, run.branch)]


def prepared_data(cfg: DictConfig, workspace: Workspace) -> Prepared:
    """Load the prepared images and make sure that they were built for this configuration."""
    path = workspace.inputs / "data/prepared"
    prepared = load_prepared(path)
    wanted = {key: cfg[key] for key in ("dataset", "split", "prepared_px")}
    check_built_for(prepared.meta["params"], wanted, what=str(path))
    return prepared


def spec_of(
    cfg: DictConfig,
    workspace: Workspace,
    run: Run,
    prepared: Prepared,
    rows: Mapping[str, np.ndarray],
    *,
    stage: str,
    path: str,
    sha256: str,
    confidential: bool,
    key_fingerprint: str | None,
    description: str,
) -> RunSpec:
    """Return what MLflow is told of a training before it begins.

    Args:
        rows: row numbers of each split; only how many there are is used.
        path, sha256: of what is trained on.
    """
    from ppdl.tracking import RunSpec

    return RunSpec(
        name=run.name,
        stage=stage,
        config=plain(cfg),
        protection=run.branch,
        view=run.view,
        confidential=confidential,
        key_fingerprint=key_fingerprint,
        dataset=DatasetRecord(dataset_name(cfg), sha256, path, {name: len(numbers) for name, numbers in rows.items()}),
        inputs=("data/prepared/index.csv", path),
        data_sha256=prepared.sha256,
        sweep=workspace.sweep,
        job=workspace.job,
        overrides=workspace.overrides,
        description=description,
    )


def dataset_name(cfg: DictConfig) -> str:
    """Return the name of the dataset's configuration, such as "phantom"."""
    return str(cfg.dataset["_target_"]).rsplit(".", 1)[-1].lower()
