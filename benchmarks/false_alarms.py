"""How often `ppdl artifact audit` finds something in what a sound cipher wrote: `python -m benchmarks.false_alarms`.

    python -m benchmarks.false_alarms                                # 200 keys of each sound scheme, 50 films of 32 px: hours on one core
    python -m benchmarks.false_alarms --only aes_ctr_fresh --keys 20 # some; with --json FILE it goes on where it stopped

Each audit has 20 known images, as with --originals, so that all attacks run, and films, key and attackers of its own seed. By design fewer
than one audit of 100,000 finds something. Printed are the count and the 95 % upper bound of its rate (Clopper and Pearson 1934).
"""

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from benchmarks.schemes import audited
from ppdl.audit.attacks.decoder import Decoder
from tests.audit.schemes import SCHEMES, collimated, films
from tests.audit.schemes.table import UNBROKEN

SOUND = [name for name, scheme in SCHEMES.items() if scheme.known == UNBROKEN]


_traced = cache(lambda num_inputs, num_outputs: _build(Decoder(1), num_inputs, num_outputs, np.random.default_rng()))
_build = Decoder._build


def _built_once(_: Decoder, num_inputs: int, num_outputs: int, rng: np.random.Generator) -> Any:
    """Start the one network of such channels anew: tracing each audit's takes longer than training it, and is never freed."""
    import keras

    model = _traced(num_inputs, num_outputs)
    for layer in model.layers[:-1]:
        layer.kernel.assign(keras.initializers.HeNormal(seed=int(rng.integers(1 << 31)))(layer.kernel.shape))
    for variable in (model.layers[-1].kernel, *(layer.bias for layer in model.layers), *model.optimizer.variables):
        variable.assign(np.zeros(variable.shape))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SOUND, default=SOUND, metavar="NAME", help="some of the sound schemes")
    parser.add_argument("--keys", type=int, default=200, metavar="N", help="audits of each (200)")
    parser.add_argument("--images", type=int, default=50, metavar="N", help="films of as many patients (50)")
    parser.add_argument("--px", type=int, default=32, help="side of the films (32)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every verdict; those that it holds already are not computed again")
    args = parser.parse_args()
    found: dict[str, str] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    jobs = [(seed, name) for seed in range(args.keys) for name in args.only if f"{name} {seed}" not in found]
    prior = films(1009, 200, args.px)
    Decoder._build = _built_once  # type: ignore[method-assign]
    for seed, name in tqdm(jobs, unit="audit"):
        images = collimated(2000 + seed, args.images, args.px)
        row = audited(SCHEMES[name], images, prior, with_originals=True, seed=seed)
        found[f"{name} {seed}"] = row["verdict"] if row["verdict"] == UNBROKEN else row["sentence"]
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    print("| scheme | audits | alarms | rate, at most (95 %) |\n|---|---:|---:|---:|")
    for name in args.only:
        said = [text for key, text in found.items() if key.split()[0] == name]
        alarms = sum(text != UNBROKEN for text in said)
        print(f"| {name} | {len(said)} | {alarms} | {_upper(alarms, len(said)):.2%} |")
    alarms = sum(text != UNBROKEN for text in found.values())
    print(f"all: {alarms} of {len(found)}, at most {_upper(alarms, len(found)):.2%}")


def _upper(hits: int, trials: int) -> float:
    return float(binomtest(hits, trials).proportion_ci(method="exact").high)


if __name__ == "__main__":
    main()
