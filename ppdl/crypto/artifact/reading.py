"""Read PPDL/1 artifacts: ciphertexts of images in a folder. The full specification is docs/format.md; the layout is

    header.json             format, kind, protection, key fingerprint, sizes, packing, SHA-256 of each shard, canary, digest
    codebook.npy            kind codebook: (256, ciphertext_bytes) uint8, the ciphertexts of the 256 pixel values, ascending
    indices-NNNNN.npy       kind codebook: (images of the shard, height, width) uint8, a row of the codebook for each pixel
    ciphertexts-NNNNN.npy   kinds dense and slots: (ciphertexts of the shard, ciphertext_bytes) uint8
    header.sig              if somebody signed header.json (ppdl.crypto.signing)

A ciphertext is a number below n^2, big-endian, in 2 * |n| / 8 bytes. Digests find errors; they authenticate nothing, and Paillier
ciphertexts are malleable: whoever can write the artifact can change the images.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from ppdl.crypto.artifact.fields import RESTORE
from ppdl.crypto.artifact.header import KINDS, Header
from ppdl.crypto.artifact.header_file import HEADER_FILE, SIGNATURE_FILE, read_header
from ppdl.crypto.artifact.rows import ShardedRows
from ppdl.crypto.artifact.shards import check_size, read_shard
from ppdl.crypto.keys.keypair import PublicKey, check_purpose
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import ArtifactError


class Artifact:
    """Give memory-mapped access to an artifact; each shard is verified once, when it is first needed.

    Bytes that change after that are not noticed: nobody may write to the folder while it is in use.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = Path(path), header
        self._open: dict[str, np.memmap] = {}

    def shard(self, file: str) -> np.memmap:
        """Give the array of a shard, verified at first access.

        Raises:
            ArtifactError: the shard is missing, damaged, or another one's bytes.
        """
        if file not in self._open:
            shard = next(shard for shard in self.header.shards if shard.file == file)
            self._open[file] = read_shard(self.path / file, shard, self.header.shards)
        return self._open[file]

    def _rows(self, starts: list[int], row_shape: tuple[int, ...]) -> ShardedRows:
        shards = self.header.data_shards
        return ShardedRows(starts, row_shape, lambda index: self.shard(shards[index].file))

    def _expect(self, packed: bool, name: str) -> None:
        if KINDS[self.header.kind].packed != packed:
            raise ArtifactError(f"{self.path}: an artifact of kind {self.header.kind!r} has no {name}")

    @cached_property
    def codebook(self) -> np.ndarray:
        """Ciphertexts of the pixel values, (256, ciphertext_bytes) uint8, in ascending order.

        Raises:
            ArtifactError: another kind of artifact, a damaged shard, or rows that do not ascend.
        """
        self._expect(False, "codebook")
        codebook = self.shard("codebook.npy")
        rows = [row.tobytes() for row in codebook]
        if any(a >= b for a, b in pairwise(rows)):
            raise ArtifactError(f"{self.path / 'codebook.npy'}: rows must ascend, so that their order tells nothing; encrypt again")
        return codebook

    @cached_property
    def indices(self) -> ShardedRows:
        """Rows of the codebook, (num_images, height, width) uint8: what stands for the pixels."""
        self._expect(False, "indices")
        source = self.header.source
        starts = [shard.first_image for shard in self.header.data_shards] + [source.num_images]
        return self._rows(starts, (source.height, source.width))

    @cached_property
    def ciphertexts(self) -> ShardedRows:
        """All ciphertexts, (num_ciphertexts, ciphertext_bytes) uint8, shard after shard."""
        self._expect(True, "packed ciphertexts")
        starts = np.cumsum([0] + [shard.shape[0] for shard in self.header.data_shards]).tolist()
        return self._rows(starts, (self.header.ciphertext_bytes,))

    @cached_property
    def ciphertexts_by_image(self) -> ShardedRows:
        """The ciphertexts of each image, (num_images, ciphertexts of an image, ciphertext_bytes) uint8.

        Raises:
            ArtifactError: images share ciphertexts (packing.images_per_group is not 1).
        """
        self._expect(True, "packed ciphertexts")
        packing, shards = self.header.packed_as, self.header.data_shards
        if packing.images_per_group != 1:
            raise ArtifactError(
                f"{self.path}: images must have ciphertexts of their own (packing.images_per_group 1), "
                f"found groups of {packing.images_per_group}; encrypt again with images_per_group=1"
            )
        shape = (packing.rows(1), self.header.ciphertext_bytes)
        starts = [shard.first_image for shard in shards] + [self.header.source.num_images]
        return ShardedRows(starts, shape, lambda index: self.shard(shards[index].file).reshape(-1, *shape))

    def verify(self, public_key: PublicKey | None = None, on_bytes: Callable[[int], None] = lambda count: None) -> None:
        """Check every byte of the artifact.

        Args:
            public_key: also check that each ciphertext is in (0, n^2).
            on_bytes: told the size of each shard after it was checked.

        Raises:
            ArtifactError: a missing, damaged, swapped or unexpected file, or an impossible ciphertext.

        Cost: reads each shard once, at about the speed of SHA-256.
        """
        if public_key is not None:
            self.check_key(public_key)
        expected = {HEADER_FILE, SIGNATURE_FILE} | {shard.file for shard in self.header.shards}
        if extra := sorted({path.name for path in self.path.iterdir()} - expected):
            raise ArtifactError(f"{self.path / extra[0]}: not listed in the header; remove it")
        for shard in self.header.shards:
            self._open.pop(shard.file, None)  # what was verified before may have changed since
            array = self.shard(shard.file)
            if public_key is not None and array.ndim == 2:
                self._check_range(self.path / shard.file, array, public_key)
            on_bytes(shard.bytes)
        if not KINDS[self.header.kind].packed:
            self.__dict__.pop("codebook", None)
            _ = self.codebook

    @staticmethod
    def _check_range(path: Path, rows: np.ndarray, public_key: PublicKey) -> None:
        bound = public_key.n_squared.to_bytes(public_key.ciphertext_bytes, "big")
        for index, row in enumerate(rows):
            if not row.any() or row.tobytes() >= bound:
                raise ArtifactError(f"{path}: ciphertext {index} must be in (0, n^2), found a number outside; {RESTORE}")

    def check_key(self, public_key: PublicKey) -> None:
        """Raise ArtifactError unless the artifact was encrypted under `public_key`, and KeyStoreError when that is for another purpose."""
        check_purpose(public_key, ARCHIVE)
        key = self.header.key
        if (key.fingerprint, key.key_bits) != (public_key.fingerprint, public_key.key_bits):
            raise ArtifactError(
                f"{self.path}: encrypted under the {key.key_bits}-bit key {key.fingerprint}, got the {public_key.key_bits}-bit key "
                f"{public_key.fingerprint}; use the key pair with the artifact's fingerprint"
            )


def open_artifact(path: Path) -> Artifact:
    """Open an artifact: check its header, and that its files are there with the right sizes.

    Raises:
        ArtifactError: no artifact, a header that breaks a rule, or a shard that is missing or truncated.

    Cost: reads the header alone; shards are verified at first access.
    """
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(f"{path}: an artifact is a folder, found {'a file' if path.exists() else 'nothing'}; {RESTORE}")
    header = read_header(path)
    for shard in header.shards:
        check_size(path / shard.file, shard)
    return Artifact(path, header)
