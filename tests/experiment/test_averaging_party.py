"""A federation as parties on machines of their own follow it: the same network as in one process, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ppdl.crypto.artifact.shards import hash_file
from ppdl.datasets.prepared.arrays import META_KEYS
from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.predictions.calibration import load_calibration
from ppdl.experiment.averaging_party import HospitalCourse, KeyHolderCourse, Plan, write_network
from ppdl.experiment.federation import Federation
from ppdl.pooling.sharing import Averaging
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.protections.view import plain_view
from ppdl.training.federated.local import Local, begun
from tests.training.toys import NUM_CLASSES, TinyNet, images_and_labels, training

IMAGES, LABELS = images_and_labels()
CLASSES = ["flat", "across", "down"]
ROWS = {"anna": np.arange(50), "berta": np.arange(50, 80), "clara": np.arange(80, 120)}
AVERAGING, SEED = Averaging(3, 2, 1, 16), 7
SPLITS = np.where(np.arange(len(LABELS)) % 5 == 4, "validation", "train")
TRAIN = {name: rows[SPLITS[rows] == "train"] for name, rows in ROWS.items()}
FILMS = {name: len(rows) for name, rows in TRAIN.items()}


class Clear:
    """Sum in the clear, as one process and as parties of their own ask for it."""

    def __call__(self, subject, brought):
        total = np.sum([subject.integers(name, own, FILMS) for name, own in brought.items()], axis=0)
        return subject.total(total, FILMS, list(brought))


@pytest.fixture(scope="module")
def parties(tmp_path_factory):
    """Folders with the films of three hospitals, and the network that all start from."""
    root = tmp_path_factory.mktemp("parties")
    write_network(TinyNet(), 32, NUM_CLASSES, SEED, root / "network.keras")
    for name, rows in ROWS.items():
        folder = root / name / "films"
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", IMAGES[rows])
        labels = LABELS[rows]
        columns = {"path": [f"{row}.png" for row in rows], "class_name": np.array(CLASSES)[labels], "label": labels, "group": rows}
        pd.DataFrame({**columns, "fold": -1, "split": SPLITS[rows]}).to_csv(folder / "index.csv", index=False)
        meta = dict.fromkeys(META_KEYS, 0) | {"num_images": len(rows), "prepared_px": 32, "class_names": CLASSES, "params": {}}
        (folder / "meta.json").write_text(json.dumps(meta))
    (root / "key-holder").mkdir()
    return root


def plan_of(parties, **changes):
    rules = Plan.tree(AVERAGING, training(class_weights="balanced", num_threads=1), SEED)
    found = Plan.of(AVERAGING, json.loads(json.dumps(rules)), {"input_px": 32, "prepared_px": 32}, parties / "network.keras")
    return dataclasses.replace(found, **changes)


def recipe(folder):
    (folder / "recipe").write_text("recipe")


def course_of(parties, name, folder, said=None):
    roster = {name: SimpleNamespace(num_films=number) for name, number in FILMS.items()}
    terms = SimpleNamespace(subject=ClassCounts(CLASSES), films=FILMS, roster=roster)
    folder.mkdir(parents=True, exist_ok=True)
    say = (said if said is not None else []).append
    if name == "key-holder":
        return KeyHolderCourse(terms, plan_of(parties), folder, say)
    return HospitalCourse(terms, plan_of(parties), folder, say, name=name, films=parties / name / "films", digest="run", recipe=recipe)


def run(courses, num_sums):
    for _ in range(num_sums):
        holder = courses["key-holder"]
        brought = {name: course.brings() for name, course in courses.items() if name != "key-holder"}
        total = Clear()(holder.subject, brought)
        holder.make(total, holder.folder / "answer")
        for course in courses.values():
            course.take(holder.folder / "answer")
    return courses


@pytest.fixture(scope="module")
def ended(parties, tmp_path_factory):
    root, said = tmp_path_factory.mktemp("ended"), {name: [] for name in (*ROWS, "key-holder")}
    courses = run({name: course_of(parties, name, root / name, said[name]) for name in said}, 1 + 2 * AVERAGING.rounds)
    return SimpleNamespace(root=root, courses=courses, said=said)


def test_parties_of_their_own_come_to_the_network_of_one_process(parties, ended, tmp_path):
    settings = training(class_weights="balanced", num_threads=None)
    view = plain_view(IMAGES)
    counts = Clear()(ClassCounts(CLASSES), {name: LABELS[rows] for name, rows in TRAIN.items()})
    network = begun(TinyNet(), view, NUM_CLASSES, SEED)
    local = Local(network, settings, view, LABELS, TRAIN, hospitals=list(ROWS), class_counts=counts, seed=SEED)
    for name in ROWS:
        (tmp_path / "hospitals" / name).mkdir(parents=True)
    federation = Federation("one", local, FILMS, AVERAGING, Clear(), tmp_path / "hospitals", "digest")
    expected = federation.run(tmp_path / "state", lambda number, done: {})
    for course in ended.courses.values():
        assert course.number == 1 + 2 * AVERAGING.rounds
        assert np.array_equal(course.rounds.weights, expected.weights) and np.array_equal(course.rounds.moments, expected.moments)


def test_each_round_is_said_with_the_hospitals_own_validation_films(ended):
    assert ended.said["key-holder"] == ["round 1 of 2", "round 2 of 2"]
    first, second = ended.said["anna"]
    assert first.startswith("round 1 of 2: ") and second.endswith(" of this hospital's 10 validation films are right")


def test_a_party_that_was_killed_goes_on_from_what_it_took(parties, ended, tmp_path):
    names, num_sums = (*ROWS, "key-holder"), 1 + 2 * AVERAGING.rounds
    for _ in range(num_sums):  # all are new in each sum
        run({name: course_of(parties, name, tmp_path / name) for name in names}, 1)
    for name in names:
        again = course_of(parties, name, tmp_path / name)
        assert again.number == num_sums and np.array_equal(again.rounds.weights, ended.courses[name].rounds.weights)


def test_a_hospital_keeps_the_network_and_nothing_of_its_training(ended):
    import keras

    course, folder = ended.courses["berta"], ended.root / "berta"
    assert not (folder / "trained.npz").exists()
    assert load_calibration(folder / "network").num_images == 6 and (folder / "network/recipe").read_text() == "recipe"
    model = keras.models.load_model(folder / "network/model.keras")
    rows = course.prepared.rows("validation")
    logits = np.asarray(model(IMAGES[ROWS["berta"][rows]], training=False))
    assert logits == pytest.approx(course.network.logits(rows, course.rounds.weights, course.rounds.moments), abs=1e-4)


def test_what_is_no_total_of_the_sum_is_not_taken(parties, tmp_path):
    courses = {name: course_of(parties, name, tmp_path / name) for name in (*ROWS, "key-holder")}
    holder, out = courses["key-holder"], tmp_path / "out"
    holder.make(np.array([1, 2]), out)
    with pytest.raises(DataError, match=r"is no total of 3 values, got int64 \(2,\)"):
        holder.take(out)
    films = sum(FILMS.values())
    for counts, message in [
        ([films, 1, 0], "add up to those declared"),
        ([films - 1, 1, 0], "every class needs a training film.* of down"),
    ]:
        holder.make(np.array(counts), out)
        with pytest.raises(DataError, match=message):
            holder.take(out)
    for content in (b"", b"x", b"PK"):
        (out / "total.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"total\.npz cannot be read as arrays"):
            holder.take(out)
    holder.make(np.array(["a", "b", "c"]), out)
    with pytest.raises(DataError, match="is no total of 3 values"):
        holder.take(out)
    run(courses, 1)
    holder.make(np.full(holder.subject.num_values, np.nan), out)
    with pytest.raises(DataError, match="is no total of"):
        holder.take(out)
    with pytest.raises(ConfigError, match="the key holder brings nothing"):
        holder.brings()
    assert holder.number == 1


def test_the_digest_of_what_is_made_of_a_total_tells_nothing_of_it(parties, tmp_path):
    holder, counts = course_of(parties, "key-holder", tmp_path / "key-holder"), np.array([40, 30, 26])
    digests = set()
    for number in range(2):
        holder.make(counts, tmp_path / str(number))
        digests.add(hash_file(tmp_path / str(number) / "total.npz"))
    assert len(digests) == 2


def test_films_that_changed_since_the_first_sum_are_refused(parties, tmp_path):
    shutil.copytree(parties, tmp_path / "parties")
    there = tmp_path / "parties"
    run({name: course_of(there, name, tmp_path / name) for name in (*ROWS, "key-holder")}, 1)
    course_of(there, "anna", tmp_path / "anna")
    path = there / "anna/films/index.csv"
    path.write_text(path.read_text().replace(",validation", ",train", 1))
    with pytest.raises(DataError, match="holds other films, labels or splits than when the run began"):
        course_of(there, "anna", tmp_path / "anna")


def test_a_plan_that_lacks_a_part_is_refused(parties):
    rules, sides = Plan.tree(AVERAGING, training(), SEED), {"input_px": 32, "prepared_px": 32}
    for plan, model, message in [
        (rules | {"training": None}, sides, "the invitation must say how to train, the seed and both sides"),
        (rules | {"seed": "7"}, sides, "the invitation must say"),
        (rules, sides | {"input_px": None}, "the invitation must say"),
        (rules | {"training": rules["training"] | {"batch_size": 0}}, sides, "plan.training.batch_size"),
        (rules | {"training": {"batch_size": 1}}, sides, "plan.training"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Plan.of(AVERAGING, plan, model, parties / "network.keras")
