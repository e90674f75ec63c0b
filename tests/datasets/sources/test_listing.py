"""A listing tells that files changed, without reading them."""

import json
import os

import pytest

from ppdl.datasets.sources.folder import Folder
from ppdl.datasets.sources.listing import write_listing
from ppdl.datasets.sources.phantom import Phantom


@pytest.fixture
def listed(tmp_path):
    root = tmp_path / "xrays"
    for name in ("COVID/images/a.png", "COVID/images/b.png", "COVID/masks/a.png", "Normal/a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1234")

    def listing(*others):
        write_listing([root, *others], tmp_path / "files.json")
        return json.loads((tmp_path / "files.json").read_text())

    return root, listing


def added(root):
    (root / "Normal/b.png").write_bytes(b"1")


def removed(root):
    (root / "COVID/images/b.png").unlink()


def renamed(root):
    (root / "COVID/images/b.png").rename(root / "COVID/images/c.png")


def touched(root):
    os.utime(root / "Normal/a.png", ns=(1, 1))


def grown(root):
    path = root / "COVID/masks/a.png"
    stat = path.stat()
    path.write_bytes(b"12345")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [added, removed, renamed, touched, grown])
def test_a_file_more_fewer_or_changed_is_noticed(listed, change):
    root, listing = listed
    before = listing()
    assert listing() == before and before["num_files"] == 4
    change(root)
    assert listing()["sha256"] != before["sha256"]


def test_what_a_data_set_leaves_out_is_not_looked_at(listed):
    root, listing = listed
    before = listing()
    for name in ("COVID/images/.DS_Store", "__MACOSX/COVID/a.png", ".hidden/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    assert listing() == before


def test_a_table_of_patients_counts(listed, tmp_path):
    _, listing = listed
    (tmp_path / "patients.csv").write_text("path,patient\n")
    before = listing(tmp_path / "patients.csv")
    (tmp_path / "patients.csv").write_text("path,patient\nCOVID/a.png,1\n")
    assert listing(tmp_path / "patients.csv")["sha256"] != before["sha256"] and before["num_files"] == 5


def test_a_cyclic_link_ends(listed):
    root, listing = listed
    (root / "COVID/again").symlink_to(root)
    assert listing()["num_files"] > 4


def test_sources_are_the_users_own_files():
    fields = {"classes": None, "on_bad_image": "raise"}
    assert [str(path) for path in Folder(root="/x", patient_pattern=None, patients="/p.csv", **fields).sources()] == ["/x", "/p.csv"]
    assert Phantom(num_images=12, images_per_patient=1, size_px=64, seed=1, **fields).sources() == ()
