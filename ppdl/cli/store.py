"""The MLflow store of the checkout, which several commands read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppdl.tracking.store import Store


def checkout_store() -> Store:
    """Open the MLflow store of this checkout, with the experiment of params.yaml."""
    from ppdl.config import checkout, read_params

    experiment = read_params()["tracking"]["experiment"]  # before MLflow: without a checkout its extra would be installed in vain

    from ppdl.tracking import open_store

    return open_store(checkout(), experiment)
