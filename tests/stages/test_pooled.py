"""The stages of a pooled head on phantoms: what they write, and what they refuse."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl.audit.examination.quality import image_psnr, image_ssim
from ppdl.audit.examination.records import headlines
from ppdl.config import PARAMS, Workspace
from ppdl.config.check import check_config
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import ensure_keypair, save_private
from ppdl.crypto.keys.purpose import FEDERATION, INFERENCE
from ppdl.datasets.phantoms.public import PUBLIC_SEED
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ArtifactError, ConfigError, DataError, KeyStoreError
from ppdl.evaluation.report.content import read_pictures
from ppdl.experiment import public_backbone
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import chosen_runs
from ppdl.experiment.training.head_run import head_run
from ppdl.pooling.board import Board
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.sharing import Shares
from ppdl.pooling.subjects import head as head_sums
from ppdl.pooling.sums import Sums, integer_features, sums_of
from ppdl.private_head.head import load_head
from ppdl.training.networks.features import extract_features, load_backbone
from stages import audit_pool, backbone, hospitals, pool, private_inference
from stages import open as opens
from tests.secrets_search import find_private_key, private_keys
from tests.stages.phantoms import prepare_phantoms, small_config

NAME = "pooled_head"
SMALL = {
    "dataset": {"num_images": 96, "size_px": 48, "images_per_patient": 2},
    "prepared_px": 64,
    "heads": {NAME: {"backbone": {"input_px": 32}}},
}


class Checkout:
    """What the stages made, and what could be seen while they did."""

    def __init__(self, root, private_dir):
        self.root, self.private_dir, self.workspace = root, private_dir, Workspace(root, root)
        self.cfg = small_config(NAME, private_dir, SMALL)
        self.cfg.evaluation.external = {}
        self.totals: list[Sums] = []
        self.said = io.StringIO()

    def run(self, *stages, **changes):
        for stage in stages:
            stage.run(OmegaConf.merge(self.cfg, {"heads": {NAME: changes}}), self.workspace)

    @property
    def prepared(self):
        return load_prepared(self.root / "data/prepared")

    @property
    def shares(self):
        return Shares.read(self.root / f"data/hospitals/{NAME}.json")

    @property
    def board(self):
        return Board(self.root / "data/pool" / NAME)

    def total_in_the_clear(self):
        rows = np.sort(np.concatenate([self.prepared.rows(split) for split in ("train", "validation")]))
        model = load_backbone(self.root / f"data/backbone/{NAME}.keras")
        features = integer_features(extract_features(model, Reduced(self.prepared.images, 32), rows), 12)
        return sums_of(features, self.prepared.index["label"].to_numpy()[rows], num_classes=4, feature_bits=12)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Run the stages once, up to private inference; look for the run's private key before it is used and goes."""
    found = Checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("keys"))
    root, cfg = found.root, found.cfg
    prepare_phantoms(cfg, root)
    key = {"key_bits": 512, "allow_insecure_key": True, "project": root, "purpose": INFERENCE}
    ensure_keypair(root / "keys/inference.json", found.private_dir, **key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.setattr(public_backbone, "NUM_FILMS", 24)
        check = head_sums.check_total
        patch.setattr(head_sums, "check_total", lambda total, num_films: (found.totals.append(total), check(total, num_films)))
        found.left = save_private(found.private_dir, generate_keypair(256, purpose=FEDERATION, allow_insecure_key=True))  # of another run
        with contextlib.redirect_stdout(found.said):
            found.run(hospitals, backbone, pool)
        found.left.unlink()
        (found.key,) = (key for key in private_keys(found.private_dir) if key.public.purpose == FEDERATION)
        found.run(opens, private_inference)
    return found


def test_the_opened_total_is_that_of_all_films_together_and_is_opened_once(checkout):
    (total,) = checkout.totals
    assert total.flat().tolist() == checkout.total_in_the_clear().flat().tolist()
    assert total.num_films == sum(len(checkout.prepared.rows(split)) for split in ("train", "validation"))


def test_private_keys_of_runs_that_were_never_opened_are_named(checkout):
    said = checkout.said.getvalue()
    assert f"delete what nobody will open: {checkout.left}\n" in said and checkout.key.public.fingerprint not in said


def test_the_head_is_solved_from_that_total(checkout):
    head, strengths = load_head(checkout.root / "models" / NAME), checkout.cfg.heads[NAME].pooling.strengths
    expected, _ = fit_ridge(checkout.total_in_the_clear(), strengths, class_names=checkout.prepared.class_names, backbone={})
    assert (head.weights == expected.weights).all() and (head.bias == expected.bias).all()
    assert (head.temperature, head.logit_scale, head.feature_scale) == (expected.temperature, expected.logit_scale, 1 / 255)
    assert head.num_features == checkout.shares.num_films // 16  # no more than tell who is in the total
    assert head.backbone["weights"] == "filters" and head.backbone["prepared_px"] == 64
    assert str(checkout.root) not in (checkout.root / "models" / NAME / "head.json").read_text()
    assert json.loads((checkout.root / "models" / NAME / "calibration.json").read_text())["temperature"] == head.temperature


def test_test_images_are_classified_on_ciphertexts_as_by_a_head_that_its_owner_trains(checkout):
    head, prepared = load_head(checkout.root / "models" / NAME), checkout.prepared
    rows = prepared.rows("test")
    model = load_backbone(checkout.root / "models" / NAME / "backbone.keras", sha256=head.backbone["sha256"])
    features = head.quantise(extract_features(model, Reduced(prepared.images, 32), rows))
    found = np.load(checkout.root / "data/private" / NAME / "logits.npz")
    assert np.array_equal(found["logits"], head.logits(features)) and np.array_equal(found["rows"], rows)
    predictions = head_run(Experiment(checkout.cfg, checkout.workspace), NAME).predict()
    assert np.array_equal(predictions.logits.argmax(1), head.logits(features).argmax(1))


def test_the_run_is_recorded_as_what_it_was(checkout):
    record = json.loads((checkout.root / "models" / NAME / "run.json").read_text())
    assert record["metrics"]["fit/num_hospitals"] == 3 and record["metrics"]["fit/num_films"] == checkout.shares.num_films
    assert "**sums under encryption**" in record["tags"]["mlflow.note.content"] and "plain" not in record["tags"]["mlflow.note.content"]
    assert record["tags"]["key_fingerprint"] == checkout.board.read_terms().fingerprint
    assert record["dataset"]["path"] == f"data/pool/{NAME}" if "path" in record["dataset"] else True


def test_no_private_key_and_nothing_of_a_single_hospital_is_left(checkout):
    assert find_private_key(checkout.key, [checkout.root, checkout.private_dir]) == []
    seeds = [json.loads(path.read_text())["d"].encode() for path in checkout.private_dir.rglob("signing-*.json")]
    assert len(seeds) == 3
    files = [path for path in checkout.root.rglob("*") if path.is_file()]
    assert not [path for path in files if any(seed in path.read_bytes() for seed in seeds)]
    assert not list(checkout.private_dir.rglob("*.npy")) and not list(checkout.private_dir.rglob("*.contributions.json"))


def test_the_same_run_gives_the_same_head_again_and_another_configuration_none(checkout, tmp_path):
    there = Workspace(checkout.root, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        opens.run(checkout.cfg, there)
    again, first = load_head(tmp_path / "models" / NAME), load_head(checkout.root / "models" / NAME)
    assert (again.weights == first.weights).all() and len(checkout.totals) == 1
    changed = OmegaConf.merge(checkout.cfg, {"heads": {NAME: {"pooling": {"strengths": [0.5]}}}})
    with pytest.raises(ArtifactError, match="called with another strengths than the key holder's configuration"):
        opens.run(changed, there)
    with pytest.raises(KeyStoreError, match=r"terms\.json is missing: the key holder called no run on these terms"):
        opens.run(OmegaConf.merge(checkout.cfg, {"keygen": {"private_dir": str(tmp_path)}}), there)
    with pytest.raises(ConfigError, match=r"heads.pooled_head.pooling.strengths: built for"):
        private_inference.run(changed, checkout.workspace)


def test_another_backbone_than_the_hospitals_had_is_refused(checkout, tmp_path):
    for name in ("data/pool", "data/prepared"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(checkout.root / name)
    (tmp_path / "data/backbone").mkdir()
    shutil.copy(checkout.root / f"data/backbone/{NAME}.keras", tmp_path / f"data/backbone/{NAME}.keras")
    with (tmp_path / f"data/backbone/{NAME}.keras").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtifactError, match="is not the backbone that the hospitals' features were made with"):
        opens.run(checkout.cfg, Workspace(tmp_path, tmp_path))


def test_hospitals_by_class_lack_classes_which_is_said(checkout, tmp_path, capsys):
    changed = OmegaConf.merge(checkout.cfg, {"heads": {NAME: {"pooling": {"hospitals": "class"}}}})
    hospitals.run(changed, Workspace(checkout.root, tmp_path))
    shares = Shares.read(tmp_path / f"data/hospitals/{NAME}.json")
    assert list(shares.rows) == ["covid", "lung_opacity", "normal", "viral_pneumonia"] and not shares.named
    assert "none of COVID, Lung_Opacity, Viral Pneumonia" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="there is no column 'site'"):
        hospitals.run(OmegaConf.merge(changed, {"heads": {NAME: {"pooling": {"hospitals": "site"}}}}), Workspace(checkout.root, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": {NAME: {"backbone": {"weights": "plain"}}}}, "models/plain has seen the hospitals' films"),
        ({"heads": {NAME: {"fit": {"strengths": [1]}}}}, "heads.pooled_head must have one of fit .* and pooling"),
        ({"dataset": {"seed": PUBLIC_SEED}}, f"dataset.seed must not be {PUBLIC_SEED}: heads.pooled_head.backbone is made from"),
        ({"pooled": []}, r"pooled follows from the parts of the heads, so it must be \['pooled_head'\]"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_before_any_work(change, message):
    with pytest.raises(ConfigError, match=message):
        check_config(OmegaConf.merge(OmegaConf.load(PARAMS), change))


def test_a_cross_validation_opens_no_overlapping_totals(checkout):
    cfg = OmegaConf.merge(checkout.cfg, {"crossval": {"runs": None}})
    assert NAME not in {run.name for run in chosen_runs(Experiment(cfg, checkout.workspace))}


def test_the_audit_tells_party_by_party_whose_films_trained_the_head(checkout, tmp_path):
    cfg = OmegaConf.merge(checkout.cfg, {"audit": {"num_prior": 40}})
    cfg.attacks = {key: cfg.attacks[key] for key in ("blind", "ratio")}
    audit_pool.run(cfg, Workspace(checkout.root, tmp_path))
    folder = tmp_path / "reports/audit" / NAME
    audit = json.loads((folder / "audit.json").read_text())
    attacks, num_films = audit["attacks"], checkout.shares.num_films
    assert attacks["ratio"]["shared_obfuscators"] == 0 and attacks["key_holder_pool"]["num_members"] == num_films
    assert attacks["key_holder_pool"]["auc_low"] > 0.5 and "Who tells whose films trained it: key holder" in audit["verdict"]["sentence"]
    assert attacks["single_film"]["features_exact"] and attacks["subtraction"]["largest_error_of_last_hospital"] == 0
    assert headlines(audit)["user_pool_auc"] == attacks["user_pool"]["auc"]
    first, *_ = read_pictures(folder / "pictures.npz", {"psnr": image_psnr, "ssim": image_ssim})
    assert first.rebuilt["single_film"].ssim > -1

    shares = json.loads((checkout.root / f"data/hospitals/{NAME}.json").read_text())
    first = next(iter(shares["rows"]))
    shutil.copytree(checkout.root, tmp_path / "other", ignore=shutil.ignore_patterns("raw", "mlflow*"))
    (tmp_path / f"other/data/hospitals/{NAME}.json").write_text(json.dumps({"named": False, "rows": {first: shares["rows"][first]}}))
    with pytest.raises(DataError, match=r"is not the head of the films of data/hospitals/pooled_head\.json"):
        audit_pool.run(cfg, Workspace(tmp_path / "other", tmp_path))


def test_a_run_with_privacy_leaves_films_out_and_says_what_it_promises(checkout, tmp_path, monkeypatch):
    pytest.importorskip("opendp", reason="the extra `privacy` is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(public_backbone, "NUM_FILMS", 24)
    root, said = tmp_path / "private", io.StringIO()
    shutil.copytree(checkout.root, root, ignore=shutil.ignore_patterns("raw", "mlflow*", "hospitals", "pool", "backbone", "models"))
    target = "ppdl.pooling.privacy.promise.Privacy"
    promise = {"_target_": target, "epsilon": 30, "delta": 1e-6, "colluders": 1, "films_per_patient": 1, "clip": 0.25}
    cfg = OmegaConf.merge(checkout.cfg, {"heads": {NAME: {"pooling": {"privacy": promise}}}, "audit": {"num_prior": 40}})
    cfg.attacks = {key: cfg.attacks[key] for key in ("blind", "ratio")}
    with contextlib.redirect_stdout(said):
        for stage in (hospitals, backbone, pool, opens, audit_pool):
            stage.run(cfg, Workspace(root, root))
    shares, groups = Shares.read(root / f"data/hospitals/{NAME}.json"), checkout.prepared.index["group"].to_numpy()
    assert all(len(rows) == len(np.unique(groups[rows])) for rows in shares.rows.values())
    left_out = checkout.shares.num_films - shares.num_films
    assert left_out > 20 and sum(int(line.split()[1]) for line in said.getvalue().splitlines() if "left out" in line) == left_out
    assert "epsilon 30 at delta 1e-06 for the total, and" in said.getvalue()
    assert Board(root / "data/pool" / NAME).read_terms().tree["subject"]["privacy"]["epsilon"] == 30
    assert load_head(root / "models" / NAME).num_features == shares.num_films // 16
    attacks = json.loads((root / "reports/audit" / NAME / "audit.json").read_text())["attacks"]
    assert "the total holds noise" in attacks["key_holder_pool"]["does_not_apply"] and "user_pool" not in attacks
    other = OmegaConf.merge(cfg, {"heads": {NAME: {"pooling": {"privacy": {"epsilon": 20}}}}})
    with pytest.raises(ArtifactError, match="called with another privacy than the key holder's configuration"):
        opens.run(other, Workspace(root, root))
