"""Undo the pixel-wise negative-positive transform, which replaces a pixel v by 255 - v where a key bit is 1.

The distance from middle gray, |v - 127.5|, is in the clear; only its sign is hidden. Under one key for many images the sign that two
neighbouring positions share or not shows in how their values correlate over the images. Under a key for each image only smoothness and
what public images look like are left.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse import csgraph

from ppdl.audit.attacks.as_is import at_size, gray_rows, is_negative, rows_with
from ppdl.audit.examination import base
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count, NotNegative

_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to the neighbours of a position, each pair once
_FEWEST = 8  # images; below, a correlation over images says too little
_ONE_KEY = 0.5  # median correlation of neighbours that one key for all images shows; keys of their own give about 0.8 / sqrt(num_images)
_CAPACITY = 1000  # of an edge of weight 1 in the graph cut, which wants integers


@dataclass(frozen=True)
class NegativePositive(base.Attack):
    """Find the sign of each pixel about middle gray.

    A colour picture is attacked in its green channel. A shuffle of the channels of a pixel does not matter for gray originals, whose
    channels are equal.

    Attributes:
        num_images: images used to find the signs of one key.
        num_scored: images rebuilt.
        prior_weight: weight of the public images against smoothness, where each image has its own key.

    Raises:
        AttackDoesNotApply: (run) the picture has another size than the images, so that a pixel of it stands for none of theirs.

    Cost: about 0.1 s an image of 64 px for keys of their own; 1 s for one key.
    """

    num_images: Count
    num_scored: Count
    prior_weight: NotNegative

    name: ClassVar[str] = "negative_positive"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    wants: ClassVar[frozenset[str]] = frozenset({base.PRIOR})
    knowledge: ClassVar[str] = "the protected images as pictures, and public images"
    source: ClassVar[str] = (
        "after A. H. Chang and B. M. Case, Attacks on image encryption schemes for privacy-preserving deep neural networks, 2020"
    )

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[base.Rebuilt, bool]:
        """Return the rebuilt images, and whether they share one key."""
        if target.picture.shape[1:3] != (target.height, target.width):
            raise AttackDoesNotApply("the picture has another size than the images")
        scored = base.scored_rows(target.num_images, self.num_scored)
        rows = rows_with(scored, target.num_images, self.num_images, rng)
        signed = gray_rows(target.picture, rows).astype(np.float64) - 127.5
        tie, agreement = _neighbours(signed)
        one_key = len(rows) >= _FEWEST and np.median(np.abs(agreement)) > _ONE_KEY
        own = signed[np.searchsorted(rows, scored)]
        if one_key:
            own = own * _signs_of_tree(tie, agreement, own.shape[1:])
        else:
            odds = None if target.prior is None else _odds(at_size(target.prior, target.height, target.width))
            own = np.stack([np.abs(image) * _cut(np.abs(image), odds, self.prior_weight) for image in own])
        images = np.round(own + 127.5).astype(np.uint8)
        return base.Rebuilt(scored, 255 - images if is_negative(images, target.prior) else images), bool(one_key)

    def score(self, guess: tuple[base.Rebuilt, bool], truth: base.Truth) -> base.Finding:
        rebuilt, one_key = guess
        return base.Finding(
            {**base.score_rebuilt(rebuilt, truth), "one_key": one_key, "partial": not one_key, "num_scored": len(rebuilt.rows)}, rebuilt
        )


def _neighbours(signed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of neighbouring positions, (2, num_pairs), and how their values agree over the images, (num_pairs,) in [-1, 1].

    The correlation is about middle gray, not about the means: what both have in common is what tells their signs apart.
    """
    height, width = signed.shape[1:]
    place = np.arange(height * width).reshape(height, width)
    size = np.sqrt((signed**2).sum(0))
    ties, agreements = [], []
    for down, right in _STEPS:
        here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(down, height), slice(max(0, right), width + min(0, right)))
        ties.append(np.stack([place[here].ravel(), place[there].ravel()]))
        product = np.einsum("nyx,nyx->yx", signed[:, *here], signed[:, *there])
        agreements.append((product / (size[here] * size[there])).ravel())
    return np.concatenate(ties, 1), np.concatenate(agreements)


def _signs_of_tree(tie: np.ndarray, agreement: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Carry signs along the spanning tree of the surest pairs: (height, width) of -1 and 1."""
    count = shape[0] * shape[1]
    weights = sparse.csr_array((1.0 + 1e-6 - np.abs(agreement), tuple(tie)), (count, count))  # 0 would mean no edge
    tree = csgraph.minimum_spanning_tree(weights)
    order, parent = csgraph.breadth_first_order(tree, 0, directed=False)
    turn = dict(zip(map(tuple, tie.T.tolist()), np.where(agreement < 0, -1.0, 1.0), strict=True))
    signs = np.ones(count)
    for node in order[1:].tolist():
        above = int(parent[node])
        signs[node] = signs[above] * turn.get((above, node), turn.get((node, above)))
    return signs.reshape(shape)


def _odds(prior: np.ndarray) -> np.ndarray:
    """Return, for each position and distance from middle gray, the log of how much likelier bright is than dark: (height, width, 128).

    Estimated from public images (num_prior, height, width), blurred over distances and counted with one half added.
    """
    bright = np.zeros((*prior.shape[1:], 256))
    y, x = np.indices(prior.shape[1:])
    for image in prior:
        bright[y, x, image] += 1
    bright = gaussian_filter(bright, (1.5, 1.5, 8.0)) * (2 * np.pi) ** 1.5 * 1.5 * 1.5 * 8.0 + 0.5
    return np.log(bright[..., 128:] / bright[..., 127::-1])


def _cut(size: np.ndarray, odds: np.ndarray | None, prior_weight: float) -> np.ndarray:
    """Choose signs of one image by a minimum cut: (height, width) of -1 and 1.

    Two neighbours of distance a and b from middle gray differ by |a - b| under one sign and by a + b under two, so two signs cost
    2 min(a, b) more; a pixel's own cost is from `odds`. Without public images all signs are equal, and the image stays folded.
    """
    if odds is None:
        return np.ones(size.shape)
    height, width = size.shape
    count = size.size
    own = prior_weight * np.take_along_axis(odds, np.floor(size).astype(int)[..., None], 2).ravel()
    place = np.arange(count).reshape(height, width)
    ends, weights = [], []
    for a, b in (((slice(None), slice(0, -1)), (slice(None), slice(1, None))), ((slice(0, -1),), (slice(1, None),))):
        weight = np.minimum(size[a], size[b]).ravel() / 16
        ends += [np.stack([place[a].ravel(), place[b].ravel()]), np.stack([place[b].ravel(), place[a].ravel()])]
        weights += [weight, weight]
    source, sink = count, count + 1
    ends += [np.stack([np.full(count, source), np.arange(count)]), np.stack([np.arange(count), np.full(count, sink)])]
    weights += [np.maximum(own, 0), np.maximum(-own, 0)]
    capacity = np.round(_CAPACITY * np.concatenate(weights)).astype(np.int32)
    graph = sparse.csr_array((capacity, tuple(np.concatenate(ends, 1))), (count + 2, count + 2))
    rest = graph - csgraph.maximum_flow(graph, source, sink).flow
    rest.data[rest.data < 0] = 0
    rest.eliminate_zeros()
    bright = csgraph.breadth_first_order(rest, source, return_predecessors=False)
    signs = np.full(count + 2, -1.0)
    signs[bright] = 1
    return signs[:count].reshape(height, width)
