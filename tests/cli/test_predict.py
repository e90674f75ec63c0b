"""`ppdl predict` and `ppdl model register`, as a user types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ppdl.cli import main
from ppdl.cli.answers import print_answers
from ppdl.cli.predict import _notes
from ppdl.evaluation.predictions.calibration import MOST, Calibration
from ppdl.prediction.network import open_network
from ppdl.prediction.predict import DISCLAIMER, FileAnswer, FileAnswers, predict_files
from ppdl.protections.context import KeyHolder


@pytest.fixture
def ppdl(trained, monkeypatch):
    """Run a command in the trained checkout."""
    monkeypatch.setattr("ppdl.config.checkout", lambda: trained.root)
    monkeypatch.setattr("ppdl.config.PARAMS", trained.root / "params.yaml")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_table_with_classes_probabilities_and_the_key(ppdl, trained):
    result = ppdl("predict", *trained.raw_test_images()[:2], "--protection", "deterministic")
    assert result.exit_code == 0, result.output
    network = open_network(trained.root / "models/deterministic/spectral")
    assert f"key {network.recipe.key_fingerprint[:16]}" in result.stdout
    assert "p(Viral Pneumonia)" in result.stdout and "view spectral" in result.stdout
    assert DISCLAIMER in result.stderr and DISCLAIMER not in result.stdout


def test_a_network_that_knows_nothing_says_so_and_paths_stay_whole(capsys, tmp_path):
    names, path = ("COVID", "Normal"), tmp_path / "a folder" / ("x" * 150 + ".png")
    path.parent.mkdir()
    Image.effect_noise((64, 64), 60).save(path)
    knows = np.array([0.7, 0.3], np.float32)
    rows = [FileAnswer.of(path, names, *found) for found in ((knows, 1.7), (knows, MOST), (np.array([0.5, 0.5], np.float32), 1.0))]
    assert [row.class_name for row in rows] == ["COVID", None, None]
    print_answers("plain", names, FileAnswers(rows, {}, np.zeros(0)))
    out = capsys.readouterr().out
    assert out.count(str(path)) == 3 and out.count("does not know") == 2 and "coloured" not in out


def test_a_coloured_picture_is_named_as_one_and_gray_in_colour_is_not(ppdl, trained, tmp_path):
    gray = Image.open(trained.raw_test_images()[0])
    board = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((16, 16))).astype(bool)
    Image.fromarray(np.where(board[..., None], (230, 40, 30), (20, 60, 200)).astype(np.uint8)).save(tmp_path / "board.jpg")
    gray.convert("RGB").save(tmp_path / "film.jpg")
    files = tmp_path / "board.jpg", tmp_path / "film.jpg"
    assert [row["coloured"] for row in json.loads(ppdl("predict", *files, "--json").stdout)["predictions"]] == [True, False]
    assert "board.jpg: coloured, which no X-ray is" in " ".join(ppdl("predict", *files).stdout.split())


def test_json_holds_the_calibrated_probabilities(ppdl, trained):
    files = trained.raw_test_images()
    result = ppdl("predict", *files, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    expected = predict_files(open_network(trained.root / "models/plain/pixels"), files, KeyHolder(trained.private_dir, trained.root))
    assert [row["file"] for row in found["predictions"]] == list(map(str, files))
    for row, answer in zip(found["predictions"], expected.rows, strict=True):
        assert row["probabilities"] == pytest.approx(dict(answer.probabilities), rel=1e-5)
        assert row["class"] == max(row["probabilities"], key=row["probabilities"].get)
    assert found["temperature"] == 1.7 and found["disclaimer"] == DISCLAIMER


def test_bad_files_end_in_exit_code_1_after_the_others_are_answered(ppdl, trained, tmp_path):
    result = ppdl("predict", tmp_path / "missing.png", trained.raw_test_images()[0], "--json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["predictions"]) == 1
    assert f"{tmp_path / 'missing.png'}: unreadable" in result.stderr


def test_the_control_says_that_it_is_chance(ppdl, trained):
    result = ppdl("predict", trained.raw_test_images()[0], "--protection", "opaque")
    assert result.exit_code == 0 and "these answers are chance" in result.stderr


def test_overlays_are_written_or_refused(ppdl, trained, tmp_path):
    image = trained.raw_test_images()[0]
    result = ppdl("predict", image, "--gradcam", tmp_path / "looked")
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "looked").glob("*.png")
    assert f"wrote {path}" in result.stderr and image.stem in path.name
    result = ppdl("predict", image, "--protection", "opaque", "--gradcam", tmp_path / "none")
    assert result.exit_code == 1 and "is no image" in result.stderr and not result.stdout and not (tmp_path / "none").exists()
    written = path.read_bytes()
    result = ppdl("predict", image, "--protection", "deterministic", "--gradcam", tmp_path / "looked")
    assert result.exit_code == 1 and "must be a new or an empty folder" in result.stderr and not result.stdout
    assert path.read_bytes() == written


def test_what_an_answer_does_not_rest_on_is_said():
    row = FileAnswer(Path("x.png"), "Normal", {"Normal": 0.6, "COVID": 0.4}, None, None)
    found = FileAnswers([row], {}, np.zeros((1, 8, 8)))
    calibration = Calibration(1.7, 100, 0.5, 0.4, 0.1, 0.05, "100 validation images of x")
    network = SimpleNamespace(calibration=calibration, temperature=1.7)
    assert "calibrated on 100 validation images of x" in _notes(network, found)[0]
    assert "not known: whether an image is like the training set" in _notes(network, found)[1]
    assert len(_notes(network, FileAnswers([replace(row, unlike=False)], {}, found.images))) == 1
    network = SimpleNamespace(calibration=replace(calibration, temperature=1.0), temperature=1.0)  # 4 images set none
    assert _notes(network, found)[0].startswith("not calibrated") and network.calibration.set_by is None


def test_registered_models_answer_the_same_and_refuse_another_protection(ppdl, trained):
    result = ppdl("model", "register", "plain", "homomorphic")
    assert result.exit_code == 0, result.output
    assert "ppdl-plain version" in result.stdout and "Champion:" in result.stdout
    image = trained.raw_test_images()[0]
    registered, local = (ppdl("predict", image, "--json", *more) for more in (["--model", "models:/ppdl-plain@champion"], []))
    assert json.loads(registered.stdout) == json.loads(local.stdout)
    result = ppdl("predict", image, "--model", "models:/ppdl-plain@champion", "--protection", "opaque")
    assert result.exit_code == 1 and "was trained on 'plain'" in result.stderr
    assert "wrote" not in result.output


def test_mistakes_are_one_line(ppdl, trained, tmp_path):
    result = ppdl("predict", trained.raw_test_images()[0], "--model", tmp_path)
    assert result.exit_code == 1 and "run.json is missing" in result.stderr and "Traceback" not in result.output
    result = ppdl("model", "register", "rot13")
    assert result.exit_code == 1 and "protections are plain" in result.stderr
