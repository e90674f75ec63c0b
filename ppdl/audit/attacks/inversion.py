"""From revealed views back to the images: how much of them a linear, lossy view still holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from ppdl.audit.attacks.decoder import Decoder
from ppdl.audit.attacks.linear_inversion import MIDDLE, UNIT, Look, coarsest, fit_context, pseudo_inverse, stacked
from ppdl.audit.examination import base
from ppdl.audit.examination.release_view import images_to_patches, patches_to_images
from ppdl.errors import AttackDoesNotApply, ConfigError
from ppdl.protections.steps.filters import Filters, parse_approved
from ppdl.protections.steps.noise import NoiseSecret
from ppdl.records.typecheck import Count, NotNegative, check_types

logger = logging.getLogger(__name__)

_LEAST_PRIOR = 8
Stride: TypeAlias = Literal[2, 4, 8]  # STRIDES of ppdl.protections.steps.filters
_CONTEXT = 2  # patches on each side that the regression looks at
_HELD_OUT = 0.1  # of the public images, which stops the decoder's training
_CURVE = Filters(filters="dct", channels=3, weight_bits=4)  # one for all experiments, so that their curves compare


@dataclass(frozen=True, eq=False)
class Inverted:
    """Hold rebuilt images by method, {method: (k, height, width) uint8}: of the view, of each point of the curve, of each union."""

    rows: np.ndarray
    view: dict[str, np.ndarray]
    curve: list[tuple[dict[str, Any], dict[str, np.ndarray]]]
    unions: list[tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, np.ndarray]]]]


@dataclass(frozen=True)
class _Point:
    """What is checked of a view of a union, beside its filters."""

    stride: Stride
    noise: NotNegative


@dataclass(frozen=True)
class Inversion(base.Attack):
    """Rebuild images from the revealed view, from other views that might have been revealed, and from several views together.

    Three methods. `pseudo_inverse`: least squares of each patch by itself, with nothing but the public filters. `regression`: ridge
    regression of a patch on its neighbourhood, fitted to views of public images, which the attacker makes with noise of his own.
    `decoder`: a small network that starts from the regression, trained on the same views, one for all noise levels of the same filters.

    Args:
        num_scored: images that are rebuilt and scored.
        max_epochs: passes of the decoder over the public images at most.
        strides, noises: of the curve, with three DCT filters of 4-bit weights.
        unions: views that are inverted together, each `name` and `views`: a list of `stride`, `noise` and what
            ppdl.protections.steps.filters takes: `filters`, `channels`, `weight_bits`.

    Raises:
        ConfigError: a value breaks its rule.

    Source: A. Dosovitskiy, T. Brox, "Inverting visual representations with convolutional networks", CVPR 2016 (learned inversion).
    """

    num_scored: Count
    max_epochs: Count
    strides: Sequence[Stride]
    noises: Sequence[NotNegative]
    unions: Sequence[Mapping[str, Any]]

    name: ClassVar[str] = "inversion"
    needs: ClassVar[frozenset[str]] = frozenset({base.VIEW, base.PRIOR})
    wants: ClassVar[frozenset[str]] = frozenset({base.RELEASE})
    knowledge: ClassVar[str] = "the revealed view, how it was made, and public images"
    source: ClassVar[str] = "Dosovitskiy and Brox 2016"

    def __post_init__(self) -> None:
        for union in self.unions:
            if set(union) != {"name", "views"} or not isinstance(union["views"], Sequence) or len(union["views"]) < 2:
                raise ConfigError(f"each of unions must have name and views, two or more of them, got {union!r}")
            for view in union["views"]:
                _look(view, 1.0, 1.0)

    def run(self, target: base.Target, rng: np.random.Generator) -> Inverted:
        """Rebuild images.

        Raises:
            AttackDoesNotApply: too few public images to learn from.

        Cost: about a minute for 200 public images of 128 px and the default curve on two cores, half of it for the decoders.
        """
        if len(target.prior) < _LEAST_PRIOR:
            raise AttackDoesNotApply(f"at least {_LEAST_PRIOR} public images are needed to learn from")
        rows = base.scored_rows(target.num_images, self.num_scored)
        attacker = _Attacker(self, target, rows, rng)
        own = look_of(target.view.header)
        points = [own, *self._points(target, own)]
        attacker.take(own, np.asarray(target.view.array[rows]))
        rebuilt = attacker.invert_all(points)
        curve = [
            ({"stride": look.stride, "noise": float(look.noise), "channels": look.filters.channels}, images)
            for look, images in zip(points[1:], rebuilt[1:], strict=True)
        ]
        return Inverted(rows, rebuilt[0], curve, self._unions(target, own, attacker))

    def _points(self, target: base.Target, own: Look) -> list[Look]:
        if target.release is None:
            return []
        fits = [s for s in self.strides if target.height % s == 0 and target.width % s == 0]
        if len(fits) < len(self.strides):
            logger.warning("images of %d x %d px are no whole number of patches at some strides: left out", target.height, target.width)
        return [Look(s, _CURVE, own.clip, own.clip_detail, float(noise)) for s in fits for noise in self.noises]

    def _unions(self, target: base.Target, own: Look, attacker: _Attacker) -> list[Any]:
        found = []
        for union in self.unions if target.release is not None else ():
            looks = [_look(view, own.clip, own.clip_detail) for view in union["views"]]
            if target.height % coarsest(looks) or target.width % coarsest(looks):
                continue
            said = {"name": union["name"], "num_views": len(looks)}
            found.append((said, attacker.linear(looks), [attacker.linear([look]) for look in dict.fromkeys(looks)]))
        return found

    def score(self, guess: Inverted, truth: base.Truth) -> base.Finding:
        """Return psnr and ssim of the best method, of each method, the curve, and the unions beside their best single view."""
        scores = _scores(guess.rows, guess.view, truth)
        method = _best(scores)
        metrics: dict[str, Any] = scores[method] | {"method": method}
        for name, values in scores.items():
            metrics |= {f"{name}_{key}": value for key, value in values.items()}
        metrics["curve"] = [said | self._point(guess.rows, images, truth) for said, images in guess.curve]
        metrics["union"] = []
        for said, images, singles in guess.unions:
            alone = [max((s["ssim"], s["psnr"]) for s in _scores(guess.rows, single, truth).values()) for single in singles]
            ssim, psnr = max(alone)
            metrics["union"].append(said | self._point(guess.rows, images, truth) | {"best_single_psnr": psnr, "best_single_ssim": ssim})
        return base.Finding(metrics, base.Rebuilt(guess.rows, guess.view[method]))

    def _point(self, rows: np.ndarray, images: dict[str, np.ndarray], truth: base.Truth) -> dict[str, Any]:
        scores = _scores(rows, images, truth)
        method, linear = _best(scores), scores["pseudo_inverse"]
        return {"pinv_psnr": linear["psnr"], "pinv_ssim": linear["ssim"], **scores[method], "method": method}


@dataclass(frozen=True, eq=False)
class _Parts:
    """Hold features of public and of protected images, the regression of the latter, and what regresses."""

    public: np.ndarray
    seen: np.ndarray
    end: np.ndarray
    regress: Callable[[np.ndarray], np.ndarray]


class _Attacker:
    """Hold public images, views of them and of the protected images, and what was learned."""

    def __init__(self, attack: Inversion, target: base.Target, rows: np.ndarray, rng: np.random.Generator) -> None:
        self._attack, self._target, self._rows, self._rng = attack, target, rows, rng
        self._prior = target.prior[rng.permutation(len(target.prior))]
        self._num_train = max(1, min(len(self._prior) - 1, round(len(self._prior) * (1 - _HELD_OUT))))
        self._secret = NoiseSecret(rng.bytes(32))
        self._views: dict[tuple[Any, ...], np.ndarray] = {}
        self._public: dict[tuple[Any, ...], np.ndarray] = {}
        self._rebuilt: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}

    def take(self, look: Look, view: np.ndarray) -> None:
        """Remember a view of the protected images."""
        self._views[_key(look)] = view

    def _view(self, look: Look) -> np.ndarray:
        if (key := _key(look)) not in self._views:
            self._views[key] = self._target.release(self._rows, look.stride, look.filters, look.noise)
        return self._views[key]

    def _public_view(self, look: Look) -> np.ndarray:
        if (key := _key(look)) not in self._public:
            self._public[key] = look.of(self._prior, self._secret)
        return self._public[key]

    def patches(self, stride: int) -> np.ndarray:
        """Return the public images as patches, (num_prior, height, width, stride * stride) float32, see `UNIT`."""
        return (images_to_patches(self._prior, stride).astype(np.float32) - MIDDLE) / UNIT

    def linear(self, looks: Sequence[Look]) -> dict[str, np.ndarray]:
        """Rebuild from views together, by the linear methods."""
        key = tuple(map(_key, looks))
        if key not in self._rebuilt:
            self._rebuilt[key] = self._linear(looks)[0]
        return self._rebuilt[key]

    def _linear(self, looks: Sequence[Look]) -> tuple[dict[str, np.ndarray], _Parts]:
        stride, train = coarsest(looks), slice(self._num_train)
        public = stacked(looks, [self._public_view(look) for look in looks])
        seen = stacked(looks, [self._view(look) for look in looks])
        regress = fit_context(public[train], self.patches(stride)[train], _CONTEXT)
        end = regress(seen)
        images = {"pseudo_inverse": _images(seen @ pseudo_inverse(looks), stride), "regression": _images(end, stride)}
        return images, _Parts(public, seen, end, regress)

    def invert_all(self, points: Sequence[Look]) -> list[dict[str, np.ndarray]]:
        """Rebuild from each view by itself, by all methods, with one decoder for the views that differ in noise alone."""
        groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Look]] = {}
        for look in points:
            groups.setdefault(_key(look)[:-1], {})[_key(look)] = look
        rebuilt = {key: images for group in groups.values() for key, images in self._decoded(list(group.values())).items()}
        return [rebuilt[_key(look)] for look in points]

    def _decoded(self, looks: Sequence[Look]) -> dict[tuple[Any, ...], dict[str, np.ndarray]]:
        stride, found = looks[0].stride, {}
        for look in looks:
            self._rebuilt[(_key(look),)], found[look] = self._linear([look])
        inputs = [_with_noise(parts.public, look.noise) for look, parts in found.items()]
        starts = [parts.regress(parts.public) for parts in found.values()]
        decode = Decoder(self._attack.max_epochs).fit(inputs, starts, self.patches(stride), self._num_train, self._rng)
        return {
            _key(look): self.linear([look]) | {"decoder": _images(decode(level, _with_noise(parts.seen, look.noise), parts.end), stride)}
            for level, (look, parts) in enumerate(found.items())
        }


def look_of(header: Any) -> Look:
    """Return how a view was made, from its header."""
    weights, reveal = header.filters, header.params["reveal"]
    filters = Filters(filters=weights, channels=len(weights), weight_bits=4)  # weights are given, so weight_bits is not used
    return Look(math.isqrt(len(weights[0])), filters, reveal["clip"], reveal["clip_detail"], float(reveal["noise"]))


def _look(view: Mapping[str, Any], clip: float, clip_detail: float) -> Look:
    names = {"stride", "noise", "filters", "channels", "weight_bits"}
    if not isinstance(view, Mapping) or set(view) != names:
        raise ConfigError(f"each view of unions must have exactly {', '.join(sorted(names))}, got {view!r}")
    check_types(_Point, view, "views")
    (filters,) = parse_approved([{name: view[name] for name in ("filters", "channels", "weight_bits")}])
    return Look(view["stride"], filters, clip, clip_detail, float(view["noise"]))


def _key(look: Look) -> tuple[Any, ...]:
    """Return what tells views apart; noise last."""
    return look.stride, look.weights.tobytes(), look.clip, look.clip_detail, look.noise


def _with_noise(features: np.ndarray, noise: float) -> np.ndarray:
    """Add a channel that says how noisy a view is."""
    level = np.full((*features.shape[:3], 1), math.log2(1 + noise) / 4, np.float32)
    return np.concatenate([features, level], -1)


def _images(patches: np.ndarray, stride: int) -> np.ndarray:
    return np.clip(np.rint(patches_to_images(patches * UNIT + MIDDLE, stride)), 0, 255).astype(np.uint8)


def _scores(rows: np.ndarray, images: dict[str, np.ndarray], truth: base.Truth) -> dict[str, dict[str, float]]:
    return {method: base.score_rebuilt(base.Rebuilt(rows, rebuilt), truth) for method, rebuilt in images.items()}


def _best(scores: dict[str, dict[str, float]]) -> str:
    return max(scores, key=lambda method: scores[method]["ssim"])
