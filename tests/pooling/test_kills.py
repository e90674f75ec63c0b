"""A sample of the soak (tests/soak/pool_kills.py): one kill in each phase of a run; and that its checks see what they look for."""

from __future__ import annotations

import json

import pytest

from ppdl.crypto.keys.keystore import private_path
from tests.soak import pool_kills


def test_a_run_whose_parties_were_killed_ends_as_an_undisturbed_one(tmp_path):
    figures = pool_kills.run(tmp_path, 1)
    assert figures["num_kills"] == 5
    assert figures["held_out"] == 1  # after the kill in the middle of the opening


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that ended, after one to which another total was held out before anything was opened."""
    run = pool_kills.Run(tmp_path_factory.mktemp("pool") / "run")
    for command in pool_kills.COMMANDS[:-1]:
        run.do(*command)
    with pytest.raises(pool_kills.Broken, match="two totals of one run were opened"):
        run.hold_out_another_total()
    run.do(*pool_kills.COMMANDS[-1])
    run.hold_out_another_total()  # refused from now on
    run.check({})
    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a commitment", "commitments/anna.json stood on the board after the kill, and does not in the end"),
        ("another sum", "another sum than that of the tally was decrypted"),
        ("the key", "the private key of the run is left"),
        ("a ledger", "the ledger of berta does not hold its contribution once"),
        ("a file", "an unfinished file is left"),
    ],
)
def test_a_kill_that_breaks_something_is_noticed(ended, tmp_path, change, message):
    run, posted = ended.copy(tmp_path / "run"), {}
    run.noted.write_text(ended.noted.read_text())
    if change == "a commitment":
        posted = {"commitments/anna.json": b"another"}
    elif change == "another sum":
        run.noted.write_text(run.noted.read_text() + "0" * 64 + "\n")
    elif change == "the key":
        private_path(run.holder, run.terms.fingerprint).touch()
    elif change == "a ledger":
        path = run.hospitals / "berta/berta.contributions.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"contributions": content["contributions"] * 2}))
    else:
        (run.board.folder / ".sum.partial.npy").touch()
    with pytest.raises(pool_kills.Broken, match=message):
        run.check(posted)
