"""Films of another hospital: prepared, protected and tested on as the set's own, under the run's key, without a training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ppdl.config import Workspace, with_values
from ppdl.config.check import Evaluation
from ppdl.errors import ConfigError, DataError, KeyStoreError
from ppdl.evaluation.measures.drop import accuracy_drop
from ppdl.evaluation.report.summary import BORDER, summarise
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.external import external_results
from ppdl.experiment.results.report import border_predictions
from ppdl.experiment.training.network_run import network_runs
from stages import external, protect_external

OTHER = {"num_images": 16, "size_px": 48, "seed": 3}


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    """The checkout of the tests with films of another device: its experiment, and what every network says of them."""
    root = tmp_path_factory.mktemp("external") / "checkout"
    shutil.copytree(trained.root, root, ignore=shutil.ignore_patterns("mlflow*", "mlartifacts"))
    cfg = with_values(trained.cfg, {"evaluation": {"external": {"other_device": OTHER}}})
    workspace = Workspace(root, root)
    external.run(cfg, workspace)
    for name in cfg.protections:
        protect_external.run(with_values(cfg, {"branch": name}), workspace)
    experiment = Experiment(cfg, workspace)
    (root / "reports").mkdir(exist_ok=True)
    runs = {run.name: run for run in network_runs(experiment)}
    predictions = {name: run.predict() for name, run in runs.items()} | {BORDER: border_predictions(experiment)}
    asked = {there: {name: run.at(there) for name, run in runs.items()} for there in experiment.elsewhere()}
    summary = summarise(predictions, margin=0.02, temperatures=dict.fromkeys(runs, 1.7))
    found = external_results(experiment, asked, summary, temperatures=dict.fromkeys(runs, 1.7), pictures=["plain", "homomorphic"])
    return experiment, summary, found


def test_every_network_is_tested_there_with_its_drop_calibration_border_and_shortcut(tested):
    experiment, summary, found = tested
    there = found["other_device"]
    assert there.keys() == {"plain", "deterministic", "opaque", "homomorphic", "baselines"} and there["baselines"].keys() == {
        "chance",
        "border",
    }
    for name, own in summary.runs.items():
        row = there[name]
        assert row["num_images"] == 16 and row["temperature"] == 1.7 and 0 <= row["ece_calibrated"] <= 1
        assert row["accuracy_drop"] == pytest.approx(own["accuracy"] - row["accuracy"])
        assert row["accuracy_drop_low"] <= row["accuracy_drop"] <= row["accuracy_drop_high"]
    assert {name for name in there if "without_lungs_accuracy" in there[name]} == {"plain", "homomorphic"}
    written = json.loads((experiment.workspace.outputs / "reports/external.json").read_text())
    assert written["other_device"]["plain"]["accuracy"] == pytest.approx(there["plain"]["accuracy"], rel=1e-5)


@pytest.mark.parametrize("branch", ["plain", "deterministic", "homomorphic"])
def test_the_set_s_own_films_by_the_external_way_are_answered_as_the_set_s(trained, tested, branch, tmp_path):
    """The same pixels under the same key and steps give the same logits, whichever way they came."""
    experiment, _, _ = tested
    run = next(run for run in network_runs(experiment) if run.branch == branch)
    (there,) = experiment.elsewhere()
    own, rows = trained.prepared, trained.prepared.rows("test")
    images = np.concatenate([own.images[rows], there.prepared.images])
    index = there.prepared.index.iloc[np.resize(np.arange(16), len(images))].assign(path=[f"{i}.png" for i in range(len(images))])
    there = replace(there, workspace=Workspace(tmp_path, tmp_path), data=replace(there.prepared, images=images, index=index))
    shutil.copytree(experiment.workspace.inputs / "keys", tmp_path / "keys")
    if branch != "plain":
        shutil.copytree(experiment.workspace.inputs / "data/encrypted" / branch, tmp_path / "data/encrypted" / branch)
        (tmp_path / "data/external/prepared").mkdir(parents=True)
        np.save(tmp_path / "images.npy", images)
        folder = tmp_path / "data/external/prepared/other_device"
        shutil.copytree(experiment.workspace.inputs / "data/external/prepared/other_device", folder)
        np.save(folder / "images.npy", images)
        (folder / "masks.npy").unlink()
        index.to_csv(folder / "index.csv", index=False)
        meta = json.loads((folder / "meta.json").read_text()) | {"num_images": len(images)}
        (folder / "meta.json").write_text(json.dumps(meta))
        protect_external.run(with_values(experiment.cfg, {"branch": branch}), Workspace(tmp_path, tmp_path))
    logits = run.at(there).predict(run.fused).logits[: len(rows)]
    np.testing.assert_allclose(logits, trained.test_logits(branch), rtol=1e-5, atol=1e-5)


def films(root, classes, source=None):
    """Write three films a class; `source`: a film of the set, in the place of the first."""
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)).save(root / name / f"{i}.png")
    if source is not None:
        shutil.copyfile(source, root / classes[0] / "0.png")


FOLDER = {
    "_target_": "ppdl.datasets.sources.folder.Folder",
    "classes": None,
    "on_bad_image": "raise",
    "patient_pattern": None,
    "patients": None,
}


@pytest.mark.parametrize(
    ("classes", "known", "said"),
    [
        (("COVID", "Lung_Opacity", "Normal"), False, "and lacks Viral Pneumonia: rename its class folders"),
        (("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia", "Hernia"), False, "and has beside them Hernia: rename"),
        (("COVID", "Lung_Opacity", "Normal", "Viral_Pneumonia"), False, "and lacks Viral Pneumonia and has beside them Viral_Pneumonia"),
        (("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"), True, "1 of 12 are near duplicates of films of the data set"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_by_name(trained, tmp_path, classes, known, said):
    film = next(path for path in trained.prepared.index["path"] if trained.prepared.index.set_index("path")["split"][path] == "train")
    films(tmp_path / "there", list(classes), trained.root / "data/raw" / film if known else None)
    cfg = with_values(trained.cfg, {})
    cfg.evaluation.external = {"hospital_b": FOLDER | {"root": str(tmp_path / "there")}}
    with pytest.raises(DataError, match=r"evaluation\.external\.hospital_b must") as caught:
        external.run(cfg, Workspace(trained.root, tmp_path / "out"))
    assert said in str(caught.value) and (not known or f"COVID/0.png is {film} (train)" in str(caught.value))


def test_films_that_are_left_out_are_listed(trained, tmp_path, caplog):
    films(tmp_path / "there", list(trained.prepared.class_names))
    (tmp_path / "there/COVID/1.png").write_bytes(b"no picture")
    cfg = with_values(trained.cfg, {})
    cfg.evaluation.external = {"hospital_b": FOLDER | {"root": str(tmp_path / "there"), "on_bad_image": "drop"}}
    external.run(cfg, Workspace(trained.root, tmp_path / "out"))
    listed = (tmp_path / "out/data/external/prepared/hospital_b/dropped.csv").read_text().splitlines()
    assert len(listed) == 2 and listed[1].startswith("COVID/1.png,") and "hospital_b: 1 images are not used" in caplog.text


def test_a_name_that_figures_have_is_refused():
    for name in ("noise", "hand", "false_alarms", "auroc_x"):
        with pytest.raises(ConfigError, match=f"external.{name}: figures of other images have this name"):
            Evaluation(num_permutations=1, margin=0.02, external={name: {}})


def test_where_roles_are_apart_the_key_holders_own_list_is_asked_for(tested, tmp_path):
    experiment, _, _ = tested
    shutil.copytree(experiment.cfg.keygen.private_dir, tmp_path / "keys")  # the ledger remembers it
    apart = {"branch": "homomorphic", "signing": {"trusted": {"encrypted": ["0" * 64]}}, "keygen": {"private_dir": str(tmp_path / "keys")}}
    with pytest.raises(KeyStoreError, match=r"approved\.json is missing"):
        protect_external.run(with_values(experiment.cfg, apart), Workspace(experiment.workspace.inputs, tmp_path))


def test_films_that_were_prepared_for_other_values_are_refused(tested):
    experiment, _, _ = tested
    cfg = with_values(experiment.cfg, {"evaluation": {"external": {"other_device": {"noise": 3.0}}}})
    (there,) = Experiment(cfg, experiment.workspace).elsewhere()
    with pytest.raises(ConfigError, match=r"evaluation\.external\.other_device\.noise: built for 1\.6, the configuration says 3\.0"):
        _ = there.prepared


@pytest.mark.parametrize("own", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("there", [0.0, 0.4, 0.9])
def test_a_drop_s_interval_holds_the_drop_and_narrows_with_its_parts(own, there):
    wide, narrow = (
        accuracy_drop(*({"accuracy": a, "accuracy_low": max(a - half, 0), "accuracy_high": min(a + half, 1)} for a in (own, there)))
        for half in (0.1, 0.05)
    )
    assert (
        wide["accuracy_drop_low"]
        <= narrow["accuracy_drop_low"]
        <= own - there
        <= narrow["accuracy_drop_high"]
        <= wide["accuracy_drop_high"]
    )
