"""The table of results, for the terminal and for Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from ppdl.evaluation.measures.statistics import INCONCLUSIVE, INFERIOR, NON_INFERIOR, TOO_FEW, Comparison, points
from ppdl.evaluation.report.summary import BASELINES, BORDER, Summary

COLORS = {NON_INFERIOR: "green", INCONCLUSIVE: "yellow", INFERIOR: "red", TOO_FEW: "yellow"}
TEXTS = ("run", "verdict")
MIN_WIDTHS = (14, 11, 5, 5, 5, 13, 12)  # below these an interval or "deterministic-" would be broken; with gaps, less than 80
YARDSTICK_HEAD = (
    "run",
    "px",
    "minus the strongest",
    "plain of its size",
    "that minus the strongest: size",
    "run minus that: hiding",
    "verdict",
)
SEED_METRICS = ("accuracy", "macro_f1", "auroc", "ece")
SEED_HEAD = ("run", "seeds", "accuracy", "macro F1", "AUROC", "ECE", "minus plain of its size", "minus the strongest")
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


def external_table(name: str, there: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Return the table of what every run made of another hospital's films, as reports/external.json has it, for `rich.print`."""
    baselines = {BASELINE_NAMES[key]: found for key, found in there[BASELINES].items()}
    cells = []
    for run, found in ({key: value for key, value in there.items() if key != BASELINES} | baselines).items():
        ends = [[found.get(f"{key}{end}") for end in ("", "_low", "_high")] for key in ("accuracy", "accuracy_drop")]
        ece = found.get("ece_calibrated")
        cells.append([run, _with_ends(ends[0], _percent), _with_ends(ends[1], points), "" if ece is None else f"{ece:.3f}"])
    return _table(f"{name}: another hospital", ("run", "accuracy, %", "drop, points", "ECE, calibrated"), cells)


def markdown(summary: Summary) -> str:
    """Return the table, the comparisons in words, the remarks and the method as Markdown."""
    names = columns(summary)
    table = _markdown_table(names, ["---" if name in TEXTS else "---:" for name in names], rows(summary))
    compared = [*summary.comparisons.values(), *summary.to_strongest.values()]
    sentences = "\n".join(f"- {text}" for text in [*(found.sentence for found in compared), *_remarks(summary)])
    further = [
        f"## {title}\n\n" + _markdown_table(head, ["---"] * len(head), cells)
        for title, head, cells in (
            ("Two yardsticks", YARDSTICK_HEAD, yardstick_rows(summary)),
            ("Films and seeds", SEED_HEAD, seed_rows(summary)),
        )
        if cells
    ]
    return "\n\n".join(part for part in ("# Results", table, *further, sentences, _method(summary)) if part) + "\n"


def yardstick_rows(summary: Summary) -> list[list[str]]:
    """Return a row for each run that is compared with the strongest plain: what it loses to that, and how much of it is the input size's.

    The difference to the strongest is the sum of two: the plain run of its size minus the strongest, and the run minus that plain run.
    """
    if summary.yardsticks is None:
        return []
    found, yardsticks = [], summary.yardsticks
    for name, pair in summary.to_strongest.items():
        own, px = yardsticks.same_size.get(name), yardsticks.input_px.get(name)
        parts = ["", "", ""]
        if own is not None:
            size = "0.0" if own == yardsticks.strongest else _pair(summary.to_strongest[own])
            parts = [own, size, _pair(summary.comparisons[name])]
        found.append([name, "any" if px is None else f"{px}", _pair(pair), *parts, pair.verdict])
    return found


def seed_rows(summary: Summary) -> list[list[str]]:
    """Return for each run with several seeds which part of a variance is the seeds', in percent; the rest is the films'."""
    found = []
    for name, result in summary.runs.items():
        pairs = (summary.comparisons.get(name), summary.to_strongest.get(name))
        shares = [result.get(f"{metric}_seed_share") for metric in SEED_METRICS] + [pair.seed_share if pair else None for pair in pairs]
        if any(share is not None for share in shares):
            found.append([name, f"{result.get('num_seeds', 1)}", *("" if share is None else f"{100 * share:.0f}" for share in shares)])
    return found


def yardstick_table(summary: Summary) -> Table | None:
    """Return `yardstick_rows` for `rich.print`."""
    caption = f"The strongest: {summary.yardsticks.strongest}." if summary.yardsticks else ""
    cells = [[cell.replace(", ", ",") for cell in row] for row in yardstick_rows(summary)]  # or intervals would be broken
    return _table("Two yardsticks, points [95 %]", YARDSTICK_HEAD, cells, caption)


def variance_table(summary: Summary) -> Table | None:
    """Return `seed_rows` for `rich.print`."""
    return _table("Training seeds' part of the variance, %", SEED_HEAD, seed_rows(summary), "The rest is the films'.")


def validation_table(found: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return for `rich.print` what validation films said of runs and candidates, best first."""
    head = ("run", "image", "log loss", "accuracy, %", "chosen", "core minutes")
    cells = [
        [
            row["run"],
            " ".join(filter(None, (row["kind"], f"{row['input_px']} px", "flips" * bool(row["flips"])))),
            f"{row['val_log_loss']:.3f}",
            _percent(row["val_accuracy"]),
            f"{row['chosen']} of {row['num_trainings']}",
            f"{row['core_minutes']:.1f}",
        ]
        for row in found
    ]
    return _table("Validation films, means over folds and seeds", head, cells, "Core minutes: of all trainings of the run.")


def _pair(found: Comparison) -> str:
    return _with_ends([found.difference, found.low, found.high], points)


def _table(title: str, head: Sequence[str], cells: Sequence[Sequence[str]], caption: str = "") -> Table | None:
    if not cells:
        return None
    left: dict[str, Any] = {"title_justify": "left", "caption_justify": "left", "title_style": "bold", "pad_edge": False}
    table = Table(title=title, caption=caption or None, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), **left)
    for name in head:
        table.add_column(name, justify="left" if name in (*TEXTS, "image", "plain of its size") else "right", overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def _markdown_table(head: Sequence[str], sides: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, sides, *cells))


def _row(summary: Summary, name: str, title: str, result: Mapping[str, Any]) -> list[str]:
    cells = [title, _with_ends([result.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high")], _percent)]
    figures = [result.get("macro_f1"), result.get("auroc"), result.get("ece_calibrated", result.get("ece"))]
    cells += ["" if value is None else f"{value:.3f}" for value in figures]
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
    text += " Border only: a linear probe on the outer tenth of the images." * (BORDER in summary.baselines)
    return text + " ECE: after calibration on validation images." * any("ece_calibrated" in found for found in summary.runs.values())
