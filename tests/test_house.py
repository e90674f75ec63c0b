"""How large the house is, and how it hangs together: figures that only a change that says so may raise.

python -m tests.test_house     # prints them
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from tests import walk
from tests.walk import Step

PROJECT = Path(__file__).resolve().parents[1]
PLUGINS = ("ppdl.audit.attacks", "stages")  # one file an attack, a stage
LIMITS = {
    "rooms": 21,  # the 20th is pooling, the 21st quiet.py
    "arrows between rooms": 89,
    "circles of modules": 0,
    "circles of folders": 0,
    "modules in one folder": 12,
    "lines of code": 25_950,  # 1,000 of them average a network of several hospitals, in one process and over Flower
    "functions that take cfg outside experiment and stages": 5,
    "functions that take cfg and workspace outside experiment and stages": 0,
    "functions that take cfg in experiment and stages": 26,
    "functions that take cfg and workspace in experiment and stages": 24,
    "leaves of params.yaml": 139,
}
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ppdl", "stages", cache_dir=None)


def arrows() -> Iterator[tuple[str, str]]:
    for module in graph().modules:
        for imported in graph().find_modules_directly_imported_by(module):
            yield module, imported


def room(module: str) -> str:
    """Return the folder or module right below ppdl; stages are one room."""
    first, *rest = module.split(".")
    return first if first == "stages" or not rest else f"{first}.{rest[0]}"


def folder(module: str) -> str:
    """Return the folder of a room that a module lies in; what lies right in a room stands for itself."""
    return ".".join(module.split(".")[:3])


def between(places: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(a, b) for a, b in places if a != b}


def circles(edges: set[tuple[str, str]]) -> list[set[str]]:
    """Return the sets of places that import each other, also by way of others (strongly connected, more than one)."""
    below: dict[str, set[str]] = {}
    for a, b in edges:
        below.setdefault(a, set()).add(b)

    @cache
    def reached(start: str) -> frozenset[str]:
        found, left = set[str](), [start]
        while left:
            new = below.get(left.pop(), set()) - found
            found |= new
            left += new
        return frozenset(found)

    rings = {frozenset(b for b in reached(a) if a in reached(b)) for a in below if a in reached(a)}
    return [set(ring) for ring in rings]


def code_lines(text: str) -> int:
    """Count the lines of a module that hold code: no blank lines, comments, docstrings."""
    tree = ast.parse(text)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None]
    prose = {line for node in documented for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for t in tokens if t.type not in NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return len(lines - prose)


def sources() -> list[Path]:
    return sorted(path for name in ("ppdl", "stages") for path in (PROJECT / name).rglob("*.py"))


def functions_that_take(*names: str, in_experiment: bool) -> int:
    """Count the functions with these parameters in ppdl/experiment and stages/, where a configuration becomes work, or elsewhere."""
    places = (PROJECT / "ppdl/experiment", PROJECT / "stages")
    trees = (ast.parse(path.read_text()) for path in sources() if in_experiment is any(place in path.parents for place in places))
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return sum({*names} <= {argument.arg for argument in (*f.args.args, *f.args.kwonlyargs)} for f in functions)


def leaves(node: Any) -> int:
    """Count the values of a configuration; a list is one."""
    return sum(map(leaves, node.values())) if isinstance(node, Mapping) else 1


@cache
def figures() -> dict[str, int]:
    modules = [module for module in graph().modules if not graph().find_children(module)]
    sizes = Counter(module.rpartition(".")[0] for module in modules)
    return {
        "rooms": len({room(module) for module in graph().modules}),
        "arrows between rooms": len(between((room(a), room(b)) for a, b in arrows())),
        "circles of modules": len(circles(set(arrows()))),
        "circles of folders": len(circles(between((folder(a), folder(b)) for a, b in arrows()))),
        "modules in one folder": max(size for place, size in sizes.items() if place not in PLUGINS),
        "lines of code": sum(code_lines(path.read_text()) for path in sources()),
        "functions that take cfg outside experiment and stages": functions_that_take("cfg", in_experiment=False),
        "functions that take cfg and workspace outside experiment and stages": functions_that_take("cfg", "workspace", in_experiment=False),
        "functions that take cfg in experiment and stages": functions_that_take("cfg", in_experiment=True),
        "functions that take cfg and workspace in experiment and stages": functions_that_take("cfg", "workspace", in_experiment=True),
        "leaves of params.yaml": leaves(yaml.safe_load((PROJECT / "params.yaml").read_text())),
    }


@pytest.mark.parametrize("name", LIMITS)
def test_no_figure_is_above_its_limit(name):
    assert figures()[name] <= LIMITS[name]


def test_the_page_names_every_room_and_every_folder_in_one():
    rows = [
        row.split("|") for row in (PROJECT / "docs/architecture.md").read_text().splitlines() if row.startswith("| ") and row[2].isdigit()
    ]
    said = {row[2].strip(" `/"): set(re.findall(r"`([a-z_]+)`", row[3])) for row in rows}
    modules = graph().modules
    rooms = {room(module).removeprefix("ppdl.") for module in modules} - {"ppdl", "__main__"}
    assert said.keys() == rooms
    for name, named in said.items():
        folders = {
            m.rpartition(".")[2] for m in modules if m.startswith(f"ppdl.{name}.") and m.count(".") == 2 and graph().find_children(m)
        }
        assert folders <= named, name


def test_the_page_draws_the_layers_that_lint_imports_checks():
    drawn = (PROJECT / "docs/architecture.md").read_text().partition("```text\n")[2].partition("\n```")[0].split("\n")
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["ppdl"])
    assert drawn == ["stages", *layers[1:]]  # above all is __main__, which calls cli


def test_a_walk_is_counted_by_its_steps_between_rooms():
    steps = [
        Step(("stages.split", "run"), ("ppdl.datasets.a", "prepare")),
        Step(("stages.split", "run"), ("ppdl.datasets.b", "check")),
        Step(("ppdl.datasets.a", "prepare"), ("ppdl.records.c", "put")),
        Step(("ppdl.records.c", "put"), ("ppdl.datasets.a", "told")),
    ]
    imports = {("stages", "ppdl.datasets"), ("ppdl.datasets", "ppdl.records")}
    assert walk.figures(steps, imports) == {"rooms": 2, "places entered": 4, "modules entered": 3, "climbs": 1, "returns": 1}


def test_circles_are_found():
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "e2")}) == [{"a", "b", "c"}]


def test_code_is_counted_without_comments_docstrings_and_blank_lines():
    assert (
        code_lines('"""Module."""\n\n# why\nx = """a\nb"""  # two lines\n\n\ndef f():\n    """Do."""\n    return (\n        1\n    )\n')
        == 6
    )


if __name__ == "__main__":
    for key, value in figures().items():
        print(f"{value:>7,}  {key}, at most {LIMITS[key]:,}")
