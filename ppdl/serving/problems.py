"""Refusals of `ppdl serve`: each has a name, an HTTP status and a title, and travels as a problem document (RFC 9457).

docs/protocol.md has the same table for users; a test keeps the two in step. A detail says which rule was broken and where. It never quotes
a ciphertext, a key or a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ppdl.errors import PpdlError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:ppdl:problem:"


@dataclass(frozen=True)
class Rule:
    """Say how a kind of refusal is answered, and whether the same request may succeed later."""

    status: int
    title: str
    retry: bool = False


RULES = {
    "not-a-query": Rule(400, "The body does not begin with PPDLQ/1"),
    "wrong-version": Rule(400, "The body is of another version of the protocol"),
    "wrong-length": Rule(400, "The header does not account for every byte of the body"),
    "malformed-header": Rule(400, "A field of the header breaks its rule"),
    "not-json": Rule(400, "The body is not one JSON object"),
    "no-token": Rule(401, "A bearer token that this server knows is needed"),
    "too-many-keys": Rule(403, "This client has registered as many keys as it may"),
    "budget-spent": Rule(403, "The query budget of this key is spent"),
    "unknown-key": Rule(404, "The public key is not registered"),
    "not-found": Rule(404, "There is nothing at this path"),
    "method-not-allowed": Rule(405, "This path does not know the method"),
    "too-slow": Rule(408, "The body did not arrive in time"),
    "other-head": Rule(409, "The query was made for another head, or another packing of it"),
    "request-id-reused": Rule(409, "The request id belongs to another query, or to another head"),
    "too-large": Rule(413, "The body is larger than allowed"),
    "wrong-media-type": Rule(415, "The body has another media type"),
    "bad-key": Rule(422, "The public key cannot be used"),
    "bad-proof": Rule(422, "It is not proved that the public key is well formed"),
    "wrong-count": Rule(422, "The packing asks for another number of images or ciphertexts"),
    "bad-ciphertext": Rule(422, "A number of the body is no ciphertext of the key"),
    "too-fast": Rule(429, "This client sends more requests than allowed", retry=True),
    "internal": Rule(500, "The server failed"),
    "busy": Rule(503, "The server has no room for this request now", retry=True),
}


class ProblemError(PpdlError):
    """A message of the protocol was refused, by the server or by the one who reads it.

    Args:
        name: one of RULES.
        detail: the rule, where it was broken, what was found.
        retry_after_s: whole seconds, for the rules that may be tried again.
    """

    def __init__(self, name: str, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.name, self.rule, self.detail = name, RULES[name], detail
        self.headers = dict[str, str]()  # of HTTP
        if self.rule.retry:
            self.headers["retry-after"] = str(max(1, retry_after_s or 1))
        if self.rule.status == HTTPStatus.UNAUTHORIZED:
            self.headers["www-authenticate"] = 'Bearer realm="ppdl"'

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the problem document; `instance` is the id that the server's log has for this request."""
        return {
            "type": TYPE_PREFIX + self.name,
            "title": self.rule.title,
            "status": self.rule.status,
            "detail": self.detail,
            "instance": f"urn:ppdl:request:{request_id}",
        }
