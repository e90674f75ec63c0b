"""What /openapi.json says of bodies, answers, and every status that can come. Answers are written elsewhere; these are their shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ppdl.private_head.head import PublicHead
from ppdl.serving import problems
from ppdl.serving.problems import RULES

Whole = Annotated[int, Field(ge=1)]
Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", description="A number: base64url, without padding, of its big-endian bytes.")]
BINARY = {"type": "string", "format": "binary"}
PUBLIC = ("too-fast", "busy", "internal")  # what any path that counts requests may answer


class Exact(BaseModel):
    """Nothing else is in it."""

    model_config = ConfigDict(extra="forbid")


class StatedPacking(Exact):
    feature_bits: Whole
    weight_bits: Whole
    mask_bits: Whole


class StatedHead(Exact):
    protocol: str
    head: PublicHead
    packing: StatedPacking
    key_bits: list[Whole]
    max_queries_per_key: Whole
    statement_sha256: Hex


class KeyBody(BaseModel):
    kty: Literal["DAJ"]
    alg: Literal["PAI-GN1"]
    n: Number
    h: Number = ""
    purpose: Literal["inference"]
    fingerprint: Hex
    modulus_proof: Number


class Registered(Exact):
    fingerprint: Hex
    key_bits: Whole
    max_queries: Whole


class Health(Exact):
    status: Literal["ok"]


class Problem(Exact):
    type: str = Field(json_schema_extra={"enum": [problems.TYPE_PREFIX + name for name in RULES]})
    title: str
    status: int
    detail: str
    instance: str


def refusals(*names: str) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's description of some refusals, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for name in names:
        rule = RULES[name]
        known = found.setdefault(rule.status, {"description": ""} | content(problems.MEDIA_TYPE, {"$ref": "#/components/schemas/Problem"}))
        known["description"] = f"{known['description']} {name}: {rule.title}.".strip()
    return found


def content(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a body."""
    return {"content": {media_type: {"schema": schema}}}
