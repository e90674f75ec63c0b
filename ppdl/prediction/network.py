"""A trained network with what it needs to answer for new images, from a model folder or a registered model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.artifact.header import NUM_SYMBOLS
from ppdl.crypto.artifact.header_file import HEADER_FILE
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.keystore import load_public
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.evaluation.predictions.calibration import Calibration, apply_temperature, load_calibration
from ppdl.evaluation.predictions.likeness import Likeness
from ppdl.prediction.recipe import PLAIN, RECIPE_FILE, Recipe, read_recipe
from ppdl.prediction.steps import protection_of, view_of
from ppdl.protections.context import KeyHolder
from ppdl.tracking.runs.record import read_record

MODEL_FILE, PUBLIC_FILE, ARTIFACT_DIR, SEEN_FILE = "model.keras", "public.json", "artifact", "seen.npy"
_BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class NetworkAnswers:
    """What a network says about some images.

    Attributes:
        logits: (num_images, num_classes) float32.
        probabilities: (num_images, num_classes), their softmax at the network's temperature.
        unseen: (num_images,) share of the pixels whose symbol no training image held, so that the network never learned what it looks
            like; None where the network is fed values.
        unlike: (num_images,) whether each is unlike the training set (`Likeness`); None where that is not known.
        inputs: what the network was fed, integers, (num_images, height, width) with or without channels.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    unseen: np.ndarray | None
    unlike: np.ndarray | None
    inputs: np.ndarray


@dataclass(frozen=True, eq=False)
class Network:
    """Hold where the parts of a trained network are; nothing is loaded before it is used.

    Attributes:
        recipe: what it expects.
        folder: of model.keras and calibration.json.
        public_path: public key; None for plain.
        artifact_dir: what it was trained on, for a protection that needs it.
        prepared_dir: the prepared images, whose index says which rows were trained on; None: `seen_path` says what they held.
        seen_path: symbols of the training images, (num_symbols,) bool.
    """

    recipe: Recipe
    folder: Path
    public_path: Path | None = None
    artifact_dir: Path | None = None
    prepared_dir: Path | None = None
    seen_path: Path | None = None

    @cached_property
    def public_key(self) -> PublicKey | None:
        """The public key that the network's ciphertexts are under.

        Raises:
            KeyStoreError: the file holds another one, or none.
        """
        if self.public_path is None:
            return None
        key, expected = load_public(self.public_path), self.recipe.key_fingerprint
        if key.fingerprint != expected:
            raise KeyStoreError(
                f"{self.public_path} holds the public key {key.fingerprint}, and this model was trained under {expected}: restore that key "
                "(`dvc pull`), or train again (`dvc repro`)"
            )
        return key

    @cached_property
    def model(self) -> Any:
        """The Keras model as it was saved."""
        from ppdl.training.networks.predict import load_model

        return load_model(self.folder / MODEL_FILE)

    @cached_property
    def _fused(self) -> Any:
        from ppdl.training.networks.fused import fused

        return fused(self.model)

    @cached_property
    def calibration(self) -> Calibration:
        """What makes probabilities of logits, and which set it comes of."""
        return load_calibration(self.folder)

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return self.calibration.temperature

    @cached_property
    def likeness(self) -> Likeness | None:
        """What images of the training set are like to the network, with a threshold; None where that was not learned."""
        found = Likeness.load(self.folder)
        return found if found is not None and found.has_threshold else None

    @cached_property
    def seen(self) -> np.ndarray:
        """Which symbols the training images held, (num_symbols,) bool. Cost: reads the artifact's symbols once."""
        if self.seen_path is not None:
            return np.load(self.seen_path, allow_pickle=False)
        if self.prepared_dir is None or self.artifact_dir is None:
            raise ArtifactError(
                f"{self.folder}: neither says which symbols its training images held nor names the artifact that they are in"
            )
        train_rows = load_prepared(self.prepared_dir).rows("train")
        view = protection_of(self.recipe).view(self.artifact_dir, self.recipe.view, train_rows)
        seen = np.zeros(NUM_SYMBOLS if view.table is None else len(view.table), np.bool_)
        for rows in np.array_split(train_rows, max(1, len(train_rows) // 256)):
            seen[np.asarray(view.array[rows]).ravel()] = True
        return seen

    def check(self) -> None:
        """Refuse a public key or an artifact that the network was not trained on."""
        _ = self.public_key
        if self.artifact_dir is None or self.seen_path is not None:
            return
        path = self.artifact_dir / HEADER_FILE
        if not path.is_file():
            raise ArtifactError(f"{path} is missing, and this model needs the artifact that it was trained on: fetch it with `dvc pull`")
        found, expected = hash_file(path), self.recipe.source_sha256
        if found != expected:
            raise ArtifactError(
                f"{path} has SHA-256 {found[:16]}..., and this model was trained on {expected[:16]}...: symbols of one "
                "mean nothing in the other. Restore it with `dvc checkout`, or train again with `dvc repro`"
            )

    def answer(self, images: np.ndarray, key_holder: KeyHolder) -> NetworkAnswers:
        """Take prepared images, (num_images, prepared_px, prepared_px) uint8, through the steps of training, and ask the network.

        Ciphertexts and the revealed view lie in a temporary folder of this user, which is removed.

        Raises:
            PpdlError: see `ppdl.prediction.steps.view_of`.

        Cost: that of the protection's steps (3072 bits, 128 px, homomorphic: some 0.5 s an image), and a second for the first call.
        """
        from ppdl.training.networks.predict import predict_features

        with tempfile.TemporaryDirectory(prefix="ppdl-") as folder:
            view = view_of(
                self.recipe,
                images,
                Path(folder),
                public_key=self.public_key,
                artifact_dir=self.artifact_dir,
                key_holder=key_holder,
            )
            inputs = np.array(view.array[np.arange(len(images))])  # its files go
            view = replace(view, array=inputs)
        logits, features = predict_features(self._fused, view, np.arange(len(images)), _BATCH_SIZE)
        unlike = None if self.likeness is None or features is None else self.likeness.unlike(features)
        unseen = None if view.table is None else (~self.seen[inputs]).mean(axis=(1, 2))
        return NetworkAnswers(logits, apply_temperature(logits, self.temperature), unseen, unlike, inputs)


def open_network(folder: Path) -> Network:
    """Open a model folder (`models/NAME/VIEW` of a checkout) or the data of a registered model.

    Raises:
        PpdlError: the folder is of a head, or holds those of views; a part is missing, damaged, or of another key or artifact than the
            network was trained on.
    """
    if (folder / "head.json").is_file():
        raise ConfigError(f"{folder} holds a head, which answers on ciphertexts: start it with `ppdl serve`, and ask it with --server")
    if views := sorted(record.parent.name for record in folder.glob("*/run.json")):
        raise ConfigError(f"{folder} holds a network for each view; give one of {', '.join(str(folder / view) for view in views)}")
    if not (folder / RECIPE_FILE).is_file():
        network = in_checkout(Recipe.of_record(read_record(folder / "run.json")), folder, (folder / "../../..").resolve())
    else:
        recipe = read_recipe(folder)
        has_artifact = (folder / ARTIFACT_DIR).is_dir()
        network = Network(
            recipe,
            folder,
            public_path=None if recipe.protection == PLAIN else folder / PUBLIC_FILE,
            artifact_dir=folder / ARTIFACT_DIR if has_artifact else None,
            seen_path=folder / SEEN_FILE if has_artifact else None,
        )
    network.check()
    return network


def in_checkout(recipe: Recipe, folder: Path, root: Path) -> Network:
    """Return a network whose key and artifact, where it needs them, lie in the checkout `root`; nothing is read."""
    if recipe.protection == PLAIN:
        return Network(recipe, folder)
    needs_artifact = protection_of(recipe).needs_artifact
    return Network(
        recipe,
        folder,
        public_path=root / "keys/public.json",
        artifact_dir=root / "data" / recipe.branch["train_on"] / recipe.protection if needs_artifact else None,
        prepared_dir=root / "data/prepared" if needs_artifact else None,
    )
