"""Encrypt, and check with the private key, the canary of a PPDL/1 header (docs/format.md, section 6).

The canary is the dense encryption of 48 bytes: the tag `PPDL/1 canary`, padded with zeros to 16 bytes, then the SHA-256 of all pixels. A
wrong private key does not decrypt the tag; images that decrypt but are not those that were encrypted do not fit the digest. Both are
encrypted with obfuscators of their own: a public digest would tell a guess of the images from the truth, and a known plaintext under the
obfuscator of a codebook would reveal every pixel.
"""

import numpy as np

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.artifact.header import CANARY_BYTES, CANARY_TAG, Header
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, check_purpose
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import ArtifactError, CryptoError


def encrypt_canary(public_key: PublicKey, pixels_sha256: bytes) -> tuple[str, ...]:
    """Encrypt the tag and the digest of the pixels; one hexadecimal text a ciphertext.

    Cost: one `standard` obfuscator for each 48 bytes that a plaintext holds: 30 ms at 3072 bits.
    """
    content = np.frombuffer(CANARY_TAG + pixels_sha256, np.uint8)
    plaintexts = DensePacking(public_key.key_bits).pack(content)
    rows = encrypt_batch(public_key, plaintexts, build_obfuscators(public_key, "standard"))
    return tuple(row.tobytes().hex() for row in rows)


def open_canary(private_key: PrivateKey, header: Header) -> bytes:
    """Decrypt the canary, and give the SHA-256 of the pixels that were encrypted.

    Raises:
        ArtifactError: the artifact is of another key, or its canary does not decrypt to the tag.
        KeyStoreError: the key is for another purpose than archive.
    """
    public = private_key.public
    check_purpose(public, ARCHIVE)
    if public.fingerprint != header.key.fingerprint:
        raise ArtifactError(
            f"encrypted under the key {header.key.fingerprint}, got the private key of {public.fingerprint}; "
            "use the private key with the artifact's fingerprint"
        )
    rows = np.frombuffer(bytes.fromhex("".join(header.canary)), np.uint8).reshape(len(header.canary), -1)
    try:
        content = DensePacking(public.key_bits).unpack(decrypt_batch(private_key, rows), CANARY_BYTES).tobytes()
    except CryptoError:  # no valid ciphertext, or a plaintext out of range: either way not what the tag was encrypted to
        content = b""
    if content[: len(CANARY_TAG)] != CANARY_TAG:
        raise ArtifactError(
            f"header.json: the canary does not decrypt to its tag, although the fingerprint {public.fingerprint} fits: "
            "the header was put together from another artifact, or the private key is damaged; nothing was decrypted"
        )
    return content[len(CANARY_TAG) :]
