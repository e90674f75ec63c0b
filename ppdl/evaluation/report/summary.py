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
class Summary:
    """Hold all that was computed from the predictions of some runs on the same test images.

    Attributes:
        runs: By run name, what `evaluate` returned.
        baselines: `chance`, and `border` where its predictions were given.
        comparisons: By run name, against `reference`; empty if that run is missing.
        remarks: By run name, a few words for the line below the table, such as "at chance, p = 0.5".
        reference: The run that others are compared with.
        class_names: In the order of the labels.
        method: How the intervals came about, in words.
    """

    runs: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, Any]]
    comparisons: dict[str, Comparison]
    remarks: dict[str, str]
    reference: str
    class_names: tuple[str, ...]
    method: str

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
        comparisons = {run: asdict(comparison) | {"verdict": comparison.verdict} for run, comparison in self.comparisons.items()}
        return {"method": self.method, "reference": self.reference, "comparisons": comparisons, "runs": nested}

    def _difference(self, run: str) -> dict[str, Any]:
        """Return the flat keys of a comparison, such as minus_plain, or nothing."""
        if run not in self.comparisons:
            return {}
        found, name = self.comparisons[run], f"minus_{self.reference}"
        return {
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
) -> Summary:
    """Evaluate every run and compare it with the reference.

    Args:
        runs: By run name, in the order of the tables; all of the same images in the same order. The name `border` is kept for the
            predictions of the border-only probe, which become a baseline.
        margin: Loss of accuracy that is still acceptable, as a share.
        reference: Run that the others are compared with; if it is missing, nothing is compared.
        remarks: By run name, a few words for the line below the table.
        temperatures: By run name, what validation images gave (`calibration`). The run's result then has `temperature`, and beside ece,
            brier and log_loss those of its calibrated probabilities: ece_calibrated, ece_calibrated_low and so on.

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
    others = {name: predictions for name, predictions in trained.items() if reference in trained and name != reference}
    return Summary(
        runs=found,
        baselines=baselines,
        comparisons={name: compare(trained[reference], run, names=(reference, name), margin=margin) for name, run in others.items()},
        remarks=dict(remarks or {}),
        reference=reference,
        class_names=first.class_names,
        method=(
            f"{len(first):,} test images in {found[first_name]['num_groups']:,} groups. Intervals: {100 * CONFIDENCE:g} %, by a "
            "jackknife over groups. They hold for these trained networks: what another training seed would change is not in them."
        ),
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in NESTED}
