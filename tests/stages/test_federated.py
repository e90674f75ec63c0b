"""The stages of a federation on phantoms: what they write, what goes on after a kill, and what they refuse."""

import contextlib
import io
import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl.config import PARAMS, Workspace, build, plain
from ppdl.config.check import check_config
from ppdl.crypto.keys.purpose import FEDERATION
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare
from ppdl.errors import ConfigError, DataError
from ppdl.experiment import federation
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.federated_run import federated_run
from ppdl.pooling import opening
from ppdl.pooling.sharing import Shares
from stages import federate, hospitals
from tests.secrets_search import find_private_key, private_keys

NAME = "averaging"
SMALL = {
    "dataset": {"num_images": 48, "size_px": 48, "images_per_patient": 1},
    "prepared_px": 32,
    "input_px": 32,
    "branch": NAME,
    "keygen": {"key_bits": 512, "allow_insecure_key": True},
    "split": {"near_duplicate_bits": 0},
    "model": {"alpha": 0.1},
    "training": {"learning_rate": 1e-3, "num_threads": 1},
    "federations": {NAME: {"_target_": "ppdl.pooling.sharing.Averaging", "hospitals": 3, "rounds": 2, "epochs": 1, "bits": 16}},
    "federated": [NAME],
}


class Checkout:
    """A folder that the stages work in, and the key holder's."""

    def __init__(self, root, private_dir):
        self.root, self.private_dir, self.workspace = root, private_dir, Workspace(root, root)
        self.cfg = OmegaConf.merge(OmegaConf.load(PARAMS), SMALL)
        self.cfg.keygen.private_dir, self.cfg.evaluation.external = str(private_dir), {}

    @property
    def model(self):
        return self.root / "models" / NAME / "model.keras"

    def weights(self):
        import keras

        return [np.array(v) for v in keras.models.load_model(self.model).variables if "seed" not in v.name]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Share films out by class, so that each hospital lacks classes, and federate, killed as the first hospital has trained in round 2."""
    found = Checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("keys"))
    root, cfg, seen = found.root, found.cfg, []
    (root / "data").mkdir()
    build(cfg.dataset, "dataset").write_raw(root / "data/raw")
    params = plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")})
    split = Split(**plain(cfg.split))
    prepare(root / "data/raw", root / "data/prepared", root / "reports", split=split, prepared_px=32, on_bad_image="raise", params=params)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        by_class = OmegaConf.merge(cfg, {"federations": {NAME: {"hospitals": "class"}}})
        hospitals.run(by_class, found.workspace)
        make = opening.generate_keypair
        patch.setattr(opening, "generate_keypair", lambda *a, **k: seen.append(make(*a, **k)) or seen[-1])
        federate.run(by_class, found.workspace)
    found.keys, found.said = seen, said.getvalue()
    return found


def test_smoke(checkout):
    print(checkout.said)
    assert checkout.model.exists()
