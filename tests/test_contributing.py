"""The examples of CONTRIBUTING.md work as they stand there: one file and one configuration file each."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from ppdl import config
from ppdl.audit.examination.base import Symbols, Target, Truth
from ppdl.config import reference
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.protections.view import View, plain_view
from ppdl.training.fitting.fit import fit
from tests.test_docs import LOCATION, blocks
from tests.training import toys

PAGE = config.PROJECT / "CONTRIBUTING.md"
FILES = {LOCATION.match(above)[1]: text for _, text, above in blocks(PAGE) if LOCATION.match(above)}
MODULES = {
    "dataset": "datasets.sources.stripes",
    "protection": "protections.schemes.posterised",
    "attack": "audit.attacks.outline",
    "model": "training.networks.small_cnn",
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Write all files of the page, make their modules importable, and return what composes with them."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    for package in sorted({module.rpartition(".")[0] for module in MODULES.values()}):
        module = import_module(f"ppdl.{package}")
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path / "ppdl" / package.replace(".", "/"))])

    def composed(*overrides: str):
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            return compose("config", overrides=[f"hydra.searchpath=[file://{tmp_path}/conf]", *overrides])

    yield composed
    for module in MODULES.values():
        sys.modules.pop(f"ppdl.{module}", None)
        package, _, name = module.rpartition(".")
        vars(import_module(f"ppdl.{package}")).pop(name, None)


def test_each_example_is_one_class_and_one_configuration_file():
    assert sorted(FILES) == sorted(
        [f"ppdl/{module.replace('.', '/')}.py" for module in MODULES.values()]
        + [f"conf/{group}/{module.rpartition('.')[2]}.yaml" for group, module in MODULES.items()]
    )


def test_each_configuration_file_says_its_command_and_what_its_fields_mean(example, tmp_path):
    files = [Path(name).relative_to("conf") for name in FILES if name.startswith("conf/")]
    found = reference.read_conf(tmp_path / "conf")
    assert sorted(file.path for file in found) == sorted(files)
    assert all(file.header[0].startswith("dvc exp run -S ") and file.fields for file in found)


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
    protection.encrypt(images, tmp_path / "out", input_px=32, public_key=public_key, partial_dir=tmp_path / "partial", executor=None)
    assert open_artifact(tmp_path / "out").header.protection.params == {"input_px": 32, "dropped_bits": 4}
    view = protection.view(tmp_path / "out", node.views[0], np.arange(1))
    assert view.array.shape == (2, 32, 32) and len(np.unique(view.array)) == 16


def test_the_attack(example):
    attack = config.build(example("+attack@attacks.outline=outline").attacks.outline, "attacks.outline")
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
