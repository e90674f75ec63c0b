"""Good artifacts of each kind, and copies of them to damage."""

import shutil

import pytest

from ppdl.crypto.keys.keypair import generate_keypair
from tests.attacks.build import KINDS
from tests.crypto.artifacts import random_images
from tests.crypto.artifacts import write as write_artifact


@pytest.fixture(scope="module")
def public():
    return generate_keypair(256, allow_insecure_key=True).public


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, public):
    """Give a folder with a good artifact of each kind, of 4 data shards."""
    root = tmp_path_factory.mktemp("pristine")
    for kind in KINDS:
        options = {"shard_bytes": 300} if kind == "codebook" else {}
        (root / kind).mkdir()
        write_artifact(root / kind, kind, random_images(), public, **options).verify(public)
    return root


@pytest.fixture
def victim(pristine, tmp_path):
    """Give a function that copies a good artifact to a folder that may be damaged."""

    def copy(kind):
        shutil.copytree(pristine / kind / "artifact", tmp_path / "victim")
        return tmp_path / "victim"

    return copy
