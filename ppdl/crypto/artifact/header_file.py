"""Read and write header.json of a PPDL/1 artifact (docs/format.md, section 3).

The file is the one canonical serialisation of its header: `parse_header` refuses any other text, so no byte of the file
is without meaning. Its digest finds errors; whoever edits the header can compute it anew.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ppdl.crypto.artifact.fields import RESTORE, Key, Protection, Shard, Source, check_text, quote
from ppdl.crypto.artifact.header import FORMAT, Header
from ppdl.crypto.artifact.layout import Packing
from ppdl.errors import ArtifactError

HEADER_FILE = "header.json"
SIGNATURE_FILE = "header.sig"  # optional (ppdl.crypto.signing)
MAX_HEADER_BYTES = 2**26  # 64 MiB hold more than 100,000 shards; more is not read into memory


def write_text(header: Header) -> str:
    """Serialise canonically, with the digest of everything before it as last field."""
    content = {"format": FORMAT} | asdict(header)
    return _dump(content | {"header_sha256": _digest(content)})


def parse_header(text: str) -> Header:
    """Build the header that `text` serialises.

    Raises:
        ArtifactError: not JSON, another version, a field missing, unknown, out of range or contradictory, a wrong digest, or a
            serialisation that is not the canonical one.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"must be JSON, got {quote(text[:60])}: {error}") from None
    if not isinstance(content, dict) or next(iter(content), None) != "format":
        raise ArtifactError("must be a JSON object that begins with the field 'format': this is no ppdl artifact")
    if (version := content.pop("format")) != FORMAT:
        raise ArtifactError(f"format must be {FORMAT!r}, got {quote(version)}: read it with the version of ppdl that wrote it")
    digest = content.pop("header_sha256", None)
    check_text("header_sha256", digest, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
    if _digest({"format": FORMAT} | content) != digest:
        raise ArtifactError("header_sha256 does not fit the other fields: the header was damaged or edited")
    header = _build(Header, {name: _PARTS.get(name, _as_is)(value) for name, value in content.items()}, "the header")
    if write_text(header) != text:
        raise ArtifactError("must be the canonical serialisation of its fields: the file was reformatted or edited")
    return header


def read_header(folder: Path) -> Header:
    """Read and check the header of the artifact in `folder`.

    Raises:
        ArtifactError: no finished artifact there, or a header that `parse_header` refuses.
    """
    path = Path(folder) / HEADER_FILE
    if not path.is_file():
        raise ArtifactError(f"{path}: not found, so {folder} holds no finished artifact; {RESTORE}")
    if (size := path.stat().st_size) > MAX_HEADER_BYTES:
        raise ArtifactError(f"{path}: a header has at most {MAX_HEADER_BYTES} bytes, got {size}; {RESTORE}")
    try:
        return parse_header(path.read_bytes().decode())
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: must be UTF-8 text, found byte {error.object[error.start]:#04x}; {RESTORE}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; {RESTORE}") from None


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_dump(content).encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"a field occurs twice among {[name for name, _ in pairs]}")
    return content


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _build(cls: type, content: object, where: str) -> Any:
    """Build a dataclass from a JSON object that has exactly its fields, in any order."""
    names = [field.name for field in fields(cls)]
    if not isinstance(content, dict):
        raise ArtifactError(f"{where} must be an object, got {quote(content)}")
    if unknown := sorted(set(content) - set(names)):
        raise ArtifactError(f"{where} has unknown fields {quote(unknown)}; allowed are {names}")
    if missing := sorted(set(names) - set(content)):
        raise ArtifactError(f"{where} lacks the fields {missing}")
    return cls(**content)


def _tuple(content: object, where: str) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise ArtifactError(f"{where} must be a list, got {quote(content)}")
    return tuple(content)


def _build_shard(content: object, where: str) -> Shard:
    if isinstance(content, dict) and "shape" in content:
        content = content | {"shape": _tuple(content["shape"], f"{where}.shape")}
    return _build(Shard, content, where)


def _as_is(content: Any) -> Any:
    return content


_PARTS: dict[str, Callable[[Any], Any]] = {
    "protection": lambda content: _build(Protection, content, "protection"),
    "key": lambda content: _build(Key, content, "key"),
    "source": lambda content: _build(Source, content, "source"),
    "packing": lambda content: None if content is None else _build(Packing, content, "packing"),
    "shards": lambda content: tuple(_build_shard(item, f"shards[{i}]") for i, item in enumerate(_tuple(content, "shards"))),
    "canary": lambda content: _tuple(content, "canary"),
}
