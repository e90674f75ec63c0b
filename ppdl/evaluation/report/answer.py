"""The answer at a glance: for each run what a network learned, what an attacker got, and what the protection cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ppdl.evaluation.measures.statistics import points

IN_THE_CLEAR = "in the clear"
HEAD = (
    "run",
    "accuracy, % [95 %]",
    "minus plain, points",
    "best attacker, SSIM",
    "bytes a pixel",
    "seconds to protect",
    "utility",
    "leakage",
)
GAP = " &nbsp;&nbsp;| "  # MLflow draws tables without any space between their columns
LEGEND = """\
- **accuracy** (`answer/accuracy`) on the test images, which chose nothing. Compare it with the controls below the table.
- **best attacker, SSIM** (`answer/attacker_ssim`): how alike the best rebuilt images are to the originals; 1 is the image itself. What a
  blind guess reaches is in `audit/blind_ssim`.
- **bytes a pixel** (`answer/bytes_per_pixel`): bytes stored for each byte of the images. **seconds to protect**
  (`answer/seconds_to_protect`): encryption, filters and decryption together, on the machine that ran them.
- **utility**: against plain at the margin that was set before: non-inferior, inferior, inconclusive, or too few groups (patients) to tell.
- **leakage**: `broken`, the ciphertexts give the images away; `leaky`, what the trainer sees does, or something less; `unbroken`, none of
  our attacks got anything, which is no proof.

Tick runs and press *Compare* for everything side by side, or choose the chart symbol for bars. A run's page has its figures (Artifacts) and
what was found in words. Accuracy without leakage says nothing: never quote one alone. Not a medical device."""


@dataclass(frozen=True)
class Answer:
    """Hold what is said of one run.

    Attributes:
        accuracy, low, high: on the test images, shares.
        difference: to plain and the ends of its interval, shares; None for plain.
        utility: verdict on the difference, "" for plain.
        attacker_ssim: of the best rebuilt images; None where no attack rebuilt any.
        leakage: level of the audit's verdict.
        bytes_per_pixel: stored bytes for each byte of the images; None where it is not known.
        seconds_to_protect: wall time of all steps before training; None where it is not known.
    """

    run: str
    accuracy: float
    low: float
    high: float
    difference: tuple[float, float, float] | None
    utility: str
    attacker_ssim: float | None
    leakage: str
    bytes_per_pixel: float | None
    seconds_to_protect: float | None
    engine: str

    @property
    def metrics(self) -> dict[str, float | None]:
        """The figures that MLflow shows first, to the four digits that its columns have room for."""
        found = {name: getattr(self, name) for name in ("accuracy", "attacker_ssim", "bytes_per_pixel", "seconds_to_protect")}
        return {name: None if value is None else float(f"{value:.4g}") for name, value in found.items()}

    @property
    def tags(self) -> dict[str, str]:
        """The verdicts, and what encrypted (`ppdl.crypto.arithmetic.engine`): those that there are."""
        return {name: text for name, text in (("utility", self.utility), ("leakage", self.leakage), ("engine", self.engine)) if text}

    def row(self, link: str | None = None) -> list[str]:
        """Return the cells of HEAD, the run's name as a link if there is an address."""
        return [
            f"[{self.run}]({link})" if link else self.run,
            f"{100 * self.accuracy:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]",
            "" if self.difference is None else "{} [{}, {}]".format(*map(points, self.difference)),
            "" if self.attacker_ssim is None else f"{self.attacker_ssim:.2f}",
            "" if self.bytes_per_pixel is None else f"{self.bytes_per_pixel:.2f}",
            "" if self.seconds_to_protect is None else f"{self.seconds_to_protect:.3g}",
            self.utility,
            self.leakage,
        ]


def answer(
    run: str,
    metrics: Mapping[str, Any],
    comparison: Mapping[str, Any] | None,
    audit_verdict: Mapping[str, Any] | None,
    costs: Iterable[Mapping[str, Any]] | None,
    *,
    bytes_per_pixel: float | None,
) -> Answer:
    """Put the figures of a run together.

    Args:
        metrics: of the run, as in reports/metrics.json.
        comparison: with plain, as in reports/evaluation/details.json; None for plain.
        audit_verdict: as in audit.json; None where the trainer sees the images.
        costs: what the steps before training cost, each with `seconds` and `engine`; None where it is not known.
        bytes_per_pixel: None where it is not known.
    """
    verdict = audit_verdict or {"best_ssim": 1.0, "level": IN_THE_CLEAR}
    steps = list(costs or ())
    chance = f", {metrics['control']}" if "control" in metrics else ""
    return Answer(
        run=run,
        accuracy=metrics["accuracy"],
        low=metrics["accuracy_low"],
        high=metrics["accuracy_high"],
        difference=(comparison["difference"], comparison["low"], comparison["high"]) if comparison else None,
        utility=comparison["verdict"] + chance if comparison else "",
        attacker_ssim=verdict["best_ssim"],
        leakage=verdict["level"],
        bytes_per_pixel=bytes_per_pixel,
        seconds_to_protect=None if costs is None else float(sum(step["seconds"] for step in steps)),
        engine=", ".join(sorted({step["engine"] for step in steps if "engine" in step})),
    )


def glance(answers: Sequence[Answer], baselines: Mapping[str, Mapping[str, Any]], *, links: Mapping[str, str], origin: str) -> str:
    """Return the answers as Markdown: a first line that stands alone, a table, the controls, how to read the columns.

    Args:
        baselines: by name, with `accuracy`.
        links: by run, the address of its page.
        origin: what was evaluated, in a few words.
    """
    first = "; ".join(f"{found.run}: {100 * found.accuracy:.1f} %, {found.leakage}" for found in answers)
    controls = ", ".join(f"{name} {100 * found['accuracy']:.1f} %" for name, found in baselines.items())
    head, *rows = (f"| {GAP.join(cells)} |" for cells in (HEAD, *(found.row(links.get(found.run)) for found in answers)))
    table = "\n".join([head, "|---" * len(HEAD) + "|", *rows])
    return f"**Accuracy beside leakage.** {first}.\n\n{table}\n\nControls: {controls}. {origin}\n\n{LEGEND}"
