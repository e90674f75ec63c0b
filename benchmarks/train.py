"""Measure training here against a plain `model.fit` on arrays, both in one run, in turns.

    python -m benchmarks.train                          # alpha 0.35 and 1.0 at 64 and 96 px, more than 7 minutes on 2 idle cores
    python -m benchmarks.train --alphas 0.35 --px 96    # one case, about 2 minutes
    python -m benchmarks.train --json                   # one JSON object a line

Both train the same MobileNetV2 with the same batches of 32. "plain" is keras.applications.MobileNetV2 with AdamW, fed with float32
arrays, as a tutorial does it; "ours" is what `ppdl.training.fitting.fit` runs, which reads a memory map, augments and shuffles besides.

images/s is wall time of warm epochs with the pauses between them; "cores" is CPU time over wall time. Both need an idle machine; "CPU ms
an image" hardly does. Medians. "first step" is mostly tracing. "2 x 1 thread" is two trainings of ours side by side, each with one
thread, added up: how a cross-validation runs. "x" is how many times better than plain.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BATCH_SIZE, NUM_IMAGES, NUM_CLASSES = 32, 320, 3
KINDS = {
    "plain": {},
    "ours": {"num_threads": None},
    "single": {"num_threads": 1},
}
EPOCHS_A_LAP = 2  # so that a pause between epochs shows
PROJECT = Path(__file__).resolve().parents[1]


class Worker:
    """A process that trains one network, an errand at a time; a process each, for threads are set once in one.

    Args:
        kind: One of KINDS.

    Attributes:
        first_step_s: Seconds to the end of the first step.
    """

    def __init__(self, kind: str, alpha: float, px: int) -> None:
        command = [sys.executable, "-m", "benchmarks.train", "--worker", kind, str(alpha), str(px)]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first_step_s = self.receive()["first_step_s"]

    def send(self, num_epochs: int) -> None:
        """Start `num_epochs` epochs."""
        self.process.stdin.write(f"{num_epochs}\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, float]:
        """Wait for the errand's end; return its figures."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.process.args)} failed")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def work(kind: str, alpha: float, px: int) -> None:
    """Be the process behind a Worker."""
    import keras

    class FirstStep(keras.callbacks.Callback):
        seconds = None

        def on_train_begin(self, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seconds = self.seconds or time.perf_counter() - self.start

    images, labels = _data(px)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        build = _plain if kind == "plain" else _ours
        network, data = build(alpha, np.load(Path(folder) / "images.npy", mmap_mode="r"), labels, **KINDS[kind])
        first = FirstStep()
        network.fit(**data, epochs=1, verbose=0, callbacks=[first])
        print(json.dumps({"first_step_s": first.seconds}), flush=True)
        for line in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            network.fit(**data, epochs=int(line), verbose=0)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            num_images = NUM_IMAGES * int(line)
            figures = {"images_per_s": num_images / wall, "cores": cpu / wall, "cpu_ms_per_image": cpu / num_images * 1e3}
            print(json.dumps(figures), flush=True)


def compare(alpha: float, px: int, repeats: int) -> dict[str, float]:
    """Compare plain with ours, and with two of ours side by side, for one width and size."""
    workers = {kind: Worker(kind, alpha, px) for kind in ("plain", "ours", "parts")}
    pair = [Worker("single", alpha, px) for _ in range(2)]
    laps = {kind: [] for kind in workers}
    together = []
    for _ in range(repeats):
        for kind, worker in workers.items():
            worker.send(EPOCHS_A_LAP)
            laps[kind].append(worker.receive())
        for worker in pair:
            worker.send(EPOCHS_A_LAP)
        together.append(sum(worker.receive()["images_per_s"] for worker in pair))
    for worker in [*workers.values(), *pair]:
        worker.close()
    found = {"alpha": alpha, "px": px}
    for kind, worker in workers.items():
        found |= {f"{kind}_{key}": statistics.median(lap[key] for lap in laps[kind]) for key in laps[kind][0]}
        found[f"{kind}_first_step_s"] = worker.first_step_s
    found["side_by_side_images_per_s"] = statistics.median(together)
    for kind in ("ours", "parts"):
        found[f"{kind}_images_per_s_ratio"] = found[f"{kind}_images_per_s"] / found["plain_images_per_s"]
        found[f"{kind}_cpu_ratio"] = found["plain_cpu_ms_per_image"] / found[f"{kind}_cpu_ms_per_image"]
        found[f"{kind}_first_step_ratio"] = found["plain_first_step_s"] / found[f"{kind}_first_step_s"]
    found["side_by_side_ratio"] = found["side_by_side_images_per_s"] / found["plain_images_per_s"]
    return found


def _data(px: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (NUM_IMAGES, px, px)).astype(np.uint8), rng.integers(0, NUM_CLASSES, NUM_IMAGES)


def _plain(alpha: float, images: np.ndarray, labels: np.ndarray) -> tuple[Any, dict[str, Any]]:
    import keras

    px = images.shape[1]
    network = keras.applications.MobileNetV2(
        input_shape=(px, px, 3), alpha=alpha, weights=None, classes=NUM_CLASSES, classifier_activation=None
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    floats = np.repeat(images[..., None] / np.float32(127.5) - 1, 3, axis=3)
    return network, {"x": floats, "y": labels, "batch_size": BATCH_SIZE}


def _ours(alpha: float, images: np.ndarray, labels: np.ndarray, *, num_threads: int | None) -> tuple[Any, dict[str, Any]]:
    from ppdl.protections.view import plain_view
    from ppdl.training.fitting.optimizer import warmup_cosine
    from ppdl.training.fitting.session import compiled
    from ppdl.training.fitting.settings import Training
    from ppdl.training.fitting.threads import set_num_threads
    from ppdl.training.networks.augment import Augmentation
    from ppdl.training.networks.data import Batches
    from ppdl.training.networks.model import MobileNetV2

    augmentation = Augmentation(flip=True, shift=0.06)
    training = Training(
        epochs=100,
        batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        warmup_epochs=1,
        weight_decay=1e-4,
        label_smoothing=0.05,
        class_weights=None,
        augmentation={"flip": True, "shift": 0.06},
        early_stopping_patience=None,
        num_threads=num_threads,
        devices=1,
    )
    set_num_threads(num_threads)
    view = plain_view(images)
    model = MobileNetV2(alpha=alpha, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None).build(view, NUM_CLASSES)
    targets = np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    batches = Batches(view, np.arange(NUM_IMAGES), targets, batch_size=BATCH_SIZE, seed=0, augmentation=augmentation)
    rate = warmup_cosine(training.learning_rate, 0, training.epochs * len(batches))
    return compiled(model, training, rate), {"x": batches, "shuffle": False}


def look_up(px: int, repeats: int = 20) -> dict[str, float]:
    """Return milliseconds of a training step of a table of 256 symbols alone, as a look-up and as one-hot vectors times the table."""
    import keras

    symbols, labels = _data(px)
    x, y = symbols[:BATCH_SIZE].astype(np.int32), labels[:BATCH_SIZE]
    found = {}
    for name in ("look_up", "one_hot"):
        inputs = keras.Input((px, px), dtype="int32")
        if name == "look_up":
            images = keras.layers.Embedding(256, 3)(inputs)
        else:
            images = keras.layers.Dense(3, use_bias=False)(keras.ops.one_hot(inputs, 256))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(images)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.train_on_batch(x, y)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            model.train_on_batch(x, y)
            times.append(time.perf_counter() - start)
        found[f"{name}_ms"] = statistics.median(times) * 1e3
    return {"px": px} | found


def show(rows: list[dict[str, float]], tables: list[dict[str, float]]) -> None:
    """Print what was found as a table for people."""
    table = Table("alpha", "px", "", "images/s", "cores", "CPU ms an image", "first step", title="Training, batch 32")
    for row in rows:
        for kind, name in {"plain": "plain", "ours": "ours", "parts": "ours, 2 parts"}.items():
            better = {
                key: f", x {row[f'{kind}_{key}_ratio']:.2f}" if kind != "plain" else "" for key in ("images_per_s", "cpu", "first_step")
            }
            table.add_row(
                f"{row['alpha']}",
                f"{row['px']}",
                name,
                f"{row[f'{kind}_images_per_s']:.0f}{better['images_per_s']}",
                f"{row[f'{kind}_cores']:.2f}",
                f"{row[f'{kind}_cpu_ms_per_image']:.2f}{better['cpu']}",
                f"{row[f'{kind}_first_step_s']:.1f} s{better['first_step']}",
            )
        beside = f"{row['side_by_side_images_per_s']:.0f}, x {row['side_by_side_ratio']:.2f}"
        table.add_row("", "", "2 x 1 thread", beside, "", "", "", end_section=True)
    Console().print(table)
    for row in tables:
        print(f"table of 256 symbols at {row['px']} px: look-up {row['look_up_ms']:.1f} ms a step, one-hot {row['one_hot_ms']:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.split("\n")[0])
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.35, 1.0])
    parser.add_argument("--px", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--repeats", type=int, default=3, help="laps of each, two epochs a lap")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], float(args.worker[1]), int(args.worker[2]))
        return
    rows = []
    for alpha in args.alphas:
        for px in args.px:
            rows.append(compare(alpha, px, args.repeats))
            if args.json:
                print(json.dumps(rows[-1]), flush=True)
    tables = [look_up(px) for px in args.px]
    if args.json:
        print("\n".join(json.dumps(row) for row in tables))
    else:
        show(rows, tables)


if __name__ == "__main__":
    main()
