"""One experiment: a configuration, where its stages read and write, and the prepared images that its runs share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from omegaconf import DictConfig

from ppdl.config import Workspace, check_built_for
from ppdl.datasets.prepared.arrays import Prepared, load_prepared

PREPARED = "data/prepared"


@dataclass(frozen=True, eq=False)
class Experiment:
    """Hold what is common to the runs of a configuration.

    Attributes:
        cfg: the composed configuration.
        workspace: where stages read and write.
        data: prepared images and their split; None: those that earlier stages left below the workspace's inputs.
    """

    cfg: DictConfig
    workspace: Workspace
    data: Prepared | None = None

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared images, opened once.

        Raises:
            ConfigError: they were built for other values than the configuration asks for.
        """
        if self.data is not None:
            return self.data
        path = self.workspace.inputs / PREPARED
        prepared = load_prepared(path)
        wanted = {key: self.cfg[key] for key in ("dataset", "split", "prepared_px")}
        check_built_for(prepared.meta["params"], wanted, what=str(path))
        return prepared
