"""Source: write the raw images and their index to data/raw."""

from omegaconf import DictConfig

from ppdl.config import Workspace, build, stage, write_built_for


def run(cfg: DictConfig, workspace: Workspace) -> None:
    dataset = build(cfg.dataset, "dataset")
    raw = workspace.outputs / "data/raw"
    raw.mkdir(parents=True, exist_ok=True)
    dataset.write_raw(raw)
    write_built_for(raw, {"dataset": cfg.dataset})


main = stage(run)

if __name__ == "__main__":
    main()
