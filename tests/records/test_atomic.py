"""A file or folder appears whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppdl.config import Workspace, keep_in_step, write_built_for
from ppdl.crypto.keys.keyfile import save_public
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.signing import sign
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results import crossval
from ppdl.experiment.training.head_run import Features, HeadRun, head_run
from ppdl.records.atomic import move_folder, partial_path, replacing
from ppdl.tracking import DatasetRecord
from ppdl.tracking.runs.record import RunRecord
from ppdl.training.fitting.state import State, write_state


def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as partial:
        partial.write_text("new, in p")
        assert path.read_text() == "old"
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from ppdl.records.atomic import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("new, in p")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_has_another_name_and_is_written_over(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, path], cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    assert path.read_text() == "old" and sorted(tmp_path.iterdir()) == [partial_path(path), path]
    assert partial_path(path).suffix == ".keras"  # some writers ask for the ending
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_never_written_through(tmp_path):
    cache, path = tmp_path / "cache", tmp_path / "a.json"
    cache.write_text("of the cache")
    path.symlink_to(cache)
    with replacing(path) as partial:
        partial.write_text("new")
    assert cache.read_text() == "of the cache" and path.read_text() == "new" and not path.is_symlink()


def test_a_folder_that_comes_from_another_file_system_appears_whole(tmp_path, monkeypatch):
    source, target, seen = tmp_path / "source", tmp_path / "target", []
    (tmp_path / "target.copying").mkdir(parents=True)
    (tmp_path / "target.copying" / "half").write_text("what a kill left")
    source.mkdir()
    target.mkdir()  # empty, which a rename replaces
    (source / "header.json").write_text("{}")
    rename = os.rename

    def between_file_systems(self, to):
        if self == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        seen.append(sorted(path.name for path in self.iterdir()))
        rename(self, to)

    monkeypatch.setattr(Path, "replace", between_file_systems)
    move_folder(source, target)
    assert seen == [["header.json"]] and [path.name for path in target.iterdir()] == ["header.json"]
    assert not (tmp_path / "target.copying").exists()


def write_predictions(folder):
    arrays = {"labels": np.array([0, 1]), "logits": np.zeros((2, 2)), "groups": np.array(["a", "b"]), "image_ids": np.array(["x", "y"])}
    Predictions(**arrays, class_names=("n", "p")).save(folder / "plain.npz")


def write_the_features(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossval, "features_folder", lambda *_: folder)
        patch.setattr(HeadRun, "write_features", lambda *_: Features(np.zeros((1, 3)), "ab"))
        experiment = Experiment(None, Workspace(folder, folder), SimpleNamespace(index=[0]))
        crossval.write_features(head_run(experiment, "private_head"))


def write_run(folder):
    dataset = DatasetRecord("phantom", "cd", "data/prepared", {"train": 1})
    RunRecord("ab", "ppdl", "plain", 0, 1, {}, {}, dataset, None, [], {}).write(folder / "run.json")


def sign_header(folder):
    (folder / "header.json").write_text("{}")
    sign(folder, Ed25519PrivateKey.generate())


WRITERS = {
    "plain.npz": write_predictions,
    "features.npz": write_the_features,
    "run.json": write_run,
    "built_for.json": lambda folder: write_built_for(folder, {"input_px": 32}),
    "state.npz": lambda folder: write_state(folder, "d", State([], 0, [], [], [], 1.0)),
    "header.sig": sign_header,
    "public.json": lambda folder: save_public(folder / "public.json", generate_keypair(256, allow_insecure_key=True).public),
    "params.yaml": lambda folder: keep_in_step("m", "params.yaml", folder / "params.yaml", lambda: b"new", ["--write"]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_later_run_takes_for_whole_is_never_written_in_place(tmp_path, name):
    """A file that is written in place is half of one for a while, and a kill makes that last."""
    folder, other_name = tmp_path / "folder", tmp_path / "other name"
    folder.mkdir()
    other_name.write_bytes(b"old")
    (folder / name).hardlink_to(other_name)
    WRITERS[name](folder)
    assert other_name.read_bytes() == b"old" and (folder / name).read_bytes() != b"old"
    assert not list(folder.glob(".*"))
