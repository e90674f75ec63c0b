"""Does a network know anything about the labels? An exact test, made for protections that must leave nothing to learn."""

from dataclasses import dataclass, replace
from math import exp

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom

from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.predictions import Predictions

AT_CHANCE, BEATS_CHANCE, CANNOT_TELL = "at chance", "beats chance", "cannot tell"
CHUNK_NUMBERS = 2_000_000  # labels held at once: 16 MB, whatever the number of images and permutations


@dataclass(frozen=True)
class PermutationResult:
    """Hold what `permutation_test` found.

    Attributes:
        balanced_accuracy: On the true labels of all images.
        expected: Mean over the permutations of what the test compares, which is what chance gives on these images.
        p_value: One-sided; at least 1 / (num_permutations + 1).
        best_p: The p-value that a network which knows every label would get here, or a smaller one, in half of all draws of permutations.
        alpha: The level below which the test rejects chance.
        num_movable: Images whose label can move, see `permutation_test`.
        sentence: The finding in plain words.
    """

    balanced_accuracy: float
    expected: float
    p_value: float
    best_p: float
    alpha: float
    num_permutations: int
    num_movable: int
    sentence: str

    @property
    def verdict(self) -> str:
        """Say BEATS_CHANCE, AT_CHANCE, or CANNOT_TELL where even a perfect network would not have been found."""
        if self.p_value <= self.alpha:
            return BEATS_CHANCE
        return AT_CHANCE if self.best_p <= self.alpha else CANNOT_TELL


def permutation_test(
    predictions: Predictions, *, num_permutations: int, seed: int, alpha: float = 1e-4, name: str = "the network"
) -> PermutationResult:
    """Test one-sided whether balanced accuracy is above what labels without any relation to the images would give.

    Null hypothesis: what the network says about the images of a group is drawn for each group anew, in the same way whatever the labels and
    the number of its images; a larger group only shows more of it. What the images of one group share may be anything, so labels move
    between groups, never within one. Of two ways to move them the test takes one by which a network that knows every label would be found,
    and if both are, the one that moves more images, which it reads from labels and groups alone:

    - *whole groups*: labels move between groups of equally many images, the labels of one replacing those of another. Exact also for a
      network that knows how many images a group has, and uses every image; but it has no power where size and class go together, such as a
      class with serial films.
    - *one image a group*, drawn at random: labels move between all groups. Exact under the null hypothesis. Moving whole groups between
      sizes is not: the share of ten films that a network calls ill scatters less than that of one, so such groups cannot be exchanged.

    Exact means: P(p_value <= alpha) <= alpha for every alpha and any number of images, whatever the network, even one that always says the
    same. `benchmarks/control.py` measures it, and the power.

    Resolution: p = (1 + number of permutations that do at least as well) / (1 + num_permutations). The true labels count as one
    permutation, so the smallest p is 1 / (1 + num_permutations), and alpha = 1e-4 needs at least 9,999; with 10,000 it rejects only if
    no permutation does as well. Take ten times as many for a stable p near alpha. Few groups limit p as well: `best_p` says how far.

    Args:
        seed: Of the permutations, and of the images that are drawn.
        alpha: Level of the test.
        name: What the sentence calls the run.

    Raises:
        ConfigError: Too few permutations to ever reach `alpha`.

    Source: Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39, for counting the true labels; Hoffman, Sen and Weinberg,
        Biometrika 88 (2001) 1121, for one image a group where sizes tell; Huang, Xu, Calian and Hsu, Bioinformatics 22 (2006) 2244, on
        permutations that are not exact where distributions differ.
    Cost: 20 ns for each image and permutation: 10,000 of 1,200 images take 0.2 s.
    """
    if (num_permutations + 1) * alpha < 1 - 1e-9:
        least = int(np.ceil(1 / alpha - 1e-9)) - 1
        raise ConfigError(f"num_permutations must be >= {least} for a p-value of {alpha:g} to be possible, got {num_permutations}")
    rng = np.random.default_rng(seed)
    labels, predicted = predictions.labels, predictions.predicted
    plans = (_whole_groups(predictions), _one_image_a_group(predictions, rng))
    strata = min(plans, key=lambda plan: (_best_p(labels, plan, num_permutations) > alpha, -_num_moved(labels, plan)))
    rows = np.concatenate([of.ravel() for of in strata])
    worth = _worth(labels[rows], len(predictions.class_names))
    observed = float(worth[labels[rows]][labels[rows] == predicted[rows]].sum())
    permuted = sum(_permuted(labels[of], predicted[of], worth, num_permutations, rng) for of in strata)
    at_least = int(np.sum(permuted >= observed - 1e-9))  # sums of the same terms in another order differ by rounding
    found = PermutationResult(
        balanced_accuracy=float(_worth(labels, len(predictions.class_names))[labels][labels == predicted].sum()),
        expected=float(np.mean(permuted)),
        p_value=(1 + at_least) / (1 + num_permutations),
        best_p=_best_p(labels, strata, num_permutations),
        alpha=alpha,
        num_permutations=num_permutations,
        num_movable=sum(of.size for of in strata if _differ(labels[of])),
        sentence="",
    )
    return replace(found, sentence=_sentence(found, name, at_least))


def _whole_groups(predictions: Predictions) -> list[np.ndarray]:
    """Return rows of images, (num_groups, group_size) for each group size."""
    order = np.argsort(predictions.groups, kind="stable")
    _, starts, sizes = np.unique(predictions.groups[order], return_index=True, return_counts=True)
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def _one_image_a_group(predictions: Predictions, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the row of one image of each group, drawn at random, as one stratum (num_groups, 1)."""
    order = rng.permutation(len(predictions))
    return [order[np.unique(predictions.groups[order], return_index=True)[1]][:, None]]


def _num_moved(labels: np.ndarray, strata: list[np.ndarray]) -> float:
    """Return how many images get another label by a permutation, on average."""
    moved = 0.0
    for rows in strata:
        of = labels[rows]  # (num_groups, size): place by place, labels move between groups
        moved += sum(len(of) - (np.bincount(place) ** 2).sum() / len(of) for place in of.T)
    return moved


def _best_p(labels: np.ndarray, strata: list[np.ndarray], num_permutations: int) -> float:
    """Return the median p-value of a network that knows all: permutations that give every image its own label do as well."""
    log = 0.0
    for rows in strata:
        same = np.unique(labels[rows], axis=0, return_counts=True)[1]
        log += gammaln(same + 1).sum() - gammaln(len(rows) + 1)
    return float(1 + binom.median(num_permutations, exp(min(log, 0.0)))) / (1 + num_permutations)


def _differ(labels: np.ndarray) -> bool:
    return len(np.unique(labels, axis=0)) > 1


def _worth(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return what a hit on each class adds to the mean recall, (num_classes,); 0 for a class without an image."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, 1 / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)


def _permuted(labels: np.ndarray, predicted: np.ndarray, worth: np.ndarray, num_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Return (num_permutations,) what the hits of one stratum are worth when its groups swap labels; both (num_groups, size)."""
    if not _differ(labels):
        return np.full(num_permutations, _worth_of(labels[None], predicted, worth)[0])
    num_groups = len(labels)
    chunk = max(1, CHUNK_NUMBERS // labels.size)
    found = []
    for start in range(0, num_permutations, chunk):
        rows = min(chunk, num_permutations - start)
        order = rng.permuted(np.tile(np.arange(num_groups), (rows, 1)), axis=1)
        found.append(_worth_of(labels[order], predicted, worth))
    return np.concatenate(found)


def _worth_of(labels: np.ndarray, predicted: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Return (m,) the worth of the hits for `labels` (m, num_groups, size) against `predicted` (num_groups, size)."""
    return np.where(labels == predicted, worth[labels], 0).sum(axis=(1, 2))


def _sentence(found: PermutationResult, name: str, at_least: int) -> str:
    finding = {
        BEATS_CHANCE: f"{name} beats chance: something about the labels can be learnt from its input",
        AT_CHANCE: f"no evidence at level {found.alpha:g} that {name} knows anything about the labels",
        CANNOT_TELL: f"cannot tell at level {found.alpha:g} whether {name} knows anything about the labels, since on these images a "
        f"network that knows all of them gets p = {found.best_p:.2g}; test more patients of each class",
    }[found.verdict]
    return (
        f"Balanced accuracy of {name} is {100 * found.balanced_accuracy:.1f} %, chance gives {100 * found.expected:.1f} %; {at_least:,} of "
        f"{found.num_permutations:,} shuffles of the labels among the groups do at least as well (p = {found.p_value:.2g}): {finding}."
    )
