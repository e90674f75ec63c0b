"""Kill `dvc repro`, then `ppdl repro`, with SIGKILL at random moments, run it again, and see that nothing was lost and nothing reused.

python -m tests.soak.kills --num 50 --out tests/soak/results/kills.json    # about 20 minutes on 2 cores

What must hold in the end, whatever was killed:

- the pipeline ends, and a further one has nothing to do;
- every artifact decrypts to the prepared images bit by bit, and the revealed view is that of the images;
- no obfuscator occurs twice, neither within the randomised artifacts nor in what killed attempts left on the disk: ciphertexts with
  equal c mod n are the same ciphertext (c mod n depends on the obfuscator alone, so this is the whole ratio attack);
- every MLflow run that ever began is still there, and none is left RUNNING: finished, or KILLED;
- no temporary file of ours is left in the checkout, in the folder of private keys, or in the folder for temporary files ($TMPDIR);
- no private key is in a file but its own, or in no command line and no environment of any process while it ran.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ppdl.audit.examination.release_view import release_view
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.artifact.shards import npy_header
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.crypto.keys.keystore import load_public, require_private
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.protections.steps.filters import claimed_filters
from ppdl.protections.steps.noise import NoiseSecret
from ppdl.protections.steps.revealed import read_revealed
from tests.secrets_search import find_in_bytes, find_private_key, private_keys
from tests.soak.scratch import Scratch
from tests.test_pipeline import SMALL

RESULTS = Path(__file__).parent / "results/kills.json"
RANDOMISED = ("opaque", "homomorphic")
_STAGE_TIMEOUT_S = 400
_SHARD_HEADER = len(npy_header((1, 1)))
_TEMPORARY = ("*.tmp", ".*.partial*", "*.copying", "work-*", ".new-*", "mlflow.db.new*", "*.spool")


class Broken(AssertionError):
    """What must hold after a kill does not."""


def reference(root: Path) -> dict[str, float]:
    """Run the pipeline once undisturbed and return how long each stage took, in seconds."""
    started = Scratch(root).start("dvc", "repro")
    if started.wait(_STAGE_TIMEOUT_S * 3):
        raise Broken(f"the undisturbed run failed:\n{started.tail}")
    times = [*started.stages, ("end", time.monotonic())]
    return {name: times[i + 1][1] - begin for i, (name, begin) in enumerate(started.stages)}


def run(
    root: Path, num_kills: int, seed: int, durations: dict[str, float], goal: tuple[str, ...] = (), overrides: list[str] = SMALL
) -> dict:
    """Kill `num_kills` times, finish, check everything, and return the figures.

    A pipeline that has ended before all kills were spent is checked, and the rest spent on a new one.

    Args:
        root: scratch folder, new or empty.
        durations: of each stage, in the order of the pipeline; a moment is drawn uniformly from a stage's.
        goal: what `dvc repro` is to build; everything when empty.
        overrides: of the pipeline's configuration.

    Raises:
        Broken: something that must hold does not.
    """
    rng, rounds = np.random.default_rng(seed), []
    while (left := num_kills - sum(len(killed) for killed, _ in rounds)) > 0 and len(rounds) < num_kills:
        rounds.append(_round(Scratch(root / f"round-{len(rounds)}", overrides), left, rng, durations, goal))
    killed = Counter(stage for stages, _ in rounds for stage in stages)
    return {"num_kills": sum(killed.values()), "num_pipelines": len(rounds), "seed": seed, "killed_in": dict(killed)} | {
        name: sum((figures[name] for _, figures in rounds), start=type(rounds[0][1][name])()) for name in rounds[0][1]
    }


def _round(
    scratch: Scratch, num_kills: int, rng: np.random.Generator, durations: dict[str, float], goal: tuple[str, ...]
) -> tuple[list, dict]:
    """Kill one pipeline, in each stage as often as in any other to within one, and return the stages that were hit, and the figures."""
    seen, began = Obfuscators(), set()
    scratch.watch.start()
    stages, killed, survivors = list(durations), [], []
    for target in _targets(stages, num_kills, rng):
        started = scratch.start("dvc", "repro", *goal)
        later = started.wait_for_stage(set(stages[stages.index(target) :]), _STAGE_TIMEOUT_S)
        if later is None:  # all that was left to do is done
            break
        time.sleep(rng.uniform(0, durations[later]))
        if started.process.poll() is None:
            killed.append(started.stage)
            survivors += started.kill()
        elif started.process.returncode:
            raise Broken(f"`dvc repro` failed after kills in {killed}:\n{started.tail}")
        seen.read(scratch.path)
        began |= scratch.run_states().keys()
    if started.process.poll() is None and started.wait(_STAGE_TIMEOUT_S):
        raise Broken(f"`dvc repro` failed after kills in {killed}:\n{started.tail}")
    _finish(scratch, goal)
    return killed, {"survivors": survivors} | check(scratch, seen, began)


def run_beside(root: Path, num_kills: int, seed: int, between_s: tuple[float, float] = (4, 24)) -> dict:
    """Kill `ppdl repro` and all that it started, whichever stages run side by side, and return the figures.

    Args:
        num_kills: at most; none is left once the pipeline has ended.
        between_s: a moment is drawn uniformly from it, counted from the start of each attempt.

    Raises:
        Broken: something that must hold does not.
    """
    rng, scratch, seen, began, killed = np.random.default_rng(seed), Scratch(root), Obfuscators(), set(), []
    scratch.watch.start()
    for _ in range(num_kills):
        started = scratch.start("ppdl", "repro")
        time.sleep(rng.uniform(*between_s))
        if started.process.poll() is not None:
            if started.process.returncode:
                raise Broken(f"`ppdl repro` failed after kills in {killed}:\n{started.tail}")
            break
        killed.append(started.kill_all())
        seen.read(scratch.path)
        began |= scratch.run_states().keys()
    _finish(scratch, (), "ppdl")
    stages = Counter(stage for stages in killed for stage in stages)
    return {"num_kills": len(killed), "two_at_once": sum(len(s) > 1 for s in killed), "killed_in": stages} | check(scratch, seen, began)


def _targets(stages: list[str], num_kills: int, rng: np.random.Generator) -> list[str]:
    """Draw the stage of each kill, in the order in which they run."""
    rounds = [stage for _ in range(num_kills // len(stages)) for stage in stages]
    extra = rng.choice(len(stages), num_kills - len(rounds), replace=False)
    return sorted([*rounds, *(stages[i] for i in extra)], key=stages.index)


def _finish(scratch: Scratch, goal: tuple[str, ...], command: str = "dvc") -> None:
    started = scratch.start(command, "repro", *goal)
    if started.wait(_STAGE_TIMEOUT_S * 3):
        raise Broken(f"the last `{command} repro` failed:\n{started.tail}")
    if "up to date" not in (again := scratch.run("dvc", "repro", *goal)):
        raise Broken(f"a further `dvc repro` had something to do:\n{again}")


class Obfuscators:
    """Every randomised ciphertext that was ever on the disk, by c mod n."""

    def __init__(self) -> None:
        self.rows: dict[bytes, dict[str, set[bytes]]] = {}
        self.num_ciphertexts = 0

    def read(self, checkout: Path) -> None:
        """Read finished and unfinished shards of the randomised protections."""
        if not (checkout / "keys/public.json").exists():
            return
        key = load_public(checkout / "keys/public.json")
        folders = [checkout / "data/encrypted" / name for name in RANDOMISED]
        folders += [path for name in RANDOMISED for path in checkout.glob(f".ppdl/*/encrypt/{name}")]
        for path in (file for folder in folders for file in folder.rglob("ciphertexts-*")):
            data = path.read_bytes()[_SHARD_HEADER:]
            for begin in range(0, len(data) - key.ciphertext_bytes + 1, key.ciphertext_bytes):
                row = data[begin : begin + key.ciphertext_bytes]
                if any(row):
                    self._add(key.fingerprint, row, key.n)

    def _add(self, fingerprint: str, row: bytes, n: int) -> None:
        rest = (int.from_bytes(row, "big") % n).to_bytes(n.bit_length() // 8 + 1, "big")
        same = self.rows.setdefault(fingerprint.encode(), {}).setdefault(rest.hex(), set())
        self.num_ciphertexts += row not in same
        same.add(row)

    @property
    def num_reused(self) -> int:
        return sum(len(rows) > 1 for of_key in self.rows.values() for rows in of_key.values())


def check(scratch: Scratch, seen: Obfuscators, began: set[str]) -> dict:
    """Check all that must hold when the pipeline has ended.

    Raises:
        Broken: the first thing that does not.
    """
    public = load_public(scratch.path / "keys/public.json")
    private = require_private(public, scratch.private_dir)
    num_images = _check_artifacts(scratch.path, private)
    seen.read(scratch.path)
    if seen.num_reused:
        raise Broken(f"{seen.num_reused} obfuscators occur in more than one ciphertext")
    states = scratch.run_states()
    if lost := began - states.keys():
        raise Broken(f"MLflow runs {sorted(lost)} are gone")
    if left := Counter(states.values()).keys() - {"FINISHED", "KILLED"}:
        raise Broken(f"MLflow runs are left in the states {sorted(left)}")
    if left := leftovers(scratch):
        raise Broken(f"temporary files are left: {left}")
    places, seen_processes = [scratch.path, scratch.temporary], scratch.watch.stop()
    for key in private_keys(scratch.private_dir):
        if found := find_private_key(key, places) + find_in_bytes(key, seen_processes, "command lines and environments"):
            raise Broken(f"private parts of the key for {key.public.purpose} are in {found}")
    return {
        "images_decrypted_bit_exactly": num_images,
        "ciphertexts_searched": seen.num_ciphertexts,
        "obfuscators_reused": seen.num_reused,
        "mlflow_runs": Counter(states.values()),
        "temporary_files": 0,
        "processes_watched": len(scratch.watch.processes),
        "files_of_libraries_in_tmpdir": sum(path.is_file() for path in scratch.temporary.rglob("*")),
    }


def _check_artifacts(checkout: Path, private: PrivateKey) -> int:
    prepared, num_images = load_prepared(checkout / "data/prepared"), 0
    for folder in sorted((checkout / "data/encrypted").iterdir()):
        if not folder.is_dir():
            continue
        artifact = open_artifact(folder)
        artifact.verify(private.public)
        images = np.concatenate([block for _, block in decrypt_images(artifact, private)])
        if not np.array_equal(images, Reduced(prepared.images, artifact.header.source.height)[:]):
            raise Broken(f"{folder.name} decrypts to other images than were prepared")
        num_images += len(images)
    view = read_revealed(checkout / "data/revealed/homomorphic")
    params = view.header.params
    plain = release_view(
        Reduced(prepared.images, view.header.shape[1] * params["stride"])[:],
        stride=params["stride"],
        filters=claimed_filters(params, checkout),
        secret=NoiseSecret(secrets.token_bytes(32)),
        clip=params["reveal"]["clip"],
        clip_detail=params["reveal"]["clip_detail"],
        noise=params["reveal"]["noise"],
    )
    if not np.array_equal(view.array, plain):
        raise Broken("the revealed view is not that of the prepared images")
    return num_images


def leftovers(scratch: Scratch) -> list[str]:
    """List what a finished run must not leave behind: unfinished work, temporary names, anything in the folder for temporary files."""
    found = [
        path for pattern in _TEMPORARY for path in scratch.path.rglob(pattern) if ".dvc" not in path.parts and ".git" not in path.parts
    ]
    found += [path for path in (scratch.path / ".ppdl").rglob("*") if path.is_file() and path.parent.name not in ("repro", "made")]
    found += [path for path in scratch.private_dir.iterdir() if path.suffix != ".json" or path.name.startswith(".")]
    found += [
        path for path in scratch.temporary.rglob("*") if path.is_file() and path.relative_to(scratch.temporary).parts[0].startswith("ppdl-")
    ]
    return sorted(str(path.relative_to(scratch.path.parent)) for path in set(found))


def main() -> None:
    """Run the soak from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills")
    parser.add_argument("--num", type=int, default=50)
    parser.add_argument("--beside", type=int, default=20, help="kills of `ppdl repro`, at most")
    parser.add_argument("--seed", type=int, default=20220314)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--durations", type=Path, help="results of an earlier soak, whose durations of stages are taken over")
    parser.add_argument("--keep", type=Path, help="work here and leave everything there")
    args = parser.parse_args()
    root, began = args.keep or Path(tempfile.mkdtemp(prefix="ppdl-kills-")), time.monotonic()
    durations = json.loads(args.durations.read_text())["durations_s"] if args.durations else reference(root / "reference")
    figures = run(root / "killed", args.num, args.seed, durations)
    figures["beside"] = run_beside(root / "beside", args.beside, args.seed)
    figures |= {"seconds": round(time.monotonic() - began), "durations_s": {name: round(value, 1) for name, value in durations.items()}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    if not args.keep:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
