"""The reports: complete, of this run alone, the same bytes again, and readable."""

import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.figures.history import plot_history
from ppdl.evaluation.figures.plots import plot_confusion, plot_reliability, plot_roc
from ppdl.evaluation.measures.curves import reliability_table, roc_table
from ppdl.evaluation.measures.metrics import METRICS, evaluate
from ppdl.evaluation.predictions.calibration import calibrated
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.report.reports import write_reports
from ppdl.evaluation.report.summary import summarise
from ppdl.evaluation.report.tables import columns, markdown, results_table, rows

SETTINGS = {"margin": 0.02}
RUNS = ("plain", "deterministic-embedding", "opaque")


@pytest.fixture
def runs(simulated):
    skills = {"plain": 4.0, "deterministic-embedding": 3.5, "opaque": 0.0, "border": 1.5}
    return {name: simulated(120, skill=skill, group_size=2, seed=seed) for seed, (name, skill) in enumerate(skills.items())}


@pytest.fixture
def history():
    epochs = np.arange(1, 6)
    return pd.DataFrame({"epoch": epochs, "loss": 1 / epochs, "accuracy": 1 - 1 / epochs, "val_loss": 1.2 / epochs,
                         "val_accuracy": 1 - 1.1 / epochs, "learning_rate": 1e-3})  # fmt: skip


def printed(summary, width):
    console = Console(width=width, file=io.StringIO())
    console.print(results_table(summary))
    return console.file.getvalue()


def leaves(content):
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from leaves(value)
    else:
        yield content


def test_metrics_json_holds_every_run_flat_and_the_baselines(tmp_path, runs, history):
    summary = write_reports(tmp_path, runs, **SETTINGS, histories={"plain": history}, more={"opaque": {"permutation_p": 0.5}})
    text = (tmp_path / "metrics.json").read_text()
    found = json.loads(text)
    assert list(found) == [*RUNS, "baselines"]
    keys = {key for name in METRICS for key in (name, f"{name}_low", f"{name}_high")} | {"num_images", "num_groups"}
    against_plain = {"minus_plain", "minus_plain_low", "minus_plain_high", "mcnemar_p", "mcnemar_mid_p", "non_inferior"}
    assert found["plain"].keys() == keys
    assert found["deterministic-embedding"].keys() == keys | against_plain
    assert found["opaque"].keys() == keys | against_plain | {"permutation_p"}
    assert found["baselines"].keys() == {"chance", "border"}
    assert found["baselines"]["border"].keys() == keys
    assert all(isinstance(value, int | float | str | bool) for value in leaves(found))
    assert found["plain"]["accuracy"] == pytest.approx((runs["plain"].predicted == runs["plain"].labels).mean(), rel=1e-5)
    assert found["opaque"]["minus_plain"] == pytest.approx(found["opaque"]["accuracy"] - found["plain"]["accuracy"], abs=1e-5)
    assert summary.runs["plain"]["accuracy"] == pytest.approx(found["plain"]["accuracy"], rel=1e-5)


def test_calibrated_probabilities_stand_beside_the_raw_ones(tmp_path, runs):
    raw = summarise(runs, **SETTINGS).runs
    drawn = {"looked": plot_confusion({"plain": raw["plain"]["confusion"]}, ("A", "B", "C"))}
    summary = write_reports(tmp_path, runs, **SETTINGS, temperatures={"plain": 2.5}, more_figures=drawn)
    found = json.loads((tmp_path / "metrics.json").read_text())
    own, after = found["plain"], evaluate(calibrated(runs["plain"], 2.5))
    for name in ("ece", "brier", "log_loss"):
        for end in ("", "_low", "_high"):
            assert own[f"{name}_calibrated{end}"] == pytest.approx(after[f"{name}{end}"], rel=1e-5)
        assert own[name] == pytest.approx(raw["plain"][name], rel=1e-5) != own[f"{name}_calibrated"]
    assert own["accuracy"] == pytest.approx(raw["plain"]["accuracy"], rel=1e-5) and own["temperature"] == 2.5
    assert not [key for run in ("opaque", "deterministic-embedding") for key in found[run] if "calibrated" in key]
    titles = [axes.get_title(loc="left") for axes in plot_reliability({"plain": runs["plain"]}, summary.runs).axes]
    assert titles == ["plain", "plain, T = 2.50"]
    assert (tmp_path / "evaluation/figures/looked.png").is_file()


def test_details_hold_classes_confusion_and_words(tmp_path, runs):
    summary = write_reports(tmp_path, runs, **SETTINGS, branches={"opaque": "other"})
    found = json.loads((tmp_path / "evaluation/details.json").read_text())
    assert found["branches"] == {name: name for name in RUNS} | {"opaque": "other"}
    assert found["runs"].keys() == {*RUNS, "border"}
    assert found["runs"]["plain"]["per_class"].keys() == {"A", "B", "C"}
    assert np.sum(found["runs"]["plain"]["confusion"]["counts"]) == 120
    assert found["comparisons"]["opaque"]["verdict"] == "inferior"
    assert found["comparisons"]["opaque"]["sentence"] == summary.comparisons["opaque"].sentence
    assert "120 test images in 60 groups" in found["method"]
    assert "jackknife over groups" in found["method"]


def test_dvc_s_plots_have_their_columns(tmp_path, runs, history):
    write_reports(tmp_path, runs, **SETTINGS, histories={"plain": history})
    folder = tmp_path / "evaluation"
    with (folder / "predictions/opaque.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    names = np.array(["A", "B", "C"])
    assert [pair["actual"] for pair in pairs] == names[runs["opaque"].labels].tolist()
    assert [pair["predicted"] for pair in pairs] == names[runs["opaque"].predicted].tolist()
    assert {path.stem for path in (folder / "predictions").iterdir()} == {*RUNS, "border"}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "history.csv"), history.assign(run="plain")[["run", *history]], rtol=1e-5)
    roc = pd.read_csv(folder / "roc.csv")
    assert list(roc.columns) == ["run", "false_positive_rate", "true_positive_rate", "A", "B", "C"]
    assert set(roc["run"]) == set(pd.read_csv(folder / "reliability.csv")["run"]) == {*RUNS, "border"}
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "accuracy.png", "confusion.png", "history.png", "reliability.png", "roc.png",
    }  # fmt: skip


def test_the_same_input_gives_the_same_bytes_and_nothing_stays_of_runs_that_are_gone(tmp_path, runs, history):
    write_reports(tmp_path / "one", runs, **SETTINGS, histories=dict.fromkeys(RUNS, history))
    without = {name: run for name, run in runs.items() if name != "opaque"}
    write_reports(tmp_path / "one", without, **SETTINGS)
    write_reports(tmp_path / "two", without, **SETTINGS)
    one, two = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")} for root in (tmp_path / "one", tmp_path / "two")
    )
    assert not [name for name, text in one.items() if "opaque" in name or "history" in name or b"opaque," in text]
    assert one == two


def test_without_the_reference_nothing_is_compared(tmp_path, runs):
    summary = write_reports(tmp_path, {"opaque": runs["opaque"]}, **SETTINGS)
    assert summary.comparisons == {}
    assert "minus_plain" not in json.loads((tmp_path / "metrics.json").read_text())["opaque"]
    assert columns(summary) == ["run", "accuracy, %", "macro F1", "AUROC", "ECE"]
    assert "opaque" in printed(summary, 80)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_is_readable_at_every_width(runs, width):
    summary = summarise(runs, **SETTINGS, remarks={"opaque": "at chance, p = 0.5"})
    text = printed(summary, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for row in rows(summary):
        for cell in row[1:]:
            for part in cell.replace(", ", ",").split(" "):  # an interval may go to the next line but is not broken itself
                assert part in text
    assert [name for name in ("plain", "deterministic-", "embedding", "opaque", "border only", "chance") if name not in text] == []
    assert "opaque: at chance, p = 0.5" in text
    assert text.index("border only") > text.index("inferior")


def test_the_table_says_what_was_measured(runs):
    summary = summarise(runs, **SETTINGS)
    table = {row[0]: row for row in rows(summary)}
    plain = summary.runs["plain"]
    assert table["plain"][1] == f"{100 * plain['accuracy']:.1f} [{100 * plain['accuracy_low']:.1f}, {100 * plain['accuracy_high']:.1f}]"
    assert table["plain"][2:5] == [f"{plain[name]:.3f}" for name in ("macro_f1", "auroc", "ece")]
    assert table["plain"][5:] == ["", ""]
    assert table["opaque"][6] == "inferior"
    assert table["chance"] == ["chance", "33.3", "", "", "", "", ""]
    assert all(len(row) == len(columns(summary)) for row in table.values())


def test_markdown_has_the_table_and_the_sentences(runs):
    summary = summarise(runs, **SETTINGS, remarks={"opaque": "at chance, p = 0.5"})
    text = markdown(summary)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(RUNS) + 2
    assert {line.count("|") for line in lines} == {len(columns(summary)) + 1}
    assert f"- {summary.comparisons['opaque'].sentence}" in text
    assert "- opaque: at chance, p = 0.5" in text


@pytest.mark.parametrize("name", ["a/b", "", "..", "über", "baselines", "with space"])
def test_a_run_needs_a_name_for_a_file(runs, name):
    with pytest.raises(ConfigError, match="a run's name names a file too"):
        summarise({name: runs["plain"]}, **SETTINGS)


def test_what_does_not_fit_is_refused(tmp_path, runs, history, simulated):
    with pytest.raises(DataError, match="nothing to report"):
        summarise({"border": runs["border"]}, **SETTINGS)
    with pytest.raises(DataError, match="runs 'plain' and 'other' must be tested on the same images, got 120 and 60"):
        summarise({"plain": runs["plain"], "other": simulated(60)}, **SETTINGS)
    with pytest.raises(DataError, match="the history of run 'plain' must have epochs and the columns"):
        write_reports(tmp_path, runs, **SETTINGS, histories={"plain": history.drop(columns="val_loss")})
    with pytest.raises(DataError, match="the history of run 'plain' must have epochs and the columns"):
        write_reports(tmp_path, runs, **SETTINGS, histories={"plain": history[:0]})
    assert not (tmp_path / "metrics.json").exists()


def test_the_area_under_the_curves_is_the_auroc(simulated):
    predictions = simulated(600, skill=1.5)
    found, table = evaluate(predictions), roc_table(predictions)
    for name in "ABC":
        assert np.trapezoid(table[name], table["false_positive_rate"]) == pytest.approx(found["per_class"][name]["auroc"], abs=0.003)
        assert (np.diff(table[name]) >= 0).all()
        assert table[name].iloc[-1] == 1
    np.testing.assert_allclose(table["true_positive_rate"], table[["A", "B", "C"]].mean(axis=1))


def test_a_perfect_curve_rises_at_once(simulated):
    assert (roc_table(simulated(60, skill=50.0))["true_positive_rate"] == 1).all()


def test_the_reliability_table_gives_the_calibration_error(simulated):
    predictions = simulated(500, skill=1.0)
    table = reliability_table(predictions)
    error = (np.abs(table["accuracy"] - table["confidence"]) * table["num_images"]).sum() / 500
    assert error == pytest.approx(evaluate(predictions)["ece"])
    assert table["num_images"].sum() == 500
    assert ((table["bin_low"] <= table["confidence"]) & (table["confidence"] <= table["bin_high"])).all()


def test_figures_can_be_drawn_of_a_class_without_images_and_of_a_single_epoch(history):
    labels = np.array([0, 0, 1, 1])
    predictions = Predictions(labels, np.eye(3)[[0, 1, 1, 2]], np.arange(4), np.arange(4), ("A", "B", "C"))
    found = {"plain": evaluate(predictions)}
    drawn = [
        plot_confusion({"plain": found["plain"]["confusion"]}, predictions.class_names),
        plot_roc({"plain": predictions}, found),
        plot_reliability({"plain": predictions}, found),
        plot_history(history[:1], title="plain"),
    ]
    for figure in drawn:
        file = io.BytesIO()
        figure.savefig(file)
        assert file.getvalue().startswith(b"\x89PNG")
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts[-3:] == ["0", "0", "0"]  # the row of the class without images has counts but no shares
    assert next(line.get_label() for line in drawn[1].axes[0].lines if "[" in line.get_label()).startswith("A  0.")
    assert "C" not in "".join(line.get_label() for line in drawn[1].axes[0].lines)
    assert drawn[3].axes[0].lines[1].get_marker() == "o"


def test_a_run_of_one_class_has_no_curves():
    predictions = Predictions(np.zeros(4, int), np.eye(2)[[0, 0, 1, 0]], np.arange(4), np.arange(4), ("A", "B"))
    table = roc_table(predictions)
    assert list(table.columns) == ["false_positive_rate", "true_positive_rate"]
    assert all(math.isnan(value) for value in table["true_positive_rate"])
