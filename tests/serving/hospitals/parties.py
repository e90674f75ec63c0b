"""Five parties on 127.0.0.1, as docs/howto/hospitals.md has them: each types the page's commands, in a home of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from ppdl.config import PARAMS, PROJECT, Workspace
from ppdl.config.place import CONF
from ppdl.crypto.artifact.shards import hash_file
from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.pooling.sharing import Shares
from stages import federate, hospitals, pool
from stages import open as opens
from tests.processes import free_port
from tests.stages.phantoms import prepare_phantoms

VENV = PROJECT / ".venv-hospitals"
PAGE = PROJECT / "docs/howto/hospitals.md"
HEAD, FEDERATION, ADDRESS = "pooled_head", "averaging", "pool.example.org:9443"
SMALL = {  # of a federation: a network of three layers, of which no party but the key holder needs the code
    "input_px": 32,
    "keygen": {"key_bits": 2048},
    "model": {"_target_": "tests.training.toys.Narrow"},
    "training": {"batch_size": 8},
    "federations": {FEDERATION: {**OmegaConf.load(CONF / "federation/averaging.yaml"), "rounds": 2}},
    "federated": [FEDERATION],
    "branch": FEDERATION,
}
NAMES = ("anna", "berta", "clara")
PARTIES = ("server", *NAMES, "key-holder")
TIMEOUT_S = 300


class Films:
    """Phantoms that three hospitals share, and the head and the network that the pipeline's stages make of all."""

    def __init__(self, root: Path, num_images: int = 120) -> None:
        self.root = root
        own = {"dataset": {"num_images": num_images, "size_px": 128}, "branch": HEAD}
        self.cfg = OmegaConf.merge(OmegaConf.load(PARAMS), own)
        self.cfg.keygen.private_dir = str(root / "keys")
        prepare_phantoms(self.cfg, root)
        hospitals.run(self.cfg, Workspace(root, root))

    def of(self, name: str, folder: Path) -> None:
        """Write what one hospital has prepared: its share of the pooled films, and no others."""
        rows = list(Shares.read(self.root / f"data/hospitals/{HEAD}.json").rows.values())[NAMES.index(name)]
        write_rows(load_prepared(self.root / "data/prepared"), rows, folder)

    def head_of_the_stages(self, backbone: Path) -> Path:
        """Run the pipeline's stages pool and open on all films, with this backbone, and return the head's folder."""
        (self.root / "data/backbone").mkdir(exist_ok=True)
        shutil.copy(backbone, self.root / f"data/backbone/{HEAD}.keras")
        for stage in (pool, opens):
            stage.run(self.cfg, Workspace(self.root, self.root))
        return self.root / "models" / HEAD

    def network_of_the_stage(self) -> Path:
        """Run the pipeline's stage federate on all films, and return the network's file."""
        shutil.copy(self.root / f"data/hospitals/{HEAD}.json", self.root / f"data/hospitals/{FEDERATION}.json")
        federate.run(OmegaConf.merge(self.cfg, SMALL), Workspace(self.root, self.root))
        return self.root / "models" / FEDERATION / "model.keras"


def write_rows(prepared: Prepared, rows: Sequence[int], folder: Path) -> None:
    """Write some prepared films as a hospital has prepared its own."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", prepared.images[rows])
    prepared.index.iloc[rows].to_csv(folder / "index.csv", index=False)
    (folder / "meta.json").write_text(json.dumps(prepared.meta | {"num_images": len(rows)}))


class Parties:
    """The parties of one run, up to where each gives the page's last command.

    Args:
        films: None: the parties' folders are copied from `like`.
    """

    def __init__(self, root: Path, films: Films | None, like: Parties | None = None) -> None:
        self.root, self.running, self.more_env = root, {}, {}
        self.address = like.address if like else f"127.0.0.1:{free_port()}"
        if like is not None:
            shutil.copytree(like.root, root)
            return
        for name in NAMES:
            films.of(name, root / name / "data/prepared")
        for party in PARTIES:
            (root / party).mkdir(exist_ok=True)
            self.type(party, "make")
        for party in PARTIES[:-1]:  # by e-mail, say
            shutil.copy(self.folder(party) / "card.json", root / "key-holder" / f"{party}.json")

    def invite(self, federation: Mapping[str, Any] | None = None) -> None:
        """Have the key holder call a run, and all agree to it.

        Args:
            federation: what its checkout keeps, and that the run is of; None: of a head, as params.yaml has it.
        """
        if federation is not None:
            kept = self.root / "kept"
            for part in ("ppdl", "conf", "dvc.yaml", "tests/training/toys.py"):
                (kept / part).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
                copy(PROJECT / part, kept / part)
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(PARAMS), federation), kept / "params.yaml")
            self.more_env = {"PYTHONPATH": str(kept)}
        self.said = {"key-holder": self.type("key-holder", "call" if federation is None else "call --federation")}
        self.more_env = {}
        for party in PARTIES[:-1]:
            shutil.rmtree(self.root / party / "invitation", ignore_errors=True)
            shutil.copytree(self.root / "key-holder/invitation", self.root / party / "invitation")
            self.said[party] = self.type(party, "agree")

    def folder(self, party: str) -> Path:
        return self.root / party / "pool"

    def run_folder(self, party: str) -> Path:
        return self.folder(party) / "runs" / json.loads((self.folder(party) / "agreed.json").read_text())["sha256"][:16]

    def environment(self, party: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PPDL_PRIVATE_KEY_DIR", "VIRTUAL_ENV")}
        return kept | {"HOME": str(self.root / party), "PATH": f"{VENV}/bin:{os.environ['PATH']}"} | self.more_env

    def type(self, party: str, verb: str, *more: str) -> str:
        """Give the page's command of a party, wait for it, and return what it printed."""
        place = {"cwd": self.root / party, "env": self.environment(party)}
        done = subprocess.run([*self.words(party, verb), *more], **place, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, f"{party} {verb}: {done.stdout}{done.stderr}"
        return done.stdout

    def words(self, party: str, verb: str) -> list[str]:
        line = commands()[party, verb].replace(ADDRESS, self.address).replace("~", str(self.root / party))
        return shlex.split(line)

    def start(self, party: str, *more: str) -> None:
        """Give the page's last command, `run`, and leave it running; what it prints is added to PARTY/said."""
        with (self.root / party / "said").open("a") as out:
            self.running[party] = subprocess.Popen(
                [*self.words(party, "run"), *more],
                cwd=self.root / party,
                env=self.environment(party),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def printed(self, party: str) -> str:
        return (self.root / party / "said").read_text()

    def wait_for(self, party: str, text: str) -> None:
        """Wait until a party has printed something."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.printed(party):
            assert time.monotonic() < deadline and self.running[party].poll() is None, (
                f"{party}: no {text!r} in {self.printed(party)[-2000:]}"
            )
            time.sleep(0.02)

    def kill(self, party: str) -> None:
        self.running[party].send_signal(signal.SIGKILL)
        self.running.pop(party).wait()

    def ends(self, timeout_s: float = TIMEOUT_S) -> dict[str, int]:
        """Wait until all have ended, and return their exit codes."""
        deadline = time.monotonic() + timeout_s
        return {party: process.wait(max(0.1, deadline - time.monotonic())) for party, process in self.running.items()}

    def stop(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of head.json at each party, or of a federation's last total; of the server the one that it was told."""
        number, answer = 0, "head/head.json"
        if self.plan:
            number = 2 * self.plan["rounds"]
            answer = f"board/{number}/answer/total.npz"
        told = json.loads((self.run_folder("server") / f"board/{number}/opened.json").read_text())["statement"]["answer_sha256"]
        return {party: hash_file(self.run_folder(party) / answer) for party in PARTIES[1:]} | {"server": told}

    def outcomes(self) -> set[str]:
        """Return the SHA-256 of what hospitals have, which is the same in runs that end alike: of head.json, or of a network's weights."""
        if not self.plan:
            return {hash_file(self.run_folder(name) / "head/head.json") for name in NAMES}
        found = set()
        for name in NAMES:
            with zipfile.ZipFile(self.run_folder(name) / "network/model.keras") as file:
                found.add(hashlib.sha256(file.read("model.weights.h5")).hexdigest())
        return found

    @property
    def plan(self) -> Any:
        """How a federation averages; None: the run is of a head."""
        return json.loads((self.run_folder("server") / "invitation.json").read_text())["plan"]


def commands() -> dict[tuple[str, str], str]:
    """Return the page's commands, by party and verb: blocks whose first line is a comment with who types them."""
    found = {}
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL):
        first, *lines = re.sub(r"\\\n\s*", "", block).splitlines()
        for party in PARTIES:
            if party in re.split(r"[ ,]+", first.strip("# ")):
                for line in lines:
                    if match := re.match(r"ppdl hospitals (\w+)(?:.* (--federation))?", line):
                        found[party, " ".join(filter(None, match.groups()))] = line.replace("NAME", party)
    return found
