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
from ppdl.crypto.artifact.fields import Protection as Record
from ppdl.errors import ArtifactError, ConfigError
from ppdl.protections.contents import Contents, contents_of_artifact

if TYPE_CHECKING:
    from ppdl.protections.context import Context
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

    def record(self, input_px: int) -> Record:
        """Return what the header of an artifact says of this protection."""
        return Record(self.name, self.params(input_px))

    @abstractmethod
    def encrypt(self, images: Rows, out_dir: Path, context: Context) -> None:
        """Write the artifact of `images` to `out_dir`, with the public key alone.

        Args:
            images: (num_images, image_px, image_px) uint8, memory-mapped, see `image_px`.
            out_dir: A folder that holds nothing yet.
            context: Where it names an artifact (`like`), a network that was trained on that one must be able to read this. Where every
                ciphertext is random there is nothing to do for it. A protection whose ciphertexts mean something from one artifact to
                the next keeps to their meaning, and sets `needs_artifact`.
        """

    def contents(self, folder: Path) -> Contents:
        """Describe what the trainer reads; a protection whose last step writes no PPDL/1 artifact says so itself."""
        return contents_of_artifact(folder)

    def check_own(self, folder: Path) -> None:
        """Raise ArtifactError unless `folder` holds what this protection wrote."""
        if (found := self.contents(folder).protection) != self.name:
            raise ArtifactError(f"{folder} must hold protection {self.name!r}, found {found!r}: build this branch again (`dvc repro`)")

    def view(self, folder: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read what the last step of this protection wrote as network input.

        Args:
            folder: What `encrypt`, or a later step, wrote.
            view_name: One of `views`.
            train_rows: Rows that anything learned from the artifact may use, (num_train,) int: never those of the test split.

        Raises:
            ConfigError: `view_name` is not one of `views`.
            ArtifactError: The artifact is damaged or of another protection.
        """
        if view_name not in self.views:
            raise ConfigError(f"views of {self.name} are {', '.join(self.views)}, got {view_name!r}")
        self.check_own(folder)
        return self.read(folder, view_name, train_rows)

    @abstractmethod
    def read(self, folder: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Do what `view` says, once the name and the protection are checked."""
