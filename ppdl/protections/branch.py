"""One way to protect images: encryption, and the steps that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.datasets.prepared.reduced import Reduced
from ppdl.protections.base import Protection
from ppdl.protections.context import FOLDERS, Context


@dataclass(frozen=True)
class Branch:
    """Protect images by a scheme and the steps that follow it.

    Attributes:
        scheme: encrypts, and reads what the last step wrote.
        steps: by name, in the order of FOLDERS. `write(*folders, out_dir, context)` of a step takes what encryption and all steps before it
            wrote, and the folder that it writes itself.
    """

    scheme: Protection
    steps: Mapping[str, Any] = field(default_factory=dict)

    def encrypt(self, images: np.ndarray, out_dir: Path, context: Context) -> None:
        """Encrypt prepared images, (num_images, prepared_px, prepared_px) uint8, at the size that the scheme takes them."""
        self.scheme.encrypt(Reduced(images, self.scheme.image_px(context.input_px)), out_dir, context)

    def protect(self, images: np.ndarray, folder: Path, context: Context) -> Path:
        """Take prepared images through every step, each in a folder of its own below `folder`; return the last, which a network is fed.

        Raises:
            PpdlError: a step refuses what it was given.
        """

        def here(name: str) -> Context:
            return replace(context, partial_dir=context.partial_dir / name)

        written = [folder / FOLDERS["encrypt"]]
        self.encrypt(images, written[0], here("encrypt"))
        for name, step in self.steps.items():
            out_dir = folder / FOLDERS[name]
            step.write(*written, out_dir, here(name))
            written.append(out_dir)
        return written[-1]
