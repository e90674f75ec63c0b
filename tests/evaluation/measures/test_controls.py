"""A control that beats chance once has failed for its artifact, whatever comes after."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl.config import Workspace
from ppdl.errors import DataError, LeakError
from ppdl.evaluation.measures import controls
from ppdl.evaluation.measures.controls import FAILED_BEFORE, RECORD, remember, settle_control
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE, CANNOT_TELL, PermutationResult, permutation_test
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.report import examine_control
from ppdl.experiment.training.network_run import NetworkRun
from ppdl.records.atomic import replacing

LABELS = np.arange(90) % 3


def examined(*, knows: bool) -> PermutationResult:
    said = LABELS if knows else np.random.default_rng(1).permutation(LABELS)
    predictions = Predictions(LABELS, np.eye(3)[said], np.arange(90), np.arange(90), ("a", "b", "c"))
    return permutation_test(predictions, num_permutations=10_000, seed=0, name="opaque")


def never() -> PermutationResult:
    raise AssertionError("this control must not be repeated")


@pytest.fixture
def places(tmp_path):
    header = tmp_path / "header.json"
    header.write_text("one artifact")
    return {"header": header, "record": tmp_path / RECORD}


def test_a_control_at_chance_is_settled_at_once(places):
    control = remember("opaque", examined(knows=False), **places)
    assert control.verdict == AT_CHANCE and control.figures["at_chance"]
    assert "no evidence" in settle_control(control, never)
    assert not places["record"].exists()


@pytest.mark.parametrize(("knows", "words"), [(True, "and so does another artifact"), (False, "another artifact does not, which undoes")])
def test_a_failure_counts_whatever_a_second_key_says(places, knows, words):
    control = remember("opaque", examined(knows=True), **places)
    assert control.verdict == BEATS_CHANCE and not control.figures["at_chance"]
    with pytest.raises(LeakError, match=rf"negative control opaque beats chance \(p = 0.0001\); under a second key {words}"):
        settle_control(control, lambda: examined(knows=knows))


def test_a_later_training_on_the_same_artifact_does_not_undo_a_failure(places):
    remember("opaque", examined(knows=True), **places)
    control = remember("opaque", examined(knows=False), **places)
    assert control.verdict == FAILED_BEFORE and not control.figures["at_chance"] and "beat chance before (with p = 0.0001" in control.remark
    with pytest.raises(LeakError, match=r"beat chance before, on this very artifact \(p = 0.0001\)"):
        settle_control(control, never)


def test_two_failures_at_once_are_both_kept(places, tmp_path, monkeypatch):
    """The second is examined while the first is about to be written."""
    other = tmp_path / "other.json"
    other.write_text("another artifact")
    second = threading.Thread(target=remember, args=("second", examined(knows=True)), kwargs=places | {"header": other})

    @contextmanager
    def interrupted(path):
        monkeypatch.setattr(controls, "replacing", replacing)
        second.start()
        second.join(0.5)  # long enough to be lost, if it did not wait
        with replacing(path) as temporary:
            yield temporary

    monkeypatch.setattr(controls, "replacing", interrupted)
    remember("first", examined(knows=True), **places)
    second.join()
    assert {found["run"] for found in json.loads(places["record"].read_text()).values()} == {"first", "second"}


def test_an_evaluation_that_reports_elsewhere_forgets_nothing(tmp_path):
    """By hand, `python -m stages.evaluate` writes its reports to a folder of its own."""
    cfg = OmegaConf.create({"evaluation": {"num_permutations": 10_000}, "seed": 0, "protections": {"opaque": {"train_on": "encrypted"}}})
    header = tmp_path / "data/encrypted/opaque/header.json"
    header.parent.mkdir(parents=True)
    header.write_text("one artifact")
    verdicts = []
    for said in (LABELS, np.roll(LABELS, 1)):
        predictions = Predictions(LABELS, np.eye(3)[said], np.arange(90), np.arange(90), ("a", "b", "c"))
        workspace = Workspace(inputs=tmp_path, outputs=tmp_path / f"outputs/{len(verdicts)}")
        verdicts.append(examine_control(NetworkRun(Experiment(cfg, workspace), "opaque", "opaque", "bytes"), predictions).verdict)
    assert verdicts == [BEATS_CHANCE, FAILED_BEFORE]


def test_a_new_artifact_is_a_new_control(places):
    remember("opaque", examined(knows=True), **places)
    places["header"].write_text("another artifact")
    assert remember("opaque", examined(knows=False), **places).verdict == AT_CHANCE


def test_too_few_patients_have_not_passed(places):
    few = Predictions(LABELS[:4], np.eye(3)[LABELS[:4]], np.arange(4), np.arange(4), ("a", "b", "c"))
    control = remember("opaque", permutation_test(few, num_permutations=10_000, seed=0), **places)
    assert control.verdict == CANNOT_TELL and not control.figures["at_chance"]
    assert "cannot tell" in settle_control(control, never)


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', '{"x": {"p": "0"}}'])
def test_a_damaged_record_is_no_empty_one(places, content):
    places["record"].parent.mkdir()
    places["record"].write_text(content)
    with pytest.raises(DataError, match="must hold the controls that failed"):
        remember("opaque", examined(knows=False), **places)


def test_a_control_without_its_artifact_is_refused(places):
    places["header"].unlink()
    with pytest.raises(DataError, match="of the control opaque cannot be read"):
        remember("opaque", examined(knows=False), **places)
