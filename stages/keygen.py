"""Key holder: make sure that there is a key pair for the purpose that `branch` names (archive); write only its public part, to keys/."""

from omegaconf import DictConfig

from ppdl.config import Workspace, checkout, stage
from ppdl.crypto.keystore import ensure_keypair
from ppdl.crypto.purpose import ARCHIVE, PUBLIC_PATHS
from ppdl.errors import ConfigError


def run(cfg: DictConfig, workspace: Workspace) -> None:
    purpose = cfg.branch or ARCHIVE
    if purpose not in PUBLIC_PATHS:
        raise ConfigError(f"branch must be null or the purpose of a key ({', '.join(PUBLIC_PATHS)}), got {purpose!r}")
    outcome = ensure_keypair(
        workspace.outputs / PUBLIC_PATHS[purpose],
        cfg.keygen.private_dir,
        key_bits=cfg.keygen.key_bits,
        allow_insecure_key=cfg.keygen.allow_insecure_key,
        project=checkout(),
        purpose=purpose,
    )
    print(f"{purpose}: {outcome.message}")


main = stage(run)

if __name__ == "__main__":
    main()
