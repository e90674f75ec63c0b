"""The owner's noise: its distribution, what it depends on, and that nobody else can draw it."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import math
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import stats

from ppdl.errors import ConfigError, KeyStoreError
from ppdl.protections.steps import noise
from ppdl.protections.steps.noise import NOISE_FILE, NoiseSecret, discrete_gaussian, load_noise_secret
from ppdl.protections.steps.release import Release

WEIGHTS = np.array([[1, 1, 1, 1], [1, -1, 1, -1]])
SECRET = NoiseSecret(bytes(range(32)))
OUTPUTS = np.arange(2 * 32 * 32).reshape(2, 32, 32)
CONFIGURATION = Release(WEIGHTS, 1.0, 1.0, 4.0).configuration
SIGMA = np.array([16.0, 16.0])


def draw(secret=SECRET, configuration=CONFIGURATION, outputs=OUTPUTS, sigma=SIGMA):
    return secret.draw(configuration, outputs, sigma)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0, 400.0])
def test_the_distribution_is_the_discrete_gaussian(sigma):
    """Chi-square against exp(-k^2 / (2 sigma^2)), computed here, on bins with at least 20 expected draws."""
    words = np.random.default_rng(7).integers(0, 2**64, 200_000, dtype=np.uint64)
    drawn = discrete_gaussian(words, sigma)
    k = np.arange(-int(12 * sigma) - 2, int(12 * sigma) + 3)
    p = np.exp(-(k.astype(float) ** 2) / (2 * sigma**2))
    expected = len(words) * p / p.sum()
    found = np.bincount(drawn - k[0], minlength=len(k))[: len(k)]
    keep = expected >= 20
    folded = (np.append(found[keep], found[~keep].sum()), np.append(expected[keep], expected[~keep].sum()))
    use = folded[1] > 0.01
    statistic = ((folded[0] - folded[1])[use] ** 2 / folded[1][use]).sum()
    assert stats.chi2.sf(statistic, use.sum() - 1) > 1e-4
    assert abs(drawn.mean()) < 5 * max(sigma, 0.3) / np.sqrt(len(words))


def test_the_extreme_words_stay_within_the_table():
    words = np.array([0, 1, 2**64 - 1, 2**64 - 2], np.uint64)
    drawn = discrete_gaussian(words, 10.0)
    assert drawn.tolist()[2:] == [0, 0]  # the largest words are the most probable number
    assert drawn[0] == -drawn[1] and 80 <= drawn[0] <= 95


def test_no_noise_is_zero():
    assert not discrete_gaussian(np.arange(10, dtype=np.uint64), 0.0).any()


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), 2.0**21])
def test_a_level_out_of_range(sigma):
    with pytest.raises(ConfigError, match="standard deviation of the noise must be from 0 to 1048576"):
        discrete_gaussian(np.zeros(1, np.uint64), sigma)


def by_definition(word: int, sigma: float) -> int:
    """Invert the distribution function by adding probabilities one by one, without the library's table."""
    weight = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(1, int(12 * sigma))}
    total = 1 + 2 * math.fsum(weight.values())
    tail = [2 * math.fsum(w for k, w in weight.items() if k >= least) / total for least in range(1, len(weight) + 1)]
    size = sum((word >> 1) < probability * 2**63 for probability in tail)
    return -size if word & 1 else size


def test_a_golden_vector():
    """The stream as documented, built here from HMAC and ChaCha20, and the first numbers, fixed for good: other ones would average."""
    shape = json.dumps([CONFIGURATION, [2, 32, 32]], sort_keys=True).encode()
    parts = [b"ppdl noise v1", b"image", shape, OUTPUTS.astype("<i8").tobytes()]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    key = hmac.new(bytes(range(32)), message, hashlib.sha256).digest()
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(64))
    words = np.frombuffer(stream, "<u8").tolist()
    golden = [-8, 6, -9, -17, -23, -24, 11, 18]
    assert [by_definition(word, 16.0) for word in words] == golden
    assert draw()[0, 0, :8].tolist() == golden


def test_equal_image_and_configuration_have_equal_noise():
    """A rerun cannot average it away."""
    np.testing.assert_array_equal(draw(), draw(NoiseSecret(bytes(range(32)))))


@pytest.mark.parametrize(
    "changed",
    [
        {"secret": NoiseSecret(bytes(32))},
        {"outputs": OUTPUTS + (np.arange(OUTPUTS.size).reshape(OUTPUTS.shape) == 5)},
        {"configuration": Release(WEIGHTS, 0.5, 1.0, 4.0).configuration},
        {"configuration": Release(WEIGHTS[::-1].copy(), 1.0, 1.0, 4.0).configuration},
        {"configuration": Release(WEIGHTS, 1.0, 1.0, 4.001).configuration},
    ],
    ids=["secret", "one pixel of the image", "clipping", "filters", "level"],
)
def test_any_difference_gives_independent_noise(changed):
    a, b = draw().ravel(), draw(**changed).ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(a.size)


def test_the_same_row_of_another_data_set_does_not_cancel():
    """Noise is bound to the image, not to its row: otherwise the difference of two releases would be free of noise."""
    release = Release(WEIGHTS, 1.0, 1.0, 4.0)
    first, second = (np.full((1, 2, 16, 16), value) for value in (300, 301))
    difference = release.reveal(first, SECRET).astype(int) - release.reveal(second, SECRET).astype(int)
    assert difference.std() > 1000


def test_the_secret_cannot_be_printed_pickled_or_copied():
    assert bytes(range(32)).hex() not in repr(SECRET) and repr(SECRET) == "NoiseSecret(not shown)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="NoiseSecret holds private key material"):
            attempt(SECRET)


def test_the_secret_is_made_once_and_closed_to_others(tmp_path):
    private_dir = tmp_path / "private"
    first = load_noise_secret(private_dir, project=tmp_path / "project")
    path = private_dir / NOISE_FILE
    assert path.stat().st_mode & 0o777 == 0o600 and private_dir.stat().st_mode & 0o777 == 0o700
    text = path.read_text()
    assert load_noise_secret(private_dir, project=tmp_path / "project").identifier == first.identifier
    assert path.read_text() == text
    other = load_noise_secret(tmp_path / "other", project=tmp_path / "project")
    assert other.identifier != first.identifier
    assert first.identifier not in text
    assert sorted(p.name for p in private_dir.iterdir()) == [NOISE_FILE]


def test_a_secret_that_was_made_meanwhile_is_kept(tmp_path):
    private_dir = tmp_path / "private"
    load_noise_secret(private_dir, project=tmp_path / "project")
    text = (private_dir / NOISE_FILE).read_text()
    noise._create(private_dir / NOISE_FILE)
    assert (private_dir / NOISE_FILE).read_text() == text


def test_a_secret_in_the_project_is_refused(tmp_path):
    with pytest.raises(KeyStoreError, match="must not lie inside the project"):
        load_noise_secret(tmp_path / "project/private", project=tmp_path / "project")
    assert not (tmp_path / "project").exists()


def test_a_secret_that_others_may_read_is_refused(tmp_path):
    tmp_path.chmod(0o700)
    load_noise_secret(tmp_path, project=tmp_path / "project")
    (tmp_path / NOISE_FILE).chmod(0o644)
    with pytest.raises(KeyStoreError, match=r"others may read this private file \(mode 0644\): chmod 600"):
        load_noise_secret(tmp_path, project=tmp_path / "project")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": "other", "secret": "00"}', '{"format": "ppdl noise secret v1", "secret": "c0ffee"}']
)
def test_a_damaged_secret_is_named_and_not_quoted(tmp_path, content):
    tmp_path.chmod(0o700)
    path = tmp_path / NOISE_FILE
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="damaged: must be a JSON object") as error:
        load_noise_secret(tmp_path, project=tmp_path / "project")
    assert "c0ffee" not in str(error.value)


def test_a_private_folder_open_to_others_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(KeyStoreError, match="must be closed to others: chmod 700"):
        load_noise_secret(folder, project=tmp_path / "project")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 0.0), "clip must be a fraction of an output's range, above 0 and at most 1, got 0.0"),
        ((1.0, 1.5, 0.0), "clip_detail must be a fraction"),
        ((1.0, "all", 0.0), "clip_detail must be a fraction"),
        ((1.0, 1.0, -1.0), "noise must be a standard deviation >= 0 in gray levels, got -1.0"),
        ((1.0, 1.0, float("nan")), "noise must be a standard deviation"),
        ((1.0, 1.0, 1e6), "noise must be at most 262144 here, got 1000000.0"),
    ],
)
def test_a_release_that_breaks_a_rule(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Release(WEIGHTS, *arguments)


def test_without_noise_the_extremes_land_on_the_ends():
    low_and_high = np.array([[[[0, 1020]], [[-510, 510]]]])  # (1, 2, 1, 2)
    assert Release(WEIGHTS, 1.0, 1.0, 0.0).reveal(low_and_high, None).tolist() == [[[[-32767, -32767], [32767, 32767]]]]


def test_without_clipping_no_output_is_lost():
    """Each of the 1,021 values of a channel has a value of its own, in order."""
    values = np.stack([np.arange(1021), np.arange(-510, 511)])[None, :, None]
    revealed = Release(WEIGHTS, 1.0, 1.0, 0.0).reveal(values, None)
    assert (np.diff(revealed[0, 0].astype(int), axis=0) > 0).all()


def test_details_are_clipped_apart_from_averages():
    release = Release(WEIGHTS, 1.0, 0.25, 0.0)
    assert release.limit.tolist() == [510, 127]
    assert release.reveal(np.array([[[[1020]], [[200]]]]), None).tolist() == [[[[32767, 32767]]]]


def test_noise_has_the_level_in_gray_levels_of_the_mean():
    outputs = np.full((1, 2, 64, 64), 0)
    outputs[0, 0] = 510
    revealed = Release(WEIGHTS, 1.0, 1.0, 8.0).reveal(outputs, SECRET) / 32767 * 127.5
    np.testing.assert_allclose(revealed.std(axis=(0, 1, 2)), 8.0, rtol=0.05)


def test_noise_without_a_secret_is_refused():
    with pytest.raises(ConfigError, match=r"noise 8\.0 needs the owner's secret"):
        Release(WEIGHTS, 1.0, 1.0, 8.0).reveal(np.zeros((1, 2, 1, 1), int), None)
