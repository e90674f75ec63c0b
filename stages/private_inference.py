"""Client and server: every test image's features encrypted, classified on ciphertexts, decrypted, to data/private/NAME.

The films of other hospitals likewise, after them. The client's part needs the private key, the server's the head; both run here, in one
process. Every decrypted logit must be that of the integer head.
"""

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace, branch, stage
from ppdl.config.cost import recorded_cost
from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.crypto.keys.keystore import require_private
from ppdl.crypto.keys.purpose import INFERENCE, PUBLIC_PATHS
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import HeadRun, head_run, integer_features


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, _ = branch(cfg, "heads")
    private_key = require_private(workspace.inputs / PUBLIC_PATHS[INFERENCE], cfg.keygen.private_dir, purpose=INFERENCE)
    run = head_run(Experiment(cfg, workspace), name)
    with recorded_cost(workspace.outputs / f"reports/cost/{name}/inference.json") as cost:
        cost |= _classify(run, private_key)
    for there in run.experiment.elsewhere():
        _classify(run.at(there), private_key)


def _classify(run: HeadRun, private_key: PrivateKey) -> dict[str, float]:
    """Classify the test images of a run's experiment, write the logits, and return what it cost."""
    head, prepared, path = run.open(), run.experiment.prepared, run.experiment.workspace.outputs / run.logits_path
    rows, images = prepared.rows("test"), Reduced(prepared.images, run.node.backbone.input_px)
    answers = run.infer(head, integer_features(head.public, run.trained, images, rows), private_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, logits=answers.logits, rows=rows)
    of = f" of {run.experiment.external}" if run.experiment.external else ""
    print(f"{run.name}: {len(rows)} test images{of}, and every decrypted logit is that of the integer head")
    return answers.cost


main = stage(run)

if __name__ == "__main__":
    main()
