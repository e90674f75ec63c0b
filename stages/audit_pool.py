"""Attackers: what each party of a pooled head can tell of the films that trained it, and the server of its clients' images.

To reports/audit/NAME. No private key is read: of the opened total the examiner has what the films give, which is the same integers. A
total with noise he has not: what attacks find in such totals is measured by `python -m benchmarks.pooled_privacy`.
"""

import dataclasses

import numpy as np
from omegaconf import DictConfig

from ppdl.audit.examination.base import Rebuilt
from ppdl.audit.examination.records import write_audit
from ppdl.audit.examination.verdict import POOL, judge
from ppdl.audit.pool.parties import KEY_HOLDER, attack_parties
from ppdl.config import Workspace, branch, stage
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.pool_view import examined
from ppdl.experiment.training.head_run import head_run
from ppdl.pooling.board import Board
from ppdl.pooling.subjects.head import HeadSums
from stages.audit_head import attack_server

NOISED = {
    "party": KEY_HOLDER,
    "surface": POOL,
    "needs": [],
    "knowledge": f"{KEY_HOLDER}: the total",
    "source": "",
    "does_not_apply": "the total holds noise, and keeps a promise to each patient (docs/pooled-head.md)",
}


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    experiment = Experiment(cfg, workspace)
    audit, target, truth = attack_server(experiment, name)
    rebuilt: dict[str, Rebuilt] = {}
    if HeadSums.of(Board(workspace.inputs / f"data/pool/{name}").read_terms().subject).privacy is None:
        pooled = examined(head_run(experiment, name), target, truth)
        results, rebuilt = attack_parties(pooled, np.random.default_rng(cfg.audit.seed))
    else:
        results = {"key_holder_pool": NOISED}
    results = audit.results | results
    verdict = judge({attack: found for attack, found in results.items() if "does_not_apply" not in found})
    audit = dataclasses.replace(audit, results=results, rebuilt=audit.rebuilt | rebuilt, verdict=verdict)
    write_audit(workspace.outputs / "reports/audit" / name, audit, target, truth)
    print(audit.verdict.said_of(name))


main = stage(run)

if __name__ == "__main__":
    main()
