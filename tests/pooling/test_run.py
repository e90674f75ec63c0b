"""A run of four hospitals, a server and a key holder, and what each of them refuses."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import add_ciphertexts, decrypt_batch, encrypt_batch
from ppdl.crypto.keys.keystore import load_private, private_path
from ppdl.crypto.keys.purpose import FEDERATION
from ppdl.errors import ArtifactError, ConfigError, CryptoError, DataError, KeyStoreError
from ppdl.pooling import opening
from ppdl.pooling.board import Board, read_rows, write_rows
from ppdl.pooling.contributions import record_contribution
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.opening import make_run_key, open_total, pin_terms
from ppdl.pooling.privacy.noise import Noise
from ppdl.pooling.privacy.promise import Privacy
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.server import add_contributions
from ppdl.pooling.statements import COMMITMENT, TALLY, Commitment, hash_rows, write_signed
from ppdl.pooling.subjects.base import Contribution
from ppdl.pooling.subjects.head import Films, HeadSums
from ppdl.pooling.sums import sums_of
from ppdl.pooling.terms import Member, Terms
from ppdl.private_head.head import load_head

NAMES, NUM_FILMS, NUM_FEATURES = ("anna", "berta", "clara", "dora"), 40, 4


class Run:
    """The parties of one run below a folder, and the films of each."""

    def __init__(self, root, project, names=NAMES, summing=None, **subject):
        self.root, self.board, self.holder = root, Board(root / "board"), root / "holder"
        fingerprint = make_run_key(self.board, self.holder, key_bits=256, allow_insecure_key=True, project=project)
        self.keys = {name: Ed25519PrivateKey.generate() for name in names}
        members = {name: Member(key.public_key().public_bytes_raw().hex(), NUM_FILMS) for name, key in self.keys.items()}
        values = {
            "class_names": ("healthy", "ill"),
            "num_features": NUM_FEATURES,
            "feature_bits": 12,
            "backbone_sha256": "0" * 64,
            "strengths": (0.01, 0.1),
            "accept_membership": False,
        }
        self.terms = Terms(fingerprint, 256, summing or HeadSums(**values | subject), members)
        pin_terms(self.holder, self.terms)
        rng = np.random.default_rng(5)
        self.films = {}
        for name in names:
            labels = rng.integers(0, 2, NUM_FILMS)
            features = np.clip(rng.normal(1000 + 1500 * labels[:, None], 300, (NUM_FILMS, NUM_FEATURES)), 0, 4095).astype(np.int64)
            self.films[name] = features, labels, [hashlib.sha256(row.tobytes() + name.encode()).digest() for row in features]

    def hospital(self, name):
        return Hospital(name, self.terms, self.board, self.root / "own" / name, self.keys[name])

    def brought(self, name):
        return Films(*self.films[name], np.arange(NUM_FILMS))

    def commit(self, names=NAMES):
        for name in names:
            self.hospital(name).commit(self.brought(name))

    def until_signed(self, came=NAMES):
        self.commit(self.terms.roster)
        for name in came:
            self.hospital(name).release()
        tally = add_contributions(self.board, self.terms)
        for name in came:
            self.hospital(name).countersign()
        return tally

    def open(self):
        return load_head(open_total(self.board, self.terms, self.holder, self.terms.subject.solver({"weights": "imagenet"})))

    def total(self, names=NAMES):
        features, labels = (np.concatenate([self.films[name][part] for name in names]) for part in (0, 1))
        return sums_of(features, labels, num_classes=2, feature_bits=12)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", tmp_path / "project")


def same(head, other):
    return head.weights.tolist() == other.weights.tolist() and head.bias.tolist() == other.bias.tolist()


def negated(run, name):
    """Encryptions of a hospital's sums times -1, from what it released."""
    key = run.board.public_key(run.terms)
    rows = read_rows(run.board.ciphertexts(name), run.terms, key)
    inverses = [pow(int.from_bytes(row.tobytes(), "big"), -1, key.n_squared) for row in rows]
    return np.stack([np.frombuffer(inverse.to_bytes(key.ciphertext_bytes, "big"), np.uint8) for inverse in inverses])


def test_the_head_is_that_of_all_films_together(run):
    run.until_signed()
    key = load_private(private_path(run.holder, run.terms.fingerprint), purpose=FEDERATION)
    opened = run.terms.packing.unpack(decrypt_batch(key, np.load(run.board.sum)), run.terms.num_sums)
    assert opened.tolist() == run.total().flat().tolist()
    expected, _ = fit_ridge(run.total(), run.terms.subject.strengths, class_names=run.terms.subject.class_names, backbone={})
    head = run.open()
    assert same(head, expected)
    features, labels, _ = run.films["anna"]
    assert (head.logits(head.quantise(features / 4095)).argmax(axis=1) == labels).mean() > 0.9


def test_the_key_is_gone_after_the_answer_and_the_answer_stays(run):
    run.until_signed()
    secret = private_path(run.holder, run.terms.fingerprint)
    parts = [json.loads(secret.read_text())[part].encode() for part in ("p", "q")]
    first = run.open()
    assert not secret.exists()
    for path in (path for path in run.root.rglob("*") if path.is_file()):
        assert not any(part in path.read_bytes() for part in parts), path
    assert same(run.open(), first)


def test_a_hospital_that_committed_may_stay_away(run):
    tally = run.until_signed(came=NAMES[1:])
    assert sorted(tally.contributors) == sorted(NAMES[1:])
    expected, _ = fit_ridge(run.total(NAMES[1:]), run.terms.subject.strengths, class_names=run.terms.subject.class_names, backbone={})
    assert same(run.open(), expected)


def test_every_step_may_be_done_again_and_changes_nothing(run):
    run.until_signed()
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    run.until_signed()
    assert before == {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}


def test_nothing_is_released_before_all_are_committed(run):
    run.commit(NAMES[:3])
    with pytest.raises(ArtifactError, match=r"dora\.json is missing"):
        run.hospital("anna").release()
    assert not (run.board.folder / "ciphertexts").exists()


def test_a_copied_commitment_is_refused(run):
    run.commit(NAMES[:3])
    sha256 = json.loads((run.board.commitments / "anna.json").read_text())["statement"]["ciphertexts_sha256"]
    copied = Commitment(run.terms.digest, "dora", sha256)
    write_signed(run.board.commitments / "dora.json", COMMITMENT, copied, run.keys["dora"])
    with pytest.raises(ArtifactError, match="dora and anna commit to the same ciphertexts"):
        run.hospital("anna").release()


def test_ciphertexts_that_were_not_committed_to_are_not_added(run):
    """Such as the negation of another hospital's, which only shows after all are committed."""
    run.commit()
    for name in NAMES[:3]:
        run.hospital(name).release()
    write_rows(run.board.ciphertexts("dora"), negated(run, "anna"))
    with pytest.raises(ArtifactError, match=r"dora\.npy holds other ciphertexts than were committed to"):
        add_contributions(run.board, run.terms)


def test_nobody_signs_when_a_commitment_was_replaced_after_the_release(run):
    """By one to what takes another hospital's sums out of the total, say."""
    run.commit()
    for name in NAMES[:3]:
        run.hospital(name).release()
    rows = negated(run, "anna")
    write_signed(run.board.commitments / "dora.json", COMMITMENT, Commitment(run.terms.digest, "dora", hash_rows(rows)), run.keys["dora"])
    write_rows(run.board.ciphertexts("dora"), rows)
    assert sorted(add_contributions(run.board, run.terms).contributors) == sorted(NAMES)
    for name in NAMES[:3]:
        for step in ("countersign", "release"):
            with pytest.raises(KeyStoreError, match=f"{name} released its ciphertexts on other commitments than the board has now"):
                getattr(run.hospital(name), step)()
    assert not run.board.tallies.exists()


def test_a_hospital_signs_one_tally_a_run_also_on_a_board_that_forgets(run):
    run.until_signed()
    shutil.rmtree(run.board.tallies)
    run.board.ciphertexts("dora").unlink()
    add_contributions(run.board, run.terms)
    with pytest.raises(KeyStoreError, match="anna signed another tally of this run before"):
        run.hospital("anna").countersign()


@pytest.mark.parametrize("change", ["drop", "stranger", "double", "replace", "reorder"])
def test_hospitals_sign_no_sum_but_that_of_the_contributors(run, change):
    run.commit()
    for name in NAMES:
        run.hospital(name).release()
    tally = add_contributions(run.board, run.terms)
    key, total = run.board.public_key(run.terms), np.load(run.board.sum)
    if change == "drop":
        del tally.contributors["dora"]
        wrong, rule = tally, "not that of the contributors"
    elif change == "double":
        double = add_ciphertexts(key, total, np.load(run.board.ciphertexts("dora")))
        wrong, rule = dataclasses.replace(tally, sum_sha256=hash_rows(double)), "not that of the contributors"
    elif change == "stranger":
        wrong, rule = dataclasses.replace(tally, contributors=tally.contributors | {"eva": tally.contributors["dora"]}), "not on the roster"
    elif change == "replace":
        other = encrypt_batch(key, [1] * len(total), build_obfuscators(key))
        wrong, rule = dataclasses.replace(tally, sum_sha256=hash_rows(other)), "not that of the contributors"
    else:
        wrong, rule = dataclasses.replace(tally, sum_sha256=hash_rows(total[::-1])), "not that of the contributors"
    run.board.write_tally(wrong)
    with pytest.raises(ArtifactError, match=rule):
        run.hospital("anna").countersign()
    assert not run.board.tallies.exists()


def test_statements_of_another_run_do_not_count(run, tmp_path):
    other = Run(tmp_path / "other", tmp_path / "project")
    other.keys = run.keys
    other.terms = dataclasses.replace(other.terms, roster=run.terms.roster)
    other.until_signed()
    run.until_signed()
    shutil.copy(other.board.tallies / "anna.json", run.board.tallies / "anna.json")
    with pytest.raises(ArtifactError, match=r"anna signed another tally"):
        run.open()
    shutil.copy(other.board.commitments / "anna.json", run.board.commitments / "anna.json")
    with pytest.raises(ArtifactError, match="is of another run"):
        run.open()
    shutil.copy(other.board.folder / "public.json", run.board.folder / "public.json")
    with pytest.raises(ArtifactError, match="is not the key of the run"):
        run.board.public_key(run.terms)
    assert not (run.holder / f"{run.terms.fingerprint}.opening.json").exists()  # nothing was used up


def test_nothing_is_opened_that_a_contributor_did_not_sign(run):
    run.until_signed()
    (run.board.tallies / "dora.json").unlink()
    with pytest.raises(ArtifactError, match=r"dora\.json is missing"):
        run.open()
    write_signed(run.board.tallies / "dora.json", TALLY, run.board.read_tally(), run.keys["anna"])
    with pytest.raises(ArtifactError, match="not signed by the key"):
        run.open()


def test_nothing_is_opened_on_terms_that_the_key_holder_did_not_call(run, tmp_path):
    """Three invented hospitals would sign a total of one real hospital's sums and of theirs, and so open hers."""
    run.commit()
    for name in NAMES:
        run.hospital(name).release()
    key, forged = run.board.public_key(run.terms), Run(tmp_path / "forged", tmp_path / "project")
    shutil.copy(run.board.folder / "public.json", forged.board.folder)
    forged.terms = dataclasses.replace(run.terms, roster=forged.terms.roster)
    rows = {name: encrypt_batch(key, run.terms.packing.pack(run.total([name]).flat()), build_obfuscators(key)) for name in NAMES[1:]}
    for name, own in (rows | {"anna": read_rows(run.board.ciphertexts("anna"), run.terms, key)}).items():
        write_rows(forged.board.ciphertexts(name), own)
        commitment = Commitment(forged.terms.digest, name, hash_rows(own))
        write_signed(forged.board.commitments / f"{name}.json", COMMITMENT, commitment, forged.keys[name])
    tally = add_contributions(forged.board, forged.terms)
    for name in NAMES:
        write_signed(forged.board.tallies / f"{name}.json", TALLY, tally, forged.keys[name])
    with pytest.raises(KeyStoreError, match=r"terms\.json names another digest: the key holder called no run on these terms"):
        open_total(forged.board, forged.terms, run.holder, forged.terms.subject.solver({}))
    (run.holder / f"{run.terms.fingerprint}.terms.json").unlink()  # as an older version left it
    with pytest.raises(KeyStoreError, match=r"terms\.json is missing: .*`dvc repro --force --single-item pool@NAME`"):
        open_total(run.board, run.terms, run.holder, run.terms.subject.solver({}))
    assert not (run.holder / f"{run.terms.fingerprint}.opening.json").exists()  # nothing was used up


def test_two_contributors_are_too_few(run):
    run.commit()
    for name in NAMES[:2]:
        run.hospital(name).release()
    with pytest.raises(ArtifactError, match="a total of fewer than 3 is never opened"):
        add_contributions(run.board, run.terms)


def test_a_key_opens_one_tally_whatever_came_of_it(run):
    """Another tally, although all its contributors signed it, is refused after a kill in the middle as well."""
    run.until_signed()
    record = run.holder / f"{run.terms.fingerprint}.opening.json"
    assert opening._begin(record, dataclasses.replace(run.board.read_tally(), sum_sha256="0" * 64)) is None  # killed after this
    with pytest.raises(KeyStoreError, match="opened another tally, and it opens one"):
        run.open()


def test_an_opening_that_was_killed_goes_on(run, monkeypatch):
    run.until_signed()
    with monkeypatch.context() as patch:
        patch.setattr(opening, "decrypt_batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.open()
    expected, _ = fit_ridge(run.total(), run.terms.subject.strengths, class_names=run.terms.subject.class_names, backbone={})
    assert same(run.open(), expected)


def test_the_head_is_on_the_disk_before_the_record_says_so_and_the_key_goes(run, monkeypatch):
    """So that a power cut cannot leave neither, nor bring the key back."""
    run.until_signed()
    done, replace_private = [], opening.replace_private
    secret = private_path(run.holder, run.terms.fingerprint)
    monkeypatch.setattr(opening, "sync", lambda path: done.append((path.name, secret.exists()) if path == run.holder else path.name))
    monkeypatch.setattr(opening, "replace_private", lambda *a: (done.append("record"), replace_private(*a)))
    run.open()
    assert done == [*sorted(done[:2]), f"{run.terms.fingerprint}.answer", ("holder", True), "record", ("holder", False)]
    assert {"head.json"} < set(done[:2])


@pytest.mark.parametrize("wrong", ["a count", "a slot that overflows"])
def test_a_total_of_no_films_uses_the_run_up_and_all_get_the_same_bit(run, wrong):
    """A hospital that lies about its sums: what was wrong with them is told to nobody."""
    run.commit(NAMES[:3])
    key, liar = run.board.public_key(run.terms), run.hospital("dora")
    flat = run.total(["dora"]).flat()
    if wrong == "a count":
        flat[0] += 1
    plaintexts = run.terms.packing.pack(flat)
    if wrong == "a slot that overflows":
        plaintexts[0] += 2 ** (run.terms.packing.slot_bits * run.terms.packing.values_per_plaintext)
    liar.private_dir.mkdir(parents=True, mode=0o700)
    write_rows(liar._own, encrypt_batch(key, plaintexts, build_obfuscators(key)))
    run.until_signed()
    messages = set()
    for _ in range(2):
        with pytest.raises(DataError) as error:
            run.open()
        messages.add(str(error.value))
    assert messages == {opening.REFUSED}
    assert not private_path(run.holder, run.terms.fingerprint).exists()


def test_a_hospital_contributes_as_many_films_as_it_declared_once(run):
    features, labels, films = run.films["anna"]
    with pytest.raises(DataError, match=r"labels must lie in \[0, 2\), got 0 to 2"):
        run.hospital("anna").commit(Films(features, labels * 2, films))
    with pytest.raises(DataError, match="anna declared 40 films and brings 39"):
        run.hospital("anna").commit(Films(features[1:], labels[1:], films[1:]))
    with pytest.raises(ConfigError, match="anna brings 3 features a film, and the terms say 4"):
        run.hospital("anna").commit(Films(features[:, 1:], labels, films))
    run.commit()
    run.hospital("anna")._own.unlink()
    with pytest.raises(ArtifactError, match="anna contributes once a run"):
        run.hospital("anna").commit(Films(features, labels, films))


def test_the_ledger_declines_what_differs_by_a_few_films(run, tmp_path):
    run.commit()
    later = Run(tmp_path / "later", tmp_path / "project")
    later.root = run.root  # the same hospitals, with their folders
    features, labels, films = run.films["anna"]
    later.hospital("anna").commit(Films(features, labels, films))  # the same films: no difference tells anything
    corrected, twice = np.array([1 - labels[0], *labels[1:]]), [*range(NUM_FILMS), 1]
    for changed in (
        (features, labels, [b"new", *films[1:]], 2),
        (features[twice], labels[twice], [films[i] for i in twice], 1),
        (features, corrected, films, 1),
        (features[1:], labels[1:], films[1:], 1),
    ):
        *own, differ = changed
        members = {name: dataclasses.replace(member, num_films=len(own[0])) for name, member in later.terms.roster.items()}
        later.terms = dataclasses.replace(later.terms, roster=members)
        with pytest.raises(KeyStoreError, match=rf"other films or labels before, and {differ} differ: .*must be over 64 films"):
            later.hospital("anna").commit(Films(*own))
    renamed = Contribution(films[1:], [("healthy", "sick")[label] for label in labels[1:]], 64)
    with pytest.raises(KeyStoreError, match="and 1 differ"):  # of the films, and of the labels many
        record_contribution(run.root / "own/anna", "anna", later.terms.digest, renamed)
    ledger = run.root / "own/anna/anna.contributions.json"
    assert ledger.stat().st_mode & 0o077 == 0
    assert not any(film.hex() in ledger.read_text() for film in films)
    ledger.write_text(ledger.read_text().replace("contributions v2", "contributions v1"))
    with pytest.raises(KeyStoreError, match=r"is no ledger in the format .*One of an older version has no labels .*: move it away"):
        later.hospital("anna").commit(Films(*own))
    ledger.write_text("{}")
    with pytest.raises(KeyStoreError, match="is no ledger in the format"):
        later.hospital("anna").commit(Films(*own))


def test_bad_terms_are_refused(run, tmp_path):
    terms, roster = run.terms, run.terms.roster
    first, wider = roster["anna"], dataclasses.replace(terms.subject, num_features=11)
    for change, rule in (
        ({"roster": dict(list(roster.items())[:2])}, "at least 3 hospitals"),
        ({"roster": roster | {"dora": first}}, "signs with a key of its own"),
        ({"roster": roster | {"dora": dataclasses.replace(roster["dora"], num_films=0)}}, "hospital dora declares no film"),
        ({"roster": roster | {"../x": dataclasses.replace(first, signing_key="1")}}, "the name of a hospital must be"),
        (
            {"subject": wider},
            r"160 films are summed over 11 features, and below 16 films a feature \(176\)",
        ),
        ({"subject": dataclasses.replace(terms.subject, feature_bits=30)}, "slot_bits must be 2 to 63, got 68"),
    ):
        with pytest.raises(ConfigError, match=rule):
            dataclasses.replace(terms, **change)
    assert dataclasses.replace(wider, accept_membership=True).num_sums == 2 * 12 + 66
    assert Terms.from_tree(terms.tree).digest == terms.digest
    run.board.write_terms(terms)
    assert run.board.read_terms().digest == terms.digest
    for wrong in ({"roster": 3}, {"subject": {"kind": "guess"}}, {"subject": {"kind": "mean"}}, {"subject": 3}, {"key_bits": None}):
        with pytest.raises(ConfigError, match="these are no terms of a run"):
            Terms.from_tree(terms.tree | wrong)
    with pytest.raises(ConfigError, match="the roster does not name anna with the key that it signs with"):
        Hospital("anna", terms, run.board, tmp_path, run.keys["dora"])


def test_the_private_key_of_a_run_stays_out_of_the_project(tmp_path):
    with pytest.raises(KeyStoreError, match="private keys must not lie inside the project"):
        Run(tmp_path / "project/run", tmp_path / "project")
    assert not list(tmp_path.rglob("*.json"))


def test_a_passphrase_protects_the_private_key_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "right")
    run = Run(tmp_path / "run", tmp_path / "project")
    assert "p" not in json.loads(private_path(run.holder, run.terms.fingerprint).read_text())
    run.until_signed()
    monkeypatch.delenv("PPDL_PRIVATE_KEY_PASSPHRASE")
    with pytest.raises(KeyStoreError, match="passphrase"):
        run.open()
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "right")
    assert run.open().num_features == NUM_FEATURES


def test_so_few_films_may_be_left_that_nothing_is_added(run):
    run.terms = dataclasses.replace(run.terms, subject=dataclasses.replace(run.terms.subject, num_features=9))
    for name in NAMES:
        features, labels, films = run.films[name]
        run.films[name] = np.tile(features, 3)[:, :9], labels, films
        run.hospital(name).commit(Films(*run.films[name]))
    for name in NAMES[:3]:
        run.hospital(name).release()
    with pytest.raises(ConfigError, match="120 films are summed over 9 features"):
        add_contributions(run.board, run.terms)


def test_released_rows_must_be_ciphertexts_of_the_key(run):
    key = run.board.public_key(run.terms)
    shape = run.terms.packing.num_plaintexts(run.terms.num_sums), key.ciphertext_bytes
    for rows, error, rule in (
        (np.zeros((shape[0] + 1, shape[1]), np.uint8), ArtifactError, "must hold ciphertexts uint8"),
        (np.full(shape, 255, np.uint8), CryptoError, "row 0|ciphertext"),
    ):
        write_rows(run.board.ciphertexts("anna"), rows)
        with pytest.raises(error, match=rule):
            add_ciphertexts(key, read_rows(run.board.ciphertexts("anna"), run.terms, key))
    run.board.ciphertexts("anna").write_bytes(b"\x93NUMPY")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_rows(run.board.ciphertexts("anna"), run.terms, key)


PROMISE = Privacy(epsilon=8.0, delta=1e-6, colluders=1, films_per_patient=1, clip=1.0)


def with_promise(terms, promise):
    return dataclasses.replace(terms, subject=dataclasses.replace(terms.subject, privacy=promise))


@pytest.fixture
def private_run(tmp_path):
    pytest.importorskip("opendp", reason="the extra `privacy` is not installed")
    return Run(tmp_path / "run", tmp_path / "project", privacy=PROMISE)


def test_a_total_with_noise_is_that_of_all_films_and_draws(private_run, monkeypatch):
    drawn, draw = [], Noise.draw
    monkeypatch.setattr(Noise, "draw", lambda noise: drawn.append(draw(noise)) or drawn[-1])
    private_run.until_signed()
    noise = private_run.terms.subject.noise(4)
    clear = sum(noise.sums(*private_run.films[name][:2]) for name in NAMES)
    wanted = noise.opened(clear + sum(drawn), NUM_FILMS * 4, 4)
    assert len(drawn) == 4 and np.abs(drawn).min(axis=0).any()
    assert same(private_run.open(), fit_ridge(wanted, private_run.terms.subject.strengths, class_names=("healthy", "ill"), backbone={})[0])


def test_noise_is_drawn_once_a_run(private_run):
    private_run.commit()
    board = {path: path.read_bytes() for path in private_run.board.commitments.iterdir()}
    private_run.commit()
    assert board == {path: path.read_bytes() for path in private_run.board.commitments.iterdir()}


def test_one_hospital_may_stay_away_where_its_noise_is_not_needed(private_run):
    private_run.until_signed(NAMES[1:])
    assert private_run.open().num_features == NUM_FEATURES


def test_no_total_lacks_noise(private_run, tmp_path):
    strict = Run(tmp_path / "strict", tmp_path / "project", privacy=dataclasses.replace(PROMISE, colluders=0))
    with pytest.raises(ConfigError, match="3 hospitals add noise, and the privacy of this run needs that of 4"):
        strict.until_signed(NAMES[1:])


def test_parties_that_agreed_to_another_promise_are_refused(private_run):
    other = with_promise(private_run.terms, dataclasses.replace(PROMISE, epsilon=8.5))
    assert Terms.from_tree(private_run.terms.tree).digest == private_run.terms.digest != other.digest
    private_run.commit(NAMES[1:])
    dataclasses.replace(private_run.hospital("anna"), terms=other).commit(Films(*private_run.films["anna"], np.arange(NUM_FILMS)))
    with pytest.raises(ArtifactError, match=r"anna.json"):
        private_run.hospital("berta").release()


def test_films_of_a_patient_beyond_those_that_count_are_refused(private_run):
    groups = np.r_[0, np.arange(NUM_FILMS - 1)]
    for wrong in (None, groups):
        with pytest.raises(DataError, match=r"anna must leave out films of patients with more than privacy.films_per_patient=1"):
            private_run.hospital("anna").commit(Films(*private_run.films["anna"], wrong))
    assert not list(private_run.board.commitments.glob("*"))


def test_a_promise_that_cannot_be_kept_makes_no_terms(private_run):
    with pytest.raises(ConfigError, match=r"privacy.colluders must be below the number of hospitals, 4"):
        with_promise(private_run.terms, dataclasses.replace(PROMISE, colluders=4))
