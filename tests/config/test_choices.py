"""A user's choices outlast the next `-S`, and every command that is printed can be pasted."""

from __future__ import annotations

import copy
import shlex
import shutil
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl import config
from ppdl.cli import main
from ppdl.config import choices, place
from ppdl.errors import ConfigError

NO_KEY = "'{}' is no key of the configuration: did you mean '{}'?"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\n\r\0$")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]*\Z"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_hydra_reads_from_an_override_the_value_that_was_meant(value):
    parsed = OverridesParser.create().parse_override(choices.override("a.b", value))
    assert not parsed.is_sweep_override() and parsed.value() == value and type(parsed.value()) is type(value)


@pytest.mark.parametrize(
    "path",
    ["~/xrays", "/data/my xrays", "/data/x (1)", "/data/a=b", "/data/a,b", "/data/Röntgen", "/data/it's", '/data/"x"', "/data/a#1", "null"],
)
def test_a_printed_command_gives_the_shell_and_hydra_the_path_that_was_meant(path):
    command = choices.exp_run([choices.override("dataset.root", path)])
    *start, text = shlex.split(command)
    assert start == ["dvc", "exp", "run", "-S"] and OverridesParser.create().parse_override(text).value() == path


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """params.yaml as conf/ composes it, made once."""
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    config.compose_params(path, ["~local"] if (place.CONF / choices.LOCAL).exists() else [])
    return path


@pytest.fixture(scope="module")
def compositions():
    """What was composed so far, by overrides and the files of conf/, on which alone it depends."""
    return {}


@pytest.fixture(autouse=True)
def composed_once(monkeypatch, compositions):
    """Compose the same files with the same overrides once: it takes 0.3 s."""
    compose = choices._composed

    def composed(overrides=()):
        files = ((str(path.relative_to(place.CONF)), path.read_bytes()) for path in sorted(place.CONF.rglob("*.yaml")))
        key = (*overrides, *files)
        if key not in compositions:
            compositions[key] = compose(overrides)
        return copy.deepcopy(compositions[key])

    monkeypatch.setattr(choices, "_composed", composed)


@pytest.fixture
def conf(tmp_path, monkeypatch, params):
    """A copy of conf/ and params.yaml, for choices to be kept in."""
    shutil.copytree(place.CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    monkeypatch.setattr("ppdl.config.place.CONF", tmp_path / "conf")
    monkeypatch.setattr("ppdl.config.place.PARAMS", tmp_path / "params.yaml")
    shutil.copy(params, place.PARAMS)
    return tmp_path / "conf"


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=folder", "dataset.root=/data/xrays", "prepared_px=64", "input_px=32"],
        ["+experiment=transfer", 'dataset.root="~/x, (1)"', 'dataset.classes=[Normal,"No, not"]'],
        ["~protections.opaque", "~protections.homomorphic", "training.learning_rate=1e-5"],
        ["+attack@attacks.as_is=as_is", "attacks.as_is.median_px=5"],
        ["dataset=radiography", "dataset.num_images={COVID:3,Normal:4,Lung_Opacity:5,Viral Pneumonia:6}"],
    ],
)
def test_what_goes_beyond_conf_is_said_in_overrides_and_kept_in_a_file(conf, overrides):
    wanted = choices.compose(overrides)
    found = choices.beyond_conf(wanted).overrides()
    assert choices.compose(found) == wanted
    choices.keep(overrides)
    assert choices.compose() == wanted and choices.kept().overrides() == found
    assert choices.compose(["training.epochs=7"]) == wanted | {"training": wanted["training"] | {"epochs": 7}}
    assert choices.compose(["~local"]) == choices.compose(["~local", "dataset=phantom"])


def test_each_value_is_said_once(conf):
    sizes = ["prepared_px=64", "input_px=32"]  # heads.private_head.backbone.input_px follows
    assert choices.beyond_conf(choices.compose(sizes)).overrides() == sizes


def test_keeping_more_adds_and_another_data_set_takes_its_values_along(conf):
    choices.keep(["dataset=folder", "dataset.root=/x", "seed=3"])
    assert choices.keep(["training.epochs=5"]).overrides() == ["dataset=folder", "seed=3", "dataset.root=/x", "training.epochs=5"]
    assert choices.keep(["dataset=phantom"]).overrides() == ["seed=3", "training.epochs=5"]


def test_a_node_is_left_out_once_and_comes_back(conf):
    for _ in range(2):
        assert choices.keep(["~protections.deterministic"]).overrides() == ["~protections.deterministic"]
    assert choices.keep(["protection@protections.deterministic=deterministic"]).overrides() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# @package _global_\ntraining:\n  epochs: [\n", r"conf/local/default\.yaml, line 4: not YAML: correct it; or delete it"),
        ("training:\n  epochs: 3\n", r"conf/local/default\.yaml must begin with the line `# @package _global_`"),
    ],
)
def test_a_damaged_file_of_choices_is_named(conf, text, reason):
    (conf / "local").mkdir()
    (conf / choices.LOCAL).write_text(text)
    with pytest.raises(ConfigError, match=reason):
        choices.keep(["seed=3"])
    assert (conf / choices.LOCAL).read_text() == text


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.alpha=-3"], "model.alpha: must be > 0, got -3"),
        (["dataset=folder", "dataset.rot=/x"], "did you mean 'dataset.root'"),
        (["dataset.root=~/xrays"], """as one text: 'dataset.root="~/xrays"'"""),
        (["dataset=folder", "dataset.root=/a,b"], """is a sweep, for its comma; as one text: 'dataset.root="/a,b"'"""),
        (
            [*(f"~protections.homomorphic.{step}" for step in ("stem", "reveal")), "protections.homomorphic.train_on=encrypted"],
            "cannot keep protections.homomorphic.stem",
        ),
        (["branch=opaque"], "'branch=opaque' is of one command, and cannot be kept"),
        (["~local"], "'~local' is of one command, and cannot be kept"),
        (["-m", "seed=1,2"], "'-m' is of one command, and cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(conf, overrides, reason):
    before = place.PARAMS.read_bytes()
    result = CliRunner().invoke(main, ["keep", *overrides])
    assert result.exit_code == 1 and reason in result.output
    assert not (conf / choices.LOCAL).exists() and place.PARAMS.read_bytes() == before


def test_the_command_writes_what_dvc_builds_with_and_shows_what_is_kept(conf):
    assert "nothing is kept" in CliRunner().invoke(main, ["keep"]).output
    result = CliRunner().invoke(main, ["keep", "dataset=folder", "dataset.root=/data/x"])
    assert result.exit_code == 0 and "params.yaml: dataset.root: None -> '/data/x'" in result.output
    params = yaml.safe_load(place.PARAMS.read_text())
    assert params["dataset"]["root"] == "/data/x" and params["listed"] == ["files"]
    assert "kept in conf/local/default.yaml: dataset=folder dataset.root=/data/x" in CliRunner().invoke(main, ["keep"]).output


def test_ppdl_repro_says_what_params_yaml_and_conf_do_not_share(conf, monkeypatch, tmp_path):
    monkeypatch.chdir(place.PROJECT)
    monkeypatch.setattr("ppdl.cli.repro.out_of_date", lambda targets: {})
    assert CliRunner().invoke(main, ["repro"]).output == "Data and pipelines are up to date.\n"
    edited = conf / "training/default.yaml"
    edited.write_text(edited.read_text().replace("epochs: 32", "epochs: 33"))
    output = CliRunner().invoke(main, ["repro"]).output
    assert "params.yaml says, which conf/ does not: training.epochs=32" in output and "ppdl keep training.epochs=32" in output
    edited.write_text("epochs: [")
    assert "up to date" in CliRunner().invoke(main, ["repro"]).output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["dataset=folder", "dataset.root=/nonexistent"], None),
        (["dataset=folder", "dataset.rot=/x"], NO_KEY.format("dataset.rot", "dataset.root")),
        (["+experiment=transfer", "dataset.root=/x", "trainin.epochs=1"], NO_KEY.format("trainin.epochs", "training.epochs")),
        (["-m", "training.learning_rate=1e-3,3e-4"], None),
        (["dataset.root=/d/x(1)"], """'dataset.root=/d/x(1)' is not in Hydra's grammar; as one text: 'dataset.root="/d/x(1)"'"""),
        (["dataset.root=/d/a=b"], """'dataset.root=/d/a=b' is not in Hydra's grammar; as one text: 'dataset.root="/d/a=b"'"""),
        (["dataset=foldr"], None),
    ],
)  # fmt: skip
def test_the_hint_knows_the_chosen_files_and_the_grammar(arguments, hint):
    assert choices.hint(arguments) == hint


def advice(monkeypatch, different, *given, config_name="config"):
    job = SimpleNamespace(job=SimpleNamespace(config_name=config_name), overrides=SimpleNamespace(task=list(given)))
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.initialized", lambda: True)
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.get", lambda: job)
    return choices.advice(different)


BUILD = ["dataset=folder", "dataset.root=/data/x y", "prepared_px=64", "input_px=32"]


def test_a_command_that_lacks_the_values_of_the_build_is_told_them(conf, monkeypatch):
    config.compose_params(place.PARAMS, BUILD)
    different = config.differing({"dataset": choices.compose(BUILD)["dataset"]}, {"dataset": choices.compose()["dataset"]})
    text = advice(monkeypatch, different, "training.learning_rate=1e-3", "+sweep=joblib")
    line, keep = (shlex.split(text.splitlines()[i]) for i in (1, 3))
    assert choices.compose(line) == choices.compose(BUILD) and keep == ["ppdl", "keep", *line] and "rebuild" not in text


def test_a_command_after_other_values_were_kept_is_told_to_build_these(conf, monkeypatch):
    phantoms = choices.compose()["dataset"]
    choices.keep(BUILD)
    config.compose_params(place.PARAMS)
    different = config.differing({"dataset": phantoms}, {"dataset": choices.compose()["dataset"]})
    assert different and advice(monkeypatch, different, "training.epochs=1", "+sweep=joblib").endswith("ppdl repro")


def test_a_command_that_asks_for_another_input_is_told_to_rebuild_it_with_all_its_values(conf, monkeypatch):
    given = [*BUILD, "split.fold=2", "split.num_folds=5", "branch=opaque", "+sweep=joblib", "hydra.sweep.dir=x"]
    config.compose_params(place.PARAMS, BUILD)
    text = advice(monkeypatch, {"split.fold": (None, 2), "split.num_folds": (None, 5)}, *given)
    assert text.endswith(choices.exp_run(given[:-3])) and "'dataset.root=/data/x y'" in text


def test_a_stage_under_dvc_is_told_to_follow_params_yaml(monkeypatch):
    assert advice(monkeypatch, {"split.fold": (0, 1)}, config_name="pipeline").endswith("dvc repro")


@pytest.fixture
def under_dvc(conf, tmp_path, monkeypatch, capsys):
    """Say what dvc.lock has of a stage; return what `say_replaced` prints."""
    monkeypatch.setattr("ppdl.config.place.PROJECT", tmp_path)

    def say(stage, what, params, deps=(), now=()):
        monkeypatch.setenv("DVC_STAGE", stage)
        entry = {"params": {"params.yaml": params}, "deps": list(deps)}
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {stage: entry}}))
        choices.say_replaced(choices.compose(now), what)
        return capsys.readouterr().out

    return say


def test_a_stage_says_in_one_line_with_what_it_made_what_it_replaces(under_dvc):
    before, now = choices.compose(BUILD)["dataset"], choices.compose()["dataset"]
    assert under_dvc("download", "data/raw", {"dataset": before}) == (
        "data/raw is replaced: it was made with dataset=folder 'dataset.root=/data/x y'. "
        "To have it back, and keep it: ppdl keep dataset=folder 'dataset.root=/data/x y' && dvc repro\n"
    )
    assert under_dvc("download", "data/raw", {"dataset": now}) == ""
    assert "keygen.key_bits=2048" in under_dvc("keygen", "keys/public.json", {"keygen": choices.compose()["keygen"] | {"key_bits": 2048}})
    scheme = {"protections.opaque.scheme": choices.compose()["protections"]["opaque"]["scheme"], "input_px": 64}
    key = {"path": "keys/public.json", "md5": "0" * 32}
    assert "made with another public key" in under_dvc("encrypt@opaque", "data/encrypted/opaque", scheme, [key])
    assert "made with input_px=32" in under_dvc("encrypt@opaque", "data/encrypted/opaque", scheme | {"input_px": 32})


def test_outside_of_dvc_nothing_is_replaced(conf, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    choices.say_replaced({}, "data/raw")
    assert capsys.readouterr().out == ""


def test_hydras_reason_stands_where_no_hint_is_known(conf):
    with pytest.raises(ConfigError, match="Could not find 'dataset/foldr'"):
        choices.compose(["dataset=foldr"])


def test_a_set_of_another_hospital_is_kept_and_what_follows_from_it_is_not():
    there = ["+dataset@evaluation.external.there=folder", "evaluation.external.there.root=/b"]
    wanted = choices.compose(["dataset=folder", "dataset.root=/x", *there])
    assert wanted["listed_external"] == ["there"]
    overrides = choices.beyond_conf(wanted).overrides()
    assert not any("listed_external" in text for text in overrides)
    assert choices.compose(overrides) == wanted
