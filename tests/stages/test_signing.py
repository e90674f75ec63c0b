"""Stages sign what they write and refuse what nobody trusted signed; and the commands that do the same by hand."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from ppdl.cli import main
from ppdl.config import CONF, Workspace
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_private, save_public
from ppdl.crypto.signing import load_signing_key, make_signing_key, sign
from ppdl.errors import ArtifactError, KeyStoreError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.source import open_source
from ppdl.protections.steps.revealed import read_header
from stages import reveal, stem
from tests.attacks.build import change_array
from tests.protections.conftest import DCT, MEAN, Chain

PARTIES = {"encrypted": "source", "stem": "compute", "revealed": "holder"}


class Project:
    """A project folder as DVC leaves it before the stem: the sources have signed, and everybody trusts everybody in its own role."""

    def __init__(self, root, monkeypatch):
        self.root, self.folder = root, root / "project"
        key = generate_keypair(256, allow_insecure_key=True)
        images = np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)
        self.chain = Chain(root, images, key)
        save_public(self.folder / "keys/public.json", key.public)
        save_private(self.chain.private_dir, key)
        self.approve([DCT])
        self.artifact = self.chain.encrypt("project/data/encrypted/homomorphic")
        self.private = {party: make_signing_key(root / f"{party}-private", root / f"{party}.json") for party in PARTIES.values()}
        sign(self.artifact, load_signing_key(self.private["source"]))
        self.cfg = OmegaConf.load(CONF / "config.yaml")
        self.cfg.branch, self.cfg.input_px, self.cfg.keygen.private_dir = "homomorphic", 4, str(self.chain.private_dir)
        self.cfg.protections = {"homomorphic": OmegaConf.load(CONF / "protection/homomorphic.yaml")}
        self.cfg.executor = OmegaConf.merge(OmegaConf.load(CONF / "executor/local.yaml"), {"num_workers": 1})
        self.cfg.signing.trusted = {folder: [str(root / f"{party}.json")] for folder, party in PARTIES.items()}
        self.workspace = Workspace(inputs=self.folder, outputs=self.folder)
        monkeypatch.setattr("ppdl.config.place.checkout", lambda: self.folder)  # where unfinished work lies

    def run(self, stage, party):
        cfg = OmegaConf.merge(self.cfg, {"signing": {"private_key": str(self.private[party]) if party else None}})
        stage.run(cfg, self.workspace)

    def approve(self, filters):
        path = self.chain.private_dir / "approved.json"
        path.write_text(json.dumps(filters))
        path.chmod(0o600)

    def trust_nobody(self):
        self.cfg.signing.trusted = {folder: [] for folder in PARTIES}

    def out(self, folder):
        return self.folder / "data" / folder / "homomorphic"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch)


def test_signed_from_source_to_trainer(project):
    project.run(stem, "compute")
    project.run(reveal, "holder")
    for folder, party in PARTIES.items():
        result = run("artifact", "verify", project.out(folder), "--signed-by", project.root / f"{party}.json")
        assert result.exit_code == 0, result.output
        assert f"signed by {project.root / party}.json" in result.stdout


def test_a_stage_refuses_what_a_provider_changed(project):
    change_array(1, lambda rows: rows[::-1])(project.artifact)
    with pytest.raises(ArtifactError, match=r"header\.sig: no signature of .* by .*source\.json"):
        project.run(stem, "compute")
    assert not project.out("stem").exists()


def test_a_stage_refuses_what_nobody_signed(project):
    project.run(stem, None)
    with pytest.raises(ArtifactError, match=r"data/stem/homomorphic: not signed, and a signature by one of .*compute\.json"):
        project.run(reveal, "holder")
    assert not project.out("revealed").exists()


def test_the_key_holder_refuses_a_source_that_the_compute_side_signed(project):
    """It can replace an artifact whole, with outputs that fit: only the sources' signature tells."""
    project.run(stem, "compute")
    sign(project.artifact, load_signing_key(project.private["compute"]))
    with pytest.raises(ArtifactError, match=r"data/encrypted/homomorphic: signed by the key .* which is none of .*source\.json"):
        project.run(reveal, "holder")


def test_training_refuses_an_unsigned_view(project):
    project.run(stem, "compute")
    project.run(reveal, None)
    with pytest.raises(ArtifactError, match=r"data/revealed/homomorphic: not signed"):
        open_source(Experiment(project.cfg, project.workspace, SimpleNamespace()), "homomorphic", "values")


def test_where_roles_are_apart_only_the_key_holders_own_list_counts(project):
    """The project's list names the filters; whoever writes to the project could add any."""
    project.run(stem, "compute")
    (project.chain.private_dir / "approved.json").unlink()
    with pytest.raises(KeyStoreError, match=r"approved\.json is missing\. It alone says what may be decrypted where roles are apart"):
        project.run(reveal, "holder")
    project.approve([MEAN])
    with pytest.raises(ArtifactError, match="has not approved at stride 2"):
        project.run(reveal, "holder")
    assert not project.out("revealed").exists()


def test_a_change_of_the_project_does_not_put_roles_together_again(project):
    """The key remembers: neither a params.yaml that asks for no signatures nor a lost approved.json brings the project's list back."""
    project.run(stem, "compute")
    project.run(reveal, "holder")
    shutil.rmtree(project.out("revealed"))
    project.trust_nobody()
    (project.chain.private_dir / "approved.json").unlink()
    with pytest.raises(KeyStoreError, match=r"or where it did so once under this key: reveal\.approved of the project does not replace it"):
        project.run(reveal, "holder")
    assert not project.out("revealed").exists()


def test_roles_stay_apart_though_every_reveal_was_refused_until_then(project):
    """Nothing was signed and no list was there: the refusals are no way to the project's list."""
    project.run(stem, None)
    (project.chain.private_dir / "approved.json").unlink()
    with pytest.raises(ArtifactError, match="not signed"):
        project.run(reveal, "holder")
    project.trust_nobody()
    with pytest.raises(KeyStoreError, match=r"approved\.json is missing"):
        project.run(reveal, "holder")
    assert not project.out("revealed").exists()


def test_where_roles_are_together_the_projects_list_counts(project, capsys):
    project.trust_nobody()
    (project.chain.private_dir / "approved.json").unlink()
    project.run(stem, None)
    project.run(reveal, None)
    assert read_header(project.out("revealed")).shape == [7, 4, 4, 3]


@pytest.mark.parametrize(
    ("trusted", "named"),
    [
        ((), "data/encrypted/homomorphic and data/stem/homomorphic"),
        (("encrypted",), "data/stem/homomorphic"),
        (("encrypted", "stem"), None),
    ],
)
def test_the_first_line_names_what_is_trusted_without_a_signature(project, capsys, trusted, named):
    project.run(stem, "compute")
    for folder in {"encrypted", "stem"} - set(trusted):
        project.cfg.signing.trusted[folder] = []
    capsys.readouterr()
    project.run(reveal, None)
    first = capsys.readouterr().out.splitlines()[0]
    if named:
        assert first.startswith(f"trusting {named} without a signature: signing.trusted names nobody for them")
    else:
        assert "without a signature" not in first


def test_what_outputs_tell_stands_in_the_report_of_the_cost(project, capsys):
    project.run(stem, "compute")
    project.run(reveal, "holder")
    cost = json.loads((project.folder / "reports/cost/homomorphic/reveal.json").read_text())
    shares = {name: cost[name] for name in cost if name.startswith(("patches_", "pixels_"))}
    assert len(shares) == 4 and all(0 <= share < 0.01 for share in shares.values())
    assert "patches of 2 x 2 px with one solution: 0.01% of uniform random ones, 0.00% of phantoms" in capsys.readouterr().out


# By hand


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture
def view(project):
    project.run(stem, "compute")
    project.run(reveal, None)
    return project.out("revealed")


def test_a_pair_by_hand_signs_artifacts_and_views(project, view, tmp_path):
    result = run("key", "signing", "--public", tmp_path / "signers/me.json", "--private-dir", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    (private,) = (tmp_path / "mine").iterdir()
    assert json.loads(private.read_text())["d"] not in result.output
    for folder in (project.artifact, project.out("stem"), view):
        assert run("artifact", "sign", folder, "--signing-key", private).exit_code == 0
        assert run("artifact", "verify", folder, "--signed-by", tmp_path / "signers/me.json").exit_code == 0
        assert "which is none of" in refused("artifact", "verify", folder, "--signed-by", project.root / "holder.json")
    assert "intact: a view of 7 images" in run("artifact", "verify", view).stdout
    data = bytearray((view / "view.npy").read_bytes())
    data[-1] ^= 1
    (view / "view.npy").write_bytes(data)
    assert "damaged" in refused("artifact", "verify", view, "--signed-by", tmp_path / "signers/me.json")


def test_damage_is_not_signed(project):
    path = project.artifact / "ciphertexts-00001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    before = (project.artifact / "header.sig").read_bytes()
    assert "ciphertexts-00001.npy: damaged" in refused("artifact", "sign", project.artifact, "--signing-key", project.private["holder"])
    assert (project.artifact / "header.sig").read_bytes() == before


def test_a_private_key_stays_out_of_the_checkout(tmp_path):
    (tmp_path / "p/.git").mkdir(parents=True)
    options = ["--public", tmp_path / "p/signers/me.json", "--private-dir", tmp_path / "p/private"]
    assert "private keys must not lie inside the project" in refused("key", "signing", *options)
    assert not (tmp_path / "p/signers").exists() and not (tmp_path / "p/private").exists()


def test_ciphertext_options_are_not_for_views(project, view):
    assert "--public is for ciphertexts, and this is a revealed view" in refused(
        "artifact", "verify", view, "--public", project.folder / "keys/public.json"
    )
