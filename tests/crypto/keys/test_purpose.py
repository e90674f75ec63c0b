"""A key serves one purpose: it is bound into both files and the fingerprint, and what uses a key refuses that of another."""

import copy
import hashlib
import json

import pytest

from ppdl.crypto.encryption.canary import open_canary
from ppdl.crypto.keys import jwk
from ppdl.crypto.keys.jwk import private_members, public_members
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.crypto.keys.keystore import ensure_keypair, load_private, load_public, private_path, require_private, save_private, save_public
from ppdl.crypto.keys.purpose import ARCHIVE, FEDERATION, INFERENCE, PUBLIC_PATHS
from ppdl.errors import CryptoError, KeyStoreError
from tests.crypto.artifacts import random_images, write

OTHERS = (INFERENCE, FEDERATION)


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    """One pair, as if it had been made for each purpose."""
    key = generate_keypair(256, allow_insecure_key=True)
    return {purpose: PrivateKey(PublicKey(key.public.n, key.public.h, purpose), key.p, key.q) for purpose in PUBLIC_PATHS}


def write_json(path, members):
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps(members))
    path.chmod(0o600)
    return path


# ---- the key and its files

FINGERPRINTS = {  # of n = 2^89 + 29 (odd; no real key) and h = 4, by `printf ... | xxd -r -p | sha256sum` on the documented encoding
    ARCHIVE: "a32f2769f4b334e208da9534a54f13fd52c339cbfbcb7bc9f0d9193a126959e5",
    INFERENCE: "74750aa2567a68239a7a5007ede66813b790d416167629b797b16134892b3955",
    FEDERATION: "9a8f2d7ea89369b58812e93545600ccb300ccc2916b6031bb1c76fd6672bc48a",
}


@pytest.mark.parametrize("purpose", PUBLIC_PATHS)
def test_fingerprints_stay_what_they_are(purpose):
    assert PublicKey(2**89 + 29, 4, purpose).fingerprint == FINGERPRINTS[purpose]


@pytest.mark.parametrize("purpose", OTHERS)
def test_a_fingerprint_covers_the_purpose(keys, purpose):
    public, size = keys[purpose].public, 32
    parts = (b"ppdl paillier public key v2", public.n.to_bytes(size, "big"), public.h.to_bytes(-(-public.h.bit_length() // 8), "big"))
    text = b"".join(len(part).to_bytes(4, "big") + part for part in (*parts, purpose.encode()))
    assert public.fingerprint == hashlib.sha256(text).hexdigest()
    assert len({key.public.fingerprint for key in keys.values()}) == len({key.public for key in keys.values()}) == 3
    assert copy.copy(public) == public and f"purpose={purpose}" in repr(public)  # copied as it travels to workers


@pytest.mark.parametrize("wrong", ["", "Archive", "training", None, 7, ["archive"], "x" * 1000])
def test_other_purposes_are_refused(keys, tmp_path, wrong):
    public = keys[INFERENCE].public
    with pytest.raises(CryptoError, match="must be one of archive, inference, federation, got"):
        PublicKey(public.n, public.h, wrong)
    path = write_json(tmp_path / "public.json", public_members(public) | {"purpose": wrong})
    with pytest.raises(KeyStoreError, match=f"{path}: the purpose of a key must be one of .*, got .{{1,40}}$"):
        load_public(path)


@pytest.mark.parametrize("purpose", PUBLIC_PATHS)
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_both_files_hold_the_purpose(keys, tmp_path, monkeypatch, purpose, passphrase):
    monkeypatch.setitem(jwk._SCRYPT, "log2_n", 4)
    key = keys[purpose]
    save_public(tmp_path / "public.json", key.public)
    private = save_private(tmp_path / "keys", key, passphrase=passphrase)
    assert load_public(tmp_path / "public.json", purpose) == key.public and load_private(private, passphrase, purpose=purpose) == key
    for path, members in ((tmp_path / "public.json", ()), (private, ("pub",))):
        found = json.loads(path.read_text())
        for name in members:
            found = found[name]
        assert found.get("purpose") == (None if purpose == ARCHIVE else purpose)  # archive keys are written as they always were
    for other in PUBLIC_PATHS:
        if other != purpose:
            expected = (
                f"key {key.public.fingerprint[:16]}... is for {purpose}, and this takes one for {other}. .*`ppdl key make --purpose {other}"
            )
            with pytest.raises(KeyStoreError, match=f"{tmp_path / 'public.json'}: {expected}"):
                load_public(tmp_path / "public.json", other)
            with pytest.raises(KeyStoreError, match=f"{private}: {expected}"):
                load_private(private, passphrase, purpose=other)
            with pytest.raises(KeyStoreError, match=expected):
                require_private(key.public, tmp_path / "keys", passphrase, purpose=other)


# A public part that was changed: what is left out or put in, and what the reader says; None: it is read as another key.
RELABELLED = {
    "another purpose": (INFERENCE, {"purpose": FEDERATION}, "must state the fingerprint"),
    "archive, by name": (INFERENCE, {"purpose": ARCHIVE}, "must state the fingerprint"),
    "archive, by silence": (INFERENCE, {"purpose": ...}, "must state the fingerprint"),
    "no fingerprint": (INFERENCE, {"fingerprint": ...}, "must state the fingerprint"),
    "an archive key for inference": (ARCHIVE, {"purpose": INFERENCE}, "must state the fingerprint"),
    "an archive key for inference, no fingerprint": (ARCHIVE, {"purpose": INFERENCE, "fingerprint": ...}, "must state the fingerprint"),
    "a key of another program": (INFERENCE, {"purpose": ..., "fingerprint": ...}, None),
}


def relabel(members, changes):
    return {name: value for name, value in (members | changes).items() if value is not ...}


@pytest.mark.parametrize(("purpose", "changes", "message"), RELABELLED.values(), ids=RELABELLED)
def test_a_relabelled_key_is_noticed(keys, tmp_path, purpose, changes, message):
    key = keys[purpose]
    save_private(tmp_path / "keys", key)
    public = write_json(tmp_path / "public.json", relabel(public_members(key.public), changes))
    members = private_members(key, passphrase=None, project=None)
    private = write_json(tmp_path / "other/private.json", members | {"pub": relabel(members["pub"], changes)})
    if message is not None:
        for load, path in ((load_public, public), (load_private, private)):
            with pytest.raises(KeyStoreError, match=f"{path}: {message}"):
                load(path)
        return
    # An honest file of pheutil looks like that, so it is an archive key, and another one: nothing that was made under the first fits it.
    assert load_public(public).fingerprint == keys[ARCHIVE].public.fingerprint != key.public.fingerprint
    with pytest.raises(KeyStoreError, match="this needs the private key with fingerprint"):
        require_private(public, tmp_path / "keys")
    private.replace(private_path(tmp_path / "keys", key.public.fingerprint))
    with pytest.raises(
        KeyStoreError, match=f"holds the private key of {keys[ARCHIVE].public.fingerprint}, not of {key.public.fingerprint}"
    ):
        require_private(key.public, tmp_path / "keys", purpose=purpose)


def test_a_protected_private_file_cannot_be_relabelled(keys, tmp_path, monkeypatch):
    monkeypatch.setitem(jwk._SCRYPT, "log2_n", 4)
    members = private_members(keys[INFERENCE], passphrase="right", project=None)
    path = write_json(tmp_path / "k.json", members | {"pub": public_members(keys[ARCHIVE].public)})
    with pytest.raises(KeyStoreError, match="wrong passphrase, or the file was changed"):
        load_private(path, "right")


# ---- ensure_keypair


def ensure(project, purpose, name=None):
    return ensure_keypair(
        project / (name or PUBLIC_PATHS[purpose]),
        project.parent / "private",
        key_bits=256,
        allow_insecure_key=True,
        project=project,
        purpose=purpose,
    )


def test_each_purpose_has_a_pair_of_its_own(tmp_path):
    project = tmp_path / "project"
    made = {purpose: ensure(project, purpose) for purpose in PUBLIC_PATHS}
    assert {outcome.case for outcome in made.values()} == {"made"} and len({outcome.public_key.n for outcome in made.values()}) == 3
    for purpose, outcome in made.items():
        assert outcome.public_key == load_public(project / PUBLIC_PATHS[purpose], purpose)
        (project / PUBLIC_PATHS[purpose]).unlink()
        rebuilt = ensure(project, purpose)  # from the newest of its purpose, not from the newest of all
        assert (rebuilt.case, rebuilt.public_key) == ("rebuilt_public", outcome.public_key)


def test_a_file_of_another_purpose_is_not_replaced(tmp_path):
    project = tmp_path / "project"
    ensure(project, ARCHIVE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(KeyStoreError, match=r"public\.json: holds a key for archive, and one for inference is asked for"):
        ensure(project, INFERENCE, "keys/public.json")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


# ---- what artifacts are made of


@pytest.mark.parametrize("purpose", OTHERS)
@pytest.mark.parametrize("kind", ["dense", "slots", "codebook"])
def test_images_are_encrypted_under_archive_keys_alone(keys, tmp_path, kind, purpose):
    with pytest.raises(KeyStoreError, match=f"is for {purpose}, and this takes one for archive"):
        write(tmp_path, kind, random_images(), keys[purpose].public)
    assert not list(tmp_path.iterdir())
    artifact = write(tmp_path, kind, random_images(), keys[ARCHIVE].public)
    with pytest.raises(KeyStoreError, match=f"is for {purpose}, and this takes one for archive"):
        artifact.check_key(keys[purpose].public)
    with pytest.raises(KeyStoreError, match=f"is for {purpose}, and this takes one for archive"):
        open_canary(keys[purpose], artifact.header)
