"""One cross-validation at a time works in a folder, and its folds test each image once."""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from ppdl.config import PROJECT, Workspace, write_built_for
from ppdl.config.check import check_config
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE
from ppdl.evaluation.predictions.predictions import FIELDS, Predictions
from ppdl.evaluation.predictions.seeds import Seeded, seeds_of
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import claimed_folder, fold_of, num_seeds, predictions_path, seed_of, validation
from ppdl.experiment.results.report import permute_control
from ppdl.experiment.results.yardsticks import compared, read_yardsticks
from ppdl.experiment.training.frozen_run import FrozenRun

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


SPLIT = {"test_fraction": 0.2, "validation_fraction": 0.2, "num_folds": 3, "fold": 0, "near_duplicate_bits": 0, "seed": 1}


def crossval(folder, seeds=1, runs=("plain",), yardsticks=(), input_px=32, num_groups=36, **values):
    """Return a cross-validation of the shipped configuration on images that are as gray as their class says, with some noise."""
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(num_groups), 2)
    labels = groups % 3
    images = np.clip(rng.normal(60 + 40 * labels[:, None, None], 60, (len(groups), 64, 64)), 0, 255).astype(np.uint8)
    paths = [f"{i}.png" for i in range(len(groups))]
    index = pd.DataFrame({"label": labels, "group": groups, "split": "train", "fold": -1, "path": paths})
    cfg = OmegaConf.merge(
        OmegaConf.load(PROJECT / "params.yaml"),
        {"split": SPLIT, "input_px": input_px, "prepared_px": 64, "flips": False, "frozen": {}, **values},
        {"crossval": {"name": "mine", "num_jobs": 1, "num_threads": 1, "seeds": seeds, "runs": list(runs), "yardsticks": list(yardsticks),
                      "test": True}},
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_built_for(folder, {key: node for key, node in cfg.items() if key != "crossval"})
    prepared = Prepared(images, index, ("a", "b", "c"), {"images_sha256": "0" * 64})
    return Experiment(cfg, Workspace(folder, folder), prepared)


def trained(experiment, name="plain", wrong=0):
    """Write the predictions of a run as its trainings would; those of a fold err on `wrong` images of it, on others with other seeds."""
    index = experiment.prepared.index
    for number in range(experiment.cfg.crossval.seeds):
        for k in range(3):
            fold = fold_of(experiment, k, number)
            own = index.iloc[fold.prepared.rows("test")]
            logits = np.eye(3)[own["label"]]
            logits[number * wrong : (number + 1) * wrong] *= -1
            path = fold.workspace.outputs / f"{name}.npz"
            Predictions(own["label"].to_numpy(), logits, own["group"].to_numpy(), own["path"].to_numpy(), ("a", "b", "c")).save(path)


def test_seeds_have_folders_and_numbers_of_their_own_and_the_first_is_that_of_the_configuration(tmp_path):
    experiment_ = crossval(tmp_path / "mine", seeds=3)
    seeds = [[fold_of(experiment_, k, number).cfg.seed for k in range(3)] for number in range(3)]
    assert seeds[0] == [experiment_.cfg.seed] * 3 and len({*seeds[1], *seeds[2]}) == 6
    assert seeds[1] == [seed_of(experiment_.cfg.seed, k, 1) for k in range(3)] and all(0 <= seed < 2**32 for seed in seeds[2])
    places = [fold_of(experiment_, 1, number).workspace.outputs.relative_to(tmp_path) for number in (0, 2)]
    assert [str(place) for place in places] == ["mine/fold-1", "mine/fold-1/seed-2"]
    one, other = (fold_of(experiment_, 1, number).prepared.rows("test") for number in (0, 2))
    assert np.array_equal(one, other)


def test_a_yardstick_is_read_from_another_cross_validation_and_compared_by_size(tmp_path):
    strong, large = crossval(tmp_path / "strong", seeds=2, input_px=64), crossval(tmp_path / "large", seeds=2, input_px=64)
    trained(strong, wrong=1)
    trained(large, wrong=2)
    entries = [f"{tmp_path}/strong/plain", f"{tmp_path}/large/plain"]
    experiment_ = crossval(tmp_path / "mine", seeds=2, runs=["plain", "deterministic", "opaque"], yardsticks=entries)
    found = read_yardsticks(experiment_)
    assert [one.name for one in found] == ["strong.plain", "large.plain"] and {one.input_px for one in found} == {64}
    assert all(isinstance(one.predictions, Seeded) and len(seeds_of(one.predictions)) == 2 for one in found)
    yardsticks = compared(experiment_, found)
    assert yardsticks.strongest == "strong.plain"
    assert dict(yardsticks.same_size) == {"deterministic": "plain", "opaque": "plain"}
    assert compared(experiment_, []) is None
    alone = compared(crossval(tmp_path / "other", runs=["deterministic"], yardsticks=entries), found)
    assert dict(alone.same_size) == {}  # no plain run has its size
    same = compared(crossval(tmp_path / "same", runs=["plain", "deterministic"], yardsticks=entries, input_px=64), found)
    assert dict(same.same_size) == {"deterministic": "strong.plain"}


def test_what_is_no_yardstick_is_refused(tmp_path):
    strong = crossval(tmp_path / "strong", seeds=1)
    trained(strong)
    for entry, rule in (
        (f"{tmp_path}/gone/plain", r"must list PATH/RUN, PATH being a folder of stages.crossval, got '.*/gone/plain'"),
        (f"{tmp_path}/strong/deterministic", r"must name plain runs, of .*/strong one of plain; got 'deterministic'"),
    ):
        with pytest.raises(ConfigError, match=rf"crossval.yardsticks {rule}"):
            read_yardsticks(crossval(tmp_path / "mine", yardsticks=[entry]))
    good = [f"{tmp_path}/strong/plain"]
    with pytest.raises(DataError, match=r"fold-0/seed-1/plain.npz is missing: cross-validate to the end"):
        read_yardsticks(crossval(tmp_path / "mine", seeds=2, yardsticks=good))
    with pytest.raises(DataError, match="were never tested"):
        read_yardsticks(crossval(tmp_path / "mine", num_groups=42, yardsticks=good))


HEAD = {
    "_target_": "ppdl.training.fitting.frozen.FrozenHead",
    **{"weights": "imagenet", "alpha": 0.35, "layers": None, "input_px": [32, 64], "flips": [False, True]},
    **{"kinds": ["ridge", "logistic"], "strengths": [0.1, 1.0], "num_folds": 3},
}


@pytest.fixture
def frozen(tmp_path):
    experiment_ = crossval(tmp_path / "mine", seeds=2, runs=["head"], frozen={"head": HEAD})
    return FrozenRun(fold_of(experiment_, 0), "head", "plain", "features")


def features(run, sizes=(32, 64), seed=0):
    """Stand for a network: gray values of cells, which say the class better at the larger size."""
    images = run.experiment.prepared.images.astype(np.float32)
    return {px: np.stack([way.reshape(len(images), 8, 8, 8, 8).mean(axis=(2, 4)).reshape(len(images), -1)[:, : px // 4]
                          for way in (images, images[:, :, ::-1])]) for px in sizes}  # fmt: skip


@pytest.fixture
def untracked(monkeypatch):
    class Nothing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def log_summary(self, _):
            return None

    monkeypatch.setattr(FrozenRun, "tracked", lambda *_: Nothing())


def test_a_frozen_head_is_chosen_without_its_test_images(frozen, untracked):
    found = frozen.train(features(frozen), stage="test")
    assert len(found.candidates) == 16 and found.candidates[0]["val_log_loss"] == min(one["val_log_loss"] for one in found.candidates)
    assert (found.predictions.predicted == found.predictions.labels).mean() > 0.9
    spoilt, rows = features(frozen), frozen.experiment.prepared.rows("test")
    for ways in spoilt.values():
        ways[:, rows] = 1e6
    again = frozen.train(spoilt, stage="test")
    assert again.candidates == found.candidates
    assert not np.array_equal(again.predictions.logits, found.predictions.logits)


def test_a_frozen_head_of_one_size_has_that_size_and_draws_its_folds(frozen):
    assert frozen.draws and frozen.input_px is None and num_seeds(frozen) == 2
    one = FrozenRun(crossval(frozen.experiment.workspace.outputs, frozen={"head": HEAD | {"input_px": [64]}}), "head", "plain", "features")
    assert one.input_px == 64


def test_validation_is_summed_up_by_kind_of_candidate(tmp_path):
    experiment_ = crossval(tmp_path / "mine", runs=["head"], frozen={"head": HEAD})
    run = FrozenRun(experiment_, "head", "plain", "features")
    for k, (first, second) in enumerate(((0.2, 0.4), (0.5, 0.1))):
        kinds = [{"input_px": 32, "flips": False, "kind": "ridge", "strength": s, "val_accuracy": 1 - loss, "val_log_loss": loss}
                 for s, loss in ((0.1, first), (1.0, 0.9))]  # fmt: skip
        kinds.append({"input_px": 64, "flips": True, "kind": "ridge", "strength": 1.0, "val_accuracy": 1 - second, "val_log_loss": second})
        path = predictions_path(run, k).with_suffix(".json")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"candidates": sorted(kinds, key=lambda one: one["val_log_loss"]), "core_seconds": 30}))
    large, small = validation(experiment_)
    assert (large["input_px"], large["val_log_loss"], large["chosen"], large["num_trainings"]) == (64, pytest.approx(0.25), 1, 2)
    assert (small["input_px"], small["val_log_loss"], small["val_accuracy"]) == (32, pytest.approx(0.35), pytest.approx(0.65))
    assert small["core_minutes"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"frozen": {"deterministic-x": HEAD}}, r"frozen.deterministic-x must have a name of its own, and the runs of deterministic"),
        ({"frozen": {"head": HEAD | {"input_px": [48]}}}, r"prepared_px must be a multiple of each of frozen.head.input_px, got 64 and 48"),
        ({"frozen": {"head": HEAD | {"kinds": ["svm"]}}}, r"frozen.head.*kinds"),
        ({"frozen": {"head": HEAD | {"num_folds": 1}}}, r"frozen.head.*num_folds"),
        ({"frozen": {"head": HEAD | {"strengths": []}}}, r"frozen.head.*strengths"),
        ({"crossval": {"seeds": 0}}, r"crossval.*seeds"),
    ],
)
def test_values_that_break_a_rule_are_named(tmp_path, values, rule):
    cfg = crossval(tmp_path / "mine").cfg
    with pytest.raises(ConfigError, match=rule):
        check_config(OmegaConf.merge(cfg, values))


def test_a_class_with_too_few_patients_is_named(frozen, untracked):
    index = frozen.experiment.prepared.index
    few = index.assign(group=index["group"].where(index["label"] != 2, 2))
    few["split"] = np.where(few["label"] == 2, "train", few["split"])
    run = dataclasses.replace(
        frozen, experiment=dataclasses.replace(frozen.experiment, data=dataclasses.replace(frozen.experiment.data, index=few))
    )
    with pytest.raises(DataError, match=r"at least 3 groups .* label 2 has 1: lower num_folds"):
        run.train(features(frozen), stage="test")


def test_a_control_fails_where_one_seed_beats_chance():
    rng, labels = np.random.default_rng(0), np.arange(240) % 3
    seeds = [Predictions(labels, rng.normal(size=(240, 3)) + skill * np.eye(3)[labels], np.arange(240), np.arange(240), ("a", "b", "c"))
             for skill in (0, 3)]  # fmt: skip
    own = {field: getattr(seeds[0], field) for field in FIELDS}
    cfg = OmegaConf.create({"seed": 1, "evaluation": {"num_permutations": 30_000}})
    run = SimpleNamespace(name="opaque", experiment=SimpleNamespace(cfg=cfg))
    assert permute_control(run, seeds[0]).verdict == AT_CHANCE
    assert permute_control(run, Seeded(**own, folds=labels, others=(seeds[1],))).verdict == BEATS_CHANCE
    chance = permute_control(run, Seeded(**own, folds=labels, others=(seeds[0],)))  # the same twice: one p-value, times two
    assert chance.p_value == min(1, 2 * permute_control(run, seeds[0]).p_value)
