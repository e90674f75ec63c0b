"""The examples of CONTRIBUTING.md work as they stand there: one file and one configuration file each."""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from ppdl import config
from ppdl.audit.examination.base import Symbols, Target, Truth
from ppdl.config import reference
from ppdl.config.check import check_config
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keyfile import save_private
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.errors import ConfigError
from ppdl.protections.branch import Branch
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.view import View, plain_view
from ppdl.training.fitting.fit import fit
from tests.test_docs import LOCATION, blocks
from tests.training import toys

PAGE = config.PROJECT / "CONTRIBUTING.md"
FILES = {LOCATION.match(above)[1]: text for _, text, above in blocks(PAGE) if LOCATION.match(above)}
GROUPS = {
    "datasets.sources.stripes": "dataset",
    "protections.schemes.posterised": "protection",
    "protections.schemes.halves": "protection",
    "audit.attacks.outline": "attack",
    "training.networks.small_cnn": "model",
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Write all files of the page, make their modules importable, and return what composes with them."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    for package in sorted({module.rpartition(".")[0] for module in GROUPS}):
        module = import_module(f"ppdl.{package}")
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path / "ppdl" / package.replace(".", "/"))])

    def composed(*overrides: str):
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            return compose("config", overrides=[f"hydra.searchpath=[file://{tmp_path}/conf]", *overrides])

    yield composed
    for module in GROUPS:
        sys.modules.pop(f"ppdl.{module}", None)
        package, _, name = module.rpartition(".")
        vars(import_module(f"ppdl.{package}")).pop(name, None)


def test_each_example_is_one_class_and_one_configuration_file():
    assert sorted(FILES) == sorted(
        [f"ppdl/{module.replace('.', '/')}.py" for module in GROUPS]
        + [f"conf/{group}/{module.rpartition('.')[2]}.yaml" for module, group in GROUPS.items()]
    )


def test_each_configuration_file_says_its_command_and_what_its_fields_mean(example, tmp_path):
    files = [Path(name).relative_to("conf") for name in FILES if name.startswith("conf/")]
    assert {field.file for field in reference.read_fields(tmp_path / "conf")} == set(files)
    assert all((tmp_path / "conf" / file).read_text().startswith("# dvc exp run -S ") for file in files)


COMMANDS = [shlex.split(line, comments=True) for kind, text, _ in blocks(PAGE) if kind == "sh" for line in text.splitlines()]
RUNS = [[text for flag, text in pairwise(words) if flag == "-S"] for words in COMMANDS if words[:3] == ["dvc", "exp", "run"]]


@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_the_commands_of_the_page_pass_every_check_that_stages_make(example, overrides):
    check_config(example(*overrides))


def test_every_example_has_a_command():
    assert len(RUNS) == len(GROUPS) + 1  # and smoke


def test_the_dataset(example, tmp_path):
    cfg = example("dataset=stripes", "dataset.num_images=4")
    raw = tmp_path / "raw"
    config.build(cfg.dataset, "dataset").write_raw(raw)
    index = read_raw_index(raw)
    assert index["class_name"].value_counts().to_dict() == {"horizontal": 4, "vertical": 4} and index["patient"].nunique() == 8
    assert all((raw / path).is_file() for path in index["path"])


def test_the_protection(example, tmp_path):
    cfg = example("+protection@protections.posterised=posterised", "branch=posterised")
    _, node = config.branch(cfg)
    protection = config.build(node.scheme, "protections.posterised.scheme")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    public_key = generate_keypair(256, allow_insecure_key=True).public
    protection.encrypt(images, tmp_path / "out", Context(public_key, 32, tmp_path / "partial", None))
    assert open_artifact(tmp_path / "out").header.protection.params == {"input_px": 32, "dropped_bits": 4}
    view = protection.view(tmp_path / "out", node.views[0], np.arange(1))
    assert view.array.shape == (2, 32, 32) and len(np.unique(view.array)) == 16
    with pytest.raises(ConfigError, match=r"protections\.posterised\.scheme\.dropped_bits: must be 0, 1, .* got 9"):
        config.build({**config.plain(node.scheme), "dropped_bits": 9}, "protections.posterised.scheme")


def test_the_protection_with_steps_of_its_own(example, tmp_path):
    cfg = example("+protection@protections.halves=halves", "branch=halves")
    check_config(cfg)
    assert cfg.revealed == ["homomorphic", "halves"]  # so that it has the stages stem and reveal
    _, node = config.branch(cfg)
    parts = {part: config.build(node[part], f"protections.halves.{part}") for part in ("scheme", "stem", "reveal")}
    branch = Branch(parts.pop("scheme"), parts)
    key, holder = generate_keypair(256, allow_insecure_key=True), KeyHolder(tmp_path / "private", tmp_path / "project")
    save_private(holder.private_dir, key)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    executor = Executor(num_workers=1, shard_mib=1, min_shards=1, table_mib=4)
    context = Context(key.public, 4, tmp_path / "partial", executor, key_holder=holder, progress=False)
    folder = branch.protect(images, tmp_path, context)
    given = {step: {k: v for k, v in config.plain(node[step]).items() if k != "_target_"} for step in ("stem", "reveal")}
    assert branch.scheme.contents(folder).params == branch.scheme.params(4) | given
    view = branch.scheme.view(folder, node.views[0], np.arange(1))
    pixels = images.reshape(3, 4, 2, 4, 2).astype(int)
    expected = np.stack([pixels[:, :, 0].sum(-1), pixels[..., 0].sum(2)], -1)[..., [0, 1, 0]]
    np.testing.assert_allclose((np.asarray(view.array) * view.scale + 1) * 255, expected, atol=0.02)


def test_the_attack(example):
    attack = config.build(example("+attack@attacks.outline=outline").attacks.outline, "attacks.outline", {"num_scored": 20})
    images = np.zeros((3, 32, 32), np.uint8)
    images[:, 8:24, 8:24] = 128
    symbols = np.random.default_rng(0).permutation(256).astype(np.uint8)[images]
    target = Target("set", 3, 32, 32, symbols=Symbols(symbols, 256, None))
    finding = attack.examine(target, Truth(images), np.random.default_rng(0))
    assert finding.metrics["ssim"] == pytest.approx(1) and (finding.rebuilt.images == images).all()


def test_the_model(example, tmp_path):
    model = config.build(example("model=small_cnn").model, "model")
    images, labels = toys.images_and_labels()
    table = np.linspace(-1, 1, 256, dtype=np.float32)[:, None].repeat(3, 1)
    symbols = View("symbols", images, table, True, 1.0, 0.0)
    for view in (plain_view(images), symbols):
        result = fit(
            view,
            labels,
            toys.TRAIN_ROWS,
            toys.VALIDATION_ROWS,
            model=model,
            training=toys.training(epochs=1),
            num_classes=toys.NUM_CLASSES,
            seed=0,
            state_dir=tmp_path / view.name,
            progress=False,
        )
        assert result.model.output_shape == (None, toys.NUM_CLASSES) and np.isfinite(result.history["val_loss"]).all()
