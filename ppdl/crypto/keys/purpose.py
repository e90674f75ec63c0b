"""What a key pair is for. It serves one purpose, and what uses a key refuses that of another.

Whoever decrypts the answers of a server decrypts ciphertexts of that server's choice, and some day something will show what came out: that
must not be a way into archives. A purpose other than archive is part of both key files and of the fingerprint (`PublicKey.fingerprint`).
So a key under another purpose is another key: artifacts, registrations and the name of its private file do not fit it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ppdl.errors import KeyStoreError

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey

ARCHIVE = "archive"  # images that are kept; also the purpose of a key file that states none
INFERENCE = "inference"  # features that a server classifies
FEDERATION = "federation"  # sums of several parties
PUBLIC_PATHS = {ARCHIVE: Path("keys/public.json"), INFERENCE: Path("keys/inference.json"), FEDERATION: Path("keys/federation.json")}


def check_purpose(key: PublicKey, purpose: str, where: object = "the key") -> None:
    """Refuse a key that was made for another purpose.

    Args:
        where: the file that it is from, for the message.

    Raises: KeyStoreError.
    """
    if key.purpose != purpose:
        raise KeyStoreError(
            f"{where}: key {key.fingerprint[:16]}... is for {key.purpose}, and this takes one for {purpose}. A pair serves one purpose: "
            f"make another with `ppdl keygen --purpose {purpose}`, or name the one that you have"
        )
