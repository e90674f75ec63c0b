"""The frame of the stages that protect images: what is read, who signed it, where work lies, who signs, what it cost. No stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ppdl.config import Workspace, branch, build, construct
from ppdl.config.cost import folder_bytes, recorded_cost
from ppdl.config.handed_over import made_here
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.signing import Signing
from ppdl.protections.context import FOLDERS, Context, KeyHolder


@dataclass(frozen=True)
class Job:
    """What a step works on.

    Attributes:
        read: what the steps before it wrote, in their order.
        out_dir: what it writes.
        context: see `Context`.
        cost: takes further figures for reports/cost.
    """

    read: list[Path]
    out_dir: Path
    context: Context
    cost: dict[str, Any]


@contextmanager
def protecting(cfg: DictConfig, workspace: Workspace, step: str, key_holder: KeyHolder | None = None) -> Iterator[Job]:
    """Prepare a step of the branch at hand, check signatures before it, and sign what it wrote after it.

    Args:
        step: a key of FOLDERS.
        key_holder: where the private key lies, for a step that may use it.

    Raises:
        ArtifactError: what it reads is not signed as `signing.trusted` asks for.
    """
    name, _ = branch(cfg)
    signing = construct(Signing, cfg.signing, "signing")
    sign = signing.signer()
    context = Context(
        public_key=load_public(workspace.inputs / "keys/public.json"),
        input_px=cfg.input_px,
        partial_dir=workspace.unfinished / step / name,
        executor=build(cfg.executor, "executor"),
        key_holder=key_holder,
    )
    folders = list(FOLDERS.values())[: list(FOLDERS).index(step)]
    read = [workspace.inputs / "data" / folder / name for folder in folders]
    for folder, path in zip(folders, read, strict=True):
        signing.check(folder, path)
    out_dir = workspace.outputs / "data" / FOLDERS[step] / name
    with made_here(out_dir, workspace.unfinished), recorded_cost(workspace.outputs / f"reports/cost/{name}/{step}.json") as cost:
        yield Job(read, out_dir, context, cost)
        sign(out_dir)
        cost["bytes"] = folder_bytes(out_dir)
