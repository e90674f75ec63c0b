"""The paper's scheme: Paillier ciphertexts under one obfuscator, so that equal pixels give equal ciphertexts.

Boulila et al. 2022 (arXiv 2203.07728) train on such ciphertexts. They are real ones, which phe decrypts, yet not confidential: with the
public key one division reads every pixel difference, c_i / c_j = 1 + (m_i - m_j) n (mod n^2), and without it the symbols can be ordered
by what stands side by side (ppdl.protections.schemes.seriation).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ppdl.arrays import Rows
from ppdl.crypto.artifact import fields
from ppdl.crypto.artifact.reading import Artifact, open_artifact
from ppdl.crypto.encryption.codebook import solve_codebook, write_codebook_artifact
from ppdl.errors import ArtifactError, ConfigError
from ppdl.protections.base import Protection
from ppdl.protections.schemes.seriation import spectral_table
from ppdl.protections.view import View

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey

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

    def encrypt(self, images: Rows, out_dir: Path, *, input_px: int, public_key: PublicKey, partial_dir: Path, executor: Any) -> None:
        """Write a codebook artifact. Cost: 256 encryptions, then one table look-up a pixel."""
        write_codebook_artifact(
            out_dir,
            images=images,
            public_key=public_key,
            protection=fields.Protection(self.name, self.params(input_px)),
            reason=self.reason,
            partial_dir=partial_dir,
        )

    def encrypt_like(
        self,
        images: Rows,
        out_dir: Path,
        *,
        like: Path | None,
        input_px: int,
        public_key: PublicKey,
        partial_dir: Path,
        executor: Any,
    ) -> None:
        """Write a codebook artifact with the codebook of `like`; see `Protection.encrypt_like`.

        The obfuscator of `like` was forgotten, and nobody needs it: which ciphertext stands for which gray value follows from the
        public key (`solve_codebook`). A source can do this because the scheme leaks.

        Raises:
            ArtifactError: `like` is missing, damaged, or of another protection or key.
        """
        if like is None:
            raise ArtifactError(
                f"{self.name}: symbols of a trained network can only be found with the artifact that it was trained on, got None"
            )
        artifact = self._open(like)
        artifact.check_key(public_key)
        write_codebook_artifact(
            out_dir,
            images=images,
            public_key=public_key,
            protection=fields.Protection(self.name, self.params(input_px)),
            reason=self.reason,
            partial_dir=partial_dir,
            codebook=(artifact.codebook, solve_codebook(public_key, artifact.codebook)),
        )

    def view(self, artifact_dir: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read the artifact as symbols with a table; see `Protection.view`."""
        artifact = self._open(artifact_dir)
        symbols, codebook = artifact.indices, artifact.codebook
        if view_name == "spectral":
            return self._view(view_name, symbols, spectral_table(symbols, train_rows, len(codebook)), trainable=True)
        if view_name == "bytes":
            return self._view(view_name, symbols, codebook[:, :3].astype(np.float32) / 127.5 - 1, trainable=False)
        if view_name == "embedding":
            table = np.random.default_rng(_EMBEDDING_SEED).uniform(-1, 1, (len(codebook), 3)).astype(np.float32)
            return self._view(view_name, symbols, table, trainable=True)
        raise ConfigError(f"views of {self.name} are {', '.join(self.views)}, got {view_name!r}")

    def _open(self, artifact_dir: Path) -> Artifact:
        artifact = open_artifact(artifact_dir)
        found = artifact.header.protection.name
        if found != self.name:
            raise ArtifactError(f"{artifact_dir} must hold protection {self.name!r}, found {found!r}: encrypt this branch again")
        return artifact

    def _view(self, name: str, symbols: Rows, table: np.ndarray, *, trainable: bool) -> View:
        return View(name=name, array=symbols, table=table, trainable=trainable, scale=1.0, offset=0.0)
