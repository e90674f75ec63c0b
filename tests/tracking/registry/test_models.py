"""The registry: the best run by validation, one version a network, an alias that only moves to what is better on the same data."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from ppdl.errors import ConfigError, TrackingError
from ppdl.prediction.network import open_network
from ppdl.prediction.package import input_example, source_sha256
from ppdl.prediction.registering import register_best
from ppdl.tracking import open_store
from ppdl.tracking.registry.candidates import VALIDATION, best_run
from ppdl.tracking.registry.card import model_card
from ppdl.tracking.registry.models import UNLIKE, fetch_registered, register
from tests.trained_checkout import add_run, build_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout of its own, for these tests write into its store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return build_checkout(tmp_path_factory.mktemp("registry") / "checkout", tmp_path_factory.mktemp("keys"), ("deterministic",))


@pytest.fixture
def store(checkout):
    return open_store(checkout.root, checkout.cfg.tracking.experiment)


def register_all(store, checkout, *names, promote=False):
    return list(register_best(store, checkout.config, checkout.root, names, promote=promote))


def champion(store, name):
    return store.client.get_model_version_by_alias(name, "champion")


def versions(store, name):
    return {version.version for version in store.client.search_model_versions(f"name = '{name}'")}


def best(store, checkout, protection="plain"):
    source = source_sha256(checkout.root, checkout.config, protection, checkout.prepared.meta["images_sha256"])
    return best_run(store, protection, data_sha256=checkout.prepared.sha256, source_sha256=source)


def test_each_protection_gets_a_champion_that_is_described_and_holds_the_trained_file(store, checkout, tmp_path):
    done = register_all(store, checkout)
    assert [(o.registration.name, o.registration.is_new, o.registration.is_champion) for o in done] == [
        ("ppdl-plain", True, True),
        ("ppdl-deterministic", True, True),
    ]
    for outcome in done:
        name = outcome.registration.name
        branch = name.removeprefix("ppdl-")
        data = fetch_registered(store, f"models:/{name}@champion", tmp_path / name)
        trained = checkout.root / checkout.run(branch).folder
        assert (data / "model.keras").read_bytes() == (trained / "model.keras").read_bytes()
        assert open_network(data).recipe == open_network(trained).recipe
        assert store.client.get_registered_model(name).description == champion(store, name).description
        assert "Not a medical device" in champion(store, name).description


def test_registering_again_makes_no_second_version(store, checkout):
    register_all(store, checkout)
    before = {name: versions(store, name) for name in ("ppdl-plain", "ppdl-deterministic")}
    done = register_all(store, checkout)
    assert all(not o.registration.is_new and o.registration.alias == "the champion already" for o in done)
    assert {name: versions(store, name) for name in before} == before


def test_nothing_of_ours_is_pickled_and_no_image_of_the_set_is_registered(store, checkout, tmp_path):
    register_all(store, checkout)
    data = fetch_registered(store, "models:/ppdl-deterministic@champion", tmp_path)
    names = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    assert names == {
        "model.keras",
        "recipe.json",
        "calibration.json",
        "public.json",
        "seen.npy",
        "artifact/header.json",
        "artifact/codebook.npy",
        "artifact/indices-00000.npy",
    }
    model = data.parents[1]
    assert not list(model.rglob("*.pkl"))
    import mlflow

    flavour = mlflow.models.Model.load(str(model / "MLmodel"))
    assert flavour.flavors["python_function"]["loader_module"] == "ppdl.prediction.pyfunc"
    assert set(flavour.flavors) == {"python_function"}
    assert [str(spec) for spec in flavour.signature.inputs] == ["'image': string (required)"]
    assert flavour.signature.outputs.input_names() == [*checkout.prepared.class_names, UNLIKE]
    expected = {"protection": "deterministic", "view": "spectral", "prepared_px": 32, "input_px": 16}
    assert {key: flavour.metadata[key] for key in expected} == expected
    assert flavour.metadata["key_fingerprint"] == open_network(data).public_key.fingerprint


def test_the_run_with_the_lowest_validation_loss_takes_the_alias(store, checkout):
    register_all(store, checkout, "plain")
    old = champion(store, "ppdl-plain")
    add_run(checkout, checkout.run("plain"), seed=11, log_loss=0.25, folder=checkout.root / "sweep/0/plain")
    add_run(checkout, checkout.run("plain"), seed=12, log_loss=0.75, folder=checkout.root / "sweep/1/plain")
    (outcome,) = register_all(store, checkout, "plain")
    new = champion(store, "ppdl-plain")
    assert "moved: validation log loss 0.2500" in outcome.words
    assert (int(new.version), new.tags["validation_log_loss"]) == (int(old.version) + 1, "0.25")
    assert store.client.get_registered_model("ppdl-plain").description == new.description


def changed(candidate, log_loss, **tags):
    """Return a candidate of another validation loss."""
    run = replace(candidate.run, metrics={**candidate.run.metrics, VALIDATION: log_loss}, tags={**candidate.run.tags, **tags})
    return replace(candidate, run=run)


def put(store, candidate, folder, *, promote=False):
    """Register some bytes as the network of `candidate`."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(f"{candidate.log_loss} {candidate.run.tags['data_sha256']} {candidate.metadata}")
    digest = hashlib.sha256((folder / "recipe.json").read_bytes()).hexdigest()
    card = model_card(candidate)
    return register(store, candidate, folder, digest=digest, card=card, example=input_example(32), promote=promote)


def test_the_alias_stays_where_the_new_version_is_no_better(store, checkout, tmp_path):
    register_all(store, checkout, "plain")
    before = champion(store, "ppdl-plain").version
    done = put(store, changed(best(store, checkout), 9.0), tmp_path / "worse")
    assert done.is_new and not done.is_champion and done.alias.startswith("not moved: validation log loss 9.0000")
    assert champion(store, "ppdl-plain").version == before


@pytest.mark.parametrize("what", ["data_sha256", "key_fingerprint"])
def test_figures_on_other_data_or_under_another_key_do_not_move_the_alias(store, checkout, tmp_path, what):
    register_all(store, checkout, "deterministic")
    found, before = best(store, checkout, "deterministic"), champion(store, "ppdl-deterministic")
    if what == "data_sha256":
        other = changed(found, 0.01, **{what: "ab" * 32})
    else:
        other = replace(changed(found, 0.01), metadata={**found.metadata, what: "ab" * 32})
    done = put(store, other, tmp_path / "other")
    assert not done.is_champion and f"another {what}" in done.alias and "--promote" in done.alias
    assert champion(store, "ppdl-deterministic").version == before.version
    done = put(store, other, tmp_path / "other", promote=True)
    assert not done.is_new and done.is_champion and done.alias.startswith("moved as asked")
    store.client.set_registered_model_alias("ppdl-deterministic", "champion", before.version)


def test_runs_on_what_does_not_lie_here_are_not_candidates(store, checkout):
    assert best(store, checkout).run.tags["protection"] == "plain"
    assert best_run(store, "plain", data_sha256="ab" * 32, source_sha256=checkout.prepared.meta["images_sha256"]) is None
    assert best_run(store, "plain", data_sha256=checkout.prepared.sha256, source_sha256="ab" * 32) is None
    missing = {**checkout.config, "protections": {"opaque": {"train_on": "encrypted"}}}
    (outcome,) = list(register_best(store, missing, checkout.root, ["opaque"], promote=False))
    assert outcome.registration is None and "no finished run" in outcome.words


def test_an_unknown_protection_is_refused(store, checkout):
    with pytest.raises(ConfigError, match="protections are plain, deterministic, got rot13"):
        register_all(store, checkout, "rot13")


@pytest.mark.parametrize("uri", ["models:/ppdl-plain", "models:/a/b/c", "runs:/abc/model"])
def test_a_uri_that_names_no_version_is_refused(store, tmp_path, uri):
    with pytest.raises(TrackingError, match="models:/NAME@ALIAS"):
        fetch_registered(store, uri, tmp_path)


@pytest.mark.parametrize("uri", ["models:/ppdl-none@champion", "models:/ppdl-plain@nobody", "models:/ppdl-plain/99"])
def test_a_model_that_is_not_there_is_named(store, checkout, tmp_path, uri):
    register_all(store, checkout, "plain")
    with pytest.raises(TrackingError, match=f"has no {uri}: register one with `ppdl model register`"):
        fetch_registered(store, uri, tmp_path)


def test_a_model_that_others_registered_is_refused(store, checkout, tmp_path):
    client, logged = store.client, store.client.get_logged_model(best(store, checkout).model_id)
    for name in ("theirs", "ppdl-theirs"):
        client.create_registered_model(name)
        client.create_model_version(name, logged.artifact_location, run_id=logged.source_run_id, model_id=logged.model_id)
        with pytest.raises(TrackingError, match="was not made by `ppdl model register`"):
            fetch_registered(store, f"models:/{name}/1", tmp_path)


def test_a_run_without_calibration_is_not_registered(store, checkout, tmp_path):
    from ppdl.prediction.package import write_package

    network = open_network(checkout.root / checkout.run("plain").folder)
    with pytest.raises(TrackingError, match="without a calibration"):
        write_package(tmp_path / "data", network.recipe, network.folder / "model.keras", calibration=None, root=checkout.root)
