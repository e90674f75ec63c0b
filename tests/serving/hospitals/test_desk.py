"""The parties of a run over a network, without the network: what each does when asked, and what it takes from nobody."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keystore import private_path
from ppdl.errors import ArtifactError, ConfigError, DataError, KeyStoreError
from ppdl.pooling.board import Board
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.statements import OPENED, Opened, write_signed
from ppdl.pooling.sums import sums_of
from ppdl.private_head.head import backbone_facts, load_head
from ppdl.serving.hospitals import invitation as invitations
from ppdl.serving.hospitals import party as parties
from ppdl.serving.hospitals.conduct import conduct
from ppdl.serving.hospitals.course import HeadCourse
from ppdl.serving.hospitals.desk import _SUITE, COMMIT, COUNTERSIGN, KEEP, OPEN, OPENED_FILE, RELEASE, Desk
from ppdl.serving.hospitals.invitation import Invitation, check_certificate
from ppdl.serving.hospitals.party import Party, make_party, read_card, split_address
from tests.pooling.test_rehearsal import NAMES, NUM_FILMS, films

CLASSES, SOFTWARE = ["healthy", "ill"], {"ppdl-paillier": "1", "flwr": "2"}
RULES = {"key_bits": 256, "num_features": 4, "feature_bits": 12, "strengths": [0.1], "accept_membership": False}


@pytest.fixture(autouse=True)
def software(monkeypatch):
    """Versions of an environment that has Flower."""
    for module in (invitations, parties):
        monkeypatch.setattr(module, "software", lambda: dict(SOFTWARE))


class Place:
    """Folders of five parties who agreed to one run."""

    def __init__(self, root):
        self.root, self.asked = root, []
        self.make("server", address="127.0.0.1:9443")
        for name in NAMES:
            self.make("hospital", name, num_films=NUM_FILMS, num_train_films=NUM_FILMS, class_names=CLASSES)
        self.make("key-holder")
        self.invitation = self.call()
        for name in ("server", *NAMES):
            self.party(name).agree(root / "invitation")
        self.desks = {name: self.desk(name) for name in (*NAMES, "key-holder")}

    def make(self, role, name=None, **card):
        return make_party(self.root / (name or role), {"role": role, "name": name or role, **card}, self.root / "project")

    def party(self, name):
        return Party.load(self.root / name)

    def call(self, cards=("server", *NAMES), **rules):
        (self.root / "backbone.keras").write_bytes(b"public")
        backbone = backbone_facts({"weights": "filters", "input_px": 64}, 128, hash_file(self.root / "backbone.keras"))
        cards = [read_card(self.root / name / "card.json") for name in cards]
        holder = self.party("key-holder")
        found = holder.call(cards, backbone, RULES | rules, allow_insecure_key=True, project=self.root / "project")
        found.write(self.root / "invitation", self.root / "backbone.keras")
        return holder.agree(self.root / "invitation")

    def desk(self, name):
        return self.desk_of(name, films().get(name))

    def desk_of(self, name, own):
        party = self.party(name)
        course = HeadCourse(self.invitation, party.run_folder(self.invitation), lambda: own)
        return Desk(party, self.invitation, course, self.root / "project")

    @property
    def board(self):
        return Board(self.party("server").run_folder(self.invitation) / "board/0")

    def conduct(self, **instead):
        """Have the run done; `instead`: by phase, a function of (desk, files) that answers in a desk's place."""

        def ask(phase, files, may_stay_away, number):
            for name, brought in files.items():
                self.asked.append((phase, name))
                yield name, instead.get(phase, lambda desk, files: desk.answer(phase, files, number))(self.desks[name], brought)

        conduct(self.board.folder.parent, self.invitation, ask)

    def heads(self):
        folders = [self.party(name).run_folder(self.invitation) / "head" for name in (*NAMES, "key-holder")]
        return [folder for folder in folders if (folder / "head.json").exists()]

    @classmethod
    def agreed(cls, root):
        """Make the folders below `root`, and return where they lie."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (invitations, parties):
                patch.setattr(module, "software", lambda: dict(SOFTWARE))
            return cls(root / "place").root

    @classmethod
    def copied(cls, agreed, root):
        """Copy folders that `agreed` made."""
        found = object.__new__(cls)
        found.root, found.asked = shutil.copytree(agreed, root / "place", symlinks=True), []
        found.invitation = Invitation.read(found.root / "invitation")
        return found


@pytest.fixture(scope="module")
def agreed(tmp_path_factory):
    return Place.agreed(tmp_path_factory.mktemp("agreed"))


@pytest.fixture
def place(agreed, tmp_path):
    found = Place.copied(agreed, tmp_path)
    found.desks = {name: found.desk(name) for name in (*NAMES, "key-holder")}
    return found


def test_all_have_the_head_of_all_films_together_and_a_second_call_asks_nobody(place):
    place.conduct()
    features, labels = (np.concatenate([getattr(own, part) for own in films().values()]) for part in ("features", "labels"))
    expected, _ = fit_ridge(sums_of(features, labels, num_classes=2, feature_bits=12), (0.1,), class_names=CLASSES, backbone={})
    heads = [load_head(folder) for folder in place.heads()]
    assert len(heads) == 4 and len({hash_file(folder / "head.json") for folder in place.heads()}) == 1
    assert all(np.array_equal(head.weights, expected.weights) and np.array_equal(head.bias, expected.bias) for head in heads)
    assert all((folder / "backbone.keras").read_bytes() == b"public" for folder in place.heads())
    assert not private_path(place.root / "key-holder", place.invitation.terms.fingerprint).exists()
    phases = [(COMMIT, NAMES), (RELEASE, NAMES), (COUNTERSIGN, NAMES), (OPEN, ("key-holder",)), (KEEP, (*NAMES, "key-holder"))]
    assert place.asked == [(phase, name) for phase, names in phases for name in names]
    place.asked.clear()
    place.conduct()
    assert place.asked == []


@pytest.mark.parametrize("phase", [COMMIT, RELEASE, COUNTERSIGN, OPEN, KEEP])
def test_a_server_that_was_killed_asks_again_for_what_its_board_lacks(place, phase):
    def killed(desk, files):
        desk.answer(phase, files)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.conduct(**{phase: killed})
    place.desks = {name: place.desk(name) for name in place.desks}  # and all others were, too
    place.conduct()
    assert len(place.heads()) == 4
    assert len(place.asked) == len(set(place.asked)) + 1  # what was answered and not received


@pytest.mark.parametrize(
    ("name", "phase", "files"),
    [
        ("anna", OPEN, {}),
        ("key-holder", COMMIT, {}),
        ("key-holder", RELEASE, {}),
        ("anna", "answer", {}),
        ("anna", RELEASE, {"../card.json": b""}),
        ("anna", RELEASE, {"terms.json": b""}),
        ("anna", RELEASE, {"public.json": b""}),
        ("anna", RELEASE, {"commitments/dora.json": b""}),
        ("anna", COUNTERSIGN, {"tallies/anna.json": b""}),
        ("anna", COMMIT, {"commitments/berta.json": b""}),
        ("key-holder", KEEP, {"head/backbone.keras": b""}),
        ("anna", KEEP, {"sealed/berta/head.json": b""}),
        ("key-holder", KEEP, {"sealed/anna/head.json": b""}),
    ],
)
def test_a_party_takes_no_phase_and_no_file_that_is_not_its_own(place, name, phase, files):
    before = {path: path.stat().st_mtime_ns for path in (place.root / name).rglob("*")}
    with pytest.raises(ArtifactError, match=f"the server asked for '{phase}' with files that {name} does not take for it"):
        place.desks[name].answer(phase, files)
    assert {path: path.stat().st_mtime_ns for path in (place.root / name).rglob("*")} == before


def test_a_head_is_made_of_one_sum_whatever_the_server_asks_for_then(place):
    place.conduct()
    for name, phase in [("key-holder", "call"), ("anna", COMMIT), ("anna", KEEP)]:
        with pytest.raises(ArtifactError, match="the server asked for another sum than the 1 of this run: nothing is done"):
            place.desks[name].answer(phase, {}, 1)


def test_the_server_cannot_replace_what_a_hospital_has_committed_to(place):
    own = place.desks["anna"].answer(COMMIT, {})["commitments/anna.json"]
    others = {path: content for name in NAMES[1:] for path, content in place.desks[name].answer(COMMIT, {}).items()}
    place.desks["anna"].answer(RELEASE, others | {"commitments/anna.json": b"{}"})
    assert (place.desks["anna"].board(0).commitments / "anna.json").read_bytes() == own


def test_a_head_that_the_key_holder_did_not_sign_is_kept_by_nobody(place):
    """Anybody can seal for a hospital."""

    def of_somebody_else(desk, files):
        load_head(place.desks["key-holder"].board(0).folder / "answer").save(place.root / "other")
        tree = json.loads((place.root / "other/head.json").read_text())
        other = json.dumps(tree | {"temperature": 2.0}).encode()
        key = X25519PublicKey.from_public_bytes(bytes.fromhex(place.invitation.sealing_keys["anna"]))
        path = "sealed/anna/head.json"
        info = f"PPDL-POOL/1 {place.invitation.digest} 0 {path}".encode()
        return desk.answer(KEEP, files | {path: _SUITE.encrypt(other, key, info)})

    with pytest.raises(ArtifactError, match="is not what the key holder signed in this run: nothing is kept of it"):
        place.conduct(keep=of_somebody_else)
    assert place.heads() == []

    def exchanged(desk, files):
        return desk.answer(KEEP, files | {"sealed/anna/head.npz": (place.board.folder / "sealed/berta/head.npz").read_bytes()})

    with pytest.raises(ArtifactError, match="was not sealed for this party in this run"):
        place.conduct(keep=exchanged)

    def signed_by_a_hospital(desk, files):
        path = place.root / "opened.json"
        statement = Opened(place.invitation.terms.digest, hash_file(desk.board(0).folder / "answer/head.json"))
        write_signed(path, OPENED, statement, parties.hospital_key(place.root / "anna"))
        return desk.answer(OPEN, files) | {OPENED_FILE: path.read_bytes()}

    (place.board.folder / OPENED_FILE).unlink()
    with pytest.raises(ArtifactError, match="not signed by the key"):
        place.conduct(open=signed_by_a_hospital)


def test_the_server_carries_the_head_and_does_not_have_it(place):
    place.conduct()
    for part in ("head.npz", "head.json"):
        content = (place.heads()[0] / part).read_bytes()
        files = [path for path in (place.root / "server").rglob("*") if path.is_file()]
        assert files and not [path for path in files if content in path.read_bytes()]


@pytest.mark.parametrize(
    ("phase", "answer", "message"),
    [
        (COMMIT, {}, "anna answered commit with other files than commitments/anna.json: call a new run"),
        (COMMIT, {"commitments/berta.json": b""}, "anna answered commit with other files"),
        (COMMIT, {"commitments/anna.json": b"x"}, "cannot be read as JSON"),
        (RELEASE, {"ciphertexts/anna.npy": b"x"}, "cannot be read .ValueError"),
        (COUNTERSIGN, {"tallies/anna.json": b"{}"}, "is no signed tally"),
        (OPEN, {OPENED_FILE: b"{}"}, "key-holder answered open with other files than what it sealed"),
        (KEEP, {}, "anna keeps another head"),
    ],
)
def test_an_answer_that_is_none_ends_the_run_and_is_not_kept(place, phase, answer, message):
    with pytest.raises(ArtifactError, match=message):
        place.conduct(**{phase: lambda desk, files: answer})
    assert not any((place.board.folder / path).exists() for path in answer)
    assert not list(place.board.folder.rglob(".*"))


def test_a_hospital_that_stays_away_after_all_committed_is_left_out(tmp_path):
    place = object.__new__(Place)
    place.root, place.asked = tmp_path, []
    place.make("server", address="127.0.0.1:9443")
    for name in (*NAMES, "dora"):
        place.make("hospital", name, num_films=NUM_FILMS, num_train_films=NUM_FILMS, class_names=CLASSES)
    place.make("key-holder")
    place.invitation = place.call(("server", *NAMES, "dora"))
    for name in ("server", *NAMES, "dora"):
        place.party(name).agree(tmp_path / "invitation")
    own = films() | {"dora": dataclasses.replace(films()["anna"], labels=films()["anna"].labels[::-1])}
    desks = {name: place.desk_of(name, own.get(name)) for name in (*own, "key-holder")}

    class Killed(Exception):
        pass

    def ask(phase, files, may_stay_away, number, *, alive):
        for name, brought in files.items():
            if name != "dora" or not may_stay_away or alive:
                yield name, desks[name].answer(phase, brought)
                if phase == COUNTERSIGN and not alive:
                    raise Killed

    with pytest.raises(Killed):
        conduct(place.board.folder.parent, place.invitation, partial(ask, alive=False))
    conduct(place.board.folder.parent, place.invitation, partial(ask, alive=True))  # dora is back: hospitals have signed a sum without her
    assert sorted(place.board.read_tally().contributors) == list(NAMES) and len(place.heads()) == 4


def change(place, name, **parts):
    """Have a party read an invitation with other parts."""
    tree = json.loads((place.root / "invitation/invitation.json").read_text())
    (place.root / "invitation/invitation.json").write_text(json.dumps(tree | parts))
    return place.party(name).agree(place.root / "invitation")


def test_an_invitation_is_held_to_what_the_party_is(place):
    tree = place.invitation.tree
    for parts, message in [
        (
            {"software": SOFTWARE | {"flwr": "3"}},
            "for ppdl-paillier 1, flwr 3, and here is ppdl-paillier 1, flwr 2: install what it names",
        ),
        ({"node_keys": tree["node_keys"] | {"anna": tree["node_keys"]["berta"]}}, "must have a node key of its own"),
        ({"sealing_keys": {}}, "each hospital of the roster must have a key that the head is sealed for"),
        ({"sealing_keys": tree["sealing_keys"] | {"anna": "0"}}, "is not for anna as"),
        ({"node_keys": {}}, "each hospital of the roster and the key holder must have a node key"),
        ({"model": {"sha256": "0"}}, "key, backbone and terms are of different runs"),
        ({"public_key": {"kty": "x"}}, "a public Paillier key has"),
        ({"certificate": "x"}, "the server's certificate is none in PEM"),
        ({"more": 1}, "is no invitation"),
        ({"terms": {}}, "these are no terms of a run"),
    ]:
        with pytest.raises(ConfigError, match=message):
            change(place, "anna", **parts)
        place.invitation.write(place.root / "invitation", place.root / "backbone.keras")
    roster = tree["terms"]["roster"]
    other = {**tree["terms"], "roster": roster | {"anna": roster["anna"] | {"num_films": 33}}}
    for name in ("anna", "key-holder"):
        with pytest.raises((ConfigError, KeyStoreError), match=r"is not for anna as|names another digest"):
            change(place, name, terms=other)
    with pytest.raises(ConfigError, match="is not for server as"):
        change(place, "server", address="127.0.0.1:1")
    (place.root / "invitation/backbone.keras").write_bytes(b"other")
    with pytest.raises(ConfigError, match="is missing, or not the backbone that the invitation names"):
        place.party("anna").agree(place.root / "invitation")


def test_a_run_that_was_not_agreed_to_or_was_changed_since_is_not_begun(place):
    assert place.party("anna").agreed().digest == place.invitation.digest
    path = place.party("anna").run_folder(place.invitation) / "invitation.json"
    path.write_text(path.read_text().replace('"strengths": [\n    0.1', '"strengths": [\n    0.2'))
    with pytest.raises(ConfigError, match="holds another invitation than anna agreed to"):
        place.party("anna").agreed()
    (place.root / "berta/agreed.json").unlink()
    with pytest.raises(ConfigError, match="agree to an invitation first"):
        place.party("berta").agreed()
    with place.party("anna").alone(), pytest.raises(ConfigError, match="another process works for anna"), place.party("anna").alone():
        pass


def test_no_key_is_made_where_flower_is_missing(place, monkeypatch):
    def missing():
        raise ConfigError("this needs flwr")

    before = sorted((place.root / "key-holder").rglob("*"))
    monkeypatch.setattr(parties, "software", missing)
    with pytest.raises(ConfigError, match="this needs flwr"):
        place.call()
    assert sorted((place.root / "key-holder").rglob("*")) == before


def test_a_certificate_is_valid_today_or_named(place):
    check_certificate(place.invitation.certificate)
    make_party(place.root / "late", {"role": "server", "name": "server", "address": "a.example:1"}, place.root / "project", days=-1 / 48)
    with pytest.raises(ConfigError, match=r"valid from \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d, not today: it must be made anew"):
        check_certificate(read_card(place.root / "late/card.json")["certificate"])


def test_a_party_is_made_once_outside_of_the_project_and_closed_to_others(place):
    with pytest.raises(ConfigError, match="is a party's folder already, and its keys are kept"):
        place.make("key-holder")
    for name in ("Anna", "server", "key-holder", ""):
        with pytest.raises(ConfigError, match="the name of a hospital must be"):
            make_party(place.root / "x", {"role": "hospital", "name": name}, place.root / "project")
    with pytest.raises(KeyStoreError, match="private keys must not lie inside the project"):
        make_party(place.root / "project/x", {"role": "key-holder", "name": "key-holder"}, place.root / "project")
    assert not (place.root / "x").exists()
    for name in ("anna", "key-holder"):
        secret = [path for path in (place.root / name).glob("*") if path.suffix == ".key" or path.name.startswith("signing-")]
        assert len(secret) == (3 if name == "anna" else 2) and {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    (place.root / "anna/node.key").write_text("x")
    with pytest.raises(KeyStoreError, match="holds no private key"):
        place.party("anna").key("node")
    (place.root / "anna").chmod(0o755)
    with pytest.raises(KeyStoreError, match="must be closed to others"):
        place.party("anna")


def test_a_run_needs_cards_of_one_server_and_of_each_hospital_once(place):
    for cards in (NAMES, ("server", "anna", "anna", "berta", "clara"), ("server", *NAMES, "key-holder")):
        with pytest.raises(ConfigError, match="a run needs the cards of one server and of each hospital, once"):
            place.call(cards)
    with pytest.raises(ConfigError, match="a run needs at least 3 hospitals"):
        place.call(("server", "anna", "berta"))
    with pytest.raises(ConfigError, match="96 films are summed over 9 features"):
        place.call(num_features=9)
    assert len(list((place.root / "key-holder").glob("*.terms.json"))) == 1  # no key was made for these
    card = {"format": "ppdl card v2", **read_card(place.root / "anna/card.json")}
    for key, value in (("node_key", None), ("num_films", "40"), ("num_films", True), ("class_names", "COVID"), ("role", ["hospital"])):
        (place.root / "card.json").write_text(json.dumps(card | {key: value}))
        with pytest.raises(ConfigError, match=f"card.json is no party's card: its {key} is missing, or no "):
            read_card(place.root / "card.json")


@pytest.mark.parametrize("address", ["", "x", "x:", ":1", "x:0", "x:65536", "x:-1"])
def test_an_address_is_a_host_and_a_port(address):
    with pytest.raises(ConfigError, match="an address is HOST:PORT"):
        split_address(address)
    assert split_address("[::1]:9443") == ("::1", 9443)


def test_the_key_holder_refuses_a_second_total_over_the_network_too(place):
    with pytest.raises(KeyError):
        place.conduct(keep=lambda desk, files: {}["killed"])
    tally = json.loads((place.board.folder / "tally.json").read_text())
    tally["contributors"].pop("anna")
    files = {"tally.json": json.dumps(tally).encode()}
    with pytest.raises((ArtifactError, DataError), match="2 contributors, and a total of fewer than 3 is never opened"):
        place.desks["key-holder"].answer(OPEN, files)
