import base64
import fcntl
import hashlib
import json
import os
import stat
import traceback
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ppdl.crypto.keys import jwk
from ppdl.crypto.keys.jwk import encode_bytes, encode_int, private_members, public_members
from ppdl.crypto.keys.keyfile import _write_temporary, project_root
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.crypto.keys.keystore import (
    check_private_dir,
    default_private_dir,
    ensure_keypair,
    load_private,
    load_public,
    private_path,
    require_private,
    save_private,
    save_public,
)
from ppdl.errors import ConfigError, KeyStoreError


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture
def place(tmp_path):
    """A project, its public.json and a folder for its private keys."""
    project = tmp_path / "project"
    project.mkdir()
    return project, project / "keys/public.json", tmp_path / "private"


@pytest.fixture
def quick_scrypt(monkeypatch):
    """16 KiB instead of 128 MiB a guess; test_private_round_trip runs the real cost."""
    monkeypatch.setitem(jwk._SCRYPT, "log2_n", 4)


def ensure(place, key_bits=256, **options):
    project, public_path, private_dir = place
    return ensure_keypair(public_path, private_dir, key_bits=key_bits, allow_insecure_key=True, project=project, **options)


def mode_of(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_private(path, members) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps(members) if isinstance(members, dict) else members)
    path.chmod(0o600)


# ---- files


@pytest.mark.parametrize("with_h", [True, False])
def test_public_round_trip(tmp_path, key, with_h):
    public = key.public if with_h else PublicKey(key.public.n)
    path = tmp_path / "new/folder/public.json"
    save_public(path, public)
    assert load_public(path) == public and load_public(path).fingerprint == public.fingerprint
    assert mode_of(path) == 0o644 and [p.name for p in path.parent.iterdir()] == ["public.json"]
    assert path.read_text() == json.dumps(public_members(public), indent=2) + "\n"  # DVC keeps its digest: equal keys, equal bytes
    members = json.loads(path.read_text())
    assert members.keys() - {"h"} == {"kty", "alg", "key_ops", "n", "kid", "fingerprint"} and ("h" in members) == with_h
    assert members["kid"] == f"Paillier public key {public.fingerprint}" and "=" not in path.read_text()


def test_public_file_holds_no_private_part(tmp_path, key):
    save_public(tmp_path / "public.json", key.public)
    text = (tmp_path / "public.json").read_text()
    assert encode_int(key.p) not in text and encode_int(key.q) not in text


def test_saving_public_replaces_a_link_and_not_its_target(tmp_path, key):
    cache = tmp_path / "cache"
    cache.write_text("other bytes")
    (tmp_path / "public.json").symlink_to(cache)
    save_public(tmp_path / "public.json", key.public)
    assert cache.read_text() == "other bytes" and load_public(tmp_path / "public.json") == key.public


@pytest.mark.parametrize("passphrase", [None, "correct horse 🐎"])
def test_private_round_trip(tmp_path, key, passphrase):
    path = save_private(tmp_path / "deep/keys", key, passphrase=passphrase, project=tmp_path)
    assert path == tmp_path / f"deep/keys/{key.public.fingerprint}.json"
    assert mode_of(path) == 0o600 and mode_of(path.parent) == 0o700
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load_private(path, passphrase) == key
    readable = [encode_int(prime) for prime in (key.p, key.q) if encode_int(prime) in path.read_text()]
    assert len(readable) == (0 if passphrase else 2)
    members = json.loads(path.read_text())
    documented = {"kdf": "scrypt", "log2_n": 17, "r": 8, "p": 1, "cipher": "AES-256-GCM"}
    assert (documented.items() <= members["protected"].items()) if passphrase else ("protected" not in members)
    assert members["ppdl"]["project"] == str(tmp_path) and datetime.fromisoformat(members["ppdl"]["created"]).tzinfo == UTC


def test_umask_cannot_open_a_private_file(tmp_path, key):
    before = os.umask(0)
    try:
        path = save_private(tmp_path / "keys", key)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600 and mode_of(path.parent) == 0o700


def test_private_file_is_never_overwritten(tmp_path, key):
    path = save_private(tmp_path / "keys", key)
    before = path.read_bytes()
    with pytest.raises(KeyStoreError, match=f"{path}: a private key file is never overwritten; move it away first"):
        save_private(tmp_path / "keys", key)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_failed_write_leaves_no_file(tmp_path, key, monkeypatch):
    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(KeyStoreError, match=r"cannot write this key file \(No space left on device\)"):
        save_private(tmp_path / "keys", key)
    assert list((tmp_path / "keys").iterdir()) == []


def test_what_a_killed_writer_left_is_deleted_by_the_next(tmp_path, key):
    """It may hold private parts."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    left = _write_temporary(folder, private_members(key, passphrase=None, project=None))
    assert mode_of(left) == 0o600 and left.parent == folder
    assert [save_private(folder, key)] == list(folder.iterdir())


def test_a_file_system_without_locks_will_do(tmp_path, key, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert load_private(save_private(tmp_path / "keys", key)) == key


def test_open_private_folder_is_refused(tmp_path, key):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(KeyStoreError, match=f"must be closed to others: chmod 700 {tmp_path / 'keys'}"):
        save_private(tmp_path / "keys", key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_private_file_that_others_may_read_is_refused(tmp_path, key, mode):
    path = save_private(tmp_path / "keys", key)
    path.chmod(mode)
    with pytest.raises(KeyStoreError, match=f"others may read this private file \\(mode {mode:04o}\\): chmod 600 {path}"):
        load_private(path)


def test_missing_files_are_named(tmp_path):
    for load in (load_public, load_private):
        with pytest.raises(KeyStoreError, match=f"{tmp_path / 'none.json'}: cannot read this key file \\(No such file or directory\\)"):
            load(tmp_path / "none.json")
    with pytest.raises(KeyStoreError, match="cannot read this key file \\(Is a directory\\)"):
        load_public(tmp_path)


# ---- passphrases


def test_wrong_missing_and_empty_passphrases(tmp_path, key, monkeypatch, quick_scrypt):
    path = save_private(tmp_path / "keys", key, passphrase="right")
    with pytest.raises(KeyStoreError, match="wrong passphrase, or the file was changed"):
        load_private(path, "wrong")
    with pytest.raises(KeyStoreError, match="the private key is protected; give its passphrase"):
        load_private(path)
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "")
    with pytest.raises(KeyStoreError, match="the private key is protected; give its passphrase"):
        load_private(path)
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "right")
    assert load_private(path) == key
    with pytest.raises(KeyStoreError, match="the passphrase is empty"):
        save_private(tmp_path / "other", key, passphrase="")


def test_protected_file_authenticates_all_its_members(tmp_path, key, quick_scrypt):
    other = generate_keypair(256, allow_insecure_key=True)
    members = private_members(key, passphrase="right", project="/a")
    changes = {
        "pub": public_members(other.public),
        "ppdl": {"project": "/b"},
        "kid": "another name",
        "more": 1,
        "protected": members["protected"] | {"salt": "AAAA"},
    }
    for name, value in changes.items():
        write_private(tmp_path / "changed.json", members | {name: value})
        with pytest.raises(KeyStoreError, match="wrong passphrase, or the file was changed"):
            load_private(tmp_path / "changed.json", "right")
    for name in ("salt", "nonce", "ciphertext"):
        write_private(tmp_path / "changed.json", members | {"protected": members["protected"] | {name: None}})
        with pytest.raises(KeyStoreError, match=rf"changed\.json: member '{name}' must be there, in base64url"):
            load_private(tmp_path / "changed.json", "right")


def test_a_protected_file_can_be_opened_by_its_description_alone(key, quick_scrypt):
    """The format of jwk.py's docstring, as another program would read it."""
    members = private_members(key, passphrase="päss", project="/a")
    protected = members["protected"]
    salt, nonce, ciphertext = (base64.urlsafe_b64decode(protected.pop(name) + "==") for name in ("salt", "nonce", "ciphertext"))
    assert (len(salt), len(nonce)) == (16, 12)
    protected |= {"salt": encode_bytes(salt), "nonce": encode_bytes(nonce)}
    stretched = hashlib.scrypt("päss".encode(), salt=salt, n=2 ** protected["log2_n"], r=protected["r"], p=protected["p"], dklen=32)
    rest = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    primes = json.loads(AESGCM(stretched).decrypt(nonce, ciphertext, rest))
    assert primes == {"p": encode_int(key.p), "q": encode_int(key.q)}


@pytest.mark.parametrize("change", [{"log2_n": 40}, {"kdf": "md5"}, {"cipher": "none"}, {"r": None}])
def test_other_protections_are_refused_before_work(tmp_path, key, change, quick_scrypt):
    members = private_members(key, passphrase="right", project=None)
    write_private(tmp_path / "k.json", members | {"protected": members["protected"] | change})
    with pytest.raises(KeyStoreError, match=r"member 'protected' must name .*'scrypt'.*: damaged, or of a later version"):
        load_private(tmp_path / "k.json", "right")


# ---- malformed files


def bare(n: int) -> bytes:
    """Write a public part of n alone, as pheutil does."""
    return json.dumps({"kty": "DAJ", "alg": "PAI-GN1", "n": encode_int(n)}).encode()


PUBLIC_DAMAGE = {
    "no json": ("{", "a key file is one JSON object"),
    "not utf-8": (b"\xff\xfe{}", "a key file is one JSON object"),
    "empty": ("", "a key file is one JSON object"),
    "a list": ("[]", "a key file is one JSON object"),
    "nested": ("[" * 60000, "a key file is one JSON object"),
    "too long": ('{"n": "' + "A" * 70000 + '"}', "of at most 65536 bytes"),
    "no type": ({"kty": None}, 'has "kty": "DAJ" and "alg": "PAI-GN1"'),
    "other algorithm": ({"alg": "RSA"}, 'has "kty": "DAJ" and "alg": "PAI-GN1"'),
    "no n": ({"n": None}, "member 'n' must be there, in base64url"),
    "n a number": ({"n": 5}, "member 'n' must be there, in base64url"),
    "n not base64": ({"n": "abc!"}, "member 'n' must be there, in base64url"),
    "n between other characters": ({"n": "AAAA!!!!AAAB"}, "member 'n' must be there, in base64url"),
    "n not ascii": ({"n": "äöü"}, "member 'n' must be there, in base64url"),
    "n empty": ({"n": ""}, "member 'n' must be a number of 1 to 16384 bits"),
    "n huge": ({"n": encode_int(1 << 20000)}, "member 'n' must be a number of 1 to 16384 bits"),
    "n even": ({"n": encode_int((1 << 100) + 2)}, "n must be odd"),
    "n prime": (bare(2**127 - 1), "n must be the product of two different primes"),
    "n a square": (bare((2**127 - 1) ** 2), "n must be the product of two different primes"),
    "h wrong": ({"h": encode_int(1)}, "h must be -x\\^2 mod n"),
    "other fingerprint": ({"fingerprint": "00"}, "must state the fingerprint [0-9a-f]{64} that n, h and purpose give"),
}


@pytest.mark.parametrize("damage, message", PUBLIC_DAMAGE.values(), ids=PUBLIC_DAMAGE)
def test_malformed_public_files_are_refused(tmp_path, key, damage, message):
    path = tmp_path / "public.json"
    members = json.dumps(public_members(key.public) | damage) if isinstance(damage, dict) else damage
    path.write_bytes(members if isinstance(members, bytes) else members.encode())
    with pytest.raises(KeyStoreError, match=f"{path}: .*{message}"):
        load_public(path)


def test_every_flipped_bit_of_n_and_h_is_noticed(tmp_path, key):
    members = public_members(key.public)
    for name, value in (("n", key.public.n), ("h", key.public.h)):
        for bit in range(0, 256, 5):
            (tmp_path / "public.json").write_text(json.dumps(members | {name: encode_int(value ^ (1 << bit))}))
            with pytest.raises(KeyStoreError):
                load_public(tmp_path / "public.json")


PRIVATE_DAMAGE = {
    "public file": (lambda m: m["pub"], 'has "kty": "DAJ" and "key_ops": \\["decrypt"\\]'),
    "operations": (lambda m: m | {"key_ops": 7}, 'has "kty": "DAJ" and "key_ops": \\["decrypt"\\]'),
    "no public part": (lambda m: m | {"pub": None}, 'has "kty": "DAJ" and "alg": "PAI-GN1"'),
    "no p": (lambda m: m | {"p": None}, "member 'p' must be there, in base64url"),
    "neither p nor lambda": (lambda m: {k: v for k, v in m.items() if k not in "pq"}, "member 'p' must be there"),
    "neither p nor q": (lambda m: {k: v for k, v in m.items() if k not in "pq"}, "member 'p' must be there"),
    "p twice": (lambda m: m | {"q": m["p"]}, "p \\* q must be n with p and q different"),
    "p cut": (lambda m: m | {"p": m["p"][:-4]}, "p \\* q must be n with p and q different"),
    "protected": (lambda m: m | {"protected": 5}, "member 'protected' must name"),
    "half a file": (lambda m: json.dumps(m)[:-30], "a key file is one JSON object"),
}


@pytest.mark.parametrize("damage, message", PRIVATE_DAMAGE.values(), ids=PRIVATE_DAMAGE)
def test_malformed_private_files_are_refused_without_quoting_them(tmp_path, key, damage, message):
    path = tmp_path / "k.json"
    write_private(path, damage(private_members(key, passphrase=None, project=None)))
    with pytest.raises(KeyStoreError, match=f"{path}: .*{message}") as error:
        load_private(path)
    chain = error.value
    while chain is not None:  # the error and all that it came from carry neither the file's text nor p and q
        text = "".join(traceback.format_exception(chain)) + repr(vars(chain))
        for prime in (key.p, key.q):
            assert not [form for form in (encode_int(prime), str(prime), f"{prime:x}") if form in text]
        chain = chain.__cause__ or chain.__context__


# ---- places


def test_default_private_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("PPDL_PRIVATE_KEY_DIR", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_private_dir() == tmp_path / "mine"
    monkeypatch.delenv("PPDL_PRIVATE_KEY_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_private_dir() == tmp_path / "data/ppdl/keys"
    for unset in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert default_private_dir() == tmp_path / ".local/share/ppdl/keys"


def test_private_keys_inside_the_project_are_refused(place, tmp_path):
    project, public_path, private_dir = place
    inside = project / "keys/private"
    with pytest.raises(KeyStoreError, match=f"{inside}: private keys must not lie inside the project or its git work tree {project}"):
        ensure((project, public_path, inside))
    assert not inside.exists() and not public_path.exists()
    (tmp_path / "link").symlink_to(project)
    with pytest.raises(KeyStoreError, match="must not lie inside the project"):
        ensure((project, public_path, tmp_path / "link/keys"))
    check_private_dir(private_dir, project)
    (tmp_path / ".git").mkdir()
    with pytest.raises(KeyStoreError, match=f"git work tree {tmp_path}; set PPDL_PRIVATE_KEY_DIR or keygen.private_dir"):
        check_private_dir(private_dir, project)


def test_a_queued_copy_uses_the_keys_of_its_checkout(place):
    project, _public_path, private_dir = place
    made = ensure(place)
    copy = project / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    assert project_root(copy) == project_root(copy.parent.parent) == project_root(project) == project
    found = ensure((copy, copy / "keys/public.json", private_dir))
    assert (found.case, found.public_key) == ("rebuilt_public", made.public_key)


# ---- the table of ensure_keypair


def test_neither_key_makes_a_pair(place):
    _project, public_path, private_dir = place
    outcome = ensure(place)
    assert outcome.case == "made" and outcome.private_path == private_path(private_dir, outcome.public_key.fingerprint)
    assert f"made a 256-bit key pair {outcome.public_key.fingerprint}" in outcome.message and "back it up" in outcome.message
    assert load_public(public_path) == outcome.public_key == load_private(outcome.private_path).public
    assert outcome.public_key.h is not None


def test_both_are_kept(place):
    _project, _public_path, _private_dir = place
    made, before = ensure(place), {p: p.read_bytes() for p in place[0].parent.rglob("*.json")}
    kept = ensure(place)
    assert (kept.case, kept.public_key, kept.private_path) == ("kept", made.public_key, made.private_path)
    assert {p: p.read_bytes() for p in place[0].parent.rglob("*.json")} == before


def test_public_only_is_kept_and_says_so(place):
    _project, _public_path, private_dir = place
    made = ensure(place)
    made.private_path.unlink()
    kept = ensure(place)
    assert (kept.case, kept.public_key, kept.private_path) == ("kept_public_only", made.public_key, None)
    assert f"its private key is not in {private_dir}: encryption works, decryption is for the holder" in kept.message
    assert list(private_dir.iterdir()) == []


def test_private_only_rebuilds_the_public_part(place):
    _project, public_path, _private_dir = place
    made, before = ensure(place), None
    before = public_path.read_bytes()
    public_path.unlink()
    rebuilt = ensure(place)
    assert (rebuilt.case, rebuilt.public_key, rebuilt.private_path) == ("rebuilt_public", made.public_key, made.private_path)
    assert public_path.read_bytes() == before and "was missing: rebuilt it from the newest private key" in rebuilt.message


def test_the_newest_private_key_of_the_project_and_length_is_taken(place, tmp_path):
    _project, public_path, private_dir = place
    keys = [ensure(place).public_key]
    for key_bits in (320, 256):  # a 256-bit key again: the newest of two
        keys.append(ensure(place, key_bits).public_key)
    ensure((tmp_path / "other", tmp_path / "other/public.json", private_dir))
    save_private(private_dir, generate_keypair(256, allow_insecure_key=True))  # of no project
    (private_dir / "notes.json").write_text("not a key")
    public_path.unlink()
    assert ensure(place).public_key == keys[2]
    public_path.unlink()
    assert ensure(place, 320).public_key == keys[1]


def test_another_project_makes_its_own_pair(place, tmp_path):
    made = ensure(place)
    other = ensure((tmp_path / "other", tmp_path / "other/public.json", place[2]))
    assert other.case == "made" and other.public_key != made.public_key


def test_rebuilding_stops_at_an_unsafe_or_damaged_private_file(place):
    _project, public_path, _private_dir = place
    made = ensure(place)
    public_path.unlink()
    made.private_path.chmod(0o644)
    with pytest.raises(KeyStoreError, match="others may read this private file"):
        ensure(place)
    made.private_path.chmod(0o600)
    made.private_path.write_text("{")
    with pytest.raises(KeyStoreError, match="a key file is one JSON object"):
        ensure(place)
    assert not public_path.exists()


def test_another_length_makes_a_new_pair_and_keeps_the_old_file(place):
    _project, public_path, _private_dir = place
    old = ensure(place)
    before = old.private_path.read_bytes()
    new = ensure(place, 320)
    assert new.case == "made_other_length" and new.public_key.key_bits == 320 and load_public(public_path) == new.public_key
    assert old.private_path.read_bytes() == before and load_private(new.private_path).public == new.public_key
    assert f"{public_path} had 256 bits, keygen.key_bits is 320" in new.message
    assert f"The old key {old.public_key.fingerprint} stays in {old.private_path}" in new.message


def test_the_length_there_and_back_takes_the_first_pair_up_again(place):
    _project, public_path, private_dir = place
    first, before = ensure(place), place[1].read_bytes()
    second = ensure(place, 320)
    for key_bits, made in ((256, first), (320, second), (256, first)):
        found = ensure(place, key_bits)
        assert (found.case, found.public_key, found.private_path) == ("found_other_length", made.public_key, made.private_path)
        assert f"took up {made.private_path} again" in found.message
    assert public_path.read_bytes() == before and len(list(private_dir.iterdir())) == 2


@pytest.mark.parametrize("purpose", ["archive", "inference"])
def test_a_recorded_public_key_that_is_missing_is_not_replaced(place, purpose):
    _project, public_path, private_dir = place
    made = ensure(place, purpose=purpose)
    recorded = hashlib.md5(public_path.read_bytes()).hexdigest()
    assert ensure(place, purpose=purpose, recorded_md5="of another").case == "kept"  # it is there
    public_path.unlink()
    stage = {"archive": "keygen", "inference": "keygen_inference"}[purpose]
    refusal = f"{public_path} is missing.*`dvc checkout {stage}`.*`ppdl key make --purpose {purpose} --bits 256"
    with pytest.raises(KeyStoreError, match=refusal):  # the private key here is of another pair
        ensure(place, purpose=purpose, recorded_md5="of another")
    assert ensure(place, purpose=purpose, recorded_md5=recorded).case == "rebuilt_public"
    public_path.unlink()
    made.private_path.unlink()
    for key_bits in (256, 320):
        with pytest.raises(KeyStoreError, match=f"`dvc checkout {stage}`, or `dvc pull {stage}`"):
            ensure(place, key_bits, purpose=purpose, recorded_md5=recorded)
    assert not public_path.exists() and not list(private_dir.iterdir())
    assert ensure(place, purpose=purpose).case == "made"  # as `ppdl key make` asks


def test_a_public_key_that_was_handed_over_is_not_replaced_by_one_of_another_length(place, key):
    _project, public_path, private_dir = place
    save_public(public_path, key.public)
    before = public_path.read_bytes()
    with pytest.raises(KeyStoreError, match=r"has 256 bits, keygen.key_bits is 320.*`ppdl keep keygen.key_bits=256`"):
        ensure(place, 320)
    assert public_path.read_bytes() == before and not list(private_dir.glob("*.json"))


def test_foreign_public_key_without_h_is_kept(place, key):
    _project, public_path, _private_dir = place
    save_public(public_path, PublicKey(key.public.n))
    assert ensure(place).public_key == PublicKey(key.public.n)


def test_corrupt_public_file_is_an_error_and_nothing_is_lost(place):
    project, public_path, _private_dir = place
    made = ensure(place)
    public_path.write_text("{ cut")
    before = {p: p.read_bytes() for p in project.parent.rglob("*.json")}
    with pytest.raises(KeyStoreError, match=f"{public_path}: a key file is one JSON object"):
        ensure(place)
    assert {p: p.read_bytes() for p in project.parent.rglob("*.json")} == before and made.private_path.exists()


def test_insecure_length_stops_before_anything_is_written(place):
    project, public_path, private_dir = place
    with pytest.raises(ConfigError, match="allow_insecure_key"):
        ensure_keypair(public_path, private_dir, key_bits=256, allow_insecure_key=False, project=project)
    assert not private_dir.exists() and not public_path.exists()


def test_passphrase_protects_a_new_private_file(place, monkeypatch, quick_scrypt):
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "from the environment")
    made = ensure(place)
    assert "protected" in json.loads(made.private_path.read_text())
    assert require_private(made.public_key, place[2]).public == made.public_key
    place[1].unlink()
    assert ensure(place).case == "rebuilt_public"  # needs no passphrase


@pytest.mark.parametrize("case", ["made", "made_other_length"])
def test_a_given_passphrase_goes_before_that_of_the_environment(place, monkeypatch, quick_scrypt, case):
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "from the environment")
    if case == "made_other_length":
        ensure(place, 320)
    made = ensure(place, passphrase="given")
    assert made.case == case
    with pytest.raises(KeyStoreError, match="wrong passphrase"):
        require_private(made.public_key, place[2])
    assert require_private(made.public_key, place[2], "given") == load_private(made.private_path, "given")
    with pytest.raises(KeyStoreError, match="the passphrase is empty"):
        ensure(place, 384, passphrase="")


def test_require_private(place, key):
    _project, public_path, private_dir = place
    made = ensure(place)
    assert require_private(public_path, private_dir).public == require_private(made.public_key, private_dir).public == made.public_key
    made.private_path.unlink()
    with pytest.raises(KeyStoreError) as error:
        require_private(public_path, private_dir)
    for text in (made.public_key.fingerprint, str(made.private_path), "Ask its holder", "chmod 600", "PPDL_PRIVATE_KEY_DIR"):
        assert text in str(error.value)


def test_require_private_notices_a_renamed_file(place, key):
    _project, public_path, private_dir = place
    made = ensure(place)
    save_private(private_dir, key).replace(made.private_path)
    with pytest.raises(KeyStoreError, match=f"holds the private key of {key.public.fingerprint}, not of {made.public_key.fingerprint}"):
        require_private(public_path, private_dir)


def test_none_means_the_default_folder(place):
    project, public_path, _ = place
    made = ensure((project, public_path, None))
    assert made.private_path.parent == default_private_dir() and require_private(public_path).public == made.public_key
