"""What no file of the package may do, read from its syntax tree: unpickle, draw cryptographic randomness elsewhere, listen to the world."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted([*(PROJECT / "ppdl").rglob("*.py"), *(PROJECT / "stages").rglob("*.py")])
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "joblib.load", "pd.read_pickle", "pandas.read_pickle", "torch.load", "os.system", "os.popen"}
CRYPTO = sorted((PROJECT / "ppdl/crypto").rglob("*.py"))
OTHER_RANDOMNESS = {"random", "numpy.random"}
NO_KEYS = {"estimate/images.py", "estimate/stem.py"}  # draw what they time, no key and no obfuscator
DEFAULT_RANDOMNESS = re.compile(
    r"\bnp\.random\b|\bnumpy\.random\b|\bgmpy2\.(random_state|mpz_random|mpz_urandomb|mpz_rrandomb)\b|\buuid\.uuid1\b"
)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def unsafe(source: str) -> list[str]:
    """List what reads data in a way that may run code."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imports(tree) if name.split(".")[0] in UNSAFE_MODULES]
    for name, call in calls(tree):
        arguments = {keyword.arg: keyword.value for keyword in call.keywords}
        values = {key: value.value for key, value in arguments.items() if isinstance(value, ast.Constant)}
        if name in UNSAFE_CALLS:
            found.append(f"calls {name}")
        if name in ("np.load", "numpy.load") and values.get("allow_pickle") is not False:
            found.append("np.load without allow_pickle=False")
        if values.get("allow_pickle") is True:
            found.append(f"{name} with allow_pickle=True")
        if values.get("shell") is True:
            found.append(f"{name} with shell=True")
        if values.get("safe_mode") is False:
            found.append(f"{name} with safe_mode=False")
        if name == "yaml.load" and ast.unparse(arguments.get("Loader", ast.Constant(None))) not in ("yaml.BaseLoader", "yaml.SafeLoader"):
            found.append("yaml.load without a safe loader")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_nothing_that_is_read_may_run_code(path):
    assert unsafe(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.savez(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "keras.models.load_model(path, safe_mode=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "eval(text)",
        "joblib.load(path)",
    ],
)
def test_the_search_for_unsafe_reading_finds(line):
    assert unsafe(line)


@pytest.mark.parametrize("path", CRYPTO, ids=lambda path: path.name)
def test_randomness_of_the_cryptography_comes_from_the_operating_system(path):
    text = path.read_text()
    assert not imports(ast.parse(text)) & OTHER_RANDOMNESS
    if path.relative_to(PROJECT / "ppdl/crypto").as_posix() not in NO_KEYS:
        assert not DEFAULT_RANDOMNESS.search(text)


def test_obfuscators_and_keys_ask_the_operating_system(monkeypatch):
    """Seeding every other generator changes nothing, and without the operating system's there is no key."""
    import random
    import secrets

    import numpy as np

    from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
    from ppdl.crypto.keys.keypair import generate_keypair

    seen = set()
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  the point is that it has no effect
        key = generate_keypair(256, allow_insecure_key=True)
        seen |= {
            key.p,
            key.q,
            *map(int, build_obfuscators(key.public, "djn").draw(2)),
            *map(int, build_obfuscators(key.public, "standard").draw(2)),
        }
    assert len(seen) == 12

    def broken(*_):
        raise OSError("no entropy")

    monkeypatch.setattr(secrets, "randbits", broken)
    monkeypatch.setattr(secrets, "randbelow", broken)
    monkeypatch.setattr(secrets, "token_bytes", broken)
    with pytest.raises(OSError, match="no entropy"):
        generate_keypair(256, allow_insecure_key=True)


def test_no_server_listens_beyond_this_machine_unless_told_to():
    """What the repository starts or shows listens on 127.0.0.1; an example for the network names its certificate and its tokens."""
    folders = [PROJECT / name for name in ("docs", "conf")]
    texts = [
        *FILES,
        PROJECT / "Makefile",
        PROJECT / "README.md",
        *(path for folder in folders for path in folder.rglob("*") if path.is_file()),
    ]
    lines = [line for path in texts if path.suffix not in (".png", ".jpg") for line in path.read_text().splitlines()]
    shown = [line for line in lines if re.search(r"--host[= ]+[\d:]", line)]
    assert any("127.0.0.1" in line for line in shown)
    open_ones = [line for line in shown if not re.search(r"--host[= ]+127\.0\.0\.1", line)]
    assert all("--tls-cert" in line and "--token-file" in line for line in open_ones), open_ones


def test_every_command_that_listens_does_so_on_this_machine_by_default():
    import click

    from ppdl.cli import COMMANDS, main

    commands = {name: main.get_command(click.Context(main), name) for name in COMMANDS}
    hosts = {name: option.default for name, command in commands.items() for option in command.params if option.name == "host"}
    assert hosts == {"serve": "127.0.0.1"}
