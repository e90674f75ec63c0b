"""Source: look at the user's own files, so that download runs again when one was added, changed or removed; to data/listing."""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, build, stage
from ppdl.datasets.sources.listing import write_listing
from ppdl.errors import DataError


def run(cfg: DictConfig, workspace: Workspace) -> None:
    path = workspace.outputs / f"data/listing/{cfg.branch}.json"
    sources = build(cfg.dataset, "dataset").sources()
    missing = [source for source in sources if not source.exists()]
    if missing and path.exists():  # a machine that pulled what another built
        print(f"{missing[0]} is not on this machine: data/raw stays as it is")
    elif missing:
        raise DataError(f"{missing[0]} does not exist (working directory: {Path.cwd()}); correct its place in `dataset`")
    else:
        write_listing(sources, path)


main = stage(run)

if __name__ == "__main__":
    main()
