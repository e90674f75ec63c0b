"""The wheel, installed in a folder that is no checkout: what it holds, and that each command works or says what it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ppdl import __version__
from ppdl.audit.examination.verdict import BROKEN
from tests.audit import schemes

PROJECT = Path(__file__).resolve().parents[1]
SOURCES = ("ppdl", "conf", "hydra_plugins", "pyproject.toml", "README.md", "LICENSE")
RUN = """\
import json, sys
sys.modules |= dict.fromkeys(sys.argv[2:])
from click.testing import CliRunner
from ppdl.cli import main
results = [CliRunner().invoke(main, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([(r.exit_code, r.output, type(r.exception).__name__ if r.exception else None) for r in results]))
"""
CHECKOUT = (
    "keep",
    "keep training.epochs=2",
    "ui",
    "sweep summary",
    "sweep apply",
    "sweep test",
    "sweep frontier",
    "model register",
    "model restore-runs",
)
EXTRA = ("dvc", "keras", "matplotlib", "mlflow", "networkx", "optuna", "tensorflow")  # of train and sweep
PREDICT = ("predict x.png", "predict x.png --protection opaque", "predict x.png --model models:/ppdl-plain@champion")
NEEDS = {
    "predict x.png --model network": "network/run.json is missing",
    "predict x.png --server http://127.0.0.1:1": "keys/inference.json is missing",
    "serve": "models/private_head/head.json is missing",
    "repro": "is in no DVC project: go to one, or clone",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy, beside a user's own choices in conf/local, which are nobody else's."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, source / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    (source / "conf/local").mkdir(exist_ok=True)
    (source / "conf/local/default.yaml").write_text("# @package _global_\ndataset: {root: /home/somebody}\n")
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """Unpack it, which is what installing a wheel of pure Python does; the dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(site: Path, *arguments: object, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_holds_the_package_with_its_configuration_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"ppdl_paillier-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"ppdl", "hydra_plugins", info}
    files = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "conf").rglob("*.yaml") if "local" not in path.parts}
    assert {name.removeprefix("ppdl/") for name in names if name.startswith("ppdl/conf/")} == files
    code = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "ppdl").rglob("*.py*") if path.suffix in (".py", ".pyi")}
    code.add("hydra_plugins/optuna_study.py")
    assert {name for name in names if name.endswith((".py", ".pyi"))} == code
    assert {"ppdl/py.typed", "ppdl/evaluation/report/report.html.jinja", "ppdl/evaluation/report/report.css"} <= set(names)


def test_each_command_works_or_says_in_one_line_what_it_needs(site, tmp_path):
    texts = [*CHECKOUT, *PREDICT, *NEEDS, "--version"]
    *results, version = json.loads(python(site, "-c", RUN, json.dumps([text.split() for text in texts]), cwd=tmp_path))
    assert version[:2] == [0, f"ppdl, version {__version__}\n"]
    for text, (exit_code, output, exception) in zip(texts, results, strict=False):
        assert (exit_code, exception) == (1, "SystemExit"), (text, output)
        assert output.count("\n") == 1 and output.startswith("Error: "), text
        assert NEEDS.get(text, f"this needs a checkout, and {site}/ppdl is an installed package: clone the repository") in output
    assert list(tmp_path.iterdir()) == [] and not (site / "ppdl/conf/local").exists()


def test_without_extras_a_missing_checkout_is_named_first(site, tmp_path):
    """Else somebody installs two gigabytes to be told that they do not help."""
    texts = [*CHECKOUT, *PREDICT, "repro"]
    for text, (*_, output, _) in zip(
        texts, json.loads(python(site, "-c", RUN, json.dumps([t.split() for t in texts]), *EXTRA, cwd=tmp_path)), strict=True
    ):
        assert output.startswith("Error: this needs a checkout, and ") and output.count("\n") == 1, (text, output)


def test_without_extras_attacks_run_on_images_that_nobody_encrypted(site, tmp_path):
    for name, films in (("images", schemes.films(1, 8)), ("public", schemes.films(9, 100))):
        (tmp_path / name).mkdir()
        for i, film in enumerate(films):
            Image.fromarray(film).save(tmp_path / name / f"{i}.png")
    arguments = "artifact audit images --originals images --prior public --json audit.json"
    python(site, "-c", RUN, json.dumps([arguments.split()]), *EXTRA, cwd=tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found["verdict"]["level"] == BROKEN and len(found["attacks"]) > 10
    lacking = {name: row["does_not_apply"] for name, row in found["attacks"].items() if "not installed" in row.get("does_not_apply", "")}
    assert lacking == {"learned": "needs keras, which is not installed: run `pip install 'ppdl-paillier[train]'`"}


@pytest.mark.parametrize(("name", "which"), [("cli/test_cli.py", ""), ("cli/artifact/test_audit.py", "exit_code")])
def test_the_tests_of_the_command_pass_on_it(site, tmp_path, name, which):
    """Of the audit those that take seconds: the attacks themselves are run on it above."""
    shutil.copytree(PROJECT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "results", "vectors"))
    options = ("-c", os.devnull, "--rootdir", tmp_path, "--import-mode=importlib", "-p", "no:cacheprovider", "-q", "-k", which)
    code = f"import sys, pytest, ppdl; assert ppdl.__file__.startswith({str(site)!r}); sys.exit(pytest.main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", code, *map(str, options), str(tmp_path / "tests" / name)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
