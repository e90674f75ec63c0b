"""The reference of every configuration field, written from the comments in conf/ and the docstrings of what they configure.

Command line::

    python -m ppdl.config.reference --write     write docs/reference.md
    python -m ppdl.config.reference --check     exit 1 when docs/reference.md is out of step

A field's meaning is its own end-of-line comment; where there is none, its entry in the docstring of the class that `_target_` names; in a
file that only sets fields of others (an experiment), that of the field it sets. A field with none of them is refused by name.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ppdl.config.compose import keep_in_step
from ppdl.config.place import CONF, PROJECT
from ppdl.errors import ConfigError

PAGE = PROJECT / "docs/reference.md"
FILES = ("config.yaml", "crossval.yaml", "pipeline.yaml")
GROUPS = ("dataset", "model", "training", "protection", "attack", "executor", "experiment")  # further ones follow by name
SEVERAL = {"protection": "protections", "attack": "attacks", "head": "heads"}  # a file of these is one entry of a mapping
HYDRA = "a setting of Hydra itself"
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
LONGEST_DEFAULT = 80  # characters; a longer list is counted

INTRODUCTION = """\
# Every configuration field

This page is written by `python -m ppdl.config.reference --write` from the files below `conf/`; do not edit it. Units are in names:
`_px` pixels, `_bits`, `_bytes`, `_mib`, `_s` seconds; a fraction is between 0 and 1. A default that is a list or a mapping too
long for the table is only counted: the file has it.

Set a field by its full name, with `dvc exp run -S NAME=VALUE`, or behind `python -m stages.STAGE`. Choose another file of a group by the
folder's name: `-S dataset=folder -S dataset.root=PATH`. A protection or an attack is added with `-S +protection@protections.NAME=NAME` or
`-S +attack@attacks.NAME=NAME`, and left out with `-S '~protections.NAME'`.
"""


@dataclass(frozen=True)
class Field:
    """One row: full name of a field, its default as the file has it, its meaning ('' where none was found)."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class ConfFile:
    """One file below conf/.

    Attributes:
        path: relative to conf/.
        header: its comment lines before the first value, without the mark.
        target: class that it constructs, or ''.
        defaults: what it is composed from, as its defaults list has it.
        fields: in the file's order.
    """

    path: Path
    header: list[str]
    target: str
    defaults: list[str]
    fields: list[Field]


def conf_files(conf: Path = CONF) -> list[Path]:
    """Return the files below conf/ in the order of the page, relative to it."""
    groups = [path.name for path in sorted(conf.iterdir()) if path.is_dir() and path.name != "local"]  # the user's own
    groups = [name for name in GROUPS if name in groups] + [name for name in groups if name not in GROUPS]
    single = [Path(name) for name in FILES if (conf / name).is_file()]
    single += [Path(path.name) for path in sorted(conf.glob("*.yaml")) if path.name not in FILES]
    return single + [path.relative_to(conf) for name in groups for path in sorted((conf / name).glob("*.yaml"))]


def read_conf(conf: Path = CONF) -> list[ConfFile]:
    """Read all files below conf/.

    Raises:
        ConfigError: a file is no mapping, or fields have no meaning; all of them are named.
    """
    files = [_read(conf, path) for path in conf_files(conf)]
    known = {field.name: field.meaning for file in files for field in file.fields if field.meaning}
    base = next((file for file in files if file.path == Path("config.yaml")), None)
    complete, missing = [], []
    for file in files:
        meanings = known | _meanings_of_choices(files, base, file)
        fields = []
        for field in file.fields:
            meaning = field.meaning or meanings.get(field.name, "") or (HYDRA if field.name.startswith("hydra.") else "")
            if not meaning:
                missing.append(f"  conf/{file.path.as_posix()}: {field.name}")
            fields.append(Field(field.name, field.default, meaning))
        complete.append(replace(file, fields=fields))
    if missing:
        rule = "every field needs a meaning: an end-of-line comment, or an entry under Args or Attributes of its class"
        raise ConfigError("\n".join([f"{rule}; there is none for", *missing]))
    return complete


def _meanings_of_choices(files: list[ConfFile], base: ConfFile | None, file: ConfFile) -> dict[str, str]:
    """Return the meanings of the fields of the group files that `file` is composed with: they go before others of the same name."""
    chosen = {}
    for line in [*(base.defaults if base else []), *file.defaults]:
        group, _, name = line.removeprefix("override ").removeprefix("/").partition(": ")
        chosen[group.partition("@")[0].removeprefix("/")] = name
    picked = [other for other in files if other.path.parent.name and chosen.get(other.path.parent.name) == other.path.stem]
    return {field.name: field.meaning for other in picked for field in other.fields if field.meaning}


def _read(conf: Path, path: Path) -> ConfFile:
    text = (conf / path).read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"conf/{path.as_posix()} must be a mapping of fields, got {text[:40]!r}")
    lines = text.splitlines()
    header = [line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    fields = list(_fields(root, _prefix(path, header), text, lines))
    header = [line for line in header if not line.startswith("@package")]
    return ConfFile(path, header, _target(root), _defaults(root), fields)


def _prefix(path: Path, header: list[str]) -> str:
    """Return where in the configuration a file's fields are, with a final dot."""
    group = path.parent.name
    if not group or "@package _global_" in header:
        return ""
    return f"{SEVERAL[group]}.{path.stem}." if group in SEVERAL else f"{group}."


def _fields(node: yaml.MappingNode, prefix: str, text: str, lines: list[str]) -> Iterator[Field]:
    described = _described(_target(node))
    for key, value in node.value:
        name = prefix + key.value
        if key.value in ("_target_", "defaults"):
            continue
        meaning = _comment(key, value, lines) or described.get(key.value, "").rstrip(".")
        if not isinstance(value, yaml.MappingNode) or not value.value:
            yield Field(name, _default(value, text), meaning)
            continue
        target, inner = _target(value), list(_fields(value, f"{name}.", text, lines))
        if meaning and not target and not any(field.meaning for field in inner):
            yield Field(name, _default(value, text), meaning)  # one value with parts, such as a number for each class
            continue
        if target or meaning:
            yield Field(name, target or _default(value, text), meaning or _first_line(target))
        yield from inner


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """Return the comment at the end of the line on which a field's value ends, or begins if it is a block of lines."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    mark = key.end_mark if block else value.end_mark
    found = re.fullmatch(r":?\s*#\s*(.*?)[\s,]*", lines[mark.line][mark.column :])
    return found[1] if found else ""


def _default(node: yaml.Node, text: str) -> str:
    """Return a value as the file has it, in one line; a long collection is counted."""
    shown = text[node.start_mark.index : node.end_mark.index]
    if not isinstance(node, yaml.CollectionNode):
        return shown
    if not node.flow_style:
        value = yaml.load(yaml.serialize(node), Loader=yaml.BaseLoader)  # nosec B506  # makes text, lists and dicts alone
        shown = yaml.dump(value, Dumper=yaml.SafeDumper, default_flow_style=True, width=10**6, sort_keys=False).strip().replace("'", "")
    shown = " ".join(shown.split())
    if len(shown) <= LONGEST_DEFAULT:
        return shown
    return f"{len(node.value)} {'entry' if len(node.value) == 1 else 'entries'}"


def _target(node: yaml.MappingNode) -> str:
    return next((value.value for key, value in node.value if key.value == "_target_"), "")


def _defaults(node: yaml.MappingNode) -> list[str]:
    lists = (value for key, value in node.value if key.value == "defaults")
    entries: list[Any] = next((yaml.load(yaml.serialize(value), Loader=yaml.BaseLoader) for value in lists), [])  # nosec B506  # as above
    return [": ".join(map(str, *entry.items())) if isinstance(entry, Mapping) else str(entry) for entry in entries]


def _class(target: str) -> type:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_ = {target!r} cannot be imported: {error}") from None


def _first_line(target: str) -> str:
    return (inspect.getdoc(_class(target)) or "").partition("\n")[0].rstrip(".")


def _described(target: str) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of its arguments."""
    found: dict[str, str] = {}
    for cls in _class(target).__mro__ if target else ():
        found = docstring_entries(vars(cls).get("__doc__") or "") | found
    return found


def docstring_entries(docstring: str) -> dict[str, str]:
    """Return the entries of the sections Args and Attributes, by name; `a, b: text` stands for both."""
    found: dict[str, str] = {}
    inside, names = False, list[str]()
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            inside, names = line in ("Args:", "Attributes:"), []
        elif inside and (entry := re.fullmatch(r" {4}(\w+(?:, \w+)*): *(.*)", line)):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif inside and names and line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def page(files: list[ConfFile]) -> str:
    """Return the reference as Markdown."""
    known = {field.name: field for file in reversed(files) for field in file.fields}
    parts, group = [INTRODUCTION, "## The first to set\n", _table(known[name] for name in FIRST if name in known)], None
    for file in files:
        if file.path.parent.name != group:
            group = file.path.parent.name
            parts.append(f"## {f'Group {group}' if group else 'The whole'}\n")
        parts.append(f"### conf/{file.path.as_posix()}\n")
        parts += [*_prose(file.header), *_made_of(file)]
        if file.fields:
            parts.append(_table(file.fields))
    return "\n".join(parts)


def _table(fields: Iterable[Field]) -> str:
    rows = [f"| `{field.name}` | {_code(field.default)} | {_text(field.meaning)} |" for field in fields]
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _prose(header: list[str]) -> Iterator[str]:
    """Turn header lines into paragraphs, and lines that are commands into blocks of code."""
    for kind, lines in itertools.groupby(header, _kind):
        if kind == "code":
            yield "\n".join(["```sh", *lines, "```", ""])
        elif kind == "text":
            yield "\n".join(_text(line) for line in lines) + "\n"


def _kind(line: str) -> str:
    return "" if not line else "code" if line.startswith(("dvc ", "python -m ", "ppdl ")) else "text"


def _made_of(file: ConfFile) -> Iterator[str]:
    if file.target:
        yield f"Constructs `{file.target}`: {_text(_first_line(file.target))}.\n"
    chosen = [entry for entry in file.defaults if entry != "_self_"]
    if chosen:
        yield f"Composed from {', '.join(f'`{entry}`' for entry in chosen)}.\n"


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _text(text: str) -> str:
    """Escape what Markdown would take for markup, outside of code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts = ["&#96;".join(parts)]
    # no backslash escapes < and | everywhere
    escape = str.maketrans({"<": "&lt;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in r"\*_[]"})
    return "`".join(part if i % 2 else part.translate(escape) for i, part in enumerate(parts))


def main(argv: list[str] | None = None) -> int:
    """Write or check docs/reference.md."""
    try:
        return keep_in_step("ppdl.config.reference", "docs/reference.md", PAGE, lambda: page(read_conf()).encode(), argv)
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
