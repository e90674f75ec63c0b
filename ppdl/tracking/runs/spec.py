"""What is known of a training run before its first epoch, and the tags that it becomes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppdl.tracking.runs.provenance import dvc_tags, git_tags, machine_tags
from ppdl.tracking.runs.record import DatasetRecord
from ppdl.tracking.runs.redact import MAX_TAG, guard, shorten, valid_name, without_private

NOTE = "mlflow.note.content"  # the description on top of a run's page


@dataclass(frozen=True)
class RunSpec:
    """What is known of a training run before its first epoch.

    Attributes:
        name: NAME of the protection, or NAME-VIEW when the view is not the protection's default.
        stage: module that trains, such as "stages.train_plain".
        config: the composed configuration as plain values. Nodes named private (`keygen.private_dir`) are not logged.
        confidential: what the protection says of itself, never what one would like it to be.
        key_fingerprint: of the public key; None without encryption.
        inputs: what the stage reads, as dvc.yaml writes it, for DVC's hashes.
        data_sha256: of the prepared images, their labels and split: figures of two runs compare only where it is the same.
        sweep: folder of the Hydra sweep that the run belongs to.
        job: number of its job there.
        overrides: Hydra's, when started by hand.
        description: markdown.
    """

    name: str
    stage: str
    config: Mapping[str, Any]
    protection: str
    view: str
    confidential: bool
    key_fingerprint: str | None
    dataset: DatasetRecord
    inputs: tuple[str, ...]
    data_sha256: str | None = None
    sweep: str | None = None
    job: int | None = None
    overrides: tuple[str, ...] = ()
    description: str = ""

    def tags(self, project: Path) -> dict[str, str]:
        """Return the run's tags; see `provenance` for those that the machine, git and DVC give.

        Raises:
            TrackingError: a tag looks like key material.
        """
        own = {
            "stage": self.stage,
            "protection": self.protection,
            "view": self.view,
            "confidential": str(self.confidential).lower(),
            "key_fingerprint": self.key_fingerprint,
            "data_sha256": self.data_sha256,
            "sweep": self.sweep,
            "job": None if self.job is None else str(self.job),
            "overrides": shlex.join(without_private(self.overrides)),
            "mlflow.source.name": self.stage,
            "mlflow.source.type": "LOCAL",
            NOTE: self.description,
        }
        tags = {**machine_tags(), **git_tags(project), **dvc_tags(project, self.inputs), **own}
        return {valid_name(k): shorten(guard(v, f"tag {k}"), MAX_TAG) for k, v in tags.items() if v}
