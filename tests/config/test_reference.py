"""The reference page is in step with conf/, and every field has a meaning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ppdl.config import read_params, reference
from ppdl.config.components import leaves
from ppdl.errors import ConfigError


@pytest.fixture
def conf(tmp_path) -> Path:
    """Write a small conf/."""
    files = {
        "config.yaml": "# The whole.\ndefaults:\n  - executor: local\n  - _self_\n\nseed: 1   # of all\npart:\n  a: 1   # first\n",
        "executor/local.yaml": "# ppdl artifact verify X   # the command\n_target_: ppdl.crypto.workers.parallel.Executor\n"
        "num_workers: null   # null: one a core\nsizes:   # of each, in px\n  a: 1\n  b: '#2'\nrest:   # the others\n  - {name: x}\n"
        "inner:   # the key holder\n  _target_: ppdl.X\n  of: 3\n",
        "experiment/fast.yaml": "# @package _global_\n# dvc exp run -S +experiment=fast\nseed: 2\nexecutor: {num_workers: 1}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def say(conf: Path) -> Path:
    """Give the field that has no comment one."""
    local = conf / "executor/local.yaml"
    local.write_text(local.read_text().replace("of: 3", "of: 3   # what"))
    return conf


def test_the_page_is_in_step():
    assert reference.main(["--check"]) == 0, "run `python -m ppdl.config.reference --write`"


def test_a_stale_page_fails_and_is_written_again(tmp_path, monkeypatch, capsys):
    stale = tmp_path / "reference.md"
    stale.write_text(reference.PAGE.read_text().replace("`training.epochs`", "`training.epoch`", 1))
    monkeypatch.setattr(reference, "PAGE", stale)
    assert reference.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert reference.main(["--write"]) == 0
    assert stale.read_bytes() == (reference.PROJECT / "docs/reference.md").read_bytes()


def test_fields_without_a_meaning_are_named(conf):
    with pytest.raises(ConfigError, match=r"there is none for\n  conf/executor/local.yaml: executor\.inner\.of$"):
        reference.read_fields(conf)


def test_a_failing_write_leaves_the_page_alone(conf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(reference.page, "__defaults__", (conf,))
    assert reference.main(["--write"]) == 1
    assert "executor.inner.of" in capsys.readouterr().err and not reference.PAGE.exists()


def test_where_meanings_come_from(conf):
    found = {f"{field.file.as_posix()}: {field.name}": (field.value, field.meaning) for field in reference.read_fields(say(conf))}
    assert found["config.yaml: seed"] == ("1", "of all")
    assert found["config.yaml: part.a"] == ("1", "first")
    assert found["executor/local.yaml: executor.num_workers"] == ("null", "null: one a core")
    assert found["executor/local.yaml: executor.sizes.b"] == ("'#2'", "of each, in px")  # one value with parts
    assert found["executor/local.yaml: executor.rest"] == ("- {name: x}\n", "the others")
    assert found["experiment/fast.yaml: seed"] == ("2", "")  # config.yaml says it


def test_files_stand_on_the_page_as_they_are(conf):
    text = reference.page(say(conf))
    for path in conf.rglob("*.yaml"):
        assert f"### conf/{path.relative_to(conf).as_posix()}\n" in text and f"```yaml\n{path.read_text().strip()}\n```" in text
    assert "### conf/executor/local.yaml\n\nFields of `executor`.\n" in text
    assert "### conf/experiment/fast.yaml\n\n```yaml" in text


def test_what_a_first_user_sets_stands_first():
    first = reference.page().partition("## The first to set")[2].partition("\n## ")[0]
    assert 6 <= len(reference.FIRST) <= 10 and all(f"| `{name}` | `" in first for name in reference.FIRST)


def test_help_shows_the_same_values_with_their_defaults():
    template = yaml.safe_load((reference.CONF / "config.yaml").read_text())["hydra"]["help"]["template"]
    values = leaves(read_params())
    shown = dict(re.findall(r"^  (\S+)=(\S+) ", template, re.MULTILINE))
    assert shown == {name: yaml.safe_dump(values[name]).split("\n")[0] for name in reference.FIRST}
