"""Which runs a configuration names, and what each is fed."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from ppdl.errors import ConfigError
from ppdl.experiment.training.runs import dataset_name, runs_of


def cfg_with(**protections: list[str]):
    return OmegaConf.create({"protections": {k: {"views": v} for k, v in protections.items()}})


def test_the_first_view_carries_the_name_of_its_branch_and_plain_comes_first():
    runs = runs_of(cfg_with(deterministic=["spectral", "bytes"], opaque=["bytes"]))
    assert [(r.name, r.branch, r.view) for r in runs] == [
        ("plain", "plain", "pixels"),
        ("deterministic", "deterministic", "spectral"),
        ("deterministic-bytes", "deterministic", "bytes"),
        ("opaque", "opaque", "bytes"),
    ]
    assert str(runs[2].folder) == "models/deterministic/bytes"


def test_one_branch_alone():
    assert [r.name for r in runs_of(cfg_with(a=["x"], b=["y"]), "b")] == ["b"]


def test_a_branch_without_views_is_refused():
    with pytest.raises(ConfigError, match=r"protections.a.views must name at least one view"):
        runs_of(cfg_with(a=[]))


def test_the_dataset_is_named_after_its_class():
    assert dataset_name(OmegaConf.create({"dataset": {"_target_": "ppdl.datasets.sources.phantom.Phantom"}})) == "phantom"
