"""Components from their nodes of the configuration. The only module that asks Hydra for a class."""

from __future__ import annotations

import copy
import difflib
import hashlib
import inspect
import shlex
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ppdl.errors import ConfigError, PpdlError
from ppdl.records.typecheck import check_types

STEPS = ("stem", "reveal")  # of a protection, after encryption: the compute side's, and the key holder's
FIT, POOLING = "fit", "pooling"  # of a head: by its owner on plain features, or by hospitals on encrypted sums
ROUNDS = "rounds"  # of a federation
FILES = "root"  # of a data set that lies in the user's folders
BRANCH_KEYS = {"protections": ["train_on", "views", "scheme", *STEPS], "heads": ["backbone", FIT, POOLING, "inference"]}  # of a node


def build(node: DictConfig | Mapping[str, Any], where: str, shared: Mapping[str, Any] | None = None) -> Any:
    """Construct the component that a config node names with `_target_`.

    Args:
        node: `_target_` and the arguments of its constructor, which may be such nodes themselves.
        where: the node's place in the configuration, for messages.
        shared: arguments that the component gets where it takes them and the node does not say its own.

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
    taken = {key: value for key, value in (shared or {}).items() if key in inspect.signature(cls).parameters}
    return construct(cls, {**taken, **arguments}, where)


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
    check_keys(node, BRANCH_KEYS.get(group, list(node)), f"{group}.{name}")  # of others, what they build says which keys it takes
    return name, node


def with_steps(protections: Mapping[str, Any]) -> list[str]:
    """Return the names of the protections that have steps after encryption: what conf/config.yaml computes `revealed` with."""
    return [name for name, node in protections.items() if any(step in node for step in STEPS)]


def with_part(nodes: Mapping[str, Any], part: str) -> list[str]:
    """Return the names of the nodes that have a part: what conf/config.yaml computes `fitted`, `pooled` and others with."""
    return [name for name, node in nodes.items() if part in node]


OmegaConf.register_new_resolver("digest", lambda texts: hashlib.sha256(shlex.join(texts).encode()).hexdigest()[:8], replace=True)
OmegaConf.register_new_resolver("with_part", lambda nodes, part: OmegaConf.create(with_part(nodes, part)), replace=True)
OmegaConf.register_new_resolver("with_steps", lambda protections: OmegaConf.create(with_steps(protections)), replace=True)


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of the configuration with some values in the place of its own."""
    changed = copy.deepcopy(cfg)
    changed.merge_with(values)
    return changed


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a tree of mappings by place (a.b.c); an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in plain(tree).items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def plain(node: Any) -> Any:
    """Return a config node, or a dict of them, as plain dicts, lists and scalars."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return {key: plain(value) for key, value in node.items()} if isinstance(node, Mapping) else node
