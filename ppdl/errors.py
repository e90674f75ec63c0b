"""Errors that are a user's to fix.

Every message says which file or parameter is wrong, the rule, what was found and what to do. Stages and the command line print it
without a traceback; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "ppdl-paillier"  # what pip calls this package; `ppdl` on the package index is somebody else's


def install_extra(name: str) -> str:
    """Return how to install an extra: the distribution is there already, so that the package index is asked for its dependencies alone."""
    return f"run `pip install '{DISTRIBUTION}[{name}]'`"


def needed(extra: str = "") -> list[Requirement]:
    """Return what this distribution needs here, with those of an extra.

    Raises:
        PackageNotFoundError: the code runs without having been installed.
    """
    from importlib.metadata import requires  # not at start: errors seldom ask

    from packaging.requirements import Requirement

    wanted = map(Requirement, requires(DISTRIBUTION) or [])
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]


def extra_of(module: str) -> str | None:
    """Return the first extra that brings a module, None where none does."""
    from importlib.metadata import PackageNotFoundError, metadata

    def brings(extra: str) -> bool:
        return module.partition(".")[0].lower() in {one.name.lower().replace("-", "_") for one in needed(extra)}

    try:
        extras = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
        return None if brings("") else next(filter(brings, extras), None)
    except PackageNotFoundError:  # a copy of the code without its metadata
        return None


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
