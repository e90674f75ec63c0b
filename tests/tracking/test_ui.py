"""MLflow's own UI in a real browser, on a store that our code filled: what a user sees who types `make ui`.

Screenshots go to a temporary folder, and to $PPDL_SCREENSHOTS where that is set.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from ppdl.config import PARAMS, Workspace
from ppdl.evaluation.figures.history import plot_history
from ppdl.evaluation.report.content import ReportContent
from ppdl.evaluation.report.html import write_html
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.finish import RunResults, finish
from ppdl.experiment.results.page import REPORT
from ppdl.experiment.runs import runs_of
from ppdl.tracking import DatasetRecord, RunSpec, start_training_run
from tests.browser import browser, keep  # noqa: F401
from tests.evaluation.report_content import full_content
from tests.processes import answers, free_port, running

SIZE = {"width": 1500, "height": 1100}
ANSWERS = ["answer/accuracy", "answer/attacker_gain", "answer/bytes_per_pixel", "answer/protect_seconds"]
EXPANSION = {"deterministic": 1.0484, "opaque": 2.0631, "homomorphic": 2.7653}
# Else MLflow opens its assistant over the page on the first visit.
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def fill(root: Path, content: ReportContent) -> None:
    """Log a run for each training as the stages do."""
    cfg = OmegaConf.load(PARAMS)
    cfg.protections = {name: cfg.protections[name] for name in EXPANSION}  # those that the made-up figures are of
    cfg.heads, cfg.fitted, cfg.pooled = {}, [], []
    history = pd.DataFrame({"epoch": [0, 1, 2], "loss": [1.4, 0.9, 0.5], "val_loss": [1.3, 1, 0.7]})
    history = history.assign(accuracy=[0.3, 0.6, 0.8], val_accuracy=[0.4, 0.6, 0.8])
    write_html(root / "reports" / REPORT, content)
    experiment, tested = Experiment(cfg, Workspace(root, root)), {}
    for run in runs_of(experiment):
        spec = RunSpec(
            name=run.name,
            stage="stages.train_plain" if run.branch == "plain" else "stages.train_encrypted",
            config=OmegaConf.to_container(cfg),
            protection=run.branch,
            view=run.view,
            confidential=run.branch == "opaque",
            key_fingerprint=None if run.branch == "plain" else "ab" * 32,
            dataset=DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 70, "validation": 10, "test": 20}),
            inputs=(),
            description=f"What the trainer sees in {run.name}.",
        )
        with start_training_run(spec, store_root=root, project=root, experiment=cfg.tracking.experiment) as tracked:
            tracked.log_history(history)
            expansion = {"expansion_factor": EXPANSION[run.branch]} if run.branch in EXPANSION else {}
            tracked.log_summary({"best_epoch": 2, "seconds": 61.5, **expansion})
            tracked.log_figure("history", plot_history(history, title=run.name))
            tracked.write_record(run.out_dir / "run.json")
        figures = {"tested": plot_history(history, title=f"{run.name}, tested")}
        tested[run.name] = RunResults(content.metrics[run.name], figures)
    finish(experiment, content, tested)


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return full_content()


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, migrated_db: Path, content: ReportContent) -> Iterator[dict[str, str]]:
    """Run `ppdl ui` and return the addresses that it printed, by name."""
    root, port = tmp_path_factory.mktemp("checkout"), free_port()
    shutil.copy(migrated_db, root / "mlflow.db")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        fill(root, content)
    log, env = root / "ui.log", {**os.environ, "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-m", "ppdl", "ui", "--port", str(port)]
    with running(command, log, is_up=lambda: re.search("^runs ", log.read_text(), re.MULTILINE) is not None, env=env):
        assert answers(f"http://127.0.0.1:{port}/health"), "an address was printed before the server answered"
        yield dict(re.findall(r"^(\w+) +(http://\S+)$", log.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Any]:  # noqa: F811
    """A browser window that all tests share, so that MLflow's scripts are loaded once."""
    context = browser.new_context(viewport=SIZE)
    context.add_init_script(NO_ASSISTANT)
    yield context
    context.close()


@pytest.fixture
def page(window: Any) -> Iterator[Any]:
    """A new page that fails on anything asked of another host."""
    opened, foreign = window.new_page(), []
    ours = re.compile(r"http://127\.0\.0\.1:|data:|blob:")
    opened.on("request", lambda request: None if ours.match(request.url) else foreign.append(request.url))
    yield opened
    opened.close()
    assert foreign == []


def open_list(page: Any, address: str) -> None:
    """Open the list of runs and wait until the last run is drawn."""
    page.goto(address)
    link_to(page, "plain").wait_for()


def link_to(page: Any, run: str) -> Any:
    return page.locator(".ag-cell").get_by_role("link", name=run, exact=True)


def row_of(page: Any, run: str) -> Any:
    """Return the row of a run: MLflow's grid draws pinned and other columns of one row apart, with one id."""
    row_id = page.locator(".ag-row").filter(has=link_to(page, run)).get_attribute("row-id")
    return page.locator(f".ag-row[row-id='{row_id}']")


def test_the_printed_address_opens_on_the_runs(page, printed, tmp_path):
    open_list(page, printed["runs"])
    keep(page, "mlflow-runs", tmp_path)
    for run in ("plain", *EXPANSION):
        assert link_to(page, run).is_visible()


def test_the_description_answers_in_one_line_and_in_a_table(page, printed, tmp_path):
    open_list(page, printed["runs"])
    page.get_by_text("runs: 1 in the clear, 1 broken").wait_for()
    page.locator("[data-component-id='mlflow.experiment.metadata_editor.expand_button']").click()
    page.get_by_text("never quote one alone").wait_for()
    keep(page, "mlflow-description", tmp_path)
    row = page.locator("table tr").filter(has_text="homomorphic").inner_text()
    assert [cell.strip() for cell in row.split("\t")][:3] == ["homomorphic", "90.0 [85.3, 94.8]", "+5.5 [0.0, +11.0]"]


def test_charts_show_their_whole_titles(page, printed, tmp_path):
    page.goto(printed["runs"].replace("?", "?compareRunsMode=CHART&"))
    for name in ANSWERS:
        title = page.locator(f"h4[title='{name}']")
        title.wait_for()
        assert title.evaluate("one => one.scrollWidth <= one.clientWidth"), f"MLflow cuts {name}"
    keep(page, "mlflow-charts", tmp_path)


def test_two_runs_compare_with_their_names_and_values(page, printed, content, tmp_path):
    open_list(page, printed["runs"])
    for run in ("deterministic", "plain"):
        row_of(page, run).locator(".ag-selection-checkbox input").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for section in ("Visualizations", "Parameters"):
        page.get_by_role("button", name=section).click()
    page.get_by_role("grid").filter(has_text="answer/accuracy").wait_for()
    keep(page, "mlflow-compare", tmp_path)
    texts = [grid.get_by_role("rowgroup").locator("> *").all_inner_texts() for grid in page.get_by_role("grid").all()]
    place = next(i for i, cells in enumerate(texts) if "answer/accuracy" in cells)
    names, values = texts[place], texts[place + 1]  # MLflow draws the column of names as a grid of its own; both show the rows in sight
    rows = {name: sorted(values[2 * i : 2 * i + 2]) for i, name in enumerate(names)}
    assert rows["answer/accuracy"] == ["0.846", "0.881"] and rows["answer/attacker_gain"] == ["0.588", "0.588"]  # over a blind guess
    assert rows["answer/bytes_per_pixel"] == ["1", "1.048"]
    assert rows["answer/protect_seconds"] == ["0", str(content.cost["deterministic"]["encrypt"]["seconds"])]
    assert list(rows)[:5] == [*ANSWERS, "audit/best_ssim"]
    for run in ("plain", "deterministic"):
        assert page.get_by_text(run, exact=True).last.is_visible()


def test_a_run_shows_its_description_its_metrics_and_its_figures(page, printed, tmp_path):
    open_list(page, printed["runs"])
    link_to(page, "deterministic").click()
    page.get_by_text("About this run").wait_for()
    for text in ("accuracy 88.1 % [82.1, 94.1]", "Leakage, best attacker:", "train/accuracy", "key_fingerprint"):
        page.get_by_text(text).first.wait_for()
    keep(page, "mlflow-run", tmp_path)
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("figures", exact=True).click()
    for name in ("history", "tested"):
        page.get_by_text(f"{name}.png", exact=True).click()
        picture = page.locator(f"img[alt='figures/{name}.png']")
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    keep(page, "mlflow-artifacts", tmp_path)
