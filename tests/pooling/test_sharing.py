"""Films are shared out by patient, and nobody is left without."""

import numpy as np
import pytest

from ppdl.config import construct
from ppdl.errors import ConfigError, DataError
from ppdl.pooling.sharing import Pooling, Shares, missing_classes, share_at_random, share_by_name

RNG = np.random.default_rng(7)
GROUPS = np.repeat(np.arange(60), 3)[RNG.permutation(180)]
LABELS = GROUPS % 4
ROWS = np.arange(180) * 2 + 5  # numbers among all prepared images


def test_patients_stay_whole_and_classes_are_shared_alike():
    shares = share_at_random(ROWS, LABELS, GROUPS, 3, seed=1)
    assert list(shares) == ["hospital_1", "hospital_2", "hospital_3"]
    assert sorted(row for rows in shares.values() for row in rows) == ROWS.tolist()
    own = {name: set(GROUPS[np.searchsorted(ROWS, rows)].tolist()) for name, rows in shares.items()}
    assert sum(map(len, own.values())) == 60  # none is in two
    for rows in shares.values():
        assert np.bincount(LABELS[np.searchsorted(ROWS, rows)]).tolist() == [15] * 4
    assert shares == share_at_random(ROWS, LABELS, GROUPS, 3, seed=1) != share_at_random(ROWS, LABELS, GROUPS, 3, seed=2)


def test_by_class_a_patient_goes_where_most_of_its_films_do_and_what_is_missing_is_said():
    names = [f"Class {label}" for label in LABELS]
    first = int(np.flatnonzero(GROUPS == 0)[0])
    names[first] = "Class 1"  # one film of three
    shares = share_by_name(ROWS, GROUPS, names, divided=True)
    assert {name: len(rows) for name, rows in shares.items()} == {f"class_{k}": 45 for k in range(4)}
    assert ROWS[first] in shares["class_0"]
    labels = np.zeros(400, int)
    labels[ROWS] = LABELS
    assert missing_classes(shares, labels, "abcd")["class_2"] == ["a", "b", "d"]
    assert missing_classes(share_at_random(ROWS, LABELS, GROUPS, 3, seed=1), labels, "abcd") == {}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["A", "B"] * 90, r"films of one patient .* are at A and at B"),
        (["x" if group % 2 else "y" for group in GROUPS], "at least 3 hospitals, and the films are of x, y"),
        (
            [["North", "north!", "West"][group % 3] for group in GROUPS],
            "'[Nn]orth!?' and '[Nn]orth!?' would both be called 'north'",
        ),
    ],
)
def test_hospitals_of_a_column_that_cannot_be_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        share_by_name(ROWS, GROUPS, names, divided=False)


def test_too_few_patients_are_refused():
    with pytest.raises(DataError, match=r"2 patients .* cannot be shared out to 3 hospitals"):
        share_at_random(ROWS[:4], LABELS[:4], np.array([0, 0, 1, 1]), 3, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hospitals": 2}, "hospitals must be at least 3.*got 2"),
        ({"hospitals": True}, "hospitals: must be an integer, got True"),
        ({"strengths": ()}, "strengths: Tuple must have at least 1 item"),
        ({"strengths": (0.1, 0)}, "strengths.1: must be > 0, got 0"),
        ({"accept_membership": "yes"}, "accept_membership: must be a boolean, got 'yes'"),
    ],
)
def test_settings_that_break_a_rule_are_named(change, message):
    values = {"hospitals": "class", "strengths": (0.1,), "accept_membership": False}
    assert construct(Pooling, values, "pooling").hospitals == "class"
    with pytest.raises(ConfigError, match=message):
        construct(Pooling, values | change, "pooling")


def test_shares_are_read_back_and_other_files_refused(tmp_path):
    path = tmp_path / "hospitals/head.json"
    shares = Shares(True, {"a": [1, 4], "b": [2], "c": [9]})
    shares.write(path)
    assert Shares.read(path) == shares and shares.num_films == 4
    for text in ("{}", '{"named": true, "rows": [1]}', '{"named": true, "rows": {"a": ["x"]}}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"does not say whose films are whose .*: run the stage hospitals again"):
            Shares.read(path)
