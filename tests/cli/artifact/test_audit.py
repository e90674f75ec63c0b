"""`ppdl artifact audit` on published schemes, by their published rules, on noise and on what was not encrypted."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ppdl.cli import main
from tests.audit import schemes

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
    assert "Not confidential" in " ".join(output.split())
    found = report["attacks"][attack]
    assert found["found"] and found["rebuilt"]  # by their structure alone, which is the verdict where there are no originals
    assert found["ssim"] > 0.9


@pytest.mark.parametrize("with_originals", [True, False], ids=["with originals", "without"])
def test_noise_is_unbroken_and_no_attack_succeeds(folders, tmp_path, images, with_originals):
    options = ("--originals", str(folders / "plain")) if with_originals else ()
    output, report = run(folders, tmp_path, schemes.noise(images, np.random.default_rng(0)), *options)
    assert report["verdict"]["level"] == "unbroken"
    assert "proves nothing" in " ".join(output.split())
    assert not any(row.get("found") for row in report["attacks"].values())


def test_identity_every_attack_on_pictures_succeeds_without_originals(folders, tmp_path, images):
    output, report = run(folders, tmp_path, images)
    assert report["verdict"]["level"] == "broken" and "Not confidential" in " ".join(output.split())
    for name in ("as_is", "negative_positive", "jigsaw", "seriation"):
        assert report["attacks"][name]["found"] and "ssim" not in report["attacks"][name], name


def test_writes_sheets(folders, tmp_path, images):
    run(folders, tmp_path, images, "--out", str(tmp_path / "sheets"), "--originals", str(folders / "plain"), "--max-images", "10")
    with Image.open(tmp_path / "sheets" / "as_is.png") as sheet:
        assert sheet.size == (3 * 68 * 2, 8 * 68 * 2)


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


def test_user_errors_end_in_one_line_and_exit_code_1(folders, tmp_path):
    for arguments, words in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path)], "holds no images"),
        ([str(folders / "plain"), "--originals", str(folders / "nowhere")], "does not exist"),
        ([str(folders / "plain"), "--prior", str(tmp_path)], "holds no images"),
    ):
        result = CliRunner().invoke(main, ["artifact", "audit", *arguments])
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output


def test_help_says_how():
    text = CliRunner().invoke(main, ["artifact", "audit", "--help"]).output
    assert "--originals" in text
    assert "ppdl artifact audit encrypted/" in text
