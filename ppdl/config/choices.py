"""A user's choices: what goes beyond conf/, as Hydra's overrides, as commands that are safe to paste, and kept in conf/local/default.yaml.

`dvc exp run` composes conf/ anew each time, so what an earlier `-S` set is gone unless it is given again or kept. conf/config.yaml takes
in conf/local/default.yaml where there is one (`optional local: default`, its usual place in Hydra projects); git ignores it. DVC composes
in the checkout also for experiments that run in a copy (--queue, --temp), so that these have it too.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ppdl.config import place
from ppdl.config.components import leaves, plain
from ppdl.config.compose import read_params
from ppdl.errors import ConfigError
from ppdl.records.atomic import replacing

LOCAL = "local/default.yaml"  # below conf/
NOT_CHOICES = ("branch", "crossval", "hydra")  # of one stage, or of Hydra itself
COMPUTED = ("revealed", "federated", "listed_external")  # follow from other values
HEADER = """\
# @package _global_
# Your choices, which every composition of conf/ takes in. `ppdl keep NAME=VALUE ...` writes this file anew; git ignores it.
"""
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_./:@%+-]([A-Za-z0-9_./:@%+ -]*[A-Za-z0-9_./:@%+-])?")
_NAME = re.compile(r"[\w-]+")


def override(key: str, value: Any) -> str:
    """Return `key=value` in Hydra's grammar, which reads this very value from it: a comma is no sweep, a space or `~` no mistake."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString

    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if not isinstance(value, str):
        return str(value)
    if _PLAIN_TEXT.fullmatch(value) and OverridesParser.create().parse_override(f"x={value}").value() == value:
        return value
    return QuotedString(value, Quote.double).with_quotes()


def exp_run(overrides: Sequence[str]) -> str:
    """Return the `dvc exp run` with these overrides, quoted for the shell."""
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(text)}" for text in overrides)])


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose conf/, the user's choices included.

    Raises:
        ConfigError: Hydra cannot; says what to write instead, where that is known.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return _composed(overrides)
    except yaml.YAMLError as error:
        raise ConfigError(_not_yaml(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        reason = hint(overrides) or str(error).strip().split("\n")[0]
        raise ConfigError(f"Hydra cannot compose conf/ with these values: {reason}") from None


def _not_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "a file below conf/"
    return f"{where}: not YAML: correct it; or delete it, where it is conf/{LOCAL}, and no choices are kept"


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    around = GlobalHydra.instance().hydra  # of the job that this is called in
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(place.CONF), version_base="1.3"):
            return plain(hydra.compose("config", overrides=list(overrides)))
    finally:
        GlobalHydra.instance().hydra = around


def hint(arguments: Sequence[str]) -> str | None:
    """Return what to write in place of the first override that Hydra cannot take, which itself names only what it stumbled over.

    Args:
        arguments: of a command line; options are passed over.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    sweeps = bool({"-m", "--multirun"} & set(arguments))
    given = {}
    for text in arguments:
        if "=" not in text or text.startswith("-"):
            continue
        key, _, value = text.partition("=")
        quoted = f"as one text: {shlex.quote(override(key, value.strip(chr(34)).strip(chr(39))))}"
        try:
            given[text] = OverridesParser.create().parse_override(text)
        except HydraException:
            return f"{text!r} is not in Hydra's grammar; {quoted}"
        if given[text].is_sweep_override() and not sweeps:
            return f"{text!r} is a sweep, for its comma; {quoted}"
    files = [text for text, parsed in given.items() if (place.CONF / parsed.key_or_group).is_dir() and not parsed.is_sweep_override()]
    try:
        known = leaves(_composed(files))
    except yaml.YAMLError as error:
        return _not_yaml(error)
    except (HydraException, OmegaConfBaseException):
        return None  # the name of a file is wrong, and Hydra lists those that there are
    for text, parsed in given.items():
        key = parsed.key_or_group
        if text in files or parsed.package is not None or parsed.is_add() or key.startswith("hydra"):
            continue
        if not any(f"{place}.".startswith(f"{key}.") for place in known):
            near = difflib.get_close_matches(key, known, n=1)
            return f"{key!r} is no key of the configuration" + (f": did you mean {near[0]!r}?" if near else "")
    return None


@dataclass
class Beyond:
    """What a configuration has beyond a composition of conf/.

    Attributes:
        choices: other files of the groups in the defaults list, by group: dataset: folder.
        added: files of groups that the defaults list has no entry of: protection@protections.mine: mine.
        removed: nodes that are left out, by place: protections.opaque.
        values: values that differ, by place, in order.
        new: places among `values` that the composition does not have.
    """

    choices: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)

    def overrides(self) -> list[str]:
        """Return it as overrides for the command line."""
        return [
            *(f"{group}={name}" for group, name in self.choices.items()),
            *(f"+{group}={name}" for group, name in self.added.items()),
            *(f"~{key_path}" for key_path in self.removed),
            *(("+" if key_path in self.new else "") + override(key_path, value) for key_path, value in self.values.items()),
        ]


def beyond_conf(wanted: Mapping[str, Any], given: Sequence[str] = ()) -> Beyond:
    """Return what `wanted`, a whole configuration, has beyond the composition of conf/ with the overrides `given`."""
    found = Beyond()
    base = compose(given)
    for group in [group for group, at, _ in _entries() if not at]:
        name = _file_of(group, wanted.get(group))
        if name and _target(wanted[group]) != _target(base.get(group)):
            found.choices[group] = name
    for group, many in dict.fromkeys((group, key_path.partition(".")[0]) for group, at, key_path in _entries() if at):
        for name in wanted.get(many, {}):
            if name not in base.get(many, {}) and (place.CONF / group / f"{name}.yaml").is_file():
                found.added[f"{group}@{many}.{name}"] = name
    if found.choices or found.added:
        base = compose([*given, *found.overrides()])
    # Sizes at the top come first: other values follow them by interpolation, and need not be said then.
    found.values = {key_path: value for key_path, kind, value in _differences(base, wanted) if kind == "changed" and "." not in key_path}
    if found.values:
        base = compose([*given, *found.overrides()])
    for key_path, kind, value in _differences(base, wanted):
        if kind == "removed":
            found.removed.append(key_path)
        else:
            found.values[key_path] = value
            found.new |= {key_path} if kind == "new" else set()
    return found


def _entries() -> list[tuple[str, str, str]]:
    """Return the groups of the defaults list of conf/config.yaml, each as (group, "@" or "", place or "")."""
    entries = yaml.safe_load((place.CONF / "config.yaml").read_text())["defaults"]
    return [key.partition("@") for entry in entries if isinstance(entry, Mapping) for key in entry if not key.startswith("optional ")]


def _target(node: Any) -> Any:
    return node.get("_target_") if isinstance(node, Mapping) else None


def _file_of(group: str, node: Any) -> str | None:
    """Return the name of the file of a group that configures the same class as `node`."""
    for path in sorted((place.CONF / group).glob("*.yaml")):
        if _target(node) and _target(yaml.safe_load(path.read_text())) == _target(node):
            return path.stem
    return None


def _differences(base: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield place, kind (changed, new, removed) and wanted value of what differs."""
    for key in [*wanted, *(key for key in base if key not in wanted)]:
        key_path = f"{prefix}{key}"
        if key_path in (*NOT_CHOICES, *COMPUTED):
            continue
        if key not in wanted:
            yield key_path, "removed", None
        elif key not in base:
            yield key_path, "new", wanted[key]
        elif isinstance(base[key], Mapping) and isinstance(wanted[key], Mapping) and all(map(_NAME.fullmatch, map(str, wanted[key]))):
            yield from _differences(base[key], wanted[key], f"{key_path}.")
        elif base[key] != wanted[key]:
            yield key_path, "changed", wanted[key]


def kept() -> Beyond:
    """Return what conf/local/default.yaml adds to conf/."""
    return beyond_conf(compose(), without) if (without := _without_local()) else Beyond()


def _without_local() -> list[str]:
    return ["~local"] if (place.CONF / LOCAL).exists() else []


def keep(overrides: Sequence[str]) -> Beyond:
    """Add overrides to what is kept, and write conf/local/default.yaml; where another file of a group is chosen, its old values go.

    Raises:
        ConfigError: the configuration would break a rule, or conf/local cannot say this. Nothing is written then.
    """
    from ppdl.config.check import check_config

    if refused := [text for text in overrides if text.startswith("-") or key_of(text).partition(".")[0] in (*NOT_CHOICES, "local")]:
        raise ConfigError(f"{refused[0]!r} is of one command, and cannot be kept")
    chosen = {text.partition("=")[0] for text in overrides}
    places = {key_of(text).rpartition("@")[2] for text in overrides}  # a node that was left out may come back
    old = [
        text
        for text in kept().overrides()
        if text.lstrip("+").partition("=")[0].partition(".")[0] not in chosen and not (text[0] == "~" and text[1:] in places)
    ]
    wanted = compose([*_without_local(), *old, *overrides])
    check_config(wanted)
    found = beyond_conf(wanted, _without_local())
    path = place.CONF / LOCAL
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(HEADER + _as_yaml(found), encoding="utf-8")
    left = [] if (composed := compose()) == wanted else list(_differences(composed, wanted))
    if left:
        path.unlink() if before is None else path.write_bytes(before)
        raise ConfigError(
            f"conf/{LOCAL} cannot keep {left[0][0]} as asked for: give it with each command, or write a file of your own below conf/"
        )
    return found


def _as_yaml(found: Beyond) -> str:
    nodes = {key_path: f"{group}@{key_path}" for group, at, key_path in _entries() if at}
    defaults: list[Any] = [{f"/{group}": name} for group, name in found.added.items()]
    defaults.append("_self_")
    defaults += [{f"override /{group}": name} for group, name in found.choices.items()]
    defaults += [{f"override /{nodes[key_path]}": None} for key_path in found.removed if key_path in nodes]
    return yaml.safe_dump({"defaults": defaults, **_tree(found.values)}, sort_keys=False, allow_unicode=True, width=10**6)


def beyond_params() -> list[str]:
    """Return what params.yaml has beyond conf/, as overrides: values of an earlier `dvc exp run -S`, or from before an edit of conf/."""
    return beyond_conf(read_params()).overrides()


def keep_command(overrides: Sequence[str]) -> str:
    """Return the `ppdl keep` for what `beyond_conf` found; where it chooses a file of a group, old values of the group go by themselves."""
    chosen = {text.partition("=")[0] for text in overrides}
    return f"ppdl keep {shlex.join(text for text in overrides if not (text[0] == '~' and key_of(text).partition('.')[0] in chosen))}"


def advice(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Say what to do when an input was built for other values than a command asks for.

    Args:
        different: by place in the configuration, what the input was built for and what the command asks for.
    """
    from hydra.core.hydra_config import HydraConfig

    job = HydraConfig.get() if HydraConfig.initialized() else None
    if job is None or job.job.config_name == "pipeline":
        return "Build it for the values of params.yaml: dvc repro"
    given = [text for text in job.overrides.task if is_choice(text)]
    by_default = leaves(compose())
    if all(by_default.get(key_path) != asked for key_path, (_, asked) in different.items()):
        return f"These lie upstream of this stage, so rebuild with: {exp_run(given)}"
    built = leaves(read_params())
    if all(built.get(key_path) == asked for key_path, (_, asked) in different.items()):
        return "What is built is older than params.yaml, which asks for the same as this command. Build it: ppdl repro"
    for key_path, (found, _) in different.items():
        built.pop(key_path, None)
        if found is not None:
            built[key_path] = found
    asked_for = {key_of(text) for text in given}
    values = [text for text in beyond_conf(_tree(built)).overrides() if key_of(text) not in asked_for]
    return (
        "This command composes conf/, which does not have the values of the build. Give it these too, to use what is built:\n"
        f"  {shlex.join(values)}\nor keep them, for every command:\n  {keep_command(values)}"
    )


def under_dvc() -> bool:
    """Tell whether DVC runs this stage."""
    return "DVC_STAGE" in os.environ


def say_replaced(cfg: Mapping[str, Any], what: str) -> None:
    """Say in one line that a stage replaces what it wrote with other values, or under another public key, and how to have that back.

    DVC has deleted it before the stage starts; dvc.lock still tells what it was made with, until the stage has ended.
    """
    entry = _recorded_entry()
    if not entry:
        return
    nodes = entry.get("params", {}).get("params.yaml", {})
    recorded, now = leaves(nodes), leaves(plain(cfg))
    current = {name: value for name, value in now.items() if any(f"{name}.".startswith(f"{node}.") for node in nodes)}
    made_with = []
    if recorded != current:
        before = _tree({name: value for name, value in now.items() if name not in current} | recorded)
        with suppress(ConfigError):  # an unfinished edit of conf/ is no matter of this stage
            found = beyond_conf(before, _without_local()).overrides()
            made_with = [text for text in found if any(f"{key_of(text)}.".startswith(f"{node}.") for node in nodes)]
    keys = [dep for dep in entry.get("deps", []) if dep["path"].startswith("keys/") and dep.get("md5") != _md5(place.PROJECT / dep["path"])]
    if recorded != current or keys:
        how = (shlex.join(made_with) or "other values") if recorded != current else "another public key"
        again = f" To have it back, and keep it: {keep_command(made_with)} && dvc repro" if made_with else ""
        print(f"{what} is replaced: it was made with {how}.{again}", flush=True)


def recorded_md5(out: str) -> str | None:
    """Return the MD5 that dvc.lock has of an output of this stage; None where there is none, or DVC does not run the stage."""
    return next((entry.get("md5") for entry in _recorded_entry().get("outs", ()) if entry["path"] == out), None)


def _recorded_entry() -> dict[str, Any]:
    """Return what dvc.lock has of the stage that DVC runs, of its last run."""
    lock = place.PROJECT / "dvc.lock"
    if not under_dvc() or not lock.is_file():
        return {}
    entry: dict[str, Any] = yaml.safe_load(lock.read_text())["stages"].get(os.environ["DVC_STAGE"], {})
    return entry


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""


def is_choice(text: str) -> bool:
    """Tell whether an override of a job by hand means anything to the pipeline, and is no matter of the sweep that the job belongs to."""
    key = key_of(text)
    return key.partition(".")[0] not in (*NOT_CHOICES, "sweep") and not key.startswith("hydra")


def key_of(text: str) -> str:
    """Return the key of an override, without its sign."""
    return text.lstrip("+~").partition("=")[0]


def _tree(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key_path, value in leaves.items():
        *parents, last = key_path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
