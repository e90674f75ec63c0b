"""Configuration is code: every file composes and builds, params.yaml is in step, mistakes are named."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ppdl import config
from ppdl.config import choices
from ppdl.config.check import check_config
from ppdl.datasets.phantoms.public import PUBLIC_SEED
from ppdl.errors import ConfigError

GROUPS = sorted(p for p in config.CONF.glob("*/*.yaml"))


@functools.cache
def composed(*overrides: str):
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@dataclass(frozen=True)
class Component:
    learning_rate: float
    epochs: int

    def __post_init__(self):
        if self.epochs < 1:
            raise ConfigError(f"epochs must be >= 1, got {self.epochs}")


TARGET = f"{__name__}.Component"


@pytest.mark.parametrize("path", [p for p in GROUPS if p.parent.name != "protection"], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_group_file_composes_and_opens_with_its_command(path: Path):
    group, name = path.parent.name, path.stem
    choose = {group: f"+{group}={name}" for group in ("experiment", "sweep")} | {
        "attack": f"+attack@attacks.another={name}",
        "head": f"+head@heads.another={name}",
        "federation": f"+federation@federations.another={name}",
    }
    cfg = composed(choose.get(group, f"{group}={name}"))
    assert cfg.seed == config.read_params()["seed"]
    first = path.read_text().splitlines()
    assert any(line.startswith("# ") and any(word in line for word in ("dvc ", "python -m", "ppdl ")) for line in first[:3]), (
        f"{path} names no command"
    )


@pytest.mark.parametrize("name", [p.stem for p in GROUPS if p.parent.name == "protection"])
def test_every_protection_builds(name: str):
    cfg = composed(f"+protection@protections.other={name}", "branch=other")
    key, node = config.branch(cfg)
    protection = config.build(node.scheme, "protections.other.scheme")
    assert key == "other"
    assert set(node.views) <= set(protection.views)


@pytest.mark.parametrize("name", [p.stem for p in GROUPS if p.parent.name == "head"])
def test_every_head_builds(name: str):
    cfg = composed(f"+head@heads.another={name}", "branch=another")
    key, node = config.branch(cfg, "heads")
    assert key == "another"
    assert node.keys() in ({"backbone", "fit", "inference"}, {"backbone", "pooling", "inference"})
    for part in node:
        config.build(node[part], f"heads.another.{part}")


@pytest.mark.parametrize("name", [p.stem for p in GROUPS if p.parent.name == "federation"])
def test_every_federation_builds_and_has_its_stages(name: str):
    cfg = composed(f"+federation@federations.another={name}", "branch=another")
    config.build(cfg.federations.another, "federations.another")
    assert list(cfg.federated) == ["another"]


@pytest.mark.parametrize("name", [p.stem for p in GROUPS if p.parent.name == "attack"])
def test_every_attack_builds(name: str):
    attack = config.build(composed(f"+attack@attacks.another={name}").attacks.another, "attacks.another", {"num_scored": 20})
    assert attack.name == name and attack.needs and attack.knowledge


@pytest.mark.parametrize("group", ["dataset", "model", "training", "executor"])
def test_the_default_components_build(group: str):
    config.build(composed()[group], group)


def test_params_yaml_is_in_step(capsys):
    assert config.main(["--check"]) == 0


def test_check_notices_a_stale_params_yaml(tmp_path, monkeypatch, capsys):
    stale = tmp_path / "params.yaml"
    stale.write_text(config.PARAMS.read_text().replace("seed:", "sead:", 1))
    monkeypatch.setattr("ppdl.config.place.PARAMS", stale)
    assert config.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert config.main(["--write"]) == 0
    assert stale.read_bytes() == (config.PROJECT / "params.yaml").read_bytes()


def test_an_unknown_key_is_named_with_the_nearest_valid_one():
    with pytest.raises(ConfigError, match=r"training has an unknown key 'learing_rate': did you mean 'learning_rate'\?"):
        config.build({"_target_": TARGET, "learing_rate": 1.0, "epochs": 1}, "training")


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigError, match="training lacks epochs"):
        config.build({"_target_": TARGET, "learning_rate": 1.0}, "training")


def test_a_broken_rule_names_its_place_in_the_configuration():
    with pytest.raises(ConfigError, match="training: epochs must be >= 1, got 0"):
        config.build({"_target_": TARGET, "learning_rate": 1.0, "epochs": 0}, "training")


def test_an_unknown_target_is_named():
    with pytest.raises(ConfigError, match=r"model._target_ = 'ppdl.nowhere.Net' cannot be imported"):
        config.build({"_target_": "ppdl.nowhere.Net"}, "model")


def test_public_images_are_other_phantoms_than_those_of_the_set():
    rules = {
        "audit.prior_seed=20220314": "audit.prior_seed must differ from dataset.seed",
        f"dataset.seed={PUBLIC_SEED}": f"dataset.seed must not be {PUBLIC_SEED}",
        "evaluation.external.other_device.seed=20220314": "other_device.seed must differ from dataset.seed",
    }
    for override, rule in rules.items():
        with pytest.raises(ConfigError, match=rule):
            check_config(choices.compose([override]))


def test_experiment_quick_goes_with_any_data_set(tmp_path):
    quick, smoke = choices.compose(["+experiment=quick"]), choices.compose(["+experiment=smoke"])
    assert smoke == quick | {"dataset": quick["dataset"] | {"num_images": 120}} and quick["training"]["epochs"] == 2
    for dataset in ("folder", "radiography"):
        check_config(choices.compose(["+experiment=quick", f"dataset={dataset}", f"dataset.root={tmp_path}"]))


@pytest.mark.parametrize("value", ["null", "paque"])
def test_a_stage_needs_a_known_branch(value: str):
    with pytest.raises(ConfigError, match="branch must name one of protections"):
        config.branch(composed(f"branch={value}"))


def test_an_input_built_for_other_values_names_what_differs_and_how_to_rebuild_it():
    built_for = {"split": {"fold": 0, "seed": 1}, "classes": ["a", "b"]}
    config.check_built_for(built_for, OmegaConf.create(built_for), what="data/prepared")
    with pytest.raises(ConfigError, match=r"(?s)split.fold: built for 0, the configuration says 2.*dvc repro"):
        config.check_built_for(built_for, {"split": {"fold": 2, "seed": 1}, "classes": ["a", "b"]}, what="data/prepared")


def test_the_checkout_of_an_experiment_copy_is_the_users_own(tmp_path):
    assert config.checkout(tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234") == tmp_path
    assert config.checkout(tmp_path) == tmp_path


def test_a_stage_starts_without_what_only_some_stages_compute_with():
    """Every stage imports all components to check them; these packages take longer than all else together."""
    code = (
        "import sys, yaml; import stages.listing; from ppdl.config import PARAMS; from ppdl.config.check import check_config\n"
        "check_config(yaml.safe_load(PARAMS.read_text()))\n"
        "print({'keras', 'matplotlib', 'mlflow', 'pandas', 'scipy.stats', 'skimage', 'sklearn', 'statsmodels'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=config.PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
