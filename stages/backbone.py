"""Everybody: the public backbone of a pooled head, from public films alone, to data/backbone/NAME.keras."""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.datasets.phantoms.film import CLASS_NAMES
from ppdl.datasets.phantoms.public import PUBLIC_SEED, public_phantoms
from ppdl.pooling.sharing import FILMS_A_FEATURE, Shares
from ppdl.training.fitting.public import train_on_public
from ppdl.training.networks.features import PHANTOMS, save_backbone

NUM_FILMS, FILM_PX, MOST_FEATURES = 400, 128, 128


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    backbone = build(node.backbone, f"heads.{name}.backbone")
    num_films = Shares.read(workspace.inputs / f"data/hospitals/{name}.json").num_films
    num_features = backbone.num_features or max(1, min(MOST_FEATURES, num_films // FILMS_A_FEATURE))
    px = backbone.input_px
    films = public_phantoms(NUM_FILMS, px, px, seed=PUBLIC_SEED, film_px=max(FILM_PX, px))
    network = None
    if backbone.weights == PHANTOMS:
        labels, state_dir = np.arange(NUM_FILMS) % len(CLASS_NAMES), workspace.unfinished / "training" / f"{name}-backbone"
        network = train_on_public(films, labels, alpha=backbone.alpha, seed=PUBLIC_SEED, state_dir=state_dir)
    save_backbone(backbone.build(network, films, num_features), workspace.outputs / f"data/backbone/{name}.keras")
    print(f"{name}: {num_features} public features, for {num_films} films of the hospitals")


main = stage(run)

if __name__ == "__main__":
    main()
