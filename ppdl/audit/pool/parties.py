"""What each party of a run can tell of the films that a head was trained on, as an audit writes it: every attack with who makes it.

The server is not here: it has ciphertexts alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ppdl.audit.examination.base import Rebuilt
from ppdl.audit.examination.verdict import POOL
from ppdl.audit.pool import membership, published
from ppdl.audit.pool.films import Films, second_moments
from ppdl.audit.pool.pictures import Pictures
from ppdl.audit.pool.published import PublishedHead
from ppdl.audit.pool.separation import separation
from ppdl.audit.pool.subtraction import guessed_counts, last_hospital, misplaced, single_film
from ppdl.errors import DataError

RATIOS = (1, 2, 4, 8, 16)  # films a feature
KEY_HOLDER, WITH_HOSPITAL, HOSPITAL, USER = "key holder", "key holder with one hospital", "one hospital", "user of the head"
ALL_OTHERS = "key holder with all hospitals but one"
_LEVERAGE = "Hoaglin, Welsch 1978"
_QUADRATIC = "Dwork et al. 2015; Homer et al. 2008"
_POOL = "least squares over candidates"
_INFLUENCE = "Cook, Weisberg 1982"

Heads = Callable[[Films], Callable[[Films], PublishedHead]]


@dataclass(frozen=True, eq=False)
class Pooled:
    """Hold what an examiner knows of a run.

    Attributes:
        hospitals: films of each that contributed, by name.
        others: films like these that none contributed.
        num_classes: of the head.
        heads: trains a head on members, and returns what an attacker with candidates makes of it.
        pictures: public images with their features, and other films to rebuild from theirs.
    """

    hospitals: Mapping[str, Films]
    others: Films
    num_classes: int
    heads: Heads
    pictures: Pictures

    @property
    def members(self) -> Films:
        first, *rest = self.hospitals.values()
        return sum(rest, start=first)

    def total(self, films: Films) -> np.ndarray:
        return second_moments(films.design(self.num_classes))


def attack_parties(pooled: Pooled, rng: np.random.Generator) -> tuple[dict[str, dict[str, Any]], dict[str, Rebuilt]]:
    """Run the attacks of all parties.

    Returns:
        By attack, its figures with `party`, `surface`, `needs`, `knowledge`, `source` and `seconds`; and what was rebuilt.
    """
    found: dict[str, dict[str, Any]] = {}
    members, others, head = pooled.members, pooled.others, pooled.heads(pooled.members)
    groups = rng.permutation(np.unique(others.groups))
    is_reference = np.isin(others.groups, groups[: len(groups) // 2])
    (name, own), *_ = pooled.hospitals.items()
    rest = members[len(own) :]

    def tell(
        attack: str, party: str, knowledge: str, source: str, who: Films, not_who: Films, scores: Callable[[Films], np.ndarray]
    ) -> None:
        start, values = time.perf_counter(), scores(who + not_who)
        figures = separation(values[: len(who)], values[len(who) :], who.groups, not_who.groups)
        found[attack] = figures | _said(party, knowledge, source, start)

    for prefix, party, what, who in (
        ("key_holder", KEY_HOLDER, "the total", members),
        ("two_parties", WITH_HOSPITAL, f"the sums of {name}, which any hospital can take from the board", own),
    ):
        total, reference = pooled.total(who), others[is_reference]
        asks = {
            "leverage": (f"{what}, and the film", _LEVERAGE, others, partial(membership.leverage, total=total)),
            "quadratic": (
                f"{what}, the film, and {len(reference)} others like it",
                _QUADRATIC,
                others[~is_reference],
                partial(membership.quadratic, total=total, reference=reference),
            ),
            "pool": (f"{what}, and films that hold all members", _POOL, others, partial(membership.pool, total=total)),
        }
        for attack, (knowledge, source, not_who, scores) in asks.items():
            tell(f"{prefix}_{attack}", party, knowledge, source, who, not_who, scores)
    knows = "the integer head, how many films trained it"
    hospital = f"{knows}, its own films, and films that hold all other members"
    tell("hospital_pool", HOSPITAL, hospital, _INFLUENCE, rest, others, lambda c: published.pool(c, head(own + c), own))
    tell("user_margin", USER, "logits of the film, and its label", "", members, others, lambda c: published.margins(c, head(c)))
    tell("user_pool", USER, f"{knows}, and films that hold all members", _INFLUENCE, members, others, lambda c: published.pool(c, head(c)))
    found["fewer_films"] = _fewer_films(pooled, rng)
    found["subtraction"] = _subtraction(pooled)
    found["single_film"], rebuilt = _single_film(pooled)
    return found, {"single_film": rebuilt}


def _said(party: str, knowledge: str, source: str, start: float) -> dict[str, Any]:
    seconds = round(time.perf_counter() - start, 2)
    return {"party": party, "surface": POOL, "needs": [], "knowledge": f"{party}: {knowledge}", "source": source, "seconds": seconds}


def _fewer_films(pooled: Pooled, rng: np.random.Generator) -> dict[str, Any]:
    """Attack totals over fewer of the films, and the heads that follow: areas under the ROC curve by films a feature."""
    start, members, others, rows = time.perf_counter(), pooled.members, pooled.others, []
    num_features = members.features.shape[1]
    for ratio in (ratio for ratio in RATIOS if ratio * num_features < len(members)):
        chosen = members[np.sort(rng.permutation(len(members))[: ratio * num_features])]
        try:
            head = pooled.heads(chosen)(chosen + others)
        except DataError:  # so few that a class has none
            continue
        candidates, total = chosen + others, pooled.total(chosen)
        scores = {
            "leverage": membership.leverage(candidates, total),
            "pool": membership.pool(candidates, total),
            "user pool": published.pool(candidates, head),
        }
        areas = {
            name: separation(values[: len(chosen)], values[len(chosen) :], chosen.groups, others.groups) for name, values in scores.items()
        }
        least = next(iter(areas.values()))["auc_found"]
        row = {"films a feature": ratio, "films": len(chosen)} | {name: area["auc"] for name, area in areas.items()}
        rows.append(row | {"found 4 times of 5": least})
    knowledge = "the total over fewer films of the run, or the head that follows from it"
    return {"by_ratio": rows} | _said(f"{KEY_HOLDER}, and {USER}", knowledge, "", start)


def _subtraction(pooled: Pooled) -> dict[str, Any]:
    """Take the sums of all hospitals but one off the total; and guess a hospital's classes from the total alone."""
    start, sums = time.perf_counter(), {name: pooled.total(films) for name, films in pooled.hospitals.items()}
    *most, last = sums.values()
    total = pooled.total(pooled.members)
    counts = {name: np.diagonal(one)[: pooled.num_classes] for name, one in sums.items()}
    guesses = {name: guessed_counts(np.diagonal(total)[: pooled.num_classes], int(own.sum())) for name, own in counts.items()}
    return {
        "largest_error_of_last_hospital": float(abs(last_hospital(total, most) - last).max()),
        "labels_misplaced_by_key_holder_alone": float(np.mean([misplaced(guesses[name], own) for name, own in counts.items()])),
    } | _said(ALL_OTHERS, "the total, and the sums of the others; alone the key holder guesses labels from the total", "", start)


def _single_film(pooled: Pooled) -> tuple[dict[str, Any], Rebuilt]:
    """Take one film's features from two totals that differ by it, and draw pictures of other films from features as exact."""
    start, members = time.perf_counter(), pooled.members
    read = single_film(pooled.total(members) - pooled.total(members[: len(members) - 1]), pooled.num_classes)
    exact = read is not None and read[1] == members.labels[-1] and np.array_equal(read[0], members.features[-1])
    drawn = pooled.pictures.rebuild()(pooled.others.features[pooled.pictures.rows])
    figures = pooled.pictures.score(drawn) | {"blind_ssim": pooled.pictures.blind()["ssim"], "features_exact": bool(exact)}
    said = _said(
        KEY_HOLDER,
        "two totals that differ by one film (none was opened here), or one hospital's sums over one, and public images",
        "",
        start,
    )
    return figures | said, Rebuilt(np.arange(len(drawn)), drawn)
