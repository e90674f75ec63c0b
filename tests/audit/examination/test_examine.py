"""Running attacks, and what they leave on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from ppdl.audit.attacks.blind import Blind
from ppdl.audit.examination.base import KNOWN, PICTURE, Attack, Finding, Rebuilt, Target, Truth, score_rebuilt
from ppdl.audit.examination.examine import examine
from ppdl.audit.examination.records import audit_metric, headlines, write_audit
from ppdl.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=np.uint8)


@dataclass(frozen=True)
class Look(Attack):
    """Take the picture for the image."""

    rows: tuple[int, ...]
    name: ClassVar = "look"
    needs: ClassVar = frozenset({PICTURE})
    knowledge: ClassVar = "the picture alone"
    source: ClassVar = ""

    def run(self, target, rng):
        assert target.prior is None and target.known is None
        return Rebuilt(np.array(self.rows), np.asarray(target.picture)[list(self.rows)])

    def score(self, guess, truth):
        return Finding(score_rebuilt(guess, truth), guess)


@dataclass(frozen=True)
class NeedsKnown(Look):
    name: ClassVar = "needs_known"
    needs: ClassVar = frozenset({KNOWN})


@pytest.fixture
def target():
    return Target("toy", 30, 16, 16, picture=IMAGES, prior=255 - IMAGES)


ATTACKS = {"blind": Blind(num_scored=10), "look": Look((0, 3, 29)), "needs_known": NeedsKnown(())}


def test_each_attack_is_reported_with_what_it_knows(target):
    audit = examine(ATTACKS, target, Truth(IMAGES), seed=1)
    assert audit.results["look"]["ssim"] == pytest.approx(1) and audit.results["look"]["psnr"] == 100
    assert audit.results["look"]["knowledge"] == "the picture alone" and audit.results["look"]["surface"] == "artifact"
    assert audit.results["needs_known"] == {
        "surface": "artifact",
        "needs": ["known"],
        "knowledge": "the picture alone",
        "source": "",
        "does_not_apply": "no image is known in the clear",
    }
    assert abs(audit.results["blind"]["ssim"]) < 0.1
    assert audit.verdict.level == "broken" and audit.verdict.best_attack == "look"


def test_an_audit_can_be_read_back(target, tmp_path):
    truth = Truth(IMAGES)
    write_audit(tmp_path / "toy", examine(ATTACKS, target, truth, seed=1), target, truth)
    audits = {"toy": json.loads((tmp_path / "toy/audit.json").read_text())}
    metric = audit_metric(audits)
    assert metric["toy"]["look"] == {"psnr": 100.0, "ssim": pytest.approx(1)}
    assert metric["toy"]["verdict"].startswith("broken: Not confidential")
    assert headlines(audits["toy"])["best_ssim"] == pytest.approx(1) == headlines(audits["toy"])["look_ssim"]
    json.dumps(metric, allow_nan=False)
    with np.load(tmp_path / "toy/pictures.npz", allow_pickle=False) as pictures:
        assert pictures["rows"].tolist() == [0, 3, 29]  # blind scored these too
        assert (pictures["original"] == IMAGES[[0, 3, 29]]).all() and (pictures["rebuilt__look"] == pictures["original"]).all()
        assert pictures["rebuilt__blind"].shape == (3, 16, 16)


def test_the_blind_guess_sees_public_images_alone(target):
    found = Blind(num_scored=4).run(target.only(Blind.needs), np.random.default_rng(0))
    assert (found.images == np.rint((255 - IMAGES).mean(0)).astype(np.uint8)).all() and len(found.rows) == 4


def test_rebuilt_images_must_have_the_shape_of_the_originals():
    with pytest.raises(ConfigError, match="shape"):
        score_rebuilt(Rebuilt(np.array([0]), np.zeros((1, 8, 8), np.uint8)), Truth(IMAGES))


@pytest.mark.parametrize(
    ("figure", "missing"), [("top1", "chance_top1, num_queries, top1_low"), ("advantage", "advantage_low, num_guessed"), ("ssim", "psnr")]
)
def test_a_figure_that_the_verdict_reads_needs_those_beside_it(figure, missing):
    with pytest.raises(ConfigError, match=f"reports {figure} must report {missing} as well"):
        Finding({figure: 0.5})
