"""dvc.yaml tells the truth: the code that a stage depends on is the code that it runs, and no more. Subpackages are the unit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from ppdl.config import CONF, PROJECT
from ppdl.config.reference import SEVERAL

# An edit of these reruns nothing, for no output is made of them.
NO_OUTPUT = {
    "ppdl.arrays": "types",
    "ppdl.config": "composes and checks values, which DVC compares itself, and finds places",
    "ppdl.crypto.signing": "says who made an artifact; who reads one that was signed otherwise refuses it",
    "ppdl.crypto.workers": "where the work is done; the results are the same anywhere",
    "ppdl.errors": "messages",
    "ppdl.tracking": "what MLflow is told, beside the outputs",
    "ppdl.records": "writes whole files, and refuses values of another type",
}
STAGES: dict[str, dict[str, Any]] = {
    name: {"deps": []} | stage.get("do", stage) for name, stage in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].items()
}
CACHED = [name for name, stage in STAGES.items() if not stage.get("always_changed")]  # the others run each time


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ppdl", "stages", cache_dir=None, exclude_type_checking_imports=True)


@cache
def path_of(module: str) -> Path:
    """Return the file of a module, relative to the project."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (PROJECT / path).is_dir() else path.with_suffix(".py")


def decides_output(module: str) -> bool:
    return not any(module == name or module.startswith(f"{name}.") for name in NO_OUTPUT)


def targets(node: Any) -> Iterator[str]:
    """Yield the modules of all classes that a node of the configuration names."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        if key == "_target_":
            yield value.rpartition(".")[0]
        else:
            yield from targets(value)


@cache
def built_in(module: str) -> tuple[str, ...]:
    """Return the places in the configuration of what a module builds: `build(node, "training")`, with * for a name."""
    tree = ast.parse((PROJECT / path_of(module)).read_text())
    places = [node.args[1] for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "build" and node.args[1:]]
    return tuple(re.sub(r"\{.*?\}", "*", ast.literal_eval(re.sub(r"^f", "", ast.unparse(place)))) for place in places)


@cache
def classes_at(place: str) -> set[str]:
    """Return the modules of all classes that conf/ offers for a place such as protections.*.scheme."""
    groups = {group: folder for folder, group in SEVERAL.items()}
    top, *rest = place.replace("evaluation.external.*", "dataset").split(".")  # any data set
    found = set()
    for file in sorted((CONF / groups.get(top, top)).glob("*.yaml")):
        node = yaml.safe_load(file.read_text())
        for key in rest[1:]:
            node = node.get(key, {})
        found |= set(targets(node))
    return found


def top_keys(stage: dict[str, Any]) -> set[str]:
    return {param.split(".")[0] for param in stage.get("params", ())}


def chosen_by(name: str) -> set[str]:
    """Return the sections of the configuration that a stage, or one whose outputs it reads, is built from."""
    stage = STAGES[name]
    read = [re.sub(r"\$\{.*?\}", "*", dep) for dep in stage["deps"]]
    keys = top_keys(stage)
    for other in STAGES.values():
        written = [re.sub(r"\$\{.*?\}", "*", out if isinstance(out, str) else next(iter(out))) for out in other.get("outs", ())]
        if any(matches(dep, out) for dep in read for out in written):
            keys |= top_keys(other)
    return keys


def matches(dep: str, out: str) -> bool:
    """Tell whether one of two paths, in which * is any name, lies in the other."""
    pairs = zip(dep.split("/"), out.split("/"), strict=False)
    return all("*" in (a, b) or a == b for a, b in pairs)


@cache
def closure(name: str) -> set[str]:
    """Return the modules that a stage runs: what it imports, also late, and the classes that it builds from the configuration."""
    keys, found, left = chosen_by(name), set(), re.findall(r"python -m (stages\.\w+)", STAGES[name]["cmd"])
    while left:
        module = left.pop()
        if module in found or not decides_output(module):
            continue
        found.add(module)
        left += graph().find_modules_directly_imported_by(module)
        left += [c for place in built_in(module) if place.split(".")[0] in keys for c in classes_at(place)]
        parents = [module.rpartition(".")[0]] if "." in module else []
        left += [parent for parent in parents if graph().find_modules_directly_imported_by(parent)]  # what its package hands out
    return found


def code_of(name: str) -> list[Path]:
    return [Path(dep) for dep in STAGES[name]["deps"] if dep.startswith(("ppdl", "stages"))]


def is_below(path: Path, dep: Path) -> bool:
    return path == dep or dep in path.parents


@pytest.mark.parametrize("name", CACHED)
def test_a_stage_depends_on_all_code_that_it_runs(name):
    files = {path_of(module) for module in closure(name)}
    missing = sorted({str(path.parent) for path in files if not any(is_below(path, dep) for dep in code_of(name))})
    assert not missing, f"dvc.yaml: the deps of {name} lack {', '.join(missing)}"


@pytest.mark.parametrize("name", CACHED)
def test_a_stage_depends_on_no_code_that_it_does_not_run(name):
    files = {path_of(module) for module in closure(name)}
    units = {path.parent for path in files} | files
    for dep in code_of(name):
        assert (PROJECT / dep).exists(), f"dvc.yaml: {dep} of {name} is not there"
        inside = {path_of(module) for module in graph().modules if is_below(path_of(module), dep)}
        folders = {dep} if dep.suffix else {path.parent for path in inside if path.name != "__init__.py"}
        assert folders <= units, f"dvc.yaml: {name} runs nothing of {', '.join(sorted(map(str, folders - units)))}"


# What an edit of a module, be it of a comment, is known to rerun: the rooms that the stages stand on, and what should rerun few.
TRAINING = {"train_plain", "train_encrypted", "evaluate"}
NETWORKS = TRAINING | {"train_head", "private_inference", "audit_head", "backbone", "pool", "open", "audit_pool", "federate"}
ASKING = {"train_head", "private_inference", "audit_head", "evaluate"}
PROTECTING = {"encrypt", "stem", "reveal", "protect_external"}
EDITS: dict[str, set[str]] = {
    "ppdl/__main__.py": set(),
    "ppdl/arrays.py": set(),
    "ppdl/audit/attacks/ordering.py": {"audit", "audit_head", "audit_pool"},
    "ppdl/audit/examination/verdict.py": {"audit", "audit_head", "audit_pool", "evaluate"},
    "ppdl/audit/folder/examine.py": set(),
    "ppdl/cli/estimate.py": set(),
    "ppdl/config/check.py": set(),
    "ppdl/crypto/arithmetic/packing.py": ASKING | PROTECTING | {"pool", "open", "audit_pool", "audit", "train_encrypted", "federate"},
    "ppdl/crypto/estimate/images.py": set(),
    "ppdl/crypto/signing.py": set(),
    "ppdl/datasets/images/dicom.py": {"download", "split", "external", "hospitals", "hospitals_federated"},
    "ppdl/datasets/preparing/duplicates.py": {"split", "external"},
    "ppdl/errors.py": set(),
    "ppdl/evaluation/figures/plots.py": {"evaluate"},
    "ppdl/evaluation/insight/gradcam.py": {"evaluate"},
    "ppdl/evaluation/insight/gradcam_figure.py": {"evaluate"},
    "ppdl/evaluation/measures/metrics.py": {"evaluate"},
    "ppdl/evaluation/report/sections.py": {"evaluate"},
    "ppdl/experiment/results/page.py": {"evaluate"},
    "ppdl/pooling/board.py": {"pool", "open", "audit_pool", "federate"},
    "ppdl/prediction/network.py": set(),
    "ppdl/private_head/client.py": ASKING | {"open", "audit_pool", "federate"},
    "ppdl/protections/schemes/opaque.py": {
        "audit_pool",
        "encrypt",
        "protect_external",
        "audit",
        "train_encrypted",
        "audit_head",
        "evaluate",
    },
    "ppdl/protections/steps/noise.py": {"audit_pool", "reveal", "protect_external", "audit", "audit_head", "evaluate"},
    "ppdl/quiet.py": set(),
    "ppdl/records/atomic.py": set(),
    "ppdl/serving/protocol.py": set(),
    "ppdl/tracking/runs/page.py": set(),
    "ppdl/training/federated/local.py": {"federate"},
    "ppdl/training/fitting/fit.py": TRAINING | {"federate"},
    "ppdl/training/networks/model.py": NETWORKS,
    "stages/external.py": {"external"},
    "stages/split.py": {"split"},
}


@pytest.mark.parametrize("path", EDITS)
def test_an_edit_reruns_the_stages_that_show_it(path):
    assert (PROJECT / path).is_file()
    assert {name for name in STAGES if any(is_below(Path(path), dep) for dep in code_of(name))} == EDITS[path]


def test_each_room_has_an_edit():
    rooms = {Path(*path_of(module).parts[: 1 if module.startswith("stages") else 2]) for module in graph().modules}
    assert rooms - {Path("ppdl/__init__.py")} <= {path for edited in EDITS for path in (Path(edited), *Path(edited).parents)}


def test_what_a_stage_wrote_before_is_restored_by_dvc_and_not_made_again():
    """DVC 3.67 keeps no run of a stage that has an output without cache, other than a metric or a plot, or one that persists."""

    def options(stage):
        return [o for out in stage["outs"] for o in (next(iter(out.values())) if isinstance(out, dict) else {})]

    assert {name for name, stage in STAGES.items() if options(stage)} == {
        *("keygen", "keygen_inference", "listing", "listing_external"),  # which keep themselves what was there
        "evaluate",  # which logs to MLflow
    }


def test_films_of_another_hospital_reach_what_tests_and_nothing_that_trains():
    """A change of them reruns whatever lies downstream of the stage external: that must be no training, nor what a training reads."""
    found, left = set[str](), ["external"]
    while left:
        written = [out if isinstance(out, str) else next(iter(out)) for out in STAGES[left.pop()].get("outs", ())]
        outs = [re.sub(r"\$\{.*?\}", "*", out) for out in written]
        deps = {name: [dep.replace("${item.train_on}", "encrypted") for dep in stage["deps"]] for name, stage in STAGES.items()}
        new = {name for name in deps if any(matches(re.sub(r"\$\{.*?\}", "*", dep), out) for dep in deps[name] for out in outs)}
        left += new - found
        found |= new
    assert found == {"protect_external", "private_inference", "evaluate"}
    assert all("evaluation.external" not in STAGES[name].get("params", ()) for name in STAGES if name != "external")
