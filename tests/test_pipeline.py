"""The pipeline for real: a fresh clone with git, DVC, Hydra and MLflow, small data and a small key.

One clone is built once; the tests then use it as a user would, in the order in which they stand. A sweep and a
cross-validation train networks of a few layers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdl.config.choices import exp_run
from tests.secrets_search import find_private_key, private_keys

PROJECT = Path(__file__).resolve().parents[1]
SMALL = [
    "+experiment=smoke",
    "dataset.num_images=96",
    "dataset.size_px=64",
    "training.epochs=1",
    "evaluation.external.other_device.num_images=12",
    "evaluation.external.other_device.size_px=64",
    "keygen.key_bits=512",
    "keygen.allow_insecure_key=true",
]
NARROW = "model._target_=tests.training.toys.Narrow"
HEADS = {"private_head", "pooled_head"}
RUNS = {"plain", "deterministic", "opaque", "homomorphic", *HEADS}
pytestmark = pytest.mark.pipeline


def sets(*values: str) -> list[str]:
    """Return the values as options of `dvc exp run`."""
    return [argument for value in values for argument in ("-S", value)]


class Checkout:
    """A checkout to run commands in, with an environment of its own."""

    def __init__(self, path: Path, private_dir: Path) -> None:
        self.path = path
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_TRACKING", "DVC_", "GIT_"))}
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PPDL_PRIVATE_KEY_DIR": str(private_dir),
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=1200)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, f"{' '.join(command)} exited with {done.returncode}:\n{output[-6000:]}"
        return output

    def runs(self) -> list[dict]:
        """Return name, status, tags and metrics of every MLflow run, oldest first."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{self.path}/mlflow.db")
        found = client.search_runs([e.experiment_id for e in client.search_experiments()], order_by=["attributes.start_time"])
        return [
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "tags": run.data.tags,
                "params": run.data.params,
                "metrics": run.data.metrics,
            }
            for run in found
        ]


def copy_of_the_project(path: Path) -> None:
    """Copy what git tracks or would add, but for what a repro left here: as a fresh clone has it."""
    untracked = ["--others", "--exclude-standard", "--exclude=/reports/"]
    listed = subprocess.run(["git", "ls-files", "--cached", *untracked, "-z"], cwd=PROJECT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name != "dvc.lock" and (PROJECT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, path / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Checkout:
    path = tmp_path_factory.mktemp("clone")
    copy_of_the_project(path)
    checkout = Checkout(path, tmp_path_factory.mktemp("private"))
    checkout.run("git", "init", "-q", "-b", "main")
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "start")
    checkout.run("dvc", "exp", "run", "-n", "first", *sets(*SMALL))
    return checkout


def test_a_fresh_clone_runs_and_a_second_repro_has_nothing_to_do(clone):
    metrics = json.loads((clone.path / "reports/metrics.json").read_text())
    assert metrics.keys() == {*RUNS, "baselines"}
    opaque = metrics["opaque"]  # too few test images for the control: not even a perfect network would be found
    assert (opaque["control"], opaque["at_chance"]) == ("cannot tell", False) and opaque["permutation_best_p"] > 1e-4
    assert 0 <= metrics["plain"]["accuracy_low"] <= metrics["plain"]["accuracy"] <= metrics["plain"]["accuracy_high"] <= 1
    assert set(metrics["baselines"]) >= {"chance", "border"}
    assert "Data and pipelines are up to date" in clone.run("dvc", "repro")


def out_of_date(checkout: Checkout) -> set[str]:
    return {name for name, why in json.loads(checkout.run("dvc", "status", "--json")).items() if why != ["always changed"]}


def test_a_comment_in_report_gradcam_signing_and_estimate_reruns_evaluate_alone(clone):
    """tests/test_dag.py holds the same of a module of each room, by the deps in dvc.yaml."""
    names = ["evaluation/report/sections", "evaluation/insight/gradcam", "crypto/signing", "crypto/estimate/images", "tracking/runs/page"]
    files = {path: path.read_text() for path in (clone.path / f"ppdl/{name}.py" for name in names)}
    for path, text in files.items():
        path.write_text(f"{text}# a comment\n")
    changed = out_of_date(clone)
    for path, text in files.items():
        path.write_text(text)
    assert changed == {"evaluate"}


def test_every_protection_was_attacked_and_the_report_says_so(clone):
    audit = json.loads((clone.path / "reports/audit.json").read_text())
    assert audit.keys() == RUNS - {"plain"}
    assert audit["deterministic"]["verdict"].startswith("broken") and audit["deterministic"]["ratio"]["exact_up_to_offset"] is True
    assert audit["opaque"]["verdict"].startswith("unbroken") and "does_not_apply" in audit["opaque"]["seriation"]
    assert audit["homomorphic"]["verdict"].startswith("leaky") and audit["homomorphic"]["distinguisher_view"]["advantage"] > 0.5
    page = (clone.path / "reports/report.html").read_text()
    assert all(name in page for name in RUNS) and "synthetic" in page
    metrics = {run["name"]: run["metrics"] for run in clone.runs()}
    assert metrics["deterministic"]["audit/best_ssim"] == pytest.approx(1) and metrics["plain"]["audit/best_ssim"] == 1
    assert metrics["opaque"]["audit/best_ssim"] < 0.8
    notes = {run["name"]: run["tags"]["mlflow.note.content"] for run in clone.runs()}
    assert "**Utility:** accuracy" in notes["plain"] and "broken. Not confidential" in notes["deterministic"]
    clone.run(sys.executable, "-m", "ppdl", "sweep", "frontier", "--out", "dvc_plots/frontier.png")
    shutil.rmtree(clone.path / "dvc_plots")


def test_probabilities_are_calibrated_and_networks_asked_where_they_look(clone):
    metrics = json.loads((clone.path / "reports/metrics.json").read_text())
    runs = {run["name"]: run["metrics"] for run in clone.runs()}
    for name in RUNS:
        (path,) = (clone.path / "models" / name).rglob("calibration.json")
        calibration = json.loads(path.read_text())
        assert metrics[name]["temperature"] == pytest.approx(calibration["temperature"], rel=1e-5)
        assert runs[name]["fit/temperature"] == calibration["temperature"] == runs[name]["test/temperature"]
        assert {"ece_calibrated", "brier_calibrated", "log_loss_calibrated_high"} <= metrics[name].keys()
    pictures = {name for name in RUNS if "without_lungs_accuracy" in metrics[name]}
    assert pictures == {"plain", "deterministic", "homomorphic"}  # and not opaque, whose view is noise
    for name in pictures:
        assert runs[name]["test/without_lungs_accuracy"] == pytest.approx(metrics[name]["without_lungs_accuracy"], rel=1e-5)
        assert 0.1 < metrics[name]["gradcam_lung_area"] < 0.5
    assert (clone.path / "reports/evaluation/figures/gradcam.png").is_file()
    assert "With the lungs blanked out, plain is right on" in (clone.path / "reports/report.html").read_text()


def test_going_back_to_earlier_values_encrypts_and_trains_nothing_again(clone):
    kept = [path.read_text() for path in (clone.path / ".dvc/cache/runs").glob("*/*/*")]
    stages = {re.search(r"stages\.(\w+)", text).group(1) for text in kept}
    assert {"split", "encrypt", "stem", "reveal", "pool", "open", "train_plain", "train_encrypted", "private_inference"} <= stages


def test_every_run_was_tested_on_films_of_another_device_and_a_change_of_them_trains_nothing(clone):
    there = json.loads((clone.path / "reports/external.json").read_text())["other_device"]
    assert there.keys() == {*RUNS, "baselines"} and {"chance", "border"} == there["baselines"].keys()
    logged = {run["name"]: run["metrics"] for run in clone.runs()}
    for name in RUNS:
        assert there[name]["num_images"] == 12
        assert logged[name]["external/other_device/accuracy_drop"] == pytest.approx(there[name]["accuracy_drop"], rel=1e-4, abs=1e-6)
    params = clone.path / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("noise: 1.6", "noise: 1.7"))
    changed = out_of_date(clone)
    params.write_text(text)
    assert changed == {"external", "evaluate"}  # and what reads the films, once they are other ones


def test_nothing_that_dvc_versions_lands_in_git(clone):
    untracked = clone.run("git", "status", "--porcelain", "--untracked-files=all")
    paths = [line[3:] for line in untracked.splitlines()]
    made = (".png", ".npy", ".keras", ".db", ".log")
    assert not [p for p in paths if p.endswith(made) or p.startswith(("data/", "models/", "keys/"))], paths


def test_the_docs_draw_the_dag_that_dvc_has(clone):
    drawn = re.search(r"```mermaid\n(.*?)```", (clone.path / "docs/pipeline.md").read_text(), re.DOTALL).group(1)
    arrows = {tuple(part.strip().split("[")[0] for part in line.split("-->")) for line in drawn.splitlines() if "-->" in line}
    dot = clone.run("dvc", "dag", "--dot")
    real = {(a.split("@")[0], b.split("@")[0]) for a, b in re.findall(r'"([\w@]+)" -> "([\w@]+)"', dot)}
    assert arrows == real


def test_metrics_and_plots_show(clone):
    (shown,) = json.loads(clone.run("dvc", "metrics", "show", "--json"))[""]["data"].values()
    assert all(row.keys() <= RUNS for row in shown["data"].values()) and len(shown["data"]) <= 10
    assert "accuracy.plain" in clone.run("dvc", "metrics", "diff", "--all", "HEAD", "first")
    assert "plain.auroc" in clone.run("dvc", "metrics", "diff", "--all", "HEAD", "first", "--targets", "reports/metrics.json")
    clone.run("dvc", "plots", "show")
    page = (clone.path / "dvc_plots/index.html").read_text()
    assert "vega" in page.lower()
    shutil.rmtree(clone.path / "dvc_plots")


def test_one_mlflow_run_a_training_with_test_results(clone):
    runs = {run["name"]: run for run in clone.runs()}
    assert set(runs) == RUNS
    for name, run in runs.items():
        assert run["status"] == "FINISHED"
        assert {"test/accuracy", "test/border_accuracy"} <= run["metrics"].keys()
        assert ({"val/accuracy", "fit/seconds"} <= run["metrics"].keys()) is (name != "pooled_head")  # whose validation films are summed
        assert run["tags"]["protection"] == name
        assert run["params"].get("training.epochs") == ("1" if name != "pooled_head" else None)  # whose features are of no network
        others = {key.split(".")[1] for key in run["params"] if key.startswith(("protections.", "heads."))} - {name}
        assert not others and not any(key.startswith(("attacks.", "audit.")) for key in run["params"])
        assert len(run["tags"]["mlflow.source.git.commit"]) == 40
    for name in RUNS - {"plain", *HEADS}:
        assert runs[name]["tags"]["key_fingerprint"] == public_key(clone)["fingerprint"]
        assert {"cost/encrypt_seconds", "fit/expansion_factor", "fit/artifact_bytes"} <= runs[name]["metrics"].keys()
    assert {name: run["tags"]["confidential"] for name, run in runs.items()} == {
        "plain": "false",
        "deterministic": "false",
        "opaque": "true",
        "private_head": "true",
        "pooled_head": "true",
        "homomorphic": "false",  # its ciphertexts are, but the trainer reads what the key holder revealed
    }


@pytest.mark.parametrize("name", sorted(HEADS))
def test_private_inference_answers_as_the_integer_head_and_shows_the_server_nothing(clone, name):
    rows = np.load(clone.path / f"data/private/{name}/logits.npz")
    head = json.loads((clone.path / f"models/{name}/head.json").read_text())
    test_images = json.loads((clone.path / "reports/metrics.json").read_text())["plain"]["num_images"]
    assert rows["logits"].shape == (test_images, len(head["class_names"])) and rows["logits"].dtype == np.int64
    cost = json.loads((clone.path / f"reports/cost/{name}/inference.json").read_text())
    assert cost["num_images"] == test_images and cost["single_up_bytes"] > cost["batch_up_bytes"] > 0
    audit = json.loads((clone.path / "reports/audit.json").read_text())[name]
    # A pooled head may be leaky: its parties tell whose films trained it. What the server sees tells nothing.
    level, _, sentence = audit["verdict"].partition(": ")
    assert level == "unbroken" or name == "pooled_head"
    first = "(Who tells whose films trained it: .*[.] )?" if name == "pooled_head" else ""
    assert re.match(f"{first}No attack here got anything out of the ciphertexts", sentence)
    assert audit["distinguisher"]["advantage_low"] < 0.1
    (run,) = (run for run in clone.runs() if run["name"] == name)
    assert "cost/inference_single_encrypt_s" in run["metrics"]
    assert f"models/{name}/head.npz" not in clone.run("git", "ls-files", "--others", "--exclude-standard")


def test_a_head_of_three_hospitals_came_of_sums_under_encryption(clone):
    board, shares = clone.path / "data/pool/pooled_head", json.loads((clone.path / "data/hospitals/pooled_head.json").read_text())
    assert {path.stem for path in (board / "tallies").iterdir()} == shares["rows"].keys() == {f"hospital_{k}" for k in (1, 2, 3)}
    (run,) = (run for run in clone.runs() if run["name"] == "pooled_head")
    assert run["metrics"]["fit/num_films"] == sum(map(len, shares["rows"].values()))
    assert "trained on **sums under encryption**" in run["tags"]["mlflow.note.content"]
    page = (clone.path / "reports/report.html").read_text()
    assert "Test images of pooled_head were classified on ciphertexts, by a head that was trained on sums under encryption" in page
    fingerprint = json.loads((board / "terms.json").read_text())["fingerprint"]
    assert not (Path(clone.env["PPDL_PRIVATE_KEY_DIR"]) / f"{fingerprint}.json").exists()  # the run is over


def public_key(checkout: Checkout, name: str = "public") -> dict:
    return json.loads((checkout.path / f"keys/{name}.json").read_text())


def test_a_sweep_leaves_dvc_clean_and_is_tagged(clone):
    before = len(clone.runs())
    overrides = [*SMALL, NARROW, "+sweep=joblib", "training.learning_rate=1e-3,3e-4"]
    clone.run(sys.executable, "-m", "stages.train_plain", "-m", *overrides)
    assert "up to date" in clone.run("dvc", "status")
    new = clone.runs()[before:]
    assert len(new) == 2
    assert {run["params"]["training.learning_rate"] for run in new} == {"0.001", "0.0003"}
    assert len({run["tags"]["sweep"] for run in new}) == 1
    assert all("training.learning_rate" in run["tags"]["overrides"] for run in new)
    assert {run["tags"]["job"] for run in new} == {"0", "1"}
    best = min(new, key=lambda run: run["metrics"]["fit/best_val_log_loss"])
    found, _ = json.JSONDecoder().raw_decode(clone.run(sys.executable, "-m", "ppdl", "sweep", "summary", "--json"))
    assert found["trials"][0]["params"] == {"training.learning_rate": best["params"]["training.learning_rate"]}
    said = clone.run(sys.executable, "-m", "ppdl", "sweep", "test")
    assert "default: validation log loss" in said and f"trial {best['tags']['job']} is right on" in said
    assert "points, 95 % interval" in said


def test_a_sweep_over_what_lies_upstream_names_the_command_to_use(clone):
    overrides = ["branch=deterministic", "input_px=16", *(f"~heads.{name}" for name in HEADS)]  # 16 px is less than their backbones take
    output = clone.run(sys.executable, "-m", "stages.train_encrypted", *SMALL, *overrides, fails=True)
    assert "input_px: built for 32, the configuration says 16" in output
    given = [text for text in [*SMALL, *overrides] if not text.startswith("branch=")]
    assert f"rebuild with: {exp_run(given)}\n" in output  # with all that the build had, or conf/'s phantoms take their place
    assert "Traceback" not in output


def test_a_typo_is_named(clone):
    output = clone.run(sys.executable, "-m", "stages.train_plain", *SMALL, "+training.learing_rate=1", fails=True)
    assert "did you mean 'learning_rate'?" in output and "Traceback" not in output


def test_only_what_a_parameter_touches_runs_again(clone):
    changed_clip = sets(*SMALL, "protections.homomorphic.reveal.clip=0.9")
    output = clone.run("dvc", "exp", "run", "-n", "clip", *changed_clip, "reveal@homomorphic")
    assert "Running stage 'reveal@homomorphic'" in output
    for stage in ("download", "split", "keygen", "encrypt@homomorphic", "stem@homomorphic"):
        assert f"Running stage '{stage}'" not in output
    assert out_of_date(clone) == {"train_encrypted@homomorphic", "audit@homomorphic", "protect_external@homomorphic", "evaluate"}
    clone.run("dvc", "exp", "apply", "first")
    params = clone.path / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("- spectral\n", "- bytes\n"))
    assert out_of_date(clone) == {"train_encrypted@deterministic", "protect_external@deterministic"}
    params.write_text(text)


def test_a_queued_experiment_logs_to_the_checkouts_own_store(clone):
    before = len(clone.runs())
    clone.run("dvc", "exp", "run", "--queue", "-n", "queued", *sets(*SMALL, "seed=7"), "train_plain")
    clone.run("dvc", "exp", "run", "--run-all")
    new = clone.runs()[before:]
    assert [(run["name"], run["params"]["seed"]) for run in new] == [("plain", "7")]
    shown = clone.run("dvc", "exp", "show", "--csv", "--drop", ".*", "--keep", "Experiment|accuracy.plain$|^seed$").splitlines()
    assert shown[0] == "Experiment,accuracy.plain,seed"
    assert [row.split(",")[2] for row in shown if row.startswith("queued,")] == ["7"]


def test_a_pulled_clone_is_up_to_date_and_its_runs_can_be_rebuilt(clone, tmp_path):
    remote = tmp_path / "remote"
    clone.run("dvc", "remote", "add", "-f", "-d", "storage", str(remote))
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "results")
    clone.run("dvc", "push")
    other = Checkout(tmp_path / "other", tmp_path / "no-private-keys")
    subprocess.run(["git", "clone", "-q", str(clone.path), str(other.path)], check=True)
    other.run("dvc", "pull")
    assert public_key(other) == public_key(clone)
    assert "Data and pipelines are up to date" in other.run("dvc", "repro")
    other.run(sys.executable, "-m", "ppdl", "model", "restore-runs")
    restored = other.runs()
    assert {run["name"] for run in restored} == RUNS
    assert all("test/accuracy" in run["metrics"] for run in restored)
    assert all("restored_from" in run["tags"] for run in restored)


def test_a_cross_validation_pools_its_folds_and_continues_where_it_stopped(clone):
    one = [NARROW, "crossval.name=small", "crossval.runs=[deterministic]", "split.num_folds=2"]
    command = (sys.executable, "-m", "stages.crossval", *SMALL, *one)
    assert "deterministic-fold1: validation accuracy" in clone.run(*command)
    folder = clone.path / "crossval/small"
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["deterministic"]["num_images"] == 96
    (folder / "fold-1/deterministic.npz").unlink()
    assert "1 of 2 trainings are done already" in clone.run(*command)
    assert "up to date" in clone.run("dvc", "status")


def test_the_private_keys_are_nowhere_in_the_checkout(clone):
    private_dir = Path(clone.env["PPDL_PRIVATE_KEY_DIR"])
    assert all(path.stat().st_mode & 0o077 == 0 for path in private_dir.glob("*.json"))
    keys = private_keys(private_dir)
    assert {key.public.purpose for key in keys} == {"archive", "inference"} and len({key.public.n for key in keys}) == len(keys)
    assert public_key(clone, "inference")["fingerprint"] in {key.public.fingerprint for key in keys}
    for key in keys:
        assert not find_private_key(key, [clone.path])
