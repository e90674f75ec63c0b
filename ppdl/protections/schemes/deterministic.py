"""The paper's scheme: Paillier ciphertexts under one obfuscator, so that equal pixels give equal ciphertexts.

Boulila et al. 2022 (arXiv 2203.07728) train on such ciphertexts. They are real ones, which phe decrypts, yet not confidential: with the
public key one division reads every pixel difference, c_i / c_j = 1 + (m_i - m_j) n (mod n^2), and without it the symbols can be ordered
by what stands side by side (ppdl.protections.schemes.seriation).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ppdl.arrays import Rows
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.codebook import solve_codebook, write_codebook_artifact
from ppdl.protections.base import Protection
from ppdl.protections.schemes.seriation import spectral_table
from ppdl.protections.view import View

if TYPE_CHECKING:
    from ppdl.protections.context import Context

_EMBEDDING_SEED = 0  # where an untrained embedding starts is no secret and no result


@dataclass(frozen=True)
class Deterministic(Protection):
    """Encrypt pixel by pixel under one random obfuscator that is then forgotten.

    Views, all of ciphertexts alone:
        spectral: a learned vector a symbol that starts from the seriation of the symbols.
        bytes: the three leading ciphertext bytes as channels, fixed.
        embedding: a learned vector a symbol that starts from random.
    """

    name: ClassVar[str] = "deterministic"
    views: ClassVar[tuple[str, ...]] = ("spectral", "bytes", "embedding")
    needs_artifact: ClassVar[bool] = True
    confidential: ClassVar[bool] = False
    reason: ClassVar[str] = (
        "one obfuscator for all pixels: equal pixels have equal ciphertexts, and with the public key any two ciphertexts give the exact "
        "difference of their pixels"
    )

    def encrypt(self, images: Rows, out_dir: Path, context: Context) -> None:
        """Write a codebook artifact; with the codebook of `context.like` where there is one.

        The obfuscator of that was forgotten, and nobody needs it: which ciphertext stands for which gray value follows from the public key
        (`solve_codebook`). A source can do this because the scheme leaks.

        Raises:
            ArtifactError: `context.like` is damaged, or of another protection or key.

        Cost: 256 encryptions, then one table look-up a pixel.
        """
        codebook = None
        if context.like is not None:
            self.check_own(context.like)
            like = open_artifact(context.like)
            like.check_key(context.public_key)
            codebook = like.codebook, solve_codebook(context.public_key, like.codebook)
        write_codebook_artifact(
            out_dir,
            images=images,
            public_key=context.public_key,
            protection=self.record(context.input_px),
            reason=self.reason,
            partial_dir=context.partial_dir,
            codebook=codebook,
            progress=context.progress,
        )

    def read(self, folder: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read the artifact as symbols with a table; see `Protection.view`."""
        artifact = open_artifact(folder)
        symbols, codebook = artifact.indices, artifact.codebook
        if view_name == "spectral":
            table = spectral_table(symbols, train_rows, len(codebook))
        elif view_name == "bytes":
            table = codebook[:, :3].astype(np.float32) / 127.5 - 1
        else:
            table = np.random.default_rng(_EMBEDDING_SEED).uniform(-1, 1, (len(codebook), 3)).astype(np.float32)
        return View(name=view_name, array=symbols, table=table, trainable=view_name != "bytes", scale=1.0, offset=0.0)
