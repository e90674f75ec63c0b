"""Everything that is known of some runs on the same test images: metrics, baselines, comparisons."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.measures.baselines import chance
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.measures.statistics import NON_INFERIOR, Comparison, compare
from ppdl.evaluation.predictions.calibration import CALIBRATED, calibrated
from ppdl.evaluation.predictions.intervals import CONFIDENCE
from ppdl.evaluation.predictions.predictions import Predictions, check_same_images

BORDER = "border"
BASELINES = "baselines"
CALIBRATED_METRICS = ("ece", "brier", "log_loss")  # what judges probabilities; a temperature changes no prediction
NESTED = ("per_class", "confusion")


@dataclass(frozen=True)
class Yardsticks:
    """Say which plain runs others are compared with.

    Attributes:
        strongest: Of any input size, as validation chose it.
        same_size: By run that hides something, the plain run of its input size.
        input_px: By run, the side of its images, None where it is chosen by training.
    """

    strongest: str
    same_size: Mapping[str, str]
    input_px: Mapping[str, int | None]


@dataclass(frozen=True)
class Summary:
    """Hold all that was computed from the predictions of some runs on the same test images.

    Attributes:
        runs: By run name, what `evaluate` returned.
        baselines: `chance`, and `border` where its predictions were given.
        comparisons: By run name, against `reference`, or the plain run of its input size; empty if that run is missing.
        to_strongest: By run name, against the strongest plain run; empty without yardsticks.
        remarks: By run name, a few words for the line below the table, such as "at chance, p = 0.5".
        reference: The run that others are compared with.
        class_names: In the order of the labels.
        method: How the intervals came about, in words.
        yardsticks: None: `reference` is the only one.
    """

    runs: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, Any]]
    comparisons: dict[str, Comparison]
    to_strongest: dict[str, Comparison]
    remarks: dict[str, str]
    reference: str
    class_names: tuple[str, ...]
    method: str
    yardsticks: Yardsticks | None

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return the flat figures by run, with the difference to the reference, and the baselines under their own key."""
        by_run = {run: _flat(result) | self._difference(run) for run, result in self.runs.items()}
        return by_run | {BASELINES: {name: _flat(result) for name, result in self.baselines.items()}}

    @property
    def details(self) -> dict[str, Any]:
        """Return figures by class, confusion matrices, and the comparisons in full and in words."""
        tested = self.runs | {name: result for name, result in self.baselines.items() if NESTED[0] in result}
        nested = {name: {part: result[part] for part in NESTED} for name, result in tested.items()}
        found = {"comparisons": self.comparisons} | ({"to_strongest": self.to_strongest} if self.yardsticks else {})
        written = {
            name: {run: asdict(comparison) | {"verdict": comparison.verdict} for run, comparison in of.items()}
            for name, of in found.items()
        }
        yardsticks = {"yardsticks": asdict(self.yardsticks)} if self.yardsticks else {}
        return {"method": self.method, "reference": self.reference} | written | yardsticks | {"runs": nested}

    def _difference(self, run: str) -> dict[str, Any]:
        """Return the flat keys of a comparison, such as minus_plain, or nothing."""
        strongest = {}
        if run in self.to_strongest:
            pair = self.to_strongest[run]
            strongest = {"minus_strongest": pair.difference, "minus_strongest_low": pair.low, "minus_strongest_high": pair.high}
        if run not in self.comparisons:
            return strongest
        found, name = self.comparisons[run], f"minus_{self.reference}"
        return strongest | {
            name: found.difference,
            f"{name}_low": found.low,
            f"{name}_high": found.high,
            "mcnemar_p": found.mcnemar_p,
            "mcnemar_mid_p": found.mcnemar_mid_p,
            "non_inferior": found.verdict == NON_INFERIOR,
        }


def summarise(
    runs: Mapping[str, Predictions],
    *,
    margin: float,
    reference: str = "plain",
    remarks: Mapping[str, str] | None = None,
    temperatures: Mapping[str, float] | None = None,
    yardsticks: Yardsticks | None = None,
) -> Summary:
    """Evaluate every run and compare it with the reference, or with the plain runs that `yardsticks` names.

    Args:
        runs: By run name, in the order of the tables; all of the same images in the same order. The name `border` is kept for the
            predictions of the border-only probe, which become a baseline.
        margin: Loss of accuracy that is still acceptable, as a share.
        reference: Run that the others are compared with; if it is missing, nothing is compared.
        remarks: By run name, a few words for the line below the table.
        temperatures: By run name, what validation images gave (`calibration`). The run's result then has `temperature`, and beside ece,
            brier and log_loss those of its calibrated probabilities: ece_calibrated, ece_calibrated_low and so on.
        yardsticks: Then runs that hide nothing are compared with the strongest alone.

    Raises:
        DataError: There is no run, or the runs are not of the same images in the same order.
        ConfigError: A run's name cannot name a file, or a parameter is out of range.
    """
    trained = {name: predictions for name, predictions in runs.items() if name != BORDER}
    if not trained:
        raise DataError("there is nothing to report: no run was evaluated; train at least one")
    for name in runs:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or name == BASELINES:
            raise ConfigError(f"a run's name names a file too: letters, digits, _ . -, and not {BASELINES!r}; got {name!r}")
    first_name, first = next(iter(trained.items()))
    for name, predictions in runs.items():
        check_same_images(first, predictions, names=(first_name, name))

    found = {name: evaluate(predictions) for name, predictions in runs.items()}
    for name, temperature in (temperatures or {}).items():
        after = evaluate(calibrated(runs[name], temperature))
        found[name] |= {"temperature": temperature} | {
            f"{metric}{CALIBRATED}{end}": after[f"{metric}{end}"] for metric in CALIBRATED_METRICS for end in ("", "_low", "_high")
        }
    baselines = {"chance": chance(first.labels, len(first.class_names))}
    if BORDER in found:
        baselines[BORDER] = found.pop(BORDER)
    against = {name: reference for name in trained if name != reference} if reference in trained else {}
    strongest = {}
    if yardsticks is not None:
        against = {name: yardsticks.same_size[name] for name in trained if name in yardsticks.same_size}
        strongest = {name: yardsticks.strongest for name in trained if name != yardsticks.strongest}
    pairs = [
        {name: compare(trained[other], trained[name], names=(other, name), margin=margin) for name, other in of.items()}
        for of in (against, strongest)
    ]
    return Summary(
        runs=found,
        baselines=baselines,
        comparisons=pairs[0],
        to_strongest=pairs[1],
        remarks=dict(remarks or {}),
        reference=reference,
        class_names=first.class_names,
        method=_method(first, found, found[first_name]["num_groups"]),
        yardsticks=yardsticks,
    )


def _method(first: Predictions, found: Mapping[str, Mapping[str, Any]], num_groups: int) -> str:
    """Say how the intervals came about, and what they hold for."""
    seeds = max(result.get("num_seeds", 1) for result in found.values())
    text = f"{len(first):,} test images in {num_groups:,} groups. Intervals: {100 * CONFIDENCE:g} %, by a jackknife over groups"
    if seeds == 1:
        return f"{text}. They hold for these trained networks: what another training seed would change is not in them."
    return (
        f"{text} and {seeds} training seeds a fold (Obuchowski and Rockette): they hold for other films and other seeds. A training that "
        "draws nothing has one. Figures are means over seeds, curves of the first."
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in NESTED}
