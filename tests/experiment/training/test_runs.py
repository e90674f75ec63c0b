"""Which runs a configuration names, and what each is fed."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ppdl.config import Workspace
from ppdl.crypto.keys.purpose import ARCHIVE, INFERENCE
from ppdl.errors import ConfigError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.network_run import network_runs
from ppdl.experiment.training.run import dataset_name


def experiment_with(**protections: list[str]) -> Experiment:
    views = {name: {"views": views} for name, views in protections.items()}
    return Experiment(OmegaConf.create({"protections": views, "heads": {"head": {}}}), Workspace(Path("in"), Path("out")))


def test_the_first_view_carries_the_name_of_its_branch_and_plain_comes_first():
    runs = runs_of(experiment_with(deterministic=["spectral", "bytes"], opaque=["bytes"]))
    assert [(r.name, r.branch, r.view) for r in runs] == [
        ("plain", "plain", "pixels"),
        ("deterministic", "deterministic", "spectral"),
        ("deterministic-bytes", "deterministic", "bytes"),
        ("opaque", "opaque", "bytes"),
        ("head", "head", "features"),
    ]
    assert [str(run.trained) for run in runs[2::2]] == ["in/models/deterministic/bytes", "in/models/head"]
    assert str(runs[2].out_dir) == "out/models/deterministic/bytes"
    assert [run.key_purpose for run in runs] == [None, ARCHIVE, ARCHIVE, ARCHIVE, INFERENCE]


def test_one_branch_alone():
    assert [r.name for r in network_runs(experiment_with(a=["x"], b=["y"]), "b")] == ["b"]


def test_a_branch_without_views_is_refused():
    with pytest.raises(ConfigError, match=r"protections.a.views must name at least one view"):
        network_runs(experiment_with(a=[]))


def test_the_dataset_is_named_after_its_class():
    assert dataset_name(OmegaConf.create({"dataset": {"_target_": "ppdl.datasets.sources.phantom.Phantom"}})) == "phantom"
