"""Raw images through MLflow's own commands: the answers are those of `ppdl predict`."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppdl.errors import DataError, KeyStoreError
from ppdl.prediction import pyfunc
from ppdl.prediction.network import open_network
from ppdl.prediction.predict import predict_files
from ppdl.prediction.pyfunc import _load_pyfunc
from ppdl.prediction.registering import register_best
from ppdl.protections.context import KeyHolder
from ppdl.tracking import open_store
from ppdl.tracking.registry.models import fetch_registered
from tests.processes import answers, free_port, running

MLFLOW = Path(sys.executable).with_name("mlflow")
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def registered(trained):
    """The store of the checkout, with every protection registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(trained.root, trained.cfg.tracking.experiment)
        assert all(outcome.registration for outcome in register_best(store, trained.config, trained.root, (), promote=False))
    return store


def expected(trained, branch):
    """What `ppdl predict` says of the test images."""
    network = open_network(trained.root / trained.run(branch).folder)
    return predict_files(network, trained.raw_test_images(), KeyHolder(trained.private_dir, trained.root)).answers.probabilities


def encoded(trained):
    return [base64.b64encode(path.read_bytes()).decode() for path in trained.raw_test_images()]


def environment(registered, **more):
    """Variables of a process that finds the store, and the private key only if told."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PPDL"))}
    kept["PATH"] = f"{MLFLOW.parent}{os.pathsep}{kept['PATH']}"  # where MLflow finds uvicorn
    return kept | {"MLFLOW_TRACKING_URI": registered.uri, "MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


@pytest.mark.parametrize("branch", ["plain", "deterministic", "homomorphic"])
def test_the_loaded_model_answers_as_ppdl_predict(trained, registered, tmp_path, monkeypatch, branch):
    monkeypatch.setenv("PPDL_PRIVATE_KEY_DIR", str(trained.private_dir))
    model = _load_pyfunc(str(fetch_registered(registered, f"models:/ppdl-{branch}@champion", tmp_path)))
    answers = model.predict(pd.DataFrame({"image": encoded(trained)}))
    assert tuple(answers.columns) == trained.prepared.class_names
    np.testing.assert_allclose(answers.to_numpy(), expected(trained, branch), rtol=1e-5)


def test_the_control_can_be_served_too(trained, registered, tmp_path):
    model = _load_pyfunc(str(fetch_registered(registered, "models:/ppdl-opaque@champion", tmp_path)))
    np.testing.assert_allclose(model.predict(pd.DataFrame({"image": encoded(trained)})).sum(axis=1), 1)


def test_a_server_for_revealed_views_starts_only_with_a_private_key_that_it_was_given(trained, registered, tmp_path, monkeypatch):
    data = str(fetch_registered(registered, "models:/ppdl-homomorphic@champion", tmp_path))
    monkeypatch.delenv("PPDL_PRIVATE_KEY_DIR")
    with pytest.raises(KeyStoreError, match="set PPDL_PRIVATE_KEY_DIR"):
        _load_pyfunc(data)
    monkeypatch.setenv("PPDL_PRIVATE_KEY_DIR", str(tmp_path))
    with pytest.raises(KeyStoreError, match="this needs the private key"):
        _load_pyfunc(data)


@pytest.fixture
def plain_model(registered, tmp_path):
    return _load_pyfunc(str(fetch_registered(registered, "models:/ppdl-plain@champion", tmp_path)))


def test_bad_rows_are_named_and_nothing_is_answered(trained, plain_model):
    rows = [encoded(trained)[0], "not base64!", base64.b64encode(b"no picture").decode(), None]
    with pytest.raises(DataError) as caught:
        plain_model.predict(pd.DataFrame({"image": rows}))
    assert [line[:6] for line in str(caught.value).splitlines()] == ["row 1:", "row 2:", "row 3:"]


def test_line_breaks_in_base64_do_not_count(trained, plain_model):
    path = trained.raw_test_images()[0]
    broken, whole = (pd.DataFrame({"image": [encode(path.read_bytes()).decode()]}) for encode in (base64.encodebytes, base64.b64encode))
    np.testing.assert_array_equal(plain_model.predict(broken), plain_model.predict(whole))


def test_the_shape_of_the_input_is_checked(plain_model):
    with pytest.raises(DataError, match="column 'image'"):
        plain_model.predict(pd.DataFrame({"picture": ["AAAA"]}))
    assert plain_model.predict(pd.DataFrame({"image": []})).shape == (0, 4)


@pytest.fixture(scope="module")
def server(registered, tmp_path_factory):
    """URL of `mlflow models serve` with the champion of plain."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [MLFLOW, "models", "serve", "-m", "models:/ppdl-plain@champion", "--env-manager", "local", "--host", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    with running([*map(str, command), "-p", str(port)], log, is_up=lambda: answers(f"{url}/ping"), env=environment(registered)):
        yield url


def post(url, content):
    request = urllib.request.Request(f"{url}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return json.load(response)


def split_json(trained):
    return {"dataframe_split": {"columns": ["image"], "data": [[text] for text in encoded(trained)]}}


def test_a_server_answers_a_png_over_http_as_ppdl_predict_does(trained, server):
    found = post(server, split_json(trained))["predictions"]
    assert [tuple(row) for row in found] == [trained.prepared.class_names] * len(found)
    np.testing.assert_allclose([list(row.values()) for row in found], expected(trained, "plain"), rtol=1e-5)


def test_a_server_refuses_what_is_no_picture_and_says_why(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, {"dataframe_split": {"columns": ["image"], "data": [["AAAA"]]}})
    assert caught.value.code == 400
    assert "row 0: unreadable" in caught.value.read().decode()


def test_mlflow_models_predict_answers_a_file(trained, registered, tmp_path):
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_text(json.dumps(split_json(trained)))
    command = [MLFLOW, "models", "predict", "-m", "models:/ppdl-deterministic@champion", "--env-manager", "local", "-i", path, "-o", out]
    done = subprocess.run(command, env=environment(registered), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())["predictions"]
    np.testing.assert_allclose([list(row.values()) for row in found], expected(trained, "deterministic"), rtol=1e-5)


def test_mlflow_loads_it_by_its_signature_and_takes_a_table_that_was_a_csv_file(trained, registered, tmp_path):
    import mlflow

    fetch_registered(registered, "models:/ppdl-plain@champion", tmp_path)
    (folder,) = {path.parent for path in tmp_path.rglob("MLmodel")}
    model = mlflow.pyfunc.load_model(str(folder))
    pd.DataFrame({"image": encoded(trained)}).to_csv(tmp_path / "in.csv", index=False)
    np.testing.assert_allclose(model.predict(pd.read_csv(tmp_path / "in.csv")).to_numpy(), expected(trained, "plain"), rtol=1e-5)
    assert model.predict(model.input_example).shape == (1, 4)
    with pytest.raises(mlflow.MlflowException, match="image"):
        model.predict(pd.DataFrame({"picture": ["AAAA"]}))


ALONE = """\
import ast, json, sys
from importlib import metadata
import mlflow, pandas as pd
from packaging.requirements import Requirement

folder, image = sys.argv[1:]
model = mlflow.pyfunc.load_model(folder)
answers = model.predict(pd.DataFrame({"image": [image]}))
modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "ppdl"]
files = {module.__file__ for module in modules}
left = [Requirement(line.strip()).name for line in open(f"{folder}/requirements.txt")]
needed = set()
while left:
    name = left.pop().lower().replace("_", "-")
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        continue
    if name not in needed:
        needed.add(name)
        left += [r.name for r in map(Requirement, texts) if r.marker is None or r.marker.evaluate({"extra": ""})]
of = metadata.packages_distributions()
named = set()  # by our code; what others import where they find it is theirs
for tree in (ast.parse(open(file).read()) for file in files):
    named |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    named |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
used = {name.partition(".")[0] for name in named} & {name.partition(".")[0] for name in sys.modules} & of.keys() - {"ppdl", "stages"}
missing = sorted(name for name in used if not {d.lower().replace("_", "-") for d in of[name]} & needed)
print(json.dumps({"answers": answers.iloc[0].tolist(), "outside": [f for f in files if not f.startswith(folder)], "missing": missing}))
"""


@pytest.fixture
def model_folder(registered, tmp_path):
    """The folder of ppdl-plain as the registry holds it."""
    fetch_registered(registered, "models:/ppdl-plain@champion", tmp_path)
    return next(path.parent for path in tmp_path.rglob("MLmodel"))


def test_a_model_holds_the_code_that_answers_and_none_of_the_users_choices(model_folder):
    assert {path.name for path in (model_folder / "code").iterdir()} == {"ppdl"}
    assert (model_folder / "code/ppdl/prediction/pyfunc.py").read_bytes() == Path(pyfunc.__file__).read_bytes()
    assert not (model_folder / "code/ppdl/conf").exists()


def test_a_model_answers_by_the_code_and_the_packages_that_it_names(trained, model_folder):
    """Also where another `ppdl` is installed: nothing of that one, and our code imports no package beside the requirements."""
    command = [sys.executable, "-c", ALONE, str(model_folder), encoded(trained)[0]]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=model_folder.parent, env=kept, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["outside"], found["missing"]) == ([], [])
    np.testing.assert_allclose(found["answers"], expected(trained, "plain")[0], rtol=1e-5)


def test_its_requirements_are_to_be_had_where_there_is_no_package_called_ppdl(model_folder, tmp_path_factory):
    """In a folder of empty wheels, one for each pin of the lock: uv resolves against it as against an index."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    wheels = tmp_path_factory.mktemp("wheels")
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    for name, version in {(name, version) for name, version in re.findall(r"^([\w.-]+)(?:\[[\w, -]+\])?==([\w.+!-]+)", lock, re.MULTILINE)}:
        stem = f"{name.replace('-', '_').replace('.', '_')}-{version}"
        with zipfile.ZipFile(wheels / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(
                f"{stem}.dist-info/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: libjpeg\nProvides-Extra: openjpeg\n",
            )
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")

    def resolve(text):
        command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-index", "--find-links", str(wheels), "-"]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S)

    text = (model_folder / "requirements.txt").read_text()
    done = resolve(text)
    assert done.returncode == 0, done.stderr
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==\S+", line) for line in text.splitlines()) and "mlflow==" in text and "keras==" in text
    refused = resolve(f"{text}\nppdl==0.1.0\n")
    assert refused.returncode and "ppdl" in refused.stderr
