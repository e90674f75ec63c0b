"""Attackers: what each party of a pooled head can tell of the films that trained it, and the server of its clients' images.

To reports/audit/NAME. No private key is read: of the opened total the examiner has what the films give, which is the same integers.
"""

import dataclasses

import numpy as np
from omegaconf import DictConfig

from ppdl.audit.examination.records import write_audit
from ppdl.audit.examination.verdict import judge
from ppdl.audit.pool.parties import attack_parties
from ppdl.config import Workspace, branch, stage
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.pool_view import examined
from ppdl.experiment.training.head_run import head_run
from stages.audit_head import attack_server


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    experiment = Experiment(cfg, workspace)
    audit, target, truth = attack_server(experiment, name)
    pooled = examined(head_run(experiment, name), target, truth)
    results, rebuilt = attack_parties(pooled, np.random.default_rng(cfg.audit.seed))
    results = audit.results | results
    verdict = judge({attack: found for attack, found in results.items() if "does_not_apply" not in found})
    audit = dataclasses.replace(audit, results=results, rebuilt=audit.rebuilt | rebuilt, verdict=verdict)
    write_audit(workspace.outputs / "reports/audit" / name, audit, target, truth)
    print(audit.verdict.said_of(name))


main = stage(run)

if __name__ == "__main__":
    main()
