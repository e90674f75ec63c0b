"""Where things lie: the project, its configuration, the user's checkout, and what a stage reads and writes."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from ppdl.records.trial import Trial

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parent


def is_checkout() -> bool:
    """Tell whether this code lies in a checkout of its repository; otherwise it was installed, and has conf/ in the package alone."""
    return (PROJECT / "dvc.yaml").is_file()


CONF = (PROJECT if is_checkout() else PACKAGE) / "conf"
PARAMS = PROJECT / "params.yaml"
NO_CHECKOUT = (
    f"this needs a checkout, and {PACKAGE} is an installed package: clone the repository, and use the `ppdl` of its .venv (`make setup`)"
)


def checkout(project: Path = PROJECT) -> Path:
    """Return the user's checkout, also from inside a copy that `dvc exp run --queue` or `--temp` works in.

    What must outlive the copy (the MLflow store, state to resume from) belongs to the checkout.
    """
    parts = project.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return project


@dataclass(frozen=True)
class Workspace:
    """Where a stage reads and writes.

    Attributes:
        inputs: root of what earlier stages wrote.
        outputs: root of what this stage writes; the same as `inputs` under DVC, the job's own folder in a sweep.
        overrides: Hydra overrides of a job that was started by hand.
        sweep: folder of the sweep that the job belongs to.
        job: number of the job in its sweep.
        trial: that the job is, where Optuna draws the trials of the sweep.
    """

    inputs: Path
    outputs: Path
    overrides: tuple[str, ...] = ()
    sweep: str | None = None
    job: int | None = None
    trial: Trial | None = None

    def on_its_own(self) -> Workspace:
        """Return the workspace of a job that reads what it wrote itself."""
        return dataclasses.replace(self, inputs=self.outputs)

    @property
    def unfinished(self) -> Path:
        """Folder for unfinished work: outside DVC's outs, which DVC deletes before it starts a stage, and one for each place that the
        work is for, so that two jobs at once do not meet there."""
        return checkout() / ".ppdl" / hashlib.sha256(str(self.outputs).encode()).hexdigest()[:12]
