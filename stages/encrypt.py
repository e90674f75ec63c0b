"""Source: encrypt the prepared images under one protection, with the public key alone, to data/encrypted/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, construct, stage
from ppdl.config.choices import say_replaced
from ppdl.config.cost import folder_bytes, recorded_cost
from ppdl.config.handed_over import made_here
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.signing import Signing
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.reduced import Reduced


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    say_replaced(cfg, f"data/encrypted/{name}")
    protection = build(node.scheme, f"protections.{name}.scheme")
    executor = build(cfg.executor, "executor")
    sign = construct(Signing, cfg.signing, "signing").signer()
    public_key = load_public(workspace.inputs / "keys/public.json")
    prepared = load_prepared(workspace.inputs / "data/prepared")
    out_dir = workspace.outputs / "data/encrypted" / name
    with made_here(out_dir, workspace.unfinished), recorded_cost(workspace.outputs / f"reports/cost/{name}/encrypt.json") as cost:
        protection.encrypt(
            Reduced(prepared.images, protection.image_px(cfg.input_px)),
            out_dir,
            input_px=cfg.input_px,
            public_key=public_key,
            partial_dir=workspace.unfinished / "encrypt" / name,
            executor=executor,
        )
        sign(out_dir)
        cost["bytes"] = folder_bytes(out_dir)


main = stage(run)

if __name__ == "__main__":
    main()
