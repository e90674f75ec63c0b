"""Key holder: check the stem's outputs, decrypt them, clip, add noise, and write what the trainer may see to data/revealed/NAME."""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, checkout, construct, stage
from ppdl.crypto.keys.keystore import default_private_dir, require_private
from ppdl.crypto.signing import Signing
from ppdl.protections.context import KeyHolder
from ppdl.protections.steps.ledger import open_ledger
from ppdl.protections.steps.recheck import Recheck
from stages.protecting import protecting

READ = ("encrypted", "stem")


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    reveal = build(node.reveal, f"protections.{name}.reveal")
    trusted = construct(Signing, cfg.signing, "signing").trusted
    if unsigned := [f"data/{folder}/{name}" for folder in READ if not trusted[folder]]:
        print(
            f"trusting {' and '.join(unsigned)} without a signature: signing.trusted names nobody for them, so whoever can replace them "
            "chooses what is decrypted (docs/threat-model.md#signatures)",
            flush=True,
        )
    holder = KeyHolder(Path(cfg.keygen.private_dir or default_private_dir()), checkout())
    private_key = require_private(workspace.inputs / "keys/public.json", holder.private_dir)
    if any(trusted[folder] for folder in READ):  # roles are apart, and stay so for this key, also where a check fails now
        with open_ledger(holder.private_dir, private_key.public.fingerprint, project=holder.project) as ledger:
            ledger.require_own_list()
    with protecting(cfg, workspace, "reveal", holder) as job:
        header, disclosed = reveal.write(*job.read, job.out_dir, job.context)
        job.cost.update({"num_columns": header.num_columns, "num_checked": header.num_checked} | disclosed.shares)
    print(f"{job.out_dir}: {Recheck(header.num_columns, header.num_checked)}")
    print(f"{job.out_dir}: all that is approved and was revealed under this key, without noise: {disclosed}")


main = stage(run)

if __name__ == "__main__":
    main()
