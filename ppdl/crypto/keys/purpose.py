"""What a key pair is for. It serves one purpose, and what uses a key refuses that of another.

Whoever decrypts the answers of a server decrypts ciphertexts of that server's choice, and some day something will show what came out: that
must not be a way into archives. A purpose other than archive is part of both key files and of the fingerprint (`PublicKey.fingerprint`).
So a key under another purpose is another key: artifacts, registrations and the name of its private file do not fit it.
"""

from pathlib import Path

ARCHIVE = "archive"  # images that are kept; also the purpose of a key file that states none
INFERENCE = "inference"  # features that a server classifies
FEDERATION = "federation"  # sums of several parties
PUBLIC_PATHS = {ARCHIVE: Path("keys/public.json"), INFERENCE: Path("keys/inference.json"), FEDERATION: Path("keys/federation.json")}
