"""The table of results, for the terminal and for Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from ppdl.evaluation.measures.statistics import INCONCLUSIVE, INFERIOR, NON_INFERIOR, TOO_FEW, points
from ppdl.evaluation.report.summary import BASELINES, BORDER, Summary

COLORS = {NON_INFERIOR: "green", INCONCLUSIVE: "yellow", INFERIOR: "red", TOO_FEW: "yellow"}
TEXTS = ("run", "verdict")
MIN_WIDTHS = (14, 11, 5, 5, 5, 13, 12)  # below these an interval or "deterministic-" would be broken; with gaps, less than 80
BASELINE_NAMES = {BORDER: "border only", "chance": "chance"}


def columns(summary: Summary) -> list[str]:
    """Return the headings; the columns of comparisons come only if there are any."""
    names = ["run", "accuracy, %", "macro F1", "AUROC", "ECE"]
    return names + ([f"minus {summary.reference}, points", "verdict"] if summary.comparisons else [])


def rows(summary: Summary) -> list[list[str]]:
    """Return one row a run, then the baselines, each as long as `columns`."""
    table = [_row(summary, run, run, result) for run, result in summary.runs.items()]
    ordered = [name for name in BASELINE_NAMES if name in summary.baselines]
    return table + [_row(summary, name, BASELINE_NAMES[name], summary.baselines[name]) for name in ordered]


def results_table(summary: Summary) -> Table:
    """Return the table for `rich.print`: baselines below a line, verdicts coloured, remarks underneath.

    At 80 characters, the width of what is no terminal, intervals go to a second line.
    """
    table = Table(
        title="Test set",
        title_justify="left",
        title_style="bold",
        caption=escape("\n".join([*_remarks(summary), _method(summary)])),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    names = columns(summary)
    for name, width in zip(names, MIN_WIDTHS, strict=False):
        heading = name.replace(", ", ",\n").replace("macro ", "macro\n")
        table.add_column(heading, justify="left" if name in TEXTS else "right", overflow="fold", min_width=width, vertical="top")
    for number, row in enumerate(rows(summary)):
        cells = [escape(cell.replace(", ", ",")) for cell in row]  # an interval has no space inside, so that it is not broken there
        if summary.comparisons and row[-1]:
            cells[-1] = f"[{COLORS[row[-1]]}]{row[-1]}[/]"
        table.add_row(*cells, end_section=number == len(summary.runs) - 1, style="" if number < len(summary.runs) else "dim")
    return table


def external_table(name: str, there: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of what every run made of another hospital's films, as reports/external.json has it, for `rich.print`."""
    table = Table(title=f"{name}: another hospital", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("run", "accuracy, %", "drop, points", "ECE, calibrated"):
        table.add_column(heading, justify="left" if heading in TEXTS else "right")
    baselines = {BASELINE_NAMES[key]: found for key, found in there[BASELINES].items()}
    for run, found in ({key: value for key, value in there.items() if key != BASELINES} | baselines).items():
        ends = [[found.get(f"{key}{end}") for end in ("", "_low", "_high")] for key in ("accuracy", "accuracy_drop")]
        ece = found.get("ece_calibrated")
        cells = _with_ends(ends[0], _percent), _with_ends(ends[1], points), "" if ece is None else f"{ece:.3f}"
        table.add_row(escape(run), *map(escape, cells))
    return table


def markdown(summary: Summary) -> str:
    """Return the table, the comparisons in words, the remarks and the method as Markdown."""
    names = columns(summary)
    lines = [names, ["---" if name in TEXTS else "---:" for name in names], *rows(summary)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    sentences = "\n".join(f"- {text}" for text in [*(found.sentence for found in summary.comparisons.values()), *_remarks(summary)])
    return "\n\n".join(part for part in ("# Results", table, sentences, _method(summary)) if part) + "\n"


def _row(summary: Summary, name: str, title: str, result: Mapping[str, Any]) -> list[str]:
    cells = [title, _with_ends([result.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high")], _percent)]
    cells += ["" if result.get(key) is None else f"{result[key]:.3f}" for key in ("macro_f1", "auroc", "ece")]
    if not summary.comparisons:
        return cells
    found = summary.comparisons.get(name)
    return [*cells, _with_ends([found.difference, found.low, found.high], points), found.verdict] if found else [*cells, "", ""]


def _with_ends(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    """Write "95.2 [94.0, 96.3]", without the brackets where there is no interval."""
    estimate, *ends = ["" if value is None else write(value) for value in values]
    return f"{estimate} [{', '.join(ends)}]" if all(ends) else estimate


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _remarks(summary: Summary) -> list[str]:
    return [f"{run}: {remark}" for run, remark in summary.remarks.items() if remark]


def _method(summary: Summary) -> str:
    uniform = summary.baselines["chance"]["uniform_accuracy"]
    text = f"{summary.method} Chance: always the most frequent class; guessing evenly gives {_percent(uniform)} %."
    return text + " Border only: a linear probe on the outer tenth of the images." * (BORDER in summary.baselines)
