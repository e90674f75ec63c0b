"""The stages of private inference on phantoms, with a backbone of random weights: what they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl.config import Workspace, branch
from ppdl.crypto.keys.keystore import ensure_keypair
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, DataError, KeyStoreError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import head_run, integer_features
from ppdl.private_head.head import load_head
from ppdl.training.networks.model import MobileNetV2
from stages import audit_head, external, private_inference, train_head
from tests.stages.phantoms import prepare_phantoms, small_config

NAME = "private_head"
SMALL = {
    "dataset": {"num_images": 48, "size_px": 48, "images_per_patient": 1},
    "prepared_px": 64,
    "audit": {"num_prior": 8},
    "evaluation": {"external": {"other_device": {"num_images": 12, "size_px": 48}}},
    "heads": {NAME: {"backbone": {"input_px": 32, "layers": ["block_3_expand_relu"]}}},
}
ATTACKS = ("blind", "ratio", "distinguisher")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Run the three stages once; return the configuration and the folder."""
    root, private_dir = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("keys")
    cfg = small_config(NAME, private_dir, SMALL)
    cfg.attacks = {key: cfg.attacks[key] for key in ATTACKS}
    cfg.attacks.distinguisher.num_trials = 40
    network = MobileNetV2(alpha=0.35, weights=None, dropout=0.0, fine_tune_depth=None, batchnorm_momentum=None)
    network.backbone((32, 32)).save_weights(root / "random.weights.h5")
    cfg.heads[NAME].backbone.weights = str(root / "random.weights.h5")
    prepare_phantoms(cfg, root)
    key = {"key_bits": 512, "allow_insecure_key": True, "project": root, "purpose": INFERENCE}
    ensure_keypair(root / "keys/inference.json", private_dir, **key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        for stage in (external, train_head, private_inference, audit_head):
            stage.run(cfg, Workspace(root, root))
    return cfg, root


def test_films_of_another_hospital_are_classified_under_encryption_too(checkout):
    cfg, root = checkout
    (there,) = Experiment(cfg, Workspace(root, root)).elsewhere()
    run = head_run(there, NAME)
    head = load_head(root / "models" / NAME)
    features = integer_features(head.public, root / "models" / NAME, Reduced(there.prepared.images, 32))
    found = np.load(root / run.logits_path)
    assert len(features) == 12 and np.array_equal(found["logits"], head.logits(features))


def test_every_test_image_is_predicted_as_by_the_head_in_the_clear(checkout):
    cfg, root = checkout
    prepared, head = load_prepared(root / "data/prepared"), load_head(root / "models" / NAME)
    rows = prepared.rows("test")
    features = integer_features(head.public, root / "models" / NAME, Reduced(prepared.images, 32)[rows])
    found = np.load(root / "data/private" / NAME / "logits.npz")
    assert np.array_equal(found["logits"], head.logits(features)) and np.array_equal(found["rows"], rows)
    predictions = head_run(Experiment(cfg, Workspace(root, root)), NAME).predict()
    assert np.array_equal(predictions.logits.argmax(1), head.logits(features).argmax(1))
    scaled = head.logits(features) * head.logit_scale
    np.testing.assert_allclose(np.diff(predictions.logits), np.diff(scaled), rtol=1e-5, atol=1e-5)


def test_the_head_names_what_made_its_features_and_no_path(checkout):
    _, root = checkout
    head = load_head(root / "models" / NAME)
    assert head.num_features == 48 and head.backbone["weights"] == "random.weights.h5" and head.backbone["input_px"] == 32
    assert str(root) not in (root / "models" / NAME / "head.json").read_text()


def test_the_run_is_recorded_with_its_figures(checkout):
    record = json.loads((checkout[1] / "models" / NAME / "run.json").read_text())
    assert {"fit/val_accuracy", "fit/val_accuracy_unrounded", "fit/temperature", "fit/seconds"} <= record["metrics"].keys()
    assert record["tags"]["confidential"] == "true" and record["model"] is None


def test_the_server_sees_nothing_that_an_attack_gets_at(checkout):
    audit = json.loads((checkout[1] / "reports/audit" / NAME / "audit.json").read_text())
    assert audit["verdict"]["level"] == "unbroken"
    assert audit["attacks"]["ratio"]["shared_obfuscators"] == 0
    assert audit["attacks"]["distinguisher"]["advantage_low"] < 0.1


def test_an_audit_of_requests_that_repeat_their_obfuscators_says_so(checkout, tmp_path, monkeypatch):
    """The audit can find something: a client that draws one obfuscator for all ciphertexts is told apart."""
    from ppdl.crypto.arithmetic import obfuscators

    cfg, root = checkout
    draw = obfuscators.DjnObfuscators.draw
    kept = {}
    monkeypatch.setattr(obfuscators.DjnObfuscators, "draw", lambda self, num: kept.setdefault("one", draw(self, 1)) * num)
    monkeypatch.setattr(obfuscators.DjnObfuscators, "encrypt", obfuscators.Obfuscators.encrypt)  # which draws
    audit_head.run(cfg, Workspace(root, tmp_path))
    audit = json.loads((tmp_path / "reports/audit" / NAME / "audit.json").read_text())
    assert audit["verdict"]["level"] == "leaky"
    assert audit["attacks"]["ratio"]["shared_obfuscators"] == 1 and audit["attacks"]["distinguisher"]["advantage"] > 0.9


def test_what_lies_upstream_is_checked(checkout):
    cfg, root = checkout
    changed = OmegaConf.merge(cfg, {"heads": {NAME: {"fit": {"strengths": [5]}}}})
    with pytest.raises(ConfigError, match=r"heads.private_head.fit.strengths: built for \[1, 10, .*the configuration says \[5\]"):
        private_inference.run(changed, Workspace(root, root))
    with pytest.raises(ConfigError, match=r"branch must name one of heads \(private_head, pooled_head\), got 'opaque'"):
        branch(OmegaConf.merge(cfg, {"branch": "opaque"}), "heads")


def test_without_the_private_key_the_client_says_whom_to_ask(checkout, tmp_path):
    cfg, root = checkout
    with pytest.raises(KeyStoreError, match="this needs the private key with fingerprint"):
        private_inference.run(OmegaConf.merge(cfg, {"keygen": {"private_dir": str(tmp_path)}}), Workspace(root, root))


def test_logits_of_other_images_are_refused(checkout, tmp_path):
    cfg, root = checkout
    prepared = load_prepared(root / "data/prepared")
    (tmp_path / "models").symlink_to(root / "models")
    folder = tmp_path / "data/private" / NAME
    folder.mkdir(parents=True)
    run = head_run(Experiment(cfg, Workspace(tmp_path, tmp_path), prepared), NAME)
    for content, message in (
        ({"logits": np.zeros((1, 4)), "rows": [0]}, "of other test images"),
        ({"logits": [0]}, "KeyError"),
        (None, "is missing: run `dvc repro`"),
    ):
        if content is None:
            Path(folder / "logits.npz").unlink()
        else:
            np.savez(folder / "logits.npz", **content)
        with pytest.raises(DataError, match=message):
            run.predict()
