"""Hospitals and server: encrypted sums over each hospital's films, committed to, released, added and countersigned, to data/pool/NAME.

All parties run here, in one process. The key holder's part is a fresh key pair: its private part goes to the folder of private keys.
"""

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, checkout, stage
from ppdl.config.cost import folder_bytes, recorded_cost
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keystore import default_private_dir
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.pooled import FEATURE_BITS, films_of
from ppdl.pooling.board import Board
from ppdl.pooling.opening import left_keys
from ppdl.pooling.rehearsal import call_run, rehearse, roster_of, take_away
from ppdl.pooling.sharing import Shares
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.terms import Terms
from ppdl.training.networks.features import load_extractor


def run(cfg: DictConfig, workspace: Workspace) -> None:
    name, node = branch(cfg, "heads")
    pooling = build(node.pooling, f"heads.{name}.pooling")
    prepared = Experiment(cfg, workspace).prepared
    shares = Shares.read(workspace.inputs / f"data/hospitals/{name}.json")
    backbone = workspace.inputs / f"data/backbone/{name}.keras"
    private_dir, board = Path(cfg.keygen.private_dir or default_private_dir()), Board(workspace.unfinished / "pool" / name)
    hospitals_dir = private_dir / "hospitals"

    with recorded_cost(workspace.outputs / f"reports/cost/{name}/pool.json") as cost:
        sha256 = hash_file(backbone)
        extract, px = load_extractor(backbone, sha256=sha256), node.backbone.input_px
        films = {hospital: films_of(prepared, own, extract, px, named=shares.named) for hospital, own in shares.rows.items()}

        subject = HeadSums(
            class_names=prepared.class_names,
            num_features=next(iter(films.values())).features.shape[1],
            feature_bits=FEATURE_BITS,
            backbone_sha256=sha256,
            strengths=pooling.strengths,
            accept_membership=pooling.accept_membership,
            privacy=pooling.privacy,
        )
        roster = roster_of({hospital: len(own) for hospital, own in shares.rows.items()}, hospitals_dir, checkout())
        wanted = Terms("", cfg.keygen.key_bits, subject, roster)
        terms = call_run(board, wanted, private_dir, allow_insecure_key=cfg.keygen.allow_insecure_key, project=checkout())
        rehearse(board, terms, films, hospitals_dir)
        cost["bytes"] = folder_bytes(board.folder / "ciphertexts")
        cost["num_films"], cost["num_sums"] = terms.declared(terms.roster), terms.num_sums
    take_away(board, terms, workspace.outputs / f"data/pool/{name}", hospitals_dir)
    print(f"{name}: {terms.num_sums} sums over {terms.declared(terms.roster)} films of {len(films)} hospitals, under encryption")
    if (noise := subject.noise(len(films))) is not None:
        print(
            f"{name}: epsilon {noise.privacy.epsilon:g} at delta {noise.privacy.delta:g} for the total, and "
            f"{noise.epsilon_alone:.3g} for who opens one hospital's sums"
        )
    if left := [str(path) for path in left_keys(private_dir) if path.stem != terms.fingerprint]:
        print(f"These private keys of other runs still decrypt what was released there; delete what nobody will open: {', '.join(left)}")


main = stage(run)

if __name__ == "__main__":
    main()
