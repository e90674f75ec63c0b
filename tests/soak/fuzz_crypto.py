"""Targets of the fuzz: headers, artifacts, revealed views, key files and what lies beside them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ppdl.crypto.artifact.header_file import parse_header
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.decrypt import decrypt_images
from ppdl.crypto.keys import jwk
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_private, load_public, save_private, save_public
from ppdl.errors import ArtifactError, KeyStoreError
from ppdl.protections.steps.filters import load_approved
from ppdl.protections.steps.noise import load_noise_secret
from ppdl.protections.steps.revealed import read_revealed
from tests.attacks.build import KINDS, dump
from tests.crypto.artifacts import random_images
from tests.crypto.artifacts import write as write_artifact
from tests.protections.conftest import DCT, Chain
from tests.soak.mutate import damaged_bytes, damaged_tree
from tests.soak.target import Target, contents_of, one_of_files, restore

KEY = generate_keypair(256, allow_insecure_key=True)


def _artifacts(folder: Path) -> dict[str, Path]:
    for kind in KINDS:
        if not (folder / kind).exists():
            (folder / kind).mkdir()
            write_artifact(folder / kind, kind, random_images(6), KEY.public)
    return {kind: folder / kind / "artifact" for kind in KINDS}


def _sealed(content: dict) -> str:
    """Serialise a header with a digest that fits, as an attacker would."""
    if isinstance(content, dict):
        content.pop("header_sha256", None)
        content["header_sha256"] = hashlib.sha256(dump(content).encode()).hexdigest()
    return dump(content)


def headers(folder: Path) -> Target:
    """header.json as text: damaged fields under a digest that fits, and damaged text."""
    texts = [(path / "header.json").read_text() for path in _artifacts(folder).values()]
    fields = st.sampled_from(texts).flatmap(lambda text: damaged_tree(json.loads(text))).map(_sealed)
    raw = st.sampled_from(texts).flatmap(lambda text: damaged_bytes(text.encode())).map(lambda data: data.decode("latin-1"))
    return Target("headers", st.one_of(fields, raw), parse_header, ArtifactError, 25)


def artifacts(folder: Path) -> Target:
    """One file of an artifact damaged, with digests made to fit or not, then verified and decrypted whole."""
    folders = _artifacts(folder)
    good = {kind: contents_of(path) for kind, path in folders.items()}

    def read(case: tuple[str, tuple[str, bytes], bool]) -> None:
        kind, (name, data), fits = case
        path = folders[kind]
        try:
            (path / name).write_bytes(data)
            if fits and name != "header.json":
                header = json.loads(good[kind]["header.json"])
                for shard in header["shards"]:
                    if shard["file"] == name:
                        shard |= {"sha256": hashlib.sha256(data).hexdigest()}
                (path / "header.json").write_text(_sealed(header))
            artifact = open_artifact(path)
            artifact.verify(KEY.public)
            for _ in decrypt_images(artifact, KEY):
                pass
        finally:
            restore(path, good[kind])

    cases = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), one_of_files(good[kind]), st.booleans()))
    return Target("artifacts: shards, codebooks", cases, read, ArtifactError, 10)


def views(folder: Path) -> Target:
    """A revealed view: its header's fields, and the bytes of both files."""
    root = folder / "chain"
    root.mkdir()
    chain = Chain(root, random_images(4, 8, 8), KEY)
    chain.encrypt()
    chain.filter()
    path = chain.decrypt()
    good = contents_of(path)
    header = json.loads(good["header.json"])
    trees = damaged_tree(header).map(lambda tree: ("header.json", json.dumps(tree).encode()))

    def read(case: tuple[str, bytes]) -> None:
        try:
            (path / case[0]).write_bytes(case[1])
            if case[0] == "view.npy":  # a digest that fits, so that the parser meets the bytes
                (path / "header.json").write_text(json.dumps(header | {"view_sha256": hashlib.sha256(case[1]).hexdigest()}))
            np.asarray(read_revealed(path).array).sum()
        finally:
            restore(path, good)

    return Target(
        "revealed views",
        st.one_of(trees, one_of_files({"view.npy": good["view.npy"], "header.json": good["header.json"]})),
        read,
        ArtifactError,
        8,
    )


def public_keys(folder: Path) -> Target:
    """public.json."""
    path = folder / "public.json"
    save_public(path, KEY.public)
    return Target("public key files", _key_texts(path.read_bytes()), lambda data: _load(load_public, path, data), KeyStoreError, 12)


def private_keys(folder: Path) -> Target:
    """A private key file in the clear. No error may hold a piece of p or q."""
    path = save_private(folder / "private", KEY)
    numbers = [text for number in (KEY.p, KEY.q) for text in (str(number), f"{number:x}", jwk.encode_int(number))]
    pieces = [text[begin : begin + 12] for text in numbers for begin in range(0, len(text) - 12, 6)]

    def read(data: bytes) -> None:
        try:
            _load(load_private, path, data)
        except KeyStoreError as error:
            if any(piece in str(error) for piece in pieces):
                raise AssertionError("an error quotes private parts") from None
            raise

    return Target("private key files", _key_texts(path.read_bytes()), read, KeyStoreError, 10)


def encrypted_keys(folder: Path) -> Target:
    """A private key file under a passphrase; with a cheap scrypt, since its cost is a constant that the file cannot change."""
    jwk._SCRYPT["log2_n"] = 4
    path = save_private(folder / "protected", KEY, passphrase="right")
    data = path.read_bytes()
    return Target(
        "encrypted key files", _key_texts(data), lambda text: _load(lambda p: load_private(p, "right"), path, text), KeyStoreError, 5
    )


def beside_keys(folder: Path) -> Target:
    """noise_secret.json and approved.json."""
    private_dir = folder / "beside"
    load_noise_secret(private_dir, project=folder / "project")
    (private_dir / "approved.json").write_text(json.dumps([DCT, {"filters": [[1, 2, 3, 4]], "channels": 1, "weight_bits": 4}]))
    good = contents_of(private_dir)
    readers = {
        "noise_secret.json": lambda: load_noise_secret(private_dir, project=folder / "project"),
        "approved.json": lambda: load_approved(private_dir),
    }

    def read(case: tuple[str, bytes]) -> None:
        (private_dir / case[0]).write_bytes(case[1])
        (private_dir / case[0]).chmod(0o600)
        readers[case[0]]()

    trees = st.sampled_from(sorted(readers)).flatmap(
        lambda name: damaged_tree(json.loads(good[name])).map(lambda tree: (name, json.dumps(tree).encode()))
    )
    return Target("noise secrets, approved filters", st.one_of(trees, one_of_files({n: good[n] for n in readers})), read, KeyStoreError, 5)


def _key_texts(good: bytes) -> st.SearchStrategy:
    members = json.loads(good)
    numbers = st.integers(0, 2**512).map(lambda n: jwk.encode_int(n) if n else "")
    huge = st.integers(0, 3000).map(lambda size: jwk.encode_bytes(b"\xff" * size))
    trees = damaged_tree(members).map(lambda tree: json.dumps(tree).encode())
    exchanged = st.tuples(st.sampled_from(re.findall(rb'"([A-Za-z0-9_-]{40,})"', good)), st.one_of(numbers, huge)).map(
        lambda pair: good.replace(pair[0], pair[1].encode())
    )
    return st.one_of(trees, damaged_bytes(good), exchanged)


def _load(load, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
    load(path)


TARGETS = [headers, artifacts, views, public_keys, private_keys, encrypted_keys, beside_keys]
