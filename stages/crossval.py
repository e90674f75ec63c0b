"""K-fold cross-validation from data to report in a folder of its own, crossval/NAME; no stage of the pipeline.

python -m stages.crossval +experiment=transfer dataset.root=/data/xrays crossval.name=mine
"""

import rich
from omegaconf import DictConfig, OmegaConf

from ppdl.config import Workspace, stage
from ppdl.crossval import build_once, chosen_runs, claim_folder, pooled, train_folds
from ppdl.evaluation.tables import results_table
from ppdl.runs import PLAIN, report
from stages import download, encrypt, keygen, reveal, split, stem


def run(cfg: DictConfig, workspace: Workspace) -> None:
    workspace = workspace.on_its_own()
    folder = workspace.outputs
    claim_folder(cfg, folder)
    build_once(folder / "data/raw", "built_for.json", lambda: download.run(cfg, workspace))
    build_once(folder / "data/prepared", "meta.json", lambda: split.run(cfg, workspace))
    keygen.run(cfg, workspace)
    for name in dict.fromkeys(run.branch for run in chosen_runs(cfg) if run.branch != PLAIN):
        branch = OmegaConf.merge(cfg, {"branch": name})
        build_once(folder / "data/encrypted" / name, "header.json", lambda branch=branch: encrypt.run(branch, workspace))
        if name in cfg.revealed:
            build_once(folder / "data/stem" / name, "header.json", lambda branch=branch: stem.run(branch, workspace))
            build_once(folder / "data/revealed" / name, "header.json", lambda branch=branch: reveal.run(branch, workspace))
    train_folds(cfg, workspace)
    if cfg.crossval.test:
        summary, _ = report(cfg, workspace, pooled(cfg, workspace))
        rich.print(results_table(summary))


main = stage(run, config_name="crossval")

if __name__ == "__main__":
    main()
