import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ppdl.errors import TrackingError
from ppdl.tracking import ensure_run, log_results, open_store, read_record, restore_runs


@pytest.fixture
def clone(tmp_path, migrated_db, finished):
    """Open the empty store of a clone that has pulled the models, and return it with its run.json."""
    root = tmp_path / "clone"
    shutil.copytree(finished.parents[2], root / "models")
    shutil.copy(migrated_db, root / "mlflow.db")
    return open_store(root, "ppdl"), root / "models" / "deterministic" / "spectral" / "run.json"


def metric_points(store, run_id):
    """Return every metric of a run with its whole history."""
    names = store.client.get_run(run_id).data.metrics
    rows = {name: store.client.get_metric_history(run_id, name) for name in names}
    return {name: [(m.step, m.timestamp, str(m.value)) for m in points] for name, points in rows.items()}


def test_test_results_go_to_the_finished_run(store_root, finished):
    from matplotlib.figure import Figure

    store, run_id = open_store(store_root, "ppdl"), read_record(finished).run_id
    before = store.client.get_run(run_id).info
    report = store_root / "report.md"
    report.write_text("# fine\n")
    metrics = {"accuracy": 0.9, "accuracy_low": 0.85, "auroc": None, "recall": {"Viral Pneumonia": 0.8}}
    found = log_results(store, finished, {"test": metrics}, figures={"confusion": Figure()}, artifacts={"test": report})
    run = store.client.get_run(run_id)
    assert found == run_id
    assert {k: v for k, v in run.data.metrics.items() if k.startswith("test/")} == {
        "test/accuracy": 0.9,
        "test/accuracy_low": 0.85,
        "test/recall/Viral Pneumonia": 0.8,
    }
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)
    assert len(store.client.search_runs([store.experiment_id])) == 1
    for artifact in ("figures/confusion.png", "test/report.md"):
        assert Path(store.client.download_artifacts(run_id, artifact)).is_file()


def test_the_same_results_twice_are_one_point(store_root, finished):
    store = open_store(store_root, "ppdl")
    for metrics in ({"accuracy": 0.9, "ece": float("nan")}, {"accuracy": 0.9, "ece": float("nan")}, {"accuracy": 0.8}):
        run_id = log_results(store, finished, {"test": metrics})
    points = metric_points(store, run_id)
    assert [value for _, _, value in points["test/accuracy"]] == ["0.9", "0.8"]
    assert len(points["test/ece"]) == 1
    assert store.client.get_run(run_id).data.metrics["test/accuracy"] == 0.8


def test_a_section_of_its_own(store_root, finished):
    store = open_store(store_root, "ppdl")
    run_id = log_results(store, finished, {"audit": {"ssim": 0.85}})
    assert store.client.get_run(run_id).data.metrics["audit/ssim"] == 0.85


def test_a_verdict_stands_above_the_description_however_often_it_is_given(store_root, finished):
    store, before = open_store(store_root, "ppdl"), read_record(finished).tags["mlflow.note.content"]
    for verdict in ("first", "**second**"):
        run_id = log_results(store, finished, {}, verdict=verdict)
    assert store.client.get_run(run_id).data.tags["mlflow.note.content"] == f"**second**\n\n{before}"
    log_results(store, finished, {"test": {"accuracy": 0.9}})
    assert store.client.get_run(run_id).data.tags["mlflow.note.content"].startswith("**second**")


def test_results_that_are_no_numbers_are_named(store_root, finished):
    store = open_store(store_root, "ppdl")
    with pytest.raises(TrackingError, match=r"metric test/accuracy must be a number, got '90 %'"):
        log_results(store, finished, {"test": {"accuracy": "90 %"}})


def test_a_clone_rebuilds_the_run_it_lacks(store_root, finished, clone):
    original_store, record = open_store(store_root, "ppdl"), read_record(finished)
    store, run_json = clone
    (state,) = restore_runs(run_json.parents[2], store)
    assert (state.path, state.name, state.outcome) == (run_json, "deterministic", "restored")
    old, new = original_store.client.get_run(record.run_id), store.client.get_run(state.run_id)
    assert new.info.run_id != old.info.run_id
    assert (new.info.run_name, new.info.status, new.info.end_time) == (old.info.run_name, "FINISHED", record.end_ms)
    assert new.data.params == old.data.params
    assert new.inputs.dataset_inputs[0].dataset == old.inputs.dataset_inputs[0].dataset
    assert {**old.data.tags, "restored_from": record.run_id}.items() - new.data.tags.items() == {("process", old.data.tags["process"])}
    for name, points in metric_points(original_store, old.info.run_id).items():
        restored = metric_points(store, new.info.run_id)[name]
        assert [(step, value) for step, _, value in restored] == [(step, value) for step, _, value in points]
    assert Path(store.client.download_artifacts(state.run_id, "config.yaml")).read_text().startswith("seed: 7\n")


def test_restoring_twice_changes_nothing(clone):
    store, run_json = clone
    (first,) = restore_runs(run_json.parents[2], store)
    before = metric_points(store, first.run_id)
    (second,) = restore_runs(run_json.parents[2], store)
    assert (second.run_id, second.outcome) == (first.run_id, "present")
    assert metric_points(store, first.run_id) == before
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_restoring_at_once_makes_one_run(clone):
    store, run_json = clone
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda _: ensure_run(store, run_json), range(4)))
    assert sorted(s.outcome for s in states) == ["present", "present", "present", "restored"]
    assert len({s.run_id for s in states}) == 1


def test_evaluation_in_a_clone_restores_first(clone):
    store, run_json = clone
    run_id = log_results(store, run_json, {"test": {"accuracy": 0.9}})
    run = store.client.get_run(run_id)
    assert run.data.tags["restored_from"] == read_record(run_json).run_id
    assert (run.data.metrics["test/accuracy"], run.data.metrics["val/accuracy"]) == (0.9, 0.625)


def test_restored_runs_get_the_test_metrics_that_are_known(clone):
    store, run_json = clone
    metrics = {"deterministic": {"accuracy": 0.9}, "plain": {"accuracy": 0.95}}
    (state,) = restore_runs(run_json.parents[2], store, test_metrics=metrics)
    assert store.client.get_run(state.run_id).data.metrics["test/accuracy"] == 0.9


def test_a_clone_gets_the_model_too(store_root, start, tmp_path, migrated_db):
    keras = pytest.importorskip("keras")
    import mlflow
    import numpy as np

    inputs = keras.Input((4, 4, 1), dtype="uint8")
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Rescaling(0.1)(inputs))))
    models = tmp_path / "clone" / "models" / "plain"
    models.mkdir(parents=True)
    model.save(models / "model.keras")
    with start(name="plain") as run:
        run.log_model(models / "model.keras", model, num_symbols=256, step=0, class_names=("a", "b"))
        run.write_record(models / "run.json")
    shutil.copy(migrated_db, tmp_path / "clone" / "mlflow.db")
    store = open_store(tmp_path / "clone", "ppdl")
    (state,) = restore_runs(models.parent, store)
    logged = store.client.get_logged_model(store.logged_model_id(state.run_id))
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    served = mlflow.pyfunc.load_model(logged.artifact_location)
    np.testing.assert_array_equal(served.predict(images), model.predict(images, verbose=0))


def test_without_the_model_file_the_rest_is_restored(clone):
    store, run_json = clone
    tree = json.loads(run_json.read_text())
    tree["model"] = {
        "input_shape": [4, 4, 1],
        "input_dtype": "uint8",
        "output_shape": [2],
        "output_dtype": "float32",
        "num_symbols": 256,
        "step": 1,
        "metadata": {},
    }
    run_json.write_text(json.dumps(tree))
    state = ensure_run(store, run_json)
    assert state.outcome == "restored"
    assert store.logged_model_id(state.run_id) is None


def test_a_run_that_lost_its_store_is_completed(store_root, start, monkeypatch):
    run_json = store_root / "models" / "run.json"
    with start() as run:
        monkeypatch.setattr("ppdl.tracking.store.Store.is_reachable", lambda self: False)
        run.log_epoch(0, {"loss": 3.0})
        run.write_record(run_json)
        raise_on_end = pytest.MonkeyPatch()
        raise_on_end.setattr("mlflow.MlflowClient.set_terminated", _gone)
    raise_on_end.undo()
    store = open_store(store_root, "ppdl")
    assert store.client.get_run(run.run_id).info.status == "RUNNING"
    store.client.delete_tag(run.run_id, "process")  # this process lives on; the one that trained would not
    state = ensure_run(store, run_json)
    assert (state.run_id, state.outcome) == (run.run_id, "completed")
    found = store.client.get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"train/loss": 3.0})


def _gone(*_, **__):
    raise ConnectionError("connection refused")


def test_a_run_that_is_under_way_is_left_alone(store_root, start):
    run_json = store_root / "models" / "run.json"
    with start() as run:
        run.write_record(run_json)
        store = open_store(store_root, "ppdl")
        assert ensure_run(store, run_json).outcome == "present"
        assert store.client.get_run(run.run_id).info.status == "RUNNING"


def test_a_deleted_run_comes_back_from_the_bin(store_root, finished):
    store, record = open_store(store_root, "ppdl"), read_record(finished)
    store.client.delete_run(record.run_id)
    (state,) = restore_runs(store_root / "models", store)
    assert (state.run_id, state.outcome) == (record.run_id, "undeleted")
    assert store.client.get_run(record.run_id).info.lifecycle_stage == "active"


def test_a_folder_without_models_is_named(store_root):
    with pytest.raises(TrackingError, match=r"models has no run\.json at any depth: fetch the models with `dvc pull`"):
        restore_runs(store_root / "models", open_store(store_root, "ppdl"))
