"""Sources and trainer of the homomorphic protection: slots that just fit, and a view of what was revealed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf

from ppdl import config
from ppdl.config import Workspace, build
from ppdl.config.cost import recorded_cost
from ppdl.crypto.arithmetic.engine import engine
from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.crypto.arithmetic.packing import check_linear_bound
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.estimate.images import plan_job
from ppdl.crypto.estimate.stem import reveal_steps, stem_step
from ppdl.crypto.keys.keystore import save_private, save_public
from ppdl.errors import ArtifactError, ConfigError, CryptoError, KeyStoreError
from ppdl.protections.contents import contents_of_artifact
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.steps.revealed import read_revealed
from ppdl.protections.steps.stem import Stem
from stages import reveal as reveal_stage
from stages import stem as stem_stage
from tests.protections.conftest import DCT, MEAN, ONE_WORKER, plain_outputs

TRAIN = np.arange(3)


@pytest.mark.parametrize(("stride", "weight_bits", "slot_bits"), [(2, 4, 11), (2, 7, 11), (4, 4, 16), (4, 7, 19), (8, 4, 18)])
def test_slots_are_the_smallest_that_hold_every_sum(stride, weight_bits, slot_bits):
    weights = dct_filters(stride, 3, weight_bits)
    assert Homomorphic(stride, weight_bits, "djn").slot_bits == slot_bits
    check_linear_bound(weights, 255, slot_bits)
    with pytest.raises(CryptoError):
        check_linear_bound(weights, 255, slot_bits - 1)


def test_the_artifact_holds_the_images_by_phase(chain):
    artifact = open_artifact(chain.encrypt())
    header = artifact.header
    assert (header.kind, header.stride, header.packing.planes, header.packing.slot_bits) == ("slots", 2, 4, 11)
    assert header.confidential and "half-length exponents" in header.reason
    assert header.protection.params == {"input_px": 4, "stride": 2, "weight_bits": 4, "obfuscator": "djn"}
    np.testing.assert_array_equal(np.concatenate([block for _, block in decrypt_images(artifact, chain.private_key)]), chain.images)


def test_with_standard_obfuscators_the_assumption_is_another(chain):
    reason = open_artifact(chain.another(scheme=Homomorphic(2, 4, "standard")).encrypt()).header.reason
    assert "decisional composite residuosity is hard" in reason and "half-length" not in reason


def test_images_are_encrypted_larger_than_the_networks_input():
    assert Homomorphic(4, 4, "djn").image_px(64) == 256


@pytest.mark.parametrize(("stem", "channels"), [(DCT, 3), (DCT | {"channels": 2}, 3), (MEAN, 1)])
def test_the_view_has_one_or_three_channels(chain, stem, channels):
    chain = chain.another(stem=Stem(**stem), reveal=replace(chain.reveal, approved=(stem,)))
    chain.encrypt(), chain.filter()
    view = chain.scheme.view(chain.decrypt(), "filtered", TRAIN)
    assert view.array.shape == (7, 4, 4, channels) and view.array.dtype == np.int16
    assert view.table is None and view.trainable is False and view.name == "filtered"
    values = np.asarray(view.array) * view.scale + view.offset
    assert values.min() == -1 and values.max() == 1  # a black and a white image are among them
    outputs = plain_outputs(chain.images, chain.stem.matrix(2), 2).transpose(0, 2, 3, 1)
    for channel, source in enumerate([0, 1, 0] if stem["channels"] == 2 else range(channels)):
        np.testing.assert_allclose(values[..., channel], (outputs[..., source] - (510 if source == 0 else 0)) / 510, atol=2e-5)
    for rows in (3, slice(2, 5), np.array([6, 0]), np.arange(7) > 4):
        np.testing.assert_array_equal(view.array[rows], np.asarray(view.array)[rows])


def test_the_contents_of_a_view_and_of_an_artifact_answer_the_same_questions(chain):
    artifact, _, revealed = chain.encrypt(), chain.filter(), chain.decrypt()
    plain, view = contents_of_artifact(artifact), chain.scheme.contents(revealed)
    header = open_artifact(artifact).header
    assert (plain.confidential, view.confidential) == (True, False)
    assert view.num_images == plain.num_images == 7
    assert view.key_fingerprint == plain.key_fingerprint == header.key.fingerprint
    assert view.facts.items() >= plain.facts.items()
    assert view.facts["artifact_bytes"] == header.total_bytes and view.facts["expansion_factor"] == header.total_bytes / (7 * 64)
    assert view.params.items() >= plain.params.items()
    assert view.facts["checked_fraction"] == 1
    assert {plain.header_path, view.header_path} == {artifact / "header.json", revealed / "header.json"}


def test_an_unknown_view_is_named_with_the_known_one(chain):
    with pytest.raises(ConfigError, match="views of homomorphic are filtered, got 'pixels'"):
        chain.scheme.view(chain.root, "pixels", TRAIN)


def test_ciphertexts_are_not_what_the_trainer_reads(chain):
    with pytest.raises(ArtifactError, match=r'must have "format": .PPDL-VIEW.1., got .PPDL.1.'):
        chain.scheme.view(chain.encrypt(), "filtered", TRAIN)


def test_a_view_of_another_protection_is_refused(chain, monkeypatch):
    chain.encrypt(), chain.filter(), chain.decrypt()
    monkeypatch.setattr(Homomorphic, "name", "other")
    with pytest.raises(ArtifactError, match="must hold protection 'other', found 'homomorphic'"):
        chain.scheme.view(chain.root / "revealed", "filtered", TRAIN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4, "djn"), "stride must be one of 2, 4, 8, got 3"),
        ((2, 1, "djn"), "weight_bits must be an integer from 2 to 16, got 1"),
        ((2, 4, "none"), "obfuscator must be one of djn, standard, got 'none'"),
    ],
)
def test_a_scheme_that_breaks_a_rule(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Homomorphic(*arguments)


@pytest.fixture
def pipeline(chain):
    """A project folder as DVC leaves it before the stem, and its configuration."""
    project = chain.root / "project"
    save_public(project / "keys/public.json", chain.private_key.public)
    chain.encrypt("project/data/encrypted/homomorphic")
    cfg = OmegaConf.create({"branch": "homomorphic", "input_px": 4, "keygen": {"private_dir": str(chain.private_dir)}})
    cfg.protections = {"homomorphic": OmegaConf.load(config.CONF / "protection/homomorphic.yaml")}
    cfg.signing = OmegaConf.load(config.CONF / "config.yaml").signing
    cfg.executor = OmegaConf.merge(OmegaConf.load(config.CONF / "executor/local.yaml"), {"num_workers": 1})
    return chain, cfg, Workspace(inputs=project, outputs=project)


def test_the_stages_take_the_shipped_configuration_from_ciphertexts_to_a_view(pipeline, monkeypatch, capsys):
    chain, cfg, workspace = pipeline
    monkeypatch.setattr("ppdl.config.place.checkout", lambda: workspace.inputs)  # where unfinished work lies
    stem_stage.run(cfg, workspace)
    with pytest.raises(KeyStoreError, match="this needs the private key with fingerprint"):
        reveal_stage.run(cfg, workspace)
    save_private(chain.private_dir, chain.private_key)
    reveal_stage.run(cfg, workspace)
    assert "finds a single substituted column with probability 1.0000" in capsys.readouterr().out
    node = cfg.protections.homomorphic
    view = build(node.scheme, "scheme").view(workspace.outputs / "data/revealed/homomorphic", node.views[0], TRAIN)
    outputs = plain_outputs(chain.images, dct_filters(2, 3, 4), 2)
    np.testing.assert_allclose(view.array[..., 0] * view.scale, (outputs[:, 0] - 510) / 510, atol=2e-5)
    params = read_revealed(workspace.outputs / "data/revealed/homomorphic").header.params
    wanted = {key: {k: v for k, v in config.plain(node[key]).items() if k != "_target_"} for key in ("stem", "reveal")}
    config.check_built_for(params, build(node.scheme, "scheme").params(4) | wanted, what="data/revealed/homomorphic")
    for step in ("stem", "reveal"):
        assert (workspace.outputs / f"reports/cost/homomorphic/{step}.json").is_file()


def test_a_cost_is_recorded_with_what_is_added(tmp_path):
    import json

    with recorded_cost(tmp_path / "cost/stem.json") as cost:
        sum(i * i for i in range(300_000))
        cost["bytes"] = 7
    found = json.loads((tmp_path / "cost/stem.json").read_text())
    assert found.keys() == {"engine", "seconds", "core_seconds", "bytes"} and found["engine"] == engine() and found["bytes"] == 7
    assert 0 < found["core_seconds"] <= found["seconds"] * 3


def test_a_step_that_fails_records_no_cost(tmp_path):
    with pytest.raises(ZeroDivisionError), recorded_cost(tmp_path / "stem.json"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "stem.json").exists()


def test_the_estimate_counts_what_stem_and_reveal_do(chain, monkeypatch):
    from ppdl.crypto.estimate import stem as cost

    monkeypatch.setattr(cost, "_SAMPLE_S", 0.01)
    monkeypatch.setattr(cost, "decryption_step", lambda job: cost.Step("decrypt", 8.0, 16.0, 0, "fixed"))
    job = plan_job(7, 8, chain.private_key, kind="slots", stride=2, slot_bits=11, obfuscator="djn", executor=ONE_WORKER)
    sums = open_artifact_after(chain)
    weights = chain.stem.matrix(2)
    assert stem_step(job, weights).bytes == sums.header.total_bytes
    check, reveal = reveal_steps(job, weights, check_fraction=0.5)
    assert (reveal.wall_s, reveal.core_s) == (6.0, 12.0)  # three outputs for four ciphertexts
    assert reveal.bytes == 7 * 4 * 4 * 3 * 2
    assert 0 < check.core_s < 1

    ticks = itertools.count()
    monkeypatch.setattr(cost.time, "process_time", lambda: 1000 + next(ticks) / 1000)
    assert stem_step(job, weights).core_s < 1  # what this process did before is no cost of the stem


def open_artifact_after(chain):
    chain.encrypt()
    return open_artifact(chain.filter())
