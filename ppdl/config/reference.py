"""The reference of every configuration field: the files below conf/ as they are, for a field's meaning stands at the end of its line.

Command line::

    python -m ppdl.config.reference --write     write docs/reference.md
    python -m ppdl.config.reference --check     exit 1 when docs/reference.md is out of step
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ppdl.config.compose import keep_in_step
from ppdl.config.place import CONF, PROJECT
from ppdl.errors import ConfigError

PAGE = PROJECT / "docs/reference.md"
FILES = ("config.yaml", "crossval.yaml", "pipeline.yaml")
GROUPS = ("dataset", "model", "training", "protection", "attack", "executor", "experiment")  # further ones follow by name
# a file of these is one entry of a mapping
SEVERAL = {"protection": "protections", "attack": "attacks", "head": "heads", "federation": "federations"}
FIRST = (  # what a first user sets
    "prepared_px",
    "input_px",
    "model.alpha",
    "model.weights",
    "training.epochs",
    "keygen.key_bits",
    "protections.homomorphic.scheme.stride",
    "protections.homomorphic.reveal.noise",
)

SECTION = "a section, or a setting of Hydra: its name says enough"

INTRODUCTION = """\
# Every configuration field

This page is written by `python -m ppdl.config.reference --write` from the files below `conf/`; do not edit it. Units are in names:
`_px` pixels, `_bits`, `_bytes`, `_mib`, `_s` seconds; a fraction is between 0 and 1.

Set a field by its full name, with `dvc exp run -S NAME=VALUE`, or behind `python -m stages.STAGE`. Choose another file of a group by the
folder's name: `-S dataset=folder -S dataset.root=PATH`. A protection or an attack is added with `-S +protection@protections.NAME=NAME` or
`-S +attack@attacks.NAME=NAME`, and left out with `-S '~protections.NAME'`.

## The first to set

| field | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True)
class Field:
    """Say the full name of a field, its value as the file has it, and its meaning: '' where no comment says it."""

    file: Path
    name: str
    value: str
    meaning: str


def conf_files(conf: Path = CONF) -> list[Path]:
    """Return the files below conf/ in the order of the page, relative to it."""
    groups = [path.name for path in sorted(conf.iterdir()) if path.is_dir() and path.name != "local"]  # the user's own
    groups = [name for name in GROUPS if name in groups] + [name for name in groups if name not in GROUPS]
    single = [Path(name) for name in FILES if (conf / name).is_file()]
    return single + [path.relative_to(conf) for name in groups for path in sorted((conf / name).glob("*.yaml"))]


def read_fields(conf: Path = CONF) -> list[Field]:
    """Return all fields below conf/, a node before what is in it.

    Raises:
        ConfigError: no file says what a field means, nor what the mapping means that it is a part of.
    """
    found: list[Field] = []
    for file in conf_files(conf):
        text = (conf / file).read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"conf/{file.as_posix()} must be a mapping of fields, got {text[:40]!r}")
        found += _fields(root, file, prefix(file, text), text, "")
    known = {field.name for field in found if field.meaning}
    missing = [f"  conf/{field.file.as_posix()}: {field.name}" for field in found if not field.meaning and field.name not in known]
    if missing:
        raise ConfigError("\n".join(["every field needs a comment at the end of its line; there is none for", *missing]))
    return found


def prefix(file: Path, text: str) -> str:
    """Return where in the configuration a file's fields are, with a final dot."""
    group = file.parent.name
    if not group or "# @package _global_" in text:
        return ""
    return f"{SEVERAL[group]}.{file.stem}." if group in SEVERAL else f"{group}."


def _fields(node: yaml.MappingNode, file: Path, prefix: str, text: str, around: str) -> Iterator[Field]:
    """Yield the fields of a node; `around`: what is said of a mapping whose parts need no comments of their own."""
    lines = [*text.splitlines(), ""]  # a text of several lines may end the file
    for key, value in node.value:
        if key.value in ("_target_", "defaults"):
            continue
        mark = key.end_mark if isinstance(value, yaml.CollectionNode) and not value.flow_style else value.end_mark
        found = re.fullmatch(r":?\s*#\s*(.*?)[\s,]*", lines[mark.line][mark.column :])
        meaning = found[1] if found else around
        meaning = meaning or (SECTION if isinstance(value, yaml.MappingNode) or key.value == "hydra" or prefix.startswith("hydra.") else "")
        yield Field(file, prefix + key.value, text[value.start_mark.index : value.end_mark.index], meaning)
        if isinstance(value, yaml.MappingNode):
            component = any(inner.value == "_target_" for inner, _ in value.value)
            yield from _fields(value, file, f"{prefix}{key.value}.", text, "" if component or meaning == SECTION else meaning)


def page(conf: Path = CONF) -> str:
    """Return the reference as Markdown."""
    known = {field.name: field for field in reversed(read_fields(conf))}
    rows = (f"| `{name}` | `{known[name].value}` | {known[name].meaning} |\n" for name in FIRST if name in known)
    parts, group = ["".join([INTRODUCTION, *rows])], None
    for file in conf_files(conf):
        if file.parent.name != group:
            group = file.parent.name
            parts.append(f"## {f'Group {group}' if group else 'The whole'}\n")
        text = (conf / file).read_text(encoding="utf-8")
        where = prefix(file, text)
        parts.append(
            f"### conf/{file.as_posix()}\n" + (f"\nFields of `{where[:-1]}`.\n" if where else "") + f"\n```yaml\n{text.strip()}\n```\n"
        )
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Write or check docs/reference.md."""
    try:
        return keep_in_step("ppdl.config.reference", "docs/reference.md", PAGE, lambda: page().encode(), argv)
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
