"""What a trained network expects of a new image: sizes, protection, view, key, and the values of every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ppdl.errors import ConfigError, TrackingError
from ppdl.tracking.runs.record import RunRecord, read_formatted

FORMAT = "ppdl-recipe/1"
RECIPE_FILE = "recipe.json"
PLAIN = "plain"


@dataclass(frozen=True)
class Recipe:
    """Everything about a trained network that decides how an image becomes its input.

    Attributes:
        protection, view: of the run; "plain" and "pixels" without encryption.
        class_names: of the logits, in their order.
        prepared_px: side to which a raw image is brought first, as stage `split` does.
        input_px: side of the network's input, before a protection gives it another shape.
        key_fingerprint: of the only public key that fits; None without encryption.
        source_sha256: of what the network was trained on: the header of the artifact or revealed view, for plain the images.
        branch: the node `protections.NAME` of the configuration: train_on, scheme, stem, reveal. Empty for plain.
    """

    protection: str
    view: str
    class_names: tuple[str, ...]
    prepared_px: int
    input_px: int
    key_fingerprint: str | None
    source_sha256: str
    branch: Mapping[str, Any]

    @classmethod
    def of_config(cls, config: Mapping[str, Any], *, metadata: Mapping[str, Any], source_sha256: str) -> Recipe:
        """Build the recipe of a run from its configuration and the metadata of its model.

        Raises:
            TrackingError: a value is missing, so the run was tracked by an older version.
        """
        try:
            protection = metadata["protection"]
            branch = {} if protection == PLAIN else config["protections"][protection]
            return cls(
                protection=protection,
                view=metadata["view"],
                class_names=tuple(metadata["class_names"]),
                prepared_px=config["prepared_px"],
                input_px=config["input_px"],
                key_fingerprint=metadata["key_fingerprint"],
                source_sha256=source_sha256,
                branch={key: value for key, value in branch.items() if key != "views"},
            )
        except (KeyError, TypeError) as error:
            raise TrackingError(
                f"the run of this model does not record {error}, so new images cannot be prepared for it: train again"
            ) from None

    @classmethod
    def of_record(cls, record: RunRecord) -> Recipe:
        """Build the recipe of a run from its run.json."""
        metadata = record.model.metadata if record.model else {}
        return cls.of_config(record.config, metadata=metadata, source_sha256=record.dataset.sha256)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps after encryption that this protection has, of `stem` and `reveal`."""
        return tuple(step for step in ("stem", "reveal") if step in self.branch)

    def refuse_others(self, protection: str | None) -> None:
        """Raise ConfigError when the user asks for another protection than the network was trained on."""
        if protection not in (None, self.protection):
            raise ConfigError(
                f"this model was trained on {self.protection!r}, view {self.view!r}; --protection {protection} needs another model"
            )

    def write(self, folder: Path) -> None:
        """Write recipe.json."""
        (folder / RECIPE_FILE).write_text(json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n")


def read_recipe(folder: Path) -> Recipe:
    """Read what `Recipe.write` wrote.

    Raises:
        TrackingError: missing, of another format, or incomplete.
    """
    path, advice = folder / RECIPE_FILE, "register the model again with `ppdl model register`"
    tree = read_formatted(path, FORMAT, advice)
    names = {field.name for field in fields(Recipe)}
    if set(tree) != names:
        raise TrackingError(f"{path} must have {sorted(names)}, got {sorted(tree)}: {advice}")
    return Recipe(**tree | {"class_names": tuple(tree["class_names"])})
