"""Everybody: the public backbone of a pooled head, from public films alone, to data/backbone/NAME.keras."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.datasets.phantoms.public import PUBLIC_SEED, public_phantoms
from ppdl.pooling.sharing import FILMS_A_FEATURE, Shares
from ppdl.training.networks.features import save_backbone

NUM_FILMS, MOST_FEATURES = 300, 128


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    backbone = build(node.backbone, f"heads.{name}.backbone")
    num_films = Shares.read(workspace.inputs / f"data/hospitals/{name}.json").num_films
    num_features = backbone.num_features or max(1, min(MOST_FEATURES, num_films // FILMS_A_FEATURE))
    films = public_phantoms(NUM_FILMS, backbone.input_px, backbone.input_px, seed=PUBLIC_SEED, film_px=backbone.input_px)
    save_backbone(backbone.build(films, num_features), workspace.outputs / f"data/backbone/{name}.keras")
    print(f"{name}: {num_features} public features, for {num_films} films of the hospitals")


main = stage(run)

if __name__ == "__main__":
    main()
