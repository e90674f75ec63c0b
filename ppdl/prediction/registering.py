"""From the runs of an experiment to registered models that take raw images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.errors import ConfigError
from ppdl.prediction.package import input_example, source_sha256, write_package
from ppdl.prediction.recipe import PLAIN, Recipe
from ppdl.tracking.registry.candidates import Candidate, best_run, fetch_keras_file
from ppdl.tracking.registry.card import model_card
from ppdl.tracking.registry.models import PACKAGE, Registration, register
from ppdl.tracking.store import Store


@dataclass(frozen=True)
class Outcome:
    """What became of a protection: its registration, None when there was no run for it, and the same in words."""

    words: str
    registration: Registration | None


def register_best(store: Store, config: Mapping[str, Any], root: Path, names: Sequence[str], *, promote: bool) -> Iterator[Outcome]:
    """Register the best run of each protection, see `ppdl.tracking.registry.models`.

    Args:
        config: the checkout's configuration.
        root: the checkout.
        names: protections; none: plain and all of the configuration.

    Raises:
        PpdlError: an unknown name, no prepared data, or a store that cannot be used.
    """
    known = [PLAIN, *config["protections"]]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"protections are {', '.join(known)}, got {', '.join(unknown)}")
    prepared = load_prepared(root / "data/prepared")
    for name in names or known:
        yield _register(store, config, root, name, prepared, promote=promote)


def _register(store: Store, config: Mapping[str, Any], root: Path, name: str, prepared: Prepared, *, promote: bool) -> Outcome:
    source = source_sha256(root, config, name, prepared.meta["images_sha256"])
    candidate = None if source is None else best_run(store, name, data_sha256=prepared.sha256, source_sha256=source)
    if candidate is None:
        return Outcome(f"{name}: no finished run on what lies in this checkout", None)
    done = _register_run(store, candidate, root, promote=promote)
    state = "new" if done.is_new else "was registered already"
    chosen = f"run {candidate.run.run_id} ({candidate.run.name}), whose validation log loss {candidate.log_loss:.4f} is the lowest"
    return Outcome(f"{name}: {done.name} version {done.version} {state}: {chosen}. Champion: {done.alias}", done)


def _register_run(store: Store, candidate: Candidate, root: Path, *, promote: bool) -> Registration:
    recipe = Recipe.of_config(candidate.config, metadata=candidate.metadata, source_sha256=candidate.metadata["source_sha256"])
    with tempfile.TemporaryDirectory(prefix="ppdl-") as folder:
        model_file = fetch_keras_file(store, candidate, Path(folder) / "keras")
        package = Path(folder) / PACKAGE
        digest = write_package(package, recipe, model_file, calibration=candidate.metadata.get("calibration"), root=root)
        return register(
            store,
            candidate,
            package,
            digest=digest,
            card=model_card(candidate),
            example=input_example(recipe.prepared_px),
            promote=promote,
        )
