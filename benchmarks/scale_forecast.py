"""Forecast what sets of real size cost, from samples at the real key length and image size, for benchmarks.scale."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
from rich.table import Table

from ppdl.config.cost import core_seconds
from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.crypto.arithmetic.packing import smallest_slot_bits
from ppdl.crypto.estimate.images import Step, estimate, plan_job
from ppdl.crypto.estimate.stem import reveal_steps, stem_step
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.protections.steps.filters import LARGEST_PIXEL

SETS = {"COVID-19 Radiography": 21165, "as many as MIMIC-CXR": 377110}
PX, RAW_PX, KEY_BITS, STRIDE, CHANNELS, WEIGHT_BITS = 224, 299, 3072, 2, 3, 4
MACHINE_CORES = 16
SAMPLE_IMAGES = 240
_DAY_S = 86400


@dataclass(frozen=True)
class Forecast:
    """Cost of one step for one set, in core seconds of this machine."""

    images: str
    num_images: int
    step: str
    core_s: float
    bytes: int

    @property
    def machines(self) -> float:
        """Machines of MACHINE_CORES cores that do it in a day, if cores share work without loss."""
        return self.core_s / (_DAY_S * MACHINE_CORES)


def forecasts() -> Iterator[Forecast]:
    """Measure samples, and scale them by the number of images (by the number of ciphertexts, where there are any).

    Cost: about 2 minutes.
    """
    key = generate_keypair(KEY_BITS)
    executor = Executor(num_workers=None, shard_mib=4, min_shards=16, table_mib=512)
    weights = dct_filters(STRIDE, CHANNELS, WEIGHT_BITS)
    slots = {"stride": STRIDE, "slot_bits": smallest_slot_bits(weights, LARGEST_PIXEL)}
    samples = [split_sample(), epoch_sample()]
    for title, num_images in SETS.items():
        dense = plan_job(num_images, PX, key, kind="dense", obfuscator="djn", executor=executor, stride=1, slot_bits=8)
        packed = plan_job(num_images, PX, key, kind="slots", obfuscator="djn", executor=executor, **slots)
        encrypt_dense, _ = estimate(dense)
        encrypt_slots, _ = estimate(packed)
        steps = [replace(step, core_s=step.core_s * num_images, bytes=step.bytes * num_images) for step in samples]
        steps += [replace(encrypt_dense, name="encrypt opaque"), replace(encrypt_slots, name="encrypt homomorphic")]
        steps += [stem_step(packed, weights), *reveal_steps(packed, weights, check_fraction=1.0)]
        for step in steps:
            yield Forecast(title, num_images, step.name, step.core_s, step.bytes)


def split_sample() -> Step:
    """Measure what stage split takes for one further image of RAW_PX px: the report's figures cost the same for any number."""
    from ppdl.datasets.preparing.prepare import Split, prepare
    from ppdl.datasets.sources.phantom import Phantom

    split = Split(test_fraction=0.2, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=10, seed=1)
    found = {}
    for num_images in (SAMPLE_IMAGES // 4, SAMPLE_IMAGES // 4, SAMPLE_IMAGES):  # the first also imports
        with tempfile.TemporaryDirectory(prefix="ppdl-forecast-") as folder:
            raw, out, report = (Path(folder) / name for name in ("raw", "prepared", "report"))
            raw.mkdir()
            phantoms = Phantom(num_images=num_images, images_per_patient=2, size_px=RAW_PX, seed=1, classes=None, on_bad_image="raise")
            phantoms.write_raw(raw)
            start = core_seconds()
            prepare(raw, out, report, split=split, prepared_px=PX, on_bad_image="raise", params={})
            found[num_images] = core_seconds() - start
    (few, few_s), (many, many_s) = found.items()
    return Step("split", 0.0, (many_s - few_s) / (many - few), PX**2, "")


def epoch_sample() -> Step:
    """Measure an epoch of MobileNetV2 (alpha 0.35) for one image of PX px, without the tracing of the first step."""
    import keras

    from ppdl.protections.view import plain_view
    from ppdl.training.fitting.fit import fit
    from ppdl.training.fitting.settings import Training
    from ppdl.training.networks.model import MobileNetV2

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = core_seconds()

        def on_epoch_end(self, epoch, logs=None):
            self.core_s = core_seconds() - self.start

    images = np.random.default_rng(0).integers(0, 256, (SAMPLE_IMAGES, PX, PX), np.uint8)
    values = {"learning_rate": 1e-3, "warmup_epochs": 0.5, "weight_decay": 1e-4, "label_smoothing": 0.05, "class_weights": None}
    values |= {"early_stopping_patience": None, "num_threads": None, "devices": 1}
    training = Training(epochs=2, batch_size=16, augmentation={"flip": True, "shift": 0.06}, **values)
    model = MobileNetV2(alpha=0.35, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None)
    rows, clock = np.arange(SAMPLE_IMAGES), Clock()
    with tempfile.TemporaryDirectory(prefix="ppdl-forecast-") as folder:
        fit(
            plain_view(images),
            rows % 2,
            rows[24:],
            rows[:24],
            model=model,
            training=training,
            num_classes=2,
            seed=1,
            state_dir=Path(folder) / "state",
            callbacks=[clock],
            progress=False,
        )
    return Step("train, an epoch", 0.0, clock.core_s / SAMPLE_IMAGES, 0, "")


def table(found: list[Forecast]) -> Table:
    """Show core hours, days on this machine, and machines for one day."""
    cores = joblib.cpu_count()
    title = (
        f"images of {PX} px, {KEY_BITS} bits, stride {STRIDE}, {CHANNELS} filters; measured {time.strftime('%Y-%m-%d')} on {cores} cores"
    )
    shown = Table(title=title)
    for column in ("set", "step", "core-hours", f"days on {cores} cores", f"{MACHINE_CORES}-core machines for one day", "GB written"):
        shown.add_column(column, justify="left" if column in ("set", "step") else "right")
    for name in SETS:
        mine = [forecast for forecast in found if forecast.images == name]
        total = Forecast(name, SETS[name], "all", sum(f.core_s for f in mine), sum(f.bytes for f in mine))
        for forecast in (*mine, total):
            figures = (f"{forecast.core_s / 3600:.2f}", f"{forecast.core_s / _DAY_S / cores:.2f}", f"{forecast.machines:.2f}")
            size = f"{forecast.bytes / 1e9:.2f}" if forecast.bytes else ""
            shown.add_row(f"{name}, {forecast.num_images:,} images", forecast.step, *figures, size)
    return shown
