"""Films of each class, counted over hospitals, and the protocol of a run on sums that are no head's."""

import numpy as np
import pytest

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.errors import ConfigError, DataError
from ppdl.pooling.board import write_rows
from ppdl.pooling.opening import REFUSED, open_total
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.subjects.mean import MeanSums
from ppdl.pooling.terms import Terms
from tests.pooling.test_run import NAMES, NUM_FILMS, Run

COUNTS = ClassCounts(("healthy", "ill", "other"))


def keep(total, folder):
    folder.mkdir()
    np.save(folder / "total.npy", total)


class OtherRun(Run):
    """A run of the same parties on another subject, to which each hospital brings what `brings` says."""

    def __init__(self, root, subject, brings):
        super().__init__(root / "run", root / "project", summing=subject)
        self.brings = brings

    def brought(self, name):
        return self.brings[name]

    def open(self):
        return np.load(open_total(self.board, self.terms, self.holder, keep) / "total.npy")


def test_a_run_counts_classes_that_no_hospital_tells(tmp_path):
    labels = {name: np.repeat([0, 1], [number, NUM_FILMS - number]) for number, name in enumerate(NAMES)}
    run = OtherRun(tmp_path, COUNTS, labels)
    run.until_signed()
    assert run.open().tolist() == [6, 154, 0]
    assert run.open().tolist() == [6, 154, 0]  # the key is gone, and the answer stands
    assert Terms.from_tree(run.terms.tree).digest == run.terms.digest
    assert not list(run.root.rglob("*.contributions.json"))


def test_a_run_averages_vectors_and_counts_those_who_came(tmp_path):
    values = {name: np.random.default_rng(number).uniform(-0.25, 0.25, 50) for number, name in enumerate(NAMES)}
    run = OtherRun(tmp_path, MeanSums("update 3", "0" * 64, 16, ((50, 0.25),)), values)
    run.until_signed(NAMES[1:])
    assert run.open() == pytest.approx(np.mean([values[name] for name in NAMES[1:]], axis=0), abs=3e-5)
    run.board.write_terms(run.terms)
    assert run.board.read_terms().digest == run.terms.digest


def test_a_hospital_that_lies_about_its_number_of_films_uses_the_run_up(tmp_path):
    run = OtherRun(tmp_path, COUNTS, dict.fromkeys(NAMES, np.zeros(NUM_FILMS, int)))
    liar = run.hospital("dora")
    key = run.board.public_key(run.terms)
    liar.private_dir.mkdir(parents=True, mode=0o700)
    write_rows(liar._own, encrypt_batch(key, run.terms.packing.pack(np.array([NUM_FILMS, 1, 0])), build_obfuscators(key)))
    run.until_signed()
    with pytest.raises(DataError) as error:
        run.open()
    assert str(error.value) == REFUSED


def test_labels_that_are_none_and_another_number_are_refused():
    films = dict.fromkeys(NAMES, 3)
    for labels, message in (
        (np.array([0, 1]), "anna declared 3 films and brings 2"),
        (np.array([0, 1, 3]), r"labels must lie in \[0, 3\), got 0 to 3"),
    ):
        with pytest.raises(DataError, match=message):
            COUNTS.integers("anna", labels, films)


def test_who_needs_a_head_refuses_a_run_on_other_sums():
    with pytest.raises(ConfigError, match="this needs a run that sums for head, and the terms are of one for class counts"):
        HeadSums.of(COUNTS)
