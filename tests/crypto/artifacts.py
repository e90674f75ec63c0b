"""What the tests of artifacts share: small keys, images, and a writer with few arguments."""

from pathlib import Path

import numpy as np

from ppdl.crypto.artifact.fields import Protection
from ppdl.crypto.artifact.reading import Artifact, open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
from ppdl.crypto.encryption.codebook import write_codebook_artifact
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.crypto.workers.parallel import Executor

PACKINGS = {"dense": {}, "slots": {"stride": 2, "slot_bits": 12}}
ONE_WORKER = Executor(num_workers=1, shard_mib=8, min_shards=4, table_mib=4)


def random_images(num_images: int = 10, height: int = 8, width: int = 12, seed: int = 0) -> np.ndarray:
    """Draw images (num_images, height, width) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (num_images, height, width), np.uint8)


def write(folder: Path, kind: str, images: np.ndarray, public_key: PublicKey, **changes) -> Artifact:
    """Write an artifact of any kind to folder/artifact, with the partial folder beside it, and open it."""
    common = {
        "images": images,
        "public_key": public_key,
        "protection": Protection("test", {"input_px": 12}),
        "reason": "a test",
        "partial_dir": folder / "partial",
        "progress": False,
    }
    if kind == "codebook":
        write_codebook_artifact(folder / "artifact", **common | changes)
    else:
        options = {"kind": kind, "obfuscator": "djn", "confidential": True, "executor": ONE_WORKER} | PACKINGS[kind]
        write_ciphertext_artifact(folder / "artifact", **common | options | changes)
    return open_artifact(folder / "artifact")


def decrypted(artifact: Artifact, key: PrivateKey, **options) -> np.ndarray:
    """Decrypt all images of an artifact."""
    blocks = list(decrypt_images(artifact, key, **options))
    firsts = [first for first, _ in blocks]
    assert firsts == list(np.cumsum([0] + [len(block) for _, block in blocks])[:-1])
    return np.concatenate([block for _, block in blocks])
