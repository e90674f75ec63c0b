"""The schema of the files below conf/: in step, true of every file, and of no use to a typo."""

import jsonschema
import pytest
from omegaconf import OmegaConf

from ppdl.config import CONF, schema
from ppdl.config.reference import conf_files

SCHEMA = schema.schema()


def read(file):
    """Read a file as editors and Hydra do: 1e-2 is a number to YAML 1.2."""
    return OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=False)


def wrong(node):
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(node)]


def test_the_file_is_in_step():
    assert schema.main(["--check"]) == 0, "run `python -m ppdl.config.schema --write`"


@pytest.mark.parametrize("file", conf_files(), ids=str)
def test_every_file_is_valid(file):
    assert wrong(read(file)) == []


@pytest.mark.parametrize(
    ("file", "place", "value", "said"),
    [
        ("config.yaml", ("split", "test_fraction"), 1.5, "test_fraction"),
        ("config.yaml", ("split", "test_fracton"), 0.2, "test_fracton"),
        ("config.yaml", ("seed",), "one", "seed"),
        ("attack/jigsaw.yaml", ("num_scored",), -1, "num_scored"),
        ("dataset/phantom.yaml", ("num_image",), 5, "num_image"),
        ("protection/homomorphic.yaml", ("scheme", "strde"), 2, "strde"),
        ("protection/homomorphic.yaml", ("scheme", "_target_"), "ppdl.X", "ppdl.X"),
    ],
)
def test_a_mistake_is_marked(file, place, value, said):
    node = read(file)
    at = node
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    errors = list(jsonschema.Draft7Validator(SCHEMA).iter_errors(node))
    assert errors and any(said in [*map(str, error.absolute_path), error.message] or said in error.message for error in errors)


def test_editors_show_what_a_field_means():
    assert SCHEMA["definitions"]["component"]["allOf"][0]["then"]["properties"]["seed"]["description"].startswith("of the weights")
    jsonschema.Draft7Validator.check_schema(SCHEMA)
