"""What a training needs to go on after it was killed: one file, replaced whole after every epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.protections.view import View
from ppdl.records.atomic import partial_path, replacing

_log = logging.getLogger(__name__)
_FILE = "state.npz"
_VERSION = 2
_SAMPLED_ROWS = 64


@dataclass
class State:
    """Where a training stands after a finished epoch.

    Attributes:
        history: One row an epoch, in order.
        best_epoch: The epoch with the lowest validation loss.
        best: Weights of the model after that epoch.
        model: All variables of the model, random states included.
        optimizer: All variables of the optimizer.
        seconds: Time spent so far, in all sessions.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    best: Sequence[np.ndarray]
    model: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    seconds: float


def write_state(folder: Path, digest: str, state: State) -> None:
    """Write `state` to `folder`; a kill at any moment leaves the old state or the new one.

    Cost: three to four times the weights' size: 55 MB at alpha 1.0, 10 MB at 0.35.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"version": _VERSION, "digest": digest}
    meta |= {k: getattr(state, k) for k in ("history", "best_epoch", "seconds")}
    arrays = {f"{part}_{i:04d}": a for part in ("best", "model", "optimizer") for i, a in enumerate(getattr(state, part))}
    with replacing(folder / _FILE) as unfinished:
        np.savez(unfinished, meta=np.array(json.dumps(meta)), **arrays)


def read_state(folder: Path, digest: str) -> State | None:
    """Return the state in `folder`, None when there is none for this training; the log says why one was passed over."""
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["version"] != _VERSION or meta["digest"] != digest:
                _log.warning("%s is of a training with another configuration or other data: starting over", path)
                return None
            parts = {p: [file[k] for k in sorted(file.files) if k.startswith(f"{p}_")] for p in ("best", "model", "optimizer")}
        return State(meta["history"], meta["best_epoch"], **parts, seconds=meta["seconds"])
    except Exception as error:  # damage: zipfile and numpy let through much beside ValueError, and none of it may stop a training
        _log.warning("%s cannot be read (%s): starting over", path, error)
        return None


def remove_state(folder: Path) -> None:
    """Remove the state of a training that is done, and the folder if nothing else is in it."""
    for path in folder / _FILE, partial_path(folder / _FILE):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def digest_of(view: View, labels: np.ndarray, rows: Sequence[np.ndarray], parts: dict[str, Any], weights: Sequence[np.ndarray]) -> str:
    """Return a digest of all that decides what a training does.

    Args:
        rows: Row numbers of each split that training sees.
        parts: Parameters, as dataclasses, numbers and strings.
        weights: The model before its first step, which covers a file of weights, the seed and the table.

    Cost: reads 64 images, spread evenly. An array that differs elsewhere alone passes unseen.
    """
    used = np.concatenate(rows)
    sample = used[np.linspace(0, len(used) - 1, min(_SAMPLED_ROWS, len(used))).astype(int)]
    facts = {
        "parts": {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v for k, v in parts.items()},
        "view": [view.name, list(view.array.shape), str(view.array.dtype), view.trainable, view.scale, view.offset],
        "rows": [len(r) for r in rows],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in (used, labels[used], view.array[np.unique(sample)], *weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
