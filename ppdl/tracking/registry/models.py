"""MLflow's model registry: the best run of a protection becomes a version of `ppdl-NAME`, the best version its `champion`.

Runs are compared by the mean -log p(true class) over the validation images, of the weights that they kept, never by a test figure, and only
among runs of the same data: the same images, labels and split (tag `data_sha256`) and, where there is a key, the same key.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdl.errors import DISTRIBUTION, TrackingError, needed
from ppdl.tracking.registry.candidates import Candidate, download
from ppdl.tracking.runs.model import pinned
from ppdl.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
PREFIX = "ppdl-"
LOADER = "ppdl.prediction.pyfunc"
UNLIKE = "unlike_training_set"  # a column of a model's answer, 1 where an image is; not there without a threshold
LOGGED_NAME = "raw-image"
PACKAGE = "network"  # name of the folder that is given to `register`
CODE = Path(__file__).resolve().parents[2]  # the folder ppdl
NETWORKS = ("keras", "psutil", "tensorflow")  # of the extra `train`: what answering imports beside the dependencies without an extra
DATA = f"data/{PACKAGE}"  # where MLflow puts it in the model
MAX_DESCRIPTION = 5000  # characters, of MLflow's tables
_DIGEST, _LOSS = "digest", "validation_log_loss"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Registration:
    """What `register` did: `is_new` version or the one that was there, and what became of the alias, in words."""

    name: str
    version: str
    is_new: bool
    is_champion: bool
    alias: str


def fetch_registered(store: Store, uri: str, folder: Path) -> Path:
    """Download a registered model into `folder` and return its data folder. Nothing of it is run.

    Args:
        uri: models:/NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        TrackingError: another URI, no such model, or one that `ppdl model register` did not make.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise TrackingError(f"a registered model is named models:/NAME@ALIAS or models:/NAME/VERSION, got {uri!r}")
    name = match["name"]
    with store.explained("read a model from"):
        if (version := _version(store, **match.groupdict())) is None:
            raise TrackingError(f"{store.shown} has no {uri}: register one with `ppdl model register`")
        data = download(store, store.client.get_model_version_download_uri(name, version.version), str(folder)) / DATA
    if name.startswith(PREFIX) and data.is_dir():
        return data
    raise TrackingError(f"{uri} was not made by `ppdl model register`, so how to prepare an image for it is not known")


def _version(store: Store, name: str, alias: str | None = None, version: str = "") -> ModelVersion | None:
    """Return the version of a model with this alias, or with this number; None when there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_model_version_by_alias(name, alias) if alias else store.client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def register(
    store: Store, candidate: Candidate, package: Path, *, digest: str, card: str, example: pd.DataFrame, promote: bool = False
) -> Registration:
    """Make a run's network a version of `ppdl-PROTECTION`, unless it is one already, and move the alias if it is better.

    Args:
        package: folder PACKAGE of the model's data, see ppdl.prediction.package.
        digest: stands for the content of `package`; a version with this digest is not made twice.
        card: markdown, the description of the version, and of the model when it is champion.
        example: input example, a row.
        promote: move the alias also where the champion is of other data or of another key, so that their losses do not compare.

    Raises:
        TrackingError: the store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    name = PREFIX + candidate.run.tags["protection"]
    with store.explained("register a model in"), store.lock():
        try:
            store.client.create_registered_model(name, tags={"protection": candidate.run.tags["protection"]})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = [v for v in store.client.search_model_versions(f"name = '{name}'") if v.tags.get(_DIGEST) == digest]
        version = found[0] if found else _new_version(store, name, candidate, package, digest, example)
        store.client.update_model_version(name, version.version, card[:MAX_DESCRIPTION])
        is_champion, words = _crown(store, version, promote=promote)
        if is_champion:
            store.client.update_registered_model(name, card[:MAX_DESCRIPTION])
    return Registration(name, str(version.version), not found, is_champion, words)


def _new_version(store: Store, name: str, candidate: Candidate, package: Path, digest: str, example: pd.DataFrame) -> ModelVersion:
    logged = store.client.create_logged_model(store.experiment_id, name=LOGGED_NAME, source_run_id=candidate.run.run_id)
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), candidate, package, logged, example)
        store.client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    store.client.finalize_logged_model(logged.model_id, "READY")
    tags = {
        _DIGEST: digest,
        "protection": candidate.run.tags["protection"],
        "view": candidate.metadata["view"],
        "key_fingerprint": candidate.metadata["key_fingerprint"] or "none",
        "data_sha256": candidate.run.tags["data_sha256"],
        _LOSS: repr(candidate.log_loss),
    }
    # Not models:/ID, which MLflow 3.17 looks up in the store that its environment names instead of the client's.
    source = logged.artifact_location
    return store.client.create_model_version(name, source, run_id=candidate.run.run_id, tags=tags, model_id=logged.model_id)


def _save(folder: Path, candidate: Candidate, package: Path, logged: Any, example: pd.DataFrame) -> None:
    """Write an MLflow model that names our loader, and holds the code that it is in; no object of ours is pickled."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("string", name) for name in example.columns])
    outputs = Schema([*(ColSpec("double", name) for name in candidate.metadata["class_names"]), ColSpec("double", UNLIKE, required=False)])
    code = shutil.copytree(CODE, folder / CODE.name, ignore=shutil.ignore_patterns("__pycache__", "conf"))  # conf/local is the user's own
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        loader_module=LOADER,
        data_path=str(package),
        code_paths=[str(code)],
        mlflow_model=Model(
            artifact_path=logged.artifact_location, run_id=candidate.run.run_id, model_id=logged.model_id, model_uuid=logged.model_id
        ),
        signature=ModelSignature(inputs, outputs),
        input_example=example,
        pip_requirements=requirements(),
        metadata=dict(candidate.metadata),
    )


def requirements() -> list[str]:
    """Pin what the code in a model needs, as it is installed here: never a distribution by the code's own name, which a stranger may have.

    Readers of DICOM are pinned where they are installed.

    Raises:
        TrackingError: this code runs without having been installed.
    """
    try:
        wanted = {one.name: one for one in needed("dicom")}
        core = {one.name for one in needed()}
    except PackageNotFoundError:
        raise TrackingError(f"{DISTRIBUTION} is not installed, so what a model needs is not known: run `make setup`") from None
    found = [pinned(name) for name in NETWORKS]
    for name, one in wanted.items():
        pin = pinned(name)
        if name in core or pin != name:  # else a reader of DICOM that is not installed
            found.append(pin.replace(name, f"{name}[{','.join(sorted(one.extras))}]", 1) if one.extras else pin)
    return sorted(found)


def _crown(store: Store, version: ModelVersion, *, promote: bool) -> tuple[bool, str]:
    """Move the alias to a version if it is better than the champion, and say what was done and why."""
    champion = _version(store, version.name, alias=CHAMPION)
    if champion is not None and champion.version == version.version:
        return True, "the champion already"
    moves, words = (True, "the first champion") if champion is None else _judge(version, champion, promote=promote)
    if moves:
        store.client.set_registered_model_alias(version.name, CHAMPION, version.version)
    return moves, words


def _judge(version: ModelVersion, champion: ModelVersion, *, promote: bool) -> tuple[bool, str]:
    """Return whether a version takes another's place, and why."""
    differ = [what for what in ("data_sha256", "key_fingerprint") if champion.tags.get(what) != version.tags[what]]
    if differ:
        compared = f"version {champion.version} has another {' and another '.join(differ)}, so its validation log loss does not compare"
        return promote, f"moved as asked: {compared}" if promote else f"not moved: {compared}; --promote moves it all the same"
    ours, theirs = (float(v.tags[_LOSS]) for v in (version, champion))
    compared = f"validation log loss {ours:.4f}, version {champion.version} has {theirs:.4f} on the same data"
    return ours < theirs, f"{'moved' if ours < theirs else 'not moved'}: {compared}"
