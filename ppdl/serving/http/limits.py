"""What one client, and all together, may ask of the server at a time."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ppdl.serving.problems import ProblemError

MOST_CLIENTS = 10_000  # remembered; a client that is forgotten starts anew, with a full bucket
SHARES = 4  # one client gets a quarter of a room, so that it takes several to fill it


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        owner: name of its token, "" where the server has no tokens: whose keys and budgets these are.
        address: it comes from; behind a trusted proxy the one that the proxy saw.
    """

    owner: str
    address: str

    @property
    def name(self) -> str:
        """Whom limits count for."""
        return self.owner or self.address


class Rate:
    """Let each client send `per_s` requests a second, and `burst` at once (a token bucket).

    Not for several threads: the server calls it on its event loop. Each process counts for itself.
    """

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, max(1.0, 2 * per_s), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: (requests left, at time)

    def take(self, client: str) -> None:
        """Count one request. Raises: ProblemError `too-fast`, with the seconds to wait."""
        now = self._clock()
        left, at = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)  # the one that was silent longest
        if not allowed:
            wait = math.ceil((1 - left) / self._per_s)
            raise ProblemError("too-fast", f"at most {self._per_s:g} requests a second, try again in {wait} s", retry_after_s=wait)


class Room:
    """Count what is in work, and refuse what does not fit, and of one client what exceeds its share. Not for several threads."""

    def __init__(self, capacity: int, what: str) -> None:
        self._capacity, self._share, self._what = capacity, max(1, capacity // SHARES), what
        self._used: Counter[str] = Counter()

    @property
    def used(self) -> int:
        return self._used.total()

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold a place while the block runs. Raises: ProblemError `busy` when all are taken, `too-fast` when this client has its share."""
        if self.used >= self._capacity:
            raise ProblemError("busy", f"{self._capacity} {self._what} are in work, and no more are kept; try again", retry_after_s=1)
        if self._used[client] >= self._share:
            raise ProblemError("too-fast", f"{self._share} {self._what} of this client are in work, and no more are kept; try again")
        self._used[client] += 1
        try:
            yield
        finally:
            self._used[client] -= 1
            self._used += Counter()  # forgets clients that have none
