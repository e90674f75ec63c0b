"""Synthetic chest X-rays as another device takes them: the same anatomy and findings, another look."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from ppdl.datasets.phantoms.film import LETTERS, Device
from ppdl.datasets.sources.phantom import Phantom
from ppdl.errors import ConfigError

MAX_LETTERS = 10  # what fits on a film of any size


@dataclass(frozen=True, kw_only=True)
class PhantomOther(Phantom):
    """Draw films as `Phantom` does, and expose them as another device does.

    With another `seed` than the set's, no patient is in both.

    Attributes:
        contrast, gamma, noise, collimation, letters: See `Device`.

    Raises:
        ConfigError: A field breaks its rule.
    """

    contrast: Annotated[float, Gt(0), Le(4)]
    gamma: Annotated[float, Gt(0), Le(4)]
    noise: Annotated[float, Ge(0), Le(10)]
    collimation: Annotated[float, Ge(0), Le(0.2)]
    letters: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not set(self.letters) <= LETTERS or len(self.letters) > MAX_LETTERS:
            raise ConfigError(f"dataset.letters must be at most {MAX_LETTERS} of {', '.join(sorted(LETTERS))}, got {self.letters!r}")

    @property
    def device(self) -> Device:
        return Device(self.contrast, self.gamma, self.noise, self.collimation, self.letters)
