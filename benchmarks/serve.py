"""Measure private inference over HTTP: `ppdl serve` and its client on this machine, with a head of ImageNet's size.

    python -m benchmarks.serve --weights imagenet       # 2048 bits, 128 px; about 1 minute on 2 idle cores
    python -m benchmarks.serve --key-bits 3072 --json   # one JSON object
    python -m benchmarks.serve --attacks                # /health while somebody tries to stop the server; 4 minutes

The head is random (its values change no time), the backbone MobileNetV2 alpha 1.0. "single" is one image file, warm on both sides: read,
features, encryption, the way to the server and back, decryption, probabilities; medians. "batch" is what the server answers when as many
clients as it has workers send full batches one after the other; "server_cpu" is CPU time of all its processes, which a busy machine changes
less than seconds. Bytes are those of bodies. serve_attacks.py says what the attacks are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ALPHA, NUM_CLASSES, PREPARED_PX, FILE_PX = 1.0, 3, 128, 299
SINGLES, BATCHES = 11, 4  # timed requests; of each client


def build_head(folder: Path, num_features: int, backbone: dict[str, Any]) -> Any:
    """Write a random head into a folder and return it."""
    from ppdl.private_head.head import QuantisedHead

    weights = np.random.default_rng(0).integers(-128, 128, (NUM_CLASSES, num_features), dtype=np.int8)
    head = QuantisedHead(weights, np.zeros(NUM_CLASSES, np.int64), 0.02, 1e-5, ("a", "b", "c"), backbone, 1.0)
    head.save(folder)
    return head


def build(folder: Path, weights: str) -> Any:
    """Write backbone.keras and a random head into a folder, and an image file; return the head."""
    from PIL import Image

    from ppdl.private_head.head import BACKBONE_FILE
    from ppdl.training.networks.features import Backbone, save_backbone

    backbone = Backbone(weights=weights, alpha=ALPHA, input_px=PREPARED_PX, layers=None).build(folder)
    said = {"alpha": ALPHA, "prepared_px": PREPARED_PX, "input_px": PREPARED_PX, "sha256": save_backbone(backbone, folder / BACKBONE_FILE)}
    head = build_head(folder, backbone.output_shape[-1], said)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (FILE_PX, FILE_PX), dtype=np.uint8)).save(folder / "image.png")
    return head


def start(folder: Path, num_workers: int, *more: str) -> tuple[subprocess.Popen, str]:
    """Start a server of its own; return the process and its URL."""
    options = ["--port", "0", "--head", folder, "--state", folder / "state.sqlite", "--workers", num_workers]
    command = [sys.executable, "-m", "ppdl", "serve", *map(str, options), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r'"url": "([^"]+)"', line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # nobody reads the log, and it must not fill the pipe
            return process, found[1]
    raise SystemExit("the server did not start")


def cpu_of(process: subprocess.Popen) -> float:
    """Return CPU seconds of a process and its children."""
    found = psutil.Process(process.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (found, *found.children(recursive=True)))


def time_single(remote: Any, folder: Path, head: Any, process: subprocess.Popen) -> dict[str, float]:
    """Time one image after the other, step by step."""
    from ppdl.prediction.steps import read_images
    from ppdl.serving.client.remote import load_features
    from ppdl.serving.protocol import SINGLE

    features_of = load_features(head.public, folder)
    laps: list[list[float]] = []
    for number in range(SINGLES + 3):
        if number == 3:
            cpu = cpu_of(process)
        times = [time.perf_counter()]
        images, _, _ = read_images([folder / "image.png"], PREPARED_PX)
        features = features_of(images)
        times.append(time.perf_counter())
        query = remote.query(features, SINGLE)
        times.append(time.perf_counter())
        reply = remote.server.infer(query, num_classes=NUM_CLASSES)
        times.append(time.perf_counter())
        logits = remote.client.answer(reply.ciphertexts)[None]
        head.public.probabilities(logits)
        times.append(time.perf_counter())
        if not np.array_equal(logits, head.logits(features)):
            raise SystemExit("a wrong answer")
        laps.append([*np.diff(times), times[-1] - times[0]])
    names = ("features_s", "encrypt_s", "server_s", "decrypt_s", "end_to_end_s")
    found = dict(zip(names, map(statistics.median, zip(*laps[3:], strict=True)), strict=True))  # the first three warm up
    found["server_cpu_s"] = (cpu_of(process) - cpu) / SINGLES
    return found | {"bytes_up": len(query.encode()), "bytes_down": len(reply.encode())}


def time_batches(remote: Any, url: str, num_clients: int, process: subprocess.Popen) -> dict[str, float]:
    """Time full batches of several clients at once, and the encryption of one."""
    from ppdl.serving.client.connection import Conversation
    from ppdl.serving.protocol import BATCH

    capacity, num_features = remote.client.batch_packing.capacity, remote.client.packing.num_features
    features = np.random.default_rng(0).integers(0, 256, (capacity, num_features), dtype=np.uint8)
    started = time.perf_counter()
    query = remote.query(features, BATCH)
    encrypt_s = time.perf_counter() - started

    def send() -> None:
        with Conversation(url) as server:
            for _ in range(BATCHES):
                server.infer(replace(query, request_id=secrets.token_bytes(16)), num_classes=NUM_CLASSES)

    send()  # warm
    threads = [threading.Thread(target=send) for _ in range(num_clients)]
    started, cpu = time.perf_counter(), cpu_of(process)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    num_images = num_clients * BATCHES * capacity
    images_per_s, cpu_per_image = num_images / (time.perf_counter() - started), (cpu_of(process) - cpu) / num_images
    sizes = {"batch_images": capacity, "batch_encrypt_s": encrypt_s, "batch_bytes_up": len(query.encode())}
    return sizes | {"batch_images_per_s": images_per_s, "batch_server_cpu_s_per_image": cpu_per_image}


def show_attacks(options: argparse.Namespace) -> None:
    """Print a line, or a JSON object, for each attack."""
    from benchmarks.serve_attacks import measure

    with tempfile.TemporaryDirectory() as name:
        build_head(Path(name), 1280, {})
        for found in measure(start, Path(name), options.workers, options.seconds):
            if options.json:
                print(json.dumps(found), flush=True)
                continue
            times = "  ".join(f"{key} {found[key]:7.1f}" for key in ("p50_ms", "p95_ms", "max_ms"))
            print(f"{found['attack']:8}{found['from']:20}{times}  {found['answers']}", flush=True)


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key-bits", type=int, default=2048)
    parser.add_argument("--weights", default="imagenet", help="imagenet (downloaded), or the file of a backbone without the top")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--attacks", action="store_true")
    parser.add_argument("--seconds", type=float, default=15, help="of each attack")
    options = parser.parse_args()
    if options.attacks:
        show_attacks(options)
        return

    from ppdl.crypto.keys.keypair import generate_keypair
    from ppdl.crypto.keys.purpose import INFERENCE
    from ppdl.serving.client.connection import Conversation
    from ppdl.serving.client.remote import connect

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        head = build(folder, options.weights)
        process, url = start(folder, options.workers, "--rate", "1000000", "--max-queries-per-key", "1000000")
        try:
            with Conversation(url) as server:
                remote = connect(server, generate_keypair(options.key_bits, purpose=INFERENCE), num_images=10_000)
                found = {"key_bits": options.key_bits, "workers": options.workers}
                found |= time_single(remote, folder, head, process)
                found |= time_batches(remote, url, options.workers, process)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(found) if options.json else "\n".join(f"{name:30} {value:,.4g}" for name, value in found.items()))


if __name__ == "__main__":
    main()
