"""One experiment: a configuration, where its stages read and write, and the prepared images that its runs share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from omegaconf import DictConfig

from ppdl.config import Workspace, check_built_for, plain
from ppdl.datasets.prepared.arrays import Prepared, load_prepared

PREPARED, EXTERNAL = "data/prepared", "data/external/prepared"


@dataclass(frozen=True, eq=False)
class Experiment:
    """Hold what is common to the runs of a configuration.

    Attributes:
        cfg: the composed configuration.
        workspace: where stages read and write.
        data: prepared images and their split; None: those that earlier stages left below the workspace's inputs.
        external: name of a set of `evaluation.external` whose images take the place of the set's own, to test on.
    """

    cfg: DictConfig
    workspace: Workspace
    data: Prepared | None = None
    external: str | None = None

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared images, opened once.

        Raises:
            ConfigError: they were built for other values than the configuration asks for.
        """
        if self.data is not None:
            return self.data
        path = self.workspace.inputs / (f"{EXTERNAL}/{self.external}" if self.external else PREPARED)
        prepared = load_prepared(path)
        if self.external:
            wanted = self.external_values(self.external)
        else:
            wanted = {key: self.cfg[key] for key in ("dataset", "split", "prepared_px")}
        check_built_for(prepared.meta["params"], wanted, what=str(path))
        return prepared

    def protected(self, branch: str) -> str:
        """Return where what a network of a protection is fed lies, relative to the workspace's inputs."""
        if self.external:
            return f"data/external/protected/{branch}/{self.external}"
        return f"data/{self.cfg.protections[branch].train_on}/{branch}"

    def elsewhere(self) -> list[Experiment]:
        """List the same experiment on the films of each other hospital."""
        return [replace(self, data=None, external=str(name)) for name in self.cfg.evaluation.external]

    def external_values(self, name: str) -> dict[str, Any]:
        """Return the values that the set of another hospital is prepared for."""
        node, bits = self.cfg.evaluation.external[name], self.cfg.split.near_duplicate_bits
        values = {"evaluation": {"external": {name: node}}, "prepared_px": self.cfg.prepared_px, "split": {"near_duplicate_bits": bits}}
        return plain(values)
