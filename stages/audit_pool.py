"""Attackers: what each party of a pooled head can tell of the films that trained it, and the server of its clients' images.

To reports/audit/NAME. No private key is read: of the opened total the examiner has what the films give, which is the same integers.
"""

import dataclasses

import numpy as np
from omegaconf import DictConfig

from ppdl.audit.examination.base import Target, Truth, scored_rows
from ppdl.audit.examination.records import write_audit
from ppdl.audit.examination.verdict import judge
from ppdl.audit.pool.films import Films
from ppdl.audit.pool.parties import Pooled, attack_parties
from ppdl.audit.pool.pictures import Pictures
from ppdl.config import Workspace, branch, stage
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import DataError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.pool_view import PooledHeads
from ppdl.experiment.training.head_run import head_run
from ppdl.pooling.board import Board
from ppdl.pooling.sharing import Shares
from ppdl.pooling.sums import integer_features
from ppdl.private_head.head import BACKBONE_FILE
from ppdl.training.networks.features import load_extractor
from stages.audit_head import NUM_REQUESTS, attack_server


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    experiment = Experiment(cfg, workspace)
    audit, target, truth = attack_server(experiment, name)
    pooled = pooled_run(experiment, name, target, truth)
    results, rebuilt = attack_parties(pooled, np.random.default_rng(cfg.audit.seed))
    results = audit.results | results
    verdict = judge({attack: found for attack, found in results.items() if "does_not_apply" not in found})
    audit = dataclasses.replace(audit, results=results, rebuilt=audit.rebuilt | rebuilt, verdict=verdict)
    write_audit(workspace.outputs / "reports/audit" / name, audit, target, truth)
    print(f"{name}: {audit.verdict.sentence}")


def pooled_run(experiment: Experiment, name: str, target: Target, truth: Truth) -> Pooled:
    """Return what an examiner knows of the run of a head.

    Raises:
        DataError: the head is not that of the hospitals' films.
    """
    inputs, prepared, run = experiment.workspace.inputs, experiment.prepared, head_run(experiment, name)
    board, shares = Board(inputs / f"data/pool/{name}"), Shares.read(inputs / f"data/hospitals/{name}.json")
    terms, contributors, head = board.read_terms(), board.read_tally().contributors, run.open()
    extract = load_extractor(run.trained / BACKBONE_FILE, sha256=head.backbone["sha256"])
    images, index = Reduced(prepared.images, target.height), prepared.index

    def films(rows: np.ndarray) -> Films:
        features = integer_features(extract(images, rows), terms.feature_bits)
        return Films(features, index["label"].to_numpy()[rows], index["group"].to_numpy()[rows])

    hospitals = {hospital: films(np.array(rows)) for hospital, rows in shares.rows.items() if hospital in contributors}
    others = prepared.rows("test")
    public = integer_features(extract(target.prior), terms.feature_bits)
    pictures = Pictures(public, target.prior, scored_rows(len(others), NUM_REQUESTS), np.asarray(truth.images))
    heads = PooledHeads(terms.strengths, terms.feature_bits, prepared.class_names)
    pooled = Pooled(hospitals, films(others), len(prepared.class_names), heads, pictures)
    if not np.array_equal(heads.head(pooled.members).weights, head.weights):
        raise DataError(f"{run.trained} is not the head of the films of data/hospitals/{name}.json: run `dvc repro`")
    return pooled


main = stage(run)

if __name__ == "__main__":
    main()
