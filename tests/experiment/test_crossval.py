"""One cross-validation at a time works in a folder, and its folds test each image once."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from ppdl.config import PROJECT, Workspace
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.errors import ConfigError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import claimed_folder, fold_of

CFG = OmegaConf.create({"seed": 1, "crossval": {"name": "mine"}})


def experiment(folder, cfg=CFG):
    return Experiment(cfg, Workspace(folder, folder))


OTHER = """
import sys, time
from pathlib import Path
from omegaconf import OmegaConf
from ppdl.config import Workspace
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import claimed_folder
folder = Path(sys.argv[1])
with claimed_folder(Experiment(OmegaConf.create({"seed": 1, "crossval": {"name": "mine"}}), Workspace(folder, folder))):
    print("in", flush=True)
    time.sleep(120)
"""


def test_a_second_one_is_refused_and_told_who_works_there_and_a_dead_one_is_in_nobodys_way(tmp_path):
    folder = tmp_path / "mine"
    command = [sys.executable, "-c", OTHER, str(folder)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    try:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ConfigError, match=rf"{folder} is in use by process {other.pid} on "), claimed_folder(experiment(folder)):
            pass
    finally:
        other.kill()
        other.communicate()
    with claimed_folder(experiment(folder)):
        assert (folder / "built_for.json").exists()
    with claimed_folder(experiment(folder)):  # the same configuration goes on
        pass


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    with claimed_folder(experiment(tmp_path)):
        pass
    changed = OmegaConf.merge(CFG, {"seed": 2})
    refused = pytest.raises(ConfigError, match=r"(?s)seed: built for 1, the configuration says 2.*Choose another crossval.name")
    with refused, claimed_folder(experiment(tmp_path, changed)):
        pass
    with claimed_folder(experiment(tmp_path)):  # the refused one holds no lock
        pass


def test_each_image_is_tested_in_one_fold_and_its_group_with_it(tmp_path):
    groups = np.repeat(np.arange(12), 2)
    index = pd.DataFrame({"label": groups % 2, "group": groups, "split": "train", "fold": -1})
    split = {"test_fraction": 0.2, "validation_fraction": 0.2, "num_folds": 3, "fold": 0, "near_duplicate_bits": 0, "seed": 1}
    whole = Experiment(OmegaConf.create({"split": split}), Workspace(tmp_path, tmp_path), Prepared(None, index, ("a", "b"), {}))
    folds = [fold_of(whole, k) for k in range(3)]
    tested = [set(fold.prepared.rows("test")) for fold in folds]
    assert sorted(row for rows in tested for row in rows) == list(range(24))
    assert all(groups[list(rows)].tolist().count(group) == 2 for rows in tested for group in groups[list(rows)])
    assert [fold.workspace.outputs.name for fold in folds] == ["fold-0", "fold-1", "fold-2"] and folds[0].workspace.sweep == str(tmp_path)
