"""What every step of a protection is told beside the folders that it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey
    from ppdl.crypto.workers.parallel import Executor

FOLDERS = {"encrypt": "encrypted", "stem": "stem", "reveal": "revealed"}  # what each step writes, below data/, in their order


@dataclass(frozen=True)
class KeyHolder:
    """Where the private part lies, for steps that need it.

    Attributes:
        private_dir: folder of the private keys; the owner's list, ledger and noise secret lie there.
        project: the checkout, which must not hold `private_dir`.
    """

    private_dir: Path
    project: Path


@dataclass(frozen=True)
class Context:
    """Say for which network, under which key and by whom images are protected.

    Attributes:
        public_key: what ciphertexts are encrypted under.
        input_px: side of the network's input.
        partial_dir: where unfinished work lies, outside the folder that is written, on the same file system.
        executor: what runs the shards in parallel (conf/executor/NAME.yaml).
        like: the artifact that a trained network was trained on, when it is to read what is encrypted; None for a set of its own.
        key_holder: None where no private key may be used.
        progress: whether to show it.
    """

    public_key: PublicKey
    input_px: int
    partial_dir: Path
    executor: Executor
    like: Path | None = None
    key_holder: KeyHolder | None = None
    progress: bool = True
