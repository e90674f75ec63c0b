"""Published ways to "encrypt" images, each by its published rule, and the images they are tried on."""

from tests.audit.schemes.films import SIZE_PX, collimated, examine, films, noise, target, with_known
from tests.audit.schemes.learnable import block_scrambling, negative_positive, negative_positive_colour
from tests.audit.schemes.standard import paillier_without_randomness
from tests.audit.schemes.table import SCHEMES, Scheme

__all__ = [
    "SCHEMES",
    "SIZE_PX",
    "Scheme",
    "block_scrambling",
    "collimated",
    "examine",
    "films",
    "negative_positive",
    "negative_positive_colour",
    "noise",
    "paillier_without_randomness",
    "target",
    "with_known",
]
