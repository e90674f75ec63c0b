"""Errors that are a user's to fix.

Every message says which file or parameter is wrong, the rule, what was found and what to do. Stages and the command line print it
without a traceback; anything else that escapes is a bug and keeps its traceback.
"""

import re
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "ppdl-paillier"  # what pip calls this package; `ppdl` on the package index is somebody else's


def install_extra(name: str) -> str:
    """Return how to install an extra: the distribution is there already, so that the package index is asked for its dependencies alone."""
    return f"run `pip install '{DISTRIBUTION}[{name}]'`"


def extra_of(module: str) -> str | None:
    """Return the first extra that brings a module, None where none does."""
    try:
        wanted = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # a copy of the code without its metadata
        return None
    name = module.partition(".")[0].lower()
    found = (re.match(r"([\w-]+).*\bextra == ['\"]([\w-]+)", line) for line in wanted)
    return next((match[2] for match in found if match and match[1].lower().replace("-", "_") == name), None)


class PpdlError(Exception):
    """Base of all errors with a message for the user."""


class ConfigError(PpdlError):
    """A parameter breaks its rule, or does not fit the files that it is used with."""


class DivergedError(ConfigError):
    """A training came to a loss that is no number: the result of a bad trial, which does not end a sweep."""


class DataError(PpdlError):
    """An image, an index or a data folder cannot be used."""


class KeyStoreError(PpdlError):
    """A key file is missing, unreadable, unsafe or of another pair. Messages never quote private parts."""


class ArtifactError(PpdlError):
    """A ciphertext artifact is damaged, incomplete, of another version or of another key."""


class CryptoError(PpdlError):
    """A number does not fit the cryptosystem: a plaintext out of range, a slot that may overflow, an invalid ciphertext."""


class LeakError(PpdlError):
    """A negative control beat chance: what must be noise to a network is not."""


class AttackDoesNotApply(PpdlError):
    """What was protected has nothing that an attack works on; a result, which the reports print."""


class TrackingError(PpdlError):
    """The MLflow store cannot be used, or a run is missing from it."""


class ServerError(PpdlError):
    """A server of private inference cannot be reached, refuses, or gives an answer that is none."""
