"""Compute side: evaluate public filters on the ciphertexts, with the public key alone, to data/stem/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, construct, stage
from ppdl.config.cost import folder_bytes, recorded_cost
from ppdl.config.handed_over import made_here
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.signing import Signing


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    stem = build(node.stem, f"protections.{name}.stem")
    executor = build(cfg.executor, "executor")
    signing = construct(Signing, cfg.signing, "signing")
    sign = signing.signer()
    public_key = load_public(workspace.inputs / "keys/public.json")
    source_dir, out_dir = workspace.inputs / "data/encrypted" / name, workspace.outputs / "data/stem" / name
    signing.check("encrypted", source_dir)
    with made_here(out_dir, workspace.unfinished), recorded_cost(workspace.outputs / f"reports/cost/{name}/stem.json") as cost:
        stem.write(
            source_dir,
            out_dir,
            public_key=public_key,
            partial_dir=workspace.unfinished / "stem" / name,
            executor=executor,
        )
        sign(out_dir)
        cost["bytes"] = folder_bytes(out_dir)


main = stage(run)

if __name__ == "__main__":
    main()
