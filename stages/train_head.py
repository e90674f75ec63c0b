"""Model owner: a linear head on features of plain images, rounded to integers, to models/NAME. The backbone beside it is public."""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, stage
from ppdl.datasets.prepared.splitting import SPLITS
from ppdl.experiment.training.head_run import features_of, head_run, train_head, write_backbone
from ppdl.experiment.training.runs import prepared_data


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    prepared = prepared_data(cfg, workspace)
    rows = {split: prepared.rows(split) for split in SPLITS}
    backbone, sha256 = write_backbone(cfg, workspace, name)
    features = features_of(backbone, prepared, np.concatenate([rows["train"], rows["validation"]]))
    fitted = train_head(cfg, workspace, head_run(cfg, name), prepared, rows, features, backbone_sha256=sha256, stage="stages.train_head")
    print(f"{name}: validation accuracy {fitted.summary['val_accuracy']:.4f}, {fitted.summary['val_accuracy_unrounded']:.4f} unrounded")


main = stage(run)

if __name__ == "__main__":
    main()
