"""All parties in one process: an interrupted run goes on, and one that nobody goes on with leaves no key."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from ppdl.crypto.keys.keystore import private_path
from ppdl.errors import ConfigError, KeyStoreError
from ppdl.pooling import rehearsal
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.opening import left_keys, open_total
from ppdl.pooling.rehearsal import call_run, rehearse, roster_of, take_away
from ppdl.pooling.subjects.head import Films, HeadSums
from ppdl.pooling.terms import Terms
from ppdl.private_head.head import load_head

NAMES, NUM_FILMS = ("anna", "berta", "clara"), 32


def films():
    rng, found = np.random.default_rng(3), {}
    for name in NAMES:
        labels = rng.integers(0, 2, NUM_FILMS)
        features = np.clip(rng.normal(1000 + 1500 * labels[:, None], 300, (NUM_FILMS, 4)), 0, 4095).astype(np.int64)
        found[name] = Films(features, labels, [hashlib.sha256(row.tobytes()).digest() for row in features])
    return found


class Place:
    """Where a rehearsal's parties keep their files."""

    def __init__(self, root):
        self.board, self.holder, self.project = Board(root / "board"), root / "private", root / "project"
        self.hospitals, self.out = self.holder / "hospitals", root / "project/data/pool/head"

    def call(self, strengths=(0.1,), num_features=4):
        subject = HeadSums(("healthy", "ill"), num_features, 12, "0" * 64, strengths, False)
        wanted = Terms("", 256, subject, roster_of(dict.fromkeys(NAMES, NUM_FILMS), self.hospitals, self.project))
        return call_run(self.board, wanted, self.holder, allow_insecure_key=True, project=self.project)

    def keys(self):
        return sorted(path.stem for path in self.holder.glob("*.json") if "." not in path.stem)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


BY_HOSPITAL = [(Hospital, step, times) for step in ("commit", "release", "countersign") for times in (1, 2)]


@pytest.mark.parametrize(("where", "step", "times"), [*BY_HOSPITAL, (rehearsal, "add_contributions", 1), (shutil, "move", 1)])
def test_a_run_that_was_killed_goes_on_under_its_key(place, monkeypatch, where, step, times):
    """Killed before a step is done for the `times`-th time."""

    def go_on():
        terms = place.call()
        rehearse(place.board, terms, films(), place.hospitals)
        take_away(place.board, terms, place.out, place.hospitals)
        return terms

    calls, right = [], getattr(where, step)

    def killed(*arguments):
        calls.append(step)
        if len(calls) == times:
            raise KeyboardInterrupt
        return right(*arguments)

    terms = place.call()
    with monkeypatch.context() as patch:
        patch.setattr(where, step, killed)
        with pytest.raises(KeyboardInterrupt):
            go_on()
    committed = {path.name: path.read_bytes() for path in place.board.commitments.glob("*")}
    assert go_on().tree == terms.tree
    board = Board(place.out)
    assert committed.items() <= {path.name: path.read_bytes() for path in board.commitments.iterdir()}.items()
    assert place.keys() == [terms.fingerprint]
    assert not list(place.hospitals.rglob("*.npy"))  # released, so nobody needs to keep them
    assert load_head(open_total(board, terms, place.holder, terms.subject.solver({}))).num_features == 4
    assert place.keys() == []


@pytest.mark.parametrize("damage", [None, "terms.json", "public.json"])
def test_a_run_under_other_terms_is_a_new_one_and_the_old_key_goes(place, damage):
    first = place.call()
    if damage == "terms.json":
        (place.board.folder / damage).write_text("{}")
    elif damage == "public.json":
        (place.board.folder / damage).unlink()
    second = place.call(strengths=(0.1, 1.0) if damage is None else (0.1,))
    assert second.fingerprint != first.fingerprint
    assert private_path(place.holder, second.fingerprint).exists()
    for path in (private_path(place.holder, first.fingerprint), place.holder / f"{first.fingerprint}.terms.json"):
        assert path.exists() is (damage == "public.json")  # which names the key


def test_the_key_of_a_run_that_was_pooled_and_never_opened_is_found(place):
    runs = []
    for strengths in ((0.1,), (0.2,)):
        runs.append(terms := place.call(strengths))
        rehearse(place.board, terms, films(), place.hospitals)
        take_away(place.board, terms, place.out, place.hospitals)
    (place.holder / f"{'0' * 64}.json").write_text("{}")  # no key
    assert {path.stem for path in left_keys(place.holder)} == {terms.fingerprint for terms in runs}
    open_total(Board(place.out), terms, place.holder, terms.subject.solver({}))
    assert left_keys(place.holder) == [private_path(place.holder, runs[0].fingerprint)]


def test_a_run_is_not_gone_on_with_under_a_key_that_is_not_the_key_holders(place, tmp_path):
    """Who writes to the board would decrypt what hospitals release."""
    terms, alien = place.call(), Place(tmp_path / "alien")
    forged = dataclasses.replace(terms, fingerprint=alien.call().fingerprint)
    shutil.copy(alien.board.folder / "public.json", place.board.folder)
    place.board.write_terms(forged)
    again = place.call()
    assert again.fingerprint not in (forged.fingerprint, terms.fingerprint)
    assert place.board.public_key(again).fingerprint == again.fingerprint


def test_refused_terms_make_no_key(place):
    with pytest.raises(ConfigError, match="below 16 films a feature"):
        place.call(num_features=7)
    assert place.keys() == [] and not place.board.folder.exists()


def test_the_ledger_is_kept_by_real_hospitals_alone(place):
    terms = place.call()
    rehearse(place.board, terms, films(), place.hospitals)
    assert {path.name for path in place.hospitals.rglob("*.contributions.json")} == {f"{name}.contributions.json" for name in NAMES}
    other = {name: Films(own.features, own.labels, None) for name, own in films().items()}
    for path in place.hospitals.rglob("*.contributions.json"):
        path.unlink()
    terms = place.call(strengths=(0.2,))
    rehearse(place.board, terms, other, place.hospitals)
    assert not list(place.hospitals.rglob("*.contributions.json"))


def test_private_folders_stay_out_of_the_project_and_closed(place):
    with pytest.raises(KeyStoreError, match="must not lie inside the project"):
        roster_of({"anna": 1}, place.project / "hospitals", place.project)
    place.call()
    folders = [place.holder, *(path for path in place.holder.rglob("*") if path.is_dir() and path != place.hospitals)]
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)
    assert all(path.stat().st_mode & 0o077 == 0 for path in place.hospitals.rglob("signing-*.json"))
