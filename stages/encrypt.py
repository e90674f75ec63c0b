"""Source: encrypt the prepared images under one protection, with the public key alone, to data/encrypted/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.crypto.keystore import load_public
from ppdl.datasets.prepared import load_prepared
from ppdl.datasets.reduced import Reduced


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    protection = build(node.scheme, f"protections.{name}.scheme")
    executor = build(cfg.executor, "executor")
    public_key = load_public(workspace.inputs / "keys/public.json")
    prepared = load_prepared(workspace.inputs / "data/prepared")
    protection.encrypt(
        Reduced(prepared.images, protection.image_px(cfg.input_px)),
        workspace.outputs / "data/encrypted" / name,
        input_px=cfg.input_px,
        public_key=public_key,
        partial_dir=workspace.state / "encrypt" / name,
        executor=executor,
    )


main = stage(run)

if __name__ == "__main__":
    main()
