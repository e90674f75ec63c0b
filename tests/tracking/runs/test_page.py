"""The saved view and the addresses; that MLflow's UI understands them is held by test_ui.py."""

import json
import re

from ppdl.evaluation.report.answer import answer
from ppdl.tracking import open_store
from ppdl.tracking.runs.page import ANSWERS, MAX_NOTE, VIEW_TAG, describe_experiment, page_address, server_command, server_environment
from ppdl.tracking.runs.spec import NOTE


def test_the_view_shows_what_evaluation_logs():
    metrics = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    found = answer("plain", metrics, None, None, (), bytes_per_pixel=1.0)
    assert tuple(f"answer/{name}" for name in found.metrics) == ANSWERS


def test_describing_an_experiment_keeps_what_is_not_replaced(store_root):
    store = open_store(store_root, "ppdl")
    describe_experiment(store, "first")
    describe_experiment(store)
    tags = store.client.get_experiment(store.experiment_id).tags
    assert tags[NOTE] == "first" and tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(tags[VIEW_TAG])
    state = json.loads(view["state"])
    assert set(view) == {"name", "createdAt", "state"} and set(state["columnOrder"]) == set(state["columnWidths"])
    assert [chart["metricKey"] for chart in state["compareRunCharts"] if chart["type"] == "BAR"] == list(ANSWERS)


def test_a_long_description_is_cut_to_what_mlflow_stores(store_root):
    store = open_store(store_root, "ppdl")
    describe_experiment(store, "many words " * MAX_NOTE)
    assert len(store.client.get_experiment(store.experiment_id).tags[NOTE]) == MAX_NOTE


def test_addresses_name_the_view():
    assert page_address("http://127.0.0.1:5000/", "7") == (
        "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=ppdl"
    )
    assert page_address("http://h", "7", charts=True).endswith("&compareRunsMode=CHART")


def test_the_server_listens_to_this_machine_and_shows_no_uri_in_the_process_list(store_root):
    store = open_store(store_root, "ppdl")
    command = " ".join(server_command(5001))
    assert re.search(r"--host 127\.0\.0\.1 --port 5001", command) and store.uri not in command
    assert server_environment(store, {"HOME": "/h"})["MLFLOW_BACKEND_STORE_URI"] == store.uri
