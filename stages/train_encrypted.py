"""Trainer: the same network on what one protection lets the trainer see, to models/NAME."""

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, stage
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import train_branch


def run(cfg: DictConfig, workspace: Workspace) -> float:
    name, _ = branch(cfg)
    return train_branch(Experiment(cfg, workspace), name, stage="stages.train_encrypted")


main = stage(run)

if __name__ == "__main__":
    main()
