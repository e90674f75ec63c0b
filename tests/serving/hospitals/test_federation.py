"""Sums that follow each other over a network, without the network: each under a key that the key holder called and signed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ppdl.errors import ArtifactError, ConfigError
from ppdl.pooling.board import Board
from ppdl.pooling.opening import left_keys
from ppdl.pooling.statements import CALLED, Called, write_signed
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.mean import MeanSums
from ppdl.serving.hospitals import desk as desks
from ppdl.serving.hospitals import party as parties
from ppdl.serving.hospitals.conduct import conduct
from ppdl.serving.hospitals.desk import CALL, COMMIT, COUNTERSIGN, KEEP, OPEN, RELEASE, Desk
from ppdl.serving.hospitals.invitation import Invitation
from ppdl.serving.hospitals.party import Party, read_card
from tests.pooling.test_rehearsal import NAMES
from tests.serving.hospitals.test_desk import CLASSES, Place
from tests.serving.hospitals.test_desk import software as software

PLAN = {"rounds": 1, "epochs": 1, "bits": 8, "training": {}, "seed": 1}
LABELS = {name: np.arange(5 + place) % 2 for place, name in enumerate(NAMES)}
VALUES = {name: np.array([0.25, -0.5, 1.0]) * (place - 1) for place, name in enumerate(NAMES)}


class Steps:
    """A course of counts, then two means of which the second goes on from the first. What is taken lies in a file."""

    def __init__(self, name, folder):
        self.name, self.path = name, folder / "steps.json"

    @property
    def totals(self):
        return json.loads(self.path.read_text()) if self.path.exists() else []

    @property
    def number(self):
        return len(self.totals)

    @property
    def subject(self):
        if not self.number:
            return ClassCounts(CLASSES)
        return MeanSums(f"sum {self.number}", str(self.totals[1:]), 8, ((3, 2.0),))

    def brings(self):
        return VALUES[self.name] * self.number if self.number else LABELS[self.name]

    def make(self, total, folder):
        folder.mkdir(exist_ok=True)
        np.savez(folder / "total.npz", total=total)

    def take(self, folder):
        self.path.write_text(json.dumps([*self.totals, np.load(folder / "total.npz")["total"].tolist()]))


class Federated(Place):
    """Folders of five parties who agreed to a federation."""

    def make(self, role, name=None, **card):
        films = {"num_films": 40, "num_train_films": len(LABELS[name])} if role == "hospital" else {}
        return super().make(role, name, **card | films)

    def call(self, cards=("server", *NAMES), **rules):
        (self.root / "network.keras").write_bytes(b"public")
        model = {"sha256": parties.hash_file(self.root / "network.keras"), "input_px": 32, "prepared_px": 64}
        cards, holder = [read_card(self.root / name / "card.json") for name in cards], self.party("key-holder")
        rules = {"key_bits": 256, "plan": PLAN | rules}
        found = holder.call(cards, model, rules, allow_insecure_key=True, project=self.root / "project")
        found.write(self.root / "invitation", self.root / "network.keras")
        return holder.agree(self.root / "invitation")

    def desk(self, name):
        party = self.party(name)
        return Desk(party, self.invitation, Steps(name, party.run_folder(self.invitation)), self.root / "project")

    @property
    def boards(self):
        return self.party("server").run_folder(self.invitation) / "board"

    def conduct(self, **instead):
        def ask(phase, files, may_stay_away, number):
            assert not may_stay_away
            for name, brought in files.items():
                self.asked.append((phase, name, number))
                answer = instead.get(f"{phase}_{number}", lambda desk, files, number=number, phase=phase: desk.answer(phase, files, number))
                yield name, answer(self.desks[name], brought)

        self.desks = {name: self.desk(name) for name in (*NAMES, "key-holder")}
        conduct(self.boards, self.invitation, ask)

    def totals(self):
        return [desk.course.totals for desk in self.desks.values()]


@pytest.fixture(scope="module")
def agreed(tmp_path_factory):
    return Federated.agreed(tmp_path_factory.mktemp("agreed"))


@pytest.fixture
def place(agreed, tmp_path):
    return Federated.copied(agreed, tmp_path)


def test_all_take_the_same_totals_of_all_sums_and_nothing_is_left_that_opens_one(place):
    place.conduct()
    films = {name: len(labels) for name, labels in LABELS.items()}
    mean = sum(films[name] * VALUES[name] for name in NAMES) / sum(films.values())
    first, *others = place.totals()
    assert all(found == first for found in others) and len(first) == 3
    assert first[0] == np.sum([np.bincount(labels) for labels in LABELS.values()], axis=0).tolist()
    assert first[1] == pytest.approx(mean, abs=0.02) and first[2] == pytest.approx(2 * mean, abs=0.02)
    assert all(desk.finished for desk in place.desks.values())
    assert left_keys(place.root / "key-holder") == []
    assert [path.name for path in place.boards.iterdir()] == ["2"]  # of the sum that came last
    for name in NAMES:
        left = list((place.root / name).glob(f"{name}.*.npy"))
        assert len(left) == 1  # what it released of the last sum
    place.asked.clear()
    place.conduct()
    assert place.asked == []


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("phase", [CALL, COMMIT, RELEASE, COUNTERSIGN, OPEN, KEEP])
def test_a_server_that_was_killed_in_any_phase_of_any_sum_goes_on(place, phase, number):
    if phase == CALL and not number:
        return

    def killed(desk, files):
        desk.answer(phase, files, number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.conduct(**{f"{phase}_{number}": killed})
    place.conduct()
    assert len(place.totals()[0]) == 3 and len(set(map(str, place.totals()))) == 1
    assert len(place.asked) == len(set(place.asked)) + 1  # what was answered and not received
    assert left_keys(place.root / "key-holder") == []


def test_a_hospital_sends_nothing_to_a_sum_that_does_not_follow_or_that_somebody_else_called(place):
    def stopped(desk, files):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.conduct(commit_1=stopped)
    board, anna, holder = Board(place.boards / "1"), place.desks["anna"], parties.hospital_key(place.root / "key-holder")
    right = {path: (board.folder / path).read_bytes() for path in ("terms.json", "public.json", "called.json")}

    def called(key=holder, number=1, **changes):
        terms = dataclasses.replace(board.read_terms(), **changes)
        scratch = Board(place.root / "scratch")
        scratch.write_terms(terms)
        write_signed(scratch.folder / "called.json", CALLED, Called(place.invitation.digest, number, terms.digest), key)
        return right | {path: (scratch.folder / path).read_bytes() for path in ("terms.json", "called.json")}

    roster = place.invitation.terms.roster
    for files, message in [
        (called(parties.hospital_key(place.root / "anna")), "not signed by the key"),
        (called(number=2), "is not of sum 2 of this run"),
        (called(key_bits=512), "is not of sum 2 of this run"),
        (called(roster=roster | {"anna": dataclasses.replace(roster["anna"], num_films=9)}), "is not of sum 2 of this run"),
        (called(subject=dataclasses.replace(board.read_terms().subject, what="update 9")), "called of something else than follows"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            anna.answer(COMMIT, files, 1)
        assert not anna.board(1).folder.exists()
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        anna.answer(COMMIT, right | {"terms.json": b"x"}, 1)
    anna.answer(COMMIT, right, 1)
    with pytest.raises(ArtifactError, match="the key holder called sum 2 twice, and anna takes part once"):
        anna.answer(COMMIT, right | {"called.json": b"{}"}, 1)
    for number in (0, 2):
        with pytest.raises(ArtifactError, match=f"asked to release sum {number + 1}, and anna is at sum 2"):
            anna.answer(RELEASE, {}, number)
    with pytest.raises(ArtifactError, match="with files that anna does not take for it"):
        anna.answer(RELEASE, right, 1)
    place.conduct()
    assert len(place.totals()[0]) == 3


def test_no_party_does_anything_for_a_sum_that_the_run_has_not(place):
    place.conduct()
    for name, phase in [("key-holder", CALL), ("key-holder", KEEP), ("anna", COMMIT), ("anna", KEEP)]:
        for number in (-1, 3):
            before = sorted((place.root / name).rglob("*"))
            with pytest.raises(ArtifactError, match="the server asked for another sum than the 3 of this run: nothing is done"):
                place.desks[name].answer(phase, {}, number)
            assert sorted((place.root / name).rglob("*")) == before


def test_a_hospital_that_was_killed_while_it_cleared_a_finished_sum_goes_on(place, monkeypatch):
    right = shutil.rmtree

    def killed(path, *arguments, **options):
        if Path(path).name != "1":
            return right(path, *arguments, **options)
        (path / "called.json").unlink()  # one file, and the power goes
        raise KeyboardInterrupt

    def at_anna(desk, files):
        if desk.party.name == "anna":
            monkeypatch.setattr(shutil, "rmtree", killed)
        return desk.answer(COMMIT, files, 2)

    with pytest.raises(KeyboardInterrupt):
        place.conduct(commit_2=at_anna)
    monkeypatch.setattr(shutil, "rmtree", right)
    place.conduct()
    assert len(place.totals()[0]) == 3 and not (place.desks["anna"].folder / "1").exists()


def test_a_sum_under_a_key_of_another_length_is_not_taken_part_in(place):
    def short(desk, files):
        real = desks.call_run
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(desks, "call_run", lambda board, wanted, *a, **k: shortened(board, real, wanted, *a, **k))
            return desk.answer(CALL, files, 1)

    def shortened(board, real, wanted, private_dir, **options):
        called = real(board, dataclasses.replace(wanted, key_bits=272), private_dir, **options)
        terms = dataclasses.replace(called, key_bits=256)
        board.write_terms(terms)
        return terms

    with pytest.raises(ArtifactError, match="sum 2 was called under a key of another length than all agreed to"):
        place.conduct(call_1=short)


def test_a_call_that_is_none_is_not_kept(place):
    with pytest.raises(ArtifactError, match="key-holder answered call with other files than"):
        place.conduct(call_1=lambda desk, files: {})
    with pytest.raises(ArtifactError):
        place.conduct(call_1=lambda desk, files: desk.answer(CALL, files, 1) | {"called.json": b"{}"})
    assert not (place.boards / "1").exists()
    place.conduct()
    assert len(place.totals()[0]) == 3


def test_an_invitation_to_a_federation_is_held_to_its_rules(place):
    tree = json.loads((place.root / "invitation/invitation.json").read_text())
    for plan, message in [
        ({"rounds": 0}, "plan.rounds"),
        ({"rounds": "2"}, "plan.rounds"),
        ({"bits": 40}, "plan.bits"),
        ({"epochs": None}, "plan.epochs"),
        (None, "this needs a run that sums for head"),
    ]:
        content = tree | {"plan": plan and tree["plan"] | plan}
        (place.root / "invitation/invitation.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=message):
            Invitation.read(place.root / "invitation")
    assert Party.load(place.root / "anna").card["num_train_films"] == place.invitation.terms.roster["anna"].num_films == 5
    place.invitation.write(place.root / "invitation", place.root / "network.keras")
    (place.root / "invitation/network.keras").write_bytes(b"other")
    with pytest.raises(ConfigError, match="is missing, or not the network that the invitation names"):
        Invitation.read(place.root / "invitation")
