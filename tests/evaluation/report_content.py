"""A report's content, made up: every section is filled, with figures of the size that a real run has."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from matplotlib.figure import Figure

from ppdl.evaluation.report.content import PictureRow, Rebuilding, ReportContent

SIDE = 64
CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
BRANCHES = {name: name for name in ("plain", "deterministic", "opaque", "homomorphic")} | {"deterministic-bytes": "deterministic"}
CONFIG = {
    "dataset": {"_target_": "ppdl.datasets.sources.phantom.Phantom", "num_images": 1000, "size_px": 299, "classes": None},
    "prepared_px": 128,
    "input_px": 64,
    "split": {"test_fraction": 0.2, "validation_fraction": 0.1, "near_duplicate_bits": 10},
    "protections": {"homomorphic": {"scheme": {"stride": 2, "weight_bits": 4}, "reveal": {"noise": 0.0, "clip": 1.0}}},
    "keygen": {"key_bits": 3072},
}
SOURCES = {
    "blind": ("nothing but public images", "artifact"),
    "ratio": ("the ciphertexts of one image and the public key", "artifact"),
    "seriation": ("the ciphertexts alone", "artifact"),
    "known_plaintext": ("the ciphertexts and some of the images in the clear", "artifact"),
    "frequency": ("the ciphertexts and public images", "artifact"),
    "inversion": ("the revealed view and its public filters", "view"),
    "distinguisher": ("the public key and encryptions of two images of its choice", "artifact"),
    "distinguisher_view": ("revealed views of two images of its choice", "view"),
    "linkage": ("an earlier X-ray of some patients", "artifact"),
    "cipher_metrics": ("the ciphertexts", "artifact"),
}
NO_SYMBOLS = {"does_not_apply": "no ciphertext occurs twice, so none stands for a pixel value"}
NO_VIEW = {"does_not_apply": "nothing was revealed"}


UNION = [{"name": "strides 2 and 4", "num_views": 2, "ssim": 0.93, "psnr": 32.4}]


def full_content(**changes: object) -> ReportContent:
    """Return a report of three protections with all sections; `changes` replace parts of it."""
    parts = {"metrics": _with_insight(_metrics()), "details": _details(), "synthetic": True, "audit": _audit(), "pictures": _pictures()}
    parts |= {"external": external_content()}
    parts |= {"cost": _cost(), "data": _data(), "config": CONFIG, "provenance": _provenance(), "figures": _figures()}
    return ReportContent(**(parts | changes))


def external_content() -> dict:
    """Return what every run made of the films of one other hospital."""
    metrics = _with_insight(_metrics())
    drop = {"accuracy_drop": 0.12, "accuracy_drop_low": 0.03, "accuracy_drop_high": 0.21}
    return {
        "other_device": {run: {**found, **({} if run == "baselines" else drop)} for run, found in metrics.items()}
        | {"baselines": {name: {**found, **drop} for name, found in metrics["baselines"].items()}}
    }


def least_content() -> ReportContent:
    """Return what a run without costs, pictures and figures leaves."""
    audit = {
        name: {"attacks": {}, "verdict": found["verdict"] | {"best_ssim": None, "best_attack": None}} for name, found in _audit().items()
    }
    return full_content(
        metrics=_metrics(), synthetic=False, audit=audit, cost={name: {} for name in audit}, pictures={}, figures={}, external={}
    )


def _result(accuracy: float, half: float, **more: object) -> dict:
    ends = {"accuracy": accuracy, "accuracy_low": max(accuracy - half, 0), "accuracy_high": min(accuracy + half, 1)}
    return (
        ends
        | {"macro_f1": accuracy - 0.004, "auroc": min(0.5 + accuracy * 0.52, 0.99), "ece": 0.043, "num_images": 201, "num_groups": 67}
        | more
    )


def _metrics() -> dict:
    return {
        "plain": _result(0.8458, 0.057),
        "deterministic": _result(0.8806, 0.06, minus_plain=0.0348),
        "deterministic-bytes": _result(0.7413, 0.07),
        "opaque": _result(0.2537, 0.087, permutation_p=0.272137, control="at chance"),
        "homomorphic": _result(0.9005, 0.047),
        "baselines": {
            "chance": {"accuracy": 0.2537, "uniform_accuracy": 0.25, "balanced_accuracy": 0.25},
            "border": _result(0.2786, 0.084),
        },
    }


def _with_insight(metrics: dict) -> dict:
    for run, temperature in (
        ("plain", 1.62),
        ("deterministic", 1.71),
        ("deterministic-bytes", 2.3),
        ("opaque", 24.0),
        ("homomorphic", 0.87),
    ):
        of = metrics[run] | {"temperature": temperature, "brier": 0.246, "log_loss": 0.52}
        for name, value in (("ece", 0.021), ("brier", 0.231), ("log_loss", 0.433)):
            of |= {f"{name}_calibrated": value, f"{name}_calibrated_low": 0.8 * value, f"{name}_calibrated_high": 1.3 * value}
        metrics[run] = of
    metrics["plain"] |= {"unlike_false_alarms": 0.045, "unlike_auroc_other_device": 0.71, "unlike_auroc_noise": 0.99}
    for run, without in (("plain", 0.63), ("deterministic", 0.66), ("homomorphic", 0.29)):
        accuracies = {"whole": metrics[run]["accuracy"], "only_lungs": 0.71, "without_lungs": without}
        for part, value in accuracies.items():
            metrics[run] |= {f"{part}_accuracy{end}": value + shift for end, shift in (("", 0), ("_low", -0.06), ("_high", 0.06))}
        metrics[run] |= {"lungs_num_images": 201, "lungs_chance": 0.2537, "gradcam_num_images": 198, "gradcam_cells": 2}
        for name, value in (("share", 0.31), ("area", 0.27), ("excess", 0.04)):
            metrics[run] |= {f"gradcam_lung_{name}{end}": value + shift for end, shift in (("", 0), ("_low", -0.01), ("_high", 0.01))}
    return metrics


def _details() -> dict:
    comparisons = {}
    for run, difference, verdict in (
        ("deterministic", 0.0348, "inconclusive"),
        ("deterministic-bytes", -0.1045, "inferior"),
        ("opaque", -0.592, "inferior"),
        ("homomorphic", 0.0547, "non-inferior"),
    ):
        sentence = f"{run} differs from plain by {100 * difference:+.1f} points on 201 test images: {verdict}."
        comparisons[run] = {"difference": difference, "low": difference - 0.055, "high": difference + 0.055, "margin": 0.02}
        comparisons[run] |= {"sentence": sentence, "verdict": verdict}
    method = "201 test images in 67 groups. Intervals: 95 %, percentile bootstrap over groups with 2,000 resamples."
    return {"method": method, "reference": "plain", "comparisons": comparisons, "branches": BRANCHES}


def _audit() -> dict:
    def attacks(found: dict[str, dict]) -> dict[str, dict]:
        said = {name: {"knowledge": knowledge, "surface": surface} for name, (knowledge, surface) in SOURCES.items()}
        return {name: metrics | said[name] | ({} if "does_not_apply" in metrics else {"seconds": 1.25}) for name, metrics in found.items()}

    none = {"advantage": 0.012, "advantage_low": -0.055, "advantage_high": 0.081}
    chance = {"chance_top1": 0.005, "chance_top5": 0.025}
    counts = {"1": (0.851, 21.3), "10": (0.968, 31.8), "100": (0.984, 37.2), "all": (0.987, 38.4)}
    known = [{"num_known": k, "dictionary_share": s, "ssim": q} for k, s, q in ((1, 0.71, 0.62), (5, 0.95, 0.95), (20, 1.0, 1.0))]
    curve = [
        {"stride": stride, "noise": noise, "ssim": round(0.97 - 0.055 * stride - 1.4 * noise + 0.012 * noise * stride, 3)}
        | {"psnr": round(33 - 1.7 * stride - 40 * noise, 1)}
        for stride in (2, 4, 8)
        for noise in (0.0, 0.05, 0.1, 0.2)
    ]
    ideal = {"entropy": 7.955, "correlation": 0.0, "npcr": 99.609, "uaci": 33.464, "chi_square": 255.0, "mutual_information": 0.0}
    metrics = {"entropy": 7.9543, "correlation_h": 0.0021, "npcr": 99.61, "uaci": 33.46, "chi_square": 251.2}
    metrics |= {"ideal": ideal, "note": "These figures say how like noise a picture looks, not whether it can be read.", "num_scored": 20}
    symbol = metrics | {"entropy": 7.41, "correlation_h": 0.0214, "npcr": 0.0244, "uaci": 0.0101, "mutual_information": 7.31}
    blind = {"ssim": 0.412, "psnr": 14.2}
    return {
        "deterministic": {
            "attacks": attacks(
                {
                    "blind": blind,
                    "ratio": {"ssim": 0.9998, "psnr": 71.3, "offset_found": True, "num_images": 20},
                    "seriation": {"ssim": 0.984, "psnr": 37.2, "rank_correlation": 0.9991, "inverted": False}
                    | {"by_count": {count: {"ssim": s, "psnr": p} for count, (s, p) in counts.items()}},
                    "known_plaintext": {"ssim": 1.0, "psnr": 100.0, "curve": known},
                    "frequency": {"ssim": 0.61, "psnr": 15.9},
                    "inversion": NO_VIEW,
                    "distinguisher": {"advantage": 1.0, "advantage_low": 0.982, "advantage_high": 1.0},
                    "distinguisher_view": NO_VIEW,
                    "linkage": {"top1": 0.62, "top1_low": 0.53, "top1_high": 0.71, "top5": 0.81} | chance,
                    "cipher_metrics": symbol,
                }
            ),
            "verdict": {"level": "broken", "best_attack": "known_plaintext", "best_ssim": 1.0}
            | {"sentence": "Not confidential: images rebuilt at 71 dB (SSIM 1.00) by ratio from ciphertexts and the public key."},
        },
        "opaque": {
            "attacks": attacks(
                dict.fromkeys(("ratio", "seriation", "known_plaintext", "frequency"), NO_SYMBOLS)
                | {"blind": blind, "inversion": NO_VIEW, "distinguisher": none, "distinguisher_view": NO_VIEW}
                | {"linkage": {"top1": 0.005, "top1_low": 0.0, "top1_high": 0.02, "top5": 0.03} | chance, "cipher_metrics": metrics}
            ),
            "verdict": {"level": "unbroken", "best_attack": "blind", "best_ssim": 0.412}
            | {"sentence": "No attack here got anything out of the ciphertexts, which is no proof that none can."},
        },
        "homomorphic": {
            "attacks": attacks(
                dict.fromkeys(("ratio", "seriation", "known_plaintext", "frequency"), NO_SYMBOLS)
                | {"blind": blind, "distinguisher": none, "cipher_metrics": metrics}
                | {
                    "inversion": {
                        "ssim": 0.86,
                        "psnr": 29.6,
                        "curve": curve,
                        "union": UNION,
                    }
                }
                | {"distinguisher_view": {"advantage": 1.0, "advantage_low": 0.982, "advantage_high": 1.0}}
                | {"linkage": {"top1": 0.55, "top1_low": 0.46, "top1_high": 0.64, "top5": 0.78} | chance}
            ),
            "verdict": {"level": "leaky", "best_attack": "inversion", "best_ssim": 0.86}
            | {
                "sentence": "No attack here got anything out of the ciphertexts, which is no proof that none can. The revealed view is in "
                "the clear: images rebuilt at 30 dB (SSIM 0.86) by inversion. Treat it as the images themselves."
            },
        },
    }


def chest(number: int) -> np.ndarray:
    """Return something like a chest film, (SIDE, SIDE) uint8."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shift = 0.04 * np.sin(number)
    film = 190 - 60 * (x**2 + y**2)
    for side in (-1, 1):
        film -= 110 * np.exp(-((((x - side * (0.42 + shift)) / 0.27) ** 2 + ((y - 0.05) / 0.55) ** 2) ** 2))
    film += 14 * np.sin(14 * y + 2 * x**2 + number) * (abs(x) < 0.8)
    return np.clip(film, 0, 255).astype(np.uint8)


def _pictures() -> dict[str, list[PictureRow]]:
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    def near(film: np.ndarray, spread: float) -> np.ndarray:
        return np.clip(film + rng.normal(0, spread, film.shape), 0, 255).astype(np.uint8)

    symbols = noise(256, 3)
    pictures: dict[str, list[PictureRow]] = {"deterministic": [], "opaque": [], "homomorphic": []}
    for row in (801, 846, 912, 977, 990):
        film = chest(row)
        rebuilt = {"known_plaintext": Rebuilding(film, 100.0, 1.0), "seriation": Rebuilding(near(film, 4), 37.2, 0.984)}
        rebuilt |= {"ratio": Rebuilding(near(film, 1), 71.3, 1.0)}
        pictures["deterministic"].append(PictureRow(row, film, symbols[film], rebuilt))
        pictures["opaque"].append(PictureRow(row, film, noise(SIDE, SIDE, 3), {}))
        pictures["homomorphic"].append(PictureRow(row, film, noise(300, 200), {"inversion": Rebuilding(near(film, 12), 29.6, 0.86)}))
    return pictures


def _cost() -> dict:
    return {
        "deterministic": {"encrypt": {"seconds": 0.339, "core_seconds": 0.336, "bytes": 4295612}},
        "homomorphic": {
            "encrypt": {"engine": "vector", "seconds": 44.485, "core_seconds": 83.149, "bytes": 45308201},
            "reveal": {"seconds": 185.985, "core_seconds": 361.118, "bytes": 24577561, "num_columns": 14746, "num_checked": 14746},
            "stem": {"seconds": 1.701, "core_seconds": 2.816, "bytes": 33983537},
        },
        "opaque": {"encrypt": {"seconds": 11.546, "core_seconds": 20.757, "bytes": 8456411}},
    }


def _data() -> dict:
    counts = {"train": 175, "validation": 25, "test": 50}
    return {
        "num_raw": 1003,
        "num_images": 1000,
        "num_enlarged": 0,
        "num_without_patient": 0,
        "num_groups": 336,
        "largest_group": 3,
        "dropped": {"bad_image": 1, "exact_duplicate": 2, "conflicting_class": 0},
        "near_duplicates": {"max_bits": 10, "num_clusters": 4, "num_images": 9, "largest_cluster": 3, "num_mixed_class_clusters": 1},
        "images": {split: {name: number + i for i, name in enumerate(CLASSES)} for split, number in counts.items()},
        "groups": {"train": 235, "validation": 34, "test": 67},
    }


def _provenance() -> dict:
    packages = {
        "ppdl": "0.1.0",
        "dvc": "3.67.1",
        "keras": "3.15.1",
        "tensorflow": "2.21.0",
        "phe": "1.5.0",
        "gmpy2": "2.3.2",
        "numpy": "2.4.6",
    }
    hashes = {"data/raw": "df520e131761988ccd853f16f8a77dbf.dir", "data/prepared": "5afd5a0cf19f8e834b9a5eb1aa3f9b16.dir"}
    return {"git_commit": "b5768f9c0ffee0ddba11ab1e5ca1ab1e0ddba115", "git_dirty": False, "hashes": hashes, "versions": packages}


def _figures() -> dict[str, bytes]:
    return {name: _figure(name) for name in ("accuracy", "confusion", "roc", "reliability", "history", "gradcam")}


@cache
def _figure(name: str) -> bytes:
    figure = Figure(figsize=(7, 3))
    figure.subplots().set_title(name)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    return stream.getvalue()
