"""Source: drop bad images and duplicates, split by group, write the prepared arrays to data/prepared."""

from omegaconf import DictConfig

from ppdl.config import Workspace, check_built_for, construct, plain, read_built_for, stage
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare


def run(cfg: DictConfig, workspace: Workspace) -> None:
    raw = workspace.inputs / "data/raw"
    check_built_for(read_built_for(raw), {"dataset": cfg.dataset}, what=str(raw))
    prepare(
        raw,
        workspace.outputs / "data/prepared",
        workspace.outputs / "reports",
        split=construct(Split, cfg.split, "split"),
        prepared_px=cfg.prepared_px,
        on_bad_image=cfg.dataset.on_bad_image,
        params=plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")}),
    )


main = stage(run)

if __name__ == "__main__":
    main()
