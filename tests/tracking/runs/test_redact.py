import json
import math
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_param, _validate_param_name, _validate_tag

from ppdl.errors import TrackingError
from ppdl.tracking.runs.redact import MAX_PARAM, flatten, guard, redact, shorten, used_by, valid_name, without_private

KEY_MATERIAL = {
    "jwk": json.dumps({"kty": "DAJ", "p": "AQAB", "q": "AQAC"}),
    "pem": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    "decimal": str(secrets.randbits(1536) | 1 << 1535),
    "hex": f"{secrets.randbits(1024) | 1 << 1023:x}",
    "base64": secrets.token_urlsafe(192),
}


@pytest.mark.parametrize("kind", KEY_MATERIAL)
def test_key_material_is_refused_and_not_quoted(kind):
    text = KEY_MATERIAL[kind]
    with pytest.raises(TrackingError, match=r"keys\.public\.n holds text .* looks like key material") as caught:
        redact({"keys": {"public": {"n": text}}})
    assert text[:20] not in str(caught.value)


def test_a_big_integer_is_key_material():
    with pytest.raises(TrackingError, match="an integer of 1536 bits"):
        redact({"p": 1 << 1535})


def test_a_key_object_is_refused():
    class PrivateKey:
        p = 7

    with pytest.raises(TrackingError, match=r"keys\.key is a PrivateKey: only plain values"):
        redact({"keys": {"key": PrivateKey()}})


@pytest.mark.parametrize("text", ["ab" * 32, "/very/long/" + "folder-name/" * 30, "stages.train_plain", "é" * 200])
def test_fingerprints_paths_and_prose_pass(text):
    assert guard(text, "here") == text


def test_private_names_are_dropped_at_any_depth():
    config = {
        "keys": {"key_bits": 2048, "private_dir": "/k"},
        "kaggle": {"api_key": "x", "TOKEN": "y"},
        "passphrase": 1,
    }
    assert redact(config) == {"keys": {"key_bits": 2048}, "kaggle": {}}


def test_private_overrides_are_dropped():
    overrides = ("training.epochs=3", "keygen.private_dir=/media/usb", "+kaggle.token=abc")
    assert without_private(overrides) == ["training.epochs=3"]


def test_redact_leaves_the_original_alone():
    config = {"keys": {"private_dir": "/k"}}
    redact(config)
    assert config == {"keys": {"private_dir": "/k"}}


def test_flatten_names_values_as_yaml_does():
    tree = {"a": {"b": {"c": 1}, "d": None, "e": True, "f": [1, "x"], "g": {}}, "lr": 1e-3, "name": "phantom"}
    assert flatten(tree) == {
        "a.b.c": "1",
        "a.d": "null",
        "a.e": "true",
        "a.f": '[1, "x"]',
        "a.g": "{}",
        "lr": "0.001",
        "name": "phantom",
    }


def test_long_values_are_cut_and_stay_different():
    a, b = ({"x": [f"{name}{i}" for i in range(2000)] + [tail]} for name, tail in (("n", "1"), ("n", "2")))
    cut_a, cut_b = flatten(a)["x"], flatten(b)["x"]
    assert len(cut_a) == len(cut_b) == MAX_PARAM
    assert cut_a != cut_b
    assert shorten("short", MAX_PARAM) == "short"


names = st.text(min_size=1, max_size=300)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=60)
trees = st.dictionaries(names, leaves | st.lists(leaves, max_size=3) | st.dictionaries(names, leaves, max_size=3))


@given(trees)
def test_mlflow_accepts_every_flattened_tree(tree):
    for name, value in flatten(redact(tree)).items():
        kept = _validate_param(name, value)
        assert (kept.key, kept.value) == (name, value)  # MLflow cut nothing


@given(names)
def test_mlflow_accepts_every_valid_name(name):
    clean = valid_name(name)
    _validate_param_name(clean)
    _validate_tag(clean, "value")
    assert valid_name(clean) == clean


def test_valid_name_keeps_what_is_valid():
    assert valid_name("test/Viral Pneumonia/recall_low") == "test/Viral Pneumonia/recall_low"
    assert valid_name("test/COVID(+)") == "test/COVID_+_".replace("+", "_")
    assert math.isclose(len(valid_name("x" * 999)), 250)


def test_parameters_are_those_that_decided_a_training():
    config = {
        "seed": 1,
        "attacks": {"blind": {}},
        "audit": {"seed": 2},
        "model": {"alpha": 1},
        "training": {"epochs": 2},
        "protections": {"opaque": {"a": 1}, "deterministic": {"b": 2}},
        "heads": {"owner": {"backbone": {"weights": "plain"}}, "pool": {"backbone": {"weights": "filters"}}},
    }
    network = {"seed": 1, "model": {"alpha": 1}, "training": {"epochs": 2}}
    assert used_by(config, "plain", "plain") == network | {"protections": {}, "heads": {}}
    assert used_by(config, "opaque", "opaque") == network | {"protections": {"opaque": {"a": 1}}, "heads": {}}
    assert used_by(config, "owner", "owner") == network | {"protections": {}, "heads": {"owner": config["heads"]["owner"]}}
    assert used_by(config, "pool", "pool") == {"seed": 1, "protections": {}, "heads": {"pool": config["heads"]["pool"]}}
    assert used_by({"seed": 1}, "plain", "plain") == {"seed": 1}
    both = {"federations": {"averaging": {"rounds": 2}}}
    assert used_by(both, "plain", "averaging") == both and used_by(both, "plain", "plain") == {"federations": {}}
