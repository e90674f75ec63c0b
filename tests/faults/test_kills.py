"""A sample of the soak (tests/soak/kills.py, first_store.py): the real pipeline, killed twice; the first store; two `dvc repro` at once."""

from __future__ import annotations

import pytest

from ppdl.crypto.keys.keystore import load_public
from tests.soak import first_store, kills
from tests.soak.scratch import Scratch
from tests.test_pipeline import NARROW, SMALL

pytestmark = pytest.mark.pipeline
DURATIONS = {"encrypt@homomorphic": 3.0, "train_encrypted@homomorphic": 10.0}  # s, about; moments are drawn from them
BRANCH = [*SMALL, NARROW, "~protections.deterministic", "~protections.opaque", "~heads.private_head", "~heads.pooled_head"]


def test_a_pipeline_that_is_killed_twice_ends_whole(tmp_path):
    figures = kills.run(tmp_path, 2, seed=7, durations=DURATIONS, goal=("train_encrypted@homomorphic",), overrides=BRANCH)
    assert figures["num_kills"] == 2
    assert figures["survivors"] == []
    assert figures["images_decrypted_bit_exactly"] == 96
    assert figures["ciphertexts_searched"] > 1000
    assert figures["mlflow_runs"]["FINISHED"] == 1
    assert figures["processes_watched"] > 10


@pytest.mark.parametrize(("in_place", "num", "num_kills"), [(False, 1, 3), (True, 2, 2)])
def test_a_store_whose_making_was_killed_is_made_by_the_next_process(tmp_path, in_place, num, num_kills):
    figures = first_store.run(tmp_path, num, in_place=in_place)
    assert len(figures["killed_at"]) == num_kills
    assert figures["failed_at"] == []


def test_of_two_repros_at_once_one_works_and_the_other_says_why_it_does_not(tmp_path):
    scratch = Scratch(tmp_path)
    both = [scratch.start("dvc", "repro", "download", "keygen") for _ in range(2)]
    codes = [started.wait(120) for started in both]
    assert 0 in codes, "".join(started.tail for started in both)
    for code, started in zip(codes, both, strict=True):
        assert code == 0 or any(word in started.tail for word in ("Unable to acquire lock", "is busy", "blocked by")), started.tail
    assert "up to date" in scratch.run("dvc", "repro", "download", "keygen")
    names = [path.name for path in scratch.private_dir.iterdir()]
    assert names == [f"{load_public(scratch.path / 'keys/public.json').fingerprint}.json"]


def test_a_kill_that_breaks_something_is_noticed(tmp_path):
    """The checks of the soak see what they look for."""
    reused = kills.Obfuscators()
    n = 2**64 - 59
    reused._add("key", (5 + n).to_bytes(16, "big"), n)
    reused._add("key", (5 + n).to_bytes(16, "big"), n)
    assert (reused.num_reused, reused.num_ciphertexts) == (0, 1)
    reused._add("key", (5 + 3 * n).to_bytes(16, "big"), n)
    assert (reused.num_reused, reused.num_ciphertexts) == (1, 2)
    scratch = Scratch.__new__(Scratch)
    scratch.path, scratch.private_dir, scratch.temporary = tmp_path / "clone", tmp_path / "private", tmp_path / "tmp"
    for path in (scratch.path / ".ppdl/a/b/plan.json", scratch.private_dir / ".new-x.tmp", scratch.temporary / "ppdl-audit-1/x"):
        path.parent.mkdir(parents=True)
        path.touch()
    assert kills.leftovers(scratch) == ["clone/.ppdl/a/b/plan.json", "private/.new-x.tmp", "tmp/ppdl-audit-1/x"]
