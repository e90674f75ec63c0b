"""Configuration: conf/ composed by Hydra, params.yaml in step with it, and the frame that every stage runs in.

Command line::

    python -m ppdl.config --write     compose conf/ into params.yaml
    python -m ppdl.config --check     exit 1 when params.yaml is out of step

The only module that imports hydra.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import logging
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ppdl.errors import ConfigError, DivergedError, PpdlError
from ppdl.records.atomic import replacing
from ppdl.records.typecheck import check_types

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"
PARAMS = PROJECT / "params.yaml"
BRANCH_KEYS = {"protections": ["train_on", "views", "scheme", "stem", "reveal"], "heads": ["backbone", "fit", "inference"]}  # of a node


def checkout(project: Path = PROJECT) -> Path:
    """Return the user's checkout, also from inside a copy that `dvc exp run --queue` or `--temp` works in.

    What must outlive the copy (the MLflow store, state to resume from) belongs to the checkout.
    """
    parts = project.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return project


def private_dir() -> Path:
    """Return the folder of private keys that params.yaml names, or the default."""
    from ppdl.crypto.keys.keystore import default_private_dir

    return Path(read_params()["keygen"]["private_dir"] or default_private_dir())


@dataclass(frozen=True)
class Workspace:
    """Where a stage reads and writes.

    Attributes:
        inputs: root of what earlier stages wrote.
        outputs: root of what this stage writes; the same as `inputs` under DVC, the job's own folder in a sweep.
        overrides: Hydra overrides of a job that was started by hand.
        sweep: folder of the sweep that the job belongs to.
        job: number of the job in its sweep.
    """

    inputs: Path
    outputs: Path
    overrides: tuple[str, ...] = ()
    sweep: str | None = None
    job: int | None = None

    def on_its_own(self) -> Workspace:
        """Return the workspace of a job that reads what it wrote itself."""
        return dataclasses.replace(self, inputs=self.outputs)

    @property
    def unfinished(self) -> Path:
        """Folder for unfinished work: outside DVC's outs, which DVC deletes before it starts a stage, and one for each place that the
        work is for, so that two jobs at once do not meet there."""
        return checkout() / ".ppdl" / hashlib.sha256(str(self.outputs).encode()).hexdigest()[:12]


def stage(run: Callable[[DictConfig, Workspace], float | None], *, config_name: str = "config") -> Callable[[], None]:
    """Turn `run(cfg, workspace)` into a Hydra app whose user errors end in one clear message and exit code 1.

    What `run` returns is the objective of a sweep, which is minimised. A job whose training diverged is a bad trial, and its objective
    infinite; any other user error is the same for the jobs that would follow, so it ends the sweep.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ppdl.config.check import check_config, disk_failure
    from ppdl.config.choices import hint

    composed = False

    @functools.wraps(run)
    def job(cfg: DictConfig) -> float | None:
        nonlocal composed
        composed = True
        hydra_cfg = HydraConfig.get()
        overrides: tuple[str, ...] = ()
        sweep = number = None
        under_dvc = hydra_cfg.job.config_name == "pipeline"
        if not under_dvc:
            overrides = tuple(hydra_cfg.overrides.task)
            if hydra_cfg.mode == RunMode.MULTIRUN:
                sweep, number = hydra_cfg.sweep.dir, hydra_cfg.job.num
        outputs = Path(hydra_cfg.runtime.output_dir).resolve()
        workspace = Workspace(inputs=PROJECT, outputs=outputs, overrides=overrides, sweep=sweep, job=number)
        logging.captureWarnings(True)
        try:
            check_config(cfg)
            return run(cfg, workspace)
        except PpdlError as error:
            print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            if sweep is not None and isinstance(error, DivergedError):
                return math.inf  # NaN would end an Optuna sweep
            raise SystemExit(1) from None  # also ends the sweep, in a worker of the joblib launcher too
        except OSError as error:
            if (text := disk_failure(error, outputs, workspace.unfinished)) is None:
                raise
            print(f"\n{text}", file=sys.stderr, flush=True)
            raise SystemExit(1) from None

    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)

    @functools.wraps(run)
    def main() -> None:
        try:
            app()
        except SystemExit as stop:
            if stop.code and not composed and (text := hint(sys.argv[1:])):
                print(text, file=sys.stderr)
            raise

    return main


def build(node: DictConfig | Mapping[str, Any], where: str) -> Any:
    """Construct the component that a config node names with `_target_`.

    Args:
        node: `_target_` and the arguments of its constructor, which may be such nodes themselves.
        where: the node's place in the configuration, for messages.

    Raises:
        ConfigError: unknown target, unknown or missing argument (the nearest valid name is given), or an argument that
            breaks the component's own rule.
    """
    from hydra.utils import get_object

    arguments = {
        key: build(value, f"{where}.{key}") if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in plain(node).items()
    }
    target = arguments.pop("_target_", None)
    if not isinstance(target, str):
        raise ConfigError(f"{where} needs `_target_: package.module.Class`, got {target!r}")
    try:
        cls = get_object(target)
    except Exception as error:
        raise ConfigError(f"{where}._target_ = {target!r} cannot be imported: {error}") from None
    return construct(cls, arguments, where)


def construct(cls: type, node: DictConfig | Mapping[str, Any], where: str) -> Any:
    """Construct `cls` from a config node without `_target_`; as `build` otherwise."""
    arguments = dict(plain(node))
    parameters = inspect.signature(cls).parameters
    check_keys(arguments, list(parameters), where)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}, which {cls.__name__} needs")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    try:
        made = cls(**arguments)
    except PpdlError as error:  # a component's own rule says more than a type
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError):
        check_types(cls, arguments, where)
        raise
    check_types(cls, arguments, where)
    return made


def check_keys(found: Mapping[str, Any], valid: list[str], where: str) -> None:
    """Refuse keys that are not valid, each with the nearest valid one."""
    for key in found:
        if key not in valid:
            near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid) or 'none'}"
            raise ConfigError(f"{where} has an unknown key {key!r}: {hint}")


def branch(cfg: DictConfig, group: str = "protections") -> tuple[str, DictConfig]:
    """Return the name and the node of the protection, or of the member of another group, that `branch=NAME` chose."""
    name, names = cfg.branch, list(cfg[group])
    if name not in names:
        raise ConfigError(f"branch must name one of {group} ({', '.join(names)}), got {name!r}: add branch=NAME")
    node = cfg[group][name]
    check_keys(node, BRANCH_KEYS[group], f"{group}.{name}")
    return name, node


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of the configuration with some values in the place of its own."""
    changed = copy.deepcopy(cfg)
    changed.merge_with(values)
    return changed


def plain(node: Any) -> Any:
    """Return a config node, or a dict of them, as plain dicts, lists and scalars."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return {key: plain(value) for key, value in node.items()} if isinstance(node, Mapping) else node


def check_built_for(built_for: Mapping[str, Any], wanted: Mapping[str, Any], *, what: str, full_name: Callable[[str], str] = str) -> None:
    """Refuse an input that was built for other values than the configuration asks for.

    A sweep by hand (`python -m stages.train_plain -m ...`) reads what `dvc repro` built; a value that lies upstream of
    training would silently be ignored.

    Args:
        full_name: a value's place in the configuration, given its place in these mappings.

    Raises:
        ConfigError: names each value that differs, and how to use the input or to rebuild it.
    """
    if different := differing(built_for, wanted, full_name):
        from ppdl.config.choices import advice

        raise ConfigError(f"{what} was built for other values:\n{shown(different)}\n{advice(different)}")


def differing(built_for: Mapping[str, Any], wanted: Mapping[str, Any], full_name: Callable[[str], str] = str) -> dict[str, tuple[Any, Any]]:
    """Return by full name what something was built for and what the configuration says, where the two differ."""
    found, asked = _flat(built_for), _flat(wanted)
    return {full_name(k): (found.get(k), asked.get(k)) for k in sorted(asked.keys() | found.keys()) if found.get(k) != asked.get(k)}


def shown(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Return what `differing` found, a line each."""
    return "\n".join(f"  {place}: built for {found!r}, the configuration says {asked!r}" for place, (found, asked) in different.items())


def write_built_for(folder: Path, values: Mapping[str, Any]) -> None:
    """Record in `folder` the values that it was built for, for `check_built_for`."""
    with replacing(folder / "built_for.json") as path:
        path.write_text(json.dumps(plain(values), indent=1) + "\n")


def read_built_for(folder: Path) -> dict[str, Any]:
    """Read what `write_built_for` recorded.

    Raises:
        ConfigError: the folder has no record, so it is missing or unfinished, or a damaged one.
    """
    path = folder / "built_for.json"
    if not path.is_file():
        raise ConfigError(f"{path} is missing: build {folder.name} with `dvc repro`")
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): build {folder.name} again with `dvc repro --force`") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a JSON object, got {type(values).__name__}: build {folder.name} again with `dvc repro --force`")
    return values


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    tree = plain(tree)
    if not isinstance(tree, Mapping):
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows


def read_params() -> dict[str, Any]:
    """Read params.yaml, the values that DVC builds with."""
    return plain(OmegaConf.load(PARAMS))


def compose_params(path: Path, overrides: list[str] | None = None) -> None:
    """Compose conf/ into `path` with DVC's own function, so that the bytes equal those of `dvc exp run`."""
    from dvc.utils.hydra import compose_and_dump

    compose_and_dump(
        str(path),
        config_dir=str(CONF),
        config_module=None,
        config_name="config",
        plugins_path=str(PROJECT),
        overrides=overrides or [],
    )


def keep_in_step(module: str, name: str, path: Path, fresh: Callable[[], bytes], argv: list[str] | None, source: str = "conf/") -> int:
    """Write a generated file, or check it: the command line of the modules that generate one.

    Args:
        module, name: of the command and of the file, for messages.
        fresh: gives what the file must hold.
        source: what it is made from, for messages.

    Returns:
        1 when --check found the file out of step, otherwise 0.
    """
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Keep {name} in step with {source}.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help=f"write {name}")
    action.add_argument("--check", action="store_true", help=f"exit 1 when {name} is out of step with {source}")
    args = parser.parse_args(argv)
    content = fresh()
    if args.write:
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)
        print(f"wrote {path}")
        return 0
    if not path.exists() or path.read_bytes() != content:
        print(f"{name} is out of step with {source}: run `python -m {module} --write`", file=sys.stderr)
        return 1
    print(f"{name} is in step with {source}")
    return 0


def fresh_params() -> bytes:
    """Return what params.yaml must hold."""
    with tempfile.TemporaryDirectory() as folder:
        compose_params(Path(folder) / "params.yaml")
        return (Path(folder) / "params.yaml").read_bytes()


def main(argv: list[str] | None = None) -> int:
    """Write or check params.yaml."""
    return keep_in_step("ppdl.config", "params.yaml", PARAMS, fresh_params, argv)


if __name__ == "__main__":
    raise SystemExit(main())
