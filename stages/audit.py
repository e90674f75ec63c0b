"""Attacker: what the artifact and the revealed view of one protection give away, to reports/audit/NAME. No private key is read."""

import dataclasses
import shutil

import numpy as np
from omegaconf import DictConfig

from ppdl.audit.examination.base import Target, Truth, scored_rows
from ppdl.audit.examination.examine import examine
from ppdl.audit.examination.records import write_audit
from ppdl.audit.examination.setting import Settings, draw_known, draw_queries
from ppdl.audit.examination.target import encryption_of, release_of, reveal_of, target_of
from ppdl.config import Workspace, branch, build, construct, stage
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.signing import Signing
from ppdl.datasets.phantoms.public import public_phantoms
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.source import protection_of
from ppdl.protections.context import Context


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    signing = construct(Signing, cfg.signing, "signing")
    settings = construct(Settings, cfg.audit, "audit")
    attacks = {key: build(attack, f"attacks.{key}", {"num_scored": settings.num_scored}) for key, attack in cfg.attacks.items()}
    public_key = load_public(workspace.inputs / "keys/public.json")
    prepared, protection = Experiment(cfg, workspace).prepared, protection_of(cfg, name)
    encrypted = workspace.inputs / "data/encrypted" / name
    revealed = workspace.inputs / "data/revealed" / name if node.train_on == "revealed" else None
    signing.check("encrypted", encrypted)
    if revealed is not None:
        signing.check("revealed", revealed)
    target = target_of(encrypted, revealed, public_key=public_key)

    images, groups = Reduced(prepared.images, target.height), prepared.index["group"].to_numpy()
    rng = np.random.default_rng(settings.seed)
    scored = [scored_rows(target.num_images, attack.num_scored) for attack in attacks.values() if hasattr(attack, "num_scored")]
    unscored = np.setdiff1d(prepared.rows("train"), np.concatenate([*scored, []]))
    queries = draw_queries(images, groups, settings.num_queries, rng)

    scratch = workspace.unfinished / "audit" / name
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed audit left
    scratch.mkdir(parents=True)

    context = Context(public_key, cfg.input_px, scratch, build(cfg.executor, "executor"))

    def under_a_fresh_key(chosen: np.ndarray) -> Target:
        fresh = generate_keypair(public_key.key_bits, allow_insecure_key=True).public  # as long as the set's; its private part is dropped
        return encryption_of(protection, dataclasses.replace(context, public_key=fresh))(chosen)

    target = dataclasses.replace(
        target,
        prior=public_phantoms(settings.num_prior, target.height, target.width, seed=settings.prior_seed),
        known=draw_known(images, unscored, settings.num_known, rng),
        queries=queries.images,
        encrypt=encryption_of(protection, context),
        reveal=reveal_of(target.view),
        rekey=under_a_fresh_key,
        release=release_of(images, target.view),
        labels=prepared.index["label"].to_numpy(),
    )
    truth = Truth(images, groups, queries.groups, queries.rows)
    audit = examine(attacks, target, truth, seed=settings.seed)
    scratch.rmdir()
    write_audit(workspace.outputs / "reports/audit" / name, audit, target, truth)
    print(audit.verdict.said_of(name))


main = stage(run)

if __name__ == "__main__":
    main()
