"""The model card of a registered model: what it is for, what it is not for, and every figure with its control. Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ppdl.tracking.registry.candidates import Candidate
from ppdl.tracking.registry.models import MAX_DESCRIPTION
from ppdl.tracking.runs.redact import guard, shorten
from ppdl.tracking.runs.spec import NOTE

# Name in MLflow, in words; with an interval where evaluation gave one.
METRICS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("auroc", "AUROC"),
    ("ece", "calibration error (ECE)"),
    ("brier", "Brier score"),
)
CONTROLS = (("border_accuracy", "a probe on the borders alone"), ("chance_accuracy", "chance"))
SETTINGS = ("input_px", "prepared_px", "seed", "model.", "training.")


def model_card(candidate: Candidate) -> str:
    """Write the card of a run.

    Raises:
        TrackingError: a text looks like key material.

    Returns:
        Markdown of at most 5000 characters, which is what MLflow's tables hold; the training configuration is cut first.
    """
    sections = [
        "**Not a medical device.** Research software: not for diagnosis, triage or any decision about a patient.",
        _intent(candidate),
        _data(candidate),
        _figures(candidate),
        _leakage(candidate),
        _origin(candidate),
    ]
    text = "\n\n".join(sections)
    room = MAX_DESCRIPTION - len(text) - 2
    return guard(f"{text}\n\n{shorten(_settings(candidate), room)}", "model card")


def _intent(candidate: Candidate) -> str:
    meta = candidate.metadata
    classes = ", ".join(meta["class_names"])
    return (
        f"### Intended use\nResearch on learning from protected chest X-rays: which of {classes} an image belongs to, in a collection like "
        f"the training data. Trained on protection `{meta['protection']}`, view `{meta['view']}`; input: raw PNG, JPEG or DICOM, brought "
        f"to {meta['prepared_px']} px and then {meta['input_px']} px by area mean.\n\n"
        "### Limits\nOne collection, one split, one training seed. In such collections class goes with source (markers, letters, age): "
        "compare with the probe on the borders below. Other hospitals, devices, projections, children: not tested. An image of none of "
        "these classes still gets one of them. A server for raw images sees them in the clear."
    )


def _data(candidate: Candidate) -> str:
    counts = ", ".join(f"{count} {name.removeprefix('num_')}" for name, count in json.loads(candidate.dataset["profile"]).items())
    return f"### Data\n`{candidate.dataset['name']}`: {counts} images. Data and split `{candidate.run.tags['data_sha256'][:16]}`."


def _figures(candidate: Candidate) -> str:
    metrics = candidate.run.metrics
    rows = [f"| {words} | {_with_interval(metrics, name)} |" for name, words in METRICS if f"test/{name}" in metrics]
    rows += [f"| control: {words}, accuracy | {_number(metrics, f'test/{name}')} |" for name, words in CONTROLS]
    known = len(rows) > len(CONTROLS)
    head = (
        "### Figures\nOn the test images, with 95 % intervals over groups; they did not choose this run."
        if known
        else ("### Figures\nNot evaluated on the test images yet: run `dvc repro`, then `ppdl model register` again.")
    )
    table = ["", "| | |", "|---|---|", *rows] if known else []
    chosen = f"Chosen by the log loss on the validation images, {candidate.log_loss:.4f}."
    return "\n".join([head, *table, "", chosen])


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    ends = [metrics.get(f"test/{name}_{end}") for end in ("low", "high")]
    interval = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    return f"{_number(metrics, f'test/{name}')}{interval}"


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else "not measured"


def _leakage(candidate: Candidate) -> str:
    note = candidate.run.tags.get(NOTE, "")
    found = next((line for line in note.splitlines() if line.startswith("**Leakage")), "Not attacked yet: run `dvc repro`.")
    fingerprint = candidate.metadata["key_fingerprint"]
    key = f"Only for the public key `{fingerprint}`; others are refused." if fingerprint else "No key: the trainer saw the images."
    return f"### Protection\n{found}\n\n{key}"


def _origin(candidate: Candidate) -> str:
    run, tags = candidate.run, candidate.run.tags
    commit = tags.get("git.commit", "unknown")
    dirty = " with changes that were not committed" if tags.get("git.dirty") == "true" else ""
    return f"### Origin\nRun `{run.name}` ({run.run_id}), commit `{commit}`{dirty}, ppdl {tags.get('ppdl.version', 'unknown')}."


def _settings(candidate: Candidate) -> str:
    chosen: Sequence[str] = [f"{name}={value}" for name, value in sorted(candidate.run.params.items()) if name.startswith(SETTINGS)]
    return "### Training\n" + ", ".join(f"`{row}`" for row in chosen if "_target_" not in row)
