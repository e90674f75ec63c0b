"""A pooling run over a network: each party is a process on a machine of its own, and Flower carries the files of the board between them."""

import os

# Flower reports its use, asks for newer versions and installs what an app names, unless these say otherwise before it is imported.
os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1")
