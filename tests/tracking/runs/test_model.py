import numpy as np
import pytest

from ppdl.errors import TrackingError
from ppdl.tracking import ModelRecord, open_store
from ppdl.tracking.runs.model import input_example

keras = pytest.importorskip("keras")


def build():
    """Build a tiny model that takes integers and gives three logits."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


def log(start, folder, model):
    """Log a model in a run of its own; return the folder that MLflow keeps it in, the file, and its run."""
    path = folder / "models" / "plain" / "pixels" / "model.keras"
    path.parent.mkdir(parents=True)
    model.save(path)
    with start() as run:
        run.log_epoch(0, {"val_accuracy": 0.5})
        run.log_epoch(1, {"val_accuracy": 0.75})
        run.log_model(path, model, num_symbols=256, step=1, class_names=("a", "b", "c"))
        run.write_record(path.parent / "run.json")
    store = open_store(folder, "ppdl")
    logged = store.client.get_logged_model(store.logged_model_id(run.run_id))
    return logged, path, run


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)


def test_a_logged_model_gives_the_same_logits(store_root, start, images):
    import mlflow

    model = build()
    logged, path, _ = log(start, store_root, model)
    expected = model.predict(images, verbose=0)
    served, loaded = (
        mlflow.pyfunc.load_model(logged.artifact_location),
        mlflow.keras.load_model(logged.artifact_location),
    )
    np.testing.assert_array_equal(served.predict(images), expected)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    assert (_folder(logged) / "data" / "model.keras").read_bytes() == path.read_bytes()


def test_signature_example_and_metadata(store_root, start):
    import mlflow

    model = build()
    logged, _, run = log(start, store_root, model)
    served = mlflow.pyfunc.load_model(logged.artifact_location)
    assert str(served.metadata.signature.inputs) == "[Tensor('uint8', (-1, 4, 4, 1))]"
    assert str(served.metadata.signature.outputs) == "[Tensor('float32', (-1, 3))]"
    assert served.metadata.metadata["class_names"] == ["a", "b", "c"]
    assert served.metadata.metadata["key_fingerprint"] == "ab" * 32
    assert (logged.status, logged.source_run_id, logged.name) == ("READY", run.run_id, "model")
    example = served.input_example
    assert served.predict(example).shape == (1, 3)  # MLflow checks it against the signature
    with pytest.raises(mlflow.MlflowException, match="uint8"):
        served.predict(example.astype(np.float64))
    requirements = (_folder(logged) / "requirements.txt").read_text()
    assert f"keras=={keras.__version__}" in requirements
    assert "ppdl" not in requirements


def test_metrics_of_the_chosen_epoch_belong_to_the_model(store_root, start):
    logged, _, _ = log(start, store_root, build())
    assert {(m.key, m.step): m.value for m in logged.metrics} == {("val/accuracy", 1): 0.75}


@pytest.mark.parametrize("content", [None, b"", b"PK no zip"])
def test_a_file_that_is_no_model_is_named(store_root, start, content):
    path = store_root / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with (
        pytest.raises(TrackingError, match=r"model\.keras is not a file that `keras.Model.save` wrote"),
        start() as run,
    ):
        run.log_model(path, build(), num_symbols=256, step=0, class_names=())


@pytest.mark.parametrize(("shape", "dtype", "num_symbols"), [((4, 5, 1), "uint8", 256), ((4, 5, 3), "int32", 700), ((2, 1), "float32", 16)])
def test_the_input_example_is_a_ramp_over_all_symbols(shape, dtype, num_symbols):
    example = input_example(ModelRecord(shape, dtype, (3,), "float32", num_symbols, 0))
    assert (example.shape, example.dtype) == ((1, *shape), np.dtype(dtype))
    row = example[0, 0].reshape(shape[1], -1)[:, 0]
    assert row[0] == 0
    assert row[-1] == (num_symbols - 1 if shape[1] > 1 else 0)
    assert np.all(np.diff(row) > 0)
    assert np.all(example == example[:, :1])


def _folder(logged):
    from pathlib import Path
    from urllib.parse import unquote, urlparse

    return Path(unquote(urlparse(logged.artifact_location).path))
