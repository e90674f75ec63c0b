"""`ppdl artifact audit` on published schemes, by their published rules, on noise and on what was not encrypted."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ppdl.audit.attacks.as_is import AsIs
from ppdl.audit.folder.examine import PAILLIER, WITH_ORIGINALS
from ppdl.cli import main
from ppdl.cli.artifact import audit as command
from ppdl.config import CONF
from ppdl.crypto.keys.keyfile import save_public
from ppdl.crypto.keys.keypair import PublicKey
from tests.audit import schemes
from tests.audit.schemes import standard

NUM_IMAGES = 20
SCHEMES = {
    "pixel-wise negative-positive": (schemes.negative_positive, "negative_positive"),
    "block scrambling": (schemes.block_scrambling, "jigsaw"),
    "scaled Paillier with r = 1": (lambda images, rng: schemes.paillier_without_randomness(images), "as_is"),
}


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, NUM_IMAGES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, images):
    """Write originals and public images once."""
    root = tmp_path_factory.mktemp("audit")
    for name, films in (("plain", images), ("prior", schemes.films(9, 100))):
        (root / name).mkdir()
        for i, film in enumerate(films):
            Image.fromarray(film).save(root / name / f"{i:03d}.png")
    return root


@pytest.fixture(autouse=True)
def one_set_of_each_size(monkeypatch, tmp_path_factory):
    """Let seriation rebuild from one set of each size, not from ten whose figures are averaged: that was two thirds of an audit."""
    conf = tmp_path_factory.mktemp("conf")
    shutil.copytree(CONF / "attack", conf / "attack")
    file = conf / "attack/seriation.yaml"
    file.write_text(file.read_text().replace("num_repeats: 10", "num_repeats: 1"))
    monkeypatch.setattr("ppdl.config.CONF", conf)


def run(folders, tmp_path, protected, *options):
    folder = tmp_path / "encrypted"
    folder.mkdir()
    for i, image in enumerate(protected):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    arguments = ["artifact", "audit", str(folder), "--prior", str(folders / "prior"), "--json", str(tmp_path / "audit.json"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output, json.loads((tmp_path / "audit.json").read_text())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_says_not_confidential(folders, tmp_path, images, scheme):
    protect, attack = SCHEMES[scheme]
    protected = protect(images, np.random.default_rng(0))
    output, report = run(folders, tmp_path, protected, "--originals", str(folders / "plain"))
    assert report["verdict"]["level"] == "broken"
    assert "\nbroken: Not confidential: " in output  # the word that docs and --fail-on use
    found = report["attacks"][attack]
    assert found["found"] and found["rebuilt"]  # by their structure alone, which is the verdict where there are no originals
    assert found["ssim"] > 0.9


@pytest.mark.parametrize("with_originals", [True, False], ids=["with originals", "without"])
def test_noise_is_unbroken_and_no_attack_succeeds(folders, tmp_path, images, with_originals):
    options = ("--originals", str(folders / "plain")) if with_originals else ()
    output, report = run(folders, tmp_path, schemes.noise(images, np.random.default_rng(0)), *options)
    assert report["verdict"]["level"] == "unbroken"
    assert "\nunbroken: No attack here succeeded, which proves nothing" in output
    assert not any(row.get("found") for row in report["attacks"].values())
    not_run = {name for name, row in report["attacks"].items() if row.get("not_run") == "needs --originals"}
    assert not_run == (set() if with_originals else {"blind", *WITH_ORIGINALS})
    assert ("not run:" in output) != with_originals


def test_identity_every_attack_on_pictures_succeeds_without_originals(folders, tmp_path, images):
    output, report = run(folders, tmp_path, images)
    assert report["verdict"]["level"] == "broken" and "Not confidential" in " ".join(output.split())
    for name in ("as_is", "negative_positive", "jigsaw", "seriation"):
        assert report["attacks"][name]["found"] and "ssim" not in report["attacks"][name], name


def test_writes_sheets(folders, tmp_path, images):
    run(folders, tmp_path, images, "--out", str(tmp_path / "sheets"), "--originals", str(folders / "plain"), "--max-images", "10")
    with Image.open(tmp_path / "sheets" / "as_is.png") as sheet:
        assert sheet.size == (3 * 68 * 2, 8 * 68 * 2)
    result = CliRunner().invoke(main, ["artifact", "audit", str(tmp_path / "encrypted"), "--out", str(tmp_path / "sheets")])
    assert result.exit_code == 1 and "must be a new or an empty folder" in " ".join(result.output.split())


def test_arrays_of_wide_integers_are_audited(folders, tmp_path, images):
    ciphertexts = images.astype(np.uint64) * 10**15 + 1
    np.save(tmp_path / "c.npy", ciphertexts)
    result = CliRunner().invoke(
        main, ["artifact", "audit", str(tmp_path / "c.npy"), "--prior", str(folders / "prior"), "--json", str(tmp_path / "a.json")]
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["verdict"]["level"] == "broken"
    assert report["attacks"]["seriation"]["found"]


def test_colour_with_shuffled_channels_is_broken(folders, tmp_path, images):
    protected = schemes.negative_positive_colour(images, np.random.default_rng(0))
    _, report = run(folders, tmp_path, protected)
    assert report["verdict"]["level"] == "broken"
    assert report["attacks"]["negative_positive"]["rebuilt"]


def test_a_single_image_is_audited(folders, tmp_path, images):
    _, report = run(folders, tmp_path, images[:1])
    assert report["verdict"]["level"] == "broken"


@pytest.mark.parametrize(
    ("broken", "options", "exit_code"),
    [(True, (), 0), (True, ("--fail-on", "broken"), 1), (True, ("--fail-on", "leaky"), 1), (False, ("--fail-on", "leaky"), 0)],
)
def test_the_exit_code_is_0_unless_a_verdict_is_to_fail(folders, tmp_path, images, monkeypatch, broken, options, exit_code):
    monkeypatch.setattr(command, "_attacks", lambda names: {"as_is": AsIs(4, 3)})
    protected = images[:4] if broken else schemes.noise(images[:4], np.random.default_rng(0))
    np.save(tmp_path / "c.npy", protected)
    arguments = ["artifact", "audit", str(tmp_path / "c.npy"), "--prior", str(folders / "prior"), *options]
    assert CliRunner().invoke(main, arguments).exit_code == exit_code


def test_paillier_integers_under_one_obfuscator_are_rebuilt_and_drawn(folders, tmp_path, images, monkeypatch):
    build = command._attacks
    monkeypatch.setattr(command, "_attacks", lambda names: {name: attack for name, attack in build(names).items() if name in PAILLIER})
    small = images[:8, ::2, ::2]
    key = PublicKey(standard.N)
    save_public(tmp_path / "key.json", key)
    ciphertexts = standard.paillier_integers(small, np.random.default_rng(0), obfuscators="shared")
    text = "\n".join("".join(" ".join(map(str, row)) + "\n" for row in image) for image in ciphertexts)
    (tmp_path / "c.txt").write_text(text)
    np.save(tmp_path / "plain.npy", small)
    arguments = [str(tmp_path / "c.txt"), "--public-key", str(tmp_path / "key.json"), "--originals", str(tmp_path / "plain.npy")]
    arguments += ["--prior", str(folders / "prior"), "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "sheets")]
    result = CliRunner().invoke(main, ["artifact", "audit", *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["verdict"]["level"] == "broken" and report["public_key"] == key.fingerprint
    found = report["attacks"]["obfuscators"]
    assert found["ssim"] > 0.95 and found["exact_up_to_offset"] and "n has 128 bits" in report["attacks"]["key_size"]["leak"]
    with Image.open(tmp_path / "sheets" / "obfuscators.png") as sheet:
        assert sheet.size == (3 * 36 * 4, 8 * 36 * 4)


def test_user_errors_end_in_one_line_and_exit_code_1(folders, tmp_path):
    for arguments, words in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path)], "holds no images"),
        ([str(folders / "plain"), "--originals", str(folders / "nowhere")], "does not exist"),
        ([str(folders / "plain"), "--prior", str(tmp_path)], "holds no images"),
        ([str(folders / "plain"), "--public-key", str(tmp_path / "nowhere")], "nowhere"),
    ):
        result = CliRunner().invoke(main, ["artifact", "audit", *arguments])
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output


def test_help_says_how():
    text = CliRunner().invoke(main, ["artifact", "audit", "--help"]).output
    assert "--originals" in text
    assert "ppdl artifact audit encrypted/" in text
