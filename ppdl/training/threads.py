"""How many cores one training uses."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


def set_num_threads(num_threads: int | None) -> None:
    """Limit the Keras backend to `num_threads` threads; None leaves all cores to it.

    The limit holds for the process, and TensorFlow takes it only before its first operation: later calls change nothing but
    are said so in the log. With 1, several trainings run side by side, which is the fastest way to train many small networks.
    """
    if num_threads is None:
        return
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        _limit_tensorflow(num_threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(num_threads)
    else:
        _log.warning("training.num_threads=%d has no effect with Keras backend %s: limit it with `taskset`", num_threads, backend)


def _limit_tensorflow(num_threads: int) -> None:
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(num_threads)
        threading.set_inter_op_parallelism_threads(num_threads)
    except RuntimeError:  # TensorFlow has started in this process
        found = threading.get_intra_op_parallelism_threads()
        if found != num_threads:
            _log.warning(
                "training.num_threads=%d comes too late: TensorFlow already runs with %s threads in this process",
                num_threads,
                found or "all",
            )
