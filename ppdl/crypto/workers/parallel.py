"""Run tasks in worker processes, within a memory budget. Conf: conf/executor/NAME.yaml."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from ppdl.records.typecheck import Count, Positive


@dataclass(frozen=True)
class Executor:
    """Run shards in processes of this machine, through joblib.

    Args:
        num_workers: processes; None: one for each core that this process may use. 1 runs in this process.
        shard_mib: largest shard in MiB: the most work that an interrupt loses for each worker.
        min_shards: at least so many shards (where there are images enough), so that small sets keep all workers busy too.
        table_mib: memory in MiB for the obfuscator tables of all workers together. Larger tables mean fewer multiplications.
    """

    num_workers: Count | None
    shard_mib: Positive
    min_shards: Count
    table_mib: Positive

    @property
    def workers(self) -> int:
        """Count the processes that will run."""
        return self.num_workers or joblib.cpu_count()

    @property
    def threads(self) -> int:
        """Count the threads of what stays in this process: decryption, since the private key must not leave it."""
        return self.workers

    @property
    def table_bytes(self) -> int:
        """Memory for the tables of one worker."""
        return int(self.table_mib * 2**20) // self.workers

    def map_unordered(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield function(task) for each task, as results come; at most two tasks a worker are prepared ahead.

        Tasks and results are pickled, so neither may hold a private key. Workers leave Ctrl-C to this process, which stops them.
        """
        if self.workers == 1:
            yield from map(function, tasks)
            return
        parallel = joblib.Parallel(
            n_jobs=self.workers,
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2 * n_jobs",
            max_nbytes=None,  # joblib would write large tasks, that is plain images, to files
            initializer=_ignore_interrupts,
        )
        results = parallel(joblib.delayed(function)(task) for task in tasks)
        with _stopped_workers():
            yield from results


_away_core_s = 0.0


def count_core_seconds(seconds: float) -> None:
    """Add CPU time of workers that are no children of this process, which the operating system therefore does not add up."""
    global _away_core_s
    _away_core_s += seconds


def away_core_seconds() -> float:
    """Return what `count_core_seconds` was told so far."""
    return _away_core_s


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _stopped_workers() -> Iterator[None]:
    """Stop the worker processes in the end: idle, they would keep their tables; after an error, they would finish a useless shard."""
    try:
        yield
    except BaseException:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise
    get_reusable_executor().shutdown(wait=True)
