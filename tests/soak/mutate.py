"""Hypothesis strategies that damage good inputs: bytes, JSON trees, names."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

JSON_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["", "../../etc/passwd", "/etc/passwd", "a\x00b", "\x1b[31m", "nan", "0x10", "é" * 300, "A" * 5000]),
)
JSON_VALUES = st.recursive(
    JSON_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


def places(tree: Any, here: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every node below the root of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from places(value, (*here, key))


def at(tree: Any, path: tuple) -> Any:
    """Return the node at a path."""
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def damaged_tree(draw: st.DrawFn, tree: Any, values: st.SearchStrategy = JSON_VALUES) -> Any:
    """Draw a JSON tree that differs from `tree` in one to three places: replaced, removed, added, or exchanged nodes."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(tree))
        if not known:
            return tree
        *parents, key = draw(st.sampled_from(known))
        node, action = at(tree, tuple(parents)), draw(st.sampled_from(["replace", "remove", "add", "copy"]))
        if action == "replace":
            node[key] = draw(values)
        elif action == "remove":
            del node[key]
        elif action == "copy":
            node[key] = copy.deepcopy(at(tree, draw(st.sampled_from(known))))
        elif isinstance(node, dict):
            node[draw(st.text(min_size=1, max_size=8))] = draw(values)
        else:
            node.insert(key, draw(values))
    return tree


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw bytes that differ from `data`: flipped, overwritten, inserted, removed, repeated or cut."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        action = draw(st.sampled_from(["flip", "set", "word", "insert", "remove", "repeat", "cut", "append"]))
        size = draw(st.sampled_from([1, 2, 4, 16, 200]))
        if action == "flip" and changed:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "set" and changed:
            changed[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif action == "word":  # lengths and sizes in headers
            changed[place : place + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0", b"\xff\xff\0\0"])
            )
        elif action == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif action == "remove":
            del changed[place : place + size]
        elif action == "repeat":
            changed[place:place] = changed[place : place + size]
        elif action == "cut":
            del changed[place:]
        else:
            changed += draw(st.binary(min_size=1, max_size=16))
    return bytes(changed)


@st.composite
def typo(draw: st.DrawFn, name: str) -> str:
    """Draw a name that differs from `name` in one letter: lost, doubled, replaced or exchanged with the next."""
    place = draw(st.integers(0, len(name) - 1))
    kind = draw(st.sampled_from(["lose", "double", "replace", "exchange"]))
    letter = name[place]
    swapped = name[:place] + name[place + 1 : place + 2] + letter + name[place + 2 :]
    return {
        "lose": name[:place] + name[place + 1 :],
        "double": name[:place] + letter + name[place:],
        "replace": name[:place] + draw(st.sampled_from("aeiostxz_")) + name[place + 1 :],
        "exchange": swapped,
    }[kind]
