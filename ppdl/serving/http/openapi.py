"""What /openapi.json says of each path: bodies, answers, and every status that can come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppdl.serving import problems, protocol
from ppdl.serving.http import metrics as prometheus
from ppdl.serving.problems import RULES

if TYPE_CHECKING:
    from fastapi import FastAPI

_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 1}
_NUMBER = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "description": "A number: base64url, without padding, of its big-endian bytes."}
_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PUBLIC = ("too-fast", "busy", "internal")  # what any path that counts requests may answer


def head() -> dict[str, Any]:
    schema = _object(
        protocol=_TEXT,
        head=_object(
            num_features=_WHOLE,
            feature_scale={"type": "number"},
            logit_scale={"type": "number"},
            temperature={"type": "number"},
            class_names={"type": "array", "items": _TEXT},
            backbone={"type": "object"},
        ),
        packing=_object(feature_bits=_WHOLE, weight_bits=_WHOLE, mask_bits=_WHOLE),
        key_bits={"type": "array", "items": _WHOLE},
        max_queries_per_key=_WHOLE,
        statement_sha256=_HEX,
    )
    return _path("What clients must know of the head; no weights.", _json(schema), "no-token", *_PUBLIC)


def keys() -> dict[str, Any]:
    members = {
        "kty": {"const": "DAJ"},
        "alg": {"const": "PAI-GN1"},
        "n": _NUMBER,
        "h": _NUMBER,
        "purpose": {"const": "inference"},
        "fingerprint": _HEX,
        "modulus_proof": _NUMBER,
    }
    body = {"type": "object", "properties": members, "required": ["kty", "alg", "n", "purpose", "fingerprint", "modulus_proof"]}
    answer = _json(_object(fingerprint=_HEX, key_bits=_WHOLE, max_queries=_WHOLE))
    refusals = ("no-token", "not-json", "bad-key", "bad-proof", "too-many-keys", "too-large", "wrong-media-type", "too-slow")
    return _path("Register a public key: the content of inference.json, and the proof.", answer, *refusals, *_PUBLIC) | _body(
        "application/json", body
    )


def infer() -> dict[str, Any]:
    names = [name for name in RULES if name not in {"not-json", "too-many-keys", "bad-key", "bad-proof", "not-found", "method-not-allowed"}]
    path = _path("Answer a query PPDLQ/1 with a reply PPDLR/1.", {protocol.MEDIA_TYPE: {"schema": _BINARY}}, *names)
    return path | _body(protocol.MEDIA_TYPE, _BINARY)


def health() -> dict[str, Any]:
    return _path("Tell whether the server can answer.", _json(_object(status={"const": "ok"})), "busy", "internal")


def metrics() -> dict[str, Any]:
    return _path("Counters for Prometheus.", {prometheus.MEDIA_TYPE.partition(";")[0]: {"schema": _TEXT}}, "no-token", *_PUBLIC)


def finish(app: FastAPI, *, with_tokens: bool) -> None:
    """Add the schema of refusals, and of tokens where they are asked for, to what FastAPI made of the paths."""
    tree = app.openapi()
    components = tree.setdefault("components", {})
    components["schemas"] = {"Problem": problems.schema()}
    if with_tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in tree["paths"].items():
            for operation in methods.values():
                operation["security"] = [] if path == "/health" else [{"token": []}]


def _path(summary: str, content: dict[str, Any], *refusals: str) -> dict[str, Any]:
    """Return FastAPI's arguments for a path that answers 200 with `content`, or one of some refusals."""
    responses: dict[int | str, Any] = {200: {"description": "Done.", "content": content}}
    for name in refusals:
        rule = RULES[name]
        known = responses.setdefault(rule.status, {"description": "", "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}})
        known["description"] = f"{known['description']} {name}: {rule.title}.".strip()
    return {"summary": summary, "responses": responses, "response_model": None}


_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"openapi_extra": {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
