"""A federation of five parties over Flower on real X-rays: seconds by phase, MB by party, and the accuracy of the network.

    python -m benchmarks.federated_hospitals out --root /data/xrays --classes COVID Normal "Viral Pneumonia" --weights FILE

After `make hospitals-setup`; 10 to 30 minutes of two cores. Films, shares and settings are those of `benchmarks.federated_xrays`,
iid, 16 bits, seed 0; five processes give the commands of docs/howto/hospitals.md on 127.0.0.1 with TLS, and share this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from benchmarks.federated_xrays import BITS, IID, PX, Case, hospitals_of, prepare_xrays
from ppdl.config.place import CONF
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.predictions.predictions import predictions_of
from ppdl.protections.view import plain_view
from ppdl.training.networks.predict import load_model, predict_logits
from tests.serving.hospitals.parties import FEDERATION, NAMES, Parties, write_rows
from tests.soak.hospital_kills import undisturbed

SEED = 0


@dataclass(frozen=True)
class Shared:
    """X-rays that three hospitals share, each with the validation films of all."""

    prepared: Prepared
    rows: Sequence[np.ndarray]

    def of(self, name: str, folder: Path) -> None:
        """Write what one hospital has prepared."""
        write_rows(self.prepared, np.sort([*self.rows[NAMES.index(name)], *self.prepared.rows("validation")]), folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parties and print figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federated_hospitals", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of benchmarks.federated_xrays, or a new one: prepared films are taken from it")
    parser.add_argument("--root", help="folder with a folder of X-rays for each class")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--weights", required=True, help="file of MobileNetV2 0.35 without its top")
    parser.add_argument("--rounds", type=int, default=14)
    options = parser.parse_args(arguments)
    prepared = prepare_xrays(options)
    shares = list(hospitals_of(prepared, Case(IID, f"{BITS} bits"), SEED).values())
    averaging = OmegaConf.merge(OmegaConf.load(CONF / "federation/averaging.yaml"), {"rounds": options.rounds, "bits": BITS})
    training = {"batch_size": 32, "learning_rate": 1e-3, "class_weights": None}
    federation = {
        "prepared_px": PX,
        "input_px": PX,
        "seed": SEED,
        "model": {"weights": str(Path(options.weights).resolve()), "dropout": 0.2, "batchnorm_momentum": 0.9},
        "training": training,
        "federations": {FEDERATION: averaging},
    }
    with tempfile.TemporaryDirectory(prefix="ppdl-federated-hospitals-") as root:
        parties = Parties(Path(root) / "parties", Shared(prepared, shares))
        parties.invite(federation)
        figures = undisturbed(parties, limit_s=6 * 3600)
        model = load_model(parties.run_folder(NAMES[0]) / "network/model.keras")
        rounds = [line.partition(": ")[2] for line in parties.printed(NAMES[0]).splitlines() if line.startswith("round ")]
    rows = prepared.rows("test")
    tested = evaluate(predictions_of(prepared, rows, predict_logits(model, plain_view(prepared.images), rows, 64)))
    figures |= {"test": {key: tested[key] for key in ("accuracy", "accuracy_low", "accuracy_high")}, "num_test": len(rows)}
    figures |= {"validation_by_round": rounds, "load": os.getloadavg()[0], "cores": os.cpu_count(), "rounds": options.rounds}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
