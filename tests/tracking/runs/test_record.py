import json
import math

import pytest

from ppdl.errors import TrackingError
from ppdl.tracking import DatasetRecord, ModelRecord, RunRecord, read_record
from ppdl.tracking.runs.record import EpochRecord

RECORD = RunRecord(
    run_id="0123",
    experiment="ppdl",
    name="plain",
    start_ms=1_700_000_000_000,
    end_ms=1_700_000_009_000,
    config={"seed": 1, "dataset": {"classes": ["COVID"]}},
    tags={"view": "pixels"},
    dataset=DatasetRecord("phantom", "ab" * 32, "data/prepared", {"train": 3}),
    model=ModelRecord((8, 8, 1), "uint8", (3,), "float32", 256, 1, {"class_names": ["a"]}),
    history=[EpochRecord(0, 1_700_000_004_000, {"train/loss": 0.1, "val/loss": math.inf})],
    metrics={"fit/seconds": 9.0},
)


def test_round_trip(tmp_path):
    path = tmp_path / "plain" / "pixels" / "run.json"
    RECORD.write(path)
    assert read_record(path) == RECORD


def test_not_a_number_survives_as_valid_json(tmp_path):
    path = tmp_path / "run.json"
    EPOCH = EpochRecord(0, 1, {"val/loss": math.nan})
    RunRecord(**{**RECORD.__dict__, "history": [EPOCH]}).write(path)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isnan(read_record(path).history[0].metrics["val/loss"])


def test_without_a_model(tmp_path):
    path = tmp_path / "run.json"
    RunRecord(**{**RECORD.__dict__, "model": None}).write(path)
    assert read_record(path).model is None


def _without(*names):
    tree = json.loads(_text())
    for name in names:
        del tree[name]
    return json.dumps(tree)


def _text(**changes):
    from dataclasses import asdict

    return json.dumps({"format": "ppdl-run/1", **asdict(RECORD), "history": [], **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing: fetch it with `dvc pull`"),
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object, got list"),
        (_text(format="ppdl-run/2"), "must have \"format\": 'ppdl-run/1', got 'ppdl-run/2'"),
        (_without("run_id"), "is not a complete ppdl-run/1 record"),
        (_without("model"), "is not a complete ppdl-run/1 record"),
        (_text(extra=1), "is not a complete ppdl-run/1 record"),
        (_text(metrics={"a": "many"}), "is not a complete ppdl-run/1 record"),
        (_text(dataset=None), "is not a complete ppdl-run/1 record"),
    ],
)
def test_malformed_records_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrackingError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
