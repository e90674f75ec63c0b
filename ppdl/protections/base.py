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
    from ppdl.protections.view import View


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
