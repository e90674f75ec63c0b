"""The text of a key file: the JSON Web Key that python-paillier's `pheutil` writes and reads.

Public part:   {"kty": "DAJ", "alg": "PAI-GN1", "key_ops": ["encrypt"], "n": N, "h": N, "purpose": PURPOSE, "kid": TEXT,
                "fingerprint": HEX}
Private part:  {"kty": "DAJ", "key_ops": ["decrypt"], "p": N, "q": N, "pub": PUBLIC, "kid": TEXT,
                "ppdl": {"project": PATH, "created": TIME}}

N is base64url without padding of the big-endian bytes. `h`, `purpose`, `fingerprint` and `ppdl` are ours: pheutil ignores them, and its
files lack them. A file without a purpose is an archive key, and is written so. Any other purpose is covered by the fingerprint, which must
then be there, in the public file and in the private one, which holds the public part whole.

With a passphrase, p and q are replaced by
               "protected": {"kdf": "scrypt", "log2_n": 17, "r": 8, "p": 1, "salt": N, "cipher": "AES-256-GCM", "nonce": N,
                             "ciphertext": N}
whose plaintext is the JSON text {"p": N, "q": N}. The additional data of the cipher is the canonical JSON (sorted keys, no spaces) of all
the rest of the file, so that nothing in it can be exchanged. pheutil cannot read such a file; load it and save it without a passphrase to
get one that it can.

Source: scrypt RFC 7914 (128 MiB and about 0.3 s a guess), AES-GCM NIST SP 800-38D, base64url RFC 4648 section 5.
"""

import base64
import json
import secrets
from datetime import UTC, datetime
from typing import Any

import gmpy2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import CryptoError, KeyStoreError

Members = dict[str, Any]  # of a JSON object that anybody may have written

LARGEST_FILE_BYTES = 1 << 16
_LARGEST_NUMBER_BITS = 1 << 14  # a hostile file must not cost minutes of arithmetic
_SCRYPT: Members = {"kdf": "scrypt", "log2_n": 17, "r": 8, "p": 1, "cipher": "AES-256-GCM"}


def public_members(key: PublicKey) -> Members:
    """Return the members of a public part."""
    members: Members = {"kty": "DAJ", "alg": "PAI-GN1", "key_ops": ["encrypt"], "n": encode_int(key.n)}
    if key.h is not None:
        members["h"] = encode_int(key.h)
    if key.purpose != ARCHIVE:
        members["purpose"] = key.purpose
    return members | {"kid": f"Paillier public key {key.fingerprint}", "fingerprint": key.fingerprint}


def private_members(key: PrivateKey, *, passphrase: str | None, project: str | None) -> Members:
    """Return the members of a private part: they hold p and q, in the clear when passphrase is None.

    Raises: KeyStoreError for an empty passphrase.
    """
    primes = {"p": encode_int(key.p), "q": encode_int(key.q)}
    members: Members = {
        "kty": "DAJ",
        "key_ops": ["decrypt"],
        "pub": public_members(key.public),
        "kid": f"Paillier private key {key.public.fingerprint}",
        "ppdl": {"project": project, "created": datetime.now(UTC).isoformat(timespec="microseconds")},
    }
    if passphrase is None:
        return members | primes
    if not passphrase:
        raise KeyStoreError("the passphrase is empty: give one, or none at all")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    members["protected"] = _SCRYPT | {"salt": encode_bytes(salt), "nonce": encode_bytes(nonce)}
    cipher = AESGCM(_stretch(passphrase, salt))
    members["protected"]["ciphertext"] = encode_bytes(cipher.encrypt(nonce, json.dumps(primes).encode(), _canonical(members)))
    return members


def parse_members(text: bytes, path: object) -> Members:
    """Parse the text of a key file.

    Raises: KeyStoreError when it is no JSON object. The error does not carry the text, which may be private.
    """
    try:
        members = json.loads(text) if len(text) <= LARGEST_FILE_BYTES else None
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):  # raised outside of the handler: json's own exception carries the whole text
        raise KeyStoreError(f"{path}: a key file is one JSON object of at most {LARGEST_FILE_BYTES} bytes; this is damaged or another file")
    return members


def parse_public(members: object, path: object) -> PublicKey:
    """Return the public key that members of a public part describe.

    Raises: KeyStoreError when a member is missing, malformed or no Paillier key.
    """
    key = read_public(members, path)
    check_composite(key, path)
    return key


def read_public(members: object, path: object) -> PublicKey:
    """Return the public key of members without looking whether n is prime: who takes keys from strangers looks at key_bits first.

    Raises: KeyStoreError as parse_public.
    """
    if not isinstance(members, dict) or (members.get("kty"), members.get("alg")) != ("DAJ", "PAI-GN1"):
        raise KeyStoreError(f'{path}: a public Paillier key has "kty": "DAJ" and "alg": "PAI-GN1"; this is damaged or another key')
    n = decode_int(members, "n", path)
    h = decode_int(members, "h", path) if "h" in members else None
    try:
        key = PublicKey(n, h, members.get("purpose", ARCHIVE))
    except CryptoError as error:
        raise KeyStoreError(f"{path}: {error}") from None
    stated = members.get("fingerprint", None if "purpose" in members else key.fingerprint)
    if stated != key.fingerprint:  # never quoted: a damaged file may state anything
        raise KeyStoreError(f"{path}: must state the fingerprint {key.fingerprint} that n, h and purpose give: the file was changed")
    return key


def check_composite(key: PublicKey, path: object) -> None:
    """Refuse a prime n, and a power. Cost, of a prime n: 0.14 s at 4096 bits, 0.9 s at 11,213. Raises: KeyStoreError."""
    if gmpy2.is_prime(key.n, 1) or gmpy2.is_power(key.n):  # a Baillie-PSW test: no prime is ever taken for composite
        raise KeyStoreError(f"{path}: n must be the product of two different primes")


def parse_private(members: Members, path: object, passphrase: str | None) -> PrivateKey:
    """Return the private key that members of a private part describe.

    Raises: KeyStoreError when a member is missing or malformed, the parts do not belong together, or the passphrase
        is missing or wrong.
    """
    operations = members.get("key_ops")
    if members.get("kty") != "DAJ" or not isinstance(operations, list) or "decrypt" not in operations:
        raise KeyStoreError(f'{path}: a private Paillier key has "kty": "DAJ" and "key_ops": ["decrypt"]; this is damaged or another key')
    public = parse_public(members.get("pub"), path)
    if "protected" in members:
        members = _open_protected(members, path, passphrase)
    p, q = (decode_int(members, name, path) for name in ("p", "q"))
    try:
        return PrivateKey(public, p, q)
    except KeyStoreError as error:
        message = str(error)
    raise KeyStoreError(f"{path}: {message}")


def encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def encode_int(value: int) -> str:
    return encode_bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def decode_int(members: Members, name: str, path: object) -> int:
    """Decode the positive number members[name]. Raises: KeyStoreError, without the value."""
    value = int.from_bytes(decode_bytes(members, name, path), "big")
    if not 0 < value < 1 << _LARGEST_NUMBER_BITS:
        raise KeyStoreError(f"{path}: member {name!r} must be a number of 1 to {_LARGEST_NUMBER_BITS} bits")
    return value


def decode_bytes(members: Members, name: str, path: object) -> bytes:
    """Decode members[name]. Raises: KeyStoreError, without the value."""
    text = members.get(name)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True) if isinstance(text, str) else None
    except ValueError:
        data = None
    if data is None:
        raise KeyStoreError(f"{path}: member {name!r} must be there, in base64url")
    return data


def _canonical(members: Members) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def _stretch(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << _SCRYPT["log2_n"], r=_SCRYPT["r"], p=_SCRYPT["p"]).derive(passphrase.encode())


def _open_protected(members: Members, path: object, passphrase: str | None) -> Members:
    protected = members["protected"]
    if not isinstance(protected, dict) or {name: protected.get(name) for name in _SCRYPT} != _SCRYPT:
        raise KeyStoreError(f"{path}: member 'protected' must name {_SCRYPT}: damaged, or of a later version")
    if passphrase is None:
        raise KeyStoreError(f"{path}: the private key is protected; give its passphrase")
    salt, nonce, ciphertext = (decode_bytes(protected, name, path) for name in ("salt", "nonce", "ciphertext"))
    rest = members | {"protected": {name: value for name, value in protected.items() if name != "ciphertext"}}
    try:
        return json.loads(AESGCM(_stretch(passphrase, salt)).decrypt(nonce, ciphertext, _canonical(rest)))
    except (InvalidTag, ValueError):
        pass
    raise KeyStoreError(f"{path}: wrong passphrase, or the file was changed")
