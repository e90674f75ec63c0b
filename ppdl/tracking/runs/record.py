"""run.json: what the store knows of a run, kept beside the model, so that a clone without the store can rebuild it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ppdl.errors import TrackingError
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object

FORMAT = "ppdl-run/1"


@dataclass(frozen=True)
class DatasetRecord:
    """The data that a run was trained and evaluated on.

    Attributes:
        name: of the dataset, such as "phantom".
        sha256: of its images, `images_sha256` in data/prepared/meta.json; MLflow keeps the first 32 digits as digest.
        path: as dvc.yaml writes it.
        num_images: per split: {"train": 700, "validation": 100, "test": 200}.
    """

    name: str
    sha256: str
    path: str
    num_images: Mapping[str, int]


@dataclass(frozen=True)
class ModelRecord:
    """What a model takes and gives: enough to log its file without building it.

    Attributes:
        input_shape: without the batch axis.
        input_dtype: such as "uint8".
        output_shape: without the batch axis, (num_classes,).
        output_dtype: such as "float32".
        num_symbols: inputs are integers in [0, num_symbols).
        step: epoch whose weights the file holds.
        metadata: plain values for who loads it: class names, protection, key fingerprint.
    """

    input_shape: tuple[int, ...]
    input_dtype: str
    output_shape: tuple[int, ...]
    output_dtype: str
    num_symbols: int
    step: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one epoch, under the names that MLflow shows, and when they were measured."""

    epoch: int
    timestamp_ms: int
    metrics: Mapping[str, float]


@dataclass
class RunRecord:
    """A training run. `config` is the redacted tree, of which the store shows the flat form as parameters."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    run_id: str
    experiment: str
    name: str
    start_ms: int
    end_ms: int
    config: Mapping[str, Any]
    tags: dict[str, str]
    dataset: DatasetRecord
    model: ModelRecord | None
    history: list[EpochRecord]
    metrics: dict[str, float]

    def write(self, path: Path) -> None:
        """Write the record as JSON. Numbers that JSON lacks are written as text: "nan", "inf"."""
        tree = {"format": FORMAT, **_finite(asdict(self))}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> RunRecord:
    """Read what `RunRecord.write` wrote.

    Raises:
        TrackingError: the file is missing, is not JSON, or is not of this format.
    """
    import pydantic

    advice = "fetch it with `dvc pull`, or train again with `dvc repro`"
    tree = read_formatted(path, FORMAT, advice)
    try:
        return pydantic.TypeAdapter(RunRecord).validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise TrackingError(f"{path} is not a complete {FORMAT} record ({where}: {first['msg']}): {advice}") from None


def read_formatted(path: Path, form: str, advice: str) -> dict[str, Any]:
    """Read a JSON object whose "format" is `form`, and return its other members. Raises: TrackingError, which ends with `advice`."""
    return read_object(path, TrackingError, missing=advice, damaged=advice, form=form)


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node
