"""What the figures of an audit mean, in plain words, by rules that know no protection's name.

1. An attack *rebuilds* images when its SSIM is at least `REBUILT`, and *shows* them when it is more than `MARGIN` above a blind guess,
   which is the mean of public images. An attacker who was given images of the set in the clear must do so on other images of the set.
   Of several that rebuild, the sentence names the one that needs least (images in the clear count most, then the public
   key), and of equals the nearest.
2. Obfuscators that occur twice, or are guessed, give plaintexts or differences exactly. An attack *tells apart* when the lower end of the
   interval of its advantage is above `ADVANTAGE`, and *finds patients* when that of its top-1 rate is above twice chance.
3. An attack that finds nothing says what it would have found: for every rule that counts trials `smallest_effects` gives the smallest
   figure that would have counted, and the smallest true one that so many trials find with probability `POWER`.
4. An attack *tells members*, the films that a head was trained on, when the lower end of the interval of its area under the ROC curve is
   above one half. For each party that may, the sentence names its best attack, or what it would have found.
5. `broken`: the ciphertexts are rebuilt. `leaky`: the ciphertexts show, repeat, tell apart or give patients away, the revealed view does,
   or a party tells members. `unbroken`: none of it, which is no proof.
"""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

REBUILT = 0.8  # SSIM
MARGIN = 0.1  # SSIM above a blind guess
ADVANTAGE = 0.1
POWER = 0.8
BLIND = "blind"
EQUAL = 0.005  # of SSIM
COSTLY = ("known", "public_key")  # needs that count more than any number of others, in this order
ARTIFACT, VIEW, POOL = "artifact", "view", "pool"
CHANCE = 0.5  # of an area under the ROC curve
BROKEN, LEAKY, UNBROKEN = "broken", "leaky", "unbroken"
NOT_CONFIDENTIAL = "Not confidential: "  # begins a sentence on rebuilt or leaking ciphertexts


@dataclass(frozen=True)
class Verdict:
    """Hold what an audit concludes.

    Attributes:
        level: `broken`, `leaky` or `unbroken`.
        sentence: the reasons with their figures.
        best_attack, best_ssim: of all rebuilt images, those nearest to the originals, a blind guess included; of attacks that are as good
            to two digits best_attack is the one that needs least.
    """

    level: str
    sentence: str
    best_attack: str | None
    best_ssim: float | None

    def said_of(self, name: str) -> str:
        """Return level and sentence for a terminal."""
        return textwrap.fill(f"{name} is {self.level}: {self.sentence}", 120, subsequent_indent="  ")


def judge(results: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Apply the rules of this module.

    Args:
        results: by attack, its metrics, with `surface` (artifact, view or pool, which has a `party` too), `needs` and `knowledge`; attacks
            that do not apply are left out.
    """
    artifact = {name: found for name, found in results.items() if found.get("surface") == ARTIFACT}
    view = {name: found for name, found in results.items() if found.get("surface") == VIEW}
    blind = results.get(BLIND, {}).get("ssim")
    rebuilt, shown = _best(artifact), _best(view)
    best = max((found for found in (rebuilt, shown, (blind, BLIND) if blind is not None else None) if found), default=None)
    marks = {surface: _marks(found) for surface, found in ((ARTIFACT, artifact), (VIEW, view))}
    if rebuilt and rebuilt[0] >= REBUILT:
        cheapest = _cheapest(artifact)
        level, text = BROKEN, f"{NOT_CONFIDENTIAL}{_rebuilt(cheapest, artifact)}."
        best = (best[0], cheapest[1]) if best and best[0] - cheapest[0] < EQUAL else best  # the one that the sentence names
    elif rebuilt and _above(rebuilt, blind):
        level, text = LEAKY, f"{NOT_CONFIDENTIAL}{_rebuilt(rebuilt, artifact)}; a blind guess has SSIM {blind:.2f}."
    elif marks[ARTIFACT]:
        level, text = LEAKY, f"{NOT_CONFIDENTIAL}{'; '.join(marks[ARTIFACT])}."
    else:
        level, text = UNBROKEN, f"No attack here got anything out of the ciphertexts, which is no proof that none can.{_unseen(artifact)}"
    if view:
        level, text = _with_view(level, text, view, shown, blind, marks[VIEW])
    if pool := {name: found for name, found in results.items() if found.get("surface") == POOL and "auc" in found}:
        level, text = _with_pool(level, text, pool)
    return Verdict(level, text, best[1] if best else None, best[0] if best else None)


def advantage_interval(hits: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of an advantage, 2 * accuracy - 1, from `hits` of `num` guesses: exact (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest  # a second to import, and every stage checks the attacks

    low, high = binomtest(hits, num).proportion_ci(method="exact")
    return 2 * float(low) - 1, 2 * float(high) - 1


def top1_interval(hits: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a top-1 rate (Wilson 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, num).proportion_ci(method="wilson")
    return float(low), float(high)


def smallest_effects(found: Mapping[str, Any]) -> dict[str, float]:
    """Return what the rules would have found, given an attack's number of trials.

    Returns:
        For an advantage or a top-1 rate, by its name: NAME_least, the smallest figure that counts; NAME_found, the smallest true one that
        counts with probability POWER. Both are above 1 where not even the best figure counts. Nothing for attacks that count no trials:
        they are exact, or judged by SSIM against the blind guess.
    """
    effects: dict[str, float] = {}
    if "advantage" in found and "num_guessed" in found:
        num_guessed = int(found["num_guessed"])
        least, true = _least_hits(num_guessed, lambda hits: advantage_interval(hits, num_guessed)[0] > ADVANTAGE)
        effects |= {"advantage_least": 2 * least - 1, "advantage_found": 2 * true - 1}
    if "top1" in found and "num_queries" in found:
        num_queries = int(found["num_queries"])
        least, true = _least_hits(num_queries, lambda hits: top1_interval(hits, num_queries)[0] > 2 * found["chance_top1"])
        effects |= {"top1_least": least, "top1_found": true}
    return effects


def leaks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what attacks found by counting, in words: where chance would do it once in `ppdl.audit.examination.chance.FALSE_ALARM`."""
    return [found["leak"] for found in results.values() if found.get("leak")]


def unseen(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the smallest effects that attacks which count would have found, in words."""
    return [f"{found['unseen']} by {name}" for name, found in results.items() if found.get("unseen")]


def _least_hits(num: int, counts: Callable[[int], bool]) -> tuple[float, float]:
    """Return the smallest share of hits that counts, and the true share of which as many come with probability POWER; else above 1."""
    from scipy.stats import beta

    least = next((hits for hits in range(1, num + 1) if counts(hits)), num + 1)
    if least > num:
        return (num + 1) / num, (num + 1) / num
    return least / num, float(beta.ppf(POWER, least, num - least + 1))  # P(Binomial(num, p) >= least) is this beta's distribution at p


def _unseen(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Say the smallest effects that would have been found."""
    said = []
    for name, found in results.items():
        for key, text in (("advantage", "an advantage of {:.2f}"), ("top1", "{:.0%} of patients at first sight")):
            if (true := found.get(f"{key}_found")) is None:
                continue
            limit = text.format(true) + f" (seen from {format(found[f'{key}_least'], '.2f' if key == 'advantage' else '.0%')})"
            said.append(f"{limit} by {name}" if true <= 1 else f"nothing by {name}, whose trials are too few")
    said += unseen(results)
    if _best(results):
        said.append(f"an SSIM {MARGIN:g} above the blind guess, always")
    return f" What would have been found, {POWER:.0%} of the time: {'; '.join(said)}." if said else ""


def _with_view(
    level: str, text: str, view: Mapping[str, Any], shown: tuple[float, str] | None, blind: float | None, marks: list[str]
) -> tuple[str, str]:
    """Add what the revealed view gives away."""
    reasons = list(marks)
    if shown and (_above(shown, blind) or shown[0] >= REBUILT):
        guess = "" if blind is None else f"; a blind guess has SSIM {blind:.2f}"
        reasons.insert(0, _rebuilt(shown, view) + guess)
    if not reasons:
        return level, f"{text} Nor did any out of the revealed view.{_unseen(view)}"
    as_good = shown is not None and shown[0] >= REBUILT
    advice = " Treat it as the images themselves." if as_good else ""
    return (LEAKY if level == UNBROKEN else level), f"The revealed view is in the clear: {'; '.join(reasons)}.{advice} {text}"


def _with_pool(level: str, text: str, pool: Mapping[str, Any]) -> tuple[str, str]:
    """Add which party tells the films that a head was trained on."""
    told, unseen = [], []
    for party in dict.fromkeys(found["party"] for found in pool.values()):
        own = {name: found for name, found in pool.items() if found["party"] == party}
        name = max(own, key=lambda name: own[name]["auc_low"])
        if own[name]["auc_low"] > CHANCE:
            told.append(f"{party} (area under the ROC curve {own[name]['auc']:.2f} by {name})")
        else:
            unseen.append(
                f"{party}, where {min(found['auc_found'] for found in own.values()):.2f} would have been found {POWER:.0%} of the time"
            )
    text += f" Nothing found in what these have: {'; '.join(unseen)}." if unseen else ""
    said = f"Who tells whose films trained it: {'; '.join(told)}. " if told else ""
    return (LEAKY if told and level == UNBROKEN else level), said + text


def _best(results: Mapping[str, Mapping[str, Any]]) -> tuple[float, str] | None:
    return max(((found["ssim"], name) for name, found in results.items() if found.get("ssim") is not None and name != BLIND), default=None)


def _cheapest(results: Mapping[str, Mapping[str, Any]]) -> tuple[float, str]:
    """Return SSIM and name of the attack that rebuilds images from least."""
    rebuilt = {name: row for name, row in results.items() if (row.get("ssim") or 0) >= REBUILT and name != BLIND}
    *_, ssim, name = min(
        (*(need in row["needs"] for need in COSTLY), len(row["needs"]), -row["ssim"], name) for name, row in rebuilt.items()
    )
    return -ssim, name


def _above(found: tuple[float, str], blind: float | None) -> bool:
    return blind is not None and found[0] > blind + MARGIN


def _rebuilt(found: tuple[float, str], results: Mapping[str, Mapping[str, Any]]) -> str:
    ssim, name = found
    return f"images rebuilt at {results[name]['psnr']:.0f} dB (SSIM {ssim:.2f}) by {name} from {results[name]['knowledge']}"


def _marks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which figures give something away without a rebuilt image."""
    marks = leaks(results)
    for found in results.values():
        low = found.get("advantage_low")
        if low is not None and low > ADVANTAGE:
            marks.append(f"two chosen images are told apart (advantage {found['advantage']:.2f})")
        low = found.get("top1_low")
        if low is not None and low > 2 * found["chance_top1"]:
            marks.append(
                f"patients are found again by an earlier X-ray ({found['top1']:.0%} at first sight, chance {found['chance_top1']:.1%})"
            )
    return marks
