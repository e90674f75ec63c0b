"""How many cores one training uses."""

from __future__ import annotations

import logging
import os

import joblib

_log = logging.getLogger(__name__)


def set_num_threads(num_threads: int | None) -> None:
    """Share `num_threads` threads, or with None all cores, out among operations that need nothing of each other.

    Two run at a time: the gradients by a layer's input and by its weights.

    The setting holds for the process, and TensorFlow takes it only before its first operation; the log says when a number comes
    too late. With 1, several trainings run side by side, which is the fastest way to train many small networks.
    """
    import tensorflow as tf

    if num_threads is None and tf.config.list_physical_devices("GPU"):
        return
    total = num_threads or num_cores()
    at_once = min(total, 2)  # operations at a time
    within = max(total // at_once, 1)  # threads of each
    threading = tf.config.threading
    try:
        threading.set_inter_op_parallelism_threads(at_once)
        threading.set_intra_op_parallelism_threads(within)
    except RuntimeError:  # TensorFlow has started in this process
        found = threading.get_inter_op_parallelism_threads(), threading.get_intra_op_parallelism_threads()
        if num_threads is not None and found != (at_once, within):
            running = " x ".join(str(n or "all") for n in found)
            _log.warning("training.num_threads=%d comes too late: TensorFlow already runs with %s threads here", num_threads, running)


def num_cores() -> int:
    """Return the number of cores that this process may use: OMP_NUM_THREADS says it, as to OpenBLAS and OpenMP, else the system."""
    if (said := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()).isdecimal() and int(said):
        return int(said)
    return joblib.cpu_count()
