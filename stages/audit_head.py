"""Attacker: what a server of private inference holds, to reports/audit/NAME: requests of some test images. No private key is read."""

import dataclasses

import numpy as np
from omegaconf import DictConfig

from ppdl.audit.attacks.distinguisher import Distinguisher
from ppdl.audit.examination.base import Attack, Target, Truth, scored_rows
from ppdl.audit.examination.examine import Audit, examine
from ppdl.audit.examination.records import write_audit
from ppdl.audit.examination.setting import Settings, draw_queries
from ppdl.config import Workspace, branch, build, construct, stage
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.datasets.phantoms.public import public_phantoms
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.head_view import server_view
from ppdl.experiment.training.head_run import head_run

NUM_REQUESTS = 32  # that the attacks see, of as many test images, evenly spaced
MOST_TRIALS = 80  # of the game, each some 57 encryptions: an interval of +- 0.3 round an advantage of 0


def shortened(attack: Attack) -> Attack:
    """Return an attack that plays no more than MOST_TRIALS."""
    if isinstance(attack, Distinguisher) and attack.num_trials > MOST_TRIALS:
        return dataclasses.replace(attack, num_trials=MOST_TRIALS)
    return attack


def attack_server(experiment: Experiment, name: str) -> tuple[Audit, Target, Truth]:
    """Attack what the server of a head holds of some test images."""
    cfg, workspace, px = experiment.cfg, experiment.workspace, experiment.cfg.heads[name].backbone.input_px
    settings = construct(Settings, cfg.audit, "audit")
    attacks = {key: shortened(build(attack, f"attacks.{key}", {"num_scored": settings.num_scored})) for key, attack in cfg.attacks.items()}
    public_key = load_public(workspace.inputs / "keys/inference.json", INFERENCE)
    prepared, see = experiment.prepared, server_view(head_run(experiment, name), public_key)

    rows = prepared.rows("test")
    rows = rows[scored_rows(len(rows), NUM_REQUESTS)]
    images, groups = Reduced(prepared.images, px)[rows], prepared.index["group"].to_numpy()[rows]
    queries = draw_queries(images, groups, settings.num_queries, np.random.default_rng(settings.seed))
    target = dataclasses.replace(
        see(images),
        prior=public_phantoms(settings.num_prior, px, px, seed=settings.prior_seed),
        queries=queries.images,
        encrypt=see,
    )
    truth = Truth(images, groups, queries.groups, queries.rows)
    return examine(attacks, target, truth, seed=settings.seed), target, truth


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    audit, target, truth = attack_server(Experiment(cfg, workspace), name)
    write_audit(workspace.outputs / "reports/audit" / name, audit, target, truth)
    print(audit.verdict.said_of(name))


main = stage(run)

if __name__ == "__main__":
    main()
