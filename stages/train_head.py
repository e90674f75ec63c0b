"""Model owner: a linear head on features of plain images, rounded to integers, to models/NAME. The backbone beside it is public."""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, stage
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import head_run


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    experiment = Experiment(cfg, workspace)
    head = head_run(experiment, name)
    rows = np.concatenate([experiment.prepared.rows(split) for split in ("train", "validation")])
    fitted = head.train(head.write_features(rows), stage="stages.train_head")
    after, before = fitted.summary["val_accuracy"], fitted.summary["val_accuracy_unrounded"]
    print(f"{name}: validation accuracy {after:.4f}, and {before:.4f} before its weights were rounded")


main = stage(run)

if __name__ == "__main__":
    main()
