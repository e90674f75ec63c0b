"""Source: films of other hospitals, prepared as the set's are and held against it, to data/external/prepared/NAME."""

import json
import shutil

from omegaconf import DictConfig

from ppdl.config import Workspace, build, stage
from ppdl.datasets.preparing.external import prepare_external
from ppdl.experiment.experiment import EXTERNAL, Experiment


def run(cfg: DictConfig, workspace: Workspace) -> None:
    experiment = Experiment(cfg, workspace)
    (workspace.outputs / EXTERNAL).mkdir(parents=True, exist_ok=True)
    # Without any set it keeps the folder from being empty, of which DVC warns a dozen times.
    (workspace.outputs / EXTERNAL / "sets.json").write_text(json.dumps(list(cfg.evaluation.external)) + "\n")
    for name, node in cfg.evaluation.external.items():
        raw = workspace.unfinished / "external" / name
        shutil.rmtree(raw, ignore_errors=True)
        raw.mkdir(parents=True)
        build(node, f"evaluation.external.{name}").write_raw(raw)
        prepare_external(
            name,
            raw,
            workspace.outputs / EXTERNAL / name,
            experiment.prepared,
            near_duplicate_bits=cfg.split.near_duplicate_bits,
            on_bad_image=node.on_bad_image,
            params=experiment.external_values(name),
        )
        shutil.rmtree(raw)


main = stage(run)

if __name__ == "__main__":
    main()
