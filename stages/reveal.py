"""Key holder: check the stem's outputs, decrypt them, clip, add noise, and write what the trainer may see to data/revealed/NAME."""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, checkout, construct, stage
from ppdl.config.cost import folder_bytes, recorded_cost
from ppdl.config.handed_over import made_here
from ppdl.crypto.keys.keystore import default_private_dir, require_private
from ppdl.crypto.signing import Signing
from ppdl.protections.steps.ledger import open_ledger
from ppdl.protections.steps.recheck import Recheck

READ = ("encrypted", "stem")


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    reveal = build(node.reveal, f"protections.{name}.reveal")
    executor = build(cfg.executor, "executor")
    signing = construct(Signing, cfg.signing, "signing")
    if unsigned := [f"data/{step}/{name}" for step in READ if not signing.trusted[step]]:
        print(
            f"trusting {' and '.join(unsigned)} without a signature: signing.trusted names nobody for them, so whoever can replace them "
            "chooses what is decrypted (docs/threat-model.md#signatures)",
            flush=True,
        )
    sign = signing.signer()
    private_dir = Path(cfg.keygen.private_dir or default_private_dir())
    private_key = require_private(workspace.inputs / "keys/public.json", private_dir)
    if any(signing.trusted[step] for step in READ):  # roles are apart, and stay so for this key, also where a check fails now
        with open_ledger(private_dir, private_key.public.fingerprint, project=checkout()) as ledger:
            ledger.require_own_list()
    source_dir, sums_dir = (workspace.inputs / "data" / step / name for step in READ)
    signing.check("encrypted", source_dir)
    signing.check("stem", sums_dir)
    out_dir = workspace.outputs / "data/revealed" / name
    with made_here(out_dir, workspace.unfinished), recorded_cost(workspace.outputs / f"reports/cost/{name}/reveal.json") as cost:
        header, disclosed = reveal.write(
            source_dir,
            sums_dir,
            out_dir,
            private_key=private_key,
            private_dir=private_dir,
            project=checkout(),
            partial_dir=workspace.unfinished / "reveal" / name,
            executor=executor,
        )
        sign(out_dir)
        cost |= {"bytes": folder_bytes(out_dir), "num_columns": header.num_columns, "num_checked": header.num_checked} | disclosed.shares
    print(f"{out_dir}: {Recheck(header.num_columns, header.num_checked)}")
    print(f"{out_dir}: all that is approved and was revealed under this key, without noise: {disclosed}")


main = stage(run)

if __name__ == "__main__":
    main()
