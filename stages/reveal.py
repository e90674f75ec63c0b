"""Key holder: check the stem's outputs, decrypt them, clip, add noise, and write what the trainer may see to data/revealed/NAME."""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, checkout, construct, stage
from ppdl.crypto.keys.keystore import default_private_dir, require_private
from ppdl.crypto.signing import Signing
from ppdl.protections.context import KeyHolder
from ppdl.protections.steps.ledger import REVEALED_FROM, respect_own_list
from ppdl.protections.steps.recheck import Recheck
from stages.protecting import protecting


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    reveal = build(node.reveal, f"protections.{name}.reveal")
    trusted = construct(Signing, cfg.signing, "signing").trusted
    if unsigned := [f"data/{folder}/{name}" for folder in REVEALED_FROM if not trusted[folder]]:
        print(
            f"trusting {' and '.join(unsigned)} without a signature: signing.trusted names nobody for them, so whoever can replace them "
            "chooses what is decrypted; as it has to be where one machine plays all parties (docs/threat-model.md#signatures)",
            flush=True,
        )
    holder = KeyHolder(Path(cfg.keygen.private_dir or default_private_dir()), checkout())
    private_key = require_private(workspace.inputs / "keys/public.json", holder.private_dir)
    respect_own_list(holder, private_key.public.fingerprint, trusted)
    with protecting(cfg, workspace, "reveal", holder) as job:
        header, disclosed = reveal.write(*job.read, job.out_dir, job.context)
        job.cost.update({"num_columns": header.num_columns, "num_checked": header.num_checked} | disclosed.shares)
    print(f"{job.out_dir}: {Recheck(header.num_columns, header.num_checked)}")
    print(f"{job.out_dir}: all that is approved and was revealed under this key, without noise: {disclosed}")


main = stage(run)

if __name__ == "__main__":
    main()
