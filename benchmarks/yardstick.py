"""Which plain run is the strongest, by validation films alone: fine-tuned networks beside heads on frozen features, at equal rights.

    python -m benchmarks.yardstick crossval/px192/plain crossval/table/plain crossval/yardstick/frozen     # a minute

All runs are judged by the same films, those of each fold's validation split at the temperature that suits them, by what was trained on that
fold's training split. A network's record says so already. A head, which a cross-validation chooses by folds of both splits and trains on
both, is chosen here by folds of the training split and trained on it. The epoch of a network is chosen by the films that judge it, which
flatters it a little. No test film is looked at.

The interval is one of 95 % of the mean difference to the first row over folds, each the mean of its seeds (Student's t).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from scipy.stats import t

from ppdl.config import Workspace, plain, read_built_for
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import chosen_runs, features_folder, fold_of, kept_seeds, record_path
from ppdl.experiment.training.frozen_run import FrozenRun, validated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="FOLDER/RUN", help="plain runs of finished cross-validations on the same folds")
    found = {name: judged(Path(name)) for name in parser.parse_args().runs}
    names = sorted(found, key=lambda name: found[name][..., 1].mean())
    table = Table("run", "trainings", "right, %", "log loss", "minus the first [95 %]")
    for name in names:
        differences = (found[name] - found[names[0]])[..., 1].mean(axis=1)
        half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
        to_first = (
            "" if name == names[0] else f"{differences.mean():+.3f} [{differences.mean() - half:+.3f}, {differences.mean() + half:+.3f}]"
        )
        right, loss = found[name].mean(axis=(0, 1))
        table.add_row(name, str(found[name][..., 0].size), f"{100 * right:.1f}", f"{loss:.3f}", to_first)
    Console().print(table)


def judged(entry: Path) -> np.ndarray:
    """Return accuracy and log loss on the validation films of each fold and seed: (num_folds, num_seeds, 2)."""
    folder = entry.parent
    cfg = OmegaConf.create(plain(read_built_for(folder)) | {"crossval": {"runs": [entry.name], "seeds": kept_seeds(folder, entry.name)}})
    (run,) = chosen_runs(Experiment(cfg, Workspace(folder, folder)))
    places = [[(k, number) for number in range(cfg.crossval.seeds)] for k in range(cfg.split.num_folds)]
    if not isinstance(run, FrozenRun):
        records = [[json.loads(record_path(run, *place).read_text())["candidates"][0] for place in fold] for fold in places]
        return np.array([[(one["val_accuracy"], one["val_log_loss"]) for one in fold] for fold in records])
    paths = {px: features_folder(folder, f"{run.name}-{px}px") / "features.npz" for px in run.head.input_px}
    features = {px: np.load(path, allow_pickle=False)["features"] for px, path in paths.items()}
    return np.array(
        [[_judged_head(replace(run, experiment=fold_of(run.experiment, *place)), features) for place in fold] for fold in places]
    )


def _judged_head(run: FrozenRun, features: dict[int, np.ndarray]) -> tuple[float, float]:
    prepared = run.experiment.prepared
    films, rows = prepared.rows("train"), prepared.rows("validation")
    best, _, _ = run.judge(features, films)[0]
    figures, _ = validated(prepared.index["label"].to_numpy()[rows], run.ask(best, features, films, rows))
    return figures["val_accuracy"], figures["val_log_loss"]


if __name__ == "__main__":
    main()
