"""A network and images small enough to train in seconds."""

from __future__ import annotations

import pytest

from tests.training import toys


@pytest.fixture(scope="session")
def toy_data():
    """Images of three classes that any network tells apart, and their labels."""
    return toys.images_and_labels()
