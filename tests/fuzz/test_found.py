"""Inputs that the fuzz found, each of which once ended in another error than ours."""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import json
import re
import resource
import subprocess
import sys

import numpy as np
import psutil
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ppdl.audit.attacks.inversion import Inversion
from ppdl.config import PROJECT, build, choices, read_built_for
from ppdl.config.check import check_config, disk_failure
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_private, save_private
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.errors import ArtifactError, ConfigError, DataError, KeyStoreError
from ppdl.protections.steps.filters import load_approved
from ppdl.protections.steps.revealed import read_header
from tests.soak.fuzz_config import composed


@pytest.fixture(scope="module")
def tree():
    return composed()


def broken(tree, path, value):
    tree = copy.deepcopy(tree)
    *parents, last = path
    node = tree
    for part in parents:
        node = node[part]
    node[last] = value
    return OmegaConf.create(tree)


WRONG = [
    (("seed",), "x", "seed: must be an integer"),
    (("input_px",), 96, r"prepared_px must be a multiple of 96"),
    (("training", "epochs"), "ten", "training.epochs: must be an integer"),
    (("training", "learning_rate"), float("nan"), "training.learning_rate: must be a finite number"),
    (("evaluation", "margin"), float("nan"), "evaluation.margin: must be a finite number"),
    (("evaluation", "num_permutation"), 10, "evaluation has an unknown key 'num_permutation': did you mean 'num_permutations'"),
    (("tracking", "log_report"), "yes", "tracking.log_report: must be 'auto', True or False, got 'yes'"),
    (("keygen", "allow_insecure_key"), 1, "keygen.allow_insecure_key: must be a boolean"),
    (("attacks", "ratio", "num_ciphertexts"), "many", "attacks.ratio.num_ciphertexts: must be an integer, got 'many'"),
    (("attacks", "seriation", "num_images"), 3, "attacks.seriation.num_images"),
    (("attacks", "inversion", "unions", 0, "views", 0, "noise"), {}, "noise: must be a number"),
    (("attacks", "inversion", "unions", 0, "views"), 3, "each of unions must have name and views"),
    (("attacks", "inversion", "strides"), [2, 3], "attacks.inversion.strides.1: must be 2, 4 or 8, got 3"),
    (("heads", "private_head", "backbone"), {"alpha": 3}, "heads.private_head.backbone needs `_target_"),
    (("protections", "opaque", "views"), ["byte"], r"protections.opaque.views must list one or more of bytes"),
    (("protections", "opaque", "train_on"), "clear", "protections.opaque.train_on must be encrypted, which its last step writes"),
    (("revealed",), ["homomorfic"], "revealed follows from the steps of the protections"),
    (("trainig",), {}, "did you mean 'training'"),
    (("model",), None, "model must be a section"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=lambda item: ".".join(map(str, item)) if isinstance(item, tuple) else "")
def test_a_wrong_value_anywhere_is_named_before_any_work(tree, path, value, message):
    check_config(OmegaConf.create(tree))
    with pytest.raises(ConfigError, match=message):
        check_config(broken(tree, path, value))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trainig.epochs=3"], "'trainig.epochs' is no key of the configuration: did you mean 'training.epochs'?"),
        (["seed=1", "model.alhpa=1.0"], "'model.alhpa' is no key of the configuration: did you mean 'model.alpha'?"),
        (["xyz=1"], "'xyz' is no key of the configuration"),
        (["+more=1", "~protections.opaque", "hydra.verbose=true", "model=mobilenet_v2", "training.epochs=3", "-m"], None),
    ],
)
def test_an_override_of_a_misspelt_key_is_named_with_the_nearest(arguments, hint):
    assert choices.hint(arguments) == hint


def test_a_stage_shows_the_hint_below_what_hydra_says():
    command = [sys.executable, "-m", "stages.split", "trainig.epochs=3"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("did you mean 'training.epochs'?")


def test_the_first_stage_refuses_what_only_the_last_would_use(tmp_path):
    command = [sys.executable, "-m", "stages.download", "evaluation.margin=3", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"ConfigError: evaluation\.margin: must be .* 1, got 3", done.stderr)
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_told_in_one_line(tmp_path):
    text = disk_failure(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert text == f"No space left on device: a file below {tmp_path}: free some space, then run again; what was finished is kept"
    assert disk_failure(OSError(errno.EROFS, "Read-only file system", "/x/y"), tmp_path).startswith("Read-only file system: /x/y: make it")
    assert disk_failure(FileNotFoundError(errno.ENOENT, "No such file"), tmp_path) is None


def test_the_counts_of_the_radiography_database_are_counts():
    tree = composed("dataset=radiography")
    with pytest.raises(ConfigError, match=r"dataset.num_images.COVID: must be >= 1, got 0"):
        check_config(broken(tree, ("dataset", "num_images", "COVID"), 0))


def test_a_view_that_is_inverted_is_checked_where_it_is_built(tree):
    shared = {"num_scored": 20}
    for change, message in (({"noises": [-1]}, "noises.0: must be >= 0"), ({"strides": [5]}, "strides.0: must be 2, 4 or 8")):
        with pytest.raises(ConfigError, match=message):
            build(tree["attacks"]["inversion"] | change, "attacks.inversion", shared)
    assert isinstance(build(tree["attacks"]["inversion"], "attacks.inversion", shared), Inversion)


@pytest.mark.parametrize("text", ["{} {}", "[1]", "\x00", "[" * 100_000])
def test_a_damaged_record_of_what_a_folder_was_built_for(tmp_path, text):
    (tmp_path / "built_for.json").write_text(text)
    with pytest.raises(ConfigError, match=r"built_for.json .*build .* again with `dvc repro --force`"):
        read_built_for(tmp_path)


def test_an_index_with_a_path_of_another_host(tmp_path):
    (tmp_path / "index.csv").write_text("path,class_name,patient\n//server/share/x.png,COVID,\n")
    with pytest.raises(DataError, match="must list paths below"):
        read_raw_index(tmp_path)


NUMPY_BEGINS = [b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 4, }", b"{'descr': '|u1'\n(", b"\xff" * 60]


@pytest.mark.parametrize("begin", NUMPY_BEGINS)
def test_an_array_whose_header_numpy_cannot_parse(tmp_path, begin):
    (tmp_path / "images.npy").write_bytes(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + begin.ljust(117) + b"\n" + bytes(48))
    rows = "a/0.png,a,0,0,-1,train\na/1.png,a,0,1,-1,test\na/2.png,a,0,2,-1,validation\n"
    (tmp_path / "index.csv").write_text(f"path,class_name,label,group,fold,split\n{rows}")
    meta = {"class_names": ["a"], "images_sha256": "0" * 64, "num_images": 3, "prepared_px": 4, "params": {}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"images\.npy cannot be read"):
        load_prepared(tmp_path)
    np.save(tmp_path / "images.npy", np.zeros((3, 4, 4), np.uint8))
    assert len(load_prepared(tmp_path).rows("train")) == 1
    for name, value in (("class_names", None), ("class_names", [1]), ("params", [])):
        (tmp_path / "meta.json").write_text(json.dumps(meta | {name: value}))
        with pytest.raises(DataError, match=f"must have {name}"):
            load_prepared(tmp_path)


@pytest.mark.parametrize(
    "content", [[{"filters": 3, "channels": 3, "weight_bits": 4}], [{"filters": [1], "channels": 1, "weight_bits": 4}]]
)
def test_approved_filters_of_another_type(tmp_path, content):
    (tmp_path / "approved.json").write_text(json.dumps(content))
    (tmp_path / "approved.json").chmod(0o600)
    with pytest.raises(KeyStoreError, match="must be a JSON list of filters"):
        load_approved(tmp_path)


def test_a_view_whose_header_has_other_types(tmp_path):
    from dataclasses import fields

    from ppdl.protections.steps.revealed import FORMAT, RevealedHeader

    content = dict.fromkeys((field.name for field in fields(RevealedHeader)), None)
    (tmp_path / "header.json").write_text(json.dumps({"format": FORMAT} | content))
    with pytest.raises(ArtifactError, match=r"header\.protection: must be a string, got None"):
        read_header(tmp_path)


def test_private_parts_in_another_member_are_not_quoted(tmp_path):
    key = generate_keypair(256, allow_insecure_key=True)
    path = save_private(tmp_path / "keys", key)
    members = json.loads(path.read_text())
    members["pub"]["fingerprint"] = members["p"]
    path.write_text(json.dumps(members))
    with pytest.raises(KeyStoreError, match="must state the fingerprint") as error:
        load_private(path)
    assert members["p"] not in str(error.value)


def test_a_chunk_that_claims_four_gigabytes(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(buffer, "PNG")
    data = buffer.getvalue()
    place = data.index(b"IDAT") - 4
    (tmp_path / "x.png").write_bytes(data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (1 << 30), before[1]))
    try:
        with contextlib.suppress(BadImageError):  # read or refused, as Pillow's version has it; 4 GiB are asked for by neither
            read_gray(tmp_path / "x.png")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
