"""What may leave the machine with a run: plain values, no key material, names and lengths that MLflow accepts.

A tracking store is read by more people than the machine that trained, so nothing is logged whose name says that it is
private, and a value that looks like key material stops the run before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppdl.errors import TrackingError

MAX_NAME = 250  # characters of the name of a parameter, metric or tag (mlflow.utils.validation)
MAX_PARAM = 6000  # characters of a parameter's value
MAX_TAG = 8000  # characters of a tag's value

_PRIVATE_NAME = re.compile(r"private|secret|passphrase|password|passwd|token|credential|api_?key", re.IGNORECASE)
# A JSON Web Key, a PEM file, or a run of characters that is too long for a name, a hash or a path component: half of a
# 1536-bit modulus is 128 base64 digits.
_KEY_MATERIAL = re.compile(r'"kty"|PRIVATE KEY|[0-9A-Za-z+_=-]{128,}')
_MAX_INT_BITS = 256
# Nodes that no training reads: how it is attacked, tested and told, how fast it runs, and what follows from other nodes.
_AFTER_TRAINING = frozenset(
    (
        "attacks",
        "audit",
        "branch",
        "crossval",
        "evaluation",
        "executor",
        "federated",
        "fitted",
        "listed",
        "listed_external",
        "pooled",
        "revealed",
        "signing",
        "tracking",
    )
)


def redact(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config tree of plain values, without the nodes whose name says that they are private.

    Args:
        config: mappings, sequences, strings, numbers, booleans, None and paths, in any depth.

    Raises:
        TrackingError: a value is of another type, or looks like key material. The message names its place, not it.
    """
    return _redacted(config, "")


def _redacted(node: Any, where: str) -> Any:
    if isinstance(node, Mapping):
        kept = {str(key): value for key, value in node.items() if not is_private(str(key))}
        return {key: _redacted(value, f"{where}.{key}" if where else key) for key, value in kept.items()}
    if isinstance(node, list | tuple):
        return [_redacted(value, f"{where}[{i}]") for i, value in enumerate(node)]
    if isinstance(node, int) and node.bit_length() > _MAX_INT_BITS:
        raise TrackingError(_looks_like_a_key(where, f"an integer of {node.bit_length()} bits"))
    if node is None or isinstance(node, bool | int | float):
        return node
    if isinstance(node, str | Path):
        return guard(str(node), where)
    raise TrackingError(f"{where} is a {type(node).__name__}: only plain values (text, numbers, lists, mappings) are logged to MLflow")


def is_private(name: str) -> bool:
    """Tell whether a name says that its value is not to be logged, such as `private_dir` or `kaggle_token`."""
    return _PRIVATE_NAME.search(name) is not None


def guard(text: str, where: str) -> str:
    """Return `text` unchanged unless it looks like key material.

    Raises:
        TrackingError: names `where`, never the text.
    """
    if _KEY_MATERIAL.search(text):
        raise TrackingError(_looks_like_a_key(where, f"text of {len(text)} characters"))
    return text


def _looks_like_a_key(where: str, what: str) -> str:
    return (
        f"{where} holds {what} that looks like key material, so nothing was logged: pass keys as the path of a file, "
        "under a name that contains `private`"
    )


def used_by(config: Mapping[str, Any], branch: str, run: str) -> dict[str, Any]:
    """Return what decided a training of a config tree: not what happens after it, of `protections` and `heads` this branch alone, and of
    `federations` the one that the run is named after."""
    nodes = {key: node for key, node in config.items() if key not in _AFTER_TRAINING}
    for many, own in (("protections", branch), ("heads", branch), ("federations", run)):
        if many in nodes:
            nodes[many] = {name: node for name, node in nodes[many].items() if name == own}
    head = nodes.get("heads", {}).get(branch)
    if head is not None and head["backbone"]["weights"] != "plain":  # such features are of no network that was trained here
        nodes = {key: node for key, node in nodes.items() if key not in ("model", "training")}
    return nodes


def flatten(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return a redacted tree as MLflow parameters: dotted names, text values as YAML would write them.

    A value beyond MLflow's limit keeps its beginning and its SHA-256; the whole is in the artifact config.yaml.
    """
    rows: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            rows |= {valid_name(f"{key}.{name}"): text for name, text in flatten(value).items()}
        else:
            rows[valid_name(key)] = shorten(value if isinstance(value, str) else json.dumps(value), MAX_PARAM)
    return rows


def shorten(text: str, limit: int) -> str:
    """Cut text that is longer than `limit` characters, ending in its SHA-256 so that different texts stay different."""
    if len(text) <= limit:
        return text
    tail = f"... ({len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()})"
    return text[: limit - len(tail)] + tail


def valid_name(name: str) -> str:
    """Return the nearest name that MLflow accepts: word characters and `. - : /` and space, at most 250 characters."""
    clean = posixpath.normpath(re.sub(r"[^\w.\- :/]", "_", name)).lstrip("/.") or "_"
    if len(clean) <= MAX_NAME:
        return clean
    return f"{clean[: MAX_NAME - 17]}~{hashlib.sha256(clean.encode()).hexdigest()[:16]}"


def without_private(overrides: tuple[str, ...]) -> list[str]:
    """Drop the Hydra overrides (`keygen.private_dir=/media/key`) whose name says that they are private."""
    return [guard(o, "overrides") for o in overrides if not is_private(o.split("=", 1)[0])]
