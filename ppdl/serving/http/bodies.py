"""Read a request's body: nothing of a wrong type, nothing too large, nothing too slow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from ppdl.serving.problems import ProblemError

if TYPE_CHECKING:
    from starlette.requests import Request

SLOWEST_S = 30.0


async def read_body(request: Request, *, media_type: str, largest: int, slowest_s: float = SLOWEST_S) -> bytes:
    """Return the body, of `media_type` and at most `largest` bytes.

    A length that is stated is checked before a byte is read; what has none, or lies, is cut off where it exceeds the limit.

    Raises: ProblemError `wrong-media-type`, `too-large`, `wrong-length` or `too-slow`.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != media_type:
        raise ProblemError("wrong-media-type", f"content-type must be {media_type}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError("wrong-media-type", "the body must come without content-encoding")
    stated = request.headers.get("content-length")
    if stated is not None and int(stated) > largest:  # the HTTP parser let nothing but digits pass
        raise ProblemError("too-large", f"at most {largest} bytes, content-length says {stated:.20}")
    body = bytearray()
    try:
        async with asyncio.timeout(slowest_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise ProblemError("too-large", f"at most {largest} bytes, and more came")
    except ClientDisconnect:
        raise ProblemError("wrong-length", "the connection broke before the whole body had come") from None
    except TimeoutError:
        raise ProblemError("too-slow", f"the body must arrive within {slowest_s:g} s") from None
    return bytes(body)
