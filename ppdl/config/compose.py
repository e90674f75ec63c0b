"""params.yaml from conf/, and generated files in step with their source.

Command line::

    python -m ppdl.config --write     compose conf/ into params.yaml
    python -m ppdl.config --check     exit 1 when params.yaml is out of step
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ppdl.config import place
from ppdl.config.components import plain
from ppdl.errors import ConfigError
from ppdl.records.atomic import replacing


def private_dir() -> Path:
    """Return the folder of private keys that params.yaml names, or the default, which it is outside of a checkout."""
    from ppdl.crypto.keys.keystore import default_private_dir

    if not place.is_checkout():
        return default_private_dir()
    return Path(read_params()["keygen"]["private_dir"] or default_private_dir())


def read_params() -> dict[str, Any]:
    """Read params.yaml, the values that DVC builds with.

    Raises:
        ConfigError: there is none, as outside of a checkout.
    """
    if not place.is_checkout():
        raise ConfigError(place.NO_CHECKOUT)
    if not place.PARAMS.is_file():
        raise ConfigError(f"{place.PARAMS} is missing: compose it from conf/ with `python -m ppdl.config --write`")
    return plain(OmegaConf.load(place.PARAMS))


def compose_params(path: Path, overrides: list[str] | None = None) -> None:
    """Compose conf/ into `path` with DVC's own function, so that the bytes equal those of `dvc exp run`."""
    from dvc.utils.hydra import compose_and_dump

    compose_and_dump(
        str(path),
        config_dir=str(place.CONF),
        config_module=None,
        config_name="config",
        plugins_path=str(place.PROJECT),
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
    if not place.is_checkout():
        parser.error(place.NO_CHECKOUT)
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
    return keep_in_step("ppdl.config", "params.yaml", place.PARAMS, fresh_params, argv)
