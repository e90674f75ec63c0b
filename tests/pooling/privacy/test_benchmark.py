"""The benchmark runs on drawn features; its figures on real images are in docs/results.md."""

import json

import numpy as np
import pytest

from benchmarks import pooled_privacy
from benchmarks.pooled_xrays import Images

pytest.importorskip("opendp", reason="the extra `privacy` is not installed")


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(2)
    labels = np.arange(300) % 3
    raw = rng.normal(2.0 * np.eye(3)[labels] @ np.ones((3, 6)) * (labels[:, None] - 1), 1.0)
    raw[:, :3] += 3 * np.eye(3)[labels]
    paths = np.array([f"{row}.png" for row in range(300)])
    return Images(
        tmp_path,
        raw.astype(np.float32),
        rng.normal(0, 1, (200, 6)),
        labels,
        np.arange(300),
        rng.permutation(300) % 3,
        paths,
        ("a", "b", "c"),
        7,
    )


def test_noise_costs_accuracy_and_hides_members(images, monkeypatch, capsys):
    monkeypatch.setattr(pooled_privacy, "read", lambda folder: images)
    monkeypatch.setattr(pooled_privacy, "EPSILONS", (0.1, 30.0))
    monkeypatch.setattr("sys.argv", ["pooled_privacy", "folder", "--json", "--draws", "2", "--features", "5"])
    pooled_privacy.main()
    strict, weak, none = found = json.loads(capsys.readouterr().out)
    assert strict["accuracy"] < weak["accuracy"] - 0.1 and none["accuracy"] > 0.9
    assert strict["multiplier"] > 10 * weak["multiplier"] > 0 and strict["epsilon_alone"] < 0.2
    assert none["heads_failed"] == 0
    assert {one["attack"] for one in none["attacks"]} == {"leverage", "quadratic", "pool"}
    pooled_privacy.show(found)
    assert "infinite" in capsys.readouterr().out
