"""The ledger: what was revealed under a key counts for ever, in every process, and nobody else writes to it."""

from __future__ import annotations

import json
import multiprocessing
import stat
from dataclasses import replace

import numpy as np
import pytest

from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.steps import ledger as module
from ppdl.protections.steps import reveal as reveal_module
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.ledger import open_ledger, outputs_on
from ppdl.protections.steps.stem import Stem
from tests.protections.conftest import DCT, MEAN

KEY = "0" * 64
APPROVED = (Filters(**DCT),)


def explicit(*rows):
    return {"filters": [list(row) for row in rows], "channels": len(rows), "weight_bits": 4}


COARSE = explicit(*np.random.default_rng(1).integers(-3, 4, (3, 16)).tolist())
DIFFERENCES = explicit((1, -1, 0, 0), (0, 1, -1, 0), (0, 0, 1, -1))
PIXELS = explicit((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))
PAIRED = np.kron(np.eye(8, dtype=int), [1, 256]).tolist()
PAIRS = [explicit(*PAIRED[:3]), explicit(*PAIRED[3:6]), explicit(*PAIRED[6:])]


@pytest.fixture
def admit(tmp_path):
    def admit(outputs, approved=APPROVED):
        with open_ledger(tmp_path / "private", KEY, project=tmp_path / "project") as ledger:
            return ledger.admit(outputs, approved)

    admit.path = tmp_path / f"private/{KEY}.ledger.json"
    return admit


def outputs(filters=DCT, stride=2, px=64):
    return outputs_on(px, px, stride, Filters(**filters).matrix(stride))


def test_it_records_what_is_revealed_and_closes_the_file_to_others(admit):
    admit(outputs())
    (entry,) = json.loads(admit.path.read_text())["revealed"]
    assert (entry["height"], entry["width"], entry["stride"]) == (64, 64, 2)
    assert entry["filters"] == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]]
    assert stat.S_IMODE(admit.path.stat().st_mode) == 0o600 and [path.name for path in admit.path.parent.iterdir()] == [admit.path.name]


def test_a_second_reveal_of_the_same_neither_writes_nor_decides_again(admit, monkeypatch):
    first, written = admit(outputs()), admit.path.read_bytes()
    monkeypatch.setattr(module, "disclosure", lambda together: pytest.fail("decided again"))
    assert admit(outputs()) == first and admit.path.read_bytes() == written
    admit(outputs(MEAN), (Filters(**DCT), Filters(**MEAN)))  # follows from what was decided
    assert len(json.loads(admit.path.read_text())["revealed"]) == 2


@pytest.mark.parametrize(("approved", "stride"), [([PIXELS], 2), (PAIRS, 4), ([DCT, DIFFERENCES], 2), ([DCT, COARSE], 2)], ids=str)
def test_a_list_that_gives_pixels_away_is_refused(admit, approved, stride):
    """Three single pixels; (1, 256) on pairs of pixels, all in lists of at most three; a basis; two lists of two strides."""
    with pytest.raises(ConfigError, match=r"the approved filters, .* give pixels away: .* Nothing was decrypted\. Approve fewer filters"):
        admit(outputs(approved[0], stride), [Filters(**filters) for filters in approved])
    assert not admit.path.exists()


def test_what_was_revealed_before_counts_after_a_restart(admit):
    """Each list passes alone; the second one meets what the first left on the disk."""
    admit(outputs(DIFFERENCES), [Filters(**DIFFERENCES)])
    before = admit.path.read_bytes()
    with pytest.raises(ConfigError, match="with all that was revealed under this key before, give pixels away"):
        admit(outputs(), APPROVED)
    assert admit.path.read_bytes() == before


def test_what_was_revealed_of_images_of_another_size_counts(admit):
    """Differences leave the mean of a patch open; images of half the size are those means."""
    alone = admit(outputs(DIFFERENCES, px=128), [Filters(**DIFFERENCES)])
    together = admit(outputs(px=64))
    assert (alone.patch_height, together.patch_height) == (2, 4)
    assert together.pixels_determined_uniform > alone.pixels_determined_uniform


def test_what_cannot_be_decided_is_refused(admit, monkeypatch):
    large = explicit(*np.random.default_rng(0).integers(-(2**15), 2**15, (3, 16)).tolist())
    monkeypatch.setattr("ppdl.protections.steps.disclosure._Work.__init__", lambda self: vars(self).update(programs=50, nodes=200))
    with pytest.raises(ConfigError, match=r"together cannot be decided: .* was not decided in 10000 nodes\. Nothing was decrypted"):
        admit(outputs(large, 4), [Filters(**large)])
    assert not admit.path.exists()


def test_another_key_has_a_ledger_of_its_own(tmp_path):
    for fingerprint, filters in (("1" * 64, DIFFERENCES), ("2" * 64, DCT)):  # together they tell all
        with open_ledger(tmp_path / "private", fingerprint, project=tmp_path / "project") as ledger:
            ledger.admit(outputs(filters), [Filters(**filters)])
    assert len(list((tmp_path / "private").iterdir())) == 2


def test_a_list_of_the_owner_is_remembered_whatever_is_refused_after(chain):
    """The project's list does not count again, though the owner's one approved nothing of this and is gone."""
    chain.encrypt(), chain.filter()
    chain.private_dir.mkdir(mode=0o700)
    own = chain.private_dir / "approved.json"
    own.write_text(json.dumps([MEAN]))
    own.chmod(0o600)
    with pytest.raises(ArtifactError, match="which the key holder has not approved"):
        chain.decrypt()
    own.unlink()
    with pytest.raises(KeyStoreError, match=r"approved\.json is missing"):
        chain.decrypt()
    (ledger,) = chain.private_dir.glob("*.ledger.json")
    assert json.loads(ledger.read_text()) == {"format": "ppdl ledger v1", "own_list": True, "revealed": [], "checked": None}


def _hold(private_dir, project, entered, leave):
    with open_ledger(private_dir, KEY, project=project) as ledger:
        entered.set()
        leave.wait(60)
        ledger.admit(outputs(DIFFERENCES), [Filters(**DIFFERENCES)])


def test_of_two_reveals_at_once_the_second_counts_the_first(admit, tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "private", tmp_path / "project", entered, leave))
    other.start()
    assert entered.wait(60)
    leave.set()  # from here on it decides and writes, while we wait for it
    with pytest.raises(ConfigError, match="with all that was revealed under this key before"):
        admit(outputs())
    other.join(60)
    assert other.exitcode == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text.replace("ppdl ledger v1", "ppdl ledger v2"),
        lambda text: text.replace('"stride": 2', '"stride": 3'),
        lambda text: text.replace('"stride": 2', '"stride": 4'),
        lambda text: text.replace('"own_list": false', '"own_list": "no"'),
        lambda text: text.replace('"revealed": [', '"revealed": [7, '),
        lambda text: text.replace('"worst_pixel"', '"best_pixel"'),
    ],
)
def test_a_damaged_ledger_is_named(admit, change):
    admit(outputs())
    admit.path.write_text(change(admit.path.read_text()))
    with pytest.raises(KeyStoreError, match=r"ledger\.json: damaged: must be a ledger .* restore it from a backup"):
        admit(outputs())


def test_a_ledger_that_others_may_read_or_that_lies_in_the_project_is_refused(admit, tmp_path):
    admit(outputs())
    admit.path.chmod(0o644)
    with pytest.raises(KeyStoreError, match=r"others may read this private file \(mode 0644\): chmod 600"):
        admit(outputs())
    with (
        pytest.raises(KeyStoreError, match="must not lie inside the project"),
        open_ledger(tmp_path / "project/private", KEY, project=tmp_path / "project"),
    ):
        pass


def test_a_full_ledger_is_refused_before_anything_is_decrypted(admit, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_BYTES", 200)
    with pytest.raises(KeyStoreError, match="full: a ledger has at most 200 bytes; use another key pair"):
        admit(outputs())
    assert not admit.path.exists()


def test_it_is_written_before_the_first_decryption(chain, monkeypatch):
    """A run that is killed while it decrypts has revealed, as far as the ledger knows."""
    chain.encrypt(), chain.filter()
    path = chain.private_dir / f"{chain.private_key.public.fingerprint}.ledger.json"
    monkeypatch.setattr(reveal_module, "decrypt_planes", lambda *args, **kwargs: 1 / (not path.exists()))
    with pytest.raises(ZeroDivisionError):
        chain.decrypt()
    assert len(json.loads(path.read_text())["revealed"]) == 1


def test_a_reveal_at_another_stride_meets_what_the_first_one_gave_away(chain):
    """The whole path: the same images, encrypted for stride 4 and for stride 2, under one key."""
    coarse = chain.another(
        input_px=2, scheme=Homomorphic(4, 4, "djn"), stem=Stem(**COARSE), reveal=replace(chain.reveal, approved=(COARSE,))
    )
    coarse.encrypt("e4"), coarse.filter("e4", "s4"), coarse.decrypt("e4", "s4", "v4")
    chain.encrypt(), chain.filter()
    with pytest.raises(ConfigError, match="with all that was revealed under this key before, give pixels away"):
        chain.decrypt()
    assert not (chain.root / "revealed").exists()
