"""What a folder of protected images says of itself, whichever step wrote it: for checks before training, and for the run's record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppdl.crypto.artifact.header_file import HEADER_FILE
from ppdl.crypto.artifact.reading import open_artifact


@dataclass(frozen=True)
class Contents:
    """Describe what a trainer reads.

    Attributes:
        protection: name of the protection that wrote it.
        params: what it was built for, for a sweep to be compared with.
        num_images: rows.
        confidential: it hides the images from who holds it and the public key.
        key_fingerprint: of the public key.
        header_path: a file that stands for every byte, by digests.
        facts: sizes and counts for the run's record: num_ciphertexts, key_bits, artifact_bytes (all ciphertexts),
            expansion_factor (artifact_bytes over the bytes of the pixels).
    """

    protection: str
    params: dict[str, Any]
    num_images: int
    confidential: bool
    key_fingerprint: str
    header_path: Path
    facts: dict[str, Any]


def contents_of_artifact(folder: Path) -> Contents:
    """Describe a PPDL/1 artifact.

    Raises:
        ArtifactError: no artifact, or a header that breaks a rule.
    """
    header = open_artifact(folder).header
    source = header.source
    facts = {
        "num_ciphertexts": header.num_ciphertexts,
        "key_bits": header.key.key_bits,
        "artifact_bytes": header.total_bytes,
        "expansion_factor": header.total_bytes / (source.num_images * source.height * source.width),
    }
    return Contents(
        protection=header.protection.name,
        params=header.protection.params,
        num_images=source.num_images,
        confidential=header.confidential,
        key_fingerprint=header.key.fingerprint,
        header_path=Path(folder) / HEADER_FILE,
        facts=facts,
    )
