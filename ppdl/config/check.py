"""Check a whole configuration before any work: every key, type and range, also of sections that the stage at hand does not use.

A wrong value of `evaluation` is found when `download` starts and not after hours of training. What a section must hold is said by the
component that it builds; sections that build none are described here.

Cost: half a second, the import of the attacks, which import scikit-learn and scipy.stats only where they use them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Le
from omegaconf import DictConfig

from ppdl.config.components import (
    BRANCH_KEYS,
    FILES,
    FIT,
    POOLING,
    ROUNDS,
    STEPS,
    build,
    check_keys,
    construct,
    plain,
    with_part,
    with_steps,
)
from ppdl.config.place import CONF
from ppdl.errors import ConfigError
from ppdl.records.typecheck import Count, Share, Text

Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Jobs = Annotated[int, Ge(1), Le(1024)]


@dataclass(frozen=True)
class Sizes:
    """The values at the top of the configuration that are no section."""

    seed: Seed
    prepared_px: Annotated[int, Ge(8), Le(4096)]
    input_px: Annotated[int, Ge(1), Le(4096)]
    revealed: Sequence[str]
    fitted: Sequence[str]
    pooled: Sequence[str]
    federated: Sequence[str]
    listed: Sequence[str]
    listed_external: Sequence[str]
    branch: str | None
    flips: bool | None  # of a cross-validation alone


@dataclass(frozen=True)
class Keygen:
    """The node `keygen`."""

    key_bits: int
    allow_insecure_key: bool
    private_dir: str | None

    def __post_init__(self) -> None:
        from ppdl.crypto.keys.keypair import check_key_bits

        check_key_bits(self.key_bits, allow_insecure_key=self.allow_insecure_key is True)


@dataclass(frozen=True)
class Evaluation:
    """The node `evaluation`."""

    num_permutations: Count
    margin: Share
    external: Mapping[str, Any]

    def __post_init__(self) -> None:
        from ppdl.datasets.phantoms.wrong import KINDS

        for name in self.external:
            if not re.fullmatch(r"[A-Za-z0-9]\w*", name, re.ASCII):
                raise ConfigError(f"external.{name}: the name names folders: letters, digits and _ alone")
            if name in ("false_alarms", *KINDS) or name.startswith("auroc_"):
                raise ConfigError(f"external.{name}: figures of other images have this name: call the set something else")


@dataclass(frozen=True)
class Tracking:
    """The node `tracking`."""

    experiment: Text
    log_report: Literal["auto", True, False]


@dataclass(frozen=True)
class Crossval:
    """The node `crossval`, of stages.crossval alone."""

    name: str
    num_jobs: Jobs
    num_threads: Jobs | None
    seeds: Annotated[int, Ge(1), Le(100)]
    runs: Sequence[str] | None
    yardsticks: Sequence[str]
    test: bool

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name:
            raise ConfigError(f"name must be the name of a folder, got {self.name!r}")


def check_config(cfg: DictConfig | Mapping[str, Any]) -> None:
    """Refuse a configuration that breaks a rule anywhere.

    Raises:
        ConfigError: an unknown key (the nearest valid one is given), a missing one, a wrong type, a value out of range, or values that
            do not fit together.
    """
    tree = {key: node for key, node in plain(cfg).items() if key != "hydra"}
    if "local" in tree:
        raise ConfigError("conf/local/default.yaml must begin with the line `# @package _global_`, or its values are put below `local`")
    check_keys(tree, top_keys(), "the configuration")
    top = {name: tree.get(name) for name in Sizes.__dataclass_fields__}
    construct(Sizes, top, "the configuration")
    for name, cls in sections().items():
        if name in tree:
            construct(cls, _mapping(tree[name], name), name)
    components = [name for name, node in tree.items() if isinstance(node, Mapping) and "_target_" in node]
    for name in dict.fromkeys(["dataset", "model", "training", "executor", *components]):
        build(_mapping(tree.get(name), name), name)
    external = {
        name: build(_mapping(node, f"evaluation.external.{name}"), f"evaluation.external.{name}")
        for name, node in tree["evaluation"]["external"].items()
    }
    shared = {"num_scored": _mapping(tree.get("audit"), "audit")["num_scored"]}
    for name, attack in _mapping(tree.get("attacks"), "attacks").items():
        build(_mapping(attack, f"attacks.{name}"), f"attacks.{name}", shared)
    _check_public_images(tree, external)
    for name, node in _mapping(tree.get("protections"), "protections").items():
        _check_protection(name, _mapping(node, f"protections.{name}"), tree)
    for name, node in _mapping(tree.get("heads", {}), "heads").items():
        _check_head(name, _mapping(node, f"heads.{name}"), tree)
    for name, node in _mapping(tree.get("frozen", {}), "frozen").items():
        _check_frozen(name, _mapping(node, f"frozen.{name}"), tree)
    for name, node in _mapping(tree.get("federations", {}), "federations").items():
        _check_federation(name, _mapping(node, f"federations.{name}"), tree)
    heads = tree.get("heads", {})
    computed = {
        "revealed": ("the steps of the protections", with_steps(tree["protections"])),
        "fitted": ("the parts of the heads", with_part(heads, FIT)),
        "pooled": ("the parts of the heads", with_part(heads, POOLING)),
        "federated": ("federations", with_part(tree.get("federations", {}), ROUNDS)),
        "listed_external": ("evaluation.external", with_part(tree["evaluation"]["external"], FILES)),
    }
    for key, (source, names) in computed.items():
        if sorted(tree[key]) != sorted(names):
            raise ConfigError(f"{key} follows from {source}, so it must be {names}: leave it out; got {tree[key]}")


def disk_failure(error: OSError, *folders: Path) -> str | None:
    """Return what to tell a user of a full or closed disk; None when the error is no such thing.

    Args:
        folders: where the failed stage writes, for an error that names no file.
    """
    advice = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some of your quota"}
    advice |= dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable by this user")
    if error.errno not in advice:
        return None
    place = error.filename or f"a file below {' or '.join(map(str, folders))}"
    return f"{error.strerror}: {place}: {advice[error.errno]}, then run again; what was finished is kept"


def top_keys() -> list[str]:
    """Return the keys at the top of the configuration, as conf/ has them."""
    keys: dict[str, None] = {}
    for file in ("config.yaml", "crossval.yaml"):
        content = yaml.safe_load((CONF / file).read_text())
        groups = (key for entry in content.pop("defaults") if isinstance(entry, dict) for key in entry if key[:9] != "optional ")
        keys |= dict.fromkeys([*(group.split("@")[-1].split(".")[0] for group in groups), *content])
    return [key for key in keys if key != "hydra"]


def sections() -> dict[str, type]:
    from ppdl.audit.examination.setting import Settings
    from ppdl.crypto.signing import Signing
    from ppdl.datasets.prepared.splitting import Split

    return {
        "split": Split,
        "keygen": Keygen,
        "signing": Signing,
        "evaluation": Evaluation,
        "audit": Settings,
        "tracking": Tracking,
        "crossval": Crossval,
    }


def _check_protection(name: str, node: Mapping[str, Any], tree: Mapping[str, Any]) -> None:
    where = f"protections.{name}"
    check_keys(node, BRANCH_KEYS["protections"], where)
    protection = build(_mapping(node.get("scheme"), f"{where}.scheme"), f"{where}.scheme")
    steps = [step for step in STEPS if step in node]
    for step in steps:
        build(_mapping(node[step], f"{where}.{step}"), f"{where}.{step}")
    if steps not in ([], list(STEPS)):
        raise ConfigError(f"{where} must have both of {' and '.join(STEPS)} or none, got {steps[0]} alone")
    written = "revealed" if steps else "encrypted"
    if node.get("train_on") != written:
        raise ConfigError(f"{where}.train_on must be {written}, which its last step writes, got {node.get('train_on')!r}")
    views = node.get("views")
    if not isinstance(views, list) or not views or any(view not in protection.views for view in views):
        raise ConfigError(f"{where}.views must list one or more of {', '.join(protection.views)}, got {views!r}")
    image_px, prepared_px = protection.image_px(tree["input_px"]), tree["prepared_px"]
    if prepared_px % image_px:
        raise ConfigError(f"prepared_px must be a multiple of {image_px}, the side of what {where} encrypts, got {prepared_px}")


def _check_head(name: str, node: Mapping[str, Any], tree: Mapping[str, Any]) -> None:
    where = f"heads.{name}"
    if name in tree["protections"]:
        raise ConfigError(f"{where} must have another name than the protection {name}, for both name folders")
    check_keys(node, BRANCH_KEYS["heads"], where)
    if (FIT in node) == (POOLING in node):
        raise ConfigError(f"{where} must have one of {FIT} (by its owner) and {POOLING} (by hospitals), got {', '.join(node)}")
    wanted = [part for part in BRANCH_KEYS["heads"] if part in node or part not in (FIT, POOLING)]
    parts = {part: build(_mapping(node.get(part), f"{where}.{part}"), f"{where}.{part}") for part in wanted}
    if tree["prepared_px"] % parts["backbone"].input_px:
        raise ConfigError(
            f"prepared_px must be a multiple of {where}.backbone.input_px, {parts['backbone'].input_px}, got {tree['prepared_px']}"
        )


def _check_federation(name: str, node: Mapping[str, Any], tree: Mapping[str, Any]) -> None:
    where = f"federations.{name}"
    taken = ["plain", "frozen", *tree["protections"], *tree.get("heads", {})]
    if found := [key for key in taken if name == key or name.startswith(f"{key}-")]:
        raise ConfigError(f"{where} must have a name of its own, and {found[0]} has this one")
    build(node, where)


def _check_public_images(tree: Mapping[str, Any], external: Mapping[str, Any]) -> None:
    """Refuse phantoms of the seed of those that are public, to attackers or as films of a backbone, or of those of another hospital."""
    from ppdl.datasets.phantoms.public import PUBLIC_SEED
    from ppdl.datasets.sources.phantom import Phantom

    dataset, prior_seed = build(tree["dataset"], "dataset"), tree["audit"]["prior_seed"]
    if not isinstance(dataset, Phantom):
        return
    for name, other in external.items():
        if isinstance(other, Phantom) and other.seed == dataset.seed:
            raise ConfigError(
                f"evaluation.external.{name}.seed must differ from dataset.seed, or its films are of the set's patients; "
                f"got {other.seed} twice"
            )
    if dataset.seed == prior_seed:
        raise ConfigError(f"audit.prior_seed must differ from dataset.seed, or the public images are the set's; got {prior_seed} twice")
    for name, node in tree.get("heads", {}).items():
        if POOLING in node and dataset.seed == PUBLIC_SEED:
            raise ConfigError(f"dataset.seed must not be {PUBLIC_SEED}: heads.{name}.backbone is made from the phantoms of that seed")


def _check_frozen(name: str, node: Mapping[str, Any], tree: Mapping[str, Any]) -> None:
    where = f"frozen.{name}"
    taken = [key for key in ("plain", *tree["protections"], *tree.get("heads", {})) if name == key or name.startswith(f"{key}-")]
    if taken:
        raise ConfigError(f"{where} must have a name of its own, and the runs of {taken[0]} have this one")
    for px in build(node, where).input_px:
        if tree["prepared_px"] % px:
            raise ConfigError(f"prepared_px must be a multiple of each of {where}.input_px, got {tree['prepared_px']} and {px}")


def _mapping(node: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(node, Mapping) or not all(isinstance(key, str) for key in node):
        raise ConfigError(f"{where} must be a section with named values, got {node!r}")
    return node
