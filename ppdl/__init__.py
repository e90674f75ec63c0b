"""Learning from Paillier-encrypted medical images: pipeline, attacks, and a library of Paillier arithmetic (`ppdl.crypto`)."""

import os
from pathlib import Path

__version__ = "0.1.0"

if not Path("/proc/driver/nvidia").exists():  # TensorFlow, which reads this when it is imported, would print that it finds no CUDA
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
