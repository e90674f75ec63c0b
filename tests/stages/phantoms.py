"""What stages find before they run: a configuration, and phantoms, drawn and prepared as `download` and `split` do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ppdl.config import PARAMS, build, plain
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare


def small_config(branch: str, private_dir: Path, changes: Mapping[str, Any]) -> DictConfig:
    """Return params.yaml with `changes`, films of 32 px and a key of 512 bits."""
    keygen = {"key_bits": 512, "allow_insecure_key": True, "private_dir": str(private_dir)}
    small = {"branch": branch, "input_px": 32, "keygen": keygen, "split": {"near_duplicate_bits": 0}}
    return OmegaConf.merge(OmegaConf.load(PARAMS), small, changes)


def prepare_phantoms(cfg: DictConfig, root: Path) -> None:
    """Write data/raw and data/prepared below `root`."""
    data = root / "data"
    data.mkdir(parents=True)
    build(cfg.dataset, "dataset").write_raw(data / "raw")
    params = plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")})
    few = {"split": Split(**params["split"]), "prepared_px": cfg.prepared_px, "on_bad_image": "raise", "params": params}
    prepare(data / "raw", data / "prepared", root / "reports", **few)
