"""Key holder: make sure that there is a key pair; write only its public part, to keys/public.json."""

from omegaconf import DictConfig

from ppdl.config import Workspace, checkout, stage
from ppdl.crypto.keystore import ensure_keypair


def run(cfg: DictConfig, workspace: Workspace) -> None:
    outcome = ensure_keypair(
        workspace.outputs / "keys/public.json",
        cfg.keygen.private_dir,
        key_bits=cfg.keygen.key_bits,
        allow_insecure_key=cfg.keygen.allow_insecure_key,
        project=checkout(),
    )
    print(outcome.message)


main = stage(run)

if __name__ == "__main__":
    main()
