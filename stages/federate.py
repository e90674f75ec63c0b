"""Hospitals, server and key holder: a network by federated averaging on encrypted sums, to models/NAME.

All parties run here, in one process. Each sum has a fresh key pair, whose private part is deleted when the sum is opened.
"""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from ppdl.config import Workspace, branch, build, checkout, stage
from ppdl.crypto.keys.keystore import default_private_dir
from ppdl.errors import DataError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.federation import Averaged, EncryptedSums, Federation, count_classes, digest_of_federation
from ppdl.experiment.training.federated_run import federated_run
from ppdl.pooling.board import Board
from ppdl.pooling.rehearsal import roster_of
from ppdl.pooling.sharing import Shares


def run(cfg: DictConfig, workspace: Workspace) -> None:
    from ppdl.training.federated.local import Local, begun

    name, node = branch(cfg, "federations")
    averaging = build(node, f"federations.{name}")
    model, training = build(cfg.model, "model"), build(cfg.training, "training")
    run = federated_run(Experiment(cfg, workspace), name)
    prepared, view = run.experiment.prepared, run.source.view
    labels, validation = prepared.index["label"].to_numpy(), prepared.rows("validation")
    rows = train_rows(Shares.read(workspace.inputs / f"data/hospitals/{name}.json"), prepared.rows("train"))
    films = {hospital: len(own) for hospital, own in rows.items()}
    private_dir, unfinished = Path(cfg.keygen.private_dir or default_private_dir()), workspace.unfinished / "federate" / name
    roster = roster_of(films, private_dir / "hospitals", checkout())
    insecure = cfg.keygen.allow_insecure_key
    sums = EncryptedSums(Board(unfinished / "board"), private_dir, roster, cfg.keygen.key_bits, insecure, checkout())

    counts = count_classes(sums, {hospital: labels[own] for hospital, own in rows.items()}, prepared.class_names)
    network = begun(model, view, len(counts), cfg.seed)
    local = Local(network, training, view, labels, rows, hospitals=list(rows), class_counts=counts, seed=cfg.seed)
    parts = {"averaging": averaging, "model": model, "training": training, "seed": cfg.seed}
    digest = digest_of_federation(view, labels, rows, parts, local.model.get_weights())
    federation = Federation(name, local, films, averaging, sums, private_dir / "hospitals", digest)
    with run.tracked_rounds("stages.federate") as tracked, tqdm(total=averaging.rounds, desc=name, unit="round") as bar:

        def after(number: int, done: Averaged) -> dict[str, Any]:
            figures = run.validated(local.logits(validation, done.weights, done.moments))
            row = {**figures, **done.figures, **sums.figures()}
            bar.set_postfix_str(f"validation accuracy {row['val_accuracy']:.3f}", refresh=False)
            bar.update(number + 1 - bar.n)
            tracked.log_epoch(number, row)
            return row

        averaged = federation.run(unfinished / "rounds", after)
        summary = {"num_hospitals": len(films), "num_films": sum(films.values())}
        run.keep_averaged((local.averaged(averaged.weights, averaged.moments), local.network), averaged.history, summary, tracked)
    federation.clear(unfinished / "rounds")
    last = averaged.history[-1]
    print(f"{name}: {len(averaged.history)} rounds of {len(films)} hospitals, validation accuracy {last['val_accuracy']:.3f}")


def train_rows(shares: Shares, train: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each hospital's training films. Raises: DataError when one has none."""
    rows = {name: np.intersect1d(own, train) for name, own in shares.rows.items()}
    if empty := [name for name, own in rows.items() if not len(own)]:
        raise DataError(f"{empty[0]} has no training film, all of its are for validation: share the films out to fewer hospitals")
    return rows


main = stage(run)

if __name__ == "__main__":
    main()
