"""Source: write the raw images and their index to data/raw."""

from omegaconf import DictConfig

from ppdl.config import PROJECT, Workspace, build, private_dir, stage, write_built_for
from ppdl.config.choices import say_replaced, under_dvc
from ppdl.config.handed_over import refuse_to_delete


def run(cfg: DictConfig, workspace: Workspace) -> None:
    if under_dvc():
        refuse_to_delete(PROJECT, private_dir(), "this run of the pipeline")
        say_replaced(cfg, "data/raw")
    dataset = build(cfg.dataset, "dataset")
    raw = workspace.outputs / "data/raw"
    raw.mkdir(parents=True, exist_ok=True)
    dataset.write_raw(raw)
    write_built_for(raw, {"dataset": cfg.dataset})


main = stage(run)

if __name__ == "__main__":
    main()
