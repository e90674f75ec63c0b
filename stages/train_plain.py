"""Trainer: the yardstick, MobileNetV2 on the plain images, to models/plain."""

from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import train_branch
from ppdl.experiment.training.run import PLAIN


def run(cfg: DictConfig, workspace: Workspace) -> float:
    return train_branch(Experiment(cfg, workspace), PLAIN, stage="stages.train_plain")


main = stage(run)

if __name__ == "__main__":
    main()
