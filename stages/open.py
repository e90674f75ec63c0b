"""Key holder: open the total of all hospitals once, solve for a head, and write its integers beside the public backbone, to models/NAME.

Which films there are is read for the run's record alone.
"""

from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, stage
from ppdl.config.cost import recorded_cost
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keystore import default_private_dir
from ppdl.errors import ArtifactError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import head_run
from ppdl.experiment.training.run import Origin
from ppdl.pooling.board import Board
from ppdl.pooling.opening import open_total
from ppdl.pooling.subjects.head import HeadSums

NOTE = (
    "The head was trained on **sums under encryption**: each hospital encrypted sums over its films, a server added them, and the key "
    "holder decrypted the total once and solved for the head. No image and no hospital's sums were shown to anybody; the key holder saw "
    "the total. Images that are classified stay encrypted as well: the server sees their features under a fresh obfuscator each."
)


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    run, pooling = head_run(Experiment(cfg, workspace), name), build(node.pooling, f"heads.{name}.pooling")
    path, backbone = f"data/pool/{name}", workspace.inputs / f"data/backbone/{name}.keras"
    board = Board(workspace.inputs / path)
    terms = board.read_terms()
    subject = HeadSums.of(terms.subject)
    if hash_file(backbone) != subject.backbone_sha256:
        raise ArtifactError(f"{backbone} is not the backbone that the hospitals' features were made with: run `dvc repro`")
    facts = run.backbone_facts(subject.backbone_sha256)
    called = terms.tree | terms.tree["subject"]
    pinned = {
        "strengths": list(pooling.strengths),
        "accept_membership": pooling.accept_membership,
        "privacy": pooling.privacy and asdict(pooling.privacy),
        "key_bits": cfg.keygen.key_bits,
    }
    if different := [key for key, value in pinned.items() if called[key] != value]:
        raise ArtifactError(f"{path}: the run was called with another {different[0]} than the key holder's configuration: run `dvc repro`")
    with recorded_cost(workspace.outputs / f"reports/cost/{name}/open.json"):
        answer = open_total(board, terms, Path(cfg.keygen.private_dir or default_private_dir()), subject.solver(facts))
    tally = board.read_tally()
    origin = Origin(path, tally.sum_sha256, confidential=True, key_fingerprint=terms.fingerprint, note=NOTE)
    num_films = terms.declared(tally.contributors)
    summary = {"num_hospitals": len(tally.contributors), "num_films": num_films, "num_features": subject.num_features}
    run.keep_opened(answer, backbone, origin, summary, stage="stages.open")
    print(f"{name}: opened once, a head of {subject.num_features} features from {num_films} films")


main = stage(run)

if __name__ == "__main__":
    main()
