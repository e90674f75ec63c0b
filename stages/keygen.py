"""Key holder: make sure that there is a key pair for the purpose that `branch` names (archive); write only its public part, to keys/."""

from omegaconf import DictConfig

from ppdl.config import Workspace, checkout, stage
from ppdl.config.choices import recorded_md5, say_replaced, under_dvc
from ppdl.crypto.keys.keystore import ensure_keypair, load_public, save_public
from ppdl.crypto.keys.purpose import ARCHIVE, PUBLIC_PATHS
from ppdl.errors import ConfigError


def run(cfg: DictConfig, workspace: Workspace) -> None:
    purpose = cfg.branch or ARCHIVE
    if purpose not in PUBLIC_PATHS:
        raise ConfigError(f"branch must be null or the purpose of a key ({', '.join(PUBLIC_PATHS)}), got {purpose!r}")
    path = PUBLIC_PATHS[purpose]
    say_replaced(cfg, str(path))
    public, own = workspace.outputs / path, checkout() / path
    if under_dvc() and not public.exists() and own.exists():  # in a copy of the checkout (dvc exp run --queue)
        save_public(public, load_public(own, purpose))
    outcome = ensure_keypair(
        public,
        cfg.keygen.private_dir,
        key_bits=cfg.keygen.key_bits,
        allow_insecure_key=cfg.keygen.allow_insecure_key,
        project=checkout(),
        purpose=purpose,
        recorded_md5=recorded_md5(str(path)),
    )
    print(f"{purpose}: {outcome.message}")


main = stage(run)

if __name__ == "__main__":
    main()
