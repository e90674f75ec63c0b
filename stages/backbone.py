"""Everybody: the public backbone of a pooled head, from public films alone, to data/backbone/NAME.keras."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.experiment.public_backbone import write_backbone
from ppdl.pooling.sharing import Shares


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    num_films = Shares.read(workspace.inputs / f"data/hospitals/{name}.json").num_films
    out = workspace.outputs / f"data/backbone/{name}.keras"
    num_features = write_backbone(build(node.backbone, f"heads.{name}.backbone"), num_films, out)
    print(f"{name}: {num_features} public features, for {num_films} films of the hospitals")


main = stage(run)

if __name__ == "__main__":
    main()
