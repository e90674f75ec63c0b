"""Learning from Paillier-encrypted medical images: pipeline, attacks, and a library of Paillier arithmetic (`ppdl.crypto`)."""

import os
import sys
from pathlib import Path

from ppdl.quiet import QuietImport

__version__ = "0.1.0"

if not Path("/proc/driver/nvidia").exists():  # TensorFlow would print that it finds no CUDA
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, QuietImport())
