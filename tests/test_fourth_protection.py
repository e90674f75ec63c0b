"""A fourth protection is one class and one configuration file; nothing else changes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir

from ppdl import config
from ppdl.config import Workspace, plain
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_public
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import network_runs
from stages import encrypt

CLASS = '''
"""Dense ciphertexts of the negative image; the trainer sees their lengths. A toy."""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
from ppdl.protections.base import Protection
from ppdl.protections.view import View

@dataclass(frozen=True)
class Toy(Protection):
    level: int
    name: ClassVar = "toy"
    views: ClassVar = ("lengths", "zeros")
    confidential: ClassVar = True
    reason: ClassVar = "each ciphertext has an obfuscator of its own"

    def encrypt(self, images, out_dir, context):
        write_ciphertext_artifact(out_dir, kind="dense", images=255 - np.asarray(images), public_key=context.public_key, obfuscator="djn",
            protection=self.record(context.input_px), confidential=True, reason=self.reason, partial_dir=context.partial_dir,
            executor=context.executor)

    def read(self, folder, view_name, train_rows):
        shape = open_artifact(folder).header.source
        array = np.full((shape.num_images, 32, 32), self.level * (view_name == "lengths"), np.uint8)
        return View(view_name, array, None, False, 1 / 127.5, -1.0)
'''
CONF = """
train_on: encrypted
views: [lengths, zeros]
scheme:
  _target_: toy_protection.Toy
  level: 7
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Write the two files, and a project as the stages before encrypt leave it."""
    (tmp_path / "toy_protection.py").write_text(CLASS)
    (tmp_path / "conf/protection").mkdir(parents=True)
    (tmp_path / "conf/protection/toy.yaml").write_text(CONF)
    monkeypatch.syspath_prepend(tmp_path)
    search = f"hydra.searchpath=[file://{tmp_path}/conf]"
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        cfg = compose(
            "config",
            overrides=[search, "+protection@protections.toy=toy", "branch=toy", "prepared_px=64", "input_px=32", "executor.num_workers=1"],
        )
    prepared = tmp_path / "data/prepared"
    prepared.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    np.save(prepared / "images.npy", images)
    splits = ["train", "train", "validation", "test"]
    rows = {"path": list("abcd"), "class_name": "x", "label": 0, "group": range(4), "fold": -1, "split": splits}
    pd.DataFrame(rows).to_csv(prepared / "index.csv", index=False)
    params = plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")})
    meta = {"class_names": ["x"], "images_sha256": "0" * 64, "num_images": 4, "prepared_px": 64, "params": params}
    (prepared / "meta.json").write_text(json.dumps(meta))
    save_public(tmp_path / "keys/public.json", generate_keypair(256, allow_insecure_key=True).public)
    monkeypatch.setattr("ppdl.config.place.checkout", lambda: tmp_path)
    yield cfg, Workspace(inputs=tmp_path, outputs=tmp_path)
    sys.modules.pop("toy_protection", None)


def test_it_is_encrypted_and_read_like_any_other(toy):
    cfg, workspace = toy
    encrypt.run(cfg, workspace)
    assert open_artifact(workspace.outputs / "data/encrypted/toy").header.protection.params == {"input_px": 32, "level": 7}
    runs = network_runs(Experiment(cfg, workspace), "toy")
    assert [run.name for run in runs] == ["toy", "toy-zeros"]
    for run, value in zip(runs, (7, 0), strict=True):
        source = run.source
        assert source.view.array.shape == (4, 32, 32) and (source.view.array[:] == value).all()
        assert source.confidential is True and source.facts["key_bits"] == 256


def test_the_pipeline_names_no_protection():
    """A stage for each entry of `protections`, so that a new entry has its stages without an edit; filters are the one exception."""
    text = (config.PROJECT / "dvc.yaml").read_text()
    stages = yaml.safe_load(text)["stages"]
    for name in ("encrypt", "train_encrypted"):
        assert stages[name]["foreach"] == "${protections}"
    assert not [word for word in ("deterministic", "opaque", "homomorphic") if word in text]
