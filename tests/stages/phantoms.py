"""What stages find before they run: phantoms, drawn and prepared as `download` and `split` do."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ppdl.config import build, plain
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare


def prepare_phantoms(cfg: DictConfig, root: Path) -> None:
    """Write data/raw and data/prepared below `root`."""
    data = root / "data"
    data.mkdir(parents=True)
    build(cfg.dataset, "dataset").write_raw(data / "raw")
    params = plain({key: cfg[key] for key in ("dataset", "split", "prepared_px")})
    few = {"split": Split(**params["split"]), "prepared_px": cfg.prepared_px, "on_bad_image": "raise", "params": params}
    prepare(data / "raw", data / "prepared", root / "reports", **few)
