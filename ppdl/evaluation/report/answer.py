"""The answer at a glance: for each run what a network learned, what an attacker got, and what the protection cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ppdl.evaluation.measures.statistics import points

LEVELS = ("unbroken", "leaky", "broken", "in the clear")  # of leakage, in order
HEAD = (
    "run",
    "accuracy, % [95 %]",
    "minus plain, points",
    "best attacker, SSIM (above a blind guess)",
    "bytes a pixel",
    "seconds to protect",
    "utility",
    "leakage",
)
GAP = " &nbsp;&nbsp;| "  # MLflow draws tables without any space between their columns
LEGEND = """\
- **accuracy** (`answer/accuracy`) on the test images, which chose nothing. Compare it with the controls below the table.
- **best attacker, SSIM**: how alike the best rebuilt images are to the originals; 1 is the image itself. Above a blind guess, the mean of
  public images (`answer/attacker_gain`): 0 where no attack rebuilds anything.
- **bytes a pixel** (`answer/bytes_per_pixel`): bytes stored for each byte of the images. **seconds to protect**
  (`answer/protect_seconds`): encryption, filters and decryption together, on the machine that ran them.
- **utility**: against plain at the margin that was set before: non-inferior, inferior, inconclusive, or too few groups (patients) to tell.
- **leakage**: `broken`, the ciphertexts give the images away; `leaky`, what the trainer sees does, or something
  less, such as whose films trained a head; `unbroken`, none of our attacks got anything, which is no proof; `not attacked`, nobody tried.

Tick runs and press *Compare* for everything side by side, or choose the chart symbol for bars. A run's page has its figures (Artifacts) and
what was found in words. Accuracy without leakage says nothing: never quote one alone. Not a medical device."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Say of one run what stands in the tables.

    Attributes:
        found: metrics of the run, as in reports/metrics.json.
        comparison: with plain, as in reports/evaluation/details.json; None for plain.
        verdict: of the audit, as in audit.json; of a run without one, level (in the clear, not attacked) and best_ssim.
        blind_ssim: what a blind guess reaches; None where nobody rebuilt images.
        costs: what the steps before training cost, each with `seconds` and `engine`; None where it is not known.
        bytes_per_pixel: stored bytes for each byte of the images; None where it is not known.
    """

    run: str
    found: Mapping[str, Any]
    comparison: Mapping[str, Any] | None
    verdict: Mapping[str, Any]
    blind_ssim: float | None
    costs: Collection[Mapping[str, Any]] | None
    bytes_per_pixel: float | None

    @property
    def attacker_gain(self) -> float | None:
        """SSIM of the best rebuilt images above that of a blind guess: 0 where the guess is the best; None where nobody rebuilt images."""
        best = self.verdict["best_ssim"]
        return None if best is None or self.blind_ssim is None else best - self.blind_ssim

    @property
    def metrics(self) -> dict[str, float | None]:
        """The figures that MLflow shows first, to the four digits that its columns have room for."""
        figures = {
            "accuracy": self.found["accuracy"],
            "attacker_gain": self.attacker_gain,
            "bytes_per_pixel": self.bytes_per_pixel,
            "protect_seconds": None if self.costs is None else sum(step["seconds"] for step in self.costs),
        }
        return {name: None if value is None else float(f"{value:.4g}") for name, value in figures.items()}

    @property
    def tags(self) -> dict[str, str]:
        """The verdicts, and what encrypted (`ppdl.crypto.arithmetic.engine`): those that there are."""
        utility = [self.comparison["verdict"]] if self.comparison else []
        utility += [self.found["control"]] if "control" in self.found else []
        engines = sorted({step["engine"] for step in self.costs or () if "engine" in step})
        tags = {"utility": ", ".join(utility), "leakage": self.verdict["level"], "engine": ", ".join(engines)}
        return {name: text for name, text in tags.items() if text}

    def row(self, link: str | None = None) -> list[str]:
        """Return the cells of HEAD, the run's name as a link if there is an address."""
        accuracy, low, high = (100 * self.found[f"accuracy{end}"] for end in ("", "_low", "_high"))
        difference = [points(self.comparison[key]) for key in ("difference", "low", "high")] if self.comparison else []
        metrics, tags, best = self.metrics, self.tags, self.verdict["best_ssim"]
        gain = "" if self.attacker_gain is None else f" (+{self.attacker_gain:.2f})"
        forms = {"bytes_per_pixel": ".2f", "protect_seconds": ",.0f" if (metrics["protect_seconds"] or 0) >= 1000 else ".3g"}
        return [
            f"[{self.run}]({link})" if link else self.run,
            f"{accuracy:.1f} [{low:.1f}, {high:.1f}]",
            "{} [{}, {}]".format(*difference) if difference else "",
            "" if best is None else f"{best:.2f}{gain}",
            *("" if (value := metrics[name]) is None else format(value, form) for name, form in forms.items()),
            tags.get("utility", ""),
            tags["leakage"],
        ]


def summary_metric(answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Return {figure: {run: number}}, what DVC compares between experiments; `leakage` is the place in LEVELS; the unknown is left out."""
    table: dict[str, dict[str, float | None]] = {
        "accuracy": {answer.run: answer.found["accuracy"] for answer in answers},
        "accuracy_low": {answer.run: answer.found["accuracy_low"] for answer in answers},
        "accuracy_high": {answer.run: answer.found["accuracy_high"] for answer in answers},
        "attacker_gain": {answer.run: answer.attacker_gain for answer in answers},
        "leakage": {answer.run: LEVELS.index(level) if (level := answer.verdict["level"]) in LEVELS else None for answer in answers},
    }
    return {name: {run: float(f"{value:.4g}") for run, value in row.items() if value is not None} for name, row in table.items()}


def glance(
    answers: Sequence[Answer], baselines: Mapping[str, Mapping[str, Any]], *, links: Mapping[str, str], dataset: str, origin: str
) -> str:
    """Return the answers as Markdown: a first line that stands alone, a table, the controls, how to read the columns.

    Args:
        baselines: by name, with `accuracy`.
        links: by run, the address of its page.
        dataset: name of the data set. origin: what was evaluated, in a few words.
    """
    levels = ", ".join(f"{count} {level}" for level, count in Counter(answer.verdict["level"] for answer in answers).items())
    first = f"{answers[0].found['num_images']:,} test images of {dataset}, {len(answers)} runs: {levels}"  # no more fits on MLflow's page
    controls = ", ".join(f"{name} {100 * found['accuracy']:.1f} %" for name, found in baselines.items())
    head, *rows = (f"| {GAP.join(cells)} |" for cells in (HEAD, *(found.row(links.get(found.run)) for found in answers)))
    table = "\n".join([head, "|---" * len(HEAD) + "|", *rows])
    return f"**Accuracy beside leakage.** {first}.\n\n{table}\n\nControls: {controls}. {origin}\n\n{LEGEND}"
