"""What an attacker holds, what an attack is, and how its success is measured.

An attack has two halves. `run` is the attacker's: it gets a `Target` that was cut down to what the attack `needs`, so that it cannot use
more than it says. `score` is the examiner's: it compares the guess with the `Truth`, which no attacker sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from ppdl.arrays import Rows
from ppdl.audit.examination.quality import image_psnr, image_ssim
from ppdl.errors import AttackDoesNotApply, ConfigError

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey
    from ppdl.protections.steps.revealed import Revealed

# Parts of a target that an attack may need. Number and size of the images are known to everybody.
SYMBOLS, CIPHERTEXTS, PUBLIC_KEY, VIEW = "symbols", "ciphertexts", "public_key", "view"
PICTURE, PRIOR, KNOWN, QUERIES, ENCRYPT, RELEASE = "picture", "prior", "known", "queries", "encrypt", "release"
REKEY, REVEAL, LABELS = "rekey", "reveal", "labels"

# What belongs beside a figure that the verdict reads (ppdl.audit.examination.verdict).
BESIDE = {"ssim": {"psnr"}, "advantage": {"advantage_low", "num_guessed"}, "top1": {"top1_low", "chance_top1", "num_queries"}}
_T = TypeVar("_T")
# A part of a target or of the truth; None where it is not there. Its type says `Any` for that: `Target.only` makes sure that what an attack
# needs is there, which no type can tell, so attacks use what they need as it is, and ask `is None` of what they want.
Part: TypeAlias = _T | Any


@dataclass(frozen=True, eq=False)
class KnownImages:
    """Images that the attacker holds in the clear as well: rows (num_known,) int, images (num_known, height, width) uint8."""

    rows: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Symbols:
    """What stands for each pixel, where equal pixels have equal ciphertexts.

    Attributes:
        array: (num_images, height, width) integers below num_symbols, memory-mapped.
        num_symbols: size of the alphabet.
        codebook: ciphertext of each symbol, (num_symbols, ciphertext_bytes) uint8; None where symbols are no Paillier ciphertexts.
            An attack that needs it asks for CIPHERTEXTS too.
    """

    array: Rows
    num_symbols: int
    codebook: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Target:
    """What an attacker may hold of one protected set of images. Private keys are no part of it, nor are the images.

    Attributes:
        name: of the protection, or of the folder.
        num_images, height, width: of the images that were protected.
        symbols: see `Symbols`; None where every ciphertext occurs once.
        ciphertexts: of each image, (num_images, num_ciphertexts, ciphertext_bytes) uint8, memory-mapped; None for symbols.
        public_key: that they were encrypted under.
        view: what the key holder revealed; None where nothing was.
        picture: what a thief sees who opens the protected images as pictures, (num_images, any height, any width) or with a last axis of
            3 channels, uint8.
        prior: images of other people that anybody can get, (num_prior, height, width) uint8.
        known: images of this set that the attacker holds in the clear as well.
        queries: earlier X-rays of some patients in the set, (num_queries, height, width) uint8.
        encrypt: protect chosen images, (k, height, width) uint8, as this set was (its parameters, its public key) and return what the
            attacker then holds of them. What an owner of the public key can do.
        release: reveal the protected images once more, under another configuration: `release(rows, stride, filters, noise)`, see
            ppdl.audit.attacks.inversion. What a key holder did who revealed more than one view.
        reveal: what the key holder reveals of chosen images, (k, height, width) uint8, in the way of `view`: (k, any height, any width,
            channels). What a source sees that sends images of its own choice.
        rekey: as `encrypt`, under a fresh key. What the owner of a scheme can do to show that keys matter.
        labels: class of each image, (num_images,) int. What whoever trains on protected images holds.
    """

    name: str
    num_images: int
    height: int
    width: int
    symbols: Part[Symbols] = None
    ciphertexts: Part[Rows] = None
    public_key: Part[PublicKey] = None
    view: Part[Revealed] = None
    picture: Part[Rows] = None
    prior: Part[np.ndarray] = None
    known: Part[KnownImages] = None
    queries: Part[np.ndarray] = None
    encrypt: Part[Callable[[np.ndarray], Target]] = None
    release: Part[Callable[..., np.ndarray]] = None
    reveal: Part[Callable[[np.ndarray], np.ndarray]] = None
    rekey: Part[Callable[[np.ndarray], Target]] = None
    labels: Part[np.ndarray] = None

    def only(self, needs: frozenset[str], wants: frozenset[str] = frozenset()) -> Target:
        """Return the target without what is neither needed nor wanted; a symbols' codebook goes with CIPHERTEXTS.

        Raises:
            AttackDoesNotApply: something that is needed is not there.
        """
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.default is None}
        has = {key for key, value in found.items() if value is not None}
        if self.symbols is not None and self.symbols.codebook is not None:
            has.add(CIPHERTEXTS)
        if missing := sorted(needs - has):
            raise AttackDoesNotApply(", ".join(_ABSENT[name] for name in missing))
        kept = needs | wants
        dropped: dict[str, Any] = {key: None for key in found if key not in kept}
        cut = replace(self, **dropped)
        if cut.symbols is not None and CIPHERTEXTS not in kept:
            cut = replace(cut, symbols=replace(cut.symbols, codebook=None))
        return cut


_ABSENT = {
    SYMBOLS: "no ciphertext occurs twice, so none stands for a pixel value",
    CIPHERTEXTS: "there are no Paillier ciphertexts",
    PUBLIC_KEY: "there is no public key",
    VIEW: "nothing was revealed",
    PICTURE: "there is no picture of the ciphertexts",
    PRIOR: "there are no public images",
    KNOWN: "no image is known in the clear",
    QUERIES: "there are no earlier X-rays",
    ENCRYPT: "nobody but the owner can encrypt",
    RELEASE: "nothing was revealed",
    REVEAL: "nothing was revealed",
    REKEY: "nobody but the owner can change the key",
    LABELS: "no image has a class",
}


@dataclass(frozen=True, eq=False)
class Truth:
    """What the examiner knows.

    Attributes:
        images: that were protected, (num_images, height, width) uint8, memory-mapped or computed as they are read.
        groups: patient (or cluster of near duplicates) of each image, (num_images,) int.
        query_groups: patient of each query, (num_queries,) int.
        query_rows: row of the set that a query was taken from, (num_queries,): it is not searched in (-1: the query is no row of it).
    """

    images: Rows
    groups: Part[np.ndarray] = None
    query_groups: Part[np.ndarray] = None
    query_rows: Part[np.ndarray] = None


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """Images that an attack rebuilt: rows (k,) of the protected set, images (k, height, width) uint8."""

    rows: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Finding:
    """What an attack reached.

    Attributes:
        metrics: figures by name, JSON values; one level of nesting for curves, such as {"by_count": {"1": {"ssim": ...}}}.
        rebuilt: the images behind `ssim` and `psnr`, for the report.

    Raises:
        ConfigError: a figure that the verdict reads stands without those that belong BESIDE it.
    """

    metrics: dict[str, Any]
    rebuilt: Rebuilt | None = None

    def __post_init__(self) -> None:
        for name, others in BESIDE.items():
            if name in self.metrics and (missing := sorted(others - self.metrics.keys())):
                raise ConfigError(f"an attack that reports {name} must report {', '.join(missing)} as well, for the verdict reads them")


class Attack(ABC):
    """One way to attack. A subclass is a frozen dataclass whose fields are the arguments in conf/attack/NAME.yaml.

    Attributes:
        name: key in the reports.
        needs: parts of a target that the attacker holds.
        wants: parts that it uses where they are there.
        knowledge: the same in words for the report, such as "the ciphertexts alone".
        source: paper that the attack is from.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    wants: ClassVar[frozenset[str]] = frozenset()
    knowledge: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def run(self, target: Target, rng: np.random.Generator) -> Any:
        """Attack, with no more than `target` holds, and return a guess for `score`.

        Raises:
            AttackDoesNotApply: the target has nothing that this attack works on; the message says why.
        """

    def on_view(self) -> Attack | None:
        """Return the same attack on the revealed view, where it looks at artifacts and there is one."""
        return None

    def score(self, guess: Any, truth: Truth) -> Finding:
        """Compare the guess with the truth: by psnr and ssim, where it is `Rebuilt`."""
        return Finding(score_rebuilt(guess, truth), guess)

    def examine(self, target: Target, truth: Truth, rng: np.random.Generator) -> Finding:
        """Run the attack on what it may use, and score it."""
        return self.score(self.run(target.only(self.needs, self.wants), rng), truth)


def scored_rows(num_images: int, num_scored: int) -> np.ndarray:
    """Return the rows that every attack rebuilds, evenly spaced, so that a report can set them side by side: (at most num_scored,) int."""
    return np.unique(np.linspace(0, num_images - 1, min(num_images, num_scored)).astype(int))


def with_likeness(guess: Finding, truth: Truth) -> Finding:
    """Return what was found, with the likeness of the rebuilt images, if there are any."""
    return guess if guess.rebuilt is None else Finding(guess.metrics | score_rebuilt(guess.rebuilt, truth), guess.rebuilt)


def score_rebuilt(rebuilt: Rebuilt, truth: Truth) -> dict[str, float]:
    """Return the means over images of PSNR in dB and of SSIM: {"psnr", "ssim"}."""
    images = np.asarray(truth.images[rebuilt.rows])
    if images.shape != rebuilt.images.shape:
        raise ConfigError(f"rebuilt images must have the shape of the originals, {images.shape}, got {rebuilt.images.shape}")
    pairs = list(zip(images, rebuilt.images, strict=True))
    return {"psnr": float(np.mean([image_psnr(a, b) for a, b in pairs])), "ssim": float(np.mean([image_ssim(a, b) for a, b in pairs]))}
