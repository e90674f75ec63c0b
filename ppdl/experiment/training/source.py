"""What a run is fed, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, build, check_built_for, construct, plain
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.signing import Signing
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError
from ppdl.experiment.training.runs import PLAIN, Run
from ppdl.protections.base import Protection
from ppdl.protections.view import View, plain_view


@dataclass(frozen=True)
class Source:
    """What a run was fed, beside the view itself: where it came from and what is known of its protection."""

    view: View
    path: str
    sha256: str
    confidential: bool
    key_fingerprint: str | None
    facts: dict[str, Any]
    note: str


def open_source(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared, train_rows: np.ndarray) -> Source:
    """Return what `run` is fed.

    Args:
        train_rows: rows that a view may learn from, never those of the test split.

    Raises:
        ConfigError: the artifact was built for other values than the configuration asks for.
        ArtifactError: it is not signed as `signing.trusted` asks for.
    """
    if run.branch == PLAIN:
        view = plain_view(Reduced(prepared.images, cfg.input_px))
        return Source(view, "data/prepared", prepared.meta["images_sha256"], False, None, {}, "The yardstick: the trainer sees the images.")
    node = cfg.protections[run.branch]
    protection = protection_of(cfg, run.branch)
    path = f"data/{node.train_on}/{run.branch}"
    construct(Signing, cfg.signing, "signing").check(node.train_on, workspace.inputs / path)
    contents = protection.contents(workspace.inputs / path)
    steps = {step: {k: v for k, v in plain(node[step]).items() if k != "_target_"} for step in ("stem", "reveal") if step in node}
    check_built_for(
        contents.params,
        protection.params(cfg.input_px) | steps,
        what=f"{path} (protection {run.branch})",
        full_name=lambda key: _full_name(run.branch, key, steps),
    )
    if contents.num_images != len(prepared.index):
        raise ConfigError(
            f"{path} holds {contents.num_images} images and data/prepared {len(prepared.index)}: "
            "they are not of one run of the pipeline; run `dvc repro`"
        )
    view = protection.view(workspace.inputs / path, run.view, train_rows)
    sha256 = hash_file(contents.header_path)
    hides = "hides" if contents.confidential else "**does not hide**"
    note = f"What the trainer sees (`{path}`, view `{run.view}`) {hides} the images. The ciphertexts: {protection.reason}."
    return Source(view, path, sha256, contents.confidential, contents.key_fingerprint, contents.facts, note)


def protection_of(cfg: DictConfig, branch: str) -> Protection:
    """Construct the protection of a branch."""
    return build(cfg.protections[branch].scheme, f"protections.{branch}.scheme")


def _full_name(branch: str, key: str, steps: dict[str, Any]) -> str:
    """Return a parameter's place in the configuration, given its name in what the trainer reads."""
    if key == "input_px":
        return key
    return f"protections.{branch}.{key}" if key.split(".")[0] in steps else f"protections.{branch}.scheme.{key}"
