"""Counters in the text format of Prometheus. Nothing in them tells of a user, a key or a result; each process counts for itself.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = ("0.005", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf")
COUNTERS = {
    "ppdl_requests_total": "Requests that were answered.",
    "ppdl_problems_total": "Refusals, by name.",
    "ppdl_images_total": "Images whose logits were computed.",
    "ppdl_body_bytes_total": "Bytes of bodies.",
}


class Metrics:
    """Count requests, images and seconds. Not for several threads: the server counts on its event loop."""

    def __init__(self) -> None:
        self._counts = {name: Counter[str]() for name in COUNTERS}  # by labels
        self._buckets: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}

    def count_request(self, route: str, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count a request that was answered. `route` is a path of the server, never what a client wrote."""
        self._counts["ppdl_requests_total"][f'route="{route}",status="{status}"'] += 1
        self._counts["ppdl_body_bytes_total"]['direction="in"'] += bytes_in
        self._counts["ppdl_body_bytes_total"]['direction="out"'] += bytes_out
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds
        for bound in BOUNDS_S:
            self._buckets[route, bound] += seconds <= float(bound)

    def count_problem(self, name: str) -> None:
        """Count a refusal by its name."""
        self._counts["ppdl_problems_total"][f'name="{name}"'] += 1

    def count_images(self, mode: str, num_images: int) -> None:
        """Count images that were answered."""
        self._counts["ppdl_images_total"][f'mode="{mode}"'] += num_images

    def text(self, *, computing: int) -> str:
        """Return everything in the text format; `computing` queries are in work now."""
        return "\n".join(self._lines(computing)) + "\n"

    def _lines(self, computing: int) -> Iterator[str]:
        for name, text in COUNTERS.items():
            yield _head(name, "counter", text)
            yield from (f"{name}{{{labels}}} {count}" for labels, count in sorted(self._counts[name].items()))
        yield _head("ppdl_computing", "gauge", "Queries in work or waiting for a worker.")
        yield f"ppdl_computing {computing}"
        yield _head("ppdl_request_seconds", "histogram", "Time from the request's first byte to the answer's last.")
        for route, seconds in sorted(self._seconds.items()):
            for bound in BOUNDS_S:
                yield f'ppdl_request_seconds_bucket{{route="{route}",le="{bound}"}} {self._buckets[route, bound]}'
            yield f'ppdl_request_seconds_sum{{route="{route}"}} {seconds:.6f}'
            yield f'ppdl_request_seconds_count{{route="{route}"}} {self._buckets[route, "+Inf"]}'


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}"
