"""Tell the class of an image from its ciphertexts, by linear probes trained on half of the set: what a network may learn, it leaks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.attacks.as_is import at_size, gray_rows
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value_of_overlap, smallest_rate
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_COARSE_PX = 16  # side of the picture that a probe sees whole


@dataclass(frozen=True)
class ClassLeak(base.Attack):
    """Fit a ridge classifier on half of the images and test it on the other half: on pixels, on their means over areas, on the histogram.

    Whoever trains on protected images has their labels. Ciphertexts that say nothing are exchangeable, so among the tested images those
    that a classifier puts into a class are a random draw, whatever it learned and however classes and patients are distributed. How many
    of them are of that class is tested exactly, class by class: a permutation test of the labels, in closed form.

    Attributes:
        num_images: images looked at, at most.

    Source: R. Fisher, The logic of inductive inference, J. Royal Statistical Society 98(1), 1935, for the test; R. Shokri and
    V. Shmatikov, CCS 2015, section 3, for what a label tells; A. Hoerl and R. Kennard, Technometrics 12(1), 1970, for the classifier.
    """

    num_images: Count

    name: ClassVar[str] = "class_leak"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE, base.LABELS})
    knowledge: ClassVar[str] = "the protected images as pictures, and the class of half of them"
    source: ClassVar[str] = "R. Fisher, J. Royal Statistical Society 98(1), 1935"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return the share of images whose class is told, by the probe that tells it best, and whether chance allows that."""
        rows = rng.permutation(target.num_images)[: self.num_images]
        labels = np.asarray(target.labels)[rows]
        half = len(rows) // 2
        classes = np.intersect1d(labels[:half], labels[half:])
        if len(classes) < 2:
            raise AttackDoesNotApply("fewer than two classes have several images")
        counts = np.array([(labels[half:] == c).sum() for c in classes])
        if min(p_value_of_overlap(n, n, n, len(labels) - half) for n in counts.tolist()) * len(PROBES) * len(classes) > FALSE_ALARM:
            raise AttackDoesNotApply(f"{len(labels)} images with a class are too few: even all classes told right could be chance")
        images = gray_rows(target.picture, rows)
        guesses = {name: _guessed(probe(images), labels[:half]) for name, probe in PROBES.items()}
        return base.Finding(_judged(guesses, labels[half:], classes, counts))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        """Return what was found: the attacker has the labels that it is tested on."""
        return guess


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def _areas(images: np.ndarray) -> np.ndarray:
    return _pixels(at_size(images, min(_COARSE_PX, images.shape[1]), min(_COARSE_PX, images.shape[2])))


def _histogram(images: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(row, minlength=256) for row in images.reshape(len(images), -1)]).astype(np.float32)


PROBES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"pixels": _pixels, "means over areas": _areas, "histogram": _histogram}


def _guessed(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class of each row of values (num_rows, num_values) that has no label: (num_rows - num_labels,)."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=values.shape[1], class_weight="balanced"))
    return model.fit(values[: len(labels)], labels).predict(values[len(labels) :])


def _judged(guesses: Mapping[str, np.ndarray], labels: np.ndarray, classes: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    num_tests, size = len(guesses) * len(classes), len(labels)
    p_values = {
        probe: min(
            p_value_of_overlap(int((guess[labels == c] == c).sum()), int((guess == c).sum()), int((labels == c).sum()), size)
            for c in classes
        )
        for probe, guess in guesses.items()
    }
    best = min(p_values, key=lambda probe: p_values[probe])
    metrics: dict[str, Any] = {"p_value": p_values[best], "probe": best, "num_tested": size, "leak": None}
    metrics |= {"class_accuracy": float((guesses[best] == labels).mean()), "chance_class_accuracy": float(counts.max() / size)}
    rates = [smallest_rate(int(count), count / size, num_tests) for count in counts]
    metrics["unseen"] = f"a class of which {min(rates):.0%} are told (chance {counts[np.argmin(rates)] / size:.0%})"
    if p_values[best] * num_tests <= FALSE_ALARM:
        metrics["leak"] = (
            f"the class is told from the ciphertexts ({metrics['class_accuracy']:.0%} right by a linear probe of {best}, "
            f"the largest class {metrics['chance_class_accuracy']:.0%})"
        )
    return metrics
