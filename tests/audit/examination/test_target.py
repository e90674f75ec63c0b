"""What an attacker holds comes from the folders, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.audit.examination.base import CIPHERTEXTS, PUBLIC_KEY, SYMBOLS, VIEW, Target
from ppdl.audit.examination.target import ciphertexts_of_images, encryption_of, release_of, reveal_of, target_of
from ppdl.crypto.artifact import fields
from ppdl.crypto.artifact.layout import to_planes
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
from ppdl.crypto.keys.keyfile import save_private
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ArtifactError, AttackDoesNotApply
from ppdl.protections.branch import Branch
from ppdl.protections.context import Context, KeyHolder
from ppdl.protections.schemes.deterministic import Deterministic
from ppdl.protections.schemes.homomorphic import Homomorphic
from ppdl.protections.schemes.opaque import Opaque
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.reveal import Reveal
from ppdl.protections.steps.stem import Stem

EXECUTOR = Executor(num_workers=1, shard_mib=1, min_shards=3, table_mib=4)
DCT = {"filters": "dct", "channels": 3, "weight_bits": 4}
HOMOMORPHIC = Homomorphic(stride=2, weight_bits=4, obfuscator="djn")


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)


def artifact(protection, images, key, folder, input_px):
    protection.encrypt(images, folder / "artifact", Context(key.public, input_px, folder / "partial", EXECUTOR))
    return folder / "artifact"


@pytest.fixture
def revealed(tmp_path, images, key):
    steps = {"stem": Stem(**DCT), "reveal": Reveal(approved=(DCT,), check_fraction=1.0, clip=1.0, clip_detail=0.25, noise=0.0)}
    save_private(tmp_path / "private", key)
    holder = KeyHolder(tmp_path / "private", tmp_path / "project")
    context = Context(key.public, 4, tmp_path / "partial", EXECUTOR, key_holder=holder, progress=False)
    Branch(HOMOMORPHIC, steps).protect(images, tmp_path, context)
    return tmp_path / "encrypted", tmp_path / "revealed"


def test_deterministic_gives_symbols_and_a_picture_of_the_ciphertexts(tmp_path, images, key):
    target = target_of(artifact(Deterministic(), images, key, tmp_path, 8), None, public_key=key.public)
    symbols = np.asarray(target.symbols.array)
    pairs = {*zip(images.ravel().tolist(), symbols.ravel().tolist(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # a substitution
    assert (np.asarray(target.picture) == target.symbols.codebook[symbols][..., -1]).all()
    assert target.ciphertexts is None and target.view is None and (target.num_images, target.height, target.width) == images.shape


def test_opaque_gives_ciphertexts_of_each_image(tmp_path, images, key):
    target = target_of(artifact(Opaque("djn"), images, key, tmp_path, 8), None, public_key=key.public)
    num_bytes = target.ciphertexts[0].size
    assert target.symbols is None
    assert (np.asarray(target.picture[2]).ravel()[:num_bytes] == np.asarray(target.ciphertexts[2]).ravel()).all()


@pytest.mark.parametrize("per_group", [1, 4, None])
def test_each_image_has_the_ciphertexts_of_its_pixels(tmp_path, key, per_group):
    images = np.random.default_rng(1).integers(0, 256, (11, 20, 20), dtype=np.uint8)
    write_ciphertext_artifact(
        tmp_path / "artifact",
        kind="slots",
        images=images,
        public_key=key.public,
        obfuscator="djn",
        protection=fields.Protection("toy", {}),
        confidential=True,
        reason="toy",
        stride=2,
        slot_bits=11,
        images_per_group=per_group,
        partial_dir=tmp_path / "partial",
        executor=Executor(num_workers=1, shard_mib=1, min_shards=2, table_mib=4),
    )
    artifact = open_artifact(tmp_path / "artifact")
    packing = artifact.header.packing
    rows = ciphertexts_of_images(artifact)
    every = np.asarray(rows).reshape(-1, artifact.header.ciphertext_bytes)
    assert len(np.unique(every, axis=0)) == len(every)
    for image in (0, 3, 5, 6, 10):
        values = [key.phe.raw_decrypt(int.from_bytes(row.tobytes(), "big")) for row in rows[image]]
        for plane in range(4):
            slots = [(value >> (packing.slot_bits * j)) & 2047 for value in values[plane::4] for j in range(packing.slots)]
            own = to_planes(images[[image]], 2)[0, plane].ravel().tolist()
            if per_group == 1:
                assert slots[: len(own)] == own and not any(slots[len(own) :])
            else:
                assert len(slots) > len(own) - 2 * packing.slots and ",".join(map(str, slots)) in ",".join(map(str, own))


def test_images_that_fill_no_ciphertext_have_one_with_pixels_of_theirs(tmp_path, key):
    images = np.random.default_rng(1).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    rows = ciphertexts_of_images(open_artifact(artifact(HOMOMORPHIC, images, key, tmp_path, 2)))
    assert rows.shape[:2] == (5, 4)
    for image in range(5):
        value = key.phe.raw_decrypt(int.from_bytes(rows[image][0].tobytes(), "big"))
        assert images[image, 2, 2] in [(value >> (11 * j)) & 2047 for j in range(22)]


def test_another_key_is_refused(tmp_path, images, key):
    folder = artifact(Deterministic(), images, key, tmp_path, 8)
    with pytest.raises(ArtifactError, match="fingerprint"):
        target_of(folder, None, public_key=generate_keypair(256, allow_insecure_key=True).public)


def test_chosen_images_are_encrypted_as_the_set_was(tmp_path, key, images):
    encrypt = encryption_of(Deterministic(), Context(key.public, 8, tmp_path, EXECUTOR))
    chosen = encrypt(images[[0, 1, 0]])
    symbols = np.asarray(chosen.symbols.array)
    assert (symbols[0] == symbols[2]).all() and (symbols[0] != symbols[1]).any()
    assert len(chosen.symbols.codebook) == 256 and chosen.view is None


def test_revealed_views_of_chosen_and_protected_images_are_those_of_the_key_holder(revealed, images, key):
    source, view = revealed
    target = target_of(source, view, public_key=key.public)
    assert (reveal_of(target.view)(images) == np.asarray(target.view.array)).all()
    assert reveal_of(None) is None
    released = release_of(images, target.view)(np.array([4, 1]), 2, Filters(**DCT), 0.0)
    assert (released == np.asarray(target.view.array)[[4, 1]]).all()
    one, other = (release_of(images, target.view)(np.arange(6), 2, Filters(**DCT), 8.0) for _ in range(2))
    assert (one != other).any()  # noise is drawn anew
    assert release_of(images, None) is None


def test_an_attack_gets_what_it_needs_and_no_more(tmp_path, images, key):
    target = target_of(artifact(Deterministic(), images, key, tmp_path, 8), None, public_key=key.public)
    cut = target.only(frozenset({SYMBOLS}))
    assert cut.public_key is None and cut.picture is None and cut.symbols.codebook is None
    assert target.only(frozenset({SYMBOLS, CIPHERTEXTS, PUBLIC_KEY})).symbols.codebook is not None
    assert target.only(frozenset({SYMBOLS}), frozenset({PUBLIC_KEY})).public_key == key.public
    with pytest.raises(AttackDoesNotApply, match="nothing was revealed"):
        target.only(frozenset({VIEW}))
    with pytest.raises(AttackDoesNotApply, match="no ciphertext occurs twice"):
        Target("x", 1, 8, 8).only(frozenset({SYMBOLS}))
