"""Source: encrypt the prepared images under one protection, with the public key alone, to data/encrypted/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.config.choices import say_replaced
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.protections.branch import Branch
from stages.protecting import protecting


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg)
    say_replaced(cfg, f"data/encrypted/{name}")
    source = Branch(build(node.scheme, f"protections.{name}.scheme"))
    with protecting(cfg, workspace, "encrypt") as job:
        source.encrypt(load_prepared(workspace.inputs / "data/prepared").images, job.out_dir, job.context)


main = stage(run)

if __name__ == "__main__":
    main()
