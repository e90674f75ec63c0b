"""Real DVC on a user's own X-rays, and on what somebody handed over: nothing is replaced without a word, new files are noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from ppdl.config.handed_over import HandedOverError, made_here, refuse_to_delete
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_private, save_public
from tests.test_pipeline import Checkout, copy_of_the_project, public_key

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Checkout:
    """A clone in which nothing was built."""
    checkout = Checkout(tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("private"))
    copy_of_the_project(checkout.path)
    checkout.env["PYTHONPATH"] = str(checkout.path)
    checkout.run("git", "init", "-q", "-b", "main")
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "start")
    return checkout


@pytest.fixture
def handed_over(empty):
    """Ciphertexts (their header is enough) and a public key that somebody else made."""
    key = generate_keypair(512, allow_insecure_key=True)
    artifact = empty.path / "data/encrypted/homomorphic"
    artifact.mkdir()
    (artifact / "header.json").write_text("{}")
    save_public(empty.path / "keys/public.json", key.public)
    yield artifact, key
    shutil.rmtree(artifact)
    (empty.path / "keys/public.json").unlink()


def test_dvc_exp_run_deletes_nothing_that_was_handed_over(empty, handed_over):
    artifact, key = handed_over
    (empty.path / "README.md").write_text("edited\n")
    output = empty.run("dvc", "exp", "run", "-S", "seed=1", "--single-item", "stem@homomorphic", fails=True)
    assert "data/encrypted/homomorphic: dvc repro --single-item stem@homomorphic" in output and "Traceback" not in output
    assert "keys/public.json: dvc repro --single-item keygen" in output
    assert (artifact / "header.json").read_text() == "{}" and public_key(empty)["fingerprint"] == key.public.fingerprint
    assert (empty.path / "README.md").read_text() == "edited\n" and not (empty.path / "dvc.lock").exists()
    empty.run("git", "checkout", "README.md")


def test_a_damaged_public_key_is_named_and_a_file_that_no_stage_writes_is_no_matter(empty):
    (empty.path / "keys/theirs.json").write_text("no key")
    refuse_to_delete(empty.path, empty.path, "this")
    (empty.path / "keys/public.json").write_text("no key")
    output = empty.run("dvc", "exp", "run", "-S", "seed=1", "keygen", fails=True)
    assert "keys/public.json: a key file is one JSON object" in output and "unexpected error" not in output
    (empty.path / "keys/public.json").unlink()
    (empty.path / "keys/theirs.json").unlink()


def test_a_pipeline_that_would_replace_it_stops_before_its_first_stage(empty, handed_over):
    artifact, _ = handed_over
    output = empty.run("dvc", "repro", "download", fails=True)
    assert "HandedOverError: this run of the pipeline would delete" in output and (artifact / "header.json").exists()


def test_ppdl_repro_deletes_nothing_that_was_handed_over(empty, handed_over):
    artifact, _ = handed_over
    output = empty.run(sys.executable, "-m", "ppdl", "repro", "encrypt@homomorphic", fails=True)
    assert "keys/public.json" not in output  # the stage keygen keeps it
    assert "data/encrypted/homomorphic: dvc repro --single-item stem@homomorphic" in output and "Traceback" not in output
    assert (artifact / "header.json").exists() and not (empty.path / "data/prepared").exists()


def test_what_a_kill_left_before_dvc_saved_it_was_not_handed_over(empty, handed_over):
    artifact, key = handed_over
    (empty.path / "keys/public.json").unlink()
    elsewhere = {empty.path / "data/stem/homomorphic"}
    refuse_to_delete(empty.path, empty.path, "this", elsewhere)
    with pytest.raises(HandedOverError, match="stem@homomorphic"):
        refuse_to_delete(empty.path, empty.path, "this")
    unfinished = empty.path / ".ppdl/0"
    with pytest.raises(KeyboardInterrupt), made_here(artifact, unfinished):
        raise KeyboardInterrupt
    refuse_to_delete(empty.path, empty.path, "this")
    with made_here(artifact, unfinished):
        (artifact / "header.json").write_text("{ }")
    refuse_to_delete(empty.path, empty.path, "this")
    (artifact / "header.json").write_text("{}")
    with pytest.raises(HandedOverError, match="stem@homomorphic"):
        refuse_to_delete(empty.path, empty.path, "this")
    save_public(empty.path / "keys/public.json", key.public)
    shutil.rmtree(unfinished)


def test_a_public_key_is_kept_by_keygen_then_known_to_dvc_and_safe(empty, handed_over):
    artifact, key = handed_over
    artifact.joinpath("header.json").unlink()
    empty.run(sys.executable, "-m", "ppdl", "keep", "keygen.key_bits=512", "keygen.allow_insecure_key=true")
    assert "its private key is not in" in empty.run("dvc", "repro", "--single-item", "keygen")
    empty.run("dvc", "exp", "run", "-S", "seed=1", "keygen")  # with what is kept, or keygen would refuse the length
    assert public_key(empty)["fingerprint"] == key.public.fingerprint
    assert yaml.safe_load((empty.path / "params.yaml").read_text())["keygen"]["key_bits"] == 512
    shutil.rmtree(empty.path / "conf/local")


def test_a_key_whose_private_part_is_here_is_no_loss(empty, handed_over, tmp_path):
    artifact, key = handed_over
    artifact.joinpath("header.json").unlink()
    save_public(empty.path / "keys/public.json", other := generate_keypair(512, allow_insecure_key=True).public)
    with pytest.raises(HandedOverError, match=r"keys/public\.json"):
        refuse_to_delete(empty.path, tmp_path, "this")
    save_private(tmp_path / "private", key)
    save_public(empty.path / "keys/public.json", key.public)
    refuse_to_delete(empty.path, tmp_path / "private", "this")
    assert other != key.public


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)).save(path)


def test_a_new_file_is_noticed_and_a_choice_outlasts_the_next_experiment(empty, tmp_path):
    root = tmp_path / "my x-rays, (1)"
    for name in ("COVID", "Normal"):
        for i in range(3):
            picture(root / name / f"{name}-{i}.png", i)
    empty.run(sys.executable, "-m", "ppdl", "keep", "dataset=folder", f'dataset.root="{root}"')
    empty.run("dvc", "repro", "download")
    assert "Stage 'download' didn't change" in empty.run("dvc", "repro", "download")
    picture(root / "Normal/Normal-3.png", 3)
    assert "Running stage 'download'" in empty.run("dvc", "repro", "download")
    assert (empty.path / "data/raw/Normal/Normal-3.png").exists()
    (root / "Normal/Normal-3.png").unlink()
    assert "1/1  download" in empty.run(sys.executable, "-m", "ppdl", "repro", "download")
    assert not (empty.path / "data/raw/Normal/Normal-3.png").exists()
    assert "up to date" in empty.run(sys.executable, "-m", "ppdl", "repro", "download")
    empty.run("git", "add", "-A")
    empty.run("git", "commit", "-qm", "own data")
    empty.run("dvc", "exp", "run", "--temp", "-n", "copy", "-S", "split.seed=7", "download")  # in a copy, which lacks conf/local
    params = yaml.safe_load(exp_params(empty, "copy"))
    assert params["dataset"]["root"] == str(root) and params["split"]["seed"] == 7
    shutil.move(root, tmp_path / "away")  # as on a machine that pulled what was built elsewhere
    assert "is not on this machine: what was read of it stays as it is" in empty.run("dvc", "repro", "download")


def exp_params(checkout, name):
    refs = checkout.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (ref,) = [ref for ref in refs if ref.endswith(f"/{name}")]
    done = subprocess.run(["git", "show", f"{ref}:params.yaml"], cwd=checkout.path, capture_output=True, text=True, check=True)
    return done.stdout
