"""Client and server: every test image's features encrypted, classified on ciphertexts, decrypted, to data/private/NAME.

The client's part needs the private key, the server's the head; both run here, in one process. Every decrypted logit must be that of the
integer head.
"""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, stage
from ppdl.config.cost import recorded_cost
from ppdl.crypto.keys.keystore import require_private
from ppdl.crypto.keys.purpose import INFERENCE, PUBLIC_PATHS
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import head_run, integer_features


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    private_key = require_private(workspace.inputs / PUBLIC_PATHS[INFERENCE], cfg.keygen.private_dir, purpose=INFERENCE)
    run = head_run(Experiment(cfg, workspace), name)
    head, prepared = run.open(), run.experiment.prepared
    rows, out_dir = prepared.rows("test"), workspace.outputs / "data/private" / name
    with recorded_cost(workspace.outputs / f"reports/cost/{name}/inference.json") as cost:
        images = Reduced(prepared.images, node.backbone.input_px)
        answers = run.infer(head, integer_features(head.public, run.trained, images, rows), private_key)
        cost |= answers.cost
    out_dir.mkdir(parents=True, exist_ok=True)
    np.savez(out_dir / "logits.npz", logits=answers.logits, rows=rows)
    print(f"{name}: {len(rows)} test images, and every decrypted logit is that of the integer head")


main = stage(run)

if __name__ == "__main__":
    main()
