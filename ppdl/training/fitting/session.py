"""One training in this process: the compiled network, its data, and the state that it resumes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from ppdl.protections.view import View
from ppdl.training.fitting.callbacks import FeedEpoch, Keep, OnEpoch, Progress, RefuseNaN, Report, Stopwatch
from ppdl.training.fitting.devices import adamw, mirrored
from ppdl.training.fitting.optimizer import warmup_cosine
from ppdl.training.fitting.result import COLUMNS, FitResult
from ppdl.training.fitting.settings import Training
from ppdl.training.fitting.state import State, digest_of, read_state, remove_state
from ppdl.training.networks.data import Batches, check_symbols
from ppdl.training.networks.fused import fused
from ppdl.training.networks.model import MobileNetV2


class Session:
    """Hold what `fit` builds; its arguments are those of `fit`, checked."""

    def __init__(
        self,
        view: View,
        labels: np.ndarray,
        rows: tuple[np.ndarray, np.ndarray],
        *,
        model: MobileNetV2,
        training: Training,
        num_classes: int,
        seed: int,
        state_dir: Path,
        started: float,
    ) -> None:
        check_symbols(view, np.concatenate(rows))
        keras.utils.set_random_seed(seed)
        self.training, self.state_dir, self.started = training, Path(state_dir), started
        self.train, self.validation = _batches(view, labels, rows, training, num_classes, seed)
        self.model = model.build(view, num_classes)
        num_steps, warmup_steps = training.epochs * len(self.train), round(training.warmup_epochs * len(self.train))
        self.network = compiled(self.model, training, warmup_cosine(training.learning_rate, warmup_steps, num_steps))
        # The number of threads does not decide what is learned.
        parts = {"model": model, "training": dataclasses.replace(training, num_threads=None), "num_classes": num_classes, "seed": seed}
        parts |= {"keras": keras.__version__}
        self.digest = digest_of(view, labels, rows, parts, self.model.get_weights())

    def run(self, callbacks: Sequence[keras.callbacks.Callback], on_epoch: OnEpoch | None, progress: bool) -> FitResult:
        """Train to the end, from the start or from where a killed training stopped."""
        state = read_state(self.state_dir, self.digest)
        patience = self.training.early_stopping_patience
        keep = Keep(self.state_dir, self.digest, patience=patience, state=state, started=self.started)
        first = len(keep.history)
        if state is not None:
            self._restore(state)
        bar = Progress(self.train, self.training.epochs)
        own = [FeedEpoch(self.train), Stopwatch(self.train.batch_size), RefuseNaN(), keep]
        own += [bar] if progress else []
        own += [Report(keep, on_epoch)] if on_epoch else []
        if not keep.finished and first < self.training.epochs:
            try:
                self._fit(first, [*own, *callbacks])
            finally:
                bar.close()
        self.model.set_weights(keep.best)
        self.network.set_weights(keep.best)
        remove_state(self.state_dir)
        history = pd.DataFrame(keep.history, columns=COLUMNS)
        return FitResult(self.model, self.network, history, keep.best_epoch, keep.seconds, first)

    def _fit(self, first_epoch: int, callbacks: list[keras.callbacks.Callback]) -> None:
        self.network.fit(
            self.train,
            validation_data=self.validation,
            initial_epoch=first_epoch,
            epochs=self.training.epochs,
            shuffle=False,  # the batches are shuffled in themselves
            callbacks=callbacks,
            verbose=0,
        )

    def _restore(self, state: State) -> None:
        for variables, values in ((self.network.variables, state.model), (self.network.optimizer.variables, state.optimizer)):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def compiled(model: keras.Model, training: Training, rate: Any) -> keras.Model:
    """Return a copy of `model` that trains fast, see `fused`, or on several devices, see `mirrored`, compiled; `rate`: or a schedule."""
    with mirrored(training.devices):
        network = fused(model)
        optimizer = adamw(rate, training.weight_decay, network, training.devices)
        # TensorFlow traces a step a second time when the first trace had to create variables.
        optimizer.build(network.trainable_variables)
        network.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing),
            metrics=[
                keras.metrics.CategoricalAccuracy(name="accuracy"),
                keras.metrics.CategoricalCrossentropy(name="log_loss", from_logits=True),  # of trainings that smooth labels differently
            ],
            # XLA on a CPU makes this network several times slower; on a GPU and in JAX Keras' own choice is right.
            jit_compile="auto",
        )
    return network


def _batches(
    view: View, labels: np.ndarray, rows: tuple[np.ndarray, np.ndarray], training: Training, num_classes: int, seed: int
) -> tuple[Batches, Batches]:
    train_rows, validation_rows = rows
    one_hot = np.eye(num_classes, dtype=np.float32)
    weights = None
    if training.class_weights == "balanced":
        counts = np.bincount(labels[train_rows], minlength=num_classes)
        weights = (len(train_rows) / (num_classes * counts)).astype(np.float32)[labels[train_rows]]
    train = Batches(
        view,
        train_rows,
        one_hot[labels[train_rows]],
        batch_size=training.batch_size,
        sample_weights=weights,
        seed=seed,
        augmentation=training.augmenter,
    )
    return train, Batches(view, validation_rows, one_hot[labels[validation_rows]], batch_size=training.batch_size)
