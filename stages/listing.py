"""Source: look at the user's own files, so that they are read again when one was added, changed or removed.

Those of the data set to data/listing, those of the other hospital `branch=external.NAME` to data/external/listing.
"""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, build, stage
from ppdl.datasets.sources.listing import write_listing
from ppdl.errors import DataError

EXTERNAL = "external."


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name = cfg.branch.removeprefix(EXTERNAL)
    if cfg.branch.startswith(EXTERNAL):
        where, node, folder = f"evaluation.{cfg.branch}", cfg.evaluation.external[name], "data/external/listing"
    else:
        where, node, folder = "dataset", cfg.dataset, "data/listing"
    path = workspace.outputs / folder / f"{name}.json"
    sources = build(node, where).sources()
    missing = [source for source in sources if not source.exists()]
    if missing and path.exists():  # a machine that pulled what another built
        print(f"{missing[0]} is not on this machine: what was read of it stays as it is")
    elif missing:
        raise DataError(f"{missing[0]} does not exist (working directory: {Path.cwd()}); correct its place in `{where}`")
    else:
        write_listing(sources, path)


main = stage(run)

if __name__ == "__main__":
    main()
