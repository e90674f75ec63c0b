"""The stages of a federation on phantoms: what they write, what goes on after a kill, and what they refuse."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl.config import PARAMS, Workspace
from ppdl.config.check import check_config
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.errors import ConfigError, DataError
from ppdl.experiment import federation
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.rounds import Trainee
from ppdl.experiment.runs import runs_of
from ppdl.pooling import opening
from ppdl.pooling.sharing import Shares
from stages import federate, hospitals
from tests.secrets_search import find_private_key
from tests.stages.phantoms import prepare_phantoms, small_config

NAME, ROUNDS = "averaging", 3
SMALL = {
    "dataset": {"num_images": 60, "size_px": 48, "images_per_patient": 1},
    "prepared_px": 32,
    "model": {"_target_": "tests.training.toys.Narrow"},
    "training": {"batch_size": 8},
    "federations": {NAME: {"_target_": "ppdl.pooling.sharing.Averaging", "hospitals": "class", "rounds": ROUNDS, "epochs": 1, "bits": 16}},
    "federated": [NAME],
}


class Checkout:
    """A folder that the stages work in, the key holder's, the keys that were made, and what was said."""

    def __init__(self, root, private_dir, store=None):
        self.root, self.private_dir, self.workspace, self.store = root, private_dir, Workspace(root, root), store or root / "mlflow.db"
        self.cfg = small_config(NAME, private_dir, SMALL)
        self.cfg.evaluation.external = {}
        self.keys, self.said = [], io.StringIO()

    def federate(self, patch, **changes):
        make = opening.generate_keypair
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.store}")
        patch.setattr(opening, "generate_keypair", lambda *a, **k: self.keys.append(make(*a, **k)) or self.keys[-1])
        with contextlib.redirect_stdout(self.said):
            federate.run(OmegaConf.merge(self.cfg, changes), self.workspace)

    def weights(self):
        import keras

        model = keras.models.load_model(self.root / "models" / NAME / "model.keras")
        return [np.array(v).tolist() for v in model.variables if "seed" not in v.name]

    def copy(self, root):
        shutil.copytree(self.root, root / "copy", ignore=shutil.ignore_patterns("raw", "mlflow*", "models", "unfinished"))
        return Checkout(root / "copy", root / "keys", self.store)

    @property
    def record(self):
        return json.loads((self.root / "models" / NAME / "run.json").read_text())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Share films out by class, so that each hospital lacks all classes but one, and federate."""
    found = Checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("keys"))
    root, cfg = found.root, found.cfg
    prepare_phantoms(cfg, root)
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.redirect_stdout(found.said):
            hospitals.run(cfg, found.workspace)
        found.federate(patch)
    return found


def test_a_network_is_trained_where_each_hospital_has_one_class(checkout):
    record, said = checkout.record, checkout.said.getvalue()
    assert "covid: " in said and "none of Lung_Opacity, Normal, Viral Pneumonia" in said
    assert f"averaging: {ROUNDS} rounds of 4 hospitals, validation accuracy" in said
    assert [sorted(row["metrics"]) for row in record["history"]] == [sorted(record["history"][0]["metrics"])] * ROUNDS
    figures = record["history"][-1]["metrics"]
    assert {"val/accuracy", "val/log_loss", "train/clipped", "train/mb_sent", "train/pool_s", "train/open_s", "train/moments_s"} <= set(
        figures
    )
    assert figures["train/clipped"] == 0 and 0 < figures["train/mb_sent"] < 1
    prepared = load_prepared(checkout.root / "data/prepared")
    assert record["metrics"]["fit/num_films"] == len(prepared.rows("train")) and record["metrics"]["fit/num_hospitals"] == 4
    assert "**several hospitals**" in record["tags"]["mlflow.note.content"]


def test_it_is_tested_and_reported_as_one_more_network(checkout):
    experiment = Experiment(checkout.cfg, checkout.workspace)
    assert [run.name for run in runs_of(experiment)][-3] == NAME
    run = next(run for run in runs_of(experiment) if run.name == NAME)
    predictions = run.predict()
    assert len(predictions.labels) == len(experiment.prepared.rows("test")) and not run.is_control and run.key_purpose is None
    assert run.verdict["level"] == "not attacked" and "no attack was run" in run.verdict["sentence"]
    assert {"model.keras", "history.csv", "calibration.json", "run.json"} <= {path.name for path in run.trained.iterdir()}


def test_each_sum_has_a_key_of_its_own_which_is_gone_with_all_that_hospitals_kept(checkout):
    nothing_is_left(checkout)
    assert len(checkout.keys) == 1 + 2 * ROUNDS and len({key.public.fingerprint for key in checkout.keys}) == len(checkout.keys)


def nothing_is_left(checkout):
    for key in checkout.keys:
        assert find_private_key(key, [checkout.root, checkout.private_dir]) == []
    left = {path.name for path in checkout.private_dir.rglob("*") if path.is_file() and not path.name.startswith("signing")}
    assert left <= {".lock"}, left
    assert not list((checkout.workspace.unfinished / "federate").rglob("*.np?"))


KILLS = [  # one after the other: where, and how often it is called before; the federation goes on in between
    (Trainee, "trained", 2),  # round 1, at the second hospital
    (Trainee, "trained", 6),  # round 2, at the second
    (federation, "rehearse", 3),  # before its moments are summed
    (federation, "open_total", 5),  # round 3, before its moments are opened
    (federation, "write_state", 1),  # before the round is written down
    (federation, "abandon_run", 2),  # its update is opened, and the key is gone
    (opening, "decrypt_batch", 2),  # while its moments are opened
]


def test_a_federation_that_was_killed_anywhere_ends_as_an_undisturbed_one(checkout, tmp_path):
    """The first was called under another seed: nothing of it is taken up."""
    there = checkout.copy(tmp_path)
    for where, step, times in [(federation, "write_state", 1), *KILLS]:
        calls, right = [], getattr(where, step)

        def killed(*arguments, calls=calls, right=right, times=times, **named):
            calls.append(1)
            if len(calls) == times:
                raise KeyboardInterrupt
            return right(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, step, killed)
            with pytest.raises(KeyboardInterrupt):
                there.federate(patch, seed=there.cfg.seed if (there.workspace.unfinished / "federate").exists() else 1)
    with pytest.MonkeyPatch.context() as patch:
        there.federate(patch)
    assert there.weights() == checkout.weights()
    assert len(there.record["history"]) == ROUNDS
    nothing_is_left(there)


def test_what_no_hospital_can_train_is_refused(checkout, tmp_path, monkeypatch):
    there = checkout.copy(tmp_path)
    with pytest.raises(ConfigError, match=r"branch must name one of federations \(averaging\), got 'plain'"):
        there.federate(monkeypatch, branch="plain")
    path = there.root / f"data/hospitals/{NAME}.json"
    shares = Shares.read(path)
    rest = {name: rows for name, rows in shares.rows.items() if name != "normal"}
    Shares(False, rest).write(path)
    with pytest.raises(DataError, match="every class needs a training film at some hospital; there is none of Normal"):
        there.federate(monkeypatch)
    validation = load_prepared(there.root / "data/prepared").rows("validation")
    Shares(False, rest | {"normal": validation.tolist()}).write(path)
    with pytest.raises(DataError, match="normal has no training film, all of its are for validation"):
        there.federate(monkeypatch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federations": {NAME: {"hospitals": 2}}}, "hospitals must be at least 3: of two each knows the other's sums; got 2"),
        ({"federations": {NAME: {"bits": 40}}}, "federations.averaging.*bits"),
        ({"federated": []}, r"federated follows from federations, so it must be \['averaging'\]"),
        (
            {"federations": {"plain": SMALL["federations"][NAME]}, "federated": [NAME, "plain"]},
            "federations.plain must have a name of its own",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_before_any_work(change, message):
    cfg = OmegaConf.merge(OmegaConf.load(PARAMS), {key: SMALL[key] for key in ("federations", "federated")})
    check_config(cfg)
    with pytest.raises(ConfigError, match=message):
        check_config(OmegaConf.merge(cfg, change))
