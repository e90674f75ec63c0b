"""Classify encrypted features: this package, phe and CKKS, the same head: `python -m benchmarks.private_head [--bits 2048 3072]`.

Core time of one process, medians of `--repeats`. The head is random, of 1,280 features and 3 classes, with weights distributed as trained
ones are. phe runs it on EncryptedNumbers, one a feature, on `--phe-features` of them, and is scaled up; its encryption is counted in. CKKS
(TenSEAL on Microsoft SEAL, where it is installed) runs it on one ciphertext an image; it hides the image alike, on another assumption, but
does not hide the weights from the client as the masks here do. Every result is compared with the integer head before it is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.private_head_rivals import measure_ckks, measure_phe
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.private_head.client import PrivateClient
from ppdl.private_head.evaluator import HeadEvaluator
from ppdl.private_head.head import QuantisedHead

NUM_FEATURES, NUM_CLASSES = 1280, 3
TARGETS = {"single_over_phe": 40, "batch_over_phe": 300, "server_images_per_s": 20}
COLUMNS = ("encrypt_ms", "evaluate_ms", "decrypt_ms", "up_kb", "down_kb")


def main() -> None:
    """Parse arguments, measure each key length, print the tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[2048])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--phe-features", type=int, default=16)
    parser.add_argument("--features", type=int, default=NUM_FEATURES)
    parser.add_argument(
        "--px", type=int, default=None, help="also time a MobileNetV2 (alpha 1.0, random weights) on one image of this size"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    head = random_head(args.features)
    extract_ms = features_ms(args.px, args.repeats) if args.px else None
    results = [
        measure(generate_keypair(bits, purpose=INFERENCE, allow_insecure_key=True), head, args.repeats, args.phe_features, extract_ms)
        for bits in args.bits
    ]
    rival = _in_a_process(measure_ckks, head, random_features(head, 1)[0], args.repeats) if find_spec("tenseal") else None
    if args.json:
        print(json.dumps({"by_bits": results, "ckks": rival}, indent=1))
        return
    for result in results:
        show(result, rival)


def _in_a_process(run: Callable[..., Any], *arguments: object) -> Any:
    """Run in a process of its own: TenSEAL crashes where TensorFlow is loaded."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(run, *arguments).result()


def random_head(num_features: int) -> QuantisedHead:
    """Return a head whose weights have the spread of trained ones: a few of 127, most of a few steps."""
    rng = np.random.default_rng(0)
    weights = np.clip(rng.laplace(0, 12, (NUM_CLASSES, num_features)).round(), -127, 127).astype(np.int8)
    bias = rng.integers(-(10**6), 10**6, NUM_CLASSES) // (1 + 10 * (num_features < NUM_FEATURES))
    return QuantisedHead(weights, bias.astype(np.int64), 0.02, 1e-4, ("a", "b", "c"), {}, 1.0)


def random_features(head: QuantisedHead, num_images: int) -> np.ndarray:
    """Return features with the spread of pooled ReLU6: uint8 (num_images, num_features)."""
    values = np.random.default_rng(1).exponential(25, (num_images, head.num_features))
    return np.minimum(values, 255).astype(np.uint8)


def measure(key: PrivateKey, head: QuantisedHead, repeats: int, phe_features: int, extract_ms: float | None) -> dict[str, Any]:
    """Return what one image costs alone, in a full batch, and with phe; and the ratios that are promised."""
    evaluator = HeadEvaluator(head)
    client = PrivateClient(key, evaluator.packing(key.public.key_bits))
    prepare_ms = milliseconds(client.prepare, 1)
    size = client.batch_packing.capacity
    features = random_features(head, size)
    single = measure_way(
        lambda: client.request(features[0]),
        lambda sent: evaluator.evaluate(key.public, sent),
        lambda answer: client.answer(answer)[None],
        head.logits(features[:1]),
        repeats,
    )
    batch = measure_way(
        lambda: client.request_batch(features),
        lambda sent: evaluator.evaluate_batch(key.public, sent, size),
        lambda answer: client.answer_batch(answer, size),
        head.logits(features),
        repeats,
    )
    phe = measure_phe(key, head, features[0], phe_features)
    own = {
        name: sum(way[f"{step}_ms"] for step in ("encrypt", "evaluate", "decrypt")) for name, way in (("single", single), ("batch", batch))
    }
    theirs = sum(phe.values())
    return {
        "key_bits": key.public.key_bits,
        "batch_images": size,
        "num_ciphertexts": client.packing.num_ciphertexts,
        "prepare_ms": prepare_ms,
        "single": single,
        "batch": batch,
        "phe": phe,
        "single_over_phe": theirs / own["single"],
        "batch_over_phe": theirs / (own["batch"] / size),
        "server_images_per_s": size / batch["evaluate_ms"] * 1e3,
        "features_ms": extract_ms,
        "end_to_end_ms": None if extract_ms is None else own["single"] + extract_ms,
    }


def measure_way(
    request: Callable[[], np.ndarray],
    evaluate: Callable[[np.ndarray], np.ndarray],
    answer: Callable[[np.ndarray], np.ndarray],
    expected: np.ndarray,
    repeats: int,
) -> dict[str, float]:
    """Return milliseconds of each step and the kB that travel, after a run whose logits must be those of the integer head."""
    sent = request()
    answered = evaluate(sent)
    if not np.array_equal(answer(answered), expected):
        raise AssertionError("the decrypted logits are not those of the integer head")
    return {
        "encrypt_ms": milliseconds(request, repeats),
        "evaluate_ms": milliseconds(lambda: evaluate(sent), repeats),
        "decrypt_ms": milliseconds(lambda: answer(answered), repeats),
        "up_kb": sent.nbytes / 1e3,
        "down_kb": answered.nbytes / 1e3,
    }


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median core time of a call in ms."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times)


def features_ms(px: int, repeats: int) -> float:
    """Return the wall time of features of one image, with a warm network."""
    from ppdl.protections.view import plain_view
    from ppdl.training.networks.model import MobileNetV2

    image = np.random.default_rng(2).integers(0, 256, (1, px, px), np.uint8)
    network = MobileNetV2(alpha=1.0, weights=None, dropout=0.0, fine_tune_depth=None, batchnorm_momentum=None)
    model = network.build(plain_view(image), NUM_CLASSES)  # the head of three classes costs nothing beside its backbone
    model.predict_on_batch(image)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict_on_batch(image)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def show(result: dict[str, Any], rival: dict[str, float] | None) -> None:
    """Print a table for one key length, and whether what is promised was reached."""
    size = result["batch_images"]
    table = Table(title=f"{result['key_bits']} bits: {NUM_CLASSES} classes; a batch has {size} images", title_justify="left")
    for name in ("an image", *COLUMNS):
        table.add_column(name.replace("_", " "), justify="left" if name == "an image" else "right")
    rows = {
        "alone": result["single"],
        f"in a batch of {size}": {name: value / size for name, value in result["batch"].items()},
        "phe, scaled up": result["phe"],
        "CKKS": rival or {},
    }
    for name, row in rows.items():
        if row:
            table.add_row(name, *(f"{row[column]:,.2f}" if column in row else "" for column in COLUMNS))
    console = Console()
    console.print(table)
    console.print(f"tables of the client: {result['prepare_ms']:,.0f} ms, once")
    for name, least in TARGETS.items():
        console.print(f"{name}: {result[name]:,.0f} (at least {least}: {'reached' if result[name] >= least else 'MISSED'})")
    if result["end_to_end_ms"] is not None:
        console.print(
            f"one image, features included, warm: {result['end_to_end_ms']:,.0f} ms, of which features {result['features_ms']:,.0f}"
        )
    if rival:
        console.print(f"CKKS: largest error {rival['error']:.2g} of a logit's spread; keys {rival['keys_kb']:,.0f} kB, once")


if __name__ == "__main__":
    main()
