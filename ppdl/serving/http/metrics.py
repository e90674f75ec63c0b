"""Counters in the text format of Prometheus. Nothing in them tells of a user, a key or a result; each process counts for itself.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Count requests, images and seconds. Not for several threads: the server counts on its event loop."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._problems: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: dict[str, float] = {}

    def count_request(self, route: str, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count a request that was answered. `route` is a path of the server, never what a client wrote."""
        self._requests[route, status] += 1
        self._bytes["in"] += bytes_in
        self._bytes["out"] += bytes_out
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds
        for bound in BOUNDS_S:
            self._buckets[route, bound] += seconds <= bound

    def count_problem(self, name: str) -> None:
        """Count a refusal by its name."""
        self._problems[name] += 1

    def count_images(self, mode: str, num_images: int) -> None:
        """Count images that were answered."""
        self._images[mode] += num_images

    def text(self, *, computing: int) -> str:
        """Return everything in the text format; `computing` queries are in work now."""
        return "\n".join(self._lines(computing)) + "\n"

    def _lines(self, computing: int) -> Iterator[str]:
        yield from _head("ppdl_requests_total", "counter", "Requests that were answered.")
        for (route, status), count in sorted(self._requests.items()):
            yield f'ppdl_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("ppdl_problems_total", "counter", "Refusals, by name.")
        for name, count in sorted(self._problems.items()):
            yield f'ppdl_problems_total{{name="{name}"}} {count}'
        yield from _head("ppdl_images_total", "counter", "Images whose logits were computed.")
        for mode, count in sorted(self._images.items()):
            yield f'ppdl_images_total{{mode="{mode}"}} {count}'
        yield from _head("ppdl_body_bytes_total", "counter", "Bytes of bodies.")
        for direction, count in sorted(self._bytes.items()):
            yield f'ppdl_body_bytes_total{{direction="{direction}"}} {count}'
        yield from _head("ppdl_computing", "gauge", "Queries in work or waiting for a worker.")
        yield f"ppdl_computing {computing}"
        yield from _head("ppdl_request_seconds", "histogram", "Time from the request's first byte to the answer's last.")
        for route, seconds in sorted(self._seconds.items()):
            count = sum(number for (name, _), number in self._requests.items() if name == route)
            for bound in BOUNDS_S:
                yield f'ppdl_request_seconds_bucket{{route="{route}",le="{bound:g}"}} {self._buckets[route, bound]}'
            yield f'ppdl_request_seconds_bucket{{route="{route}",le="+Inf"}} {count}'
            yield f'ppdl_request_seconds_sum{{route="{route}"}} {seconds:.6f}'
            yield f'ppdl_request_seconds_count{{route="{route}"}} {count}'


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
