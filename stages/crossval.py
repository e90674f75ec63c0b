"""K-fold cross-validation from data to report in a folder of its own, crossval/NAME; no stage of the pipeline.

python -m stages.crossval +experiment=transfer dataset.root=/data/xrays crossval.name=mine
"""

from omegaconf import DictConfig, OmegaConf

from ppdl.config import Workspace, plain, stage
from ppdl.crossval import build_once, claim_folder, pooled, train_folds
from ppdl.evaluation.report import write_reports
from stages import download, encrypt, keygen, split


def run(cfg: DictConfig, workspace: Workspace) -> None:
    workspace = workspace.on_its_own()
    folder = workspace.outputs
    claim_folder(cfg, folder)
    build_once(folder / "data/raw", "built_for.json", lambda: download.run(cfg, workspace))
    build_once(folder / "data/prepared", "meta.json", lambda: split.run(cfg, workspace))
    keygen.run(cfg, workspace)
    for name in cfg.protections:
        branch = OmegaConf.merge(cfg, {"branch": name})
        build_once(folder / "data/encrypted" / name, "header.json", lambda branch=branch: encrypt.run(branch, workspace))
    train_folds(cfg, workspace)
    if cfg.crossval.test:
        runs, border = pooled(cfg, workspace)
        write_reports(folder / "reports", runs, border=border, **plain(cfg.evaluation))


main = stage(run, config_name="crossval")

if __name__ == "__main__":
    main()
