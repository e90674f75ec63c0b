"""How images become ciphertexts, and ciphertexts network input.

A protection writes an artifact (`encrypt`) and reads it back as what a network is fed (`view`). Training sees the `View` alone, so a new
protection needs no change there, and the plain images are one more view.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ppdl.arrays import Rows
from ppdl.errors import ConfigError
from ppdl.protections.contents import Contents, contents_of_artifact

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey


@dataclass(frozen=True, eq=False)
class View:
    """Describe what the network is fed.

    Args:
        name: "pixels", "spectral", "bytes", ...
        array: Integers that int32 can hold, (num_images, height, width) or (num_images, height, width, 1 or 3). Row i belongs to
            row i of the prepared images. Usually memory-mapped; anything with `shape`, `dtype` and rows by number will do.
        table: What each symbol looks like, (num_symbols, 1 or 3) float32 in [-1, 1]; `array` then holds symbols in
            [0, num_symbols), without a channel axis. None: `array` holds values, which become value * scale + offset.
        trainable: The table is where learning starts, not where it stays.
        scale: Ignored with a table.
        offset: Ignored with a table.

    Raises:
        ConfigError: A part breaks one of these rules. That symbols stay below num_symbols is checked where they are read,
            for checking it here would read the whole array.
    """

    name: str
    array: Rows
    table: np.ndarray | None
    trainable: bool
    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a view needs a name, got ''")
        self._check_array()
        if self.table is None:
            self._check_scale()
        else:
            self._check_table(self.table)

    def _check_array(self) -> None:
        shape, dtype = self.array.shape, self.array.dtype
        if dtype.kind not in "iu" or not np.can_cast(dtype, np.int32):
            raise ConfigError(f"view {self.name!r}: array must hold integers that int32 can hold, got {dtype}")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
            rule = "array must be (num_images, height, width) or (num_images, height, width, 1 or 3)"
            raise ConfigError(f"view {self.name!r}: {rule}, got {shape}")
        if min(shape) < 1:
            raise ConfigError(f"view {self.name!r}: array must not be empty, got {shape}")

    def _check_scale(self) -> None:
        if self.trainable:
            raise ConfigError(f"view {self.name!r}: trainable needs a table to train, got table None")
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale != 0):
            rule = "scale and offset must be finite and scale not 0"
            raise ConfigError(f"view {self.name!r}: {rule}, got scale {self.scale}, offset {self.offset}")

    def _check_table(self, table: np.ndarray) -> None:
        if len(self.array.shape) != 3:
            rule = "an array of symbols must be (num_images, height, width)"
            raise ConfigError(f"view {self.name!r}: {rule}, got {self.array.shape}")
        if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] not in (1, 3) or table.dtype != np.float32:
            rule = "table must be (num_symbols, 1 or 3) float32"
            raise ConfigError(f"view {self.name!r}: {rule}, got {table.shape} {table.dtype}")
        if not (np.abs(table) <= 1).all():  # also False for NaN
            found = f"{np.min(table)} to {np.max(table)}"
            raise ConfigError(f"view {self.name!r}: table must lie in [-1, 1], got {found}")


@dataclass(frozen=True)
class Protection(ABC):
    """Turn images into ciphertexts, and ciphertexts into network input.

    A subclass is a frozen dataclass whose fields are the arguments in conf/protection/NAME.yaml, and sets the class attributes:

    Attributes:
        name: One name everywhere: the configuration file, the data and model folders, the MLflow run.
        views: Names that `view` accepts; the first is the default.
        needs_artifact: A further image can be read by a trained network only if it is encrypted with the training artifact at hand.
        learnable: A network may learn from it. False: a negative control, on which a network must stay at chance.
        confidential: The artifact hides the images from who holds it and the public key.
        reason: Why it does, or why not, in one sentence for headers and reports.
    """

    name: ClassVar[str]
    views: ClassVar[tuple[str, ...]]
    needs_artifact: ClassVar[bool] = False
    learnable: ClassVar[bool] = True
    confidential: ClassVar[bool]
    reason: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "name" in own and not str(own["name"]).isidentifier():
            raise ConfigError(f"a protection's name must be an identifier, for it names folders; got {own['name']!r}")
        if "views" in own and (isinstance(own["views"], str) or not own["views"] or len(set(own["views"])) < len(own["views"])):
            raise ConfigError(f"{cls.__name__}.views must be a tuple of different names, got {own['views']!r}")
        if "reason" in own and not own["reason"]:
            raise ConfigError(f"{cls.__name__}.reason must say why it is or is not confidential, got ''")

    def image_px(self, input_px: int) -> int:
        """Return the side of the images that this protection encrypts, given that of the network's input."""
        return input_px

    def params(self, input_px: int) -> dict[str, Any]:
        """Return what the artifact depends on, as its header records it; a sweep is compared with it."""
        return {"input_px": input_px, **asdict(self)}

    @abstractmethod
    def encrypt(self, images: Rows, out_dir: Path, *, input_px: int, public_key: PublicKey, partial_dir: Path, executor: Any) -> None:
        """Write the artifact of `images` to `out_dir`, with the public key alone.

        Args:
            images: (num_images, image_px, image_px) uint8, memory-mapped, see `image_px`.
            out_dir: A folder that holds nothing yet.
            input_px: Side of the network's input.
            public_key: What the ciphertexts are encrypted under.
            partial_dir: Where unfinished work lies, outside `out_dir`, on the same file system.
            executor: What runs the shards in parallel (conf/executor/NAME.yaml).
        """

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
        """Write an artifact of further images that a network trained on the artifact `like` can read, with the public key alone.

        Where every ciphertext is random this is `encrypt`. A protection whose ciphertexts mean something from one artifact to the next
        overrides it, and sets `needs_artifact`.

        Args:
            like: The artifact that the network was trained on; None will do where `needs_artifact` is not set.
        """
        self.encrypt(images, out_dir, input_px=input_px, public_key=public_key, partial_dir=partial_dir, executor=executor)

    def contents(self, artifact_dir: Path) -> Contents:
        """Describe what the trainer reads; a protection whose last step writes no PPDL/1 artifact says so itself."""
        return contents_of_artifact(artifact_dir)

    @abstractmethod
    def view(self, artifact_dir: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read the artifact as network input.

        Args:
            artifact_dir: What `encrypt`, or a later stage of this protection, wrote.
            view_name: One of `views`.
            train_rows: Rows that anything learned from the artifact may use, (num_train,) int: never those of the test split.

        Raises:
            ConfigError: `view_name` is not one of `views`.
            ArtifactError: The artifact is damaged or of another protection.
        """


def plain_view(images: Rows) -> View:
    """Return the view of unencrypted images, (num_images, height, width) uint8: pixels scaled to [-1, 1]."""
    if images.dtype != np.uint8:
        raise ConfigError(f"view 'pixels': images must be uint8, for they are scaled from 0..255; got {images.dtype}")
    return View(name="pixels", array=images, table=None, trainable=False, scale=1 / 127.5, offset=-1.0)
