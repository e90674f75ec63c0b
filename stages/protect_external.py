"""Sources, compute side and key holder in one: films of other hospitals under one protection, to data/external/protected/NAME.

They take the path of the set's own images under the same key, and no trainer reads them.
"""

import json
import shutil
from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, checkout, construct, stage
from ppdl.crypto.keys.keystore import default_private_dir, load_public, require_private
from ppdl.crypto.signing import Signing
from ppdl.experiment.experiment import Experiment
from ppdl.protections.branch import Branch
from ppdl.protections.context import FOLDERS, Context, KeyHolder
from ppdl.protections.steps.ledger import respect_own_list


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    scheme = build(node.scheme, f"protections.{name}.scheme")
    steps = {}
    if "reveal" in node:
        steps = {"stem": build(node.stem, f"protections.{name}.stem"), "reveal": build(node.reveal, f"protections.{name}.reveal")}
    holder = KeyHolder(Path(cfg.keygen.private_dir or default_private_dir()), checkout()) if steps else None
    public_path, out_dir = workspace.inputs / "keys/public.json", workspace.outputs / "data/external/protected" / name
    public_key = load_public(public_path)
    others = Experiment(cfg, workspace).elsewhere()
    if holder is not None and others:
        private_key = require_private(public_path, holder.private_dir)
        respect_own_list(holder, private_key.public.fingerprint, construct(Signing, cfg.signing, "signing").trusted)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "sets.json").write_text(json.dumps([there.external for there in others]) + "\n")  # as in stages/external.py
    for there in others:
        folder = workspace.unfinished / "protect_external" / name / str(there.external)  # goes on where it was interrupted
        for unfinished in FOLDERS.values():
            shutil.rmtree(folder / unfinished, ignore_errors=True)
        context = Context(
            public_key=public_key,
            input_px=cfg.input_px,
            partial_dir=folder / "partial",
            executor=build(cfg.executor, "executor"),
            like=workspace.inputs / "data/encrypted" / name if scheme.needs_artifact else None,
            key_holder=holder,
        )
        written = Branch(scheme, steps).protect(there.prepared.images, folder, context)
        shutil.move(written, out_dir / str(there.external))
        shutil.rmtree(folder)


main = stage(run)

if __name__ == "__main__":
    main()
