"""Targets of the fuzz: the configuration, with a wrong value or a misspelt key in any place."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ppdl.config import CONF, plain
from ppdl.config.check import check_config
from ppdl.errors import ConfigError
from tests.soak.mutate import JSON_VALUES, at, damaged_tree, places, typo
from tests.soak.target import Target

FRACTIONS = {"noise", "noises", "shard_mib", "table_mib", "strengths"}  # numbers that happen to be whole in conf/
OTHERS = ("jigsaw", "as_is", "negative_positive")  # attacks that the default configuration leaves out
WRONG = {  # values that cannot stand in the place of a value of this type
    bool: [None, 0, 1, "yes", 1.5, [], {}],
    int: ["x", 1.5, True, [], {}, [1], -(10**30), float("nan"), float("inf")],
    float: ["x", True, [], {}, [1.0], float("nan"), float("-inf")],
    str: [1, True, 1.5, [], {}, ""],
    list: [1, True, "x", {"a": 1}, 1.5],
}


def composed(*overrides: str) -> dict[str, Any]:
    """Return a configuration as plain values."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("config", overrides=list(overrides)))


def _trees() -> list[dict[str, Any]]:
    more = [f"+attack@attacks.{name}={name}" for name in OTHERS]
    return [composed(*more), composed("dataset=folder"), composed("dataset=radiography")]


def damaged(folder: Path) -> Target:
    """Anything anywhere."""
    values = st.one_of(JSON_VALUES, st.sampled_from([float("nan"), float("inf"), "imagenet", "1e-3", "null"]))
    cases = st.sampled_from(_trees()).flatmap(lambda tree: damaged_tree(tree, values))
    return Target("configurations", cases, _check, ConfigError, 2)


def wrong_types(folder: Path) -> Target:
    """A value of a type that cannot be right: it must be refused, and its place named."""
    trees = _trees()
    where = [(i, path) for i, tree in enumerate(trees) for path in places(tree) if type(at(tree, path)) in WRONG and _typed(path)]

    def case(place: tuple[int, tuple]) -> st.SearchStrategy:
        tree_index, path = place
        wrong = WRONG[type(at(trees[tree_index], path))]
        if FRACTIONS & set(path):
            wrong = [value for value in wrong if value != 1.5]
        return st.tuples(st.just(place), st.sampled_from(wrong))

    def read(drawn: tuple[tuple[int, tuple], Any]) -> None:
        (index, path), value = drawn
        tree = copy.deepcopy(trees[index])
        at(tree, path[:-1])[path[-1]] = value
        try:
            _check(tree)
        except ConfigError as error:
            named = [part for part in path if isinstance(part, str)]
            if named[-1] not in str(error) and ".".join(named[:2]) not in str(error):
                raise AssertionError(f"{'.'.join(map(str, path))} = {value!r} was refused without naming it: {error}") from None
            raise
        raise AssertionError(f"{'.'.join(map(str, path))} = {value!r} was accepted")

    return Target("configurations: wrong types", st.sampled_from(where).flatmap(case), read, ConfigError, 2)


def misspelt(folder: Path) -> Target:
    """A key with one wrong letter: it must be refused, with the right one or all valid ones."""
    trees = _trees()
    where = [(i, path) for i, tree in enumerate(trees) for path in places(tree) if isinstance(path[-1], str) and _keyed(path)]

    def read(drawn: tuple[tuple[int, tuple], str]) -> None:
        (index, path), wrong = drawn
        tree = copy.deepcopy(trees[index])
        node = at(tree, path[:-1])
        if wrong in node or not wrong:
            raise ConfigError("no typo")
        node[wrong] = node.pop(path[-1])
        try:
            _check(tree)
        except ConfigError as error:
            if path[-1] not in str(error):
                raise AssertionError(f"{'.'.join(map(str, path))} misspelt {wrong!r}: the right key is not named: {error}") from None
            raise
        raise AssertionError(f"{'.'.join(map(str, path))} misspelt {wrong!r} was accepted")

    cases = st.sampled_from(where).flatmap(lambda place: st.tuples(st.just(place), typo(place[1][-1])))
    return Target("configurations: misspelt keys", cases, read, ConfigError, 2)


def _typed(path: tuple) -> bool:
    """Leave out texts that may be anything: a target that cannot be imported is refused by name, a folder or column is looked for when it
    is read."""
    return path[-1] not in ("_target_", "name", "handle", "hospitals")


def _keyed(path: tuple) -> bool:
    """Leave out keys that users choose: names of protections, heads, attacks and classes."""
    return path[:-1] not in (("protections",), ("heads",), ("attacks",), ("dataset", "num_images"))


def _check(tree: Any) -> None:
    check_config(OmegaConf.create(tree, flags={"allow_objects": True}) if isinstance(tree, dict) else tree)


TARGETS = [damaged, wrong_types, misspelt]
