"""The compute side: what it computes, from what, and that it could not decrypt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images, decrypt_planes
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_private, save_public
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ArtifactError, ConfigError
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.schemes.opaque import Opaque
from ppdl.protections.steps import stem as stem_module
from ppdl.protections.steps.filters import Filters, approved_filters, filters_sha256
from ppdl.protections.steps.stem import Stem, columns, from_columns
from tests.protections.conftest import DCT, MEAN, plain_outputs

PROJECT = Path(__file__).resolve().parents[3]


def outputs_of(sums, private_key) -> np.ndarray:
    artifact = open_artifact(sums)
    return np.concatenate([decrypt_planes(artifact, private_key, shard) for shard in artifact.header.data_shards])


GIVEN = {"filters": [[1, -2, 0, 1], [-1, 1, 1, 1]], "channels": 2, "weight_bits": 4}


@pytest.mark.parametrize(
    ("stride", "spec"), [(2, DCT), (2, MEAN), (2, GIVEN), (4, DCT), (4, DCT | {"channels": 2}), (8, DCT | {"weight_bits": 7})]
)
def test_every_sum_of_a_whole_artifact_is_the_plain_integer_computation(chain, stride, spec):
    images = np.random.default_rng(1).integers(0, 256, (7, 2 * stride, 2 * stride), dtype=np.uint8)
    images[0], images[1] = 0, 255
    scheme = Homomorphic(stride, spec["weight_bits"], "djn")
    chain = chain.another(images=images, input_px=2, scheme=scheme, stem=Stem(**spec))
    chain.encrypt()
    sums = chain.filter()
    np.testing.assert_array_equal(outputs_of(sums, chain.private_key), plain_outputs(images, chain.stem.matrix(stride), stride))
    assert len(open_artifact(sums).header.shards) >= 3  # so that shards and their last, smaller one are exercised


def test_filters_that_need_larger_slots_name_the_weight_bits_to_encrypt_with(chain):
    chain = chain.another(scheme=Homomorphic(4, 3, "djn"), stem=Stem("dct", 3, 7), input_px=2)
    chain.encrypt()
    with pytest.raises(ConfigError, match=r"reach 181560, and slots of 14 bits hold less than 8192.*scheme.weight_bits=7"):
        chain.filter()


def test_the_header_says_from_what_it_was_computed_and_with_which_filters(chain):
    source, sums = open_artifact(chain.encrypt()), open_artifact(chain.filter())
    params = sums.header.protection.params
    assert sums.header.kind == "sums"
    assert params["source_header_sha256"] == stem_module.header_sha256(source)
    assert params["filters_sha256"] == filters_sha256(np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]]))
    assert params["stem"] == DCT
    assert {k: params[k] for k in source.header.protection.params} == source.header.protection.params
    assert (sums.header.packing.planes, source.header.packing.planes) == (3, 4)
    sums.verify(chain.private_key.public)


def test_outputs_are_no_images_to_decrypt(chain):
    chain.encrypt()
    with pytest.raises(ArtifactError, match="kind 'sums' holds no images, but sums of pixels: stage reveal decrypts it"):
        next(decrypt_images(open_artifact(chain.filter()), chain.private_key))


def test_the_same_input_gives_the_same_bytes(chain):
    chain.encrypt()
    first, second = open_artifact(chain.filter(name="a")), open_artifact(chain.filter(name="b"))
    assert [shard.sha256 for shard in first.header.shards] == [shard.sha256 for shard in second.header.shards]


def test_columns_keep_every_ciphertext_in_its_place():
    rows = np.arange(12 * 3, dtype=np.uint8).reshape(12, 3)
    assert columns(rows, 4).shape == (4, 3, 3)
    np.testing.assert_array_equal(from_columns(columns(rows, 4)), rows)


def test_an_interrupted_stem_goes_on_where_it_stopped(chain, monkeypatch):
    chain.encrypt()
    real, calls = stem_module.write_shard, []

    def fails_at_the_third(path, *args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(path.name)
        return real(path, *args)

    monkeypatch.setattr(stem_module, "write_shard", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        chain.filter()
    assert not (chain.root / "stem").exists()
    monkeypatch.setattr(stem_module, "write_shard", lambda path, *args: calls.append(path.name) or real(path, *args))
    chain.filter()
    assert len(calls) == len(set(calls)) == len(open_artifact(chain.root / "stem").header.shards)  # no shard was filtered twice


def test_two_workers_give_what_one_gives(chain):
    chain.encrypt()
    two = chain.another(executor=Executor(num_workers=2, shard_mib=1, min_shards=3, table_mib=4))
    one, other = open_artifact(chain.filter(name="one")), open_artifact(two.filter(name="two"))
    assert one.header == other.header


def test_ciphertexts_of_another_kind_are_refused(chain):
    Opaque("djn").encrypt(chain.images, chain.root / "encrypted", chain.context("encrypt"))
    with pytest.raises(ArtifactError, match="filters are evaluated on an artifact of kind 'slots', found 'dense'"):
        chain.filter()


def test_another_key_is_refused(chain):
    chain.encrypt()
    with pytest.raises(ArtifactError, match="encrypted under the 256-bit key"):
        chain.filter(public_key=generate_keypair(256, allow_insecure_key=True).public)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sobel", 3, 4), "filters must be dct, mean or a list of integer filters, got 'sobel'"),
        (("dct", 4, 4), "channels must be 1, 2 or 3"),
        (("dct", True, 4), "channels must be 1, 2 or 3"),
        (("mean", 3, 4), "channels must be the number of filters, 1 for filters=mean, got 3"),
        (([[1, 1, 1, 1]], 2, 4), "channels must be the number of filters, 1 for"),
        (("dct", 3, 1), "weight_bits must be an integer from 2 to 16, got 1"),
        (([[0, 0, 0, 0]], 1, 4), "a filter must have a weight that is not 0"),
        (([[1, 1.5, 0, 0]], 1, 4), "each weight must be an integer from -32768 to 32768, got 1.5"),
        (([1, 2, 3, 4], 3, 4), "each filter must be a list of stride \\* stride integers, got 1"),
    ],
)
def test_filters_that_break_a_rule(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Stem(*arguments)


def test_filters_of_another_stride_are_named():
    with pytest.raises(ConfigError, match="filters must have stride \\* stride = 16 weights each, got 4"):
        Filters([[1, 1, 1, 1]], 1, 4).matrix(4)


def test_what_is_approved_at_a_stride_is_what_there_is_at_it():
    dct, fourth = Filters("dct", 3, 4), Filters([[1, -1, -1, 1]], 1, 4)
    assert [len(approved_filters([dct, fourth], stride)) for stride in (2, 4)] == [2, 1]


COMPUTE_SIDE = """
import json, os, sys
sys.path.insert(0, {project!r})
import numpy, joblib, tqdm, filelock, hashlib, uuid, tempfile, encodings.idna
from pathlib import Path
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.workers.parallel import Executor
from ppdl.protections.context import Context
from ppdl.protections.steps.stem import Stem
from ppdl.crypto.arithmetic.engine import engine
if engine() == "vector":
    import ppdl.crypto.arithmetic.vector.linear
root, private_dir, uid = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "os.listdir", "os.scandir") else None)
if uid:
    try:
        os.listdir(private_dir)
        raise SystemExit("the private folder can be read")
    except PermissionError:
        opened.clear()
context = Context(load_public(root / "public.json"), 4, root / "out/partial", Executor(1, 1, 3, 4), progress=False)
Stem("dct", 3, 4).write(root / "encrypted", root / "out/stem", context)
print("OPENED" + json.dumps(opened))
"""


@pytest.fixture
def compute_side(chain):
    """A folder that everybody can enter, with what the compute side has, and beside it a private folder with the key."""
    root = Path(tempfile.mkdtemp(prefix="ppdl-compute-"))
    chain.encrypt()
    shutil.copytree(chain.root / "encrypted", root / "encrypted")
    save_public(root / "public.json", chain.private_key.public)
    save_private(root / "private", chain.private_key)
    (root / "out").mkdir()
    for path in (root, root / "encrypted"):
        path.chmod(0o755)
    (root / "out").chmod(0o777)
    yield root
    shutil.rmtree(root)


def on_the_compute_side(root: Path, uid: int) -> list[str]:
    code, private_dir = COMPUTE_SIDE.format(project=str(PROJECT)), str(root / "private")
    env = os.environ | {"PPDL_PRIVATE_KEY_DIR": private_dir, "HOME": str(root / "out")}
    command = [sys.executable, "-c", code, str(root), private_dir, str(uid)]
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("OPENED")[1])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_the_stem_runs_as_a_user_who_cannot_read_the_private_folder(compute_side, chain):
    on_the_compute_side(compute_side, 65534)
    assert (compute_side / "out/stem/header.json").stat().st_uid == 65534
    expected = plain_outputs(chain.images, chain.stem.matrix(2), 2)
    np.testing.assert_array_equal(outputs_of(compute_side / "out/stem", chain.private_key), expected)


def test_the_stem_never_looks_into_the_private_folder(compute_side):
    """An audit hook sees every file that the process opens, whether or not it is allowed to."""
    opened = on_the_compute_side(compute_side, 0)
    assert any("encrypted" in path for path in opened)  # the hook works
    assert not [path for path in opened if str(compute_side / "private") in path]
