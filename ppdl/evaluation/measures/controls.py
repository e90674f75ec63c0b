"""Negative controls: a network fed with IND-CPA ciphertexts must stay at chance, for otherwise something leaks.

One in 10,000 sound controls fails the test by bad luck. Still a control that failed stays failed for the artifact that its network was fed
with, whatever is trained or drawn anew: who may try again until it passes has no control. So the failure is written to `RECORD`, by the
SHA-256 of the artifact's header, before anything else is done; the file is no output of a stage, and lies with the metrics in git. A repeat
under a second key says whether another artifact fails too. A new artifact is a new control.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ppdl.errors import DataError, LeakError
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE, CANNOT_TELL, PermutationResult
from ppdl.records.atomic import replacing

RECORD = "reports/failed_controls.json"
FAILED_BEFORE = "beat chance before"


@dataclass(frozen=True)
class Control:
    """Hold what is known of one negative control.

    Attributes:
        name: the run's.
        result: of `permutation_test` on its test predictions.
        failed_p: p-value with which the control failed for this artifact, now or before; None where it never did.
    """

    name: str
    result: PermutationResult
    failed_p: float | None

    @property
    def verdict(self) -> str:
        """Say that of the test, or FAILED_BEFORE. The control has passed where it is AT_CHANCE, and nowhere else."""
        if self.failed_p is not None and self.result.verdict != BEATS_CHANCE:
            return FAILED_BEFORE
        return self.result.verdict

    @property
    def figures(self) -> dict[str, float | bool | str]:
        """Return what reports/metrics.json holds of it."""
        found = self.result
        return {
            "control": self.verdict,
            "at_chance": self.verdict == AT_CHANCE,
            "permutation_p": found.p_value,
            "permutation_best_p": found.best_p,
        }

    @property
    def remark(self) -> str:
        """Return the line below the table of results."""
        best = f" (knowing all: {self.result.best_p:.2g})" if self.verdict == CANNOT_TELL else ""
        before = f" (with p = {self.failed_p:.2g}, on this artifact)" if self.verdict == FAILED_BEFORE else ""
        return f"{self.verdict}{before}, p = {self.result.p_value:.2g}{best}, level {self.result.alpha:g}"


def remember(name: str, result: PermutationResult, *, header: Path, record: Path) -> Control:
    """Return the control with what `record` knows of its artifact, after adding a failure to it.

    Args:
        header: header.json of the artifact that the network was fed with.
        record: file of all failures, see `RECORD`.

    Raises:
        DataError: the header is missing, or the record is damaged.
    """
    try:
        artifact = hashlib.sha256(header.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{header} of the control {name} cannot be read ({error.strerror}): run `dvc repro` to encrypt again") from None
    failures = _read(record)
    if result.verdict == BEATS_CHANCE and artifact not in failures:
        record.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(record.with_suffix(".lock")):  # cross-validations and queued experiments may fail at once
            failures = _read(record)
            failures.setdefault(artifact, {"run": name, "p": result.p_value})
            with replacing(record) as temporary:
                temporary.write_text(json.dumps(failures, indent=1) + "\n", encoding="utf-8")
    return Control(name, result, failures[artifact]["p"] if artifact in failures else None)


def settle_control(control: Control, repeat: Callable[[], PermutationResult]) -> str:
    """Decide on a control, repeating the experiment under a second key where it fails now.

    Args:
        repeat: encrypts, trains and tests again under a key of its own.

    Returns:
        The finding in words, of a control that did not fail.

    Raises:
        LeakError: it failed, now or before.
    """
    if control.failed_p is None:
        return control.result.sentence
    advice = (
        f"do not use any result of these ciphertexts. {RECORD} keeps the failure, for this artifact; if no cause is found, "
        "encrypt again, for a new control"
    )
    if control.verdict == FAILED_BEFORE:
        raise LeakError(
            f"the negative control {control.name} beat chance before, on this very artifact (p = {control.failed_p:.2g}), and another "
            f"training does not undo that: {advice}. {control.result.sentence}"
        )
    second = repeat()
    other = "and so does another artifact" if second.verdict == BEATS_CHANCE else "another artifact does not, which undoes nothing"
    raise LeakError(
        f"the negative control {control.name} beats chance (p = {control.result.p_value:.2g}); under a second key {other} "
        f"(p = {second.p_value:.2g}). So its ciphertexts leak, but for bad luck once in {1 / control.result.alpha:,.0f}: look for an "
        f"obfuscator that is used twice, or for a label that reaches the view by its order or size; {advice}. "
        f"{control.result.sentence} {second.sentence}"
    )


def _read(record: Path) -> dict[str, dict[str, Any]]:
    try:
        failures = json.loads(record.read_text(encoding="utf-8"))
        if not all(isinstance(found["p"], float) for found in failures.values()):
            raise TypeError("p must be a number")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} must hold the controls that failed, and cannot be read ({error}): restore it from git") from None
    return dict(failures)
