"""The way of one image from data/raw to report.html, as its stages go it: which rooms they enter, how often they climb and come back.

cd CHECKOUT && python PATH/tests/walk.py     # of the checkout that it is run in, of any revision; writes data and models there

Runs a miniature of the pipeline (40 phantoms of 64 px, plain and homomorphic, three attacks that train nothing) and notes each call from a
function of one room to a function of another, the libraries between the two left out. Each pair of functions is one step, where it first
occurs. A step is a climb where nothing in the room that it comes from imports the room that it enters: whoever reads on from there finds no
import to follow. A return is a step into a room that the walk has been in before, with steps into other rooms in between.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = (("download", None), ("keygen", None))  # before data/raw, and the key
CHAIN = tuple(
    (name, "homomorphic") for name in ("split", "encrypt", "stem", "reveal", "audit", "train_plain", "train_encrypted", "evaluate")
)
ATTACKS = ("blind", "cipher_metrics", "seriation")
SMALL = [
    "+experiment=smoke",
    "prepared_px=64",
    "input_px=32",
    "dataset.num_images=40",
    "dataset.size_px=64",
    "dataset.images_per_patient=1",
    "training.epochs=1",
    "keygen.key_bits=512",
    "keygen.allow_insecure_key=true",
    "executor.num_workers=1",
    "evaluation.num_permutations=100",
    "~dataset@evaluation.external.other_device",  # of which older revisions know nothing: leave this line out there
]


class Step(NamedTuple):
    """A call from a function of one room to a function of another; both are (module, name)."""

    caller: tuple[str, str]
    called: tuple[str, str]


def room(module: str) -> str:
    """Return the folder or module right below ppdl; stages are one room."""
    return ".".join(module.split(".")[: 1 if module.startswith("stages") else 2])


def figures(steps: Sequence[Step], imports: Collection[tuple[str, str]]) -> dict[str, int]:
    """Count a walk.

    Args:
        imports: pairs of rooms, of which the first imports the second.
    """
    entered = [room(step.called[0]) for step in steps]
    visits = [name for i, name in enumerate(entered) if i == 0 or name != entered[i - 1]]
    return {
        "rooms": len(set(entered)),
        "places entered": len({step.called for step in steps}),
        "modules entered": len({step.called[0] for step in steps}),
        "climbs": sum((room(step.caller[0]), room(step.called[0])) not in imports for step in steps),
        "returns": len(visits) - len(set(visits)),
    }


def noted(root: Path, steps: dict[Step, None]) -> Any:
    """Return a hook for sys.setprofile that notes the steps between rooms below `root`."""

    @cache
    def place(code: Any) -> tuple[str, str] | None:
        path = Path(code.co_filename)
        if not path.is_relative_to(root / "ppdl") and not path.is_relative_to(root / "stages"):
            return None
        parts = path.relative_to(root).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__"), code.co_qualname.partition(".<locals>")[0]

    def hook(frame: Any, event: str, _: Any) -> None:
        if event != "call" or (called := place(frame.f_code)) is None or called[1] == "<module>":
            return
        outer = frame.f_back
        while outer is not None and place(outer.f_code) is None:
            outer = outer.f_back
        caller = place(outer.f_code) if outer is not None else None
        if caller is not None and caller[1] != "<module>" and room(caller[0]) != room(called[0]):
            steps.setdefault(Step(caller, called))

    return hook


def run_stage(module: str, arguments: list[str], out: str) -> None:
    """Run a stage as `python -m` does, with its steps noted in `out`."""
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [module, *arguments]
    steps: dict[Step, None] = {}
    hook = noted(Path.cwd(), steps)
    threading.setprofile(hook)
    sys.setprofile(hook)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.setprofile(None)
    Path(out).write_text(json.dumps(list(steps)))  # of a stage that came to its end


def compose() -> None:
    """Write params.yaml of the miniature."""
    import yaml
    from dvc.utils.hydra import compose_and_dump

    here = Path.cwd()
    sys.path.insert(0, str(here))
    compose_and_dump("params.yaml", str(here / "conf"), None, "config", str(here), SMALL)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params |= {"protections": {"homomorphic": params["protections"]["homomorphic"]}, "revealed": ["homomorphic"], "heads": {}}
    params["attacks"] = {name: params["attacks"][name] for name in ATTACKS}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def room_imports() -> set[tuple[str, str]]:
    import grimp

    graph = grimp.build_graph("ppdl", "stages", cache_dir=None)
    return {(room(a), room(b)) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)}


def walked(stages: Iterable[tuple[str, str | None]], private_dir: str) -> dict[str, list[Step]]:
    """Run stages in processes of their own; return the steps of each."""
    found = {}
    for name, branch in stages:
        out = Path(private_dir) / f"{name}.json"
        command = [sys.executable, __file__, f"stages.{name}", str(out), "-cn", "pipeline", *([f"branch={branch}"] if branch else [])]
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"PPDL_PRIVATE_KEY_DIR": private_dir})
        found[name] = [Step(*map(tuple, step)) for step in json.loads(out.read_text())]
    return found


def main() -> None:
    if Path("data/raw").exists():
        sys.exit("run this in a scratch checkout: there is data/raw here, and a walk would write over data, models and reports")
    compose()
    with tempfile.TemporaryDirectory() as folder:
        walked(SOURCE, folder)
        legs = walked(CHAIN, folder)
    imports = room_imports()
    for name, steps in legs.items():
        print(f"{name:16}", figures(steps, imports))
    whole = list(dict.fromkeys(step for steps in legs.values() for step in steps))
    print(f"{'whole':16}", figures(whole, imports))


if __name__ == "__main__":
    if sys.argv[1:]:
        run_stage(sys.argv[1], sys.argv[3:], sys.argv[2])
    else:
        main()
