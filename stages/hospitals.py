"""Hospitals: whose films are whose, to data/hospitals/NAME.json. A federation has them apart; an experiment on one set shares them out."""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.experiment.experiment import Experiment
from ppdl.pooling.privacy.noise import kept_rows
from ppdl.pooling.sharing import BY_CLASS, Shares, missing_classes, share_at_random, share_by_name


def run(cfg: DictConfig, workspace: Workspace) -> None:
    if (name := cfg.branch) in cfg.federations:
        pooling = build(cfg.federations[name], f"federations.{name}")
    else:
        name, node = branch(cfg, "heads")
        pooling = build(node.pooling, f"heads.{name}.pooling")
    hospitals = pooling.hospitals
    dataset, prepared = build(cfg.dataset, "dataset"), Experiment(cfg, workspace).prepared
    rows = prepared.rows("train", "validation")
    films = prepared.index.iloc[rows]
    labels, groups = films["label"].to_numpy(), films["group"].to_numpy()
    named = False
    if isinstance(hospitals, int):
        found = share_at_random(rows, labels, groups, hospitals, cfg.split.seed)
    elif hospitals == BY_CLASS:
        found = share_by_name(rows, groups, films["class_name"].tolist(), divided=True)
    else:
        named, found = True, share_by_name(rows, groups, dataset.column(hospitals, films["path"].tolist()), divided=False)
    if pooling.privacy:
        most, all_groups = pooling.privacy.films_per_patient, prepared.index["group"].to_numpy()
        for hospital, own in found.items():
            kept = kept_rows(all_groups[own], most)
            found[hospital] = np.array(own)[kept].tolist()
            print(f"{hospital}: {len(own) - kept.sum()} films left out, beyond {most} of a patient")
    Shares(named, found).write(workspace.outputs / f"data/hospitals/{name}.json")
    lacks = missing_classes(found, prepared.index["label"].to_numpy(), prepared.class_names)
    for hospital, own in found.items():
        print(f"{hospital}: {len(own)} films" + (f", none of {', '.join(lacks[hospital])}" if hospital in lacks else ""))


main = stage(run)

if __name__ == "__main__":
    main()
