"""Run all attacks on one protected set, and say what they found."""

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ppdl.audit.examination.base import VIEW, Attack, Rebuilt, Target, Truth
from ppdl.audit.examination.verdict import Verdict, judge, smallest_effects
from ppdl.errors import AttackDoesNotApply


@dataclass(frozen=True, eq=False)
class Audit:
    """Hold what the attacks on one protected set found.

    Attributes:
        results: by attack, its metrics and `smallest_effects`, with `surface` (what was attacked: artifact or view), `needs`, `knowledge`,
            `source` and `seconds`; or `does_not_apply` with the reason.
        rebuilt: by attack, what it rebuilt.
        verdict: what it means.
    """

    results: dict[str, dict[str, Any]]
    rebuilt: dict[str, Rebuilt]
    verdict: Verdict


def examine(attacks: Mapping[str, Attack], target: Target, truth: Truth, *, seed: int) -> Audit:
    """Run attacks one after another, each with the part of the target that it needs and randomness of its own.

    Args:
        attacks: by the name that the reports give them.
        seed: of the attackers' choices; nothing secret is drawn from it.
    """
    results: dict[str, dict[str, Any]] = {}
    rebuilt: dict[str, Rebuilt] = {}
    bar = tqdm(on_all_surfaces(attacks).items(), desc=f"audit {target.name}", unit="attack")
    for name, attack in bar:
        bar.set_postfix_str(name)
        said = {"surface": surface_of(attack), "needs": sorted(attack.needs), "knowledge": attack.knowledge, "source": attack.source}
        start = time.perf_counter()
        try:
            finding = attack.examine(target, truth, np.random.default_rng([seed, zlib.crc32(name.encode())]))
        except AttackDoesNotApply as reason:
            results[name] = said | {"does_not_apply": str(reason)}
            continue
        results[name] = finding.metrics | smallest_effects(finding.metrics) | said | {"seconds": round(time.perf_counter() - start, 2)}
        if finding.rebuilt is not None:
            rebuilt[name] = finding.rebuilt
    return Audit(results, rebuilt, judge({name: found for name, found in results.items() if "does_not_apply" not in found}))


def on_all_surfaces(attacks: Mapping[str, Attack]) -> dict[str, Attack]:
    """Return attacks by name, and behind each NAME, as NAME_view, the same on the revealed view."""
    both = ((name, {name: attack, f"{name}_view": attack.on_view()}) for name, attack in attacks.items())
    return {key: attack for _, pair in both for key, attack in pair.items() if attack is not None}


def surface_of(attack: Attack) -> str:
    """Return what an attack looks at: artifact or view."""
    return getattr(attack, "surface", "view" if VIEW in attack.needs else "artifact")
