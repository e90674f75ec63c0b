"""Every stage and command that takes a key refuses one for another purpose, before it does anything else."""

from __future__ import annotations

import importlib
from contextlib import nullcontext

import pytest
import yaml
from click.testing import CliRunner
from omegaconf import OmegaConf

from ppdl.cli import main
from ppdl.config import PARAMS, Workspace, place
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.keys.keystore import load_public, save_private, save_public
from ppdl.crypto.keys.purpose import ARCHIVE, INFERENCE, PUBLIC_PATHS
from ppdl.errors import ConfigError, KeyStoreError
from ppdl.serving.client.connection import Conversation
from ppdl.serving.client.remote import connect
from stages import crossval, keygen
from tests.crypto.artifacts import random_images, write

STAGES = {
    "encrypt": ("opaque", ARCHIVE),
    "stem": ("homomorphic", ARCHIVE),
    "reveal": ("homomorphic", ARCHIVE),
    "audit": ("homomorphic", ARCHIVE),
    "private_inference": ("private_head", INFERENCE),
    "audit_head": ("private_head", INFERENCE),
}


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    return {purpose: generate_keypair(512, purpose=purpose, allow_insecure_key=True) for purpose in (ARCHIVE, INFERENCE)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_no_key_for_another_purpose(keys, tmp_path, stage):
    branch, purpose = STAGES[stage]
    wrong = INFERENCE if purpose == ARCHIVE else ARCHIVE
    save_public(path := tmp_path / PUBLIC_PATHS[purpose], keys[wrong].public)
    save_private(tmp_path / "private", keys[wrong])
    cfg = OmegaConf.merge(OmegaConf.load(PARAMS), {"branch": branch, "keygen": {"private_dir": str(tmp_path / "private")}})
    with pytest.raises(
        KeyStoreError, match=f"{path}: key .* is for {wrong}, and this takes one for {purpose}.*key make --purpose {purpose}"
    ):
        importlib.import_module(f"stages.{stage}").run(cfg, Workspace(tmp_path, tmp_path))
    assert not (tmp_path / "data").exists() and not (tmp_path / "reports").exists()


def test_stage_keygen_makes_a_pair_for_each_purpose(tmp_path, capsys):
    values = {"keygen": {"key_bits": 512, "allow_insecure_key": True, "private_dir": str(tmp_path / "private")}}
    cfg = OmegaConf.merge(OmegaConf.load(PARAMS), values)
    for branch, purpose in ((None, ARCHIVE), (INFERENCE, INFERENCE)):
        cfg.branch = branch
        keygen.run(cfg, Workspace(tmp_path, tmp_path))
        assert load_public(tmp_path / PUBLIC_PATHS[purpose], purpose).key_bits == 512
        assert f"{purpose}: made a 512-bit key pair" in capsys.readouterr().out
    assert len(list((tmp_path / "private").iterdir())) == 2
    cfg.branch = "opaque"
    with pytest.raises(ConfigError, match=r"the purpose of a key \(archive, inference, federation\), got 'opaque'"):
        keygen.run(cfg, Workspace(tmp_path, tmp_path))


@pytest.mark.parametrize("branch", [None, INFERENCE])
def test_stage_keygen_makes_no_pair_in_the_place_of_one_that_dvc_recorded(tmp_path, monkeypatch, branch):
    path, name = PUBLIC_PATHS[branch or ARCHIVE], "keygen_inference" if branch else "keygen"
    out = {"path": str(path), "md5": "0" * 32}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {name: {"outs": [out], "params": {"params.yaml": {}}}}}))
    monkeypatch.setattr(place, "PROJECT", tmp_path)
    monkeypatch.setenv("DVC_STAGE", name)
    monkeypatch.setattr(keygen, "checkout", lambda: tmp_path)
    values = {"branch": branch, "keygen": {"key_bits": 512, "allow_insecure_key": True, "private_dir": str(tmp_path.parent / "private")}}
    with pytest.raises(KeyStoreError, match=f"{path} is missing, and dvc.lock records it.*`dvc checkout {name}`"):
        keygen.run(OmegaConf.merge(OmegaConf.load(PARAMS), values), Workspace(tmp_path, tmp_path))
    assert not (tmp_path / "keys").exists() and not (tmp_path.parent / "private").exists()


@pytest.mark.parametrize(
    ("runs", "purposes"), [(["plain"], []), (["plain", "opaque"], [ARCHIVE]), (["private_head"], [INFERENCE]), (None, [ARCHIVE, INFERENCE])]
)
def test_a_cross_validation_makes_the_keys_that_it_uses(tmp_path, monkeypatch, runs, purposes):
    monkeypatch.setattr(crossval, "claimed_folder", lambda *_: nullcontext())
    for name in ("build_once", "train_folds"):
        monkeypatch.setattr(crossval, name, lambda *_: None)
    values = {"keygen": {"key_bits": 512, "allow_insecure_key": True, "private_dir": str(tmp_path / "private")}}
    values |= {"heads": {"private_head": {"backbone": {"weights": "imagenet"}}}, "crossval": {"runs": runs, "test": False}}
    crossval.run(OmegaConf.merge(OmegaConf.load(PARAMS), values), Workspace(tmp_path, tmp_path))
    assert sorted(tmp_path.glob("keys/*")) == sorted(tmp_path / PUBLIC_PATHS[purpose] for purpose in purposes)


def refused(*arguments: object) -> str:
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert found.exit_code == 1 and isinstance(found.exception, SystemExit), found.output
    return found.stderr


def test_commands_take_no_key_for_another_purpose(keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {purpose: save_private(tmp_path / "private", key) for purpose, key in keys.items()}
    for purpose, key in keys.items():
        save_public(tmp_path / f"{purpose}.json", key.public)
    artifact = write(tmp_path, "dense", random_images(), keys[ARCHIVE].public).path
    no_archive, no_inference = "is for inference, and this takes one for archive", "is for archive, and this takes one for inference"
    assert no_archive in refused("artifact", "decrypt", artifact, "--private-key", files[INFERENCE], "--out", tmp_path / "images")
    assert no_archive in refused("artifact", "verify", artifact, "--public", tmp_path / "inference.json")
    asking = ("predict", "x.png", "--server", "http://127.0.0.1:9")  # nobody answers there, and nobody is asked
    assert no_inference in refused(*asking, "--private-key", files[ARCHIVE])
    save_public(tmp_path / PUBLIC_PATHS[INFERENCE], keys[ARCHIVE].public)
    assert no_inference in refused(*asking)
    assert "holds a key for archive, and one for inference is asked for" in refused(
        "key", "make", "--purpose", "inference", "--allow-insecure-key", "--private-dir", tmp_path.parent / "elsewhere"
    )
    with Conversation("http://127.0.0.1:9", retries=0) as server, pytest.raises(KeyStoreError, match=no_inference):
        connect(server, keys[ARCHIVE], num_images=1)
    assert not (tmp_path / "images").exists() and not (tmp_path.parent / "elsewhere").exists()
