"""Failures of the MLflow store in words: what was tried, what went wrong, what to do. Passwords in URIs are hidden."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ppdl.errors import TrackingError

ENV = "MLFLOW_TRACKING_URI"
ANOTHER_VERSION = (
    "Another version of MLflow wrote the database: back it up, then run `mlflow db upgrade '{uri}'`, "
    "or install the version in requirements.lock."
)


def is_http(uri: str) -> bool:
    """Tell whether a tracking server stands before the store."""
    return uri.startswith(("http://", "https://"))


def without_password(text: str) -> str:
    return re.sub(r"(://[^/:@\s]*):[^/@\s]*@", r"\1:***@", text)


def store_failures() -> tuple[type[Exception], ...]:
    """Return the exceptions by which a store fails; a mistake in our own calls is none of them."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError  # requests' and filelock's are OSError; a driver may not be installed


@contextlib.contextmanager
def explained(doing: str, uri: str) -> Iterator[None]:
    """Raise the store's failures in the body as a TrackingError: "cannot {doing} the MLflow store ..."."""
    try:
        yield
    except TrackingError:
        raise
    except store_failures() as error:
        text = without_password(_reason(error))
        raise TrackingError(f"cannot {doing} the MLflow store {without_password(uri)}: {text}\n{_advice(uri, text)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    below = re.search(r"\(\w+\.\w+\) (.+?) \[SQL", text)  # SQLAlchemy wraps what the database said
    return below.group(1) if below else text[:300]


def _advice(uri: str, text: str) -> str:
    lower = text.lower()
    if is_http(uri):
        return f"Start that server or check your access to it, correct {ENV}, or unset it to log to mlflow.db in the checkout."
    if "schema" in lower or "revision" in lower:
        return ANOTHER_VERSION.format(uri=without_password(uri))
    if re.search("(table|relation) .*already exists", lower):  # at a server of databases, or an address file:...; others are made whole
        return "A kill cut the making of its tables short: drop them if they hold no run, and run again."
    if "not a database" in lower or "malformed" in lower:
        return "The database is damaged: move it away, run again, then rebuild its runs with `ppdl model restore-runs`."
    if "is locked" in lower or "could not be acquired" in lower:
        return "Another process holds it: end that process, or wait."
    if "no module named" in lower:
        return "Install that package, the database's driver, into this environment."
    if uri.startswith("sqlite:"):
        return f"Make it and its folder writable by this user, or set {ENV} to another store."
    return f"Correct {ENV}, or unset it to log to mlflow.db in the checkout."
