"""The reference page is in step with conf/, and every field has a meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppdl.config import reference
from ppdl.errors import ConfigError


@pytest.fixture
def conf(tmp_path) -> Path:
    """Write a small conf/."""
    files = {
        "config.yaml": "# The whole.\ndefaults:\n  - executor: local\n  - _self_\n\nseed: 1   # of all\n",
        "executor/local.yaml": "# ppdl artifact verify X   # the command\n#\n# Words_and | `a_b`.\n"
        "_target_: ppdl.crypto.workers.parallel.Executor\nnum_workers: null   # null: one a core\ntable_mib: 512\n"
        "sizes:   # of each, in px\n  a: 1\n  b: '#2'\nrest:\n  - {name: x}   # inside a list: of no field\n",
        "experiment/fast.yaml": "# @package _global_\n# dvc exp run -S +experiment=fast\nseed: 2\nexecutor: {num_workers: 1}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def rows(conf: Path) -> dict[str, tuple[str, str]]:
    return {f"{file.path}: {f.name}": (f.default, f.meaning) for file in reference.read_conf(conf) for f in file.fields}


def test_the_page_is_in_step():
    assert reference.main(["--check"]) == 0, "run `python -m ppdl.config.reference --write`"


def test_the_same_input_gives_the_same_bytes():
    first, second = (reference.page(reference.read_conf()) for _ in range(2))
    assert first == second


def test_a_stale_page_fails_and_is_written_again(tmp_path, monkeypatch, capsys):
    stale = tmp_path / "reference.md"
    stale.write_text(reference.PAGE.read_text().replace("`training.epochs`", "`training.epoch`", 1))
    monkeypatch.setattr(reference, "PAGE", stale)
    assert reference.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert reference.main(["--write"]) == 0
    assert stale.read_bytes() == (reference.PROJECT / "docs/reference.md").read_bytes()


def test_fields_without_a_meaning_are_named(conf):
    with pytest.raises(ConfigError, match=r"there is none for\n  conf/executor/local.yaml: executor.rest$"):
        reference.read_conf(conf)


def test_a_failing_write_leaves_the_page_alone(conf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(reference.read_conf, "__defaults__", (conf,))
    assert reference.main(["--write"]) == 1
    assert "executor.rest" in capsys.readouterr().err and not reference.PAGE.exists()


def test_where_meanings_come_from(conf):
    local = conf / "executor/local.yaml"
    local.write_text(local.read_text().replace("rest:", "rest:   # the others"))
    found = rows(conf)
    assert found["config.yaml: seed"] == ("1", "of all")
    assert found["executor/local.yaml: executor.num_workers"] == ("null", "null: one a core")
    assert found["executor/local.yaml: executor.table_mib"][1].startswith("memory in MiB for the obfuscator tables")  # the docstring
    assert found["executor/local.yaml: executor.sizes"] == ("{a: 1, b: #2}", "of each, in px")  # one value with parts
    assert found["executor/local.yaml: executor.rest"] == ("[{name: x}]", "the others")
    assert found["experiment/fast.yaml: seed"] == ("2", "of all")  # what it sets
    assert found["experiment/fast.yaml: executor.num_workers"] == ("1", "null: one a core")


def test_headers_become_code_and_words(conf):
    local = conf / "executor/local.yaml"
    local.write_text(local.read_text().replace("rest:", "rest:   # the others"))
    text = reference.page(reference.read_conf(conf))
    assert "```sh\nppdl artifact verify X   # the command\n```" in text
    assert r"Words\_and &#124; `a_b`." in text
    assert "@package" not in text and "Composed from `executor: local`." in text


def test_docstring_entries():
    text = "First.\n\n    Args:\n        a, b: of both\n            and more.\n        c: x: y\n\n    Raises:\n        d: no.\n    "
    entries = reference.docstring_entries(text)
    assert entries == {"a": "of both and more.", "b": "of both and more.", "c": "x: y"}


def test_what_a_first_user_sets_stands_first():
    text = reference.page(reference.read_conf())
    first = text.partition("## The first to set")[2].partition("\n## ")[0]
    assert 6 <= len(reference.FIRST) <= 10 and all(f"| `{name}` |" in first for name in reference.FIRST)
