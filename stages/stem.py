"""Compute side: evaluate public filters on the ciphertexts, with the public key alone, to data/stem/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from stages.protecting import protecting


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    stem = build(node.stem, f"protections.{name}.stem")
    with protecting(cfg, workspace, "stem") as job:
        stem.write(*job.read, job.out_dir, job.context)


main = stage(run)

if __name__ == "__main__":
    main()
