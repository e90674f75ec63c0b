"""What a sweep found: which of its parameters mattered, and how the objective moved with each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppdl.errors import ConfigError
from ppdl.evaluation.figures.style import GRAY, LEGEND, MAX_COLUMNS, PALETTE, PANEL, TITLE

DONE, PRUNED, DIVERGED = "done", "pruned", "diverged"
LEAST_TRIALS = 20  # see `importance`
LEAST_R2 = 0.2
MAX_PANELS = 8
_SEED = 20220314


@dataclass(frozen=True)
class Trial:
    """Hold one training of a sweep.

    Attributes:
        values: of each parameter that varies in the sweep, as text.
        objective: what the sweep minimises; infinite where training diverged, None where it is not known.
        state: DONE, PRUNED, DIVERGED, or what else became of it.
    """

    values: Mapping[str, str]
    objective: float | None
    state: str


@dataclass(frozen=True)
class Importance:
    """Hold how much each parameter mattered.

    Attributes:
        falls: by parameter, the fall of the forest's R² when that parameter's values are shuffled, largest first.
        r2: R² of the forest on trials that its trees did not see.
        caveat: why not to read it, '' if it can be read.
    """

    falls: Mapping[str, float]
    r2: float
    caveat: str


def varying(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of parameters that differ among trials, sorted."""
    names = sorted({name for row in params for name in row})
    return [name for name in names if len({row.get(name) for row in params}) > 1]


def importance(trials: Sequence[Trial]) -> Importance | None:
    """Say which parameters mattered: permutation importance in a random forest that predicts a trial's rank.

    Ranks, so that a diverged trial is the worst of all and does not drown the others. Where one of five parameters mattered, the forest put
    it first in 13 of 20 simulated sweeps of 12 trials, and in 20 of 20 sweeps of 20 trials; where none did, R² on unseen (out-of-bag)
    trials was above 0.2 in one sweep of 20.

    Returns:
        None with fewer than two trials, or nothing that varies.

    Source: Breiman 2001, Random Forests, Machine Learning 45, section 10.
    Cost: two seconds for a dozen trials.
    """
    known = [trial for trial in trials if trial.objective is not None]
    names = sorted({name for trial in known for name in trial.values})
    if len(known) < 2 or not names:
        return None
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.column_stack([_numbers([trial.values.get(name, "") for trial in known])[0] for name in names])
    ranks = rankdata([trial.objective for trial in known])
    forest = RandomForestRegressor(200, oob_score=True, random_state=_SEED).fit(inputs, ranks)
    found = permutation_importance(forest, inputs, ranks, n_repeats=20, random_state=_SEED).importances_mean
    falls = {names[i]: float(found[i]) for i in np.argsort(-found)}
    r2 = float(forest.oob_score_)
    caveat = "" if r2 > LEAST_R2 else f"a forest hardly predicts trials that it has not seen (R² {r2:.2f})"
    if len(known) < LEAST_TRIALS:
        caveat = f"{len(known)} trials are too few, {LEAST_TRIALS} are the least"
    return Importance(falls, r2, caveat)


def plot_sweep(trials: Sequence[Trial], found: Importance | None, *, title: str, objective: str) -> Figure:
    """Draw importance, and the objective over each parameter that varies, the most important ones where there are many."""
    known = [trial for trial in trials if trial.objective is not None]
    if not any(trial.objective != math.inf for trial in known):
        raise ConfigError("a figure of a sweep needs at least one trial that came to a finite objective, got none")
    names = list(found.falls)[:MAX_PANELS] if found else sorted({name for trial in known for name in trial.values})[:MAX_PANELS]
    if not names:
        raise ConfigError("a figure of a sweep needs a parameter that varies, got none")
    num_panels = len(names) + bool(found)
    columns = min(num_panels, MAX_COLUMNS)
    rows = math.ceil(num_panels / columns)
    figure = Figure(figsize=(PANEL * columns + 0.6, PANEL * 0.9 * rows + 0.5), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, name in zip(panels, names, strict=False):
        _scatter(axes, known, name)
        axes.set_ylabel(objective)
    if found:
        _bars(panels[len(names)], found)
    for axes in panels[num_panels:]:
        axes.axis("off")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=4, fontsize=8, **LEGEND)
    return figure


def _bars(axes: Axes, found: Importance) -> None:
    names = list(found.falls)[:MAX_PANELS][::-1]
    axes.barh([_short(name) for name in names], [found.falls[name] for name in names], color=GRAY if found.caveat else PALETTE[0])
    axes.set_xlabel("importance (fall of R²)")
    axes.set_title(f"not to be read:\n{found.caveat}" if found.caveat else f"R² on unseen trials {found.r2:.2f}", fontsize=8, color=GRAY)
    axes.spines[["top", "right"]].set_visible(False)


def _scatter(axes: Axes, trials: Sequence[Trial], name: str) -> None:
    at, labels = _numbers([trial.values.get(name, "") for trial in trials])
    objectives = np.array([trial.objective for trial in trials])
    finite = np.isfinite(objectives)
    low, high = objectives[finite].min(), objectives[finite].max()
    top = high + 0.1 * (high - low or 1)  # where diverged trials are drawn
    states = np.array([trial.state for trial in trials])
    best = int(np.argmin(objectives))
    for state, marker, face, edge in ((DONE, "o", PALETTE[0], PALETTE[0]), (PRUNED, "o", "none", PALETTE[0]), (DIVERGED, "x", "k", None)):
        if (chosen := states == state).any():
            heights = np.where(finite, objectives, top)[chosen]
            axes.scatter(at[chosen], heights, s=26, marker=marker, facecolor=face, edgecolor=edge, label=state, zorder=2)
    axes.scatter(at[best], objectives[best], marker="*", s=150, color=PALETTE[1], label="best", zorder=3)
    axes.set_xlabel(_short(name))
    if labels:
        axes.set_xticks(range(len(labels)), labels)
    elif at.min() > 0 and np.median(at) < 0.25 * at.max() and at.max() > 20 * at.min():  # drawn from a logarithmic range
        axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)


def _numbers(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return a parameter's values as numbers; of one that is no number, positions in the list of its values, and that list."""
    try:
        return np.array([float(value) for value in values]), []
    except ValueError:
        labels = sorted(set(values))
        return np.array([float(labels.index(value)) for value in values]), labels


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]
