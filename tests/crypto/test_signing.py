"""Signatures: what they cover, who may make them, and what they do not say."""

import base64
import json
import pickle
import shutil

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ppdl.config.components import construct
from ppdl.crypto import signing
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keyfile import save_private
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.signing import (
    Signing,
    check_signed,
    load_signing_key,
    load_verifying_key,
    make_signing_key,
    sign,
)
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from tests.attacks.build import change_array, set_field
from tests.crypto.artifacts import random_images, write

IMAGES = random_images(6)
NOBODY = {"encrypted": [], "stem": [], "revealed": []}
# RFC 8037, appendix A.1, which is the first key of RFC 8032, section 7.1
RFC_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


class Signer:
    def __init__(self, folder, name):
        self.public = folder / f"{name}.json"
        self.private = make_signing_key(folder / "private", self.public)
        self.key = load_signing_key(self.private)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Signer(tmp_path_factory.mktemp("source"), "source")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Signer(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def artifact(key, tmp_path, source):
    write(tmp_path, "dense", IMAGES, key.public)
    sign(tmp_path / "artifact", source.key)
    return tmp_path / "artifact"


def accepted(folder, public_file):
    """Check signature and bytes, as `ppdl artifact verify --signed-by` does."""
    check_signed(folder, [public_file])
    open_artifact(folder).verify()


@pytest.mark.parametrize("kind", ["codebook", "dense", "slots"])
def test_no_byte_of_an_artifact_can_change(key, tmp_path, source, kind):
    write(tmp_path, kind, IMAGES, key.public)
    folder = tmp_path / "artifact"
    sign(folder, source.key)
    accepted(folder, source.public)
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        before = path.read_bytes()
        for place in {0, len(before) - 1, *rng.integers(0, len(before), 20).tolist()}:
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            with pytest.raises(ArtifactError):
                accepted(folder, source.public)
        path.write_bytes(before)
    accepted(folder, source.public)


FORGERIES = {
    "a claim": set_field("confidential", False),
    "the reason": set_field("reason", "trust me"),
    "another canary": set_field("canary.0", lambda text: ("1" if text[0] == "0" else "0") + text[1:]),
    "a ciphertext": change_array(1, lambda rows: rows[::-1]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forger_who_computes_all_digests_anew_is_found(artifact, source, name):
    """What digests alone let pass."""
    FORGERIES[name](artifact)
    open_artifact(artifact).verify()
    with pytest.raises(
        ArtifactError, match=r"header\.sig: no signature of .*header\.json by .*source\.json: header or signature was changed"
    ):
        accepted(artifact, source.public)


def test_a_signature_is_of_this_artifact(key, artifact, source, tmp_path):
    write(tmp_path / "other", "dense", IMAGES, key.public)
    shutil.copy(artifact / "header.sig", tmp_path / "other/artifact/header.sig")
    with pytest.raises(ArtifactError, match="header or signature was changed"):
        accepted(tmp_path / "other/artifact", source.public)


def test_an_older_artifact_of_the_same_signer_passes(key, tmp_path, source):
    """A signature says who, not when: what docs/threat-model.md warns of."""
    write(tmp_path / "old", "dense", IMAGES, key.public)
    write(tmp_path / "new", "dense", random_images(6, seed=1), key.public)
    for name in ("old", "new"):
        sign(tmp_path / name / "artifact", source.key)
    shutil.rmtree(tmp_path / "new/artifact")
    shutil.copytree(tmp_path / "old/artifact", tmp_path / "new/artifact")
    accepted(tmp_path / "new/artifact", source.public)


def test_another_signer_is_refused_and_one_of_several_will_do(artifact, source, stranger):
    with pytest.raises(ArtifactError, match=rf"signed by the key {source.key.public_key().public_bytes_raw().hex()}, which is none of"):
        accepted(artifact, stranger.public)
    assert check_signed(artifact, [stranger.public, source.public]) == source.public
    sign(artifact, stranger.key)
    with pytest.raises(ArtifactError, match="which is none of"):
        accepted(artifact, source.public)


def test_a_signature_under_anothers_name_is_refused(artifact, source, stranger):
    sign(artifact, stranger.key)
    path = artifact / "header.sig"
    names = [signer.key.public_key().public_bytes_raw().hex() for signer in (stranger, source)]
    path.write_text(path.read_text().replace(*names))
    with pytest.raises(ArtifactError, match="header or signature was changed"):
        accepted(artifact, source.public)


def test_an_unsigned_artifact_is_refused(artifact, source, stranger):
    (artifact / "header.sig").unlink()
    open_artifact(artifact).verify()
    with pytest.raises(ArtifactError, match=rf"not signed, and a signature by one of {source.public}, {stranger.public} is asked for"):
        check_signed(artifact, [source.public, stranger.public])
    with pytest.raises(ArtifactError, match=r"artifact: not signed, and a signature by one of .*source\.json is asked for"):
        accepted(artifact, source.public)


def test_the_signed_message_has_its_domain(artifact, source):
    """The format as docs/format.md has it, read without this package; a signature of the bare header, made for another purpose, is none."""
    content = json.loads((artifact / "header.sig").read_text())
    header = (artifact / "header.json").read_bytes()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(content["public_key"]))
    public.verify(bytes.fromhex(content["signature"]), b"PPDL-SIG/1 header.json\x00" + header)
    with pytest.raises(InvalidSignature):
        public.verify(bytes.fromhex(content["signature"]), header)
    content["signature"] = source.key.sign(header).hex()
    (artifact / "header.sig").write_text(json.dumps(content, indent=1) + "\n")
    with pytest.raises(ArtifactError, match="header or signature was changed"):
        accepted(artifact, source.public)


MALFORMED = {
    "empty": lambda text: "",
    "no JSON": lambda text: text[:-3],
    "a list": lambda text: "[]\n",
    "deep": lambda text: "[" * 1000,
    "white space": lambda text: text + " ",
    "upper case": lambda text: text.replace("a", "A"),
    "another version": lambda text: text.replace("PPDL-SIG/1", "PPDL-SIG/2"),
    "a field more": lambda text: text.replace('{\n "format"', '{\n "by": "me",\n "format"'),
    "short": lambda text: text.replace('"\n}', "")[:-2] + '"\n}\n',
    "no text": lambda text: text.replace("f", "\xff"),
    "long": lambda text: text + "\n" * 2000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_signature_is_refused(artifact, source, name):
    path = artifact / "header.sig"
    path.write_bytes(MALFORMED[name](path.read_text()).encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"header\.sig: must (be a signature in format PPDL-SIG/1|have at most 1024 bytes)"):
        accepted(artifact, source.public)


@pytest.mark.parametrize(("size", "rule"), [(1024, "must be a signature in format"), (1025, "must have at most 1024 bytes, found more")])
def test_no_more_is_read_than_a_signature_may_have(artifact, source, size, rule):
    (artifact / "header.sig").write_bytes((artifact / "header.sig").read_bytes().ljust(size))
    with pytest.raises(ArtifactError, match=rule):
        check_signed(artifact, [source.public])


def test_a_header_as_long_as_it_may_be_is_signed_whole(artifact, source, monkeypatch):
    size = (artifact / "header.json").stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(signing, "MAX_HEADER_BYTES", size)
        sign(artifact, source.key)
    accepted(artifact, source.public)
    monkeypatch.setattr(signing, "MAX_HEADER_BYTES", size - 1)
    with pytest.raises(ArtifactError, match=rf"header\.json: must have at most {size - 1} bytes"):
        sign(artifact, source.key)


def test_nothing_unfinished_is_signed(tmp_path, source):
    with pytest.raises(ArtifactError, match=r"header\.json: cannot be read \(No such file or directory\), so .* holds nothing finished"):
        sign(tmp_path, source.key)
    assert not any(tmp_path.iterdir())


# Key files


def test_a_private_part_is_yours_alone_and_says_nothing(source, artifact):
    assert source.private.stat().st_mode & 0o777 == 0o600
    assert source.private.parent.stat().st_mode & 0o777 == 0o700
    raw = source.key.private_bytes_raw()
    forms = [raw, raw.hex().encode(), base64.urlsafe_b64encode(raw)[:40], base64.b64encode(raw)[:40]]
    shown = repr(source.key).encode() + source.public.read_bytes() + b"".join(path.read_bytes() for path in artifact.iterdir())
    assert not any(form in shown for form in forms)
    assert forms[2] in source.private.read_bytes()  # the search finds what is there
    with pytest.raises(TypeError):
        pickle.dumps(source.key)


def test_a_key_file_is_that_of_rfc_8037(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(RFC_KEY))
    path.chmod(0o600)
    assert load_signing_key(path).public_key().public_bytes_raw().hex() == RFC_PUBLIC
    path.write_text(json.dumps({name: value for name, value in RFC_KEY.items() if name != "d"}))
    assert load_verifying_key(path).public_bytes_raw().hex() == RFC_PUBLIC


def test_two_keys_differ_and_none_is_overwritten(tmp_path):
    first = make_signing_key(tmp_path / "private", tmp_path / "a.json")
    assert first != make_signing_key(tmp_path / "private", tmp_path / "b.json")
    assert json.loads(first.read_text())["key_ops"] == ["sign"]
    before = (tmp_path / "a.json").read_bytes()
    assert json.loads(before)["key_ops"] == ["verify"]
    with pytest.raises(KeyStoreError, match=r"a\.json: a public key that others may trust is never overwritten"):
        make_signing_key(tmp_path / "private", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before
    assert len(list((tmp_path / "private").iterdir())) == 2


def test_an_open_folder_gets_no_private_key(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(KeyStoreError, match="the folder of private keys must be closed to others: chmod 700"):
        make_signing_key(tmp_path, tmp_path / "a.json")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kty": "RSA"}, 'a signing key has "kty": "OKP" and "crv": "Ed25519"; this is damaged or another key'),
        ({"crv": "Ed448"}, 'a signing key has "kty": "OKP" and "crv": "Ed25519"; this is damaged or another key'),
        ({"d": "AAAA"}, "member 'd' must have 32 bytes, found 3"),
        ({"d": 7}, "member 'd' must be there, in base64url"),
        ({"d": RFC_KEY["x"]}, "the public part is not that of the private part: the file was changed"),
    ],
)
def test_a_damaged_private_file_is_refused_without_its_contents(tmp_path, changes, message):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(RFC_KEY | changes))
    path.chmod(0o600)
    with pytest.raises(KeyStoreError) as error:
        load_signing_key(path)
    assert message in str(error.value)
    assert RFC_KEY["d"][:10] not in str(error.value)


def test_key_files_of_others_are_refused(key, tmp_path, source):
    with pytest.raises(KeyStoreError, match="this is a private key; the public one is needed"):
        load_verifying_key(source.private)
    with pytest.raises(KeyStoreError, match='a signing key has "kty": "OKP"'):
        load_signing_key(save_private(tmp_path / "keys", key))
    with pytest.raises(KeyStoreError, match="cannot read this key file"):
        load_verifying_key(tmp_path / "missing.json")
    open_file = tmp_path / "open.json"
    open_file.write_bytes(source.private.read_bytes())
    open_file.chmod(0o644)
    with pytest.raises(KeyStoreError, match=r"others may read this private file \(mode 0644\): chmod 600"):
        load_signing_key(open_file)


# The node `signing`


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"private_key": ""}, "signing.private_key: String must have at least 1 character, got ''"),
        ({"private_key": 3}, "signing.private_key: must be a string, got 3"),
        ({"trusted": {"encrypted": []}}, "trusted must have the keys encrypted, stem, revealed and no others, got"),
        ({"trusted": NOBODY | {"stem": "a.json"}}, r"signing\.trusted\.stem: .* not allowed as a Sequence value, got 'a\.json'"),
        ({"trusted": NOBODY | {"stem": [3]}}, r"signing\.trusted\.stem\.0: must be a string, got 3"),
    ],
)
def test_parameters_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        construct(Signing, {"private_key": None, "trusted": NOBODY} | changes, "signing")


def test_nothing_is_asked_for_and_nothing_signed_unless_told(artifact):
    (artifact / "header.sig").unlink()
    signing = Signing(None, NOBODY)
    signing.signer()(artifact)
    assert not (artifact / "header.sig").exists()
    signing.check("encrypted", artifact)


def test_a_missing_private_key_is_named_before_any_work(tmp_path):
    with pytest.raises(KeyStoreError, match=r"missing\.json: cannot read this key file"):
        Signing(str(tmp_path / "missing.json"), NOBODY).signer()


def test_a_key_vouches_for_its_own_folder_alone(artifact, source, stranger):
    """The compute side's signature is no source's."""
    signing = Signing(str(stranger.private), {"encrypted": [str(source.public)], "stem": [str(stranger.public)], "revealed": []})
    signing.check("encrypted", artifact)
    signing.signer()(artifact)
    signing.check("stem", artifact)
    with pytest.raises(ArtifactError, match="which is none of"):
        signing.check("encrypted", artifact)
