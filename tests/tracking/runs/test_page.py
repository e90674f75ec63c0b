"""The description and the addresses; that MLflow's UI understands them is held by test_ui.py."""

import re

from ppdl.tracking import open_store
from ppdl.tracking.runs.page import MAX_NOTE, describe_experiment, page_address, server_command, server_environment
from ppdl.tracking.runs.spec import NOTE


def test_a_description_replaces_another(store_root):
    store = open_store(store_root, "ppdl")
    describe_experiment(store, "first")
    describe_experiment(store, "second")
    tags = store.client.get_experiment(store.experiment_id).tags
    assert tags[NOTE].startswith("second\n\nWritten by the stage `evaluate` on ") and "first" not in tags[NOTE]
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_long_description_is_cut_to_what_mlflow_stores(store_root):
    store = open_store(store_root, "ppdl")
    describe_experiment(store, "many words " * MAX_NOTE)
    assert len(store.client.get_experiment(store.experiment_id).tags[NOTE]) == MAX_NOTE


def test_addresses_open_on_the_runs():
    assert page_address("http://127.0.0.1:5000/", "7") == "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"


def test_the_server_listens_to_this_machine_and_shows_no_uri_in_the_process_list(store_root):
    store = open_store(store_root, "ppdl")
    command = " ".join(server_command(5001))
    assert re.search(r"--host 127\.0\.0\.1 --port 5001", command) and store.uri not in command
    assert server_environment(store, {"HOME": "/h"})["MLFLOW_BACKEND_STORE_URI"] == store.uri
