"""Plain runs that the runs of a cross-validation are compared with: of their own input size, and the strongest of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from ppdl.config import Workspace, plain, read_built_for
from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.report.summary import Yardsticks
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import chosen_runs, pooled_run
from ppdl.experiment.training.run import PLAIN


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Hold a plain run of a finished cross-validation: its name here, the side of its images (None: any), and its predictions."""

    name: str
    input_px: int | None
    predictions: Predictions


def read_yardsticks(experiment: Experiment) -> list[Yardstick]:
    """Read the runs that `crossval.yardsticks` names, the strongest first.

    Raises:
        ConfigError: an entry is no PATH/RUN of a cross-validation, or names a run that hides something.
        DataError: a fold or a seed of it is missing, or it has other images.
    """
    found = []
    for entry in experiment.cfg.crossval.yardsticks:
        folder, name = Path(entry).parent, Path(entry).name
        if not (folder / "built_for.json").is_file():
            raise ConfigError(f"crossval.yardsticks must list PATH/RUN, PATH being a folder of stages.crossval, got {entry!r}")
        here = {"runs": None, "seeds": experiment.cfg.crossval.seeds}
        there = Experiment(OmegaConf.create(plain(read_built_for(folder)) | {"crossval": here}), Workspace(folder, folder))
        runs = {run.name: run for run in chosen_runs(there) if run.branch == PLAIN}
        if name not in runs:
            raise ConfigError(f"crossval.yardsticks must name plain runs, of {folder} one of {', '.join(runs)}; got {name!r}")
        run = runs[name]
        images = list(experiment.prepared.index["path"])
        found.append(Yardstick(f"{folder.name}.{name}", run.input_px, pooled_run(run, images)))
    return found


def compared(experiment: Experiment, yardsticks: Sequence[Yardstick]) -> Yardsticks | None:
    """Say what each run is compared with: the first yardstick, and the first plain run of its own input size, where there is one."""
    if not yardsticks:
        return None
    runs = chosen_runs(experiment)
    sizes = {one.name: one.input_px for one in yardsticks} | {run.name: run.input_px for run in runs if run.branch == PLAIN}
    of_size = {px: name for name, px in reversed(sizes.items()) if px is not None}  # of each the first
    same = {run.name: of_size[run.input_px] for run in runs if run.branch != PLAIN and run.input_px in of_size}
    return Yardsticks(yardsticks[0].name, same, {run.name: run.input_px for run in runs} | sizes)
