"""From views back to images: exact where the filters lose nothing, nothing from noise, more from several views than from one."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from ppdl.audit.attacks.blind import Blind
from ppdl.audit.attacks.inversion import Inversion
from ppdl.audit.attacks.linear_inversion import Look, pseudo_inverse
from ppdl.audit.examination.base import Target, Truth, score_rebuilt
from ppdl.audit.examination.release_view import release_view
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.noise import NoiseSecret
from ppdl.protections.steps.revealed import Revealed, read_revealed
from tests.protections.conftest import chain, small_key  # noqa: F401  (fixtures)

PX = 32
DCT = {"filters": "dct", "channels": 3, "weight_bits": 4}
NOISY = [{"stride": 2, "noise": noise, **DCT} for noise in (16, 15.9, 15.8, 15.7)]
ARGS = {
    "num_scored": 6,
    "max_epochs": 2,
    "strides": [2, 4],
    "noises": [0, 16],
    "unions": [{"name": "four draws", "views": NOISY}],
}
SECRET = NoiseSecret(bytes(32))
LEVELS = {"clip": 1.0, "clip_detail": 1.0}


def smooth(seed, num):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(num, PX, PX)), (0, 2, 2), mode="wrap")
    return np.clip(127 + noise * 400, 0, 255).astype(np.uint8)


def revealed(images, filters, noise=0.0, stride=2, array=None):
    if array is None:
        array = release_view(images, stride=stride, filters=filters, noise=noise, secret=SECRET, **LEVELS)
    header = SimpleNamespace(filters=filters.matrix(stride).tolist(), params={"reveal": LEVELS | {"noise": noise}})
    return Revealed(header, array)


def invert(images, view, release=True, **changes):
    def again(rows, stride, filters, noise):
        return release_view(images[rows], stride=stride, filters=filters, noise=noise, secret=SECRET, **LEVELS)

    target = Target("anything", len(images), PX, PX, view=view, prior=smooth(9, 40), release=again if release else None)
    return Inversion(**ARGS | changes).examine(target, Truth(images), np.random.default_rng(0))


def test_view_in_the_clear_is_that_of_the_three_parties(chain):  # noqa: F811
    chain.encrypt(), chain.filter()
    found = read_revealed(chain.decrypt()).array
    np.testing.assert_array_equal(release_view(chain.images, stride=2, filters=Filters(**DCT), noise=0.0, secret=None, **LEVELS), found)


def test_filters_that_lose_nothing_give_the_images_back():
    identity = Filters([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], 3, 4)
    images = smooth(1, 8)
    images[:, 1::2, 1::2] = 127  # what the fourth filter would see
    metrics = invert(images, revealed(images, identity), release=False).metrics
    assert metrics["pseudo_inverse_psnr"] > 45 and metrics["ssim"] >= metrics["pseudo_inverse_ssim"] > 0.98
    assert metrics["curve"] == [] and metrics["union"] == []


def test_curve_falls_with_stride_and_noise_and_views_compose():
    images = smooth(2, 8)
    finding = invert(images, revealed(images, Filters(**DCT)))
    metrics = finding.metrics
    ssim = {(point["stride"], point["noise"]): point["ssim"] for point in metrics["curve"]}
    assert set(ssim) == {(2, 0.0), (2, 16.0), (4, 0.0), (4, 16.0)}
    assert ssim[2, 0.0] > ssim[4, 0.0] and ssim[2, 0.0] > ssim[2, 16.0] > 0.2
    assert all(point["ssim"] >= point["pinv_ssim"] for point in metrics["curve"])
    assert metrics["ssim"] == pytest.approx(ssim[2, 0.0])  # the same view, inverted once
    assert score_rebuilt(finding.rebuilt, Truth(images))["ssim"] == metrics["ssim"]
    union = metrics["union"][0]
    assert union["psnr"] > union["best_single_psnr"] + 1 and union["num_views"] == 4


def test_noise_instead_of_a_view_gives_no_more_than_blindness():
    images = smooth(3, 8)
    noise = np.random.default_rng(4).integers(-32767, 32768, (8, PX // 2, PX // 2, 3)).astype(np.int16)
    found = invert(images, revealed(images, Filters(**DCT), array=noise), release=False).metrics
    target = Target("blind", len(images), PX, PX, prior=smooth(9, 40))
    blind = Blind(num_scored=6).examine(target, Truth(images), np.random.default_rng(0)).metrics
    assert found["ssim"] < 0.1 and found["psnr"] < blind["psnr"]


def test_pseudo_inverse_solves_for_what_the_filters_see():
    look = Look(4, Filters(**DCT), 1.0, 1.0, 0.0)
    rows = look.weights / look.scale[:, None]
    np.testing.assert_allclose(rows @ pseudo_inverse([look]).T, np.eye(3), atol=1e-5)


def test_too_few_public_images_do_not_apply():
    images = smooth(5, 8)
    target = Target("anything", 8, PX, PX, view=revealed(images, Filters(**DCT)), prior=images[:3])
    with pytest.raises(AttackDoesNotApply, match="public images"):
        Inversion(**ARGS).examine(target, Truth(images), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"max_epochs": 0}, "max_epochs"), ({"unions": [{"name": "one", "views": NOISY[:1]}]}, "unions")],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        construct(Inversion, ARGS | change, "attack")
