"""Laws of prediction: a raw file goes the way of the data set's own images, and the network says the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_public
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ArtifactError, ConfigError, DataError, KeyStoreError, TrackingError
from ppdl.evaluation.predictions.calibration import apply_temperature
from ppdl.evaluation.predictions.likeness import fit_likeness
from ppdl.prediction.network import open_network
from ppdl.prediction.predict import as_json, find_network, predict_files, refuse_overlays, write_overlays
from ppdl.prediction.steps import read_images
from ppdl.protections.context import KeyHolder
from ppdl.protections.schemes.deterministic import Deterministic
from ppdl.protections.steps.noise import NOISE_FILE, load_noise_secret
from ppdl.training.networks.predict import predict_features
from tests.trained_checkout import TEMPERATURE


@pytest.fixture
def key_holder(trained):
    return KeyHolder(trained.private_dir, trained.root)


@pytest.fixture
def nobody(trained, tmp_path):
    """A machine without the private key."""
    return KeyHolder(tmp_path / "no-keys", trained.root)


def network_of(trained, branch):
    return open_network(trained.root / trained.run(branch).folder)


@pytest.mark.parametrize("branch", ["plain", "deterministic", "homomorphic"])
def test_a_raw_test_image_gets_the_answer_that_evaluate_gave_it(trained, key_holder, branch):
    found = predict_files(network_of(trained, branch), trained.raw_test_images(), key_holder)
    logits = trained.test_logits(branch)
    assert np.ptp(logits) > 0.1  # a network that says the same of every image would prove nothing
    np.testing.assert_allclose(found.answers.logits, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.answers.probabilities, apply_temperature(logits, TEMPERATURE), rtol=1e-5)
    assert found.remark is None and not found.bad


def test_answers_do_not_depend_on_what_else_is_asked(trained, key_holder):
    network, files = network_of(trained, "homomorphic"), trained.raw_test_images()
    together = predict_files(network, files, key_holder).answers.probabilities
    alone = [predict_files(network, [file], key_holder).answers.probabilities[0] for file in files]
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_a_source_finds_the_symbols_of_the_trained_codebook_with_the_public_key_alone(trained, nobody):
    found = predict_files(network_of(trained, "deterministic"), trained.raw_test_images(), nobody)
    symbols = open_artifact(trained.root / "data/encrypted/deterministic").indices[trained.prepared.rows("test")]
    np.testing.assert_array_equal(found.answers.inputs, symbols)


def test_gray_values_that_no_training_image_had_are_counted(trained, nobody):
    found = predict_files(network_of(trained, "deterministic"), trained.raw_test_images(), nobody)
    images = Reduced(trained.prepared.images, trained.cfg.input_px)
    known = np.unique(images[trained.prepared.rows("train")])
    expected = [1 - np.isin(image, known).mean() for image in images[trained.prepared.rows("test")]]
    assert max(expected) > 0
    np.testing.assert_allclose([row.unseen for row in found.rows], expected)


def test_the_control_is_encrypted_afresh_and_says_that_it_is_chance(trained, nobody):
    network, files = network_of(trained, "opaque"), trained.raw_test_images()[:2]
    first, second = (predict_files(network, files, nobody) for _ in range(2))
    assert "chance" in first.remark
    assert (first.answers.inputs != second.answers.inputs).mean() > 0.9
    np.testing.assert_allclose(first.answers.probabilities.sum(axis=1), 1)


def test_homomorphic_needs_the_private_key_and_names_it(trained, nobody):
    network = network_of(trained, "homomorphic")
    with pytest.raises(KeyStoreError, match=network.recipe.key_fingerprint):
        predict_files(network, trained.raw_test_images()[:1], nobody)


def with_noise(network, noise):
    reveal = {**network.recipe.branch["reveal"], "noise": noise}
    return replace(network, recipe=replace(network.recipe, branch={**network.recipe.branch, "reveal": reveal}))


def test_noise_is_the_same_each_time_so_that_asking_again_averages_nothing_away(trained, tmp_path):
    private_dir = tmp_path / "keys"
    shutil.copytree(trained.private_dir, private_dir)
    load_noise_secret(private_dir, project=trained.root)
    files, key_holder = trained.raw_test_images()[:1], KeyHolder(private_dir, trained.root)
    first, second = (predict_files(with_noise(network_of(trained, "homomorphic"), 8.0), files, key_holder) for _ in range(2))
    without = predict_files(network_of(trained, "homomorphic"), files, key_holder)
    np.testing.assert_array_equal(first.answers.inputs, second.answers.inputs)
    assert (first.answers.inputs != without.answers.inputs).mean() > 0.9


def test_a_lost_noise_secret_is_not_replaced(trained, tmp_path):
    private_dir = tmp_path / "keys"
    shutil.copytree(trained.private_dir, private_dir)
    with pytest.raises(KeyStoreError, match=NOISE_FILE):
        predict_files(
            with_noise(network_of(trained, "homomorphic"), 8.0), trained.raw_test_images()[:1], KeyHolder(private_dir, trained.root)
        )
    assert not (private_dir / NOISE_FILE).exists()


def test_nothing_that_was_written_on_the_way_is_left(trained, key_holder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    predict_files(network_of(trained, "homomorphic"), trained.raw_test_images()[:1], key_holder)
    assert not list(tmp_path.glob("ppdl-*"))


@pytest.mark.parametrize("branch", ["plain", "deterministic", "homomorphic"])
def test_an_image_is_called_unlike_where_its_features_are_on_the_way_of_evaluate(trained, key_holder, tmp_path, branch):
    """Half of the test images lie beyond a threshold that is set so; the same files are called unlike, and no others."""
    run, folder = trained.run(branch), tmp_path / "models" / branch / "view"
    shutil.copytree(trained.root / run.folder, folder)
    for name in ("keys", "data"):
        (tmp_path / name).symlink_to(trained.root / name)
    files = trained.raw_test_images()
    assert {row.unlike for row in predict_files(open_network(folder), files[:1], key_holder).rows} == {None}
    rows = trained.prepared.rows("train"), trained.prepared.rows("test")
    known, tested = (predict_features(run.fused, run.source.view, of, 8)[1] for of in rows)
    fitted = fit_likeness(known, trained.prepared.index["label"].to_numpy()[rows[0]], known, rows[0])
    distances = np.sort(fitted.distances(tested))
    middle = np.float32([distances[[len(distances) // 2 - 1, len(distances) // 2]].mean()])
    replace(fitted, threshold=middle).save(folder)
    network = open_network(folder)
    found = predict_files(network, files, key_holder)
    expected = (fitted.distances(tested) > middle).tolist()
    assert [row.unlike for row in found.rows] == expected and 0 < sum(expected) < len(expected)
    said = as_json(network, found)
    assert [row["unlike_training_set"] for row in said["predictions"]] == expected and said["unlike_false_alarms"] == 0.05


def test_bad_files_are_named_and_the_others_answered(trained, key_holder, tmp_path):
    good = trained.raw_test_images()[0]
    empty, text, flat = (tmp_path / name for name in ("empty.png", "text.png", "flat.png"))
    empty.touch()
    text.write_text("no picture")
    Image.new("L", (40, 40), 7).save(flat)
    found = predict_files(network_of(trained, "plain"), [empty, text, good, flat, tmp_path / "missing.png"], key_holder)
    assert [row.path for row in found.rows] == [good]
    assert {path.name for path in found.bad} == {"empty.png", "text.png", "flat.png", "missing.png"}
    assert "constant" in found.bad[flat]
    assert json.loads(json.dumps(as_json(network_of(trained, "plain"), found)))["failed"][0]["file"] == str(empty)


def test_without_a_readable_file_nothing_is_loaded(trained, key_holder, tmp_path):
    found = predict_files(network_of(trained, "plain"), [tmp_path / "missing.png"], key_holder)
    assert found.answers is None and not found.rows


@pytest.fixture
def moved(trained, tmp_path):
    """A copy of the checkout to break."""
    shutil.copytree(trained.root, tmp_path / "copy", ignore=shutil.ignore_patterns("ml*", "raw"))
    return tmp_path / "copy"


@pytest.mark.parametrize("branch", ["deterministic", "opaque", "homomorphic"])
def test_another_public_key_is_refused(trained, moved, branch):
    public = moved / "keys/public.json"
    public.unlink()
    save_public(public, generate_keypair(512, allow_insecure_key=True).public)
    with pytest.raises(KeyStoreError, match="was trained under"):
        open_network(moved / trained.run(branch).folder)


def test_another_artifact_is_refused_where_symbols_matter(trained, moved):
    header = moved / "data/encrypted/deterministic/header.json"
    header.write_text(header.read_text() + "\n")
    with pytest.raises(ArtifactError, match="symbols of one mean nothing in the other"):
        open_network(moved / "models/deterministic/spectral")
    shutil.rmtree(header.parent)
    with pytest.raises(ArtifactError, match="dvc pull"):
        open_network(moved / "models/deterministic/spectral")


def test_a_model_without_its_calibration_or_its_record_is_refused(trained, moved, key_holder):
    folder = moved / "models/plain/pixels"
    (folder / "calibration.json").unlink()
    with pytest.raises(DataError, match=r"calibration\.json is missing"):
        predict_files(open_network(folder), trained.raw_test_images()[:1], key_holder)
    (folder / "run.json").unlink()
    with pytest.raises(TrackingError, match=r"run\.json is missing"):
        open_network(folder)


def test_a_folder_of_a_head_or_of_views_says_what_to_ask_instead(trained, tmp_path):
    (tmp_path / "head.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a head, which answers on ciphertexts: start it with `ppdl serve`"):
        open_network(tmp_path)
    with pytest.raises(ConfigError, match=r"give one of .*models/plain/pixels$"):
        open_network(trained.root / "models/plain")


def test_a_run_that_does_not_record_its_sizes_is_refused(moved):
    path = moved / "models/plain/pixels/run.json"
    record = json.loads(path.read_text())
    del record["config"]["prepared_px"]
    path.write_text(json.dumps(record))
    with pytest.raises(TrackingError, match="prepared_px"):
        open_network(path.parent)


def test_a_protection_that_draws_new_symbols_each_time_is_refused(trained, key_holder, monkeypatch):
    network = network_of(trained, "deterministic")
    monkeypatch.setattr(Deterministic, "needs_artifact", False)
    with pytest.raises(ConfigError, match="needs_artifact"):
        predict_files(network, trained.raw_test_images()[:1], key_holder)


def test_the_default_model_is_that_of_the_protection(trained, tmp_path):
    def find(model=None, protection=None):
        return find_network(model, protection, root=trained.root, config=trained.config, folder=tmp_path)

    assert find().recipe.protection == "plain"
    assert find(protection="homomorphic").folder == trained.root / "models/homomorphic/filtered"
    assert find(str(trained.root / "models/opaque/bytes")).recipe.view == "bytes"
    with pytest.raises(ConfigError, match="trained on 'plain'"):
        find(str(trained.root / "models/plain/pixels"), "opaque")
    with pytest.raises(ConfigError, match="--protection must be one of plain, deterministic"):
        find(protection="rot13")


@pytest.mark.parametrize("branch", ["plain", "deterministic", "homomorphic"])
def test_overlays_show_where_the_network_looked(trained, key_holder, tmp_path, branch):
    network = network_of(trained, branch)
    found = predict_files(network, trained.raw_test_images()[:2], key_holder)
    paths = write_overlays(network, found, tmp_path / "looked")
    assert [path.name[:3] for path in paths] == ["000", "001"]
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")


def test_ciphertext_bytes_have_no_place_in_the_patient(trained, tmp_path):
    with pytest.raises(ConfigError, match="is no image"):
        refuse_overlays(network_of(trained, "opaque"), tmp_path)


def marked(path):
    """Leave a mark: what a hostile recipe would have called."""
    path.touch()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "ppdl.protections.steps.noise.os.system",
        "ppdl.protections.steps.noise.load_noise_secret",
        "ppdl.protections.base.Protection",
        "ppdl.protections.schemes.opaque.Opaque.encrypt",
        "ppdl.protections.steps.reveal.Reveal",
        "tests.prediction.test_predict.marked",
        "ppdl.protections.schemes.missing_name.Missing",
        None,
    ],
)
def test_a_recipe_cannot_have_anything_called_but_a_protection(trained, nobody, tmp_path, target):
    network = network_of(trained, "opaque")
    scheme = {"_target_": target, "path": tmp_path / "mark", "command": f"touch {tmp_path / 'mark'}"}
    hostile = replace(network, recipe=replace(network.recipe, branch={"train_on": "encrypted", "scheme": scheme}))
    with pytest.raises(TrackingError, match="nothing of it was run"):
        predict_files(hostile, trained.raw_test_images()[:1], nobody)
    assert not (tmp_path / "mark").exists()


def test_an_image_of_too_few_pixels_to_show_a_lung_is_not_read(tmp_path):
    files = [tmp_path / f"{height}.png" for height in (2, 7, 8)]
    for path, shape in zip(files, [(2, 2), (7, 200), (8, 8)], strict=True):
        Image.fromarray(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)).save(path)
    images, readable, bad = read_images(files, 64)
    assert readable == files[2:] and images.shape == (1, 64, 64)
    assert list(bad.values()) == [f"too small: {size} px, and at least 8 a side are needed" for size in ("2 x 2", "200 x 7")]
