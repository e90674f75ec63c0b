"""Sign artifacts and revealed views, and check who signed them: Ed25519 over header.json, whose digests cover every other byte.

    header.sig    {"format": "PPDL-SIG/1", "public_key": HEX, "signature": HEX} and a newline, in this one serialisation

The signed message is `b"PPDL-SIG/1 header.json\\0"` followed by the bytes of header.json. Key files are JSON Web Keys of type OKP
(RFC 8037).
What a signature does not say: docs/threat-model.md.

Source: Ed25519, RFC 8032, through pyca/cryptography.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ppdl.crypto.artifact.header_file import HEADER_FILE, MAX_HEADER_BYTES, SIGNATURE_FILE
from ppdl.crypto.keys.jwk import decode_bytes, encode_bytes
from ppdl.crypto.keys.keyfile import create_private, create_private_dir, read_members, write_public
from ppdl.crypto.keys.memory import forbid_core_dumps
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.records.atomic import replacing
from ppdl.records.typecheck import Text

FORMAT = "PPDL-SIG/1"
SIGNED_FOLDERS = ("encrypted", "stem", "revealed")
_DOMAIN = b"PPDL-SIG/1 header.json\0"
_LARGEST_BYTES = 1024


@dataclass(frozen=True)
class Signing:
    """What stages sign, and whose signatures they ask for (the node `signing`).

    Attributes:
        private_key: file of the private key that stages sign with; None: they do not sign.
        trusted: files of the public keys that may have signed `data/encrypted`, `data/stem` and `data/revealed`, each a list of its own:
            the compute side's key must not vouch for a source. Where the list is empty, no signature is asked for.

    Raises:
        ConfigError: a field breaks its rule.
    """

    private_key: Text | None
    trusted: Mapping[str, Sequence[Text]]

    def __post_init__(self) -> None:
        if set(self.trusted) != set(SIGNED_FOLDERS):
            raise ConfigError(f"trusted must have the keys {', '.join(SIGNED_FOLDERS)} and no others, got {self.trusted!r}")

    def signer(self) -> Callable[[Path], None]:
        """Load the private key now, before hours of work, and return what signs a finished folder; without a key that does nothing.

        Raises:
            KeyStoreError: the file cannot be used.
        """
        if self.private_key is None:
            return lambda folder: None
        key = load_signing_key(Path(self.private_key).expanduser())
        return lambda folder: sign(folder, key)

    def check(self, name: str, folder: Path) -> None:
        """Check that a trusted key signed `folder`, which is one of data/NAME, where the configuration asks for that.

        Raises:
            ArtifactError: no signature, or none by a trusted key.
            KeyStoreError: the file of a trusted key cannot be used.
        """
        if self.trusted[name]:
            check_signed(folder, [Path(path).expanduser() for path in self.trusted[name]])


def make_signing_key(private_dir: Path, public_path: Path) -> Path:
    """Make a key pair: the private part in a new file of `private_dir` (0600), the public part in the new file `public_path`.

    The caller keeps `private_dir` out of the project (`keystore.check_private_dir`).

    Returns:
        The file of the private part.

    Raises:
        KeyStoreError: a file exists, or others may enter `private_dir`.
    """
    if public_path.exists():
        raise KeyStoreError(f"{public_path}: a public key that others may trust is never overwritten; choose another file")
    forbid_core_dumps()
    key = Ed25519PrivateKey.generate()  # randomness of the operating system
    public = key.public_key().public_bytes_raw()
    members = {"kty": "OKP", "crv": "Ed25519", "x": encode_bytes(public)}
    create_private_dir(private_dir)
    path = private_dir / f"signing-{public.hex()}.json"
    try:
        create_private(path, members | {"key_ops": ["sign"], "d": encode_bytes(key.private_bytes_raw())})
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot write this key file ({error.strerror})") from None
    write_public(public_path, members | {"key_ops": ["verify"]})
    return path


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Load a private key.

    Raises:
        KeyStoreError: it is missing, readable by others, damaged, or another kind of key. The error holds no private part.
    """
    forbid_core_dumps()
    members = read_members(path, private=True)
    key = Ed25519PrivateKey.from_private_bytes(_member(members, "d", path))
    if key.public_key().public_bytes_raw() != _member(members, "x", path):
        raise KeyStoreError(f"{path}: the public part is not that of the private part: the file was changed")
    return key


def load_verifying_key(path: Path) -> Ed25519PublicKey:
    """Load a public key.

    Raises:
        KeyStoreError: it is missing, damaged, another kind of key, or the private part, which should not be here.
    """
    members = read_members(path, private=False)
    if "d" in members:
        raise KeyStoreError(f"{path}: this is a private key; the public one is needed, which `ppdl key signing --public` wrote")
    return Ed25519PublicKey.from_public_bytes(_member(members, "x", path))


def _member(members: dict[str, Any], name: str, path: Path) -> bytes:
    if (members.get("kty"), members.get("crv")) != ("OKP", "Ed25519"):
        raise KeyStoreError(f'{path}: a signing key has "kty": "OKP" and "crv": "Ed25519"; this is damaged or another key')
    if len(value := decode_bytes(members, name, path)) != 32:
        raise KeyStoreError(f"{path}: member {name!r} must have 32 bytes, found {len(value)}")
    return value


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """Write header.sig beside a header.json whose digests are right, complete or not at all.

    Raises:
        ArtifactError: there is no header.
    """
    signature = key.sign(_DOMAIN + _read(folder / HEADER_FILE, MAX_HEADER_BYTES))
    with replacing(folder / SIGNATURE_FILE) as path:
        path.write_text(_text(key.public_key().public_bytes_raw().hex(), signature.hex()), encoding="ascii")


def check_signed(folder: Path, trusted: Sequence[Path]) -> Path:
    """Check that one of the keys in the files `trusted` signed header.json.

    This covers header.json alone: the reader of the artifact compares all other bytes with its digests.

    Returns:
        The file of the key that signed.

    Raises:
        ArtifactError: no signature, a malformed one, or none by these keys on this header.
        KeyStoreError: the file of a key cannot be used.
    """
    keys = {load_verifying_key(path).public_bytes_raw().hex(): path for path in trusted}
    path = folder / SIGNATURE_FILE
    names = ", ".join(map(str, trusted))
    if not path.is_file():
        raise ArtifactError(f"{folder}: not signed, and a signature by one of {names} is asked for; get {SIGNATURE_FILE} from its maker")
    header = _read(folder / HEADER_FILE, MAX_HEADER_BYTES)
    signer, signature = _parse(path)
    if signer not in keys:
        raise ArtifactError(f"{folder}: signed by the key {signer}, which is none of {names}; whoever wrote it is not trusted to")
    try:
        load_verifying_key(keys[signer]).verify(bytes.fromhex(signature), _DOMAIN + header)
    except InvalidSignature:
        raise ArtifactError(
            f"{path}: no signature of {folder / HEADER_FILE} by {keys[signer]}: header or signature was changed; get both from their maker"
        ) from None
    return keys[signer]


def _parse(path: Path) -> tuple[str, str]:
    """Return the signer's public key and the signature, in hexadecimal digits."""
    found = _read(path, _LARGEST_BYTES)
    try:
        content = json.loads(found)
        pair = str(content["public_key"]), str(content["signature"])
    except (ValueError, TypeError, LookupError, RecursionError):
        pair = "", ""
    if not re.fullmatch("[0-9a-f]{64}", pair[0]) or not re.fullmatch("[0-9a-f]{128}", pair[1]) or _text(*pair).encode() != found:
        raise ArtifactError(f"{path}: must be a signature in format {FORMAT} (docs/format.md), found {found[:60]!r}; get it from its maker")
    return pair


def _text(public_key: str, signature: str) -> str:
    return json.dumps({"format": FORMAT, "public_key": public_key, "signature": signature}, indent=1) + "\n"


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}), so {path.parent} holds nothing finished to sign or check"
        ) from None
    if len(content) > limit:
        raise ArtifactError(f"{path}: must have at most {limit} bytes, found more")
    return content
