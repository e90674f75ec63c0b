"""What a run is fed, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import build, check_built_for, construct, plain
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.signing import Signing
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError
from ppdl.experiment.experiment import PREPARED, Experiment
from ppdl.experiment.training.run import PLAIN, Origin
from ppdl.protections.base import Protection
from ppdl.protections.view import View, plain_view


@dataclass(frozen=True)
class Source(Origin):
    """What a network is fed: a view of all images, where it came from, and figures of its protection."""

    view: View
    facts: dict[str, Any]


def open_source(experiment: Experiment, branch: str, view_name: str) -> Source:
    """Return what a network is fed that is trained on a view of a branch. The view may learn from training images, never from others.

    Raises:
        ConfigError: the artifact was built for other values than the configuration asks for.
        ArtifactError: it is not signed as `signing.trusted` asks for.
    """
    cfg, prepared = experiment.cfg, experiment.prepared
    if branch == PLAIN:
        note = "The yardstick: the trainer sees the images."
        return Source(PREPARED, prepared.meta["images_sha256"], False, None, note, plain_view(Reduced(prepared.images, cfg.input_px)), {})
    node = cfg.protections[branch]
    protection = protection_of(cfg, branch)
    path = experiment.protected(branch)
    folder = experiment.workspace.inputs / path
    if not experiment.external:  # which is made where it is evaluated, see stages.protect_external
        construct(Signing, cfg.signing, "signing").check(node.train_on, folder)
    contents = protection.contents(folder)
    steps = {step: {k: v for k, v in plain(node[step]).items() if k != "_target_"} for step in ("stem", "reveal") if step in node}
    check_built_for(
        contents.params,
        protection.params(cfg.input_px) | steps,
        what=f"{path} (protection {branch})",
        full_name=lambda key: _full_name(branch, key, steps),
    )
    if contents.num_images != len(prepared.index):
        raise ConfigError(
            f"{path} holds {contents.num_images} images and {len(prepared.index)} were prepared: "
            "they are not of one run of the pipeline; run `dvc repro`"
        )
    learnt_from = np.arange(len(prepared.index)) if experiment.external else prepared.rows("train")  # a trained network has its own table
    view = protection.view(folder, view_name, learnt_from)
    sha256 = hash_file(contents.header_path)
    hides = "hides" if contents.confidential else "**does not hide**"
    note = f"What the trainer sees (`{path}`, view `{view_name}`) {hides} the images. The ciphertexts: {protection.reason}."
    return Source(path, sha256, contents.confidential, contents.key_fingerprint, note, view, contents.facts)


def protection_of(cfg: DictConfig, branch: str) -> Protection:
    """Construct the protection of a branch."""
    return build(cfg.protections[branch].scheme, f"protections.{branch}.scheme")


def _full_name(branch: str, key: str, steps: dict[str, Any]) -> str:
    """Return a parameter's place in the configuration, given its name in what the trainer reads."""
    if key == "input_px":
        return key
    return f"protections.{branch}.{key}" if key.split(".")[0] in steps else f"protections.{branch}.scheme.{key}"
