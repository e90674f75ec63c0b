"""The IND-CPA game as an experiment: encryptions of two chosen images, and classifiers that guess which is which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from ppdl.audit.examination.base import ENCRYPT, PRIOR, REVEAL, Attack, Finding, Target, Truth
from ppdl.audit.examination.verdict import advantage_interval
from ppdl.errors import AttackDoesNotApply

_MOST_BYTES = 1 << 16  # that a linear classifier looks at: evenly spaced where there are more


@dataclass(frozen=True, eq=False)
class Game:
    """Hold the bits that were guessed, (num_test,) int, those that the challenger drew, and the classifier that guessed them."""

    guessed: np.ndarray
    hidden: np.ndarray
    classifier: str


@dataclass(frozen=True)
class Distinguisher(Attack):
    """Play the game: choose two images, see encryptions of them in a hidden order, and guess the order.

    The adversary chooses the two public images that differ most. The challenger draws num_trials bits and encrypts the images that they
    name, in one artifact. The adversary is told the bits of the first part: he could have encrypted those himself. He fits several cheap
    classifiers to it, keeps the one that guesses a second part best, and guesses the rest with it. Classifiers see what stands for each
    image in the artifact, and neither file names, order, sizes nor times.

    The advantage is that of this adversary. None proves nothing about a better one: that is the proof's part.

    Args:
        num_trials: encryptions; 3 / 5 of them are guessed.

    Source: S. Goldwasser, S. Micali, "Probabilistic encryption", JCSS 28(2), 1984. Interval: C. Clopper, E. Pearson, Biometrika 26, 1934.
    """

    num_trials: Annotated[int, Ge(20)]  # fewer say nothing

    name: ClassVar[str] = "distinguisher"
    surface: ClassVar[str] = "artifact"
    needs: ClassVar[frozenset[str]] = frozenset({ENCRYPT, PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts, and encryptions of chosen images (the public key)"
    source: ClassVar[str] = "Goldwasser and Micali 1984"

    def run(self, target: Target, rng: np.random.Generator) -> Game:
        """Play. Cost: num_trials encryptions, and seconds for the classifiers."""
        train, validation = self.num_trials // 4, self.num_trials * 2 // 5
        parts = (train, validation - train, self.num_trials - validation)
        bits = np.concatenate([rng.permutation(np.arange(size) % 2) for size in parts])  # as many of each: always saying 1 gains nothing
        shown = self._shown(target, most_different(target.prior)[bits])
        known, chosen = bits[:train], bits[train:validation]
        scores = {
            name: np.mean(guess(shown[:train], known, shown[train:validation]) == chosen) if len(chosen) else 0.0
            for name, guess in CLASSIFIERS.items()
        }
        best = max(scores, key=lambda name: scores[name])
        return Game(CLASSIFIERS[best](shown[:validation], bits[:validation], shown[validation:]), bits[validation:], best)

    def on_view(self) -> Attack | None:
        return DistinguisherView(self.num_trials)

    def _shown(self, target: Target, images: np.ndarray) -> np.ndarray:
        """Return what stands for each of the chosen images in an artifact, (num_images, num_values) integers."""
        encrypted = target.encrypt(images)
        if encrypted.symbols is not None:
            return _rows(encrypted.symbols.array)  # equal symbols are equal ciphertexts, and in the order of those
        if encrypted.ciphertexts is not None:
            return _rows(encrypted.ciphertexts)
        if encrypted.picture is not None:
            return _rows(encrypted.picture)
        raise AttackDoesNotApply("encryption gives nothing that an attacker holds")

    def score(self, guess: Game, truth: Truth) -> Finding:
        """Return the advantage, 2 * accuracy - 1, with its exact 95 % interval."""
        num, hits = len(guess.hidden), int((guess.guessed == guess.hidden).sum())
        low, high = advantage_interval(hits, num)
        metrics = {
            "advantage": 2 * hits / num - 1,
            "advantage_low": low,
            "advantage_high": high,
            "classifier": guess.classifier,
            "num_trials": self.num_trials,
            "num_guessed": num,
        }
        return Finding(metrics)


@dataclass(frozen=True)
class DistinguisherView(Distinguisher):
    """Play the same game with what the key holder reveals of the chosen images.

    A view of two different images differs by design, so an advantage of 1 is expected: it says that a revealed view has no such proof.
    """

    name: ClassVar[str] = "distinguisher_view"
    surface: ClassVar[str] = "view"
    needs: ClassVar[frozenset[str]] = frozenset({REVEAL, PRIOR})
    knowledge: ClassVar[str] = "the revealed view, and views of chosen images"

    def on_view(self) -> Attack | None:
        return None

    def _shown(self, target: Target, images: np.ndarray) -> np.ndarray:
        return _rows(target.reveal(images))


def most_different(images: np.ndarray) -> np.ndarray:
    """Return the two images with the largest mean squared difference, (2, height, width) uint8.

    Raises:
        AttackDoesNotApply: no two images differ.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    squares = (flat**2).sum(1)
    distances = squares[:, None] + squares - 2 * flat @ flat.T
    pair = np.unravel_index(distances.argmax(), distances.shape)
    if np.array_equal(images[pair[0]], images[pair[1]]):
        raise AttackDoesNotApply("no two public images differ")
    return images[list(pair)]


def nearest(known: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Guess the bit of the known image with the most equal values in equal places: what equal ciphertexts give away."""
    return np.array([bits[(known == row).sum(1).argmax()] for row in unknown])


def linear(known: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Guess by logistic regression on the values: what is larger for one of the images."""
    step = -(-known.shape[1] // _MOST_BYTES)
    return _logistic(known[:, ::step].astype(np.float32), bits, unknown[:, ::step].astype(np.float32))


def statistics(known: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Guess by logistic regression on statistics that forget places: moments, steps, entropy, number of different values."""
    return _logistic(_statistics(known), bits, _statistics(unknown))


CLASSIFIERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "nearest": nearest,
    "linear": linear,
    "statistics": statistics,
}


def _logistic(known: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression  # a second to import, and every stage checks what the attacks are built from
    from sklearn.preprocessing import StandardScaler

    scale = 1 / np.sqrt(known.shape[1])  # keeps the scores near 1 in any number of dimensions
    scaler = StandardScaler().fit(known)
    model = LogisticRegression(C=1.0, max_iter=200)
    return model.fit(scaler.transform(known) * scale, bits).predict(scaler.transform(unknown) * scale)


def _statistics(rows: np.ndarray) -> np.ndarray:
    """Describe each row by (num_rows, num_statistics) float64."""
    from scipy.stats import kurtosis, skew

    described = []
    for row in rows:
        values = row.astype(np.float64)
        _, counts = np.unique(row, return_counts=True)
        shares = counts / len(row)
        histogram = np.histogram(values, 16, (values.min(), values.max() + 1))[0] / len(row)
        steps = np.abs(np.diff(values)).mean()
        moments = (values.mean(), values.std(), skew(values), kurtosis(values)) if len(counts) > 1 else (values[0], 0.0, 0.0, 0.0)
        described.append([*moments, steps, -(shares * np.log2(shares)).sum(), len(counts), shares.max(), *histogram])
    return np.array(described)


def _rows(array: Any) -> np.ndarray:
    """Read an array as one row an image."""
    content = np.asarray(array)
    return content.reshape(len(content), -1)
